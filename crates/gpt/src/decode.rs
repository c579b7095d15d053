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

/// A program with the surfaces of every layer bound to it.
#[derive(Debug)]
struct Block {
    executable: Box<dyn Executable>,
    /// Per layer: inputs and outputs in binding order.
    requests: Vec<(Vec<Surface>, Vec<Surface>)>,
    surfaces: BTreeMap<(Option<usize>, String), Surface>,
}

/// Surfaces of the weights and caches are each layer's own.
const SHARED: &[&str] = &["x", "x2", "o_out", "ffn_out", "k", "v", "mask", "rope_cos", "rope_sin"];

impl Block {
    /// Makes the surfaces of every layer, all of one allocation size.
    fn new(
        device: &dyn Device,
        executable: Box<dyn Executable>,
        layers: usize,
    ) -> Result<Self, AneError> {
        let ports = executable.inputs().iter().chain(executable.outputs());
        let largest = ports.map(|port| port.ty.bytes()).max().unwrap_or(0);
        let allocation = largest.max(device.least_allocation());
        let mut surfaces = BTreeMap::new();
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
        let requests = (0..layers)
            .map(|layer| {
                Ok((bind(executable.inputs(), layer)?, bind(executable.outputs(), layer)?))
            })
            .collect::<Result<_, AneError>>()?;
        Ok(Block { executable, requests, surfaces })
    }

    fn surface(&self, layer: usize, name: &str) -> &Surface {
        let own = (!SHARED.contains(&name)).then_some(layer);
        &self.surfaces[&(own, name.to_owned())]
    }

    /// Writes the weights that this block takes.
    fn write_weights(&self, layout: &Layout, params: &[f32]) -> Result<(), AneError> {
        for layer in 0..self.requests.len() {
            for &(name, role) in crate::model::WEIGHTS {
                let surface = self.surfaces.get(&(Some(layer), name.to_owned()));
                if let (Some(surface), Some(param)) = (surface, layout.find(role, Some(layer))) {
                    surface.write(&params[param.range()])?;
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, layer: usize) -> Result<(), AneError> {
        let (inputs, outputs) = &self.requests[layer];
        let inputs: Vec<&Surface> = inputs.iter().collect();
        let outputs: Vec<&Surface> = outputs.iter().collect();
        self.executable.run(&inputs, &outputs).map(drop)
    }
}

fn compile(device: &dyn Device, f: Function) -> Result<Box<dyn Executable>, AneError> {
    device.compile(&Program::new(f), &Weights::new())
}

/// Tokens that the cache has room for at first.
const FIRST_CAPACITY: usize = 256;

/// A model that predicts the next token, one chunk of tokens after the other. The cache doubles as the
/// text grows: time and memory follow what was fed, not what the model could read.
#[derive(Debug)]
pub struct Decoder<'d> {
    device: &'d dyn Device,
    config: GptConfig,
    layout: Layout,
    params: Vec<f32>,
    dtype: DType,
    chunk: usize,
    capacity: usize,
    position: usize,
    attention: Block,
    /// Programs for caches of other sizes.
    spare: BTreeMap<usize, Box<dyn Executable>>,
    feed_forward: Block,
    head: HostProgram,
    stream: Vec<f32>,
    logits: Vec<f32>,
}

impl<'d> Decoder<'d> {
    /// Compiles the programs for chunks of `chunk` tokens (see [`Device::least_width`]) and brings
    /// `params` to the device.
    ///
    /// # Errors
    /// When the configuration is no model or the device refuses a program.
    pub fn new(
        config: &GptConfig,
        params: Vec<f32>,
        chunk: usize,
        device: &'d dyn Device,
        numerics: Numerics,
    ) -> Result<Self, ModelError> {
        config.validate()?;
        let capacity = FIRST_CAPACITY.min(config.seq_len);
        let dtype = if numerics == Numerics::F32 { DType::Fp32 } else { DType::Fp16 };
        let dims = Dims { config, batch: 1, seq: chunk, dtype };
        let layers = config.n_layer;
        let compiled = compile(device, attention_program(&dims, capacity)?)?;
        let attention = Block::new(device, compiled, layers)?;
        let compiled = compile(device, feed_forward_program(&dims)?)?;
        let feed_forward = Block::new(device, compiled, layers)?;
        let heads = HeadFunctions::new(&dims, config.vocab_size)?;
        let mut decoder = Decoder {
            device,
            layout: Layout::new(config),
            config: config.clone(),
            params,
            dtype,
            chunk,
            capacity,
            position: 0,
            attention,
            spare: BTreeMap::new(),
            feed_forward,
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

    /// The weights.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Tokens that the model can still read.
    pub fn room(&self) -> usize {
        self.config.seq_len - self.position
    }

    /// Forgets all tokens.
    pub fn reset(&mut self) {
        self.position = 0;
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
        self.attention.write_weights(&self.layout, &self.params)?;
        self.feed_forward.write_weights(&self.layout, &self.params)
    }

    /// Gives the cache the size for `tokens` tokens. Sizes depend on the present text alone: a longer
    /// continuation begins with the same bits as a shorter one, and a second text has the bits that
    /// it would have alone.
    fn reserve(&mut self, tokens: usize) -> Result<(), ModelError> {
        let most = self.config.seq_len;
        let capacity = tokens.next_power_of_two().max(FIRST_CAPACITY).min(most);
        if capacity == self.capacity || (self.position > 0 && capacity < self.capacity) {
            return Ok(());
        }
        let dims = Dims { config: &self.config, batch: 1, seq: self.chunk, dtype: self.dtype };
        let executable = match self.spare.remove(&capacity) {
            Some(executable) => executable,
            None => compile(self.device, attention_program(&dims, capacity)?)?,
        };
        let resized = Block::new(self.device, executable, self.config.n_layer)?;
        resized.write_weights(&self.layout, &self.params)?;
        if self.position > 0 {
            self.copy_cache(&resized, capacity)?;
        }
        let old = std::mem::replace(&mut self.attention, resized);
        self.spare.insert(self.capacity, old.executable);
        self.capacity = capacity;
        Ok(())
    }

    /// Copies the tokens in the cache to that of another block.
    fn copy_cache(&self, to: &Block, capacity: usize) -> Result<(), AneError> {
        let mut cache = vec![0.0; self.config.kv_dim() * self.capacity];
        for layer in 0..self.config.n_layer {
            for name in ["kcache", "vcache"] {
                self.attention.surface(layer, name).read(&mut cache)?;
                let kept = cache.chunks(self.capacity).flat_map(|row| &row[..self.position]);
                let kept: Vec<f32> = kept.copied().collect();
                to.surface(layer, name).write_block(0, capacity, self.position, &kept)?;
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
        self.admit(tokens)?;
        let mut last = 0;
        for chunk in tokens.chunks(self.chunk) {
            self.forward(chunk)?;
            self.position += chunk.len();
            last = chunk.len() - 1;
        }
        Ok((0..vocab_size).map(|v| self.logits[v * self.chunk + last]).collect())
    }

    /// Takes `tokens` into the cache and returns, for each of them, the loss in nats of predicting the
    /// one that follows it, its counterpart in `targets`.
    ///
    /// # Errors
    /// As [`Decoder::feed`], and when there is not one target for each token.
    pub fn losses(&mut self, tokens: &[u32], targets: &[u32]) -> Result<Vec<f64>, ModelError> {
        self.check_tokens(targets)?;
        if targets.len() != tokens.len() {
            let (expected, got) = (tokens.len(), targets.len());
            return Err(ModelError::BatchSize { expected, got });
        }
        self.admit(tokens)?;
        let mut losses = Vec::with_capacity(tokens.len());
        for (chunk, next) in tokens.chunks(self.chunk).zip(targets.chunks(self.chunk)) {
            self.forward(chunk)?;
            self.position += chunk.len();
            losses.extend(next.iter().enumerate().map(|(t, &target)| self.loss(t, target)));
        }
        Ok(losses)
    }

    /// The loss of `target` after token `t` of the last chunk.
    fn loss(&self, t: usize, target: u32) -> f64 {
        let logit = |v: usize| f64::from(self.logits[v * self.chunk + t]);
        let vocabulary = 0..self.config.vocab_size;
        let max = vocabulary.clone().map(logit).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = vocabulary.map(|v| (logit(v) - max).exp()).sum();
        sum.ln() + max - logit(target as usize)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let vocab_size = self.config.vocab_size;
        match tokens.iter().position(|&token| token as usize >= vocab_size) {
            Some(position) => {
                Err(ModelError::Token { token: tokens[position], position, vocab_size })
            }
            None => Ok(()),
        }
    }

    /// Checks tokens that are to be read, and makes room for them.
    fn admit(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        self.check_tokens(tokens)?;
        if tokens.is_empty() || tokens.len() > self.room() {
            return Err(ModelError::BatchSize { expected: self.room(), got: tokens.len() });
        }
        self.reserve(self.position + tokens.len())
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
            self.attention.surface(0, "rope_cos").write(&cos)?;
            self.attention.surface(0, "rope_sin").write(&sin)?;
        }
        self.attention.surface(0, "mask").write(&self.mask(start))?;
        let kept = tokens.len();
        let mut fresh = vec![0.0; self.config.kv_dim() * n];
        for layer in 0..self.config.n_layer {
            self.attention.surface(layer, "x").write(&self.stream)?;
            self.attention.run(layer)?;
            for (new, cache) in [("k", "kcache"), ("v", "vcache")] {
                self.attention.surface(layer, new).read(&mut fresh)?;
                let rows: Vec<f32> = fresh.chunks(n).flat_map(|row| row[..kept].to_vec()).collect();
                let cache = self.attention.surface(layer, cache);
                cache.write_block(start, self.capacity, kept, &rows)?;
            }
            self.attention.surface(layer, "o_out").add_to(&mut self.stream)?;
            self.feed_forward.surface(layer, "x2").write(&self.stream)?;
            self.feed_forward.run(layer)?;
            self.feed_forward.surface(layer, "ffn_out").add_to(&mut self.stream)?;
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
