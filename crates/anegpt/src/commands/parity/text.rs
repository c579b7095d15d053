//! A comparison in words and tables.

use super::compare::{Comparison, Estimate};
use crate::term;
use std::fmt::Write;

/// Distances of layers at so many checkpoints at most, the first and the last among them.
const COLUMNS: usize = 5;

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
        "{:wide$}  {:>15}  {:>18}  {:>6}  {:>7}  {:>7}",
        "", "loss", "gap", "gap, %", "ms/step", "skipped"
    )?;
    for kind in &comparison.kinds {
        let (gap, share) = match &kind.gap {
            Some(gap) => (with_error(&gap.loss, 5), format!("{:+.3}", 100.0 * gap.share)),
            None => ("reference".to_owned(), String::new()),
        };
        writeln!(
            text,
            "{:wide$}  {:>15}  {gap:>18}  {share:>6}  {:>7.1}  {:>7}",
            kind.name(),
            with_error(&kind.loss, 4),
            kind.ms_per_step,
            kind.skipped
        )?;
    }
    if let Some(deviation) = comparison.kinds.first().and_then(|kind| kind.loss.deviation) {
        let said = format!(
            "Seeds alone move the loss of {} by {deviation:.4} (standard deviation).",
            comparison.kinds[0].name()
        );
        writeln!(text, "{}", term::hanging("", &said, 0, term::text_width()))?;
    }
    let share = 100.0 * comparison.divergence;
    for kind in &comparison.kinds {
        let Some(gap) = &kind.gap else { continue };
        let steps = comparison.seeds.iter().zip(&gap.parted).map(|(seed, step)| match step {
            Some(step) => format!("at step {step} (seed {seed})"),
            None => format!("never (seed {seed})"),
        });
        let said = match gap.parted.iter().all(Option::is_none) {
            true => format!("no training loss differs by more than {share} %."),
            false => format!(
                "training losses first differ by more than {share} % {}.",
                steps.collect::<Vec<_>>().join(", ")
            ),
        };
        let name = format!("{}:", kind.name());
        writeln!(text, "{}", term::hanging(&name, &said, name.len() + 1, term::text_width()))?;
    }
    Ok(())
}

fn layers(text: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let share = 100.0 * comparison.divergence;
    for kind in &comparison.kinds {
        let Some(gap) = kind.gap.as_ref().filter(|gap| !gap.layers.is_empty()) else { continue };
        let steps: Vec<u64> = gap.layers[0].distance.iter().map(|point| point.0).collect();
        let shown = spread(steps.len());
        let said = format!(
            "distance of weights to those of {}, in % of them, by step (seed {})",
            comparison.kinds[0].name(),
            comparison.seeds[0]
        );
        let name = format!("{}:", kind.name());
        writeln!(text, "\n{}", term::hanging(&name, &said, name.len() + 1, term::text_width()))?;
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
        assert_eq!(spread(11), [0, 2, 5, 7, 10]);
        assert_eq!(spread(40), [0, 9, 19, 29, 39]);
    }
}
