//! The ranges of an engine's products: how far results are from 2^15, where the engine saturates, and how many
//! products of two elements it loses below 2^-16 (docs/ane-facts.md E.1, E.2).
//!
//! A [`Watched`] device passes requests on as they are. While [`Ranges::look`] asks for it, the first request for
//! each layer is computed a second time, on the CPU and in f32, for the operands and results of its `matmul` operations. Nothing
//! that the device computes depends on it.

use ane::surface::SurfaceKey;
use ane::{AneError, Call, Device, Executable, Port, Reloaded, RunReport, Surface};
use chip::cost::Estimate;
use cpu::{Elements, HostProgram, OutputMut};
use half::f16;
use mil::passes::{hoist_constants, slice, to_fp32};
use mil::{Function, Kind, Op, Program, TensorType, ValueId, Weights, resolve};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The magnitude from which on a sum of products is infinite.
pub const LIMIT: f64 = 32768.0;
/// Products of two elements that are looked at for a product of matrices: the share that is lost has a standard error
/// of at most 1/2 / √4096, less than one hundredth.
const SAMPLES: usize = 4096;
/// Most steps back from an operand to a name.
const STEPS: usize = 16;

/// The range of one product of matrices in one request.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductRange {
    /// Name of the result, or of its operands where it has none.
    pub tensor: String,
    /// Names of the operands.
    pub operands: [String; 2],
    /// Largest magnitudes of the operands.
    pub largest_operands: [f64; 2],
    /// Largest magnitude of the result, computed in f32.
    pub largest: f64,
    /// Share of the products of two elements, both not 0, that the engine takes for 0; from a sample.
    pub lost: f64,
}

/// The ranges of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRanges {
    /// Name of the program.
    pub program: String,
    /// Place of the program among those that the device compiled.
    pub index: usize,
    /// Which request of the program it was, from the first one looked at: layer by layer.
    pub request: usize,
    /// Its products, in order.
    pub products: Vec<ProductRange>,
}

/// A device that can be asked for the ranges of its products.
#[derive(Debug)]
pub struct Watched {
    device: Box<dyn Device>,
    ranges: Ranges,
}

/// The ranges that a [`Watched`] device found. Clones share it, so that it outlives the device.
#[derive(Clone, Debug, Default)]
pub struct Ranges(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Which look this is; odd while there is one.
    look: AtomicU64,
    found: Mutex<Vec<RequestRanges>>,
    /// Programs compiled.
    programs: AtomicUsize,
}

impl Ranges {
    /// Looks at the requests from now on, at each request of a program until they begin anew.
    pub fn look(&self) {
        if self.0.look.load(Ordering::Relaxed).is_multiple_of(2) {
            self.0.look.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks no more, and takes out what was found.
    pub fn take(&self) -> Vec<RequestRanges> {
        if !self.0.look.load(Ordering::Relaxed).is_multiple_of(2) {
            self.0.look.fetch_add(1, Ordering::Relaxed);
        }
        std::mem::take(&mut lock(&self.0.found))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Watched {
    /// `device`, watched.
    pub fn new(device: Box<dyn Device>) -> Self {
        Watched { device, ranges: Ranges::default() }
    }

    /// Returns what asks for looks and takes what they find.
    pub fn ranges(&self) -> Ranges {
        self.ranges.clone()
    }
}

impl Device for Watched {
    fn describe(&self) -> String {
        self.device.describe()
    }

    ane::as_inside!(device, unchecked);

    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        let executable = self.device.compile(program, weights)?;
        Ok(Box::new(WatchedExecutable {
            executable,
            ranges: self.ranges.clone(),
            index: self.ranges.0.programs.fetch_add(1, Ordering::Relaxed),
            // Programs with weight files are not looked at.
            function: program.functions.first().filter(|_| weights.is_empty()).cloned(),
            probe: None,
            look: 0,
            requests: 0,
            first: vec![],
            over: false,
        }))
    }
}

#[derive(Debug)]
struct WatchedExecutable {
    executable: Box<dyn Executable>,
    ranges: Ranges,
    index: usize,
    /// Absent where there is nothing to be looked at.
    function: Option<Function>,
    /// Compiled when it is first needed.
    probe: Option<Probe>,
    /// The look that the rest belongs to.
    look: u64,
    requests: usize,
    /// Inputs of its first request: when they come again, so do all layers.
    first: Vec<SurfaceKey>,
    over: bool,
}

impl Executable for WatchedExecutable {
    fn inputs(&self) -> &[Port] {
        self.executable.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.executable.outputs()
    }

    fn forecast(&self) -> Option<&Estimate> {
        self.executable.forecast()
    }

    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        let look = self.ranges.0.look.load(Ordering::Relaxed);
        if !look.is_multiple_of(2) {
            self.see(look, inputs)?;
        }
        self.executable.run(inputs, outputs)
    }

    fn run_by(
        &mut self,
        call: Call,
        inputs: &[&Surface],
        outputs: &[&Surface],
    ) -> Result<Option<RunReport>, AneError> {
        self.executable.run_by(call, inputs, outputs)
    }

    fn reload(&mut self, weights: &Weights) -> Result<Option<Reloaded>, AneError> {
        self.executable.reload(weights)
    }
}

impl WatchedExecutable {
    /// Looks at a request, unless the layers begin anew.
    fn see(&mut self, look: u64, inputs: &[&Surface]) -> Result<(), AneError> {
        if self.look != look {
            self.look = look;
            self.requests = 0;
            self.first = inputs.iter().map(|surface| surface.key()).collect();
            self.over = false;
        } else if self.first.len() == inputs.len()
            && self.first.iter().zip(inputs).all(|(key, surface)| key.is(surface))
        {
            self.over = true;
        }
        let Some(function) = self.function.as_ref().filter(|_| !self.over) else { return Ok(()) };
        if self.probe.is_none() {
            self.probe = Probe::new(function);
        }
        let Some(probe) = &mut self.probe else {
            self.function = None;
            return Ok(());
        };
        let ports = self.executable.inputs().iter().map(|port| port.name.as_str());
        let bound: HashMap<&str, &Surface> = ports.zip(inputs.iter().copied()).collect();
        if let Some(products) = probe.ranges(&bound)? {
            let program = function.name.clone();
            let (index, request) = (self.index, self.requests);
            let found = RequestRanges { program, index, request, products };
            lock(&self.ranges.0.found).push(found);
        }
        self.requests += 1;
        Ok(())
    }
}

/// Where an operand or result is found.
#[derive(Clone, Copy, Debug)]
enum Place {
    Param(usize),
    Output(usize),
}

/// A program that computes operands and results of the products of another one.
#[derive(Debug)]
struct Probe {
    program: HostProgram,
    params: Vec<(String, usize)>,
    /// Elements of each output.
    outputs: Vec<usize>,
    products: Vec<Watch>,
}

/// A product of matrices: operands, result, and how elements of one belong to those of the others.
#[derive(Debug)]
struct Watch {
    tensor: String,
    names: [String; 2],
    operands: [Place; 2],
    result: Place,
    indices: Indices,
}

impl Probe {
    /// `None` where the function has no products of matrices, or cannot be taken apart.
    fn new(function: &Function) -> Option<Self> {
        let f = hoist_constants(function);
        let params: Vec<ValueId> = f.inputs().collect();
        let mut wanted: Vec<ValueId> = vec![];
        let mut products = vec![];
        let constant =
            |id: ValueId| f.ops.iter().any(|op| op.value.is_some() && op.results.contains(&id));
        for op in &f.ops {
            if op.op != Op::Matmul {
                continue;
            }
            let resolved = resolve(&f, op).ok()?;
            let Kind::Matmul { transpose_x, transpose_y } = resolved.kind else { continue };
            let (operands, result) = (resolved.values(), op.results[0]);
            if operands.iter().any(|id| constant(*id)) {
                continue;
            }
            let mut place = |id: ValueId| match params.iter().position(|param| *param == id) {
                Some(param) => Place::Param(param),
                None => Place::Output(wanted.iter().position(|w| *w == id).unwrap_or_else(|| {
                    wanted.push(id);
                    wanted.len() - 1
                })),
            };
            let [x, y] = [operands[0], operands[1]];
            let names = [source(&f, x), source(&f, y)];
            products.push(Watch {
                tensor: result_name(&f, result).unwrap_or_else(|| names.join(" x ")),
                operands: [place(x), place(y)],
                result: place(result),
                indices: Indices::new(f.ty(x), f.ty(y), f.ty(result), [transpose_x, transpose_y])?,
                names,
            });
        }
        if products.is_empty() {
            return None;
        }
        let part = to_fp32(&slice(&f, "ranges", &params, &wanted).ok()?);
        Some(Probe {
            program: HostProgram::new(&part).ok()?,
            params: params.iter().map(|&id| (f.value(id).name.clone(), f.ty(id).count())).collect(),
            outputs: wanted.iter().map(|&id| f.ty(id).count()).collect(),
            products,
        })
    }

    /// The ranges of the products of a request with these surfaces; `None` if they are not those of the program.
    fn ranges(
        &mut self,
        bound: &HashMap<&str, &Surface>,
    ) -> Result<Option<Vec<ProductRange>>, AneError> {
        let mut given = vec![];
        for (name, count) in &self.params {
            let Some(surface) = bound.get(name.as_str()).filter(|s| s.ty().count() == *count)
            else {
                return Ok(None);
            };
            let mut values = vec![0.0; *count];
            surface.read(&mut values)?;
            given.push(values);
        }
        let mut computed: Vec<Vec<f32>> =
            self.outputs.iter().map(|count| vec![0.0; *count]).collect();
        let inputs: Vec<Elements<'_>> = given.iter().map(|values| Elements::F32(values)).collect();
        let mut outputs: Vec<OutputMut<'_>> =
            (computed.iter_mut()).map(|data| OutputMut::F32 { data, accumulate: false }).collect();
        if self.program.run(&inputs, &mut outputs).is_err() {
            return Ok(None);
        }
        let at = |place: Place| -> &[f32] {
            match place {
                Place::Param(index) => &given[index],
                Place::Output(index) => &computed[index],
            }
        };
        let range = |watch: &Watch| {
            let [x, y] = watch.operands.map(at);
            ProductRange {
                tensor: watch.tensor.clone(),
                operands: watch.names.clone(),
                largest_operands: [largest(x), largest(y)],
                largest: largest(at(watch.result)),
                lost: watch.indices.lost(x, y),
            }
        };
        Ok(Some(self.products.iter().map(range).collect()))
    }
}

/// Largest magnitude; infinite where an element is not finite.
fn largest(values: &[f32]) -> f64 {
    let most = values
        .iter()
        .fold(0.0f32, |most, v| if v.is_finite() { most.max(v.abs()) } else { f32::INFINITY });
    f64::from(most)
}

/// True if the engine takes the product of two halves, both not 0, for 0: their exponents add up to less than
/// -16 (docs/ane-facts.md E.1). Any other is at least 2^-16, its unit.
fn is_lost(a: f32, b: f32) -> bool {
    // Every half but 0 is normal in f32.
    let exponent = |v: f32| ((v.to_bits() >> 23) & 0xff) as i32 - 127;
    exponent(a) + exponent(b) < -16
}

/// How the elements of a product of matrices belong together.
#[derive(Debug)]
struct Indices {
    m: usize,
    n: usize,
    k: usize,
    /// For each matrix of the result, the matrices of the operands.
    matrices: Vec<[usize; 2]>,
    transposed: [bool; 2],
}

impl Indices {
    fn new(
        x: &TensorType,
        y: &TensorType,
        result: &TensorType,
        transposed: [bool; 2],
    ) -> Option<Self> {
        let split = |ty: &TensorType| -> Option<(Vec<usize>, [usize; 2])> {
            let at = ty.shape.len().checked_sub(2)?;
            Some((ty.shape[..at].to_vec(), [ty.shape[at], ty.shape[at + 1]]))
        };
        let ((batch_x, x), (batch_y, y)) = (split(x)?, split(y)?);
        let (batch, [m, n]) = split(result)?;
        let k = if transposed[0] { x[0] } else { x[1] };
        let expected = if transposed[1] { y[1] } else { y[0] };
        if k != expected {
            return None;
        }
        // Batch axes of one element are those of all.
        let matrix = |of: &[usize], mut index: usize| {
            let (mut place, mut stride) = (0, 1);
            for (from_end, extent) in batch.iter().rev().enumerate() {
                let own = of.len().checked_sub(from_end + 1).map_or(1, |axis| of[axis]);
                let coordinate = index % extent;
                index /= extent;
                if own > 1 {
                    place += coordinate * stride;
                }
                stride *= own;
            }
            place
        };
        let count: usize = batch.iter().product();
        let matrices = (0..count).map(|i| [matrix(&batch_x, i), matrix(&batch_y, i)]).collect();
        Some(Indices { m, n, k, matrices, transposed })
    }

    /// Share of the products of two elements that are lost, of a sample; 0 where all are 0.
    fn lost(&self, x: &[f32], y: &[f32]) -> f64 {
        let half = |v: f32| f16::from_f32(v).to_f32();
        let total = (self.matrices.len() * self.m * self.n * self.k) as u128;
        let (mut lost, mut all) = (0u32, 0u32);
        let count = total.min(SAMPLES as u128);
        // Every product where there are few; else one of each equal part, at a place that a fixed sequence chooses.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for sample in 0..count {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let (from, to) = (sample * total / count, (sample + 1) * total / count);
            let place = from + ((u128::from(state) * (to - from)) >> 64);
            let (a, b) = self.pair(place as usize);
            let (a, b) = (half(x[a]), half(y[b]));
            if a != 0.0 && b != 0.0 {
                all += 1;
                lost += u32::from(is_lost(a, b));
            }
        }
        if all == 0 { 0.0 } else { f64::from(lost) / f64::from(all) }
    }

    /// The elements of both operands that make the product of this number.
    fn pair(&self, number: usize) -> (usize, usize) {
        let Indices { m, n, k, .. } = *self;
        let (l, rest) = (number % k, number / k);
        let (j, rest) = (rest % n, rest / n);
        let (i, matrix) = (rest % m, rest / m);
        let [x, y] = self.matrices[matrix];
        let a = if self.transposed[0] { l * m + i } else { i * k + l };
        let b = if self.transposed[1] { j * k + l } else { l * n + j };
        (x * m * k + a, y * k * n + b)
    }
}

/// True for a name that says no more than an operation and a number.
fn is_counted(f: &Function, name: &str) -> bool {
    let name = name.trim_start_matches("d_");
    name.rsplit_once('_').is_some_and(|(word, number)| {
        number.bytes().all(|c| c.is_ascii_digit()) && f.ops.iter().any(|op| op.op.name() == word)
    })
}

/// The name of a result, or of the same elements in another shape.
fn result_name(f: &Function, result: ValueId) -> Option<String> {
    let mut at = result;
    for _ in 0..STEPS {
        let name = &f.value(at).name;
        if !is_counted(f, name) {
            return Some(name.clone());
        }
        let moves = |op: &&mil::Operation| {
            matches!(op.op, Op::Reshape | Op::Transpose) && op.operands().next() == Some(at)
        };
        at = f.ops.iter().find(moves)?.results[0];
    }
    None
}

/// The name of an operand; where it has none, that of what it was computed from, with a `'`.
fn source(f: &Function, operand: ValueId) -> String {
    let (mut at, mut computed) = (operand, false);
    for _ in 0..STEPS {
        let name = &f.value(at).name;
        if !is_counted(f, name) {
            return format!("{name}{}", if computed { "'" } else { "" });
        }
        let Some(op) = f.ops.iter().find(|op| op.results.contains(&at)) else { break };
        let Some(from) = op.operands().next() else { break };
        computed |= !matches!(op.op, Op::Reshape | Op::Transpose);
        at = from;
    }
    f.value(operand).name.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ane::Emulator;
    use cpu::Numerics;
    use mil::Builder;

    /// The law of docs/ane-facts.md E.1, in whole numbers.
    fn is_lost_exactly(a: f16, b: f16) -> bool {
        let parts = |v: f16| {
            let (value, mut exponent) = (v.to_f64().abs(), 0);
            let mut scaled = value;
            while scaled >= 2.0 {
                (scaled, exponent) = (scaled / 2.0, exponent + 1);
            }
            while scaled < 1.0 {
                (scaled, exponent) = (scaled * 2.0, exponent - 1);
            }
            (value, exponent)
        };
        let ((a, ea), (b, eb)) = (parts(a), parts(b));
        ea + eb < -16 || (a * b * 65536.0 + 0.5).floor() == 0.0
    }

    #[test]
    fn the_law_of_lost_products_is_that_of_the_engine() {
        let halves = || (1..=0x7bffu16).step_by(97).map(f16::from_bits);
        for a in halves() {
            for b in halves() {
                let found = is_lost(a.to_f32(), b.to_f32());
                assert_eq!(found, is_lost_exactly(a, b), "{a} {b}");
            }
        }
        assert!(is_lost(2f32.powi(-9), 2f32.powi(-8)) && !is_lost(2f32.powi(-8), 2f32.powi(-8)));
    }

    /// wq [8, 16] times x [2 heads, 16, 4], scaled, and its square.
    fn function() -> Function {
        let b = Builder::new("layer");
        let w = b.input("wq", TensorType::fp16([1, 1, 8, 16]));
        let x = b.input("x", TensorType::fp16([1, 2, 16, 4]));
        let q = w.matmul(x * 0.5, false, false).named("q");
        let squares = q.matmul(q, true, false);
        b.finish(&[squares.tanh().named("y")]).unwrap()
    }

    fn values(count: usize, scale: f64, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / f64::from(1 << 24) - 0.5
        };
        (0..count).map(|_| f16::from_f64(scale * next()).to_f32()).collect()
    }

    #[test]
    fn ranges_are_those_of_the_reference_and_change_nothing() {
        let program = Program::new(function());
        let run = |device: &dyn Device, before: &dyn Fn()| {
            let mut executable = device.compile(&program, &Weights::new()).unwrap();
            let surface =
                |ty: &TensorType| device.surface(ty, device.least_allocation().max(4096)).unwrap();
            let inputs: Vec<Surface> = executable.inputs().iter().map(|p| surface(&p.ty)).collect();
            let outputs: Vec<Surface> =
                executable.outputs().iter().map(|p| surface(&p.ty)).collect();
            inputs[0].write(&values(128, 4.0, 1)).unwrap();
            inputs[1].write(&values(128, 0.0005, 2)).unwrap();
            before();
            let (ins, outs): (Vec<_>, Vec<_>) = (inputs.iter().collect(), outputs.iter().collect());
            executable.run(&ins, &outs).unwrap();
            executable.run(&ins, &outs).unwrap();
            let mut y = vec![0.0; outputs[0].ty().count()];
            outputs[0].read(&mut y).unwrap();
            y
        };
        let plain = run(&Emulator::cpu(Numerics::Fast), &|| {});
        let watched = Watched::new(Box::new(Emulator::cpu(Numerics::Fast)));
        let ranges = watched.ranges();
        assert_eq!(run(&watched, &|| {}), plain);
        assert!(ranges.take().is_empty(), "nobody asked");
        assert_eq!(run(&watched, &|| ranges.look()), plain);
        let found = ranges.take();
        // The second request has the surfaces of the first: another micro-batch.
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].program.as_str(), found[0].request, found[0].index), ("layer", 0, 1));
        let [q, squares] = &found[0].products[..] else { panic!("{found:?}") };
        assert_eq!((q.tensor.as_str(), &q.operands), ("q", &["wq".to_owned(), "x'".to_owned()]));
        assert_eq!(squares.operands, ["q".to_owned(), "q".to_owned()]);

        // All products, by their definition, in f64.
        let (w, x) = (values(128, 4.0, 1), values(128, 0.0005, 2));
        let (mut lost, mut all, mut most) = (0, 0, 0.0f64);
        for head in 0..2 {
            for i in 0..8 {
                for j in 0..4 {
                    let mut sum = 0.0;
                    for k in 0..16 {
                        let b = f16::from_f32(x[head * 64 + k * 4 + j] * 0.5);
                        let a = f16::from_f32(w[i * 16 + k]);
                        sum += a.to_f64() * f64::from(x[head * 64 + k * 4 + j]) * 0.5;
                        if a.to_f64() * b.to_f64() != 0.0 {
                            all += 1;
                            lost += u32::from(is_lost_exactly(a, b));
                        }
                    }
                    most = most.max(sum.abs());
                }
            }
        }
        // There are 1024 products, fewer than are looked at: all of them are.
        assert_eq!(q.lost, f64::from(lost) / f64::from(all));
        assert!(0.001 < q.lost && q.lost < 0.5, "{}", q.lost);
        // Sixteen terms in f32: a relative error of 16 times 2^-24 of their magnitudes, all below 0.0005.
        assert!(
            (q.largest - most).abs() < 16.0 * 0.0005 * 2f64.powi(-24) * 16.0,
            "{} {most}",
            q.largest
        );
        let widest = |v: &[f32]| f64::from(v.iter().fold(0.0f32, |m, v| m.max(v.abs())));
        assert_eq!(q.largest_operands[0], widest(&w));
        assert_eq!(q.largest_operands[1], widest(&x) / 2.0);
    }

    #[test]
    fn a_sample_is_close_to_all_products() {
        let ty = |m, n| TensorType::fp16([m, n]);
        let indices = Indices::new(&ty(64, 96), &ty(80, 96), &ty(64, 80), [false, true]).unwrap();
        let (x, y) = (values(64 * 96, 0.02, 3), values(80 * 96, 0.02, 4));
        let (mut lost, mut all) = (0u32, 0u32);
        for number in 0..64 * 80 * 96 {
            let (a, b) = indices.pair(number);
            if x[a] != 0.0 && y[b] != 0.0 {
                all += 1;
                lost += u32::from(is_lost(x[a], y[b]));
            }
        }
        let share = f64::from(lost) / f64::from(all);
        // Five standard errors of a share of 4096.
        assert!((indices.lost(&x, &y) - share).abs() < 5.0 * 0.5 / 64.0, "{share}");
        assert!(0.1 < share && share < 0.9);
    }
}
