//! The report of runs as one HTML file that asks for nothing else.

use crate::chart::{Chart, Curve, Kind};
use crate::record::{PASS, Record, Scored, Series, ended_by, facts};
use crate::svg::escape;
use crate::view::limits;
use ane::PowerSample;
use std::fmt::Write;

/// A page may load nothing: whatever stands in a log, no request leaves it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
/// Texts that are shown of a run: the newest ones.
const TEXTS: usize = 5;
/// Measurements that are listed: the newest ones.
const MEASURED: usize = 20;
/// Share of the steps over which losses are smoothed.
const SMOOTHED: f64 = 0.02;

const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 74rem; padding: 0 1rem; }
h1, h2, p, pre { overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem; text-align: right; }
td:first-child, th:first-child { text-align: left; }
th, tr + tr td { border-top: 1px solid #8885; }
pre { white-space: pre-wrap; border-left: 3px solid #8888; padding-left: 1rem; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } .charts svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; } .quiet { opacity: .7; }
@media print { body { margin: 0; } }
";

/// A page that grows.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn add(&mut self, html: &str) {
        self.0.push_str(html);
        self.0.push('\n');
    }

    pub(super) fn head(&mut self, text: &str) {
        self.add(&format!("<h2>{}</h2>", escape(text)));
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.add(&format!("<p>{}</p>", escape(text)));
    }

    pub(super) fn block(&mut self, text: &str) {
        // Lines stay; what else would be no text is left out.
        let lines: Vec<String> = text.lines().map(escape).collect();
        self.add(&format!("<pre>{}</pre>", lines.join("\n")));
    }

    /// A table: its first row is the head.
    pub(super) fn table(&mut self, rows: &[Vec<String>]) {
        let mut html = "<div class=\"scroll\"><table>".to_owned();
        for (index, row) in rows.iter().enumerate() {
            let tag = if index == 0 { "th" } else { "td" };
            html.push_str("<tr>");
            for cell in row {
                write!(html, "<{tag}>{}</{tag}>", escape(cell)).expect("a string takes everything");
            }
            html.push_str("</tr>");
        }
        self.add(&format!("{html}</table></div>"));
    }

    pub(super) fn charts(&mut self, charts: impl IntoIterator<Item = Option<String>>) {
        let charts: Vec<String> = charts.into_iter().flatten().collect();
        if !charts.is_empty() {
            self.add(&format!("<div class=\"charts\">{}</div>", charts.concat()));
        }
    }

    /// The whole file.
    pub(super) fn finish(self, title: &str) -> String {
        let (title, body) = (escape(title), self.0);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<link rel=\"icon\" href=\"data:,\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\
             <p class=\"quiet\">Written by anegpt {}.</p>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// The report of runs, each with its name.
pub(crate) fn page(runs: &[(String, Record)]) -> String {
    let mut page = Page::default();
    facts_of(runs, &mut page);
    charts_of(runs, &mut page);
    for (name, record) in runs {
        one(name, record, runs.len() > 1, &mut page);
    }
    let names: Vec<&str> = runs.iter().map(|run| run.0.as_str()).collect();
    page.finish(&names.join(", "))
}

fn facts_of(runs: &[(String, Record)], page: &mut Page) {
    let columns: Vec<facts::Facts> = runs
        .iter()
        .map(|(_, record)| facts::of(record, record.last_time.unwrap_or_default()))
        .collect();
    let mut rows =
        vec![[String::new()].into_iter().chain(runs.iter().map(|run| run.0.clone())).collect()];
    let mut add = |label: &str, values: Vec<Option<String>>| {
        if values.iter().any(Option::is_some) {
            let cells = values.into_iter().map(|value| value.unwrap_or("-".to_owned()));
            rows.push([label.to_owned()].into_iter().chain(cells).collect());
        }
    };
    let state = |record: &Record| {
        record.ended.as_ref().map_or("not ended", |e| ended_by(e.reason)).to_owned()
    };
    add("state", runs.iter().map(|(_, record)| Some(state(record))).collect());
    for (index, label) in facts::LABELS.iter().enumerate() {
        add(label, columns.iter().map(|facts| facts[index].clone()).collect());
    }
    page.table(&rows);
}

/// A chart of curves as SVG; `None` where there is nothing to draw.
fn draw(title: &str, curves: Vec<Curve>) -> Option<String> {
    Chart { title: title.to_owned(), axes: [""; 2], log: false, curves }.page()
}

fn curves(runs: &[(String, Record)], pick: impl Fn(&Record) -> Vec<(f64, f64)>) -> Vec<Curve> {
    let label = |name: &str| if runs.len() > 1 { name.to_owned() } else { String::new() };
    let curve = |(group, (name, record)): (usize, &(String, Record))| Curve {
        name: label(name),
        points: pick(record),
        kind: Kind::Line,
        group,
        mark: group,
    };
    runs.iter().enumerate().map(curve).collect()
}

/// The losses of runs: as measured, smoothed, and on the validation part.
pub(super) fn losses(runs: &[(&str, &Record)]) -> Option<String> {
    let mut all = vec![];
    for (group, (name, record)) in runs.iter().enumerate() {
        let prefix = if runs.len() > 1 { format!("{name}: ") } else { String::new() };
        let steps = record.loss.newest().map_or(0.0, |(step, _)| step as f64);
        let curve = |label: &str, points, kind| Curve {
            name: format!("{prefix}{label}"),
            points,
            kind,
            group,
            mark: group,
        };
        if runs.len() == 1 {
            all.push(curve("", record.loss.means(), Kind::Faint));
        }
        let smoothed = record.loss.smoothed((SMOOTHED * steps).max(1.0));
        all.push(curve("training, smoothed", smoothed, Kind::Line));
        all.push(curve("validation", record.validation.means(), Kind::Dots));
    }
    draw("Loss (nats per token) by step", all)
}

fn charts_of(runs: &[(String, Record)], page: &mut Page) {
    type Pick = fn(&Record) -> &Series;
    let picks: [(&str, Pick); 9] = [
        ("Bits per byte", |run| &run.bits_per_byte),
        ("Learning rate", |run| &run.lr),
        ("Tokens per second", |run| &run.speed),
        ("Gradient norm before clipping", |run| &run.grad_norm),
        ("Loss scale", |run| &run.loss_scale),
        ("CPU cores busy", |run| &run.cpu),
        ("Memory (MiB)", |run| &run.memory),
        ("Joules per token", |run| &run.joules_per_token),
        ("CORE", |run| &run.core),
    ];
    let charts = picks.map(|(title, pick)| draw(title, curves(runs, |run| pick(run).means())));
    page.head("Curves");
    let others = runs.iter().flat_map(|(_, record)| record.others.keys());
    let others: std::collections::BTreeSet<&String> = others.collect();
    let of = |name: &&String| {
        let points = |run: &Record| run.others.get(*name).map(Series::means).unwrap_or_default();
        draw(name, curves(runs, points))
    };
    let others: Vec<_> = others.iter().map(of).collect();
    let all: Vec<(&str, &Record)> = runs.iter().map(|(name, run)| (name.as_str(), run)).collect();
    page.charts([losses(&all)].into_iter().chain(charts).chain(others));
}

/// What is of one run alone.
fn one(name: &str, record: &Record, many: bool, page: &mut Page) {
    if many {
        page.add(&format!("<h1>{}</h1>", escape(name)));
    }
    record.missing().iter().for_each(|note| page.paragraph(&format!("Note: {note}.")));
    if let Some(begun) = &record.begun {
        page.head("Settings");
        let settings = &begun.settings;
        let rows = [
            ("model", begun.model.clone()),
            ("device", format!("{}; {}", begun.device, begun.reason)),
            ("data", settings.text.clone()),
            (
                "tokens",
                format!("{} to train, {} to validate", begun.train_tokens, begun.val_tokens),
            ),
            ("tokenizer", settings.tokenizer.clone()),
            ("numerics", settings.numerics.clone()),
            (
                "unigram model",
                format!("{:.4} nats per token, for comparison", begun.unigram_entropy),
            ),
            ("sessions", record.sessions.to_string()),
            ("version", settings.version.clone()),
        ];
        let rows = rows.into_iter().filter(|row| !row.1.is_empty());
        let head = vec!["setting".to_owned(), "value".to_owned()];
        let rows = rows.map(|(label, value)| vec![label.to_owned(), value]);
        page.table(&[head].into_iter().chain(rows).collect::<Vec<_>>());
    }
    time_of(record, page);
    power_of(record, page);
    ranges_of(record, page);
    results_of(record, page);
    if !record.samples.is_empty() {
        page.head("Texts, the newest first");
        for sampled in record.samples.iter().rev().take(TEXTS) {
            page.paragraph(&format!("After step {}:", sampled.step));
            page.block(sampled.text.trim());
        }
    }
}

fn time_of(record: &Record, page: &mut Page) {
    if record.steps == 0 {
        return;
    }
    page.head("Time of a step, by part");
    let forecast = record.begun.as_ref().and_then(|begun| begun.settings.forecast.as_ref());
    let steps = record.steps as f64;
    let mut rows = vec![["part", "ms", "share", "forecast ms"].map(str::to_owned).to_vec()];
    let row = |name: &str, ms: f64, expected: Option<f64>| {
        let expected = expected.map_or(String::new(), |ms| format!("{ms:.2}"));
        let share = if record.ms > 0.0 { 100.0 * ms * steps / record.ms } else { 0.0 };
        vec![name.to_owned(), format!("{ms:.2}"), format!("{share:.1} %"), expected]
    };
    rows.push(row("step", record.ms / steps, forecast.map(|f| f.ms)));
    let mut parts: Vec<_> = record.parts.iter().collect();
    parts.sort_by(|a, b| b.1.total.total_cmp(&a.1.total));
    for (name, part) in parts {
        rows.push(row(name, part.total / steps, forecast.and_then(|f| f.parts.get(name).copied())));
    }
    page.table(&rows);
    if let Some(f) = forecast {
        page.paragraph(&format!(
            "The forecast is for {}, {:.1} to {:.1} ms a step, not confirmed on hardware.",
            f.chip, f.low_ms, f.high_ms
        ));
    }
    let Some(ended) = &record.ended else { return };
    page.head("Time of the last session, by activity");
    let spent = &ended.spent;
    let activities = [
        ("set-up", spent.setup_s),
        ("compiling", spent.compile_s),
        ("steps", spent.steps_s),
        ("validation", spent.validation_s),
        ("samples", spent.samples_s),
        ("CORE", spent.core_s),
        ("tasks", spent.tasks_s),
        ("checkpoints", spent.checkpoints_s),
        ("other", spent.other_s),
        ("all", spent.total_s),
    ];
    if let Some(mib) = ended.peak_memory_mib {
        page.paragraph(&format!("The process held at most {mib:.0} MiB."));
    }
    let mut rows = vec![["activity", "seconds", "share"].map(str::to_owned).to_vec()];
    rows.extend(activities.into_iter().filter(|activity| activity.1 > 0.0).map(
        |(name, seconds)| {
            vec![
                name.to_owned(),
                format!("{seconds:.2}"),
                format!("{:.1} %", 100.0 * seconds / spent.total_s),
            ]
        },
    ));
    page.table(&rows);
}

fn power_of(record: &Record, page: &mut Page) {
    let parts = PowerSample::PARTS.iter().zip(&record.power);
    let known = parts.filter(|(_, series)| !series.is_empty()).enumerate();
    let curve = |(group, (name, series)): (usize, (&&str, &Series))| Curve {
        name: (*name).to_owned(),
        points: series.means(),
        kind: Kind::Line,
        group,
        mark: group,
    };
    let curves: Vec<Curve> = known.map(curve).collect();
    if !curves.is_empty() {
        page.head("Power");
        page.charts([draw(&format!("Watts of the machine, by {}", record.power_source), curves)]);
    }
}

fn ranges_of(record: &Record, page: &mut Page) {
    let Some((step, products)) = &record.ranges else { return };
    page.head(&format!("Ranges of the engine's products, step {step}"));
    page.paragraph(&format!("The tensors that limit this run: {}.", limits(products)));
    let chart = |title, series: &Series| {
        let points = series.means();
        draw(
            title,
            vec![Curve { name: String::new(), points, kind: Kind::Line, group: 0, mark: 0 }],
        )
    };
    page.charts([
        chart("Powers of two to 2^15, of the closest product", &record.headroom),
        chart("Share of products lost, where it is largest", &record.lost),
    ]);
    let head = [
        "product",
        "operands",
        "largest",
        "layer",
        "powers of two to 2^15",
        "lost below 2^-16",
        "layer",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(products.iter().map(|range| {
        vec![
            range.tensor.clone(),
            range.operands.join(" x "),
            format!("{:.3e}", range.largest),
            range.layer.to_string(),
            range.headroom.map_or("-".to_owned(), |bits| format!("{bits:.1}")),
            format!("{:.1} %", 100.0 * range.lost),
            range.lost_layer.to_string(),
        ]
    }));
    page.table(&rows);
}

fn results_of(record: &Record, page: &mut Page) {
    if !record.validation.is_empty() {
        page.head("Validation, the newest first");
        let mut rows = vec![["step", "loss"].map(str::to_owned).to_vec()];
        rows.extend(record.validation.buckets().iter().rev().take(MEASURED).map(|b| {
            let loss = b.mean().map_or("not finite".to_owned(), |loss| format!("{loss:.4}"));
            vec![b.last.to_string(), loss]
        }));
        page.table(&rows);
    }
    if let Some(first) = record.others.get(PASS) {
        page.head("Held-out questions, the newest first");
        let mut rows = vec![["step", PASS].map(str::to_owned).to_vec()];
        rows.extend(
            first
                .by_step()
                .iter()
                .rev()
                .take(MEASURED)
                .map(|(step, share)| vec![step.to_string(), format!("{share:.4}")]),
        );
        page.table(&rows);
    }
    if let Some(scored) = record.scores.back() {
        let Scored { name, mean, step, .. } = scored;
        page.head(&format!("{name} {mean:.4} after step {step}"));
        page.paragraph(
            "The number in the heading is the mean of the centred accuracies: 0 is as good as guessing, 1 is all right.",
        );
        let mut rows =
            vec![["task", "accuracy", "centred", "questions"].map(str::to_owned).to_vec()];
        rows.extend(scored.tasks.iter().map(|task| {
            let numbers = [task.accuracy, task.centered].map(|number| format!("{number:.4}"));
            let [accuracy, centred] = numbers;
            vec![task.label.clone(), accuracy, centred, task.questions.to_string()]
        }));
        page.table(&rows);
    }
}
