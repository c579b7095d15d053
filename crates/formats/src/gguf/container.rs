//! The container: metadata under keys, and tensors.
//!
//! Little-endian, version 3: `GGUF`, u32 version, u64 number of tensors, u64 number of keys; each key
//! (text, u32 type, value); each tensor (text, u32 rank, extents with the innermost first, u32 type, u64
//! offset); zeros up to the alignment, and from there the data, each tensor padded to the alignment.
//! A text is its u64 length and its bytes; a list its u32 element type, u64 length and elements.

use crate::error::Fault;
use crate::precision::Precision;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

const MAGIC: [u8; 4] = *b"GGUF";
const VERSION: u32 = 3;
/// Alignment of data, where `general.alignment` gives no other.
const ALIGNMENT: u64 = 32;
/// Longest text, longest list and most extents that are read.
const LONGEST_TEXT: u64 = 1 << 24;
const LONGEST_LIST: u64 = 1 << 24;
const MOST_AXES: u32 = 4;
/// Bytes in the header of the smallest tensor and key.
const SMALLEST_TENSOR: u64 = 24;
const SMALLEST_KEY: u64 = 13;
/// Values that are converted at once.
const PIECE: usize = 1 << 14;

/// A value of the metadata. Whole numbers of any width are read as [`Value::Whole`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
    /// A whole number that was not written as u32.
    Whole(i128),
    F64(f64),
}

/// Codes of types.
mod code {
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const LIST: u32 = 9;
}

impl Value {
    /// The number, if it is a whole one that is not negative.
    pub(super) fn whole(&self) -> Option<u64> {
        match self {
            Value::U32(n) => Some((*n).into()),
            Value::Whole(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The number with a fraction, as the shortest decimal that gives the same f32.
    pub(super) fn fraction(&self) -> Option<f64> {
        match self {
            Value::F32(x) => x.to_string().parse().ok(),
            Value::F64(x) => Some(*x),
            _ => None,
        }
    }

    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    fn code(&self) -> u32 {
        match self {
            Value::U32(_) => code::U32,
            Value::F32(_) => code::F32,
            Value::Bool(_) => code::BOOL,
            Value::Text(_) => code::TEXT,
            Value::List(_) => code::LIST,
            Value::Whole(_) => code::I32,
            Value::F64(_) => unreachable!("no f64 is written"),
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Value::U32(n) => to.extend(n.to_le_bytes()),
            Value::F32(x) => to.extend(x.to_le_bytes()),
            Value::Bool(truth) => to.push(u8::from(*truth)),
            Value::Text(text) => write_text(to, text),
            Value::Whole(n) => to.extend((*n as i32).to_le_bytes()),
            Value::List(list) => {
                let code = list.first().map_or(code::U32, Value::code);
                to.extend(code.to_le_bytes());
                to.extend((list.len() as u64).to_le_bytes());
                list.iter().for_each(|value| value.write(to));
            }
            Value::F64(_) => unreachable!("no f64 is written"),
        }
    }
}

fn write_text(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

/// The code of each type of element that is read and written.
const TYPES: [(Precision, u32); 4] =
    [(Precision::F32, 0), (Precision::F16, 1), (Precision::Q8_0, 8), (Precision::Bf16, 30)];

/// Names of the types that are not read, by code.
const OTHERS: [(u32, &str); 29] = [
    (2, "Q4_0"),
    (3, "Q4_1"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

/// The type of a code, or its name for people.
fn precision_of(code: u32) -> Result<Precision, String> {
    let known = TYPES.iter().find(|(_, known)| *known == code);
    known.map(|(precision, _)| *precision).ok_or_else(|| {
        let other = OTHERS.iter().find(|(known, _)| *known == code);
        other.map_or_else(|| format!("type {code}"), |(_, name)| format!("the type {name}"))
    })
}

fn code_of(precision: Precision) -> u32 {
    TYPES.iter().find(|(known, _)| *known == precision).expect("all are listed").1
}

/// A tensor to write: its name, its extents (row-major), and its values.
pub(super) struct Tensor<'v> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) precision: Precision,
    pub(super) values: Cow<'v, [f32]>,
}

impl Tensor<'_> {
    fn bytes(&self) -> u64 {
        self.precision.bytes(&self.shape).expect("rows are made of whole blocks")
    }

    fn padded(&self) -> u64 {
        self.bytes().next_multiple_of(ALIGNMENT)
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut piece = vec![];
        for part in self.values.chunks(PIECE) {
            piece.clear();
            self.precision.encode(part, &mut piece);
            to.write_all(&piece)?;
        }
        to.write_all(&vec![0; (self.padded() - self.bytes()) as usize])
    }
}

/// Writes a file.
pub(super) fn write(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[Tensor<'_>],
) -> io::Result<()> {
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        write_text(&mut head, key);
        head.extend(value.code().to_le_bytes());
        value.write(&mut head);
    }
    let mut offset = 0;
    for tensor in tensors {
        write_text(&mut head, &tensor.name);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|n| head.extend((*n as u64).to_le_bytes()));
        head.extend(code_of(tensor.precision).to_le_bytes());
        head.extend(u64::to_le_bytes(offset));
        offset += tensor.padded();
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT as usize), 0);
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&head)?;
    tensors.iter().try_for_each(|tensor| tensor.write(&mut file))?;
    file.flush()
}

/// Where a tensor lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// Extents, row-major.
    pub(super) shape: Vec<usize>,
    pub(super) precision: Precision,
    /// First byte, from the beginning of the file.
    start: u64,
    bytes: u64,
}

/// An open file whose header has been read.
#[derive(Debug)]
pub(super) struct Container {
    file: BufReader<File>,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Place>,
}

impl Container {
    /// Opens a file and reads its header. Memory is taken for what the file holds.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut head = Head { file: BufReader::new(file), left: size };
        if head.array()? != MAGIC {
            return Err("it does not begin with GGUF".to_owned().into());
        }
        let version = u32::from_le_bytes(head.array()?);
        if version.swap_bytes() == VERSION {
            return Err("it is big-endian; little-endian files are read".to_owned().into());
        }
        if !(2..=VERSION).contains(&version) {
            return Err(format!("version {version}; 2 and 3 are read").into());
        }
        let (tensors, keys) = (head.u64()?, head.u64()?);
        if tensors > size / SMALLEST_TENSOR || keys > size / SMALLEST_KEY {
            let reason = format!("it claims {tensors} tensors and {keys} keys: it is cut short");
            return Err(reason.into());
        }
        let metadata = head.metadata(keys)?;
        let mut places = head.places(tensors)?;
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(value) => value
                .whole()
                .filter(|n| n.is_power_of_two() && *n <= 1 << 16)
                .ok_or_else(|| "`general.alignment` is not a power of two".to_owned())?,
        };
        let data = (size - head.left).next_multiple_of(alignment);
        lie_one_after_the_other(&places, alignment)?;
        for (name, place) in &mut places {
            let end = data.checked_add(place.start).and_then(|at| at.checked_add(place.bytes));
            if end.is_none_or(|end| end > size) {
                return Err(format!("tensor `{name}` ends behind the file: it is cut short").into());
            }
            place.start += data;
        }
        let tensors = by_name(places)?;
        Ok(Container { file: head.file, metadata, tensors })
    }

    /// Reads the elements of a tensor.
    ///
    /// # Panics
    /// When the tensor has another number of elements.
    pub(super) fn read(&mut self, place: &Place, to: &mut [f32]) -> Result<(), Fault> {
        let precision = place.precision;
        assert_eq!(precision.bytes(&[to.len()]), Some(place.bytes), "all elements are read");
        self.file.seek(SeekFrom::Start(place.start))?;
        let (values, bytes) = precision.block();
        let mut piece = vec![0; PIECE / values * bytes];
        for to in to.chunks_mut(PIECE) {
            let piece = &mut piece[..to.len() / values * bytes];
            self.file.read_exact(piece)?;
            precision.decode(piece, to);
        }
        Ok(())
    }
}

type Places = Vec<(String, Place)>;

/// Refuses tensors that overlap or leave gaps: each begins where the one before it ends, padded.
fn lie_one_after_the_other(places: &Places, alignment: u64) -> Result<(), String> {
    let mut next = Some(0u64);
    for (name, place) in places {
        let Some(expected) = next else { return Err(format!("tensor `{name}` is too large")) };
        if place.start != expected {
            return Err(format!("tensor `{name}` begins at {}, not at {expected}", place.start));
        }
        let end = expected.checked_add(place.bytes);
        next = end.and_then(|end| end.checked_next_multiple_of(alignment));
    }
    Ok(())
}

fn by_name(places: Places) -> Result<BTreeMap<String, Place>, String> {
    let mut tensors = BTreeMap::new();
    for (name, place) in places {
        if tensors.insert(name.clone(), place).is_some() {
            return Err(format!("the tensor `{name}` is there twice"));
        }
    }
    Ok(tensors)
}

/// The header while it is read.
struct Head {
    file: BufReader<File>,
    /// Bytes of the file that have not been read.
    left: u64,
}

impl Head {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.left -= N as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, Fault> {
        let length = self.u64()?;
        if length > LONGEST_TEXT.min(self.left) {
            return Err(format!("a text of {length} bytes").into());
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        self.left -= length;
        String::from_utf8(bytes).map_err(|_| "a text that is not UTF-8".to_owned().into())
    }

    fn metadata(&mut self, keys: u64) -> Result<BTreeMap<String, Value>, Fault> {
        let mut metadata = BTreeMap::new();
        for _ in 0..keys {
            let key = self.text()?;
            let code = self.u32()?;
            let value = match code {
                code::LIST => self.list(&key)?,
                code => self.value(&key, code)?,
            };
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("the key `{key}` is there twice").into());
            }
        }
        Ok(metadata)
    }

    fn list(&mut self, key: &str) -> Result<Value, Fault> {
        let (code, count) = (self.u32()?, self.u64()?);
        // No element takes less than a byte.
        if count > self.left {
            return Err(format!("`{key}` has {count} elements: it is cut short").into());
        }
        if count > LONGEST_LIST {
            return Err(format!("`{key}` has {count} elements, more than any vocabulary").into());
        }
        let list = (0..count).map(|_| self.value(key, code)).collect::<Result<_, _>>()?;
        Ok(Value::List(list))
    }

    fn value(&mut self, key: &str, code: u32) -> Result<Value, Fault> {
        Ok(match code {
            0 => Value::Whole(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Whole(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Whole(i16::from_le_bytes(self.array()?).into()),
            code::U32 => Value::U32(self.u32()?),
            code::I32 => Value::Whole(i32::from_le_bytes(self.array()?).into()),
            code::F32 => Value::F32(f32::from_le_bytes(self.array()?)),
            code::BOOL => Value::Bool(self.array::<1>()? != [0]),
            code::TEXT => Value::Text(self.text()?),
            10 => Value::Whole(self.u64()?.into()),
            11 => Value::Whole(i64::from_le_bytes(self.array()?).into()),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            _ => return Err(format!("`{key}` has a value of type {code}").into()),
        })
    }

    /// Places of tensors in the order of the file, counted from the beginning of the data.
    fn places(&mut self, tensors: u64) -> Result<Places, Fault> {
        let mut places = vec![];
        for _ in 0..tensors {
            let name = self.text()?;
            let place = self.place(&name)?;
            places.push((name, place));
        }
        Ok(places)
    }

    fn place(&mut self, name: &str) -> Result<Place, Fault> {
        let axes = self.u32()?;
        if axes > MOST_AXES {
            return Err(format!("tensor `{name}` has {axes} axes").into());
        }
        let mut shape = vec![];
        for _ in 0..axes {
            let extent = self.u64()?;
            let extent = usize::try_from(extent);
            shape.push(extent.map_err(|_| format!("tensor `{name}` is too large"))?);
        }
        shape.reverse();
        let precision = precision_of(self.u32()?).map_err(|other| {
            let read = "F32, F16, BF16 and Q8_0 are read: convert the file to one of these";
            format!("tensor `{name}` has {other}; {read}")
        })?;
        let bytes = precision.bytes(&shape);
        let bytes = bytes.ok_or_else(|| format!("tensor `{name}` has the shape {shape:?}"))?;
        Ok(Place { shape, precision, start: self.u64()?, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte for byte, by the description of the format.
    #[test]
    fn a_small_file_is_laid_out_as_the_format_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("small.gguf");
        let tensor = |name: &str, shape, precision, values: &[f32]| Tensor {
            name: name.to_owned(),
            shape,
            precision,
            values: values.to_vec().into(),
        };
        let tensors = [
            tensor("a", vec![2, 1], Precision::F16, &[1.0, -2.0]),
            tensor("b", vec![1], Precision::F32, &[0.5]),
        ];
        let list = Value::List(vec![Value::Text("x".to_owned())]);
        write(&path, &[("k".to_owned(), list)], &tensors).unwrap();
        let want = [
            &b"GGUF\x03\0\0\0"[..],
            &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            b"\x01\0\0\0\0\0\0\0k\x09\0\0\0\x08\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0x",
            b"\x01\0\0\0\0\0\0\0a\x02\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0",
            &[0; 8],
            b"\x01\0\0\0\0\0\0\0b\x01\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0",
            &[32, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let mut want = want;
        want.resize(want.len().next_multiple_of(32), 0);
        want.extend([0, 0x3c, 0, 0xc0]);
        want.extend([0; 28]);
        want.extend(0.5f32.to_le_bytes());
        want.extend([0; 28]);
        assert_eq!(std::fs::read(&path).unwrap(), want);
        let mut read = Container::open(&path).unwrap();
        let place = read.tensors["a"].clone();
        let mut values = [0.0; 2];
        read.read(&place, &mut values).unwrap();
        assert_eq!((place.shape, values), (vec![2, 1], [1.0, -2.0]));
    }

    #[test]
    fn cut_and_false_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        let refused = |bytes: &[u8], says: &str| {
            std::fs::write(&path, bytes).unwrap();
            match Container::open(&path).unwrap_err() {
                Fault::Malformed(reason) => assert!(reason.contains(says), "{reason}"),
                Fault::Io(error) => panic!("{error}"),
            }
        };
        let head = |tensors: u64, keys: u64| {
            [b"GGUF\x03\0\0\0".to_vec(), tensors.to_le_bytes().into(), keys.to_le_bytes().into()]
                .concat()
        };
        refused(b"", "cut short");
        refused(b"GGML\0\0\0\0", "does not begin with GGUF");
        refused(b"GGUF\x01\0\0\0", "version 1");
        refused(&head(u64::MAX, 0), "it claims 18446744073709551615 tensors and 0 keys");
        refused(&[head(0, 1), u64::MAX.to_le_bytes().into()].concat(), "a text of");
        let list = b"\x01\0\0\0\0\0\0\0k\x09\0\0\0\x04\0\0\0\xff\xff\xff\xff\0\0\0\0";
        refused(&[&head(0, 1)[..], list].concat(), "4294967295 elements");
        let tensor = |code: u8, offset: u8| {
            let name = b"\x01\0\0\0\0\0\0\0a\x01\0\0\0\x09\0\0\0\0\0\0\0".as_slice();
            [&head(1, 0)[..], name, &[code, 0, 0, 0, offset], &[0; 7]].concat()
        };
        refused(&tensor(0, 0), "ends behind the file");
        refused(&tensor(0, 32), "tensor `a` begins at 32, not at 0");
        refused(&tensor(12, 0), "tensor `a` has the type Q4_K; F32, F16, BF16 and Q8_0 are read");
        refused(&tensor(99, 0), "tensor `a` has type 99");
        refused(&tensor(8, 0), "tensor `a` has the shape [9]");
    }
}
