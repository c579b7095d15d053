//! The facts about the language and weight files, one test per fact of `docs/ane-facts.md`.

use half::f16;
use mil::blob::{self, BlobWriter, dtype_code};
use mil::op::NOT_EXECUTED;
use mil::text::check_text;
use mil::{DType, Data, Op, Program, TensorType};

/// A program of `x`, fp16 [2, 4], whose statements end in `z`.
fn program(statements: &str) -> String {
    format!(
        "program(1.3)\n{{ func main<ios18>(tensor<fp16, [2, 4]> x) {{\n{statements}\n}} -> (z); }}"
    )
}

fn read(text: &str) -> Program {
    check_text(text).unwrap_or_else(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        panic!("{}\n{text}", faults.join("\n"))
    })
}

/// All that is said against a text.
fn faults(text: &str) -> String {
    let faults = check_text(text).expect_err("the text has a fault");
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

fn refused(statements: &str, why: &str) {
    let said = faults(&program(statements));
    assert!(said.contains(why), "expected {why:?} in\n{said}");
}

const RELU: &str = r#"tensor<fp16, [2, 4]> z = relu(x = x)[name = string("z")];"#;

#[test]
fn the_header_is_not_checked_strictly() {
    let body = format!("{{ func main<ios18>(tensor<fp16, [2, 4]> x) {{ {RELU} }} -> (z); }}");
    let function = read(&format!("program(1.3) {body}")).functions.remove(0);
    for header in [
        r#"program(1.0)"#,
        r#"program(1.5)"#,
        r#"program(1.3) [buildInfo = dict<string, string>({{"coremlc-component-MIL", "3520.4.1"}, {"coremlc-version", "3520.5.1"}})]"#,
        r#"program(1.3) [buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"anything", "at all"}})]"#,
    ] {
        let read = read(&format!("{header}\n{body}")).functions;
        assert_eq!(read, std::slice::from_ref(&function), "{header}");
    }
}

#[test]
fn operation_sets_and_function_names_are_free() {
    let function = |name: &str, opset: &str| {
        format!("func {name}<{opset}>(tensor<fp16, [2, 4]> x) {{ {RELU} }} -> (z);")
    };
    let text = format!(
        "program(1.3) {{ {} {} {} }}",
        function("main", "ios16"),
        function("layer_7", "ios17"),
        function("Forward", "ios18")
    );
    let program = read(&text);
    let seen: Vec<_> = program.functions.iter().map(|f| (&*f.name, &*f.opset)).collect();
    assert_eq!(seen, [("main", "ios16"), ("layer_7", "ios17"), ("Forward", "ios18")]);
}

#[test]
fn both_forms_of_constants_are_one_program() {
    let short = r#"int32 a = const()[name = string("a"), val = int32(-1)];
        tensor<fp16, [2, 4]> z = softmax(x = x, axis = a)[name = string("z")];"#;
    let long = r#"tensor<int32, []> a = const()[name = tensor<string, []>("a"), val = tensor<int32, []>(-1)];
        tensor<fp16, [2, 4]> z = softmax(x = x, axis = a)[name = tensor<string, []>("z")];"#;
    let (short, long) = (read(&program(short)), read(&program(long)));
    assert_eq!(short, long);
    let printed = format!("{short:#}");
    assert!(!printed.contains("string(") && !printed.contains(" int32("), "{printed}");
    assert!(printed.contains("tensor<int32, []>(-1)"), "{printed}");
    assert_eq!(read(&printed), short);
}

#[test]
fn the_long_form_of_every_text_is_read_back() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/text");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|e| e == "mil") {
            let program = read(&std::fs::read_to_string(entry.path()).unwrap());
            assert_eq!(read(&format!("{program:#}")), program, "{}", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen >= 7);
}

#[test]
fn literals_in_place_need_a_type() {
    let matmul = |flag: &str| {
        format!(
            "tensor<fp16, [4, 4]> z = matmul(x = x, y = x, transpose_x = {flag}, transpose_y = \
             bool(false))[name = string(\"z\")];"
        )
    };
    read(&program(&matmul("bool(true)")));
    read(&program(&matmul("tensor<bool, []>(true)")));
    refused(&matmul("true"), "literal `true` has no type");
}

#[test]
fn white_space_means_nothing() {
    let spaced = read(&program(
        "tensor < fp16 , [ 2 , 4 ] >\n z\t= clip ( x = x , alpha = fp16 ( 0 ) , beta = fp16 ( 6 ) ) \
         [ name = string ( \"z\" ) ] ;",
    ));
    let dense = read(&program(
        r#"tensor<fp16,[2,4]>z=clip(x=x,alpha=fp16(0),beta=fp16(6))[name=string("z")];"#,
    ));
    assert_eq!(spaced, dense);
}

#[test]
fn the_name_attribute_may_be_left_out() {
    read(&program("tensor<fp16, [2, 4]> z = relu(x = x);"));
}

#[test]
fn names_that_one_source_forbids_are_read() {
    for name in ["var", "diff", "mean", "std", "eps", "y", "mul", "add", "rsqrt", "c", "C"] {
        read(&program(&format!(
            "tensor<fp16, [2, 4]> {name} = relu(x = x)[name = string(\"{name}\")];
             tensor<fp16, [2, 4]> z = relu(x = {name})[name = string(\"z\")];"
        )));
    }
}

#[test]
fn a_dead_output_and_an_empty_body_are_refused() {
    let dead = program(RELU).replace("-> (z)", "-> (gone)");
    assert!(faults(&dead).contains("`gone` is not defined"), "{}", faults(&dead));
    let empty = program("").replace("-> (z)", "-> (x)");
    assert!(faults(&empty).contains("output `x` is an input"), "{}", faults(&empty));
}

#[test]
fn arguments_without_a_default_are_required() {
    let unary = |op: &str| format!("tensor<fp16, [2, 4]> z = {op}(x = x)[name = string(\"z\")];");
    refused(&unary("gelu"), "argument `mode`: is missing");
    for op in ["log", "rsqrt", "inverse"] {
        refused(&unary(op), "argument `epsilon`: is missing");
        let full = unary(op).replace("x = x", "x = x, epsilon = fp16(0.001)");
        read(&program(&full));
    }
    read(&program(&unary("gelu").replace("x = x", "x = x, mode = string(\"EXACT\")")));
    let concat =
        |args: &str| format!("tensor<fp16, [4, 4]> z = concat({args})[name = string(\"z\")];");
    refused(&concat("values = (x, x), interleave = bool(false)"), "argument `axis`: is missing");
    refused(&concat("values = (x, x), axis = int32(0)"), "argument `interleave`: is missing");
    refused(&concat("axis = int32(0), interleave = bool(false)"), "argument `values`: is missing");
    read(&program(&concat("values = (x, x), axis = int32(0), interleave = bool(false)")));
}

#[test]
fn comparisons_give_truth_values() {
    for op in ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"] {
        let compare = |ty: &str| {
            format!("tensor<{ty}, [2, 4]> z = {op}(x = x, y = fp16(0))[name = string(\"z\")];")
        };
        assert_eq!(read(&program(&compare("bool"))).functions[0].values[1].ty.dtype, DType::Bool);
        refused(&compare("fp16"), "declare it tensor<bool, [2, 4]>");
    }
}

#[test]
fn statements_may_have_several_results() {
    let split = r#"tensor<fp16, [2, 2]> a, tensor<fp16, [2, 2]> z = split(x = x, num_splits = int32(2), axis = int32(1))[name = string("s")];"#;
    assert_eq!(read(&program(split)).functions[0].ops[0].results.len(), 2);
}

#[test]
fn floats_may_be_hexadecimal() {
    let times = |factor: &str| {
        read(&program(&format!(
            "tensor<fp16, [2, 4]> z = mul(x = x, y = fp16({factor}))[name = string(\"z\")];"
        )))
    };
    assert_eq!(times("0.125"), times("0x1p-3"));
    assert_eq!(times("-3"), times("-0x1.8p+1"));
}

#[test]
fn states_and_flexible_extents_are_refused() {
    refused(&RELU.replace("[2, 4]", "[?, 4]"), "do not lower to the engine");
    refused(
        &RELU.replace("tensor<fp16, [2, 4]>", "state<tensor<fp16, [2, 4]>>"),
        "state does not lower",
    );
    for op in ["read_state", "write_state", "coreml_update_state"] {
        refused(&RELU.replace("relu", op), "exists in MIL but is not executed here");
    }
}

/// The operations that a sweep found missing or refused, except those that this project never met.
#[test]
fn operations_not_on_the_engine_are_refused_by_name() {
    let missing = "acos asin atanh cosh sinh tan band_part crop_resize cumsum gather \
        gather_along_axis gather_nd gru lstm rnn logical_and logical_or logical_xor mod non_zero \
        one_hot random_normal random_uniform reduce_argmax reduce_argmin reduce_prod \
        reverse_sequence scatter scatter_nd shape slice_update sliding_windows \
        argsort classify cond while_loop list_read conv_quantized read_state reshape_like";
    for op in missing.split_whitespace() {
        assert!(NOT_EXECUTED.contains(&op) && Op::from_name(op).is_none(), "{op}");
        refused(&RELU.replace("relu", op), &format!("`{op}` exists in MIL but is not executed"));
    }
}

// ---- weight files ----

fn halves(n: usize) -> Data {
    Data::Fp16((0..n).map(|i| f16::from_f32(i as f32)).collect())
}

/// A file with one blob of 32 halves, whose record is at 64.
fn file() -> Vec<u8> {
    let mut writer = BlobWriter::new();
    assert_eq!(writer.push(DType::Fp16, &halves(32)), Some(64));
    writer.finish()
}

fn u32_at(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap())
}

fn u64_at(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
}

fn halves_at(file: &[u8], offset: u64) -> Result<Data, String> {
    blob::read(file, offset, &TensorType::fp16([32])).map_err(|e| e.to_string())
}

#[test]
fn a_weight_file_starts_with_64_bytes() {
    let file = file();
    assert_eq!((u32_at(&file, 0), u32_at(&file, 4)), (1, 2), "number of blobs, version");
    assert!(file[8..64].iter().all(|&b| b == 0));
}

#[test]
fn a_record_has_sentinel_code_size_and_offset() {
    let file = file();
    assert_eq!((u32_at(&file, 64), u32_at(&file, 68)), (0xDEAD_BEEF, 1));
    assert_eq!([u64_at(&file, 72), u64_at(&file, 80), u64_at(&file, 88)], [64, 128, 0]);
    assert!(file[96..128].iter().all(|&b| b == 0));
    assert_eq!(u32_at(&file, 128 + 2 * 3) & 0xFFFF, u32::from(f16::from_f32(3.0).to_bits()));
    // Five 3-bit elements take two bytes, of which one bit is padding.
    let mut writer = BlobWriter::new();
    writer.push(DType::UInt3, &Data::Int(vec![1, 2, 3, 4, 7])).unwrap();
    let packed = writer.finish();
    assert_eq!((u64_at(&packed, 72), u64_at(&packed, 88)), (2, 1));
    assert_eq!(&packed[128..130], [0b1101_0001, 0b0111_1000], "lowest bits first");
}

#[test]
fn blobfile_names_the_record_not_the_data() {
    assert_eq!(halves_at(&file(), 64), Ok(halves(32)));
    let said = halves_at(&file(), 128).unwrap_err();
    assert!(said.starts_with("Invalid sentinel in blob_metadata."), "{said}");
}

#[test]
fn type_codes_are_those_of_the_format() {
    use DType::*;
    let codes = [
        (Fp16, 1),
        (Fp32, 2),
        (UInt8, 3),
        (Int8, 4),
        (Int16, 6),
        (UInt16, 7),
        (Int4, 8),
        (UInt1, 9),
        (UInt2, 10),
        (UInt4, 11),
        (UInt3, 12),
        (UInt6, 13),
        (Int32, 14),
        (UInt32, 15),
    ];
    for (dtype, code) in codes {
        assert_eq!(dtype_code(dtype), Some(code), "{dtype}");
    }
    assert!([Bool, String, Int64, UInt64].iter().all(|&dtype| dtype_code(dtype).is_none()));
}

#[test]
fn malformed_weight_files_are_refused_in_the_readers_words() {
    for (at, byte, words) in [
        (4, 1, "Storage Reader expects file format version 2."),
        (64, 0, "Invalid sentinel in blob_metadata."),
        (68, 2, "Metadata data type does not match requested type."),
        (88, 8, "8 padding bits"),
    ] {
        let mut file = file();
        file[at] = byte;
        let said = halves_at(&file, 64).unwrap_err();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn alignment_and_count_are_not_checked() {
    // The header says that there are 77 blobs; the data lie three bytes further, off any boundary.
    let mut file = file();
    file[0] = 77;
    file.splice(128..128, [9, 9, 9]);
    file[80] = 131;
    assert_eq!(halves_at(&file, 64), Ok(halves(32)));
    // A record at an odd place, as writers without padding leave it.
    let mut shifted = file[..64].to_vec();
    shifted.push(0);
    shifted.extend_from_slice(&file[64..]);
    shifted[81] = 132;
    assert_eq!(halves_at(&shifted, 65), Ok(halves(32)));
}

#[test]
fn a_size_that_is_not_the_tensors_is_read_and_told() {
    // The benchmarks that set byte 10 of a record to 8 claim 524288 bytes, 512 × 512 halves, and 0 as
    // the place of the data.
    let mut file = file();
    file[72..80].copy_from_slice(&0x8_0000u64.to_le_bytes());
    file[80..88].fill(0);
    assert_eq!(halves_at(&file, 64), Ok(halves(32)));
    let odd = |file: &[u8], shape: &[usize]| {
        let odd = blob::inspect(file, 64, &TensorType::fp16(shape)).unwrap();
        odd.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let said = odd(&file, &[32]);
    assert!(said[0].contains("holds 524288 bytes but tensor<fp16, [32]> needs 64"), "{said:?}");
    assert!(said[1].contains("says that its data are at 0"), "{said:?}");
    file.resize(128 + 0x8_0000, 0);
    assert_eq!(odd(&file, &[512, 512, 1, 1]).len(), 1, "the size is that of 512 channels");
    assert_eq!(odd(&file, &[256, 256, 1, 1]).len(), 2);
    let more = blob::read(&file, 64, &TensorType::fp16([513, 512, 1, 1])).unwrap_err();
    assert!(more.to_string().contains("the file ends after"), "{more}");
}

#[test]
fn int8_coded_as_fp16_is_read_and_told() {
    let mut writer = BlobWriter::new();
    let values = Data::Int(vec![-3, 0, 7, 127]);
    let at = writer.push(DType::Int8, &values).unwrap();
    let mut file = writer.finish();
    file[68] = 1;
    let ty = TensorType::new(DType::Int8, [4]);
    assert_eq!(blob::read(&file, at, &ty), Ok(values));
    let odd = blob::inspect(&file, at, &ty).unwrap();
    assert!(odd[0].to_string().contains("file has fp16, program asks int8"), "{odd:?}");
    assert!(blob::read(&file, at, &TensorType::new(DType::Int16, [4])).is_err());
}
