//! `anegpt train`.

mod args;
mod directory;
mod doctor;
mod ending;

pub(crate) use args::Args;

use crate::host_gemm::HostGemm;
use crate::machine::Machine;
use crate::power::RunPower;
use crate::setup::{Notes, Setup, fresh, intervals, resumed};
use crate::stop::{self, EndedBy, Signal};
use crate::view::{self, View};
use ane::AneError;
use anyhow::{Context, Result};
use clap::ValueEnum;
use data::loader::Split;
use directory::{Unused, next_free_directory, output_directory};
use doctor::Doctor;
use gpt::ModelError;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use train::{
    Event, Forecast, Lock, Pretrain, Reason, RunConfig, RunOutput, Settings, Stop, TrainError,
    checkpoint,
};

pub(crate) fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let asked = output_directory(&args.run)?;
    let created = asked.clone().filter(|out| !out.exists());
    let named = match asked {
        Some(out) => Some((Lock::acquire(&out)?, out)),
        None => None,
    };
    let mut unused = Unused(created);
    if let Some((_, out)) = &named {
        checkpoint::remove_unfinished(out)?;
    }
    let setup = match &args.run.resume {
        Some(directory) => resumed(&args.run, directory)?,
        None => fresh(&args.run)?,
    };
    let Setup {
        config,
        lr_reason,
        params,
        texts,
        machine,
        host_gemm,
        host_gemm_before,
        device: device_choice,
        chip,
        prompt,
        cadence,
        resumed,
        judged_anew,
    } = setup;
    let machine = machine.for_training(args.inject_faults.as_deref(), config.seed)?;
    let mut intervals = intervals(&cadence, &config);
    let prompt = match intervals.sample {
        0 => None,
        _ => prompt.choose(&texts.tokenizer, &texts.loader, config.model.seq_len)?,
    };
    if prompt.is_none() {
        intervals.sample = 0;
    }
    let entropy = texts.loader.unigram_entropy(config.model.vocab_size as u32)?;
    let epochs = texts.epochs(&config);
    let (loader, tokenizer) = (texts.loader.clone(), &texts.tokenizer);
    let extent = format!("--seq {} and --batch {}", config.seq, config.batch);
    let mut pretrain =
        Pretrain::new(config, params, loader, machine.device.as_ref(), machine.numerics)
            .map_err(|error| refused(error, &extent))?;
    pretrain.multiply_with(host_gemm.library.as_ref());
    if let Some(found) = &resumed {
        pretrain.resume(found)?;
        if judged_anew {
            pretrain.forget_validation();
        }
        // A loss over another number of batches would not compare with the best so far, and push it out.
        if let Some(best) = pretrain.best() {
            intervals.eval_batches = best.batches;
        }
    }
    let (_lock, out) = match named {
        Some(named) => named,
        None => next_free_directory()?,
    };
    let notes = Notes {
        data: texts.data.clone(),
        val_data: texts.val_data.clone(),
        numerics: format!("{:?}", machine.numerics),
        prompt: prompt.clone().unwrap_or_default(),
        device: device_choice.to_possible_value().expect("all are named").get_name().to_owned(),
        chip: chip.map(|chip| chip.to_string()),
        host_gemm: host_gemm.name(),
        cadence,
    };
    let settings = Settings {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        out: out.clone(),
        data: texts.data.clone(),
        val_data: texts.val_data.clone(),
        tokenizer: tokenizer.describe(),
        numerics: notes.numerics.to_lowercase(),
        prompt: prompt.clone(),
        init: args.run.init.clone(),
        resumed: resumed.as_ref().map(|found| found.path().to_owned()),
        epochs,
        lr_reason,
        backend: machine.kind.id().to_owned(),
        text: texts.description.clone(),
        forecast: forecast(&machine, pretrain.config())?,
        run: Some(pretrain.config().clone()),
        intervals: Some(intervals),
    };
    // The run begins.
    unused.0 = None;
    let mut view = View::new(&args.view, &out)?;
    view.show(&start_event(&pretrain, &machine, &host_gemm, entropy, settings))?;
    if let Some(message) = host_gemm_before.and_then(|before| host_gemm.differs(&before)) {
        view.show(&Event::Warning { message })?;
    }
    if let Some(message) = ending::too_often(&pretrain, epochs) {
        view.show(&Event::Warning { message })?;
    }
    let stop = stop_on_request(&view)?;
    let mut failed = None;
    let device = machine.device.as_ref();
    let total = pretrain.config().schedule.total;
    let tokens_per_step = tokens_per_step(pretrain.config());
    let mut doctor = Doctor::new(&args, &machine, intervals, total)?;
    let mut power = RunPower::open();
    let output = RunOutput {
        directory: out.clone(),
        keep: intervals.keep,
        texts: formats::hugging_face::files(&pretrain.config().model, tokenizer)?,
        prompt: prompt.as_deref().unwrap_or_default(),
        extra: serde_json::to_value(notes)?,
        setup_s: started.elapsed().as_secs_f64(),
    };
    let mut ended = Reason::Finished;
    let result = pretrain.run(device, tokenizer, intervals, &output, &stop, &mut |mut event| {
        let reading = match &mut event {
            Event::Step { step, .. } => power.after_step(*step, tokens_per_step),
            Event::Done { reason, peak_memory_mib, .. } => {
                ended = *reason;
                *peak_memory_mib = crate::memory::peak_mib();
                power.read()
            }
            _ => None,
        };
        for event in reading.iter().chain([&event]) {
            if let Err(error) = view.show(event) {
                failed.get_or_insert(error);
                stop.request(Reason::Stopped);
            }
        }
        match event {
            Event::Step { step, .. } => {
                if let Some(message) = doctor.ask(step)?
                    && let Err(error) = view.show(&Event::Warning { message })
                {
                    failed.get_or_insert(error);
                }
                Ok::<_, TrainError>(())
            }
            _ => Ok(()),
        }
    });
    view.finish();
    result.with_context(|| match checkpoint::exists(&out) {
        true => format!("the run ended; go on with: {}", view::resume(&out)),
        false => "the run ended before its first checkpoint".to_owned(),
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some(signal) = Signal::of(ended) {
        view.line(&ending::interrupted(&out))?;
        return Err(EndedBy(signal).into());
    }
    Ok(())
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
            "the device does not take this model with {extent}; smaller ones may fit, and \
             --device cpu has no such limits"
        )),
        false => error,
    }
}

/// What the cost model says of a step, where it knows the chip.
fn forecast(machine: &Machine, run: &RunConfig) -> Result<Option<Forecast>> {
    let Some(on) = machine.device.profile() else { return Ok(None) };
    let step = gpt::forecast::forecast(&run.model, run.batch, run.seq, run.accum, &on)?;
    let ms = |seconds: f64| 1e3 * seconds;
    Ok(Some(Forecast {
        chip: on.chip.to_string(),
        ms: ms(step.seconds),
        low_ms: ms(step.low),
        high_ms: ms(step.high),
        parts: step.parts().map(|(name, seconds)| (name.to_owned(), ms(seconds))).into(),
    }))
}

fn tokens_per_step(config: &RunConfig) -> usize {
    config.batch * config.accum * config.seq
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

fn start_event(
    pretrain: &Pretrain,
    machine: &Machine,
    host_gemm: &HostGemm,
    unigram_entropy: f64,
    settings: Settings,
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
        settings: Box::new(settings),
    }
}
