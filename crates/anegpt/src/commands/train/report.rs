//! The efficiency report at the end of a run.

use super::args::LogFormat;
use super::view::View;
use crate::machine::Kind;
use crate::{progress, term};
use std::path::Path;
use std::time::Instant;
use train::{Pretrain, RunConfig};
use unicode_width::UnicodeWidthStr;

impl View {
    /// The efficiency report, and what to type next.
    pub(super) fn report(
        &self,
        kind: Kind,
        pretrain: &Pretrain,
        started: Instant,
        entropy: f64,
        drawn: Option<(&str, ane::PowerSample, f64)>,
        (out, prompt): (&Path, &str),
    ) {
        if self.format == LogFormat::Json || self.steps == 0 {
            return;
        }
        let (config, wall) = (pretrain.config(), started.elapsed().as_secs_f64());
        let step_s = self.ms / 1e3 / self.steps as f64;
        let flops = config.accum as f64 * config.model.step_flops(config.batch, config.seq);
        let part = |name: &str| self.parts.iter().find(|p| p.0 == name).map_or(0.0, |p| p.1 / 1e3);
        let engine_s = (part("engine_fwd") + part("engine_bwd")) / self.steps as f64;
        let engine = config.accum as f64 * engine_flops(config);
        println!("=== Efficiency Report ===");
        row("Total steps:", &pretrain.step_count().to_string());
        row("Wall time:", &format!("{:.0} ms ({:.1} s)", wall * 1e3, wall));
        row(
            "Compile time:",
            &format!("{:.0} ms ({:.1}%)", self.compile_s * 1e3, 100.0 * self.compile_s / wall),
        );
        row("Train time:", &format!("{:.0} ms ({:.1}%)", self.ms, 100.0 * self.ms / 1e3 / wall));
        let parts = shares(self.parts.iter().map(|(n, v)| (n.as_str(), *v)), self.ms);
        row("Avg train:", &format!("{:.1} ms/step ({parts})", step_s * 1e3));
        let speed = progress::count(self.tokens_per_step as f64 / step_s);
        row("Throughput:", &format!("{speed} tokens/s"));
        let engine = engine / engine_s.max(1e-9) / 1e12;
        row("Engine TFLOPS:", &format!("{engine:.3} sustained by {}", kind.name()));
        row("Total TFLOPS:", &format!("{:.3} (engine + host)", flops / step_s / 1e12));
        if let Some((chip, e)) = &self.forecast {
            let forecast = format!(
                "{:.1} ms/step ({:.1} to {:.1}) on {chip}, {:.1} of them on the engine; not \
                 confirmed on hardware",
                1e3 * e.seconds,
                1e3 * e.low,
                1e3 * e.high,
                1e3 * (e.engine_forward + e.engine_backward)
            );
            row("Forecast:", &forecast);
        }
        let utilization = match kind {
            Kind::Engine => format!(
                "{:.1}% of a step in requests; the engine's own counters are not read",
                100.0 * engine_s / step_s
            ),
            _ => "not measured: no Neural Engine was used".to_owned(),
        };
        row("ANE utilization:", &utilization);
        if let Some(mib) = crate::memory::peak_mib() {
            row("Peak memory:", &format!("{mib:.0} MiB"));
        }
        if let Some((source, mean, per_token)) = drawn {
            row("Power:", &format!("{mean} (mean of the whole machine, by {source})"));
            let energy = joules(per_token);
            row("Energy:", &format!("{energy} per token, evaluation and samples included"));
        }
        let val = pretrain.val_loss().unwrap_or(f64::NAN);
        row(
            "Validation loss:",
            &format!("{val:.4} nats per token; the unigram baseline is {entropy:.4}"),
        );
        // The newest is the best of most runs.
        let best = pretrain.best().filter(|best| best.step < pretrain.step_count());
        let model = match best {
            Some(best) => {
                let out = out.join("best");
                row(
                    "Best:",
                    &format!(
                        "{:.4} after step {}, kept as {}",
                        best.val_loss,
                        best.step,
                        out.display()
                    ),
                );
                out
            }
            None => out.to_owned(),
        };
        let model = quoted(&model.display().to_string());
        let words =
            [format!("anegpt generate --model {model}"), format!("--prompt {}", quoted(prompt))];
        println!("\nNext:\n{}", command(&words, term::text_width()));
    }
}

/// A line of the report.
fn row(label: &str, text: &str) {
    println!("{}", term::hanging(label, text, 17, term::text_width()));
}

/// Floating-point operations of one micro-batch that the engine does: forward and input gradients
/// of the layers' projections (4 per weight and token) and attention's products.
pub(super) fn engine_flops(config: &RunConfig) -> f64 {
    let c = &config.model;
    let layer = c.n_embd * (2 * c.q_dim() + 2 * c.kv_dim() + 3 * c.hidden);
    let tokens = (config.batch * config.seq) as f64;
    let scores = 12.0 * (c.q_dim() * config.seq) as f64;
    c.n_layer as f64 * tokens * (4.0 * layer as f64 + scores)
}

/// Joules with three digits and a unit.
pub(super) fn joules(joules: f64) -> String {
    match joules {
        j if j >= 1.0 => format!("{j:.2} J"),
        j if j >= 1e-3 => format!("{:.2} mJ", 1e3 * j),
        j => format!("{:.2} µJ", 1e6 * j),
    }
}

/// Parts of a time in percent, largest first, those below 1 % left out.
pub(super) fn shares<'a>(parts: impl Iterator<Item = (&'a str, f64)>, total: f64) -> String {
    let mut parts: Vec<(&str, f64)> = parts.map(|(n, v)| (n, 100.0 * v / total)).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shown: Vec<String> =
        parts.iter().filter(|p| p.1 >= 1.0).map(|(n, v)| format!("{n} {v:.0}%")).collect();
    shown.join(", ")
}

/// A command line to be copied: two spaces in front, and lines continued as a shell has it where it
/// is longer than `width`. A single word that is longer is left as it is.
fn command(words: &[String], width: usize) -> String {
    let whole = format!("  {}", words.join(" "));
    if whole.width() <= width { whole } else { format!("  {}", words.join(" \\\n    ")) }
}

/// A word as a POSIX shell reads it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@%,".contains(c);
    match word {
        word if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
        // In double quotes, unless the shell would see something in them.
        word if !word.contains(['"', '$', '`', '\\', '!']) => format!("\"{word}\""),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_needs_them() {
        assert_eq!(quoted("out/run-1"), "out/run-1");
        assert_eq!(quoted("Once upon a time"), "\"Once upon a time\"");
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted("a $HOME \"b\""), "'a $HOME \"b\"'");
        assert_eq!(quoted("it's $1!"), r"'it'\''s $1!'");
        assert_eq!(quoted(""), "\"\"");
    }

    #[test]
    fn long_commands_are_continued() {
        let words = ["anegpt generate --model out/run-1", "--prompt \"Once\""].map(str::to_owned);
        assert_eq!(command(&words, 60), "  anegpt generate --model out/run-1 --prompt \"Once\"");
        let lines = "  anegpt generate --model out/run-1 \\\n    --prompt \"Once\"";
        assert_eq!(command(&words, 49), lines);
    }
}
