//! Weights packed for products with few columns, such as those of text generation.
//!
//! A product of a weight matrix with one column reads every weight once: memory decides its speed. A
//! [`Matrix`] is therefore stored in the order in which it is read, as f32, as f16, or as int8 with a
//! scale for every 32 weights of a row ([`WeightFormat`]). Rows come in panels of 32: element (row, k)
//! of a panel lies at k·32 + row, so that one vector holds a weight of several rows, and one panel is
//! one sequential stream. Codes of int8 lie four by four.
//!
//! Each element of a result is one chain of fused multiply-adds over k, from the first to the last; halves are
//! widened exactly, so a product is that of the rounded weights. With int8, columns are rounded too: 32 consecutive
//! elements share a scale s = max|x|/127, and each becomes the integer nearest to x/s, ties to even. The products of
//! 32 codes are summed exactly, and then, group after group,
//!
//! ```text
//! sum ← fma(f32(Σ code_w·code_x), scale_w·scale_x, sum)
//! ```
//!
//! A result does not depend on the number of columns, the place of its column among them, or the number of
//! threads: a token's results are the same bits alone and in any batch. Those of int8 do not depend on the
//! machine either, however its instructions add integers.
#![allow(unsafe_code, reason = "SIMD kernels, and threads that write disjoint parts")]

use crate::gemm::{self, PARALLEL_FLOPS};
use crate::simd::{self, Level, dispatch};
use crate::team::{fan_out, for_each_chunk, is_assembled};
use half::f16;
use int8::{Group, QUAD};
use rayon::prelude::*;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

mod int8;
mod kernel;
#[cfg(test)]
mod tests;

/// Rows of a panel.
const PANEL: usize = 32;
/// Elements of a row or column that share a scale.
const GROUP: usize = 32;
/// The fewest columns for which floating-point weights are widened once for all of them, and columns are packed.
const WIDE: usize = 16;
/// Weights of a row that are taken at a time: with 32 rows, 24 KiB of f32, which stay in the first-level
/// cache while all columns pass.
const BLOCK: usize = 192;
/// Columns that one task packs.
const PACKED: usize = 48;
/// Columns that one task rounds to codes.
const ROUNDED: usize = 16;

/// Products below this size run on one thread even where others stand by: some microseconds of work.
const ASSEMBLED_FLOPS: usize = 50_000;

/// Units of work for each thread of a product: one that comes late takes fewer.
const UNITS: usize = 4;

/// How weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// Single precision.
    #[default]
    F32,
    /// Half precision, rounded to nearest even.
    F16,
    /// Integers of 8 bits; 32 consecutive weights of a row share a binary16 scale (GGUF's Q8_0). Products round
    /// their columns to 8 bits too.
    Int8,
}

impl WeightFormat {
    /// All formats.
    pub const ALL: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Int8];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::F16 => "f16",
            WeightFormat::Int8 => "int8",
        }
    }
}

/// Storage aligned to cache lines.
#[derive(Clone, Debug)]
struct Lines(Vec<Line>);

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// An element for which all bytes are valid and which has no padding.
trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for f16 {}
impl Plain for i8 {}

impl Lines {
    /// Room for `count` elements, all zero.
    fn zeros<T: Plain>(count: usize) -> Self {
        Lines(vec![Line([0; 64]); (count * size_of::<T>()).div_ceil(64)])
    }

    fn elements<T: Plain>(&self) -> &[T] {
        let count = self.0.len() * 64 / size_of::<T>();
        // SAFETY: the lines are initialised, aligned to 64 bytes, and any bytes are elements.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), count) }
    }

    fn elements_mut<T: Plain>(&mut self) -> &mut [T] {
        let count = self.0.len() * 64 / size_of::<T>();
        // SAFETY: as above; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), count) }
    }
}

/// The elements of a matrix, panel after panel.
#[derive(Clone, Debug)]
enum Panels {
    F32(Lines),
    F16(Lines),
    /// Whole groups, zeros after the last element. Code (row, k) of a panel lies at (k / 4)·128 + row·4 +
    /// k mod 4, the scale of (row, group) at group·32 + row.
    Int8 {
        codes: Lines,
        scales: Lines,
    },
}

/// A matrix of weights, packed; see the module.
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    panels: Panels,
}

impl Matrix {
    /// Packs `values`, `rows` rows of equal length.
    ///
    /// # Panics
    /// If `values` are not whole rows.
    pub fn new(format: WeightFormat, rows: usize, values: &[f32]) -> Self {
        assert!(rows > 0 && values.len().is_multiple_of(rows), "whole rows are packed");
        let columns = values.len() / rows;
        let count = rows.div_ceil(PANEL) * PANEL * columns;
        let panels = match format {
            WeightFormat::F32 => {
                let mut lines = Lines::zeros::<f32>(count);
                interleave(values, columns, &mut lines.elements_mut()[..count], |w| w);
                Panels::F32(lines)
            }
            WeightFormat::F16 => {
                let mut lines = Lines::zeros::<f16>(count);
                interleave(values, columns, &mut lines.elements_mut()[..count], f16::from_f32);
                Panels::F16(lines)
            }
            WeightFormat::Int8 => quantised(rows, values, columns),
        };
        Matrix { rows, columns, panels }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How the weights are stored.
    pub fn format(&self) -> WeightFormat {
        match self.panels {
            Panels::F32(_) => WeightFormat::F32,
            Panels::F16(_) => WeightFormat::F16,
            Panels::Int8 { .. } => WeightFormat::Int8,
        }
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        match &self.panels {
            Panels::F32(lines) | Panels::F16(lines) => 64 * lines.0.len(),
            Panels::Int8 { codes, scales } => 64 * (codes.0.len() + scales.0.len()),
        }
    }

    /// The weight at (`row`, `column`), as products use it.
    ///
    /// # Panics
    /// If the matrix does not have it.
    pub fn get(&self, row: usize, column: usize) -> f32 {
        assert!(row < self.rows && column < self.columns, "an element of the matrix");
        let (panel, lane) = (row / PANEL, row % PANEL);
        let at = (panel * self.columns + column) * PANEL + lane;
        match &self.panels {
            Panels::F32(lines) => lines.elements::<f32>()[at],
            Panels::F16(lines) => lines.elements::<f16>()[at].to_f32(),
            Panels::Int8 { codes, scales } => {
                let group = panel * self.groups() + column / GROUP;
                let scale = scales.elements::<f16>()[group * PANEL + lane].to_f32();
                let code = group * GROUP * PANEL + place_of_code(lane, column % GROUP);
                f32::from(codes.elements::<i8>()[code]) * scale
            }
        }
    }

    /// Groups of a row.
    fn groups(&self) -> usize {
        self.columns.div_ceil(GROUP)
    }

    fn panel_count(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }
}

/// Writes rows of `columns` elements as panels; rows that are missing in the last one stay zero.
fn interleave<T: Plain + Send>(
    values: &[f32],
    columns: usize,
    to: &mut [T],
    convert: impl Fn(f32) -> T + Sync,
) {
    let panel = (PANEL * columns).max(1);
    to.par_chunks_mut(panel).zip(values.par_chunks(panel)).for_each(|(to, values)| {
        for (lane, row) in values.chunks_exact(columns).enumerate() {
            row.iter().zip(to[lane..].iter_mut().step_by(PANEL)).for_each(|(&w, to)| {
                *to = convert(w);
            });
        }
    });
}

/// Where code (row, k) of a panel lies.
fn place_of_code(row: usize, k: usize) -> usize {
    (k / QUAD * PANEL + row) * QUAD + k % QUAD
}

/// Rounds groups of weights as GGUF's Q8_0 does: the largest magnitude becomes 127.
fn quantised(rows: usize, values: &[f32], columns: usize) -> Panels {
    let scale_count = columns.div_ceil(GROUP) * PANEL;
    let count = rows.div_ceil(PANEL) * scale_count;
    let mut codes = Lines::zeros::<i8>(count * GROUP);
    let mut scales = Lines::zeros::<f16>(count);
    (codes.elements_mut::<i8>()[..count * GROUP].par_chunks_mut((scale_count * GROUP).max(1)))
        .zip(scales.elements_mut::<f16>()[..count].par_chunks_mut(scale_count.max(1)))
        .zip(values.par_chunks((PANEL * columns).max(1)))
        .for_each(|((codes, scales), values)| {
            for (lane, row) in values.chunks_exact(columns).enumerate() {
                for (g, group) in row.chunks(GROUP).enumerate() {
                    let (scale, inverse) = scale_of(group);
                    scales[g * PANEL + lane] = scale;
                    for (i, &w) in group.iter().enumerate() {
                        let code = (w * inverse).round().clamp(-127.0, 127.0);
                        codes[place_of_code(lane, g * GROUP + i)] = code as i8;
                    }
                }
            }
        });
    Panels::Int8 { codes, scales }
}

/// The scale of a group, and what its weights are multiplied by to become integers.
fn scale_of(group: &[f32]) -> (f16, f32) {
    let largest = group.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
    let scale = largest / 127.0;
    (f16::from_f32(scale), if scale > 0.0 { 1.0 / scale } else { 0.0 })
}

/// The right operand: element (k, t) is at k·rows + t·columns of `data`.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Where the elements are.
    pub data: &'a [f32],
    /// Number of columns, T.
    pub count: usize,
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub column: usize,
}

/// Where a product goes: element (row, t) to row·rows + t·columns of `data`.
#[derive(Debug)]
pub struct Target<'a> {
    /// Where the elements go.
    pub data: &'a mut [f32],
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub column: usize,
    /// Add to what is there instead of replacing it.
    pub accumulate: bool,
}

/// Computes W·X on the threads of the current rayon pool.
///
/// # Panics
/// If X or the target does not hold the elements that the extents and strides name, or elements of
/// the target share a place.
pub fn multiply(matrix: &Matrix, x: Columns<'_>, to: Target<'_>) {
    let level = Level::best();
    let kernels = Kernels { floats: kernel::Kernels::new(level), codes: int8::Kernels::new(level) };
    multiply_by(kernels, matrix, x, to);
}

/// The kernels of products.
#[derive(Clone, Copy)]
struct Kernels {
    floats: kernel::Kernels,
    codes: int8::Kernels,
}

fn multiply_by(kernels: Kernels, matrix: &Matrix, x: Columns<'_>, to: Target<'_>) {
    let (rows, columns, count) = (matrix.rows, matrix.columns, x.count);
    if count == 0 {
        return;
    }
    let last = |n: usize, stride: usize| n.saturating_sub(1).saturating_mul(stride);
    let ends = [
        (last(columns, x.row).saturating_add(last(count, x.column)), x.data.len()),
        (last(rows, to.row).saturating_add(last(count, to.column)), to.data.len()),
    ];
    assert!(ends.iter().all(|(end, len)| end < len || columns == 0), "a product within its slices");
    let apart = (count == 1 || to.column >= 1 && (to.row >= count * to.column || rows == 1))
        || (to.row >= 1 && to.column >= rows * to.row);
    assert!(apart && (rows == 1 || to.row > 0), "elements of a product have places of their own");
    let flops = 2 * rows * columns * count;
    let least = if is_assembled() { ASSEMBLED_FLOPS } else { PARALLEL_FLOPS };
    let threads = if flops < least { 1 } else { rayon::current_num_threads() };
    let mut space = COLUMNS.take();
    let operand = match &matrix.panels {
        Panels::Int8 { .. } => Operand::Codes(rounded(columns, x, threads > 1, &mut space.codes)),
        _ if count < WIDE => Operand::Columns(x),
        _ => Operand::Packed(pack(&kernels.floats, columns, x, threads > 1, &mut space.packed)),
    };
    let job = Job {
        matrix,
        kernels,
        count,
        operand,
        to: Place { data: to.data.as_mut_ptr(), row: to.row, column: to.column },
        accumulate: to.accumulate,
    };
    let (panels, next) = (matrix.panel_count(), AtomicUsize::new(0));
    // Neighbours are one stream of memory, which is read faster than parts of it.
    let unit = panels.div_ceil(threads * UNITS);
    fan_out(threads.min(panels), &|| {
        SPACE.with_borrow_mut(|space| {
            loop {
                let first = next.fetch_add(unit, Ordering::Relaxed);
                if first >= panels {
                    break;
                }
                for panel in first..panels.min(first + unit) {
                    // SAFETY: this thread alone has the panel, whose results are its own; the extents
                    // were checked.
                    unsafe { job.panel(panel, space) };
                }
            }
        });
    });
    COLUMNS.set(space);
}

/// Brings the columns of `x`, `rows` elements each, into the order in which wide products read them: as many
/// as a kernel takes at once lie side by side, row after row.
fn pack<'s>(
    kernels: &kernel::Kernels,
    rows: usize,
    x: Columns<'_>,
    parallel: bool,
    space: &'s mut Vec<f32>,
) -> &'s [f32] {
    space.resize(space.len().max(rows * x.count), 0.0);
    let to = &mut space[..rows * x.count];
    for_each_chunk(to, (PACKED * rows).max(1), parallel, &|i, to| {
        let first = i * PACKED;
        pack_chunk(kernels, rows, x, first..x.count.min(first + PACKED), to);
    });
    space
}

fn pack_chunk(
    kernels: &kernel::Kernels,
    rows: usize,
    x: Columns<'_>,
    chunk: Range<usize>,
    to: &mut [f32],
) {
    let first = chunk.start;
    for (t, tokens) in groups(kernels, chunk) {
        let to = &mut to[(t - first) * rows..][..tokens * rows];
        match (x.column, tokens) {
            (1, 12) => copy_rows::<12>(&x.data[t..], x.row, to),
            (1, 8) => copy_rows::<8>(&x.data[t..], x.row, to),
            (1, 2) => copy_rows::<2>(&x.data[t..], x.row, to),
            _ => {
                for (k, to) in to.chunks_exact_mut(tokens).enumerate() {
                    let from = &x.data[k * x.row + t * x.column..];
                    to.iter_mut().enumerate().for_each(|(i, to)| *to = from[i * x.column]);
                }
            }
        }
    }
}

/// Rounds the columns of `x`, `rows` elements each, to codes: [T, groups].
fn rounded<'s>(
    rows: usize,
    x: Columns<'_>,
    parallel: bool,
    space: &'s mut Vec<Group>,
) -> &'s [Group] {
    let groups = rows.div_ceil(GROUP);
    space.resize(space.len().max(groups * x.count), Group::default());
    let to = &mut space[..groups * x.count];
    for_each_chunk(to, (ROUNDED * groups).max(1), parallel, &|i, to| {
        let (first, count) = (i * ROUNDED, to.len() / groups);
        let each = to.chunks_exact_mut(groups);
        if x.row == 1 || rows == 1 {
            return each.enumerate().for_each(|(i, to)| {
                let column = &x.data[(first + i) * x.column..][..rows];
                dispatch(int8::Quantise { column, to });
            });
        }
        TURNED.with_borrow_mut(|turned| {
            turned.resize(turned.len().max(count * rows), 0.0);
            let from = &x.data[first * x.column..];
            if x.column == 1 {
                gemm::transpose_part([rows, count], (from, x.row), (turned, rows));
            } else {
                let columns = turned.chunks_exact_mut(rows).take(count).enumerate();
                columns.for_each(|(i, column)| {
                    let from = from[i * x.column..].iter().step_by(x.row);
                    column.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                });
            }
            each.zip(turned.chunks_exact(rows))
                .for_each(|(to, column)| dispatch(int8::Quantise { column, to }));
        });
    });
    &space[..groups * x.count]
}

/// Copies N elements of each row, which are `row` apart; their number is known to the compiler.
fn copy_rows<const N: usize>(from: &[f32], row: usize, to: &mut [f32]) {
    for (k, to) in to.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        to.copy_from_slice(&from[k * row..][..N]);
    }
}

/// The groups of packed columns among `columns`, each with its first column and how many it has: as many as
/// a kernel takes at once, of one chunk of [`PACKED`].
fn groups(
    kernels: &kernel::Kernels,
    columns: Range<usize>,
) -> impl Iterator<Item = (usize, usize)> {
    let mut t = columns.start;
    std::iter::from_fn(move || {
        let left = columns.end.min((t / PACKED + 1) * PACKED).checked_sub(t)?;
        (left > 0).then(|| {
            let first = t;
            t += kernels.tokens(left);
            (first, t - first)
        })
    })
}

thread_local! {
    static SPACE: RefCell<Space> = RefCell::new(Space::default());
    /// The right operand of a product that this thread began.
    static COLUMNS: Cell<Prepared> = const { Cell::new(Prepared { packed: vec![], codes: vec![] }) };
    /// Columns one after the other, before they are rounded.
    static TURNED: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}

/// Room for the right operand in the order in which kernels read it.
#[derive(Default)]
struct Prepared {
    packed: Vec<f32>,
    codes: Vec<Group>,
}

/// What a thread needs for one panel.
#[derive(Default)]
struct Space {
    /// Sums, [T, 32].
    sums: Vec<f32>,
    /// Widened weights, [BLOCK, 32].
    weights: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Place {
    data: *mut f32,
    row: usize,
    column: usize,
}

/// The right operand as kernels read it.
#[derive(Clone, Copy)]
enum Operand<'a> {
    /// Few columns, as they are.
    Columns(Columns<'a>),
    /// As [`pack`] lays them out.
    Packed(&'a [f32]),
    /// As [`rounded`] gives them.
    Codes(&'a [Group]),
}

/// A product.
struct Job<'a> {
    matrix: &'a Matrix,
    kernels: Kernels,
    /// Number of columns.
    count: usize,
    operand: Operand<'a>,
    to: Place,
    accumulate: bool,
}

// SAFETY: `to` points to storage borrowed for the whole product, of which each panel's results are
// written by one thread.
unsafe impl Sync for Job<'_> {}

impl Job<'_> {
    /// Computes the rows of a panel.
    ///
    /// # Safety
    /// The extents were checked, and no other thread has the panel.
    unsafe fn panel(&self, panel: usize, space: &mut Space) {
        let (count, columns) = (self.count, self.matrix.columns);
        space.sums.resize(space.sums.len().max(count * PANEL), 0.0);
        let Space { sums, weights } = space;
        // SAFETY: `sums` has room for the panel's results; the caller's promise.
        unsafe {
            match (&self.matrix.panels, self.operand) {
                _ if columns == 0 => sums[..count * PANEL].fill(0.0),
                (Panels::Int8 { codes, scales }, Operand::Codes(x)) => {
                    let groups = self.matrix.groups();
                    let scales = scales.elements::<f16>()[panel * groups * PANEL..].as_ptr();
                    let codes = codes.elements::<i8>()[panel * groups * GROUP * PANEL..].as_ptr();
                    let Place { data, row, column } = self.to;
                    let whole = (panel + 1) * PANEL <= self.matrix.rows;
                    if whole && row == 1 && !self.accumulate {
                        let to = (data.add(panel * PANEL), column);
                        return self.kernels.codes.run(groups, (codes, scales), x, to);
                    }
                    let to = (sums.as_mut_ptr(), PANEL);
                    self.kernels.codes.run(groups, (codes, scales), x, to);
                }
                (_, Operand::Columns(x)) => self.columns(panel, x, sums.as_mut_ptr()),
                (_, Operand::Packed(x)) => {
                    for start in (0..columns).step_by(BLOCK) {
                        let len = BLOCK.min(columns - start);
                        let block = self.matrix.widened(panel, start, len, weights);
                        self.packed_columns(block, start, len, x, sums.as_mut_ptr());
                    }
                }
                (_, Operand::Codes(_)) => unreachable!("codes are for int8"),
            }
            self.finish(panel, &sums[..count * PANEL]);
        }
    }

    /// Adds the products of weights `start .. start + len` with all columns to `sums`.
    ///
    /// # Safety
    /// `weights` points to these weights; `packed` has all columns, group after group; `sums` has room for them.
    unsafe fn packed_columns(
        &self,
        weights: *const f32,
        start: usize,
        len: usize,
        packed: &[f32],
        sums: *mut f32,
    ) {
        let kernels = &self.kernels.floats;
        for (t, tokens) in groups(kernels, 0..self.count) {
            // SAFETY: the caller's promise.
            unsafe {
                let x = packed.as_ptr().add(t * self.matrix.columns + start * tokens);
                kernels.run_packed(tokens, weights, len, x, sums.add(t * PANEL), start == 0);
            }
        }
    }

    /// Computes the products of all weights of a panel with all columns.
    ///
    /// # Safety
    /// `sums` has room for all columns; the extents were checked.
    unsafe fn columns(&self, panel: usize, x: Columns<'_>, sums: *mut f32) {
        let (source, kernels) = (self.matrix.source(panel), &self.kernels.floats);
        let mut t = 0;
        while t < x.count {
            let tokens = kernels.tokens(x.count - t);
            let (strides, k) = ([x.column, x.row], self.matrix.columns);
            // SAFETY: the columns exist, by the checks at the door.
            unsafe {
                let x = x.data.as_ptr().add(t * x.column);
                kernels.run(tokens, source, k, x, strides, sums.add(t * PANEL), true);
            }
            t += tokens;
        }
    }

    /// Brings the sums of a panel to their places.
    ///
    /// # Safety
    /// As for [`Job::panel`].
    unsafe fn finish(&self, panel: usize, sums: &[f32]) {
        let rows = PANEL.min(self.matrix.rows - panel * PANEL);
        let Place { data, row, column } = self.to;
        // SAFETY: the places exist, by the checks at the door, and are this panel's alone.
        unsafe {
            let first = data.add(panel * PANEL * row);
            if row == 1 {
                for (t, sums) in sums.chunks_exact(PANEL).enumerate() {
                    let to = std::slice::from_raw_parts_mut(first.add(t * column), rows);
                    match self.accumulate {
                        true => simd::add(to, &sums[..rows]),
                        false => to.copy_from_slice(&sums[..rows]),
                    }
                }
                return;
            }
            let count = self.count;
            if column == 1 && !self.accumulate {
                let to = std::slice::from_raw_parts_mut(first, (rows - 1) * row + count);
                return gemm::transpose_part([count, rows], (sums, PANEL), (to, row));
            }
            for r in 0..rows {
                for t in 0..count {
                    let (to, sum) = (first.add(r * row + t * column), sums[t * PANEL + r]);
                    *to = if self.accumulate { *to + sum } else { sum };
                }
            }
        }
    }
}

/// The floating-point weights of a panel.
#[derive(Clone, Copy)]
enum Source {
    F32(*const f32),
    F16(*const f16),
}

impl Matrix {
    /// All weights of a panel.
    fn source(&self, panel: usize) -> Source {
        let at = panel * self.columns * PANEL;
        match &self.panels {
            Panels::F32(lines) => Source::F32(lines.elements::<f32>()[at..].as_ptr()),
            Panels::F16(lines) => Source::F16(lines.elements::<f16>()[at..].as_ptr()),
            Panels::Int8 { .. } => unreachable!("int8 has kernels of its own"),
        }
    }

    /// Weights `start .. start + len` of each row of a panel, as f32: in place, or in `space`.
    fn widened(&self, panel: usize, start: usize, len: usize, space: &mut Vec<f32>) -> *const f32 {
        let at = (panel * self.columns + start) * PANEL;
        let elements = at..at + len * PANEL;
        match &self.panels {
            Panels::F32(lines) => lines.elements::<f32>()[elements].as_ptr(),
            Panels::F16(lines) => {
                space.resize(BLOCK * PANEL, 0.0);
                simd::widen(&lines.elements()[elements], &mut space[..len * PANEL]);
                space.as_ptr()
            }
            Panels::Int8 { .. } => unreachable!("int8 has kernels of its own"),
        }
    }
}
