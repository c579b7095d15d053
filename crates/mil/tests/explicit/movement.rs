//! Slices, joins, cuts, copies and edges.

use super::{Case, case, count, tensor};

pub(super) fn cases() -> Vec<Case> {
    [slices(), layouts(), joins(), edges()].into_iter().flatten().collect()
}

/// As NumPy's `x[begin:end:stride]`.
fn slices() -> Vec<Case> {
    let line =
        |operation, result: &[f64]| case(operation, count(&[7]), tensor(&[result.len()], result));
    vec![
        // −8 is before the first element: the slice goes on to that one.
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([6]), end = tensor<int32, [1]>([-8]), \
             stride = tensor<int32, [1]>([-2]))",
            &[6.0, 4.0, 2.0, 0.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([-2]), end = tensor<int32, [1]>([-99]), \
             stride = tensor<int32, [1]>([-2]))",
            &[5.0, 3.0, 1.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([99]), end = tensor<int32, [1]>([0]), \
             stride = tensor<int32, [1]>([-3]))",
            &[6.0, 3.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([2]), end = tensor<int32, [1]>([0]), \
             stride = tensor<int32, [1]>([-1]))",
            &[2.0, 1.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([3]), end = tensor<int32, [1]>([3]), \
             stride = tensor<int32, [1]>([-1]), begin_mask = tensor<bool, [1]>([true]), \
             end_mask = tensor<bool, [1]>([true]))",
            &[6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([3]), end = tensor<int32, [1]>([2]), \
             begin_mask = tensor<bool, [1]>([true]))",
            &[0.0, 1.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([5]), end = tensor<int32, [1]>([1]), \
             end_mask = tensor<bool, [1]>([true]))",
            &[5.0, 6.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([-3]), end = tensor<int32, [1]>([99]))",
            &[4.0, 5.0, 6.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([-99]), end = tensor<int32, [1]>([-5]))",
            &[0.0, 1.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([1]), end = tensor<int32, [1]>([5]), \
             stride = tensor<int32, [1]>([2]))",
            &[1.0, 3.0],
        ),
        line(
            "slice_by_index(x = x, begin = tensor<int32, [1]>([1]), end = tensor<int32, [1]>([6]), \
             stride = tensor<int32, [1]>([2]))",
            &[1.0, 3.0, 5.0],
        ),
        case(
            "slice_by_index(x = x, begin = tensor<int32, [2]>([-1, 2]), \
             end = tensor<int32, [2]>([0, 0]), stride = tensor<int32, [2]>([1, -1]), \
             squeeze_mask = tensor<bool, [2]>([true, false]))",
            count(&[2, 3]),
            tensor(&[2], &[5.0, 4.0]),
        ),
        case(
            "slice_by_size(x = x, begin = tensor<int32, [2]>([1, 1]), size = tensor<int32, [2]>([1, -1]))",
            count(&[3, 4]),
            tensor(&[1, 3], &[5.0, 6.0, 7.0]),
        ),
        case(
            "slice_by_size(x = x, begin = tensor<int32, [2]>([0, 2]), size = tensor<int32, [2]>([2, 1]))",
            count(&[3, 4]),
            tensor(&[2, 1], &[2.0, 6.0]),
        ),
    ]
}

fn layouts() -> Vec<Case> {
    // r[i, j, k] = x[j, k, i], and x holds 12j + 4k + i there.
    let turned: Vec<f64> = (0..4)
        .flat_map(|i| (0..2).flat_map(move |j| (0..3).map(move |k| f64::from(12 * j + 4 * k + i))))
        .collect();
    vec![
        case(
            "transpose(x = x, perm = tensor<int32, [3]>([2, 0, 1]))",
            count(&[2, 3, 4]),
            tensor(&[4, 2, 3], &turned),
        ),
        case(
            "transpose(x = x, perm = tensor<int32, [2]>([-1, 0]))",
            count(&[2, 3]),
            tensor(&[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        ),
        case(
            "reshape(x = x, shape = tensor<int32, [2]>([-1, 4]))",
            count(&[2, 3, 2]),
            count(&[3, 4]),
        ),
        case(
            "expand_dims(x = x, axes = tensor<int32, [2]>([0, -1]))",
            count(&[2, 3]),
            count(&[1, 2, 3, 1]),
        ),
        case(
            "squeeze(x = x, axes = tensor<int32, [1]>([-2]))",
            count(&[1, 2, 1, 3]),
            count(&[1, 2, 3]),
        ),
        case("squeeze(x = x)", count(&[1, 2, 1, 3]), count(&[2, 3])),
    ]
}

fn joins() -> Vec<Case> {
    let pair = |operation, shape: &[usize], result: &[f64]| Case {
        operation,
        inputs: vec![
            tensor(&[2, 2], &[0.0, 1.0, 2.0, 3.0]),
            tensor(&[2, 2], &[10.0, 11.0, 12.0, 13.0]),
        ],
        results: vec![("real", tensor(shape, result))],
    };
    let cut = |operation, parts: &[&[f64]]| Case {
        operation,
        inputs: vec![count(&[6])],
        results: parts.iter().map(|part| ("real", tensor(&[part.len()], part))).collect(),
    };
    vec![
        pair(
            "concat(axis = int32(0), interleave = bool(false), values = (y, x))",
            &[4, 2],
            &[10.0, 11.0, 12.0, 13.0, 0.0, 1.0, 2.0, 3.0],
        ),
        pair(
            "concat(axis = int32(-1), interleave = bool(false), values = (x, y))",
            &[2, 4],
            &[0.0, 1.0, 10.0, 11.0, 2.0, 3.0, 12.0, 13.0],
        ),
        pair(
            "concat(axis = int32(1), interleave = bool(true), values = (x, y))",
            &[2, 4],
            &[0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0],
        ),
        pair(
            "stack(values = (x, y), axis = int32(0))",
            &[2, 2, 2],
            &[0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0],
        ),
        pair(
            "stack(values = (x, y), axis = int32(1))",
            &[2, 2, 2],
            &[0.0, 1.0, 10.0, 11.0, 2.0, 3.0, 12.0, 13.0],
        ),
        pair(
            "stack(values = (x, y), axis = int32(-1))",
            &[2, 2, 2],
            &[0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0],
        ),
        cut(
            "split(x = x, num_splits = int32(3), axis = int32(0))",
            &[&[0.0, 1.0], &[2.0, 3.0], &[4.0, 5.0]],
        ),
        cut(
            "split(x = x, split_sizes = tensor<int32, [3]>([1, 3, 2]), axis = int32(-1))",
            &[&[0.0], &[1.0, 2.0, 3.0], &[4.0, 5.0]],
        ),
        case(
            "tile(x = x, reps = tensor<int32, [2]>([2, 3]))",
            tensor(&[2, 1], &[4.0, 5.0]),
            tensor(&[4, 3], &[4.0, 4.0, 4.0, 5.0, 5.0, 5.0, 4.0, 4.0, 4.0, 5.0, 5.0, 5.0]),
        ),
    ]
}

fn edges() -> Vec<Case> {
    let line = |operation, result: &[f64]| {
        case(operation, count(&[1, 4]), tensor(&[1, result.len()], result))
    };
    vec![
        line(
            "pad(x = x, pad = tensor<int32, [2]>([1, 2]), mode = string(\"reflect\"), \
             constant_val = real(0))",
            &[1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 1.0],
        ),
        line(
            "pad(x = x, pad = tensor<int32, [2]>([1, 2]), mode = string(\"replicate\"), \
             constant_val = real(0))",
            &[0.0, 0.0, 1.0, 2.0, 3.0, 3.0, 3.0],
        ),
        line(
            "pad(x = x, pad = tensor<int32, [2]>([1, 2]), mode = string(\"constant\"), \
             constant_val = real(9))",
            &[9.0, 0.0, 1.0, 2.0, 3.0, 9.0, 9.0],
        ),
        case(
            "pad(x = x, pad = tensor<int32, [4]>([1, 0, 0, 2]), mode = string(\"constant\"), \
             constant_val = real(0))",
            tensor(&[1, 2], &[4.0, 5.0]),
            tensor(&[2, 4], &[0.0, 0.0, 0.0, 0.0, 4.0, 5.0, 0.0, 0.0]),
        ),
    ]
}
