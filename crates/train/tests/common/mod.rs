//! A small model, its data, and a run of it: what the tests of runs begin with.

#![allow(dead_code, reason = "each test uses its part")]

use ane::Device;
use data::loader::{Loader, LoaderConfig};
use gpt::GptConfig;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use tokenizer::Tokenizer;
use train::ranks::{Ranks, RanksError};
use train::{Event, Hook, Intervals, Run, RunOutput, Samples, Session, Stop, TrainError};

/// Tokens of a sequence.
pub(crate) const SEQ: usize = 8;

/// Nothing but steps and the measurements at both ends.
pub(crate) const NOTHING: Intervals =
    Intervals { eval: 0, eval_batches: 2, sample: 0, sample_tokens: 8, checkpoint: 0, keep: 1 };

/// A model of 16 channels and 40 tokens.
pub(crate) fn model(n_layer: usize, tied: bool) -> GptConfig {
    GptConfig {
        n_layer,
        n_head: 2,
        n_kv_head: 1,
        n_embd: 16,
        head_dim: 8,
        hidden: 24,
        vocab_size: 40,
        seq_len: SEQ,
        rope_theta: Some(1e4),
        norm_eps: 1e-5,
        tied,
        ..GptConfig::default()
    }
}

/// 1200 tokens.
pub(crate) fn loader() -> Loader {
    let tokens: Vec<u32> = (0..1200u32).map(|i| (i * i / 7 + i / 3) % 40).collect();
    Loader::new(tokens.into(), LoaderConfig::new(SEQ, 5)).unwrap()
}

/// A tokenizer of three letters.
pub(crate) fn letters() -> Tokenizer {
    Tokenizer::train_char(["abc"]).unwrap()
}

/// The output of a run under `directory`.
pub(crate) fn output(model: &GptConfig, directory: &Path) -> RunOutput {
    RunOutput {
        directory: directory.to_owned(),
        texts: formats::hugging_face::files(model, &letters()).unwrap(),
        extra: serde_json::json!({ "note": 7 }),
        setup_s: 2.0,
    }
}

/// The surroundings of a run, besides its settings.
pub(crate) struct Around<'a> {
    /// The actions between steps.
    pub(crate) intervals: Intervals,
    /// The prompt of samples.
    pub(crate) prompt: &'a str,
    /// Asks it to end.
    pub(crate) stop: &'a Stop,
    /// The hooks.
    pub(crate) hooks: Vec<&'a mut dyn Hook>,
}

/// Runs to the end; `listen` sees every event, all of which are returned.
pub(crate) fn to_end(
    run: &mut Run,
    device: &dyn Device,
    directory: &Path,
    around: Around<'_>,
    mut listen: impl FnMut(&Event),
) -> Result<Vec<Event>, TrainError> {
    let Around { intervals, prompt, stop, hooks } = around;
    let (tokenizer, output) = (letters(), output(&run.config().model, directory));
    let samples = Samples { device, tokenizer: &tokenizer, prompt };
    let mut events = vec![];
    let mut session = Session { intervals, output, samples, core: None, talks: None, stop, hooks };
    run.to_end(&mut session, &mut |event| {
        listen(&event);
        events.push(event);
        Ok(())
    })?;
    Ok(events)
}

/// As [`to_end`], with nothing to ask for but `intervals`.
pub(crate) fn finish(
    run: &mut Run,
    device: &dyn Device,
    directory: &Path,
    intervals: Intervals,
) -> Vec<Event> {
    let stop = Stop::default();
    let around = Around { intervals, prompt: "a", stop: &stop, hooks: vec![] };
    to_end(run, device, directory, around, |_| {}).unwrap()
}

/// Where threads that act as ranks exchange numbers.
#[derive(Debug)]
struct Meeting {
    barrier: Barrier,
    values: Mutex<Vec<Vec<f64>>>,
}

#[derive(Debug)]
struct Thread {
    rank: usize,
    size: usize,
    meeting: Arc<Meeting>,
}

impl Thread {
    /// The values of every rank, in their order.
    fn exchange(&self, own: Vec<f64>) -> Vec<Vec<f64>> {
        self.meeting.values.lock().unwrap()[self.rank] = own;
        self.meeting.barrier.wait();
        let all = self.meeting.values.lock().unwrap().clone();
        self.meeting.barrier.wait();
        all
    }
}

impl Ranks for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum_in_order(&self, values: &mut [f32]) -> Result<(), RanksError> {
        let all = self.exchange(values.iter().map(|&v| f64::from(v)).collect());
        for (i, value) in values.iter_mut().enumerate() {
            *value = all[1..].iter().fold(all[0][i] as f32, |sum, other| sum + other[i] as f32);
        }
        Ok(())
    }

    fn sum(&self, value: f64) -> Result<f64, RanksError> {
        Ok(self.exchange(vec![value]).iter().map(|rank| rank[0]).sum())
    }

    fn broadcast(&self, values: &mut [f32]) -> Result<(), RanksError> {
        let all = self.exchange(values.iter().map(|&v| f64::from(v)).collect());
        values.iter_mut().zip(&all[0]).for_each(|(value, &first)| *value = first as f32);
        Ok(())
    }
}

/// Does the same on two threads that are the ranks of one run.
pub(crate) fn on_two_ranks<T: Send>(work: impl Fn(Box<dyn Ranks>) -> T + Sync) -> [T; 2] {
    let meeting =
        Arc::new(Meeting { barrier: Barrier::new(2), values: Mutex::new(vec![vec![]; 2]) });
    std::thread::scope(|scope| {
        let work = &work;
        let threads = [0, 1].map(|rank| {
            let ranks = Box::new(Thread { rank, size: 2, meeting: Arc::clone(&meeting) });
            scope.spawn(move || work(ranks))
        });
        threads.map(|thread| thread.join().unwrap())
    })
}
