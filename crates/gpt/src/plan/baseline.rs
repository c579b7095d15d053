//! The plan `baseline`: six programs per layer on the engine, the rest on the host.
//!
//! Names and roles are the seed's. Weight gradients, the gradients of norms, the residual stream, the
//! embedding, the classifier and the loss are the host's, in f32. Rows run in this order, the layers of
//! the backward rows from the last to the first.

use super::Pass::{Backward, Forward};
use super::Place::{Engine, Host};
use super::{Cut, Plan};
use crate::declare::Block::{Attention, FeedForward};

/// See the module.
pub static BASELINE: Plan = Plan {
    name: "baseline",
    about: "Six programs per layer on the engine; norms' and weight gradients and head on the CPU",
    cuts: &[FWD_ATTN, FWD_FFN, FFN_BWD, NORM2_BWD, SDPA_BWD1, SDPA_BWD2, QKV_BWD, NORM1_BWD],
};

/// Attention, forward.
pub(super) const FWD_ATTN: Cut = Cut {
    name: "fwdAttn",
    block: Attention,
    pass: Forward,
    place: Engine,
    given: "x rms1 ln1 ln1_bias wq bq wk bk wv bv q_gain k_gain rope_cos rope_sin mask wo bo",
    gives: "o_out xnorm q k v attn q0 k0",
};

/// The feed-forward network, forward.
pub(super) const FWD_FFN: Cut = Cut {
    name: "fwdFFN",
    block: FeedForward,
    pass: Forward,
    place: Engine,
    given: "x2 rms2 ln2 ln2_bias w1 b1 w3 b3 w2 b2",
    gives: "ffn_out x2norm h1 h3 gate",
};

/// The feed-forward network, backward, up to its norm.
pub(super) const FFN_BWD: Cut = Cut {
    name: "ffnBwd",
    block: FeedForward,
    pass: Backward,
    place: Engine,
    given: "d_ffn_out h1 h3 w1 w3 w2",
    gives: "d_h1 d_h3 d_x2norm",
};

/// The norm of the feed-forward network, backward.
pub(super) const NORM2_BWD: Cut = Cut {
    name: "norm2Bwd",
    block: FeedForward,
    pass: Backward,
    place: Host,
    given: "x2 rms2 ln2 ln2_bias d_x2norm",
    gives: "d_x2 d_rms2 d_ln2 d_ln2_bias",
};

/// Attention, backward: values and scores. The probabilities are computed again.
pub(super) const SDPA_BWD1: Cut = Cut {
    name: "sdpaBwd1",
    block: Attention,
    pass: Backward,
    place: Engine,
    given: "q k v d_o_out wo mask",
    gives: "d_v probs d_probs",
};

/// Attention, backward: softmax, rotation and head norms.
pub(super) const SDPA_BWD2: Cut = Cut {
    name: "sdpaBwd2",
    block: Attention,
    pass: Backward,
    place: Engine,
    given: "probs d_probs q k q0 k0 q_gain k_gain rope_cos rope_sin",
    gives: "d_q0|d_q d_k0|d_k d_q_gain d_k_gain",
};

/// The projections of attention, backward, up to its norm.
pub(super) const QKV_BWD: Cut = Cut {
    name: "qkvBwd",
    block: Attention,
    pass: Backward,
    place: Engine,
    given: "d_q0|d_q d_k0|d_k d_v wq wk wv",
    gives: "d_xnorm",
};

/// The norm of attention, backward.
pub(super) const NORM1_BWD: Cut = Cut {
    name: "norm1Bwd",
    block: Attention,
    pass: Backward,
    place: Host,
    given: "x rms1 ln1 ln1_bias d_xnorm",
    gives: "d_x d_rms1 d_ln1 d_ln1_bias",
};
