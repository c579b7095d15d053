//! The page of documentation and the table of constants, written from the rows and the fit.

use super::fit::{Constants, error_bar, fit, fit_without, is_tabled, median_error};
use super::published::{Row, Section, rows};
use std::fmt::Write;

/// A row with what the model says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The row.
    pub row: Row,
    /// ln(forecast / published) with constants fitted to all rows.
    pub fitted: f64,
    /// The same with constants fitted without any row of the row's chip.
    pub left_out: f64,
}

/// Model against published.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// All rows.
    pub rows: Vec<Compared>,
    /// Constants fitted to all of them.
    pub constants: Constants,
}

impl Report {
    /// The rows of F.2 and F.3, by which the model is judged.
    pub fn judged(&self) -> impl Iterator<Item = &Compared> {
        let judged = |s| matches!(s, Section::Compute | Section::Memory);
        self.rows.iter().filter(move |c| judged(c.row.section))
    }

    /// Median absolute error over the judged rows: in sample, chip left out.
    pub fn medians(&self) -> (f64, f64) {
        let of = |f: fn(&Compared) -> f64| median_error(self.judged().map(f));
        (of(|c| c.fitted), of(|c| c.left_out))
    }

    /// Error bars over the judged rows: in sample, chip left out.
    pub fn bars(&self) -> [(f64, f64); 2] {
        [error_bar(self.judged().map(|c| c.fitted)), error_bar(self.judged().map(|c| c.left_out))]
    }
}

/// Fits the model with and without every chip and compares it with all rows.
pub fn report() -> Report {
    let rows = rows();
    let constants = fit(&rows);
    let mut chips: Vec<&str> = rows.iter().map(|r| r.chip).collect();
    chips.sort_unstable();
    chips.dedup();
    let without: Vec<(&str, Constants)> =
        chips.iter().map(|&chip| (chip, fit_without(&rows, chip))).collect();
    let compared = |row: Row| {
        let (_, other) = without.iter().find(|(chip, _)| *chip == row.chip).expect("of the rows");
        Compared { fitted: constants.residual(&row), left_out: other.residual(&row), row }
    };
    Report { rows: rows.into_iter().map(compared).collect(), constants }
}

/// Source text of the table of constants: what `constants.rs` holds.
pub fn constants_source(report: &Report) -> String {
    let c = &report.constants;
    let s = &c.shared;
    let mut text = String::from(
        "//! Constants of the cost model, as `super::fit` gives them for the published rows. Written by\n\
         //! `ANEGPT_BLESS=1 cargo test -p chip --test cost constants_are_what_the_fit_gives`; do not edit, but\n\
         //! for a line of any numbers where a chip is new.\n\n\
         use super::fit::Constants;\nuse super::model::{ChipConstants, Shared};\n\n",
    );
    let bars = report.bars();
    let about = ["with rows of their own (in sample)", "without (chip left out)"];
    for ((name, (low, high)), about) in ["BAR_FITTED", "BAR_RULED"].iter().zip(bars).zip(about) {
        let _ = writeln!(
            text,
            "/// Published over forecast, the middle nine tenths, for chips {about}.\n\
             pub const {name}: (f64, f64) = ({low:.2}, {high:.2});\n"
        );
    }
    text.push_str("/// Everything the model needs to know.\npub const CONSTANTS: Constants = Constants {\n    shared: Shared {\n");
    for (name, value) in [
        ("matmul", s.matmul),
        ("conv1x1", s.conv1x1),
        ("conv", s.conv),
        ("conv_m5", s.conv_m5),
        ("block_mb", s.block_mb),
        ("notch", s.notch),
        ("elementwise", s.elementwise),
        ("reduce", s.reduce),
        ("softmax", s.softmax),
        ("layer_norm", s.layer_norm),
        ("width_layout", s.width_layout),
        ("int8", s.int8),
    ] {
        let _ = writeln!(text, "        {name}: {value:.4},");
    }
    text.push_str("    },\n    chips: [\n");
    for chip in &c.chips {
        let _ = writeln!(
            text,
            "        chip(\"{}\", {:.4}, {:.2}, {:.2}, {:.1}),",
            chip.name, chip.floor_ms, chip.read, chip.write, chip.stream
        );
    }
    text.push_str(
        "    ],\n};\n\n\
         const fn chip(\n    name: &'static str,\n    floor_ms: f64,\n    read: f64,\n    \
         write: f64,\n    stream: f64,\n) -> ChipConstants {\n\
         \x20   ChipConstants { name, floor_ms, read, write, stream }\n}\n",
    );
    text
}

/// The cost model as Markdown: what `docs/cost-model.md` holds.
pub fn markdown(report: &Report) -> String {
    let mut text = String::from(
        "# The cost model\n\n\
         Written from `crates/chip/src/cost`; do not edit. To write it anew: \
         `ANEGPT_BLESS=1 cargo test --release -p chip --test cost the_page_is_current`; \
         `cargo run --release -p chip --example cost_report` prints it.\n\n\
         Every forecast is **not confirmed on hardware**: the model is fitted to timings that others \
         published, and none of them was repeated by this project.\n\n",
    );
    summary(report, &mut text);
    constants_table(report, &mut text);
    plot(report, &mut text);
    missed(report, &mut text);
    table(report, &mut text);
    text
}

fn percent(residual: f64) -> String {
    format!("{:+.0} %", 100.0 * (residual.exp() - 1.0))
}

fn summary(report: &Report, text: &mut String) {
    let (fitted, left_out) = report.medians();
    let [(a, b), (c, d)] = report.bars();
    let judged = report.judged().count();
    let shared = ["m1", "m1-max", "m2-pro", "m4", "m5", "m5-pro"];
    let tables = report.judged().filter(|c| !c.row.what.contains("GB of weights"));
    let without_streams = median_error(tables.map(|c| c.left_out));
    let _ = write!(
        text,
        "## How good it is\n\n\
         Median absolute error over the {judged} rows of sections F.2 and F.3 of the facts: \
         **{:.0} %** in sample, **{:.0} %** with all rows of the chip left out ({:.0} % without the rows \
         of weight streams). Nine of ten rows lie between {a:.2} and {b:.2} times their forecast in \
         sample, and between {c:.2} and {d:.2} times with the chip left out: these are the error bars of \
         forecasts.\n\n\
         What this does not say: the in-sample figure flatters, because floor, read, write and \
         stream rates are fitted per chip and every published weight stream has a constant of its own. \
         Left out, a chip's constants come from its generation, width and clock alone; the host-copy \
         rates of e5rt (read, write) then miss by up to a factor of three (M1 Max), because \
         nothing published explains them. The M4 and the M5 Pro have half of the rows and weigh \
         accordingly; the table below shows each chip for itself. Rows are single operations and chains of \
         one: how larger fused programs add up is not published with shapes, and only the training \
         steps in [step-forecast.md](step-forecast.md) speak to it.\n\n\
         | chip | rows of F.2, F.3 | in sample | left out |\n|---|---|---|---|\n",
        100.0 * fitted,
        100.0 * left_out,
        100.0 * without_streams,
    );
    for chip in shared {
        let mine: Vec<_> = report.judged().filter(|c| c.row.chip == chip).collect();
        let of = |f: fn(&Compared) -> f64| 100.0 * median_error(mine.iter().map(|c| f(c)));
        let (x, y) = (of(|c| c.fitted), of(|c| c.left_out));
        let _ = writeln!(text, "| {chip} | {} | {x:.0} % | {y:.0} % |", mine.len());
    }
}

fn constants_table(report: &Report, text: &mut String) {
    let s = &report.constants.shared;
    let _ = write!(
        text,
        "\n## The law\n\n```text\nfloor + Σ [ max(flops / roof, passes · weight bytes / stream) + \
         elements · cycles / clock + 44 cycles ]\n      + bytes in / read + bytes out / write\n```\n\n\
         roof = 8192 flop per cycle · clock · share: matmul {:.2}, conv 1x1 {:.2}, conv {:.2} ({:.2} \
         from M5 on). passes = activation bytes / {:.2} MB, at least 1. Cycles per element: elementwise \
         {:.2}, reduction {:.2}, softmax {:.2}, decomposed layer norm {:.2}; a pass over more than the \
         working set (2 MB, M5: 4.7 MB) streams instead. In the 1-MiB DMA notch (M1 to M4) {:.2} of the \
         stream is left. 8-bit products are {:.2} times as fast. M1 and M2 write tensors that come \
         from no product {:.1} times as slowly.\n\n\
         | chip | floor ms | read GB/s | write GB/s | stream GB/s | from |\n|---|---|---|---|---|---|\n",
        s.matmul,
        s.conv1x1,
        s.conv,
        s.conv_m5,
        s.block_mb,
        s.elementwise,
        s.reduce,
        s.softmax,
        s.layer_norm,
        s.notch,
        s.int8,
        s.width_layout,
    );
    for c in &report.constants.chips {
        let streams =
            report.rows.iter().any(|r| r.row.chip == c.name && r.row.section == Section::Memory);
        let from = match (is_tabled(c.name), streams) {
            (true, _) => "its rows",
            (false, true) => "stream: its row; the rest: rules",
            (false, false) => "rules",
        };
        let _ = writeln!(
            text,
            "| {} | {:.3} | {:.1} | {:.1} | {:.1} | {from} |",
            c.name, c.floor_ms, c.read, c.write, c.stream
        );
    }
}

/// Forecast against published on logarithmic axes, as text: `o` in sample, on the diagonal when
/// exact.
fn plot(report: &Report, text: &mut String) {
    const WIDTH: usize = 72;
    const HEIGHT: usize = 28;
    let (low, high) = (0.05f64.ln(), 500f64.ln());
    let at = |ms: f64, n: usize| {
        let share = ((ms.ln() - low) / (high - low)).clamp(0.0, 1.0);
        (share * (n - 1) as f64).round() as usize
    };
    let mut grid = vec![vec![' '; WIDTH]; HEIGHT];
    for (up, line) in grid.iter_mut().rev().enumerate() {
        let on_diagonal = |x: &usize| x * (HEIGHT - 1) / (WIDTH - 1) == up;
        (0..WIDTH).filter(on_diagonal).for_each(|x| line[x] = '·');
    }
    for c in report.judged() {
        let (x, y) = (at(c.row.ms, WIDTH), at(c.row.ms * c.fitted.exp(), HEIGHT));
        grid[HEIGHT - 1 - y][x] = 'o';
    }
    text.push_str("\n## Forecast (up) against published (right), 0.05 to 500 ms\n\n```text\n");
    for line in grid {
        let line: String = line.into_iter().collect();
        let _ = writeln!(text, "|{}", line.trim_end());
    }
    let _ = writeln!(text, "+{}\n```", "-".repeat(WIDTH));
}

/// Why a row is missed by more than a quarter, by what it is.
fn reason(c: &Compared) -> &'static str {
    let what = &c.row.what;
    match (c.row.chip, c.row.section) {
        ("m4-max", Section::Floor) => "two sources give 0.095 and 0.223 ms for the same dispatch",
        ("m5", Section::Floor) => "0.065 ms against 0.103 to 0.117 ms from other sources",
        (_, Section::Trainer) => "not fitted; which passes the kernel takes is not published",
        _ if what.starts_with("matmul") => {
            "the source does not say what its time includes; taken as the product alone"
        }
        _ if what.starts_with("GEMM") => {
            "how often the weights stream again in products this large is one shared constant"
        }
        _ if what.starts_with("GEMV") => "published time falls from 512 to 1024: noise of one run",
        _ if what.starts_with("softmax") || what.starts_with("relu") => {
            "one factor for the slow layout of M1 and M2"
        }
        _ if what.contains("notch") => "the rows' own factors lie between 0.37 and 0.55",
        _ => "unexplained",
    }
}

fn missed(report: &Report, text: &mut String) {
    text.push_str(
        "\n## Rows missed by more than a quarter in sample\n\n\
         | row | published ms | forecast ms | error | reason |\n|---|---|---|---|---|\n",
    );
    for c in report.rows.iter().filter(|c| (c.fitted.exp() - 1.0).abs() > 0.25) {
        let _ = writeln!(
            text,
            "| {} {} | {:.3} | {:.3} | {} | {} |",
            c.row.chip,
            c.row.what,
            c.row.ms,
            c.row.ms * c.fitted.exp(),
            percent(c.fitted),
            reason(c)
        );
    }
}

fn table(report: &Report, text: &mut String) {
    text.push_str(
        "\n## All rows\n\n\
         Published and forecast are milliseconds. Rows of section B.2 are shown but not fitted.\n\n\
         | facts | chip | what | published | forecast | in sample | left out | source |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for c in &report.rows {
        let row = &c.row;
        let (low, high) = row.range;
        let published =
            if low < high { format!("{low:.3} to {high:.3}") } else { format!("{:.3}", row.ms) };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {published} | {:.3} | {} | {} | {} |",
            row.section.name(),
            row.chip,
            row.what,
            row.ms * c.fitted.exp(),
            percent(c.fitted),
            percent(c.left_out),
            row.source
        );
    }
}
