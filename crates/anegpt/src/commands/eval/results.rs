//! Results of an evaluation: where they are kept, and what they are of.

use super::{Args, Task};
use crate::{hub, usage};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tasks::bpb::BitsPerByte;
use train::evaluate::{Answer, ChatAnswer, Journal, JournalError, checksum};

/// The file of results in the directory of --out.
const FILE: &str = "results.jsonl";

/// Settings in a description, as flags or in words.
const NAMES: [(&str, &str); 17] = [
    ("data", "the text of --data"),
    ("tokens", "tokens of --data"),
    ("seq", "--seq"),
    ("stride", "--stride"),
    ("device", "--device"),
    ("numerics", "--numerics"),
    ("bundle", "the tasks in --bundle"),
    ("max_per_task", "--max-per-task"),
    ("samples", "--samples"),
    ("temperature", "--temperature"),
    ("top_k", "--top-k"),
    ("max_new_tokens", "--max-new-tokens"),
    ("seed", "--seed"),
    ("weights", "--weights"),
    ("tools", "tools (--no-tools, --tool-int-format)"),
    ("ends", "the tokens that end the model's texts"),
    ("chat_template", "the model's chat template"),
];
/// Digits of a checksum that tells the results of one set of settings from those of another.
const DIGITS: usize = 8;
/// Longest description of a setting in a message.
const LONGEST_VALUE: usize = 60;

/// A result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub(super) enum Entry {
    /// Sums up to some token of the text.
    Bpb(Sums),
    /// An answer to a question of CORE.
    Core(Answer),
    /// A text.
    Sample(Sample),
    /// An answer in a conversation.
    Chat(ChatAnswer),
}

/// Sums over the tokens that were predicted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Tokens.
    pub(super) tokens: u64,
    /// Their loss.
    pub(super) nats: f64,
    /// The loss of those that stand for bytes, those bytes, and how many such tokens there are.
    pub(super) text_nats: f64,
    pub(super) bytes: u64,
    pub(super) text_tokens: u64,
}

impl Sums {
    pub(super) fn bits_per_byte(&self) -> Option<f64> {
        let Sums { text_nats: nats, bytes, text_tokens: tokens, .. } = *self;
        BitsPerByte { nats, bytes, tokens }.value()
    }
}

/// A text that the model wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// What it continues; nothing for a text from the beginning.
    pub(super) prompt: Option<String>,
    /// The continuation; absent where the prompt could not be read.
    pub(super) text: Option<String>,
    /// Why it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<String>,
}

/// The file of the results that `header` describes: in the directory asked for, else in one in the model's directory, or
/// beside its file. That one holds the results of many evaluations, each set of settings in a file of its own.
/// `found` is the checkpoint or model that the path of the model stands for.
///
/// # Errors
/// When the model has no directory.
pub(super) fn file(args: &Args, found: &Path, header: &Value) -> Result<PathBuf> {
    if let Some(out) = &args.out {
        return Ok(out.join(FILE));
    }
    let own = own(args, found).ok_or_else(|| {
        usage("a model at an address has no directory for results: add --out DIR")
    })?;
    let settings = checksum(header.to_string().as_bytes());
    Ok(own.join(format!("{}-{}.jsonl", tasks_of(args), &settings[..DIGITS])))
}

/// The names of the tasks, as files have them.
fn tasks_of(args: &Args) -> String {
    let mut name = args.tasks.iter().map(|task| task.name()).collect::<Vec<_>>().join("+");
    name.truncate(LONGEST_NAME);
    name
}

/// The directory of results in or beside a model; `None` for one at an address.
fn own(args: &Args, found: &Path) -> Option<PathBuf> {
    if hub::address(&args.model).is_some() {
        return None;
    }
    if !args.model.is_dir() {
        let mut name = args.model.file_name().unwrap_or_default().to_owned();
        name.push(".eval");
        return Some(args.model.with_file_name(name));
    }
    let own = args.model.join("eval");
    Some(match found.file_name() {
        // A run: its checkpoints have results of their own.
        Some(name) if found != args.model => own.join(name),
        _ => own,
    })
}

/// Longest name of a summary, without its ending, and of results, without what tells them from others.
const LONGEST_NAME: usize = 200;

/// Writes the summary of an evaluation to where `anegpt report` finds it: `eval/CHECKPOINT/TASKS.json` in the directory
/// of the model's run. A model without a run has it among its results.
///
/// # Errors
/// When it cannot be written.
pub(super) fn keep(args: &Args, found: &Path, summary: &Value) -> Result<()> {
    let of_run = of_run(found).or_else(|| args.out.clone()).or_else(|| own(args, found));
    let Some(directory) = of_run else { return Ok(()) };
    let path = directory.join(format!("{}.json", tasks_of(args)));
    std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::write(&path, format!("{summary}\n")))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The place for summaries of a checkpoint in the directory of its run.
fn of_run(checkpoint: &Path) -> Option<PathBuf> {
    let checkpoint = checkpoint.canonicalize().ok()?;
    let run = checkpoint.parent().filter(|run| run.join("log.jsonl").exists())?;
    Some(run.join("eval").join(checkpoint.file_name()?))
}

/// Opens the results in `path`.
///
/// # Errors
/// If they are those of another evaluation: the message tells what differs, and how to keep or to give them up.
pub(super) fn open(args: &Args, path: &Path, header: &Value) -> Result<(Journal, Vec<Entry>)> {
    if args.restart {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Journal::open(path, header).map_err(|error| match error {
        JournalError::Other { there, .. } => usage(format!(
            "{} holds results of another evaluation. They differ in {}. Keep them and write elsewhere \
             with --out DIR, or replace them with --restart",
            path.display(),
            differences(&there, header).join("; ")
        )),
        JournalError::Line { .. } => usage(format!(
            "{error}. Keep them and write elsewhere with --out DIR, or replace them with --restart"
        )),
        error => error.into(),
    })
}

/// In what two descriptions of evaluations differ, by flag.
fn differences(there: &Value, here: &Value) -> Vec<String> {
    let mut said = vec![];
    for (of, name) in [
        ("model", "the model"),
        ("tokenizer", "the tokenizer"),
        ("version", "the version of anegpt"),
    ] {
        if there[of] != here[of] {
            said.push(name.to_owned());
        }
    }
    if there["tasks"] != here["tasks"] {
        let [there, here] = [there, here].map(|header| value(&header["tasks"]));
        said.push(format!("--tasks: {there} there, {here} here"));
    }
    for (task, one) in there.as_object().into_iter().flatten() {
        let (Some(one), Some(other)) = (one.as_object(), here[task].as_object()) else { continue };
        let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for key in keys {
            let [there, here] = [one, other].map(|of| of.get(key).unwrap_or(&Value::Null));
            // Of a bundle, the tasks that are asked are read.
            let follows = key == "bundle" && one["tasks"] != other["tasks"];
            if there != here && !follows {
                said.push(difference(task, key, there, here));
            }
        }
    }
    said
}

/// A setting of a task that differs.
fn difference(task: &str, key: &str, there: &Value, here: &Value) -> String {
    let name = NAMES.iter().find(|(known, _)| *known == key).map(|(_, name)| *name);
    let name = name.unwrap_or(match (task, key) {
        ("chat", "tasks") => "--tasks or --max-per-task",
        ("core", "tasks") => "--core-tasks",
        _ => key,
    });
    let [mut one, mut other] = [there, here].map(value);
    // The names of tasks say enough, unless their questions differ.
    let [short_one, short_other] = [there, here].map(short);
    if key == "tasks" && short_one != short_other {
        (one, other) = (short_one, short_other);
    }
    let checksum = |value: &Value| value.as_str().is_some_and(|text| text.len() == 64);
    if checksum(there) || checksum(here) || one.len().max(other.len()) > LONGEST_VALUE {
        return name.to_owned();
    }
    format!("{name}: {one} there, {other} here")
}

/// Each entry of a list up to its first comma.
fn short(list: &Value) -> String {
    let entries = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    let first = entries.map(|text| text.split(", ").next().unwrap_or(text));
    first.collect::<Vec<_>>().join(", ")
}

/// A setting in words.
fn value(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(self::value).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}

/// What decides the results of all tasks.
pub(super) fn header(tasks: &[(Task, Value)], model: &str, tokenizer: &str) -> Value {
    let of = |(task, settings): &(Task, Value)| (task.name().to_owned(), settings.clone());
    let names: Vec<&str> = tasks.iter().map(|(task, _)| task.name()).collect();
    let mut header = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": model,
        "tokenizer": tokenizer,
        "tasks": names,
    });
    header.as_object_mut().expect("an object").extend(tasks.iter().map(of));
    header
}
