//! The plan `offload`: as `baseline`, with the last norm, the classifier, the softmax over the vocabulary and
//! the backward passes of all norms on the engine.
//!
//! What moves is what the seed's second trainer moves, and the classifier's backward pass to the stream: a product
//! by tiles of the vocabulary ([`crate::block::classifier_backward`]). The probabilities come back in the device's
//! precision; the host computes losses from them, and the cotangents of the logits, which go to the engine. The
//! classifier's gradient stays a product of the host. The backward programs of norms read stream, gain and
//! cotangent alone ([`crate::ops::norm_gradient`]).

use super::Pass::{Backward, Forward};
use super::Place::Engine;
use super::baseline::{
    BACKOUT, BACKOUT_BWD, EMBED, EMBED_BWD, FFN_BWD, FWD_ATTN, FWD_FFN, MIX, MIX_BWD, NORM1_BWD,
    NORM2_BWD, QKV_BWD, SDPA_BWD1, SDPA_BWD2, VALUES,
};
use super::{Cut, Plan};
use crate::declare::Block::{Classifier, Head};

/// See the module.
pub static OFFLOAD: Plan = Plan {
    name: "offload",
    about: "As baseline, with classifier, softmax and norms' backward passes on the engine",
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
        BACKOUT_BWD,
        FFN_BWD,
        Cut { place: Engine, ..NORM2_BWD },
        SDPA_BWD1,
        SDPA_BWD2,
        QKV_BWD,
        Cut { place: Engine, ..NORM1_BWD },
        MIX_BWD,
        EMBED_BWD,
    ],
    left: &[],
    joined: None,
};

/// The last norm.
pub(super) const FINAL_NORM: Cut = Cut {
    name: "finalNorm",
    block: Head,
    pass: Forward,
    place: Engine,
    given: "x_last rms ln ln_bias",
    gives: "xf",
};

/// Logits of all tokens, channel by channel.
pub(super) const CLASSIFIER: Cut = Cut {
    name: "classifier",
    block: Classifier,
    pass: Forward,
    place: Engine,
    given: "xf wcls",
    gives: "logits",
};

/// Probabilities of all tokens.
pub(super) const SOFTMAX: Cut = Cut {
    name: "softmax",
    block: Classifier,
    pass: Forward,
    place: Engine,
    given: "logits",
    gives: "token_probs",
};

/// The classifier, backward, up to the last norm.
pub(super) const CLASSIFIER_BWD: Cut = Cut {
    name: "classifierBwd",
    block: Classifier,
    pass: Backward,
    place: Engine,
    given: "d_logits wcls",
    gives: "d_xf",
};

/// The last norm, backward.
pub(super) const FINAL_NORM_BWD: Cut = Cut {
    name: "finalNormBwd",
    block: Head,
    pass: Backward,
    place: Engine,
    given: "x_last rms ln ln_bias d_xf",
    gives: "d_x_last d_rms d_ln d_ln_bias",
};
