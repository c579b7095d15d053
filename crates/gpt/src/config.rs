//! The shape of a model, its presets and its limits.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Shape of a Llama-style GPT: RMSNorm before each block, grouped-query attention, rotary position
/// embedding, SwiGLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptConfig {
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
    /// Width of the feed-forward layer.
    pub hidden: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest sequence.
    pub seq_len: usize,
    /// Base of the rotary frequencies; none switches rotary embedding off (as the seed does).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f64,
    /// Whether the classifier is the embedding.
    pub tied: bool,
    /// Whether queries and keys are normalised per head (Qwen3).
    #[serde(default)]
    pub qk_norm: bool,
}

/// A shape that cannot be a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number is out of range.
    #[error("`{field}` is {value}: {rule}")]
    Field {
        /// Name in the file.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// There is no such preset.
    #[error("there is no preset `{name}`; use one of {known}, or --config FILE.toml")]
    Preset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

/// Name, n_layer, n_head, n_kv_head, n_embd, head_dim, hidden, vocab_size, seq_len.
type Row = (&'static str, usize, usize, usize, usize, usize, usize, usize, usize);

/// The stories models are those of llama2.c; Qwen3 is the published 0.6B model's shape.
const PRESETS: &[Row] = &[
    ("tiny", 4, 4, 4, 128, 32, 352, 2048, 256),
    ("stories260k", 5, 8, 4, 64, 8, 172, 512, 512),
    ("stories15m", 6, 6, 6, 288, 48, 768, 32000, 256),
    ("stories42m", 8, 8, 8, 512, 64, 1376, 32000, 1024),
    ("stories110m", 12, 12, 12, 768, 64, 2048, 32000, 1024),
    ("qwen3-0.6b", 28, 16, 8, 1024, 128, 3072, 151_936, 1024),
];

impl GptConfig {
    /// Names of the presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|row| row.0)
    }

    /// The preset called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        let Some(row) = PRESETS.iter().find(|row| row.0 == name) else {
            let known: Vec<_> = Self::presets().collect();
            return Err(ConfigError::Preset { name: name.to_owned(), known: known.join(", ") });
        };
        let &(_, n_layer, n_head, n_kv_head, n_embd, head_dim, hidden, vocab_size, seq_len) = row;
        let qwen = name.starts_with("qwen3");
        Ok(GptConfig {
            n_layer,
            n_head,
            n_kv_head,
            n_embd,
            head_dim,
            hidden,
            vocab_size,
            seq_len,
            rope_theta: Some(if qwen { 1e6 } else { 1e4 }),
            norm_eps: if qwen { 1e-6 } else { 1e-5 },
            tied: true,
            qk_norm: qwen,
        })
    }

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

    /// Floating-point operations of one forward and backward pass over `batch` sequences of `seq`
    /// tokens: 6 per weight and token (2 forward, 4 backward), and 12 per score (attention's two
    /// products forward, four backward, full square as the engine computes it).
    pub fn step_flops(&self, batch: usize, seq: usize) -> f64 {
        let layer = self.n_embd * (2 * self.q_dim() + 2 * self.kv_dim() + 3 * self.hidden);
        let weights = (self.n_layer * layer + self.vocab_size * self.n_embd) as f64;
        let scores = (self.n_layer * self.q_dim()) as f64 * (seq * seq) as f64;
        batch as f64 * (6.0 * weights * seq as f64 + 12.0 * scores)
    }
}

impl fmt::Display for GptConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |n: usize| if n == 1 { "" } else { "s" };
        write!(
            f,
            "{} layer{}, width {}, {} head{} ({} kv) of {}, hidden {}, vocabulary {}, sequence {}",
            self.n_layer,
            s(self.n_layer),
            self.n_embd,
            self.n_head,
            s(self.n_head),
            self.n_kv_head,
            self.head_dim,
            self.hidden,
            self.vocab_size,
            self.seq_len
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_models() {
        for name in GptConfig::presets() {
            GptConfig::preset(name).unwrap().validate().unwrap();
        }
        assert!(GptConfig::preset("huge").unwrap_err().to_string().contains("stories110m"));
    }

    #[test]
    fn one_layer_is_a_layer() {
        let tiny = GptConfig::preset("tiny").unwrap();
        assert!(tiny.to_string().starts_with("4 layers, width 128, 4 heads (4 kv)"), "{tiny}");
        let one = GptConfig { n_layer: 1, n_head: 1, n_kv_head: 1, ..tiny };
        assert!(one.to_string().starts_with("1 layer, width 128, 1 head (1 kv)"), "{one}");
    }

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
    }
}
