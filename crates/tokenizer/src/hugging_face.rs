//! Reading Hugging Face's `tokenizer.json`: byte-level BPE (GPT-2, Llama 3, Qwen), BPE over
//! characters with byte fallback (Llama 2) and unigram, with the normalisers and pre-tokenizers that
//! these use. What a file asks for beyond that is refused by name.

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::Value;

use crate::bpe::{Alphabet, Fallback, MergeModel};
use crate::error::{Error, Result};
use crate::pieces::{LONGEST_PIECE, SPACE_MARK, never_crosses};
use crate::unigram::UnigramModel;
use crate::vocab::{ByteLetters, byte_name};
use crate::{Caches, Model, Source, Tokenizer, TokenizerKind, hugging_face_write::Extension};

mod text;
mod tokens;

use text::{mentions_byte_level, strips_leading_space, text_rules};
use tokens::{added_tokens, markers, tokens};

pub(crate) use tokens::{ConfigMarkers, template};

pub(crate) const FORMAT: &str = "tokenizer.json";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<RawAdded>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: RawModel,
}

#[derive(Deserialize)]
struct RawAdded {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
    normalized: Option<bool>,
}

#[derive(Deserialize)]
struct RawModel {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Value,
    #[serde(default)]
    merges: Vec<RawMerge>,
    unk_token: Option<String>,
    unk_id: Option<u32>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    dropout: Option<f32>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    anegpt: Option<Extension>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawMerge {
    Pair(String, String),
    Line(String),
}

fn invalid(what: impl Into<String>) -> Error {
    Error::invalid(FORMAT, what)
}

fn unsupported(what: impl Into<String>) -> Error {
    Error::unsupported(FORMAT, what)
}

/// Reads the text of a file.
pub(crate) fn read(text: &str) -> Result<Tokenizer> {
    let mut file: File = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
    let kind = file.model.kind.take().unwrap_or_else(|| "BPE".into());
    let byte_level = [&file.pre_tokenizer, &file.decoder].iter().any(|v| mentions_byte_level(v));
    let (names, scores) = match kind.as_str() {
        "BPE" => (bpe_names(&file.model.vocab)?, vec![]),
        "Unigram" => unigram_names(&file.model.vocab)?,
        other => return Err(unsupported(format!("model type {other:?}"))),
    };
    let extension = file.model.anegpt.take().unwrap_or_default();
    if let Some(scored) = extension.scored {
        let mut tokenizer = scored.restore(names, extension.bos, extension.eos)?.build()?;
        tokenizer.prompt_bos = template(&file.post_processor).0.and_then(|n| tokenizer.special(n));
        return Ok(tokenizer);
    }
    let vocab = Names::new(names, &file.added_tokens)?;
    check_model(&file.model, &vocab)?;
    let mut rules = text_rules(&file)?;
    let model = match kind.as_str() {
        "Unigram" => Model::Unigram(unigram(&file.model, &vocab, &scores)?),
        _ if byte_level => Model::Merge(byte_level_model(&file.model, &vocab)?),
        _ => Model::Merge(char_model(&file.model, &vocab)?),
    };
    let kind = match &model {
        Model::Unigram(_) => TokenizerKind::HuggingFaceUnigram,
        _ if byte_level => TokenizerKind::ByteLevelBpe,
        Model::Merge(m) if m.is_chars_only() && !file.model.byte_fallback => TokenizerKind::Char,
        Model::Merge(_) => TokenizerKind::HuggingFaceBpe,
    };
    if kind == TokenizerKind::HuggingFaceBpe
        && rules.splits.is_empty()
        && never_crosses(vocab.texts(), SPACE_MARK)
    {
        rules.cut = Some(SPACE_MARK);
    }
    let (bos, eos) = markers(&file, &vocab, &extension);
    let (added, frozen) = added_tokens(&file.added_tokens, &rules)?;
    let mut tokenizer = Tokenizer {
        kind,
        tokens: tokens(&vocab, &file.added_tokens, byte_level, file.model.byte_fallback),
        rules,
        model,
        added,
        frozen,
        bos,
        eos,
        prompt_bos: None,
        strip_leading_space: strips_leading_space(&file.decoder),
        source: Source::Json { text: text.into(), extended: false },
        caches: Caches::default(),
    };
    tokenizer.prompt_bos = template(&file.post_processor).0.and_then(|n| tokenizer.special(n));
    Ok(tokenizer)
}

/// Names of tokens with their ids, as a file lists them.
pub(crate) type NamedIds = Vec<(String, u32)>;

/// Token names by id, added tokens included, and the ids of the model's own.
struct Names {
    by_id: Vec<Option<String>>,
    in_model: FxHashMap<String, u32>,
}

impl Names {
    fn new(names: NamedIds, added: &[RawAdded]) -> Result<Self> {
        let in_model: FxHashMap<String, u32> = names.iter().cloned().collect();
        let added = added.iter().map(|a| (a.content.clone(), a.id));
        let all: NamedIds = names.into_iter().chain(added).collect();
        let size = all.iter().map(|&(_, id)| u64::from(id) + 1).max().unwrap_or(0);
        // A few unused ids are common; a file must not make us allocate billions of them.
        let limit = 2 * all.len() as u64 + 1024;
        if size == 0 || size > limit {
            let n = all.len();
            return Err(invalid(format!("the vocabulary has {n} tokens but ids up to {size}")));
        }
        let mut by_id: Vec<Option<String>> = vec![None; size as usize];
        for (name, id) in all {
            let slot = &mut by_id[id as usize];
            if let Some(other) = slot.as_ref().filter(|&other| *other != name) {
                return Err(invalid(format!("{other:?} and {name:?} both have the id {id}")));
            }
            *slot = Some(name);
        }
        Ok(Names { by_id, in_model })
    }

    fn model_id(&self, name: &str) -> Option<u32> {
        self.in_model.get(name).copied()
    }

    /// The names of the model's tokens.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let names = self.by_id.iter().flatten().map(String::as_str);
        names.filter(|name| self.in_model.contains_key(*name))
    }
}

fn bpe_names(vocab: &Value) -> Result<NamedIds> {
    let map = vocab.as_object().ok_or_else(|| invalid("model.vocab is not an object"))?;
    map.iter()
        .map(|(name, id)| {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| invalid(format!("the id of {name:?} is not a number")))?;
            Ok((name.clone(), id))
        })
        .collect()
}

fn unigram_names(vocab: &Value) -> Result<(NamedIds, Vec<f32>)> {
    let bad = || invalid("model.vocab of Unigram is not a list of [piece, score]");
    let list = vocab.as_array().ok_or_else(bad)?;
    let (mut names, mut scores) = (Vec::new(), Vec::new());
    for (entry, id) in list.iter().zip(0..) {
        let name = entry.get(0).and_then(Value::as_str).ok_or_else(bad)?;
        let score = entry.get(1).and_then(Value::as_f64).ok_or_else(bad)? as f32;
        if !score.is_finite() || name.len() > LONGEST_PIECE {
            return Err(invalid(format!("piece {id} is too long or its score out of range")));
        }
        names.push((name.to_string(), id));
        scores.push(score);
    }
    Ok((names, scores))
}

fn check_model(model: &RawModel, vocab: &Names) -> Result<()> {
    let affix = |a: &Option<String>| a.as_ref().is_some_and(|a| !a.is_empty());
    if affix(&model.continuing_subword_prefix) || affix(&model.end_of_word_suffix) {
        return Err(unsupported("continuing_subword_prefix or end_of_word_suffix"));
    }
    if model.dropout.is_some_and(|p| p != 0.0) {
        return Err(unsupported("BPE dropout"));
    }
    if let Some(unk) = &model.unk_token
        && vocab.model_id(unk).is_none()
    {
        return Err(invalid(format!("unk_token {unk:?} is not in the vocabulary")));
    }
    Ok(())
}

// ---- the model ----

fn merge_table(model: &RawModel, vocab: &Names) -> Result<FxHashMap<(u32, u32), (u32, u32)>> {
    let mut merges = FxHashMap::default();
    for (merge, rank) in model.merges.iter().zip(0..) {
        let (left, right) = match merge {
            RawMerge::Pair(left, right) => (left.as_str(), right.as_str()),
            RawMerge::Line(line) => line
                .split_once(' ')
                .filter(|(_, right)| !right.contains(' '))
                .ok_or_else(|| invalid(format!("merge {rank}, {line:?}, is not a pair")))?,
        };
        let id = |name: &str| {
            vocab.model_id(name).ok_or_else(|| {
                invalid(format!("merge {rank} needs {name:?}, which is not in the vocabulary"))
            })
        };
        let joined = id(&format!("{left}{right}"))?;
        merges.insert((id(left)?, id(right)?), (rank, joined));
    }
    Ok(merges)
}

fn byte_level_model(model: &RawModel, vocab: &Names) -> Result<MergeModel> {
    let letters = ByteLetters::new();
    let ids = std::array::from_fn(|b| vocab.model_id(&letters.letter(b as u8).to_string()));
    let mut whole_words = FxHashMap::default();
    if model.ignore_merges {
        for name in vocab.texts() {
            let text = letters.read(name).and_then(|bytes| String::from_utf8(bytes).ok());
            if let (Some(text), Some(id)) = (text, vocab.model_id(name)) {
                whole_words.insert(text.into_boxed_str(), id);
            }
        }
    }
    let alphabet = Alphabet::Bytes(Box::new(ids));
    Ok(MergeModel { alphabet, merges: merge_table(model, vocab)?, whole_words })
}

fn char_model(model: &RawModel, vocab: &Names) -> Result<MergeModel> {
    let mut ids = FxHashMap::default();
    let mut whole_words = FxHashMap::default();
    for name in vocab.texts() {
        let Some(id) = vocab.model_id(name) else { continue };
        let mut chars = name.chars();
        if let (Some(c), None) = (chars.next(), chars.next()) {
            ids.insert(c, id);
        }
        if model.ignore_merges {
            whole_words.insert(name.into(), id);
        }
    }
    let unknown = model.unk_token.as_deref().and_then(|name| vocab.model_id(name));
    let alphabet = Alphabet::Chars {
        ids,
        first_virtual: u32::MAX,
        virtuals: vec![],
        fallback: fallback(model, vocab, unknown, model.fuse_unk)?,
    };
    Ok(MergeModel { alphabet, merges: merge_table(model, vocab)?, whole_words })
}

fn fallback(model: &RawModel, vocab: &Names, unknown: Option<u32>, fuse: bool) -> Result<Fallback> {
    if model.byte_fallback {
        let ids: Option<Vec<u32>> = (0..=255).map(|b| vocab.model_id(&byte_name(b))).collect();
        let ids = ids.and_then(|ids| <[u32; 256]>::try_from(ids).ok());
        let ids = ids.ok_or_else(|| {
            invalid("byte_fallback is set, but the 256 tokens <0x00> to <0xFF> are not all there")
        })?;
        return Ok(Fallback::Bytes(Box::new(ids)));
    }
    Ok(match unknown {
        Some(id) => Fallback::Unknown { id, fuse },
        None => Fallback::Refuse,
    })
}

fn unigram(model: &RawModel, vocab: &Names, scores: &[f32]) -> Result<UnigramModel> {
    if let Some(id) = model.unk_id.filter(|&id| id as usize >= scores.len()) {
        return Err(invalid(format!("unk_id {id} is not in the vocabulary")));
    }
    let pieces = scores.iter().zip(0..).filter_map(|(&score, id)| {
        let name = vocab.by_id[id as usize].clone()?;
        (Some(id) != model.unk_id).then_some((name, id, score, false))
    });
    Ok(UnigramModel::new(pieces, fallback(model, vocab, model.unk_id, true)?))
}

impl MergeModel {
    /// A vocabulary of single characters, strangers being refused.
    fn is_chars_only(&self) -> bool {
        self.merges.is_empty()
            && matches!(self.alphabet, Alphabet::Chars { fallback: Fallback::Refuse, .. })
    }
}
