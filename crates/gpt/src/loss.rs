//! Cross-entropy over the vocabulary, tile by tile, on the host in f32 with f64 totals.
//!
//! Logits are [V, T], one column per token; a tile is some rows of them.

use crate::batch::TokenWeights;
use cpu::simd;

/// Of each token, over one tile: the largest logit, the sum of e^(logit − largest), and the logit of
/// the target, 0 where it is in another tile.
#[derive(Clone, Debug)]
pub(crate) struct TileStatistics {
    max: Vec<f32>,
    sum: Vec<f32>,
    target: Vec<f32>,
}

impl TileStatistics {
    pub(crate) fn new(tokens: usize) -> Self {
        TileStatistics { max: vec![0.0; tokens], sum: vec![0.0; tokens], target: vec![0.0; tokens] }
    }

    /// Takes those of `logits`, whose first row is row `first` of the vocabulary, and replaces each by
    /// e^(logit − largest).
    pub(crate) fn take(&mut self, logits: &mut [f32], first: usize, targets: &[u32]) {
        self.target.fill(0.0);
        each_target(logits, first, targets, |t, logit| self.target[t] = *logit);
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        simd::column_max(logits, &mut self.max);
        simd::column_exp(logits, &self.max, &mut self.sum);
    }

    /// Replaces what [`TileStatistics::take`] left by weight·(softmax − onehot), the cotangents of the
    /// logits when each token's loss counts its weight; with a cap, by those of the logits before it.
    pub(crate) fn cotangents(
        &self,
        exponentials: &mut [f32],
        first: usize,
        targets: &[u32],
        weights: TokenWeights<'_>,
        (of, cap): (&Normaliser, Option<f32>),
    ) {
        if let Some(cap) = cap {
            self.uncap(exponentials, cap);
        }
        let scale: Vec<f32> = (self.max.iter().zip(&of.max).zip(&of.sum).enumerate())
            .map(|(t, ((&m, &max), sum))| (f64::from(weights.of(t)) * shift(m, max) / sum) as f32)
            .collect();
        simd::column_scale(exponentials, &scale);
        let slope = |logit: f32| cap.map_or(1.0, |cap| 1.0 - (logit / cap).powi(2));
        each_target(exponentials, first, targets, |t, value| {
            *value -= weights.of(t) * slope(self.target[t]);
        });
    }

    /// Multiplies by the derivative of c·tanh(l/c), which is 1 − (y/c)² where it is y: the logit, whose
    /// e^(logit − largest) is here.
    fn uncap(&self, exponentials: &mut [f32], cap: f32) {
        let mut slope = vec![0.0; self.max.len()];
        for row in exponentials.chunks_exact_mut(slope.len()) {
            slope.copy_from_slice(row);
            simd::log(&mut slope);
            simd::add(&mut slope, &self.max);
            simd::square(&mut slope);
            simd::affine(&mut slope, -1.0 / (cap * cap), 1.0);
            simd::mul(row, &slope);
        }
    }
}

/// Replaces the probabilities of a tile, whose first row is row `first` of the vocabulary, by weight·(p −
/// onehot), the cotangents of the logits when each token's loss counts its weight.
pub(crate) fn cotangents_of_probabilities(
    tile: &mut [f32],
    first: usize,
    targets: &[u32],
    weights: TokenWeights<'_>,
) {
    each_target(tile, first, targets, |_, p| *p -= 1.0);
    let scale: Vec<f32> = (0..targets.len()).map(|t| weights.of(t)).collect();
    simd::column_scale(tile, &scale);
}

/// e^(m − max)
fn shift(m: f32, max: f32) -> f64 {
    (f64::from(m) - f64::from(max)).exp()
}

/// Calls `f` with each token whose target is a row of the tile, and its element there.
fn each_target(
    tile: &mut [f32],
    first: usize,
    targets: &[u32],
    mut f: impl FnMut(usize, &mut f32),
) {
    let tokens = targets.len();
    for (t, &id) in targets.iter().enumerate() {
        let row = (id as usize).checked_sub(first);
        if let Some(element) = row.and_then(|row| tile.get_mut(row * tokens + t)) {
            f(t, element);
        }
    }
}

/// Of each token, over the vocabulary: the largest logit and the sum of e^(logit − largest).
#[derive(Debug)]
pub(crate) struct Normaliser {
    max: Vec<f32>,
    sum: Vec<f64>,
    losses: Vec<f64>,
}

impl Normaliser {
    pub(crate) fn new(tokens: usize) -> Self {
        Normaliser { max: vec![0.0; tokens], sum: vec![0.0; tokens], losses: vec![0.0; tokens] }
    }

    /// −ln softmax(logits) at the target of each token, in nats, as last combined.
    pub(crate) fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Takes the tiles together, in their order.
    pub(crate) fn combine<'a>(&mut self, tiles: impl Iterator<Item = &'a TileStatistics> + Clone) {
        self.max.fill(f32::NEG_INFINITY);
        tiles.clone().for_each(|tile| simd::max(&mut self.max, &tile.max));
        self.sum.fill(0.0);
        let mut target = vec![0.0f32; self.max.len()];
        for tile in tiles {
            simd::add(&mut target, &tile.target);
            for (((sum, &max), &s), &m) in
                self.sum.iter_mut().zip(&self.max).zip(&tile.sum).zip(&tile.max)
            {
                *sum += f64::from(s) * shift(m, max);
            }
        }
        for (((loss, sum), &max), &target) in
            self.losses.iter_mut().zip(&self.sum).zip(&self.max).zip(&target)
        {
            *loss = sum.ln() + f64::from(max) - f64::from(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_f64() {
        [None, Some(15.0)].into_iter().for_each(agrees);
    }

    /// Logits are given as the cap leaves them.
    fn agrees(cap: Option<f32>) {
        let (vocab, tokens) = (37, 5);
        let weights = [3.0f32, 0.0, -1.5, 1.0, 3.0];
        let logits: Vec<f32> =
            (0..vocab * tokens).map(|i| ((i * 7919) % 113) as f32 / 11.0 - 5.0).collect();
        let targets = [0u32, 36, 5, 5, 17];
        for rows in [vocab, 20, 5, 1] {
            let mut got = logits.clone();
            let mut tiles = vec![TileStatistics::new(tokens); vocab.div_ceil(rows)];
            let parts = |got: &mut [f32], f: &mut dyn FnMut(usize, &mut [f32])| {
                got.chunks_mut(rows * tokens).enumerate().for_each(|(i, tile)| f(i, tile));
            };
            parts(&mut got, &mut |i, tile| tiles[i].take(tile, i * rows, &targets));
            let mut normaliser = Normaliser::new(tokens);
            normaliser.combine(tiles.iter());
            let loss = normaliser.losses().iter().sum::<f64>() / tokens as f64;
            parts(&mut got, &mut |i, tile| {
                let each = TokenWeights::Each(&weights);
                tiles[i].cotangents(tile, i * rows, &targets, each, (&normaliser, cap));
            });
            let mut expected = 0.0;
            for ((t, &target), weight) in targets.iter().enumerate().zip(weights) {
                let column: Vec<f64> =
                    (0..vocab).map(|v| f64::from(logits[v * tokens + t])).collect();
                let sum: f64 = column.iter().map(|l| l.exp()).sum();
                expected += (sum.ln() - column[target as usize]) / tokens as f64;
                for (v, l) in column.iter().enumerate() {
                    let one = f64::from(u8::from(v == target as usize));
                    let slope = cap.map_or(1.0, |cap| 1.0 - (l / f64::from(cap)).powi(2));
                    let want = f64::from(weight) * (l.exp() / sum - one) * slope;
                    // A few roundings of values up to `weight`.
                    let bound = 8.0 * 3.0 * 2f64.powi(-24);
                    assert!((f64::from(got[v * tokens + t]) - want).abs() < bound, "{rows}");
                }
            }
            assert!((loss - expected).abs() < 1e-6 * expected, "{loss} {expected}");
        }
    }
}
