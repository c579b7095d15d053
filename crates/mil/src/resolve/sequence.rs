//! Values made of numbers, and the largest of a sequence.

use super::{Kind, Reader, Resolved, Result1};
use crate::types::{DType, TensorType};

/// Most elements of a range.
const MAX_RANGE: f64 = 16_777_216.0;

impl<'f> Reader<'f> {
    /// A constant number or truth value with its type.
    fn scalar(&self, key: &str) -> Result1<Option<(f64, DType)>> {
        let Some(literal) = self.literal(key)? else { return Ok(None) };
        match literal.data().and_then(|data| data.to_f64()).as_deref() {
            Some([value]) => Ok(Some((*value, literal.ty.dtype))),
            _ => self.err(key, format!("expected one number, got {}", literal.ty), ""),
        }
    }

    pub(super) fn fill(&self, shape: &[usize]) -> Result1<Resolved<'f>> {
        let (value, dtype) = self.scalar("value")?.unwrap_or((0.0, DType::Fp32));
        self.one(Kind::Fill { value }, vec![], TensorType::new(dtype, shape))
    }

    pub(super) fn fill_shape(&self) -> Result1<Vec<usize>> {
        let shape = self.ints("shape")?.unwrap_or_default();
        if shape.iter().any(|&n| n < 1) {
            return self.err("shape", format!("expected positive extents, got {shape:?}"), "");
        }
        Ok(shape.iter().map(|&n| n as usize).collect())
    }

    pub(super) fn range(&self) -> Result1<Resolved<'f>> {
        let number = |key: &str| match self.scalar(key)? {
            Some((_, DType::Bool)) | None => self.err(key, "expected one number", ""),
            Some(pair) => Ok(pair),
        };
        let ((start, ty), (end, te), (step, ts)) =
            (number("start")?, number("end")?, number("step")?);
        if te != ty || ts != ty {
            let message = format!("start is {ty}, end {te}, step {ts}");
            return self.err("start", message, "all three need one element type");
        }
        let count = ((end - start) / step).ceil();
        if !(1.0..=MAX_RANGE).contains(&count) {
            let message = format!("{count} elements from {start} to {end} by {step}");
            return self.err("end", message, "a range has at least one element");
        }
        let kind = Kind::Range { start, step };
        self.one(kind, vec![], TensorType::new(ty, [count as usize]))
    }

    pub(super) fn topk(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        if ty.dtype == DType::Bool || ty.rank() == 0 {
            return self.err("x", format!("expected numbers with an axis, got {ty}"), "");
        }
        let axis = self.axis_of("axis", self.int("axis")?.unwrap_or(-1), ty.rank())?;
        let n = ty.shape[axis];
        let k = match self.int("k")?.unwrap_or(1) {
            -1 => n,
            k if k >= 1 && k as u64 <= n as u64 => k as usize,
            k => return self.err("k", format!("{k} of {n} elements"), "k is 1 to the extent"),
        };
        let ascending = self.bool("ascending")?;
        self.bool_or("sort", true)?;
        let mut shape = ty.shape.clone();
        shape[axis] = k;
        let mut results = vec![TensorType::new(ty.dtype, shape.clone())];
        if self.bool_or("return_indices", true)? {
            let dtype = match self.text("output_indices_dtype")?.unwrap_or("int32") {
                "int32" => DType::Int32,
                "uint16" => DType::UInt16,
                other => {
                    let message = format!("cannot give indices as `{other}`");
                    return self.err("output_indices_dtype", message, "use int32 or uint16");
                }
            };
            results.push(TensorType::new(dtype, shape));
        }
        Ok(Resolved { kind: Kind::TopK { axis, ascending }, inputs: vec![x], results })
    }
}
