//! Text to tokens and back on one thread: `cargo bench -p tokenizer --bench encode`.
//!
//! MB/s, median and best of rounds in which all cases alternate: on generated text with a vocabulary
//! learned from it, and on real texts and vocabularies where they are (`../shared/data` beside the
//! repository, or the directory named by ANEGPT_TEST_DATA).
#![allow(clippy::print_stdout, reason = "a benchmark tells its results")]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;
use tokenizer::Tokenizer;

const ROUNDS: usize = 9;
/// Bytes of each text: shorter ones are repeated.
const BYTES: usize = 1_000_000;
/// Bytes that vocabularies are learned from.
const LEARN: usize = 300_000;

struct Case {
    name: String,
    tokenizer: Tokenizer,
    text: String,
    ids: Vec<u32>,
    encode: Vec<f64>,
    decode: Vec<f64>,
}

impl Case {
    fn new(name: impl Into<String>, tokenizer: Tokenizer, text: &str) -> Self {
        let text = text.repeat(BYTES.div_ceil(text.len()));
        let ids = tokenizer.encode(&text).expect("the vocabulary covers the text");
        Case { name: name.into(), tokenizer, text, ids, encode: vec![], decode: vec![] }
    }

    fn round(&mut self) {
        let start = Instant::now();
        let ids = black_box(self.tokenizer.encode(&self.text).expect("it did before"));
        self.encode.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        black_box(self.tokenizer.decode(&ids));
        self.decode.push(start.elapsed().as_secs_f64());
    }

    fn report(self) {
        let megabytes = self.text.len() as f64 / 1e6;
        let ((encode, fastest), (decode, _)) = (summary(self.encode), summary(self.decode));
        println!(
            "{:<34} {:>6} tokens known, {:.2} bytes each: encode {:>6.1} ({:>6.1}), decode {:>6.1}",
            self.name,
            self.tokenizer.vocab_size(),
            self.text.len() as f64 / self.ids.len() as f64,
            megabytes / encode,
            megabytes / fastest,
            megabytes / decode
        );
    }
}

/// Median and least.
fn summary(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[samples.len() / 2], samples[0])
}

/// Sentences of words whose frequencies fall as in natural text (Zipf), made of syllables.
fn generated(bytes: usize) -> String {
    const SYLLABLES: [&str; 16] = [
        "ba", "con", "der", "est", "fi", "gra", "hol", "in", "ka", "lo", "mer", "no", "pe", "qua",
        "tion", "é",
    ];
    let mut state = 1u64;
    let mut next = |below: f64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 31) as f64 * below
    };
    let mut text = String::with_capacity(bytes + 64);
    while text.len() < bytes {
        let words = 4 + next(12.0) as usize;
        for word in 0..words {
            // 1 to 20000 with probabilities that fall as 1/rank.
            let rank = 20_000f64.powf(next(1.0)) as usize;
            let mut left = rank;
            loop {
                text.push_str(SYLLABLES[left % 16]);
                left /= 16;
                if left == 0 {
                    break;
                }
            }
            text.push_str(if word + 1 == words { ".\n" } else { " " });
        }
    }
    text
}

/// The first bytes of a text, in whole characters.
fn beginning(text: &str, bytes: usize) -> &str {
    let whole = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..whole.unwrap_or(0)]
}

fn learned(text: &str, vocab_size: usize) -> Tokenizer {
    Tokenizer::train_bpe([beginning(text, LEARN)], vocab_size, &mut |_| {}).expect("there is text")
}

/// Real texts and vocabularies, as far as they are here.
fn real_cases() -> Vec<Case> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let directory = std::env::var_os("ANEGPT_TEST_DATA").map_or(beside, PathBuf::from);
    let text = |file: &str| std::fs::read_to_string(directory.join(file)).ok();
    let mut cases = vec![];
    match text("shakespeare.txt") {
        Some(plays) => {
            cases.push(Case::new("Shakespeare, learned from it", learned(&plays, 2048), &plays));
            let characters = Tokenizer::train_char([&plays]).expect("there is text");
            cases.push(Case::new("Shakespeare, characters", characters, &plays));
        }
        None => println!("skipped: no texts in {}", directory.display()),
    }
    for file in ["tok512.bin", "tokenizer.bin", "tokenizer.model"] {
        let tokenizer = Tokenizer::load(directory.join(file)).ok();
        if let (Some(tokenizer), Some(stories)) = (tokenizer, text("tinystories-sample.txt")) {
            cases.push(Case::new(format!("TinyStories, {file}"), tokenizer, &stories));
        }
    }
    cases
}

fn main() {
    println!("MB/s on one thread, medians of {ROUNDS} alternating rounds (best in parentheses)");
    let text = generated(BYTES);
    let mut cases: Vec<Case> = [512, 4096]
        .map(|size| Case::new("generated, learned from it", learned(&text, size), &text))
        .into();
    cases.extend(real_cases());
    for _ in 0..ROUNDS {
        cases.iter_mut().for_each(Case::round);
    }
    cases.into_iter().for_each(Case::report);
}
