//! What becomes of a request's jobs: deltas of its choices, put together or streamed.

use crate::app::{App, too_late};
use crate::error::{ApiError, Result};
use crate::worker::Answer;
use infer::{Event, Finish, Part, TokenLogprob, Usage};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant as Deadline, timeout_at};

/// More of a choice.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pub(crate) choice: usize,
    pub(crate) text: String,
    /// Log probabilities of the tokens that begin in this text.
    pub(crate) logprobs: Vec<TokenLogprob>,
    /// Those of the prompt, if they were asked for.
    pub(crate) prompt: Option<Vec<TokenLogprob>>,
    pub(crate) finish: Option<Finish>,
}

impl Delta {
    /// True if there is something to be told.
    pub(crate) fn is_told(&self) -> bool {
        !self.text.is_empty() || !self.logprobs.is_empty() || self.prompt.is_some()
    }

    /// Adds what came later.
    pub(crate) fn extend(&mut self, later: Delta) {
        self.text += &later.text;
        self.logprobs.extend(later.logprobs);
        self.prompt = later.prompt.or(self.prompt.take());
        self.finish = later.finish.or(self.finish);
    }
}

/// A choice on its way.
#[derive(Debug, Default)]
struct Choice {
    /// Bytes of the text that was told.
    told: usize,
    /// Bytes of all tokens that were drawn.
    drawn: usize,
    /// Tokens that begin in text that is still held back, with the byte at which they begin.
    held: VecDeque<(usize, TokenLogprob)>,
    usage: Option<Usage>,
}

/// A request in the engine.
pub(crate) struct Answering {
    app: Arc<App>,
    answers: Receiver<Answer>,
    choices: Vec<Choice>,
    /// Choices of each prompt.
    per_prompt: usize,
    start: Instant,
    deadline: Deadline,
    first: bool,
    done: bool,
}

impl Answering {
    pub(crate) fn new(
        app: Arc<App>,
        answers: Receiver<Answer>,
        (prompts, per_prompt): (usize, usize),
        start: Instant,
    ) -> Self {
        let deadline = Deadline::from_std(start) + app.limits().request_time;
        let choices = (0..prompts * per_prompt).map(|_| Choice::default()).collect();
        Answering { app, answers, choices, per_prompt, start, deadline, first: true, done: false }
    }

    pub(crate) fn choices(&self) -> usize {
        self.choices.len()
    }

    /// The next delta; `None` once all choices are finished.
    ///
    /// # Errors
    /// When a job fails, the engine stops, or the time is over.
    pub(crate) async fn next(&mut self) -> Result<Option<Delta>> {
        if self.choices.iter().all(|choice| choice.usage.is_some()) {
            self.done = true;
            return Ok(None);
        }
        match timeout_at(self.deadline, self.answers.recv()).await {
            Ok(Some(Answer::Event(choice, event))) => self.take(choice, event).map(Some),
            Ok(Some(Answer::Accepted | Answer::Refused(_)) | None) => Err(self.app.broken().await),
            Err(_) => Err(too_late(self.app.limits().request_time)),
        }
    }

    /// The next delta if it is there already.
    pub(crate) fn ready(&mut self) -> Option<Result<Delta>> {
        match self.answers.try_recv().ok()? {
            Answer::Event(choice, event) => Some(self.take(choice, event)),
            Answer::Accepted | Answer::Refused(_) => None,
        }
    }

    fn take(&mut self, index: usize, event: Event) -> Result<Delta> {
        let mut delta = Delta { choice: index, ..Delta::default() };
        let choice = &mut self.choices[index];
        match event {
            Event::Prompt { logprobs } => delta.prompt = Some(logprobs),
            // What a tool was asked and gave is not of the answer.
            Event::Token { part: Part::Call | Part::Output, .. } => {}
            Event::Token { id, text, logprob, .. } => {
                if std::mem::take(&mut self.first) {
                    self.app.metrics.first_token(self.start.elapsed());
                }
                choice.told += text.len();
                delta.text = text;
                if let Some(logprob) = logprob {
                    choice.held.push_back((choice.drawn, logprob));
                    choice.drawn += self.app.tokenizer.decode_bytes(id).len();
                }
                delta.logprobs = choice.release(false);
            }
            Event::Finished { text, finish, usage, .. } => {
                choice.told += text.len();
                choice.usage = Some(usage);
                delta.text = text;
                delta.logprobs = choice.release(finish != Finish::StopString);
                delta.finish = Some(finish);
            }
            Event::Failed(error) => return Err(ApiError::of(&error, "prompt")),
        }
        Ok(delta)
    }

    /// All choices, complete.
    pub(crate) async fn all(&mut self) -> Result<Vec<Delta>> {
        let each = |choice| Delta { choice, ..Delta::default() };
        let mut all: Vec<Delta> = (0..self.choices.len()).map(each).collect();
        while let Some(delta) = self.next().await? {
            all[delta.choice].extend(delta);
        }
        Ok(all)
    }

    /// Tokens of all choices. A prompt counts once.
    pub(crate) fn usage(&self) -> Value {
        let usage = |choice: &Choice| choice.usage.unwrap_or_default();
        let first = self.choices.iter().step_by(self.per_prompt).map(usage);
        let (prompt, cached) =
            first.fold((0, 0), |(p, c), usage| (p + usage.prompt, c + usage.cached));
        let completion: usize = self.choices.iter().map(|choice| usage(choice).completion).sum();
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": { "cached_tokens": cached },
        })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.done {
            self.app.metrics.cut_off();
        }
    }
}

impl Choice {
    /// Tokens that begin in text that was told; `all` of them at the end of a text. What a stop string
    /// took away stays behind.
    fn release(&mut self, all: bool) -> Vec<TokenLogprob> {
        let told = self.held.iter().take_while(|(begin, _)| all || *begin < self.told).count();
        self.held.drain(..told).map(|(_, logprob)| logprob).collect()
    }
}

/// Why a choice ended, in OpenAI's words.
pub(crate) fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::EndOfText | Finish::Stopped | Finish::StopString => "stop",
        Finish::MaxTokens | Finish::ContextFull => "length",
    }
}
