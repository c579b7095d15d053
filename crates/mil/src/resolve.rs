//! From an operation as written to what it means: attributes checked and normalised, types inferred.
//!
//! [`resolve`] is the only place that reads attributes. The verifier, the builder, the reference
//! interpreter, autodiff and every device work on the [`Resolved`] form, in which axes are
//! non-negative, defaults are filled in, and the ways to write a reshape are one.

use crate::ir::{Arg, Function, Operation, ValueId};
use crate::op::{Op, ParamKind};
use crate::types::{DType, Data, Literal, TensorType};
use std::fmt;

mod checked;
mod constexpr;
mod einsum;
mod norm;
mod pool;
mod rearrange;
mod resample;
mod sequence;

pub use constexpr::Constexpr;
pub use einsum::Einsum;
pub use norm::{Activation, Norm};
pub use pool::{Pool, Window};
pub use rearrange::Rearrange;
pub use resample::{Resample, Sampling};

/// Elementwise function of one argument, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// |x|
    Abs,
    /// arctan x
    Atan,
    /// ⌈x⌉
    Ceil,
    /// min(max(x, lo), hi)
    Clip {
        /// Lower limit.
        lo: f64,
        /// Upper limit.
        hi: f64,
    },
    /// cos x
    Cos,
    /// erf x
    Erf,
    /// e^x
    Exp,
    /// 2^x
    Exp2,
    /// ⌊x⌋
    Floor,
    /// 1 / (x + ε)
    Inverse {
        /// Added to x.
        epsilon: f64,
    },
    /// ln(x + ε)
    Log {
        /// Added to x.
        epsilon: f64,
    },
    /// Nearest integer, halves away from zero
    Round,
    /// 1 / √(x + ε)
    Rsqrt {
        /// Added to x.
        epsilon: f64,
    },
    /// −1, 0, 1
    Sign,
    /// sin x
    Sin,
    /// √x
    Sqrt,
    /// x²
    Square,
    /// tanh x
    Tanh,
    /// max(x, α)
    Threshold {
        /// Lower limit.
        alpha: f64,
    },
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x ≥ 0 ? x : αx
    LeakyRelu {
        /// Slope below zero.
        alpha: f64,
    },
    /// x ≥ 0 ? x : α(e^x − 1)
    Elu {
        /// Scale below zero.
        alpha: f64,
    },
    /// x·Φ(x) or one of its approximations
    Gelu(GeluMode),
    /// 1 / (1 + e^−x)
    Sigmoid,
    /// min(max(αx + β, 0), 1)
    SigmoidHard {
        /// Slope.
        alpha: f64,
        /// Offset.
        beta: f64,
    },
    /// x / (1 + e^−x)
    Silu,
    /// ln(1 + e^x)
    Softplus,
    /// x / (1 + |x|)
    Softsign,
    /// αx + β
    Linear {
        /// Slope.
        alpha: f64,
        /// Offset.
        beta: f64,
    },
}

/// Which form of the Gaussian error linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeluMode {
    /// x·(1 + erf(x/√2))/2
    Exact,
    /// x·(1 + tanh(√(2/π)(x + 0.044715x³)))/2
    Tanh,
    /// x·sigmoid(1.702x)
    Sigmoid,
}

/// Elementwise function of two arguments, broadcast as NumPy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// x + y
    Add,
    /// x − y
    Sub,
    /// x · y
    Mul,
    /// x / y
    Div,
    /// ⌊x / y⌋
    FloorDiv,
    /// x^y
    Pow,
    /// max(x, y)
    Max,
    /// min(x, y)
    Min,
}

/// Elementwise comparison with a `bool` result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// x = y
    Equal,
    /// x ≠ y
    NotEqual,
    /// x < y
    Less,
    /// x ≤ y
    LessEqual,
    /// x > y
    Greater,
    /// x ≥ y
    GreaterEqual,
}

/// What a reduction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Σx
    Sum,
    /// Σx / n
    Mean,
    /// max x
    Max,
    /// min x
    Min,
    /// Σ|x|
    L1Norm,
    /// √Σx²
    L2Norm,
    /// Σx²
    SumSquare,
    /// ln Σx
    LogSum,
    /// ln Σe^x
    LogSumExp,
}

/// Geometry of a convolution over the spatial axes (one or two of them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Step per spatial axis.
    pub strides: Vec<usize>,
    /// Zeros before and after, per spatial axis.
    pub pads: Vec<(usize, usize)>,
    /// Distance between kernel taps, per spatial axis.
    pub dilations: Vec<usize>,
    /// Number of independent channel groups.
    pub groups: usize,
}

/// How `pad` fills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// With one value.
    Constant(f64),
    /// With the mirror image, edge excluded.
    Reflect,
    /// With the edge.
    Replicate,
}

/// An operation with its attributes read.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A constant (no inputs).
    Const,
    /// Change of element type to that of the result.
    Cast,
    /// Input x.
    Unary(Unary),
    /// Inputs x, y.
    Binary(Binary),
    /// Inputs x, y.
    Compare(Compare),
    /// Inputs cond, a, b.
    Select,
    /// Input x.
    Reduce {
        /// What is computed.
        reduce: Reduce,
        /// Axes reduced, ascending.
        axes: Vec<usize>,
        /// Whether they stay with extent 1.
        keep_dims: bool,
    },
    /// Input x.
    Softmax {
        /// Axis that sums to one.
        axis: usize,
    },
    /// Inputs x, y.
    Matmul {
        /// Whether x's last two axes are swapped first.
        transpose_x: bool,
        /// Whether y's last two axes are swapped first.
        transpose_y: bool,
    },
    /// Inputs x, weight and perhaps bias.
    Linear,
    /// Inputs x, weight and perhaps bias.
    Conv(ConvGeometry),
    /// Inputs x, weight and perhaps bias.
    ConvTranspose(ConvGeometry),
    /// Input x; the result's shape is its type's.
    Reshape,
    /// Input x.
    Transpose {
        /// Axis i of the result is axis `perm[i]` of x.
        perm: Vec<usize>,
    },
    /// Input x: element begin + i·stride per axis; `sizes` is the shape before squeezing.
    Slice {
        /// First index per axis.
        begin: Vec<usize>,
        /// Step per axis, never 0; negative walks backwards.
        stride: Vec<i64>,
        /// Extent per axis before any axis is squeezed away.
        sizes: Vec<usize>,
    },
    /// Inputs in order.
    Concat {
        /// Axis joined.
        axis: usize,
        /// Whether elements alternate instead of following each other.
        interleave: bool,
    },
    /// Input x.
    Split {
        /// Axis cut.
        axis: usize,
        /// Extent of every piece.
        sizes: Vec<usize>,
    },
    /// Inputs in order.
    Stack {
        /// The new axis.
        axis: usize,
    },
    /// Input x.
    Tile {
        /// Repetitions per axis.
        reps: Vec<usize>,
    },
    /// Input x.
    Pad {
        /// Elements before and after, per axis of x.
        pads: Vec<(usize, usize)>,
        /// What fills.
        mode: PadMode,
    },
    /// Inputs x, then gamma and beta where present.
    LayerNorm {
        /// Axes normalised, ascending.
        axes: Vec<usize>,
        /// Added to the variance.
        epsilon: f64,
        /// Whether gamma is an input.
        gamma: bool,
        /// Whether beta is an input.
        beta: bool,
    },
    /// Inputs query, key, value and perhaps a mask.
    Attention {
        /// Whether the mask is boolean (`true` attends) instead of additive.
        bool_mask: bool,
    },
    /// Inputs x, scale and perhaps zero_point.
    Quantize {
        /// Axis of a vector scale.
        axis: Option<usize>,
    },
    /// Inputs x, scale and perhaps zero_point.
    Dequantize {
        /// Axis of a vector scale.
        axis: Option<usize>,
    },
    /// A constant that the compiler computes.
    Constexpr(Constexpr),
    /// Input x, and what there is one of per channel.
    Activation(Activation),
    /// Input x.
    Not,
    /// Input x.
    Pool(Pool),
    /// Input x, and what belongs to the norm.
    Norm(Norm),
    /// Input x.
    Rearrange(Rearrange),
    /// Input x.
    Resample(Resample),
    /// Inputs x, y.
    Einsum(Einsum),
    /// No inputs.
    Fill {
        /// Every element.
        value: f64,
    },
    /// No inputs.
    Range {
        /// The first element.
        start: f64,
        /// From each element to the next.
        step: f64,
    },
    /// Input x; results are the values and, if there are two, where they were.
    TopK {
        /// Axis that is ordered.
        axis: usize,
        /// Whether the smallest come first, in place of the largest.
        ascending: bool,
    },
    /// Inputs in the order written: an operation that is checked, and not executed here.
    NotExecuted,
}

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
    /// What was expected and what was found.
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

    /// A reshape to the shape that is there.
    fn identity(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        self.one(Kind::Reshape, vec![x], ty.clone())
    }

    fn cast(&self) -> Result1<Resolved<'f>> {
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

    fn binary(&self, binary: Binary) -> Result1<Resolved<'f>> {
        let (inputs, ty) = self.pair()?;
        self.one(Kind::Binary(binary), inputs, ty)
    }

    fn compare(&self, compare: Compare) -> Result1<Resolved<'f>> {
        let (inputs, ty) = self.pair()?;
        self.one(Kind::Compare(compare), inputs, TensorType::new(DType::Bool, ty.shape))
    }

    fn logical_not(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        if ty.dtype != DType::Bool {
            return self.err("x", format!("expected bool, got {}", ty.dtype), "compare first");
        }
        self.one(Kind::Not, vec![x], ty.clone())
    }

    fn select(&self) -> Result1<Resolved<'f>> {
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

    fn unary(&self) -> Result1<Resolved<'f>> {
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

    fn reduce(&self, reduce: Reduce) -> Result1<Resolved<'f>> {
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

    fn matmul(&self) -> Result1<Resolved<'f>> {
        let (x, tx) = self.float_input("x")?;
        let (y, ty) = self.float_input("y")?;
        self.same_dtype("y", tx, ty)?;
        if tx.rank() < 2 || ty.rank() < 2 {
            return self.err("x", "both sides need at least two axes", "use expand_dims");
        }
        let (transpose_x, transpose_y) = (self.bool("transpose_x")?, self.bool("transpose_y")?);
        let (mut m, mut k) = (tx.shape[tx.rank() - 2], tx.shape[tx.rank() - 1]);
        let (mut ky, mut n) = (ty.shape[ty.rank() - 2], ty.shape[ty.rank() - 1]);
        if transpose_x {
            std::mem::swap(&mut m, &mut k);
        }
        if transpose_y {
            std::mem::swap(&mut ky, &mut n);
        }
        if k != ky {
            return self.err(
                "y",
                format!("inner extents differ: {m}×{k} by {ky}×{n}"),
                "check transpose_x and transpose_y",
            );
        }
        let (bx, by) = (&tx.shape[..tx.rank() - 2], &ty.shape[..ty.rank() - 2]);
        let Some(mut shape) = broadcast(bx, by) else {
            return self.err("y", format!("batch axes {by:?} do not broadcast with {bx:?}"), "");
        };
        shape.extend([m, n]);
        self.one(
            Kind::Matmul { transpose_x, transpose_y },
            vec![x, y],
            TensorType::new(tx.dtype, shape),
        )
    }

    /// The bias, checked to be a vector of `n` (a scalar when n is 1 is refused too).
    fn bias(&self, dtype: DType, n: usize) -> Result1<Option<Operand<'f>>> {
        let Some((bias, ty)) = self.optional("bias") else { return Ok(None) };
        if *ty != TensorType::new(dtype, [n]) {
            return self.err("bias", format!("expected tensor<{dtype}, [{n}]>, got {ty}"), "");
        }
        Ok(Some(bias))
    }

    fn linear(&self) -> Result1<Resolved<'f>> {
        let (x, tx) = self.float_input("x")?;
        let (w, tw) = self.float_input("weight")?;
        self.same_dtype("weight", tx, tw)?;
        if tx.rank() == 0 || tw.rank() != 2 || tx.shape[tx.rank() - 1] != tw.shape[1] {
            return self.err(
                "weight",
                format!("weight {tw} does not fit x {tx}"),
                "the weight is [out, in] and x ends with `in`",
            );
        }
        let bias = self.bias(tx.dtype, tw.shape[0])?;
        let mut shape = tx.shape.clone();
        *shape.last_mut().expect("rank was checked") = tw.shape[0];
        let inputs = [x, w].into_iter().chain(bias).collect();
        self.one(Kind::Linear, inputs, TensorType::new(tx.dtype, shape))
    }

    /// x and weight of a convolution, with the number of spatial axes (1 or 2).
    #[allow(clippy::type_complexity, reason = "two operands with their types")]
    fn conv_inputs(
        &self,
    ) -> Result1<((Operand<'f>, &'f TensorType), (Operand<'f>, &'f TensorType), usize)> {
        let x = self.float_input("x")?;
        let w = self.float_input("weight")?;
        self.same_dtype("weight", x.1, w.1)?;
        if !(3..=4).contains(&x.1.rank()) || x.1.rank() != w.1.rank() {
            return self.err(
                "weight",
                format!("x {} and weight {} need the same rank, 3 or 4", x.1, w.1),
                "x is [N, C, (H,) W], the weight [O, C/groups, (kH,) kW]",
            );
        }
        Ok((x, w, x.1.rank() - 2))
    }

    fn positive(&self, key: &str, spatial: usize) -> Result1<Vec<usize>> {
        let Some(v) = self.ints(key)? else { return Ok(vec![1; spatial]) };
        if v.len() != spatial || v.iter().any(|&n| !(1..=i32::MAX as i64).contains(&n)) {
            return self.err(key, format!("expected {spatial} positive integers, got {v:?}"), "");
        }
        Ok(v.iter().map(|&n| n as usize).collect())
    }

    fn groups(&self) -> Result1<usize> {
        match self.int("groups")?.unwrap_or(1) {
            n if n >= 1 => Ok(n as usize),
            n => self.err("groups", format!("expected a positive integer, got {n}"), ""),
        }
    }

    fn custom_pads(&self, spatial: usize) -> Result1<Vec<(usize, usize)>> {
        let v = self.ints("pad")?.unwrap_or_else(|| vec![0; 2 * spatial]);
        if v.len() != 2 * spatial || v.iter().any(|&n| !(0..=i32::MAX as i64).contains(&n)) {
            return self.err(
                "pad",
                format!("expected {} integers ≥ 0, got {v:?}", 2 * spatial),
                "before and after, per spatial axis",
            );
        }
        Ok(v.chunks(2).map(|p| (p[0] as usize, p[1] as usize)).collect())
    }

    /// Padding before and after the spatial axes, of `extents`, over which windows of `reaches` move.
    fn pads(
        &self,
        extents: &[usize],
        reaches: &[usize],
        strides: &[usize],
    ) -> Result1<Vec<(usize, usize)>> {
        let same = |lower: bool| {
            let one = |i: usize| {
                let windows = extents[i].div_ceil(strides[i]).max(1);
                let reach = ((windows - 1) * strides[i]).saturating_add(reaches[i]);
                let total = reach.saturating_sub(extents[i]);
                let small = total / 2;
                if lower { (total - small, small) } else { (small, total - small) }
            };
            (0..extents.len()).map(one).collect()
        };
        match self.text("pad_type")?.unwrap_or("valid") {
            "valid" => Ok(vec![(0, 0); extents.len()]),
            "same" => Ok(same(false)),
            "same_lower" => Ok(same(true)),
            "custom" => self.custom_pads(extents.len()),
            other => self.err(
                "pad_type",
                format!("unknown padding `{other}`"),
                "use valid, same, same_lower or custom",
            ),
        }
    }

    fn conv(&self) -> Result1<Resolved<'f>> {
        let ((x, tx), (w, tw), spatial) = self.conv_inputs()?;
        let groups = self.groups()?;
        let (channels, out) = (tx.shape[1], tw.shape[0]);
        if channels % groups != 0 || out % groups != 0 || tw.shape[1] != channels / groups {
            return self.err(
                "weight",
                format!(
                    "{channels} input channels, {groups} groups and weight {tw} do not fit: \
                     input/output channels should be divisible by num group"
                ),
                "the weight is [O, C/groups, (kH,) kW]",
            );
        }
        let strides = self.positive("strides", spatial)?;
        let dilations = self.positive("dilations", spatial)?;
        let kernel = &tw.shape[2..];
        let reach = |i: usize| (kernel[i] - 1).saturating_mul(dilations[i]).saturating_add(1);
        if kernel.contains(&0) {
            return self.err("weight", format!("empty kernel {kernel:?}"), "");
        }
        let reaches: Vec<usize> = (0..spatial).map(reach).collect();
        let pads = self.pads(&tx.shape[2..], &reaches, &strides)?;
        let mut shape = vec![tx.shape[0], out];
        for i in 0..spatial {
            let padded = tx.shape[i + 2].saturating_add(pads[i].0).saturating_add(pads[i].1);
            if padded < reach(i) {
                return self.err(
                    "weight",
                    format!("the kernel reaches over {} but the input has {padded}", reach(i)),
                    "pad the input or use a smaller kernel",
                );
            }
            shape.push((padded - reach(i)) / strides[i] + 1);
        }
        let bias = self.bias(tx.dtype, out)?;
        self.one(
            Kind::Conv(ConvGeometry { strides, pads, dilations, groups }),
            [x, w].into_iter().chain(bias).collect(),
            TensorType::new(tx.dtype, shape),
        )
    }

    fn conv_transpose(&self) -> Result1<Resolved<'f>> {
        let ((x, tx), (w, tw), spatial) = self.conv_inputs()?;
        let groups = self.groups()?;
        if tw.shape[0] != tx.shape[1] || tx.shape[1] % groups != 0 || tw.shape[2..].contains(&0) {
            return self.err(
                "weight",
                format!("weight {tw} does not fit x {tx} in {groups} groups"),
                "the weight is [C, O/groups, (kH,) kW]",
            );
        }
        let strides = self.positive("strides", spatial)?;
        let dilations = self.positive("dilations", spatial)?;
        let pads = match self.text("pad_type")?.unwrap_or("valid") {
            "valid" => vec![(0, 0); spatial],
            "custom" => self.custom_pads(spatial)?,
            other => {
                return self.err(
                    "pad_type",
                    format!("`{other}` is not executed here"),
                    "use custom",
                );
            }
        };
        let out = tw.shape[1].saturating_mul(groups);
        let mut shape = vec![tx.shape[0], out];
        for i in 0..spatial {
            let full = (tx.shape[i + 2].max(1) - 1)
                .saturating_mul(strides[i])
                .saturating_add((tw.shape[i + 2] - 1).saturating_mul(dilations[i]))
                .saturating_add(1);
            let cut = pads[i].0.saturating_add(pads[i].1);
            if full <= cut {
                return self.err("pad", format!("{cut} is cut from an extent of {full}"), "");
            }
            shape.push(full - cut);
        }
        self.output_shape(&mut shape, &mut pads.clone(), spatial).and_then(|pads| {
            let bias = self.bias(tx.dtype, out)?;
            self.one(
                Kind::ConvTranspose(ConvGeometry { strides, pads, dilations, groups }),
                [x, w].into_iter().chain(bias).collect(),
                TensorType::new(tx.dtype, shape),
            )
        })
    }

    /// Applies `output_shape`: a larger or smaller extent than the natural one moves the end padding.
    fn output_shape(
        &self,
        shape: &mut [usize],
        pads: &mut [(usize, usize)],
        spatial: usize,
    ) -> Result1<Vec<(usize, usize)>> {
        let Some(wanted) = self.ints("output_shape")? else { return Ok(pads.to_vec()) };
        let wanted = &wanted[wanted.len().saturating_sub(spatial)..];
        for i in 0..wanted.len() {
            let (natural, end) = (shape[i + 2] as i128, pads[i].1 as i128);
            let cut = natural - i128::from(wanted[i]) + end;
            if wanted[i] < 1 || cut < 0 {
                return self.err(
                    "output_shape",
                    format!("extent {} cannot be reached from {natural}", wanted[i]),
                    "it may be at most the natural extent plus the end padding",
                );
            }
            (pads[i].1, shape[i + 2]) = (cut as usize, wanted[i] as usize);
        }
        Ok(pads.to_vec())
    }

    fn reshape(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let wanted = self.ints("shape")?.unwrap_or_default();
        let known = wanted
            .iter()
            .filter(|&&n| n != -1)
            .try_fold(1usize, |product, &n| product.checked_mul(usize::try_from(n).ok()?));
        let holes = wanted.iter().filter(|&&n| n == -1).count();
        let count = ty.count();
        let fits = match known {
            Some(known) if holes == 0 => known == count,
            Some(known) => holes == 1 && known > 0 && count % known == 0,
            None => false,
        };
        if !fits {
            return self.err(
                "shape",
                format!("{count} elements of {ty} do not fill {wanted:?}"),
                "the product of the extents must stay the same; one extent may be -1",
            );
        }
        let hole = known.filter(|&k| k > 0).map_or(0, |k| count / k);
        let shape: Vec<usize> =
            wanted.iter().map(|&n| if n == -1 { hole } else { n as usize }).collect();
        self.one(Kind::Reshape, vec![x], TensorType::new(ty.dtype, shape))
    }

    fn transpose(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let written = self.ints("perm")?.unwrap_or_default();
        let perm: Vec<usize> = written
            .iter()
            .map(|&axis| self.axis_of("perm", axis, ty.rank()))
            .collect::<Result1<_>>()?;
        if perm.len() != ty.rank() || (0..ty.rank()).any(|axis| !perm.contains(&axis)) {
            return self.err(
                "perm",
                format!("{written:?} is not an order of {} axes", ty.rank()),
                "name every axis once",
            );
        }
        let shape: Vec<usize> = perm.iter().map(|&axis| ty.shape[axis]).collect();
        self.one(Kind::Transpose { perm }, vec![x], TensorType::new(ty.dtype, shape))
    }

    fn expand_dims(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let written = self.ints("axes")?.unwrap_or_default();
        if written.len() > 8 {
            return self.err("axes", format!("{} new axes are too many", written.len()), "");
        }
        let axes = self.axes("axes", ty.rank() + written.len())?;
        let mut old = ty.shape.iter();
        let shape: Vec<usize> = (0..ty.rank() + axes.len())
            .map(|i| if axes.contains(&i) { 1 } else { *old.next().expect("ranks add up") })
            .collect();
        self.one(Kind::Reshape, vec![x], TensorType::new(ty.dtype, shape))
    }

    fn squeeze(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let axes = match self.op.arg("axes") {
            Some(_) => self.axes("axes", ty.rank())?,
            None => (0..ty.rank()).filter(|&i| ty.shape[i] == 1).collect(),
        };
        if let Some(&axis) = axes.iter().find(|&&axis| ty.shape[axis] != 1) {
            return self.err("axes", format!("axis {axis} has extent {}", ty.shape[axis]), "");
        }
        let shape: Vec<usize> =
            (0..ty.rank()).filter(|i| !axes.contains(i)).map(|i| ty.shape[i]).collect();
        self.one(Kind::Reshape, vec![x], TensorType::new(ty.dtype, shape))
    }

    fn slice_by_size(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let begin = self.ints("begin")?.unwrap_or_default();
        let size = self.ints("size")?.unwrap_or_default();
        if begin.len() != ty.rank() || size.len() != ty.rank() {
            return self.err("begin", format!("begin and size need {} entries", ty.rank()), "");
        }
        let mut starts = Vec::with_capacity(ty.rank());
        let mut sizes = Vec::with_capacity(ty.rank());
        for axis in 0..ty.rank() {
            let extent = ty.shape[axis] as i64;
            let start =
                if begin[axis] < 0 { begin[axis].saturating_add(extent) } else { begin[axis] };
            let n = if size[axis] == -1 { extent.saturating_sub(start) } else { size[axis] };
            if start < 0 || n < 1 || start.checked_add(n).is_none_or(|end| end > extent) {
                return self.err(
                    "size",
                    format!("axis {axis}: {n} from {start} is outside an extent of {extent}"),
                    "",
                );
            }
            starts.push(start as usize);
            sizes.push(n as usize);
        }
        let kind = Kind::Slice { begin: starts, stride: vec![1; ty.rank()], sizes: sizes.clone() };
        self.one(kind, vec![x], TensorType::new(ty.dtype, sizes))
    }

    fn slice_by_index(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let rank = ty.rank();
        let begin = self.ints("begin")?.unwrap_or_default();
        let end = self.ints("end")?.unwrap_or_default();
        let stride = self.ints("stride")?.unwrap_or_else(|| vec![1; rank]);
        if begin.len() != rank || end.len() != rank || stride.len() != rank {
            return self.err("begin", format!("begin, end and stride need {rank} entries"), "");
        }
        let begin_mask = self.bools("begin_mask", rank)?;
        let end_mask = self.bools("end_mask", rank)?;
        let squeeze = self.bools("squeeze_mask", rank)?;
        let (mut starts, mut sizes, mut shape) = (vec![], vec![], vec![]);
        for axis in 0..rank {
            let extent = ty.shape[axis] as i64;
            let step = stride[axis];
            if step == 0 || step == i64::MIN {
                return self.err("stride", format!("axis {axis}: stride {step}"), "use 1");
            }
            let wrap = |i: i64| if i < 0 { i.saturating_add(extent) } else { i };
            // NumPy's clamping: forward slices live in [0, n], backward ones in [-1, n-1].
            let (lo, hi) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
            let from = match begin_mask[axis] {
                true => {
                    if step > 0 {
                        0
                    } else {
                        extent - 1
                    }
                }
                false => wrap(begin[axis]).clamp(lo, hi),
            };
            let (from, to) = if squeeze[axis] {
                (wrap(begin[axis]), wrap(begin[axis]).saturating_add(step.signum()))
            } else if end_mask[axis] {
                (from, if step > 0 { extent } else { -1 })
            } else {
                (from, wrap(end[axis]).clamp(lo, hi))
            };
            let span = if step > 0 { to - from } else { from - to };
            let n = if squeeze[axis] {
                1
            } else {
                span.saturating_add(step.abs() - 1).div_euclid(step.abs())
            };
            if n < 1 || from < 0 || from >= extent {
                return self.err(
                    "begin",
                    format!("axis {axis}: the slice {from}:{to}:{step} of {extent} is empty"),
                    "zero-sized tensors are not allowed",
                );
            }
            starts.push(from as usize);
            sizes.push(n as usize);
            if !squeeze[axis] {
                shape.push(n as usize);
            }
        }
        let kind = Kind::Slice { begin: starts, stride, sizes };
        self.one(kind, vec![x], TensorType::new(ty.dtype, shape))
    }

    /// Values of one element type and rank.
    fn values(&self) -> Result1<(Vec<Operand<'f>>, Vec<&'f TensorType>)> {
        let (inputs, types) = self.tuple()?;
        for ty in &types[1..] {
            self.same_dtype("values", types[0], ty)?;
            if ty.rank() != types[0].rank() {
                return self.err("values", format!("{ty} and {} differ in rank", types[0]), "");
            }
        }
        Ok((inputs, types))
    }

    fn tuple(&self) -> Result1<(Vec<Operand<'f>>, Vec<&'f TensorType>)> {
        let Some(Arg::Values(ids)) = self.op.arg("values") else {
            return self.err("values", "expected a tuple of values (a, b)", "");
        };
        if ids.is_empty() {
            return self.err("values", "needs at least one value", "");
        }
        let types = ids.iter().map(|&id| self.f.ty(id)).collect();
        Ok((ids.iter().map(|&id| Operand::Value(id)).collect(), types))
    }

    fn concat(&self) -> Result1<Resolved<'f>> {
        let (inputs, types) = self.values()?;
        let axis = self.axis("axis", types[0].rank())?;
        let interleave = self.bool("interleave")?;
        let mut shape = types[0].shape.clone();
        for ty in &types[1..] {
            let fits =
                (0..ty.rank()).all(|i| ty.shape[i] == shape[i] || (i == axis && !interleave));
            if !fits {
                return self.err(
                    "values",
                    format!("{ty} does not join with {} along axis {axis}", types[0]),
                    "all other extents must be equal (all of them when interleaving)",
                );
            }
        }
        shape[axis] = types.iter().fold(0usize, |n, ty| n.saturating_add(ty.shape[axis]));
        let ty = TensorType::new(types[0].dtype, shape);
        self.one(Kind::Concat { axis, interleave }, inputs, ty)
    }

    fn split(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let axis = self.axis("axis", ty.rank())?;
        let extent = ty.shape[axis];
        let sizes: Vec<usize> = match (self.ints("split_sizes")?, self.int("num_splits")?) {
            (Some(sizes), _) => {
                if sizes.iter().any(|&n| n < 1) {
                    return self.err("split_sizes", format!("{sizes:?} must be positive"), "");
                }
                sizes.iter().map(|&n| n as usize).collect()
            }
            (None, Some(n)) if n > MAX_ATTRIBUTE as i64 => {
                return self.err("num_splits", format!("{n} pieces are too many"), "");
            }
            (None, Some(n)) if n >= 1 && extent % n as usize == 0 => {
                vec![extent / n as usize; n as usize]
            }
            (None, Some(n)) => {
                return self.err("num_splits", format!("{extent} is not divisible by {n}"), "");
            }
            (None, None) => return self.err("num_splits", "is missing", "or give split_sizes"),
        };
        let total = sizes.iter().fold(0usize, |a, &b| a.saturating_add(b));
        if total != extent || extent == 0 {
            return self.err("split_sizes", format!("{sizes:?} do not add up to {extent}"), "");
        }
        let results = sizes
            .iter()
            .map(|&n| {
                let mut shape = ty.shape.clone();
                shape[axis] = n;
                TensorType::new(ty.dtype, shape)
            })
            .collect();
        Ok(Resolved { kind: Kind::Split { axis, sizes }, inputs: vec![x], results })
    }

    fn stack(&self) -> Result1<Resolved<'f>> {
        let (inputs, types) = self.values()?;
        if types.iter().any(|ty| ty.shape != types[0].shape) {
            return self.err("values", "all shapes must be equal", "use concat to join extents");
        }
        let axis = self.axis("axis", types[0].rank() + 1)?;
        let mut shape = types[0].shape.clone();
        shape.insert(axis, types.len());
        self.one(Kind::Stack { axis }, inputs, TensorType::new(types[0].dtype, shape))
    }

    fn tile(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let reps = self.ints("reps")?.unwrap_or_default();
        if reps.len() != ty.rank() || reps.iter().any(|&n| !(1..=i32::MAX as i64).contains(&n)) {
            return self.err("reps", format!("expected {} positive integers", ty.rank()), "");
        }
        let reps: Vec<usize> = reps.iter().map(|&n| n as usize).collect();
        let shape: Vec<usize> =
            ty.shape.iter().zip(&reps).map(|(&a, &b)| a.saturating_mul(b)).collect();
        self.one(Kind::Tile { reps }, vec![x], TensorType::new(ty.dtype, shape))
    }

    fn pad(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let v = self.ints("pad")?.unwrap_or_default();
        let fits = v.len() % 2 == 0 && v.len() <= 2 * ty.rank();
        if !fits || v.iter().any(|&n| !(0..=i32::MAX as i64).contains(&n)) {
            return self.err(
                "pad",
                format!("{v:?} does not fit rank {}", ty.rank()),
                "two integers ≥ 0 per axis, for the last axes",
            );
        }
        let mut pads = vec![(0, 0); ty.rank() - v.len() / 2];
        pads.extend(v.chunks(2).map(|p| (p[0] as usize, p[1] as usize)));
        let mode = match self.text("mode")?.unwrap_or("constant") {
            "constant" => PadMode::Constant(self.float("constant_val", 0.0)?),
            "reflect" => PadMode::Reflect,
            "replicate" => PadMode::Replicate,
            other => {
                return self.err(
                    "mode",
                    format!("unknown mode `{other}`"),
                    "use constant, reflect or replicate",
                );
            }
        };
        for (axis, &(before, after)) in pads.iter().enumerate() {
            if mode == PadMode::Reflect && before.max(after) >= ty.shape[axis].max(1) {
                return self.err(
                    "pad",
                    format!(
                        "axis {axis}: cannot mirror {} of {}",
                        before.max(after),
                        ty.shape[axis]
                    ),
                    "",
                );
            }
        }
        let shape: Vec<usize> = (ty.shape.iter().zip(&pads))
            .map(|(&n, &(a, b))| n.saturating_add(a).saturating_add(b))
            .collect();
        self.one(Kind::Pad { pads, mode }, vec![x], TensorType::new(ty.dtype, shape))
    }

    fn layer_norm(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.float_input("x")?;
        let axes = self.axes("axes", ty.rank())?;
        let epsilon = self.float("epsilon", 1e-5)?;
        let normal: Vec<usize> = axes.iter().map(|&axis| ty.shape[axis]).collect();
        let (gamma, beta) = (self.optional("gamma"), self.optional("beta"));
        for (key, operand) in [("gamma", gamma), ("beta", beta)] {
            if let Some((_, t)) = operand
                && *t != TensorType::new(ty.dtype, normal.clone())
            {
                return self.err(key, format!("expected shape {normal:?}, got {t}"), "");
            }
        }
        let kind = Kind::LayerNorm { axes, epsilon, gamma: gamma.is_some(), beta: beta.is_some() };
        let inputs = [Some(x), gamma.map(|g| g.0), beta.map(|b| b.0)];
        self.one(kind, inputs.into_iter().flatten().collect(), ty.clone())
    }

    fn attention(&self) -> Result1<Resolved<'f>> {
        let (q, tq) = self.float_input("query")?;
        let (k, tk) = self.float_input("key")?;
        let (v, tv) = self.float_input("value")?;
        self.same_dtype("key", tq, tk)?;
        self.same_dtype("value", tq, tv)?;
        let r = tq.rank();
        let fits = r >= 3
            && tk.rank() == r
            && tv.rank() == r
            && tq.shape[..r - 2] == tk.shape[..r - 2]
            && tq.shape[..r - 2] == tv.shape[..r - 2]
            && tq.shape[r - 1] == tk.shape[r - 1]
            && tk.shape[r - 2] == tv.shape[r - 2];
        if !fits {
            return self.err(
                "query",
                format!("query {tq}, key {tk}, value {tv} do not fit"),
                "query [B, …, L, E], key [B, …, S, E], value [B, …, S, EV]",
            );
        }
        let mut shape = tq.shape.clone();
        shape[r - 1] = tv.shape[r - 1];
        let mut inputs = vec![q, k, v];
        let mut bool_mask = false;
        if let Some((mask, tm)) = self.optional("attn_mask") {
            let mut scores = tq.shape.clone();
            scores[r - 1] = tk.shape[r - 2];
            bool_mask = tm.dtype == DType::Bool;
            if !bool_mask {
                self.same_dtype("attn_mask", tq, tm)?;
            }
            if broadcast(&scores, &tm.shape).as_ref() != Some(&scores) {
                return self.err("attn_mask", format!("{tm} does not broadcast to {scores:?}"), "");
            }
            inputs.push(mask);
        }
        self.one(Kind::Attention { bool_mask }, inputs, TensorType::new(tq.dtype, shape))
    }

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

    fn quantize(&self) -> Result1<Resolved<'f>> {
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

    fn dequantize(&self) -> Result1<Resolved<'f>> {
        let (x, tx) = self.tensor("input")?;
        if tx.dtype.int_range().is_none() {
            return self.err("input", format!("expected integers, got {}", tx.dtype), "");
        }
        let (inputs, to, axis) = self.scales(x, tx, tx.dtype)?;
        self.one(Kind::Dequantize { axis }, inputs, TensorType::new(to, tx.shape.clone()))
    }
}

/// Shape after reducing `axes` (ascending).
pub fn reduced(shape: &[usize], axes: &[usize], keep_dims: bool) -> Vec<usize> {
    (0..shape.len())
        .filter(|i| keep_dims || !axes.contains(i))
        .map(|i| if axes.contains(&i) { 1 } else { shape[i] })
        .collect()
}
