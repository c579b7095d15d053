//! `anegpt train`.

mod args;
mod directory;
mod doctor;
mod numbers;
mod report;
mod setup;
mod view;

pub(crate) use args::Args;
pub(super) use numbers::{fits_in_memory, run_config};

use crate::host_gemm::HostGemm;
use crate::machine::Machine;
use crate::power::RunPower;
use crate::stop;
use anyhow::{Context, Result};
use clap::ValueEnum;
use data::loader::{Loader, LoaderConfig, Split};
use directory::{next_free_directory, output_directory};
use doctor::Doctor;
use gpt::forecast::forecast;
use numbers::intervals;
use setup::{Notes, Setup, fresh, resumed};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use train::{Event, Lock, Pretrain, RunConfig, RunOutput, checkpoint};
use view::View;

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
    view.report(machine.kind, &pretrain, started, entropy, drawn, (&out, &prompt));
    Ok(())
}

fn tokens_per_step(config: &RunConfig) -> usize {
    config.batch * config.accum * config.seq
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
