//! Facts of section D: limits of shapes, processes and systems.

use super::fact::{Basis::*, EACH_RULE, Fact};
use crate::confidence::Confidence::*;
use crate::machine::{Chip, Generation, Os};

const EARLY: &[Generation] = &[Generation::A13, Generation::A14, Generation::A15];

pub(super) const FACTS: &[Fact] = &[
    Fact::new(
        "D-compiles",
        "D",
        "A process can compile about 119 programs, released or not: the compiler leaks and fails from \
         then on.",
        "MAD:training/stories_config.h, ORI #5, ESP (CompileBudget), OMLX#2781",
        Measured,
        Medium,
    )
    .in_memory()
    .against(&["D-compiles-with-release"])
    .rules(&["ANE083"])
    .tests(&["crates/ane/tests/errors.rs::the_120th_compile", "crates/ane/src/budget.rs::the_120th_compile_fails_in_memory"]),
    Fact::new(
        "D-compiles-with-release",
        "D",
        "A process can compile without limit if it releases its programs; 119 is what remains of the \
         128 places for loaded programs.",
        "AF compiles thousands by e5rt; nobody tried it in memory",
        Inferred,
        Low,
    )
    .in_memory()
    .option(&["D-compiles"]),
    Fact::new(
        "D-compiles-e5rt",
        "D",
        "Compiles are not limited as long as programs are released.",
        "AF (thousands in one process)",
        Measured,
        High,
    )
    .e5rt()
    .tests(&["crates/ane/src/budget.rs::compiles_by_e5rt_are_not_limited"]),
    Fact::new(
        "D-loaded",
        "D",
        "A process can hold 128 loaded programs; the 129th fails, and a released one makes room. \
         Nothing is unloaded by itself.",
        "AF:docs/e5rt-dispatch-reference.md, AF:docs/roadmap.md, MID",
        Measured,
        High,
    )
    .rules(&["ANE084"])
    .against(&["D-functions-e5rt"])
    .tests(&["crates/ane/tests/requests.rs::d_programs_take_places_whatever_the_number_of_their_procedures", "crates/ane/tests/errors.rs::the_129th_loaded_program", "crates/ane/src/budget.rs::the_129th_program_waits_for_a_free_place"]),
    Fact::new(
        "D-functions-e5rt",
        "D",
        "Operations of at most 15 compiled functions can live at once, of all processes together (two \
         at a time had 15 and 7); the first of a sixteenth fails with status 13. Any number of \
         operations may be of one function, and any number of functions be compiled.",
        "tmc/apple:examples/ane/e5rtstack",
        Measured,
        Medium,
    )
    .e5rt()
    .os(Os::MacOs26)
    .option(&["D-loaded"]),
    Fact::new(
        "D-in-flight",
        "D",
        "A program's queue takes 127 requests.",
        "INF §1 (queueDepth)",
        Derived,
        Medium,
    )
    .tests(&["crates/ane/tests/requests.rs::d_the_128th_request_in_flight_waits", enforced!("limits_of_a_process_are_those_published")]),
    Fact::new(
        "D-one-command",
        "D",
        "The driver keeps one command of the firmware in flight: two threads gain 4 %.",
        "GUIDE:27-kernel-driver, AF",
        Measured,
        High,
    ),
    Fact::new(
        "D-stream-operations",
        "D",
        "One stream takes about 110 to 120 operations.",
        "AF:docs/e5rt-dispatch-reference.md (execute_multi)",
        Measured,
        Medium,
    )
    .e5rt(),
    Fact::new(
        "D-program-bytes",
        "D",
        "Programs with 3.4 GB of constants compile and do not load; 1.5 GB load.",
        "AF:aneforge/llm.py; window 3.5 GiB (GUIDE:28), firmware < 4 GiB (GUIDE:24)",
        Measured,
        Medium,
    )
    .against(&["D-program-bytes-larger"])
    .rules(&["ANE014"])
    .tests(&["crates/ane/tests/errors.rs::a_bank_of_constants_too_large_to_load", 
        EACH_RULE,
        "crates/ane/src/budget.rs::a_program_beyond_the_address_window_is_not_loaded",
    ]),
    Fact::new(
        "D-program-bytes-larger",
        "D",
        "Two banks of 7.86 GB load on M3 Max, and 3.75 GiB fail on M1 Ultra.",
        "OMLX#2781, #2874",
        Measured,
        Medium,
    )
    .option(&["D-program-bytes"]),
    Fact::new(
        "D-kernel-section",
        "D",
        "The kernel section of a compiled program is limited to 128 MB and its scratch to 3 GB.",
        "GUIDE:24, 28",
        Derived,
        Low,
    ),
    Fact::new(
        "D-extent-16384",
        "D",
        "The last two axes of a tensor are at most 16384 long.",
        "GUIDE:24-hal-gates, RUS#13",
        Measured,
        High,
    )
    .generations(EARLY)
    .rules(&["ANE012"])
    .tests(&[
        EACH_RULE,
        enforced!("a_width_of_16384_compiles_up_to_m3_and_17920_does_not"),
        enforced!("heights_have_the_limit_of_widths"),
    ]),
    Fact::new(
        "D-extent-65536",
        "D",
        "The last two axes of a tensor are at most 65536 long.",
        "GUIDE:24-hal-gates",
        Derived,
        High,
    )
    .generations(&[Generation::A16])
    .rules(&["ANE012"])
    .tests(&[
        EACH_RULE,
        enforced!("a_width_of_65536_compiles_from_m4_on"),
        enforced!("heights_have_the_limit_of_widths"),
    ]),
    Fact::new(
        "D-channels",
        "D",
        "Batches and channels are at most 65536.",
        "GUIDE:24-hal-gates",
        Derived,
        Medium,
    )
    .rules(&["ANE013"])
    .tests(&[EACH_RULE, enforced!("batches_and_channels_end_at_65536_and_depth_at_16384")]),
    Fact::new(
        "D-depth",
        "D",
        "The middle axis of five is at most 16384 long.",
        "GUIDE:24-hal-gates",
        Derived,
        Medium,
    )
    .rules(&["ANE013"])
    .tests(&[EACH_RULE, enforced!("batches_and_channels_end_at_65536_and_depth_at_16384")]),
    Fact::new(
        "D-two-engines",
        "D",
        "An Ultra has two engines; a process uses one unless told otherwise.",
        "OMLX#2781, RUS#12",
        Measured,
        High,
    )
    .chips(&[Chip::M3Ultra])
    .tests(&[enforced!("an_ultra_has_two_engines")]),
    Fact::new(
        "D-two-engines-bandwidth",
        "D",
        "Two engines do not double the bandwidth.",
        "ANEMLL#8",
        Measured,
        Medium,
    )
    .chips(&[Chip::M3Ultra])
    .against(&["D-two-engines-gain"]),
    Fact::new(
        "D-two-engines-gain",
        "D",
        "Two engines read prompts 19 % faster.",
        "OMLX",
        Measured,
        Low,
    )
    .chips(&[Chip::M3Ultra])
    .option(&["D-two-engines-bandwidth"]),
    Fact::new(
        "D-slow-down",
        "D",
        "One set of programs slows down after about 100,000 runs; one set per engine does not, and \
         compiling anew helps.",
        "RUS#9, #12",
        Measured,
        Medium,
    )
    .chips(&[Chip::M3Ultra])
    .tests(&["crates/ane/tests/faults.rs::d_runs_slow_down_after_many"]),
    Fact::new(
        "D-compile-time",
        "D",
        "A compile takes 11 to 17 ms for a small convolution, 20 to 90 ms for a layer, and up to \
         131 s in bad cases.",
        "MAD:training/m5result.md, ORI:docs/m2_benchmarks.md, AF, ESP, RUS#16",
        Measured,
        Medium,
    ),
    Fact::new(
        "D-load-time",
        "D",
        "Loading takes 1.7 to 3.8 ms and unloading 0.5 ms.",
        "MAD:training/m5result.md",
        Measured,
        Medium,
    ),
    Fact::new(
        "D-compile-backoff",
        "D",
        "After a crash the compiler's service takes about 10 s to come back; tries should be 15 s \
         apart.",
        "AF#149, GUIDE:19-pitfalls-and-limits",
        Measured,
        Medium,
    )
    .tests(&["crates/ane/tests/faults.rs::a7_patience_gets_a_program_compiled"]),
    Fact::new(
        "D-idle-wake",
        "D",
        "After 5 s without work the first request takes about 260 ms, and full speed comes back in \
         three requests; after 100 ms it costs 0.5 ms.",
        "GUIDE:09-roofline, GUIDE:31 (M1)",
        Measured,
        Medium,
    )
    .tests(&["crates/ane/tests/faults.rs::d_the_engine_wakes_up_slowly"]),
    Fact::new(
        "D-quality-of-service",
        "D",
        "The quality of service of a request, 0 to 63, does not change its time.",
        "MAD:training/m5result.md, GUIDE:31",
        Measured,
        High,
    )
    .tests(&["crates/lab/tests/probe.rs::every_probe_gives_the_expected_verdict_for_m1_and_m4", "crates/standins/tests/apple/in_memory.rs::requests_sent_in_other_ways_give_the_emulators_bits"]),
    Fact::new(
        "D-real-time-path",
        "D",
        "The real-time call gains a factor of 1.88 for 64×32 and nothing for 768×256.",
        "MAD#40",
        Measured,
        Medium,
    )
    .in_memory()
    .against(&["D-real-time-entitled"])
    .tests(&["crates/lab/tests/probe.rs::every_probe_gives_the_expected_verdict_for_m1_and_m4", "crates/standins/tests/apple/in_memory.rs::requests_sent_in_other_ways_give_the_emulators_bits"]),
    Fact::new(
        "D-real-time-entitled",
        "D",
        "The real-time call needs an entitlement.",
        "INF",
        Measured,
        Low,
    )
    .in_memory()
    .option(&["D-real-time-path"]),
    Fact::new(
        "D-entitlements",
        "D",
        "Compiling, loading and running one's own programs needs no entitlement; the raw driver, \
         adapter weights, chaining and performance masks do.",
        "GUIDE:05, 08, 27, 32",
        Measured,
        High,
    ),
    Fact::new(
        "D-signed-programs",
        "D",
        "The driver runs only programs that the system's service has compiled or signed, in the same \
         process.",
        "GUIDE:32, AF",
        Measured,
        High,
    )
    .against(&["D-bundles-reopened"])
    .tests(&[
        "crates/standins/tests/apple/cache.rs::\
         where_another_processs_program_is_refused_it_is_compiled_here",
    ]),
    Fact::new(
        "D-bundles-reopened",
        "D",
        "A bundle that one process compiled opens and runs in another that is started later by the \
         same parent, sources deleted, also after a restart of the system's service.",
        "tmc/apple:x/ane/e5rt/crossprocess_test.go, tmc/apple:examples/ane/bundlereuse, \
         tmc/apple:examples/ane/internal/anedrestart",
        Measured,
        Medium,
    )
    .e5rt()
    .os(Os::MacOs26)
    .option(&["D-signed-programs"])
    .tests(&["crates/standins/tests/apple/cache.rs::what_was_compiled_is_not_compiled_again"]),
    Fact::new(
        "D-bundles-age",
        "D",
        "Two bundles of the day before gave no operation (status 13), while bundles of minutes ago \
         did in the same processes; after how long a bundle is useless nobody measured.",
        "tmc/apple:examples/ane/internal/anedrestart",
        Measured,
        Low,
    )
    .e5rt()
    .os(Os::MacOs26)
    .tests(&["crates/standins/tests/apple/cache.rs::a_system_that_refuses_what_is_old_is_asked_again"]),
    Fact::new(
        "D-memory-names",
        "D",
        "The name of an in-memory model is made of hashes of its text, of one value of each weight \
         file's dictionary, in the order of the files' names, and of its options. Which value that \
         is where there are two, offset and bytes, is left to Foundation.",
        "DEC:-[_ANEInMemoryModelDescriptor hexStringIdentifier]",
        Derived,
        Medium,
    )
    .in_memory()
    .tests(&[
        "crates/standins/tests/apple/cache.rs::\
         other_weights_are_another_program_whatever_the_system_calls_it",
    ]),
    Fact::new(
        "D-memory-cache",
        "D",
        "The system's service keeps compiled in-memory models by their names and the signature of \
         the program that asked, and removes those that nobody used for a while. Loading takes the \
         kept one where there is one (`compiledModelExists`), without a compile.",
        "DEC:-[_ANEInMemoryModel loadWithQoS:options:error:], DEC:_ANEInMemoryModelCacheManager",
        Derived,
        Medium,
    )
    .in_memory()
    .tests(&["crates/standins/tests/apple/cache.rs::what_was_compiled_is_not_compiled_again"]),
    Fact::new(
        "D-sandbox",
        "D",
        "Applications of the App Store cannot use these paths; command-line programs can.",
        "ESP:README",
        Asserted,
        Medium,
    ),
    Fact::new(
        "D-macos26-in-memory",
        "D",
        "The in-memory path works on macOS 26.2 to 26.6.",
        "MAD#40, RUS#16, OMLX#2781",
        Measured,
        High,
    )
    .in_memory()
    .os(Os::MacOs26),
    Fact::new(
        "D-macos26-compile-model",
        "D",
        "Compiling a model from a URL by Core ML, an older route, no longer works.",
        "MAD#27",
        Measured,
        Medium,
    )
    .os(Os::MacOs26),
    Fact::new(
        "D-macos26-e5rt-submit",
        "D",
        "The asynchronous call of the library has another name.",
        "AF",
        Derived,
        Medium,
    )
    .e5rt()
    .os(Os::MacOs26),
    Fact::new(
        "D-macos26-m1-layers",
        "D",
        "Whole layers fail with CompilationFailure on M1 Ultra where small programs pass.",
        "ESP#18",
        Measured,
        Low,
    )
    .chips(&[Chip::M1, Chip::M1Max])
    .os(Os::MacOs26),
    Fact::new(
        "D-macos15-m2-attention",
        "D",
        "One project's attention program is refused on M2 Max with macOS 15.7.4.",
        "RUS#11",
        Measured,
        Low,
    )
    .generations(&[Generation::A14])
    .os(Os::MacOs15),
    Fact::new(
        "D-macos27",
        "D",
        "macOS 27 refuses bundles with code 10 in one report and works in another.",
        "OMLX#3124, OMLX#2908",
        Measured,
        Low,
    )
    .tests(&["crates/ane/src/error_tests.rs::budgets_of_a_process"]),
];
