//! Tasks that others published as Parquet files, in the order in which nanochat asks them:
//! `numpy.random.default_rng(42).permutation(n)`.

mod arc;
mod gsm8k;
mod humaneval;
mod mmlu;
mod row;
mod smoltalk;
#[cfg(test)]
mod tests;

use crate::answer::final_number;
use crate::conversation::{Conversation, Conversations};
use crate::error::{Result, TaskError};
use crate::hash::Hash;
use crate::python::{Ended, Python};
use crate::random::NumpyRandom;
use crate::task::{Kind, Split, Task};
use row::Row;
use std::fmt;
use std::path::{Path, PathBuf};

/// The seed of all orders.
const ORDER: u64 = 42;

/// A question as it is judged.
#[derive(Debug)]
struct Question {
    conversation: Conversation,
    judged: Judged,
}

/// How the answer to a question is judged.
#[derive(Debug)]
enum Judged {
    /// It is one of these letters.
    Letters(Vec<String>),
    /// Its number is that of the right answer.
    Number(Option<String>),
    /// It is a program that passes this test.
    Program(humaneval::Check),
    /// Not at all.
    Never,
}

/// A task: where its files are published, and what its rows are.
pub(crate) struct Published {
    pub(crate) name: &'static str,
    /// What is asked, for people.
    pub(crate) describe: &'static str,
    pub(crate) kind: Kind,
    baseline: f64,
    /// `organisation/name` on Hugging Face's hub.
    repository: &'static str,
    subset: &'static str,
    /// Names of its parts; absent if it has none.
    train: Option<&'static str>,
    test: Option<&'static str>,
    columns: &'static [&'static str],
    question: fn(&Row<'_>) -> Result<Question>,
}

/// All of them.
pub(crate) const ALL: [Published; 6] =
    [arc::EASY, arc::CHALLENGE, mmlu::TASK, gsm8k::TASK, humaneval::TASK, smoltalk::TASK];

/// What can be published of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// On Hugging Face's hub: `organisation/name/SUBSET/SPLIT`.
    pub data_set: String,
    /// Where its files `*.parquet` are, within a directory of such data.
    pub directory: PathBuf,
}

impl Published {
    /// Returns where a part is published.
    ///
    /// # Errors
    /// When there is no such part.
    pub(crate) fn source(&self, split: Split) -> Result<Source> {
        let Published { name, repository, subset, .. } = self;
        let part = match split {
            Split::Train => self.train,
            Split::Test => self.test,
        };
        let part = part.ok_or(TaskError::Split { name, split: split.name() })?;
        let directory = Path::new(&repository.replace('/', "--")).join(subset).join(part);
        Ok(Source { data_set: format!("{repository}/{subset}/{part}"), directory })
    }

    /// Reads a part from a directory of data. `python` is for tasks whose answers are programs; without one
    /// their answers cannot be judged.
    pub(crate) fn open(
        &'static self,
        split: Split,
        data: &Path,
        python: Option<&Python>,
    ) -> Result<Read> {
        let source = self.source(split)?;
        let directory = data.join(&source.directory);
        let (mut questions, mut hash) = (vec![], Hash::new());
        for path in files(&directory, &source)? {
            let rows = data::Records::open(&path, self.columns)?;
            for (number, value) in rows.enumerate() {
                let value = value?;
                hash.add(value.to_string().as_bytes());
                questions.push((self.question)(&Row { value: &value, path: &path, number })?);
            }
        }
        let order = NumpyRandom::new(ORDER).permutation(questions.len());
        let python = python.cloned();
        Ok(Read { task: self, split, questions, order, hash: hash.value(), python })
    }
}

/// The Parquet files of a directory, by name.
fn files(directory: &Path, source: &Source) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = listed.map(|entry| entry.path());
    let parquet = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "parquet");
    let mut files: Vec<PathBuf> = paths.filter(parquet).collect();
    files.sort();
    if files.is_empty() {
        let reason = format!(
            "there are no Parquet files: `anegpt data download hf://datasets/{} --out {}` fetches them",
            source.data_set,
            directory.display()
        );
        return Err(TaskError::file(directory, reason));
    }
    Ok(files)
}

/// A part of a task, read.
pub(crate) struct Read {
    task: &'static Published,
    split: Split,
    questions: Vec<Question>,
    /// The rows in the order of the questions.
    order: Vec<usize>,
    hash: u64,
    python: Option<Python>,
}

impl Read {
    fn question(&self, index: usize) -> &Question {
        &self.questions[self.order[index]]
    }
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.task.name, self.split.name())
    }
}

impl Conversations for Read {
    fn len(&self) -> usize {
        self.questions.len()
    }

    fn get(&self, index: usize) -> Result<Conversation> {
        Ok(self.question(index).conversation.clone())
    }
}

impl Task for Read {
    fn name(&self) -> &str {
        self.task.name
    }

    fn kind(&self) -> Kind {
        self.task.kind
    }

    fn baseline(&self) -> f64 {
        self.task.baseline
    }

    fn letters(&self, index: usize) -> Vec<String> {
        match &self.question(index).judged {
            Judged::Letters(letters) => letters.clone(),
            Judged::Number(_) | Judged::Program(_) | Judged::Never => vec![],
        }
    }

    fn identity(&self) -> String {
        let (name, part, count) = (self.task.name, self.split.name(), self.len());
        format!("{name} {part}, {count} rows, checksum {:016x}", self.hash)
    }

    fn reward(&self, index: usize, answer: &str) -> Result<f32> {
        let Question { conversation, judged } = self.question(index);
        let correct = match judged {
            Judged::Letters(_) => answer.trim() == conversation.answer(),
            Judged::Number(number) => number.is_some() && final_number(answer) == *number,
            Judged::Program(check) => {
                let python =
                    self.python.as_ref().ok_or(TaskError::NoPython { name: self.task.name })?;
                python.run(&check.program(answer))? == Ended::Passed
            }
            Judged::Never => false,
        };
        Ok(f32::from(u8::from(correct)))
    }
}
