//! The forecast for a MIL function.

use super::constants::{BAR_FITTED, BAR_RULED, CONSTANTS};
use super::fit::is_tabled;
use super::host;
use super::model::{
    ChipConstants, Law, Milliseconds, OpWork, Shared, WEIGHT_CORES, op_ms, working_set,
};
use super::silicon::Silicon;
use crate::machine::{CallPath, Profile};
use mil::resolve::Operand;
use mil::{Function, Kind, Operation, Resolved, TensorType, ValueId};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The bound of an operation, or of most of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The cost of a dispatch.
    Dispatch,
    /// Arithmetic.
    Compute,
    /// Streaming weights and other inputs.
    Weights,
    /// Elementwise passes.
    Activations,
    /// The fixed cycles of an operation.
    Layers,
    /// Copies between host and device.
    HostCopy,
}

impl Bound {
    /// Name in tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Dispatch => "dispatch",
            Bound::Compute => "compute",
            Bound::Weights => "weights",
            Bound::Activations => "activations",
            Bound::Layers => "layers",
            Bound::HostCopy => "host_copy",
        }
    }
}

/// Seconds by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// Dispatch floor.
    pub dispatch: f64,
    /// Arithmetic.
    pub compute: f64,
    /// Weights and other streamed operands.
    pub weights: f64,
    /// Elementwise passes.
    pub activations: f64,
    /// Fixed cycles per operation.
    pub layers: f64,
    /// Copies between host and device, if every port is copied once per run.
    pub host_copy: f64,
}

impl Parts {
    /// Causes and seconds, in a fixed order.
    pub fn list(&self) -> [(Bound, f64); 6] {
        [
            (Bound::Dispatch, self.dispatch),
            (Bound::Compute, self.compute),
            (Bound::Weights, self.weights),
            (Bound::Activations, self.activations),
            (Bound::Layers, self.layers),
            (Bound::HostCopy, self.host_copy),
        ]
    }

    fn of(ms: &Milliseconds) -> Self {
        Parts {
            dispatch: ms.dispatch * 1e-3,
            compute: ms.compute * 1e-3,
            weights: ms.weights * 1e-3,
            activations: ms.activations * 1e-3,
            layers: ms.layers * 1e-3,
            host_copy: ms.host_copy * 1e-3,
        }
    }

    fn total(&self) -> f64 {
        self.list().iter().map(|(_, s)| s).sum()
    }

    fn bound(&self) -> Bound {
        let most = self.list().into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        most.map_or(Bound::Dispatch, |(bound, _)| bound)
    }
}

/// Forecast of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationCost {
    /// The operation, for instance `matmul`.
    pub op: String,
    /// Its first result.
    pub name: String,
    /// Seconds on the engine.
    pub seconds: f64,
    /// Floating-point operations of products; 0 for all others.
    pub flops: f64,
    /// Bytes that stream from memory.
    pub bytes: f64,
    /// Its bound.
    pub bound: Bound,
    /// True if its weights fall into the 1-MiB DMA notch of this chip.
    pub notch: bool,
}

/// Forecast of one evaluation of a function. Not confirmed on hardware.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The machine.
    pub profile: Profile,
    /// Seconds, host copies included.
    pub seconds: f64,
    /// Lower end: nine of ten published rows lie between the two ends around their forecast.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Seconds by cause.
    pub parts: Parts,
    /// One per operation that does something.
    pub operations: Vec<OperationCost>,
    /// True if the chip's constants were fitted to its own rows; otherwise they come from the
    /// scaling rules and the error bar is the wider one.
    pub fitted: bool,
}

impl Estimate {
    /// Seconds without host copies.
    pub fn engine_seconds(&self) -> f64 {
        self.seconds - self.parts.host_copy
    }

    /// The bound of most of the time.
    pub fn bound(&self) -> Bound {
        self.parts.bound()
    }

    /// As a JSON object, for the function of that name. Fields are added, never renamed.
    pub fn json(&self, function: &str) -> Value {
        let list = self.parts.list();
        let parts: Map<_, _> =
            list.iter().map(|(cause, s)| (cause.name().to_owned(), Value::from(*s))).collect();
        let operations: Vec<_> = (self.operations.iter())
            .map(|o| {
                json!({
                    "op": o.op, "name": o.name, "seconds": o.seconds, "flops": o.flops,
                    "bytes": o.bytes, "bound_by": o.bound.name(), "notch": o.notch,
                })
            })
            .collect();
        json!({
            "function": function, "seconds": self.seconds, "low": self.low, "high": self.high,
            "bound_by": self.bound().name(), "fitted": self.fitted, "parts": parts,
            "operations": operations,
        })
    }
}

/// Seconds that the first run after `idle` seconds takes longer: 0.5 ms after 0.1 s, 0.26 s after 5 s
/// (facts D "Idle re-wake", GUIDE:09, 31, M1).
pub fn wake_up(idle: f64) -> f64 {
    match idle {
        t if t >= 5.0 => 0.26,
        t if t >= 0.1 => 5e-4,
        _ => 0.0,
    }
}

/// Low and high factor of the error bar for a chip.
pub fn error_bar(fitted: bool) -> (f64, f64) {
    if fitted { BAR_FITTED } else { BAR_RULED }
}

/// Forecast of one evaluation of `program` on the machine `profile`.
///
/// Operations that the language refuses cost nothing: check the program first.
pub fn estimate(program: &Function, profile: &Profile) -> Estimate {
    let cost = Costing {
        program,
        silicon: Silicon::of(profile.chip),
        chip: CONSTANTS.of(profile.chip),
        shared: &CONSTANTS.shared,
        read: RefCell::default(),
    };
    let mut parts = Parts { dispatch: cost.chip.floor_ms * 1e-3, ..Parts::default() };
    let mut operations = vec![];
    for operation in &program.ops {
        for work in cost.works(operation) {
            let (ms, found) = cost.operation(operation, &work);
            let p = Parts::of(&ms);
            parts.compute += p.compute;
            parts.weights += p.weights;
            parts.activations += p.activations;
            parts.layers += p.layers;
            operations.push(found);
        }
    }
    parts.host_copy = cost.host_copy(profile.path);
    let fitted = is_tabled(profile.chip.facts().name);
    let (low, high) = error_bar(fitted);
    let seconds = parts.total();
    Estimate {
        profile: *profile,
        seconds,
        low: seconds * low,
        high: seconds * high,
        parts,
        operations,
        fitted,
    }
}

struct Costing<'a> {
    program: &'a Function,
    silicon: &'static Silicon,
    chip: &'a ChipConstants,
    shared: &'a Shared,
    /// Constants that some operation has read.
    read: RefCell<BTreeSet<ValueId>>,
}

impl Costing<'_> {
    fn operation(&self, operation: &Operation, work: &OpWork) -> (Milliseconds, OperationCost) {
        let ms = op_ms(work, self.chip, self.silicon, self.shared);
        let parts = Parts::of(&ms);
        let first = operation.results.first();
        let cost = OperationCost {
            op: operation.op.to_string(),
            name: first.map_or(String::new(), |&id| self.program.value(id).name.clone()),
            seconds: parts.total(),
            flops: work.flops * work.count,
            bytes: work.weight_bytes * work.count,
            bound: parts.bound(),
            notch: super::model::notched(work, self.silicon),
        };
        (ms, cost)
    }

    /// The work of an operation as the model counts it; nothing for constants and pure changes of
    /// shape.
    fn works(&self, operation: &Operation) -> Vec<OpWork> {
        let Ok(resolved) = mil::resolve(self.program, operation) else { return vec![] };
        let out = resolved.results.first().map_or(0, TensorType::count);
        let first = resolved.inputs.first().map_or(0, |x| self.ty(x).count());
        let pass = |law, elements| vec![OpWork::pass(law, elements)];
        match &resolved.kind {
            Kind::Const
            | Kind::Reshape
            | Kind::Constexpr(_)
            | Kind::Fill { .. }
            | Kind::Range { .. } => vec![],
            Kind::Einsum(einsum) => {
                let [x, y] = [0, 1].map(|i| self.ty(&resolved.inputs[i]).shape.as_slice());
                let flops = 2.0 * einsum.extents(x, y).iter().map(|&n| n as f64).product::<f64>();
                vec![self.product(Law::Matmul, flops, &resolved)]
            }
            Kind::Matmul { transpose_x, .. } => vec![self.matmul(&resolved, *transpose_x)],
            Kind::Linear => vec![self.weighted(&resolved, Law::Matmul, 1)],
            Kind::Conv(_) | Kind::ConvTranspose(_) => vec![self.convolution(&resolved)],
            Kind::Attention { .. } => self.attention(&resolved),
            Kind::Softmax { .. } => pass(Law::Softmax, out),
            Kind::LayerNorm { .. } | Kind::Norm(_) => pass(Law::LayerNorm, out),
            Kind::Reduce { .. } | Kind::Pool(_) => pass(Law::Reduce, first),
            Kind::Transpose { .. }
            | Kind::Slice { .. }
            | Kind::Concat { .. }
            | Kind::Stack { .. }
            | Kind::Tile { .. }
            | Kind::Pad { .. }
            | Kind::Rearrange(_)
            | Kind::Resample(_)
            | Kind::NotExecuted => pass(Law::Move, out),
            Kind::Split { .. } | Kind::TopK { .. } => pass(Law::Move, first),
            Kind::Cast
            | Kind::Unary(_)
            | Kind::Binary(_)
            | Kind::Compare(_)
            | Kind::Select
            | Kind::Activation(_)
            | Kind::Not
            | Kind::Quantize { .. }
            | Kind::Dequantize { .. } => pass(Law::Elementwise, out),
        }
    }

    fn ty<'f>(&'f self, operand: &Operand<'f>) -> &'f TensorType {
        match operand {
            Operand::Value(id) => self.program.ty(*id),
            Operand::Literal(literal) => &literal.ty,
        }
    }

    /// Bytes of an operand that come from memory: inputs always, constants when they are first read
    /// (the published chains read one block again and again), what the program computes never;
    /// and everything that does not fit on chip.
    fn streamed(&self, operand: &Operand<'_>) -> f64 {
        let bytes = self.ty(operand).bytes() as f64;
        let Operand::Value(id) = operand else { return bytes };
        let inside = id.index() >= self.program.params;
        let there = inside && (!self.is_constant(*id) || !self.read.borrow_mut().insert(*id));
        if there && bytes <= working_set(self.silicon) { 0.0 } else { bytes }
    }

    /// True if a value is a constant, stored as it is or in fewer bits, read directly or through a
    /// few reshapes (few, so that a program made of nothing else costs no more to look at).
    fn is_constant(&self, mut id: ValueId) -> bool {
        const FEW: usize = 8;
        for _ in 0..FEW {
            let Some(at) = self.program.definition(id) else { return false };
            let operation = &self.program.ops[at];
            if operation.value.is_some() {
                return true;
            }
            let Ok(resolved) = mil::resolve(self.program, operation) else { return false };
            match (&resolved.kind, resolved.inputs.first()) {
                (Kind::Constexpr(_), _) => return true,
                (Kind::Reshape, Some(Operand::Value(of))) => id = *of,
                _ => return false,
            }
        }
        false
    }

    /// A product of the first two inputs: whichever is larger streams, and again for every block of
    /// the other. Products of one operation, such as heads, come one after the other, each with its own block.
    fn product(&self, law: Law, flops: f64, resolved: &Resolved<'_>) -> OpWork {
        let (x, y) = (&resolved.inputs[0], &resolved.inputs[1]);
        let (a, b) = (self.ty(x).bytes() as f64, self.ty(y).bytes() as f64);
        let weight_bytes = self.streamed(x) + self.streamed(y);
        let fits = a + b <= working_set(self.silicon);
        let resident_bytes = if fits || weight_bytes == 0.0 { 0.0 } else { a * b / weight_bytes };
        let int8 = [x, y].iter().all(|v| self.ty(v).dtype.bits() == 8);
        OpWork { flops, weight_bytes, resident_bytes, int8, ..OpWork::product(law, 0, 0, 0) }
    }

    fn matmul(&self, resolved: &Resolved<'_>, transpose_x: bool) -> OpWork {
        let shape = &self.ty(&resolved.inputs[0]).shape;
        let inner = match (shape.len(), transpose_x) {
            (0, _) => 1,
            (1, _) => shape[0],
            (n, true) => shape[n - 2],
            (n, false) => shape[n - 1],
        };
        let out = resolved.results[0].count();
        let work = self.product(Law::Matmul, 2.0 * out as f64 * inner as f64, resolved);
        let together: usize = resolved.results[0].shape.iter().rev().skip(2).product();
        OpWork { resident_bytes: work.resident_bytes / together.max(1) as f64, ..work }
    }

    /// A product with weights [out, in, …]: every output is a sum over in · taps.
    fn weighted(&self, resolved: &Resolved<'_>, law: Law, taps: usize) -> OpWork {
        let weight = &self.ty(&resolved.inputs[1]).shape;
        let inner = weight.get(1).copied().unwrap_or(1) * taps;
        let out = resolved.results[0].count();
        self.product(law, 2.0 * out as f64 * inner as f64, resolved)
    }

    fn convolution(&self, resolved: &Resolved<'_>) -> OpWork {
        let weight = self.ty(&resolved.inputs[1]);
        let taps: usize = weight.shape.iter().skip(2).product();
        let law = if taps == 1 { Law::Conv1x1 } else { Law::Conv };
        let mut work = self.weighted(resolved, law, taps);
        if matches!(resolved.inputs[1], Operand::Value(id) if self.is_constant(id)) {
            let outputs = weight.shape[0].max(1);
            let per_output = weight.bytes() / outputs;
            work.core_payload = outputs.div_ceil(WEIGHT_CORES) * per_output;
        }
        work
    }

    fn attention(&self, resolved: &Resolved<'_>) -> Vec<OpWork> {
        let (q, k) = (self.ty(&resolved.inputs[0]), self.ty(&resolved.inputs[1]));
        let (width, keys) = (q.shape[q.rank() - 1], k.shape[k.rank() - 2]);
        let scores = q.count() / width.max(1) * keys;
        let flops = 2.0 * scores as f64 * width as f64;
        let value = resolved.results[0].count() as f64 * keys as f64 * 2.0;
        vec![
            self.product(Law::Matmul, flops, resolved),
            OpWork::pass(Law::Softmax, scores),
            OpWork { flops: value, ..OpWork::product(Law::Matmul, 0, 0, 0) },
        ]
    }

    /// Seconds to copy every port once: by e5rt at the published rates, in memory at the host's own
    /// rate with a lock per surface. An fp32 port has twice the bytes, and its casts are operations of the
    /// program (facts C.1: fp16 ports are about 37 % faster).
    fn host_copy(&self, path: CallPath) -> f64 {
        let bytes = |ids: &mut dyn Iterator<Item = ValueId>| {
            ids.fold((0.0, 0), |(sum, n), id| (sum + self.program.ty(id).bytes() as f64, n + 1))
        };
        let (input, n) = bytes(&mut self.program.inputs());
        let (output, m) = bytes(&mut self.program.outputs.iter().copied());
        match path {
            CallPath::E5rt => (input / self.chip.read + output / self.chip.write) * 1e-9,
            CallPath::InMemory => {
                let copied = host::HostWork {
                    copied_bytes: input + output,
                    locks: f64::from(n + m),
                    ..host::HostWork::default()
                };
                copied.seconds(self.silicon)
            }
        }
    }
}
