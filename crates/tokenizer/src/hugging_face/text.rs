//! The text rules of a `tokenizer.json`: normaliser, pre-tokenizer, and the decoder's strip.

use serde_json::Value;

use super::{File, invalid, unsupported};
use crate::error::Result;
use crate::text::{GPT2_PATTERN, Pattern, Split, Step, TextRules};

/// The items of a `Sequence`, or the one item, or none.
pub(super) fn items<'v>(value: &'v Value, list: &str) -> Result<Vec<(&'v str, &'v Value)>> {
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

pub(super) fn mentions_byte_level(value: &Value) -> bool {
    ["pretokenizers", "decoders"].iter().any(|list| {
        items(value, list).is_ok_and(|items| items.iter().any(|&(kind, _)| kind == "ByteLevel"))
    })
}

pub(super) fn text_rules(file: &File) -> Result<TextRules> {
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
                rules.between.push(Step::PrependUnless { prefix: ' ', first: false });
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
    rules.between.push(Step::Replace(" ".into(), mark.into()));
    let legacy =
        if value["add_prefix_space"].as_bool().unwrap_or(true) { "always" } else { "never" };
    match value["prepend_scheme"].as_str().unwrap_or(legacy) {
        "never" => {}
        scheme @ ("always" | "first") => {
            rules.between.push(Step::PrependUnless { prefix: mark, first: scheme == "first" });
        }
        other => return Err(unsupported(format!("Metaspace prepend_scheme {other:?}"))),
    }
    if value["split"].as_bool().unwrap_or(true) {
        rules.splits.push(Split::Before(mark));
    }
    Ok(())
}

pub(super) fn strips_leading_space(decoder: &Value) -> bool {
    items(decoder, "decoders").is_ok_and(|items| {
        items.iter().any(|&(kind, value)| match kind {
            "Strip" => value["content"] == " " && value["start"].as_u64() == Some(1),
            "Metaspace" => value["prepend_scheme"] != "never" && value["add_prefix_space"] != false,
            _ => false,
        })
    })
}
