//! `anegpt mil replay`.

use crate::machine::{NumericsChoice, numerics};
use crate::progress::counted;
use crate::usage;
use anyhow::{Context, Result, bail};
use cpu::Numerics;
use lab::Trace;
use lab::trace::{HISTOGRAM, OutputReplay, Replay, replay};
use std::path::PathBuf;

/// Replay a recorded trace on the emulator and explain the differences
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  anegpt mil replay run.anetrace")]
pub(crate) struct Args {
    /// Trace, from mil run --record or probe --record
    file: PathBuf,
    /// Arithmetic of the emulator [default: that of the trace, or fast]
    #[arg(long, value_enum)]
    numerics: Option<NumericsChoice>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let file = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {file}"))?;
    let trace = Trace::from_bytes(&bytes).with_context(|| file.to_string())?;
    let result = replay(&trace, chosen(args.numerics, &trace)?)?;
    if args.json {
        println!("{}", serde_json::json!({ "machine": trace.machine, "replay": result }));
    } else {
        show(&trace, &result);
    }
    match result.unexplained() {
        0 => Ok(()),
        1 => bail!("{file}: an element differs, and no known fact predicts it"),
        n => bail!("{file}: {n} elements differ, and no known fact predicts it"),
    }
}

fn chosen(asked: Option<NumericsChoice>, trace: &Trace) -> Result<Numerics> {
    use clap::ValueEnum;
    let recorded = trace.machine.numerics.as_deref().map(|name| {
        NumericsChoice::from_str(name, true)
            .map_err(|_| usage(format!("unknown numerics `{name}` in the trace: give --numerics")))
    });
    Ok(match (asked, recorded) {
        (Some(asked), _) => numerics(asked),
        (None, Some(recorded)) => numerics(recorded?),
        (None, None) => Numerics::Fast,
    })
}

fn show(trace: &Trace, result: &Replay) {
    println!("recorded on  {} by {}", trace.machine.device, trace.machine.recorder);
    for (index, (program, traced)) in result.programs.iter().zip(&trace.programs).enumerate() {
        println!("program {index}    {}", counted(traced.runs.len(), "run"));
        for rule in &program.refuted_rules {
            println!("  ran, although a rule refuses it: {rule}");
        }
        program.outputs.iter().for_each(show_output);
    }
}

fn show_output(output: &OutputReplay) {
    let c = &output.comparison;
    println!(
        "  run {} output {}: {} of {} elements differ, {}",
        output.run,
        output.name,
        c.differing,
        c.elements,
        distance(c.max_ulp)
    );
    let Some(first) = c.first else { return };
    println!("    first at {}: recorded {}, replayed {}", first.index, first.left, first.right);
    println!("    {}", histogram(&c.histogram));
    for e in &output.explanations {
        println!("    {}: {}, {}", e.fact, counted(e.elements, "element"), e.pattern);
    }
    if output.unexplained > 0 {
        println!("    unexplained: {}", counted(output.unexplained, "element"));
    }
}

/// A largest distance in words.
pub(super) fn distance(ulps: u64) -> String {
    match ulps {
        u64::MAX => "NaN against a number".to_owned(),
        n => format!("at most {n} units in the last place"),
    }
}

/// Bins of a histogram that are not empty.
pub(super) fn histogram(bins: &[usize]) -> String {
    let ends = HISTOGRAM.iter().map(|end| format!("≤{end}")).chain(["more".to_owned()]);
    let shown = ends.zip(bins).filter(|(_, n)| **n > 0).map(|(end, n)| format!("{end}: {n}"));
    format!("units apart  {}", shown.collect::<Vec<_>>().join("  "))
}
