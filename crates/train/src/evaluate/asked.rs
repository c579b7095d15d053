//! Questions to a model in training: answers in a file, from which a session that ended goes on.

use super::{
    Answer, Answering, Chat, ChatAnswer, Core, CoreError, Journal, JournalError, checksum,
    model_checksum,
};
use crate::error::TrainError;
use crate::event::Event;
use crate::objective::rl::Speaker;
use crate::stop::Stop;
use gpt::Parameters;
use gpt::slots::WeightFormat;
use infer::Scorer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use tokenizer::Tokenizer;

/// Why no further question is asked.
pub(crate) enum Halt {
    /// The run is to end.
    Stopped,
    Failed(TrainError),
}

impl<E: Into<TrainError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Halt::Failed(error.into())
    }
}

/// Questions of which each has an answer that does not depend on the others.
pub(crate) trait Quiz {
    /// An answer, as a line of the file.
    type Answer: Serialize + DeserializeOwned;
    /// The name of the quiz, in the file and in that of its directory.
    const NAME: &'static str;

    /// What decides which questions are asked.
    fn header(&self) -> Value;

    /// The number of questions.
    fn len(&self) -> usize;

    /// Checks that answers are those to the first questions.
    fn check(&self, answers: &[Self::Answer]) -> Result<(), TrainError>;

    /// Asks the questions from number `first` on, in their order.
    fn ask(
        &self,
        first: usize,
        parameters: &Parameters,
        tokenizer: &Tokenizer,
        each: &mut dyn FnMut(Self::Answer) -> Result<(), Halt>,
    ) -> Result<(), Halt>;

    /// The result of all answers, and the event that tells it, without its time.
    fn result(&self, step: u64, answers: &[Self::Answer]) -> (f64, Event);
}

impl Quiz for Core {
    type Answer = Answer;
    const NAME: &'static str = "core";

    fn header(&self) -> Value {
        Core::header(self)
    }

    fn len(&self) -> usize {
        Core::len(self)
    }

    fn check(&self, answers: &[Answer]) -> Result<(), TrainError> {
        Ok(Core::check(self, answers.iter())?)
    }

    fn ask(
        &self,
        first: usize,
        parameters: &Parameters,
        tokenizer: &Tokenizer,
        each: &mut dyn FnMut(Answer) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let mut scorer = Scorer::new(parameters, WeightFormat::F32)?;
        let mut ask =
            |index| -> Result<Answer, CoreError> { Core::ask(self, index, &mut scorer, tokenizer) };
        (first..Core::len(self)).try_for_each(|index| each(ask(index)?))
    }

    fn result(&self, step: u64, answers: &[Answer]) -> (f64, Event) {
        let score = self.score(answers.iter());
        (score.core, Event::Core { step, core: score.core, tasks: score.tasks, ms: 0.0 })
    }
}

/// Tasks of conversations, and what the model answers with.
pub(crate) struct Conversing<'c> {
    pub(crate) chat: &'c Chat,
    pub(crate) speaker: &'c Speaker,
}

impl Quiz for Conversing<'_> {
    type Answer = ChatAnswer;
    const NAME: &'static str = "tasks";

    fn header(&self) -> Value {
        self.chat.header()
    }

    fn len(&self) -> usize {
        self.chat.len()
    }

    fn check(&self, answers: &[ChatAnswer]) -> Result<(), TrainError> {
        Ok(self.chat.check(answers.iter())?)
    }

    fn ask(
        &self,
        first: usize,
        parameters: &Parameters,
        _tokenizer: &Tokenizer,
        each: &mut dyn FnMut(ChatAnswer) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let Speaker { tokenizer, template, ends, tools } = self.speaker;
        let model = Answering { parameters, tokenizer, template, ends, tools: tools.as_ref() };
        self.chat.ask(model, first, each)
    }

    fn result(&self, step: u64, answers: &[ChatAnswer]) -> (f64, Event) {
        let score = self.chat.score(answers.iter());
        let (mean, chatcore) = (score.mean, score.chatcore);
        (mean, Event::Tasks { step, mean, chatcore, tasks: score.tasks, ms: 0.0 })
    }
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line<A> {
    Answer(A),
    /// The last one: the run told the result.
    Told(BTreeMap<String, f64>),
}

/// Questions of which some may be answered.
pub(crate) struct Asked<'q, Q: Quiz> {
    quiz: &'q Q,
    journal: Journal,
    answers: Vec<Q::Answer>,
    told: bool,
}

impl<'q, Q: Quiz> Asked<'q, Q> {
    /// Opens the answers of this model in `path`. Where the file has those of another model or to other
    /// questions, a run that was `resumed` leaves them (`None`); else they are replaced: the run went back
    /// behind them.
    pub(crate) fn open(
        path: &Path,
        quiz: &'q Q,
        parameters: &Parameters,
        tokenizer: &Tokenizer,
        resumed: bool,
    ) -> Result<Option<Self>, TrainError> {
        let mut header = serde_json::json!({
            "model": model_checksum(parameters),
            "tokenizer": checksum(tokenizer.to_json().unwrap_or_default().as_bytes()),
        });
        header[Q::NAME] = quiz.header();
        let opened = match Journal::open(path, &header) {
            Err(JournalError::Other { .. } | JournalError::Line { .. }) if resumed => {
                return Ok(None);
            }
            Err(JournalError::Other { .. } | JournalError::Line { .. }) => {
                let fault =
                    |source| JournalError::Io { path: path.to_owned(), action: "remove", source };
                std::fs::remove_file(path).map_err(fault)?;
                Journal::open(path, &header)
            }
            opened => opened,
        };
        let (journal, lines) = opened?;
        let mut asked = Asked { quiz, journal, answers: vec![], told: false };
        for line in lines {
            match line {
                Line::Answer(answer) => asked.answers.push(answer),
                Line::Told(_) => asked.told = true,
            }
        }
        quiz.check(&asked.answers)?;
        Ok(Some(asked))
    }

    /// Asks the questions that have no answer yet, until `stop` says so.
    pub(crate) fn ask(
        &mut self,
        parameters: &Parameters,
        tokenizer: &Tokenizer,
        stop: &Stop,
    ) -> Result<(), TrainError> {
        let Asked { quiz, journal, answers, .. } = self;
        if answers.len() == quiz.len() {
            return Ok(());
        }
        let asked = quiz.ask(answers.len(), parameters, tokenizer, &mut |answer| {
            journal.add(&answer)?;
            answers.push(answer);
            if stop.requested() { Err(Halt::Stopped) } else { Ok(()) }
        });
        match asked {
            Err(Halt::Failed(error)) => Err(error),
            Ok(()) | Err(Halt::Stopped) => Ok(()),
        }
    }

    /// The result and the event that tells it, without its time; `None` unless all questions have answers, and if it was
    /// told before.
    pub(crate) fn to_tell(&self, step: u64) -> Option<(f64, Event)> {
        let whole = self.answers.len() == self.quiz.len();
        (whole && !self.told).then(|| self.quiz.result(step, &self.answers))
    }

    /// Notes that the result was told.
    pub(crate) fn told(&mut self, result: f64) -> Result<(), JournalError> {
        let told = [(Q::NAME.to_owned(), result)].into();
        self.journal.add(&Line::<Q::Answer>::Told(told))?;
        self.journal.sync()
    }
}
