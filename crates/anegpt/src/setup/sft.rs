//! From the flags of `anegpt sft` to a run.

use super::frame::{About, Frame, FrameNotes, Opened, Ready, Talk, check_steps_left, saved};
use super::numbers::{Cadence, check_extents, check_numbers, fits_in_memory, run_config, sequence};
use super::sft_args::{LoraChoice, SftArgs};
use super::talks::{Measured, question_of, speaker};
use super::{SEED, SFT, newest};
use crate::files::{self, Opened as OpenedModel};
use crate::settings::{self, TrainSection, Weights};
use crate::{progress, task_data, usage};
use anyhow::{Context, Result};
use data::loader::examples::{Examples, Packed, PackedConfig, Survey, WAITING, unigram_entropy};
use gpt::{GptConfig, Layout, Param};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tasks::{Conversations, JsonLines, Mixture, Sequence, Slice};
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Message, Role};
use train::evaluate::Chat;
use train::objective::{Chats, Sft};
use train::{
    AdamW, Checkpoint, Decay, Lora, LrSchedule, Momentum, Multipliers, OptimizerConfig, RunConfig,
    Talks,
};

/// The peak rate as a share of the base run's (nanochat).
const RATE_SHARE: f64 = 0.8;
/// The last share of the run in which the rate falls to 0 (nanochat).
const WARMDOWN: f64 = 0.5;
/// Muon's momentum (nanochat).
const MOMENTUM: Momentum = Momentum::Trapezoid { first: 0.85, peak: 0.95, last: 0.95, rise: 300 };
/// Steps that make one pass over the conversations enough.
const ENOUGH_STEPS: u64 = 100;
/// Passes otherwise.
const PASSES: u64 = 3;
/// The fewest steps of a run for which none are asked.
const LEAST_STEPS: u64 = 20;
/// Tokens of a row for models of which no run is known.
const SEQUENCE: usize = 512;
/// One of so many conversations validates, where no others are given.
const HELD_OUT: usize = 10;
/// Questions whose answers are samples, where none are given.
const SAMPLES: usize = 3;

/// The notes in a checkpoint by which `--resume` needs nothing else.
#[derive(Serialize, Deserialize)]
struct Notes {
    sft: Source,
    /// The model that the run began with, for who reads its adapter.
    #[serde(default)]
    base: String,
    /// The questions whose answers are samples, where they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prompts: Vec<String>,
    /// The tasks whose accuracies are measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
    #[serde(flatten)]
    frame: FrameNotes,
}

/// Where the conversations of a run come from; paths are absolute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Source {
    /// Names of tasks, each perhaps with how often it comes: `spelling*2`.
    tasks: Vec<String>,
    /// Directory of the files of published tasks.
    task_data: PathBuf,
    data: Option<PathBuf>,
    val_data: Option<PathBuf>,
}

/// A run of `anegpt sft` before it is compiled.
pub(crate) struct SftSetup {
    frame: Frame,
    source: Source,
    tokenizer: Tokenizer,
    parts: [Part; 2],
    /// The checkpoint whose optimizer the run goes on with.
    warm: Option<Checkpoint>,
    format: &'static str,
    base: String,
    prompts: Vec<String>,
    measured: Option<Measured>,
    talks: Talks,
}

/// Reads what `args` name: a checkpoint to go on from, or the beginning of a run.
///
/// # Errors
/// When a file cannot be read, the model has no format of conversations, or a flag makes no sense.
pub(crate) fn open(args: &SftArgs) -> Result<SftSetup> {
    match &args.resume {
        Some(directory) => resumed(args, directory),
        None => fresh(args),
    }
}

fn fresh(args: &SftArgs) -> Result<SftSetup> {
    let path = args.model.as_deref().ok_or_else(|| usage("give --model or --resume"))?;
    if args.tasks.is_empty() && args.data.is_none() {
        return Err(usage(
            "no conversations to learn: give --tasks NAME,..., --data FILE, or both",
        ));
    }
    let model = files::open_model(path, args.tokenizer.as_deref())?;
    let base = Base::of(&model)?;
    let asked = args.asked();
    check_extents(&asked)?;
    let named = named(path, &model.place)?;
    let OpenedModel { parameters, tokenizer, ends, chat_template, .. } = model;
    let talk = Talk { ends, chat_template };
    let format = format_of(path, &tokenizer, &talk)?;
    let config = parameters.config().clone();
    let seed = asked.seed.unwrap_or(SEED);
    let usual = base.as_ref().map_or(SEQUENCE, |base| base.run.seq);
    let seq = sequence(asked.seq, usual, &config)?;
    let source = Source::of(args, Source::default())?;
    let described = format.describe();
    let parts = source.read(&format, &tokenizer, seq, seed)?;
    let measured = args.measured.or(None);
    let tasks = source.measuring(measured.as_ref())?;
    let questions = samples(&args.prompt, &parts[1]);
    let talks = Talks { speaker: speaker(&tokenizer, format, &talk), questions, tasks };
    let asked = TrainSection { seq: Some(seq), seed: Some(seed), ..asked };
    let (mut config, mut lr_reason) = match &base {
        Some(base) => after(&base.run, config, args, &asked, &parts[0].rows)?,
        None => alone(config, args, &asked, &parts[0].rows)?,
    };
    if let Some(lora) = &args.lora {
        lr_reason = adapt(&mut config, lora, &asked)?;
    }
    check_numbers(&config)?;
    fits_in_memory(&config)?;
    let warm = warm(args.load_optimizer, base.filter(|_| args.lora.is_none()))?;
    let opened = Opened::fresh(&args.machine)?;
    let cadence = Cadence::of(&args.output, args.shown.sample_every);
    let params = parameters.into_values();
    let mut frame = Frame::fresh(SFT, config, params, (opened, &args.machine), cadence, talk)?;
    (frame.lr_reason, frame.warmup) = (lr_reason, args.warmup);
    frame.init = Some(path.to_owned());
    let (format, base, prompts) = (described, named, args.prompt.clone());
    Ok(SftSetup { frame, source, tokenizer, parts, warm, format, base, prompts, measured, talks })
}

/// The name by which a model is read again: the address that was given, or where it was read, as an absolute path.
fn named(given: &Path, place: &Path) -> Result<String> {
    Ok(match crate::hub::address(given) {
        Some(_) => given.display().to_string(),
        None => files::absolute(place)?.display().to_string(),
    })
}

fn resumed(args: &SftArgs, directory: &Path) -> Result<SftSetup> {
    let found = newest(directory)?;
    let (mut config, notes) = saved::<Notes>(SFT, &found)?;
    if let Some(steps) = args.steps {
        config.schedule.total = steps;
    }
    check_steps_left(&config, &found)?;
    let tokenizer = Tokenizer::load(found.path().join("tokenizer.json"))?;
    let format = format_of(found.path(), &tokenizer, &notes.frame.talk)?;
    let described = format.describe();
    let source = Source::of(args, notes.sft)?;
    let noted = "the conversations that the checkpoint names; where they are elsewhere now, give --data FILE";
    let parts = source.read(&format, &tokenizer, config.seq, config.seed).context(noted)?;
    let measured = args.measured.or(notes.measured);
    let tasks = source.measuring(measured.as_ref())?;
    let questions = samples(&notes.prompts, &parts[1]);
    let talks = Talks { speaker: speaker(&tokenizer, format, &notes.frame.talk), questions, tasks };
    let cadence = Cadence::of(&args.output, args.shown.sample_every);
    Ok(SftSetup {
        frame: Frame::again(SFT, config, (found, notes.frame), &args.machine, cadence)?,
        source,
        tokenizer,
        parts,
        warm: None,
        format: described,
        base: notes.base,
        prompts: notes.prompts,
        measured,
        talks,
    })
}

impl SftSetup {
    /// Compiles the model, and brings a resumed run to where it stood. `faults` are those to inject.
    ///
    /// # Errors
    /// When the device does not take the model, or the checkpoint is of another run.
    pub(crate) fn ready(self, faults: Option<&str>) -> Result<Ready<Sft>> {
        let about = self.about()?;
        let warnings = self.warnings(about.epochs);
        let SftSetup { frame, source, tokenizer, parts: [train, validation], warm, .. } = self;
        let intervals = frame.intervals();
        let objective = Sft::new(train.rows, validation.rows, &frame.config);
        let (frame, mut run) = frame.compile(faults, objective)?;
        if let Some(base) = &warm {
            run.trainer_mut().warm_start(base, train::run::updates(base)?)?;
        }
        let (base, prompts, measured) = (self.base, self.prompts, self.measured);
        let notes = Notes { sft: source, base, prompts, measured, frame: frame.notes() };
        let mut ready = frame.ready(run, tokenizer, about, intervals, None, &notes, warnings)?;
        ready.talks = Some(self.talks);
        Ok(ready)
    }

    fn about(&self) -> Result<About> {
        let [train, validation] = self.parts.each_ref().map(Part::survey);
        let vocab_size = self.frame.config.model.vocab_size as u32;
        let path = |path: &Path| path.display().to_string();
        let data = self.source.to_string();
        let of = match self.parts[0].noun() {
            "piece" => format!(" of {} conversations", self.parts[0].conversations),
            _ => String::new(),
        };
        let text = format!(
            "{data}: {}{of} to train, {} to validate, by {}; {} of {} tokens are the assistant's",
            progress::counted(train.kept(), self.parts[0].noun()),
            validation.kept(),
            self.format,
            progress::count(train.learned() as f64),
            progress::count(train.tokens() as f64),
        );
        Ok(About {
            data,
            val_data: self.source.val_data.as_deref().map(path),
            text,
            tokens: [train.tokens(), validation.tokens()],
            epochs: self.epochs(),
            unigram_entropy: unigram_entropy(train, validation, vocab_size)?,
            question: self.talks.questions.first().and_then(|asked| question_of(asked)),
        })
    }

    /// How often the conversations are seen in the whole run.
    fn epochs(&self) -> f64 {
        let RunConfig { schedule, batch, accum, .. } = &self.frame.config;
        let rows = schedule.total * (batch * accum) as u64;
        rows as f64 / self.parts[0].rows.rows(1) as f64
    }

    fn warnings(&self, epochs: f64) -> Vec<String> {
        let mut warnings = self.frame.warnings();
        let names = ["to train", "to validate"];
        for (part, name) in self.parts.iter().zip(names) {
            warnings.extend(shortened(part.survey(), part.noun(), name));
        }
        warnings.extend(super::ready::too_often(&self.frame.config, epochs));
        warnings
    }
}

/// A warning where conversations, or pieces of them, are cut or left out.
fn shortened(survey: &Survey, noun: &str, name: &str) -> Option<String> {
    let (all, seq) = (survey.len(), survey.seq());
    let of = |n: usize, one: &str, many: &str| {
        format!(
            "{} of {all} {name} {}",
            progress::counted(n, noun),
            if n == 1 { one } else { many }
        )
    };
    let cut = Some(survey.cut())
        .filter(|&n| n > 0)
        .map(|n| format!("{} longer than --seq {seq} and cut to it", of(n, "is", "are")));
    let out = Some(survey.left_out()).filter(|&n| n > 0).map(|n| {
        let (one, many) = ("has no answer", "have no answer");
        let left = if n == 1 { "is" } else { "are" };
        format!("{} within --seq {seq} and {left} left out", of(n, one, many))
    });
    let said: Vec<String> = cut.into_iter().chain(out).collect();
    (!said.is_empty()).then(|| format!("{}. A longer --seq reads more of them", said.join("; ")))
}

/// A run that the weights come from.
pub(super) struct Base {
    checkpoint: Checkpoint,
    pub(super) run: RunConfig,
}

impl Base {
    /// The run of a model, if it is a checkpoint of one. That of LoRA is none: its rates are for factors, and so is its
    /// optimizer.
    pub(super) fn of(model: &OpenedModel) -> Result<Option<Base>> {
        if !model.place.join("state.json").exists() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::open(&model.place)?;
        let (run, _) = train::run::saved(&checkpoint)?;
        let whole = !matches!(run.optimizer, OptimizerConfig::Lora(_));
        Ok(whole.then_some(Base { checkpoint, run }))
    }
}

/// The format of a model's conversations.
pub(super) fn format_of(path: &Path, tokenizer: &Tokenizer, talk: &Talk) -> Result<ChatTemplate> {
    let found = ChatTemplate::find(tokenizer, talk.chat_template.as_deref())?;
    found.ok_or_else(|| {
        usage(format!(
            "{} has no format for conversations: neither special tokens for them in its vocabulary nor a chat \
             template. A model of your own has them from its first step, by its tokenizer: anegpt tokenizer train \
             --chat --data TEXT --out tokenizer.json, then anegpt train --tokenizer tokenizer.json. A directory of \
             Hugging Face takes a template as chat_template.jinja",
            path.display()
        ))
    })
}

/// The steps, and the micro-batches of each, of a run of `rows` rows in all passes that are asked for, or by our rule.
fn steps(args: &SftArgs, batch: usize, usual_accum: usize, conversations: &Packed) -> (u64, usize) {
    let rows = |passes| conversations.rows(passes);
    let long = rows(args.epochs.unwrap_or(PASSES));
    // A batch that was right for a long text leaves few conversations without a handful of steps.
    let most = (long / (batch as u64 * LEAST_STEPS)).max(1) as usize;
    let accum = args.accum.unwrap_or(usual_accum.min(most));
    let steps = |rows: u64| rows.div_ceil((batch * accum) as u64);
    let by_rule = || match (args.epochs, steps(rows(1))) {
        (Some(_), _) => steps(long),
        (None, one) if one >= ENOUGH_STEPS => one,
        (None, _) => steps(long).clamp(LEAST_STEPS, LEAST_STEPS.max(ENOUGH_STEPS)),
    };
    (args.steps.unwrap_or_else(by_rule), accum)
}

/// The settings of a run that goes on from `base`, and why its rate.
fn after(
    base: &RunConfig,
    model: GptConfig,
    args: &SftArgs,
    asked: &TrainSection,
    conversations: &Packed,
) -> Result<(RunConfig, String)> {
    let batch = asked.batch.unwrap_or(base.batch);
    let (steps, accum) = steps(args, batch, base.accum, conversations);
    let share = args.init_lr_frac.unwrap_or(RATE_SHARE);
    let reason = match asked.lr {
        Some(_) => "as asked for".to_owned(),
        None => format!("{share} times that of the run it goes on from"),
    };
    let mut optimizer = base.optimizer;
    *optimizer.weight_decay_mut() = asked.weight_decay.unwrap_or(0.0);
    if let OptimizerConfig::Muon(muon) = &mut optimizer
        && let Momentum::Trapezoid { .. } = muon.momentum
    {
        muon.momentum = MOMENTUM;
    }
    let schedule = LrSchedule {
        peak: asked.lr.unwrap_or(share * base.schedule.peak),
        floor: 0.0,
        warmup: asked.warmup.unwrap_or(0).min(steps),
        total: steps,
        decay: Decay::Linear { share: asked.warmdown.unwrap_or(WARMDOWN) },
        multipliers: base.schedule.multipliers,
    };
    let config = RunConfig {
        model,
        optimizer,
        schedule,
        batch,
        accum,
        seq: asked.seq.expect("it is known by now"),
        clip: asked.clip.unwrap_or(base.clip),
        seed: asked.seed.expect("it is known by now"),
        plan: base.plan,
        dial: None,
    };
    Ok((config, reason))
}

/// The settings of a run of weights whose own run is not known, and why its rate.
fn alone(
    model: GptConfig,
    args: &SftArgs,
    asked: &TrainSection,
    conversations: &Packed,
) -> Result<(RunConfig, String)> {
    let train_tokens = conversations.survey().tokens();
    let weights = Weights::Existing { train_tokens };
    let batch = settings::suited(&model, asked, weights).settings.batch.unwrap_or(1);
    let (steps, accum) = steps(args, batch, 1, conversations);
    let asked = TrainSection {
        steps: Some(steps),
        accum: Some(accum),
        min_lr: Some(0.0),
        weight_decay: Some(asked.weight_decay.unwrap_or(0.0)),
        warmdown: Some(asked.warmdown.unwrap_or(WARMDOWN)),
        ..*asked
    };
    let chosen = settings::suited(&model, &asked, weights);
    let seed = asked.seed.expect("it is known by now");
    Ok((run_config(model, &chosen.settings, seed)?, chosen.lr_reason))
}

/// Makes a run one of LoRA; returns why its rate. Factors begin anew, and bear about ten times the rate of all weights:
/// that of a fresh run.
fn adapt(config: &mut RunConfig, choice: &LoraChoice, asked: &TrainSection) -> Result<String> {
    let LoraChoice { rank, alpha, targets } = *choice;
    let adamw = AdamW { weight_decay: asked.weight_decay.unwrap_or(0.0), ..AdamW::default() };
    let lora = Lora { rank, alpha, targets, seed: config.seed, adamw };
    let layout = Layout::new(&config.model);
    let targeted: Vec<&Param> = layout.params().iter().filter(|param| targets.has(param)).collect();
    if targeted.is_empty() {
        return Err(usage("--lora: the model has none of the targets"));
    }
    if let Some(param) = targeted.iter().find(|param| !lora.fits(param)) {
        return Err(usage(format!(
            "--lora rank={rank}: factors of `{}`, {:?}, would be larger than the matrix; use a lower rank",
            param.name, param.shape
        )));
    }
    config.optimizer = OptimizerConfig::Lora(lora);
    let schedule = &mut config.schedule;
    schedule.peak = asked.lr.unwrap_or(settings::fresh_rate(config.model.n_embd));
    schedule.warmup = asked.warmup.unwrap_or(schedule.total.div_ceil(10)).min(schedule.total);
    schedule.multipliers = Multipliers::default();
    Ok(match asked.lr {
        Some(_) => "as asked for".to_owned(),
        None => format!("that of fresh weights, for factors of rank {rank}"),
    })
}

/// The checkpoint whose optimizer the run goes on with: the base run's, unless that is not wanted.
fn warm(wanted: Option<bool>, base: Option<Base>) -> Result<Option<Checkpoint>> {
    match (wanted, base) {
        (Some(true), None) => Err(usage(
            "--load-optimizer true: the model is no checkpoint of a run of this program, and has no optimizer to go on \
             with",
        )),
        (Some(false), _) | (None, None) => Ok(None),
        (_, Some(base)) => Ok(Some(base.checkpoint)),
    }
}

impl Source {
    /// Where flags say, else as in `before`.
    fn of(args: &SftArgs, before: Source) -> Result<Source> {
        let given = |path: &Option<PathBuf>, before: Option<PathBuf>| match path {
            Some(path) => files::absolute(path).map(Some),
            None => Ok(before),
        };
        let tasks = match args.tasks.is_empty() {
            true => before.tasks,
            false => args.tasks.clone(),
        };
        let task_data = match before.task_data.as_os_str().is_empty() || args.task_data.is_some() {
            true => task_data::directory(args.task_data.as_deref())?,
            false => before.task_data,
        };
        let data = given(&args.data, before.data)?;
        Ok(Source { tasks, task_data, data, val_data: given(&args.val_data, before.val_data)? })
    }

    /// The questions that measure, and the steps between.
    fn measuring(&self, measured: Option<&Measured>) -> Result<Option<(u64, Chat)>> {
        measured.map(|measured| measured.open(&self.tasks, &self.task_data)).transpose()
    }

    /// The conversations to train on and those to validate with.
    fn parts(&self) -> Result<[Arc<dyn Conversations>; 2]> {
        let options = tasks::Options { data: &self.task_data, ..tasks::Options::default() };
        let names: Vec<&str> = self.tasks.iter().map(String::as_str).collect();
        // Once each: a task that is learned twice is not judged twice.
        let once = names.iter().map(|name| Ok(tasks::counted(name)?.0));
        let once: Vec<&str> = once.collect::<Result<_>>()?;
        for name in &once {
            task_data::provide(name, tasks::Split::Train, &self.task_data)?;
            task_data::provide(name, tasks::Split::Test, &self.task_data)?;
        }
        let mut train: Vec<Arc<dyn Conversations>> = vec![];
        let mut judges: Vec<Arc<dyn Conversations>> = vec![];
        if !names.is_empty() {
            train.push(Arc::new(tasks::open_mixture(&names, tasks::Split::Train, &options)?));
            judges.push(Arc::new(tasks::open_mixture(&once, tasks::Split::Test, &options)?));
        }
        if let Some(path) = &self.data {
            let all: Arc<dyn Conversations> = Arc::new(JsonLines::open(path)?);
            let [own, held_out] = match self.val_data.is_some() {
                true => [Some(all), None],
                false => split(all)?.map(Some),
            };
            train.extend(own);
            judges.extend(held_out);
        }
        if let Some(path) = &self.val_data {
            judges = vec![Arc::new(JsonLines::open(path).context("--val-data")?)];
        }
        Ok([train, judges].map(|lists| -> Arc<dyn Conversations> { Arc::new(Mixture::new(lists)) }))
    }

    /// Reads the conversations, renders each of them once, and packs them into rows of `seq` tokens: those to train
    /// on, in an order of their own in every pass, and those to validate with.
    fn read(
        &self,
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        seq: usize,
        seed: u64,
    ) -> Result<[Part; 2]> {
        let pad = tokenizer.bos().or(tokenizer.eos()).unwrap_or(0);
        let config = PackedConfig { seq, waiting: WAITING, pad, shuffle: None };
        let [train, validation] = self.parts()?;
        let read = |conversations, shuffle, label| {
            let (template, tokenizer) = (template.clone(), tokenizer.clone());
            Part::read(
                conversations,
                template,
                tokenizer,
                PackedConfig { shuffle, ..config },
                label,
            )
        };
        Ok([read(train, Some(seed), "reading")?, read(validation, None, "validation")?])
    }
}

/// Conversations in rows.
struct Part {
    rows: Packed,
    /// Their number; that of the pieces in rows can be larger.
    conversations: usize,
    /// The first questions of some of them.
    questions: Vec<Vec<Message>>,
}

impl Part {
    /// Packs conversations, after a look at all of them.
    fn read(
        conversations: Arc<dyn Conversations>,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        config: PackedConfig,
        label: &str,
    ) -> Result<Part> {
        let (count, questions) = (conversations.len(), first_questions(&*conversations)?);
        let bar = progress::steps(label, count as u64);
        let mut seen = |seen| bar.set_position(seen as u64);
        let chats = Chats::new(conversations, template, tokenizer, &mut seen)?;
        bar.set_length(chats.len() as u64);
        let chats: Arc<dyn Examples> = Arc::new(chats);
        let survey = Survey::of(&*chats, config.seq, &mut seen);
        bar.finish_and_clear();
        Ok(Part { rows: Packed::new(chats, survey?, config)?, conversations: count, questions })
    }

    fn survey(&self) -> &Survey {
        self.rows.survey()
    }

    /// What a row is made of: conversations, or pieces of them.
    fn noun(&self) -> &'static str {
        if self.survey().len() > self.conversations { "piece" } else { "conversation" }
    }
}

/// The first questions of conversations at even distances.
fn first_questions(conversations: &dyn Conversations) -> Result<Vec<Vec<Message>>> {
    let (len, mut all) = (conversations.len(), vec![]);
    for index in (0..SAMPLES.min(len)).map(|n| n * len / SAMPLES.min(len)) {
        let messages = conversations.get(index)?.messages;
        let asked = messages.into_iter().take_while(|message| message.role != Role::Assistant);
        all.push(asked.collect::<Vec<_>>());
    }
    all.retain(|messages| !messages.is_empty());
    all.dedup();
    Ok(all)
}

/// The questions whose answers are samples: those given, else some of those to validate with.
fn samples(given: &[String], validation: &Part) -> Vec<Vec<Message>> {
    match given {
        [] => validation.questions.clone(),
        given => given.iter().map(|text| vec![Message::new(Role::User, text.as_str())]).collect(),
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data.iter().map(|path| path.display().to_string());
        let all: Vec<String> = self.tasks.iter().cloned().chain(data).collect();
        f.write_str(&all.join(", "))
    }
}

/// Conversations to train on, and one of [`HELD_OUT`] to validate with.
fn split(all: Arc<dyn Conversations>) -> Result<[Arc<dyn Conversations>; 2]> {
    let len = all.len();
    let every = HELD_OUT.min(len);
    if every < 2 {
        return Err(usage(
            "--data has one conversation, which cannot both train and validate: give more, each on a line of its own, \
             or --val-data FILE",
        ));
    }
    let part = |start: usize| -> Arc<dyn Conversations> {
        Arc::new(Slice::new(Arc::clone(&all), start, len, every))
    };
    Ok([Arc::new(Sequence::new((0..every - 1).map(part).collect())), part(every - 1)])
}
