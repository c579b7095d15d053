//! Executes a schedule on a device: the one interpreter of plans, for training and for decoding.

use crate::batch::{MicroBatch, ModelError, Timings};
use crate::config::GptConfig;
use crate::lanes::{Span, in_turn, side_by_side};
use crate::ops::{self, Dims};
use crate::params::{Deferred, Parameters};
use crate::plan::{Index, Kernel, Lanes, Part, Place, Schedule, Sink, Source, Step, TimedStep};
use ane::surface::{Parts, ReadGuard, WriteGuard};
use ane::{AneError, Device, Executable, Surface};
use cpu::{Elements, HostProgram, OutputMut, Sgemm, simd};
use mil::{Program, Weights};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Instant;

/// Runs `f` and adds its wall time to `to`.
pub(crate) fn timed<R>(to: &mut f64, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    *to += start.elapsed().as_secs_f64();
    result
}

/// A program of the engine with the surfaces of every layer bound to it.
#[derive(Debug)]
pub(crate) struct Bound {
    executable: Box<dyn Executable>,
    /// Per layer: inputs and outputs in binding order, by their indices among the values.
    requests: Vec<(Vec<usize>, Vec<usize>)>,
}

/// Executables by the names of their programs, compiled before.
pub(crate) type Spare = BTreeMap<String, Box<dyn Executable>>;

/// An input of a program of the host.
enum Input<'a> {
    Host(&'a [f32]),
    /// A surface, locked until the program has read it.
    Surface(ReadGuard<'a>),
}

impl Input<'_> {
    fn elements(&self) -> Elements<'_> {
        match self {
            Input::Host(elements) => Elements::F32(elements),
            Input::Surface(guard) => guard.elements(),
        }
    }
}

/// The tokens of a step, as the host reads and writes tables by them.
pub(crate) struct Batch<'a> {
    /// Tokens, one per column.
    pub(crate) tokens: &'a [u32],
    /// Position of the first token in its sequence.
    pub(crate) start: usize,
    /// The token before the first one of each sequence.
    pub(crate) before: Option<u32>,
    /// Tokens of a sequence.
    pub(crate) seq: usize,
    /// Columns of the stream, T; no fewer than there are tokens.
    pub(crate) columns: usize,
}

impl Batch<'_> {
    /// The row of a table that each token looks up, if it looks up one.
    fn rows(&self, by: Index) -> impl Iterator<Item = Option<usize>> + '_ {
        self.tokens.iter().enumerate().map(move |(t, &token)| match by {
            Index::Token => Some(token as usize),
            Index::Preceding if t % self.seq == 0 => self.before.map(|token| token as usize),
            Index::Preceding => Some(self.tokens[t - 1] as usize),
            Index::Position => Some(self.start + t % self.seq),
        })
    }

    /// x[d, t] = table[row of token t, d], or that much more; columns without a row are 0.
    fn gather(&self, table: &[f32], by: Index, add: bool, x: &mut [f32]) {
        let (n, width) = (self.columns, x.len() / self.columns);
        if !add {
            x.fill(0.0);
        }
        for (t, row) in self.rows(by).enumerate() {
            let Some(row) = row else { continue };
            let row = &table[row * width..][..width];
            row.iter().enumerate().for_each(|(d, &v)| x[d * n + t] += v);
        }
    }

    /// Gradient of the table: [row of token t, d] += dx[d, t], tokens in order.
    fn scatter(&self, dx: &[f32], by: Index, gradient: &mut [f32]) {
        let (n, width) = (self.columns, dx.len() / self.columns);
        for (t, row) in self.rows(by).enumerate() {
            let Some(row) = row else { continue };
            let row = &mut gradient[row * width..][..width];
            row.iter_mut().enumerate().for_each(|(d, g)| *g += dx[d * n + t]);
        }
    }
}

/// A schedule with its programs compiled and its surfaces allocated.
#[derive(Debug)]
pub(crate) struct Runtime {
    schedule: Schedule,
    /// Set where engine and host work side by side: the lanes of a micro-batch, and of one that begins with an
    /// update.
    lanes: Option<[Lanes; 2]>,
    /// Programs of either place, by their indices in the schedule.
    engine: BTreeMap<usize, Bound>,
    host: BTreeMap<usize, HostProgram>,
    surfaces: Vec<Surface>,
    parameters: Parameters,
    /// Version of the parameters that the device has.
    version: Option<u64>,
    /// [C, T] each.
    arrays: Vec<Vec<f32>>,
    pub(crate) timings: Timings,
    /// The steps of the last micro-batch, and of the last one that began with an update.
    last: [Vec<Span>; 2],
}

impl Runtime {
    /// Compiles the programs of `schedule`, but for those in `spare`, and allocates its values.
    ///
    /// All inputs of a request have surfaces of one size, and so have all its outputs
    /// (docs/ane-facts.md C.1).
    ///
    /// # Errors
    /// When the device refuses a program or a surface.
    pub(crate) fn new(
        schedule: Schedule,
        dims: &Dims<'_>,
        parameters: &Parameters,
        device: &dyn Device,
        spare: &mut Spare,
    ) -> Result<Self, ModelError> {
        let (mut engine, mut host) = (BTreeMap::new(), BTreeMap::new());
        for (index, kernel) in schedule.programs.iter().enumerate() {
            let name = &kernel.function.name;
            if kernel.place == Place::Host {
                host.insert(index, HostProgram::new(&kernel.function)?);
                continue;
            }
            let program = || Program::new(kernel.function.clone());
            let executable = match spare.remove(name) {
                Some(executable) => executable,
                None => device.compile(&program(), &Weights::new())?,
            };
            engine.insert(index, bind(executable, &schedule, kernel, dims.config));
        }
        let least = device.least_allocation();
        let surfaces = (schedule.values.iter().zip(schedule.allocations()))
            .map(|(value, allocation)| device.surface(&value.ty, allocation.max(least)))
            .collect::<Result<_, _>>()?;
        let arrays = schedule.arrays.iter().map(|channels| vec![0.0; channels * dims.tokens()]);
        Ok(Runtime {
            arrays: arrays.collect(),
            // Without a backward pass, each step waits for the one before it.
            lanes: (device.overlaps() && !schedule.backward.is_empty())
                .then(|| [Lanes::new(&schedule), Lanes::after_update(&schedule)]),
            schedule,
            engine,
            host,
            surfaces,
            parameters: parameters.clone(),
            version: None,
            timings: Timings::default(),
            last: [vec![], vec![]],
        })
    }

    /// The steps.
    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The surface of a value.
    pub(crate) fn surface(&self, name: &str, layer: usize) -> &Surface {
        &self.surfaces[self.schedule.value(name, layer)]
    }

    /// Gives the executables back, by the names of their programs.
    pub(crate) fn into_executables(self) -> Spare {
        let named = |(index, bound): (usize, Bound)| {
            (self.schedule.programs[index].function.name.clone(), bound.executable)
        };
        self.engine.into_iter().map(named).collect()
    }

    /// Computes the host's products with `library` from now on.
    pub(crate) fn multiply_with(&mut self, library: Option<&Arc<dyn Sgemm>>) {
        self.host.values_mut().for_each(|program| program.multiply_with(library.cloned()));
    }

    /// Writes the rotary tables for tokens at `positions`, and the mask of every window.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn write_tables(
        &self,
        positions: &[usize],
        mask: impl Fn(Option<usize>) -> Vec<f32>,
    ) -> Result<(), AneError> {
        let config = self.parameters.config();
        for value in self.schedule.values.iter().enumerate().filter(|(_, v)| v.name == "mask") {
            let layer = value.1.layer.expect("a mask is of the first layer with its window");
            self.surfaces[value.0].write(&mask(config.window(layer)))?;
        }
        if let Some(layer) = (0..config.n_layer).find(|&layer| config.rotates(layer)) {
            let (cos, sin) = ops::rope_tables(config, positions);
            self.surface("rope_cos", layer).write(&cos)?;
            self.surface("rope_sin", layer).write(&sin)?;
        }
        Ok(())
    }

    /// True if engine and host work side by side in a micro-batch.
    pub(crate) fn is_side_by_side(&self) -> bool {
        self.lanes.is_some()
    }

    /// Brings the parameters to the device, in its precision, unless it has them.
    pub(crate) fn take_parameters(&mut self) -> Result<(), AneError> {
        let version = self.parameters.version();
        if self.version == Some(version) {
            return Ok(());
        }
        let Runtime { schedule, surfaces, parameters, timings, .. } = self;
        let values = parameters.read();
        timed(timings.of(Part::Io), || {
            (schedule.parameters.par_iter())
                .try_for_each(|(value, range)| surfaces[*value].write(&values[range.clone()]))
        })?;
        self.version = Some(version);
        Ok(())
    }

    /// True if the parameters changed since the device took them.
    pub(crate) fn is_stale(&self) -> bool {
        self.version != Some(self.parameters.version())
    }

    /// Runs the forward steps; what is not the same for training and decoding, `outside` does.
    ///
    /// # Errors
    /// When the device fails, or `outside`.
    pub(crate) fn forward(
        &mut self,
        batch: &Batch<'_>,
        outside: &mut Outside<'_>,
    ) -> Result<(), AneError> {
        self.run(batch, None, None, outside)
    }

    /// Runs the steps of both passes, after those of `update`: gradients go to those of `into`, which have the layout
    /// of the parameters. The head does not compute losses before its backward step.
    ///
    /// # Errors
    /// As [`Runtime::forward`].
    pub(crate) fn train(
        &mut self,
        batch: &Batch<'_>,
        update: Option<&mut dyn Deferred>,
        into: Gradients<'_>,
        outside: &mut Outside<'_>,
    ) -> Result<(), AneError> {
        self.run(batch, update, Some(into), outside)
    }

    /// The steps of the last micro-batch on the clock, or of the last one that began with an update.
    pub(crate) fn timeline(&self, after_update: bool) -> Vec<TimedStep> {
        let steps = steps(&self.schedule, true, after_update);
        let timed = |span: &Span| self.schedule.timed(steps[span.step], span.start, span.seconds);
        self.last[usize::from(after_update)].iter().map(timed).collect()
    }

    fn run(
        &mut self,
        batch: &Batch<'_>,
        update: Option<&mut dyn Deferred>,
        into: Option<Gradients<'_>>,
        outside: &mut Outside<'_>,
    ) -> Result<(), AneError> {
        let (trains, updates) = (into.is_some(), update.is_some());
        if !updates {
            self.take_parameters()?;
        }
        // Until all steps are done, surfaces hold old and new elements.
        let version = self.parameters.version();
        self.version = self.version.filter(|_| !updates);
        let parameters = self.parameters.clone();
        let (read, mut written);
        let values = match update {
            Some(update) => {
                written = parameters.write();
                Values::Updated(&mut written, update)
            }
            None => {
                read = parameters.read();
                Values::Read(&read)
            }
        };
        let start = Instant::now();
        let spans = self.run_steps(batch, values, into, outside, start)?;
        if updates {
            self.version = Some(version);
        }
        let steps = steps(&self.schedule, trains, updates);
        for span in &spans {
            *self.timings.of(self.schedule.part(steps[span.step])) += span.seconds;
        }
        if trains {
            self.last[usize::from(updates)] = spans;
        }
        Ok(())
    }

    fn run_steps<'a>(
        &'a mut self,
        batch: &'a Batch<'a>,
        values: Values<'a>,
        into: Option<Gradients<'a>>,
        outside: &'a mut Outside<'a>,
        start: Instant,
    ) -> Result<Vec<Span>, AneError> {
        let (trains, updates) = (into.is_some(), matches!(values, Values::Updated(..)));
        let steps = steps(&self.schedule, trains, updates);
        let (surfaces, programs) = (&self.surfaces[..], &mut self.engine);
        let mut engine = EngineLane { programs, surfaces };
        let Gradients { micro_batch, grads } = into.unwrap_or_default();
        let mut host = HostLane {
            schedule: &self.schedule,
            programs: &mut self.host,
            arrays: &mut self.arrays,
            surfaces,
            values,
            grads,
            batch,
            micro_batch,
            outside,
        };
        match self.lanes.as_ref().filter(|_| trains) {
            Some(lanes) => side_by_side(
                &lanes[usize::from(updates)],
                start,
                &mut |step| engine.run(steps[step]),
                &mut |step| host.run(steps[step]),
            ),
            None => in_turn(start, steps.len(), &mut |step| match steps[step].place() {
                Place::Engine => engine.run(steps[step]),
                Place::Host => host.run(steps[step]),
            }),
        }
    }
}

/// The steps of a forward pass, or of a micro-batch that trains, in order; after those of an update.
fn steps(schedule: &Schedule, trains: bool, after_update: bool) -> Vec<&Step> {
    match (trains, after_update) {
        (false, _) => schedule.forward.iter().collect(),
        (true, false) => schedule.steps().collect(),
        (true, true) => schedule.steps_after_update().collect(),
    }
}

/// The parameters while steps run.
enum Values<'a> {
    Read(&'a [f32]),
    Updated(&'a mut [f32], &'a mut dyn Deferred),
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Values::Read(values) => values,
            Values::Updated(values, _) => values,
        }
    }
}

/// The outputs of a program of the host: `arrays` are those that it writes, in its order; gradients lie in
/// `grads` in no particular order.
pub(crate) fn sinks<'s>(
    outputs: &[Sink],
    micro_batch: MicroBatch,
    arrays: impl IntoIterator<Item = &'s mut [f32]>,
    grads: &'s mut [f32],
) -> Vec<OutputMut<'s>> {
    let mut order: Vec<(usize, &Range<usize>)> = (outputs.iter().enumerate())
        .filter_map(|(i, sink)| match sink {
            Sink::Gradient(range) => Some((i, range)),
            Sink::Array { .. } => None,
        })
        .collect();
    order.sort_by_key(|(_, range)| range.start);
    let mut places: BTreeMap<usize, OutputMut<'s>> = BTreeMap::new();
    let (mut rest, mut at) = (grads, 0);
    for (i, range) in order {
        let (part, tail) = rest[range.start - at..].split_at_mut(range.len());
        places.insert(i, micro_batch.into_gradient(part));
        (rest, at) = (tail, range.end);
    }
    let written = outputs.iter().enumerate().filter_map(|(i, sink)| match sink {
        Sink::Array { add, .. } => Some((i, *add)),
        Sink::Gradient(_) => None,
    });
    for ((i, accumulate), data) in written.zip(arrays) {
        places.insert(i, OutputMut::F32 { data, accumulate });
    }
    places.into_values().collect()
}

/// The gradients of a micro-batch and where they go.
pub(crate) struct Gradients<'a> {
    pub(crate) micro_batch: MicroBatch,
    pub(crate) grads: &'a mut [f32],
}

impl Default for Gradients<'_> {
    fn default() -> Self {
        Gradients { micro_batch: MicroBatch::First, grads: &mut [] }
    }
}

/// Runs a step that the interpreter leaves to its caller.
pub(crate) type Outside<'o> = dyn FnMut(OutsideStep<'_>) -> Result<(), AneError> + 'o;

/// A step that the interpreter leaves to its caller.
pub(crate) enum OutsideStep<'a> {
    /// The head of this stream [D, T], with these parameters.
    Head { stream: &'a [f32], values: &'a [f32] },
    /// Its gradients.
    HeadBackward(HeadBackward<'a>),
    /// Losses of these probabilities [V, T].
    Losses { probs: &'a Surface },
    /// The cotangents of the logits of these probabilities. Rows of the gradients `grads` that no logit reads
    /// are its, too.
    Cotangents { probs: &'a Surface, to: &'a Surface, grads: &'a mut [f32] },
    /// New keys or values go into a cache.
    Append { new: &'a Surface, cache: &'a Surface },
}

/// The arguments of the head's backward step.
pub(crate) struct HeadBackward<'a> {
    /// [D, T]
    pub(crate) stream: &'a [f32],
    /// The parameters.
    pub(crate) values: &'a [f32],
    /// Of the stream, [D, T]: replaced.
    pub(crate) cotangent: &'a mut [f32],
    /// Of the parameters.
    pub(crate) grads: &'a mut [f32],
}

/// Runs the engine's steps.
struct EngineLane<'a> {
    programs: &'a mut BTreeMap<usize, Bound>,
    surfaces: &'a [Surface],
}

impl EngineLane<'_> {
    fn run(&mut self, step: &Step) -> Result<(), AneError> {
        let Step::Run { program, layer } = step else { unreachable!("{step:?} is the host's") };
        let bound = self.programs.get_mut(program).expect("the engine has its programs");
        let (inputs, outputs) = &bound.requests[*layer];
        let inputs: Vec<&Surface> = inputs.iter().map(|&value| &self.surfaces[value]).collect();
        let outputs: Vec<&Surface> = outputs.iter().map(|&value| &self.surfaces[value]).collect();
        bound.executable.run(&inputs, &outputs).map(drop)
    }
}

/// Runs the host's steps.
struct HostLane<'a> {
    schedule: &'a Schedule,
    programs: &'a mut BTreeMap<usize, HostProgram>,
    arrays: &'a mut [Vec<f32>],
    surfaces: &'a [Surface],
    values: Values<'a>,
    grads: &'a mut [f32],
    batch: &'a Batch<'a>,
    micro_batch: MicroBatch,
    outside: &'a mut Outside<'a>,
}

impl HostLane<'_> {
    fn run(&mut self, step: &Step) -> Result<(), AneError> {
        let HostLane { arrays, surfaces, values, grads, batch, .. } = self;
        match step {
            Step::Gather { table, by, add, to } => {
                batch.gather(&values[table.clone()], *by, *add, &mut arrays[*to]);
                Ok(())
            }
            Step::Load { from, to } => surfaces[*to].write(&arrays[*from]),
            Step::Add { value, from, to } => {
                if let Ok([from, to]) = arrays.get_disjoint_mut([*from, *to]) {
                    to.copy_from_slice(from);
                }
                surfaces[*value].add_to(&mut arrays[*to])
            }
            Step::Join { from, to } => {
                let [from, to] = arrays.get_disjoint_mut([*from, *to]).expect("two arrays");
                simd::add(to, from);
                Ok(())
            }
            Step::Append { value, cache } => (self.outside)(OutsideStep::Append {
                new: &surfaces[*value],
                cache: &surfaces[*cache],
            }),
            Step::Unload { from, to } => surfaces[*from].read(&mut arrays[*to]),
            Step::Losses { probs } => {
                (self.outside)(OutsideStep::Losses { probs: &surfaces[*probs] })
            }
            Step::Cotangents { probs, to } => {
                let [probs, to] = [*probs, *to].map(|value| &surfaces[value]);
                (self.outside)(OutsideStep::Cotangents { probs, to, grads })
            }
            Step::Head { stream } => {
                (self.outside)(OutsideStep::Head { stream: &arrays[*stream], values })
            }
            Step::HeadBackward { stream, to } => {
                let [stream, cotangent] =
                    arrays.get_disjoint_mut([*stream, *to]).expect("two arrays");
                let call = HeadBackward { stream, values, cotangent, grads };
                (self.outside)(OutsideStep::HeadBackward(call))
            }
            Step::Host { program, inputs, outputs, .. } => self.call(*program, inputs, outputs),
            Step::Accumulate { value, gradient } => {
                let gradient = &mut grads[gradient.clone()];
                if self.micro_batch == MicroBatch::First {
                    gradient.fill(0.0);
                }
                surfaces[*value].add_to(gradient)
            }
            Step::Scatter { table, by, fresh, from } => {
                let gradient = &mut grads[table.clone()];
                if *fresh && self.micro_batch == MicroBatch::First {
                    gradient.fill(0.0);
                }
                batch.scatter(&arrays[*from], *by, gradient);
                Ok(())
            }
            Step::Update { param, range, .. } => self.update(*param, range),
            Step::Run { .. } => unreachable!("{step:?} is the engine's"),
        }
    }

    /// Updates a parameter and brings its new elements to the device, each part while it is in the cache.
    fn update(&mut self, param: usize, range: &Range<usize>) -> Result<(), AneError> {
        let Values::Updated(values, update) = &mut self.values else {
            unreachable!("without an update, no parameter is updated")
        };
        let held = self.schedule.values_of(range.start);
        let (held, lengths): (Vec<_>, Vec<_>) =
            held.map(|(value, held)| (value, held.len())).unzip();
        let locked = held.iter().map(|&value| self.surfaces[value].lock_mut());
        // Before the update: whoever is refused a surface has not changed anything.
        let mut locked = locked.collect::<Result<Vec<_>, _>>()?;
        let surfaces: Vec<Parts<'_>> = locked.iter_mut().map(WriteGuard::parts).collect();
        let copy = |start: usize, new: &[f32]| {
            for (surface, length) in surfaces.iter().zip(&lengths) {
                // Rows beyond the vocabulary stay on the host.
                let length = new.len().min(length.saturating_sub(start));
                surface.write(start, &new[..length]);
            }
        };
        update.update(param, &mut values[range.clone()], &self.grads[range.clone()], &copy);
        Ok(())
    }

    /// Runs a program, which writes no array that it reads.
    fn call(
        &mut self,
        program: usize,
        inputs: &[Source],
        outputs: &[Sink],
    ) -> Result<(), AneError> {
        let written: Vec<usize> = (outputs.iter())
            .filter_map(|sink| match sink {
                Sink::Array { to, .. } => Some(*to),
                Sink::Gradient(_) => None,
            })
            .collect();
        let HostLane { programs, arrays, surfaces, values, grads, micro_batch, .. } = self;
        let program = programs.get_mut(&program).expect("the host has its programs");
        let mut taken: Vec<Vec<f32>> =
            written.iter().map(|&to| std::mem::take(&mut arrays[to])).collect();
        let inputs = inputs.iter().map(|source| {
            Ok(match source {
                Source::Array(n) => Input::Host(&arrays[*n]),
                Source::Parameter(range) => Input::Host(&values[range.clone()]),
                Source::Value(value) => Input::Surface(surfaces[*value].lock()?),
            })
        });
        let done = inputs.collect::<Result<Vec<_>, AneError>>().and_then(|inputs| {
            let elements: Vec<Elements<'_>> = inputs.iter().map(Input::elements).collect();
            let to = taken.iter_mut().map(|array| &mut array[..]);
            Ok(program.run(&elements, &mut sinks(outputs, *micro_batch, to, grads))?)
        });
        // Also after a fault: a step may be tried again.
        written.into_iter().zip(taken).for_each(|(to, array)| arrays[to] = array);
        done
    }
}

/// Binds the values of every layer that runs a program to its ports; other layers have none.
fn bind(
    executable: Box<dyn Executable>,
    schedule: &Schedule,
    kernel: &Kernel,
    config: &GptConfig,
) -> Bound {
    let bound = |ports: &[ane::Port], layer: usize| -> Vec<usize> {
        let ports = ports.iter().filter(|_| kernel.layers.contains(&layer));
        ports.map(|port| schedule.value(&port.name, layer)).collect()
    };
    let requests = (0..config.n_layer)
        .map(|layer| (bound(executable.inputs(), layer), bound(executable.outputs(), layer)))
        .collect();
    Bound { executable, requests }
}
