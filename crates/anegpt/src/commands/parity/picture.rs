//! Pictures of a comparison.

use super::compare::{Comparison, Layer};
use super::runs::Finished;
use crate::chart::{Chart, Curve, Kind};
use crate::svg::Svg;

/// Width of a picture, and height of a plot.
const SIZE: (f64, f64) = (900.0, 270.0);

/// Losses of all runs, and the gaps of the validation losses to those of the first kind.
pub(super) fn losses(comparison: &Comparison, finished: &[Finished]) -> String {
    let name = |variant: usize| comparison.kinds[variant].name();
    let training = finished.iter().map(|run| Curve {
        name: String::new(),
        points: run.outcome.training().collect(),
        kind: Kind::Faint,
        group: run.job.variant,
    });
    let validation = finished.iter().map(|run| Curve {
        name: name(run.job.variant),
        points: points(&run.outcome.validation),
        kind: Kind::Marked,
        group: run.job.variant,
    });
    let gaps = comparison.kinds.iter().enumerate().map(|(group, kind)| match &kind.gap {
        Some(gap) => {
            Curve { name: kind.name(), points: points(&gap.by_step), kind: Kind::Marked, group }
        }
        // The reference is the line at 0.
        None => {
            let points = vec![(0.0, 0.0), (comparison.steps as f64, 0.0)];
            Curve { name: kind.name(), points, kind: Kind::Faint, group }
        }
    });
    let reference = comparison.kinds[0].name();
    picture(&[
        Chart {
            title: "Validation loss (marked) and training loss, nats per token, by step".to_owned(),
            log: false,
            curves: training.chain(validation).collect(),
        },
        Chart {
            title: format!(
                "Validation loss beside that of {reference}, mean of the seeds, by step"
            ),
            log: false,
            curves: gaps.collect(),
        },
    ])
}

/// Distances of the layers' weights to those of the first kind of run, one chart for each other kind.
pub(super) fn layers(comparison: &Comparison) -> String {
    let reference = comparison.kinds[0].name();
    let charts = comparison.kinds.iter().filter_map(|kind| {
        let layers = &kind.gap.as_ref()?.layers;
        let curve = |(group, layer): (usize, &Layer)| Curve {
            name: layer.name.clone(),
            points: points(&layer.distance),
            kind: Kind::Marked,
            group,
        };
        Some(Chart {
            title: format!(
                "Relative distance of the weights of {} to those of {reference}, by step",
                kind.name()
            ),
            log: true,
            curves: layers.iter().enumerate().map(curve).collect(),
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
