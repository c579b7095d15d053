//! The measurements as data, and as JSON. Fields are added, never renamed.

use super::Measured;
use super::figures::percent;
use super::host::Host;
use super::peaks::Peaks;
use super::products::MeasuredProduct;
use super::scaling::Threads;
use super::spread::Spread;
use super::step::StepTimes;
use super::tasks::{CheckpointWrite, Encoding, Generation};
use super::work::Work;
use crate::machine::Machine;
use gpt::Layout;
use serde::Serialize;
use std::collections::BTreeMap;
use train::RunConfig;

/// Everything that was measured. Parts that were not are null or empty.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Version of the program.
    pub(super) anegpt: &'static str,
    pub(super) machine: Host,
    pub(super) settings: Settings,
    pub(super) peak: Peaks,
    pub(super) step: Option<MeasuredStep>,
    pub(super) products: Option<Products>,
    pub(super) scaling: Vec<Threads>,
    pub(super) generation: Vec<Generation>,
    pub(super) tokenizer: Option<Encoding>,
    pub(super) checkpoint: Option<CheckpointWrite>,
    /// Cores that other programs kept busy meanwhile; null where the system does not tell.
    pub(super) others_cores: Option<f64>,
    /// Why figures may not be what they seem.
    pub(super) warnings: Vec<String>,
    /// The duration of all measurements.
    pub(super) seconds: f64,
    /// True if the CPU computes what the device is asked for, so that its ceilings apply.
    #[serde(skip)]
    here: bool,
}

/// The settings of the run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    /// Name of the preset or of the file.
    pub(super) model: String,
    pub(super) shape: String,
    pub(super) parameters: usize,
    pub(super) batch: usize,
    pub(super) accum: usize,
    pub(super) seq: usize,
    pub(super) tokens_per_step: usize,
    pub(super) device: String,
    pub(super) device_reason: String,
    pub(super) numerics: String,
    /// Operations of a step by the usual count: 6 per weight and token, 12 per score.
    pub(super) gflop_per_step: f64,
}

/// A training step.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MeasuredStep {
    pub(super) ms: Spread,
    pub(super) tokens_per_s: f64,
    pub(super) gflops: f64,
    pub(super) share_of_peak: Option<f64>,
    pub(super) compile_ms: f64,
    /// The implementation of the products that stay on the CPU: `ours`, or the name of a library.
    pub(super) host_gemm: String,
    /// Most memory held while steps ran and a checkpoint was written; null where the system does not
    /// tell.
    pub(super) peak_memory_mib: Option<f64>,
    /// Steps without an update because a gradient overflowed; they are not counted.
    pub(super) skipped: usize,
    pub(super) parts: Vec<PartOfStep>,
}

/// A part of a step. Rates are those of its median.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PartOfStep {
    pub(super) name: String,
    pub(super) what: &'static str,
    pub(super) ms: Spread,
    pub(super) share_of_step: f64,
    pub(super) gflop: Option<f64>,
    pub(super) gflops: Option<f64>,
    /// Of the multiply-add peak of all threads.
    pub(super) share_of_peak: Option<f64>,
    /// Traffic if each input is read and each result written once.
    pub(super) gbyte: Option<f64>,
    pub(super) gbps: Option<f64>,
    /// Of the larger of reading and triad with all threads; above 1 where data stay in a cache.
    pub(super) share_of_memory: Option<f64>,
    pub(super) flops_per_byte: Option<f64>,
}

/// The matrix products of a step.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Products {
    /// Of one step.
    pub(super) gflop: f64,
    /// Of one step, if there were nothing else in it.
    pub(super) ms: f64,
    pub(super) gflops: f64,
    pub(super) share_of_peak: f64,
    pub(super) list: Vec<MeasuredProduct>,
}

/// Returns a description of a part of a step.
fn describe(part: &str) -> &'static str {
    match part {
        "engine_fwd" => "forward programs of the layers",
        "engine_bwd" => "backward programs of the layers",
        "dw" => "products for gradients of weights",
        "head" => "last norm, classifier, loss, gradients",
        "optimizer" => "norm of gradients, update",
        "io" => "activations, weights: host to device, back",
        "elementwise" => "embedding, gradients of norms",
        "data" => "waiting for the batch",
        "other" => "the rest of the step",
        _ => "",
    }
}

/// Cores kept busy by others, and lag of the typical round of multiply-adds behind the best, from
/// which on figures are not to be trusted.
const BUSY_CORES: f64 = 0.1;
const UNSTEADY: f64 = 0.1;

impl Report {
    pub(super) fn new(
        name: &str,
        config: &RunConfig,
        machine: &Machine,
        peak: Peaks,
        found: Measured,
    ) -> Self {
        let model = &config.model;
        let mut report = Report {
            anegpt: env!("CARGO_PKG_VERSION"),
            machine: Host::here(),
            settings: Settings {
                model: name.to_owned(),
                shape: model.to_string(),
                parameters: Layout::new(model).count(),
                batch: config.batch,
                accum: config.accum,
                seq: config.seq,
                tokens_per_step: config.batch * config.accum * config.seq,
                device: machine.device.describe(),
                device_reason: machine.reason.clone(),
                numerics: format!("{:?}", machine.numerics).to_lowercase(),
                gflop_per_step: found.gflop_per_step,
            },
            peak,
            step: None,
            products: None,
            scaling: found.scaling,
            generation: found.generation,
            tokenizer: found.tokenizer,
            checkpoint: found.checkpoint,
            others_cores: found.others_cores,
            warnings: found.warnings,
            seconds: found.seconds,
            here: machine.emulated(),
        };
        let memory = found.step_memory_mib;
        report.step = found.step.map(|(times, work)| report.step(times, &work, memory));
        report.products = report.products(found.products);
        report.warn();
        report
    }

    fn step(
        &self,
        times: StepTimes,
        work: &BTreeMap<&'static str, Work>,
        peak_memory_mib: Option<f64>,
    ) -> MeasuredStep {
        let ms = Spread::of(times.ms);
        let mut parts: Vec<PartOfStep> = (times.parts.into_iter())
            .map(|(name, part)| self.part(work, name, Spread::of(part), ms.median))
            .collect();
        parts.sort_by(|a, b| b.ms.median.total_cmp(&a.ms.median));
        let gflops = 1e3 * self.settings.gflop_per_step / ms.median;
        MeasuredStep {
            tokens_per_s: 1e3 * self.settings.tokens_per_step as f64 / ms.median,
            gflops,
            share_of_peak: self.here.then(|| gflops / self.peak.gflops.best()),
            compile_ms: times.compile_ms,
            host_gemm: times.host_gemm,
            peak_memory_mib,
            skipped: times.skipped,
            parts,
            ms,
        }
    }

    fn part(
        &self,
        work: &BTreeMap<&'static str, Work>,
        name: String,
        ms: Spread,
        step_ms: f64,
    ) -> PartOfStep {
        let work = work.get(name.as_str());
        // A Neural Engine has ceilings of its own, which are not measured here.
        let here = self.here || !name.starts_with("engine");
        let per_second = |amount: f64| (ms.median > 0.0).then(|| 1e3 * amount / ms.median);
        let gflops = work.and_then(|w| per_second(w.flops / 1e9));
        let gbps = work.and_then(|w| per_second(w.bytes / 1e9));
        PartOfStep {
            what: describe(&name),
            name,
            ms,
            share_of_step: ms.median / step_ms,
            gflop: work.map(|w| w.flops / 1e9),
            gflops,
            share_of_peak: gflops.filter(|_| here).map(|rate| rate / self.peak.gflops.best()),
            gbyte: work.map(|w| w.bytes / 1e9),
            gbps,
            share_of_memory: gbps.filter(|_| here).map(|rate| rate / self.peak.memory()),
            flops_per_byte: work.map(|w| w.flops / w.bytes),
        }
    }

    fn products(&self, list: Vec<MeasuredProduct>) -> Option<Products> {
        if list.is_empty() {
            return None;
        }
        let ms: f64 = list.iter().map(MeasuredProduct::step_ms).sum();
        let gflop: f64 = list.iter().map(|p| p.gflop * p.count as f64).sum();
        let gflops = 1e3 * gflop / ms;
        let share_of_peak = gflops / self.peak.gflops.best();
        Some(Products { gflop, ms, gflops, share_of_peak, list })
    }

    /// Notes what makes figures doubtful.
    fn warn(&mut self) {
        if let Some(cores) = self.others_cores.filter(|&cores| cores > BUSY_CORES) {
            self.warnings.push(format!(
                "the machine was busy: other programs took {cores:.1} of {} cores; figures are too low",
                self.machine.cores
            ));
        }
        let behind = self.peak.unsteadiness();
        if behind > UNSTEADY {
            self.warnings.push(format!(
                "the typical round of multiply-adds was {} below the best: other programs or a \
                 changing clock; shares of peak are too low",
                percent(behind)
            ));
        }
        if let Some(CheckpointWrite { file_system: Some(kind), .. }) = &self.checkpoint
            && matches!(kind.as_str(), "tmpfs" | "ramfs")
        {
            self.warnings.push(format!(
                "checkpoints went to memory ({kind}), not to a disk: give --scratch DIR"
            ));
        }
    }
}
