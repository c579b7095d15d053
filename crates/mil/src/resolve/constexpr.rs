//! Operations that the compiler computes: constants stored in fewer bits.

use super::{Kind, Operand, Reader, Resolved, Result1};
use crate::types::{DType, Data, TensorType};

/// How a constant is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constexpr {
    /// Inputs quantized_data, zero_point, scale: (data − zero_point)·scale; vectors lie along `axis`.
    Affine {
        /// Axis of vectors.
        axis: usize,
    },
    /// Inputs data, scale and perhaps offset, both with one element per block of data:
    /// (data − offset)·scale.
    Blockwise,
    /// Input source_val, in the result's element type.
    Cast,
    /// Inputs indices, packed into bytes, and lut, a vector.
    PackedLut {
        /// Bits per index.
        bits: usize,
    },
    /// Inputs indices and lut [one per block of indices…, palettes, vector].
    Lut {
        /// Axis along which vectors are laid.
        axis: usize,
    },
    /// Inputs nonzero_data and mask, packed into bytes.
    PackedSparse,
    /// Inputs nonzero_data and mask, of the result's shape.
    Sparse,
}

/// Element types that a compressed constant may have.
const SMALL: [DType; 6] =
    [DType::Int4, DType::UInt4, DType::Int8, DType::UInt8, DType::Fp16, DType::Fp32];

/// Element types of indices, each as wide as its table is long.
const INDICES: [DType; 6] =
    [DType::UInt1, DType::UInt2, DType::UInt3, DType::UInt4, DType::UInt6, DType::UInt8];

impl<'f> Reader<'f> {
    /// A tensor that is known when the program is compiled.
    fn known(&self, key: &str) -> Result1<(Operand<'f>, &'f TensorType)> {
        let (operand, ty) = self.tensor(key)?;
        let constant = match operand {
            Operand::Literal(_) => true,
            Operand::Value(id) => {
                let op = self.f.definition(id).map(|i| &self.f.ops[i]);
                op.is_some_and(|op| op.value.is_some() || op.op.is_constexpr())
            }
        };
        if constant {
            return Ok((operand, ty));
        }
        self.err(key, "is not a constant", "the compiler computes this operation")
    }

    fn one_of(&self, key: &str, ty: &TensorType, types: &[DType]) -> Result1<()> {
        if types.contains(&ty.dtype) {
            return Ok(());
        }
        let names: Vec<_> = types.iter().map(|ty| ty.name()).collect();
        self.err(key, format!("expected {}, got {}", names.join(", "), ty.dtype), "")
    }

    fn vector(&self, key: &str, ty: &TensorType) -> Result1<usize> {
        match ty.shape[..] {
            [n] => Ok(n),
            _ => self.err(key, format!("expected a vector, got {ty}"), ""),
        }
    }

    /// The `shape` of a packed constant, if it is written.
    fn packed_shape(&self) -> Result1<Option<Vec<usize>>> {
        let Some(shape) = self.ints("shape")? else { return Ok(None) };
        if shape.iter().any(|&n| n < 1) {
            return self.err("shape", format!("expected positive extents, got {shape:?}"), "");
        }
        Ok(Some(shape.iter().map(|&n| n as usize).collect()))
    }

    /// Refuses a packed operand that does not have a byte for every eight bits.
    fn packed_bytes(
        &self,
        key: &str,
        ty: &TensorType,
        bits: usize,
        shape: &[usize],
    ) -> Result1<()> {
        self.one_of(key, ty, &[DType::UInt8])?;
        let count = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        let bytes = count.saturating_mul(bits).div_ceil(8);
        if self.vector(key, ty)? == bytes {
            return Ok(());
        }
        let message = format!("{count} elements of {bits} bits take {bytes} bytes, got {ty}");
        self.err(key, message, "elements are packed from the lowest bit of each byte")
    }

    /// Checks that `ty` has one element per block of `data`.
    fn blocks(&self, key: &str, ty: &[usize], data: &[usize]) -> Result1<()> {
        let fits = ty.len() == data.len()
            && !data.is_empty()
            && data.iter().zip(ty).all(|(&n, &blocks)| blocks > 0 && n % blocks == 0);
        if fits {
            return Ok(());
        }
        let hint = "it has the rank of the data, and every extent divides the data's";
        self.err(key, format!("{ty:?} does not cut {data:?} into blocks"), hint)
    }

    pub(super) fn constexpr_affine(&self) -> Result1<Resolved<'f>> {
        let (data, td) = self.known("quantized_data")?;
        let (zero, tz) = self.known("zero_point")?;
        let (scale, ts) = self.known("scale")?;
        if td.dtype.int_range().is_none() || (tz.dtype != td.dtype && tz.dtype != DType::Fp32) {
            return self.err("quantized_data", format!("{td} with zero point {tz}"), "");
        }
        self.one_of("scale", ts, &[DType::Fp16, DType::Fp32])?;
        let axis = self.axis("axis", td.rank())?;
        for (key, t) in [("zero_point", tz), ("scale", ts)] {
            if !(t.rank() == 0 || t.shape == [td.shape[axis]]) {
                return self.err(key, format!("{t} does not fit axis {axis} of {td}"), "");
            }
        }
        let ty = TensorType::new(ts.dtype, td.shape.clone());
        self.one(Kind::Constexpr(Constexpr::Affine { axis }), vec![data, zero, scale], ty)
    }

    pub(super) fn constexpr_blockwise(&self) -> Result1<Resolved<'f>> {
        let (data, td) = self.known("data")?;
        let (scale, ts) = self.known("scale")?;
        self.one_of("data", td, &SMALL)?;
        self.one_of("scale", ts, &[DType::Fp16, DType::Fp32])?;
        self.blocks("scale", &ts.shape, &td.shape)?;
        let mut inputs = vec![data, scale];
        if self.op.arg("offset").is_some() {
            let (offset, to) = self.known("offset")?;
            if to.shape != ts.shape || !(to.dtype == td.dtype || to.dtype.is_float()) {
                let message = format!("{to} does not fit data {td} and scale {ts}");
                return self.err("offset", message, "it has the shape of scale and data's type");
            }
            inputs.push(offset);
        }
        let ty = TensorType::new(ts.dtype, td.shape.clone());
        self.one(Kind::Constexpr(Constexpr::Blockwise), inputs, ty)
    }

    pub(super) fn constexpr_cast(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.known("source_val")?;
        self.one_of("source_val", ty, &[DType::Fp16])?;
        match self.text("output_dtype")? {
            Some("fp32") => {
                let ty = TensorType::fp32(ty.shape.clone());
                self.one(Kind::Constexpr(Constexpr::Cast), vec![x], ty)
            }
            other => {
                let message = format!("cannot cast to `{}`", other.unwrap_or_default());
                self.err("output_dtype", message, "write string(\"fp32\")")
            }
        }
    }

    pub(super) fn constexpr_lut(&self) -> Result1<Resolved<'f>> {
        let (indices, ti) = self.known("indices")?;
        let (lut, tl) = self.known("lut")?;
        self.one_of("lut", tl, &SMALL)?;
        let inputs = vec![indices, lut];
        let Some(shape) = self.packed_shape()? else {
            let axis = self.lut_axis(ti, tl)?;
            let mut shape = ti.shape.clone();
            shape[axis] = shape[axis].saturating_mul(tl.shape[tl.rank() - 1]);
            let ty = TensorType::new(tl.dtype, shape);
            return self.one(Kind::Constexpr(Constexpr::Lut { axis }), inputs, ty);
        };
        if self.op.arg("vector_axis").is_some() {
            return self.err("vector_axis", "is given together with `shape`", "leave one out");
        }
        let palettes = self.vector("lut", tl)?;
        if ![2, 4, 16, 64, 256].contains(&palettes) {
            let message = format!("expected 2, 4, 16, 64 or 256 entries, got {palettes}");
            return self.err("lut", message, "");
        }
        let bits = palettes.ilog2() as usize;
        self.packed_bytes("indices", ti, bits, &shape)?;
        let ty = TensorType::new(tl.dtype, shape);
        self.one(Kind::Constexpr(Constexpr::PackedLut { bits }), inputs, ty)
    }

    /// Checks indices that have a shape of their own, and gives the axis of vectors.
    fn lut_axis(&self, indices: &TensorType, lut: &TensorType) -> Result1<usize> {
        self.one_of("indices", indices, &INDICES)?;
        let (rank, bits) = (indices.rank(), indices.dtype.bits());
        if lut.rank() != rank + 2 || lut.shape[rank] != 1 << bits {
            let message = format!("{lut} does not fit indices {indices}");
            let hint = format!("a lut is [blocks of indices…, {}, vector]", 1 << bits);
            return self.err("lut", message, &hint);
        }
        self.blocks("lut", &lut.shape[..rank], &indices.shape)?;
        match (self.int("vector_axis")?, lut.shape[rank + 1]) {
            (Some(axis), 1..) => self.axis_of("vector_axis", axis, rank),
            (None, 1) => Ok(0),
            (_, n) => {
                let message = format!("is missing for vectors of {n}");
                self.err("vector_axis", message, "name the axis along which vectors are laid")
            }
        }
    }

    pub(super) fn constexpr_sparse(&self) -> Result1<Resolved<'f>> {
        let (data, td) = self.known("nonzero_data")?;
        let (mask, tm) = self.known("mask")?;
        self.one_of("nonzero_data", td, &SMALL)?;
        let nonzero = self.vector("nonzero_data", td)?;
        let (kind, shape) = match self.packed_shape()? {
            Some(shape) => {
                self.packed_bytes("mask", tm, 1, &shape)?;
                (Constexpr::PackedSparse, shape)
            }
            None => {
                self.one_of("mask", tm, &[DType::UInt1])?;
                (Constexpr::Sparse, tm.shape.clone())
            }
        };
        if let Some(Data::Int(mask)) = self.literal("mask")?.and_then(|literal| literal.data()) {
            let ones = mask.iter().map(|m| m.count_ones() as usize).sum::<usize>();
            if ones != nonzero {
                let message = format!("{ones} bits are set for {nonzero} elements");
                return self.err("mask", message, "one bit is set per element of nonzero_data");
            }
        }
        let ty = TensorType::new(td.dtype, shape);
        self.one(Kind::Constexpr(kind), vec![data, mask], ty)
    }
}
