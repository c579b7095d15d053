//! From flags, files and checkpoints to everything that a run needs.

mod args;
mod dial;
mod directory;
mod frame;
mod numbers;
mod prompt;
mod ready;
mod rl;
mod rl_args;
mod sft;
mod sft_args;
mod shape;
mod sources;
mod talks;

pub(crate) use args::{BudgetArgs, RunArgs, ShapeArgs};
pub(crate) use directory::{Place, output_directory, reserve_directory};
pub(crate) use frame::Ready;
pub(crate) use numbers::{fits_in_memory, run_config};
pub(crate) use rl::open as open_rl;
pub(crate) use rl_args::RlArgs;
pub(crate) use sft::open as open_sft;
pub(crate) use sft_args::SftArgs;
pub(crate) use shape::Base;

use crate::corpus;
use crate::settings::{self, ConfigFile, Suited, TrainSection, Weights};
use crate::{files, term, usage};
use anyhow::{Context, Result};
use chip::Profile;
use dial::{Turned, turn};
use frame::{Frame, FrameNotes, Opened, Talk, check_steps_left, saved};
use gpt::{Depth, Dims, GptConfig};
use mil::DType;
use numbers::{Cadence, fits, run_at, with_changes};
use serde::{Deserialize, Serialize};
use sources::{DataChoice, Packing, Sources, Texts};
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;
use train::evaluate::Core;
use train::recipe::MATRIX_RATE;
use train::{Checkpoint, CoreEvery, RunConfig, checkpoint};

/// The command of a run that learns from texts.
const TRAIN: &str = "train";
/// The command of a run that learns from conversations.
const SFT: &str = "sft";
/// The command of a run that learns from judged answers.
const RL: &str = "rl";
/// The seed of runs that ask for none.
const SEED: u64 = 42;

/// The notes in a checkpoint by which `--resume` needs nothing else.
#[derive(Serialize, Deserialize)]
struct Notes {
    /// An absolute path, so that the run goes on from any directory; or `synthetic`.
    data: String,
    /// The same for the validation part, if it does not come from `data`.
    #[serde(default)]
    val_data: Option<String>,
    /// The field or column that holds the text.
    #[serde(default)]
    text_field: Option<String>,
    /// How documents are packed; runs from before there was a choice had windows.
    #[serde(default)]
    packing: Packing,
    prompt: String,
    /// What of CORE is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    core: Option<CoreNotes>,
    #[serde(flatten)]
    frame: FrameNotes,
}

/// CORE while a run trains, as the run notes it in its checkpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CoreNotes {
    /// Steps between measurements.
    pub(crate) every: u64,
    /// Directory of the tasks, an absolute path.
    pub(crate) bundle: PathBuf,
    /// The most questions of each task.
    pub(crate) most: usize,
}

impl CoreNotes {
    /// The questions.
    ///
    /// # Errors
    /// When the bundle cannot be read.
    pub(crate) fn read(&self) -> Result<CoreEvery> {
        let core = Core::read(&self.bundle, None, Some(self.most))?;
        Ok(CoreEvery { steps: self.every, core })
    }
}

/// A run of `anegpt train` before it is compiled.
pub(crate) struct Setup {
    frame: Frame,
    texts: Texts,
    prompt: prompt::Wanted,
    /// True if a resumed run is judged by another text than before.
    judged_anew: bool,
    /// What of CORE is measured.
    pub(crate) core: Option<CoreNotes>,
    /// What the rules of the dial give that cannot be meant.
    dial_warnings: Vec<String>,
}

/// Data as a checkpoint notes it: to be found from any directory.
fn absolute(data: String) -> String {
    match std::path::absolute(&data) {
        Ok(path) if data != "synthetic" => path.display().to_string(),
        _ => data,
    }
}

/// Settings given by flags.
fn flags(args: &RunArgs) -> TrainSection {
    TrainSection {
        steps: args.steps,
        lr: args.lr,
        min_lr: args.min_lr,
        warmup: args.warmup,
        batch: args.batch,
        accum: args.accum,
        seq: args.seq,
        clip: args.clip,
        optimizer: args.optimizer,
        embedding_lr: args.embedding_lr,
        classifier_lr: args.classifier_lr,
        vector_lr: args.vector_lr,
        value_embedding_lr: args.value_embedding_lr,
        scalar_lr: args.scalar_lr,
        smear_lr: args.smear_lr,
        token_param_ratio: args.budget.token_param_ratio,
        batch_tokens: args.budget.batch_tokens,
        target_flops: args.budget.target_flops,
        momentum: args.momentum,
        schedule: args.schedule,
        warmdown: args.warmdown,
        weight_decay: args.weight_decay,
        seed: args.seed,
        ..TrainSection::default()
    }
}

/// Reads what `args` name: a checkpoint to go on from, or the beginning of a run.
pub(crate) fn open(args: &RunArgs) -> Result<Setup> {
    match &args.resume {
        Some(directory) => resumed(args, directory),
        None => fresh(args),
    }
}

fn fresh(args: &RunArgs) -> Result<Setup> {
    let mut file = match &args.config {
        Some(path) => settings::read(path)?,
        None => ConfigFile::default(),
    };
    args.shape.onto(&mut file, args.preset.as_deref());
    let asked = flags(args).or(file.train);
    let base = Base::new(&file, asked.seq)?;
    refuse_without_dial(&base, &asked)?;
    let seed = asked.seed.unwrap_or(SEED);
    let shaped = base.dial || file.model != settings::ModelSection::default();
    if args.init.is_some() && shaped {
        return Err(usage(
            "the weights of --init have a shape of their own: leave out [model], depth, and flags such as \
             --head-dim",
        ));
    }
    if let (Some(_), Some(spec)) = (&args.init, args.tokenizer.as_deref())
        && corpus::is_learned(spec)
    {
        return Err(usage(format!(
            "--tokenizer {spec} learns a vocabulary from the text, which cannot be that of the weights of \
             --init: give the tokenizer file that they were trained with"
        )));
    }
    let init = args.init.as_deref().map(files::read_model).transpose()?;
    let talk = init.as_ref().map(Talk::of).unwrap_or_default();
    let beside = match &init {
        Some(model) if args.tokenizer.is_none() => {
            let path = model.tokenizer.as_deref().ok_or_else(|| {
                usage("--init weights need the tokenizer they were trained with: give --tokenizer FILE")
            })?;
            Some(files::read_tokenizer(None, Some(path))?)
        }
        _ => None,
    };
    let data = absolute(args.data.clone().unwrap_or_else(|| "synthetic".to_owned()));
    let val_data = args.val_data.clone().map(absolute);
    let packing = args.packing.unwrap_or_default();
    let data = DataChoice { data, val_data, field: args.text_field.clone(), packing };
    let sources = Sources::read(data, args.tokenizer.as_deref(), beside, seed)?;
    let have = sources.tokenizer().vocab_size();
    let (model, params) = match init {
        Some(found) => {
            let config = found.parameters.config().clone();
            let need = config.vocab_size;
            if have > need {
                return Err(usage(format!(
                    "the tokenizer has {have} tokens but the model {need}: give the tokenizer that \
                     the weights were trained with"
                )));
            }
            (config, Some(found.parameters.into_values()))
        }
        None => (settings::model(base.config, &file.model, have, asked.seq)?, None),
    };
    numbers::sequence(asked.seq, model.seq_len, &model)?;
    let weights = match params {
        Some(_) => {
            let train_tokens = sources.train_tokens(settings::sequence(&model, &asked), seed)?;
            Weights::Existing { train_tokens }
        }
        None => Weights::Fresh,
    };
    let open = || Opened::fresh(&args.machine);
    let (config, lr_reason, opened, dial_warnings) = match base.depth.filter(|_| base.dial) {
        Some(depth) => {
            let opened = open()?;
            let profile = opened.machine.device.profile();
            let (config, turned) = by_depth(&depth, model, &asked, None, profile.as_ref())?;
            fits_in_memory(&config)?;
            (config, turned.lr_reason, opened, turned.warnings)
        }
        None => {
            let Suited { settings, lr_reason } = settings::suited(&model, &asked, weights);
            let config = run_config(model, &settings, seed)?;
            fits_in_memory(&config)?;
            (config, lr_reason, open()?, vec![])
        }
    };
    let params = params.unwrap_or_else(|| gpt::initialise(&config.model, seed));
    let cadence = Cadence::of(&args.output, args.shown.sample_every);
    let mut frame = Frame::fresh(TRAIN, config, params, (opened, &args.machine), cadence, talk)?;
    (frame.lr_reason, frame.warmup) = (lr_reason, asked.warmup);
    frame.init = args.init.clone();
    let texts = sources.cut(frame.config.seq, seed)?;
    Ok(Setup {
        frame,
        texts,
        prompt: prompt::Wanted::new(args.prompt.as_deref(), None),
        judged_anew: false,
        core: None,
        dial_warnings,
    })
}

/// The settings of a run that follow from the depth of its model, on a machine with `profile`, if it has one, and
/// `memory` bytes, unless those are this machine's.
pub(crate) fn by_depth(
    depth: &Depth,
    model: GptConfig,
    asked: &TrainSection,
    memory: Option<f64>,
    profile: Option<&Profile>,
) -> Result<(RunConfig, Turned)> {
    let turned = turn(depth, &model, asked, &mut |batch, seq| {
        let dims = Dims { config: &model, batch, seq, dtype: DType::Fp16 };
        fits(&dims, memory, profile)
    })?;
    let rate = turned.settings.lr.map_or(1.0, |lr| lr / MATRIX_RATE);
    let mut config = run_at(model, &turned.settings, asked.seed.unwrap_or(SEED), rate)?;
    config.dial = Some(turned.dial.clone());
    Ok((config, turned))
}

/// Refuses flags of the dial in a run that has none.
pub(crate) fn refuse_without_dial(base: &Base, asked: &TrainSection) -> Result<()> {
    let given = [
        ("--token-param-ratio", asked.token_param_ratio.is_some()),
        ("--batch-tokens", asked.batch_tokens.is_some()),
        ("--target-flops", asked.target_flops.is_some()),
    ];
    match given.iter().find(|(_, given)| *given && !base.dial) {
        Some((flag, _)) => Err(usage(format!("{flag} is a rule of --depth N: give that too"))),
        None => Ok(()),
    }
}

fn resumed(args: &RunArgs, directory: &Path) -> Result<Setup> {
    let found = newest(directory)?;
    let (config, notes) = saved::<Notes>(TRAIN, &found)?;
    for (flag, given) in [
        ("--batch", args.batch.is_some()),
        ("--accum", args.accum.is_some()),
        ("--seq", args.seq.is_some()),
        ("--seed", args.seed.is_some()),
        ("--optimizer", args.optimizer.is_some()),
        ("--tokenizer", args.tokenizer.is_some()),
        ("--packing", args.packing.is_some()),
    ] {
        if given {
            return Err(usage(format!("{flag} cannot change in a resumed run: leave it out")));
        }
    }
    let config = with_changes(config, args)?;
    check_steps_left(&config, &found)?;
    let tokenizer = Tokenizer::load(found.path().join("tokenizer.json"))?;
    let noted = "the data that the checkpoint names; where it is elsewhere now, give --data FILE";
    let data = args.data.clone().map_or(notes.data, absolute);
    let val_data = args.val_data.clone().map(absolute).or(notes.val_data);
    let field = args.text_field.clone().or(notes.text_field);
    let data = DataChoice { data, val_data, field, packing: notes.packing };
    let sources = Sources::read(data, None, Some(tokenizer), config.seed);
    let sources = match args.data.is_some() || args.val_data.is_some() {
        true => sources?,
        false => sources.context(noted)?,
    };
    let cadence = Cadence::of(&args.output, args.shown.sample_every);
    let mut frame = Frame::again(TRAIN, config, (found, notes.frame), &args.machine, cadence)?;
    frame.warmup = args.warmup;
    if args.lr.is_some() {
        frame.lr_reason = "as asked for".to_owned();
    }
    let mut texts = sources.cut(frame.config.seq, frame.config.seed)?;
    let judged_anew = args.val_data.is_some();
    if judged_anew {
        texts.judge_anew();
    }
    Ok(Setup {
        frame,
        texts,
        prompt: prompt::Wanted::new(args.prompt.as_deref(), Some(&notes.prompt)),
        judged_anew,
        core: notes.core,
        dial_warnings: vec![],
    })
}

/// Reads the newest checkpoint of a run, or the one in `directory`; tells of damaged ones that it skips, and of
/// later ones.
fn newest(directory: &Path) -> Result<Checkpoint> {
    let (found, faults) = checkpoint::newest(directory)?;
    faults.iter().for_each(|fault| term::warn(&format!("skipped a damaged checkpoint: {fault}")));
    warn_of_later(&found);
    Ok(found)
}

/// Warns when resuming from before later checkpoints.
fn warn_of_later(found: &Checkpoint) {
    let Some(run) = found.path().parent() else { return };
    if let Ok((later, _)) = checkpoint::newest(run)
        && later.step() > found.step()
    {
        term::warn(&format!(
            "{} also holds a later checkpoint, step {}: --resume {0} and --model {0} use that one until \
             this run has passed it. Use --out DIR to keep the two runs apart",
            run.display(),
            later.step()
        ));
    }
}
