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

/// True if the magnitude of `b`, not NaN, is at least `least`, which is positive. Compares the bits as integers, which
/// processors do on other units than multiplications.
#[inline(always)]
fn counts(b: f32, least: f32) -> bool {
    (b.to_bits() & 0x7fff_ffff) as i32 >= least.to_bits() as i32
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
#[inline(always)]
fn finish(units: i32) -> f32 {
    let magnitude = units.unsigned_abs();
    // f32 holds 24 bits. Of a longer sum the lowest seven are cut: rounding to eleven bits does not see them.
    let cut = if magnitude >= 1 << 24 { magnitude & !0x7f } else { magnitude };
    let bits = (cut as i32 as f32).to_bits();
    // Half of the last kept bit, then cut. Sums of fewer bits keep all.
    let rounded = f32::from_bits((bits + 0x1000) & 0xffff_e000) * (1.0 / UNITS);
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
    let area = m * n;
    if area == 0 {
        return;
    }
    // A product for each thread at a time; a single one is divided among them.
    let together = rayon::current_num_threads().min(batch.len());
    let mut products = vec![0.0; area * together];
    for batch in batch.chunks(together.max(1)) {
        products.par_chunks_mut(area).zip(batch).for_each(|(product, offsets)| {
            if array {
                let left = Left::pack(a, offsets.a, m, k);
                let right = Right::pack(b, offsets.b, k, n);
                product.par_chunks_mut(TASK * n).enumerate().for_each(|(task, rows)| {
                    multiply(&left, &right, task * TASK, rows);
                });
            } else {
                for (at, to) in product.iter_mut().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let left = element(a.data, offsets.a + i * a.rs);
                    *to = left * element(b.data, offsets.b + j * b.cs);
                }
                exact::round_away(product);
            }
        });
        for (product, offsets) in products.chunks_exact(area).zip(batch) {
            for (i, row) in product.chunks_exact(n).enumerate() {
                store(&mut c, offsets.c + i * rs_c, cs_c, row);
            }
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

/// Copies the elements at `at`, `at` + `stride`, … to `to`.
fn copy(data: Elements<'_>, at: usize, stride: usize, to: &mut [f32]) {
    let end = at + to.len();
    match data {
        Elements::F32(v) if stride == 1 => to.copy_from_slice(&v[at..end]),
        Elements::F16(v) if stride == 1 => simd::widen(&v[at..end], to),
        _ => to.iter_mut().enumerate().for_each(|(i, to)| *to = element(data, at + i * stride)),
    }
}

/// Copies `lanes` runs of `len` elements, which begin `across` apart and whose elements are `along` apart, to columns of a
/// matrix [len, WIDTH]. Columns past `lanes` are zeros.
fn columns<const WIDTH: usize>(
    data: Elements<'_>,
    at: usize,
    (along, across): (usize, usize),
    (len, lanes): (usize, usize),
) -> Vec<f32> {
    let mut to = vec![0.0; len * WIDTH];
    if across == 1 {
        for (l, to) in to.chunks_exact_mut(WIDTH).enumerate() {
            copy(data, at + l * along, 1, &mut to[..lanes]);
        }
    } else {
        let mut run = vec![0.0; len];
        for lane in 0..lanes {
            copy(data, at + lane * across, along, &mut run);
            let to = to.iter_mut().skip(lane).step_by(WIDTH);
            to.zip(&run).for_each(|(to, &v)| *to = v);
        }
    }
    to
}

/// Relative error of a bound on a sum of k products from two norms that were computed in f32, each from at most k
/// squares: (k + 1)·2^−24 a squared norm, and as much again for the terms of higher order.
fn norm_error(k: usize) -> f64 {
    (k + 1) as f64 * 2f64.powi(-23)
}

/// The left operand [m, k] in blocks of [`ROWS`]; missing rows are zeros.
struct Left {
    k: usize,
    blocks: Vec<Block>,
}

/// Rows of the left operand, element by element of the inner dimension.
#[derive(Clone, Default)]
struct Block {
    /// The elements in units [k, ROWS].
    units: Vec<f32>,
    /// The same, each one unit of f32 further from 0.
    beyond: Vec<f32>,
    /// The least magnitude of a right element with which a product counts.
    least: Vec<f32>,
    /// Largest ‖row‖, in units.
    norm: f64,
    /// Largest element, in units.
    largest: f32,
}

impl Left {
    fn pack(a: Operand<'_>, offset: usize, m: usize, k: usize) -> Self {
        let mut blocks = vec![Block::default(); m.div_ceil(ROWS)];
        blocks.par_iter_mut().with_min_len(8).enumerate().for_each(|(i, block)| {
            let first = i * ROWS;
            let rows = ROWS.min(m - first);
            let at = offset + first * a.rs;
            block.units = columns::<ROWS>(a.data, at, (a.cs, a.rs), (k, rows));
            block.beyond = vec![0.0; k * ROWS];
            block.least = vec![0.0; k * ROWS];
            simd::dispatch(Prepare(block));
        });
        Left { k, blocks }
    }

    fn at(&self, i: usize, l: usize) -> f32 {
        self.blocks[i / ROWS].units[l * ROWS + i % ROWS] / UNITS
    }
}

/// Takes the elements of a block, in place of `units`, and computes the rest of it.
struct Prepare<'a>(&'a mut Block);

impl SliceKernel for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Block { units, beyond, least, norm, largest } = self.0;
        for ((v, beyond), least) in units.iter_mut().zip(beyond).zip(least) {
            *v *= UNITS;
            *beyond = if *v == 0.0 { *v } else { f32::from_bits(v.to_bits() + 1) };
            // A right element has at least the power of two that makes a unit with this one's if its
            // magnitude is not below that power. 1/0 is infinite: a zero counts with none.
            *least = 1.0 / power_of_two(*v);
        }
        let (squares, most) = measure::<{ 4 * ROWS }>(units);
        let rows: [f32; ROWS] = std::array::from_fn(|r| squares[r..].iter().step_by(ROWS).sum());
        (*norm, *largest) = (largest_norm(&rows), most);
    }
}

/// The sums of the squares of x[i], x[i + N], … for each i < N, and the largest magnitude of all but NaN.
#[inline(always)]
fn measure<const N: usize>(x: &[f32]) -> ([f32; N], f32) {
    let (mut squares, mut most) = ([0f32; N], [0f32; N]);
    let (chunks, rest) = x.as_chunks::<N>();
    let larger = |l: f32, v: f32| if v.abs() > l { v.abs() } else { l };
    for chunk in chunks {
        squares = std::array::from_fn(|i| squares[i] + chunk[i] * chunk[i]);
        most = std::array::from_fn(|i| larger(most[i], chunk[i]));
    }
    for (i, &v) in rest.iter().enumerate() {
        squares[i] += v * v;
        most[i] = larger(most[i], v);
    }
    (squares, most.into_iter().fold(0.0, larger))
}

/// The root of the largest sum of squares; NaN if one is.
fn largest_norm(squares: &[f32]) -> f64 {
    let largest = squares.iter().fold(0.0, |most: f32, &s| most.max(s));
    if squares.iter().any(|s| s.is_nan()) { f64::NAN } else { f64::from(largest).sqrt() }
}

/// The right operand [k, n] in panels of [`COLUMNS`]; missing columns are zeros.
struct Right {
    n: usize,
    panels: Vec<Panel>,
}

/// Columns of the right operand.
#[derive(Clone, Default)]
struct Panel {
    /// The elements [k, COLUMNS].
    elements: Vec<f32>,
    /// Largest ‖column‖.
    norm: f64,
    /// Largest element.
    largest: f32,
}

impl Right {
    fn pack(b: Operand<'_>, offset: usize, k: usize, n: usize) -> Self {
        let mut panels = vec![Panel::default(); n.div_ceil(COLUMNS)];
        panels.par_iter_mut().with_min_len(2).enumerate().for_each(|(p, panel)| {
            let first = p * COLUMNS;
            let count = COLUMNS.min(n - first);
            let at = offset + first * b.cs;
            panel.elements = columns::<COLUMNS>(b.data, at, (b.rs, b.cs), (k, count));
            simd::dispatch(Measure(panel));
        });
        Right { n, panels }
    }
}

/// Computes norm and largest element of a panel.
struct Measure<'a>(&'a mut Panel);

impl SliceKernel for Measure<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (squares, largest) = measure::<COLUMNS>(&self.0.elements);
        (self.0.norm, self.0.largest) = (largest_norm(&squares), largest);
    }
}

/// Rows `first`.. of the product, as many as `to` holds.
fn multiply(left: &Left, right: &Right, first: usize, to: &mut [f32]) {
    let (k, n) = (left.k, right.n);
    let rows = to.len() / n;
    for (p, panel) in right.panels.iter().enumerate() {
        let columns = COLUMNS.min(n - p * COLUMNS);
        for block in 0..rows.div_ceil(ROWS) {
            let at = first / ROWS + block;
            let packed = &left.blocks[at];
            // Rounding a product moves it by half a unit at most.
            let bound = packed.norm * panel.norm * (1.0 + norm_error(k)) + 0.5 * k as f64;
            let rows = ROWS.min(rows - block * ROWS);
            let place = |i: usize| (block * ROWS + i) * n + p * COLUMNS;
            if bound < OVERFLOW as f64 {
                let small = packed.largest * panel.largest < SMALL;
                let sums = simd::dispatch(Tile { a: packed, b: &panel.elements, small });
                for (i, sums) in sums.iter().enumerate().take(rows) {
                    to[place(i)..][..columns].copy_from_slice(&sums[..columns]);
                }
            } else {
                for i in 0..rows {
                    for j in 0..columns {
                        let mut sum = Sum::default();
                        for (l, row) in panel.elements.chunks_exact(COLUMNS).enumerate() {
                            sum.add(left.at(at * ROWS + i, l), row[j]);
                        }
                        to[place(i) + j] = sum.finish();
                    }
                }
            }
        }
    }
}

/// One tile of sums; no partial sum may reach 2^31 units.
struct Tile<'a> {
    a: &'a Block,
    b: &'a [f32],
    /// True if every product is below [`SMALL`].
    small: bool,
}

impl Tile<'_> {
    /// The sums of products of any size, in units.
    #[inline(always)]
    fn any(&self) -> [[i32; COLUMNS]; ROWS] {
        let mut sums = [[0i32; COLUMNS]; ROWS];
        for ((a, least), b) in self.rows(&self.a.units) {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (sum, &b) in sums.iter_mut().zip(b) {
                    // Exact: eleven bits times eleven.
                    let p = a[i] * b;
                    // Halves go away from zero; a product of 2^22 units or more is whole, and
                    // adding a half to it changes nothing that survives.
                    let v = p + 0.5f32.copysign(p);
                    // SAFETY: |v| is at most the bound on sums, which is below 2^31.
                    let units = unsafe { v.to_int_unchecked::<i32>() };
                    let kept = if counts(b, least[i]) { units } else { 0 };
                    *sum = sum.wrapping_add(kept);
                }
            }
        }
        sums
    }

    /// The sums of small products, in units, with one rounding in a fused multiplication and addition.
    ///
    /// Let P < 2^21 units be the product of the operands' powers of two: operands have eleven bits, so the product
    /// is a multiple of P·2^−20. With the left element one unit of f32 further from 0, it grows by less than
    /// P·2^−22. If P·2^−20 is at most half a unit, halves are multiples of it too: one that was a half now rounds
    /// away from 0, and no other reaches one. Else P·2^−20 is one unit, the product is whole, and grows by less
    /// than a quarter.
    #[inline(always)]
    fn small(&self) -> [[i32; COLUMNS]; ROWS] {
        let mut sums = [[0i32; COLUMNS]; ROWS];
        for ((a, least), b) in self.rows(&self.a.beyond) {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (sum, &b) in sums.iter_mut().zip(b) {
                    let rounded = a[i].mul_add(b, MAGIC);
                    let kept = if counts(b, least[i]) { rounded } else { MAGIC };
                    *sum = sum.wrapping_add(kept.to_bits() as i32);
                }
            }
        }
        let terms = (self.b.len() / COLUMNS) as u32;
        let magic = terms.wrapping_mul(MAGIC.to_bits()) as i32;
        sums.map(|row| row.map(|sum| sum.wrapping_sub(magic)))
    }

    /// For each l: a column of `left`, the least magnitudes for it, a row of the right operand.
    #[inline(always)]
    fn rows<'a>(
        &'a self,
        left: &'a [f32],
    ) -> impl Iterator<Item = ((&'a [f32; ROWS], &'a [f32; ROWS]), &'a [f32; COLUMNS])> {
        let left = left.as_chunks().0.iter().zip(self.a.least.as_chunks().0);
        left.zip(self.b.as_chunks().0)
    }

    #[inline(always)]
    fn sums<const FUSED: bool>(&self) -> [[i32; COLUMNS]; ROWS] {
        if FUSED && self.small { self.small() } else { self.any() }
    }
}

impl SliceKernel for Tile<'_> {
    /// The sums as the array gives them, on the fp16 grid.
    type Output = [[f32; COLUMNS]; ROWS];

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Self::Output {
        self.sums::<FUSED>().map(|row| row.map(finish))
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

    #[test]
    fn sums_of_every_length_are_rounded_to_eleven_bits() {
        let law = |units: i32| {
            let magnitude = units.unsigned_abs();
            let dropped = (32 - magnitude.leading_zeros()).saturating_sub(11);
            let half = (1u32 << dropped) >> 1;
            let rounded = ((magnitude + half) >> dropped << dropped) as f32 / UNITS;
            let value = if rounded >= CLIFF { f32::INFINITY } else { rounded };
            if units < 0 { -value } else { value }
        };
        for bit in 0..31 {
            // Around every half of a last kept bit, and around the powers of two.
            for kept in 0..1 << 11 {
                let middle = (1u32 << bit) + (2 * kept + 1) * ((1u32 << bit) >> 12);
                for near in [-1, 0, 1] {
                    let units = (middle as i32).wrapping_add(near);
                    assert_eq!(finish(units).to_bits(), law(units).to_bits(), "{units}");
                    assert_eq!(finish(-units).to_bits(), law(-units).to_bits(), "-{units}");
                }
            }
        }
    }

    /// The sums of a tile before they are rounded.
    struct Units<'a>(Tile<'a>);

    impl SliceKernel for Units<'_> {
        type Output = [[i32; COLUMNS]; ROWS];

        #[inline(always)]
        fn run<const FUSED: bool>(self) -> Self::Output {
            self.0.sums::<FUSED>()
        }
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
            assert!(left.blocks[0].largest * right.panels[0].largest < SMALL);
            let tile = |small| Tile { a: &left.blocks[0], b: &right.panels[0].elements, small };
            let tiles = [
                simd::dispatch(Units(tile(true))),
                simd::dispatch(Units(tile(false))),
                tile(true).small(),
            ];
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
