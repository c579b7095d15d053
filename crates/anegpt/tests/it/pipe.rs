//! `anegpt pipe`: the lines that the Python package reads and writes.

use crate::{Bench, with};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

impl Bench {
    /// Answers to these lines, and to what was there before them.
    fn pipe(&self, args: &[&str], lines: &[String]) -> Vec<Value> {
        let mut command = self.command(&[&["pipe"], args].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let requests = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        // A program that has said why it will not answer does not read.
        let _ = child.stdin.take().expect("piped").write_all(requests.as_bytes());
        let output = child.wait_with_output().expect("the program ends");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[test]
fn requests_are_answered_line_by_line() {
    let bench = Bench::new();
    bench.ok(&with(&bench.small_run(), &["--steps", "3", "--out", "run", "--device", "cpu"]));
    let generate = json!({"generate": {
        "prompt": "Once", "max_tokens": 9, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 1,
    }});
    let lines = [
        json!({"encode": {"text": "Once upon"}}),
        generate,
        json!({"loss": {"text": "Once upon a time there was a cat"}}),
        json!({"loss": {"text": ""}}),
        json!({"decode": {"tokens": [299, 300]}}),
        json!({"fly": {}}),
        json!({"decode": {"tokens": [104, 105]}}),
    ]
    .map(|line| line.to_string());
    let answers = bench.pipe(&["run", "--device", "cpu"], &lines);
    assert_eq!((&answers[0]["context"], &answers[0]["vocab_size"]), (&json!(32), &json!(300)));
    assert!(answers[1]["done"]["tokens"].as_array().unwrap().len() >= 2);

    let pieces: String = answers.iter().filter_map(|answer| answer["text"].as_str()).collect();
    let args = ["--prompt", "Once", "--max-tokens", "9", "--temperature", "0", "--device", "cpu"];
    let said = bench.ok(&[&["generate", "--model", "run"], &args[..]].concat());
    assert_eq!(said, format!("Once{pieces}\n"));

    let rest: Vec<&Value> = answers[2..].iter().filter(|line| line.get("text").is_none()).collect();
    let [generated, loss, empty, unknown, wrong, decoded] = rest[..] else { panic!("{rest:?}") };
    assert_eq!(generated["done"]["tokens"].as_array().unwrap().len(), 9);
    let losses = loss["done"]["losses"].as_array().unwrap();
    let mean = losses.iter().map(|l| l.as_f64().unwrap()).sum::<f64>() / losses.len() as f64;
    assert!((mean - loss["done"]["nats_per_token"].as_f64().unwrap()).abs() < 1e-12);
    for (answer, says) in [
        (empty, "no token that could be predicted"),
        (unknown, "token 300 is not of the vocabulary"),
        (wrong, "unknown variant `fly`"),
    ] {
        assert!(answer["error"].as_str().unwrap().contains(says), "{answer}");
        assert_eq!(answer["kind"], "request", "{answer}");
    }
    assert!(decoded["done"]["text"].is_string(), "{decoded}");
}

/// The text of an answer.
fn text(answers: &[Value]) -> String {
    answers.iter().filter_map(|answer| answer["text"].as_str()).collect()
}

#[test]
fn a_text_ends_before_a_stop_string() {
    let bench = Bench::new();
    bench.ok(&with(&bench.small_run(), &["--steps", "3", "--out", "run", "--device", "cpu"]));
    let generate = |stop: Value| {
        let request = json!({"generate": {
            "prompt": "Once", "max_tokens": 24, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 1,
            "stop": stop,
        }});
        bench.pipe(&["run", "--device", "cpu"], &[request.to_string()])
    };
    let whole = text(&generate(json!([])));
    // From the middle of the text on, so that it begins nowhere before.
    let middle = whole.char_indices().nth(whole.chars().count() / 2).unwrap().0;
    let stop: String = whole[middle..].chars().take(3).collect();
    let answers = generate(json!(["not in the text", stop]));
    assert_eq!(text(&answers), whole[..whole.find(&stop).unwrap()]);
    assert_eq!(answers.last().unwrap()["done"]["finish_reason"], "stop_string");
}

#[test]
fn what_cannot_be_loaded_is_an_answer_too() {
    let bench = Bench::new();
    for (args, kind, says) in [
        (&["nowhere"][..], "request", "no file or directory `nowhere`"),
        (&["nowhere", "--device", "gpu"], "device", "no device is called `gpu`"),
        (&["nowhere", "--device", "emulator", "--chip", "m9"], "device", "m9"),
    ] {
        let answers = bench.pipe(args, &[]);
        assert_eq!((answers.len(), &answers[0]["kind"]), (1, &json!(kind)), "{answers:?}");
        assert!(answers[0]["error"].as_str().unwrap().contains(says), "{answers:?}");
    }
}
