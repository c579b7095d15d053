//! The training loop.

use crate::background::{Arenas, Snapshot, Writer, Written};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::event::Event;
use crate::hugging_face::hugging_face_config;
use crate::optim::{AdamW, global_norm};
use crate::scale::LossScale;
use crate::schedule::Schedule;
use ane::{Device, Numerics, Sgemm};
use data::loader::{Batch, Cursor, Loader};
use gpt::{Decoder, GptConfig, Layout, MicroBatch, Model, ModelError};
use infer::{Generator, InferError, Sampling};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokenizer::Tokenizer;

/// Everything that decides what a run computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Shape of the model.
    pub model: GptConfig,
    /// The optimizer.
    pub optimizer: AdamW,
    /// Learning rate and number of steps.
    pub schedule: Schedule,
    /// Sequences of a micro-batch.
    pub batch: usize,
    /// Micro-batches of a step.
    pub accum: usize,
    /// Tokens of a sequence.
    pub seq: usize,
    /// Largest global norm of the gradients; larger ones are scaled down. 0 switches it off.
    pub clip: f64,
    /// Seed of the initial weights and of the order of the data.
    pub seed: u64,
}

/// How often something happens; 0 never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Steps between measurements of the validation loss.
    pub eval: u64,
    /// Batches of one measurement.
    pub eval_batches: usize,
    /// Steps between samples.
    pub sample: u64,
    /// Tokens of a sample.
    pub sample_tokens: usize,
    /// Steps between checkpoints (one is always written at the end).
    pub checkpoint: u64,
    /// Checkpoints kept.
    pub keep: usize,
}

/// Where a run stands, besides weights and moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    /// Steps done, left-out ones included.
    step: u64,
    /// Updates done: the optimizer's count.
    updates: u64,
    tokens: u64,
    scale: LossScale,
    loader: Cursor,
    val_loss: Option<f64>,
}

/// What `state.json` holds for this module.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    run: RunConfig,
    progress: Progress,
    /// The caller's own notes, such as where the data came from.
    extra: serde_json::Value,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum TrainError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Device(#[from] ane::AneError),
    #[error(transparent)]
    Data(#[from] data::Error),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Sample(#[from] InferError),
    #[error("{path}: the state is not one of a training run: {reason}")]
    State { path: PathBuf, reason: String },
    #[error(
        "the gradients of {0} steps in a row were not finite: the run has diverged; resume from an \
         earlier checkpoint with a lower --lr"
    )]
    Diverged(u32),
    #[error(
        "the validation loss after step {step} is {val_loss}: the run has diverged and this state is \
         not kept; resume from an earlier checkpoint with a lower --lr"
    )]
    NotFinite { step: u64, val_loss: f64 },
    #[error("a sequence of {seq} tokens is longer than the model reads ({limit})")]
    Sequence { seq: usize, limit: usize },
}

/// Steps in a row that may be left out before the run counts as diverged: enough for the loss
/// scale to fall from its largest value to 1.
const PATIENCE: u32 = 30;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean loss in nats per token.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Loss scale used.
    pub loss_scale: f32,
    /// Whether the update was left out.
    pub skipped: bool,
}

/// A run: owner of weights, gradients, moments and the place in the data.
#[derive(Debug)]
pub struct Pretrain {
    config: RunConfig,
    model: Model,
    /// Shared with the writer between updates.
    arenas: Arc<Arenas>,
    grads: Vec<f32>,
    writer: Writer,
    loader: Loader,
    progress: Progress,
    overflows: u32,
    numerics: Numerics,
    optimizer_seconds: f64,
}

impl Pretrain {
    /// A run from `params` (see [`gpt::initialise`]) at the beginning of `loader`.
    ///
    /// # Errors
    /// When the model cannot be compiled for the device.
    pub fn new(
        config: RunConfig,
        params: Vec<f32>,
        loader: Loader,
        device: &dyn Device,
        numerics: Numerics,
    ) -> Result<Self, TrainError> {
        if config.seq > config.model.seq_len {
            return Err(TrainError::Sequence { seq: config.seq, limit: config.model.seq_len });
        }
        let mut model = Model::new(&config.model, config.batch, config.seq, device, numerics)?;
        model.write_weights(&params)?;
        let n = model.layout().count();
        let scale = match numerics {
            Numerics::F32 => LossScale::none(),
            Numerics::Fast | Numerics::Exact => LossScale::dynamic(),
        };
        let progress = Progress {
            step: 0,
            updates: 0,
            tokens: 0,
            scale,
            loader: loader.cursor().clone(),
            val_loss: None,
        };
        Ok(Pretrain {
            config,
            model,
            arenas: Arc::new(Arenas { params, m: vec![0.0; n], v: vec![0.0; n] }),
            grads: vec![0.0; n],
            writer: Writer::default(),
            loader,
            progress,
            overflows: 0,
            numerics,
            optimizer_seconds: 0.0,
        })
    }

    /// The settings and the caller's notes of a checkpoint.
    ///
    /// # Errors
    /// When the checkpoint is of something else.
    pub fn saved(checkpoint: &Checkpoint) -> Result<(RunConfig, serde_json::Value), TrainError> {
        let saved = read_saved(checkpoint)?;
        Ok((saved.run, saved.extra))
    }

    /// Takes weights, moments and place from a checkpoint of a run of the same shape.
    ///
    /// # Errors
    /// When the checkpoint is of another model or of other data.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let saved = read_saved(checkpoint)?;
        let layout = Layout::new(&self.config.model);
        self.writer.wait()?;
        let arenas = exclusive(&mut self.arenas);
        read_arena(checkpoint, "model.safetensors", "", &layout, &mut arenas.params)?;
        read_arena(checkpoint, "optimizer.safetensors", ".m", &layout, &mut arenas.m)?;
        read_arena(checkpoint, "optimizer.safetensors", ".v", &layout, &mut arenas.v)?;
        self.loader.resume(&saved.progress.loader)?;
        self.progress = saved.progress;
        self.model.write_weights(&self.arenas.params)?;
        Ok(())
    }

    /// Has the host's products computed by `library` from now on; `None` for our own kernel. Two
    /// runs give the same bytes only with the same choice.
    pub fn multiply_with(&mut self, library: Option<&Arc<dyn Sgemm>>) {
        self.model.multiply_with(library);
    }

    /// Steps done.
    pub fn step_count(&self) -> u64 {
        self.progress.step
    }

    /// The settings.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The compiled model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The master weights.
    pub fn params(&self) -> &[f32] {
        &self.arenas.params
    }

    /// The data.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Validation loss, when it was last measured.
    pub fn val_loss(&self) -> Option<f64> {
        self.progress.val_loss
    }

    /// Forward and backward over `accum` micro-batches, then one update.
    ///
    /// # Errors
    /// When the device fails, a token is not of the vocabulary, or the run has diverged.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        let RunConfig { batch, accum, seq, clip, .. } = self.config;
        let scale = self.progress.scale.get();
        let weight = scale / (accum * batch * seq) as f32;
        let mut loss = 0.0;
        for i in 0..accum {
            let Batch { inputs, targets, .. } = self.loader.next_batch(batch);
            let micro_batch = if i == 0 { MicroBatch::First } else { MicroBatch::Later };
            loss += self.model.loss_and_grads(
                &self.arenas.params,
                &inputs,
                &targets,
                weight,
                micro_batch,
                &mut self.grads,
            )?;
        }
        let start = Instant::now();
        let grad_norm = global_norm(&self.grads) / f64::from(scale);
        let skipped = !grad_norm.is_finite();
        let lr = self.config.schedule.rate(self.progress.step);
        if skipped {
            self.overflows += 1;
        } else {
            let shrink = if clip > 0.0 && grad_norm > clip { clip / grad_norm } else { 1.0 };
            self.progress.updates += 1;
            self.writer.wait()?;
            self.update(lr as f32, (shrink / f64::from(scale)) as f32);
            self.overflows = 0;
        }
        self.progress.scale.record(!skipped);
        self.progress.step += 1;
        self.progress.tokens += (accum * batch * seq) as u64;
        self.progress.loader = self.loader.cursor().clone();
        self.optimizer_seconds += start.elapsed().as_secs_f64();
        if !skipped {
            self.model.write_weights(&self.arenas.params)?;
        }
        if self.overflows >= PATIENCE {
            return Err(TrainError::Diverged(self.overflows));
        }
        Ok(StepReport { loss: loss / accum as f64, lr, grad_norm, loss_scale: scale, skipped })
    }

    fn update(&mut self, lr: f32, scale: f32) {
        let Pretrain { model, arenas, grads, config, progress, .. } = self;
        let Arenas { params, m, v } = exclusive(arenas);
        for param in model.layout().params() {
            let r = param.range();
            config.optimizer.update(
                progress.updates,
                lr,
                scale,
                param.decays(),
                &mut params[r.clone()],
                &grads[r.clone()],
                &mut m[r.clone()],
                &mut v[r],
            );
        }
    }

    /// Mean loss over (at most) `batches` batches of the validation part, always the same ones.
    ///
    /// # Errors
    /// When the device fails or a token is not of the vocabulary.
    pub fn evaluate(&mut self, batches: usize) -> Result<f64, TrainError> {
        let set = self.loader.validation_batches(self.config.batch, batches.max(1));
        let mut total = 0.0;
        for Batch { inputs, targets, .. } in &set {
            total += self.model.loss(&self.arenas.params, inputs, targets)?;
        }
        let loss = total / set.len() as f64;
        self.progress.val_loss = Some(loss);
        Ok(loss)
    }

    /// A generator for samples: compiled once, for a prompt of up to 64 tokens.
    fn generator<'t>(
        &self,
        tokenizer: &'t Tokenizer,
        max_tokens: usize,
        device: &dyn Device,
    ) -> Result<Generator<'t>, TrainError> {
        let decoder = Decoder::new(
            &self.config.model,
            self.arenas.params.clone(),
            device.least_width(),
            max_tokens + 64,
            device,
            self.numerics,
        )?;
        Ok(Generator::new(decoder, tokenizer)?)
    }

    /// A text begun with `prompt`, drawn at temperature 0.8 with a seed that depends on the step.
    fn sample(
        &self,
        generator: &mut Generator<'_>,
        prompt: &str,
        max_tokens: usize,
    ) -> Result<String, TrainError> {
        generator.decoder().replace_weights(&self.arenas.params)?;
        let (mut text, seed) = (prompt.to_owned(), self.config.seed ^ self.progress.step);
        let emit = |piece: &str| text.push_str(piece);
        generator.generate(prompt, max_tokens, Sampling::default(), seed, emit)?;
        Ok(text)
    }

    fn snapshot(&self, out: &RunOutput<'_>) -> Snapshot {
        let saved = Saved {
            run: self.config.clone(),
            progress: self.progress.clone(),
            extra: out.extra.clone(),
        };
        let config = hugging_face_config(&self.config.model);
        Snapshot {
            step: self.progress.step,
            layout: self.model.layout().clone(),
            arenas: Arc::clone(&self.arenas),
            texts: vec![
                ("config.json", serde_json::to_string_pretty(&config).expect("plain data")),
                ("tokenizer.json", out.tokenizer_json.clone()),
            ],
            state: serde_json::to_value(saved).expect("plain data"),
            directory: out.directory.clone(),
            keep: out.keep,
        }
    }

    /// Runs to the last step (or until `stop` is set), telling `listen` what happens. What `listen`
    /// fails with ends the run at once, before anything else is written. Checkpoints are written while
    /// the next step runs. One is written at the end too, and none of a state whose gradients were just not
    /// finite or whose last validation loss is not: it would push out a good one.
    ///
    /// # Errors
    /// As the parts.
    pub fn run(
        &mut self,
        device: &dyn Device,
        tokenizer: &Tokenizer,
        intervals: Intervals,
        out: &RunOutput<'_>,
        stop: &AtomicBool,
        listen: &mut dyn FnMut(Event) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let total = self.config.schedule.total;
        let begun = self.progress.step;
        let (mut seconds, mut saved_at) = (0.0, None);
        let mut generator = match intervals.sample {
            0 => None,
            _ => Some(self.generator(tokenizer, intervals.sample_tokens, device)?),
        };
        let due = |every: u64, step: u64| every > 0 && step.is_multiple_of(every);
        while self.progress.step < total && !stop.load(Ordering::Relaxed) {
            // What evaluation and samples took is not part of a step.
            self.model.timings.take();
            let start = Instant::now();
            let report = self.step()?;
            let elapsed = start.elapsed().as_secs_f64();
            seconds += elapsed;
            let step = self.progress.step;
            listen(self.step_event(report, elapsed))?;
            for written in self.writer.finished()? {
                listen(checkpoint_event(written))?;
            }
            let last = step == total;
            if due(intervals.eval, step) && !last {
                listen(Event::Eval { step, val_loss: self.evaluate(intervals.eval_batches)? })?;
            }
            if let Some(generator) =
                generator.as_mut().filter(|_| due(intervals.sample, step) && !last)
            {
                let text = self.sample(generator, out.prompt, intervals.sample_tokens)?;
                listen(Event::Sample { step, text })?;
            }
            if due(intervals.checkpoint, step) && !last && self.overflows == 0 {
                self.writer.start(self.snapshot(out))?;
                saved_at = Some(step);
            }
        }
        let step = self.progress.step;
        let mut val_loss = self.evaluate(intervals.eval_batches)?;
        if !val_loss.is_finite() {
            // A device that failed once is not a run that has diverged.
            val_loss = self.evaluate(intervals.eval_batches)?;
        }
        listen(Event::Eval { step, val_loss })?;
        if !val_loss.is_finite() {
            return Err(TrainError::NotFinite { step, val_loss });
        }
        if let Some(generator) = generator.as_mut().filter(|_| step == total) {
            let text = self.sample(generator, out.prompt, intervals.sample_tokens)?;
            listen(Event::Sample { step, text })?;
        }
        self.writer.wait()?;
        for written in self.writer.finished()? {
            listen(checkpoint_event(written))?;
        }
        if saved_at != Some(step) {
            listen(checkpoint_event(self.snapshot(out).write()?))?;
        }
        let done = (step - begun).max(1) as f64;
        let tokens = (self.config.accum * self.config.batch * self.config.seq) as f64;
        listen(Event::Done {
            steps: step,
            val_loss,
            ms_per_step: 1e3 * seconds / done,
            tokens_per_s: if seconds > 0.0 {
                tokens * (step - begun) as f64 / seconds
            } else {
                0.0
            },
        })?;
        Ok(())
    }

    fn step_event(&mut self, report: StepReport, seconds: f64) -> Event {
        let parts = self.model.timings.take().parts();
        let mut parts: BTreeMap<String, f64> =
            parts.into_iter().map(|(name, s)| (name.to_owned(), s * 1e3)).collect();
        parts.insert("optimizer".to_owned(), std::mem::take(&mut self.optimizer_seconds) * 1e3);
        Event::Step {
            step: self.progress.step,
            loss: report.loss,
            lr: report.lr,
            tokens: self.progress.tokens,
            ms: seconds * 1e3,
            grad_norm: report.grad_norm,
            loss_scale: report.loss_scale,
            skipped: report.skipped,
            parts,
        }
    }
}

/// The arenas, which nothing else holds once the writer has ended.
fn exclusive(arenas: &mut Arc<Arenas>) -> &mut Arenas {
    Arc::get_mut(arenas).expect("the writer has ended")
}

fn checkpoint_event(w: Written) -> Event {
    Event::Checkpoint { step: w.step, path: w.path, ms: w.seconds * 1e3 }
}

/// Where a run writes.
#[derive(Debug)]
pub struct RunOutput<'a> {
    /// Directory of checkpoints.
    pub directory: PathBuf,
    /// Checkpoints kept.
    pub keep: usize,
    /// `tokenizer.json` of every checkpoint.
    pub tokenizer_json: String,
    /// What samples begin with.
    pub prompt: &'a str,
    /// Notes of the caller, kept in `state.json`.
    pub extra: serde_json::Value,
}

fn read_saved(checkpoint: &Checkpoint) -> Result<Saved, TrainError> {
    serde_json::from_value(checkpoint.state().clone()).map_err(|e| TrainError::State {
        path: checkpoint.path().to_owned(),
        reason: e.to_string(),
    })
}

fn read_arena(
    checkpoint: &Checkpoint,
    file: &str,
    suffix: &str,
    layout: &Layout,
    arena: &mut [f32],
) -> Result<(), CheckpointError> {
    let mut rest = arena;
    let mut wanted = vec![];
    for p in layout.params() {
        let (part, tail) = rest.split_at_mut(p.count());
        wanted.push((format!("{}{suffix}", p.name), p.shape.clone(), part));
        rest = tail;
    }
    checkpoint.read_tensors(file, wanted)
}
