//! Generation: a few new tokens at a time against cached keys and values.

use crate::block::{AttentionWeights, Dims, MASKED, attend, feed_forward, project, rope_tables};
use crate::config::GptConfig;
use crate::kernels::{HeadFunctions, KernelError};
use crate::model::ModelError;
use crate::params::{Layout, Role};
use ane::{AneError, Device, Executable, HostInput, HostProgram, Numerics, OutputMut, Surface};
use mil::{Builder, DType, Function, Program, TensorType, Weights};
use std::collections::BTreeMap;

/// The attention block for `dims.seq` new tokens and a cache of `capacity`: given also kcache and
/// vcache [1, K, 1, capacity] and mask [1, 1, S, capacity + S], gives o_out and the new k and v.
///
/// # Errors
/// As [`crate::kernels::LayerKernels::new`].
pub fn attention_program(dims: &Dims<'_>, capacity: usize) -> Result<Function, KernelError> {
    let c = dims.config;
    let b = Builder::new("decodeAttn");
    let x = b.input("x", dims.activation(c.n_embd));
    let weights = AttentionWeights::declare(&b, dims);
    let cache = TensorType::new(dims.dtype, [1, c.kv_dim(), 1, capacity]);
    let (kcache, vcache) = (b.input("kcache", cache.clone()), b.input("vcache", cache));
    let mask = b.input("mask", TensorType::new(dims.dtype, [1, 1, dims.seq, capacity + dims.seq]));
    let wo = b.input("wo", dims.weight(c.n_embd, c.q_dim()));
    let [q, k, v] = weights.qkv(c, x);
    let (keys, values) = (b.concat(3, &[kcache, k]), b.concat(3, &[vcache, v]));
    let attn = attend(c, 1, q, keys, values, mask);
    Ok(b.finish(&[project(wo, attn).named("o_out"), k, v])?)
}

/// The feed-forward block: x2 → ffn_out.
fn feed_forward_program(dims: &Dims<'_>) -> Result<Function, KernelError> {
    let b = Builder::new("decodeFFN");
    let out = feed_forward(&b, dims);
    Ok(b.finish(&[out])?)
}

#[derive(Debug)]
struct Bound {
    executable: Box<dyn Executable>,
    requests: Vec<(Vec<Surface>, Vec<Surface>)>,
}

impl Bound {
    fn run(&mut self, layer: usize) -> Result<(), AneError> {
        let (inputs, outputs) = &self.requests[layer];
        let inputs: Vec<&Surface> = inputs.iter().collect();
        let outputs: Vec<&Surface> = outputs.iter().collect();
        self.executable.run(&inputs, &outputs).map(drop)
    }
}

/// Surfaces of the weights and caches are each layer's own.
const SHARED: &[&str] = &["x", "x2", "o_out", "ffn_out", "k", "v", "mask", "rope_cos", "rope_sin"];

/// A model that predicts the next token, one chunk of tokens after the other.
#[derive(Debug)]
pub struct Decoder {
    config: GptConfig,
    layout: Layout,
    params: Vec<f32>,
    chunk: usize,
    capacity: usize,
    position: usize,
    attention: Bound,
    feed_forward: Bound,
    surfaces: BTreeMap<(Option<usize>, String), Surface>,
    head: HostProgram,
    stream: Vec<f32>,
    logits: Vec<f32>,
}

impl Decoder {
    /// Compiles the programs for chunks of `chunk` tokens (see [`Device::least_width`]) and
    /// sequences of up to `capacity` (at most the model's own length), and brings `params` to the
    /// device.
    ///
    /// # Errors
    /// When the configuration is no model or the device refuses a program.
    pub fn new(
        config: &GptConfig,
        params: Vec<f32>,
        chunk: usize,
        capacity: usize,
        device: &dyn Device,
        numerics: Numerics,
    ) -> Result<Self, ModelError> {
        config.validate()?;
        let capacity = capacity.clamp(1, config.seq_len);
        let dtype = if numerics == Numerics::F32 { DType::Fp32 } else { DType::Fp16 };
        let dims = Dims { config, batch: 1, seq: chunk, dtype };
        let programs = [attention_program(&dims, capacity)?, feed_forward_program(&dims)?];
        let allocation = programs
            .iter()
            .flat_map(|f| f.inputs().chain(f.outputs.iter().copied()).map(|id| f.ty(id).bytes()))
            .max()
            .unwrap_or(0)
            .max(device.least_allocation());
        let mut surfaces: BTreeMap<(Option<usize>, String), Surface> = BTreeMap::new();
        let mut bind = |ports: &[ane::Port], layer: usize| -> Result<Vec<Surface>, AneError> {
            let mut bound = vec![];
            for port in ports {
                let own = (!SHARED.contains(&port.name.as_str())).then_some(layer);
                let key = (own, port.name.clone());
                if !surfaces.contains_key(&key) {
                    surfaces.insert(key.clone(), device.surface(&port.ty, allocation)?);
                }
                bound.push(surfaces[&key].clone());
            }
            Ok(bound)
        };
        let mut compiled = vec![];
        for f in programs {
            let executable = device.compile(&Program::new(f), &Weights::new())?;
            let mut requests = vec![];
            for layer in 0..config.n_layer {
                requests
                    .push((bind(executable.inputs(), layer)?, bind(executable.outputs(), layer)?));
            }
            compiled.push(Bound { executable, requests });
        }
        let feed_forward = compiled.pop().expect("two programs");
        let attention = compiled.pop().expect("two programs");
        let heads = HeadFunctions::new(&dims, config.vocab_size)?;
        let mut decoder = Decoder {
            layout: Layout::new(config),
            config: config.clone(),
            params,
            chunk,
            capacity,
            position: 0,
            attention,
            feed_forward,
            surfaces,
            head: HostProgram::new(&heads.forward)?,
            stream: vec![0.0; config.n_embd * chunk],
            logits: vec![0.0; config.vocab_size * chunk],
        };
        decoder.write_weights()?;
        Ok(decoder)
    }

    /// Shape of the model.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Tokens that still fit.
    pub fn room(&self) -> usize {
        self.capacity - self.position
    }

    /// Forgets all tokens.
    pub fn reset(&mut self) {
        self.position = 0;
    }

    fn surface(&self, layer: usize, name: &str) -> &Surface {
        let own = (!SHARED.contains(&name)).then_some(layer);
        &self.surfaces[&(own, name.to_owned())]
    }

    /// Takes other weights for the same model, and forgets all tokens.
    ///
    /// # Errors
    /// When `params` is not of this layout.
    pub fn replace_weights(&mut self, params: &[f32]) -> Result<(), ModelError> {
        self.params.copy_from_slice(params);
        self.reset();
        Ok(self.write_weights()?)
    }

    fn write_weights(&mut self) -> Result<(), AneError> {
        for layer in 0..self.config.n_layer {
            for &(name, role) in crate::model::WEIGHTS {
                if let Some(param) = self.layout.find(role, Some(layer)) {
                    self.surface(layer, name).write(&self.params[param.range()])?;
                }
            }
        }
        Ok(())
    }

    /// Takes `tokens` into the cache and returns the logits `[V]` after the last of them.
    ///
    /// # Errors
    /// When a token is not of the vocabulary, there is no room, or the device fails.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let vocab_size = self.config.vocab_size;
        if let Some(position) = tokens.iter().position(|&t| t as usize >= vocab_size) {
            return Err(ModelError::Token { token: tokens[position], position, vocab_size });
        }
        if tokens.is_empty() || tokens.len() > self.room() {
            return Err(ModelError::BatchSize { expected: self.room(), got: tokens.len() });
        }
        let mut last = 0;
        for chunk in tokens.chunks(self.chunk) {
            self.forward(chunk)?;
            self.position += chunk.len();
            last = chunk.len() - 1;
        }
        Ok((0..vocab_size).map(|v| self.logits[v * self.chunk + last]).collect())
    }

    fn forward(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        let (n, width, start) = (self.chunk, self.config.n_embd, self.position);
        let embedding =
            self.layout.find(Role::Embedding, None).expect("every model has one").range();
        self.stream.fill(0.0);
        for (t, &token) in tokens.iter().enumerate() {
            let row = &self.params[embedding.start + token as usize * width..][..width];
            row.iter().enumerate().for_each(|(d, &v)| self.stream[d * n + t] = v);
        }
        if self.config.rope_theta.is_some() {
            let positions: Vec<usize> = (start..start + n).collect();
            let (cos, sin) = rope_tables(&self.config, &positions);
            self.surface(0, "rope_cos").write(&cos)?;
            self.surface(0, "rope_sin").write(&sin)?;
        }
        self.surface(0, "mask").write(&self.mask(start))?;
        let kept = tokens.len();
        let mut fresh = vec![0.0; self.config.kv_dim() * n];
        for layer in 0..self.config.n_layer {
            self.surface(layer, "x").write(&self.stream)?;
            self.attention.run(layer)?;
            for (new, cache) in [("k", "kcache"), ("v", "vcache")] {
                self.surface(layer, new).read(&mut fresh)?;
                let rows: Vec<f32> = fresh.chunks(n).flat_map(|row| row[..kept].to_vec()).collect();
                self.surface(layer, cache).write_block(start, self.capacity, kept, &rows)?;
            }
            let out = self.surface(layer, "o_out").clone();
            out.add_to(&mut self.stream)?;
            self.surface(layer, "x2").write(&self.stream)?;
            self.feed_forward.run(layer)?;
            let out = self.surface(layer, "ffn_out").clone();
            out.add_to(&mut self.stream)?;
        }
        let gain = self.layout.find(Role::FinalNorm, None).expect("every model has one").range();
        let classifier = self.layout.classifier().range();
        self.head.run(
            &[
                HostInput::F32(&self.stream),
                HostInput::F32(&self.params[gain]),
                HostInput::F32(&self.params[classifier]),
            ],
            &mut [OutputMut::F32 { data: &mut self.logits, accumulate: false }],
        )?;
        Ok(())
    }

    /// Row i may see the first `start` cache entries and the new tokens up to itself.
    fn mask(&self, start: usize) -> Vec<f32> {
        let (n, capacity) = (self.chunk, self.capacity);
        let mut mask = vec![MASKED; n * (capacity + n)];
        for (i, row) in mask.chunks_exact_mut(capacity + n).enumerate() {
            row[..start].fill(0.0);
            row[capacity..=capacity + i].fill(0.0);
        }
        mask
    }
}
