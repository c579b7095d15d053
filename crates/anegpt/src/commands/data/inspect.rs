//! `anegpt data inspect`.

use crate::{files, progress};
use anyhow::Result;
use data::synth::SEPARATOR;
use data::text::{FIELD, ParquetInfo, TextSource, is_parquet, is_text_file, parquet_info};
use data::tokens::TokenFile;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;

/// Characters of the first document that are shown.
const SHOWN: usize = 200;

/// Describe texts, or a file of token ids
///
/// Texts are read whole, a document at a time, so that any fault in them is found.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt data inspect tokens.bin --tokenizer tokenizer.json
  anegpt data inspect data/climbmix/shard_00000.parquet")]
pub(crate) struct Args {
    /// Token file, text file, or directory of *.txt, *.md, *.jsonl and *.parquet
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Tokenizer file: shows the beginning of token ids as text, and counts the tokens of texts
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Field of *.jsonl, or column of *.parquet, that holds the text
    #[arg(long, value_name = "NAME", default_value = FIELD)]
    text_field: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let tokenizer = args.tokenizer.as_deref();
    let tokenizer = tokenizer.map(|file| files::read_tokenizer(Some(file), None)).transpose()?;
    match args.path.is_dir() || is_text_file(&args.path) {
        true => texts(args, tokenizer.as_ref()),
        false => tokens(&args.path, tokenizer.as_ref(), args.json),
    }
}

fn tokens(path: &Path, tokenizer: Option<&Tokenizer>, json: bool) -> Result<()> {
    let file = TokenFile::open(path)?;
    file.check_sum()?;
    let mut first = vec![0; file.len().min(64)];
    file.read(0, &mut first);
    let text = match tokenizer {
        Some(tokenizer) => {
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

/// What is counted in texts.
#[derive(Debug, Default)]
struct Counts {
    documents: u64,
    bytes: u64,
    /// With the marks between documents.
    tokens: u64,
    first: String,
}

fn count(source: &TextSource, tokenizer: Option<&Tokenizer>) -> Result<Counts> {
    let bar = progress::bytes("reading", source.total_bytes());
    let mut counts = Counts::default();
    for document in source.documents() {
        let document = document?;
        if counts.documents == 0 {
            counts.first = document.text.chars().take(SHOWN).collect();
        }
        counts.documents += u64::from(document.begins);
        counts.bytes += document.text.len() as u64;
        if let Some(tokenizer) = tokenizer {
            let mark = document.begins && tokenizer.bos().is_some();
            counts.tokens += tokenizer.encode(&document.text)?.len() as u64 + u64::from(mark);
        }
        bar.set_position(document.bytes_done);
    }
    bar.finish_and_clear();
    Ok(counts)
}

fn texts(args: &Args, tokenizer: Option<&Tokenizer>) -> Result<()> {
    let source = TextSource::open(&args.path, SEPARATOR)?.field(&args.text_field);
    source.oddities().iter().for_each(|notice| eprintln!("warning: {notice}"));
    let parquet: Vec<ParquetInfo> = source
        .files()
        .filter(|path| is_parquet(path))
        .map(|path| parquet_info(path, &args.text_field))
        .collect::<data::Result<_>>()?;
    let counts = count(&source, tokenizer)?;
    let files = source.files().count();
    let groups: usize = parquet.iter().map(|info| info.row_groups).sum();
    let rows: u64 = parquet.iter().map(|info| info.rows).sum();
    let codecs: BTreeSet<&str> =
        parquet.iter().flat_map(|info| &info.compressions).copied().collect();
    let compression =
        (!codecs.is_empty()).then(|| codecs.into_iter().collect::<Vec<_>>().join(", "));
    if args.json {
        let report = serde_json::json!({
            "path": args.path, "files": files, "bytes": source.total_bytes(),
            "documents": counts.documents, "text_bytes": counts.bytes,
            "tokens": tokenizer.map(|_| counts.tokens), "first": counts.first,
            "parquet": compression.as_ref().map(|compression| serde_json::json!({
                "files": parquet.len(), "rows": rows, "row_groups": groups,
                "compression": compression,
            })),
        });
        println!("{report}");
        return Ok(());
    }
    println!("path       {}", args.path.display());
    println!("files      {files} ({})", progress::size(source.total_bytes()));
    if let Some(compression) = compression {
        let (rows, groups) =
            (progress::counted(rows as usize, "row"), progress::counted(groups, "row group"));
        println!("parquet    {rows} in {groups}, {compression}");
    }
    println!("documents  {}", counts.documents);
    println!("text       {}", progress::size(counts.bytes));
    if tokenizer.is_some() {
        let ratio = counts.bytes as f64 / counts.tokens.max(1) as f64;
        println!("tokens     {} ({ratio:.3} bytes each)", counts.tokens);
    }
    println!("first      {}", counts.first);
    Ok(())
}
