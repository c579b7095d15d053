//! The plan `gradients`: as `offload`, with the backward pass of attention in one program, and weight gradients on
//! the engine.
//!
//! A program that has the cotangent of a projection's result and what the projection read also multiplies the two.
//! The classifier's gradient has a program of its own: all outputs of a request have surfaces of one size, and nothing
//! else is as large; it runs while the host carries the stream's cotangent on. Weight gradients come back in the
//! device's precision and are added up on the host, in f32. A copy of a gradient takes the CPU less time than the
//! product for all but the shortest batches; yet where the CPU has nothing else to do meanwhile, the product costs
//! nothing there. So the plan has a variant for each choice among [`GROUPS`], and [`crate::planner`] takes the cheapest.

use super::Place::Engine;
use super::baseline::{
    BACKOUT, BACKOUT_BWD, EMBED, EMBED_BWD, FFN_BWD, FWD_ATTN, FWD_FFN, MIX, MIX_BWD, NORM1_BWD,
    NORM2_BWD, VALUES,
};
use super::fused::ATTN_BWD;
use super::offload::{CLASSIFIER, CLASSIFIER_BWD, FINAL_NORM, FINAL_NORM_BWD, SOFTMAX};
use super::{Cut, Plan};
use std::sync::LazyLock;

/// See the module.
pub static GRADIENTS: Plan = Plan {
    name: "gradients",
    about: "As offload, with weight gradients and attention's backward pass in one program on the engine; of some weights: gradients:qkv+o+up+down+classifier, or fewer of these",
    cuts: &[
        EMBED,
        MIX,
        VALUES,
        FWD_ATTN,
        FWD_FFN,
        BACKOUT,
        FINAL_NORM,
        CLASSIFIER,
        SOFTMAX,
        CLASSIFIER_BWD,
        FINAL_NORM_BWD,
        CLASSIFIER_GRAD,
        BACKOUT_BWD,
        FFN_GRADIENTS,
        Cut { place: Engine, ..NORM2_BWD },
        ATTN_GRADIENTS,
        Cut { place: Engine, ..NORM1_BWD },
        MIX_BWD,
        EMBED_BWD,
    ],
    left: &[],
    joined: None,
};

/// The feed-forward network, backward, with the gradients of its weights.
pub(super) const FFN_GRADIENTS: Cut = Cut {
    given: "d_ffn_out h1 h3 w1 w3 w2 x2norm gate",
    gives: "d_h1 d_h3 d_x2norm d_w1 d_w3 d_w2",
    ..FFN_BWD
};

/// Attention, backward, with the gradients of its weights.
pub(super) const ATTN_GRADIENTS: Cut = Cut {
    given: "q k v q0 k0 d_o_out wo mask q_gain k_gain rope_cos rope_sin wq wk wv xnorm attn",
    gives: "d_v d_q0|d_q d_k0|d_k d_q_gain d_k_gain d_xnorm d_wq d_wk d_wv d_wo",
    ..ATTN_BWD
};

/// The gradient of the classifier.
pub(super) const CLASSIFIER_GRAD: Cut =
    Cut { name: "wclsGrad", given: "d_logits xf", gives: "d_wcls", ..CLASSIFIER_BWD };

/// Weight gradients that the host or the engine computes together: a name, and the gradients.
pub static GROUPS: [(&str, &[&str]); 5] = [
    ("qkv", &["d_wq", "d_wk", "d_wv"]),
    ("o", &["d_wo"]),
    ("up", &["d_w1", "d_w3"]),
    ("down", &["d_w2"]),
    ("classifier", &["d_wcls"]),
];

/// The groups that the engine has, for every choice but that of all: the name of the choice, `qkv+up` or `none`, and
/// the gradients that are left to the host.
pub(super) static CHOICES: LazyLock<Vec<(String, &'static [&'static str])>> = LazyLock::new(|| {
    let choice = |left: usize| {
        let has = |place: &usize| left & (1 << place) == 0;
        let names = |place: usize| GROUPS[place].0;
        let engine: Vec<_> = (0..GROUPS.len()).filter(has).map(names).collect();
        let engine = if engine.is_empty() { "none".to_owned() } else { engine.join("+") };
        let host = (0..GROUPS.len()).filter(|place| !has(place));
        let left: Vec<_> = host.flat_map(|place| GROUPS[place].1).copied().collect();
        // Once per process.
        (engine, &*Vec::leak(left))
    };
    (1..1 << GROUPS.len()).map(choice).collect()
});

/// The weight gradients that are left to the host, for every choice among [`GROUPS`]; that of none first.
pub(crate) fn choices() -> impl Iterator<Item = &'static [&'static str]> {
    std::iter::once(&[][..]).chain(CHOICES.iter().map(|&(_, left)| left))
}

/// The weight gradients that are left to the host by the choice of this name: groups of the engine in any order, `none`
/// or `all`.
pub(super) fn chosen(name: &str) -> Option<&'static [&'static str]> {
    let known = |group: &&str| GROUPS.iter().any(|(name, _)| name == group);
    let engine: Vec<&str> = match name {
        "none" => vec![],
        "all" => return Some(&[]),
        groups => groups.split('+').collect(),
    };
    if !engine.iter().all(known) {
        return None;
    }
    let left = GROUPS.iter().filter(|(name, _)| !engine.contains(name));
    let left: Vec<&str> = left.flat_map(|(_, gradients)| *gradients).copied().collect();
    choices().find(|choice| *choice == left)
}

/// [`GRADIENTS`] with each of the [`CHOICES`]: `gradients:qkv+up`.
static VARIANTS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let variant = |(engine, left): &(String, &'static [&'static str])| {
        let name = String::leak(format!("{}:{engine}", GRADIENTS.name));
        Plan { name, left, ..GRADIENTS }
    };
    CHOICES.iter().map(variant).collect()
});

/// The variant of [`GRADIENTS`] of this name.
pub(super) fn named(name: &str) -> Option<&'static Plan> {
    let left = chosen(name.strip_prefix(GRADIENTS.name)?.strip_prefix(':')?)?;
    GRADIENTS.variants().find(|plan| plan.left == left)
}

impl Plan {
    /// The plan itself, and those that leave some of its weight gradients to the host.
    pub fn variants(&'static self) -> impl Iterator<Item = &'static Plan> {
        let others = if *self == GRADIENTS { &VARIANTS[..] } else { &[] };
        std::iter::once(self).chain(others)
    }
}
