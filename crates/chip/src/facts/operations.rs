//! Facts of section B: what compiles, what fails and how, what is silently wrong.

use super::fact::{Basis::*, EACH_RULE, Fact, PROJECTS};
use crate::confidence::Confidence::*;
use crate::machine::{Chip, Generation, Os};

const EARLY: &[Generation] = &[Generation::A13, Generation::A14, Generation::A15];
const WORKED_OUT: &str = "crates/cpu/tests/explicit.rs::the_cpu_gives_what_was_worked_out";
const DIALECTS: &str = "crates/ane/tests/dialects.rs::each_computes_what_the_reference_computes";
const COMPILER: &str = "crates/ane/src/error_tests.rs::refusals_of_the_compiler";
const BUDGETS: &str = "crates/ane/src/error_tests.rs::budgets_of_a_process";
const REQUESTS: &str = "crates/ane/src/error_tests.rs::requests";
const BLOCK: &str =
    "crates/chip/tests/legal.rs::the_engine_runs_a_transformer_block_of_the_strictest_profile";

pub(super) const FACTS: &[Fact] = &[
    // ---- B.1 coverage ----
    Fact::new(
        "B1-vocabulary",
        "B.1",
        "Of 166 operations tried on M5, 97 compile and are right, 19 compile unchecked, 36 are not \
         implemented and 14 do not compile.",
        "AF:aneforge/full_mil_vocabulary_sweep.json",
        Measured,
        High,
    )
    .against(&["B1-small-vocabulary"])
    .tests(&["crates/mil/tests/roundtrip.rs::every_operation_is_in_the_test_text"]),
    Fact::new(
        "B1-windows-and-norms",
        "B.1",
        "avg_pool, max_pool, l2_pool, batch_norm, instance_norm and local_response_norm compile and are \
         right.",
        "AF:aneforge/full_mil_vocabulary_sweep.json (M5)",
        Measured,
        High,
    )
    .e5rt()
    .tests(&[WORKED_OUT, DIALECTS]),
    Fact::new(
        "B1-rearrangements",
        "B.1",
        "pixel_shuffle, pixel_unshuffle, space_to_depth, depth_to_space, space_to_batch, batch_to_space, \
         crop, flatten2d, reverse, upsample_nearest_neighbor and resize_nearest_neighbor compile and are \
         right.",
        "AF:aneforge/full_mil_vocabulary_sweep.json (M5)",
        Measured,
        High,
    )
    .e5rt()
    .tests(&[WORKED_OUT, DIALECTS]),
    Fact::new(
        "B1-other-operations",
        "B.1",
        "scaled_tanh, clamped_relu, thresholded_relu, einsum, fill, fill_like, range_1d, topk and the \
         constexpr operations of tables, blocks, masks and casts compile and are right.",
        "AF:aneforge/full_mil_vocabulary_sweep.json (M5)",
        Measured,
        High,
    )
    .e5rt()
    .tests(&[WORKED_OUT, DIALECTS]),
    Fact::new(
        "B1-einsum-equations",
        "B.1",
        "einsum is defined for nchw,nwhu->nchu and chw,whr->chr only, whatever their letters.",
        "CMT:mil/ops/defs/iOS15/linear.py",
        Derived,
        Medium,
    )
    .rules(&["ANE045"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B1-unchecked-operations",
        "B.1",
        "l2_norm, logical_not, prelu, resize, resize_bilinear, upsample_bilinear, softplus_parametric and \
         non_maximum_suppression compile; their values were not compared.",
        "AF:aneforge/full_mil_vocabulary_sweep.json (M5)",
        Measured,
        Medium,
    )
    .e5rt()
    .tests(&[WORKED_OUT]),
    Fact::new(
        "B1-small-vocabulary",
        "B.1",
        "Only products, elementwise arithmetic, sigmoid, tanh and sqrt work; reductions and movement \
         fail.",
        "IMP:ANE_TRAINING.md (M1); most likely an effect of three axes and of the binding order",
        Measured,
        Low,
    )
    .in_memory()
    .chips(&[Chip::M1])
    .option(&["B1-vocabulary"]),
    Fact::new(
        "B1-not-implemented",
        "B.1",
        "gather, scatter, cumsum, one_hot, logical_and, logical_or, logical_xor, mod, tan, acos, reduce_prod, random \
         numbers, recurrent layers and others are not implemented.",
        "AF:aneforge/full_mil_vocabulary_sweep.json",
        Measured,
        High,
    )
    .tests(&[language!("operations_not_on_the_engine_are_refused_by_name"), "crates/mil/tests/text.rs::faults_of_text"]),
    Fact::new(
        "B1-walled",
        "B.1",
        "argsort, classify, cond, while_loop, lists, conv_quantized, read_state and reshape_like do \
         not pass the compiler.",
        "AF:aneforge/full_mil_vocabulary_sweep.json",
        Measured,
        High,
    )
    .tests(&[language!("operations_not_on_the_engine_are_refused_by_name")]),
    Fact::new(
        "B1-identity",
        "B.1",
        "identity compiles and gives its input; RUS puts one on every input of every program, and \
         trained models of up to 5 billion parameters so.",
        "RUS:ops/mil.rs (M4 Max, M5 Max), ORI:mil_builder.m, ESP:ANECodegen.swift, \
         LUE:docs/ANE_COMPILATION_FIX.md",
        Measured,
        High,
    )
    .in_memory()
    .tests(&["crates/chip/tests/legal.rs::identity_is_refused_by_one_path_only"]),
    Fact::new(
        "B1-identity-e5rt",
        "B.1",
        "identity does not pass the compiler.",
        "AF:aneforge/full_mil_vocabulary_sweep.json",
        Measured,
        Medium,
    )
    .e5rt()
    .rules(&["ANE066"])
    .tests(&[EACH_RULE, "crates/chip/tests/legal.rs::identity_is_refused_by_one_path_only"]),
    Fact::new(
        "B1-trigonometry",
        "B.1",
        "sin and cos do not exist.",
        "GUIDE:appendices/a-op-device-matrix.md, AF:aneforge/_op_catalog.py",
        Derived,
        High,
    )
    .generations(&[Generation::A13, Generation::A14])
    .rules(&["ANE050"])
    .tests(&[EACH_RULE, enforced!("trigonometry_starts_with_m3_and_mirrored_padding_with_m2")]),
    Fact::new(
        "B1-reflect-padding",
        "B.1",
        "Mirrored padding does not exist.",
        "GUIDE:appendices/a-op-device-matrix.md, AF:aneforge/_op_catalog.py",
        Derived,
        High,
    )
    .generations(&[Generation::A13])
    .rules(&["ANE060"])
    .tests(&[EACH_RULE, enforced!("trigonometry_starts_with_m3_and_mirrored_padding_with_m2")]),
    Fact::new(
        "B1-gather-units",
        "B.1",
        "Units for gather, topk, sort and resample exist from M2 on, one for argmin from M3 on; MIL \
         does not reach gather.",
        "GUIDE:appendices/a-op-device-matrix.md, AF:aneforge/_op_catalog.py",
        Derived,
        Medium,
    ),
    Fact::new(
        "B1-wide-casts",
        "B.1",
        "cast to int32 is not implemented.",
        "AF:aneforge/full_mil_vocabulary_sweep.json",
        Measured,
        High,
    )
    .rules(&["ANE025"])
    .tests(&[EACH_RULE, enforced!("casts_to_wide_integers_are_refused")]),
    // ---- B.2 convolutions ----
    Fact::new(
        "B2-pointwise-convolution",
        "B.2",
        "A 1×1 convolution is the usual form of a linear layer, with a weight that is constant or \
         given at run time.",
        "all sources",
        Measured,
        High,
    )
    .tests(&[enforced!("a_linear_layer_is_a_pointwise_convolution")]),
    Fact::new(
        "B2-runtime-weight-batch",
        "B.2",
        "A convolution whose weight is given at run time needs batch 1; two batches crash the \
         compiler's service.",
        "GUIDE:19-pitfalls-and-limits, IMP, AF (dynamic_conv)",
        Measured,
        High,
    )
    .rules(&["ANE032"])
    .tests(&[EACH_RULE, enforced!("weights_given_at_run_time_need_batch_1_and_one_group")]),
    Fact::new(
        "B2-runtime-weight-groups",
        "B.2",
        "A grouped convolution whose weight is given at run time gives InvalidMILProgram.",
        "GUIDE:19-pitfalls-and-limits, IMP",
        Measured,
        High,
    )
    .rules(&["ANE033"])
    .tests(&[EACH_RULE, enforced!("weights_given_at_run_time_need_batch_1_and_one_group")]),
    Fact::new(
        "B2-output-channels",
        "B.2",
        "A convolution with 32000 output channels compiles.",
        "MAD:training/README.md, ANEGPT:README",
        Measured,
        High,
    )
    .tests(&[enforced!("convolutions_take_32000_outputs_but_not_32000_inputs")]),
    Fact::new(
        "B2-input-channels",
        "B.2",
        "A convolution with 32000 input channels does not compile; 16384 is surely accepted.",
        "MAD:training/ane_classifier.h, ANEGPT:README",
        Measured,
        Medium,
    )
    .against(&["B2-input-channels-65536"])
    .rules(&["ANE035"])
    .tests(&[EACH_RULE, enforced!("convolutions_take_32000_outputs_but_not_32000_inputs")]),
    Fact::new(
        "B2-input-channels-65536",
        "B.2",
        "A convolution takes up to 65536 input channels (lift ANE035).",
        "GUIDE",
        Derived,
        Low,
    )
    .option(&["B2-input-channels"])
    .tests(&[
        enforced!("conflicting_readings_can_be_chosen_by_name"),
        "crates/chip/tests/legal.rs::named_rules_can_be_lifted_except_those_of_the_language",
    ]),
    Fact::new(
        "B2-kernel-width-m1",
        "B.2",
        "Kernels of convolutions are at most 13 wide; their height is free.",
        "AF:aneforge/_capabilities.py",
        Measured,
        High,
    )
    .generations(&[Generation::A13])
    .rules(&["ANE031"])
    .tests(&[EACH_RULE, enforced!("kernels_are_13_wide_on_m1_and_15_elsewhere")]),
    Fact::new(
        "B2-kernel-width",
        "B.2",
        "Kernels of convolutions are at most 15 wide; their height is free.",
        "AF:aneforge/_capabilities.py, AF:docs/developer/op-quirks.md (M4, M5; M2 and M3 are given \
         the same)",
        Measured,
        High,
    )
    .generations(&[Generation::A14, Generation::A15, Generation::A16])
    .rules(&["ANE031"])
    .tests(&[EACH_RULE, enforced!("kernels_are_13_wide_on_m1_and_15_elsewhere"), COMPILER]),
    // ---- B.2 products ----
    Fact::new(
        "B2-product-with-constant",
        "B.2",
        "A product may have a constant operand.",
        "MAD (backward of the classifier), AF (all linear layers)",
        Measured,
        High,
    )
    .against(&["B2-product-of-inputs-only"])
    .tests(&[enforced!("products_may_have_a_constant_operand")]),
    Fact::new(
        "B2-product-of-inputs-only",
        "B.2",
        "A product with a constant operand gives InvalidMILProgram.",
        "IMP, LUE",
        Measured,
        Low,
    )
    .in_memory()
    .option(&["B2-product-with-constant"]),
    Fact::new(
        "B2-product-over-vocabulary",
        "B.2",
        "A product over 32000 inner elements compiles where a convolution of so many channels does \
         not.",
        "MAD:training/ane_classifier.h",
        Measured,
        High,
    )
    .generations(&[Generation::A16])
    .tests(&[enforced!("products_take_an_inner_extent_of_32000_from_m4_on")]),
    Fact::new(
        "B2-inner-extent",
        "B.2",
        "A product may have any inner extent.",
        "AF",
        Measured,
        Medium,
    )
    .against(&["B2-inner-extent-m1"])
    .rules(&["ANE043"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-inner-extent-m1",
        "B.2",
        "A product whose inner extent is not a multiple of 32 gives zeros.",
        "IMP:ANE_TRAINING.md",
        Measured,
        Low,
    )
    .chips(&[Chip::M1])
    .in_memory()
    .option(&["B2-inner-extent"])
    .rules(&["ANE043"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-product-extent",
        "B.2",
        "Axes of products end at 16384, as those of any tensor.",
        "GUIDE:24-hal-gates, AF:docs, LARQL#312",
        Measured,
        High,
    )
    .generations(EARLY)
    .rules(&["ANE012"])
    .tests(&[enforced!("products_take_an_inner_extent_of_32000_from_m4_on")]),
    Fact::new(
        "B2-linear-rank",
        "B.2",
        "linear takes at most four axes: `ANE cannot support Linear with input rank >= 5`.",
        "GUIDE:17, 22",
        Derived,
        High,
    )
    .rules(&["ANE042"])
    .tests(&[EACH_RULE, enforced!("products_and_linear_have_at_most_four_axes")]),
    Fact::new(
        "B2-product-before-hardswish",
        "B.2",
        "A product of two axes that feeds hardswish is wrong by 3.9 % unless it has four axes.",
        "apple/coreai-torch#51",
        Measured,
        Low,
    ),
    Fact::new(
        "B2-transposed-product",
        "B.2",
        "Two cases of a transpose that feeds a product gave infinity where the terms add up to 17321.",
        "AF#115 (open)",
        Measured,
        Low,
    )
    .chips(&[Chip::M5, Chip::M5Pro, Chip::M5Max]),
    // ---- B.2 softmax and attention ----
    Fact::new(
        "B2-softmax",
        "B.2",
        "softmax takes any extent, 32000 included.",
        "MAD:training/ane_classifier.h, AF",
        Measured,
        High,
    )
    .against(&["B2-softmax-power-of-two"])
    .tests(&[enforced!("softmax_takes_32000_elements")]),
    Fact::new(
        "B2-softmax-power-of-two",
        "B.2",
        "softmax over an extent that is not a power of two gives InvalidMILProgram.",
        "ESP (M3 Max, macOS 15), HOL#44",
        Measured,
        Low,
    )
    .generations(&[Generation::A15])
    .in_memory()
    .os(Os::MacOs15)
    .option(&["B2-softmax"])
    .rules(&["ANE044"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-attention-mask",
        "B.2",
        "scaled_dot_product_attention ignores attn_mask without a word.",
        "MAD:README, ORI #6, AF:docs/developer/op-quirks.md",
        Measured,
        High,
    )
    .rules(&["ANE041"])
    .tests(&[EACH_RULE, enforced!("a_mask_inside_attention_is_refused_and_one_outside_accepted")]),
    Fact::new(
        "B2-decomposed-attention",
        "B.2",
        "Attention written as product, mask, softmax and product compiles in one program.",
        "MAD:training_dynamic/mil_dynamic.h",
        Measured,
        High,
    )
    .tests(&[
        enforced!("a_mask_inside_attention_is_refused_and_one_outside_accepted"),
        BLOCK,
    ]),
    Fact::new(
        "B2-hidden-attention-layer",
        "B.2",
        "A hidden attention layer takes a mask; it needs SubtractMax and fails beyond 2048 tokens.",
        "AF:docs/developer/op-quirks.md",
        Measured,
        Medium,
    )
    .e5rt(),
    // ---- B.2 movement ----
    Fact::new(
        "B2-concat",
        "B.2",
        "concat works along channels and width.",
        "MAD (axes 1 and 3; M4, M5), ESP (12 parts, M3 Max), RUS (M4 Max), AF",
        Measured,
        High,
    )
    .against(&["B2-concat-refused"])
    .tests(&["crates/chip/tests/legal.rs::the_kernels_of_a_model_keep_the_rules", PROJECTS]),
    Fact::new(
        "B2-concat-refused",
        "B.2",
        "concat is refused.",
        "ORI:docs/ane_constraints.md #1 (seven programs, M4 Max); most likely written without interleave",
        Measured,
        Low,
    )
    .in_memory()
    .os(Os::MacOs15)
    .option(&["B2-concat"]),
    Fact::new(
        "B2-concat-axis",
        "B.2",
        "concat needs a positive axis: `ANE Concat supports only supports const positive axis`.",
        "GUIDE:17, 22 (text in the compiler)",
        Derived,
        Medium,
    )
    .rules(&["ANE065"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-width-joins-m3-ultra",
        "B.2",
        "Slices and concat along the width are refused in a rotary embedding.",
        "RUS#9 (the same works on M4 Max)",
        Measured,
        Medium,
    )
    .chips(&[Chip::M3Ultra])
    .rules(&["ANE064"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-slices-of-inputs",
        "B.2",
        "Slices of inputs, a norm, convolutions and attention in one program give InvalidMILProgram.",
        "ESP (M3 Max)",
        Measured,
        Low,
    )
    .generations(&[Generation::A15])
    .in_memory(),
    Fact::new(
        "B2-channel-padding",
        "B.2",
        "pad along channels may be refused: `Channel padding is not supported on ANE`.",
        "GUIDE:17, 22 (text in the compiler)",
        Derived,
        Low,
    )
    .rules(&["ANE061"])
    .tests(&[EACH_RULE]),
    // ---- B.2 arithmetic ----
    Fact::new(
        "B2-reduce-mean",
        "B.2",
        "reduce_mean works, with an error of 8e-4.",
        "AF:aneforge/full_mil_vocabulary_sweep.json",
        Measured,
        High,
    )
    .against(&["B2-reduce-mean-missing"])
    .tests(&["crates/cpu/tests/operations.rs::reductions", BLOCK]),
    Fact::new(
        "B2-reduce-mean-missing",
        "B.2",
        "reduce_mean does not exist.",
        "ESP",
        Measured,
        Low,
    )
    .in_memory()
    .option(&["B2-reduce-mean"]),
    Fact::new(
        "B2-root-of-reduction",
        "B.2",
        "rsqrt with an epsilon works on the result of a reduction.",
        "AF (inside layer_norm)",
        Measured,
        Medium,
    )
    .against(&["B2-root-of-reduction-refused"])
    .rules(&["ANE058"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-root-of-reduction-refused",
        "B.2",
        "rsqrt and sqrt of a reduction do not compile.",
        "ESP, RUS, LUE, IMP; most likely written without epsilon",
        Measured,
        Low,
    )
    .in_memory()
    .os(Os::MacOs15)
    .option(&["B2-root-of-reduction"])
    .rules(&["ANE058"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-power",
        "B.2",
        "pow(x, -0.5) works.",
        "MAD, ESP, RUS",
        Measured,
        High,
    )
    .against(&["B2-power-missing"])
    .tests(&[BLOCK]),
    Fact::new(
        "B2-power-missing",
        "B.2",
        "pow does not exist.",
        "IMP, LUE",
        Measured,
        Low,
    )
    .in_memory()
    .option(&["B2-power"]),
    Fact::new(
        "B2-wide-norm",
        "B.2",
        "layer_norm with a gain or offset over 1024 or more elements fails in ANECCompile().",
        "AF#149, #159, #162 (in AF's own decomposition)",
        Measured,
        Medium,
    )
    .generations(&[Generation::A13, Generation::A14])
    .rules(&["ANE056"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-wide-norm-m5",
        "B.2",
        "layer_norm with gain and offset over 10240 or more elements fails when it runs, depending on \
         the values.",
        "AF#201",
        Measured,
        Medium,
    )
    .chips(&[Chip::M5, Chip::M5Pro, Chip::M5Max])
    .rules(&["ANE056"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-square",
        "B.2",
        "square next to a nonlinearity fails where the width modulo 128 is above 64.",
        "AF:aneforge/_compile.py",
        Measured,
        Medium,
    )
    .rules(&["ANE051"])
    .tests(&[EACH_RULE, enforced!("square_fails_beside_a_nonlinearity_at_some_widths")]),
    Fact::new(
        "B2-zeroed-reduction",
        "B.2",
        "A reduction multiplied by 0 fails in ANECCompile().",
        "AF:aneforge/_compile.py, AF#116 (M5)",
        Measured,
        Medium,
    )
    .rules(&["ANE054"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-scaled-rounding",
        "B.2",
        "A scalar factor next to floor, ceil or round is lost without a word.",
        "AF:aneforge/_compile.py, AF#112",
        Measured,
        Medium,
    )
    .rules(&["ANE053"])
    .tests(&[EACH_RULE, enforced!("what_is_silently_wrong_is_refused")]),
    Fact::new(
        "B2-embedding",
        "B.2",
        "Looking up rows belongs on the CPU, or is a product with a one-hot matrix.",
        "AF:aneforge/full_mil_vocabulary_sweep.json, GUIDE app. A",
        Measured,
        High,
    )
    .tests(&["crates/ane/src/error_tests.rs::our_own"]),
    Fact::new(
        "B2-quantised-weights",
        "B.2",
        "quantize, dequantize and constexpr_affine_dequantize compile.",
        "MAD:ane_int8_bench.m, AF, MLXF:int8.md (M4, M5)",
        Measured,
        High,
    )
    .against(&["B2-quantised-weights-m3"])
    .tests(&["crates/cpu/tests/operations.rs::quantisation", PROJECTS]),
    Fact::new(
        "B2-blockwise-weights",
        "B.2",
        "constexpr_blockwise_shift_scale is refused in memory; Core ML places what uses it on the GPU.",
        "MLXF:int4.md, LM:README",
        Measured,
        Medium,
    )
    .in_memory(),
    Fact::new(
        "B2-quantised-weights-m3",
        "B.2",
        "Quantised weights give InvalidMILProgram. The one probe that saw it wrote arguments in place \
         of attributes, and the offset of the data in place of the record's; either alone explains it.",
        "ESP:GenerationHarnessHardwareTests.swift (M3 Max)",
        Measured,
        Low,
    )
    .generations(&[Generation::A15])
    .in_memory()
    .os(Os::MacOs15)
    .option(&["B2-quantised-weights"]),
    Fact::new(
        "B2-constexpr-attributes",
        "B.2",
        "constexpr_affine_dequantize takes its data as attributes, `()[quantized_data = …]`; given as \
         arguments the program is InvalidMILProgram. So do all constexpr operations of iOS 16 and 17.",
        "LM:README, LM:core/ane_runtime.cpp, CMT:converters/mil/backend/mil/load.py, \
         MAD:ane_int8_bench.m (M4), AF:aneforge/_compile.py (M5)",
        Measured,
        High,
    )
    .rules(&["ANE028"])
    .tests(&[EACH_RULE, "crates/ane/tests/dialects.rs::constexpr_arguments_are_refused_and_mended"]),
    Fact::new(
        "B2-constexpr-arguments",
        "B.2",
        "The constexpr operations of iOS 18 take their data as arguments, named or in place.",
        "CMT:converters/mil/backend/mil/load.py",
        Derived,
        Medium,
    )
    .rules(&["ANE029"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-lut-weights",
        "B.2",
        "constexpr_lut_to_dense with a table of 16 entries compiles and runs; the file is 15.9 % of the \
         fp16 one.",
        "MLXF, AF:aneforge/full_mil_vocabulary_sweep.json (M5, by e5rt)",
        Measured,
        Medium,
    )
    .against(&["B2-lut-weights-refused"])
    .tests(&["crates/mil/tests/explicit.rs::the_interpreter_gives_what_was_worked_out"]),
    Fact::new(
        "B2-lut-weights-refused",
        "B.2",
        "constexpr_lut_to_dense is refused.",
        "RIN (M5 Max)",
        Measured,
        Low,
    )
    .chips(&[Chip::M5Max])
    .in_memory()
    .option(&["B2-lut-weights"]),
    Fact::new(
        "B2-broadcast-of-three-axes",
        "B.2",
        "Broadcasts work with any number of axes.",
        "MAD broadcasts [1, C, 1, 1]; AF",
        Measured,
        Medium,
    )
    .against(&["B2-broadcast-of-three-axes-m1"])
    .rules(&["ANE057"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-broadcast-of-three-axes-m1",
        "B.2",
        "A product of [1, C, S] and [1, C, 1] is zero, one by [1, 1, 1] wrong; [1, A, B] by [1, 1, B] is \
         right where the large one is bound first.",
        "IMP:ANE_TRAINING.md (Broadcast Rules)",
        Measured,
        Low,
    )
    .chips(&[Chip::M1])
    .in_memory()
    .option(&["B2-broadcast-of-three-axes"])
    .rules(&["ANE057"])
    .tests(&[EACH_RULE, PROJECTS]),
    Fact::new(
        "B2-root-in-a-broadcast",
        "B.2",
        "A square root that is broadcast reaches the first channel only; sqrt(A) / B gives B / sqrt(A).",
        "IMP:ANE_TRAINING.md (The sqrt Bug)",
        Measured,
        Medium,
    )
    .chips(&[Chip::M1])
    .in_memory()
    .rules(&["ANE057", "ANE059"])
    .tests(&[EACH_RULE, PROJECTS]),
    Fact::new(
        "B2-tile-spoils-the-process",
        "B.2",
        "After a program with tile has run, every request of the process fails with status 0x1d.",
        "SKY:README (M3 Max, macOS 26.3; with add, with mul, and unused)",
        Measured,
        Medium,
    )
    .in_memory()
    .rules(&["ANE067"])
    .tests(&[EACH_RULE, PROJECTS]),
    Fact::new(
        "B2-batch-products",
        "B.2",
        "mul that broadcasts batches was wrong beside other operations, right alone; add was right.",
        "SKY:README (M3 Max); most likely an effect of B2-tile-spoils-the-process",
        Measured,
        Low,
    )
    .generations(&[Generation::A15])
    .in_memory(),
    Fact::new(
        "B2-runtime-weights-ignored",
        "B.2",
        "conv with a weight given at run time compiles, and the weight is not read.",
        "SKY:README (M3 Max)",
        Measured,
        Low,
    )
    .generations(&[Generation::A15])
    .in_memory(),
    Fact::new(
        "B2-long-elementwise",
        "B.2",
        "Elementwise operations on more than 16384 elements hang or give zeros.",
        "IMP:ANE_TRAINING.md, alone",
        Measured,
        Low,
    )
    .chips(&[Chip::M1])
    .in_memory(),
    Fact::new(
        "B2-argmin",
        "B.2",
        "argmin and argmax take axes of at most 2048.",
        "AF:aneforge/_capabilities.py",
        Measured,
        Medium,
    )
    .tests(&[language!("operations_not_on_the_engine_are_refused_by_name")]),
    Fact::new(
        "B2-topk",
        "B.2",
        "topk fails for k of 3 and 4.",
        "AF:docs/developer/op-quirks.md",
        Measured,
        Medium,
    )
    .rules(&["ANE068"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "B2-local-response",
        "B.2",
        "Local response norms take at most 15 channels.",
        "AF:aneforge/_capabilities.py",
        Measured,
        Medium,
    )
    .rules(&["ANE069"])
    .tests(&[EACH_RULE]),
    // ---- B.3 words of the machine ----
    Fact::new(
        "B3-invalid-program",
        "B.3",
        "An invalid program is reported in the domain com.apple.appleneuralengine.compiler with code \
         1, `_ANECompiler : ANECCompile() FAILED`, err=( InvalidMILProgram ).",
        "MAD#6, MAD#42, ORI, ESP",
        Measured,
        High,
    )
    .in_memory()
    .tests(&["crates/ane/tests/errors.rs::validity_failures_in_memory", COMPILER]),
    Fact::new(
        "B3-compilation-failure",
        "B.3",
        "A program that fails in code generation is reported alike, with err=( CompilationFailure ).",
        "AF#149, ESP#18",
        Measured,
        High,
    )
    .in_memory()
    .tests(&["crates/ane/tests/errors.rs::codegen_failures_in_memory_and_by_e5rt", COMPILER, BUDGETS]),
    Fact::new(
        "B3-e5rt-failure",
        "B.3",
        "`MILCompilerForANE error: failed to compile ANE model using ANEF. Error=_ANECompiler : \
         ANECCompile() FAILED (11)`.",
        "AF#149, CMT#2247",
        Measured,
        High,
    )
    .e5rt()
    .tests(&["crates/ane/tests/errors.rs::codegen_failures_in_memory_and_by_e5rt", COMPILER]),
    Fact::new(
        "B3-espresso-serialise",
        "B.3",
        "Small layers of the older form of models fail with `Cannot serialize ANEC_IR_repr`.",
        "TMC:training/ESPRESSO_FORMAT.md",
        Measured,
        Medium,
    ),
    Fact::new(
        "B3-request-0x1d",
        "B.3",
        "Wrong sizes or numbers of surfaces give code 8, status=0x1d, statusType=0x9, `Program \
         Inference error`.",
        "ORI #2, #4, #12, MAD:README, ESP",
        Measured,
        High,
    )
    .in_memory()
    .rules(&["ANE080", "ANE081", "ANE082"])
    .tests(&["crates/ane/tests/errors.rs::requests_with_wrong_surfaces_end_in_0x1d", REQUESTS, "crates/ane/tests/emulator.rs::engine_rules_in_fast"]),
    Fact::new(
        "B3-request-0x2",
        "B.3",
        "A wrong procedure or symbol, or a bank that is too large, gives status=0x2.",
        "INF §2, OMLX#2940",
        Measured,
        High,
    )
    .in_memory()
    .tests(&["crates/ane/tests/errors.rs::requests_with_a_wrong_procedure_or_symbol_end_in_0x2", REQUESTS]),
    Fact::new(
        "B3-request-0x16",
        "B.3",
        "Core ML models for pictures give status=0x16 on macOS 14.",
        "InvokeAI#4356",
        Measured,
        Low,
    ),
    Fact::new(
        "B3-timeout",
        "B.3",
        "A request that takes too long gives code 3, status=0xf, statusType=0x11, `Program Inference \
         timeout: timed out`.",
        "pytorch#110975",
        Measured,
        High,
    )
    .tests(&["crates/ane/tests/errors.rs::a_request_that_never_ends_is_timed_out", "crates/ane/tests/faults.rs::b3_a_hang_ends_in_a_timeout", REQUESTS]),
    Fact::new(
        "B3-load-0x20004",
        "B.3",
        "A program larger than the address window gives code 6, `Program load failure (0x20004)`.",
        "OMLX#2781, #2874",
        Measured,
        High,
    )
    .rules(&["ANE014"])
    .tests(&["crates/ane/tests/errors.rs::a_bank_of_constants_too_large_to_load", "crates/ane/tests/faults.rs::b3_loads_are_refused", BUDGETS]),
    Fact::new(
        "B3-load-0x50004",
        "B.3",
        "Programs that were never released end in `Program load failure (0x50004)`.",
        "ANEGPT:README, alone",
        Measured,
        Medium,
    )
    .in_memory()
    .rules(&["ANE084"])
    .tests(&["crates/ane/tests/errors.rs::leaked_programs_end_in_0x50004", BUDGETS]),
    Fact::new(
        "B3-must-recompile",
        "B.3",
        "The 129th program fails with `GetANEFModel: must re-compile`.",
        "AF, MID",
        Measured,
        High,
    )
    .e5rt()
    .rules(&["ANE084"])
    .tests(&["crates/ane/tests/errors.rs::the_129th_loaded_program", BUDGETS]),
    Fact::new(
        "B3-chaining",
        "B.3",
        "Chaining gives code 15, `ANEProgramChainingPrepare() Failed`.",
        "MAD#40, INF",
        Measured,
        High,
    )
    .in_memory()
    .tests(&[REQUESTS]),
    Fact::new(
        "B3-surface-map",
        "B.3",
        "Surfaces that cannot be mapped give error 13.",
        "INF:HANDOVER",
        Measured,
        Medium,
    )
    .in_memory()
    .tests(&[REQUESTS]),
    Fact::new(
        "B3-bundle",
        "B.3",
        "verifyBundleAtPath reports an invalid model with code 10 on macOS 27.",
        "OMLX#3124",
        Measured,
        Medium,
    )
    .tests(&[BUDGETS]),
    Fact::new(
        "B3-kernel-codes",
        "B.3",
        "The driver gives 0xe00002e2 for unsigned programs, 0xe00002c7 for a missing entitlement and \
         0xe00002c2 for a bad argument.",
        "GUIDE:27-kernel-driver, GUIDE:32-security",
        Derived,
        Medium,
    ),
    Fact::new(
        "B3-validator-words",
        "B.3",
        "The validator's own words for kernels, groups, products, concat, padding and ranks stand in \
         the reasons of the rules.",
        "GUIDE:17, 22",
        Derived,
        High,
    )
    .tests(&["crates/ane/tests/errors.rs::validators_write_to_the_log", enforced!("rules_quote_the_validator")]),
];
