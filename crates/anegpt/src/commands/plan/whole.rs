//! The whole run of a plan: parameters, tokens, memory and time, as tables and as JSON.

use crate::plan_choice::work_of;
use crate::progress;
use anyhow::Result;
use chip::{Chip, Profile};
use gpt::forecast::{StepEstimate, forecast};
use gpt::plan::Plan;
use gpt::{Dims, ParameterCounts, StepMemory};
use mil::DType;
use serde_json::{Value, json};
use train::optim::state_elements;
use train::{OptimizerConfig, RunConfig};

/// What a run takes.
pub(super) struct Whole<'a> {
    run: &'a RunConfig,
    counts: ParameterCounts,
    memory: StepMemory,
    /// Bytes of the optimizer's state.
    state: f64,
    flops_per_token: f64,
    /// Forecasts of a step by chip.
    chips: Vec<(Chip, StepEstimate)>,
}

/// The name of an optimizer.
pub(super) fn optimizer(config: &OptimizerConfig) -> &'static str {
    match config {
        OptimizerConfig::AdamW(_) => "AdamW",
        OptimizerConfig::Muon(_) => "Muon and AdamW",
        OptimizerConfig::Lora(_) => "LoRA",
    }
}

impl<'a> Whole<'a> {
    /// What `run` takes by `plan`, on each of `chips`.
    pub(super) fn new(
        run: &'a RunConfig,
        plan: &Plan,
        profile: &Profile,
        chips: &[Chip],
    ) -> Result<Self> {
        let (config, batch, seq, accum) = (&run.model, run.batch, run.seq, run.accum);
        let dims = Dims { config, batch, seq, dtype: DType::Fp16 };
        let layout = gpt::Layout::new(config);
        let on = |&chip: &Chip| {
            let profile = Profile { chip, ..*profile };
            let optimizer = work_of(run.optimizer);
            Ok((chip, forecast(plan, config, batch, seq, accum, &profile, &optimizer)?))
        };
        Ok(Whole {
            run,
            counts: ParameterCounts::new(config),
            memory: StepMemory::new(plan, &dims, true)?,
            state: 4.0 * state_elements(&*run.optimizer.build(), &layout) as f64,
            flops_per_token: config.flops_per_token(seq),
            chips: chips.iter().map(on).collect::<Result<_>>()?,
        })
    }

    /// Tokens that the run sees.
    fn tokens(&self) -> f64 {
        self.run.schedule.total as f64 * self.run.tokens_per_step() as f64
    }

    /// Names and bytes of the memory's parts.
    fn parts(&self) -> [(&'static str, f64); 5] {
        let StepMemory { weights, gradients, activations, surfaces } = self.memory;
        [
            ("weights", weights),
            ("gradients", gradients),
            ("optimizer", self.state),
            ("activations", activations),
            ("surfaces", surfaces),
        ]
    }

    pub(super) fn bytes(&self) -> f64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Fields of the JSON object.
    pub(super) fn json(&self) -> serde_json::Map<String, Value> {
        let pairs = |parts: &[(&str, f64)]| -> Value {
            parts.iter().map(|(name, n)| ((*name).to_owned(), json!(n))).collect()
        };
        let mut counts: Value =
            self.counts.parts().into_iter().map(|(name, n)| (name.to_owned(), json!(n))).collect();
        counts["total"] = self.counts.total().into();
        counts["scaling"] = self.counts.scaling().into();
        let mut memory = pairs(&self.parts());
        memory["total"] = self.bytes().into();
        let steps = self.run.schedule.total;
        let chips = self.chips.iter().map(|(chip, step)| {
            json!({
                "chip": chip.to_string(), "step_seconds": step.seconds,
                "seconds": steps as f64 * step.seconds,
                "low": steps as f64 * step.low, "high": steps as f64 * step.high,
            })
        });
        let chips: Vec<Value> = chips.collect();
        let fields = json!({
            "parameters_by_kind": counts,
            "tokens": self.tokens(),
            "batch_tokens": self.run.tokens_per_step(),
            "steps": steps,
            "flops_per_token": self.flops_per_token,
            "flops": self.tokens() * self.flops_per_token,
            "memory_bytes": memory,
            "optimizer": optimizer(&self.run.optimizer),
            "chips": chips,
            "dial": self.run.dial,
            "run": self.run,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => unreachable!("it is an object"),
        }
    }

    /// Parameters by kind.
    pub(super) fn parameters(&self) -> String {
        let total = self.counts.total();
        let share = |n: usize| 100.0 * n as f64 / total as f64;
        let mut text = format!("  {:<18}{:>15}{:>9}\n", "parameters", "number", "share");
        for (name, n) in self.counts.parts().into_iter().filter(|(_, n)| *n > 0) {
            let name = name.replace('_', " ");
            text += &format!("  {name:<18}{:>15}{:>7.1} %\n", grouped(n), share(n));
        }
        text += &format!("  {:<18}{:>15}{:>7.1} %\n", "all", grouped(total), 100.0);
        let scaling = self.counts.scaling();
        text += &format!(
            "  {:<18}{:>15}{:>7.1} %  matrices and classifier: N\n",
            "scaling",
            grouped(scaling),
            share(scaling)
        );
        text
    }

    /// Tokens, steps and operations.
    pub(super) fn horizon(&self) -> String {
        let (run, flops) = (self.run, self.flops_per_token);
        let row = |name: &str, value: String, note: String| {
            format!("  {name:<18}{value:>15}   {note}").trim_end().to_owned() + "\n"
        };
        let ratio = run.dial.as_ref().map_or(String::new(), |dial| {
            // Steps, or operations, may have been asked for.
            let by_rule = dial.tokens / run.tokens_per_step() as u64 == run.schedule.total;
            let rule = if by_rule { "the rule:" } else { "not the rule's" };
            format!("{rule} {} × N = {}", dial.ratio, progress::count(dial.tokens as f64))
        });
        let cut = format!("{} × {} × {}: --accum, --batch, --seq", run.accum, run.batch, run.seq);
        let mut text = format!("  {:<18}{:>15}\n", "run", "number");
        text += &row("tokens", progress::count(self.tokens()), ratio);
        text += &row("tokens per step", grouped(run.tokens_per_step()), cut);
        text += &row("steps", grouped(run.schedule.total as usize), String::new());
        text += &row("FLOPs per token", format!("{flops:.3e}"), String::new());
        text += &row("FLOPs", format!("{:.3e}", flops * self.tokens()), String::new());
        let peak = run.schedule.peak;
        let decay = match run.optimizer {
            OptimizerConfig::AdamW(adamw) => adamw.weight_decay,
            OptimizerConfig::Muon(muon) => muon.weight_decay,
            OptimizerConfig::Lora(lora) => lora.adamw.weight_decay,
        };
        text += &row("learning rate", format!("{peak:.3e}"), optimizer(&run.optimizer).to_owned());
        text += &row("weight decay", format!("{decay:.3}"), String::new());
        text
    }

    /// Memory by use.
    pub(super) fn memory(&self) -> String {
        let mib = |bytes: f64| format!("{:.1}", bytes / f64::from(1 << 20));
        let mut text = format!("  {:<18}{:>15}\n", "memory", "MiB");
        for (name, bytes) in self.parts() {
            text += &format!("  {name:<18}{:>15}\n", mib(bytes));
        }
        text += &format!("  {:<18}{:>15}\n", "all", mib(self.bytes()));
        text
    }

    /// Forecasts by chip.
    pub(super) fn times(&self) -> String {
        let steps = self.run.schedule.total as f64;
        let mut text =
            format!("  {:<18}{:>15}  {:<10}{}\n", "forecast", "ms per step", "whole run", "range");
        for (chip, step) in &self.chips {
            let all = [step.seconds, step.low, step.high].map(|s| duration(steps * s));
            text += &format!(
                "  {:<18}{:>15.1}  {:<10}{} to {}\n",
                chip.to_string(),
                1e3 * step.seconds,
                all[0],
                all[1],
                all[2]
            );
        }
        text + "  not confirmed on hardware\n"
    }
}

/// 1234567 as 1,234,567.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time with two digits or more, in the unit that suits it.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (36_700_242, "36,700,242")] {
            assert_eq!(grouped(n), text);
        }
        for (s, text) in
            [(1.25, "1.2 s"), (600.0, "10.0 min"), (7200.0, "2.0 h"), (1e6, "11.6 days")]
        {
            assert_eq!(duration(s), text);
        }
    }
}
