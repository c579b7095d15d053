//! A training step, by the trainer that trains.

use super::{Effort, random_tokens};
use crate::host_gemm::{self, HostGemm, HostGemmChoice};
use crate::machine::Machine;
use anyhow::Result;
use data::loader::{Loader, LoaderConfig, TokenSource};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use tokenizer::Tokenizer;
use train::{
    Event, Intervals, Reason, Run, RunConfig, RunOutput, Samples, Session, Stop, TrainError,
};

/// The durations of some steps.
#[derive(Clone, Debug, Default)]
pub(super) struct StepTimes {
    /// Milliseconds of every step.
    pub(super) ms: Vec<f64>,
    /// Milliseconds by part, of the same steps.
    pub(super) parts: BTreeMap<String, Vec<f64>>,
    /// Steps left out because a gradient overflowed: they have no update.
    pub(super) skipped: usize,
    /// Compiling all programs.
    pub(super) compile_ms: f64,
    /// The implementation of the products that stay on the CPU: the faster here, as in training.
    pub(super) host_gemm: String,
}

/// A run on random tokens.
#[derive(Debug)]
pub(super) struct Trained {
    run: Run,
    host_gemm: HostGemm,
}

impl Trained {
    pub(super) fn new(config: &RunConfig, machine: &Machine) -> Result<Self> {
        let params = gpt::initialise(&config.model, config.seed);
        let needed = 16 * config.batch * (config.seq + 1);
        let tokens = random_tokens(needed.max(4096), config.model.vocab_size);
        let source = TokenSource::from(tokens);
        let loader = Loader::new(source, LoaderConfig::new(config.seq, config.seed))?;
        let device = machine.device.as_ref();
        let mut run = Run::pretrain(config.clone(), params, loader, device, machine.numerics)?;
        let shapes = host_gemm::shapes(config, machine.numerics);
        let host_gemm = HostGemm::choose(HostGemmChoice::Auto, &shapes)?;
        run.trainer_mut().multiply_with(host_gemm.library.as_ref());
        Ok(Trained { run, host_gemm })
    }

    /// One step.
    pub(super) fn step(&mut self) -> Result<(), TrainError> {
        self.run.step().map(drop)
    }

    pub(super) fn into_params(self) -> Vec<f32> {
        self.run.params().to_vec()
    }

    /// Trains until enough steps are measured; the checkpoint at the end goes to `directory`.
    pub(super) fn measure(
        &mut self,
        effort: &Effort,
        machine: &Machine,
        directory: &Path,
    ) -> Result<StepTimes> {
        let mut times = StepTimes {
            compile_ms: 1e3 * self.run.trainer().model().compile_seconds,
            host_gemm: self.host_gemm.name(),
            ..StepTimes::default()
        };
        let (stop, mut warmup, started) = (Stop::default(), effort.warmup, Instant::now());
        // Three steps at least, however slow: fewer have no median.
        let enough = |measured: u64| {
            let late = !effort.steps_given && started.elapsed() > effort.limit;
            measured >= effort.steps || late && measured >= effort.steps.min(3)
        };
        let tokenizer = Tokenizer::train_char(["a"])?;
        let output = RunOutput {
            directory: directory.to_owned(),
            texts: formats::hugging_face::files(&self.run.config().model, &tokenizer)?,
            extra: serde_json::Value::Null,
            setup_s: 0.0,
        };
        let device = machine.device.as_ref();
        let mut session = Session {
            intervals: ONLY_STEPS,
            output,
            samples: Samples { device, tokenizer: &tokenizer, prompt: "" },
            core: None,
            talks: None,
            stop: &stop,
            hooks: vec![],
        };
        self.run.to_end(&mut session, &mut |event| {
            match event {
                Event::Step { skipped: true, .. } => times.skipped += 1,
                Event::Step { .. } if warmup > 0 => warmup -= 1,
                Event::Step { ms, parts, .. } => {
                    times.ms.push(ms);
                    let known: f64 = parts.values().sum();
                    let other = [("other".to_owned(), (ms - known).max(0.0))];
                    for (name, ms) in parts.into_iter().chain(other) {
                        times.parts.entry(name).or_default().push(ms);
                    }
                }
                _ => {}
            }
            if enough(times.ms.len() as u64) {
                stop.request(Reason::Stopped);
            }
            Ok(())
        })?;
        Ok(times)
    }
}

/// Nothing between steps.
const ONLY_STEPS: Intervals =
    Intervals { eval: 0, eval_batches: 0, sample: 0, sample_tokens: 0, checkpoint: 0, keep: 1 };
