//! The frame of a run: everything but its objective and its data, for every command that trains.

use super::args::MachineArgs;
use super::numbers::{self, Cadence, fits_in_memory};
use super::{RL, SFT, TRAIN};
use crate::files::ModelFile;
use crate::host_gemm::{self, HostGemm, HostGemmChoice};
use crate::machine::{self, DeviceChoice, Machine, NumericsChoice};
use crate::plan_choice::{PlanChoice, work_of};
use crate::usage;
use ane::AneError;
use anyhow::{Context, Result};
use clap::ValueEnum;
use formats::Model;
use formats::hugging_face::files_of;
use gpt::plan::Plan;
use gpt::{Layout, ModelError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;
use train::{
    Checkpoint, Event, Forecast, Intervals, Objective, Run, RunConfig, Settings, Solo, Talks,
    TrainError, Trainer,
};

/// The notes in a checkpoint that every command writes.
#[derive(Serialize, Deserialize)]
pub(super) struct FrameNotes {
    numerics: String,
    /// The device asked for, so that a resumed run computes as it did.
    device: String,
    chip: Option<String>,
    /// The library of the host's products; runs from before there was a choice had our own.
    #[serde(default = "ours")]
    host_gemm: String,
    #[serde(default)]
    cadence: Cadence,
    #[serde(default)]
    pub(super) talk: Talk,
}

/// How the model that a run began with is talked to, which the run keeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Talk {
    /// Tokens that end a text, besides those of the tokenizer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ends: Vec<u32>,
    /// The template of its conversations, in Jinja.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chat_template: Option<String>,
}

impl Talk {
    pub(super) fn of(model: &ModelFile) -> Self {
        Talk { ends: model.ends.clone(), chat_template: model.chat_template.clone() }
    }
}

fn ours() -> String {
    host_gemm::OURS.to_owned()
}

/// A machine, and the names that it was asked for by.
pub(super) struct Opened {
    pub(super) machine: Machine,
    device: DeviceChoice,
    chip: Option<chip::Chip>,
}

impl Opened {
    /// Opens the machine that flags ask for.
    pub(super) fn fresh(args: &MachineArgs) -> Result<Opened> {
        let device = args.device.unwrap_or(DeviceChoice::Auto);
        Opened::open(device, args.chip, args.numerics)
    }

    /// Opens that of a resumed run, unless flags ask for another.
    pub(super) fn again(args: &MachineArgs, notes: &FrameNotes) -> Result<Opened> {
        let noted = DeviceChoice::from_str(&notes.device, true).ok();
        let device = args.device.or(noted).unwrap_or(DeviceChoice::Auto);
        // Another device is asked for without the chip of the one before.
        let noted = notes.chip.as_ref().and_then(|chip| chip.parse().ok());
        let chip = args.chip.or(noted.filter(|_| args.device.is_none()));
        let noted = || NumericsChoice::from_str(&notes.numerics, true).ok();
        Opened::open(device, chip, args.numerics.or_else(noted))
    }

    fn open(
        device: DeviceChoice,
        chip: Option<chip::Chip>,
        numerics: Option<NumericsChoice>,
    ) -> Result<Opened> {
        Ok(Opened { machine: machine::open(device, chip, numerics)?, device, chip })
    }
}

/// A run without objective and data.
pub(super) struct Frame {
    /// The command that makes and resumes it.
    command: &'static str,
    pub(super) config: RunConfig,
    pub(super) lr_reason: String,
    params: Vec<f32>,
    opened: Opened,
    host_gemm: HostGemm,
    /// The library of the host's products in the resumed run.
    host_gemm_before: Option<String>,
    pub(super) cadence: Cadence,
    /// Steps of warm-up that were asked for.
    pub(super) warmup: Option<u64>,
    /// Where existing weights come from.
    pub(super) init: Option<PathBuf>,
    /// The checkpoint to go on from.
    resumed: Option<Checkpoint>,
    talk: Talk,
}

/// What the first event tells of a run's data.
pub(super) struct About {
    pub(super) data: String,
    pub(super) val_data: Option<String>,
    /// One line for people.
    pub(super) text: String,
    /// Tokens to train and to validate.
    pub(super) tokens: [u64; 2],
    pub(super) epochs: f64,
    pub(super) unigram_entropy: f64,
    /// A question of the run, for who wants to see how its model answers.
    pub(super) question: Option<String>,
}

/// A run before its first step.
pub(crate) struct Ready<O> {
    pub(crate) run: Run<O>,
    pub(crate) machine: Machine,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) intervals: Intervals,
    /// The prompt of samples; absent where none are taken.
    pub(crate) prompt: Option<String>,
    /// Conversations with the model.
    pub(crate) talks: Option<Talks>,
    /// The text files of every checkpoint.
    pub(crate) texts: Vec<(&'static str, String)>,
    /// For `state.json`.
    pub(crate) notes: serde_json::Value,
    /// Warnings before the first step.
    pub(crate) warnings: Vec<String>,
    /// The command that resumes it.
    pub(crate) command: &'static str,
    start: Event,
}

impl<O> Ready<O> {
    /// The first event, of a run that writes to `out`.
    pub(crate) fn start_event(&self, out: &Path) -> Event {
        let mut event = self.start.clone();
        if let Event::Start { settings, .. } = &mut event {
            settings.out = out.to_owned();
        }
        event
    }
}

/// The commands that train, each with the entry of a checkpoint's notes that no other one writes.
const COMMANDS: [(&str, &str); 3] = [(TRAIN, "data"), (SFT, "sft"), (RL, "rl")];

/// Reads the settings and the notes of the run that `--resume` found.
///
/// # Errors
/// When the checkpoint is not of a run of `command`.
pub(super) fn saved<N: DeserializeOwned>(
    command: &str,
    found: &Checkpoint,
) -> Result<(RunConfig, N)> {
    let (config, notes) = train::run::saved(found)?;
    let path = found.path().display();
    let maker = COMMANDS.iter().find(|(_, entry)| notes.get(entry).is_some());
    if let Some((maker, _)) = maker.filter(|(maker, _)| *maker != command) {
        let begin = match command {
            TRAIN => "",
            _ => ", or begin a new run from its weights with --model in place of --resume",
        };
        return Err(usage(format!(
            "{path} was written by `anegpt {maker}`, not by `anegpt {command}`: go on with \
             `anegpt {maker} --resume`{begin}"
        )));
    }
    let notes = serde_json::from_value(notes).with_context(|| {
        format!("{path}: the notes are not those of a run of `anegpt {command}`")
    })?;
    Ok((config, notes))
}

/// Refuses to go on with a run that has done its steps.
pub(super) fn check_steps_left(config: &RunConfig, found: &Checkpoint) -> Result<()> {
    match config.schedule.total <= found.step() {
        true => Err(usage(format!(
            "the run has done its {} steps: give --steps N for a longer one (N counts from the beginning)",
            found.step()
        ))),
        false => Ok(()),
    }
}

/// The plan that `choice` is for a run on `machine`.
fn plan(choice: PlanChoice, config: &RunConfig, machine: &Machine) -> Result<&'static Plan> {
    let engine = machine.device.profile().filter(|_| machine.device.overlaps());
    choice.plan(config, engine.as_ref(), &*machine.device)
}

impl Frame {
    /// Returns the frame of a run of `command` that begins with `params` on the machine that was opened by `flags`.
    ///
    /// # Errors
    /// When the plan or the library of the host's products cannot be had.
    pub(super) fn fresh(
        command: &'static str,
        mut config: RunConfig,
        params: Vec<f32>,
        (opened, flags): (Opened, &MachineArgs),
        cadence: Cadence,
        talk: Talk,
    ) -> Result<Frame> {
        config.plan = plan(flags.plan.unwrap_or(PlanChoice::Auto), &config, &opened.machine)?;
        let choice = flags.host_gemm.unwrap_or(HostGemmChoice::Auto);
        let shapes = host_gemm::shapes(&config, opened.machine.numerics);
        Ok(Frame {
            command,
            lr_reason: String::new(),
            params,
            host_gemm: HostGemm::choose(choice, &shapes)?,
            host_gemm_before: None,
            opened,
            config,
            cadence,
            warmup: None,
            init: None,
            resumed: None,
            talk,
        })
    }

    /// Returns the frame of a run that goes on from the checkpoint `found`, as its `notes` say where flags do not.
    ///
    /// # Errors
    /// When its machine cannot be opened, or this one cannot hold it.
    pub(super) fn again(
        command: &'static str,
        mut config: RunConfig,
        (found, notes): (Checkpoint, FrameNotes),
        flags: &MachineArgs,
        cadence: Cadence,
    ) -> Result<Frame> {
        let opened = Opened::again(flags, &notes)?;
        if let Some(choice) = flags.plan {
            config.plan = plan(choice, &config, &opened.machine)?;
        }
        fits_in_memory(&config)?;
        let before = notes.host_gemm;
        let shapes = host_gemm::shapes(&config, opened.machine.numerics);
        Ok(Frame {
            command,
            lr_reason: "as before".to_owned(),
            params: vec![0.0; Layout::new(&config.model).count()],
            host_gemm: HostGemm::resume(flags.host_gemm, &before, &shapes)?,
            host_gemm_before: Some(before),
            opened,
            config,
            cadence: cadence.or(notes.cadence),
            warmup: None,
            init: None,
            resumed: Some(found),
            talk: notes.talk,
        })
    }

    /// Returns how often the run is looked at and saved.
    pub(super) fn intervals(&self) -> Intervals {
        numbers::intervals(&self.cadence, &self.config)
    }

    /// Compiles the model, and brings a resumed run to where it stood. `faults` are those to inject.
    ///
    /// # Errors
    /// When the device does not take the model, or the checkpoint is of another run.
    pub(super) fn compile<O: Objective>(
        mut self,
        faults: Option<&str>,
        objective: O,
    ) -> Result<(Frame, Run<O>)> {
        self.opened.machine = self.opened.machine.for_training(faults, self.config.seed)?;
        let (machine, config) = (&self.opened.machine, &self.config);
        let extent = format!("--seq {} and --batch {}", config.seq, config.batch);
        let (params, optimizer) = (std::mem::take(&mut self.params), config.optimizer.build());
        let (device, numerics) = (machine.device.as_ref(), machine.numerics);
        let trainer = Trainer::new(config, params, optimizer, device, numerics, Box::new(Solo))
            .map_err(|error| refused(error, &extent))?;
        let mut run = Run::new(config.clone(), trainer, objective);
        run.trainer_mut().multiply_with(self.host_gemm.library.as_ref());
        if let Some(found) = &self.resumed {
            run.resume(found)?;
        }
        Ok((self, run))
    }

    /// Returns what is odd about the run, whatever its data.
    pub(super) fn warnings(&self) -> Vec<String> {
        let before = self.host_gemm_before.as_ref();
        let other_products = before.and_then(|before| self.host_gemm.differs(before));
        let shortened = shortened(self.warmup, self.config.schedule.total);
        other_products.into_iter().chain(shortened).collect()
    }

    /// Returns the notes of a checkpoint.
    pub(super) fn notes(&self) -> FrameNotes {
        let device = self.opened.device.to_possible_value().expect("all are named");
        FrameNotes {
            numerics: format!("{:?}", self.opened.machine.numerics),
            device: device.get_name().to_owned(),
            chip: self.opened.chip.map(|chip| chip.to_string()),
            host_gemm: self.host_gemm.name(),
            cadence: self.cadence,
            talk: self.talk.clone(),
        }
    }

    /// Completes a run that was compiled.
    ///
    /// # Errors
    /// When the tokenizer cannot be written, or the cost model fails.
    #[allow(clippy::too_many_arguments, reason = "each is a part of the run")]
    pub(super) fn ready<O: Objective>(
        self,
        run: Run<O>,
        tokenizer: Tokenizer,
        about: About,
        mut intervals: Intervals,
        prompt: Option<String>,
        notes: &impl Serialize,
        warnings: Vec<String>,
    ) -> Result<Ready<O>> {
        // A loss over another number of batches would not compare with the best so far, and push it out.
        if let Some(best) = run.best() {
            intervals.eval_batches = best.batches;
        }
        let model = Model {
            ends: &self.talk.ends,
            chat_template: self.talk.chat_template.as_deref(),
            ..Model::new(&self.config.model).with_tokenizer(&tokenizer)
        };
        let texts = files_of(&model)?;
        let start = self.start(&run, &tokenizer, about, intervals, prompt.as_deref())?;
        let (machine, command) = (self.opened.machine, self.command);
        let notes = serde_json::to_value(notes)?;
        Ok(Ready {
            run,
            machine,
            tokenizer,
            intervals,
            prompt,
            talks: None,
            texts,
            notes,
            warnings,
            command,
            start,
        })
    }

    fn start<O: Objective>(
        &self,
        run: &Run<O>,
        tokenizer: &Tokenizer,
        about: About,
        intervals: Intervals,
        prompt: Option<&str>,
    ) -> Result<Event> {
        let (config, model) = (&self.config, run.trainer().model());
        let machine = &self.opened.machine;
        let [train_tokens, val_tokens] = about.tokens.map(|tokens| tokens as usize);
        let settings = Settings {
            command: self.command.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data: about.data,
            val_data: about.val_data,
            tokenizer: tokenizer.describe(),
            numerics: format!("{:?}", machine.numerics).to_lowercase(),
            prompt: prompt.map(str::to_owned).or(about.question),
            init: self.init.clone(),
            resumed: self.resumed.as_ref().map(|found| found.path().to_owned()),
            epochs: about.epochs,
            lr_reason: self.lr_reason.clone(),
            backend: machine.kind.id().to_owned(),
            text: about.text,
            forecast: forecast(machine, config)?,
            run: Some(config.clone()),
            intervals: Some(intervals),
            ..Settings::default()
        };
        Ok(Event::Start {
            device: machine.device.describe(),
            reason: machine.reason.clone(),
            model: config.model.to_string(),
            params: model.layout().count(),
            tokens_per_step: config.tokens_per_step(),
            train_tokens,
            val_tokens,
            unigram_entropy: about.unigram_entropy,
            step: run.step_count(),
            steps: config.schedule.total,
            programs: model.programs(),
            compile_s: model.compile_seconds,
            host_gemm: self.host_gemm.name(),
            host_gemm_reason: self.host_gemm.reason.clone(),
            settings: Box::new(settings),
        })
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
    let RunConfig { plan, model, batch, seq, accum, optimizer, .. } = run;
    let optimizer = work_of(*optimizer);
    let step = gpt::forecast::forecast(plan, model, *batch, *seq, *accum, &on, &optimizer)?;
    let ms = |seconds: f64| 1e3 * seconds;
    Ok(Some(Forecast {
        chip: on.chip.to_string(),
        ms: ms(step.seconds),
        low_ms: ms(step.low),
        high_ms: ms(step.high),
        parts: step.parts().map(|(name, seconds)| (name.to_owned(), ms(seconds))).into(),
    }))
}
