//! An engine for one text, as a [`crate::Generator`] is.

use super::{Engine, Event, Job};
use crate::{Finish, Generated, InferError, Part, Request, prompt_tokens, text_ends};
use std::time::Instant;

impl Engine {
    /// Continues `prompt` until the text ends, at the tokenizer's ends, at `ends` or before a stop string,
    /// there are `max_tokens` more or the context is full. `emit` gets every piece of text as soon as it is certain, the prompt
    /// and what a tool was asked and gave not included. Jobs that are active go on meanwhile, and their events are lost.
    ///
    /// # Errors
    /// As [`crate::Generator::generate`].
    pub fn generate(
        &mut self,
        prompt: &str,
        ends: &[u32],
        request: Request<'_>,
        mut emit: impl FnMut(&str),
    ) -> Result<Generated, InferError> {
        let Request { max_tokens, sampling, seed, slide, stop, tools } = request;
        let prompt = prompt_tokens(&self.tokenizer, prompt)?;
        let ends = [&text_ends(&self.tokenizer), ends].concat();
        let (stop, tools) = (stop.to_vec(), tools.cloned());
        let job =
            Job { prompt, max_tokens, sampling, seed, stop, ends, slide, tools, ..Job::default() };
        let mut done = Generated {
            prompt: job.prompt.len(),
            tokens: vec![],
            finish: Finish::MaxTokens,
            slides: 0,
            prompt_seconds: 0.0,
            seconds: 0.0,
        };
        let (start, id) = (Instant::now(), self.submit(job)?);
        loop {
            for (_, event) in self.step()?.into_iter().filter(|(job, _)| *job == id) {
                let seconds = start.elapsed().as_secs_f64();
                if done.tokens.is_empty() {
                    done.prompt_seconds = seconds;
                }
                let text = match event {
                    Event::Prompt { .. } => continue,
                    Event::Failed(error) => return Err(error),
                    Event::Token { id, text, part, .. } => {
                        done.tokens.push(id);
                        if part == Part::Text { text } else { String::new() }
                    }
                    Event::Finished { ref text, finish, usage, .. } => {
                        (done.finish, done.slides) = (finish, usage.slides);
                        done.seconds = seconds - done.prompt_seconds;
                        if !text.is_empty() {
                            emit(text);
                        }
                        return Ok(done);
                    }
                };
                if !text.is_empty() {
                    emit(&text);
                }
            }
        }
    }
}
