//! Tasks of conversations: their files, and the model that is asked.

use super::tasks::weights;
use super::{Args, Task};
use crate::files::Opened;
use crate::generation::refused;
use crate::{task_data, term, usage};
use anyhow::{Result, anyhow};
use infer::Sampling;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use tasks::Kind;
use tokenizer::chat::ChatTemplate;
use train::evaluate::{Answering, Asking, Chat, ChatAnswer, checksum};

/// What nanochat's evaluation draws from.
const TOP_K: usize = 50;

/// Columns of the help.
const COLUMNS: usize = 80;

/// Returns what each task asks, and examples of commands.
pub(super) fn help(examples: &str) -> String {
    let mut out = "Tasks of conversations:\n".to_owned();
    for task in tasks::all().iter().filter(|task| task.kind != Kind::Training) {
        let (first, rest) = (format!("  {:<14} ", task.name), " ".repeat(17));
        let _ = writeln!(out, "{}", term::wrap(task.describe, COLUMNS, &first, &rest));
    }
    format!("{out}\n{examples}")
}

/// Opens the tasks of conversations in --tasks, each once; `None` if there is none.
///
/// # Errors
/// When the model has no format of conversations, or a task cannot be opened.
pub(super) fn prepare(args: &Args, model: &Opened) -> Result<Option<Chat>> {
    let mut names: Vec<&str> = vec![];
    for task in &args.tasks {
        if let Task::Chat(name) = task
            && !names.contains(name)
        {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    format_of(model)?;
    let data = args.task_data.as_deref().unwrap_or(Path::new(task_data::DIRECTORY));
    let opened = task_data::open_asked(&names, data, args.allow_code_exec, "leave the task out")?;
    let temperature = args.temperature.unwrap_or(0.0);
    let top_k = args.top_k.unwrap_or(TOP_K);
    let sampling = Sampling { temperature, top_k, ..Sampling::GREEDY };
    sampling.validate().map_err(|fault| usage(refused(&fault)))?;
    let defaults = Asking::default();
    let asking = Asking {
        samples: args.samples.unwrap_or(defaults.samples),
        sampling,
        max_new_tokens: args.max_new_tokens.unwrap_or(defaults.max_new_tokens),
        seed: args.seed,
        weights: weights(args),
    };
    Ok(Some(Chat::new(opened, args.max_per_task, asking)?))
}

/// Asks the questions from number `first` on.
pub(super) fn ask(
    args: &Args,
    chat: &Chat,
    model: &Opened,
    first: usize,
    each: impl FnMut(ChatAnswer) -> Result<()>,
) -> Result<()> {
    let template = format_of(model)?;
    let tokenizer = Arc::new(model.tokenizer.clone());
    let tools = args.tools.find(&tokenizer);
    let Opened { parameters, ends, .. } = model;
    let (tokenizer, template, tools) = (&tokenizer, &template, tools.as_ref());
    chat.ask(Answering { parameters, tokenizer, template, ends, tools }, first, each)
}

/// Returns the format of a model's conversations.
fn format_of(model: &Opened) -> Result<ChatTemplate> {
    let template = ChatTemplate::find(&model.tokenizer, model.chat_template.as_deref())?;
    template.ok_or_else(|| {
        anyhow!(
            "the model has no format of conversations: neither a chat template nor the special tokens of \
             nanochat (`anegpt tokenizer train --rules nanochat` learns a vocabulary with them)"
        )
    })
}

/// Returns what decides the answers of a model, besides its weights and its tokenizer.
pub(super) fn describe(args: &Args, chat: &Chat, model: &Opened) -> Value {
    let mut header = chat.header();
    header["tools"] = json!(args.tools.describe());
    if let Some(template) = &model.chat_template {
        header["chat_template"] = json!(checksum(template.as_bytes()));
    }
    header
}
