//! Products of every class of shape, storage and layout against f64, within the bound of any
//! f32 summation: |error| <= 2 (k + 4) eps sum |a| |b| over the inner dimension.

use super::*;

/// A small generator of reproducible values.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    fn below(&mut self, n: usize) -> usize {
        (((self.next() + 1.0) / 2.0) * n as f32) as usize % n
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Storage {
    F32,
    F16,
}

/// Row-major, column-major, and with gaps in both directions.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    Columns,
    Gaps,
}

const LAYOUTS: [Layout; 3] = [Layout::Rows, Layout::Columns, Layout::Gaps];

struct Matrix {
    f32: Vec<f32>,
    f16: Vec<f16>,
    storage: Storage,
    rs: usize,
    cs: usize,
    offset: usize,
}

impl Matrix {
    fn new(r: &mut Random, rows: usize, cols: usize, storage: Storage, layout: Layout) -> Self {
        let (rs, cs, offset) = match layout {
            Layout::Rows => (cols + 3, 1, 1),
            Layout::Columns => (1, rows + 1, 2),
            Layout::Gaps => (2 * cols + 1, 2, 0),
        };
        // Ends with the last element, so that reads past it would leave the storage.
        let len = match (rows, cols) {
            (0, _) | (_, 0) => 0,
            _ => offset + (rows - 1) * rs + (cols - 1) * cs + 1,
        };
        let f16: Vec<f16> = (0..len).map(|_| f16::from_f32(r.next())).collect();
        let f32 = f16.iter().map(|v| if storage == Storage::F16 { v.to_f32() } else { r.next() });
        Self { f32: f32.collect(), f16, storage, rs, cs, offset }
    }

    fn source(&self) -> Source<'_> {
        let (rs, cs, offset) = (self.rs, self.cs, self.offset);
        match self.storage {
            Storage::F32 => Source::F32 { data: &self.f32, rs, cs, offset },
            Storage::F16 => Source::F16 { data: &self.f16, rs, cs, offset },
        }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.f32[self.offset + i * self.rs + j * self.cs].into()
    }
}

/// The exact product and the sum of magnitudes, of element (i, j).
fn reference(a: &Matrix, b: &Matrix, k: usize, i: usize, j: usize) -> (f64, f64) {
    (0..k).fold((0.0, 0.0), |(sum, size), p| {
        let product = a.at(i, p) * b.at(p, j);
        (sum + product, size + product.abs())
    })
}

fn bound(k: usize, size: f64) -> f64 {
    2.0 * (k as f64 + 4.0) * f64::from(f32::EPSILON) * size
}

fn levels() -> Vec<Level> {
    [Level::Avx512, Level::Avx2, Level::Portable]
        .into_iter()
        .filter(|level| level.available())
        .collect()
}

fn run_at(
    level: Level,
    shape: Shape,
    a: Source<'_>,
    b: Source<'_>,
    mut c: Dest<'_>,
    epilogue: Epilogue,
    threads: usize,
) {
    let Shape { m, n, k } = shape;
    let (a, b, c) = (a.view(m, k, 0, "a"), b.view(k, n, 0, "b"), c.out(m, n, 0));
    run(Job { shape, a, b, c, epilogue, level }, threads);
}

/// Indices to compare: all of a small extent, the ends and a sample of a large one.
fn samples(r: &mut Random, n: usize) -> Vec<usize> {
    if n <= 40 {
        return (0..n).collect();
    }
    let ends = [0, 1, n / 2, n - 2, n - 1];
    ends.into_iter().chain((0..12).map(|_| r.below(n))).collect()
}

/// One product with all levels, 1 and 2 threads, against f64 and each other.
fn check(shape: Shape, a: &Matrix, b: &Matrix, epilogue: Epilogue, r: &mut Random) {
    let Shape { m, n, k } = shape;
    let (rs, offset) = (n + 2, 3);
    let initial: Vec<f32> = (0..offset + m * rs).map(|_| r.next()).collect();
    let (is, js) = (samples(r, m), samples(r, n));
    for level in levels() {
        let results = [1, 2].map(|threads| {
            let mut c = initial.clone();
            let to = Dest::F32 { data: &mut c, rs, offset };
            run_at(level, shape, a.source(), b.source(), to, epilogue, threads);
            c
        });
        let bits = |c: &[f32]| c.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&results[0]) == bits(&results[1]), "{shape:?} {level:?}: threads differ");
        let c = &results[0];
        for &i in &is {
            for &j in &js {
                let (mut want, mut size) = reference(a, b, k, i, j);
                want *= f64::from(epilogue.scale);
                size *= f64::from(epilogue.scale.abs());
                let at = offset + i * rs + j;
                if epilogue.accumulate {
                    want += f64::from(initial[at]);
                    size += f64::from(initial[at].abs());
                }
                let got = f64::from(c[at]);
                let allowed = bound(k, size) + 1e-30;
                assert!(
                    (got - want).abs() <= allowed,
                    "{shape:?} {level:?} ({i}, {j}): {got} for {want}, bound {allowed}"
                );
            }
        }
        // Nothing beside the result changed.
        let outside = (0..initial.len()).filter(|&at| at < offset || (at - offset) % rs >= n);
        assert!(outside.into_iter().all(|at| c[at].to_bits() == initial[at].to_bits()));
    }
}

#[test]
fn every_shape_and_layout_matches_f64() {
    let mut r = Random(1);
    let shapes = [
        [1, 1, 1],
        [1, 1, 7],
        [1, 37, 5],
        [1, 300, 64],
        [37, 1, 19],
        [300, 1, 513],
        [2, 3, 4],
        [5, 17, 3],
        [6, 64, 8],
        [7, 65, 33],
        [12, 16, 40],
        [13, 32, 9],
        [30, 24, 30],
        [97, 100, 50],
        [100, 70, 300],
        [96, 257, 260],
        [130, 9, 31],
        [200, 40, 129],
        [64, 64, 32],
        [131, 259, 70],
        [3, 1100, 20],
        [1, 2100, 9],
        [2100, 1, 9],
    ];
    for [m, n, k] in shapes {
        for (x, left) in LAYOUTS.into_iter().enumerate() {
            for (y, right) in LAYOUTS.into_iter().enumerate() {
                let storage = [
                    (Storage::F32, Storage::F32),
                    (Storage::F16, Storage::F16),
                    (Storage::F16, Storage::F32),
                    (Storage::F32, Storage::F16),
                ];
                let (s, t) = storage[r.below(4)];
                let a = Matrix::new(&mut r, m, k, s, left);
                let b = Matrix::new(&mut r, k, n, t, right);
                let epilogue = Epilogue {
                    accumulate: (x + y) % 2 == 1,
                    scale: if x == y { 1.0 } else { -0.5 },
                    round: Round::None,
                };
                check(Shape::new(m, n, k), &a, &b, epilogue, &mut r);
            }
        }
    }
}

#[test]
fn random_shapes_match_f64() {
    let mut r = Random(2);
    for _ in 0..150 {
        let [m, n, k] = [r.below(140) + 1, r.below(140) + 1, r.below(400) + 1];
        let storage = [Storage::F32, Storage::F16];
        let (s, t) = (storage[r.below(2)], storage[r.below(2)]);
        let (left, right) = (LAYOUTS[r.below(3)], LAYOUTS[r.below(3)]);
        let a = Matrix::new(&mut r, m, k, s, left);
        let b = Matrix::new(&mut r, k, n, t, right);
        let epilogue = Epilogue { accumulate: r.below(2) == 0, ..Epilogue::default() };
        check(Shape::new(m, n, k), &a, &b, epilogue, &mut r);
    }
}

#[test]
fn long_inner_dimensions_and_many_columns_match_f64() {
    let mut r = Random(3);
    for [m, n, k] in [[130, 70, 5000], [200, 3000, 700], [100, 1200, 4100], [20, 33, 9000]] {
        let a = Matrix::new(&mut r, m, k, Storage::F16, Layout::Columns);
        let b = Matrix::new(&mut r, k, n, Storage::F32, Layout::Rows);
        for scale in [1.0, 0.25] {
            let epilogue = Epilogue { accumulate: true, scale, round: Round::None };
            check(Shape::new(m, n, k), &a, &b, epilogue, &mut r);
        }
    }
}

#[test]
fn partial_sums_larger_than_their_buffer_match_f64() {
    // More than PARTIAL sums with an inner dimension in several parts: cut along all three.
    let mut r = Random(4);
    let [m, n, k] = [4500, 600, 2400];
    let a = Matrix::new(&mut r, m, k, Storage::F16, Layout::Rows);
    let b = Matrix::new(&mut r, k, n, Storage::F16, Layout::Rows);
    let job_is_cut = m * n > PARTIAL && k > PACKED_K;
    assert!(job_is_cut);
    let epilogue = Epilogue { scale: 0.5, ..Epilogue::default() };
    let mut c = vec![0.0; m * n];
    gemm(Shape::new(m, n, k), a.source(), b.source(), Dest::f32(&mut c, n), epilogue, 2);
    for i in samples(&mut r, m) {
        for j in samples(&mut r, n) {
            let (want, size) = reference(&a, &b, k, i, j);
            let error = (f64::from(c[i * n + j]) - want / 2.0).abs();
            assert!(error <= bound(k, size), "({i}, {j}) is off by {error}");
        }
    }
}

#[test]
fn empty_extents_follow_the_epilogue() {
    let epilogue = Epilogue { accumulate: true, scale: 2.0, round: Round::IEEE };
    for shape in [Shape::new(0, 3, 2), Shape::new(3, 0, 2), Shape::new(0, 0, 0)] {
        let mut c = [1.5f32; 9];
        gemm(
            shape,
            Source::f32(&[1.0; 9], 3),
            Source::f32(&[1.0; 9], 3),
            Dest::f32(&mut c, 3),
            epilogue,
            0,
        );
        assert_eq!(c, [1.5; 9]);
    }
    let none = Shape::new(3, 3, 0);
    let mut c = [1.5f32; 9];
    gemm(none, Source::f32(&[], 3), Source::f32(&[], 3), Dest::f32(&mut c, 3), epilogue, 0);
    assert_eq!(c, [1.5; 9]);
    gemm(
        none,
        Source::f32(&[], 3),
        Source::f32(&[], 3),
        Dest::f32(&mut c, 3),
        Epilogue::default(),
        0,
    );
    assert_eq!(c, [0.0; 9]);
}

#[test]
fn results_are_rounded_once_and_saturate() {
    let mut r = Random(5);
    for [m, n, k] in [[1, 70, 900], [70, 1, 900], [20, 70, 900], [150, 80, 2500], [150, 80, 3000]] {
        let a = Matrix::new(&mut r, m, k, Storage::F16, Layout::Rows);
        let b = Matrix::new(&mut r, k, n, Storage::F16, Layout::Columns);
        let shape = Shape::new(m, n, k);
        // A scale that takes some results past 2^15.
        for (round, scale) in [(Round::IEEE, 1.0), (Round::ENGINE_MAC, 8192.0)] {
            for accumulate in [false, true] {
                let initial: Vec<f16> = (0..m * n).map(|_| f16::from_f32(r.next())).collect();
                let wide: Vec<f32> = initial.iter().map(|v| v.to_f32()).collect();
                let epilogue = Epilogue { accumulate, scale, round };
                let exact = Epilogue { round: Round::None, ..epilogue };
                let (mut sums, mut rounded, mut stored) = (wide.clone(), wide, initial);
                gemm(shape, a.source(), b.source(), Dest::f32(&mut sums, n), exact, 1);
                gemm(shape, a.source(), b.source(), Dest::f32(&mut rounded, n), epilogue, 2);
                gemm(shape, a.source(), b.source(), Dest::f16(&mut stored, n), epilogue, 2);
                let mut infinite = 0;
                for ((sum, rounded), stored) in sums.iter().zip(&rounded).zip(&stored) {
                    let want = simd::round_value(*sum, round);
                    infinite += usize::from(want.is_infinite());
                    // At scale 1 without rounding, sums accumulate in the result itself.
                    if accumulate && scale == 1.0 {
                        let spacing = f16::from_f32(want.abs()).to_bits();
                        let spacing = f16::from_bits(spacing + 1).to_f32() - want.abs();
                        assert!((rounded - want).abs() <= spacing);
                    } else {
                        assert_eq!(*rounded, want);
                    }
                    assert_eq!(stored.to_f32(), *rounded);
                }
                assert_eq!(infinite > 0, scale > 1.0, "{shape:?}: {infinite} infinite");
            }
        }
    }
}

#[test]
fn nan_and_infinity_follow_the_engine() {
    let inf = f32::INFINITY;
    // 0 * inf and NaN inputs give NaN sums, which the engine writes as +inf.
    let a = [0.0, 1.0, -1.0, 1.0, f32::NAN, 0.0];
    let b = [inf, 3.0, 1.0, 2.0];
    let mut c = [0.0f32; 6];
    let epilogue = Epilogue { round: Round::ENGINE_MAC, ..Epilogue::default() };
    gemm(
        Shape::new(3, 2, 2),
        Source::f32(&a, 2),
        Source::f32(&b, 2),
        Dest::f32(&mut c, 2),
        epilogue,
        1,
    );
    assert_eq!(c, [inf, 2.0, -inf, -1.0, inf, inf]);
    let epilogue = Epilogue { round: Round::IEEE, ..Epilogue::default() };
    gemm(
        Shape::new(3, 2, 2),
        Source::f32(&a, 2),
        Source::f32(&b, 2),
        Dest::f32(&mut c, 2),
        epilogue,
        1,
    );
    assert!(c[0].is_nan() && c[4].is_nan());
}

#[test]
fn strides_of_zero_repeat() {
    let (row, column) = ([1.0f32, 2.0, 3.0], [f16::from_f32(2.0), f16::from_f32(5.0), f16::ONE]);
    let a = Source::F32 { data: &row, rs: 0, cs: 1, offset: 0 };
    let b = Source::F16 { data: &column, rs: 1, cs: 0, offset: 0 };
    let mut c = vec![0.0; 100 * 70];
    gemm(Shape::new(100, 70, 3), a, b, Dest::f32(&mut c, 70), Epilogue::default(), 2);
    assert!(c.iter().all(|&v| v == 15.0));
    // One column repeated on the left.
    let column: Vec<f32> = (0..100).map(|i| i as f32).collect();
    let a = Source::F32 { data: &column, rs: 1, cs: 0, offset: 0 };
    gemm(Shape::new(100, 70, 3), a, b, Dest::f32(&mut c, 70), Epilogue::default(), 2);
    assert!(c.iter().enumerate().all(|(at, &v)| v == (at / 70) as f32 * 8.0));
}

/// Heads side by side in the rows of one result, as in attention.
#[test]
fn batches_match_single_products() {
    let mut r = Random(6);
    for [heads, m, n, k] in [[48, 64, 64, 32], [5, 33, 20, 17], [3, 150, 130, 64], [6, 1, 40, 300]]
    {
        let a: Vec<f32> = (0..heads * m * k).map(|_| r.next()).collect();
        let b: Vec<f16> = (0..heads * k * n).map(|_| f16::from_f32(r.next())).collect();
        let width = heads * n;
        let initial: Vec<f32> = (0..m * width).map(|_| r.next()).collect();
        let shape = Shape::new(m, n, k);
        let epilogue = Epilogue { accumulate: true, ..Epilogue::default() };
        let mut want = initial.clone();
        for h in 0..heads {
            let a = Source::F32 { data: &a, rs: heads * k, cs: 1, offset: h * k };
            let b = Source::F16 { data: &b, rs: 1, cs: k, offset: h * k * n };
            let c = Dest::F32 { data: &mut want, rs: width, offset: h * n };
            gemm(shape, a, b, c, epilogue, 1);
        }
        let list: Vec<usize> = (0..heads).map(|h| h * k * n).collect();
        let batch = Batch {
            count: heads,
            a: Offsets::Stride(k),
            b: Offsets::List(&list),
            c: Offsets::Stride(n),
        };
        for threads in [1, 2, 0] {
            let mut got = initial.clone();
            let a = Source::F32 { data: &a, rs: heads * k, cs: 1, offset: 0 };
            let b = Source::F16 { data: &b, rs: 1, cs: k, offset: 0 };
            gemm_batch(shape, batch, a, b, Dest::f32(&mut got, width), epilogue, threads);
            assert_eq!(got, want);
        }
        assert!(are_disjoint(shape, width, 0, batch));
    }
}

#[test]
fn coinciding_results_sum_over_the_batch() {
    let (count, m, n, k) = (40, 16, 32, 64);
    let mut r = Random(7);
    let a: Vec<f32> = (0..count * m * k).map(|_| r.next()).collect();
    let b: Vec<f32> = (0..count * k * n).map(|_| r.next()).collect();
    let shape = Shape::new(m, n, k);
    let stride = Offsets::Stride;
    let batch = Batch { count, a: stride(m * k), b: stride(k * n), c: stride(0) };
    assert!(!are_disjoint(shape, n, 0, batch));
    let epilogue = Epilogue { accumulate: true, ..Epilogue::default() };
    let results = [1, 2].map(|threads| {
        let mut c = vec![0.0; m * n];
        let (a, b) = (Source::f32(&a, k), Source::f32(&b, n));
        gemm_batch(shape, batch, a, b, Dest::f32(&mut c, n), epilogue, threads);
        c
    });
    assert_eq!(results[0], results[1]);
    let (i, j) = (7, 9);
    let terms = || (0..count * k).map(|t| (t / k, t % k));
    let product = |(g, p): (usize, usize)| {
        f64::from(a[g * m * k + i * k + p]) * f64::from(b[g * k * n + p * n + j])
    };
    let want: f64 = terms().map(product).sum();
    let size: f64 = terms().map(|t| product(t).abs()).sum();
    assert!((f64::from(results[0][i * n + j]) - want).abs() <= bound(count * k, size));
}

#[test]
fn overlapping_batches_are_recognised() {
    let batch = |list| Batch {
        count: 3,
        a: Offsets::Stride(0),
        b: Offsets::Stride(0),
        c: Offsets::List(list),
    };
    let shape = Shape::new(4, 8, 1);
    assert!(are_disjoint(shape, 8, 0, batch(&[0, 32, 64])));
    assert!(!are_disjoint(shape, 8, 0, batch(&[0, 31, 64])));
    assert!(are_disjoint(shape, 24, 0, batch(&[0, 8, 16])));
    assert!(!are_disjoint(shape, 24, 0, batch(&[0, 7, 16])));
    assert!(!are_disjoint(shape, 24, 4, batch(&[0, 8, 16])), "the last wraps around");
    assert!(are_disjoint(shape, 24, 0, batch(&[0, 16, 96])));
    assert!(!are_disjoint(shape, 24, 0, batch(&[0, 16, 72])));
}

#[test]
#[should_panic(expected = "operand b [4, 4]")]
fn an_operand_that_is_too_short_is_refused() {
    let (a, b) = ([0.0f32; 16], [0.0f32; 15]);
    gemm(
        Shape::new(4, 4, 4),
        Source::f32(&a, 4),
        Source::f32(&b, 4),
        Dest::f32(&mut [0.0; 16], 4),
        Epilogue::default(),
        1,
    );
}
