//! Facts of section A: the text of programs and the files of weights.

use super::fact::{Basis::*, EACH_RULE, Fact, PROJECTS};
use crate::confidence::Confidence::*;
use crate::machine::{Chip, Generation, Os};

const M1_M2: &[Generation] = &[Generation::A13, Generation::A14];
const DIALECTS: &str = "crates/mil/tests/text.rs::every_dialect_is_read_and_printed_back";
const PUBLISHED: &str = "crates/chip/tests/legal.rs::published_forms_are_judged_as_reported";
const FAULTS: &str = "crates/mil/tests/text.rs::faults_of_text";
const FRAME: &str = "crates/mil/tests/text.rs::faults_of_the_frame";
const WEIGHT_FILES: &str = "crates/ane/tests/projects.rs::weight_files_are_judged_by_the_machine";

pub(super) const FACTS: &[Fact] = &[
    // ---- A.1 skeleton ----
    Fact::new(
        "A1-header",
        "A.1",
        "A program is `program(1.3)`, an optional dictionary buildInfo, and functions in braces.",
        "MAD:training/ane_mil_gen.h, ORI:compiler/codegen.m",
        Measured,
        High,
    )
    .tests(&[DIALECTS, language!("the_header_is_not_checked_strictly")]),
    Fact::new(
        "A1-build-info",
        "A.1",
        "The content of buildInfo is not checked: two keys do, other version numbers do.",
        "AF:aneforge/_compile.py, AF:docs/mil-primer.md",
        Measured,
        High,
    )
    .tests(&[language!("the_header_is_not_checked_strictly")]),
    Fact::new(
        "A1-build-info-required",
        "A.1",
        "Without buildInfo and its `coremlc-version` the parser fails; the version does not matter.",
        "SKY:README (M3 Max, macOS 26.3)",
        Measured,
        Medium,
    )
    .in_memory()
    .rules(&["ANE007"])
    .tests(&[EACH_RULE, PROJECTS]),
    Fact::new(
        "A1-build-info-on-one-line",
        "A.1",
        "The parser rejects a line break inside buildInfo.",
        "ELA:docs/MIL-CONSTRAINTS.md (M5, macOS 26.5)",
        Measured,
        Medium,
    )
    .in_memory()
    .rules(&["ANE008"])
    .tests(&["crates/ane/tests/projects.rs::a_build_info_on_two_lines_is_told"]),
    Fact::new(
        "A1-older-header",
        "A.1",
        "program(1.0) for ios16 with long constants is what compiles on M1 and M2.",
        "MAD#6",
        Measured,
        Medium,
    )
    .generations(M1_M2)
    .in_memory()
    .against(&["A1-newer-header-on-m1"])
    .rules(&["ANE005"])
    .tests(&[EACH_RULE, language!("the_header_is_not_checked_strictly")]),
    Fact::new(
        "A1-newer-header-on-m1",
        "A.1",
        "program(1.3) compiles on M1 and M2 too, with a newer system: the parser belongs to the \
         system.",
        "MAD#28",
        Measured,
        Medium,
    )
    .generations(M1_M2)
    .in_memory()
    .option(&["A1-older-header"]),
    Fact::new(
        "A1-opsets",
        "A.1",
        "Functions are written for ios16, ios17 or ios18.",
        "MAD#6, MAD#35, INF:docs/ane-internals.md",
        Measured,
        High,
    )
    .tests(&[language!("operation_sets_and_function_names_are_free")]),
    Fact::new(
        "A1-function-names",
        "A.1",
        "A function may have any name, and a program several functions.",
        "INF:docs/ane-internals.md",
        Measured,
        High,
    )
    .tests(&[language!("operation_sets_and_function_names_are_free"), DIALECTS]),
    Fact::new(
        "A1-h13-and-later",
        "A.1",
        "MIL is supported from the architecture H13 (M1) on.",
        "GUIDE:22-compiler (text in the compiler)",
        Derived,
        High,
    ),
    // ---- A.2 grammar ----
    Fact::new(
        "A2-statements",
        "A.2",
        "A statement is types and names, `=`, an operation with named arguments, and attributes in \
         brackets; the order of arguments is free.",
        "MAD:training/ane_mil_gen.h, AF:aneforge/_compile.py, ORI:compiler/codegen.m",
        Measured,
        High,
    )
    .tests(&["crates/ane/tests/dialects.rs::each_has_one_canonical_text", DIALECTS]),
    Fact::new(
        "A2-two-forms-of-constants",
        "A.2",
        "`string(\"x\")` and `tensor<string, []>(\"x\")` are the same constant.",
        "MAD#6",
        Measured,
        High,
    )
    .tests(&[language!("both_forms_of_constants_are_one_program"), DIALECTS, PUBLISHED]),
    Fact::new(
        "A2-long-constants",
        "A.2",
        "The parsers of M1's and M2's time need the long form of constants.",
        "MAD#6",
        Measured,
        Medium,
    )
    .generations(M1_M2)
    .in_memory()
    .rules(&["ANE005"])
    .tests(&[EACH_RULE, enforced!("the_older_text_has_long_constants")]),
    Fact::new(
        "A2-white-space",
        "A.2",
        "White space means nothing.",
        "AF:aneforge/_compile.py writes `axes=` and `axes = ` in one program",
        Measured,
        High,
    )
    .against(&["A2-white-space-matters"])
    .tests(&[language!("white_space_means_nothing"), DIALECTS]),
    Fact::new(
        "A2-white-space-matters",
        "A.2",
        "Spaces around `=` are needed.",
        "LUE",
        Asserted,
        Low,
    )
    .option(&["A2-white-space"]),
    Fact::new(
        "A2-typed-literals",
        "A.2",
        "A literal with its type may stand in place of an argument: `transpose_x = bool(false)`.",
        "AF:aneforge/_compile.py (by e5rt)",
        Measured,
        Medium,
    )
    .against(&["A2-named-constants-only"])
    .rules(&["ANE006"])
    .tests(&[EACH_RULE, language!("literals_in_place_need_a_type"), PUBLISHED]),
    Fact::new(
        "A2-named-constants-only",
        "A.2",
        "Arguments must be names: literals in place give InvalidMILProgram.",
        "ORI:README, LUE (in memory)",
        Measured,
        Low,
    )
    .in_memory()
    .option(&["A2-typed-literals"]),
    Fact::new(
        "A2-bare-literals",
        "A.2",
        "A literal without a type, such as `transpose_x = false`, is refused.",
        "ORI:README",
        Measured,
        High,
    )
    .tests(&[language!("literals_in_place_need_a_type"), FAULTS]),
    Fact::new(
        "A2-name-attribute",
        "A.2",
        "Every generator writes the attribute `name`; whether it may be left out was not tested, and \
         it is read without.",
        "MAD, ORI, AF",
        Derived,
        Medium,
    )
    .tests(&[language!("the_name_attribute_may_be_left_out")]),
    Fact::new(
        "A2-unique-names",
        "A.2",
        "Names are unique in a function.",
        "ORI:README",
        Measured,
        High,
    )
    .rules(&["ANE002"])
    .tests(&[EACH_RULE, FAULTS]),
    Fact::new(
        "A2-dead-output",
        "A.2",
        "A returned name that nothing defines gives InvalidMILProgram.",
        "ORI:README",
        Measured,
        High,
    )
    .rules(&["ANE003"])
    .tests(&[EACH_RULE, language!("a_dead_output_and_an_empty_body_are_refused")]),
    Fact::new(
        "A2-returned-once",
        "A.2",
        "One value cannot be two outputs, because surfaces are bound by name.",
        "follows from C1-alphabetical",
        Inferred,
        Medium,
    )
    .rules(&["ANE003"])
    .tests(&[FRAME]),
    Fact::new(
        "A2-free-names",
        "A.2",
        "No name is reserved.",
        "programs of MAD, AF and ORI use x, y, c, mul, mean",
        Measured,
        High,
    )
    .against(&["A2-reserved-names"])
    .tests(&[language!("names_that_one_source_forbids_are_read")]),
    Fact::new(
        "A2-reserved-names",
        "A.2",
        "var, diff, mean, std, eps, x, y, mul, add, rsqrt, c and C break programs without a word.",
        "IMP:ANE_TRAINING.md; most likely an effect of C1-alphabetical",
        Asserted,
        Low,
    )
    .option(&["A2-free-names"]),
    Fact::new(
        "A2-convolution-bias",
        "A.2",
        "conv takes a constant bias of shape [C].",
        "ncdrone/ane:crates/ane/src/ops/mil.rs (in memory), 751K:data/03_compile/hwx/model.mil (by Apple's \
         tools, compiled for h16g, h17s, h18, h18g and h19), JSW (three models captured by e5rt)",
        Measured,
        Medium,
    )
    .option(&["A2-convolution-without-bias"])
    .rules(&["ANE034"]),
    Fact::new(
        "A2-convolution-without-bias",
        "A.2",
        "conv takes no bias; it is added as [1, C, 1, 1].",
        "ORI:README; AF adds it apart",
        Measured,
        Low,
    )
    .in_memory()
    .against(&["A2-convolution-bias"])
    .rules(&["ANE034"])
    .tests(&[EACH_RULE, PROJECTS]),
    Fact::new(
        "A2-constant-bias",
        "A.2",
        "The bias of a convolution is a constant.",
        "CMT:coremltools/converters/mil/mil/ops/defs/iOS15/conv.py",
        Derived,
        Medium,
    )
    .rules(&["ANE036"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "A2-unused-columns",
        "A.2",
        "A part of a program that no output depends on and that ends in width 1 makes the whole program \
         fail to compile.",
        "ELA:docs/MIL-CONSTRAINTS.md (M5, macOS 26.5)",
        Measured,
        Medium,
    )
    .in_memory()
    .os(Os::MacOs26)
    .chips(&[Chip::M5, Chip::M5Pro, Chip::M5Max])
    .rules(&["ANE009"])
    .tests(&[EACH_RULE, PROJECTS]),
    Fact::new(
        "A2-required-arguments",
        "A.2",
        "concat needs axis, interleave and values; gelu needs mode; log, rsqrt and inverse need \
         epsilon.",
        "AF:aneforge/_compile.py, AF:docs/mil-primer.md",
        Measured,
        High,
    )
    .against(&["A2-gelu-missing"])
    .rules(&["ANE001"])
    .tests(&[EACH_RULE, language!("arguments_without_a_default_are_required")]),
    Fact::new(
        "A2-gelu-missing",
        "A.2",
        "gelu does not exist.",
        "ORI; most likely written without mode",
        Measured,
        Low,
    )
    .in_memory()
    .option(&["A2-required-arguments"]),
    Fact::new(
        "A2-comparisons",
        "A.2",
        "Comparisons give tensors of bool.",
        "AF:aneforge/_compile.py",
        Measured,
        High,
    )
    .rules(&["ANE001"])
    .tests(&[language!("comparisons_give_truth_values")]),
    Fact::new(
        "A2-several-results",
        "A.2",
        "split declares one type and name per part.",
        "AF:aneforge/_compile.py",
        Measured,
        High,
    )
    .tests(&[language!("statements_may_have_several_results")]),
    Fact::new(
        "A2-hexadecimal-floats",
        "A.2",
        "Floats may be decimal or hexadecimal, 0.125 or 0x1p-3.",
        "AF:aneforge/_compile.py (float.hex)",
        Measured,
        High,
    )
    .tests(&[language!("floats_may_be_hexadecimal")]),
    Fact::new(
        "A2-empty-body",
        "A.2",
        "A function that returns a parameter as it is crashes the front end: `unordered_map::at: key \
         not found`.",
        "AF#116, AF:aneforge/_compile.py",
        Measured,
        High,
    )
    .rules(&["ANE004"])
    .tests(&[EACH_RULE, FRAME, language!("a_dead_output_and_an_empty_body_are_refused")]),
    Fact::new(
        "A2-flexible-extents",
        "A.2",
        "Symbolic and flexible extents are parsed and do not lower.",
        "GUIDE:08-entitlement-boundary, AF:docs/mil-primer.md",
        Measured,
        High,
    )
    .tests(&[FAULTS, language!("states_and_flexible_extents_are_refused")]),
    Fact::new(
        "A2-states",
        "A.2",
        "State, read_state and coreml_update_state are parsed and do not lower.",
        "GUIDE:08-entitlement-boundary, AF:docs/mil-primer.md",
        Measured,
        Medium,
    )
    .against(&["A2-native-states"])
    .tests(&[FAULTS, language!("states_and_flexible_extents_are_refused")]),
    Fact::new(
        "A2-native-states",
        "A.2",
        "read_state and write_state run on the engine.",
        "GUIDE:appendices/a-op-device-matrix.md",
        Asserted,
        Low,
    )
    .option(&["A2-states"]),
    // ---- A.3 types ----
    Fact::new(
        "A3-ports-in-memory",
        "A.3",
        "Ports are fp16 or fp32; fp32 is converted inside by cast.",
        "MAD:inmem_peak.m, MAD:training/ane_mil_gen.h",
        Measured,
        High,
    )
    .in_memory()
    .rules(&["ANE020"])
    .tests(&[EACH_RULE, enforced!("ports_in_memory_are_floats")]),
    Fact::new(
        "A3-no-float-cast",
        "A.3",
        "There is no conversion between fp32 and fp16, so that ports are fp16.",
        "MAD#6",
        Measured,
        High,
    )
    .generations(M1_M2)
    .rules(&["ANE021", "ANE024"])
    .tests(&[EACH_RULE, PUBLISHED, enforced!("m1_and_m2_do_not_convert_floats")]),
    Fact::new(
        "A3-arithmetic-in-fp16",
        "A.3",
        "Programs known to work compute in fp16 and use fp32 for casts at ports only.",
        "MAD:training/ane_mil_gen.h; what fp32 inside gives is not published",
        Inferred,
        Medium,
    )
    .rules(&["ANE026"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "A3-ports-e5rt",
        "A.3",
        "Ports of fp32, int32, bool and bf16 are refused.",
        "AF:docs/mil-primer.md",
        Measured,
        High,
    )
    .e5rt()
    .rules(&["ANE022"])
    .tests(&[EACH_RULE, enforced!("ports_by_e5rt_are_fp16_or_uint8")]),
    Fact::new(
        "A3-integer-ports",
        "A.3",
        "Of the integers only uint8 may be a port.",
        "GUIDE ch. 4",
        Asserted,
        Low,
    )
    .e5rt()
    .against(&["A3-small-integer-ports"])
    .rules(&["ANE023"])
    .tests(&[EACH_RULE, enforced!("ports_by_e5rt_are_fp16_or_uint8")]),
    Fact::new(
        "A3-small-integer-ports",
        "A.3",
        "int8, int16 and uint16 may be ports (lift ANE023).",
        "AF:docs/mil-primer.md",
        Measured,
        Medium,
    )
    .e5rt()
    .option(&["A3-integer-ports"])
    .tests(&[enforced!("conflicting_readings_can_be_chosen_by_name")]),
    Fact::new(
        "A3-rank",
        "A.3",
        "Tensors have at most five axes, intermediate ones included.",
        "AF:docs/mil-primer.md, GUIDE:22-compiler (`Rank … must be between 0 and 5`)",
        Measured,
        High,
    )
    .rules(&["ANE010"])
    .tests(&[EACH_RULE, enforced!("tensors_have_at_most_five_axes")]),
    Fact::new(
        "A3-convolution-rank",
        "A.3",
        "Convolutions need four axes.",
        "AF:docs/mil-primer.md, GUIDE:22-compiler",
        Measured,
        High,
    )
    .rules(&["ANE030"])
    .tests(&[EACH_RULE]),
    Fact::new(
        "A3-product-rank",
        "A.3",
        "Batched products of five axes are refused: `Some ops are not supported on any of the \
         specified backends`.",
        "AF:docs/developer/op-quirks.md",
        Measured,
        High,
    )
    .rules(&["ANE040"])
    .tests(&[EACH_RULE, enforced!("products_and_linear_have_at_most_four_axes")]),
    Fact::new(
        "A3-empty-axes",
        "A.3",
        "Extents of zero are refused.",
        "AF:docs/developer/op-quirks.md",
        Measured,
        High,
    )
    .rules(&["ANE011"])
    .tests(&[EACH_RULE, "crates/mil/tests/text.rs::faults_of_programs"]),
    // ---- A.4 calls around the text ----
    Fact::new(
        "A4-text-is-data",
        "A.4",
        "The text is given as NSData in UTF-8, the weights as a dictionary that is never nil.",
        "MAD:inmem_peak.m, ORI:docs/ane_constraints.md #9, #11",
        Measured,
        High,
    )
    .in_memory(),
    Fact::new(
        "A4-directory",
        "A.4",
        "The caller creates a directory named by the model's hexadecimal identifier, with model.mil \
         and weights, before it compiles.",
        "MAD:inmem_peak.m, ESP:Sources/ANEInterop/ane_interop.m",
        Measured,
        High,
    )
    .in_memory(),
    Fact::new(
        "A4-compiled-files",
        "A.4",
        "After a compile the directory holds net.plist and data, a copy of the weight file.",
        "ORI:core/ane_runtime.m",
        Measured,
        Medium,
    )
    .in_memory(),
    Fact::new(
        "A4-weight-paths",
        "A.4",
        "Paths of weights are unique and start with @model_path.",
        "ESP:ane_interop.m, MAD:inmem_peak.m",
        Measured,
        High,
    )
    .in_memory(),
    // ---- A.5 weight files ----
    Fact::new(
        "A5-file-header",
        "A.5",
        "A weight file starts with 64 bytes: the number of blobs, version 2, and zeros.",
        "CMT:mlmodel/src/MILBlob/Blob/StorageFormat.hpp",
        Derived,
        High,
    )
    .tests(&[language!("a_weight_file_starts_with_64_bytes")]),
    Fact::new(
        "A5-record",
        "A.5",
        "Each blob has a record of 64 bytes: 0xDEADBEEF, the type's code, the size in bytes, the \
         absolute offset of the data, and bits of padding.",
        "CMT:mlmodel/src/MILBlob/Blob/StorageFormat.hpp",
        Derived,
        High,
    )
    .tests(&[language!("a_record_has_sentinel_code_size_and_offset")]),
    Fact::new(
        "A5-offset-of-record",
        "A.5",
        "BLOBFILE gives the offset of the record, first 64; the offset of the data, 128, gives \
         garbage without a word, or an invalid sentinel.",
        "CMT:StorageFormat.hpp, ORI #8",
        Measured,
        High,
    )
    .tests(&[language!("blobfile_names_the_record_not_the_data")]),
    Fact::new(
        "A5-type-codes",
        "A.5",
        "Types are coded fp16 1, fp32 2, uint8 3, int8 4, int16 6, uint16 7, int4 8, uint1 9, uint2 \
         10, uint4 11, uint3 12, uint6 13, int32 14, uint32 15.",
        "CMT:mlmodel/src/MILBlob/Blob/BlobDataType.hpp",
        Derived,
        High,
    )
    .tests(&[
        language!("type_codes_are_those_of_the_format"),
        "crates/mil/src/blob.rs::every_coded_type_survives_a_round_trip",
    ]),
    Fact::new(
        "A5-version",
        "A.5",
        "Another version than 2 is refused: `Storage Reader expects file format version 2.`",
        "CMT:mlmodel/src/MILBlob/Blob/StorageReader.cpp",
        Derived,
        High,
    )
    .tests(&[language!("malformed_weight_files_are_refused_in_the_readers_words")]),
    Fact::new(
        "A5-sentinel",
        "A.5",
        "A record without its sentinel is refused: `Invalid sentinel in blob_metadata.`",
        "CMT:mlmodel/src/MILBlob/Blob/StorageReader.cpp",
        Derived,
        High,
    )
    .tests(&[language!("malformed_weight_files_are_refused_in_the_readers_words")]),
    Fact::new(
        "A5-type-check",
        "A.5",
        "A record of another type is refused: `Metadata data type does not match requested type.`",
        "CMT:mlmodel/src/MILBlob/Blob/StorageReader.cpp",
        Derived,
        High,
    )
    .tests(&[language!("malformed_weight_files_are_refused_in_the_readers_words")]),
    Fact::new(
        "A5-padding-check",
        "A.5",
        "Padding of eight bits or more is refused.",
        "CMT:mlmodel/src/MILBlob/Blob/StorageReader.cpp",
        Derived,
        High,
    )
    .tests(&[language!("malformed_weight_files_are_refused_in_the_readers_words")]),
    Fact::new(
        "A5-no-alignment-check",
        "A.5",
        "Data need not be aligned; writers align to 64 bytes by convention.",
        "CMT:StorageReader.cpp, AF:aneforge/_blob.py (blobs side by side compile)",
        Measured,
        High,
    )
    .tests(&[language!("alignment_and_count_are_not_checked")]),
    Fact::new(
        "A5-count-unused",
        "A.5",
        "The number of blobs in the header is not used to find them.",
        "CMT:mlmodel/src/MILBlob/Blob/StorageReader.cpp",
        Derived,
        High,
    )
    .tests(&[language!("alignment_and_count_are_not_checked")]),
    Fact::new(
        "A5-malformed-benchmark",
        "A.5",
        "Published benchmarks write 524288 as the size of every blob and 0 as its offset, which fits \
         512×512 fp16 alone: the reason why only 512 channels compile on M3, and why their layers \
         share one block.",
        "MAD:inmem_peak.m (buildWeightBlob), MAD:benchmarks/ANE_BENCHMARK_REPORT.md (52 counts of channels \
         tried on an M3 Pro); MAD#42",
        Inferred,
        Medium,
    )
    .generations(&[Generation::A13, Generation::A14, Generation::A15])
    .rules(&["ANE015"])
    .tests(&[language!("a_size_that_is_not_the_tensors_is_read_and_told"), WEIGHT_FILES]),
    Fact::new(
        "A5-another-size-is-read",
        "A.5",
        "The same benchmarks compile and run with 256, 384, 512, 768 and more channels. What numbers the \
         engine then reads was not looked at.",
        "MAD:benchmarks/ANE_BENCHMARK_REPORT.md (M4 Pro, M4 Max), MAD:ane_int8_bench.m",
        Measured,
        Medium,
    )
    .generations(&[Generation::A16])
    .in_memory()
    .rules(&["ANE016"])
    .tests(&[WEIGHT_FILES]),
    Fact::new(
        "A5-int8-coded-as-fp16",
        "A.5",
        "int8 data whose record says fp16 are read as int8.",
        "MAD:ane_int8_bench.m (M4), MLXF:int8.md (compared with the product: 0.8 %)",
        Measured,
        Medium,
    )
    .in_memory()
    .rules(&["ANE017"])
    .tests(&[language!("int8_coded_as_fp16_is_read_and_told"), WEIGHT_FILES]),
    Fact::new(
        "A5-unreadable-file",
        "A.5",
        "A record that is not there, or of another version, type or size, is refused or gives garbage.",
        "CMT:mlmodel/src/MILBlob/Blob/StorageReader.cpp, ORI #8",
        Derived,
        High,
    )
    .rules(&["ANE015"])
    .tests(&[WEIGHT_FILES]),
    // ---- A.6 several functions ----
    Fact::new(
        "A6-procedures",
        "A.6",
        "Functions of one program become procedures of one model, chosen by procedureIndex.",
        "INF:docs/ane-internals.md, OMLX#2756",
        Measured,
        High,
    )
    .in_memory()
    .tests(&["crates/ane/tests/requests.rs::a6_procedures_are_driven_by_index", enforced!("programs_of_several_functions_are_checked_as_a_whole")]),
    Fact::new(
        "A6-symbol-indices",
        "A.6",
        "Inputs and outputs of procedures are numbered across the model; a wrong number gives status \
         0x2.",
        "INF:docs/ane-internals.md",
        Measured,
        High,
    )
    .in_memory()
    .tests(&["crates/ane/tests/requests.rs::a6_symbols_are_numbered_over_all_procedures", "crates/ane/src/error_tests.rs::requests"]),
    Fact::new(
        "A6-banks",
        "A.6",
        "64 to 174 procedures in one program were used to save places of loaded programs.",
        "OMLX#2756, #2781, #3059",
        Measured,
        High,
    )
    .in_memory(),
    // ---- A.7 refusals ----
    Fact::new(
        "A7-stages",
        "A.7",
        "Text and validity are checked first (InvalidMILProgram), then layers and allocation \
         (CompilationFailure).",
        "GUIDE:22-compiler",
        Derived,
        High,
    )
    .tests(&["crates/ane/src/error_tests.rs::refusals_of_the_compiler"]),
    Fact::new(
        "A7-unknown-target",
        "A.7",
        "An unknown target architecture falls back to that of the machine, without a word.",
        "AF:docs/cross-chip.md, AF:aneforge/_compile.py",
        Measured,
        High,
    ),
    Fact::new(
        "A7-flaky-compile",
        "A.7",
        "Under load a compile fails now and then and succeeds when tried again.",
        "ESP:Sources/DeltaCompilation (up to five tries), AF",
        Measured,
        High,
    )
    .tests(&["crates/ane/tests/faults.rs::a7_the_compiler_fails_now_and_then"]),
];
