//! Learning a byte-level BPE vocabulary (Sennrich et al. 2016).
//!
//! Texts are split into words by a pattern, and the distinct words are counted ([`BpeLearner::read`]). Then
//! the pair of tokens that occurs most often becomes a token, again and again ([`BpeLearner::learn`]); among
//! equals the pair of the smallest ids wins, so the result depends on the texts alone, not on their order or
//! on the number of threads.

mod merges;
mod words;

use crate::chat::NANOCHAT_TOKENS;
use crate::error::{Error, Result};
use crate::hugging_face_write::{ByteLevel, byte_level};
use crate::text::{GPT2_PATTERN, NANOCHAT_PATTERN};
use crate::vocab::ByteLetters;
use crate::{BOS_NAME, Tokenizer, hugging_face};
use merges::Merges;
use words::WordCounts;

/// The rules by which a vocabulary is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnRules {
    /// GPT-2's splitting pattern and order of bytes; a pair must occur twice to become a token; one special
    /// token, [`BOS_NAME`].
    Gpt2,
    /// nanochat's: its splitting pattern; the id of a byte is its value; a pair that occurs once may become a
    /// token; the special tokens are [`NANOCHAT_TOKENS`].
    Nanochat,
}

impl LearnRules {
    fn pattern(self) -> &'static str {
        match self {
            LearnRules::Gpt2 => GPT2_PATTERN,
            LearnRules::Nanochat => NANOCHAT_PATTERN,
        }
    }

    /// The bytes in the order of their ids.
    fn bytes(self) -> Vec<u8> {
        match self {
            LearnRules::Gpt2 => ByteLetters::new().bytes_in_order().collect(),
            LearnRules::Nanochat => (0..=255).collect(),
        }
    }

    /// Times that a pair must occur.
    fn least_count(self) -> i64 {
        match self {
            LearnRules::Gpt2 => 2,
            LearnRules::Nanochat => 1,
        }
    }

    fn specials(self) -> &'static [&'static str] {
        match self {
            LearnRules::Gpt2 => &[BOS_NAME],
            LearnRules::Nanochat => &NANOCHAT_TOKENS,
        }
    }

    /// The size of the smallest vocabulary: the bytes and the special tokens.
    pub fn least_vocab_size(self) -> usize {
        256 + self.specials().len()
    }
}

/// How far learning has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnProgress {
    /// Bytes of text read so far.
    Reading {
        /// Bytes of text.
        bytes: u64,
    },
    /// Tokens learned so far, of those wanted.
    Merging {
        /// Tokens in the vocabulary.
        tokens: usize,
        /// Tokens asked for.
        wanted: usize,
    },
}

/// Learns a vocabulary from texts that come in parts. It keeps the distinct words, not the texts.
///
/// ```
/// use tokenizer::{BpeLearner, LearnRules};
///
/// let mut learner = BpeLearner::new(LearnRules::Nanochat)?;
/// learner.read(&["low lower lowest", "low new newest"])?;
/// let tokenizer = learner.learn(270, &mut |_| {})?;
/// assert_eq!(tokenizer.token_bytes(256), Some(&b"lo"[..])); // the pair that occurs most often
/// assert_eq!(tokenizer.vocab_size(), 270);
/// # Ok::<(), tokenizer::Error>(())
/// ```
#[derive(Debug)]
pub struct BpeLearner {
    rules: LearnRules,
    words: WordCounts,
}

impl BpeLearner {
    /// Begins with no text.
    ///
    /// # Errors
    /// None with the rules above.
    pub fn new(rules: LearnRules) -> Result<Self> {
        Ok(BpeLearner { rules, words: WordCounts::new(rules.pattern())? })
    }

    /// Counts the words of some texts, on all cores.
    ///
    /// # Errors
    /// [`Error::Pattern`] if the pattern gives up on a text.
    pub fn read(&mut self, texts: &[&str]) -> Result<()> {
        self.words.add(texts)
    }

    /// Learns `vocab_size` tokens, the special ones included; fewer if the texts have no more pairs.
    ///
    /// # Errors
    /// [`Error::Learn`] if there was no text, or `vocab_size` is too small.
    pub fn learn(
        self,
        vocab_size: usize,
        progress: &mut dyn FnMut(LearnProgress),
    ) -> Result<Tokenizer> {
        let (rules, least) = (self.rules, self.rules.least_vocab_size());
        if vocab_size < least || vocab_size > u32::MAX as usize {
            return Err(Error::Learn(format!(
                "{vocab_size} tokens were asked for; a byte-level vocabulary has at least {least}"
            )));
        }
        let words = self.words.into_words();
        if words.is_empty() {
            return Err(Error::Learn("the text is empty".into()));
        }
        let bytes = rules.bytes();
        let mut tokens: Vec<Vec<u8>> = bytes.iter().map(|&byte| vec![byte]).collect();
        let mut merges = Merges::new(&words, &bytes, rules.least_count());
        drop(words);
        let (mut pairs, specials) = (Vec::new(), rules.specials().len());
        while tokens.len() + specials < vocab_size {
            let Some((left, right)) = merges.join_most_frequent() else { break };
            let joined = [tokens[left as usize].as_slice(), &tokens[right as usize]].concat();
            tokens.push(joined);
            pairs.push((left, right));
            let known = tokens.len() + specials;
            progress(LearnProgress::Merging { tokens: known, wanted: vocab_size });
        }
        let pattern = (rules != LearnRules::Gpt2).then_some(rules.pattern());
        let (bos, others) = (rules.specials()[0], &rules.specials()[1..]);
        let file = byte_level(&ByteLevel { tokens: &tokens, merges: &pairs, bos, pattern });
        let tokenizer = hugging_face::read(&file)?;
        if others.is_empty() { Ok(tokenizer) } else { tokenizer.with_special_tokens(others) }
    }
}

#[cfg(test)]
mod tests;
