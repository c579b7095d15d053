//! One job in progress.

use super::draft::Acceptance;
use super::job::{Event, Job, JobId, TokenLogprob, Usage};
use crate::tail::Tail;
use crate::tools::{Calls, Taken};
use crate::{Finish, InferError, Part, Sampler};
use std::collections::VecDeque;
use std::sync::Arc;
use tokenizer::{Stream, Tokenizer};

/// A job with its text so far.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: JobId,
    job: Job,
    /// The prompt and what was drawn; after the window slid, what it left.
    pub(super) text: Vec<u32>,
    pub(super) usage: Usage,
    sampler: Sampler,
    acceptance: Acceptance,
    tail: Tail<Arc<Tokenizer>>,
    calls: Calls,
    tokenizer: Arc<Tokenizer>,
    /// Of the prompt, as far as it was read.
    logprobs: Vec<TokenLogprob>,
}

/// What is to happen after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More tokens are to be read.
    Read,
    /// The window slides.
    Slide,
    /// The job is done.
    End,
}

impl Sequence {
    pub(super) fn new(id: JobId, job: Job, tokenizer: &Arc<Tokenizer>) -> Self {
        let mut sampler = Sampler::new(job.sampling, job.seed).with_bias(job.logit_bias.clone());
        job.prompt.iter().for_each(|&token| sampler.read(token));
        let mut stream = Stream::new(Arc::clone(tokenizer), true);
        job.prompt.iter().for_each(|&token| drop(stream.push(token)));
        Sequence {
            id,
            text: job.prompt.clone(),
            usage: Usage { prompt: job.prompt.len(), ..Usage::default() },
            sampler,
            acceptance: Acceptance::new(),
            tail: Tail::new(stream, &job.stop),
            calls: Calls::new(job.tools.clone()),
            tokenizer: Arc::clone(tokenizer),
            logprobs: vec![],
            job,
        }
    }

    /// The most tokens of the prompt that may be found in a cache: the logits after the others are needed.
    pub(super) fn cacheable(&self) -> usize {
        if self.reports_prompt() { 0 } else { self.text.len() - 1 }
    }

    /// True if nothing is to be computed.
    pub(super) fn asks_nothing(&self) -> bool {
        self.job.max_tokens == 0 && !self.job.prompt_logprobs
    }

    /// True while the logits after every token of the prompt are wanted.
    pub(super) fn reports_prompt(&self) -> bool {
        self.job.prompt_logprobs && self.usage.completion == 0
    }

    /// True if the logits after token `at` of the text are wanted.
    pub(super) fn wants(&self, at: usize) -> bool {
        at + 1 == self.text.len() || self.reports_prompt()
    }

    /// A copy of what draws the next token.
    pub(super) fn sampler(&self) -> Sampler {
        self.sampler.clone()
    }

    /// True if a token ends the text.
    pub(super) fn is_end(&self, token: u32) -> bool {
        self.job.ends.contains(&token)
    }

    /// The number of tokens to guess, up to `room`.
    pub(super) fn guesses(&mut self, room: usize) -> usize {
        match self.usage.completion {
            // Nothing delays the first token.
            0 => 0,
            drawn => self.acceptance.guesses(room.min(self.job.max_tokens - drawn - 1)),
        }
    }

    /// Learns how many guesses of a step were right, and whether one was wrong.
    pub(super) fn learn(&mut self, right: usize, wrong: bool) {
        self.acceptance.learn(right, wrong);
    }

    /// Takes the logits after token `at` of the text, which the model just read. It can read `room` more.
    pub(super) fn take(
        &mut self,
        at: usize,
        logits: &[f32],
        room: usize,
        events: &mut Vec<Event>,
    ) -> Next {
        // Without an early end, several are checked at once.
        if !logits.iter().fold(true, |all, logit| all & logit.is_finite()) {
            events.push(Event::Failed(InferError::NotFinite { tokens: at + 1 }));
            return Next::End;
        }
        if self.reports_prompt() {
            let count = self.job.logprobs.unwrap_or(0);
            if let Some(&next) = self.text.get(at + 1) {
                self.logprobs.push(TokenLogprob::new(logits, next, count));
                return Next::Read;
            }
            events.push(Event::Prompt { logprobs: std::mem::take(&mut self.logprobs) });
        }
        match self.job.max_tokens {
            0 => self.end(Finish::MaxTokens, events),
            _ => self.draw(logits, room, events),
        }
    }

    fn draw(&mut self, logits: &[f32], room: usize, events: &mut Vec<Event>) -> Next {
        let id = self.sampler.choose(logits);
        if self.is_end(id) {
            return self.finish(Finish::EndOfText, Some(id), events);
        }
        let logprob = self.job.logprobs.map(|count| TokenLogprob::new(logits, id, count));
        let (mut ahead, mut next) = (VecDeque::from([(id, logprob)]), Next::Read);
        // The drawn token, then those that it forces.
        for count in 1.. {
            let Some((id, logprob)) = ahead.pop_front() else { break };
            let forced = count > 1;
            if forced {
                self.sampler.read(id);
            }
            self.text.push(id);
            self.usage.completion += 1;
            let Taken { part, ends, forced: more } = self.calls.take(id, &self.tokenizer);
            ahead.extend(more.into_iter().map(|id| (id, None)));
            let (text, stopped) = match part {
                _ if ends => (self.tail.cut(), false),
                Part::Text => self.tail.push(id),
                Part::Call | Part::Output => (self.tail.pass(id), false),
            };
            events.push(Event::Token { id, text, part, forced, logprob });
            if stopped {
                let (finish, text, usage) = (Finish::StopString, String::new(), self.usage);
                events.push(Event::Finished { text, finish, end: None, usage });
                return Next::End;
            }
            if self.usage.completion == self.job.max_tokens {
                return self.end(Finish::MaxTokens, events);
            }
            next = match (count > room, self.job.slide) {
                (true, true) => Next::Slide,
                (true, false) => return self.end(Finish::ContextFull, events),
                (false, _) => Next::Read,
            };
        }
        next
    }

    /// Keeps the newest `tokens` tokens of the text.
    pub(super) fn slide(&mut self, tokens: usize) {
        self.usage.slides += 1;
        self.text.drain(..self.text.len() - tokens.min(self.text.len()));
    }

    /// Ends the text.
    pub(super) fn end(&mut self, finish: Finish, events: &mut Vec<Event>) -> Next {
        self.finish(finish, None, events)
    }

    fn finish(&mut self, finish: Finish, end: Option<u32>, events: &mut Vec<Event>) -> Next {
        // What a call or its result ends with is not of the text.
        let rest = self.tail.finish();
        let text = if self.calls.part() == Part::Text { rest } else { String::new() };
        let usage = self.usage;
        events.push(Event::Finished { text, finish, end, usage });
        Next::End
    }
}
