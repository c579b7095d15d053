//! `anegpt tokenizer`.

mod learn;
mod samples;
mod table;

use crate::{files, usage};
use anyhow::{Context, Result};
use std::io::Read;
use std::path::PathBuf;

/// Train and use tokenizers
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Train(learn::Args),
    /// Turn text into token ids
    #[command(after_help = "\
Example:
  anegpt tokenizer encode --tokenizer tokenizer.json \"Once upon a time\"")]
    Encode {
        /// Tokenizer file
        #[arg(long, value_name = "FILE")]
        tokenizer: PathBuf,
        /// Text [default: standard input]
        text: Option<String>,
    },
    /// Turn token ids into text
    #[command(after_help = "\
Example:
  anegpt tokenizer decode --tokenizer tokenizer.json 283 71 402")]
    Decode {
        /// Tokenizer file
        #[arg(long, value_name = "FILE")]
        tokenizer: PathBuf,
        /// Token ids [default: standard input, separated by spaces]
        ids: Vec<u32>,
    },
    Eval(table::Args),
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input as UTF-8")?;
    Ok(text)
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(args) => learn::run(&args)?,
        Command::Encode { tokenizer, text } => {
            let tokenizer = files::read_tokenizer(Some(&tokenizer), None)?;
            let text = text.map_or_else(standard_input, Ok)?;
            let ids: Vec<String> = tokenizer.encode(&text)?.iter().map(u32::to_string).collect();
            println!("{}", ids.join(" "));
        }
        Command::Decode { tokenizer, mut ids } => {
            let tokenizer = files::read_tokenizer(Some(&tokenizer), None)?;
            if ids.is_empty() {
                for word in standard_input()?.split_whitespace() {
                    ids.push(
                        word.parse().map_err(|_| usage(format!("`{word}` is not a token id")))?,
                    );
                }
            }
            if let Some(id) = ids.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
                return Err(usage(format!(
                    "{id} is not below the vocabulary of {}",
                    tokenizer.vocab_size()
                )));
            }
            println!("{}", tokenizer.decode(&ids));
        }
        Command::Eval(args) => table::run(&args)?,
    }
    Ok(())
}
