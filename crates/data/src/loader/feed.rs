//! Documents, tokenized ahead of their use.

use crate::error::{Error, Result};
use crate::text::{Document, Documents, Place, TextSource};
use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Documents that are tokenized at once (nanochat).
const REFILL: usize = 128;
/// Refills that wait at most.
const AHEAD: usize = 8;

/// A tokenizer: text to ids, without marks at the beginning or end.
pub type Tokenize = dyn Fn(&str) -> std::result::Result<Vec<u32>, String> + Send + Sync;

/// The documents of a source that end within a range of its bytes.
#[derive(Debug, Clone)]
pub struct Part {
    source: Arc<TextSource>,
    bytes: Range<u64>,
}

impl Part {
    /// All documents.
    pub fn whole(source: TextSource) -> Part {
        Part { source: Arc::new(source), bytes: 0..u64::MAX }
    }

    /// The documents of the first nine tenths of the bytes, and the others.
    pub fn split(source: TextSource) -> (Part, Part) {
        let cut = (u128::from(source.total_bytes()) * 9 / 10) as u64;
        let source = Arc::new(source);
        let of = |bytes| Part { source: Arc::clone(&source), bytes };
        (of(0..cut), of(cut..u64::MAX))
    }

    /// What is said where it has no document.
    fn without_documents(&self) -> &'static str {
        match (self.bytes.start, self.bytes.end) {
            (0, u64::MAX) => "it has no document to train on or to validate with",
            (0, _) => {
                "no document ends in its first nine tenths, which are to train on: give more documents, or \
                 leave out --packing bos-fit"
            }
            _ => {
                "no document ends in its last tenth, which is to validate with: give more documents, or \
                 --val-data FILE"
            }
        }
    }

    /// About the bytes of its texts; of text files and JSON lines, those of the files.
    fn text_bytes(&self) -> Result<u64> {
        let all = self.source.total_bytes().max(1);
        let share = self.bytes.end.min(all) - self.bytes.start.min(all);
        let bytes = u128::from(self.source.text_bytes()?) * u128::from(share) / u128::from(all);
        Ok(bytes as u64)
    }
}

/// A tokenized document, with its place among the texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) tokens: Vec<u32>,
}

/// Reads a part and turns it into tokens.
#[derive(Clone)]
pub(super) struct Reader {
    part: Part,
    tokenize: Arc<Tokenize>,
    document_start: Option<u32>,
}

impl Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("part", &self.part).finish_non_exhaustive()
    }
}

/// Where reading stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Passes that are complete.
    pub(super) epoch: u64,
    /// The next document, or something before it.
    pub(super) next: Place,
}

/// Some documents, in their order.
#[derive(Debug)]
pub(super) struct Refill {
    pub(super) entries: Vec<Entry>,
    /// Bytes that they take in their source, as [`Part::text_bytes`] counts them.
    pub(super) bytes: u64,
    /// After them.
    pub(super) position: Position,
}

/// Documents of one pass.
struct Pass<'a> {
    reader: &'a Reader,
    documents: Documents<'a>,
    /// Read, and to come next.
    pending: Option<Document>,
    /// Bytes of the source up to the end of the last document that was read, and those of the pending one.
    done: u64,
    taken: u64,
    ended: bool,
}

impl Pass<'_> {
    /// The next document of the part.
    fn peek(&mut self) -> Result<Option<&Document>> {
        let bytes = &self.reader.part.bytes;
        while self.pending.is_none() && !self.ended {
            let Some(document) = self.documents.next().transpose()? else {
                self.ended = true;
                break;
            };
            self.taken = document.bytes_done.saturating_sub(self.done);
            self.done = document.bytes_done;
            match self.done {
                done if done > bytes.end => self.ended = true,
                done if done <= bytes.start => {}
                _ => self.pending = Some(document),
            }
        }
        Ok(self.pending.as_ref())
    }

    fn place(&self) -> Place {
        self.pending.as_ref().map_or(self.documents.place(), |document| document.place)
    }

    /// The documents of the next refill: at most [`REFILL`], all of one row group of a Parquet file; and their
    /// bytes: of the texts in a Parquet file, else of the file.
    fn some(&mut self) -> Result<(Vec<Document>, u64)> {
        let source = Arc::clone(&self.reader.part.source);
        let (mut some, mut bytes) = (Vec::<Document>::new(), 0);
        while some.len() < REFILL {
            let Some(next) = self.peek()? else { break };
            let together = some.last().is_none_or(|last| source.same_block(last.place, next.place));
            if !together {
                break;
            }
            bytes += match source.row_group(next.place) {
                Some(_) => next.text.len() as u64,
                None => self.taken,
            };
            some.extend(self.pending.take());
        }
        Ok((some, bytes))
    }
}

impl Reader {
    pub(super) fn new(part: Part, tokenize: Arc<Tokenize>, document_start: Option<u32>) -> Reader {
        Reader { part, tokenize, document_start }
    }

    pub(super) fn fingerprint(&self) -> Result<String> {
        self.part.source.fingerprint()
    }

    /// Hands `take` refill after refill, from `position` on and in pass after pass, until it returns false.
    pub(super) fn read(
        &self,
        mut position: Position,
        take: &mut dyn FnMut(Refill) -> bool,
    ) -> Result<()> {
        loop {
            let whole = position.next == Place::default();
            let documents = self.part.source.documents_from(position.next);
            let pending = None;
            let mut pass =
                Pass { reader: self, documents, pending, done: 0, taken: 0, ended: false };
            let mut empty = true;
            loop {
                let (some, bytes) = pass.some()?;
                if some.is_empty() {
                    break;
                }
                let entries = self.tokenized(some)?;
                empty &= entries.is_empty();
                position.next = pass.place();
                if !take(Refill { entries, bytes, position }) {
                    return Ok(());
                }
            }
            if whole && empty {
                let path = self.part.source.files().next().unwrap_or("".as_ref()).to_owned();
                let problem = self.part.without_documents();
                return Err(Error::NoText { path, problem });
            }
            position = Position { epoch: position.epoch + 1, next: Place::default() };
        }
    }

    fn tokenized(&self, documents: Vec<Document>) -> Result<Vec<Entry>> {
        let entries = documents.into_iter().map(|document| self.entry(&document));
        // A tokenizer without a mark gives nothing for some texts.
        entries.filter(|entry| !matches!(entry, Ok(e) if e.tokens.is_empty())).collect()
    }

    /// Every document begins with the mark, and so does every piece of a long one.
    fn entry(&self, document: &Document) -> Result<Entry> {
        let ids = (self.tokenize)(&document.text)
            .map_err(|message| Error::Tokenize { byte: document.bytes_done, message })?;
        let tokens = self.document_start.into_iter().chain(ids).collect();
        Ok(Entry { place: document.place, tokens })
    }

    /// Reads the documents at these places again.
    ///
    /// # Errors
    /// [`Error::Cursor`] when one is not there, or has not so many tokens.
    pub(super) fn again(&self, places: &[(Place, usize)]) -> Result<Vec<Entry>> {
        let wanted: Vec<Place> = places.iter().map(|(place, _)| *place).collect();
        let documents = self.part.source.fetch(&wanted)?;
        let entries = documents.iter().zip(places).map(|(document, (place, tokens))| {
            let entry = self.entry(document)?;
            match entry.tokens.len() {
                n if n == *tokens => Ok(entry),
                n => Err(Error::Cursor {
                    what: "the length of a document that was read ahead",
                    expected: format!("{tokens} tokens at {place:?}"),
                    got: n.to_string(),
                }),
            }
        });
        entries.collect()
    }

    /// The first refills, `count` or fewer, all of the first pass.
    pub(super) fn first(&self, count: usize) -> Result<Vec<Refill>> {
        let mut first = vec![];
        self.read(Position::default(), &mut |refill| {
            let more = refill.position.epoch == 0;
            if more {
                first.push(refill);
            }
            more && first.len() < count
        })?;
        Ok(first)
    }

    /// What the first refills tell of the part.
    pub(super) fn sample(&self, first: &[Refill]) -> Result<Sample> {
        let tokens = first.iter().flat_map(|refill| &refill.entries).flat_map(|e| &e.tokens);
        Ok(Sample {
            tokens: tokens.copied().collect(),
            bytes: first.iter().map(|refill| refill.bytes).sum(),
            all_bytes: self.part.text_bytes()?,
        })
    }
}

/// The first documents of a part.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) tokens: Vec<u32>,
    /// Bytes that they take in their source.
    bytes: u64,
    /// About the bytes of all texts.
    all_bytes: u64,
}

impl Sample {
    /// About the tokens of the whole part.
    pub(super) fn all_tokens(&self) -> u64 {
        let tokens = self.tokens.len() as u128 * u128::from(self.all_bytes);
        (tokens / u128::from(self.bytes.max(1))) as u64
    }
}

/// Reads ahead, in a thread of its own: the order does not depend on when it runs.
#[derive(Debug)]
pub(super) struct Feed {
    /// Taken to end the thread.
    refills: Option<Receiver<Result<Refill>>>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    pub(super) fn start(reader: Reader, position: Position) -> Result<Feed> {
        let (send, refills) = sync_channel(AHEAD);
        let work = move || {
            let read = reader.read(position, &mut |refill| send.send(Ok(refill)).is_ok());
            if let Err(error) = read {
                // If nobody waits for it, nobody needs to know.
                let _ = send.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name("tokenizing".to_owned()).spawn(work);
        let thread =
            thread.map_err(Error::io("the documents".as_ref(), "start a thread to read"))?;
        Ok(Feed { refills: Some(refills), thread: Some(thread) })
    }

    /// The next refill; waits for it.
    pub(super) fn next(&mut self) -> Result<Refill> {
        let next = self.refills.as_ref().and_then(|refills| refills.recv().ok());
        next.unwrap_or_else(|| {
            let source = std::io::Error::other("reading ended with an earlier error");
            Err(Error::io("the documents".as_ref(), "read on in")(source))
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.refills = None;
        if let Some(thread) = self.thread.take() {
            // It ends with the documents that it is at; what it failed with is of no use any more.
            let _ = thread.join();
        }
    }
}
