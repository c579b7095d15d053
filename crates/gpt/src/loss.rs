//! Cross-entropy over the vocabulary, on the host in f32 with f64 totals.

use ane::emulator::simd;
use rayon::prelude::*;

/// Parts into which the vocabulary is cut, so that sums have one order on any number of threads.
const PARTS: usize = 16;

/// Mean of −ln softmax(logits) at the target over the tokens, in nats; `logits` [V, T] are replaced by
/// weight·(softmax − onehot), their cotangents when each token's loss counts `weight`.
///
/// # Panics
/// If `logits` is not a multiple of the number of targets, or a target is not below V.
pub fn cross_entropy(logits: &mut [f32], targets: &[u32], weight: f32) -> f64 {
    let tokens = targets.len();
    let vocab = logits.len() / tokens;
    assert_eq!(vocab * tokens, logits.len(), "logits [V, T]");
    let wanted: Vec<f32> =
        targets.iter().enumerate().map(|(t, &id)| logits[id as usize * tokens + t]).collect();
    let part = vocab.div_ceil(PARTS).max(1) * tokens;

    let column_max: Vec<Vec<f32>> = (logits.par_chunks(part))
        .map(|rows| {
            let mut max = vec![f32::NEG_INFINITY; tokens];
            rows.chunks_exact(tokens).for_each(|row| simd::max(&mut max, row));
            max
        })
        .collect();
    let mut max = vec![f32::NEG_INFINITY; tokens];
    column_max.iter().for_each(|part| simd::max(&mut max, part));

    let column_sums: Vec<Vec<f32>> = (logits.par_chunks_mut(part))
        .map(|rows| {
            let mut sum = vec![0.0; tokens];
            for row in rows.chunks_exact_mut(tokens) {
                simd::exp_sub_add(row, &max, &mut sum);
            }
            sum
        })
        .collect();
    let mut sum = vec![0.0; tokens];
    column_sums.iter().for_each(|part| simd::add(&mut sum, part));

    let scale: Vec<f32> = sum.iter().map(|s| weight / s).collect();
    logits.par_chunks_mut(part).for_each(|rows| {
        rows.chunks_exact_mut(tokens).for_each(|row| simd::mul(row, &scale));
    });
    for (t, &id) in targets.iter().enumerate() {
        logits[id as usize * tokens + t] -= weight;
    }
    let loss =
        (0..tokens).map(|t| f64::from(sum[t]).ln() + f64::from(max[t]) - f64::from(wanted[t]));
    loss.sum::<f64>() / tokens as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_f64() {
        let (vocab, tokens, weight) = (37, 5, 3.0f32);
        let logits: Vec<f32> =
            (0..vocab * tokens).map(|i| ((i * 7919) % 113) as f32 / 11.0 - 5.0).collect();
        let targets = [0u32, 36, 5, 5, 17];
        let mut got = logits.clone();
        let loss = cross_entropy(&mut got, &targets, weight);
        let mut expected = 0.0;
        for (t, &target) in targets.iter().enumerate() {
            let column: Vec<f64> = (0..vocab).map(|v| f64::from(logits[v * tokens + t])).collect();
            let sum: f64 = column.iter().map(|l| l.exp()).sum();
            expected += (sum.ln() - column[target as usize]) / tokens as f64;
            for (v, l) in column.iter().enumerate() {
                let want =
                    f64::from(weight) * (l.exp() / sum - f64::from(u8::from(v == target as usize)));
                // A few roundings of values up to `weight`.
                assert!((f64::from(got[v * tokens + t]) - want).abs() < 8.0 * 3.0 * 2f64.powi(-24));
            }
        }
        assert!((loss - expected).abs() < 1e-6 * expected, "{loss} {expected}");
    }
}
