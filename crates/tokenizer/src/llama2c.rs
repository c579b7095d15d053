//! llama2.c's `tokenizer.bin`: little-endian `i32` longest piece in bytes, then for every token `f32`
//! score, `i32` length and as many bytes. The number of tokens is not stored. Tokens 0, 1, 2 are
//! `<unk>`, BOS, EOS; tokens 3 to 258 are the bytes `<0x00>` to `<0xFF>`.

use crate::TokenizerKind;
use crate::error::{Error, Result};
use crate::pieces::{Algorithm, LONGEST_PIECE, Piece, ScoredVocab};
use crate::vocab::{Kind, byte_name};

const FORMAT: &str = "llama2.c tokenizer";
const BOS: u32 = 1;
const EOS: u32 = 2;
const FIRST_BYTE: usize = 3;
const FIRST_TEXT: usize = FIRST_BYTE + 256;

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, n: usize, what: &'static str) -> Result<&'b [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(Error::Truncated { format: FORMAT, what, at: self.bytes.len() })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn word(&mut self, what: &'static str) -> Result<[u8; 4]> {
        Ok(self.take(4, what)?.try_into().expect("took 4 bytes"))
    }

    fn record(&mut self, longest: usize) -> Result<(f32, &'b [u8])> {
        let score = f32::from_le_bytes(self.word("a score")?);
        let length = i32::from_le_bytes(self.word("a length")?);
        let length = usize::try_from(length).ok().filter(|&n| n <= longest).ok_or_else(|| {
            let at = self.at - 4;
            Error::invalid(
                FORMAT,
                format!(
                    "length {length} at byte {at} is not within 0..={longest}, as the header says"
                ),
            )
        })?;
        Ok((score, self.take(length, "a token")?))
    }
}

/// Names a file of llm.c, which begins with a number of its own; these are no tokenizers to encode
/// with.
pub(crate) fn of_llm_c(bytes: &[u8]) -> Option<&'static str> {
    match i32::from_le_bytes(*bytes.first_chunk()?) {
        20_240_328 => Some(
            "a tokenizer file, which can only decode (give the tokenizer.json of that vocabulary),",
        ),
        20_240_520 => Some("a file of token ids, given as a tokenizer,"),
        _ => None,
    }
}

/// True if the header could be one of this format.
pub(crate) fn plausible(bytes: &[u8]) -> bool {
    longest_piece(&mut Reader { bytes, at: 0 })
        .and_then(|longest| {
            let mut reader = Reader { bytes, at: 4 };
            (0..2).try_for_each(|_| reader.record(longest).map(|_| ()))
        })
        .is_ok()
}

fn longest_piece(reader: &mut Reader) -> Result<usize> {
    let longest = i32::from_le_bytes(reader.word("the header")?);
    usize::try_from(longest).ok().filter(|n| (1..=LONGEST_PIECE).contains(n)).ok_or_else(|| {
        Error::invalid(
            FORMAT,
            format!("the header says that tokens have up to {longest} bytes; expected 1 to {LONGEST_PIECE}"),
        )
    })
}

/// Reads `vocab_size` tokens, or all up to the end.
pub(crate) fn read(bytes: &[u8], vocab_size: Option<usize>) -> Result<ScoredVocab> {
    let mut reader = Reader { bytes, at: 0 };
    let longest = longest_piece(&mut reader)?;
    let mut pieces = Vec::new();
    while vocab_size.map_or(reader.at < bytes.len(), |n| pieces.len() < n) {
        // The header counts piece lengths before names such as "\n<s>\n" are put in.
        let longest = if pieces.len() < FIRST_TEXT { longest.max(8) } else { longest };
        let (score, name) = reader.record(longest)?;
        pieces.push(piece(pieces.len(), score, name)?);
    }
    if pieces.len() < FIRST_TEXT {
        let n = pieces.len();
        return Err(Error::invalid(
            FORMAT,
            format!("{n} tokens; expected at least {FIRST_TEXT}: three markers and 256 bytes"),
        ));
    }
    Ok(ScoredVocab {
        format: FORMAT,
        kind: TokenizerKind::Llama2c,
        pieces,
        algorithm: Algorithm::Bpe,
        dummy_prefix: true,
        collapse_spaces: false,
        space: ' ',
        bos: Some(BOS),
        eos: Some(EOS),
    })
}

fn piece(id: usize, score: f32, name: &[u8]) -> Result<Piece> {
    let name = std::str::from_utf8(name)
        .map_err(|_| Error::invalid(FORMAT, format!("token {id} is not UTF-8")))?;
    let (kind, name) = match id {
        0 => (Kind::Unknown, "<unk>"),
        // The export writes these as "\n<s>\n" and "\n</s>\n".
        1 => (Kind::Control, "<s>"),
        2 => (Kind::Control, "</s>"),
        FIRST_BYTE..FIRST_TEXT => {
            let want = byte_name((id - FIRST_BYTE) as u8);
            if name != want {
                let what = format!("token {id} is {name:?}, expected the byte token {want}");
                return Err(Error::invalid(FORMAT, what));
            }
            (Kind::Byte, name)
        }
        _ => (Kind::Text, name),
    };
    Ok(Piece { name: name.to_string(), score, kind })
}
