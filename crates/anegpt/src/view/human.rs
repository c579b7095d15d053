//! The view of a run for people: lines, and a progress bar on a terminal. All of it follows from
//! the events.

use super::report::{Report, described, shares};
use super::tokens::StepTokens;
use crate::progress;
use crate::term::{self, Role, fit, labelled, paint};
use gpt::{Group, Layout};
use indicatif::ProgressBar;
use std::collections::BTreeMap;
use std::io::{Result, Write};
use train::evaluate::ChatTaskScore;
use train::objective::Pass;
use train::scaling::Dial;
use train::{Event, Forecast, Lora, Multipliers, OptimizerConfig, Range, RunConfig, Settings};

/// Step lines of a run, about.
const STEP_LINES: u64 = 20;

/// The view for people.
pub(super) struct Human {
    bar: ProgressBar,
    /// True if step lines tell the parts of a step.
    verbose: bool,
    report: Report,
    step_tokens: StepTokens,
    total: u64,
    val_loss: Option<f64>,
    /// The last round of reinforcement learning, until it is shown.
    round: Option<String>,
    /// True once a step was shown.
    begun: bool,
}

impl Human {
    pub(super) fn new(verbose: bool) -> Self {
        Human {
            bar: progress::training(0),
            verbose,
            report: Report::default(),
            step_tokens: StepTokens::default(),
            total: 0,
            val_loss: None,
            round: None,
            begun: false,
        }
    }

    pub(super) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        self.bar.suspend(|| writeln!(std::io::stdout(), "{text}"))
    }

    pub(super) fn show(&mut self, event: &Event) -> Result<()> {
        self.report.note(event);
        match event {
            Event::Start { .. } => self.start(event),
            Event::Step { .. } => self.step(event),
            Event::Round { .. } => {
                self.round = Some(round(event));
                Ok(())
            }
            Event::Eval { step, pass: Some(pass), .. } => {
                let text = paint(Role::Validation, &passed(pass));
                self.line(&format!("step {step:>6}  {text}"))
            }
            Event::Eval { step, val_loss, bits_per_byte, .. } => {
                self.val_loss = Some(*val_loss);
                let loss = paint(Role::Validation, &format!("validation loss {val_loss:.4}"));
                let bits = bits_per_byte.map(|bits| format!(", {bits:.4} bits per byte"));
                self.line(&format!("step {step:>6}  {loss}{}", bits.unwrap_or_default()))
            }
            Event::Core { step, core, tasks, .. } => {
                let score = paint(Role::Validation, &format!("CORE {core:.4}"));
                let questions: usize = tasks.iter().map(|task| task.questions).sum();
                self.line(&format!("step {step:>6}  {score} ({questions} questions)"))
            }
            Event::Tasks { step, tasks, .. } => {
                let questions: usize = tasks.iter().map(|task| task.questions).sum();
                let text = format!("{} ({questions} questions)", accuracies(tasks));
                let begin = format!("step {step:>6}  ");
                let line = term::hanging(&begin, &text, begin.len(), term::text_width());
                let (begin, scores) = line.split_at(begin.len());
                self.line(&format!("{begin}{}", paint(Role::Validation, scores)))
            }
            Event::Sample { text, .. } => self.line(&format!("\n{}\n", sample(text))),
            Event::Checkpoint { path, ms, best, .. } => {
                let note = if *best { ", the best so far" } else { "" };
                let text = format!("{} ({ms:.0} ms{note})", path.display());
                let column = "step      1  ".len();
                let saved = term::hanging("saved", &text, column, term::text_width());
                self.line(&paint(Role::Quiet, &saved))
            }
            Event::Warning { message } => {
                let text = term::hanging("warning:", message, 9, term::text_width());
                let (label, text) = text.split_at("warning:".len());
                self.line(&format!("{}{text}", paint(Role::Warning, label)))
            }
            Event::Ranges { step, products } => self.ranges(*step, products),
            Event::Power { .. } | Event::Usage { .. } => Ok(()),
            Event::Done { .. } => {
                self.bar.finish_and_clear();
                match self.report.text(term::text_width(), term::unicode()) {
                    Some(text) => self.line(&format!("\n{}", text.trim_end())),
                    None => Ok(()),
                }
            }
        }
    }

    /// Prints the products that are closest to the ends of the engine's range.
    fn ranges(&mut self, step: u64, products: &[Range]) -> Result<()> {
        let text = super::limits(products);
        let line = term::hanging(&format!("step {step:>6}  "), &text, 13, term::text_width());
        self.line(&paint(Role::Quiet, &line))
    }

    /// The block at the start.
    fn start(&mut self, event: &Event) -> Result<()> {
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
            programs,
            compile_s,
            host_gemm,
            host_gemm_reason,
            settings,
        } = event
        else {
            return Ok(());
        };
        self.step_tokens = StepTokens::new(*tokens_per_step, *step);
        self.total = *steps;
        self.bar.set_length(*steps);
        self.bar.set_position(*step);
        self.bar.reset_eta();
        let count = |n: &usize| progress::count(*n as f64);
        self.label("device", device)?;
        self.label("", &format!("chosen because: {reason}"))?;
        if !host_gemm_reason.is_empty() {
            self.label("host", &format!("products: {host_gemm}, {host_gemm_reason}"))?;
        }
        self.label("model", &format!("{} parameters: {model}", count(params)))?;
        let ready = compile_s * 1e3;
        self.label(
            "programs",
            &format!("{programs} compiled in {ready:.0} ms, shared by all layers"),
        )?;
        self.label("data", &settings.text)?;
        self.label("epochs", &format!("{:.2} in {steps} steps", settings.epochs))?;
        if *train_tokens == 0 {
            // Of answers that are still to be written, no tokens are known.
            return self.settings(settings, *step);
        }
        let (train, val) = (count(train_tokens), count(val_tokens));
        self.label(
            "tokens",
            &format!("{train} to train, {val} to validate, {tokens_per_step} per step"),
        )?;
        self.label(
            "baseline",
            &format!(
                "{unigram_entropy:.4} nats per token: a unigram model, which knows only how often \
                 each token occurs"
            ),
        )?;
        self.settings(settings, *step)
    }

    fn settings(&mut self, settings: &Settings, step: u64) -> Result<()> {
        if let Some(run) = &settings.run {
            if let Some(dial) = &run.dial {
                self.label("depth", &dialled(dial, run))?;
            }
            let (peak, reason) = (run.schedule.peak, &settings.lr_reason);
            self.label("rate", &format!("{peak:.2e} at its peak, {reason}"))?;
            match run.optimizer {
                OptimizerConfig::Muon(_) => self.label("optimizer", &muon(run))?,
                OptimizerConfig::Lora(lora) => self.label("optimizer", &factors(run, &lora))?,
                OptimizerConfig::AdamW(_) => {}
            }
        }
        if let Some(path) = &settings.resumed {
            self.label("resumed", &format!("{} at step {step}", path.display()))?;
        }
        if let Some(path) = &settings.init {
            self.label("weights", &path.display().to_string())?;
        }
        match &settings.forecast {
            Some(forecast) => self.forecast(forecast)?,
            None => self.label("forecast", "none: forecasts are for an engine, emulated or not")?,
        }
        self.line("")
    }

    /// Prints the cost model's forecast of a step.
    fn forecast(&mut self, f: &Forecast) -> Result<()> {
        let (ms, low, high) = (f.ms, f.low_ms, f.high_ms);
        let chip = described(&f.chip);
        self.label(
            "forecast",
            &format!(
                "{ms:.1} ms/step ({low:.1} to {high:.1}) on {chip}, not confirmed on hardware"
            ),
        )?;
        if self.verbose { self.label("", &shares(&f.parts, ms)) } else { Ok(()) }
    }

    /// A line of the block at the start.
    fn label(&mut self, label: &str, text: &str) -> Result<()> {
        self.line(&labelled(label, text))
    }

    fn step(&mut self, event: &Event) -> Result<()> {
        let Event::Step { step, loss, lr, tokens, ms, skipped, parts, .. } = event else {
            return Ok(());
        };
        let own = self.step_tokens.of(*step, *tokens).unwrap_or(0);
        let speed = format!("{} tok/s", progress::count(1e3 * own as f64 / ms));
        let now = [
            Some(format!("loss {loss:.3}")),
            self.val_loss.map(|loss| format!("val {loss:.3}")),
            Some(speed.clone()),
            Some(format!("{ms:.0} ms/step")),
        ];
        progress::report(&self.bar, &now.into_iter().flatten().collect::<Vec<_>>());
        self.bar.set_position(*step);
        let begin = format!("step {step:>6}  ");
        if *skipped {
            let what = paint(Role::Warning, "skipped");
            return self.line(&format!("{begin}{what}: gradient overflow; loss scale halved"));
        }
        if self.begun && !step.is_multiple_of((self.total / STEP_LINES).max(1)) {
            return Ok(());
        }
        self.begun = true;
        let loss = format!("loss {loss:.4}");
        let fields = [loss.clone(), format!("lr {lr:.2e}"), speed, format!("{ms:.0} ms")];
        let line = fit(&fields, term::text_width() - begin.len());
        let (_, others) = line.split_at(loss.len());
        self.line(&format!("{begin}{}{others}", paint(Role::Loss, &loss)))?;
        if let Some(round) = self.round.take() {
            self.line(&term::hanging("", &round, begin.len(), term::text_width()))?;
        }
        if self.verbose { self.parts(parts, *ms, begin.len()) } else { Ok(()) }
    }

    fn parts(&mut self, parts: &BTreeMap<String, f64>, ms: f64, column: usize) -> Result<()> {
        let text = term::hanging("", &shares(parts, ms), column, term::text_width());
        self.line(&paint(Role::Quiet, &text))
    }
}

/// The tokens of a run that follow from the depth of its model.
pub(super) fn dialled(dial: &Dial, run: &RunConfig) -> String {
    let count = |n: u64| progress::count(n as f64);
    let seen = run.schedule.total * run.tokens_per_step() as u64;
    format!(
        "{}: {} weights × {} give {} tokens; the run sees {} of {} × {} × {} per step",
        dial.depth,
        count(dial.weights),
        dial.ratio,
        count(dial.tokens),
        count(seen),
        run.accum,
        run.batch,
        run.seq
    )
}

/// What LoRA trains.
fn factors(run: &RunConfig, lora: &Lora) -> String {
    let layout = Layout::new(&run.model);
    let matrices = layout.params().iter().filter(|param| lora.targets.has(param));
    let sizes: Vec<usize> =
        matrices.map(|param| lora.rank * param.shape.iter().sum::<usize>()).collect();
    format!(
        "LoRA: AdamW for factors of rank {} beside {} frozen matrices, {} parameters in all",
        lora.rank,
        sizes.len(),
        progress::count(sizes.iter().sum::<usize>() as f64)
    )
}

/// Which parameters Muon updates, and the rates of the others.
fn muon(run: &RunConfig) -> String {
    let schedule = &run.schedule;
    let Multipliers { embedding, classifier, vector, .. } = schedule.multipliers;
    let rate = |share: f64| format!("{:.2e}", share * schedule.peak);
    if run.model.family.name() == "nanochat" {
        let layout = Layout::new(&run.model);
        let has = |group| layout.params().iter().any(|param| param.group == group);
        let groups = [
            (Group::Embedding, "embedding"),
            (Group::ValueEmbedding, "value embeddings"),
            (Group::Classifier, "classifier"),
            (Group::ResidualScale, "factors of the stream"),
            (Group::SkipScale, "factors of the first stream"),
            (Group::Smear, "smear and backout"),
        ];
        let groups: Vec<String> = (groups.into_iter().filter(|(group, _)| has(*group)))
            .map(|(group, name)| format!("{} ({name})", rate(schedule.multipliers.of(group))))
            .collect();
        let groups = groups.join(", ");
        return format!("Muon for the matrices of the layers, AdamW for the rest, at {groups}");
    }
    let others = match embedding == classifier && embedding == vector {
        true => format!("at {}", rate(embedding)),
        false => format!(
            "at {} (embedding), {} (a classifier of its own), {} (gains and biases)",
            rate(embedding),
            rate(classifier),
            rate(vector)
        ),
    };
    format!("Muon for the matrices of the layers, AdamW for the rest, {others}")
}

/// What came of the answers to learn from.
fn round(event: &Event) -> String {
    let Event::Round { reward, answer_tokens, ended, skipped, .. } = event else {
        return String::new();
    };
    format!(
        "mean reward {reward:.3}; {answer_tokens:.1} tokens an answer, {:.0} % of them cut off; {:.0} % of the \
         questions teach nothing",
        100.0 * (1.0 - ended),
        100.0 * skipped
    )
}

/// How many held-out questions are answered rightly, with one answer and with several.
pub(crate) fn passed(pass: &Pass) -> String {
    let Pass { questions, samples, at } = pass;
    let of = |k: usize| Some(format!("pass@{k} {:.4}", at.get(k.checked_sub(1)?)?));
    let several = of(*samples).filter(|_| *samples > 1);
    let known: Vec<String> = of(1).into_iter().chain(several).collect();
    let known = if known.is_empty() { "pass@1 unknown".to_owned() } else { known.join(", ") };
    format!("{known} on {}", progress::counted(*questions, "held-out question"))
}

/// The shares of the questions of tasks that are answered rightly.
pub(crate) fn accuracies(tasks: &[ChatTaskScore]) -> String {
    let one = |task: &ChatTaskScore| format!("{} {:.4}", task.name, task.accuracy);
    format!("accuracy: {}", tasks.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// A sampled text as a block with a bar at its left.
fn sample(text: &str) -> String {
    let bar = if term::unicode() { "  │ " } else { "  | " };
    term::wrap(text.trim(), term::text_width(), bar, bar)
}
