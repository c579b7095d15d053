//! The program as people use it.

#![allow(clippy::print_stderr, reason = "skipped tests say so")]

#[cfg(all(unix, not(target_vendor = "apple")))]
mod apple;
mod bad_input;
mod bench;
mod chat;
mod check;
#[cfg(all(unix, not(target_vendor = "apple")))]
mod compiled;
mod core;
#[cfg(unix)]
mod dashboard;
mod data;
mod devices;
mod dial;
mod doctor;
mod eval;
mod export;
mod faults;
mod finetune;
mod foreign;
mod generate;
#[cfg(all(unix, not(target_vendor = "apple")))]
mod host;
mod hub;
mod instruct;
mod interrupted;
mod mil;
mod nanochat;
#[cfg(target_os = "linux")]
mod output;
mod parity;
mod pipe;
mod plan;
mod probe;
mod prompt;
mod readme;
mod report;
mod rl;
#[cfg(unix)]
mod serve;
mod sft;
mod tasks;
#[cfg(unix)]
mod terminal;
mod tokenizer;
mod train;
#[cfg(unix)]
mod tuned;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A command line in a directory of its own.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Bench { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, contents).expect("a file in our own directory");
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anegpt"));
        command.args(args).current_dir(self.dir.path());
        // Compiled programs are kept for this test alone.
        command.env("XDG_CACHE_HOME", self.path(".cache"));
        command.env("XDG_STATE_HOME", self.path(".state"));
        // No test asks for a real engine; stand-ins are given as libraries.
        command.env("ANEGPT_NO_ENGINE", "1");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    /// Runs and returns standard output; fails the test unless the exit code is 0.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs and returns the words of standard error; fails the test unless the exit code is `code`.
    fn error(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let error = words(&String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        error
    }

    /// A small text, a model smaller than `tiny`, and the arguments of a short run on them.
    fn small_run(&self) -> Vec<String> {
        let text = self.ok(&["data", "synth", "--count", "150"]);
        self.write("text.txt", text);
        self.write("small.toml", "[model]\nn_layer = 2\nn_head = 2\nn_embd = 32\nseq_len = 32\n[train]\nbatch = 4\nseq = 32\nlr = 3e-3\n");
        let args = "train --config small.toml --data text.txt --tokenizer bpe:300 --sample-every 0";
        args.split(' ').map(str::to_owned).collect()
    }
}

/// `small_run` with more arguments, as slices.
fn with<'a>(base: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    base.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// The files of a directory, by name.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect()
}

/// The events in lines of JSON.
fn events(text: &str) -> Vec<Value> {
    let event = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(event).collect()
}

/// The events of a kind.
fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// A text with one space between its words, wherever its lines end.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Real weights and texts, which are not part of the project; `None` (and a message) without them.
fn real_data(file: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let directory = std::env::var_os("ANEGPT_TEST_DATA").map_or(beside, PathBuf::from);
    let path = directory.join(file);
    if path.exists() {
        return path.canonicalize().ok();
    }
    eprintln!("skipped: {} is not here (set ANEGPT_TEST_DATA)", path.display());
    None
}
