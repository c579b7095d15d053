//! `anegpt data`.

use crate::{files, progress};
use anyhow::{Context, Result};
use data::download::{Stage, TinyStories};
use data::synth::{SEPARATOR, Stories};
use data::text::{TextSource, tokenize_file};
use data::tokens::{Format, TokenFile};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Make, fetch and look at training data.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write small synthetic stories, the data `train` uses when given none.
    Synth {
        /// Stories to write.
        #[arg(long, default_value_t = 10)]
        count: u64,
        /// Seed: every seed has its own endless stories.
        #[arg(long, default_value_t = 42)]
        seed: u64,
        /// First story.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// File to write instead of standard output.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Turn a text file or a directory of them into a file of token ids.
    Tokenize {
        /// Text file or directory (*.txt, *.md, *.jsonl).
        #[arg(long)]
        data: PathBuf,
        /// Tokenizer file.
        #[arg(long)]
        tokenizer: PathBuf,
        /// File to write: 16-bit ids where the vocabulary allows.
        #[arg(long)]
        out: PathBuf,
    },
    /// Fetch a public data set; an interrupted transfer goes on where it stopped.
    Download {
        /// Which data set.
        #[arg(value_enum)]
        name: DataSet,
        /// Directory to write to.
        #[arg(long, default_value = "data/tinystories")]
        out: PathBuf,
    },
    /// Describe a file of token ids.
    Inspect {
        /// Token file.
        file: PathBuf,
        /// Tokenizer, to show the beginning as text.
        #[arg(long)]
        tokenizer: Option<PathBuf>,
    },
}

/// A data set that can be fetched.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum DataSet {
    /// Stories written by GPT-4, as text (2.2 GB).
    Tinystories,
    /// The same kind of stories as token ids of the Llama 2 vocabulary (1 GB).
    TinystoriesTokens,
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Synth { count, seed, from, out } => synth(count, seed, from, out),
        Command::Tokenize { data, tokenizer, out } => {
            let tokenizer = files::read_tokenizer(Some(&tokenizer), None)?;
            let text = TextSource::open(&data, SEPARATOR)?;
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
        Command::Inspect { file, tokenizer } => inspect(&file, tokenizer),
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

fn inspect(path: &Path, tokenizer: Option<PathBuf>) -> Result<()> {
    let file = TokenFile::open(path)?;
    let mut head = vec![0; file.len().min(64)];
    file.read(0, &mut head);
    println!("file    {}", path.display());
    println!("format  {:?}", file.format());
    println!("tokens  {}", file.len());
    println!("first   {head:?}");
    if let Some(tokenizer) = tokenizer {
        let tokenizer = files::read_tokenizer(Some(&tokenizer), None)?;
        file.check_ids(tokenizer.vocab_size() as u32)?;
        println!("text    {}", tokenizer.decode(&head));
    }
    Ok(())
}
