//! Texts drawn from a model in training.

use crate::error::TrainError;
use crate::stop::Stop;
use crate::trainer::Trainer;
use ane::Device;
use gpt::Decoder;
use infer::{Finish, Generator, Request, Sampling};
use tokenizer::Tokenizer;

/// Where samples are computed, and what they begin with.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'s> {
    /// The device.
    pub device: &'s dyn Device,
    /// The tokenizer.
    pub tokenizer: &'s Tokenizer,
    /// The prompt of samples.
    pub prompt: &'s str,
}

/// A generator, compiled once.
pub(crate) struct Sampler<'s> {
    generator: Generator<'s>,
    prompt: &'s str,
}

impl<'s> Sampler<'s> {
    pub(crate) fn new(trainer: &Trainer, samples: Samples<'s>) -> Result<Self, TrainError> {
        let Samples { device, tokenizer, prompt } = samples;
        let (parameters, numerics) = (trainer.model().parameters(), trainer.numerics());
        let decoder = Decoder::new(parameters, device.least_width(), device, numerics)?;
        Ok(Sampler { generator: Generator::new(decoder, tokenizer)?, prompt })
    }

    /// A text begun with the prompt, drawn at temperature 0.8; `None` if the run is to end before it
    /// is whole.
    pub(crate) fn draw(
        &mut self,
        max_tokens: usize,
        seed: u64,
        stop: &Stop,
    ) -> Result<Option<String>, TrainError> {
        let mut text = self.prompt.to_owned();
        let sampling = Sampling::default();
        let request = Request { max_tokens, sampling, seed, slide: true, stop: &[], tools: None };
        let drawn = self.generator.generate_while(self.prompt, request, |piece| {
            text.push_str(piece);
            !stop.requested()
        })?;
        Ok(Some(text).filter(|_| drawn.finish != Finish::Stopped))
    }
}
