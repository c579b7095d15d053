//! Tests of the crate from outside: other libraries' results, formats there and back, bad input.

mod bad_input;
mod cases;
mod foreign;
mod learned;
mod oracle;

use std::path::PathBuf;

use proptest::prelude::ProptestConfig;
use tokenizer::Tokenizer;

/// Settings of a test by random cases, which writes nothing into the source tree.
fn no_files(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// The bytes of a golden file.
fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All golden tokenizers that are meant to be read.
fn golden_names() -> Vec<String> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|n| (n.ends_with(".json") || n.ends_with(".model")) && n != "cases.json")
        .filter(|n| !n.starts_with("unsupported"))
        .collect();
    names.sort();
    assert!(names.len() >= 15, "{names:?}");
    names
}

fn open(bytes: &[u8]) -> Tokenizer {
    Tokenizer::from_bytes(bytes, "").unwrap()
}

/// A file of the real data, or `None` with a message where it is absent.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn real(name: &str) -> Option<Vec<u8>> {
    let dir = std::env::var_os("ANEGPT_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let bytes = std::fs::read(dir.join(name)).ok();
    if bytes.is_none() {
        eprintln!("skipped: no {name} in {}; set ANEGPT_TEST_DATA", dir.display());
    }
    bytes
}

/// llama2.c's layout: markers, bytes, then the given pieces, scored by their place.
fn llama2c_file(pieces: &[&str]) -> Vec<u8> {
    let bytes = (0..=255).map(|b: u8| format!("<0x{b:02X}>"));
    let markers = ["<unk>", "\n<s>\n", "\n</s>\n"].map(String::from);
    let mut out = 16_i32.to_le_bytes().to_vec();
    let mut push = |score: f32, name: &str| {
        out.extend(score.to_le_bytes());
        out.extend((name.len() as i32).to_le_bytes());
        out.extend(name.as_bytes());
    };
    markers.into_iter().chain(bytes).for_each(|name| push(0.0, &name));
    pieces.iter().enumerate().for_each(|(i, name)| push(-(i as f32), name));
    out
}

/// Pieces with overlapping ways to be made, spaces, and characters of several bytes.
const PIECES: &[&str] = &[
    " a", "aa", "an", "na", "ana", " an", "é", "éa", "==", "===", "====", "  ", " ", "a", "n", "=",
    "e", "b", "\n", "漢", " b", "ab", "aab",
];
