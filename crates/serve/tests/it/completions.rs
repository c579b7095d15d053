//! `/v1/completions`.

use crate::model::{A, B, BOS, C};
use crate::{Setup, completion, model};
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";

fn texts(reply: &Value) -> Vec<&str> {
    let choices = reply["choices"].as_array().unwrap();
    choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect()
}

#[test]
fn prompts_come_in_four_forms() {
    let server = Setup::default().start();
    let text = |prompt: Value| {
        let reply = server.ok(PATH, &completion(prompt, json!({})));
        texts(&reply).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(text(json!("a")), ["bcd"]);
    assert_eq!(text(json!(["a", "b"])), ["bcd", "cd"]);
    assert_eq!(text(json!([BOS, A])), ["bcd"]);
    assert_eq!(text(json!([[A], [BOS, B], [A, B, C]])), ["bcd", "cd", "d"]);
}

#[test]
fn an_answer_is_complete() {
    let server = Setup::default().start();
    let reply = server.ok(PATH, &completion("xa", json!({ "max_tokens": 2, "n": 2 })));
    assert_eq!(reply["object"], "text_completion");
    assert!(reply["id"].as_str().unwrap().starts_with("cmpl-"));
    let choice =
        |i: usize| json!({ "index": i, "text": "bc", "logprobs": null, "finish_reason": "length" });
    assert_eq!(reply["choices"], json!([choice(0), choice(1)]));
    // BOS, a space, "x" and "a".
    assert_eq!(reply["usage"]["prompt_tokens"], 4);
    assert_eq!(reply["usage"]["total_tokens"], 8);
}

/// The choice of prompt p and number i is p·n + i.
#[test]
fn choices_are_in_the_order_of_prompts() {
    let server = Setup::default().start();
    let body = completion(json!(["a", "b"]), json!({ "n": 2 }));
    let reply = server.ok(PATH, &body);
    assert_eq!(texts(&reply), ["bcd", "bcd", "cd", "cd"]);
    let chunks = server.stream(PATH, &body).chunks();
    let mut streamed = vec![String::new(); 4];
    let mut reasons = [0; 4];
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        let index = choice["index"].as_u64().unwrap() as usize;
        streamed[index] += choice["text"].as_str().unwrap();
        reasons[index] += usize::from(choice["finish_reason"] == "stop");
    }
    assert_eq!(
        (streamed, reasons),
        (["bcd", "bcd", "cd", "cd"].map(str::to_owned).to_vec(), [1; 4])
    );
}

#[test]
fn echo_repeats_the_prompt() {
    let server = Setup::default().start();
    let body = completion("xa", json!({ "echo": true, "max_tokens": 1 }));
    assert_eq!(texts(&server.ok(PATH, &body)), ["xab"]);
    let chunks = server.stream(PATH, &body).chunks();
    let streamed: String = chunks.iter().flat_map(texts).collect();
    assert_eq!(streamed, "xab");
    // Nothing to compute, and still an answer.
    let body = completion("xa", json!({ "echo": true, "max_tokens": 0 }));
    let reply = server.ok(PATH, &body);
    assert_eq!((texts(&reply), &reply["usage"]["completion_tokens"]), (vec!["xa"], &json!(0)));
}

/// Log probabilities of a text do not depend on which part of it was the prompt.
#[test]
fn log_probabilities_with_echo_score_a_text() {
    let server = Setup::model(model::random()).start();
    let tokens = json!([BOS, A, B, C, A, B]);
    let more = json!({ "echo": true, "logprobs": 3, "max_tokens": 4 });
    let whole = server.ok(PATH, &completion(tokens, more.clone()));
    let of = |reply: &Value, name: &str| {
        reply["choices"][0]["logprobs"][name].as_array().unwrap().clone()
    };
    let names = of(&whole, "tokens");
    let logprobs = of(&whole, "token_logprobs");
    assert_eq!((names.len(), logprobs.len()), (10, 10));
    assert_eq!((&logprobs[0], &of(&whole, "top_logprobs")[0]), (&Value::Null, &Value::Null));
    assert!(logprobs[1..].iter().all(|lp| lp.as_f64().unwrap() < 0.0));
    assert_eq!(names[1..6], ["a", "b", "c", "a", "b"].map(Value::from));
    assert_eq!(of(&whole, "text_offset")[..7], [0, 0, 1, 2, 3, 4, 5].map(Value::from));
    for top in &of(&whole, "top_logprobs")[1..] {
        assert!((1..=3).contains(&top.as_object().unwrap().len()));
    }
    // A shorter prompt of the same text, none of it generated.
    let part = json!([BOS, A, B, C]);
    let part =
        server.ok(PATH, &completion(part, json!({ "echo": true, "logprobs": 0, "max_tokens": 0 })));
    assert_eq!(of(&part, "token_logprobs"), logprobs[..4]);
    // A stream says the same.
    let chunks = server.stream(PATH, &completion(json!([BOS, A, B, C, A, B]), more)).chunks();
    let all = |name: &str| -> Vec<Value> {
        let lists = chunks.iter().filter_map(|c| c["choices"][0]["logprobs"][name].as_array());
        lists.flatten().cloned().collect()
    };
    assert_eq!(all("token_logprobs"), logprobs);
    assert_eq!(all("text_offset"), of(&whole, "text_offset"));
    let streamed: String = chunks.iter().flat_map(texts).collect();
    assert_eq!(texts(&whole), [streamed]);
}

/// Bytes that are no characters are written out.
#[test]
fn tokens_of_single_bytes_have_names() {
    let server = Setup::default().start();
    let reply = server.ok(PATH, &completion("é", json!({ "max_tokens": 2, "logprobs": 1 })));
    let logprobs = &reply["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["bytes:\\xc3", "bytes:\\xa9"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1]));
    assert_eq!(texts(&reply), ["é"]);
}

#[test]
fn penalties_and_samplers_are_taken() {
    let server = Setup::default().start();
    let more = json!({
        "temperature": 1.5, "top_k": 1, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.1,
        "presence_penalty": -2, "frequency_penalty": 2, "best_of": 1, "suffix": "", "user": "me",
    });
    assert_eq!(texts(&server.ok(PATH, &completion("a", more))), ["bcd"]);
    for more in [json!({ "top_p": 0, "temperature": 2 }), json!({ "top_k": -1 })] {
        assert_eq!(texts(&server.ok(PATH, &completion("a", more))), ["bcd"]);
    }
    // A repetition penalty of 100 leaves "b" a logit of 1.5, against 0 of all others.
    let body = completion("ab", json!({ "repetition_penalty": 0.01, "max_tokens": 3 }));
    assert_eq!(server.post(PATH, &body).status, 200);
}
