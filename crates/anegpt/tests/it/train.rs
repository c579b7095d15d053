//! `anegpt train`.

use crate::{Bench, events, real_data, with, words};
use serde_json::Value;
use std::io::{BufRead, BufReader};

#[test]
fn json_events_tell_the_run() {
    let bench = Bench::new();
    let base = bench.small_run();
    let flags = "--steps 40 --eval-every 20 --accum 2 --lr 2e-3 --warmup 4 --min-lr 2e-4 \
                 --log-format json --out run";
    let text = bench.ok(&with(&base, &flags.split_whitespace().collect::<Vec<_>>()));
    let events = events(&text);
    let of = |kind: &str| events.iter().filter(|e| e["event"] == kind).cloned().collect::<Vec<_>>();
    assert_eq!(of("step").len(), 40);
    for (i, step) in of("step").iter().enumerate() {
        let number = |field: &str| step[field].as_f64().unwrap_or(f64::NAN);
        assert_eq!(step["step"], i + 1);
        // Two micro-batches of four sequences of 32.
        assert_eq!(step["tokens"], 256 * (i + 1));
        let lr = match i {
            0..4 => 5e-4 * (i + 1) as f64,
            _ => 1.1e-3 + 0.9e-3 * (std::f64::consts::PI * (i - 4) as f64 / 35.0).cos(),
        };
        assert!((number("lr") - lr).abs() < 1e-15, "{step}: the rate is {lr}");
        // A vocabulary of 300 starts at ln 300 = 5.7.
        assert!(number("loss") > 1.0 && number("loss") < 6.2, "{step}");
        assert!(number("grad_norm") > 0.01 && number("grad_norm") < 100.0, "{step}");
        // The engine's numerics need a loss scale: without it small gradients vanish below 2^-24.
        assert_eq!(number("loss_scale"), 4096.0, "{step}");
        assert_eq!(step["skipped"], false);
        let parts = step["parts"].as_object().unwrap();
        let sum: f64 = parts.values().map(|ms| ms.as_f64().unwrap()).sum();
        assert!(parts.len() == 8 && sum > 0.0 && sum <= number("ms"), "{step}");
    }
    let start = &of("start")[0];
    assert_eq!((&start["tokens_per_step"], &start["steps"]), (&256.into(), &40.into()));
    let evals = of("eval");
    let measured: Vec<u64> = evals.iter().map(|e| e["step"].as_u64().unwrap()).collect();
    assert_eq!(measured, [0, 20, 40]);
    let done = &of("done")[0];
    assert_eq!(done["val_loss"], evals.last().unwrap()["val_loss"]);
    let val_loss = done["val_loss"].as_f64().unwrap();
    assert!(val_loss < of("step")[0]["loss"].as_f64().unwrap(), "it learns: {done}");
    assert!(start["unigram_entropy"].as_f64().unwrap() > 3.0);
    assert_eq!(done["steps"], 40);
    let mean = of("step").iter().map(|s| s["ms"].as_f64().unwrap()).sum::<f64>() / 40.0;
    assert!((done["ms_per_step"].as_f64().unwrap() / mean - 1.0).abs() < 1e-9, "{done}");
    let path = of("checkpoint").last().unwrap()["path"].as_str().unwrap().to_owned();
    assert!(bench.path(&path).join("model.safetensors").exists());
    let log = std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    assert_eq!(log, text, "the log holds the same events");
    settings_are_told(&bench, &events);
}

/// Time on every event, and the whole of the settings at the start.
fn settings_are_told(bench: &Bench, events: &[Value]) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let times: Vec<f64> = events.iter().map(|e| e["time"].as_f64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    let last = times[times.len() - 1];
    assert!((0.0..600.0).contains(&(now.as_secs_f64() + 1.0 - last)), "{last}");
    let (start, done) = (&events[0], &events[events.len() - 1]);
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(start["out"], "run");
    assert_eq!(start["data"].as_str(), bench.path("text.txt").to_str());
    assert_eq!(start["numerics"], "fast");
    assert!(start["tokenizer"].as_str().unwrap().contains("300"), "{start}");
    let run = &start["run"];
    assert_eq!((&run["seed"], &run["batch"], &run["seq"]), (&42.into(), &4.into(), &32.into()));
    assert_eq!(run["model"]["n_embd"], 32);
    assert_eq!(run["schedule"]["peak"], 2e-3);
    assert_eq!(start["lr_reason"], "as asked for");
    assert_eq!((&start["intervals"]["eval"], &start["intervals"]["keep"]), (&20.into(), &3.into()));
    let seen = 40.0 * 256.0 / start["train_tokens"].as_f64().unwrap();
    assert!((start["epochs"].as_f64().unwrap() / seen - 1.0).abs() < 1e-9, "{start}");
    assert_eq!(done["reason"], "finished");
    assert_eq!(done["checkpoint"], "run/step-00000040");
    let spent = done["spent"].as_object().unwrap();
    let parts = spent.iter().filter(|part| part.0 != "total_s");
    let sum: f64 = parts.map(|part| part.1.as_f64().unwrap()).sum();
    assert!((sum - spent["total_s"].as_f64().unwrap()).abs() < 1e-6, "{spent:?}");
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_others() {
    let bench = Bench::new();
    let base = bench.small_run();
    let weights = |out: &str, seed: &str| {
        bench.ok(&with(&base, &["--steps", "6", "--seed", seed, "--out", out]));
        std::fs::read(bench.path(out).join("step-00000006/model.safetensors")).unwrap()
    };
    assert_eq!(weights("a", "1"), weights("b", "1"));
    assert_ne!(weights("c", "2"), weights("a2", "1"));
}

#[test]
fn a_resumed_run_computes_as_before() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "2", "--chip", "m1", "--out", "run"]));
    let device = |more: &[&str]| {
        let text = bench.ok(&[&["train", "--resume", "run"], more].concat());
        text.lines().find(|line| line.starts_with("device")).unwrap().to_owned()
    };
    assert!(device(&["--steps", "3"]).contains(" m1/"));
    assert!(device(&["--steps", "4", "--device", "cpu"]).contains("CPU"));
    assert!(device(&["--steps", "5"]).contains("CPU"));
    let back = ["train", "--resume", "run/step-00000003", "--steps", "4"];
    let warned = bench.run(&back);
    let text = String::from_utf8_lossy(&warned.stderr).into_owned();
    assert!(warned.status.success() && text.contains("a later checkpoint, step 5"), "{text}");
}

/// Both families; the settings are stored, and a run goes on with them to the same bytes.
#[test]
fn a_run_with_muon_is_stored_and_goes_on_to_the_bit() {
    let bench = Bench::new();
    let base = bench.small_run();
    let gpt2 =
        "preset = \"gpt2-tiny\"\n[model]\nn_layer = 1\nn_embd = 32\nn_head = 2\nseq_len = 32\n";
    bench.write("gpt2.toml", format!("{gpt2}[train]\nbatch = 4\nseq = 32\n"));
    let muon = "--optimizer muon --lr 0.02 --embedding-lr 1e-3 --momentum 0.9 --weight-decay 0.2 \
                --steps 6 --checkpoint-every 3 --keep 9";
    for (family, config) in [("llama", "small.toml"), ("gpt2", "gpt2.toml")] {
        let base = base.iter().map(|arg| arg.replace("small.toml", config));
        let more = muon.split_whitespace().chain(["--out", family]).map(str::to_owned);
        let args: Vec<String> = base.chain(more).collect();
        let text = words(&bench.ok(&with(&args, &[])));
        assert!(text.contains("Muon for the matrices"), "{text}");
        let state = std::fs::read_to_string(bench.path(family).join("step-00000003/state.json"));
        let run = serde_json::from_str::<Value>(&state.unwrap()).unwrap()["state"]["run"].clone();
        assert_eq!(run["optimizer"]["name"], "muon");
        assert_eq!(run["optimizer"]["momentum"]["constant"], 0.9);
        assert_eq!(run["schedule"]["multipliers"]["embedding"], 1e-3 / 0.02);
        let other = format!("{family}-again");
        let from = format!("{family}/step-00000003");
        bench.ok(&["train", "--resume", &from, "--out", &other, "--sample-every", "0"]);
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let read = |out: &str| std::fs::read(bench.path(out).join("step-00000006").join(file));
            assert!(read(family).unwrap() == read(&other).unwrap(), "{family}: {file}");
        }
    }
}

#[test]
fn a_run_longer_than_planned_goes_on() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "4", "--out", "run"]));
    let again = bench.run(&["train", "--resume", "run"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("has done its 4 steps"));
    bench.ok(&["train", "--resume", "run", "--steps", "7", "--sample-every", "0"]);
    assert!(bench.path("run/step-00000007/state.json").exists());
}

#[test]
fn a_checkpoint_is_resumed_from_inside_its_run() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "2", "--out", "run"]));
    let text = bench.path("text.txt");
    for (step, inside, name) in [(2, "run/step-00000002", "."), (3, "run", "step-00000003")] {
        let steps = (step + 1).to_string();
        let args = ["train", "--resume", name, "--steps", &steps, "--sample-every", "0", "--data"];
        let mut command = bench.command(&with(&args.map(str::to_owned), &[text.to_str().unwrap()]));
        let output = command.current_dir(bench.path(inside)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(bench.path(&format!("run/step-{:08}/state.json", step + 1)).exists());
    }
    assert!(!bench.path("run/step-00000002/log.jsonl").exists(), "nothing is written inside");
}

#[test]
fn a_resumed_run_takes_the_settings_it_is_given() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "2", "--out", "run"]));
    let flags = ["--clip", "0.5", "--weight-decay", "0.25", "--warmup", "3", "--min-lr", "1e-3"];
    let resume = ["train", "--resume", "run", "--steps", "4", "--sample-every", "0"];
    bench.ok(&[&resume[..], &flags].concat());
    let state = std::fs::read_to_string(bench.path("run/step-00000004/state.json")).unwrap();
    let run = serde_json::from_str::<Value>(&state).unwrap()["state"]["run"].clone();
    assert_eq!(run["clip"], 0.5);
    assert_eq!(run["optimizer"]["weight_decay"], 0.25);
    assert_eq!(run["schedule"]["warmup"], 3);
    assert!((run["schedule"]["floor"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12, "{run}");
}

/// All elements of the tensors of a safetensors file whose names end in `suffix`, in the file's order.
fn elements(path: &std::path::Path, suffix: &str) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let entries: serde_json::Map<String, Value> =
        serde_json::from_slice(&bytes[8..header]).unwrap();
    let mut ranges: Vec<_> = entries
        .iter()
        .filter(|(name, _)| name.ends_with(suffix))
        .map(|(_, entry)| {
            [0, 1].map(|i| header + entry["data_offsets"][i].as_u64().unwrap() as usize)
        })
        .collect();
    ranges.sort_unstable();
    let words = ranges.iter().flat_map(|&[from, to]| bytes[from..to].chunks_exact(4));
    words.map(|word| f64::from(f32::from_le_bytes(word.try_into().unwrap()))).collect()
}

/// The first moment takes a tenth of the clipped gradient, whose norm is the limit; the rate climbs
/// towards the end of the warm-up.
#[test]
fn a_resumed_run_does_what_its_new_settings_say() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "2", "--out", "run"]));
    let flags = ["--clip", "0.01", "--warmup", "8", "--lr", "4e-3", "--log-format", "json"];
    let resume = "train --resume run --steps 10 --sample-every 0 --checkpoint-every 1 --keep 10";
    let text = bench.ok(&[&resume.split(' ').collect::<Vec<_>>()[..], &flags].concat());
    let step = events(&text).into_iter().find(|e| e["event"] == "step").unwrap();
    assert_eq!((&step["step"], &step["lr"]), (&3.into(), &1.5e-3.into()));
    assert!(step["grad_norm"].as_f64().unwrap() > 0.1, "it is the norm before clipping: {step}");
    let moments = |step: u64| {
        elements(&bench.path(&format!("run/step-{step:08}/optimizer.safetensors")), ".m")
    };
    let (before, after) = (moments(2), moments(3));
    let change = before.iter().zip(&after).map(|(before, after)| (after - 0.9 * before).powi(2));
    let norm = change.sum::<f64>().sqrt();
    assert!((norm / 1e-3 - 1.0).abs() < 1e-2, "{norm} instead of a tenth of 0.01");
}

#[test]
fn runs_without_a_name_get_a_directory_each() {
    let bench = Bench::new();
    let base = bench.small_run();
    let args = with(&base, &["--steps", "2"]);
    let runs: Vec<_> = (0..3).map(|_| bench.command(&args).spawn().unwrap()).collect();
    runs.into_iter().for_each(|mut run| assert!(run.wait().unwrap().success()));
    for n in 1..=3 {
        assert!(bench.path(&format!("out/run-{n}/step-00000002/state.json")).exists());
    }
}

#[test]
fn a_diverged_run_fails_and_keeps_the_good_checkpoints() {
    let bench = Bench::new();
    let base = bench.small_run();
    let args = ["--steps", "3", "--checkpoint-every", "1", "--keep", "2", "--out", "run"];
    bench.ok(&with(&base, &args));
    let resume = ["train", "--resume", "run", "--steps", "9", "--sample-every", "0"];
    let diverge = ["--lr", "1e30", "--weight-decay", "0", "--checkpoint-every", "1", "--keep", "2"];
    let output = bench.run(&[&resume[..], &diverge].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("diverged"), "{error}");
    assert!(bench.path("run/step-00000003/state.json").exists(), "a good one is left");
    assert!(!bench.path("run/step-00000009").exists());
}

/// `anegpt train | head -1` ends the run, with a checkpoint and without a panic.
#[test]
fn a_run_that_nobody_reads_is_saved() {
    let bench = Bench::new();
    let base = bench.small_run();
    for format in ["human", "json"] {
        let args = ["--steps", "100000", "--log-format", format, "--checkpoint-every", "0"];
        let args = with(&base, &[&args[..], &["--eval-every", "10", "--out", format]].concat());
        let mut command = bench.command(&args);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // Until training is under way.
        while !(line.starts_with("step ") || line.contains("\"event\":\"step\"")) {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "{format}: no step was shown");
        }
        drop(reader);
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{format}: {error}");
        assert!(!error.contains("panicked"), "{format}: {error}");
        let names = std::fs::read_dir(bench.path(format)).unwrap();
        let saved = names
            .filter(|n| n.as_ref().unwrap().file_name().to_string_lossy().starts_with("step-"));
        assert_eq!(saved.count(), 1, "{format}");
    }
}

/// Losses alone would not show a gradient of another scale, which Adam does not see.
#[test]
fn accumulated_micro_batches_are_one_batch() {
    let bench = Bench::new();
    let base = bench.small_run();
    let steps = |more: &[&str]| -> Vec<[f64; 2]> {
        let args = [&["--steps", "5", "--numerics", "f32", "--log-format", "json"], more].concat();
        let text = bench.ok(&with(&base, &args));
        let steps = events(&text).into_iter().filter(|e| e["event"] == "step");
        steps.map(|e| ["loss", "grad_norm"].map(|field| e[field].as_f64().unwrap())).collect()
    };
    let whole = steps(&["--batch", "4", "--accum", "1", "--out", "whole"]);
    assert_eq!(whole.len(), 5);
    for (batch, accum) in [("1", "4"), ("2", "2")] {
        let parts = steps(&["--batch", batch, "--accum", accum, "--out", accum]);
        for (a, b) in whole.iter().flatten().zip(parts.iter().flatten()) {
            // The same tokens in the same order; only the order of f32 sums differs, and Adam's
            // first steps magnify that where a gradient is near zero.
            assert!((a - b).abs() < 1e-3 * a, "{whole:?} {parts:?}");
        }
    }
}

#[test]
fn trained_weights_start_at_a_trained_loss_and_improve() {
    let files = ["stories260K.bin", "tok512.bin", "tinystories-sample.txt"].map(real_data);
    let [Some(weights), Some(tokenizer), Some(text)] = files else { return };
    let bench = Bench::new();
    let out = bench.ok(&[
        "train",
        "--init",
        weights.to_str().unwrap(),
        "--tokenizer",
        tokenizer.to_str().unwrap(),
        "--data",
        text.to_str().unwrap(),
        "--steps",
        "30",
        "--batch",
        "4",
        "--seq",
        "128",
        "--lr",
        "3e-4",
        "--log-format",
        "json",
        "--sample-every",
        "0",
        "--out",
        "run",
    ]);
    let events = events(&out);
    let losses: Vec<f64> = events
        .iter()
        .filter(|e| e["event"] == "step")
        .map(|e| e["loss"].as_f64().unwrap())
        .collect();
    // llama2.c states a validation loss of 1.297 for these weights on TinyStories; a short
    // sample in another tokenisation of documents is near that, an untrained model at ln 512 = 6.2.
    assert!(losses[0] < 2.0, "{losses:?}");
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&losses[25..]) < mean(&losses[..5]) - 0.02, "{losses:?}");
    let text =
        bench.ok(&["generate", "--model", "run", "--temperature", "0", "--max-tokens", "20"]);
    assert!(text.len() > 20, "{text}");
}

#[test]
fn shakespeare_by_characters_begins_to_learn() {
    let Some(text) = real_data("shakespeare.txt") else { return };
    let bench = Bench::new();
    bench.write("shakespeare.toml", include_str!("../../../../runs/shakespeare.toml"));
    let out = bench.ok(&[
        "train",
        "--config",
        "shakespeare.toml",
        "--data",
        text.to_str().unwrap(),
        "--tokenizer",
        "char",
        "--steps",
        "60",
        "--log-format",
        "json",
        "--sample-every",
        "0",
        "--out",
        "run",
    ]);
    let done = events(&out).into_iter().find(|e| e["event"] == "done").unwrap();
    assert!(done["val_loss"].as_f64().unwrap() < 3.0, "{done}");
}

/// A warm-up that does not fit is shortened, and that is told, whether the run is new or goes on.
#[test]
fn a_warm_up_longer_than_the_run_is_told() {
    let bench = Bench::new();
    let base = bench.small_run();
    let warned = |args: &[&str]| {
        let told = events(&bench.ok(args));
        let messages: Vec<String> = (told.iter().filter(|event| event["event"] == "warning"))
            .map(|event| event["message"].as_str().unwrap().to_owned())
            .filter(|message| message.contains("--warmup"))
            .collect();
        messages.concat()
    };
    let json = ["--log-format", "json"];
    let new = with(&base, &["--steps", "2", "--warmup", "50", "--out", "run"]);
    let told = warned(&[&new[..], &json].concat());
    assert!(told.starts_with("--warmup 50 is longer than the run") && told.contains("2 steps"));
    let resume = ["train", "--resume", "run", "--steps", "4", "--sample-every", "0"];
    assert_eq!(warned(&[&resume[..], &json].concat()), "");
    let later = ["train", "--resume", "run", "--steps", "6", "--sample-every", "0"];
    assert!(warned(&[&later[..], &["--warmup", "7"], &json].concat()).contains("6 steps"));
}
