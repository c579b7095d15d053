//! Reading Hugging Face's `tokenizer.json`: byte-level BPE (GPT-2, Llama 3, Qwen), BPE over
//! characters with byte fallback (Llama 2) and unigram, with the normalisers and pre-tokenizers that
//! these use. What a file asks for beyond that is refused by name.

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::Value;

use crate::added::{AddedToken, AddedTokens};
use crate::bpe::{Alphabet, Fallback, MergeModel};
use crate::error::{Error, Result};
use crate::pieces::{LONGEST_PIECE, SPACE_MARK, never_crosses};
use crate::text::{GPT2_PATTERN, Pattern, Split, Step, TextRules};
use crate::unigram::UnigramModel;
use crate::vocab::{ByteLetters, Kind, Token, byte_name, byte_of_name};
use crate::{Caches, Family, Model, Source, Tokenizer, hugging_face_write::Extension};

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
        return scored.restore(names, extension.bos, extension.eos)?.build();
    }
    let vocab = Names::new(names, &file.added_tokens)?;
    check_model(&file.model, &vocab)?;
    let mut rules = text_rules(&file)?;
    let model = match kind.as_str() {
        "Unigram" => Model::Unigram(unigram(&file.model, &vocab, &scores)?),
        _ if byte_level => Model::Merge(byte_level_model(&file.model, &vocab)?),
        _ => Model::Merge(char_model(&file.model, &vocab)?),
    };
    let family = match &model {
        Model::Unigram(_) => Family::HuggingFaceUnigram,
        _ if byte_level => Family::ByteLevelBpe,
        Model::Merge(m) if m.is_chars_only() && !file.model.byte_fallback => Family::Char,
        Model::Merge(_) => Family::HuggingFaceBpe,
    };
    if family == Family::HuggingFaceBpe
        && rules.splits.is_empty()
        && never_crosses(vocab.texts(), SPACE_MARK)
    {
        rules.splits.push(Split::BeforeRun(SPACE_MARK));
    }
    let (bos, eos) = markers(&file, &vocab, &extension);
    Ok(Tokenizer {
        family,
        tokens: tokens(&vocab, &file.added_tokens, byte_level, file.model.byte_fallback),
        rules,
        model,
        added: added_tokens(&file.added_tokens)?,
        frozen: AddedTokens::default(),
        bos,
        eos,
        strip_leading_space: strips_leading_space(&file.decoder),
        source: Source::Json { text: text.into(), extended: false },
        caches: Caches::default(),
    })
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

// ---- text ----

/// The items of a `Sequence`, or the one item, or none.
fn items<'v>(value: &'v Value, list: &str) -> Result<Vec<(&'v str, &'v Value)>> {
    if value.is_null() {
        return Ok(vec![]);
    }
    let kind = value["type"].as_str().ok_or_else(|| invalid("a component without a type"))?;
    if kind != "Sequence" {
        return Ok(vec![(kind, value)]);
    }
    let parts = value[list].as_array();
    let parts = parts.ok_or_else(|| invalid(format!("a Sequence without {list}")))?;
    let mut out = Vec::new();
    for part in parts {
        out.extend(items(part, list)?);
    }
    Ok(out)
}

fn string(value: &Value, key: &str) -> Result<String> {
    let text = value[key].as_str().ok_or_else(|| invalid(format!("{key:?} is not a string")))?;
    Ok(text.to_string())
}

fn mentions_byte_level(value: &Value) -> bool {
    ["pretokenizers", "decoders"].iter().any(|list| {
        items(value, list).is_ok_and(|items| items.iter().any(|&(kind, _)| kind == "ByteLevel"))
    })
}

fn text_rules(file: &File) -> Result<TextRules> {
    let mut rules = TextRules::default();
    for (kind, value) in items(&file.normalizer, "normalizers")? {
        rules.steps.push(normalizer(kind, value)?);
    }
    for (i, (kind, value)) in items(&file.pre_tokenizer, "pretokenizers")?.into_iter().enumerate() {
        pre_tokenizer(kind, value, i == 0, &mut rules)?;
    }
    Ok(rules)
}

fn normalizer(kind: &str, value: &Value) -> Result<Step> {
    let flag = |key: &str| value[key].as_bool().unwrap_or(false);
    Ok(match kind {
        "NFC" => Step::Nfc,
        "NFD" => Step::Nfd,
        "NFKC" => Step::Nfkc,
        "NFKD" => Step::Nfkd,
        "Lowercase" => Step::Lowercase,
        "Strip" => Step::Strip { left: flag("strip_left"), right: flag("strip_right") },
        "Prepend" => Step::Prepend(string(value, "prepend")?),
        "Replace" => {
            let to = string(value, "content")?;
            match &value["pattern"] {
                pattern if pattern["Regex"].is_string() => {
                    Step::ReplacePattern(Box::new(regex(&string(pattern, "Regex")?)?), to)
                }
                pattern => Step::Replace(string(pattern, "String")?, to),
            }
        }
        other => return Err(unsupported(format!("normalizer {other:?}"))),
    })
}

fn regex(source: &str) -> Result<fancy_regex::Regex> {
    fancy_regex::Regex::new(source).map_err(|e| invalid(format!("pattern {source:?}: {e}")))
}

fn pre_tokenizer(kind: &str, value: &Value, first: bool, rules: &mut TextRules) -> Result<()> {
    match kind {
        "ByteLevel" => {
            if value["add_prefix_space"].as_bool().unwrap_or(true) {
                if !first {
                    return Err(unsupported("ByteLevel with add_prefix_space behind another step"));
                }
                rules.steps.push(Step::PrependUnless { prefix: ' ', first: false });
            }
            if value["use_regex"].as_bool().unwrap_or(true) {
                rules.splits.push(Split::Pattern(pattern(GPT2_PATTERN)?));
            }
        }
        "Split" => rules.splits.push(Split::Pattern(split_pattern(value)?)),
        "Digits" => {
            let individual = value["individual_digits"].as_bool().unwrap_or(false);
            rules.splits.push(Split::Digits { individual });
        }
        "Metaspace" if first => metaspace(value, rules)?,
        other => return Err(unsupported(format!("pre_tokenizer {other:?} at this place"))),
    }
    Ok(())
}

fn pattern(source: &str) -> Result<Pattern> {
    Pattern::new(source).map_err(|e| invalid(format!("pattern {source:?}: {e}")))
}

fn split_pattern(value: &Value) -> Result<Pattern> {
    let behavior = value["behavior"].as_str().unwrap_or("");
    let invert = value["invert"].as_bool().unwrap_or(false);
    // Removing what does not match keeps the matches; our patterns keep what lies between as well,
    // which for the patterns in use is nothing.
    if !(behavior == "Isolated" || behavior == "Removed" && invert) {
        return Err(unsupported(format!("Split with behavior {behavior:?}, invert {invert}")));
    }
    match value["pattern"]["Regex"].as_str() {
        Some(source) => pattern(source),
        None => pattern(&fancy_regex::escape(&string(&value["pattern"], "String")?)),
    }
}

fn metaspace(value: &Value, rules: &mut TextRules) -> Result<()> {
    let mark = string(value, "replacement")?;
    let mut chars = mark.chars();
    let (Some(mark), None) = (chars.next(), chars.next()) else {
        return Err(invalid(format!("Metaspace replacement {mark:?} is not one character")));
    };
    rules.steps.push(Step::Replace(" ".into(), mark.into()));
    let legacy =
        if value["add_prefix_space"].as_bool().unwrap_or(true) { "always" } else { "never" };
    match value["prepend_scheme"].as_str().unwrap_or(legacy) {
        "never" => {}
        scheme @ ("always" | "first") => {
            rules.steps.push(Step::PrependUnless { prefix: mark, first: scheme == "first" });
        }
        other => return Err(unsupported(format!("Metaspace prepend_scheme {other:?}"))),
    }
    if value["split"].as_bool().unwrap_or(true) {
        rules.splits.push(Split::Before(mark));
    }
    Ok(())
}

fn strips_leading_space(decoder: &Value) -> bool {
    items(decoder, "decoders").is_ok_and(|items| {
        items.iter().any(|&(kind, value)| match kind {
            "Strip" => value["content"] == " " && value["start"].as_u64() == Some(1),
            "Metaspace" => value["prepend_scheme"] != "never" && value["add_prefix_space"] != false,
            _ => false,
        })
    })
}

// ---- tokens ----

fn added_tokens(raw: &[RawAdded]) -> Result<AddedTokens> {
    let convert = |a: &RawAdded| {
        if a.single_word {
            return Err(unsupported(format!("the single_word token {:?}", a.content)));
        }
        let RawAdded { id, special, lstrip, rstrip, .. } = *a;
        Ok(AddedToken { content: a.content.clone(), id, special, lstrip, rstrip })
    };
    Ok(AddedTokens::new(raw.iter().map(convert).collect::<Result<_>>()?))
}

fn tokens(vocab: &Names, added: &[RawAdded], byte_level: bool, byte_fallback: bool) -> Vec<Token> {
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
fn markers(file: &File, vocab: &Names, extension: &Extension) -> (Option<u32>, Option<u32>) {
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

/// The markers that a `TemplateProcessing` puts before and behind the text.
fn template<'v>(value: &'v Value) -> (Option<&'v str>, Option<&'v str>) {
    let items = items(value, "processors").unwrap_or_default();
    let single = items.iter().find(|(kind, _)| *kind == "TemplateProcessing");
    let Some(single) = single.and_then(|(_, value)| value["single"].as_array()) else {
        return (None, None);
    };
    let name = |part: Option<&'v Value>| part.and_then(|p| p["SpecialToken"]["id"].as_str());
    (name(single.first()), name(single.last()))
}

impl MergeModel {
    /// A vocabulary of single characters, strangers being refused.
    fn is_chars_only(&self) -> bool {
        self.merges.is_empty()
            && matches!(self.alphabet, Alphabet::Chars { fallback: Fallback::Refuse, .. })
    }
}

/// BOS and EOS as named by a `tokenizer_config.json`: a string, or an object with `content`.
pub(crate) fn config_markers(text: &str) -> Result<(Option<String>, Option<String>)> {
    let config: Value = serde_json::from_str(text)
        .map_err(|e| Error::invalid("tokenizer_config.json", e.to_string()))?;
    let name = |key: &str| {
        let value = &config[key];
        value.as_str().or_else(|| value["content"].as_str()).map(str::to_string)
    };
    Ok((name("bos_token"), name("eos_token")))
}
