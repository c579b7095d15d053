//! `hf://organisation/name`, from a server on this machine that answers as the hub does.

use crate::Bench;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one repository, whose files are those of a directory.
struct Hub {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// `change` may make another answer of the status line, the body and what is asked for.
    fn start(
        directory: &Path,
        change: impl Fn(usize, &str, &mut Vec<u8>) -> Option<&'static str> + Send + 'static,
    ) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(vec![]));
        let (log, directory) = (Arc::clone(&seen), directory.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (path, from) = request(&stream);
                let number = log.lock().unwrap().len();
                log.lock().unwrap().push(path.clone());
                let (status, mut body) = answer(&directory, &path);
                let length = body.len();
                let status = change(number, &path, &mut body).unwrap_or(status);
                let body = &body[from.min(body.len())..];
                let (status, range) = match from {
                    0 => (status.to_owned(), String::new()),
                    _ => (
                        "206 Partial Content".to_owned(),
                        format!("Content-Range: bytes {from}-{}/{length}\r\n", length - 1),
                    ),
                };
                let length = length - from;
                let head = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\n{range}ETag: \"e\"\r\nContent-Length: {length}\r\n\r\n"
                );
                // The client may hang up.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            }
        });
        Hub { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// The path that is asked for, and from which byte.
fn request(stream: &TcpStream) -> (String, usize) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
    let mut from = 0;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    (path, from)
}

fn answer(directory: &Path, path: &str) -> (&'static str, Vec<u8>) {
    let listing = [
        "/api/models/org/small/revision/main?blobs=true",
        "/api/models/org/small/revision/v1?blobs=true",
    ];
    if listing.contains(&path) {
        let files = std::fs::read_dir(directory).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let size = entry.metadata().unwrap().len();
            json!({"rfilename": entry.file_name().to_str().unwrap(), "size": size})
        });
        let siblings: Vec<_> = files.collect();
        return ("200 OK", json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes());
    }
    let name = path.strip_prefix(&format!("/org/small/resolve/{COMMIT}/"));
    match name.and_then(|name| std::fs::read(directory.join(name)).ok()) {
        Some(bytes) => ("200 OK", bytes),
        None => ("404 Not Found", b"Repository not found".to_vec()),
    }
}

fn generate(bench: &Bench, hub: &str, model: &str) -> Output {
    let args = ["generate", model, "To be", "-n", "5", "--temperature", "0", "--device", "cpu"];
    bench.command(&args).env("HF_ENDPOINT", hub).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory with the small Llama of these tests, in several files of weights.
fn repository(bench: &Bench) -> std::path::PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/llama");
    let args =
        ["export", from.to_str().unwrap(), "--to", "hf", "--shard-bytes", "20000", "--out", "repo"];
    bench.ok(&args);
    bench.path("repo")
}

fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no curl on this machine");
    }
    found
}

#[test]
fn a_model_is_fetched_once_and_used_without_a_network() {
    if !has_curl() {
        return;
    }
    let bench = Bench::new();
    let repo = repository(&bench);
    let expected = bench.ok(&[
        "generate",
        "repo",
        "To be",
        "-n",
        "5",
        "--temperature",
        "0",
        "--device",
        "cpu",
    ]);
    // The first file of weights breaks off half-way, once.
    let hub = Hub::start(&repo, |number, path, body| {
        if number < 9 && path.contains("model-00001") {
            body.truncate(body.len() / 2);
        }
        None
    });
    let output = generate(&bench, &hub.address, "hf://org/small");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", error(&output));
    let seen = hub.seen();
    let first = seen.iter().filter(|path| path.contains("model-00001")).count();
    assert!(first >= 2, "the transfer is continued: {seen:?}");
    assert!(seen[1].ends_with("/config.json"), "the shape comes before the weights: {seen:?}");
    // What is there is not fetched again; only the revision is asked for.
    let output = generate(&bench, &hub.address, "hf://org/small@main");
    assert_eq!(
        (String::from_utf8_lossy(&output.stdout).as_ref(), hub.seen().len()),
        (&expected[..], 1)
    );
    let output = generate(&bench, &hub.address, "hf://org/small@v1");
    assert!(output.status.success());
    // Port 1 is not served.
    let output = generate(&bench, "http://127.0.0.1:1", "hf://org/small");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert!(error(&output).contains("which was fetched before, is used"), "{}", error(&output));
    let cached = bench.path(".cache/anegpt/models/org/small").join(COMMIT);
    assert!(cached.join("complete").exists() && cached.join("tokenizer.json").exists());
    bench
        .command(&["import", "hf://org/small", "--out", "own"])
        .env("HF_ENDPOINT", &hub.address)
        .output()
        .unwrap();
    assert!(bench.path("own/model.safetensors").exists());
}

#[test]
fn what_cannot_be_fetched_is_told() {
    if !has_curl() {
        return;
    }
    let bench = Bench::new();
    let output = generate(&bench, "http://127.0.0.1:1", "hf://org/small");
    let said = error(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the server cannot be reached") && said.contains("check the network"),
        "{said}"
    );
    for bad in ["hf://", "hf://a/b/c", "hf://../x", "hf://a/b@"] {
        let said = error(&generate(&bench, "http://127.0.0.1:1", bad));
        assert!(said.contains("must be the name of"), "{bad}: {said}");
    }
    let repo = repository(&bench);
    let fails =
        |says: &[&str],
         change: &'static (dyn Fn(&str, &mut Vec<u8>) -> Option<&'static str> + Sync)| {
            let hub = Hub::start(&repo, move |_, path, body| change(path, body));
            let output = generate(&bench, &hub.address, "hf://org/small");
            let said = error(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(!said.contains("panicked"), "{said}");
            says.iter().for_each(|words| assert!(said.contains(words), "expected {words}: {said}"));
            hub.seen()
        };
    fails(&["401 (access denied)"], &|_, _| Some("401 Unauthorized"));
    fails(&["404 (not found)"], &|_, _| Some("404 Not Found"));
    fails(&["not a description of a model"], &|path, body| {
        if path.starts_with("/api") {
            let page = b"<!DOCTYPE html><html>log in</html>";
            body.resize(body.len().max(page.len()), b' ');
            body[..page.len()].copy_from_slice(page);
        }
        None
    });
    fails(&["names no commit"], &|path, body| {
        if path.starts_with("/api") {
            body.fill(b' ');
            body[..2].copy_from_slice(b"{}");
        }
        None
    });
    // A model that is not computed is refused before its weights are fetched.
    std::fs::write(repo.join("config.json"), "{\"model_type\": \"mamba\"}").unwrap();
    let seen = fails(&["`model_type` is `mamba`"], &|_, _| None);
    assert!(!seen.iter().any(|path| path.contains("safetensors")), "{seen:?}");
    std::fs::rename(repo.join("config.json"), repo.join("small.gguf")).unwrap();
    fails(&["has no config.json", "hf://org/small/small.gguf"], &|_, _| None);
}

/// A hub with one data set of two files, which asks for a token.
fn gated(file: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let urls: Vec<String> = (0..2).map(|n| format!("{address}/{n}.parquet")).collect();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            let mut head = lines.take_while(|line| !line.is_empty());
            let known =
                head.any(|line| line.eq_ignore_ascii_case("authorization: bearer hf_secret"));
            let (status, body) = match first.split(' ').nth(1) {
                _ if !known => ("401 Unauthorized", b"{}".to_vec()),
                Some("/api/datasets/org/set/parquet") => {
                    let all = json!({"main": {"train": urls, "test": []}});
                    ("200 OK", all.to_string().into_bytes())
                }
                _ => ("200 OK", file.clone()),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            );
            // The client may hang up.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    address
}

#[test]
fn a_data_set_is_fetched_with_a_token() {
    if !has_curl() {
        return;
    }
    let bench = Bench::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/parquet");
    let file = std::fs::read(fixtures.join("zstd_v2.parquet")).unwrap();
    let hub = gated(file.clone());
    let download = |token: &str| {
        let args = ["data", "download", "hf://datasets/org/set"];
        let home = bench.path("home");
        let command = &mut bench.command(&args);
        command.env("HF_ENDPOINT", &hub).env("HF_TOKEN", token).env("HF_HOME", home);
        command.env_remove("HUGGING_FACE_HUB_TOKEN").output().unwrap()
    };
    let refused = error(&download(""));
    assert!(refused.contains("401") && refused.contains("set HF_TOKEN to a token"), "{refused}");
    let output = download("hf_secret");
    assert!(output.status.success(), "{}", error(&output));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let out = "data/org--set/main/train";
    for words in [&format!("{out}/00001.parquet: "), "anegpt train --data data/org--set/main/train"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!(std::fs::read(bench.path(&format!("{out}/00000.parquet"))).unwrap(), file);
    let inspected = bench.ok(&["data", "inspect", out]);
    assert!(inspected.contains("120 rows in 6 row groups"), "{inspected}");
}
