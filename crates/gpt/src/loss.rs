//! Cross-entropy over the vocabulary, tile by tile, on the host in f32 with f64 totals.
//!
//! Logits are [V, T], one column per token; a tile is some rows of them.

use ane::emulator::simd;

/// Of each token, over one tile: the largest logit and the sum of e^(logit − largest).
#[derive(Clone, Debug)]
pub(crate) struct TileStatistics {
    max: Vec<f32>,
    sum: Vec<f32>,
}

impl TileStatistics {
    pub(crate) fn new(tokens: usize) -> Self {
        TileStatistics { max: vec![0.0; tokens], sum: vec![0.0; tokens] }
    }

    /// Takes those of `logits`.
    pub(crate) fn of(&mut self, logits: &[f32]) {
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        simd::column_max(logits, &mut self.max);
        simd::column_exp_sum(logits, &self.max, &mut self.sum);
    }
}

/// Of each token, over the vocabulary: the largest logit and the sum of e^(logit − largest).
#[derive(Debug)]
pub(crate) struct Normaliser {
    pub(crate) max: Vec<f32>,
    sum: Vec<f64>,
}

impl Normaliser {
    pub(crate) fn new(tokens: usize) -> Self {
        Normaliser { max: vec![0.0; tokens], sum: vec![0.0; tokens] }
    }

    /// Takes the tiles together, in their order.
    pub(crate) fn combine<'a>(&mut self, tiles: impl Iterator<Item = &'a TileStatistics> + Clone) {
        self.max.fill(f32::NEG_INFINITY);
        tiles.clone().for_each(|tile| simd::max(&mut self.max, &tile.max));
        self.sum.fill(0.0);
        for tile in tiles {
            for (((sum, &max), &s), &m) in
                self.sum.iter_mut().zip(&self.max).zip(&tile.sum).zip(&tile.max)
            {
                *sum += f64::from(s) * (f64::from(m) - f64::from(max)).exp();
            }
        }
    }

    /// What e^(logit − max) is multiplied by to give weight·softmax.
    pub(crate) fn scale(&self, weight: f32) -> Vec<f32> {
        self.sum.iter().map(|sum| (f64::from(weight) / sum) as f32).collect()
    }
}

/// Mean of −ln softmax(logits) at the target over the tokens, in nats.
///
/// # Panics
/// If a target is not a row of `logits`.
pub(crate) fn mean_loss(logits: &[f32], targets: &[u32], of: &Normaliser) -> f64 {
    let tokens = targets.len();
    let loss = targets.iter().enumerate().map(|(t, &id)| {
        of.sum[t].ln() + f64::from(of.max[t]) - f64::from(logits[id as usize * tokens + t])
    });
    loss.sum::<f64>() / tokens as f64
}

/// Replaces a tile of logits, whose first row is row `first` of the vocabulary, by
/// weight·(softmax − onehot), their cotangents when each token's loss counts `weight`; `scale` is
/// [`Normaliser::scale`] of it.
pub(crate) fn cotangents(
    logits: &mut [f32],
    first: usize,
    targets: &[u32],
    max: &[f32],
    scale: &[f32],
    weight: f32,
) {
    let tokens = targets.len();
    simd::column_softmax(logits, max, scale);
    for (t, &id) in targets.iter().enumerate() {
        let row = (id as usize).checked_sub(first);
        if let Some(at) = row.and_then(|row| logits.get_mut(row * tokens + t)) {
            *at -= weight;
        }
    }
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
        for rows in [vocab, 20, 5, 1] {
            let tiles: Vec<TileStatistics> = (logits.chunks(rows * tokens))
                .map(|tile| {
                    let mut statistics = TileStatistics::new(tokens);
                    statistics.of(tile);
                    statistics
                })
                .collect();
            let mut normaliser = Normaliser::new(tokens);
            normaliser.combine(tiles.iter());
            let loss = mean_loss(&logits, &targets, &normaliser);
            let scale = normaliser.scale(weight);
            let mut got = logits.clone();
            for (i, tile) in got.chunks_mut(rows * tokens).enumerate() {
                cotangents(tile, i * rows, &targets, &normaliser.max, &scale, weight);
            }
            let mut expected = 0.0;
            for (t, &target) in targets.iter().enumerate() {
                let column: Vec<f64> =
                    (0..vocab).map(|v| f64::from(logits[v * tokens + t])).collect();
                let sum: f64 = column.iter().map(|l| l.exp()).sum();
                expected += (sum.ln() - column[target as usize]) / tokens as f64;
                for (v, l) in column.iter().enumerate() {
                    let one = f64::from(u8::from(v == target as usize));
                    let want = f64::from(weight) * (l.exp() / sum - one);
                    // A few roundings of values up to `weight`.
                    let bound = 8.0 * 3.0 * 2f64.powi(-24);
                    assert!((f64::from(got[v * tokens + t]) - want).abs() < bound, "{rows}");
                }
            }
            assert!((loss - expected).abs() < 1e-6 * expected, "{loss} {expected}");
        }
    }
}
