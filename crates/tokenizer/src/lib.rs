//! Tokenizers: text to token ids and back.
//!
//! A [`Tokenizer`] is learned from text ([`BpeLearner`], [`Tokenizer::train_char`]) or read
//! from a file of another project ([`Tokenizer::load`]): Hugging Face's `tokenizer.json`, llama2.c's
//! `tokenizer.bin`, SentencePiece's `tokenizer.model`. [`Tokenizer::save`] writes any of them as a
//! `tokenizer.json` that Hugging Face's library reads; read back here, it encodes every text to the
//! same ids.
//!
//! Conversations become tokens by the format that a model was tuned to ([`chat::ChatTemplate`]).
//!
//! Nothing here knows models, batches or files of tokens.
//!
//! ```
//! use tokenizer::Tokenizer;
//!
//! let text = "the cat sat on the mat; the cat sat on the hat";
//! let tokenizer = Tokenizer::train_bpe([text], 270, &mut |_| {})?;
//! let ids = tokenizer.encode("the cat")?;
//! assert!(ids.len() < "the cat".len());
//! assert_eq!(tokenizer.decode(&ids), "the cat");
//! # Ok::<(), tokenizer::Error>(())
//! ```
#![warn(missing_docs)]

mod added;
mod bpe;
pub mod chat;
mod encode;
mod error;
mod hugging_face;
mod hugging_face_write;
mod learn;
mod llama2c;
mod pieces;
mod sentencepiece;
mod stream;
mod text;
mod unigram;
mod vocab;

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::added::AddedTokens;
use crate::bpe::MergeModel;
use crate::encode::Caches;
use crate::hugging_face::ConfigMarkers;
use crate::pieces::ScoredVocab;
use crate::text::TextRules;
use crate::unigram::UnigramModel;
use crate::vocab::{Kind, Token};

pub use crate::error::{Error, Result};
pub use crate::learn::{BpeLearner, LearnProgress, LearnRules};
pub use crate::stream::Stream;

/// The name of the document separator in vocabularies learned here.
pub const BOS_NAME: &str = "<|bos|>";

/// Bytes of text whose words are counted at once.
const LEARNED_AT_ONCE: usize = 4 << 20;

/// The kind of tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenizerKind {
    /// BPE over bytes: learned here, or GPT-2, Llama 3, Qwen.
    ByteLevelBpe,
    /// One token per character.
    Char,
    /// llama2.c's `tokenizer.bin`.
    Llama2c,
    /// SentencePiece's `tokenizer.model`.
    SentencePiece,
    /// BPE over characters from a `tokenizer.json`, as Llama 2's.
    HuggingFaceBpe,
    /// A unigram model from a `tokenizer.json`.
    HuggingFaceUnigram,
}

/// Encodes text to token ids and decodes ids to text.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    kind: TokenizerKind,
    tokens: Vec<Token>,
    rules: TextRules,
    model: Model,
    /// Looked for in the text as it was given.
    added: AddedTokens,
    /// Looked for in the text after normalisation.
    frozen: AddedTokens,
    bos: Option<u32>,
    eos: Option<u32>,
    prompt_bos: Option<u32>,
    strip_leading_space: bool,
    source: Source,
    caches: Caches,
}

#[derive(Debug, Clone)]
enum Model {
    Merge(MergeModel),
    Unigram(UnigramModel),
}

impl Model {
    /// The token that a run of unknown characters shrinks to, if it does.
    fn fused_unknown(&self) -> Option<u32> {
        match self {
            Model::Merge(model) => model.fused_unknown(),
            Model::Unigram(model) => model.fused_unknown(),
        }
    }
}

/// The source of [`Tokenizer::to_json`].
#[derive(Debug, Clone)]
enum Source {
    /// The text of a `tokenizer.json`; `extended`: BOS or EOS became known by other means.
    Json {
        text: Box<str>,
        extended: bool,
    },
    Scored(Box<ScoredVocab>),
}

impl Tokenizer {
    /// Learns byte-level BPE from documents by GPT-2's rules: 256 bytes, merges, and last the
    /// separator [`BOS_NAME`]. `vocab_size` counts them all; the result is smaller if the text runs
    /// out of pairs that occur twice. The same documents give the same vocabulary. [`BpeLearner`]
    /// has other rules, and takes documents in parts.
    ///
    /// # Errors
    /// [`Error::Learn`] if there is no text or `vocab_size` is below 257.
    pub fn train_bpe<S: AsRef<str>>(
        texts: impl IntoIterator<Item = S>,
        vocab_size: usize,
        progress: &mut dyn FnMut(LearnProgress),
    ) -> Result<Self> {
        let mut learner = BpeLearner::new(LearnRules::Gpt2)?;
        let (mut texts, mut bytes) = (texts.into_iter().peekable(), 0);
        while texts.peek().is_some() {
            let (mut part, mut size) = (Vec::new(), 0);
            while let Some(text) = texts.next_if(|_| size < LEARNED_AT_ONCE) {
                size += text.as_ref().len();
                part.push(text);
            }
            learner.read(&part.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
            bytes += size as u64;
            progress(LearnProgress::Reading { bytes });
        }
        learner.learn(vocab_size, progress)
    }

    /// Takes every character of the text as a token, in the order of code points.
    ///
    /// # Errors
    /// [`Error::Learn`] if there is no text.
    pub fn train_char<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut chars = BTreeSet::new();
        for text in texts {
            chars.extend(text.as_ref().chars());
        }
        if chars.is_empty() {
            return Err(Error::Learn("the text is empty".into()));
        }
        let chars: Vec<char> = chars.into_iter().collect();
        hugging_face::read(&hugging_face_write::characters(&chars))
    }

    /// The same tokenizer with more special tokens behind its last one, such as
    /// [`chat::NANOCHAT_TOKENS`]. Those that it has already stay where they are.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the vocabulary cannot be extended.
    pub fn with_special_tokens(&self, names: &[&str]) -> Result<Self> {
        let mut missing: Vec<&str> = vec![];
        for &name in names {
            if self.special(name).is_none() && !missing.contains(&name) {
                missing.push(name);
            }
        }
        let first = u32::try_from(self.vocab_size()).expect("ids are 32 bits wide");
        hugging_face::read(&hugging_face_write::with_special(&self.to_json()?, first, &missing))
    }

    /// Reads a tokenizer of any known format, told apart by content. A `tokenizer_config.json` beside it
    /// is consulted for the names of BOS and EOS, and for whether BOS goes before a prompt.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::File`] with the cause if it is refused.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_file(path)?;
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let mut tokenizer = Self::from_bytes(&bytes, extension).map_err(in_file(path))?;
        let config = path.with_file_name("tokenizer_config.json");
        if tokenizer.kind != TokenizerKind::Llama2c && config != path && config.is_file() {
            let text = read_file(&config)?;
            let text = String::from_utf8_lossy(&text);
            let markers = ConfigMarkers::read(&text).map_err(in_file(&config))?;
            tokenizer.name_markers(&markers);
        }
        Ok(tokenizer)
    }

    /// Reads a tokenizer from the content of a file; `extension` (without a dot, may be empty)
    /// decides only where the content leaves doubt.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`], or what the format's reader found wrong.
    pub fn from_bytes(bytes: &[u8], extension: &str) -> Result<Self> {
        if looks_like_json(bytes) {
            let text = std::str::from_utf8(bytes)
                .map_err(|e| Error::invalid(hugging_face::FORMAT, e.to_string()))?;
            return hugging_face::read(text);
        }
        if let Some(what) = llama2c::of_llm_c(bytes) {
            return Err(Error::unsupported("llm.c", what));
        }
        let llama2c = llama2c::plausible(bytes);
        let sentencepiece = sentencepiece::plausible(bytes);
        match (llama2c, sentencepiece, extension) {
            (true, false, _) | (true, true, "bin") | (false, false, "bin") => {
                Self::from_llama2c(bytes, None)
            }
            (_, true, _) | (false, false, "model") => sentencepiece::read(bytes)?.build(),
            (false, false, "json") => hugging_face::read(&String::from_utf8_lossy(bytes)),
            _ => Err(Error::UnknownFormat),
        }
    }

    /// Reads llama2.c's `tokenizer.bin`: its first `vocab_size` tokens, or all of them.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Invalid`], saying where.
    pub fn from_llama2c(bytes: &[u8], vocab_size: Option<usize>) -> Result<Self> {
        llama2c::read(bytes, vocab_size)?.build()
    }

    /// Writes a `tokenizer.json`. The file is replaced in place, not atomically.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let json = self.to_json()?;
        std::fs::write(path, json).map_err(|source| Error::Io { path: path.into(), source })
    }

    /// The content of the file that [`Tokenizer::save`] writes. A tokenizer that came from a
    /// `tokenizer.json` is given back as it was.
    ///
    /// # Errors
    /// None for a tokenizer made by this crate; the signature leaves room for formats to come.
    pub fn to_json(&self) -> Result<String> {
        match &self.source {
            Source::Json { text, extended: false } => Ok(text.to_string()),
            Source::Json { text, extended: true } => {
                let name =
                    |id| self.token_bytes(id).and_then(|name| std::str::from_utf8(name).ok());
                let prompt_bos = self.prompt_bos.and_then(|id| Some((id, name(id)?)));
                hugging_face_write::with_markers(text, self.bos, self.eos, prompt_bos)
            }
            Source::Scored(vocab) => {
                Ok(hugging_face_write::scored(vocab, &self.model, self.prompt_bos))
            }
        }
    }

    /// The text of some ids. Markers such as BOS say nothing; ids beyond the vocabulary and bytes that
    /// form no character become U+FFFD. The space that encoding puts before a text is taken off, at
    /// the start and after BOS.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = self.stream();
        ids.iter().for_each(|&id| stream.append(id));
        match String::from_utf8(stream.into_bytes()) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// Returns the bytes that one token adds in the middle of a text: none for a marker, the UTF-8
    /// of U+FFFD for an id beyond the vocabulary.
    pub fn decode_bytes(&self, id: u32) -> Vec<u8> {
        self.text_of(id).to_vec()
    }

    /// A decoder for a text from its beginning, fed with one token at a time.
    pub fn stream(&self) -> Stream<&Tokenizer> {
        Stream::new(self, true)
    }

    /// A decoder for what follows after some text, such as a prompt: a leading space is kept.
    pub fn stream_after_text(&self) -> Stream<&Tokenizer> {
        Stream::new(self, false)
    }

    /// The number of ids: every id of [`Tokenizer::encode`] is below it.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The token that starts a document of training data. Whether a prompt begins with it is for
    /// [`Tokenizer::prompt_bos`] to say.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a document. Where one separator does both, it equals [`Tokenizer::bos`].
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that goes before a prompt, if the tokenizer asks for one: by the template of its
    /// post-processor, or by `add_bos_token` of a `tokenizer_config.json`. Vocabularies learned here,
    /// llama2.c's and SentencePiece's ask for [`Tokenizer::bos`].
    pub fn prompt_bos(&self) -> Option<u32> {
        self.prompt_bos
    }

    /// Returns the kind of tokenizer.
    pub fn kind(&self) -> TokenizerKind {
        self.kind
    }

    /// The bytes of a token, for a marker its name; `None` if no token has the id.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let token = self.tokens.get(id as usize).filter(|t| t.kind != Kind::Missing);
        token.map(|t| &*t.bytes)
    }

    /// The id of a marker or other added token, such as `<|im_end|>`.
    pub fn special(&self, name: &str) -> Option<u32> {
        let mut tokens = self.added.iter().chain(self.frozen.iter());
        tokens.find(|t| t.name == name).map(|t| t.id)
    }

    /// One line for people: the sort, the size, the markers.
    pub fn describe(&self) -> String {
        let sort = match self.kind {
            TokenizerKind::ByteLevelBpe => "byte-level BPE",
            TokenizerKind::Char => "characters",
            TokenizerKind::Llama2c => "llama2.c BPE",
            TokenizerKind::SentencePiece if matches!(self.model, Model::Unigram(_)) => {
                "SentencePiece unigram"
            }
            TokenizerKind::SentencePiece => "SentencePiece BPE",
            TokenizerKind::HuggingFaceBpe => "Hugging Face BPE over characters",
            TokenizerKind::HuggingFaceUnigram => "Hugging Face unigram",
        };
        let marker = |name: &str, id: Option<u32>| {
            id.map_or(format!("no {name}"), |id| {
                let bytes = self.token_bytes(id).unwrap_or_default();
                format!("{name} {id} {}", String::from_utf8_lossy(bytes))
            })
        };
        let (bos, eos) = (marker("bos", self.bos), marker("eos", self.eos));
        format!("{sort}, {} tokens, {bos}, {eos}", self.vocab_size())
    }

    /// Sets BOS and EOS by name, where such tokens exist, and whether BOS goes before a prompt.
    fn name_markers(&mut self, markers: &ConfigMarkers) {
        let old = (self.bos, self.eos, self.prompt_bos);
        let named = |name: &Option<String>| name.as_deref().and_then(|name| self.special(name));
        let (bos, eos) = (named(&markers.bos).or(self.bos), named(&markers.eos).or(self.eos));
        (self.bos, self.eos) = (bos, eos);
        match markers.add_bos {
            Some(true) => self.prompt_bos = bos,
            Some(false) => self.prompt_bos = None,
            None => {}
        }
        match &mut self.source {
            Source::Json { extended, .. } => *extended |= (bos, eos, self.prompt_bos) != old,
            Source::Scored(vocab) => (vocab.bos, vocab.eos) = (bos, eos),
        }
    }

    pub(crate) fn token_kind(&self, id: u32) -> Kind {
        self.tokens.get(id as usize).map_or(Kind::Missing, |t| t.kind)
    }

    pub(crate) fn text_of(&self, id: u32) -> &[u8] {
        const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();
        match self.token_kind(id) {
            Kind::Text | Kind::Byte | Kind::UserDefined => &self.tokens[id as usize].bytes,
            Kind::Control => &[],
            Kind::Unknown | Kind::Missing => REPLACEMENT,
        }
    }
}

/// A `{` that a quote or `}` follows: no binary format starts so.
fn looks_like_json(bytes: &[u8]) -> bool {
    let mut rest = bytes.iter().filter(|b| !b.is_ascii_whitespace());
    rest.next() == Some(&b'{') && matches!(rest.next(), Some(b'"' | b'}'))
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })
}

fn in_file(path: &Path) -> impl FnOnce(Error) -> Error + '_ {
    |source| Error::File { path: path.into(), source: Box::new(source) }
}
