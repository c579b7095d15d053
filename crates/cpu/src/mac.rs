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

/// Added to a number of magnitude below 2^22, leaves it rounded to a whole number in the low bits of the sum.
const MAGIC: f32 = 12_582_912.0;
/// Products of fewer units than this may be rounded by [`MAGIC`].
const SMALL: f32 = 2_097_152.0;

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

/// Numbers that are packed for each element of the left operand ([`Left`]).
const PACKED: usize = 3;

/// The left operand [m, k] in blocks of [`ROWS`]: for each k, the elements in units; the same, one unit of
/// f32 further from 0; the least magnitude of a right element with which a product counts. Missing rows
/// are zeros.
struct Left {
    k: usize,
    blocks: Vec<f32>,
    /// Largest ‖row‖ of each block, in units.
    norms: Vec<f64>,
    /// Largest element of each block, in units.
    largest: Vec<f32>,
}

impl Left {
    fn pack(a: Operand<'_>, offset: usize, m: usize, k: usize) -> Self {
        let count = m.div_ceil(ROWS);
        let step = PACKED * ROWS;
        let mut blocks = vec![0.0; count * k * step];
        let mut norms = vec![0.0; count];
        let mut largest = vec![0f32; count];
        for i in 0..m {
            let block = &mut blocks[i / ROWS * k * step..][..k * step];
            let (mut square, mut most) = (0.0, 0f32);
            for (l, packed) in block.chunks_exact_mut(step).enumerate() {
                let v = element(a.data, offset + i * a.rs + l * a.cs) * UNITS;
                packed[i % ROWS] = v;
                packed[ROWS + i % ROWS] =
                    if v == 0.0 { v } else { f32::from_bits(v.to_bits() + 1) };
                // A right element has at least the power of two that makes a unit with this one's if its
                // magnitude is not below that power. 1/0 is infinite: a zero counts with none.
                packed[2 * ROWS + i % ROWS] = 1.0 / power_of_two(v);
                square += f64::from(v) * f64::from(v);
                most = most.max(v.abs());
            }
            let norm: &mut f64 = &mut norms[i / ROWS];
            *norm = if square.is_nan() { square } else { norm.max(square.sqrt()) };
            largest[i / ROWS] = largest[i / ROWS].max(most);
        }
        Left { k, blocks, norms, largest }
    }

    fn block(&self, i: usize) -> &[f32] {
        let step = PACKED * ROWS;
        &self.blocks[i * self.k * step..][..self.k * step]
    }

    fn at(&self, i: usize, l: usize) -> f32 {
        self.block(i / ROWS)[l * PACKED * ROWS + i % ROWS] / UNITS
    }
}

/// The right operand [k, n] in panels of [`COLUMNS`]; missing columns are zeros.
struct Right {
    k: usize,
    n: usize,
    panels: Vec<f32>,
    /// Largest ‖column‖ of each panel.
    norms: Vec<f64>,
    /// Largest element of each panel.
    largest: Vec<f32>,
}

impl Right {
    fn pack(b: Operand<'_>, offset: usize, k: usize, n: usize) -> Self {
        let count = n.div_ceil(COLUMNS);
        let mut panels = vec![0.0; count * k * COLUMNS];
        let mut norms = vec![0.0; count];
        let mut largest = vec![0f32; count];
        for (p, panel) in panels.chunks_exact_mut((k * COLUMNS).max(1)).enumerate() {
            let first = p * COLUMNS;
            let mut squares = [0.0; COLUMNS];
            for (l, row) in panel.chunks_exact_mut(COLUMNS).enumerate() {
                for j in 0..COLUMNS.min(n - first) {
                    let v = element(b.data, offset + l * b.rs + (first + j) * b.cs);
                    row[j] = v;
                    squares[j] += f64::from(v) * f64::from(v);
                    largest[p] = largest[p].max(v.abs());
                }
            }
            let worst = squares.iter().fold(0.0, |max: f64, &s| {
                if s.is_nan() || max.is_nan() { f64::NAN } else { max.max(s) }
            });
            norms[p] = worst.sqrt();
        }
        Right { k, n, panels, norms, largest }
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
                let small = left.largest[at] * right.largest[p] < SMALL;
                let sums = simd::dispatch(Tile { a: left.block(at), b: right.panel(p), small });
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
    /// True if every product is below [`SMALL`].
    small: bool,
}

impl Tile<'_> {
    /// The right operand row by row, each with the packed elements of the left one.
    #[inline(always)]
    fn rows(&self) -> impl Iterator<Item = (&[f32; PACKED * ROWS], &[f32; COLUMNS])> {
        let left = self.a.chunks_exact(PACKED * ROWS);
        left.zip(self.b.chunks_exact(COLUMNS)).map(|(a, b)| {
            let a = a.try_into().expect("the chunk's length");
            (a, b.try_into().expect("the chunk's length"))
        })
    }

    /// Products of any size.
    #[inline(always)]
    fn any(&self) -> [[i32; COLUMNS]; ROWS] {
        let mut sums = [[0i32; COLUMNS]; ROWS];
        for (a, b) in self.rows() {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (sum, &b) in sums.iter_mut().zip(b) {
                    // Exact: eleven bits times eleven.
                    let p = a[i] * b;
                    // Halves go away from zero; a product of 2^22 units or more is whole, and
                    // adding a half to it changes nothing that survives.
                    let v = p + 0.5f32.copysign(p);
                    // SAFETY: |v| is at most the bound on sums, which is below 2^31.
                    let units = unsafe { v.to_int_unchecked::<i32>() };
                    let kept = if b.abs() >= a[2 * ROWS + i] { units } else { 0 };
                    *sum = sum.wrapping_add(kept);
                }
            }
        }
        sums
    }

    /// Small products, with one rounding in a fused multiplication and addition.
    ///
    /// Let P < 2^21 units be the product of the operands' powers of two: operands have eleven bits, so the product
    /// is a multiple of P·2^−20. With the left element one unit of f32 further from 0, it grows by less than
    /// P·2^−22. If P·2^−20 is at most half a unit, halves are multiples of it too: one that was a half now rounds
    /// away from 0, and no other reaches one. Else P·2^−20 is one unit, the product is whole, and grows by less
    /// than a quarter.
    #[inline(always)]
    fn small(&self) -> [[i32; COLUMNS]; ROWS] {
        let mut sums = [[0i32; COLUMNS]; ROWS];
        for (a, b) in self.rows() {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (sum, &b) in sums.iter_mut().zip(b) {
                    let rounded = a[ROWS + i].mul_add(b, MAGIC);
                    let kept = if b.abs() >= a[2 * ROWS + i] { rounded } else { MAGIC };
                    *sum = sum.wrapping_add(kept.to_bits() as i32);
                }
            }
        }
        let terms = (self.b.len() / COLUMNS) as u32;
        let magic = terms.wrapping_mul(MAGIC.to_bits()) as i32;
        sums.map(|row| row.map(|sum| sum.wrapping_sub(magic)))
    }
}

impl SliceKernel for Tile<'_> {
    type Output = [[i32; COLUMNS]; ROWS];

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Self::Output {
        if FUSED && self.small { self.small() } else { self.any() }
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

    /// Tiles of many terms, by the kernels of every instruction set, beside the law term by term: operands of
    /// all exponents that keep the sums small, with products that are halves and such at the edge of what
    /// counts.
    #[test]
    fn tiles_follow_the_law() {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (k, mut halves) = (96, 0);
        for (lowest, exponents, mantissas) in
            [(-24, 26, 1024), (-12, 6, 4), (-10, 3, 32), (-3, 5, 1024), (-24, 12, 1024)]
        {
            let mut value = || {
                let mantissa = 1.0 + draw(mantissas) as f32 / mantissas as f32;
                let value = mantissa * 2f32.powi(lowest + draw(exponents) as i32);
                let value = half::f16::from_f32(value).to_f32();
                [value, -value, value, -value, value, -value, 0.0][draw(7) as usize]
            };
            let a: Vec<f32> = (0..ROWS * k).map(|_| value()).collect();
            let b: Vec<f32> = (0..k * COLUMNS).map(|_| value()).collect();
            let operand = |data, rs| Operand { data: Elements::F32(data), rs, cs: 1 };
            let left = Left::pack(operand(&a, k), 0, ROWS, k);
            let right = Right::pack(operand(&b, COLUMNS), 0, k, COLUMNS);
            assert!(left.largest[0] * right.largest[0] < SMALL);
            let tile = |small| Tile { a: left.block(0), b: right.panel(0), small };
            let tiles =
                [simd::dispatch(tile(true)), simd::dispatch(tile(false)), tile(true).small()];
            for i in 0..ROWS {
                for j in 0..COLUMNS {
                    let mut sum = Sum::default();
                    for l in 0..k {
                        let (a, b) = (a[i * k + l], b[l * COLUMNS + j]);
                        sum.add(a, b);
                        halves += usize::from((a * b * UNITS).fract().abs() == 0.5);
                    }
                    for tile in &tiles {
                        assert_eq!(i64::from(tile[i][j]), sum.units, "{lowest}: {i}, {j}");
                    }
                }
            }
        }
        assert!(halves > 1000, "{halves} products are halves");
    }
}
