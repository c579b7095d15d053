//! `anegpt train`.

mod args;
mod ending;

pub(crate) use args::Args;

use crate::canary::Doctor;
use crate::power::RunPower;
use crate::setup::{self, Place, Ready};
use crate::stop::{self, EndedBy, Signal};
use crate::view::{self, View};
use anyhow::{Context, Result};
use formats::hugging_face::files_of;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use train::{CoreEvery, Event, Hook, Reason, RunOutput, Samples, Session, Stop, checkpoint};

pub(crate) fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let place = Place::claim(&args.run)?;
    let core = args.core.read()?;
    let ready = setup::open(&args.run)?.ready(args.inject_faults.as_deref())?;
    let (_lock, out) = place.take()?;
    let mut view = View::new(&args.view, &out)?;
    view.show(&ready.start_event(&out))?;
    for message in &ready.warnings {
        view.show(&Event::Warning { message: message.clone() })?;
    }
    let mut power = RunPower::open(ready.run.config().tokens_per_step());
    let mut doctor = Doctor::new(args.doctor_every, &ready.machine)?;
    let setup_s = started.elapsed().as_secs_f64();
    let hooks: Vec<&mut dyn Hook> = vec![&mut power, &mut doctor];
    let ended = to_end(ready, core, &out, setup_s, hooks, &mut view)?;
    match Signal::of(ended) {
        Some(signal) => {
            view.line(&ending::interrupted(&out))?;
            Err(EndedBy(signal).into())
        }
        None => Ok(()),
    }
}

/// Runs to the end, or until a signal or a view that cannot be written ends the run. Returns why it
/// ended.
fn to_end(
    ready: Ready,
    core: Option<CoreEvery>,
    out: &Path,
    setup_s: f64,
    hooks: Vec<&mut dyn Hook>,
    view: &mut View,
) -> Result<Reason> {
    let Ready { mut run, machine, tokenizer, intervals, prompt, notes, .. } = ready;
    let (stop, device) = (stop_on_request(view)?, machine.device.as_ref());
    let prompt = prompt.as_deref().unwrap_or_default();
    let mut session = Session {
        intervals,
        output: RunOutput {
            directory: out.to_owned(),
            texts: files_of(&notes.described(&run.config().model, &tokenizer))?,
            extra: serde_json::to_value(notes)?,
            setup_s,
        },
        samples: Samples { device, tokenizer: &tokenizer, prompt },
        core,
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
        true => format!("the run ended; go on with: {}", view::resume(out)),
        false => "the run ended before its first checkpoint".to_owned(),
    })?;
    failed.map_or(Ok(ended), Err)
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
            let _ = writeln!(error, "{}", ending::STOPPING);
        });
    })?;
    Ok(requested)
}
