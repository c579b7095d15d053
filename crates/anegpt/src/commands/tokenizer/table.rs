//! `anegpt tokenizer eval`: how well tokenizers compress texts.

use super::samples::SAMPLES;
use crate::{files, term};
use anyhow::{Result, bail};
use data::synth::SEPARATOR;
use data::text::{FIELD, TextSource};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokenizer::Tokenizer;

/// Measure how well tokenizers compress texts
///
/// The table has a row for each text, and for each tokenizer its tokens and how many bytes of text one of them
/// stands for: more is better. Of further tokenizers it has the ratio of their tokens to those of the first.
/// Without --data, the texts are short examples of several kinds.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt tokenizer eval --tokenizer tokenizer.json
  anegpt tokenizer eval --tokenizer tokenizer.json --data text/ --data code.txt
  anegpt tokenizer eval --tokenizer mine.json --beside gpt2.json tokenizer.model")]
pub(crate) struct Args {
    /// Tokenizer file
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Other tokenizer files to compare it with
    #[arg(long, value_name = "FILE", num_args = 1..)]
    beside: Vec<PathBuf>,
    /// Text file, or directory of *.txt, *.md, *.jsonl and *.parquet; may be repeated [default: examples]
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Field of *.jsonl, or column of *.parquet, that holds the text
    #[arg(long, value_name = "NAME", default_value = FIELD)]
    text_field: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What one tokenizer made of one text.
#[derive(Clone, Debug, Default)]
struct Tally {
    tokens: u64,
    bytes: u64,
    seconds: f64,
    /// The text holds something that the vocabulary lacks.
    failed: Option<String>,
}

impl Tally {
    fn bytes_per_token(&self) -> f64 {
        self.bytes as f64 / self.tokens.max(1) as f64
    }

    fn mb_per_s(&self) -> f64 {
        self.bytes as f64 / self.seconds.max(1e-9) / 1e6
    }

    fn measure(&mut self, tokenizer: &Tokenizer, text: &str) {
        if self.failed.is_some() {
            return;
        }
        let start = Instant::now();
        match tokenizer.encode(text) {
            Ok(ids) => self.tokens += ids.len() as u64,
            Err(error) => self.failed = Some(error.to_string()),
        }
        self.seconds += start.elapsed().as_secs_f64();
        self.bytes += text.len() as u64;
    }

    fn add(&mut self, other: &Tally) {
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        self.seconds += other.seconds;
        self.failed = self.failed.take().or_else(|| other.failed.clone());
    }

    fn json(&self, first: &Tally) -> serde_json::Value {
        let known = self.failed.is_none().then_some(());
        serde_json::json!({
            "tokens": known.map(|()| self.tokens),
            "bytes_per_token": known.map(|()| self.bytes_per_token()),
            "mb_per_s": known.map(|()| self.mb_per_s()),
            "tokens_to_first": self.ratio(first),
            "error": self.failed,
        })
    }

    /// Its tokens over those of the first tokenizer.
    fn ratio(&self, first: &Tally) -> Option<f64> {
        let both = self.failed.is_none() && first.failed.is_none();
        both.then(|| self.tokens as f64 / first.tokens.max(1) as f64)
    }
}

/// A text and what each tokenizer made of it.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    bytes: u64,
    words: u64,
    tallies: Vec<Tally>,
}

impl Row {
    fn new(name: impl Into<String>, tokenizers: usize) -> Self {
        let tallies = vec![Tally::default(); tokenizers];
        Row { name: name.into(), bytes: 0, words: 0, tallies }
    }

    fn measure(&mut self, tokenizers: &[Tokenizer], text: &str) {
        self.bytes += text.len() as u64;
        self.words += text.split_whitespace().count() as u64;
        for (tally, tokenizer) in self.tallies.iter_mut().zip(tokenizers) {
            tally.measure(tokenizer, text);
        }
    }

    fn add(&mut self, other: &Row) {
        self.bytes += other.bytes;
        self.words += other.words;
        self.tallies.iter_mut().zip(&other.tallies).for_each(|(sum, one)| sum.add(one));
    }

    fn json(&self) -> serde_json::Value {
        let results: Vec<_> = self.tallies.iter().map(|t| t.json(&self.tallies[0])).collect();
        serde_json::json!({
            "text": self.name, "bytes": self.bytes, "words": self.words, "results": results,
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let files: Vec<&Path> =
        std::iter::once(&args.tokenizer).chain(&args.beside).map(PathBuf::as_path).collect();
    let tokenizers: Vec<Tokenizer> =
        files.iter().map(|file| files::read_tokenizer(Some(file), None)).collect::<Result<_>>()?;
    let rows = rows(args, &tokenizers)?;
    let mut all = Row::new("all", tokenizers.len());
    rows.iter().for_each(|row| all.add(row));
    if let [only] = &rows[..]
        && let Some(problem) = &only.tallies[0].failed
    {
        bail!("{}: {problem}", files[0].display());
    }
    match args.json {
        true => println!("{}", json(&files, &tokenizers, &rows, &all)),
        false => print!("{}", table(&files, &tokenizers, &rows, &all)),
    }
    Ok(())
}

fn rows(args: &Args, tokenizers: &[Tokenizer]) -> Result<Vec<Row>> {
    if args.data.is_empty() {
        let measured = SAMPLES.iter().map(|(name, text)| {
            let mut row = Row::new(*name, tokenizers.len());
            row.measure(tokenizers, text);
            row
        });
        return Ok(measured.collect());
    }
    let of_path = |path: &PathBuf| -> Result<Row> {
        let mut row = Row::new(path.display().to_string(), tokenizers.len());
        let source = TextSource::open(path, SEPARATOR)?.field(&args.text_field);
        for document in source.documents() {
            row.measure(tokenizers, &document?.text);
        }
        Ok(row)
    };
    args.data.iter().map(of_path).collect()
}

fn json(files: &[&Path], tokenizers: &[Tokenizer], rows: &[Row], all: &Row) -> serde_json::Value {
    let first = &all.tallies[0];
    let described: Vec<_> = files
        .iter()
        .zip(tokenizers)
        .map(|(file, tokenizer)| {
            serde_json::json!({
                "file": file, "tokenizer": tokenizer.describe(), "vocab_size": tokenizer.vocab_size(),
            })
        })
        .collect();
    serde_json::json!({
        "tokenizer": tokenizers[0].describe(),
        "bytes": all.bytes,
        "words": all.words,
        "tokens": first.tokens,
        "bytes_per_token": first.bytes_per_token(),
        "mb_per_s": first.mb_per_s(),
        "tokenizers": described,
        "texts": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "all": all.json(),
    })
}

/// The letter that stands for a tokenizer in the table.
fn letter(number: usize) -> String {
    match u8::try_from(number) {
        Ok(number @ 0..26) => char::from(b'A' + number).to_string(),
        _ => (number + 1).to_string(),
    }
}

fn table(files: &[&Path], tokenizers: &[Tokenizer], rows: &[Row], all: &Row) -> String {
    let mut out = String::new();
    for (number, (file, tokenizer)) in files.iter().zip(tokenizers).enumerate() {
        let text = format!("{}: {}", file.display(), tokenizer.describe());
        let line = term::hanging(&letter(number), &text, 4, term::text_width());
        out += &format!("{line}\n");
    }
    out += "\n";
    let rows = rows.iter().chain((rows.len() > 1).then_some(all));
    let mut lines = vec![heading(tokenizers.len())];
    lines.extend(rows.clone().map(cells));
    lines.push(speeds(all));
    out += &aligned(&lines);
    let failures = rows.flat_map(|row| {
        let failed = row.tallies.iter().enumerate();
        failed.filter_map(|(n, tally)| Some((n, &row.name, tally.failed.as_ref()?)))
    });
    for (number, name, problem) in failures.filter(|(_, name, _)| *name != "all") {
        out += &format!("{} cannot encode {name}: {problem}\n", letter(number));
    }
    out
}

fn heading(tokenizers: usize) -> Vec<String> {
    let mut cells = vec!["text".to_owned(), "bytes".to_owned(), "words".to_owned()];
    for number in 0..tokenizers {
        let letter = letter(number);
        cells.extend([format!("{letter}: tokens"), "bytes/token".to_owned()]);
        if number > 0 {
            cells.push(format!("{letter}/A"));
        }
    }
    cells
}

fn cells(row: &Row) -> Vec<String> {
    let mut cells = vec![row.name.clone(), row.bytes.to_string(), row.words.to_string()];
    for (number, tally) in row.tallies.iter().enumerate() {
        let known = tally.failed.is_none();
        let or_none = |text: String| if known { text } else { "-".to_owned() };
        cells.push(or_none(tally.tokens.to_string()));
        cells.push(or_none(format!("{:.3}", tally.bytes_per_token())));
        if number > 0 {
            let ratio = tally.ratio(&row.tallies[0]);
            cells.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}")));
        }
    }
    cells
}

/// The last line: the speed of each tokenizer, below its bytes per token.
fn speeds(all: &Row) -> Vec<String> {
    let mut cells = vec!["MB/s on one core".to_owned(), String::new(), String::new()];
    for (number, tally) in all.tallies.iter().enumerate() {
        cells.extend([String::new(), format!("{:.1}", tally.mb_per_s())]);
        if number > 0 {
            cells.push(String::new());
        }
    }
    cells
}

/// Columns of equal width, two spaces apart: the first to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        out += cells.join("  ").trim_end();
        out += "\n";
    }
    out
}
