//! Text generation: prompts in, pieces of text out.
//!
//! An [`Engine`] continues many texts at once on the CPU: every [`step`](Engine::step) is one forward pass
//! over all of them ([`gpt::SlotDecoder`]). A [`Generator`] continues one text on any device
//! ([`gpt::Decoder`]). Both draw tokens with a [`Sampler`] from a seed of the text's own. A
//! [`Scorer`] tells how likely tokens of given texts are.
//!
//! ```
//! use gpt::{GptConfig, Parameters, initialise};
//! use infer::{Engine, EngineOptions, Event, Job, prompt_tokens};
//! use std::sync::Arc;
//! use tokenizer::Tokenizer;
//!
//! let tokenizer = Arc::new(Tokenizer::train_char(["a small model of a few letters"])?);
//! let mut config = GptConfig::preset("tiny")?;
//! (config.n_layer, config.vocab_size) = (1, tokenizer.vocab_size());
//! let parameters = Parameters::new(&config, initialise(&config, 42));
//! let mut engine = Engine::new(&parameters, Arc::clone(&tokenizer), EngineOptions::default())?;
//!
//! let mut texts = ["a few ", "a small "].map(str::to_owned);
//! for (text, seed) in texts.iter().zip(1..) {
//!     let prompt = prompt_tokens(&tokenizer, text)?;
//!     engine.submit(Job { prompt, max_tokens: 5, seed, ..Job::default() })?;
//! }
//! while engine.active() > 0 {
//!     for (job, event) in engine.step()? {
//!         match event {
//!             Event::Token { text, .. } => texts[job.0 as usize] += &text,
//!             Event::Finished { text, usage, .. } => {
//!                 texts[job.0 as usize] += &text;
//!                 assert_eq!(usage.completion, 5);
//!             }
//!             Event::Prompt { .. } | Event::Failed(_) => unreachable!(),
//!         }
//!     }
//! }
//! assert_eq!(texts[1].chars().count(), "a small ".len() + 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here knows gradients or files.

#![warn(missing_docs)]

mod engine;
mod generator;
mod sample;
mod score;
mod tail;
pub mod tools;

pub use engine::{
    Draft, Engine, EngineOptions, Event, Job, JobId, Stats, TokenLogprob, Usage, WeightFormat,
};
pub use generator::{Generated, Generator, Request};
pub use sample::{Sampler, Sampling, SamplingError};
pub use score::{Scorer, SpanScore};
pub use tools::{Calculator, Part, Tool, Tools};

use gpt::ModelError;
use tokenizer::Tokenizer;

/// Why nothing could be generated.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The prompt could not be encoded.
    #[error("the prompt cannot be encoded: {0}")]
    Prompt(#[from] tokenizer::Error),
    /// A setting is out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Tokenizer and model are not of one vocabulary.
    #[error(
        "the tokenizer has {tokenizer} tokens but the model {model}: give the tokenizer that the \
         model was trained with (--tokenizer)"
    )]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Tokens of the model.
        model: usize,
    },
    /// The prompt leaves no room.
    #[error("the prompt has {tokens} tokens and the model reads at most {limit}: shorten it")]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Length of the model.
        limit: usize,
    },
    /// A token is not of the vocabulary.
    #[error("token {token} is not below the vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// A bias is no number.
    #[error("the logit bias {bias} of token {token} is not a finite number")]
    Bias {
        /// The token.
        token: u32,
        /// What was to be added to its logit.
        bias: f32,
    },
    /// Too many jobs wait.
    #[error("{waiting} jobs are waiting already: try again later")]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// There is nothing to start from.
    #[error("the prompt is empty and the tokenizer has no token that begins a text")]
    Empty,
    /// Logits are infinite or not numbers.
    #[error(
        "the logits after {tokens} tokens are not finite: the weights are damaged, or too large for \
         this arithmetic (try --device cpu --numerics f32)"
    )]
    NotFinite {
        /// Tokens that the model had read.
        tokens: usize,
    },
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A token that begins or ends a text was drawn.
    EndOfText,
    /// The request's `max_tokens` were drawn.
    MaxTokens,
    /// The model can read no more.
    ContextFull,
    /// Whoever takes the text wanted no more of it.
    Stopped,
    /// A stop string came up; the text ends before it.
    StopString,
}

impl Finish {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Finish::EndOfText => "end_of_text",
            Finish::MaxTokens => "max_tokens",
            Finish::ContextFull => "context_full",
            Finish::Stopped => "stopped",
            Finish::StopString => "stop_string",
        }
    }
}

/// The tokens that a text continuing `prompt` begins with: the one that begins a text, where the tokenizer
/// asks for it, and those of the prompt.
///
/// # Errors
/// When the prompt cannot be encoded, or there is nothing to start from.
pub fn prompt_tokens(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>, InferError> {
    let mut tokens: Vec<u32> = tokenizer.prompt_bos().into_iter().collect();
    if !prompt.is_empty() {
        tokens.extend(tokenizer.encode(prompt)?);
    }
    if tokens.is_empty() {
        tokens.extend(tokenizer.bos());
    }
    if tokens.is_empty() { Err(InferError::Empty) } else { Ok(tokens) }
}

/// The tokens that begin or end a text: none of them continues one.
pub fn text_ends(tokenizer: &Tokenizer) -> Vec<u32> {
    tokenizer.bos().into_iter().chain(tokenizer.eos()).collect()
}

/// Checks that a model of `model` tokens knows all those of the tokenizer; it may have more (padded
/// vocabularies).
fn check_tokenizer(tokenizer: &Tokenizer, model: usize) -> Result<(), InferError> {
    let tokenizer = tokenizer.vocab_size();
    if tokenizer > model { Err(InferError::Vocabulary { tokenizer, model }) } else { Ok(()) }
}
