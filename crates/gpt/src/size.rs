//! How large a model is, and what a step of it takes: parameters by kind, operations of a token, memory.

use crate::block::Memory;
use crate::config::GptConfig;
use crate::declare::Group;
use crate::head::tokens_at_once;
use crate::ops::Dims;
use crate::params::Layout;
use crate::plan::{Plan, PlanError, Schedule};

/// Parameters of a model by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterCounts {
    /// Token embedding, which may be the classifier too, and learned positions.
    pub embedding: usize,
    /// A classifier of its own.
    pub classifier: usize,
    /// Tables of value embeddings.
    pub value_embeddings: usize,
    /// Matrices of the layers.
    pub matrices: usize,
    /// Gains, biases, gates of smear and factors of streams.
    pub scalars: usize,
}

impl ParameterCounts {
    /// Counts those of `config`.
    pub fn new(config: &GptConfig) -> Self {
        let mut counts = ParameterCounts::default();
        for param in Layout::new(config).params() {
            *counts.of(param.group) += param.count();
        }
        counts
    }

    fn of(&mut self, group: Group) -> &mut usize {
        match group {
            Group::Embedding => &mut self.embedding,
            Group::Classifier => &mut self.classifier,
            Group::ValueEmbedding => &mut self.value_embeddings,
            Group::Matrix => &mut self.matrices,
            Group::Vector | Group::ResidualScale | Group::SkipScale | Group::Smear => {
                &mut self.scalars
            }
        }
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.parts().iter().map(|(_, count)| count).sum()
    }

    /// Names and counts.
    pub fn parts(&self) -> [(&'static str, usize); 5] {
        [
            ("embedding", self.embedding),
            ("classifier", self.classifier),
            ("value_embeddings", self.value_embeddings),
            ("matrices", self.matrices),
            ("scalars", self.scalars),
        ]
    }

    /// The weights by which the length of a run is chosen, N: the matrices of the layers and the classifier
    /// (the embedding, where that is the classifier).
    pub fn scaling(&self) -> usize {
        self.matrices + if self.classifier > 0 { self.classifier } else { self.embedding }
    }
}

impl GptConfig {
    /// Floating-point operations of training on one token of a sequence of `seq`, by nanochat's rule: 6 for
    /// each weight of a product (forward, and backward to inputs and weights), and 12 per channel of a query
    /// for each token that it attends to, causality aside.
    pub fn flops_per_token(&self, seq: usize) -> f64 {
        let weights = ParameterCounts::new(self).scaling() + self.nanochat.smear_channels;
        // A window holds the token itself, which the rule leaves out.
        let before = |layer| self.window(layer).map_or(seq, |window| (window - 1).min(seq));
        let attended: usize = (0..self.n_layer).map(before).sum();
        6.0 * weights as f64 + 12.0 * (self.q_dim() * attended) as f64
    }
}

/// Memory of a model in training, in bytes, the optimizer's state left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepMemory {
    /// Master weights.
    pub weights: f64,
    /// Their gradients.
    pub gradients: f64,
    /// Arrays of the host: the stream before each block, looked-up rows, gradients of both, and the logits that exist at once.
    pub activations: f64,
    /// Surfaces: the device's weights, saved values and gradients.
    pub surfaces: f64,
}

impl StepMemory {
    /// What `plan` needs for micro-batches of `dims`. With `uniform`, surfaces of a request have the size of the
    /// largest, as an engine demands; an emulator's have their own.
    ///
    /// # Errors
    /// When the programs of the model cannot be derived.
    pub fn new(plan: &Plan, dims: &Dims<'_>, uniform: bool) -> Result<Self, PlanError> {
        let schedule = Schedule::new(plan, dims, Memory::Sequence)?;
        let [vocab, width, tokens] = schedule.head;
        // The head keeps its input and the cotangent of that, too.
        let streams = (schedule.arrays.iter().sum::<usize>() + 2 * width) * tokens;
        let logits = vocab * tokens_at_once(tokens);
        let weights = 4.0 * Layout::new(dims.config).count() as f64;
        let surfaces = match uniform {
            true => schedule.allocations().iter().sum::<usize>() as f64,
            false => schedule.values.iter().map(|value| value.ty.bytes() as f64).sum(),
        };
        let activations = 4.0 * (streams + logits) as f64;
        Ok(StepMemory { weights, gradients: weights, activations, surfaces })
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        self.weights + self.gradients + self.activations + self.surfaces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Edition;
    use crate::family::Depth;
    use crate::plan::BASELINE;
    use mil::DType;

    /// Depth, N, operations of a token in sequences of 2048 to the digits that are published.
    const JULY: [(usize, usize, f64, f64); 11] = [
        (2, 4_587_532, 3.146e7, 5e3),
        (4, 11_534_384, 8.022e7, 5e3),
        (6, 23_199_852, 1.675e8, 5e4),
        (8, 41_943_232, 2.957e8, 5e4),
        (10, 70_123_820, 4.955e8, 5e4),
        (12, 110_100_912, 7.597e8, 5e4),
        (16, 234_881_792, 1_585_451_664.0, 0.5),
        (20, 435_160_240, 2.886e9, 5e5),
        (24, 729_810_624, 4.775e9, 5e5),
        (26, 918_423_532, 5.991e9, 5e5),
        (32, 1_677_724_672, 1.077e10, 5e6),
    ];

    #[test]
    fn depths_have_their_weights_and_operations() {
        for (depth, scaling, flops, digits) in JULY {
            let config = Depth::new(Edition::July2026, depth).config();
            assert_eq!(ParameterCounts::new(&config).scaling(), scaling, "d{depth}");
            let got = config.flops_per_token(2048);
            assert!((got - flops).abs() <= digits, "d{depth}: {got}");
        }
    }

    /// Gates of 32 channels, no smear, windows of half the length: d2 by hand.
    #[test]
    fn february_counts_its_own_gates_and_windows() {
        let config = Depth::new(Edition::February2026, 2).config();
        let weights = 12 * 128 * 128 * 2 + 32 + 32_768 * 128;
        let counts = ParameterCounts::new(&config);
        assert_eq!((counts.scaling(), counts.scalars), (weights, 4));
        let attention = 12 * 128 * (1024 + 2048);
        assert_eq!(config.flops_per_token(2048), (6 * weights + attention) as f64);
    }

    #[test]
    fn a_tied_embedding_counts_as_classifier() {
        let config = GptConfig::preset("tiny").unwrap();
        let counts = ParameterCounts::new(&config);
        assert_eq!(counts.total(), Layout::new(&config).count());
        assert_eq!((counts.classifier, counts.value_embeddings), (0, 0));
        assert_eq!(counts.scaling(), counts.matrices + config.vocab_size * config.n_embd);
    }

    /// Without value embeddings, their rows, the gradients of those and their products with gates are gone.
    #[test]
    fn memory_counts_the_rows_of_value_embeddings() {
        let mut config = Depth { vocab_size: 64, ..Depth::new(Edition::July2026, 2) }.config();
        let (batch, seq) = (2, 32);
        let of = |config: &GptConfig, uniform| {
            let dims = Dims { config, batch, seq, dtype: DType::Fp16 };
            StepMemory::new(&BASELINE, &dims, uniform).unwrap()
        };
        let with = of(&config, false);
        assert!(of(&config, true).surfaces > with.surfaces);
        config.nanochat.value_embeds = false;
        let without = of(&config, false);
        let rows = (4 * config.kv_dim() * batch * seq) as f64;
        assert!(with.activations >= without.activations + 2.0 * rows, "{with:?} {without:?}");
        assert_eq!(with.weights - without.weights, (4 * (64 * 128 + 12)) as f64);
    }
}
