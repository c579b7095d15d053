//! The tokens of a `tokenizer.json` beside its model's: added ones, and which are BOS and EOS.

use serde_json::Value;

use super::text::items;
use super::{File, Names, RawAdded};
use crate::added::{AddedToken, AddedTokens};
use crate::error::{Error, Result};
use crate::hugging_face_write::Extension;
use crate::pieces::SPACE_MARK;
use crate::text::TextRules;
use crate::vocab::{ByteLetters, Kind, Token, byte_of_name};

/// The added tokens: those matched in the text as it is given, and those matched in normalised text,
/// whose names are normalised as well.
pub(super) fn added_tokens(
    raw: &[RawAdded],
    rules: &TextRules,
) -> Result<(AddedTokens, AddedTokens)> {
    let (mut given, mut normalised) = (vec![], vec![]);
    for token in raw {
        let RawAdded { id, special, lstrip, rstrip, single_word, .. } = *token;
        let in_normalised = token.normalized.unwrap_or(!special);
        let name = token.content.clone();
        let pattern =
            if in_normalised { rules.normalise(&name)?.into_owned() } else { name.clone() };
        let list = if in_normalised { &mut normalised } else { &mut given };
        list.push(AddedToken { name, pattern, id, special, lstrip, rstrip, single_word });
    }
    Ok((AddedTokens::new(given), AddedTokens::new(normalised)))
}

pub(super) fn tokens(
    vocab: &Names,
    added: &[RawAdded],
    byte_level: bool,
    byte_fallback: bool,
) -> Vec<Token> {
    let letters = ByteLetters::new();
    let text = |name: &String| match byte_level {
        true => letters.read(name).unwrap_or_else(|| name.as_bytes().to_vec()),
        false => name.replace(SPACE_MARK, " ").into_bytes(),
    };
    let plain = |name: &Option<String>| match name {
        None => Token::new([], Kind::Missing),
        Some(name) => match byte_of_name(name).filter(|_| byte_fallback) {
            Some(byte) => Token::new([byte], Kind::Byte),
            None => Token::new(text(name), Kind::Text),
        },
    };
    let mut tokens: Vec<Token> = vocab.by_id.iter().map(plain).collect();
    for a in added {
        let kind = if a.special { Kind::Control } else { Kind::UserDefined };
        tokens[a.id as usize] = Token::new(a.content.clone().into_bytes(), kind);
    }
    tokens
}

/// BOS and EOS: what this crate noted, else the post-processor's template, else well-known names.
pub(super) fn markers(
    file: &File,
    vocab: &Names,
    extension: &Extension,
) -> (Option<u32>, Option<u32>) {
    const BOS: [&str; 5] = ["<|bos|>", "<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"];
    const EOS: [&str; 5] = ["</s>", "<|eos|>", "<eos>", "<|end_of_text|>", "<|endoftext|>"];
    let special = |name: &str| {
        let known = file.added_tokens.iter().find(|a| a.special && a.content == name);
        known.map(|a| a.id)
    };
    let first_of = |names: &[&str]| names.iter().find_map(|name| special(name));
    let (before, after) = template(&file.post_processor);
    let valid = |id: &u32| vocab.by_id.get(*id as usize).is_some_and(Option::is_some);
    let bos = before.and_then(special).or_else(|| first_of(&BOS));
    // One separator between documents both ends and starts them.
    let separator = bos.filter(|_| ["<|bos|>", "<|endoftext|>"].map(special).contains(&bos));
    let eos = after.and_then(special).or_else(|| first_of(&EOS)).or(separator);
    (extension.bos.filter(valid).or(bos), extension.eos.filter(valid).or(eos))
}

/// The names of the markers that a post-processor puts before and behind a text.
pub(crate) fn template<'v>(value: &'v Value) -> (Option<&'v str>, Option<&'v str>) {
    for (kind, value) in items(value, "processors").unwrap_or_default() {
        match kind {
            "TemplateProcessing" => {
                let parts = value["single"].as_array();
                let name = |part: Option<&'v Value>| part?["SpecialToken"]["id"].as_str();
                return (name(parts.and_then(|p| p.first())), name(parts.and_then(|p| p.last())));
            }
            "BertProcessing" | "RobertaProcessing" => {
                return (value["cls"][0].as_str(), value["sep"][0].as_str());
            }
            _ => {}
        }
    }
    (None, None)
}

/// BOS and EOS of a `tokenizer_config.json`.
pub(crate) struct ConfigMarkers {
    pub(crate) bos: Option<String>,
    pub(crate) eos: Option<String>,
    /// True if BOS goes before a text; if said at all, it outweighs the template.
    pub(crate) add_bos: Option<bool>,
}

impl ConfigMarkers {
    /// Reads the text of a file; a marker is a string, or an object with `content`.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let config: Value = serde_json::from_str(text)
            .map_err(|e| Error::invalid("tokenizer_config.json", e.to_string()))?;
        let name = |key: &str| {
            let value = &config[key];
            value.as_str().or_else(|| value["content"].as_str()).map(str::to_string)
        };
        let add_bos = config["add_bos_token"].as_bool();
        Ok(ConfigMarkers { bos: name("bos_token"), eos: name("eos_token"), add_bos })
    }
}
