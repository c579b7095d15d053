//! From text to ids: added tokens, normalisation, words, and a memory of words.

use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;

use crate::added::Section;
use crate::bpe::MergeModel;
use crate::error::Result;
use crate::{Model, Tokenizer};

/// The most words that one thread's cache remembers; when there are more, it starts afresh.
const CACHED_WORDS: usize = 1 << 16;
/// Longer words, in bytes, are too rare to be worth remembering.
const LONGEST_CACHED: usize = 64;

/// Words with their ids.
type Cache = FxHashMap<Box<str>, Box<[u32]>>;

/// Caches that no call is using: words of one text come again in the next one.
#[derive(Debug, Default)]
pub(crate) struct Caches(Mutex<Vec<Cache>>);

impl Caches {
    fn with<R>(&self, f: impl FnOnce(&mut Cache) -> R) -> R {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cache = idle().pop().unwrap_or_default();
        let result = f(&mut cache);
        idle().push(cache);
        result
    }
}

impl Clone for Caches {
    fn clone(&self) -> Self {
        Caches::default()
    }
}

impl Tokenizer {
    /// The ids of a text, without BOS or EOS. All of it is text: the name of a marker in it, such as
    /// `</s>`, is spelled out and does not become the marker.
    ///
    /// # Errors
    /// [`Error::UnknownCharacter`](crate::Error::UnknownCharacter) if the vocabulary lacks a character and has no way around it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_sections(text, false)
    }

    /// The ids of a text in which names of markers stand for the markers. For templates, not for text
    /// from outside.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_sections(text, true)
    }

    fn encode_sections(&self, text: &str, specials: bool) -> Result<Vec<u32>> {
        let mut out = Vec::with_capacity(text.len() / 3 + 1);
        self.encode_part(text, true, specials, &mut out)?;
        Ok(out)
    }

    /// Appends the ids of a part of a text, which is its beginning if `at_start`.
    pub(crate) fn encode_part(
        &self,
        text: &str,
        at_start: bool,
        specials: bool,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        self.caches.with(|cache| {
            for section in self.added.sections(text, specials) {
                match section {
                    Section::Token(id) => out.push(id),
                    Section::Text(at, text) => {
                        self.encode_given(text, at_start && at == 0, specials, cache, out)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Text between the tokens that are matched as they are given.
    fn encode_given(
        &self,
        text: &str,
        at_start: bool,
        specials: bool,
        cache: &mut Cache,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let text = self.rules.normalise(text)?;
        for section in self.frozen.sections(&text, specials) {
            match section {
                Section::Token(id) => out.push(id),
                Section::Text(at, text) => {
                    let text = self.rules.prepare(text, at_start && at == 0)?;
                    self.encode_words(&text, at, cache, out)?;
                }
            }
        }
        Ok(())
    }

    fn encode_words(
        &self,
        text: &str,
        mut at: usize,
        cache: &mut Cache,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        for word in self.rules.words(text)? {
            let start = out.len();
            match &self.model {
                Model::Unigram(model) => model.encode(word, out)?,
                Model::Merge(model) => {
                    let mut at = at;
                    for part in self.rules.parts(word) {
                        merge_word(model, part, at, cache, out)?;
                        at += part.len();
                    }
                }
            }
            at += word.len();
            if let Some(unknown) = self.model.fused_unknown() {
                let mut tail = out.split_off(start);
                tail.dedup_by(|a, b| a == b && *a == unknown);
                out.append(&mut tail);
            }
        }
        Ok(())
    }
}

/// Segments a word, or recalls how it was done.
fn merge_word(
    model: &MergeModel,
    word: &str,
    at: usize,
    cache: &mut Cache,
    out: &mut Vec<u32>,
) -> Result<()> {
    if let Some(ids) = cache.get(word) {
        out.extend_from_slice(ids);
        return Ok(());
    }
    let start = out.len();
    model.encode_word(word, at, out)?;
    if word.len() <= LONGEST_CACHED {
        if cache.len() == CACHED_WORDS {
            cache.clear();
        }
        cache.insert(word.into(), out[start..].into());
    }
    Ok(())
}
