//! What changes over a run: the learning rate, also by kind of parameter, and the optimizer's momentum and
//! weight decay.

use gpt::{Group, Param};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A linear warm-up to the peak, then what [`Decay`] says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrSchedule {
    /// Largest learning rate.
    pub peak: f64,
    /// Last learning rate as a share of the largest.
    pub floor: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// How the rate falls after the warm-up. Runs from before there was a choice have a cosine.
    #[serde(default)]
    pub decay: Decay,
    /// Factors of the rate by kind of parameter.
    #[serde(default)]
    pub multipliers: Multipliers,
}

/// How the rate goes from the peak to the floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Half a cosine from the end of the warm-up to the last step (Loshchilov and Hutter 2017).
    #[default]
    Cosine,
    /// Not at all: the floor plays no part.
    Constant,
    /// The peak, then a straight line over the last `share` of the run (nanochat's warm-down). It
    /// would reach the floor one step after the last.
    Linear {
        /// Share of the run's steps on the line, 0 to 1.
        share: f64,
    },
}

/// Factors of the learning rate by [`Group`]; 1 unless set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Multipliers {
    /// Of the token embedding, which may be the classifier too, and of learned positions.
    pub embedding: f64,
    /// Of a classifier that is not the embedding.
    pub classifier: f64,
    /// Of value embeddings.
    pub value_embedding: f64,
    /// Of the matrices of the layers.
    pub matrix: f64,
    /// Of vectors: gains and biases.
    pub vector: f64,
    /// Of the factors of the stream before layers.
    pub residual_scale: f64,
    /// Of the factors of the first stream.
    pub skip_scale: f64,
    /// Of smear and backout.
    pub smear: f64,
}

impl Default for Multipliers {
    /// One rate for all parameters.
    fn default() -> Self {
        Multipliers::others(1.0)
    }
}

impl Multipliers {
    /// 1 for the matrices of the layers, `share` for all other parameters.
    pub fn others(share: f64) -> Multipliers {
        Multipliers {
            embedding: share,
            classifier: share,
            value_embedding: share,
            matrix: 1.0,
            vector: share,
            residual_scale: share,
            skip_scale: share,
            smear: share,
        }
    }

    /// The factor of a group.
    pub fn of(&self, group: Group) -> f64 {
        match group {
            Group::Embedding => self.embedding,
            Group::Classifier => self.classifier,
            Group::ValueEmbedding => self.value_embedding,
            Group::Matrix => self.matrix,
            Group::Vector => self.vector,
            Group::ResidualScale => self.residual_scale,
            Group::SkipScale => self.skip_scale,
            Group::Smear => self.smear,
        }
    }
}

/// Where in a run a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// The step, from 0.
    pub step: u64,
    /// Steps of the run.
    pub total: u64,
    /// Share of the warm-down that is over: 0 before it begins, 1 after the last step.
    pub warm_down: f64,
}

/// Muon's momentum over the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Momentum {
    /// The same at every step.
    Constant(f64),
    /// Up on a line in the first steps, down on a line as the learning rate falls ([`Decay::Linear`]).
    Trapezoid {
        /// At the first step.
        first: f64,
        /// Between the lines.
        peak: f64,
        /// One step after the last.
        last: f64,
        /// Steps of the first line.
        rise: u64,
    },
}

impl Momentum {
    /// nanochat's: from 0.85 to 0.97 over 400 steps, and to 0.90 during the warm-down.
    pub const NANOCHAT: Momentum =
        Momentum::Trapezoid { first: 0.85, peak: 0.97, last: 0.90, rise: 400 };

    /// The momentum of a step. In a run shorter than both lines, the first one holds.
    pub fn at(&self, progress: &Progress) -> f64 {
        let line = |from: f64, to: f64, share: f64| (1.0 - share) * from + share * to;
        match *self {
            Momentum::Constant(momentum) => momentum,
            Momentum::Trapezoid { first, peak, rise, .. } if progress.step < rise => {
                line(first, peak, progress.step as f64 / rise as f64)
            }
            Momentum::Trapezoid { peak, last, .. } => line(peak, last, progress.warm_down),
        }
    }
}

/// The course of a setting over the run, as a share of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fade {
    /// 1 at every step.
    #[default]
    Constant,
    /// Half a cosine from 1 at the first step to 0 one step after the last.
    Cosine,
    /// A line between the same ends.
    Linear,
}

impl Fade {
    /// The share of a step.
    pub fn at(self, progress: &Progress) -> f64 {
        let done = (progress.step as f64 / progress.total.max(1) as f64).min(1.0);
        match self {
            Fade::Constant => 1.0,
            Fade::Cosine => (1.0 + (PI * done).cos()) / 2.0,
            Fade::Linear => 1.0 - done,
        }
    }
}

impl LrSchedule {
    /// Warm-up and a cosine, one rate for all parameters.
    pub fn cosine(peak: f64, floor: f64, warmup: u64, total: u64) -> LrSchedule {
        let (decay, multipliers) = (Decay::Cosine, Multipliers::default());
        LrSchedule { peak, floor, warmup, total, decay, multipliers }
    }

    /// Rate of `step` (from 0): peak·(step+1)/warmup during warm-up, then peak·(floor +
    /// (1−floor)·h). With a cosine, h is (1+cos πp)/2 as p goes from 0 to 1 at the last step; on a
    /// line, h goes from 1 to 0 one step after the last.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let height = match self.decay {
            Decay::Cosine => {
                let span = self.total.saturating_sub(self.warmup + 1).max(1);
                let p = ((step - self.warmup) as f64 / span as f64).min(1.0);
                (1.0 + (PI * p).cos()) / 2.0
            }
            Decay::Constant => return self.peak,
            Decay::Linear { share } => self.height_of_line(share, step),
        };
        self.peak * (self.floor + (1.0 - self.floor) * height)
    }

    /// 1 before the line over the last `share` of the run, which goes down to 0 one step after the last.
    fn height_of_line(&self, share: f64, step: u64) -> f64 {
        let span = (share * self.total as f64).round_ties_even().max(1.0);
        (self.total.saturating_sub(step) as f64 / span).min(1.0)
    }

    /// Where `step` (from 0) is in the run.
    pub fn progress(&self, step: u64) -> Progress {
        let warm_down = match self.decay {
            Decay::Linear { share } => 1.0 - self.height_of_line(share, step),
            Decay::Cosine | Decay::Constant => 0.0,
        };
        Progress { step, total: self.total, warm_down }
    }

    /// Rate of a parameter at `step` (from 0).
    pub fn rate_of(&self, param: &Param, step: u64) -> f64 {
        self.rate(step) * self.multipliers.of(param.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::{GptConfig, Layout};

    #[test]
    fn corners() {
        let s = LrSchedule::cosine(1.0, 0.1, 4, 105);
        assert_eq!(s.rate(0), 0.25);
        assert_eq!(s.rate(3), 1.0);
        assert_eq!(s.rate(4), 1.0);
        assert!((s.rate(54) - 0.55).abs() < 1e-12, "half way down");
        assert!((s.rate(104) - 0.1).abs() < 1e-12);
        assert!((s.rate(1000) - 0.1).abs() < 1e-12);
        assert_eq!(LrSchedule { warmup: 0, ..s }.rate(0), 1.0);
        assert_eq!(LrSchedule { warmup: 9, total: 5, ..s }.rate(8), 1.0);
    }

    #[test]
    fn a_constant_rate_has_a_warm_up_too() {
        let s = LrSchedule { decay: Decay::Constant, ..LrSchedule::cosine(2.0, 0.1, 4, 20) };
        assert_eq!([0, 1, 3, 4, 19, 100].map(|step| s.rate(step)), [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]);
    }

    /// nanochat: 1 up to step N − W of N, then p + (1 − p)·0.05 with p = (N − step)/W.
    #[test]
    fn a_warm_down_is_a_line() {
        let decay = Decay::Linear { share: 0.65 };
        let s = LrSchedule { decay, ..LrSchedule::cosine(3.0, 0.05, 10, 100) };
        assert_eq!(s.rate(9), 3.0);
        assert_eq!([10, 34, 35].map(|step| s.rate(step)), [3.0; 3]);
        for step in 36..100 {
            let p = (100 - step) as f64 / 65.0;
            let want = 3.0 * (p + (1.0 - p) * 0.05);
            assert!((s.rate(step) - want).abs() < 1e-12, "{step}");
        }
        assert!((s.rate(100) - 0.15).abs() < 1e-12 && (s.rate(500) - 0.15).abs() < 1e-12);
        // A line of no length is a constant rate up to the end.
        let none = LrSchedule { decay: Decay::Linear { share: 0.0 }, ..s };
        assert_eq!(none.rate(99), 3.0);
    }

    /// nanochat rounds the length of the line to even; what changes with it follows the same line.
    #[test]
    fn momentum_and_decay_follow_nanochat() {
        let decay = Decay::Linear { share: 0.65 };
        let schedule = |total| LrSchedule { decay, ..LrSchedule::cosine(1.0, 0.05, 40, total) };
        // 6.5 is 6: the line begins at step 4.
        let short = LrSchedule { warmup: 0, ..schedule(10) };
        assert_eq!([4, 5].map(|step| short.rate(step) < 1.0), [false, true]);
        let d12 = schedule(2520);
        let (momentum, line) = (|step| Momentum::NANOCHAT.at(&d12.progress(step)), 1638.0);
        for (step, want) in [
            (0, 0.85),
            (100, 0.88),
            (399, 0.85 + 0.12 * 399.0 / 400.0),
            (400, 0.97),
            (882, 0.97),
            (883, 0.97 - 0.07 / line),
            (2519, 0.90 + 0.07 / line),
        ] {
            assert!((momentum(step) - want).abs() < 1e-12, "{step}: {}", momentum(step));
        }
        // The first line holds in a run that ends on it.
        assert!((Momentum::NANOCHAT.at(&short.progress(9)) - 0.8527).abs() < 1e-12);
        let fade = |step| Fade::Cosine.at(&d12.progress(step));
        assert_eq!((fade(0), fade(2520)), (1.0, 0.0));
        assert!((fade(1260) - 0.5).abs() < 1e-12 && (fade(630) - 0.853_553_390_593).abs() < 1e-12);
        assert_eq!(Fade::Constant.at(&d12.progress(77)), 1.0);
        assert_eq!(
            [0, 1260, 2520].map(|step| Fade::Linear.at(&d12.progress(step))),
            [1.0, 0.5, 0.0]
        );
    }

    #[test]
    fn multipliers_follow_the_kind_of_parameter() {
        let multipliers = Multipliers {
            embedding: 2.0,
            classifier: 3.0,
            matrix: 5.0,
            vector: 7.0,
            ..Multipliers::default()
        };
        let s = LrSchedule { multipliers, ..LrSchedule::cosine(1.0, 0.1, 0, 10) };
        let config = GptConfig { tied: false, ..GptConfig::preset("tiny").unwrap() };
        for param in Layout::new(&config).params() {
            let name = &param.name;
            let want = match name {
                name if name.contains("embed") => 2.0,
                name if name.contains("lm_head") => 3.0,
                name if name.contains("norm") => 7.0,
                _ => 5.0,
            };
            assert_eq!(s.rate_of(param, 0), want, "{name}");
        }
    }

    /// A checkpoint written before there was a choice.
    #[test]
    fn a_schedule_without_a_decay_is_a_cosine() {
        let old = r#"{"peak": 0.004, "floor": 0.1, "warmup": 40, "total": 800}"#;
        let read: LrSchedule = serde_json::from_str(old).unwrap();
        assert_eq!(read, LrSchedule::cosine(4e-3, 0.1, 40, 800));
        let line = LrSchedule { decay: Decay::Linear { share: 0.5 }, ..read };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<LrSchedule>(&text).unwrap(), line);
    }
}
