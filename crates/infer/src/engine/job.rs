//! What an engine is asked for, and what it answers.

use crate::{Finish, InferError, Part, Sampling, Tools};

/// A text to be continued.
#[derive(Clone, Debug)]
pub struct Job {
    /// Tokens of the prompt, with the one that begins a text ([`crate::prompt_tokens`]).
    pub prompt: Vec<u32>,
    /// Longest continuation, in tokens.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Seed of the drawing. The text depends on it, not on what else the engine does.
    pub seed: u64,
    /// Strings before which the text ends.
    pub stop: Vec<String>,
    /// Tokens at which the text ends ([`crate::text_ends`]).
    pub ends: Vec<u32>,
    /// Report the log probability of each token, and this many of the most likely ones.
    pub logprobs: Option<usize>,
    /// Report log probabilities of the prompt too, as [`Event::Prompt`].
    pub prompt_logprobs: bool,
    /// What is added to the logits of some tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// When the context is full, go on from the newest half of it; else stop.
    pub slide: bool,
    /// A tool that may be called. What it gives counts among the `max_tokens`.
    pub tools: Option<Tools>,
}

impl Default for Job {
    /// 16 tokens after an empty prompt, which must be replaced.
    fn default() -> Self {
        Job {
            prompt: vec![],
            max_tokens: 16,
            sampling: Sampling::default(),
            seed: 0,
            stop: vec![],
            ends: vec![],
            logprobs: None,
            prompt_logprobs: false,
            logit_bias: vec![],
            slide: false,
            tools: None,
        }
    }
}

/// A job of an engine: their numbers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What became of a job in a step.
#[derive(Debug)]
pub enum Event {
    /// The prompt was read, by a job that asked for its log probabilities: one for each token but the
    /// first, which nothing precedes.
    Prompt {
        /// Those of the second token, the third, …
        logprobs: Vec<TokenLogprob>,
    },
    /// A token was drawn, or forced by a tool.
    Token {
        /// The token.
        id: u32,
        /// Text that is certain now: whole characters, and nothing that may become a stop string. Often
        /// empty.
        text: String,
        /// The part of the answer that the text belongs to; [`Part::Text`] where there are no tools.
        part: Part,
        /// True if the token is what a tool gave, or stands around it: it was not drawn.
        forced: bool,
        /// Its log probability, if asked for and drawn.
        logprob: Option<TokenLogprob>,
    },
    /// The text is complete.
    Finished {
        /// What was held back of the text.
        text: String,
        /// Why there is no more.
        finish: Finish,
        /// The token that ended it, with [`Finish::EndOfText`].
        end: Option<u32>,
        /// What it took.
        usage: Usage,
    },
    /// The job ended without a complete text.
    Failed(InferError),
}

/// A token with its log probability, as the model gives it: before bias, penalties and temperature.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The most likely tokens with theirs, most likely first.
    pub top: Vec<(u32, f32)>,
}

impl TokenLogprob {
    /// Of token `id`, and of the `count` most likely.
    pub(super) fn new(logits: &[f32], id: u32, count: usize) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
        let logprob = |id: u32| (f64::from(logits[id as usize] - max) - sum.ln()) as f32;
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let by_logit =
            |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let count = count.min(order.len());
        if count < order.len() {
            order.select_nth_unstable_by(count, by_logit);
            order.truncate(count);
        }
        order.sort_unstable_by(by_logit);
        let top = order.into_iter().map(|id| (id, logprob(id))).collect();
        TokenLogprob { id, logprob: logprob(id), top }
    }
}

/// What a job took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Those of them that were in the cache already.
    pub cached: usize,
    /// Tokens drawn or forced, without the one that ended the text.
    pub completion: usize,
    /// How often the window slid.
    pub slides: usize,
}
