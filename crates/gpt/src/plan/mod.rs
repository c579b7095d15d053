//! Plans: how a model is cut into programs, and which of them run where.
//!
//! A plan is a table of [`Cut`]s. Each block of a layer is written forward once ([`crate::block`]) and
//! differentiated by [`mil::grad()`]; a cut is the part of this joint function between the values it is
//! given and those it gives. A value that one cut gives and a later one takes travels between them: a
//! value of the forward pass is then saved (a *tap*), all others are computed again. Gradients of
//! parameters that no cut gives are computed on the host from the values that travel.
//!
//! [`Programs`] are the functions of a plan for some extents, [`Schedule`] lists the steps by which they
//! make a training step or a decoding one. What executes, prices or draws a plan reads the schedule.

mod baseline;
mod cuts;
mod decode;
mod fused;
mod gradients;
mod joined;
mod lanes;
mod offload;
mod schedule;
mod slots;
mod work;
mod write;

pub(crate) use cuts::Cuts;
pub(crate) use gradients::choices;
pub(crate) use lanes::next;
pub use lanes::{Lanes, TimedStep};
pub use schedule::{Index, Schedule, Sink, Source, Step, Value};
pub use work::{Part, StepWork, flops_by_part};

use crate::block::{self, Memory, norm_of, stream_of};
use crate::config::GptConfig;
use crate::declare::{Block, Declared};
use crate::ops::Dims;
use mil::{Builder, Function, GradError, OpError, passes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

pub use baseline::BASELINE;
pub use decode::DECODE;
pub use fused::FUSED;
pub use gradients::{GRADIENTS, GROUPS};
pub use joined::{Joined, LAYERS, port};
pub use offload::OFFLOAD;
pub use slots::SLOTS;

/// The plans of training; the first is the default.
pub static PLANS: &[&Plan] = &[&BASELINE, &FUSED, &OFFLOAD, &GRADIENTS, &LAYERS];

/// A plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Its cuts, in the order in which a step runs them.
    pub cuts: &'static [Cut],
    /// Weight gradients that a cut gives and that this plan leaves to the host.
    pub left: &'static [&'static str],
    /// Layers of a program, where programs of blocks are joined to programs of layers.
    pub joined: Option<Joined>,
}

impl Plan {
    /// The plan of training called `name`, which may be a variant of one of [`PLANS`].
    pub fn named(name: &str) -> Option<&'static Plan> {
        let table = PLANS.iter().copied().find(|plan| plan.name == name);
        table.or_else(|| gradients::named(name)).or_else(|| joined::named(name))
    }

    /// Names of what `cut` gives, as in its table.
    fn gives(&self, cut: &Cut) -> String {
        let names = cut.gives.split_whitespace().filter(|name| !self.left.contains(name));
        names.collect::<Vec<_>>().join(" ")
    }

    /// Refuses a model of which the plan gives the engine a part that only the host computes.
    fn check(&self, config: &GptConfig) -> Result<(), PlanError> {
        let has = |cut: &dyn Fn(&Cut) -> bool| self.cuts.iter().any(cut);
        let embeds_values = (0..config.n_layer).any(|layer| config.embeds_values(layer));
        let unfit = |part| Err(PlanError::Unfit { plan: self.name, part });
        // Only the host caps logits: with the classifier on the engine it never has them.
        if config.nanochat.softcap.is_some() && has(&|cut| cut.block == Block::Classifier) {
            return unfit("a cap on their logits");
        }
        // Value embeddings are rows of tables of the host, which the norm's backward pass on the engine does not get.
        if embeds_values && has(&|cut| cut.block == Block::Attention && cut.norms_backward()) {
            return unfit("value embeddings");
        }
        // Only the host mixes streams, and this plan does not give them back to it.
        let mixes = |&block: &Block| config.mixes(block);
        if self.joined.is_some() && [Block::Embedding, Block::Mix, Block::Backout].iter().any(mixes)
        {
            return unfit("mixtures of streams");
        }
        Ok(())
    }
}

/// Plans stand in configurations by their names.
impl Serialize for Plan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for &'static Plan {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Plan::named(&name).ok_or_else(|| {
            let known: Vec<_> = PLANS.iter().map(|plan| plan.name).collect();
            let known = known.join(", ");
            serde::de::Error::custom(format!("there is no plan `{name}`; use one of {known}"))
        })
    }
}

/// A program of a plan, for one block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Name of the program.
    pub name: &'static str,
    /// The block that it is a part of.
    pub block: Block,
    /// When it runs.
    pub pass: Pass,
    /// The place that runs it.
    pub place: Place,
    /// Its possible inputs, in order, separated by spaces: names of the block's values, `d_NAME`
    /// for cotangents, `A|B` for A where the block has it, else B. What the block does not have or
    /// the program does not need is left out.
    pub given: &'static str,
    /// Its outputs. A forward program gives the block's output first, or what a later one takes; the others
    /// are left out where nothing of the backward pass needs them. A program without outputs is left out.
    pub gives: &'static str,
}

/// A half of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// From tokens to the loss.
    Forward,
    /// From the loss to gradients.
    Backward,
}

/// The place that runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The device, in its precision.
    Engine,
    /// The CPU, in f32.
    Host,
}

/// Why the programs of a model could not be derived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The block's formulas do not fit together.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The block cannot be differentiated.
    #[error(transparent)]
    Grad(#[from] GradError),
    /// The plan gives the engine a part of the model that only the host computes.
    #[error("the plan `{plan}` does not train models with {part}: choose another one with --plan")]
    Unfit {
        /// The plan.
        plan: &'static str,
        /// A part of the model.
        part: &'static str,
    },
    /// A program needs a value it is not given.
    #[error(transparent)]
    Slice(#[from] passes::UnboundInput),
}

/// A program for some extents.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The first layer of the kind that runs it.
    pub kind: usize,
    /// The block that it is a part of.
    pub block: Block,
    /// When it runs.
    pub pass: Pass,
    /// The place that runs it.
    pub place: Place,
    /// The layers from which a run of it begins; what belongs to none counts to the first.
    pub layers: Vec<usize>,
    /// Layers of a run. Of several, the ports say to which they belong ([`port`]).
    pub span: usize,
    /// The function; in f32 on the host.
    pub function: Function,
}

/// All programs of a model; layers of one kind share them.
#[derive(Clone, Debug)]
pub struct Programs {
    /// For each kind of layer, the cuts of the plan, and on the host the gradients that no cut gives. A
    /// program of a later kind has the number of its first layer behind its name.
    pub kernels: Vec<Kernel>,
}

impl Programs {
    /// Derives the programs of `plan` for `dims`.
    ///
    /// # Errors
    /// [`PlanError::Unfit`] for a model that `plan` does not train. Any other error is a fault of this crate
    /// for a configuration that [`crate::GptConfig::validate`] accepts.
    pub fn new(plan: &Plan, dims: &Dims<'_>, memory: Memory) -> Result<Self, PlanError> {
        plan.check(dims.config)?;
        let layers = 0..dims.config.n_layer;
        let is_first = |layer: &usize| dims.config.kind(*layer) == *layer;
        let kinds = layers.filter(is_first).map(|kind| kind_kernels(plan, dims, kind, memory));
        let kernels = kinds.collect::<Result<Vec<Vec<Kernel>>, _>>()?.concat();
        let kernels = match plan.joined {
            Some(joined) => joined.join(kernels, dims)?,
            None => kernels,
        };
        Ok(Programs { kernels })
    }

    /// The programs of the engine, in the order in which a step runs them.
    pub fn engine(&self) -> impl Iterator<Item = &Function> {
        self.of(Place::Engine).map(|kernel| &kernel.function)
    }

    /// The program of the row called `row` for layers of `kind`, if the model has it.
    pub fn find(&self, row: &str, kind: usize) -> Option<&Kernel> {
        let name = name_of(row, kind);
        self.kernels.iter().find(|kernel| kernel.function.name == name)
    }

    /// The programs that run at `place`.
    pub fn of(&self, place: Place) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter().filter(move |kernel| kernel.place == place)
    }
}

/// The layers that run a program of `block` for layers of `kind`.
fn layers_of(config: &GptConfig, block: Block, kind: usize) -> Vec<usize> {
    let around =
        matches!(block, Block::Embedding | Block::Backout | Block::Head | Block::Classifier);
    let layers = if around { 1 } else { config.n_layer };
    (0..layers).filter(|&layer| config.kind(layer) == kind).collect()
}

/// The blocks of a kind of layer; what belongs to no layer is of the first kind.
fn blocks(config: &GptConfig, kind: usize) -> impl Iterator<Item = Block> {
    use Block::{Attention, Backout, Classifier, Embedding, FeedForward, Head, Mix};
    let around =
        |block: &Block| kind == 0 && (matches!(block, Head | Classifier) || config.mixes(*block));
    let layer = [config.mixes(Mix).then_some(Mix), Some(Attention), Some(FeedForward)];
    let around =
        [Embedding, Backout, Head, Classifier].into_iter().filter(around).collect::<Vec<_>>();
    layer.into_iter().flatten().chain(around)
}

/// The programs of one kind of layer, in the order of the table, then the gradients.
fn kind_kernels(
    plan: &Plan,
    dims: &Dims<'_>,
    kind: usize,
    memory: Memory,
) -> Result<Vec<Kernel>, PlanError> {
    let mut kernels = vec![];
    for block in blocks(dims.config, kind) {
        kernels.extend(block_kernels(plan, dims, (block, kind), memory)?);
    }
    kernels.sort_by_key(|kernel| {
        let row = plan.cuts.iter().position(|cut| cut.name == kernel.function.name);
        row.unwrap_or(plan.cuts.len())
    });
    for kernel in &mut kernels {
        kernel.function.name = name_of(&kernel.function.name, kind);
        kernel.layers = layers_of(dims.config, kernel.block, kind);
    }
    Ok(kernels)
}

/// The name of the program of a row for layers of `kind`.
fn name_of(row: &str, kind: usize) -> String {
    if kind > 0 { format!("{row}_{kind}") } else { row.to_owned() }
}

/// The programs of one block: those of the table, and the remaining gradients.
fn block_kernels(
    plan: &Plan,
    dims: &Dims<'_>,
    (block, kind): (Block, usize),
    memory: Memory,
) -> Result<Vec<Kernel>, PlanError> {
    let rows = || plan.cuts.iter().filter(move |cut| cut.block == block);
    if rows().next().is_none() {
        return Ok(vec![]);
    }
    if block == Block::Classifier {
        return classifier_kernels(plan, dims, memory);
    }
    let forward = written(dims, (block, kind), memory)?;
    let trains = rows().any(|cut| cut.pass == Pass::Backward);
    let mut cuts = if trains { Cuts::joint(&forward)? } else { Cuts::forward(forward) };
    let travels = |name: &String| {
        let saved =
            |cut: &Cut| cut.pass == Pass::Forward && cut.gives.split(' ').any(|n| n == name);
        name != PROBS || !rows().any(saved) || saves_probs(dims)
    };
    let names = |cuts: &Cuts, list: &str| -> Vec<String> {
        cuts.names(list).into_iter().filter(travels).collect()
    };
    let mut kernels = vec![];
    for cut in rows().filter(|cut| cut.pass == Pass::Backward) {
        let function = match cut.norms_backward() {
            true => norm_backward(dims, (block, kind), cut.name)?,
            false => {
                let (given, gives) = (names(&cuts, cut.given), names(&cuts, &plan.gives(cut)));
                cuts.cut(cut.name, &given, &gives)?
            }
        };
        kernels.push(cut.kernel(kind, function));
    }
    if trains {
        kernels.extend(gradients(plan, &mut cuts, &kernels, dims)?);
        leave_out_unread(&mut cuts, &mut kernels, rows(), dims)?;
    }
    let needed: BTreeSet<String> = kernels.iter().flat_map(|k| inputs(&k.function)).collect();
    for cut in rows().filter(|cut| cut.pass == Pass::Forward) {
        let (given, mut gives) = (names(&cuts, cut.given), names(&cuts, cut.gives));
        let Some(output) = gives.first().cloned() else { continue };
        gives.retain(|name| !trains || *name == output || needed.contains(name));
        kernels.push(cut.kernel(kind, cuts.cut(cut.name, &given, &gives)?));
    }
    Ok(kernels)
}

/// The probabilities of attention, which a plan may save for the backward pass.
const PROBS: &str = "probs";

/// True if a plan that may save the probabilities of attention does so: they are no larger than the largest weight of
/// a layer. All surfaces of a request have one size, so that they cost no memory then.
fn saves_probs(dims: &Dims<'_>) -> bool {
    let c = dims.config;
    let probs = c.n_head * dims.seq * dims.tokens();
    probs <= c.n_embd * c.hidden.max(c.q_dim())
}

/// Leaves out what a backward program gives and nobody reads: neither another one, nor the stream, nor a
/// parameter.
fn leave_out_unread<'c>(
    cuts: &mut Cuts,
    kernels: &mut [Kernel],
    rows: impl Iterator<Item = &'c Cut>,
    dims: &Dims<'_>,
) -> Result<(), PlanError> {
    let mut read: BTreeSet<String> = kernels.iter().flat_map(|k| inputs(&k.function)).collect();
    let parameters = dims.config.family().parameters(dims.config);
    read.extend(parameters.iter().map(|parameter| format!("d_{}", parameter.port)));
    let rows = rows.filter(|cut| cut.pass == Pass::Backward && cut.place == Place::Engine);
    for cut in rows.filter(|cut| !cut.norms_backward()) {
        let of_row = |kernel: &&mut Kernel| kernel.function.name == cut.name;
        let kernel = kernels.iter_mut().find(of_row).expect("each row has its program");
        let mut gives = outputs(&kernel.function);
        if gives.iter().any(|name| !read.contains(name)) {
            gives.retain(|name| read.contains(name));
            kernel.function = cuts.cut(cut.name, &inputs(&kernel.function), &gives)?;
        }
    }
    Ok(())
}

/// The programs of the classifier, and on the host its gradient, where no row gives it.
fn classifier_kernels(
    plan: &Plan,
    dims: &Dims<'_>,
    memory: Memory,
) -> Result<Vec<Kernel>, PlanError> {
    let rows = || plan.cuts.iter().filter(|cut| cut.block == Block::Classifier);
    let mut cuts = Cuts::forward(written(dims, (Block::Classifier, 0), memory)?);
    let backward = |name: &str, gives: &str| {
        let b = Builder::new(name);
        let gradients = block::classifier_backward(&b, dims, gives);
        b.finish(&gradients)
    };
    let (mut kernels, mut given) = (vec![], false);
    for cut in rows() {
        let (inputs, gives) = (cuts.names(cut.given), plan.gives(cut));
        given |= gives == "d_wcls";
        if gives.is_empty() {
            continue;
        }
        let function = match cut.pass {
            Pass::Forward => cuts.cut(cut.name, &inputs, &cuts.names(&gives))?,
            Pass::Backward => backward(cut.name, &gives)?,
        };
        kernels.push(cut.kernel(0, function));
    }
    let gradient = Cut {
        name: "wcls_grad",
        block: Block::Classifier,
        pass: Pass::Backward,
        place: Place::Host,
        given: "d_logits xf",
        gives: "d_wcls",
    };
    if !given {
        kernels.push(gradient.kernel(0, backward(gradient.name, gradient.gives)?));
    }
    Ok(kernels)
}

/// A norm, backward, for the engine: not derived, because what is derived overflows binary16
/// ([`ops::norm_gradient`]).
fn norm_backward(
    dims: &Dims<'_>,
    (block, kind): (Block, usize),
    name: &str,
) -> Result<Function, PlanError> {
    let (b, dy) = (Builder::new(name), format!("d_{}", norm_of(block)));
    let others = [(&dy[..], dims.activation(dims.config.n_embd))];
    let family = dims.config.family();
    let scope = family.norm_scope(&b, dims, (block, kind), stream_of(block), &others);
    let gradients = block::norm_backward(&scope, block, &dy);
    Ok(b.finish(&gradients)?)
}

impl Cut {
    /// True for the backward pass of a norm, on the engine.
    fn norms_backward(&self) -> bool {
        let gradient = format!("d_{}", stream_of(self.block));
        let gives = self.gives.split_whitespace().any(|name| name == gradient);
        self.place == Place::Engine && gives
    }

    fn kernel(&self, kind: usize, function: Function) -> Kernel {
        let Cut { block, pass, place, .. } = *self;
        let function = if place == Place::Host { passes::to_fp32(&function) } else { function };
        Kernel { kind, block, pass, place, layers: vec![], span: 1, function }
    }
}

/// The block of a kind of layer, forward.
fn written(
    dims: &Dims<'_>,
    (block, kind): (Block, usize),
    memory: Memory,
) -> Result<Function, PlanError> {
    if dims.config.mixes(block) {
        let b = Builder::new("mixture");
        let mixed = dims.config.family().mixing_block(&b, dims, (block, kind));
        return Ok(b.finish(&[mixed])?);
    }
    match block {
        Block::Head => {
            let b = Builder::new("last_norm");
            let normalised = dims.config.family().last_norm_block(&b, dims);
            return Ok(b.finish(&[normalised])?);
        }
        Block::Classifier => {
            let b = Builder::new("classifier");
            let probabilities = block::probabilities(&b, dims);
            return Ok(b.finish(&[probabilities])?);
        }
        _ => {}
    }
    if block == Block::Attention {
        let b = Builder::new("attention");
        let attention = dims.config.family().attention_block(&b, dims, kind, memory);
        return Ok(b.finish(
            &[attention.out, attention.keys, attention.values][..match memory {
                Memory::Sequence => 1,
                Memory::Cache { .. } => 3,
            }],
        )?);
    }
    let b = Builder::new("feed_forward");
    let out = dims.config.family().feed_forward_block(&b, dims, kind);
    Ok(b.finish(&[out])?)
}

/// One program on the host for each parameter of the block whose gradient none of `kernels` gives, from
/// the values that the rows of `plan` exchange.
fn gradients(
    plan: &Plan,
    cuts: &mut Cuts,
    kernels: &[Kernel],
    dims: &Dims<'_>,
) -> Result<Vec<Kernel>, PlanError> {
    let Kernel { kind, block, .. } = kernels[0];
    let rows = plan.cuts.iter().filter(|cut| cut.block == block);
    let given: BTreeSet<String> = kernels.iter().flat_map(|k| outputs(&k.function)).collect();
    let mut travelling = vec![];
    for cut in rows.filter(|cut| cut.place == Place::Engine) {
        let names = cuts.names(&plan.gives(cut));
        if cut.pass == Pass::Forward && !names.is_empty() {
            travelling.push(format!("d_{}", names[0]));
        }
        travelling.extend(names);
    }
    let parameters = dims.config.family().parameters(dims.config);
    let of_block = |p: &&Declared| p.block == block && p.layer == Some(kind) && !p.group.is_table();
    let mut gradients = vec![];
    for parameter in parameters.iter().filter(of_block) {
        let gradient = format!("d_{}", parameter.port);
        if given.contains(&gradient) {
            continue;
        }
        let name = format!("{}_grad", parameter.port);
        let function = passes::to_fp32(&cuts.cut(&name, &travelling, &[gradient])?);
        let cut =
            Cut { name: "", block, pass: Pass::Backward, place: Place::Host, given: "", gives: "" };
        gradients.push(cut.kernel(kind, function));
    }
    Ok(gradients)
}

/// Names of the inputs of a function.
pub(crate) fn inputs(f: &Function) -> Vec<String> {
    f.inputs().map(|id| f.value(id).name.clone()).collect()
}

/// Names of the outputs of a function.
pub(crate) fn outputs(f: &Function) -> Vec<String> {
    f.outputs.iter().map(|&id| f.value(id).name.clone()).collect()
}
