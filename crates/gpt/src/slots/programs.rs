//! The programs of slots for some number of columns, and what they read and write.

use super::weights::Weights;
use super::{Column, Place, Slot};
use crate::batch::ModelError;
use crate::block::{self, Memory};
use crate::config::GptConfig;
use crate::declare::Block;
use crate::ops::{self, Dims};
use crate::plan::{Cuts, Kernel, PlanError, Programs, SLOTS, inputs};
use cpu::attention::TOGETHER;
use cpu::gemm::transpose;
use cpu::team::for_each_chunk;
use cpu::{Arithmetic, Elements, HostProgram, Input, OutputMut};
use mil::{Builder, DType, Function, Weights as Files};
use std::collections::{BTreeMap, BTreeSet};

/// Multiply-adds of attention that are worth another thread.
const PARALLEL: usize = 1 << 16;

/// An input of a program.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A parameter.
    Weight(usize),
    /// The stream [D, T].
    Stream,
    /// The other stream of a mixture, [D, T].
    Earlier(Block),
    /// Rows looked up for the values of a layer [K, T].
    Rows,
    /// What attention gives [Q, T].
    Attention,
    /// Tables of the rotary angles [E/2, T].
    Cos,
    Sin,
}

/// A program with its inputs for every layer.
#[derive(Debug)]
struct Program {
    program: HostProgram,
    inputs: Vec<Vec<Source>>,
}

impl Program {
    /// A program of `block`, whose parameters are those of some of the first `layers` layers, or of none.
    fn new(
        function: &Function,
        block: Block,
        layers: usize,
        weights: &Weights,
    ) -> Result<Self, ModelError> {
        let source = |name: &str, layer: usize| match name {
            "x" | "x2" => Some(Source::Stream),
            "earlier" => Some(Source::Earlier(block)),
            "values" => Some(Source::Rows),
            "attn" => Some(Source::Attention),
            "rope_cos" => Some(Source::Cos),
            "rope_sin" => Some(Source::Sin),
            "wcls" => Some(Source::Weight(weights.classifier())),
            port => {
                let found = weights.find(port, Some(layer)).or_else(|| weights.find(port, None));
                found.map(Source::Weight)
            }
        };
        let names = inputs(function);
        // Layers of other kinds may lack a parameter: they run another program.
        let of = |layer| {
            let all: Option<Vec<Source>> = names.iter().map(|name| source(name, layer)).collect();
            all.unwrap_or_default()
        };
        Ok(Program {
            program: HostProgram::compile(function, &Files::new(), Arithmetic::COLUMNWISE)?,
            inputs: (0..layers).map(of).collect(),
        })
    }

    fn run(
        &mut self,
        layer: usize,
        weights: &Weights,
        values: &Values,
        outputs: &mut [OutputMut<'_>],
    ) -> Result<(), ModelError> {
        let inputs: Vec<Input<'_>> = (self.inputs[layer].iter())
            .map(|source| match *source {
                Source::Weight(index) => weights.input(index),
                Source::Stream => elements(&values.stream),
                Source::Earlier(Block::Embedding) => elements(&values.before),
                Source::Earlier(Block::Mix) => elements(&values.first),
                Source::Earlier(_) => elements(&values.middle),
                Source::Rows => elements(&values.rows),
                Source::Attention => elements(&values.attention),
                Source::Cos => elements(&values.rope.0),
                Source::Sin => elements(&values.rope.1),
            })
            .collect();
        Ok(self.program.run_packed(&inputs, values.columns, outputs)?)
    }
}

fn elements(values: &[f32]) -> Input<'_> {
    Input::Elements(Elements::F32(values))
}

fn replace(data: &mut [f32]) -> OutputMut<'_> {
    OutputMut::F32 { data, accumulate: false }
}

/// What programs read besides parameters.
#[derive(Debug, Default)]
struct Values {
    /// Columns that have a token; the others count as 0 in products.
    columns: usize,
    stream: Vec<f32>,
    /// Rows of the tokens before.
    before: Vec<f32>,
    /// The first stream, and that after the layer in the middle.
    first: Vec<f32>,
    middle: Vec<f32>,
    rows: Vec<f32>,
    attention: Vec<f32>,
    rope: (Vec<f32>, Vec<f32>),
}

impl Values {
    /// Arrays of the model's sizes where it has what they are for.
    fn new(config: &GptConfig, columns: usize) -> Self {
        let room = |has: bool, channels: usize| vec![0.0; if has { channels * columns } else { 0 }];
        let stream = |has| room(has, config.n_embd);
        Values {
            columns,
            stream: stream(true),
            before: stream(config.nanochat.smear_channels > 0),
            first: stream(config.mixes(Block::Mix)),
            middle: stream(config.mixes(Block::Backout)),
            rows: room(config.nanochat.value_embeds, config.kv_dim()),
            attention: room(true, config.q_dim()),
            rope: (vec![], vec![]),
        }
    }
}

/// The programs of one kind of layer.
#[derive(Debug)]
struct Kind {
    mix: Option<Program>,
    qkv: Program,
    out: Program,
    feed_forward: Program,
}

/// The programs of all layers for T columns, with their values.
#[derive(Debug)]
pub(super) struct Bucket {
    columns: usize,
    embed: Option<Program>,
    kinds: BTreeMap<usize, Kind>,
    backout: Option<Program>,
    values: Values,
    /// Queries, keys and values: as programs give them [C, T], and token by token [T, C].
    given: [Vec<f32>; 3],
    tokens: [Vec<f32>; 3],
    /// What attention makes of the queries, [T, Q].
    mixed: Vec<f32>,
    /// What a block adds to the stream, [D, T].
    added: Vec<f32>,
}

impl Bucket {
    pub(super) fn new(
        config: &GptConfig,
        columns: usize,
        weights: &Weights,
    ) -> Result<Self, ModelError> {
        // Each column is a sequence of one token: attention, which is left out, is all that would tell.
        let dims = Dims { config, batch: columns, seq: 1, dtype: DType::Fp32 };
        let programs = Programs::new(&SLOTS, &dims, Memory::Sequence)?;
        let of = |kind: usize, row: &str| {
            let program = |k: &Kernel| Program::new(&k.function, k.block, config.n_layer, weights);
            programs.find(row, kind).map(program).transpose()
        };
        let known = |program: Option<Program>| program.expect("every layer has the program");
        let kinds: BTreeSet<usize> = programs.kernels.iter().map(|kernel| kernel.kind).collect();
        let kinds = kinds.into_iter().map(|kind| {
            let mix = of(kind, "mix")?;
            let (qkv, out) = (known(of(kind, "slotQkv")?), known(of(kind, "slotOut")?));
            Ok((kind, Kind { mix, qkv, out, feed_forward: known(of(kind, "slotFFN")?) }))
        });
        let room = |channels: usize| vec![0.0; channels * columns];
        Ok(Bucket {
            columns,
            embed: of(0, "embed")?,
            kinds: kinds.collect::<Result<_, ModelError>>()?,
            backout: of(0, "backout")?,
            values: Values::new(config, columns),
            given: [config.q_dim(), config.kv_dim(), config.kv_dim()].map(room),
            tokens: [config.q_dim(), config.kv_dim(), config.kv_dim()].map(room),
            mixed: room(config.q_dim()),
            added: room(config.n_embd),
        })
    }

    /// The stream of these tokens before the first layer. Columns without a token are 0.
    pub(super) fn begin(
        &mut self,
        config: &GptConfig,
        weights: &Weights,
        columns: &[Column],
        places: &[Place],
    ) -> Result<(), ModelError> {
        self.values.columns = columns.len();
        let Values { stream, before, .. } = &mut self.values;
        stream.fill(0.0);
        before.fill(0.0);
        let embedding = ("embedding", None);
        for (t, (column, place)) in columns.iter().zip(places).enumerate() {
            weights.add_row(embedding, column.token as usize, stream, t, self.columns);
            weights.add_row(("positions", None), place.position, stream, t, self.columns);
            if let (Some(token), false) = (place.before, before.is_empty()) {
                weights.add_row(embedding, token as usize, before, t, self.columns);
            }
        }
        if config.rope_theta.is_some() {
            let mut all: Vec<usize> = places.iter().map(|place| place.position).collect();
            all.resize(self.columns, 0);
            self.values.rope = ops::rope_tables(config, &all);
        }
        mix(&mut self.embed, 0, weights, &mut self.values, &mut self.added)?;
        if !self.values.first.is_empty() {
            self.values.first.copy_from_slice(&self.values.stream);
        }
        Ok(())
    }

    /// The stream after the last layer becomes that of the head.
    pub(super) fn end(&mut self, weights: &Weights) -> Result<(), ModelError> {
        mix(&mut self.backout, 0, weights, &mut self.values, &mut self.added)
    }

    /// Columns that the programs have.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The first part of a layer: queries, keys and values of all columns.
    pub(super) fn project(
        &mut self,
        config: &GptConfig,
        weights: &Weights,
        layer: usize,
        columns: &[Column],
    ) -> Result<(), ModelError> {
        let Bucket { kinds, values, .. } = self;
        let kind = kinds.get_mut(&config.kind(layer));
        let Kind { mix: mixture, qkv, .. } = kind.expect("each layer is of a kind");
        mix(mixture, layer, weights, values, &mut self.added)?;
        if config.embeds_values(layer) {
            values.rows.fill(0.0);
            for (t, column) in columns.iter().enumerate() {
                let (table, row) = (("value_embeds", Some(layer)), column.token as usize);
                weights.add_row(table, row, &mut values.rows, t, self.columns);
            }
        }
        qkv.run(layer, weights, values, &mut self.given.each_mut().map(|data| replace(data)))?;
        for (given, tokens) in self.given.iter().zip(&mut self.tokens) {
            transpose(given, self.columns, tokens);
        }
        Ok(())
    }

    /// Stores the keys and values of `columns`.
    pub(super) fn put(
        &self,
        config: &GptConfig,
        layer: usize,
        (columns, places): (&[Column], &[Place]),
        slots: &mut [Slot],
    ) {
        let [_, keys, new] = &self.tokens;
        let each = keys.chunks_exact(config.kv_dim()).zip(new.chunks_exact(config.kv_dim()));
        for ((column, place), (keys, new)) in columns.iter().zip(places).zip(each) {
            slots[column.slot].caches[layer].put(place.position, keys, new);
        }
    }

    /// The rest of a layer, once all keys and values are stored: the stream before it becomes the stream after it.
    pub(super) fn mix_and_feed(
        &mut self,
        config: &GptConfig,
        weights: &Weights,
        layer: usize,
        of: (&[Column], &[Place]),
        slots: &[Slot],
    ) -> Result<(), ModelError> {
        let Bucket { kinds, values, .. } = self;
        let kind = kinds.get_mut(&config.kind(layer));
        let Kind { out, feed_forward, .. } = kind.expect("each layer is of a kind");
        attend(config, layer, of, slots, &self.tokens[0], &mut self.mixed);
        transpose(&self.mixed, config.q_dim(), &mut values.attention);
        out.run(layer, weights, values, &mut [replace(&mut self.added)])?;
        cpu::simd::add(&mut values.stream, &self.added);
        feed_forward.run(layer, weights, values, &mut [replace(&mut self.added)])?;
        cpu::simd::add(&mut values.stream, &self.added);
        if layer == config.n_layer / 2 && !values.middle.is_empty() {
            values.middle.copy_from_slice(&values.stream);
        }
        Ok(())
    }
}

/// Replaces the stream by what `program` makes of it, if the model has the program.
fn mix(
    program: &mut Option<Program>,
    layer: usize,
    weights: &Weights,
    values: &mut Values,
    mixed: &mut Vec<f32>,
) -> Result<(), ModelError> {
    if let Some(program) = program {
        program.run(layer, weights, values, &mut [replace(mixed)])?;
        std::mem::swap(&mut values.stream, mixed);
    }
    Ok(())
}

/// Attention of every column over the cache of its slot: queries and results [T, Q]. Neighbours of one text
/// that see the same tokens, but for the last ones, read them together.
fn attend(
    config: &GptConfig,
    layer: usize,
    (columns, places): (&[Column], &[Place]),
    slots: &[Slot],
    queries: &[f32],
    results: &mut [f32],
) {
    let (heads, width) = (config.n_head, config.head_dim);
    let (share, scale) = (heads / config.n_kv_head, (1.0 / (width as f64).sqrt()) as f32);
    let seen = |t: usize| {
        let end = places[t].position + 1;
        config.window(layer).map_or(0, |window| end.saturating_sub(window))..end
    };
    let cache = |t: usize| &slots[columns[t].slot].caches[layer];
    let query = |t: usize, head: usize| &queries[(t * heads + head) * width..][..width];
    let are_neighbours = |first: usize| {
        (first + 1..first + TOGETHER).all(|t| {
            let one_text = columns[t].slot == columns[first].slot;
            one_text && seen(t) == (seen(first).start..seen(t - 1).end + 1)
        })
    };
    let results = &mut results[..columns.len() * heads * width];
    let work: usize = places.iter().map(|place| (place.position + 1) * heads * width).sum();
    let parallel = work >= PARALLEL;
    if columns.len() < TOGETHER * rayon::current_num_threads() {
        let one = |i: usize, to: &mut [f32]| {
            let (t, head) = (i / heads, i % heads);
            cache(t).attend(head / share, query(t, head), scale, seen(t), to);
        };
        return for_each_chunk(results, width, parallel, &one);
    }
    let row = heads * width;
    for_each_chunk(results, TOGETHER * row, parallel, &|i, to| {
        let (first, count) = (i * TOGETHER, to.len() / row);
        let together = count == TOGETHER && are_neighbours(first);
        for head in 0..heads {
            let mut to = to.chunks_exact_mut(row).map(|row| &mut row[head * width..][..width]);
            if together {
                let queries = std::array::from_fn(|i| query(first + i, head));
                let to = std::array::from_fn(|_| to.next().expect("a result of each"));
                cache(first).attend_together(head / share, queries, scale, seen(first), to);
            } else {
                for (t, to) in (first..).zip(to) {
                    cache(t).attend(head / share, query(t, head), scale, seen(t), to);
                }
            }
        }
    });
}

/// The last norm and the classifier for some number of columns.
#[derive(Debug)]
pub(super) struct Head {
    columns: usize,
    program: Program,
    values: Values,
    /// [columns, V]
    logits: Vec<f32>,
}

impl Head {
    pub(super) fn new(
        config: &GptConfig,
        columns: usize,
        weights: &Weights,
    ) -> Result<Self, ModelError> {
        let dims = Dims { config, batch: columns, seq: 1, dtype: DType::Fp32 };
        let stream = vec![0.0; config.n_embd * columns];
        Ok(Head {
            columns,
            program: Program::new(&head_function(&dims)?, Block::Head, 1, weights)?,
            values: Values { stream, ..Values::default() },
            logits: vec![0.0; columns * config.vocab_size],
        })
    }

    /// The logits after the columns `wanted` of buckets, [wanted, V].
    pub(super) fn run(
        &mut self,
        weights: &Weights,
        wanted: &[(&Bucket, usize)],
        logits: &mut [f32],
    ) -> Result<(), ModelError> {
        self.values.columns = wanted.len();
        for (i, to) in self.values.stream.chunks_exact_mut(self.columns).enumerate() {
            to.iter_mut().zip(wanted).for_each(|(to, (bucket, t))| {
                *to = bucket.values.stream[i * bucket.columns + t];
            });
        }
        if wanted.len() == self.columns {
            let logits = &mut logits[..self.logits.len()];
            return self.program.run(0, weights, &self.values, &mut [replace(logits)]);
        }
        self.program.run(0, weights, &self.values, &mut [replace(&mut self.logits)])?;
        let count = wanted.len() * (self.logits.len() / self.columns);
        logits[..count].copy_from_slice(&self.logits[..count]);
        Ok(())
    }
}

/// (x, parameters of the norm, wcls) → logits [T, V].
fn head_function(dims: &Dims<'_>) -> Result<Function, PlanError> {
    let (c, b) = (dims.config, Builder::new("head"));
    let wcls = ("wcls", dims.parameter(&[c.vocab_size, c.n_embd]));
    let scope = c.family().scope(&b, dims, (Block::Head, 0), "x", &[wcls]);
    let xf = c.family().last_norm(&scope, scope.input("x"));
    let xf = xf.reshape(&[1, 1, c.n_embd, dims.tokens()]);
    let raw = scope.input("wcls").matmul(xf, false, false).transpose(&[0, 1, 3, 2]);
    let forward = b.finish(&[block::logits(c, raw)])?;
    let given = inputs(&forward);
    Cuts::forward(forward).cut("head", &given, &["logits"])
}
