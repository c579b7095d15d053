//! The steps by which the programs of a plan make a training step, or a decoding one.

use super::write::Writer;
use super::{Kernel, Place, Plan, PlanError, Programs, inputs, outputs, port};
use crate::block::Memory;
use crate::declare::Block;
use crate::ops::Dims;
use mil::TensorType;
use std::collections::BTreeMap;
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

/// The index by which rows of a table are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// By the token.
    Token,
    /// By the token before it in its text; the first one of a text has none.
    Preceding,
    /// By the token's position in its sequence.
    Position,
}

/// An input of a program of the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// An array of the host, by its index in [`Schedule::arrays`].
    Array(usize),
    /// A master weight.
    Parameter(Range<usize>),
    /// A value, by its index in [`Schedule::values`].
    Value(usize),
}

/// An output of a program of the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Sink {
    /// An array of the host.
    Array {
        /// Its index in [`Schedule::arrays`].
        to: usize,
        /// True if the output is added to it.
        add: bool,
    },
    /// The gradient of a parameter: replaced by the first micro-batch, added to by later ones.
    Gradient(Range<usize>),
}

impl Sink {
    /// True for the gradient of a parameter.
    pub fn is_gradient(&self) -> bool {
        matches!(self, Sink::Gradient(_))
    }
}

/// A step. Indices of values are those of [`Schedule::values`], of arrays those of [`Schedule::arrays`], of
/// programs those of [`Schedule::programs`].
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Rows of a table fill an array, or are added to it.
    Gather {
        /// The table among the parameters.
        table: Range<usize>,
        /// The index by which its rows are looked up.
        by: Index,
        /// True if they are added.
        add: bool,
        /// The array.
        to: usize,
    },
    /// An array of the host goes into a surface, in the device's precision.
    Load {
        /// From this array.
        from: usize,
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
    /// Array `to` is array `from` plus a value.
    Add {
        /// The value added.
        value: usize,
        /// The stream before.
        from: usize,
        /// The stream after; `from` itself where nothing is saved.
        to: usize,
    },
    /// Array `from` is added to array `to`: cotangents of one stream meet.
    Join {
        /// Stays as it is.
        from: usize,
        /// Becomes the sum.
        to: usize,
    },
    /// New keys and values go into the cache.
    Append {
        /// The new ones.
        value: usize,
        /// Where they go.
        cache: usize,
    },
    /// A value comes from its surface into an array.
    Unload {
        /// The value.
        from: usize,
        /// The array.
        to: usize,
    },
    /// Losses, where the device gives the probabilities of all tokens.
    Losses {
        /// The probabilities.
        probs: usize,
    },
    /// Cotangents of the logits, where the device gives the probabilities of all tokens.
    Cotangents {
        /// The probabilities.
        probs: usize,
        /// The value that becomes the cotangents.
        to: usize,
    },
    /// Last norm, classifier and loss.
    Head {
        /// Of the stream in this array.
        stream: usize,
    },
    /// The gradients of these; the cotangent of the stream.
    HeadBackward {
        /// The stream.
        stream: usize,
        /// The array that becomes its cotangent.
        to: usize,
    },
    /// The host runs a program.
    Host {
        /// The program.
        program: usize,
        /// For this layer, if for one.
        layer: Option<usize>,
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
    /// A cotangent goes to the rows that were gathered.
    Scatter {
        /// The table among the parameters.
        table: Range<usize>,
        /// The index by which its rows are looked up.
        by: Index,
        /// True if nothing was added to its gradient before.
        fresh: bool,
        /// The array of the cotangent.
        from: usize,
    },
    /// The optimizer updates a parameter, and its new elements go into the surfaces that hold it.
    Update {
        /// Its index in the layout.
        param: usize,
        /// Its elements in the arena.
        range: Range<usize>,
        /// Its name in programs.
        port: &'static str,
        /// The layer that it is of, if it is of one.
        layer: Option<usize>,
    },
}

/// The steps of a plan for a model.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// All programs.
    pub programs: Vec<Kernel>,
    /// All values on the device.
    pub values: Vec<Value>,
    /// Arrays of the host: the channels C of each [C, T].
    pub arrays: Vec<usize>,
    /// Steps from tokens to the loss.
    pub forward: Vec<Step>,
    /// Steps from the loss to gradients.
    pub backward: Vec<Step>,
    /// Steps that update the parameters, before those of the forward pass: of the first micro-batch after an update that
    /// was deferred ([`crate::Deferred`]).
    pub updates: Vec<Step>,
    /// Parameters that the device holds: their values, and where they are in the arena.
    pub parameters: Vec<(usize, Range<usize>)>,
    /// Rows of the vocabulary, width of the stream, and tokens: what the head works on.
    pub head: [usize; 3],
    /// Parameters whose gradients the head gives.
    pub head_parameters: Vec<Range<usize>>,
    pub(super) index: BTreeMap<(usize, String), usize>,
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

    /// The value called `name` that `layer` uses, if there is one. A name may be that of a [`port`] of a program
    /// of several layers that begins with `layer`.
    pub fn find(&self, name: &str, layer: usize) -> Option<usize> {
        let (name, further) = port(name);
        self.index.get(&(layer + further, name.to_owned())).copied()
    }

    /// All steps in order: those of a micro-batch.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.forward.iter().chain(&self.backward)
    }

    /// All steps in order: those of an update, then those of a micro-batch.
    pub fn steps_after_update(&self) -> impl Iterator<Item = &Step> {
        self.updates.iter().chain(self.steps())
    }

    /// The values that hold a parameter, by its first element in the arena; the range is that of the elements that they
    /// hold, which may be fewer.
    pub fn values_of(&self, start: usize) -> impl Iterator<Item = (usize, &Range<usize>)> {
        let all = self.parameters.iter().map(|(value, range)| (*value, range));
        all.filter(move |(_, range)| range.start == start)
    }

    /// Name of a step for people (its program's, where it runs one), and its layer, if it is of one.
    pub fn describe(&self, step: &Step) -> (String, Option<usize>) {
        let table = |by: &Index| match by {
            Index::Token => "embedding",
            Index::Preceding => "preceding",
            Index::Position => "positions",
        };
        let of = |verb: &str, value: usize| {
            let Value { name, layer, .. } = &self.values[value];
            (format!("{verb} {name}"), *layer)
        };
        match step {
            Step::Gather { by, .. } => (table(by).to_owned(), None),
            Step::Load { to, .. } => of("load", *to),
            Step::Run { program, layer } => {
                let Kernel { block, function, .. } = &self.programs[*program];
                let of_head = matches!(block, Block::Head | Block::Classifier);
                (function.name.clone(), (!of_head).then_some(*layer))
            }
            Step::Host { program, layer, .. } => {
                (self.programs[*program].function.name.clone(), *layer)
            }
            Step::Join { .. } => ("join".to_owned(), None),
            Step::Add { value, .. } => of("add", *value),
            Step::Append { value, .. } => of("append", *value),
            Step::Unload { from, .. } => of("unload", *from),
            Step::Losses { .. } => ("losses".to_owned(), None),
            Step::Cotangents { .. } => ("cotangents".to_owned(), None),
            Step::Head { .. } => ("head".to_owned(), None),
            Step::HeadBackward { .. } => ("headBwd".to_owned(), None),
            Step::Accumulate { value, .. } => of("accumulate", *value),
            Step::Scatter { by, .. } => (format!("{}Bwd", table(by)), None),
            Step::Update { port, layer, .. } => (format!("update {port}"), *layer),
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

    /// Bytes for the surface of each value where all inputs of a request, and all its outputs, must have
    /// surfaces of one size: the largest of all that requests connect in this way.
    pub fn allocations(&self) -> Vec<usize> {
        // Groups as trees: each value leads to another of its group, the last one to itself.
        let mut leads: Vec<usize> = (0..self.values.len()).collect();
        let last = |leads: &mut Vec<usize>, mut value: usize| {
            while leads[value] != value {
                leads[value] = leads[leads[value]];
                value = leads[value];
            }
            value
        };
        for step in self.steps() {
            let Step::Run { program, layer } = step else { continue };
            let function = &self.programs[*program].function;
            for names in [inputs(function), outputs(function)] {
                let first = last(&mut leads, self.value(&names[0], *layer));
                for name in &names[1..] {
                    let other = last(&mut leads, self.value(name, *layer));
                    leads[other] = first;
                }
            }
        }
        let groups: Vec<usize> = (0..leads.len()).map(|value| last(&mut leads, value)).collect();
        let mut largest = vec![0; groups.len()];
        for (&group, value) in groups.iter().zip(&self.values) {
            largest[group] = largest[group].max(value.ty.bytes());
        }
        groups.iter().map(|&group| largest[group]).collect()
    }
}
