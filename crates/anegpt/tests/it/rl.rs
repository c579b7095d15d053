//! Reinforcement learning on built-in tasks, as people do it.

use crate::{Bench, events, of, words};
use serde_json::Value;

impl Bench {
    /// A small model that was taught how answers to `counting` look, and guesses many of them: the run `tuned`.
    pub(crate) fn tuned_to_count(&self) {
        self.write("text.txt", self.ok(&["data", "synth", "--count", "150"]));
        for command in [
            "tokenizer train --data text.txt --vocab-size 300 --chat --out tokens.json",
            "train --depth 2 --aspect-ratio 16 --head-dim 16 --seq 128 --batch-tokens 1024 --data text.txt \
             --tokenizer tokens.json --sample-every 0 --eval-every 0 --steps 20 --out base",
            "sft -m base --tasks counting --steps 120 --lr 0.02 --eval-every 0 --out tuned",
        ] {
            self.ok(&command.split_whitespace().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_run_tells_what_answers_were_worth() {
    let bench = Bench::new();
    bench.tuned_to_count();
    let rl = "rl -m tuned --tasks counting --questions 4 --samples 4 --max-tokens 90 --held-out 6 \
              --held-out-samples 3 --eval-every 2 --steps 4 --log-format json --out better --tasks-every 3 \
              --eval-tasks arithmetic --max-per-task 2";
    let text = bench.ok(&rl.split_whitespace().collect::<Vec<_>>());
    let all = events(&text);
    let start = of(&all, "start")[0];
    assert_eq!(start["command"], "rl");
    let (run, base) =
        (&start["run"], std::fs::read(bench.path("tuned/latest/state.json")).unwrap());
    let base: Value = serde_json::from_slice(&base).unwrap();
    let peak = |run: &Value| run["schedule"]["peak"].as_f64().unwrap();
    assert!((peak(run) / peak(&base["state"]["run"]) - 0.05).abs() < 1e-12);
    assert_eq!(run["schedule"]["decay"]["linear"]["share"], 1.0);
    let rounds = of(&all, "round");
    assert_eq!(rounds.len(), 4);
    for round in &rounds {
        assert_eq!((&round["questions"], &round["samples"]), (&4.into(), &4.into()));
        assert!(round["answer_tokens"].as_f64().unwrap() > 5.0, "{round}");
    }
    let rewards: Vec<f64> = rounds.iter().map(|round| round["reward"].as_f64().unwrap()).collect();
    assert!(rewards.iter().any(|&reward| reward > 0.0 && reward < 1.0), "{rewards:?}");
    let steps = of(&all, "step");
    assert!(steps.iter().any(|step| step["grad_norm"].as_f64().unwrap() > 0.0));
    let evals = of(&all, "eval");
    assert_eq!(evals.iter().map(|eval| &eval["step"]).collect::<Vec<_>>(), [0, 2, 4]);
    for eval in &evals {
        let at: Vec<f64> =
            eval["pass"]["at"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        assert!(at.len() == 3 && at.is_sorted(), "{eval}");
        assert!((eval["val_loss"].as_f64().unwrap() - (1.0 - at[0])).abs() < 1e-12);
    }
    // What is not rewarded may be lost: other tasks are asked meanwhile.
    let asked: Vec<(Value, Value)> = of(&all, "tasks")
        .iter()
        .map(|event| (event["step"].clone(), event["tasks"][0]["name"].clone()))
        .collect();
    assert_eq!(asked, [3, 4].map(|step| (step.into(), "arithmetic".into())));
    let sample = of(&all, "sample")[0]["text"].as_str().unwrap().to_owned();
    assert!(sample.starts_with("How many ") && sample.contains("reward "), "{sample}");
    // People get the same in words.
    let more = bench.ok(&["rl", "--resume", "better", "--steps", "6"]);
    let more = words(&more);
    // Tasks are asked as before.
    assert!(more.contains("Tasks: accuracy after step 6"), "{more}");
    assert!(more.contains("pass@1") && more.contains("mean reward"), "{more}");
    assert!(more.contains("anegpt rl --resume better --steps 12"), "{more}");
}

/// Answers of one token are never right: nothing is better than the start, and no checkpoint is called the best.
#[test]
fn no_checkpoint_is_the_best_that_is_no_better_than_the_start() {
    let bench = Bench::new();
    bench.tuned_to_count();
    let rl = "rl -m tuned --tasks counting --questions 2 --samples 2 --max-tokens 1 --held-out 300 \
              --held-out-samples 1 --eval-every 1 --checkpoint-every 1 --steps 2 --out same";
    let said = words(&bench.ok(&rl.split_whitespace().collect::<Vec<_>>()));
    assert!(!said.contains("the best so far"), "{said}");
    assert!(
        said.contains("best pass@1 0.0000 before the first step: no checkpoint is better"),
        "{said}"
    );
    assert!(said.contains("anegpt chat --model same ") && !said.contains("same/best"), "{said}");
    assert!(!bench.path("same/best").exists() && bench.path("same/latest").exists());
    let asked = "--held-out 300: the tasks have 256 held-out questions, and all of them measure";
    assert!(said.contains(asked), "{said}");
}

#[test]
fn what_cannot_be_rewarded_is_told() {
    let bench = Bench::new();
    bench.tuned_to_count();
    let tiny =
        "train --preset tiny --data text.txt --tokenizer bpe:300 --steps 1 --seq 32 --out silent";
    bench.ok(&tiny.split(' ').collect::<Vec<_>>());
    for (args, code, says) in [
        ("-m silent --tasks counting", 2, "silent has no format for conversations"),
        ("-m none --tasks couting", 2, "there is no task `couting`"),
        ("-m tuned --tasks gsm8k", 1, "openai--gsm8k/main/train, and cannot be fetched"),
        // What needs no model is told before one is read.
        ("-m none --tasks counting,smoltalk", 2, "the answers to `smoltalk` are not judged"),
        ("-m none --tasks counting --temperature 0", 2, "must be a number above 0"),
        ("-m none --tasks counting --batch 9999999", 2, "more than any machine holds"),
        ("-m none --tasks counting", 1, "there is no file or directory `none`"),
        ("-m tuned --tasks counting --ratio-clip nan", 2, "must be a number above 0"),
        ("-m tuned --tasks counting --samples 1", 2, "--samples"),
        (
            "-m tuned --tasks counting --seq 16",
            1,
            "leaves no room for an answer in sequences of 16",
        ),
        ("-m tuned --tasks counting --seq 4096", 2, "--seq 4096 is longer than the"),
        ("-m tuned", 2, "--tasks <NAMES>"),
        ("--resume tuned", 2, "`anegpt sft`, not by `anegpt rl`: go on with `anegpt sft --resume`"),
    ] {
        let args: Vec<&str> = ["rl"].into_iter().chain(args.split(' ')).collect();
        // Port 1 is not served.
        let output =
            bench.command(&args).env("HF_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(words(&error).contains(says), "{args:?}: {error}");
    }
}
