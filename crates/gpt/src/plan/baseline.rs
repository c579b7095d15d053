//! The plan `baseline`: six programs per layer on the engine, the rest on the host.
//!
//! Names and roles of the programs on the engine are the seed's. Weight gradients, the gradients of norms,
//! the residual stream, the embedding, the classifier and the loss are the host's, in f32. Rows run in this
//! order, the layers of the backward rows from the last to the first.

use super::Pass::{Backward, Forward};
use super::Place::{Engine, Host};
use super::{Cut, Plan};
use crate::declare::Block::{Attention, Backout, Embedding, FeedForward, Mix};

/// See the module.
pub static BASELINE: Plan = Plan {
    name: "baseline",
    about: "Six programs per layer on the engine; norms' and weight gradients and head on the CPU",
    cuts: &[
        EMBED,
        MIX,
        VALUES,
        FWD_ATTN,
        FWD_FFN,
        BACKOUT,
        BACKOUT_BWD,
        FFN_BWD,
        NORM2_BWD,
        SDPA_BWD1,
        SDPA_BWD2,
        QKV_BWD,
        NORM1_BWD,
        MIX_BWD,
        EMBED_BWD,
    ],
    left: &[],
    joined: None,
};

/// The first stream, where it is more than the rows of the tokens.
pub(super) const EMBED: Cut = Cut {
    name: "embed",
    block: Embedding,
    pass: Forward,
    place: Host,
    given: "x earlier smear_gate smear_lambda",
    gives: "mixed",
};

/// The stream before a layer, mixed with the first one.
pub(super) const MIX: Cut = Cut {
    name: "mix",
    block: Mix,
    pass: Forward,
    place: Host,
    given: "x earlier resid_lambda x0_lambda",
    gives: "mixed",
};

/// What value embeddings add to the values.
pub(super) const VALUES: Cut = Cut {
    name: "values",
    block: Attention,
    pass: Forward,
    place: Host,
    given: "x rms1 ln1 ln1_bias values value_gate",
    gives: "gated",
};

/// Attention, forward.
pub(super) const FWD_ATTN: Cut = Cut {
    name: "fwdAttn",
    block: Attention,
    pass: Forward,
    place: Engine,
    given: "x rms1 ln1 ln1_bias wq bq wk bk wv bv gated q_gain k_gain rope_cos rope_sin mask wo bo",
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

/// The last stream, without a share of that in the middle.
pub(super) const BACKOUT: Cut = Cut {
    name: "backout",
    block: Backout,
    pass: Forward,
    place: Host,
    given: "x earlier backout_lambda",
    gives: "mixed",
};

/// The same, backward; the last stream's cotangent stays what it is.
pub(super) const BACKOUT_BWD: Cut = Cut {
    name: "backoutBwd",
    block: Backout,
    pass: Backward,
    place: Host,
    given: "d_mixed x earlier backout_lambda",
    gives: "d_earlier d_backout_lambda",
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

/// The norm of attention and value embeddings, backward.
pub(super) const NORM1_BWD: Cut = Cut {
    name: "norm1Bwd",
    block: Attention,
    pass: Backward,
    place: Host,
    given: "x rms1 ln1 ln1_bias d_xnorm values value_gate d_v",
    gives: "d_x d_rms1 d_ln1 d_ln1_bias d_values d_value_gate",
};

/// The mixture before a layer, backward.
pub(super) const MIX_BWD: Cut = Cut {
    name: "mixBwd",
    block: Mix,
    pass: Backward,
    place: Host,
    given: "d_mixed x earlier resid_lambda x0_lambda",
    gives: "d_x d_earlier d_resid_lambda d_x0_lambda",
};

/// The first stream, backward.
pub(super) const EMBED_BWD: Cut = Cut {
    name: "embedBwd",
    block: Embedding,
    pass: Backward,
    place: Host,
    given: "d_mixed x earlier smear_gate smear_lambda",
    gives: "d_x d_earlier d_smear_gate d_smear_lambda",
};
