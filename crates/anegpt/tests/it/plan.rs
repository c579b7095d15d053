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
    let error = bench.run(&["plan", "--preset", "huge"]);
    assert_eq!(error.status.code(), Some(2));
}
