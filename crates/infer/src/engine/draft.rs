//! Speculative decoding of a text that is continued alone (Leviathan et al. 2023).
//!
//! One token reads all weights, and so do a few tokens of one pass: of large models, memory decides the time of
//! both. A copy of the weights in int8, a quarter of the bytes, guesses some tokens, one after the other, and one pass
//! of the true weights takes them all. Its logits are those of a pass for each ([`gpt::slots`]). The text draws from
//! them as ever, and a guess was right if it is the token that was drawn. So texts, log probabilities and
//! everything else stay as they are, bit for bit, and only the time differs.
//!
//! Guesses are drawn as the text's own tokens will be, with a copy of its sampler: with the same random number, logits
//! that differ little give the same token nearly always.

use super::sequence::Next;
use super::{Engine, Taken, Wanted, WeightFormat};
use crate::InferError;
use gpt::Column;

/// Whether a copy of the weights in int8 guesses the next tokens of a text that is continued alone. Texts are the same
/// either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Draft {
    /// Never.
    #[default]
    Off,
    /// If that is faster: with weights in f32, too many for the caches of a processor.
    Auto,
    /// Always.
    On,
}

/// Bytes of f32 weights from which [`Draft::Auto`] drafts. Smaller models may lie in the last level of cache, from which f32
/// is read nearly as fast as int8 is computed: with 32 MiB of it, 23 MiB of weights were slower with drafts (0.8), 58 MiB
/// faster (1.5).
const LARGE: usize = 48 << 20;

/// The most guesses of a step: with the token before them, as many columns as threads stand by for.
const MOST: usize = 7;

/// The time that a guess takes, as a share of a pass for one token: that of an int8 pass and of one more column in the
/// pass that checks it. For stories15m that is 0.3 + 0.13, for stories110m 0.4 + 0.11 (docs/measured.md).
const COST: f64 = 0.5;

impl Draft {
    /// True if an engine with `bytes` of weights in this format drafts.
    pub(super) fn pays(self, weights: WeightFormat, bytes: usize) -> bool {
        match self {
            Draft::Off => false,
            Draft::Auto => weights == WeightFormat::F32 && bytes >= LARGE,
            Draft::On => true,
        }
    }
}

/// How often a text's guesses are right, and how many to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acceptance {
    /// The share of right guesses among recent ones.
    share: f64,
    /// Steps without guesses before the next trial.
    rest: usize,
}

impl Acceptance {
    /// The share before any guess; int8 is right more often.
    const FIRST: f64 = 0.9;
    /// The share with which a trial begins, one guess a step.
    const TRIAL: f64 = 0.6;
    /// A guess counts for this much of the share.
    const WEIGHT: f64 = 1.0 / 16.0;
    /// Steps between trials. A trial without success costs a pass and a half.
    const REST: usize = 64;

    pub(super) fn new() -> Self {
        Acceptance { share: Self::FIRST, rest: 0 }
    }

    /// The number of guesses, up to `room`, for which a step gives the most tokens in its time: with the share p, k guesses
    /// give 1 + p + … + p^k tokens in 1 + k·[`COST`] passes.
    pub(super) fn guesses(&mut self, room: usize) -> usize {
        if self.rest > 0 {
            self.rest -= 1;
            return 0;
        }
        let (mut tokens, mut best) = (1.0, (1.0, 0));
        for count in 1..=MOST {
            tokens += self.share.powi(count as i32);
            let speed = tokens / (1.0 + COST * count as f64);
            if speed > best.0 {
                best = (speed, count);
            }
        }
        if best.1 == 0 {
            *self = Acceptance { share: Self::TRIAL, rest: Self::REST };
        }
        best.1.min(room)
    }

    /// Learns from a step: guesses that were right, and whether one was wrong.
    pub(super) fn learn(&mut self, right: usize, wrong: bool) {
        for outcome in std::iter::repeat_n(1.0, right).chain(wrong.then_some(0.0)) {
            self.share += Self::WEIGHT * (outcome - self.share);
        }
    }
}

impl Engine {
    /// Guesses what follows `alone`, the only token of a pass: the columns that the pass takes too.
    pub(super) fn guess(&mut self, alone: Wanted) -> Result<Vec<Wanted>, InferError> {
        let Wanted { at, column: Column { slot, token, .. } } = alone;
        let room = self.context() - at - 1;
        let sequence = self.sequences[slot].as_mut().expect("a job of the pass");
        let count = if self.decoder.drafts() { sequence.guesses(room) } else { 0 };
        let mut guesses = vec![];
        if count > 0 {
            let mut sampler = sequence.sampler();
            self.decoder.draft(slot, token, |logits| {
                let token = sampler.choose(logits);
                // What comes after the text's end is of no use.
                let goes_on = !sequence.is_end(token);
                if goes_on {
                    let column = Column { slot, token, logits: true };
                    guesses.push(Wanted { at: at + 1 + guesses.len(), column });
                }
                (goes_on && guesses.len() < count).then_some(token)
            })?;
        }
        Ok(guesses)
    }

    /// Counts the guesses of a pass that were right, and learns from them.
    pub(super) fn judge(&mut self, guesses: &[Wanted], taken: &Taken) {
        let right = guesses.iter().filter(|guess| guess.at < taken.read).count();
        self.stats.drafted_tokens += guesses.len() as u64;
        self.stats.accepted_tokens += right as u64;
        // A text that ended says nothing of the others.
        let wrong = taken.next == Next::Read && right < guesses.len();
        let sequence = self.sequences[taken.slot].as_mut().expect("a job of the pass");
        sequence.learn(right, wrong);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_models_in_f32_are_drafted() {
        let pays = |draft: Draft, weights, bytes| draft.pays(weights, bytes);
        assert!(pays(Draft::Auto, WeightFormat::F32, LARGE));
        assert!(!pays(Draft::Auto, WeightFormat::F32, LARGE - 1));
        assert!(!pays(Draft::Auto, WeightFormat::F16, 1 << 34));
        assert!(!pays(Draft::Auto, WeightFormat::Int8, 1 << 34));
        assert!(
            pays(Draft::On, WeightFormat::Int8, 0) && !pays(Draft::Off, WeightFormat::F32, 1 << 34)
        );
    }

    /// With share p and the cost ½, one guess pays from p = ½ on: 1 + p tokens in 1½ passes.
    #[test]
    fn as_many_guesses_as_pay() {
        let guesses = |share: f64| Acceptance { share, rest: 0 }.guesses(99);
        assert_eq!([0.0, 0.499, 0.501, 0.75, 0.9, 0.97, 1.0].map(guesses), [0, 0, 1, 1, 3, 7, 7]);
        assert_eq!(Acceptance { share: 1.0, rest: 0 }.guesses(4), 4);
        assert_eq!(Acceptance::new().guesses(0), 0);
    }

    #[test]
    fn guesses_are_given_up_and_tried_again() {
        let mut text = Acceptance::new();
        (0..100).for_each(|_| text.learn(3, false));
        assert_eq!(text.guesses(99), MOST);
        let (mut made, mut steps) = (0, 0);
        while text.rest == 0 {
            made += text.guesses(99);
            text.learn(0, text.rest == 0);
            steps += 1;
        }
        assert!((5..20).contains(&steps) && made < 50, "{made} guesses in {steps} steps");
        for _ in 0..Acceptance::REST {
            assert_eq!(text.guesses(99), 0);
        }
        assert_eq!(text.guesses(99), 1);
        // A text that can be guessed again is, after some steps.
        let all: usize = (0..60)
            .map(|_| {
                let n = text.guesses(99);
                text.learn(n, false);
                n
            })
            .sum();
        assert!(all > 300 && text.guesses(99) == MOST, "{all}");
    }
}
