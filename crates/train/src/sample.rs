//! Texts drawn from a model in training.

use crate::error::TrainError;
use crate::objective::rl::Speaker;
use crate::stop::Stop;
use crate::trainer::Trainer;
use crate::writing::Writing;
use ane::Device;
use gpt::{Decoder, Parameters};
use infer::{Engine, EngineOptions, Finish, Generator, Job, Request, Sampling};
use std::sync::Arc;
use tokenizer::Tokenizer;
use tokenizer::chat::Message;

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

/// Conversations that end with a question, each with the most likely answer of at most `max_tokens`; `None` if the run is
/// to end before all are there. Of what is longer than the model reads, the end is read.
pub(crate) fn answers(
    parameters: &Parameters,
    speaker: &Speaker,
    questions: &[Vec<Message>],
    max_tokens: usize,
    stop: &Stop,
) -> Result<Option<String>, TrainError> {
    let options =
        EngineOptions { slots: questions.len(), queue: usize::MAX, ..EngineOptions::default() };
    let engine = Engine::new(parameters, Arc::clone(&speaker.tokenizer), options)?;
    let mut writing = Writing::new(engine);
    let mut jobs = vec![];
    for messages in questions {
        let prompt = speaker.template.render_for_completion(messages, &speaker.tokenizer);
        let mut prompt = prompt.map_err(|error| TrainError::Sample(error.into()))?;
        prompt.drain(..prompt.len().saturating_sub(writing.engine.context() - 1));
        let (sampling, ends, tools) = (Sampling::GREEDY, speaker.all_ends(), speaker.tools.clone());
        jobs.push(writing.begin(Job {
            prompt,
            max_tokens,
            sampling,
            ends,
            tools,
            ..Job::default()
        })?);
    }
    let Some(texts) = writing.finish(&jobs, stop)? else { return Ok(None) };
    let told = questions.iter().zip(&texts).map(|(messages, text)| {
        exchange(messages, &speaker.template.answer(&text.tokens, &speaker.tokenizer).text())
    });
    Ok(Some(told.collect::<Vec<_>>().join("\n\n")))
}

/// Returns messages with the answer to them, for people.
pub(crate) fn exchange(messages: &[Message], answer: &str) -> String {
    let asked: Vec<String> = messages.iter().map(Message::text).collect();
    format!("{}\n→ {answer}", asked.join("\n"))
}
