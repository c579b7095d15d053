//! Micro-batches as a picture, by forecast or as they ran: steps on the clock, on two lanes (engine and
//! CPU), of one that begins with an update and of any other, once as a whole and then the forward and the backward
//! pass of one layer, with names.

use crate::progress::counted;
use crate::svg::{Svg, clipped, colour, text_width};
use anyhow::{Context, Result};
use gpt::GptConfig;
use gpt::plan::{Part, Place, TimedStep};
use std::ops::Range;
use std::path::Path;

const WIDTH: f64 = 960.0;
/// Ends of the clock.
const LEFT: f64 = 86.0;
const RIGHT: f64 = 930.0;
/// Height of a lane, and from one lane to the next.
const LANE: f64 = 30.0;
const PITCH: f64 = 36.0;
/// Height of a chart with its title and its axis.
const CHART: f64 = 2.0 * PITCH + 74.0;
/// First line of the first chart.
const TOP: f64 = 118.0;

/// Draws the steps of two micro-batches into `file`: of one that begins with an update, and of another. Either may be
/// missing.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn draw(
    file: &Path,
    title: &str,
    subtitle: &str,
    micro_batches: [&[TimedStep]; 2],
) -> Result<()> {
    let picture = svg(title, subtitle, micro_batches);
    std::fs::write(file, picture).with_context(|| format!("cannot write {}", file.display()))
}

/// The shape of a micro-batch of `model` in words.
pub(crate) fn subtitle(model: &GptConfig, batch: usize, seq: usize) -> String {
    format!("{model}; {batch} × {} per micro-batch", counted(seq, "token"))
}

/// The picture of the steps of micro-batches.
fn svg(title: &str, subtitle: &str, micro_batches: [&[TimedStep]; 2]) -> String {
    let mut svg = Svg::default();
    svg.text((24.0, 34.0), "title", "start", title);
    svg.text((24.0, 55.0), "soft", "start", &clipped(subtitle, WIDTH - 48.0));
    legend(&mut svg, 78.0);
    let charts = charts(micro_batches);
    for (n, (title, steps)) in charts.iter().enumerate() {
        chart(&mut svg, TOP + CHART * n as f64, title, steps);
    }
    svg.page(WIDTH, TOP + CHART * charts.len() as f64)
}

/// Titles of the charts and the steps they show.
fn charts([first, other]: [&[TimedStep]; 2]) -> Vec<(&'static str, &[TimedStep])> {
    let title = if first.is_empty() { "One micro-batch" } else { "Any other" };
    let one = if other.is_empty() { first } else { other };
    let head = one.iter().position(|s| s.part == Part::Head).unwrap_or(one.len());
    let backward = (head + 2).min(one.len());
    let of_layer = |range: Range<usize>, layer: usize| -> &[TimedStep] {
        let within = || range.clone().filter(|&i| one[i].layer == Some(layer));
        &one[within().min().unwrap_or(0)..within().max().map_or(0, |last| last + 1)]
    };
    let charts = [
        ("First micro-batch, with the update", first),
        (title, other),
        ("Forward, first layer", of_layer(0..head, 0)),
        ("Backward, first layer", of_layer(backward..one.len(), 0)),
    ];
    // A layer that is one step, or a part of one, is seen above.
    let shown =
        |(n, (_, steps)): &(usize, (&str, &[TimedStep]))| steps.len() > if *n < 2 { 0 } else { 2 };
    charts.into_iter().enumerate().filter(shown).map(|(_, chart)| chart).collect()
}

/// Names of the parts with their colours.
fn legend(svg: &mut Svg, y: f64) {
    let mut x = 24.0;
    for (row, part) in Part::ALL.into_iter().enumerate() {
        svg.bar((x, y), (12.0, 12.0), colour(row), part.name());
        svg.text((x + 18.0, y + 11.0), "soft", "start", part.name());
        x += 42.0 + text_width(part.name(), 12.0);
    }
}

fn chart(svg: &mut Svg, top: f64, title: &str, steps: &[TimedStep]) {
    let from = steps.iter().map(|step| step.start).fold(f64::INFINITY, f64::min);
    let end = steps.iter().map(|step| step.start + step.seconds).fold(from, f64::max);
    let span = (end - from).max(1e-12);
    let at = |seconds: f64| LEFT + (RIGHT - LEFT) * (seconds - from) / span;
    svg.text((24.0, top), "head", "start", &format!("{title}: {:.2} ms", 1e3 * span));
    let lanes = [(Place::Engine, "engine"), (Place::Host, "CPU")];
    let y = |place| top + 14.0 + PITCH * f64::from(u8::from(place == Place::Host));
    for (place, name) in lanes {
        svg.text((LEFT - 10.0, y(place) + 20.0), "soft", "end", name);
    }
    axis(svg, top + 14.0, 1e3 * span);
    for step in steps {
        let (x, width) =
            (at(step.start), (at(step.start + step.seconds) - at(step.start)).max(0.3));
        let row = Part::ALL.iter().position(|&part| part == step.part).unwrap_or(0);
        let layer = step.layer.map_or(String::new(), |layer| format!(", layer {layer}"));
        let told = format!("{}{layer}: {:.3} ms", step.name, 1e3 * step.seconds);
        svg.bar((x, y(step.place)), (width, LANE), colour(row), &told);
        if text_width(&step.name, 12.0) + 6.0 < width {
            svg.text((x + width / 2.0, y(step.place) + 19.0), "on", "middle", &step.name);
        }
    }
}

/// Marks of a clock of `ms` milliseconds under both lanes.
fn axis(svg: &mut Svg, top: f64, ms: f64) {
    let mark = mark(ms);
    let below = top + PITCH + LANE + 6.0;
    for n in 0..=(ms / mark) as usize {
        let x = LEFT + (RIGHT - LEFT) * n as f64 * mark / ms;
        svg.line("grid", (x, top), (x, below));
        let digits = if mark >= 1.0 { 0 } else { (-mark.log10()).ceil() as usize };
        svg.text((x, below + 15.0), "soft", "middle", &format!("{:.digits$}", n as f64 * mark));
    }
    svg.text((LEFT - 22.0, below + 15.0), "soft", "end", "ms");
}

/// The distance of marks: 1, 2 or 5 times a power of ten, six to fifteen of them.
fn mark(span: f64) -> f64 {
    let unit = 10f64.powf((span / 15.0).log10().ceil());
    [0.2, 0.5, 1.0].map(|m| m * unit).into_iter().find(|m| span / m <= 15.0).unwrap_or(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ane::{Emulator, Paced};
    use chip::Profile;
    use cpu::Numerics;
    use gpt::TokenWeights;
    use gpt::forecast::{adamw, timeline};
    use gpt::plan::BASELINE;
    use train::{LrSchedule, OptimizerConfig, RunConfig, Solo, Trainer};

    #[test]
    fn every_step_is_drawn_and_a_layers_programs_are_named() {
        let config = GptConfig::preset("stories15m").unwrap();
        let of = |update| timeline(&BASELINE, &config, 1, 256, &Profile::default(), update);
        let (first, steps) = (of(Some(&adamw)).unwrap(), of(None).unwrap());
        let alone = svg("plan", "<a model>", [&[], &steps]);
        assert!(alone.contains("One micro-batch: ") && !alone.contains("update"));
        let picture = svg("plan", "<a model>", [&first, &steps]);
        assert!(picture.contains("First micro-batch, with the update: "));
        assert!(picture.contains(">update wq, layer 5: ") && picture.contains("Any other: "));
        assert!(picture.contains("&lt;a model&gt;"));
        let of_first_layer =
            |s: &&TimedStep| s.layer == Some(0) || matches!(&s.name[..], "load x2" | "add o_out");
        assert!(picture.matches("<title>").count() > steps.len() + Part::ALL.len());
        assert!(steps.iter().filter(of_first_layer).count() > 20);
        for name in ["fwdAttn", "fwdFFN", "ffnBwd", "sdpaBwd1", "sdpaBwd2", "qkvBwd", "w1_grad"] {
            assert!(picture.contains(&format!(">{name}</text>")), "{name}");
        }
        assert!(picture.contains(">fwdAttn, layer 5: "));
    }

    /// A run whose requests take as long as an M4's by forecast, drawn as it ran: `ANEGPT_BLESS=1` puts the
    /// picture into the docs.
    #[test]
    fn a_run_is_drawn_as_it_ran() {
        // The cores of a server are that much slower beside such requests.
        const PACE: f64 = 60.0;
        let config = GptConfig { n_layer: 3, ..GptConfig::preset("stories110m").unwrap() };
        let config = GptConfig { vocab_size: 512, ..config };
        let engine = Emulator::engine(Profile::default(), Numerics::Fast);
        let device = Paced::asleep(Box::new(engine), PACE);
        let run = RunConfig {
            optimizer: OptimizerConfig::default(),
            schedule: LrSchedule::cosine(1e-3, 0.1, 0, 2),
            model: config.clone(),
            batch: 1,
            accum: 2,
            seq: 256,
            clip: 1.0,
            seed: 1,
            plan: &BASELINE,
            dial: None,
        };
        let (params, optimizer) = (gpt::initialise(&config, 1), run.optimizer.build());
        let (numerics, ranks) = (Numerics::Fast, Box::new(Solo));
        let mut trainer = Trainer::new(&run, params, optimizer, &device, numerics, ranks).unwrap();
        assert_eq!(trainer.model().timeline(true), []);
        let (tokens, weights) = ([1; 256], TokenWeights::Even(1.0 / 512.0));
        for _ in 0..2 {
            for _ in 0..2 {
                trainer.accumulate(&tokens, &tokens, weights).unwrap();
            }
            trainer.apply().unwrap();
        }
        let [first, other] =
            [true, false].map(|after_update| trainer.model().timeline(after_update));
        let title = format!("Plan baseline as it ran: an M4's requests, by forecast, times {PACE}");
        let picture = svg(&title, &subtitle(&config, 1, 256), [&first, &other]);
        for name in [">ffnBwd, layer 2: ", ">w1_grad, layer 0: ", ">update w1, layer 1: "] {
            assert!(picture.contains(name), "{name}");
        }
        if std::env::var_os("ANEGPT_BLESS").is_some() {
            let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lanes-run.svg");
            std::fs::write(docs, picture).unwrap();
        }
    }

    #[test]
    fn marks_are_round_and_not_crowded() {
        for (span, expected) in [(10.0, 1.0), (16.0, 2.0), (0.9, 0.1), (167.0, 20.0), (40.0, 5.0)] {
            assert!((mark(span) / expected - 1.0).abs() < 1e-9, "{span}: {}", mark(span));
        }
    }
}
