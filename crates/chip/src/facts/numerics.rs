//! Facts of section E: how the engine computes.

use super::fact::{Basis::*, EACH_RULE, Fact};
use crate::confidence::Confidence::*;
use crate::machine::{Chip, Generation};

const GEMM: &str = "crates/cpu/src/gemm/tests.rs::sums_saturate_at_two_to_the_fifteenth";
const M5: &[Chip] = &[Chip::M5, Chip::M5Pro, Chip::M5Max];

pub(super) const FACTS: &[Fact] = &[
    // ---- E.1 products ----
    Fact::new(
        "E1-product-grid",
        "E.1",
        "Each product of two fp16 numbers in a matrix product is rounded, halves away from zero, to \
         a multiple of 2^-16 before it is added.",
        "AF:bench/device_saturation_sweep.py, AF:bench/results/rooflines; inputs generated anew and \
         compared with the published errors of 6 GEMM sizes on 6 chips and 7 GEMV sizes",
        Verified,
        High,
    )
    .against(&["E1-wide-accumulator"])
    .tests(&["crates/cpu/tests/exact.rs::products_follow_the_law_bit_for_bit"]),
    Fact::new(
        "E1-product-gate",
        "E.1",
        "A product whose factors' binary exponents add up to less than -16 counts as zero, even \
         where it would round to 2^-16.",
        "AF:bench/results/rooflines; without the gate, or with one at -15 or -17, the published \
         errors are missed by more than 1 %",
        Verified,
        High,
    )
    .tests(&["crates/cpu/tests/exact.rs::products_follow_the_law_bit_for_bit", "crates/cpu/src/mac.rs::products_are_gated_and_rounded"]),
    Fact::new(
        "E1-exact-sum",
        "E.1",
        "The rounded products of one result are summed exactly, so that their order does not \
         matter.",
        "AF:bench/results/rooflines; summing in parts or truncating misses the published errors",
        Verified,
        High,
    )
    .against(&["E1-wide-accumulator"])
    .tests(&["crates/cpu/tests/exact.rs::products_follow_the_law_bit_for_bit", "crates/cpu/tests/exact.rs::results_do_not_depend_on_the_number_of_threads"]),
    Fact::new(
        "E1-wide-accumulator",
        "E.1",
        "Products are summed in fp32 or an accumulator as wide, without a grid.",
        "GUIDE:03-numerics, MID",
        Asserted,
        Low,
    )
    .option(&["E1-product-grid", "E1-exact-sum"]),
    Fact::new(
        "E1-output-rounding",
        "E.1",
        "The exact sum is converted to fp16 once, halves away from zero.",
        "AF:bench/results/rooflines; rounding to even gives 0.0025781 in place of 0.0025780 at 512",
        Verified,
        High,
    )
    .tests(&["crates/cpu/tests/exact.rs::published_errors_of_products_are_reproduced_to_twelve_digits", "crates/cpu/src/mac.rs::sums_round_halves_away"]),
    Fact::new(
        "E1-published-errors",
        "E.1",
        "The relative error of the published test is 0.00257800397023792 for N = 512 and \
         0.005528352999597525 for N = 1024, on M1, M1 Max, M2 Pro, M4, M5 and M5 Pro alike.",
        "AF:bench/results/rooflines",
        Measured,
        High,
    )
    .chips(&[Chip::M1, Chip::M1Max, Chip::M2Pro, Chip::M4, Chip::M5, Chip::M5Pro])
    .tests(&["crates/cpu/tests/exact.rs::published_errors_of_products_are_reproduced_to_twelve_digits"]),
    Fact::new(
        "E1-bias-after-sum",
        "E.1",
        "A bias is added to the converted result, outside the sum of products.",
        "AF:aneforge/_compile.py emits a separate add; fusion was not tested",
        Inferred,
        Medium,
    ),
    Fact::new(
        "E1-pointwise-convolution",
        "E.1",
        "1×1 convolutions follow the law of matrix products.",
        "expected of the same unit; never compared bit by bit",
        Inferred,
        Medium,
    ),
    Fact::new(
        "E1-runtime-operands",
        "E.1",
        "Products of two inputs follow the law that products with constant weights follow.",
        "expected of the same unit; never compared bit by bit",
        Inferred,
        Medium,
    ),
    Fact::new(
        "E1-subnormal-operands",
        "E.1",
        "How products with a subnormal factor are treated is open beyond the gate: all of them were \
         gated in the published data.",
        "AF:bench/results/rooflines",
        Inferred,
        Low,
    )
    .tests(&["crates/cpu/tests/exact.rs::products_follow_the_law_bit_for_bit"]),
    Fact::new(
        "E1-conv3x3",
        "E.1",
        "3×3 convolutions follow the law of products to 0.7 % of the additional error (64 channels: \
         3.67e-4), but not bit for bit, and differ slightly from chip to chip.",
        "AF:bench/results/rooflines",
        Measured,
        Medium,
    )
    .chips(&[Chip::M1, Chip::M2Pro, Chip::M4]),
    Fact::new(
        "E1-conv3x3-m5",
        "E.1",
        "On M5 3×3 convolutions have a relative error of 5.13e-4 to 5.16e-4, as if one more rounding \
         to fp16 took place.",
        "AF:bench/results/rooflines (M5, M5 Pro)",
        Measured,
        Medium,
    )
    .chips(M5)
    .tests(&["crates/chip/src/machine.rs::numerics_differ_where_published"]),
    Fact::new(
        "E1-relative-error",
        "E.1",
        "A product's relative error is about 4.4e-6 divided by the root mean square of its terms: \
         0.44 % at 1e-3, 6 % at 1e-4, and nothing is left below 1e-5.",
        "follows from E1-product-grid and E1-product-gate; agrees with OMLX#2756, GUIDE:14",
        Verified,
        High,
    ),
    // ---- E.2 saturation ----
    Fact::new(
        "E2-saturation",
        "E.2",
        "A sum of products of 2^15 or more in absolute value becomes infinite; the largest finite \
         result is 32752, whatever the number of terms.",
        "AF:bench/results/rooflines (bisected on 6 chips), AF#115, GUIDE:03-numerics",
        Measured,
        High,
    )
    .against(&["E2-fp32-range"])
    .tests(&["crates/cpu/tests/exact.rs::the_array_saturates_at_two_to_the_fifteen", GEMM, "crates/ane/tests/emulator.rs::engine_rules_in_fast"]),
    Fact::new(
        "E2-fp32-range",
        "E.2",
        "Products overflow as fp32 sums do: not before 65504 is passed by the final result.",
        "MID",
        Asserted,
        Low,
    )
    .option(&["E2-saturation"]),
    Fact::new(
        "E2-partial-sums",
        "E.2",
        "A partial sum beyond 2^15 makes the result infinite, even if later terms would cancel it.",
        "GUIDE:03-numerics",
        Measured,
        Medium,
    )
    .against(&["E2-final-sum-only"])
    .tests(&["crates/cpu/tests/exact.rs::partial_sums_beyond_the_range_are_not_taken_back", "crates/cpu/src/mac.rs::what_has_overflowed_stays_infinite"]),
    Fact::new(
        "E2-final-sum-only",
        "E.2",
        "Only the final sum is held against 2^15.",
        "an accumulator that is exact and wider would do so; nobody tested the order",
        Inferred,
        Low,
    )
    .option(&["E2-partial-sums"]),
    Fact::new(
        "E2-exempt-units",
        "E.2",
        "Reductions, elementwise products (up to 65504) and convolutions of one input channel do \
         not saturate at 2^15.",
        "GUIDE:03-numerics",
        Measured,
        High,
    )
    .tests(&["crates/cpu/tests/exact.rs::a_convolution_of_one_channel_does_not_saturate", enforced!("elementwise_products_reach_65504")]),
    Fact::new(
        "E2-width-slice-gain",
        "E.2",
        "A slice that does not start at 0 of the last axis passes through a path scaled by 16: \
         |x| > 4094 becomes infinite.",
        "GUIDE:03-numerics, AF:bench/results/rooflines (M1, M1 Max, M2 Pro; clean on M4, M5, M5 Pro)",
        Measured,
        High,
    )
    .generations(&[Generation::A13, Generation::A14])
    .rules(&["ANE062"])
    .tests(&["crates/ane/tests/emulator.rs::slices_inside_the_width_lose_large_values_on_m1_and_m2", EACH_RULE, "crates/chip/src/machine.rs::numerics_differ_where_published"]),
    Fact::new(
        "E2-square-overflow",
        "E.2",
        "square is infinite from |x| = 256 on: fp16 ends at 65504.",
        "GUIDE:03-numerics",
        Measured,
        High,
    )
    .tests(&["crates/cpu/src/exact.rs::published_corners", enforced!("powers_leave_the_range_where_published")]),
    Fact::new(
        "E2-exp-overflow",
        "E.2",
        "exp is infinite from about 11.094 on.",
        "GUIDE:03-numerics",
        Measured,
        High,
    )
    .tests(&["crates/cpu/src/exact.rs::published_corners", enforced!("powers_leave_the_range_where_published")]),
    Fact::new(
        "E2-softplus",
        "E.2",
        "softplus gives 0 above about 10.40 = ln 2^15, the range of sums of products; of +infinity it \
         gives 0 too.",
        "CMT#2687 (M4), AF:aneforge/_compile.py, GUIDE:03-numerics",
        Measured,
        High,
    )
    .rules(&["ANE055"])
    .tests(&["crates/cpu/src/exact.rs::published_corners", EACH_RULE]),
    Fact::new(
        "E2-log-sum-exp",
        "E.2",
        "reduce_log_sum_exp does not subtract the maximum and gives 0 from ln(65504/n) on.",
        "CMT#2690",
        Measured,
        High,
    )
    .rules(&["ANE055"])
    .tests(&["crates/cpu/src/exact.rs::log_sum_exp_collapses", EACH_RULE]),
    Fact::new(
        "E2-log-zero",
        "E.2",
        "log of +0 without an epsilon gives -45440, not -infinity.",
        "GUIDE:03-numerics",
        Measured,
        Medium,
    )
    .tests(&["crates/cpu/src/exact.rs::published_corners"]),
    Fact::new(
        "E2-softsign-infinity",
        "E.2",
        "softsign of +infinity gives 0.",
        "GUIDE:03-numerics",
        Measured,
        Medium,
    )
    .tests(&["crates/cpu/src/exact.rs::published_corners"]),
    // ---- E.3 rounding, specials, denormals ----
    Fact::new(
        "E3-half-away",
        "E.3",
        "Results are rounded to fp16 with halves away from zero: a sum of 2049 becomes 2050.",
        "AF:bench/results/rooflines (every chip, M1 included)",
        Measured,
        High,
    )
    .against(&["E3-half-even-m1"])
    .tests(&["crates/cpu/src/exact.rs::reductions_lose_what_the_published_examples_lose", "crates/cpu/tests/exact.rs::elementwise_results_round_halves_away", "crates/cpu/src/exact.rs::rounding_takes_the_nearest_and_halves_away"]),
    Fact::new(
        "E3-half-even-m1",
        "E.3",
        "On M1 halves are rounded to even: a sum of 2049 becomes 2048.",
        "GUIDE:03-numerics",
        Asserted,
        Low,
    )
    .generations(&[Generation::A13])
    .option(&["E3-half-away"]),
    Fact::new(
        "E3-mil-round",
        "E.3",
        "The operation round takes halves away from zero.",
        "AF:aneforge/_compile.py",
        Measured,
        High,
    )
    .tests(&["crates/cpu/src/exact.rs::published_corners", enforced!("round_takes_halves_away_from_zero")]),
    Fact::new(
        "E3-round-fault",
        "E.3",
        "round moves whole numbers of 1024 and more: round(1024) = 1025.",
        "AF:aneforge/_compile.py, AF#116",
        Measured,
        Medium,
    )
    .chips(M5)
    .rules(&["ANE052"])
    .tests(&["crates/cpu/src/exact.rs::published_corners", EACH_RULE, "crates/chip/src/machine.rs::numerics_differ_where_published"]),
    Fact::new(
        "E3-never-nan",
        "E.3",
        "No operation gives NaN; NaN seen in training comes from the CPU reading infinities.",
        "GUIDE:03-numerics",
        Measured,
        High,
    )
    .tests(&["crates/cpu/tests/exact.rs::nan_is_never_emitted", "crates/cpu/src/exact.rs::nothing_gives_nan", 
        "crates/ane/tests/emulator.rs::engine_rules_in_fast",
        enforced!("no_operation_gives_nan"),
    ]),
    Fact::new(
        "E3-nan-input",
        "E.3",
        "A NaN that is read counts as +infinity.",
        "GUIDE:03-numerics",
        Measured,
        High,
    )
    .tests(&["crates/ane/tests/emulator.rs::engine_rules_in_fast"]),
    Fact::new(
        "E3-indeterminate",
        "E.3",
        "Infinity minus infinity, 0 times infinity, and sqrt, rsqrt and log of negative numbers give \
         +0.",
        "GUIDE:03-numerics",
        Measured,
        High,
    )
    .tests(&[enforced!("indeterminate_forms_are_zero")]),
    Fact::new(
        "E3-inverse-of-minus-zero",
        "E.3",
        "1 / -0 gives +infinity.",
        "GUIDE:03-numerics",
        Measured,
        Medium,
    ),
    Fact::new(
        "E3-signed-zero",
        "E.3",
        "-0 loses its sign in x + 0.",
        "GUIDE:03-numerics",
        Measured,
        Medium,
    ),
    Fact::new(
        "E3-infinity-times-number",
        "E.3",
        "Infinity times a finite number other than 0 is infinite, as in IEEE 754.",
        "the general rule of GUIDE:03-numerics",
        Inferred,
        Medium,
    )
    .against(&["E3-infinity-times-number-odd"]),
    Fact::new(
        "E3-infinity-times-number-odd",
        "E.3",
        "mul(+infinity, x) can give -52416.",
        "AF's list of questions",
        Measured,
        Low,
    )
    .option(&["E3-infinity-times-number"]),
    Fact::new(
        "E3-denormals",
        "E.3",
        "Elementwise operations keep subnormal numbers down to 2^-24.",
        "GUIDE:03-numerics",
        Measured,
        High,
    )
    .tests(&["crates/cpu/tests/exact.rs::subnormals_survive_elementwise_and_vanish_in_the_array", enforced!("elementwise_operations_keep_subnormal_numbers")]),
    Fact::new(
        "E3-denormals-in-products",
        "E.3",
        "Subnormal results of products cannot arise: the grid is 2^-16, and the gate removes terms \
         of subnormal factors.",
        "follows from E.1; GUIDE:03-numerics sees them flushed on M1",
        Verified,
        Medium,
    )
    .against(&["E3-denormals-in-products-m5"])
    .tests(&["crates/cpu/tests/exact.rs::subnormals_survive_elementwise_and_vanish_in_the_array"]),
    Fact::new(
        "E3-denormals-in-products-m5",
        "E.3",
        "On M5 a product of subnormal numbers keeps them.",
        "GUIDE:03-numerics",
        Measured,
        Low,
    )
    .chips(M5)
    .option(&["E3-denormals-in-products"]),
    Fact::new(
        "E3-determinism",
        "E.3",
        "Results are the same bits from run to run, after compiling anew, at every place of a batch \
         and in every process.",
        "GUIDE:03-numerics",
        Measured,
        High,
    )
    .tests(&["crates/cpu/tests/exact.rs::results_do_not_depend_on_the_number_of_threads", enforced!("results_repeat_bit_for_bit")]),
    Fact::new(
        "E3-across-chips",
        "E.3",
        "Chips differ by at most one unit in the last place per operation; 300 training steps end at \
         losses of 0.9080, 0.9080 and 0.9070.",
        "GUIDE:15",
        Measured,
        Medium,
    ),
    // ---- E.4 other units ----
    Fact::new(
        "E4-reduction",
        "E.4",
        "Sums over an axis do not follow the law of products, and two units exist: the relative \
         error of a sum of 4096 is 7.2242e-4 on M1 and M2, and 8.1929e-4 (M4, M5 Pro) or 8.0792e-4 \
         (M5) later.",
        "AF:bench/results/rooflines",
        Measured,
        High,
    )
    .tests(&["crates/chip/src/machine.rs::numerics_differ_where_published"]),
    Fact::new(
        "E4-reduction-first-stage",
        "E.4",
        "A sum first adds four elements with a rounding to fp16, then goes on in a wider format: \
         4096 and 1024 ones give 5116.",
        "GUIDE:03-numerics (M1); the level of errors is met within 15 to 30 %, not the bits",
        Measured,
        Low,
    )
    .tests(&["crates/cpu/src/exact.rs::reductions_lose_what_the_published_examples_lose"]),
    Fact::new(
        "E4-softmax",
        "E.4",
        "softmax subtracts the maximum; its relative error over 4096 is 1.02407e-3 on M1 and M2 and \
         1.02565e-3 on M5.",
        "AF:bench/results/rooflines",
        Measured,
        High,
    )
    .tests(&[enforced!("softmax_subtracts_the_maximum")]),
    Fact::new(
        "E4-activation-tables",
        "E.4",
        "Activation functions are tables of 33 evenly spaced knots with straight lines between them, \
         two straight tails and a clamp on either side.",
        "GUIDE:25-compression-internals, GUIDE:26",
        Derived,
        High,
    )
    .tests(&["crates/cpu/src/activation.rs::tables_have_no_gaps"]),
    Fact::new(
        "E4-sigmoid-table",
        "E.4",
        "sigmoid's knots lie at -8 to 8 in steps of 0.5, from 0.00033545 to 0.9995117, with tails \
         1.731e-4·x + 1.720e-3 and 1.524e-3·x + 0.9873 and clamps at -9.9375 and 8.3203.",
        "ALB:hwx/tinygrad/sigmoid.ane (M1), read out of the file",
        Verified,
        High,
    )
    .tests(&["crates/cpu/src/activation.rs::sigmoid_is_the_table"]),
    Fact::new(
        "E4-gelu-table",
        "E.4",
        "gelu has one table on all chips: its relative error is 2.399125839984875e-3 from M1 to M5.",
        "AF:bench/results/rooflines",
        Measured,
        High,
    ),
    Fact::new(
        "E4-activation-at-zero",
        "E.4",
        "gelu(0) = -0.000543 (AF: -0.000754) and silu(0) = -0.001259: tables do not pass through 0.",
        "GUIDE:03-numerics, AF's list of questions",
        Measured,
        Medium,
    )
    .tests(&["crates/cpu/src/activation.rs::values_at_zero_are_the_published_ones"]),
    Fact::new(
        "E4-activation-errors",
        "E.4",
        "The largest errors are 0.0034 (sigmoid), 0.0017 (tanh) and 0.0059 (gelu).",
        "GUIDE:03-numerics",
        Measured,
        High,
    )
    .tests(&["crates/cpu/src/activation.rs::largest_errors_are_the_published_ones"]),
    Fact::new(
        "E4-int8-weights",
        "E.4",
        "int8 weights are symmetric per channel; M1 unpacks them to fp16 before streaming, M2 \
         streams int8, M5 streams every packed form.",
        "GUIDE:03-numerics, AF:aneforge/_targets.py",
        Derived,
        Medium,
    ),
    // ---- E.5 training ----
    Fact::new(
        "E5-product-range",
        "E.5",
        "Training keeps its precision where single products are of the order of 1e-3 to 10 and          results stay below 3e4.",
        "follows from E1-relative-error and E2-saturation",
        Inferred,
        Medium,
    ),
    Fact::new(
        "E5-loss-scale",
        "E.5",
        "Published trainers scale the loss by 256 (MAD, RUS) or 1024 (AF).",
        "MAD:README, RUS, AF:docs/training.md",
        Asserted,
        Medium,
    ),
    Fact::new(
        "E5-power-of-two-scales",
        "E.5",
        "Scales that are powers of two are exact in fp16 in both directions.",
        "property of binary16, down to subnormal results",
        Verified,
        High,
    )
    .tests(&[enforced!("powers_of_two_scale_exactly")]),
    Fact::new(
        "E5-mask-value",
        "E.5",
        "An additive attention mask of -65504 serves as minus infinity.",
        "AF:docs/training.md",
        Measured,
        Medium,
    )
    .tests(&[enforced!("the_mask_of_minus_65504_hides_what_it_covers")]),
    Fact::new(
        "E5-stale-programs",
        "E.5",
        "NaN after resuming came from programs compiled with constants before the checkpoint was          loaded.",
        "ORI:README",
        Asserted,
        Medium,
    ),
];
