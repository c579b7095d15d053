//! The tokenizer as metadata: `tokenizer.ggml.model` is `llama` for scored pieces (SentencePiece's BPE,
//! llama2.c) and `gpt2` for byte-level BPE, whose patterns go by the names in [`PATTERNS`].
//!
//! Both ways lead through a `tokenizer.json`.

use super::container::Value;
use super::entry;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use tokenizer::{Family, Tokenizer};

/// SentencePiece's stand-in for a space.
const SPACE_MARK: &str = "▁";

/// Kinds of tokens.
mod kind {
    pub(super) const NORMAL: u64 = 1;
    pub(super) const UNKNOWN: u64 = 2;
    pub(super) const CONTROL: u64 = 3;
    pub(super) const USER_DEFINED: u64 = 4;
    pub(super) const UNUSED: u64 = 5;
    pub(super) const BYTE: u64 = 6;
}

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
    let (model, table, more) = match tokenizer.family() {
        Family::ByteLevelBpe => ("gpt2", named(&json)?, byte_level(&json)?),
        Family::Llama2c | Family::SentencePiece => scored(&json)?,
        other => return Err(format!("a tokenizer of the family {other:?} has no name in it")),
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

/// What begins and ends a text, and whether a prompt begins with it.
fn markers(tokenizer: &Tokenizer) -> Vec<(String, Value)> {
    let bos = tokenizer.prompt_bos().or(tokenizer.bos());
    let mut keys = vec![];
    for (name, id) in [("bos", bos), ("eos", tokenizer.eos().or(tokenizer.bos()))] {
        if let Some(id) = id {
            keys.push(entry(format!("tokenizer.ggml.{name}_token_id"), Value::U32(id)));
        }
    }
    let asked = Value::Bool(tokenizer.prompt_bos().is_some());
    keys.push(entry("tokenizer.ggml.add_bos_token", asked));
    keys
}

/// A token of the table.
#[derive(Clone, Debug)]
struct Token {
    name: String,
    score: f32,
    kind: u64,
}

/// Tokens by id.
type Table = BTreeMap<u64, Token>;

/// The tokens of the model and the added ones.
fn named(json: &Json) -> Result<Table, String> {
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

type Scored = (&'static str, Table, Vec<(String, Value)>);

/// The pieces of a scored vocabulary, with spaces written as SentencePiece writes them.
fn scored(json: &Json) -> Result<Scored, String> {
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
    let prefix = Value::Bool(scored["dummy_prefix"] == true);
    Ok(("llama", table, vec![entry("tokenizer.ggml.add_space_prefix", prefix)]))
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

/// Returns the tokenizer of a file; none if it has none.
pub(super) fn read(metadata: &BTreeMap<String, Value>) -> Result<Option<Tokenizer>, String> {
    let keys = Keys(metadata);
    let Some(model) = keys.get("model").and_then(Value::text) else { return Ok(None) };
    let json = match model {
        "gpt2" => keys.byte_level_json()?,
        "llama" => keys.scored_json()?,
        "none" | "no_vocab" => return Ok(None),
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
            "family": Family::SentencePiece, "algorithm": "bpe",
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
