//! Facts of section C: buffers of requests.

use super::fact::{Basis::*, EACH_RULE, Fact, PROJECTS};
use crate::confidence::Confidence::*;
use crate::machine::{Chip, Generation, Os};

const ALLOCATIONS: &str = "crates/chip/src/machine.rs::allocations_satisfy_their_own_check";
const REQUESTS: &str = "crates/ane/src/error_tests.rs::requests";
const BOUND: &str = "crates/ane/tests/emulator.rs::engine_rules_in_fast";

pub(super) const FACTS: &[Fact] = &[
    // ---- C.1 in memory ----
    Fact::new(
        "C1-surface-dictionary",
        "C.1",
        "A surface is made with its size in bytes as width and row length, height 1, one byte per \
         element and pixel format 0.",
        "MAD:inmem_peak.m, ORI, RUS, IMP; ESP finds two bytes per element equivalent",
        Measured,
        High,
    )
    .in_memory(),
    Fact::new(
        "C1-packed",
        "C.1",
        "The engine reads a tensor packed from byte 0 in row-major order, element c·S + s of [1, C, \
         1, S], whatever the surface's size; padded rows are read as data.",
        "ORI #14 (rows padded: values wrong by a factor of 260)",
        Measured,
        High,
    )
    .in_memory()
    .tests(&["crates/ane/tests/requests.rs::c1_packed_rows_at_a_distance_are_read_as_if_packed", "crates/ane/tests/requests.rs::c1_packed_data_begin_at_byte_0_of_any_allocation", enforced!("elements_are_packed_from_byte_0_whatever_the_allocation")]),
    Fact::new(
        "C1-minimum-size",
        "C.1",
        "Surfaces of less than 49152 bytes fail with status 0x1d when the program runs, although it \
         compiles.",
        "ORI #4 (M4 Max), LUE, ESP:ANEConstraint",
        Measured,
        Medium,
    )
    .in_memory()
    .os(Os::MacOs15)
    .against(&["C1-minimum-width"])
    .rules(&["ANE081"])
    .tests(&["crates/ane/tests/requests.rs::c1_minimum_size_depends_on_the_system_and_the_tensor", ALLOCATIONS, REQUESTS, BOUND, enforced!("the_smallest_surface_depends_on_system_and_path")]),
    Fact::new(
        "C1-minimum-width",
        "C.1",
        "What is too small is a width below 16 or 32 elements, not a size in bytes.",
        "1 and 8 tokens fail and 16 work (ORI #4, LUE); 32 are used by ESP",
        Inferred,
        Low,
    )
    .in_memory()
    .os(Os::MacOs15)
    .option(&["C1-minimum-size"])
    .tests(&["crates/ane/tests/requests.rs::c1_width_16_is_an_option"]),
    Fact::new(
        "C1-minimum-size-macos26",
        "C.1",
        "Surfaces of less than 2048 bytes are refused.",
        "IMP (M1); 8192 bytes work on M5 (MAD:training/m5result.md, INF)",
        Measured,
        Low,
    )
    .in_memory()
    .os(Os::MacOs26)
    .against(&["C1-no-minimum-macos26"])
    .rules(&["ANE081"])
    .tests(&[enforced!("the_smallest_surface_depends_on_system_and_path")]),
    Fact::new(
        "C1-no-minimum-macos26",
        "C.1",
        "There is no smallest surface.",
        "no failure was published for macOS 26",
        Inferred,
        Low,
    )
    .in_memory()
    .os(Os::MacOs26)
    .option(&["C1-minimum-size-macos26"]),
    Fact::new(
        "C1-uniform-sizes",
        "C.1",
        "All input surfaces of a request have one allocation size, and all its output surfaces have \
         one; else status 0x1d.",
        "ORI #2, #12",
        Measured,
        High,
    )
    .in_memory()
    .against(&["C1-monotone-sizes"])
    .rules(&["ANE080"])
    .tests(&["crates/ane/tests/requests.rs::c1_uniform_sizes_are_asked_for_on_both_sides", ALLOCATIONS, REQUESTS, BOUND]),
    Fact::new(
        "C1-monotone-sizes",
        "C.1",
        "Sizes may grow over the inputs and shrink over the outputs; the other way gives zeros \
         without a word.",
        "IMP:ANE_TRAINING.md (M1)",
        Measured,
        Low,
    )
    .in_memory()
    .chips(&[Chip::M1])
    .option(&["C1-uniform-sizes"])
    .tests(&["crates/ane/tests/requests.rs::c1_monotone_sizes_the_other_reading_gives_zeros"]),
    Fact::new(
        "C1-several-inputs",
        "C.1",
        "A request may have several inputs and several outputs.",
        "MAD#22, IMP, ORI, AF",
        Measured,
        High,
    )
    .in_memory()
    .against(&["C1-single-input"])
    .tests(&[enforced!("ports_are_bound_in_alphabetical_order")]),
    Fact::new(
        "C1-single-input",
        "C.1",
        "A second input gives status 0x1d.",
        "MAD:README; most likely surfaces of unequal size",
        Asserted,
        Low,
    )
    .in_memory()
    .option(&["C1-several-inputs"]),
    Fact::new(
        "C1-alphabetical",
        "C.1",
        "Surfaces are bound in alphabetical order of parameter names and of output names, not in the \
         order of the text; another order permutes data without a word.",
        "ORI #3, #13 (all six orders of three inputs)",
        Measured,
        High,
    )
    .in_memory()
    .rules(&["ANE082"])
    .tests(&["crates/ane/tests/requests.rs::c1_alphabetical_inputs_in_the_order_of_the_text_are_permuted", "crates/ane/tests/requests.rs::c1_alphabetical_outputs_in_the_order_of_the_text_are_permuted", enforced!("ports_are_bound_in_alphabetical_order"), REQUESTS]),
    Fact::new(
        "C1-surface-count",
        "C.1",
        "Another number of surfaces than ports gives status 0x1d.",
        "ORI #2",
        Measured,
        High,
    )
    .in_memory()
    .rules(&["ANE082"])
    .tests(&["crates/ane/tests/requests.rs::c1_count_is_an_error_everywhere", REQUESTS, BOUND]),
    Fact::new(
        "C1-width-multiple",
        "C.1",
        "Widths of surfaces that are not a multiple of 32 fail when the program runs, or give wrong \
         numbers: rows lie at the next multiple of 32 elements.",
        "ELA:docs/MIL-CONSTRAINTS.md (M5), SKY:README (M3 Max: 32 is the least), ncdrone/ane (64 is)",
        Measured,
        Medium,
    )
    .in_memory()
    .against(&["C1-any-width", "C1-width-16"])
    .rules(&["ANE070"])
    .tests(&[EACH_RULE, PROJECTS]),
    Fact::new(
        "C1-width-16",
        "C.1",
        "Widths of surfaces are multiples of 16.",
        "RUS:README, ORI #4 (768 by 16 runs)",
        Asserted,
        Low,
    )
    .in_memory()
    .option(&["C1-width-multiple"]),
    Fact::new(
        "C1-any-width",
        "C.1",
        "Any width works.",
        "gains of [1, C, 1, 1] are common inputs (MAD#22)",
        Measured,
        Medium,
    )
    .in_memory()
    .option(&["C1-width-multiple"]),
    Fact::new(
        "C1-alignment-m5",
        "C.1",
        "M5 wants surfaces aligned to 128 bytes.",
        "MAD#35",
        Asserted,
        Low,
    )
    .in_memory()
    .chips(&[Chip::M5, Chip::M5Pro, Chip::M5Max]),
    Fact::new(
        "C1-internal-rows",
        "C.1",
        "Inside, rows of tensors are aligned to 64 bytes; the firmware maps pages of 16 KiB.",
        "GUIDE:23-program-format, GUIDE:29-firmware",
        Derived,
        Medium,
    ),
    Fact::new(
        "C1-inputs-per-trigger",
        "C.1",
        "One trigger of the firmware maps at most 16 input buffers and 32 segments.",
        "GUIDE:29-firmware",
        Derived,
        Low,
    )
    .in_memory()
    .against(&["C1-98-inputs"])
    .rules(&["ANE071"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "C1-98-inputs",
        "C.1",
        "98 inputs work.",
        "IMP:ANE_TRAINING.md (M1)",
        Measured,
        Medium,
    )
    .in_memory()
    .option(&["C1-inputs-per-trigger"]),
    Fact::new(
        "C1-packed-width-m3-ultra",
        "C.1",
        "A packed width of 16384 compiles and one of 17920 does not.",
        "RUS#13 (eight shapes), RUS#15",
        Measured,
        High,
    )
    .chips(&[Chip::M3Ultra])
    .rules(&["ANE012"])
    .tests(&[EACH_RULE, enforced!("a_width_of_16384_compiles_up_to_m3_and_17920_does_not")]),
    Fact::new(
        "C1-fp16-ports-faster",
        "C.1",
        "fp16 ports are about 37 % faster than fp32 ports with casts.",
        "MAD:README",
        Asserted,
        Medium,
    )
    .in_memory(),
    Fact::new(
        "C1-lock-cost",
        "C.1",
        "Locking and unlocking a surface costs 20 to 50 µs.",
        "TMC (notes for contributors)",
        Asserted,
        Low,
    )
    .in_memory(),
    Fact::new(
        "C1-request-limits",
        "C.1",
        "A request has at least one and at most 255 inputs, and as many outputs; indices of symbols \
         are below 255, those of procedures at most 128; events to signal and to wait for are at most \
         64 each. Statistics are a list, each of the kinds 0, 1 and 2 at most once.",
        "DEC:-[_ANERequest validate]",
        Derived,
        Medium,
    )
    .in_memory()
    .rules(&["ANE072"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "C1-weights-buffer",
        "C.1",
        "The request's argument weightsBuffer accepts a surface and does nothing.",
        "MAD:training/m5result.md",
        Measured,
        High,
    )
    .in_memory(),
    Fact::new(
        "C1-rebuild-request",
        "C.1",
        "A request is bound to its surfaces for good: to use other surfaces, build another request.",
        "IMP (ane_rewire), MAD:training/stories_io.h",
        Measured,
        Medium,
    )
    .in_memory()
    .tests(&["crates/ane/tests/requests.rs::c1_rebuild_request_after_a_surface_was_replaced"]),
    Fact::new(
        "C1-shared-surfaces",
        "C.1",
        "One program's output surface can be another's input, without a copy.",
        "IMP, MAD",
        Measured,
        High,
    )
    .tests(&[enforced!("an_output_surface_serves_as_the_next_input")]),
    Fact::new(
        "C1-rebinding-cost",
        "C.1",
        "Binding anew for every token halved the speed of decoding (102 to 52 tokens/s).",
        "ESP:tasks/todo.md (M3 Max)",
        Measured,
        Medium,
    )
    .generations(&[Generation::A15])
    .in_memory(),
    Fact::new(
        "C1-fp32-ports",
        "C.1",
        "fp16 and fp32 surfaces are laid out alike, two and four bytes per element.",
        "MAD:inmem_peak.m",
        Measured,
        High,
    )
    .in_memory()
    .tests(&["crates/ane/tests/requests.rs::fp32_ports_are_four_bytes_in_raw_surfaces"]),
    // ---- C.2 e5rt ----
    Fact::new(
        "C2-any-size",
        "C.2",
        "Buffers may have any size; sizes need not be equal.",
        "AF:docs/e5rt-dispatch-reference.md, AF:aneforge/_runtime.py",
        Measured,
        High,
    )
    .e5rt()
    .tests(&[ALLOCATIONS, enforced!("the_smallest_surface_depends_on_system_and_path")]),
    Fact::new(
        "C2-named-ports",
        "C.2",
        "Ports are addressed by name; no order was observed.",
        "AF:docs/e5rt-dispatch-reference.md",
        Measured,
        High,
    )
    .e5rt(),
    Fact::new(
        "C2-aliasing",
        "C.2",
        "An output port can share its buffer with an input port, so that state stays on the device.",
        "AF:docs/e5rt-dispatch-reference.md (share_buffer)",
        Measured,
        High,
    )
    .e5rt(),
];
