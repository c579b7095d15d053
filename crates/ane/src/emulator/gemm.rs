//! Matrix products: C = A·B in f32, from f32 or binary16 operands of any stride.
//!
//! Operands are widened while they are packed into panels; sums stay in f32 over the whole inner
//! extent and are rounded once, in the epilogue. Every element of C is computed by the same
//! sequence of operations whichever thread does it, so results do not depend on timing.
//!
//! The blocking is the usual one (Goto and van de Geijn 2008): B is packed once into panels of
//! `NR` columns, C is cut into row blocks that threads take, each packs its block of A into panels
//! of `MR` rows, and a micro-kernel keeps an MR×NR tile of C in registers.

#![allow(unsafe_code, reason = "SIMD micro-kernels and disjoint writes from several threads")]

use super::simd::{self, Level};
use half::f16;
use rayon::prelude::*;
use std::cell::RefCell;

/// Elements of a matrix operand.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision, widened while packing.
    F16(&'a [f16]),
}

/// A matrix operand: element (i, j) is at offset + i·rs + j·cs.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Where the elements are.
    pub data: Elements<'a>,
    /// Distance between rows.
    pub rs: usize,
    /// Distance between columns.
    pub cs: usize,
}

/// Where C goes: element (i, j) is at offset + i·rs + j·cs.
#[derive(Debug)]
pub enum Output<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// Half precision, rounded to nearest even.
    F16(&'a mut [f16]),
}

/// What happens to a finished sum before it is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue {
    /// Add to what C holds instead of replacing it (single-precision outputs only).
    pub accumulate: bool,
    /// Round to the binary16 grid; sums of at least this magnitude become ±∞ and NaN becomes +∞.
    pub round: Option<f32>,
}

/// One product of a batch: offsets of its operands and of its result, in elements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offsets {
    /// Of A's first element.
    pub a: usize,
    /// Of B's first element.
    pub b: usize,
    /// Of C's first element.
    pub c: usize,
}

/// Extents and strides shared by a batch of products.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Distance between rows of C.
    pub rs_c: usize,
    /// Distance between columns of C.
    pub cs_c: usize,
}

/// Inner extent of a packed block: an MR×KC panel of A stays in the first-level cache.
const KC: usize = 256;
/// Rows of C that one task computes; a KC×MC block of A stays in the second-level cache.
const MC: usize = 120;
/// Products with fewer multiply-adds than this are not worth waking another thread.
const PARALLEL: usize = 400_000;

/// Lends a thread's buffer to `f`. The buffer is taken out meanwhile, so that a task which this
/// thread picks up while it waits finds an empty one instead of a borrowed one.
fn lend<R>(
    key: &'static std::thread::LocalKey<RefCell<Vec<f32>>>,
    f: impl FnOnce(&mut Vec<f32>) -> R,
) -> R {
    let mut buffer = key.take();
    let result = f(&mut buffer);
    key.set(buffer);
    result
}

thread_local! {
    static PACK_A: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static PACK_B: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static TILE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes a batch of products of equal shape.
///
/// # Panics
/// If an operand or C does not hold the elements that the shape, strides and offsets name, or rows
/// of one result overlap.
pub fn gemm(
    shape: Shape,
    a: Operand,
    b: Operand,
    batch: &[Offsets],
    c: Output,
    epilogue: Epilogue,
) {
    let Shape { m, n, k, .. } = shape;
    if m == 0 || n == 0 || batch.is_empty() {
        return;
    }
    // Rows of C are what is contiguous in memory: otherwise compute Cᵀ = Bᵀ·Aᵀ.
    if shape.cs_c != 1 && shape.rs_c == 1 {
        let flip = |x: Operand<'_>| -> (usize, usize) { (x.cs, x.rs) };
        let ((ars, acs), (brs, bcs)) = (flip(a), flip(b));
        let swapped: Vec<Offsets>;
        let batch = if batch.len() == 1 {
            &[Offsets { a: batch[0].b, b: batch[0].a, c: batch[0].c }][..]
        } else {
            swapped = batch.iter().map(|o| Offsets { a: o.b, b: o.a, c: o.c }).collect();
            &swapped
        };
        let shape = Shape { m: n, n: m, k, rs_c: shape.cs_c, cs_c: shape.rs_c };
        let (at, bt) = (Operand { rs: ars, cs: acs, ..a }, Operand { rs: brs, cs: bcs, ..b });
        return gemm(shape, bt, at, batch, c, epilogue);
    }
    assert_eq!(shape.cs_c, 1, "one stride of C must be 1");
    check(&shape, &a, &b, batch, &c);
    // `product` would round after adding, not before.
    if !(epilogue.accumulate && epilogue.round.is_some()) {
        return blocked(shape, a, b, batch, c, epilogue);
    }
    let target = Target::new(c);
    let work = m * n * k.max(1);
    let serial = |o: &Offsets| product(&shape, a, b, o, &target, epilogue, false);
    let many = batch.len() >= 2 * rayon::current_num_threads();
    if many && work * batch.len() > PARALLEL && disjoint(&shape, batch) {
        batch.par_iter().for_each(serial);
    } else if work <= PARALLEL {
        batch.iter().for_each(serial);
    } else {
        for o in batch {
            product(&shape, a, b, o, &target, epilogue, true);
        }
    }
}

/// The same by the core in [`super::product`].
fn blocked(s: Shape, a: Operand, b: Operand, batch: &[Offsets], c: Output, epilogue: Epilogue) {
    use super::elementary::Round;
    use super::product;
    fn source(x: Operand<'_>) -> product::Source<'_> {
        let (rs, cs, offset) = (x.rs, x.cs, 0);
        match x.data {
            Elements::F32(data) => product::Source::F32 { data, rs, cs, offset },
            Elements::F16(data) => product::Source::F16 { data, rs, cs, offset },
        }
    }
    let (a, b) = if s.k == 0 {
        let none = product::Source::F32 { data: &[], rs: 0, cs: 0, offset: 0 };
        (none, none)
    } else {
        (source(a), source(b))
    };
    let (c, accumulate) = match c {
        Output::F32(data) => {
            (product::Dest::F32 { data, rs: s.rs_c, offset: 0 }, epilogue.accumulate)
        }
        Output::F16(data) => (product::Dest::F16 { data, rs: s.rs_c, offset: 0 }, false),
    };
    let round =
        epilogue.round.map_or(Round::None, |saturate| Round::F16 { saturate, nan_to_inf: true });
    let field = |f| product::Offsets::Field(batch, f);
    let (a_at, b_at, c_at) = (field(|o| o.a), field(|o| o.b), field(|o| o.c));
    let places = product::Batch { count: batch.len(), a: a_at, b: b_at, c: c_at };
    let epilogue = product::Epilogue { accumulate, scale: 1.0, round };
    product::gemm_batch(product::Shape::new(s.m, s.n, s.k), places, a, b, c, epilogue, 0);
}

fn check(shape: &Shape, a: &Operand, b: &Operand, batch: &[Offsets], c: &Output) {
    let last = |rows: usize, columns: usize, rs: usize, cs: usize| {
        rows.saturating_sub(1) * rs + columns.saturating_sub(1) * cs
    };
    let len = |e: &Elements| match e {
        Elements::F32(v) => v.len(),
        Elements::F16(v) => v.len(),
    };
    let c_len = match c {
        Output::F32(v) => v.len(),
        Output::F16(v) => v.len(),
    };
    for o in batch {
        if shape.k > 0 {
            assert!(o.a + last(shape.m, shape.k, a.rs, a.cs) < len(&a.data), "A is too small");
            assert!(o.b + last(shape.k, shape.n, b.rs, b.cs) < len(&b.data), "B is too small");
        }
        assert!(o.c + last(shape.m, shape.n, shape.rs_c, 1) < c_len, "C is too small");
    }
    assert!(shape.m == 1 || shape.rs_c >= shape.n, "rows of C overlap");
}

/// Largest batch whose results are compared pair by pair.
const COMPARED: usize = 512;

/// Whether no two products of a batch write the same element, so that they may run at once: rows
/// of two results meet if their distance is within n of a multiple of the distance between rows.
fn disjoint(s: &Shape, batch: &[Offsets]) -> bool {
    let apart = |a: &Offsets, b: &Offsets| {
        let d = a.c.abs_diff(b.c);
        let rows = (d / s.rs_c.max(1)).min(s.m - 1);
        let beyond = d - rows * s.rs_c;
        beyond >= s.n && (rows + 1 >= s.m || s.rs_c - beyond.min(s.rs_c) >= s.n)
    };
    batch.len() <= COMPARED
        && (0..batch.len()).all(|i| batch[..i].iter().all(|other| apart(other, &batch[i])))
}

/// C as a raw pointer, so that tasks can write disjoint rows.
enum Target {
    F32(*mut f32),
    F16(*mut f16),
}

// SAFETY: tasks that run at once write disjoint elements: `check` refuses overlapping rows, each row
// of a product belongs to one task, and products run at once only if `disjoint` found them so.
unsafe impl Sync for Target {}

impl Target {
    fn new(c: Output) -> Self {
        match c {
            Output::F32(v) => Target::F32(v.as_mut_ptr()),
            Output::F16(v) => Target::F16(v.as_mut_ptr()),
        }
    }

    /// Stores `row` at element `at`, after the epilogue.
    fn store(&self, at: usize, row: &mut [f32], epilogue: Epilogue) {
        if let Some(limit) = epilogue.round {
            simd::round_f16(row, limit, f32::INFINITY);
        }
        match self {
            Target::F32(c) => {
                // SAFETY: `check` proved that the row lies inside C; no other task writes it.
                let to = unsafe { std::slice::from_raw_parts_mut(c.add(at), row.len()) };
                if epilogue.accumulate {
                    simd::add(to, row);
                } else {
                    to.copy_from_slice(row);
                }
            }
            Target::F16(c) => {
                // SAFETY: as above.
                let to = unsafe { std::slice::from_raw_parts_mut(c.add(at), row.len()) };
                simd::narrow(row, to);
            }
        }
    }
}

fn product(
    s: &Shape,
    a: Operand,
    b: Operand,
    o: &Offsets,
    c: &Target,
    e: Epilogue,
    parallel: bool,
) {
    if s.n <= 2 || s.k == 0 {
        return narrow_product(s, a, b, o, c, e, parallel);
    }
    let kernel = Kernel::get();
    let panels = s.n.div_ceil(kernel.nr);
    lend(&PACK_B, |packed| {
        let len = panels * kernel.nr * s.k;
        if packed.len() < len {
            packed.resize(len, 0.0);
        }
        let packed = &mut packed[..len];
        let pack = |(panel, out): (usize, &mut [f32])| {
            let columns = (s.n - panel * kernel.nr).min(kernel.nr);
            let source = Operand { rs: b.cs, cs: b.rs, ..b };
            pack_panel(source, o.b + panel * kernel.nr * b.cs, columns, s.k, kernel.nr, out);
        };
        let size = kernel.nr * s.k;
        if parallel {
            packed.par_chunks_mut(size).enumerate().for_each(pack);
        } else {
            packed.chunks_mut(size).enumerate().for_each(pack);
        }
        let packed = &*packed;
        let step = if parallel { rows_per_task(s.m, kernel.mr) } else { MC };
        let task = |block: usize| {
            let rows = block * step..((block + 1) * step).min(s.m);
            row_block(s, a, o, packed, rows, c, e, kernel);
        };
        let blocks = s.m.div_ceil(step);
        if parallel {
            (0..blocks).into_par_iter().with_max_len(1).for_each(task);
        } else {
            (0..blocks).for_each(task);
        }
    });
}

/// Row blocks small enough that both cores finish together, whole panels except the last.
fn rows_per_task(m: usize, mr: usize) -> usize {
    let tasks = (4 * rayon::current_num_threads()).max(1);
    m.div_ceil(tasks).next_multiple_of(mr).min(MC)
}

/// Computes `rows` of C from packed B.
#[allow(clippy::too_many_arguments, reason = "one block of the loop nest")]
fn row_block(
    s: &Shape,
    a: Operand,
    o: &Offsets,
    packed_b: &[f32],
    rows: std::ops::Range<usize>,
    c: &Target,
    e: Epilogue,
    kernel: &Kernel,
) {
    let (mr, nr) = (kernel.mr, kernel.nr);
    let (panels_m, panels_n) = (rows.len().div_ceil(mr), s.n.div_ceil(nr));
    lend(&PACK_A, |packed_a| {
        lend(&TILE, |tile| {
            packed_a.resize(panels_m * mr * KC, 0.0);
            tile.resize((panels_m * mr * panels_n * nr).max(tile.len()), 0.0);
            for k0 in (0..s.k).step_by(KC) {
                let kc = KC.min(s.k - k0);
                for p in 0..panels_m {
                    let first = rows.start + p * mr;
                    let count = (rows.end - first).min(mr);
                    let out = &mut packed_a[p * mr * kc..(p + 1) * mr * kc];
                    pack_panel(a, o.a + first * a.rs + k0 * a.cs, count, kc, mr, out);
                }
                for q in 0..panels_n {
                    let pb = &packed_b[q * nr * s.k + k0 * nr..][..kc * nr];
                    for p in 0..panels_m {
                        let pa = &packed_a[p * mr * kc..][..mr * kc];
                        let t = &mut tile[(q * panels_m + p) * mr * nr..][..mr * nr];
                        kernel.run(kc, pa, pb, t, k0 > 0);
                    }
                }
            }
            for (i, row) in rows.enumerate() {
                for q in 0..panels_n {
                    let columns = (s.n - q * nr).min(nr);
                    let at = (q * panels_m + i / mr) * mr * nr + i % mr * nr;
                    let to = o.c + row * s.rs_c + q * nr;
                    c.store(to, &mut tile[at..at + columns], e);
                }
            }
        });
    });
}

/// Packs `count` rows of `k` elements so that element (i, j) is at j·width + i; missing rows are 0.
fn pack_panel(x: Operand, offset: usize, count: usize, k: usize, width: usize, out: &mut [f32]) {
    if count < width {
        out.fill(0.0);
    }
    if x.rs == 1 {
        for (j, to) in out.chunks_exact_mut(width).enumerate().take(k) {
            let at = offset + j * x.cs;
            match x.data {
                Elements::F32(v) => to[..count].copy_from_slice(&v[at..at + count]),
                Elements::F16(v) => simd::widen(&v[at..at + count], &mut to[..count]),
            }
        }
        return;
    }
    let mut run = [0.0f32; 128];
    for i in 0..count {
        let start = offset + i * x.rs;
        for j0 in (0..k).step_by(run.len()) {
            let len = run.len().min(k - j0);
            gather(x, start + j0 * x.cs, &mut run[..len]);
            for (to, v) in out[j0 * width + i..].iter_mut().step_by(width).zip(&run[..len]) {
                *to = *v;
            }
        }
    }
}

/// Reads elements at `start`, start + cs, … widened to f32.
fn gather(x: Operand, start: usize, to: &mut [f32]) {
    match (x.data, x.cs) {
        (Elements::F32(v), 1) => to.copy_from_slice(&v[start..start + to.len()]),
        (Elements::F16(v), 1) => simd::widen(&v[start..start + to.len()], to),
        (Elements::F32(v), cs) => {
            to.iter_mut().enumerate().for_each(|(j, t)| *t = v[start + j * cs]);
        }
        (Elements::F16(v), cs) => {
            to.iter_mut().enumerate().for_each(|(j, t)| *t = v[start + j * cs].to_f32());
        }
    }
}

/// Products with one or two columns (decoding a token): dot products over rows of A where they are
/// contiguous, sums of columns of A where those are.
fn narrow_product(
    s: &Shape,
    a: Operand,
    b: Operand,
    o: &Offsets,
    c: &Target,
    e: Epilogue,
    parallel: bool,
) {
    lend(&PACK_B, |columns| {
        columns.resize((s.n * s.k).max(columns.len()), 0.0);
        for j in 0..s.n {
            let column = &mut columns[j * s.k..(j + 1) * s.k];
            gather(Operand { cs: b.rs, ..b }, o.b + j * b.cs, column);
        }
        let columns = &columns[..s.n * s.k];
        let step =
            if parallel { s.m.div_ceil(4 * rayon::current_num_threads()).max(8) } else { s.m };
        let task = |block: usize| {
            let rows = block * step..((block + 1) * step).min(s.m);
            lend(&PACK_A, |buffer| {
                if a.cs == 1 || s.k == 0 {
                    dot_rows(s, a, o, columns, rows, c, e, buffer);
                } else {
                    sum_columns(s, a, o, columns, rows, c, e, buffer);
                }
            });
        };
        let blocks = s.m.div_ceil(step);
        if parallel {
            (0..blocks).into_par_iter().with_max_len(1).for_each(task);
        } else {
            (0..blocks).for_each(task);
        }
    });
}

#[allow(clippy::too_many_arguments, reason = "one block of the loop nest")]
fn dot_rows(
    s: &Shape,
    a: Operand,
    o: &Offsets,
    columns: &[f32],
    rows: std::ops::Range<usize>,
    c: &Target,
    e: Epilogue,
    buffer: &mut Vec<f32>,
) {
    buffer.resize(s.k.max(buffer.len()), 0.0);
    for i in rows {
        let row: &[f32] = match a.data {
            Elements::F32(v) => &v[(o.a + i * a.rs).min(v.len())..][..s.k],
            Elements::F16(_) => {
                gather(a, o.a + i * a.rs, &mut buffer[..s.k]);
                &buffer[..s.k]
            }
        };
        let mut out = [0.0f32; 2];
        for j in 0..s.n.min(2) {
            out[j] = simd::dot(row, &columns[j * s.k..(j + 1) * s.k]);
        }
        store_narrow(s, i, &mut out, c, o, e);
    }
}

fn store_narrow(s: &Shape, i: usize, out: &mut [f32; 2], c: &Target, o: &Offsets, e: Epilogue) {
    if s.n <= 2 {
        c.store(o.c + i * s.rs_c, &mut out[..s.n], e);
    } else {
        // Only reached with an empty inner extent: every sum is zero.
        for j in 0..s.n {
            c.store(o.c + i * s.rs_c + j, &mut [0.0], e);
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "one block of the loop nest")]
fn sum_columns(
    s: &Shape,
    a: Operand,
    o: &Offsets,
    columns: &[f32],
    rows: std::ops::Range<usize>,
    c: &Target,
    e: Epilogue,
    buffer: &mut Vec<f32>,
) {
    let len = rows.len();
    buffer.resize((len * 3).max(buffer.len()), 0.0);
    let (sums, run) = buffer[..len * 3].split_at_mut(len * 2);
    sums.fill(0.0);
    for k in 0..s.k {
        let column = Operand { cs: a.rs, ..a };
        gather(column, o.a + rows.start * a.rs + k * a.cs, run);
        for j in 0..s.n {
            simd::axpy(&mut sums[j * len..(j + 1) * len], columns[j * s.k + k], run);
        }
    }
    for (at, i) in rows.enumerate() {
        let mut out = [sums[at], sums[(s.n - 1) * len + at]];
        store_narrow(s, i, &mut out, c, o, e);
    }
}

/// A micro-kernel: its tile and how to compute it.
struct Kernel {
    mr: usize,
    nr: usize,
    level: Level,
}

impl Kernel {
    fn get() -> &'static Kernel {
        match simd::level() {
            Level::Avx512 => &Kernel { mr: 6, nr: 64, level: Level::Avx512 },
            Level::Avx2 => &Kernel { mr: 6, nr: 16, level: Level::Avx2 },
            Level::Portable => &Kernel { mr: 4, nr: 16, level: Level::Portable },
        }
    }

    /// tile (+)= Σ_k a[k]·b[k]ᵀ for packed panels of kc columns and rows.
    fn run(&self, kc: usize, a: &[f32], b: &[f32], tile: &mut [f32], accumulate: bool) {
        assert!(a.len() >= kc * self.mr && b.len() >= kc * self.nr);
        assert!(tile.len() >= self.mr * self.nr);
        match self.level {
            // SAFETY: `level` found AVX-512 on this CPU; the slices hold what the kernel reads.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe {
                tile_avx512(kc, a.as_ptr(), b.as_ptr(), tile.as_mut_ptr(), accumulate)
            },
            // SAFETY: `level` found AVX2 and FMA on this CPU; the slices hold what the kernel reads.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe {
                tile_avx2(kc, a.as_ptr(), b.as_ptr(), tile.as_mut_ptr(), accumulate)
            },
            _ => tile_portable(kc, a, b, tile, accumulate),
        }
    }
}

/// 4×16 tile in plain code; LLVM keeps it in NEON or SSE registers.
fn tile_portable(kc: usize, a: &[f32], b: &[f32], tile: &mut [f32], accumulate: bool) {
    let mut acc = [[0.0f32; 16]; 4];
    for (a, b) in a.chunks_exact(4).zip(b.chunks_exact(16)).take(kc) {
        for i in 0..4 {
            for j in 0..16 {
                acc[i][j] += a[i] * b[j];
            }
        }
    }
    for (row, to) in acc.iter().zip(tile.chunks_exact_mut(16)) {
        for (v, t) in row.iter().zip(to) {
            *t = if accumulate { *t + *v } else { *v };
        }
    }
}

/// 6×64 tile: 24 accumulators, 4 vectors of B, one broadcast of A at a time.
///
/// # Safety
/// The CPU has AVX-512F; `a` holds 6·kc, `b` 64·kc and `c` 384 elements.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn tile_avx512(kc: usize, a: *const f32, b: *const f32, c: *mut f32, accumulate: bool) {
    use std::arch::x86_64::*;
    // SAFETY: the caller promises the extents of the three buffers; all accesses stay in them.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); 4]; 6];
        for k in 0..kc {
            let bk = b.add(k * 64);
            let vb = [
                _mm512_loadu_ps(bk),
                _mm512_loadu_ps(bk.add(16)),
                _mm512_loadu_ps(bk.add(32)),
                _mm512_loadu_ps(bk.add(48)),
            ];
            let ak = a.add(k * 6);
            for (i, row) in acc.iter_mut().enumerate() {
                let va = _mm512_set1_ps(*ak.add(i));
                for (x, vb) in row.iter_mut().zip(vb) {
                    *x = _mm512_fmadd_ps(va, vb, *x);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (j, x) in row.iter().enumerate() {
                let at = c.add(i * 64 + j * 16);
                let x = if accumulate { _mm512_add_ps(_mm512_loadu_ps(at), *x) } else { *x };
                _mm512_storeu_ps(at, x);
            }
        }
    }
}

/// 6×16 tile: 12 accumulators, 2 vectors of B.
///
/// # Safety
/// The CPU has AVX2 and FMA; `a` holds 6·kc, `b` 16·kc and `c` 96 elements.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_avx2(kc: usize, a: *const f32, b: *const f32, c: *mut f32, accumulate: bool) {
    use std::arch::x86_64::*;
    // SAFETY: the caller promises the extents of the three buffers; all accesses stay in them.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); 2]; 6];
        for k in 0..kc {
            let bk = b.add(k * 16);
            let vb = [_mm256_loadu_ps(bk), _mm256_loadu_ps(bk.add(8))];
            let ak = a.add(k * 6);
            for (i, row) in acc.iter_mut().enumerate() {
                let va = _mm256_set1_ps(*ak.add(i));
                for (x, vb) in row.iter_mut().zip(vb) {
                    *x = _mm256_fmadd_ps(va, vb, *x);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (j, x) in row.iter().enumerate() {
                let at = c.add(i * 16 + j * 8);
                let x = if accumulate { _mm256_add_ps(_mm256_loadu_ps(at), *x) } else { *x };
                _mm256_storeu_ps(at, x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut x = seed.wrapping_mul(2_654_435_761).max(1);
        let next = || {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            (x as f32 / u32::MAX as f32) * 2.0 - 1.0
        };
        std::iter::repeat_with(next).take(n).collect()
    }

    /// Every element against f64, within (k + 2)·2^-24·Σ|a||b| (the bound of a sum in any order).
    fn check_shape(m: usize, n: usize, k: usize, ta: bool, tb: bool, tc: bool, half_a: bool) {
        let a: Vec<f32> = numbers(m * k + 3, 1);
        let b: Vec<f32> = numbers(k * n + 5, 2);
        let a16: Vec<f16> = a.iter().map(|&x| f16::from_f32(x)).collect();
        let at = |i: usize, j: usize| 3 + if ta { j * m + i } else { i * k + j };
        let bt = |i: usize, j: usize| 5 + if tb { j * k + i } else { i * n + j };
        let av =
            |i, j| if half_a { f64::from(a16[at(i, j)].to_f32()) } else { f64::from(a[at(i, j)]) };
        let pad = 3;
        let (rs_c, cs_c) = if tc { (1, m + pad) } else { (n + pad, 1) };
        let mut c = vec![7.0f32; (n + pad) * (m + pad)];
        let data = if half_a { Elements::F16(&a16) } else { Elements::F32(&a) };
        let (ars, acs) = if ta { (1, m) } else { (k, 1) };
        let (brs, bcs) = if tb { (1, k) } else { (n, 1) };
        gemm(
            Shape { m, n, k, rs_c, cs_c },
            Operand { data, rs: ars, cs: acs },
            Operand { data: Elements::F32(&b), rs: brs, cs: bcs },
            &[Offsets { a: 3, b: 5, c: 0 }],
            Output::F32(&mut c),
            Epilogue { accumulate: true, round: None },
        );
        for i in 0..m {
            for j in 0..n {
                let terms = (0..k).map(|l| av(i, l) * f64::from(b[bt(l, j)]));
                let (sum, size) =
                    terms.fold((7.0, 7.0), |(s, z): (f64, f64), t| (s + t, z + t.abs()));
                let got = f64::from(c[i * rs_c + j * cs_c]);
                let bound = (k + 2) as f64 * 2f64.powi(-24) * size;
                assert!((got - sum).abs() <= bound, "{m}x{n}x{k} ({i},{j}): {got} {sum}");
            }
        }
        if !tc {
            assert!((0..m - 1).all(|i| c[i * rs_c + n..(i + 1) * rs_c].iter().all(|&x| x == 7.0)));
        }
    }

    #[test]
    fn shapes_strides_and_precisions() {
        let sizes = [
            (1, 1, 1),
            (5, 7, 3),
            (6, 64, 300),
            (7, 65, 257),
            (121, 2, 513),
            (130, 1, 40),
            (33, 130, 64),
            (250, 70, 1),
        ];
        for (m, n, k) in sizes {
            for bits in 0..16 {
                check_shape(m, n, k, bits & 1 > 0, bits & 2 > 0, bits & 4 > 0, bits & 8 > 0);
            }
        }
        check_shape(300, 200, 100, true, false, false, true);
    }

    #[test]
    fn an_empty_inner_extent_gives_zeros() {
        let mut c = vec![1.0f32; 12];
        let none = Operand { data: Elements::F32(&[]), rs: 0, cs: 1 };
        let shape = Shape { m: 3, n: 4, k: 0, rs_c: 4, cs_c: 1 };
        gemm(shape, none, none, &[Offsets::default()], Output::F32(&mut c), Epilogue::default());
        assert_eq!(c, [0.0; 12]);
    }

    #[test]
    fn sums_are_rounded_once_and_saturate() {
        let a = vec![f16::from_f32(32.0); 64 * 40];
        let ones = Operand { data: Elements::F16(&a), rs: 40, cs: 1 };
        let shape = Shape { m: 64, n: 3, k: 32, rs_c: 3, cs_c: 1 };
        let mut c = vec![f16::ZERO; 64 * 3];
        let round = Epilogue { accumulate: false, round: Some(32_768.0) };
        let b = Operand { data: Elements::F16(&a), rs: 3, cs: 1 };
        gemm(shape, ones, b, &[Offsets::default()], Output::F16(&mut c), round);
        assert!(c.iter().all(|x| *x == f16::INFINITY), "32·32·32 = 2^15 is out of range");
        gemm(Shape { k: 31, ..shape }, ones, b, &[Offsets::default()], Output::F16(&mut c), round);
        assert!(c.iter().all(|x| x.to_f32() == 31_744.0));
    }

    #[test]
    fn overlapping_results_are_found() {
        let s = Shape { m: 3, n: 4, k: 1, rs_c: 10, cs_c: 1 };
        let at = |c: &[usize]| c.iter().map(|&c| Offsets { a: 0, b: 0, c }).collect::<Vec<_>>();
        assert!(disjoint(&s, &at(&[0, 4, 30, 100])), "side by side in the same rows, and below");
        assert!(disjoint(&s, &at(&[0, 34])));
        for other in [0, 3, 7, 13, 17, 23] {
            assert!(!disjoint(&s, &at(&[50, 50 + other])), "{other}");
            assert!(!disjoint(&s, &at(&[50 + other, 50])), "{other}");
        }
        assert!(disjoint(&s, &at(&[0, 26])), "beyond the last row's end");
    }

    #[test]
    fn one_thread_and_two_give_the_same_bits() {
        let (m, n, k) = (257, 130, 300);
        let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0.0f32; m * n];
            let of = |v, rs| Operand { data: Elements::F32(v), rs, cs: 1 };
            let shape = Shape { m, n, k, rs_c: n, cs_c: 1 };
            pool.install(|| {
                gemm(
                    shape,
                    of(&a, k),
                    of(&b, n),
                    &[Offsets::default()],
                    Output::F32(&mut c),
                    Epilogue::default(),
                );
            });
            c.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(2));
    }
}
