//! Writing `tokenizer.json` so that Hugging Face's library reads it and gives the same ids.
//!
//! Settings that its format lacks go into an extra object `model.anegpt`, which that library
//! ignores: BOS and EOS, and the scores of pieces, from which the very same merges are derived
//! again.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bpe::MergeModel;
use crate::error::{Error, Result};
use crate::hugging_face::{FORMAT, NamedIds, template};
use crate::pieces::{Algorithm, Piece, ScoredVocab};
use crate::unigram::user_defined_score;
use crate::vocab::{ByteLetters, Kind};
use crate::{Model, TokenizerKind};

/// The object `model.anegpt`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Extension {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bos: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eos: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scored: Option<Scored>,
}

/// The data of a [`ScoredVocab`] beyond its names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scored {
    #[serde(rename = "family")]
    kind: TokenizerKind,
    algorithm: Algorithm,
    dummy_prefix: bool,
    collapse_spaces: bool,
    space: char,
    control: Vec<u32>,
    user_defined: Vec<u32>,
    unknown: Vec<u32>,
    byte: Vec<u32>,
    /// One per token.
    scores: Vec<f32>,
}

impl Scored {
    fn of(vocab: &ScoredVocab) -> Self {
        let of_kind = |kind: Kind| {
            let all = vocab.pieces.iter().zip(0..);
            all.filter(|(p, _)| p.kind == kind).map(|(_, id)| id).collect()
        };
        Scored {
            kind: vocab.kind,
            algorithm: vocab.algorithm,
            dummy_prefix: vocab.dummy_prefix,
            collapse_spaces: vocab.collapse_spaces,
            space: vocab.space,
            control: of_kind(Kind::Control),
            user_defined: of_kind(Kind::UserDefined),
            unknown: of_kind(Kind::Unknown),
            byte: of_kind(Kind::Byte),
            scores: vocab.pieces.iter().map(|p| p.score).collect(),
        }
    }

    /// Puts names and scores together again.
    pub(crate) fn restore(
        self,
        names: NamedIds,
        bos: Option<u32>,
        eos: Option<u32>,
    ) -> Result<ScoredVocab> {
        let (n, scores) = (names.len(), self.scores.len());
        if n != scores {
            let what = format!("model.anegpt has {scores} scores for {n} tokens");
            return Err(Error::invalid(FORMAT, what));
        }
        let missing = |score| Piece { name: String::new(), score, kind: Kind::Missing };
        let mut pieces: Vec<Piece> = self.scores.into_iter().map(missing).collect();
        for (name, id) in names {
            let piece = pieces.get_mut(id as usize).filter(|p| p.kind == Kind::Missing);
            let piece = piece.ok_or_else(|| {
                Error::invalid(FORMAT, format!("the id {id} of {name:?} is taken or out of range"))
            })?;
            (piece.name, piece.kind) = (name, Kind::Text);
        }
        let kinds = [
            (self.control, Kind::Control),
            (self.user_defined, Kind::UserDefined),
            (self.unknown, Kind::Unknown),
            (self.byte, Kind::Byte),
        ];
        for (id, kind) in kinds.iter().flat_map(|(ids, kind)| ids.iter().map(|id| (*id, *kind))) {
            let piece = pieces.get_mut(id as usize).ok_or_else(|| {
                Error::invalid(FORMAT, format!("model.anegpt names token {id} of {n}"))
            })?;
            piece.kind = kind;
        }
        Ok(ScoredVocab {
            format: FORMAT,
            kind: self.kind,
            pieces,
            algorithm: self.algorithm,
            dummy_prefix: self.dummy_prefix,
            collapse_spaces: self.collapse_spaces,
            space: self.space,
            bos,
            eos,
        })
    }
}

fn file(
    added: Vec<Value>,
    normalizer: Value,
    pre: Value,
    post: Value,
    decoder: Value,
    model: Value,
) -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": pre,
        "post_processor": post, "decoder": decoder, "model": model,
    })
}

fn added_token(id: u32, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}

/// The file `json` with more special tokens, the first of which is number `id`.
pub(crate) fn with_special(json: &str, id: u32, names: &[&str]) -> String {
    let mut file: Value = serde_json::from_str(json).expect("this crate reads or writes the file");
    let more = names.iter().zip(id..).map(|(name, id)| added_token(id, name, true));
    match &mut file["added_tokens"] {
        Value::Array(added) => added.extend(more),
        none => *none = more.collect(),
    }
    file.to_string()
}

/// The post-processor that puts BOS before every text.
fn starts_with(bos: Option<(u32, &str)>) -> Value {
    let Some((id, name)) = bos else { return Value::Null };
    let marker = |kind: u8| json!({"SpecialToken": {"id": name, "type_id": kind}});
    let text = |which: &str, kind: u8| json!({"Sequence": {"id": which, "type_id": kind}});
    json!({
        "type": "TemplateProcessing",
        "single": [marker(0), text("A", 0)],
        "pair": [marker(0), text("A", 0), marker(1), text("B", 1)],
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]}},
    })
}

fn bpe(vocab: Map<String, Value>, merges: Vec<Value>) -> Value {
    json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": false, "vocab": vocab, "merges": merges,
    })
}

/// A byte-level BPE vocabulary.
pub(crate) struct ByteLevel<'a> {
    /// The bytes of each token, of which the first 256 are single bytes.
    pub(crate) tokens: &'a [Vec<u8>],
    /// The parts of token `256 + i`.
    pub(crate) merges: &'a [(u32, u32)],
    /// The special token behind them all, with which every text begins.
    pub(crate) bos: &'a str,
    /// The splitting pattern, if it is not GPT-2's.
    pub(crate) pattern: Option<&'a str>,
}

/// The file of a byte-level BPE vocabulary.
pub(crate) fn byte_level(vocabulary: &ByteLevel<'_>) -> String {
    let ByteLevel { tokens, merges, bos, pattern } = vocabulary;
    let letters = ByteLetters::new();
    let name = |id: u32| letters.spell(&tokens[id as usize]);
    let mut vocab: Map<String, Value> =
        (0..tokens.len() as u32).map(|id| (name(id), id.into())).collect();
    let bos_id = tokens.len() as u32;
    vocab.insert((*bos).into(), bos_id.into());
    let merges = merges.iter().map(|&(l, r)| json!([name(l), name(r)])).collect();
    let bytes = |use_regex: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": use_regex,
        })
    };
    let pre = match pattern {
        None => bytes(true),
        Some(pattern) => {
            let split = json!({
                "type": "Split", "pattern": regex(pattern), "behavior": "Isolated", "invert": false,
            });
            json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
        }
    };
    let added = vec![added_token(bos_id, bos, true)];
    let post = starts_with(Some((bos_id, *bos)));
    file(added, Value::Null, pre, post, bytes(true), bpe(vocab, merges)).to_string()
}

/// One token per character, in the order given.
pub(crate) fn characters(chars: &[char]) -> String {
    let vocab = chars.iter().zip(0_u32..).map(|(c, id)| (c.to_string(), id.into())).collect();
    let decoder = json!({"type": "Fuse"});
    let none = Value::Null;
    file(vec![], none.clone(), none.clone(), none, decoder, bpe(vocab, vec![])).to_string()
}

/// A vocabulary of scored pieces, as BPE over characters with its merges written out, or unigram.
pub(crate) fn scored(vocab: &ScoredVocab, model: &Model, prompt_bos: Option<u32>) -> String {
    let names = || vocab.pieces.iter().zip(0_u32..);
    let markers = names().filter(|(p, _)| matches!(p.kind, Kind::Control | Kind::Unknown));
    let added = markers.map(|(p, id)| added_token(id, &p.name, true)).collect();
    let bos = prompt_bos.map(|id| (id, vocab.pieces[id as usize].name.as_str()));
    let unknown = vocab.pieces.iter().position(|p| p.kind == Kind::Unknown);
    let byte_fallback = vocab.pieces.iter().filter(|p| p.kind == Kind::Byte).count() == 256;
    let pre = match model {
        Model::Merge(merges) => symbols_apart(vocab, merges),
        Model::Unigram(_) => Value::Null,
    };
    let mut body = match model {
        Model::Merge(merges) => {
            let map = names().map(|(p, id)| (p.name.clone(), id.into())).collect();
            let mut body = bpe(map, merge_list(vocab, merges));
            body["unk_token"] = unknown.map(|id| vocab.pieces[id].name.clone()).into();
            body["fuse_unk"] = true.into();
            body["ignore_merges"] = (!pre.is_null()).into();
            body
        }
        Model::Unigram(_) => {
            let list: Vec<Value> =
                vocab.pieces.iter().map(|p| json!([p.name, unigram_score(p)])).collect();
            json!({"type": "Unigram", "unk_id": unknown, "vocab": list})
        }
    };
    body["byte_fallback"] = byte_fallback.into();
    let scored = Some(Scored::of(vocab));
    body["anegpt"] = json!(Extension { bos: vocab.bos, eos: vocab.eos, scored });
    file(added, normalizer(vocab), pre, starts_with(bos), decoder(vocab), body).to_string()
}

/// User-defined pieces are not known there; a score as SentencePiece gives them says as much.
fn unigram_score(piece: &Piece) -> f32 {
    match piece.kind {
        Kind::UserDefined => user_defined_score(piece.name.len()),
        _ => piece.score,
    }
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

fn regex(source: &str) -> Value {
    json!({"Regex": source})
}

fn any_of<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> String {
    let texts: Vec<_> =
        texts.into_iter().map(|t| fancy_regex::escape(t.as_ref()).into_owned()).collect();
    texts.join("|")
}

/// The names of user-defined pieces, the longest first.
fn symbols(vocab: &ScoredVocab) -> Vec<&str> {
    let symbols = vocab.pieces.iter().filter(|p| p.kind == Kind::UserDefined);
    let mut symbols: Vec<&str> = symbols.map(|p| p.name.as_str()).collect();
    symbols.sort_by_key(|name| std::cmp::Reverse(name.len()));
    symbols
}

/// A pre-tokenizer that sets user-defined pieces apart, so that they are words, which `ignore_merges`
/// then takes whole. (As added tokens they would end the text before them, and what follows would get
/// the prefix of a new text.) Null without such pieces.
///
/// Other words that are a piece, but not one that merges give, such as the name of a byte, are cut
/// behind the first token that merges give: nothing merges across that place.
fn symbols_apart(vocab: &ScoredVocab, model: &MergeModel) -> Value {
    let symbols = symbols(vocab);
    if symbols.is_empty() {
        return Value::Null;
    }
    let split = |source: &str| json!({"type": "Split", "pattern": regex(source), "behavior": "Isolated", "invert": false});
    let mut steps = vec![split(&any_of(symbols))];
    let mut cuts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (piece, id) in vocab.pieces.iter().zip(0..) {
        if let Some(at) = first_token_end(vocab, model, piece, id) {
            let (first, rest) = piece.name.split_at(at);
            cuts.entry(first).or_default().push(rest);
        }
    }
    if !cuts.is_empty() {
        let one = |(first, rest): (&&str, &Vec<&str>)| {
            format!(r"\A{}(?=(?:{})\z)", fancy_regex::escape(first), any_of(rest))
        };
        steps.push(split(&cuts.iter().map(one).collect::<Vec<_>>().join("|")));
    }
    json!({"type": "Sequence", "pretokenizers": steps})
}

/// Where the first token ends that merges give for the name of a piece, unless they give the piece.
fn first_token_end(
    vocab: &ScoredVocab,
    model: &MergeModel,
    piece: &Piece,
    id: u32,
) -> Option<usize> {
    if matches!(piece.kind, Kind::UserDefined | Kind::Missing) {
        return None;
    }
    let mut ids = Vec::new();
    model.encode_word(&piece.name, 0, &mut ids).ok()?;
    if ids == [id] {
        return None;
    }
    let first = &vocab.pieces[*ids.first()? as usize];
    let end = match first.kind {
        Kind::Text => first.name.len(),
        _ => piece.name.chars().next()?.len_utf8(),
    };
    (end < piece.name.len()).then_some(end)
}

fn normalizer(vocab: &ScoredVocab) -> Value {
    let mut steps = Vec::new();
    if vocab.collapse_spaces {
        let spaced = symbols(vocab).iter().any(|name| name.contains(' '));
        // What stands before \K is kept: a user-defined piece, whatever spaces are in it.
        let runs = match spaced {
            true => format!(r"(?<= ) +|(?:{})\K(?:(?<= ) +)?", any_of(symbols(vocab))),
            false => "(?<= ) +".to_string(),
        };
        steps.push(replace(regex(r"\A +"), ""));
        steps.push(replace(regex(&runs), ""));
        steps.push(replace(regex(&format!(r"[ {}]+\z", vocab.space)), ""));
    }
    if vocab.dummy_prefix {
        steps.push(json!({"type": "Prepend", "prepend": vocab.space}));
    }
    if vocab.space != ' ' {
        steps.push(replace(json!({"String": " "}), &vocab.space.to_string()));
    }
    json!({"type": "Sequence", "normalizers": steps})
}

fn decoder(vocab: &ScoredVocab) -> Value {
    let mut steps = Vec::new();
    if vocab.space != ' ' {
        steps.push(replace(json!({"String": vocab.space}), " "));
    }
    steps.push(json!({"type": "ByteFallback"}));
    steps.push(json!({"type": "Fuse"}));
    if vocab.dummy_prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

/// The merges by rank; those of one piece, or of equal score, by their parts. Merges whose parts have
/// no token of their own cannot be said here.
fn merge_list(vocab: &ScoredVocab, model: &MergeModel) -> Vec<Value> {
    let n = vocab.pieces.len() as u32;
    let table: &FxHashMap<_, _> = &model.merges;
    let mut list: Vec<(u32, u32, u32, u32)> =
        table.iter().map(|(&(l, r), &(rank, joined))| (rank, joined, l, r)).collect();
    list.retain(|&(_, _, l, r)| l < n && r < n);
    list.sort_unstable();
    let name = |id: u32| &vocab.pieces[id as usize].name;
    list.into_iter().map(|(_, _, l, r)| json!([name(l), name(r)])).collect()
}

/// The text of a file with BOS and EOS noted in it, and a post-processor that puts `prompt_bos` (with
/// its name) before every text.
pub(crate) fn with_markers(
    text: &str,
    bos: Option<u32>,
    eos: Option<u32>,
    prompt_bos: Option<(u32, &str)>,
) -> Result<String> {
    let mut file: Value =
        serde_json::from_str(text).map_err(|e| Error::invalid(FORMAT, e.to_string()))?;
    file["model"]["anegpt"] = json!(Extension { bos, eos, scored: None });
    if template(&file["post_processor"]).0 != prompt_bos.map(|(_, name)| name) {
        file["post_processor"] = starts_with(prompt_bos);
    }
    Ok(file.to_string())
}
