//! Weight files: MIL blob storage, version 2 (docs/ane-facts.md A.5).
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | u32 | number of blobs |
//! | 4 | u32 | version, 2 |
//! | 8…63 | | reserved, 0 |
//!
//! Each blob is a 64-byte record at a multiple of 64 — sentinel `0xDEADBEEF`, dtype code, size in
//! bytes (u64), absolute offset of the data (u64), padding in bits (u64), reserved — and its data,
//! aligned to 64. `BLOBFILE(offset = …)` is the offset of the *record*.

use crate::types::{DType, Data, Literal, Payload, TensorType};
use half::f16;
use std::collections::BTreeMap;

const ALIGNMENT: usize = 64;
const VERSION: u32 = 2;
const SENTINEL: u32 = 0xDEAD_BEEF;

/// Weight files by the path written in the program, such as `@model_path/weights/weight.bin`.
pub type Weights = BTreeMap<String, Vec<u8>>;

/// A weight file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum BlobError {
    #[error("weight file `{path}` was not given; known are: {known}")]
    Missing { path: String, known: String },
    #[error("weight file ends after {len} bytes, before the {what} at offset {offset}")]
    Truncated { what: &'static str, offset: u64, len: usize },
    #[error(
        "blob at offset {offset} holds {found} bytes but {ty} needs {needed}, and the file ends after \
         {len}"
    )]
    Short { offset: u64, found: u64, needed: usize, ty: TensorType, len: usize },
    #[error("Storage Reader expects file format version 2. (found {0})")]
    Version(u32),
    #[error("Invalid sentinel in blob_metadata. (found {found:#010x} at offset {offset})")]
    Sentinel { found: u32, offset: u64 },
    #[error(
        "Metadata data type does not match requested type. (file has {found}, program asks {wanted})"
    )]
    Type { found: String, wanted: DType },
    #[error("blob at offset {offset} has {bits} padding bits, more than a byte")]
    Padding { offset: u64, bits: u64 },
    #[error("in the weight file `{path}`: {error}")]
    In { path: String, error: Box<BlobError> },
}

/// A fault in a record that can be read all the same. Published programs have such records,
/// and run on some machines (docs/ane-facts.md A.5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Oddity {
    #[error("blob at offset {offset} holds {found} bytes but {ty} needs {needed}")]
    Size { offset: u64, found: u64, needed: usize, ty: TensorType },
    #[error("blob at offset {offset} says that its data are at 0; they are taken to follow it")]
    Place { offset: u64 },
    #[error(
        "Metadata data type does not match requested type. (file has {found}, program asks {wanted})"
    )]
    Code { found: DType, wanted: DType },
}

/// The code of an element type in a blob record, if it has one.
pub fn dtype_code(dtype: DType) -> Option<u32> {
    CODES.iter().find(|(d, _)| *d == dtype).map(|(_, code)| *code)
}

const CODES: &[(DType, u32)] = &[
    (DType::Fp16, 1),
    (DType::Fp32, 2),
    (DType::UInt8, 3),
    (DType::Int8, 4),
    (DType::Int16, 6),
    (DType::UInt16, 7),
    (DType::Int4, 8),
    (DType::UInt1, 9),
    (DType::UInt2, 10),
    (DType::UInt4, 11),
    (DType::UInt3, 12),
    (DType::UInt6, 13),
    (DType::Int32, 14),
    (DType::UInt32, 15),
];

/// Writes blobs one after the other.
#[derive(Debug)]
pub struct BlobWriter {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for BlobWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl BlobWriter {
    /// An empty file.
    pub fn new() -> Self {
        let mut bytes = vec![0; ALIGNMENT];
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        BlobWriter { bytes, count: 0 }
    }

    /// Appends packed elements and returns the offset to write in `BLOBFILE`; `None` when the
    /// element type has no code (text, truth values, 64-bit integers).
    pub fn push(&mut self, dtype: DType, data: &Data) -> Option<u64> {
        let code = dtype_code(dtype)?;
        let packed = pack(dtype, data)?;
        self.align();
        let record = self.bytes.len();
        let padding = packed.len() * 8 - data.len() * dtype.bits();
        let mut header = [0u8; ALIGNMENT];
        header[0..4].copy_from_slice(&SENTINEL.to_le_bytes());
        header[4..8].copy_from_slice(&code.to_le_bytes());
        header[8..16].copy_from_slice(&(packed.len() as u64).to_le_bytes());
        header[16..24].copy_from_slice(&((record + ALIGNMENT) as u64).to_le_bytes());
        header[24..32].copy_from_slice(&(padding as u64).to_le_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&packed);
        self.count += 1;
        self.bytes[0..4].copy_from_slice(&self.count.to_le_bytes());
        Some(record as u64)
    }

    /// The file.
    pub fn finish(mut self) -> Vec<u8> {
        self.align();
        self.bytes
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// Packs integers little-endian, sub-byte ones from the lowest bit of each byte.
fn pack(dtype: DType, data: &Data) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(dtype.bytes(data.len()));
    match (dtype, data) {
        (DType::Fp16, Data::Fp16(v)) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        (DType::Fp32, Data::Fp32(v)) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        (_, Data::Int(v)) if dtype.bits() >= 8 => {
            v.iter().for_each(|x| out.extend(&x.to_le_bytes()[..dtype.bits() / 8]));
        }
        (_, Data::Int(v)) if dtype.bits() > 0 => {
            out.resize(dtype.bytes(v.len()), 0);
            for (i, x) in v.iter().enumerate() {
                for bit in 0..dtype.bits() {
                    let at = i * dtype.bits() + bit;
                    out[at / 8] |= (((x >> bit) & 1) as u8) << (at % 8);
                }
            }
        }
        _ => return None,
    }
    Some(out)
}

fn unpack(dtype: DType, bytes: &[u8], count: usize) -> Data {
    let signed = dtype.int_range().is_some_and(|(lo, _)| lo < 0);
    let bits = dtype.bits();
    let extend = |raw: u64| {
        let shift = 64 - bits;
        if signed { ((raw << shift) as i64) >> shift } else { raw as i64 }
    };
    match dtype {
        DType::Fp16 => {
            Data::Fp16(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect())
        }
        DType::Fp32 => Data::Fp32(
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        ),
        _ if bits >= 8 => Data::Int(
            bytes
                .chunks_exact(bits / 8)
                .map(|b| extend(b.iter().rev().fold(0, |n, &byte| (n << 8) | u64::from(byte))))
                .collect(),
        ),
        _ => Data::Int(
            (0..count)
                .map(|i| {
                    let bit = |at: usize| u64::from(bytes[at / 8] >> (at % 8) & 1);
                    extend((0..bits).map(|b| bit(i * bits + b) << b).sum())
                })
                .collect(),
        ),
    }
}

fn u32_at(b: &[u8], i: usize) -> u32 {
    u32::from_le_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]])
}

fn u64_at(b: &[u8], i: usize) -> u64 {
    u64::from(u32_at(b, i)) | u64::from(u32_at(b, i + 4)) << 32
}

fn take<'f>(file: &'f [u8], what: &'static str, at: u64, n: usize) -> Result<&'f [u8], BlobError> {
    let start = usize::try_from(at).ok();
    let end = start.and_then(|s| s.checked_add(n));
    let range = start.zip(end).and_then(|(start, end)| file.get(start..end));
    range.ok_or(BlobError::Truncated { what, offset: at, len: file.len() })
}

/// The bytes of the blob whose record is at `offset`, and what is odd about the record.
fn open<'f>(
    file: &'f [u8],
    offset: u64,
    ty: &TensorType,
) -> Result<(&'f [u8], Vec<Oddity>), BlobError> {
    let version = u32_at(take(file, "header", 0, ALIGNMENT)?, 4);
    if version != VERSION {
        return Err(BlobError::Version(version));
    }
    let record = take(file, "blob record", offset, ALIGNMENT)?;
    let sentinel = u32_at(record, 0);
    if sentinel != SENTINEL {
        return Err(BlobError::Sentinel { found: sentinel, offset });
    }
    let (code, mut odd) = (u32_at(record, 4), vec![]);
    if dtype_code(ty.dtype) != Some(code) {
        let known = CODES.iter().find(|(_, c)| *c == code).map(|(dtype, _)| *dtype);
        match known {
            // Some writers have one code for all weights.
            Some(found @ DType::Fp16) if matches!(ty.dtype, DType::Int8 | DType::UInt8) => {
                odd.push(Oddity::Code { found, wanted: ty.dtype });
            }
            _ => {
                let found = known.map_or(format!("code {code}"), |dtype| dtype.to_string());
                return Err(BlobError::Type { found, wanted: ty.dtype });
            }
        }
    }
    let (size, mut data, bits) = (u64_at(record, 8), u64_at(record, 16), u64_at(record, 24));
    if bits >= 8 {
        return Err(BlobError::Padding { offset, bits });
    }
    let needed = ty.bytes();
    if size != needed as u64 {
        odd.push(Oddity::Size { offset, found: size, needed, ty: ty.clone() });
    }
    if data == 0 {
        odd.push(Oddity::Place { offset });
        data = offset.saturating_add(ALIGNMENT as u64);
    }
    let data = take(file, "data", data, needed).map_err(|error| match size {
        size if size == needed as u64 => error,
        found => BlobError::Short { offset, found, needed, ty: ty.clone(), len: file.len() },
    })?;
    Ok((data, odd))
}

/// Reads the blob whose record is at `offset` as a tensor of type `ty`, odd records ([`inspect`])
/// included.
///
/// # Errors
/// When the file is truncated, is of another version, has no record there, or holds another
/// element type. As the engine's own reader, it does not check that data are aligned or that the
/// count of the header is right.
pub fn read(file: &[u8], offset: u64, ty: &TensorType) -> Result<Data, BlobError> {
    Ok(unpack(ty.dtype, open(file, offset, ty)?.0, ty.count()))
}

/// Returns what is odd about a record that [`read`] reads: Apple's published reader would refuse it.
///
/// # Errors
/// As [`read`].
pub fn inspect(file: &[u8], offset: u64, ty: &TensorType) -> Result<Vec<Oddity>, BlobError> {
    open(file, offset, ty).map(|(_, odd)| odd)
}

/// The offset of the record whose data are at `offset`, if it is the one right before them.
pub fn record_of_data(file: &[u8], offset: u64) -> Option<u64> {
    let at = offset.checked_sub(ALIGNMENT as u64)?;
    let record = take(file, "blob record", at, ALIGNMENT).ok()?;
    (u32_at(record, 0) == SENTINEL && u64_at(record, 16) == offset).then_some(at)
}

/// The elements of a literal, read from `weights` when they are not in the text.
///
/// # Errors
/// As [`read`], and when the weight file is not among `weights`.
pub fn load(literal: &Literal, weights: &Weights) -> Result<Data, BlobError> {
    match &literal.payload {
        Payload::Inline(data) => Ok(data.clone()),
        Payload::Blob { path, offset } => match weights.get(path) {
            Some(file) => read(file, *offset, &literal.ty)
                .map_err(|error| BlobError::In { path: path.clone(), error: Box::new(error) }),
            None => {
                let known: Vec<_> = weights.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                Err(BlobError::Missing { path: path.clone(), known })
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coded_type_survives_a_round_trip() {
        let mut writer = BlobWriter::new();
        let mut written = vec![];
        for &(dtype, _) in CODES {
            let data = match dtype {
                DType::Fp16 => Data::Fp16((0..13).map(|i| f16::from_f32(i as f32 - 6.5)).collect()),
                DType::Fp32 => Data::Fp32((0..13).map(|i| i as f32 / 3.0).collect()),
                _ => {
                    let (lo, hi) = dtype.int_range().expect("an integer");
                    Data::Int((0..13).map(|i| lo + (hi - lo) * i / 12).collect())
                }
            };
            written.push((dtype, writer.push(dtype, &data).expect("has a code"), data));
        }
        let file = writer.finish();
        assert_eq!(file[0] as usize, CODES.len());
        for (dtype, offset, data) in written {
            assert_eq!(offset % 64, 0);
            assert_eq!(read(&file, offset, &TensorType::new(dtype, [13])).unwrap(), data);
        }
    }

    #[test]
    fn faults_are_named() {
        let mut writer = BlobWriter::new();
        let at = writer.push(DType::Fp32, &Data::Fp32(vec![1.0; 8])).unwrap();
        let file = writer.finish();
        let ty = TensorType::fp32([8]);
        let check = |file: &[u8], offset, ty: &TensorType, expected: &str| {
            let error = read(file, offset, ty).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&file[..40], at, &ty, "before the header");
        check(&file, at + 64, &ty, "sentinel");
        check(&file, u64::MAX, &ty, "before the blob record");
        check(&file, at, &TensorType::fp16([8]), "does not match requested type");
        check(&file[..file.len() - 40], at, &ty, "before the data");
        let sizes = "holds 32 bytes but tensor<fp32, [64]> needs 256, and the file ends after 192";
        check(&file, at, &TensorType::fp32([64]), sizes);
        let mut other = file.clone();
        other[4] = 1;
        check(&other, at, &ty, "version 2");
        let weights = Weights::from([("w.bin".to_owned(), other)]);
        let said = load(&Literal::blob(ty, "w.bin", at), &weights).unwrap_err().to_string();
        assert!(said.starts_with("in the weight file `w.bin`: Storage Reader"), "{said}");
    }

    #[test]
    fn odd_records_are_read_and_told() {
        let ty = TensorType::new(DType::Int8, [6]);
        let data = Data::Int(vec![-128, -1, 0, 1, 64, 127]);
        let mut writer = BlobWriter::new();
        let first = writer.push(DType::Fp16, &Data::Fp16(vec![f16::ONE; 64])).unwrap();
        let at = writer.push(DType::Int8, &data).unwrap();
        let good = writer.finish();
        assert_eq!(inspect(&good, at, &ty), Ok(vec![]));
        assert_eq!(record_of_data(&good, at + 64), Some(at));
        assert_eq!(record_of_data(&good, at), None);
        let record = at as usize;
        let change = |byte: usize, value: u8| {
            let mut file = good.clone();
            file[record + byte] = value;
            file
        };
        // The size of a fixed shape, no place, and the code of fp16: the elements are the same.
        let size = Oddity::Size { offset: at, found: 7, needed: 6, ty: ty.clone() };
        let code = Oddity::Code { found: DType::Fp16, wanted: DType::Int8 };
        let mut placeless = good.clone();
        placeless[record + 16..record + 24].fill(0);
        for (file, odd) in
            [(change(8, 7), size), (change(4, 1), code), (placeless, Oddity::Place { offset: at })]
        {
            assert_eq!(inspect(&file, at, &ty), Ok(vec![odd]));
            assert_eq!(read(&file, at, &ty).as_ref(), Ok(&data));
        }
        // fp32 coded as fp16 is another type; an end before the data is still an end.
        assert!(read(&good, first, &TensorType::fp32([32])).is_err());
        assert!(read(&good, at, &TensorType::new(DType::Int8, [65])).is_err());
    }
}
