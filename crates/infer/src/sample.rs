//! Choosing the next token.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// How the next token is chosen from the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f32,
    /// Keep only this many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most likely tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Keep the tokens that have at least this share of the most likely one's probability; 0 keeps all.
    pub min_p: f32,
    /// Divides the positive logits of tokens that the text has, prompt included, and multiplies the negative
    /// ones; 1 changes nothing (Keskar et al. 2019).
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens that were drawn before.
    pub presence_penalty: f32,
    /// Subtracted from the logits of tokens that were drawn before, once for each time.
    pub frequency_penalty: f32,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
    };
}

impl Default for Sampling {
    /// Temperature 0.8, nucleus of 0.95.
    fn default() -> Self {
        Sampling { temperature: 0.8, top_p: 0.95, ..Sampling::GREEDY }
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
    /// A share of a probability.
    #[error("min-p {0} is not a number from 0 to 1 (0 keeps all tokens)")]
    MinP(f32),
    /// A factor.
    #[error("repetition penalty {0} is not a number above 0 (1 changes nothing)")]
    RepetitionPenalty(f32),
    /// An amount.
    #[error("presence or frequency penalty {0} is not a finite number (0 changes nothing)")]
    Penalty(f32),
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
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(SamplingError::MinP(self.min_p));
        }
        let repetition = self.repetition_penalty;
        if !(repetition.is_finite() && repetition > 0.0) {
            return Err(SamplingError::RepetitionPenalty(repetition));
        }
        let penalties = [self.presence_penalty, self.frequency_penalty];
        match penalties.into_iter().find(|penalty| !penalty.is_finite()) {
            Some(penalty) => Err(SamplingError::Penalty(penalty)),
            None => Ok(()),
        }
    }

    /// True if logits depend on the text.
    fn penalises(&self) -> bool {
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = *self;
        (repetition_penalty, presence_penalty, frequency_penalty) != (1.0, 0.0, 0.0)
    }
}

/// Draws tokens: same settings, same seed, same logits, same tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    state: u64,
    bias: Vec<(u32, f32)>,
    /// Tokens of the text, and how often each was drawn.
    seen: BTreeMap<u32, u32>,
}

/// Most likely tokens that are put in order at first; most draws need no more.
const FIRST: usize = 128;

impl Sampler {
    /// A sampler with its own stream of random numbers.
    pub fn new(sampling: Sampling, seed: u64) -> Self {
        Sampler { sampling, state: seed, bias: vec![], seen: BTreeMap::new() }
    }

    /// Adds to the logits of some tokens.
    #[must_use]
    pub fn with_bias(mut self, bias: Vec<(u32, f32)>) -> Self {
        self.bias = bias;
        self
    }

    /// Takes a token of the prompt into account.
    pub fn read(&mut self, token: u32) {
        if self.sampling.penalises() {
            self.seen.entry(token).or_default();
        }
    }

    /// The next token.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let token = match self.adjusted(logits) {
            Some(adjusted) => self.draw(&adjusted),
            None => self.draw(logits),
        };
        if self.sampling.penalises() {
            *self.seen.entry(token).or_default() += 1;
        }
        token
    }

    /// The logits with penalties and bias, if there are any.
    fn adjusted(&self, logits: &[f32]) -> Option<Vec<f32>> {
        if self.bias.is_empty() && self.seen.is_empty() {
            return None;
        }
        let mut logits = logits.to_vec();
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } =
            self.sampling;
        for (&token, &times) in &self.seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                let factor =
                    if *logit > 0.0 { 1.0 / repetition_penalty } else { repetition_penalty };
                let presence = if times > 0 { presence_penalty } else { 0.0 };
                *logit = *logit * factor - presence - frequency_penalty * times as f32;
            }
        }
        for &(token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        Some(logits)
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        if temperature == 0.0 {
            return most_likely(logits);
        }
        let mut order = Order::new(logits);
        if top_k > 0 {
            order.keep(top_k);
        }
        let max = logits[order.get(0) as usize];
        let weight = |id: u32| f64::from((logits[id as usize] - max) / temperature).exp();
        let mut total: f64 = order.ids.iter().map(|&id| weight(id)).sum();
        // The nucleus, whose weights are added up in order.
        if top_p < 1.0 || min_p > 0.0 {
            let (mut kept, mut count, enough) = (0.0, 0, f64::from(top_p) * total);
            while count < order.ids.len() {
                let weight = weight(order.get(count));
                if weight < f64::from(min_p) {
                    break;
                }
                (kept, count) = (kept + weight, count + 1);
                if kept >= enough {
                    break;
                }
            }
            total = kept;
            order.keep(count);
        }
        let mut left = self.uniform() * total;
        for i in 0..order.ids.len() {
            let id = order.get(i);
            left -= weight(id);
            if left < 0.0 {
                return id;
            }
        }
        order.get(order.ids.len() - 1)
    }

    /// Uniform in [0, 1) by SplitMix64 (Steele, Lea and Flood 2014).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Tokens, most likely first, of which only the beginning is put in order.
struct Order<'l> {
    logits: &'l [f32],
    ids: Vec<u32>,
    sorted: usize,
}

impl<'l> Order<'l> {
    fn new(logits: &'l [f32]) -> Self {
        Order { logits, ids: (0..logits.len() as u32).collect(), sorted: 0 }
    }

    /// The i-th most likely token.
    fn get(&mut self, i: usize) -> u32 {
        if i >= self.sorted {
            self.sort(FIRST.max(4 * self.sorted).max(i + 1).min(self.ids.len()));
        }
        self.ids[i]
    }

    /// Puts the first `count` tokens in order.
    fn sort(&mut self, count: usize) {
        let logits = self.logits;
        let by_logit =
            |a: &u32, b: &u32| descending(logits[*a as usize], logits[*b as usize]).then(a.cmp(b));
        let rest = &mut self.ids[self.sorted..];
        let wanted = count - self.sorted;
        if wanted < rest.len() {
            rest.select_nth_unstable_by(wanted, by_logit);
        }
        rest[..wanted].sort_unstable_by(by_logit);
        self.sorted = count;
    }

    /// Keeps the first `count` tokens.
    fn keep(&mut self, count: usize) {
        if count < self.ids.len() {
            self.sort(count.max(self.sorted));
            self.ids.truncate(count);
            self.sorted = self.sorted.min(count);
        }
    }
}

/// A number in the order of logits: what is not a number is least, +0 is above −0 (IEEE 754's total order).
fn rank(logit: f32) -> i32 {
    let bits = if logit.is_nan() { f32::NEG_INFINITY } else { logit }.to_bits() as i32;
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

/// Larger first; what is not a number last.
fn descending(a: f32, b: f32) -> Ordering {
    rank(b).cmp(&rank(a))
}

/// Index of the largest logit, the first of equals.
///
/// # Panics
/// If there are none.
fn most_likely(logits: &[f32]) -> u32 {
    /// Logits whose maximum is taken without looking where it is, many at once.
    const TOGETHER: usize = 256;
    let largest = |logits: &[f32]| logits.iter().fold(i32::MIN, |most, l| most.max(rank(*l)));
    // Of equals, the last one that is looked at is taken.
    let chunks = logits.chunks(TOGETHER).map(largest).enumerate().rev();
    let (chunk, most) = chunks.max_by_key(|(_, most)| *most).expect("a vocabulary is not empty");
    let first = chunk * TOGETHER;
    let place = logits[first..].iter().position(|logit| rank(*logit) == most);
    (first + place.expect("the chunk has its maximum")) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut sampler = Sampler::new(Sampling { temperature: 0.0, ..Sampling::default() }, 1);
        assert_eq!(sampler.choose(&[0.0, 3.0, f32::NAN, 3.0]), 1);
    }

    /// As the whole order has it, for values of which many are equal.
    #[test]
    fn the_most_likely_is_the_first_in_order() {
        let special = [0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.5, 2.0];
        let mut random = Sampler::new(Sampling::GREEDY, 7);
        for count in [1, 2, 255, 256, 257, 1000] {
            for values in 1..=special.len() {
                let mut pick = || special[(random.uniform() * values as f64) as usize];
                let logits: Vec<f32> = (0..count).map(|_| pick()).collect();
                let by_definition = |a: &u32, b: &u32| {
                    let key = |id: u32| match logits[id as usize] {
                        logit if logit.is_nan() => f32::NEG_INFINITY,
                        logit => logit,
                    };
                    key(*b).total_cmp(&key(*a)).then(a.cmp(b))
                };
                let wanted = (0..count).min_by(by_definition);
                assert_eq!(Some(most_likely(&logits)), wanted, "{logits:?}");
            }
        }
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let sampling = Sampling { temperature: 0.5, ..Sampling::GREEDY };
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
        let all = Sampling { temperature: 1.0, ..Sampling::GREEDY };
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

    #[test]
    fn min_p_cuts_what_is_unlikely_beside_the_most_likely() {
        // Weights are 1, e^-1, e^-2, e^-3: 1, 0.37, 0.135, 0.05.
        let logits = [1.0f32, 4.0, 2.0, 3.0];
        let drawn = |min_p, top_p| {
            let sampling = Sampling { temperature: 1.0, min_p, top_p, ..Sampling::GREEDY };
            let mut sampler = Sampler::new(sampling, 9);
            let mut seen = [false; 4];
            (0..2000).for_each(|_| seen[sampler.choose(&logits) as usize] = true);
            seen
        };
        assert_eq!(drawn(0.04, 1.0), [true; 4]);
        assert_eq!(drawn(0.1, 1.0), [false, true, true, true]);
        assert_eq!(drawn(0.3, 1.0), [false, true, false, true]);
        assert_eq!(drawn(0.3, 0.5), [false, true, false, false]);
        assert_eq!(drawn(1.0, 1.0), [false, true, false, false]);
    }

    #[test]
    fn penalties_and_bias_move_logits() {
        let greedy = |sampling: Sampling, bias: &[(u32, f32)], logits: &[f32]| {
            let mut sampler = Sampler::new(sampling, 1).with_bias(bias.to_vec());
            sampler.read(2);
            (0..4).map(|_| sampler.choose(logits)).collect::<Vec<u32>>()
        };
        let plain = Sampling::GREEDY;
        let logits = [1.0, 2.0, 2.5, -1.0];
        assert_eq!(greedy(plain, &[], &logits), [2, 2, 2, 2]);
        // 2.5 / 1.3 is less than 2; 2 / 1.3 is 1.54.
        let repeated = Sampling { repetition_penalty: 1.3, ..plain };
        assert_eq!(greedy(repeated, &[], &logits), [1, 2, 2, 2]);
        // What was not drawn but read counts for repetition alone.
        let present = Sampling { presence_penalty: 1.0, ..plain };
        assert_eq!(greedy(present, &[], &logits), [2, 1, 2, 2]);
        let frequent = Sampling { frequency_penalty: 0.75, ..plain };
        assert_eq!(greedy(frequent, &[], &logits), [2, 1, 2, 1]);
        // Negative logits grow in magnitude: -1 becomes -1.3, below -1.2.
        assert_eq!(greedy(repeated, &[], &[-9.0, -1.2, -1.0, -9.0]), [1, 2, 2, 2]);
        assert_eq!(greedy(plain, &[(3, 3.6), (2, -0.6), (9, 5.0)], &logits), [3, 3, 3, 3]);
    }

    /// A vocabulary larger than what is put in order at first gives what sorting all of it gives.
    #[test]
    fn the_order_of_a_large_vocabulary_is_that_of_its_logits() {
        let logits: Vec<f32> = (0..5000).map(|i| ((i * 7919) % 1009) as f32 / 100.0).collect();
        let mut sorted: Vec<u32> = (0..5000).collect();
        sorted.sort_by(|&a, &b| descending(logits[a as usize], logits[b as usize]).then(a.cmp(&b)));
        let mut order = Order::new(&logits);
        let found: Vec<u32> = (0..5000).map(|i| order.get(i)).collect();
        assert_eq!(found, sorted);
        let mut order = Order::new(&logits);
        assert_eq!(order.get(200), sorted[200]);
        order.keep(150);
        assert_eq!((order.ids.len(), order.get(149)), (150, sorted[149]));
        order.keep(700);
        assert_eq!(order.ids, sorted[..150]);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let plain = Sampling::GREEDY;
        let refused = |sampling: Sampling| sampling.validate().unwrap_err().to_string();
        for min_p in [-0.1, 1.1, f32::NAN] {
            assert!(refused(Sampling { min_p, ..plain }).contains("min-p"));
        }
        for repetition_penalty in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(refused(Sampling { repetition_penalty, ..plain }).contains("repetition"));
        }
        for penalty in [f32::NAN, f32::INFINITY] {
            assert!(refused(Sampling { presence_penalty: penalty, ..plain }).contains("presence"));
            assert!(refused(Sampling { frequency_penalty: penalty, ..plain }).contains("presence"));
        }
    }

    /// Only differences of logits count, however large the logits are: e^1000 has no f64.
    #[test]
    fn large_logits_are_drawn_as_small_ones() {
        let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
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
