//! `anegpt report`.

use crate::{Bench, with};

#[test]
fn the_report_of_a_run_is_printed_again() {
    let bench = Bench::new();
    let base = bench.small_run();
    let trained = bench.ok(&with(&base, &["--steps", "4", "--out", "run"]));
    let report = bench.ok(&["report", "run"]);
    assert!(report.contains("=== Efficiency Report ===\nSteps:           4 of 4\n"), "{report}");
    assert!(trained.ends_with(&report), "{trained}\nand\n{report}");
    assert_eq!(bench.ok(&["report", "run/log.jsonl"]), report);
    assert_eq!(bench.ok(&["report", "run", "run"]), format!("{report}\n{report}"));
    // The last session counts.
    let resumed = bench.ok(&["train", "--resume", "run", "--steps", "6"]);
    let report = bench.ok(&["report", "run"]);
    assert!(report.contains("Steps:           6 of 6\n") && resumed.ends_with(&report), "{report}");
}

#[test]
fn a_run_without_a_report_says_why() {
    let bench = Bench::new();
    bench.ok(&with(&bench.small_run(), &["--steps", "2", "--out", "run"]));
    let log = std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    let begun: String = log.lines().take(3).map(|line| format!("{line}\n")).collect();
    bench.write("begun.jsonl", begun);
    bench.write("other.jsonl", "{\"event\": \"flight\"}\n");
    for (run, says) in [
        ("begun.jsonl", "begun.jsonl: no session has finished"),
        ("other.jsonl", "other.jsonl: line 1 of the log is not an event"),
        ("nowhere", "cannot read nowhere"),
    ] {
        let output = bench.run(&["report", run]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{error}");
        assert!(error.contains(says), "{error}");
    }
}
