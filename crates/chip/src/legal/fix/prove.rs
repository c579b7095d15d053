//! Proofs that two programs compute the same.
//!
//! A rewrite changes a few operations and leaves the others. So the two functions are walked side by
//! side: a value is the same in both if the same operation makes it of values that are the same
//! ([`Pairs`]); nothing needs to be run for that. Where operations differ, the part between the values
//! known to be the same and the next one that has one name and shape in both is cut out of both
//! functions and run on the same random numbers: in f64 by the reference interpreter while that is
//! cheap, in f32 by crate `cpu` where it is not. What agrees counts as the same from then on.

use super::alike::Pairs;
use super::form::{Applied, Fixed};
use cpu::{Elements, HostProgram, OutputMut};
use mil::blob;
use mil::interp::{Array, InterpError, evaluate};
use mil::passes::slice;
use mil::resolve::{Kind, resolve};
use mil::{Data, Function, Literal, Op, Payload, Program, TensorType, ValueId, Weights};
use std::collections::{BTreeMap, BTreeSet};

/// Multiplications that the interpreter, which is slow on purpose, is asked for in one proof.
const REFERENCE_WORK: u64 = 8_000_000;

/// The same of one part that the CPU's plans cannot run in its place, as for integers.
const MOST_REFERENCE_WORK: u64 = 200_000_000;

/// Multiplications of one proof above which nothing is run.
pub(super) const MAX_WORK: u64 = 40_000_000_000;

/// The error that f32 may add to the difference of two results, relative to the largest one or 1:
/// their sums are taken in another order. Terms left out, or of the wrong place, make a difference
/// of another size.
const SINGLE: f64 = 1e-4;

impl Fixed {
    /// Shows that the rewritten program computes what `original` does ([`prove()`]).
    ///
    /// # Errors
    /// As [`prove()`].
    pub fn prove(
        &self,
        original: &Program,
        weights: &Weights,
        seed: u64,
    ) -> Result<Proof, NotProven> {
        match prove(original, &self.program, &self.applied, weights, seed) {
            Err(NotProven::Interp { .. }) => {
                prove(&self.completed, &self.program, &self.applied, weights, seed)
            }
            proof => proof,
        }
    }
}

/// Two programs were compared and agree.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Proof {
    /// Operations that are the same in both, so that nothing was run.
    pub alike: usize,
    /// Parts that differ, and were run in both on the same random numbers.
    pub parts: usize,
    /// Results of those parts that were compared in f64.
    pub values: usize,
    /// Largest difference of two of them, relative to the largest result or 1.
    pub largest: f64,
    /// The tolerance: the bounds of the rewrites, added up.
    pub bound: f64,
    /// Results that were compared in f32, because in f64 it takes too long.
    pub single_values: usize,
    /// Largest difference of two of them, relative to the largest result or 1.
    pub single_largest: f64,
    /// Multiplications or so that it took, of all runs together.
    pub work: u64,
}

impl Proof {
    /// The tolerance of results in f32.
    pub fn single_bound(&self) -> f64 {
        self.bound + SINGLE
    }
}

/// Why two programs were not shown to compute the same.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum NotProven {
    #[error(
        "what differs takes {work} multiplications or so, more than {MAX_WORK}: too many to run"
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

/// Shows that `after` computes what `before` does. What has to be run is run twice on the same random
/// inputs, numbers that fp16 holds between −1 and 1, then between 0 and 1.
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
    let proof = Proof { bound, ..Proof::default() };
    let mut prover = Prover { weights, random: Random(seed), proof, reference: 0 };
    for (f, g) in before.functions.iter().zip(&after.functions) {
        prover.function(f, g)?;
    }
    Ok(prover.proof)
}

struct Prover<'w> {
    weights: &'w Weights,
    random: Random,
    proof: Proof,
    /// Work that the interpreter has done.
    reference: u64,
}

/// The outcome of running a part in both functions.
struct Outcome {
    /// Largest difference of two results, relative to the largest one or 1.
    difference: f64,
    values: usize,
    /// True if it was run in f32.
    single: bool,
}

impl Prover<'_> {
    fn function(&mut self, f: &Function, g: &Function) -> Result<(), NotProven> {
        let (f, g) = (&typed(f)?, &typed(g)?);
        same_ports(f, g)?;
        let mut pairs = Pairs::new(f, g);
        for op in &g.ops {
            if pairs.step(op) {
                self.proof.alike += usize::from(op.value.is_none());
                continue;
            }
            for &y in op.results.iter().filter(|_| op.value.is_none()) {
                let Some(x) = pairs.namesake(y) else { continue };
                let outcome = self.part(&pairs, x, y, Extent::Part)?;
                if self.accept(&outcome) {
                    pairs.join(x, y);
                }
            }
        }
        for (&x, &y) in f.outputs.iter().zip(&g.outputs) {
            if pairs.are_same(x, y) {
                continue;
            }
            // What is known may depend on what else is known: if a part differs, all of it is run.
            let outcome = self.part(&pairs, x, y, Extent::Part)?;
            if self.accept(&outcome) {
                continue;
            }
            let outcome = self.part(&pairs, x, y, Extent::Whole)?;
            if !self.accept(&outcome) {
                let (function, output) = (f.name.clone(), f.value(x).name.clone());
                let (difference, bound) = (outcome.difference, self.allowed(&outcome));
                return Err(NotProven::Differs { function, output, difference, bound });
            }
        }
        Ok(())
    }

    fn allowed(&self, outcome: &Outcome) -> f64 {
        if outcome.single { self.proof.single_bound() } else { self.proof.bound }
    }

    /// Notes a part that agrees; returns whether it does.
    fn accept(&mut self, outcome: &Outcome) -> bool {
        if outcome.difference.is_nan() || outcome.difference > self.allowed(outcome) {
            return false;
        }
        let proof = &mut self.proof;
        proof.parts += 1;
        let (values, largest) = match outcome.single {
            true => (&mut proof.single_values, &mut proof.single_largest),
            false => (&mut proof.values, &mut proof.largest),
        };
        *values += outcome.values;
        *largest = largest.max(outcome.difference);
        true
    }

    /// Runs what makes `x` in one function and `y` in the other of values that are the same in both.
    fn part(
        &mut self,
        pairs: &Pairs<'_>,
        x: ValueId,
        y: ValueId,
        extent: Extent,
    ) -> Result<Outcome, NotProven> {
        let (f, g) = (pairs.f, pairs.g);
        let of_g = cut(g, y, |id| extent == Extent::Part && pairs.is_known(id));
        let shared: BTreeSet<ValueId> = of_g.iter().filter_map(|&id| pairs.twin(id)).collect();
        let of_f = cut(f, x, |id| shared.contains(&pairs.stands_for(id)));
        let part = |f: &Function, given: &[ValueId], wanted: ValueId| {
            let part = slice(f, &f.name, given, &[wanted]).expect("the cut gives all it needs");
            self_contained(part, self.weights)
        };
        let (before, after) = (part(f, &of_f, x), part(g, &of_g, y));
        let work = work(&before).saturating_add(work(&after)).saturating_mul(2);
        let run = self.way(&before, &after, work)?;
        let mut outcome = Outcome { difference: 0.0, values: 0, single: run == Way::Single };
        for least in [-1.0, 0.0] {
            // One array for each value of the first function.
            let mut arrays: BTreeMap<ValueId, Array> = BTreeMap::new();
            let mut array = |id: ValueId, random: &mut Random| -> Array {
                arrays.entry(id).or_insert_with(|| random.array(f.ty(id), least)).clone()
            };
            let given: Vec<Array> =
                of_f.iter().map(|&id| array(pairs.stands_for(id), &mut self.random)).collect();
            let mut other = vec![];
            for &id in &of_g {
                let Some(twin) = pairs.twin(id) else {
                    // A port that is wider than before.
                    let narrow = array(ValueId(id.0), &mut self.random);
                    let wide = self.random.array(g.ty(id), least);
                    other.push(widened(&narrow, wide).expect("ports have the same rows"));
                    continue;
                };
                other.push(array(twin, &mut self.random));
            }
            let (expected, got) = (run.run(&before, &given)?, run.run(&after, &other)?);
            let got = narrowed(&got, &expected.shape).ok_or_else(|| NotProven::Ports {
                function: f.name.clone(),
                what: format!("shape of output {}", f.value(x).name),
            })?;
            outcome.difference = outcome.difference.max(difference(&expected.data, &got));
            outcome.values += expected.data.len();
        }
        Ok(outcome)
    }

    /// How to run two parts, which take `work` together.
    fn way(&mut self, f: &Function, g: &Function, work: u64) -> Result<Way, NotProven> {
        self.proof.work = self.proof.work.saturating_add(work);
        if self.proof.work > MAX_WORK {
            return Err(NotProven::TooLarge { work: self.proof.work });
        }
        let cheap = self.reference.saturating_add(work);
        if cheap > REFERENCE_WORK && is_single(f) && is_single(g) {
            return Ok(Way::Single);
        }
        if cheap > MOST_REFERENCE_WORK {
            return Err(NotProven::TooLarge { work: cheap });
        }
        self.reference = cheap;
        Ok(Way::Reference)
    }
}

/// How much of two functions is run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Extent {
    /// From the values that are the same in both.
    Part,
    /// From the parameters.
    Whole,
}

/// The executor of a part.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The interpreter, in f64.
    Reference,
    /// The emulator's plans, in f32.
    Single,
}

impl Way {
    /// The only output of `f`.
    fn run(self, f: &Function, inputs: &[Array]) -> Result<Array, NotProven> {
        match self {
            Way::Reference => evaluate(f, inputs, &Weights::new())
                .map(|mut outputs| outputs.swap_remove(0))
                .map_err(|error| cannot_run(f, error)),
            Way::Single => match (single(f, inputs), work(f)) {
                (Some(output), _) => Ok(output),
                (None, work) if work > MOST_REFERENCE_WORK => Err(NotProven::TooLarge { work }),
                (None, _) => Way::Reference.run(f, inputs),
            },
        }
    }
}

/// True if a function computes floats of floats, so that it can be run in f32.
fn is_single(f: &Function) -> bool {
    let ports = f.inputs().chain(f.outputs.iter().copied());
    ports.into_iter().all(|id| f.ty(id).dtype.is_float()) && !f.ops.is_empty()
}

fn single(f: &Function, inputs: &[Array]) -> Option<Array> {
    let inputs: Vec<Vec<f32>> =
        inputs.iter().map(|x| x.data.iter().map(|&v| v as f32).collect()).collect();
    let inputs: Vec<Elements<'_>> = inputs.iter().map(|x| Elements::F32(x)).collect();
    let shape = &f.ty(*f.outputs.first()?).shape;
    let mut data = vec![0.0; shape.iter().product()];
    let output = OutputMut::F32 { data: &mut data, accumulate: false };
    HostProgram::new(f).ok()?.run(&inputs, &mut [output]).ok()?;
    Some(Array::new(shape.clone(), data.into_iter().map(f64::from).collect()))
}

fn cannot_run(f: &Function, error: InterpError) -> NotProven {
    NotProven::Interp { function: f.name.clone(), error }
}

/// The function with the types that follow, whatever was declared.
fn typed(f: &Function) -> Result<Function, NotProven> {
    let mut typed = f.clone();
    for op in &f.ops {
        let resolved = resolve(&typed, op).map_err(|error| cannot_run(f, error.into()))?;
        for (id, ty) in op.results.iter().zip(resolved.results) {
            if let Some(value) = typed.values.get_mut(id.index()) {
                value.ty = ty;
            }
        }
    }
    Ok(typed)
}

/// Ports are as many as before, and as wide or wider.
fn same_ports(f: &Function, g: &Function) -> Result<(), NotProven> {
    let ports = |what: String| Err(NotProven::Ports { function: f.name.clone(), what });
    if (f.params, f.outputs.len()) != (g.params, g.outputs.len()) {
        return ports("their number".to_owned());
    }
    let inputs = f.inputs().zip(g.inputs());
    for (x, y) in inputs.chain(f.outputs.iter().copied().zip(g.outputs.iter().copied())) {
        if same_rows(&f.ty(x).shape, &g.ty(y).shape).is_none() {
            return ports(format!("shape of `{}`", f.value(x).name));
        }
    }
    Ok(())
}

/// The known values and parameters from which `wanted` is computed, in order. Constants are not among
/// them, as operations ask for some of them by value.
fn cut(f: &Function, wanted: ValueId, known: impl Fn(ValueId) -> bool) -> Vec<ValueId> {
    let mut needed = BTreeSet::from([wanted]);
    let mut given = BTreeSet::new();
    // Operations only read what is defined before them.
    while let Some(id) = needed.pop_last() {
        let constant =
            |index: usize| f.ops[index].op == Op::Const || f.ops[index].op.is_constexpr();
        let open = |index: &usize| constant(*index) || !known(id);
        let definition = f.definition(id).filter(open);
        match definition {
            Some(index) => needed.extend(f.ops[index].operands()),
            None => drop(given.insert(id)),
        }
    }
    given.into_iter().collect()
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
fn self_contained(mut f: Function, weights: &Weights) -> Function {
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
