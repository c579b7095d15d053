//! `anegpt mil check`.

use crate::Bench;
use serde_json::Value;

const BAD: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 32, 1, 80]> x, tensor<fp16, [1, 1, 4, 4]> mask) {
        tensor<fp16, [1, 32, 1, 80]> h = relu(x = x)[name = string("h")];
        tensor<fp16, [1, 32, 1, 80]> s = square(x = h)[name = string("s")];
        tensor<fp16, [8, 32, 1, 17]> w = const()[name = string("w"), val = tensor<fp16, [8, 32, 1, 17]>(BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
        tensor<fp16, [8]> bias = const()[name = string("bias"), val = tensor<fp16, [8]>([1, 2, 3, 4, 5, 6, 7, 8])];
        tensor<fp16, [1, 8, 1, 64]> y = conv(x = s, weight = w, bias = bias)[name = string("y")];
        tensor<fp16, [1, 1, 4, 4]> z = gelu(x = mask)[name = string("z")];
    } -> (y, z);
}
"#;

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn findings_say_what_where_why_and_what_to_write() {
    let bench = Bench::new();
    bench.write("bad.mil", BAD.replace("gelu(x = mask)", "exp(x = mask)"));
    let output = bench.run(&["mil", "check", "bad.mil", "--chip", "m1", "--os", "15"]);
    assert_eq!(output.status.code(), Some(1));
    let text = crate::words(&stderr(&output));
    for part in [
        "bad.mil:8:41: main, operation 4 `y`: ANE031 expected a kernel width in [1, 13] on m1, got 17",
        "cut `w` along its width into 13 + 4",
        "bad.mil:5:42: main, operation 1 `s`: ANE051 beside relu",
        "write `s` = mul(x = h, y = h) (--fix can do this)",
        "evidence B.2 (AF:aneforge/_compile.py)",
        "B2-square",
        "reported as CompilationFailure; confidence medium",
        "bad.mil:3:54: main, parameter `mask`: ANE070 warning",
        "chips m1, m1-pro, m1-max, m1-ultra, m2, m2-pro, m2-max, m2-ultra; the rule holds",
        "operation 4 `y`: ANE034 warning",
        "2 rules broken",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // By e5rt there is no rule about widths of ports, nor about the header.
    let text = stderr(&bench.run(&["mil", "check", "bad.mil", "--chip", "m1", "--path", "e5rt"]));
    assert!(!text.contains("ANE070") && !text.contains("ANE005"), "{text}");
    let allow = ["--allow", "ane051", "--allow", "ANE031"];
    bench.ok(&[&["mil", "check", "bad.mil", "--chip", "m1"], &allow[..]].concat());
    let wrong = bench.run(&["mil", "check", "bad.mil", "--chip", "m1", "--allow", "ANE999"]);
    assert_eq!(wrong.status.code(), Some(2));
    let plain = bench.run(&["mil", "check", "bad.mil", "--fix"]);
    assert_eq!(plain.status.code(), Some(2), "--fix is for a chip");
}

#[test]
fn findings_as_json() {
    let bench = Bench::new();
    bench.write("bad.mil", BAD);
    let output = bench.run(&["mil", "check", "bad.mil", "--chip", "m4", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["faults"][0]["message"], "gelu, argument `mode`: is missing");
    let finding = &value["findings"][0];
    assert_eq!((&finding["rule"], &finding["line"]), (&"ANE001".into(), &9.into()));
    assert_eq!(finding["chips"].as_array().unwrap().len(), chip::Chip::ALL.len());
    assert!(finding["rewrite"].as_str().unwrap().contains("mode = string(\"EXACT\")"));
    assert_eq!(value["rules"][0][0], "ANE001");
}

#[test]
fn safe_rewrites_are_proven_and_written() {
    let bench = Bench::new();
    bench.write("bad.mil", BAD);
    for (chip, long) in [("m1", true), ("m2", true), ("m4", false), ("m5-pro", false)] {
        let args = ["mil", "check", "bad.mil", "--chip", chip, "--fix", "--output", "good.mil"];
        let output = bench.run(&args);
        let text = stderr(&output);
        assert!(output.status.success(), "{text}");
        assert!(output.stdout.is_empty());
        for rule in ["ANE001", "ANE006", "ANE031", "ANE051", "ANE070"] {
            assert!(text.contains(&format!("fixed      {rule}")), "{chip} {rule}\n{text}");
        }
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(line.contains("results in f64 differ by at most"), "{text}");
        let good = std::fs::read_to_string(bench.path("good.mil")).unwrap();
        assert_eq!(good.starts_with("program(1.0)"), long);
        assert_eq!(good.contains("tensor<string, []>("), long, "{good}");
        bench.ok(&["mil", "check", "good.mil", "--chip", chip]);
        let left = stderr(&bench.run(&["mil", "check", "good.mil", "--chip", chip]));
        assert_eq!(left, "", "{chip}");
    }
    let printed = bench.ok(&["mil", "check", "bad.mil", "--chip", "m4", "--fix"]);
    bench.write("good.mil", &printed);
    assert_eq!(bench.ok(&["mil", "fmt", "good.mil"]), printed, "canonical");
    let args = ["mil", "check", "bad.mil", "--chip", "m4", "--fix", "--json"];
    let value: Value = serde_json::from_str(&bench.ok(&args)).unwrap();
    assert_eq!(value["program"], printed);
    assert_eq!(value["left"], serde_json::json!([]));
    let proof = &value["proof"];
    assert!(proof["largest_difference"].as_f64() <= proof["allowed"].as_f64());
    assert!(proof["values"].as_u64().unwrap() > 500);
    assert!(proof["parts"].as_u64().unwrap() > 0 && proof["operations_alike"].as_u64().is_some());
}

#[test]
fn comments_survive_a_rewrite() {
    let bench = Bench::new();
    let noted = BAD
        .replace(
            "h = relu(x = x)[name = string(\"h\")];",
            "h = relu(x = x)[name = string(\"h\")]; // kept",
        )
        .replace(
            "        tensor<fp16, [1, 32, 1, 80]> s",
            "        // the square\n        tensor<fp16, [1, 32, 1, 80]> s",
        );
    bench.write("noted.mil", &noted);
    for chip in ["m1", "m4"] {
        let text = bench.ok(&["mil", "check", "noted.mil", "--chip", chip, "--fix"]);
        let lines: Vec<&str> = text.lines().collect();
        let at = |part: &str| lines.iter().position(|line| line.contains(part)).unwrap();
        assert!(lines[at(" h = relu")].ends_with("; // kept"), "{text}");
        assert_eq!(lines[at(" s = mul(") - 1], "        // the square", "{text}");
    }
}

#[test]
fn what_cannot_be_rewritten_is_listed() {
    let bench = Bench::new();
    let wide = "program(1.3) { func main<ios18>(tensor<fp16, [1, 4, 1, 20000]> x) {
        tensor<fp16, [1, 4, 1, 20000]> y = softplus(x = x)[name = string(\"y\")]; } -> (y); }";
    bench.write("wide.mil", wide);
    let output = bench.run(&["mil", "check", "wide.mil", "--chip", "m3", "--fix"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("fixed      ANE055"), "{text}");
    assert!(text.contains("left       main, parameter `x`: ANE012"), "{text}");
    assert!(text.contains(" still broken"), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("log("), "the rest is written");
}
