//! How far runs lie apart.

use super::runs::{Finished, Variant};
use crate::files;
use anyhow::{Result, ensure};
use gpt::{Layout, Parameters};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use train::checkpoint;

/// The result of a comparison. Fields may be added, never renamed.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    /// Version of the program.
    anegpt: &'static str,
    /// Seeds of each kind of run.
    pub(super) seeds: Vec<u64>,
    /// Steps of each run.
    pub(super) steps: u64,
    /// The share that counts as a divergence.
    pub(super) divergence: f64,
    /// The kinds of run; the others are compared with the first one.
    pub(super) kinds: Vec<Kind>,
}

/// All runs of a kind.
#[derive(Debug, Serialize)]
pub(super) struct Kind {
    pub(super) numerics: String,
    pub(super) plan: String,
    /// The last validation loss of each seed, in nats per token.
    pub(super) losses: Vec<f64>,
    pub(super) loss: Estimate,
    /// The median of the steps' times.
    pub(super) ms_per_step: f64,
    /// Steps that were left out since a gradient overflowed, of all seeds.
    pub(super) skipped: usize,
    /// What lies between this kind and the first one; null for that.
    pub(super) gap: Option<Gap>,
}

impl Kind {
    /// As a person reads it: `fast, baseline`.
    pub(super) fn name(&self) -> String {
        format!("{}, {}", self.numerics, self.plan)
    }
}

/// A mean of several values and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    /// Standard deviation of one value; null where there is one alone.
    pub(super) deviation: Option<f64>,
    /// Standard error of the mean, as it follows from the deviation.
    pub(super) error: Option<f64>,
}

impl Estimate {
    pub(super) fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Estimate { mean, deviation, error: deviation.map(|deviation| deviation / n.sqrt()) }
    }
}

/// The difference of a kind of run to the first one.
#[derive(Debug, Serialize)]
pub(super) struct Gap {
    /// Of the last validation losses, seed by seed.
    pub(super) loss: Estimate,
    /// That, as a share of the first kind's loss.
    pub(super) share: f64,
    /// The first step of each seed whose training losses differ by the share that counts; null where
    /// none does.
    pub(super) parted: Vec<Option<u64>>,
    /// Mean difference of the validation losses at each step where they were measured.
    pub(super) by_step: Vec<(u64, f64)>,
    /// The parts of the model at the common checkpoints of the first seed.
    pub(super) layers: Vec<Layer>,
}

/// A part of the model: a layer, or what stands before and after them.
#[derive(Debug, Serialize)]
pub(super) struct Layer {
    pub(super) name: String,
    /// ‖w − w₁‖/‖w₁‖ by step, where w₁ are the weights of the first kind of run.
    pub(super) distance: Vec<(u64, f64)>,
    /// The first checkpoint whose distance counts; null where none does.
    pub(super) parted: Option<u64>,
}

impl Comparison {
    /// Compares the finished runs of all kinds; the first kind is the reference.
    ///
    /// # Errors
    /// When a checkpoint cannot be read, or the runs are of different models.
    pub(super) fn of(variants: &[Variant], finished: &[Finished], divergence: f64) -> Result<Self> {
        let of = |kind: usize| finished.iter().filter(move |run| run.job.variant == kind);
        let mut layers = layers(finished, divergence)?;
        let kinds = variants.iter().enumerate().map(|(index, variant)| {
            let losses: Vec<f64> = of(index).map(Finished::loss).collect();
            let steps = || of(index).flat_map(|run| &run.outcome.steps);
            let mut ms: Vec<f64> = steps().map(|step| step.ms).collect();
            ms.sort_by(f64::total_cmp);
            let gap = (index > 0).then(|| {
                let layers = layers.remove(&index).unwrap_or_default();
                Gap::between(of(0), of(index), divergence, layers)
            });
            Kind {
                numerics: variant.numerics(),
                plan: variant.plan().to_owned(),
                loss: Estimate::of(&losses),
                losses,
                ms_per_step: ms.get(ms.len() / 2).copied().unwrap_or(f64::NAN),
                skipped: steps().filter(|step| step.skipped).count(),
                gap,
            }
        });
        Ok(Comparison {
            anegpt: env!("CARGO_PKG_VERSION"),
            seeds: of(0).map(|run| run.job.seed).collect(),
            steps: finished.first().map_or(0, |run| run.outcome.planned),
            divergence,
            kinds: kinds.collect(),
        })
    }
}

impl Gap {
    fn between<'r>(
        reference: impl Iterator<Item = &'r Finished>,
        runs: impl Iterator<Item = &'r Finished>,
        divergence: f64,
        layers: Vec<Layer>,
    ) -> Self {
        let pairs: Vec<(&Finished, &Finished)> = reference.zip(runs).collect();
        let gaps: Vec<f64> = pairs.iter().map(|(first, run)| run.loss() - first.loss()).collect();
        let mean = pairs.iter().map(|(first, _)| first.loss()).sum::<f64>() / pairs.len() as f64;
        let loss = Estimate::of(&gaps);
        let parted = |(first, run): &(&Finished, &Finished)| {
            first.outcome.parts_from(&run.outcome, |a, b| apart(a, b, divergence))
        };
        Gap {
            loss,
            share: loss.mean / mean,
            parted: pairs.iter().map(parted).collect(),
            by_step: by_step(&pairs),
            layers,
        }
    }
}

/// True if two losses differ by this share, or one of them is no number.
fn apart(reference: f64, loss: f64, divergence: f64) -> bool {
    let share = ((loss - reference) / reference).abs();
    share > divergence || share.is_nan()
}

/// Mean difference of the validation losses, at the steps where all runs have one.
fn by_step(pairs: &[(&Finished, &Finished)]) -> Vec<(u64, f64)> {
    let at = |run: &Finished, step: u64| {
        run.outcome.validation.iter().find(|point| point.0 == step).map(|point| point.1)
    };
    let Some((first, _)) = pairs.first() else { return vec![] };
    let steps = first.outcome.validation.iter().map(|point| point.0);
    steps
        .filter_map(|step| {
            let gaps = pairs.iter().map(|(a, b)| Some(at(b, step)? - at(a, step)?));
            let gaps: Vec<f64> = gaps.collect::<Option<_>>()?;
            Some((step, Estimate::of(&gaps).mean))
        })
        .collect()
}

/// Distances of the first seed's weights to those of the first kind of run at their common checkpoints, by kind. Each
/// checkpoint is read once.
fn layers(finished: &[Finished], divergence: f64) -> Result<BTreeMap<usize, Vec<Layer>>> {
    let mut runs = finished.iter().filter(|run| run.job.first);
    let Some(reference) = runs.next() else { return Ok(BTreeMap::new()) };
    let others = runs.map(|run| Ok((run.job.variant, checkpoint::all(&run.job.directory)?)));
    let others: Vec<(usize, Vec<_>)> = others.collect::<Result<_>>()?;
    let mut found: BTreeMap<usize, Vec<Layer>> = BTreeMap::new();
    for (step, path) in checkpoint::all(&reference.job.directory)? {
        let at = |checkpoints: &[(u64, PathBuf)]| {
            checkpoints.iter().find(|found| found.0 == step).map(|found| found.1.clone())
        };
        let others: Vec<_> =
            others.iter().filter_map(|(kind, all)| Some((*kind, at(all)?))).collect();
        if others.is_empty() {
            continue;
        }
        let first = files::read_model(&path)?.parameters;
        for (kind, other) in others {
            let other = files::read_model(&other)?.parameters;
            note(found.entry(kind).or_default(), step, distances(&first, &other)?, divergence);
        }
    }
    Ok(found)
}

/// Takes note of the distances after a step.
fn note(layers: &mut Vec<Layer>, step: u64, distances: Vec<(String, f64)>, divergence: f64) {
    for (index, (name, distance)) in distances.into_iter().enumerate() {
        if layers.len() == index {
            layers.push(Layer { name, distance: vec![], parted: None });
        }
        let layer = &mut layers[index];
        layer.distance.push((step, distance));
        let counts = distance > divergence || distance.is_nan();
        layer.parted = layer.parted.or(counts.then_some(step));
    }
}

/// ‖w − w₁‖/‖w₁‖ for each layer, and for what belongs to none.
fn distances(reference: &Parameters, other: &Parameters) -> Result<Vec<(String, f64)>> {
    ensure!(reference.config() == other.config(), "the runs are of different models");
    let layout: &Layout = reference.layout();
    let (w1, w) = (reference.read(), other.read());
    let count = reference.config().n_layer;
    let mut sums = vec![[0f64; 2]; count + 1];
    for param in layout.params() {
        let [difference, size] = &mut sums[param.layer.unwrap_or(count)];
        for (w1, w) in w1[param.range()].iter().zip(&w[param.range()]) {
            *difference += f64::from(w - w1).powi(2);
            *size += f64::from(*w1).powi(2);
        }
    }
    let names =
        (0..count).map(|layer| format!("layer {layer}")).chain(["embedding, head".to_owned()]);
    Ok(names.zip(sums.into_iter().map(|[difference, size]| (difference / size).sqrt())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::{GptConfig, initialise};

    #[test]
    fn estimates_have_the_error_of_a_mean() {
        let one = Estimate::of(&[2.0]);
        assert_eq!(one, Estimate { mean: 2.0, deviation: None, error: None });
        // 1, 2, 3, 6: the squares of the deviations are 4, 1, 0, 9.
        let four = Estimate::of(&[1.0, 2.0, 3.0, 6.0]);
        let deviation = (14.0f64 / 3.0).sqrt();
        assert_eq!(four.mean, 3.0);
        assert!((four.deviation.unwrap() - deviation).abs() < 1e-15);
        assert!((four.error.unwrap() - deviation / 2.0).abs() < 1e-15);
    }

    #[test]
    fn losses_part_by_a_share_or_where_they_are_no_numbers() {
        assert!(!apart(2.0, 2.02, 0.01 + 1e-9) && apart(2.0, 2.03, 0.01));
        assert!(apart(2.0, f64::NAN, 0.01) && apart(f64::NAN, 2.0, 0.01));
    }

    #[test]
    fn distances_are_those_of_each_layer() {
        let config = GptConfig::preset("tiny").unwrap();
        let values = initialise(&config, 1);
        let first = Parameters::new(&config, values.clone());
        let mut changed = values;
        let layout = Layout::new(&config);
        // Layer 1 becomes 3 times as large, the rest stays.
        for param in layout.params().iter().filter(|param| param.layer == Some(1)) {
            changed[param.range()].iter_mut().for_each(|w| *w *= 3.0);
        }
        let found = distances(&first, &Parameters::new(&config, changed)).unwrap();
        assert_eq!(found.len(), config.n_layer + 1);
        for (index, (name, distance)) in found.iter().enumerate() {
            let want = if index == 1 { 2.0 } else { 0.0 };
            assert!((distance - want).abs() < 1e-6, "{name}: {distance}");
        }
    }
}
