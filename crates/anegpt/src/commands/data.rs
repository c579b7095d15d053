//! `anegpt data`.

mod download;
mod inspect;

pub(crate) use download::fetch;

use crate::{files, number, progress};
use anyhow::{Context, Result};
use data::synth::{SEPARATOR, Stories};
use data::text::{FIELD, TextSource, tokenize_file};
use data::tokens::Format;
use std::io::Write;
use std::path::PathBuf;

/// Make, download and inspect training data
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write synthetic stories, the default training data
    #[command(after_help = "Example:\n  anegpt data synth --count 3")]
    Synth {
        /// Number of stories
        #[arg(long, value_name = "N", default_value_t = 10)]
        #[arg(value_parser = number::whole(0u64))]
        count: u64,
        /// Random seed: each seed has its own endless stories
        #[arg(long, value_name = "N", default_value_t = 42)]
        #[arg(value_parser = number::whole(0u64))]
        seed: u64,
        /// Index of the first story
        #[arg(long, value_name = "N", default_value_t = 0)]
        #[arg(value_parser = number::whole(0u64))]
        from: u64,
        /// File to write [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Tokenize text into a file of token ids
    #[command(override_usage = "\
anegpt data tokenize --data <PATH> --tokenizer <FILE> --out <FILE>")]
    #[command(after_help = "\
Example:
  anegpt data tokenize --data text/ --tokenizer tokenizer.json --out tokens.bin")]
    Tokenize {
        /// Text file, or directory of *.txt, *.md, *.jsonl and *.parquet
        #[arg(long, value_name = "PATH")]
        data: PathBuf,
        /// Field of *.jsonl, or column of *.parquet, that holds the text
        #[arg(long, value_name = "NAME", default_value = FIELD)]
        text_field: String,
        /// Tokenizer file
        #[arg(long, value_name = "FILE")]
        tokenizer: PathBuf,
        /// File to write: 16-bit ids if the vocabulary allows
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    Download(download::Args),
    Inspect(inspect::Args),
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Synth { count, seed, from, out } => synth(count, seed, from, out),
        Command::Tokenize { data, text_field, tokenizer, out } => {
            let tokenizer = files::read_tokenizer(Some(&tokenizer), None)?;
            let text = TextSource::open(&data, SEPARATOR)?.field(&text_field);
            text.oddities().iter().for_each(|notice| eprintln!("warning: {notice}"));
            let format = match tokenizer.vocab_size() {
                n if n <= 1 << 16 => Format::FlatU16,
                n => Format::shard_for(n as u32),
            };
            let bar = progress::bytes("tokenizing", text.total_bytes());
            let encode = |text: &str| tokenizer.encode(text);
            let report = tokenize_file(&text, &encode, tokenizer.bos(), &out, format, &mut |p| {
                bar.set_position(p.bytes);
            });
            bar.finish_and_clear();
            let report = report?;
            println!(
                "{}: {} documents, {} bytes of text, {} tokens",
                out.display(),
                report.documents,
                report.text_bytes,
                report.tokens
            );
            Ok(())
        }
        Command::Download(args) => download::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    }
}

fn synth(count: u64, seed: u64, from: u64, out: Option<PathBuf>) -> Result<()> {
    let stories = Stories::new(seed);
    let write = |to: &mut dyn Write| -> std::io::Result<()> {
        for index in from..from.saturating_add(count) {
            writeln!(to, "{}\n{SEPARATOR}", stories.story(index))?;
        }
        to.flush()
    };
    match out {
        None => write(&mut std::io::stdout().lock())?,
        Some(path) => {
            let file = std::fs::File::create(&path)
                .with_context(|| format!("cannot write {}", path.display()))?;
            write(&mut std::io::BufWriter::new(file))
                .with_context(|| format!("cannot write {}", path.display()))?;
            println!("{}: {count} stories", path.display());
        }
    }
    Ok(())
}
