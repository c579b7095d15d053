//! Packed products against f64 sums over the rounded weights.

use super::*;

const LEVELS: [Level; 4] = [Level::Avx512, Level::Avx2, Level::Neon, Level::Portable];

fn levels() -> impl Iterator<Item = Level> {
    LEVELS.into_iter().filter(|level| level.available())
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

/// W·X with X [k, T] at strides (T, 1), and the result [rows, T] added to 1. Without addition it is the same.
fn product(level: Level, matrix: &Matrix, x: &[f32], count: usize) -> Vec<f32> {
    let [sum, plain] = [true, false].map(|accumulate| {
        let mut y = vec![1.0; matrix.rows() * count];
        let x = Columns { data: x, count, row: count, column: 1 };
        multiply_at(level, matrix, x, Target { data: &mut y, row: count, column: 1, accumulate });
        y
    });
    assert!(sum.iter().zip(plain).all(|(sum, plain)| *sum == 1.0 + plain), "{level}: x {count}");
    sum
}

const SHAPES: [[usize; 2]; 6] = [[1, 1], [31, 5], [32, 32], [33, 40], [70, 173], [96, 1100]];

/// A sum of k terms, each rounded at most k times and once more at the end, is off by at most
/// (k + 2)·2^−24·Σ|w·x| to first order; products without fused instructions round once more. In groups of 32,
/// a term is rounded at most 32 times, once by its scale, and once for each group: k + 1 times at most.
#[test]
fn products_are_those_of_the_rounded_weights() {
    for (format, [rows, k]) in
        WeightFormat::ALL.into_iter().flat_map(|format| SHAPES.map(|shape| (format, shape)))
    {
        let matrix = Matrix::new(format, rows, &numbers(rows * k, 1));
        assert_eq!((matrix.rows(), matrix.columns(), matrix.format()), (rows, k, format));
        for count in [1, 2, 3, 7, 8, 16, 21] {
            let x = numbers(k * count, 2);
            for level in levels() {
                let y = product(level, &matrix, &x, count);
                for (row, t) in (0..rows).flat_map(|row| (0..count).map(move |t| (row, t))) {
                    let terms =
                        (0..k).map(|i| f64::from(matrix.get(row, i)) * f64::from(x[i * count + t]));
                    let (sum, size) = terms
                        .fold((0.0, 0.0), |(sum, size), term: f64| (sum + term, size + term.abs()));
                    let bound = (k as f64 + 3.0) * 2f64.powi(-24) * (size + 1.0);
                    let got = f64::from(y[row * count + t]);
                    assert!(
                        (got - 1.0 - sum).abs() <= bound,
                        "{format:?} [{rows}, {k}] x {count}, {level}: ({row}, {t}) {got} {sum}"
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
    let codes: Vec<i8> = codes.elements::<i8>().iter().step_by(PANEL).copied().collect();
    assert_eq!(codes, want.collect::<Vec<i8>>());
    assert_eq!((codes[0], codes[31]), (-33, 127));
}

/// The same bits alone, among others, transposed, and on any number of threads.
#[test]
fn a_column_does_not_depend_on_its_neighbours() {
    let (rows, k, count) = (1500, 700, 2 * PACKED + 25);
    let x = numbers(k * count, 5);
    for format in WeightFormat::ALL {
        let matrix = Matrix::new(format, rows, &numbers(rows * k, 4));
        for level in levels() {
            let all = product(level, &matrix, &x, count);
            let column = |t: usize| -> Vec<u32> {
                all.iter().skip(t).step_by(count).map(|y| y.to_bits()).collect()
            };
            for t in [0, 11, PACKED - 1, PACKED, count - 1] {
                let alone: Vec<f32> = x.iter().skip(t).step_by(count).copied().collect();
                let alone = product(level, &matrix, &alone, 1);
                let bits: Vec<u32> = alone.iter().map(|y| y.to_bits()).collect();
                assert_eq!(bits, column(t), "{format:?} {level} column {t}");
            }
            let mut turned = vec![1.0; rows * count];
            let to = Target { data: &mut turned, row: 1, column: rows, accumulate: true };
            let columns = Columns { data: &x, count, row: count, column: 1 };
            multiply_at(level, &matrix, columns, to);
            assert!((0..rows * count).all(|i| turned[i] == all[i % rows * count + i / rows]));
            let by_column: Vec<f32> = (0..k * count).map(|i| x[i % k * count + i / k]).collect();
            let mut y = vec![1.0; rows * count];
            let to = Target { data: &mut y, row: count, column: 1, accumulate: true };
            let columns = Columns { data: &by_column, count, row: 1, column: k };
            multiply_at(level, &matrix, columns, to);
            assert!(y == all, "{format:?} {level}: columns one after the other");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
            assert!(pool.install(|| product(level, &matrix, &x, count)) == all);
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
