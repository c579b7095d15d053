//! The work of a plan's steps, and the parts of a training step that they count to.

use super::{Pass, Plan, PlanError, Schedule, Sink, Step};
use crate::block::Memory;
use crate::ops::Dims;
use mil::{OpError, Product, Work};
use std::collections::BTreeMap;

/// A part of a training step, in reports and forecasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Forward programs on the device.
    EngineForward,
    /// Backward programs on the device.
    EngineBackward,
    /// Moving activations and weights between host and device.
    Io,
    /// Last norm, classifier, loss and their gradients.
    Head,
    /// Products that give weight gradients.
    WeightGradients,
    /// Gradients of norms, embedding, mixtures of streams.
    Elementwise,
    /// The optimizer, and its weights on their way to the device.
    Update,
}

impl Part {
    /// All parts, in the order of reports.
    pub const ALL: [Part; 7] = [
        Part::EngineForward,
        Part::EngineBackward,
        Part::Io,
        Part::Head,
        Part::WeightGradients,
        Part::Elementwise,
        Part::Update,
    ];

    /// Its name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Part::EngineForward => "engine_fwd",
            Part::EngineBackward => "engine_bwd",
            Part::Io => "io",
            Part::Head => "head",
            Part::WeightGradients => "dw",
            Part::Elementwise => "elementwise",
            Part::Update => "optimizer",
        }
    }
}

/// The work of a step with products.
#[derive(Clone, Debug, PartialEq)]
pub struct StepWork {
    /// The part that it counts to.
    pub part: Part,
    /// Name of its program.
    pub program: String,
    /// Its products and bytes.
    pub work: Work,
}

impl Schedule {
    /// The part of a training step that `step` counts to.
    pub fn part(&self, step: &Step) -> Part {
        match step {
            Step::Update { .. } => Part::Update,
            Step::Run { program, .. } => match self.programs[*program].pass {
                Pass::Forward => Part::EngineForward,
                Pass::Backward => Part::EngineBackward,
            },
            Step::Load { .. }
            | Step::Add { .. }
            | Step::Append { .. }
            | Step::Unload { .. }
            | Step::Accumulate { .. } => Part::Io,
            Step::Head { .. }
            | Step::HeadBackward { .. }
            | Step::Losses { .. }
            | Step::Cotangents { .. } => Part::Head,
            Step::Host { outputs, .. } if outputs.iter().all(Sink::is_gradient) => {
                Part::WeightGradients
            }
            Step::Gather { .. } | Step::Scatter { .. } | Step::Join { .. } | Step::Host { .. } => {
                Part::Elementwise
            }
        }
    }

    /// The work of every step that has products, in order: one micro-batch of training, or one chunk of
    /// tokens. Elementwise work, such as that of norms, is not counted.
    ///
    /// # Errors
    /// When a program breaks a rule of the language.
    pub fn work(&self) -> Result<Vec<StepWork>, OpError> {
        let programs: Vec<Work> = (self.programs.iter())
            .map(|kernel| mil::work(&kernel.function))
            .collect::<Result<_, _>>()?;
        let of = |step: &Step| match step {
            Step::Run { program, .. } | Step::Host { program, .. } => {
                Some(programs[*program].clone())
            }
            Step::Head { .. } => Some(self.head()),
            Step::HeadBackward { .. } => Some(self.head_backward()),
            _ => None,
        };
        Ok(self
            .steps()
            .filter_map(|step| {
                let (work, (program, _)) = (of(step)?, self.describe(step));
                Some(StepWork { part: self.part(step), program, work })
            })
            .filter(|step| !step.work.products.is_empty())
            .collect())
    }

    /// Floating-point operations of all products.
    ///
    /// # Errors
    /// When a program breaks a rule of the language.
    pub fn flops(&self) -> Result<f64, OpError> {
        Ok(self.work()?.iter().map(|step| step.work.flops()).sum())
    }

    /// Logits: the stream and the classifier are read.
    fn head(&self) -> Work {
        let [vocab, width, tokens] = self.head;
        let logits =
            Product { m: vocab, n: tokens, k: width, transposed: [false, false], together: 1 };
        Work { products: vec![logits], bytes_in: 4 * width * (tokens + vocab), bytes_out: 0 }
    }

    /// Their gradients: the cotangent of the stream and the classifier's gradient are written.
    fn head_backward(&self) -> Work {
        let [vocab, width, tokens] = self.head;
        let one = |m, n, k, transposed| Product { m, n, k, transposed, together: 1 };
        let stream = one(width, tokens, vocab, [true, false]);
        let classifier = one(vocab, width, tokens, [false, true]);
        let bytes_out = 4 * width * (tokens + vocab);
        Work { products: vec![stream, classifier], bytes_in: 0, bytes_out }
    }
}

/// Floating-point operations of one micro-batch of training, by part.
///
/// # Errors
/// As [`Schedule::new`].
pub fn flops_by_part(plan: &Plan, dims: &Dims<'_>) -> Result<BTreeMap<Part, f64>, PlanError> {
    let mut sums = BTreeMap::new();
    for step in Schedule::new(plan, dims, Memory::Sequence)?.work()? {
        *sums.entry(step.part).or_default() += step.work.flops();
    }
    Ok(sums)
}
