//! `anegpt probe`.

use crate::engine::EngineArgs;
use crate::machine::{self, DeviceChoice, Machine, NumericsChoice};
use crate::{term, usage};
use anyhow::{Context, Result, bail};
use lab::Trace;
use lab::probe::{Outcome, PROBES, Probe, Verdict};
use lab::trace::Recording;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs of each program that a trace keeps.
const RECORDED_RUNS: usize = 4;

/// Measure what a device is like: speed, limits, open questions
///
/// Each probe tests facts about the engine. On a Mac, --record writes a trace of each,
/// which is what the project needs most.
#[derive(Debug, clap::Args)]
#[command(after_help = names())]
pub(crate) struct Args {
    /// Name of a probe, all, or list
    #[arg(default_value = "list")]
    name: String,
    /// Device to measure
    #[arg(long, value_enum, default_value = "auto", help_heading = "Device")]
    device: DeviceChoice,
    /// Chip to emulate (list: anegpt devices) [default: m4]
    #[arg(long, help_heading = "Device")]
    chip: Option<chip::Chip>,
    /// Write a trace of each probe to DIR, to share and to replay (anegpt mil replay)
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    record: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// The list of probes, for people.
fn names() -> String {
    let line = |p: &Probe| {
        let label = format!("  {}", p.name);
        format!("{}\n", term::hanging(&label, p.question, 20, term::UNKNOWN - 1))
    };
    let of = |open: bool| PROBES.iter().filter(|p| p.open == open).map(line).collect::<String>();
    format!("Probes:\n{}\nOpen questions:\n{}", of(false), of(true))
}

/// The same for programs. Fields are added, never renamed.
fn list() -> serde_json::Value {
    let probe =
        |p: &Probe| serde_json::json!({ "name": p.name, "question": p.question, "open": p.open });
    serde_json::json!({
        "anegpt": env!("CARGO_PKG_VERSION"), "probes": PROBES.iter().map(probe).collect::<Vec<_>>(),
    })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let chosen: Vec<&Probe> = match args.name.as_str() {
        "list" if args.json => {
            println!("{}", list());
            return Ok(());
        }
        "list" => {
            print!("{}", names());
            return Ok(());
        }
        "all" => PROBES.iter().collect(),
        name => vec![Probe::named(name).ok_or_else(|| {
            let known: Vec<&str> = PROBES.iter().map(|p| p.name).collect();
            usage(format!(
                "there is no probe called `{name}`; known are: all, list, {}",
                known.join(", ")
            ))
        })?],
    };
    let machine = open(args)?;
    let (device, emulated, reason) =
        (machine.device.describe(), machine.emulated(), machine.reason.clone());
    let (machine, recording) = match &args.record {
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
            let (machine, recording) = machine.recorded(RECORDED_RUNS);
            (machine, Some(recording))
        }
        None => (machine, None),
    };
    if !args.json {
        let text = format!("{device}\nchosen because: {reason}");
        println!("{}\n", term::labelled("device", &text));
    }
    if args.json {
        // Probe by probe, so that what was found is there if the system ends the process.
        let head = serde_json::json!({
            "anegpt": env!("CARGO_PKG_VERSION"), "device": device, "chosen_because": reason,
            "emulated": emulated,
        });
        print!("{},\"probes\":[", head.to_string().trim_end_matches('}'));
    }
    let (mut failed, mut unwritten) = (vec![], vec![]);
    for (i, probe) in chosen.into_iter().enumerate() {
        if args.json {
            print!("{}", if i == 0 { "\n" } else { ",\n" });
        } else {
            println!("{}: {}", probe.name, probe.question);
        }
        std::io::stdout().flush()?;
        let begun = Instant::now();
        let result = probe.run(machine.device.as_ref(), emulated).map_err(|e| e.to_string());
        let seconds = begun.elapsed().as_secs_f64();
        match args.json {
            true => print!("{}", json(probe, &result, seconds)),
            false => show(&result, emulated, recording.is_some(), seconds),
        }
        if let (Some(recording), Some(directory)) = (&recording, &args.record) {
            let note = save(recording, directory, probe.name).unwrap_or_else(|error| {
                unwritten.push(format!("{error:#}"));
                format!("not recorded: {error:#}")
            });
            if !args.json {
                println!("  {note}");
            }
        }
        if !args.json {
            println!();
        }
        if result.is_err() {
            failed.push(probe.name);
        }
    }
    if args.json {
        println!("\n]}}");
    }
    let mut faults = unwritten;
    if !failed.is_empty() {
        let failed = failed.join(", ");
        faults.insert(0, format!("these probes could not ask their question: {failed}"));
    }
    match faults[..] {
        [] => Ok(()),
        _ => bail!("{}", faults.join("\n")),
    }
}

/// The device; an emulator computes as the engine does, bit by bit, as far as that is known.
fn open(args: &Args) -> Result<Machine> {
    let exact = Some(NumericsChoice::Exact);
    match args.device {
        DeviceChoice::Emulator => machine::open(args.device, args.chip, exact),
        DeviceChoice::Auto => match machine::open(args.device, args.chip, None)? {
            found if found.emulated() => {
                let reason = found.reason;
                let machine = machine::open(DeviceChoice::Emulator, args.chip, exact)?;
                Ok(Machine { reason, ..machine })
            }
            found => Ok(found),
        },
        DeviceChoice::Cpu => {
            Err(usage("--device cpu has no engine to probe: use --device emulator"))
        }
        _ => machine::open(args.device, args.chip, None),
    }
}

/// Writes what was recorded since the last time, nothing where no program was compiled; says where.
fn save(recording: &Recording, directory: &Path, name: &str) -> Result<String> {
    let programs = recording.take();
    if programs.is_empty() {
        return Ok("nothing to record: no program was run".to_owned());
    }
    let trace = Trace { programs, ..recording.trace() };
    let path = directory.join(format!("{name}.anetrace"));
    std::fs::write(&path, trace.to_bytes()?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(format!("recorded in {}", path.display()))
}

/// Prints a sentence below the name of its probe.
fn say(text: &str) {
    println!("{}", term::wrap(text, term::text_width(), "  ", "    "));
}

fn show(result: &Result<Outcome, String>, emulated: bool, recorded: bool, seconds: f64) {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            say(&format!("could not be asked: {error}"));
            return;
        }
    };
    let cells = || {
        std::iter::once(outcome.columns.iter().map(|c| (*c).to_owned()).collect())
            .chain(outcome.rows.iter().cloned())
    };
    let width =
        |i: usize| cells().map(|row: Vec<String>| row[i].chars().count()).max().unwrap_or_default();
    if !outcome.columns.is_empty() {
        for row in cells() {
            let line: String =
                row.iter().enumerate().map(|(i, c)| format!("  {c:<w$}", w = width(i))).collect();
            println!("  {}", line.trim_end());
        }
    }
    say(&format!("{}: {}", outcome.verdict.name(), outcome.says));
    // An emulator that was written from the facts is no evidence for them.
    let supports = if emulated { "repeats" } else { "supports" };
    for (word, facts) in [(supports, &outcome.supports), ("contradicts", &outcome.contradicts)] {
        if !facts.is_empty() {
            say(&format!("{word} {}", facts.join(", ")));
        }
    }
    println!("  took {seconds:.1} s");
    if outcome.verdict == Verdict::Against {
        match recorded {
            true => println!("  please share the trace: it says what nobody knows yet"),
            false => println!("  record this with --record DIR and share the traces"),
        }
    }
}

/// Fields are added, never renamed.
fn json(probe: &Probe, result: &Result<Outcome, String>, seconds: f64) -> serde_json::Value {
    match result {
        Ok(o) => serde_json::json!({
            "name": probe.name, "question": probe.question, "open": probe.open, "seconds": seconds,
            "verdict": o.verdict.name(), "says": o.says, "columns": o.columns, "rows": o.rows,
            "supports": o.supports, "contradicts": o.contradicts,
        }),
        Err(error) => serde_json::json!({
            "name": probe.name, "question": probe.question, "open": probe.open, "seconds": seconds,
            "error": error,
        }),
    }
}
