//! Pictures of a comparison.

use super::compare::Comparison;
use super::runs::Finished;
use crate::chart::{Chart, Line};
use crate::svg::Svg;

/// Width of a picture, and height of a chart.
const SIZE: (f64, f64) = (900.0, 320.0);
/// Most points of a training curve; each is the mean of its neighbours.
const POINTS: usize = 200;

/// Losses of all runs, and the gaps of the validation losses to those of the first kind.
pub(super) fn losses(comparison: &Comparison, finished: &[Finished]) -> String {
    let name = |variant: usize| comparison.kinds[variant].name();
    let training = finished.iter().map(|run| Line {
        name: name(run.job.variant),
        points: means(&run.outcome.training),
        marked: false,
        faint: true,
    });
    let validation = finished.iter().map(|run| Line {
        name: name(run.job.variant),
        points: run.outcome.validation.iter().map(|&(step, loss)| (step as f64, loss)).collect(),
        marked: true,
        faint: false,
    });
    let gaps = comparison.kinds.iter().map(|kind| Line {
        name: kind.name(),
        points: match &kind.gap {
            Some(gap) => gap.by_step.iter().map(|&(step, gap)| (step as f64, gap)).collect(),
            // The reference is the line at 0.
            None => vec![(0.0, 0.0), (comparison.steps as f64, 0.0)],
        },
        marked: kind.gap.is_some(),
        faint: kind.gap.is_none(),
    });
    let reference = comparison.kinds[0].name();
    picture(&[
        Chart {
            title: "Validation loss (marked) and training loss".to_owned(),
            axes: ["step".to_owned(), "nats per token".to_owned()],
            log: false,
            lines: training.chain(validation).collect(),
        },
        Chart {
            title: format!("Validation loss beside that of {reference}, mean of the seeds"),
            axes: ["step".to_owned(), "nats per token".to_owned()],
            log: false,
            lines: gaps.collect(),
        },
    ])
}

/// Distances of the layers' weights to those of the first kind of run, one chart for each other kind.
pub(super) fn layers(comparison: &Comparison) -> String {
    let reference = comparison.kinds[0].name();
    let charts = comparison.kinds.iter().filter_map(|kind| {
        let gap = kind.gap.as_ref()?;
        let line = |layer: &super::compare::Layer| Line {
            name: layer.name.clone(),
            points: layer.distance.iter().map(|&(step, far)| (step as f64, far)).collect(),
            marked: true,
            faint: false,
        };
        Some(Chart {
            title: format!("Weights of {} beside those of {reference}", kind.name()),
            axes: ["step".to_owned(), "relative distance".to_owned()],
            log: true,
            lines: gap.layers.iter().map(line).collect(),
        })
    });
    picture(&charts.collect::<Vec<_>>())
}

/// Charts one below the other.
fn picture(charts: &[Chart]) -> String {
    let mut svg = Svg::default();
    for (row, chart) in charts.iter().enumerate() {
        chart.draw(&mut svg, (0.0, row as f64 * SIZE.1), SIZE);
    }
    svg.page(SIZE.0, SIZE.1 * charts.len() as f64)
}

/// The points, or means of neighbours where there are more than [`POINTS`].
fn means(points: &[(u64, f64)]) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(POINTS).max(1);
    let mean = |chunk: &[(u64, f64)]| {
        let n = chunk.len() as f64;
        let sum = |of: fn(&(u64, f64)) -> f64| chunk.iter().map(of).sum::<f64>() / n;
        (sum(|point| point.0 as f64), sum(|point| point.1))
    };
    points.chunks(together).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_become_means() {
        let points: Vec<(u64, f64)> = (1..=1000).map(|step| (step, step as f64)).collect();
        let curve = means(&points);
        assert_eq!((curve.len(), curve[0]), (200, (3.0, 3.0)));
        assert_eq!(means(&points[..2]), [(1.0, 1.0), (2.0, 2.0)]);
    }
}
