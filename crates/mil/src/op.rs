//! The table of operations: names, arguments and which of them are required.
//!
//! A new operation is one row here, one arm of [`mod@crate::resolve`] (arguments and type rule), one
//! of [`crate::interp`] (reference semantics) and one of [`mod@crate::grad`] (gradient). What is made of
//! simpler operations has a formula in `formula`: its arm of `grad` says so, and devices compute the formula.

use std::fmt;

/// The forms that an argument of an operation may have.
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
    /// The allowed forms.
    pub kind: ParamKind,
    /// True if the compiler refuses the operation without it.
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
    /// x where x ≥ 0, else alpha·x, at most beta.
    ClampedRelu = "clamped_relu"(x: Tensor, alpha: Float, beta: Float);
    /// x where x ≥ 0, else alpha·x, with one alpha per channel.
    Prelu = "prelu"(x: Tensor, alpha: Tensor);
    /// alpha·tanh(beta·x).
    ScaledTanh = "scaled_tanh"(x: Tensor, alpha: Float ? o, beta: Float ? o);
    /// alpha·ln(1 + e^(beta·x)), with one alpha and beta per channel.
    SoftplusParametric = "softplus_parametric"(x: Tensor, alpha: Tensor, beta: Tensor);
    /// x where x ≥ alpha, else 0.
    ThresholdedRelu = "thresholded_relu"(x: Tensor, alpha: Float ? o);
    /// True where x is false.
    LogicalNot = "logical_not"(x: Tensor);

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

    /// The other way round along axes.
    Reverse = "reverse"(x: Tensor, axes: Ints ? o);
    /// Rows and columns cut off at both ends.
    Crop = "crop"(x: Tensor, crop_height: Ints, crop_width: Ints);
    /// Two axes: the product of those before `axis`, and that of the others.
    Flatten2d = "flatten2d"(x: Tensor, axis: Int ? o);
    /// Channels to space, `upscale_factor`² neighbours to each pixel.
    PixelShuffle = "pixel_shuffle"(x: Tensor, upscale_factor: Int);
    /// Space to channels: the inverse of `pixel_shuffle`.
    PixelUnshuffle = "pixel_unshuffle"(x: Tensor, downscale_factor: Int);
    /// Channels to space, `block_size`² parts of all channels.
    DepthToSpace = "depth_to_space"(x: Tensor, block_size: Int);
    /// Space to channels: the inverse of `depth_to_space`.
    SpaceToDepth = "space_to_depth"(x: Tensor, block_size: Int);
    /// Batches to space.
    BatchToSpace = "batch_to_space"(x: Tensor, block_shape: Ints, crops: Ints);
    /// Space to batches.
    SpaceToBatch = "space_to_batch"(x: Tensor, block_shape: Ints, paddings: Ints);

    /// The largest element of every window.
    MaxPool = "max_pool"(x: Tensor, kernel_sizes: Ints, strides: Ints ? o, pad_type: Text,
        pad: Ints ? o, ceil_mode: Bool ? o);
    /// The mean of every window.
    AvgPool = "avg_pool"(x: Tensor, kernel_sizes: Ints, strides: Ints ? o, pad_type: Text,
        pad: Ints ? o, exclude_padding_from_average: Bool ? o, ceil_mode: Bool ? o);
    /// √Σx² of every window.
    L2Pool = "l2_pool"(x: Tensor, kernel_sizes: Ints, strides: Ints ? o, pad_type: Text,
        pad: Ints ? o, ceil_mode: Bool ? o);

    /// The last two axes larger by factors, elements repeated.
    UpsampleNearestNeighbor = "upsample_nearest_neighbor"(x: Tensor, scale_factor_height: Float ? o,
        scale_factor_width: Float ? o);
    /// The last two axes larger by factors, elements mixed.
    UpsampleBilinear = "upsample_bilinear"(x: Tensor, scale_factor_height: Float ? o,
        scale_factor_width: Float ? o, align_corners: Bool ? o);
    /// The last two axes of another size, elements repeated.
    ResizeNearestNeighbor = "resize_nearest_neighbor"(x: Tensor, target_size_height: Int,
        target_size_width: Int);
    /// The last two axes of another size, elements mixed.
    ResizeBilinear = "resize_bilinear"(x: Tensor, target_size_height: Int ? o,
        target_size_width: Int ? o, sampling_mode: Text ? o);
    /// The last `resized_dims` axes as those of `shape`.
    Resize = "resize"(x: Tensor, shape: Ints, resized_dims: Int, interpolation_mode: Text ? o,
        sampling_mode: Text ? o);
    /// An image under an affine map.
    Affine = "affine"(x: Tensor, transform_matrix: Tensor, output_height: Int, output_width: Int,
        sampling_mode: Text, padding_mode: Text, padding_value: Float, coordinates_mode: Text,
        align_corners: Bool);

    /// A tensor of one value.
    Fill = "fill"(shape: Ints, value: Tensor ? o);
    /// A tensor of one value with the shape of another.
    FillLike = "fill_like"(ref_tensor: Tensor, value: Tensor ? o);
    /// start, start + step, … below end.
    Range1d = "range_1d"(start: Tensor, end: Tensor, step: Tensor);
    /// The k largest (or smallest) along an axis, and where they are.
    TopK = "topk"(x: Tensor, k: Int ? o, axis: Int ? o, ascending: Bool ? o, sort: Bool ? o,
        return_indices: Bool ? o, output_indices_dtype: Text ? o);
    /// Boxes that overlap no better one.
    NonMaximumSuppression = "non_maximum_suppression"(boxes: Tensor, scores: Tensor,
        iou_threshold: Float, score_threshold: Float ? o, max_boxes: Int,
        per_class_suppression: Bool ? o);
    /// Products of two tensors summed over axes, as an equation says.
    Einsum = "einsum"(values: Tensors, equation: Text);

    /// (x − mean) / √(variance + epsilon) · gamma + beta, mean and variance given per channel.
    BatchNorm = "batch_norm"(x: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor ? o,
        beta: Tensor ? o, epsilon: Float ? o);
    /// As `batch_norm`, with the mean and variance of each channel.
    InstanceNorm = "instance_norm"(x: Tensor, gamma: Tensor ? o, beta: Tensor ? o,
        epsilon: Float ? o);
    /// x / √(Σx² + epsilon) over the last three axes.
    L2Norm = "l2_norm"(x: Tensor, epsilon: Float ? o);
    /// x / (k + alpha / size · Σx²)^beta over `size` neighbouring channels.
    LocalResponseNorm = "local_response_norm"(x: Tensor, size: Int, alpha: Float ? o,
        beta: Float ? o, k: Float ? o);
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

/// Operations that exist in MIL and are not known here, so that an error can say so by name. (Of those
/// that are known a few are checked, but not executed: [`crate::Kind::NotExecuted`].)
pub const NOT_EXECUTED: &[&str] = &[
    "acos",
    "acosh",
    "argsort",
    "asin",
    "asinh",
    "atanh",
    "band_part",
    "classify",
    "cond",
    "conv_quantized",
    "coreml_update_state",
    "cosh",
    "crop_resize",
    "cumsum",
    "gather",
    "gather_along_axis",
    "gather_nd",
    "gru",
    "list_gather",
    "list_length",
    "list_read",
    "list_scatter",
    "list_write",
    "logical_and",
    "logical_or",
    "logical_xor",
    "lstm",
    "make_list",
    "mod",
    "non_zero",
    "one_hot",
    "random_bernoulli",
    "random_categorical",
    "random_normal",
    "random_uniform",
    "read_state",
    "reduce_argmax",
    "reduce_argmin",
    "reduce_prod",
    "resample",
    "reshape_like",
    "reverse_sequence",
    "rnn",
    "scatter",
    "scatter_along_axis",
    "scatter_nd",
    "shape",
    "sinh",
    "slice_update",
    "sliding_windows",
    "tan",
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
