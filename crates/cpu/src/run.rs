//! Carrying out a [`Plan`].

use crate::blas::{self, Sgemm};
use crate::exact;
use crate::gemm::{self, Elements, Operand};
use crate::mac;
use crate::matrix::{self, Matrix};
use crate::plan::*;
use crate::simd::{self, Round};
use half::f16;
use mil::interp::apply_unary;
use mil::resolve::{Binary, Compare, Reduce, Unary};
use std::cell::RefCell;
use std::sync::Arc;

mod fp16;
mod sample;

/// Elements handled between two looks at the instruction list; the registers of a usual chain
/// stay in the first- and second-level caches.
const TILE: usize = 1024;
/// Elements of elementwise work that are worth waking another thread.
const PARALLEL: usize = 32 * TILE;

thread_local! {
    static REGISTERS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// An output of a run.
#[derive(Debug)]
pub enum OutputMut<'a> {
    /// Single precision.
    F32 {
        /// Elements in row-major order.
        data: &'a mut [f32],
        /// Add to what is there instead of replacing it.
        accumulate: bool,
    },
    /// Half precision.
    F16(&'a mut [f16]),
}

impl OutputMut<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            OutputMut::F32 { data, .. } => data.len(),
            OutputMut::F16(data) => data.len(),
        }
    }
}

/// The buffers of a plan, allocated once.
#[derive(Debug)]
pub(crate) struct Machine {
    plan: Plan,
    slots: Vec<Slot>,
    /// The library for products without rounding; `None` for [`gemm`].
    pub(crate) library: Option<Arc<dyn Sgemm>>,
}

/// A temporary buffer.
#[derive(Debug)]
enum Slot {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Slot {
    fn new(space: Space) -> Self {
        match space.half {
            true => Slot::F16(vec![f16::ZERO; space.elements]),
            false => Slot::F32(vec![0.0; space.elements]),
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Slot::F32(vec![])
    }
}

impl Machine {
    pub(crate) fn new(plan: Plan) -> Self {
        let slots = plan.slots.iter().map(|&space| Slot::new(space)).collect();
        Machine { plan, slots, library: None }
    }

    /// Runs every step.
    ///
    /// # Panics
    /// If the number or sizes of inputs and outputs are not those of the plan (the callers check
    /// them and report it as an error).
    pub(crate) fn run(
        &mut self,
        inputs: &[Elements<'_>],
        packed: Packed<'_>,
        outputs: &mut [OutputMut<'_>],
    ) {
        assert_eq!(inputs.len(), self.plan.inputs.len(), "inputs");
        assert_eq!(outputs.len(), self.plan.outputs.len(), "outputs");
        for (output, &n) in outputs.iter().zip(&self.plan.outputs) {
            assert!(output.len() >= n, "an output is too small");
        }
        let Machine { plan, slots, library } = self;
        for step in &plan.steps {
            let mut world = World { inputs, packed, constants: &plan.constants, slots, outputs };
            match step {
                Step::Elementwise(s) => elementwise(s, &mut world),
                Step::Reduction(s) => reduction(s, &mut world),
                Step::Softmax(s) => softmax(s, &mut world),
                Step::Product(s) => product(s, &mut world, library.as_deref()),
                Step::Join(s) => join(s, &mut world),
                Step::Gather(s) => gather(s, &mut world),
                Step::Convolution(s) => convolution(s, &mut world),
                Step::Resampling(s) => sample::resampling(s, &mut world),
                Step::TopK(s) => sample::topk(s, &mut world),
            }
        }
    }
}

/// Packed matrices in place of inputs.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'p> {
    pub(crate) matrices: &'p [Option<&'p Matrix>],
    /// Columns of their right operands that are not 0.
    pub(crate) columns: usize,
}

struct World<'w, 'i, 'o> {
    inputs: &'w [Elements<'i>],
    packed: Packed<'w>,
    constants: &'w [Constant],
    slots: &'w mut [Slot],
    outputs: &'w mut [OutputMut<'o>],
}

/// Where a step writes, taken out of the world so that everything else can be read.
enum Sink<'a> {
    F32 { data: &'a mut [f32], accumulate: bool },
    F16(&'a mut [f16]),
}

impl Sink<'_> {
    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Sink::F32 { data, accumulate } => {
                let (a, b) = data.split_at_mut(at);
                (Sink::F32 { data: a, accumulate }, Sink::F32 { data: b, accumulate })
            }
            Sink::F16(data) => {
                let (a, b) = data.split_at_mut(at);
                (Sink::F16(a), Sink::F16(b))
            }
        }
    }

    fn store(&mut self, at: usize, from: &[f32]) {
        match self {
            Sink::F32 { data, accumulate: false } => {
                data[at..at + from.len()].copy_from_slice(from)
            }
            Sink::F32 { data, .. } => simd::add(&mut data[at..at + from.len()], from),
            Sink::F16(data) => simd::narrow(from, &mut data[at..at + from.len()], Round::IEEE),
        }
    }

    /// Rounds and stores elements, which may be spoilt.
    fn store_rounded(&mut self, at: usize, from: &mut [f32], rounding: Rounding) {
        match (&mut *self, rounding) {
            (Sink::F16(data), Rounding::Half) => {
                simd::narrow(from, &mut data[at..at + from.len()], Round::ELEMENTWISE);
            }
            _ => {
                round(from, rounding);
                self.store(at, from);
            }
        }
    }

    fn store_halves(&mut self, at: usize, from: &[f16]) {
        match self {
            Sink::F32 { data, accumulate: false } => {
                simd::widen(from, &mut data[at..at + from.len()]);
            }
            Sink::F32 { data, .. } => {
                let mut wide = [0.0; TILE];
                simd::widen(from, &mut wide[..from.len()]);
                simd::add(&mut data[at..at + from.len()], &wide[..from.len()]);
            }
            Sink::F16(data) => data[at..at + from.len()].copy_from_slice(from),
        }
    }
}

/// Read access to every buffer but those being written.
#[derive(Clone, Copy)]
struct Sources<'w> {
    inputs: &'w [Elements<'w>],
    constants: &'w [Constant],
    slots: &'w [Slot],
    outputs: &'w [OutputMut<'w>],
}

impl<'w> Sources<'w> {
    fn reader(&self, buffer: Buffer) -> Reader<'w> {
        Reader { elements: self.get(buffer), input: matches!(buffer, Buffer::Input(_)) }
    }

    fn get(&self, buffer: Buffer) -> Elements<'w> {
        match buffer {
            Buffer::Input(i) => self.inputs[i],
            Buffer::Constant(i) => match &self.constants[i] {
                Constant::F32(v) => Elements::F32(v),
                Constant::F16(v) => Elements::F16(v),
            },
            Buffer::Slot(i) => match &self.slots[i] {
                Slot::F32(v) => Elements::F32(v),
                Slot::F16(v) => Elements::F16(v),
            },
            Buffer::Output(i) => match &self.outputs[i] {
                OutputMut::F32 { data, .. } => Elements::F32(data),
                OutputMut::F16(v) => Elements::F16(v),
            },
        }
    }
}

/// Most results of one step; chains with more are written as several steps.
pub(crate) const RESULTS: usize = 8;

/// Lends the results `buffers` (of `count` elements each) to `f` together with all other buffers.
fn with_sinks(
    world: &mut World<'_, '_, '_>,
    buffers: &[Buffer],
    count: usize,
    f: impl FnOnce(Sources<'_>, Sinks<'_>),
) {
    enum Taken<'o> {
        Slot(Slot),
        Output(OutputMut<'o>),
    }
    let mut taken: [Option<Taken<'_>>; RESULTS] = Default::default();
    assert!(buffers.len() <= RESULTS, "lowering writes longer chains as several steps");
    for (buffer, taken) in buffers.iter().zip(&mut taken) {
        *taken = Some(match *buffer {
            Buffer::Slot(i) => Taken::Slot(std::mem::take(&mut world.slots[i])),
            Buffer::Output(i) => {
                let nothing = OutputMut::F16(&mut []);
                Taken::Output(std::mem::replace(&mut world.outputs[i], nothing))
            }
            _ => unreachable!("inputs and constants are never written"),
        });
    }
    let mut sinks: Sinks<'_> = Default::default();
    for (taken, sink) in taken.iter_mut().zip(&mut sinks) {
        *sink = taken.as_mut().map(|taken| match taken {
            Taken::Slot(Slot::F32(v)) => Sink::F32 { data: &mut v[..count], accumulate: false },
            Taken::Slot(Slot::F16(v)) => Sink::F16(&mut v[..count]),
            Taken::Output(OutputMut::F32 { data, accumulate }) => {
                Sink::F32 { data: &mut data[..count], accumulate: *accumulate }
            }
            Taken::Output(OutputMut::F16(data)) => Sink::F16(&mut data[..count]),
        });
    }
    let World { inputs, constants, slots, outputs, .. } = world;
    f(Sources { inputs, constants, slots, outputs }, sinks);
    for (buffer, taken) in buffers.iter().zip(taken) {
        match (*buffer, taken) {
            (Buffer::Slot(i), Some(Taken::Slot(slot))) => world.slots[i] = slot,
            (Buffer::Output(i), Some(Taken::Output(output))) => world.outputs[i] = output,
            _ => {}
        }
    }
}

type Sinks<'a> = [Option<Sink<'a>>; RESULTS];

fn with_sink(
    world: &mut World<'_, '_, '_>,
    buffer: Buffer,
    count: usize,
    f: impl FnOnce(Sources<'_>, Sink<'_>),
) {
    with_sinks(world, &[buffer], count, |sources, [sink, ..]| f(sources, sink.expect("one sink")));
}

/// Runs `f(start, part)` over consecutive parts of whole `grain`s of the sinks, on both cores when
/// there is enough work.
fn spread(
    count: usize,
    grain: usize,
    sinks: Sinks<'_>,
    f: &(impl Fn(usize, usize, Sinks<'_>) + Sync),
) {
    fn halve(
        start: usize,
        count: usize,
        grain: usize,
        least: usize,
        mut sinks: Sinks<'_>,
        f: &(impl Fn(usize, usize, Sinks<'_>) + Sync),
    ) {
        if count < 2 * least {
            return f(start, count, sinks);
        }
        let middle = (count / 2).next_multiple_of(grain).min(count);
        let mut tail: Sinks<'_> = Default::default();
        for (a, b) in sinks.iter_mut().zip(&mut tail) {
            if let Some(sink) = a.take() {
                let (first, second) = sink.split_at(middle);
                (*a, *b) = (Some(first), Some(second));
            }
        }
        rayon::join(
            || halve(start, middle, grain, least, sinks, f),
            || halve(start + middle, count - middle, grain, least, tail, f),
        );
    }
    if count < PARALLEL || rayon::current_num_threads() == 1 {
        return f(0, count, sinks);
    }
    let least = (count / (4 * rayon::current_num_threads())).max(grain).next_multiple_of(grain);
    halve(0, count, grain, least, sinks, f);
}

fn with_registers(len: usize, f: impl FnOnce(&mut [f32])) {
    let mut registers = REGISTERS.take();
    if registers.len() < len {
        registers.resize(len, 0.0);
    }
    f(&mut registers[..len]);
    REGISTERS.set(registers);
}

/// Calls `f(done, at, run)` for every stretch of `run` elements of `operand`, the last stride apart
/// from position `at` of its buffer on, that the `count` elements of the nest from flat position
/// `start` on consist of; `done` elements come before.
fn each_run(
    shape: &[usize],
    operand: &Strided,
    start: usize,
    count: usize,
    mut f: impl FnMut(usize, isize, usize),
) {
    let (&inner, outer) = shape.split_last().expect("a nest has an axis");
    let (&stride, strides) = operand.strides.split_last().expect("a nest has an axis");
    let (mut row, mut column) = (start / inner, start % inner);
    let mut at = operand.offset as isize;
    let mut rest = row;
    for (&n, &stride) in outer.iter().zip(strides).rev() {
        at += (rest % n) as isize * stride;
        rest /= n;
    }
    let mut done = 0;
    loop {
        let run = (inner - column).min(count - done);
        f(done, at + column as isize * stride, run);
        done += run;
        if done == count {
            return;
        }
        (row, column) = (row + 1, 0);
        let mut carried = row;
        for (&n, &stride) in outer.iter().zip(strides).rev() {
            at += stride;
            if carried % n != 0 {
                break;
            }
            at -= n as isize * stride;
            carried /= n;
        }
    }
}

/// Reads `to.len()` consecutive elements of operand `which` of a nest, from flat position `start`.
fn load(nest: &Nest, which: usize, sources: &Sources<'_>, start: usize, to: &mut [f32]) {
    let operand = &nest.operands[which];
    let data = sources.reader(operand.buffer);
    let stride = operand.strides[nest.shape.len() - 1];
    each_run(&nest.shape, operand, start, to.len(), |done, at, run| {
        data.run(at, stride, &mut to[done..done + run]);
    });
}

/// A buffer as it is read.
#[derive(Clone, Copy)]
struct Reader<'w> {
    elements: Elements<'w>,
    /// True if NaN is possible: nothing that is computed here is one.
    input: bool,
}

impl Reader<'_> {
    /// Reads elements `stride` apart. The engine reads a half-precision NaN as +∞
    /// (docs/ane-facts.md E.3).
    fn run(&self, at: isize, stride: isize, to: &mut [f32]) {
        match self.elements {
            Elements::F32(v) => read(v, at, stride, to, |v, to| to.copy_from_slice(v)),
            Elements::F16(v) => {
                read(v, at, stride, to, simd::widen);
                if self.input {
                    simd::replace_nan(to, f32::INFINITY);
                }
            }
        }
    }
}

fn read<T: Copy + Default, U: Copy>(
    v: &[T],
    at: isize,
    stride: isize,
    to: &mut [U],
    convert: impl Fn(&[T], &mut [U]),
) {
    let first = at as usize;
    match stride {
        1 => convert(&v[first..first + to.len()], to),
        0 => {
            convert(&v[first..=first], &mut to[..1]);
            let value = to[0];
            to.fill(value);
        }
        _ => {
            let mut run = [T::default(); 64];
            let mut at = at;
            for to in to.chunks_mut(run.len()) {
                let run = &mut run[..to.len()];
                run.iter_mut().enumerate().for_each(|(i, t)| {
                    *t = v[(at + i as isize * stride) as usize];
                });
                convert(run, to);
                at += run.len() as isize * stride;
            }
        }
    }
}

fn round(x: &mut [f32], rounding: Rounding) {
    match rounding {
        Rounding::None => {}
        Rounding::Half => simd::round_f16(x, Round::ELEMENTWISE),
        Rounding::HalfAway => exact::round_away(x),
        Rounding::Integer { lo, hi } => {
            let whole = |v: f32| simd::smaller(simd::larger(v.trunc(), lo), hi);
            simd::each(x, |v| if v.is_nan() { 0.0 } else { whole(v) });
        }
    }
}

fn elementwise(s: &Elementwise, world: &mut World<'_, '_, '_>) {
    let count = s.chain.nest.count();
    with_sinks(world, &s.outputs, count, |sources, sinks| {
        let half = fp16::suits(&s.chain, &sources);
        spread(count, TILE, sinks, &|start, count, mut sinks| {
            if half {
                return fp16::run_chain(&s.chain, &sources, start, count, |to, at, x| {
                    sinks[to].as_mut().expect("a result of the chain").store_halves(at, x);
                });
            }
            with_registers(s.chain.registers * TILE, |registers| {
                run_chain(&s.chain, &sources, start, count, registers, &mut |to, at, x| {
                    sinks[to].as_mut().expect("a result of the chain").store(at, x);
                });
            });
        });
    });
}

/// Runs a chain for `count` elements from flat position `start` on; `store` gets the number of a
/// result, a position from `start` on, and the elements there.
fn run_chain(
    chain: &Chain,
    sources: &Sources<'_>,
    start: usize,
    count: usize,
    registers: &mut [f32],
    store: &mut dyn FnMut(usize, usize, &[f32]),
) {
    for done in (0..count).step_by(TILE) {
        let n = TILE.min(count - done);
        for instruction in &chain.code {
            let store = &mut |to: usize, x: &[f32]| store(to, done, x);
            execute(instruction, &chain.nest, sources, start + done, n, registers, store);
        }
    }
}

/// Two registers at once, the first for writing.
fn pair<T>(registers: &mut [T], dst: usize, src: usize, n: usize) -> (&mut [T], &[T]) {
    assert_ne!(dst, src, "code generation keeps operands apart");
    if dst < src {
        let (a, b) = registers.split_at_mut(src * TILE);
        (&mut a[dst * TILE..dst * TILE + n], &b[..n])
    } else {
        let (a, b) = registers.split_at_mut(dst * TILE);
        (&mut b[..n], &a[src * TILE..src * TILE + n])
    }
}

fn execute(
    instruction: &Instruction,
    nest: &Nest,
    sources: &Sources<'_>,
    start: usize,
    n: usize,
    registers: &mut [f32],
    store: &mut dyn FnMut(usize, &[f32]),
) {
    fn one(registers: &mut [f32], dst: usize, n: usize) -> &mut [f32] {
        &mut registers[dst * TILE..dst * TILE + n]
    }
    match *instruction {
        Instruction::Table { dst, ref table } => table.apply(one(registers, dst, n)),
        Instruction::Overflow { dst, beyond } => simd::each(one(registers, dst, n), |v| {
            if v.abs() > beyond { f32::INFINITY.copysign(v) } else { v }
        }),
        Instruction::Load { dst, from } => load(nest, from, sources, start, one(registers, dst, n)),
        Instruction::Copy { dst, src } => {
            let (x, y) = pair(registers, dst, src, n);
            x.copy_from_slice(y);
        }
        Instruction::Unary { dst, f, rounding } => {
            let x = one(registers, dst, n);
            unary(f, x);
            round(x, rounding);
        }
        Instruction::Power { dst, y, rounding } => {
            let x = one(registers, dst, n);
            power(x, y);
            round(x, rounding);
        }
        Instruction::Binary { dst, src, f, rounding } => {
            let (x, y) = pair(registers, dst, src, n);
            match f {
                // The engine divides by −0 as by +0 (docs/ane-facts.md E.3).
                Binary::Div if rounding == Rounding::HalfAway => {
                    simd::zip(x, y, |x, y| x / (y + 0.0));
                }
                Binary::Add => simd::add(x, y),
                Binary::Sub => simd::sub(x, y),
                Binary::Mul => simd::mul(x, y),
                Binary::Div => simd::div(x, y),
                Binary::Max => simd::max(x, y),
                Binary::Min => simd::min(x, y),
                Binary::FloorDiv => simd::zip(x, y, |x, y| (x / y).floor()),
                Binary::Pow => x.iter_mut().zip(y).for_each(|(x, y)| *x = x.powf(*y)),
            }
            round(x, rounding);
        }
        Instruction::Compare { dst, src, f } => {
            let (x, y) = pair(registers, dst, src, n);
            compare(f, x, y);
        }
        Instruction::Select { dst, cond, a, b } => {
            assert!(![cond, a, b].contains(&dst), "code generation keeps operands apart");
            let (low, high) = registers.split_at_mut(dst * TILE);
            let (to, high) = high.split_at_mut(TILE);
            let of = |r: usize| {
                if r < dst { &low[r * TILE..][..n] } else { &high[(r - dst - 1) * TILE..][..n] }
            };
            simd::select(&mut to[..n], of(cond), of(a), of(b));
        }
        Instruction::Cast { dst, rounding, truth } => {
            let x = one(registers, dst, n);
            if truth {
                simd::each(x, |v| truth_value(v != 0.0));
            }
            round(x, rounding);
        }
        Instruction::Store { src, to } => store(to, one(registers, src, n)),
    }
}

fn truth_value(b: bool) -> f32 {
    if b { 1.0 } else { 0.0 }
}

fn compare(f: Compare, x: &mut [f32], y: &[f32]) {
    match f {
        Compare::Equal => simd::zip(x, y, |x, y| truth_value(x == y)),
        Compare::NotEqual => simd::zip(x, y, |x, y| truth_value(x != y)),
        Compare::Less => simd::zip(x, y, |x, y| truth_value(x < y)),
        Compare::LessEqual => simd::zip(x, y, |x, y| truth_value(x <= y)),
        Compare::Greater => simd::zip(x, y, |x, y| truth_value(x > y)),
        Compare::GreaterEqual => simd::zip(x, y, |x, y| truth_value(x >= y)),
    }
}

fn unary(f: Unary, x: &mut [f32]) {
    match f {
        Unary::Abs => simd::abs(x),
        Unary::Exp => simd::exp(x),
        Unary::Sigmoid => simd::sigmoid(x),
        Unary::Silu => simd::silu(x),
        Unary::Tanh => simd::tanh(x),
        Unary::Erf => simd::erf(x),
        Unary::Sqrt => simd::sqrt(x),
        Unary::Square => simd::square(x),
        Unary::Relu => simd::clip(x, 0.0, f32::INFINITY),
        Unary::Relu6 => simd::clip(x, 0.0, 6.0),
        Unary::Clip { lo, hi } => simd::clip(x, lo as f32, hi as f32),
        Unary::Threshold { alpha } => simd::clip(x, alpha as f32, f32::INFINITY),
        Unary::Linear { alpha, beta } => simd::affine(x, alpha as f32, beta as f32),
        Unary::Rsqrt { epsilon } => {
            simd::affine(x, 1.0, epsilon as f32);
            simd::rsqrt(x);
        }
        Unary::Log { epsilon } => {
            simd::affine(x, 1.0, epsilon as f32);
            simd::log(x);
        }
        Unary::Inverse { epsilon } => {
            simd::affine(x, 1.0, epsilon as f32);
            simd::inverse(x);
        }
        other => x.iter_mut().for_each(|v| *v = apply_unary(other, f64::from(*v)) as f32),
    }
}

fn power(x: &mut [f32], y: f32) {
    match y {
        -0.5 => simd::rsqrt(x),
        -1.0 => simd::inverse(x),
        0.5 => simd::sqrt(x),
        2.0 => simd::square(x),
        _ => x.iter_mut().for_each(|v| *v = v.powf(y)),
    }
}

// ---- reductions ----

/// Takes one more element into each of many results; `x` may be spoilt.
fn fold(f: Reduce, acc: &mut [f32], x: &mut [f32]) {
    match f {
        Reduce::L1Norm => simd::abs(x),
        Reduce::SumSquare | Reduce::L2Norm => simd::square(x),
        _ => {}
    }
    match f {
        Reduce::Max => simd::max(acc, x),
        Reduce::Min => simd::min(acc, x),
        _ => simd::add(acc, x),
    }
}

/// Takes a run of elements into one result.
fn fold_run(f: Reduce, acc: f32, x: &[f32]) -> f32 {
    match f {
        Reduce::Sum | Reduce::Mean | Reduce::LogSum => acc + simd::sum(x),
        Reduce::L1Norm => acc + x.iter().map(|v| v.abs()).sum::<f32>(),
        Reduce::SumSquare | Reduce::L2Norm => acc + simd::sum_square(x),
        Reduce::Max => simd::larger(acc, simd::max_of(x)),
        Reduce::Min => x.iter().copied().fold(acc, simd::smaller),
        Reduce::LogSumExp => unreachable!("taken in two passes"),
    }
}

/// Takes a run of elements into one result as [`fold`] takes them into many: one after the other. The
/// run may be spoilt.
fn fold_ordered(f: Reduce, acc: f32, x: &mut [f32]) -> f32 {
    match f {
        Reduce::Sum | Reduce::Mean | Reduce::LogSum => x.iter().fold(acc, |acc, x| acc + x),
        _ => x.iter_mut().fold(acc, |acc, x| {
            let mut one = [acc];
            fold(f, &mut one, std::slice::from_mut(x));
            one[0]
        }),
    }
}

fn reduction(s: &Reduction, world: &mut World<'_, '_, '_>) {
    let count = s.kept.count();
    let total: usize = s.reduced.iter().map(|r| r.0).product();
    with_sink(world, s.output, count, |sources, sink| {
        let mut sinks: Sinks<'_> = Default::default();
        sinks[0] = Some(sink);
        let axes = s.kept.shape.len();
        let vertical = s.kept.operands[0].strides[axes - 1] == 1 && s.kept.shape[axes - 1] > 1;
        let body = |start: usize, count: usize, mut sinks: Sinks<'_>| {
            let sink = sinks[0].as_mut().expect("one sink");
            with_registers(3 * TILE, |registers| {
                let (acc, rest) = registers.split_at_mut(TILE);
                let (run, shift) = rest.split_at_mut(TILE);
                for done in (0..count).step_by(TILE) {
                    let n = TILE.min(count - done);
                    let (acc, at) = (&mut acc[..n], start + done);
                    if vertical {
                        reduce_columns(s, &sources, at, acc, &mut run[..n], &mut shift[..n]);
                    } else {
                        for (i, a) in acc.iter_mut().enumerate() {
                            *a = reduce_one(s, &sources, at + i, run);
                        }
                    }
                    if s.rounding != Rounding::HalfAway {
                        finish(s.f, acc, total);
                    }
                    sink.store_rounded(done, acc, s.rounding);
                }
            });
        };
        let grain = if vertical { TILE } else { 1 };
        if count * total < PARALLEL {
            body(0, count, sinks);
        } else {
            // Work is proportional to what is read, so small results are divided too.
            divide(count, grain.min(count.div_ceil(4).max(1)), sinks, &body);
        }
    });
}

/// As [`spread`], in two parts and without its threshold on the number of results, of which there is
/// at least a `grain`.
fn divide(
    count: usize,
    grain: usize,
    mut sinks: Sinks<'_>,
    f: &(impl Fn(usize, usize, Sinks<'_>) + Sync),
) {
    let middle = (count / 2).next_multiple_of(grain);
    if rayon::current_num_threads() == 1 {
        return f(0, count, sinks);
    }
    let mut tail: Sinks<'_> = Default::default();
    let (first, second) = sinks[0].take().expect("one sink").split_at(middle);
    (sinks[0], tail[0]) = (Some(first), Some(second));
    rayon::join(|| f(0, middle, sinks), || f(middle, count - middle, tail));
}

fn initial(f: Reduce) -> f32 {
    match f {
        Reduce::Max => f32::NEG_INFINITY,
        Reduce::Min => f32::INFINITY,
        _ => 0.0,
    }
}

fn finish(f: Reduce, acc: &mut [f32], total: usize) {
    match f {
        Reduce::Mean => acc.iter_mut().for_each(|v| *v /= total as f32),
        Reduce::L2Norm => simd::sqrt(acc),
        Reduce::LogSum => simd::log(acc),
        _ => {}
    }
}

/// Calls `f` with the offset of every element of the axes `reduced` (extents and strides).
fn each_reduced(reduced: &[(usize, isize)], mut f: impl FnMut(isize)) {
    let count: usize = reduced.iter().map(|r| r.0).product();
    let mut at = 0;
    for i in 1..=count {
        f(at);
        let mut carried = i;
        for &(n, stride) in reduced.iter().rev() {
            at += stride;
            if carried % n != 0 {
                break;
            }
            at -= n as isize * stride;
            carried /= n;
        }
    }
}

/// Reduces a tile of neighbouring results whose inputs are neighbours too.
fn reduce_columns(
    s: &Reduction,
    sources: &Sources<'_>,
    start: usize,
    acc: &mut [f32],
    run: &mut [f32],
    shift: &mut [f32],
) {
    let operand = &s.kept.operands[0];
    let data = sources.reader(operand.buffer);
    each_run(&s.kept.shape, operand, start, acc.len(), |done, base, n| {
        let (acc, run, shift) = (&mut acc[done..][..n], &mut run[..n], &mut shift[..n]);
        if s.rounding == Rounding::HalfAway {
            let mut sums = exact::Reductions::new(s.f, shift, acc);
            each_reduced(&s.reduced, |at| {
                data.run(base + at, 1, run);
                sums.push(run);
            });
            return sums.finish();
        }
        if s.f == Reduce::LogSumExp {
            return log_sum_exp_columns(s, data, base, acc, run, shift);
        }
        acc.fill(initial(s.f));
        each_reduced(&s.reduced, |at| match (s.f, data.elements) {
            // What `fold` leaves as it is needs no copy.
            (Reduce::Sum | Reduce::Mean | Reduce::LogSum, Elements::F32(v)) => {
                simd::add(acc, &v[(base + at) as usize..][..n]);
            }
            (Reduce::Max, Elements::F32(v)) => simd::max(acc, &v[(base + at) as usize..][..n]),
            _ => {
                data.run(base + at, 1, run);
                fold(s.f, acc, run);
            }
        });
    });
}

fn log_sum_exp_columns(
    s: &Reduction,
    data: Reader<'_>,
    base: isize,
    acc: &mut [f32],
    run: &mut [f32],
    shift: &mut [f32],
) {
    shift.fill(f32::NEG_INFINITY);
    each_reduced(&s.reduced, |at| {
        data.run(base + at, 1, run);
        simd::max(shift, run);
    });
    acc.fill(0.0);
    each_reduced(&s.reduced, |at| {
        data.run(base + at, 1, run);
        simd::column_exp(run, shift, acc);
    });
    simd::log(acc);
    simd::add(acc, shift);
}

/// Reduces the inputs of one result.
fn reduce_one(s: &Reduction, sources: &Sources<'_>, index: usize, run: &mut [f32]) -> f32 {
    let operand = &s.kept.operands[0];
    let mut base = 0;
    each_run(&s.kept.shape, operand, index, 1, |_, at, _| base = at);
    let data = sources.reader(operand.buffer);
    let (outer, (inner, stride)) = match s.reduced.split_last() {
        Some((last, outer)) => (outer, *last),
        None => (&[][..], (1, 0)),
    };
    // The parts of every run, in a buffer that may be spoilt.
    let mut pass = |f: &mut dyn FnMut(&mut [f32])| {
        each_reduced(outer, |at| {
            for done in (0..inner).step_by(TILE) {
                let n = TILE.min(inner - done);
                data.run(base + at + done as isize * stride, stride, &mut run[..n]);
                f(&mut run[..n]);
            }
        });
    };
    if s.rounding == Rounding::HalfAway {
        let (mut lane, mut total) = ([0.0], [0.0]);
        let mut sum = exact::Reductions::new(s.f, &mut lane, &mut total);
        pass(&mut |x| sum.extend(x));
        sum.finish();
        return total[0];
    }
    if s.f == Reduce::LogSumExp {
        let mut max = f32::NEG_INFINITY;
        pass(&mut |x| max = max.max(simd::max_of(x)));
        let mut sum = 0.0;
        pass(&mut |x| sum += simd::exp_sub_sum(x, max));
        return max + sum.ln();
    }
    let mut acc = initial(s.f);
    match (data.elements, stride) {
        _ if s.ordered => pass(&mut |x| acc = fold_ordered(s.f, acc, x)),
        // The same parts in place.
        (Elements::F32(v), 1) => each_reduced(outer, |at| {
            let first = (base + at) as usize;
            v[first..first + inner].chunks(TILE).for_each(|x| acc = fold_run(s.f, acc, x));
        }),
        _ => pass(&mut |x| acc = fold_run(s.f, acc, x)),
    }
    acc
}

// ---- softmax ----

fn softmax(s: &Softmax, world: &mut World<'_, '_, '_>) {
    let count = s.chain.nest.count();
    let block = s.n * s.inner;
    // Short rows are taken several at a time.
    let blocks = (TILE / block.max(1)).max(1) * block;
    with_sink(world, s.output, count, |sources, sink| {
        let mut sinks: Sinks<'_> = Default::default();
        sinks[0] = Some(sink);
        let half = fp16::suits(&s.chain, &sources);
        spread(count, blocks, sinks, &|start, count, mut sinks| {
            let sink = sinks[0].as_mut().expect("one sink");
            with_registers(blocks + 3 * s.inner + s.chain.registers * TILE, |registers| {
                let (x, rest) = registers.split_at_mut(blocks);
                let (totals, registers) = rest.split_at_mut(3 * s.inner);
                for done in (0..count).step_by(blocks) {
                    let x = &mut x[..blocks.min(count - done)];
                    let (first, n) = (start + done, x.len());
                    if half {
                        fp16::run_chain(&s.chain, &sources, first, n, |_, at, from| {
                            simd::widen(from, &mut x[at..at + from.len()]);
                        });
                    } else {
                        run_chain(&s.chain, &sources, first, n, registers, &mut |_, at, from| {
                            x[at..at + from.len()].copy_from_slice(from);
                        });
                    }
                    softmax_blocks(s, x, totals);
                    sink.store_rounded(done, x, s.rounding);
                }
            });
        });
    });
}

/// Softmax of whole blocks [n, inner]; `totals` has room for three rows.
fn softmax_blocks(s: &Softmax, x: &mut [f32], totals: &mut [f32]) {
    if s.rounding == Rounding::HalfAway {
        x.chunks_exact_mut(s.n * s.inner).for_each(|block| exact::softmax(block, s.inner, totals));
    } else if s.inner == 1 {
        simd::softmax_rows(x, s.n);
    } else {
        let (max, sum) = totals[..2 * s.inner].split_at_mut(s.inner);
        x.chunks_exact_mut(s.n * s.inner).for_each(|block| softmax_columns(block, max, sum));
    }
}

/// Softmax along the rows of x [n, inner].
fn softmax_columns(x: &mut [f32], max: &mut [f32], sum: &mut [f32]) {
    let inner = max.len();
    max.fill(f32::NEG_INFINITY);
    sum.fill(0.0);
    simd::column_max(x, max);
    simd::column_exp(x, max, sum);
    x.chunks_exact_mut(inner).for_each(|row| simd::div(row, sum));
}

// ---- products, joins, tables ----

fn product(s: &Product, world: &mut World<'_, '_, '_>, library: Option<&dyn Sgemm>) {
    let shape = s.shape;
    let end = |o: &gemm::Offsets| o.c + (shape.m - 1) * shape.rs_c + (shape.n - 1) * shape.cs_c + 1;
    let count = s.batch.iter().map(end).max().unwrap_or(0);
    let packed = match s.a {
        Buffer::Input(input) => world.packed.matrices.get(input).copied().flatten(),
        _ => None,
    };
    if let Some(matrix) = packed {
        return packed_product(s, matrix, count, world.packed.columns, world);
    }
    with_sink(world, s.output, count, |sources, sink| {
        let operand =
            |buffer, (rs, cs): (usize, usize)| Operand { data: sources.get(buffer), rs, cs };
        let (a, b) = (operand(s.a, s.a_strides), operand(s.b, s.b_strides));
        let output = match sink {
            Sink::F32 { data, accumulate } => {
                if let (Some(library), Rounding::None) = (library, s.rounding)
                    && blas::product(library, shape, a, b, &s.batch, data, accumulate)
                {
                    return;
                }
                gemm::Output::F32 { data, accumulate }
            }
            Sink::F16(data) => gemm::Output::F16(data),
        };
        let round = match (s.rounding, s.saturates) {
            (Rounding::HalfAway, _) => {
                return mac::gemm(shape, a, b, &s.batch, s.saturates, output);
            }
            (Rounding::Half, true) => Some(Round::PRODUCT),
            (Rounding::Half, false) => Some(Round::ELEMENTWISE),
            _ => None,
        };
        gemm::gemm(shape, a, b, &s.batch, output, round);
    });
}

/// A product whose left operand is packed, with its `count` results, of which the first `columns` columns are not 0.
fn packed_product(
    s: &Product,
    matrix: &Matrix,
    count: usize,
    columns: usize,
    world: &mut World<'_, '_, '_>,
) {
    with_sink(world, s.output, count, |sources, sink| {
        let (Elements::F32(x), Sink::F32 { data, accumulate }) = (sources.get(s.b), sink) else {
            unreachable!("programs that take packed matrices compute in f32");
        };
        let (row, column) = s.b_strides;
        let all = s.shape.n;
        let count = columns.min(all);
        let columns = matrix::Columns { data: &x[s.batch[0].b..], count, row, column };
        let (row, column, data) = (s.shape.rs_c, s.shape.cs_c, &mut data[s.batch[0].c..]);
        if count < all && !accumulate {
            // One of the strides is 1.
            let (lines, line, from, to) = match column {
                1 => (0..s.shape.m, row, count, all),
                _ => (count..all, column, 0, s.shape.m),
            };
            lines.for_each(|i| data[i * line..][from..to].fill(0.0));
        }
        matrix::multiply(matrix, columns, matrix::Target { data, row, column, accumulate });
    });
}

fn join(s: &Join, world: &mut World<'_, '_, '_>) {
    let row: usize = s.parts.iter().map(|p| p.1).sum();
    with_sink(world, s.output, s.outer * row, |sources, sink| {
        let mut sinks: Sinks<'_> = Default::default();
        sinks[0] = Some(sink);
        let half = (s.parts.iter())
            .all(|(nest, _)| matches!(sources.get(nest.operands[0].buffer), Elements::F16(_)));
        spread(s.outer * row, row, sinks, &|start, count, mut sinks| {
            let sink = sinks[0].as_mut().expect("one sink");
            let each = |f: &mut dyn FnMut(&Nest, usize, usize, usize)| {
                for outer in 0..count / row {
                    let mut at = outer * row;
                    for (nest, width) in &s.parts {
                        let first = (start / row + outer) * width;
                        for done in (0..*width).step_by(TILE) {
                            f(nest, first + done, TILE.min(width - done), at + done);
                        }
                        at += width;
                    }
                }
            };
            if half {
                fp16::with_registers(TILE, |tile| {
                    each(&mut |nest, first, n, at| {
                        fp16::load(nest, 0, &sources, first, &mut tile[..n]);
                        sink.store_halves(at, &tile[..n]);
                    });
                });
            } else {
                with_registers(TILE, |tile| {
                    each(&mut |nest, first, n, at| {
                        load(nest, 0, &sources, first, &mut tile[..n]);
                        sink.store(at, &tile[..n]);
                    });
                });
            }
        });
    });
}

fn gather(s: &Gather, world: &mut World<'_, '_, '_>) {
    with_sink(world, s.output, s.map.len(), |sources, mut sink| {
        with_registers(TILE, |tile| {
            for (block, map) in s.map.chunks(TILE).enumerate() {
                for (t, &(input, at)) in tile.iter_mut().zip(map) {
                    *t = if input == u32::MAX {
                        s.fill
                    } else {
                        match sources.get(s.inputs[input as usize]) {
                            Elements::F32(v) => v[at as usize],
                            Elements::F16(v) => v[at as usize].to_f32(),
                        }
                    };
                }
                sink.store(block * TILE, &tile[..map.len()]);
            }
        });
    });
}

// ---- convolutions ----

fn element(x: Elements<'_>, at: usize) -> f32 {
    match x {
        Elements::F32(v) => v[at],
        Elements::F16(v) => v[at].to_f32(),
    }
}

/// Direct convolution, output by output: every result is one sum in a fixed order.
fn convolution(s: &Convolution, world: &mut World<'_, '_, '_>) {
    let count = s.y_shape.iter().product();
    with_sink(world, s.output, count, |sources, sink| {
        let mut sinks: Sinks<'_> = Default::default();
        sinks[0] = Some(sink);
        spread(count, 1, sinks, &|start, count, mut sinks| {
            let sink = sinks[0].as_mut().expect("one sink");
            with_registers(TILE, |tile| {
                for done in (0..count).step_by(TILE) {
                    let n = TILE.min(count - done);
                    let tile = &mut tile[..n];
                    for (i, t) in tile.iter_mut().enumerate() {
                        *t = convolve_one(s, &sources, start + done + i);
                    }
                    match s.rounding {
                        Rounding::Half => simd::round_f16(tile, Round::PRODUCT),
                        // The sum is rounded already; a bias is added to it outside of the array.
                        Rounding::HalfAway => exact::round_away(tile),
                        _ => {}
                    }
                    sink.store(done, tile);
                }
            });
        });
    });
}

fn convolve_one(s: &Convolution, sources: &Sources<'_>, index: usize) -> f32 {
    let out = index / s.y_shape[2..].iter().product::<usize>() % s.y_shape[1];
    let bias = s.bias.map_or(0.0, |b| element(sources.get(b), out));
    if s.rounding == Rounding::HalfAway {
        let mut sum = mac::Sum::default();
        each_product(s, sources, index, |x, w| sum.add(x, w));
        return sum.finish() + bias;
    }
    let mut sum = bias;
    each_product(s, sources, index, |x, w| sum = x.mul_add(w, sum));
    sum
}

/// Calls `f` with the factors of every product that result `index` is the sum of.
fn each_product(s: &Convolution, sources: &Sources<'_>, index: usize, mut f: impl FnMut(f32, f32)) {
    let (x, w) = (sources.get(s.x), sources.get(s.weight));
    let spatial = s.y_shape.len() - 2;
    let mut at = [0usize; 4];
    let mut position = index;
    for axis in (0..s.y_shape.len()).rev() {
        at[axis] = position % s.y_shape[axis];
        position /= s.y_shape[axis];
    }
    let (batch, out) = (at[0], at[1]);
    let groups = s.geometry.groups;
    let taps: usize = s.weight_shape[2..].iter().product();
    let inputs = s.x_shape[1] / groups;
    let outputs = s.y_shape[1] / groups;
    let group = out / outputs;
    for tap in 0..taps {
        let Some(place) = source(s, &at[2..2 + spatial], tap) else { continue };
        let area: usize = s.x_shape[2..].iter().product();
        for c in 0..inputs {
            let channel = group * inputs + c;
            let weight = if s.transposed {
                (channel * outputs + out % outputs) * taps + tap
            } else {
                (out * inputs + c) * taps + tap
            };
            let value = element(x, (batch * s.x_shape[1] + channel) * area + place);
            f(value, element(w, weight));
        }
    }
}

/// Flat spatial position of the input that `tap` multiplies for the output at `at`.
fn source(s: &Convolution, at: &[usize], tap: usize) -> Option<usize> {
    let g = &s.geometry;
    let mut tap = tap;
    let mut taps = [0usize; 2];
    for i in (0..at.len()).rev() {
        taps[i] = tap % s.weight_shape[i + 2];
        tap /= s.weight_shape[i + 2];
    }
    let mut place = 0;
    for i in 0..at.len() {
        let reach = taps[i] * g.dilations[i];
        let p = if s.transposed {
            let p = (at[i] + g.pads[i].0).checked_sub(reach)?;
            if p % g.strides[i] != 0 {
                return None;
            }
            p / g.strides[i]
        } else {
            (at[i] * g.strides[i] + reach).checked_sub(g.pads[i].0)?
        };
        if p >= s.x_shape[i + 2] {
            return None;
        }
        place = place * s.x_shape[i + 2] + p;
    }
    Some(place)
}
