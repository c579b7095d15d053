//! Matrix products of host programs by a library of the system.
//!
//! A [`HostProgram`](crate::HostProgram) computes its products with [`gemm`](mod@crate::gemm) unless
//! it was given an [`Sgemm`]. Only products in reference precision go this way: what imitates an
//! engine rounds by itself.
//!
//! **Other bits.** Ours adds blocks of the inner dimension in order, by fused multiply-adds, whatever
//! the number of threads. A library has an order of its own, which it need not say, and which may
//! depend on the extents, the threads and the chip. Either keeps within the bound of any order of
//! summation, γₖ·Σ|a||b| with γₖ = k·u/(1 − k·u), u = 2⁻²⁴ (Higham, *Accuracy and Stability of
//! Numerical Algorithms*, 2002, §3.1), but the bits differ. So a run must note which of the two it
//! had, and [`compare`] refuses a library that gives other bits for the same product a second time.

use crate::gemm::{self, Elements, Offsets, Operand, Output, Shape};
use crate::simd;
use half::f16;
use rayon::prelude::*;
use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

/// A matrix as it lies in memory, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The elements, from the first of the first row to the last of the last.
    pub elements: &'a [f32],
    /// Elements from one row to the next: at least the length of a row.
    pub stride: usize,
    /// True if the operand is the transpose of what is stored.
    pub transposed: bool,
}

impl Stored<'_> {
    /// Returns the element in row `i` and column `j` of the operand.
    ///
    /// # Panics
    /// If the slice does not hold it.
    pub fn at(&self, i: usize, j: usize) -> f32 {
        let (i, j) = if self.transposed { (j, i) } else { (i, j) };
        self.elements[i * self.stride + j]
    }
}

/// Single-precision products of dense matrices, as BLAS has them.
pub trait Sgemm: fmt::Debug + Send + Sync {
    /// The library's name, for people.
    fn name(&self) -> &'static str;

    /// C [m, n] ← A [m, k]·B [k, n], or C + A·B if `accumulate`. Rows of C are `stride` apart.
    /// Extents and strides fit a C `int`; no extent is 0.
    ///
    /// # Panics
    /// If a slice does not hold its matrix.
    fn multiply(
        &self,
        extents: [usize; 3],
        a: Stored<'_>,
        b: Stored<'_>,
        c: (&mut [f32], usize),
        accumulate: bool,
    );
}

/// Where an operand's elements are: `rows` rows of `cols`, `stride` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    rows: usize,
    cols: usize,
    stride: usize,
    transposed: bool,
}

impl Layout {
    /// The layout of a matrix [rows, cols] with these strides; `None` where neither its rows nor its
    /// columns lie side by side without overlap.
    fn new([rows, cols]: [usize; 2], [rs, cs]: [usize; 2]) -> Option<Self> {
        let dense = |rows: usize, cols: usize, rs: usize, cs: usize, transposed| {
            let fits = (cols == 1 || cs == 1) && (rows == 1 || rs >= cols);
            let stride = if rows == 1 { cols } else { rs };
            let small = [rows, cols, stride].into_iter().all(|n| i32::try_from(n).is_ok());
            (fits && small).then_some(Layout { rows, cols, stride, transposed })
        };
        dense(rows, cols, rs, cs, false).or_else(|| dense(cols, rows, cs, rs, true))
    }

    /// Elements from the first to the last.
    fn len(&self) -> usize {
        (self.rows - 1) * self.stride + self.cols
    }

    /// The operand in single precision: where it lies, or widened into `room`.
    fn read<'a>(&self, data: Elements<'a>, offset: usize, room: &'a mut Vec<f32>) -> Stored<'a> {
        let &Layout { rows, cols, stride, transposed } = self;
        match data {
            Elements::F32(x) => Stored { elements: &x[offset..][..self.len()], stride, transposed },
            Elements::F16(x) => {
                let n = rows * cols;
                if room.len() < n {
                    room.resize(n, 0.0);
                }
                widen(&x[offset..][..self.len()], stride, cols, &mut room[..n]);
                Stored { elements: &room[..n], stride: cols, transposed }
            }
        }
    }
}

/// Elements that are worth waking another thread for widening.
const PARALLEL: usize = 1 << 16;

/// Widens rows of `cols` elements, `stride` apart, into rows side by side. Exact.
fn widen(from: &[f16], stride: usize, cols: usize, to: &mut [f32]) {
    let rows = to.par_chunks_mut(cols).with_min_len(PARALLEL.div_ceil(cols));
    rows.enumerate().for_each(|(i, row)| simd::widen(&from[i * stride..][..cols], row));
}

thread_local! {
    /// Room for two widened operands. Taken out while it is in use: a thread that waits inside a
    /// product may begin another.
    static ROOM: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// A batch of products as a library can be asked for it.
struct Request {
    extents: [usize; 3],
    a: Layout,
    b: Layout,
    stride: usize,
    /// True if operands change places, because Cᵀ = Bᵀ·Aᵀ is what lies row by row.
    flipped: bool,
}

impl Request {
    fn new(shape: Shape, a: &Operand<'_>, b: &Operand<'_>) -> Option<Self> {
        let Shape { m, n, k, rs_c, cs_c } = shape;
        if m == 0 || n == 0 || k == 0 {
            return None;
        }
        let layout = |rows, cols, strides| Layout::new([rows, cols], strides);
        let flipped = n > 1 && cs_c != 1;
        let (extents, stride, a, b) = if flipped {
            if rs_c != 1 && m > 1 {
                return None;
            }
            ([n, m, k], cs_c, layout(n, k, [b.cs, b.rs])?, layout(k, m, [a.cs, a.rs])?)
        } else {
            ([m, n, k], rs_c, layout(m, k, [a.rs, a.cs])?, layout(k, n, [b.rs, b.cs])?)
        };
        let [rows, columns, _] = extents;
        let stride = if rows == 1 { columns } else { stride };
        let fits = stride >= columns && i32::try_from(stride).is_ok();
        fits.then_some(Request { extents, a, b, stride, flipped })
    }

    /// Elements of a result, from the first to the last.
    fn result_len(&self) -> usize {
        (self.extents[0] - 1) * self.stride + self.extents[1]
    }
}

/// Computes a batch of products with `library`: C = A·B, or C + A·B if `accumulate`. `false`, and
/// nothing is written, where BLAS cannot be asked for them: strides in both directions, no inner
/// dimension, extents beyond a C `int`, elements that are not there.
pub(crate) fn product(
    library: &dyn Sgemm,
    shape: Shape,
    a: Operand<'_>,
    b: Operand<'_>,
    batch: &[Offsets],
    c: &mut [f32],
    accumulate: bool,
) -> bool {
    let Some(request) = Request::new(shape, &a, &b) else { return false };
    let (first, second) = if request.flipped { (b.data, a.data) } else { (a.data, b.data) };
    let places = |o: &Offsets| if request.flipped { (o.b, o.a) } else { (o.a, o.b) };
    let there = |at: usize, n: usize, len: usize| at.checked_add(n).is_some_and(|end| end <= len);
    let holds = |o: &Offsets| {
        let (at_a, at_b) = places(o);
        there(at_a, request.a.len(), first.len())
            && there(at_b, request.b.len(), second.len())
            && there(o.c, request.result_len(), c.len())
    };
    if !batch.iter().all(holds) {
        return false;
    }
    let [mut room_a, mut room_b] = ROOM.take();
    for o in batch {
        let (at_a, at_b) = places(o);
        let a = request.a.read(first, at_a, &mut room_a);
        let b = request.b.read(second, at_b, &mut room_b);
        let c = (&mut c[o.c..][..request.result_len()], request.stride);
        library.multiply(request.extents, a, b, c, accumulate);
    }
    ROOM.set([room_a, room_b]);
    true
}

/// A product of the host's part of a training step: C [m, n] += A [m, k]·B [k, n].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostShape {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// True if B is stored as [n, k].
    pub transposed: bool,
    /// True if the operands are binary16, as what comes from the engine.
    pub half: bool,
    /// Products of this shape that threads compute at the same time.
    pub at_once: usize,
}

impl HostShape {
    /// The shape with its largest extents halved until all at once have at most `most`
    /// multiplications (or an extent of 1).
    pub fn within(mut self, most: usize) -> Self {
        let most = (most / self.at_once.max(1)).max(1);
        let work = |s: &Self| s.m.saturating_mul(s.n).saturating_mul(s.k);
        while work(&self) > most {
            let HostShape { m, n, k, .. } = &mut self;
            let largest = if *m >= *n && *m >= *k {
                m
            } else if *n >= *k {
                n
            } else {
                k
            };
            *largest = largest.div_ceil(2);
        }
        self
    }
}

/// The result of [`compare`].
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Seconds that our products took: medians, summed over the shapes.
    pub ours: f64,
    /// Seconds that the library's took.
    pub library: f64,
    /// Why the library is not to be used, whatever its speed.
    pub fault: Option<String>,
}

impl Comparison {
    /// How many times as fast as ours the library is.
    pub fn ratio(&self) -> f64 {
        self.ours / self.library
    }

    /// True if the library is sound and faster by a margin that another measurement will not undo.
    pub fn prefers_library(&self) -> bool {
        self.fault.is_none() && self.ratio() >= MARGIN
    }
}

/// How many times as fast a library must be: times of a few milliseconds vary by some percent.
const MARGIN: f64 = 1.1;

/// Rounds of [`compare`]. Odd, for a median; they alternate, so that a slow moment hits both.
const ROUNDS: usize = 5;

/// Computes products of `shapes` with `library` and with our own kernel, one after the other, at
/// most five times and, after the first round of all shapes, not longer than `limit`. Every
/// result of the library is held against ours, and against its own first.
pub fn compare(library: &dyn Sgemm, shapes: &[HostShape], limit: Duration) -> Comparison {
    let mut cases: Vec<Case> = shapes.iter().map(Case::new).collect();
    let mut found = Comparison { ours: 0.0, library: 0.0, fault: None };
    // Once without a clock: memory is touched, threads wake, clocks rise.
    for case in &mut cases {
        case.round(library);
        case.seconds = Default::default();
    }
    let start = Instant::now();
    for round in 0..ROUNDS {
        if round > 0 && start.elapsed() > limit {
            break;
        }
        cases.iter_mut().for_each(|case| case.round(library));
    }
    for case in cases {
        let [ours, theirs] = case.seconds.map(median);
        (found.ours, found.library) = (found.ours + ours, found.library + theirs);
        found.fault = found.fault.or(case.fault);
    }
    found
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// One shape of a comparison.
struct Case {
    shape: HostShape,
    a: Values,
    b: Values,
    /// Our results and the library's; one for each product computed at once.
    ours: Vec<Vec<f32>>,
    theirs: Vec<Vec<f32>>,
    /// The library's first results.
    first: Vec<Vec<f32>>,
    /// Ours and the library's.
    seconds: [Vec<f64>; 2],
    fault: Option<String>,
}

/// Elements in one precision or the other.
enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Values {
    /// Numbers below 1 in magnitude, of both signs.
    fn new(n: usize, seed: u64, half: bool) -> Self {
        let mut state = seed;
        let mut next = || {
            // The generator of Knuth's MMIX; its upper bits are the better ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        match half {
            true => Values::F16((0..n).map(|_| f16::from_f32(next())).collect()),
            false => Values::F32((0..n).map(|_| next()).collect()),
        }
    }

    fn elements(&self) -> Elements<'_> {
        match self {
            Values::F32(v) => Elements::F32(v),
            Values::F16(v) => Elements::F16(v),
        }
    }
}

impl Case {
    fn new(shape: &HostShape) -> Self {
        let HostShape { m, n, k, half, at_once, .. } = *shape;
        let zeros = vec![vec![0.0; m * n]; at_once.max(1)];
        Case {
            shape: *shape,
            a: Values::new(m * k, 1, half),
            b: Values::new(k * n, 2, half),
            ours: zeros.clone(),
            theirs: zeros,
            first: vec![],
            seconds: Default::default(),
            fault: None,
        }
    }

    /// Both, one after the other, each added to zeros.
    fn round(&mut self, library: &dyn Sgemm) {
        let HostShape { m, n, k, transposed, .. } = self.shape;
        let a = Operand { data: self.a.elements(), rs: k, cs: 1 };
        let (rs, cs) = if transposed { (1, k) } else { (n, 1) };
        let b = Operand { data: self.b.elements(), rs, cs };
        let shape = Shape { m, n, k, rs_c: n, cs_c: 1 };
        let batch = [Offsets::default()];
        self.ours.iter_mut().chain(&mut self.theirs).for_each(|c| c.fill(0.0));
        let start = Instant::now();
        self.ours.par_iter_mut().for_each(|c| {
            let output = Output::F32 { data: c, accumulate: true };
            gemm::gemm(shape, a, b, &batch, output, None);
        });
        self.seconds[0].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let asked = (self.theirs.par_iter_mut())
            .map(|c| product(library, shape, a, b, &batch, c, true))
            .reduce(|| true, |a, b| a && b);
        self.seconds[1].push(start.elapsed().as_secs_f64());
        if !asked {
            self.refuse("cannot be asked for");
        }
        self.hold();
    }

    /// Holds the results of the library against ours and against its own first.
    fn hold(&mut self) {
        // Either is off by at most γₖ·Σ|a||b| ≤ γₖ·k, as no operand exceeds 1, and adding the sum to
        // 0 is exact; the difference by twice that.
        let ku = self.shape.k as f64 * 2f64.powi(-24);
        let bound = 2.0 * ku / (1.0 - ku) * self.shape.k as f64;
        let is_off = |(x, y): (&f32, &f32)| {
            let difference = f64::from(*x) - f64::from(*y);
            difference.is_nan() || difference.abs() > bound
        };
        if self.theirs.iter().flatten().zip(self.ours.iter().flatten()).any(is_off) {
            self.refuse("gives a wrong result for");
        }
        if self.first.is_empty() {
            self.first = self.theirs.clone();
        }
        let bits = |c: &[Vec<f32>]| c.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(&self.theirs) != bits(&self.first) {
            self.refuse("gives other bits the second time for");
        }
    }

    fn refuse(&mut self, what: &str) {
        let HostShape { m, n, k, .. } = self.shape;
        self.fault.get_or_insert_with(|| format!("it {what} a product [{m}, {k}]·[{k}, {n}]"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BLAS by definition, each sum in f64, and one thing wrong if asked for.
    #[derive(Debug, Default)]
    struct Textbook {
        wrong: bool,
        unsteady: bool,
        calls: std::sync::atomic::AtomicUsize,
    }

    impl Sgemm for Textbook {
        fn name(&self) -> &'static str {
            "a textbook"
        }

        fn multiply(
            &self,
            [m, n, k]: [usize; 3],
            a: Stored<'_>,
            b: Stored<'_>,
            (c, stride): (&mut [f32], usize),
            accumulate: bool,
        ) {
            let call = self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 =
                        (0..k).map(|p| f64::from(a.at(i, p)) * f64::from(b.at(p, j))).sum();
                    let to = &mut c[i * stride + j];
                    *to = if accumulate { *to + sum as f32 } else { sum as f32 };
                }
            }
            if self.wrong {
                c[0] += 1.0;
            }
            if self.unsteady && call % 2 == 1 {
                c[0] = f32::from_bits(c[0].to_bits() ^ 1);
            }
        }
    }

    fn shapes() -> [HostShape; 2] {
        [
            HostShape { m: 9, n: 12, k: 7, transposed: false, half: false, at_once: 1 },
            HostShape { m: 8, n: 5, k: 16, transposed: true, half: true, at_once: 2 },
        ]
    }

    #[test]
    fn a_library_is_refused_that_is_wrong_or_unsteady() {
        let limit = Duration::from_secs(1);
        let found = compare(&Textbook::default(), &shapes(), limit);
        assert_eq!(found.fault, None);
        assert!(found.ours > 0.0 && found.library > 0.0);
        let wrong = compare(&Textbook { wrong: true, ..Default::default() }, &shapes(), limit);
        let fault = wrong.fault.clone().expect("it is wrong");
        assert!(fault.contains("wrong result for a product [9, 7]·[7, 12]"), "{fault}");
        assert!(!Comparison { ours: 9.0, ..wrong }.prefers_library());
        let unsteady = Textbook { unsteady: true, ..Default::default() };
        // An odd number of products per round, so that the same one is hit and not hit.
        let fault = compare(&unsteady, &shapes()[..1], limit).fault.expect("it is unsteady");
        assert!(fault.contains("other bits the second time"), "{fault}");
    }

    #[test]
    fn a_library_is_taken_if_it_is_faster_by_a_margin() {
        let found = |ours, library| Comparison { ours, library, fault: None };
        assert!(found(2.3, 1.0).prefers_library());
        assert!(!found(1.05, 1.0).prefers_library());
        assert!(!found(0.5, 1.0).prefers_library());
        assert_eq!(found(2.3, 1.0).ratio(), 2.3);
    }

    #[test]
    fn elements_are_those_of_the_operand() {
        let elements = [0.0, 1.0, 2.0, -1.0, 3.0, 4.0, 5.0];
        let stored = Stored { elements: &elements, stride: 4, transposed: false };
        assert_eq!([stored.at(0, 0), stored.at(0, 2), stored.at(1, 1)], [0.0, 2.0, 4.0]);
        let transpose = Stored { transposed: true, ..stored };
        assert_eq!([transpose.at(0, 0), transpose.at(2, 0), transpose.at(1, 1)], [0.0, 2.0, 4.0]);
    }

    #[test]
    fn layouts_are_what_blas_can_be_told() {
        let layout = |extents, strides| {
            Layout::new(extents, strides).map(|l| (l.rows, l.cols, l.stride, l.transposed))
        };
        assert_eq!(layout([3, 4], [4, 1]), Some((3, 4, 4, false)));
        assert_eq!(layout([3, 4], [9, 1]), Some((3, 4, 9, false)));
        assert_eq!(layout([3, 4], [1, 3]), Some((4, 3, 3, true)));
        assert_eq!(layout([1, 4], [0, 1]), Some((1, 4, 4, false)));
        assert_eq!(layout([1, 4], [0, 7]), Some((4, 1, 7, true)));
        assert_eq!(layout([3, 1], [5, 0]), Some((3, 1, 5, false)));
        // Repeated rows, overlapping rows, gaps both ways, more than a C `int`.
        assert_eq!(layout([3, 4], [0, 1]), None);
        assert_eq!(layout([3, 4], [2, 1]), None);
        assert_eq!(layout([3, 4], [9, 2]), None);
        assert_eq!(layout([2, 4], [1 << 31, 1]), None);
    }

    #[test]
    fn what_blas_cannot_be_asked_for_is_left_alone() {
        let (x, mut c) = ([1.0f32; 16], [7.0f32; 16]);
        let dense = Operand { data: Elements::F32(&x), rs: 4, cs: 1 };
        let repeated = Operand { rs: 0, ..dense };
        let shape = Shape { m: 4, n: 4, k: 4, rs_c: 4, cs_c: 1 };
        let at = |c| Offsets { c, ..Offsets::default() };
        let library = Textbook::default();
        let mut ask = |shape, a, batch: &[Offsets]| {
            let asked = product(&library, shape, a, dense, batch, &mut c, false);
            (asked, c == [7.0; 16])
        };
        assert_eq!(ask(shape, repeated, &[at(0)]), (false, true));
        assert_eq!(ask(Shape { k: 0, ..shape }, dense, &[at(0)]), (false, true));
        assert_eq!(ask(Shape { rs_c: 2, cs_c: 2, ..shape }, dense, &[at(0)]), (false, true));
        // The second of two would be written beyond the end: neither is.
        assert_eq!(ask(shape, dense, &[at(0), at(1)]), (false, true));
        assert_eq!(ask(shape, dense, &[at(0)]), (true, false));
    }

    #[test]
    fn a_transposed_result_is_computed_as_the_product_of_transposes() {
        let (a, b) = (Values::new(6, 1, false), Values::new(12, 2, true));
        let a = Operand { data: a.elements(), rs: 3, cs: 1 };
        let b = Operand { data: b.elements(), rs: 4, cs: 1 };
        let (mut ours, mut theirs) = ([0.0f32; 8], [0.0f32; 8]);
        // C [2, 4] column by column.
        let shape = Shape { m: 2, n: 4, k: 3, rs_c: 1, cs_c: 2 };
        let batch = [Offsets::default()];
        assert!(product(&Textbook::default(), shape, a, b, &batch, &mut theirs, false));
        let output = Output::F32 { data: &mut ours, accumulate: false };
        gemm::gemm(shape, a, b, &batch, output, None);
        for (x, y) in ours.iter().zip(&theirs) {
            // γ₃·Σ|a||b| ≤ 3·2⁻²⁴·3, and the textbook's own rounding.
            assert!((x - y).abs() <= 10.0 * 2f32.powi(-24), "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn shapes_are_cut_to_a_size() {
        let large =
            HostShape { m: 32_000, n: 1024, k: 768, transposed: false, half: false, at_once: 1 };
        let cut = large.within(1 << 26);
        assert!(cut.m * cut.n * cut.k <= 1 << 26 && cut.m * cut.n * cut.k > 1 << 24, "{cut:?}");
        assert_eq!(shapes()[0].within(1 << 26), shapes()[0]);
        let several = HostShape { at_once: 16, ..large }.within(1 << 26);
        assert!(several.m * several.n * several.k <= 1 << 22, "{several:?}");
        assert_eq!(large.within(0).m, 1);
    }
}
