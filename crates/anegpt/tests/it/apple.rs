//! The devices of a Mac, driven from the command line over the stand-ins of `crates/standins`.

use crate::{Bench, events, of, with, words};
use serde_json::Value;
use std::path::PathBuf;

/// The library of stand-ins, which Cargo puts beside the tests.
pub(crate) fn runtime() -> String {
    let test = std::env::current_exe().expect("a path");
    let path: PathBuf = test.parent().expect("a directory").join("libstandins.so");
    assert!(path.exists(), "{} is missing", path.display());
    path.display().to_string()
}

/// Runs the program so that it dies of the first rule that it breaks.
pub(crate) fn strictly(bench: &Bench, args: &[&str]) -> String {
    strictly_with(bench, args, "")
}

/// The same on a system with faults.
fn strictly_with(bench: &Bench, args: &[&str], faults: &str) -> String {
    let runtime = runtime();
    let args = [args, &["--runtime", &runtime]].concat();
    let mut command = bench.command(&args);
    let command = command.env("STANDINS_ABORT", "1").env("STANDINS_FAULTS", faults);
    let output = command.output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub(crate) fn losses(log: &str) -> Vec<Value> {
    of(&events(log), "step").iter().map(|step| step["loss"].clone()).collect()
}

/// Classifier, softmax and norms on the engine, with one surface per input and with all inputs in one.
#[test]
fn offload_trains_by_both_routes_with_the_emulators_bits() {
    trains_by_both_routes("offload");
}

/// Weight gradients too.
#[test]
fn gradients_train_by_both_routes_with_the_emulators_bits() {
    trains_by_both_routes("gradients");
}

/// Several layers in a program, whose requests have many more inputs than those of others.
#[test]
fn layers_train_by_both_routes_with_the_emulators_bits() {
    trains_by_both_routes("layers");
}

fn trains_by_both_routes(plan: &str) {
    let bench = Bench::new();
    let text = bench.ok(&["data", "synth", "--count", "400"]);
    bench.write("text.txt", text);
    let args = "train --preset tiny --data text.txt --tokenizer bpe:300 --steps 2 --batch 1 --seq 64 \
                --sample-every 0 --host-gemm ours --log-format json";
    let run = |device: &str, out: &str, more: &[&str]| {
        let args = args.split_whitespace().chain(["--device", device, "--out", out]);
        let args: Vec<&str> = args.chain(["--plan", plan]).chain(more.iter().copied()).collect();
        let log = match device {
            "emulator" => bench.ok(&args),
            _ => strictly_with(&bench, &args, ""),
        };
        let weights = std::fs::read(bench.path(out).join("step-00000002/model.safetensors"));
        (losses(&log), weights.expect("a checkpoint"))
    };
    let emulated = run("emulator", "emulator", &[]);
    let others = [("in-memory", "plain", &[][..]), ("espresso", "espresso", &[])];
    for (device, out, more) in
        others.into_iter().chain([("in-memory", "packed", &["--packed"][..])])
    {
        assert!(run(device, out, more) == emulated, "{out}");
    }
}

#[test]
fn tiny_trains_by_both_routes_with_the_emulators_bits() {
    let bench = Bench::new();
    let text = bench.ok(&["data", "synth", "--count", "400"]);
    bench.write("text.txt", text);
    let args = "train --preset tiny --data text.txt --tokenizer bpe:300 --steps 3 --batch 2 \
                --plan fused --sample-every 0 --host-gemm ours --log-format json";
    let run_with = |device: &str, out: &str, more: &[&str], faults: &str| {
        let args = args.split_whitespace().chain(["--device", device, "--out", out]);
        let args: Vec<&str> = args.chain(more.iter().copied()).collect();
        let log = match device {
            "emulator" => bench.ok(&args),
            _ => strictly_with(&bench, &args, faults),
        };
        let weights = std::fs::read(bench.path(out).join("step-00000003/model.safetensors"));
        (losses(&log), weights.expect("a checkpoint"), log)
    };
    let run = |device: &str, out: &str, more: &[&str]| run_with(device, out, more, "");
    let emulated = run("emulator", "emulator", &[]);
    assert_eq!(emulated.0.len(), 3);
    for (device, name) in [("in-memory", "in-memory models"), ("espresso", "Espresso")] {
        let real = run(device, device, &[]);
        assert_eq!(real.0, emulated.0, "{device}");
        assert!(real.1 == emulated.1, "{device}: the weights differ");
        let start: Value = serde_json::from_str(real.2.lines().next().expect("a line")).unwrap();
        let described = start["device"].as_str().expect("a device");
        assert!(described.starts_with(&format!("Neural Engine by {name}")), "{described}");
    }
    // Around the system's service, with statistics.
    let direct = run("in-memory", "direct", &["--evaluate", "direct", "--hardware-time"]);
    assert!(direct.0 == emulated.0 && direct.1 == emulated.1, "the direct way differs");
    assert!(direct.2.lines().next().unwrap().contains("requests sent directly"), "{}", direct.2);
    // Where several inputs fail.
    let several = "several inputs fail:-1";
    let runtime = runtime();
    let plain = args.split_whitespace().chain(["--device", "in-memory", "--out", "plain"]);
    let plain: Vec<&str> = plain.chain(["--no-packed", "--runtime", &runtime]).collect();
    let output = bench.command(&plain).env("STANDINS_FAULTS", several).output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("0x1d"), "{error}");
    for (device, out, more) in [
        ("in-memory", "packed-in-memory", &["--packed"][..]),
        // Found out by itself, as `ane` does.
        ("in-memory", "packed-by-itself", &[]),
        ("espresso", "packed-espresso", &["--packed"]),
        ("ane", "packed-ane", &[]),
    ] {
        let packed = run_with(device, out, more, several);
        assert!(packed.0 == emulated.0 && packed.1 == emulated.1, "{device}: packed differs");
        assert!(packed.2.lines().next().unwrap().contains("inputs packed"), "{}", packed.2);
    }
}

/// A bar of a picture: place and width, in pixels, and what it tells.
struct Bar<'p> {
    x: f64,
    width: f64,
    told: &'p str,
}

impl Bar<'_> {
    /// Pixels that two bars have in common; below 0, those between them.
    fn common(&self, other: &Self) -> f64 {
        (self.x + self.width).min(other.x + other.width) - self.x.max(other.x)
    }
}

/// Bars of one lane of a picture's first chart.
fn bars<'p>(picture: &'p str, lane: &str) -> Vec<Bar<'p>> {
    let after = |line: &'p str, what: &str| line.split_once(what).map(|parts| parts.1);
    let number = |line: &'p str, name: &str| -> Option<f64> {
        after(line, &format!(" {name}=\""))?.split_once('"')?.0.parse().ok()
    };
    let label = picture.lines().find(|line| line.ends_with(&format!(">{lane}</text>")));
    // The label is 20 pixels below the top of its lane.
    let top = label.and_then(|line| number(line, "y")).expect("a label") - 20.0;
    let bars =
        picture.lines().filter(|line| line.starts_with("<rect ") && number(line, "y") == Some(top));
    bars.map(|line| {
        let [x, width] = ["x", "width"].map(|name| number(line, name).unwrap());
        Bar { x, width, told: after(line, "<title>").unwrap() }
    })
    .collect()
}

#[test]
fn a_run_on_an_engine_uses_both_lanes_at_once() {
    let bench = Bench::new();
    let text = bench.ok(&["data", "synth", "--count", "400"]);
    bench.write("text.txt", text);
    // Few layers and a small vocabulary: each step takes a good part of the micro-batch. Between the two, nobody asks
    // for the weights.
    bench.write("wide.toml", "[model]\nn_layer = 2\nn_head = 2\nn_embd = 128\nseq_len = 128\n");
    let args = "train --config wide.toml --data text.txt --tokenizer bpe:300 --steps 2 --batch 4 \
                --plan baseline --sample-every 0 --eval-every 0 --checkpoint-every 0";
    let overlap = |device: &str| {
        let file = format!("{device}.svg");
        let more = ["--device", device, "--out", device, "--timeline", &file];
        let args: Vec<&str> = args.split_whitespace().chain(more).collect();
        // The run of an earlier attempt.
        let _ = std::fs::remove_dir_all(bench.path(device));
        match device {
            "emulator" => bench.ok(&args),
            _ => strictly(&bench, &args),
        };
        let picture = std::fs::read_to_string(bench.path(&file)).expect("a picture");
        let (engine, host) = (bars(&picture, "engine"), bars(&picture, "CPU"));
        assert!(engine.len() == 2 * 6 && host.len() > engine.len(), "{picture}");
        let most = |of: &dyn Fn(&Bar<'_>) -> bool| {
            let host = host.iter().filter(|bar| of(bar));
            let pairs = host.flat_map(|bar| engine.iter().map(move |other| bar.common(other)));
            pairs.fold(f64::NEG_INFINITY, f64::max)
        };
        // Weight gradients and others; updates of weights.
        let is_update = |bar: &Bar<'_>| bar.told.starts_with("update ");
        [most(&|bar| !is_update(bar)), most(&is_update)]
    };
    // Bars are at least 0.3 wide: those of steps in turn may overlap by so much. Updates are no part of its pictures.
    let [others, updates] = overlap("emulator");
    assert!(others < 0.4 && updates == f64::NEG_INFINITY);
    // On a busy machine all steps of one lane may come to run between those of the other, once.
    for device in ["in-memory", "espresso"] {
        let mut best = [f64::NEG_INFINITY; 2];
        for _ in 0..8 {
            let pixels = overlap(device);
            best = [0, 1].map(|i| best[i].max(pixels[i]));
            if best.iter().all(|&pixels| pixels > 1.0) {
                break;
            }
        }
        assert!(best.iter().all(|&pixels| pixels > 1.0), "{device}: {best:?}");
    }
}

#[test]
fn auto_takes_the_engine_where_it_works_and_says_why_it_does_not() {
    let bench = Bench::new();
    let devices = strictly(&bench, &["devices"]);
    assert!(devices.contains("in-memory  available: the known-answer program"), "{devices}");
    assert!(devices.contains("espresso   available: the known-answer program"), "{devices}");
    assert!(
        devices.contains("auto takes in-memory: its known-answer request took")
            || devices.contains("auto takes espresso: its known-answer request took"),
        "{devices}"
    );
    // One route refuses all programs: the other is taken. Then one crashes, then both are wrong.
    let runtime = runtime();
    let with_faults = |faults: &str| {
        let mut command = bench.command(&["devices", "--runtime", &runtime]);
        let output = command.env("STANDINS_FAULTS", faults).output().expect("it starts");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = with_faults("nil descriptor:-1");
    assert!(text.contains("in-memory  unavailable: describing the program failed"), "{text}");
    assert!(text.contains("auto takes espresso"), "{text}");
    let text = with_faults("wrong answer:-1");
    assert!(text.contains("unavailable: the known-answer program gave 0"), "{text}");
    assert!(
        text.contains("auto takes the emulator: the Neural Engine does not work here"),
        "{text}"
    );
    let text = with_faults("several inputs fail:-1");
    assert!(words(&text).contains(" ms, packed: several inputs fail here"), "{text}");
    let text = with_faults("crash:-1");
    assert!(text.contains("unavailable: the probe crashed (signal: 6"), "{text}");
}

#[test]
fn a_story_is_told_by_the_engine() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "3", "--out", "run"]));
    let args = [
        "generate",
        "--model",
        "run",
        "--prompt",
        "Once",
        "--max-tokens",
        "12",
        "--temperature",
        "0",
    ];
    let emulated = bench.ok(&[&args[..], &["--device", "emulator"]].concat());
    for device in ["in-memory", "espresso"] {
        assert_eq!(strictly(&bench, &[&args[..], &["--device", device]].concat()), emulated);
    }
}

/// The stand-ins are far slower than the CPU, which is measured. Weights in another format are the CPU's alone.
#[test]
fn a_slow_engine_leaves_a_story_to_the_cpu() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "3", "--out", "run"]));
    let args = ["generate", "run", "Once", "-n", "12", "--temperature", "0"];
    let on_cpu = bench.ok(&[&args[..], &["--device", "cpu"]].concat());
    assert_eq!(strictly(&bench, &args), on_cpu);
    let output = bench.run(&[&args[..], &["--runtime", &runtime()]].concat());
    let said = words(&String::from_utf8(output.stderr).unwrap());
    assert!(said.contains("on the CPU (f32); a token read and a token drawn take "), "{said}");
    assert!(said.contains(" ms on the Neural Engine, "), "{said}");
}

#[test]
fn what_the_engine_cannot_do_is_said() {
    let bench = Bench::new();
    let base = bench.small_run();
    let runtime = runtime();
    for (extra, part) in [
        (&["--device", "in-memory", "--numerics", "f32"][..], "computes in fp16"),
        (
            &["--device", "espresso", "--chip", "m1"],
            "--chip says what to emulate; it cannot change this machine's Neural Engine",
        ),
        (&["--device", "espresso", "--evaluate", "direct"], "--evaluate is for --device in-memory"),
        (&["--device", "emulator", "--hardware-time"], "--hardware-time is for --device in-memory"),
        (&["--device", "emulator", "--compile-cache", "off"], "--compile-cache is for the Neural"),
        (&["--device", "cpu", "--compile-in", "process"], "--compile-in is for the Neural Engine"),
        (&["--device", "cpu", "--no-packed"], "--no-packed is for the Neural Engine"),
        (
            &["--device", "espresso", "--compile-in", "child", "--compile-cache", "off"],
            "--compile-in child hands programs over through the cache",
        ),
    ] {
        let output = bench.run(&with(&base, &[extra, &["--runtime", &runtime]].concat()));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && error.contains(part), "{error}");
    }
    // What crashes the process that tries it, or hangs there, does not do so to this one.
    let train = with(&base, &["--device", "in-memory", "--runtime", &runtime]);
    let quickly = [&train[..], &["--compile-limit", "1"]].concat();
    for (args, fault, part) in [
        (&train, "crash:-1", "by in-memory models: the probe crashed (signal: 6"),
        (&quickly, "hang:-1", "by in-memory models: compiling or loading did not end within 1 s"),
    ] {
        let output = bench.command(args).env("STANDINS_FAULTS", fault).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(part), "{error}");
        assert_eq!(output.status.code(), Some(2), "{error}");
    }
    // Nor does what hangs in this one keep it from ending.
    let unasked = [&quickly[..], &["--no-packed"]].concat();
    let output = bench.command(&unasked).env("STANDINS_FAULTS", "hang:-1").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("did not end within 1 s"), "{error}");
    assert_eq!(output.status.code(), Some(1), "{error}");
    let output = bench.run(&with(&base, &["--device", "in-memory"]));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("no Neural Engine on this machine"), "{error}");
    assert_eq!(output.status.code(), Some(2));
}

/// Runs the program over the stand-ins with faults: exit code, JSON on standard output, error.
fn asked(bench: &Bench, args: &[&str], faults: &str) -> (Option<i32>, Value, String) {
    let runtime = runtime();
    let args = [args, &["--json", "--runtime", &runtime]].concat();
    let output = bench.command(&args).env("STANDINS_FAULTS", faults).output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout);
    (output.status.code(), json.unwrap_or_else(|e| panic!("{args:?}: {e}: {error}")), error)
}

/// Names of the doctor's checks with a verdict.
fn checks<'a>(report: &'a Value, verdict: &str) -> Vec<&'a str> {
    let checks = report["checks"].as_array().expect("checks").iter();
    checks.filter(|c| c["verdict"] == verdict).filter_map(|c| c["id"].as_str()).collect()
}

#[test]
fn the_doctor_judges_the_engine_by_both_routes() {
    let bench = Bench::new();
    for device in ["in-memory", "espresso"] {
        let doctor = ["doctor", "--device", device];
        let (code, report, error) = asked(&bench, &doctor, "");
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(report["emulated"], false);
        // On a busy machine the times alone may be suspicious.
        let suspicious = checks(&report, "suspicious");
        assert!(suspicious.iter().all(|&id| id == "speed"), "{report}");
        let verdict = if suspicious.is_empty() { "good" } else { "suspicious" };
        assert_eq!(report["verdict"], verdict, "{report}");
        assert!(checks(&report, "good").len() >= 9, "{report}");
        // One bit of every answer is wrong.
        let (code, report, error) = asked(&bench, &doctor, "wrong answer:-1");
        assert_eq!(code, Some(1), "{device}: {error}");
        let bad = checks(&report, "bad");
        for name in ["addition", "matmul", "convolution", "inputs-live", "constants-live"] {
            assert!(bad.contains(&name), "{device}: {name} in {bad:?}");
        }
        assert!(checks(&report, "good").contains(&"surfaces"), "no engine is needed for these");
    }
    // Success is reported and nothing was computed.
    let (code, report, _) =
        asked(&bench, &["doctor", "--device", "in-memory"], "evaluate silent:-1");
    assert_eq!(code, Some(1));
    assert!(checks(&report, "bad").contains(&"matmul"), "{report}");
}

#[test]
fn probes_of_the_engine_are_recorded_and_replay() {
    let bench = Bench::new();
    for device in ["in-memory", "espresso"] {
        let traces = format!("traces-{device}");
        for name in ["in-memory", "dispatch", "surfaces"] {
            let args = ["probe", name, "--device", device, "--record", &traces];
            let (code, report, error) = asked(&bench, &args, "");
            assert_eq!(code, Some(0), "{name} by {device}: {error}");
            assert_eq!(report["emulated"], false);
            assert_eq!(report["probes"][0]["name"], name);
            assert!(!report["probes"][0]["rows"].as_array().expect("a table").is_empty());
            let trace = format!("{traces}/{name}.anetrace");
            let replayed = bench.ok(&["mil", "replay", &trace]);
            assert!(replayed.contains(" 0 of "), "{replayed}");
        }
    }
}

/// Our own rules would refuse the same, and answer in the engine's place.
#[test]
fn what_rules_would_refuse_reaches_the_engine() {
    let bench = Bench::new();
    let ask = |name: &str, device: &str, faults: &str| {
        let (code, report, error) = asked(&bench, &["probe", name, "--device", device], faults);
        assert_eq!(code, Some(0), "{name}: {error}");
        report["probes"][0].clone()
    };
    for device in ["in-memory", "espresso"] {
        for name in ["surfaces", "spelling", "compiles"] {
            let found = ask(name, device, "");
            assert_eq!(found["verdict"], "as the facts say", "{device}: {found}");
        }
    }
    // The engine's own words, past a count of ours that never reaches them.
    let compiles = ask("compiles", "in-memory", "");
    assert_eq!(compiles["rows"][0][0], "119", "{compiles}");
    let strict = ask("spelling", "in-memory", "refuse program:-1");
    assert_eq!(strict["verdict"], "against the facts", "{strict}");
}

/// Programs sent past our rules are not packed: the one that takes one input only refuses some.
#[test]
fn a_run_that_fails_leaves_the_other_answers_of_a_probe() {
    let bench = Bench::new();
    let ask = |name: &str| {
        let args = ["probe", name, "--device", "in-memory", "--packed"];
        let (code, report, error) = asked(&bench, &args, "several inputs fail:-1");
        assert_eq!(code, Some(0), "{name}: {error}");
        report["probes"][0].clone()
    };
    let seen = |report: &Value| -> Vec<String> {
        let rows = report["rows"].as_array().expect("a table").iter();
        let at = report["columns"].as_array().unwrap().iter().position(|c| c == "seen").unwrap();
        rows.map(|row| row[at].as_str().unwrap().to_owned()).collect()
    };
    let facts = |report: &Value, key: &str| -> Vec<String> {
        serde_json::from_value(report[key].clone()).expect("names of facts")
    };
    let surfaces = ask("surfaces");
    assert_eq!(surfaces["verdict"], "measured", "{surfaces}");
    let words = seen(&surfaces);
    let failed = words.iter().filter(|word| *word == "status=0x1d").count();
    let uncompiled = words.iter().filter(|word| *word == "does not compile").count();
    assert!(failed > 8 && failed + uncompiled == 13, "{surfaces}");
    assert_eq!((facts(&surfaces, "supports"), facts(&surfaces, "contradicts")), (vec![], vec![]));
    let classifier = ask("classifier");
    assert_eq!(seen(&classifier)[..4], ["right", "refused", "status=0x1d", "right"]);
    let supported = ["B2-output-channels", "B2-input-channels", "B2-softmax"];
    assert_eq!(facts(&classifier, "supports"), supported, "{classifier}");
    assert_eq!(classifier["verdict"], "as the facts say");
    assert!(facts(&classifier, "contradicts").is_empty(), "{classifier}");
    assert!(classifier["says"].as_str().unwrap().contains("not everything runs"), "{classifier}");
}

/// Times are not asserted: they are those of a busy machine.
#[test]
fn the_engine_is_asked_in_other_ways() {
    let bench = Bench::new();
    let asked = |name: &str, device: &str, faults: &str| {
        let (code, report, error) = asked(&bench, &["probe", name, "--device", device], faults);
        assert_eq!(code, Some(0), "{name}: {error}");
        report["probes"][0].clone()
    };
    for (name, rows) in [("qos", 8), ("real-time", 2)] {
        let report = asked(name, "in-memory", "");
        assert_eq!(report["rows"].as_array().expect("a table").len(), rows, "{report}");
        assert!(report["says"].as_str().unwrap().contains("every result is right"), "{report}");
        assert_eq!(asked(name, "espresso", "")["verdict"], "not applicable");
    }
    let forbidden = asked("real-time", "in-memory", "real time forbidden:-1");
    assert_eq!(forbidden["supports"][0], "D-real-time-entitled", "{forbidden}");
    assert_eq!(forbidden["contradicts"][0], "D-real-time-path", "{forbidden}");
    let missing = asked("real-time", "in-memory", "method endRealTimeTask:-1");
    assert_eq!(missing["verdict"], "not applicable");
    assert!(missing["says"].as_str().unwrap().contains("endRealTimeTask"), "{missing}");
    for (device, faults, seen, supports, contradicts) in [
        (
            "in-memory",
            "",
            "the old ones",
            &["I-fixed-constants", "G2-rewritten-files"][..],
            &[][..],
        ),
        (
            "in-memory",
            "rewritten files work:-1",
            "the new ones",
            &["G2-rewritten-files-work"],
            &["I-fixed-constants", "G2-rewritten-files"],
        ),
        ("espresso", "", "not offered", &["I-fixed-constants"], &[]),
        ("in-memory", "unload:1", "refused", &["I-fixed-constants"], &[]),
    ] {
        let report = asked("weight-reload", device, faults);
        assert_eq!(report["rows"][2][1], seen, "{report}");
        assert_eq!(report["supports"], serde_json::json!(supports), "{report}");
        assert_eq!(report["contradicts"], serde_json::json!(contradicts), "{report}");
        let told = report["says"].as_str().unwrap().contains("macOS reports: ");
        assert_eq!(told, seen == "refused", "{report}");
    }
    for (device, faults, seen, facts) in [
        ("in-memory", "", "refused", 2),
        ("in-memory", "chaining works:-1", "prepared, not sent", 1),
        ("in-memory", "class _ANEChainingRequest:-1", "refused", 1),
        ("espresso", "", "not offered", 1),
    ] {
        let report = asked("chaining", device, faults);
        assert_eq!(report["rows"][1][1], seen, "{report}");
        assert_eq!(report["supports"].as_array().unwrap().len(), facts, "{report}");
    }
}

#[test]
fn the_hardwares_time_is_shown_where_it_is_told() {
    let bench = Bench::new();
    let probe = ["probe", "perf-stats", "--device", "in-memory"];
    for (more, faults, verdict) in [
        (&["--hardware-time"][..], "", "measured"),
        (&["--hardware-time", "--evaluate", "direct"], "", "measured"),
        (&["--hardware-time"], "statistics forbidden:-1", "not applicable"),
        (&[], "", "not applicable"),
    ] {
        let (code, report, error) = asked(&bench, &[&probe[..], more].concat(), faults);
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(report["probes"][0]["verdict"], verdict, "{report}");
        let rows = report["probes"][0]["rows"].as_array().expect("a table").len();
        assert_eq!(rows, if verdict == "measured" { 9 } else { 0 });
    }
    // The choice of a route asks the child that probes it in the same way.
    let devices = strictly(&bench, &["devices", "--evaluate", "direct", "--hardware-time"]);
    assert!(devices.contains("in-memory  available"), "{devices}");
    let runtime = runtime();
    let args = ["devices", "--evaluate", "direct", "--runtime", &runtime];
    let mut command = bench.command(&args);
    let output = command.env("STANDINS_FAULTS", "nil connection:-1").output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("no connection for direct requests"), "{text}");
}

/// The ceilings of this CPU are none of the engine's.
#[test]
fn a_benchmark_of_the_engine_has_no_share_of_the_cpus_peak() {
    let bench = Bench::new();
    let args = "bench --preset tiny --quick --seq 16 --batch 1 --only step --json - --plot b.svg";
    let args: Vec<&str> = args.split(' ').chain(["--device", "in-memory"]).collect();
    let report: Value = serde_json::from_str(&strictly(&bench, &args)).unwrap();
    assert!(report["step"]["share_of_peak"].is_null());
    for part in report["step"]["parts"].as_array().unwrap() {
        let (name, gflops, share) =
            (part["name"].as_str().unwrap(), &part["gflops"], &part["share_of_peak"]);
        match name {
            "engine_fwd" | "engine_bwd" => assert!(gflops.is_number() && share.is_null(), "{name}"),
            "dw" | "head" | "optimizer" => assert!(share.is_number(), "{name}"),
            _ => assert!(gflops.is_null() && share.is_null(), "{name}"),
        }
    }
    let products = report["products"]["list"].as_array().unwrap();
    assert!(
        !products.is_empty() && products.iter().all(|p| p["part"] == "dw" || p["part"] == "head")
    );
    assert!(bench.path("b.svg").exists());
}
