//! How much of the engine's range the products of a run use, at intervals.

use anyhow::Result;
use gpt::Dims;
use gpt::block::Memory;
use gpt::plan::{Kernel, Pass, Place, Programs, port};
use lab::Ranges;
use lab::ranges::{ProductRange, RequestRanges};
use mil::DType;
use std::collections::{BTreeMap, BTreeSet};
use train::{Event, Hook, Range, RunConfig, TrainError};

/// Asks for the ranges of every so many steps.
#[derive(Debug)]
pub(crate) struct Telemetry {
    ranges: Ranges,
    every: u64,
    /// The programs of the plan, in its order.
    programs: Vec<Known>,
    /// True in a step that is looked at.
    looking: bool,
}

/// A program of the plan.
#[derive(Debug)]
struct Known {
    name: String,
    /// Its name, whatever kind of layers it is for.
    row: String,
    /// The first layers of its requests, in their order.
    layers: Vec<usize>,
    /// Layers of a request.
    span: usize,
    ports: BTreeSet<String>,
}

impl Known {
    fn new(kernel: &Kernel) -> Self {
        let Kernel { kind, pass, span, function, .. } = kernel;
        let mut layers = kernel.layers.clone();
        if *pass == Pass::Backward {
            layers.reverse();
        }
        let (name, of_kind) = (function.name.clone(), format!("_{kind}"));
        let row = name.strip_suffix(&of_kind).unwrap_or(&name).to_owned();
        let ports = function.inputs().chain(function.outputs.iter().copied());
        let ports = ports.map(|id| function.value(id).name.clone()).collect();
        Known { name, row, layers, span: *span, ports }
    }

    /// A value as a layer knows it, and how many layers after the first of a request it is of.
    fn value<'n>(&self, name: &'n str) -> (&'n str, usize) {
        if self.ports.contains(name) { port(name) } else { (name, 0) }
    }

    /// The range of a product of a request from layer `first` on.
    fn range(&self, first: usize, product: &ProductRange) -> Range {
        let ProductRange { tensor, operands, .. } = product;
        let names = operands.iter().chain([tensor]);
        let layer = first + names.map(|name| self.value(name).1).max().unwrap_or(0);
        Range {
            tensor: format!("{}/{}", self.row, self.value(tensor).0),
            operands: operands.each_ref().map(|name| self.value(name).0.to_owned()),
            largest: product.largest,
            layer,
            headroom: Range::headroom_of(product.largest),
            largest_operands: product.largest_operands,
            lost: product.lost,
            lost_layer: layer,
        }
    }
}

impl Telemetry {
    /// `every` is more than 0; `config` is of the run on the device that `ranges` are of.
    pub(crate) fn new(ranges: Ranges, every: u64, config: &RunConfig) -> Self {
        let RunConfig { model, batch, seq, plan, .. } = config;
        let dims = Dims { config: model, batch: *batch, seq: *seq, dtype: DType::Fp16 };
        let programs = Programs::new(plan, &dims, Memory::Sequence);
        let known = |programs: Programs| programs.of(Place::Engine).map(Known::new).collect();
        let programs = programs.map(known).unwrap_or_default();
        Telemetry { ranges, every, programs, looking: false }
    }

    /// The worst of all layers, for each product of each program; what is no program of the plan is left out.
    fn summed_up(&self, found: &[RequestRanges]) -> Vec<Range> {
        let mut worst: BTreeMap<(&str, usize), Range> = BTreeMap::new();
        let rows: Vec<&str> = self.programs.iter().map(|known| &known.row[..]).collect();
        for request in found {
            let known = self.programs.iter().find(|known| known.name == request.program);
            let Some((known, &first)) =
                known.and_then(|known| Some((known, known.layers.get(request.request)?)))
            else {
                continue;
            };
            // The products of each layer, one layer after the other.
            let of_layer = request.products.len().div_ceil(known.span).max(1);
            for (index, product) in request.products.iter().enumerate() {
                let new = known.range(first, product);
                let at = (&known.row[..], index % of_layer);
                worst.entry(at).and_modify(|range| add(range, &new)).or_insert(new);
            }
        }
        let place = |row: &str| rows.iter().position(|other| *other == row);
        let mut worst: Vec<_> = worst.into_iter().collect();
        worst.sort_by_key(|((row, index), _)| (place(row), *index));
        worst.into_iter().map(|(_, range)| range).collect()
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

    fn run(model: gpt::GptConfig) -> RunConfig {
        let nothing = settings::TrainSection::default();
        let chosen = settings::suited(&model, &nothing, settings::Weights::Fresh).settings;
        run_config(model, &chosen, 42).unwrap()
    }

    /// Programs of several layers: names of their values tell the layer, and products of one kind are put together.
    #[test]
    fn layers_of_a_program_are_told_by_its_names() {
        let model = gpt::GptConfig { n_layer: 3, ..gpt::GptConfig::preset("tiny").unwrap() };
        let plan = gpt::plan::Plan::named("layers:2+2").unwrap();
        let config = RunConfig { plan, ..run(model) };
        let telemetry = Telemetry::new(Ranges::default(), 1, &config);
        let product = |weight: &str, largest| ProductRange {
            tensor: "q".to_owned(),
            operands: [weight.to_owned(), "matmul_7".to_owned()],
            largest_operands: [largest, 1.0],
            largest,
            lost: 0.0,
        };
        let request = |program: &str, products| RequestRanges {
            program: program.to_owned(),
            index: 0,
            request: 0,
            products,
        };
        let found = [
            request("fwdLayers", vec![product("wq_0", 2.0), product("wq_1", 8.0)]),
            request("fwdLayers_2", vec![product("wq_0", 4.0)]),
            request("bwdLayers_2", vec![product("wq_0", 3.0)]),
        ];
        let summed = telemetry.summed_up(&found);
        let told: Vec<_> = summed.iter().map(|r| (&r.tensor[..], r.largest, r.layer)).collect();
        assert_eq!(told, [("fwdLayers/q", 8.0, 1), ("bwdLayers/q", 3.0, 2)]);
        assert_eq!(summed[0].operands, ["wq", "matmul_7"]);
    }

    #[test]
    fn layers_are_told_by_the_order_of_requests_and_the_worst_counts() {
        let model = gpt::GptConfig { n_layer: 3, ..gpt::GptConfig::preset("tiny").unwrap() };
        let config = run(model);
        let telemetry = Telemetry::new(Ranges::default(), 1, &config);
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
