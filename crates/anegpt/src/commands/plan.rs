//! `anegpt plan`: how a model is cut into programs, and what a step of it would take on a chip.

mod drawing;

use crate::plan_choice::PlanChoice;
use crate::progress::counted;
use crate::settings::{self, ConfigFile, Weights};
use crate::{number, term, usage};
use anyhow::{Context, Result};
use chip::{Chip, Os, Profile, estimate, legal};
use gpt::block::Memory;
use gpt::forecast::timeline;
use gpt::plan::Programs;
use gpt::planner::{Candidate, candidates};
use gpt::{Dims, GptConfig, Layout};
use mil::{DType, Function, Program};
use std::path::PathBuf;

/// Show the programs of a model and forecast a training step
///
/// Nothing is trained. Forecasts come from the cost model and are not confirmed on
/// hardware.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt plan --preset stories110m --chip m4-pro
  anegpt plan --preset stories110m --draw step.svg    the steps on the clock
  anegpt plan --preset qwen3-0.6b --chip m5-max --write programs/")]
pub(crate) struct Args {
    /// Model size (list: anegpt help train) [default: tiny]
    #[arg(long, value_name = "NAME", conflicts_with = "config", help_heading = "Model")]
    preset: Option<String>,
    /// Configuration file (TOML), as for train
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    config: Option<PathBuf>,
    /// Chip to forecast (list: anegpt devices)
    #[arg(long, default_value = "m4", help_heading = "Device")]
    chip: Chip,
    /// Its system: macos15 or macos26
    #[arg(long, default_value = "macos15", help_heading = "Device")]
    os: Os,
    /// Sequences per micro-batch [default: by model size; 4 for tiny]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1usize))]
    batch: Option<usize>,
    /// Gradient accumulation: micro-batches per step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1usize))]
    accum: Option<usize>,
    /// Sequence length in tokens [default: 256]
    #[arg(long, value_name = "N", help_heading = "Step")]
    #[arg(value_parser = number::whole(1usize))]
    seq: Option<usize>,
    /// How the model is split into programs; auto: the fastest by forecast that the chip
    /// accepts
    #[arg(long, value_parser = PlanChoice::parser(), default_value = "auto")]
    #[arg(help_heading = "Device")]
    plan: PlanChoice,
    /// Draw the steps of a micro-batch on the clock, as SVG
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    draw: Option<PathBuf>,
    /// Write each program to DIR, as NAME.mil
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    write: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let file = match &args.config {
        Some(path) => settings::read(path)?,
        None => ConfigFile::default(),
    };
    let preset = args.preset.as_deref().or(file.preset.as_deref()).unwrap_or("tiny");
    let base = GptConfig::preset(preset).map_err(|e| usage(e.to_string()))?;
    let seq = args.seq.or(file.train.seq);
    let config = settings::model(base.clone(), &file.model, base.vocab_size, seq)?;
    let train = settings::suited(&config, &file.train, Weights::Fresh).settings;
    let (batch, accum) = (args.batch.or(train.batch).unwrap_or(1), args.accum.or(train.accum));
    let (accum, seq) = (accum.unwrap_or(1), seq.or(train.seq).unwrap_or(config.seq_len));
    if batch == 0 || accum == 0 || seq == 0 {
        return Err(usage("--batch, --accum and --seq must be at least 1"));
    }
    let profile = Profile { chip: args.chip, os: args.os, ..Profile::default() };
    let dims = Dims { config: &config, batch, seq, dtype: DType::Fp16 };
    let all = candidates(&config, batch, seq, accum, &profile)?;
    let chosen = match args.plan {
        PlanChoice::Auto => &all[0],
        PlanChoice::Named(plan) => {
            all.iter().find(|candidate| candidate.plan == plan).expect("all plans are priced")
        }
    };
    let (plan, step) = (chosen.plan, &chosen.step);
    let programs = Programs::new(plan, &dims, Memory::Sequence)?;
    if let Some(directory) = &args.write {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        for f in programs.engine() {
            let path = directory.join(format!("{}.mil", f.name));
            std::fs::write(&path, Program::new(f.clone()).to_string())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if let Some(file) = &args.draw {
        let steps = timeline(plan, &config, batch, seq, &profile)?;
        let title = format!(
            "Plan {} on {}: forecast, not confirmed on hardware",
            plan.name,
            profile.described()
        );
        let subtitle = format!("{config}; {batch} × {} per micro-batch", counted(seq, "token"));
        std::fs::write(file, drawing::svg(&title, &subtitle, &steps))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let rows: Vec<Row> = programs.engine().map(|f| Row::new(f, &profile)).collect();
    if args.json {
        let settings = serde_json::json!({
            "preset": args.config.is_none().then_some(preset), "config": args.config,
            "batch": batch, "accum": accum, "seq": seq, "write": args.write,
            "draw": args.draw,
        });
        println!("{}", json(&rows, &config, &all, chosen, &profile, settings));
        return Ok(());
    }
    let params = Layout::new(&config).count();
    let label = |label: &str, text: &str| println!("{}", term::labelled(label, text));
    label("model", &format!("{config}, {:.2} M parameters", params as f64 / 1e6));
    label(
        "plan",
        &format!(
            "{}: {}, compiled once, run by {}",
            plan.name,
            counted(rows.len(), "program"),
            match config.n_layer {
                1 => "1 layer".to_owned(),
                n if programs.kernels.iter().any(|kernel| kernel.kind > 0) => {
                    format!("{n} layers of several kinds")
                }
                n => format!("each of {n} layers"),
            }
        ),
    );
    label(
        "step",
        &format!(
            "{} of {batch} × {} on {}\n",
            match accum {
                1 => "1 micro-batch".to_owned(),
                n => format!("{n} micro-batches"),
            },
            counted(seq, "token"),
            profile.described()
        ),
    );
    println!(
        "  {:<8} {:>3} {:>3} {:>7} {:>7} {:>8} {:>10} {:>9}  alone bound by",
        "program", "in", "out", "MB in", "MB out", "GFLOP", "engine ms", "alone ms"
    );
    for row in &rows {
        println!(
            "  {:<8} {:>3} {:>3} {:>7.2} {:>7.2} {:>8.3} {:>10.3} {:>9.3}  {}{}",
            row.name,
            row.inputs,
            row.outputs,
            row.bytes_in as f64 / 1e6,
            row.bytes_out as f64 / 1e6,
            row.flops / 1e9,
            1e3 * row.engine_seconds,
            1e3 * row.seconds,
            row.bound,
            if row.legal { "" } else { "; REFUSED, see: anegpt mil check" },
        );
    }
    println!("  alone: run by itself, with all data copied in and out; in a step most stay");
    println!("  on the CPU: embedding, residuals, gradients of norms and weights, head, AdamW\n");
    label("plans", &listed(&all, chosen));
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
    if let Some(file) = &args.draw {
        println!("\ndrawn in {}", file.display());
    }
    if let Some(directory) = &args.write {
        println!("\nprograms written to {}", directory.display());
    }
    Ok(())
}

/// All plans with their forecasts, in the order of the planner.
fn listed(all: &[Candidate], chosen: &Candidate) -> String {
    let one = |candidate: &Candidate| {
        let Candidate { plan, step, refused } = candidate;
        let shown = if candidate == chosen { " (shown)" } else { "" };
        match refused.is_empty() {
            true => format!("{}{shown} {:.1} ms/step", plan.name, 1e3 * step.seconds),
            false => format!("{}{shown} refused by the chip", plan.name),
        }
    };
    all.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// One program of the plan.
struct Row {
    name: String,
    inputs: usize,
    outputs: usize,
    bytes_in: usize,
    bytes_out: usize,
    flops: f64,
    /// Of a run, copies of surfaces excluded.
    engine_seconds: f64,
    /// Of a run by itself.
    seconds: f64,
    bound: &'static str,
    legal: bool,
}

impl Row {
    fn new(f: &Function, profile: &Profile) -> Self {
        let e = estimate(f, profile);
        let program = Program::new(f.clone());
        Row {
            name: f.name.clone(),
            inputs: f.inputs().count(),
            outputs: f.outputs.len(),
            bytes_in: f.inputs().map(|id| f.ty(id).bytes()).sum(),
            bytes_out: f.outputs.iter().map(|&id| f.ty(id).bytes()).sum(),
            flops: e.operations.iter().map(|o| o.flops).sum(),
            engine_seconds: e.engine_seconds(),
            seconds: e.seconds,
            bound: e.bound().name(),
            legal: legal::check(&program, profile).is_ok(),
        }
    }
}

/// Fields are added, never renamed.
fn json(
    rows: &[Row],
    config: &GptConfig,
    all: &[Candidate],
    chosen: &Candidate,
    profile: &Profile,
    settings: serde_json::Value,
) -> serde_json::Value {
    let programs: Vec<_> = (rows.iter())
        .map(|r| {
            serde_json::json!({
                "name": r.name, "inputs": r.inputs, "outputs": r.outputs, "bytes_in": r.bytes_in,
                "bytes_out": r.bytes_out, "flops": r.flops, "engine_seconds": r.engine_seconds,
                "seconds": r.seconds,
                "bound_by": r.bound, "legal": r.legal,
            })
        })
        .collect();
    let step = &chosen.step;
    let parts: serde_json::Map<String, serde_json::Value> =
        step.parts().into_iter().map(|(name, s)| (name.to_owned(), s.into())).collect();
    let plans: Vec<_> = (all.iter())
        .map(|candidate| {
            serde_json::json!({
                "name": candidate.plan.name,
                "forecast_ms_per_step": 1e3 * candidate.step.seconds,
                "refused": candidate.refused,
            })
        })
        .collect();
    let params = Layout::new(config).count();
    serde_json::json!({
        "anegpt": env!("CARGO_PKG_VERSION"),
        "settings": settings,
        "model": config.to_string(),
        "plan": chosen.plan.name,
        "forecast_ms_per_step": 1e3 * step.seconds,
        "plans": plans,
        "profile": profile.to_string(),
        // Whose limits and speed these are, where they are not the chip's own.
        "nearest": profile.chip.nearest().map(|chip| chip.to_string()),
        "confirmed_on_hardware": false,
        "params": params,
        "parameters": params,
        "layers": config.n_layer,
        "programs": programs,
        "step": { "seconds": step.seconds, "low": step.low, "high": step.high, "parts": parts },
    })
}
