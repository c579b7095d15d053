//! The head on the host: last norm, classifier, loss and their gradients, section by section of the
//! tokens and tile by tile over the vocabulary, so that a tile's logits are turned into cotangents and used
//! up while they are in the cache. Logits are kept for one section alone.
//!
//! Sections, tiles, and the groups of tiles whose sums are kept apart, depend on the extents only:
//! results do not depend on the number of threads.

use crate::batch::{MicroBatch, ModelError, TokenWeights};
use crate::block;
use crate::declare::Block;
use crate::loss::{Normaliser, TileStatistics, cotangents_of_probabilities};
use crate::ops::{Dims, project};
use crate::params::Layout;
use crate::plan::{Cuts, PlanError, Sink, inputs};
use crate::run::{HeadBackward, sinks};
use ane::{AneError, Surface};
use cpu::{Elements, HostProgram, HostShape, OutputMut, Sgemm, simd};
use mil::{Builder, DType, Function};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// The most tokens of a section, and the fewest where there are several.
const SECTION: usize = 1024;
const LEAST_SECTION: usize = 256;
/// Elements of a tile of logits that are aimed at: 1 MiB of f32.
const TILE: usize = 1 << 18;
/// The most groups; each has its own sum of cotangents, [D, T].
const GROUPS: usize = 16;

/// Returns how many tokens of a micro-batch of `tokens` the head works on at once: equal sections, or all
/// tokens where no number of sections divides them.
pub fn tokens_at_once(tokens: usize) -> usize {
    (tokens.div_ceil(SECTION)..=tokens / LEAST_SECTION)
        .find(|sections| tokens.is_multiple_of(*sections))
        .map_or(tokens, |sections| tokens / sections)
}

/// How a vocabulary of V rows is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grid {
    /// Rows of a tile; the last one may have fewer.
    rows: usize,
    /// Tiles of a group; the last one may have fewer.
    tiles: usize,
}

impl Grid {
    fn new(vocab: usize, tokens: usize) -> Self {
        let most = (TILE / tokens).clamp(64, vocab.max(64));
        // Even tiles, of whole register tiles.
        let rows = vocab.div_ceil(vocab.div_ceil(most)).next_multiple_of(8);
        Grid { rows, tiles: vocab.div_ceil(rows).div_ceil(GROUPS) }
    }

    /// Rows of the tiles that `rows` rows are cut into.
    fn heights(self, rows: usize) -> impl Iterator<Item = usize> {
        (0..rows).step_by(self.rows).map(move |start| self.rows.min(rows - start))
    }
}

/// The products of a tile: its logits, and its share of the classifier's gradient.
pub(crate) fn products(vocab: usize, tokens: usize, width: usize) -> [HostShape; 2] {
    let tokens = tokens_at_once(tokens);
    let grid = Grid::new(vocab, tokens);
    let groups = vocab.div_ceil(grid.rows * grid.tiles);
    let at_once = groups.min(rayon::current_num_threads());
    let shape = |n, k, transposed| HostShape {
        m: grid.rows.min(vocab),
        n,
        k,
        transposed,
        half: false,
        at_once,
    };
    [shape(tokens, width, false), shape(width, tokens, true)]
}

/// Programs of the head, in f32: last norm and classifier.
#[derive(Clone, Debug)]
pub(crate) struct HeadFunctions {
    /// (x, parameters of the norm) → xf.
    norm: Function,
    /// (wcls, xf) → logits [1, R, 1, T], capped where the model caps them.
    classifier: Function,
    /// (cotangent of the logits before the cap, wcls) → d_xf.
    backward: Function,
    /// (the same, xf) → gradient of the classifier.
    classifier_gradient: Function,
    /// (x, parameters of the norm, d_xf) → d_x and the gradients of these parameters.
    norm_bwd: Function,
    /// (x, parameters of the norm, wcls) → logits.
    pub(crate) forward: Function,
    /// Parameters of the norm.
    norm_ports: Vec<String>,
}

impl HeadFunctions {
    /// The head of `dims` for `rows` R of the vocabulary.
    ///
    /// # Errors
    /// As [`crate::plan::Programs::new`].
    pub(crate) fn new(dims: &Dims<'_>, rows: usize) -> Result<Self, PlanError> {
        let c = dims.config;
        let dims = Dims { dtype: DType::Fp32, ..*dims };
        let b = Builder::new("head");
        let wcls = ("wcls", dims.parameter(&[rows, c.n_embd]));
        let scope = c.family().scope(&b, &dims, (Block::Head, 0), "x", &[wcls]);
        let xf = c.family().last_norm(&scope, scope.input("x")).named("xf");
        let logits = block::logits(c, project(scope.input("wcls"), xf));
        let forward = b.finish(&[logits])?;
        let all = inputs(&forward);
        let mut head = Cuts::joint(&forward)?;
        let norm = head.cut("norm", &all, &["xf"])?;
        let norm_ports = inputs(&norm)[1..].to_vec();
        let mut given = all.clone();
        given.push("d_xf".to_owned());
        let gradients = norm_ports.iter().map(|port| format!("d_{port}"));
        let gives: Vec<String> = std::iter::once("d_x".to_owned()).chain(gradients).collect();
        let seed = head.names("d_raw|d_logits").remove(0);
        Ok(HeadFunctions {
            forward: head.cut("head", &all, &["logits"])?,
            norm,
            classifier: head.cut("classifier", &["wcls", "xf"], &["logits"])?,
            backward: head.cut("headBwd", &[&seed, "wcls"], &["d_xf"])?,
            classifier_gradient: head.cut("wcls_grad", &[&seed, "xf"], &["d_wcls"])?,
            norm_bwd: head.cut("normBwd", &given, &gives)?,
            norm_ports,
        })
    }

    /// Where the parameters of the norm are in the arena.
    pub(crate) fn norm_parameters(&self, layout: &Layout) -> Vec<Range<usize>> {
        self.norm_ports.iter().map(|port| layout.range(port)).collect()
    }
}

/// Programs for tiles of one height.
#[derive(Debug)]
struct TilePrograms {
    rows: usize,
    classifier: HostProgram,
    backward: HostProgram,
    classifier_gradient: HostProgram,
}

impl TilePrograms {
    fn new(rows: usize, functions: &HeadFunctions) -> Result<Self, ModelError> {
        Ok(TilePrograms {
            rows,
            classifier: HostProgram::new(&functions.classifier)?,
            backward: HostProgram::new(&functions.backward)?,
            classifier_gradient: HostProgram::new(&functions.classifier_gradient)?,
        })
    }
}

/// Consecutive tiles that one thread works on.
#[derive(Debug)]
struct TileGroup {
    /// Programs for every height of tile that occurs.
    programs: Vec<TilePrograms>,
    /// One per tile.
    statistics: Vec<TileStatistics>,
    /// This group's share of the cotangent of `xf`, [D, T].
    d_xf: Vec<f32>,
}

impl TileGroup {
    /// The group of `rows` rows; `functions` has those of every height of tile.
    fn new(
        dims: &Dims<'_>,
        grid: Grid,
        rows: usize,
        functions: &BTreeMap<usize, HeadFunctions>,
    ) -> Result<Self, ModelError> {
        let heights: BTreeSet<usize> = grid.heights(rows).collect();
        let programs = heights.iter().map(|&rows| TilePrograms::new(rows, &functions[&rows]));
        Ok(TileGroup {
            programs: programs.collect::<Result<_, _>>()?,
            statistics: vec![TileStatistics::new(dims.tokens()); rows.div_ceil(grid.rows)],
            d_xf: vec![0.0; dims.config.n_embd * dims.tokens()],
        })
    }
}

fn for_rows(programs: &mut [TilePrograms], rows: usize) -> &mut TilePrograms {
    programs.iter_mut().find(|p| p.rows == rows).expect("every height has its programs")
}

/// The head of a model for batches of one size.
#[derive(Debug)]
pub(crate) struct Head {
    grid: Grid,
    width: usize,
    /// Tokens of a section.
    section: usize,
    norm: HostProgram,
    norm_bwd: HostProgram,
    /// Inputs of `norm_bwd` between the stream and the cotangent of `xf`.
    norm_bwd_parameters: Vec<Range<usize>>,
    /// Parameters of the norm, in the order of the programs.
    norm_parameters: Vec<Range<usize>>,
    classifier: Range<usize>,
    /// Rows of its table beyond the vocabulary.
    rest: Range<usize>,
    softcap: Option<f32>,
    groups: Vec<TileGroup>,
    /// Normalised residual and its cotangent, [D, T], and those of a section.
    xf: Columns,
    d_xf: Columns,
    /// [V, section]; between the passes e^(logit − the tile's largest), after them the cotangents.
    logits: Vec<f32>,
    normaliser: Normaliser,
    /// Of each token.
    losses: Vec<f64>,
}

/// An array [D, T] and a copy of one section of its columns.
#[derive(Debug)]
struct Columns {
    all: Vec<f32>,
    section: Vec<f32>,
}

impl Columns {
    fn new(width: usize, tokens: usize, section: usize) -> Self {
        Columns { all: vec![0.0; width * tokens], section: vec![0.0; width * section] }
    }

    /// Rows of section `index` in `all`, each with its copy.
    fn rows(
        &mut self,
        index: usize,
        section: usize,
    ) -> impl Iterator<Item = (&mut [f32], &mut [f32])> {
        let tokens = self.all.len() / (self.section.len() / section);
        let columns = index * section..(index + 1) * section;
        let rows = self.all.chunks_mut(tokens).map(move |row| &mut row[columns.clone()]);
        rows.zip(self.section.chunks_mut(section))
    }

    fn take(&mut self, index: usize, section: usize) {
        self.rows(index, section).for_each(|(row, copy)| copy.copy_from_slice(row));
    }

    fn put(&mut self, index: usize, section: usize) {
        self.rows(index, section).for_each(|(row, copy)| row.copy_from_slice(copy));
    }
}

impl Head {
    pub(crate) fn new(dims: &Dims<'_>) -> Result<Self, ModelError> {
        let (vocab, tokens, width) = (dims.config.vocab_size, dims.tokens(), dims.config.n_embd);
        let section = tokens_at_once(tokens);
        let of_section = Dims { batch: 1, seq: section, ..*dims };
        let grid = Grid::new(vocab, section);
        let group_rows = grid.rows * grid.tiles;
        let mut functions = BTreeMap::new();
        for rows in grid.heights(vocab).collect::<BTreeSet<_>>() {
            functions.insert(rows, HeadFunctions::new(&of_section, rows)?);
        }
        let groups = (0..vocab)
            .step_by(group_rows)
            .map(|start| {
                TileGroup::new(&of_section, grid, group_rows.min(vocab - start), &functions)
            })
            .collect::<Result<_, _>>()?;
        // The norms are the same whatever the height.
        let norms = HeadFunctions::new(dims, grid.rows.min(vocab))?;
        let layout = Layout::new(dims.config);
        let read = inputs(&norms.norm_bwd);
        let norm_bwd_parameters = read[1..read.len() - 1].iter().map(|port| layout.range(port));
        Ok(Head {
            grid,
            width,
            section,
            norm: HostProgram::new(&norms.norm)?,
            norm_bwd: HostProgram::new(&norms.norm_bwd)?,
            norm_bwd_parameters: norm_bwd_parameters.collect(),
            norm_parameters: norms.norm_parameters(&layout),
            classifier: layout.classifier(),
            rest: layout.classifier_rest(),
            softcap: dims.config.nanochat.softcap.map(|cap| cap as f32),
            groups,
            xf: Columns::new(width, tokens, section),
            d_xf: Columns::new(width, tokens, section),
            logits: vec![0.0; vocab * section],
            normaliser: Normaliser::new(section),
            losses: vec![0.0; tokens],
        })
    }

    /// Computes products with `library` from now on.
    pub(crate) fn multiply_with(&mut self, library: Option<&Arc<dyn Sgemm>>) {
        for tile in self.groups.iter_mut().flat_map(|group| &mut group.programs) {
            for program in [&mut tile.classifier, &mut tile.backward, &mut tile.classifier_gradient]
            {
                program.multiply_with(library.cloned());
            }
        }
    }

    /// Losses in nats of the tokens for the residual stream `x` [D, T] and the parameters `values`.
    pub(crate) fn forward(
        &mut self,
        x: &[f32],
        values: &[f32],
        targets: &[u32],
    ) -> Result<(), AneError> {
        self.normalise(x, values)?;
        let classifier = &values[self.classifier.clone()];
        for (i, targets) in targets.chunks(self.section).enumerate() {
            self.losses_of(i, classifier, targets)?;
        }
        Ok(())
    }

    /// Loss in nats of each token, as [`Head::forward`] or [`Head::backward`] last computed it.
    pub(crate) fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Losses of the tokens, as [`Head::forward`] gives them, the gradients of the head's parameters and
    /// the cotangent of the stream, where the loss of each token counts its weight.
    pub(crate) fn backward(
        &mut self,
        call: HeadBackward<'_>,
        targets: &[u32],
        weights: TokenWeights<'_>,
        micro_batch: MicroBatch,
    ) -> Result<(), AneError> {
        let HeadBackward { stream, values, cotangent, grads } = call;
        self.normalise(stream, values)?;
        let (classifier, section) = (&values[self.classifier.clone()], self.section);
        let gradient = &mut grads[self.classifier.clone()];
        for (i, targets) in targets.chunks(section).enumerate() {
            self.losses_of(i, classifier, targets)?;
            let part = if i == 0 { micro_batch } else { MicroBatch::Later };
            let weights = weights.section(i * section..(i + 1) * section);
            self.products_of(classifier, (targets, weights), part, gradient)?;
            self.d_xf.put(i, section);
        }
        self.clear_rest(micro_batch, grads);
        cotangent.fill(0.0);
        let parameters = self.norm_bwd_parameters.iter().map(|range| &values[range.clone()]);
        let inputs: Vec<_> = std::iter::once(stream)
            .chain(parameters)
            .chain(std::iter::once(&self.d_xf.all[..]))
            .map(Elements::F32)
            .collect();
        let gradients = self.norm_parameters.iter().cloned().map(Sink::Gradient);
        let stream = Sink::Array { to: 0, add: true };
        let outputs: Vec<_> = std::iter::once(stream).chain(gradients).collect();
        let mut sinks = sinks(&outputs, micro_batch, std::iter::once(cotangent), grads);
        Ok(self.norm_bwd.run(&inputs, &mut sinks)?)
    }

    /// Losses of the tokens whose `probs` [V, T] the device gives. A probability counts for no less than the
    /// least positive number of the device: in binary16, no loss is larger than 24 ln 2. That of a NaN is NaN.
    pub(crate) fn losses_of_probabilities(
        &mut self,
        probs: &Surface,
        targets: &[u32],
    ) -> Result<(), AneError> {
        let (guard, tokens) = (probs.lock()?, targets.len());
        let of = |index: usize| match guard.elements() {
            Elements::F16(p) => at_least(2f64.powi(-24), p[index].to_f64()),
            Elements::F32(p) => at_least(f64::from(f32::MIN_POSITIVE), f64::from(p[index])),
        };
        for (t, (loss, &id)) in self.losses.iter_mut().zip(targets).enumerate() {
            *loss = -of(id as usize * tokens + t).ln();
        }
        Ok(())
    }

    /// Rows of the classifier's table that no logit reads have no gradient.
    pub(crate) fn clear_rest(&self, micro_batch: MicroBatch, grads: &mut [f32]) {
        if micro_batch == MicroBatch::First {
            grads[self.rest.clone()].fill(0.0);
        }
    }

    /// The last norm of all tokens.
    fn normalise(&mut self, x: &[f32], values: &[f32]) -> Result<(), AneError> {
        let parameters = self.norm_parameters.iter().map(|range| &values[range.clone()]);
        let inputs: Vec<_> = std::iter::once(x).chain(parameters).map(Elements::F32).collect();
        Ok(self.norm.run(&inputs, &mut [replace(&mut self.xf.all)])?)
    }

    /// Losses of section `index`, and the exponentials of its logits.
    fn losses_of(
        &mut self,
        index: usize,
        classifier: &[f32],
        targets: &[u32],
    ) -> Result<(), AneError> {
        let Head { grid, width, section, groups, xf, logits, normaliser, losses, .. } = self;
        xf.take(index, *section);
        let (tile, group) = (grid.rows, grid.rows * grid.tiles);
        (groups.par_iter_mut())
            .zip(logits.par_chunks_mut(group * *section))
            .zip(classifier.par_chunks(group * *width))
            .enumerate()
            .try_for_each(|(index, ((place, logits), weights))| {
                let TileGroup { programs, statistics, .. } = place;
                let tiles = logits.chunks_mut(tile * *section).zip(weights.chunks(tile * *width));
                for (i, ((logits, weights), statistics)) in tiles.zip(statistics).enumerate() {
                    let program = &mut for_rows(programs, logits.len() / *section).classifier;
                    let inputs = [Elements::F32(weights), Elements::F32(&xf.section)];
                    program.run(&inputs, &mut [replace(logits)])?;
                    statistics.take(logits, index * group + i * tile, targets);
                }
                Ok::<(), AneError>(())
            })?;
        normaliser.combine(groups.iter().flat_map(|group| &group.statistics));
        losses[index * *section..(index + 1) * *section].copy_from_slice(normaliser.losses());
        Ok(())
    }

    /// The gradient of the classifier [V, D] and, in `d_xf`, the cotangent of a section: from what
    /// [`Head::losses_of`] left.
    fn products_of(
        &mut self,
        classifier: &[f32],
        (targets, token_weights): (&[u32], TokenWeights<'_>),
        micro_batch: MicroBatch,
        gradient: &mut [f32],
    ) -> Result<(), AneError> {
        let Head { grid, width, section, groups, xf, d_xf, logits, normaliser, softcap, .. } = self;
        let softcap = *softcap;
        let (tile, group) = (grid.rows, grid.rows * grid.tiles);
        (groups.par_iter_mut())
            .zip(logits.par_chunks_mut(group * *section))
            .zip(classifier.par_chunks(group * *width))
            .zip(gradient.par_chunks_mut(group * *width))
            .enumerate()
            .try_for_each(|(index, (((place, logits), weights), gradient))| {
                let TileGroup { programs, statistics, d_xf } = place;
                let tiles = logits.chunks_mut(tile * *section).zip(weights.chunks(tile * *width));
                for (i, ((logits, weights), gradient)) in
                    tiles.zip(gradient.chunks_mut(tile * *width)).enumerate()
                {
                    let first = index * group + i * tile;
                    let of = (&*normaliser, softcap);
                    statistics[i].cotangents(logits, first, targets, token_weights, of);
                    let programs = for_rows(programs, logits.len() / *section);
                    programs.classifier_gradient.run(
                        &[Elements::F32(logits), Elements::F32(&xf.section)],
                        &mut [micro_batch.into_gradient(gradient)],
                    )?;
                    let into = OutputMut::F32 { data: d_xf, accumulate: i > 0 };
                    let inputs = [Elements::F32(logits), Elements::F32(weights)];
                    programs.backward.run(&inputs, &mut [into])?;
                }
                Ok::<(), AneError>(())
            })?;
        d_xf.section.fill(0.0);
        groups.iter().for_each(|group| simd::add(&mut d_xf.section, &group.d_xf));
        Ok(())
    }
}

/// The cotangents of the logits [V, T], where the device gives the probabilities and the loss of each token
/// counts its weight. They are rounded once, to the precision of the surface that they go `to`.
pub(crate) fn cotangents(
    probs: &Surface,
    to: &Surface,
    targets: &[u32],
    weights: TokenWeights<'_>,
) -> Result<(), AneError> {
    let rows = (TILE / targets.len()).max(1);
    to.rewrite(probs, rows * targets.len(), |i, tile| {
        cotangents_of_probabilities(tile, i * rows, targets, weights);
    })
}

/// Returns `value`, or `least` where that is larger; unlike `max`, a NaN as it is.
fn at_least(least: f64, value: f64) -> f64 {
    if value < least { least } else { value }
}

fn replace(data: &mut [f32]) -> OutputMut<'_> {
    OutputMut::F32 { data, accumulate: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GptConfig;
    use ane::{Device, Emulator};
    use cpu::Numerics;
    use mil::TensorType;

    #[test]
    fn the_loss_of_a_probability_is_bounded_and_that_of_a_nan_is_nan() {
        let config = GptConfig { vocab_size: 8, ..GptConfig::preset("tiny").unwrap() };
        let least = f64::from(f32::MIN_POSITIVE);
        for (dtype, least) in [(DType::Fp16, 2f64.powi(-24)), (DType::Fp32, least)] {
            let dims = Dims { config: &config, batch: 1, seq: 4, dtype };
            let mut head = Head::new(&dims).unwrap();
            let ty = TensorType { dtype, ..TensorType::fp16([1, 8, 1, 4]) };
            let probs = Emulator::cpu(Numerics::Fast).surface(&ty, 0).unwrap();
            // Of each token, its probability of token 0.
            probs.write(&[&[0.25, 0.0, 1.0, f32::NAN][..], &[0.0; 28]].concat()).unwrap();
            head.losses_of_probabilities(&probs, &[0; 4]).unwrap();
            let [quarter, none, one, nan] = head.losses()[..] else { panic!("four losses") };
            assert_eq!([quarter, none, one], [4f64.ln(), -least.ln(), 0.0]);
            assert!(nan.is_nan());
        }
    }

    #[test]
    fn a_library_is_told_how_many_products_run_at_once() {
        // 4720 rows in tiles of 256 are 19 tiles, and in sixteen groups at most ten of two tiles.
        let at_once = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| products(4720, 4096, 8)).map(|shape| shape.at_once)
        };
        assert_eq!(at_once(32), [10, 10]);
        assert_eq!(at_once(3), [3, 3]);
        let [logits, gradient] = products(4720, 4096, 8);
        assert_eq!((logits.m, logits.n, logits.k, logits.transposed), (256, 1024, 8, false));
        assert_eq!((gradient.m, gradient.n, gradient.k, gradient.transposed), (256, 8, 1024, true));
    }

    #[test]
    fn sections_are_equal_and_cover_the_tokens() {
        let expected = [
            (1, 1),
            (1024, 1024),
            (1026, 513),
            (2048, 1024),
            (8 * 1024, 1024),
            (3 * 401, 401),
            // No divisor between 256 and 1024: all at once.
            (1031, 1031),
        ];
        for (tokens, section) in expected {
            assert_eq!(tokens_at_once(tokens), section, "{tokens}");
        }
    }
}
