//! The shape of a model and its limits. Presets, and what depends on the family, are in
//! [`crate::family`].

use crate::declare::Block;
use serde::{Deserialize, Serialize};

/// Shape of a model: a family, its extents, and what its blocks are made of. Every block is
/// x + f(norm(x)); f is causal attention in one half of a layer and a feed-forward network in the other.
/// What mixes streams around them, only models of nanochat have.
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
    /// What models of the family nanochat have and no others do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nanochat: Nanochat,
}

/// What models of the family nanochat have and no others do; by default none of it.
///
/// u is the first stream, n the input of a layer's attention after its norm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nanochat {
    /// True if rotation is by the negative angle.
    pub rope_reversed: bool,
    /// Queries and keys are normalised per head after their rotation, without gains, and multiplied by
    /// this; not if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qk_scale: Option<f64>,
    /// Logits l become c·tanh(l/c) with this c; not if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f64>,
    /// Tables of tokens have a multiple of this number of rows; those beyond the vocabulary are never used.
    pub vocab_multiple: usize,
    /// True if rows looked up by token are added to the values of every second layer, the last among
    /// them, each head's by the factor `gate_scale`·sigmoid(Wg·n), of which Wg reads the first
    /// `gate_channels` channels.
    pub value_embeds: bool,
    /// Channels that the gates of value embeddings read.
    pub gate_channels: usize,
    /// The largest factor of value embeddings.
    pub gate_scale: f64,
    /// True if the embedding is normalised, without a gain.
    pub embedding_norm: bool,
    /// u of token t becomes u_t + λ·sigmoid(Ws·u_t)·u_(t−1), of which Ws reads this number of the first
    /// channels; 0 switches it off.
    pub smear_channels: usize,
    /// True if each layer begins with a·x + b·u in place of the stream x, with factors a and b of its own.
    pub residual_scales: bool,
    /// True if λ times the stream after the layer in the middle (`n_layer` / 2, from 0) is subtracted
    /// from the last stream.
    pub backout: bool,
    /// The initial values.
    pub initial: Edition,
}

impl Default for Nanochat {
    fn default() -> Self {
        Nanochat {
            rope_reversed: false,
            qk_scale: None,
            softcap: None,
            vocab_multiple: 1,
            value_embeds: false,
            gate_channels: 0,
            gate_scale: 0.0,
            embedding_norm: false,
            smear_channels: 0,
            residual_scales: false,
            backout: false,
            initial: Edition::July2026,
        }
    }
}

/// A state of nanochat's model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edition {
    /// That of February 2026 (commit c7ba252).
    #[serde(rename = "2026-02")]
    February2026,
    /// That of July 2026 (commit 92d63d4).
    #[default]
    #[serde(rename = "2026-07")]
    July2026,
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
    /// RMSNorm without a gain.
    Plain,
}

impl Norm {
    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Norm::Rms => "rms",
            Norm::Layer => "layer",
            Norm::Plain => "plain",
        }
    }
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
    /// W2·relu(W1·x)² (So et al. 2021).
    Relu2,
}

impl FeedForward {
    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            FeedForward::SwiGlu => "swiglu",
            FeedForward::Gelu => "gelu",
            FeedForward::Relu2 => "relu2",
        }
    }
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
        self.validate_nanochat()
    }

    fn validate_nanochat(&self) -> Result<(), ConfigError> {
        let n = &self.nanochat;
        let fault = |field, value: String, rule| Err(ConfigError::Field { field, value, rule });
        if *n != Nanochat::default() && self.family.name() != "nanochat" {
            let (field, rule) = ("family", "only models of nanochat have what `nanochat` says");
            return fault(field, self.family.name().to_owned(), rule);
        }
        let channels = [("smear_channels", n.smear_channels), ("gate_channels", n.gate_channels)];
        if let Some((field, value)) = channels.into_iter().find(|(_, n)| *n > self.n_embd) {
            return fault(field, value.to_string(), "it must not be above n_embd");
        }
        if n.value_embeds && n.gate_channels == 0 {
            return fault("gate_channels", "0".to_owned(), "gates of value embeddings read some");
        }
        if n.vocab_multiple == 0 || n.vocab_multiple > 1 << 16 {
            let rule = "it must be between 1 and 65536";
            return fault("vocab_multiple", n.vocab_multiple.to_string(), rule);
        }
        // Beyond 40, e^(−2c) is no normal number of single precision.
        let factors = [
            ("gate_scale", n.value_embeds.then_some(n.gate_scale), f64::MAX),
            ("qk_scale", n.qk_scale, f64::MAX),
            ("softcap", n.softcap, 40.0),
        ];
        for (field, value, most) in factors {
            if let Some(value) = value.filter(|value| !(*value > 0.0 && *value <= most)) {
                let rule = match field {
                    "softcap" => "it must be above 0 and at most 40",
                    _ => "it must be a number above 0",
                };
                return fault(field, value.to_string(), rule);
            }
        }
        Ok(())
    }

    /// Rows of tables of tokens: the vocabulary, filled up to `vocab_multiple`.
    pub fn vocab_rows(&self) -> usize {
        self.vocab_size.next_multiple_of(self.nanochat.vocab_multiple)
    }

    /// True if rows looked up by token are added to the values of `layer`: every second layer, the last
    /// among them.
    pub fn embeds_values(&self, layer: usize) -> bool {
        self.nanochat.value_embeds && (self.n_layer - 1 - layer).is_multiple_of(2)
    }

    /// True if the model has what `block` says, for blocks that mix streams.
    pub fn mixes(&self, block: Block) -> bool {
        let n = &self.nanochat;
        match block {
            Block::Embedding => n.embedding_norm || n.smear_channels > 0,
            Block::Mix => n.residual_scales,
            Block::Backout => n.backout,
            Block::Attention
            | Block::FeedForward
            | Block::Layers
            | Block::Head
            | Block::Classifier => false,
        }
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
        check(|c| c.nanochat.backout = true, "`family` is llama: only models of nanochat");
    }

    #[test]
    fn faults_of_nanochat_name_the_field() {
        let good = GptConfig::preset("nanochat-d4").unwrap();
        let check = |change: fn(&mut Nanochat), expected: &str| {
            let mut config = good.clone();
            change(&mut config.nanochat);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|n| n.smear_channels = 257, "`smear_channels` is 257: it must not be above n_embd");
        check(|n| n.gate_channels = 0, "`gate_channels` is 0");
        check(|n| n.vocab_multiple = 0, "`vocab_multiple` is 0");
        check(|n| n.gate_scale = f64::NAN, "`gate_scale` is NaN");
        check(|n| n.qk_scale = Some(0.0), "`qk_scale` is 0");
        check(|n| n.softcap = Some(41.0), "`softcap` is 41: it must be above 0 and at most 40");
    }
}
