//! That two programs compute the same: both through the reference interpreter, on random inputs.

use super::Applied;
use mil::blob;
use mil::interp::{Array, InterpError, evaluate};
use mil::resolve::{Kind, resolve};
use mil::{Data, Function, Literal, Payload, Program, TensorType, Weights};

/// Multiplications of one run above which the interpreter, which is slow on purpose, is not asked.
pub(super) const MAX_WORK: u64 = 200_000_000;

/// Two programs were run and agreed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proof {
    /// Largest difference of two results, relative to the largest result or 1.
    pub largest: f64,
    /// What was allowed: the bounds of the rewrites, added up.
    pub bound: f64,
    /// Results compared.
    pub values: usize,
}

/// Why two programs were not shown to compute the same.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum NotProven {
    #[error(
        "a run takes {work} multiplications or so, more than {MAX_WORK}: too many for the reference"
    )]
    TooLarge { work: u64 },
    #[error("function `{function}` cannot be run: {error}")]
    Interp { function: String, error: InterpError },
    #[error("function `{function}` has other ports than before: {what}")]
    Ports { function: String, what: String },
    #[error(
        "output `{output}` of `{function}` differs by {difference:e}, more than the bound {bound:e}"
    )]
    Differs { function: String, output: String, difference: f64, bound: f64 },
}

/// Runs `before` and `after` twice on the same random inputs, numbers that fp16 holds between −1
/// and 1, then between 0 and 1, and compares what they return.
///
/// Ports may be wider or of another element type than before: what is new of an input is filled with
/// random numbers, of an output ignored. Weight files that are not given are random too, the same
/// for both.
///
/// # Errors
/// When results differ by more than the bounds of `applied` allow, or cannot be computed.
pub fn prove(
    before: &Program,
    after: &Program,
    applied: &[Applied],
    weights: &Weights,
    seed: u64,
) -> Result<Proof, NotProven> {
    let bound = applied.iter().fold(0.0, |sum, applied| sum + applied.bound);
    let mut proof = Proof { largest: 0.0, bound, values: 0 };
    let mut random = Random(seed);
    for (f, g) in before.functions.iter().zip(&after.functions) {
        let work = work(f).max(work(g));
        if work > MAX_WORK {
            return Err(NotProven::TooLarge { work });
        }
        let (f, g) = (self_contained(f, weights), self_contained(g, weights));
        for least in [-1.0, 0.0] {
            compare(&f, &g, least, &mut random, &mut proof)?;
        }
    }
    Ok(proof)
}

fn compare(
    f: &Function,
    g: &Function,
    least: f64,
    random: &mut Random,
    proof: &mut Proof,
) -> Result<(), NotProven> {
    let ports = |what: String| NotProven::Ports { function: f.name.clone(), what };
    if (f.params, f.outputs.len()) != (g.params, g.outputs.len()) {
        return Err(ports("their number".to_owned()));
    }
    let inputs: Vec<Array> = f.inputs().map(|id| random.array(f.ty(id), least)).collect();
    let wide: Option<Vec<Array>> = (g.inputs().zip(&inputs))
        .map(|(id, x)| widened(x, random.array(g.ty(id), least)))
        .collect();
    let wide = wide.ok_or_else(|| ports("shapes of inputs".to_owned()))?;
    let run = |f: &Function, inputs: &[Array]| {
        evaluate(f, inputs, &Weights::new())
            .map_err(|error| NotProven::Interp { function: f.name.clone(), error })
    };
    let (expected, got) = (run(f, &inputs)?, run(g, &wide)?);
    for ((x, y), id) in expected.iter().zip(&got).zip(&f.outputs) {
        let output = &f.value(*id).name;
        let y = narrowed(y, &x.shape).ok_or_else(|| ports(format!("shape of output {output}")))?;
        let difference = difference(&x.data, &y);
        if difference > proof.bound || difference.is_nan() {
            let (function, output, bound) = (f.name.clone(), output.clone(), proof.bound);
            return Err(NotProven::Differs { function, output, difference, bound });
        }
        proof.largest = proof.largest.max(difference);
        proof.values += x.data.len();
    }
    Ok(())
}

/// Largest difference relative to the largest number or 1; equal infinities and NaNs do not differ.
fn difference(x: &[f64], y: &[f64]) -> f64 {
    let finite = x.iter().filter(|v| v.is_finite());
    let scale = finite.fold(1.0f64, |scale, v| scale.max(v.abs()));
    let one = |(&x, &y): (&f64, &f64)| {
        if x == y || (x.is_nan() && y.is_nan()) { 0.0 } else { (x - y).abs() / scale }
    };
    // A NaN, which one of two would be, is larger than any number here.
    x.iter().zip(y).map(one).fold(0.0, |a, b| if b.is_nan() { f64::INFINITY } else { a.max(b) })
}

/// Places of a narrower array's rows in a wider one that differs in its last axis only.
fn same_rows(narrow: &[usize], wide: &[usize]) -> Option<(usize, usize)> {
    match (narrow.split_last(), wide.split_last()) {
        (None, None) => Some((1, 1)),
        (Some((n, a)), Some((w, b))) if a == b && n <= w => Some((*n, *w)),
        _ => None,
    }
}

/// `x` at the start of each row of `into`.
fn widened(x: &Array, mut into: Array) -> Option<Array> {
    let (n, w) = same_rows(&x.shape, &into.shape)?;
    for (row, x) in into.data.chunks_exact_mut(w).zip(x.data.chunks_exact(n)) {
        row[..n].copy_from_slice(x);
    }
    Some(into)
}

/// The start of each row of `y`.
fn narrowed(y: &Array, shape: &[usize]) -> Option<Vec<f64>> {
    let (n, w) = same_rows(shape, &y.shape)?;
    Some(y.data.chunks_exact(w).flat_map(|row| &row[..n]).copied().collect())
}

/// Values are called by their number, so that names given twice mean nothing, and constants are in
/// the text: from the weight files, or random where there is no file.
fn self_contained(f: &Function, weights: &Weights) -> Function {
    let mut f = f.clone();
    for (i, value) in f.values.iter_mut().enumerate() {
        value.name = format!("v{i}");
    }
    for literal in f.ops.iter_mut().flat_map(|op| op.literals_mut()) {
        inline(literal, weights);
    }
    f
}

fn inline(literal: &mut Literal, weights: &Weights) {
    let Payload::Blob { path, offset } = &literal.payload else { return };
    let data = blob::load(literal, weights).unwrap_or_else(|_| {
        // The same blob gives the same numbers, whatever shape it is read in.
        let seed = path.bytes().fold(*offset, |seed, byte| Random(seed ^ u64::from(byte)).next());
        let flat = TensorType::new(literal.ty.dtype, [literal.ty.count()]);
        let values = Random(seed).array(&flat, -1.0).data;
        match literal.ty.dtype {
            dtype if dtype.is_float() => match Literal::floats(flat, &values).payload {
                Payload::Inline(data) => data,
                Payload::Blob { .. } => unreachable!("made in place"),
            },
            mil::DType::Bool => Data::Bool(values.iter().map(|&v| v != 0.0).collect()),
            _ => Data::Int(values.iter().map(|&v| v as i64).collect()),
        }
    });
    literal.payload = Payload::Inline(data);
}

/// Multiplications, and elements written; saturates.
fn work(f: &Function) -> u64 {
    let of = |op: &mil::Operation| -> Option<u64> {
        let resolved = resolve(f, op).ok()?;
        let inputs: Vec<&TensorType> = op.operands().map(|id| f.ty(id)).collect();
        let inner = match resolved.kind {
            Kind::Matmul { transpose_x, .. } => {
                let shape = &inputs.first()?.shape;
                shape[shape.len().checked_sub(if transpose_x { 2 } else { 1 })?]
            }
            Kind::Linear | Kind::Conv(_) => {
                let weight = match op.arg("weight")? {
                    mil::Arg::Value(id) => f.ty(*id),
                    mil::Arg::Literal(literal) | mil::Arg::Attribute(literal) => &literal.ty,
                    mil::Arg::Values(_) => return None,
                };
                weight.shape[1..].iter().product()
            }
            Kind::ConvTranspose(_) => inputs.get(1)?.count() / inputs.get(1)?.shape[1].max(1),
            Kind::Attention { .. } => 2 * inputs.get(1)?.shape.iter().rev().take(2).sum::<usize>(),
            Kind::Pool(ref pool) => pool.kernel.iter().product(),
            Kind::Einsum(ref einsum) => {
                let extents = einsum.extents(&inputs.first()?.shape, &inputs.get(1)?.shape);
                let summed = (0..extents.len()).filter(|label| !einsum.result.contains(label));
                summed.map(|label| extents[label]).product()
            }
            _ => 1,
        };
        let written: u64 = resolved.results.iter().map(|ty| ty.count() as u64).sum();
        let read: u64 = inputs.iter().map(|ty| ty.count() as u64).sum();
        // An element of memory is as dear as eight multiplications.
        let held = written.saturating_mul(8).saturating_add(read);
        Some(written.saturating_mul(inner as u64).saturating_add(held))
    };
    f.ops.iter().filter_map(of).fold(0, u64::saturating_add)
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Numbers between `least` and 1 that fp16 holds; whole ones for integers and truth values.
    fn array(&mut self, ty: &TensorType, least: f64) -> Array {
        let float = ty.dtype.is_float();
        let mut one = || {
            let unit = (self.next() >> 54) as f64 / 1024.0;
            if float {
                if least < 0.0 { 2.0 * unit - 1.0 } else { unit + 1.0 / 1024.0 }
            } else {
                (unit * 2.0).floor()
            }
        };
        let data = (0..ty.count()).map(|_| one()).collect();
        Array::new(ty.shape.clone(), data)
    }
}
