//! `anegpt tokenizer`.

use crate::{corpus, files, number, progress, usage};
use anyhow::{Context, Result};
use data::synth::SEPARATOR;
use data::text::TextSource;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;
use tokenizer::chat::NANOCHAT_TOKENS;
use tokenizer::{LearnProgress, Tokenizer};

/// Train and use tokenizers
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Train a byte-pair or character tokenizer on text
    #[command(after_help = "\
Examples:
  anegpt tokenizer train --data text/ --vocab-size 4096
  anegpt tokenizer train --data shakespeare.txt --char --out chars.json")]
    Train {
        /// Text file, or directory of *.txt, *.md and *.jsonl
        #[arg(long, value_name = "PATH")]
        data: PathBuf,
        /// Vocabulary size
        #[arg(long, value_name = "N", default_value_t = 4096)]
        #[arg(value_parser = number::whole(1usize))]
        vocab_size: usize,
        /// One token per character instead of byte pairs
        #[arg(long)]
        char: bool,
        /// Add the tokens of conversations, as nanochat has them
        #[arg(long)]
        chat: bool,
        /// File to write, in the format of Hugging Face's tokenizer.json
        #[arg(long, value_name = "FILE", default_value = "tokenizer.json")]
        out: PathBuf,
    },
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
    /// Measure how well a tokenizer compresses a text
    #[command(after_help = "\
Example:
  anegpt tokenizer eval --tokenizer tokenizer.json --data text/")]
    Eval {
        /// Tokenizer file
        #[arg(long, value_name = "FILE")]
        tokenizer: PathBuf,
        /// Text file, or directory of *.txt, *.md and *.jsonl
        #[arg(long, value_name = "PATH")]
        data: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input as UTF-8")?;
    Ok(text)
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Train { data, vocab_size, char, chat, out } => {
            let text = TextSource::open(&data, SEPARATOR)?;
            text.oddities().iter().for_each(|notice| eprintln!("warning: {notice}"));
            let documents: Vec<String> =
                text.documents().map(|d| d.map(|d| d.text)).collect::<Result<_, _>>()?;
            let tokenizer = if char {
                Tokenizer::train_char(documents.iter())?
            } else {
                let bar = progress::steps("learning", vocab_size as u64);
                // The separator of documents is the first of the tokens of conversations.
                let others = if chat { NANOCHAT_TOKENS.len() - 1 } else { 0 };
                let size = vocab_size.saturating_sub(others);
                let learned = Tokenizer::train_bpe(documents.iter(), size, &mut |p| {
                    if let LearnProgress::Merging { tokens, .. } = p {
                        bar.set_position(tokens as u64);
                    }
                });
                bar.finish_and_clear();
                learned?
            };
            let tokenizer = match chat {
                true => tokenizer.with_special_tokens(&NANOCHAT_TOKENS)?,
                false => tokenizer,
            };
            tokenizer.save(&out)?;
            println!("{}: {}", out.display(), tokenizer.describe());
            let smaller = corpus::smaller_vocabulary(vocab_size, tokenizer.vocab_size());
            smaller.filter(|_| !char).iter().for_each(|notice| eprintln!("note: {notice}"));
        }
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
        Command::Eval { tokenizer, data, json } => {
            let tokenizer = files::read_tokenizer(Some(&tokenizer), None)?;
            let text = TextSource::open(&data, SEPARATOR)?;
            let (mut bytes, mut tokens, mut words, mut seconds) = (0, 0, 0, 0.0);
            for document in text.documents() {
                let document = document?.text;
                bytes += document.len();
                words += document.split_whitespace().count();
                let start = Instant::now();
                tokens += tokenizer.encode(&document)?.len();
                seconds += start.elapsed().as_secs_f64();
            }
            let per_token = bytes as f64 / tokens.max(1) as f64;
            let speed = bytes as f64 / f64::max(seconds, 1e-9) / 1e6;
            if json {
                let report = serde_json::json!({
                    "tokenizer": tokenizer.describe(), "bytes": bytes, "words": words,
                    "tokens": tokens, "bytes_per_token": per_token, "mb_per_s": speed,
                });
                println!("{report}");
                return Ok(());
            }
            println!("tokenizer        {}", tokenizer.describe());
            println!("text             {bytes} bytes, {words} words");
            println!("tokens           {tokens}");
            println!("bytes per token  {per_token:.3}");
            println!("tokens per word  {:.3}", tokens as f64 / words.max(1) as f64);
            println!("speed            {speed:.1} MB/s on one core");
        }
    }
    Ok(())
}
