//! `anegpt plan`: how a model is cut into programs, and what a step of it would take on a chip.

mod programs;
mod whole;

use crate::plan_choice::{PlanChoice, PlanParser, work_of};
use crate::progress::counted;
use crate::settings::{self, ConfigFile, OptimizerChoice, TrainSection, Weights};
use crate::setup::{self, Base, BudgetArgs, ShapeArgs};
use crate::timeline as picture;
use crate::{files, memory, number, term, usage};
use anyhow::{Context, Result, ensure};
use chip::{Chip, Os, Profile};
use gpt::block::Memory;
use gpt::forecast::{StepEstimate, timeline};
use gpt::plan::{Joined, Plan, Programs};
use gpt::planner::{self, Candidate, SURE_INPUTS, candidates};
use gpt::{Dims, Layout};
use mil::{DType, Program};
use programs::Row;
use std::path::{Path, PathBuf};
use train::RunConfig;
use whole::Whole;

/// Show the programs of a model and forecast its training
///
/// Nothing is trained. Forecasts come from the cost model and are not confirmed on
/// hardware. A plan that the chip refuses has no forecast, and the exit code is 1. With
/// --depth, also what the whole run takes: parameters by kind, tokens, steps,
/// operations, memory, and time on every chip.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt plan --preset stories110m --chip m4-pro
  anegpt plan --depth 12                              a nanochat from end to end
  anegpt plan --preset stories110m --timeline step.svg   both lanes, drawn
  anegpt plan --preset qwen3-0.6b --chip m5-max --write programs/")]
pub(crate) struct Args {
    /// Model size (list: anegpt help train) [default: tiny]
    #[arg(long, value_name = "NAME", conflicts_with = "config", help_heading = "Model")]
    preset: Option<String>,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Tokens of the vocabulary [default: the preset's; 32768 with --depth]
    #[arg(long, value_name = "N", help_heading = "Model")]
    #[arg(value_parser = number::whole(1usize))]
    vocab_size: Option<usize>,
    /// Configuration file (TOML), as for train
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    config: Option<PathBuf>,
    /// Chip to forecast (list: anegpt devices)
    #[arg(long, default_value = "m4", help_heading = "Device")]
    chip: Chip,
    /// Its system: macos15 or macos26
    #[arg(long, default_value = "macos15", help_heading = "Device")]
    os: Os,
    /// Memory that a micro-batch is chosen for with --depth, in GiB [default: this machine's]
    #[arg(long, value_name = "GIB", help_heading = "Device")]
    memory: Option<f64>,
    /// Sequences per micro-batch [default: by model size; 4 for tiny]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1usize))]
    batch: Option<usize>,
    /// Gradient accumulation: micro-batches per step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1usize))]
    accum: Option<usize>,
    /// Sequence length in tokens [default: 256; 2048 with --depth]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1usize))]
    seq: Option<usize>,
    /// Steps of the run [default: by model size; with --depth by its rules]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1u64))]
    steps: Option<u64>,
    #[command(flatten)]
    budget: BudgetArgs,
    /// Optimizer [default: adamw; muon with --depth]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Step")]
    optimizer: Option<OptimizerChoice>,
    /// How the model is split into programs; auto: the cheapest by forecast that the chip
    /// accepts
    #[arg(long, value_parser = PlanParser, default_value = "auto")]
    #[arg(help_heading = "Device")]
    plan: PlanChoice,
    /// Draw a micro-batch on the clock, engine and CPU on a lane each, as SVG
    #[arg(long, value_name = "FILE", alias = "draw", help_heading = "Output")]
    timeline: Option<PathBuf>,
    /// Write each program to DIR, as NAME.mil
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    write: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Args {
    /// The memory that was asked for.
    fn memory_bytes(&self) -> Option<f64> {
        self.memory.map(|gib| gib * GIB)
    }
}

const GIB: f64 = (1 << 30) as f64;

/// A warning where a step takes more memory than there is.
fn too_large(run: &RunConfig, bytes: f64, memory: Option<f64>) -> Option<String> {
    let have = memory.filter(|&have| run.dial.is_some() && bytes > have)?;
    Some(format!(
        "a micro-batch of {} × {} tokens takes {:.1} GiB and the memory is {:.1} GiB: a smaller --batch, --seq or \
         --depth takes less",
        run.batch,
        run.seq,
        bytes / GIB,
        have / GIB
    ))
}

/// A run as it would be, and what its rules warn of.
struct Planned {
    run: RunConfig,
    name: Option<String>,
    warnings: Vec<String>,
}

/// The run that `args` describe.
fn planned(args: &Args, profile: &Profile) -> Result<Planned> {
    let mut file = match &args.config {
        Some(path) => settings::read(path)?,
        None => ConfigFile::default(),
    };
    args.shape.onto(&mut file, args.preset.as_deref());
    let asked = TrainSection {
        steps: args.steps,
        batch: args.batch,
        accum: args.accum,
        seq: args.seq,
        optimizer: args.optimizer,
        token_param_ratio: args.budget.token_param_ratio,
        batch_tokens: args.budget.batch_tokens,
        target_flops: args.budget.target_flops,
        ..TrainSection::default()
    };
    let asked = asked.or(file.train);
    let base = Base::new(&file, asked.seq)?;
    setup::refuse_without_dial(&base, &asked)?;
    let vocab_size = args.vocab_size.unwrap_or(base.config.vocab_size);
    let model = settings::model(base.config, &file.model, vocab_size, asked.seq)?;
    let (run, warnings) = match base.depth.filter(|_| base.dial) {
        Some(depth) => {
            let (run, turned) =
                setup::by_depth(&depth, model, &asked, args.memory_bytes(), Some(profile))?;
            (run, turned.warnings)
        }
        None => {
            let settings = settings::suited(&model, &asked, Weights::Fresh).settings;
            (setup::run_config(model, &settings, 42)?, vec![])
        }
    };
    let preset = || file.preset.clone().unwrap_or_else(|| "tiny".to_owned());
    let name = (args.config.is_none() && !base.dial).then(preset);
    Ok(Planned { run, name, warnings })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    args.timeline.iter().try_for_each(|file| files::check_output("--timeline", file))?;
    let profile = Profile { chip: args.chip, os: args.os, ..Profile::default() };
    if let Some(memory) = args.memory.filter(|gib| !(gib.is_finite() && *gib > 0.0)) {
        return Err(usage(format!("--memory {memory} must be a number above 0")));
    }
    let mut planned = planned(args, &profile)?;
    let run = &planned.run;
    let RunConfig { batch, seq, accum, .. } = *run;
    let mut all = candidates(&run.model, batch, seq, accum, &profile, &work_of(run.optimizer))?;
    let dims = Dims { config: &run.model, batch, seq, dtype: DType::Fp16 };
    let auto = planner::choice(&all);
    let chosen = match args.plan {
        PlanChoice::Auto => 0,
        PlanChoice::Named(plan) => {
            let known = all.iter().position(|candidate| candidate.plan == plan);
            // A variant that is not the cheapest, or a plan that cannot train this model: the error says why.
            let place = known.unwrap_or(all.len());
            if known.is_none() {
                all.push(priced(plan, run, &profile)?);
            }
            place
        }
    };
    let chosen = &all[chosen];
    let programs = Programs::new(chosen.plan, &dims, Memory::Sequence)?;
    if let Some(directory) = &args.write {
        write(&programs, directory)?;
    }
    if let Some(file) = &args.timeline {
        draw(file, chosen, run, &profile)?;
    }
    let chips = if run.dial.is_some() { &Chip::ALL[..] } else { &[args.chip] };
    let whole = Whole::new(run, chosen.plan, &profile, chips)?;
    let memory = args.memory_bytes().or_else(memory::bytes);
    planned.warnings.extend(too_large(run, whole.bytes(), memory));
    planned.warnings.extend(many_inputs(chosen));
    let rows: Vec<Row> = programs.engine().map(|f| Row::new(f, &profile)).collect();
    if args.json {
        println!("{}", json(args, &planned, &rows, &all, chosen, &profile, &whole));
        return accepted(chosen, &profile);
    }
    heading(run, chosen, &programs, &profile);
    if run.dial.is_some() {
        println!("{}\n{}\n{}", whole.parameters(), whole.horizon(), whole.memory());
    }
    println!("{}{}", programs::table(&rows), notes(run));
    println!("{}", listed(&all, chosen));
    label("auto", &auto);
    if chosen.refused.is_empty() {
        step(chosen, &profile);
        if run.dial.is_some() {
            println!("\n{}", whole.times().trim_end());
        }
    }
    for warning in &planned.warnings {
        println!("\n{}", term::labelled("warning", warning));
    }
    if !planned.warnings.is_empty() {
        println!("\nFlags named in warnings are those of anegpt train.");
    }
    if let Some(file) = &args.timeline {
        println!("\ndrawn in {}", file.display());
    }
    if let Some(directory) = &args.write {
        println!("\nprograms written to {}", directory.display());
    }
    accepted(chosen, &profile)
}

/// A step of `run` by `plan`.
fn priced(plan: &'static Plan, run: &RunConfig, profile: &Profile) -> Result<Candidate> {
    let RunConfig { batch, seq, accum, .. } = *run;
    let dims = Dims { config: &run.model, batch, seq, dtype: DType::Fp16 };
    Ok(planner::candidate(plan, &dims, accum, profile, &work_of(run.optimizer))?)
}

/// Fails if the chip refuses a program of the plan.
fn accepted(chosen: &Candidate, profile: &Profile) -> Result<()> {
    ensure!(
        chosen.refused.is_empty(),
        "{} does not run plan {}, so there is no forecast: it refuses {} ({}). A smaller --batch or --seq, or \
         another --plan, may fit; `anegpt plan --write DIR`, then `anegpt mil check DIR/NAME.mil`, tells the rules",
        profile.chip,
        chosen.plan.name,
        counted(chosen.refused.len(), "program"),
        chosen.refused.join(", ")
    );
    Ok(())
}

/// Milliseconds of a step, of a plan that the chip runs.
fn forecast_ms(plan: &Candidate) -> Option<f64> {
    plan.refused.is_empty().then_some(1e3 * plan.step.seconds)
}

fn label(label: &str, text: &str) {
    println!("{}", term::labelled(label, text));
}

/// Writes every program of the engine to a file in `directory`.
fn write(programs: &Programs, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    for f in programs.engine() {
        let path = directory.join(format!("{}.mil", f.name));
        std::fs::write(&path, Program::new(f.clone()).to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn draw(file: &Path, chosen: &Candidate, run: &RunConfig, profile: &Profile) -> Result<()> {
    let RunConfig { model, batch, seq, .. } = run;
    let optimizer = work_of(run.optimizer);
    let steps = |update| timeline(chosen.plan, model, *batch, *seq, profile, update);
    let first = steps(Some(&optimizer))?;
    let other = if run.accum > 1 { steps(None)? } else { vec![] };
    let title = format!(
        "Plan {} on {}: forecast, not confirmed on hardware",
        chosen.plan.name,
        profile.described()
    );
    picture::draw(file, &title, &picture::subtitle(model, *batch, *seq), [&first, &other])
}

/// Says that sources disagree about requests with as many inputs as the plan's.
fn many_inputs(chosen: &Candidate) -> Option<String> {
    let [inputs, outputs] = chosen.ports;
    (inputs > SURE_INPUTS).then(|| {
        format!(
            "a request of this plan has up to {inputs} inputs and {outputs} outputs. One source says that the \
             engine takes {SURE_INPUTS} inputs, another ran 98 (ANE071). With --plan auto, a run tries a request of \
             that size before it takes the plan"
        )
    })
}

/// The lines above the tables.
fn heading(run: &RunConfig, chosen: &Candidate, programs: &Programs, profile: &Profile) {
    let RunConfig { model, batch, seq, accum, .. } = run;
    let params = Layout::new(model).count() as f64 / 1e6;
    label("model", &format!("{model}, {params:.2} M parameters"));
    let layers = match (model.n_layer, chosen.plan.joined) {
        (n, Some(Joined { forward, backward })) => {
            let of = |layers: usize| counted(layers.min(n), "layer");
            format!("{} forward and {} backward at a time", of(forward), of(backward))
        }
        (1, _) => "1 layer".to_owned(),
        (n, _) if programs.kernels.iter().any(|kernel| kernel.kind > 0) => {
            format!("{n} layers of several kinds")
        }
        (n, _) => format!("{n} layers"),
    };
    let count = counted(programs.engine().count(), "program");
    label("plan", &format!("{}: {count}, compiled once, for {layers}", chosen.plan.name));
    let micro_batches = match accum {
        1 => "1 micro-batch".to_owned(),
        n => format!("{n} micro-batches"),
    };
    let (tokens, chip) = (counted(*seq, "token"), profile.described());
    label("step", &format!("{micro_batches} of {batch} × {tokens} on {chip}\n"));
}

/// The lines below the table of programs.
fn notes(run: &RunConfig) -> String {
    let optimizer = whole::optimizer(&run.optimizer);
    format!(
        "  alone: run by itself, with all data copied in and out, as few are in a step\n  \
         the CPU computes embedding, loss, and what no program gives\n  optimizer: {optimizer}\n"
    )
}

/// The forecast of a step by its parts.
fn step(chosen: &Candidate, profile: &Profile) {
    let step = &chosen.step;
    label(
        "forecast",
        &format!(
            "{:.1} ms/step ({:.1} to {:.1}), not confirmed on hardware{}",
            1e3 * step.seconds,
            1e3 * step.low,
            1e3 * step.high,
            profile.chip.note().map_or(String::new(), |note| format!("; {note}"))
        ),
    );
    for (name, seconds) in step.parts() {
        let share = seconds / step.seconds;
        let bar = "#".repeat((40.0 * share).round() as usize);
        let line = format!("  {name:<12}{:>9.2} ms {:>4.0} %  {bar}", 1e3 * seconds, 100.0 * share);
        println!("{}", line.trim_end());
    }
    label("lanes", &lanes(step));
}

/// How long each lane is busy, how long both are, and what cannot overlap.
fn lanes(step: &StepEstimate) -> String {
    let ms = |seconds: f64| format!("{:.1} ms", 1e3 * seconds);
    let alone = |lane: f64| ms(lane - step.overlap);
    format!(
        "engine {}, CPU {}, side by side for {}; the engine alone {}, the CPU alone {}",
        ms(step.engine()),
        ms(step.host()),
        ms(step.overlap),
        alone(step.engine()),
        alone(step.host()),
    )
}

/// All plans side by side, in the order of the planner; `chosen` in place of another variant of its plan.
fn listed(all: &[Candidate], chosen: &Candidate) -> String {
    let of = |candidate: &Candidate| candidate.plan.name.split(':').next().unwrap_or_default();
    let shown = |one: &&Candidate| std::ptr::eq(*one, chosen) || of(one) != of(chosen);
    let row = |name: &str, cell: &dyn Fn(&Candidate) -> String| {
        let all = all.iter().filter(shown);
        let cells: String = all.map(|plan| format!("{:>11}", cell(plan))).collect();
        format!("  {name:<22}{cells}\n")
    };
    let ms = |name: &str, seconds: fn(&StepEstimate) -> f64| {
        row(name, &|plan| format!("{:.1}", 1e3 * seconds(&plan.step)))
    };
    [
        row("plan (* is shown)", &|candidate| {
            let shown = if std::ptr::eq(candidate, chosen) { "*" } else { "" };
            // Without the variant, which is told above for the one that is shown.
            format!("{}{shown}", of(candidate))
        }),
        row("programs", &|plan| plan.step.programs.to_string()),
        row("requests per step", &|plan| plan.step.requests.to_string()),
        ms("engine, ms", StepEstimate::engine),
        ms("  forward", |step| step.engine_forward),
        ms("  backward", |step| step.engine_backward),
        ms("CPU, ms", StepEstimate::host),
        ms("  head", |step| step.head),
        ms("  weight gradients", |step| step.weight_gradients),
        ms("  norms, embedding", |step| step.elementwise),
        ms("  copies", |step| step.io),
        ms("  optimizer", |step| step.optimizer),
        ms("side by side, ms", |step| step.overlap),
        row("forecast, ms/step", &|plan| {
            forecast_ms(plan).map_or("refused".to_owned(), |ms| format!("{ms:.1}"))
        }),
    ]
    .concat()
}

/// Fields are added, never renamed.
fn json(
    args: &Args,
    planned: &Planned,
    rows: &[Row],
    all: &[Candidate],
    chosen: &Candidate,
    profile: &Profile,
    whole: &Whole<'_>,
) -> serde_json::Value {
    let RunConfig { model, batch, seq, accum, .. } = &planned.run;
    let programs: Vec<_> = rows.iter().map(Row::json).collect();
    let step = &chosen.step;
    let parts: serde_json::Map<String, serde_json::Value> =
        step.parts().into_iter().map(|(name, s)| (name.to_owned(), s.into())).collect();
    let plans: Vec<_> = (all.iter())
        .map(|candidate| {
            serde_json::json!({
                "name": candidate.plan.name,
                "forecast_ms_per_step": forecast_ms(candidate),
                "programs": candidate.step.programs,
                "requests": candidate.step.requests,
                "engine_ms": 1e3 * candidate.step.engine(),
                "host_ms": 1e3 * candidate.step.host(),
                "overlap_ms": 1e3 * candidate.step.overlap,
                "refused": candidate.refused,
            })
        })
        .collect();
    let params = Layout::new(model).count();
    let mut object = serde_json::json!({
        "anegpt": env!("CARGO_PKG_VERSION"),
        "settings": {
            "preset": planned.name, "config": args.config, "batch": batch, "accum": accum,
            "seq": seq, "write": args.write, "draw": args.timeline,
        },
        "model": model.to_string(),
        "plan": chosen.plan.name,
        "forecast_ms_per_step": forecast_ms(chosen),
        "plans": plans,
        "profile": profile.to_string(),
        // Whose limits and speed these are, where they are not the chip's own.
        "nearest": profile.chip.nearest().map(|chip| chip.to_string()),
        "confirmed_on_hardware": false,
        "params": params,
        "parameters": params,
        "layers": model.n_layer,
        "programs": programs,
        "step": {
            "seconds": step.seconds, "low": step.low, "high": step.high, "parts": parts,
            "engine": step.engine(), "host": step.host(), "overlap": step.overlap,
        },
        "warnings": planned.warnings,
    });
    object.as_object_mut().expect("it is an object").extend(whole.json());
    object
}
