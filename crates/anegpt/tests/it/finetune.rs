//! Going on from weights that exist makes them better, and the best are kept.

use crate::{Bench, events, of, real_data, with};
use serde_json::Value;

/// Validation loss before the first step and at the end.
fn first_and_last(events: &[Value]) -> (f64, f64) {
    let loss = |event: &Value| event["val_loss"].as_f64().unwrap();
    let measured = of(events, "eval");
    assert_eq!(measured[0]["step"], 0);
    (loss(measured[0]), loss(measured[measured.len() - 1]))
}

/// On 14,000 tokens of TinyStories, at the rate of fresh weights, 20 steps ended at 2.19 and 200 at 3.03.
#[test]
fn trained_weights_improve_with_the_defaults() {
    let files = ["stories260K.bin", "tok512.bin", "tinystories-sample.txt"].map(real_data);
    let [Some(weights), Some(tokenizer), Some(text)] = files else { return };
    let bench = Bench::new();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let base = ["train", "--init", &path(&weights), "--tokenizer", &path(&tokenizer), "--data"]
        .map(str::to_owned);
    let base = [&base[..], &[path(&text)]].concat();
    let run = |more: &[&str]| {
        let always = ["--sample-every", "0", "--log-format", "json"];
        events(&bench.ok(&with(&base, &[&always[..], more].concat())))
    };
    for seed in ["1", "2", "3"] {
        let (first, last) = first_and_last(&run(&["--seed", seed]));
        assert!(
            (1.7..1.9).contains(&first),
            "{first}: llama2.c states about 1.3 to 1.6 on whole stories"
        );
        assert!(last < first - 0.05, "seed {seed}: {first} became {last}");
    }
    // Many times through a small text, which would be learned by heart at the same rate.
    let long = run(&["--steps", "100"]);
    let (first, last) = first_and_last(&long);
    assert!(last < first - 0.05, "{first} became {last}");
    let warning = of(&long, "warning")[0]["message"].as_str().unwrap();
    assert!(warning.contains("will be seen 14.6 times in 100 steps"), "{warning}");
    assert!(warning.contains("--steps 20;"), "{warning}");
    assert!((of(&long, "start")[0]["epochs"].as_f64().unwrap() - 14.63).abs() < 0.01);
}

#[test]
fn a_model_of_ours_improves_when_it_is_loaded_again() {
    let bench = Bench::new();
    let base = bench.small_run();
    bench.ok(&with(&base, &["--steps", "300", "--eval-every", "0", "--out", "first"]));
    for seed in ["1", "2", "3"] {
        let args = ["train", "--init", "first", "--data", "text.txt", "--sample-every", "0"];
        let more = ["--log-format", "json", "--steps", "40", "--seed", seed];
        let (first, last) = first_and_last(&events(&bench.ok(&[&args[..], &more].concat())));
        assert!(last < first, "seed {seed}: {first} became {last}");
    }
}

/// The rate is that of the preset of this width, not of the default model, at which such a run diverges.
#[test]
fn a_wide_model_of_a_configuration_learns() {
    let bench = Bench::new();
    bench.write("text.txt", bench.ok(&["data", "synth", "--count", "60"]));
    let shape = "[model]\nn_layer = 2\nn_head = 12\nn_embd = 768\nhidden = 512\nseq_len = 32\n";
    bench.write("wide.toml", shape);
    let args = "train --config wide.toml --data text.txt --tokenizer bpe:300 --sample-every 0 \
                --log-format json --steps 24 --batch 2 --device cpu";
    let events = events(&bench.ok(&args.split_whitespace().collect::<Vec<_>>()));
    assert_eq!(of(&events, "start")[0]["run"]["schedule"]["peak"], 3e-4);
    let (first, last) = first_and_last(&events);
    assert!(last < first - 0.5, "{first} became {last}");
}

#[test]
fn the_best_can_be_pointed_at() {
    let bench = Bench::new();
    let base = bench.small_run();
    let steps = ["--steps", "200", "--lr", "1e-2", "--eval-every", "50", "--keep", "1"];
    bench.ok(&with(&base, &[&steps[..], &["--out", "run"]].concat()));
    let link = |name: &str| std::fs::read_link(bench.path("run").join(name)).unwrap();
    assert_eq!(link("best").to_str(), Some("step-00000200"));
    // A rate that undoes what was learned; intervals and --keep are those of before. A run of 400 steps
    // would be measured over more batches (10, not 8) if its best had not been measured already.
    let worse =
        bench.ok(&["train", "--resume", "run", "--steps", "400", "--lr", "0.1", "--min-lr", "0.1"]);
    assert_eq!(link("best").to_str(), Some("step-00000200"));
    assert_eq!(link("latest").to_str(), Some("step-00000400"));
    assert!(!bench.path("run/step-00000250").exists(), "one is kept besides the best");
    assert!(worse.contains("after step 200\n"), "{worse}");
    assert!(worse.contains("anegpt generate --model run/best"), "{worse}");
    let loss = |event: &Value| event["val_loss"].as_f64().unwrap();
    let log = events(&std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap());
    let done = of(&log, "done");
    assert_eq!(done[1]["best"]["step"], 200);
    assert_eq!(done[1]["best"]["val_loss"], done[0]["val_loss"]);
    assert!(loss(done[1]) > loss(done[0]));
    let text = |model: &str| {
        let args = ["generate", "--model", model, "--temperature", "0", "--max-tokens", "9"];
        bench.ok(&args)
    };
    assert_eq!(text("run/best"), text("run/step-00000200"));
    assert_ne!(text("run/best"), text("run/latest"));
    assert_eq!(text("run"), text("run/latest"));
    // On from the best, as weights and as a run.
    let args = ["train", "--init", "run/best", "--data", "text.txt", "--sample-every", "0"];
    let more = ["--log-format", "json", "--steps", "2", "--batch", "4", "--out", "other"];
    let (first, _) = first_and_last(&events(&bench.ok(&[&args[..], &more].concat())));
    assert!(first < loss(done[0]) + 0.1, "{first}: {}", done[0]);
    bench.ok(&["train", "--resume", "run/best", "--steps", "201", "--lr", "1e-3"]);
    assert!(bench.path("run/step-00000201/state.json").exists());
}

#[test]
fn a_file_to_validate_takes_the_place_of_the_split() {
    let bench = Bench::new();
    let base = bench.small_run();
    let other = bench.ok(&["data", "synth", "--count", "30", "--seed", "9"]);
    bench.write("other.txt", other);
    let run = |more: &[&str]| {
        let always = ["--steps", "6", "--log-format", "json", "--out"];
        events(&bench.ok(&with(&base, &[&always[..], more].concat())))
    };
    let (split, own) = (run(&["split"]), run(&["own", "--val-data", "other.txt"]));
    let tokens = |events: &[Value], part: &str| of(events, "start")[0][part].as_u64().unwrap();
    let all = tokens(&split, "train_tokens") + tokens(&split, "val_tokens");
    assert_eq!(tokens(&own, "train_tokens"), all);
    assert_ne!(first_and_last(&own), first_and_last(&split));
    let here = bench.path("other.txt");
    assert_eq!(of(&own, "start")[0]["val_data"].as_str().unwrap(), here.to_str().unwrap());
    // The checkpoint knows where it is, from any directory.
    let elsewhere = bench.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let resume = ["train", "--resume", "../own", "--steps", "8", "--log-format", "json"];
    let output = bench.command(&resume).current_dir(&elsewhere).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let on = events(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(tokens(&on, "val_tokens"), tokens(&own, "val_tokens"));
    assert_eq!(of(&on, "eval")[0]["step"], 8, "what is known is not measured again");
    // Judged by another text, it is measured anew.
    let resume = ["train", "--resume", "own", "--steps", "9", "--val-data", "text.txt"];
    let on = events(&bench.ok(&[&resume[..], &["--log-format", "json"]].concat()));
    assert_eq!(of(&on, "eval")[0]["step"], 8);
    assert_eq!(of(&on, "done")[0]["best"]["step"], 9);
    // What is no longer there is named, with the flag that helps.
    std::fs::remove_file(bench.path("text.txt")).unwrap();
    let output = bench.run(&["train", "--resume", "split", "--steps", "9"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("text.txt") && error.contains("give --data FILE"), "{error}");
}

/// A small random GPT-2 in a directory as Hugging Face has it, and its parameters.
fn hugging_face_gpt2(bench: &Bench, name: &str) -> (tokenizer::Tokenizer, gpt::Parameters) {
    let text = std::fs::read_to_string(bench.path("text.txt")).unwrap();
    let tokenizer = tokenizer::Tokenizer::train_bpe([text], 300, &mut |_| {}).unwrap();
    let config = gpt::GptConfig {
        n_layer: 2,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 32,
        head_dim: 16,
        hidden: 128,
        vocab_size: tokenizer.vocab_size(),
        seq_len: 32,
        ..gpt::GptConfig::preset("gpt2").unwrap()
    };
    // Ten times the usual size, so that the likeliest token is not always the same.
    let values: Vec<f32> = gpt::initialise(&config, 7).iter().map(|value| 10.0 * value).collect();
    let place = bench.path(name);
    std::fs::create_dir(&place).unwrap();
    for (file, contents) in formats::hugging_face::files(&config, &tokenizer).unwrap() {
        std::fs::write(place.join(file), contents).unwrap();
    }
    let weights = place.join("model.safetensors");
    formats::hugging_face::write_safetensors(&weights, &config, &values).unwrap();
    (tokenizer, gpt::Parameters::new(&config, values))
}

/// Puts `transformer.` before the name of every tensor, as `GPT2LMHeadModel` saves them.
fn prefix_tensors(weights: &std::path::Path) {
    let bytes = std::fs::read(weights).unwrap();
    let data = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let tensors: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..data]).unwrap();
    assert!(tensors.contains_key("h.0.attn.c_attn.weight"), "{:?}", tensors.keys());
    let prefixed = |name: String| match &name[..] {
        "__metadata__" => name,
        _ => format!("transformer.{name}"),
    };
    let tensors: serde_json::Map<String, Value> =
        tensors.into_iter().map(|(name, place)| (prefixed(name), place)).collect();
    let mut header = serde_json::to_string(&tensors).unwrap();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(weights, [&length, header.as_bytes(), &bytes[data..]].concat()).unwrap();
}

/// The likeliest continuation, by the library and without files.
fn greedy(tokenizer: &tokenizer::Tokenizer, weights: &gpt::Parameters, count: usize) -> String {
    let device = ane::Emulator::cpu(cpu::Numerics::F32);
    let mut decoder = gpt::Decoder::new(weights, 4, &device, cpu::Numerics::F32).unwrap();
    let prompt = tokenizer.encode("Once").unwrap();
    let mut tokens: Vec<u32> = tokenizer.prompt_bos().into_iter().chain(prompt).collect();
    let mut logits = decoder.feed(&tokens).unwrap();
    for _ in 0..count {
        let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let likeliest = likeliest.unwrap() as u32;
        if tokenizer.bos() == Some(likeliest) {
            break;
        }
        tokens.push(likeliest);
        logits = decoder.feed(&tokens[tokens.len() - 1..]).unwrap();
    }
    tokenizer.decode(&tokens)
}

/// By the names of the published files and by those of `GPT2LMHeadModel`.
#[test]
fn a_gpt2_of_hugging_face_is_trained_further() {
    let bench = Bench::new();
    bench.write("text.txt", bench.ok(&["data", "synth", "--count", "60"]));
    let (tokenizer, parameters) = hugging_face_gpt2(&bench, "published");
    hugging_face_gpt2(&bench, "prefixed");
    prefix_tensors(&bench.path("prefixed/model.safetensors"));
    let text = |model: &str| {
        bench.ok(&["generate", model, "Once", "--temperature", "0", "-n", "12", "--device", "cpu"])
    };
    let expected = greedy(&tokenizer, &parameters, 12);
    assert_eq!(text("published").trim_end(), expected.trim_end());
    assert_eq!(text("prefixed"), text("published"));
    let train = |model: &str, out: &str, more: &str| {
        let args = format!(
            "train --init {model} --data text.txt --sample-every 0 --log-format json --batch 4 \
             --seq 32 --device cpu --out {out} {more}"
        );
        events(&bench.ok(&args.split_whitespace().collect::<Vec<_>>()))
    };
    // A rate too small to change anything: what was read is written.
    train("prefixed", "same", "--steps 1 --lr 1e-12 --weight-decay 0");
    assert_eq!(text("same"), text("published"));
    let weights = |model: &str| {
        let path = bench.path(model).join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let published = b"\"h.1.attn.c_attn.weight\"";
        assert!(bytes.windows(published.len()).any(|part| part == published), "{model}");
        formats::hugging_face::read_safetensors(&path, parameters.config()).unwrap()
    };
    let (kept, given) = (weights("same/latest"), weights("published"));
    assert!(kept.iter().zip(&given).all(|(a, b)| (a - b).abs() < 1e-10), "and by published names");
    let losses = |events: &[Value]| -> Vec<f64> {
        of(events, "step").iter().map(|step| step["loss"].as_f64().unwrap()).collect()
    };
    let one = train("published", "one", "--steps 30 --lr 3e-3");
    let other = train("prefixed", "other", "--steps 30 --lr 3e-3");
    assert_eq!(losses(&one), losses(&other));
    let (first, last) = first_and_last(&one);
    assert!(last < first - 0.5, "{first} became {last}");
    assert_ne!(text("one"), text("published"));
    let config = std::fs::read_to_string(bench.path("one/latest/config.json")).unwrap();
    assert!(config.contains("GPT2LMHeadModel"), "{config}");
}
