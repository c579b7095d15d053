//! Texts for reading: the continuations of some prompts, and texts from the beginning.

use super::results::Sample;
use anyhow::Result;
use infer::{
    Engine, EngineOptions, Event, InferError, Job, JobId, Sampling, WeightFormat, prompt_tokens,
    text_ends,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tasks::sample::{PROMPTED_TOKENS, PROMPTS, UNCONDITIONED, UNCONDITIONED_TOKENS};
use tokenizer::Tokenizer;

/// Longest text with its prompt, in tokens; a character may be four of them.
const CONTEXT: usize = 512;
/// Texts that are written at once.
const TOGETHER: usize = 8;

/// The number of texts.
pub(super) const COUNT: usize = PROMPTS.len() + UNCONDITIONED;

/// Writes texts with a model.
pub(super) struct Writer {
    engine: Engine,
    ends: Vec<u32>,
    seed: u64,
}

impl Writer {
    pub(super) fn new(
        parameters: &gpt::Parameters,
        tokenizer: &Tokenizer,
        ends: &[u32],
        weights: WeightFormat,
        seed: u64,
    ) -> Result<Self> {
        let options = EngineOptions {
            slots: TOGETHER,
            context: CONTEXT,
            weights,
            ..EngineOptions::default()
        };
        let engine = Engine::new(parameters, Arc::new(tokenizer.clone()), options)?;
        let ends = [&text_ends(tokenizer), ends].concat();
        Ok(Writer { engine, ends, seed })
    }

    /// Writes the texts from number `first` on, and hands them out in their order.
    pub(super) fn write(
        &mut self,
        first: usize,
        mut each: impl FnMut(Sample) -> Result<()>,
    ) -> Result<()> {
        let mut texts: Vec<Text> = (first..COUNT).map(|index| self.begin(index)).collect();
        let jobs: BTreeMap<JobId, usize> =
            (texts.iter().enumerate()).filter_map(|(i, text)| Some((text.job?, i))).collect();
        let mut written = 0;
        loop {
            while let Some(text) = texts.get(written).filter(|text| text.done) {
                each(text.sample.clone())?;
                written += 1;
            }
            if written == texts.len() {
                return Ok(());
            }
            for (job, event) in self.engine.step()? {
                texts[jobs[&job]].take(event)?;
            }
        }
    }

    /// Text number `index`, begun; done where its prompt cannot be read.
    fn begin(&mut self, index: usize) -> Text {
        let prompt = PROMPTS.get(index).copied();
        let sampling = match prompt {
            Some(_) => Sampling::GREEDY,
            None => Sampling { temperature: 1.0, ..Sampling::GREEDY },
        };
        let max_tokens = if prompt.is_some() { PROMPTED_TOKENS } else { UNCONDITIONED_TOKENS };
        // The same text whatever was written before.
        let seed = self.seed.wrapping_add(index as u64);
        let job = prompt_tokens(self.engine.tokenizer(), prompt.unwrap_or_default());
        let job = job.and_then(|prompt| {
            let ends = self.ends.clone();
            self.engine.submit(Job { prompt, max_tokens, sampling, seed, ends, ..Job::default() })
        });
        let prompt = prompt.map(str::to_owned);
        match job {
            Ok(id) => {
                let sample = Sample { prompt, text: Some(String::new()), fault: None };
                Text { job: Some(id), sample, done: false }
            }
            Err(error) => Text::failed(prompt, &error),
        }
    }
}

/// A text in progress.
struct Text {
    job: Option<JobId>,
    sample: Sample,
    done: bool,
}

impl Text {
    fn failed(prompt: Option<String>, error: &InferError) -> Self {
        let sample = Sample { prompt, text: None, fault: Some(error.to_string()) };
        Text { job: None, sample, done: true }
    }

    fn take(&mut self, event: Event) -> Result<()> {
        let whole = self.sample.text.get_or_insert_default();
        match event {
            Event::Token { text, .. } => *whole += &text,
            Event::Finished { text, .. } => {
                *whole += &text;
                self.done = true;
            }
            Event::Failed(error) => return Err(error.into()),
            Event::Prompt { .. } => {}
        }
        Ok(())
    }
}
