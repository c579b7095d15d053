//! `anegpt generate`.

use crate::machine::{self, DeviceChoice, NumericsChoice};
use crate::{files, usage};
use anyhow::Result;
use gpt::Decoder;
use infer::{Generator, Sampling};
use std::io::Write;
use std::path::PathBuf;

/// Continue a text with a trained model.
///
/// The model is a directory written by `anegpt train` (its newest checkpoint is taken), a checkpoint
/// in it, a directory with config.json and model.safetensors, or a llama2.c .bin file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  anegpt generate --model out/run-1 --prompt \"Once upon a time\" --temperature 0.8"
)]
pub(crate) struct Args {
    /// Directory or .bin file of the model.
    #[arg(long)]
    model: PathBuf,
    /// Tokenizer file, where the model comes without one.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Text to continue; empty begins a new one.
    #[arg(long, default_value = "")]
    prompt: String,
    /// Longest continuation, in tokens.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Above 0, how adventurous; 0 always takes the most likely token.
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,
    /// Draw only from this many most likely tokens; 0 from all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Draw only from the most likely tokens that together have this probability.
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    /// Seed of the drawing: the same seed gives the same text.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceChoice,
    /// Arithmetic of the emulator [default: fast on it, f32 on the CPU].
    #[arg(long, value_enum)]
    numerics: Option<NumericsChoice>,
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
