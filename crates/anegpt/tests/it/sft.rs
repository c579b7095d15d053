//! Finetuning on conversations, as people do it.

use crate::{Bench, events, files, of, with, words};
use serde_json::Value;
use std::fmt::Write;

/// Questions and answers that a small model learns.
pub(crate) const SAID: [(&str, &str); 4] =
    [("red", "blue"), ("one", "two"), ("cat", "dogs"), ("hi", "hello")];

impl Bench {
    /// A small model of nanochat's that was trained for `steps` on built-in text, with tokens for conversations: the run
    /// `base`. And `talks.jsonl`, conversations in no order that could be learned.
    pub(crate) fn base_and_talks(&self, steps: &str) {
        self.write("text.txt", self.ok(&["data", "synth", "--count", "150"]));
        let learn = "tokenizer train --data text.txt --vocab-size 300 --chat --out tokens.json";
        self.ok(&learn.split(' ').collect::<Vec<_>>());
        let train = "train --depth 2 --aspect-ratio 16 --head-dim 16 --seq 32 --batch-tokens 256 --data text.txt \
                     --tokenizer tokens.json --sample-every 0 --eval-every 0 --out base --steps";
        self.ok(&train.split_whitespace().chain([steps]).collect::<Vec<_>>());
        self.write("talks.jsonl", talks(600));
    }
}

fn talks(count: usize) -> String {
    talks_of(&SAID, count)
}

fn talks_of(said: &[(&str, &str); 4], count: usize) -> String {
    let (mut state, mut lines) = (1u32, String::new());
    for _ in 0..count {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (question, answer) = said[(state >> 30) as usize];
        let line = serde_json::json!({"messages": [
            {"role": "user", "content": question}, {"role": "assistant", "content": answer}
        ]});
        writeln!(lines, "{line}").unwrap();
    }
    lines
}

/// From a base model that has never seen a conversation to one that answers, in every program.
#[test]
fn a_base_model_learns_to_answer() {
    let bench = Bench::new();
    bench.base_and_talks("40");
    let sft = "sft -m base --data talks.jsonl --epochs 8 --lr 0.02 --log-format json --out tuned";
    let events = events(&bench.ok(&sft.split(' ').collect::<Vec<_>>()));
    let start = of(&events, "start")[0];
    assert_eq!((&start["command"], &start["init"]), (&"sft".into(), &"base".into()));
    let text = start["text"].as_str().unwrap();
    assert!(
        text.contains("540 conversations to train, 60 to validate, by nanochat's chat tokens"),
        "{text}"
    );
    let losses: Vec<f64> =
        of(&events, "eval").iter().map(|event| event["val_loss"].as_f64().unwrap()).collect();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    // The answers follow from the questions: nothing is left to guess.
    assert!(first > 2.0 && last < 0.1, "{losses:?}");
    assert!(of(&events, "eval")[0]["bits_per_byte"].as_f64().unwrap() > 0.0);
    for (question, answer) in SAID {
        let said = bench.ok(&["chat", "tuned", "-p", question, "--temperature", "0"]);
        assert_eq!(said.trim(), answer, "{question}");
    }
    // What Hugging Face's programs read speaks as the model does.
    bench.ok(&["export", "--model", "tuned", "--to", "hf-code", "--out", "exported"]);
    let template = std::fs::read_to_string(bench.path("exported/chat_template.jinja")).unwrap();
    assert!(template.contains("<|assistant_start|>"), "{template}");
    // A base model with the same tokens answers nothing of this.
    let said = bench.ok(&["chat", "base", "-p", "red", "--temperature", "0", "-n", "8"]);
    assert_ne!(said.trim(), "blue");
}

/// Rates, micro-batch, optimizer and its moments are those of the run that the model comes from.
#[test]
fn settings_follow_the_run_of_the_model() {
    let bench = Bench::new();
    bench.base_and_talks("20");
    let run = |more: &[&str]| {
        let sft = ["sft", "-m", "base", "--data", "talks.jsonl", "--log-format", "json"];
        let all = events(&bench.ok(&[&sft[..], &["--steps", "3"], more].concat()));
        (of(&all, "start")[0]["run"].clone(), of(&all, "step")[0].clone())
    };
    let state = std::fs::read_to_string(bench.path("base/latest/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let base = &state["state"]["run"];
    let (run_0, step) = run(&[]);
    let rate = |run: &Value| run["schedule"]["peak"].as_f64().unwrap();
    assert!((rate(&run_0) / rate(base) - 0.8).abs() < 1e-12);
    for entry in ["batch", "seq", "clip"] {
        assert_eq!(run_0[entry], base[entry], "{entry}");
    }
    assert_eq!(run_0["schedule"]["multipliers"], base["schedule"]["multipliers"]);
    assert_eq!(run_0["schedule"]["decay"]["linear"]["share"], 0.5);
    let muon = |run: &Value| match serde_json::from_value(run["optimizer"].clone()).unwrap() {
        train::OptimizerConfig::Muon(muon) => muon,
        other => panic!("{other:?}"),
    };
    let (own, before) = (muon(&run_0), muon(base));
    assert_eq!((own.weight_decay, own.adamw), (0.0, before.adamw));
    let (other, cold) = run(&["--load-optimizer", "false", "--init-lr-frac", "0.4"]);
    assert!((rate(&other) / rate(base) - 0.4).abs() < 1e-12);
    assert_eq!(cold["loss"], step["loss"], "the first step is on the same weights");
    let tensors = |out: &str| std::fs::read(bench.path(out).join("latest/optimizer.safetensors"));
    assert_ne!(tensors("out/run-1").unwrap(), tensors("out/run-2").unwrap());
}

#[test]
fn what_cannot_be_learned_is_told() {
    let bench = Bench::new();
    bench.base_and_talks("3");
    let long = format!(
        r#"[{{"role":"user","content":"{}"}},{{"role":"assistant","content":"a"}}]"#,
        "x".repeat(200)
    );
    let cut = format!(
        r#"[{{"role":"user","content":"x"}},{{"role":"assistant","content":"{}"}}]"#,
        "y".repeat(200)
    );
    bench.write("mixed.jsonl", format!("{long}\n{cut}\n{}", talks(60)));
    let sft = "sft -m base --data mixed.jsonl --val-data talks.jsonl --steps 2 --log-format json";
    let all = events(&bench.ok(&sft.split(' ').collect::<Vec<_>>()));
    let warning = of(&all, "warning")[0]["message"].as_str().unwrap().to_owned();
    assert!(
        warning.contains("1 conversation of 62 to train is longer than --seq 32 and cut to it")
            && warning.contains("1 conversation of 62 to train has no answer within --seq 32"),
        "{warning}"
    );
    bench.write("long.jsonl", format!("{long}\n{long}\n"));
    bench.write("one.jsonl", talks(1));
    bench.write("bad.jsonl", format!("{}{{\"messages\": 3}}\n", talks(2)));
    bench.write(
        "turns.jsonl",
        format!("{}[{{\"role\":\"assistant\",\"content\":\"a\"}}]\n", talks(12)),
    );
    bench.small_run();
    bench.ok(&with(&bench.small_run(), &["--steps", "2", "--out", "silent"]));
    for (args, code, says) in [
        (
            "-m base --data long.jsonl",
            1,
            "none of the 1 conversations has an answer to learn in its first 32",
        ),
        (
            "-m base --data one.jsonl",
            2,
            "has one conversation, which cannot both train and validate",
        ),
        ("-m base --data bad.jsonl", 1, "bad.jsonl, line 3: `messages` is not a list"),
        ("-m base --data turns.jsonl", 1, "turns.jsonl, line 13: message 1 is of the assistant"),
        ("-m base --tasks speling", 2, "there is no task `speling`"),
        ("-m base --data nowhere.jsonl", 1, "nowhere.jsonl: cannot be read"),
        ("-m silent --data talks.jsonl", 2, "silent has no format for conversations"),
        ("-m base --data talks.jsonl --seq 4096", 2, "--seq 4096 is longer than the"),
        ("-m base --data talks.jsonl --lr 0", 2, "--lr 0 must be a number above 0"),
        ("-m base", 2, "give --tasks NAME,..., --data FILE, or both"),
        ("--data talks.jsonl", 2, "--model <MODEL>"),
        ("--resume base", 2, "begin a new run from its weights with --model in place of --resume"),
        ("--resume out/run-1 --lr 1", 2, "cannot be used with"),
        ("--resume out/run-1", 2, "the run has done its 2 steps"),
    ] {
        let args: Vec<&str> = ["sft"].into_iter().chain(args.split(' ')).collect();
        let output = bench.run(&args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(words(&error).contains(says), "{args:?}: {error}");
    }
    let output = bench.run(&["train", "--resume", "out/run-1", "--steps", "9"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&error).contains("go on with `anegpt sft --resume`"), "{error}");
}

/// A run says what to type next, and that goes on with it.
#[test]
fn a_run_goes_on_as_it_says() {
    let bench = Bench::new();
    bench.base_and_talks("3");
    let text =
        bench.ok(&["sft", "-m", "base", "--data", "talks.jsonl", "--steps", "4", "--out", "tuned"]);
    let text = words(&text);
    assert!(text.contains("anegpt chat --model tuned"), "{text}");
    assert!(text.contains("anegpt sft --resume tuned --steps 8"), "{text}");
    bench.ok(&["sft", "--resume", "tuned", "--steps", "8"]);
    assert!(bench.path("tuned/step-00000008").exists());
    std::fs::rename(bench.path("talks.jsonl"), bench.path("moved.jsonl")).unwrap();
    let output = bench.run(&["sft", "--resume", "tuned", "--steps", "9"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("give --data FILE"), "{error}");
    bench.ok(&["sft", "--resume", "tuned", "--steps", "9", "--data", "moved.jsonl"]);
    bench.write("moved.jsonl", talks(601));
    let output = bench.run(&["sft", "--resume", "tuned", "--steps", "10", "--data", "moved.jsonl"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("the data has changed since the checkpoint"), "{error}");
}

/// Factors of low rank are learned, the rest stays; the adapter alone brings the model back.
#[test]
fn an_adapter_is_learned_and_brings_its_model_back() {
    let bench = Bench::new();
    bench.base_and_talks("40");
    // Nothing of a model that never saw the tokens of conversations would say them: they are frozen.
    let sft = "sft -m base --data talks.jsonl --epochs 8 --lr 0.02 --out whole";
    bench.ok(&sft.split(' ').collect::<Vec<_>>());
    // The adapter learns to answer with what another question is answered with.
    let mut other = SAID;
    for at in 0..4 {
        other[at].1 = SAID[(at + 2) % 4].1;
    }
    bench.write("other.jsonl", talks_of(&other, 600));
    let sft = "sft -m whole --data other.jsonl --lora rank=8,alpha=16 --epochs 8 --log-format json --out tuned";
    let all = events(&bench.ok(&sft.split(' ').collect::<Vec<_>>()));
    let run = &of(&all, "start")[0]["run"];
    assert_eq!((&run["optimizer"]["name"], &run["optimizer"]["rank"]), (&"lora".into(), &8.into()));
    let losses: Vec<f64> =
        of(&all, "eval").iter().map(|event| event["val_loss"].as_f64().unwrap()).collect();
    assert!(losses[0] > 1.0 && losses[losses.len() - 1] < 0.2, "{losses:?}");
    bench.ok(&["export", "tuned", "--to", "peft", "--out", "adapter"]);
    for (question, answer) in other {
        for model in ["tuned", "adapter"] {
            let said = bench.ok(&["chat", model, "-p", question, "--temperature", "0"]);
            assert_eq!(said.trim(), answer, "{model}: {question}");
        }
    }
    for (args, code, says) in [
        ("export base --to peft --out x", 1, "base was not tuned with sft --lora"),
        ("sft -m base --data talks.jsonl --lora rank=300", 2, "would be larger than the matrix"),
        ("sft -m base --data talks.jsonl --lora alpha=3", 2, "there is no rank=N"),
        ("sft --resume tuned --lora rank=3", 2, "cannot be used with"),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let output = bench.run(&args);
        let error = words(&String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
    }
    // An adapter of an adapter is a model; one that leads to itself is none.
    let based_on = |base: &str| {
        let path = bench.path("adapter/adapter_config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let before = config["base_model_name_or_path"].take();
        config["base_model_name_or_path"] = base.into();
        std::fs::write(&path, config.to_string()).unwrap();
        before.as_str().unwrap().to_owned()
    };
    let whole = based_on(bench.path("adapter").to_str().unwrap());
    let output = bench.run(&["chat", "adapter", "-p", "hi"]);
    let error = words(&String::from_utf8_lossy(&output.stderr));
    assert!(error.contains("adapters follow one another"), "{error}");
    based_on(&whole);
    std::fs::rename(bench.path("whole"), bench.path("gone")).unwrap();
    let output = bench.run(&["chat", "adapter", "-p", "hi"]);
    let error = words(&String::from_utf8_lossy(&output.stderr));
    assert!(error.contains("adapter: the model that this adapter is for"), "{error}");
}

/// Answers and accuracies while a model is finetuned: events, the checkpoints of a run without them, and a session that
/// goes on where the one before was killed.
#[test]
fn what_a_model_answers_meanwhile_is_told() {
    let bench = Bench::new();
    bench.base_and_talks("3");
    let run = |more: &str| {
        let sft = "sft -m base --data talks.jsonl --steps 12 --eval-every 6 --log-format json";
        events(&bench.ok(&sft.split(' ').chain(more.split(' ')).collect::<Vec<_>>()))
    };
    let tasks = "--tasks-every 5 --eval-tasks spelling,stories-choice --max-per-task 3";
    let all = run(&format!("{tasks} --sample-every 6 --prompt red --prompt one --out with"));
    run("--sample-every 0 --out without");
    let last = |out: &str| files(&bench.path(out).join("step-00000012"));
    let (ours, right) = (last("with"), last("without"));
    for (name, bytes) in &right {
        // The one names its prompts in its notes.
        assert!(ours[name] == *bytes || name == "state.json", "{name} differs");
    }
    let told = of(&all, "tasks");
    let steps: Vec<u64> = told.iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [5, 10, 12]);
    for event in &told {
        let tasks = event["tasks"].as_array().unwrap();
        let names: Vec<&str> = tasks.iter().map(|task| task["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["spelling", "stories-choice"]);
        let centred = |task: &Value| task["centered"].as_f64().unwrap();
        let mean = tasks.iter().map(centred).sum::<f64>() / 2.0;
        assert!((event["mean"].as_f64().unwrap() - mean).abs() < 1e-12, "{event}");
        assert_eq!(tasks[0]["questions"], 3);
    }
    // A checkpoint comes before.
    let places: Vec<&str> = all.iter().filter_map(|event| event["event"].as_str()).collect();
    let at = places.iter().position(|event| *event == "tasks").unwrap();
    assert_eq!(places[at - 1], "checkpoint", "{places:?}");
    let samples: Vec<&str> =
        of(&all, "sample").iter().map(|event| event["text"].as_str().unwrap()).collect();
    assert_eq!(samples.len(), 2);
    for text in samples {
        assert!(text.starts_with("red\n→ ") && text.contains("\n\none\n→ "), "{text}");
    }
    // As a kill in the middle of the second measurement would have left it.
    let kept = files(&bench.path("with/tasks"));
    assert_eq!(kept.len(), 3);
    std::fs::remove_dir_all(bench.path("with/step-00000012")).unwrap();
    std::fs::remove_file(bench.path("with/tasks/step-00000012.jsonl")).unwrap();
    let half = String::from_utf8(kept["step-00000010.jsonl"].clone()).unwrap();
    let half: String = half.split_inclusive('\n').take(3).collect();
    bench.write("with/tasks/step-00000010.jsonl", half + "{\"na");
    // It asks as before, without a word.
    let resume = ["sft", "--resume", "with", "--log-format", "json"];
    let more = events(&bench.ok(&resume));
    for (again, event) in of(&more, "tasks").iter().zip(&told[1..]) {
        for entry in ["step", "mean", "tasks"] {
            assert_eq!(again[entry], event[entry]);
        }
    }
    assert_eq!(of(&more, "tasks").len(), 2);
    assert!(files(&bench.path("with/tasks")) == kept);
    assert!(last("with") == ours);
    // People get it in words, and reports draw it.
    bench.ok(&["report", "with", "--out", "with.html"]);
    let page = std::fs::read_to_string(bench.path("with.html")).unwrap();
    assert!(page.contains("accuracy: spelling") && page.contains("after step 12"));
    // Until it is told otherwise.
    let silent = bench.ok(&[&resume[..], &["--steps", "15", "--tasks-every", "0"]].concat());
    assert!(of(&events(&silent), "tasks").is_empty());
    let silent = bench.ok(&[&resume[..], &["--steps", "20"]].concat());
    assert!(of(&events(&silent), "tasks").is_empty());
    for (args, says) in [
        ("--data talks.jsonl --tasks-every 5", "name some with --eval-tasks"),
        ("--data talks.jsonl --eval-tasks spelling", "--tasks-every <N>"),
        ("--data talks.jsonl --max-per-task 5", "--tasks-every <N>"),
        ("--tasks spelling --tasks-every 5 --eval-tasks humaneval", "--allow-code-exec"),
    ] {
        let args: Vec<&str> = ["sft", "-m", "base"].into_iter().chain(args.split(' ')).collect();
        let output = bench.run(&args);
        let error = words(&String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
    }
}

/// A model that calls for what the calculator does not compute: `--python` runs it, and the model goes on with what
/// came of it.
#[test]
fn programs_that_a_model_calls_for_are_run_if_allowed() {
    let bench = Bench::new();
    bench.base_and_talks("3");
    let part = |kind: &str, text: &str| serde_json::json!({"type": kind, "text": text});
    let answer = [part("python", "len('ab')"), part("python_output", "2"), part("text", "ok")];
    let line = serde_json::json!({"messages": [
        {"role": "user", "content": "go"}, {"role": "assistant", "content": answer}
    ]});
    bench.write("calls.jsonl", format!("{line}\n").repeat(100));
    let sft = "sft -m base --data calls.jsonl --steps 60 --lr 0.02 --eval-every 0 --sample-every 0 --out caller";
    bench.ok(&sft.split(' ').collect::<Vec<_>>());
    let said = |more: &[&str], file: &str| -> Value {
        let args = [&["caller", "--temperature", "0", "-n", "24"], more].concat();
        bench.answers(&args, &format!("go\n/save {file}\n"));
        bench.saved(file)["messages"][1]["content"].clone()
    };
    let run = said(&["--python"], "run.json");
    assert_eq!(run, serde_json::json!(answer));
    // The model would write another result by itself, or the same: the call alone is certain.
    assert_eq!(said(&[], "left.json")[0], answer[0]);
    let generate = "generate caller go --python -n 2";
    bench.ok(&generate.split(' ').collect::<Vec<_>>());
    bench.ok(&with(&bench.small_run(), &["--steps", "1", "--out", "silent"]));
    for (args, says) in [
        ("generate silent a --python", "no tokens for calls"),
        ("chat caller -p go --python --no-tools", "cannot be used with"),
        ("serve caller --python", "unexpected argument '--python'"),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let output = bench.run(&args);
        let error = words(&String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
    }
}
