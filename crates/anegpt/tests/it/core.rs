//! `anegpt eval --tasks`.

use crate::generate::small_model;
use crate::{Bench, events, of};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const TEXT: &str = include_str!("../models/text.txt");
const EXPECTED: &str = include_str!("../core/expected.json");

/// A bundle of all three types of tasks.
fn bundle() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/core/bundle");
    path.to_str().unwrap().to_owned()
}

fn llama(bench: &Bench) -> String {
    small_model(bench, "llama", &json!({}))
}

/// The answers to tasks of this kind in a directory of results.
pub(crate) fn answers(out: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("results.jsonl")).unwrap();
    let lines = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &Value| line["task"] == kind).collect()
}

/// The rules of CORE written again in Python, with the model in f64 (`scripts/core_oracle.py --write`): question by
/// question, some of them cut on the left. Losses differ by what f32 rounds: of logits below 100, each the sum of
/// about a hundred terms, at most 100·100·2^−24 < 1e-3 in the worst case, and in practice the root of it.
#[test]
fn answers_are_those_of_an_independent_program() {
    let bench = Bench::new();
    let model = llama(&bench);
    let expected: Value = serde_json::from_str(EXPECTED).unwrap();
    let args = ["eval", "-m", &model, "--tasks", "core", "--bundle", &bundle(), "--json"];
    let found: Value = serde_json::from_str(
        &bench.ok(&[&args[..], &["--out", "r", "--csv", "core.csv"]].concat()),
    )
    .unwrap();
    let answers = answers(&bench.path("r"), "core");
    let right = expected["answers"].as_array().unwrap();
    assert_eq!(answers.len(), right.len());
    for (answer, right) in answers.iter().zip(right) {
        for field in ["label", "question", "line", "correct", "tokens", "chosen", "gold"] {
            assert_eq!(answer.get(field), right.get(field), "{field}: {answer} {right}");
        }
        for field in ["truncated", "cut"] {
            let found = answer.get(field).unwrap_or(&json!(false)).clone();
            assert_eq!(found, right[field], "{field}: {answer} {right}");
        }
        let pairs =
            answer["nats"].as_array().unwrap().iter().zip(right["nats"].as_array().unwrap());
        for (nats, exact) in pairs.map(|(a, b)| (a.as_f64().unwrap(), b.as_f64().unwrap())) {
            assert!((nats - exact).abs() < 1e-4 * exact.max(1.0), "{answer} {right}");
        }
    }
    let core = &found["tasks"]["core"];
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12;
    assert!(close(&core["core"], &expected["core"]), "{core}");
    let tasks = core["tasks"].as_array().unwrap().iter().zip(expected["tasks"].as_array().unwrap());
    let mut csv = format!("{:<35}, {:<10}, {:<10}\n", "Task", "Accuracy", "Centered");
    for (task, right) in tasks {
        assert_eq!(task["label"], right["label"]);
        for field in ["accuracy", "centered"] {
            assert!(close(&task[field], &right[field]), "{field}: {task} {right}");
        }
        let number = |field: &str| right[field].as_f64().unwrap();
        let label = right["label"].as_str().unwrap();
        csv +=
            &format!("{label:<35}, {:<10.6}, {:<10.6}\n", number("accuracy"), number("centered"));
    }
    csv += &format!("{:<35}, {:<10}, {:<10.6}\n", "CORE", "", expected["core"].as_f64().unwrap());
    assert_eq!(std::fs::read_to_string(bench.path("core.csv")).unwrap(), csv);
    let cut = right.iter().filter(|answer| answer["truncated"] == true).count();
    assert!(cut > 5, "the test is of cut prompts too");
    let people = bench.ok(&[&args[..7], &["--out", "r"]].concat());
    let note =
        format!("{cut} of {} questions have prompts of more than the 128 tokens", right.len());
    assert!(people.contains(&note), "{people}");
}

#[test]
fn tasks_and_questions_can_be_chosen() {
    let bench = Bench::new();
    let model = llama(&bench);
    let args =
        ["eval", "-m", &model, "--tasks", "core", "--bundle", &bundle(), "--max-per-task", "3"];
    let some = ["--core-tasks", "who,sums", "--weights", "int8"];
    let people = bench.ok(&[&args[..], &some].concat());
    let tasks: Vec<&str> =
        people.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(tasks, ["Task", "sums", "who", "CORE"], "{people}");
    let out = ["--out", "r"];
    bench.ok(&[&args[..], &some, &out].concat());
    assert_eq!(answers(&bench.path("r"), "core").len(), 6);
    let other = bench.error(&[&args[..], &out].concat(), 2);
    for part in [
        "r/results.jsonl holds results of another evaluation",
        "They differ in --core-tasks: sums, who there, kitchen,",
        "--weights: int8 there, f32 here",
        "--out DIR",
        "--restart",
    ] {
        assert!(other.contains(part), "{other}");
    }
    bench.ok(&[&args[..], &out, &["--restart"]].concat());
    assert_eq!(answers(&bench.path("r"), "core").len(), 17);
    let sample = bench.error(&["eval", "-m", &model, "--tasks", "sample", "--out", "r"], 2);
    for part in ["--tasks: core there, sample here", "--out DIR", "--restart"] {
        assert!(sample.contains(part), "{sample}");
    }
    // Nothing is asked where the table cannot be written.
    let late = [&args[..], &["--out", "late", "--csv", "no/such.csv"]].concat();
    let late = bench.error(&late, 2);
    assert!(late.contains("--csv no/such.csv: there is no directory no"), "{late}");
    assert!(!bench.path("late").exists());
    let unknown = bench.error(&[&args[..], &["--core-tasks", "whom", "--out", "x"]].concat(), 2);
    assert!(unknown.contains("has no task `whom`: it has kitchen, sums, who,"), "{unknown}");
}

/// Every character is one byte and one token: both ways to count bytes give the same.
#[test]
fn bits_per_byte_are_those_of_the_text() {
    let bench = Bench::new();
    let model = llama(&bench);
    bench.write("text.txt", TEXT);
    let text =
        ["eval", "-m", &model, "--data", "text.txt", "--json", "--seq", "48", "--stride", "20"];
    let plain: Value = serde_json::from_str(&bench.ok(&text)).unwrap();
    let tasks = bench.ok(&[&text[..], &["--tasks", "bpb,sample", "--out", "r"]].concat());
    let tasks: Value = serde_json::from_str(&tasks).unwrap();
    for field in ["nats_per_token", "bits_per_byte"] {
        assert_eq!(tasks[field], plain[field], "{field}");
        assert_eq!(tasks["tasks"]["bpb"][field], plain[field], "{field}");
    }
    let samples = tasks["tasks"]["sample"].as_array().unwrap();
    assert_eq!(samples.len(), 15);
    assert_eq!(samples[0]["prompt"], "The capital of France is");
    assert!(samples[0]["text"].as_str().unwrap().len() <= 16, "{}", samples[0]);
    let unconditioned = &samples[7..];
    assert!(
        unconditioned.iter().all(|sample| sample["prompt"].is_null() && sample["text"].is_string())
    );
    assert_ne!(unconditioned[0]["text"], unconditioned[1]["text"]);
    // Separators alone: tokens are predicted, and none of them is text.
    bench.write("nothing.bin", [1u8, 0, 1, 0, 1, 0]);
    let nothing = ["eval", "-m", &model, "--tasks", "bpb", "--data", "nothing.bin", "--out", "n"];
    let error = bench.error(&nothing, 1);
    assert!(error.contains("there are no bits per byte"), "{error}");
}

#[test]
fn flags_are_for_the_tasks_that_use_them() {
    let bench = Bench::new();
    let model = llama(&bench);
    bench.write("text.txt", TEXT);
    let base = ["eval", "-m", &model];
    for (more, part) in [
        (&["--tasks", "core"][..], "add --bundle DIR"),
        (&["--tasks", "bpb"], "add --data FILE"),
        (&["--tasks", "sample", "--data", "text.txt"], "--data is for --tasks bpb"),
        (&["--tasks", "sample", "--seq", "8"], "is for --tasks bpb"),
        (
            &["--tasks", "bpb", "--data", "text.txt", "--bundle", "x"],
            "--bundle is for --tasks core",
        ),
        (&["--data", "text.txt", "--bundle", "x"], "--tasks"),
        (&["--data", "text.txt", "--restart"], "--tasks"),
        (&["--tasks", "arc"], "there are bpb, core, sample, spelling, counting"),
        (&[], "nothing to measure: give --data DATA for the loss on a text, or --tasks TASK,..."),
        (&["--tasks", "core", "--bundle", &bundle(), "--core-tasks", "arc"], "has no task `arc`"),
    ] {
        let error = bench.error(&[&base[..], more].concat(), 2);
        assert!(error.contains(part), "{more:?}: {error}");
    }
    let missing = bench.error(&[&base[..], &["--tasks", "core", "--bundle", "x"]].concat(), 1);
    assert!(missing.contains("x: no core.yaml here: a bundle is a directory with"), "{missing}");
}

/// SIGKILL at random moments: the same results, the same table, byte for byte. `ANEGPT_KILLS` sets how many kills (10
/// unless told otherwise).
#[test]
fn killed_evaluations_end_with_the_same_table() {
    let kills: usize =
        std::env::var("ANEGPT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let bench = Bench::new();
    let model = llama(&bench);
    bench.write("text.txt", TEXT.repeat(120));
    let bundle = bundle();
    let args = |out: &str| -> Vec<String> {
        let base =
            format!("eval -m {model} --tasks sample,bpb,core --data text.txt --seq 32 --out {out}");
        let own = ["--bundle".to_owned(), bundle.clone(), "--csv".to_owned(), format!("{out}.csv")];
        base.split(' ').map(str::to_owned).chain(own).collect()
    };
    let whole = args("whole");
    let table = bench.ok(&whole.iter().map(String::as_str).collect::<Vec<_>>());
    let results = |out: &str| std::fs::read(bench.path(out).join("results.jsonl"));
    let (expected, csv) =
        (results("whole").unwrap(), std::fs::read(bench.path("whole.csv")).unwrap());
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let (mut killed, mut rounds) = (0, 0);
    while killed < kills {
        rounds += 1;
        assert!(rounds < 100 + kills, "the program is killed before it ends");
        let out = format!("killed-{rounds}");
        let args = args(&out);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        loop {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let length = (random >> 33) % (expected.len() as u64 + 1);
            let mut child =
                bench.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // Killed once there is so much of the results, unless it ends first.
            let so_much = || results(&out).is_ok_and(|bytes| bytes.len() as u64 >= length);
            let start = Instant::now();
            while child.try_wait().unwrap().is_none() && !so_much() {
                if start.elapsed() > Duration::from_secs(120) {
                    child.kill().unwrap();
                    panic!("an evaluation of some seconds does not end");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let has_all = results(&out).is_ok_and(|bytes| bytes == expected);
            if killed < kills && !has_all && child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                continue;
            }
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(String::from_utf8(output.stdout).unwrap(), table, "after {killed} kills");
            break;
        }
        assert!(results(&out).unwrap() == expected, "results differ after {killed} kills");
        assert_eq!(std::fs::read(bench.path(&format!("{out}.csv"))).unwrap(), csv);
    }
    eprintln!("{killed} kills in {rounds} evaluations");
}

/// The model may have a real vocabulary.
#[test]
fn models_of_other_programs_are_asked() {
    let bench = Bench::new();
    let files: Option<Vec<PathBuf>> =
        ["stories260K.bin", "tok512.bin"].map(crate::real_data).into_iter().collect();
    let Some(files) = files else { return };
    let [model, tokenizer] = [&files[0], &files[1]].map(|path| path.to_str().unwrap());
    let args = ["eval", "-m", model, "--tokenizer", tokenizer, "--tasks", "core,sample"];
    let people = bench.ok(&[&args[..], &["--bundle", &bundle(), "--out", "r"]].concat());
    assert!(people.contains("CORE") && people.contains("> The capital of France is |"), "{people}");
}

/// A model that could read a million tokens is asked like any other.
#[test]
fn a_model_with_a_long_context_is_asked() {
    let bench = Bench::new();
    let long = small_model(&bench, "llama", &json!({ "max_position_embeddings": 1_048_576 }));
    let core = ["eval", "-m", &long, "--tasks", "core", "--bundle", &bundle(), "--out", "long"];
    let people = bench.ok(&core);
    assert!(!people.contains("more than the"), "nothing is cut: {people}");
}

/// CORE while a model is trained: events, and the checkpoints of a run without it.
#[test]
fn training_tells_core_and_saves_the_same_bytes() {
    let bench = Bench::new();
    let base = bench.small_run();
    let bundle = bundle();
    let steps = ["--steps", "12", "--log-format", "json", "--eval-every", "6"];
    let core = ["--core-every", "5", "--bundle", &bundle, "--core-max-per-task", "2"];
    let with_core = [&steps[..], &core, &["--out", "with"]].concat();
    let log = bench.ok(&crate::with(&base, &with_core));
    bench.ok(&crate::with(&base, &[&steps[..], &["--out", "without"]].concat()));
    let file = |out: &str, file: &str| {
        std::fs::read(bench.path(out).join("step-00000012").join(file)).unwrap()
    };
    for name in ["model.safetensors", "optimizer.safetensors", "config.json"] {
        assert!(file("with", name) == file("without", name), "{name} differs");
    }
    let state = |out: &str| -> Value {
        serde_json::from_slice::<Value>(&file(out, "state.json")).unwrap()["state"].take()
    };
    let (mut noted, state) = (state("with"), state("without"));
    // What is measured is noted, for a session that goes on.
    let notes = noted["extra"].as_object_mut().unwrap();
    assert_eq!(notes.remove("core").unwrap()["every"], 5);
    assert_eq!(noted, state);
    let all = events(&log);
    let steps: Vec<_> =
        of(&all, "core").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [5, 10, 12]);
    for event in of(&all, "core") {
        let centred = |task: &Value| task["centered"].as_f64().unwrap();
        let tasks = event["tasks"].as_array().unwrap();
        let mean = tasks.iter().map(centred).sum::<f64>() / tasks.len() as f64;
        assert_eq!((tasks.len(), event["core"].as_f64()), (6, Some(mean)), "{event}");
        assert!(tasks.iter().any(|task| task["truncated"].as_u64() > Some(0)), "{event}");
    }
    // Tokens of the validation part have a few bytes each.
    for event in of(&all, "eval") {
        let number = |field: &str| event[field].as_f64().unwrap();
        let bytes = number("val_loss") / std::f64::consts::LN_2 / number("bits_per_byte");
        assert!((1.0..4.0).contains(&bytes), "{bytes} bytes a token: {event}");
    }
    let report = bench.ok(&["report", "with"]);
    assert!(report.contains("CORE:") && report.contains("after step 12"), "{report}");
    // A session that goes on measures as before, until it is told otherwise.
    let measured = |steps: &str, more: &[&str]| -> Vec<u64> {
        let args = ["train", "--resume", "with", "--log-format", "json", "--steps", steps];
        let all = events(&bench.ok(&[&args[..], more].concat()));
        of(&all, "core").iter().map(|event| event["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(measured("16", &[]), [15, 16]);
    assert_eq!(measured("18", &["--core-every", "0"]), [0; 0]);
    assert_eq!(measured("20", &[]), [0; 0]);
    let alone = bench.error(&["train", "--core-every", "5"], 2);
    assert!(alone.contains("--bundle"), "{alone}");
    let alone = bench.error(&["train", "--core-max-per-task", "5"], 2);
    assert!(alone.contains("--core-every <N>"), "{alone}");
    let missing = bench.error(&["train", "--core-every", "5", "--bundle", "x", "--out", "n"], 1);
    assert!(missing.contains("no core.yaml here"), "{missing}");
    assert!(!bench.path("n").exists(), "nothing was begun");
}
