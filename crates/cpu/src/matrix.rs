//! Weights packed for products with few columns, such as those of text generation.
//!
//! A product of a weight matrix with one column reads every weight once: memory decides its speed. A
//! [`Matrix`] is therefore stored in the order in which it is read, as f32, as f16, or as int8 with a
//! scale for every 32 weights of a row ([`WeightFormat`]). Rows come in panels of 32: element (row, k)
//! of a panel lies at k·32 + row, so that one vector holds a weight of several rows, and one panel is
//! one sequential stream.
//!
//! Each element of a result is one chain of fused multiply-adds over k, from the first to the last. With int8,
//! each group of 32 is a chain of its own over codes alone; groups are added in order, each times its scale by
//! one more multiply-add. A result does not depend on the number of columns, the place of its column among
//! them, or the number of threads: a token's results are the same bits alone and in any batch. Codes, scales
//! and halves are widened exactly, so a product is that of the rounded weights.
#![allow(unsafe_code, reason = "SIMD kernels, and threads that write disjoint parts")]

use crate::gemm::{self, PARALLEL_FLOPS};
use crate::simd::{self, Level, SliceKernel, dispatch};
use crate::team::{fan_out, is_assembled};
use half::f16;
use rayon::prelude::*;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

mod kernel;
#[cfg(test)]
mod tests;

use kernel::Kernels;

/// Rows of a panel.
const PANEL: usize = 32;
/// Weights of a row that share a scale.
const GROUP: usize = 32;
/// The fewest columns for which weights are widened once for all of them, and columns are packed.
const WIDE: usize = 16;
/// Weights of a row that are taken at a time: with 32 rows, 24 KiB of f32, which stay in the first-level
/// cache while all columns pass.
const BLOCK: usize = 192;
/// Columns that one task packs.
const PACKED: usize = 48;

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
    /// Integers of 8 bits; 32 consecutive weights of a row share a binary16 scale (GGUF's Q8_0).
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
    /// The scale of (row, group) of a panel lies at group·32 + row.
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
            WeightFormat::Int8 => quantised(values, columns, count),
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
                f32::from(codes.elements::<i8>()[at]) * scale
            }
        }
    }

    /// Scales of a row.
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

/// Rounds groups of weights as GGUF's Q8_0 does: the largest magnitude becomes 127.
fn quantised(values: &[f32], columns: usize, count: usize) -> Panels {
    let (panel, groups) = ((PANEL * columns).max(1), columns.div_ceil(GROUP));
    let scale_count = count / PANEL.max(1) / columns.max(1) * groups * PANEL;
    let (mut codes, mut scales) = (Lines::zeros::<i8>(count), Lines::zeros::<f16>(scale_count));
    (codes.elements_mut::<i8>()[..count].par_chunks_mut(panel))
        .zip(scales.elements_mut::<f16>()[..scale_count].par_chunks_mut((groups * PANEL).max(1)))
        .zip(values.par_chunks(panel))
        .for_each(|((codes, scales), values)| {
            for (lane, row) in values.chunks_exact(columns).enumerate() {
                for (g, group) in row.chunks(GROUP).enumerate() {
                    let (scale, inverse) = scale_of(group);
                    scales[g * PANEL + lane] = scale;
                    for (i, &w) in group.iter().enumerate() {
                        codes[(g * GROUP + i) * PANEL + lane] = (w * inverse).round() as i8;
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
    multiply_at(Level::best(), matrix, x, to);
}

fn multiply_at(level: Level, matrix: &Matrix, x: Columns<'_>, to: Target<'_>) {
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
    let kernels = Kernels::new(level);
    let mut space = COLUMNS.take();
    let wide = count >= WIDE;
    let packed = if wide { pack(&kernels, columns, x, threads, &mut space) } else { &[] };
    let job = Job {
        matrix,
        kernels,
        x,
        packed,
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
    kernels: &Kernels,
    rows: usize,
    x: Columns<'_>,
    threads: usize,
    space: &'s mut Vec<f32>,
) -> &'s [f32] {
    space.resize(space.len().max(rows * x.count), 0.0);
    let (to, next) = (Packing(space.as_mut_ptr()), AtomicUsize::new(0));
    let to = &to;
    fan_out(threads, &|| {
        loop {
            let first = next.fetch_add(PACKED, Ordering::Relaxed);
            if first >= x.count {
                break;
            }
            let end = x.count.min(first + PACKED);
            // SAFETY: the space holds all columns, and each chunk of them has one taker.
            let to = unsafe {
                std::slice::from_raw_parts_mut(to.0.add(first * rows), (end - first) * rows)
            };
            pack_chunk(kernels, rows, x, first..end, to);
        }
    });
    space
}

/// Room for packed columns, of which each thread writes chunks of its own.
struct Packing(*mut f32);

// SAFETY: threads write disjoint chunks.
unsafe impl Sync for Packing {}

fn pack_chunk(kernels: &Kernels, rows: usize, x: Columns<'_>, chunk: Range<usize>, to: &mut [f32]) {
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

/// Copies N elements of each row, which are `row` apart; their number is known to the compiler.
fn copy_rows<const N: usize>(from: &[f32], row: usize, to: &mut [f32]) {
    for (k, to) in to.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        to.copy_from_slice(&from[k * row..][..N]);
    }
}

/// The groups of packed columns among `columns`, each with its first column and how many it has: as many as
/// a kernel takes at once, of one chunk of [`PACKED`].
fn groups(kernels: &Kernels, columns: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
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
    /// The packed columns of a product that this thread began.
    static COLUMNS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
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

/// A product.
struct Job<'a> {
    matrix: &'a Matrix,
    kernels: Kernels,
    x: Columns<'a>,
    /// All of `x` as [`pack`] lays it out, where the product is wide.
    packed: &'a [f32],
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
        let (count, columns) = (self.x.count, self.matrix.columns);
        space.sums.resize(space.sums.len().max(count * PANEL), 0.0);
        let Space { sums, weights } = space;
        // SAFETY: `sums` has room for the panel's results; the caller's promise.
        unsafe {
            if columns == 0 {
                sums[..count * PANEL].fill(0.0);
            } else if count >= WIDE {
                for start in (0..columns).step_by(BLOCK) {
                    let len = BLOCK.min(columns - start);
                    let block = self.matrix.widened(panel, start, len, weights);
                    self.packed_columns(block, start, len, sums.as_mut_ptr());
                }
            } else {
                self.columns(self.matrix.source(panel), columns, sums.as_mut_ptr());
            }
            self.finish(panel, &sums[..count * PANEL]);
        }
    }

    /// Adds the products of weights `start .. start + len` with all columns, which are packed, to `sums`.
    ///
    /// # Safety
    /// `weights` points to these weights with their scales; `sums` has room for all columns; the extents were checked.
    unsafe fn packed_columns(&self, weights: Widened, start: usize, len: usize, sums: *mut f32) {
        let (count, rows) = (self.x.count, self.matrix.columns);
        for (t, tokens) in groups(&self.kernels, 0..count) {
            // SAFETY: all columns are packed, group after group.
            unsafe {
                let x = self.packed.as_ptr().add(t * rows + start * tokens);
                let sums = sums.add(t * PANEL);
                self.kernels.run_packed(tokens, weights, len, x, sums, start == 0);
            }
        }
    }

    /// Computes the products of all weights of a panel with all columns.
    ///
    /// # Safety
    /// `source` points to `len` weights of each row; `sums` has room for all columns; the extents were
    /// checked.
    unsafe fn columns(&self, source: Source, len: usize, sums: *mut f32) {
        let Columns { data, count, row, column } = self.x;
        let mut t = 0;
        while t < count {
            let tokens = self.kernels.tokens(count - t);
            let strides = [column, row];
            // SAFETY: the columns exist, by the checks at the door.
            unsafe {
                let x = data.as_ptr().add(t * column);
                self.kernels.run(tokens, source, len, x, strides, sums.add(t * PANEL), true);
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
            let count = self.x.count;
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

/// Weights of each row of a panel as f32: those of int8 are codes, to which scales belong; the scales are null
/// for others.
#[derive(Clone, Copy)]
struct Widened {
    weights: *const f32,
    scales: *const f16,
}

/// The weights of a panel, or of a part of one.
#[derive(Clone, Copy)]
enum Source {
    F32(*const f32),
    F16(*const f16),
    /// Codes and scales, from the first weight of a group on.
    Int8(*const i8, *const f16),
}

impl Matrix {
    /// All weights of a panel.
    fn source(&self, panel: usize) -> Source {
        let at = panel * self.columns * PANEL;
        match &self.panels {
            Panels::F32(lines) => Source::F32(lines.elements::<f32>()[at..].as_ptr()),
            Panels::F16(lines) => Source::F16(lines.elements::<f16>()[at..].as_ptr()),
            Panels::Int8 { codes, scales } => {
                let scales = &scales.elements::<f16>()[panel * self.groups() * PANEL..];
                Source::Int8(codes.elements::<i8>()[at..].as_ptr(), scales.as_ptr())
            }
        }
    }

    /// Weights `start .. start + len` of each row of a panel, as f32: in place, or in `space`.
    /// `start` begins a group.
    fn widened(&self, panel: usize, start: usize, len: usize, space: &mut Vec<f32>) -> Widened {
        let at = (panel * self.columns + start) * PANEL;
        let elements = at..at + len * PANEL;
        let mut scales = std::ptr::null();
        if let Panels::F32(lines) = &self.panels {
            return Widened { weights: lines.elements::<f32>()[elements].as_ptr(), scales };
        }
        space.resize(BLOCK * PANEL, 0.0);
        let to = &mut space[..len * PANEL];
        match &self.panels {
            Panels::F32(_) => unreachable!("read in place"),
            Panels::F16(lines) => simd::widen(&lines.elements()[elements], to),
            Panels::Int8 { codes, scales: all } => {
                let first = (panel * self.groups() + start / GROUP) * PANEL;
                scales = all.elements()[first..first + len.div_ceil(GROUP) * PANEL].as_ptr();
                dispatch(WidenCodes { codes: &codes.elements()[elements], to });
            }
        }
        Widened { weights: to.as_ptr(), scales }
    }
}

/// to ← codes
struct WidenCodes<'a> {
    codes: &'a [i8],
    to: &'a mut [f32],
}

impl SliceKernel for WidenCodes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.to.iter_mut().zip(self.codes).for_each(|(to, code)| *to = f32::from(*code));
    }
}
