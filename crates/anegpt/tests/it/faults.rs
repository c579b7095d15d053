//! Training on a device that fails: it recovers, or ends with the machine's words and an intact
//! checkpoint.

use crate::{Bench, with};

/// Steps, bytes of the last weights, and what was written to standard error.
fn train(bench: &Bench, base: &[String], out: &str, more: &[&str]) -> (Vec<u8>, String) {
    let args = [&["--steps", "8", "--checkpoint-every", "3", "--out", out], more].concat();
    let output = bench.run(&with(base, &args));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    (weights(bench, out, 8), error)
}

fn weights(bench: &Bench, out: &str, step: u64) -> Vec<u8> {
    let path = bench.path(out).join(format!("step-{step:08}/model.safetensors"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_flaky_compiler_is_waited_for() {
    let bench = Bench::new();
    let base = bench.small_run();
    let (healthy, _) = train(&bench, &base, "healthy", &[]);
    let (flaky, error) = train(&bench, &base, "flaky", &["--inject-faults", "flaky-compile:3"]);
    assert!(healthy == flaky, "the same run to the bit");
    assert_eq!(error.matches("err=( CompilationFailure )").count(), 3, "{error}");
    assert!(error.contains("trying again in 0.4 s"), "{error}");
}

#[test]
fn a_compiler_that_stays_broken_ends_the_run() {
    let bench = Bench::new();
    let base = bench.small_run();
    for (spec, words) in [
        ("flaky-compile:9", "_ANECompiler : ANECCompile() FAILED"),
        ("refuse-load:0x20004", "Program load failure (0x20004)"),
        ("refuse-load:0x50004", "Program load failure (0x50004)"),
    ] {
        let output = bench.run(&with(&base, &["--steps", "8", "--inject-faults", spec]));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("error: ") && error.contains(words), "{spec}: {error}");
    }
    let output = bench.run(&with(&base, &["--steps", "8", "--inject-faults", "coffee"]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("no fault called `coffee`; known are: flaky-compile"), "{error}");
}

#[test]
fn a_hang_leaves_a_checkpoint_that_goes_on_to_the_bit() {
    let bench = Bench::new();
    let base = bench.small_run();
    let (healthy, _) = train(&bench, &base, "healthy", &[]);
    // Six programs for each of two layers are twelve runs a step, and validation has its own.
    let args = "--steps 8 --checkpoint-every 3 --eval-every 0 --out hung --plan baseline";
    let args: Vec<_> = args.split(' ').collect();
    let faults = ["--inject-faults", "hang-after:60,hang-limit:0.05"];
    let output = bench.run(&with(&base, &[&args[..], &faults].concat()));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("Program Inference timeout: timed out"), "{error}");
    assert!(error.contains("go on with: anegpt train --resume hung"), "{error}");
    assert!(bench.path("hung/step-00000003/state.json").exists());
    assert!(!bench.path("hung/step-00000006").exists());
    bench.ok(&["train", "--resume", "hung", "--sample-every", "0"]);
    assert!(healthy == weights(&bench, "hung", 8), "as if nothing had happened");
}

#[test]
fn spoilt_outputs_do_not_spoil_the_run() {
    let bench = Bench::new();
    let base = bench.small_run();
    for spec in ["nan-at:20", "inf-at:33", "zeros-at:20,zeros-at:31"] {
        let out = spec.split(':').next().unwrap();
        let args = ["--steps", "8", "--log-format", "json", "--out", out, "--inject-faults", spec];
        let text = bench.ok(&with(&base, &args));
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let done = events.iter().find(|e| e["event"] == "done").unwrap();
        assert!(done["val_loss"].as_f64().unwrap().is_finite(), "{spec}: {done}");
        let model = weights(&bench, out, 8);
        let (head, data) =
            model.split_at(8 + u64::from_le_bytes(model[..8].try_into().unwrap()) as usize);
        assert!(head.len() > 8);
        let finite = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap()).is_finite();
        assert!(data.chunks_exact(4).all(finite), "{spec}: every weight is finite");
    }
}
