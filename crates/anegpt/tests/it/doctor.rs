//! The doctor, alone and during a run.

use crate::{Bench, with, words};

fn doctor(bench: &Bench, more: &[&str]) -> (Option<i32>, String, String) {
    let output = bench.run(&[&["doctor", "--device", "emulator"], more].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_healthy_device_passes_and_a_sick_one_fails() {
    let bench = Bench::new();
    let (code, out, _) = doctor(&bench, &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("good       constants-live") && !out.contains("what to do"), "{out}");
    let (code, out, error) = doctor(&bench, &["--inject-faults", "stale-weights"]);
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert_eq!(code, Some(1));
    assert!(
        out.contains("bad        constants-live") && words(&out).contains("weights are stale"),
        "{out}"
    );
    assert!(out.contains("what to do: give weights as inputs"), "{out}");
    assert_eq!(error, "error: the device gave a wrong answer or none\n");
    let (code, out, _) =
        doctor(&bench, &["--json", "--inject-faults", "nan-at:2,hang-after:9,hang-limit:0.01"]);
    assert_eq!(code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let verdicts: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["verdict"].as_str().unwrap())
        .collect();
    let hung = ["good", "good", "bad", "good", "good", "good", "good", "bad", "skipped", "skipped"];
    assert_eq!(verdicts, hung, "{out}");
    assert_eq!(
        (report["verdict"].as_str(), report["emulated"].as_bool()),
        (Some("bad"), Some(true))
    );
    assert!(report["runs"].as_u64() > Some(9), "{out}");
    assert_eq!(doctor(&bench, &["--inject-faults", "coffee"]).0, Some(2));
}

/// The report of what was found until then is not lost.
#[test]
fn a_device_that_never_answers_ends_the_examination() {
    let bench = Bench::new();
    let hangs = ["--inject-faults", "hang-after:3,hang-limit:600", "--time-limit"];
    // As long as the four checks before need on any machine, however busy.
    let (code, out, error) = doctor(&bench, &[&hangs[..], &["5", "--json"]].concat());
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("the device hangs: no answer to the next check within 5 s"), "{error}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let ids: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["surfaces", "addition", "matmul", "convolution", "hang"]);
    assert_eq!(report["verdict"], "bad");
    assert!(report["runs"].is_null(), "nobody knows: {out}");
    let (code, out, _) = doctor(&bench, &[&hangs[..], &["1"]].concat());
    assert_eq!(code, Some(1));
    assert!(
        out.contains("bad        hang") && out.contains("what to do: end every program"),
        "{out}"
    );
}

/// The compiler that hangs is named, not the check.
#[test]
#[cfg(all(unix, not(target_vendor = "apple")))]
fn a_compile_that_hangs_ends_before_its_check_does() {
    use std::io::BufRead;
    let (bench, runtime) = (Bench::new(), crate::apple::runtime());
    let args = ["doctor", "--json", "--device", "in-memory", "--no-packed"];
    let more = ["--compile-limit", "1", "--runtime", &runtime];
    let mut command = bench.command(&[&args[..], &more].concat());
    command.env("STANDINS_FAULTS", "hang:-1").stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let report: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let check = &report["checks"][1];
    assert_eq!((&check["id"], &check["verdict"]), (&"addition".into(), &"bad".into()));
    assert!(check["finding"].as_str().unwrap().contains("did not end within 1 s"), "{check}");
    assert!(check["advice"].as_str().unwrap().contains("restart the Mac"), "{check}");
    assert_eq!(report["checks"][2]["verdict"], "skipped");
}

/// Whoever comes first, the check or its limit, there is one report.
#[test]
fn a_check_that_ends_as_its_time_does_is_reported_once() {
    let bench = Bench::new();
    for seconds in ["0.998", "0.999", "1.0", "1.001"] {
        let faults = format!("hang-after:3,hang-limit:{seconds}");
        let args = ["--json", "--time-limit", "1", "--inject-faults", &faults];
        let (code, out, error) = doctor(&bench, &args);
        assert_eq!((code, error.lines().count()), (Some(1), 1), "{error}");
        let report: serde_json::Value = serde_json::from_str(&out).expect("one object");
        assert_eq!(report["verdict"], "bad");
    }
}

/// Its libraries would wait at an exit for what hangs.
#[test]
#[cfg(all(unix, not(target_vendor = "apple")))]
fn a_compile_that_hangs_here_does_not_keep_the_program_from_ending() {
    let (bench, runtime) = (Bench::new(), crate::apple::runtime());
    let args = ["doctor", "--json", "--device", "in-memory", "--no-packed"];
    let more = ["--time-limit", "5", "--runtime", &runtime];
    let mut command = bench.command(&[&args[..], &more].concat());
    let output = command.env("STANDINS_FAULTS", "hang:-1").output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    let checks: Vec<_> =
        report["checks"].as_array().unwrap().iter().map(|c| (&c["id"], &c["verdict"])).collect();
    assert_eq!(checks, [(&"surfaces".into(), &"good".into()), (&"hang".into(), &"bad".into())]);
}

#[test]
fn no_step_is_taken_on_a_device_that_is_sick_from_the_start() {
    let bench = Bench::new();
    let base = bench.small_run();
    let sick = ["--steps", "2", "--doctor-every", "5", "--inject-faults", "wrong-at:1"];
    let output = bench.run(&with(&base, &sick));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("a wrong answer to a question whose answer is known"), "{error}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("step 1"), "{output:?}");
}

/// From run 70 on (step 5) every answer has a wrong bit: the last checkpoint is that of step 3.
#[test]
fn a_run_ends_when_the_device_goes_bad() {
    let bench = Bench::new();
    let base = bench.small_run();
    let args =
        ["--steps", "8", "--checkpoint-every", "3", "--eval-every", "0", "--doctor-every", "2"];
    let healthy = bench.ok(&with(&base, &[&args[..], &["--out", "healthy"]].concat()));
    assert!(!healthy.contains("wrong answer"));
    let wrong: Vec<String> = (70..400).map(|run| format!("wrong-at:{run}")).collect();
    let faults = wrong.join(",");
    let sick = ["--out", "sick", "--inject-faults", &faults];
    let output = bench.run(&with(&base, &[&args[..], &sick].concat()));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("a wrong answer to a question whose answer is known: 1 of 4096"),
        "{error}"
    );
    assert!(error.contains("go on with: anegpt train --resume sick"), "{error}");
    assert!(bench.path("sick/step-00000003/state.json").exists());
    assert!(!bench.path("sick/step-00000006").exists(), "no checkpoint of a sick device");
    bench.ok(&["train", "--resume", "sick", "--sample-every", "0"]);
    let weights =
        |out: &str| std::fs::read(bench.path(out).join("step-00000008/model.safetensors"));
    assert!(weights("healthy").unwrap() == weights("sick").unwrap(), "as if nothing had happened");
}
