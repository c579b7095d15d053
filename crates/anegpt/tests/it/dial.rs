//! `--depth`: one number from which the others follow, in `train` and in `plan`.

use crate::{Bench, events, words};
use serde_json::Value;

/// A small nanochat on a small text.
const SMALL: &str = "train --depth 2 --aspect-ratio 16 --head-dim 16 --seq 32 --data text.txt --tokenizer bpe:300 \
    --batch-tokens 256 --sample-every 0 --log-format json";

fn small(bench: &Bench, more: &str) -> Vec<Value> {
    bench.small_run();
    let text =
        bench.ok(&SMALL.split_whitespace().chain(more.split_whitespace()).collect::<Vec<_>>());
    events(&text)
}

fn warnings(events: &[Value]) -> String {
    let messages = events.iter().filter_map(|event| event["message"].as_str());
    messages.collect::<Vec<_>>().join("; ")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

#[test]
fn a_depth_sets_the_numbers_of_a_run() {
    let bench = Bench::new();
    let events = small(&bench, "--steps 6 --checkpoint-every 3 --out run");
    let run = &events[0]["run"];
    assert_eq!([&run["model"]["n_embd"], &run["model"]["n_head"]], [32, 2]);
    assert_eq!(
        [&run["batch"], &run["accum"], &run["clip"]],
        [&8.into(), &1.into(), &Value::from(0.0)]
    );
    let dial = &run["dial"];
    // 12·32²·2 and a gate of 2 heads, 12 channels; a classifier of 320 rows.
    assert_eq!(dial["weights"], 12 * 32 * 32 * 2 + 24 + 320 * 32);
    assert_eq!(number(&dial["tokens"]), 12.0 * number(&dial["weights"]));
    let rate = (256f64 / 524_288.0).sqrt();
    assert!((number(&run["schedule"]["peak"]) / (0.02 * rate) - 1.0).abs() < 1e-9);
    let decay = 0.28 * rate * number(&dial["reference"]) / number(&dial["weights"]);
    let optimizer = &run["optimizer"];
    assert_eq!(optimizer["name"], "muon");
    assert!((number(&optimizer["weight_decay"]) / decay - 1.0).abs() < 1e-6);
    assert!((number(&optimizer["adamw"]["embedding"]["beta2"]) - 0.995).abs() < 1e-6);
    let smear = number(&run["schedule"]["multipliers"]["smear"]) * number(&run["schedule"]["peak"]);
    assert!((smear - 0.2).abs() < 1e-9, "{smear}");
    let said = warnings(&events);
    assert!(said.contains("warm-up of 40 steps is longer than the run"), "{said}");

    // A resumed run has the same numbers, and computes the same bytes.
    let last = bench.path("run/step-00000006");
    let weights = || std::fs::read(last.join("model.safetensors")).unwrap();
    let straight = weights();
    std::fs::remove_dir_all(&last).unwrap();
    let resume = ["train", "--resume", "run", "--sample-every", "0", "--log-format", "json"];
    let text = bench.ok(&resume);
    let start: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(&start["run"], run);
    assert!(weights() == straight);
    let report = words(&bench.ok(&["report", "run"]));
    assert!(report.contains("Depth: 2: "), "{report}");
}

#[test]
fn rules_that_cannot_be_meant_are_named() {
    let bench = Bench::new();
    let events = small(&bench, "--steps 400 --token-param-ratio 0.1 --batch 3 --out a");
    let said = warnings(&events);
    for part in [
        "weight decay of ",
        "--weight-decay 0.28",
        "do not divide into sequences of 32",
        "all of it will be seen",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(warnings(&small(&bench, "--steps 6 --warmup 1 --out b")).is_empty());
    for (args, says) in [
        ("train --batch-tokens 64", "--batch-tokens is a rule of --depth N"),
        ("train --depth 0", "must be a whole number of at least 1"),
        ("train --depth 2 --preset tiny", "cannot be used with"),
        ("train --preset tiny --value-embeds off", "--value-embeds is for models of nanochat"),
        ("plan --depth 2 --window-pattern SM", "letters S (short) and L (long)"),
        ("plan --preset tiny --aspect-ratio 3", "--aspect-ratio is for --depth N"),
    ] {
        let output = bench.run(&args.split(' ').collect::<Vec<_>>());
        let error = words(&String::from_utf8(output.stderr).unwrap());
        assert!(output.status.code() == Some(2) && error.contains(says), "{args}: {error}");
    }
}

#[test]
fn value_embeddings_can_be_left_out() {
    let bench = Bench::new();
    let of = |more: &str| {
        let args = format!("plan --depth 2 --batch 1 --json {more}");
        let text = bench.ok(&args.split_whitespace().collect::<Vec<_>>());
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let (full, off) = (of(""), of("--value-embeds off"));
    assert_eq!(number(&full["params"]) - number(&off["params"]), (32_768 * 128 + 12) as f64);
    assert_eq!(off["run"]["model"]["nanochat"]["value_embeds"], false);
    // The reference leaves its own out too.
    assert!(number(&off["dial"]["reference"]) < number(&full["dial"]["reference"]));
    let events = small(&bench, "--steps 6 --value-embeds off --out off");
    assert_eq!(events[0]["run"]["model"]["nanochat"]["value_embeds"], false);
    let config = std::fs::read_to_string(bench.path("off/step-00000006/state.json")).unwrap();
    let state: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(state["state"]["run"]["model"]["nanochat"]["value_embeds"], false, "{state}");
}

/// The table of depths.
#[test]
fn a_plan_tells_the_whole_run() {
    let bench = Bench::new();
    for (depth, params, scaling, batch, steps, flops) in [
        ("2", 12_976_170, 4_587_532, 131_072, 420, 3.146e7),
        ("4", 36_700_242, 11_534_384, 262_144, 528, 8.022e7),
    ] {
        let text = bench.ok(&["plan", "--depth", depth, "--batch", "1", "--json"]);
        let plan: Value = serde_json::from_str(&text).unwrap();
        let kinds = &plan["parameters_by_kind"];
        assert_eq!([&kinds["total"], &kinds["scaling"]], [params, scaling]);
        assert_eq!([&plan["batch_tokens"], &plan["steps"]], [batch, steps]);
        assert_eq!(plan["dial"]["tokens"], 12 * scaling);
        assert_eq!(number(&plan["tokens"]), f64::from(batch) * f64::from(steps));
        let per_token = number(&plan["flops_per_token"]);
        assert!((per_token / flops - 1.0).abs() < 1e-3, "{per_token}");
        assert_eq!(number(&plan["flops"]), per_token * number(&plan["tokens"]));
        let warnings = plan["warnings"].to_string();
        assert!(warnings.contains("weight decay of"), "{warnings}");
        let memory = &plan["memory_bytes"];
        assert_eq!(
            [&memory["weights"], &memory["gradients"]].map(number),
            [f64::from(4 * params); 2]
        );
        assert!(
            number(&memory["optimizer"]) < 2.0 * number(&memory["weights"]),
            "Muon has one moment"
        );
        let chips = plan["chips"].as_array().unwrap();
        assert!(chips.len() > 10 && chips.iter().any(|chip| chip["chip"] == "m4"));
    }
    let text = bench.ok(&["plan", "--depth", "2", "--batch", "1", "--chip", "m4-pro"]);
    for part in ["value embeddings", "4,587,532", "tokens per step", "131,072", "whole run", "Muon"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

/// Muon takes longer than AdamW.
#[test]
fn a_plan_prices_its_optimizer() {
    let bench = Bench::new();
    let seconds = |optimizer: &str| {
        let args = ["plan", "--preset", "stories15m", "--optimizer", optimizer, "--json"];
        let plan: Value = serde_json::from_str(&bench.ok(&args)).unwrap();
        number(&plan["step"]["parts"]["optimizer"])
    };
    assert!(seconds("muon") > 2.0 * seconds("adamw"));
}

/// A preset without the dial: the groups are nanochat's with Muon.
#[test]
fn a_preset_has_the_groups_of_its_edition() {
    let bench = Bench::new();
    let of = |preset: &str| {
        let args = ["plan", "--preset", preset, "--optimizer", "muon", "--batch", "1", "--json"];
        let plan: Value = serde_json::from_str(&bench.ok(&args)).unwrap();
        plan["run"].clone()
    };
    let (july, february) = (of("nanochat-d2"), of("nanochat-2026-02-d2"));
    let decay = |run: &Value| number(&run["optimizer"]["adamw"]["classifier"]["weight_decay"]);
    assert!((decay(&july) - 0.01).abs() < 1e-7 && decay(&february) == 0.0);
    assert_eq!([&july, &february].map(|run| number(&run["optimizer"]["margin"])), [1.01, 1.02]);
    assert_eq!([&july, &february].map(|run| run["optimizer"]["rescale"] == true), [true, false]);
    assert!(july["dial"].is_null());
    let share = |run: &Value| number(&run["schedule"]["multipliers"]["classifier"]);
    assert!((share(&july) / share(&february) - 2.0).abs() < 1e-12);
}
