//! Choosing the next token.

use std::cmp::Ordering;

/// How the next token is chosen from the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f32,
    /// Keep only this many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most likely tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
}

impl Default for Sampling {
    /// Temperature 0.8, nucleus of 0.95.
    fn default() -> Self {
        Sampling { temperature: 0.8, top_k: 0, top_p: 0.95 }
    }
}

/// A setting that is out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// A temperature is a finite number from 0.
    #[error("temperature {0} is not a number from 0 (0 takes the most likely token)")]
    Temperature(f32),
    /// A nucleus is a probability.
    #[error("top-p {0} is not a probability above 0 and at most 1")]
    TopP(f32),
}

impl Sampling {
    /// Checks the numbers.
    ///
    /// # Errors
    /// The first that is out of range.
    pub fn validate(&self) -> Result<(), SamplingError> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(SamplingError::Temperature(self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(SamplingError::TopP(self.top_p));
        }
        Ok(())
    }
}

/// Draws tokens: same settings, same seed, same logits, same tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    state: u64,
}

impl Sampler {
    /// A sampler with its own stream of random numbers.
    pub fn new(sampling: Sampling, seed: u64) -> Self {
        Sampler { sampling, state: seed }
    }

    /// The next token.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        if self.sampling.temperature == 0.0 {
            return most_likely(logits);
        }
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let by_logit =
            |a: &u32, b: &u32| descending(logits[*a as usize], logits[*b as usize]).then(a.cmp(b));
        if self.sampling.top_k > 0 && self.sampling.top_k < order.len() {
            order.select_nth_unstable_by(self.sampling.top_k - 1, by_logit);
            order.truncate(self.sampling.top_k);
        }
        order.sort_unstable_by(by_logit);
        let max = logits[order[0] as usize];
        let weight =
            |&id: &u32| f64::from((logits[id as usize] - max) / self.sampling.temperature).exp();
        let mut weights: Vec<f64> = order.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0.0;
        let nucleus = weights.iter().position(|w| {
            kept += w;
            kept >= f64::from(self.sampling.top_p) * total
        });
        weights.truncate(nucleus.map_or(weights.len(), |last| last + 1));
        let total: f64 = weights.iter().sum();
        let mut left = self.uniform() * total;
        for (id, w) in order.iter().zip(&weights) {
            left -= w;
            if left < 0.0 {
                return *id;
            }
        }
        order[weights.len() - 1]
    }

    /// Uniform in [0, 1) by SplitMix64 (Steele, Lea and Flood 2014).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Larger first; what is not a number last.
fn descending(a: f32, b: f32) -> Ordering {
    let key = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
    key(b).total_cmp(&key(a))
}

/// Index of the largest logit, the first of equals.
fn most_likely(logits: &[f32]) -> u32 {
    (0..logits.len() as u32)
        .min_by(|&a, &b| descending(logits[a as usize], logits[b as usize]).then(a.cmp(&b)))
        .expect("a vocabulary is not empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut sampler = Sampler::new(Sampling { temperature: 0.0, ..Sampling::default() }, 1);
        assert_eq!(sampler.choose(&[0.0, 3.0, f32::NAN, 3.0]), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let sampling = Sampling { temperature: 0.5, top_k: 0, top_p: 1.0 };
        let mut sampler = Sampler::new(sampling, 3);
        let logits = [0.0f32, 0.5, -0.5];
        let total: f64 = logits.iter().map(|l| f64::from(l / 0.5).exp()).sum();
        let n = 40_000;
        let mut counts = [0usize; 3];
        (0..n).for_each(|_| counts[sampler.choose(&logits) as usize] += 1);
        for (count, l) in counts.iter().zip(logits) {
            let p = f64::from(l / 0.5).exp() / total;
            let deviation = (p * (1.0 - p) / f64::from(n)).sqrt();
            assert!((*count as f64 / f64::from(n) - p).abs() < 5.0 * deviation);
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [1.0f32, 4.0, 2.0, 3.0];
        let drawn = |sampling| {
            let mut sampler = Sampler::new(sampling, 9);
            let mut seen = [false; 4];
            (0..2000).for_each(|_| seen[sampler.choose(&logits) as usize] = true);
            seen
        };
        let all = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 };
        assert_eq!(drawn(all), [true; 4]);
        assert_eq!(drawn(Sampling { top_k: 2, ..all }), [false, true, false, true]);
        // Probabilities are 0.64, 0.24, 0.09, 0.03: two reach 0.7.
        assert_eq!(drawn(Sampling { top_p: 0.7, ..all }), [false, true, false, true]);
        assert_eq!(drawn(Sampling { top_p: 0.1, ..all }), [false, true, false, false]);
        // At 0.5: 0.865, 0.117, 0.016, 0.002; at 2: 0.455, 0.276, 0.167, 0.102.
        let sharp = Sampling { temperature: 0.5, ..all };
        assert_eq!(drawn(Sampling { top_p: 0.9, ..sharp }), [false, true, false, true]);
        assert_eq!(drawn(Sampling { top_p: 0.86, ..sharp }), [false, true, false, false]);
        let flat = Sampling { temperature: 2.0, ..all };
        assert_eq!(drawn(Sampling { top_p: 0.85, ..flat }), [false, true, true, true]);
        assert_eq!(drawn(Sampling { top_p: 0.7, ..flat }), [false, true, false, true]);
        // What is kept by number is the whole for what is kept by probability: 0.62 and 0.38.
        assert_eq!(drawn(Sampling { top_k: 2, top_p: 0.6, ..flat }), [false, true, false, false]);
        assert_eq!(drawn(Sampling { top_k: 4, ..flat }), [true; 4]);
        assert_eq!(drawn(Sampling { top_k: 3, ..sharp }), [false, true, true, true]);
        assert_eq!(drawn(Sampling { top_k: 1, ..flat }), [false, true, false, false]);
    }

    /// Only differences of logits count, however large the logits are: e^1000 has no f64.
    #[test]
    fn large_logits_are_drawn_as_small_ones() {
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 };
        let drawn = |offset: f32| {
            let logits = [0.5f32, 1.0, -0.5, 0.0].map(|logit| logit + offset);
            let mut sampler = Sampler::new(sampling, 7);
            (0..500).map(|_| sampler.choose(&logits)).collect::<Vec<u32>>()
        };
        let plain = drawn(0.0);
        assert!((0..4).all(|id| plain.contains(&id)));
        assert_eq!(drawn(1024.0), plain);
        assert_eq!(drawn(-1024.0), plain);
    }

    /// The first numbers of SplitMix64 from 1234567, as its reference implementation gives them.
    #[test]
    fn uniform_numbers_are_those_of_splitmix64() {
        let mut sampler = Sampler::new(Sampling::default(), 1_234_567);
        for word in [
            6_457_827_717_110_365_317u64,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ] {
            assert_eq!(sampler.uniform(), (word >> 11) as f64 / 9_007_199_254_740_992.0);
        }
    }
}
