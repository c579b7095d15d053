//! A compiled model: a batch of tokens in, the loss and the gradients of all parameters out.

use crate::block::{Dims, causal_mask, rope_tables};
use crate::config::{ConfigError, GptConfig};
use crate::head::{self, Head};
use crate::kernels::{KernelError, LayerKernels};
use crate::params::{Layout, Role};
use ane::{
    AneError, Device, Executable, HostInput, HostProgram, HostShape, Numerics, OutputMut, Sgemm,
    Surface,
};
use mil::{DType, Function, Program, Weights};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Why a model could not be built or run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The configuration is no model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The programs could not be derived.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] AneError),
    /// A token is not of the vocabulary.
    #[error("token {token} at position {position} is not below the vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// Where in the batch.
        position: usize,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A batch has the wrong size.
    #[error("a batch has {expected} tokens, got {got}")]
    BatchSize {
        /// B·S.
        expected: usize,
        /// What was given.
        got: usize,
    },
}

/// Wall time of the parts of a step, in seconds, summed since the last [`Timings::take`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Forward kernels on the device.
    pub engine_forward: f64,
    /// Backward kernels on the device.
    pub engine_backward: f64,
    /// Moving activations and residuals between host and device.
    pub io: f64,
    /// Last norm, classifier, loss and their gradients.
    pub head: f64,
    /// Products that give weight gradients.
    pub weight_gradients: f64,
    /// Gradients of norms, embedding.
    pub elementwise: f64,
}

impl Timings {
    /// The sums so far; they start again from zero.
    pub fn take(&mut self) -> Timings {
        std::mem::take(self)
    }

    /// Names and values, in a fixed order.
    pub fn parts(&self) -> [(&'static str, f64); 6] {
        [
            ("engine_fwd", self.engine_forward),
            ("engine_bwd", self.engine_backward),
            ("io", self.io),
            ("head", self.head),
            ("dw", self.weight_gradients),
            ("elementwise", self.elementwise),
        ]
    }
}

/// Runs `f` and adds its wall time to `to`.
fn timed<R>(to: &mut f64, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    *to += start.elapsed().as_secs_f64();
    result
}

/// The place of a micro-batch in its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MicroBatch {
    /// Its gradients replace what is there.
    First,
    /// Its gradients are added to what is there.
    Later,
}

impl MicroBatch {
    pub(crate) fn into_gradient(self, data: &mut [f32]) -> OutputMut<'_> {
        OutputMut::F32 { data, accumulate: self == MicroBatch::Later }
    }
}

/// A program of the plan with the surfaces of every layer bound to it.
#[derive(Debug)]
struct Kernel {
    executable: Box<dyn Executable>,
    /// Per layer: inputs and outputs in binding order.
    requests: Vec<(Vec<Surface>, Vec<Surface>)>,
}

impl Kernel {
    fn run(&mut self, layer: usize) -> Result<(), AneError> {
        let (inputs, outputs) = &self.requests[layer];
        let inputs: Vec<&Surface> = inputs.iter().collect();
        let outputs: Vec<&Surface> = outputs.iter().collect();
        self.executable.run(&inputs, &outputs).map(drop)
    }
}

/// Values that each layer keeps for its backward pass, and its weights; all other surfaces are
/// shared by the layers.
const PER_LAYER: &[&str] = &[
    "xnorm", "q", "k", "v", "attn", "q0", "k0", "x2norm", "h1", "h3", "gate", "rms1", "wq", "wk",
    "wv", "wo", "q_gain", "k_gain", "rms2", "w1", "w2", "w3",
];

/// Weights by their names in programs.
pub(crate) const WEIGHTS: &[(&str, Role)] = &[
    ("rms1", Role::AttentionNorm),
    ("wq", Role::Query),
    ("wk", Role::Key),
    ("wv", Role::Value),
    ("q_gain", Role::QueryNorm),
    ("k_gain", Role::KeyNorm),
    ("wo", Role::Output),
    ("rms2", Role::FeedForwardNorm),
    ("w1", Role::Gate),
    ("w3", Role::Up),
    ("w2", Role::Down),
];

/// Surfaces by layer (for those in [`PER_LAYER`]) and name.
#[derive(Debug, Default)]
struct Surfaces {
    all: BTreeMap<(Option<usize>, String), Surface>,
    allocation: usize,
}

impl Surfaces {
    fn bind(
        &mut self,
        device: &dyn Device,
        ports: &[ane::Port],
        layer: usize,
    ) -> Result<Vec<Surface>, AneError> {
        let mut bound = vec![];
        for port in ports {
            let layer = PER_LAYER.contains(&port.name.as_str()).then_some(layer);
            let key = (layer, port.name.clone());
            if !self.all.contains_key(&key) {
                let surface = device.surface(&port.ty, self.allocation)?;
                self.all.insert(key.clone(), surface);
            }
            bound.push(self.all[&key].clone());
        }
        Ok(bound)
    }

    fn get(&self, layer: usize, name: &str) -> &Surface {
        let layer = PER_LAYER.contains(&name).then_some(layer);
        let found = self.all.get(&(layer, name.to_owned()));
        found.unwrap_or_else(|| panic!("the plan has a surface `{name}`"))
    }
}

/// What the host multiplies most in a step with micro-batches of `tokens` tokens: a tile of the
/// classifier, its gradient, and a weight gradient of a feed-forward layer, whose operands are in
/// binary16 (`half`) unless the device computes in single precision.
pub fn host_products(config: &GptConfig, tokens: usize, half: bool) -> [HostShape; 3] {
    let [classifier, gradient] = head::products(config.vocab_size, tokens, config.n_embd);
    let (m, n) = (config.hidden, config.n_embd);
    let weights = HostShape { m, n, k: tokens, transposed: true, half, at_once: 1 };
    [classifier, gradient, weights]
}

/// A model compiled for batches of one size on one device.
#[derive(Debug)]
pub struct Model {
    config: GptConfig,
    layout: Layout,
    batch: usize,
    seq: usize,
    surfaces: Surfaces,
    fwd_attn: Kernel,
    fwd_ffn: Kernel,
    ffn_bwd: Kernel,
    sdpa_bwd1: Kernel,
    sdpa_bwd2: Kernel,
    qkv_bwd: Kernel,
    norm1_bwd: HostProgram,
    norm2_bwd: HostProgram,
    weight_gradients: Vec<(Role, [String; 2], HostProgram)>,
    head: Head,
    /// Residual stream before each block, [D, T] each: inputs of fwdAttn and fwdFFN per layer, and
    /// of the last norm.
    residuals: Vec<Vec<f32>>,
    /// Cotangent of the residual stream, [D, T].
    stream: Vec<f32>,
    /// Seconds by part.
    pub timings: Timings,
    /// Seconds spent compiling.
    pub compile_seconds: f64,
}

impl Model {
    /// Derives and compiles the programs for `batch` sequences of `seq` tokens.
    ///
    /// # Errors
    /// When the configuration is no model or the device refuses a program.
    pub fn new(
        config: &GptConfig,
        batch: usize,
        seq: usize,
        device: &dyn Device,
        numerics: Numerics,
    ) -> Result<Self, ModelError> {
        config.validate()?;
        let start = Instant::now();
        let dtype = if numerics == Numerics::F32 { DType::Fp32 } else { DType::Fp16 };
        let dims = Dims { config, batch, seq, dtype };
        let kernels = LayerKernels::new(&dims)?;
        let allocation = largest_port(&kernels).max(device.least_allocation());
        let mut surfaces = Surfaces { allocation, ..Surfaces::default() };
        let mut compile = |f: &Function| -> Result<Kernel, ModelError> {
            let executable = device.compile(&Program::new(f.clone()), &Weights::new())?;
            let mut requests = vec![];
            for layer in 0..config.n_layer {
                let inputs = surfaces.bind(device, executable.inputs(), layer)?;
                let outputs = surfaces.bind(device, executable.outputs(), layer)?;
                requests.push((inputs, outputs));
            }
            Ok(Kernel { executable, requests })
        };
        let [fwd_attn, fwd_ffn, ffn_bwd, sdpa_bwd1, sdpa_bwd2, qkv_bwd] = kernels.engine();
        let (fwd_attn, fwd_ffn) = (compile(fwd_attn)?, compile(fwd_ffn)?);
        let (ffn_bwd, sdpa_bwd1) = (compile(ffn_bwd)?, compile(sdpa_bwd1)?);
        let (sdpa_bwd2, qkv_bwd) = (compile(sdpa_bwd2)?, compile(qkv_bwd)?);
        let weight_gradients = (kernels.weight_gradients.iter())
            .map(|w| Ok((w.role, w.inputs.clone(), HostProgram::new(&w.function)?)))
            .collect::<Result<_, AneError>>()?;
        let stream = config.n_embd * dims.tokens();
        let mut model = Model {
            layout: Layout::new(config),
            config: config.clone(),
            batch,
            seq,
            surfaces,
            fwd_attn,
            fwd_ffn,
            ffn_bwd,
            sdpa_bwd1,
            sdpa_bwd2,
            qkv_bwd,
            norm1_bwd: HostProgram::new(&kernels.norm1_bwd)?,
            norm2_bwd: HostProgram::new(&kernels.norm2_bwd)?,
            weight_gradients,
            head: Head::new(&dims)?,
            residuals: (0..=2 * config.n_layer).map(|_| vec![0.0; stream]).collect(),
            stream: vec![0.0; stream],
            timings: Timings::default(),
            compile_seconds: 0.0,
        };
        model.write_tables()?;
        model.compile_seconds = start.elapsed().as_secs_f64();
        Ok(model)
    }

    /// Shape of the model.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Names and places of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Sequences of a micro-batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Tokens of a sequence.
    pub fn seq(&self) -> usize {
        self.seq
    }

    /// Has the host's products (classifier, weight gradients) computed by `library` from now on;
    /// `None` for our own kernel. See [`ane::emulator::blas`] for what differs.
    pub fn multiply_with(&mut self, library: Option<&Arc<dyn Sgemm>>) {
        self.head.multiply_with(library);
        for (_, _, program) in &mut self.weight_gradients {
            program.multiply_with(library.cloned());
        }
    }

    /// Programs compiled for the device.
    pub fn programs(&self) -> usize {
        6
    }

    fn write_tables(&mut self) -> Result<(), AneError> {
        self.surfaces.get(0, "mask").write(&causal_mask(self.seq))?;
        if self.config.rope_theta.is_some() {
            let positions: Vec<usize> = (0..self.batch).flat_map(|_| 0..self.seq).collect();
            let (cos, sin) = rope_tables(&self.config, &positions);
            self.surfaces.get(0, "rope_cos").write(&cos)?;
            self.surfaces.get(0, "rope_sin").write(&sin)?;
        }
        Ok(())
    }

    /// Brings the master weights to the device, in its precision.
    ///
    /// # Errors
    /// When `params` is not of this layout.
    pub fn write_weights(&mut self, params: &[f32]) -> Result<(), ModelError> {
        let Model { layout, surfaces, timings, config, .. } = self;
        timed(&mut timings.io, || {
            let work: Vec<(usize, &str, Role)> = (0..config.n_layer)
                .flat_map(|layer| WEIGHTS.iter().map(move |&(name, role)| (layer, name, role)))
                .collect();
            work.par_iter().try_for_each(|&(layer, name, role)| {
                match layout.find(role, Some(layer)) {
                    Some(param) => surfaces.get(layer, name).write(&params[param.range()]),
                    None => Ok(()),
                }
            })
        })?;
        Ok(())
    }

    /// Mean loss in nats of predicting `targets` from `inputs` (both [B, S]), without gradients.
    ///
    /// # Errors
    /// When a token is not of the vocabulary, the batch has the wrong size, or the device fails.
    pub fn loss(
        &mut self,
        params: &[f32],
        inputs: &[u32],
        targets: &[u32],
    ) -> Result<f64, ModelError> {
        self.forward(params, inputs, targets)
    }

    /// Loss in nats of each token.
    ///
    /// # Errors
    /// As [`Model::loss`].
    pub fn token_losses(
        &mut self,
        params: &[f32],
        inputs: &[u32],
        targets: &[u32],
    ) -> Result<&[f64], ModelError> {
        self.forward(params, inputs, targets)?;
        Ok(self.head.losses())
    }

    /// Mean loss in nats, and the gradient of weight·(sum of token losses) for every parameter in
    /// `grads`: with `weight` = loss scale / tokens of the whole batch, `grads` is the scaled gradient
    /// of its mean once all micro-batches have been added.
    ///
    /// # Errors
    /// As [`Model::loss`].
    pub fn loss_and_grads(
        &mut self,
        params: &[f32],
        inputs: &[u32],
        targets: &[u32],
        weight: f32,
        micro_batch: MicroBatch,
        grads: &mut [f32],
    ) -> Result<f64, ModelError> {
        let loss = self.forward(params, inputs, targets)?;
        self.head_backward(params, targets, weight, micro_batch, grads)?;
        for layer in (0..self.config.n_layer).rev() {
            self.feed_forward_backward(layer, params, micro_batch, grads)?;
            self.attention_backward(layer, params, micro_batch, grads)?;
        }
        self.embedding_backward(inputs, micro_batch, grads);
        Ok(loss)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let expected = self.batch * self.seq;
        if tokens.len() != expected {
            return Err(ModelError::BatchSize { expected, got: tokens.len() });
        }
        let vocab_size = self.config.vocab_size;
        match tokens.iter().position(|&token| token as usize >= vocab_size) {
            Some(position) => {
                Err(ModelError::Token { token: tokens[position], position, vocab_size })
            }
            None => Ok(()),
        }
    }

    fn forward(
        &mut self,
        params: &[f32],
        inputs: &[u32],
        targets: &[u32],
    ) -> Result<f64, ModelError> {
        self.check_tokens(inputs)?;
        self.check_tokens(targets)?;
        let Model { config, layout, surfaces, residuals, timings, .. } = self;
        let embedding = layout.find(Role::Embedding, None).expect("every model has one");
        timed(&mut timings.elementwise, || {
            embed(&params[embedding.range()], inputs, config.n_embd, &mut residuals[0]);
        });
        for layer in 0..config.n_layer {
            for (half, kernel, input, output) in
                [(0, &mut self.fwd_attn, "x", "o_out"), (1, &mut self.fwd_ffn, "x2", "ffn_out")]
            {
                let at = 2 * layer + half;
                timed(&mut timings.io, || surfaces.get(layer, input).write(&residuals[at]))?;
                timed(&mut timings.engine_forward, || kernel.run(layer))?;
                timed(&mut timings.io, || {
                    let (before, after) = residuals.split_at_mut(at + 1);
                    after[0].copy_from_slice(&before[at]);
                    surfaces.get(layer, output).add_to(&mut after[0])
                })?;
            }
        }
        let gain = layout.find(Role::FinalNorm, None).expect("every model has one");
        let classifier = layout.classifier();
        let stream = &residuals[2 * config.n_layer];
        let (gain, classifier) = (&params[gain.range()], &params[classifier.range()]);
        let head = &mut self.head;
        Ok(timed(&mut timings.head, || head.forward(stream, gain, classifier, targets))?)
    }

    /// From the loss to the cotangent of the residual stream, in `stream`.
    fn head_backward(
        &mut self,
        params: &[f32],
        targets: &[u32],
        weight: f32,
        micro_batch: MicroBatch,
        grads: &mut [f32],
    ) -> Result<(), AneError> {
        let Model { layout, residuals, head, stream, timings, .. } = self;
        let gain = layout.find(Role::FinalNorm, None).expect("every model has one").range();
        let classifier = layout.classifier().range();
        timed(&mut timings.head, || {
            head.classifier_backward(
                &params[classifier.clone()],
                targets,
                weight,
                micro_batch,
                &mut grads[classifier],
            )?;
            let x = residuals.last().expect("one more than blocks");
            let d_gain = micro_batch.into_gradient(&mut grads[gain.clone()]);
            head.norm_backward(x, &params[gain], stream, d_gain)
        })
    }

    fn embedding_backward(&mut self, inputs: &[u32], micro_batch: MicroBatch, grads: &mut [f32]) {
        let Model { layout, stream, timings, config, .. } = self;
        let embedding = layout.find(Role::Embedding, None).expect("every model has one").range();
        timed(&mut timings.elementwise, || {
            if micro_batch == MicroBatch::First && layout.classifier().range() != embedding {
                grads[embedding.clone()].fill(0.0);
            }
            embed_backward(stream, inputs, config.n_embd, &mut grads[embedding]);
        });
    }

    fn feed_forward_backward(
        &mut self,
        layer: usize,
        params: &[f32],
        micro_batch: MicroBatch,
        grads: &mut [f32],
    ) -> Result<(), AneError> {
        let Model { surfaces, stream, timings, .. } = self;
        timed(&mut timings.io, || surfaces.get(layer, "d_ffn_out").write(stream))?;
        timed(&mut timings.engine_backward, || self.ffn_bwd.run(layer))?;
        self.weight_gradients(layer, &[Role::Gate, Role::Up, Role::Down], micro_batch, grads)?;
        self.norm_backward(layer, 1, params, micro_batch, grads)
    }

    fn attention_backward(
        &mut self,
        layer: usize,
        params: &[f32],
        micro_batch: MicroBatch,
        grads: &mut [f32],
    ) -> Result<(), AneError> {
        let Model { surfaces, stream, timings, .. } = self;
        timed(&mut timings.io, || surfaces.get(layer, "d_o_out").write(stream))?;
        timed(&mut timings.engine_backward, || {
            self.sdpa_bwd1.run(layer)?;
            self.sdpa_bwd2.run(layer)?;
            self.qkv_bwd.run(layer)
        })?;
        let roles = [Role::Query, Role::Key, Role::Value, Role::Output];
        self.weight_gradients(layer, &roles, micro_batch, grads)?;
        if self.config.qk_norm {
            for (name, role) in [("d_q_gain", Role::QueryNorm), ("d_k_gain", Role::KeyNorm)] {
                let param = self.layout.find(role, Some(layer)).expect("the model has head gains");
                let gradient = &mut grads[param.range()];
                if micro_batch == MicroBatch::First {
                    gradient.fill(0.0);
                }
                self.surfaces.get(layer, name).add_to(gradient)?;
            }
        }
        self.norm_backward(layer, 0, params, micro_batch, grads)
    }

    fn weight_gradients(
        &mut self,
        layer: usize,
        roles: &[Role],
        micro_batch: MicroBatch,
        grads: &mut [f32],
    ) -> Result<(), AneError> {
        let Model { surfaces, layout, timings, weight_gradients, .. } = self;
        timed(&mut timings.weight_gradients, || {
            let wanted = weight_gradients.iter_mut().filter(|(role, ..)| roles.contains(role));
            for (role, names, program) in wanted {
                let param = layout.find(*role, Some(layer)).expect("every layer has it");
                let inputs =
                    [&names[0], &names[1]].map(|n| HostInput::Surface(surfaces.get(layer, n)));
                let gradient = &mut grads[param.range()];
                program.run(&inputs, &mut [micro_batch.into_gradient(gradient)])?;
            }
            Ok(())
        })
    }

    /// Adds the gradient that reaches the stream through a block's norm; `half` 0 is the attention
    /// block, 1 the feed-forward block.
    fn norm_backward(
        &mut self,
        layer: usize,
        half: usize,
        params: &[f32],
        micro_batch: MicroBatch,
        grads: &mut [f32],
    ) -> Result<(), AneError> {
        let Model { surfaces, layout, residuals, stream, timings, .. } = self;
        let (program, role, name) = match half {
            0 => (&mut self.norm1_bwd, Role::AttentionNorm, "d_xnorm"),
            _ => (&mut self.norm2_bwd, Role::FeedForwardNorm, "d_x2norm"),
        };
        let gain = layout.find(role, Some(layer)).expect("every layer has it").range();
        timed(&mut timings.elementwise, || {
            program.run(
                &[
                    HostInput::F32(&residuals[2 * layer + half]),
                    HostInput::F32(&params[gain.clone()]),
                    HostInput::Surface(surfaces.get(layer, name)),
                ],
                &mut [add(stream), micro_batch.into_gradient(&mut grads[gain])],
            )
        })
    }
}

pub(crate) fn replace(data: &mut [f32]) -> OutputMut<'_> {
    OutputMut::F32 { data, accumulate: false }
}

pub(crate) fn add(data: &mut [f32]) -> OutputMut<'_> {
    OutputMut::F32 { data, accumulate: true }
}

/// Bytes of the largest port of the engine's programs: all surfaces are allocated at this size,
/// which satisfies every published rule on sizes (docs/ane-facts.md C.1).
fn largest_port(kernels: &LayerKernels) -> usize {
    let ports = |f: &Function| {
        f.inputs().chain(f.outputs.iter().copied()).map(|id| f.ty(id).bytes()).max().unwrap_or(0)
    };
    kernels.engine().into_iter().map(ports).max().unwrap_or(0)
}

/// x[d, t] = table[token t, d].
fn embed(table: &[f32], tokens: &[u32], width: usize, x: &mut [f32]) {
    let n = tokens.len();
    for (t, &token) in tokens.iter().enumerate() {
        let row = &table[token as usize * width..][..width];
        row.iter().enumerate().for_each(|(d, &v)| x[d * n + t] = v);
    }
}

/// table gradient[token t, d] += dx[d, t], tokens in order.
fn embed_backward(dx: &[f32], tokens: &[u32], width: usize, grads: &mut [f32]) {
    let n = tokens.len();
    for (t, &token) in tokens.iter().enumerate() {
        let row = &mut grads[token as usize * width..][..width];
        row.iter_mut().enumerate().for_each(|(d, g)| *g += dx[d * n + t]);
    }
}
