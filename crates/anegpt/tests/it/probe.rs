//! Probes from the command line.

use crate::Bench;

#[test]
fn the_names_are_in_the_list_and_in_the_help() {
    let bench = Bench::new();
    for args in [&["probe", "list"][..], &["probe", "--help"], &["probe"]] {
        let text = bench.ok(args);
        for name in ["in-memory", "dispatch", "working-set", "real-time", "law", "notch"] {
            assert!(text.contains(&format!("\n  {name} ")), "{args:?}: {text}");
        }
    }
    let output = bench.run(&["probe", "coffee"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no probe called `coffee`"));
}

#[test]
fn a_probe_records_a_trace_that_replays() {
    let bench = Bench::new();
    let device = ["--device", "emulator", "--chip", "m1"];
    let text = bench.ok(&[&["probe", "law", "--record", "traces"][..], &device].concat());
    assert!(text.contains("only an engine can tell"), "{text}");
    let replayed = bench.ok(&["mil", "replay", "traces/law.anetrace"]);
    assert!(replayed.contains("program 1"), "{replayed}");
    let text = bench.ok(&[&["probe", "all", "--json"][..], &device].concat());
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let verdicts = report["probes"].as_array().unwrap().iter().map(|p| p["verdict"].as_str());
    let count = |what: &str| verdicts.clone().filter(|v| *v == Some(what)).count();
    let counts = ["as the facts say", "assumed", "not applicable"].map(count);
    assert_eq!(counts, [10, 11, 0], "{text}");
}
