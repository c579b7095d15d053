//! Finetuning on conversations: what a step learns, in finite differences, and what a checkpoint brings along.

mod common;

use ane::Emulator;
use common::model;
use cpu::Numerics;
use data::loader::examples::{Examples, Masked, Packed, PackedConfig, Survey, WAITING};
use gpt::{GptConfig, Layout, Model, Param, Parameters, initialise};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use tasks::{Conversation, Conversations};
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Message, NANOCHAT_TOKENS, Role};
use train::objective::{Chats, Sft};
use train::optim::Update;
use train::{
    LrSchedule, Objective, Optimizer, OptimizerConfig, RunConfig, Solo, Stop, Trainer, checkpoint,
};

/// Questions and answers of these lengths, in bytes; and how often any was asked for.
#[derive(Debug)]
struct Talks(Vec<(usize, usize)>, Arc<AtomicUsize>);

impl Conversations for Talks {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> tasks::Result<Conversation> {
        self.1.fetch_add(1, Relaxed);
        let (question, answer) = self.0[index];
        let text = |length: usize, step: usize| -> String {
            (0..length).map(|i| char::from(b'a' + ((index + i * step) % 26) as u8)).collect()
        };
        let user = Message::new(Role::User, text(question, 3));
        Ok(Conversation { messages: vec![user, Message::new(Role::Assistant, text(answer, 5))] })
    }
}

fn tokenizer() -> Tokenizer {
    let bytes = Tokenizer::train_bpe(["a"], 257, &mut |_| {}).unwrap();
    bytes.with_special_tokens(&NANOCHAT_TOKENS).unwrap()
}

fn chat_model(seq: usize) -> GptConfig {
    GptConfig { vocab_size: tokenizer().vocab_size(), seq_len: seq, ..model(1, false) }
}

fn packed(talks: &[(usize, usize)], seq: usize) -> Packed {
    counted(talks, seq, &Arc::default())
}

fn counted(talks: &[(usize, usize)], seq: usize, asked: &Arc<AtomicUsize>) -> Packed {
    let tokenizer = tokenizer();
    let template = ChatTemplate::find(&tokenizer, None).unwrap().unwrap();
    let conversations = Arc::new(Talks(talks.to_vec(), Arc::clone(asked)));
    let chats = Chats::new(conversations, template, tokenizer, &mut |_| {}).unwrap();
    let chats: Arc<dyn Examples> = Arc::new(chats);
    let survey = Survey::of(&*chats, seq, &mut |_| {}).unwrap();
    let config = PackedConfig { seq, waiting: WAITING, pad: 256, shuffle: None };
    Packed::new(chats, survey, config).unwrap()
}

fn settings(batch: usize, accum: usize, seq: usize) -> RunConfig {
    RunConfig {
        model: chat_model(seq),
        optimizer: OptimizerConfig::default(),
        schedule: LrSchedule::cosine(1.0, 1.0, 0, 100),
        batch,
        accum,
        seq,
        clip: 0.0,
        seed: 5,
        plan: &gpt::plan::BASELINE,
        dial: None,
    }
}

/// w ← w − g, so that the gradients of a step can be read off the weights.
#[derive(Debug)]
struct Descent;

impl Optimizer for Descent {
    fn state_of(&self, param: &Param) -> Vec<(&'static str, Vec<usize>)> {
        vec![("m", param.shape.clone())]
    }

    fn step(&self, update: &Update, _: &Param, w: &mut [f32], g: &[f32], state: &mut [&mut [f32]]) {
        for ((w, g), m) in w.iter_mut().zip(g).zip(&mut *state[0]) {
            *w -= update.lr * g * update.scale;
            *m = g * update.scale;
        }
    }
}

/// Weights of order one, so that every part of the model matters.
fn weights(config: &GptConfig) -> Vec<f32> {
    let mut values = initialise(config, 3);
    for param in Layout::new(config).params().iter().filter(|param| param.decays()) {
        values[param.range()].iter_mut().for_each(|w| *w *= 8.0);
    }
    values
}

fn trainer(config: &RunConfig) -> Trainer {
    let (device, params) = (Emulator::cpu(Numerics::F32), weights(&config.model));
    Trainer::new(config, params, Box::new(Descent), &device, Numerics::F32, Box::new(Solo)).unwrap()
}

/// The loss of what is learned of some batches, by the losses of single tokens: its mean over all of it, and the mean of
/// its means over batches.
fn losses(config: &RunConfig, params: &[f32], batches: &[Masked]) -> (f64, f64) {
    let device = Emulator::cpu(Numerics::F32);
    let parameters = Parameters::new(&config.model, params.to_vec());
    let (batch, seq) = (config.batch, config.seq);
    let mut model =
        Model::new(&gpt::plan::BASELINE, &parameters, batch, seq, &device, Numerics::F32).unwrap();
    let (mut all, mut means) = (vec![], vec![]);
    for Masked { inputs, targets, learned } in batches {
        let found = model.token_losses(inputs, targets).unwrap();
        let own: Vec<f64> =
            found.iter().zip(learned).filter(|(_, learned)| **learned).map(|(l, _)| *l).collect();
        means.push(gpt::mean(&own));
        all.extend(own);
    }
    (gpt::mean(&all), gpt::mean(&means))
}

/// Two micro-batches with many and few tokens to learn: a step follows the mean over the tokens of both.
#[test]
fn a_step_follows_the_mean_over_all_that_is_learned() {
    let talks = [(3, 20), (20, 2)];
    let config = settings(1, 2, 32);
    let mut rows = packed(&talks, 32);
    let batches: Vec<Masked> = (0..2).map(|_| rows.next_batch(1).unwrap()).collect();
    let count = |batch: &Masked| batch.learned.iter().filter(|&&learned| learned).count();
    assert_eq!([count(&batches[0]), count(&batches[1])], [21, 3], "answers and their ends");

    let mut trainer = trainer(&config);
    let before = trainer.params().to_vec();
    let (loss, by_batch) = losses(&config, &before, &batches);
    let mut objective = Sft::new(packed(&talks, 32), packed(&talks, 32), &config);
    objective.accumulate(&mut trainer).unwrap();
    let report = trainer.apply().unwrap();
    // Each weight is rounded to f32 once.
    assert!((report.loss / loss - 1.0).abs() < 1e-6, "{report:?} {loss}");
    assert!((by_batch / loss - 1.0).abs() > 1e-2, "the two means differ: {by_batch} {loss}");

    let gradients = trainer.state().arena("m").unwrap().to_vec();
    let largest = gradients.iter().fold(0.0f32, |most, g| most.max(g.abs()));
    let step = 4e-3f32;
    let mut compared = 0;
    for param in Layout::new(&config.model).params() {
        let part = param.range();
        // The largest gradient of each parameter, and one at a fixed place.
        let by_size = |a: &usize, b: &usize| gradients[*a].abs().total_cmp(&gradients[*b].abs());
        let places = [part.clone().max_by(by_size).unwrap(), part.start + part.len() / 3];
        for at in places {
            let moved = |by: f32| {
                let mut params = before.clone();
                params[at] += by;
                (losses(&config, &params, &batches).0, f64::from(params[at]))
            };
            let ((up, high), (down, low)) = (moved(step), moved(-step));
            let found = (up - down) / (high - low);
            let got = f64::from(gradients[at]);
            // A difference over 2h of losses of order 5 in f32 is wrong by 5·2⁻²⁴/h = 7e-5 and, by the third derivative, by a
            // few h² of the gradient's own size.
            let bound = 2e-4 + 2e-3 * got.abs().max(f64::from(largest) * 0.1);
            assert!((got - found).abs() < bound, "{} {at}: {got} {found}", param.name);
            compared += usize::from(got.abs() > 1e-2);
        }
    }
    assert!(compared >= 8, "{compared} gradients are of a size that can be compared");
}

/// The loss of the validation part is that of the assistant's tokens, and so are its bits per byte.
#[test]
fn what_the_assistant_says_is_measured() {
    let talks = [(3, 20), (20, 2), (9, 9)];
    let config = settings(2, 1, 32);
    let mut trainer = trainer(&config);
    let mut objective = Sft::new(packed(&talks[..1], 32), packed(&talks, 32), &config);
    let bytes: Vec<u32> = (0..265).map(|id| u32::from(id < 256)).collect();
    let batches = packed(&talks, 32).beginning(2, 9).unwrap();
    let params = trainer.params().to_vec();
    let (loss, _) = losses(&config, &params, &batches);
    let stop = Stop::default();
    let found = objective.validate(&mut trainer, 9, Some(&bytes), &stop).unwrap().unwrap();
    assert!((found.loss - loss).abs() < 1e-12, "{found:?} {loss}");
    // Ends of answers are no text.
    let mut model = Model::new(
        config.plan,
        &Parameters::new(&config.model, params),
        2,
        32,
        &Emulator::cpu(Numerics::F32),
        Numerics::F32,
    )
    .unwrap();
    let (mut nats, mut said) = (0.0, 0);
    for Masked { inputs, targets, learned } in &batches {
        let losses = model.token_losses(inputs, targets).unwrap();
        for (t, loss) in losses.iter().enumerate() {
            if learned[t] && targets[t] < 256 {
                nats += loss;
                said += 1;
            }
        }
    }
    assert_eq!(said, 20 + 2 + 9);
    let bits = nats / f64::from(said) / std::f64::consts::LN_2;
    assert!((found.bits_per_byte.unwrap() - bits).abs() < 1e-12, "{found:?} {bits}");
    assert!(objective.validate(&mut trainer, 9, None, &stopped()).unwrap().is_none());
}

/// Measuring again renders nothing again, and measures the same.
#[test]
fn what_is_measured_is_rendered_once() {
    let talks = [(3, 20), (20, 2), (9, 9)];
    let (config, asked) = (settings(2, 1, 32), Arc::default());
    let mut trainer = trainer(&config);
    let mut objective = Sft::new(packed(&talks, 32), counted(&talks, 32, &asked), &config);
    let mut measure = |batches| {
        let before = asked.load(Relaxed);
        let found = objective.validate(&mut trainer, batches, None, &Stop::default()).unwrap();
        (found.unwrap().loss, asked.load(Relaxed) - before)
    };
    let (loss, rendered) = measure(9);
    assert!(rendered >= 3);
    assert_eq!(measure(9), (loss, 0));
    assert!(measure(1).1 > 0, "other rows");
}

fn stopped() -> Stop {
    let stop = Stop::default();
    stop.request(train::Reason::Stopped);
    stop
}

/// Of ten conversations nine are longer than a row: no loss of a pass is that of nothing.
#[test]
fn no_step_is_without_something_to_learn() {
    let talks: Vec<(usize, usize)> =
        (0..60).map(|i| if i % 10 == 4 { (3, 2 + i / 10) } else { (8 + i % 9, 200) }).collect();
    let schedule = LrSchedule::cosine(1e-3, 1.0, 0, 100);
    let config = RunConfig { schedule, ..settings(2, 2, 32) };
    let mut trainer = trainer(&config);
    let rows = packed(&talks, 32);
    assert_eq!((rows.survey().cut(), rows.survey().left_out()), (54, 0));
    let steps = rows.rows(1).div_ceil(4);
    let mut objective = Sft::new(rows, packed(&talks[..5], 32), &config);
    for step in 0..steps {
        objective.accumulate(&mut trainer).unwrap();
        let report = trainer.apply().unwrap();
        assert!(report.loss.is_finite() && !report.skipped, "step {step}: {report:?}");
    }
}

/// With the weights, the moments and the count of updates of another run, an update is the one that it would have
/// made.
#[test]
fn an_optimizer_goes_on_from_another_run() {
    let config = RunConfig { schedule: LrSchedule::cosine(1e-2, 1.0, 0, 9), ..settings(2, 1, 32) };
    let adamw = |params: Vec<f32>| {
        let (device, optimizer) = (Emulator::cpu(Numerics::F32), OptimizerConfig::default());
        let (optimizer, ranks) = (optimizer.build(), Box::new(Solo));
        Trainer::new(&config, params, optimizer, &device, Numerics::F32, ranks).unwrap()
    };
    let step = |trainer: &mut Trainer| {
        let talks = [(3, 20), (20, 2)];
        let mut objective = Sft::new(packed(&talks, 32), packed(&talks, 32), &config);
        objective.accumulate(trainer).unwrap();
        trainer.apply().unwrap();
    };
    let mut base = adamw(weights(&config.model));
    (0..3).for_each(|_| step(&mut base));
    let directory = tempfile::tempdir().unwrap();
    {
        let state = base.state();
        let contents = checkpoint::Contents {
            step: 3,
            best: None,
            tensors: vec![("optimizer.safetensors", state.tensors())],
            texts: vec![],
            state: serde_json::Value::Null,
        };
        checkpoint::write(directory.path(), &contents, 1).unwrap();
    }
    let (found, _) = checkpoint::newest(directory.path()).unwrap();
    let [mut warm, mut cold] = [0, 1].map(|_| adamw(base.params().to_vec()));
    warm.warm_start(&found, 3).unwrap();
    assert_eq!(warm.counts().step, 0);
    for trainer in [&mut base, &mut warm, &mut cold] {
        step(trainer);
    }
    assert_eq!(*warm.params(), *base.params());
    assert_ne!(*cold.params(), *base.params());
}
