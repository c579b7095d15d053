//! The report at the end of a run, made of its events.

use super::curve;
use super::human::{dialled, passed};
use super::json::{self, Skipped};
use super::tokens::StepTokens;
use crate::power::Totals;
use crate::progress;
use crate::term;
use anyhow::Result;
use gpt::Dims;
use gpt::plan::{Part, flops_by_part};
use mil::DType;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use train::evaluate::ChatTaskScore;
use train::objective::Pass;
use train::{Best, Event, Reason, RunConfig, Settings, Spent};
use unicode_width::UnicodeWidthStr;

/// Column at which the values of the report begin.
const COLUMN: usize = 17;

/// The events of a run so far, summed up.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// False where the beginning of the log is missing: nothing that it would tell is known.
    begun: bool,
    settings: Settings,
    tokens_per_step: usize,
    step_tokens: StepTokens,
    /// Tokens of this session's steps.
    tokens: u64,
    unigram: f64,
    planned: u64,
    /// Training and validation losses by step.
    training: Vec<(u64, f64)>,
    validation: Vec<(u64, f64)>,
    /// Bits per byte when the loss was last measured, and CORE when it was, with the step.
    bits_per_byte: Option<f64>,
    core: Option<(u64, f64)>,
    /// The accuracies of tasks when they were last asked, with the step.
    tasks: Option<(u64, Vec<ChatTaskScore>)>,
    /// Mean rewards of the rounds, and answers to held-out questions with the step (reinforcement learning).
    rewards: Vec<f64>,
    passes: Vec<(u64, Pass)>,
    /// Milliseconds of this session's steps, together and by part.
    ms: f64,
    parts: BTreeMap<String, f64>,
    power: Totals,
    power_source: String,
    ending: Option<Ending>,
}

/// The contents of the last event.
#[derive(Debug)]
struct Ending {
    steps: u64,
    val_loss: Option<f64>,
    best: Option<Best>,
    spent: Spent,
    peak_memory_mib: Option<f64>,
    reason: Reason,
}

/// The report that a run printed at its end, from its log: the events of its directory or of standard
/// output, one JSON object a line, and what was left out of it. `None` unless its last session has done all steps.
///
/// # Errors
/// When the log cannot be read.
pub(crate) fn of_log(
    log: impl BufRead,
    width: usize,
    unicode: bool,
) -> Result<(Option<String>, Skipped)> {
    let mut report = Report::default();
    let skipped = json::read(log, |event| report.note(event))?;
    Ok((report.text(width, unicode), skipped))
}

impl Report {
    /// Takes note of an event.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            // A log tells all sessions of a run; the report is that of the last one.
            Event::Start { tokens_per_step, unigram_entropy, step, steps, settings, .. } => {
                *self = Report {
                    begun: true,
                    settings: (**settings).clone(),
                    tokens_per_step: *tokens_per_step,
                    step_tokens: StepTokens::new(*tokens_per_step, *step),
                    unigram: *unigram_entropy,
                    planned: *steps,
                    ..Report::default()
                };
            }
            Event::Step { step, loss, tokens, ms, parts, .. } => {
                self.tokens += self.step_tokens.of(*step, *tokens).unwrap_or(0);
                self.training.push((*step, *loss));
                self.ms += ms;
                for (name, ms) in parts {
                    *self.parts.entry(name.clone()).or_default() += ms;
                }
            }
            Event::Eval { step, pass: Some(pass), .. } => self.passes.push((*step, pass.clone())),
            Event::Eval { step, val_loss, bits_per_byte, .. } => {
                self.validation.push((*step, *val_loss));
                self.bits_per_byte = *bits_per_byte;
            }
            Event::Core { step, core, .. } => self.core = Some((*step, *core)),
            Event::Tasks { step, tasks, .. } => self.tasks = Some((*step, tasks.clone())),
            Event::Power { source, sample, .. } => {
                self.power.add(sample);
                self.power_source.clone_from(source);
            }
            Event::Done { steps, val_loss, best, spent, peak_memory_mib, reason, .. } => {
                self.ending = Some(Ending {
                    steps: *steps,
                    val_loss: *val_loss,
                    best: *best,
                    spent: *spent,
                    peak_memory_mib: *peak_memory_mib,
                    reason: *reason,
                });
            }
            Event::Round { reward, .. } => self.rewards.push(*reward),
            Event::Sample { .. }
            | Event::Checkpoint { .. }
            | Event::Usage { .. }
            | Event::Ranges { .. }
            | Event::Warning { .. } => {}
        }
    }

    /// The loss curve, the report and what to type next; `None` unless the run has done its steps.
    pub(super) fn text(&self, width: usize, unicode: bool) -> Option<String> {
        let ending = self.ending.as_ref().filter(|ending| ending.reason == Reason::Finished)?;
        if self.training.is_empty() {
            return None;
        }
        let mut lines = Lines { width, text: String::new() };
        let learns_from_answers = !self.rewards.is_empty();
        if !learns_from_answers
            && let Some(curve) = curve::draw(&self.training, &self.validation, width, unicode)
        {
            lines.text.push_str(&format!("{curve}\n\n"));
        }
        lines.text.push_str("=== Efficiency Report ===\n");
        if let Some((run, dial)) =
            self.settings.run.as_ref().and_then(|run| Some((run, run.dial.as_ref()?)))
        {
            lines.row("Depth:", &dialled(dial, run));
        }
        let total = ending.spent.total_s;
        lines.row(
            "Steps:",
            &match self.begun {
                true => format!("{} of {}", ending.steps, self.planned),
                false => format!("{}; the beginning of the log is missing", ending.steps),
            },
        );
        lines.row("Time:", &format!("{total:.2} s"));
        for (name, seconds) in activities(&ending.spent) {
            lines.share(name, &format!("{seconds:.2} s"), seconds / total);
        }
        match learns_from_answers {
            true => {
                let ms = self.ms / self.steps();
                lines.row("Step:", &format!("{ms:.1} ms on average, answers included"));
            }
            false => self.speed(&mut lines),
        }
        if let Some(mib) = ending.peak_memory_mib {
            lines.row("Peak memory:", &format!("{mib:.0} MiB"));
        }
        self.energy(&mut lines, &ending.spent);
        match learns_from_answers {
            true => self.answers(&mut lines, ending),
            false => self.losses(&mut lines, ending),
        }
        self.score(&mut lines);
        if self.begun {
            lines.row("Run directory:", &self.settings.out.display().to_string());
            self.next(&mut lines, ending);
        }
        Some(lines.text)
    }

    /// Steps of this session.
    fn steps(&self) -> f64 {
        self.training.len() as f64
    }

    /// Writes the time of a step, and the rates that follow from it.
    fn speed(&self, lines: &mut Lines) {
        let ms = self.ms / self.steps();
        lines.row("Step:", &format!("{ms:.1} ms on average"));
        let mut parts: Vec<(&String, &f64)> = self.parts.iter().collect();
        parts.sort_by(|a, b| b.1.total_cmp(a.1));
        for (name, part) in parts {
            lines.share(name, &format!("{:.2} ms", part / self.steps()), part / self.ms);
        }
        // Time in which engine and CPU overlap is counted in two parts.
        let twice = self.parts.values().sum::<f64>() - self.ms;
        if twice > 0.005 * self.ms {
            let value = format!("{:.2} ms", twice / self.steps());
            lines.share("side by side", &value, twice / self.ms);
        }
        if !self.begun {
            return;
        }
        let speed = progress::count(1e3 * self.tokens as f64 / self.ms);
        lines.row("Throughput:", &format!("{speed} tokens/s"));
        let engine_ms = self.part("engine_fwd") + self.part("engine_bwd");
        if let Some(run) = &self.settings.run {
            // Not all steps of reinforcement learning have as many tokens.
            let usual = self.steps() * self.tokens_per_step as f64;
            let accum = run.accum as f64 * (self.tokens as f64 / usual);
            let flops = flops(run);
            let engine = flops[0] * accum / (engine_ms / self.steps()).max(1e-6) / 1e9;
            let computing = computing(&self.settings.backend);
            lines.row("Engine TFLOPS:", &format!("{engine:.3} sustained by {computing}"));
            let all = accum * flops[1] / ms / 1e9;
            lines.row("Total TFLOPS:", &format!("{all:.3} (engine and CPU together)"));
        }
        if let Some(f) = &self.settings.forecast {
            let engine = ["engine_fwd", "engine_bwd"].map(|name| f.parts.get(name));
            let engine: f64 = engine.into_iter().flatten().sum();
            lines.row(
                "Forecast:",
                &format!(
                    "{:.1} ms/step ({:.1} to {:.1}) on {}, of which {engine:.1} on the engine; not \
                     confirmed on hardware",
                    f.ms,
                    f.low_ms,
                    f.high_ms,
                    described(&f.chip)
                ),
            );
        }
        let utilization = match self.settings.backend.as_str() {
            "engine" => format!(
                "{:.1}% of a step in requests; the engine's own counters are not read",
                100.0 * engine_ms / self.ms
            ),
            _ => "not measured: no Neural Engine was used".to_owned(),
        };
        lines.row("ANE utilization:", &utilization);
    }

    fn part(&self, name: &str) -> f64 {
        self.parts.get(name).copied().unwrap_or(0.0)
    }

    fn energy(&self, lines: &mut Lines, spent: &Spent) {
        let mean = self.power.mean();
        let Some(watts) = mean.watts() else { return };
        let source = &self.power_source;
        lines.row("Power:", &format!("{mean} (mean of the whole machine, by {source})"));
        let seconds = spent.total_s - spent.setup_s - spent.compile_s;
        if !self.begun || self.tokens == 0 {
            return;
        }
        let energy = joules(watts * seconds / self.tokens as f64);
        lines.row("Energy:", &format!("{energy} per token, evaluation and samples included"));
    }

    fn losses(&self, lines: &mut Lines, ending: &Ending) {
        let last = ending.val_loss.map_or("none".to_owned(), |loss| format!("{loss:.4}"));
        lines.row("Validation loss:", &format!("{last} nats per token after the last step"));
        if let Some(best) = ending.best {
            lines.row("  best", &format!("{:.4} {}", best.val_loss, after(best.step)));
        }
        if let Some(bits) = self.bits_per_byte {
            lines.row("  bits per byte", &format!("{bits:.4}"));
        }
        if self.begun {
            lines.row("  unigram model", &format!("{:.4}, for comparison", self.unigram));
        }
    }

    /// Writes how right the answers were.
    fn answers(&self, lines: &mut Lines, ending: &Ending) {
        // A tenth of the rounds at each end.
        let some = self.rewards.len().div_ceil(10);
        let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
        let (first, last) =
            (mean(&self.rewards[..some]), mean(&self.rewards[self.rewards.len() - some..]));
        lines.row("Reward:", &format!("{first:.4} at first, {last:.4} in the end"));
        for (step, pass) in self.passes.first().into_iter().chain(self.passes.last()) {
            let label = format!("After step {step}:");
            lines.row(&label, &passed(pass));
        }
        if let Some(best) = ending.best {
            lines.row("  best", &format!("pass@1 {:.4} {}", 1.0 - best.val_loss, after(best.step)));
        }
    }

    fn score(&self, lines: &mut Lines) {
        if let Some((step, core)) = self.core {
            lines.row("CORE:", &format!("{core:.4} after step {step}"));
        }
        if let Some((step, tasks)) = &self.tasks {
            lines.row("Tasks:", &format!("accuracy after step {step}"));
            for task in tasks {
                lines.row(&format!("  {}", task.name), &format!("{:.4}", task.accuracy));
            }
        }
    }

    /// Writes the commands to type next.
    fn next(&self, lines: &mut Lines, ending: &Ending) {
        let out = &self.settings.out;
        // The newest is the best of most runs.
        let older = ending.best.is_some_and(|best| best.step > 0 && best.step < ending.steps);
        let model = if older { out.join("best") } else { out.clone() };
        let talks = self.settings.command() != "train";
        let speak = if talks { "chat" } else { "generate" };
        let mut generate = vec![format!("anegpt {speak} --model {}", path(&model))];
        let prompt = self.settings.prompt.iter().filter(|_| !talks);
        generate.extend(prompt.map(|p| format!("--prompt {}", quoted(p))));
        let more = [resume(self.settings.command(), out), format!("--steps {}", 2 * self.planned)];
        lines.text.push_str("\nNext:\n");
        for words in [&generate[..], &more] {
            lines.text.push_str(&format!("{}\n", command(words, lines.width)));
        }
    }
}

/// Rows of the report.
struct Lines {
    width: usize,
    text: String,
}

impl Lines {
    fn row(&mut self, label: &str, value: &str) {
        self.text.push_str(&term::hanging(label, value, COLUMN, self.width));
        self.text.push('\n');
    }

    /// A share of what stands above.
    fn share(&mut self, name: &str, value: &str, share: f64) {
        let column = COLUMN - 2;
        let percent = 100.0 * share;
        self.text.push_str(&format!("  {name:<column$}{value:>10} {percent:>5.1} %\n"));
    }
}

/// Activities with their names, in the order in which they begin.
fn activities(spent: &Spent) -> Vec<(&'static str, f64)> {
    let mut all = vec![
        ("set-up", spent.setup_s),
        ("compiling", spent.compile_s),
        ("steps", spent.steps_s),
        ("validation", spent.validation_s),
        ("samples", spent.samples_s),
        ("CORE", spent.core_s),
        ("tasks", spent.tasks_s),
        ("checkpoints", spent.checkpoints_s),
        ("other", spent.other_s),
    ];
    all.retain(|&(name, seconds)| seconds > 0.0 || !["CORE", "tasks"].contains(&name));
    all
}

/// Returns the kind of device, in words.
fn computing(backend: &str) -> &'static str {
    match backend {
        "engine" => "the Neural Engine",
        "emulator" => "the emulated engine",
        _ => "the CPU",
    }
}

/// Floating-point operations of a micro-batch: those of the engine, and all.
fn flops(run: &RunConfig) -> [f64; 2] {
    let dims = Dims { config: &run.model, batch: run.batch, seq: run.seq, dtype: DType::Fp16 };
    let parts = flops_by_part(run.plan, &dims).unwrap_or_default();
    let engine = [Part::EngineForward, Part::EngineBackward].map(|part| parts.get(&part));
    [engine.into_iter().flatten().sum(), parts.values().sum()]
}

/// When a state was reached that is the best of a run.
fn after(step: u64) -> String {
    match step {
        0 => {
            "before the first step: no checkpoint is better than what the run began with".to_owned()
        }
        step => format!("after step {step}"),
    }
}

/// A chip of an event, with a note if its figures are those of another one.
pub(super) fn described(chip: &str) -> String {
    let note = chip.parse::<chip::Chip>().ok().and_then(chip::Chip::note);
    note.map_or_else(|| chip.to_owned(), |note| format!("{chip} ({note})"))
}

/// Joules with three digits and a unit.
fn joules(joules: f64) -> String {
    match joules {
        j if j >= 1.0 => format!("{j:.2} J"),
        j if j >= 1e-3 => format!("{:.2} mJ", 1e3 * j),
        j => format!("{:.2} µJ", 1e6 * j),
    }
}

/// Parts of a time in percent, largest first, those below 1 % left out.
pub(super) fn shares(parts: &BTreeMap<String, f64>, total: f64) -> String {
    let mut parts: Vec<(&str, f64)> =
        parts.iter().map(|(name, part)| (name.as_str(), 100.0 * part / total)).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shown: Vec<String> =
        parts.iter().filter(|p| p.1 >= 1.0).map(|(n, v)| format!("{n} {v:.0}%")).collect();
    shown.join(", ")
}

/// The command line that goes on with a run of `command`.
pub(crate) fn resume(command: &str, out: &Path) -> String {
    format!("anegpt {command} --resume {}", path(out))
}

/// A command line to be copied: two spaces in front, and lines continued as a shell has it where it
/// is longer than `width`. A single word that is longer is left as it is.
fn command(words: &[String], width: usize) -> String {
    let whole = format!("  {}", words.join(" "));
    if whole.width() <= width { whole } else { format!("  {}", words.join(" \\\n    ")) }
}

/// A path as a POSIX shell reads it.
fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@%,".contains(c);
    match word {
        word if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
        // In double quotes, unless the shell would see something in them.
        word if !word.contains(['"', '$', '`', '\\', '!']) => format!("\"{word}\""),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests;
