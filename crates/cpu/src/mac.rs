//! The multiply-accumulate array, bit for bit: the arithmetic of `matmul`, `linear` and `conv`.
//!
//! The law (docs/ane-facts.md E.1), with e(v) = ⌊log₂|v|⌋ and 2^−16 as the unit:
//!
//! - a product a·b counts as nothing if e(a) + e(b) < −16, else it is rounded to a whole number of
//!   units, halves away from zero;
//! - the whole numbers are added exactly; a sum that reaches 2^31 units (2^15) is infinite from
//!   there on, with its sign, whatever comes later (E.2, GUIDE:03-numerics.md);
//! - the sum is rounded to fp16, halves away from zero; what rounds to 2^15 is infinite.
//!
//! It gives the published relative errors of products on six chips to twelve digits
//! (`tests/exact.rs`). Not confirmed on silicon: operands that are subnormal (their true exponents
//! are used here), the order of the sum, which matters only to sums that pass 2^15 on the way (in
//! order of the inner index here), and 1×1 convolutions.
//!
//! Products of whole matrices run on a kernel of plain loops, compiled for each instruction set: sums
//! are 32-bit integers, so results do not depend on the order, the blocking or the threads. It is
//! used where no partial sum can overflow: |Σ| ≤ ‖a‖·‖b‖ for every row and column (Cauchy and
//! Schwarz). What fails this test, infinities included, goes element by element through [`Sum`].
#![allow(
    unsafe_code,
    reason = "conversion to integers without the checks that bounds make needless"
)]

use crate::exact;
use crate::gemm::{Elements, Offsets, Operand, Output, Shape};
use crate::simd::{self, Round, SliceKernel};
use rayon::prelude::*;

/// Units in 1.
const UNITS: f32 = 65_536.0;
/// A magnitude of this many units is infinite.
const OVERFLOW: i64 = 1 << 31;
/// The same as a value.
const CLIFF: f32 = 32_768.0;

/// Rows of a tile.
const ROWS: usize = 4;
/// Columns of a tile.
const COLUMNS: usize = 32;
/// Rows of one task: each task goes once over the right operand.
const TASK: usize = 8 * ROWS;

/// The power of two in a value: its exponent alone.
#[inline(always)]
fn power_of_two(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0x7f80_0000)
}

/// A sum of products in the order given: the law, written plainly.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    units: i64,
    /// Sign of the infinity that the sum has reached.
    infinite: Option<bool>,
}

impl Sum {
    /// Adds a·b, both on the fp16 grid. The array reads NaN as +∞; 0·∞ adds nothing.
    pub(crate) fn add(&mut self, a: f32, b: f32) {
        let read = |x: f32| if x.is_nan() { f32::INFINITY } else { x };
        let (a, b) = (read(a), read(b));
        if self.infinite.is_some() || power_of_two(a) * power_of_two(b) * UNITS < 1.0 {
            return;
        }
        let units = f64::from(a) * f64::from(b) * f64::from(UNITS);
        if units.is_nan() {
            return;
        }
        // Saturates at ±2^63 for infinities.
        self.units = self.units.saturating_add(units.round() as i64);
        if self.units.unsigned_abs() >= OVERFLOW as u64 {
            self.infinite = Some(self.units < 0);
        }
    }

    /// The sum as the array gives it, on the fp16 grid.
    pub(crate) fn finish(self) -> f32 {
        match self.infinite {
            Some(true) => f32::NEG_INFINITY,
            Some(false) => f32::INFINITY,
            None => finish(self.units as i32),
        }
    }
}

/// A sum of less than 2^31 units, rounded to fp16.
fn finish(units: i32) -> f32 {
    let magnitude = units.unsigned_abs();
    // Eleven bits are kept; subnormals are multiples of the unit and keep all.
    let dropped = (32 - magnitude.leading_zeros()).saturating_sub(11);
    let half = (1u32 << dropped) >> 1;
    let rounded = ((magnitude + half) >> dropped << dropped) as f32 / UNITS;
    let value = if rounded >= CLIFF { f32::INFINITY } else { rounded };
    if units < 0 { -value } else { value }
}

/// Computes a batch of products: the same arguments as [`crate::gemm::gemm`], operands on the fp16
/// grid. Products with an inner dimension of 1 that do not go through the array (`array` is false)
/// are plain multiplications.
///
/// # Panics
/// If an operand does not hold the elements that the shape, strides and offsets name.
pub(crate) fn gemm(
    shape: Shape,
    a: Operand<'_>,
    b: Operand<'_>,
    batch: &[Offsets],
    array: bool,
    mut c: Output<'_>,
) {
    let Shape { m, n, k, rs_c, cs_c } = shape;
    let mut product = vec![0.0; m * n];
    let mut row = vec![0.0; n];
    for offsets in batch {
        if array {
            let left = Left::pack(a, offsets.a, m, k);
            let right = Right::pack(b, offsets.b, k, n);
            product.par_chunks_mut(TASK * n).enumerate().for_each(|(task, rows)| {
                multiply(&left, &right, task * TASK, rows);
            });
        } else {
            for (at, to) in product.iter_mut().enumerate() {
                let (i, j) = (at / n, at % n);
                *to = element(a.data, offsets.a + i * a.rs) * element(b.data, offsets.b + j * b.cs);
            }
            exact::round_away(&mut product);
        }
        for i in 0..m {
            row.copy_from_slice(&product[i * n..][..n]);
            store(&mut c, offsets.c + i * rs_c, cs_c, &row);
        }
    }
}

fn store(c: &mut Output<'_>, at: usize, stride: usize, row: &[f32]) {
    match c {
        Output::F32 { data, accumulate } => {
            for (j, &v) in row.iter().enumerate() {
                let to = &mut data[at + j * stride];
                *to = if *accumulate { *to + v } else { v };
            }
        }
        Output::F16(data) if stride == 1 => {
            simd::narrow(row, &mut data[at..at + row.len()], Round::IEEE);
        }
        Output::F16(data) => {
            let narrowed = row.iter().map(|&v| half::f16::from_f32(v));
            narrowed.enumerate().for_each(|(j, v)| data[at + j * stride] = v);
        }
    }
}

fn element(data: Elements<'_>, at: usize) -> f32 {
    match data {
        Elements::F32(v) => v[at],
        Elements::F16(v) => v[at].to_f32(),
    }
}

/// The left operand [m, k] in blocks of [`ROWS`]: for each k, the elements in units, then their
/// powers of two. Missing rows are zeros.
struct Left {
    k: usize,
    blocks: Vec<f32>,
    /// Largest ‖row‖ of each block, in units.
    norms: Vec<f64>,
}

impl Left {
    fn pack(a: Operand<'_>, offset: usize, m: usize, k: usize) -> Self {
        let count = m.div_ceil(ROWS);
        let mut blocks = vec![0.0; count * k * 2 * ROWS];
        let mut norms = vec![0.0; count];
        for i in 0..m {
            let block = &mut blocks[i / ROWS * k * 2 * ROWS..][..k * 2 * ROWS];
            let mut square = 0.0;
            for (l, pair) in block.chunks_exact_mut(2 * ROWS).enumerate() {
                let v = element(a.data, offset + i * a.rs + l * a.cs) * UNITS;
                (pair[i % ROWS], pair[ROWS + i % ROWS]) = (v, power_of_two(v));
                square += f64::from(v) * f64::from(v);
            }
            let norm: &mut f64 = &mut norms[i / ROWS];
            *norm = if square.is_nan() { square } else { norm.max(square.sqrt()) };
        }
        Left { k, blocks, norms }
    }

    fn block(&self, i: usize) -> &[f32] {
        &self.blocks[i * self.k * 2 * ROWS..][..self.k * 2 * ROWS]
    }

    fn at(&self, i: usize, l: usize) -> f32 {
        self.block(i / ROWS)[l * 2 * ROWS + i % ROWS] / UNITS
    }
}

/// The right operand [k, n] in panels of [`COLUMNS`]; missing columns are zeros.
struct Right {
    k: usize,
    n: usize,
    panels: Vec<f32>,
    /// Largest ‖column‖ of each panel.
    norms: Vec<f64>,
}

impl Right {
    fn pack(b: Operand<'_>, offset: usize, k: usize, n: usize) -> Self {
        let count = n.div_ceil(COLUMNS);
        let mut panels = vec![0.0; count * k * COLUMNS];
        let mut norms = vec![0.0; count];
        for (p, panel) in panels.chunks_exact_mut((k * COLUMNS).max(1)).enumerate() {
            let first = p * COLUMNS;
            let mut squares = [0.0; COLUMNS];
            for (l, row) in panel.chunks_exact_mut(COLUMNS).enumerate() {
                for j in 0..COLUMNS.min(n - first) {
                    let v = element(b.data, offset + l * b.rs + (first + j) * b.cs);
                    row[j] = v;
                    squares[j] += f64::from(v) * f64::from(v);
                }
            }
            let worst = squares.iter().fold(0.0, |max: f64, &s| {
                if s.is_nan() || max.is_nan() { f64::NAN } else { max.max(s) }
            });
            norms[p] = worst.sqrt();
        }
        Right { k, n, panels, norms }
    }

    fn panel(&self, p: usize) -> &[f32] {
        &self.panels[p * self.k * COLUMNS..][..self.k * COLUMNS]
    }
}

/// Rows `first`.. of the product, as many as `to` holds.
fn multiply(left: &Left, right: &Right, first: usize, to: &mut [f32]) {
    let (k, n) = (left.k, right.n);
    let rows = to.len() / n;
    for (p, &norm) in right.norms.iter().enumerate() {
        let columns = COLUMNS.min(n - p * COLUMNS);
        for block in 0..rows.div_ceil(ROWS) {
            let at = first / ROWS + block;
            // Rounding a product moves it by half a unit at most; the margin covers the rounding of
            // the norms.
            let bound = left.norms[at] * norm * (1.0 + 1e-9) + 0.5 * k as f64;
            let rows = ROWS.min(rows - block * ROWS);
            let place = |i: usize| (block * ROWS + i) * n + p * COLUMNS;
            if bound < OVERFLOW as f64 {
                let sums = simd::dispatch(Tile { a: left.block(at), b: right.panel(p) });
                for (i, sums) in sums.iter().enumerate().take(rows) {
                    let to = &mut to[place(i)..][..columns];
                    to.iter_mut().zip(sums).for_each(|(to, &s)| *to = finish(s));
                }
            } else {
                for i in 0..rows {
                    for j in 0..columns {
                        let mut sum = Sum::default();
                        for (l, row) in right.panel(p).chunks_exact(COLUMNS).enumerate() {
                            sum.add(left.at(at * ROWS + i, l), row[j]);
                        }
                        to[place(i) + j] = sum.finish();
                    }
                }
            }
        }
    }
}

/// One tile of sums, in units; no partial sum may reach 2^31.
struct Tile<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl SliceKernel for Tile<'_> {
    type Output = [[i32; COLUMNS]; ROWS];

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Self::Output {
        let mut sums = [[0i32; COLUMNS]; ROWS];
        for (a, b) in self.a.chunks_exact(2 * ROWS).zip(self.b.chunks_exact(COLUMNS)) {
            let a: &[f32; 2 * ROWS] = a.try_into().expect("the chunk's length");
            let b: &[f32; COLUMNS] = b.try_into().expect("the chunk's length");
            let mut powers = [0.0; COLUMNS];
            for j in 0..COLUMNS {
                powers[j] = power_of_two(b[j]);
            }
            for i in 0..ROWS {
                for j in 0..COLUMNS {
                    // Exact: eleven bits times eleven.
                    let p = a[i] * b[j];
                    // Halves go away from zero; a product of 2^22 units or more is whole, and
                    // adding a half to it changes nothing that survives.
                    let v = p + 0.5f32.copysign(p);
                    // SAFETY: |v| is at most the bound on sums, which is below 2^31.
                    let units = unsafe { v.to_int_unchecked::<i32>() };
                    let kept = if a[ROWS + i] * powers[j] >= 1.0 { units } else { 0 };
                    sums[i][j] = sums[i][j].wrapping_add(kept);
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_round_halves_away() {
        let units = |v: f64| (v * 65536.0) as i32;
        for (sum, want) in [
            (2049.0, 2050.0),
            (-2049.0, -2050.0),
            (2047.0, 2047.0),
            (1.0 + 2f64.powi(-11), 1.0 + 2f64.powi(-10)),
            (2f64.powi(-16), 2f64.powi(-16)),
            (32_759.9, 32_752.0),
            (32_760.0, f64::INFINITY),
            (-32_760.0, f64::NEG_INFINITY),
            (0.0, 0.0),
        ] {
            assert_eq!(f64::from(finish(units(sum))), want, "{sum}");
        }
        assert_eq!(finish(i32::MIN + 1), f32::NEG_INFINITY);
    }

    #[test]
    fn products_are_gated_and_rounded() {
        let one = |a: f32, b: f32| {
            let mut sum = Sum::default();
            sum.add(a, b);
            sum.finish()
        };
        let p = |e: i32| 2f32.powi(e);
        // Exponents −8 and −8: kept; 1.5·1.5 units round away to 2 (2.25) and −2.
        assert_eq!(one(p(-8), p(-8)), p(-16));
        assert_eq!(one(1.5 * p(-8), 1.5 * p(-8)), 2.0 * p(-16));
        assert_eq!(one(-1.5 * p(-8), p(-8)), -2.0 * p(-16));
        // Halves, where rounding to even goes the other way, and where rounding up does.
        for (units, whole) in [(2.5, 3.0), (4.5, 5.0), (6.5, 7.0), (3.5, 4.0), (2.25, 2.0)] {
            assert_eq!(one(units * p(-8), p(-8)), whole * p(-16), "{units} units");
            assert_eq!(one(p(-8), -units * p(-8)), -whole * p(-16), "-{units} units");
        }
        // Exponents −9 and −8: nothing, although 1.99·1.99 units / 2 would round to 2.
        assert_eq!(one(1.99 * p(-9), 1.99 * p(-8)), 0.0);
        assert_eq!(one(f32::INFINITY, 0.0), 0.0);
        assert_eq!(one(f32::INFINITY, -2.0), f32::NEG_INFINITY);
        assert_eq!(one(f32::NAN, 2.0), f32::INFINITY);
    }

    #[test]
    fn what_has_overflowed_stays_infinite() {
        let mut sum = Sum::default();
        [(256.0, 128.0), (-256.0, 128.0), (-256.0, 256.0)].iter().for_each(|&(a, b)| sum.add(a, b));
        assert_eq!(sum.finish(), f32::INFINITY);
        let mut sum = Sum::default();
        [(255.0, 128.0), (-256.0, 128.0), (1.0, 1.0)].iter().for_each(|&(a, b)| sum.add(a, b));
        assert_eq!(sum.finish(), -127.0);
    }
}
