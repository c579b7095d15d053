//! One text at a time, on any device: a [`Generator`] feeds a [`Decoder`].

use crate::tail::Tail;
use crate::tools::{Calls, Part, Tools};
use crate::{Finish, InferError, Sampler, Sampling, check_tokenizer, prompt_tokens, text_ends};
use gpt::Decoder;
use std::collections::VecDeque;
use std::time::Instant;
use tokenizer::Tokenizer;

/// How a text is continued.
#[derive(Clone, Copy, Debug)]
pub struct Request<'s> {
    /// Longest continuation, in tokens.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Seed of the drawing.
    pub seed: u64,
    /// When the model can read no more, go on from the newest half of what it has read; else stop.
    pub slide: bool,
    /// Strings before which the text ends.
    pub stop: &'s [String],
    /// A tool that may be called. What it gives counts among the `max_tokens`.
    pub tools: Option<&'s Tools>,
}

/// A continuation and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Tokens of the prompt, with the one that begins a text.
    pub prompt: usize,
    /// Tokens drawn, and those that tools gave.
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
        check_tokenizer(tokenizer, decoder.config().vocab_size)?;
        Ok(Generator { decoder, tokenizer, ends: text_ends(tokenizer) })
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
        let tokens = prompt_tokens(self.tokenizer, prompt)?;
        let limit = self.decoder.config().seq_len;
        match tokens.len() {
            tokens if tokens > limit => Err(InferError::TooLong { tokens, limit }),
            _ => Ok(tokens),
        }
    }

    /// Continues `prompt` until the text ends, at a token that ends it or before a stop string, `max_tokens`
    /// are drawn or the model can read no more. `emit` gets every piece of text as soon as it is certain, the
    /// prompt and what a tool was asked and gave not included.
    ///
    /// # Errors
    /// When the prompt cannot be encoded or does not fit, a setting is out of range, the model gives
    /// no finite numbers, or the device fails.
    pub fn generate(
        &mut self,
        prompt: &str,
        request: Request<'_>,
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
        request: Request<'_>,
        mut emit: impl FnMut(&str) -> bool,
    ) -> Result<Generated, InferError> {
        request.sampling.validate()?;
        let mut text = self.encode(prompt)?;
        let stream = match prompt.is_empty() {
            true => self.tokenizer.stream(),
            false => self.tokenizer.stream_after_text(),
        };
        let mut tail = Tail::new(stream, request.stop);
        let mut sampler = Sampler::new(request.sampling, request.seed);
        text.iter().for_each(|&token| sampler.read(token));
        let (prompt, mut slides, start) = (text.len(), 0, Instant::now());
        self.decoder.reset();
        let mut logits = self.feed(&text)?;
        let prompt_seconds = start.elapsed().as_secs_f64();
        let mut calls = Calls::new(request.tools.cloned());
        // What a tool gave, as far as the model has not read it.
        let mut forced = VecDeque::new();
        let finish = loop {
            if text.len() - prompt >= request.max_tokens {
                break Finish::MaxTokens;
            }
            let next = match forced.pop_front() {
                Some(token) => {
                    sampler.read(token);
                    token
                }
                None => sampler.choose(&logits),
            };
            if self.ends.contains(&next) {
                break Finish::EndOfText;
            }
            text.push(next);
            let taken = calls.take(next, self.tokenizer);
            forced.extend(taken.forced);
            let (piece, stopped) = match taken.part {
                Part::Text if taken.ends => (tail.cut(), false),
                Part::Text => tail.push(next),
                Part::Call | Part::Output => {
                    let _ = if taken.ends { tail.cut() } else { tail.pass(next) };
                    (String::new(), false)
                }
            };
            if !piece.is_empty() && !emit(&piece) {
                break Finish::Stopped;
            }
            if stopped {
                break Finish::StopString;
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
        let said = finish != Finish::StopString && calls.part() == Part::Text;
        let rest = if said { tail.finish() } else { String::new() };
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
