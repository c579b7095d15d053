//! A run that is ready for its first step, and what its first event tells.

use super::numbers::intervals;
use super::{Notes, Setup};
use crate::machine::Machine;
use crate::plan_choice::with_optimizer;
use crate::progress;
use ane::AneError;
use anyhow::Result;
use clap::ValueEnum;
use gpt::ModelError;
use std::path::Path;
use tokenizer::Tokenizer;
use train::{Event, Forecast, Intervals, Run, RunConfig, Settings, TrainError};

/// Times that a text is seen before a warning is due.
const OFTEN: f64 = 4.0;
/// Times that a small text is seen in the advice.
const ADVISED: f64 = 3.0;

/// A run before its first step.
pub(crate) struct Ready {
    pub(crate) run: Run,
    pub(crate) machine: Machine,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) intervals: Intervals,
    /// The prompt of samples; absent where none are taken.
    pub(crate) prompt: Option<String>,
    /// For `state.json`.
    pub(crate) notes: Notes,
    /// Warnings before the first step.
    pub(crate) warnings: Vec<String>,
    start: Event,
}

impl Ready {
    /// The first event, of a run that writes to `out`.
    pub(crate) fn start_event(&self, out: &Path) -> Event {
        let mut event = self.start.clone();
        if let Event::Start { settings, .. } = &mut event {
            settings.out = out.to_owned();
        }
        event
    }
}

impl Setup {
    /// Compiles the model, and brings a resumed run to where it stood. `faults` are those to inject.
    ///
    /// # Errors
    /// When the device does not take the model, or the checkpoint is of another run.
    pub(crate) fn ready(mut self, faults: Option<&str>) -> Result<Ready> {
        self.machine = self.machine.for_training(faults, self.config.seed)?;
        let mut intervals = intervals(&self.cadence, &self.config);
        let prompt = match intervals.sample {
            0 => None,
            _ => self.choose_prompt()?,
        };
        if prompt.is_none() {
            intervals.sample = 0;
        }
        let vocab_size = self.config.model.vocab_size as u32;
        let run = self.compile()?;
        let unigram_entropy = run.objective().loader().unigram_entropy(vocab_size)?;
        // A loss over another number of batches would not compare with the best so far, and push it out.
        if let Some(best) = run.best() {
            intervals.eval_batches = best.batches;
        }
        let settings = self.settings(intervals, prompt.as_deref())?;
        let start = self.start(&run, unigram_entropy, settings);
        Ok(Ready {
            warnings: self.warnings(),
            notes: self.notes(prompt.as_deref()),
            run,
            machine: self.machine,
            tokenizer: self.texts.tokenizer,
            intervals,
            prompt,
            start,
        })
    }

    /// The prompt of samples, if one can be used.
    fn choose_prompt(&self) -> Result<Option<String>> {
        let loader = self.texts.loader.as_deref().expect("the run is not made yet");
        self.prompt.choose(&self.texts.tokenizer, loader, self.limit())
    }

    /// Tokens that the model reads.
    fn limit(&self) -> usize {
        self.config.model.seq_len
    }

    fn compile(&mut self) -> Result<Run> {
        let (machine, config) = (&self.machine, self.config.clone());
        let extent = format!("--seq {} and --batch {}", config.seq, config.batch);
        let params = std::mem::take(&mut self.params);
        let loader = self.texts.loader.take().expect("a run is made once");
        let device = machine.device.as_ref();
        let mut run = Run::pretrain(config, params, loader, device, machine.numerics)
            .map_err(|error| refused(error, &extent))?;
        run.trainer_mut().multiply_with(self.host_gemm.library.as_ref());
        if let Some(found) = &self.resumed {
            run.resume(found)?;
            if self.judged_anew {
                run.forget_validation();
            }
        }
        Ok(run)
    }

    fn warnings(&self) -> Vec<String> {
        let before = self.host_gemm_before.as_ref();
        let other_products = before.and_then(|before| self.host_gemm.differs(before));
        let epochs = self.texts.epochs(&self.config);
        let shortened = shortened(self.warmup, self.config.schedule.total);
        let small = match &self.config.dial {
            Some(_) if epochs > 1.0 => Some(too_small(&self.config, epochs)),
            _ => too_often(&self.config, epochs),
        };
        let others = [other_products, shortened, small].into_iter().flatten();
        self.dial_warnings.iter().cloned().chain(others).collect()
    }

    /// Returns the notes of a checkpoint.
    fn notes(&self, prompt: Option<&str>) -> Notes {
        let device = self.device.to_possible_value().expect("all are named");
        Notes {
            data: self.texts.data.data.clone(),
            val_data: self.texts.data.val_data.clone(),
            text_field: self.texts.data.field.clone(),
            packing: self.texts.data.packing,
            numerics: format!("{:?}", self.machine.numerics),
            prompt: prompt.unwrap_or_default().to_owned(),
            device: device.get_name().to_owned(),
            chip: self.chip.map(|chip| chip.to_string()),
            host_gemm: self.host_gemm.name(),
            cadence: self.cadence,
            talk: self.talk.clone(),
        }
    }

    fn settings(&self, intervals: Intervals, prompt: Option<&str>) -> Result<Settings> {
        Ok(Settings {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data: self.texts.data.data.clone(),
            val_data: self.texts.data.val_data.clone(),
            tokenizer: self.texts.tokenizer.describe(),
            numerics: format!("{:?}", self.machine.numerics).to_lowercase(),
            prompt: prompt.map(str::to_owned),
            init: self.init.clone(),
            resumed: self.resumed.as_ref().map(|found| found.path().to_owned()),
            epochs: self.texts.epochs(&self.config),
            lr_reason: self.lr_reason.clone(),
            backend: self.machine.kind.id().to_owned(),
            text: self.texts.description.clone(),
            forecast: forecast(&self.machine, &self.config)?,
            run: Some(self.config.clone()),
            intervals: Some(intervals),
            ..Settings::default()
        })
    }

    fn start(&self, run: &Run, unigram_entropy: f64, settings: Settings) -> Event {
        let (config, model) = (&self.config, run.trainer().model());
        let [train_tokens, val_tokens] = self.texts.tokens.map(|tokens| tokens as usize);
        Event::Start {
            device: self.machine.device.describe(),
            reason: self.machine.reason.clone(),
            model: config.model.to_string(),
            params: model.layout().count(),
            tokens_per_step: config.tokens_per_step(),
            train_tokens,
            val_tokens,
            unigram_entropy,
            step: run.step_count(),
            steps: config.schedule.total,
            programs: model.programs(),
            compile_s: model.compile_seconds,
            host_gemm: self.host_gemm.name(),
            host_gemm_reason: self.host_gemm.reason.clone(),
            settings: Box::new(settings),
        }
    }
}

/// A warning where a longer warm-up was asked for than there are steps.
fn shortened(warmup: Option<u64>, steps: u64) -> Option<String> {
    let asked = warmup.filter(|&asked| asked > steps)?;
    Some(format!(
        "--warmup {asked} is longer than the run: the learning rate rises to its peak over all of its \
         {steps} steps"
    ))
}

/// A warning where the text is seen more often than a model learns from.
fn too_often(run: &RunConfig, epochs: f64) -> Option<String> {
    let steps = run.schedule.total;
    let fewer = ((steps as f64 * ADVISED / epochs) as u64).max(1);
    (epochs > OFTEN).then(|| {
        format!(
            "the text is small: all of it will be seen {epochs:.1} times in {steps} steps, and a model \
             may learn it by heart instead of learning from it. More text helps, or --steps {fewer}; \
             the checkpoint with the lowest validation loss is kept as `best`"
        )
    })
}

/// A warning where a text has fewer tokens than the rules of the dial want.
fn too_small(run: &RunConfig, epochs: f64) -> String {
    let steps = run.schedule.total;
    let wanted = steps as f64 * run.tokens_per_step() as f64;
    let fewer = ((steps as f64 * ADVISED.min(epochs) / epochs) as u64).max(1);
    format!(
        "the run is to see {} tokens and the text has {}: all of it will be seen {epochs:.1} times, and a \
         model may learn it by heart. More text helps; --steps {fewer} sees it {:.0} times, a smaller \
         --token-param-ratio less often too",
        progress::count(wanted),
        progress::count(wanted / epochs),
        ADVISED.min(epochs)
    )
}

/// Names what was typed where a device refuses the programs that follow from it.
fn refused(error: TrainError, extent: &str) -> anyhow::Error {
    let of_device = matches!(
        error,
        TrainError::Device(AneError::Refused { .. })
            | TrainError::Model(ModelError::Device(AneError::Refused { .. }))
    );
    let error = anyhow::Error::new(error);
    match of_device {
        true => error.context(format!(
            "the device refuses this model with {extent}; smaller ones may fit, and \
             --device cpu has no such limits"
        )),
        false => error,
    }
}

/// The cost model's forecast of a step, where it knows the chip.
fn forecast(machine: &Machine, run: &RunConfig) -> Result<Option<Forecast>> {
    let Some(on) = machine.device.profile() else { return Ok(None) };
    let step = gpt::forecast::forecast(run.plan, &run.model, run.batch, run.seq, run.accum, &on)?;
    let step = with_optimizer(step, run.optimizer, &run.model, &on);
    let ms = |seconds: f64| 1e3 * seconds;
    Ok(Some(Forecast {
        chip: on.chip.to_string(),
        ms: ms(step.seconds),
        low_ms: ms(step.low),
        high_ms: ms(step.high),
        parts: step.parts().map(|(name, seconds)| (name.to_owned(), ms(seconds))).into(),
    }))
}
