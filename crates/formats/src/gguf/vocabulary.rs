//! The tokenizer as metadata: `tokenizer.ggml.model` is `llama` for scored pieces (SentencePiece's BPE,
//! llama2.c) and `gpt2` for byte-level BPE, whose patterns go by the names in [`PATTERNS`].
//!
//! Both ways lead through a `tokenizer.json`.

use super::container::Value;
use super::entry;
use crate::pieces::{SPACE_MARK, Table, Token, kind, named, scored};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use tokenizer::{Tokenizer, TokenizerKind};

/// Patterns that cut a text into words: the name in `tokenizer.ggml.pre`, the pattern (none: the one that
/// the ByteLevel step brings), and whether a word that is a token is taken whole.
pub(super) const PATTERNS: [(&str, Option<&str>, bool); 3] = [
    ("gpt-2", None, false),
    (
        "llama-bpe",
        Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        true,
    ),
    (
        "qwen2",
        Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        false,
    ),
];

// ---- writing ----

/// Returns the keys of a tokenizer for a model of `vocab` tokens, or why it has none.
pub(super) fn metadata(
    tokenizer: &Tokenizer,
    vocab: usize,
) -> Result<Vec<(String, Value)>, String> {
    let json = tokenizer.to_json().map_err(|e| e.to_string())?;
    let json: Json = serde_json::from_str(&json).map_err(|e| e.to_string())?;
    let (model, table, more) = match tokenizer.kind() {
        TokenizerKind::ByteLevelBpe => ("gpt2", named(&json)?, byte_level(&json)?),
        TokenizerKind::Llama2c | TokenizerKind::SentencePiece => {
            let (table, prefix) = scored(&json)?;
            ("llama", table, vec![entry("tokenizer.ggml.add_space_prefix", Value::Bool(prefix))])
        }
        other => return Err(format!("a tokenizer of the kind {other:?} has no name in it")),
    };
    let table = fill(table, vocab)?;
    let text = |text: &str| Value::Text(text.to_owned());
    let mut keys = vec![
        entry("tokenizer.ggml.model", text(model)),
        entry("tokenizer.ggml.tokens", Value::List(table.iter().map(|t| text(&t.name)).collect())),
        entry(
            "tokenizer.ggml.token_type",
            Value::List(table.iter().map(|t| Value::Whole(t.kind.into())).collect()),
        ),
    ];
    if model == "llama" {
        let scores = table.iter().map(|t| Value::F32(t.score)).collect();
        keys.push(entry("tokenizer.ggml.scores", Value::List(scores)));
        if let Some(id) = table.iter().position(|t| t.kind == kind::UNKNOWN) {
            keys.push(entry("tokenizer.ggml.unknown_token_id", Value::U32(id as u32)));
        }
    }
    keys.extend(more);
    keys.extend(markers(tokenizer));
    Ok(keys)
}

/// What begins a text, and whether a prompt begins with it.
fn markers(tokenizer: &Tokenizer) -> Vec<(String, Value)> {
    let bos = tokenizer.prompt_bos().or(tokenizer.bos());
    let mut keys: Vec<_> =
        bos.map(|id| entry("tokenizer.ggml.bos_token_id", Value::U32(id))).into_iter().collect();
    let asked = Value::Bool(tokenizer.prompt_bos().is_some());
    keys.push(entry("tokenizer.ggml.add_bos_token", asked));
    keys
}

/// Keys of tokens that end a text, a turn and a message; each ends what is generated.
const ENDS: [&str; 3] = ["eos", "eot", "eom"];

/// Returns the keys of the tokens that end a text.
pub(super) fn end_keys(ends: &[u32]) -> Result<Vec<(String, Value)>, String> {
    if ends.len() > ENDS.len() {
        let room = ENDS.len();
        return Err(format!(
            "{} tokens end a text ({ends:?}), but it has room for {room}",
            ends.len()
        ));
    }
    let key = |(name, id): (&&str, &u32)| {
        entry(format!("tokenizer.ggml.{name}_token_id"), Value::U32(*id))
    };
    Ok(ENDS.iter().zip(ends).map(key).collect())
}

/// The keys of a byte-level vocabulary: merges and the name of the pattern.
fn byte_level(json: &Json) -> Result<Vec<(String, Value)>, String> {
    let merges: Option<Vec<Value>> = (json["model"]["merges"].as_array().into_iter().flatten())
        .map(|merge| {
            let line = match merge {
                Json::Array(pair) => {
                    format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)
                }
                line => line.as_str()?.to_owned(),
            };
            Some(Value::Text(line))
        })
        .collect();
    let pre = pattern(json)?;
    Ok(vec![
        entry("tokenizer.ggml.pre", Value::Text(pre.to_owned())),
        entry("tokenizer.ggml.merges", Value::List(merges.ok_or("a merge is not a pair")?)),
    ])
}

/// The name of the pattern of a byte-level tokenizer.
fn pattern(json: &Json) -> Result<&'static str, String> {
    let step = &json["pre_tokenizer"];
    let one = std::slice::from_ref(step);
    let steps = step["pretokenizers"].as_array().map_or(one, Vec::as_slice);
    let last = steps.last().ok_or("the tokenizer has no pre_tokenizer")?;
    let flag = |name: &str| last[name].as_bool().unwrap_or(true);
    if last["type"] != "ByteLevel" || flag("add_prefix_space") {
        return Err("the tokenizer does not end in a plain ByteLevel step".to_owned());
    }
    let found = match &steps[..steps.len() - 1] {
        [] if flag("use_regex") => None,
        [split] if split["type"] == "Split" && !flag("use_regex") => {
            split["pattern"]["Regex"].as_str().map(Some).ok_or("the pattern is not a regex")?
        }
        _ => return Err("the tokenizer cuts words in several steps".to_owned()),
    };
    let whole = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
    let known = PATTERNS.iter().find(|(_, pattern, takes)| *pattern == found && *takes == whole);
    let (name, ..) = known.ok_or_else(|| {
        format!(
            "the tokenizer cuts words by {found:?} (ignore_merges {whole}), which has no name in it"
        )
    })?;
    // Qwen's composes characters first; llama.cpp expects texts that are composed.
    let composes = *name == "qwen2" && json["normalizer"]["type"] == "NFC";
    match &json["normalizer"] {
        Json::Null => Ok(name),
        _ if composes => Ok(name),
        other => Err(format!(
            "the tokenizer has the normalizer {}, which has no name in it",
            other["type"]
        )),
    }
}

/// The tokens of ids below `vocab`, with unused ones where there are none. No name may stand twice.
fn fill(table: Table, vocab: usize) -> Result<Vec<Token>, String> {
    if let Some((id, _)) = table.last_key_value().filter(|(id, _)| **id >= vocab as u64) {
        return Err(format!("the tokenizer has a token {id}, the model has {vocab}"));
    }
    let unused = |id| Token { name: format!("[PAD{id}]"), score: 0.0, kind: kind::UNUSED };
    let all: Vec<Token> =
        (0..vocab as u64).map(|id| table.get(&id).cloned().unwrap_or_else(|| unused(id))).collect();
    let mut seen = BTreeSet::new();
    match all.iter().find(|token| !seen.insert(&token.name)) {
        Some(token) => Err(format!("two tokens of the tokenizer are called {:?}", token.name)),
        None => Ok(all),
    }
}

// ---- reading ----

/// True if a file has a tokenizer.
pub(super) fn is_there(metadata: &BTreeMap<String, Value>) -> bool {
    let keys = Keys(metadata);
    let model = keys.get("model").and_then(Value::text);
    model.is_some_and(|model| !["none", "no_vocab"].contains(&model))
}

/// Control tokens at which llama.cpp ends a text wherever they are in a vocabulary.
const KNOWN_ENDS: [&str; 7] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
];

/// Returns the tokens that end a text.
pub(super) fn ends(metadata: &BTreeMap<String, Value>) -> Vec<u32> {
    let keys = Keys(metadata);
    let named = ENDS.iter().filter_map(|name| keys.id(name));
    let tokens = keys.tokens().unwrap_or_default();
    let known = tokens
        .iter()
        .zip(0u64..)
        .filter(|((name, kind), _)| *kind == kind::CONTROL && KNOWN_ENDS.contains(&name.as_str()));
    let mut ends: Vec<u32> =
        named.chain(known.map(|(_, id)| id)).filter_map(|id| u32::try_from(id).ok()).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// Returns the tokenizer of a file; none if it has none.
pub(super) fn read(metadata: &BTreeMap<String, Value>) -> Result<Option<Tokenizer>, String> {
    let keys = Keys(metadata);
    if !is_there(metadata) {
        return Ok(None);
    }
    let json = match keys.get("model").and_then(Value::text).unwrap_or_default() {
        "gpt2" => keys.byte_level_json()?,
        "llama" => keys.scored_json()?,
        other => {
            return Err(format!("`tokenizer.ggml.model` is {other}; gpt2 and llama are read"));
        }
    };
    if keys.flag("add_eos_token", false) {
        return Err(
            "`tokenizer.ggml.add_eos_token` is true; prompts here do not end with it".into()
        );
    }
    let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes(), "json");
    tokenizer.map(Some).map_err(|e| e.to_string())
}

/// The keys that begin with `tokenizer.ggml.`.
struct Keys<'m>(&'m BTreeMap<String, Value>);

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(&format!("tokenizer.ggml.{key}"))
    }

    fn list<T>(&self, key: &str, of: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
        let list = self.get(key).and_then(Value::list);
        let list: Option<Vec<T>> = list.and_then(|list| list.iter().map(of).collect());
        list.ok_or_else(|| format!("`tokenizer.ggml.{key}` is missing or of another type"))
    }

    fn id(&self, key: &str) -> Option<u64> {
        self.get(&format!("{key}_token_id")).and_then(Value::whole)
    }

    fn flag(&self, key: &str, absent: bool) -> bool {
        self.get(key).and_then(Value::truth).unwrap_or(absent)
    }

    /// Names with their kinds.
    fn tokens(&self) -> Result<Vec<(String, u64)>, String> {
        let names = self.list("tokens", |v| v.text().map(str::to_owned))?;
        let kinds = match self.get("token_type") {
            None => vec![kind::NORMAL; names.len()],
            Some(_) => self.list("token_type", Value::whole)?,
        };
        if kinds.len() != names.len() {
            return Err(format!("{} tokens have {} types", names.len(), kinds.len()));
        }
        Ok(names.into_iter().zip(kinds).collect())
    }

    /// Markers as `model.anegpt` and the post-processor say them. `bos` and `eos` are the ids of files
    /// that name none, `asks` whether a prompt then begins with BOS.
    fn markers(
        &self,
        tokens: &[(String, u64)],
        absent: [Option<u64>; 2],
        asks: bool,
    ) -> (Json, Json) {
        let known = |id: &u64| (*id as usize) < tokens.len();
        let bos = self.id("bos").or(absent[0]).filter(known);
        let eos = self.id("eos").or(absent[1]).filter(known);
        let post = match bos.filter(|_| self.flag("add_bos_token", asks)) {
            Some(bos) => begins_with(bos, &tokens[bos as usize].0),
            None => Json::Null,
        };
        (json!({"bos": bos, "eos": eos}), post)
    }

    fn byte_level_json(&self) -> Result<Json, String> {
        let tokens = self.tokens()?;
        let merges = self.list("merges", |v| v.text().map(str::to_owned))?;
        let name = self.get("pre").and_then(Value::text).unwrap_or("missing");
        let known = PATTERNS.iter().find(|(known, ..)| *known == name);
        let (_, pattern, whole) = known.ok_or_else(|| {
            let names = PATTERNS.map(|(name, ..)| name).join(", ");
            format!("`tokenizer.ggml.pre` is {name}; {names} are read")
        })?;
        // llama.cpp lets this pattern ask for BOS.
        let (anegpt, post) = self.markers(&tokens, [None, None], name == "llama-bpe");
        let all = || tokens.iter().zip(0u64..);
        let is_added = |kind: u64| kind == kind::CONTROL || kind == kind::USER_DEFINED;
        let vocab: Map<String, Json> = all()
            .filter(|((_, kind), _)| !is_added(*kind) && *kind != kind::UNUSED)
            .map(|((name, _), id)| (name.clone(), id.into()))
            .collect();
        let added: Vec<Json> = all()
            .filter(|((_, kind), _)| is_added(*kind))
            .map(|((name, kind), id)| added_token(id, name, *kind == kind::CONTROL))
            .collect();
        Ok(json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": words(*pattern), "post_processor": post,
            "decoder": bytes(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": whole, "vocab": vocab, "merges": merges,
                "anegpt": anegpt,
            },
        }))
    }

    fn scored_json(&self) -> Result<Json, String> {
        let tokens = self.tokens()?;
        let scores = self.list("scores", Value::fraction)?;
        if scores.len() != tokens.len() {
            return Err(format!("{} tokens have {} scores", tokens.len(), scores.len()));
        }
        let of_kind = |kind: u64| {
            let all = tokens.iter().zip(0u64..);
            all.filter(|((_, of), _)| *of == kind).map(|(_, id)| id).collect::<Vec<_>>()
        };
        let (mut anegpt, post) = self.markers(&tokens, [Some(1), Some(2)], true);
        anegpt["scored"] = json!({
            "family": TokenizerKind::SentencePiece, "algorithm": "bpe",
            "dummy_prefix": self.flag("add_space_prefix", true), "collapse_spaces": false,
            "space": SPACE_MARK, "control": of_kind(kind::CONTROL),
            "user_defined": of_kind(kind::USER_DEFINED), "unknown": of_kind(kind::UNKNOWN),
            "byte": of_kind(kind::BYTE), "scores": scores,
        });
        let mut vocab = Map::new();
        for ((name, _), id) in tokens.iter().zip(0u64..) {
            if vocab.insert(name.clone(), id.into()).is_some() {
                return Err(format!("two tokens are called {name:?}"));
            }
        }
        Ok(json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "post_processor": post, "decoder": null,
            "model": {"type": "BPE", "vocab": vocab, "merges": [], "anegpt": anegpt},
        }))
    }
}

fn added_token(id: u64, name: &str, special: bool) -> Json {
    json!({
        "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}

/// The step that turns words to bytes; with `regex`, the one that cuts them first by GPT-2's pattern.
fn bytes(regex: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex})
}

/// The steps that cut a text into words by a pattern of [`PATTERNS`].
fn words(pattern: Option<&str>) -> Json {
    let Some(pattern) = pattern else { return bytes(true) };
    let split = json!({
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false,
    });
    json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
}

/// The post-processor that puts a token before every text.
fn begins_with(id: u64, name: &str) -> Json {
    let (marker, text) = (
        json!({"SpecialToken": {"id": name, "type_id": 0}}),
        json!({"Sequence": {"id": "A", "type_id": 0}}),
    );
    json!({
        "type": "TemplateProcessing", "single": [marker, text], "pair": [marker, text],
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]}},
    })
}
