//! `anegpt bench`: that it runs, and what it writes. Never how fast anything is.

use crate::Bench;
use serde_json::Value;

/// As short as it gets.
const QUICK: &[&str] =
    &["bench", "--preset", "tiny", "--quick", "--seq", "16", "--batch", "1", "--steps", "2"];

fn quick(bench: &Bench, more: &[&str]) -> String {
    bench.ok(&[QUICK, more].concat())
}

/// The value at a path of keys and indices; fails the test if there is none.
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    value.pointer(&pointer).unwrap_or_else(|| panic!("no {path} in {value:#}"))
}

/// A number that can be a measurement.
fn positive(value: &Value, path: &str) -> f64 {
    let number = at(value, path).as_f64().unwrap_or_else(|| panic!("{path} is no number"));
    assert!(number > 0.0 && number.is_finite(), "{path} is {number}");
    number
}

#[test]
fn everything_is_measured_told_and_drawn() {
    let bench = Bench::new();
    let scratch = bench.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let text = quick(
        &bench,
        &["--json", "b.json", "--plot", "b.svg", "--accum", "2", "--scratch", "scratch"],
    );
    for words in [
        "GFLOP/s",
        "GB/s",
        "engine_fwd",
        "optimizer",
        "2 × 1 × 16 tokens",
        "matrix products",
        "speedup",
        "Generation",
        "Tokenizer",
        "Checkpoint",
        "of peak",
        "figures mean little",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    assert!(std::fs::read_dir(&scratch).unwrap().next().is_none(), "what it wrote is removed");

    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(bench.path("b.json")).unwrap()).unwrap();
    for peak in ["gflops", "read_gbps", "triad_gbps"] {
        for threads in ["one_thread", "all_threads"] {
            positive(&report, &format!("peak.{peak}.{threads}.max"));
        }
    }
    for number in [
        "machine.cores",
        "settings.parameters",
        "settings.gflop_per_step",
        "step.tokens_per_s",
        "step.gflops",
        "step.share_of_peak",
        "step.compile_ms",
        "products.ms",
        "products.gflops",
        "products.share_of_peak",
        "scaling.0.speedup",
        "generation.0.prompt_tokens_per_s",
        "generation.0.tokens_per_s",
        "generation.1.tokens_per_s",
        "generation.1.together.tokens_per_s",
        "tokenizer.mb_per_s",
        "checkpoint.mb_per_s",
        "checkpoint.plain_mb_per_s",
        "checkpoint.share",
        "seconds",
    ] {
        positive(&report, number);
    }
    let memory = at(&report, "step.peak_memory_mib");
    assert!(memory.is_null() || memory.as_f64() > Some(1.0), "{memory}");
    assert_eq!(at(&report, "settings.tokens_per_step"), 32);
    assert_eq!(at(&report, "step.ms.rounds"), 2);
    assert_eq!(at(&report, "step.host_gemm"), "ours");
    parts_make_up_the_step(&report);
    weighs_what_a_checkpoint_weighs(&report);
    well_formed(&std::fs::read_to_string(bench.path("b.svg")).unwrap());
}

/// Times of the parts, each the mean of two steps, add up to that of the step; rates are work by time.
fn parts_make_up_the_step(report: &Value) {
    let parts = at(report, "step.parts").as_array().unwrap();
    let names: Vec<&str> = parts.iter().map(|p| at(p, "name").as_str().unwrap()).collect();
    for name in [
        "engine_fwd",
        "engine_bwd",
        "dw",
        "head",
        "io",
        "elementwise",
        "optimizer",
        "data",
        "other",
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let sum: f64 = parts.iter().map(|p| at(p, "ms.median").as_f64().unwrap()).sum();
    let whole = positive(report, "step.ms.median");
    assert!((sum - whole).abs() < 1e-6 * whole, "{sum} is not {whole}");
    for part in parts.iter().filter(|p| !p["gflop"].is_null()) {
        let rate = 1e3 * positive(part, "gflop") / positive(part, "ms.median");
        assert!((positive(part, "gflops") - rate).abs() < 1e-9 * rate);
        let intensity = positive(part, "gflop") / positive(part, "gbyte");
        assert!((positive(part, "flops_per_byte") - intensity).abs() < 1e-9 * intensity);
    }
}

/// Weights and two moments in f32, headers and little else.
fn weighs_what_a_checkpoint_weighs(report: &Value) {
    let bytes = positive(report, "checkpoint.bytes");
    let arenas = 12.0 * positive(report, "settings.parameters");
    assert!(bytes > arenas && bytes < 1.01 * arenas + 65536.0, "{bytes} bytes for {arenas}");
}

/// Every element is closed by its own end, and text holds no bare `<` or `&`.
fn well_formed(svg: &str) {
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    let mut open = vec![];
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("every tag ends");
        assert!(!tag.contains("NaN") && !tag.contains("inf"), "<{tag}> is nowhere");
        assert!(tag.matches('"').count().is_multiple_of(2), "quotes of <{tag}>");
        for after in text.split('&').skip(1) {
            let name = after.split(';').next().unwrap();
            assert!(["amp", "lt", "gt", "quot"].contains(&name), "bare & in {text:?}");
        }
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name.to_owned())),
            (false, true) => {}
            (false, false) => open.push(name.to_owned()),
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    assert!(svg.matches("<circle").count() >= 4, "parts have places under the ceilings");
}

#[test]
fn a_part_alone_as_json_and_nothing_else() {
    let bench = Bench::new();
    let text = quick(&bench, &["--only", "tokenizer", "--json", "-"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    positive(&report, "tokenizer.mb_per_s");
    for absent in ["step", "products", "checkpoint"] {
        assert!(at(&report, absent).is_null(), "{absent} was not asked for");
    }
    assert_eq!(at(&report, "scaling"), &Value::Array(vec![]));
}

#[test]
fn the_cpu_in_single_precision_is_another_device() {
    let bench = Bench::new();
    let text =
        quick(&bench, &["--only", "step", "--device", "cpu", "--json", "-", "--plot", "b.svg"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(at(&report, "settings.numerics"), "f32");
    positive(&report, "step.ms.median");
    well_formed(&std::fs::read_to_string(bench.path("b.svg")).unwrap());
}

#[test]
fn what_cannot_be_measured_is_a_usage_error() {
    let bench = Bench::new();
    for (args, words) in [
        (&["--preset", "huge"][..], "no preset"),
        (&["--steps", "0"], "'--steps <N>': must be a whole number of at least 1"),
        (&["--batch", "0"], "'--batch <N>': must be a whole number of at least 1"),
        (&["--only", "weather"], "weather"),
    ] {
        let output = bench.run(&[&["bench", "--quick"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(words), "{args:?}: {error}");
    }
    let output = bench.run(&["bench", "--quick", "--scratch", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cannot create a directory in nowhere")
    );
}

/// Columns of speeds have names, and files to write are looked at first.
#[test]
fn generation_has_headings() {
    let bench = Bench::new();
    let text = bench.ok(&["bench", "--quick", "--only", "generation"]);
    let lines: Vec<&str> =
        text.lines().skip_while(|line| !line.starts_with("Generation")).collect();
    let heads: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(heads, ["prompt", "one", "text", "together"], "{text}");
    let end = |line: &str, text: &str| line.find(text).map(|at| at + text.len());
    let prompt = lines[2].split_whitespace().next().unwrap();
    assert_eq!(end(lines[1], "prompt"), end(lines[2], prompt), "{text}");
    let late = bench.error(&["bench", "--quick", "--plot", "no/such.svg"], 2);
    assert!(late.contains("--plot no/such.svg: there is no directory no"), "{late}");
}
