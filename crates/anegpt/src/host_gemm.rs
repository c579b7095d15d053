//! The choice of library for matrix products that stay on the CPU: our own kernel, or Accelerate.

use crate::engine;
use crate::usage;
use anyhow::Result;
use clap::ValueEnum;
use cpu::Numerics;
use cpu::blas::{self, HostShape, Sgemm};
use gpt::GptConfig;
use std::sync::Arc;
use std::time::Duration;
use train::RunConfig;

/// The user's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostGemmChoice {
    /// Our kernel: the same bits for any number of threads
    Ours,
    /// Apple's library, on a Mac: sums in an order of its own
    Accelerate,
    /// The faster of the two, measured at the start
    Auto,
}

/// The library in use, and the reason.
#[derive(Debug)]
pub(crate) struct HostGemm {
    /// `None` for our own kernel.
    pub(crate) library: Option<Arc<dyn Sgemm>>,
    /// Empty where there was nothing to choose from.
    pub(crate) reason: String,
}

/// Our kernel's name in notes and events.
pub(crate) const OURS: &str = "ours";

/// Multiplications of a product that is measured: a few milliseconds.
const WORK: usize = 1 << 26;

/// Time of a measurement after its first round.
const LIMIT: Duration = Duration::from_millis(60);

/// Products of a micro-batch that are computed on the CPU, cut to what takes a few milliseconds.
pub(crate) fn shapes(config: &RunConfig, numerics: Numerics) -> [HostShape; 3] {
    of_tokens(&config.model, config.batch * config.seq, numerics != Numerics::F32)
}

fn of_tokens(model: &GptConfig, tokens: usize, half: bool) -> [HostShape; 3] {
    gpt::host_products(model, tokens, half).map(|shape| shape.within(WORK))
}

impl HostGemm {
    fn ours(reason: impl Into<String>) -> Self {
        HostGemm { library: None, reason: reason.into() }
    }

    /// Name in notes and events.
    pub(crate) fn name(&self) -> String {
        self.library.as_ref().map_or(OURS.to_owned(), |library| library.name().to_lowercase())
    }

    /// Returns the library of a new run.
    pub(crate) fn choose(choice: HostGemmChoice, shapes: &[HostShape]) -> Result<Self> {
        match choice {
            HostGemmChoice::Ours => Ok(HostGemm::ours("asked for")),
            HostGemmChoice::Accelerate => {
                let library = engine::accelerate().map_err(|reason| {
                    usage(format!("{reason:#}; use --host-gemm ours, which every machine has"))
                })?;
                Ok(HostGemm { library: Some(library), reason: "asked for".to_owned() })
            }
            HostGemmChoice::Auto if engine::absent().is_some() => Ok(HostGemm::ours("")),
            HostGemmChoice::Auto => Ok(match engine::accelerate() {
                Ok(library) => measured(library, shapes),
                Err(reason) => HostGemm::ours(format!("{reason:#}")),
            }),
        }
    }

    /// Returns the library of a resumed run that had `before`: the same, unless `choice` says
    /// otherwise.
    pub(crate) fn resume(
        choice: Option<HostGemmChoice>,
        before: &str,
        shapes: &[HostShape],
    ) -> Result<Self> {
        match (choice, before) {
            (Some(choice), _) => HostGemm::choose(choice, shapes),
            (None, OURS) => Ok(HostGemm::ours("")),
            (None, _) => {
                let library = engine::accelerate().map_err(|reason| {
                    usage(format!(
                        "the run computed its host products with {before}, but {reason:#}: give \
                         --host-gemm ours to go on without; its bits are then not those of a run \
                         that was not interrupted"
                    ))
                })?;
                Ok(HostGemm { library: Some(library), reason: "as before".to_owned() })
            }
        }
    }

    /// Returns a warning if the run computed its host products with something else `before`.
    pub(crate) fn differs(&self, before: &str) -> Option<String> {
        let now = self.name();
        (now != before).then(|| {
            format!(
                "host products were by {before} so far and are by {now} from here on: sums are taken \
                 in another order, so the bits are not those of a run that was not interrupted"
            )
        })
    }
}

/// The faster of the two.
fn measured(library: Arc<dyn Sgemm>, shapes: &[HostShape]) -> HostGemm {
    let found = blas::compare(library.as_ref(), shapes, LIMIT);
    let name = library.name();
    match &found.fault {
        Some(fault) => HostGemm::ours(format!("{name} is not taken: {fault}")),
        None if found.prefers_library() => {
            let reason = format!("{:.1}x ours on this machine", found.ratio());
            HostGemm { library: Some(library), reason }
        }
        None => HostGemm::ours(format!("{name} is {:.2}x as fast here", found.ratio())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_those_of_the_model() {
        let model = GptConfig::preset("tiny").unwrap();
        let [classifier, gradient, weights] = of_tokens(&model, 256, true);
        let (d, h) = (model.n_embd, model.hidden);
        assert!(classifier.m <= model.vocab_size && !classifier.half);
        assert_eq!((classifier.n, classifier.k), (256, d));
        assert_eq!((gradient.m, gradient.n, gradient.k), (classifier.m, d, 256));
        assert_eq!((weights.m, weights.n, weights.k, weights.half), (h, d, 256, true));
        for shape in of_tokens(&GptConfig::preset("stories110m").unwrap(), 4096, true) {
            assert!(shape.m * shape.n * shape.k * shape.at_once <= WORK);
        }
    }

    #[test]
    fn where_there_is_nothing_else_ours_is_taken_without_a_word() {
        if engine::absent().is_none() {
            return;
        }
        let auto = HostGemm::choose(HostGemmChoice::Auto, &[]).unwrap();
        assert_eq!((auto.name().as_str(), auto.reason.as_str()), (OURS, ""));
        let error = HostGemm::choose(HostGemmChoice::Accelerate, &[]).unwrap_err().to_string();
        assert!(error.contains("use --host-gemm ours"), "{error}");
        let error = HostGemm::resume(None, "accelerate", &[]).unwrap_err().to_string();
        assert!(error.contains("host products with accelerate, but no Accelerate"), "{error}");
        assert_eq!(auto.differs(OURS), None);
        assert!(auto.differs("accelerate").is_some_and(|text| text.contains("another order")));
    }
}
