//! A comparison in words and tables.

use super::compare::{Comparison, Estimate};
use std::fmt::Write;

/// Distances of layers at so many checkpoints at most, the first and the last among them.
const COLUMNS: usize = 6;

/// The report of a comparison.
pub(super) fn report(comparison: &Comparison) -> String {
    let mut text = String::new();
    let _ = losses(&mut text, comparison).and_then(|()| layers(&mut text, comparison));
    text
}

/// A mean with its standard error.
fn with_error(estimate: &Estimate, digits: usize) -> String {
    match estimate.error {
        Some(error) => format!("{:.digits$} ± {error:.digits$}", estimate.mean),
        None => format!("{:.digits$}", estimate.mean),
    }
}

fn losses(text: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let seeds = comparison.seeds.len();
    writeln!(
        text,
        "\nValidation loss after {} steps, {seeds} seed{}",
        comparison.steps,
        if seeds == 1 { "" } else { "s; means with their standard error" }
    )?;
    let wide = comparison.kinds.iter().map(|kind| kind.name().len()).max().unwrap_or(0);
    writeln!(
        text,
        "{:wide$}  {:>17}  {:>19}  {:>8}  {:>8}  {:>8}",
        "", "loss", "gap", "gap, %", "ms/step", "skipped"
    )?;
    for kind in &comparison.kinds {
        let (gap, share) = match &kind.gap {
            Some(gap) => (with_error(&gap.loss, 5), format!("{:+.3}", 100.0 * gap.share)),
            None => ("reference".to_owned(), String::new()),
        };
        writeln!(
            text,
            "{:wide$}  {:>17}  {gap:>19}  {share:>8}  {:>8.1}  {:>8}",
            kind.name(),
            with_error(&kind.loss, 4),
            kind.ms_per_step,
            kind.skipped
        )?;
    }
    if let Some(deviation) = comparison.kinds.first().and_then(|kind| kind.loss.deviation) {
        writeln!(
            text,
            "Seeds alone move the loss of {} by {deviation:.4} (standard deviation).",
            comparison.kinds[0].name()
        )?;
    }
    let share = 100.0 * comparison.divergence;
    for kind in &comparison.kinds {
        let Some(gap) = &kind.gap else { continue };
        let steps = comparison.seeds.iter().zip(&gap.parted).map(|(seed, step)| match step {
            Some(step) => format!("step {step} with seed {seed}"),
            None => format!("never with seed {seed}"),
        });
        let steps: Vec<String> = steps.collect();
        writeln!(
            text,
            "{}: a training loss first differs by more than {share} %: {}.",
            kind.name(),
            steps.join(", ")
        )?;
    }
    Ok(())
}

fn layers(text: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let share = 100.0 * comparison.divergence;
    for kind in &comparison.kinds {
        let Some(gap) = kind.gap.as_ref().filter(|gap| !gap.layers.is_empty()) else { continue };
        let steps: Vec<u64> = gap.layers[0].distance.iter().map(|point| point.0).collect();
        let shown = spread(steps.len());
        writeln!(
            text,
            "\n{}: distance of weights to those of {}, in % of them, by step (seed {})",
            kind.name(),
            comparison.kinds[0].name(),
            comparison.seeds[0]
        )?;
        let wide = gap.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
        write!(text, "{:wide$}", "")?;
        for &column in &shown {
            write!(text, "  {:>8}", steps[column])?;
        }
        writeln!(text, "  above {share} % at")?;
        for layer in &gap.layers {
            write!(text, "{:wide$}", layer.name)?;
            for &column in &shown {
                write!(text, "  {:>8.3}", 100.0 * layer.distance[column].1)?;
            }
            let parted = layer.parted.map_or("never".to_owned(), |step| format!("step {step}"));
            writeln!(text, "  {parted}")?;
        }
    }
    Ok(())
}

/// Indices of at most [`COLUMNS`] of `count` things, evenly spread.
fn spread(count: usize) -> Vec<usize> {
    match count {
        0..=COLUMNS => (0..count).collect(),
        _ => (0..COLUMNS).map(|n| n * (count - 1) / (COLUMNS - 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_both_ends() {
        assert_eq!(spread(3), [0, 1, 2]);
        assert_eq!(spread(11), [0, 2, 4, 6, 8, 10]);
        assert_eq!(spread(40), [0, 7, 15, 23, 31, 39]);
    }
}
