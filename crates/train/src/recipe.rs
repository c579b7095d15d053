//! nanochat's settings of a run, by edition of its model: what does not follow from the number of weights.

use crate::optim::{AdamW, AdamWGroups, Muon};
use crate::schedule::{Decay, Fade, Momentum, Multipliers};
use gpt::Edition;

/// Width for which the rates of AdamW are tuned.
const REFERENCE_WIDTH: f64 = 768.0;

/// Muon's peak rate of the matrices of the layers, in the reference run and in a fresh run of another family. It
/// suits any width: a semi-orthogonal matrix moves what goes through it by no more than the rate times its length
/// (Jordan et al. 2024).
pub const MATRIX_RATE: f64 = 0.02;

/// The settings of the reference run: depth 12, 2^19 tokens per step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Training tokens for each weight.
    pub ratio: f64,
    /// Weight decay of the matrices.
    pub weight_decay: f64,
    /// Muon with this decay, and AdamW for the other groups.
    pub muon: Muon,
    /// Steps of warm-up.
    pub warmup: u64,
    /// How the rate falls.
    pub decay: Decay,
    /// Last learning rate as a share of the largest.
    pub floor: f64,
    /// Peak rates of the classifier and of value embeddings at a width of 768; that of the embedding is 0.3.
    classifier: f64,
    value_embedding: f64,
}

impl Recipe {
    /// That of an edition. February's Muon rounded to bfloat16; this one does not.
    pub fn of(edition: Edition) -> Recipe {
        match edition {
            Edition::July2026 => Recipe {
                ratio: 12.0,
                weight_decay: 0.28,
                muon: Muon {
                    momentum: Momentum::NANOCHAT,
                    weight_decay: 0.28,
                    fade: Fade::Cosine,
                    adamw: AdamWGroups::NANOCHAT,
                    ..Muon::default()
                },
                warmup: 40,
                decay: Decay::Linear { share: 0.65 },
                floor: 0.05,
                classifier: 0.008,
                value_embedding: 0.15,
            },
            Edition::February2026 => Recipe {
                ratio: 10.5,
                weight_decay: 0.2,
                muon: Muon {
                    momentum: FEBRUARY_MOMENTUM,
                    beta2: 0.95,
                    weight_decay: 0.2,
                    fade: Fade::Linear,
                    adamw: AdamWGroups::FEBRUARY,
                    margin: 1.02,
                    equal_rows: false,
                    rescale: false,
                },
                warmup: 0,
                decay: Decay::Linear { share: 0.5 },
                floor: 0.0,
                classifier: 0.004,
                value_embedding: 0.3,
            },
        }
    }

    /// The rates of the other parameters of a model of `width`, as shares of the matrices' rate, which is
    /// [`MATRIX_RATE`] times `rate` ([`Budget::rate`](crate::scaling::Budget::rate)). Those of tables fall
    /// with the root of the width; that of smear does not follow the batch.
    pub fn multipliers(&self, width: usize, rate: f64) -> Multipliers {
        let table = (width as f64 / REFERENCE_WIDTH).powf(-0.5) / MATRIX_RATE;
        let smear = 0.2 / (MATRIX_RATE * rate);
        Multipliers {
            embedding: 0.3 * table,
            classifier: self.classifier * table,
            value_embedding: self.value_embedding * table,
            matrix: 1.0,
            // nanochat has no gains and no biases: as what is nearest to them.
            vector: smear,
            residual_scale: 0.5 * 0.01 / MATRIX_RATE,
            skip_scale: 0.5 / MATRIX_RATE,
            smear,
        }
    }
}

/// February's: from 0.85 to 0.95 over 300 steps.
const FEBRUARY_MOMENTUM: Momentum =
    Momentum::Trapezoid { first: 0.85, peak: 0.95, last: 0.95, rise: 300 };

impl AdamWGroups {
    /// nanochat's as of July 2026.
    pub const NANOCHAT: AdamWGroups = AdamWGroups {
        embedding: adamw(0.8, 0.995, 0.001),
        classifier: adamw(0.8, 0.96, 0.01),
        value_embedding: adamw(0.8, 0.995, 0.01),
        vector: adamw(0.8, 0.95, 0.0),
        residual_scale: adamw(0.8, 0.95, 0.05),
        skip_scale: adamw(0.96, 0.95, 0.0),
        smear: adamw(0.8, 0.95, 0.0),
    };

    /// nanochat's as of February 2026: no decay, and the same betas but for the factors of the first stream.
    pub const FEBRUARY: AdamWGroups = AdamWGroups {
        embedding: adamw(0.8, 0.95, 0.0),
        classifier: adamw(0.8, 0.95, 0.0),
        value_embedding: adamw(0.8, 0.95, 0.0),
        vector: adamw(0.8, 0.95, 0.0),
        residual_scale: adamw(0.8, 0.95, 0.0),
        skip_scale: adamw(0.96, 0.95, 0.0),
        smear: adamw(0.8, 0.95, 0.0),
    };
}

const fn adamw(beta1: f32, beta2: f32, weight_decay: f32) -> AdamW {
    AdamW { beta1, beta2, epsilon: 1e-10, weight_decay }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Depth 12, whose numbers are nanochat's own, and depth 4: a third of the width, half the batch.
    #[test]
    fn groups_have_their_rates() {
        let (root, half) = (3f64.sqrt(), 0.5f64.sqrt());
        let july = [0.3, 0.008, 0.15];
        for (edition, tables) in
            [(Edition::July2026, july), (Edition::February2026, [0.3, 0.004, 0.3])]
        {
            for (width, batch, table) in [(768, 1.0, 1.0), (256, half, root * half)] {
                let found = Recipe::of(edition).multipliers(width, batch);
                let [embedding, classifier, value_embedding] = tables.map(|rate| rate * table);
                for (share, want) in [
                    (found.embedding, embedding),
                    (found.classifier, classifier),
                    (found.value_embedding, value_embedding),
                    (found.residual_scale, 0.005 * batch),
                    (found.skip_scale, 0.5 * batch),
                    (found.smear, 0.2),
                    (found.matrix, 0.02 * batch),
                ] {
                    let got = share * MATRIX_RATE * batch;
                    assert!((got / want - 1.0).abs() < 1e-12, "{edition:?} {width}: {got} {want}");
                }
            }
        }
    }

    /// No smear, no backout: no group of theirs. What is left has its own numbers.
    #[test]
    fn february_is_not_july() {
        let recipe = Recipe::of(Edition::February2026);
        let config = gpt::GptConfig::preset("nanochat-2026-02-d2").unwrap();
        let layout = gpt::Layout::new(&config);
        assert!(layout.params().iter().all(|p| p.group != gpt::Group::Smear));
        assert_eq!((recipe.ratio, recipe.muon.margin, recipe.muon.beta2), (10.5, 1.02, 0.95));
        assert!(!recipe.muon.equal_rows && !recipe.muon.rescale);
        assert_eq!((recipe.warmup, recipe.floor), (0, 0.0));
        assert_eq!(recipe.muon.adamw.skip_scale.beta1, 0.96);
    }
}
