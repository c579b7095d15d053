//! From rewards to what counts in the gradient, and to pass@k.

use serde::{Deserialize, Serialize};

/// From the rewards of the answers to one question to their advantages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// r − mean: REINFORCE with a baseline, as nanochat has it.
    #[default]
    Mean,
    /// (r − mean) / standard deviation: GRPO (Shao et al. 2024).
    Std,
}

impl Advantage {
    /// Returns the advantages; `None` if all rewards are the same, for then they are zero.
    pub fn of(self, rewards: &[f32]) -> Option<Vec<f32>> {
        if rewards.iter().all(|reward| *reward == rewards[0]) {
            return None;
        }
        let count = rewards.len() as f64;
        let mean = rewards.iter().map(|&reward| f64::from(reward)).sum::<f64>() / count;
        let off = rewards.iter().map(|&reward| f64::from(reward) - mean);
        let divisor = match self {
            Advantage::Mean => 1.0,
            Advantage::Std => (off.clone().map(|off| off * off).sum::<f64>() / count).sqrt(),
        };
        Some(off.map(|off| (off / divisor) as f32).collect())
    }
}

/// Returns the factor of an advantage in the gradient of PPO's objective, min(ρ·A, clip(ρ, 1 − ε, 1 + ε)·A): ρ where
/// the first is the smaller, else 0.
pub(super) fn clipped(ratio: f64, advantage: f64, epsilon: f64) -> f64 {
    let beyond = match advantage > 0.0 {
        true => ratio > 1.0 + epsilon,
        false => ratio < 1.0 - epsilon,
    };
    if beyond { 0.0 } else { ratio }
}

/// Returns the probability that one of `k` answers is right, meaned over questions of which `right` of `samples`
/// answers were: 1 − C(n−c, k)/C(n, k), without bias (Chen et al. 2021).
///
/// # Panics
/// If `k` is 0 or more than `samples`, or there are no questions.
pub fn pass_at(k: usize, samples: usize, right: &[usize]) -> f64 {
    assert!((1..=samples).contains(&k) && !right.is_empty());
    // C(n−c, k)/C(n, k) = Π (1 − k/i) over i from n−c+1 to n, where n−c ≥ k.
    let none = |right: usize| match samples - right < k {
        true => 0.0,
        false => (samples - right + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product(),
    };
    right.iter().map(|&right| 1.0 - none(right)).sum::<f64>() / right.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_have_no_mean() {
        let rewards = [1.0, 0.0, 0.0, 0.0];
        assert_eq!(Advantage::Mean.of(&rewards).unwrap(), [0.75, -0.25, -0.25, -0.25]);
        // The deviation is √(3/16).
        let std = Advantage::Std.of(&rewards).unwrap();
        for (got, want) in std.iter().zip([3f32, -1.0, -1.0, -1.0]) {
            assert!((got - want / 3f32.sqrt()).abs() < 1e-6, "{std:?}");
        }
        assert_eq!(Advantage::Mean.of(&[1.0; 3]), None);
        assert_eq!(Advantage::Std.of(&[0.0]), None);
    }

    /// The derivative of the objective by ρ, from differences.
    #[test]
    fn clipping_is_the_gradient_of_ppos_objective() {
        let (epsilon, step) = (0.2, 1e-6);
        for advantage in [1.5, -0.5] {
            let objective = |ratio: f64| {
                (ratio * advantage).min(ratio.clamp(1.0 - epsilon, 1.0 + epsilon) * advantage)
            };
            for ratio in [0.3, 0.79, 0.81, 1.0, 1.19, 1.21, 3.0] {
                let slope = (objective(ratio + step) - objective(ratio - step)) / (2.0 * step);
                // ∂ρ/∂(ln p) is ρ.
                let want = slope * ratio;
                let got = advantage * clipped(ratio, advantage, epsilon);
                assert!((got - want).abs() < 1e-8, "{ratio} {advantage}: {got} {want}");
            }
        }
    }

    /// Beside the count of all choices of k of n answers.
    #[test]
    fn pass_at_k_is_the_mean_over_all_choices() {
        let n = 6;
        for right in 0..=n {
            for k in 1..=n {
                let (mut all, mut passed) = (0, 0);
                for choice in 0u32..1 << n {
                    if choice.count_ones() as usize == k {
                        all += 1;
                        passed += u32::from(choice & ((1 << right) - 1) != 0);
                    }
                }
                let (got, want) = (pass_at(k, n, &[right]), f64::from(passed) / f64::from(all));
                assert!((got - want).abs() < 1e-12, "{right} {k}: {got} {want}");
            }
        }
        assert_eq!(pass_at(1, 4, &[4, 0, 2]), 0.5);
    }
}
