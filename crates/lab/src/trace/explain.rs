//! Which fact explains a difference between a recorded and a replayed output.
//!
//! Every explanation is a pattern that the fact predicts, tested element by element against the
//! reference (the same program in f32): an element that fits none stays unexplained.

use super::compare::ulps;
use crate::array::Array;
use half::f16;
use mil::resolve::{Kind, Operand};
use mil::{DType, Function, TensorType, ValueId};
use serde::Serialize;

/// A fact, and how many of the differing elements it predicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Id of the fact, a section of the catalogue and a name: `E2-saturation`.
    pub fact: &'static str,
    /// Elements.
    pub elements: usize,
    /// The pattern, in words.
    pub pattern: &'static str,
}

/// Range of the accumulator (docs/ane-facts.md E.2).
const ACCUMULATOR: f64 = 32_768.0;

/// Values that a slice along the width cannot carry on M1 and M2 (facts E.2: ×16 in its DMA).
const SLICE: f64 = 4_094.0;

/// Unit of a product in the accumulator, 2^-16; a gated product is below 2^-15 (facts E.1:
/// exp(a) + exp(b) < -16 and both significands below 2).
const PRODUCT_UNIT: f64 = 1.0 / 65_536.0;

/// The features of a program that facts mention.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    /// Some operation sums products.
    products: bool,
    /// Some operation cuts the width at another place than its start.
    width_slice: bool,
}

impl Traits {
    pub(super) fn of(f: &Function) -> Self {
        let mut traits = Traits::default();
        for op in &f.ops {
            let Ok(resolved) = mil::resolve(f, op) else { continue };
            match &resolved.kind {
                Kind::Slice { begin, .. } => {
                    traits.width_slice |= begin.last().is_some_and(|&b| b > 0);
                }
                Kind::Split { axis, .. } => {
                    let rank = op.results.first().map_or(0, |&id| f.ty(id).rank());
                    traits.width_slice |= axis + 1 == rank;
                }
                kind => traits.products |= depth(f, kind, &resolved.inputs).is_some(),
            }
        }
        traits
    }
}

fn operand_type<'f>(f: &'f Function, operand: &Operand<'f>) -> &'f TensorType {
    match operand {
        Operand::Value(id) => f.ty(*id),
        Operand::Literal(literal) => &literal.ty,
    }
}

/// How many products an element of the result sums; `None` for operations that sum none.
fn depth(f: &Function, kind: &Kind, inputs: &[Operand<'_>]) -> Option<usize> {
    let shape = |i: usize| &operand_type(f, &inputs[i]).shape;
    match kind {
        Kind::Matmul { transpose_x, .. } => {
            let x = shape(0);
            let axis = x.len().checked_sub(if *transpose_x { 2 } else { 1 })?;
            x.get(axis).copied()
        }
        Kind::Linear => shape(1).last().copied(),
        Kind::Conv(_) => Some(shape(1).iter().skip(1).product()),
        Kind::ConvTranspose(_) => Some(shape(1).iter().product()),
        Kind::Attention { .. } => shape(0).last().copied(),
        _ => None,
    }
}

/// True if a value is a parameter or a constant that was only moved, so that it is the same number
/// in every arithmetic.
fn given(f: &Function, id: ValueId) -> bool {
    let mut todo = vec![id];
    let mut seen = vec![false; f.values.len()];
    while let Some(id) = todo.pop() {
        if std::mem::replace(&mut seen[id.index()], true) || f.constant(id).is_some() {
            continue;
        }
        let Some(at) = f.definition(id) else { continue };
        let Ok(resolved) = mil::resolve(f, &f.ops[at]) else { return false };
        let moves = matches!(
            resolved.kind,
            Kind::Reshape
                | Kind::Transpose { .. }
                | Kind::Slice { .. }
                | Kind::Concat { .. }
                | Kind::Split { .. }
                | Kind::Stack { .. }
                | Kind::Tile { .. }
        );
        if !moves {
            return false;
        }
        todo.extend(f.ops[at].operands());
    }
    true
}

/// How many products an element of `output` sums, if it is the result of a product of given
/// numbers that was only moved since.
fn output_depth(f: &Function, output: ValueId) -> Option<usize> {
    let mut id = output;
    loop {
        let op = &f.ops[f.definition(id)?];
        let resolved = mil::resolve(f, op).ok()?;
        match &resolved.kind {
            Kind::Reshape | Kind::Transpose { .. } => match resolved.inputs[0] {
                Operand::Value(from) => id = from,
                Operand::Literal(_) => return None,
            },
            Kind::Attention { .. } => return None,
            kind => {
                let given = op.operands().all(|id| given(f, id));
                return depth(f, kind, &resolved.inputs).filter(|_| given);
            }
        }
    }
}

/// Half a unit of fp16 at `v`.
fn half_unit(v: f64) -> f64 {
    let exponent = v.abs().max(2f64.powi(-14)).log2().floor();
    2f64.powf(exponent - 11.0)
}

/// True if `value` lies midway between two neighbouring fp16, `recorded` being the one further
/// from zero and `replayed` the even one.
fn tie(value: f32, recorded: f32, replayed: f32) -> bool {
    let even = f16::from_f32(value).to_f32();
    let middle = (f64::from(recorded) + f64::from(replayed)) / 2.0;
    even == replayed
        && middle == f64::from(value)
        && recorded.abs() > replayed.abs()
        && ulps(DType::Fp16, recorded, replayed) == 1
}

/// One output: recorded, replayed, and in f32.
pub(super) struct Evidence<'a> {
    pub(super) function: &'a Function,
    pub(super) output: ValueId,
    pub(super) traits: Traits,
    /// True if the recording chip multiplies slices (M1, M2, or unknown).
    pub(super) slice_gain: bool,
    pub(super) recorded: &'a Array,
    pub(super) replayed: &'a Array,
    pub(super) reference: &'a Array,
}

/// Explanations of the elements that differ, and how many stay unexplained.
pub(super) fn elements(evidence: &Evidence<'_>) -> (Vec<Explanation>, usize) {
    let depth = output_depth(evidence.function, evidence.output);
    let half = evidence.function.ty(evidence.output).dtype == DType::Fp16;
    let dtype = if half { DType::Fp16 } else { DType::Fp32 };
    let mut found: Vec<Explanation> = vec![];
    let mut unexplained = 0;
    let triples = (evidence.recorded.values.iter().zip(&evidence.replayed.values))
        .zip(&evidence.reference.values);
    for ((&recorded, &replayed), &reference) in triples {
        if ulps(dtype, recorded, replayed) == 0 {
            continue;
        }
        match element(evidence, depth, half, [recorded, replayed, reference]) {
            Some((fact, pattern)) => match found.iter_mut().find(|e| e.fact == fact) {
                Some(known) => known.elements += 1,
                None => found.push(Explanation { fact, elements: 1, pattern }),
            },
            None => unexplained += 1,
        }
    }
    found.sort_by(|a, b| b.elements.cmp(&a.elements).then(a.fact.cmp(b.fact)));
    (found, unexplained)
}

fn element(
    evidence: &Evidence<'_>,
    depth: Option<usize>,
    half: bool,
    [recorded, replayed, reference]: [f32; 3],
) -> Option<(&'static str, &'static str)> {
    let exact = f64::from(reference);
    let (traits, infinite) = (evidence.traits, recorded.is_infinite());
    if infinite && traits.products && exact.abs() >= ACCUMULATOR {
        return Some(("E2-saturation", "infinite where the reference reaches 2^15"));
    }
    if infinite && traits.width_slice && evidence.slice_gain && exact.abs() > SLICE {
        let pattern = "infinite where a slice along the width carries more than 4094";
        return Some(("E2-width-slice-gain", pattern));
    }
    if half && tie(reference, recorded, replayed) {
        return Some(("E3-half-away", "away from zero where the reference is a tie"));
    }
    let bound = depth? as f64 * 2.0 * PRODUCT_UNIT + half_unit(exact);
    let on_grid = (f64::from(recorded) / PRODUCT_UNIT).fract() == 0.0;
    if recorded.is_finite() && on_grid && (f64::from(recorded) - exact).abs() <= bound {
        let pattern = "a multiple of 2^-16, off by no more than its products can lose";
        return Some(("E1-product-gate", pattern));
    }
    None
}
