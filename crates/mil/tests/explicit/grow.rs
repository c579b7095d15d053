//! Steps of random programs over [2, 3, 4] tensors, for the tests of gradients and of the emulator.

#![allow(unreachable_pub, reason = "read by several tests")]

use mil::{Arg, Literal, Op, Tensor, TensorType};

/// How many steps there are.
pub const STEPS: u8 = 26;

type Attributes<'a> = &'a [(&'static str, Literal)];

/// An operation on named tensors with attributes; its first result.
pub fn op<'b>(
    op: Op,
    inputs: &[(&'static str, Tensor<'b>)],
    attributes: Attributes<'_>,
) -> Tensor<'b> {
    let b = inputs[0].1.builder();
    let mut args: Vec<_> = inputs.iter().map(|(key, x)| (*key, Arg::Value(x.id()))).collect();
    args.extend(attributes.iter().map(|(k, l)| (*k, Arg::Value(b.constant(l.clone()).id()))));
    b.op(op, args)[0]
}

/// The product that an equation says.
pub fn einsum<'b>(x: Tensor<'b>, y: Tensor<'b>, equation: &str) -> Tensor<'b> {
    let b = x.builder();
    let equation = Arg::Value(b.constant(Literal::string(equation)).id());
    b.op(Op::Einsum, vec![("values", Arg::Values(vec![x.id(), y.id()])), ("equation", equation)])[0]
}

/// A vector of three, in the element type of x.
fn three<'b>(x: Tensor<'b>, values: [f64; 3]) -> Tensor<'b> {
    x.builder().constant(Literal::floats(TensorType::new(x.dtype(), [3]), &values))
}

/// Step `choice` of x and y.
pub fn grow<'b>(x: Tensor<'b>, y: Tensor<'b>, choice: u8) -> Tensor<'b> {
    let (int, ints, text) = (Literal::int, Literal::ints, Literal::string);
    let number = |value: f64| Literal::float(x.dtype(), value);
    let on =
        |which: Op, x: Tensor<'b>, attributes: Attributes<'_>| op(which, &[("x", x)], attributes);
    let window = |n: i64| [("kernel_sizes", ints(&[n])), ("pad_type", text("same"))];
    let image = |x: Tensor<'b>, shape: [usize; 4]| x.reshape(&shape);
    let back = |x: Tensor<'b>| x.reshape(&[2, 3, 4]);
    let half = x.narrow(2, 1, 2);
    let size = [("target_size_height", int(3)), ("target_size_width", int(4))];
    match choice % STEPS {
        0 => on(Op::Identity, x, &[]) * y,
        1 => on(Op::Reverse, x, &[("axes", ints(&[0, 2]))]) + y * 0.5,
        2 => on(Op::MaxPool, x, &window(3)) + y,
        3 => {
            let exclude = ("exclude_padding_from_average", Literal::bool(true));
            on(Op::AvgPool, x * y, &[&window(2)[..], &[exclude]].concat())
        }
        4 => on(Op::AvgPool, x, &window(3)) - y,
        5 => on(Op::L2Pool, x + 3.0, &window(3)) * 0.25,
        6 => on(
            Op::ResizeBilinear,
            half,
            &[&size[..], &[("sampling_mode", text("ALIGN_CORNERS"))]].concat(),
        ),
        7 => on(Op::ResizeNearestNeighbor, half, &size) * y,
        8 => {
            let large = on(Op::UpsampleBilinear, x, &[("scale_factor_height", int(2))]);
            large.narrow(1, 2, 3)
        }
        9 => {
            let large = on(Op::UpsampleNearestNeighbor, x, &[("scale_factor_width", int(3))]);
            large.narrow(2, 5, 4) + y
        }
        10 => {
            let affine =
                [("gamma", three(x, [1.0, 0.5, -0.25])), ("beta", three(x, [0.0, 0.5, 1.0]))];
            op(Op::InstanceNorm, &[&[("x", x)][..], &affine].concat(), &[("epsilon", number(0.5))])
        }
        11 => {
            let given =
                [("mean", three(x, [0.5, 0.0, -1.0])), ("variance", three(x, [1.0, 0.25, 2.0]))];
            op(Op::BatchNorm, &[&[("x", x)][..], &given].concat(), &[("epsilon", number(0.5))])
        }
        12 => on(Op::L2Norm, x + y, &[("epsilon", number(0.5))]),
        13 => {
            let sizes = [("size", int(2)), ("alpha", number(0.5)), ("beta", number(0.75))];
            on(Op::LocalResponseNorm, x, &[&sizes[..], &[("k", number(1.0))]].concat())
        }
        14 => {
            let small = einsum(x, y.transpose(&[2, 1, 0]), "chw,whr->chr");
            einsum(small, y, "chr,rhw->chw") * 0.25
        }
        15 => op(Op::Prelu, &[("x", x), ("alpha", three(x, [0.5, -1.0, 0.0]))], &[]) + y,
        16 => on(Op::ClampedRelu, x, &[("alpha", number(0.25)), ("beta", number(0.7))]) * y,
        17 => on(Op::ScaledTanh, x, &[("alpha", number(1.5)), ("beta", number(0.5))]) - y,
        18 => on(Op::ThresholdedRelu, x, &[("alpha", number(0.05))]),
        19 => {
            let given =
                [("alpha", three(x, [0.5, 1.0, 0.25])), ("beta", three(x, [1.0, -2.0, 0.5]))];
            op(Op::SoftplusParametric, &[&[("x", x)][..], &given].concat(), &[])
        }
        20 => on(Op::TopK, x, &[("k", int(4)), ("axis", int(2))]) * 0.5 + y,
        21 => {
            let wide = on(Op::PixelShuffle, image(x, [1, 4, 2, 3]), &[("upscale_factor", int(2))]);
            back(wide) + y
        }
        22 => {
            let deep =
                on(Op::PixelUnshuffle, image(x, [1, 1, 4, 6]), &[("downscale_factor", int(2))]);
            back(on(Op::DepthToSpace, deep, &[("block_size", int(2))]))
        }
        23 => back(on(Op::SpaceToDepth, image(x, [1, 2, 2, 6]), &[("block_size", int(2))])) - y,
        24 => {
            let block = ("block_shape", ints(&[2, 3]));
            let none = Literal::inline(
                TensorType::new(mil::DType::Int32, [2, 2]),
                mil::Data::Int(vec![0, 0, 0, 0]),
            );
            let batches = on(
                Op::SpaceToBatch,
                image(x, [1, 1, 4, 6]),
                &[block.clone(), ("paddings", none.clone())],
            );
            let doubled = batches * batches;
            back(on(Op::BatchToSpace, doubled, &[block, ("crops", none)])) + y
        }
        _ => {
            let padded = x.pad(&[(0, 0), (1, 0), (0, 2)]);
            let crop = [("crop_height", ints(&[1, 0])), ("crop_width", ints(&[2, 0]))];
            on(Op::Crop, padded, &crop) + on(Op::Flatten2d, y, &[]).reshape(&[2, 3, 4])
        }
    }
}
