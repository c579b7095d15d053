//! Operations that break a rule of their own, and what is said of them.

use mil::check_text;

const PARAMETERS: &str =
    "tensor<fp16, [1, 4, 6, 6]> x, tensor<fp16, [2, 3]> y, tensor<int32, [2]> i";

/// The message for the statement `r = OPERATION`, whatever type it is declared with.
fn said(operation: &str) -> String {
    let name = if operation.ends_with(']') { "" } else { "[name = string(\"r\")]" };
    let text = format!(
        "program(1.3) {{ func main<ios18>({PARAMETERS}) {{\n fp16 r = {operation}{name};\n}} -> (r); }}"
    );
    let faults = check_text(&text).expect_err("the operation breaks a rule");
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn refused(cases: &[(&str, &str)]) {
    for (operation, why) in cases {
        let said = said(operation);
        assert!(said.contains(why), "expected {why:?} of\n{operation}\n{said}");
    }
}

#[test]
fn windows_that_do_not_fit() {
    refused(&[
        (
            "max_pool(x = x, kernel_sizes = tensor<int32, [2]>([7, 1]), pad_type = string(\"valid\"))",
            "a window of 7 does not fit into 6",
        ),
        (
            "max_pool(x = x, kernel_sizes = tensor<int32, [1]>([2]), pad_type = string(\"valid\"))",
            "expected 2 positive integers",
        ),
        (
            "max_pool(x = x, kernel_sizes = tensor<int32, [2]>([65, 1]), pad_type = string(\"same\"))",
            "a window of 65 over an extent of 6 is mostly padding",
        ),
        (
            "avg_pool(x = x, kernel_sizes = tensor<int32, [2]>([2, 2]), pad_type = string(\"custom\"), \
             pad = tensor<int32, [4]>([2, 0, 0, 0]))",
            "padding (2, 0) holds a whole window of 2",
        ),
        (
            "avg_pool(x = x, kernel_sizes = tensor<int32, [2]>([2, 2]), pad_type = string(\"custom\"), \
             pad = tensor<int32, [4]>([1, 0, 0, 0]), ceil_mode = bool(true))",
            "padding (1, 0) is not the same on both sides",
        ),
        (
            "avg_pool(x = x, kernel_sizes = tensor<int32, [2]>([1, 1]), strides = tensor<int32, [2]>([6, 6]), \
             pad_type = string(\"valid\"), ceil_mode = bool(true))",
            "the last window is outside of the input",
        ),
        (
            "l2_pool(x = y, kernel_sizes = tensor<int32, [1]>([1]), pad_type = string(\"valid\"))",
            "3 to 4 axes",
        ),
        (
            "l2_pool(x = x, kernel_sizes = tensor<int32, [2]>([1, 1]), pad_type = string(\"full\"))",
            "unknown padding `full`",
        ),
    ]);
}

#[test]
fn parameters_that_do_not_fit() {
    refused(&[
        (
            "prelu(x = x, alpha = tensor<fp16, [3]>([1, 2, 3]))",
            "expected tensor<fp16, [4]>, got tensor<fp16, [3]>",
        ),
        ("prelu(x = y, alpha = tensor<fp16, [3]>([1, 2, 3]))", "expected 3 to 5 axes"),
        (
            "batch_norm(x = x, mean = tensor<fp16, [4]>([1, 2, 3, 4]), variance = tensor<fp32, [4]>([1, 2, 3, 4]))",
            "expected tensor<fp16, [4]>, got tensor<fp32, [4]>",
        ),
        ("instance_norm(x = y)", "expected 3 to 4 axes"),
        ("local_response_norm(x = x, size = int32(0))", "expected 1 to 4096"),
        ("logical_not(x = y)", "expected bool, got fp16"),
        ("clamped_relu(x = y, alpha = fp16(1))", "is missing"),
        ("identity()", "is missing"),
    ]);
}

#[test]
fn rearrangements_that_do_not_divide() {
    refused(&[
        ("pixel_shuffle(x = x, upscale_factor = int32(3))", "4 is not divisible by 9"),
        ("pixel_unshuffle(x = x, downscale_factor = int32(4))", "6 is not divisible by 4"),
        ("space_to_depth(x = y, block_size = int32(1))", "expected 4 axes"),
        ("depth_to_space(x = x, block_size = int32(0))", "expected a positive integer"),
        (
            "space_to_batch(x = x, block_shape = tensor<int32, [2]>([4, 1]), \
             paddings = tensor<int32, [2, 2]>([[1, 0], [0, 0]]))",
            "7 is not divisible by 4",
        ),
        (
            "batch_to_space(x = x, block_shape = tensor<int32, [2]>([1, 1]), \
             crops = tensor<int32, [2, 2]>([[3, 3], [0, 0]]))",
            "3 and 3 leave nothing of 6",
        ),
        (
            "batch_to_space(x = x, block_shape = tensor<int32, [2]>([2, 1]), \
             crops = tensor<int32, [2, 2]>([[0, 0], [0, 0]]))",
            "1 is not divisible by 2",
        ),
        (
            "crop(x = x, crop_height = tensor<int32, [2]>([3, 3]), crop_width = tensor<int32, [2]>([0, 0]))",
            "does not cut an extent of 6",
        ),
        ("flatten2d(x = y, axis = int32(3))", "axis 3 is outside a tensor of rank 2"),
        ("reverse(x = y, axes = tensor<int32, [2]>([0, -2]))", "axis 0 is given twice"),
    ]);
}

#[test]
fn numbers_and_equations_that_mean_nothing() {
    refused(&[
        (
            "upsample_bilinear(x = x, scale_factor_width = fp32(0.125))",
            "gives an extent of 0 from 6",
        ),
        ("resize_bilinear(x = x, sampling_mode = string(\"CORNERS\"))", "unknown mode `CORNERS`"),
        (
            "resize(x = x, shape = tensor<int32, [1]>([3]), resized_dims = uint32(2))",
            "2 of [3] for tensor<fp16, [1, 4, 6, 6]>",
        ),
        ("fill(shape = tensor<int32, [2]>([2, 0]), value = fp16(1))", "expected positive extents"),
        ("fill(shape = i, value = fp16(1))", "`i` is not a constant"),
        ("range_1d(start = int32(3), end = int32(1), step = int32(1))", "-2 elements"),
        (
            "range_1d(start = int32(0), end = fp16(1), step = int32(1))",
            "all three need one element type",
        ),
        ("topk(x = y, k = int32(4))", "4 of 3 elements"),
        (
            "topk(x = y, k = int32(1), output_indices_dtype = string(\"int8\"))",
            "cannot give indices as `int8`",
        ),
        ("einsum(values = (y, y), equation = string(\"ab,bc->ac\"))", "one letter stands for 3"),
        ("einsum(values = (y, y), equation = string(\"aa,bc->bc\"))", "`a` in `aa`"),
        ("einsum(values = (y, y), equation = string(\"ab,ab->c\"))", "`c` in `c`"),
        (
            "einsum(values = (y, y), equation = string(\"abc,ab->c\"))",
            "3 letters for tensor<fp16, [2, 3]>",
        ),
        ("einsum(values = (y, y), equation = string(\"ab,ab\"))", "cannot read `ab,ab`"),
        (
            "einsum(values = (y, y, y), equation = string(\"ab,ab->a\"))",
            "expected two values, got 3",
        ),
    ]);
}

#[test]
fn compressed_constants_that_do_not_fit() {
    refused(&[
        (
            "constexpr_affine_dequantize(quantized_data = i, zero_point = int32(0), scale = fp16(1), axis = int32(0))",
            "is not a constant",
        ),
        (
            "constexpr_lut_to_dense()[indices = tensor<uint8, [2]>([1, 2]), lut = tensor<fp16, [4]>([1, 2, 3, 4]), \
             shape = tensor<uint32, [1]>([9])]",
            "9 elements of 2 bits take 3 bytes",
        ),
        (
            "constexpr_lut_to_dense()[indices = tensor<uint8, [1]>([1]), lut = tensor<fp16, [3]>([1, 2, 3]), \
             shape = tensor<uint32, [1]>([4])]",
            "expected 2, 4, 16, 64 or 256 entries, got 3",
        ),
        (
            "constexpr_lut_to_dense(indices = tensor<uint1, [2]>([0, 1]), lut = tensor<fp16, [1, 4, 1]>\
             ([[[1], [2], [3], [4]]]))",
            "does not fit indices",
        ),
        (
            "constexpr_lut_to_dense(indices = tensor<uint1, [2]>([0, 1]), lut = tensor<fp16, [1, 2, 2]>\
             ([[[1, 2], [3, 4]]]))",
            "is missing for vectors of 2",
        ),
        (
            "constexpr_blockwise_shift_scale(data = tensor<int8, [3]>([1, 2, 3]), scale = tensor<fp16, [2]>([1, 2]))",
            "[2] does not cut [3] into blocks",
        ),
        (
            "constexpr_sparse_to_dense()[mask = tensor<uint8, [1]>([12]), nonzero_data = tensor<fp16, [1]>([7]), \
             shape = tensor<uint32, [1]>([5])]",
            "2 bits are set for 1 elements",
        ),
        (
            "constexpr_cast()[source_val = tensor<fp16, [1]>([1]), output_dtype = string(\"int8\")]",
            "cannot cast to `int8`",
        ),
        ("relu(x = y)[alpha = fp16(1)]", "relu has no attribute `alpha`"),
        ("constexpr_cast()[source = fp16(1)]", "constexpr_cast has no attribute `source`"),
    ]);
}
