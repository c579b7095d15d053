//! The plan `layers`: as `gradients`, with the residual stream on the engine and several layers in a program.
//!
//! The programs of a layer's blocks are joined to one program ([`mil::passes::chain`]), residual additions between
//! them, and those of several layers to one again. So the stream and its cotangent never come to the host between
//! the embedding and the loss, and a micro-batch takes a few requests. The stream is in the device's precision then.
//! What other programs or the host read still comes out: what the backward pass needs, and gradients.
//!
//! A program of several layers begins late for the host, which waits for its gradients, and early for nobody; it saves
//! requests. So the forward pass may have more layers in a program than the backward pass ([`Joined`]). The plan has
//! a variant for each choice of both and of the weight gradients that the engine computes: `layers:12+1:qkv+up` has
//! programs of twelve layers forward and of one backward. [`crate::planner`] searches them by price.

use super::baseline::{FWD_ATTN, FWD_FFN, NORM1_BWD, NORM2_BWD};
use super::gradients::{ATTN_GRADIENTS, CHOICES, CLASSIFIER_GRAD, FFN_GRADIENTS, chosen};
use super::offload::{CLASSIFIER, CLASSIFIER_BWD, FINAL_NORM, FINAL_NORM_BWD};
use super::{Cut, Kernel, Pass, Place, Plan, PlanError, inputs, name_of, outputs};
use crate::declare::Block;
use crate::ops::Dims;
use mil::passes::{Link, chain};
use mil::{Builder, Function, OpError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// See the module.
pub static LAYERS: Plan = Plan {
    name: "layers",
    about: "As gradients, with the residual stream on the engine and several layers in a program, 4 forward and 2 backward; others: layers:12+1, layers:12+1:qkv+up",
    cuts: &[
        Cut { gives: "o_out xnorm q k v attn q0 k0 probs", ..FWD_ATTN },
        FWD_FFN,
        FINAL_NORM,
        PROBABILITIES,
        // First: its copy takes the host long, and nobody waits for it.
        CLASSIFIER_GRAD,
        CLASSIFIER_BWD,
        FINAL_NORM_BWD,
        FFN_GRADIENTS,
        Cut { place: Place::Engine, ..NORM2_BWD },
        Cut {
            given: "q k v q0 k0 probs d_o_out wo q_gain k_gain rope_cos rope_sin wq wk wv xnorm attn mask",
            ..ATTN_GRADIENTS
        },
        Cut { place: Place::Engine, ..NORM1_BWD },
    ],
    left: &[],
    joined: Some(Joined { forward: 4, backward: 2 }),
};

/// Probabilities of all tokens.
const PROBABILITIES: Cut = Cut { name: "probabilities", gives: "token_probs", ..CLASSIFIER };

/// The most layers of a program of each pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Forward.
    pub forward: usize,
    /// Backward.
    pub backward: usize,
}

/// The value that a port of a program means: its name, and how many layers after the one from which a run begins.
/// Ports of programs of several layers end with that number, `wq_3`; others are names of values.
pub fn port(name: &str) -> (&str, usize) {
    let parts = name.rsplit_once('_').and_then(|(name, layer)| Some((name, layer.parse().ok()?)));
    parts.unwrap_or((name, 0))
}

/// The value that a port of a block means where the stream is on the engine. The cotangent of what a block adds to
/// the stream is that of the stream after it, `d_x2` of the layer, or `d_x` of the next one.
pub(super) fn of_block(port: &str) -> (&str, usize) {
    match port {
        "d_o_out" => ("d_x2", 0),
        "d_ffn_out" => ("d_x", 1),
        port => (port, 0),
    }
}

/// The variant of [`LAYERS`] of this name.
pub(super) fn named(name: &str) -> Option<&'static Plan> {
    let mut parts = name.strip_prefix(LAYERS.name)?.strip_prefix(':')?.split(':');
    let (forward, backward) = parts.next()?.split_once('+')?;
    let joined = Joined { forward: forward.parse().ok()?, backward: backward.parse().ok()? };
    let left = parts.next().map_or(Some(&[][..]), chosen)?;
    (parts.next().is_none() && joined.forward > 0 && joined.backward > 0)
        .then(|| LAYERS.joined_as(joined, left))
}

impl Plan {
    /// The variant of [`LAYERS`] with programs of so many layers that leaves gradients to the host, as one of the
    /// [`CHOICES`] does, or none.
    pub(crate) fn joined_as(&self, joined: Joined, left: &'static [&'static str]) -> &'static Plan {
        static KNOWN: Mutex<Vec<&'static Plan>> = Mutex::new(vec![]);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = |plan: &&Plan| plan.joined == Some(joined) && plan.left == left;
        if let Some(plan) = known.iter().copied().find(alike) {
            return plan;
        }
        let choice = CHOICES.iter().find(|(_, other)| *other == left);
        let choice = choice.map(|(name, _)| format!(":{name}")).unwrap_or_default();
        let name = format!("{}:{}+{}{choice}", LAYERS.name, joined.forward, joined.backward);
        // Once per process and name.
        let plan = Plan { name: String::leak(name), left, joined: Some(joined), ..LAYERS };
        known.push(Box::leak(Box::new(plan)));
        known[known.len() - 1]
    }
}

impl Joined {
    /// Joins the programs of the engine for blocks of layers.
    pub(super) fn join(
        self,
        kernels: Vec<Kernel>,
        dims: &Dims<'_>,
    ) -> Result<Vec<Kernel>, PlanError> {
        let (engine, host): (Vec<_>, Vec<_>) =
            kernels.into_iter().partition(|kernel| kernel.place == Place::Engine);
        let of_layer =
            |kernel: &Kernel| matches!(kernel.block, Block::Attention | Block::FeedForward);
        let (parts, around): (Vec<_>, Vec<_>) = engine.into_iter().partition(of_layer);
        let joining = Joining { parts: &parts, host: &host, dims };
        let forward = joining.all("fwdLayers", Pass::Forward, self.forward)?;
        let backward = joining.all("bwdLayers", Pass::Backward, self.backward)?;
        Ok([forward, around, backward, host].concat())
    }
}

/// The programs of blocks, while they are joined.
struct Joining<'k> {
    /// On the engine, of blocks of layers.
    parts: &'k [Kernel],
    /// On the host.
    host: &'k [Kernel],
    dims: &'k Dims<'k>,
}

impl Joining<'_> {
    /// The programs of at most `most` layers that make a pass. Runs of layers of the same kinds share one.
    fn all(&self, row: &str, pass: Pass, most: usize) -> Result<Vec<Kernel>, PlanError> {
        let config = self.dims.config;
        let mut kinds: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for first in (0..config.n_layer).step_by(most) {
            let layers = first..config.n_layer.min(first + most);
            kinds.entry(layers.map(|layer| config.kind(layer)).collect()).or_default().push(first);
        }
        let mut kernels = vec![];
        for layers in kinds.into_values() {
            let (kind, span) = (layers[0], most.min(config.n_layer - layers[0]));
            let name = name_of(row, kind);
            let function = match pass {
                Pass::Forward => self.forward(&name, kind..kind + span)?,
                Pass::Backward => self.backward(&name, kind..kind + span)?,
            };
            let (block, place) = (Block::Layers, Place::Engine);
            kernels.push(Kernel { kind, block, pass, place, layers, span, function });
        }
        kernels.sort_by_key(|kernel| kernel.kind);
        Ok(kernels)
    }

    /// The programs of a block of a layer in one pass.
    fn parts(&self, layer: usize, block: Block, pass: Pass) -> impl Iterator<Item = &Function> {
        let wanted = (self.dims.config.kind(layer), block, pass);
        let parts = self.parts.iter().filter(move |k| (k.kind, k.block, k.pass) == wanted);
        parts.map(|kernel| &kernel.function)
    }

    /// True if a program of the host for `layer` reads the value called `name`.
    fn host_reads(&self, layer: usize, name: &str) -> bool {
        let kind = self.dims.config.kind(layer);
        let host = self.host.iter().filter(|kernel| kernel.kind == kind);
        host.flat_map(|kernel| inputs(&kernel.function)).any(|input| input == name)
    }

    fn forward(&self, name: &str, layers: Range<usize>) -> Result<Function, PlanError> {
        let (sum, mut links, mut gives) = (sum(self.dims)?, vec![], vec![]);
        for (at, layer) in layers.clone().enumerate() {
            let blocks = [
                (Block::Attention, format!("x_{at}"), format!("x2_{at}")),
                (Block::FeedForward, format!("x2_{at}"), format!("x_{}", at + 1)),
            ];
            for (block, before, after) in blocks {
                let mut adds = String::new();
                for part in self.parts(layer, block, Pass::Forward) {
                    let link = self.link(part, &layers, at, |name| format!("{name}_{at}"));
                    let mut all = outputs(part).into_iter().map(|name| format!("{name}_{at}"));
                    // The first is what the block adds to the stream.
                    adds = all.next().expect("a program has an output");
                    gives.extend(all);
                    links.push(link);
                }
                links.push(add(&sum, [before, adds, after.clone()]));
                gives.push(after);
            }
        }
        Ok(chain(name, &links, &gives)?)
    }

    fn backward(&self, name: &str, layers: Range<usize>) -> Result<Function, PlanError> {
        let parameters = self.dims.config.family().parameters(self.dims.config);
        let gradients: BTreeSet<String> =
            parameters.iter().map(|parameter| format!("d_{}", parameter.port)).collect();
        let (sum, mut links, mut gives) = (sum(self.dims)?, vec![], vec![]);
        for (at, layer) in layers.clone().enumerate().rev() {
            let blocks = [
                (Block::FeedForward, "d_ffn_out", format!("d_x_{}", at + 1), "d_x2"),
                (Block::Attention, "d_o_out", format!("d_x2_{at}"), "d_x"),
            ];
            for (block, added, before, after) in blocks {
                let (share, sums) = (format!("{after}_share_{at}"), format!("{after}_{at}"));
                for part in self.parts(layer, block, Pass::Backward) {
                    links.push(self.link(part, &layers, at, |name| match name {
                        name if name == added => before.clone(),
                        name if name == after => share.clone(),
                        name => format!("{name}_{at}"),
                    }));
                    let read =
                        |name: &String| gradients.contains(name) || self.host_reads(layer, name);
                    let all = outputs(part).into_iter().filter(read);
                    gives.extend(all.map(|name| format!("{name}_{at}")));
                }
                links.push(add(&sum, [before, share, sums]));
            }
            if self.host_reads(layer, "d_o_out") {
                gives.push(format!("d_x2_{at}"));
            }
            if at == 0 || self.host_reads(layer - 1, "d_ffn_out") {
                gives.push(format!("d_x_{at}"));
            }
        }
        Ok(chain(name, &links, &gives)?)
    }

    /// `part` for the layer at place `at` among `layers`. `name` gives names to values of the layer; rotary tables are
    /// those of all layers, and a mask that of all layers with its window.
    fn link<'f>(
        &self,
        part: &'f Function,
        layers: &Range<usize>,
        at: usize,
        name: impl Fn(&str) -> String,
    ) -> Link<'f> {
        let window = |at: usize| self.dims.config.window(layers.start + at);
        let names = inputs(part).into_iter().chain(outputs(part)).map(|port| {
            let to = match &port[..] {
                "rope_cos" | "rope_sin" => port.clone(),
                "mask" => {
                    let first = (0..at).find(|&other| window(other) == window(at));
                    format!("mask_{}", first.unwrap_or(at))
                }
                port => name(port),
            };
            (port, to)
        });
        Link { function: part, names: names.collect() }
    }
}

/// The sum of two streams.
fn sum(dims: &Dims<'_>) -> Result<Function, OpError> {
    let b = Builder::new("sum");
    let [one, other] =
        ["one", "other"].map(|name| b.input(name, dims.activation(dims.config.n_embd)));
    b.finish(&[(one + other).named("both")])
}

/// `sum` of the first two, which is the third.
fn add(sum: &Function, [one, other, both]: [String; 3]) -> Link<'_> {
    let names = ["one", "other", "both"].map(str::to_owned).into_iter().zip([one, other, both]);
    Link { function: sum, names: names.collect() }
}
