//! Resampling, einsum, ordering, and tensors of numbers. Values of resampling are the grids of
//! coremltools' documentation.

use super::{Case, Tensor, case, count, tensor};

fn pair() -> Tensor {
    tensor(&[1, 1, 2], &[0.0, 1.0])
}

fn resized(operation: &'static str, to: &[f64]) -> Case {
    case(operation, pair(), tensor(&[1, 1, to.len()], to))
}

fn resampling() -> Vec<Case> {
    vec![
        resized(
            "resize_bilinear(x = x, target_size_height = int32(1), target_size_width = int32(5))",
            &[0.0, 0.4, 0.8, 1.0, 1.0],
        ),
        resized(
            "resize_bilinear(x = x, target_size_height = int32(1), target_size_width = int32(5), \
             sampling_mode = string(\"STRICT_ALIGN_CORNERS\"))",
            &[0.0, 0.25, 0.5, 0.75, 1.0],
        ),
        resized(
            "resize_bilinear(x = x, target_size_height = int32(1), target_size_width = int32(5), \
             sampling_mode = string(\"OFFSET_CORNERS\"))",
            &[0.1, 0.3, 0.5, 0.7, 0.9],
        ),
        resized(
            "resize_bilinear(x = x, target_size_height = int32(1), target_size_width = int32(5), \
             sampling_mode = string(\"UNALIGN_CORNERS\"))",
            &[0.0, 0.1, 0.5, 0.9, 1.0],
        ),
        resized(
            "resize_bilinear(x = x, target_size_height = int32(1), target_size_width = int32(6), \
             sampling_mode = string(\"ALIGN_CORNERS\"))",
            &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
        ),
        // A single point: in the middle, or at the start.
        resized("resize_bilinear(x = x, sampling_mode = string(\"ALIGN_CORNERS\"))", &[0.5]),
        resized("resize_bilinear(x = x, sampling_mode = string(\"STRICT_ALIGN_CORNERS\"))", &[0.0]),
        resized(
            "upsample_bilinear(x = x, scale_factor_height = int32(1), scale_factor_width = int32(3), \
             align_corners = bool(true))",
            &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
        ),
        resized(
            "upsample_bilinear(x = x, scale_factor_height = fp32(1), scale_factor_width = fp32(2.6), \
             align_corners = bool(false))",
            &[0.0, 0.1, 0.5, 0.9, 1.0],
        ),
        resized(
            "upsample_bilinear(x = x, scale_factor_width = int32(2))",
            &[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0],
        ),
        // Over three elements: points at 0, ½, 1, 1½ and 2, and at ¼, ¾, 1¼ and 1¾.
        case(
            "resize_bilinear(x = x, target_size_height = int32(1), target_size_width = int32(5), \
             sampling_mode = string(\"STRICT_ALIGN_CORNERS\"))",
            tensor(&[1, 1, 3], &[0.0, 1.0, 4.0]),
            tensor(&[1, 1, 5], &[0.0, 0.5, 1.0, 2.5, 4.0]),
        ),
        case(
            "resize_bilinear(x = x, target_size_height = int32(1), target_size_width = int32(4), \
             sampling_mode = string(\"OFFSET_CORNERS\"))",
            tensor(&[1, 1, 3], &[0.0, 1.0, 4.0]),
            tensor(&[1, 1, 4], &[0.25, 0.75, 1.75, 3.25]),
        ),
        // Both axes: corners and the middles between them.
        case(
            "resize_bilinear(x = x, target_size_height = int32(3), target_size_width = int32(3), \
             sampling_mode = string(\"ALIGN_CORNERS\"))",
            tensor(&[1, 2, 2], &[0.0, 2.0, 4.0, 10.0]),
            tensor(&[1, 3, 3], &[0.0, 1.0, 2.0, 2.0, 4.0, 6.0, 4.0, 7.0, 10.0]),
        ),
        case(
            "resize(x = x, shape = tensor<int32, [3]>([9, 0, 4]), resized_dims = uint32(2), \
             sampling_mode = string(\"ALIGN_CORNERS\"), interpolation_mode = string(\"LINEAR\"))",
            tensor(&[1, 2, 2], &[0.0, 3.0, 3.0, 0.0]),
            tensor(&[1, 2, 4], &[0.0, 1.0, 2.0, 3.0, 3.0, 2.0, 1.0, 0.0]),
        ),
        case(
            "resize(x = x, shape = tensor<int32, [2]>([1, 4]), resized_dims = uint32(2), \
             interpolation_mode = string(\"NEAREST_NEIGHBOR\"))",
            tensor(&[1, 1, 2], &[3.0, 5.0]),
            tensor(&[1, 1, 4], &[3.0, 3.0, 5.0, 5.0]),
        ),
        case(
            "upsample_nearest_neighbor(x = x, scale_factor_height = int32(1), scale_factor_width = int32(2))",
            tensor(&[1, 1, 1, 3], &[1.5, 2.5, 3.5]),
            tensor(&[1, 1, 1, 6], &[1.5, 1.5, 2.5, 2.5, 3.5, 3.5]),
        ),
        case(
            "upsample_nearest_neighbor(x = x, scale_factor_height = fp32(1.5))",
            tensor(&[1, 2, 1], &[4.0, 8.0]),
            // Elements 0, 2/3 and 4/3.
            tensor(&[1, 3, 1], &[4.0, 4.0, 8.0]),
        ),
        case(
            "resize_nearest_neighbor(x = x, target_size_height = int32(2), target_size_width = int32(3))",
            tensor(&[1, 1, 2, 1], &[0.375, 6.125]),
            tensor(&[1, 1, 2, 3], &[0.375, 0.375, 0.375, 6.125, 6.125, 6.125]),
        ),
        case(
            "resize_nearest_neighbor(x = x, target_size_height = int32(1), target_size_width = int32(3))",
            count(&[1, 1, 7]),
            // Elements 0, 7/3 and 14/3.
            tensor(&[1, 1, 3], &[0.0, 2.0, 4.0]),
        ),
    ]
}

fn product(operation: &'static str, x: Tensor, y: Tensor, result: Tensor) -> Case {
    Case { operation, inputs: vec![x, y], results: vec![("real", result)] }
}

fn einsums() -> Vec<Case> {
    vec![
        // For each h a product of matrices [C, W] and [W, U].
        product(
            "einsum(values = (x, y), equation = string(\"nchw,nwhu->nchu\"))",
            tensor(&[1, 2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
            tensor(&[1, 2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]),
            // y[w, h]: h = 0 has 1 and 100, h = 1 has 10 and 1000.
            tensor(&[1, 2, 2, 1], &[201.0, 4030.0, 605.0, 8070.0]),
        ),
        product(
            "einsum(values = (x, y), equation = string(\"chw,whr->chr\"))",
            tensor(&[1, 1, 2], &[2.0, 3.0]),
            tensor(&[2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]),
            // The one h of x stands for both of y.
            tensor(&[1, 2, 1], &[302.0, 3020.0]),
        ),
        product(
            "einsum(values = (x, y), equation = string(\"ab,ac->cb\"))",
            tensor(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            tensor(&[2, 1], &[10.0, 100.0]),
            tensor(&[1, 2], &[310.0, 420.0]),
        ),
        // What only one input has and the result has not is summed.
        product(
            "einsum(values = (x, y), equation = string(\"ij,k->ki\"))",
            tensor(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            tensor(&[2], &[1.0, -1.0]),
            tensor(&[2, 2], &[3.0, 7.0, -3.0, -7.0]),
        ),
        product(
            "einsum(values = (x, y), equation = string(\"i,i->\"))",
            tensor(&[3], &[1.0, 2.0, 3.0]),
            tensor(&[3], &[4.0, 5.0, 6.0]),
            tensor(&[], &[32.0]),
        ),
    ]
}

fn ordered(
    operation: &'static str,
    x: Tensor,
    values: Tensor,
    places: (&'static str, Tensor),
) -> Case {
    Case { operation, inputs: vec![x], results: vec![("real", values), places] }
}

fn orders() -> Vec<Case> {
    let x = || tensor(&[2, 4], &[1.0, 7.0, -2.0, 7.0, 0.0, -1.0, 3.0, 2.0]);
    vec![
        ordered(
            "topk(x = x, k = int32(3), axis = int32(-1))",
            x(),
            tensor(&[2, 3], &[7.0, 7.0, 1.0, 3.0, 2.0, 0.0]),
            ("int32", tensor(&[2, 3], &[1.0, 3.0, 0.0, 2.0, 3.0, 0.0])),
        ),
        ordered(
            "topk(x = x, k = int32(1), axis = int32(0), ascending = bool(true), sort = bool(true), \
             return_indices = bool(true), output_indices_dtype = string(\"uint16\"))",
            x(),
            tensor(&[1, 4], &[0.0, -1.0, -2.0, 2.0]),
            ("uint16", tensor(&[1, 4], &[1.0, 1.0, 0.0, 1.0])),
        ),
        case(
            "topk(x = x, k = int32(-1), return_indices = bool(false))",
            x(),
            tensor(&[2, 4], &[7.0, 7.0, 1.0, -2.0, 3.0, 2.0, 0.0, -1.0]),
        ),
    ]
}

fn numbers() -> Vec<Case> {
    let without = |operation, dtype, result| Case {
        operation,
        inputs: vec![],
        results: vec![(dtype, result)],
    };
    vec![
        without(
            "fill(shape = tensor<int32, [2]>([2, 2]), value = real(1.5))",
            "real",
            tensor(&[2, 2], &[1.5; 4]),
        ),
        without(
            "fill(shape = tensor<int32, [1]>([3]), value = int32(-4))",
            "int32",
            tensor(&[3], &[-4.0; 3]),
        ),
        case(
            "fill_like(ref_tensor = x, value = real(0.5))",
            count(&[2, 3]),
            tensor(&[2, 3], &[0.5; 6]),
        ),
        without(
            "range_1d(start = real(1), end = real(2), step = real(0.25))",
            "real",
            tensor(&[4], &[1.0, 1.25, 1.5, 1.75]),
        ),
        without(
            "range_1d(start = int32(5), end = int32(-2), step = int32(-3))",
            "int32",
            tensor(&[3], &[5.0, 2.0, -1.0]),
        ),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    [resampling(), einsums(), orders(), numbers()].into_iter().flatten().collect()
}
