//! Texts that a model writes, many at once.

use crate::stop::Stop;
use infer::{Engine, Event, Finish, InferError, Job, JobId};
use std::collections::BTreeMap;

/// A text, as far as it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Text {
    /// Its tokens, without the one that ended it.
    pub(crate) tokens: Vec<u32>,
    /// For each token: true if it was drawn, false if a tool gave it.
    pub(crate) drawn: Vec<bool>,
    /// The token that ended it, if one did.
    pub(crate) end: Option<u32>,
    /// Why it ended, once it has.
    pub(crate) finish: Option<Finish>,
}

impl Text {
    /// True if the model ended it; else it was cut off.
    pub(crate) fn ended(&self) -> bool {
        self.finish == Some(Finish::EndOfText)
    }
}

/// An engine and the texts that it writes.
pub(crate) struct Writing {
    pub(crate) engine: Engine,
    texts: BTreeMap<JobId, Text>,
}

impl Writing {
    pub(crate) fn new(engine: Engine) -> Self {
        Writing { engine, texts: BTreeMap::new() }
    }

    /// Begins a text.
    pub(crate) fn begin(&mut self, job: Job) -> Result<JobId, InferError> {
        let id = self.engine.submit(job)?;
        self.texts.insert(id, Text::default());
        Ok(id)
    }

    /// Continues the texts that have a slot by a token.
    pub(crate) fn step(&mut self) -> Result<(), InferError> {
        for (job, event) in self.engine.step()? {
            let text = self.texts.get_mut(&job).expect("it was begun here");
            match event {
                Event::Token { id, forced, .. } => {
                    text.tokens.push(id);
                    text.drawn.push(!forced);
                }
                Event::Finished { finish, end, .. } => {
                    (text.finish, text.end) = (Some(finish), end);
                }
                Event::Failed(error) => return Err(error),
                Event::Prompt { .. } => {}
            }
        }
        Ok(())
    }

    /// Continues all texts until these have ended, and returns these; `None` if the run is to end before.
    pub(crate) fn finish(
        &mut self,
        jobs: &[JobId],
        stop: &Stop,
    ) -> Result<Option<Vec<Text>>, InferError> {
        loop {
            if let Some(texts) = self.take(jobs) {
                return Ok(Some(texts));
            }
            if stop.requested() {
                return Ok(None);
            }
            self.step()?;
        }
    }

    /// Returns these texts once all of them have ended.
    pub(crate) fn take(&mut self, jobs: &[JobId]) -> Option<Vec<Text>> {
        let done = jobs.iter().all(|job| self.texts[job].finish.is_some());
        let mut take = |job| self.texts.remove(job).expect("it was begun here");
        done.then(|| jobs.iter().map(&mut take).collect())
    }
}
