//! From an operation as written to what it means: attributes checked and normalised, types inferred.
//!
//! [`resolve`] is the only place that reads attributes. The verifier, the builder, the reference
//! interpreter, autodiff and every device work on the [`Resolved`] form, in which axes are
//! non-negative, defaults are filled in, and the ways to write a reshape are one.

use crate::ir::{Arg, Function, Operation, ValueId};
use crate::op::{Op, ParamKind};
use crate::types::{DType, Data, Literal, TensorType};
use std::fmt;

mod arithmetic;
mod checked;
mod constexpr;
mod einsum;
mod kind;
mod movement;
mod norm;
mod pool;
mod products;
mod quantise;
mod rearrange;
mod resample;
mod sequence;

pub use constexpr::Constexpr;
pub use einsum::Einsum;
pub use kind::{Binary, Compare, ConvGeometry, GeluMode, Kind, PadMode, Reduce, Unary};
pub use norm::{Activation, Norm};
pub use pool::{Pool, Window};
pub use rearrange::Rearrange;
pub use resample::{Resample, Sampling};

/// A tensor argument.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'f> {
    /// A value of the function.
    Value(ValueId),
    /// A literal written in place.
    Literal(&'f Literal),
}

/// An operation with its meaning, inputs and result types.
#[derive(Clone, Debug)]
pub struct Resolved<'f> {
    /// Meaning.
    pub kind: Kind,
    /// Tensor arguments in the order that [`Kind`] documents.
    pub inputs: Vec<Operand<'f>>,
    /// Inferred type of every result.
    pub results: Vec<TensorType>,
}

impl Resolved<'_> {
    /// The inputs as values.
    ///
    /// # Panics
    /// If a literal is written in place: call [`crate::passes::hoist_constants`] first.
    pub fn values(&self) -> Vec<ValueId> {
        self.inputs
            .iter()
            .map(|input| match input {
                Operand::Value(id) => *id,
                Operand::Literal(_) => panic!("in-place literals were not hoisted"),
            })
            .collect()
    }
}

/// An operation that breaks a rule of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// The operation.
    pub op: Op,
    /// The argument at fault, if one is.
    pub key: Option<String>,
    /// The expectation and the finding.
    pub message: String,
    /// How to mend it; may be empty.
    pub hint: String,
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}, argument `{key}`: {}", self.op, self.message),
            None => write!(f, "{}: {}", self.op, self.message),
        }
    }
}

impl std::error::Error for OpError {}

/// Reads the attributes of `op` and infers the types of its results.
///
/// # Errors
/// When a required argument is missing or unknown, an attribute is not a constant or out of range,
/// or the types of the inputs do not fit together.
pub fn resolve<'f>(f: &'f Function, op: &'f Operation) -> Result<Resolved<'f>, OpError> {
    let reader = Reader { f, op };
    reader.check_keys()?;
    reader.resolve()
}

/// Shape that NumPy broadcasting gives, or `None` if the shapes do not fit.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    (0..rank)
        .map(|i| {
            let x = if i + a.len() >= rank { a[i + a.len() - rank] } else { 1 };
            let y = if i + b.len() >= rank { b[i + b.len() - rank] } else { 1 };
            match (x, y) {
                _ if x == y => Some(x),
                (1, n) | (n, 1) => Some(n),
                _ => None,
            }
        })
        .collect()
}

struct Reader<'f> {
    f: &'f Function,
    op: &'f Operation,
}

/// Most integers of an attribute, and most pieces of a `split`: what resolving one operation may
/// cost, whatever a program claims.
const MAX_ATTRIBUTE: usize = 4096;

type Result1<T> = std::result::Result<T, OpError>;

impl<'f> Reader<'f> {
    fn err<T>(&self, key: &str, message: impl Into<String>, hint: &str) -> Result1<T> {
        Err(OpError {
            op: self.op.op,
            key: (!key.is_empty()).then(|| key.to_owned()),
            message: message.into(),
            hint: hint.to_owned(),
        })
    }

    fn check_keys(&self) -> Result1<()> {
        let signature = self.op.op.signature();
        for (i, (key, arg)) in self.op.args.iter().enumerate() {
            let Some(param) = signature.param(key) else {
                let known: Vec<_> = signature.params.iter().map(|p| p.key).collect();
                return self.err(
                    key,
                    "there is no such argument",
                    &format!("{} takes {}", self.op.op, known.join(", ")),
                );
            };
            if self.op.args[..i].iter().any(|(k, _)| k == key) {
                return self.err(key, "is given twice", "remove one of them");
            }
            let tuple = matches!(arg, Arg::Values(_));
            if tuple != (param.kind == ParamKind::Tensors) {
                let expected = if tuple { "one value" } else { "a tuple of values (a, b)" };
                return self.err(key, format!("expected {expected}"), "");
            }
            if matches!(param.kind, ParamKind::Tensor | ParamKind::Tensors) {
                self.check_tensor(key, arg)?;
            }
        }
        for param in signature.params.iter().filter(|p| p.required) {
            if self.op.arg(param.key).is_none() {
                return self.err(
                    param.key,
                    "is missing",
                    "the compiler does not fill in this argument",
                );
            }
        }
        Ok(())
    }

    /// Refuses text as a tensor, and extents that the rules below could not compute with.
    fn check_tensor(&self, key: &str, arg: &Arg) -> Result1<()> {
        let ids = match arg {
            Arg::Literal(literal) | Arg::Attribute(literal) => {
                return self.check_type(key, &literal.ty);
            }
            Arg::Value(id) => std::slice::from_ref(id),
            Arg::Values(ids) => ids,
        };
        ids.iter().try_for_each(|&id| self.check_type(key, self.f.ty(id)))
    }

    fn check_type(&self, key: &str, ty: &TensorType) -> Result1<()> {
        if ty.dtype == DType::String {
            return self.err(key, "expected a tensor, got text", "");
        }
        match ty.shape.iter().find(|&&n| n > i64::MAX as usize) {
            Some(n) => self.err(key, format!("extent {n} is too large"), ""),
            None => Ok(()),
        }
    }

    // ---- arguments ----

    fn operand_type(&self, operand: Operand<'f>) -> &'f TensorType {
        match operand {
            Operand::Value(id) => self.f.ty(id),
            Operand::Literal(literal) => &literal.ty,
        }
    }

    fn tensor(&self, key: &str) -> Result1<(Operand<'f>, &'f TensorType)> {
        match self.optional(key) {
            Some(pair) => Ok(pair),
            None => self.err(key, "is missing", ""),
        }
    }

    fn optional(&self, key: &str) -> Option<(Operand<'f>, &'f TensorType)> {
        let operand = match self.op.arg(key)? {
            Arg::Value(id) => Operand::Value(*id),
            Arg::Literal(literal) | Arg::Attribute(literal) => Operand::Literal(literal),
            Arg::Values(_) => return None,
        };
        Some((operand, self.operand_type(operand)))
    }

    fn literal(&self, key: &str) -> Result1<Option<&'f Literal>> {
        match self.op.arg(key) {
            None => Ok(None),
            Some(Arg::Literal(literal) | Arg::Attribute(literal)) => Ok(Some(literal)),
            Some(Arg::Value(id)) => match self.f.constant(*id) {
                Some(literal) => Ok(Some(literal)),
                None => self.err(
                    key,
                    format!("`{}` is not a constant", self.f.value(*id).name),
                    "attributes are fixed when the program is compiled: use const()",
                ),
            },
            Some(Arg::Values(_)) => self.err(key, "expected one constant", ""),
        }
    }

    fn data(&self, key: &str) -> Result1<Option<&'f Data>> {
        match self.literal(key)? {
            None => Ok(None),
            Some(literal) => match literal.data() {
                Some(data) => Ok(Some(data)),
                None => self.err(key, "an attribute cannot come from a weight file", ""),
            },
        }
    }

    fn ints(&self, key: &str) -> Result1<Option<Vec<i64>>> {
        match self.data(key)? {
            None => Ok(None),
            Some(Data::Int(v)) if v.len() > MAX_ATTRIBUTE => self.err(
                key,
                format!("expected at most {MAX_ATTRIBUTE} integers, got {}", v.len()),
                "",
            ),
            Some(Data::Int(v)) => Ok(Some(v.clone())),
            Some(_) => {
                self.err(key, "expected integers", "write int32(…) or tensor<int32, [n]>([…])")
            }
        }
    }

    fn int(&self, key: &str) -> Result1<Option<i64>> {
        match self.ints(key)?.as_deref() {
            None => Ok(None),
            Some([v]) => Ok(Some(*v)),
            Some(v) => self.err(key, format!("expected one integer, got {}", v.len()), ""),
        }
    }

    fn bools(&self, key: &str, rank: usize) -> Result1<Vec<bool>> {
        match self.data(key)? {
            None => Ok(vec![false; rank]),
            Some(Data::Bool(v)) if v.len() == rank => Ok(v.clone()),
            Some(Data::Bool(v)) => {
                self.err(key, format!("expected {rank} truth values, got {}", v.len()), "")
            }
            Some(_) => self.err(key, "expected truth values", "write tensor<bool, [n]>([…])"),
        }
    }

    fn bool(&self, key: &str) -> Result1<bool> {
        self.bool_or(key, false)
    }

    fn bool_or(&self, key: &str, default: bool) -> Result1<bool> {
        match self.data(key)? {
            None => Ok(default),
            Some(Data::Bool(v)) if v.len() == 1 => Ok(v[0]),
            Some(_) => self.err(key, "expected one truth value", "write bool(true) or bool(false)"),
        }
    }

    fn float(&self, key: &str, default: f64) -> Result1<f64> {
        match self.data(key)? {
            None => Ok(default),
            Some(data @ (Data::Fp16(_) | Data::Fp32(_))) if data.len() == 1 => {
                Ok(data.to_f64().expect("floats convert")[0])
            }
            Some(_) => self.err(key, "expected one float", "write fp16(…) or fp32(…)"),
        }
    }

    fn text(&self, key: &str) -> Result1<Option<&'f str>> {
        match self.data(key)? {
            None => Ok(None),
            Some(Data::String(v)) if v.len() == 1 => Ok(Some(&v[0])),
            Some(_) => self.err(key, "expected one text", "write string(\"…\")"),
        }
    }

    fn axis_of(&self, key: &str, axis: i64, rank: usize) -> Result1<usize> {
        let normal = if axis < 0 { axis + rank as i64 } else { axis };
        if (0..rank as i64).contains(&normal) {
            return Ok(normal as usize);
        }
        self.err(key, format!("axis {axis} is outside a tensor of rank {rank}"), "")
    }

    fn axis(&self, key: &str, rank: usize) -> Result1<usize> {
        match self.int(key)? {
            Some(axis) => self.axis_of(key, axis, rank),
            None => self.err(key, "is missing", ""),
        }
    }

    /// Normalised, ascending, distinct axes; all of them when the argument is absent.
    fn axes(&self, key: &str, rank: usize) -> Result1<Vec<usize>> {
        let Some(written) = self.ints(key)? else { return Ok((0..rank).collect()) };
        let mut axes = Vec::with_capacity(written.len().min(rank));
        for axis in written {
            let axis = self.axis_of(key, axis, rank)?;
            if axes.contains(&axis) {
                return self.err(key, format!("axis {axis} is given twice"), "");
            }
            axes.push(axis);
        }
        axes.sort_unstable();
        Ok(axes)
    }

    fn float_input(&self, key: &str) -> Result1<(Operand<'f>, &'f TensorType)> {
        let (operand, ty) = self.tensor(key)?;
        if ty.dtype.is_float() {
            return Ok((operand, ty));
        }
        self.err(key, format!("expected fp16 or fp32, got {}", ty.dtype), "cast it first")
    }

    fn same_dtype(&self, key: &str, a: &TensorType, b: &TensorType) -> Result1<()> {
        if a.dtype == b.dtype {
            return Ok(());
        }
        self.err(
            key,
            format!("element type {} does not match {}", b.dtype, a.dtype),
            "both sides need one element type: cast one of them",
        )
    }

    fn broadcast(&self, key: &str, a: &TensorType, b: &TensorType) -> Result1<Vec<usize>> {
        match broadcast(&a.shape, &b.shape) {
            Some(shape) => Ok(shape),
            None => self.err(
                key,
                format!("shape {:?} does not broadcast with {:?}", b.shape, a.shape),
                "axes are matched from the last; extents must be equal or 1",
            ),
        }
    }

    fn one(&self, kind: Kind, inputs: Vec<Operand<'f>>, ty: TensorType) -> Result1<Resolved<'f>> {
        Ok(Resolved { kind, inputs, results: vec![ty] })
    }

    // ---- rules ----

    fn resolve(&self) -> Result1<Resolved<'f>> {
        use Op::*;
        match self.op.op {
            Const => match &self.op.value {
                Some(value) => self.one(Kind::Const, vec![], value.ty.clone()),
                None => self.err("val", "is missing", "write const()[val = …]"),
            },
            Identity => self.identity(),
            Cast => self.cast(),
            Add => self.binary(Binary::Add),
            Sub => self.binary(Binary::Sub),
            Mul => self.binary(Binary::Mul),
            RealDiv => self.binary(Binary::Div),
            FloorDiv => self.binary(Binary::FloorDiv),
            Pow => self.binary(Binary::Pow),
            Maximum => self.binary(Binary::Max),
            Minimum => self.binary(Binary::Min),
            Equal => self.compare(Compare::Equal),
            NotEqual => self.compare(Compare::NotEqual),
            Less => self.compare(Compare::Less),
            LessEqual => self.compare(Compare::LessEqual),
            Greater => self.compare(Compare::Greater),
            GreaterEqual => self.compare(Compare::GreaterEqual),
            Select => self.select(),
            Abs | Atan | Ceil | Clip | Cos | Erf | Exp | Exp2 | Floor | Inverse | Log | Round
            | Rsqrt | Sign | Sin | Sqrt | Square | Tanh | Threshold | Relu | Relu6 | LeakyRelu
            | Elu | Gelu | Sigmoid | SigmoidHard | Silu | Softplus | Softsign
            | LinearActivation => self.unary(),
            ReduceSum => self.reduce(Reduce::Sum),
            ReduceMean => self.reduce(Reduce::Mean),
            ReduceMax => self.reduce(Reduce::Max),
            ReduceMin => self.reduce(Reduce::Min),
            ReduceL1Norm => self.reduce(Reduce::L1Norm),
            ReduceL2Norm => self.reduce(Reduce::L2Norm),
            ReduceSumSquare => self.reduce(Reduce::SumSquare),
            ReduceLogSum => self.reduce(Reduce::LogSum),
            ReduceLogSumExp => self.reduce(Reduce::LogSumExp),
            Softmax => {
                let (x, ty) = self.float_input("x")?;
                let axis = self.axis("axis", ty.rank())?;
                self.one(Kind::Softmax { axis }, vec![x], ty.clone())
            }
            Matmul => self.matmul(),
            Linear => self.linear(),
            Conv => self.conv(),
            ConvTranspose => self.conv_transpose(),
            Reshape => self.reshape(),
            Transpose => self.transpose(),
            ExpandDims => self.expand_dims(),
            Squeeze => self.squeeze(),
            SliceBySize => self.slice_by_size(),
            SliceByIndex => self.slice_by_index(),
            Concat => self.concat(),
            Split => self.split(),
            Stack => self.stack(),
            Tile => self.tile(),
            Pad => self.pad(),
            ClampedRelu | Prelu | ScaledTanh | SoftplusParametric | ThresholdedRelu => {
                self.activation()
            }
            LogicalNot => self.logical_not(),
            Reverse => self.reverse(),
            Crop => self.crop(),
            Flatten2d => self.flatten2d(),
            PixelShuffle | PixelUnshuffle | DepthToSpace | SpaceToDepth | BatchToSpace
            | SpaceToBatch => self.rearrange(),
            MaxPool | AvgPool | L2Pool => self.pool(),
            UpsampleNearestNeighbor | UpsampleBilinear | ResizeNearestNeighbor | ResizeBilinear => {
                self.resample()
            }
            Resize => self.resize(),
            Affine => self.affine(),
            Fill => self.fill(&self.fill_shape()?),
            FillLike => self.fill(&self.tensor("ref_tensor")?.1.shape),
            Range1d => self.range(),
            TopK => self.topk(),
            NonMaximumSuppression => self.non_maximum_suppression(),
            Einsum => self.einsum(),
            BatchNorm | InstanceNorm | L2Norm | LocalResponseNorm => self.norm(),
            LayerNorm => self.layer_norm(),
            Attention => self.attention(),
            Quantize => self.quantize(),
            Dequantize => self.dequantize(),
            ConstexprAffineDequantize => self.constexpr_affine(),
            ConstexprBlockwiseShiftScale => self.constexpr_blockwise(),
            ConstexprCast => self.constexpr_cast(),
            ConstexprLutToDense => self.constexpr_lut(),
            ConstexprSparseToDense => self.constexpr_sparse(),
        }
    }
}

/// Shape after reducing `axes` (ascending).
pub fn reduced(shape: &[usize], axes: &[usize], keep_dims: bool) -> Vec<usize> {
    (0..shape.len())
        .filter(|i| keep_dims || !axes.contains(i))
        .map(|i| if axes.contains(&i) { 1 } else { shape[i] })
        .collect()
}
