//! The plan `fused`: as `baseline`, but the backward pass of attention is one program.
//!
//! The probabilities and their gradients stay inside the engine, and a layer takes two requests less. The
//! program is larger: where a chip refuses it, `baseline` is left.

use super::Pass::Backward;
use super::Place::Engine;
use super::baseline::{
    BACKOUT, BACKOUT_BWD, EMBED, EMBED_BWD, FFN_BWD, FWD_ATTN, FWD_FFN, MIX, MIX_BWD, NORM1_BWD,
    NORM2_BWD, VALUES,
};
use super::{Cut, Plan};
use crate::declare::Block::Attention;

/// See the module.
pub static FUSED: Plan = Plan {
    name: "fused",
    about: "As baseline, with attention's backward pass in one program: four per layer",
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
        ATTN_BWD,
        NORM1_BWD,
        MIX_BWD,
        EMBED_BWD,
    ],
    left: &[],
    joined: None,
};

/// Attention, backward, up to its norm.
pub(super) const ATTN_BWD: Cut = Cut {
    name: "attnBwd",
    block: Attention,
    pass: Backward,
    place: Engine,
    given: "q k v q0 k0 d_o_out wo mask q_gain k_gain rope_cos rope_sin wq wk wv",
    gives: "d_v d_q0|d_q d_k0|d_k d_q_gain d_k_gain d_xnorm",
};
