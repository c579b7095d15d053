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

#[test]
fn a_trace_that_cannot_be_written_takes_no_results_with_it() {
    let bench = Bench::new();
    // In the place of the second file there is a directory.
    std::fs::create_dir_all(bench.path("traces/dispatch.anetrace")).unwrap();
    let args = ["probe", "all", "--record", "traces", "--device", "emulator", "--chip", "m1"];
    let output = bench.run(&[&args[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot write traces/dispatch.anetrace"), "{error}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("closed JSON");
    let probes = report["probes"].as_array().unwrap();
    assert!(probes.len() == 21 && probes.iter().all(|p| p["verdict"].is_string()), "{report}");
    assert!(bench.path("traces/in-memory.anetrace").is_file());
    assert!(bench.path("traces/law.anetrace").is_file());
    let output = bench.run(&["probe", "dispatch", "--record", "traces", "--device", "emulator"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && text.contains("as the facts say"), "{text}");
    assert!(text.contains("not recorded: cannot write traces/dispatch.anetrace"), "{text}");
}
