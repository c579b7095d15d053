//! `anegpt mil`.

use crate::Bench;

/// A NumPy file, version 1.0, little-endian f32 in row-major order.
fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    bytes
}

#[test]
fn a_program_runs_on_arrays() {
    let bench = Bench::new();
    bench.write(
        "product.mil",
        "program(1.0) { func main<ios16>(tensor<fp16,[1,1,2,3]> a, tensor<fp16, [1,1,3,2]> b) {
            tensor<bool, []> no = const()[name=tensor<string, []>(\"no\"), val=tensor<bool, []>(false)];
            tensor<fp16,[1,1,2,2]> y = matmul(transpose_x=no, transpose_y=bool(false), x=a, y=b)[name=string(\"y\")];
        } -> (y); }",
    );
    bench.write("a.npy", npy("(1, 1, 2, 3)", &[1.0, 2.0, 3.0, 4.0, 5.0, 300.0]));
    bench.write("b.npy", npy("(1, 1, 3, 2)", &[1.0, 0.5, 0.25, 1.0, 2.0, 200.0]));
    let args = [
        "mil",
        "run",
        "product.mil",
        "--input",
        "a=a.npy",
        "--input",
        "b=b.npy",
        "--output",
        "out",
    ];
    let values = |more: &[&str]| -> Vec<f32> {
        bench.ok(&[&args[..], more].concat());
        let bytes = std::fs::read(bench.path("out/y.npy")).unwrap();
        assert!(bytes.starts_with(b"\x93NUMPY"));
        bytes[bytes.len() - 16..]
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    assert_eq!(values(&["--numerics", "f32"]), [7.5, 602.5, 605.25, 60_007.0]);
    // On the grid of binary16, 605.25 is a tie that goes to the even 605.0; 60007 is beyond 2^15.
    assert_eq!(values(&[]), [7.5, 602.5, 605.0, f32::INFINITY]);
    let listed = bench.ok(&["mil", "check", "product.mil", "--json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&listed).unwrap()["faults"],
        serde_json::json!([])
    );
    bench.ok(&["mil", "fmt", "product.mil", "--write"]);
    let text = std::fs::read_to_string(bench.path("product.mil")).unwrap();
    assert!(text.starts_with("program(1.0)\n"), "{text}");
    assert_eq!(values(&[])[0], 7.5);
}

#[test]
fn formatting_in_place_keeps_comments() {
    let bench = Bench::new();
    let text = "// who wrote it
program(1.3) { func main<ios18>(tensor<fp16, [1, 2, 1, 32]> x) { // one row per channel
        // no bias
        tensor<fp16, [1,2,1,32]> y = relu(x=x)[name=string(\"y\")]; // not leaky
    } -> (y); }
// the end
";
    bench.write("noted.mil", text);
    let printed = bench.ok(&["mil", "fmt", "noted.mil"]);
    bench.ok(&["mil", "fmt", "noted.mil", "--write"]);
    let written = std::fs::read_to_string(bench.path("noted.mil")).unwrap();
    assert_eq!(written, printed);
    for comment in text.split("//").skip(1).map(|part| part.lines().next().unwrap()) {
        assert_eq!(written.matches(&format!("//{comment}")).count(), 1, "{comment}\n{written}");
    }
    assert!(written.contains(")[name = string(\"y\")]; // not leaky\n"), "{written}");
    assert_eq!(bench.ok(&["mil", "fmt", "noted.mil"]), written, "formatting again changes nothing");
}

/// A program of another project, from the tests of the rules.
macro_rules! project {
    ($name:literal) => {
        include_str!(concat!("../../../ane/tests/projects/", $name, ".mil"))
    };
}

#[test]
fn weight_files_beside_a_program_are_found_and_checked() {
    use mil::blob::BlobWriter;
    let bench = Bench::new();
    let file = |channels: usize| {
        let values = (0..channels * channels).map(|i| half::f16::from_f64((i % 5) as f64 / 8.0));
        let mut writer = BlobWriter::new();
        writer.push(mil::DType::Fp16, &mil::Data::Fp16(values.collect())).unwrap();
        writer.finish()
    };
    // As a published benchmark writes it: one size for all shapes, and no place.
    let mut odd = file(256);
    odd[72..80].copy_from_slice(&524_288u64.to_le_bytes());
    odd[80..88].fill(0);
    std::fs::create_dir(bench.path("weights")).unwrap();
    bench.write("weights/bias.bin", file(64));
    bench.write("weights/size.bin", odd);
    bench.write("place.mil", project!("blob_in_place"));
    bench.write("size.mil", project!("blob_size_not_the_tensors"));
    bench.write("offset.mil", project!("blobfile_offset_128"));
    let run = |file: &str, chip: &str| {
        let args = ["mil", "run", file, "--input", "random:1", "--output", "out", "--chip", chip];
        let output = bench.run(&[&args[..], &["--device", "emulator"]].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // A literal in place of an argument names a file too.
    assert_eq!(run("place.mil", "m4"), (Some(0), String::new()));
    let fixed = bench.run(&["mil", "check", "place.mil", "--chip", "m4", "--fix"]);
    let text = String::from_utf8_lossy(&fixed.stderr).into_owned();
    assert!(fixed.status.success() && text.contains("fixed      ANE006"), "{text}");
    // Another size: read with a warning on M4, refused on M3; both name file, constant and line.
    let (code, text) = run("size.mil", "m4");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("warning: line 9, column "), "{text}");
    let words =
        "constant `W` in @model_path/weights/size.bin: blob at offset 64 holds 524288 bytes";
    assert!(text.contains(words), "{text}");
    let (code, text) = run("size.mil", "m3");
    assert!(code == Some(1) && text.contains("ANE015") && text.contains(words), "{text}");
    for (chip, expected) in [("m4", Some(0)), ("m3", Some(1))] {
        let output = bench.run(&["mil", "check", "size.mil", "--chip", chip]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == expected && text.contains(words), "{text}");
    }
    assert!(bench.run(&["mil", "check", "size.mil"]).status.success());
    // The offset of the data in place of the record's.
    let words = "constant `W` in @model_path/weights/bias.bin: Invalid sentinel in blob_metadata.";
    for more in [&[][..], &["--chip", "m4"]] {
        let output = bench.run(&[&["mil", "check", "offset.mil"], more].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let place = if more.is_empty() { "line 9, column " } else { "offset.mil:9:" };
        assert!(text.contains(words) && text.contains(place), "{text}");
        assert!(text.contains("write offset = uint64(64)"), "{text}");
    }
    let (code, text) = run("offset.mil", "m4");
    assert!(code == Some(1) && text.contains(words) && text.contains("line 9"), "{text}");
    // Without its file a program can be checked, but not run.
    std::fs::remove_file(bench.path("weights/bias.bin")).unwrap();
    bench.ok(&["mil", "check", "offset.mil"]);
    let (code, text) = run("place.mil", "m4");
    let words = "weights/bias.bin, which has the argument `weight` of `y`: ";
    assert!(code == Some(1) && text.contains(words), "{text}");
}

#[test]
fn a_build_info_on_two_lines_is_told_and_mended() {
    let bench = Bench::new();
    bench.write("two.mil", project!("buildinfo_on_two_lines"));
    let output = bench.run(&["mil", "check", "two.mil", "--chip", "m5", "--os", "26"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("two.mil:2:1: main: ANE008"), "{text}");
    let args = ["mil", "check", "two.mil", "--chip", "m5", "--os", "26"];
    let fixed = bench.run(&[&args[..], &["--fix", "--output", "one.mil"]].concat());
    let text = String::from_utf8_lossy(&fixed.stderr).into_owned();
    assert!(text.contains("fixed      ANE008") && !text.contains("left"), "{text}");
    let args = ["mil", "check", "one.mil", "--chip", "m5", "--os", "26"];
    assert_eq!(String::from_utf8_lossy(&bench.run(&args).stderr), "");
    // Rules that were withdrawn may still be named.
    let output = bench.run(&[&args[..], &["--allow", "ANE063,ane027"]].concat());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.matches("was withdrawn").count() == 2, "{text}");
}

/// s = a + b and d = a − b, and a second function.
const TWO: &str = "program(1.3) {
    func main<ios18>(tensor<fp16, [1, 2, 1, 16]> b, tensor<fp16, [1, 2, 1, 16]> a) {
        tensor<fp16, [1, 2, 1, 16]> s = add(x = a, y = b)[name = string(\"s\")];
        tensor<fp16, [1, 2, 1, 16]> d = sub(x = a, y = b)[name = string(\"d\")];
    } -> (s, d);
    func square<ios18>(tensor<fp16, [1, 2, 1, 16]> x) {
        tensor<fp16, [1, 2, 1, 16]> y = mul(x = x, y = x)[name = string(\"y\")];
    } -> (y);
}";

#[test]
fn inputs_come_from_archives_and_seeds_and_outputs_go_to_archives() {
    let bench = Bench::new();
    bench.write("two.mil", TWO);
    let run = |inputs: &[&str], more: &[&str]| {
        let inputs = inputs.iter().flat_map(|i| ["--input", i]);
        let args: Vec<&str> = ["mil", "run", "two.mil"]
            .into_iter()
            .chain(inputs)
            .chain(more.iter().copied())
            .collect();
        bench.run(&args)
    };
    let ok = |inputs: &[&str], more: &[&str]| {
        let output = run(inputs, more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    // Two archives of the same numbers, by two ways; one feeds another run.
    ok(&["random:3"], &["--output", "one.npz"]);
    ok(&["random:3"], &["--output", "again"]);
    bench.ok(&["mil", "diff", "one.npz", "again"]);
    let different = bench.run(&["mil", "diff", "one.npz", "again/s.npy"]);
    assert_eq!(different.status.code(), Some(1), "other names");
    ok(&["random:4"], &["--output", "other.npz"]);
    let output = bench.run(&["mil", "diff", "one.npz", "other.npz"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("d [1, 2, 1, 16]: ") && text.contains("first at 0"), "{text}");
    bench.ok(&["mil", "diff", "one.npz", "other.npz", "--tolerance", "4"]);
    // s and d as b and a: an archive whose arrays are called otherwise is not taken for them.
    let output = run(&["one.npz"], &["--output", "out"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("input `a` "));
    ok(&["a=again/s.npy", "b=again/d.npy"], &["--output", "sums.npz"]);
    ok(&["one.npz", "random:3", "a=again/s.npy", "b=again/d.npy"], &["--output", "sums"]);
    bench.ok(&["mil", "diff", "sums", "sums.npz"]);
    ok(&["x=again/s.npy"], &["--output", "squares", "--function", "square"]);
    assert!(bench.path("squares/y.npy").exists());
    for (inputs, more, words) in [
        (
            &["x=again/s.npy"][..],
            &["--output", "o", "--function", "cube"][..],
            "no function `cube`; it has: main, square",
        ),
        (&["a=one.npz", "random:1"], &["--output", "o"], "has no array `a`; it has: d, s"),
        (&["c=one.npz", "random:1"], &["--output", "o"], "no input `c`"),
        (&["random:x"], &["--output", "o"], "a seed is a whole number"),
        (&["one.npy"], &["--output", "o"], "write NAME=FILE.npy"),
        (&["a=random:1", "a=random:2"], &["--output", "o"], "given twice"),
    ] {
        let output = run(inputs, more);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(words), "{error}");
    }
}

#[test]
fn a_recorded_run_replays_and_a_doctored_one_is_found_out() {
    let bench = Bench::new();
    bench.write("two.mil", TWO);
    let args = ["mil", "run", "two.mil", "--input", "random:5", "--output", "out"];
    for (numerics, file) in [("fast", "fast.anetrace"), ("f32", "f32.anetrace")] {
        bench.ok(&[
            &args[..],
            &["--record", file, "--numerics", numerics, "--chip", "m1", "--os", "macos26"],
        ]
        .concat());
        let json: serde_json::Value =
            serde_json::from_str(&bench.ok(&["mil", "replay", file, "--json"])).unwrap();
        assert_eq!(json["machine"]["chip"], "m1");
        assert_eq!(json["machine"]["os"], "macos26");
        assert_eq!(json["machine"]["numerics"], numerics);
        let outputs = json["replay"]["programs"][0]["outputs"].as_array().unwrap();
        assert_eq!(outputs.len(), 2);
        assert!(outputs.iter().all(|o| o["comparison"]["differing"] == 0), "{json}");
    }
    // The same trace with one element of `s` changed, by way of the library's own format.
    let mut trace =
        lab::Trace::from_bytes(&std::fs::read(bench.path("fast.anetrace")).unwrap()).unwrap();
    trace.programs[0].runs[0].outputs[1].values[3] = 7.0;
    bench.write("doctored.anetrace", trace.to_bytes().unwrap());
    let output = bench.run(&["mil", "replay", "doctored.anetrace"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("output s: 1 of 32 elements differ"), "{text}");
    assert!(text.contains("first at 3: recorded 7,") && text.contains("unexplained: 1"), "{text}");
    let whole = std::fs::read(bench.path("fast.anetrace")).unwrap();
    bench.write("cut.anetrace", &whole[..whole.len() / 2]);
    for file in ["cut.anetrace", "two.mil", "none.anetrace"] {
        let output = bench.run(&["mil", "replay", file]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(file), "{error}");
    }
}

#[test]
fn programs_are_compared_by_what_they_do() {
    let bench = Bench::new();
    bench.write("a.mil", TWO);
    bench.write("b.mil", TWO.replace(" s = add", " sum = add").replace("(s, d)", "(sum, d)"));
    bench.write("c.mil", TWO.replace("mul(x = x, y = x)", "add(x = x, y = x)"));
    bench.ok(&["mil", "diff", "a.mil", "a.mil"]);
    let lines = |b: &str| {
        let output = bench.run(&["mil", "diff", "a.mil", b]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(lines("b.mil").contains("- main: output `s`"), "{}", lines("b.mil"));
    let text = lines("c.mil");
    assert!(
        text.contains("- square: `y`: mul(x, y)") && text.contains("+ square: `y`: add(x, y)"),
        "{text}"
    );
    assert_eq!(bench.run(&["mil", "diff", "a.mil", "a.npy"]).status.code(), Some(2));
}

/// A Python with NumPy: `ANEGPT_PYTHON`, else `python3`; `None` (and a message) without it.
fn numpy() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("ANEGPT_PYTHON").unwrap_or_else(|| "python3".into());
    let found = std::process::Command::new(&python).args(["-c", "import numpy"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {} has no NumPy (set ANEGPT_PYTHON)", python.to_string_lossy());
    None
}

#[test]
fn numpy_reads_and_writes_the_same_files() {
    let Some(python) = numpy() else { return };
    let bench = Bench::new();
    bench.write("two.mil", TWO);
    let script = |text: &str| {
        let mut command = std::process::Command::new(&python);
        let output = command.args(["-c", text]).current_dir(bench.dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    script(
        "import numpy as np
x = np.arange(32, dtype=np.float16).reshape(1, 2, 1, 16)
np.savez('stored.npz', a=x, b=x * 2)
np.savez_compressed('deflated.npz', a=x.astype(np.float64), b=(x * 2).astype(np.int64))
np.save('a.npy', x.astype(np.int8)); np.save('b.npy', (x * 2).astype(np.uint16))",
    );
    let args = ["mil", "run", "two.mil", "--record", "t.anetrace"];
    for (inputs, out) in [
        (&["--input", "stored.npz"][..], "one.npz"),
        (&["--input", "deflated.npz"], "two.npz"),
        (&["--input", "a=a.npy", "--input", "b=b.npy"], "three.npz"),
    ] {
        bench.ok(&[&args[..], inputs, &["--output", out]].concat());
    }
    script(
        "import io, json, zipfile, numpy as np
x = np.arange(32, dtype=np.float32).reshape(1, 2, 1, 16)
for name in ['one.npz', 'two.npz', 'three.npz']:
    out = np.load(name)
    assert sorted(out.files) == ['d', 's'] and out['s'].dtype == np.float32
    assert (out['s'] == 3 * x).all() and (out['d'] == -x).all(), out
archive = zipfile.ZipFile('t.anetrace')
assert archive.testzip() is None
manifest = json.loads(archive.read('manifest.json'))
run = manifest['programs'][0]['runs'][0]
a, b = (np.load(io.BytesIO(archive.read(n))) for n in run['inputs'])
d, s = (np.load(io.BytesIO(archive.read(n))) for n in run['outputs'])
assert a.dtype == np.float16 and (a == x).all() and (b == 2 * x).all()
assert (s == a + b).all() and (d == a - b).all()
assert b'func main' in archive.read(manifest['programs'][0]['text'])",
    );
}
