//! The plan `slots`: what happens to one token, without attention, three programs per layer.
//!
//! Columns are tokens of any texts at any positions. What mixes tokens, attention over the cache, lies
//! between slotQkv and slotOut and is no program: each column attends to a cache of its own length
//! ([`crate::slots`]).

use super::Pass::Forward;
use super::Place::Host;
use super::baseline::{BACKOUT, EMBED, MIX};
use super::{Cut, Plan};
use crate::declare::Block::{Attention, FeedForward};

/// See the module.
pub static SLOTS: Plan = Plan {
    name: "slots",
    about: "Three programs per layer for tokens of any texts, with attention between them",
    cuts: &[
        EMBED,
        MIX,
        Cut {
            name: "slotQkv",
            block: Attention,
            pass: Forward,
            place: Host,
            given: "x rms1 ln1 ln1_bias wq bq wk bk wv bv values value_gate q_gain k_gain \
                    rope_cos rope_sin",
            gives: "q k v",
        },
        Cut {
            name: "slotOut",
            block: Attention,
            pass: Forward,
            place: Host,
            given: "attn wo bo",
            gives: "o_out",
        },
        Cut {
            name: "slotFFN",
            block: FeedForward,
            pass: Forward,
            place: Host,
            given: "x2 rms2 ln2 ln2_bias w1 b1 w3 b3 w2 b2",
            gives: "ffn_out",
        },
        BACKOUT,
    ],
    left: &[],
    joined: None,
};
