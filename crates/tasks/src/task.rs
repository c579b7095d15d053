//! Tasks: conversations whose last message is an answer that can be judged.

use crate::conversation::Conversations;
use crate::error::Result;

/// A part of a task. Nothing of one is in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To be asked.
    Test,
}

impl Split {
    /// Returns `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }
}

/// How a model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A choice: the model answers with the most likely of the [letters](Task::letters), each a single token.
    Categorical,
    /// The model writes an answer, which is judged.
    Generative,
    /// Conversations to learn from, without a judgement.
    Training,
}

/// One [part](Split) of a task.
///
/// The last message of each conversation is the right answer. A question is the conversation without it.
pub trait Task: Conversations {
    /// Returns its name, as `--tasks` takes it.
    fn name(&self) -> &str;

    /// Returns how a model is asked.
    fn kind(&self) -> Kind;

    /// Returns the percentage of right answers that guessing gives.
    fn baseline(&self) -> f64;

    /// Returns the answers to choose from in a question of a categorical task; none in other tasks.
    ///
    /// # Panics
    /// May panic if `index` is not below the number of conversations.
    fn letters(&self, _index: usize) -> Vec<String> {
        vec![]
    }

    /// Returns what results know the questions by: two lists that differ in one have different identities.
    fn identity(&self) -> String;

    /// Judges an answer to a question: 1 if it is right, 0 if it is not. `answer` is all that the assistant
    /// wrote, calls of tools and their results included, without the token that ended it.
    ///
    /// # Errors
    /// When a file of the task is damaged, or judging takes a program that cannot be run.
    ///
    /// # Panics
    /// May panic if `index` is not below the number of conversations.
    fn reward(&self, index: usize, answer: &str) -> Result<f32>;
}
