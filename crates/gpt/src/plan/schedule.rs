//! The steps by which the programs of a plan make a training step, or a decoding one.

use super::{Kernel, Pass, Place, Plan, PlanError, Programs, inputs, outputs, stream_of};
use crate::block::Memory;
use crate::declare::Block;
use crate::ops::Dims;
use crate::params::Layout;
use mil::{Function, TensorType};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A value that lies in a surface of the device.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its name in programs.
    pub name: String,
    /// The layer that it is of; none if it is shared by layers.
    pub layer: Option<usize>,
    /// Element type and shape.
    pub ty: TensorType,
}

/// An array of the host, [D, T].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The residual stream before block `n` (two per layer), or after all.
    Stream(usize),
    /// The cotangent of the residual stream.
    Cotangent,
}

/// The index by which rows of a table are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// By the token.
    Token,
    /// By the token's position in its sequence.
    Position,
}

/// An input of a program of the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// An array of the host.
    Flow(Flow),
    /// A master weight.
    Parameter(Range<usize>),
    /// A value, by its index in [`Schedule::values`].
    Value(usize),
}

/// An output of a program of the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Sink {
    /// Added to the cotangent of the stream.
    Cotangent,
    /// The gradient of a parameter: replaced by the first micro-batch, added to by later ones.
    Gradient(Range<usize>),
}

/// A step. Indices of values are those of [`Schedule::values`], of programs those of
/// [`Schedule::programs`].
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Rows of a table become the first stream, or are added to it.
    Gather {
        /// The table among the parameters.
        table: Range<usize>,
        /// The index by which its rows are looked up.
        by: Index,
        /// True if they are added.
        add: bool,
    },
    /// An array of the host goes into a surface, in the device's precision.
    Load {
        /// From here.
        from: Flow,
        /// To this value.
        to: usize,
    },
    /// The device runs a program.
    Run {
        /// The program.
        program: usize,
        /// For this layer.
        layer: usize,
    },
    /// Stream `to` is stream `from` plus a value.
    Add {
        /// The value added.
        value: usize,
        /// Before.
        from: usize,
        /// After; `from` itself where nothing is saved.
        to: usize,
    },
    /// New keys and values go into the cache.
    Append {
        /// The new ones.
        value: usize,
        /// Where they go.
        cache: usize,
    },
    /// Last norm, classifier and loss.
    Head {
        /// Of this stream.
        stream: usize,
    },
    /// The gradients of these; the cotangent of the stream.
    HeadBackward {
        /// Of this stream.
        stream: usize,
    },
    /// The host runs a program.
    Host {
        /// The program.
        program: usize,
        /// For this layer.
        layer: usize,
        /// In its order.
        inputs: Vec<Source>,
        /// In its order.
        outputs: Vec<Sink>,
    },
    /// A gradient that the device computed goes to the others.
    Accumulate {
        /// The gradient.
        value: usize,
        /// Where it goes.
        gradient: Range<usize>,
    },
    /// The cotangent of the stream goes to the rows that were gathered.
    Scatter {
        /// The table among the parameters.
        table: Range<usize>,
        /// The index by which its rows are looked up.
        by: Index,
        /// True if nothing was added to its gradient before.
        fresh: bool,
    },
}

/// The steps of a plan for a model.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// All programs.
    pub programs: Vec<Kernel>,
    /// All values on the device.
    pub values: Vec<Value>,
    /// Steps from tokens to the loss.
    pub forward: Vec<Step>,
    /// Steps from the loss to gradients.
    pub backward: Vec<Step>,
    /// Parameters that the device holds: their values, and where they are in the arena.
    pub parameters: Vec<(usize, Range<usize>)>,
    /// Rows of the vocabulary, width of the stream, and tokens: what the head works on.
    pub head: [usize; 3],
    index: BTreeMap<(usize, String), usize>,
}

impl Schedule {
    /// The steps of `plan` for `dims`.
    ///
    /// # Errors
    /// As [`Programs::new`].
    pub fn new(plan: &Plan, dims: &Dims<'_>, memory: Memory) -> Result<Self, PlanError> {
        let programs = Programs::new(plan, dims, memory)?.kernels;
        Ok(Writer::new(programs, dims).write())
    }

    /// The value called `name` that `layer` uses.
    ///
    /// # Panics
    /// If there is none.
    pub fn value(&self, name: &str, layer: usize) -> usize {
        self.find(name, layer).unwrap_or_else(|| panic!("the plan has a value `{name}`"))
    }

    /// The value called `name` that `layer` uses, if there is one.
    pub fn find(&self, name: &str, layer: usize) -> Option<usize> {
        self.index.get(&(layer, name.to_owned())).copied()
    }

    /// Name of a step for people (its program's, where it runs one), and its layer, if it is of one.
    pub fn describe(&self, step: &Step) -> (String, Option<usize>) {
        let table = |by: &Index| match by {
            Index::Token => "embedding",
            Index::Position => "positions",
        };
        let of = |verb: &str, value: usize| {
            let Value { name, layer, .. } = &self.values[value];
            (format!("{verb} {name}"), *layer)
        };
        match step {
            Step::Gather { by, .. } => (table(by).to_owned(), None),
            Step::Load { to, .. } => of("load", *to),
            Step::Run { program, layer } | Step::Host { program, layer, .. } => {
                (self.programs[*program].function.name.clone(), Some(*layer))
            }
            Step::Add { value, .. } => of("add", *value),
            Step::Append { value, .. } => of("append", *value),
            Step::Head { .. } => ("head".to_owned(), None),
            Step::HeadBackward { .. } => ("headBwd".to_owned(), None),
            Step::Accumulate { value, .. } => of("accumulate", *value),
            Step::Scatter { by, .. } => (format!("{}Bwd", table(by)), None),
        }
    }

    /// The programs of the engine with their indices.
    pub fn engine(&self) -> impl Iterator<Item = (usize, &Kernel)> {
        self.programs.iter().enumerate().filter(|(_, kernel)| kernel.place == Place::Engine)
    }

    /// The programs of the host with their indices.
    pub fn host(&self) -> impl Iterator<Item = (usize, &Kernel)> {
        self.programs.iter().enumerate().filter(|(_, kernel)| kernel.place == Place::Host)
    }

    /// Bytes of the largest value.
    pub fn largest(&self) -> usize {
        self.values.iter().map(|value| value.ty.bytes()).max().unwrap_or(0)
    }
}

/// The writer of a schedule.
struct Writer<'d> {
    dims: &'d Dims<'d>,
    layout: Layout,
    schedule: Schedule,
    /// Names of values that each layer keeps: parameters, caches, and what the forward pass saves.
    kept: BTreeSet<String>,
}

impl<'d> Writer<'d> {
    fn new(programs: Vec<Kernel>, dims: &'d Dims<'d>) -> Self {
        let layout = Layout::new(dims.config);
        let of = |pass, names: fn(&Function) -> Vec<String>| -> BTreeSet<String> {
            let kernels = programs.iter().filter(|kernel| kernel.pass == pass);
            kernels.flat_map(|kernel| names(&kernel.function)).collect()
        };
        let saved = of(Pass::Forward, outputs);
        let read = of(Pass::Backward, inputs);
        let mut kept: BTreeSet<String> = saved.intersection(&read).cloned().collect();
        kept.extend(["kcache", "vcache"].map(str::to_owned));
        kept.extend(layout.params().iter().map(|p| p.port.to_owned()));
        let schedule = Schedule {
            programs,
            values: vec![],
            forward: vec![],
            backward: vec![],
            parameters: vec![],
            head: [dims.config.vocab_size, dims.config.n_embd, dims.tokens()],
            index: BTreeMap::new(),
        };
        Writer { dims, layout, schedule, kept }
    }

    fn write(mut self) -> Schedule {
        self.declare();
        let config = self.dims.config;
        let trains = self.schedule.programs.iter().any(|kernel| kernel.pass == Pass::Backward);
        let blocks: Vec<(usize, Block)> = (0..config.n_layer)
            .flat_map(|layer| [(layer, Block::Attention), (layer, Block::FeedForward)])
            .collect();
        // Where nothing is saved, one stream serves all blocks.
        let stream = |n: usize| if trains { n } else { 0 };
        self.gather();
        for (n, &(layer, block)) in blocks.iter().enumerate() {
            self.forward_block(layer, block, stream(n), stream(n + 1));
        }
        let last = stream(blocks.len());
        self.schedule.forward.push(Step::Head { stream: last });
        if trains {
            self.schedule.backward.push(Step::HeadBackward { stream: last });
            for (n, &(layer, block)) in blocks.iter().enumerate().rev() {
                self.backward_block(layer, block, n);
            }
            self.scatter();
        }
        self.schedule
    }

    /// Lists the values that the programs of the engine exchange with anyone.
    fn declare(&mut self) {
        let config = self.dims.config;
        let engine = self.schedule.programs.iter().filter(|kernel| kernel.place == Place::Engine);
        let ports: Vec<(usize, String, TensorType)> = engine
            .flat_map(|kernel| {
                let f = &kernel.function;
                let ids = f.inputs().chain(f.outputs.iter().copied());
                let port = |id| (kernel.kind, f.value(id).name.clone(), f.ty(id).clone());
                ids.map(port).collect::<Vec<_>>()
            })
            .collect();
        let mut owned = BTreeMap::new();
        for (kind, name, ty) in ports {
            for layer in (0..config.n_layer).filter(|&l| config.kind(l) == kind) {
                let owner = self.owner(&name, layer);
                let values = &mut self.schedule.values;
                let value = *owned.entry((owner, name.clone())).or_insert_with(|| {
                    values.push(Value { name: name.clone(), layer: owner, ty: ty.clone() });
                    values.len() - 1
                });
                self.schedule.index.insert((layer, name.clone()), value);
            }
        }
        let parameters = self.layout.params().iter().filter_map(|p| {
            let value = self.schedule.find(p.port, p.layer?)?;
            Some((value, p.range()))
        });
        self.schedule.parameters = parameters.collect();
    }

    /// The layer whose value called `name` `layer` uses; none if all layers share one.
    fn owner(&self, name: &str, layer: usize) -> Option<usize> {
        if name == "mask" {
            return Some(first_alike(self.dims, layer));
        }
        self.kept.contains(name).then_some(layer)
    }

    fn value(&self, name: &str, layer: usize) -> usize {
        self.schedule.value(name, layer)
    }

    fn kind(&self, layer: usize) -> usize {
        self.dims.config.kind(layer)
    }

    /// Indices of the programs of a block of `layer`.
    fn programs(&self, (layer, block): (usize, Block), pass: Pass, place: Place) -> Vec<usize> {
        let programs = self.schedule.programs.iter().enumerate();
        let wanted = (self.kind(layer), block, pass, place);
        let chosen = programs.filter(|(_, k)| (k.kind, k.block, k.pass, k.place) == wanted);
        chosen.map(|(index, _)| index).collect()
    }

    /// The tables whose rows make the first stream.
    fn tables(&self) -> Vec<(Range<usize>, Index)> {
        let table = |port, by| self.layout.find(port, None).map(|p| (p.range(), by));
        [table("embedding", Index::Token), table("positions", Index::Position)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn gather(&mut self) {
        for (n, (table, by)) in self.tables().into_iter().enumerate() {
            self.schedule.forward.push(Step::Gather { table, by, add: n > 0 });
        }
    }

    fn scatter(&mut self) {
        let classifier = self.layout.classifier();
        for (table, by) in self.tables() {
            let fresh = table != classifier;
            self.schedule.backward.push(Step::Scatter { table, by, fresh });
        }
    }

    fn forward_block(&mut self, layer: usize, block: Block, from: usize, to: usize) {
        let stream = self.value(stream_of(block), layer);
        self.schedule.forward.push(Step::Load { from: Flow::Stream(from), to: stream });
        for program in self.programs((layer, block), Pass::Forward, Place::Engine) {
            self.schedule.forward.push(Step::Run { program, layer });
            for (new, cache) in [("k", "kcache"), ("v", "vcache")] {
                let reads = inputs(&self.schedule.programs[program].function);
                if reads.iter().any(|name| name == cache) {
                    let (value, cache) = (self.value(new, layer), self.value(cache, layer));
                    self.schedule.forward.push(Step::Append { value, cache });
                }
            }
        }
        let value = self.value(&self.output(layer, block), layer);
        self.schedule.forward.push(Step::Add { value, from, to });
    }

    /// Name of what a block adds to the stream.
    fn output(&self, layer: usize, block: Block) -> String {
        let program = self.programs((layer, block), Pass::Forward, Place::Engine);
        let last = *program.last().expect("a block has a forward program");
        outputs(&self.schedule.programs[last].function).swap_remove(0)
    }

    fn backward_block(&mut self, layer: usize, block: Block, stream: usize) {
        let seed = format!("d_{}", self.output(layer, block));
        let to = self.value(&seed, layer);
        self.schedule.backward.push(Step::Load { from: Flow::Cotangent, to });
        let engine = self.programs((layer, block), Pass::Backward, Place::Engine);
        for &program in &engine {
            self.schedule.backward.push(Step::Run { program, layer });
        }
        let (stream_rows, gradients): (Vec<_>, Vec<_>) = self
            .programs((layer, block), Pass::Backward, Place::Host)
            .into_iter()
            .partition(|&program| self.gives_stream(program, block));
        for program in gradients {
            let step = self.host(program, layer, block, stream);
            self.schedule.backward.push(step);
        }
        for program in engine {
            self.accumulate(program, layer);
        }
        // The cotangent changes last: gradients of this block read it as it was.
        for program in stream_rows {
            let step = self.host(program, layer, block, stream);
            self.schedule.backward.push(step);
        }
    }

    fn gives_stream(&self, program: usize, block: Block) -> bool {
        let cotangent = format!("d_{}", stream_of(block));
        outputs(&self.schedule.programs[program].function).contains(&cotangent)
    }

    /// Gradients of parameters among the outputs of a program of the engine.
    fn accumulate(&mut self, program: usize, layer: usize) {
        for name in outputs(&self.schedule.programs[program].function) {
            let port = name.strip_prefix("d_").unwrap_or_default();
            if let Some(param) = self.layout.find(port, Some(layer)) {
                let (value, gradient) = (self.value(&name, layer), param.range());
                self.schedule.backward.push(Step::Accumulate { value, gradient });
            }
        }
    }

    fn host(&self, program: usize, layer: usize, block: Block, stream: usize) -> Step {
        let function = &self.schedule.programs[program].function;
        let parameter = |port: &str| self.layout.find(port, Some(layer)).map(|p| p.range());
        let source = |name: String| match parameter(&name) {
            _ if name == stream_of(block) => Source::Flow(Flow::Stream(stream)),
            Some(range) => Source::Parameter(range),
            None => Source::Value(self.value(&name, layer)),
        };
        let sink = |name: String| {
            let of = name.strip_prefix("d_").expect("programs of the host give cotangents");
            parameter(of).map_or(Sink::Cotangent, Sink::Gradient)
        };
        Step::Host {
            program,
            layer,
            inputs: inputs(function).into_iter().map(source).collect(),
            outputs: outputs(function).into_iter().map(sink).collect(),
        }
    }
}

/// The first layer whose window is that of `layer`: they share a mask.
fn first_alike(dims: &Dims<'_>, layer: usize) -> usize {
    let window = |layer| dims.config.window(layer);
    (0..layer).find(|&other| window(other) == window(layer)).unwrap_or(layer)
}
