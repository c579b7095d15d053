//! The engine's speed: `cargo bench -p infer --bench engine [-- FILTER…]`.
//!
//! For the shapes of stories15m and stories110m with each format of weights, and with f32 weights and an int8 copy that
//! drafts: reading a prompt, one text,
//! eight texts, and the time to the first token of a prompt that is in the cache but for its end. Beside
//! them stand what memory and multiply-adds allow, measured on the same machine between the rounds: a
//! text reads all weights for each token, a prompt multiplies each weight with each token. Best of rounds.
//! FILTER: words that a line must have, such as `110m int8`.
#![allow(clippy::print_stdout, reason = "a benchmark tells its results")]

use cpu::peak::{Streams, multiply_adds};
use cpu::simd::Level;
use gpt::{GptConfig, Parameters, initialise};
use infer::{Draft, Engine, EngineOptions, Event, Job, Sampling, WeightFormat};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokenizer::Tokenizer;

const ROUNDS: usize = 5;
const PROMPT: usize = 200;
const TOKENS: usize = 48;
const STREAMS: usize = 8;
const SPAN: Duration = Duration::from_millis(15);

/// What the machine can do at most, best of all rounds.
struct Machine {
    streams: Streams,
    threads: usize,
    bytes: f64,
    flops: f64,
}

impl Machine {
    fn new() -> Self {
        let threads = rayon::current_num_threads();
        Machine { streams: Streams::new(1 << 25, threads), threads, bytes: 0.0, flops: 0.0 }
    }

    fn measure(&mut self) {
        self.bytes = self.bytes.max(self.streams.read(self.threads, SPAN));
        self.flops = self.flops.max(multiply_adds(Level::best(), self.threads, SPAN));
    }
}

/// Seconds, best of all rounds.
struct Found {
    prompt: f64,
    one: f64,
    many: f64,
    cached: f64,
    /// The share of drafted tokens that were right.
    accepted: f64,
}

fn job(prompt: &[u32], max_tokens: usize) -> Job {
    Job { prompt: prompt.to_vec(), max_tokens, sampling: Sampling::GREEDY, ..Job::default() }
}

/// Seconds until the first token of `jobs` and from there to the end.
fn run(engine: &mut Engine, jobs: Vec<Job>) -> (f64, f64) {
    let start = Instant::now();
    for job in jobs {
        engine.submit(job).expect("a job");
    }
    let mut first = None;
    while engine.active() > 0 {
        let events = engine.step().expect("a step");
        if events.iter().any(|(_, event)| matches!(event, Event::Token { .. })) {
            first.get_or_insert(start.elapsed().as_secs_f64());
        }
    }
    let first = first.expect("a token");
    (first, start.elapsed().as_secs_f64() - first)
}

fn measure(engine: &mut Engine, machine: &mut Machine, vocab: usize) -> Found {
    let mut found = Found {
        prompt: f64::INFINITY,
        one: f64::INFINITY,
        many: f64::INFINITY,
        cached: f64::INFINITY,
        accepted: 0.0,
    };
    let text = |seed: usize, count: usize| -> Vec<u32> {
        (0..count).map(|i| ((i * i * 31 + seed * 977 + i * seed) % vocab) as u32).collect()
    };
    for round in 0..=ROUNDS {
        machine.measure();
        // Every round's prompts are new.
        let seed = 100 * round;
        let prompt = text(seed, PROMPT);
        let (first, _) = run(engine, vec![job(&prompt, 1)]);
        let longer = [&prompt[..], &text(seed + 1, 4)].concat();
        let (cached, _) = run(engine, vec![job(&longer, 1)]);
        let (_, one) = run(engine, vec![job(&text(seed + 2, 2), TOKENS)]);
        let jobs = (0..STREAMS).map(|i| job(&text(seed + 3 + i, 2), TOKENS)).collect();
        let (_, many) = run(engine, jobs);
        if round > 0 {
            found.prompt = found.prompt.min(first);
            found.cached = found.cached.min(cached);
            found.one = found.one.min(one);
            found.many = found.many.min(many);
        }
    }
    let stats = engine.stats();
    found.accepted = stats.accepted_tokens as f64 / stats.drafted_tokens as f64;
    found
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut machine = Machine::new();
    let tokenizer = Arc::new(Tokenizer::train_char(["abc"]).expect("a tokenizer"));
    println!(
        "{:<21} {:>9} {:>5} {:>9} {:>6} {:>5} {:>9} {:>5} {:>8} {:>6}",
        "model, weights",
        "prompt/s",
        "peak",
        "one/s",
        "GB/s",
        "mem",
        "eight/s",
        "gain",
        "first ms",
        "cached"
    );
    for name in ["stories15m", "stories110m"] {
        let mut config = GptConfig::preset(name).expect("a preset");
        config.seq_len = 256;
        let parameters = Parameters::new(&config, initialise(&config, 1));
        let formats = WeightFormat::ALL.map(|weights| (weights, Draft::Off));
        for (weights, draft) in formats.into_iter().chain([(WeightFormat::F32, Draft::On)]) {
            let drafted = if draft == Draft::On { " draft" } else { "" };
            let label = format!("{name} {}{drafted}", weights.name());
            if !words.iter().all(|word| label.contains(word.as_str())) {
                continue;
            }
            let options =
                EngineOptions { slots: STREAMS, weights, draft, ..EngineOptions::default() };
            let mut engine =
                Engine::new(&parameters, Arc::clone(&tokenizer), options).expect("an engine");
            // Of drafts, the weights that they replace.
            let bytes = match draft {
                Draft::Off => engine.bytes() - STREAMS * cache_bytes(&config),
                _ => size_of::<f32>() * parameters.layout().count(),
            } as f64;
            let found = measure(&mut engine, &mut machine, config.vocab_size);
            // Every weight but the embedding's is multiplied once for each token, the classifier's once.
            let width = config.n_embd * config.vocab_size;
            let layers = parameters.layout().count() - width;
            let flops = 2.0 * (layers * PROMPT + width) as f64;
            let one = (TOKENS - 1) as f64 / found.one;
            let many = (STREAMS * (TOKENS - 1)) as f64 / found.many;
            println!(
                "{label:<21} {:>9.0} {:>4.0}% {one:>9.1} {:>6.1} {:>4.0}% {many:>9.1} {:>4.1}x {:>8.1} {:>5.1}x{}",
                PROMPT as f64 / found.prompt,
                100.0 * flops / found.prompt / machine.flops,
                one * bytes / 1e9,
                100.0 * one * bytes / machine.bytes,
                many / one,
                1e3 * found.prompt,
                found.prompt / found.cached,
                if engine.drafts() {
                    format!("  {:.0}% of drafts accepted", 100.0 * found.accepted)
                } else {
                    String::new()
                },
            );
        }
    }
    println!(
        "{} threads: {:.1} GB/s read, {:.0} GFLOP/s multiplied",
        machine.threads,
        machine.bytes / 1e9,
        machine.flops / 1e9
    );
}

fn cache_bytes(config: &GptConfig) -> usize {
    gpt::SlotDecoder::bytes_of_slot(config, usize::MAX)
}
