//! Generation of several texts at once on the CPU.
//!
//! A [`SlotDecoder`] has slots, each with a text of its own: its tokens, and a cache of the keys and
//! values that its next tokens attend to. One forward pass takes columns, that is tokens, of any slots:
//! the next token of eight texts, a part of one long prompt, or both. Weights are read once for all of
//! them, rounded as asked for ([`WeightFormat`]); the caches are f32.
//!
//! A layer is the programs of the plan [`SLOTS`] with attention between them. Programs are compiled for
//! 1, 2, 4, … columns when they are first needed. Many columns are divided: each thread takes its part through
//! all programs up to attention, and from there through the rest of the layer. Each column's numbers are the same bits alone and in
//! any company, in one pass or in several: sums take their terms in an order that depends on nothing
//! else ([`cpu::matrix`], [`cpu::attention`], [`cpu::Arithmetic::COLUMNWISE`]).
//!
//! That makes speculative decoding exact. [`SlotDecoder::draft`] guesses some tokens with a second copy of the
//! weights, in int8, and one pass of [`SlotDecoder::forward`] over all of them gives the logits that each would have
//! had alone. Where a guess is wrong, the text is cut before it.
//!
//! [`SLOTS`]: crate::plan::SLOTS

mod programs;
mod weights;

pub use cpu::WeightFormat;

use crate::batch::{ModelError, check_vocabulary};
use crate::config::GptConfig;
use crate::params::Parameters;
use cpu::attention::Cache;
use cpu::team::assemble;
use programs::{Bucket, Head};
use rayon::prelude::*;
use std::collections::{BTreeMap, btree_map::Entry};
use weights::Weights;

/// The most columns of a forward pass.
pub const MOST_COLUMNS: usize = 256;
/// The most columns for which other threads wait in loops.
const FEW_COLUMNS: usize = 8;
/// The fewest columns that are worth a thread of their own.
const PART_COLUMNS: usize = 48;
/// The most columns whose logits are computed at a time.
const HEAD_COLUMNS: usize = 32;

/// The size of a [`SlotDecoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotOptions {
    /// Texts at once.
    pub slots: usize,
    /// Longest text, in tokens; the model's own limit if that is less.
    pub context: usize,
    /// How matrices are stored.
    pub weights: WeightFormat,
}

/// A token that a forward pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The text that it continues.
    pub slot: usize,
    /// The token.
    pub token: u32,
    /// True if the logits after it are wanted.
    pub logits: bool,
}

/// A model that continues several texts at once; see the module. It computes with the parameters as they
/// were when it was made, and does not hold on to them.
#[derive(Debug)]
pub struct SlotDecoder {
    config: GptConfig,
    context: usize,
    weights: Weights,
    /// The weights that guess, in int8.
    draft: Option<Weights>,
    slots: Vec<Slot>,
    /// By columns, those that are not in use.
    buckets: BTreeMap<usize, Vec<Bucket>>,
    heads: BTreeMap<usize, Head>,
    /// [wanted, V]
    logits: Vec<f32>,
}

/// What a pass computes with: the weights, or those that guess.
#[derive(Clone, Copy, Debug)]
enum Pass {
    True,
    Draft,
}

/// Where the token of a column stands in its text.
#[derive(Clone, Copy, Debug)]
struct Place {
    position: usize,
    /// The token before it.
    before: Option<u32>,
}

/// A text.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its tokens.
    text: Vec<u32>,
    /// One per layer.
    pub(crate) caches: Vec<Cache>,
}

/// Tokens that the cache of a layer keeps. Within one pass, a text's last column must not displace what its
/// first one sees.
fn tokens_kept(config: &GptConfig, layer: usize, context: usize) -> usize {
    match config.window(layer) {
        Some(window) => context.min(window + MOST_COLUMNS - 1),
        None => context,
    }
}

/// Columns that the programs for `columns` columns have: a power of two, or from 32 on a multiple of it.
fn bucket_size(columns: usize) -> usize {
    match columns {
        ..32 => columns.next_power_of_two(),
        _ => columns.next_multiple_of(32),
    }
}

impl SlotDecoder {
    /// Packs the weights and makes room for the texts.
    ///
    /// # Errors
    /// When the configuration is no model, or the options leave room for nothing.
    pub fn new(parameters: &Parameters, options: SlotOptions) -> Result<Self, ModelError> {
        let config = parameters.config().clone();
        config.validate()?;
        let context = options.context.min(config.seq_len);
        if options.slots == 0 || context == 0 {
            return Err(ModelError::NoRoom { slots: options.slots, context });
        }
        let cache = |layer| {
            Cache::new(config.n_kv_head, config.head_dim, tokens_kept(&config, layer, context))
        };
        let slot = || Slot { text: vec![], caches: (0..config.n_layer).map(cache).collect() };
        Ok(SlotDecoder {
            context,
            weights: Weights::new(parameters, options.weights),
            draft: None,
            slots: (0..options.slots).map(|_| slot()).collect(),
            buckets: BTreeMap::new(),
            heads: BTreeMap::new(),
            logits: vec![],
            config,
        })
    }

    /// Adds a copy of the same weights in int8, for [`SlotDecoder::draft`].
    ///
    /// # Panics
    /// If `parameters` are those of a model of another shape.
    #[must_use]
    pub fn with_draft(mut self, parameters: &Parameters) -> Self {
        assert_eq!(parameters.config(), &self.config, "the weights of the same model");
        self.draft = Some(Weights::new(parameters, WeightFormat::Int8));
        self
    }

    /// True if there are weights that guess.
    pub fn drafts(&self) -> bool {
        self.draft.is_some()
    }

    /// Shape of the model.
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Number of texts.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Longest text, in tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Bytes of the packed weights, those that guess included.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes() + self.draft.as_ref().map_or(0, Weights::bytes)
    }

    /// Bytes of the cache of one text.
    pub fn slot_bytes(&self) -> usize {
        Self::bytes_of_slot(&self.config, self.context)
    }

    /// Bytes of the cache of one text of up to `context` tokens.
    pub fn bytes_of_slot(config: &GptConfig, context: usize) -> usize {
        let context = context.min(config.seq_len);
        let bytes = |layer| {
            let tokens = tokens_kept(config, layer, context);
            Cache::bytes_of(config.n_kv_head, config.head_dim, tokens)
        };
        (0..config.n_layer).map(bytes).sum()
    }

    /// Tokens of the text in `slot`.
    pub fn position(&self, slot: usize) -> usize {
        self.slots[slot].text.len()
    }

    /// True if the text in `slot` can be cut to its first `tokens` tokens: the cache still has all that
    /// the next one sees. Only sliding windows forget.
    pub fn keeps(&self, slot: usize, tokens: usize) -> bool {
        let Slot { text, caches } = &self.slots[slot];
        let has = |layer: usize| {
            let seen = self.first_seen(layer, tokens);
            seen >= tokens || caches[layer].oldest() <= seen
        };
        tokens == text.len() || (tokens < text.len() && (0..caches.len()).all(has))
    }

    /// The first token that token `position` attends to.
    fn first_seen(&self, layer: usize, position: usize) -> usize {
        self.config.window(layer).map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Cuts the text in `slot` to its first `tokens` tokens.
    ///
    /// # Panics
    /// Unless it [keeps](SlotDecoder::keeps) them.
    pub fn truncate(&mut self, slot: usize, tokens: usize) {
        assert!(self.keeps(slot, tokens), "the tokens before are in the cache");
        self.slots[slot].text.truncate(tokens);
    }

    /// Replaces the text in slot `to` by the first `tokens` tokens of that in `from`.
    ///
    /// # Panics
    /// Unless `from` [keeps](SlotDecoder::keeps) them.
    pub fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        assert!(self.keeps(from, tokens), "the tokens before are in the cache");
        if from != to {
            let [from, to] = self.slots.get_disjoint_mut([from, to]).expect("two slots");
            for (to, from) in to.caches.iter_mut().zip(&from.caches) {
                to.copy(from, tokens);
            }
            to.text.clone_from(&from.text);
        }
        self.slots[to].text.truncate(tokens);
    }

    /// Takes `columns` into their slots, those of one slot in their order, and returns the logits `[V]`
    /// after each column for which they are wanted, one after the other.
    ///
    /// # Errors
    /// When there are no columns or more than [`MOST_COLUMNS`], a token is not of the vocabulary, there is
    /// no such slot, or a text becomes longer than the context. Nothing is taken then.
    pub fn forward(&mut self, columns: &[Column]) -> Result<&[f32], ModelError> {
        self.pass(columns, Pass::True)
    }

    /// Guesses how the text in `slot` goes on after `token`, with the weights of [`SlotDecoder::with_draft`]. `choose`
    /// gets the logits `[V]` after each token that was read, and returns the next one to read, or `None` to end.
    ///
    /// The text stays as it was. What the guess leaves in the caches lies behind the text's end, where nothing reads
    /// it, and the pass that goes on with the text overwrites it.
    ///
    /// # Errors
    /// As [`SlotDecoder::forward`].
    ///
    /// # Panics
    /// If there are no such weights, or more than [`MOST_COLUMNS`] tokens are read.
    pub fn draft(
        &mut self,
        slot: usize,
        token: u32,
        mut choose: impl FnMut(&[f32]) -> Option<u32>,
    ) -> Result<(), ModelError> {
        let end = self.slots.get(slot).map(|slot| slot.text.len());
        let mut guess = || -> Result<(), ModelError> {
            let mut next = Some(token);
            while let Some(token) = next {
                let column = Column { slot, token, logits: true };
                next = choose(self.pass(&[column], Pass::Draft)?);
            }
            Ok(())
        };
        let done = guess();
        if let Some(end) = end {
            self.truncate(slot, end);
        }
        done
    }

    fn pass(&mut self, columns: &[Column], kind: Pass) -> Result<&[f32], ModelError> {
        let places = self.admit(columns)?;
        // Threads stand by where pieces of work are short, and else are the pool's.
        match columns.len() <= FEW_COLUMNS {
            true => assemble(|| self.compute(columns, &places, kind)),
            false => rayon::scope(|_| self.compute(columns, &places, kind)),
        }?;
        columns.iter().for_each(|column| self.slots[column.slot].text.push(column.token));
        let wanted = columns.iter().filter(|column| column.logits).count();
        Ok(&self.logits[..wanted * self.config.vocab_size])
    }

    /// The place of each column.
    fn admit(&self, columns: &[Column]) -> Result<Vec<Place>, ModelError> {
        if columns.is_empty() || columns.len() > MOST_COLUMNS {
            return Err(ModelError::BatchSize { expected: MOST_COLUMNS, got: columns.len() });
        }
        let tokens: Vec<u32> = columns.iter().map(|column| column.token).collect();
        check_vocabulary(&tokens, self.config.vocab_size)?;
        let mut next: BTreeMap<usize, Place> = BTreeMap::new();
        let place = |&Column { slot, token, .. }: &Column| {
            let slots = self.slots.len();
            let Slot { text, .. } = self.slots.get(slot).ok_or(ModelError::Slot { slot, slots })?;
            let end = Place { position: text.len(), before: text.last().copied() };
            let next = next.entry(slot).or_insert(end);
            let after = Place { position: next.position + 1, before: Some(token) };
            let place = std::mem::replace(next, after);
            match after.position > self.context {
                true => Err(ModelError::ContextFull { slot, context: self.context }),
                false => Ok(place),
            }
        };
        columns.iter().map(place).collect()
    }

    fn compute(
        &mut self,
        columns: &[Column],
        places: &[Place],
        kind: Pass,
    ) -> Result<(), ModelError> {
        let parts = rayon::current_num_threads().min(columns.len() / PART_COLUMNS).max(1);
        let size = match parts {
            1 => columns.len(),
            _ => columns.len().div_ceil(parts).next_multiple_of(8),
        };
        let mut parts = vec![];
        for (columns, places) in columns.chunks(size).zip(places.chunks(size)) {
            parts.push(Part { bucket: self.bucket(bucket_size(columns.len()))?, columns, places });
        }
        let done = self.compute_parts(&mut parts, kind);
        for part in parts {
            self.buckets.entry(part.bucket.columns()).or_default().push(part.bucket);
        }
        done
    }

    /// A bucket for `size` columns, which nobody uses.
    fn bucket(&mut self, size: usize) -> Result<Bucket, ModelError> {
        match self.buckets.get_mut(&size).and_then(Vec::pop) {
            Some(bucket) => Ok(bucket),
            None => Bucket::new(&self.config, size, &self.weights),
        }
    }

    /// Takes the columns of `parts` through the model.
    fn compute_parts(&mut self, parts: &mut [Part<'_>], kind: Pass) -> Result<(), ModelError> {
        let SlotDecoder { config, weights, draft, slots, heads, logits, .. } = self;
        let (config, weights) = match kind {
            Pass::True => (&*config, &*weights),
            Pass::Draft => (&*config, draft.as_ref().expect("weights that guess")),
        };
        each(parts, |Part { bucket, columns, places }| {
            bucket.begin(config, weights, columns, places)
        })?;
        for layer in 0..config.n_layer {
            each(parts, |part| part.bucket.project(config, weights, layer, part.columns))?;
            for Part { bucket, columns, places } in parts.iter() {
                bucket.put(config, layer, (columns, places), slots);
            }
            let slots = &*slots;
            each(parts, |Part { bucket, columns, places }| {
                bucket.mix_and_feed(config, weights, layer, (columns, places), slots)
            })?;
        }
        each(parts, |part| part.bucket.end(weights))?;
        let wanted: Vec<(usize, usize)> = (parts.iter().enumerate())
            .flat_map(|(i, part)| part.columns.iter().enumerate().map(move |(t, c)| (i, t, c)))
            .filter_map(|(part, t, column)| column.logits.then_some((part, t)))
            .collect();
        let vocab = config.vocab_size;
        logits.resize(logits.len().max(wanted.len() * vocab), 0.0);
        for (wanted, logits) in
            wanted.chunks(HEAD_COLUMNS).zip(logits.chunks_mut(HEAD_COLUMNS * vocab))
        {
            let size = wanted.len().next_power_of_two();
            let head = match heads.entry(size) {
                Entry::Occupied(head) => head.into_mut(),
                Entry::Vacant(place) => place.insert(Head::new(config, size, weights)?),
            };
            let of = |&(part, t): &(usize, usize)| (&parts[part].bucket, t);
            head.run(weights, &wanted.iter().map(of).collect::<Vec<_>>(), logits)?;
        }
        Ok(())
    }
}

/// Columns that one thread takes through the programs.
struct Part<'a> {
    bucket: Bucket,
    columns: &'a [Column],
    places: &'a [Place],
}

/// Calls `f` with each part, on several threads.
fn each(
    parts: &mut [Part<'_>],
    f: impl Fn(&mut Part<'_>) -> Result<(), ModelError> + Send + Sync,
) -> Result<(), ModelError> {
    match parts {
        [part] => f(part),
        _ => parts.par_iter_mut().try_for_each(f),
    }
}
