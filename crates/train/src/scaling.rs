//! The rules of one dial: from the weights of a model to tokens, batch, steps, learning rates and weight decay.
//!
//! The rules and their constants are nanochat's. A model is trained on a fixed number of tokens for each of its
//! N weights that multiply every token: the matrices of the layers and the classifier. The numbers of a run are
//! tuned for one model of the family, the reference (depth 12), with batches of 2^19 tokens; with D and D₁₂ the
//! tokens of both:
//!
//! - tokens: D = ⌊ratio·N⌋;
//! - batch: the power of two nearest to 2^19·(D/D₁₂)^0.383, in tokens per step;
//! - steps: ⌊D/batch⌋;
//! - learning rates: times √(batch/2^19), which keeps the noise of an update (Malladi et al. 2022);
//! - weight decay: times √(batch/2^19)·D₁₂/D, which keeps its share of the whole run (Wang and Aitchison 2024).

use crate::recipe::Recipe;
use gpt::Edition;
use serde::{Deserialize, Serialize};

/// Tokens per step for which rates and decay are tuned.
pub const REFERENCE_BATCH: u64 = 1 << 19;
/// The batch grows with this power of the tokens.
const BATCH_EXPONENT: f64 = 0.383;

/// The constants that a run may choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Training tokens for each weight.
    pub ratio: f64,
    /// Weights of the reference model: depth 12 of the same family, vocabulary and widths of heads.
    pub reference: u64,
    /// Weight decay of the matrices in the reference run.
    pub weight_decay: f64,
}

/// Numbers that take the place of a rule's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    /// Tokens per step.
    pub batch: Option<u64>,
    /// Steps.
    pub steps: Option<u64>,
    /// Floating-point operations of the whole run, and those of one token.
    pub flops: Option<[f64; 2]>,
}

/// The numbers of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Tokens that the ratio gives. A run of another number of steps sees others.
    pub tokens: u64,
    /// Tokens per step.
    pub batch: u64,
    /// Steps.
    pub steps: u64,
    /// Factor of the learning rates.
    pub rate: f64,
    /// Weight decay of the matrices.
    pub weight_decay: f64,
}

impl Rules {
    /// Those of `recipe`, with `reference` weights in the model of depth 12.
    pub fn new(recipe: &Recipe, reference: u64) -> Rules {
        Rules { ratio: recipe.ratio, reference, weight_decay: recipe.weight_decay }
    }

    /// The numbers of a run of a model of `weights`. The decay is that of the tokens that the ratio gives, even
    /// where other steps are asked for.
    ///
    /// # Panics
    /// If `weights`, the reference's or a number that is asked for is 0.
    pub fn budget(&self, weights: u64, asked: &Asked) -> Budget {
        assert!(weights > 0 && self.reference > 0 && self.ratio > 0.0, "a model has weights");
        let tokens = (self.ratio * weights as f64) as u64;
        let share = tokens as f64 / (self.ratio * self.reference as f64);
        let batch = asked.batch.unwrap_or_else(|| nearest_batch(share));
        let steps = match (asked.steps, asked.flops) {
            (Some(steps), _) => steps,
            (None, Some([all, token])) => (all / (token * batch as f64)).round_ties_even() as u64,
            (None, None) => tokens / batch,
        };
        let rate = (batch as f64 / REFERENCE_BATCH as f64).sqrt();
        Budget { tokens, batch, steps, rate, weight_decay: self.weight_decay * rate / share }
    }
}

/// The batch for `share` times the tokens of the reference run.
fn nearest_batch(share: f64) -> u64 {
    let exponent = (REFERENCE_BATCH as f64).log2() + BATCH_EXPONENT * share.log2();
    1 << exponent.round_ties_even().clamp(0.0, 62.0) as u32
}

/// The dial of a run: the depth from which its numbers follow, and the numbers that those follow from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// Layers of the model.
    pub depth: usize,
    /// The edition whose rules hold.
    pub edition: Edition,
    /// Training tokens for each weight.
    pub ratio: f64,
    /// N of the model.
    pub weights: u64,
    /// N of the reference model.
    pub reference: u64,
    /// Tokens that the ratio gives.
    pub tokens: u64,
    /// Tokens of a step that the rule gives, or that were asked for.
    pub batch_tokens: u64,
    /// Floating-point operations of training on one token.
    pub flops_per_token: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of nanochat's depths with a vocabulary of 32768 and heads of 128: depth, N, batch, steps.
    const DEPTHS: [(u64, u64, u64, u64); 11] = [
        (2, 4_587_532, 131_072, 420),
        (4, 11_534_384, 262_144, 528),
        (6, 23_199_852, 262_144, 1062),
        (8, 41_943_232, 262_144, 1920),
        (10, 70_123_820, 524_288, 1605),
        (12, 110_100_912, 524_288, 2520),
        (16, 234_881_792, 524_288, 5376),
        (20, 435_160_240, 1_048_576, 4980),
        (24, 729_810_624, 1_048_576, 8352),
        (26, 918_423_532, 1_048_576, 10_510),
        (32, 1_677_724_672, 2_097_152, 9600),
    ];

    /// N of a depth: 12·C²·L and 12 weights per head of each gate, every other layer; and the classifier.
    fn weights(depth: u64) -> u64 {
        let (width, heads) = (64 * depth, depth / 2);
        12 * width * width * depth + 12 * heads * depth.div_ceil(2) + 32_768 * width
    }

    fn rules() -> Rules {
        Rules::new(&Recipe::of(Edition::July2026), weights(12))
    }

    fn budget(depth: u64, asked: &Asked) -> Budget {
        rules().budget(weights(depth), asked)
    }

    #[test]
    fn every_depth_has_its_tokens_batch_and_steps() {
        for (depth, count, batch, steps) in DEPTHS {
            assert_eq!(weights(depth), count, "depth {depth}");
            let found = budget(depth, &Asked::default());
            assert_eq!((found.tokens, found.batch, found.steps), (12 * count, batch, steps));
            assert_eq!(found.rate, (batch as f64 / 524_288.0).sqrt());
        }
    }

    #[test]
    fn every_depth_has_its_decay() {
        for (depth, decay, digits) in [
            (2, 3.36, 2),
            (4, 1.89, 2),
            (6, 0.94, 2),
            (8, 0.52, 2),
            (12, 0.28, 12),
            (20, 0.100, 3),
            (24, 0.0597, 4),
        ] {
            let found = budget(depth, &Asked::default());
            let error = (found.weight_decay - decay).abs();
            assert!(error <= 0.5 * 10f64.powi(-digits), "depth {depth}: {}", found.weight_decay);
            assert_eq!(found.weight_decay > 1.0, depth < 6, "depth {depth}");
        }
    }

    #[test]
    fn what_is_asked_for_takes_the_place_of_a_rule() {
        let usual = budget(4, &Asked::default());
        // Other steps change nothing else: the decay is that of the rule's own tokens.
        let asked = Asked { steps: Some(7), flops: Some([1e18, 1e8]), ..Asked::default() };
        assert_eq!(budget(4, &asked), Budget { steps: 7, ..usual });
        let asked =
            Asked { flops: Some([8.022e7 * 262_144.0 * 100.5, 8.022e7]), ..Asked::default() };
        assert_eq!(budget(4, &asked).steps, 100, "to even");
        let small = budget(4, &Asked { batch: Some(16_384), ..Asked::default() });
        assert_eq!((small.steps, small.rate), (138_412_608 / 16_384, (1.0f64 / 32.0).sqrt()));
        assert!((usual.weight_decay / small.weight_decay - 4.0).abs() < 1e-12, "√16");
        let rules = Rules { ratio: 20.0, ..rules() };
        let found = rules.budget(weights(12), &Asked::default());
        assert_eq!((found.tokens, found.batch, found.rate), (20 * 110_100_912, 524_288, 1.0));
        assert_eq!(found.weight_decay, 0.28);
        let none = budget(2, &Asked { batch: Some(1 << 40), ..Asked::default() });
        assert_eq!(none.steps, 0);
    }
}
