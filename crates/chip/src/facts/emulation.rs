//! Facts of section I: how an emulator has to behave where sections A to E leave a choice.

use super::fact::{Basis::*, Fact};
use crate::confidence::Confidence::*;

pub(super) const FACTS: &[Fact] = &[
    Fact::new(
        "I-strict-default",
        "I",
        "Without a profile the machine is M4 with macOS 15 in memory, whose limits are the strictest.",
        "C1-minimum-size, D-compiles, C1-uniform-sizes",
        Inferred,
        Medium,
    )
    .tests(&["crates/chip/src/machine.rs::the_default_is_the_strictest_of_its_chip"]),
    Fact::new(
        "I-silent-faults",
        "I",
        "What the machine gets wrong without a word is refused: a mask that is ignored, a factor that \
         is lost, fp32 inside.",
        "B2-attention-mask, B2-scaled-rounding, A3-arithmetic-in-fp16",
        Inferred,
        High,
    )
    .tests(&[enforced!("what_is_silently_wrong_is_refused")]),
    Fact::new(
        "I-serialised-runs",
        "I",
        "Requests run one after the other, whatever the number of threads.",
        "follows from D-one-command",
        Inferred,
        High,
    )
    .tests(&["crates/ane/tests/requests.rs::d_the_128th_request_in_flight_waits", ]),
    Fact::new(
        "I-fixed-constants",
        "I",
        "Constants keep the values that they had when the program was compiled.",
        "follows from G2-rewritten-files",
        Inferred,
        High,
    )
    .tests(&["crates/ane/tests/faults.rs::g2_constants_are_immutable_under_one_identity", enforced!("constants_stay_as_they_were_compiled")]),
    Fact::new(
        "I-transformer",
        "I",
        "A transformer's block of norm, products, rotary halves and masked attention compiles on \
         every profile.",
        "MAD:training_dynamic/mil_dynamic.h, AF, IMP",
        Measured,
        High,
    )
    .tests(&[
        "crates/chip/tests/legal.rs::the_engine_runs_a_transformer_block_of_the_strictest_profile",
        "crates/chip/tests/legal.rs::the_kernels_of_a_model_keep_the_rules",
    ]),
];
