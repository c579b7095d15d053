//! `anegpt data`.

use crate::{files, number, progress};
use anyhow::{Context, Result};
use data::download::{Stage, TinyStories};
use data::synth::{SEPARATOR, Stories};
use data::text::{TextSource, tokenize_file};
use data::tokens::{Format, TokenFile};
use std::io::Write;
use std::path::{Path, PathBuf};

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
        /// Text file, or directory of *.txt, *.md and *.jsonl
        #[arg(long, value_name = "PATH")]
        data: PathBuf,
        /// Tokenizer file
        #[arg(long, value_name = "FILE")]
        tokenizer: PathBuf,
        /// File to write: 16-bit ids if the vocabulary allows
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Download a public data set, or resume the download
    #[command(after_help = "Example:\n  anegpt data download tinystories")]
    Download {
        /// Data set
        #[arg(value_enum)]
        name: DataSet,
        /// Directory to write to
        #[arg(long, value_name = "DIR", default_value = "data/tinystories")]
        out: PathBuf,
    },
    /// Describe a file of token ids
    #[command(after_help = "\
Example:
  anegpt data inspect tokens.bin --tokenizer tokenizer.json")]
    Inspect {
        /// Token file
        file: PathBuf,
        /// Tokenizer file, to show the beginning as text
        #[arg(long, value_name = "FILE")]
        tokenizer: Option<PathBuf>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// A data set that can be downloaded.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum DataSet {
    /// Stories written by GPT-4, as text (2.2 GB)
    Tinystories,
    /// Such stories as token ids of the Llama 2 vocabulary (1 GB)
    TinystoriesTokens,
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Synth { count, seed, from, out } => synth(count, seed, from, out),
        Command::Tokenize { data, tokenizer, out } => {
            let tokenizer = files::read_tokenizer(Some(&tokenizer), None)?;
            let text = TextSource::open(&data, SEPARATOR)?;
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
        Command::Download { name, out } => download(name, &out),
        Command::Inspect { file, tokenizer, json } => inspect(&file, tokenizer, json),
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

fn download(name: DataSet, out: &Path) -> Result<()> {
    let set = match name {
        DataSet::Tinystories => TinyStories::Text,
        DataSet::TinystoriesTokens => TinyStories::Tokens,
    };
    let bar = progress::bytes("fetching", 0);
    let result = set.fetch(out, &mut |p| {
        bar.set_prefix(match p.stage {
            Stage::Transfer => "fetching",
            Stage::Verify => "verifying",
            Stage::Unpack => "unpacking",
        });
        bar.set_length(p.total.unwrap_or(p.done));
        bar.set_position(p.done);
    });
    bar.finish_and_clear();
    let files = result?;
    for (part, paths) in [("train", &files.train), ("validation", &files.validation)] {
        paths.iter().for_each(|path| println!("{part:10} {}", path.display()));
    }
    Ok(())
}

fn inspect(path: &Path, tokenizer: Option<PathBuf>, json: bool) -> Result<()> {
    let file = TokenFile::open(path)?;
    file.check_sum()?;
    let mut first = vec![0; file.len().min(64)];
    file.read(0, &mut first);
    let text = match tokenizer {
        Some(tokenizer) => {
            let tokenizer = files::read_tokenizer(Some(&tokenizer), None)?;
            file.check_ids(tokenizer.vocab_size() as u32)?;
            Some(tokenizer.decode(&first))
        }
        None => None,
    };
    let format = file.format();
    if json {
        let report = serde_json::json!({
            "file": path, "format": format.to_string(), "bits": 8 * format.width(),
            "vocab_size": format.vocab_size(), "tokens": file.len(), "first": first, "text": text,
        });
        println!("{report}");
        return Ok(());
    }
    println!("file    {}", path.display());
    println!("format  {format}");
    println!("tokens  {}", file.len());
    println!("first   {first:?}");
    if let Some(text) = text {
        println!("text    {text}");
    }
    Ok(())
}
