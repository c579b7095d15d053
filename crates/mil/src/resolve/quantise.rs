//! Quantisation of values that are computed.

use super::{Kind, Operand, Reader, Resolved, Result1};
use crate::types::{DType, TensorType};

impl<'f> Reader<'f> {
    /// Scale and zero point of a quantisation, and the axis of vector ones.
    fn scales(
        &self,
        x: Operand<'f>,
        tx: &TensorType,
        integer: DType,
    ) -> Result1<(Vec<Operand<'f>>, DType, Option<usize>)> {
        let (scale, ts) = self.float_input("scale")?;
        let mut inputs = vec![x, scale];
        if let Some((zero, tz)) = self.optional("zero_point") {
            if tz.dtype != integer || tz.shape != ts.shape {
                return self.err("zero_point", format!("{tz} does not fit scale {ts}"), "");
            }
            inputs.push(zero);
        }
        let axis = match ts.rank() {
            0 => None,
            1 => Some(self.axis("axis", tx.rank())?),
            _ => return self.err("scale", format!("expected a scalar or a vector, got {ts}"), ""),
        };
        if let Some(axis) = axis
            && tx.shape[axis] != ts.shape[0]
        {
            return self.err("scale", format!("{ts} does not fit axis {axis} of {tx}"), "");
        }
        Ok((inputs, ts.dtype, axis))
    }

    pub(super) fn quantize(&self) -> Result1<Resolved<'f>> {
        let (x, tx) = self.float_input("input")?;
        let name = self.text("output_dtype")?.unwrap_or_default();
        let to = match DType::from_name(name) {
            Some(to @ (DType::Int8 | DType::UInt8 | DType::Int4 | DType::UInt4)) => to,
            _ => {
                return self.err(
                    "output_dtype",
                    format!("cannot quantize to `{name}`"),
                    "use int8",
                );
            }
        };
        let (inputs, _, axis) = self.scales(x, tx, to)?;
        self.one(Kind::Quantize { axis }, inputs, TensorType::new(to, tx.shape.clone()))
    }

    pub(super) fn dequantize(&self) -> Result1<Resolved<'f>> {
        let (x, tx) = self.tensor("input")?;
        if tx.dtype.int_range().is_none() {
            return self.err("input", format!("expected integers, got {}", tx.dtype), "");
        }
        let (inputs, to, axis) = self.scales(x, tx, tx.dtype)?;
        self.one(Kind::Dequantize { axis }, inputs, TensorType::new(to, tx.shape.clone()))
    }
}
