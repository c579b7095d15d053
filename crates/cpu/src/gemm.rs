//! Matrix products: f16 or f32 operands of any strides, f32 accumulation over the whole inner
//! dimension, one rounding at the end.
//!
//! Structure (after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication",
//! 2008): a micro-kernel keeps a small tile of the result in registers; the right operand is
//! packed into panels as wide as that tile; f16 is converted to f32 while packing, never before.
//! A left operand of contiguous f32 rows is read in place. Work is cut into tiles that threads
//! take from one atomic counter, so a thread that is preempted delays one tile only.
//!
//! Each element of the result is the same sequence of operations whatever the number of threads
//! and the tiling: fused multiply-adds in order within a block of the inner dimension (whose
//! length depends on that dimension only), blocks added in order. Results are therefore equal, bit
//! for bit, for any number of threads.
#![allow(unsafe_code, reason = "SIMD micro-kernels, and threads that write disjoint tiles")]

use crate::simd::{self, Level, Round};
use crate::team::fan_out;
use half::f16;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::LocalKey;

mod kernel;
mod pack;
mod symmetric;
mod vector;

use kernel::{Kernels, Micro};
pub use symmetric::symmetric;

/// Elements of a matrix operand.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision, widened exactly.
    F16(&'a [f16]),
}

impl Elements<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Elements::F32(v) => v.len(),
            Elements::F16(v) => v.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A matrix operand: element (i, j) is at offset + i·rs + j·cs. A stride of 0 repeats a row or
/// column.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Where the elements are.
    pub data: Elements<'a>,
    /// Distance between rows.
    pub rs: usize,
    /// Distance between columns.
    pub cs: usize,
}

/// Where C goes.
#[derive(Debug)]
pub enum Output<'a> {
    /// Single precision.
    F32 {
        /// The elements.
        data: &'a mut [f32],
        /// Add to what is there, after rounding the product, instead of replacing it.
        accumulate: bool,
    },
    /// Half precision.
    F16(&'a mut [f16]),
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

/// Extents and strides shared by a batch of products C [m, n] = A [m, k] · B [k, n].
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B; 0 gives products of zeros.
    pub k: usize,
    /// Distance between rows of C.
    pub rs_c: usize,
    /// Distance between columns of C.
    pub cs_c: usize,
}

/// The extents of a product or of a part of one.
#[derive(Clone, Copy, Debug)]
struct Extents {
    m: usize,
    n: usize,
    k: usize,
}

impl Extents {
    fn new(m: usize, n: usize, k: usize) -> Self {
        Self { m, n, k }
    }

    fn flops(self) -> usize {
        self.m.saturating_mul(self.n).saturating_mul(self.k).saturating_mul(2)
    }
}

impl<'a> Operand<'a> {
    fn transposed(self) -> Self {
        Self { rs: self.cs, cs: self.rs, ..self }
    }

    /// A raw view of `rows` x `cols` elements from `offset` on, all of which were checked to exist.
    fn view(&self, rows: usize, cols: usize, offset: usize, name: &str) -> View {
        let (rs, cs, len) = (self.rs, self.cs, self.data.len());
        let start = checked_start([rows, cols], [rs, cs], offset, len, name);
        let ptr = match self.data {
            Elements::F32(data) => Ptr::F32(data[start..].as_ptr()),
            Elements::F16(data) => Ptr::F16(data[start..].as_ptr()),
        };
        View { ptr, rs, cs, len: len - start }
    }
}

/// The first index of a matrix; its last element was checked to lie within `len`.
fn checked_start(
    [rows, cols]: [usize; 2],
    [rs, cs]: [usize; 2],
    offset: usize,
    len: usize,
    name: &str,
) -> usize {
    if rows == 0 || cols == 0 {
        return 0;
    }
    let last = || {
        let down = (rows - 1).checked_mul(rs)?;
        let right = (cols - 1).checked_mul(cs)?;
        offset.checked_add(down)?.checked_add(right)
    };
    assert!(
        last().is_some_and(|last| last < len),
        "operand {name} [{rows}, {cols}] with strides [{rs}, {cs}] at {offset} exceeds its {len} \
         elements"
    );
    offset
}

#[derive(Clone, Copy)]
enum Ptr {
    F32(*const f32),
    F16(*const f16),
}

/// An operand with its bounds checked: `len` elements may be read from `ptr` on.
#[derive(Clone, Copy)]
struct View {
    ptr: Ptr,
    rs: usize,
    cs: usize,
    len: usize,
}

impl View {
    /// The view from element (i, j) on.
    fn at(self, i: usize, j: usize) -> Self {
        let d = i * self.rs + j * self.cs;
        let ptr = match self.ptr {
            // Wrapping, because past the last row nothing is read.
            Ptr::F32(p) => Ptr::F32(p.wrapping_add(d)),
            Ptr::F16(p) => Ptr::F16(p.wrapping_add(d)),
        };
        Self { ptr, len: self.len.saturating_sub(d), ..self }
    }

    fn transposed(self) -> Self {
        Self { rs: self.cs, cs: self.rs, ..self }
    }
}

#[derive(Clone, Copy)]
enum OutPtr {
    F32(*mut f32),
    F16(*mut f16),
}

#[derive(Clone, Copy)]
struct Out {
    ptr: OutPtr,
    rs: usize,
}

impl Out {
    fn at(self, offset: usize) -> Self {
        let ptr = match self.ptr {
            // Wrapping, because an empty result's offset was not checked.
            OutPtr::F32(p) => OutPtr::F32(p.wrapping_add(offset)),
            OutPtr::F16(p) => OutPtr::F16(p.wrapping_add(offset)),
        };
        Self { ptr, ..self }
    }
}

/// The rounding of a finished sum on its way to the result.
#[derive(Clone, Copy)]
struct Epilogue {
    /// Add to what an f32 result holds.
    accumulate: bool,
    /// Rounding before that.
    round: Option<Round>,
}

/// One product, ready to run.
#[derive(Clone, Copy)]
struct Job {
    shape: Extents,
    a: View,
    b: View,
    c: Out,
    epilogue: Epilogue,
    level: Level,
    /// True if only elements on and below the diagonal are wanted.
    lower: bool,
}

// SAFETY: the pointers come from borrows that outlive the call which made the job; operands are
// only read, and each element of the result belongs to one tile, which one thread writes.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

/// Products below this size run on the calling thread: waking another costs about as much.
pub(crate) const PARALLEL_FLOPS: usize = 1_000_000;

/// Computes a batch of products of equal shape on the threads of the current rayon pool:
/// C = round(A·B), or C + round(A·B) where the output accumulates. Without `round`, f32 results
/// are sums as they come (accumulated in place) and f16 results are rounded as IEEE 754 has it.
///
/// Results of one batch may share elements (a sum over the batch, where the output accumulates);
/// such products run one after the other.
///
/// # Panics
/// If an operand or C does not hold the elements that the shape, strides and offsets name, neither
/// stride of C is 1, or rows (columns, where `rs_c` is 1) of one result overlap.
pub fn gemm(
    shape: Shape,
    a: Operand<'_>,
    b: Operand<'_>,
    batch: &[Offsets],
    c: Output<'_>,
    round: Option<Round>,
) {
    let Shape { m, n, k, rs_c, cs_c } = shape;
    if m == 0 || n == 0 || batch.is_empty() {
        return;
    }
    // Rows of C are what is contiguous in memory: otherwise Cᵀ = Bᵀ·Aᵀ is computed.
    let flipped = n > 1 && cs_c != 1;
    let items = if flipped {
        assert!(rs_c == 1 || m == 1, "one stride of C must be 1, not [{rs_c}, {cs_c}]");
        let (a, b) = (b.transposed(), a.transposed());
        Items::new(Extents::new(n, m, k), a, b, batch, flipped, c, cs_c, round)
    } else {
        Items::new(Extents::new(m, n, k), a, b, batch, flipped, c, rs_c, round)
    };
    let one = items.shape.flops();
    let threads = thread_count(one.saturating_mul(batch.len()));
    if threads == 1 || batch.len() < 2 * threads || !are_disjoint(items.shape, items.c.rs, batch) {
        for i in 0..batch.len() {
            run(items.job(i), thread_count(one));
        }
        return;
    }
    let next = AtomicUsize::new(0);
    fan_out(threads, &|| {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= batch.len() {
                break;
            }
            run(items.job(i), 1);
        }
    });
}

/// A batch whose bounds were checked.
struct Items<'a> {
    shape: Extents,
    a: Operand<'a>,
    b: Operand<'a>,
    batch: &'a [Offsets],
    /// True if `a` and `b` are the transposes of what the offsets call b and a.
    flipped: bool,
    /// The beginning of the result's storage.
    c: Out,
    epilogue: Epilogue,
    level: Level,
}

// SAFETY: `c` points to storage borrowed for the whole call, of which products that run at once
// write disjoint parts.
unsafe impl Sync for Items<'_> {}

impl<'a> Items<'a> {
    /// Checks every product of the batch.
    #[allow(clippy::too_many_arguments, reason = "the arguments of the public function")]
    fn new(
        shape: Extents,
        a: Operand<'a>,
        b: Operand<'a>,
        batch: &'a [Offsets],
        flipped: bool,
        c: Output<'_>,
        rs: usize,
        round: Option<Round>,
    ) -> Self {
        let Extents { m, n, .. } = shape;
        assert!(m == 1 || rs >= n, "rows of the result overlap: {n} elements, {rs} apart");
        let (ptr, len, accumulate) = match c {
            Output::F32 { data, accumulate } => {
                (OutPtr::F32(data.as_mut_ptr()), data.len(), accumulate)
            }
            Output::F16(data) => (OutPtr::F16(data.as_mut_ptr()), data.len(), false),
        };
        let (c, epilogue) = (Out { ptr, rs }, Epilogue { accumulate, round });
        let items = Self { shape, a, b, batch, flipped, c, epilogue, level: Level::best() };
        for (i, o) in batch.iter().enumerate() {
            checked_start([m, n], [rs, 1], o.c, len, "c");
            items.job(i);
        }
        items
    }

    fn job(&self, i: usize) -> Job {
        let Extents { m, n, k } = self.shape;
        let o = self.batch[i];
        let (a, b) = if self.flipped { (o.b, o.a) } else { (o.a, o.b) };
        Job {
            shape: self.shape,
            a: self.a.view(m, k, a, "a"),
            b: self.b.view(k, n, b, "b"),
            c: self.c.at(o.c),
            epilogue: self.epilogue,
            level: self.level,
            lower: false,
        }
    }
}

/// True if no two results share an element; `false` also where that is not cheaply seen.
///
/// Each result is a rectangle on a grid of `rs` columns. In a sequence where each rectangle lies
/// wholly below its predecessor, or beside it in the same rows, no two overlap.
fn are_disjoint(shape: Extents, rs: usize, batch: &[Offsets]) -> bool {
    let Extents { m, n, .. } = shape;
    if m == 1 {
        return batch.windows(2).all(|pair| pair[1].c >= pair[0].c.saturating_add(n));
    }
    let place = |o: &Offsets| (o.c / rs, o.c % rs);
    batch.iter().all(|o| place(o).1 + n <= rs)
        && batch.windows(2).all(|pair| {
            let ((row0, column0), (row1, column1)) = (place(&pair[0]), place(&pair[1]));
            row1 >= row0 + m || (row1 == row0 && column1 >= column0 + n)
        })
}

fn thread_count(flops: usize) -> usize {
    if flops < PARALLEL_FLOPS { 1 } else { rayon::current_num_threads() }
}

/// Transposes `from`, rows of `columns` elements, into `to`.
///
/// # Panics
/// If `from` is not whole rows, or `to` has another length.
pub fn transpose(from: &[f32], columns: usize, to: &mut [f32]) {
    assert!(columns > 0 && from.len().is_multiple_of(columns), "whole rows are transposed");
    assert_eq!(from.len(), to.len(), "a transpose has as many elements");
    let rows = from.len() / columns;
    if rows == 1 || columns == 1 {
        return to.copy_from_slice(from);
    }
    transpose_part([rows, columns], (from, columns), (to, rows));
}

/// As [`transpose`], of `rows` x `columns` elements, between rows with these distances.
pub(crate) fn transpose_part(
    [rows, columns]: [usize; 2],
    (from, from_row): (&[f32], usize),
    (to, to_row): (&mut [f32], usize),
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!((rows - 1) * from_row + columns <= from.len(), "elements that exist");
    assert!((columns - 1) * to_row + rows <= to.len() && rows <= to_row, "places that exist");
    let view = View { ptr: Ptr::F32(from.as_ptr()), rs: 1, cs: from_row, len: from.len() };
    // SAFETY: both lie within their slices.
    unsafe { pack::transpose(Level::best(), view, columns, rows, to_row, to.as_mut_ptr()) };
}

// ---------------------------------------------------------------------------------------------
// Workspaces
// ---------------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// f32 storage aligned to cache lines, which grows and is then reused.
#[derive(Default)]
struct Buffer(Vec<Line>);

impl Buffer {
    /// At least `len` elements of unspecified finite content.
    fn get(&mut self, len: usize) -> *mut f32 {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; 16]));
        }
        self.0.as_mut_ptr().cast()
    }
}

/// The memory of one call besides its threads' own.
#[derive(Default)]
struct Shared {
    b: Buffer,
    c: Buffer,
}

/// The memory of one thread for one tile.
#[derive(Default)]
struct Private {
    a: Buffer,
    b: Buffer,
    c: Buffer,
}

/// The workspaces that a thread is not using.
type Shelf<T> = Cell<Vec<Box<T>>>;

thread_local! {
    static SHARED: Shelf<Shared> = const { Cell::new(Vec::new()) };
    static PRIVATE: Shelf<Private> = const { Cell::new(Vec::new()) };
}

/// Lends a workspace of this thread. A product that begins while this thread waits inside another
/// one takes the next from the shelf; all return to it, so that none is made twice.
fn with<T: Default, R>(shelf: &'static LocalKey<Shelf<T>>, f: impl FnOnce(&mut T) -> R) -> R {
    let take = |shelf: &Shelf<T>| {
        let mut spaces = shelf.take();
        let space = spaces.pop();
        shelf.set(spaces);
        space
    };
    let mut space = shelf.with(take).unwrap_or_default();
    let result = f(&mut space);
    shelf.with(|shelf| {
        let mut spaces = shelf.take();
        spaces.push(space);
        shelf.set(spaces);
    });
    result
}

// ---------------------------------------------------------------------------------------------
// Blocking
// ---------------------------------------------------------------------------------------------

/// The aimed-at length of a block of the inner dimension: a panel of the right operand, 64 x 256
/// f32, then takes 64 KiB of the second-level cache.
const BLOCK_K: usize = 256;
/// The most rows of one tile.
const TILE_ROWS: usize = 96;
/// The most columns of one tile: 256 x 256 f32 of the right operand take 256 KiB.
const TILE_COLUMNS: usize = 256;
/// The longest inner dimension of one packed part of the right operand.
const PACKED_K: usize = 2048;
/// The most elements of one packed part of the right operand (4 MiB).
const PACKED: usize = 1 << 20;
/// The most partial sums kept between packed parts (8 MiB).
const PARTIAL: usize = 1 << 21;

/// The length of blocks of the inner dimension: even, near [`BLOCK_K`], a function of `k` alone.
fn block_length(k: usize) -> usize {
    let blocks = ((k + BLOCK_K / 2) / BLOCK_K).max(1);
    k.div_ceil(blocks).next_multiple_of(8).max(8)
}

fn run(job: Job, threads: usize) {
    let Extents { m, n, k } = job.shape;
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        return empty(&job);
    }
    if (m == 1 || n == 1) && vector::product(&job, threads) {
        return;
    }
    let kernels = Kernels::new(job.level, n);
    // Up to a few hundred rows, packing for each tile costs less than waiting for one another, as
    // long as the left operand needs no packing.
    let few = if Left::of(&job.a) == Left::InPlace { 2 * TILE_ROWS } else { TILE_ROWS };
    if m <= few {
        narrow_product(&job, &kernels, threads)
    } else {
        product(&job, &kernels, threads)
    }
}

/// How the left operand reaches the micro-kernel.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    /// Rows of f32 read in place.
    InPlace,
    /// Rows converted or gathered, one sliver at a time.
    Rows,
    /// Columns contiguous in memory: slivers of `mr` interleaved rows, a whole tile at a time.
    Columns,
}

impl Left {
    fn of(a: &View) -> Self {
        match a.ptr {
            Ptr::F32(_) if a.cs == 1 => Self::InPlace,
            _ if a.rs == 1 && a.cs != 1 => Self::Columns,
            _ => Self::Rows,
        }
    }
}

/// Where partial sums of a tile are kept.
#[derive(Clone, Copy)]
enum Sums {
    /// In the f32 result itself.
    Result(*mut f32, usize),
    /// In a buffer padded to whole register tiles.
    Temporary(*mut f32, usize),
}

/// A rectangle of the result.
#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
}

/// One block of the inner dimension.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    len: usize,
    /// True if it is the first of the product, so that it overwrites the sums.
    first: bool,
}

/// The panels of the right operand for one tile and block: whole panel `i` begins at
/// `base + i * panel` and its rows are `row` apart; a last panel of fewer columns is packed at
/// `tail`, rows of whole vectors one after the other.
#[derive(Clone, Copy)]
struct Panels {
    base: *const f32,
    panel: usize,
    row: usize,
    tail: *const f32,
}

impl Job {
    /// True if the sums can be kept in the result itself.
    fn sums_in_result(&self) -> Option<(*mut f32, usize)> {
        match self.c.ptr {
            OutPtr::F32(p) if self.epilogue.round.is_none() => Some((p, self.c.rs)),
            _ => None,
        }
    }

    /// How many columns of a tile have wanted elements in its first `rows` rows.
    fn reach(&self, tile: Tile, rows: usize) -> usize {
        match self.lower {
            true => (tile.row + rows).saturating_sub(tile.column).min(tile.columns),
            false => tile.columns,
        }
    }

    /// Adds the products of one block to the sums of one tile.
    ///
    /// # Safety
    /// `panels` holds the right operand for the tile and block, `sums` room for the tile, and no
    /// other thread touches the tile's sums.
    unsafe fn block(
        &self,
        kernels: &Kernels,
        tile: Tile,
        block: Block,
        panels: Panels,
        sums: Sums,
        space: &mut Buffer,
    ) {
        let (mr, nr) = (kernels.mr, kernels.nr);
        let left = Left::of(&self.a);
        let slivers = tile.rows.div_ceil(mr);
        let a = self.a.at(tile.row, block.start);
        // Packing by whole vectors writes a surplus of up to 15 elements.
        let sliver = mr * block.len + 16;
        let buffer = space.get(if left == Left::Columns { slivers * sliver } else { sliver });
        // SAFETY: the buffer holds what the packing functions write (their contracts); panels and
        // sums are the caller's promise.
        unsafe {
            if left == Left::Columns {
                pack::columns(self.level, a, tile.rows, mr, block.len, buffer, sliver);
            }
            for s in 0..slivers {
                let rows = mr.min(tile.rows - s * mr);
                let reach = self.reach(tile, s * mr + rows);
                if reach == 0 {
                    continue;
                }
                let (a_ptr, a_rs) = match (left, a.ptr) {
                    (Left::Columns, _) => (buffer.add(s * sliver).cast_const(), 0),
                    (Left::InPlace, Ptr::F32(p)) if rows == mr => (p.add(s * mr * a.rs), a.rs),
                    _ => {
                        pack::rows(self.level, a.at(s * mr, 0), rows, mr, block.len, buffer);
                        (buffer.cast_const(), block.len)
                    }
                };
                let mut j = 0;
                while j < reach {
                    let columns = nr.min(tile.columns - j);
                    let vectors = columns.div_ceil(kernels.lanes);
                    let micro = kernels.micro(left == Left::Columns, vectors);
                    let width = vectors * kernels.lanes;
                    let (b, b_rs) = if columns == nr {
                        (panels.base.add(j / nr * panels.panel), panels.row)
                    } else {
                        (panels.tail, width)
                    };
                    let corner = Corner { row: s * mr, rows, column: j, columns, width };
                    let operands = Operands { k: block.len, a: a_ptr, a_rs, b, b_rs };
                    self.register_tile(micro, mr, operands, tile, corner, sums, block.first);
                    j += nr;
                }
            }
        }
    }

    /// One register tile into its place.
    ///
    /// # Safety
    /// As for [`Job::block`].
    #[allow(clippy::too_many_arguments, reason = "the innermost step sees all of the blocking")]
    #[inline]
    unsafe fn register_tile(
        &self,
        micro: Micro,
        mr: usize,
        o: Operands,
        tile: Tile,
        corner: Corner,
        sums: Sums,
        first: bool,
    ) {
        // SAFETY: a temporary is padded to whole register tiles; in the result, partial register
        // tiles go through `edge`.
        unsafe {
            match sums {
                Sums::Temporary(c, rs) => {
                    let c = c.add(corner.row * rs + corner.column);
                    micro(o.k, o.a, o.a_rs, o.b, o.b_rs, c, rs, !first);
                }
                Sums::Result(c, rs) => {
                    let add = !first || self.epilogue.accumulate;
                    let at = (tile.row + corner.row) * rs + tile.column + corner.column;
                    let c = c.add(at);
                    if corner.rows == mr && corner.columns == corner.width {
                        micro(o.k, o.a, o.a_rs, o.b, o.b_rs, c, rs, add);
                        return;
                    }
                    let mut edge = [Line([0.0; 16]); kernel::MAX_TILE / 16];
                    let e = edge.as_mut_ptr().cast::<f32>();
                    micro(o.k, o.a, o.a_rs, o.b, o.b_rs, e, corner.width, false);
                    for r in 0..corner.rows {
                        for j in 0..corner.columns {
                            let (to, v) = (c.add(r * rs + j), *e.add(r * corner.width + j));
                            *to = if add { *to + v } else { v };
                        }
                    }
                }
            }
        }
    }

    /// Applies the epilogue to a tile's sums, kept in a temporary of row stride `rs`.
    ///
    /// # Safety
    /// `sums` holds the tile; no other thread touches it or the tile's part of the result.
    unsafe fn finish(&self, tile: Tile, sums: *mut f32, rs: usize) {
        for r in 0..tile.rows {
            let at = (tile.row + r) * self.c.rs + tile.column;
            // SAFETY: the row lies in the temporary and in the result, by the caller's promise and
            // the checks at the door.
            unsafe {
                let row = std::slice::from_raw_parts_mut(sums.add(r * rs), tile.columns);
                match self.c.ptr {
                    OutPtr::F32(c) => {
                        let c = std::slice::from_raw_parts_mut(c.add(at), tile.columns);
                        self.finish_f32(row, c);
                    }
                    OutPtr::F16(c) => {
                        let c = std::slice::from_raw_parts_mut(c.add(at), tile.columns);
                        self.finish_f16(row, c);
                    }
                }
            }
        }
    }

    fn finish_f32(&self, row: &mut [f32], c: &mut [f32]) {
        if let Some(round) = self.epilogue.round {
            simd::round_f16(row, round);
        }
        if self.epilogue.accumulate {
            simd::add(c, row);
        } else {
            c.copy_from_slice(row);
        }
    }

    fn finish_f16(&self, row: &[f32], c: &mut [f16]) {
        simd::narrow(row, c, self.epilogue.round.unwrap_or(Round::IEEE));
    }
}

#[derive(Clone, Copy)]
struct Operands {
    k: usize,
    a: *const f32,
    a_rs: usize,
    b: *const f32,
    b_rs: usize,
}

/// A register tile within a tile; `width` is `columns` rounded up to whole vectors.
#[derive(Clone, Copy)]
struct Corner {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
    width: usize,
}

/// Rows of a tile, a multiple of `mr`, such that each thread gets several tiles.
fn tile_rows(rows: usize, column_tiles: usize, mr: usize, threads: usize) -> usize {
    let mut size = TILE_ROWS;
    while threads > 1 && size > 24 && rows.div_ceil(size) * column_tiles < 6 * threads {
        size /= 2;
    }
    // Even tiles, so that the last is no crumb.
    rows.div_ceil(rows.div_ceil(size)).next_multiple_of(mr)
}

/// Waits until `counter` reaches `value`: at first without the system's help, as the wait is for
/// one tile of another running thread.
fn wait_for(counter: &AtomicUsize, value: usize) {
    let mut spins = 0;
    while counter.load(Ordering::Acquire) < value {
        if spins < 4096 {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// How a product with many rows is cut: parts of the right operand are packed one after the other,
/// each by all threads together, then all threads compute the tiles that use it.
struct Plan {
    kc: usize,
    /// Extents of a part.
    part: Extents,
    /// Numbers of parts.
    parts: Extents,
    tile: (usize, usize),
    /// Units of work of one part: packings, then tiles.
    pack_units: usize,
    tile_units: usize,
}

impl Plan {
    fn new(job: &Job, kernels: &Kernels, threads: usize) -> Self {
        let Extents { m, n, k } = job.shape;
        let nr = kernels.nr;
        let kc = block_length(k);
        let part_k = k.min((PACKED_K / kc).max(1) * kc).max(1);
        let most = (PACKED / part_k / nr * nr).max(nr);
        let part_n = n.div_ceil(n.div_ceil(most)).next_multiple_of(nr);
        let single = k <= part_k || job.sums_in_result().is_some();
        let most = if single { m } else { (PARTIAL / part_n).max(TILE_ROWS) };
        let part_m = m.div_ceil(m.div_ceil(most)).next_multiple_of(kernels.mr);
        let columns = TILE_COLUMNS.next_multiple_of(nr).min(part_n);
        let column_tiles = part_n.div_ceil(columns);
        let columns = part_n.div_ceil(column_tiles).next_multiple_of(nr);
        let rows = tile_rows(part_m, column_tiles, kernels.mr, threads);
        Self {
            kc,
            part: Extents::new(part_m, part_n, part_k),
            parts: Extents::new(m.div_ceil(part_m), n.div_ceil(part_n), k.div_ceil(part_k).max(1)),
            tile: (rows, columns),
            pack_units: part_n.div_ceil(nr) * part_k.div_ceil(kc),
            tile_units: part_m.div_ceil(rows) * part_n.div_ceil(columns),
        }
    }
}

/// A product with many rows: the right operand is packed once, by all threads.
fn product(job: &Job, kernels: &Kernels, threads: usize) {
    let plan = Plan::new(job, kernels, threads);
    let unit_count = plan.pack_units + plan.tile_units;
    let total = unit_count * plan.parts.m * plan.parts.n * plan.parts.k;
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    with(&SHARED, |shared| {
        let partial = plan.parts.k > 1 && job.sums_in_result().is_none();
        let stage = Stage {
            job,
            kernels,
            plan: &plan,
            packed: shared.b.get(plan.part.k * plan.part.n),
            sums: if partial {
                shared.c.get(plan.part.m * plan.part.n)
            } else {
                std::ptr::null_mut()
            },
        };
        fan_out(threads, &|| {
            with(&PRIVATE, |private| {
                loop {
                    let ticket = next.fetch_add(1, Ordering::Relaxed);
                    if ticket >= total {
                        break;
                    }
                    let (part, unit) = (ticket / unit_count, ticket % unit_count);
                    if unit < plan.pack_units {
                        // The tiles of the part before this one read what is about to be replaced.
                        wait_for(&done, part * unit_count);
                        stage.pack(part, unit);
                    } else {
                        wait_for(&done, part * unit_count + plan.pack_units);
                        stage.tile(part, unit - plan.pack_units, private);
                    }
                    done.fetch_add(1, Ordering::Release);
                }
            });
        });
    });
}

/// A product in progress.
struct Stage<'a> {
    job: &'a Job,
    kernels: &'a Kernels,
    plan: &'a Plan,
    packed: *mut f32,
    sums: *mut f32,
}

// SAFETY: `packed` and `sums` outlive the threads' work; units of one phase write disjoint parts of
// them, and phases are separated by `wait_for`, whose acquire pairs with the release of `done`.
unsafe impl Sync for Stage<'_> {}

impl Stage<'_> {
    /// The first row, column and inner index of a part; the inner dimension runs fastest.
    fn origin(&self, part: usize) -> Extents {
        let Plan { part: size, parts, .. } = self.plan;
        let (rest, k) = (part / parts.k, part % parts.k);
        Extents::new(rest % parts.m * size.m, rest / parts.m * size.n, k * size.k)
    }

    /// Packs one panel of one block.
    fn pack(&self, part: usize, unit: usize) {
        let (plan, nr, at) = (self.plan, self.kernels.nr, self.origin(part));
        let Extents { n, k, .. } = self.job.shape;
        let blocks = plan.part.k.div_ceil(plan.kc);
        let (panel, block) = (unit / blocks, unit % blocks);
        let (j, p) = (at.n + panel * nr, at.k + block * plan.kc);
        if j >= n || p >= k.min(at.k + plan.part.k) {
            return;
        }
        let columns = nr.min(n - j);
        let width = columns.next_multiple_of(self.kernels.lanes);
        let len = plan.kc.min(k - p);
        // SAFETY: panels and blocks are disjoint, of at most `kc * nr` elements each.
        unsafe {
            let to = self.packed.add(panel * nr * plan.part.k + block * plan.kc * width);
            pack::panel(self.job.level, self.job.b.at(p, j), len, columns, width, to);
        }
    }

    /// Computes one tile over the part's inner dimension.
    fn tile(&self, part: usize, unit: usize, private: &mut Private) {
        let (plan, at, job) = (self.plan, self.origin(part), self.job);
        let Extents { m, n, k } = job.shape;
        let (rows, columns) = plan.tile;
        let column_tiles = plan.part.n.div_ceil(columns);
        let (i, j) = (unit / column_tiles * rows, unit % column_tiles * columns);
        let end = (m.min(at.m + plan.part.m), n.min(at.n + plan.part.n));
        let (row, column) = (at.m + i, at.n + j);
        if row >= end.0 || column >= end.1 {
            return;
        }
        let tile =
            Tile { row, rows: rows.min(end.0 - row), column, columns: columns.min(end.1 - column) };
        if job.reach(tile, tile.rows) == 0 {
            return;
        }
        let sums = match job.sums_in_result() {
            Some((c, rs)) => Sums::Result(c, rs),
            None if self.sums.is_null() => {
                let rs = tile.columns.next_multiple_of(self.kernels.nr);
                let c = private.c.get(tile.rows.next_multiple_of(self.kernels.mr) * rs);
                Sums::Temporary(c, rs)
            }
            None => {
                let rs = plan.part.n;
                // SAFETY: (i, j) lies within the part.
                Sums::Temporary(unsafe { self.sums.add(i * rs + j) }, rs)
            }
        };
        let k_end = k.min(at.k + plan.part.k);
        let nr = self.kernels.nr;
        for start in (at.k..k_end).step_by(plan.kc) {
            let block = Block { start, len: plan.kc.min(k_end - start), first: start == 0 };
            let panel = nr * plan.part.k;
            let (first, last) = (j / nr, (j + tile.columns) / nr);
            let width = (tile.columns % nr).next_multiple_of(self.kernels.lanes);
            // SAFETY: the part is packed as `Stage::pack` lays it out; this thread alone has the
            // tile.
            unsafe {
                let base = self.packed.add(first * panel + (start - at.k) * nr);
                let tail = self.packed.wrapping_add(last * panel + (start - at.k) * width);
                let panels = Panels { base, panel, row: nr, tail };
                job.block(self.kernels, tile, block, panels, sums, &mut private.a);
            }
        }
        if let (Sums::Temporary(c, rs), true) = (sums, k_end == k) {
            // SAFETY: as above; the sums are complete.
            unsafe { job.finish(tile, c, rs) };
        }
    }
}

/// A product with few rows: each tile packs the part of the right operand that it alone uses, or
/// reads it in place, so that a large operand is streamed once.
fn narrow_product(job: &Job, kernels: &Kernels, threads: usize) {
    let Extents { m, n, .. } = job.shape;
    let nr = kernels.nr;
    let mut columns = TILE_COLUMNS.next_multiple_of(nr).min(n.next_multiple_of(nr));
    while threads > 1 && columns > nr && n.div_ceil(columns) < 4 * threads {
        columns = (columns / 2).next_multiple_of(nr);
    }
    let column_tiles = n.div_ceil(columns);
    let rows = if column_tiles < threads { m.div_ceil(threads) } else { m };
    let rows = rows.next_multiple_of(kernels.mr).min(m);
    let total = column_tiles * m.div_ceil(rows);
    let next = AtomicUsize::new(0);
    fan_out(threads.min(total), &|| {
        with(&PRIVATE, |private| {
            loop {
                let unit = next.fetch_add(1, Ordering::Relaxed);
                if unit >= total {
                    break;
                }
                let (row, column) = (unit / column_tiles * rows, unit % column_tiles * columns);
                let tile =
                    Tile { row, rows: rows.min(m - row), column, columns: columns.min(n - column) };
                narrow_tile(job, kernels, tile, private);
            }
        });
    });
}

/// The most elements of the right operand's block that are read in place by many slivers.
const IN_PLACE: usize = 8192;

fn narrow_tile(job: &Job, kernels: &Kernels, tile: Tile, private: &mut Private) {
    if job.reach(tile, tile.rows) == 0 {
        return;
    }
    let k = job.shape.k;
    let (mr, nr) = (kernels.mr, kernels.nr);
    let kc = block_length(k);
    let (whole, rest) = (tile.columns / nr * nr, tile.columns % nr);
    let width = rest.next_multiple_of(kernels.lanes);
    let in_place = match job.b.ptr {
        Ptr::F32(_) => job.b.cs == 1 && (tile.rows <= 4 * mr || kc.min(k) * job.b.rs <= IN_PLACE),
        Ptr::F16(_) => false,
    };
    let sums = match job.sums_in_result() {
        Some((c, rs)) => Sums::Result(c, rs),
        None => {
            let rs = tile.columns.next_multiple_of(nr);
            Sums::Temporary(private.c.get(tile.rows.next_multiple_of(mr) * rs), rs)
        }
    };
    let buffer = private.b.get(kc * tile.columns.next_multiple_of(nr));
    for start in (0..k).step_by(kc) {
        let block = Block { start, len: kc.min(k - start), first: start == 0 };
        // SAFETY: the buffer holds the tile's columns of one block, rounded up to whole panels;
        // operands are read within their checked bounds; this thread alone has the tile.
        unsafe {
            let tail = buffer.add(whole * block.len);
            let mut panels = Panels { base: buffer, panel: nr * block.len, row: nr, tail };
            match job.b.at(start, tile.column).ptr {
                Ptr::F32(base) if in_place => {
                    panels = Panels { base, panel: nr, row: job.b.rs, tail };
                }
                _ => {
                    for j in (0..whole).step_by(nr) {
                        let from = job.b.at(start, tile.column + j);
                        pack::panel(job.level, from, block.len, nr, nr, buffer.add(j * block.len));
                    }
                }
            }
            if rest > 0 {
                let from = job.b.at(start, tile.column + whole);
                pack::panel(job.level, from, block.len, rest, width, buffer.add(whole * block.len));
            }
            job.block(kernels, tile, block, panels, sums, &mut private.a);
        }
    }
    if let Sums::Temporary(c, rs) = sums {
        // SAFETY: as above; the sums are complete.
        unsafe { job.finish(tile, c, rs) };
    }
}

/// A product over no inner dimension: the epilogue of zeros.
fn empty(job: &Job) {
    let Extents { m, n, .. } = job.shape;
    with(&PRIVATE, |private| {
        let zeros = private.c.get(n);
        for row in 0..m {
            // SAFETY: the buffer holds `n` elements; the row is within the result.
            unsafe {
                std::slice::from_raw_parts_mut(zeros, n).fill(0.0);
                job.finish(Tile { row, rows: 1, column: 0, columns: n }, zeros, n);
            }
        }
    });
}

#[cfg(test)]
mod tests;
