//! Answers of a model to questions, judged.

use super::RlConfig;
use crate::error::TrainError;
use crate::stop::Stop;
use gpt::Parameters;
use infer::{Engine, EngineOptions, Event, Finish, Job, JobId, Tools};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tasks::Task;
use tasks::random::PythonRandom;
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Message, Role};

/// The seed of the order of questions.
const ORDER: u64 = 42;

/// Questions of tasks, mixed in an order of their own.
#[derive(Clone, Debug)]
pub struct Questions {
    tasks: Vec<Arc<dyn Task>>,
    /// Task and place in it.
    order: Vec<(u32, u32)>,
}

impl Questions {
    /// Mixes all questions of these tasks, as by Python's `random.Random(42)`. A task that is given several
    /// times comes that often.
    pub fn new(tasks: Vec<Arc<dyn Task>>) -> Self {
        let of = |(task, list): (u32, &Arc<dyn Task>)| {
            (0..list.len() as u32).map(move |place| (task, place))
        };
        let mut order: Vec<(u32, u32)> = (0..).zip(&tasks).flat_map(of).collect();
        PythonRandom::new(ORDER).shuffle(&mut order);
        Questions { tasks, order }
    }

    /// Returns the number of questions.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True if there is no question.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The question at a place of a run, which begins again after the last.
    pub(super) fn at(&self, place: u64) -> usize {
        (place % self.order.len() as u64) as usize
    }

    fn messages(&self, question: usize) -> Result<Vec<Message>, TrainError> {
        let (task, place) = self.order[question];
        let mut messages = self.tasks[task as usize].get(place as usize)?.messages;
        messages.pop_if(|last| last.role == Role::Assistant);
        Ok(messages)
    }

    fn reward(&self, question: usize, answer: &str) -> Result<f32, TrainError> {
        let (task, place) = self.order[question];
        Ok(self.tasks[task as usize].reward(place as usize, answer)?)
    }

    /// A question with an answer, for people.
    pub(super) fn example(&self, question: usize, answer: &str, reward: f32) -> String {
        let messages = self.messages(question).unwrap_or_default();
        let question: Vec<String> = messages.iter().map(Message::text).collect();
        format!("{}\n→ {answer}\nreward {reward}", question.join("\n"))
    }
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
    fn prompt(&self, questions: &Questions, question: usize) -> Result<Vec<u32>, TrainError> {
        let messages = questions.messages(question)?;
        let prompt = self.template.render_for_completion(&messages, &self.tokenizer);
        prompt.map_err(|error| TrainError::Sample(error.into()))
    }

    /// Returns the number of tokens of the longest question, with the beginning of the answer; 0 for none.
    ///
    /// # Errors
    /// When a question cannot be read, or written in the model's format.
    pub fn longest(&self, questions: &Questions) -> Result<usize, TrainError> {
        let lengths = (0..questions.len()).into_par_iter();
        let lengths = lengths.map(|question| Ok(self.prompt(questions, question)?.len()));
        lengths.try_reduce(|| 0, |a, b| Ok(a.max(b)))
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

/// Returns a seed that depends on all of these numbers (SplitMix64 of each, chained).
pub(super) fn seed(of: [u64; 3]) -> u64 {
    of.into_iter().fold(0, |state: u64, number| {
        let mut z = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A model with the weights of one moment, asked many questions at once.
pub(super) struct Rollouts<'r> {
    engine: Engine,
    questions: &'r Questions,
    speaker: &'r Speaker,
    config: &'r RlConfig,
    ends: Vec<u32>,
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
        let ends = [speaker.template.ends(), &speaker.ends].concat();
        Ok(Rollouts { engine, questions, speaker, config, ends, seq })
    }

    /// Returns answers to questions, each drawn from a seed; `None` if the run is to end before they are there.
    pub(super) fn answers(
        &mut self,
        wanted: &[(usize, u64)],
        stop: &Stop,
    ) -> Result<Option<Vec<Answer>>, TrainError> {
        let mut jobs: BTreeMap<JobId, usize> = BTreeMap::new();
        let mut answers = vec![];
        for (index, &(question, seed)) in wanted.iter().enumerate() {
            let prompt = self.speaker.prompt(self.questions, question)?;
            let length = prompt.len();
            answers.push(Answer {
                tokens: prompt.clone(),
                drawn: vec![false; length],
                prompt: length,
                ended: false,
                text: String::new(),
                reward: 0.0,
            });
            let job = Job {
                prompt,
                // A row has one token more than the model reads.
                max_tokens: self.config.max_tokens.min(self.seq + 1 - length),
                sampling: self.config.sampling,
                seed,
                ends: self.ends.clone(),
                tools: self.speaker.tools.clone(),
                ..Job::default()
            };
            jobs.insert(self.engine.submit(job)?, index);
        }
        while self.engine.active() > 0 {
            if stop.requested() {
                return Ok(None);
            }
            for (id, event) in self.engine.step()? {
                let answer = &mut answers[jobs[&id]];
                match event {
                    Event::Token { id, forced, .. } => {
                        answer.tokens.push(id);
                        answer.drawn.push(!forced);
                    }
                    Event::Finished { finish, end, .. } => {
                        answer.ended = finish == Finish::EndOfText;
                        if let Some(end) = end {
                            answer.tokens.push(end);
                            answer.drawn.push(true);
                        }
                    }
                    Event::Failed(error) => return Err(error.into()),
                    Event::Prompt { .. } => {}
                }
            }
        }
        for (answer, &(question, _)) in answers.iter_mut().zip(wanted) {
            let spoken = &answer.tokens[answer.prompt..];
            answer.text = self.speaker.template.answer(spoken, &self.speaker.tokenizer).text();
            answer.reward = self.questions.reward(question, &answer.text)?;
        }
        Ok(Some(answers))
    }
}
