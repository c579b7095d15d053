//! The shape of a model and its limits. Presets, and what depends on the family, are in
//! [`crate::family`].

use serde::{Deserialize, Serialize};

/// Shape of a model: a family, its extents, and what its blocks are made of. Every block is
/// x + f(norm(x)); f is causal attention in one half of a layer and a feed-forward network in the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptConfig {
    /// Whose names, initial values and defaults it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub family: FamilyName,
    /// Number of layers.
    pub n_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; a divisor of `n_head`.
    pub n_kv_head: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of one head; even where `rope_theta` is set.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub hidden: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest sequence.
    pub seq_len: usize,
    /// Base of the rotary frequencies; none switches rotary embedding off (as the seed does).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// Layers without rotary embedding, where the others have it (SmolLM3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_rope: Vec<usize>,
    /// True if a learned vector per position is added to the embedding.
    #[serde(default, skip_serializing_if = "is_default")]
    pub learned_positions: bool,
    /// How the input of a block is normalised.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm: Norm,
    /// Added to the mean square (or the variance) in the norms.
    pub norm_eps: f64,
    /// The feed-forward network.
    #[serde(default, skip_serializing_if = "is_default")]
    pub feed_forward: FeedForward,
    /// True if every projection of a block adds a bias.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bias: bool,
    /// True if the classifier is the embedding.
    pub tied: bool,
    /// True if queries and keys are normalised per head (Qwen3).
    #[serde(default)]
    pub qk_norm: bool,
    /// Sliding windows: layer i attends to the nearest `windows[i % len]` tokens, itself included; 0 is
    /// all of them, as is an empty list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<usize>,
}

/// Name of a family: a row of the table in [`crate::family`], where names are read and resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyName(pub(crate) &'static str);

impl FamilyName {
    /// The name.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// How the input of a block is normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// RMSNorm: by the root mean square, with a gain (Zhang and Sennrich 2019).
    #[default]
    Rms,
    /// LayerNorm: by mean and standard deviation, with a gain and a bias (Ba et al. 2016).
    Layer,
}

/// The feed-forward network of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedForward {
    /// W2·(silu(W1·x)·(W3·x)) (Shazeer 2020).
    #[default]
    SwiGlu,
    /// W2·gelu(W1·x) with the tanh form of GELU.
    Gelu,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A shape that cannot be a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number is out of range.
    #[error("`{field}` is {value}: {rule}")]
    Field {
        /// Name in the file.
        field: &'static str,
        /// The value given.
        value: String,
        /// The allowed values.
        rule: &'static str,
    },
    /// There is no such preset.
    #[error("there is no preset `{name}`; use one of {known}, or --config FILE.toml")]
    Preset {
        /// The name asked for.
        name: String,
        /// The known names.
        known: String,
    },
}

impl GptConfig {
    /// Checks that the numbers make a model and that its tensors can be counted.
    ///
    /// # Errors
    /// The first number that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let field = |field, value: usize, rule| {
            Err(ConfigError::Field { field, value: value.to_string(), rule })
        };
        for (name, value, most) in [
            ("n_layer", self.n_layer, 1 << 12),
            ("n_head", self.n_head, 1 << 12),
            ("n_kv_head", self.n_kv_head, 1 << 12),
            ("n_embd", self.n_embd, 1 << 16),
            ("head_dim", self.head_dim, 1 << 12),
            ("hidden", self.hidden, 1 << 18),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("seq_len", self.seq_len, 1 << 20),
        ] {
            if value == 0 {
                return field(name, value, "it must be at least 1");
            }
            if value > most {
                return field(name, value, "it is larger than any model this program can hold");
            }
        }
        if !self.n_head.is_multiple_of(self.n_kv_head) {
            return field("n_kv_head", self.n_kv_head, "it must divide n_head");
        }
        if self.rope_theta.is_some() && !self.head_dim.is_multiple_of(2) {
            return field("head_dim", self.head_dim, "rotary embedding needs an even width");
        }
        if let Some(theta) = self.rope_theta
            && !(theta.is_finite() && theta > 1.0)
        {
            let (field, rule) = ("rope_theta", "it must be a number above 1");
            return Err(ConfigError::Field { field, value: theta.to_string(), rule });
        }
        if self.rope_theta.is_some() && self.learned_positions {
            let (field, rule) =
                ("learned_positions", "a model has either these or rotary embedding (rope_theta)");
            return Err(ConfigError::Field { field, value: "true".to_owned(), rule });
        }
        if let Some(&layer) = self.no_rope.iter().find(|&&layer| layer >= self.n_layer) {
            return field("no_rope", layer, "it must list layers, which count from 0");
        }
        if self.windows.len() > self.n_layer {
            return field("windows", self.windows.len(), "it must not list more than the layers");
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            let (field, rule) = ("norm_eps", "it must be between 0 and 1");
            return Err(ConfigError::Field { field, value: self.norm_eps.to_string(), rule });
        }
        Ok(())
    }

    /// Width of all query heads.
    pub fn q_dim(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Width of all key (or value) heads.
    pub fn kv_dim(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// True if `layer` rotates its queries and keys by their positions.
    pub fn rotates(&self, layer: usize) -> bool {
        self.rope_theta.is_some() && !self.no_rope.contains(&layer)
    }

    /// The tokens that `layer` attends to, if not all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let window = self.windows.get(layer % self.windows.len().max(1)).copied();
        window.filter(|&window| window > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_field() {
        let good = GptConfig::preset("tiny").unwrap();
        let check = |change: fn(&mut GptConfig), expected: &str| {
            let mut config = good.clone();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|c| c.n_layer = 0, "`n_layer` is 0");
        check(|c| c.n_kv_head = 3, "must divide n_head");
        check(|c| c.head_dim = 33, "even width");
        check(|c| c.vocab_size = usize::MAX, "larger than any model");
        check(|c| c.norm_eps = f64::NAN, "norm_eps");
        check(|c| c.rope_theta = Some(0.0), "rope_theta");
        check(|c| c.learned_positions = true, "either these or rotary");
        check(|c| c.no_rope = vec![1, 4], "`no_rope` is 4: it must list layers");
        check(|c| c.windows = vec![8; 5], "`windows` is 5");
    }
}
