//! What a configuration tells with the help of its family: presets, kinds of layers, words.

use super::Family;
use crate::config::{ConfigError, FeedForward, GptConfig, Norm};
use std::fmt;

/// The smallest preset, to be changed.
impl Default for GptConfig {
    fn default() -> Self {
        Self::preset("tiny").expect("the first preset")
    }
}

impl GptConfig {
    /// The family.
    pub fn family(&self) -> Family {
        Family::named(self.family.0).expect("names are those of the table")
    }

    /// The kind of `layer`: the first layer with the same formulas.
    pub fn kind(&self, layer: usize) -> usize {
        self.family().kind(self, layer)
    }

    /// Names of the presets of all families.
    pub fn presets() -> impl Iterator<Item = String> {
        Family::all().flat_map(|family| family.presets()).map(|(name, _)| name)
    }

    /// The preset called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        Family::all().find_map(|family| family.preset(name)).ok_or_else(|| {
            let known: Vec<_> = Self::presets().collect();
            ConfigError::Preset { name: name.to_owned(), known: known.join(", ") }
        })
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
        )?;
        // What a model of its family does not have.
        let usual = self.family().presets().into_iter().next().map(|(_, config)| config);
        let usual = usual.as_ref();
        if usual.is_none_or(|usual| usual.norm != self.norm) {
            let name = match self.norm {
                Norm::Rms => "RMS",
                Norm::Layer => "layer",
                Norm::Plain => "plain RMS",
            };
            write!(f, ", {name} norm")?;
        }
        if usual.is_none_or(|usual| usual.feed_forward != self.feed_forward) {
            let name = match self.feed_forward {
                FeedForward::SwiGlu => "SwiGLU",
                FeedForward::Gelu => "GELU",
                FeedForward::Relu2 => "relu²",
            };
            write!(f, ", {name}")?;
        }
        if usual.is_some_and(|usual| usual.nanochat.value_embeds) && !self.nanochat.value_embeds {
            write!(f, ", no value embeddings")?;
        }
        if !self.no_rope.is_empty() {
            write!(f, ", no rotation in layers {:?}", self.no_rope)?;
        }
        if !self.windows.is_empty() {
            write!(f, ", windows {:?}", self.windows)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_models() {
        for name in GptConfig::presets() {
            GptConfig::preset(&name).unwrap().validate().unwrap();
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
}
