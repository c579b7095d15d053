//! Programs that show what a device could get wrong.

use half::f16;
use mil::blob::BlobWriter;
use mil::{Builder, DType, Data, Literal, Program, TensorType, Weights};

fn program(builder: &Builder, outputs: &[mil::Tensor<'_>]) -> Program {
    Program::new(builder.finish(outputs).expect("a program"))
}

/// Sum of two inputs.
pub(crate) fn add() -> (Program, Weights) {
    let b = Builder::new("main");
    let ty = TensorType::fp16([1, 64, 1, 64]);
    let (x, y) = (b.input("x", ty.clone()), b.input("y", ty));
    (program(&b, &[(x + y).named("sum")]), Weights::new())
}

/// A product, whose operands do not commute.
pub(crate) fn product() -> (Program, Weights) {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([1, 1, 64, 32]));
    let w = b.input("w", TensorType::fp16([1, 1, 32, 96]));
    (program(&b, &[x.matmul(w, false, false).named("y")]), Weights::new())
}

/// Four inputs and two outputs of one type, declared in an order that is not alphabetical, and
/// every one used in a way of its own.
pub(crate) fn many() -> (Program, Weights) {
    let b = Builder::new("main");
    let ty = TensorType::fp16([1, 32, 1, 32]);
    let [z, a, m, c] = ["z", "a", "m", "c"].map(|name| b.input(name, ty.clone()));
    let first = (z - a).named("zz_difference");
    let second = (m * c + a).named("aa_mixture");
    (program(&b, &[first, second]), Weights::new())
}

/// Weights in two files, the first with two blobs, and a convolution.
pub(crate) fn blobs() -> (Program, Weights) {
    let numbers = |n: usize, step: usize| {
        Data::Fp16((0..n).map(|i| f16::from_f32(((i * step) % 13) as f32 / 8.0 - 0.75)).collect())
    };
    let (weight, scale) = (TensorType::fp16([48, 32, 1, 1]), TensorType::fp16([1, 48, 1, 1]));
    let mut file = BlobWriter::new();
    let at_scale = file.push(DType::Fp16, &numbers(48, 5)).expect("fp16");
    let at_weight = file.push(DType::Fp16, &numbers(48 * 32, 7)).expect("fp16");
    let mut other = BlobWriter::new();
    let at_bias = other.push(DType::Fp16, &numbers(48, 3)).expect("fp16");
    let (path, other_path) = ("@model_path/weights/weight.bin", "@model_path/weights/bias.bin");
    let weights = [(path, file), (other_path, other)]
        .map(|(path, file)| (path.to_owned(), file.finish()))
        .into();
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([1, 32, 1, 64]));
    let weight = b.constant(Literal::blob(weight, path, at_weight));
    let scale_by = b.constant(Literal::blob(scale.clone(), path, at_scale));
    let bias = b.constant(Literal::blob(scale, other_path, at_bias));
    let args = [("x", x), ("weight", weight)].map(|(k, v)| (k, mil::Arg::Value(v.id())));
    let y = b.op(mil::Op::Conv, args.to_vec())[0];
    (program(&b, &[(y * scale_by + bias).named("y")]), weights)
}

/// Ports in fp32 around a program in fp16, as the seed's dynamic kernels.
pub(crate) fn single() -> (Program, Weights) {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp32([1, 64, 1, 64]));
    let y = (x.cast(DType::Fp16).sigmoid()).cast(DType::Fp32);
    (program(&b, &[y.named("y")]), Weights::new())
}

/// x + 1: a state that can stay where it is.
pub(crate) fn counter() -> (Program, Weights) {
    let b = Builder::new("main");
    let x = b.input("state", TensorType::fp16([1, 32, 1, 32]));
    let one = b.scalar(DType::Fp16, 1.0);
    (program(&b, &[(x + one).named("next_state")]), Weights::new())
}
