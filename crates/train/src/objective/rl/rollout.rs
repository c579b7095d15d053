//! Answers of a model to questions, judged.

use super::RlConfig;
use crate::error::TrainError;
use crate::sample::exchange;
use crate::stop::Stop;
use crate::writing::{Text, Writing};
use gpt::Parameters;
use infer::{Engine, EngineOptions, Job, JobId, Tools};
use rayon::prelude::*;
use std::sync::Arc;
use tasks::{Conversations, Mixture, Task};
use tokenizer::Tokenizer;
use tokenizer::chat::ChatTemplate;

/// Questions of tasks, mixed in an order of their own.
pub type Questions = Mixture<dyn Task>;

/// Returns a question with an answer and its reward, for people.
pub(super) fn example(
    questions: &Questions,
    question: usize,
    answer: &str,
    reward: f32,
) -> Result<String, TrainError> {
    let asked = questions.get(question)?;
    Ok(format!("{}\nreward {reward}", exchange(asked.question(), answer)))
}

/// What a model answers with, besides its weights.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The format of conversations.
    pub template: ChatTemplate,
    /// Tokens that end an answer, besides those of the format.
    pub ends: Vec<u32>,
    /// A tool that may be called.
    pub tools: Option<Tools>,
}

impl Speaker {
    /// Returns the tokens that end an answer: those of the format, and the model's own.
    pub(crate) fn all_ends(&self) -> Vec<u32> {
        [self.template.ends(), &self.ends].concat()
    }

    fn prompt(&self, questions: &Questions, question: usize) -> Result<Vec<u32>, TrainError> {
        let conversation = questions.get(question)?;
        let prompt = self.template.render_for_completion(conversation.question(), &self.tokenizer);
        prompt.map_err(|error| TrainError::Sample(error.into()))
    }

    /// The number of tokens of the longest question, with the beginning of the answer; 0 for none.
    fn longest(&self, questions: &Questions) -> Result<usize, TrainError> {
        let lengths = (0..questions.len()).into_par_iter();
        let lengths = lengths.map(|question| Ok(self.prompt(questions, question)?.len()));
        lengths.try_reduce(|| 0, |a, b| Ok(a.max(b)))
    }
}

/// A model and the questions that it is asked. All of them can be written in its format.
#[derive(Debug)]
pub struct Interview {
    speaker: Speaker,
    questions: Questions,
    held_out: Questions,
    longest: usize,
    identity: String,
}

impl Interview {
    /// Questions to learn from, and those that are held out to measure with. Each of them is rendered.
    ///
    /// # Errors
    /// When a question cannot be read, or written in the model's format.
    pub fn new(
        speaker: Speaker,
        questions: Questions,
        held_out: Questions,
    ) -> Result<Self, TrainError> {
        let longest = speaker.longest(&questions)?.max(speaker.longest(&held_out)?);
        let lists = questions.lists().iter().chain(held_out.lists());
        let identity = lists.map(|task| task.identity()).collect::<Vec<_>>().join("; ");
        Ok(Interview { speaker, questions, held_out, longest, identity })
    }

    /// Returns who answers.
    pub fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    /// Returns the questions that are learned from.
    pub fn questions(&self) -> &Questions {
        &self.questions
    }

    /// Returns the questions that are never learned from.
    pub fn held_out(&self) -> &Questions {
        &self.held_out
    }

    /// Identifies the questions: a run is not resumed with others.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns the number of tokens of the longest question, with the beginning of the answer.
    pub fn longest(&self) -> usize {
        self.longest
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// The question, the answer, and the token that ended it, if one did.
    pub(super) tokens: Vec<u32>,
    /// For each token: true if it was drawn.
    pub(super) drawn: Vec<bool>,
    /// Tokens of the question.
    prompt: usize,
    /// True if the model ended it.
    pub(super) ended: bool,
    /// What was said, calls of tools and their results included.
    pub(super) text: String,
    pub(super) reward: f32,
}

impl Answer {
    /// Tokens that were drawn.
    pub(super) fn drawn(&self) -> usize {
        self.drawn.iter().filter(|&&drawn| drawn).count()
    }

    /// Tokens of the answer.
    pub(super) fn length(&self) -> usize {
        self.tokens.len() - self.prompt
    }
}

/// Returns a seed that depends on all of these numbers.
pub(super) fn seed(of: [u64; 3]) -> u64 {
    of.into_iter().fold(0, |state, number| data::mix::mix(state ^ number))
}

/// A model with the weights of one moment, asked many questions at once.
pub(super) struct Rollouts<'r> {
    writing: Writing,
    questions: &'r Questions,
    speaker: &'r Speaker,
    config: &'r RlConfig,
    seq: usize,
}

impl<'r> Rollouts<'r> {
    pub(super) fn new(
        parameters: &Parameters,
        questions: &'r Questions,
        speaker: &'r Speaker,
        config: &'r RlConfig,
        seq: usize,
    ) -> Result<Self, TrainError> {
        let options = EngineOptions {
            slots: config.slots,
            context: seq,
            queue: usize::MAX,
            ..EngineOptions::default()
        };
        let engine = Engine::new(parameters, Arc::clone(&speaker.tokenizer), options)?;
        Ok(Rollouts { writing: Writing::new(engine), questions, speaker, config, seq })
    }

    /// Returns answers to questions, each drawn from a seed; `None` if the run is to end before they are there.
    pub(super) fn answers(
        &mut self,
        wanted: &[(usize, u64)],
        stop: &Stop,
    ) -> Result<Option<Vec<Answer>>, TrainError> {
        let mut prompts = vec![];
        let mut jobs: Vec<JobId> = vec![];
        for &(question, seed) in wanted {
            let prompt = self.speaker.prompt(self.questions, question)?;
            jobs.push(self.writing.begin(Job {
                prompt: prompt.clone(),
                // A row has one token more than the model reads.
                max_tokens: self.config.max_tokens.min(self.seq + 1 - prompt.len()),
                sampling: self.config.sampling,
                seed,
                ends: self.speaker.all_ends(),
                tools: self.speaker.tools.clone(),
                ..Job::default()
            })?);
            prompts.push(prompt);
        }
        let Some(texts) = self.writing.finish(&jobs, stop)? else { return Ok(None) };
        let judge = |((&(question, _), prompt), text)| self.answer(question, prompt, text);
        wanted.iter().zip(prompts).zip(texts).map(judge).collect::<Result<_, _>>().map(Some)
    }

    /// Judges a text that was written after `prompt`.
    fn answer(&self, question: usize, prompt: Vec<u32>, text: Text) -> Result<Answer, TrainError> {
        let Speaker { template, tokenizer, .. } = self.speaker;
        let ended = text.ended();
        let spoken = template.answer(&text.tokens, tokenizer).text();
        let (task, place) = self.questions.find(question);
        let reward = task.reward(place, &spoken)?;
        let length = prompt.len();
        let drawn =
            [vec![false; length], text.drawn, vec![true; usize::from(text.end.is_some())]].concat();
        let tokens = [prompt, text.tokens, text.end.into_iter().collect()].concat();
        Ok(Answer { tokens, drawn, prompt: length, ended, text: spoken, reward })
    }
}
