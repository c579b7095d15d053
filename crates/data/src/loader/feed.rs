//! Documents, tokenized ahead of their use.

use super::packer::Entry;
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

/// The documents of a source that end after so many bytes of it and not after others.
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

    /// About the bytes of its texts.
    fn text_bytes(&self) -> Result<u64> {
        let all = self.source.total_bytes().max(1);
        let share = self.bytes.end.min(all) - self.bytes.start.min(all);
        let bytes = u128::from(self.source.text_bytes()?) * u128::from(share) / u128::from(all);
        Ok(bytes as u64)
    }
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
    /// Bytes of their texts.
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
    ended: bool,
}

impl Pass<'_> {
    /// The next document of the part.
    fn peek(&mut self) -> Result<Option<&Document>> {
        let bytes = &self.reader.part.bytes;
        while self.pending.is_none() && !self.ended {
            match self.documents.next().transpose()? {
                Some(document) if document.bytes_done > bytes.end => self.ended = true,
                Some(document) if document.bytes_done <= bytes.start => {}
                Some(document) => self.pending = Some(document),
                None => self.ended = true,
            }
        }
        Ok(self.pending.as_ref())
    }

    fn place(&self) -> Place {
        self.pending.as_ref().map_or(self.documents.place(), |document| document.place)
    }

    /// The documents of the next refill: at most [`REFILL`], all of one row group of a Parquet file.
    fn some(&mut self) -> Result<Vec<Document>> {
        let source = Arc::clone(&self.reader.part.source);
        let mut some: Vec<Document> = Vec::new();
        while some.len() < REFILL {
            let Some(next) = self.peek()? else { break };
            let together = some.last().is_none_or(|last| source.same_block(last.place, next.place));
            if !together {
                break;
            }
            some.extend(self.pending.take());
        }
        Ok(some)
    }
}

impl Reader {
    pub(super) fn new(part: Part, tokenize: Arc<Tokenize>, document_start: Option<u32>) -> Reader {
        Reader { part, tokenize, document_start }
    }

    pub(super) fn fingerprint(&self) -> Result<String> {
        self.part.source.fingerprint()
    }

    /// Tells `take` refill after refill, from `position` on and in pass after pass, until it returns false.
    pub(super) fn read(
        &self,
        mut position: Position,
        take: &mut dyn FnMut(Refill) -> bool,
    ) -> Result<()> {
        loop {
            let whole = position.next == Place::default();
            let documents = self.part.source.documents_from(position.next);
            let mut pass = Pass { reader: self, documents, pending: None, ended: false };
            let mut empty = true;
            loop {
                let some = pass.some()?;
                if some.is_empty() {
                    break;
                }
                let (entries, bytes) = self.tokenized(some)?;
                empty &= entries.is_empty();
                position.next = pass.place();
                if !take(Refill { entries, bytes, position }) {
                    return Ok(());
                }
            }
            if whole && empty {
                let path = self.part.source.files().next().unwrap_or("".as_ref()).to_owned();
                let problem = "the part to train on or the last tenth, to validate with, has no document: \
                     give more text, or --val-data FILE";
                return Err(Error::NoText { path, problem });
            }
            position = Position { epoch: position.epoch + 1, next: Place::default() };
        }
    }

    fn tokenized(&self, documents: Vec<Document>) -> Result<(Vec<Entry>, u64)> {
        let bytes = documents.iter().map(|document| document.text.len() as u64).sum();
        let entries = documents.into_iter().map(|document| self.entry(&document));
        // A tokenizer without a mark gives nothing for some texts.
        let entries: Result<Vec<Entry>> =
            entries.filter(|entry| !matches!(entry, Ok(e) if e.tokens.is_empty())).collect();
        Ok((entries?, bytes))
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
    /// Bytes of their texts.
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
        let thread = thread.map_err(Error::io("tokenizing".as_ref(), "start a thread for"))?;
        Ok(Feed { refills: Some(refills), thread: Some(thread) })
    }

    /// The next refill; waits for it.
    pub(super) fn next(&mut self) -> Result<Refill> {
        let next = self.refills.as_ref().and_then(|refills| refills.recv().ok());
        next.unwrap_or_else(|| {
            let source = std::io::Error::other("it has ended before");
            Err(Error::io("tokenizing".as_ref(), "go on with")(source))
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
