//! Facts of section G: ways to the engine, and what can change without compiling.

use super::fact::{Basis::*, Fact};
use crate::confidence::Confidence::*;

pub(super) const FACTS: &[Fact] = &[
    Fact::new(
        "G1-in-memory",
        "G.1",
        "_ANEInMemoryModel compiles text from memory and runs without entitlement on macOS 15 and 26.",
        "MAD, INF, ORI",
        Measured,
        High,
    )
    .in_memory(),
    Fact::new(
        "G1-e5rt",
        "G.1",
        "The library e5rt compiles files and runs without entitlement or planner, with named ports.",
        "AF:docs/e5rt-dispatch-reference.md",
        Measured,
        High,
    )
    .e5rt(),
    Fact::new(
        "G1-rebinding-e5rt",
        "G.1",
        "For other buffers the stream is emptied, ports are bound, and the operation is encoded again, \
         without prepare_op_for_encode: so do speech recognition, the camera, scene and body tracking \
         for every request.",
        "DEC:EspressoV2Plan::RunOp, BWE5InferenceProvider, SIBaseNetworkE5RT, ABPKMLNetworkV2",
        Derived,
        Medium,
    )
    .e5rt()
    .against(&["G1-preparing-e5rt"])
    .tests(&["crates/standins/tests/apple/espresso.rs::ports_are_bound_again_when_surfaces_change"]),
    Fact::new(
        "G1-preparing-e5rt",
        "G.1",
        "An operation is prepared (prepare_op_for_encode) before it is encoded, or encoded again. One \
         that is prepared while its stream holds it makes both unusable (macOS 26).",
        "GUIDE, AF, DEC:MLE5ExecutionStreamOperation; tmc/apple:x/ane/e5rt",
        Derived,
        Medium,
    )
    .e5rt()
    .option(&["G1-rebinding-e5rt"]),
    Fact::new(
        "G1-chaining",
        "G.1",
        "Requests cannot be chained: preparing fails with code 15, or buffers never become ready.",
        "MAD#40, INF, GUIDE",
        Measured,
        High,
    )
    .in_memory()
    .against(&["G1-chaining-works"])
    .tests(&["crates/ane/src/error_tests.rs::requests", "crates/lab/tests/probe.rs::every_probe_gives_the_expected_verdict_for_m1_and_m4", "crates/standins/tests/apple/in_memory.rs::requests_sent_in_other_ways_give_the_emulators_bits"]),
    Fact::new(
        "G1-chaining-works",
        "G.1",
        "Programs were chained on the engine.",
        "IMP; what it shows fits surfaces shared between requests",
        Asserted,
        Low,
    )
    .in_memory()
    .option(&["G1-chaining"]),
    Fact::new(
        "G2-weights-as-inputs",
        "G.2",
        "Weights given as function inputs work, need no compiling, and beat packing them behind the \
         activations (76.9 against 110 ms per step).",
        "MAD#22, IMP, AF:docs/training.md",
        Measured,
        High,
    ),
    Fact::new(
        "G2-rewritten-files",
        "G.2",
        "Rewriting weight files and loading again under the same identifier changes nothing.",
        "MAD:training/m5result.md (M5), ORI #7 (M4 Max)",
        Measured,
        High,
    )
    .in_memory()
    .against(&["G2-rewritten-files-work"])
    .tests(&["crates/ane/tests/faults.rs::g2_constants_are_immutable_under_one_identity"]),
    Fact::new(
        "G2-rewritten-files-work",
        "G.2",
        "Rewriting weight files and loading again updates the weights.",
        "ORI:RESULTS.md; its losses are those of stale weights",
        Asserted,
        Low,
    )
    .in_memory()
    .option(&["G2-rewritten-files"]),
    Fact::new(
        "G2-donor-programs",
        "G.2",
        "A new identifier with another program's net.plist loads without compiling, in about 8 ms.",
        "ESP:ane_interop.m, ORI:tests/test_delta_compile.m",
        Measured,
        Medium,
    )
    .in_memory(),
];
