//! The table of operations: names, arguments and which of them are required.
//!
//! A new operation is one row here, one arm of [`mod@crate::resolve`] (arguments and type rule), one
//! of [`crate::interp`] (reference semantics) and one of [`mod@crate::grad`] (gradient).

use std::fmt;

/// What an argument of an operation may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// A tensor known only when the program runs, or a constant.
    Tensor,
    /// A tuple of tensors.
    Tensors,
    /// A constant integer.
    Int,
    /// A constant vector of integers.
    Ints,
    /// A constant float.
    Float,
    /// A constant truth value.
    Bool,
    /// A constant vector of truth values.
    Bools,
    /// A constant text.
    Text,
}

/// One argument of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Key in the text.
    pub key: &'static str,
    /// What may be written.
    pub kind: ParamKind,
    /// Whether the compiler refuses the operation without it.
    pub required: bool,
}

/// Name and arguments of an operation.
#[derive(Debug)]
pub struct Signature {
    /// Name in the text.
    pub name: &'static str,
    /// Arguments in canonical order.
    pub params: &'static [Param],
}

impl Signature {
    /// The argument called `key`.
    pub fn param(&self, key: &str) -> Option<&'static Param> {
        self.params.iter().find(|p| p.key == key)
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal ( $($key:ident : $kind:ident $(? $opt:tt)? ),* );)*) => {
        /// An operation of the language that this crate understands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Op { $($(#[$doc])* $variant,)* }

        impl Op {
            /// Every operation.
            pub const ALL: &'static [Op] = &[$(Op::$variant,)*];

            /// Name and arguments.
            pub fn signature(self) -> &'static Signature {
                match self {
                    $(Op::$variant => {
                        const SIGNATURE: Signature = Signature {
                            name: $name,
                            params: &[$(Param {
                                key: stringify!($key),
                                kind: ParamKind::$kind,
                                required: operations!(@required $($opt)?),
                            },)*],
                        };
                        &SIGNATURE
                    })*
                }
            }
        }
    };
    (@required) => { true };
    (@required $opt:tt) => { false };
}

operations! {
    /// A constant.
    Const = "const"();
    /// x as it is.
    Identity = "identity"(x: Tensor);
    /// Change of element type: `dtype` is a name such as `"fp32"`.
    Cast = "cast"(x: Tensor, dtype: Text);

    /// x + y.
    Add = "add"(x: Tensor, y: Tensor);
    /// x − y.
    Sub = "sub"(x: Tensor, y: Tensor);
    /// x · y.
    Mul = "mul"(x: Tensor, y: Tensor);
    /// x / y.
    RealDiv = "real_div"(x: Tensor, y: Tensor);
    /// ⌊x / y⌋.
    FloorDiv = "floor_div"(x: Tensor, y: Tensor);
    /// x to the power y.
    Pow = "pow"(x: Tensor, y: Tensor);
    /// The larger of x and y.
    Maximum = "maximum"(x: Tensor, y: Tensor);
    /// The smaller of x and y.
    Minimum = "minimum"(x: Tensor, y: Tensor);

    /// x = y.
    Equal = "equal"(x: Tensor, y: Tensor);
    /// x ≠ y.
    NotEqual = "not_equal"(x: Tensor, y: Tensor);
    /// x < y.
    Less = "less"(x: Tensor, y: Tensor);
    /// x ≤ y.
    LessEqual = "less_equal"(x: Tensor, y: Tensor);
    /// x > y.
    Greater = "greater"(x: Tensor, y: Tensor);
    /// x ≥ y.
    GreaterEqual = "greater_equal"(x: Tensor, y: Tensor);
    /// a where cond, else b.
    Select = "select"(cond: Tensor, a: Tensor, b: Tensor);

    /// |x|.
    Abs = "abs"(x: Tensor);
    /// Arc tangent.
    Atan = "atan"(x: Tensor);
    /// Smallest integer ≥ x.
    Ceil = "ceil"(x: Tensor);
    /// x limited to [alpha, beta].
    Clip = "clip"(x: Tensor, alpha: Float, beta: Float);
    /// Cosine.
    Cos = "cos"(x: Tensor);
    /// Error function.
    Erf = "erf"(x: Tensor);
    /// e^x.
    Exp = "exp"(x: Tensor);
    /// 2^x.
    Exp2 = "exp2"(x: Tensor);
    /// Largest integer ≤ x.
    Floor = "floor"(x: Tensor);
    /// 1 / (x + epsilon).
    Inverse = "inverse"(x: Tensor, epsilon: Float);
    /// ln(x + epsilon).
    Log = "log"(x: Tensor, epsilon: Float);
    /// Nearest integer, halves away from zero.
    Round = "round"(x: Tensor);
    /// 1 / √(x + epsilon).
    Rsqrt = "rsqrt"(x: Tensor, epsilon: Float);
    /// −1, 0 or 1.
    Sign = "sign"(x: Tensor);
    /// Sine.
    Sin = "sin"(x: Tensor);
    /// √x.
    Sqrt = "sqrt"(x: Tensor);
    /// x².
    Square = "square"(x: Tensor);
    /// Hyperbolic tangent.
    Tanh = "tanh"(x: Tensor);
    /// The larger of x and alpha.
    Threshold = "threshold"(x: Tensor, alpha: Float);

    /// max(x, 0).
    Relu = "relu"(x: Tensor);
    /// min(max(x, 0), 6).
    Relu6 = "relu6"(x: Tensor);
    /// x where x ≥ 0, else alpha·x.
    LeakyRelu = "leaky_relu"(x: Tensor, alpha: Float);
    /// x where x ≥ 0, else alpha·(e^x − 1).
    Elu = "elu"(x: Tensor, alpha: Float);
    /// Gaussian error linear unit; mode is "EXACT", "TANH_APPROXIMATION" or "SIGMOID_APPROXIMATION".
    Gelu = "gelu"(x: Tensor, mode: Text);
    /// 1 / (1 + e^−x).
    Sigmoid = "sigmoid"(x: Tensor);
    /// alpha·x + beta limited to [0, 1].
    SigmoidHard = "sigmoid_hard"(x: Tensor, alpha: Float, beta: Float);
    /// x·sigmoid(x).
    Silu = "silu"(x: Tensor);
    /// ln(1 + e^x).
    Softplus = "softplus"(x: Tensor);
    /// x / (1 + |x|).
    Softsign = "softsign"(x: Tensor);
    /// alpha·x + beta.
    LinearActivation = "linear_activation"(x: Tensor, alpha: Float, beta: Float);

    /// Sum over axes.
    ReduceSum = "reduce_sum"(x: Tensor, axes: Ints ? o, keep_dims: Bool ? o);
    /// Mean over axes.
    ReduceMean = "reduce_mean"(x: Tensor, axes: Ints ? o, keep_dims: Bool ? o);
    /// Largest over axes.
    ReduceMax = "reduce_max"(x: Tensor, axes: Ints ? o, keep_dims: Bool ? o);
    /// Smallest over axes.
    ReduceMin = "reduce_min"(x: Tensor, axes: Ints ? o, keep_dims: Bool ? o);
    /// Σ|x|.
    ReduceL1Norm = "reduce_l1_norm"(x: Tensor, axes: Ints ? o, keep_dims: Bool ? o);
    /// √Σx².
    ReduceL2Norm = "reduce_l2_norm"(x: Tensor, axes: Ints ? o, keep_dims: Bool ? o);
    /// Σx².
    ReduceSumSquare = "reduce_sum_square"(x: Tensor, axes: Ints ? o, keep_dims: Bool ? o);
    /// ln Σx.
    ReduceLogSum = "reduce_log_sum"(x: Tensor, axes: Ints ? o, keep_dims: Bool ? o);
    /// ln Σe^x.
    ReduceLogSumExp = "reduce_log_sum_exp"(x: Tensor, axes: Ints ? o, keep_dims: Bool ? o);
    /// e^x / Σe^x along an axis.
    Softmax = "softmax"(x: Tensor, axis: Int);

    /// Product of the last two axes' matrices, earlier axes broadcast.
    Matmul = "matmul"(x: Tensor, y: Tensor, transpose_x: Bool ? o, transpose_y: Bool ? o);
    /// x·weightᵀ (+ bias), weight [out, in].
    Linear = "linear"(x: Tensor, weight: Tensor, bias: Tensor ? o);
    /// Convolution, x [N, C, (H,) W], weight [O, C/groups, (kH,) kW].
    Conv = "conv"(x: Tensor, weight: Tensor, bias: Tensor ? o, strides: Ints ? o, pad_type: Text ? o,
        pad: Ints ? o, dilations: Ints ? o, groups: Int ? o);
    /// Transposed convolution, weight [C, O/groups, (kH,) kW].
    ConvTranspose = "conv_transpose"(x: Tensor, weight: Tensor, bias: Tensor ? o, pad: Ints ? o,
        output_shape: Ints ? o, pad_type: Text ? o, strides: Ints ? o, dilations: Ints ? o, groups: Int ? o);

    /// Same elements, another shape; one extent may be −1.
    Reshape = "reshape"(x: Tensor, shape: Ints);
    /// Axes reordered: axis i of the result is axis `perm[i]` of x.
    Transpose = "transpose"(x: Tensor, perm: Ints);
    /// New axes of extent 1.
    ExpandDims = "expand_dims"(x: Tensor, axes: Ints);
    /// Axes of extent 1 removed.
    Squeeze = "squeeze"(x: Tensor, axes: Ints ? o);
    /// A box of `size` at `begin`; size −1 means up to the end.
    SliceBySize = "slice_by_size"(x: Tensor, begin: Ints, size: Ints);
    /// `x[begin:end:stride]` with masks, as NumPy.
    SliceByIndex = "slice_by_index"(x: Tensor, begin: Ints, end: Ints, stride: Ints ? o,
        begin_mask: Bools ? o, end_mask: Bools ? o, squeeze_mask: Bools ? o);
    /// Values joined along an axis.
    Concat = "concat"(axis: Int, interleave: Bool, values: Tensors);
    /// x cut along an axis.
    Split = "split"(x: Tensor, num_splits: Int ? o, split_sizes: Ints ? o, axis: Int);
    /// Values joined along a new axis.
    Stack = "stack"(values: Tensors, axis: Int);
    /// x repeated `reps[i]` times along axis i.
    Tile = "tile"(x: Tensor, reps: Ints);
    /// Padding: two numbers per axis, for the last axes.
    Pad = "pad"(x: Tensor, pad: Ints, mode: Text ? o, constant_val: Float ? o);

    /// (x − mean) / √(variance + epsilon) · gamma + beta over axes.
    LayerNorm = "layer_norm"(x: Tensor, axes: Ints ? o, gamma: Tensor ? o, beta: Tensor ? o,
        epsilon: Float ? o);
    /// softmax(query·keyᵀ / √E + attn_mask)·value.
    Attention = "scaled_dot_product_attention"(query: Tensor, key: Tensor, value: Tensor,
        attn_mask: Tensor ? o);

    /// round(x / scale) + zero_point, saturated to `output_dtype`.
    Quantize = "quantize"(input: Tensor, scale: Tensor, zero_point: Tensor ? o, axis: Int ? o,
        output_dtype: Text);
    /// (x − zero_point)·scale.
    Dequantize = "dequantize"(input: Tensor, scale: Tensor, zero_point: Tensor ? o, axis: Int ? o);
    /// Constant (quantized_data − zero_point)·scale.
    ConstexprAffineDequantize = "constexpr_affine_dequantize"(quantized_data: Tensor,
        zero_point: Tensor, scale: Tensor, axis: Int);
    /// Constant data·scale, or (data − offset)·scale, one scale per block.
    ConstexprBlockwiseShiftScale = "constexpr_blockwise_shift_scale"(data: Tensor, scale: Tensor,
        offset: Tensor ? o);
    /// Constant source_val in another element type.
    ConstexprCast = "constexpr_cast"(source_val: Tensor, output_dtype: Text);
    /// Constant whose elements are those of a table. With `shape` the indices are packed into bytes
    /// (iOS 16); without it they have the shape of the result (iOS 18).
    ConstexprLutToDense = "constexpr_lut_to_dense"(indices: Tensor, lut: Tensor, shape: Ints ? o,
        vector_axis: Int ? o);
    /// Constant with nonzero_data where mask is set, else 0. With `shape` the mask is packed into
    /// bytes (iOS 16); without it it has the shape of the result (iOS 18).
    ConstexprSparseToDense = "constexpr_sparse_to_dense"(nonzero_data: Tensor, mask: Tensor,
        shape: Ints ? o);
}

/// Operations that exist in MIL and are not executed here, so that an error can say so by name.
pub const NOT_EXECUTED: &[&str] = &[
    "acos",
    "acosh",
    "argsort",
    "asin",
    "asinh",
    "atanh",
    "avg_pool",
    "band_part",
    "batch_norm",
    "batch_to_space",
    "clamped_relu",
    "classify",
    "cond",
    "conv_quantized",
    "coreml_update_state",
    "cosh",
    "crop",
    "crop_resize",
    "cumsum",
    "depth_to_space",
    "einsum",
    "fill",
    "fill_like",
    "flatten2d",
    "gather",
    "gather_along_axis",
    "gather_nd",
    "gru",
    "instance_norm",
    "l2_norm",
    "l2_pool",
    "list_gather",
    "list_length",
    "list_read",
    "list_scatter",
    "list_write",
    "local_response_norm",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lstm",
    "make_list",
    "max_pool",
    "mod",
    "non_maximum_suppression",
    "non_zero",
    "one_hot",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "random_bernoulli",
    "random_categorical",
    "random_normal",
    "random_uniform",
    "range_1d",
    "read_state",
    "reduce_argmax",
    "reduce_argmin",
    "reduce_prod",
    "resample",
    "reshape_like",
    "resize",
    "resize_bilinear",
    "resize_nearest_neighbor",
    "reverse",
    "reverse_sequence",
    "rnn",
    "scaled_tanh",
    "scatter",
    "scatter_along_axis",
    "scatter_nd",
    "shape",
    "sinh",
    "slice_update",
    "sliding_windows",
    "softplus_parametric",
    "space_to_batch",
    "space_to_depth",
    "tan",
    "thresholded_relu",
    "topk",
    "upsample_bilinear",
    "upsample_nearest_neighbor",
    "while_loop",
    "write_state",
];

impl Op {
    /// Name in the text.
    pub fn name(self) -> &'static str {
        self.signature().name
    }

    /// True for operations that the compiler computes: their inputs are constants.
    pub fn is_constexpr(self) -> bool {
        self.name().starts_with("constexpr_")
    }

    /// The operation called `name`.
    pub fn from_name(name: &str) -> Option<Op> {
        Op::ALL.iter().copied().find(|op| op.name() == name)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (i, op) in Op::ALL.iter().enumerate() {
            assert_eq!(Op::from_name(op.name()), Some(*op));
            assert!(Op::ALL[..i].iter().all(|other| other.name() != op.name()));
            assert!(!NOT_EXECUTED.contains(&op.name()), "{op} is both executed and not");
        }
    }
}
