//! Element types, tensor types and literals.

use half::f16;
use std::fmt;

/// Element type of a MIL tensor, by its name in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE binary16.
    Fp16,
    /// IEEE binary32.
    Fp32,
    /// Signed 4-bit integer (blobs only).
    Int4,
    /// Signed 8-bit integer.
    Int8,
    /// Signed 16-bit integer.
    Int16,
    /// Signed 32-bit integer.
    Int32,
    /// Signed 64-bit integer (attributes only).
    Int64,
    /// Unsigned 1-bit integer (blobs only).
    UInt1,
    /// Unsigned 2-bit integer (blobs only).
    UInt2,
    /// Unsigned 3-bit integer (blobs only).
    UInt3,
    /// Unsigned 4-bit integer (blobs only).
    UInt4,
    /// Unsigned 6-bit integer (blobs only).
    UInt6,
    /// Unsigned 8-bit integer.
    UInt8,
    /// Unsigned 16-bit integer.
    UInt16,
    /// Unsigned 32-bit integer.
    UInt32,
    /// Unsigned 64-bit integer (attributes such as a blob offset).
    UInt64,
    /// Truth value.
    Bool,
    /// Text (attributes only).
    String,
}

impl DType {
    /// Every element type, with its text name and its width in bits (0 for text).
    const TABLE: &'static [(DType, &'static str, usize)] = &[
        (DType::Fp16, "fp16", 16),
        (DType::Fp32, "fp32", 32),
        (DType::Int4, "int4", 4),
        (DType::Int8, "int8", 8),
        (DType::Int16, "int16", 16),
        (DType::Int32, "int32", 32),
        (DType::Int64, "int64", 64),
        (DType::UInt1, "uint1", 1),
        (DType::UInt2, "uint2", 2),
        (DType::UInt3, "uint3", 3),
        (DType::UInt4, "uint4", 4),
        (DType::UInt6, "uint6", 6),
        (DType::UInt8, "uint8", 8),
        (DType::UInt16, "uint16", 16),
        (DType::UInt32, "uint32", 32),
        (DType::UInt64, "uint64", 64),
        (DType::Bool, "bool", 8),
        (DType::String, "string", 0),
    ];

    /// The name used in MIL text, for instance `fp16`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The type called `name` in MIL text.
    pub fn from_name(name: &str) -> Option<DType> {
        Self::TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Width of one element in bits; 0 for text.
    pub fn bits(self) -> usize {
        self.row().2
    }

    /// Bytes that `count` packed elements take, rounded up to a whole byte; saturates as
    /// [`TensorType::count`] does.
    pub fn bytes(self, count: usize) -> usize {
        count.saturating_mul(self.bits()).div_ceil(8)
    }

    /// True if this is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::Fp16 | DType::Fp32)
    }

    /// Smallest and largest value of an integer type; `None` for the others.
    pub fn int_range(self) -> Option<(i64, i64)> {
        use DType::*;
        match self {
            Int4 | Int8 | Int16 | Int32 => {
                Some((-(1 << (self.bits() - 1)), (1 << (self.bits() - 1)) - 1))
            }
            UInt1 | UInt2 | UInt3 | UInt4 | UInt6 | UInt8 | UInt16 | UInt32 => {
                Some((0, (1 << self.bits()) - 1))
            }
            Int64 => Some((i64::MIN, i64::MAX)),
            UInt64 => Some((0, i64::MAX)),
            Fp16 | Fp32 | Bool | String => None,
        }
    }

    fn row(self) -> &'static (DType, &'static str, usize) {
        Self::TABLE.iter().find(|row| row.0 == self).expect("every type has a row")
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Element type and shape of a value. A scalar has an empty shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extent of every axis, outermost first.
    pub shape: Vec<usize>,
}

impl TensorType {
    /// A tensor of `dtype` with `shape`.
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>) -> Self {
        TensorType { dtype, shape: shape.into() }
    }

    /// A half-precision tensor.
    pub fn fp16(shape: impl Into<Vec<usize>>) -> Self {
        Self::new(DType::Fp16, shape)
    }

    /// A single-precision tensor.
    pub fn fp32(shape: impl Into<Vec<usize>>) -> Self {
        Self::new(DType::Fp32, shape)
    }

    /// A scalar of `dtype`.
    pub fn scalar(dtype: DType) -> Self {
        Self::new(dtype, [])
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements (1 for a scalar); saturates instead of overflowing.
    pub fn count(&self) -> usize {
        self.shape.iter().fold(1usize, |n, &d| n.saturating_mul(d))
    }

    /// Bytes of the packed elements.
    pub fn bytes(&self) -> usize {
        self.dtype.bytes(self.count())
    }
}

impl fmt::Display for TensorType {
    /// Prints the type as MIL text does: `tensor<fp16, [1, 64, 1, 16]>`, scalars as `fp16`, or with
    /// `{:#}` as `tensor<fp16, []>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shape.is_empty() && !f.alternate() {
            return write!(f, "{}", self.dtype);
        }
        write!(f, "tensor<{}, [", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]>")
    }
}

/// Elements of a literal. Integers of every width are held as `i64`.
#[derive(Clone, Debug)]
pub enum Data {
    /// Half-precision numbers.
    Fp16(Vec<f16>),
    /// Single-precision numbers.
    Fp32(Vec<f32>),
    /// Integers of any width.
    Int(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::Fp16(v) => v.len(),
            Data::Fp32(v) => v.len(),
            Data::Int(v) => v.len(),
            Data::Bool(v) => v.len(),
            Data::String(v) => v.len(),
        }
    }

    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as `f64` (truth values as 0 and 1); `None` for text.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        Some(match self {
            Data::Fp16(v) => v.iter().map(|x| x.to_f64()).collect(),
            Data::Fp32(v) => v.iter().map(|&x| x as f64).collect(),
            Data::Int(v) => v.iter().map(|&x| x as f64).collect(),
            Data::Bool(v) => v.iter().map(|&x| x as u8 as f64).collect(),
            Data::String(_) => return None,
        })
    }
}

/// Floats are compared by their bits, so that a program with a NaN equals itself.
impl PartialEq for Data {
    fn eq(&self, other: &Data) -> bool {
        match (self, other) {
            (Data::Fp16(a), Data::Fp16(b)) => {
                a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
            }
            (Data::Fp32(a), Data::Fp32(b)) => {
                a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
            }
            (Data::Int(a), Data::Int(b)) => a == b,
            (Data::Bool(a), Data::Bool(b)) => a == b,
            (Data::String(a), Data::String(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Data {}

/// Where the elements of a literal are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the text itself.
    Inline(Data),
    /// In a weight file: `BLOBFILE(path = …, offset = …)`; `offset` is that of the metadata record.
    Blob {
        /// Path as written, usually `@model_path/weights/NAME.bin`.
        path: String,
        /// Byte offset of the blob's metadata record in the file.
        offset: u64,
    },
}

/// A typed constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// Element type and shape.
    pub ty: TensorType,
    /// The elements, or where they are.
    pub payload: Payload,
}

impl Literal {
    /// An inline literal. The length of `data` must be the type's element count.
    pub fn inline(ty: TensorType, data: Data) -> Self {
        debug_assert_eq!(ty.count(), data.len(), "literal of {ty}");
        Literal { ty, payload: Payload::Inline(data) }
    }

    /// A scalar text.
    pub fn string(text: &str) -> Self {
        Self::inline(TensorType::scalar(DType::String), Data::String(vec![text.to_owned()]))
    }

    /// A scalar truth value.
    pub fn bool(value: bool) -> Self {
        Self::inline(TensorType::scalar(DType::Bool), Data::Bool(vec![value]))
    }

    /// A scalar 32-bit integer.
    pub fn int(value: i64) -> Self {
        Self::inline(TensorType::scalar(DType::Int32), Data::Int(vec![value]))
    }

    /// A vector of 32-bit integers.
    pub fn ints(values: &[i64]) -> Self {
        Self::inline(TensorType::new(DType::Int32, [values.len()]), Data::Int(values.to_vec()))
    }

    /// A scalar float of `dtype` ([`DType::Fp16`] rounds to nearest even, others give `fp32`).
    pub fn float(dtype: DType, value: f64) -> Self {
        Self::floats(TensorType::scalar(dtype), &[value])
    }

    /// A float tensor of type `ty`, each value rounded to nearest even.
    pub fn floats(ty: TensorType, values: &[f64]) -> Self {
        let data = match ty.dtype {
            DType::Fp16 => Data::Fp16(values.iter().map(|&v| f16::from_f64(v)).collect()),
            _ => Data::Fp32(values.iter().map(|&v| v as f32).collect()),
        };
        Self::inline(ty, data)
    }

    /// A tensor kept in a weight file.
    pub fn blob(ty: TensorType, path: &str, offset: u64) -> Self {
        Literal { ty, payload: Payload::Blob { path: path.to_owned(), offset } }
    }

    /// The inline elements, if they are in the text.
    pub fn data(&self) -> Option<&Data> {
        match &self.payload {
            Payload::Inline(data) => Some(data),
            Payload::Blob { .. } => None,
        }
    }
}
