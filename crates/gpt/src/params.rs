//! The parameters of a model: one arena of f32, with a name and a shape for every part.

use crate::config::GptConfig;
use crate::normal::Normals;
use rayon::prelude::*;

/// Which tensor of the model a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding [V, D].
    Embedding,
    /// Gain of the attention block's norm `[D]`.
    AttentionNorm,
    /// Query projection [Q, D].
    Query,
    /// Key projection [K, D].
    Key,
    /// Value projection [K, D].
    Value,
    /// Gain of the queries' norm `[E]` (Qwen3).
    QueryNorm,
    /// Gain of the keys' norm `[E]` (Qwen3).
    KeyNorm,
    /// Output projection [D, Q].
    Output,
    /// Gain of the feed-forward block's norm `[D]`.
    FeedForwardNorm,
    /// Gate projection [F, D] (w1 of llama2.c).
    Gate,
    /// Up projection [F, D] (w3 of llama2.c).
    Up,
    /// Down projection [D, F] (w2 of llama2.c).
    Down,
    /// Gain of the last norm `[D]`.
    FinalNorm,
    /// Classifier [V, D], where it is not the embedding.
    Classifier,
}

/// One parameter: where it is in the arena and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name in a Hugging Face Llama checkpoint.
    pub name: String,
    /// Which tensor.
    pub role: Role,
    /// Layer, for those that belong to one.
    pub layer: Option<usize>,
    /// Extents, row-major.
    pub shape: Vec<usize>,
    /// First element in the arena.
    pub offset: usize,
}

impl Param {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements in the arena.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.count()
    }

    /// Whether weight decay applies: to matrices, not to gains.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// Names, shapes and places of all parameters of a configuration. Values, gradients and optimizer
/// moments all have this layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    params: Vec<Param>,
    count: usize,
}

impl Layout {
    /// The layout of `config`.
    pub fn new(config: &GptConfig) -> Self {
        let mut layout = Layout { params: vec![], count: 0 };
        let (d, v, f) = (config.n_embd, config.vocab_size, config.hidden);
        let (q, k) = (config.q_dim(), config.kv_dim());
        layout.push("model.embed_tokens", Role::Embedding, None, &[v, d]);
        for layer in 0..config.n_layer {
            let mut push = |name: &str, role, shape: &[usize]| {
                layout.push(&format!("model.layers.{layer}.{name}"), role, Some(layer), shape);
            };
            push("input_layernorm", Role::AttentionNorm, &[d]);
            push("self_attn.q_proj", Role::Query, &[q, d]);
            push("self_attn.k_proj", Role::Key, &[k, d]);
            push("self_attn.v_proj", Role::Value, &[k, d]);
            if config.qk_norm {
                push("self_attn.q_norm", Role::QueryNorm, &[config.head_dim]);
                push("self_attn.k_norm", Role::KeyNorm, &[config.head_dim]);
            }
            push("self_attn.o_proj", Role::Output, &[d, q]);
            push("post_attention_layernorm", Role::FeedForwardNorm, &[d]);
            push("mlp.gate_proj", Role::Gate, &[f, d]);
            push("mlp.up_proj", Role::Up, &[f, d]);
            push("mlp.down_proj", Role::Down, &[d, f]);
        }
        layout.push("model.norm", Role::FinalNorm, None, &[d]);
        if !config.tied {
            layout.push("lm_head", Role::Classifier, None, &[v, d]);
        }
        layout
    }

    fn push(&mut self, name: &str, role: Role, layer: Option<usize>, shape: &[usize]) {
        let param = Param {
            name: format!("{name}.weight"),
            role,
            layer,
            shape: shape.to_vec(),
            offset: self.count,
        };
        self.count += param.count();
        self.params.push(param);
    }

    /// All parameters in order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Number of elements of all parameters.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The parameter with `role` (of `layer`, where it belongs to one).
    pub fn find(&self, role: Role, layer: Option<usize>) -> Option<&Param> {
        self.params.iter().find(|p| p.role == role && p.layer == layer)
    }

    /// The classifier: its own parameter, or the embedding.
    pub fn classifier(&self) -> &Param {
        self.find(Role::Classifier, None)
            .or_else(|| self.find(Role::Embedding, None))
            .expect("every model has an embedding")
    }
}

/// Numbers of one task of [`initialise`]; even, since they are drawn in pairs.
const CHUNK: usize = 1 << 16;

/// Draws the initial values: normal with standard deviation 0.02, the projections that write to
/// the residual stream scaled by 1/√(2·n_layer) (GPT-2), gains 1.
pub fn initialise(config: &GptConfig, seed: u64) -> Vec<f32> {
    let layout = Layout::new(config);
    let mut values = vec![0.0; layout.count()];
    let residual = 1.0 / (2.0 * config.n_layer as f32).sqrt();
    // Each parameter has a stream of its own, and streams can be entered anywhere: all cores draw.
    let mut rest = &mut values[..];
    let mut parts = vec![];
    for param in layout.params() {
        let (part, tail) = std::mem::take(&mut rest).split_at_mut(param.range().len());
        parts.push((param, part));
        rest = tail;
    }
    parts.into_par_iter().enumerate().for_each(|(i, (param, part))| {
        if !param.decays() {
            part.fill(1.0);
            return;
        }
        let writes_residual = matches!(param.role, Role::Output | Role::Down);
        let deviation = 0.02 * if writes_residual { residual } else { 1.0 };
        let normals = Normals::new(seed, i as u64);
        part.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, part)| {
            normals.fill((chunk * CHUNK / 2) as u64, part);
            part.iter_mut().for_each(|v| *v *= deviation);
        });
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes() {
        // llama2.c's stories110M has 109.53 million parameters, Qwen3-0.6B 596.0 million without
        // its 28·2·128 query and key gains.
        let count = |name| Layout::new(&GptConfig::preset(name).unwrap()).count();
        assert_eq!(count("stories110m"), 109_529_856);
        assert_eq!(count("qwen3-0.6b") - 28 * 2 * 128, 596_042_752);
    }

    /// Parts that different cores draw are one stream.
    #[test]
    fn initial_values_do_not_depend_on_how_they_are_cut() {
        let config = GptConfig::preset("tiny").unwrap();
        let layout = Layout::new(&config);
        let values = initialise(&config, 7);
        let (index, largest) =
            layout.params().iter().enumerate().max_by_key(|(_, p)| p.count()).unwrap();
        assert!(largest.count() > 2 * CHUNK, "{} is cut", largest.name);
        let mut whole = vec![0.0; largest.count()];
        Normals::new(7, index as u64).fill(0, &mut whole);
        whole.iter_mut().for_each(|v| *v *= 0.02);
        assert!(values[largest.range()] == whole);
    }

    #[test]
    fn initial_values_have_the_stated_spread_and_depend_on_the_seed() {
        let config = GptConfig::preset("tiny").unwrap();
        let layout = Layout::new(&config);
        let values = initialise(&config, 7);
        assert_eq!(values, initialise(&config, 7));
        assert_ne!(values, initialise(&config, 8));
        for param in layout.params() {
            let part = &values[param.range()];
            let n = part.len() as f64;
            let mean = part.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let variance = part.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
            if !param.decays() {
                assert!(part.iter().all(|&v| v == 1.0));
                continue;
            }
            let residual = matches!(param.role, Role::Output | Role::Down);
            let deviation = if residual { 0.02 / 8f64.sqrt() } else { 0.02 };
            // Five standard errors of a mean and of a standard deviation.
            assert!(mean.abs() < 5.0 * deviation / n.sqrt(), "{}: {mean}", param.name);
            let spread = (variance.sqrt() / deviation - 1.0).abs();
            assert!(spread < 5.0 / (2.0 * n).sqrt(), "{}: {spread}", param.name);
        }
    }
}
