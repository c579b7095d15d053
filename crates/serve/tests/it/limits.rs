//! Bounds, each of which answers when it is exceeded.

use crate::{Setup, chat, client, completion, model};
use serde_json::json;
use serve::Limits;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

#[test]
fn bodies_and_conversations_have_a_largest_size() {
    let limits = Limits { body_bytes: 2000, messages: 3, ..Limits::default() };
    let server = Setup::default().limits(limits).start();
    let body = completion("a".repeat(3000), json!({})).to_string();
    let reply = client::exchange(server.address, "POST", TEXT, &[], Some(body.as_bytes()));
    assert_eq!(reply.status, 413);
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("2000 bytes"));
    // The same without a length ahead.
    let mut socket = client::connect(server.address);
    let head = ["transfer-encoding: chunked", "connection: close"];
    socket.write_all(&client::request("POST", TEXT, &head, None)).unwrap();
    let _ = socket.write_all(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
    assert_eq!(client::read(socket).status, 413);
    let messages = vec![json!({ "role": "user", "content": "hi" }); 4];
    let reply = server.post(CHAT, &json!({ "messages": messages }));
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("messages")));
}

#[test]
fn headers_have_a_largest_size() {
    let server = Setup::default().start();
    let long = format!("x-long: {}", "x".repeat(40_000));
    let reply = client::exchange(server.address, "GET", "/health", &[&long], None);
    assert_eq!(reply.status, 431);
    let many: Vec<String> = (0..200).map(|i| format!("x-{i}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(client::exchange(server.address, "GET", "/health", &many, None).status, 431);
    assert_eq!(server.get("/health").status, 200);
}

/// A client that sends its request byte by byte holds its connection for a moment only.
#[test]
fn slow_requests_are_given_up() {
    let moment = Duration::from_millis(200);
    let limits = Limits { header_time: moment, body_time: moment, ..Limits::default() };
    let server = Setup::default().limits(limits).start();
    let mut socket = client::connect(server.address);
    socket.write_all(b"GET /health HTTP/1.1\r\nx-slow: ").unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");

    let mut socket = client::connect(server.address);
    let head = ["content-length: 100", "connection: close"];
    socket.write_all(&client::request("POST", TEXT, &head, None)).unwrap();
    socket.write_all(b"{").unwrap();
    let reply = client::read(socket);
    assert_eq!(reply.status, 408, "{}", reply.text());

    // A connection that asks for nothing is closed too.
    let mut idle = client::connect(server.address);
    assert_eq!(idle.read_to_string(&mut answer).unwrap_or(0), 0);
}

#[test]
fn a_request_has_a_longest_time() {
    let limits = Limits { request_time: Duration::from_millis(300), ..Limits::default() };
    let server = Setup::model(model::endless()).limits(limits).start();
    let reply = server.post(CHAT, &chat("hi", json!({})));
    assert_eq!(reply.status, 408, "{}", reply.text());
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    // A stream has begun by then: its last event is the error.
    let mut stream = server.stream(CHAT, &chat("hi", json!({})));
    let mut last = String::new();
    while let Some(data) = stream.data() {
        last = data;
    }
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert!(last["error"]["message"].as_str().unwrap().contains("longer than 0.3 s"), "{last}");
    server.wait("anegpt_jobs_running", 0.0);
}

#[test]
fn the_queue_has_a_longest_length() {
    let server = Setup::model(model::endless()).slots(1, 1).start();
    let mut running = server.stream(CHAT, &chat("hi", json!({})));
    while running.data().is_some_and(|data| !data.contains("\"a\"")) {}
    let waiting = server.stream(CHAT, &chat("hi", json!({ "max_tokens": 3 })));
    server.wait("anegpt_jobs_waiting", 1.0);
    let reply = server.post(CHAT, &chat("hi", json!({})));
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=120).contains(&after));
    // With a full queue, tokens of others show that the engine computes.
    assert_eq!(server.get("/health").status, 200);
    drop(running);
    assert_eq!(waiting.chunks().len(), 5);
}

#[test]
fn connections_have_a_largest_number() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let server = Setup::model(model::endless()).limits(limits).start();
    let streams = [0, 1].map(|_| server.stream(CHAT, &chat("hi", json!({}))));
    let reply = server.get("/health");
    assert_eq!(reply.status, 503);
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("too many connections"));
    drop(streams);
    let start = Instant::now();
    while server.get("/health").status != 200 {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}

/// A client that takes nothing loses its connection; its text was computed meanwhile and held no slot.
#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let stall_time = Duration::from_millis(300);
    let limits = Limits { stall_time, pieces: 1000, ..Limits::default() };
    let server = Setup::model(model::endless()).slots(1, 1).limits(limits).start();
    // Chunks so large that few fill what the system holds of a connection.
    let more = json!({ "max_tokens": 150_000, "logprobs": true, "top_logprobs": 20 });
    let stalled = server.stream(CHAT, &chat("hi", more));
    // The slot comes free long before the text would be complete: the channel is bounded.
    let reply = server.ok(CHAT, &chat("hi", json!({ "max_tokens": 2 })));
    assert_eq!(reply["choices"][0]["message"]["content"], "ab");
    server.wait("anegpt_jobs_running", 0.0);
    assert!(server.metric("anegpt_generated_tokens_total") < 100_000.0);
    server.wait("anegpt_answers_cut_off_total", 1.0);
    drop(stalled);
}
