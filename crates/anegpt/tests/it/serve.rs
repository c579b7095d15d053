//! `anegpt serve` as a process: its lines, its signals, its exit codes.

use crate::Bench;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models");

/// A server that is killed at the end of its test, if it still runs.
pub(crate) struct Serving {
    child: Child,
    lines: BufReader<ChildStdout>,
    address: String,
}

impl Serving {
    pub(crate) fn start(bench: &Bench, model: &str, more: &[&str]) -> Serving {
        let path = Path::new(MODELS).join(model);
        let args = [&["serve", path.to_str().unwrap(), "--port", "0"], more].concat();
        let mut command = bench.command(&args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the server ended");
            if let Some(address) = line.trim().strip_prefix("serving") {
                break address.trim().strip_prefix("http://").unwrap().to_owned();
            }
        };
        Serving { child, lines, address }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}",
            self.address
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// The exit code, and what was said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        let mut error = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (self.child.wait().unwrap().code(), error)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[test]
fn a_model_is_served_under_the_name_of_its_directory() {
    let bench = Bench::new();
    let serving = Serving::start(&bench, "llama", &["--slots", "2", "--context", "64"]);
    assert!(serving.ask("GET", "/health", "").ends_with("{\"status\":\"ok\"}"));
    assert!(serving.ask("GET", "/v1/models", "").contains("\"id\":\"llama\""));
    let body = "{\"prompt\": \"a\", \"max_tokens\": 3, \"temperature\": 0}";
    let [a, b] = [0, 1].map(|_| serving.ask("POST", "/v1/completions", body));
    assert!(a.starts_with("HTTP/1.1 200"), "{a}");
    let text = |answer: &str| answer.split("\"text\":").nth(1).unwrap().to_owned();
    assert_eq!(text(&a).split('}').next(), text(&b).split('}').next());
    serving.signal("-TERM");
    let (code, error) = serving.end();
    assert_eq!(code, Some(143));
    assert!(error.contains("finishing the answers"), "{error}");
}

#[test]
fn interrupts_end_a_server() {
    let bench = Bench::new();
    let serving = Serving::start(&bench, "qwen3", &["--weights", "int8", "--name", "org/q"]);
    assert!(serving.ask("GET", "/v1/models/org/q", "").contains("\"id\":\"org/q\""));
    serving.signal("-INT");
    assert_eq!(serving.end().0, Some(130));
}

#[test]
fn servers_that_cannot_be_are_refused() {
    let bench = Bench::new();
    let model = Path::new(MODELS).join("llama");
    let model = model.to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (args, code, says) in [
        (&["serve"][..], 2, "no model given"),
        (&["serve", "/nope"], 1, "no file or directory `/nope`"),
        (&["serve", model, "--host", "0.0.0.0", "--port", "0"], 2, "--api-key"),
        (&["serve", model, "--port", "0", "--api-key", "two words"], 2, "visible ASCII"),
        (&["serve", model, "--port", &port], 1, "cannot listen on 127.0.0.1"),
        (&["serve", model, "--slots", "0"], 2, "1..=256"),
        (&["serve", model, "--weights", "int4"], 2, "int8"),
        (&["serve", model, "--slots", "257"], 2, "1..=256"),
    ] {
        let output = bench.run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(crate::words(&error).contains(says), "{args:?}: {error}");
    }
}
