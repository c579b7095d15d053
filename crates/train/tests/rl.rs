//! Reinforcement learning of a small model.

mod common;

use ane::Emulator;
use common::on_two_ranks;
use cpu::Numerics;
use gpt::{GptConfig, initialise};
use infer::{Calculator, Sampling, Tools};
use std::sync::Arc;
use tasks::{Conversation, Conversations, Kind, Task};
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Message, NANOCHAT_TOKENS, Role};
use train::objective::rl::{Advantage, Interview, Questions, RlConfig, Speaker};
use train::objective::{Objective, Rl};
use train::{Event, LrSchedule, OptimizerConfig, Ranks, RunConfig, Solo, Stop, Trainer};

const SEQ: usize = 16;

/// Questions whose answers are the better the more of their letters are capital.
#[derive(Debug)]
struct Capitals {
    /// What an answer is worth, whatever it is.
    constant: Option<f32>,
}

impl Conversations for Capitals {
    fn len(&self) -> usize {
        5
    }

    fn get(&self, index: usize) -> tasks::Result<Conversation> {
        let question = ["a", "b", "ab", "ba", "abc"][index];
        let messages = vec![Message::new(Role::User, question), Message::new(Role::Assistant, "A")];
        Ok(Conversation { messages })
    }
}

impl Task for Capitals {
    fn name(&self) -> &str {
        "capitals"
    }

    fn kind(&self) -> Kind {
        Kind::Generative
    }

    fn baseline(&self) -> f64 {
        0.0
    }

    fn identity(&self) -> String {
        "capitals".to_owned()
    }

    fn reward(&self, _index: usize, answer: &str) -> tasks::Result<f32> {
        let count = answer.chars().count().max(1) as f32;
        let capitals = answer.chars().filter(char::is_ascii_uppercase).count() as f32;
        Ok(self.constant.unwrap_or(capitals / count))
    }
}

fn speaker() -> Speaker {
    let bytes = Tokenizer::train_bpe(["abc"], 257, &mut |_| {}).unwrap();
    let tokenizer = bytes.with_special_tokens(&NANOCHAT_TOKENS).unwrap();
    let template = ChatTemplate::find(&tokenizer, None).unwrap().unwrap();
    let tools = Tools::find(&tokenizer, Calculator::default());
    Speaker { tokenizer: Arc::new(tokenizer), template, ends: vec![], tools }
}

fn settings(steps: u64) -> RunConfig {
    let model = GptConfig {
        n_layer: 1,
        n_head: 2,
        n_kv_head: 1,
        n_embd: 16,
        head_dim: 8,
        hidden: 24,
        vocab_size: speaker().tokenizer.vocab_size(),
        seq_len: SEQ,
        tied: false,
        ..GptConfig::default()
    };
    RunConfig {
        model,
        optimizer: OptimizerConfig::default(),
        schedule: LrSchedule::cosine(2e-2, 0.5, 0, steps),
        batch: 4,
        accum: 8,
        seq: SEQ,
        clip: 1.0,
        seed: 5,
        plan: &gpt::plan::BASELINE,
        dial: None,
    }
}

fn config() -> RlConfig {
    RlConfig {
        questions: 4,
        samples: 8,
        max_tokens: 4,
        sampling: Sampling { temperature: 1.0, top_k: 200, ..Sampling::GREEDY },
        advantage: Advantage::Mean,
        epochs: 1,
        clip: 0.2,
        slots: 8,
        held_out_samples: 4,
        example: 2,
    }
}

fn objective(config: RlConfig, constant: Option<f32>) -> Rl {
    Rl::new(config, interview(constant), &settings(1)).unwrap()
}

fn interview(constant: Option<f32>) -> Interview {
    let questions = || Questions::new(vec![Arc::new(Capitals { constant })]);
    Interview::new(speaker(), questions(), questions()).unwrap()
}

fn trainer(numerics: Numerics, steps: u64) -> Trainer {
    trainer_of(numerics, steps, Box::new(Solo))
}

fn trainer_of(numerics: Numerics, steps: u64, ranks: Box<dyn Ranks>) -> Trainer {
    let run = settings(steps);
    let params = initialise(&run.model, 3);
    let (device, optimizer) = (Emulator::cpu(numerics), run.optimizer.build());
    Trainer::new(&run, params, optimizer, &device, numerics, ranks).unwrap()
}

/// Steps, and the bits of the weights behind them.
fn steps(trainer: &mut Trainer, objective: &mut Rl, count: u64) -> Vec<u32> {
    for _ in 0..count {
        objective.accumulate(trainer).unwrap();
        trainer.apply().unwrap();
    }
    trainer.params().iter().map(|value| value.to_bits()).collect()
}

fn rewards(objective: &mut Rl) -> Vec<f64> {
    let reward = |event: Event| match event {
        Event::Round { reward, .. } => Some(reward),
        _ => None,
    };
    objective.take_events().into_iter().filter_map(reward).collect()
}

#[test]
fn a_model_learns_what_is_rewarded() {
    let first = RlConfig { epochs: 3, advantage: Advantage::Std, ..config() };
    for (config, numerics) in
        [(config(), Numerics::F32), (first, Numerics::F32), (config(), Numerics::Fast)]
    {
        let (mut trainer, mut objective) = (trainer(numerics, 60), objective(config, None));
        let wrong = |trainer: &mut Trainer, objective: &mut Rl| {
            let measured = objective.validate(trainer, 9, None, &Stop::default()).unwrap().unwrap();
            let pass = measured.pass.unwrap();
            assert_eq!((pass.questions, pass.samples, pass.at.len()), (5, 4, 4));
            assert_eq!(measured.loss, 1.0 - pass.at[0]);
            assert!(pass.at.is_sorted());
            measured.loss
        };
        let before = wrong(&mut trainer, &mut objective);
        steps(&mut trainer, &mut objective, 60);
        let rewards = rewards(&mut objective);
        assert_eq!(rewards.len(), 60 / config.epochs);
        let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
        let (early, late) = (mean(&rewards[..3]), mean(&rewards[rewards.len() - 3..]));
        // A tenth of the tokens are capital letters.
        assert!(early < 0.3 && late > 0.6, "{early} {late} {config:?}");
        let after = wrong(&mut trainer, &mut objective);
        assert!(after < before - 0.3, "{before} {after}");
    }
}

#[test]
fn nothing_depends_on_how_many_answers_are_written_at_once() {
    let after = |slots| {
        steps(
            &mut trainer(Numerics::F32, 9),
            &mut objective(RlConfig { slots, ..config() }, None),
            3,
        )
    };
    let one = after(1);
    assert_eq!(after(3), one);
    assert_eq!(after(32), one);
}

/// Two ranks that share the questions of a round learn what one process learns: the same answers, judged alike, and up to
/// the order of sums the same weights. So do two of which one has no question at all.
#[test]
fn ranks_share_a_round() {
    for (questions, epochs) in [(4, 1), (4, 3), (3, 1), (1, 1)] {
        let config = RlConfig { questions, epochs, ..config() };
        let run = |ranks| {
            let (mut trainer, mut objective) =
                (trainer_of(Numerics::F32, 9, ranks), objective(config, None));
            objective.accumulate(&mut trainer).unwrap();
            let report = trainer.apply().unwrap();
            let first = trainer.params().to_vec();
            let bits = steps(&mut trainer, &mut objective, 5);
            let wrong = objective.validate(&mut trainer, 9, None, &Stop::default()).unwrap();
            let rounds: Vec<Event> = objective
                .take_events()
                .into_iter()
                .filter_map(|event| match event {
                    Event::Round { .. } => Some(without_time(event)),
                    _ => None,
                })
                .collect();
            (report, first, bits, wrong, rounds, trainer.counts())
        };
        let [one, other] = on_two_ranks(run);
        assert_eq!(one, other, "the same bits on both");
        let alone = run(Box::new(Solo));
        assert_eq!(one.4[0], alone.4[0], "the same answers are judged");
        assert_eq!(one.5.step, 6);
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs().max(1e-6);
        assert!(close(one.0.loss, alone.0.loss), "{:?} {:?}", one.0, alone.0);
        assert!(close(one.0.grad_norm, alone.0.grad_norm), "{:?} {:?}", one.0, alone.0);
        // AdamW's first steps follow the signs of gradients, however small.
        let far = one.1.iter().zip(&alone.1).filter(|(a, b)| (**a - **b).abs() > 1e-4).count();
        assert!(far * 100 < one.1.len(), "{far} of {} weights differ", one.1.len());
    }
}

fn without_time(mut event: Event) -> Event {
    if let Event::Round { ms, .. } = &mut event {
        *ms = 0.0;
    }
    event
}

/// In the middle of a round, its answers are part of the place; between rounds, they are drawn again.
#[test]
fn a_run_goes_on_from_every_place() {
    for epochs in [1, 3] {
        let config = RlConfig { epochs, ..config() };
        let whole = steps(&mut trainer(Numerics::F32, 9), &mut objective(config, None), 7);
        for first in [1, 2, 3, 5] {
            let (mut trainer, mut before) = (trainer(Numerics::F32, 9), objective(config, None));
            steps(&mut trainer, &mut before, first);
            let place = before.place().to_string();
            let mut after = objective(config, None);
            after.resume(&serde_json::from_str(&place).unwrap()).unwrap();
            assert_eq!(steps(&mut trainer, &mut after, 7 - first), whole, "{epochs} {first}");
        }
    }
    let mut other = objective(config(), None);
    let mut place = other.place();
    place["questions"] = "others".into();
    let error = other.resume(&place).unwrap_err().to_string();
    assert!(error.contains("the questions") && error.contains("others"), "{error}");
    place.as_object_mut().unwrap().remove("questions");
    other.resume(&place).unwrap();
    assert!(other.resume(&serde_json::json!({ "epoch": 1 })).is_err());
}

/// An example is of the weights at the beginning of its round, and tells the steps that made them.
#[test]
fn examples_tell_the_steps_before_them() {
    let (mut trainer, mut objective) =
        (trainer(Numerics::F32, 9), objective(RlConfig { epochs: 3, ..config() }, None));
    steps(&mut trainer, &mut objective, 9);
    let step = |event| match event {
        Event::Sample { step, .. } => Some(step),
        _ => None,
    };
    let examples: Vec<u64> = objective.take_events().into_iter().filter_map(step).collect();
    assert_eq!(examples, [0, 6], "every second round, of three steps each");
}

/// Nothing is better than anything else: the step counts, and changes nothing.
#[test]
fn answers_that_are_judged_alike_teach_nothing() {
    let (mut trainer, mut objective) = (trainer(Numerics::Fast, 9), objective(config(), Some(0.5)));
    let before = steps(&mut trainer, &mut objective, 0);
    assert_eq!(steps(&mut trainer, &mut objective, 2), before);
    let counts = trainer.counts();
    assert_eq!((counts.step, counts.updates, counts.tokens), (2, 0, 0));
    let events = objective.take_events();
    let skipped = |event: &Event| matches!(event, Event::Round { skipped: 1.0, reward: 0.5, .. });
    assert_eq!(events.iter().filter(|event| skipped(event)).count(), 2);
    let example = |event: &Event| matches!(event, Event::Sample { text, .. } if text.contains("→"));
    assert_eq!(events.iter().filter(|event| example(event)).count(), 1);
}

#[test]
fn a_question_that_leaves_no_room_is_refused() {
    let run = RunConfig { seq: 7, ..settings(1) };
    let error = Rl::new(config(), interview(None), &run).unwrap_err();
    // BOS, three tokens around "abc", and the beginning of the answer.
    assert_eq!(
        error.to_string(),
        "a question of 7 tokens leaves no room for an answer in sequences of 7: give a longer --seq"
    );
}
