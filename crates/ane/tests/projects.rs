//! Programs in the forms that other projects write, judged as their authors report.

use ane::{Device, Emulator};
use chip::{Profile, legal};
use cpu::Numerics;
use mil::blob::BlobWriter;
use mil::text::parse_with_spans;
use mil::{DType, Data, Program, Weights};
use std::path::PathBuf;

fn text(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/projects");
    std::fs::read_to_string(folder.join(format!("{name}.mil"))).unwrap()
}

fn program(name: &str) -> Program {
    mil::check_text(&text(name)).unwrap_or_else(|faults| panic!("{name}: {}", faults[0]))
}

fn profile(name: &str) -> Profile {
    name.parse().unwrap()
}

/// Ids of the rules that a program breaks, each once.
fn broken(name: &str, on: &str) -> Vec<&'static str> {
    let mut ids: Vec<_> =
        legal::violations(&program(name), &profile(on)).iter().map(|v| v.rule.id).collect();
    ids.dedup();
    ids
}

#[test]
fn programs_of_other_projects_are_judged_as_reported() {
    let none: &[&str] = &[];
    for (name, on, expected) in [
        ("identity", "m4", none),
        ("conv_bias", "m4", &["ANE034"]),
        ("conv_bias", "m4/e5rt", none),
        ("blob_in_place", "m4", &["ANE006"]),
        ("blob_in_place", "m5/e5rt", none),
        ("blob_size_not_the_tensors", "m4", none),
        ("int8_blob_coded_1", "m4", none),
        ("no_buildinfo", "m3/macos26", &["ANE007"]),
        ("no_buildinfo", "m4/e5rt", none),
        ("buildinfo_on_two_lines", "m5/macos26", none),
        ("dead_reduction_to_width_1", "m5", &["ANE009"]),
        ("dead_reduction_to_width_1", "m4/macos26", &["ANE009"]),
        ("dead_reduction_to_width_1", "m4", none),
        ("dead_reduction_to_width_1", "m5/e5rt", none),
        ("tile", "m3/macos26", &["ANE067"]),
        ("tile", "m4", &["ANE067"]),
        ("tile", "m5/e5rt", none),
        ("width_16_and_48", "m5/macos26", &["ANE070"]),
        ("width_16_and_48", "m3/macos26", &["ANE070"]),
        ("width_16_and_48", "m5/e5rt", none),
        // The scalar of [1, 1, 1] is a port of width 1 as well.
        ("rank3_scalar_broadcast_on_m1", "m1", &["ANE057", "ANE070"]),
        ("rank3_scalar_broadcast_on_m1", "m4", &["ANE070"]),
        ("root_divided_on_m1", "m1", &["ANE059"]),
        ("root_divided_on_m1", "m2", none),
        ("root_broadcast_on_m1", "m1", &["ANE057"]),
        ("rank3_broadcast_that_works_on_m1", "m1", none),
    ] {
        assert_eq!(broken(name, on), expected, "{name} on {on}");
        let program = program(name);
        let verdict = legal::check(&program, &profile(on));
        assert!(verdict.is_ok(), "{name} on {on} is refused: {verdict:?}");
    }
}

/// The other forms that the cheat sheet for M1 lists, with the large tensor bound first and second.
#[test]
fn broadcasts_of_three_axes_on_m1() {
    for (x, y, warned) in [
        ("[1, 1024, 96] A", "[1, 1, 96] B", false),
        ("[1, 96, 1024] B", "[1, 1, 1024] A", true),
        ("[1, 96, 1024] A", "[1, 96, 1] B", true),
        ("[96, 1, 1024] A", "[96, 1, 1] B", true),
        ("[1, 96, 1024] A", "[1, 96, 1024] B", false),
    ] {
        let (first, second) =
            (x.split(' ').next_back().unwrap(), y.split(' ').next_back().unwrap());
        let shape = x.rsplit_once(' ').unwrap().0;
        for (a, b) in [(first, second), (second, first)] {
            let text = format!(
                "program(1.0) {{ func main<ios16>(tensor<fp16, {x}>, tensor<fp16, {y}>) {{
                tensor<fp16, {shape}> Y = mul(x = {a}, y = {b})[name = string(\"Y\")]; }} -> (Y); }}"
            )
            .replace(" A>", "> A")
            .replace(" B>", "> B");
            let program = mil::check_text(&text).unwrap_or_else(|faults| panic!("{}", faults[0]));
            let found = legal::violations(&program, &profile("m1"));
            let found: Vec<_> = found.iter().filter(|v| v.rule.id == "ANE057").collect();
            assert_eq!(!found.is_empty(), warned, "mul({a}, {b}) of {x} and {y}: {found:?}");
        }
    }
}

#[test]
fn a_build_info_on_two_lines_is_told() {
    let found = |text: &str, on: &str| {
        let (program, spans) = parse_with_spans(text).unwrap();
        let found = legal::text_violations(text, &program, &spans, &profile(on));
        found.iter().map(|v| (v.rule.id, v.message.clone())).collect::<Vec<_>>()
    };
    let text = text("buildinfo_on_two_lines");
    let told = [("ANE008", "expected buildInfo on one line, got 2".to_owned())];
    assert_eq!(found(&text, "m5/macos26"), told);
    assert_eq!(found(&text, "m5/e5rt"), []);
    assert_eq!(found(&mil::text::format(&text).unwrap(), "m5/macos26"), [], "fmt mends it");
}

const FILE: &str = "@model_path/weights/";

/// A value of the weights: a multiple of 1/16 of small size, by its place.
fn weight(i: usize) -> f64 {
    ((i * 7 + i / 64) % 13) as f64 / 16.0 - 0.375
}

/// The weight files of the programs: `bias.bin` is well formed, the others are as some projects write
/// them, whose bytes 8 to 24 of a record are the size and the place of the data.
fn weights() -> Weights {
    let halves = |n: usize, scale: f64| {
        let value = |i| half::f16::from_f64(scale * weight(i));
        Data::Fp16((0..n).map(value).collect())
    };
    let mut bias = BlobWriter::new();
    assert_eq!(bias.push(DType::Fp16, &halves(64 * 64, 1.0)), Some(64));
    assert_eq!(bias.push(DType::Fp16, &halves(64, 2.0)), Some(8320));
    let mut size = BlobWriter::new();
    size.push(DType::Fp16, &halves(256 * 256, 1.0));
    let mut size = size.finish();
    size[72..80].copy_from_slice(&524_288u64.to_le_bytes());
    size[80..88].fill(0);
    let mut code = BlobWriter::new();
    let integers = (0..64 * 64).map(|i| (16.0 * weight(i)) as i64).collect();
    assert_eq!(code.push(DType::Int8, &Data::Int(integers)), Some(64));
    let sixteenth = Data::Fp16(vec![half::f16::from_f64(0.0625); 64]);
    assert_eq!(code.push(DType::Fp16, &sixteenth), Some(4224));
    assert_eq!(code.push(DType::Int8, &Data::Int(vec![0; 64])), Some(4416));
    let mut code = code.finish();
    code[68] = 1;
    let files = [("bias.bin", bias.finish()), ("size.bin", size), ("code.bin", code)];
    files.map(|(name, bytes)| (format!("{FILE}{name}"), bytes)).into()
}

#[test]
fn weight_files_are_judged_by_the_machine() {
    let weights = weights();
    let found = |name: &str, on: &str| -> Vec<(&str, String)> {
        let found = legal::weight_violations(&program(name), &weights, &profile(on));
        found.iter().map(|v| (v.rule.id, v.message.clone())).collect()
    };
    for name in ["conv_bias", "blob_in_place"] {
        assert_eq!(found(name, "m3"), [], "{name}");
    }
    let said = |found: &[(&str, String)]| -> Vec<String> {
        found.iter().map(|(id, message)| format!("{id} {message}")).collect()
    };
    // M4 and M5 were seen to run records of another size, M3 not; the published reader refuses them.
    for (on, id) in [
        ("m4", "ANE016"),
        ("m5-pro/macos26", "ANE016"),
        ("m3", "ANE015"),
        ("m1", "ANE015"),
        ("m4/e5rt", "ANE015"),
    ] {
        let said = said(&found("blob_size_not_the_tensors", on));
        let start = format!("{id} constant `W` in {FILE}size.bin: blob at offset 64 ");
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().all(|line| line.starts_with(&start)), "{said:?}");
        assert!(
            said[0].contains("holds 524288 bytes but tensor<fp16, [256, 256, 1, 1]> needs 131072")
        );
    }
    for (on, id) in [("m4", "ANE017"), ("m1", "ANE017"), ("m4/e5rt", "ANE015")] {
        let said = said(&found("int8_blob_coded_1", on));
        assert_eq!(said.len(), 1, "{said:?}");
        let start =
            format!("{id} attribute `quantized_data` of `W` in {FILE}code.bin: Metadata data type");
        assert!(said[0].starts_with(&start), "{said:?}");
    }
    // The offset of the data in place of the record's, with the right one in the hint.
    let wrong = legal::weight_violations(&program("blobfile_offset_128"), &weights, &profile("m4"));
    assert_eq!(wrong.len(), 1);
    assert_eq!((wrong[0].rule.id, wrong[0].function.as_str()), ("ANE015", "main"));
    let start = format!("constant `W` in {FILE}bias.bin: Invalid sentinel in blob_metadata.");
    assert!(wrong[0].message.starts_with(&start), "{}", wrong[0].message);
    assert!(wrong[0].hint.ends_with("write offset = uint64(64)"), "{}", wrong[0].hint);
    let none = legal::weight_violations(&program("conv_bias"), &Weights::new(), &profile("m4"));
    assert_eq!(none, [], "files that are not given are not looked at");
}

/// y[o, s] = Σ_i w[o, i]·x[i, s] + b[o], of numbers of which all sums are exact in binary32.
fn convolved(c: usize, width: usize, bias: f64) -> Vec<f32> {
    let x = |i: usize, s: usize| ((i * 5 + s * 3) % 9) as f64 / 8.0 - 0.5;
    let sum = |o: usize, s: usize| -> f64 {
        (0..c).map(|i| weight(o * c + i) * x(i, s)).sum::<f64>() + bias * weight(o)
    };
    (0..c * width).map(|at| sum(at / width, at % width) as f32).collect()
}

/// The result of a program of `x` on a machine.
fn run(name: &str, on: &str, weights: &Weights) -> Result<Vec<f32>, ane::AneError> {
    let program = program(name);
    let device = Emulator::engine(profile(on), Numerics::F32);
    let mut executable = device.compile(&program, weights)?;
    let (input, output) = (executable.inputs()[0].ty.clone(), executable.outputs()[0].ty.clone());
    let size = device.least_allocation().max(4 * input.count()).max(4 * output.count());
    let (read, written) = (device.surface(&input, size)?, device.surface(&output, size)?);
    let (c, width) = (input.shape[1], input.shape[3]);
    let x = |at: usize| (((at / width) * 5 + (at % width) * 3) % 9) as f32 / 8.0 - 0.5;
    read.write(&(0..c * width).map(x).collect::<Vec<_>>())?;
    executable.run(&[&read], &[&written])?;
    let mut values = vec![0.0; output.count()];
    written.read(&mut values)?;
    Ok(values)
}

#[test]
fn programs_of_other_projects_run() {
    let weights = weights();
    for (name, c, bias) in [
        ("conv_bias", 64, 2.0),
        ("blob_in_place", 64, 0.0),
        ("blob_size_not_the_tensors", 256, 0.0),
        ("int8_blob_coded_1", 64, 0.0),
    ] {
        for on in ["m4", "m5/macos26"] {
            assert_eq!(run(name, on, &weights).unwrap(), convolved(c, 64, bias), "{name} on {on}");
        }
    }
    // What the machine refuses, the emulator refuses, with the file and the constant.
    for (name, on, what) in [
        ("blob_size_not_the_tensors", "m3", "constant `W` in @model_path/weights/size.bin"),
        ("int8_blob_coded_1", "m4/e5rt", "`quantized_data` of `W` in @model_path/weights/code.bin"),
        ("blobfile_offset_128", "m4", "constant `W` in @model_path/weights/bias.bin"),
    ] {
        let refused = run(name, on, &weights).unwrap_err().to_string();
        assert!(refused.contains(what), "{name} on {on}: {refused}");
    }
}
