//! Conversations with a model while it is finetuned: accuracies of tasks, and answers to look at.

use super::frame::Talk;
use crate::{number, task_data, usage};
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use tasks::Kind;
use tokenizer::Tokenizer;
use tokenizer::chat::ChatTemplate;
use train::evaluate::{Asking, Chat};
use train::objective::rl::Speaker;

/// Accuracies of tasks while a model is finetuned.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TasksArgs {
    /// Measure the accuracy of tasks every N steps and at the end
    ///
    /// A checkpoint is saved first. Questions are asked as `anegpt eval` asks them, and answers are kept in
    /// DIR/tasks; a resumed run goes on with those that are missing, if the flags are given again. Measuring does not
    /// change what is learned.
    #[arg(long, value_name = "N", help_heading = "Output")]
    #[arg(value_parser = number::whole(1u64))]
    tasks_every: Option<u64>,
    /// Tasks that are asked [default: those of --tasks whose answers are judged]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "tasks_every")]
    #[arg(help_heading = "Output")]
    eval_tasks: Vec<String>,
    /// Ask at most N questions of each task
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Output")]
    #[arg(value_parser = number::whole(1usize))]
    max_per_task: usize,
    /// Run programs that the model writes, for humaneval: in a process of their own, with limits and, where the
    /// system can deny it, without network
    #[arg(long, requires = "eval_tasks", help_heading = "Output")]
    allow_code_exec: bool,
}

impl TasksArgs {
    /// The questions of the tasks that are asked, and the steps between; `learned` are the names in `--tasks`, each
    /// perhaps with how often it comes.
    pub(super) fn open(&self, learned: &[String], task_data: &Path) -> Result<Option<(u64, Chat)>> {
        let Some(steps) = self.tasks_every else { return Ok(None) };
        let names = match self.eval_tasks.is_empty() {
            true => judged(learned)?,
            false => self.eval_tasks.clone(),
        };
        if names.is_empty() {
            return Err(usage(
                "--tasks-every asks the questions of tasks, and --tasks has none whose answers are judged: name \
                 some with --eval-tasks",
            ));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let instead = "name other tasks with --eval-tasks";
        let opened = task_data::open_asked(&names, task_data, self.allow_code_exec, instead)?;
        Ok(Some((steps, Chat::new(opened, Some(self.max_per_task), Asking::default())?)))
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

/// What a model answers with: its own format, and the calculator.
pub(super) fn speaker(tokenizer: &Tokenizer, template: ChatTemplate, talk: &Talk) -> Speaker {
    let tools = infer::Tools::find(tokenizer, infer::Calculator::default());
    let tokenizer = Arc::new(tokenizer.clone());
    Speaker { tokenizer, template, ends: talk.ends.clone(), tools }
}
