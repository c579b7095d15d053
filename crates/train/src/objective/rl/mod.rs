//! Reinforcement learning: a model answers questions, the answers are judged, and it learns to give those that
//! are better than its others.
//!
//! A round has [`RlConfig::questions`] questions, each answered [`RlConfig::samples`] times by the weights as they
//! are. The advantage of an answer is its reward minus the mean reward of its question (REINFORCE with the group's mean as
//! baseline); GRPO divides it by their standard deviation. The loss of a step is
//!
//! ```text
//! −Σ A·ln p(token) / n     over the tokens that were drawn; n of them in the whole round
//! ```
//!
//! What was not drawn is not learned: the question, what tools gave, padding. The token that ends an answer was
//! drawn. Questions whose answers were all judged alike teach nothing and are left out, though their tokens
//! count in n: leaving them out changes no gradient.
//!
//! With several [`RlConfig::epochs`], each round makes that many updates, and all but the first are clipped as
//! PPO clips (Schulman et al. 2017): a token's gradient is A·ρ with ρ the ratio of its probability to that before the
//! round, or 0 where ρ has left 1 ± ε in the direction of A. A checkpoint between them holds the round.

mod policy;
mod rollout;

pub use policy::{Advantage, pass_at};
pub use rollout::{Interview, Questions, Speaker};

use super::{Objective, Pass, ResumeError, Validation};
use crate::config::RunConfig;
use crate::error::TrainError;
use crate::event::Event;
use crate::ranks::Ranks;
use crate::stop::Stop;
use crate::trainer::Trainer;
use gpt::TokenWeights;
use infer::Sampling;
use rollout::{Answer, Rollouts, seed};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tasks::Conversations;

/// How a model is asked, and what it learns from its answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RlConfig {
    /// Questions of a round.
    pub questions: usize,
    /// Answers to each.
    pub samples: usize,
    /// Longest answer, in tokens.
    pub max_tokens: usize,
    /// How answers are drawn.
    pub sampling: Sampling,
    /// From rewards to advantages.
    pub advantage: Advantage,
    /// Updates of a round.
    pub epochs: usize,
    /// ε of the clipping.
    pub clip: f64,
    /// Answers that are written at once.
    pub slots: usize,
    /// Answers to each held-out question, for pass@1, pass@2, …
    pub held_out_samples: usize,
    /// Rounds between examples of answers; 0 for none.
    pub example: u64,
}

/// An answer to learn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lesson {
    /// The question and the answer.
    tokens: Vec<u32>,
    /// For each token: true if it was drawn.
    drawn: Vec<bool>,
    advantage: f32,
    /// Losses in nats before the round, of each token but the first, if they will be needed.
    before: Vec<f64>,
}

/// A round of which updates are still to come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Round {
    lessons: Vec<Lesson>,
    /// Tokens that were drawn in the whole round.
    drawn: f64,
    /// Updates to come.
    left: usize,
}

/// The place of a run in its questions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// Rounds begun.
    rounds: u64,
    round: Option<Round>,
    /// Identifies the questions; absent in older checkpoints.
    #[serde(default)]
    questions: Option<String>,
}

/// Learning from judged answers.
#[derive(Debug)]
pub struct Rl {
    config: RlConfig,
    interview: Interview,
    batch: usize,
    seq: usize,
    seed: u64,
    rounds: u64,
    round: Option<Round>,
    events: Vec<Event>,
}

impl Rl {
    /// Asks the questions of `interview`, and measures on those that are held out.
    ///
    /// # Errors
    /// When a question leaves no room for an answer in `run.seq` tokens.
    ///
    /// # Panics
    /// If there are no questions, or a number of the configuration is 0 that must not be.
    pub fn new(
        config: RlConfig,
        interview: Interview,
        run: &RunConfig,
    ) -> Result<Self, TrainError> {
        let RlConfig { questions: count, samples, max_tokens, epochs, slots, .. } = config;
        assert!([count, samples, max_tokens, epochs, slots].iter().all(|&number| number > 0));
        let parts = [interview.questions(), interview.held_out()];
        assert!(parts.iter().all(|part| !part.is_empty()), "there are questions");
        let (tokens, seq) = (interview.longest(), run.seq);
        if tokens >= seq {
            return Err(TrainError::Question { tokens, seq });
        }
        Ok(Rl {
            config,
            interview,
            batch: run.batch,
            seq: run.seq,
            seed: run.seed,
            rounds: 0,
            round: None,
            events: vec![],
        })
    }

    /// Returns the settings.
    pub fn config(&self) -> &RlConfig {
        &self.config
    }

    /// Returns who is asked what.
    pub fn interview(&self) -> &Interview {
        &self.interview
    }

    fn rollouts<'r>(
        &'r self,
        trainer: &Trainer,
        questions: &'r Questions,
    ) -> Result<Rollouts<'r>, TrainError> {
        let parameters = trainer.model().parameters();
        Rollouts::new(parameters, questions, self.interview.speaker(), &self.config, self.seq)
    }

    /// Asks the next questions, and finds what is to be learned from the answers. Of several ranks, each asks its
    /// share.
    fn ask(&mut self, trainer: &mut Trainer) -> Result<Round, TrainError> {
        let start = Instant::now();
        let RlConfig { questions, samples, .. } = self.config;
        let (rank, ranks) = (trainer.ranks().rank(), trainer.ranks().size());
        let first = self.rounds * questions as u64;
        let places = (first..first + questions as u64).skip(rank).step_by(ranks);
        // The questions begin again after the last.
        let all = self.interview.questions().len() as u64;
        let at = |place: u64| (place % all) as usize;
        // All answers to a question have the seeds of its place in the run: they depend on nothing else.
        let wanted: Vec<(usize, u64)> = places
            .flat_map(|place| (0..samples as u64).map(move |sample| (place, sample)))
            .map(|(place, sample)| (at(place), seed([self.seed, place, sample])))
            .collect();
        let asked = self.interview.questions();
        let answers = self.rollouts(trainer, asked)?.answers(&wanted, &Stop::default())?;
        let answers = answers.expect("nobody asked to stop");
        let (mut lessons, mut skipped) = (vec![], 0);
        for group in answers.chunks(samples) {
            let rewards: Vec<f32> = group.iter().map(|answer| answer.reward).collect();
            match self.config.advantage.of(&rewards) {
                None => skipped += 1,
                Some(advantages) => {
                    let learned = group.iter().zip(advantages).filter(|(_, a)| *a != 0.0);
                    lessons.extend(learned.map(|(answer, advantage)| Lesson {
                        tokens: answer.tokens.clone(),
                        drawn: answer.drawn.clone(),
                        advantage,
                        before: vec![],
                    }));
                }
            }
        }
        let drawn: usize = answers.iter().map(Answer::drawn).sum();
        let drawn = trainer.ranks().sum(drawn as f64)?;
        if self.config.epochs > 1 {
            self.note_losses(trainer, &mut lessons)?;
        }
        self.rounds += 1;
        let step = trainer.counts().step;
        let ms = 1e3 * start.elapsed().as_secs_f64();
        self.tell(trainer.ranks(), step, &answers, &wanted, skipped, ms)?;
        Ok(Round { lessons, drawn, left: self.config.epochs })
    }

    /// Notes the losses of each lesson's tokens with the weights as they are.
    fn note_losses(&self, trainer: &mut Trainer, lessons: &mut [Lesson]) -> Result<(), TrainError> {
        for some in lessons.chunks_mut(self.batch) {
            let (inputs, targets) = self.rows(some);
            let losses = trainer.token_losses(&inputs, &targets)?;
            for (lesson, losses) in some.iter_mut().zip(losses.chunks(self.seq)) {
                lesson.before = losses[..lesson.tokens.len() - 1].to_vec();
            }
        }
        Ok(())
    }

    /// Inputs and targets of a micro-batch: a row for each lesson, then rows of padding.
    fn rows(&self, lessons: &[Lesson]) -> (Vec<u32>, Vec<u32>) {
        let mut inputs = vec![0; self.batch * self.seq];
        let mut targets = inputs.clone();
        for (row, lesson) in lessons.iter().enumerate() {
            let (at, length) = (row * self.seq, lesson.tokens.len() - 1);
            inputs[at..at + length].copy_from_slice(&lesson.tokens[..length]);
            targets[at..at + length].copy_from_slice(&lesson.tokens[1..]);
        }
        (inputs, targets)
    }

    /// The weights of a micro-batch's losses. `now` are the losses, where they have changed since the round began.
    fn weights(&self, lessons: &[Lesson], drawn: f64, now: Option<&[f64]>) -> Vec<f32> {
        let mut weights = vec![0.0; self.batch * self.seq];
        for (row, lesson) in lessons.iter().enumerate() {
            let advantage = f64::from(lesson.advantage);
            for at in (0..lesson.tokens.len() - 1).filter(|at| lesson.drawn[at + 1]) {
                let token = row * self.seq + at;
                let factor = match now {
                    None => 1.0,
                    Some(now) => {
                        let ratio = (lesson.before[at] - now[token]).exp();
                        policy::clipped(ratio, advantage, self.config.clip)
                    }
                };
                weights[token] = (advantage * factor / drawn) as f32;
            }
        }
        weights
    }

    /// Notes the events of a round that began after `step` steps: what the answers of all ranks were worth.
    fn tell(
        &mut self,
        ranks: &dyn Ranks,
        step: u64,
        answers: &[Answer],
        wanted: &[(usize, u64)],
        skipped: usize,
        ms: f64,
    ) -> Result<(), TrainError> {
        let RlConfig { samples, example, .. } = self.config;
        let count = ranks.sum(answers.len() as f64)?;
        let mean = |value: &dyn Fn(&Answer) -> f64| {
            Ok::<_, TrainError>(ranks.sum(answers.iter().map(value).sum())? / count)
        };
        self.events.push(Event::Round {
            round: self.rounds,
            questions: count as usize / samples,
            samples,
            reward: mean(&|answer| f64::from(answer.reward))?,
            answer_tokens: mean(&|answer| answer.length() as f64)?,
            ended: mean(&|answer| f64::from(u8::from(answer.ended)))?,
            skipped: ranks.sum(skipped as f64)? * samples as f64 / count,
            ms,
        });
        let due = example > 0 && (self.rounds - 1).is_multiple_of(example);
        if let (true, Some(asked), Some(answer)) = (due, wanted.first(), answers.first()) {
            let questions = self.interview.questions();
            let text = rollout::example(questions, asked.0, &answer.text, answer.reward)?;
            self.events.push(Event::Sample { step, text, ms: 0.0 });
        }
        Ok(())
    }
}

impl Objective for Rl {
    fn accumulate(&mut self, trainer: &mut Trainer) -> Result<(), TrainError> {
        let (round, fresh) = match self.round.take() {
            Some(round) => (round, false),
            None => (self.ask(trainer)?, true),
        };
        for lessons in round.lessons.chunks(self.batch) {
            let (inputs, targets) = self.rows(lessons);
            let now = match fresh {
                true => None,
                false => Some(trainer.token_losses(&inputs, &targets)?),
            };
            let weights = self.weights(lessons, round.drawn, now);
            trainer.accumulate(&inputs, &targets, TokenWeights::Each(&weights))?;
        }
        let all = trainer.ranks().sum(round.lessons.len() as f64)?;
        if round.lessons.is_empty() && all > 0.0 {
            // Other ranks learn something: the gradients of this one are zero.
            let (tokens, weights) = (self.rows(&[]).0, self.weights(&[], 1.0, None));
            trainer.accumulate(&tokens, &tokens, TokenWeights::Each(&weights))?;
        }
        let left = round.left - 1;
        self.round = (left > 0).then_some(Round { left, ..round });
        Ok(())
    }

    /// The share of held-out questions that are not answered rightly, of (at most) `batches` questions, and their
    /// pass@k.
    fn validate(
        &mut self,
        trainer: &mut Trainer,
        batches: usize,
        _token_bytes: Option<&[u32]>,
        stop: &Stop,
    ) -> Result<Option<Validation>, TrainError> {
        let held_out = self.interview.held_out();
        let (questions, samples) =
            (batches.min(held_out.len()), self.config.held_out_samples.max(1));
        let wanted: Vec<(usize, u64)> = (0..questions)
            .flat_map(|place| (0..samples as u64).map(move |sample| (place, sample)))
            // Others than those of the questions to learn from, the same each time.
            .map(|(place, sample)| (place, seed([!self.seed, place as u64, sample])))
            .collect();
        let answers = self.rollouts(trainer, held_out)?.answers(&wanted, stop)?;
        let Some(answers) = answers else { return Ok(None) };
        let right: Vec<usize> = answers
            .chunks(samples)
            .map(|group| group.iter().filter(|answer| answer.reward >= 1.0).count())
            .collect();
        let at: Vec<f64> = (1..=samples).map(|k| pass_at(k, samples, &right)).collect();
        let pass = Pass { questions: right.len(), samples, at };
        Ok(Some(Validation { loss: 1.0 - pass.at[0], bits_per_byte: None, pass: Some(pass) }))
    }

    fn place(&self) -> serde_json::Value {
        let questions = Some(self.interview.identity().to_owned());
        let place = Place { rounds: self.rounds, round: self.round.clone(), questions };
        serde_json::to_value(place).expect("plain data")
    }

    fn resume(&mut self, place: &serde_json::Value) -> Result<(), ResumeError> {
        let Place { rounds, round, questions } = Place::deserialize(place)?;
        let got = self.interview.identity().to_owned();
        if let Some(expected) = questions.filter(|expected| *expected != got) {
            return Err(data::Error::Cursor { what: "the questions", expected, got }.into());
        }
        (self.rounds, self.round) = (rounds, round);
        Ok(())
    }

    fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn has_nats(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rl(batch: usize, seq: usize) -> Rl {
        use tokenizer::Tokenizer;
        use tokenizer::chat::{ChatTemplate, NANOCHAT_TOKENS};
        let bytes = Tokenizer::train_bpe(["abc"], 257, &mut |_| {}).unwrap();
        let tokenizer = bytes.with_special_tokens(&NANOCHAT_TOKENS).unwrap();
        let template = ChatTemplate::find(&tokenizer, None).unwrap().unwrap();
        let tokenizer = std::sync::Arc::new(tokenizer);
        let speaker = Speaker { tokenizer, template, ends: vec![], tools: None };
        let config = RlConfig {
            questions: 1,
            samples: 2,
            max_tokens: 4,
            sampling: Sampling::GREEDY,
            advantage: Advantage::Mean,
            epochs: 2,
            clip: 0.2,
            slots: 1,
            held_out_samples: 1,
            example: 0,
        };
        Rl {
            config,
            interview: Interview::new(speaker, Questions::new(vec![]), Questions::new(vec![]))
                .unwrap(),
            batch,
            seq,
            seed: 1,
            rounds: 0,
            round: None,
            events: vec![],
        }
    }

    /// A question of two tokens; a token, two that a tool gave, and the end.
    fn lesson(advantage: f32) -> Lesson {
        Lesson {
            tokens: vec![10, 11, 12, 13, 14, 15],
            drawn: [0, 0, 1, 0, 0, 1].map(|drawn| drawn == 1).to_vec(),
            advantage,
            before: vec![1.0; 5],
        }
    }

    #[test]
    fn what_was_drawn_is_learned_and_nothing_else() {
        let rl = rl(3, 7);
        let lessons = [lesson(0.5), lesson(-2.0)];
        let (inputs, targets) = rl.rows(&lessons);
        assert_eq!(inputs[7..14], [10, 11, 12, 13, 14, 0, 0]);
        assert_eq!(targets[7..14], [11, 12, 13, 14, 15, 0, 0]);
        assert_eq!((&inputs[14..], &targets[14..]), (&[0; 7][..], &[0; 7][..]));
        let weights = rl.weights(&lessons, 4.0, None);
        let [a, b] = [0.5 / 4.0, -2.0 / 4.0];
        let want = [[0.0, a, 0.0, 0.0, a, 0.0, 0.0], [0.0, b, 0.0, 0.0, b, 0.0, 0.0], [0.0; 7]];
        assert_eq!(weights, want.concat());
        // The same weights of the model: the ratio is 1.
        assert_eq!(rl.weights(&lessons, 4.0, Some(&[1.0; 21])), weights);
        // e^0.1 is within 0.2 of 1, e^1 beyond it where the advantage is positive.
        let mut now = vec![1.0; 21];
        (now[1], now[4], now[8], now[11]) = (0.9, 0.0, 0.0, 2.0);
        let weights = rl.weights(&lessons, 4.0, Some(&now));
        assert!((weights[1] - a * 0.1f32.exp()).abs() < 1e-7 && weights[4] == 0.0);
        assert!((weights[8] - b * 1f32.exp()).abs() < 1e-6 && weights[11] == 0.0);
    }

    #[test]
    fn a_round_is_read_back_as_it_was() {
        let mut before = vec![0.1, 1.0 / 3.0, 5e-324, 12.5, 1e300];
        before[2] = f64::from_bits(0x3ff5_5555_5555_5553);
        let round = Round { lessons: vec![Lesson { before, ..lesson(0.1) }], drawn: 4.0, left: 1 };
        let mut rl = rl(1, 7);
        (rl.rounds, rl.round) = (7, Some(round.clone()));
        let place = rl.place().to_string();
        let mut other = self::rl(1, 7);
        other.resume(&serde_json::from_str(&place).unwrap()).unwrap();
        assert_eq!((other.rounds, other.round), (7, Some(round)));
    }
}
