//! The two blocks of a layer and the last norm, written forward once, with the parameters they take.
//!
//! Legend: B sequences of S tokens, T = B·S; D width of the residual stream, Q width of all query
//! heads, K width of all key heads, E width of a head, F width of the feed-forward network.
//! Activations are channel-first, [1, C, 1, T]; weights are [1, 1, out, in].
//!
//! The names that values get here are those that plans cut at ([`crate::plan`]): x, xnorm, q0, k0 (before
//! norm and rotation), q, k, v, probs, attn, o_out; x2, x2norm, h1, h3, gate, ffn_out; xf.

use crate::config::{FeedForward, GptConfig, Norm};
use crate::declare::{Block, Declared, Group, Init};
use crate::ops::{self, Dims};
use mil::{Builder, Tensor, TensorType};
use std::collections::BTreeMap;

/// A block being written: its builder, its extents, and its inputs by name.
#[derive(Debug)]
pub struct Scope<'b, 'd> {
    /// Extents.
    pub dims: &'d Dims<'d>,
    /// The first layer of the kind that is written ([`crate::family::Architecture::kind`]).
    pub layer: usize,
    builder: &'b Builder,
    inputs: BTreeMap<String, Tensor<'b>>,
}

impl<'b, 'd> Scope<'b, 'd> {
    /// Declares the stream `stream`, `parameters` (of `layer`, where layers have them), and what else the
    /// block reads.
    pub fn new(
        builder: &'b Builder,
        dims: &'d Dims<'d>,
        layer: usize,
        stream: &str,
        parameters: &[Declared],
        others: &[(&str, TensorType)],
    ) -> Self {
        let mut inputs = BTreeMap::new();
        let mut declare = |name: &str, ty| inputs.insert(name.to_owned(), builder.input(name, ty));
        declare(stream, dims.activation(dims.config.n_embd));
        for p in parameters {
            declare(p.port, dims.parameter(&p.shape));
        }
        for (name, ty) in others {
            declare(name, ty.clone());
        }
        Scope { dims, layer, builder, inputs }
    }

    /// The model.
    pub fn config(&self) -> &'d GptConfig {
        self.dims.config
    }

    /// An input, where the model has it.
    pub fn find(&self, name: &str) -> Option<Tensor<'b>> {
        self.inputs.get(name).copied()
    }

    /// An input.
    ///
    /// # Panics
    /// If the block does not have it.
    pub fn input(&self, name: &str) -> Tensor<'b> {
        self.find(name).unwrap_or_else(|| panic!("the block has an input `{name}`"))
    }

    /// W·x + b, or W·x where the model has no such bias.
    pub fn project(&self, weight: &str, bias: &str, x: Tensor<'b>) -> Tensor<'b> {
        let y = ops::project(self.input(weight), x);
        self.find(bias).map_or(y, |bias| y + bias)
    }

    /// The norm of the block, RMSNorm or LayerNorm.
    pub fn norm(&self, block: Block, x: Tensor<'b>) -> Tensor<'b> {
        let c = self.config();
        let [gain, bias] = norm_ports(c.norm, block).map(|port| self.find(port));
        let gain = gain.expect("a norm has a gain");
        match bias {
            None => ops::rms_norm(x, gain, c.norm_eps),
            Some(bias) => ops::layer_norm(x, gain, bias, c.norm_eps),
        }
    }
}

/// Ports of gain and bias of a block's norm; RMSNorm has no bias.
fn norm_ports(norm: Norm, block: Block) -> [&'static str; 2] {
    match (norm, block) {
        (Norm::Rms, Block::Attention) => ["rms1", ""],
        (Norm::Rms, Block::FeedForward) => ["rms2", ""],
        (Norm::Rms, _) => ["rms", ""],
        (Norm::Layer, Block::Attention) => ["ln1", "ln1_bias"],
        (Norm::Layer, Block::FeedForward) => ["ln2", "ln2_bias"],
        (Norm::Layer, _) => ["ln", "ln_bias"],
    }
}

/// The tokens that a block of attention reads besides its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing: queries of B sequences attend to the keys of their own.
    Sequence,
    /// Keys and values of `capacity` earlier tokens, the inputs kcache and vcache [1, K, 1, capacity].
    Cache {
        /// Tokens.
        capacity: usize,
    },
}

/// The results of attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'b> {
    /// The term added to the stream.
    pub out: Tensor<'b>,
    /// Keys of the block's own tokens, [1, K, 1, T].
    pub keys: Tensor<'b>,
    /// Their values, [1, K, 1, T].
    pub values: Tensor<'b>,
}

/// Wo·attend(q, k, v) with q, k, v projections of norm(x).
pub fn attention<'b>(s: &Scope<'b, '_>, x: Tensor<'b>, memory: Memory) -> Attention<'b> {
    let (c, batch) = (s.config(), s.dims.batch);
    let [q, k, v] = queries_keys_values(s, x);
    let [keys, values] = match memory {
        Memory::Sequence => [k, v],
        Memory::Cache { .. } => [("kcache", k), ("vcache", v)]
            .map(|(cache, new)| s.builder.concat(3, &[s.input(cache), new])),
    };
    let attn = ops::attend(c, batch, q, keys, values, s.input("mask")).named("attn");
    Attention { out: s.project("wo", "bo", attn).named("o_out"), keys: k, values: v }
}

/// Queries [1, Q, 1, T], keys and values [1, K, 1, T] of x.
fn queries_keys_values<'b>(s: &Scope<'b, '_>, x: Tensor<'b>) -> [Tensor<'b>; 3] {
    let c = s.config();
    let xnorm = s.norm(Block::Attention, x).named("xnorm");
    let (q0, k0) = (s.project("wq", "bq", xnorm), s.project("wk", "bk", xnorm));
    let v = s.project("wv", "bv", xnorm).named("v");
    let (mut q, mut k) = (q0, k0);
    if c.qk_norm {
        q = ops::head_norm(q, c.n_head, s.input("q_gain"), c.norm_eps);
        k = ops::head_norm(k, c.n_kv_head, s.input("k_gain"), c.norm_eps);
    }
    if let (Some(cos), Some(sin)) = (s.find("rope_cos"), s.find("rope_sin")) {
        q = ops::rotate(q, c.n_head, cos, sin);
        k = ops::rotate(k, c.n_kv_head, cos, sin);
    }
    if q.id() != q0.id() {
        q0.named("q0");
        k0.named("k0");
    }
    [q.named("q"), k.named("k"), v]
}

/// W2·(silu(W1·n)·(W3·n)) or W2·gelu(W1·n), with n = norm(x).
pub fn feed_forward<'b>(s: &Scope<'b, '_>, x: Tensor<'b>) -> Tensor<'b> {
    let n = s.norm(Block::FeedForward, x).named("x2norm");
    let h1 = s.project("w1", "b1", n).named("h1");
    let gate = match s.config().feed_forward {
        FeedForward::SwiGlu => {
            let h3 = s.project("w3", "b3", n).named("h3");
            h1 * h1.sigmoid() * h3
        }
        FeedForward::Gelu => ops::gelu_tanh(h1),
    };
    s.project("w2", "b2", gate.named("gate")).named("ffn_out")
}

/// The stream as the classifier takes it.
pub fn last_norm<'b>(s: &Scope<'b, '_>, x: Tensor<'b>) -> Tensor<'b> {
    s.norm(Block::Head, x).named("xf")
}

/// Inputs of the attention block that are not parameters.
pub(crate) fn attention_tables(
    dims: &Dims<'_>,
    layer: usize,
    memory: Memory,
) -> Vec<(&'static str, TensorType)> {
    let c = dims.config;
    let mut tables = vec![];
    if c.rotates(layer) {
        tables.extend([("rope_cos", dims.rope()), ("rope_sin", dims.rope())]);
    }
    let earlier = match memory {
        Memory::Sequence => 0,
        Memory::Cache { capacity } => {
            let cache = TensorType::new(dims.dtype, [1, c.kv_dim(), 1, capacity]);
            tables.extend([("kcache", cache.clone()), ("vcache", cache)]);
            capacity
        }
    };
    let mask = TensorType::new(dims.dtype, [1, 1, dims.seq, earlier + dims.seq]);
    tables.push(("mask", mask));
    tables
}

/// The parameters of these blocks, in the order of the arena.
pub fn parameters(c: &GptConfig) -> Vec<Declared> {
    let (d, v) = (c.n_embd, c.vocab_size);
    let mut all = vec![Declared::table("embedding", Block::Embedding, [v, d])];
    if c.learned_positions {
        all.push(Declared::table("positions", Block::Embedding, [c.seq_len, d]));
    }
    for layer in 0..c.n_layer {
        all.extend(layer_parameters(c).into_iter().map(|p| Declared { layer: Some(layer), ..p }));
    }
    all.extend(norm_parameters(c, Block::Head).into_iter().flatten());
    if !c.tied {
        let table = Declared::table("classifier", Block::Head, [v, d]);
        all.push(Declared { group: Group::Classifier, ..table });
    }
    all
}

fn layer_parameters(c: &GptConfig) -> Vec<Declared> {
    use Block::{Attention, FeedForward as Network};
    let (d, q, k, f) = (c.n_embd, c.q_dim(), c.kv_dim(), c.hidden);
    // Projections that write to the stream begin smaller, so that its size does not grow with the layers
    // (GPT-2).
    let residual = 1.0 / (2.0 * c.n_layer as f32).sqrt();
    let project = |block, [weight, bias]: [&'static str; 2], shape, share| {
        let bias = Declared::vector(bias, block, shape, Init::Constant(0.0));
        [Some(Declared::matrix(weight, block, shape, share)), c.bias.then_some(bias)]
    };
    let gain = |port| Declared::vector(port, Attention, [c.head_dim, 1], Init::Constant(1.0));
    let gains = [c.qk_norm.then(|| gain("q_gain")), c.qk_norm.then(|| gain("k_gain"))];
    let up = project(Network, ["w3", "b3"], [f, d], 1.0);
    let up = if c.feed_forward == FeedForward::SwiGlu { up } else { [None, None] };
    [
        norm_parameters(c, Attention),
        project(Attention, ["wq", "bq"], [q, d], 1.0),
        project(Attention, ["wk", "bk"], [k, d], 1.0),
        project(Attention, ["wv", "bv"], [k, d], 1.0),
        gains,
        project(Attention, ["wo", "bo"], [d, q], residual),
        norm_parameters(c, Network),
        project(Network, ["w1", "b1"], [f, d], 1.0),
        up,
        project(Network, ["w2", "b2"], [d, f], residual),
    ]
    .into_iter()
    .flatten()
    .flatten()
    .collect()
}

fn norm_parameters(c: &GptConfig, block: Block) -> [Option<Declared>; 2] {
    let [gain, bias] = norm_ports(c.norm, block);
    let vector = |port, value| Declared::vector(port, block, [c.n_embd, 1], Init::Constant(value));
    [Some(vector(gain, 1.0)), (!bias.is_empty()).then(|| vector(bias, 0.0))]
}
