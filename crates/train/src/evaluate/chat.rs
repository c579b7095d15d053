//! Tasks of conversations, asked of a model: choices by the probabilities of their letters, all else by what the
//! model writes.

use crate::writing::Writing;
use gpt::Parameters;
use infer::{Engine, EngineOptions, InferError, Job, JobId, Sampling, Scorer, Tools, WeightFormat};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use tasks::core::{centred, core_metric};
use tasks::{Kind, Task, TaskError};
use tokenizer::Tokenizer;
use tokenizer::chat::ChatTemplate;

/// The tasks that ChatCORE is the mean of.
pub const CHATCORE: [&str; 5] = ["arc-easy", "arc-challenge", "mmlu", "gsm8k", "humaneval"];
/// Texts that are written at once.
const TOGETHER: usize = 16;
/// Questions whose texts are begun before the first of them is done.
const AHEAD: usize = 32;

/// Why a question could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A task is missing or damaged, or its answers cannot be judged.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] InferError),
    /// A question cannot be rendered.
    #[error("{task}, question {question}: {source}")]
    Prompt {
        /// Name of the task.
        task: String,
        /// The question, from 0.
        question: usize,
        /// The tokenizer's error.
        source: tokenizer::Error,
    },
    /// A letter that is not one token.
    #[error(
        "{task}: the letter `{letter}` is {tokens} tokens in this vocabulary, and a choice is made by the \
         probability of one"
    )]
    Letter {
        /// Name of the task.
        task: String,
        /// The letter.
        letter: String,
        /// Its tokens.
        tokens: usize,
    },
    /// A task that only has conversations to learn from.
    #[error("`{task}` has conversations to learn from, and no questions to ask")]
    NoQuestions {
        /// Name of the task.
        task: String,
    },
    /// Answers that are not those to the questions.
    #[error("answer {index} is to {found}, where {expected} comes")]
    Order {
        /// The answer, from 0.
        index: usize,
        /// What it answers.
        found: String,
        /// What it should.
        expected: String,
    },
}

/// How questions are asked whose answers are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asking {
    /// Texts for each question: it passes if any of them does.
    pub samples: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Longest text, in tokens.
    pub max_new_tokens: usize,
    /// Seed of the drawing.
    pub seed: u64,
    /// How the model's weights are stored.
    pub weights: WeightFormat,
}

impl Default for Asking {
    /// nanochat's: one text, always the most likely token, at most 512 of them.
    fn default() -> Self {
        let (samples, max_new_tokens, seed) = (1, 512, 42);
        let (sampling, weights) = (Sampling::GREEDY, WeightFormat::F32);
        Asking { samples, sampling, max_new_tokens, seed, weights }
    }
}

/// A model's answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatAnswer {
    /// Name of the task.
    pub name: String,
    /// The question's place in its task, from 0.
    pub index: usize,
    /// What was asked.
    pub question: String,
    /// What is right.
    pub gold: String,
    /// What the model answered, once for each sample.
    pub answers: Vec<String>,
    /// True for each answer that is right.
    pub passed: Vec<bool>,
    /// True if only the end of the question was read: the model reads no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Answers that were cut off: by `max_new_tokens`, or as the model reads no more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl ChatAnswer {
    /// True if any answer is right.
    pub fn correct(&self) -> bool {
        self.passed.iter().any(|&passed| passed)
    }
}

/// The accuracy of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatTaskScore {
    /// Name of the task.
    pub name: String,
    /// Questions asked.
    pub questions: usize,
    /// The share that was answered right.
    pub accuracy: f64,
    /// On a scale where guessing is 0 and perfection 1.
    pub centered: f64,
    /// Questions of which only the end was read.
    pub truncated: usize,
    /// Answers that were cut off.
    pub cut: usize,
}

/// The accuracies of tasks, and their mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatScore {
    /// The mean of the centred accuracies of [`CHATCORE`]; absent unless all of these tasks were asked.
    pub chatcore: Option<f64>,
    /// The mean of the centred accuracies of the tasks asked.
    pub mean: f64,
    /// The tasks.
    pub tasks: Vec<ChatTaskScore>,
}

/// Questions of tasks, in their order, and how they are asked.
#[derive(Debug)]
pub struct Chat {
    tasks: Vec<(Arc<dyn Task>, usize)>,
    asking: Asking,
}

impl Chat {
    /// Asks all questions of these tasks, or at most `most` of each.
    ///
    /// # Errors
    /// When a task has no questions.
    pub fn new(
        tasks: Vec<Arc<dyn Task>>,
        most: Option<usize>,
        asking: Asking,
    ) -> Result<Self, ChatError> {
        if let Some(task) = tasks.iter().find(|task| task.kind() == Kind::Training) {
            return Err(ChatError::NoQuestions { task: task.name().to_owned() });
        }
        let count = |task: &Arc<dyn Task>| task.len().min(most.unwrap_or(usize::MAX));
        let tasks = tasks.into_iter().map(|task| (Arc::clone(&task), count(&task))).collect();
        Ok(Chat { tasks, asking })
    }

    /// The number of questions.
    pub fn len(&self) -> usize {
        self.tasks.iter().map(|(_, count)| count).sum()
    }

    /// True if there is no question.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What decides which questions are asked and how, for a [`super::Journal`].
    pub fn header(&self) -> serde_json::Value {
        let Asking { samples, sampling, max_new_tokens, seed, weights } = self.asking;
        let asked =
            |(task, count): &(Arc<dyn Task>, usize)| format!("{count} of {}", task.identity());
        serde_json::json!({
            "tasks": self.tasks.iter().map(asked).collect::<Vec<_>>(),
            "samples": samples,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "max_new_tokens": max_new_tokens,
            "seed": seed,
            "weights": format!("{weights:?}").to_lowercase(),
        })
    }

    /// The task and the place in it of question `index`.
    fn place(&self, mut index: usize) -> Option<(&dyn Task, usize)> {
        for (task, count) in &self.tasks {
            if index < *count {
                return Some((task.as_ref(), index));
            }
            index -= count;
        }
        None
    }

    /// Checks that answers are those to the first questions.
    ///
    /// # Errors
    /// When one is not.
    pub fn check<'a>(
        &self,
        answers: impl Iterator<Item = &'a ChatAnswer>,
    ) -> Result<(), ChatError> {
        for (index, answer) in answers.enumerate() {
            let name = |name: &str, question: usize| format!("question {question} of {name}");
            let found = name(&answer.name, answer.index);
            let expected = self.place(index).map(|(task, question)| name(task.name(), question));
            let expected = expected.unwrap_or_else(|| "no question".to_owned());
            if found != expected {
                return Err(ChatError::Order { index, found, expected });
            }
        }
        Ok(())
    }

    /// Asks the questions from number `first` on, and hands out the answers in their order. An answer depends
    /// neither on `first` nor on the other questions.
    ///
    /// # Errors
    /// When a question cannot be rendered, the model fails, an answer cannot be judged, and those of `each`.
    pub fn ask<E: From<ChatError>>(
        &self,
        model: Answering<'_>,
        first: usize,
        mut each: impl FnMut(ChatAnswer) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut begin = 0;
        for (task, count) in &self.tasks {
            let end = begin + count;
            let rest = first.clamp(begin, end) - begin..*count;
            if !rest.is_empty() {
                match task.kind() {
                    Kind::Categorical => {
                        choose(model, task.as_ref(), rest, self.asking, &mut each)?
                    }
                    _ => write(model, task.as_ref(), rest, self.asking, &mut each)?,
                }
            }
            begin = end;
        }
        Ok(())
    }

    /// The accuracies of answers to all questions.
    pub fn score<'a>(&self, answers: impl Iterator<Item = &'a ChatAnswer> + Clone) -> ChatScore {
        let score = |(task, questions): &(Arc<dyn Task>, usize)| {
            let own = answers.clone().filter(|answer| answer.name == task.name());
            let right = own.clone().filter(|answer| answer.correct()).count();
            let accuracy = right as f64 / *questions as f64;
            ChatTaskScore {
                name: task.name().to_owned(),
                questions: *questions,
                accuracy,
                centered: centred(accuracy, task.baseline()),
                truncated: own.clone().filter(|answer| answer.truncated).count(),
                cut: own.map(|answer| answer.cut).sum(),
            }
        };
        let tasks: Vec<ChatTaskScore> = self.tasks.iter().map(score).collect();
        let centered =
            |name: &&str| tasks.iter().find(|task| task.name == **name).map(|task| task.centered);
        let chatcore: Option<Vec<f64>> = CHATCORE.iter().map(centered).collect();
        let all: Vec<f64> = tasks.iter().map(|task| task.centered).collect();
        ChatScore {
            chatcore: chatcore.and_then(|centered| core_metric(&centered)),
            mean: core_metric(&all).unwrap_or(f64::NAN),
            tasks,
        }
    }
}

/// A model that answers in conversations.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'m> {
    /// Its weights.
    pub parameters: &'m Parameters,
    /// Its tokenizer.
    pub tokenizer: &'m Arc<Tokenizer>,
    /// The format of its conversations.
    pub template: &'m ChatTemplate,
    /// Tokens that end an answer, besides those of the format.
    pub ends: &'m [u32],
    /// What it may call in its answers.
    pub tools: Option<&'m Tools>,
}

impl Answering<'_> {
    /// The tokens of a question, up to where the assistant speaks: the last `most` of them. True if there are
    /// more.
    fn prompt(&self, asked: &Asked, most: usize) -> Result<(Vec<u32>, bool), ChatError> {
        let tokens = self.template.render_for_completion(&asked.messages, self.tokenizer);
        let mut tokens = tokens.map_err(|source| ChatError::Prompt {
            task: asked.answer.name.clone(),
            question: asked.answer.index,
            source,
        })?;
        let cut = tokens.len().saturating_sub(most);
        tokens.drain(..cut);
        Ok((tokens, cut > 0))
    }
}

/// A question before it is answered.
struct Asked {
    messages: Vec<tokenizer::chat::Message>,
    answer: ChatAnswer,
}

impl Asked {
    fn new(task: &dyn Task, index: usize) -> Result<Self, ChatError> {
        let conversation = task.get(index)?;
        let messages = conversation.question().to_vec();
        let question = messages.iter().map(tokenizer::chat::Message::text).collect::<Vec<_>>();
        let answer = ChatAnswer {
            name: task.name().to_owned(),
            index,
            question: question.join("\n\n"),
            gold: conversation.answer(),
            answers: vec![],
            passed: vec![],
            truncated: false,
            cut: 0,
        };
        Ok(Asked { messages, answer })
    }

    /// Judges another answer.
    fn take(&mut self, task: &dyn Task, text: String) -> Result<(), ChatError> {
        self.answer.passed.push(task.reward(self.answer.index, &text)? >= 1.0);
        self.answer.answers.push(text);
        Ok(())
    }
}

/// Answers choices: of the letters, the most likely one as the first token of the answer, the first of equals.
fn choose<E: From<ChatError>>(
    model: Answering<'_>,
    task: &dyn Task,
    questions: Range<usize>,
    asking: Asking,
    each: &mut impl FnMut(ChatAnswer) -> Result<(), E>,
) -> Result<(), E> {
    let mut scorer = Scorer::new(model.parameters, asking.weights).map_err(ChatError::from)?;
    for index in questions {
        let mut asked = Asked::new(task, index)?;
        // The letter is predicted, not read.
        let (prompt, truncated) = model.prompt(&asked, scorer.context() - 1)?;
        let letters = task.letters(index);
        let texts: Vec<Vec<u32>> = letters
            .iter()
            .map(|letter| Ok([&prompt[..], &[one_token(model.tokenizer, task, letter)?]].concat()))
            .collect::<Result<_, ChatError>>()?;
        let spans = vec![prompt.len()..prompt.len() + 1; texts.len()];
        let scores = scorer.score(&texts, &spans).map_err(ChatError::from)?;
        let mut best = 0;
        for (at, score) in scores.iter().enumerate() {
            if score.nats < scores[best].nats {
                best = at;
            }
        }
        asked.answer.truncated = truncated;
        asked.take(task, letters.get(best).cloned().unwrap_or_default())?;
        each(asked.answer)?;
    }
    Ok(())
}

/// The token that a letter is.
fn one_token(tokenizer: &Tokenizer, task: &dyn Task, letter: &str) -> Result<u32, ChatError> {
    match tokenizer.encode(letter).unwrap_or_default()[..] {
        [token] => Ok(token),
        ref tokens => {
            let (task, letter) = (task.name().to_owned(), letter.to_owned());
            Err(ChatError::Letter { task, letter, tokens: tokens.len() })
        }
    }
}

/// Has the model write answers, several at once.
fn write<E: From<ChatError>>(
    model: Answering<'_>,
    task: &dyn Task,
    questions: Range<usize>,
    asking: Asking,
    each: &mut impl FnMut(ChatAnswer) -> Result<(), E>,
) -> Result<(), E> {
    let options = EngineOptions {
        slots: TOGETHER,
        weights: asking.weights,
        queue: usize::MAX,
        ..EngineOptions::default()
    };
    let engine = Engine::new(model.parameters, Arc::clone(model.tokenizer), options);
    let mut writing = Writing::new(engine.map_err(ChatError::from)?);
    let mut next = questions.start;
    let mut asked: VecDeque<(Asked, Vec<JobId>)> = VecDeque::new();
    loop {
        while next < questions.end && asked.len() < AHEAD {
            let mut question = Asked::new(task, next)?;
            let jobs = submit(&mut writing, model, &mut question, asking)?;
            asked.push_back((question, jobs));
            next += 1;
        }
        while let Some((_, jobs)) = asked.front()
            && let Some(texts) = writing.take(jobs)
        {
            let (mut question, _) = asked.pop_front().expect("there is a front");
            for text in texts {
                question.answer.cut += usize::from(!text.ended());
                let message = model.template.answer(&text.tokens, model.tokenizer);
                question.take(task, message.text())?;
            }
            each(question.answer)?;
        }
        if asked.is_empty() && next == questions.end {
            return Ok(());
        }
        writing.step().map_err(ChatError::from)?;
    }
}

/// Begins the texts of a question.
fn submit(
    writing: &mut Writing,
    model: Answering<'_>,
    asked: &mut Asked,
    asking: Asking,
) -> Result<Vec<JobId>, ChatError> {
    // The end of an answer must fit as well.
    let (prompt, truncated) = model.prompt(asked, writing.engine.context() - 1)?;
    asked.answer.truncated = truncated;
    let index = asked.answer.index;
    let submit = |sample| {
        let number = (index * asking.samples + sample) as u64;
        let job = Job {
            prompt: prompt.clone(),
            max_tokens: asking.max_new_tokens,
            sampling: asking.sampling,
            seed: asking.seed.wrapping_add(number),
            ends: [model.template.ends(), model.ends].concat(),
            tools: model.tools.cloned(),
            ..Job::default()
        };
        Ok(writing.begin(job)?)
    };
    (0..asking.samples).map(submit).collect()
}
