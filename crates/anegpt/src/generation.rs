//! Flags of the commands that generate text.

use crate::files::{self, Opened};
use crate::python_tool::PythonTool;
use crate::{number, task_data, usage};
use anyhow::Result;
use clap::ValueEnum;
use gpt::GptConfig;
use infer::{Calculator, Draft, Sampling, SamplingError, Tools, WeightFormat};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;

/// The model that generates.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Model: a directory, a file or an address (or --model)
    #[arg(value_name = "MODEL", conflicts_with = "model", help_heading = "Model")]
    path: Option<PathBuf>,
    /// Model: a directory, a file or an address
    #[arg(short, long, value_name = "MODEL", help_heading = "Model")]
    model: Option<PathBuf>,
    /// Tokenizer file, if the model comes without one
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    tokenizer: Option<PathBuf>,
}

impl ModelArgs {
    /// The path or address of the model; `example` shows how it is given.
    pub(crate) fn path(&self, example: &str) -> Result<&Path> {
        let given = self.model.as_deref().or(self.path.as_deref());
        given.ok_or_else(|| usage(format!("no model given: {example}, or --model MODEL")))
    }

    /// The model, with the tokenizer that was given.
    pub(crate) fn open(&self, path: &Path) -> Result<Opened> {
        files::open_model(path, self.tokenizer.as_deref())
    }
}

/// The longest text: what was asked for, else all that a model of this shape reads.
///
/// # Errors
/// When that is more than it reads.
pub(crate) fn context(asked: Option<usize>, shape: &GptConfig) -> Result<usize> {
    let limit = shape.seq_len;
    match asked {
        Some(n) if n > limit => {
            Err(usage(format!("--context {n}: the model reads at most {limit} tokens")))
        }
        asked => Ok(asked.unwrap_or(limit)),
    }
}

/// How tokens are drawn.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SamplingArgs {
    /// Sampling temperature; 0 = greedy
    #[arg(long, value_name = "T", default_value_t = 0.8, help_heading = "Sampling")]
    temperature: f32,
    /// Sample from the K most likely tokens; 0 = all
    #[arg(long, value_name = "K", default_value_t = 0, help_heading = "Sampling")]
    #[arg(value_parser = number::whole(0usize))]
    top_k: usize,
    /// Nucleus sampling: from the most likely tokens of total probability P
    #[arg(long, value_name = "P", default_value_t = 0.95, help_heading = "Sampling")]
    top_p: f32,
    /// Drop tokens less likely than P times the most likely one; 0 = none
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Sampling")]
    min_p: f32,
    /// Make tokens that the text has less likely; 1 = off
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = "Sampling")]
    repetition_penalty: f32,
    /// Random seed: the same seed gives the same text
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Sampling")]
    #[arg(value_parser = number::whole(0u64))]
    pub(crate) seed: u64,
}

impl SamplingArgs {
    /// The settings; an error of usage if one is out of range.
    pub(crate) fn sampling(&self) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            ..Sampling::default()
        };
        sampling.validate().map_err(|fault| usage(refused(&fault)))?;
        Ok(sampling)
    }
}

/// Names the flag that was wrong, and what it may be.
pub(crate) fn refused(fault: &SamplingError) -> String {
    match fault {
        SamplingError::Temperature(t) => {
            format!("--temperature {t} must be a number of at least 0 (0 = greedy)")
        }
        SamplingError::TopP(p) => format!("--top-p {p} must be above 0 and at most 1"),
        SamplingError::MinP(p) => format!("--min-p {p} must be from 0 to 1 (0 = none)"),
        SamplingError::RepetitionPenalty(x) => {
            format!("--repetition-penalty {x} must be above 0 (1 = off)")
        }
        other => other.to_string(),
    }
}

/// Tools that a model may call, if its vocabulary has nanochat's tokens for calls.
#[derive(Clone, Copy, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ToolArgs {
    /// Leave calls of the calculator unanswered
    #[arg(long, help_heading = "Tools")]
    no_tools: bool,
    /// Have the calculator write whole results as integers: 10/2 is 5, not 5.0
    #[arg(long, help_heading = "Tools", conflicts_with = "no_tools")]
    tool_int_format: bool,
}

impl ToolArgs {
    /// The calculator; `None` if it is not wanted, or the vocabulary cannot call it.
    pub(crate) fn find(self, tokenizer: &Tokenizer) -> Option<Tools> {
        let calculator = Calculator { whole_as_int: self.tool_int_format };
        (!self.no_tools).then(|| Tools::find(tokenizer, calculator))?
    }

    /// As [`ToolArgs::find`], with programs in Python if they are wanted.
    ///
    /// # Errors
    /// When they are, and the vocabulary cannot call them, or no Python runs here.
    pub(crate) fn find_with(self, python: bool, tokenizer: &Tokenizer) -> Result<Option<Tools>> {
        if !python {
            return Ok(self.find(tokenizer));
        }
        let missing = "--python: the model's vocabulary has no tokens for calls (<|python_start|> and the like)";
        let calculator = Calculator { whole_as_int: self.tool_int_format };
        Tools::find(tokenizer, calculator).ok_or_else(|| usage(missing))?;
        let python = task_data::find_python()?;
        Ok(Tools::find(tokenizer, PythonTool { calculator, python }))
    }

    /// A few words that tell the tools of one evaluation from those of another.
    pub(crate) fn describe(self) -> &'static str {
        match (self.no_tools, self.tool_int_format) {
            (true, _) => "none",
            (_, true) => "calculator, whole results as integers",
            _ => "calculator",
        }
    }
}

/// Programs that a model may run.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct PythonArgs {
    /// Run tool calls that the calculator cannot compute as Python programs
    ///
    /// A program gets 5 seconds and 256 MB. Where the system supports it, it has no network and can write only to its
    /// own directory (docs/tasks.md). It can read your files. Its output goes back to the model.
    #[arg(long, help_heading = "Tools", conflicts_with = "no_tools")]
    pub(crate) python: bool,
}

/// Speculative decoding.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct DraftArgs {
    /// Guess tokens ahead with a copy of the weights in int8, and check several in one pass (speculative decoding)
    ///
    /// The text stays the same, token for token, whatever the sampling. The copy takes 0.27 bytes for each byte of f32
    /// weights. A text is drafted while no other is being continued, and as long as its guesses are right often
    /// enough. auto: with f32 weights of at least 48 MiB.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", help_heading = "Model")]
    draft: DraftChoice,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DraftChoice {
    /// Where it is faster
    Auto,
    /// Always
    On,
    /// Never
    Off,
}

impl DraftArgs {
    /// True if drafts are asked for, whether they are faster or not.
    pub(crate) fn insists(self) -> bool {
        matches!(self.draft, DraftChoice::On)
    }

    /// What to do with weights that are stored so.
    ///
    /// # Errors
    /// When int8 weights are to be drafted by a copy in int8.
    pub(crate) fn of(self, weights: WeightFormat) -> Result<Draft> {
        match self.draft {
            DraftChoice::On if weights == WeightFormat::Int8 => Err(usage(
                "--draft on guesses with a copy in int8, which is no faster than --weights int8: leave one of them out",
            )),
            DraftChoice::On => Ok(Draft::On),
            DraftChoice::Auto => Ok(Draft::Auto),
            DraftChoice::Off => Ok(Draft::Off),
        }
    }
}

/// Says how many guesses were right: "81 of 90 drafted tokens accepted"; `None` if there was none.
pub(crate) fn accepted(drafted: u64, accepted: u64) -> Option<String> {
    (drafted > 0).then(|| format!("{accepted} of {drafted} drafted tokens accepted"))
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weights {
    /// Single precision
    F32,
    /// Half precision
    F16,
    /// Integers of 8 bits, as GGUF's Q8_0
    Int8,
}

impl From<Weights> for WeightFormat {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::F32 => WeightFormat::F32,
            Weights::F16 => WeightFormat::F16,
            Weights::Int8 => WeightFormat::Int8,
        }
    }
}
