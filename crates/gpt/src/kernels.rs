//! The programs of the plan `baseline`: six kernels per layer on the engine, the rest on the host.
//!
//! Names and roles are the seed's (fwdAttn, fwdFFN, ffnBwd, sdpaBwd1, sdpaBwd2, qkvBwd). Each block
//! is written forward once, differentiated by [`mil::grad()`], and the backward kernels are slices of
//! the joint function between *cut points*: the values that travel between kernels.
//!
//! | kernel | given | gives |
//! |---|---|---|
//! | fwdAttn | x, weights, rope, mask | o_out, and the taps xnorm, q, k, v, attn |
//! | fwdFFN | x2, weights | ffn_out, and the taps x2norm, h1, h3, gate |
//! | ffnBwd | d_ffn_out, h1, h3, weights | d_h1, d_h3, d_x2norm |
//! | sdpaBwd1 | d_o_out, q, k, v, wo, mask | d_v, probs (computed again), d_probs |
//! | sdpaBwd2 | probs, d_probs, q, k, rope | d_q0, d_k0 |
//! | qkvBwd | d_q0, d_k0, d_v, weights | d_xnorm |
//!
//! Weight gradients, the gradients of norms, the residual stream, the embedding, the classifier
//! and the loss are the host's, in f32. They are slices of the same joint functions.

use crate::block::{AttentionWeights, Dims, attend, feed_forward, project, rms_norm};
use crate::params::Role;
use mil::{Builder, Function, GradError, Joint, OpError, TensorType, ValueId, grad, passes};

/// Why the programs of a model could not be derived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The block's formula does not fit together.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The block cannot be differentiated.
    #[error(transparent)]
    Grad(#[from] GradError),
    /// A kernel needs a value it is not given.
    #[error(transparent)]
    Slice(#[from] passes::UnboundInput),
}

/// A host function that gives the gradient of one weight.
#[derive(Clone, Debug)]
pub struct WeightGradient {
    /// The weight.
    pub role: Role,
    /// Names of the two values it is a product of: the cotangent, the activation.
    pub inputs: [String; 2],
    /// f32 function of those two (in the kernels' precision), giving the weight's gradient.
    pub function: Function,
}

/// All programs of one layer; layers of equal shape share them.
#[derive(Clone, Debug)]
pub struct LayerKernels {
    /// x → o_out and taps.
    pub fwd_attn: Function,
    /// x2 → ffn_out and taps.
    pub fwd_ffn: Function,
    /// d_ffn_out → d_h1, d_h3, d_x2norm.
    pub ffn_bwd: Function,
    /// d_o_out → d_v, probs, d_probs.
    pub sdpa_bwd1: Function,
    /// d_probs → d_q0, d_k0 (and the gradients of head gains).
    pub sdpa_bwd2: Function,
    /// d_q0, d_k0, d_v → d_xnorm.
    pub qkv_bwd: Function,
    /// Host: (x, gain, d_xnorm) → (d_x, d_gain) of a block's norm, all f32 but the last input.
    pub norm1_bwd: Function,
    /// Host: the same for the feed-forward block.
    pub norm2_bwd: Function,
    /// Host: one per projection.
    pub weight_gradients: Vec<WeightGradient>,
}

/// Programs of the head: last norm and classifier, on the host in f32.
#[derive(Clone, Debug)]
pub struct HeadFunctions {
    /// (x, gain, wcls) → logits [1, R, 1, T].
    pub forward: Function,
    /// (x, gain) → xf.
    pub norm: Function,
    /// (wcls, xf) → logits.
    pub classifier: Function,
    /// (d_logits, wcls) → d_xf.
    pub backward: Function,
    /// (d_logits, xf) → gradient of the classifier.
    pub classifier_gradient: Function,
    /// (x, gain, d_xf) → (d_x, d_gain).
    pub norm_bwd: Function,
}

/// A joint function whose values can be named.
struct Cuts {
    joint: Joint,
}

impl Cuts {
    fn new(forward: &Function) -> Result<Self, KernelError> {
        Ok(Cuts { joint: grad(forward)? })
    }

    fn value(&self, name: &str) -> ValueId {
        self.joint.find(name).unwrap_or_else(|| panic!("the block names a value `{name}`"))
    }

    /// The cotangent of the value called `name`, itself renamed to `d_NAME`.
    fn cotangent(&mut self, name: &str) -> ValueId {
        let of = self.value(name);
        let id = self.joint.cotangent(of).expect("the block's output depends on it");
        self.joint.function.values[id.index()].name = format!("d_{name}");
        id
    }

    /// Value or cotangent, by the name it has in programs.
    fn resolve(&mut self, name: &str) -> ValueId {
        match name.strip_prefix("d_") {
            Some(of) => self.cotangent(of),
            None => self.value(name),
        }
    }

    fn kernel(
        &mut self,
        name: &str,
        given: &[&str],
        gives: &[&str],
    ) -> Result<Function, KernelError> {
        let inputs: Vec<_> = given.iter().map(|n| self.resolve(n)).collect();
        let outputs: Vec<_> = gives.iter().map(|n| self.resolve(n)).collect();
        Ok(passes::slice(&self.joint.function, name, &inputs, &outputs)?)
    }

    fn host(
        &mut self,
        name: &str,
        given: &[&str],
        gives: &[&str],
    ) -> Result<Function, KernelError> {
        Ok(passes::to_fp32(&self.kernel(name, given, gives)?))
    }

    fn weight(
        &mut self,
        role: Role,
        name: &str,
        dy: &str,
        x: &str,
    ) -> Result<WeightGradient, KernelError> {
        let function = self.host(&format!("{name}_grad"), &[dy, x], &[&format!("d_{name}")])?;
        Ok(WeightGradient { role, inputs: [dy.to_owned(), x.to_owned()], function })
    }
}

/// x → o_out: norm, projections, attention, output projection.
fn attention_block(dims: &Dims<'_>) -> Result<Function, KernelError> {
    let c = dims.config;
    let b = Builder::new("attention");
    let x = b.input("x", dims.activation(c.n_embd));
    let weights = AttentionWeights::declare(&b, dims);
    let mask = b.input("mask", TensorType::new(dims.dtype, [1, 1, dims.seq, dims.seq]));
    let wo = b.input("wo", dims.weight(c.n_embd, c.q_dim()));
    let [q, k, v] = weights.qkv(c, x);
    let attn = attend(c, dims.batch, q, k, v, mask).named("attn");
    Ok(b.finish(&[project(wo, attn).named("o_out")])?)
}

fn feed_forward_block(dims: &Dims<'_>) -> Result<Function, KernelError> {
    let b = Builder::new("feed_forward");
    let out = feed_forward(&b, dims);
    Ok(b.finish(&[out])?)
}

impl LayerKernels {
    /// Derives the programs for `dims`.
    ///
    /// # Errors
    /// When the block's formulas do not fit together, which is a fault of this crate for any
    /// configuration that [`crate::GptConfig::validate`] accepts.
    pub fn new(dims: &Dims<'_>) -> Result<Self, KernelError> {
        let c = dims.config;
        let attention = attention_block(dims)?;
        let names: Vec<String> =
            attention.inputs().map(|id| attention.value(id).name.clone()).collect();
        let given: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut a = Cuts::new(&attention)?;
        let raw = c.qk_norm || c.rope_theta.is_some();
        let (q0, k0) = if raw { ("q0", "k0") } else { ("q", "k") };
        let (dq0, dk0) = (format!("d_{q0}"), format!("d_{k0}"));

        let mut taps = vec!["o_out", "xnorm", "q", "k", "v", "attn"];
        let mut bwd2_given = vec!["probs", "d_probs", "q", "k"];
        let mut bwd2_gives = vec![dq0.as_str(), dk0.as_str()];
        if c.qk_norm {
            taps.extend(["q0", "k0"]);
            bwd2_given.extend(["q0", "k0", "q_gain", "k_gain"]);
            bwd2_gives.extend(["d_q_gain", "d_k_gain"]);
        }
        if c.rope_theta.is_some() {
            bwd2_given.extend(["rope_cos", "rope_sin"]);
        }
        let fwd_attn = a.kernel("fwdAttn", &given, &taps)?;
        let sdpa_bwd1 = a.kernel(
            "sdpaBwd1",
            &["q", "k", "v", "d_o_out", "wo", "mask"],
            &["d_v", "probs", "d_probs"],
        )?;
        let sdpa_bwd2 = a.kernel("sdpaBwd2", &bwd2_given, &bwd2_gives)?;
        let qkv_bwd = a.kernel("qkvBwd", &[&dq0, &dk0, "d_v", "wq", "wk", "wv"], &["d_xnorm"])?;
        let norm1_bwd = a.host("norm1Bwd", &["x", "rms1", "d_xnorm"], &["d_x", "d_rms1"])?;
        let mut weight_gradients = vec![
            a.weight(Role::Query, "wq", &dq0, "xnorm")?,
            a.weight(Role::Key, "wk", &dk0, "xnorm")?,
            a.weight(Role::Value, "wv", "d_v", "xnorm")?,
            a.weight(Role::Output, "wo", "d_o_out", "attn")?,
        ];

        let feed_forward = feed_forward_block(dims)?;
        let mut f = Cuts::new(&feed_forward)?;
        let fwd_ffn = f.kernel(
            "fwdFFN",
            &["x2", "rms2", "w1", "w3", "w2"],
            &["ffn_out", "x2norm", "h1", "h3", "gate"],
        )?;
        let ffn_bwd = f.kernel(
            "ffnBwd",
            &["d_ffn_out", "h1", "h3", "w1", "w3", "w2"],
            &["d_h1", "d_h3", "d_x2norm"],
        )?;
        let norm2_bwd = f.host("norm2Bwd", &["x2", "rms2", "d_x2norm"], &["d_x2", "d_rms2"])?;
        weight_gradients.extend([
            f.weight(Role::Gate, "w1", "d_h1", "x2norm")?,
            f.weight(Role::Up, "w3", "d_h3", "x2norm")?,
            f.weight(Role::Down, "w2", "d_ffn_out", "gate")?,
        ]);
        Ok(LayerKernels {
            fwd_attn,
            fwd_ffn,
            ffn_bwd,
            sdpa_bwd1,
            sdpa_bwd2,
            qkv_bwd,
            norm1_bwd,
            norm2_bwd,
            weight_gradients,
        })
    }

    /// The six programs of the engine, in the order in which a step runs them.
    pub fn engine(&self) -> [&Function; 6] {
        [
            &self.fwd_attn,
            &self.fwd_ffn,
            &self.ffn_bwd,
            &self.sdpa_bwd1,
            &self.sdpa_bwd2,
            &self.qkv_bwd,
        ]
    }
}

impl HeadFunctions {
    /// The head of `dims` for `rows` R of the vocabulary, always in fp32.
    ///
    /// # Errors
    /// As [`LayerKernels::new`].
    pub fn new(dims: &Dims<'_>, rows: usize) -> Result<Self, KernelError> {
        let c = dims.config;
        let fp32 = Dims { dtype: mil::DType::Fp32, ..*dims };
        let b = Builder::new("head");
        let x = b.input("x", fp32.activation(c.n_embd));
        let gain = b.input("gain", fp32.gain(c.n_embd));
        let wcls = b.input("wcls", fp32.weight(rows, c.n_embd));
        let xf = rms_norm(x, gain, c.norm_eps).named("xf");
        let f = b.finish(&[project(wcls, xf).named("logits")])?;
        let mut head = Cuts::new(&f)?;
        Ok(HeadFunctions {
            forward: head.kernel("head", &["x", "gain", "wcls"], &["logits"])?,
            norm: head.kernel("norm", &["x", "gain"], &["xf"])?,
            classifier: head.kernel("classifier", &["wcls", "xf"], &["logits"])?,
            backward: head.kernel("headBwd", &["d_logits", "wcls"], &["d_xf"])?,
            classifier_gradient: head.kernel("wcls_grad", &["d_logits", "xf"], &["d_wcls"])?,
            norm_bwd: head.kernel("normBwd", &["x", "gain", "d_xf"], &["d_x", "d_gain"])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GptConfig;
    use mil::DType;

    #[test]
    fn every_variant_has_its_kernels() {
        let base = GptConfig {
            n_layer: 1,
            n_embd: 24,
            head_dim: 6,
            n_head: 4,
            n_kv_head: 2,
            hidden: 40,
            ..GptConfig::preset("tiny").unwrap()
        };
        let variants = [
            base.clone(),
            GptConfig { rope_theta: None, ..base.clone() },
            GptConfig { qk_norm: true, ..base.clone() },
            GptConfig { qk_norm: true, rope_theta: None, n_kv_head: 4, ..base },
        ];
        for config in variants {
            for dtype in [DType::Fp16, DType::Fp32] {
                let dims = Dims { config: &config, batch: 2, seq: 5, dtype };
                let kernels = LayerKernels::new(&dims).unwrap();
                for f in kernels.engine() {
                    assert!(f.values.iter().all(|v| v.ty.rank() <= 5), "{}", f.name);
                    assert!(f.inputs().all(|id| f.ty(id).dtype == dtype), "{}", f.name);
                }
                assert!(kernels.weight_gradients.len() == 7);
                HeadFunctions::new(&dims, config.vocab_size).unwrap();
            }
        }
    }
}
