//! SentencePiece's `tokenizer.model`: a protocol buffer `ModelProto` of pieces (field 1), trainer
//! settings (2) and normaliser settings (3), per sentencepiece_model.proto. Only the fields that
//! encoding needs are read.

use crate::TokenizerKind;
use crate::error::{Error, Result};
use crate::pieces::{Algorithm, Piece, SPACE_MARK, ScoredVocab};
use crate::vocab::Kind;

const FORMAT: &str = "SentencePiece model";

/// The value of one field of a message.
enum Value<'b> {
    Varint(u64),
    Fixed32([u8; 4]),
    Bytes(&'b [u8]),
    /// A 64-bit field: none is of interest.
    Fixed64,
}

/// The fields of a message, in order.
struct Fields<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Fields<'b> {
    fn of(bytes: &'b [u8]) -> Self {
        Fields { bytes, at: 0 }
    }

    fn take(&mut self, n: u64) -> Result<&'b [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(n).ok().and_then(|n| rest.get(..n));
        let what = "a field";
        let taken = taken.ok_or(Error::Truncated { format: FORMAT, what, at: self.bytes.len() })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::invalid(FORMAT, format!("a number before byte {} has no end", self.at)))
    }

    fn next(&mut self) -> Result<Option<(u64, Value<'b>)>> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.take(4)?.try_into().expect("took 4 bytes")),
            other => {
                let what = format!("field type {other} before byte {} of a message", self.at);
                return Err(Error::invalid(FORMAT, what));
            }
        };
        Ok(Some((tag >> 3, value)))
    }
}

/// `TrainerSpec`, with the defaults of its definition.
struct Trainer {
    model_type: u64,
    space_as_suffix: bool,
    bos_id: i64,
    eos_id: i64,
}

/// `NormalizerSpec`, likewise.
struct Normalizer {
    name: String,
    charsmap: bool,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

fn read_trainer(bytes: &[u8]) -> Result<Trainer> {
    let mut spec = Trainer { model_type: 1, space_as_suffix: false, bos_id: 1, eos_id: 2 };
    let mut fields = Fields::of(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (3, Value::Varint(v)) => spec.model_type = v,
            (24, Value::Varint(v)) => spec.space_as_suffix = v != 0,
            // Negative numbers come sign-extended: -1 says that there is no such token.
            (41, Value::Varint(v)) => spec.bos_id = v.cast_signed(),
            (42, Value::Varint(v)) => spec.eos_id = v.cast_signed(),
            _ => {}
        }
    }
    Ok(spec)
}

fn read_normalizer(bytes: &[u8]) -> Result<Normalizer> {
    let mut spec = Normalizer {
        name: String::new(),
        charsmap: false,
        add_dummy_prefix: true,
        remove_extra_whitespaces: true,
        escape_whitespaces: true,
    };
    let mut fields = Fields::of(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(v)) => spec.name = String::from_utf8_lossy(v).into_owned(),
            (2, Value::Bytes(v)) => spec.charsmap = !v.is_empty(),
            (3, Value::Varint(v)) => spec.add_dummy_prefix = v != 0,
            (4, Value::Varint(v)) => spec.remove_extra_whitespaces = v != 0,
            (5, Value::Varint(v)) => spec.escape_whitespaces = v != 0,
            _ => {}
        }
    }
    Ok(spec)
}

fn read_piece(bytes: &[u8], id: usize) -> Result<Piece> {
    let (mut name, mut score, mut kind) = ("", 0.0, 1);
    let mut fields = Fields::of(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(v)) => {
                name = std::str::from_utf8(v)
                    .map_err(|_| Error::invalid(FORMAT, format!("piece {id} is not UTF-8")))?;
            }
            (2, Value::Fixed32(v)) => score = f32::from_le_bytes(v),
            (3, Value::Varint(v)) => kind = v,
            _ => {}
        }
    }
    let kind = match kind {
        1 => Kind::Text,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => return Err(Error::unsupported(FORMAT, format!("piece {id}, of type UNUSED,"))),
        6 => Kind::Byte,
        other => {
            return Err(Error::invalid(FORMAT, format!("piece {id} is of unknown type {other}")));
        }
    };
    Ok(Piece { name: name.to_string(), score, kind })
}

/// True if the first field could be a piece.
pub(crate) fn plausible(bytes: &[u8]) -> bool {
    let first = Fields::of(bytes).next();
    matches!(first, Ok(Some((1, Value::Bytes(piece)))) if read_piece(piece, 0).is_ok() && !piece.is_empty())
}

/// Reads a model.
pub(crate) fn read(bytes: &[u8]) -> Result<ScoredVocab> {
    let (mut pieces, mut trainer, mut normalizer) =
        (Vec::new(), read_trainer(&[])?, read_normalizer(&[])?);
    let mut fields = Fields::of(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(v)) => pieces.push(read_piece(v, pieces.len())?),
            (2, Value::Bytes(v)) => trainer = read_trainer(v)?,
            (3, Value::Bytes(v)) => normalizer = read_normalizer(v)?,
            _ => {}
        }
    }
    if pieces.is_empty() {
        return Err(Error::invalid(FORMAT, "no pieces"));
    }
    let algorithm = check_supported(&trainer, &normalizer)?;
    let marker = |id: i64| {
        let id = usize::try_from(id).ok()?;
        pieces.get(id).filter(|p| p.kind == Kind::Control).map(|_| id as u32)
    };
    let (bos, eos) = (marker(trainer.bos_id), marker(trainer.eos_id));
    Ok(ScoredVocab {
        format: FORMAT,
        kind: TokenizerKind::SentencePiece,
        pieces,
        algorithm,
        dummy_prefix: normalizer.add_dummy_prefix,
        collapse_spaces: normalizer.remove_extra_whitespaces,
        space: if normalizer.escape_whitespaces { SPACE_MARK } else { ' ' },
        bos,
        eos,
    })
}

fn check_supported(trainer: &Trainer, normalizer: &Normalizer) -> Result<Algorithm> {
    if normalizer.charsmap {
        let what = format!("the normaliser {:?} (only \"identity\" is)", normalizer.name);
        return Err(Error::unsupported(FORMAT, what));
    }
    if trainer.space_as_suffix {
        return Err(Error::unsupported(FORMAT, "treat_whitespace_as_suffix"));
    }
    let algorithm = match trainer.model_type {
        1 => Algorithm::Unigram,
        2 => Algorithm::Bpe,
        4 => Algorithm::Char,
        3 => return Err(Error::unsupported(FORMAT, "model type WORD")),
        other => return Err(Error::invalid(FORMAT, format!("unknown model type {other}"))),
    };
    Ok(algorithm)
}
