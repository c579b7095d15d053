//! The engine: many texts at once, each as if it were alone.

use gpt::{GptConfig, Layout, Parameters, initialise};
use infer::{
    Engine, EngineOptions, Event, Finish, InferError, Job, JobId, Part, Sampling, TokenLogprob,
    Usage, WeightFormat,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokenizer::Tokenizer;

const VOCAB: usize = 264;
const BOS: u32 = 1;
const A: u32 = 260;
const B: u32 = 261;
const C: u32 = 262;
const D: u32 = 263;

/// llama2.c's format: markers, bytes, then pieces, each with a score.
fn tokenizer() -> Arc<Tokenizer> {
    let mut bytes = 8i32.to_le_bytes().to_vec();
    let markers = ["<unk>", "\n<s>\n", "\n</s>\n"].map(str::to_owned);
    let all = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = [" ", "a", "b", "c", "d"].map(str::to_owned);
    for piece in markers.into_iter().chain(all).chain(pieces) {
        bytes.extend(0f32.to_le_bytes());
        bytes.extend((piece.len() as i32).to_le_bytes());
        bytes.extend(piece.as_bytes());
    }
    Arc::new(Tokenizer::from_llama2c(&bytes, None).unwrap())
}

/// A model in which `next[i].1` follows `next[i].0`: blocks add nothing.
fn table(next: &[(u32, u32)], seq_len: usize) -> Parameters {
    let config = GptConfig {
        n_layer: 1,
        n_head: 1,
        n_kv_head: 1,
        n_embd: VOCAB,
        head_dim: 2,
        hidden: 2,
        vocab_size: VOCAB,
        seq_len,
        tied: false,
        ..GptConfig::default()
    };
    let layout = Layout::new(&config);
    let mut params = vec![0.0; layout.count()];
    for param in layout.params() {
        let part = &mut params[param.range()];
        match param.port {
            "embedding" => (0..VOCAB).for_each(|i| part[i * VOCAB + i] = 1.0),
            "classifier" => {
                next.iter().for_each(|&(from, to)| part[to as usize * VOCAB + from as usize] = 9.0)
            }
            _ if !param.decays() => part.fill(1.0),
            _ => {}
        }
    }
    Parameters::new(&config, params)
}

/// A model whose texts differ with everything they are made of; the second layer sees 7 tokens.
fn random() -> Parameters {
    let config = GptConfig {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 2,
        n_embd: 24,
        head_dim: 6,
        hidden: 40,
        vocab_size: VOCAB,
        seq_len: 600,
        windows: vec![0, 7],
        ..GptConfig::default()
    };
    let values = initialise(&config, 5).into_iter().map(|v| v * 8.0).collect();
    Parameters::new(&config, values)
}

fn engine(parameters: &Parameters, options: EngineOptions) -> Engine {
    Engine::new(parameters, tokenizer(), options).unwrap()
}

fn options(slots: usize) -> EngineOptions {
    EngineOptions { slots, ..EngineOptions::default() }
}

/// What became of a job.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    tokens: Vec<u32>,
    text: String,
    pieces: Vec<String>,
    logprobs: Vec<TokenLogprob>,
    prompt: Option<Vec<TokenLogprob>>,
    finish: Option<Finish>,
    usage: Usage,
    error: Option<String>,
}

impl Outcome {
    fn take(&mut self, event: Event) {
        assert!(self.finish.is_none() && self.error.is_none(), "nothing comes after the end");
        match event {
            Event::Prompt { logprobs } => self.prompt = Some(logprobs),
            Event::Token { id, text, part: Part::Text, forced: false, logprob } => {
                self.tokens.push(id);
                self.text += &text;
                self.pieces.push(text);
                self.logprobs.extend(logprob);
            }
            Event::Finished { text, finish, usage, .. } => {
                self.text += &text;
                self.pieces.push(text);
                (self.finish, self.usage) = (Some(finish), usage);
            }
            Event::Token { .. } => panic!("no job has tools"),
            Event::Failed(error) => self.error = Some(error.to_string()),
        }
    }

    /// Without what a cache changes.
    fn uncached(mut self) -> Self {
        self.usage.cached = 0;
        self
    }
}

/// Steps until all jobs are done.
fn run(engine: &mut Engine) -> BTreeMap<JobId, Outcome> {
    let mut outcomes: BTreeMap<JobId, Outcome> = BTreeMap::new();
    while engine.active() > 0 {
        for (id, event) in engine.step().unwrap() {
            outcomes.entry(id).or_default().take(event);
        }
    }
    assert!(engine.step().unwrap().is_empty(), "nothing is left to do");
    outcomes
}

fn alone(parameters: &Parameters, job: Job) -> Outcome {
    let mut engine = engine(parameters, options(1));
    let id = engine.submit(job).unwrap();
    run(&mut engine).remove(&id).unwrap()
}

fn greedy(prompt: &[u32], max_tokens: usize) -> Job {
    Job { prompt: prompt.to_vec(), max_tokens, sampling: Sampling::GREEDY, ..Job::default() }
}

/// Jobs of every kind.
fn various(count: usize) -> Vec<Job> {
    let sampling = |i: usize| Sampling {
        temperature: [0.0, 0.7, 1.0, 1.5][i % 4],
        top_k: [0, 5, 50][i % 3],
        top_p: [1.0, 0.9][i % 2],
        min_p: [0.0, 0.02][i / 2 % 2],
        repetition_penalty: [1.0, 1.2][i / 3 % 2],
        presence_penalty: [0.0, 0.5][i / 5 % 2],
        frequency_penalty: [0.0, 0.25][i / 7 % 2],
    };
    let job = |i: usize| {
        let length = [1, 3, 40, 300, 90][i % 5];
        Job {
            prompt: (0..length).map(|t| ((t * t + t * (i % 3) + i % 2) % 260) as u32).collect(),
            max_tokens: [0, 1, 7, 30, 12][(i + i / 5) % 5],
            sampling: sampling(i),
            seed: i as u64,
            stop: if i.is_multiple_of(4) { vec!["a".to_owned(), "é".to_owned()] } else { vec![] },
            ends: vec![BOS, 2],
            logprobs: [None, Some(0), Some(3)][i % 3],
            prompt_logprobs: i % 7 == 3,
            logit_bias: if i % 6 == 1 { vec![(A, 2.5), (B, -50.0)] } else { vec![] },
            slide: false,
            tools: None,
        }
    };
    (0..count).map(job).collect()
}

#[test]
fn texts_follow_the_model() {
    let model = table(&[(A, B), (B, C), (C, A)], 16);
    let got = alone(&model, greedy(&[BOS, A], 5));
    assert_eq!((got.tokens, got.text.as_str()), (vec![B, C, A, B, C], "bcabc"));
    assert_eq!(got.finish, Some(Finish::MaxTokens));
    assert_eq!(got.usage, Usage { prompt: 2, cached: 0, completion: 5, slides: 0 });
    let end = Job { ends: vec![C], ..greedy(&[BOS, A], 5) };
    let got = alone(&model, end);
    assert_eq!((got.text.as_str(), got.finish), ("b", Some(Finish::EndOfText)));
    assert_eq!(got.usage.completion, 1);
    let got = alone(&model, greedy(&[BOS, A], 0));
    assert_eq!((got.text.as_str(), got.finish), ("", Some(Finish::MaxTokens)));
}

/// The engine for one text gives what the generator gives on the CPU as a device.
#[test]
fn one_text_is_that_of_a_generator() {
    let (model, tokenizer) = (random(), tokenizer());
    let device = ane::Emulator::cpu(cpu::Numerics::F32);
    for (prompt, slide, most, repetition_penalty, stop) in [
        ("abc", false, 40, 1.0, ""),
        ("", false, 3, 1.0, ""),
        ("dab", true, 700, 1.0, ""),
        ("a", true, 0, 1.0, ""),
        ("abcabc", false, 40, 5.0, ""),
        ("abc", false, 40, 1.0, "b"),
        ("abc", false, 40, 1.0, "ca"),
        ("abc", true, 300, 1.0, "aaaaaaaa"),
    ] {
        let sampling = Sampling { temperature: 0.9, repetition_penalty, ..Sampling::default() };
        let stop = &[stop.to_owned()];
        let request =
            infer::Request { max_tokens: most, sampling, seed: 4, slide, stop, tools: None };
        let decoder = gpt::Decoder::new(&model, 8, &device, cpu::Numerics::F32).unwrap();
        let mut generator = infer::Generator::new(decoder, &tokenizer).unwrap().ending_at(&[D]);
        let (mut want, mut got) = (vec![], vec![]);
        let drawn = generator.generate(prompt, request, |s| want.push(s.to_owned())).unwrap();
        let mut engine = engine(&model, options(1));
        let done = engine.generate(prompt, &[D], request, |s| got.push(s.to_owned())).unwrap();
        assert_eq!(got, want);
        assert_eq!((done.prompt, &done.tokens), (drawn.prompt, &drawn.tokens));
        assert_eq!((done.finish, done.slides), (drawn.finish, drawn.slides));
    }
}

#[test]
fn stop_strings_end_a_text_wherever_tokens_begin() {
    let model = table(&[(A, B), (B, C), (C, D), (D, A)], 64);
    let stopped = |stop: &[&str]| {
        let stop = stop.iter().map(|&s| s.to_owned()).collect();
        alone(&model, Job { stop, ..greedy(&[A], 12) })
    };
    let got = stopped(&["cda"]);
    assert_eq!((got.text.as_str(), got.finish), ("b", Some(Finish::StopString)));
    assert_eq!(got.pieces, ["b", "", "", "", ""]);
    assert_eq!(got.tokens, [B, C, D, A]);
    let got = stopped(&["abd", "dac"]);
    assert_eq!((got.text.len(), got.finish), (12, Some(Finish::MaxTokens)));
    // What was held back comes last.
    let got = stopped(&["abcdX"]);
    assert_eq!((got.text.as_str(), got.finish), ("bcdabcdabcda", Some(Finish::MaxTokens)));
    assert_eq!(got.pieces[..5], ["b", "c", "d", "", ""]);
}

/// The bytes of é are two tokens; a text may end between them.
#[test]
fn pieces_are_whole_characters() {
    let (first, second) = (3 + 0xC3, 3 + 0xA9);
    let model = table(&[(A, first), (first, second), (second, B), (B, first)], 64);
    let got = alone(&model, greedy(&[A], 4));
    assert_eq!(got.pieces, ["", "é", "b", "", "\u{fffd}"]);
    let stop = vec!["é".to_owned()];
    let got = alone(&model, Job { stop, ..greedy(&[B], 4) });
    assert_eq!((got.text.as_str(), got.finish), ("", Some(Finish::StopString)));
}

#[test]
fn a_full_context_ends_the_text_or_slides() {
    let model = table(&[(A, B), (B, A)], 8);
    for (most, slide, drawn, finish, slides) in [
        (6, false, 6, Finish::MaxTokens, 0),
        (7, false, 6, Finish::ContextFull, 0),
        (6, true, 6, Finish::MaxTokens, 0),
        (7, true, 7, Finish::MaxTokens, 1),
        (11, true, 11, Finish::MaxTokens, 1),
        (12, true, 12, Finish::MaxTokens, 2),
        (17, true, 17, Finish::MaxTokens, 3),
    ] {
        let got = alone(&model, Job { slide, ..greedy(&[BOS, B, A], most) });
        let alternating: Vec<u32> = [B, A].into_iter().cycle().take(drawn).collect();
        assert_eq!((&got.tokens, got.finish), (&alternating, Some(finish)), "{most} {slide}");
        assert_eq!(got.usage.slides, slides, "{most} {slide}");
    }
    let mut small = engine(&model, EngineOptions { context: 4, ..options(1) });
    assert_eq!(small.context(), 4);
    let error = small.submit(greedy(&[A; 5], 1)).unwrap_err();
    assert!(matches!(error, InferError::TooLong { tokens: 5, limit: 4 }), "{error}");
}

/// Every job's outcome, bit for bit, is that of an engine of its own: in slots that are shared, few or
/// many, with parts of prompts of any length, and with prefixes found in caches.
#[test]
fn a_text_does_not_depend_on_its_neighbours() {
    let (model, jobs) = (random(), various(35));
    for weights in [WeightFormat::F32, WeightFormat::Int8] {
        let own = |job: &Job| {
            let mut engine = engine(&model, EngineOptions { weights, ..options(1) });
            let id = engine.submit(job.clone()).unwrap();
            run(&mut engine).remove(&id).unwrap()
        };
        let want: Vec<Outcome> = jobs.iter().map(own).collect();
        assert!(want.iter().any(|outcome| outcome.finish == Some(Finish::StopString)));
        assert!(want.iter().all(|outcome| outcome.error.is_none()));
        for (slots, chunk, prefix_cache) in [(1, 64, 0), (3, 1, 0), (8, 40, 1 << 20)] {
            let options =
                EngineOptions { slots, chunk, weights, prefix_cache, ..EngineOptions::default() };
            let mut engine = engine(&model, options);
            let ids: Vec<JobId> =
                jobs.iter().map(|job| engine.submit(job.clone()).unwrap()).collect();
            let mut got = run(&mut engine);
            for (i, id) in ids.iter().enumerate() {
                let got = got.remove(id).unwrap().uncached();
                assert_eq!(got, want[i], "{weights:?}, {slots} slots, job {i}");
            }
            let stats = engine.stats();
            assert!(slots < 8 || stats.cached_tokens > 300, "{stats:?}");
            assert_eq!(stats.jobs, 35);
            let drawn: usize = want.iter().map(|outcome| outcome.usage.completion).sum();
            assert_eq!(stats.generated_tokens as usize, drawn);
        }
    }
}

#[test]
fn a_prompt_goes_on_from_what_is_in_the_cache() {
    let model = random();
    let prompt: Vec<u32> = (0..200).map(|t| (t * 7 % 260) as u32).collect();
    let mut engine = engine(&model, EngineOptions { slots: 2, ..EngineOptions::default() });
    let mut ask = |prompt: &[u32]| {
        let id = engine.submit(greedy(prompt, 6)).unwrap();
        let got = run(&mut engine).remove(&id).unwrap();
        assert_eq!(got.clone().uncached(), alone(&model, greedy(prompt, 6)));
        (got.usage.cached, got.tokens)
    };
    let (cached, first) = ask(&prompt);
    assert_eq!(cached, 0);
    // The same again: all but the last token, whose logits are needed.
    assert_eq!(ask(&prompt).0, 199);
    // A conversation goes on behind the answer; its last token was drawn, but never read.
    let longer = [&prompt[..], &first, &[9, 8, 7]].concat();
    assert_eq!(ask(&longer).0, 205);
    // Another text takes the other slot, and finds nothing.
    assert_eq!(ask(&[5, 6, 7, 8]).0, 0);
    let other = [&prompt[..150], &[1, 2, 3]].concat();
    assert_eq!(ask(&other).0, 150);
}

/// Several choices of one prompt: it is read once.
#[test]
fn equal_prompts_are_read_once() {
    let model = random();
    let prompt: Vec<u32> = (0..300).map(|t| (t * 11 % 260) as u32).collect();
    let mut engine = engine(&model, options(4));
    let job = |seed| Job { seed, max_tokens: 8, prompt: prompt.clone(), ..Job::default() };
    let ids: Vec<JobId> = (0..4).map(|seed| engine.submit(job(seed)).unwrap()).collect();
    let got = run(&mut engine);
    for (id, seed) in ids.iter().zip(0..) {
        assert_eq!(got[id].clone().uncached(), alone(&model, job(seed)));
    }
    assert_ne!(got[&ids[0]].tokens, got[&ids[1]].tokens);
    assert_eq!(engine.stats().cached_tokens, 3 * 299);
    assert_eq!(engine.stats().prompt_tokens, 300);
}

/// Of the table's model: logits are 9·√264 for the token that follows and 0 for all others, as RMSNorm makes
/// an embedding of one 1 √264 long.
#[test]
fn log_probabilities_are_those_of_the_logits() {
    let model = table(&[(A, B), (B, C), (C, A)], 16);
    let logit = 9.0 * (264f64 / (1.0 + 264.0 * 1e-5)).sqrt();
    let sum = (logit.exp() + 263.0).ln();
    let close = |got: f32, want: f64| (f64::from(got) - want).abs() < 1e-4;
    let sampling = Sampling { temperature: 3.0, ..Sampling::GREEDY };
    let base = greedy(&[A, B, B], 2);
    let got = alone(&model, Job { logprobs: Some(2), prompt_logprobs: true, ..base.clone() });
    let prompt = got.prompt.unwrap();
    assert_eq!((prompt.len(), prompt[0].id, prompt[1].id), (2, B, B));
    assert!(close(prompt[0].logprob, logit - sum) && close(prompt[1].logprob, -sum));
    assert_eq!((prompt[1].top[0].0, prompt[1].top[1].0, prompt[1].top.len()), (C, 0, 2));
    assert!(close(prompt[1].top[0].1, logit - sum) && close(prompt[1].top[1].1, -sum));
    assert_eq!(got.logprobs.iter().map(|l| l.id).collect::<Vec<_>>(), [C, A]);
    // Neither temperature nor bias changes them.
    let biased = Job { logit_bias: vec![(D, 1e4)], sampling, logprobs: Some(0), ..base };
    let got = alone(&model, biased.clone());
    assert_eq!(got.tokens, [D, D]);
    assert!(close(got.logprobs[0].logprob, -sum) && got.logprobs[0].top.is_empty());
    // A prompt alone.
    let got = alone(&model, Job { max_tokens: 0, prompt_logprobs: true, ..biased });
    assert_eq!((got.tokens.len(), got.prompt.unwrap().len()), (0, 2));
    assert_eq!(got.finish, Some(Finish::MaxTokens));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mut engine = engine(&table(&[(A, B)], 16), EngineOptions { queue: 2, ..options(1) });
    let mut refused = |job: Job| engine.submit(job).unwrap_err();
    let fine = greedy(&[A], 3);
    assert!(matches!(refused(Job { prompt: vec![], ..fine.clone() }), InferError::Empty));
    let long = refused(greedy(&[A; 17], 1));
    assert!(matches!(long, InferError::TooLong { tokens: 17, limit: 16 }), "{long}");
    let unknown = refused(greedy(&[A, 264], 1));
    assert!(matches!(unknown, InferError::Token { token: 264, vocab_size: 264 }), "{unknown}");
    let unknown = refused(Job { logit_bias: vec![(264, 1.0)], ..fine.clone() });
    assert!(matches!(unknown, InferError::Token { token: 264, .. }), "{unknown}");
    let bias = refused(Job { logit_bias: vec![(A, f32::NAN)], ..fine.clone() });
    assert!(matches!(bias, InferError::Bias { token: A, .. }), "{bias}");
    let sampling = Sampling { top_p: 0.0, ..Sampling::GREEDY };
    assert!(matches!(refused(Job { sampling, ..fine.clone() }), InferError::Sampling(_)));
    // One runs and two wait.
    for _ in 0..3 {
        engine.submit(fine.clone()).unwrap();
    }
    let full = engine.submit(fine.clone()).unwrap_err();
    assert!(matches!(full, InferError::QueueFull { waiting: 3 }), "{full}");
    engine.step().unwrap();
    assert_eq!((engine.active(), engine.waiting(), engine.free_slots()), (3, 2, 0));
    assert!(engine.submit(fine.clone()).is_err());
    run(&mut engine);
    assert_eq!((engine.active(), engine.free_slots()), (0, 1));
    engine.submit(fine).unwrap();
    for slots in [0, 1] {
        let options = EngineOptions { slots, context: slots - slots.min(1), ..options(1) };
        assert!(Engine::new(&table(&[], 16), tokenizer(), options).is_err());
    }
}

/// A job that meets no numbers fails alone.
#[test]
fn a_fault_is_one_jobs() {
    let model = table(&[(A, B), (B, A)], 16);
    let bad = model.layout().embedding().start + D as usize * VOCAB;
    model.update(|values| values[bad] = f32::NAN);
    let mut engine = engine(&model, options(2));
    let ids = [greedy(&[A, D], 3), greedy(&[A], 3)].map(|job| engine.submit(job).unwrap());
    let got = run(&mut engine);
    let error = got[&ids[0]].error.clone().unwrap();
    assert!(error.contains("after 2 tokens are not finite"), "{error}");
    assert_eq!(got[&ids[1]].text, "bab");
    let id = engine.submit(greedy(&[A], 3)).unwrap();
    assert_eq!(run(&mut engine)[&id].text, "bab");
}

#[test]
fn a_cancelled_job_ends_and_its_slot_is_free() {
    let model = table(&[(A, B), (B, A)], 64);
    let mut engine = engine(&model, options(1));
    let [first, second, third] = [9, 5, 3].map(|n| engine.submit(greedy(&[A], n)).unwrap());
    assert_eq!(engine.step().unwrap().len(), 1);
    assert!(engine.cancel(first) && !engine.cancel(first));
    assert!(engine.cancel(third));
    assert_eq!((engine.active(), engine.free_slots()), (1, 1));
    let got = run(&mut engine);
    assert_eq!(got.keys().collect::<Vec<_>>(), [&second]);
    assert_eq!(got[&second].text, "babab");
    assert!(!engine.cancel(second) && !engine.cancel(JobId(77)));
    assert_eq!(engine.stats().jobs, 3);
}

/// Prompts that come while others are continued do not stop them, nor are they stopped for long.
#[test]
fn a_long_prompt_delays_nobody() {
    let model = random();
    let mut engine = engine(&model, EngineOptions { chunk: 20, ..options(4) });
    let short = engine.submit(greedy(&[1, 2], 100)).unwrap();
    engine.step().unwrap();
    let long = engine.submit(greedy(&[3; 190], 2)).unwrap();
    // 19 tokens of the long prompt in each step beside the short text's next.
    for step in 0..10 {
        let events = engine.step().unwrap();
        let of = |id| events.iter().filter(|event| event.0 == id).count();
        assert_eq!((of(short), of(long)), (1, usize::from(step == 9)), "{step}");
    }
}

/// Jobs come and go at random; each that ends has the text that it has alone. Nothing is left over.
#[test]
fn random_jobs_come_and_go() {
    let (model, jobs) = (random(), various(24));
    let want: Vec<Outcome> = jobs.iter().map(|job| alone(&model, job.clone())).collect();
    let options = EngineOptions { slots: 5, chunk: 50, queue: 10, ..EngineOptions::default() };
    let mut engine = engine(&model, options);
    let mut state = 12_345u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % n
    };
    let mut live: BTreeMap<JobId, (usize, Outcome)> = BTreeMap::new();
    let (mut done, mut cancelled, mut refused) = (0, 0, 0);
    for _ in 0..1500 {
        match random(6) {
            0 | 1 => {
                let which = random(jobs.len());
                match engine.submit(jobs[which].clone()) {
                    Ok(id) => drop(live.insert(id, (which, Outcome::default()))),
                    Err(InferError::QueueFull { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            2 if !live.is_empty() && random(4) == 0 => {
                let id = *live.keys().nth(random(live.len())).unwrap();
                assert!(engine.cancel(id));
                live.remove(&id);
                cancelled += 1;
            }
            _ => {
                for (id, event) in engine.step().unwrap() {
                    let (which, outcome) = live.get_mut(&id).expect("a live job");
                    outcome.take(event);
                    if outcome.finish.is_some() {
                        assert_eq!(outcome.clone().uncached(), want[*which]);
                        live.remove(&id);
                        done += 1;
                    }
                }
            }
        }
        assert_eq!(engine.active(), live.len());
    }
    assert!(done > 50 && cancelled > 20 && refused > 0, "{done} {cancelled} {refused}");
    run(&mut engine);
    assert_eq!((engine.active(), engine.free_slots()), (0, 5));
}

#[test]
fn memory_is_bounded_and_an_engine_moves_between_threads() {
    fn moves<T: Send>(_: &T) {}
    let model = random();
    let small = engine(&model, options(2));
    moves(&small);
    let slot = 2 * 4 * 12 * (608 + 288);
    let weights = small.bytes() - 2 * slot;
    assert!(weights > 4 * model.layout().count() && weights < 8 * model.layout().count());
    let prefix_cache = 3 * slot + 1;
    let large = engine(&model, EngineOptions { prefix_cache, ..options(2) });
    assert_eq!(large.bytes() - small.bytes(), 3 * slot);
    assert_eq!(large.free_slots(), 2);
}
