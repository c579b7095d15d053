//! Tokenizers from the command line.

use crate::Bench;
use serde_json::Value;

#[test]
fn an_evaluation_says_the_same_as_text_and_as_json() {
    let bench = Bench::new();
    let text = bench.ok(&["data", "synth", "--count", "30"]);
    bench.write("text.txt", &text);
    bench.ok(&["tokenizer", "train", "--data", "text.txt", "--vocab-size", "300"]);
    let eval = ["tokenizer", "eval", "--tokenizer", "tokenizer.json", "--data", "text.txt"];
    let told = bench.ok(&eval);
    let report: Value =
        serde_json::from_str(&bench.ok(&[&eval[..], &["--json"]].concat())).unwrap();
    let number = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"));
    assert!(
        told.contains(&format!("{} bytes, {} words", number("bytes"), number("words"))),
        "{told}"
    );
    assert!(told.contains(&format!("tokens           {}\n", number("tokens"))), "{told}");
    let words = text.split_whitespace().filter(|&word| word != "<|endoftext|>").count();
    assert_eq!(number("words") as usize, words);
    let per_token = number("bytes") as f64 / number("tokens") as f64;
    assert_eq!(report["bytes_per_token"], per_token);
    assert!(report["mb_per_s"].as_f64().unwrap() > 0.0 && told.contains("MB/s on one core"));
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
