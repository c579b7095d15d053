//! `anegpt doctor`.

use crate::engine::EngineArgs;
use crate::machine::{self, DeviceChoice, NumericsChoice};
use crate::progress::counted;
use crate::{engine, power, term, usage};
use ane::{Backoff, Faults, Faulty};
use anyhow::{Result, bail};
use lab::doctor::{Check, Options, Report, Verdict, examine};
use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Check that a device computes correctly, and what to do if not
///
/// Exit code 1 if any answer is wrong.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("hardware_time", |arg| arg.hide(true)),
    after_help = "\
Examples:
  anegpt doctor                       the best device of this machine
  anegpt doctor --device in-memory    one route to the Neural Engine
  anegpt doctor --json > doctor.json  to attach to a bug report
  anegpt doctor --device emulator --inject-faults stale-weights"
)]
pub(crate) struct Args {
    /// Device to check
    #[arg(long, value_enum, default_value = "auto", help_heading = "Device")]
    device: DeviceChoice,
    /// Chip to emulate (list: anegpt devices) [default: m4]
    #[arg(long, help_heading = "Device")]
    chip: Option<chip::Chip>,
    /// Arithmetic of the emulator [default: fast]
    #[arg(long, value_enum, help_heading = "Device")]
    numerics: Option<NumericsChoice>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Time limit of one check, after which the device counts as hung
    /// [default: 30 more than --compile-limit]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    #[arg(help_heading = "Advanced")]
    time_limit: Option<u64>,
    /// Inject device faults, to see what is found: stale-weights, zeros-at:3, ...
    #[arg(
        long,
        value_name = "SPEC",
        help_heading = "Advanced",
        long_help = format!(
            "Inject device faults, to see what is found. Any of these, separated by commas: {}",
            ane::faults::KNOWN
        )
    )]
    inject_faults: Option<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut machine = machine::open(args.device, args.chip, args.numerics)?;
    if let Some(spec) = &args.inject_faults {
        let faults = Faults::parse(spec, 42).map_err(|error| usage(error.to_string()))?;
        machine.device = Box::new(Faulty::new(machine.device, faults));
    }
    if !args.json {
        println!("{}", term::labelled("device", &machine.device.describe()));
        println!("{}\n", term::labelled("", &format!("chosen because: {}", machine.reason)));
    }
    let options = Options { emulated: machine.emulated(), backoff: Backoff::default() };
    let header = Header {
        device: machine.device.describe(),
        reason: machine.reason.clone(),
        emulated: machine.emulated(),
        json: args.json,
    };
    let turn = Arc::new(Mutex::new(()));
    let heard = watch(header.clone(), time_limit(args.time_limit), Arc::clone(&turn));
    let report = examine(machine.device.as_ref(), &options, &mut |check| {
        let _turn = lock(&turn);
        if !args.json {
            print!("{}", lines(check));
        }
        // The watch listens as long as the process lives.
        let _ = heard.send(check.clone());
    });
    {
        let _turn = lock(&turn);
        drop(heard);
    }
    let reading = power::once().transpose();
    if args.json {
        let mut json = header.json(&report.checks, Some(report.runs));
        if let Ok(Some((source, sample))) = &reading {
            json["power"] = serde_json::json!({"source": source, "mean": sample});
        }
        println!("{json}");
    } else {
        conclude(&report);
        match reading {
            Ok(None) => {}
            Ok(Some((source, sample))) => {
                println!("Power now, of the whole machine: {sample} ({source})")
            }
            Err(reason) => println!("Power: no reading ({reason:#})"),
        }
    }
    match report.checks.iter().filter(|check| check.verdict == Verdict::Bad).count() {
        0 => Ok(()),
        1 => bail!("the device gave a wrong answer or none"),
        n => bail!("the device failed {n} checks"),
    }
}

/// How long a check may take: longer than a compile, so that one that hangs is named.
fn time_limit(asked: Option<u64>) -> Duration {
    Duration::from_secs(asked.unwrap_or_else(engine::limit))
}

/// The turn to write, whatever became of whoever had it before.
fn lock(turn: &Mutex<()>) -> MutexGuard<'_, ()> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the program, with a report of what was found until then, when a check takes longer than
/// `limit`. It is told of every check that is done, and ends when what is returned is dropped: both
/// in its `turn`, which the watch takes for good to write, so that there is one report.
fn watch(header: Header, limit: Duration, turn: Arc<Mutex<()>>) -> Sender<Check> {
    let (heard, checks) = channel::<Check>();
    std::thread::spawn(move || {
        let mut done = vec![];
        loop {
            match checks.recv_timeout(limit) {
                Ok(check) => done.push(check),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let _turn = lock(&turn);
                    match checks.try_recv() {
                        // It answered after all.
                        Ok(check) => done.push(check),
                        Err(TryRecvError::Disconnected) => return,
                        Err(TryRecvError::Empty) => end(&header, done, limit),
                    }
                }
            }
        }
    });
    heard
}

/// Writes the report of a device that hangs, and ends the program whatever hangs, and whether or not
/// somebody reads.
fn end(header: &Header, mut done: Vec<Check>, limit: Duration) -> ! {
    let hung = hang(limit);
    let (shown, error) = (lines(&hung), format!("error: the device hangs: {}\n", hung.finding));
    done.push(hung);
    let report = if header.json { format!("{}\n", header.json(&done, None)) } else { shown };
    let mut out = std::io::stdout();
    let _ = out.write_all(report.as_bytes()).and_then(|()| out.flush());
    let _ = std::io::stderr().write_all(error.as_bytes());
    crate::stop::at_once(1)
}

/// The finding where a check does not end.
fn hang(limit: Duration) -> Check {
    Check {
        id: "hang",
        question: "Does the device answer?",
        verdict: Verdict::Bad,
        finding: format!("no answer to the next check within {} s", limit.as_secs()),
        advice: "end every program that uses the engine and try again; if it still hangs, restart \
                 the Mac"
            .to_owned(),
        facts: &["D-idle-wake"],
    }
}

/// Column at which questions and findings begin.
const FINDING: usize = 26;

/// A check for people to read.
fn lines(check: &Check) -> String {
    let label = format!("{:<10} {:<14}", check.verdict.name(), check.id);
    let width = term::text_width();
    let first = format!("{}\n", term::hanging(&label, check.question, FINDING, width));
    let mut more: Vec<String> = check.finding.lines().map(str::to_owned).collect();
    if !check.advice.is_empty() {
        more.push(format!("what to do: {}", check.advice));
        more.push(format!("facts: {}", check.facts.join(", ")));
    }
    more.iter()
        .fold(first, |text, line| text + &format!("{}\n", term::hanging("", line, FINDING, width)))
}

fn conclude(report: &Report) {
    let words = match report.verdict() {
        Verdict::Bad => "do not trust this device; see above",
        Verdict::Suspicious => "every answer was right, but see the warnings above",
        Verdict::Good | Verdict::Skipped => "every answer was right",
    };
    let runs = counted(report.runs, "run");
    println!("\n{runs}, compared bit for bit: {words}");
    println!("About the facts: anegpt devices facts");
}

/// The beginning of a report.
#[derive(Clone, Debug)]
struct Header {
    device: String,
    reason: String,
    emulated: bool,
    json: bool,
}

impl Header {
    /// Fields are added, never renamed. `runs` are those of programs, and null where they are not
    /// known, as only the check that hangs could tell.
    fn json(&self, checks: &[Check], runs: Option<usize>) -> serde_json::Value {
        let check = |check: &Check| {
            serde_json::json!({
                "id": check.id, "question": check.question, "verdict": check.verdict.name(),
                "finding": check.finding, "advice": check.advice, "facts": check.facts,
            })
        };
        serde_json::json!({
            "anegpt": env!("CARGO_PKG_VERSION"), "device": self.device,
            "chosen_because": self.reason, "emulated": self.emulated,
            "verdict": checks.iter().map(|check| check.verdict).max().map(Verdict::name),
            "runs": runs, "checks": checks.iter().map(check).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_may_take_longer_than_its_compile_unless_told_otherwise() {
        assert_eq!(time_limit(None), Duration::from_secs(120 + 30));
        assert_eq!(time_limit(Some(7)), Duration::from_secs(7));
    }
}
