//! Many clients at once, clients that leave, and the end.

use crate::{Setup, chat, client, completion, model};
use serde_json::{Value, json};
use serve::Limits;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// Reads a stream until there is some text.
fn until_text(stream: &mut client::Stream) {
    while !stream.data().expect("the stream goes on").contains("\"a\"") {}
}

#[test]
fn a_client_that_leaves_frees_its_slot() {
    let server = Setup::model(model::endless()).slots(1, 2).start();
    for _ in 0..3 {
        let mut stream = server.stream(CHAT, &chat("hi", json!({})));
        until_text(&mut stream);
        assert_eq!(server.metric("anegpt_jobs_running"), 1.0);
        drop(stream);
        let reply = server.ok(CHAT, &chat("hi", json!({ "max_tokens": 3 })));
        assert_eq!(reply["choices"][0]["message"]["content"], "abc");
    }
    // So does one that waits for a whole answer, and one whose job still waits.
    let ask = || {
        let mut socket = client::connect(server.address);
        let body = chat("hi", json!({})).to_string();
        socket.write_all(&client::request("POST", CHAT, &[], Some(body.as_bytes()))).unwrap();
        socket
    };
    let running = ask();
    server.wait("anegpt_jobs_running", 1.0);
    let waiting = ask();
    server.wait("anegpt_jobs_waiting", 1.0);
    drop(waiting);
    server.wait("anegpt_jobs_waiting", 0.0);
    drop(running);
    server.wait("anegpt_jobs_running", 0.0);
}

/// Each text is the one that its request gets alone, whatever else happens.
#[test]
fn texts_do_not_depend_on_neighbours() {
    let server = Setup::model(model::random()).slots(3, 64).start();
    let body = |i: usize| {
        let prompt: String =
            (0..1 + 7 * i % 23).map(|k| ["a", "b", "c", "d", " "][(i * k) % 5]).collect();
        completion(
            prompt,
            json!({ "seed": i, "temperature": 1, "max_tokens": 5 + i, "logprobs": 2 }),
        )
    };
    let choice = |reply: &Value| reply["choices"][0].clone();
    let alone: Vec<Value> = (0..12).map(|i| choice(&server.ok(TEXT, &body(i)))).collect();
    std::thread::scope(|scope| {
        for i in 0..36 {
            let (server, alone) = (&server, &alone);
            scope.spawn(move || match i / 12 {
                0 => assert_eq!(choice(&server.ok(TEXT, &body(i % 12))), alone[i % 12]),
                1 => {
                    let chunks = server.stream(TEXT, &body(i % 12)).chunks();
                    let text =
                        |chunk: &Value| chunk["choices"][0]["text"].as_str().unwrap().to_owned();
                    let text: String = chunks.iter().map(text).collect();
                    assert_eq!(alone[i % 12]["text"], text);
                }
                _ => {
                    let mut stream = server.stream(TEXT, &body(i % 12));
                    stream.data();
                }
            });
        }
    });
    server.wait("anegpt_jobs_running", 0.0);
}

#[test]
fn a_connection_takes_several_requests() {
    let server = Setup::default().start();
    let mut connection = std::io::BufReader::new(client::connect(server.address));
    let body = completion("a", json!({})).to_string();
    let request = client::request("POST", TEXT, &[], Some(body.as_bytes()));
    for _ in 0..3 {
        connection.get_mut().write_all(&request).unwrap();
        let reply = client::read_one(&mut connection);
        assert_eq!(reply.json()["choices"][0]["text"], "bcd");
    }
}

/// What has begun is finished; nothing new is begun.
#[test]
fn a_server_that_is_stopped_finishes_its_answers() {
    let mut server = Setup::model(model::endless()).start();
    let mut stream = server.stream(CHAT, &chat("hi", json!({ "max_tokens": 3000 })));
    until_text(&mut stream);
    server.stop.request();
    while TcpStream::connect(server.address).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let chunks = stream.chunks();
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
    server.finish();
}

#[test]
fn a_server_that_is_stopped_waits_for_a_while_only() {
    let limits = Limits { drain_time: Duration::from_millis(200), ..Limits::default() };
    let mut server = Setup::model(model::endless()).limits(limits).start();
    let mut stream = server.stream(CHAT, &chat("hi", json!({})));
    until_text(&mut stream);
    server.finish();
    let mut last = String::new();
    while let Some(data) = stream.data() {
        last = data;
    }
    assert_ne!(last, "[DONE]");
}

/// The health check generates: an engine that gives no token is found out.
#[test]
fn an_engine_that_fails_is_not_healthy() {
    let server = Setup::default().start();
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
    assert_eq!(server.metric("anegpt_generated_tokens_total"), 1.0);
    let server = Setup::model(model::damaged()).start();
    let reply = server.get("/health");
    assert_eq!(reply.status, 503);
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("not finite"));
    // So are its answers, before and within a stream.
    let reply = server.post(CHAT, &chat("hi", json!({})));
    assert_eq!((reply.status, reply.header("x-should-retry")), (500, Some("false")));
    let mut stream = server.stream(CHAT, &chat("hi", json!({})));
    let mut last = String::new();
    while let Some(data) = stream.data() {
        last = data;
    }
    assert!(last.contains("\"error\"") && last.contains("not finite"), "{last}");
}
