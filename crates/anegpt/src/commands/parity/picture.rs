//! Pictures of a comparison.

use super::compare::{Comparison, Layer};
use super::runs::Finished;
use crate::chart::{Chart, Curve, Kind};
use crate::svg::Svg;

/// Width of a picture, and height of a plot.
const SIZE: (f64, f64) = (900.0, 270.0);

/// Losses of all runs, and the gaps of the validation losses to those of the first kind. Kinds have colours and strokes,
/// seeds have marks.
pub(super) fn losses(comparison: &Comparison, finished: &[Finished]) -> String {
    let name = |variant: usize| comparison.kinds[variant].name();
    let mark = |seed: u64| comparison.seeds.iter().position(|&other| other == seed).unwrap_or(0);
    let training = finished.iter().map(|run| Curve {
        name: String::new(),
        points: run.outcome.training().collect(),
        kind: Kind::Faint,
        group: run.job.variant,
        mark: 0,
    });
    let validation = finished.iter().map(|run| Curve {
        name: format!("{}, seed {}", name(run.job.variant), run.job.seed),
        points: points(&run.outcome.validation),
        kind: Kind::Marked,
        group: run.job.variant,
        mark: mark(run.job.seed),
    });
    let gaps = comparison.kinds.iter().enumerate().map(|(group, kind)| {
        // The reference is the line at 0.
        let at_zero = || vec![(0.0, 0.0), (comparison.steps as f64, 0.0)];
        let (points, kind_of_line) = match &kind.gap {
            Some(gap) => (points(&gap.by_step), Kind::Marked),
            None => (at_zero(), Kind::Faint),
        };
        Curve { name: kind.name(), points, kind: kind_of_line, group, mark: group }
    });
    let reference = comparison.kinds[0].name();
    picture(&[
        Chart {
            title: "Validation loss (marked) and training loss".to_owned(),
            axes: ["step", "nats per token"],
            log: false,
            curves: training.chain(validation).collect(),
        },
        Chart {
            title: format!("Validation loss beside that of {reference}, mean of the seeds"),
            axes: ["step", "nats per token"],
            log: false,
            curves: gaps.collect(),
        },
    ])
}

/// Distances of the layers' weights to those of the first kind of run, one chart for each other kind, with a line where
/// a distance counts.
pub(super) fn layers(comparison: &Comparison) -> String {
    let reference = comparison.kinds[0].name();
    let charts = comparison.kinds.iter().filter_map(|kind| {
        let layers = &kind.gap.as_ref()?.layers;
        let curve = |(group, layer): (usize, &Layer)| Curve {
            name: layer.name.clone(),
            points: points(&layer.distance),
            kind: Kind::Marked,
            group,
            mark: group,
        };
        let steps = layers.iter().flat_map(|layer| &layer.distance).map(|point| point.0 as f64);
        let (first, last) =
            (steps.clone().fold(f64::INFINITY, f64::min), steps.fold(0.0, f64::max));
        let limit = Curve {
            name: format!("{} % counts", 100.0 * comparison.divergence),
            points: [first, last].map(|step| (step, comparison.divergence)).to_vec(),
            kind: Kind::Line,
            group: layers.len(),
            mark: 0,
        };
        Some(Chart {
            title: format!(
                "Distance of the weights of {} to those of {reference}, seed {}",
                kind.name(),
                comparison.seeds[0]
            ),
            axes: ["step", "relative distance"],
            log: true,
            curves: layers.iter().enumerate().map(curve).chain([limit]).collect(),
        })
    });
    picture(&charts.collect::<Vec<_>>())
}

fn points(by_step: &[(u64, f64)]) -> Vec<(f64, f64)> {
    by_step.iter().map(|&(step, value)| (step as f64, value)).collect()
}

/// Charts one below the other.
fn picture(charts: &[Chart]) -> String {
    let (mut svg, mut height) = (Svg::default(), 0.0);
    for chart in charts {
        height += chart.draw(&mut svg, (0.0, height), SIZE);
    }
    svg.page(SIZE.0, height)
}
