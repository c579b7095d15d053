//! Pooling, norms and activations. Most values of pools and of `local_response_norm` are those of
//! coremltools' own tests.

use super::{Case, case, tensor};

fn line(data: &[f64]) -> super::Tensor {
    tensor(&[1, 1, data.len()], data)
}

const SEVEN: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
const IMAGES: [f64; 8] = [-10.0, -6.0, -7.0, 9.0, -3.0, 0.0, 11.0, 7.0];
const CUBES: [f64; 54] = [
    -1.0, -5.0, -1.0, -3.0, -3.0, 8.0, 2.0, 6.0, 2.0, -4.0, 7.0, -4.0, 4.0, 6.0, 7.0, 4.0, 4.0,
    8.0, 5.0, -3.0, 5.0, 0.0, -5.0, 8.0, 1.0, 7.0, 2.0, 7.0, -3.0, -5.0, 5.0, 4.0, 7.0, -2.0, -4.0,
    -3.0, -4.0, 3.0, -1.0, 6.0, -4.0, 4.0, 3.0, 6.0, 2.0, -1.0, 4.0, -4.0, -2.0, -1.0, -2.0, 3.0,
    2.0, 8.0,
];

fn pools() -> Vec<Case> {
    let images = || tensor(&[1, 2, 2, 2], &IMAGES);
    vec![
        case(
            "avg_pool(x = x, kernel_sizes = tensor<int32, [1]>([1]), strides = tensor<int32, [1]>([2]), \
             pad_type = string(\"valid\"))",
            line(&SEVEN),
            line(&[1.0, 3.0, 5.0, 7.0]),
        ),
        // One element of padding on both sides.
        case(
            "avg_pool(x = x, kernel_sizes = tensor<int32, [1]>([3]), strides = tensor<int32, [1]>([3]), \
             pad_type = string(\"same\"), exclude_padding_from_average = bool(true))",
            line(&SEVEN),
            line(&[1.5, 4.0, 6.5]),
        ),
        case(
            "avg_pool(x = x, kernel_sizes = tensor<int32, [1]>([3]), strides = tensor<int32, [1]>([3]), \
             pad_type = string(\"same\"))",
            line(&SEVEN),
            line(&[1.0, 4.0, 13.0 / 3.0]),
        ),
        case(
            "max_pool(x = x, kernel_sizes = tensor<int32, [1]>([3]), strides = tensor<int32, [1]>([3]), \
             pad_type = string(\"same\"))",
            line(&SEVEN),
            line(&[2.0, 5.0, 7.0]),
        ),
        case(
            "l2_pool(x = x, kernel_sizes = tensor<int32, [1]>([3]), strides = tensor<int32, [1]>([3]), \
             pad_type = string(\"same\"))",
            line(&SEVEN),
            line(&[5f64.sqrt(), 50f64.sqrt(), 85f64.sqrt()]),
        ),
        // The odd element of padding goes before.
        case(
            "avg_pool(x = x, kernel_sizes = tensor<int32, [2]>([2, 2]), pad_type = string(\"same_lower\"))",
            tensor(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]),
            tensor(&[1, 1, 2, 2], &[0.25, 0.75, 1.0, 2.5]),
        ),
        case(
            "max_pool(x = x, kernel_sizes = tensor<int32, [2]>([2, 2]), pad_type = string(\"same_lower\"))",
            tensor(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]),
            tensor(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]),
        ),
        case(
            "avg_pool(x = x, kernel_sizes = tensor<int32, [3]>([2, 2, 2]), pad_type = string(\"same_lower\"))",
            tensor(&[1, 1, 2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
            tensor(&[1, 1, 2, 2, 2], &[0.125, 0.375, 0.5, 1.25, 0.75, 1.75, 2.0, 4.5]),
        ),
        case(
            "max_pool(x = x, kernel_sizes = tensor<int32, [2]>([1, 2]), strides = tensor<int32, [2]>([2, 1]), \
             pad_type = string(\"valid\"))",
            images(),
            tensor(&[1, 2, 1, 1], &[-6.0, 0.0]),
        ),
        case(
            "l2_pool(x = x, kernel_sizes = tensor<int32, [2]>([2, 3]), strides = tensor<int32, [2]>([1, 3]), \
             pad_type = string(\"same\"))",
            images(),
            tensor(&[1, 2, 2, 1], &[266f64.sqrt(), 130f64.sqrt(), 179f64.sqrt(), 170f64.sqrt()]),
        ),
        case(
            "max_pool(x = x, kernel_sizes = tensor<int32, [3]>([1, 2, 3]), \
             strides = tensor<int32, [3]>([2, 1, 3]), pad_type = string(\"valid\"))",
            tensor(&[2, 1, 3, 3, 3], &CUBES),
            tensor(&[2, 1, 2, 2, 1], &[8.0, 8.0, 8.0, 8.0, 7.0, 7.0, 4.0, 8.0]),
        ),
        case(
            "max_pool(x = x, kernel_sizes = tensor<int32, [3]>([1, 2, 3]), \
             strides = tensor<int32, [3]>([2, 1, 3]), pad_type = string(\"same\"))",
            tensor(&[2, 1, 3, 3, 3], &CUBES),
            tensor(
                &[2, 1, 2, 3, 1],
                &[8.0, 8.0, 6.0, 8.0, 8.0, 7.0, 7.0, 7.0, -2.0, 4.0, 8.0, 8.0],
            ),
        ),
        // ceil((7 − 2) / 3) + 1 = 3 windows, of which the last has one element of the input.
        case(
            "avg_pool(x = x, kernel_sizes = tensor<int32, [1]>([2]), strides = tensor<int32, [1]>([3]), \
             pad_type = string(\"valid\"), ceil_mode = bool(true))",
            line(&SEVEN),
            line(&[1.5, 4.5, 7.0]),
        ),
        // Of ceil((7 + 2 − 3) / 4) + 1 = 3 windows the last would start behind the input.
        case(
            "max_pool(x = x, kernel_sizes = tensor<int32, [1]>([3]), strides = tensor<int32, [1]>([4]), \
             pad_type = string(\"custom\"), pad = tensor<int32, [2]>([1, 1]), ceil_mode = bool(true))",
            line(&SEVEN),
            line(&[2.0, 6.0]),
        ),
        case(
            "avg_pool(x = x, kernel_sizes = tensor<int32, [1]>([3]), strides = tensor<int32, [1]>([3]), \
             pad_type = string(\"custom\"), pad = tensor<int32, [2]>([1, 1]), ceil_mode = bool(true))",
            line(&SEVEN[..6]),
            // Windows [0 1 2], [3 4 5] and [6 0]: the second element beyond the padding does not count.
            line(&[1.0, 4.0, 3.0]),
        ),
    ]
}

fn norms() -> Vec<Case> {
    vec![
        // (x − m) / √(v + ε) · g + b with √ of 4 and 0.25.
        case(
            "batch_norm(x = x, mean = tensor<real, [2]>([1, -1]), variance = tensor<real, [2]>([3.5, 0]), \
             gamma = tensor<real, [2]>([2, 1]), beta = tensor<real, [2]>([0.5, 0]), epsilon = real(0.25))",
            tensor(&[1, 2, 2], &[1.0, 3.0, 0.0, 4.0]),
            tensor(&[1, 2, 2], &[0.5, 0.5 + 4.0 / 3.75f64.sqrt(), 2.0, 10.0]),
        ),
        case(
            "batch_norm(x = x, mean = tensor<real, [1]>([2]), variance = tensor<real, [1]>([4]))",
            tensor(&[2, 1, 1], &[4.0, -2.0]),
            tensor(&[2, 1, 1], &[2.0 / 4.00001f64.sqrt(), -4.0 / 4.00001f64.sqrt()]),
        ),
        // Variances 1 and 4 of two images.
        case(
            "instance_norm(x = x, gamma = tensor<real, [2]>([1, 3]), beta = tensor<real, [2]>([0, 10]), \
             epsilon = real(0))",
            tensor(&[1, 2, 1, 2], &[5.0, 7.0, -1.0, 3.0]),
            tensor(&[1, 2, 1, 2], &[-1.0, 1.0, 7.0, 13.0]),
        ),
        case(
            "l2_norm(x = x, epsilon = real(0))",
            tensor(&[2, 1, 2, 1], &[3.0, 4.0, 0.0, -2.0]),
            tensor(&[2, 1, 2, 1], &[0.6, 0.8, 0.0, -1.0]),
        ),
        // 3 / (1 + 1·(9 + 16)/ 5)^1 and so on: both neighbours of two channels.
        case(
            "local_response_norm(x = x, size = int32(5), alpha = real(1), beta = real(1), k = real(1))",
            tensor(&[1, 2, 1, 1], &[3.0, 4.0]),
            tensor(&[1, 2, 1, 1], &[0.5, 4.0 / 6.0]),
        ),
        // Three channels, one neighbour on each side.
        case(
            "local_response_norm(x = x, size = int32(3), alpha = real(3), beta = real(0.5), k = real(0))",
            tensor(&[1, 3, 1, 1], &[3.0, 4.0, 12.0]),
            tensor(&[1, 3, 1, 1], &[3.0 / 5.0, 4.0 / 13.0, 12.0 / 160f64.sqrt()]),
        ),
        case(
            "local_response_norm(x = x, size = int32(2))",
            tensor(&[1, 3, 2], &[1.0, -7.0, 5.0, -6.0, -3.0, -5.0]),
            tensor(
                &[1, 3, 2],
                &[0.99996257, -6.98716545, 4.99531746, -5.99191284, -2.99898791, -4.99531746],
            ),
        ),
        case(
            "local_response_norm(x = x, size = int32(3), alpha = real(0.0001), beta = real(0.75), k = real(1))",
            tensor(&[1, 3, 2], &[1.0, -7.0, 5.0, -6.0, -3.0, -5.0]),
            tensor(
                &[1, 3, 2],
                &[0.99997497, -6.99143696, 4.99687672, -5.99460602, -2.99932504, -4.99687672],
            ),
        ),
    ]
}

fn activations() -> Vec<Case> {
    let x = || tensor(&[4], &[-2.0, -0.5, 0.25, 3.0]);
    vec![
        case(
            "clamped_relu(x = x, alpha = real(0.5), beta = real(1))",
            x(),
            tensor(&[4], &[-1.0, -0.25, 0.25, 1.0]),
        ),
        case(
            "clamped_relu(x = x, alpha = real(-2), beta = real(1.5))",
            x(),
            tensor(&[4], &[1.5, 1.0, 0.25, 1.5]),
        ),
        case(
            "scaled_tanh(x = x, alpha = real(2), beta = real(0.5))",
            x(),
            tensor(&[4], &[-1.523188312, -0.489837325, 0.248706014, 1.810296507]),
        ),
        case(
            "thresholded_relu(x = x, alpha = real(0.25))",
            x(),
            tensor(&[4], &[0.0, 0.0, 0.25, 3.0]),
        ),
        case("thresholded_relu(x = x)", x(), tensor(&[4], &[0.0, 0.0, 0.0, 3.0])),
        case(
            "prelu(x = x, alpha = tensor<real, [2]>([0.5, -1]))",
            tensor(&[1, 2, 2], &[-2.0, 3.0, -4.0, 0.0]),
            tensor(&[1, 2, 2], &[-1.0, 3.0, 4.0, 0.0]),
        ),
        // α·ln(1 + e^(βx)): ln 2 at 0, and βx itself far from it.
        case(
            "softplus_parametric(x = x, alpha = tensor<real, [2]>([2, 0.5]), beta = tensor<real, [2]>([1, -4]))",
            tensor(&[1, 2, 2], &[0.0, 1.0, 0.0, -2.0]),
            tensor(&[1, 2, 2], &[2.0 * 2f64.ln(), 2.626523375, 0.5 * 2f64.ln(), 4.000167703]),
        ),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    [pools(), norms(), activations()].into_iter().flatten().collect()
}
