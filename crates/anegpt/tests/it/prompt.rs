//! Prompts of samples: checked before the first step, or taken from the data.

use crate::{Bench, with};

/// Sums by digits, without a letter of the default prompt, and a small model of 16 tokens.
fn digits(bench: &Bench) -> Vec<String> {
    let lines = (0..400).map(|i| format!("{}+{}={}\n", i * 7 % 97, i, i * 7 % 97 + i));
    bench.write("digits.txt", lines.collect::<String>());
    bench.write(
        "small.toml",
        "[model]\nn_layer = 1\nn_head = 2\nn_embd = 16\nseq_len = 16\n[train]\nbatch = 4\nseq = 16\n",
    );
    let args =
        "train --config small.toml --data digits.txt --tokenizer char --steps 10 --device cpu";
    args.split(' ').map(str::to_owned).collect()
}

fn samples(log: &str) -> Vec<String> {
    log.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "sample")
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_text_without_the_letters_of_the_default_prompt_is_sampled_all_the_same() {
    let bench = Bench::new();
    let base = digits(&bench);
    let more = ["--sample-every", "5", "--log-format", "json", "--out", "run"];
    let found = samples(&bench.ok(&with(&base, &more)));
    assert_eq!(found.len(), 2);
    let data = std::fs::read_to_string(bench.path("digits.txt")).unwrap();
    // A line of the data, or the rest of one where the validation part begins.
    let prompt = data.lines().find(|line| found.iter().all(|text| text.starts_with(*line)));
    let begins = |end: &str| found.iter().all(|text| text.starts_with(end));
    let rest = data.lines().any(|line| (0..line.len()).any(|i| begins(&line[i..])));
    assert!(prompt.is_some() || rest, "{found:?}");
    let own = with(&base, &["--prompt", "12+", "--sample-every", "5", "--log-format", "json"]);
    let found = samples(&bench.ok(&own));
    assert!(found.len() == 2 && found.iter().all(|text| text.starts_with("12+")), "{found:?}");
    // A resumed run keeps it.
    let resume = ["train", "--resume", "out/run-1", "--steps", "15", "--log-format", "json"];
    let found = samples(&bench.ok(&resume));
    assert!(found.len() == 1 && found[0].starts_with("12+"), "{found:?}");
}

#[test]
fn a_prompt_that_cannot_be_used_is_refused_before_the_first_step() {
    let bench = Bench::new();
    let base = digits(&bench);
    for (prompt, says) in [
        ("Once upon a time", "cannot be used"),
        ("", "it is empty, and the tokenizer has no token that begins a text"),
        ("1234567890123456", "it has 16 tokens and the model reads 16"),
    ] {
        let output = bench.run(&with(&base, &["--prompt", prompt]));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{prompt:?}: {error}");
        assert!(error.contains("--prompt") && error.contains(says), "{prompt:?}: {error}");
        assert!(error.contains("--sample-every 0"), "{error}");
        assert!(!bench.path("out").exists(), "nothing was begun");
        // What is not used is not judged.
        let out = format!("without-{}", says.len());
        bench.ok(&with(&base, &["--prompt", prompt, "--sample-every", "0", "--out", &out]));
    }
    // One token shorter, it fits.
    bench.ok(&with(&base, &["--prompt", "123456789012345", "--out", "fits"]));
}
