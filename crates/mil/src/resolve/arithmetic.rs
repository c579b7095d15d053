//! Elementwise operations, comparisons and reductions.

use super::{
    Binary, Compare, GeluMode, Kind, Operand, Reader, Reduce, Resolved, Result1, Unary, reduced,
};
use crate::op::Op;
use crate::types::{DType, TensorType};

impl<'f> Reader<'f> {
    pub(super) fn cast(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let name = self.text("dtype")?.unwrap_or_default();
        let to = match DType::from_name(name) {
            Some(to) if to != DType::String && ty.dtype != DType::String => to,
            _ => {
                return self.err(
                    "dtype",
                    format!("cannot cast {} to `{name}`", ty.dtype),
                    "use fp16, fp32, int32, bool, …",
                );
            }
        };
        self.one(Kind::Cast, vec![x], TensorType::new(to, ty.shape.clone()))
    }

    fn pair(&self) -> Result1<(Vec<Operand<'f>>, TensorType)> {
        let (x, tx) = self.tensor("x")?;
        let (y, ty) = self.tensor("y")?;
        if matches!(tx.dtype, DType::String | DType::Bool) {
            return self.err("x", format!("expected numbers, got {}", tx.dtype), "");
        }
        self.same_dtype("y", tx, ty)?;
        let shape = self.broadcast("y", tx, ty)?;
        Ok((vec![x, y], TensorType::new(tx.dtype, shape)))
    }

    pub(super) fn binary(&self, binary: Binary) -> Result1<Resolved<'f>> {
        let (inputs, ty) = self.pair()?;
        self.one(Kind::Binary(binary), inputs, ty)
    }

    pub(super) fn compare(&self, compare: Compare) -> Result1<Resolved<'f>> {
        let (inputs, ty) = self.pair()?;
        self.one(Kind::Compare(compare), inputs, TensorType::new(DType::Bool, ty.shape))
    }

    pub(super) fn logical_not(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        if ty.dtype != DType::Bool {
            return self.err("x", format!("expected bool, got {}", ty.dtype), "compare first");
        }
        self.one(Kind::Not, vec![x], ty.clone())
    }

    pub(super) fn select(&self) -> Result1<Resolved<'f>> {
        let (cond, tc) = self.tensor("cond")?;
        let (a, ta) = self.tensor("a")?;
        let (b, tb) = self.tensor("b")?;
        if tc.dtype != DType::Bool {
            return self.err("cond", format!("expected bool, got {}", tc.dtype), "compare first");
        }
        self.same_dtype("b", ta, tb)?;
        let both = TensorType::new(ta.dtype, self.broadcast("b", ta, tb)?);
        let shape = self.broadcast("cond", &both, tc)?;
        self.one(Kind::Select, vec![cond, a, b], TensorType::new(ta.dtype, shape))
    }

    pub(super) fn unary(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.float_input("x")?;
        let f = |key| self.float(key, 0.0);
        let unary = match self.op.op {
            Op::Abs => Unary::Abs,
            Op::Atan => Unary::Atan,
            Op::Ceil => Unary::Ceil,
            Op::Clip => Unary::Clip { lo: f("alpha")?, hi: f("beta")? },
            Op::Cos => Unary::Cos,
            Op::Erf => Unary::Erf,
            Op::Exp => Unary::Exp,
            Op::Exp2 => Unary::Exp2,
            Op::Floor => Unary::Floor,
            Op::Inverse => Unary::Inverse { epsilon: f("epsilon")? },
            Op::Log => Unary::Log { epsilon: f("epsilon")? },
            Op::Round => Unary::Round,
            Op::Rsqrt => Unary::Rsqrt { epsilon: f("epsilon")? },
            Op::Sign => Unary::Sign,
            Op::Sin => Unary::Sin,
            Op::Sqrt => Unary::Sqrt,
            Op::Square => Unary::Square,
            Op::Tanh => Unary::Tanh,
            Op::Threshold => Unary::Threshold { alpha: f("alpha")? },
            Op::Relu => Unary::Relu,
            Op::Relu6 => Unary::Relu6,
            Op::LeakyRelu => Unary::LeakyRelu { alpha: f("alpha")? },
            Op::Elu => Unary::Elu { alpha: f("alpha")? },
            Op::Gelu => Unary::Gelu(self.gelu_mode()?),
            Op::Sigmoid => Unary::Sigmoid,
            Op::SigmoidHard => Unary::SigmoidHard { alpha: f("alpha")?, beta: f("beta")? },
            Op::Silu => Unary::Silu,
            Op::Softplus => Unary::Softplus,
            Op::Softsign => Unary::Softsign,
            Op::LinearActivation => Unary::Linear { alpha: f("alpha")?, beta: f("beta")? },
            other => unreachable!("{other} is not unary"),
        };
        self.one(Kind::Unary(unary), vec![x], ty.clone())
    }

    fn gelu_mode(&self) -> Result1<GeluMode> {
        match self.text("mode")?.unwrap_or_default() {
            "EXACT" => Ok(GeluMode::Exact),
            "TANH_APPROXIMATION" => Ok(GeluMode::Tanh),
            "SIGMOID_APPROXIMATION" => Ok(GeluMode::Sigmoid),
            other => self.err(
                "mode",
                format!("unknown mode `{other}`"),
                "use EXACT, TANH_APPROXIMATION or SIGMOID_APPROXIMATION",
            ),
        }
    }

    pub(super) fn reduce(&self, reduce: Reduce) -> Result1<Resolved<'f>> {
        let (x, ty) = self.float_input("x")?;
        let axes = self.axes("axes", ty.rank())?;
        let keep_dims = self.bool("keep_dims")?;
        let shape = reduced(&ty.shape, &axes, keep_dims);
        self.one(
            Kind::Reduce { reduce, axes, keep_dims },
            vec![x],
            TensorType::new(ty.dtype, shape),
        )
    }
}
