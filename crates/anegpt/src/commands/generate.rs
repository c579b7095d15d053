//! `anegpt generate`.

use crate::engine::EngineArgs;
use crate::machine::{self, DeviceChoice, NumericsChoice};
use crate::{files, usage};
use anyhow::Result;
use gpt::Decoder;
use infer::{Generator, Sampling};
use std::io::Write;
use std::path::PathBuf;

/// Generate text with a trained model
///
/// MODEL is a run of `anegpt train` (its newest checkpoint is used), a checkpoint, a
/// directory with config.json and model.safetensors, or a llama2.c .bin file.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("hardware_time", |arg| arg.hide(true)),
    after_help = "\
Examples:
  anegpt generate --model out/run-1 --prompt \"Once upon a time\"
  anegpt generate --model stories260K.bin --tokenizer tok512.bin --temperature 0"
)]
pub(crate) struct Args {
    /// Model: a directory or a .bin file
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    model: PathBuf,
    /// Tokenizer file, if the model comes without one
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    tokenizer: Option<PathBuf>,
    /// Text to continue [default: none, which begins a new text]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    #[arg(help_heading = "Sampling")]
    prompt: String,
    /// Maximum number of new tokens
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Sampling")]
    max_tokens: usize,
    /// Sampling temperature; 0 = greedy
    #[arg(long, value_name = "T", default_value_t = 0.8, help_heading = "Sampling")]
    temperature: f32,
    /// Sample from the K most likely tokens; 0 = all
    #[arg(long, value_name = "K", default_value_t = 0, help_heading = "Sampling")]
    top_k: usize,
    /// Nucleus sampling: from the most likely tokens of total probability P
    #[arg(long, value_name = "P", default_value_t = 0.95, help_heading = "Sampling")]
    top_p: f32,
    /// Random seed: the same seed gives the same text
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Sampling")]
    seed: u64,
    /// Where to compute
    #[arg(long, value_enum, default_value = "cpu", help_heading = "Device")]
    device: DeviceChoice,
    /// Arithmetic of the emulator [default: fast; on the CPU, f32]
    #[arg(long, value_enum, help_heading = "Device")]
    numerics: Option<NumericsChoice>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p };
    sampling.validate().map_err(|e| usage(e.to_string()))?;
    let machine = machine::open(args.device, None, args.numerics)?;
    let model = files::read_model(&args.model)?;
    let tokenizer = files::read_tokenizer(args.tokenizer.as_deref(), model.tokenizer.as_deref())?;
    let capacity = model.config.seq_len;
    let decoder = Decoder::new(
        &model.config,
        model.params,
        1,
        capacity,
        machine.device.as_ref(),
        machine.numerics,
    )?;
    let mut generator = Generator::new(decoder, &tokenizer)?;
    let mut out = std::io::stdout().lock();
    // The prompt is repeated once the model has taken it.
    let mut before = args.prompt.as_str();
    let mut failed = None;
    generator.generate(&args.prompt, args.max_tokens, sampling, args.seed, |piece| {
        let before = std::mem::take(&mut before);
        let written = write!(out, "{before}{piece}").and_then(|()| out.flush());
        failed = failed.take().or(written.err());
    })?;
    write!(out, "{before}")?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(writeln!(out)?),
    }
}
