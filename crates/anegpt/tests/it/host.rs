//! The additions of a Mac's CPU, over the stand-ins: products by Accelerate, readings of power.

use crate::apple::{losses, runtime, strictly};
use crate::{Bench, events, of, with, words};
use serde_json::Value;

#[test]
fn host_products_by_accelerate_are_noted_and_kept() {
    let bench = Bench::new();
    let base = bench.small_run();
    let args = ["--device", "emulator", "--steps", "4", "--checkpoint-every", "2"];
    let json = ["--log-format", "json", "--out"];
    let weights = |run: &str| {
        std::fs::read(bench.path(run).join("step-00000004/model.safetensors")).expect("weights")
    };
    let library = ["--host-gemm", "accelerate"];
    let theirs =
        strictly(&bench, &with(&base, &[&args[..], &library, &json, &["theirs"]].concat()));
    let all = events(&theirs);
    let start = of(&all, "start")[0];
    assert_eq!(
        (&start["host_gemm"], &start["host_gemm_reason"]),
        (&"accelerate".into(), &"asked for".into(),)
    );
    let ours = bench.ok(&with(&base, &[&args[..], &json, &["ours"]].concat()));
    assert_eq!(of(&events(&ours), "start")[0]["host_gemm"], "ours");
    // The first loss differs by the rounding of logits of a magnitude around 1 (sums of 32
    // products: below 33·2⁻²⁴·32 each) and no more; the weights' bits by another order of sums.
    let first = |log: &str| losses(log)[0].as_f64().expect("a loss");
    assert!((first(&theirs) - first(&ours)).abs() < 2.0 * 33.0 * 32.0 * 2f64.powi(-24));
    assert_ne!(weights("theirs"), weights("ours"));
    // Going on takes what the run had, and gives the bytes of the run that was not interrupted.
    let resume = ["train", "--resume", "theirs/step-00000002", "--steps", "4"];
    strictly(&bench, &[&resume[..], &["--sample-every", "0", "--out", "again"]].concat());
    assert_eq!(weights("again"), weights("theirs"));
    // Where it is missing, that is said; what is then taken instead differs, and that too is said.
    let output = bench.run(&resume);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("with accelerate, but no Accelerate on this machine"), "{error}");
    assert!(error.contains("--host-gemm ours"), "{error}");
    let other = ["--sample-every", "0", "--host-gemm", "ours", "--log-format", "json"];
    let log = bench.ok(&[&resume[..], &other, &["--out", "other"]].concat());
    let all = events(&log);
    let message = of(&all, "warning")[0]["message"].as_str().expect("words");
    assert!(message.contains("by accelerate so far and are by ours"), "{message}");
    assert_ne!(weights("other"), weights("theirs"));
}

#[test]
fn host_products_are_by_what_is_faster_and_right() {
    let bench = Bench::new();
    let base = bench.small_run();
    let runtime = runtime();
    let start = |faults: &str, out: &str| {
        let args = ["--device", "emulator", "--steps", "1", "--log-format", "json"];
        let args = with(&base, &[&args[..], &["--out", out, "--runtime", &runtime]].concat());
        let output = bench.command(&args).env("STANDINS_FAULTS", faults).output().expect("it runs");
        let log = String::from_utf8(output.stdout).expect("UTF-8");
        let all = events(&log);
        let start = of(&all, "start")[0];
        let text = |name: &str| start[name].as_str().expect("text").to_owned();
        (text("host_gemm"), text("host_gemm_reason"))
    };
    // Which of the two is faster here is not for a test to say.
    let (name, reason) = start("", "a");
    match name.as_str() {
        "ours" => assert!(reason.starts_with("Accelerate is "), "{reason}"),
        _ => assert!(reason.ends_with("x ours on this machine"), "{reason}"),
    }
    let (name, reason) = start("wrong product:1", "b");
    assert_eq!(name, "ours");
    assert!(reason.contains("Accelerate is not taken: it gives a wrong result"), "{reason}");
}

#[test]
fn power_is_shown_where_it_can_be_read() {
    let bench = Bench::new();
    let devices = strictly(&bench, &["devices"]);
    assert!(devices.contains("power      ANE "), "{devices}");
    assert!(words(&devices).contains(" W (whole machine, by IOReport)"), "{devices}");
    let doctor = strictly(&bench, &["doctor", "--device", "emulator", "--json"]);
    let doctor: Value = serde_json::from_str(&doctor).expect("JSON");
    assert_eq!(doctor["power"]["source"], "IOReport");
    // The counters rise by 0.5 J (engine) and 2 J (CPU) from one sample to the next.
    let mean = &doctor["power"]["mean"];
    let joules =
        |name: &str| mean[name].as_f64().expect("watts") * mean["seconds"].as_f64().unwrap();
    assert!(
        (joules("ane_watts") - 0.5).abs() < 1e-9 && (joules("cpu_watts") - 2.0).abs() < 1e-9,
        "{mean}"
    );
    let base = bench.small_run();
    let args = ["--device", "emulator", "--steps", "3", "--host-gemm", "ours"];
    let text = strictly(&bench, &with(&base, &[&args[..], &["--out", "a"]].concat()));
    let text = words(&text);
    assert!(text.contains("(mean of the whole machine, by IOReport)"), "{text}");
    assert!(text.contains("J per token, evaluation and samples included"), "{text}");
    let log = std::fs::read_to_string(bench.path("a/log.jsonl")).expect("a log");
    let all = events(&log);
    let power = of(&all, "power")[0];
    assert!(power["joules_per_token"].as_f64().is_some_and(|j| j > 0.0), "{power}");
    assert!(power["ane_watts"].as_f64().is_some_and(|w| w > 0.0), "{power}");
    assert!(log.lines().last().is_some_and(|line| line.contains("done")), "{log}");
    // Counters that cannot be read cost a run nothing; without a Mac nothing is said at all.
    let runtime = runtime();
    let with_faults = |args: &[&str]| {
        let mut command = bench.command(&[args, &["--runtime", &runtime]].concat());
        let output = command.env("STANDINS_FAULTS", "no channels:-1").output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = with_faults(&["devices"]);
    assert!(
        text.contains("power      no reading: IOReport cannot be used here: the system has no"),
        "{text}"
    );
    let text = with_faults(&with(&base, &[&args[..], &["--out", "b"]].concat()));
    assert!(text.contains("Efficiency Report") && !text.contains("Energy:"), "{text}");
    assert!(!bench.ok(&["devices"]).contains("power "));
    let text = bench.ok(&with(&base, &[&args[..], &["--out", "c"]].concat()));
    assert!(text.contains("Efficiency Report") && !text.contains("Energy:"), "{text}");
    let doctor = bench.ok(&["doctor", "--device", "emulator", "--json"]);
    assert!(!doctor.contains("\"power\""), "{doctor}");
}

/// All sets of vector instructions train the same model, to the bit.
#[test]
fn every_set_of_instructions_gives_the_same_bits() {
    let bench = Bench::new();
    let trained = |level: &str| {
        let args = "train --preset tiny --steps 3 --batch 2 --seq 64 --sample-every 0 --host-gemm ours --out";
        let args: Vec<&str> = args.split_whitespace().chain([level]).collect();
        let output = bench.command(&args).env("ANEGPT_SIMD", level).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let weights = bench.path(level).join("step-00000003/model.safetensors");
        (output.status.code(), error, std::fs::read(weights).ok())
    };
    let (code, error, _) = trained("mmx");
    assert_eq!(code, Some(2));
    assert!(error.contains("ANEGPT_SIMD=mmx: this machine has "), "{error}");
    let levels: Vec<&str> = error.split('`').skip(1).step_by(2).collect();
    assert_eq!(levels.last(), Some(&"none"));
    let all: Vec<Vec<u8>> = (levels.iter())
        .map(|level| {
            let (code, error, weights) = trained(level);
            assert_eq!(code, Some(0), "{level}: {error}");
            weights.expect("a checkpoint")
        })
        .collect();
    // Without vectors, a product may be rounded before it is added.
    let vectors = &all[..all.len() - 1];
    assert!(vectors.iter().all(|weights| *weights == vectors[0]), "{levels:?}");
}
