//! Evaluation by tasks, whose results are kept as they come.

use super::chat;
use super::results::{self, Entry, Sums};
use super::samples::{self, Writer};
use super::table::{Outcome, csv};
use super::{Args, Reading, Task, check_finite, numerics};
use crate::files::{self, Opened};
use crate::{progress, term, usage};
use anyhow::{Context, Result, bail};
use infer::{Scorer, WeightFormat};
use serde_json::{Value, json};
use std::time::Instant;
use train::evaluate::{
    Answer, Chat, ChatAnswer, Core, Journal, checksum, model_checksum, token_losses,
    tokens_checksum,
};

/// Tokens after which the sums of a text are kept.
const KEEP_EVERY: usize = 1 << 14;

/// A task with what it reads.
enum Prepared {
    Bpb(Box<Reading>),
    Core(Core),
    Sample,
    Chat(Chat),
}

/// What was found of earlier results, and where new ones go.
struct Results {
    journal: Journal,
    entries: Vec<Entry>,
}

impl Results {
    fn add(&mut self, entry: Entry) -> Result<()> {
        self.journal.add(&entry)?;
        self.entries.push(entry);
        Ok(())
    }

    /// The sums so far.
    fn sums(&self) -> Sums {
        let last = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Bpb(sums) => Some(*sums),
            _ => None,
        });
        last.unwrap_or_default()
    }

    fn answers(&self) -> impl Iterator<Item = &Answer> + Clone {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Core(answer) => Some(answer),
            _ => None,
        })
    }

    fn chat(&self) -> impl Iterator<Item = &ChatAnswer> + Clone {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Chat(answer) => Some(answer),
            _ => None,
        })
    }

    fn samples(&self) -> impl Iterator<Item = &results::Sample> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Sample(sample) => Some(sample),
            _ => None,
        })
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    check(args)?;
    args.csv.iter().try_for_each(|path| files::check_output("--csv", path))?;
    let model = files::open_model(&args.model, args.tokenizer.as_deref())?;
    let mut tasks: Vec<(Task, Prepared)> = vec![];
    for &task in &args.tasks {
        if !matches!(task, Task::Chat(_)) && tasks.iter().all(|(other, _)| *other != task) {
            tasks.push((task, prepare(args, task, &model)?));
        }
    }
    if let Some(chat) = chat::prepare(args, &model)? {
        tasks.push((Task::Chat("chat"), Prepared::Chat(chat)));
    }
    let settings = |(task, prepared): &(Task, Prepared)| (*task, describe(args, prepared, &model));
    let settings: Vec<(Task, Value)> = tasks.iter().map(settings).collect();
    let tokenizer = checksum(model.tokenizer.to_json()?.as_bytes());
    let header = results::header(&settings, &model_checksum(&model.parameters), &tokenizer);
    let file = results::file(args, &model.place, &header)?;
    let (journal, entries) = results::open(args, &file, &header)?;
    if !entries.is_empty() {
        eprintln!("going on with the results in {}", file.display());
    }
    let mut results = Results { journal, entries };
    let mut outcome = Outcome::default();
    for (_, prepared) in &mut tasks {
        match prepared {
            Prepared::Bpb(reading) => outcome.bpb = Some(bpb(reading, &mut results)?),
            Prepared::Core(core) => {
                ask(args, core, &model, &mut results)?;
                let context = model.parameters.config().seq_len;
                outcome.core = Some((core.score(results.answers()), context));
            }
            Prepared::Chat(chat) => {
                converse(args, chat, &model, &mut results)?;
                outcome.chat = Some(chat.score(results.chat()));
            }
            Prepared::Sample => {
                write(args, &model, &mut results)?;
                outcome.sample = Some(results.samples().cloned().collect());
            }
        }
        results.journal.sync()?;
    }
    if let Some(path) = &args.csv {
        std::fs::write(path, csv(&outcome))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let summary = outcome.json(&args.model);
    if let Err(error) = results::keep(args, &model.place, &summary) {
        // Results are in --out all the same.
        term::warn(&format!("{error:#}: `anegpt report` will not find these results"));
    }
    match args.json {
        true => println!("{summary}"),
        false => print!("{}", outcome.table()),
    }
    Ok(())
}

/// Refuses flags whose task is not asked for, and tasks that lack one.
fn check(args: &Args) -> Result<()> {
    let asked = |task| args.tasks.contains(&task);
    let chat = args.tasks.iter().any(|task| matches!(task, Task::Chat(_)));
    let windows = [args.seq, args.stride, args.batch, args.max_tokens];
    let windows = windows.iter().any(Option::is_some);
    for (given, flag, task) in [
        (args.data.is_some(), "--data", Task::Bpb),
        (windows, "--seq, --stride, --batch or --max-tokens", Task::Bpb),
        (args.bundle.is_some(), "--bundle", Task::Core),
        (args.core_tasks.is_some(), "--core-tasks", Task::Core),
    ] {
        if given && !asked(task) {
            let name = task.name();
            return Err(usage(format!("{flag} is for --tasks {name}: add {name} to --tasks")));
        }
    }
    let written = [args.samples, args.top_k, args.max_new_tokens].iter().any(Option::is_some);
    for (given, flag, core) in [
        (args.max_per_task.is_some(), "--max-per-task", true),
        (args.csv.is_some(), "--csv", true),
        (args.task_data.is_some(), "--task-data", false),
        (args.allow_code_exec, "--allow-code-exec", false),
        (
            written || args.temperature.is_some(),
            "--samples, --temperature, --top-k or --max-new-tokens",
            false,
        ),
    ] {
        if given && !chat && !(core && asked(Task::Core)) {
            let core = if core { "core or " } else { "" };
            return Err(usage(format!(
                "{flag} is for {core}tasks of conversations: add one to --tasks (`anegpt eval --help` lists \
                 them)"
            )));
        }
    }
    if asked(Task::Bpb) && args.data.is_none() {
        return Err(usage("--tasks bpb reads a text: add --data FILE"));
    }
    if asked(Task::Core) && args.bundle.is_none() {
        return Err(usage(
            "--tasks core reads questions: add --bundle DIR, the directory that holds core.yaml \
             (`anegpt eval --help` says where it comes from)",
        ));
    }
    Ok(())
}

fn prepare(args: &Args, task: Task, model: &Opened) -> Result<Prepared> {
    Ok(match (task, &args.data, &args.bundle) {
        (Task::Bpb, Some(data), _) => {
            let tokenizer = model.tokenizer.clone();
            Prepared::Bpb(Box::new(Reading::new(args, data, &model.parameters, tokenizer)?))
        }
        (Task::Core, _, Some(bundle)) => {
            Prepared::Core(Core::read(bundle, args.core_tasks.as_deref(), args.max_per_task)?)
        }
        _ => Prepared::Sample,
    })
}

pub(super) fn weights(args: &Args) -> WeightFormat {
    args.weights.map_or(WeightFormat::F32, WeightFormat::from)
}

/// What decides the results of a task.
fn describe(args: &Args, task: &Prepared, model: &Opened) -> Value {
    let weights = format!("{:?}", weights(args)).to_lowercase();
    match task {
        Prepared::Bpb(reading) => {
            json!({
                "data": tokens_checksum(&reading.tokens),
                "tokens": reading.tokens.len(),
                "seq": reading.windows.seq,
                "stride": reading.windows.stride,
                "device": reading.machine.device.describe(),
                "numerics": numerics(&reading.machine),
            })
        }
        Prepared::Core(core) => {
            let mut header = core.header();
            header["weights"] = json!(weights);
            header
        }
        Prepared::Chat(chat) => with_ends(chat::describe(args, chat, model), model),
        Prepared::Sample => with_ends(json!({ "seed": args.seed, "weights": weights }), model),
    }
}

/// Adds the tokens that end a text of this model, besides those of its tokenizer.
fn with_ends(mut header: Value, model: &Opened) -> Value {
    if !model.ends.is_empty() {
        header["ends"] = json!(model.ends);
    }
    header
}

/// Bits per byte: the tokens that stand for bytes, over those bytes.
fn bpb(reading: &mut Reading, results: &mut Results) -> Result<Sums> {
    let Reading { corpus, tokens, windows, compiled, .. } = reading;
    let all = tokens.len() - 1;
    let mut sums = results.sums();
    let done = sums.tokens as usize;
    if done > all {
        bail!("the results are of {done} tokens, and the text has {all}: add --restart");
    }
    let bar = progress::steps("bpb", all as u64);
    bar.set_position(done as u64);
    token_losses(compiled, tokens, *windows, done, |place, loss| -> Result<()> {
        check_finite(loss)?;
        let bytes = corpus.tokenizer.decode_bytes(tokens[place]).len() as u64;
        sums.tokens += 1;
        sums.nats += loss;
        if bytes > 0 {
            sums.text_nats += loss;
            sums.bytes += bytes;
            sums.text_tokens += 1;
        }
        if place == all || place % KEEP_EVERY == 0 {
            bar.set_position(place as u64);
            results.add(Entry::Bpb(sums))?;
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    if sums.bytes == 0 {
        bail!(
            "no token of the text but the first stands for a byte, so there are no bits per byte: \
             --data has nothing but separators, or the tokenizer is not the one that made the tokens"
        );
    }
    Ok(sums)
}

/// Asks the questions that have no answer yet.
fn ask(args: &Args, core: &Core, model: &Opened, results: &mut Results) -> Result<()> {
    core.check(results.answers())?;
    let (done, all) = (results.answers().count(), core.len());
    if done == all {
        return Ok(());
    }
    let (start, bar) = (Instant::now(), progress::steps("core", all as u64));
    bar.set_position(done as u64);
    let mut scorer = Scorer::new(&model.parameters, weights(args))?;
    for index in done..all {
        let answer = core.ask(index, &mut scorer, &model.tokenizer)?;
        results.add(Entry::Core(answer))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (seconds, asked) = (start.elapsed().as_secs_f64(), all - done);
    eprintln!("core: {asked} questions, {} tokens in {seconds:.1} s", scorer.tokens_read());
    Ok(())
}

/// Asks the questions of conversations that have no answer yet.
fn converse(args: &Args, chat: &Chat, model: &Opened, results: &mut Results) -> Result<()> {
    chat.check(results.chat())?;
    let (done, all) = (results.chat().count(), chat.len());
    if done == all {
        return Ok(());
    }
    let (start, bar) = (Instant::now(), progress::steps("questions", all as u64));
    bar.set_position(done as u64);
    chat::ask(args, chat, model, done, |answer| {
        results.add(Entry::Chat(answer))?;
        bar.inc(1);
        Ok(())
    })?;
    bar.finish_and_clear();
    let (seconds, asked) = (start.elapsed().as_secs_f64(), all - done);
    eprintln!("chat: {asked} questions in {seconds:.1} s");
    Ok(())
}

/// Writes the texts that are not there yet.
fn write(args: &Args, model: &Opened, results: &mut Results) -> Result<()> {
    let done = results.samples().count();
    if done >= samples::COUNT {
        return Ok(());
    }
    let bar = progress::steps("sample", samples::COUNT as u64);
    bar.set_position(done as u64);
    let Opened { parameters, tokenizer, ends, .. } = model;
    let mut writer = Writer::new(parameters, tokenizer, ends, weights(args), args.seed)?;
    writer.write(done, |sample| {
        bar.inc(1);
        results.add(Entry::Sample(sample))
    })?;
    bar.finish_and_clear();
    Ok(())
}
