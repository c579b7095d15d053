//! The two blocks of a layer, the last norm, and what mixes streams around them, written forward once,
//! with the parameters they take.
//!
//! Legend: B sequences of S tokens, T = B·S; D width of the residual stream, Q width of all query
//! heads, K width of all key heads, E width of a head, F width of the feed-forward network.
//! Activations are channel-first, [1, C, 1, T]; weights are [1, 1, out, in].
//!
//! The names that values get here are those that plans cut at ([`crate::plan`]): x, xnorm, q0, k0 (before
//! norm and rotation), gated (added to the values), q, k, v, probs, attn, o_out; x2, x2norm, h1, h3, gate,
//! ffn_out; mixed; x_last, xf, raw (before the cap), logits, token_probs, d_logits.

use crate::config::{FeedForward, GptConfig, Norm};
use crate::declare::{Block, Declared, Group, Init};
use crate::ops::{self, Dims};
use mil::{Arg, Builder, Op, Tensor, TensorType};
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

    /// The norm of the block.
    pub fn norm(&self, block: Block, x: Tensor<'b>) -> Tensor<'b> {
        let eps = self.config().norm_eps;
        match norm_ports(self.config().norm, block).map(|port| self.find(port)) {
            [None, _] => ops::plain_norm(x, eps),
            [Some(gain), None] => ops::rms_norm(x, gain, eps),
            [Some(gain), Some(bias)] => ops::layer_norm(x, gain, bias, eps),
        }
    }
}

/// Ports of gain and bias of a block's norm, empty where it has none.
pub(crate) fn norm_ports(norm: Norm, block: Block) -> [&'static str; 2] {
    match (norm, block) {
        (Norm::Plain, _) => ["", ""],
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
    let v = s.project("wv", "bv", xnorm);
    let v = gated_values(s, x).map_or(v, |gated| v + gated).named("v");
    let (mut q, mut k) = (q0, k0);
    if c.qk_norm {
        q = ops::head_norm(q, c.n_head, s.input("q_gain"), c.norm_eps);
        k = ops::head_norm(k, c.n_kv_head, s.input("k_gain"), c.norm_eps);
    }
    if let (Some(cos), Some(sin)) = (s.find("rope_cos"), s.find("rope_sin")) {
        q = ops::rotate(q, c.n_head, cos, sin);
        k = ops::rotate(k, c.n_kv_head, cos, sin);
    }
    if let Some(scale) = c.nanochat.qk_scale {
        q = ops::scaled_head_norm(q, c.n_head, scale, c.norm_eps);
        k = ops::scaled_head_norm(k, c.n_kv_head, scale, c.norm_eps);
    }
    if q.id() != q0.id() {
        q0.named("q0");
        k0.named("k0");
    }
    [q.named("q"), k.named("k"), v]
}

/// What is added to the values [1, K, 1, T], where the layer has such rows: those looked up, each head's
/// times a gate that the stream opens. The norm is a second one of `x`: a plan may compute it elsewhere.
fn gated_values<'b>(s: &Scope<'b, '_>, x: Tensor<'b>) -> Option<Tensor<'b>> {
    let rows = s.find("values")?;
    let (c, tokens) = (s.config(), s.dims.tokens());
    let read = s.norm(Block::Attention, x).narrow(1, 0, c.nanochat.gate_channels);
    let gate = ops::project(s.input("value_gate"), read).sigmoid() * c.nanochat.gate_scale;
    let heads = rows.reshape(&[c.n_kv_head, c.head_dim, 1, tokens]);
    let gated = heads * gate.reshape(&[c.n_kv_head, 1, 1, tokens]);
    Some(gated.reshape(&rows.shape()).named("gated"))
}

/// W2·(silu(W1·n)·(W3·n)), W2·gelu(W1·n) or W2·relu(W1·n)², with n = norm(x).
pub fn feed_forward<'b>(s: &Scope<'b, '_>, x: Tensor<'b>) -> Tensor<'b> {
    let n = s.norm(Block::FeedForward, x).named("x2norm");
    let h1 = s.project("w1", "b1", n).named("h1");
    let gate = match s.config().feed_forward {
        FeedForward::SwiGlu => {
            let h3 = s.project("w3", "b3", n).named("h3");
            h1 * h1.sigmoid() * h3
        }
        FeedForward::Gelu => ops::gelu_tanh(h1),
        FeedForward::Relu2 => ops::relu_squared(h1),
    };
    s.project("w2", "b2", gate.named("gate")).named("ffn_out")
}

/// A new stream, made of the stream x and of another, `earlier` [1, D, 1, T].
///
/// After the embedding, where x are the rows of the tokens and `earlier` those of the tokens before
/// them (0 for the first of a sequence): u + λ·sigmoid(Ws·u)·u', the norms of these. Before a layer, where
/// `earlier` is the first stream: a·x + b·earlier. After the last layer, where `earlier` is the stream
/// in the middle: x − λ·earlier.
///
/// # Panics
/// If `block` mixes no streams.
pub fn mixture<'b>(
    s: &Scope<'b, '_>,
    block: Block,
    x: Tensor<'b>,
    earlier: Tensor<'b>,
) -> Tensor<'b> {
    match block {
        Block::Embedding => smeared(s, x, earlier),
        Block::Mix => x * s.input("resid_lambda") + earlier * s.input("x0_lambda"),
        Block::Backout => x - earlier * s.input("backout_lambda"),
        other => panic!("{other:?} mixes no streams"),
    }
}

fn smeared<'b>(s: &Scope<'b, '_>, x: Tensor<'b>, before: Tensor<'b>) -> Tensor<'b> {
    let (n, eps) = (&s.config().nanochat, s.config().norm_eps);
    let norm = |x| if n.embedding_norm { ops::plain_norm(x, eps) } else { x };
    let u = norm(x);
    let Some(gate) = s.find("smear_gate") else { return u };
    let gate = ops::project(gate, u.narrow(1, 0, n.smear_channels)).sigmoid();
    u + norm(before) * (gate * s.input("smear_lambda"))
}

/// The logits that the classifier gives, as the loss takes them.
pub fn logits<'b>(config: &GptConfig, raw: Tensor<'b>) -> Tensor<'b> {
    match config.nanochat.softcap {
        Some(cap) => ops::softcap(raw.named("raw"), cap).named("logits"),
        None => raw.named("logits"),
    }
}

/// The gradients of the norm of `block` for the cotangent `dy` of its result: of the stream x, and of gain and
/// bias where it has them. Called `d_` and the name of what they are of.
pub fn norm_backward<'b>(s: &Scope<'b, '_>, block: Block, dy: &str) -> Vec<Tensor<'b>> {
    let (c, dy, stream) = (s.config(), s.input(dy), stream_of(block));
    let [gain, bias] = norm_ports(c.norm, block).map(|port| (port, s.find(port)));
    let x = s.input(stream);
    let scaled = gain.1.map_or(dy, |gain| dy * gain);
    let layered = bias.1.is_some();
    let x = if layered { x - x.reduce_mean(&[1]) } else { x };
    let [dx, unit] = ops::norm_gradient(x, scaled, c.norm_eps);
    let dx = if layered { dx - dx.reduce_mean(&[1]) } else { dx };
    let over_tokens =
        |term: Tensor<'b>, port: &str| term.reduce_sum(&[3]).named(&format!("d_{port}"));
    let mut all = vec![dx.named(&format!("d_{stream}"))];
    all.extend(gain.1.map(|_| over_tokens(dy * unit, gain.0)));
    all.extend(bias.1.map(|_| over_tokens(dy, bias.0)));
    all
}

/// Name of the stream that a block reads.
pub(crate) fn stream_of(block: Block) -> &'static str {
    match block {
        Block::FeedForward => "x2",
        Block::Head => "x_last",
        _ => "x",
    }
}

/// Name of the norm of that stream.
pub(crate) fn norm_of(block: Block) -> &'static str {
    match block {
        Block::FeedForward => "x2norm",
        Block::Head => "xf",
        _ => "xnorm",
    }
}

/// The most channels that a chip accepts (docs/ane-facts.md D).
const MOST_CHANNELS: usize = 1 << 16;

/// The number of equal tiles N of a vocabulary, and their rows R: as few as have at most 2048 rows, where the
/// vocabulary has such a divisor below 256. A chip accepts tiles of that height, and a product with one keeps
/// its other operand on the chip.
fn tiles(vocab: usize) -> [usize; 2] {
    const ROWS: usize = 2048;
    let fewest = vocab.div_ceil(ROWS);
    let number = (fewest..256.max(fewest + 1)).find(|&n| vocab.is_multiple_of(n)).unwrap_or(1);
    [number, vocab / number]
}

/// Type of the port of the classifier: [V, D, 1, 1], or its tiles [1, N, R, D].
fn classifier_type(dims: &Dims<'_>) -> TensorType {
    let (vocab, width) = (dims.config.vocab_size, dims.config.n_embd);
    let [number, rows] = tiles(vocab);
    match vocab > MOST_CHANNELS {
        true => TensorType::new(dims.dtype, [1, number, rows, width]),
        false => TensorType::new(dims.dtype, [vocab, width, 1, 1]),
    }
}

/// softmax(Wcls·xf) over the vocabulary of the inputs xf [1, D, 1, T] and wcls.
///
/// As a convolution its outputs are channels, of which every chip accepts more than rows or columns: wcls is
/// [V, D, 1, 1], and the probabilities are [1, V, 1, T]. Where the vocabulary has more rows than a chip accepts
/// channels, both come in tiles, [1, N, R, D] and [1, N, R, T]: the same order in memory.
pub fn probabilities<'b>(b: &'b Builder, dims: &Dims<'_>) -> Tensor<'b> {
    let (vocab, width) = (dims.config.vocab_size, dims.config.n_embd);
    let xf = b.input("xf", dims.activation(width));
    let wcls = b.input("wcls", classifier_type(dims));
    let probabilities = if vocab > MOST_CHANNELS {
        let xf = xf.reshape(&[1, 1, width, dims.tokens()]);
        softmax_of_tiles(wcls.matmul(xf, false, false).named("logits"))
    } else {
        let args = [("weight", wcls), ("x", xf)].map(|(key, value)| (key, Arg::Value(value.id())));
        b.op(Op::Conv, args.to_vec())[0].named("logits").softmax(1)
    };
    probabilities.named("token_probs")
}

/// softmax over the first two of [N, R, T].
///
/// A sum of 2^16 exponentials may leave binary16. Those of tiles do not, and 2^−9 of them are added up; the
/// factor comes back after the division, so that nothing on the way is subnormal but the result.
fn softmax_of_tiles(logits: Tensor<'_>) -> Tensor<'_> {
    const SHARE: f64 = 1.0 / 512.0;
    let largest = [2, 1].iter().fold(logits, |x, &axis| x.reduce(Op::ReduceMax, &[axis]));
    let exponentials = (logits - largest).exp();
    let sum = (exponentials.reduce_sum(&[2]) * SHARE).reduce_sum(&[1]);
    exponentials * sum.inverse(0.0) * SHARE
}

/// What `gives` asks for of the classifier's backward pass, for the cotangents d_logits [1, N, R, T] of tiles of
/// the vocabulary: `d_xf` is Wclsᵀ·d_logits [1, D, 1, T], the sum of what the tiles give; `d_wcls` is
/// d_logits·xfᵀ [1, N, R, D].
///
/// Written, not derived: the gradient of a convolution of V output channels has V input channels, which no
/// chip accepts.
pub fn classifier_backward<'b>(b: &'b Builder, dims: &Dims<'_>, gives: &str) -> Vec<Tensor<'b>> {
    let (width, tokens) = (dims.config.n_embd, dims.tokens());
    let [number, rows] = tiles(dims.config.vocab_size);
    let d_logits = TensorType::new(dims.dtype, [1, number, rows, tokens]);
    let d_logits = b.input("d_logits", d_logits);
    let given = |name: &str| match name {
        "d_xf" => b.input("wcls", classifier_type(dims)),
        _ => b.input("xf", dims.activation(width)),
    };
    let given: Vec<_> = gives.split_whitespace().map(|name| (name, given(name))).collect();
    let gradient = |(name, other): (&str, Tensor<'b>)| {
        let gradient = match name {
            "d_xf" => {
                let tiles = other.reshape(&[1, number, rows, width]);
                let shares = tiles.matmul(d_logits, true, false);
                let all = if number > 1 { shares.reduce_sum(&[1]) } else { shares };
                all.reshape(&[1, width, 1, tokens])
            }
            _ => d_logits.matmul(other.reshape(&[1, 1, width, tokens]), false, true),
        };
        gradient.named(name)
    };
    given.into_iter().map(gradient).collect()
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
    if c.embeds_values(layer) {
        tables.push(("values", dims.activation(c.kv_dim())));
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
    let (d, v) = (c.n_embd, c.vocab_rows());
    let mut all = vec![Declared::table("embedding", Block::Embedding, [v, d])];
    if c.learned_positions {
        all.push(Declared::table("positions", Block::Embedding, [c.seq_len, d]));
    }
    all.extend(smear_parameters(c).into_iter().flatten());
    for layer in 0..c.n_layer {
        let parameters = layer_parameters(c, layer).into_iter();
        all.extend(parameters.map(|p| Declared { layer: Some(layer), ..p }));
    }
    let backout = || Declared::factors("backout_lambda", Block::Backout, vec![1], Group::Smear);
    all.extend(c.nanochat.backout.then(backout));
    all.extend(norm_parameters(c, Block::Head).into_iter().flatten());
    if !c.tied {
        let table = Declared::table("classifier", Block::Head, [v, d]);
        all.push(Declared { group: Group::Classifier, ..table });
    }
    all
}

fn smear_parameters(c: &GptConfig) -> [Option<Declared>; 2] {
    let channels = c.nanochat.smear_channels;
    let factors = |port, shape| Declared::factors(port, Block::Embedding, shape, Group::Smear);
    let gate = factors("smear_gate", vec![1, channels]);
    [gate, factors("smear_lambda", vec![1])].map(|p| (channels > 0).then_some(p))
}

/// The factors of the streams before a layer, and its value embedding.
fn mixing_parameters(c: &GptConfig, layer: usize) -> [Option<Declared>; 3] {
    let factor = |port, group| Declared::factors(port, Block::Mix, vec![1], group);
    let scales = [("resid_lambda", Group::ResidualScale), ("x0_lambda", Group::SkipScale)];
    let [a, b] =
        scales.map(|(port, group)| c.nanochat.residual_scales.then(|| factor(port, group)));
    let table = || Declared::table("value_embeds", Block::Embedding, [c.vocab_rows(), c.kv_dim()]);
    let values = || Declared { group: Group::ValueEmbedding, ..table() };
    [a, b, c.embeds_values(layer).then(values)]
}

fn layer_parameters(c: &GptConfig, layer: usize) -> Vec<Declared> {
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
    let gate = [c.n_kv_head, c.nanochat.gate_channels];
    let gate = c.embeds_values(layer).then(|| Declared::matrix("value_gate", Attention, gate, 1.0));
    let blocks = [
        norm_parameters(c, Attention),
        project(Attention, ["wq", "bq"], [q, d], 1.0),
        project(Attention, ["wk", "bk"], [k, d], 1.0),
        project(Attention, ["wv", "bv"], [k, d], 1.0),
        [gate, None],
        gains,
        project(Attention, ["wo", "bo"], [d, q], residual),
        norm_parameters(c, Network),
        project(Network, ["w1", "b1"], [f, d], 1.0),
        up,
        project(Network, ["w2", "b2"], [d, f], residual),
    ];
    mixing_parameters(c, layer).into_iter().chain(blocks.into_iter().flatten()).flatten().collect()
}

fn norm_parameters(c: &GptConfig, block: Block) -> [Option<Declared>; 2] {
    let [gain, bias] = norm_ports(c.norm, block);
    let vector = |port, value| Declared::vector(port, block, [c.n_embd, 1], Init::Constant(value));
    [(gain, 1.0), (bias, 0.0)].map(|(port, value)| (!port.is_empty()).then(|| vector(port, value)))
}
