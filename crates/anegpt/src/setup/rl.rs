//! From the flags of `anegpt rl` to a run.

use super::frame::{About, Frame, FrameNotes, Opened, Ready, Talk, check_steps_left, saved};
use super::numbers::{Cadence, check_extents, check_numbers, fits_in_memory, run_config, sequence};
use super::rl_args::RlArgs;
use super::sft::{Base, format_of};
use super::talks::Measured;
use super::{RL, SEED, newest};
use crate::files::{self, Opened as OpenedModel};
use crate::generation::ToolArgs;
use crate::settings::{self, TrainSection, Weights};
use crate::{progress, task_data, usage};
use anyhow::Result;
use gpt::GptConfig;
use infer::Sampling;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tasks::{Conversations, Split, Task};
use tokenizer::Tokenizer;
use train::evaluate::Chat;
use train::objective::rl::{Advantage, Interview, Questions, Rl, RlConfig, Speaker};
use train::{Decay, Intervals, LrSchedule, Momentum, OptimizerConfig, RunConfig, Talks};

/// The first rate as a share of the peak of the model's run (nanochat).
const RATE_SHARE: f64 = 0.05;
/// Muon's momentum (nanochat).
const MOMENTUM: Momentum = Momentum::Constant(0.95);
/// Measurements of a run, besides that before the first step.
const MEASUREMENTS: u64 = 10;
/// Examples of answers.
const EXAMPLES: u64 = 5;

/// The notes in a checkpoint by which `--resume` needs nothing else.
#[derive(Serialize, Deserialize)]
struct Notes {
    rl: Asked,
    /// The tasks whose accuracies are measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
    #[serde(flatten)]
    frame: FrameNotes,
}

/// What is asked and how; paths are absolute.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    tasks: Vec<String>,
    task_data: PathBuf,
    questions: usize,
    samples: usize,
    max_tokens: usize,
    temperature: f32,
    top_k: usize,
    advantage: Advantage,
    epochs: usize,
    ratio_clip: f64,
    held_out: usize,
    held_out_samples: usize,
    tools: ToolArgs,
    /// True if the model may run programs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    python: bool,
}

/// A run of `anegpt rl` before it is compiled.
pub(crate) struct RlSetup {
    frame: Frame,
    asked: Asked,
    interview: Interview,
    measured: Option<Measured>,
    /// The questions of those tasks, and the steps between.
    asking: Option<(u64, Chat)>,
    slots: usize,
}

/// Reads what `args` name: a checkpoint to go on from, or the beginning of a run.
///
/// # Errors
/// When a file cannot be read, the model has no format of conversations, or a flag makes no sense.
pub(crate) fn open(args: &RlArgs) -> Result<RlSetup> {
    match &args.resume {
        Some(directory) => resumed(args, directory),
        None => fresh(args),
    }
}

fn fresh(args: &RlArgs) -> Result<RlSetup> {
    let path = args.model.as_deref().ok_or_else(|| usage("give --model or --resume"))?;
    check_extents(&TrainSection { batch: args.batch, seq: args.seq, ..TrainSection::default() })?;
    let asked = Asked::of(args)?;
    let model = files::open_model(path, args.tokenizer.as_deref())?;
    let base = Base::of(&model)?;
    let OpenedModel { parameters, tokenizer, ends, chat_template, .. } = model;
    let talk = Talk { ends, chat_template };
    let interview = asked.open(path, tokenizer, &talk)?;
    let shape = parameters.config().clone();
    let seq = sequence(args.seq, longest(&interview, asked.max_tokens), &shape)?;
    let (mut config, lr_reason) = settings_of(args, base.map(|base| base.run), shape, seq)?;
    let rounds = interview.questions().len().div_ceil(asked.questions) as u64;
    config.schedule.total = args.steps.unwrap_or(rounds * asked.epochs as u64);
    config.accum = (asked.questions * asked.samples).div_ceil(config.batch);
    check_numbers(&config)?;
    fits_in_memory(&config)?;
    let opened = Opened::fresh(&args.machine)?;
    let cadence = Cadence::of(&args.output, args.shown.sample_every);
    let params = parameters.into_values();
    let mut frame = Frame::fresh(RL, config, params, (opened, &args.machine), cadence, talk)?;
    (frame.lr_reason, frame.init) = (lr_reason, Some(path.to_owned()));
    let measured = args.measured.or(None);
    let asking = asked.measuring(measured.as_ref())?;
    Ok(RlSetup { frame, asked, interview, measured, asking, slots: args.slots.into() })
}

fn resumed(args: &RlArgs, directory: &Path) -> Result<RlSetup> {
    let found = newest(directory)?;
    let (mut config, notes) = saved::<Notes>(RL, &found)?;
    if let Some(steps) = args.steps {
        config.schedule.total = steps;
    }
    check_steps_left(&config, &found)?;
    let tokenizer = Tokenizer::load(found.path().join("tokenizer.json"))?;
    let mut asked = notes.rl;
    if let Some(path) = &args.task_data {
        asked.task_data = files::absolute(path)?;
    }
    let interview = asked.open(found.path(), tokenizer, &notes.frame.talk)?;
    let cadence = Cadence::of(&args.output, args.shown.sample_every);
    let measured = args.measured.or(notes.measured);
    Ok(RlSetup {
        asking: asked.measuring(measured.as_ref())?,
        measured,
        frame: Frame::again(RL, config, (found, notes.frame), &args.machine, cadence)?,
        asked,
        interview,
        slots: args.slots.into(),
    })
}

/// The settings of a run that goes on from that of its model, where this is known, and why its rate. Steps and
/// micro-batches are still to be set.
fn settings_of(
    args: &RlArgs,
    base: Option<RunConfig>,
    shape: GptConfig,
    seq: usize,
) -> Result<(RunConfig, String)> {
    let seed = args.seed.unwrap_or(SEED);
    let share = args.init_lr_frac.unwrap_or(RATE_SHARE);
    let (base, whose) = match base {
        Some(base) => (base, "that of the run it goes on from"),
        None => {
            let asked = TrainSection {
                seq: Some(seq),
                steps: Some(1),
                batch: args.batch,
                ..TrainSection::default()
            };
            let chosen = settings::suited(&shape, &asked, Weights::Existing { train_tokens: 0 });
            (run_config(shape.clone(), &chosen.settings, seed)?, "that of finetuning")
        }
    };
    let mut optimizer = base.optimizer;
    *optimizer.weight_decay_mut() = 0.0;
    if let OptimizerConfig::Muon(muon) = &mut optimizer {
        muon.momentum = MOMENTUM;
    }
    let lr_reason = match args.lr {
        Some(_) => "as asked for".to_owned(),
        None => format!("{share} times {whose}"),
    };
    let schedule = LrSchedule {
        peak: args.lr.unwrap_or(share * base.schedule.peak),
        floor: 0.0,
        warmup: 0,
        total: 1,
        decay: Decay::Linear { share: 1.0 },
        multipliers: base.schedule.multipliers,
    };
    let config = RunConfig {
        model: shape,
        optimizer,
        schedule,
        batch: args.batch.unwrap_or(base.batch),
        accum: 1,
        seq,
        clip: args.clip.unwrap_or(base.clip),
        seed,
        plan: base.plan,
        dial: None,
    };
    Ok((config, lr_reason))
}

impl Asked {
    fn of(args: &RlArgs) -> Result<Asked> {
        if !(args.temperature.is_finite() && args.temperature > 0.0) {
            let t = args.temperature;
            return Err(usage(format!("--temperature {t} must be a number above 0")));
        }
        if !(args.ratio_clip.is_finite() && args.ratio_clip > 0.0) {
            let clip = args.ratio_clip;
            return Err(usage(format!("--ratio-clip {clip} must be a number above 0")));
        }
        args.tasks.iter().try_for_each(|text| check_judged(text))?;
        Ok(Asked {
            tasks: args.tasks.clone(),
            task_data: task_data::directory(args.task_data.as_deref())?,
            questions: args.questions,
            samples: args.samples,
            max_tokens: args.max_tokens,
            temperature: args.temperature,
            top_k: args.top_k,
            advantage: args.advantage_norm.into(),
            epochs: args.epochs,
            ratio_clip: args.ratio_clip,
            held_out: args.held_out,
            held_out_samples: args.held_out_samples,
            tools: args.tools,
            python: args.programs.python,
        })
    }

    /// Opens the questions for a model that is at `path`.
    fn open(&self, path: &Path, tokenizer: Tokenizer, talk: &Talk) -> Result<Interview> {
        let template = format_of(path, &tokenizer, talk)?;
        let tools = self.tools.find_with(self.python, &tokenizer)?;
        let ends = talk.ends.clone();
        let speaker = Speaker { tokenizer: Arc::new(tokenizer), template, ends, tools };
        Ok(Interview::new(speaker, self.part(Split::Train)?, self.part(Split::Test)?)?)
    }

    /// The questions that measure, and the steps between.
    fn measuring(&self, measured: Option<&Measured>) -> Result<Option<(u64, Chat)>> {
        measured.map(|measured| measured.open(&self.tasks, &self.task_data)).transpose()
    }

    /// The questions of one part of all tasks. Each measures once, however often it comes in training.
    fn part(&self, split: Split) -> Result<Questions> {
        let options = tasks::Options { data: &self.task_data, ..tasks::Options::default() };
        let mut all: Vec<Arc<dyn Task>> = vec![];
        for text in &self.tasks {
            let (name, times) = tasks::counted(text)?;
            task_data::provide(name, split, &self.task_data)?;
            let task: Arc<dyn Task> = tasks::open(name, split, &options)?.into();
            let times = if split == Split::Train { times } else { 1 };
            all.extend(std::iter::repeat_n(task, times));
        }
        Ok(Questions::new(all))
    }

    fn config(&self, slots: usize, example: u64) -> RlConfig {
        let sampling =
            Sampling { temperature: self.temperature, top_k: self.top_k, ..Sampling::GREEDY };
        RlConfig {
            questions: self.questions,
            samples: self.samples,
            max_tokens: self.max_tokens,
            sampling,
            advantage: self.advantage,
            epochs: self.epochs,
            clip: self.ratio_clip,
            slots,
            held_out_samples: self.held_out_samples,
            example,
        }
    }
}

/// Refuses a task that has no part to learn from, or whose answers are not judged.
fn check_judged(text: &str) -> Result<()> {
    let (name, _) = tasks::counted(text)?;
    tasks::source(name, Split::Train)?;
    task_data::check_judged(name)
}

/// Tokens of the longest question with an answer of `answer` tokens, rounded up so that programs have even widths.
fn longest(interview: &Interview, answer: usize) -> usize {
    (interview.longest() + answer).next_multiple_of(32)
}

impl RlSetup {
    /// Compiles the model, and brings a resumed run to where it stood. `faults` are those to inject.
    ///
    /// # Errors
    /// When the device does not take the model, or the checkpoint is of another run.
    pub(crate) fn ready(self, faults: Option<&str>) -> Result<Ready<Rl>> {
        let about = self.about();
        let warnings = self.warnings();
        let RlSetup { frame, asked, interview, measured, asking, slots } = self;
        let total = frame.config.schedule.total;
        let every = |asked: Option<u64>, times: u64| asked.unwrap_or((total / times).max(1));
        let intervals = Intervals {
            eval: every(frame.cadence.eval_every, MEASUREMENTS),
            eval_batches: asked.held_out,
            sample: 0,
            ..frame.intervals()
        };
        let examples = every(frame.cadence.sample_every, EXAMPLES).div_ceil(asked.epochs as u64);
        let tokenizer = Tokenizer::clone(&interview.speaker().tokenizer);
        let config = asked.config(slots, examples);
        let speaker = interview.speaker().clone();
        let talks = Talks { speaker, questions: vec![], tasks: asking };
        let objective = Rl::new(config, interview, &frame.config)?;
        let (frame, run) = frame.compile(faults, objective)?;
        let notes = Notes { rl: asked, measured, frame: frame.notes() };
        let mut ready = frame.ready(run, tokenizer, about, intervals, None, &notes, warnings)?;
        ready.talks = Some(talks);
        Ok(ready)
    }

    fn warnings(&self) -> Vec<String> {
        let (asked, there) = (self.asked.held_out, self.interview.held_out().len());
        let fewer = (asked > there).then(|| {
            format!("--held-out {asked}: the tasks have {there} held-out questions, and all of them measure")
        });
        self.frame.warnings().into_iter().chain(fewer).collect()
    }

    fn about(&self) -> About {
        let Asked { tasks, questions, samples, max_tokens, epochs, .. } = &self.asked;
        let (train, test) = (self.interview.questions().len(), self.interview.held_out().len());
        let data = tasks.join(", ");
        let asked = self.interview.held_out();
        let first = (!asked.is_empty()).then(|| asked.get(0).ok()).flatten();
        let question = first.and_then(|asked| super::talks::question_of(asked.question()));
        let rounds = self.frame.config.schedule.total.div_ceil(*epochs as u64);
        let text = format!(
            "{data}: {} to learn from, {test} held out, by {}; {questions} × {samples} answers a round, of at \
             most {max_tokens} tokens",
            progress::counted(train, "question"),
            self.interview.speaker().template.describe(),
        );
        About {
            data,
            val_data: None,
            text,
            tokens: [0, 0],
            epochs: rounds as f64 * *questions as f64 / train as f64,
            unigram_entropy: 0.0,
            question,
        }
    }
}
