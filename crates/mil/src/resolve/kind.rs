//! The meaning of operations, with their attributes read.

use super::{Activation, Constexpr, Einsum, Norm, Pool, Rearrange, Resample};

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

/// The function of a reduction.
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
        /// The function.
        reduce: Reduce,
        /// Axes reduced, ascending.
        axes: Vec<usize>,
        /// True if they stay with extent 1.
        keep_dims: bool,
    },
    /// Input x.
    Softmax {
        /// Axis that sums to one.
        axis: usize,
    },
    /// Inputs x, y.
    Matmul {
        /// True if x's last two axes are swapped first.
        transpose_x: bool,
        /// True if y's last two axes are swapped first.
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
        /// True if elements alternate instead of following each other.
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
        /// The filling.
        mode: PadMode,
    },
    /// Inputs x, then gamma and beta where present.
    LayerNorm {
        /// Axes normalised, ascending.
        axes: Vec<usize>,
        /// Added to the variance.
        epsilon: f64,
        /// True if gamma is an input.
        gamma: bool,
        /// True if beta is an input.
        beta: bool,
    },
    /// Inputs query, key, value and perhaps a mask.
    Attention {
        /// True if the mask is boolean (`true` attends) instead of additive.
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
        /// True if the smallest come first, in place of the largest.
        ascending: bool,
    },
    /// Inputs in the order written: an operation that is checked, and not executed here.
    NotExecuted,
}
