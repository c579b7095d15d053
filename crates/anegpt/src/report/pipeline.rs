//! The report of a pipeline: tokenizer, base model, finetuning and reinforcement, as a table of what each step gained.
//! It is made of logs and of evaluations' summaries, never of text for people.

use super::html::{Page, losses};
use crate::progress;
use crate::record::facts::short;
use crate::record::{CHATCORE, PASS, Record, Series, TASKS, ended_by};
use crate::view::{draw_losses, limits};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Directories that are looked into, below the one that is named: those of runs, and the results in them.
const DEPTH: usize = 6;
/// Columns of a curve in Markdown.
const COLUMNS: usize = 80;
/// The steps of a pipeline, by the command that makes them, with what is said where there is none.
const STAGES: [(&str, &str, &str); 3] = [
    ("train", "BASE", "no base model (anegpt train)"),
    ("sft", "SFT", "no finetuning (anegpt sft)"),
    ("rl", "RL", "no reinforcement learning (anegpt rl)"),
];

/// A piece of a report.
#[derive(Debug)]
enum Block {
    Head(String),
    Paragraph(String),
    List(Vec<String>),
    /// The first row is the head.
    Table(Vec<Vec<String>>),
    /// Text whose lines stay.
    Text(String),
    /// A picture, and the same in characters.
    Picture(Option<String>, Option<String>),
}

/// A step of a pipeline.
#[derive(Debug)]
struct Stage {
    name: String,
    place: PathBuf,
    record: Record,
    /// Results by what was measured.
    results: BTreeMap<String, Measurement>,
}

/// A result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measurement {
    value: f64,
    /// The number of questions that were asked, where some were.
    questions: Option<u64>,
}

/// The report of a pipeline.
#[derive(Debug)]
pub(crate) struct Report {
    title: String,
    blocks: Vec<Block>,
}

/// Returns the report of the runs below `directory`; `None` if there are none.
///
/// # Errors
/// When a log or a summary cannot be read.
pub(crate) fn of(directory: &Path) -> Result<Option<Report>> {
    let mut found = Found::default();
    found.look(directory, DEPTH)?;
    let (stages, older) = stages(&found)?;
    if stages.is_empty() {
        return Ok(None);
    }
    let mut blocks = vec![];
    let mut skipped: Vec<String> = older;
    environment(&stages, &mut blocks);
    overview(&stages, &mut blocks, &mut skipped);
    for stage in &stages {
        one(stage, &mut blocks, &mut skipped);
    }
    blocks.push(Block::Head("Not measured, or left out".to_owned()));
    blocks.push(match skipped.is_empty() {
        true => Block::Paragraph("Nothing.".to_owned()),
        false => Block::List(skipped),
    });
    let name = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let name = name.file_name().unwrap_or(directory.as_os_str()).to_string_lossy().into_owned();
    Ok(Some(Report { title: format!("Report card: {name}"), blocks }))
}

/// What lies below a directory.
#[derive(Debug, Default)]
struct Found {
    logs: Vec<PathBuf>,
    /// Summaries of evaluations: their place and what they say.
    summaries: Vec<(PathBuf, Value)>,
}

impl Found {
    fn look(&mut self, directory: &Path, depth: usize) -> Result<()> {
        let unread = || format!("cannot read {}", directory.display());
        let entries = std::fs::read_dir(directory).with_context(unread)?;
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| Ok(entry.with_context(unread)?.path())).collect::<Result<_>>()?;
        // What is found does not depend on the order in which a system lists it.
        paths.sort();
        for path in paths {
            let link = path.symlink_metadata().is_ok_and(|file| file.is_symlink());
            if path.is_dir() && !link && depth > 0 {
                self.look(&path, depth - 1)?;
            } else if path.file_name().is_some_and(|name| name == "log.jsonl") {
                self.logs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                self.summaries.extend(summary(&path).map(|summary| (path, summary)));
            }
        }
        Ok(())
    }
}

/// The summary of an evaluation, as `anegpt eval --json` prints it; `None` for other files.
fn summary(path: &Path) -> Option<Value> {
    /// Summaries are short; weights' indices and tokenizers are not.
    const LONGEST: u64 = 1 << 20;
    if std::fs::metadata(path).ok()?.len() > LONGEST {
        return None;
    }
    let value: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let known = ["bpb", "core", "chat", "sample"];
    let tasks = value.get("tasks")?.as_object()?;
    (value.get("model").is_some() && tasks.keys().any(|name| known.contains(&name.as_str())))
        .then_some(value)
}

/// The steps in their order, the newest run of each, and what was left out.
fn stages(found: &Found) -> Result<(Vec<Stage>, Vec<String>)> {
    let (mut all, mut left_out) = (vec![], vec![]);
    for log in &found.logs {
        let record = Record::of(log).with_context(|| format!("cannot read {}", log.display()))?;
        let place = log.parent().expect("a file is in a directory").to_owned();
        left_out.extend(record.missing().iter().map(|note| format!("{}: {note}", place.display())));
        match record.begun {
            Some(_) => all.push((place, record)),
            None => left_out.push(format!("{}: its log has no run that begins", place.display())),
        }
    }
    let rank = |record: &Record| {
        STAGES.iter().position(|stage| stage.0 == record.command).unwrap_or(STAGES.len())
    };
    let began = |record: &Record| record.first_time.unwrap_or_default();
    all.sort_by(|(_, a), (_, b)| rank(a).cmp(&rank(b)).then(began(b).total_cmp(&began(a))));
    let mut stages: Vec<Stage> = vec![];
    for (place, record) in all {
        let known = STAGES.iter().find(|stage| stage.0 == record.command);
        let name = known.map_or(record.command.to_uppercase(), |stage| stage.1.to_owned());
        if stages.iter().any(|stage| stage.name == name) {
            left_out.push(format!("{}: an older run of {name}", place.display()));
            continue;
        }
        let mut results = meanwhile(&record);
        // A model may be named by another path than the one that was looked into.
        let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let run = whole(&place);
        for (path, summary) in &found.summaries {
            let model = summary["model"].as_str().map(|model| whole(Path::new(model)));
            let of = model.is_some_and(|model| model.starts_with(&run));
            if path.starts_with(&place) || of {
                measured(summary, &mut results);
            }
        }
        stages.push(Stage { name, place, record, results });
    }
    for (_, name, none) in STAGES {
        if stages.iter().all(|stage| stage.name != name) {
            left_out.push(format!("{name}: {none}"));
        }
    }
    Ok((stages, left_out))
}

/// The accuracies that a run measured of itself the last time.
fn meanwhile(record: &Record) -> BTreeMap<String, Measurement> {
    let newest = record.scores.iter().rev().find(|scored| scored.name == TASKS);
    let tasks = newest.into_iter().flat_map(|scored| &scored.tasks);
    let measured = tasks.map(|task| {
        let questions = Some(task.questions as u64);
        let name = format!("{} (accuracy, measured by the run)", task.label);
        (name, Measurement { value: task.accuracy, questions })
    });
    let chatcore = record.others.get(CHATCORE).and_then(Series::newest);
    let chatcore = chatcore.map(|(_, value)| {
        (format!("{CHATCORE} (measured by the run)"), Measurement { value, questions: None })
    });
    measured.chain(chatcore).collect()
}

/// The results in a summary, by name.
fn measured(summary: &Value, results: &mut BTreeMap<String, Measurement>) {
    let tasks = &summary["tasks"];
    let mut add = |name: String, value: &Value, questions: &Value| {
        if let Some(value) = value.as_f64() {
            results.insert(name, Measurement { value, questions: questions.as_u64() });
        }
    };
    add("Bits per byte".to_owned(), &tasks["bpb"]["bits_per_byte"], &Value::Null);
    add("CORE".to_owned(), &tasks["core"]["core"], &Value::Null);
    for (kind, of) in [("core", "centered"), ("chat", "accuracy")] {
        for task in tasks[kind]["tasks"].as_array().into_iter().flatten() {
            let name = task.get("label").or(task.get("name")).and_then(Value::as_str);
            add(format!("{} ({of})", name.unwrap_or("?")), &task[of], &task["questions"]);
        }
    }
    add(CHATCORE.to_owned(), &tasks["chat"]["chatcore"], &Value::Null);
}

fn environment(stages: &[Stage], blocks: &mut Vec<Block>) {
    blocks.push(Block::Head("Environment and data".to_owned()));
    let mut rows = vec![["", "value"].map(str::to_owned).to_vec()];
    let mut add = |name: &str, values: Vec<String>| {
        let mut values: Vec<String> =
            values.into_iter().filter(|value| !value.is_empty()).collect();
        values.dedup();
        if !values.is_empty() {
            rows.push(vec![name.to_owned(), values.join("; ")]);
        }
    };
    let begun = || stages.iter().filter_map(|stage| stage.record.begun.as_ref());
    add("version", begun().map(|begun| begun.settings.version.clone()).collect());
    add("device", begun().map(|begun| begun.device.clone()).collect());
    add("why", begun().map(|begun| begun.reason.clone()).collect());
    add("numerics", begun().map(|begun| begun.settings.numerics.clone()).collect());
    add("model", begun().map(|begun| begun.model.clone()).collect());
    let parameters = begun().map(|begun| progress::count(begun.params as f64));
    add("parameters", parameters.collect());
    add("tokenizer", begun().map(|begun| begun.settings.tokenizer.clone()).collect());
    add("data", begun().map(|begun| begun.settings.text.clone()).collect());
    blocks.push(Block::Table(rows));
}

/// The table of what each step gained.
fn overview(stages: &[Stage], blocks: &mut Vec<Block>, skipped: &mut Vec<String>) {
    blocks.push(Block::Head("Results".to_owned()));
    let heads = stages.iter().map(|stage| stage.name.clone());
    let mut rows: Vec<Vec<String>> = vec![["Metric".to_owned()].into_iter().chain(heads).collect()];
    let mut add = |name: &str, of: &dyn Fn(&Stage) -> Option<String>| {
        let cells: Vec<Option<String>> = stages.iter().map(of).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or("-".to_owned()));
            rows.push([name.to_owned()].into_iter().chain(cells).collect());
        }
    };
    let four = |value: f64| format!("{value:.4}");
    let newest = |series: &Series| series.newest().map(|(_, value)| four(value));
    let asked = |found: &Measurement| match found.questions {
        Some(questions) => format!("{} ({questions})", four(found.value)),
        None => four(found.value),
    };
    // CORE first and ChatCORE last, as nanochat's report has them.
    let core = |stage: &Stage| stage.results.get("CORE").map(asked).or(newest(&stage.record.core));
    add("CORE", &core);
    add("Validation loss", &|stage| newest(&stage.record.validation));
    add("Lowest validation loss", &|stage| stage.record.validation.least().map(four));
    add("Bits per byte, of its own validation part", &|stage| newest(&stage.record.bits_per_byte));
    let names: std::collections::BTreeSet<&String> =
        stages.iter().flat_map(|stage| stage.results.keys()).collect();
    for name in names.into_iter().filter(|name| *name != "CORE" && *name != CHATCORE) {
        add(name, &|stage| stage.results.get(name).map(asked));
    }
    add("pass@1 on held-out questions", &|stage| stage.record.others.get(PASS).and_then(newest));
    add(CHATCORE, &|stage| stage.results.get(CHATCORE).map(asked));
    add("Steps", &|stage| Some(stage.record.step.to_string()));
    add("Tokens", &|stage| Some(progress::count(stage.record.tokens as f64)));
    add("Seconds", &|stage| {
        (stage.record.seconds() > 0.0).then(|| format!("{:.1}", stage.record.seconds()))
    });
    add("Joules", &|stage| (stage.record.joules > 0.0).then(|| short(stage.record.joules)));
    let share = |stage: &Stage, engine: bool| {
        let record = &stage.record;
        let parts =
            ["engine_fwd", "engine_bwd"].map(|name| record.parts.get(name).map(|p| p.total));
        let on: f64 = parts.into_iter().flatten().sum();
        let share = on / record.ms;
        // Without an engine, its programs are the host's.
        let engine_is_there =
            record.begun.as_ref().is_some_and(|begun| begun.settings.backend != "cpu");
        (record.ms > 0.0 && engine_is_there)
            .then(|| format!("{:.0} %", 100.0 * if engine { share } else { 1.0 - share }))
    };
    add("Engine's share of a step", &|stage| share(stage, true));
    add("Host's share of a step", &|stage| share(stage, false));
    blocks.push(Block::Table(rows));
    let total: f64 = stages.iter().map(|stage| stage.record.seconds()).sum();
    blocks.push(Block::Paragraph(format!("All of this together took {total:.1} s.")));
    let results = || stages.iter().flat_map(|stage| stage.results.values());
    if results().any(|found| found.questions.is_some()) {
        let rule = "In brackets: the number of questions asked.";
        blocks.push(Block::Paragraph(rule.to_owned()));
    }
    if stages.iter().all(|stage| stage.results.is_empty()) {
        skipped.push("tasks: no results of `anegpt eval --tasks` or --tasks-every".to_owned());
    }
    if stages.iter().all(|stage| stage.record.joules == 0.0) {
        skipped.push("energy: no reading of power in the logs".to_owned());
    }
}

/// What is of one step alone.
fn one(stage: &Stage, blocks: &mut Vec<Block>, skipped: &mut Vec<String>) {
    let record = &stage.record;
    blocks.push(Block::Head(format!("{}: {}", stage.name, stage.place.display())));
    let state = record.ended.as_ref().map_or("not ended", |ended| ended_by(ended.reason));
    blocks.push(Block::Paragraph(format!(
        "{state}, step {} of {}, {} skipped; {}",
        record.step,
        record.total().unwrap_or(record.step),
        record.skipped,
        progress::counted(record.sessions, "session")
    )));
    let text = draw_losses(&record.loss.by_step(), &record.validation.by_step(), COLUMNS);
    blocks.push(Block::Picture(losses(&[(&stage.name, record)]), text));
    if let Some((step, products)) = &record.ranges {
        blocks.push(Block::Paragraph(format!(
            "The engine's range, step {step}: {}.",
            limits(products)
        )));
    }
    match record.samples.back() {
        Some(sampled) => {
            blocks.push(Block::Paragraph(format!("A text after step {}:", sampled.step)));
            blocks.push(Block::Text(sampled.text.trim().to_owned()));
        }
        None => skipped.push(format!("{}: no text was sampled", stage.name)),
    }
    if record.validation.is_empty() && !record.others.contains_key(PASS) {
        skipped.push(format!("{}: the validation loss was not measured", stage.name));
    }
}

impl Report {
    /// The report as one HTML file.
    pub(crate) fn html(&self) -> String {
        let mut page = Page::default();
        for block in &self.blocks {
            match block {
                Block::Head(text) => page.head(text),
                Block::Paragraph(text) => page.paragraph(text),
                Block::List(lines) => {
                    lines.iter().for_each(|line| page.paragraph(&format!("– {line}")))
                }
                Block::Table(rows) => page.table(rows),
                Block::Text(text) => page.block(text),
                Block::Picture(svg, _) => page.charts([svg.clone()]),
            }
        }
        page.finish(&self.title)
    }

    /// The report as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("# {}\n", plain(&self.title));
        let mut add = |text: String| writeln!(out, "\n{text}").expect("a string takes everything");
        for block in &self.blocks {
            match block {
                Block::Head(text) => add(format!("## {}", plain(text))),
                Block::Paragraph(text) => add(plain(text)),
                Block::List(lines) => {
                    add(lines
                        .iter()
                        .map(|line| format!("- {}", plain(line)))
                        .collect::<Vec<_>>()
                        .join("\n"));
                }
                Block::Table(rows) => add(table(rows)),
                Block::Text(text) | Block::Picture(_, Some(text)) => add(fenced(text)),
                Block::Picture(_, None) => {}
            }
        }
        out
    }
}

/// A text in which Markdown sees nothing.
fn plain(text: &str) -> String {
    let special = |c: char| "\\`*_{}[]<>#|~".contains(c);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if special(c) => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A text as a block whose fence is longer than any in it.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}\n{text}\n{fence}")
}

fn table(rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut lines: Vec<String> =
        rows.iter().map(|row| line(row.iter().map(|cell| plain(cell)).collect())).collect();
    if let Some(head) = rows.first() {
        let rule = (0..head.len()).map(|at| if at == 0 { "---" } else { "---:" }.to_owned());
        lines.insert(1, line(rule.collect()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_sees_nothing_in_a_text() {
        assert_eq!(plain("a|b *c* <d> `e`\n"), "a\\|b \\*c\\* \\<d\\> \\`e\\` ");
        assert_eq!(fenced("a ``` b"), "````\na ``` b\n````");
        let rows = [vec!["x".to_owned(), "y|z".to_owned()], vec!["1".to_owned(), "2".to_owned()]];
        assert_eq!(table(&rows), "| x | y\\|z |\n| --- | ---: |\n| 1 | 2 |");
    }

    #[test]
    fn results_are_read_from_a_summary() {
        let summary = serde_json::json!({"model": "m", "tasks": {
            "bpb": {"bits_per_byte": 1.5},
            "core": {"core": 0.25, "tasks": [{"label": "arc", "accuracy": 0.5, "centered": 0.125, "questions": 40}]},
            "chat": {"chatcore": null, "tasks": [{"name": "spelling", "accuracy": 0.75, "questions": 8}]},
        }});
        let mut results = BTreeMap::new();
        measured(&summary, &mut results);
        let results: Vec<(&str, f64, Option<u64>)> =
            results.iter().map(|(name, of)| (name.as_str(), of.value, of.questions)).collect();
        assert_eq!(
            results,
            [
                ("Bits per byte", 1.5, None),
                ("CORE", 0.25, None),
                ("arc (centered)", 0.125, Some(40)),
                ("spelling (accuracy)", 0.75, Some(8)),
            ]
        );
    }
}
