//! `anegpt parity`.

use crate::{Bench, with, words};
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A comparison of short runs on a small text.
fn small(bench: &Bench) -> Vec<String> {
    let mut base = bench.small_run();
    base[0] = "parity".to_owned();
    base.retain(|arg| arg != "--sample-every" && arg != "0");
    let more = "--steps 12 --eval-every 4 --compare-every 4 --out pair";
    base.extend(more.split(' ').map(str::to_owned));
    base
}

fn json(bench: &Bench, path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(bench.path(path)).unwrap()).unwrap()
}

/// The validation losses in the log of a run, by step.
fn validation(bench: &Bench, run: &str) -> Vec<(u64, f64)> {
    let log = fs::read_to_string(bench.path(run).join("log.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let evals = events.filter(|event| event["event"] == "eval");
    evals.map(|e| (e["step"].as_u64().unwrap(), e["val_loss"].as_f64().unwrap())).collect()
}

#[test]
fn a_comparison_tells_the_gap_of_each_kind_of_run() {
    let bench = Bench::new();
    let base = small(&bench);
    let args = with(&base, &["--numerics", "f32,fast", "--seeds", "2", "--seed", "7"]);
    let said = bench.ok(&args);
    assert!(said.contains("f32, baseline, seed 7: validation loss"), "{said}");

    // The same from the logs of the runs.
    let last = |run: &str| validation(&bench, run).last().unwrap().1;
    let runs = ["f32-baseline", "fast-baseline"]
        .map(|kind| [7, 8].map(|seed| last(&format!("pair/{kind}-seed-{seed}"))));
    let gaps = [runs[1][0] - runs[0][0], runs[1][1] - runs[0][1]];
    let found = json(&bench, "pair/parity.json");
    assert_eq!(found["seeds"], serde_json::json!([7, 8]));
    assert_eq!(found["steps"], 12);
    let gap = &found["kinds"][1]["gap"];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    let mean = (gaps[0] + gaps[1]) / 2.0;
    assert!(mean != 0.0, "fp16 changes the loss");
    assert!((number(&gap["loss"]["mean"]) - mean).abs() < 1e-12);
    // Of two values, the standard error of the mean is half their difference.
    let error = (gaps[0] - gaps[1]).abs() / 2.0;
    assert!((number(&gap["loss"]["error"]) - error).abs() < 1e-12);
    assert!((number(&gap["share"]) - 2.0 * mean / (runs[0][0] + runs[0][1])).abs() < 1e-12);
    assert_eq!(
        gap["by_step"].as_array().unwrap().len(),
        validation(&bench, "pair/f32-baseline-seed-7").len()
    );

    // Two layers and the rest, at steps 4, 8 and 12, further apart from step to step.
    let layers = gap["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3);
    for layer in layers {
        let points = layer["distance"].as_array().unwrap();
        assert_eq!(points.iter().map(|p| p[0].as_u64().unwrap()).collect::<Vec<_>>(), [4, 8, 12]);
        let far: Vec<f64> = points.iter().map(|p| number(&p[1])).collect();
        assert!(far[0] > 0.0 && far[2] < 0.1, "{layer}");
    }
    for (picture, shown) in [
        (
            "pair/losses.svg",
            &["fast, baseline, seed 7", "fast, baseline, seed 8", ">step<", ">nats per token<"][..],
        ),
        ("pair/layers.svg", &["fast, baseline", ">step<", ">relative distance<", ">1 % counts<"]),
    ] {
        let picture = fs::read_to_string(bench.path(picture)).unwrap();
        assert!(picture.starts_with("<svg"), "{picture}");
        shown.iter().for_each(|text| assert!(picture.contains(text), "{text}: {picture}"));
    }

    // Nothing is trained again; other flags are refused.
    let log = || fs::read(bench.path("pair/fast-baseline-seed-8/log.jsonl")).unwrap();
    let before = log();
    assert_eq!(bench.ok(&args), said);
    assert_eq!(log(), before);
    let other: Vec<&str> = args.iter().map(|arg| if *arg == "12" { "13" } else { arg }).collect();
    let output = bench.run(&other);
    assert_eq!(output.status.code(), Some(2));
    let error = words(&String::from_utf8_lossy(&output.stderr));
    let differ = "has runs with other flags. Only there: --steps=12. Only here: --steps=13.";
    assert!(error.contains(differ), "{error}");
}

/// Two plans in f32 compute the same but for the order of sums.
#[test]
fn plans_are_compared_like_arithmetic() {
    let bench = Bench::new();
    let base = small(&bench);
    let args = with(&base, &["--numerics", "f32", "--plan", "baseline,fused", "--seeds", "1"]);
    bench.ok(&args);
    let gap = &json(&bench, "pair/parity.json")["kinds"][1]["gap"];
    assert!(gap["loss"]["mean"].as_f64().unwrap().abs() < 1e-4, "{gap}");
    assert_eq!(gap["loss"]["error"], Value::Null);
    assert_eq!(gap["parted"], serde_json::json!([null]));
}

#[test]
fn an_interrupted_comparison_goes_on() {
    let bench = Bench::new();
    let base = small(&bench);
    let args = with(&base, &["--numerics", "f32,fast", "--seeds", "1"]);
    let mut child = bench
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    // Until the second run has begun.
    let second = bench.path("pair/fast-baseline-seed-42/log.jsonl");
    let start = Instant::now();
    while !second.exists() && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let first = fs::read(bench.path("pair/f32-baseline-seed-42/log.jsonl")).unwrap();
    // The run that was left behind ends by itself, and gives its directory back.
    let lock = Instant::now();
    loop {
        let output = bench.run(&args);
        match output.status.success() {
            true => break,
            false => {
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(lock.elapsed() < Duration::from_secs(60), "{error}");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
    assert_eq!(fs::read(bench.path("pair/f32-baseline-seed-42/log.jsonl")).unwrap(), first);
    assert_eq!(json(&bench, "pair/parity.json")["kinds"].as_array().unwrap().len(), 2);
}

/// The last line of a run's log may be missing, as when it was killed after its last checkpoint. Runs of another
/// model are not averaged with those that are there, and a mistake before the first run costs nothing.
#[test]
fn runs_that_are_there_are_taken_if_they_belong_to_it() {
    let bench = Bench::new();
    let base = small(&bench);
    let args = |seeds| with(&base, &["--numerics", "f32,fast", "--seeds", seeds]);
    let wrong: Vec<&str> =
        args("1").iter().map(|arg| if *arg == "text.txt" { "no.txt" } else { arg }).collect();
    assert_eq!(bench.run(&wrong).status.code(), Some(1));
    let said = bench.ok(&args("1"));
    let path = bench.path("pair/fast-baseline-seed-42/log.jsonl");
    let log = fs::read_to_string(&path).unwrap();
    let cut = log[..log.trim_end().rfind('\n').unwrap() + 1].to_owned();
    assert!(log.contains("\"event\":\"done\"") && !cut.contains("\"event\":\"done\""), "{log}");
    fs::write(&path, &cut).unwrap();
    assert_eq!(bench.ok(&args("1")), said);
    assert_eq!(fs::read_to_string(&path).unwrap(), cut);

    let config = fs::read_to_string(bench.path("small.toml")).unwrap();
    bench.write("small.toml", config.replace("n_embd = 32", "n_embd = 64"));
    let output = bench.run(&args("2"));
    let error = words(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("runs of different models, data or settings"), "{error}");

    let mut inside = args("1");
    *inside.iter_mut().find(|arg| **arg == "pair").unwrap() = "pair/f32-baseline-seed-42";
    let output = bench.run(&inside);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("holds a run"));
}

#[test]
fn what_makes_no_comparison_is_refused() {
    let bench = Bench::new();
    for (more, why) in [
        ("--numerics f32", "nothing to compare: give at least two of --numerics or of --plan"),
        (
            "--numerics f32,fast --resume run",
            "parity takes no --resume: the same command, given again",
        ),
        ("--numerics f32,fast --keep 3", "parity takes no --keep"),
        ("--numerics f32,half", "invalid value 'half'"),
        ("--divergence 0", "--divergence must be a share above 0"),
    ] {
        let args: Vec<&str> = std::iter::once("parity").chain(more.split(' ')).collect();
        let output = bench.run(&args);
        let error = words(&String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{more}: {error}");
        assert!(error.contains(why), "{more}: {error}");
    }
}
