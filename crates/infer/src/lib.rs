//! Text generation: a [`Generator`] feeds a prompt to a [`gpt::Decoder`] and draws token after
//! token with a [`Sampler`]. Nothing here knows gradients.

#![warn(missing_docs)]

mod sample;

pub use sample::{Sampler, Sampling, SamplingError};

use gpt::{Decoder, ModelError};
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
    #[error("the prompt has {tokens} tokens and the model reads at most {limit}")]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Length of the model.
        limit: usize,
    },
    /// There is nothing to start from.
    #[error("the prompt is empty and the tokenizer has no token that begins a text")]
    Empty,
}

/// Generates text with one model.
#[derive(Debug)]
pub struct Generator<'t> {
    decoder: Decoder,
    tokenizer: &'t Tokenizer,
}

impl<'t> Generator<'t> {
    /// A generator; the tokenizer may have fewer tokens than the model (padded vocabularies).
    ///
    /// # Errors
    /// When the tokenizer has tokens that the model does not know.
    pub fn new(decoder: Decoder, tokenizer: &'t Tokenizer) -> Result<Self, InferError> {
        let (have, model) = (tokenizer.vocab_size(), decoder.config().vocab_size);
        if have > model {
            return Err(InferError::Vocabulary { tokenizer: have, model });
        }
        Ok(Generator { decoder, tokenizer })
    }

    /// The model, for other weights.
    pub fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// Continues `prompt` by up to `max_tokens` tokens, until the text ends (a token that begins or
    /// ends a text) or the model's length is reached. `emit` gets every piece of text as soon as it
    /// is whole, the prompt not included. Returns the tokens drawn.
    ///
    /// # Errors
    /// When the prompt cannot be encoded or does not fit, a setting is out of range, or the device
    /// fails.
    pub fn generate(
        &mut self,
        prompt: &str,
        max_tokens: usize,
        sampling: Sampling,
        seed: u64,
        mut emit: impl FnMut(&str),
    ) -> Result<Vec<u32>, InferError> {
        sampling.validate()?;
        let mut tokens: Vec<u32> = self.tokenizer.prompt_bos().into_iter().collect();
        if !prompt.is_empty() {
            tokens.extend(self.tokenizer.encode(prompt)?);
        }
        if tokens.is_empty() {
            tokens.extend(self.tokenizer.bos());
        }
        if tokens.is_empty() {
            return Err(InferError::Empty);
        }
        self.decoder.reset();
        if tokens.len() > self.decoder.room() {
            return Err(InferError::TooLong { tokens: tokens.len(), limit: self.decoder.room() });
        }
        let ends = [self.tokenizer.bos(), self.tokenizer.eos()];
        let mut stream = match prompt.is_empty() {
            true => self.tokenizer.stream(),
            false => self.tokenizer.stream_after_text(),
        };
        let mut sampler = Sampler::new(sampling, seed);
        let mut drawn = vec![];
        let mut logits = self.decoder.feed(&tokens)?;
        while drawn.len() < max_tokens {
            let next = sampler.choose(&logits);
            if ends.contains(&Some(next)) {
                break;
            }
            drawn.push(next);
            let text = stream.push(next);
            if !text.is_empty() {
                emit(&text);
            }
            if self.decoder.room() == 0 {
                break;
            }
            logits = self.decoder.feed(&[next])?;
        }
        let rest = stream.finish();
        if !rest.is_empty() {
            emit(&rest);
        }
        Ok(drawn)
    }
}
