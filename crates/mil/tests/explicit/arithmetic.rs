//! Casts to integers, softmax of large values, convolutions.

use super::{Case, Tensor, case, count, tensor};

pub(super) fn cases() -> Vec<Case> {
    [casts(), softmax(), convolutions(), transposed()].into_iter().flatten().collect()
}

/// Towards zero, and to the nearest end of the type.
fn casts() -> Vec<Case> {
    let to = |operation, dtype, x: &[f64], result: &[f64]| Case {
        operation,
        inputs: vec![tensor(&[x.len()], x)],
        results: vec![(dtype, tensor(&[result.len()], result))],
    };
    vec![
        to(
            "cast(x = x, dtype = string(\"int32\"))",
            "int32",
            &[-1.7, -0.5, 0.5, 1.7, 2.5, -2.5, 3.0],
            &[-1.0, 0.0, 0.0, 1.0, 2.0, -2.0, 3.0],
        ),
        to(
            "cast(x = x, dtype = string(\"int8\"))",
            "int8",
            &[300.0, -300.0, 127.75, -128.5, 126.75, -0.75],
            &[127.0, -128.0, 127.0, -128.0, 126.0, 0.0],
        ),
        to(
            "cast(x = x, dtype = string(\"uint8\"))",
            "uint8",
            &[-5.0, -0.5, 254.5, 256.0, 1.75],
            &[0.0, 0.0, 254.0, 255.0, 1.0],
        ),
        to("cast(x = x, dtype = string(\"bool\"))", "bool", &[0.0, 0.5, -2.0], &[0.0, 1.0, 1.0]),
    ]
}

/// 1/(1 + e) and e/(1 + e).
const SHARES: [f64; 2] = [0.268_941_421_369_995_1, 0.731_058_578_630_004_9];

/// e^1000 and e^−1000 are not numbers of any precision here: the largest must be subtracted first.
fn softmax() -> Vec<Case> {
    let [small, large] = SHARES;
    let columns: Tensor = tensor(&[1, 2, 3], &[1000.0, -1000.0, 1000.0, 1001.0, -1000.0, 500.0]);
    let rows: Tensor = tensor(&[3, 2], &[1000.0, 1001.0, -1000.0, -1000.0, 1000.0, 500.0]);
    vec![
        case(
            "softmax(x = x, axis = int32(1))",
            columns.clone(),
            tensor(&[1, 2, 3], &[small, 0.5, 1.0, large, 0.5, 0.0]),
        ),
        case(
            "softmax(x = x, axis = int32(-2))",
            columns,
            tensor(&[1, 2, 3], &[small, 0.5, 1.0, large, 0.5, 0.0]),
        ),
        case(
            "softmax(x = x, axis = int32(-1))",
            rows,
            tensor(&[3, 2], &[small, large, 0.5, 0.5, 1.0, 0.0]),
        ),
    ]
}

fn with_kernel(operation: &'static str, x: Tensor, kernel: &[f64], result: &[f64]) -> Case {
    Case {
        operation,
        inputs: vec![x, tensor(&[1, 1, 1, kernel.len()], kernel)],
        results: vec![("real", tensor(&[1, 1, 1, result.len()], result))],
    }
}

/// r[t] = Σ x[stride·t + dilation·i − begin]·weight[i]; what lies outside x is 0.
fn convolutions() -> Vec<Case> {
    let conv = |operation, kernel: &[f64], result: &[f64]| {
        with_kernel(operation, count(&[1, 1, 1, 5]), kernel, result)
    };
    vec![
        conv("conv(x = x, weight = y)", &[1.0, 10.0, 100.0], &[210.0, 321.0, 432.0]),
        conv(
            "conv(x = x, weight = y, pad_type = string(\"same\"))",
            &[1.0, 10.0, 100.0],
            &[100.0, 210.0, 321.0, 432.0, 43.0],
        ),
        // One element of padding: at the end, or at the beginning.
        conv(
            "conv(x = x, weight = y, pad_type = string(\"same\"))",
            &[1.0, 10.0],
            &[10.0, 21.0, 32.0, 43.0, 4.0],
        ),
        conv(
            "conv(x = x, weight = y, pad_type = string(\"same_lower\"))",
            &[1.0, 10.0],
            &[0.0, 10.0, 21.0, 32.0, 43.0],
        ),
        conv(
            "conv(x = x, weight = y, pad_type = string(\"custom\"), \
             pad = tensor<int32, [4]>([0, 0, 1, 2]), strides = tensor<int32, [2]>([1, 2]), \
             dilations = tensor<int32, [2]>([1, 3]))",
            // Reads −1 and 2, 1 and 4, 3 and 6.
            &[1.0, 10.0],
            &[20.0, 41.0, 3.0],
        ),
    ]
}

/// x[t]·weight[i] is added to r[stride·t + dilation·i − begin].
fn transposed() -> Vec<Case> {
    let back = |operation, result: &[f64]| {
        with_kernel(operation, tensor(&[1, 1, 1, 3], &[1.0, 2.0, 3.0]), &[10.0, 1.0], result)
    };
    vec![
        back(
            "conv_transpose(x = x, weight = y, strides = tensor<int32, [2]>([1, 2]))",
            &[10.0, 1.0, 20.0, 2.0, 30.0, 3.0],
        ),
        back("conv_transpose(x = x, weight = y)", &[10.0, 21.0, 32.0, 3.0]),
        back(
            "conv_transpose(x = x, weight = y, dilations = tensor<int32, [2]>([1, 2]))",
            &[10.0, 20.0, 31.0, 2.0, 3.0],
        ),
        // One is cut at the beginning, two at the end.
        back(
            "conv_transpose(x = x, weight = y, strides = tensor<int32, [2]>([1, 2]), \
             pad_type = string(\"custom\"), pad = tensor<int32, [4]>([0, 0, 1, 2]))",
            &[1.0, 20.0, 2.0],
        ),
        // A shape moves the end: nothing is cut there, then three, then two as before.
        back(
            "conv_transpose(x = x, weight = y, strides = tensor<int32, [2]>([1, 2]), \
             pad_type = string(\"custom\"), pad = tensor<int32, [4]>([0, 0, 1, 2]), \
             output_shape = tensor<int32, [4]>([1, 1, 1, 5]))",
            &[1.0, 20.0, 2.0, 30.0, 3.0],
        ),
        back(
            "conv_transpose(x = x, weight = y, strides = tensor<int32, [2]>([1, 2]), \
             pad_type = string(\"custom\"), pad = tensor<int32, [4]>([0, 0, 1, 2]), \
             output_shape = tensor<int32, [2]>([1, 2]))",
            &[1.0, 20.0],
        ),
        back(
            "conv_transpose(x = x, weight = y, strides = tensor<int32, [2]>([1, 2]), \
             pad_type = string(\"custom\"), pad = tensor<int32, [4]>([0, 0, 1, 2]), \
             output_shape = tensor<int32, [4]>([1, 1, 1, 3]))",
            &[1.0, 20.0, 2.0],
        ),
    ]
}
