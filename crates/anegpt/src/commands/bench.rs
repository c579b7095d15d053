//! `anegpt bench`: how fast this machine trains and generates, beside what it could do at most.

mod figures;
mod host;
mod peaks;
mod plot;
mod products;
mod report;
mod scaling;
mod spread;
mod step;
mod tasks;
mod text;
mod work;

use crate::engine::EngineArgs;
use crate::machine::{self, DeviceChoice, NumericsChoice};
use crate::settings::{self, ConfigFile, TrainSection, Weights};
use crate::setup::{self, Base, ShapeArgs};
use crate::{files, number, progress, stop, usage};

use anyhow::{Context, Result};
use clap::ValueEnum;
use report::Report;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use train::RunConfig;

/// Measure this machine: peaks, training step by part, generation
///
/// First the peaks: multiply-adds in registers (GFLOP/s) and words streamed through
/// memory (GB/s), on one thread and on all. Then the real code, each figure beside the
/// peak that bounds it. Matrix products can reach 80 to 95 % of the multiply-add peak,
/// and the optimizer as much of the memory's; what is far below waits for something
/// else. Times are medians of several rounds, with the minimum and the 90th percentile;
/// a 90th percentile far above the median means that something disturbed the
/// measurement.
///
/// Nothing is downloaded, tokens are random, and files other than those of --json and
/// --plot go to a temporary directory, which is removed.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("hardware_time", |arg| arg.hide(true)),
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{PARTS}")
)]
pub(crate) struct Args {
    /// Model size (list: anegpt help train) [default: tiny]
    #[arg(long, value_name = "NAME", conflicts_with = "config", help_heading = "Model")]
    preset: Option<String>,
    /// Configuration file (TOML), as for train
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    config: Option<PathBuf>,
    /// Where to compute
    #[arg(long, value_enum, default_value = "auto", help_heading = "Device")]
    device: DeviceChoice,
    /// Chip to emulate (list: anegpt devices) [default: m4]
    #[arg(long, help_heading = "Device")]
    chip: Option<chip::Chip>,
    /// Arithmetic of the emulator [default: fast; on the CPU, f32]
    #[arg(long, value_enum, help_heading = "Device")]
    numerics: Option<NumericsChoice>,
    /// Sequence length in tokens [default: 256]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1usize))]
    seq: Option<usize>,
    /// Sequences per micro-batch [default: by model size; 4 for tiny]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1usize))]
    batch: Option<usize>,
    /// Gradient accumulation: micro-batches per step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1usize))]
    accum: Option<usize>,
    /// Steps to measure, after 3 of warm-up [default: as many as fit in 5 s, up to 30]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1u64))]
    steps: Option<u64>,
    /// Measure only these parts, separated by commas, besides the peaks
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART", help_heading = "Output")]
    only: Vec<Measurement>,
    /// Directory for the checkpoint that is measured [default: the system's for
    /// temporary files]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    scratch: Option<PathBuf>,
    /// Write the figures as JSON to FILE; - = standard output, and nothing else
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    json: Option<PathBuf>,
    /// Draw the parts of a step, and where they lie below the peaks, as SVG
    #[arg(long, value_name = "FILE.svg", help_heading = "Output")]
    plot: Option<PathBuf>,
    /// One short round of everything, to see that it works: figures mean little
    #[arg(long, help_heading = "Output")]
    quick: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  anegpt bench                                     the small model, about 20 s
  anegpt bench --preset stories110m --batch 1 --seq 256
  anegpt bench --json bench.json --plot bench.svg  keep and draw the figures
  anegpt bench --only step,scaling --device cpu    some parts, single precision";

const PARTS: &str = "\
Parts of a step (anegpt train -v shows them too):
  engine_fwd   forward programs of all layers, on the device
  engine_bwd   their backward programs: gradients of activations
  dw           matrix products for the gradients of weights, on the CPU
  head         last norm, classifier, loss and their gradients, on the CPU
  optimizer    gradient norm, clipping, update
  io           activations and weights between CPU and device
  elementwise  embedding, gradients of norms
  other        the rest of the step

The bytes of a part are those that must move if each input is read and each
result written once. Floating-point operations are those of matrix products, two
for each multiply-add.";

/// The measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// A training step by part, and its matrix products alone
    Step,
    /// The step on 1, 2, 4 ... threads, up to all
    Scaling,
    /// Prompt and new tokens per second
    Generation,
    /// Text to tokens
    Tokenizer,
    /// Writing a checkpoint, beside a plain write of as many bytes
    Checkpoint,
}

/// The counter of the progress line.
const STAGES: u64 = 7;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Rounds of what takes no matter how long.
    rounds: usize,
    /// Of one round of a ceiling: so short that some rounds go by undisturbed.
    span: Duration,
    /// Rounds of the ceilings each time that they are measured.
    ceiling_rounds: usize,
    /// Bytes of each array that is streamed.
    stream_bytes: usize,
    /// After which no further step or round begins.
    limit: Duration,
    warmup: u64,
    /// Most steps that are measured.
    steps: u64,
    /// True if `steps` was asked for, so that `limit` does not apply to them.
    steps_given: bool,
    /// Bytes of text that are encoded.
    text_bytes: usize,
    /// Tokens that are generated.
    tokens: usize,
}

impl Effort {
    fn new(args: &Args) -> Self {
        let usual = Effort {
            rounds: 9,
            span: Duration::from_millis(4),
            ceiling_rounds: 40,
            // No more than a small machine can spare.
            stream_bytes: crate::memory::bytes()
                .map_or(128 << 20, |have| (have as usize / 32).min(128 << 20)),
            limit: Duration::from_secs(5),
            warmup: 3,
            steps: args.steps.unwrap_or(30),
            steps_given: args.steps.is_some(),
            text_bytes: 2_000_000,
            tokens: 64,
        };
        match args.quick {
            false => usual,
            true => Effort {
                rounds: 1,
                span: Duration::from_millis(1),
                ceiling_rounds: 1,
                stream_bytes: 4 << 20,
                limit: Duration::ZERO,
                warmup: 1,
                steps: args.steps.unwrap_or(1),
                text_bytes: 50_000,
                tokens: 4,
                ..usual
            },
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let json = args.json.iter().filter(|path| path.as_os_str() != "-");
    for (flag, path) in
        json.map(|path| ("--json", path)).chain(args.plot.iter().map(|path| ("--plot", path)))
    {
        files::check_output(flag, path)?;
    }
    let effort = Effort::new(args);
    let (name, config) = run_config(args)?;
    setup::fits_in_memory(&config)?;
    let machine = machine::open(args.device, args.chip, args.numerics)?;
    let scratch = temporary_directory(args.scratch.as_deref())?;
    remove_on_request(scratch.path())?;
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let bar = progress::stages("measuring", STAGES);
    let stage = |what: &str| {
        bar.inc(1);
        bar.set_message(what.to_owned());
    };

    let load = host::Load::begin();
    let mut meter = peaks::Meter::new(&effort);
    let steps = work::steps(&config, machine.numerics)?;
    let flops: f64 = steps.iter().map(|step| step.work.flops()).sum();
    let gflop_per_step = config.accum as f64 * flops / 1e9;
    let mut found = Measured { gflop_per_step, ..Measured::default() };
    stage("multiply-adds and memory");
    meter.measure();
    let params = if wanted(Measurement::Step) || wanted(Measurement::Scaling) {
        stage("training step");
        let mut trained = step::Trained::new(&config, &machine)?;
        if wanted(Measurement::Step) {
            let watched = host::forget_peak_memory();
            let times = trained.measure(&effort, &machine, &scratch.path().join("run"))?;
            found.step_memory_mib = crate::memory::peak_mib().filter(|_| watched);
            found.step = Some((times, work::of_step(&config, machine.numerics)?));
            stage("matrix products of the step");
            found.products = products::measure(&config, &machine, &effort)?;
            meter.measure();
        }
        if wanted(Measurement::Scaling) {
            stage("training step on fewer threads");
            found.scaling = scaling::measure(&mut trained, &effort)?;
        }
        trained.into_params()
    } else {
        gpt::initialise(&config.model, config.seed)
    };
    if wanted(Measurement::Generation) {
        stage("generation");
        found.generation = tasks::generation(&config.model, &params, &machine, &effort)?;
    }
    if wanted(Measurement::Tokenizer) {
        stage("tokenizer");
        found.tokenizer = Some(tasks::tokenizer(&effort)?);
    }
    if wanted(Measurement::Checkpoint) {
        stage("checkpoint");
        match tasks::checkpoint(&config.model, &params, scratch.path(), &effort) {
            Ok(checkpoint) => found.checkpoint = Some(checkpoint),
            // A full disk spoils one figure, not those that are known by now.
            Err(error) => found.warnings.push(format!("checkpoints not measured: {error:#}")),
        }
    }
    meter.measure();
    if args.quick {
        found.warnings.push("one short round of everything: figures mean little".to_owned());
    }
    found.others_cores = load.end();
    found.seconds = started.elapsed().as_secs_f64();
    let report = Report::new(&name, &config, &machine, meter.peaks(), found);
    bar.finish_and_clear();
    deliver(args, &report)
}

/// The measurements, before they are held against the ceilings.
#[derive(Default)]
struct Measured {
    /// In the products of a step.
    gflop_per_step: f64,
    step: Option<(step::StepTimes, BTreeMap<&'static str, work::Work>)>,
    /// Most memory held while training, the model included.
    step_memory_mib: Option<f64>,
    products: Vec<products::MeasuredProduct>,
    scaling: Vec<scaling::Threads>,
    generation: Vec<tasks::Generation>,
    tokenizer: Option<tasks::Encoding>,
    checkpoint: Option<tasks::CheckpointWrite>,
    others_cores: Option<f64>,
    warnings: Vec<String>,
    seconds: f64,
}

/// Text, JSON and picture, as far as they are asked for.
fn deliver(args: &Args, report: &Report) -> Result<()> {
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.plot {
        write(path, &plot::svg(report))?;
    }
    let json = serde_json::to_string_pretty(report)?;
    match &args.json {
        Some(path) if path.as_os_str() == "-" => {
            println!("{json}");
            return Ok(());
        }
        Some(path) => write(path, &format!("{json}\n"))?,
        None => {}
    }
    print!("{}", text::text(report));
    for path in args.json.iter().chain(&args.plot) {
        println!("written    {}", path.display());
    }
    Ok(())
}

/// Name of the model and settings of the run.
fn run_config(args: &Args) -> Result<(String, RunConfig)> {
    let mut file = match &args.config {
        Some(path) => settings::read(path)?,
        None => ConfigFile::default(),
    };
    ShapeArgs::default().onto(&mut file, args.preset.as_deref());
    let base = Base::new(&file, args.seq.or(file.train.seq))?;
    if args.steps == Some(0) {
        return Err(usage("--steps must be at least 1"));
    }
    let vocab_size = base.config.vocab_size;
    let given = TrainSection { seq: args.seq.or(file.train.seq), ..file.train };
    let model = settings::model(base.config, &file.model, vocab_size, given.seq)?;
    let TrainSection { batch, accum, seq, .. } =
        settings::suited(&model, &given, Weights::Fresh).settings;
    let asked = TrainSection {
        batch: args.batch.or(batch),
        accum: args.accum.or(accum),
        seq,
        optimizer: file.train.optimizer,
        // No run gets there: it ends when enough is measured.
        steps: Some(1 << 40),
        warmup: Some(0),
        lr: Some(1e-4),
        ..TrainSection::default()
    };
    let config = setup::run_config(model, &asked, 1)?;
    let name = match &args.config {
        Some(path) => path.display().to_string(),
        None => file.preset.unwrap_or_else(|| "tiny".to_owned()),
    };
    Ok((name, config))
}

/// A directory that is removed when it is dropped.
fn temporary_directory(parent: Option<&Path>) -> Result<tempfile::TempDir> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    tempfile::Builder::new()
        .prefix("anegpt-bench-")
        .tempdir_in(&parent)
        .with_context(|| format!("cannot create a directory in {}", parent.display()))
}

/// Ends the program when it is asked to stop, without leaving gigabytes behind.
fn remove_on_request(directory: &Path) -> Result<()> {
    let directory = directory.to_owned();
    stop::on_request(move |signal| {
        // What is being written at this moment may come back once.
        for _ in 0..2 {
            let _ = std::fs::remove_dir_all(&directory);
        }
        stop::at_once(signal.exit_code());
    })
}

/// Random token ids, the same ones every time: what they are makes no difference to speed.
fn random_tokens(count: usize, vocab_size: usize) -> Vec<u32> {
    let random = |place: u64| data::mix::mix(place.wrapping_mul(data::mix::GOLDEN));
    (0..count as u64).map(|place| (random(place) % vocab_size as u64) as u32).collect()
}
