//! Formulas that blocks are made of, and the tables they read.
//!
//! Legend: B sequences of S tokens, T = B·S; D width of the residual stream, Q width of all query
//! heads, K width of all key heads, E width of a head, F width of the feed-forward layer.
//! Activations are channel-first, [1, C, 1, T]; weights are [1, 1, out, in].

use crate::config::GptConfig;
use mil::{Arg, DType, Literal, Op, Tensor, TensorType};

/// Added to scores that may not be attended to: e^−30000 is 0 in every precision, and unlike
/// −65504 the sum with any score stays inside binary16.
pub const MASKED: f32 = -30_000.0;

/// Extents of the programs of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dims<'c> {
    /// The model.
    pub config: &'c GptConfig,
    /// Sequences side by side.
    pub batch: usize,
    /// Tokens of a sequence.
    pub seq: usize,
    /// Element type of activations and weights: fp16 for the engine, fp32 in reference precision.
    pub dtype: DType,
}

impl Dims<'_> {
    /// Tokens of a micro-batch, T.
    pub fn tokens(&self) -> usize {
        self.batch * self.seq
    }

    /// Type of an activation with `channels` channels.
    pub fn activation(&self, channels: usize) -> TensorType {
        TensorType::new(self.dtype, [1, channels, 1, self.tokens()])
    }

    /// Type of the port of a parameter: [out, in] is [1, 1, out, in], `[n]` is one number per channel,
    /// [1, n, 1, 1].
    pub fn parameter(&self, shape: &[usize]) -> TensorType {
        match *shape {
            [out, input] => TensorType::new(self.dtype, [1, 1, out, input]),
            [n] => TensorType::new(self.dtype, [1, n, 1, 1]),
            _ => unreachable!("parameters are matrices and vectors"),
        }
    }

    /// Type of the tables of cosines and sines.
    pub fn rope(&self) -> TensorType {
        TensorType::new(self.dtype, [1, 1, self.config.head_dim / 2, self.tokens()])
    }
}

/// x / √(mean x² + ε) · gain over the channels [1, C, 1, T].
///
/// Squares are taken of x·2^−k with 4^k ≈ √C: their sum then neither overflows binary16 until the
/// root mean square reaches 65504^½/C^¼ (49 at C = 768, where the plain sum fails at 9.2), nor loses
/// small values.
pub fn rms_norm<'b>(x: Tensor<'b>, gain: Tensor<'b>, eps: f64) -> Tensor<'b> {
    let channels = x.shape()[1] as f64;
    normalised(x, 1, channels, eps) * gain
}

/// [`rms_norm`] without a gain.
pub fn plain_norm(x: Tensor<'_>, eps: f64) -> Tensor<'_> {
    normalised(x, 1, x.shape()[1] as f64, eps)
}

/// x divided by its root mean square along `axis` of `extent` elements.
fn normalised<'b>(x: Tensor<'b>, axis: usize, extent: f64, eps: f64) -> Tensor<'b> {
    x * inverse_size(x, axis, extent, eps)
}

/// 1/√(mean x² + ε) along `axis` of `extent` elements.
fn inverse_size<'b>(x: Tensor<'b>, axis: usize, extent: f64, eps: f64) -> Tensor<'b> {
    let scale = 2f64.powi(-(extent.log2() / 4.0).round() as i32);
    let scaled = x * scale;
    let sum = (scaled * scaled).reduce_sum(&[axis]);
    (sum * (1.0 / (extent * scale * scale)) + eps).pow(-0.5)
}

/// (x − mean x) / √(var x + ε) · gain + bias over the channels [1, C, 1, T] (Ba et al. 2016).
///
/// The variance is the mean square of the centred values, scaled as in [`rms_norm`].
pub fn layer_norm<'b>(x: Tensor<'b>, gain: Tensor<'b>, bias: Tensor<'b>, eps: f64) -> Tensor<'b> {
    let channels = x.shape()[1] as f64;
    let centred = x - x.reduce_mean(&[1]);
    normalised(centred, 1, channels, eps) * gain + bias
}

/// The gradient of [`plain_norm`] of x for the cotangent dy: (dy − x̂·mean(dy·x̂))/√(mean x² + ε), where x̂ is
/// the norm, which comes second.
///
/// Derived operation by operation it would pass the square root's derivative, (mean x²)^−1.5, which leaves
/// binary16 below a root mean square of 0.025. Here no intermediate result is larger than what goes in
/// or comes out.
pub fn norm_gradient<'b>(x: Tensor<'b>, dy: Tensor<'b>, eps: f64) -> [Tensor<'b>; 2] {
    let channels = x.shape()[1] as f64;
    let inverse = inverse_size(x, 1, channels, eps);
    let unit = x * inverse;
    let share = 2f64.powi(-(channels.log2() / 2.0).round() as i32);
    let mean = (dy * unit * share).reduce_sum(&[1]) * (1.0 / (channels * share));
    [(dy - unit * mean) * inverse, unit]
}

/// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) (Hendrycks and Gimpel 2016; GPT-2's activation).
pub fn gelu_tanh(x: Tensor<'_>) -> Tensor<'_> {
    let mode = Arg::Literal(Literal::string("TANH_APPROXIMATION"));
    x.builder().op(Op::Gelu, vec![("x", Arg::Value(x.id())), ("mode", mode)])[0]
}

/// W·x for W [1, 1, O, C] and x [1, C, 1, T], as [1, O, 1, T].
pub fn project<'b>(weight: Tensor<'b>, x: Tensor<'b>) -> Tensor<'b> {
    let (x_shape, out) = (x.shape(), weight.shape()[2]);
    let (channels, tokens) = (x_shape[1], x_shape[3]);
    let y = weight.matmul(x.reshape(&[1, 1, channels, tokens]), false, false);
    y.reshape(&[1, out, 1, tokens])
}

/// Rotary embedding of `heads` heads in x [1, heads·E, 1, T]: channel i of a head turns with
/// channel i + E/2 (the layout of Hugging Face checkpoints).
pub fn rotate<'b>(x: Tensor<'b>, heads: usize, cos: Tensor<'b>, sin: Tensor<'b>) -> Tensor<'b> {
    let shape = x.shape();
    let (half, tokens) = (shape[1] / heads / 2, shape[3]);
    let pairs = x.reshape(&[heads, 2, half, tokens]);
    let [a, b] = pairs.split(1, 2)[..] else { unreachable!("two parts were asked for") };
    let turned = x.builder().concat(1, &[a * cos - b * sin, b * cos + a * sin]);
    turned.reshape(&shape)
}

/// The norm of each head of x [1, heads·E, 1, T] with a shared gain [1, E, 1, 1] (Qwen3).
pub fn head_norm<'b>(x: Tensor<'b>, heads: usize, gain: Tensor<'b>, eps: f64) -> Tensor<'b> {
    (plain_heads(x, heads, eps) * gain).reshape(&x.shape())
}

/// The norm of each head of x [1, heads·E, 1, T], times `scale` (nanochat).
pub fn scaled_head_norm(x: Tensor<'_>, heads: usize, scale: f64, eps: f64) -> Tensor<'_> {
    (plain_heads(x, heads, eps) * scale).reshape(&x.shape())
}

/// The norm of each head of x [1, heads·E, 1, T], as [heads, E, 1, T].
fn plain_heads(x: Tensor<'_>, heads: usize, eps: f64) -> Tensor<'_> {
    let shape = x.shape();
    let (width, tokens) = (shape[1] / heads, shape[3]);
    normalised(x.reshape(&[heads, width, 1, tokens]), 1, width as f64, eps)
}

/// relu(x)².
pub fn relu_squared(x: Tensor<'_>) -> Tensor<'_> {
    let positive = x.unary(Op::Relu);
    positive * positive
}

/// cap·tanh(x/cap).
pub fn softcap(x: Tensor<'_>, cap: f64) -> Tensor<'_> {
    (x * (1.0 / cap)).tanh() * cap
}

/// softmax(q·kᵀ/√E + mask)·v for q [1, Q, 1, B·L] and k, v [1, K, 1, B·M]; mask [1, 1, L, M].
/// The probabilities [B, heads, L, M] are named `probs`.
///
/// Grouped queries need no copies of keys and values: the G query heads that share a key head are
/// stacked along the rows of one product.
pub fn attend<'b>(
    config: &GptConfig,
    batch: usize,
    q: Tensor<'b>,
    k: Tensor<'b>,
    v: Tensor<'b>,
    mask: Tensor<'b>,
) -> Tensor<'b> {
    let (heads, groups, width) = (config.n_head, config.n_kv_head, config.head_dim);
    let share = heads / groups;
    let (l, m) = (q.shape()[3] / batch, k.shape()[3] / batch);
    let q = if share == 1 {
        q.reshape(&[heads, width, batch, l]).transpose(&[2, 0, 3, 1])
    } else {
        let split = q.reshape(&[groups, share, width, batch, l]);
        split.transpose(&[3, 0, 1, 4, 2]).reshape(&[batch, groups, share * l, width])
    };
    let k = k.reshape(&[groups, width, batch, m]).transpose(&[2, 0, 1, 3]);
    let v = v.reshape(&[groups, width, batch, m]).transpose(&[2, 0, 3, 1]);
    let scores = (q * (1.0 / (width as f64).sqrt())).matmul(k, false, false);
    let scores = scores.reshape(&[batch, heads, l, m]);
    let probs = (scores + mask).softmax(-1).named("probs");
    let mixed = probs.reshape(&[batch, groups, share * l, m]).matmul(v, false, false);
    let mixed = if share == 1 {
        mixed.transpose(&[1, 3, 0, 2])
    } else {
        mixed.reshape(&[batch, groups, share, l, width]).transpose(&[1, 2, 4, 0, 3])
    };
    mixed.reshape(&[1, heads * width, 1, batch * l])
}

/// cos and sin of the rotary angles for tokens at `positions`, each [E/2, T]: angle of channel i at
/// position p is p·θ^(−2i/E) (Su et al. 2021), or the negative of it where the model says so.
pub fn rope_tables(config: &GptConfig, positions: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let theta = config.rope_theta.unwrap_or(1e4);
    let direction = if config.nanochat.rope_reversed { -1.0 } else { 1.0 };
    let half = config.head_dim / 2;
    let mut tables = (Vec::new(), Vec::new());
    for i in 0..half {
        let frequency = theta.powf(-(2.0 * i as f64) / config.head_dim as f64);
        for &position in positions {
            let angle = direction * position as f64 * frequency;
            tables.0.push(angle.cos() as f32);
            tables.1.push(angle.sin() as f32);
        }
    }
    tables
}

/// The mask [L, M] of L tokens that follow M − L others: 0 where token i may attend to token j, that is
/// to itself and to those before it, the nearest `window` of them if there is one; else [`MASKED`].
pub fn causal_mask(new: usize, seen: usize, window: Option<usize>) -> Vec<f32> {
    let row = |i: usize| {
        (0..seen + new).map(move |j| {
            let at = seen + i;
            let visible = j <= at && window.is_none_or(|window| at - j < window);
            if visible { 0.0 } else { MASKED }
        })
    };
    (0..new).flat_map(row).collect()
}
