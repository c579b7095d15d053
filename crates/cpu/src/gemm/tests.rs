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

    fn operand(&self) -> Operand<'_> {
        let data = match self.storage {
            Storage::F32 => Elements::F32(&self.f32),
            Storage::F16 => Elements::F16(&self.f16),
        };
        Operand { data, rs: self.rs, cs: self.cs }
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
    [Level::Avx512, Level::Avx2, Level::Neon, Level::Portable]
        .into_iter()
        .filter(|level| level.available())
        .collect()
}

/// A product of dense rows.
fn rows(m: usize, n: usize, k: usize) -> Shape {
    Shape { m, n, k, rs_c: n, cs_c: 1 }
}

/// A dense operand of `cols` columns.
fn dense(data: &[f32], cols: usize) -> Operand<'_> {
    Operand { data: Elements::F32(data), rs: cols, cs: 1 }
}

fn f32_output(data: &mut [f32], accumulate: bool) -> Output<'_> {
    Output::F32 { data, accumulate }
}

/// Runs `f` on a pool of so many threads.
fn on<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn bits(c: &[f32]) -> Vec<u32> {
    c.iter().map(|v| v.to_bits()).collect()
}

/// Indices to compare: all of a small extent, the ends and a sample of a large one.
fn samples(r: &mut Random, n: usize) -> Vec<usize> {
    if n <= 40 {
        return (0..n).collect();
    }
    let ends = [0, 1, n / 2, n - 2, n - 1];
    ends.into_iter().chain((0..12).map(|_| r.below(n))).collect()
}

/// One product with all levels, 1 and 2 threads, C by rows and by columns, against f64 and each
/// other.
fn check(m: usize, n: usize, k: usize, a: &Matrix, b: &Matrix, accumulate: bool, r: &mut Random) {
    let shape = Extents::new(m, n, k);
    let (rs, offset) = (n + 2, 3);
    let initial: Vec<f32> = (0..offset + m * rs).map(|_| r.next()).collect();
    let (is, js) = (samples(r, m), samples(r, n));
    for level in levels() {
        let results = [1, 2].map(|threads| {
            let mut c = initial.clone();
            let at = [Offsets { a: a.offset, b: b.offset, c: offset }];
            let to = f32_output(&mut c, accumulate);
            let items = Items::new(shape, a.operand(), b.operand(), &at, false, to, rs, None);
            run(Job { level, ..items.job(0) }, threads);
            c
        });
        assert!(bits(&results[0]) == bits(&results[1]), "{shape:?} {level:?}: threads differ");
        let c = &results[0];
        for &i in &is {
            for &j in &js {
                let (mut want, mut size) = reference(a, b, k, i, j);
                let at = offset + i * rs + j;
                if accumulate {
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
    by_columns(m, n, k, a, b, accumulate, r);
}

/// A result stored by columns is the transpose of one by rows within the same bound.
fn by_columns(
    m: usize,
    n: usize,
    k: usize,
    a: &Matrix,
    b: &Matrix,
    accumulate: bool,
    r: &mut Random,
) {
    let (cs, offset) = (m + 1, 2);
    let initial: Vec<f32> = (0..offset + n * cs).map(|_| r.next()).collect();
    let mut c = initial.clone();
    let shape = Shape { m, n, k, rs_c: 1, cs_c: cs };
    let at = [Offsets { a: a.offset, b: b.offset, c: offset }];
    gemm(shape, a.operand(), b.operand(), &at, f32_output(&mut c, accumulate), None);
    for i in samples(r, m) {
        for j in samples(r, n) {
            let (want, size) = reference(a, b, k, i, j);
            let at = offset + i + j * cs;
            let old = if accumulate { f64::from(initial[at]) } else { 0.0 };
            let error = (f64::from(c[at]) - want - old).abs();
            assert!(error <= bound(k, size + old.abs()) + 1e-30, "{shape:?} ({i}, {j}): {error}");
        }
    }
    let outside = (0..initial.len()).filter(|&at| at < offset || (at - offset) % cs >= m);
    assert!(outside.into_iter().all(|at| c[at].to_bits() == initial[at].to_bits()));
}

/// X·Xᵀ and its square, and Xᵀ·X: bit for bit what the whole products are.
#[test]
fn symmetric_products_have_the_bits_of_whole_ones() {
    let mut r = Random(7);
    for [n, k] in [[1, 1], [3, 0], [5, 7], [33, 300], [97, 64], [200, 16], [230, 520]] {
        let x: Vec<f32> = (0..n * k).map(|_| r.next()).collect();
        let rows = dense(&x, k);
        let columns = Operand { rs: 1, cs: n, ..rows };
        for (a, b) in [(rows, rows.transposed()), (columns, columns.transposed())] {
            let gram = whole(n, k, a, b);
            let square = whole(n, n, dense(&gram, n), dense(&gram, n));
            for threads in [1, 2, 3] {
                let mut c = vec![f32::NAN; n * n + 1];
                on(threads, || symmetric(n, k, a, b, &mut c));
                assert!(bits(&c[..n * n]) == bits(&gram), "{n} {k} {threads}");
                on(threads, || symmetric(n, n, dense(&gram, n), dense(&gram, n), &mut c));
                assert!(bits(&c[..n * n]) == bits(&square), "{n} {k} {threads}, squared");
                assert!(c[n * n].is_nan(), "beyond the result");
            }
        }
    }
}

fn whole(n: usize, k: usize, a: Operand<'_>, b: Operand<'_>) -> Vec<f32> {
    let mut c = vec![0.0; n * n];
    let shape = Shape { m: n, n, k, rs_c: n, cs_c: 1 };
    gemm(shape, a, b, &[Offsets::default()], f32_output(&mut c, false), None);
    c
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
                check(m, n, k, &a, &b, (x + y) % 2 == 1, &mut r);
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
        let accumulate = r.below(2) == 0;
        check(m, n, k, &a, &b, accumulate, &mut r);
    }
}

#[test]
fn long_inner_dimensions_and_many_columns_match_f64() {
    let mut r = Random(3);
    for [m, n, k] in [[130, 70, 5000], [200, 3000, 700], [100, 1200, 4100], [20, 33, 9000]] {
        let a = Matrix::new(&mut r, m, k, Storage::F16, Layout::Columns);
        let b = Matrix::new(&mut r, k, n, Storage::F32, Layout::Rows);
        check(m, n, k, &a, &b, true, &mut r);
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
    // Rounded, so that sums cannot be kept in the result.
    let mut c = vec![0.0; m * n];
    let at = [Offsets { a: a.offset, b: b.offset, c: 0 }];
    let to = f32_output(&mut c, false);
    gemm(rows(m, n, k), a.operand(), b.operand(), &at, to, Some(Round::IEEE));
    for i in samples(&mut r, m) {
        for j in samples(&mut r, n) {
            let (want, size) = reference(&a, &b, k, i, j);
            let error = (f64::from(c[i * n + j]) - want).abs();
            let grid = 2f64.powi(-11) * want.abs() + 2f64.powi(-25);
            assert!(error <= bound(k, size) + grid, "({i}, {j}) is off by {error}");
        }
    }
}

#[test]
fn empty_extents_give_zeros_or_nothing() {
    let x = [1.0f32; 9];
    for (m, n, k) in [(0, 3, 2), (3, 0, 2), (0, 0, 0)] {
        let mut c = [1.5f32; 9];
        let to = f32_output(&mut c, false);
        gemm(rows(m, n, k), dense(&x, 3), dense(&x, 3), &[Offsets::default()], to, None);
        assert_eq!(c, [1.5; 9]);
    }
    for (accumulate, want) in [(true, 1.5), (false, 0.0)] {
        let mut c = [1.5f32; 12];
        let to = f32_output(&mut c, accumulate);
        let none = dense(&[], 3);
        gemm(rows(3, 4, 0), none, none, &[Offsets::default()], to, Some(Round::PRODUCT));
        assert_eq!(c, [want; 12]);
    }
    let mut c = [1.5f32; 9];
    gemm(rows(3, 3, 3), dense(&x, 3), dense(&x, 3), &[], f32_output(&mut c, false), None);
    assert_eq!(c, [1.5; 9], "an empty batch");
}

#[test]
fn results_are_rounded_once_before_they_are_added() {
    let mut r = Random(5);
    for [m, n, k] in [[1, 70, 900], [70, 1, 900], [20, 70, 900], [150, 80, 2500], [150, 80, 3000]] {
        let mut a = Matrix::new(&mut r, m, k, Storage::F16, Layout::Rows);
        let b = Matrix::new(&mut r, k, n, Storage::F16, Layout::Columns);
        // A scale that takes some results past 2^15.
        for (round, scale) in [(Round::IEEE, 1.0), (Round::PRODUCT, 8192.0)] {
            a.f16.iter_mut().for_each(|v| *v = f16::from_f32(v.to_f32() * scale));
            let at = [Offsets { a: a.offset, b: b.offset, c: 0 }];
            let product = |to: Output<'_>, round| {
                gemm(rows(m, n, k), a.operand(), b.operand(), &at, to, round);
            };
            let initial: Vec<f32> = (0..m * n).map(|_| r.next()).collect();
            let (mut sums, mut rounded, mut added) = (initial.clone(), initial.clone(), initial);
            let (initial, mut stored) = (added.clone(), vec![f16::ZERO; m * n]);
            product(f32_output(&mut sums, false), None);
            product(f32_output(&mut rounded, false), Some(round));
            product(f32_output(&mut added, true), Some(round));
            product(Output::F16(&mut stored), Some(round));
            let mut want = sums.clone();
            simd::round_f16(&mut want, round);
            assert_eq!(rounded, want);
            assert_eq!(stored.iter().map(|v| v.to_f32()).collect::<Vec<_>>(), want);
            let infinite = want.iter().filter(|v| v.is_infinite()).count();
            assert_eq!(infinite > 0, scale > 1.0, "{m}x{n}x{k}: {infinite} infinite");
            want.iter_mut().zip(&initial).for_each(|(v, old)| *v += old);
            assert_eq!(added, want);
            if round == Round::IEEE {
                product(Output::F16(&mut stored), None);
                assert_eq!(stored.iter().map(|v| v.to_f32()).collect::<Vec<_>>(), rounded);
            }
        }
    }
}

#[test]
fn sums_saturate_at_two_to_the_fifteenth() {
    let a = vec![f16::from_f32(32.0); 64 * 40];
    let operand = |rs| Operand { data: Elements::F16(&a), rs, cs: 1 };
    let mut c = vec![f16::ZERO; 64 * 3];
    for (k, want) in [(32, f32::INFINITY), (31, 31_744.0)] {
        let to = Output::F16(&mut c);
        let round = Some(Round::PRODUCT);
        gemm(rows(64, 3, k), operand(40), operand(3), &[Offsets::default()], to, round);
        assert!(c.iter().all(|x| x.to_f32() == want), "32·32·{k}");
    }
}

#[test]
fn nan_and_infinity_follow_the_engine() {
    let inf = f32::INFINITY;
    // 0 * inf and NaN inputs give NaN sums, which the engine writes as +inf.
    let a = [0.0, 1.0, -1.0, 1.0, f32::NAN, 0.0];
    let b = [inf, 3.0, 1.0, 2.0];
    let mut c = [0.0f32; 6];
    let mut product = |round| {
        let to = f32_output(&mut c, false);
        gemm(rows(3, 2, 2), dense(&a, 2), dense(&b, 2), &[Offsets::default()], to, Some(round));
        c
    };
    assert_eq!(product(Round::PRODUCT), [inf, 2.0, -inf, -1.0, inf, inf]);
    let c = product(Round::IEEE);
    assert!(c[0].is_nan() && c[4].is_nan());
}

#[test]
fn strides_of_zero_repeat() {
    let (row, column) = ([1.0f32, 2.0, 3.0], [f16::from_f32(2.0), f16::from_f32(5.0), f16::ONE]);
    let a = Operand { data: Elements::F32(&row), rs: 0, cs: 1 };
    let b = Operand { data: Elements::F16(&column), rs: 1, cs: 0 };
    let mut c = vec![0.0; 100 * 70];
    let at = [Offsets::default()];
    gemm(rows(100, 70, 3), a, b, &at, f32_output(&mut c, false), None);
    assert!(c.iter().all(|&v| v == 15.0));
    // One column repeated on the left.
    let column: Vec<f32> = (0..100).map(|i| i as f32).collect();
    let a = Operand { data: Elements::F32(&column), rs: 1, cs: 0 };
    gemm(rows(100, 70, 3), a, b, &at, f32_output(&mut c, false), None);
    assert!(c.iter().enumerate().all(|(at, &v)| v == (at / 70) as f32 * 8.0));
}

/// Heads side by side in the rows of one result, as in attention, and its transpose.
#[test]
fn batches_match_single_products() {
    let mut r = Random(6);
    for [heads, m, n, k] in [[48, 64, 64, 32], [5, 33, 20, 17], [3, 150, 130, 64], [6, 1, 40, 300]]
    {
        let a: Vec<f32> = (0..heads * m * k).map(|_| r.next()).collect();
        let b: Vec<f16> = (0..heads * k * n).map(|_| f16::from_f32(r.next())).collect();
        let a = Operand { data: Elements::F32(&a), rs: heads * k, cs: 1 };
        let b = Operand { data: Elements::F16(&b), rs: 1, cs: k };
        let width = heads * n;
        let initial: Vec<f32> = (0..m * width).map(|_| r.next()).collect();
        let by_rows = Shape { m, n, k, rs_c: width, cs_c: 1 };
        let by_columns = Shape { m: n, n: m, k, rs_c: 1, cs_c: width };
        let at: Vec<_> = (0..heads).map(|h| Offsets { a: h * k, b: h * k * n, c: h * n }).collect();
        assert!(are_disjoint(Extents::new(m, n, k), width, &at));
        let mut want = initial.clone();
        for o in &at {
            let one = std::slice::from_ref(o);
            on(1, || gemm(by_rows, a, b, one, f32_output(&mut want, true), None));
        }
        let swapped: Vec<_> = at.iter().map(|o| Offsets { a: o.b, b: o.a, c: o.c }).collect();
        for threads in [1, 2, 3] {
            let (mut got, mut flipped) = (initial.clone(), initial.clone());
            on(threads, || {
                gemm(by_rows, a, b, &at, f32_output(&mut got, true), None);
                let (a, b) = (b.transposed(), a.transposed());
                gemm(by_columns, a, b, &swapped, f32_output(&mut flipped, true), None);
            });
            assert!(bits(&got) == bits(&want) && bits(&flipped) == bits(&want));
        }
    }
}

#[test]
fn coinciding_results_sum_over_the_batch() {
    let (count, m, n, k) = (40, 16, 32, 64);
    let mut r = Random(7);
    let a: Vec<f32> = (0..count * m * k).map(|_| r.next()).collect();
    let b: Vec<f32> = (0..count * k * n).map(|_| r.next()).collect();
    let at: Vec<_> = (0..count).map(|g| Offsets { a: g * m * k, b: g * k * n, c: 0 }).collect();
    assert!(!are_disjoint(Extents::new(m, n, k), n, &at));
    let results = [1, 2].map(|threads| {
        let mut c = vec![0.0; m * n];
        on(threads, || {
            let to = f32_output(&mut c, true);
            gemm(rows(m, n, k), dense(&a, k), dense(&b, n), &at, to, None);
        });
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
    let disjoint = |m, n, rs, at: &[usize]| {
        let at: Vec<_> = at.iter().map(|&c| Offsets { a: 0, b: 0, c }).collect();
        are_disjoint(Extents::new(m, n, 1), rs, &at)
    };
    assert!(disjoint(4, 8, 8, &[0, 32, 64]));
    assert!(!disjoint(4, 8, 8, &[0, 31, 64]));
    assert!(disjoint(4, 8, 24, &[0, 8, 16]));
    assert!(!disjoint(4, 8, 24, &[0, 7, 16]));
    assert!(!disjoint(4, 8, 24, &[4, 12, 20]), "the last wraps around");
    assert!(disjoint(4, 8, 24, &[0, 16, 96]));
    assert!(!disjoint(4, 8, 24, &[0, 16, 72]));
    assert!(disjoint(3, 4, 10, &[0, 4, 30, 100]), "side by side in the same rows, and below");
    for other in [0, 3, 7, 13, 17, 23] {
        assert!(!disjoint(3, 4, 10, &[50, 50 + other]), "{other}");
        assert!(!disjoint(3, 4, 10, &[50 + other, 50]), "{other}");
    }
    assert!(disjoint(1, 8, 0, &[0, 8, 30]) && !disjoint(1, 8, 0, &[0, 7]));
}

/// Products that begin while their thread waits inside another product.
#[test]
fn products_nest() {
    let (m, n, k) = (130, 90, 300);
    let mut r = Random(8);
    let a: Vec<f32> = (0..m * k).map(|_| r.next()).collect();
    let b: Vec<f32> = (0..k * n).map(|_| r.next()).collect();
    let product = || {
        let mut c = vec![0.0; m * n];
        let to = f32_output(&mut c, false);
        gemm(rows(m, n, k), dense(&a, k), dense(&b, n), &[Offsets::default()], to, None);
        bits(&c)
    };
    let want = product();
    let nested = on(2, || {
        rayon::scope(|s| (0..32).for_each(|_| s.spawn(|_| assert!(product() == want))));
        with(&SHARED, |outer| {
            let first = outer.b.get(16).addr();
            with(&SHARED, |inner| assert_ne!(inner.b.get(16).addr(), first));
            (with(&SHARED, |again| again.b.get(16).addr()), product())
        })
    });
    assert!(nested.1 == want && nested.0 != 0);
}

#[test]
#[should_panic(expected = "operand b [4, 4]")]
fn an_operand_that_is_too_short_is_refused() {
    let (a, b, mut c) = ([0.0f32; 16], [0.0f32; 15], [0.0f32; 16]);
    let to = f32_output(&mut c, false);
    gemm(rows(4, 4, 4), dense(&a, 4), dense(&b, 4), &[Offsets::default()], to, None);
}

#[test]
#[should_panic(expected = "operand c [4, 4]")]
fn a_result_outside_its_storage_is_refused() {
    let (a, mut c) = ([0.0f32; 16], [0.0f32; 16]);
    let at = [Offsets::default(), Offsets { a: 0, b: 0, c: 1 }];
    gemm(rows(4, 4, 4), dense(&a, 4), dense(&a, 4), &at, f32_output(&mut c, false), None);
}

#[test]
#[should_panic(expected = "rows of the result overlap")]
fn rows_that_overlap_are_refused() {
    let (a, mut c) = ([0.0f32; 16], [0.0f32; 16]);
    let shape = Shape { rs_c: 3, ..rows(4, 4, 4) };
    gemm(shape, dense(&a, 4), dense(&a, 4), &[Offsets::default()], f32_output(&mut c, false), None);
}

#[test]
fn transposes_have_every_element_in_its_place() {
    for [rows, columns] in [[1, 5], [5, 1], [8, 8], [7, 9], [32, 200], [13, 37], [64, 3]] {
        let from: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let mut to = vec![-1.0; rows * columns];
        transpose(&from, columns, &mut to);
        let places = || (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c)));
        assert!(places().all(|(r, c)| to[c * rows + r] == from[r * columns + c]));
        // The part without the last column, between rows that lie apart: the rest stays as it is.
        let (width, part) = (rows + 2, columns - 1);
        let mut apart = vec![-1.0; columns * width];
        transpose_part([rows, part], (&from, columns), (&mut apart, width));
        for (i, v) in apart.iter().enumerate() {
            let (c, r) = (i / width, i % width);
            let wanted = if r < rows && c < part { from[r * columns + c] } else { -1.0 };
            assert_eq!(*v, wanted, "[{rows}, {columns}] at ({c}, {r})");
        }
    }
}
