//! Vocabularies of scored pieces, as SentencePiece learns them: what `tokenizer.model` and llama2.c's
//! `tokenizer.bin` hold, whichever way they write it.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::added::{AddedToken, AddedTokens};
use crate::bpe::{Alphabet, Fallback, MergeModel};
use crate::error::{Error, Result};
use crate::text::{Step, TextRules};
use crate::unigram::UnigramModel;
use crate::vocab::{Kind, Token, byte_of_name};
use crate::{Caches, Model, Source, Tokenizer, TokenizerKind};

/// Pieces beyond this length are refused: real vocabularies stay below a tenth of it, and deriving
/// merges takes the square of it.
pub(crate) const LONGEST_PIECE: usize = 1024;
/// SentencePiece's stand-in for a space.
pub(crate) const SPACE_MARK: char = '▁';

/// How pieces are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Algorithm {
    /// Merge the pair whose joined piece scores highest.
    Bpe,
    /// The most probable segmentation.
    Unigram,
    /// Every character by itself.
    Char,
}

/// One piece with its score and purpose.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) score: f32,
    pub(crate) kind: Kind,
}

/// A vocabulary of scored pieces with the rules of its text.
#[derive(Debug, Clone)]
pub(crate) struct ScoredVocab {
    pub(crate) format: &'static str,
    pub(crate) kind: TokenizerKind,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) algorithm: Algorithm,
    /// A space goes before the text.
    pub(crate) dummy_prefix: bool,
    /// Spaces at the ends and in runs are dropped.
    pub(crate) collapse_spaces: bool,
    /// How pieces write a space: [`SPACE_MARK`] or itself.
    pub(crate) space: char,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
}

impl ScoredVocab {
    /// Checks the pieces and builds the tokenizer.
    pub(crate) fn build(self) -> Result<Tokenizer> {
        self.check()?;
        let ids = self.text_ids();
        let fallback = self.fallback()?;
        let model = match self.algorithm {
            Algorithm::Unigram => Model::Unigram(self.unigram(fallback)),
            Algorithm::Bpe | Algorithm::Char => Model::Merge(self.merge_model(&ids, fallback)),
        };
        Ok(Tokenizer {
            kind: self.kind,
            tokens: self.pieces.iter().map(|p| self.token(p)).collect(),
            rules: self.rules(),
            model,
            added: self.matched(Kind::Control),
            frozen: match self.algorithm {
                Algorithm::Unigram => AddedTokens::default(),
                Algorithm::Bpe | Algorithm::Char => self.matched(Kind::UserDefined),
            },
            bos: self.bos,
            eos: self.eos,
            prompt_bos: self.bos,
            strip_leading_space: self.dummy_prefix,
            source: Source::Scored(Box::new(self)),
            caches: Caches::default(),
        })
    }

    fn check(&self) -> Result<()> {
        let mut seen: FxHashMap<&str, usize> = FxHashMap::default();
        for (id, piece) in self.pieces.iter().enumerate() {
            let refuse = |what: String| Err(Error::invalid(self.format, what));
            if !piece.score.is_finite() {
                return refuse(format!("the score of token {id} is {}, not a number", piece.score));
            }
            if piece.name.is_empty() && piece.kind != Kind::Missing {
                return refuse(format!("token {id} is empty"));
            }
            if piece.name.len() > LONGEST_PIECE {
                let n = piece.name.len();
                return refuse(format!(
                    "token {id} has {n} bytes; at most {LONGEST_PIECE} are sane"
                ));
            }
            if let Some(first) = seen.insert(&piece.name, id) {
                return refuse(format!("tokens {first} and {id} are both {:?}", piece.name));
            }
        }
        for (name, id) in [("bos", self.bos), ("eos", self.eos)] {
            if let Some(id) = id.filter(|&id| id as usize >= self.pieces.len()) {
                let n = self.pieces.len();
                return Err(Error::invalid(
                    self.format,
                    format!("{name} is token {id}, but there are only {n} tokens"),
                ));
            }
        }
        Ok(())
    }

    fn token(&self, piece: &Piece) -> Token {
        match piece.kind {
            Kind::Byte => Token::new([byte_of_name(&piece.name).unwrap_or(0)], Kind::Byte),
            Kind::Text | Kind::UserDefined if self.space != ' ' => {
                Token::new(piece.name.replace(self.space, " ").into_bytes(), piece.kind)
            }
            kind => Token::new(piece.name.clone().into_bytes(), kind),
        }
    }

    fn text_ids(&self) -> FxHashMap<&str, u32> {
        let text = self.pieces.iter().zip(0..).filter(|(p, _)| p.kind == Kind::Text);
        text.map(|(p, id)| (p.name.as_str(), id)).collect()
    }

    /// Bytes if all 256 have a token, else the unknown token, else an error at encoding.
    fn fallback(&self) -> Result<Fallback> {
        let mut bytes = [None; 256];
        for (piece, id) in self.pieces.iter().zip(0..) {
            if piece.kind == Kind::Byte {
                let byte = byte_of_name(&piece.name).ok_or_else(|| {
                    let name = &piece.name;
                    Error::invalid(self.format, format!("byte token {id} is named {name:?}"))
                })?;
                bytes[usize::from(byte)] = Some(id);
            }
        }
        let complete: Vec<u32> = bytes.iter().copied().flatten().collect();
        if let Ok(all) = <[u32; 256]>::try_from(complete) {
            return Ok(Fallback::Bytes(Box::new(all)));
        }
        let unknown = self.pieces.iter().position(|p| p.kind == Kind::Unknown);
        Ok(match unknown {
            // SentencePiece counts a run of unknown characters once.
            Some(id) => Fallback::Unknown { id: id as u32, fuse: true },
            None => Fallback::Refuse,
        })
    }

    fn unigram(&self, fallback: Fallback) -> UnigramModel {
        let usable = self.pieces.iter().zip(0..);
        let usable = usable.filter(|(p, _)| matches!(p.kind, Kind::Text | Kind::UserDefined));
        let pieces =
            usable.map(|(p, id)| (p.name.clone(), id, p.score, p.kind == Kind::UserDefined));
        UnigramModel::new(pieces, fallback)
    }

    fn merge_model(&self, ids: &FxHashMap<&str, u32>, fallback: Fallback) -> MergeModel {
        let first_virtual = self.pieces.len() as u32;
        let mut chars: FxHashMap<char, u32> = FxHashMap::default();
        for (piece, id) in self.pieces.iter().zip(0..) {
            if piece.kind == Kind::Text
                && let Some(c) = only_char(&piece.name)
            {
                chars.insert(c, id);
            }
        }
        let mut virtuals = Vec::new();
        let mut merges = FxHashMap::default();
        if self.algorithm == Algorithm::Bpe {
            for piece in self.pieces.iter().filter(|p| p.kind == Kind::Text) {
                for c in piece.name.chars() {
                    chars.entry(c).or_insert_with(|| {
                        virtuals.push(c);
                        first_virtual + virtuals.len() as u32 - 1
                    });
                }
            }
            self.derive_merges(ids, &chars, &mut merges);
        }
        let alphabet = Alphabet::Chars { ids: chars, first_virtual, virtuals, fallback };
        MergeModel { alphabet, merges, whole_words: FxHashMap::default() }
    }

    /// Every way to put a piece together from two symbols merges with the rank of its score.
    fn derive_merges(
        &self,
        ids: &FxHashMap<&str, u32>,
        chars: &FxHashMap<char, u32>,
        merges: &mut FxHashMap<(u32, u32), (u32, u32)>,
    ) {
        let symbol = |name: &str| match only_char(name) {
            Some(c) => chars.get(&c).copied(),
            None => ids.get(name).copied(),
        };
        let ranks = self.ranks();
        for (piece, id) in self.pieces.iter().zip(0..).filter(|(p, _)| p.kind == Kind::Text) {
            for (cut, _) in piece.name.char_indices().skip(1) {
                let (left, right) = piece.name.split_at(cut);
                if let (Some(l), Some(r)) = (symbol(left), symbol(right)) {
                    merges.insert((l, r), (ranks[id as usize], id));
                }
            }
        }
    }

    /// The place of every piece's score among the distinct scores, the highest being 0.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        // Adding zero turns -0 into +0: the two are one score.
        let mut scores: Vec<f32> = self.pieces.iter().map(|p| p.score + 0.0).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores.dedup();
        let place = |p: &Piece| scores.partition_point(|&s| s > p.score + 0.0) as u32;
        self.pieces.iter().map(place).collect()
    }

    fn rules(&self) -> TextRules {
        let mut steps = Vec::new();
        if self.collapse_spaces {
            let kept = self.matched(Kind::UserDefined);
            steps.push(Step::CollapseSpaces { mark: self.space, kept });
        }
        if self.dummy_prefix {
            steps.push(Step::Prepend(" ".into()));
        }
        if self.space != ' ' {
            steps.push(Step::Replace(" ".into(), self.space.into()));
        }
        let texts = self.pieces.iter().filter(|p| p.kind == Kind::Text);
        let names = texts.map(|p| p.name.as_str());
        // Unigram sums run over the whole text, so that rounding is SentencePiece's.
        let by_words = self.algorithm != Algorithm::Unigram && never_crosses(names, self.space);
        TextRules { steps, cut: by_words.then_some(self.space), ..TextRules::default() }
    }

    /// Tokens to look for in the text: markers, which only [`Tokenizer::encode_with_special`] does, or
    /// user-defined pieces.
    fn matched(&self, kind: Kind) -> AddedTokens {
        let pieces = self.pieces.iter().zip(0..).filter(|(p, _)| p.kind == kind);
        let token = |(p, id): (&Piece, u32)| AddedToken {
            name: p.name.clone(),
            pattern: p.name.clone(),
            id,
            special: kind == Kind::Control,
            ..AddedToken::default()
        };
        AddedTokens::new(pieces.map(token).collect())
    }
}

fn only_char(name: &str) -> Option<char> {
    let mut chars = name.chars();
    chars.next().filter(|_| chars.next().is_none())
}

/// True if no piece has a space behind something else. Then no merge crosses from a word to the
/// next space, and words can be segmented (and remembered) one by one with the same result.
pub(crate) fn never_crosses<'n>(mut names: impl Iterator<Item = &'n str>, space: char) -> bool {
    names.all(|name| !name.trim_start_matches(space).contains(space))
}
