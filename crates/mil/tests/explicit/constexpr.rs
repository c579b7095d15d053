//! Constants stored in fewer bits; most are the examples of coremltools' documentation.

use super::{Case, tensor};

/// A constant: attributes are written behind the operation, arguments in it.
fn constant(operation: &'static str, dtype: &'static str, shape: &[usize], data: &[f64]) -> Case {
    Case { operation, inputs: vec![], results: vec![(dtype, tensor(shape, data))] }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        // (q − 1)·[0.5, 2]
        constant(
            "constexpr_affine_dequantize()[axis = int32(-2), quantized_data = tensor<int8, [2, 2]>\
             ([[1, -2], [3, -128]]), scale = tensor<real, [2]>([0.5, 2]), zero_point = int8(1)]",
            "real",
            &[2, 2],
            &[0.0, -1.5, 4.0, -258.0],
        ),
        constant(
            "constexpr_affine_dequantize()[axis = int32(1), quantized_data = tensor<uint8, [1, 2, 2]>\
             ([[[200, 3], [5, 7]]]), scale = real(0.25), zero_point = tensor<uint8, [2]>([100, 5])]",
            "real",
            &[1, 2, 2],
            &[25.0, -24.25, 0.0, 0.5],
        ),
        // Blocks of 1 × 2.
        constant(
            "constexpr_blockwise_shift_scale(data = tensor<int4, [2, 4]>([[1, 2, 3, 4], [-8, 7, 0, 1]]), \
             scale = tensor<real, [2, 2]>([[1, 10], [0.5, 2]]), \
             offset = tensor<int4, [2, 2]>([[0, 1], [-1, 3]]))",
            "real",
            &[2, 4],
            &[1.0, 2.0, 20.0, 30.0, -3.5, 4.0, -6.0, -4.0],
        ),
        constant(
            "constexpr_blockwise_shift_scale(data = tensor<uint8, [3, 1]>([[1], [2], [250]]), \
             scale = tensor<real, [1, 1]>([[2]]))",
            "real",
            &[3, 1],
            &[2.0, 4.0, 500.0],
        ),
        // 2 bits: 00 11 10 01 | 11, the lowest bits first: 0b01101100 and 0b00000011.
        constant(
            "constexpr_lut_to_dense()[indices = tensor<uint8, [2]>([108, 3]), \
             lut = tensor<real, [4]>([10, 11, 12, 13]), shape = tensor<uint32, [1]>([5])]",
            "real",
            &[5],
            &[10.0, 13.0, 12.0, 11.0, 13.0],
        ),
        // 6 bits across bytes: 1, 2, 63, 32 = 000001, 000010, 111111, 100000.
        constant(
            "constexpr_lut_to_dense()[indices = tensor<uint8, [3]>([129, 240, 131]), lut = tensor<int8, \
             [64]>([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, \
             23, 24, 25, 26, 27, 28, 29, 30, 31, -32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, \
             45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, -63]), \
             shape = tensor<uint32, [2]>([2, 2])]",
            "int8",
            &[2, 2],
            &[1.0, 2.0, -63.0, -32.0],
        ),
        constant(
            "constexpr_lut_to_dense(indices = tensor<uint2, [6, 2]>([[2, 3], [3, 0], [1, 0], [3, 0], \
             [2, 1], [0, 3]]), lut = tensor<real, [2, 1, 4, 1]>([[[[1], [5], [9], [13]]], [[[2], [10], \
             [18], [26]]]]))",
            "real",
            &[6, 2],
            &[9.0, 13.0, 13.0, 1.0, 5.0, 1.0, 26.0, 2.0, 18.0, 10.0, 2.0, 26.0],
        ),
        constant(
            "constexpr_lut_to_dense(indices = tensor<uint1, [2, 2, 2]>([[[0, 0], [1, 0]], [[1, 1], \
             [0, 0]]]), lut = tensor<real, [1, 1, 1, 2, 3]>([[[[[1, 2, 3], [4, 5, 6]]]]]), \
             vector_axis = int32(1))",
            "real",
            &[2, 6, 2],
            &[
                1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, //
                4.0, 4.0, 5.0, 5.0, 6.0, 6.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0,
            ],
        ),
        constant(
            "constexpr_lut_to_dense(indices = tensor<uint1, [2, 2, 2]>([[[0, 0], [1, 0]], [[1, 1], \
             [0, 0]]]), lut = tensor<real, [1, 1, 1, 2, 3]>([[[[[1, 2, 3], [4, 5, 6]]]]]), \
             vector_axis = int32(-1))",
            "real",
            &[2, 2, 6],
            &[
                1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, //
                4.0, 5.0, 6.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0,
            ],
        ),
        // Bits 2 and 3 of five.
        constant(
            "constexpr_sparse_to_dense()[mask = tensor<uint8, [1]>([12]), \
             nonzero_data = tensor<real, [2]>([7, -8]), shape = tensor<uint32, [1]>([5])]",
            "real",
            &[5],
            &[0.0, 0.0, 7.0, -8.0, 0.0],
        ),
        constant(
            "constexpr_sparse_to_dense(nonzero_data = tensor<real, [3]>([1, 2, 3]), \
             mask = tensor<uint1, [2, 3]>([[0, 1, 0], [1, 0, 1]]))",
            "real",
            &[2, 3],
            &[0.0, 1.0, 0.0, 2.0, 0.0, 3.0],
        ),
        constant(
            "constexpr_cast()[output_dtype = string(\"fp32\"), source_val = tensor<fp16, [2]>([0.5, -3])]",
            "fp32",
            &[2],
            &[0.5, -3.0],
        ),
    ]
}
