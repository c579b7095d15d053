//! `anegpt import`.

use super::export;
use crate::files;
use anyhow::Result;
use formats::Precision;
use formats::hugging_face::Reader;
use std::path::PathBuf;

/// Turn another program's model into a checkpoint
///
/// A checkpoint is a directory with the weights in f32, config.json and tokenizer.json. Every
/// command also takes other programs' models as they are: import saves converting them each
/// time, and joins a model with a tokenizer that lies elsewhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt import Qwen3-0.6B-Q8_0.gguf --out out/qwen3
  anegpt import stories15M.bin --tokenizer tokenizer.bin --out out/stories
  anegpt import hf://Qwen/Qwen3-0.6B --out out/qwen3")]
pub(crate) struct Args {
    /// Model: a Hugging Face directory, a GGUF file, a llama2.c file, or hf://ORGANISATION/NAME
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Directory to write, which must not be there yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokenizer file, if the model comes without one
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    export::vacant(&args.out)?;
    let model = files::open_model(&args.path, args.tokenizer.as_deref())?;
    export::directory(model, &args.out, Precision::F32, None, Reader::Anegpt)
}
