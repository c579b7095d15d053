//! The plan of generation: two programs per layer, which read the keys and values of earlier tokens from
//! a cache and give those of the new ones.

use super::Pass::Forward;
use super::Place::Engine;
use super::baseline::{BACKOUT, EMBED, MIX, VALUES};
use super::{Cut, Plan};
use crate::declare::Block::{Attention, FeedForward};

/// See the module.
pub static DECODE: Plan = Plan {
    name: "decode",
    about: "Two programs per layer, with a cache",
    cuts: &[
        EMBED,
        MIX,
        VALUES,
        Cut {
            name: "decodeAttn",
            block: Attention,
            pass: Forward,
            place: Engine,
            given: "x rms1 ln1 ln1_bias wq bq wk bk wv bv gated q_gain k_gain rope_cos rope_sin \
                    kcache vcache mask wo bo",
            gives: "o_out k v",
        },
        Cut {
            name: "decodeFFN",
            block: FeedForward,
            pass: Forward,
            place: Engine,
            given: "x2 rms2 ln2 ln2_bias w1 b1 w3 b3 w2 b2",
            gives: "ffn_out",
        },
        BACKOUT,
    ],
    left: &[],
    joined: None,
};
