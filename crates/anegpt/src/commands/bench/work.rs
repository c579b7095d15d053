//! The work of a step's parts: floating-point operations of their products, and bytes that
//! must move if each input is read and each result written once.

use anyhow::Result;
use cpu::Numerics;
use gpt::block::Memory;
use gpt::plan::{Part, Schedule, StepWork};
use gpt::{Dims, Layout, precision};
use std::collections::BTreeMap;
use train::{RunConfig, optim};

/// A matrix product [m, k] · [k, n] of a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    /// Part of the step that it belongs to.
    pub(super) part: Part,
    /// Program that it is first in.
    pub(super) program: String,
    pub(super) shape: mil::Product,
    /// How often in one micro-batch.
    pub(super) count: usize,
}

/// All products of one micro-batch, those of one part and shape together.
pub(super) fn products(steps: &[StepWork]) -> Vec<Product> {
    let mut products: Vec<Product> = vec![];
    for step in steps {
        for &shape in &step.work.products {
            let same = |p: &&mut Product| (p.part, p.shape) == (step.part, shape);
            match products.iter_mut().find(same) {
                Some(product) => product.count += 1,
                None => {
                    let (part, program) = (step.part, step.program.clone());
                    products.push(Product { part, program, shape, count: 1 });
                }
            }
        }
    }
    products
}

/// The work of a part of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Work {
    pub(super) flops: f64,
    pub(super) bytes: f64,
}

/// Per parameter: the norm squares and adds.
const NORM_FLOPS: f64 = 2.0;
/// Per parameter: the norm reads the gradient.
const NORM_BYTES: f64 = 4.0;

/// The work of an update: the norm of the gradients and the optimizer.
fn of_optimizer(config: &RunConfig) -> Work {
    let layout = Layout::new(&config.model);
    let (own, n) = (optim::work(&*config.optimizer.build(), &layout), layout.count() as f64);
    Work { flops: own.flops + own.elementwise + NORM_FLOPS * n, bytes: own.bytes + NORM_BYTES * n }
}

/// The steps of one micro-batch that have products.
pub(super) fn steps(config: &RunConfig, numerics: Numerics) -> Result<Vec<StepWork>> {
    let (batch, seq, dtype) = (config.batch, config.seq, precision(numerics));
    let dims = Dims { config: &config.model, batch, seq, dtype };
    Ok(Schedule::new(config.plan, &dims, Memory::Sequence)?.work()?)
}

/// Returns the work of each part of a step, where it is known. What stays within a part,
/// such as the logits, is not counted.
pub(super) fn of_step(
    config: &RunConfig,
    numerics: Numerics,
) -> Result<BTreeMap<&'static str, Work>> {
    let accum = config.accum as f64;
    // The first micro-batch writes gradients, the others add to them.
    let added = 2.0 * accum - 1.0;
    let mut work: BTreeMap<&str, Work> = BTreeMap::new();
    for step in steps(config, numerics)? {
        let gradients = step.part == Part::WeightGradients || step.program == "headBwd";
        let written = if gradients { added } else { accum };
        let part = work.entry(step.part.name()).or_default();
        part.flops += accum * step.work.flops();
        part.bytes += accum * step.work.bytes_in as f64 + written * step.work.bytes_out as f64;
    }
    work.insert("optimizer", of_optimizer(config));
    Ok(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chip::{Profile, estimate};
    use gpt::GptConfig;
    use gpt::plan::{BASELINE, Pass, Place, Programs};
    use mil::Function;

    fn config(n_kv_head: usize) -> RunConfig {
        RunConfig {
            model: GptConfig { n_kv_head, ..GptConfig::preset("tiny").unwrap() },
            optimizer: train::OptimizerConfig::default(),
            schedule: train::LrSchedule::cosine(1.0, 1.0, 0, 1),
            batch: 2,
            accum: 3,
            seq: 48,
            clip: 1.0,
            seed: 1,
            plan: &BASELINE,
            dial: None,
        }
    }

    /// The cost model counts products operation by operation in the programs themselves.
    #[test]
    fn flops_are_those_of_the_programs() {
        for n_kv_head in [4, 2] {
            let config = config(n_kv_head);
            let work = of_step(&config, Numerics::Fast).unwrap();
            let dims = Dims { config: &config.model, batch: 2, seq: 48, dtype: mil::DType::Fp16 };
            let programs = Programs::new(&BASELINE, &dims, Memory::Sequence).unwrap();
            let count = |place: Place, pass: Pass| -> f64 {
                let one = |f: &Function| -> f64 {
                    estimate(f, &Profile::default()).operations.iter().map(|o| o.flops).sum()
                };
                let chosen = programs.of(place).filter(|kernel| kernel.pass == pass);
                let layer: f64 = chosen.map(|kernel| one(&kernel.function)).sum();
                (3 * config.model.n_layer) as f64 * layer
            };
            for (part, expected) in [
                ("engine_fwd", count(Place::Engine, Pass::Forward)),
                ("engine_bwd", count(Place::Engine, Pass::Backward)),
                ("dw", count(Place::Host, Pass::Backward)),
            ] {
                assert_eq!(work[part].flops, expected, "{part}, {n_kv_head} key heads");
            }
        }
    }

    /// Backward computes the scores again; but for that, a step is what the formula says.
    #[test]
    fn flops_are_those_of_the_formula_and_the_scores_again() {
        let config = config(4);
        let work = of_step(&config, Numerics::F32).unwrap();
        let parts = ["engine_fwd", "engine_bwd", "dw", "head"];
        let counted: f64 = parts.iter().map(|part| work[part].flops).sum();
        let c = &config.model;
        let scores = 2.0 * (c.n_layer * c.q_dim() * 48 * 48 * 2) as f64;
        // 6 per weight and token (2 forward, 4 backward), and 12 per score: attention's two products
        // forward, four backward, the full square as the engine computes it.
        let layer = c.n_embd * (2 * c.q_dim() + 2 * c.kv_dim() + 3 * c.hidden);
        let weights = (c.n_layer * layer + c.vocab_size * c.n_embd) as f64;
        let formula = 6.0 * weights * 96.0 + 6.0 * scores;
        assert_eq!(counted, 3.0 * (formula + scores));
    }

    /// AdamW: 17 operations and 32 bytes per parameter. Muon: the products of the iterations besides.
    #[test]
    fn the_optimizer_is_priced() {
        let mut config = config(4);
        let layout = Layout::new(&config.model);
        let of = |config: &RunConfig| of_step(config, Numerics::Fast).unwrap()["optimizer"];
        let (adamw, params) = (of(&config), layout.count() as f64);
        assert_eq!((adamw.flops, adamw.bytes), (17.0 * params, 32.0 * params));
        config.optimizer = train::OptimizerConfig::Muon(train::Muon::default());
        let muon = of(&config);
        let matrices = layout.params().iter().filter(|p| p.group == gpt::Group::Matrix);
        let products: f64 = matrices.map(|p| train::Muon::flops([p.shape[0], p.shape[1]])).sum();
        assert!(muon.flops > products && muon.flops < products + 19.0 * params);
        assert!(muon.bytes > adamw.bytes);
    }

    #[test]
    fn half_the_precision_is_half_the_bytes_of_the_device() {
        let config = config(4);
        let (half, full) =
            (of_step(&config, Numerics::Fast).unwrap(), of_step(&config, Numerics::F32).unwrap());
        for part in ["engine_fwd", "engine_bwd"] {
            assert_eq!(2.0 * half[part].bytes, full[part].bytes);
        }
        assert_eq!(half["optimizer"], full["optimizer"]);
        assert_eq!(half["head"], full["head"]);
        assert!(half["dw"].bytes < full["dw"].bytes && full["dw"].bytes < 2.0 * half["dw"].bytes);
    }
}
