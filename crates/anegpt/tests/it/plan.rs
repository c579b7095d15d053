//! `anegpt plan`.

use crate::Bench;

#[test]
fn a_plan_names_its_programs_and_writes_them() {
    let bench = Bench::new();
    let text = bench.ok(&["plan", "--preset", "stories15m", "--chip", "m1", "--write", "programs"]);
    let names = ["fwdAttn", "fwdFFN", "ffnBwd", "sdpaBwd1", "sdpaBwd2", "qkvBwd"];
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
    assert_eq!(one["programs"].as_array().unwrap().len(), 6);
    assert_eq!(one["confirmed_on_hardware"], false);
    let step = |field: &str| one["step"][field].as_f64().unwrap();
    let lanes = step("engine") + step("host") - step("overlap");
    assert!((lanes / step("seconds") - 1.0).abs() < 1e-12 && step("overlap") > 0.0, "{one}");
    assert_eq!(one["forecast_ms_per_step"].as_f64().unwrap(), 1e3 * seconds(&one));
    assert_eq!([&one["plan"], &one["plans"][1]["name"]], ["baseline", "fused"]);
    let fused = of(&["--plan", "fused"]);
    assert_eq!(fused["programs"].as_array().unwrap().len(), 4);
    assert_eq!(fused["forecast_ms_per_step"], of(&[])["plans"][1]["forecast_ms_per_step"]);
    let error = bench.run(&["plan", "--preset", "huge"]);
    assert_eq!(error.status.code(), Some(2));
}

#[test]
fn a_plan_is_drawn() {
    let bench = Bench::new();
    let text = bench.ok(&["plan", "--timeline", "step.svg"]);
    assert!(text.contains("drawn in step.svg") && text.contains("side by side for"), "{text}");
    let picture = std::fs::read_to_string(bench.path("step.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("fwdAttn, layer 3: "), "{picture}");
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
    assert_eq!(programs(&train(&["--plan", "fused"])), 4);
    let resume = |more: &[&str]| {
        let fixed = ["train", "--resume", "run", "--steps", "3", "--log-format", "json"];
        bench.ok(&[&fixed[..], more].concat())
    };
    assert_eq!(programs(&resume(&["--out", "same"])), 4);
    assert_eq!(programs(&resume(&["--out", "other", "--plan", "baseline"])), 6);
    let error = bench.run(&["train", "--plan", "fastest"]);
    assert_eq!(error.status.code(), Some(2));
}
