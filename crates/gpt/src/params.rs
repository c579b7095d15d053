//! The parameters of a model: one arena of f32, with a name and a shape for every part.

use crate::config::GptConfig;
use crate::declare::{Block, Declared, Group, Init, Tensor};
use crate::normal::Normals;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One parameter: where it is in the arena and what it is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Name, unique in the model: that of its tensor where it has one of its own.
    pub name: String,
    /// Its name in programs.
    pub port: &'static str,
    /// The part of the model that it belongs to.
    pub block: Block,
    /// Layer, for those that belong to one.
    pub layer: Option<usize>,
    /// Extents, row-major: [out, in] or `[n]`.
    pub shape: Vec<usize>,
    /// First element in the arena.
    pub offset: usize,
    /// How it begins.
    pub init: Init,
    /// Its kind, for an optimizer.
    pub group: Group,
}

impl Param {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements in the arena.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.count()
    }

    /// True if weight decay applies ([`Group::decays`]).
    pub fn decays(&self) -> bool {
        self.group.decays()
    }
}

/// A tensor of a checkpoint: one parameter, or several one after the other along the outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its extents in the checkpoint.
    pub shape: Vec<usize>,
    /// True if it is [in, out].
    pub transposed: bool,
    /// The parameters in it, by their index in [`Layout::params`].
    pub parts: Vec<usize>,
}

/// Names, shapes and places of all parameters of a configuration. Values, gradients and optimizer
/// moments all have this layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    params: Vec<Param>,
    tensors: Vec<Stored>,
    count: usize,
    /// Elements of the classifier that are not beyond the vocabulary.
    classified: usize,
}

impl Layout {
    /// The layout of `config`.
    pub fn new(config: &GptConfig) -> Self {
        let classified = config.vocab_size * config.n_embd;
        let mut layout = Layout { params: vec![], tensors: vec![], count: 0, classified };
        let mut known = HashMap::new();
        let family = config.family();
        for declared in family.parameters(config) {
            let tensor = family.tensor(declared.port, declared.layer);
            layout.push(declared, tensor, &mut known);
        }
        layout.name_parts();
        layout
    }

    fn push(&mut self, declared: Declared, tensor: Tensor, known: &mut HashMap<String, usize>) {
        let Declared { port, block, layer, shape, init, group } = declared;
        let index = *known.entry(tensor.name.clone()).or_insert(self.tensors.len());
        if index == self.tensors.len() {
            let Tensor { name, transposed } = tensor.clone();
            self.tensors.push(Stored { name, shape: vec![], transposed, parts: vec![] });
        }
        let stored = &mut self.tensors[index];
        let out = if stored.transposed { shape.len() - 1 } else { 0 };
        if stored.parts.is_empty() {
            stored.shape = shape.clone();
            if stored.transposed {
                stored.shape.reverse();
            }
        } else {
            stored.shape[out] += shape[0];
        }
        stored.parts.push(self.params.len());
        let (name, offset) = (tensor.name, self.count);
        let param = Param { name, port, block, layer, shape, offset, init, group };
        self.count += param.count();
        self.params.push(param);
    }

    /// Parameters that share a tensor are told apart by their ports, or by their layers.
    fn name_parts(&mut self) {
        for stored in &self.tensors {
            let [first, second, ..] = stored.parts[..] else { continue };
            let of_layers = self.params[first].port == self.params[second].port;
            for &part in &stored.parts {
                let param = &mut self.params[part];
                param.name = match param.layer.filter(|_| of_layers) {
                    Some(layer) => format!("{}[{layer}]", param.name),
                    None => format!("{}[{}]", param.name, param.port),
                };
            }
        }
    }

    /// All parameters in order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The tensors of a checkpoint, in the order of their first parameters.
    pub fn tensors(&self) -> &[Stored] {
        &self.tensors
    }

    /// Number of elements of all parameters.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The parameter of port `port` (of `layer`, where it belongs to one).
    pub fn find(&self, port: &str, layer: Option<usize>) -> Option<&Param> {
        self.params.iter().find(|p| p.port == port && p.layer == layer)
    }

    /// Elements of the parameter of port `port`, which belongs to no layer.
    ///
    /// # Panics
    /// If the model does not have it.
    pub fn range(&self, port: &str) -> Range<usize> {
        let found = self.find(port, None);
        found.unwrap_or_else(|| panic!("the model has a parameter `{port}`")).range()
    }

    /// The token embedding, V rows or more of D.
    pub fn embedding(&self) -> Range<usize> {
        self.range("embedding")
    }

    /// The classifier [V, D]: its own parameter, or the embedding, without rows beyond the vocabulary.
    pub fn classifier(&self) -> Range<usize> {
        let start = self.classifier_table().start;
        start..start + self.classified
    }

    /// The rows of the classifier's table that are beyond the vocabulary.
    pub(crate) fn classifier_rest(&self) -> Range<usize> {
        self.classifier().end..self.classifier_table().end
    }

    fn classifier_table(&self) -> Range<usize> {
        self.find("classifier", None).map_or_else(|| self.embedding(), Param::range)
    }

    /// Where a tensor of a checkpoint lies in an arena, if it lies there as it is.
    pub fn place(&self, tensor: &Stored) -> Option<Range<usize>> {
        match tensor.parts[..] {
            [only] if !tensor.transposed => Some(self.params[only].range()),
            _ => None,
        }
    }

    /// The elements of a tensor as a checkpoint has them, from an arena of this layout. Borrowed where
    /// they lie there as they are.
    pub fn stored<'a>(&self, tensor: &Stored, arena: &'a [f32]) -> Cow<'a, [f32]> {
        if let Some(place) = self.place(tensor) {
            return Cow::Borrowed(&arena[place]);
        }
        let parts = tensor.parts.iter().flat_map(|&part| &arena[self.params[part].range()]);
        let rows: Vec<f32> = parts.copied().collect();
        Cow::Owned(if tensor.transposed { transposed(&rows, tensor.shape[0]) } else { rows })
    }

    /// Has `read` fill every tensor of a checkpoint, and brings them into an arena of this layout. Those
    /// that lie in it as they are, are filled in place.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn fill<E>(
        &self,
        arena: &mut [f32],
        read: impl FnOnce(Vec<(&Stored, &mut [f32])>) -> Result<(), E>,
    ) -> Result<(), E> {
        let whole = |tensor: &Stored| self.place(tensor).is_some();
        let mut packed: Vec<Vec<f32>> = (self.tensors.iter())
            .map(|tensor| match whole(tensor) {
                true => vec![],
                false => vec![0.0; tensor.shape.iter().product()],
            })
            .collect();
        let (mut rest, mut places) = (&mut *arena, vec![]);
        for param in &self.params {
            let (place, tail) = rest.split_at_mut(param.count());
            places.push(Some(place));
            rest = tail;
        }
        let wanted = (self.tensors.iter()).zip(&mut packed).map(|(tensor, packed)| {
            let place = if whole(tensor) { places[tensor.parts[0]].take() } else { None };
            (tensor, place.unwrap_or(&mut packed[..]))
        });
        read(wanted.collect())?;
        for (tensor, packed) in self.tensors.iter().zip(&packed).filter(|(t, _)| !whole(t)) {
            self.restore(tensor, packed, arena);
        }
        Ok(())
    }

    /// Brings the elements of a tensor of a checkpoint into an arena of this layout.
    ///
    /// # Panics
    /// If there are not as many as the tensor's shape says.
    pub fn restore(&self, tensor: &Stored, from: &[f32], arena: &mut [f32]) {
        let turned = tensor.transposed.then(|| transposed(from, from.len() / tensor.shape[0]));
        let mut rest = turned.as_deref().unwrap_or(from);
        for &part in &tensor.parts {
            let range = self.params[part].range();
            let (own, others) = rest.split_at(range.len());
            arena[range].copy_from_slice(own);
            rest = others;
        }
    }
}

/// A matrix of rows of `columns` elements, transposed.
fn transposed(rows: &[f32], columns: usize) -> Vec<f32> {
    let height = rows.len() / columns;
    (0..rows.len()).map(|i| rows[i % height * columns + i / height]).collect()
}

/// Told of each part of a parameter that has its new elements: the place of the first one in the parameter, and the
/// elements. Several threads may tell at once.
pub type Done<'d> = dyn Fn(usize, &[f32]) + Sync + 'd;

/// An update that can be made parameter by parameter.
pub trait Deferred: Debug + Send {
    /// Updates the elements `w` of a parameter, the `param`-th of the layout, with its gradients `g`, and tells `done` of
    /// every element once. A parameter that was updated before stays as it is, and is told all the same.
    fn update(&mut self, param: usize, w: &mut [f32], g: &[f32], done: &Done<'_>);

    /// Updates all parameters that are left, among `values`.
    fn finish(&mut self, values: &mut [f32]);
}

/// An update that was left for later, in the hands of who makes it: readers of the parameters wait. Dropped before it
/// is made, it is left for later again.
#[derive(Debug)]
pub struct Pending<'p>(MutexGuard<'p, Option<Box<dyn Deferred>>>);

impl Pending<'_> {
    /// The update.
    pub(crate) fn update(&mut self) -> &mut dyn Deferred {
        &mut **self.0.as_mut().expect("there is an update as long as it is in hand")
    }

    /// Ends it: all parameters are updated.
    pub(crate) fn made(mut self) {
        *self.0 = None;
    }
}

/// The master weights of a model. Clones are the same weights: what trains and what samples share them.
#[derive(Clone, Debug)]
pub struct Parameters(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: GptConfig,
    layout: Layout,
    values: RwLock<Vec<f32>>,
    /// An update that the values lack.
    deferred: Mutex<Option<Box<dyn Deferred>>>,
    version: AtomicU64,
}

impl Parameters {
    /// Takes `values`, which have the layout of `config`.
    ///
    /// # Panics
    /// If there are more or fewer than the layout has.
    pub fn new(config: &GptConfig, values: Vec<f32>) -> Self {
        let layout = Layout::new(config);
        assert_eq!(values.len(), layout.count(), "parameters of {config}");
        let (config, values) = (config.clone(), RwLock::new(values));
        let (deferred, version) = (Mutex::new(None), AtomicU64::new(0));
        Parameters(Arc::new(Shared { config, layout, values, deferred, version }))
    }

    /// The model they are of.
    pub fn config(&self) -> &GptConfig {
        &self.0.config
    }

    /// Names and places.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// The values. An update waits until nobody reads; one that was deferred is made first.
    pub fn read(&self) -> RwLockReadGuard<'_, Vec<f32>> {
        self.settle();
        self.0.values.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values alone: without a copy, where these weights are nobody else's.
    pub fn into_values(self) -> Vec<f32> {
        self.settle();
        match Arc::try_unwrap(self.0) {
            Ok(shared) => shared.values.into_inner().unwrap_or_else(PoisonError::into_inner),
            Err(shared) => Parameters(shared).read().clone(),
        }
    }

    /// Changes the values. Every model of these weights takes them up before it next computes.
    pub fn update<R>(&self, change: impl FnOnce(&mut [f32]) -> R) -> R {
        self.settle();
        let mut values = self.write();
        self.0.version.fetch_add(1, Ordering::Release);
        change(&mut values)
    }

    /// Leaves an update for later: whoever next reads the values makes it, or who takes it in hand
    /// ([`Parameters::pending`]).
    pub fn defer(&self, update: Box<dyn Deferred>) {
        self.settle();
        self.0.version.fetch_add(1, Ordering::Release);
        *self.deferred() = Some(update);
    }

    /// Takes the update in hand that was left for later, if nobody has made it.
    pub fn pending(&self) -> Option<Pending<'_>> {
        let deferred = self.deferred();
        deferred.is_some().then_some(Pending(deferred))
    }

    /// Makes the update that was left for later.
    pub fn settle(&self) {
        let mut deferred = self.deferred();
        if let Some(mut update) = deferred.take() {
            update.finish(&mut self.write());
        }
    }

    /// A number that each update changes, when it is made or deferred.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    fn deferred(&self) -> MutexGuard<'_, Option<Box<dyn Deferred>>> {
        self.0.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values as they are, to be changed by an update that was deferred.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Vec<f32>> {
        self.0.values.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers of one task of [`initialise`]; even, since they are drawn in pairs.
const CHUNK: usize = 1 << 16;

/// Draws the initial values, each parameter as its family says ([`Init`]).
pub fn initialise(config: &GptConfig, seed: u64) -> Vec<f32> {
    let layout = Layout::new(config);
    let mut values = vec![0.0; layout.count()];
    // Each parameter has a stream of its own, and streams can be entered anywhere: all cores draw.
    let mut rest = &mut values[..];
    let mut parts = vec![];
    for param in layout.params() {
        let (part, tail) = std::mem::take(&mut rest).split_at_mut(param.range().len());
        parts.push((param, part));
        rest = tail;
    }
    parts.into_par_iter().enumerate().for_each(|(i, (param, part))| {
        let normals = Normals::new(seed, i as u64);
        let draw = |chunk: usize, part: &mut [f32]| {
            let first_pair = (chunk * CHUNK / 2) as u64;
            match param.init {
                Init::Constant(value) => part.fill(value),
                Init::Normal(deviation) => {
                    normals.fill(first_pair, part);
                    part.iter_mut().for_each(|v| *v *= deviation);
                }
                Init::Uniform(low, high) => normals.fill_uniform(first_pair, low..high, part),
            }
        };
        part.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, part)| draw(chunk, part));
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes() {
        // llama2.c's stories110M has 109.53 million parameters, Qwen3-0.6B 596.0 million without
        // its 28·2·128 query and key gains.
        let count = |name| Layout::new(&GptConfig::preset(name).unwrap()).count();
        assert_eq!(count("stories110m"), 109_529_856);
        assert_eq!(count("qwen3-0.6b") - 28 * 2 * 128, 596_042_752);
        // GPT-2 124M, as its checkpoint's.
        assert_eq!(count("gpt2"), 124_439_808);
    }

    /// Adds 1 to every element of the parameters that are left.
    #[derive(Debug)]
    struct Ones(Vec<Range<usize>>);

    impl Deferred for Ones {
        fn update(&mut self, param: usize, w: &mut [f32], _: &[f32], done: &Done<'_>) {
            w.iter_mut().for_each(|w| *w += 1.0);
            self.0[param] = 0..0;
            done(0, w);
        }

        fn finish(&mut self, values: &mut [f32]) {
            let left = self.0.iter().cloned();
            left.for_each(|range| values[range].iter_mut().for_each(|w| *w += 1.0));
        }
    }

    #[test]
    fn whoever_needs_the_values_gets_them_updated() {
        let config = GptConfig::preset("tiny").unwrap();
        let count = Layout::new(&config).count();
        let parameters = Parameters::new(&config, vec![0.0; count]);
        let ones = || {
            let ranges = parameters.layout().params().iter().map(Param::range).collect();
            Box::new(Ones(ranges))
        };
        let version = parameters.version();
        parameters.defer(ones());
        assert_ne!(parameters.version(), version, "who has the values of before is told");
        assert!(parameters.read().iter().all(|&w| w == 1.0));
        parameters.defer(ones());
        parameters.update(|values| assert!(values.iter().all(|&w| w == 2.0)));
        parameters.defer(ones());
        parameters.defer(ones());
        // Taken in hand, made in part, and left again.
        let mut pending = parameters.pending().unwrap();
        let first = parameters.layout().params()[0].range();
        pending.update().update(0, &mut parameters.write()[first.clone()], &[], &|at, w| {
            assert_eq!((at, w.len()), (0, first.len()));
        });
        drop(pending);
        assert!(parameters.read().iter().all(|&w| w == 4.0) && parameters.pending().is_none());
        // Made by whoever took it in hand.
        parameters.defer(ones());
        parameters.pending().unwrap().made();
        assert!(parameters.into_values().iter().all(|&w| w == 4.0));
    }

    /// Parts that different cores draw are one stream.
    #[test]
    fn initial_values_do_not_depend_on_how_they_are_cut() {
        let config = GptConfig::preset("tiny").unwrap();
        let layout = Layout::new(&config);
        let values = initialise(&config, 7);
        let (index, largest) =
            layout.params().iter().enumerate().max_by_key(|(_, p)| p.count()).unwrap();
        assert!(largest.count() > 2 * CHUNK, "{} is cut", largest.name);
        let mut whole = vec![0.0; largest.count()];
        Normals::new(7, index as u64).fill(0, &mut whole);
        whole.iter_mut().for_each(|v| *v *= 0.02);
        assert!(values[largest.range()] == whole);
    }

    #[test]
    fn initial_values_have_the_stated_spread_and_depend_on_the_seed() {
        let config = GptConfig::preset("tiny").unwrap();
        let layout = Layout::new(&config);
        let values = initialise(&config, 7);
        assert_eq!(values, initialise(&config, 7));
        assert_ne!(values, initialise(&config, 8));
        for param in layout.params() {
            let part = &values[param.range()];
            let n = part.len() as f64;
            let mean = part.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let variance = part.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
            if !param.decays() {
                assert!(part.iter().all(|&v| v == 1.0));
                continue;
            }
            let residual = ["wo", "w2"].contains(&param.port);
            let deviation = if residual { 0.02 / 8f64.sqrt() } else { 0.02 };
            // Five standard errors of a mean and of a standard deviation.
            assert!(mean.abs() < 5.0 * deviation / n.sqrt(), "{}: {mean}", param.name);
            let spread = (variance.sqrt() / deviation - 1.0).abs();
            assert!(spread < 5.0 / (2.0 * n).sqrt(), "{}: {spread}", param.name);
        }
    }
}
