//! Writing `tokenizer.bin`: i32 longest piece in bytes, then for every token f32 score, i32 length and as
//! many bytes. Tokens 0, 1 and 2 are unknown, BOS and EOS, and the 256 bytes follow, as `run.c` takes for
//! granted.

use crate::error::WeightsError;
use crate::pieces::{SPACE_MARK, Token, kind, scored};
use std::path::Path;
use tokenizer::{Tokenizer, TokenizerKind};

/// Tokens before the pieces of text.
const MARKERS: usize = 3;
const FIRST_TEXT: usize = MARKERS + 256;

/// Writes the tokenizer of a model of `vocab` tokens, so that `run.c` gives the same ids.
///
/// # Errors
/// When the format cannot say the tokenizer, or the file cannot be written.
pub fn write_tokenizer(
    path: &Path,
    tokenizer: &Tokenizer,
    vocab: usize,
) -> Result<(), WeightsError> {
    let pieces = pieces(tokenizer, vocab).map_err(|reason| WeightsError::Inexpressible {
        format: "llama2.c's tokenizer.bin",
        reason,
    })?;
    let longest = pieces.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut bytes = (longest as i32).to_le_bytes().to_vec();
    for (name, score) in pieces {
        bytes.extend(score.to_le_bytes());
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
    }
    std::fs::write(path, bytes)
        .map_err(|source| WeightsError::Write { path: path.to_owned(), source })
}

/// Names and scores by id.
fn pieces(tokenizer: &Tokenizer, vocab: usize) -> Result<Vec<(String, f32)>, String> {
    if !matches!(tokenizer.kind(), TokenizerKind::Llama2c | TokenizerKind::SentencePiece) {
        return Err("the tokenizer merges by rank, not by the scores of pieces".to_owned());
    }
    let json = tokenizer.to_json().map_err(|e| e.to_string())?;
    let json = serde_json::from_str(&json).map_err(|e| e.to_string())?;
    let (table, prefix) = scored(&json)?;
    if !prefix {
        return Err("the tokenizer puts no space before a text, as run.c does".to_owned());
    }
    if table.len() != vocab || table.keys().ne(&(0..vocab as u64).collect::<Vec<_>>()) {
        let have = table.len();
        return Err(format!(
            "the tokenizer has {have} tokens, the model {vocab}: run.c reads as many"
        ));
    }
    if (tokenizer.bos(), tokenizer.eos()) != (Some(1), Some(2)) {
        return Err("the tokenizer's bos and eos are not tokens 1 and 2".to_owned());
    }
    table.values().enumerate().map(|(id, token)| piece(id, token)).collect()
}

fn piece(id: usize, token: &Token) -> Result<(String, f32), String> {
    let needed = match id {
        0 => kind::UNKNOWN,
        1..MARKERS => kind::CONTROL,
        MARKERS..FIRST_TEXT => kind::BYTE,
        _ => kind::NORMAL,
    };
    let at_its_place = id.wrapping_sub(MARKERS) >= 256 || token.name == byte_name(id - MARKERS);
    if token.kind != needed || !at_its_place {
        return Err(format!("token {id} is {:?}, which run.c takes for another kind", token.name));
    }
    let name = match id {
        1 => "\n<s>\n".to_owned(),
        2 => "\n</s>\n".to_owned(),
        _ => token.name.replace(SPACE_MARK, " "),
    };
    Ok((name, token.score))
}

fn byte_name(byte: usize) -> String {
    format!("<0x{byte:02X}>")
}
