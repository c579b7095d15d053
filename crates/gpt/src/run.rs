//! Executes a schedule on a device: the one interpreter of plans, for training and for decoding.

use crate::batch::{MicroBatch, ModelError, Timings};
use crate::config::GptConfig;
use crate::ops::{self, Dims};
use crate::params::Parameters;
use crate::plan::{Index, Part, Place, Schedule, Sink, Source, Step};
use ane::surface::ReadGuard;
use ane::{AneError, Device, Executable, Surface};
use cpu::{Elements, HostProgram, OutputMut, Sgemm, simd};
use mil::{Program, Weights};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
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

/// A program of either place.
#[derive(Debug)]
enum Compiled {
    Engine(Bound),
    Host(HostProgram),
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
    programs: Vec<Compiled>,
    surfaces: Vec<Surface>,
    parameters: Parameters,
    /// Version of the parameters that the device has.
    version: Option<u64>,
    /// [C, T] each.
    arrays: Vec<Vec<f32>>,
    pub(crate) timings: Timings,
}

impl Runtime {
    /// Compiles the programs of `schedule`, but for those in `spare`, and allocates its values.
    ///
    /// All surfaces have the size of the largest, which satisfies every published rule on sizes
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
        let mut programs = vec![];
        for kernel in &schedule.programs {
            let name = &kernel.function.name;
            programs.push(match kernel.place {
                Place::Host => Compiled::Host(HostProgram::new(&kernel.function)?),
                Place::Engine => {
                    let executable = match spare.remove(name) {
                        Some(executable) => executable,
                        None => device
                            .compile(&Program::new(kernel.function.clone()), &Weights::new())?,
                    };
                    Compiled::Engine(bind(executable, &schedule, kernel.kind, dims.config))
                }
            });
        }
        let allocation = schedule.largest().max(device.least_allocation());
        let surfaces = (schedule.values.iter())
            .map(|value| device.surface(&value.ty, allocation))
            .collect::<Result<_, _>>()?;
        let arrays = schedule.arrays.iter().map(|channels| vec![0.0; channels * dims.tokens()]);
        Ok(Runtime {
            arrays: arrays.collect(),
            schedule,
            programs,
            surfaces,
            parameters: parameters.clone(),
            version: None,
            timings: Timings::default(),
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
        let names = self.schedule.programs.into_iter().map(|kernel| kernel.function.name);
        let engine = names.zip(self.programs).filter_map(|(name, program)| match program {
            Compiled::Engine(bound) => Some((name, bound.executable)),
            Compiled::Host(_) => None,
        });
        engine.collect()
    }

    /// Computes the host's products with `library` from now on.
    pub(crate) fn multiply_with(&mut self, library: Option<&Arc<dyn Sgemm>>) {
        for program in &mut self.programs {
            if let Compiled::Host(program) = program {
                program.multiply_with(library.cloned());
            }
        }
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
        outside: &mut dyn FnMut(Outside<'_>) -> Result<(), AneError>,
    ) -> Result<(), AneError> {
        self.take_parameters()?;
        let Runtime { schedule, programs, surfaces, parameters, arrays, timings, .. } = self;
        let values = parameters.read();
        for step in &schedule.forward {
            timed(timings.of(schedule.part(step)), || match step {
                Step::Gather { table, by, add, to } => {
                    batch.gather(&values[table.clone()], *by, *add, &mut arrays[*to]);
                    Ok(())
                }
                Step::Load { from, to } => surfaces[*to].write(&arrays[*from]),
                Step::Host { program, inputs, outputs, .. } => {
                    let mut places = Places { arrays, surfaces, values: &values, grads: &mut [] };
                    programs[*program].call(inputs, outputs, MicroBatch::First, &mut places)
                }
                Step::Run { program, layer } => programs[*program].request(*layer, surfaces),
                Step::Append { value, cache } => {
                    outside(Outside::Append { new: &surfaces[*value], cache: &surfaces[*cache] })
                }
                Step::Add { value, from, to } => {
                    if let Ok([from, to]) = arrays.get_disjoint_mut([*from, *to]) {
                        to.copy_from_slice(from);
                    }
                    surfaces[*value].add_to(&mut arrays[*to])
                }
                Step::Head { stream } => {
                    outside(Outside::Head { stream: &arrays[*stream], values: &values })
                }
                other => unreachable!("{other:?} is a step of the backward pass"),
            })?;
        }
        Ok(())
    }

    /// Runs the backward steps, after [`Runtime::forward`] on the same batch and parameters: gradients
    /// go to `grads`, which has the layout of the parameters.
    ///
    /// # Errors
    /// When the device fails, or `head`.
    pub(crate) fn backward(
        &mut self,
        batch: &Batch<'_>,
        micro_batch: MicroBatch,
        grads: &mut [f32],
        head: &mut dyn FnMut(HeadBackward<'_>) -> Result<(), AneError>,
    ) -> Result<(), AneError> {
        let Runtime { schedule, programs, surfaces, parameters, arrays, timings, .. } = self;
        let values = parameters.read();
        for step in &schedule.backward {
            timed(timings.of(schedule.part(step)), || match step {
                Step::HeadBackward { stream, to } => {
                    let [stream, cotangent] =
                        arrays.get_disjoint_mut([*stream, *to]).expect("two arrays");
                    head(HeadBackward { stream, values: &values, cotangent, grads })
                }
                Step::Load { from, to } => surfaces[*to].write(&arrays[*from]),
                Step::Run { program, layer } => programs[*program].request(*layer, surfaces),
                Step::Host { program, inputs, outputs, .. } => {
                    let mut places = Places { arrays, surfaces, values: &values, grads };
                    programs[*program].call(inputs, outputs, micro_batch, &mut places)
                }
                Step::Join { from, to } => {
                    let [from, to] = arrays.get_disjoint_mut([*from, *to]).expect("two arrays");
                    simd::add(to, from);
                    Ok(())
                }
                Step::Accumulate { value, gradient } => {
                    let gradient = &mut grads[gradient.clone()];
                    if micro_batch == MicroBatch::First {
                        gradient.fill(0.0);
                    }
                    surfaces[*value].add_to(gradient)
                }
                Step::Scatter { table, by, fresh, from } => {
                    let gradient = &mut grads[table.clone()];
                    if *fresh && micro_batch == MicroBatch::First {
                        gradient.fill(0.0);
                    }
                    batch.scatter(&arrays[*from], *by, gradient);
                    Ok(())
                }
                other => unreachable!("{other:?} is a step of the forward pass"),
            })?;
        }
        Ok(())
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

/// Where programs of the host read and write.
struct Places<'a> {
    arrays: &'a mut Vec<Vec<f32>>,
    surfaces: &'a [Surface],
    values: &'a [f32],
    grads: &'a mut [f32],
}

/// A forward step that the interpreter leaves to others.
pub(crate) enum Outside<'a> {
    /// The head of this stream [D, T], with these parameters.
    Head { stream: &'a [f32], values: &'a [f32] },
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

impl Compiled {
    /// Runs a program of the engine for a layer.
    fn request(&mut self, layer: usize, surfaces: &[Surface]) -> Result<(), AneError> {
        let Compiled::Engine(bound) = self else { unreachable!("the engine runs its programs") };
        let (inputs, outputs) = &bound.requests[layer];
        let inputs: Vec<&Surface> = inputs.iter().map(|&value| &surfaces[value]).collect();
        let outputs: Vec<&Surface> = outputs.iter().map(|&value| &surfaces[value]).collect();
        bound.executable.run(&inputs, &outputs).map(drop)
    }

    /// Runs a program of the host, which writes no array that it reads.
    fn call(
        &mut self,
        inputs: &[Source],
        outputs: &[Sink],
        micro_batch: MicroBatch,
        places: &mut Places<'_>,
    ) -> Result<(), AneError> {
        let Compiled::Host(program) = self else { unreachable!("the host runs its programs") };
        let written: Vec<usize> = (outputs.iter())
            .filter_map(|sink| match sink {
                Sink::Array { to, .. } => Some(*to),
                Sink::Gradient(_) => None,
            })
            .collect();
        let Places { arrays, surfaces, values, grads } = places;
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
            Ok(program.run(&elements, &mut sinks(outputs, micro_batch, to, grads))?)
        });
        // Also after a fault: a step may be tried again.
        written.into_iter().zip(taken).for_each(|(to, array)| arrays[to] = array);
        done
    }
}

/// Binds the values of every layer of `kind` to the ports of a program; those of other kinds have none.
fn bind(
    executable: Box<dyn Executable>,
    schedule: &Schedule,
    kind: usize,
    config: &GptConfig,
) -> Bound {
    let bound = |ports: &[ane::Port], layer: usize| -> Vec<usize> {
        let of_kind = config.kind(layer) == kind;
        let ports = ports.iter().filter(|_| of_kind);
        ports.map(|port| schedule.value(&port.name, layer)).collect()
    };
    let requests = (0..config.n_layer)
        .map(|layer| (bound(executable.inputs(), layer), bound(executable.outputs(), layer)))
        .collect();
    Bound { executable, requests }
}
