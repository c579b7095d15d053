//! `anegpt tokenizer train`.

use crate::{corpus, number, progress};
use anyhow::Result;
use clap::ValueEnum;
use data::synth::SEPARATOR;
use data::text::{Document, Documents, FIELD, TextSource};
use std::path::PathBuf;
use tokenizer::chat::NANOCHAT_TOKENS;
use tokenizer::{BpeLearner, LearnProgress, LearnRules, Tokenizer};

/// Bytes of text that are read while as many are learned from.
const AT_ONCE: usize = 8 << 20;

/// Train a byte-pair or character tokenizer on text
///
/// --rules nanochat learns, token for token, the vocabulary that nanochat does: its splitting pattern, its
/// special tokens behind the others, at most 10,000 characters of each document, and 2,000,000,000 in all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt tokenizer train --data text/ --vocab-size 4096
  anegpt tokenizer train --data data/climbmix --rules nanochat
  anegpt tokenizer train --data shakespeare.txt --char --out chars.json")]
pub(crate) struct Args {
    /// Text file, or directory of *.txt, *.md, *.jsonl and *.parquet
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Field of *.jsonl, or column of *.parquet, that holds the text
    #[arg(long, value_name = "NAME", default_value = FIELD)]
    text_field: String,
    /// Rules of the vocabulary
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Rules::Gpt2)]
    rules: Rules,
    /// Vocabulary size [default: 4096, or 32768 with --rules nanochat]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = number::whole(1usize))]
    vocab_size: Option<usize>,
    /// One token per character instead of byte pairs
    #[arg(long, conflicts_with_all = ["vocab_size", "rules"])]
    char: bool,
    /// Add the tokens of conversations, which --rules nanochat always has
    #[arg(long)]
    chat: bool,
    /// Characters that are read of a document; 0 = all [default: 0, or 10000 with --rules nanochat]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = number::whole(0u64))]
    doc_cap: Option<u64>,
    /// Characters that are read in all, up to the end of a document; 0 = all [default: 0, or
    /// 2000000000 with --rules nanochat]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = number::whole(0u64))]
    max_chars: Option<u64>,
    /// File to write, in the format of Hugging Face's tokenizer.json
    #[arg(long, value_name = "FILE", default_value = "tokenizer.json")]
    out: PathBuf,
}

/// By what rules byte pairs are learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rules {
    /// GPT-2's splitting pattern; pairs that occur twice
    Gpt2,
    /// nanochat's splitting pattern, special tokens and limits
    Nanochat,
}

impl Args {
    fn learn_rules(&self) -> LearnRules {
        match self.rules {
            Rules::Gpt2 => LearnRules::Gpt2,
            Rules::Nanochat => LearnRules::Nanochat,
        }
    }

    /// The number given, or that of the rules.
    fn or<T>(&self, given: Option<T>, gpt2: T, nanochat: T) -> T {
        given.unwrap_or(match self.rules {
            Rules::Gpt2 => gpt2,
            Rules::Nanochat => nanochat,
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let text = TextSource::open(&args.data, SEPARATOR)?.field(&args.text_field);
    text.oddities().iter().for_each(|notice| eprintln!("warning: {notice}"));
    let mut excerpt =
        Excerpt::new(args.or(args.doc_cap, 0, 10_000), args.or(args.max_chars, 0, 2_000_000_000));
    let asked = args.or(args.vocab_size, 4096, 32_768);
    let mut tokenizer = match args.char {
        true => corpus::characters(excerpt.texts(&text))?,
        false => byte_pairs(args, &text, &mut excerpt, asked)?,
    };
    if args.chat {
        tokenizer = tokenizer.with_special_tokens(&NANOCHAT_TOKENS)?;
    }
    tokenizer.save(&args.out)?;
    println!("{}: {}", args.out.display(), tokenizer.describe());
    let smaller = corpus::smaller_vocabulary(asked, tokenizer.vocab_size());
    let notices = [excerpt.notice(), smaller.filter(|_| !args.char)];
    notices.iter().flatten().for_each(|notice| eprintln!("note: {notice}"));
    Ok(())
}

/// Learns from a text while more of it is read.
fn byte_pairs(
    args: &Args,
    text: &TextSource,
    excerpt: &mut Excerpt,
    vocab_size: usize,
) -> Result<Tokenizer> {
    // The separator of documents is the first of the tokens of conversations.
    let others = match args.rules {
        Rules::Gpt2 if args.chat => NANOCHAT_TOKENS.len() - 1,
        _ => 0,
    };
    let mut learner = BpeLearner::new(args.learn_rules())?;
    let bar = progress::bytes("reading", text.total_bytes());
    let mut texts = excerpt.texts(text);
    let mut part = some(&mut texts)?;
    while !part.is_empty() {
        bar.set_position(texts.bytes_done);
        let current: Vec<&str> = part.iter().map(String::as_str).collect();
        let (learned, next) = rayon::join(|| learner.read(&current), || some(&mut texts));
        learned?;
        part = next?;
    }
    bar.finish_and_clear();
    let bar = progress::steps("learning", vocab_size as u64);
    let learned = learner.learn(vocab_size.saturating_sub(others), &mut |p| {
        if let LearnProgress::Merging { tokens, .. } = p {
            bar.set_position(tokens as u64);
        }
    });
    bar.finish_and_clear();
    Ok(learned?)
}

/// The next texts, of about [`AT_ONCE`] bytes; none at the end.
fn some(texts: &mut Texts<'_>) -> data::Result<Vec<String>> {
    let (mut part, mut bytes) = (vec![], 0);
    while bytes < AT_ONCE {
        let Some(text) = texts.next() else { break };
        let text = text?;
        bytes += text.len();
        part.push(text);
    }
    Ok(part)
}

/// What is read of the documents, in characters; a limit of 0 is none.
#[derive(Debug)]
struct Excerpt {
    of_document: u64,
    in_all: u64,
    /// Characters that may still be read of the present document.
    left: u64,
    characters: u64,
    documents: u64,
    cut: u64,
}

impl Excerpt {
    fn new(of_document: u64, in_all: u64) -> Self {
        Excerpt { of_document, in_all, left: 0, characters: 0, documents: 0, cut: 0 }
    }

    fn texts<'a>(&'a mut self, source: &'a TextSource) -> Texts<'a> {
        Texts { documents: source.documents(), excerpt: self, bytes_done: 0 }
    }

    /// True if no further document is to be read: nanochat stops behind the one that exceeds the limit.
    fn complete(&self) -> bool {
        self.in_all > 0 && self.characters > self.in_all
    }

    /// The part of a document, or of a piece of a long one, that is read.
    fn take(&mut self, document: Document) -> String {
        let Document { mut text, begins, .. } = document;
        if begins {
            self.documents += 1;
            self.left = if self.of_document == 0 { u64::MAX } else { self.of_document };
        }
        let mut characters = text.chars().count() as u64;
        if characters > self.left {
            // Counted once: nothing is left for further pieces.
            self.cut += u64::from(self.left > 0);
            let end =
                text.char_indices().nth(self.left as usize).map_or(text.len(), |(end, _)| end);
            text.truncate(end);
            characters = self.left;
        }
        self.left -= characters;
        self.characters += characters;
        text
    }

    fn notice(&self) -> Option<String> {
        (self.cut > 0).then(|| {
            format!(
                "{} of {} were cut after {} characters; --doc-cap 0 reads them whole",
                self.cut,
                progress::counted(self.documents as usize, "document"),
                self.of_document
            )
        })
    }
}

/// The texts of an [`Excerpt`].
struct Texts<'a> {
    documents: Documents<'a>,
    excerpt: &'a mut Excerpt,
    bytes_done: u64,
}

impl Iterator for Texts<'_> {
    type Item = data::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        // A document in pieces is read to its end.
        let document = match self.documents.next()? {
            Ok(document) if document.begins && self.excerpt.complete() => return None,
            Ok(document) => document,
            Err(error) => return Some(Err(error)),
        };
        self.bytes_done = document.bytes_done;
        Some(Ok(self.excerpt.take(document)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str, begins: bool) -> Document {
        Document { begins, ..Document::new(text) }
    }

    #[test]
    fn documents_are_cut_after_characters() {
        let mut excerpt = Excerpt::new(3, 7);
        assert_eq!(excerpt.take(document("aéb漢", true)), "aéb");
        assert_eq!(excerpt.take(document("its second piece", false)), "");
        assert_eq!(excerpt.take(document("漢", true)), "漢");
        assert_eq!(excerpt.take(document("字abc", false)), "字a");
        assert_eq!((excerpt.cut, excerpt.documents, excerpt.characters), (2, 2, 6));
        assert_eq!(excerpt.take(document("x", true)), "x");
        assert!(!excerpt.complete());
        assert_eq!(excerpt.take(document("y", true)), "y");
        assert!(excerpt.complete());
        assert!(excerpt.notice().unwrap().starts_with("2 of 4 documents were cut after 3"));
    }

    #[test]
    fn no_limit_reads_all() {
        let mut excerpt = Excerpt::new(0, 0);
        assert_eq!(excerpt.take(document("all of it", true)), "all of it");
        assert_eq!(excerpt.take(document(" and more", false)), " and more");
        assert!(!excerpt.complete() && excerpt.notice().is_none());
    }
}
