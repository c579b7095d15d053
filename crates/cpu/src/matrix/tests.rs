//! Packed products against f64 sums over the rounded weights.

use super::*;

const LEVELS: [Level; 4] = [Level::Avx512, Level::Avx2, Level::Neon, Level::Portable];

/// All kernels of this machine, not only those that it prefers.
fn kernels() -> impl Iterator<Item = (String, Kernels)> {
    LEVELS.into_iter().filter(|level| level.available()).flat_map(|level| {
        let floats = kernel::Kernels::new(level);
        let codes = int8::Kernels::of(level).into_iter().enumerate().filter(|(_, (has, _))| *has);
        codes.map(move |(i, (_, set))| {
            (format!("{level}, {i}"), Kernels { floats, codes: int8::Kernels(set) })
        })
    })
}

/// Numbers of both signs and several magnitudes, the same for every machine.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let unit = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
        unit * [1.0, 0.1, 3.0][(state >> 3) as usize % 3]
    };
    (0..count).map(|_| next()).collect()
}

/// W·X with X [k, T] at strides (T, 1), and the result [rows, T] added to 1. Without addition it is the same, also
/// column after column.
fn product(kernels: Kernels, matrix: &Matrix, x: &[f32], count: usize) -> Vec<f32> {
    let rows = matrix.rows();
    let [sum, plain, turned] =
        [(count, 1, true), (count, 1, false), (1, rows, false)].map(|(row, column, accumulate)| {
            let mut y = vec![1.0; rows * count];
            let x = Columns { data: x, count, row: count, column: 1 };
            multiply_by(kernels, matrix, x, Target { data: &mut y, row, column, accumulate });
            y
        });
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    for (i, (&sum, &plain)) in sum.iter().zip(&plain).enumerate() {
        assert!(same(sum, 1.0 + plain), "x {count}: {i}");
        assert!(same(plain, turned[i % count * rows + i / count]), "x {count}: {i}");
    }
    sum
}

const SHAPES: [[usize; 2]; 6] = [[1, 1], [31, 5], [32, 32], [33, 40], [70, 173], [96, 1100]];
/// Every number of columns that kernels take at once, and columns that are left over.
const COUNTS: [usize; 8] = [1, 2, 3, 7, 8, 16, 21, 47];

/// A sum of k terms, each rounded at most k times and once more at the end, is off by at most
/// (k + 2)·2^−24·Σ|w·x| to first order; products without fused instructions round once more.
#[test]
fn products_are_those_of_the_rounded_weights() {
    for (format, [rows, k]) in
        [WeightFormat::F32, WeightFormat::F16].iter().flat_map(|f| SHAPES.map(|shape| (*f, shape)))
    {
        let matrix = Matrix::new(format, rows, &numbers(rows * k, 1));
        assert_eq!((matrix.rows(), matrix.columns(), matrix.format()), (rows, k, format));
        for count in COUNTS {
            let x = numbers(k * count, 2);
            for (name, kernels) in kernels() {
                let y = product(kernels, &matrix, &x, count);
                for (row, t) in (0..rows).flat_map(|row| (0..count).map(move |t| (row, t))) {
                    let terms =
                        (0..k).map(|i| f64::from(matrix.get(row, i)) * f64::from(x[i * count + t]));
                    let (sum, size) = terms
                        .fold((0.0, 0.0), |(sum, size), term: f64| (sum + term, size + term.abs()));
                    let bound = (k as f64 + 3.0) * 2f64.powi(-24) * (size + 1.0);
                    let got = f64::from(y[row * count + t]);
                    assert!(
                        (got - 1.0 - sum).abs() <= bound,
                        "{format:?} [{rows}, {k}] x {count}, {name}: ({row}, {t}) {got} {sum}"
                    );
                }
            }
        }
    }
}

/// Of binary16 the nearest; of int8 within half a step of 1/127 of the group's largest magnitude, plus
/// what rounding the scale to binary16 moves 127 steps.
#[test]
fn weights_are_rounded_as_their_format_says() {
    let (rows, k) = (35, 77);
    let values = numbers(rows * k, 3);
    let [exact, half, int8] = WeightFormat::ALL.map(|format| Matrix::new(format, rows, &values));
    for (row, i) in (0..rows).flat_map(|row| (0..k).map(move |i| (row, i))) {
        let value = values[row * k + i];
        assert_eq!(exact.get(row, i), value);
        assert_eq!(half.get(row, i), f16::from_f32(value).to_f32());
        let group = &values[row * k + i / GROUP * GROUP..row * k + k.min((i / GROUP + 1) * GROUP)];
        let largest = group.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
        let bound = largest * (0.5 / 127.0 + 2f32.powi(-11)) * 1.0001;
        assert!((int8.get(row, i) - value).abs() <= bound, "({row}, {i})");
    }
    let zeros = Matrix::new(WeightFormat::Int8, 2, &[0.0; 64]);
    assert_eq!((zeros.get(1, 31), zeros.get(0, 0)), (0.0, 0.0));
}

/// The blocks of the gguf package's `Q8_0.quantize_blocks` for i²/100 − 2, i below 32.
#[test]
fn int8_is_q8_0() {
    let values: Vec<f32> = (0..32).map(|i| (i * i) as f32 / 100.0 - 2.0).collect();
    let Panels::Int8 { codes, scales } = Matrix::new(WeightFormat::Int8, 1, &values).panels else {
        unreachable!("asked for");
    };
    let largest = 9.61f32 - 2.0;
    assert_eq!(scales.elements::<f16>()[0], f16::from_f32(largest / 127.0));
    let want = values.iter().map(|v| (v * (1.0 / (largest / 127.0))).round() as i8);
    let codes: Vec<i8> = (0..32).map(|k| codes.elements::<i8>()[place_of_code(0, k)]).collect();
    assert_eq!(codes, want.collect::<Vec<i8>>());
    assert_eq!((codes[0], codes[31]), (-33, 127));
}

/// What the module says of int8, one element at a time: weights as GGUF rounds them, columns to the nearest even.
fn law(weights: &[f32], column: &[f32]) -> f32 {
    weights.chunks(GROUP).zip(column.chunks(GROUP)).fold(0.0, |sum, (weights, column)| {
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let (scale_w, scale_x) = (largest(weights) / 127.0, largest(column) / 127.0);
        let code_w = |w: f32| if scale_w > 0.0 { (w * (1.0 / scale_w)).round() as i32 } else { 0 };
        let code_x = |x: f32| {
            let normal = scale_x >= f32::MIN_POSITIVE;
            if normal { (x * (127.0 / largest(column))).round_ties_even() as i32 } else { 0 }
        };
        let products = weights.iter().zip(column).map(|(&w, &x)| code_w(w) * code_x(x));
        let scale = f16::from_f32(scale_w).to_f32() * scale_x;
        (products.sum::<i32>() as f32).mul_add(scale, sum)
    })
}

/// Every kernel gives the bits of the law.
#[test]
fn int8_has_one_law_on_all_machines() {
    for [rows, k] in SHAPES {
        let weights = numbers(rows * k, 6);
        let matrix = Matrix::new(WeightFormat::Int8, rows, &weights);
        assert_eq!((matrix.rows(), matrix.columns()), (rows, k));
        for count in COUNTS {
            let x = numbers(k * count, 7);
            let want: Vec<u32> = (0..rows * count)
                .map(|i| {
                    let (row, t) = (&weights[i / count * k..][..k], i % count);
                    let column: Vec<f32> = (0..k).map(|i| x[i * count + t]).collect();
                    (1.0 + law(row, &column)).to_bits()
                })
                .collect();
            for (name, kernels) in kernels() {
                let y = product(kernels, &matrix, &x, count);
                let bits: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
                assert!(bits == want, "[{rows}, {k}] x {count}, {name}");
            }
        }
    }
}

/// Codes of ±127 throughout, whose pairs fill 16 bits, and columns of zeros, of the smallest numbers, and with
/// elements that are none.
#[test]
fn int8_bears_extremes() {
    let (rows, k) = (32, 64);
    let signs = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let weights: Vec<f32> = (0..rows * k).map(|i| 1.27 * signs(i / k)).collect();
    let matrix = Matrix::new(WeightFormat::Int8, rows, &weights);
    let (bad, tiny) = (f32::NAN, f32::MIN_POSITIVE);
    let columns =
        [[3.81, 3.81], [-3.81, 3.81], [0.0, 0.0], [tiny, -tiny], [bad, 1.0], [1.0, -1.0 / 0.0]];
    let x: Vec<f32> = (0..k).flat_map(|i| columns.map(|pair| pair[i % 2])).collect();
    for (name, kernels) in kernels() {
        let y = product(kernels, &matrix, &x, columns.len());
        for row in 0..rows {
            let y = &y[row * columns.len()..][..columns.len()];
            let want = law(&weights[row * k..][..k], &[3.81; 64]);
            assert!((want - signs(row) * 64.0 * 1.27 * 3.81).abs() < 0.1);
            assert_eq!(y[..4], [1.0 + want, 1.0, 1.0, 1.0], "{name}");
            assert!(y[4].is_nan() && y[5].is_nan(), "{name}");
        }
    }
}

/// A weight is off by at most half a step of 1/127 of its group's largest magnitude, and what rounding the scale to
/// binary16 moves 127 steps; an element of a column by half a step. Sums of groups are exact; a group's is
/// rounded by its scale, its multiply-add, and those that follow.
#[test]
fn int8_is_near_the_exact_product() {
    let bound_of = |values: &[f32], scale: f64| -> Vec<f64> {
        let largest = |group: &[f32]| group.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let off = |group: &[f32]| {
            vec![f64::from(largest(group)) * (0.5 / 127.0 + scale) * 1.0001; group.len()]
        };
        values.chunks(GROUP).flat_map(off).collect()
    };
    for [rows, k] in SHAPES {
        let (weights, x) = (numbers(rows * k, 8), numbers(k, 9));
        let matrix = Matrix::new(WeightFormat::Int8, rows, &weights);
        let y = product(kernels().next().expect("one").1, &matrix, &x, 1);
        let off_x = bound_of(&x, 0.0);
        for (row, y) in weights.chunks(k).zip(y) {
            let (mut exact, mut bound) = (0.0, 2f64.powi(-23));
            for ((w, off_w), (x, off_x)) in
                row.iter().zip(bound_of(row, 2f64.powi(-11))).zip(x.iter().zip(&off_x))
            {
                let (w, x) = (f64::from(*w), f64::from(*x));
                exact += w * x;
                bound += off_w * x.abs() + w.abs() * off_x + off_w * off_x;
                bound += (k.div_ceil(GROUP) + 3) as f64
                    * 2f64.powi(-24)
                    * (w.abs() + off_w)
                    * (x.abs() + off_x);
            }
            assert!(
                (f64::from(y) - 1.0 - exact).abs() <= bound,
                "[{rows}, {k}]: {y} {exact} {bound}"
            );
        }
    }
}

/// The same bits alone, among others, transposed, and on any number of threads.
#[test]
fn a_column_does_not_depend_on_its_neighbours() {
    let (rows, k, count) = (1500, 700, 2 * PACKED + 25);
    let x = numbers(k * count, 5);
    for format in WeightFormat::ALL {
        let matrix = Matrix::new(format, rows, &numbers(rows * k, 4));
        for (name, kernels) in kernels() {
            let all = product(kernels, &matrix, &x, count);
            let column = |t: usize| -> Vec<u32> {
                all.iter().skip(t).step_by(count).map(|y| y.to_bits()).collect()
            };
            for t in [0, 11, PACKED - 1, PACKED, count - 1] {
                let alone: Vec<f32> = x.iter().skip(t).step_by(count).copied().collect();
                let alone = product(kernels, &matrix, &alone, 1);
                let bits: Vec<u32> = alone.iter().map(|y| y.to_bits()).collect();
                assert_eq!(bits, column(t), "{format:?} {name} column {t}");
            }
            let mut turned = vec![1.0; rows * count];
            let to = Target { data: &mut turned, row: 1, column: rows, accumulate: true };
            let columns = Columns { data: &x, count, row: count, column: 1 };
            multiply_by(kernels, &matrix, columns, to);
            assert!((0..rows * count).all(|i| turned[i] == all[i % rows * count + i / rows]));
            let by_column: Vec<f32> = (0..k * count).map(|i| x[i % k * count + i / k]).collect();
            let mut y = vec![1.0; rows * count];
            let to = Target { data: &mut y, row: count, column: 1, accumulate: true };
            let columns = Columns { data: &by_column, count, row: 1, column: k };
            multiply_by(kernels, &matrix, columns, to);
            assert!(y == all, "{format:?} {name}: columns one after the other");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
            assert!(pool.install(|| product(kernels, &matrix, &x, count)) == all);
        }
    }
}

#[test]
#[should_panic(expected = "within its slices")]
fn columns_must_exist() {
    let matrix = Matrix::new(WeightFormat::F32, 3, &[0.0; 6]);
    let to = Target { data: &mut [0.0; 6], row: 2, column: 1, accumulate: false };
    multiply(&matrix, Columns { data: &[0.0; 3], count: 2, row: 2, column: 1 }, to);
}

#[test]
#[should_panic(expected = "places of their own")]
fn results_must_not_overlap() {
    let matrix = Matrix::new(WeightFormat::F32, 3, &[0.0; 6]);
    let to = Target { data: &mut [0.0; 6], row: 1, column: 1, accumulate: false };
    multiply(&matrix, Columns { data: &[0.0; 4], count: 2, row: 2, column: 1 }, to);
}
