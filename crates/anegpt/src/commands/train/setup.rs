//! From flags, files and checkpoints to everything that a run needs.

use super::args::Args;
use super::numbers::{fits_in_memory, run_config, with_changes};
use crate::corpus::{self, Corpus};
use crate::host_gemm::{self, HostGemm, HostGemmChoice};
use crate::machine::{self, DeviceChoice, Machine, NumericsChoice};
use crate::settings::{self, ConfigFile, TrainSection};
use crate::{files, usage};
use anyhow::{Context, Result};
use clap::ValueEnum;
use gpt::{GptConfig, Layout};
use std::path::Path;
use tokenizer::Tokenizer;
use train::{Checkpoint, Pretrain, RunConfig, checkpoint};

/// What a checkpoint notes so that `--resume` needs nothing else.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Notes {
    pub(super) data: String,
    pub(super) numerics: String,
    pub(super) prompt: String,
    /// What was asked for, so that a resumed run computes as it did.
    pub(super) device: String,
    pub(super) chip: Option<String>,
    /// What computed the host's products; runs from before there was a choice had our own.
    #[serde(default = "ours")]
    pub(super) host_gemm: String,
}

pub(super) fn ours() -> String {
    host_gemm::OURS.to_owned()
}

impl Notes {
    fn device(&self) -> Option<DeviceChoice> {
        DeviceChoice::from_str(&self.device, true).ok()
    }

    fn chip(&self) -> Option<ane::Chip> {
        self.chip.as_ref()?.parse().ok()
    }
}

/// Everything a run needs.
pub(super) struct Setup {
    pub(super) config: RunConfig,
    pub(super) params: Vec<f32>,
    pub(super) corpus: Corpus,
    pub(super) machine: Machine,
    pub(super) host_gemm: HostGemm,
    /// What computed the host's products of the resumed run.
    pub(super) host_gemm_before: Option<String>,
    /// What was asked for.
    pub(super) device: DeviceChoice,
    pub(super) chip: Option<ane::Chip>,
    pub(super) data: String,
    pub(super) prompt: String,
    pub(super) resumed: Option<Checkpoint>,
}

/// Settings given by flags.
pub(super) fn flags(args: &Args) -> TrainSection {
    TrainSection {
        steps: args.steps,
        lr: args.lr,
        min_lr: args.min_lr,
        warmup: args.warmup,
        batch: args.batch,
        accum: args.accum,
        seq: args.seq,
        clip: args.clip,
        weight_decay: args.weight_decay,
        seed: args.seed,
        ..TrainSection::default()
    }
}

pub(super) fn fresh(args: &Args) -> Result<Setup> {
    let file = match &args.config {
        Some(path) => settings::read(path)?,
        None => ConfigFile::default(),
    };
    let preset = args.preset.as_deref().or(file.preset.as_deref()).unwrap_or("tiny");
    let base = GptConfig::preset(preset).map_err(|e| usage(e.to_string()))?;
    let asked = flags(args).or(file.train);
    let train = asked.or(settings::preset_training(preset));
    let seed = train.seed.unwrap_or(42);
    if args.init.is_some() && file.model != settings::ModelSection::default() {
        return Err(usage("the weights of --init have a shape of their own: leave out [model]"));
    }
    let init = args.init.as_deref().map(files::read_model).transpose()?;
    let beside = match &init {
        Some(model) if args.tokenizer.is_none() => {
            let path = model.tokenizer.as_deref().ok_or_else(|| {
                usage("--init weights need the tokenizer they were trained with: give --tokenizer FILE")
            })?;
            Some(Tokenizer::load(path)?)
        }
        _ => None,
    };
    let data = args.data.clone().unwrap_or_else(|| "synthetic".to_owned());
    let corpus = corpus::load(&data, args.tokenizer.as_deref(), beside, seed)?;
    let (model, params) = match init {
        Some(found) => {
            let (have, need) = (corpus.tokenizer.vocab_size(), found.config.vocab_size);
            if have > need {
                return Err(usage(format!(
                    "the tokenizer has {have} tokens but the model {need}: give the tokenizer that \
                     the weights were trained with"
                )));
            }
            (found.config, Some(found.params))
        }
        None => {
            let vocab_size = corpus.tokenizer.vocab_size();
            let model = settings::model(base, &file.model, vocab_size, train.seq)?;
            (model, None)
        }
    };
    if let Some(seq) = asked.seq.filter(|&seq| seq > model.seq_len) {
        return Err(usage(format!(
            "--seq {seq} is longer than the {} tokens that the model reads",
            model.seq_len
        )));
    }
    let config = run_config(model, &train, seed)?;
    fits_in_memory(&config)?;
    let params = params.unwrap_or_else(|| gpt::initialise(&config.model, seed));
    let (device, chip) = (args.device.unwrap_or(DeviceChoice::Auto), args.chip);
    let machine = machine::open(device, chip, args.numerics)?;
    let choice = args.host_gemm.unwrap_or(HostGemmChoice::Auto);
    let host_gemm = HostGemm::choose(choice, &host_gemm::shapes(&config, machine.numerics))?;
    let prompt = args.prompt.clone().unwrap_or_else(|| "Once upon a time".to_owned());
    Ok(Setup {
        config,
        params,
        corpus,
        machine,
        host_gemm,
        host_gemm_before: None,
        device,
        chip,
        data,
        prompt,
        resumed: None,
    })
}

pub(super) fn resumed(args: &Args, directory: &Path) -> Result<Setup> {
    let (found, faults) = checkpoint::newest(directory)?;
    faults.iter().for_each(|fault| eprintln!("warning: skipped a damaged checkpoint: {fault}"));
    warn_of_later(&found);
    let (config, notes) = Pretrain::saved(&found)?;
    let notes: Notes = serde_json::from_value(notes)
        .with_context(|| format!("{} was not written by `train`", found.path().display()))?;
    for (flag, given) in [
        ("--batch", args.batch.is_some()),
        ("--accum", args.accum.is_some()),
        ("--seq", args.seq.is_some()),
        ("--seed", args.seed.is_some()),
        ("--tokenizer", args.tokenizer.is_some()),
    ] {
        if given {
            return Err(usage(format!("{flag} cannot change in a resumed run: leave it out")));
        }
    }
    let config = with_changes(config, args)?;
    if config.schedule.total <= found.step() {
        return Err(usage(format!(
            "the run has done its {} steps: give --steps N for a longer one (N counts from the beginning)",
            found.step()
        )));
    }
    let tokenizer = Tokenizer::load(found.path().join("tokenizer.json"))?;
    let device = args.device.or(notes.device()).unwrap_or(DeviceChoice::Auto);
    // Another device is asked for without the chip of the one before.
    let chip = args.chip.or(notes.chip().filter(|_| args.device.is_none()));
    let data = args.data.clone().unwrap_or(notes.data);
    let corpus = corpus::load(&data, None, Some(tokenizer), config.seed)?;
    let numerics = args.numerics.or_else(|| NumericsChoice::from_str(&notes.numerics, true).ok());
    let machine = machine::open(device, chip, numerics)?;
    fits_in_memory(&config)?;
    let params = vec![0.0; Layout::new(&config.model).count()];
    let prompt = args.prompt.clone().unwrap_or(notes.prompt);
    let shapes = host_gemm::shapes(&config, machine.numerics);
    let host_gemm = HostGemm::resume(args.host_gemm, &notes.host_gemm, &shapes)?;
    Ok(Setup {
        config,
        params,
        corpus,
        machine,
        host_gemm,
        host_gemm_before: Some(notes.host_gemm),
        device,
        chip,
        data,
        prompt,
        resumed: Some(found),
    })
}

/// Says that a run goes back behind checkpoints that stay where they are.
pub(super) fn warn_of_later(found: &Checkpoint) {
    let Some(run) = found.path().parent() else { return };
    if let Ok((later, _)) = checkpoint::newest(run)
        && later.step() > found.step()
    {
        eprintln!(
            "warning: {} has step {} too, which stays and is what --resume {0} and --model {0} take \
             until this run has passed it; --out DIR keeps the two apart",
            run.display(),
            later.step()
        );
    }
}
