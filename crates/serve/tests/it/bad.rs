//! Requests that make no sense: each gets an answer that says why, and the server goes on.

use crate::{Server, Setup, client, completion};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// A field that is wrong: the rest of the request, where it is sent, and the `param` that is named.
fn fields() -> Vec<(&'static str, Value, &'static str)> {
    let user = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    let with = |more: Value| crate::merged(user(json!("hi")), more);
    let text = |more: Value| crate::merged(json!({ "prompt": "a" }), more);
    vec![
        (CHAT, json!({}), "messages"),
        (CHAT, json!({ "messages": [] }), "messages"),
        (CHAT, json!({ "messages": "hi" }), "messages"),
        (CHAT, json!({ "messages": ["hi"] }), "messages[0]"),
        (CHAT, json!({ "messages": [{ "content": "hi" }] }), "messages[0].role"),
        (CHAT, json!({ "messages": [{ "role": 7, "content": "hi" }] }), "messages[0].role"),
        (CHAT, json!({ "messages": [{ "role": "bard", "content": "hi" }] }), "messages[0].role"),
        (CHAT, json!({ "messages": [{ "role": "tool", "content": "4" }] }), "messages[0].role"),
        (CHAT, json!({ "messages": [{ "role": "user" }] }), "messages[0].content"),
        (CHAT, user(json!(7)), "messages[0].content"),
        (CHAT, user(json!(["hi"])), "messages[0].content[0]"),
        (CHAT, user(json!([{ "type": "text" }])), "messages[0].content[0]"),
        (CHAT, user(json!([{ "type": "image_url", "image_url": {} }])), "messages[0].content[0]"),
        (
            CHAT,
            json!({ "messages": [{ "role": "assistant", "tool_calls": [{}] }] }),
            "messages[0].tool_calls",
        ),
        (CHAT, with(json!({ "temperature": "hot" })), "temperature"),
        (CHAT, with(json!({ "temperature": -0.1 })), "temperature"),
        (CHAT, with(json!({ "temperature": 2.1 })), "temperature"),
        (CHAT, with(json!({ "top_p": 1.5 })), "top_p"),
        (CHAT, with(json!({ "top_k": -2 })), "top_k"),
        (CHAT, with(json!({ "min_p": 2 })), "min_p"),
        (CHAT, with(json!({ "repetition_penalty": 0 })), "repetition_penalty"),
        (CHAT, with(json!({ "presence_penalty": 3 })), "presence_penalty"),
        (CHAT, with(json!({ "frequency_penalty": [] })), "frequency_penalty"),
        (CHAT, with(json!({ "n": 0 })), "n"),
        (CHAT, with(json!({ "n": 7 })), "n"),
        (CHAT, with(json!({ "n": 1000 })), "n"),
        (CHAT, with(json!({ "seed": 1.5 })), "seed"),
        (CHAT, with(json!({ "seed": "x" })), "seed"),
        (CHAT, with(json!({ "stop": 7 })), "stop"),
        (CHAT, with(json!({ "stop": "" })), "stop"),
        (CHAT, with(json!({ "stop": ["a", "b", "c", "d", "e"] })), "stop"),
        (CHAT, with(json!({ "stop": "x".repeat(257) })), "stop"),
        (CHAT, with(json!({ "max_tokens": 0 })), "max_tokens"),
        (CHAT, with(json!({ "max_completion_tokens": -5 })), "max_completion_tokens"),
        (CHAT, with(json!({ "stream": "yes" })), "stream"),
        (CHAT, with(json!({ "stream_options": [] })), "stream_options"),
        (CHAT, with(json!({ "logprobs": 3 })), "logprobs"),
        (CHAT, with(json!({ "top_logprobs": 3 })), "top_logprobs"),
        (CHAT, with(json!({ "logprobs": true, "top_logprobs": 21 })), "top_logprobs"),
        (CHAT, with(json!({ "logit_bias": { "a": 1 } })), "logit_bias"),
        (CHAT, with(json!({ "logit_bias": { "264": 1 } })), "logit_bias"),
        (CHAT, with(json!({ "logit_bias": { "1": 101 } })), "logit_bias"),
        (CHAT, with(json!({ "logit_bias": [1] })), "logit_bias"),
        (CHAT, with(json!({ "tools": [{ "type": "function" }] })), "tools"),
        (CHAT, with(json!({ "functions": [{ "name": "f" }] })), "functions"),
        (CHAT, with(json!({ "tool_choice": "required" })), "tool_choice"),
        (CHAT, with(json!({ "response_format": { "type": "json_object" } })), "response_format"),
        (CHAT, with(json!({ "response_format": { "type": "json_schema" } })), "response_format"),
        (CHAT, with(json!({ "modalities": ["text", "audio"] })), "modalities"),
        (CHAT, with(json!({ "audio": { "voice": "x" } })), "audio"),
        (CHAT, with(json!({ "grammar": "root ::= x" })), "grammar"),
        (CHAT, with(json!({ "model": 7 })), "model"),
        (CHAT, user(json!("x".repeat(600))), "messages"),
        (TEXT, json!({}), "prompt"),
        (TEXT, json!({ "prompt": [] }), "prompt"),
        (TEXT, json!({ "prompt": [[]] }), "prompt"),
        (TEXT, json!({ "prompt": {} }), "prompt"),
        (TEXT, json!({ "prompt": [1, "a"] }), "prompt"),
        (TEXT, json!({ "prompt": ["a", 1] }), "prompt"),
        (TEXT, json!({ "prompt": [264] }), "prompt"),
        (TEXT, json!({ "prompt": [-1] }), "prompt"),
        (TEXT, json!({ "prompt": vec![5; 513] }), "prompt"),
        (TEXT, json!({ "prompt": vec!["a"; 7] }), "n"),
        (TEXT, text(json!({ "best_of": 2 })), "best_of"),
        (TEXT, text(json!({ "suffix": "b" })), "suffix"),
        (TEXT, text(json!({ "echo": 1 })), "echo"),
        (TEXT, text(json!({ "logprobs": 21 })), "logprobs"),
        (TEXT, text(json!({ "max_tokens": "many" })), "max_tokens"),
        ("/tokenize", json!({}), "content"),
        ("/tokenize", json!({ "content": 7 }), "content"),
        ("/detokenize", json!({ "tokens": "a" }), "tokens"),
        ("/detokenize", json!({ "tokens": [264] }), "tokens"),
    ]
}

fn goes_on(server: &Server) {
    let reply = server.ok(TEXT, &completion("a", json!({})));
    assert_eq!(reply["choices"][0]["text"], "bcd");
}

#[test]
fn a_field_that_is_wrong_is_named() {
    let server = Setup::default().start();
    for (path, body, param) in fields() {
        let reply = server.post(path, &body);
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        let error = &reply.json()["error"];
        assert_eq!(error["param"], param, "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        let message = error["message"].as_str().unwrap();
        let name = param.rsplit(['.', ']']).find(|part| !part.is_empty()).unwrap_or(param);
        assert!(message.len() > 15, "{body}: {message}");
        assert!(
            message.contains(name) || message.contains("prompt") || param == "n",
            "{body}: {message}"
        );
        assert!(message.len() < 300, "{body}: {message}");
        // A stream that cannot begin is refused in the same way.
        if path.starts_with("/v1") && param != "stream" {
            let stream = server.stream(path, &body);
            assert_eq!(stream.status, 400, "{body}");
            assert_eq!(stream.header("content-type"), Some("application/json"));
        }
    }
    goes_on(&server);
}

#[test]
fn what_does_not_fit_says_how_long_it_may_be() {
    let server = Setup::default().start();
    let reply = server.post(TEXT, &json!({ "prompt": vec![5; 513] })).json();
    assert_eq!(reply["error"]["code"], "context_length_exceeded");
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("513") && message.contains("maximum context length is 512"),
        "{message}"
    );
    // The longest prompt leaves room for one token.
    let reply = server.ok(TEXT, &json!({ "prompt": vec![5; 512], "temperature": 0 }));
    assert_eq!(reply["usage"]["completion_tokens"], 1);
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
}

/// Bodies that are no JSON objects.
#[test]
fn bodies_that_are_no_objects_are_refused() {
    let server = Setup::default().start();
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 9] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\"text\"",
        b"{\"prompt\": \"\xff\"}",
        b"prompt=a",
        b"{\"prompt\": \"a\"} trailing",
        deep.as_bytes(),
    ];
    for path in [CHAT, TEXT, "/tokenize", "/detokenize"] {
        for body in bodies {
            let reply = client::exchange(server.address, "POST", path, &[], Some(body));
            assert_eq!(
                reply.status,
                400,
                "{:?}",
                String::from_utf8_lossy(&body[..body.len().min(40)])
            );
            let error = reply.json();
            let message = error["error"]["message"].as_str().unwrap();
            assert!(message.contains("not a JSON object"), "{message}");
        }
    }
    goes_on(&server);
}

#[test]
fn unknown_addresses_methods_and_models_are_refused() {
    let server = Setup::default().start();
    for (method, path, status) in [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/gpt-9", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", CHAT, 405),
        ("DELETE", CHAT, 405),
        ("PUT", "/health", 405),
        ("POST", "/", 405),
    ] {
        let reply = client::exchange(server.address, method, path, &[], None);
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        assert!(reply.json()["error"]["message"].is_string());
    }
    let reply = server.post(CHAT, &crate::chat("hi", json!({ "model": "gpt-9" })));
    assert_eq!(reply.status, 404);
    let error = &reply.json()["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
    assert!(error["message"].as_str().unwrap().contains("`letters`"));
    goes_on(&server);
}

/// Bytes that are not HTTP.
#[test]
fn noise_ends_its_connection_and_nothing_else() {
    use std::io::{Read, Write};
    let server = Setup::default().start();
    let zeros = [0; 100_000];
    let noises: [&[u8]; 7] = [
        b"\0\0\0\0",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        &zeros,
    ];
    for noise in noises {
        let mut socket = client::connect(server.address);
        let _ = socket.write_all(noise);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = vec![];
        let _ = socket.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{noise:?}: {text}");
    }
    goes_on(&server);
}
