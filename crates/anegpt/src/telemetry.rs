//! How much of the engine's range the products of a run use, at intervals.

use anyhow::Result;
use gpt::plan::Pass;
use lab::Ranges;
use lab::ranges::{ProductRange, RequestRanges};
use std::collections::BTreeMap;
use train::{Event, Hook, Range, RunConfig, TrainError};

/// Asks for the ranges of every so many steps.
#[derive(Debug)]
pub(crate) struct Telemetry {
    ranges: Ranges,
    every: u64,
    config: RunConfig,
    /// True in a step that is looked at.
    looking: bool,
}

impl Telemetry {
    /// `every` is more than 0; `config` is of the run on the device that `ranges` are of.
    pub(crate) fn new(ranges: Ranges, every: u64, config: RunConfig) -> Self {
        Telemetry { ranges, every, config, looking: false }
    }

    /// The layer of a request; `None` for a program that is none of the plan's.
    fn place(&self, found: &RequestRanges) -> Option<(&'static str, usize)> {
        let (model, plan) = (&self.config.model, self.config.plan);
        // A program of layers of kind K > 0 is called ROW_K.
        let row = |name: &str| plan.cuts.iter().find(|cut| cut.name == name);
        let name = found.program.as_str();
        let (cut, kind) = match (row(name), name.rsplit_once('_')) {
            (Some(cut), _) => (cut, 0),
            (None, Some((name, kind))) => (row(name)?, kind.parse().ok()?),
            (None, None) => return None,
        };
        let mut layers: Vec<usize> =
            (0..model.n_layer).filter(|&l| model.kind(l) == kind).collect();
        if cut.pass == Pass::Backward {
            layers.reverse();
        }
        Some((cut.name, *layers.get(found.request)?))
    }

    /// The worst of all layers, for each product of each program.
    fn summed_up(&self, found: &[RequestRanges]) -> Vec<Range> {
        let mut worst: BTreeMap<(usize, usize), Range> = BTreeMap::new();
        let rows: Vec<&str> = self.config.plan.cuts.iter().map(|cut| cut.name).collect();
        for request in found {
            let Some((row, layer)) = self.place(request) else { continue };
            let at = rows.iter().position(|name| *name == row).expect("rows are the plan's");
            for (index, product) in request.products.iter().enumerate() {
                let new = range(row, layer, product);
                worst.entry((at, index)).and_modify(|range| add(range, &new)).or_insert(new);
            }
        }
        worst.into_values().collect()
    }
}

fn range(row: &str, layer: usize, product: &ProductRange) -> Range {
    Range {
        tensor: format!("{row}/{}", product.tensor),
        operands: product.operands.clone(),
        largest: product.largest,
        layer,
        headroom: Range::headroom_of(product.largest),
        largest_operands: product.largest_operands,
        lost: product.lost,
        lost_layer: layer,
    }
}

/// Adds what another layer has.
fn add(range: &mut Range, new: &Range) {
    if new.largest > range.largest {
        (range.largest, range.layer, range.headroom) = (new.largest, new.layer, new.headroom);
    }
    if new.lost > range.lost {
        (range.lost, range.lost_layer) = (new.lost, new.lost_layer);
    }
    for (most, other) in range.largest_operands.iter_mut().zip(new.largest_operands) {
        *most = most.max(other);
    }
}

impl Hook for Telemetry {
    fn before_step(&mut self, step: u64) {
        self.looking = step.is_multiple_of(self.every);
        if self.looking {
            self.ranges.look();
        }
    }

    fn after_step(&mut self, step: u64, _may_save: bool) -> Result<Option<Event>, TrainError> {
        if !std::mem::take(&mut self.looking) {
            return Ok(None);
        }
        let products = self.summed_up(&self.ranges.take());
        Ok((!products.is_empty()).then_some(Event::Ranges { step, products }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;
    use crate::setup::run_config;

    #[test]
    fn layers_are_told_by_the_order_of_requests_and_the_worst_counts() {
        let model = gpt::GptConfig { n_layer: 3, ..gpt::GptConfig::preset("tiny").unwrap() };
        let nothing = settings::TrainSection::default();
        let chosen = settings::suited(&model, &nothing, settings::Weights::Fresh).settings;
        let config = run_config(model, &chosen, 42).unwrap();
        let telemetry = Telemetry::new(Ranges::default(), 1, config);
        let request = |program: &str, request, largest, lost| RequestRanges {
            program: program.to_owned(),
            index: 0,
            request,
            products: vec![ProductRange {
                tensor: "q".to_owned(),
                operands: ["wq".to_owned(), "x".to_owned()],
                largest_operands: [largest, 1.0],
                largest,
                lost,
            }],
        };
        let found = [
            request("fwdAttn", 0, 4.0, 0.5),
            request("fwdAttn", 1, 8.0, 0.25),
            request("qkvBwd", 0, 1.0, 0.0),
            request("qkvBwd", 2, 16384.0, 0.125),
            request("decode", 0, 1e9, 1.0),
        ];
        let summed = telemetry.summed_up(&found);
        assert_eq!(summed.len(), 2);
        let [forward, backward] = &summed[..] else { unreachable!() };
        assert_eq!(
            (forward.tensor.as_str(), forward.layer, forward.lost_layer),
            ("fwdAttn/q", 1, 0)
        );
        assert_eq!((forward.largest, forward.lost, forward.headroom), (8.0, 0.5, Some(12.0)));
        // Backward, the first request is of the last layer.
        assert_eq!((backward.layer, backward.headroom), (0, Some(1.0)));
        let (near, losing) = Range::limits(&summed);
        assert_eq!(
            (near.unwrap().tensor.as_str(), losing.unwrap().tensor.as_str()),
            ("qkvBwd/q", "fwdAttn/q")
        );
    }
}
