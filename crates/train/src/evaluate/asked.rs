//! CORE of a model in training: answers in a file, from which a session that ended goes on.

use super::{Answer, Core, CoreScore, Journal, JournalError, checksum, model_checksum};
use crate::error::TrainError;
use gpt::Parameters;
use gpt::slots::WeightFormat;
use infer::Scorer;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokenizer::Tokenizer;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Answer(Answer),
    /// The last one: the run told the result.
    Told {
        core: f64,
    },
}

/// Questions of which some may be answered.
pub(crate) struct Asked<'c> {
    core: &'c Core,
    journal: Journal,
    answers: Vec<Answer>,
    told: bool,
}

impl<'c> Asked<'c> {
    /// Opens the answers of this model in `path`. Where the file has those of another model or to other
    /// questions, a run that was `resumed` leaves them (`None`); else they are replaced: the run went back
    /// behind them.
    pub(crate) fn open(
        path: &Path,
        core: &'c Core,
        parameters: &Parameters,
        tokenizer: &Tokenizer,
        resumed: bool,
    ) -> Result<Option<Self>, TrainError> {
        let header = serde_json::json!({
            "model": model_checksum(parameters),
            "tokenizer": checksum(tokenizer.to_json().unwrap_or_default().as_bytes()),
            "core": core.header(),
        });
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
        let mut asked = Asked { core, journal, answers: vec![], told: false };
        for line in lines {
            match line {
                Line::Answer(answer) => asked.answers.push(answer),
                Line::Told { .. } => asked.told = true,
            }
        }
        core.check(asked.answers.iter())?;
        Ok(Some(asked))
    }

    /// Asks the questions that have no answer yet, until `stop` says so.
    pub(crate) fn ask(
        &mut self,
        parameters: &Parameters,
        tokenizer: &Tokenizer,
        stop: impl Fn() -> bool,
    ) -> Result<(), TrainError> {
        if self.answers.len() == self.core.len() {
            return Ok(());
        }
        let mut scorer = Scorer::new(parameters, WeightFormat::F32)?;
        for index in self.answers.len()..self.core.len() {
            if stop() {
                break;
            }
            let answer = self.core.ask(index, &mut scorer, tokenizer)?;
            self.journal.add(&answer)?;
            self.answers.push(answer);
        }
        Ok(())
    }

    /// The result, if all questions have answers and it was not told before.
    pub(crate) fn to_tell(&self) -> Option<CoreScore> {
        let whole = self.answers.len() == self.core.len();
        (whole && !self.told).then(|| self.core.score(self.answers.iter()))
    }

    /// Notes that the result was told.
    pub(crate) fn told(&mut self) -> Result<(), JournalError> {
        let core = self.core.score(self.answers.iter()).core;
        self.journal.add(&Line::Told { core })?;
        self.journal.sync()
    }
}
