//! Generation: a few new tokens at a time against cached keys and values.

use crate::batch::{ModelError, check_vocabulary, precision};
use crate::block::Memory;
use crate::config::GptConfig;
use crate::head::HeadFunctions;
use crate::ops::{Dims, MASKED, causal_mask};
use crate::params::Parameters;
use crate::plan::{DECODE, Schedule};
use crate::run::{Batch, OutsideStep, Runtime, Spare};
use ane::{AneError, Device, Surface};
use cpu::{Elements, HostProgram, Numerics, OutputMut};
use std::collections::BTreeMap;
use std::ops::Range;

/// Tokens that the cache has room for at first.
const FIRST_CAPACITY: usize = 256;

/// A model that predicts the next token, one chunk of tokens after the other. The cache doubles as the
/// text grows: time and memory follow what was fed, not what the model could read.
#[derive(Debug)]
pub struct Decoder<'d> {
    device: &'d dyn Device,
    parameters: Parameters,
    numerics: Numerics,
    chunk: usize,
    capacity: usize,
    position: usize,
    /// The last token read.
    last: Option<u32>,
    runtime: Runtime,
    /// Executables for caches of other sizes.
    spare: BTreeMap<usize, Spare>,
    head: Head,
}

/// The head, for all tokens of a chunk.
#[derive(Debug)]
struct Head {
    program: HostProgram,
    /// Its inputs after the stream, in the arena.
    parameters: Vec<Range<usize>>,
    /// [V, chunk]
    logits: Vec<f32>,
}

impl Head {
    fn new(dims: &Dims<'_>, parameters: &Parameters) -> Result<Self, ModelError> {
        let functions = HeadFunctions::new(dims, dims.config.vocab_size)?;
        let layout = parameters.layout();
        let mut inputs = functions.norm_parameters(layout);
        inputs.push(layout.classifier());
        Ok(Head {
            program: HostProgram::new(&functions.forward)?,
            parameters: inputs,
            logits: vec![0.0; dims.config.vocab_size * dims.tokens()],
        })
    }

    fn run(&mut self, stream: &[f32], values: &[f32]) -> Result<(), AneError> {
        let parameters = self.parameters.iter().map(|range| &values[range.clone()]);
        let inputs: Vec<_> = std::iter::once(stream).chain(parameters).map(Elements::F32).collect();
        let data = &mut self.logits[..];
        Ok(self.program.run(&inputs, &mut [OutputMut::F32 { data, accumulate: false }])?)
    }
}

impl<'d> Decoder<'d> {
    /// Compiles the programs for chunks of `chunk` tokens (see [`Device::least_width`]). The decoder
    /// computes with `parameters` as they are when it reads a text.
    ///
    /// # Errors
    /// When the configuration is no model or the device refuses a program.
    pub fn new(
        parameters: &Parameters,
        chunk: usize,
        device: &'d dyn Device,
        numerics: Numerics,
    ) -> Result<Self, ModelError> {
        let config = parameters.config();
        config.validate()?;
        let capacity = FIRST_CAPACITY.min(config.seq_len);
        let dims = Dims { config, batch: 1, seq: chunk, dtype: precision(numerics) };
        Ok(Decoder {
            device,
            numerics,
            chunk,
            capacity,
            position: 0,
            last: None,
            runtime: compile(&dims, parameters, capacity, device, &mut Spare::new())?,
            spare: BTreeMap::new(),
            head: Head::new(&dims, parameters)?,
            parameters: parameters.clone(),
        })
    }

    /// Shape of the model.
    pub fn config(&self) -> &GptConfig {
        self.parameters.config()
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Tokens that the model can still read.
    pub fn room(&self) -> usize {
        self.config().seq_len - self.position
    }

    /// Forgets all tokens.
    pub fn reset(&mut self) {
        (self.position, self.last) = (0, None);
    }

    /// Gives the cache the size for `tokens` tokens. Sizes depend on the present text alone: a longer
    /// continuation begins with the same bits as a shorter one, and a second text has the bits that
    /// it would have alone.
    fn reserve(&mut self, tokens: usize) -> Result<(), ModelError> {
        let most = self.config().seq_len;
        let capacity = tokens.next_power_of_two().max(FIRST_CAPACITY).min(most);
        if capacity == self.capacity || (self.position > 0 && capacity < self.capacity) {
            return Ok(());
        }
        let (config, dtype) = (self.parameters.config(), precision(self.numerics));
        let dims = Dims { config, batch: 1, seq: self.chunk, dtype };
        let mut known = self.spare.remove(&capacity).unwrap_or_default();
        let resized = compile(&dims, &self.parameters, capacity, self.device, &mut known)?;
        if self.position > 0 {
            self.copy_cache(&resized, capacity)?;
        }
        let old = std::mem::replace(&mut self.runtime, resized);
        self.spare.insert(self.capacity, old.into_executables());
        self.capacity = capacity;
        Ok(())
    }

    /// Copies the tokens in the cache to that of another size.
    fn copy_cache(&self, to: &Runtime, capacity: usize) -> Result<(), AneError> {
        let config = self.config();
        let mut cache = vec![0.0; config.kv_dim() * self.capacity];
        for layer in 0..config.n_layer {
            for name in ["kcache", "vcache"] {
                self.runtime.surface(name, layer).read(&mut cache)?;
                let kept = cache.chunks(self.capacity).flat_map(|row| &row[..self.position]);
                let kept: Vec<f32> = kept.copied().collect();
                to.surface(name, layer).write_block(0, capacity, self.position, &kept)?;
            }
        }
        Ok(())
    }

    /// Takes `tokens` into the cache and returns the logits `[V]` after the last of them.
    ///
    /// # Errors
    /// When a token is not of the vocabulary, there is no room, or the device fails.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let vocab_size = self.config().vocab_size;
        self.admit(tokens)?;
        let mut last = 0;
        for chunk in tokens.chunks(self.chunk) {
            self.forward(chunk)?;
            self.position += chunk.len();
            self.last = chunk.last().copied();
            last = chunk.len() - 1;
        }
        Ok((0..vocab_size).map(|v| self.head.logits[v * self.chunk + last]).collect())
    }

    /// Checks tokens that are to be read, and makes room for them. What was read with other weights is
    /// forgotten.
    fn admit(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        check_vocabulary(tokens, self.config().vocab_size)?;
        if self.runtime.is_stale() {
            self.reset();
        }
        if tokens.is_empty() || tokens.len() > self.room() {
            return Err(ModelError::BatchSize { expected: self.room(), got: tokens.len() });
        }
        self.reserve(self.position + tokens.len())
    }

    fn forward(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        let (columns, start, capacity) = (self.chunk, self.position, self.capacity);
        let positions: Vec<usize> = (start..start + columns).collect();
        self.runtime.write_tables(&positions, |window| mask(columns, start, capacity, window))?;
        let batch = Batch { tokens, start, before: self.last, seq: columns, columns };
        let (kept, kv_dim, head) =
            (tokens.len(), self.parameters.config().kv_dim(), &mut self.head);
        self.runtime.forward(&batch, &mut |step| match step {
            OutsideStep::Head { stream, values } => head.run(stream, values),
            OutsideStep::Append { new, cache } => {
                append(new, cache, [kv_dim, columns, kept], start, capacity)
            }
            _ => unreachable!("decoding has no gradients, and the host's head"),
        })?;
        Ok(())
    }
}

fn compile(
    dims: &Dims<'_>,
    parameters: &Parameters,
    capacity: usize,
    device: &dyn Device,
    spare: &mut Spare,
) -> Result<Runtime, ModelError> {
    let schedule = Schedule::new(&DECODE, dims, Memory::Cache { capacity })?;
    Runtime::new(schedule, dims, parameters, device, spare)
}

/// Brings the first `kept` columns of `new` [rows, columns] to `cache` [rows, capacity], from `start` on.
fn append(
    new: &Surface,
    cache: &Surface,
    [rows, columns, kept]: [usize; 3],
    start: usize,
    capacity: usize,
) -> Result<(), AneError> {
    let mut fresh = vec![0.0; rows * columns];
    new.read(&mut fresh)?;
    let rows: Vec<f32> = fresh.chunks(columns).flat_map(|row| row[..kept].to_vec()).collect();
    cache.write_block(start, capacity, kept, &rows)
}

/// The mask [new, capacity + new] of tokens from `start` on: the first `start` entries of the cache
/// precede them, the others are empty.
fn mask(new: usize, start: usize, capacity: usize, window: Option<usize>) -> Vec<f32> {
    let near = causal_mask(new, start, window);
    let mut mask = vec![MASKED; new * (capacity + new)];
    for (row, near) in mask.chunks_exact_mut(capacity + new).zip(near.chunks_exact(start + new)) {
        row[..start].copy_from_slice(&near[..start]);
        row[capacity..].copy_from_slice(&near[start..]);
    }
    mask
}
