//! Operations at the limits of their rules: the type that is inferred just inside, and what is said
//! just outside. Shapes are worked out by hand.

use mil::{Kind, check_text, resolve};

fn text(parameters: &str, operation: &str, declared: &str) -> String {
    let name = if operation.ends_with(']') { "" } else { "[name = string(\"r\")]" };
    format!(
        "program(1.3) {{ func main<ios18>({parameters}) {{\n {declared} r = {operation}{name};\n}} -> (r); }}"
    )
}

/// Checks each operation of functions with `parameters`: an expectation that begins with a type is what
/// the operation gives, any other is part of what is said against it.
#[track_caller]
fn check(parameters: &str, cases: &[(&str, &str)]) {
    for (operation, expected) in cases {
        let (declared, expected) = match expected.split_once('<') {
            Some(("tensor", _)) => ("bool", format!("gives {expected}")),
            _ => ("fp16", (*expected).to_owned()),
        };
        let faults = check_text(&text(parameters, operation, declared)).expect_err(operation);
        let said = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(said.contains(&expected), "expected {expected:?} of\n{operation}\n{said}");
    }
}

const XY: &str = "tensor<fp16, [1, 4, 6, 6]> x, tensor<fp16, [2, 3]> y, tensor<int32, [2]> i";

#[test]
fn attributes() {
    check(
        XY,
        &[
            ("softmax(x = y, axis = tensor<int32, [2]>([0, 1]))", "expected one integer, got 2"),
            ("softmax(x = y, axis = int32(2))", "axis 2 is outside a tensor of rank 2"),
            ("softmax(x = y, axis = int32(-3))", "axis -3 is outside a tensor of rank 2"),
            ("softmax(x = y, axis = int32(-2))", "tensor<fp16, [2, 3]>"),
            (
                "slice_by_index(x = y, begin = tensor<int32, [2]>([0, 0]), end = tensor<int32, [2]>([1, 1]), \
                 begin_mask = tensor<bool, [1]>([true]))",
                "expected 2 truth values, got 1",
            ),
            (
                "reduce_sum(x = y, keep_dims = tensor<bool, [2]>([true, true]))",
                "expected one truth value",
            ),
            ("rsqrt(x = y, epsilon = tensor<fp16, [2]>([1, 2]))", "expected one float"),
            ("cast(x = y, dtype = tensor<string, [2]>([\"fp16\", \"fp32\"]))", "expected one text"),
            ("cast(x = y, dtype = string(\"string\"))", "cannot cast fp16 to `string`"),
            ("cast(x = y, dtype = string(\"fp23\"))", "cannot cast fp16 to `fp23`"),
            ("cast(x = y, dtype = string(\"int32\"))", "tensor<int32, [2, 3]>"),
        ],
    );
    let long = |n: usize| {
        let zeros = vec!["0"; n].join(", ");
        format!("transpose(x = y, perm = tensor<int32, [{n}]>([{zeros}]))")
    };
    check(XY, &[(&long(4097), "expected at most 4096 integers, got 4097")]);
    check(XY, &[(&long(4096), "argument `perm`: [0, 0, 0")]);
}

/// Extents that offsets could not be computed with.
#[test]
fn extents() {
    check("tensor<fp16, [9223372036854775808]> x", &[("relu(x = x)", "is too large")]);
    let longest = "tensor<fp16, [9223372036854775807]>";
    check(&format!("{longest} x"), &[("relu(x = x)", longest)]);
}

#[test]
fn shapes() {
    check(
        XY,
        &[
            ("reshape(x = y, shape = tensor<int32, [2]>([3, -1]))", "tensor<fp16, [3, 2]>"),
            ("reshape(x = y, shape = tensor<int32, [1]>([6]))", "tensor<fp16, [6]>"),
            ("reshape(x = y, shape = tensor<int32, [1]>([7]))", "do not fill [7]"),
            ("reshape(x = y, shape = tensor<int32, [2]>([4, -1]))", "do not fill [4, -1]"),
            ("reshape(x = y, shape = tensor<int32, [2]>([0, -1]))", "do not fill [0, -1]"),
            ("reshape(x = y, shape = tensor<int32, [2]>([-2, -3]))", "do not fill [-2, -3]"),
            ("reshape(x = y, shape = tensor<int32, [3]>([6, -1, -1]))", "do not fill [6, -1, -1]"),
            ("transpose(x = y, perm = tensor<int32, [1]>([0]))", "[0] is not an order of 2 axes"),
            ("transpose(x = y, perm = tensor<int32, [2]>([0, 0]))", "is not an order"),
            ("transpose(x = y, perm = tensor<int32, [3]>([0, 1, 0]))", "is not an order"),
            ("transpose(x = y, perm = tensor<int32, [2]>([-1, 0]))", "tensor<fp16, [3, 2]>"),
            (
                "expand_dims(x = i, axes = tensor<int32, [8]>([0, 1, 2, 3, 4, 5, 6, -1]))",
                "tensor<int32, [1, 1, 1, 1, 1, 1, 1, 2, 1]>",
            ),
            (
                "expand_dims(x = i, axes = tensor<int32, [9]>([0, 1, 2, 3, 4, 5, 6, 7, 8]))",
                "9 new axes are too many",
            ),
            ("squeeze(x = x)", "tensor<fp16, [4, 6, 6]>"),
            ("squeeze(x = x, axes = tensor<int32, [1]>([1]))", "axis 1 has extent 4"),
            ("flatten2d(x = x, axis = int32(4))", "tensor<fp16, [144, 1]>"),
            ("flatten2d(x = x, axis = int32(0))", "tensor<fp16, [1, 144]>"),
            ("flatten2d(x = x, axis = int32(-1))", "tensor<fp16, [24, 6]>"),
            ("flatten2d(x = x, axis = int32(-4))", "tensor<fp16, [1, 144]>"),
            ("flatten2d(x = x, axis = int32(-5))", "axis -5 is outside"),
            ("flatten2d(x = x, axis = int32(5))", "axis 5 is outside"),
        ],
    );
}

#[test]
fn parts() {
    let by_size = |begin: &str, size: &str| {
        let ints = |list: &str| format!("tensor<int32, [{}]>([{list}])", list.split(',').count());
        format!("slice_by_size(x = y, begin = {}, size = {})", ints(begin), ints(size))
    };
    for (begin, size, expected) in [
        ("0, -1", "2, -1", "tensor<fp16, [2, 1]>"),
        ("0, 1", "2, 2", "tensor<fp16, [2, 2]>"),
        ("0, -3", "2, 3", "tensor<fp16, [2, 3]>"),
        ("1, 0", "-1, -1", "tensor<fp16, [1, 3]>"),
        ("0, 2", "2, 2", "axis 1: 2 from 2 is outside an extent of 3"),
        ("0, 0", "0, 1", "axis 0: 0 from 0"),
        ("0, 0", "2, -2", "axis 1: -2 from 0"),
        ("0, 3", "2, -1", "axis 1: 0 from 3"),
        ("-3, 0", "1, 1", "axis 0: 1 from -1"),
        ("0", "1, 1", "begin and size need 2 entries"),
        ("0, 0", "1", "begin and size need 2 entries"),
    ] {
        check(XY, &[(&by_size(begin, size), expected)]);
    }
    // Begin, end and stride of the last axis, of extent 3, and masks.
    let by_index = |[begin, end, stride]: [i64; 3], rest: &str| {
        format!(
            "slice_by_index(x = y, begin = tensor<int32, [2]>([0, {begin}]), \
             end = tensor<int32, [2]>([2, {end}]), stride = tensor<int32, [2]>([1, {stride}]){rest})"
        )
    };
    let mask = |name: &str| format!(", {name} = tensor<bool, [2]>([false, true])");
    let empty = "axis 1: the slice";
    for (part, masked, expected) in [
        ([0, 3, 1], "", "tensor<fp16, [2, 3]>"),
        ([0, 9, 1], "", "tensor<fp16, [2, 3]>"),
        ([-9, 1, 1], "", "tensor<fp16, [2, 1]>"),
        ([1, -1, 1], "", "tensor<fp16, [2, 1]>"),
        ([0, 3, 2], "", "tensor<fp16, [2, 2]>"),
        ([1, 3, 2], "", "tensor<fp16, [2, 1]>"),
        ([3, 3, 1], "", empty),
        ([2, 2, 1], "", empty),
        ([-1, -4, -1], "", "tensor<fp16, [2, 3]>"),
        ([9, 0, -1], "", "tensor<fp16, [2, 2]>"),
        ([2, -4, -2], "", "tensor<fp16, [2, 2]>"),
        ([0, 1, -1], "", empty),
        ([1, 1, -1], "", empty),
        ([2, 0, 1], "begin_mask", empty),
        ([2, 1, 1], "begin_mask", "tensor<fp16, [2, 1]>"),
        ([0, 1, -1], "begin_mask", "tensor<fp16, [2, 1]>"),
        ([1, 0, 1], "end_mask", "tensor<fp16, [2, 2]>"),
        ([1, 9, -1], "end_mask", "tensor<fp16, [2, 2]>"),
        ([2, 0, 1], "squeeze_mask", "tensor<fp16, [2]>"),
        ([-3, 0, -1], "squeeze_mask", "tensor<fp16, [2]>"),
        ([3, 9, 1], "squeeze_mask", empty),
        ([-4, 9, 1], "squeeze_mask", empty),
        ([0, 3, 0], "", "axis 1: stride 0"),
    ] {
        let rest = if masked.is_empty() { String::new() } else { mask(masked) };
        check(XY, &[(&by_index(part, &rest), expected)]);
    }
    let zeros = "tensor<int32, [2]>([0, 0])";
    let two = "tensor<int32, [2]>([2, 2])";
    let one = "tensor<int32, [1]>([1])";
    for (begin, end, stride) in [(one, two, two), (zeros, one, two), (zeros, two, one)] {
        let operation =
            format!("slice_by_index(x = y, begin = {begin}, end = {end}, stride = {stride})");
        check(XY, &[(&operation, "begin, end and stride need 2 entries")]);
    }
    check(
        "tensor<fp16, [4096]> x, tensor<fp16, [4097]> y",
        &[
            ("split(x = x, num_splits = int32(4096), axis = int32(0))", "has 4096 results"),
            ("split(x = y, num_splits = int32(4097), axis = int32(0))", "4097 pieces are too many"),
            ("split(x = x, num_splits = int32(0), axis = int32(0))", "not divisible by 0"),
            ("split(x = x, num_splits = int32(3), axis = int32(0))", "4096 is not divisible by 3"),
            ("split(x = x, num_splits = int32(1), axis = int32(0))", "tensor<fp16, [4096]>"),
            (
                "split(x = x, split_sizes = tensor<int32, [2]>([0, 4096]), axis = int32(0))",
                "must be positive",
            ),
            (
                "split(x = x, split_sizes = tensor<int32, [2]>([1, 4096]), axis = int32(0))",
                "do not add up to 4096",
            ),
            (
                "split(x = x, split_sizes = tensor<int32, [2]>([1, 4095]), axis = int32(0))",
                "has 2 results",
            ),
            ("split(x = x, axis = int32(0))", "is missing"),
        ],
    );
}

#[test]
fn joins_and_padding() {
    check(
        "tensor<fp16, [2, 3]> x, tensor<fp16, [2, 5]> y, tensor<fp16, [4, 3]> z, tensor<fp32, [2, 3]> w, \
         tensor<fp16, [2, 3, 1]> u",
        &[
            (
                "concat(values = (x, y, x), axis = int32(1), interleave = bool(false))",
                "tensor<fp16, [2, 11]>",
            ),
            ("concat(values = (x, y), axis = int32(0), interleave = bool(false))", "does not join"),
            ("concat(values = (x, y), axis = int32(1), interleave = bool(true))", "does not join"),
            (
                "concat(values = (x, x), axis = int32(1), interleave = bool(true))",
                "tensor<fp16, [2, 6]>",
            ),
            (
                "concat(values = (x, z), axis = int32(-2), interleave = bool(false))",
                "tensor<fp16, [6, 3]>",
            ),
            (
                "concat(values = (x, w), axis = int32(0), interleave = bool(false))",
                "does not match",
            ),
            (
                "concat(values = (x, u), axis = int32(0), interleave = bool(false))",
                "differ in rank",
            ),
            ("stack(values = (x, x), axis = int32(2))", "tensor<fp16, [2, 3, 2]>"),
            ("stack(values = (x, x), axis = int32(3))", "axis 3 is outside"),
            ("stack(values = (x, y), axis = int32(0))", "all shapes must be equal"),
            ("tile(x = x, reps = tensor<int32, [2]>([1, 4]))", "tensor<fp16, [2, 12]>"),
            ("tile(x = x, reps = tensor<int32, [1]>([2]))", "expected 2 positive integers"),
            ("tile(x = x, reps = tensor<int32, [2]>([1, 0]))", "expected 2 positive integers"),
            (
                "pad(x = x, pad = tensor<int32, [2]>([1, 2]), mode = string(\"constant\"))",
                "tensor<fp16, [2, 6]>",
            ),
            (
                "pad(x = x, pad = tensor<int32, [4]>([1, 0, 0, 2]), mode = string(\"constant\"))",
                "tensor<fp16, [3, 5]>",
            ),
            (
                "pad(x = x, pad = tensor<int32, [3]>([1, 0, 0]), mode = string(\"constant\"))",
                "does not fit rank 2",
            ),
            (
                "pad(x = x, pad = tensor<int32, [6]>([0, 0, 0, 0, 0, 0]), mode = string(\"constant\"))",
                "does not fit rank 2",
            ),
            (
                "pad(x = x, pad = tensor<int32, [2]>([-1, 0]), mode = string(\"constant\"))",
                "does not fit rank 2",
            ),
            (
                "pad(x = x, pad = tensor<int32, [2]>([2, 2]), mode = string(\"reflect\"))",
                "tensor<fp16, [2, 7]>",
            ),
            (
                "pad(x = x, pad = tensor<int32, [2]>([0, 3]), mode = string(\"reflect\"))",
                "cannot mirror 3 of 3",
            ),
            (
                "pad(x = x, pad = tensor<int32, [2]>([3, 0]), mode = string(\"replicate\"))",
                "tensor<fp16, [2, 6]>",
            ),
        ],
    );
}

#[test]
fn products() {
    check(
        "tensor<fp16, [1, 4, 6, 6]> x, tensor<fp16, [2, 3]> y, tensor<fp16, [3]> v, fp16 s, \
         tensor<fp16, [2, 3, 4]> p, tensor<fp16, [3, 4, 5]> q, tensor<fp16, [1, 4, 5]> o",
        &[
            ("matmul(x = y, y = y)", "inner extents differ: 2×3 by 2×3"),
            ("matmul(x = y, y = y, transpose_y = bool(true))", "tensor<fp16, [2, 2]>"),
            ("matmul(x = y, y = y, transpose_x = bool(true))", "tensor<fp16, [3, 3]>"),
            ("matmul(x = v, y = y)", "at least two axes"),
            ("matmul(x = y, y = v)", "at least two axes"),
            ("matmul(x = p, y = q)", "do not broadcast"),
            ("matmul(x = p, y = o)", "tensor<fp16, [2, 3, 5]>"),
            ("linear(x = y, weight = tensor<fp16, [1, 3]>([[1, 2, 3]]))", "tensor<fp16, [2, 1]>"),
            ("linear(x = v, weight = tensor<fp16, [1, 3]>([[1, 2, 3]]))", "tensor<fp16, [1]>"),
            ("linear(x = y, weight = tensor<fp16, [1, 2]>([[1, 2]]))", "does not fit x"),
            ("linear(x = y, weight = tensor<fp16, [3]>([1, 2, 3]))", "does not fit x"),
            ("linear(x = s, weight = tensor<fp16, [1, 1]>([[1]]))", "does not fit x"),
            (
                "linear(x = y, weight = tensor<fp16, [1, 3]>([[1, 2, 3]]), bias = tensor<fp16, [2]>([1, 2]))",
                "expected tensor<fp16, [1]>",
            ),
        ],
    );
}

const CUSTOM: &str = "pad_type = string(\"custom\"), pad = tensor<int32, [4]>";

#[test]
fn convolutions() {
    let parameters = "tensor<fp16, [1, 4, 6, 6]> x, tensor<fp16, [1, 4, 6]> line, tensor<fp16, [4, 6]> flat, \
        tensor<fp16, [2, 4, 1, 1]> w, tensor<fp16, [3, 1, 1, 1]> thirds, tensor<fp16, [3, 2, 1, 1]> odd, \
        tensor<fp16, [2, 3, 1, 1]> few, tensor<fp16, [2, 4, 7, 1]> tall, tensor<fp16, [2, 4, 6, 3]> high, \
        tensor<fp16, [4, 2, 3, 3]> t, tensor<fp16, [2, 4]> cell, tensor<fp16, [2, 4, 3]> taps";
    check(
        parameters,
        &[
            ("conv(x = x, weight = w)", "tensor<fp16, [1, 2, 6, 6]>"),
            ("conv(x = x, weight = thirds, groups = int32(3))", "do not fit"),
            ("conv(x = x, weight = odd, groups = int32(2))", "do not fit"),
            ("conv(x = x, weight = few)", "do not fit"),
            ("conv(x = x, weight = w, groups = int32(0))", "expected a positive integer, got 0"),
            ("conv(x = x, weight = tall)", "reaches over 7 but the input has 6"),
            ("conv(x = x, weight = high)", "tensor<fp16, [1, 2, 1, 4]>"),
            (
                "conv(x = x, weight = high, dilations = tensor<int32, [2]>([1, 2]))",
                "tensor<fp16, [1, 2, 1, 2]>",
            ),
            (
                "conv(x = x, weight = high, dilations = tensor<int32, [2]>([2, 1]))",
                "reaches over 11 but the input has 6",
            ),
            (
                "conv(x = x, weight = high, strides = tensor<int32, [2]>([1, 2]))",
                "tensor<fp16, [1, 2, 1, 2]>",
            ),
            (
                "conv(x = x, weight = tall, pad_type = string(\"same\"), strides = tensor<int32, [2]>([4, 4]))",
                "tensor<fp16, [1, 2, 2, 2]>",
            ),
            (
                "conv(x = x, weight = w, strides = tensor<int32, [2]>([0, 1]))",
                "expected 2 positive",
            ),
            ("conv(x = x, weight = w, strides = tensor<int32, [1]>([1]))", "expected 2 positive"),
            (
                "conv(x = x, weight = tall, pad_type = string(\"same_lower\"), strides = tensor<int32, [2]>([4, 4]))",
                "tensor<fp16, [1, 2, 2, 2]>",
            ),
            ("conv(x = line, weight = taps)", "tensor<fp16, [1, 2, 4]>"),
            ("conv(x = line, weight = w)", "need the same rank"),
            ("conv(x = flat, weight = cell)", "need the same rank"),
            ("conv_transpose(x = x, weight = t)", "tensor<fp16, [1, 2, 8, 8]>"),
            (
                "conv_transpose(x = x, weight = t, strides = tensor<int32, [2]>([2, 3]), groups = int32(2))",
                "tensor<fp16, [1, 4, 13, 18]>",
            ),
            (
                "conv_transpose(x = x, weight = t, dilations = tensor<int32, [2]>([2, 1]))",
                "tensor<fp16, [1, 2, 10, 8]>",
            ),
            ("conv_transpose(x = x, weight = t, groups = int32(3))", "in 3 groups"),
            ("conv_transpose(x = x, weight = w)", "does not fit x"),
            (
                "conv_transpose(x = x, weight = t, output_shape = tensor<int32, [4]>([1, 2, 8, 7]))",
                "tensor<fp16, [1, 2, 8, 7]>",
            ),
            (
                "conv_transpose(x = x, weight = t, output_shape = tensor<int32, [2]>([8, 9]))",
                "extent 9 cannot be reached from 8",
            ),
            (
                "conv_transpose(x = x, weight = t, output_shape = tensor<int32, [2]>([8, 0]))",
                "extent 0 cannot be reached from 8",
            ),
        ],
    );
    for (operation, pads, expected) in [
        ("conv(x = x, weight = tall", "1, 0, 0, 0", "tensor<fp16, [1, 2, 1, 6]>"),
        ("conv(x = x, weight = tall", "0, 3, 2, 1", "tensor<fp16, [1, 2, 3, 9]>"),
        ("conv(x = x, weight = tall", "0, -1, 2, 1", "expected 4 integers"),
        ("conv_transpose(x = x, weight = t", "1, 1, 0, 2", "tensor<fp16, [1, 2, 6, 6]>"),
        ("conv_transpose(x = x, weight = t", "4, 4, 0, 0", "8 is cut from an extent of 8"),
        ("conv_transpose(x = x, weight = t", "4, 3, 0, 0", "tensor<fp16, [1, 2, 1, 8]>"),
        (
            "conv_transpose(x = x, weight = t, output_shape = tensor<int32, [2]>([8, 9])",
            "0, 0, 1, 2",
            "extent 9 cannot be reached from 5",
        ),
        (
            "conv_transpose(x = x, weight = t, output_shape = tensor<int32, [2]>([8, 7])",
            "0, 0, 1, 2",
            "tensor<fp16, [1, 2, 8, 7]>",
        ),
    ] {
        check(parameters, &[(&format!("{operation}, {CUSTOM}([{pads}]))"), expected)]);
    }
    check(
        parameters,
        &[(
            "conv(x = x, weight = w, pad_type = string(\"custom\"), pad = tensor<int32, [2]>([0, 0]))",
            "expected 4 integers",
        )],
    );
}

#[test]
fn attention() {
    let attend = "scaled_dot_product_attention(query = q, key = k, value = v)";
    let right = ["1, 2, 3, 4", "1, 2, 5, 4", "1, 2, 5, 6"];
    let with = |[q, k, v]: [&str; 3], operation: &str, expected: &str| {
        let parameters =
            format!("tensor<fp16, [{q}]> q, tensor<fp16, [{k}]> k, tensor<fp16, [{v}]> v");
        check(&parameters, &[(operation, expected)]);
    };
    with(right, attend, "tensor<fp16, [1, 2, 3, 6]>");
    for (place, shape) in [
        (0, "2, 2, 3, 4"), // other batches
        (2, "2, 2, 5, 6"),
        (0, "1, 2, 3, 7"), // another width
        (2, "1, 2, 6, 6"), // another length
        (1, "2, 5, 4"),    // another rank
        (2, "2, 5, 6"),
    ] {
        let mut shapes = right;
        shapes[place] = shape;
        with(shapes, attend, "do not fit");
    }
    with(["3, 4", "5, 4", "5, 6"], attend, "do not fit");
    // With more batches.
    let deep = ["1, 1, 2, 3, 4", "1, 1, 2, 5, 4", "1, 1, 2, 5, 6"];
    with(deep, attend, "tensor<fp16, [1, 1, 2, 3, 6]>");
    for (place, shape) in [(0, "1, 1, 7, 3, 4"), (2, "1, 1, 7, 5, 6"), (2, "1, 1, 2, 7, 6")] {
        let mut shapes = deep;
        shapes[place] = shape;
        with(shapes, attend, "do not fit");
    }
    let row = "[1, 2, 3, 4, 5]";
    let mask = format!("value = v, attn_mask = tensor<fp16, [3, 5]>([{row}, {row}, {row}])");
    with(deep, &attend.replace("value = v", &mask), "tensor<fp16, [1, 1, 2, 3, 6]>");
    for (mask, expected) in [
        ("tensor<fp16, [5]>([1, 2, 3, 4, 5])", "tensor<fp16, [1, 2, 3, 6]>"),
        ("tensor<bool, [5]>([true, true, false, true, true])", "tensor<fp16, [1, 2, 3, 6]>"),
        ("tensor<fp16, [3]>([1, 2, 3])", "does not broadcast"),
        ("tensor<fp16, [2, 1, 1, 1]>([[[[1]]], [[[2]]]])", "does not broadcast"),
        ("tensor<fp32, [5]>([1, 2, 3, 4, 5])", "does not match"),
    ] {
        let operation = attend.replace("value = v", &format!("value = v, attn_mask = {mask}"));
        with(right, &operation, expected);
    }
}

#[test]
fn images() {
    let pool = |name: &str, x: &str, kernel: &str, rest: &str| {
        let n = kernel.split(',').count();
        format!("{name}(x = {x}, kernel_sizes = tensor<int32, [{n}]>([{kernel}]), {rest})")
    };
    let parameters = "tensor<fp16, [1, 1, 6]> x, tensor<fp16, [1, 1, 40]> wide, tensor<fp16, [1, 1, 2, 2, 2]> cube, \
        tensor<fp16, [1, 1, 2, 2, 2, 2]> more, tensor<fp16, [2, 3]> flat";
    let valid = "pad_type = string(\"valid\")";
    let same = "pad_type = string(\"same\")";
    let ceil = |stride: usize, pad: &str| {
        format!(
            "strides = tensor<int32, [1]>([{stride}]), pad_type = string(\"custom\"), \
             pad = tensor<int32, [2]>([{pad}]), ceil_mode = bool(true)"
        )
    };
    for (name, x, kernel, rest, expected) in [
        ("max_pool", "x", "6", valid.to_owned(), "tensor<fp16, [1, 1, 1]>"),
        ("max_pool", "x", "7", valid.to_owned(), "a window of 7 does not fit into 6"),
        ("max_pool", "x", "64", same.to_owned(), "tensor<fp16, [1, 1, 6]>"),
        ("max_pool", "wide", "81", same.to_owned(), "tensor<fp16, [1, 1, 40]>"),
        ("max_pool", "wide", "82", same.to_owned(), "is mostly padding"),
        ("max_pool", "cube", "1, 1, 1", valid.to_owned(), "tensor<fp16, [1, 1, 2, 2, 2]>"),
        ("l2_pool", "cube", "1, 1, 1", valid.to_owned(), "expected 3 to 4 axes"),
        ("avg_pool", "more", "1, 1, 1, 1", valid.to_owned(), "expected 3 to 5 axes"),
        ("l2_pool", "x", "2", valid.to_owned(), "tensor<fp16, [1, 1, 5]>"),
        // Windows begin at 0, 2 and 4.
        ("max_pool", "x", "3", ceil(2, "0, 0"), "tensor<fp16, [1, 1, 3]>"),
        // At 0, 2, 4 and 6, the last element; at 0 and 6; a window at 7 would see nothing.
        ("max_pool", "x", "2", ceil(2, "1, 1"), "tensor<fp16, [1, 1, 4]>"),
        ("max_pool", "x", "2", ceil(6, "1, 1"), "tensor<fp16, [1, 1, 2]>"),
        ("max_pool", "x", "2", ceil(7, "1, 1"), "tensor<fp16, [1, 1, 1]>"),
        ("max_pool", "x", "1", ceil(5, "0, 0"), "tensor<fp16, [1, 1, 2]>"),
        ("max_pool", "x", "1", ceil(6, "0, 0"), "the last window is outside"),
        ("max_pool", "x", "2", ceil(1, "2, 2"), "holds a whole window of 2"),
        ("max_pool", "x", "3", ceil(1, "2, 2"), "tensor<fp16, [1, 1, 8]>"),
        ("max_pool", "x", "3", ceil(1, "2, 1"), "is not the same on both sides"),
    ] {
        check(parameters, &[(&pool(name, x, kernel, &rest), expected)]);
    }
    check(
        "tensor<fp16, [1, 2, 3, 4, 5]> x",
        &[
            (
                "upsample_bilinear(x = x, scale_factor_height = int32(2), scale_factor_width = int32(3))",
                "tensor<fp16, [1, 2, 3, 8, 15]>",
            ),
            (
                "crop(x = x, crop_height = tensor<int32, [2]>([1, 1]), crop_width = tensor<int32, [2]>([2, 0]))",
                "tensor<fp16, [1, 2, 3, 2, 3]>",
            ),
        ],
    );
    check(
        XY,
        &[
            (
                "upsample_nearest_neighbor(x = x, scale_factor_height = int32(0))",
                "expected a positive",
            ),
            (
                "upsample_nearest_neighbor(x = x, scale_factor_height = int32(1), scale_factor_width = fp32(1.5))",
                "tensor<fp16, [1, 4, 6, 9]>",
            ),
            (
                "upsample_bilinear(x = x, scale_factor_height = fp16(0.25), scale_factor_width = int32(3))",
                "tensor<fp16, [1, 4, 1, 18]>",
            ),
            (
                "upsample_bilinear(x = x, scale_factor_height = tensor<int32, [2]>([1, 2]))",
                "expected a positive number",
            ),
            (
                "upsample_bilinear(x = x, scale_factor_height = tensor<fp32, [2]>([1, 2]))",
                "expected a positive number",
            ),
            (
                "upsample_bilinear(x = x, scale_factor_height = tensor<fp16, [2]>([1, 2]))",
                "expected a positive number",
            ),
            ("upsample_bilinear(x = y)", "expected at least 3 axes"),
            (
                "resize_bilinear(x = x, target_size_height = int32(0), target_size_width = int32(1))",
                "expected a positive integer, got 0",
            ),
            (
                "resize_nearest_neighbor(x = x, target_size_height = int32(1), target_size_width = int32(7))",
                "tensor<fp16, [1, 4, 1, 7]>",
            ),
            ("crop(x = y, crop_height = i, crop_width = i)", "expected at least 3 axes"),
            (
                "crop(x = x, crop_height = tensor<int32, [2]>([3, 2]), crop_width = tensor<int32, [2]>([0, 0]))",
                "tensor<fp16, [1, 4, 1, 6]>",
            ),
            (
                "crop(x = x, crop_height = tensor<int32, [2]>([-1, 2]), crop_width = tensor<int32, [2]>([0, 0]))",
                "does not cut an extent of 6",
            ),
            (
                "crop(x = x, crop_height = tensor<int32, [2]>([2, -1]), crop_width = tensor<int32, [2]>([0, 0]))",
                "does not cut an extent of 6",
            ),
            ("pixel_shuffle(x = x, upscale_factor = int32(2))", "tensor<fp16, [1, 1, 12, 12]>"),
            ("pixel_unshuffle(x = x, downscale_factor = int32(3))", "tensor<fp16, [1, 36, 2, 2]>"),
            ("space_to_depth(x = x, block_size = int32(6))", "tensor<fp16, [1, 144, 1, 1]>"),
            ("depth_to_space(x = x, block_size = int32(1048577))", "expected a positive integer"),
            (
                "space_to_batch(x = x, block_shape = tensor<int32, [2]>([2, 1]), \
                 paddings = tensor<int32, [2, 2]>([[1, 3], [0, 1]]))",
                "tensor<fp16, [2, 4, 5, 7]>",
            ),
            (
                "space_to_batch(x = x, block_shape = tensor<int32, [2]>([0, 1]), \
                 paddings = tensor<int32, [2, 2]>([[0, 0], [0, 0]]))",
                "expected two positive integers",
            ),
            (
                "space_to_batch(x = x, block_shape = tensor<int32, [2]>([1, 1]), \
                 paddings = tensor<int32, [2, 2]>([[0, 0], [0, -1]]))",
                "expected four integers",
            ),
            (
                "batch_to_space(x = x, block_shape = tensor<int32, [2]>([1, 1]), \
                 crops = tensor<int32, [2, 2]>([[3, 2], [0, 1]]))",
                "tensor<fp16, [1, 4, 1, 5]>",
            ),
        ],
    );
}

/// Only what is executed is a resampling.
#[test]
fn resizing() {
    let parameters = "tensor<fp16, [1, 4, 6, 6]> x, tensor<int32, [1, 4, 6, 6]> i, tensor<bool, [6, 6]> b, tensor<fp16, [6, 6]> y";
    let mode = |mode: &str| format!("interpolation_mode = string(\"{mode}\")");
    let resize = |x: &str, shape: &str, dims: i64, rest: &str| {
        let n = shape.split(',').count();
        format!(
            "resize(x = {x}, shape = tensor<int32, [{n}]>([{shape}]), resized_dims = uint32({dims}), {rest})"
        )
    };
    for (x, shape, dims, expected) in [
        ("b", "3, 3", 2, "expected fp16, fp32 or int32, got bool"),
        ("x", "3, 3", 3, "3 of [3, 3]"),
        ("y", "1, 3, 3", 2, "2 of [1, 3, 3]"),
        ("x", "3, -3", 2, "has a negative extent"),
        ("x", "3, 0", 2, "tensor<fp16, [1, 4, 3, 6]>"),
        ("x", "9, 3", 1, "tensor<fp16, [1, 4, 6, 3]>"),
        ("x", "9, 3", 0, "tensor<fp16, [1, 4, 6, 6]>"),
        ("x", "2, 4, 3, 6", 4, "tensor<fp16, [2, 4, 3, 6]>"),
    ] {
        check(parameters, &[(&resize(x, shape, dims, &mode("LINEAR")), expected)]);
    }
    let executed = |x: &str, ty: &str, shape: &str, rest: &str| {
        let dims = shape.split(',').count() as i64;
        let text = text(parameters, &resize(x, shape, dims, rest), ty);
        let f =
            check_text(&text).unwrap_or_else(|f| panic!("{}\n{text}", f[0])).functions.remove(0);
        match resolve(&f, &f.ops[0]).unwrap().kind {
            Kind::Resample(_) => true,
            Kind::NotExecuted => false,
            other => panic!("{other:?}"),
        }
    };
    let unaligned = ", sampling_mode = string(\"UNALIGN_CORNERS\")";
    let [linear, nearest] = ["LINEAR", "NEAREST_NEIGHBOR"].map(mode);
    assert!(executed("x", "tensor<fp16, [1, 4, 3, 3]>", "3, 3", &linear));
    assert!(executed("x", "tensor<fp16, [1, 4, 3, 3]>", "3, 3", &nearest));
    assert!(executed("x", "tensor<fp16, [1, 4, 3, 3]>", "3, 3", &(linear.clone() + unaligned)));
    assert!(!executed("x", "tensor<fp16, [1, 4, 3, 3]>", "3, 3", &(nearest + unaligned)));
    assert!(!executed("x", "tensor<fp16, [1, 2, 3, 3]>", "2, 3, 3", &linear));
    assert!(!executed("i", "tensor<int32, [1, 4, 3, 3]>", "3, 3", &linear));
    assert!(!executed("y", "tensor<fp16, [3, 3]>", "3, 3", &linear));
}

#[test]
fn norms_and_scales() {
    check(
        "tensor<fp16, [1, 2, 1, 1, 1]> five, tensor<fp16, [1, 2, 1, 1, 1, 1]> six, tensor<fp16, [1, 2, 3]> x, \
         tensor<int8, [2, 3]> q, tensor<fp16, [2, 3]> y",
        &[
            ("instance_norm(x = five)", "expected 3 to 4 axes"),
            ("instance_norm(x = x)", "tensor<fp16, [1, 2, 3]>"),
            (
                "batch_norm(x = five, mean = tensor<fp16, [2]>([1, 2]), variance = tensor<fp16, [2]>([1, 2]))",
                "tensor<fp16, [1, 2, 1, 1, 1]>",
            ),
            (
                "batch_norm(x = six, mean = tensor<fp16, [2]>([1, 2]), variance = tensor<fp16, [2]>([1, 2]))",
                "expected 3 to 5 axes",
            ),
            ("l2_norm(x = six)", "tensor<fp16, [1, 2, 1, 1, 1, 1]>"),
            ("local_response_norm(x = x, size = int32(4096))", "tensor<fp16, [1, 2, 3]>"),
            ("local_response_norm(x = x, size = int32(4097))", "expected 1 to 4096"),
            (
                "layer_norm(x = y, axes = tensor<int32, [1]>([1]), gamma = tensor<fp16, [2]>([1, 2]))",
                "expected shape [3]",
            ),
            (
                "layer_norm(x = y, axes = tensor<int32, [1]>([1]), beta = tensor<fp16, [3]>([1, 2, 3]))",
                "tensor<fp16, [2, 3]>",
            ),
            (
                "quantize(input = y, scale = fp16(1), output_dtype = string(\"int32\"))",
                "cannot quantize",
            ),
            (
                "quantize(input = y, scale = fp16(1), output_dtype = string(\"uint8\"))",
                "tensor<uint8, [2, 3]>",
            ),
            (
                "quantize(input = y, scale = fp16(1), zero_point = int8(1), output_dtype = string(\"uint8\"))",
                "does not fit scale",
            ),
            ("dequantize(input = y, scale = fp16(1))", "expected integers, got fp16"),
            ("dequantize(input = q, scale = fp32(1))", "tensor<fp32, [2, 3]>"),
            (
                "dequantize(input = q, scale = tensor<fp16, [2]>([1, 2]), axis = int32(1))",
                "does not fit axis 1",
            ),
            (
                "dequantize(input = q, scale = tensor<fp16, [2]>([1, 2]), axis = int32(0))",
                "tensor<fp16, [2, 3]>",
            ),
            (
                "dequantize(input = q, scale = tensor<fp16, [2]>([1, 2]), zero_point = int8(1), axis = int32(0))",
                "does not fit scale",
            ),
            (
                "dequantize(input = q, scale = tensor<fp16, [1, 2]>([[1, 2]]), axis = int32(0))",
                "expected a scalar or a vector",
            ),
        ],
    );
}

#[test]
fn numbers() {
    check(
        "tensor<fp16, [2, 3]> y, tensor<fp16, [1, 3]> row, tensor<bool, [2]> b, fp16 s, tensor<int32, [2, 3]> i",
        &[
            ("fill(shape = tensor<int32, [2]>([2, 1]), value = fp16(1))", "tensor<fp16, [2, 1]>"),
            (
                "fill(shape = tensor<int32, [1]>([2]), value = tensor<fp16, [2]>([1, 2]))",
                "expected one number",
            ),
            ("range_1d(start = int32(0), end = int32(7), step = int32(3))", "tensor<int32, [3]>"),
            ("range_1d(start = int32(0), end = int32(6), step = int32(3))", "tensor<int32, [2]>"),
            ("range_1d(start = int32(6), end = int32(0), step = int32(-3))", "tensor<int32, [2]>"),
            ("range_1d(start = int32(1), end = int32(1), step = int32(1))", "0 elements"),
            (
                "range_1d(start = int32(0), end = int32(16777216), step = int32(1))",
                "tensor<int32, [16777216]>",
            ),
            (
                "range_1d(start = int32(0), end = int32(16777217), step = int32(1))",
                "16777217 elements",
            ),
            ("range_1d(start = int32(0), end = int32(2), step = fp16(1))", "one element type"),
            (
                "range_1d(start = bool(true), end = int32(2), step = int32(1))",
                "expected one number",
            ),
            ("topk(x = b)", "expected numbers with an axis"),
            ("topk(x = s)", "expected numbers with an axis"),
            ("topk(x = y, k = int32(0))", "0 of 3 elements"),
            ("topk(x = y, k = int32(3), return_indices = bool(false))", "tensor<fp16, [2, 3]>"),
            (
                "topk(x = y, k = int32(-1), axis = int32(0), return_indices = bool(false))",
                "tensor<fp16, [2, 3]>",
            ),
            ("topk(x = y, return_indices = bool(false))", "tensor<fp16, [2, 1]>"),
            ("topk(x = y)", "has 2 results"),
            ("einsum(values = (y, row), equation = string(\"ab,ab->ab\"))", "tensor<fp16, [2, 3]>"),
            (
                "einsum(values = (y, row), equation = string(\"ab,ab->b\"))",
                "one letter stands for 2",
            ),
            ("einsum(values = (y, y), equation = string(\"ab,ba->ab\"))", "one letter stands for"),
            ("einsum(values = (y, y), equation = string(\"ab,cb->ca\"))", "tensor<fp16, [2, 2]>"),
            ("einsum(values = (i, i), equation = string(\"ab,ab->ab\"))", "expected fp16 or fp32"),
            (
                "einsum(values = (y, y), equation = string(\"abcdefgh,ijklmnop->a\"))",
                "8 letters for",
            ),
            (
                "einsum(values = (y, y), equation = string(\"abcdefghi,jklmnopq->a\"))",
                "more than 16 letters",
            ),
        ],
    );
}

#[test]
fn operations_that_are_only_checked() {
    let affine = |x: &str, matrix: &str, height: usize, width: usize| {
        format!(
            "affine(x = {x}, transform_matrix = {matrix}, output_height = int32({height}), \
             output_width = int32({width}), sampling_mode = string(\"bilinear\"), \
             padding_mode = string(\"constant\"), padding_value = fp16(0), \
             coordinates_mode = string(\"normalized_minus_one_to_one\"), align_corners = bool(true))"
        )
    };
    let parameters = "tensor<fp16, [2, 4, 6, 6]> x, tensor<fp16, [2, 4, 6]> y, tensor<fp16, [1, 6]> one, \
        tensor<fp16, [2, 6]> two, tensor<fp16, [3, 6]> three, tensor<fp16, [2, 5]> short, tensor<fp16, [2, 6, 1]> deep";
    for (x, matrix, height, expected) in [
        ("x", "one", 3, "tensor<fp16, [2, 4, 3, 7]>"),
        ("x", "two", 1, "tensor<fp16, [2, 4, 1, 7]>"),
        ("x", "three", 3, "does not fit x"),
        ("x", "short", 3, "does not fit x"),
        ("x", "deep", 3, "does not fit x"),
        ("y", "two", 3, "does not fit x"),
        ("x", "one", 0, "expected a positive integer"),
    ] {
        check(parameters, &[(&affine(x, matrix, height, 7), expected)]);
    }
    let suppress = |early: bool, boxes: &str, scores: &str, expected: &str| {
        let threshold = if early { "score_threshold = fp16(0.5), " } else { "" };
        let operation = format!(
            "non_maximum_suppression(boxes = b, scores = s, iou_threshold = fp16(0.5), {threshold}\
             max_boxes = int32(3), per_class_suppression = bool(false))"
        );
        let parameters = format!("tensor<fp16, [{boxes}]> b, tensor<fp16, [{scores}]> s");
        check(&parameters, &[(&operation, expected)]);
    };
    suppress(true, "1, 5, 4", "1, 5, 2", "has 4 results");
    suppress(false, "1, 4, 5", "1, 2, 5", "has 3 results");
    for (boxes, scores) in [
        ("2, 5, 4", "1, 5, 2"),
        ("1, 5, 3", "1, 5, 2"),
        ("1, 6, 4", "1, 5, 2"),
        ("1, 5, 4, 1", "1, 5, 2"),
        ("1, 5, 4", "1, 5, 2, 1"),
    ] {
        suppress(true, boxes, scores, "do not fit");
    }
    suppress(false, "1, 5, 4", "1, 5, 2", "do not fit");
}

#[test]
fn compressed_constants() {
    let affine = |data: &str, zero: &str, scale: &str, axis: i64| {
        format!(
            "constexpr_affine_dequantize(quantized_data = {data}, zero_point = {zero}, scale = {scale}, \
             axis = int32({axis}))"
        )
    };
    let data = "tensor<int8, [2, 3]>([[1, 2, 3], [4, 5, 6]])";
    for (data, zero, scale, axis, expected) in [
        (data, "int8(0)", "fp16(1)", 0, "tensor<fp16, [2, 3]>"),
        (data, "fp32(0.5)", "fp32(1)", 0, "tensor<fp32, [2, 3]>"),
        (data, "uint8(0)", "fp16(1)", 0, "with zero point"),
        ("tensor<fp16, [2]>([1, 2])", "fp16(0)", "fp16(1)", 0, "with zero point"),
        (data, "int8(0)", "int32(1)", 0, "expected fp16, fp32, got int32"),
        (data, "int8(0)", "tensor<fp16, [3]>([1, 2, 3])", 1, "tensor<fp16, [2, 3]>"),
        (data, "int8(0)", "tensor<fp16, [3]>([1, 2, 3])", 0, "does not fit axis 0"),
        (data, "tensor<int8, [3]>([1, 2, 3])", "fp16(1)", 0, "does not fit axis 0"),
        (data, "tensor<int8, [1, 2]>([[1, 2]])", "fp16(1)", 0, "does not fit axis 0"),
    ] {
        check(XY, &[(&affine(data, zero, scale, axis), expected)]);
    }
    let blockwise = |data: &str, rest: &str| {
        format!("constexpr_blockwise_shift_scale(data = {data}, scale = {rest})")
    };
    let scale = "tensor<fp16, [1, 3]>([[1, 2, 3]])";
    for (data, rest, expected) in [
        (data, scale.to_owned(), "tensor<fp16, [2, 3]>"),
        (data, "tensor<fp16, [3]>([1, 2, 3])".to_owned(), "does not cut [2, 3] into blocks"),
        ("int8(1)", "fp16(1)".to_owned(), "does not cut [] into blocks"),
        (
            data,
            format!("{scale}, offset = tensor<int8, [1, 3]>([[1, 2, 3]])"),
            "tensor<fp16, [2, 3]>",
        ),
        (
            data,
            format!("{scale}, offset = tensor<fp16, [1, 3]>([[1, 2, 3]])"),
            "tensor<fp16, [2, 3]>",
        ),
        (
            data,
            format!("{scale}, offset = tensor<uint8, [1, 3]>([[1, 2, 3]])"),
            "does not fit data",
        ),
        (data, format!("{scale}, offset = tensor<int8, [1, 1]>([[1]])"), "does not fit data"),
    ] {
        check(XY, &[(&blockwise(data, &rest), expected)]);
    }
    let indices = "indices = tensor<uint1, [2]>([0, 1])";
    let pairs = "lut = tensor<fp16, [1, 2, 2]>([[[1, 2], [3, 4]]])";
    let single = "lut = tensor<fp16, [1, 2, 1]>([[[1], [2]]])";
    let flat = "lut = tensor<fp16, [1, 2]>([[1, 2]])";
    let packed = "indices = tensor<uint8, [1]>([1]), lut = tensor<fp16, [2]>([1, 2]), \
                  shape = tensor<uint32, [1]>";
    check(
        XY,
        &[
            (&format!("constexpr_lut_to_dense({indices}, {single})"), "tensor<fp16, [2]>"),
            (
                &format!("constexpr_lut_to_dense({indices}, {pairs}, vector_axis = int32(0))"),
                "tensor<fp16, [4]>",
            ),
            (
                &format!("constexpr_lut_to_dense({indices}, {pairs}, vector_axis = int32(1))"),
                "axis 1 is outside",
            ),
            (&format!("constexpr_lut_to_dense({indices}, {flat})"), "does not fit indices"),
            (&format!("constexpr_lut_to_dense()[{packed}([8])]"), "tensor<fp16, [8]>"),
            (&format!("constexpr_lut_to_dense()[{packed}([1])]"), "tensor<fp16, [1]>"),
            (
                &format!("constexpr_lut_to_dense()[{packed}([9])]"),
                "9 elements of 1 bits take 2 bytes",
            ),
            (
                &format!("constexpr_lut_to_dense()[{packed}([0])]"),
                "expected positive extents, got [0]",
            ),
            (
                "constexpr_sparse_to_dense()[mask = tensor<uint8, [1]>([12]), \
                 nonzero_data = tensor<fp16, [2]>([7, 8]), shape = tensor<uint32, [1]>([5])]",
                "tensor<fp16, [5]>",
            ),
            (
                "constexpr_sparse_to_dense(mask = tensor<uint1, [3]>([1, 0, 1]), \
                 nonzero_data = tensor<fp16, [2]>([7, 8]))",
                "tensor<fp16, [3]>",
            ),
            (
                "constexpr_sparse_to_dense(mask = tensor<uint1, [3]>([1, 1, 1]), \
                 nonzero_data = tensor<fp16, [2]>([7, 8]))",
                "3 bits are set for 2 elements",
            ),
        ],
    );
}
