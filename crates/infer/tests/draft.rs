//! Speculative decoding: every event of every text is that without drafts, in fewer passes.

use gpt::{Depth, Edition, GptConfig, Layout, Parameters, initialise};
use infer::{Draft, Engine, EngineOptions, Event, Job, JobId, Sampling, Stats, WeightFormat};
use std::sync::{Arc, LazyLock};
use tokenizer::Tokenizer;

/// Bytes, and the token that begins a text.
static TOKENIZER: LazyLock<Arc<Tokenizer>> =
    LazyLock::new(|| Arc::new(Tokenizer::train_bpe(["abc"], 257, &mut |_| {}).unwrap()));

/// Windows, nanochat's streams and tables, learned positions. Logits of all have many that are close, so that
/// some guesses are wrong.
fn models() -> Vec<(&'static str, Parameters)> {
    let vocab_size = TOKENIZER.vocab_size();
    let llama = GptConfig {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 2,
        n_embd: 24,
        head_dim: 6,
        hidden: 40,
        vocab_size,
        seq_len: 600,
        ..GptConfig::default()
    };
    let nanochat = Depth { vocab_size, seq_len: 600, ..Depth::new(Edition::July2026, 3) };
    let nanochat = GptConfig {
        n_head: 6,
        n_kv_head: 2,
        n_embd: 37,
        head_dim: 10,
        hidden: 53,
        windows: vec![4, 7, 0],
        ..nanochat.config()
    };
    let gpt2 = GptConfig {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 4,
        n_embd: 32,
        head_dim: 8,
        hidden: 64,
        vocab_size,
        seq_len: 600,
        ..GptConfig::preset("gpt2").unwrap()
    };
    let all = [
        ("llama", GptConfig { windows: vec![0, 7], ..llama.clone() }),
        ("nanochat", nanochat),
        ("gpt2", gpt2),
    ];
    let of = |(name, config): (_, GptConfig)| {
        let mut values = initialise(&config, 5);
        for (i, value) in values.iter_mut().enumerate() {
            *value = *value * 4.0 + 0.15 * (i as f32 * 0.731).sin();
        }
        (name, Parameters::new(&config, values))
    };
    all.into_iter().map(of).collect()
}

/// A model without blocks: its logits after token `from` are `weight`·√V for each (from, to, weight).
fn table(entries: &[(u32, u32, f32)], seq_len: usize) -> Parameters {
    let width = TOKENIZER.vocab_size();
    let config = GptConfig {
        n_layer: 1,
        n_head: 1,
        n_kv_head: 1,
        n_embd: width,
        head_dim: 2,
        hidden: 2,
        vocab_size: width,
        seq_len,
        tied: false,
        ..GptConfig::default()
    };
    let layout = Layout::new(&config);
    let mut values = vec![0.0; layout.count()];
    for param in layout.params() {
        let part = &mut values[param.range()];
        match param.port {
            "embedding" => (0..width).for_each(|i| part[i * width + i] = 1.0),
            "classifier" => (entries.iter())
                .for_each(|&(from, to, weight)| part[to as usize * width + from as usize] = weight),
            _ if !param.decays() => part.fill(1.0),
            _ => {}
        }
    }
    Parameters::new(&config, values)
}

fn engine(parameters: &Parameters, options: EngineOptions) -> Engine {
    Engine::new(parameters, Arc::clone(&TOKENIZER), options).unwrap()
}

fn alone(draft: Draft) -> EngineOptions {
    EngineOptions { slots: 1, draft, ..EngineOptions::default() }
}

/// All events, in their order: floating-point numbers in as many digits as tell them apart.
fn events(engine: &mut Engine, jobs: &[Job]) -> Vec<(JobId, String)> {
    for job in jobs {
        engine.submit(job.clone()).unwrap();
    }
    let mut all = vec![];
    while engine.active() > 0 {
        let events = engine.step().unwrap();
        all.extend(events.into_iter().map(|(id, event)| (id, format!("{event:?}"))));
    }
    all
}

fn greedy(prompt: &[u32], max_tokens: usize) -> Job {
    Job { prompt: prompt.to_vec(), max_tokens, sampling: Sampling::GREEDY, ..Job::default() }
}

/// The tokens of a job's events.
fn tokens(events: &[(JobId, Event)], id: JobId) -> Vec<u32> {
    let token = |event: &Event| match event {
        Event::Token { id, .. } => Some(*id),
        _ => None,
    };
    events.iter().filter(|(job, _)| *job == id).filter_map(|(_, event)| token(event)).collect()
}

/// Jobs with all that acts on a text. Some prompts begin as others do, so that they go on from caches.
fn jobs() -> Vec<Job> {
    let prompt = |i: usize| -> Vec<u32> {
        (0..[1, 5, 40, 300][i % 4]).map(|t| ((t * t + t * (i % 3)) % 250) as u32).collect()
    };
    let job = |i: usize| Job {
        prompt: prompt(i),
        max_tokens: [60, 33, 2, 1, 90][i % 5],
        sampling: Sampling {
            temperature: [0.0, 0.7, 1.3][i % 3],
            top_k: [0, 40][i / 2 % 2],
            top_p: [1.0, 0.9][i % 2],
            min_p: [0.0, 0.02][i / 3 % 2],
            repetition_penalty: [1.0, 1.2][i / 4 % 2],
            presence_penalty: [0.0, 0.3][i / 5 % 2],
            frequency_penalty: [0.0, 0.2][i / 7 % 2],
        },
        seed: i as u64,
        stop: if i.is_multiple_of(4) { vec!["e".into(), "\u{7}".into()] } else { vec![] },
        ends: if i % 3 == 1 { (10..20).collect() } else { vec![] },
        logprobs: [None, Some(0), Some(3)][i % 3],
        prompt_logprobs: i % 7 == 3,
        logit_bias: if i % 6 == 1 { vec![(97, 1.5), (98, -50.0)] } else { vec![] },
        slide: i.is_multiple_of(2),
        tools: None,
    };
    (0..20).map(job).collect()
}

#[test]
fn texts_are_those_without_drafts() {
    let mut sum = Stats::default();
    for (name, model) in models() {
        for (weights, context) in
            [(WeightFormat::F32, 600), (WeightFormat::F32, 50), (WeightFormat::F16, 600)]
        {
            let jobs: Vec<Job> =
                jobs().into_iter().filter(|job| job.prompt.len() <= context).collect();
            let options = |draft| EngineOptions { context, weights, ..alone(draft) };
            let (mut plain, mut drafting) =
                (engine(&model, options(Draft::Off)), engine(&model, options(Draft::On)));
            let (want, got) = (events(&mut plain, &jobs), events(&mut drafting, &jobs));
            for (want, got) in want.iter().zip(&got) {
                assert_eq!(got, want, "{name}, {weights:?}, context {context}");
            }
            assert_eq!(got.len(), want.len());
            let (plain, drafting) = (plain.stats(), drafting.stats());
            assert_eq!(drafting.generated_tokens, plain.generated_tokens);
            assert_eq!(drafting.cached_tokens, plain.cached_tokens);
            assert_eq!((plain.drafted_tokens, plain.accepted_tokens), (0, 0));
            // Each accepted token saved a pass.
            assert_eq!(drafting.steps + drafting.accepted_tokens, plain.steps, "{name}");
            sum.drafted_tokens += drafting.drafted_tokens;
            sum.accepted_tokens += drafting.accepted_tokens;
        }
    }
    // There were enough of both kinds for the test to tell.
    let wrong = sum.drafted_tokens - sum.accepted_tokens;
    assert!(sum.accepted_tokens > 1000 && wrong > 100, "{sum:?}");
}

/// Texts end in the middle of guesses that are right: at the last token, before a stop string, at an end. What comes
/// next goes on from the cache as if there had been none.
#[test]
fn a_text_ends_in_the_middle_of_right_guesses() {
    let model = table(&[(97, 98, 9.0), (98, 99, 9.0), (99, 97, 9.0)], 256);
    let mut plain = engine(&model, alone(Draft::Off));
    let mut drafting = engine(&model, alone(Draft::On));
    for most in 1..30 {
        let job = greedy(&[97, 98], most);
        let stop = Job { stop: vec!["bcabcab".to_owned()], ..job.clone() };
        let end = Job { ends: vec![99], ..greedy(&[97, 98, 97], most) };
        let longer = greedy(&[97, 98, 99, 97, 98, 99, 97, 98, 99, 97, 98, 100], 2);
        let jobs = [job, longer.clone(), stop, longer, end];
        assert_eq!(events(&mut drafting, &jobs), events(&mut plain, &jobs), "{most}");
    }
    let stats = drafting.stats();
    assert!(stats.accepted_tokens > 400, "{stats:?}");
    assert_eq!(stats.cached_tokens, plain.stats().cached_tokens);
    // Guesses are not made beyond the last token that is asked for; a guess that ends the text is none.
    let before = drafting.stats();
    events(&mut drafting, &[greedy(&[97], 2), Job { ends: vec![99], ..greedy(&[97], 50) }]);
    assert_eq!(drafting.stats().drafted_tokens, before.drafted_tokens);
}

/// With f32 weights, 97 follows 97. In int8, its weight and that of 96, whose rows have a large one besides, are equal,
/// and the first of equals is taken.
#[test]
fn guesses_that_are_wrong_are_given_up() {
    let entries = [(97, 96, 1.4), (97, 97, 1.45), (98, 96, 127.0), (98, 97, 127.0)];
    let model = table(&entries, 600);
    let mut drafting = engine(&model, alone(Draft::On));
    let want = events(&mut engine(&model, alone(Draft::Off)), &[greedy(&[97], 500)]);
    assert_eq!(events(&mut drafting, &[greedy(&[97], 500)]), want);
    let stats = drafting.stats();
    assert_eq!((stats.accepted_tokens, stats.steps), (0, 500));
    // They are tried again now and then.
    assert!(stats.drafted_tokens > 20 && stats.drafted_tokens < 60, "{stats:?}");
}

/// A text that is cancelled stays in the cache as far as it went, and nothing of its guesses.
#[test]
fn what_is_cancelled_can_be_gone_on_from() {
    for (name, model) in models() {
        for steps in 2..12 {
            let mut drafting = engine(&model, alone(Draft::On));
            let id = drafting.submit(greedy(&[1, 2, 3], 200)).unwrap();
            let before: Vec<_> = (0..steps).flat_map(|_| drafting.step().unwrap()).collect();
            assert!(drafting.cancel(id));
            let text = [&[1, 2, 3][..], &tokens(&before, id)].concat();
            let next = [greedy(&text, 40), greedy(&text[..text.len() - 1], 40)];
            for job in next {
                let job = Job { logprobs: Some(2), ..job };
                let mut fresh = engine(&model, alone(Draft::Off));
                let strip = |events: Vec<(JobId, String)>| -> Vec<String> {
                    let of = |event: String| event.split("cached").next().unwrap().to_owned();
                    events.into_iter().map(|(_, event)| of(event)).collect()
                };
                let jobs = [job];
                let (got, want) = (events(&mut drafting, &jobs), events(&mut fresh, &jobs));
                assert_eq!(strip(got), strip(want), "{name}, {steps} steps");
            }
            assert!(drafting.stats().cached_tokens as usize >= text.len() - 1);
        }
    }
}

#[test]
fn only_a_text_alone_is_drafted() {
    let (_, model) = models().remove(0);
    let jobs = [greedy(&[1, 2, 3], 30), greedy(&[4, 5, 6], 90)];
    let mut both = engine(&model, EngineOptions { slots: 2, ..alone(Draft::On) });
    let [short, long] = jobs.clone().map(|job| both.submit(job).unwrap());
    let mut got = vec![];
    while both.active() > 0 {
        let (together, before) = (both.active() == 2, both.stats().drafted_tokens);
        got.extend(both.step().unwrap());
        assert!(!together || both.stats().drafted_tokens == before);
    }
    assert!(both.stats().accepted_tokens > 10, "{:?}", both.stats());
    for (id, job) in [short, long].into_iter().zip(jobs) {
        let mut plain = engine(&model, alone(Draft::Off));
        let only = plain.submit(job).unwrap();
        let mut want = vec![];
        while plain.active() > 0 {
            want.extend(plain.step().unwrap());
        }
        assert_eq!(tokens(&got, id), tokens(&want, only));
    }
}

/// The copy is made where it is asked for, and counts as memory.
#[test]
fn small_models_are_not_drafted_unasked() {
    let (_, model) = models().remove(0);
    let of = |draft| engine(&model, alone(draft));
    let [off, auto, on] = [Draft::Off, Draft::Auto, Draft::On].map(of);
    assert_eq!([off.drafts(), auto.drafts(), on.drafts()], [false, false, true]);
    assert_eq!(auto.bytes(), off.bytes());
    let int8 = engine(&model, EngineOptions { weights: WeightFormat::Int8, ..alone(Draft::Off) });
    let caches = gpt::SlotDecoder::bytes_of_slot(model.config(), usize::MAX);
    assert_eq!(on.bytes(), off.bytes() + int8.bytes() - caches);
}
