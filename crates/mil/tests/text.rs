//! MIL text: dialects, canonical form, round trips, and what is said about faults.

use expect_test::{Expect, expect, expect_file};
use mil::blob::BlobWriter;
use mil::interp::{Array, evaluate};
use mil::text::{check_text, parse};
use mil::{DType, Data, Program, Weights, verify};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/text")
}

fn texts() -> Vec<(String, String)> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "mil"));
    paths.sort();
    assert!(paths.len() >= 6, "texts are missing");
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

fn checked(name: &str, text: &str) -> Program {
    check_text(text).unwrap_or_else(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        panic!("{name}\n{}", faults.join("\n\n"))
    })
}

#[test]
fn every_dialect_is_read_and_printed_back() {
    for (name, text) in texts() {
        let program = checked(&name, &text);
        assert_eq!(verify(&program), vec![], "{name}");
        let crlf = text.replace('\n', "\r\n");
        assert_eq!(checked(&name, &crlf), program, "{name}: line ends mean nothing");
        let printed = program.to_string();
        assert_eq!(parse(&printed).as_ref(), Ok(&program), "{name}\n{printed}");
        assert_eq!(parse(&printed).unwrap().to_string(), printed, "{name}");
    }
}

#[test]
fn canonical_texts() {
    for (name, text) in texts() {
        let golden = folder().join(format!("{name}.canonical"));
        expect_file![golden].assert_eq(&checked(&name, &text).to_string());
    }
}

/// The convolution with baked weights and the product with weights packed behind the activations
/// are one linear layer, y[o, s] = Σ_i w[o, i]·x[i, s], whichever text is run.
#[test]
fn linear_layers_written_both_ways_compute_the_same() {
    const C: usize = 64;
    const O: usize = 128;
    const S: usize = 16;
    let x = |i: usize, s: usize| ((i * 7 + s * 3) % 11) as f64 / 8.0 - 0.5;
    let w = |o: usize, i: usize| ((o * 5 + i * 13) % 17) as f64 / 16.0 - 0.5;
    let program = |name: &str| {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        checked(name, &text).functions.swap_remove(0)
    };

    let values = (0..O * C).map(|k| half::f16::from_f64(w(k / C, k % C))).collect();
    let mut writer = BlobWriter::new();
    assert_eq!(writer.push(DType::Fp16, &Data::Fp16(values)), Some(64));
    let path = "@model_path/weights/weight.bin".to_owned();
    let weights = Weights::from([(path, writer.finish())]);
    let input = Array::from_fn(&[1, C, 1, S], |at| x(at[1], at[3]));
    let conv = evaluate(&program("conv_fp32_io.mil"), &[input], &weights).unwrap();

    let packed = Array::from_fn(&[1, C, 1, S + O], |at| match at[3].checked_sub(S) {
        Some(o) => w(o, at[1]),
        None => x(at[1], at[3]),
    });
    let matmul = evaluate(&program("packed_matmul.mil"), &[packed], &Weights::new()).unwrap();

    let expected =
        Array::from_fn(&[1, O, 1, S], |at| (0..C).map(|i| w(at[1], i) * x(i, at[3])).sum());
    // All values are small multiples of 2^-7, so sums are exact in any order.
    assert_eq!(conv, matmul);
    assert_eq!(conv, [expected]);
}

/// The statements of a function of `x` and `y`, both fp16 [2, 3], that returns `z`.
fn check(statements: &str, expected: Expect) {
    let text = format!(
        "program(1.3)\n{{\n    func main<ios18>(tensor<fp16, [2, 3]> x, tensor<fp16, [2, 3]> y) \
         {{\n{statements}\n    }} -> (z);\n}}\n"
    );
    check_whole(&text, expected);
}

fn check_whole(text: &str, expected: Expect) {
    let faults = check_text(text).expect_err("the program has a fault");
    let shown: Vec<_> = faults.iter().map(|fault| format!("{fault}\n")).collect();
    expected.assert_eq(&shown.join("\n"));
}

#[test]
fn faults_of_text() {
    check(
        r#"        tensor<fp16, [2, 2]> z = matmul(x = x, y = y, transpose_x = false, transpose_y = bool(true))[name = string("z")];"#,
        expect![[r#"
            line 4, column 69: literal `false` has no type
            4 |         tensor<fp16, [2, 2]> z = matmul(x = x, y = y, transpose_x = false, transpose_y = bool(true))[name = string("z")]…
              |                                                                     ^^^^^
            hint: write bool(false)
        "#]],
    );
    check(
        r#"        tensor<fp16, [3, 2]> z = reshape(x = x, shape = [3, 2])[name = string("z")];"#,
        expect![[r#"
            line 4, column 57: literal `[…]` has no type
            4 |         tensor<fp16, [3, 2]> z = reshape(x = x, shape = [3, 2])[name = string("z")];
              |                                                         ^
            hint: write tensor<int32, [n]>([…])
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = cumsum(x = x, axis = int32(0))[name = string("z")];"#,
        expect![[r#"
            line 4, column 34: operation `cumsum` exists in MIL but is not executed here
            4 |         tensor<fp16, [2, 3]> z = cumsum(x = x, axis = int32(0))[name = string("z")];
              |                                  ^^^^^^
            hint: write it with the operations that are
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = sigmiod(x = x)[name = string("z")];"#,
        expect![[r#"
        line 4, column 34: unknown operation `sigmiod`
        4 |         tensor<fp16, [2, 3]> z = sigmiod(x = x)[name = string("z")];
          |                                  ^^^^^^^
        hint: did you mean `sigmoid`?
    "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = softmax(x = x, axes = int32(0))[name = string("z")];"#,
        expect![[r#"
            line 4, column 49: softmax has no argument `axes`
            4 |         tensor<fp16, [2, 3]> z = softmax(x = x, axes = int32(0))[name = string("z")];
              |                                                 ^^^^
            hint: did you mean `axis`? softmax takes x, axis
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> hidden = relu(x = x)[name = string("hidden")];
        tensor<fp16, [2, 3]> z = add(x = hiden, y = later)[name = string("z")];
        tensor<fp16, [2, 3]> later = relu(x = x)[name = string("later")];"#,
        expect![[r#"
            line 5, column 42: `hiden` is not defined
            5 |         tensor<fp16, [2, 3]> z = add(x = hiden, y = later)[name = string("z")];
              |                                          ^^^^^
            hint: did you mean `hidden`?

            line 5, column 53: `later` is not defined
            5 |         tensor<fp16, [2, 3]> z = add(x = hiden, y = later)[name = string("z")];
              |                                                     ^^^^^
            hint: it is defined further down: values are defined before they are used
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> a = relu(x = x)[name = string("a")]
        tensor<fp16, [2, 3]> z = relu(x = b)[name = string("z")];"#,
        expect![[r#"
            line 4, column 65: expected `;`, found `tensor`
            4 |         tensor<fp16, [2, 3]> a = relu(x = x)[name = string("a")]
              |                                                                 ^

            line 5, column 43: `b` is not defined
            5 |         tensor<fp16, [2, 3]> z = relu(x = b)[name = string("z")];
              |                                           ^
        "#]],
    );
    check(
        r#"        tensor<fp16, [?, 3]> z = relu(x = x)[name = string("z")];"#,
        expect![[r#"
        line 4, column 23: extent `?` is not a fixed size
        4 |         tensor<fp16, [?, 3]> z = relu(x = x)[name = string("z")];
          |                       ^
        hint: symbolic and flexible extents do not lower to the engine: write a number
    "#]],
    );
    check(
        r#"        state<tensor<fp16, [2, 3]>> z = relu(x = x)[name = string("z")];"#,
        expect![[r#"
            line 4, column 9: state<…> types are not supported
            4 |         state<tensor<fp16, [2, 3]>> z = relu(x = x)[name = string("z")];
              |         ^^^^^
            hint: state does not lower to the engine: pass it in and return it
        "#]],
    );
    check(
        r#"        tensor<f16, [2, 3]> z = relu(x = x)[name = string("z")];"#,
        expect![[r#"
        line 4, column 16: unknown type `f16`
        4 |         tensor<f16, [2, 3]> z = relu(x = x)[name = string("z")];
          |                ^^^
        hint: did you mean `fp16`?
    "#]],
    );
    check(
        r#"        tensor<fp16, [99999999999999999999]> z = relu(x = x)[name = string("z")];"#,
        expect![[r#"
            line 4, column 23: extent 99999999999999999999 is too large
            4 |         tensor<fp16, [99999999999999999999]> z = relu(x = x)[name = string("z")];
              |                       ^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        r#"        tensor<fp16, [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]> z = relu(x = x)[name = string("z")];"#,
        expect![[r#"
            line 4, column 55: a type has at most 16 axes
            4 |         tensor<fp16, [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]> z = relu(x = x)[name = string("z")];
              |                                                       ^
        "#]],
    );
    check(
        r#"        int8 a = const()[name = string("a"), val = int8(128)];
        tensor<fp16, [2, 3]> z = mul(x = x, y = fp16(1e6))[name = string("z")];"#,
        expect![[r#"
            line 4, column 57: 128 is outside int8
            4 |         int8 a = const()[name = string("a"), val = int8(128)];
              |                                                         ^^^
            hint: it holds -128 to 127

            line 5, column 54: 1e6 is beyond the range of fp16
            5 |         tensor<fp16, [2, 3]> z = mul(x = x, y = fp16(1e6))[name = string("z")];
              |                                                      ^^^
            hint: write inf or -inf
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = mul(x = x, y = tensor<fp16, [2, 3]>([[1, 2, 3], [4, 5]]))[name = string("z")];"#,
        expect![[r#"
            line 4, column 82: the list has 2 elements, axis 1 of tensor<fp16, [2, 3]> has 3
            4 |         tensor<fp16, [2, 3]> z = mul(x = x, y = tensor<fp16, [2, 3]>([[1, 2, 3], [4, 5]]))[name = string("z")];
              |                                                                                  ^^^^^^
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = mul(x = x, y = tensor<fp16, [1000000000000, 1000000000000]>([1, 2]))[name = string("z")];"#,
        expect![[r#"
            line 4, column 94: tensor<fp16, [1000000000000, 1000000000000]> has 18446744073709551615 elements, the list has 2
            4 |         tensor<fp16, [2, 3]> z = mul(x = x, y = tensor<fp16, [1000000000000, 1000000000000]>([1, 2]))[name = string("z")…
              |                                                                                              ^^^^^^
        "#]],
    );
    check(
        r#"        string a = const()[name = string("a), val = string("valid")];
        tensor<fp16, [2, 3]> z = relu(x = x)[name = string("\q")];"#,
        expect![[r#"
            line 4, column 61: expected `)`, found `valid`
            4 |         string a = const()[name = string("a), val = string("valid")];
              |                                                             ^^^^^
            hint: a quote seems to be missing on this line
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = relu(x = x)[name = string("z")];
        tensor<fp16, [2, 3]> z = relu(x = y)[name = string("z")];"#,
        expect![[r#"
            line 5, column 9: `z` is defined twice
            5 |         tensor<fp16, [2, 3]> z = relu(x = y)[name = string("z")];
              |         ^^^^^^^^^^^^^^^^^^^^^^
            hint: names are unique in a function: rename one of them
        "#]],
    );
}

#[test]
fn faults_of_programs() {
    check(
        r#"        tensor<fp16, [3, 2]> z = add(x = x, y = y)[name = string("z")];"#,
        expect![[r#"
            line 4, column 9: `z` is declared tensor<fp16, [3, 2]>, but add gives tensor<fp16, [2, 3]>
            4 |         tensor<fp16, [3, 2]> z = add(x = x, y = y)[name = string("z")];
              |         ^^^^^^^^^^^^^^^^^^^^^^
            hint: declare it tensor<fp16, [2, 3]>
        "#]],
    );
    check(
        r#"        tensor<fp16, [3, 3]> a = matmul(x = x, y = y)[name = string("a")];
        tensor<fp16, [2, 3]> b = gelu(x = x)[name = string("b")];
        tensor<fp32, [2, 3]> z = softmax(x = x, axis = int32(2))[name = string("z")];"#,
        expect![[r#"
            line 4, column 52: matmul, argument `y`: inner extents differ: 2×3 by 2×3
            4 |         tensor<fp16, [3, 3]> a = matmul(x = x, y = y)[name = string("a")];
              |                                                    ^
            hint: check transpose_x and transpose_y

            line 5, column 34: gelu, argument `mode`: is missing
            5 |         tensor<fp16, [2, 3]> b = gelu(x = x)[name = string("b")];
              |                                  ^^^^
            hint: the compiler does not fill in this argument

            line 6, column 56: softmax, argument `axis`: axis 2 is outside a tensor of rank 2
            6 |         tensor<fp32, [2, 3]> z = softmax(x = x, axis = int32(2))[name = string("z")];
              |                                                        ^^^^^^^^
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = reshape(x = x, shape = y)[name = string("z")];"#,
        expect![[r#"
            line 4, column 57: reshape, argument `shape`: `y` is not a constant
            4 |         tensor<fp16, [2, 3]> z = reshape(x = x, shape = y)[name = string("z")];
              |                                                         ^
            hint: attributes are fixed when the program is compiled: use const()
        "#]],
    );
    check(
        r#"        tensor<fp16, [1, 3]> a, tensor<fp16, [1, 3]> z = split(x = x, axis = int32(1), num_splits = int32(3))[name = string("a")];"#,
        expect![[r#"
            line 4, column 58: split has 3 results, 2 are declared
            4 |         tensor<fp16, [1, 3]> a, tensor<fp16, [1, 3]> z = split(x = x, axis = int32(1), num_splits = int32(3))[name = str…
              |                                                          ^^^^^
        "#]],
    );
    check(
        r#"        tensor<fp16, [0, 3]> z = slice_by_size(x = x, begin = tensor<int32, [2]>([0, 0]), size = tensor<int32, [2]>([0, 3]))[name = string("z")];"#,
        expect![[r#"
            line 4, column 9: `z` has an extent of zero: tensor<fp16, [0, 3]>
            4 |         tensor<fp16, [0, 3]> z = slice_by_size(x = x, begin = tensor<int32, [2]>([0, 0]), size = tensor<int32, [2]>([0, …
              |         ^^^^^^^^^^^^^^^^^^^^^^
            hint: zero-sized tensors are not allowed

            line 4, column 98: slice_by_size, argument `size`: axis 0: 0 from 0 is outside an extent of 2
            4 | …e_by_size(x = x, begin = tensor<int32, [2]>([0, 0]), size = tensor<int32, [2]>([0, 3]))[name = string("z")];
              |                                                              ^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check(
        r#"        tensor<fp16, [4, 3]> z = concat(axis = int32(0), interleave = bool(false), values = x)[name = string("z")];"#,
        expect![[r#"
            line 4, column 93: concat, argument `values`: expected a tuple of values (a, b)
            4 |         tensor<fp16, [4, 3]> z = concat(axis = int32(0), interleave = bool(false), values = x)[name = string("z")];
              |                                                                                             ^
        "#]],
    );
    check(
        r#"        fp16 a = const()[name = string("a"), val = fp32(1)];
        string z = const()[name = string("z")];"#,
        expect![[r#"
            line 4, column 9: `a` is declared fp16, but const gives fp32
            4 |         fp16 a = const()[name = string("a"), val = fp32(1)];
              |         ^^^^^^
            hint: declare it fp32

            line 5, column 20: const, argument `val`: is missing
            5 |         string z = const()[name = string("z")];
              |                    ^^^^^
            hint: write const()[val = …]

            line 6, column 11: output `z` is text
            6 |     } -> (z);
              |           ^
            hint: return a tensor
        "#]],
    );
}

#[test]
fn faults_of_the_frame() {
    check_whole(
        r#""#,
        expect![[r#"
        line 1, column 1: expected `program`, the text ends
        1 | 
          | ^
        hint: a program starts with program(1.3)
    "#]],
    );
    check_whole(
        r#"program(1.3) { }"#,
        expect![[r#"
        line 1, column 1: the program has no function
        1 | program(1.3) { }
          | ^
        hint: write func main<ios18>(…) { … } -> (…);
    "#]],
    );
    check_whole(
        r#"program(1.3) { func main(fp16 x) { } -> (x); }"#,
        expect![[r#"
            line 1, column 25: expected `<`, found `(`
            1 | program(1.3) { func main(fp16 x) { } -> (x); }
              |                         ^
            hint: the operation set follows the name: func main<ios18>(…)
        "#]],
    );
    check_whole(
        r#"program(1.3) { func main<ios18>(tensor<fp16, [4]> x) { } -> (x); }"#,
        expect![[r#"
            line 1, column 62: output `x` is an input
            1 | program(1.3) { func main<ios18>(tensor<fp16, [4]> x) { } -> (x); }
              |                                                              ^
            hint: the engine's compiler crashes on it: return mul(x = x, y = fp16(1))
        "#]],
    );
    check_whole(
        r#"program(1.3)
{
func main<ios18>(tensor<fp16, [4]> x) {
 tensor<fp16, [4]> y = relu(x = x);"#,
        expect![[r#"
            line 4, column 36: expected `}`, the text ends
            4 |  tensor<fp16, [4]> y = relu(x = x);
              |                                    ^
            hint: function `main` is not closed
        "#]],
    );
    check_whole(
        r#"program(1.3) {
func f<ios18>(tensor<fp16, [4]> x) { tensor<fp16, [4]> y = relu(x = x); } -> (y);
func f<ios18>(tensor<fp16, [4]> x) { tensor<fp16, [4]> y = relu(x = x); } -> (y, y);
}"#,
        expect![[r#"
            line 3, column 6: function `f` is defined twice
            3 | func f<ios18>(tensor<fp16, [4]> x) { tensor<fp16, [4]> y = relu(x = x); } -> (y, y);
              |      ^
            hint: function names are unique in a program

            line 3, column 82: `y` is returned twice
            3 | func f<ios18>(tensor<fp16, [4]> x) { tensor<fp16, [4]> y = relu(x = x); } -> (y, y);
              |                                                                                  ^
            hint: return it once
        "#]],
    );
    check_whole(
        r#"program(1.3) { func main<ios18>(tensor<fp16, [4]> x) [FlexibleShapeInformation = tuple<string>("x")] { } -> (x); }"#,
        expect![[r#"
            line 1, column 54: attributes of functions are not supported
            1 | program(1.3) { func main<ios18>(tensor<fp16, [4]> x) [FlexibleShapeInformation = tuple<string>("x")] { } -> (x); }
              |                                                      ^
            hint: flexible shapes do not lower to the engine: give every parameter one shape
        "#]],
    );
    check_whole(
        r#"MIL"#,
        expect![[r#"
        line 1, column 1: expected `program`, found `MIL`
        1 | MIL
          | ^^^
        hint: a program starts with program(1.3)
    "#]],
    );
}

#[test]
fn words_in_other_capitals_are_recognised() {
    check(
        r#"        tensor<fp16, [2, 3]> z = ReLU(X = x)[name = string("z")];"#,
        expect![[r#"
            line 4, column 34: unknown operation `ReLU`
            4 |         tensor<fp16, [2, 3]> z = ReLU(X = x)[name = string("z")];
              |                                  ^^^^
            hint: did you mean `relu`?
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = relu(X = x)[Name = string("z")];"#,
        expect![[r#"
            line 4, column 39: relu has no argument `X`
            4 |         tensor<fp16, [2, 3]> z = relu(X = x)[Name = string("z")];
              |                                       ^
            hint: did you mean `x`? relu takes x
        "#]],
    );
    check(
        r#"        tensor<FP16, [2, 3]> z = relu(x = x)[name = string("z")];"#,
        expect![[r#"
            line 4, column 16: unknown type `FP16`
            4 |         tensor<FP16, [2, 3]> z = relu(x = x)[name = string("z")];
              |                ^^^^
            hint: did you mean `fp16`?
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = relu(x = x)[Name = string("z")];"#,
        expect![[r#"
            line 4, column 46: relu has no attribute `Name`
            4 |         tensor<fp16, [2, 3]> z = relu(x = x)[Name = string("z")];
              |                                              ^^^^
            hint: did you mean `name`? attributes are [name = string("…")], for const() also val = …
        "#]],
    );
    check(
        r#"        tensor<fp16, [2, 3]> z = add(x = x, y = Y)[name = string("z")];"#,
        expect![[r#"
            line 4, column 49: `Y` is not defined
            4 |         tensor<fp16, [2, 3]> z = add(x = x, y = Y)[name = string("z")];
              |                                                 ^
            hint: did you mean `y`?
        "#]],
    );
}

#[test]
fn the_printout_of_coremltools_is_recognised() {
    let text = "main[CoreML8](%x: (1, 64, 1, 64, fp16)(Tensor)) {\n  block0() {\n    %y: (1, 64, 1, \
                64, fp16)(Tensor) = relu(x=%x, name=\"y\")\n  } -> (%y)\n}\n";
    check_whole(
        text,
        expect![[r#"
            line 1, column 1: expected `program`, found `main`
            1 | main[CoreML8](%x: (1, 64, 1, 64, fp16)(Tensor)) {
              | ^^^^
            hint: a program starts with program(1.3); this is coremltools' printout: give model.mil of the compiled .mlmodelc
        "#]],
    );
    // As versions before 6 print it, and two functions in one printout.
    let older = text.replace("[CoreML8]", "");
    for text in [older.clone(), format!("{text}\n{older}")] {
        let said = check_text(&text).unwrap_err()[0].to_string();
        assert!(said.contains("this is coremltools' printout"), "{said}");
    }
    let said = check_text("main() { block0() { } }").unwrap_err()[0].to_string();
    assert!(!said.contains("coremltools"), "{said}");
}
