//! The tokens of a vocabulary, as formats need them that list names, scores and kinds.

use serde_json::Value as Json;
use std::collections::BTreeMap;

/// SentencePiece's stand-in for a space.
pub(crate) const SPACE_MARK: &str = "▁";

/// Kinds of tokens.
pub(crate) mod kind {
    pub(crate) const NORMAL: u64 = 1;
    pub(crate) const UNKNOWN: u64 = 2;
    pub(crate) const CONTROL: u64 = 3;
    pub(crate) const USER_DEFINED: u64 = 4;
    pub(crate) const UNUSED: u64 = 5;
    pub(crate) const BYTE: u64 = 6;
}

/// A token of the table.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) score: f32,
    pub(crate) kind: u64,
}

/// Tokens by id.
pub(crate) type Table = BTreeMap<u64, Token>;

/// The tokens of the model and the added ones.
pub(crate) fn named(json: &Json) -> Result<Table, String> {
    let mut table = Table::new();
    let vocab = json["model"]["vocab"].as_object().ok_or("its vocabulary is not an object")?;
    for (name, id) in vocab {
        let id = id.as_u64().ok_or_else(|| format!("the id of {name:?} is not a number"))?;
        table.insert(id, Token { name: name.clone(), score: 0.0, kind: kind::NORMAL });
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let (id, name) = (added["id"].as_u64(), added["content"].as_str());
        let (id, name) = id.zip(name).ok_or("an added token without id or content")?;
        let kind = match added["special"].as_bool() {
            Some(true) => kind::CONTROL,
            _ => kind::USER_DEFINED,
        };
        table.insert(id, Token { name: name.to_owned(), score: 0.0, kind });
    }
    Ok(table)
}

/// The pieces of a scored vocabulary, with spaces written as SentencePiece writes them, and whether a
/// space goes before a text.
pub(crate) fn scored(json: &Json) -> Result<(Table, bool), String> {
    let scored = &json["model"]["anegpt"]["scored"];
    if scored["algorithm"] != "bpe" {
        return Err(format!("the tokenizer's algorithm is {}, not BPE", scored["algorithm"]));
    }
    if scored["collapse_spaces"] != false {
        return Err("the tokenizer drops spaces in runs, which it has no name for".to_owned());
    }
    let mut table = named(json)?;
    let scores = scored["scores"].as_array().ok_or("the tokenizer has no scores")?;
    for (id, token) in &mut table {
        let score = scores.get(*id as usize).and_then(Json::as_f64);
        token.score = score.ok_or_else(|| format!("token {id} has no score"))? as f32;
        token.kind = kind::NORMAL;
        if scored["space"] == " " {
            token.name = token.name.replace(' ', SPACE_MARK);
        }
    }
    for (name, kind) in [
        ("control", kind::CONTROL),
        ("user_defined", kind::USER_DEFINED),
        ("unknown", kind::UNKNOWN),
        ("byte", kind::BYTE),
    ] {
        for id in scored[name].as_array().into_iter().flatten().filter_map(Json::as_u64) {
            table.get_mut(&id).ok_or_else(|| format!("there is no token {id}"))?.kind = kind;
        }
    }
    if table.values().filter(|token| token.kind == kind::BYTE).count() != 256 {
        return Err("the tokenizer has no tokens for single bytes".to_owned());
    }
    Ok((table, scored["dummy_prefix"] == true))
}
