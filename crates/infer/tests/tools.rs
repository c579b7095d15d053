//! Tools in the middle of a text: a model whose next token is a table calls the calculator.

use ane::Emulator;
use cpu::Numerics;
use gpt::{Decoder, GptConfig, Layout, Parameters};
use infer::{
    Calculator, Draft, Engine, EngineOptions, Event, Finish, Generator, Job, JobId, Part, Request,
    Sampling, Tools, Usage,
};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use tokenizer::Tokenizer;
use tokenizer::chat::NANOCHAT_TOKENS;

static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let bytes = Tokenizer::train_bpe(["abc"], 257, &mut |_| {}).unwrap();
    Arc::new(bytes.with_special_tokens(&NANOCHAT_TOKENS).unwrap())
});

fn id(name: &str) -> u32 {
    match TOKENIZER.special(name) {
        Some(id) => id,
        None => TOKENIZER.encode(name).unwrap()[0],
    }
}

/// The tokens of a text in which names of markers stand.
fn tokens(text: &str) -> Vec<u32> {
    let mut rest = text;
    let mut all = vec![];
    while let Some(first) = rest.chars().next() {
        let marker = NANOCHAT_TOKENS.iter().find(|name| rest.starts_with(**name));
        let length = marker.map_or(first.len_utf8(), |name| name.len());
        all.push(id(&rest[..length]));
        rest = &rest[length..];
    }
    all
}

/// A model in which each token of `path` follows the one before it: blocks add nothing.
fn model(path: &str, seq_len: usize) -> Parameters {
    let vocab = TOKENIZER.vocab_size();
    let config = GptConfig {
        n_layer: 1,
        n_head: 1,
        n_kv_head: 1,
        n_embd: vocab,
        head_dim: 2,
        hidden: 2,
        vocab_size: vocab,
        seq_len,
        tied: false,
        ..GptConfig::default()
    };
    let (layout, path) = (Layout::new(&config), tokens(path));
    let mut params = vec![0.0; layout.count()];
    for param in layout.params() {
        let part = &mut params[param.range()];
        match param.port {
            "embedding" => (0..vocab).for_each(|i| part[i * vocab + i] = 1.0),
            "classifier" => path
                .windows(2)
                .for_each(|pair| part[pair[1] as usize * vocab + pair[0] as usize] = 9.0),
            _ if !param.decays() => part.fill(1.0),
            _ => {}
        }
    }
    Parameters::new(&config, params)
}

/// "a" calls for 2*3, and goes on with "bcd" after what came of it.
const PATH: &str = "a<|python_start|>2*3<|python_end|>";
const AFTER: &str = "<|output_end|>bcd<|assistant_end|>";
const WHOLE: &str = "<|python_start|>2*3<|python_end|><|output_start|>6<|output_end|>bcd";

fn caller(seq_len: usize) -> Parameters {
    let one = model(PATH, seq_len);
    let other = model(AFTER, seq_len);
    let sum: Vec<f32> = {
        let layout = Layout::new(one.config());
        let classifier = layout.params().iter().find(|param| param.port == "classifier").unwrap();
        let mut values = one.read().clone();
        let range = classifier.range();
        values[range.clone()].iter_mut().zip(&other.read()[range]).for_each(|(v, &o)| *v += o);
        values
    };
    Parameters::new(one.config(), sum)
}

fn tools() -> Option<Tools> {
    Tools::find(&TOKENIZER, Calculator::default())
}

fn job(prompt: &str, max_tokens: usize) -> Job {
    Job {
        prompt: tokens(prompt),
        max_tokens,
        sampling: Sampling::GREEDY,
        ends: vec![id("<|assistant_end|>")],
        tools: tools(),
        ..Job::default()
    }
}

/// What became of a job.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    tokens: Vec<u32>,
    forced: Vec<bool>,
    said: String,
    called: String,
    given: String,
    finish: Option<Finish>,
    usage: Usage,
}

fn engine(parameters: &Parameters, slots: usize) -> Engine {
    let options = EngineOptions { slots, ..EngineOptions::default() };
    Engine::new(parameters, Arc::clone(&TOKENIZER), options).unwrap()
}

fn run(engine: &mut Engine) -> BTreeMap<JobId, Outcome> {
    let mut outcomes: BTreeMap<JobId, Outcome> = BTreeMap::new();
    while engine.active() > 0 {
        for (id, event) in engine.step().unwrap() {
            let outcome = outcomes.entry(id).or_default();
            match event {
                Event::Token { id, text, part, forced, .. } => {
                    outcome.tokens.push(id);
                    outcome.forced.push(forced);
                    *match part {
                        Part::Text => &mut outcome.said,
                        Part::Call => &mut outcome.called,
                        Part::Output => &mut outcome.given,
                    } += &text;
                }
                Event::Finished { text, finish, usage, .. } => {
                    outcome.said += &text;
                    (outcome.finish, outcome.usage) = (Some(finish), usage);
                }
                Event::Prompt { .. } | Event::Failed(_) => panic!("{event:?}"),
            }
        }
    }
    outcomes
}

/// With drafts and without.
fn alone(parameters: &Parameters, job: Job) -> Outcome {
    let [plain, drafted] = [Draft::Off, Draft::On].map(|draft| {
        let options = EngineOptions { slots: 1, draft, ..EngineOptions::default() };
        let mut engine = Engine::new(parameters, Arc::clone(&TOKENIZER), options).unwrap();
        let id = engine.submit(job.clone()).unwrap();
        run(&mut engine).remove(&id).unwrap()
    });
    assert_eq!(drafted, plain);
    plain
}

#[test]
fn a_call_is_answered_in_the_text() {
    let got = alone(&caller(64), job("a", 40));
    assert_eq!(got.tokens, tokens(WHOLE));
    let forced: Vec<bool> = (0..11).map(|i| (5..8).contains(&i)).collect();
    assert_eq!(got.forced, forced);
    assert_eq!((&*got.said, &*got.called, &*got.given), ("bcd", "2*3", "6"));
    assert_eq!((got.finish, got.usage.completion), (Some(Finish::EndOfText), 11));
}

#[test]
fn without_tools_a_call_is_text() {
    let path = "a<|python_start|>2*3<|python_end|>b<|assistant_end|>";
    let got = alone(&model(path, 64), Job { tools: None, ..job("a", 40) });
    assert_eq!(got.tokens, tokens("<|python_start|>2*3<|python_end|>b"));
    assert_eq!((&*got.said, &*got.called), ("2*3b", ""));
}

#[test]
fn a_call_without_a_result_is_left_alone() {
    let got =
        alone(&model("a<|python_start|>2*+<|python_end|>b<|assistant_end|>", 64), job("a", 40));
    assert_eq!(got.tokens, tokens("<|python_start|>2*+<|python_end|>b"));
    assert_eq!((&*got.said, &*got.called, &*got.given), ("b", "2*+", ""));
}

/// A prompt that ends inside a call makes none: only what was drawn does.
#[test]
fn a_prompt_makes_no_call() {
    let got = alone(&caller(64), job("<|python_start|>2", 4));
    assert_eq!(got.tokens[..3], tokens("*3<|python_end|>"));
    assert!(got.forced.iter().all(|forced| !forced) && got.given.is_empty());
}

#[test]
fn max_tokens_holds_wherever_it_cuts() {
    let (model, whole) = (caller(64), tokens(WHOLE));
    for most in 1..=11 {
        let got = alone(&model, job("a", most));
        assert_eq!(got.tokens, whole[..most], "{most}");
        assert_eq!((got.finish, got.usage.completion), (Some(Finish::MaxTokens), most));
        let said = "bcd";
        assert_eq!(got.said, said[..most.saturating_sub(8)], "{most}");
    }
}

/// The model reads one token less than the text has: the last one has no successor.
#[test]
fn a_context_that_is_full_ends_the_text_or_slides() {
    let whole = tokens(WHOLE);
    for context in 2..11 {
        let got = alone(&caller(context), job("a", 40));
        assert_eq!(got.tokens, whole[..context], "{context}");
        assert_eq!(got.finish, Some(Finish::ContextFull));
        let got = alone(&caller(context), Job { slide: true, ..job("a", 40) });
        assert_eq!(got.tokens, whole, "{context}");
        assert_eq!(got.finish, Some(Finish::EndOfText));
        assert!(got.usage.slides > 0);
    }
}

#[test]
fn stop_strings_are_of_what_is_said() {
    let model = caller(64);
    let stop = |text: &str| Job { stop: vec![text.to_owned()], ..job("a", 40) };
    for other in ["2*3", "6", "3b", "6b", "*"] {
        let got = alone(&model, stop(other));
        assert_eq!((got.tokens, &*got.said), (tokens(WHOLE), "bcd"), "{other}");
    }
    let got = alone(&model, stop("c"));
    assert_eq!((&*got.said, &*got.given, got.finish), ("b", "6", Some(Finish::StopString)));
    // What may become a stop string is told before the call.
    let path = "ab<|python_start|>2*3<|python_end|>";
    let got = alone(&self::model(path, 64), Job { max_tokens: 3, ..stop("bc") });
    assert_eq!((&*got.said, &*got.called), ("b", "2"));
}

/// Characters of several tokens end with their part.
#[test]
fn parts_do_not_share_characters() {
    let half = |at: usize| TOKENIZER.encode("é").unwrap()[at];
    let tokenizer = &**TOKENIZER;
    let mut stream = tokenizer.stream_after_text();
    let text = stream.push(half(0)) + &stream.cut() + &stream.push(half(1)) + &stream.cut();
    assert_eq!(text, "\u{fffd}\u{fffd}");
    assert_eq!(stream.push(half(0)) + &stream.push(half(1)), "é");
}

#[test]
fn a_text_does_not_depend_on_its_neighbours() {
    let model = caller(64);
    let mut jobs = vec![];
    for (i, prompt) in
        ["a", "c", "aba", "<|bos|>a", "b", "<|python_start|>", "a"].iter().enumerate()
    {
        for most in [3, 6, 7, 40] {
            let sampling = Sampling { temperature: 0.9, ..Sampling::GREEDY };
            let tools = tools().filter(|_| i != 6);
            jobs.push(Job { sampling, seed: 9 + most as u64, tools, ..job(prompt, most) });
        }
    }
    for slots in [2, 5] {
        let mut engine = engine(&model, slots);
        let ids: Vec<JobId> = jobs.iter().map(|job| engine.submit(job.clone()).unwrap()).collect();
        let got = run(&mut engine);
        for (id, job) in ids.iter().zip(&jobs) {
            let mut together = got[id].clone();
            together.usage.cached = 0;
            assert_eq!(together, alone(&model, job.clone()), "{job:?}");
        }
    }
}

/// A text with a call is in the cache as it was read, forced tokens included.
#[test]
fn a_prefix_with_a_call_is_found_in_the_cache() {
    let model = caller(64);
    let mut engine = engine(&model, 2);
    engine.submit(job("a", 40)).unwrap();
    run(&mut engine);
    let next = format!("a{WHOLE}<|assistant_end|>a");
    let id = engine.submit(job(&next, 40)).unwrap();
    let mut got = run(&mut engine).remove(&id).unwrap();
    assert_eq!(std::mem::take(&mut got.usage.cached), 12);
    assert_eq!(got, alone(&model, job(&next, 40)));
}

#[test]
fn one_text_on_a_device_is_that_of_the_engine() {
    let device = Emulator::cpu(Numerics::F32);
    let tools = tools();
    for context in [4, 7, 64] {
        let parameters = caller(context);
        for (most, slide, stop) in
            [(40, false, ""), (40, true, ""), (6, true, ""), (40, true, "cd")]
        {
            let decoder = Decoder::new(&parameters, 4, &device, Numerics::F32).unwrap();
            let ends = [id("<|assistant_end|>")];
            let mut generator = Generator::new(decoder, &TOKENIZER).unwrap().ending_at(&ends);
            let stop = [stop.to_owned()];
            let (stop, tools) = (&stop[..], tools.as_ref());
            let (sampling, seed) = (Sampling::GREEDY, 1);
            let request = Request { max_tokens: most, sampling, seed, slide, stop, tools };
            let mut said = String::new();
            let got = generator.generate("a", request, |piece| said += piece).unwrap();
            let mut engine = engine(&parameters, 1);
            let mut expected = String::new();
            let other = engine.generate("a", &ends, request, |piece| expected += piece).unwrap();
            assert_eq!(
                (&got.tokens, got.finish),
                (&other.tokens, other.finish),
                "{context} {most}"
            );
            assert_eq!(said, expected, "{context} {most}");
        }
    }
}
