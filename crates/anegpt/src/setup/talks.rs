//! Conversations with a model while it is finetuned: accuracies of tasks, and answers to look at.

use super::frame::Talk;
use crate::{number, task_data, usage};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use tasks::Kind;
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Message, Role};
use train::evaluate::{Asking, Chat};
use train::objective::rl::Speaker;

/// Accuracies of tasks while a model is finetuned.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TasksArgs {
    /// Measure the accuracy of tasks every N steps and at the end
    ///
    /// A checkpoint is saved first. Questions are asked as `anegpt eval` asks them, and answers are kept in
    /// DIR/tasks; a resumed run goes on with those that are missing, and asks as before unless it is told otherwise
    /// (0 = no more). Measuring does not change what is learned.
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::whole(0u64))]
    tasks_every: Option<u64>,
    /// Tasks that are asked [default: those of --tasks whose answers are judged]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "tasks_every")]
    #[arg(help_heading = "Output")]
    eval_tasks: Vec<String>,
    /// Ask at most N questions of each task
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        requires = "tasks_every",
        help_heading = "Output"
    )]
    #[arg(value_parser = number::whole(1usize))]
    max_per_task: usize,
    /// Run programs that the model writes, for humaneval: in a process of their own, with limits and, where the
    /// system can deny it, without network
    #[arg(long, requires = "eval_tasks", help_heading = "Output")]
    allow_code_exec: bool,
}

impl TasksArgs {
    /// What is to be measured: what the flags say, else what was measured before the run was resumed.
    pub(super) fn or(&self, before: Option<Measured>) -> Option<Measured> {
        let Some(every) = self.tasks_every else { return before };
        let (tasks, most) = (self.eval_tasks.clone(), self.max_per_task);
        (every > 0).then_some(Measured { every, tasks, most, programs: self.allow_code_exec })
    }
}

/// The tasks whose accuracies a run measures, as it notes them in its checkpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Steps between measurements.
    every: u64,
    /// Names of tasks; those that are learned where there are none.
    tasks: Vec<String>,
    /// The most questions of each.
    most: usize,
    /// True if programs of the model may run.
    programs: bool,
}

impl Measured {
    /// The questions of the tasks that are asked, and the steps between; `learned` are the names in `--tasks`, each
    /// perhaps with how often it comes.
    pub(super) fn open(&self, learned: &[String], task_data: &Path) -> Result<(u64, Chat)> {
        let names = match self.tasks.is_empty() {
            true => judged(learned)?,
            false => self.tasks.clone(),
        };
        if names.is_empty() {
            return Err(usage(
                "--tasks-every asks the questions of tasks, and --tasks has none whose answers are judged: name \
                 some with --eval-tasks",
            ));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let instead = "name other tasks with --eval-tasks";
        let opened = task_data::open_asked(&names, task_data, self.programs, instead)?;
        Ok((self.every, Chat::new(opened, Some(self.most), Asking::default())?))
    }
}

/// The names of the tasks in `learned` whose answers are judged, each once.
fn judged(learned: &[String]) -> Result<Vec<String>> {
    let all = tasks::all();
    let mut names: Vec<String> = vec![];
    for text in learned {
        let (name, _) = tasks::counted(text)?;
        let training = all.iter().any(|task| task.name == name && task.kind == Kind::Training);
        if !training && !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The last message of the user, without what led to it.
pub(super) fn question_of(messages: &[Message]) -> Option<String> {
    messages.iter().rev().find(|message| message.role == Role::User).map(Message::text)
}

/// What a model answers with: its own format, and the calculator.
pub(super) fn speaker(tokenizer: &Tokenizer, template: ChatTemplate, talk: &Talk) -> Speaker {
    let tools = infer::Tools::find(tokenizer, infer::Calculator::default());
    let tokenizer = Arc::new(tokenizer.clone());
    Speaker { tokenizer, template, ends: talk.ends.clone(), tools }
}
