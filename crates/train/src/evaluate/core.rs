//! CORE of a model: asks the questions, one after the other.

use infer::{InferError, Scorer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use tasks::TaskError;
use tasks::core::{Bundle, CoreTask, Questions, Scored, centred, core_metric};
use tokenizer::Tokenizer;

/// Why a question could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The bundle is missing or damaged.
    #[error(transparent)]
    Bundle(#[from] TaskError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] InferError),
    /// A prompt has no tokens in this vocabulary.
    #[error("{path}, line {line}: the prompt cannot be encoded: {source}", path = path.display())]
    Prompt {
        /// The file of the question.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The tokenizer's error.
        source: tokenizer::Error,
    },
    /// Answers that are not those of the questions.
    #[error(
        "answer {index} is to question {found}, where question {expected} comes: they are of another bundle"
    )]
    Order {
        /// The answer, from 0.
        index: usize,
        /// What it answers.
        found: String,
        /// What it should.
        expected: String,
    },
}

/// A model's answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Name of the task.
    pub label: String,
    /// The question's place in its task, from 0.
    pub question: usize,
    /// Its line in the file, from 1.
    pub line: usize,
    /// True if the answer is right.
    pub correct: bool,
    /// The prompt that was chosen, where there was a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<usize>,
    /// The right one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<usize>,
    /// The loss of each prompt's span in nats.
    pub nats: Vec<f64>,
    /// Tokens of each span.
    pub tokens: Vec<usize>,
    /// True if a prompt was cut to what the model reads.
    #[serde(default, skip_serializing_if = "is_false")]
    pub truncated: bool,
    /// True if the answer was cut as well.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
    /// True if the tokenizer joined the end of the prompt with the answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub merged: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The accuracy of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskScore {
    /// Name of the task.
    pub label: String,
    /// Questions asked.
    pub questions: usize,
    /// The share of right answers.
    pub accuracy: f64,
    /// On a scale where guessing is 0 and perfection 1.
    pub centered: f64,
    /// Questions that were cut on the left to what the model reads.
    pub truncated: usize,
    /// Those of them whose answer was cut as well.
    pub cut: usize,
    /// Questions whose end the tokenizer joined with the answer.
    pub merged: usize,
}

/// CORE and the accuracies that it is the mean of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoreScore {
    /// The mean of the tasks' centred accuracies.
    pub core: f64,
    /// The tasks.
    pub tasks: Vec<TaskScore>,
}

/// The questions of CORE, in their order.
#[derive(Debug)]
pub struct Core {
    tasks: Vec<(CoreTask, Questions)>,
    most: Option<usize>,
    checksum: String,
}

impl Core {
    /// Reads the tasks of the bundle in `directory`, all of them or those with these names, and at most
    /// `most` questions of each.
    ///
    /// # Errors
    /// When the bundle is missing or damaged, or there is no such task.
    pub fn read(
        directory: &Path,
        labels: Option<&[String]>,
        most: Option<usize>,
    ) -> Result<Self, CoreError> {
        let mut bundle = Bundle::open(directory)?;
        if let Some(labels) = labels {
            bundle = bundle.select(labels)?;
        }
        let mut hash = Sha256::new();
        let mut tasks = vec![];
        for task in bundle.tasks() {
            tasks.push((task.clone(), Questions::read(task, most)?));
            hash.update(format!("{:?}", described(task)));
            // It was just read.
            hash.update(fs::read(&task.data).unwrap_or_default());
        }
        let checksum = super::hexadecimal(&hash.finalize());
        Ok(Core { tasks, most, checksum })
    }

    /// The number of questions.
    pub fn len(&self) -> usize {
        self.tasks.iter().map(|(_, questions)| questions.len()).sum()
    }

    /// True if there is no question.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What decides which questions are asked, for a [`super::Journal`].
    pub fn header(&self) -> serde_json::Value {
        let labels: Vec<&str> = self.tasks.iter().map(|(task, _)| task.label.as_str()).collect();
        serde_json::json!({
            "bundle": self.checksum, "tasks": labels, "max_per_task": self.most,
        })
    }

    /// The task and the place in it of question `index`.
    fn place(&self, mut index: usize) -> (&CoreTask, &Questions, usize) {
        for (task, questions) in &self.tasks {
            if index < questions.len() {
                return (task, questions, index);
            }
            index -= questions.len();
        }
        unreachable!("a question of this evaluation")
    }

    /// Asks question `index` of all. Prompts begin with the token that begins a document, where the
    /// tokenizer has one, and keep their end if the model cannot read all of them.
    ///
    /// # Errors
    /// When the prompt cannot be encoded, or the model fails.
    ///
    /// # Panics
    /// If there is no such question.
    pub fn ask(
        &self,
        index: usize,
        scorer: &mut Scorer,
        tokenizer: &Tokenizer,
    ) -> Result<Answer, CoreError> {
        let (task, questions, question) = self.place(index);
        let line = questions.line(question);
        let refused = |source| CoreError::Prompt { path: task.data.clone(), line, source };
        let mut item = questions
            .item(question, tokenizer.bos(), |text| tokenizer.encode(text))
            .map_err(refused)?;
        item.truncate(scorer.context());
        let scores = scorer.score(&item.prompts, &item.spans)?;
        let scored = |score: &infer::SpanScore| Scored {
            nats: score.nats,
            tokens: score.tokens,
            greedy: score.greedy,
        };
        let verdict = item.judge(&scores.iter().map(scored).collect::<Vec<_>>());
        Ok(Answer {
            label: task.label.clone(),
            question,
            line,
            correct: verdict.correct,
            chosen: verdict.chosen,
            gold: item.gold,
            nats: scores.iter().map(|score| score.nats).collect(),
            tokens: scores.iter().map(|score| score.tokens).collect(),
            truncated: item.truncated,
            cut: item.cut,
            merged: item.merged,
        })
    }

    /// Checks that answers are those to the first questions.
    ///
    /// # Errors
    /// When one is not.
    pub fn check<'a>(&self, answers: impl Iterator<Item = &'a Answer>) -> Result<(), CoreError> {
        for (index, answer) in answers.enumerate() {
            let found = format!("{} of {}", answer.question, answer.label);
            let expected = match index < self.len() {
                true => {
                    let (task, _, question) = self.place(index);
                    format!("{question} of {}", task.label)
                }
                false => "none".to_owned(),
            };
            if found != expected {
                return Err(CoreError::Order { index, found, expected });
            }
        }
        Ok(())
    }

    /// The accuracies of answers to all questions.
    pub fn score<'a>(&self, answers: impl Iterator<Item = &'a Answer> + Clone) -> CoreScore {
        let score = |(task, questions): &(CoreTask, Questions)| {
            let own = answers.clone().filter(|answer| answer.label == task.label);
            let count = |is: fn(&Answer) -> bool| own.clone().filter(|&answer| is(answer)).count();
            let accuracy = count(|answer| answer.correct) as f64 / questions.len() as f64;
            TaskScore {
                label: task.label.clone(),
                questions: questions.len(),
                accuracy,
                centered: centred(accuracy, task.baseline),
                truncated: count(|answer| answer.truncated),
                cut: count(|answer| answer.cut),
                merged: count(|answer| answer.merged),
            }
        };
        let tasks: Vec<TaskScore> = self.tasks.iter().map(score).collect();
        let centred: Vec<f64> = tasks.iter().map(|task| task.centered).collect();
        CoreScore { core: core_metric(&centred).unwrap_or(f64::NAN), tasks }
    }
}

/// A task wherever its bundle lies.
fn described(task: &CoreTask) -> CoreTask {
    CoreTask { data: task.data.file_name().unwrap_or_default().into(), ..task.clone() }
}
