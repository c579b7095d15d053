//! A run from its first step to its end, for every command that trains: events to their views, requests to
//! stop, what to type next.

use crate::canary::Doctor;
use crate::engine::EngineArgs;
use crate::files;
use crate::number;
use crate::power::RunPower;
use crate::setup::{Place, Ready};
use crate::stop::{self, EndedBy, Signal};
use crate::telemetry::Telemetry;
use crate::timeline;
use crate::view::{self, View, ViewArgs};
use crate::vitals::Vitals;
use anyhow::{Context, Result};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use train::{
    CoreEvery, Event, Hook, Objective, Reason, Run, RunConfig, RunOutput, Samples, Session, Stop,
    checkpoint,
};

/// Said as soon as a run is asked to stop.
const STOPPING: &str = "stopping after this step, saving a checkpoint; Ctrl-C again ends at once";

/// Flags of every command that trains, beside those that say what is computed.
#[derive(Debug, clap::Args)]
pub(crate) struct ProcessArgs {
    #[command(flatten)]
    view: ViewArgs,
    /// Draw the last micro-batch, and the last one with an update, on the clock as
    /// they ran, engine and CPU on a lane each, as SVG
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    timeline: Option<PathBuf>,
    /// Steps between checks that the device still computes correctly; 0 = none
    /// [default: 100 on an engine, 0 on the emulator]
    ///
    /// The check also runs before the first step and before each checkpoint. A wrong
    /// answer ends the run.
    #[arg(long, value_name = "N", help_heading = "Advanced")]
    #[arg(value_parser = number::whole(0u64))]
    doctor_every: Option<u64>,
    /// Steps between measurements of the engine's ranges; 0 = none
    ///
    /// In such a step, the first micro-batch of every layer is also computed on the CPU in f32, which
    /// takes about as long as a step on the CPU. It tells how far each product of matrices is from 2^15, where the
    /// engine's sums overflow, and how many products of two elements vanish below 2^-16. Nothing that is
    /// learned depends on it.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Advanced")]
    #[arg(value_parser = number::whole(0u64))]
    telemetry_every: u64,
    /// Inject device faults, for tests: flaky-compile:3,hang-after:100, ...
    #[arg(
        long,
        value_name = "SPEC",
        help_heading = "Advanced",
        long_help = format!(
            "Inject device faults, to test how a run copes. Any of these, separated by commas: {}",
            ane::faults::KNOWN
        )
    )]
    pub(crate) inject_faults: Option<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Runs to the end, or until a signal or a view that cannot be written ends the run. The program began when it
/// `started`.
///
/// # Errors
/// When the run fails, and when a signal ended it.
pub(crate) fn to_end<O: Objective>(
    ready: Ready<O>,
    core: Option<CoreEvery>,
    place: Place,
    args: &ProcessArgs,
    started: Instant,
) -> Result<()> {
    args.timeline.iter().try_for_each(|file| files::check_output("--timeline", file))?;
    let (_lock, out) = place.take()?;
    let mut view = View::new(&args.view, &out)?;
    view.show(&ready.start_event(&out))?;
    for message in &ready.warnings {
        view.show(&Event::Warning { message: message.clone() })?;
    }
    let mut power = RunPower::open(ready.run.config().tokens_per_step());
    let mut doctor = Doctor::new(args.doctor_every, &ready.machine)?;
    let mut vitals = Vitals::new();
    let (ranges, every) = (ready.machine.ranges.clone(), args.telemetry_every);
    let telemetry = |ranges| Telemetry::new(ranges, every, ready.run.config());
    let mut telemetry = ranges.filter(|_| every > 0).map(telemetry);
    let setup_s = started.elapsed().as_secs_f64();
    let mut hooks: Vec<&mut dyn Hook> = vec![&mut power, &mut vitals, &mut doctor];
    if let Some(telemetry) = &mut telemetry {
        hooks.push(telemetry);
    }
    let command = ready.command;
    let (ended, run) = steps(ready, core, &out, setup_s, hooks, &mut view)?;
    if let Some(file) = &args.timeline {
        draw(file, &run)?;
        view.line(&format!("drawn in {}", file.display()))?;
    }
    match Signal::of(ended) {
        Some(signal) => {
            view.line(&interrupted(command, &out))?;
            Err(EndedBy(signal).into())
        }
        None => Ok(()),
    }
}

/// Draws the last micro-batch of `run`, and the last one that began with an update, into `file`.
fn draw<O: Objective>(file: &Path, run: &Run<O>) -> Result<()> {
    let RunConfig { plan, model, batch, seq, accum, .. } = run.config();
    let title = format!("Plan {} as it ran: step {}", plan.name, run.step_count());
    let compiled = run.trainer().model();
    let [first, mut other] = [true, false].map(|after_update| compiled.timeline(after_update));
    if *accum == 1 && !first.is_empty() {
        // The only one without an update was the first of all.
        other.clear();
    }
    timeline::draw(file, &title, &timeline::subtitle(model, *batch, *seq), [&first, &other])
}

/// Returns why the run ended, and the run.
fn steps<O: Objective>(
    ready: Ready<O>,
    core: Option<CoreEvery>,
    out: &Path,
    setup_s: f64,
    hooks: Vec<&mut dyn Hook>,
    view: &mut View,
) -> Result<(Reason, Run<O>)> {
    let Ready {
        mut run, machine, tokenizer, intervals, prompt, talks, texts, notes, command, ..
    } = ready;
    let (stop, device) = (stop_on_request(view)?, machine.device.as_ref());
    let prompt = prompt.as_deref().unwrap_or_default();
    let mut session = Session {
        intervals,
        output: RunOutput { directory: out.to_owned(), texts, extra: notes, setup_s },
        samples: Samples { device, tokenizer: &tokenizer, prompt },
        core,
        talks,
        stop: &stop,
        hooks,
    };
    let (mut ended, mut failed) = (Reason::Finished, None);
    let result = run.to_end(&mut session, &mut |mut event| {
        if let Event::Done { reason, peak_memory_mib, .. } = &mut event {
            ended = *reason;
            *peak_memory_mib = crate::memory::peak_mib();
        }
        if let Err(error) = view.show(&event) {
            failed.get_or_insert(error);
            stop.request(Reason::Stopped);
        }
        Ok(())
    });
    view.finish();
    result.with_context(|| match checkpoint::exists(out) {
        true => format!("the run ended; go on with: {}", view::resume(command, out)),
        false => "the run ended before its first checkpoint".to_owned(),
    })?;
    failed.map_or(Ok((ended, run)), Err)
}

/// Listens for requests to stop, and says at once what becomes of them.
fn stop_on_request(view: &View) -> Result<Arc<Stop>> {
    let requested = Arc::new(Stop::default());
    let (stop, bar) = (requested.clone(), Mutex::new(view.bar()));
    stop::on_request(move |signal| {
        let bar = bar.lock().expect("this thread alone takes it");
        // The second request does not wait for the checkpoint.
        if !stop.request(signal.reason()) {
            if !bar.is_hidden() {
                eprintln!();
            }
            stop::at_once(signal.exit_code());
        }
        bar.suspend(|| {
            let mut error = std::io::stderr().lock();
            // Nobody may be left to read it.
            let _ = writeln!(error, "{STOPPING}");
        });
    })?;
    Ok(requested)
}

/// The command to type after a run that a signal ended.
fn interrupted(command: &str, out: &Path) -> String {
    match checkpoint::exists(out) {
        true => format!("\nNext: {}", view::resume(command, out)),
        false => "nothing is saved: no step was done".to_owned(),
    }
}
