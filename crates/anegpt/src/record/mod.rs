//! What the log of a run tells, in bounded memory: the state that the dashboard and the report draw. It follows
//! from the lines alone and knows neither clock nor terminal.

pub(crate) mod facts;
mod follow;
mod series;

pub(crate) use follow::{Follower, News};
pub(crate) use series::{NOTHING, Series};

use crate::usage;
use crate::view::{Skipped, StepTokens, accuracies, limits, passed};
use ane::PowerSample;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use train::evaluate::{ChatTaskScore, TaskScore};
use train::log::{Line, StepLine, parse};
use train::{Event, Range, Reason, Settings, Spent};

/// Entries of the log that are kept.
const ENTRIES: usize = 2000;
/// Texts that are kept, and the bytes of each.
const TEXTS: usize = 200;
const TEXT: usize = 64 << 10;
/// Quantities of events that are not known which are kept.
const OTHERS: usize = 256;
/// Lines that are no events and are shown.
const SHOWN_FOREIGN: u64 = 5;
/// Bytes of a log in which a run has told something.
const BEGINNING: u64 = 16 << 20;
/// Share that a step adds to the recent time of a part.
const RECENT: f64 = 0.05;

/// Name of the share of held-out questions that are answered rightly at the first try.
pub(crate) const PASS: &str = "pass@1";

/// Name of the accuracies of tasks that a run measures.
pub(crate) const TASKS: &str = "Tasks";
/// Name of the mean of the centred accuracies of the tasks that ChatCORE is of.
pub(crate) const CHATCORE: &str = "ChatCORE";

/// The beginning of the newest session.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    pub(crate) device: String,
    pub(crate) reason: String,
    pub(crate) model: String,
    pub(crate) params: usize,
    pub(crate) train_tokens: usize,
    pub(crate) val_tokens: usize,
    pub(crate) unigram_entropy: f64,
    pub(crate) steps: u64,
    pub(crate) settings: Settings,
}

/// The end of the newest session.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reason: Reason,
    pub(crate) spent: Spent,
    pub(crate) peak_memory_mib: Option<f64>,
}

/// An entry of the log, as text once it is drawn.
#[derive(Debug)]
pub(crate) enum Entry {
    Step { step: u64, loss: f64, ms: f64, lr: f64, skipped: bool },
    Said { kind: Kind, text: String },
}

/// Kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Note,
    Result,
    Warning,
}

/// A text that the run sampled.
#[derive(Debug)]
pub(crate) struct Sampled {
    pub(crate) step: u64,
    pub(crate) text: String,
}

/// CORE, or the accuracies of other tasks, after a step.
#[derive(Debug)]
pub(crate) struct Scored {
    pub(crate) step: u64,
    /// What the mean of the tasks is called.
    pub(crate) name: &'static str,
    /// That mean, of centred accuracies.
    pub(crate) mean: f64,
    pub(crate) tasks: Vec<TaskScore>,
}

/// The accuracy of a task of conversations, as one of CORE's is kept.
fn as_of_core(task: ChatTaskScore) -> TaskScore {
    let ChatTaskScore { name, questions, accuracy, centered, truncated, cut } = task;
    TaskScore { label: name, questions, accuracy, centered, truncated, cut, merged: 0 }
}

/// Milliseconds of a part of the steps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PartTime {
    /// Mean of about the last 20 steps.
    pub(crate) recent: f64,
    /// Sum over the session.
    pub(crate) total: f64,
}

/// A run as far as its log was read.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) begun: Option<Begun>,
    pub(crate) ended: Option<Ended>,
    /// The command that made the run.
    pub(crate) command: String,
    /// Seconds of all sessions but the one that goes on, and joules of all readings of power. A session that was killed
    /// counts up to its last event.
    seconds: f64,
    pub(crate) joules: f64,
    /// Sessions begun.
    pub(crate) sessions: usize,
    pub(crate) step: u64,
    pub(crate) tokens: u64,
    step_tokens: StepTokens,
    pub(crate) loss: Series,
    pub(crate) validation: Series,
    pub(crate) bits_per_byte: Series,
    pub(crate) lr: Series,
    /// Tokens per second.
    pub(crate) speed: Series,
    pub(crate) grad_norm: Series,
    pub(crate) loss_scale: Series,
    /// Steps of this session, and those of them that were skipped.
    pub(crate) steps: u64,
    pub(crate) skipped: u64,
    /// Milliseconds of this session's steps, and those of about the last 20.
    pub(crate) ms: f64,
    pub(crate) recent_ms: f64,
    pub(crate) parts: BTreeMap<String, PartTime>,
    /// Watts by part of the chip (see [`PowerSample::PARTS`]).
    pub(crate) power: [Series; 4],
    pub(crate) joules_per_token: Series,
    pub(crate) power_source: String,
    /// CPU cores that the run kept busy, and the MiB that it held.
    pub(crate) cpu: Series,
    pub(crate) memory: Series,
    /// The newest ranges of the engine's products, and by step the least distance to 2^15 in powers of two and the
    /// largest share of products that is lost.
    pub(crate) ranges: Option<(u64, Vec<Range>)>,
    pub(crate) headroom: Series,
    pub(crate) lost: Series,
    pub(crate) samples: VecDeque<Sampled>,
    pub(crate) scores: VecDeque<Scored>,
    pub(crate) core: Series,
    /// Numbers of events that are not known here, by `event/field`.
    pub(crate) others: BTreeMap<String, Series>,
    pub(crate) log: VecDeque<Entry>,
    /// Entries that were dropped from the front of the log.
    pub(crate) dropped: u64,
    pub(crate) skipped_lines: Skipped,
    /// Seconds since 1970 of the first and the newest event, where they tell.
    pub(crate) first_time: Option<f64>,
    pub(crate) last_time: Option<f64>,
    /// When the newest session began.
    session_time: Option<f64>,
}

impl Record {
    /// Reads a whole log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of(path: &Path) -> std::io::Result<Record> {
        let mut record = Record::default();
        std::fs::metadata(path)?;
        let mut follower = Follower::new(path);
        while follower.read(std::time::Duration::MAX, |news| record.take(news))? > 0 {}
        record.skipped_lines.torn += u64::from(follower.in_a_line());
        Ok(record)
    }

    /// What is missing of the log, in words.
    pub(crate) fn missing(&self) -> Vec<String> {
        let headless = self.begun.is_none() && !self.is_empty();
        let headless = headless.then(|| {
            "the beginning of the log is missing: model, settings and forecast are not known"
                .to_owned()
        });
        headless.into_iter().chain(self.skipped_lines.note()).collect()
    }

    /// Takes note of what a log tells.
    pub(crate) fn take(&mut self, news: News<'_>) {
        match news {
            News::Line(line) => self.line(line),
            News::TooLong => self.stranger(b"(a line of many megabytes)"),
            News::Anew => *self = Record::default(),
        }
    }

    fn line(&mut self, line: &[u8]) {
        let time = |fields: &Map<String, Value>| fields.get("time").and_then(Value::as_f64);
        match parse(line) {
            Line::Empty => {}
            Line::Step(step) => {
                self.at(step.time);
                self.note_step(&step);
            }
            Line::Event(event, fields) => {
                let time = time(&fields);
                if let Event::Start { .. } = *event {
                    self.seconds = self.seconds();
                    self.session_time = time;
                    // Runs from before there was a choice were all made by `train`.
                    let command = fields.get("command").and_then(Value::as_str);
                    let command = command.filter(|command| !command.is_empty());
                    self.command = command.unwrap_or("train").to_owned();
                }
                self.at(time);
                match *event {
                    // Reinforcement learning has many numbers, which are drawn as they come.
                    Event::Round { .. } => self.note_other("round", &fields),
                    event => self.note(event),
                }
            }
            Line::Other(kind, fields) => {
                self.at(time(&fields));
                self.note_other(&kind, &fields);
            }
            Line::Torn => self.skipped_lines.torn += 1,
            Line::Foreign => self.stranger(line),
        }
    }

    fn at(&mut self, time: Option<f64>) {
        self.first_time = self.first_time.or(time);
        self.last_time = time.or(self.last_time);
    }

    /// Seconds of all sessions, as far as they got.
    pub(crate) fn seconds(&self) -> f64 {
        let open = (self.begun.is_some() && self.ended.is_none()).then(|| self.session_seconds());
        self.seconds + open.flatten().unwrap_or(0.0)
    }

    fn session_seconds(&self) -> Option<f64> {
        Some(self.last_time? - self.session_time?)
    }

    /// A line that is no event.
    fn stranger(&mut self, line: &[u8]) {
        self.skipped_lines.foreign += 1;
        if self.skipped_lines.foreign <= SHOWN_FOREIGN {
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
            self.say(Kind::Warning, format!("not an event: {text}"));
        }
    }

    fn say(&mut self, kind: Kind, text: impl Into<String>) {
        self.enter(Entry::Said { kind, text: text.into() });
    }

    fn enter(&mut self, entry: Entry) {
        self.log.push_back(entry);
        if self.log.len() > ENTRIES {
            self.log.pop_front();
            self.dropped += 1;
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Start { .. } => self.begin(event),
            Event::Step {
                step,
                loss,
                lr,
                tokens,
                ms,
                grad_norm,
                loss_scale,
                skipped,
                ref parts,
            } => self.note_step(&StepLine {
                step,
                loss,
                lr,
                tokens,
                ms,
                grad_norm,
                loss_scale: f64::from(loss_scale),
                skipped,
                parts: parts.iter().map(|(name, ms)| (name.as_str(), *ms)).collect(),
                time: None,
            }),
            Event::Round { .. } => {}
            Event::Eval { step, pass: Some(pass), .. } => {
                if let Some(first) = pass.at.first() {
                    self.others.entry(PASS.to_owned()).or_default().push(step, *first);
                }
                self.say(Kind::Result, format!("step {step}: {}", passed(&pass)));
            }
            Event::Eval { step, val_loss, bits_per_byte, .. } => {
                self.validation.push(step, val_loss);
                let bits = bits_per_byte.map(|bits| format!(", {bits:.4} bits per byte"));
                if let Some(bits) = bits_per_byte {
                    self.bits_per_byte.push(step, bits);
                }
                let bits = bits.unwrap_or_default();
                self.say(Kind::Result, format!("step {step}: validation loss {val_loss:.4}{bits}"));
            }
            Event::Core { step, core, tasks, .. } => {
                self.core.push(step, core);
                self.say(Kind::Result, format!("step {step}: CORE {core:.4}"));
                keep(&mut self.scores, Scored { step, name: "CORE", mean: core, tasks });
            }
            Event::Tasks { step, mean, tasks, chatcore, .. } => {
                if let Some(chatcore) = chatcore {
                    self.others.entry(CHATCORE.to_owned()).or_default().push(step, chatcore);
                }
                for task in &tasks {
                    let name = format!("accuracy: {}", task.name);
                    self.others.entry(name).or_default().push(step, task.accuracy);
                }
                self.say(Kind::Result, format!("step {step}: {}", accuracies(&tasks)));
                let tasks = tasks.into_iter().map(as_of_core).collect();
                keep(&mut self.scores, Scored { step, name: TASKS, mean, tasks });
            }
            Event::Sample { step, mut text, .. } => {
                truncate(&mut text, TEXT);
                self.say(
                    Kind::Note,
                    format!("step {step}: sampled {} characters", text.chars().count()),
                );
                keep(&mut self.samples, Sampled { step, text });
            }
            Event::Checkpoint { step, path, best, .. } => {
                let best = if best { ", the best so far" } else { "" };
                self.say(Kind::Note, format!("step {step}: saved {}{best}", path.display()));
            }
            Event::Power { step, source, sample, joules_per_token } => {
                self.note_power(step, &sample);
                self.joules += sample.watts().unwrap_or(0.0) * sample.seconds;
                self.power_source = source;
                if let Some(joules) = joules_per_token {
                    self.joules_per_token.push(step, joules);
                }
            }
            Event::Usage { step, cores, memory_mib } => {
                self.cpu.push(step, cores);
                if let Some(mib) = memory_mib {
                    self.memory.push(step, mib);
                }
            }
            Event::Ranges { step, products } => {
                let (near, losing) = Range::limits(&products);
                self.headroom.push(step, near.and_then(|range| range.headroom).unwrap_or(f64::NAN));
                self.lost.push(step, losing.map_or(0.0, |range| range.lost));
                self.say(Kind::Result, format!("step {step}: {}", limits(&products)));
                self.ranges = Some((step, products));
            }
            Event::Warning { message } => self.say(Kind::Warning, format!("warning: {message}")),
            Event::Done { reason, spent, peak_memory_mib, steps, .. } => {
                let how = ended_by(reason);
                self.say(Kind::Note, format!("{how} after {steps} steps, {:.1} s", spent.total_s));
                self.seconds += spent.total_s;
                self.ended = Some(Ended { reason, spent, peak_memory_mib });
            }
        }
    }

    fn begin(&mut self, event: Event) {
        let Event::Start {
            device,
            reason,
            model,
            params,
            tokens_per_step,
            train_tokens,
            val_tokens,
            unigram_entropy,
            step,
            steps,
            settings,
            ..
        } = event
        else {
            return;
        };
        let how = match self.sessions {
            0 => format!("begun: {model} on {device}"),
            _ => format!("resumed at step {step} of {steps}"),
        };
        self.sessions += 1;
        self.say(Kind::Note, how);
        self.step = step;
        self.step_tokens = StepTokens::new(tokens_per_step, step);
        self.ended = None;
        (self.steps, self.skipped, self.ms, self.recent_ms) = (0, 0, 0.0, 0.0);
        self.parts.clear();
        self.begun = Some(Begun {
            device,
            reason,
            model,
            params,
            train_tokens,
            val_tokens,
            unigram_entropy,
            steps,
            settings: *settings,
        });
    }

    fn note_step(&mut self, line: &StepLine<'_>) {
        let &StepLine { step, loss, lr, tokens, ms, grad_norm, loss_scale, skipped, .. } = line;
        let own = self.step_tokens.of(step, tokens).map_or(f64::NAN, |own| own as f64);
        (self.step, self.tokens) = (step, tokens);
        self.loss.push(step, loss);
        self.lr.push(step, lr);
        self.grad_norm.push(step, grad_norm);
        self.loss_scale.push(step, loss_scale);
        self.speed.push(step, 1e3 * own / ms);
        self.steps += 1;
        self.skipped += u64::from(skipped);
        self.ms += ms;
        let share = RECENT.max(1.0 / self.steps as f64);
        self.recent_ms += share * (ms - self.recent_ms);
        for (name, ms) in &line.parts {
            if !self.parts.contains_key(*name) {
                self.parts.insert((*name).to_owned(), PartTime::default());
            }
            let part = self.parts.get_mut(*name).expect("it was inserted");
            part.recent += share * (ms - part.recent);
            part.total += ms;
        }
        self.enter(Entry::Step { step, loss, ms, lr, skipped });
    }

    fn note_power(&mut self, step: u64, sample: &PowerSample) {
        for (series, watts) in self.power.iter_mut().zip(sample.parts()) {
            if let Some(watts) = watts {
                series.push(step, watts);
            }
        }
    }

    /// An event of a kind that is not known, as of a later version: its numbers are kept.
    fn note_other(&mut self, kind: &str, fields: &Map<String, Value>) {
        let step = fields.get("step").and_then(Value::as_u64).unwrap_or(self.step);
        let mut said = vec![];
        for (name, value) in fields {
            match value {
                Value::Number(number) if name != "step" && name != "time" => {
                    let value = number.as_f64().unwrap_or(f64::NAN);
                    said.push(format!("{name} {value}"));
                    let name = format!("{kind}/{name}");
                    if self.others.len() < OTHERS || self.others.contains_key(&name) {
                        self.others.entry(name).or_default().push(step, value);
                    }
                }
                _ => {}
            }
        }
        self.say(Kind::Note, format!("step {step}: {kind} {}", said.join(", ")));
    }

    /// Steps of the whole run, where that is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.begun.as_ref().map(|begun| begun.steps)
    }

    /// Seconds to the last step at the recent pace, evaluation left out.
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        let left = self.total()?.saturating_sub(self.step);
        (self.steps > 0).then(|| left as f64 * self.recent_ms / 1e3)
    }

    /// True if the run's model answers in conversations.
    pub(crate) fn talks(&self) -> bool {
        matches!(self.command.as_str(), "sft" | "rl")
    }

    /// What the run's samples begin with: a prompt, or a question.
    pub(crate) fn question(&self) -> Option<&str> {
        self.begun.as_ref()?.settings.prompt.as_deref()
    }

    /// True if a run told anything: foreign lines are none of its own.
    pub(crate) fn is_of_a_run(&self) -> bool {
        self.begun.is_some() || self.steps > 0
    }

    /// True if nothing was told yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty()
    }
}

/// True if the beginning of a log has an event.
pub(crate) fn tells_of_a_run(log: &Path) -> bool {
    let Ok(file) = std::fs::File::open(log) else { return false };
    let mut lines =
        std::io::BufReader::new(file.take(BEGINNING)).split(b'\n').map_while(Result::ok);
    lines.any(|line| matches!(parse(&line), Line::Step(_) | Line::Event(..)))
}

/// The log of a run: `path` itself, or that in the directory.
///
/// # Errors
/// When there is none; the message names the runs that are there instead.
pub(crate) fn find_log(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        return Err(usage(format!("{}: there is no such run", path.display())));
    }
    let log = path.join("log.jsonl");
    if !path.is_dir() || log.exists() {
        return Ok(if path.is_dir() { log } else { path.to_owned() });
    }
    let place = path.display();
    let is_run = |path: &PathBuf| path.join("log.jsonl").exists();
    if let Some(run) = path.canonicalize()?.parent().map(Path::to_owned).filter(is_run)
        && path.join("state.json").exists()
    {
        let run = run.display();
        return Err(usage(format!(
            "{place} is a checkpoint: give the directory of its run, {run}"
        )));
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {place}"))?;
    let mut runs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    runs.retain(is_run);
    runs.sort();
    let names: Vec<String> = runs.iter().map(|run| run.display().to_string()).collect();
    Err(usage(match names.is_empty() {
        true => format!("{place} holds no run: there is no log.jsonl in it"),
        false => {
            format!("{place} is not a run itself, but holds runs; name them: {}", names.join(" "))
        }
    }))
}

/// How a session ended, in words.
pub(crate) fn ended_by(reason: Reason) -> &'static str {
    match reason {
        Reason::Finished => "finished",
        Reason::Interrupted => "interrupted",
        Reason::Terminated => "stopped",
        Reason::Hangup => "ended as its terminal went away",
        Reason::Stopped => "stopped by itself",
    }
}

/// Adds to the newest things, of which a few are kept.
fn keep<T>(things: &mut VecDeque<T>, new: T) {
    things.push_back(new);
    if things.len() > TEXTS {
        things.pop_front();
    }
}

/// Cuts a text to so many bytes at most, between two characters.
fn truncate(text: &mut String, bytes: usize) {
    text.truncate(
        (0..=bytes.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0),
    );
}

#[cfg(test)]
mod tests;
