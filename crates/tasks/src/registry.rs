//! The names of all tasks.

use crate::error::{Result, TaskError};
use crate::mixture::Mixture;
use crate::published::{self, Source};
use crate::python::Python;
use crate::task::{Kind, Split, Task};
use crate::{Conversations, built};
use std::path::Path;
use std::sync::Arc;

/// The seed of questions that are drawn.
pub const SEED: u64 = 42;

/// What tasks are opened with.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Seed of the questions of built-in tasks.
    pub seed: u64,
    /// Directory of the files of published tasks: see [`source`].
    pub data: &'a Path,
    /// Judges answers that are programs; without it they are refused.
    pub python: Option<&'a Python>,
}

impl Default for Options<'_> {
    /// Seed 42, files in the current directory, no Python.
    fn default() -> Self {
        Options { seed: SEED, data: Path::new("."), python: None }
    }
}

/// A task that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: &'static str,
    /// What is asked and how hard it is.
    pub describe: &'static str,
    /// How a model is asked.
    pub kind: Kind,
    /// True if it needs no files.
    pub built_in: bool,
}

enum Found {
    Built(&'static built::Built),
    Published(&'static published::Published),
}

/// Returns all tasks, in their order.
pub fn all() -> Vec<Listed> {
    let built = built::ALL.iter().map(|task| Listed {
        name: task.name,
        describe: task.describe,
        kind: task.kind(),
        built_in: true,
    });
    let published = published::ALL.iter().map(|task| Listed {
        name: task.name,
        describe: task.describe,
        kind: task.kind,
        built_in: false,
    });
    built.chain(published).collect()
}

fn find(name: &str) -> Result<Found> {
    let built = built::ALL.iter().find(|task| task.name == name).map(Found::Built);
    let published = || published::ALL.iter().find(|task| task.name == name).map(Found::Published);
    built.or_else(published).ok_or_else(|| {
        let known = all().iter().map(|task| task.name).collect::<Vec<_>>().join(", ");
        TaskError::Name { name: name.to_owned(), known }
    })
}

/// Returns where the files of a part of a task are published, and where they must be; `None` for a task that
/// needs none.
///
/// # Errors
/// When there is no task of that name, or it has no such part.
pub fn source(name: &str, split: Split) -> Result<Option<Source>> {
    match find(name)? {
        Found::Built(_) => Ok(None),
        Found::Published(task) => task.source(split).map(Some),
    }
}

/// Opens a part of a task by its name.
///
/// # Errors
/// When there is no task of that name (the message lists those that there are), it has no such part, or its
/// files are missing or damaged.
pub fn open(name: &str, split: Split, options: &Options<'_>) -> Result<Box<dyn Task>> {
    Ok(match find(name)? {
        Found::Built(task) => Box::new(task.open(split, options.seed)),
        Found::Published(task) => Box::new(task.open(split, options.data, options.python)?),
    })
}

/// Opens a mixture of parts of tasks by their names: `gsm8k*4` comes four times, `mmlu` once.
///
/// # Errors
/// Those of [`open`], and when a name is followed by something else than a count.
pub fn open_mixture(names: &[&str], split: Split, options: &Options<'_>) -> Result<Mixture> {
    let mut lists: Vec<Arc<dyn Conversations>> = vec![];
    for name in names {
        let (name, times) = counted(name)?;
        let list: Arc<dyn Task> = open(name, split, options)?.into();
        lists.extend((0..times).map(|_| Arc::clone(&list) as Arc<dyn Conversations>));
    }
    Ok(Mixture::new(lists))
}

/// Returns the name in `NAME` or `NAME*COUNT`, and the count, which is at least 1.
///
/// # Errors
/// When the count is none.
pub fn counted(text: &str) -> Result<(&str, usize)> {
    let Some((name, times)) = text.split_once('*') else { return Ok((text, 1)) };
    let times = times.parse().ok().filter(|&times| times > 0);
    let times = times.ok_or_else(|| TaskError::Count { text: text.to_owned() })?;
    Ok((name, times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_once() {
        let all = all();
        for task in &all {
            assert_eq!(all.iter().filter(|other| other.name == task.name).count(), 1);
            assert_eq!(source(task.name, Split::Test).unwrap().is_none(), task.built_in);
        }
        let error = open("speling", Split::Test, &Options::default()).unwrap_err().to_string();
        assert!(error.contains("no task `speling`: there are spelling, counting,"), "{error}");
    }

    #[test]
    fn a_count_repeats_a_list() {
        let options = Options::default();
        let mixture = open_mixture(&["spelling*2", "counting"], Split::Test, &options).unwrap();
        assert_eq!(mixture.len(), 3 * 256);
        for bad in ["spelling*0", "spelling*x", "spelling*"] {
            let error = counted(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
        assert_eq!(counted("mmlu*3").unwrap(), ("mmlu", 3));
    }

    /// Files that are missing are named, with what fetches them.
    #[test]
    fn missing_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { data: directory.path(), ..Options::default() };
        let error = open("gsm8k", Split::Train, &options).unwrap_err().to_string();
        assert!(error.contains("openai--gsm8k/main/train"), "{error}");
        assert!(error.contains("data download hf://datasets/openai/gsm8k/main/train"), "{error}");
        let error = open("humaneval", Split::Train, &options).unwrap_err().to_string();
        assert!(error.contains("`humaneval` has no train part"), "{error}");
    }
}
