//! Text generation: a [`Generator`] feeds a prompt to a [`gpt::Decoder`] and draws one token after
//! another with a [`Sampler`].
//!
//! ```
//! use ane::{Device, Emulator};
//! use chip::Profile;
//! use cpu::Numerics;
//! use gpt::{Decoder, GptConfig, Parameters, initialise};
//! use infer::{Finish, Generator, Request, Sampling};
//! use tokenizer::Tokenizer;
//!
//! let tokenizer = Tokenizer::train_char(["a small model of a few letters"])?;
//! let mut config = GptConfig::preset("tiny")?;
//! (config.n_layer, config.vocab_size) = (1, tokenizer.vocab_size());
//! let parameters = Parameters::new(&config, initialise(&config, 42));
//! let device = Emulator::engine(Profile::default(), Numerics::Fast);
//! let decoder = Decoder::new(&parameters, device.least_width(), &device, Numerics::Fast)?;
//!
//! let mut generator = Generator::new(decoder, &tokenizer)?;
//! let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
//! let request = Request { max_tokens: 5, sampling, seed: 1, slide: false };
//! let mut text = String::new();
//! let done = generator.generate("a few ", request, |piece| text.push_str(piece))?;
//! assert!(done.finish == Finish::EndOfText || done.tokens.len() == 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: one text at a time. Nothing here knows gradients or files.

#![warn(missing_docs)]

mod sample;

pub use sample::{Sampler, Sampling, SamplingError};

use gpt::{Decoder, ModelError};
use std::time::Instant;
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

/// How a text is continued.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Longest continuation, in tokens.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Seed of the drawing.
    pub seed: u64,
    /// When the model can read no more, go on from the newest half of what it has read; else stop.
    pub slide: bool,
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
}

/// A continuation and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Tokens of the prompt, with the one that begins a text.
    pub prompt: usize,
    /// Tokens drawn.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub finish: Finish,
    /// How often the window slid.
    pub slides: usize,
    /// Seconds for reading the prompt.
    pub prompt_seconds: f64,
    /// Seconds from there to the last token.
    pub seconds: f64,
}

/// Generates text with one model.
#[derive(Debug)]
pub struct Generator<'t> {
    decoder: Decoder<'t>,
    tokenizer: &'t Tokenizer,
    /// Tokens that end a text.
    ends: Vec<u32>,
}

impl<'t> Generator<'t> {
    /// A generator; the tokenizer may have fewer tokens than the model (padded vocabularies).
    ///
    /// # Errors
    /// When the tokenizer has tokens that the model does not know.
    pub fn new(decoder: Decoder<'t>, tokenizer: &'t Tokenizer) -> Result<Self, InferError> {
        let (have, model) = (tokenizer.vocab_size(), decoder.config().vocab_size);
        if have > model {
            return Err(InferError::Vocabulary { tokenizer: have, model });
        }
        let ends = tokenizer.bos().into_iter().chain(tokenizer.eos()).collect();
        Ok(Generator { decoder, tokenizer, ends })
    }

    /// Ends texts at these tokens too.
    #[must_use]
    pub fn ending_at(mut self, ends: &[u32]) -> Self {
        self.ends.extend(ends);
        self
    }

    /// The model, for other weights.
    pub fn decoder(&mut self) -> &mut Decoder<'t> {
        &mut self.decoder
    }

    /// The tokens that a text continuing `prompt` begins with.
    fn encode(&self, prompt: &str) -> Result<Vec<u32>, InferError> {
        let mut tokens: Vec<u32> = self.tokenizer.prompt_bos().into_iter().collect();
        if !prompt.is_empty() {
            tokens.extend(self.tokenizer.encode(prompt)?);
        }
        if tokens.is_empty() {
            tokens.extend(self.tokenizer.bos());
        }
        let limit = self.decoder.config().seq_len;
        match tokens.len() {
            0 => Err(InferError::Empty),
            tokens if tokens > limit => Err(InferError::TooLong { tokens, limit }),
            _ => Ok(tokens),
        }
    }

    /// Continues `prompt` until the text ends, `max_tokens` are drawn or the model can read no more.
    /// `emit` gets every piece of text as soon as it is whole, the prompt not included.
    ///
    /// # Errors
    /// When the prompt cannot be encoded or does not fit, a setting is out of range, the model gives
    /// no finite numbers, or the device fails.
    pub fn generate(
        &mut self,
        prompt: &str,
        request: Request,
        mut emit: impl FnMut(&str),
    ) -> Result<Generated, InferError> {
        self.generate_while(prompt, request, |piece| {
            emit(piece);
            true
        })
    }

    /// As [`Generator::generate`], until `emit` returns false.
    ///
    /// # Errors
    /// As [`Generator::generate`].
    pub fn generate_while(
        &mut self,
        prompt: &str,
        request: Request,
        mut emit: impl FnMut(&str) -> bool,
    ) -> Result<Generated, InferError> {
        request.sampling.validate()?;
        let mut text = self.encode(prompt)?;
        let mut stream = match prompt.is_empty() {
            true => self.tokenizer.stream(),
            false => self.tokenizer.stream_after_text(),
        };
        let mut sampler = Sampler::new(request.sampling, request.seed);
        let (prompt, mut slides, start) = (text.len(), 0, Instant::now());
        self.decoder.reset();
        let mut logits = self.feed(&text)?;
        let prompt_seconds = start.elapsed().as_secs_f64();
        let finish = loop {
            if text.len() - prompt >= request.max_tokens {
                break Finish::MaxTokens;
            }
            let next = sampler.choose(&logits);
            if self.ends.contains(&next) {
                break Finish::EndOfText;
            }
            text.push(next);
            let piece = stream.push(next);
            if !piece.is_empty() && !emit(&piece) {
                break Finish::Stopped;
            }
            // The last token asked for has no successor.
            if text.len() - prompt >= request.max_tokens {
                break Finish::MaxTokens;
            }
            logits = if self.decoder.room() > 0 {
                self.feed(&[next])?
            } else if request.slide {
                slides += 1;
                self.decoder.reset();
                let newest = (self.decoder.room() / 2).max(1);
                self.feed(&text[text.len() - newest..])?
            } else {
                break Finish::ContextFull;
            };
        };
        let rest = stream.finish();
        if !rest.is_empty() {
            emit(&rest);
        }
        let seconds = start.elapsed().as_secs_f64() - prompt_seconds;
        let tokens = text.split_off(prompt);
        Ok(Generated { prompt, tokens, finish, slides, prompt_seconds, seconds })
    }

    /// The logits after `tokens`, all of them finite.
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, InferError> {
        let logits = self.decoder.feed(tokens)?;
        match logits.iter().all(|logit| logit.is_finite()) {
            true => Ok(logits),
            false => Err(InferError::NotFinite { tokens: self.decoder.position() }),
        }
    }
}
