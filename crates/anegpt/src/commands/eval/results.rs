//! Results of an evaluation: where they are kept, and what they are of.

use super::{Args, Task};
use crate::{hub, usage};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tasks::bpb::BitsPerByte;
use train::evaluate::{Answer, ChatAnswer, Journal, JournalError};

/// The file of results in their directory.
pub(super) const FILE: &str = "results.jsonl";

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

/// The directory of results: the one asked for, else one in the model's directory, or beside its file.
/// `found` is the checkpoint or model that the path of the model stands for.
pub(super) fn directory(args: &Args, found: &Path) -> Result<PathBuf> {
    args.out
        .clone()
        .or_else(|| own(args, found))
        .ok_or_else(|| usage("a model at an address has no directory for results: add --out DIR"))
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

/// Longest name of a summary, without its ending.
const LONGEST_NAME: usize = 200;

/// Writes the summary of an evaluation to where `anegpt report` finds it: `eval/CHECKPOINT/TASKS.json` in the directory
/// of the model's run. A model without a run has it among its results.
///
/// # Errors
/// When it cannot be written.
pub(super) fn keep(args: &Args, found: &Path, summary: &Value) -> Result<()> {
    let of_run = of_run(found).or_else(|| args.out.clone()).or_else(|| own(args, found));
    let Some(directory) = of_run else { return Ok(()) };
    let mut name = args.tasks.iter().map(|task| task.name()).collect::<Vec<_>>().join("+");
    name.truncate(LONGEST_NAME);
    let path = directory.join(format!("{name}.json"));
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

/// Opens the results in `directory`.
///
/// # Errors
/// If they are those of another evaluation, which the message says how to keep or to give up.
pub(super) fn open(args: &Args, directory: &Path, header: &Value) -> Result<(Journal, Vec<Entry>)> {
    let path = directory.join(FILE);
    if args.restart {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Journal::open(&path, header).map_err(|error| match error {
        JournalError::Other { ref there, .. } if there["tasks"] != header["tasks"] => {
            usage(format!(
                "{}: these are results of --tasks {}, not of --tasks {}. Keep them and write elsewhere \
                 with --out DIR, name the same tasks, or replace them with --restart",
                path.display(),
                names(there),
                names(header)
            ))
        }
        JournalError::Other { .. } | JournalError::Line { .. } => usage(format!(
            "{error}. Keep them and write elsewhere with --out DIR, or replace them with --restart"
        )),
        error => error.into(),
    })
}

/// The tasks of `header`, with commas.
fn names(header: &Value) -> String {
    let tasks = header["tasks"].as_array().into_iter().flatten().filter_map(Value::as_str);
    tasks.collect::<Vec<_>>().join(",")
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
