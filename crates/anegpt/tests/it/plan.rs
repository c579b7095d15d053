//! `anegpt plan`.

use crate::Bench;
use std::collections::BTreeSet;

#[test]
fn a_plan_names_its_programs_and_writes_them() {
    let bench = Bench::new();
    let text = bench.ok(&["plan", "--preset", "stories15m", "--chip", "m1", "--write", "programs"]);
    let names =
        ["fwdLayers", "bwdLayers", "finalNorm", "probabilities", "classifierBwd", "finalNormBwd"];
    assert!(text.contains("layers:1+") && text.contains("; next gradients:"), "{text}");
    assert!(crate::words(&text).contains("for 1 layer forward and "), "{text}");
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
    assert!(text.contains("not confirmed on hardware") && !text.contains("REFUSED"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for name in names {
        let file = format!("programs/{name}.mil");
        bench.ok(&["mil", "check", &file, "--chip", "m1"]);
    }
}

#[test]
fn a_plan_is_json_on_demand() {
    let bench = Bench::new();
    let of = |more: &[&str]| -> serde_json::Value {
        serde_json::from_str(&bench.ok(&[&["plan", "--json"], more].concat())).unwrap()
    };
    let (one, four) = (of(&["--accum", "1"]), of(&["--accum", "4"]));
    let seconds = |plan: &serde_json::Value| plan["step"]["seconds"].as_f64().unwrap();
    assert!(seconds(&four) > 2.0 * seconds(&one));
    assert_eq!(one["programs"].as_array().unwrap().len() as u64, one["plans"][0]["programs"]);
    assert_eq!(one["confirmed_on_hardware"], false);
    let step = |field: &str| one["step"][field].as_f64().unwrap();
    let lanes = step("engine") + step("host") - step("overlap");
    assert!((lanes / step("seconds") - 1.0).abs() < 1e-12 && step("overlap") > 0.0, "{one}");
    assert_eq!(one["forecast_ms_per_step"].as_f64().unwrap(), 1e3 * seconds(&one));
    let plans = one["plans"].as_array().unwrap();
    let names: Vec<_> = plans.iter().map(|plan| plan["name"].as_str().unwrap()).collect();
    assert_eq!(one["plan"], names[0], "the cheapest comes first");
    let all: BTreeSet<_> = names.iter().copied().collect();
    let variant = |plan| names.iter().copied().find(|name| name.starts_with(plan)).unwrap();
    let variants = ["gradients", "layers"].map(variant);
    assert_eq!(all, BTreeSet::from(["baseline", "fused", "offload", variants[0], variants[1]]));
    let cheapest = plans.iter().map(|plan| plan["forecast_ms_per_step"].as_f64().unwrap());
    assert_eq!(cheapest.fold(f64::INFINITY, f64::min), 1e3 * seconds(&one));
    let fused = of(&["--plan", "fused", "--accum", "1"]);
    assert_eq!(fused["programs"].as_array().unwrap().len(), 4);
    let known = plans.iter().find(|plan| plan["name"] == "fused").unwrap();
    assert_eq!(known["requests"], one["layers"].as_u64().unwrap() * 4);
    assert_eq!(known["forecast_ms_per_step"], fused["forecast_ms_per_step"]);
    // A variant that is not the cheapest comes last.
    let none = of(&["--plan", "gradients:none", "--accum", "1"]);
    let listed = none["plans"].as_array().unwrap();
    assert_eq!((listed.len(), &none["plan"]), (6, &listed[5]["name"]));
    assert!(
        listed[5]["forecast_ms_per_step"].as_f64() > listed[0]["forecast_ms_per_step"].as_f64()
    );
    // In the table, it stands in place of the cheapest.
    let table = bench.ok(&["plan", "--plan", "gradients:none"]);
    let plans = table.lines().find(|line| line.starts_with("  plan (* is shown)")).unwrap();
    let shown: Vec<&str> = plans.split_whitespace().skip(4).collect();
    assert_eq!(shown.iter().filter(|name| name.starts_with("gradients")).count(), 1, "{plans}");
    assert!(shown.contains(&"gradients*") && shown.len() == 5, "{plans}");
    let error = bench.run(&["plan", "--preset", "nanochat-d4", "--plan", "offload"]);
    let text = String::from_utf8(error.stderr).unwrap();
    assert!(text.contains("does not train models with "), "{text}");
    let error = bench.run(&["plan", "--preset", "huge"]);
    assert_eq!(error.status.code(), Some(2));
}

/// A chip that refuses a program has no forecast for the plan. A vocabulary of a prime number of rows has no tiles,
/// and this one has more than a chip has channels.
#[test]
fn a_refused_plan_is_an_error() {
    let bench = Bench::new();
    let args = ["plan", "--vocab-size", "65537", "--chip", "m1"];
    let output = bench.run(&[&args[..], &["--plan", "offload"]].concat());
    let (text, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{text}{error}");
    assert!(text.contains("REFUSED") && !text.contains("not confirmed on hardware"), "{text}");
    assert!(crate::words(&error).contains("m1 does not run plan offload"), "{error}");
    let output = bench.run(&[&args[..], &["--plan", "offload", "--json"]].concat());
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(plan["forecast_ms_per_step"].is_null(), "{plan}");
    // Another plan fits, and is chosen.
    bench.ok(&args);
}

#[test]
fn a_plan_is_drawn() {
    let bench = Bench::new();
    let text = bench.ok(&["plan", "--timeline", "step.svg"]);
    assert!(text.contains("drawn in step.svg") && text.contains("side by side for"), "{text}");
    let picture = std::fs::read_to_string(bench.path("step.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("bwdLayers, layer "), "{picture}");
    assert!(picture.contains(">update wq, layer 3: ") && !picture.contains("Any other"));
    bench.ok(&["plan", "--accum", "2", "--timeline", "step.svg"]);
    let picture = std::fs::read_to_string(bench.path("step.svg")).unwrap();
    assert!(
        picture.contains("First micro-batch, with the update: ") && picture.contains("Any other: ")
    );
}

#[test]
fn a_run_keeps_its_plan() {
    let bench = Bench::new();
    let train = |more: &[&str]| {
        let fixed =
            ["train", "--steps", "2", "--out", "run", "--sample-every", "0", "--batch", "1"];
        bench.ok(&[&fixed[..], &["--seq", "32", "--log-format", "json"], more].concat())
    };
    let programs = |log: &str| -> u64 {
        let start: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        start["programs"].as_u64().unwrap()
    };
    assert_eq!(programs(&train(&["--plan", "fused", "--timeline", "run.svg"])), 4);
    let picture = std::fs::read_to_string(bench.path("run.svg")).unwrap();
    let drawn = ["Plan fused as it ran: step 2", ">attnBwd, layer 0: ", ">w1_grad, layer 3: "];
    assert!(drawn.iter().all(|text| picture.contains(text)), "{picture}");
    let resume = |more: &[&str]| {
        let fixed = ["train", "--resume", "run", "--steps", "3", "--log-format", "json"];
        bench.ok(&[&fixed[..], more].concat())
    };
    assert_eq!(programs(&resume(&["--out", "same"])), 4);
    assert_eq!(programs(&resume(&["--out", "other", "--plan", "baseline"])), 6);
    let error = bench.run(&["train", "--out", "never", "--timeline", "nowhere/run.svg"]);
    let text = String::from_utf8_lossy(&error.stderr).into_owned();
    assert_eq!(error.status.code(), Some(2), "{text}");
    assert!(text.contains("--timeline nowhere/run.svg: there is no directory nowhere"), "{text}");
    assert!(!bench.path("never").exists());
    let error = bench.run(&["train", "--plan", "fastest"]);
    assert_eq!(error.status.code(), Some(2));
}
