//! Families: whose model a configuration is.
//!
//! A family is one file and one row of the table `FAMILIES`. It says what its parameters are called in its own
//! checkpoints, which presets there are, and, where they are not the common ones, what the parameters and
//! the formulas of its blocks are.

mod gpt2;
mod llama;
mod nanochat;
mod shape;

pub use nanochat::Depth;

use crate::block::{self, Attention, Memory, Scope};
use crate::config::{FamilyName, GptConfig};
use crate::declare::{Block, Declared, Tensor};
use crate::ops::Dims;
use mil::{Builder, Tensor as Value, TensorType};
use serde::{Deserialize, Serialize};
use std::fmt;

/// All families; the first is the default.
static FAMILIES: &[&dyn Architecture] = &[&llama::Llama, &gpt2::Gpt2, &nanochat::Nanochat];

/// The definition of a family's models.
pub trait Architecture: Sync {
    /// Its name in configurations.
    fn name(&self) -> &'static str;

    /// Names and shapes of its presets; the first is typical of the family.
    fn presets(&self) -> Vec<(String, GptConfig)>;

    /// The preset called `name`, which need not be listed.
    fn preset(&self, name: &str) -> Option<GptConfig> {
        self.presets().into_iter().find(|(known, _)| known == name).map(|(_, config)| config)
    }

    /// Where the parameter of port `port` (of `layer`, where it belongs to one) lies in a checkpoint.
    fn tensor(&self, port: &str, layer: Option<usize>) -> Tensor;

    /// The parameters, in the order of the arena.
    fn parameters(&self, config: &GptConfig) -> Vec<Declared> {
        block::parameters(config)
    }

    /// The kind of `layer`: the first layer with the same formulas. Layers of one kind share programs.
    fn kind(&self, config: &GptConfig, layer: usize) -> usize {
        let of = |layer| (config.rotates(layer), config.embeds_values(layer));
        let alike = |other: &usize| of(*other) == of(layer);
        (0..layer).find(alike).unwrap_or(layer)
    }

    /// Attention with its norm: what it adds to the stream `x` [1, D, 1, T].
    fn attention<'b>(&self, scope: &Scope<'b, '_>, x: Value<'b>, memory: Memory) -> Attention<'b> {
        block::attention(scope, x, memory)
    }

    /// The feed-forward network with its norm: what it adds to the stream `x` [1, D, 1, T].
    fn feed_forward<'b>(&self, scope: &Scope<'b, '_>, x: Value<'b>) -> Value<'b> {
        block::feed_forward(scope, x)
    }

    /// The stream that `block` makes of the stream `x` and of another one, `earlier`, [1, D, 1, T] both; see
    /// [`block::mixture`]. It is asked only if the model [mixes](GptConfig::mixes) streams there.
    fn mixture<'b>(
        &self,
        scope: &Scope<'b, '_>,
        block: Block,
        x: Value<'b>,
        earlier: Value<'b>,
    ) -> Value<'b> {
        block::mixture(scope, block, x, earlier)
    }

    /// The stream `x` [1, D, 1, T] as the classifier takes it.
    fn last_norm<'b>(&self, scope: &Scope<'b, '_>, x: Value<'b>) -> Value<'b> {
        block::last_norm(scope, x)
    }
}

/// A family by its name.
#[derive(Clone, Copy)]
pub struct Family(&'static dyn Architecture);

impl Family {
    /// All families.
    pub fn all() -> impl Iterator<Item = Family> {
        FAMILIES.iter().map(|&family| Family(family))
    }

    /// The family called `name`.
    pub fn named(name: &str) -> Option<Family> {
        Family::all().find(|family| family.name() == name)
    }

    /// Begins a block of a layer: its stream, its parameters, and the inputs `others`.
    pub fn scope<'b, 'd>(
        self,
        builder: &'b Builder,
        dims: &'d Dims<'d>,
        (block, layer): (Block, usize),
        stream: &str,
        others: &[(&str, TensorType)],
    ) -> Scope<'b, 'd> {
        let mut parameters = self.parameters(dims.config);
        // The host looks up rows of tables: no program reads one.
        parameters.retain(|p| {
            p.block == block && p.layer.is_none_or(|l| l == layer) && !p.group.is_table()
        });
        Scope::new(builder, dims, layer, stream, &parameters, others)
    }

    /// As [`Family::scope`], with those parameters of the block that its norm has.
    pub(crate) fn norm_scope<'b, 'd>(
        self,
        builder: &'b Builder,
        dims: &'d Dims<'d>,
        (block, layer): (Block, usize),
        stream: &str,
        others: &[(&str, TensorType)],
    ) -> Scope<'b, 'd> {
        let mut parameters = self.parameters(dims.config);
        let ports = block::norm_ports(dims.config.norm, block);
        parameters.retain(|p| {
            ports.contains(&p.port) && p.block == block && p.layer.is_none_or(|l| l == layer)
        });
        Scope::new(builder, dims, layer, stream, &parameters, others)
    }

    /// Writes the attention block of a layer, whose stream is x.
    pub fn attention_block<'b>(
        self,
        builder: &'b Builder,
        dims: &Dims<'_>,
        layer: usize,
        memory: Memory,
    ) -> Attention<'b> {
        let tables = block::attention_tables(dims, layer, memory);
        let scope = self.scope(builder, dims, (Block::Attention, layer), "x", &tables);
        self.attention(&scope, scope.input("x"), memory)
    }

    /// Writes what mixes the streams x and earlier, before a layer or around all of them.
    pub fn mixing_block<'b>(
        self,
        builder: &'b Builder,
        dims: &Dims<'_>,
        (block, layer): (Block, usize),
    ) -> Value<'b> {
        let earlier = ("earlier", dims.activation(dims.config.n_embd));
        let scope = self.scope(builder, dims, (block, layer), "x", &[earlier]);
        self.mixture(&scope, block, scope.input("x"), scope.input("earlier")).named("mixed")
    }

    /// Writes the last norm, whose stream is x_last.
    pub fn last_norm_block<'b>(self, builder: &'b Builder, dims: &Dims<'_>) -> Value<'b> {
        let scope = self.scope(builder, dims, (Block::Head, 0), "x_last", &[]);
        self.last_norm(&scope, scope.input("x_last"))
    }

    /// Writes the feed-forward block of a layer, whose stream is x2.
    pub fn feed_forward_block<'b>(
        self,
        builder: &'b Builder,
        dims: &Dims<'_>,
        layer: usize,
    ) -> Value<'b> {
        let scope = self.scope(builder, dims, (Block::FeedForward, layer), "x2", &[]);
        self.feed_forward(&scope, scope.input("x2"))
    }
}

impl std::ops::Deref for Family {
    type Target = dyn Architecture;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl Default for Family {
    fn default() -> Self {
        Family(FAMILIES[0])
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Family> for FamilyName {
    fn from(family: Family) -> Self {
        FamilyName(family.name())
    }
}

/// That of the first family.
impl Default for FamilyName {
    fn default() -> Self {
        Family::default().into()
    }
}

impl Serialize for FamilyName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// A name that the table does not have is refused.
impl<'de> Deserialize<'de> for FamilyName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Family::named(&name).map(FamilyName::from).ok_or_else(|| {
            let known: Vec<_> = Family::all().map(|family| family.name()).collect();
            let known = known.join(", ");
            serde::de::Error::custom(format!("there is no family `{name}`; use one of {known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_name_their_family() {
        let read = |text: &str| toml::from_str::<GptConfig>(text);
        let gpt2 = GptConfig::preset("gpt2").unwrap();
        let text = toml::to_string(&gpt2).unwrap();
        assert!(text.contains("family = \"gpt2\""), "{text}");
        assert_eq!(read(&text).unwrap(), gpt2);
        assert_ne!(gpt2, GptConfig { family: FamilyName::default(), ..gpt2.clone() });
        let error = read(&text.replace("\"gpt2\"", "\"bert\"")).unwrap_err().to_string();
        assert!(error.contains("no family `bert`; use one of llama, gpt2, nanochat"), "{error}");
        let names: Vec<_> = Family::all().map(|family| format!("{family:?}")).collect();
        assert_eq!(names, ["llama", "gpt2", "nanochat"]);
    }
}
