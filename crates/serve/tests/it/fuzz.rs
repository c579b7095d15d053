//! Mutated requests. Each is answered or its connection closed, none is an internal error, and the server goes
//! on. Takes seconds; `ANEGPT_FUZZ_SECONDS=3600` makes it take that long.

use crate::fuzzing::{Random, for_a_while};
use crate::{Setup, chat, completion};
use serde_json::{Value, json};
use serve::Limits;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Bodies with every field, and the paths that take them.
fn requests() -> Vec<(&'static str, Value)> {
    let sampling = json!({
        "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 3, "n": 2, "stop": ["zz", "."], "stream": true,
        "stream_options": { "include_usage": true }, "logit_bias": { "3": -5 }, "frequency_penalty": 0.1,
        "presence_penalty": 0.1, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.1, "user": "me"
    });
    let log = json!({ "logprobs": true, "top_logprobs": 2, "max_tokens": 3 });
    let parts = json!([{ "role": "system", "content": "b" },
                       { "role": "user", "content": [{ "type": "text", "text": "a" }] },
                       { "role": "assistant", "content": "b" }, { "role": "user", "content": "c" }]);
    vec![
        ("/v1/chat/completions", chat("ab", sampling.clone())),
        ("/v1/chat/completions", chat("ab", log)),
        ("/v1/chat/completions", json!({ "messages": parts, "max_completion_tokens": 3 })),
        ("/v1/completions", completion(json!(["ab", "c"]), sampling)),
        (
            "/v1/completions",
            completion(json!([1, 2]), json!({ "echo": true, "logprobs": 2, "max_tokens": 2 })),
        ),
        ("/tokenize", json!({ "content": "abc", "add_special": true })),
        ("/detokenize", json!({ "tokens": [1, 2, 3] })),
    ]
}

/// Replaces one value, at any depth, by another.
fn replace(value: &mut Value, random: &mut Random) {
    let inner = match value {
        Value::Object(fields) if !fields.is_empty() && random.below(4) > 0 => {
            let at = random.below(fields.len());
            fields.values_mut().nth(at)
        }
        Value::Array(items) if !items.is_empty() && random.below(3) > 0 => {
            let at = random.below(items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) => replace(inner, random),
        None => *value = odd(random),
    }
}

fn odd(random: &mut Random) -> Value {
    let deep = (0..random.below(200)).fold(json!(1), |inner, _| json!([inner]));
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e308),
        json!(-0.0),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(2.5),
        json!(""),
        json!("\u{0}\u{1f600}\u{feff}"),
        json!("a".repeat(random.below(5000))),
        json!([]),
        json!({}),
        json!([null, "a", 1, {}]),
        json!({ "role": "tool", "content": null }),
        json!(["", ""]),
        json!({ "99999999999": 1e9 }),
        json!({ "1": "x" }),
        deep,
    ];
    random.of(&values)
}

/// Changes bytes of a whole request.
fn garble(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.of(b"\0\r\n :\"{}[]9\xff"),
            2 => bytes.truncate(at),
            3 => {
                let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => drop(bytes.drain(at..(at + random.below(20)).min(bytes.len()))),
        }
    }
}

fn mutated(random: &mut Random) -> Vec<u8> {
    let (path, mut body) = random.of(&requests());
    let method = random.of(&["POST", "POST", "POST", "POST", "GET", "PUT", "OPTIONS", "HEAD"]);
    let path = if random.below(20) == 0 { "/health?x=%ff" } else { path };
    for _ in 0..random.below(4) {
        replace(&mut body, random);
    }
    let body = body.to_string();
    let head = "host: x\r\nconnection: close\r\ncontent-type: application/json";
    let mut bytes = match random.below(6) {
        0 => format!("{method} {path} HTTP/1.1\r\n{head}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        _ => format!("{method} {path} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
    }
    .into_bytes();
    if random.below(2) == 0 {
        garble(&mut bytes, random);
    }
    bytes
}

/// What a server answers until it closes the connection.
fn answer(address: SocketAddr, request: &[u8], leave: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The server may close the connection before it has everything.
    let _ = stream.write_all(request);
    if leave {
        return vec![];
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = vec![];
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "{error}: {}",
            shown(request)
        );
    }
    answer
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn mutated_requests_are_answered_or_refused() {
    let limits = Limits { request_time: Duration::from_secs(20), ..Limits::default() };
    let server = Setup::default().slots(2, 16).limits(limits).start();
    let probe = completion("ab", json!({ "max_tokens": 6 }));
    let expected = server.ok("/v1/completions", &probe)["choices"].clone();
    let mut random = Random::of_run();
    let (mut sent, mut answered) = (0_u64, 0_u64);
    for_a_while(|| {
        for _ in 0..100 {
            let request = mutated(&mut random);
            let answer = answer(server.address, &request, random.below(20) == 0);
            sent += 1;
            if answer.is_empty() {
                continue;
            }
            answered += 1;
            let text = shown(&answer);
            let status = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "));
            let status = status.and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
            let fine = status.is_some_and(|status| (200..500).contains(&status) || status == 503);
            assert!(fine, "{}\nis answered by\n{text}", shown(&request));
        }
        assert_eq!(server.ok("/v1/completions", &probe)["choices"], expected);
    });
    assert!(answered * 2 > sent && sent > 99, "{answered} of {sent} requests were answered");
    server.wait("anegpt_jobs_running", 0.0);
}
