//! Tokenizers from the command line.

use crate::Bench;
use serde_json::Value;

/// A tokenizer of 300 tokens, and the text that it was learned from.
fn learned(bench: &Bench) -> String {
    let text = bench.ok(&["data", "synth", "--count", "30"]);
    bench.write("text.txt", &text);
    bench.ok(&["tokenizer", "train", "--data", "text.txt", "--vocab-size", "300"]);
    text
}

/// The cells of the row that begins with `name`, which may have spaces.
fn cells<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let row = table.lines().find_map(|line| line.strip_prefix(name));
    row.unwrap_or_else(|| panic!("{name} in {table}")).split_whitespace().collect()
}

#[test]
fn an_evaluation_says_the_same_as_text_and_as_json() {
    let bench = Bench::new();
    let text = learned(&bench);
    let eval = ["tokenizer", "eval", "--tokenizer", "tokenizer.json", "--data", "text.txt"];
    let told = bench.ok(&eval);
    let report: Value =
        serde_json::from_str(&bench.ok(&[&eval[..], &["--json"]].concat())).unwrap();
    let number = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"));
    let words = text.split_whitespace().filter(|&word| word != "<|endoftext|>").count();
    assert_eq!(number("words") as usize, words);
    let tokenizer = tokenizer::Tokenizer::load(bench.path("tokenizer.json")).unwrap();
    let documents = text.split("<|endoftext|>").map(str::trim).filter(|text| !text.is_empty());
    let tokens: usize = documents.map(|text| tokenizer.encode(text).unwrap().len()).sum();
    assert_eq!(number("tokens") as usize, tokens);
    let per_token = number("bytes") as f64 / number("tokens") as f64;
    assert_eq!(report["bytes_per_token"], per_token);
    let row = [number("bytes").to_string(), words.to_string(), tokens.to_string()];
    assert_eq!(cells(&told, "text.txt"), [&row[..], &[format!("{per_token:.3}")]].concat());
    assert!(report["mb_per_s"].as_f64().unwrap() > 0.0 && told.contains("MB/s on one core"));
}

#[test]
fn tokenizers_are_compared_on_kinds_of_text() {
    let bench = Bench::new();
    learned(&bench);
    bench.ok(&["tokenizer", "train", "--data", "text.txt", "--char", "--out", "chars.json"]);
    let train =
        "tokenizer train --data text.txt --rules nanochat --vocab-size 600 --out other.json";
    bench.ok(&train.split(' ').collect::<Vec<_>>());
    let eval = "tokenizer eval --tokenizer tokenizer.json --beside other.json chars.json";
    let eval: Vec<&str> = eval.split(' ').collect();
    let told = bench.ok(&eval);
    let report: Value =
        serde_json::from_str(&bench.ok(&[&eval[..], &["--json"]].concat())).unwrap();
    let texts = report["texts"].as_array().unwrap();
    assert_eq!((texts.len(), report["tokenizers"].as_array().unwrap().len()), (10, 3));
    for text in texts {
        let name = text["text"].as_str().unwrap();
        let (first, other) = (&text["results"][0], &text["results"][1]);
        let ratio = other["tokens"].as_f64().unwrap() / first["tokens"].as_f64().unwrap();
        assert_eq!(other["tokens_to_first"], ratio, "{name}");
        let cells = cells(&told, name);
        assert_eq!(cells[2], first["tokens"].to_string(), "{name}");
        assert_eq!(cells[6], format!("{ratio:.3}"), "{name}");
    }
    // The characters of stories are not enough for Chinese, and are one byte each.
    let chinese = texts.last().unwrap();
    assert_eq!(
        (&chinese["text"], &chinese["results"][2]["tokens"]),
        (&"Chinese".into(), &Value::Null)
    );
    assert!(told.contains("C cannot encode Chinese: character"), "{told}");
    let sum = |n: usize| -> u64 {
        texts.iter().map(|text| text["results"][n]["tokens"].as_u64().unwrap()).sum()
    };
    assert_eq!(report["all"]["results"][1]["tokens"], sum(1));
    assert_eq!(report["tokens"], sum(0));
}

#[test]
fn documents_are_cut_by_nanochats_rules() {
    let bench = Bench::new();
    let line = |text: String| serde_json::json!({"text": text}).to_string();
    let long = "abab".repeat(3000);
    bench.write("texts.jsonl", [line(long + "cdcdcd"), line("efef".into())].join("\n"));
    let train = |more: &[&str]| {
        let args = "tokenizer train --data texts.jsonl --rules nanochat --vocab-size 290";
        let args: Vec<&str> = args.split(' ').chain(more.iter().copied()).collect();
        let output = bench.run(&args);
        let note = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{note}");
        let tokenizer = tokenizer::Tokenizer::load(bench.path("tokenizer.json")).unwrap();
        let known =
            |text: &str| (0..300).any(|id| tokenizer.token_bytes(id) == Some(text.as_bytes()));
        (["abab", "cd", "ef"].map(known), note)
    };
    let (known, note) = train(&[]);
    assert_eq!(known, [true, false, true]);
    assert!(note.contains("1 of 2 documents were cut after 10000 characters"), "{note}");
    assert_eq!(train(&["--doc-cap", "0"]).0, [true, true, true]);
    // The first document exceeds the limit, so the second is not read.
    assert_eq!(train(&["--max-chars", "9999"]).0, [true, false, false]);
    assert_eq!(train(&["--max-chars", "10000"]).0, [true, false, true]);
}

#[test]
fn tokens_of_conversations_are_a_part_of_the_vocabulary() {
    let bench = Bench::new();
    bench.write("text.txt", bench.ok(&["data", "synth", "--count", "30"]));
    let train = ["tokenizer", "train", "--data", "text.txt", "--vocab-size", "300"];
    let told = bench.ok(&[&train[..], &["--chat"]].concat());
    assert!(told.contains("byte-level BPE, 300 tokens, bos 291 <|bos|>"), "{told}");
    let tokenizer = tokenizer::Tokenizer::load(bench.path("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.special("<|output_end|>"), Some(299));
}
