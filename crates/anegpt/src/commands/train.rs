//! `anegpt train`.

use crate::corpus::{self, Corpus};
use crate::host_gemm::{self, HostGemm, HostGemmChoice};
use crate::machine::{self, DeviceChoice, Kind, Machine, NumericsChoice};
use crate::power::RunPower;
use crate::settings::{self, ConfigFile, TrainSection};
use crate::{files, progress, stop, usage};
use ane::doctor::Canary;
use anyhow::{Context, Result};
use clap::ValueEnum;
use data::loader::{Loader, LoaderConfig, Split};
use gpt::forecast::{StepEstimate, forecast};
use gpt::{GptConfig, Layout};
use indicatif::ProgressBar;
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokenizer::Tokenizer;
use train::{
    AdamW, Checkpoint, Event, Intervals, Lock, Pretrain, RunConfig, RunOutput, Schedule, checkpoint,
};

/// Train a GPT.
///
/// Without arguments: learns to tell small stories from built-in data, in a few minutes, on the
/// best device there is. Every run writes checkpoints and can be resumed to the bit; Ctrl-C, SIGTERM
/// (kill, launchd, systemd) and a terminal that is closed make it write one more and end, a second
/// request ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt train                                        a small model, built-in stories
  anegpt train --data shakespeare.txt --tokenizer char
  anegpt train --init stories15M.bin --tokenizer tokenizer.bin --data my-stories/
  anegpt train --config runs/shakespeare.toml         every number your own
  anegpt train --resume out/run-1 --steps 2000        go on, to 2000 steps in all")]
pub(crate) struct Args {
    /// Shape of the model [default: tiny].
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resume", "init"])]
    preset: Option<String>,
    /// TOML file with any of: preset, and the tables model and train.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "preset"])]
    config: Option<PathBuf>,
    /// Go on with the newest checkpoint of a run.
    #[arg(long, value_name = "DIR", conflicts_with = "init")]
    resume: Option<PathBuf>,
    /// Start from existing weights: a llama2.c .bin file or a model directory.
    #[arg(long, value_name = "PATH")]
    init: Option<PathBuf>,
    /// synthetic, a text file, a directory of text, or token files (*.bin) [default: synthetic].
    #[arg(long)]
    data: Option<String>,
    /// bpe, bpe:SIZE, char, or a tokenizer file [default: bpe:2048, or that of --init].
    #[arg(long)]
    tokenizer: Option<String>,
    /// Where to compute [default: auto, or that of the resumed run].
    #[arg(long, value_enum)]
    device: Option<DeviceChoice>,
    /// Chip whose rules the emulator keeps, m1 … m5-max [default: m4, or that of the resumed run].
    #[arg(long)]
    chip: Option<ane::Chip>,
    /// Arithmetic of the emulator [default: fast].
    #[arg(long, value_enum)]
    numerics: Option<NumericsChoice>,
    /// How the model is cut into programs.
    #[arg(long, value_enum, default_value = "baseline")]
    plan: PlanChoice,
    /// Steps of the whole run, resumed or not.
    #[arg(long)]
    steps: Option<u64>,
    /// Largest learning rate.
    #[arg(long)]
    lr: Option<f64>,
    /// Last learning rate [default: a tenth of the largest].
    #[arg(long)]
    min_lr: Option<f64>,
    /// Steps over which the learning rate rises [default: a twentieth of the run].
    #[arg(long)]
    warmup: Option<u64>,
    /// Sequences of a micro-batch.
    #[arg(long)]
    batch: Option<usize>,
    /// Micro-batches of a step.
    #[arg(long)]
    accum: Option<usize>,
    /// Tokens of a sequence.
    #[arg(long)]
    seq: Option<usize>,
    /// Largest norm of the gradients; 0 for no limit.
    #[arg(long)]
    clip: Option<f64>,
    /// Share of each weight removed per step and learning rate.
    #[arg(long)]
    weight_decay: Option<f32>,
    /// Seed of weights, data order and samples.
    #[arg(long)]
    seed: Option<u64>,
    /// Directory of checkpoints [default: the next free out/run-N].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Steps between checkpoints; 0 for one at the end [default: a quarter of the run].
    #[arg(long)]
    checkpoint_every: Option<u64>,
    /// Checkpoints kept.
    #[arg(long, default_value_t = 3)]
    keep: usize,
    /// Steps between validations; 0 for one at the end [default: a tenth of the run].
    #[arg(long)]
    eval_every: Option<u64>,
    /// Steps between samples; 0 for none [default: a fifth of the run].
    #[arg(long)]
    sample_every: Option<u64>,
    /// What samples begin with [default: Once upon a time].
    #[arg(long)]
    prompt: Option<String>,
    /// Steps between questions to the device whose answers are known, besides one before the first step
    /// and one before each checkpoint; a wrong answer ends the run. 0 for none [default: 100 on an engine, 0 on the emulator].
    #[arg(long, value_name = "N", help_heading = "Advanced")]
    doctor_every: Option<u64>,
    /// What computes the products that stay on the CPU [default: auto, or what the resumed run had].
    #[arg(long, value_enum, help_heading = "Advanced")]
    host_gemm: Option<HostGemmChoice>,
    /// human, or json: one event per line on standard output and nothing else.
    #[arg(long, value_enum, default_value = "human")]
    log_format: LogFormat,
    /// Make the device fail on purpose, to see how a run copes: flaky-compile:3,hang-after:100, …
    #[arg(
        long,
        value_name = "SPEC",
        help_heading = "Advanced",
        long_help = format!(
            "Make the device fail on purpose, to see how a run copes. Any of these, separated by \
             commas: {}",
            ane::faults::KNOWN
        )
    )]
    inject_faults: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines and a progress bar.
    Human,
    /// One JSON object per event.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlanChoice {
    /// Six kernels per layer on the engine; weight gradients, norms' gradients and the head on the host.
    Baseline,
}

/// What a checkpoint notes so that `--resume` needs nothing else.
#[derive(serde::Serialize, serde::Deserialize)]
struct Notes {
    data: String,
    numerics: String,
    prompt: String,
    /// What was asked for, so that a resumed run computes as it did.
    device: String,
    chip: Option<String>,
    /// What computed the host's products; runs from before there was a choice had our own.
    #[serde(default = "ours")]
    host_gemm: String,
}

fn ours() -> String {
    host_gemm::OURS.to_owned()
}

impl Notes {
    fn device(&self) -> Option<DeviceChoice> {
        DeviceChoice::from_str(&self.device, true).ok()
    }

    fn chip(&self) -> Option<ane::Chip> {
        self.chip.as_ref()?.parse().ok()
    }
}

/// Everything a run needs.
struct Setup {
    config: RunConfig,
    params: Vec<f32>,
    corpus: Corpus,
    machine: Machine,
    host_gemm: HostGemm,
    /// What computed the host's products of the resumed run.
    host_gemm_before: Option<String>,
    /// What was asked for.
    device: DeviceChoice,
    chip: Option<ane::Chip>,
    data: String,
    prompt: String,
    resumed: Option<Checkpoint>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let named = match output_directory(&args)? {
        Some(out) => Some((Lock::acquire(&out)?, out)),
        None => None,
    };
    if let Some((_, out)) = &named {
        checkpoint::remove_unfinished(out)?;
    }
    let setup = match &args.resume {
        Some(directory) => resumed(&args, directory)?,
        None => fresh(&args)?,
    };
    let Setup {
        config,
        params,
        corpus,
        machine,
        host_gemm,
        host_gemm_before,
        device: device_choice,
        chip,
        data,
        prompt,
        resumed,
    } = setup;
    let machine = machine.for_training(args.inject_faults.as_deref(), config.seed)?;
    let loader_config = LoaderConfig {
        document_start: corpus.tokenizer.bos(),
        ..LoaderConfig::new(config.seq, config.seed)
    };
    let loader = Loader::new(corpus.source.clone(), loader_config)?;
    let entropy = loader.unigram_entropy(config.model.vocab_size as u32)?;
    let mut pretrain =
        Pretrain::new(config, params, loader, machine.device.as_ref(), machine.numerics)?;
    pretrain.multiply_with(host_gemm.library.as_ref());
    if let Some(found) = &resumed {
        pretrain.resume(found)?;
    }
    let (_lock, out) = match named {
        Some(named) => named,
        None => next_free_directory()?,
    };
    let notes = Notes {
        data,
        numerics: format!("{:?}", machine.numerics),
        prompt: prompt.clone(),
        device: device_choice.to_possible_value().expect("all are named").get_name().to_owned(),
        chip: chip.map(|chip| chip.to_string()),
        host_gemm: host_gemm.name(),
    };
    let output = RunOutput {
        directory: out.clone(),
        keep: args.keep,
        tokenizer_json: corpus.tokenizer.to_json()?,
        prompt: &prompt,
        extra: serde_json::to_value(notes)?,
    };
    let intervals = intervals(&args, pretrain.config().schedule.total);
    let mut view = View::new(&args, &out)?;
    view.show(&start_event(&pretrain, &machine, &host_gemm, entropy))?;
    if let Some(message) = host_gemm_before.and_then(|before| host_gemm.differs(&before)) {
        view.show(&Event::Warning { message })?;
    }
    view.describe(&corpus.description, &args, resumed.as_ref());
    let run = pretrain.config();
    match machine.device.profile() {
        Some(on) => {
            let step = forecast(&run.model, run.batch, run.seq, run.accum, &on)?;
            view.forecast(on.chip, step);
        }
        None => view.line("forecast   none: it is for an emulated chip\n"),
    }
    let stop = stop_on_request()?;
    let mut failed = None;
    let (device, tokenizer) = (machine.device.as_ref(), &corpus.tokenizer);
    let total = pretrain.config().schedule.total;
    let tokens_per_step = tokens_per_step(pretrain.config());
    let mut doctor = Doctor::new(&args, &machine, intervals.checkpoint, total)?;
    let mut power = RunPower::open();
    let begun = Instant::now();
    let result = pretrain.run(device, tokenizer, intervals, &output, &stop, &mut |event| {
        let reading = match &event {
            Event::Step { step, .. } => power.after_step(*step, tokens_per_step),
            Event::Done { .. } => power.read(),
            _ => None,
        };
        for event in reading.iter().chain([&event]) {
            if let Err(error) = view.show(event) {
                failed.get_or_insert(error);
                stop.store(true, Ordering::Relaxed);
            }
        }
        match event {
            Event::Step { step, .. } => {
                if let Some(message) = doctor.ask(step)?
                    && let Err(error) = view.show(&Event::Warning { message })
                {
                    failed.get_or_insert(error);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    });
    view.finish();
    result.with_context(|| match checkpoint::exists(&out) {
        true => format!("the run ended; go on with: anegpt train --resume {}", out.display()),
        false => "the run ended before its first checkpoint".to_owned(),
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let drawn = power.summary(begun.elapsed().as_secs_f64());
    view.report(machine.kind, &pretrain, started, entropy, drawn, &out);
    Ok(())
}

fn tokens_per_step(config: &RunConfig) -> usize {
    config.batch * config.accum * config.seq
}

/// Steps between questions to an engine, where nothing else is asked for: a few dispatches every
/// hundred steps are not to be seen in any time.
const ASK_ENGINE_EVERY: u64 = 100;

/// Asks the device between steps whether it is well.
struct Doctor {
    canary: Option<Canary>,
    every: u64,
    checkpoint: u64,
    total: u64,
    emulated: bool,
}

impl Doctor {
    fn new(args: &Args, machine: &Machine, checkpoint: u64, total: u64) -> Result<Self> {
        let default = if machine.emulated() { 0 } else { ASK_ENGINE_EVERY };
        let every = args.doctor_every.unwrap_or(default);
        let mut canary = match every {
            0 => None,
            _ => Some(Canary::new(machine.device.as_ref())?),
        };
        // No step is taken on a device that is sick from the start.
        if let Some(canary) = &mut canary {
            canary.ask()?;
        }
        let emulated = machine.emulated();
        Ok(Doctor { canary, every, checkpoint, total, emulated })
    }

    /// Asks after every so many steps, and where a checkpoint is to be written next: none is kept
    /// of a device that has just given a wrong answer. Gives what is worth a warning: the times of
    /// an emulator are not.
    fn ask(&mut self, step: u64) -> Result<Option<String>, ane::AneError> {
        let saved =
            step == self.total || self.checkpoint > 0 && step.is_multiple_of(self.checkpoint);
        match &mut self.canary {
            Some(canary) if saved || step.is_multiple_of(self.every) => {
                Ok(canary.ask()?.filter(|_| !self.emulated))
            }
            _ => Ok(None),
        }
    }
}

/// The directory to write to, where it is known: that of the resumed run or the one asked for.
fn output_directory(args: &Args) -> Result<Option<PathBuf>> {
    if let (Some(directory), None) = (&args.resume, &args.out) {
        return match directory.join("state.json").exists() {
            true => run_of(directory).map(Some),
            false => Ok(Some(directory.clone())),
        };
    }
    match &args.out {
        Some(out) if args.resume.is_none() && checkpoint::exists(out) => Err(usage(format!(
            "{} already holds a run: go on with --resume {0}, or choose another --out",
            out.display()
        ))),
        out => Ok(out.clone()),
    }
}

/// The directory of the run that a checkpoint belongs to.
fn run_of(checkpoint: &Path) -> Result<PathBuf> {
    let parent = match checkpoint.file_name() {
        Some(_) => checkpoint.parent().map(Path::to_owned),
        // `.` and `..` do not tell by their names where they are.
        None => {
            let place = checkpoint.canonicalize();
            let place = place.with_context(|| format!("cannot find {}", checkpoint.display()))?;
            place.parent().map(Path::to_owned)
        }
    };
    Ok(parent.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from(".")))
}

/// Creates and locks the first out/run-N that does not exist: last thing before the first step, so
/// that requests that cannot be met leave nothing behind, and never that of another run that
/// begins at the same time.
fn next_free_directory() -> Result<(Lock, PathBuf)> {
    std::fs::create_dir_all("out").context("cannot create the directory out")?;
    for n in 1u64.. {
        let path = PathBuf::from(format!("out/run-{n}"));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok((Lock::acquire(&path)?, path)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(e).with_context(|| format!("cannot create {}", path.display()));
            }
        }
    }
    unreachable!("there are more numbers than directories")
}

/// Settings given by flags.
fn flags(args: &Args) -> TrainSection {
    TrainSection {
        steps: args.steps,
        lr: args.lr,
        min_lr: args.min_lr,
        warmup: args.warmup,
        batch: args.batch,
        accum: args.accum,
        seq: args.seq,
        clip: args.clip,
        weight_decay: args.weight_decay,
        seed: args.seed,
        ..TrainSection::default()
    }
}

fn fresh(args: &Args) -> Result<Setup> {
    let file = match &args.config {
        Some(path) => settings::read(path)?,
        None => ConfigFile::default(),
    };
    let preset = args.preset.as_deref().or(file.preset.as_deref()).unwrap_or("tiny");
    let base = GptConfig::preset(preset).map_err(|e| usage(e.to_string()))?;
    let asked = flags(args).or(file.train);
    let train = asked.or(settings::preset_training(preset));
    let seed = train.seed.unwrap_or(42);
    if args.init.is_some() && file.model != settings::ModelSection::default() {
        return Err(usage("the weights of --init have a shape of their own: leave out [model]"));
    }
    let init = args.init.as_deref().map(files::read_model).transpose()?;
    let beside = match &init {
        Some(model) if args.tokenizer.is_none() => {
            let path = model.tokenizer.as_deref().ok_or_else(|| {
                usage("--init weights need the tokenizer they were trained with: give --tokenizer FILE")
            })?;
            Some(Tokenizer::load(path)?)
        }
        _ => None,
    };
    let data = args.data.clone().unwrap_or_else(|| "synthetic".to_owned());
    let corpus = corpus::load(&data, args.tokenizer.as_deref(), beside, seed)?;
    let (model, params) = match init {
        Some(found) => {
            let (have, need) = (corpus.tokenizer.vocab_size(), found.config.vocab_size);
            if have > need {
                return Err(usage(format!(
                    "the tokenizer has {have} tokens but the model {need}: give the tokenizer that \
                     the weights were trained with"
                )));
            }
            (found.config, Some(found.params))
        }
        None => {
            let vocab_size = corpus.tokenizer.vocab_size();
            let model = settings::model(base, &file.model, vocab_size, train.seq)?;
            (model, None)
        }
    };
    if let Some(seq) = asked.seq.filter(|&seq| seq > model.seq_len) {
        return Err(usage(format!(
            "--seq {seq} is longer than the {} tokens that the model reads",
            model.seq_len
        )));
    }
    let config = run_config(model, &train, seed)?;
    fits_in_memory(&config)?;
    let params = params.unwrap_or_else(|| gpt::initialise(&config.model, seed));
    let (device, chip) = (args.device.unwrap_or(DeviceChoice::Auto), args.chip);
    let machine = machine::open(device, chip, args.numerics)?;
    let choice = args.host_gemm.unwrap_or(HostGemmChoice::Auto);
    let host_gemm = HostGemm::choose(choice, &host_gemm::shapes(&config, machine.numerics))?;
    let prompt = args.prompt.clone().unwrap_or_else(|| "Once upon a time".to_owned());
    Ok(Setup {
        config,
        params,
        corpus,
        machine,
        host_gemm,
        host_gemm_before: None,
        device,
        chip,
        data,
        prompt,
        resumed: None,
    })
}

fn resumed(args: &Args, directory: &Path) -> Result<Setup> {
    let (found, faults) = checkpoint::newest(directory)?;
    faults.iter().for_each(|fault| eprintln!("warning: skipped a damaged checkpoint: {fault}"));
    warn_of_later(&found);
    let (config, notes) = Pretrain::saved(&found)?;
    let notes: Notes = serde_json::from_value(notes)
        .with_context(|| format!("{} was not written by `train`", found.path().display()))?;
    for (flag, given) in [
        ("--batch", args.batch.is_some()),
        ("--accum", args.accum.is_some()),
        ("--seq", args.seq.is_some()),
        ("--seed", args.seed.is_some()),
        ("--tokenizer", args.tokenizer.is_some()),
    ] {
        if given {
            return Err(usage(format!("{flag} cannot change in a resumed run: leave it out")));
        }
    }
    let config = with_changes(config, args)?;
    if config.schedule.total <= found.step() {
        return Err(usage(format!(
            "the run has done its {} steps: give --steps N for a longer one (N counts from the beginning)",
            found.step()
        )));
    }
    let tokenizer = Tokenizer::load(found.path().join("tokenizer.json"))?;
    let device = args.device.or(notes.device()).unwrap_or(DeviceChoice::Auto);
    // Another device is asked for without the chip of the one before.
    let chip = args.chip.or(notes.chip().filter(|_| args.device.is_none()));
    let data = args.data.clone().unwrap_or(notes.data);
    let corpus = corpus::load(&data, None, Some(tokenizer), config.seed)?;
    let numerics = args.numerics.or_else(|| NumericsChoice::from_str(&notes.numerics, true).ok());
    let machine = machine::open(device, chip, numerics)?;
    fits_in_memory(&config)?;
    let params = vec![0.0; Layout::new(&config.model).count()];
    let prompt = args.prompt.clone().unwrap_or(notes.prompt);
    let shapes = host_gemm::shapes(&config, machine.numerics);
    let host_gemm = HostGemm::resume(args.host_gemm, &notes.host_gemm, &shapes)?;
    Ok(Setup {
        config,
        params,
        corpus,
        machine,
        host_gemm,
        host_gemm_before: Some(notes.host_gemm),
        device,
        chip,
        data,
        prompt,
        resumed: Some(found),
    })
}

/// Says that a run goes back behind checkpoints that stay where they are.
fn warn_of_later(found: &Checkpoint) {
    let Some(run) = found.path().parent() else { return };
    if let Ok((later, _)) = checkpoint::newest(run)
        && later.step() > found.step()
    {
        eprintln!(
            "warning: {} has step {} too, which stays and is what --resume {0} and --model {0} take \
             until this run has passed it; --out DIR keeps the two apart",
            run.display(),
            later.step()
        );
    }
}

/// The settings of a resumed run, with what its flags change.
fn with_changes(mut config: RunConfig, args: &Args) -> Result<RunConfig> {
    let schedule = &mut config.schedule;
    schedule.total = args.steps.unwrap_or(schedule.total);
    schedule.peak = args.lr.unwrap_or(schedule.peak);
    schedule.floor = args.min_lr.map_or(schedule.floor, |least| least / schedule.peak);
    schedule.warmup = args.warmup.map_or(schedule.warmup, |warmup| warmup.min(schedule.total));
    config.clip = args.clip.unwrap_or(config.clip);
    config.optimizer.weight_decay = args.weight_decay.unwrap_or(config.optimizer.weight_decay);
    check_numbers(&config)?;
    Ok(config)
}

/// Refuses settings with which no step would be right.
fn check_numbers(config: &RunConfig) -> Result<()> {
    let RunConfig { schedule, optimizer, clip, .. } = config;
    if !(schedule.peak.is_finite() && schedule.peak > 0.0) {
        return Err(usage(format!("--lr {} is not a learning rate", schedule.peak)));
    }
    if !(0.0..=1.0).contains(&schedule.floor) {
        return Err(usage("the last learning rate must be between 0 and the largest"));
    }
    if !(clip.is_finite() && *clip >= 0.0) {
        return Err(usage(format!("--clip {clip} is not a norm (0 for no limit)")));
    }
    let decay = optimizer.weight_decay;
    if !(decay >= 0.0 && f64::from(decay) * schedule.peak < 1.0) {
        return Err(usage(format!(
            "--weight-decay {decay} must be at least 0, and below 1 when multiplied by the learning rate"
        )));
    }
    for (name, beta) in [("beta1", optimizer.beta1), ("beta2", optimizer.beta2)] {
        if !(0.0..1.0).contains(&beta) {
            return Err(usage(format!("`{name}` is {beta}: it must be at least 0 and below 1")));
        }
    }
    Ok(())
}

/// Refuses a model that this machine cannot hold: the system would end the program without a word.
/// Counted is what cannot be less: weights, gradients and two moments, all f32, and the residual
/// stream and the logits of a micro-batch.
pub(super) fn fits_in_memory(config: &RunConfig) -> Result<()> {
    let model = &config.model;
    let tokens = config.batch as f64 * config.seq as f64;
    let per_token = (2 * model.n_layer + 3) as f64 * model.n_embd as f64 + model.vocab_size as f64;
    let needed = 16.0 * Layout::new(model).count() as f64 + 4.0 * tokens * per_token;
    let gib = |bytes: f64| bytes / f64::from(1 << 30);
    match progress::memory_bytes() {
        Some(have) if needed > have => Err(usage(format!(
            "training {model} on {} sequences of {} tokens takes at least {:.1} GiB of memory, \
             this machine has {:.1} GiB",
            config.batch,
            config.seq,
            gib(needed),
            gib(have)
        ))),
        _ => Ok(()),
    }
}

pub(super) fn run_config(model: GptConfig, train: &TrainSection, seed: u64) -> Result<RunConfig> {
    let steps = train.steps.unwrap_or(1000);
    let peak = train.lr.unwrap_or(3e-4);
    let positive = |name: &str, value: usize| match value {
        0 => Err(usage(format!("{name} must be at least 1"))),
        n if n > 1 << 20 => Err(usage(format!("{name} {n} is more than any machine holds"))),
        n => Ok(n),
    };
    if steps == 0 {
        return Err(usage("--steps must be at least 1"));
    }
    let floor = train.min_lr.map_or(0.1, |least| least / peak);
    let defaults = AdamW::default();
    let config = RunConfig {
        optimizer: AdamW {
            beta1: train.beta1.unwrap_or(defaults.beta1),
            beta2: train.beta2.unwrap_or(defaults.beta2),
            weight_decay: train.weight_decay.unwrap_or(defaults.weight_decay),
            ..defaults
        },
        schedule: Schedule {
            peak,
            floor,
            warmup: train.warmup.unwrap_or(steps / 20).min(steps),
            total: steps,
        },
        batch: positive("--batch", train.batch.unwrap_or(1))?,
        accum: positive("--accum", train.accum.unwrap_or(1))?,
        seq: positive("--seq", train.seq.unwrap_or(256).min(model.seq_len))?,
        clip: train.clip.unwrap_or(1.0),
        seed,
        model,
    };
    check_numbers(&config)?;
    Ok(config)
}

fn intervals(args: &Args, total: u64) -> Intervals {
    let every = |given: Option<u64>, share: u64| given.unwrap_or((total / share).max(1));
    Intervals {
        eval: every(args.eval_every, 10),
        eval_batches: 20,
        sample: every(args.sample_every, 5),
        sample_tokens: 240,
        checkpoint: every(args.checkpoint_every, 4),
        keep: args.keep,
    }
}

fn stop_on_request() -> Result<Arc<AtomicBool>> {
    let requested = Arc::new(AtomicBool::new(false));
    let flag = requested.clone();
    stop::on_request(move || {
        // The second request does not wait for the checkpoint.
        if flag.swap(true, Ordering::Relaxed) {
            stop::at_once(stop::INTERRUPTED);
        }
    })?;
    Ok(requested)
}

fn start_event(
    pretrain: &Pretrain,
    machine: &Machine,
    host_gemm: &HostGemm,
    unigram_entropy: f64,
) -> Event {
    let config = pretrain.config();
    Event::Start {
        device: machine.device.describe(),
        reason: machine.reason.clone(),
        model: config.model.to_string(),
        params: pretrain.model().layout().count(),
        tokens_per_step: tokens_per_step(config),
        train_tokens: pretrain.loader().tokens(Split::Train) as usize,
        val_tokens: pretrain.loader().tokens(Split::Validation) as usize,
        unigram_entropy,
        step: pretrain.step_count(),
        steps: config.schedule.total,
        programs: pretrain.model().programs(),
        compile_s: pretrain.model().compile_seconds,
        host_gemm: host_gemm.name(),
        host_gemm_reason: host_gemm.reason.clone(),
    }
}

/// What a person (or a program) sees of a run.
struct View {
    format: LogFormat,
    bar: ProgressBar,
    log: std::fs::File,
    started: Instant,
    compile_s: f64,
    tokens_per_step: usize,
    total: u64,
    val_loss: Option<f64>,
    parts: Vec<(String, f64)>,
    ms: f64,
    steps: u64,
    shown: u64,
    forecast: Option<(ane::Chip, StepEstimate)>,
    /// Why a line could not be written.
    unwritten: RefCell<Option<std::io::Error>>,
}

impl View {
    fn new(args: &Args, out: &Path) -> Result<Self> {
        let path = out.join("log.jsonl");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let bar = match args.log_format {
            LogFormat::Human => progress::steps("training", 0),
            LogFormat::Json => ProgressBar::hidden(),
        };
        Ok(View {
            format: args.log_format,
            bar,
            log,
            started: Instant::now(),
            compile_s: 0.0,
            tokens_per_step: 0,
            total: 0,
            val_loss: None,
            parts: vec![],
            ms: 0.0,
            steps: 0,
            shown: 0,
            forecast: None,
            unwritten: RefCell::new(None),
        })
    }

    fn line(&self, text: &str) {
        if self.format == LogFormat::Human {
            let written = self.bar.suspend(|| writeln!(std::io::stdout(), "{text}"));
            if let Err(error) = written {
                self.unwritten.borrow_mut().get_or_insert(error);
            }
        }
    }

    fn describe(&self, data: &str, args: &Args, resumed: Option<&Checkpoint>) {
        self.line(&format!("data       {data}"));
        if let Some(found) = resumed {
            self.line(&format!("resumed    {} at step {}", found.path().display(), found.step()));
        }
        if let Some(init) = &args.init {
            self.line(&format!("weights    {}", init.display()));
        }
    }

    /// What the cost model says of a step on the chip.
    fn forecast(&mut self, chip: ane::Chip, forecast: StepEstimate) {
        let ms = |seconds: f64| 1e3 * seconds;
        self.line(&format!(
            "forecast   {:.1} ms/step ({:.1} to {:.1}) on {chip}, not confirmed on hardware",
            ms(forecast.seconds),
            ms(forecast.low),
            ms(forecast.high)
        ));
        let parts = shares(forecast.parts().into_iter(), forecast.seconds);
        self.line(&format!("           of which {parts}\n"));
        self.forecast = Some((chip, forecast));
    }

    fn show(&mut self, event: &Event) -> Result<()> {
        let json = serde_json::to_string(event)?;
        writeln!(self.log, "{json}").context("cannot write log.jsonl")?;
        if self.format == LogFormat::Json {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{json}")?;
            out.flush()?;
        }
        self.show_human(event);
        // A run ends with a checkpoint when nobody reads any more.
        match self.unwritten.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn show_human(&mut self, event: &Event) {
        match event {
            Event::Start {
                device,
                reason,
                model,
                params,
                tokens_per_step,
                train_tokens,
                val_tokens,
                unigram_entropy,
                step,
                steps,
                programs,
                compile_s,
                host_gemm,
                host_gemm_reason,
            } => {
                (self.compile_s, self.tokens_per_step, self.total) =
                    (*compile_s, *tokens_per_step, *steps);
                self.bar.set_length(*steps);
                self.bar.set_position(*step);
                self.line(&format!("device     {device}"));
                self.line(&format!("           chosen because: {reason}"));
                if !host_gemm_reason.is_empty() {
                    self.line(&format!("host       products: {host_gemm}, {host_gemm_reason}"));
                }
                self.line(&format!(
                    "model      {} parameters: {model}",
                    progress::count(*params as f64)
                ));
                self.line(&format!(
                    "programs   {programs} ready in {:.0} ms, shared by all layers",
                    compile_s * 1e3
                ));
                self.line(&format!(
                    "tokens     {} to train, {} to validate, {tokens_per_step} per step",
                    progress::count(*train_tokens as f64),
                    progress::count(*val_tokens as f64)
                ));
                self.line(&format!("baseline   {unigram_entropy:.4} nats per token, knowing only how often each occurs"));
            }
            Event::Step { step, loss, lr, ms, skipped, parts, .. } => {
                self.show_step(*step, *loss, *lr, *ms, *skipped, parts)
            }
            Event::Eval { step, val_loss } => {
                self.val_loss = Some(*val_loss);
                self.line(&format!("step {step:>6}  validation loss {val_loss:.4}"));
            }
            Event::Sample { text, .. } => self.line(&format!("\n{}\n", indent(text))),
            Event::Checkpoint { path, ms, .. } => {
                self.line(&format!("checkpoint {} ({ms:.0} ms)", path.display()));
            }
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            Event::Power { .. } | Event::Done { .. } => {}
        }
    }

    fn show_step(
        &mut self,
        step: u64,
        loss: f64,
        lr: f64,
        ms: f64,
        skipped: bool,
        parts: &std::collections::BTreeMap<String, f64>,
    ) {
        (self.ms, self.steps) = (self.ms + ms, self.steps + 1);
        if self.parts.is_empty() {
            self.parts = parts.keys().map(|name| (name.clone(), 0.0)).collect();
        }
        self.parts.iter_mut().zip(parts.values()).for_each(|((_, sum), ms)| *sum += ms);
        let speed = 1e3 * self.tokens_per_step as f64 / ms;
        let validation = self.val_loss.map_or(String::new(), |v| format!(" val {v:.3}"));
        self.bar.set_message(format!(
            "loss {loss:.3}{validation} {} tok/s {ms:.0} ms/step",
            progress::count(speed)
        ));
        self.bar.set_position(step);
        let every = (self.total / 20).max(1);
        if skipped {
            self.line(&format!(
                "step {step:>6}  left out: a gradient overflowed, the loss scale is halved"
            ));
        } else if step.is_multiple_of(every) || self.shown == 0 {
            self.shown += 1;
            self.line(&format!(
                "step {step:>6}  loss {loss:.4}  lr {lr:.2e}  {} tok/s  {ms:.0} ms  ({})",
                progress::count(speed),
                shares(parts.iter().map(|(n, v)| (n.as_str(), *v)), ms)
            ));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The efficiency report, and what to type next.
    fn report(
        &self,
        kind: Kind,
        pretrain: &Pretrain,
        started: Instant,
        entropy: f64,
        drawn: Option<(&str, ane::PowerSample, f64)>,
        out: &Path,
    ) {
        if self.format == LogFormat::Json || self.steps == 0 {
            return;
        }
        let (config, wall) = (pretrain.config(), started.elapsed().as_secs_f64());
        let step_s = self.ms / 1e3 / self.steps as f64;
        let flops = config.accum as f64 * config.model.step_flops(config.batch, config.seq);
        let part = |name: &str| self.parts.iter().find(|p| p.0 == name).map_or(0.0, |p| p.1 / 1e3);
        let engine_s = (part("engine_fwd") + part("engine_bwd")) / self.steps as f64;
        let engine = config.accum as f64 * engine_flops(config);
        println!("=== Efficiency Report ===");
        println!("Total steps:     {}", pretrain.step_count());
        println!("Wall time:       {:.0} ms ({:.1} s)", wall * 1e3, wall);
        println!(
            "Compile time:    {:.0} ms ({:.1}%)",
            self.compile_s * 1e3,
            100.0 * self.compile_s / wall
        );
        println!("Train time:      {:.0} ms ({:.1}%)", self.ms, 100.0 * self.ms / 1e3 / wall);
        println!(
            "Avg train:       {:.1} ms/step ({})",
            step_s * 1e3,
            shares(self.parts.iter().map(|(n, v)| (n.as_str(), *v)), self.ms)
        );
        println!(
            "Throughput:      {} tokens/s",
            progress::count(self.tokens_per_step as f64 / step_s)
        );
        println!(
            "Engine TFLOPS:   {:.3} sustained by {}",
            engine / engine_s.max(1e-9) / 1e12,
            kind.name()
        );
        println!("Total TFLOPS:    {:.3} (engine + host)", flops / step_s / 1e12);
        if let Some((chip, e)) = &self.forecast {
            println!(
                "Forecast:        {:.1} ms/step ({:.1} to {:.1}) on {chip}, {:.1} of them on the engine; \
                 not confirmed on hardware",
                1e3 * e.seconds,
                1e3 * e.low,
                1e3 * e.high,
                1e3 * (e.engine_forward + e.engine_backward)
            );
        }
        println!(
            "ANE utilization: {}",
            match kind {
                Kind::Engine => format!(
                    "{:.1}% of a step in requests; the engine's own counters are not read",
                    100.0 * engine_s / step_s
                ),
                _ => "not measured: no Neural Engine was used".to_owned(),
            }
        );
        if let Some(mib) = progress::peak_memory_mib() {
            println!("Peak memory:     {mib:.0} MiB");
        }
        if let Some((source, mean, per_token)) = drawn {
            println!("Power:           {mean} (mean of the whole machine, by {source})");
            println!(
                "Energy:          {} per token, evaluation and samples included",
                joules(per_token)
            );
        }
        let val = pretrain.val_loss().unwrap_or(f64::NAN);
        println!("Validation loss: {val:.4} nats per token; the unigram baseline is {entropy:.4}");
        println!("Wall since the first step: {:.1} s", self.started.elapsed().as_secs_f64());
        println!("\nNext: anegpt generate --model {} --prompt \"Once upon a time\"", out.display());
    }
}

/// Floating-point operations of one micro-batch that the engine does: forward and input gradients
/// of the layers' projections (4 per weight and token) and attention's products.
fn engine_flops(config: &RunConfig) -> f64 {
    let c = &config.model;
    let layer = c.n_embd * (2 * c.q_dim() + 2 * c.kv_dim() + 3 * c.hidden);
    let tokens = (config.batch * config.seq) as f64;
    let scores = 12.0 * (c.q_dim() * config.seq) as f64;
    c.n_layer as f64 * tokens * (4.0 * layer as f64 + scores)
}

/// Joules with three digits and a unit.
fn joules(joules: f64) -> String {
    match joules {
        j if j >= 1.0 => format!("{j:.2} J"),
        j if j >= 1e-3 => format!("{:.2} mJ", 1e3 * j),
        j => format!("{:.2} µJ", 1e6 * j),
    }
}

/// Parts of a time in percent, largest first, those below 1 % left out.
fn shares<'a>(parts: impl Iterator<Item = (&'a str, f64)>, total: f64) -> String {
    let mut parts: Vec<(&str, f64)> = parts.map(|(n, v)| (n, 100.0 * v / total)).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shown: Vec<String> =
        parts.iter().filter(|p| p.1 >= 1.0).map(|(n, v)| format!("{n} {v:.0}%")).collect();
    shown.join(", ")
}

/// A text as a block of lines of at most 90 characters.
fn indent(text: &str) -> String {
    let mut lines = vec![];
    for paragraph in text.trim().lines() {
        let mut line = String::from("  │");
        for word in paragraph.split(' ') {
            if line.chars().count() + word.chars().count() > 90 {
                lines.push(std::mem::replace(&mut line, String::from("  │")));
            }
            line.push(' ');
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.join("\n")
}
