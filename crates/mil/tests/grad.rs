//! Every gradient rule against central finite differences of the f64 reference.
//!
//! Programs are in fp32 so that their constants are exact to 2^-24; the interpreter computes in
//! f64. With step h the truncation error of a central difference is O(h²) and its rounding error
//! 2^-53·|f|/h; for h = 1e-5 and values of order one both are below 1e-9, so that rule constants
//! rounded to fp32 (6e-8) dominate: the tolerance is 1e-6 of the largest gradient.
//!
//! A kink (relu, prelu, a maximum) within h of the point spoils the difference there. A step of
//! 1e-8, whose rounding error is still below 1e-7, then decides.

#[path = "explicit/grow.rs"]
mod grow;

use grow::{STEPS, einsum};
use mil::interp::{Array, evaluate};
use mil::{Arg, Builder, DType, Function, Literal, Op, Tensor, TensorType, ValueId, Weights, grad};
use proptest::prelude::*;

/// xorshift64*, enough for test inputs.
struct Random(u64);

impl Random {
    fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545F4914F6CDD1D) >> 11;
        lo + (hi - lo) * bits as f64 / (1u64 << 53) as f64
    }

    fn array(&mut self, shape: &[usize], lo: f64, hi: f64) -> Array {
        Array::from_fn(shape, |_| self.uniform(lo, hi))
    }
}

/// Compares every input gradient of `f` at `inputs` with finite differences of ⟨seeds, f⟩.
fn check_at(f: &Function, inputs: &[Array]) {
    let none = Weights::new();
    let mut random = Random(7);
    let outputs = evaluate(f, inputs, &none).unwrap();
    let seeds: Vec<Array> = outputs.iter().map(|y| random.array(&y.shape, -1.0, 1.0)).collect();
    let objective = |inputs: &[Array]| -> f64 {
        let outputs = evaluate(f, inputs, &none).unwrap();
        outputs
            .iter()
            .zip(&seeds)
            .flat_map(|(y, s)| y.data.iter().zip(&s.data))
            .map(|(y, s)| y * s)
            .sum()
    };

    let mut joint = grad(f).unwrap();
    let wanted: Vec<ValueId> = f.inputs().filter(|&id| f.ty(id).dtype.is_float()).collect();
    let found: Vec<(ValueId, ValueId)> =
        wanted.iter().filter_map(|&id| Some((id, joint.cotangent(id)?))).collect();
    joint.function.outputs = found.iter().map(|(_, g)| *g).collect();
    let all: Vec<Array> = inputs.iter().chain(&seeds).cloned().collect();
    let gradients = evaluate(&joint.function, &all, &none).unwrap();

    for id in wanted {
        let at = found.iter().position(|(x, _)| *x == id);
        for i in 0..inputs[id.index()].data.len() {
            let moved = |by: f64| {
                let mut inputs = inputs.to_vec();
                inputs[id.index()].data[i] += by;
                objective(&inputs)
            };
            let difference = |h: f64| (moved(h) - moved(-h)) / (2.0 * h);
            let got = at.map_or(0.0, |at| gradients[at].data[i]);
            let scale = at
                .map_or(1.0, |at| gradients[at].data.iter().fold(1.0, |m: f64, g| m.max(g.abs())));
            let agrees = |h: f64| (got - difference(h)).abs() <= 1e-6 * scale;
            assert!(
                got.is_finite() && (agrees(1e-5) || agrees(1e-8)),
                "{}[{i}]: rule {got}, finite difference {}\n{f:#?}",
                f.value(id).name,
                difference(1e-5)
            );
        }
    }
}

/// Builds a function of inputs with `shapes` and checks it on values from `range`.
fn check_in(
    range: (f64, f64),
    shapes: &[&[usize]],
    build: impl for<'b> Fn(&[Tensor<'b>]) -> Tensor<'b>,
) {
    let b = Builder::new("main");
    let x: Vec<_> = (shapes.iter().enumerate())
        .map(|(i, s)| b.input(&format!("x{i}"), TensorType::fp32(s.to_vec())))
        .collect();
    let y = build(&x);
    let f = b.finish(&[y]).unwrap();
    let mut random = Random(42);
    let inputs: Vec<Array> = shapes.iter().map(|s| random.array(s, range.0, range.1)).collect();
    check_at(&f, &inputs);
}

fn check(shapes: &[&[usize]], build: impl for<'b> Fn(&[Tensor<'b>]) -> Tensor<'b>) {
    check_in((-1.7, 1.9), shapes, build);
}

fn attr<'b>(x: Tensor<'b>, key: &'static str, literal: Literal) -> (&'static str, Arg) {
    (key, Arg::Value(x.builder().constant(literal).id()))
}

fn op<'b>(
    x: &[Tensor<'b>],
    op: Op,
    keys: &[&'static str],
    attrs: &[(&'static str, Literal)],
) -> Tensor<'b> {
    let mut args: Vec<_> = keys.iter().zip(x).map(|(k, x)| (*k, Arg::Value(x.id()))).collect();
    args.extend(attrs.iter().map(|(k, l)| attr(x[0], k, l.clone())));
    x[0].builder().op(op, args)[0]
}

#[test]
fn unary_rules() {
    let f = |v: f64| Literal::float(DType::Fp32, v);
    let plain = [
        Op::Abs,
        Op::Atan,
        Op::Cos,
        Op::Erf,
        Op::Exp,
        Op::Exp2,
        Op::Sin,
        Op::Square,
        Op::Tanh,
        Op::Relu,
        Op::Relu6,
        Op::Sigmoid,
        Op::Silu,
        Op::Softplus,
        Op::Softsign,
        Op::Ceil,
        Op::Floor,
        Op::Round,
        Op::Sign,
    ];
    for unary in plain {
        check(&[&[2, 5]], |x| x[0].unary(unary));
    }
    check_in((0.3, 3.0), &[&[7]], |x| x[0].unary(Op::Sqrt));
    for eps in [Op::Log, Op::Rsqrt, Op::Inverse] {
        check_in((0.3, 3.0), &[&[7]], |x| op(x, eps, &["x"], &[("epsilon", f(0.125))]));
    }
    for (slope, attrs) in [
        (Op::Clip, vec![("alpha", f(-0.5)), ("beta", f(0.75))]),
        (Op::Threshold, vec![("alpha", f(0.25))]),
        (Op::LeakyRelu, vec![("alpha", f(0.125))]),
        (Op::Elu, vec![("alpha", f(1.5))]),
        (Op::SigmoidHard, vec![("alpha", f(0.5)), ("beta", f(0.25))]),
        (Op::LinearActivation, vec![("alpha", f(0.5)), ("beta", f(0.25))]),
    ] {
        check(&[&[3, 4]], |x| op(x, slope, &["x"], &attrs));
    }
    for mode in ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"] {
        check(&[&[9]], |x| op(x, Op::Gelu, &["x"], &[("mode", Literal::string(mode))]));
    }
}

#[test]
fn binary_rules_with_every_kind_of_broadcast() {
    let shapes: [[&[usize]; 2]; 5] = [
        [&[2, 3], &[2, 3]],
        [&[2, 3], &[3]],
        [&[2, 1], &[1, 3]],
        [&[], &[2, 3]],
        [&[4, 1, 2], &[3, 1]],
    ];
    for pair in shapes {
        for binary in [
            Op::Add,
            Op::Sub,
            Op::Mul,
            Op::RealDiv,
            Op::Pow,
            Op::Maximum,
            Op::Minimum,
            Op::FloorDiv,
        ] {
            check_in((0.4, 2.0), &pair, |x| x[0].binary(binary, x[1]));
        }
    }
    check(&[&[2, 3], &[1, 3], &[2, 1]], |x| {
        let cond = x[0].binary(Op::Less, x[1]);
        x[0].builder().select(cond, x[1] * x[1], x[2])
    });
}

/// The slope of |x| at 0 is 0, and two equal maxima share theirs: both are central differences too.
#[test]
fn slopes_at_kinks() {
    let at = |data: &[f64], build: fn(Tensor<'_>) -> Tensor<'_>| {
        let b = Builder::new("main");
        let x = b.input("x", TensorType::fp32([data.len()]));
        let f = b.finish(&[build(x)]).unwrap();
        check_at(&f, &[Array::new([data.len()], data.to_vec())]);
    };
    at(&[0.0, 1.0], |x| x.unary(Op::Abs));
    at(&[2.0, 1.0, 2.0], |x| op(&[x], Op::ReduceMax, &["x"], &[("axes", Literal::ints(&[0]))]));
}

#[test]
fn reductions_and_softmax() {
    let all = [
        Op::ReduceSum,
        Op::ReduceMean,
        Op::ReduceMax,
        Op::ReduceMin,
        Op::ReduceL1Norm,
        Op::ReduceL2Norm,
        Op::ReduceSumSquare,
        Op::ReduceLogSum,
        Op::ReduceLogSumExp,
    ];
    for reduce in all {
        check_in((0.2, 2.0), &[&[2, 3, 4]], |x| x[0].reduce(reduce, &[1]));
        check_in((0.2, 2.0), &[&[2, 3, 4]], |x| x[0].reduce(reduce, &[0, 2]));
        let drop = [("axes", Literal::ints(&[-1])), ("keep_dims", Literal::bool(false))];
        check_in((0.2, 2.0), &[&[2, 3]], |x| op(x, reduce, &["x"], &drop));
    }
    check(&[&[2, 3, 4]], |x| x[0].softmax(-1));
    check(&[&[2, 3, 4]], |x| x[0].softmax(1));
}

#[test]
fn products() {
    for (tx, ty) in [(false, false), (false, true), (true, false), (true, true)] {
        let x: &[usize] = if tx { &[2, 4, 3] } else { &[2, 3, 4] };
        let y: &[usize] = if ty { &[1, 5, 4] } else { &[1, 4, 5] };
        check(&[x, y], |x| x[0].matmul(x[1], tx, ty));
        check(&[x, &y[1..]], |x| x[0].matmul(x[1], tx, ty));
    }
    check(&[&[2, 3, 4], &[5, 4]], |x| op(x, Op::Linear, &["x", "weight"], &[]));
    check(&[&[4], &[5, 4], &[5]], |x| op(x, Op::Linear, &["x", "weight", "bias"], &[]));
    check(&[&[2, 3, 4], &[2, 5, 4], &[2, 5, 3]], |x| {
        op(x, Op::Attention, &["query", "key", "value"], &[])
    });
    let keys = ["query", "key", "value", "attn_mask"];
    check(&[&[2, 3, 4], &[2, 5, 4], &[2, 5, 3], &[3, 5]], |x| op(x, Op::Attention, &keys, &[]));
    let seen = (0..15).map(|i| i % 4 != 1).collect();
    let seen = Literal::inline(TensorType::new(DType::Bool, [3, 5]), mil::Data::Bool(seen));
    check(&[&[2, 3, 4], &[2, 5, 4], &[2, 5, 3]], |x| {
        let mask = x[0].builder().constant(seen.clone());
        op(&[x[0], x[1], x[2], mask], Op::Attention, &keys, &[])
    });
}

#[test]
fn convolutions() {
    let i = Literal::ints;
    let conv =
        |shapes: &[&[usize]], strides: &[i64], pad: &[i64], dilations: &[i64], groups: i64| {
            for op_ in [Op::Conv, Op::ConvTranspose] {
                let mut shapes = shapes.to_vec();
                let swapped: Vec<usize>;
                if op_ == Op::ConvTranspose {
                    // x of a transposed convolution has the channels that the weight puts first.
                    let out = shapes[1][0];
                    swapped = [&[shapes[0][0], out], &shapes[0][2..]].concat();
                    shapes[0] = &swapped;
                }
                let attrs = [
                    ("pad_type", Literal::string("custom")),
                    ("pad", i(pad)),
                    ("strides", i(strides)),
                    ("dilations", i(dilations)),
                    ("groups", Literal::int(groups)),
                ];
                check(&shapes, |x| op(x, op_, &["x", "weight"], &attrs));
            }
        };
    conv(&[&[1, 3, 1, 5], &[2, 3, 1, 1]], &[1, 1], &[0, 0, 0, 0], &[1, 1], 1);
    conv(&[&[2, 2, 5, 6], &[3, 2, 3, 2]], &[1, 2], &[1, 1, 0, 2], &[1, 1], 1);
    conv(&[&[1, 4, 6, 7], &[4, 2, 2, 3]], &[2, 2], &[0, 1, 1, 1], &[2, 1], 2);
    conv(&[&[1, 2, 9], &[2, 2, 3]], &[2], &[1, 0], &[2], 1);
    // The last window reaches the last element, and the stride does not divide what is left.
    conv(&[&[1, 2, 5], &[2, 2, 3]], &[2], &[0, 1], &[1], 1);
    let bias = [("pad_type", Literal::string("same")), ("strides", i(&[2, 1]))];
    check(&[&[1, 2, 5, 4], &[3, 2, 3, 3], &[3]], |x| {
        op(x, Op::Conv, &["x", "weight", "bias"], &bias)
    });
}

#[test]
fn movement() {
    let i = Literal::ints;
    check(&[&[2, 3, 4]], |x| x[0].reshape(&[4, 6]) * x[0].reshape(&[4, 6]));
    check(&[&[2, 3, 4]], |x| x[0].transpose(&[2, 0, 1]).tanh());
    check(&[&[2, 3]], |x| x[0].unary(Op::Identity) * x[0]);
    check(&[&[2, 3]], |x| op(x, Op::ExpandDims, &["x"], &[("axes", i(&[0, -1]))]));
    check(&[&[2, 1, 3]], |x| op(x, Op::Squeeze, &["x"], &[("axes", i(&[1]))]));
    check(&[&[4, 5]], |x| x[0].slice(&[1, 2], &[2, 3]));
    let strided = [
        ("begin", i(&[1, -1])),
        ("end", i(&[6, 0])),
        ("stride", i(&[2, 1])),
        (
            "end_mask",
            Literal::inline(TensorType::new(DType::Bool, [2]), mil::Data::Bool(vec![false, true])),
        ),
    ];
    check(&[&[7, 3]], |x| op(x, Op::SliceByIndex, &["x"], &strided));
    check(&[&[2, 3], &[4, 3]], |x| {
        x[0].builder().concat(0, x) * x[0].builder().concat(0, &[x[1], x[0]])
    });
    let interleave = Literal::bool(true);
    check(&[&[2, 3], &[2, 3]], |x| {
        let ids = x.iter().map(|x| x.id()).collect();
        let args = vec![
            attr(x[0], "axis", Literal::int(1)),
            attr(x[0], "interleave", interleave.clone()),
            ("values", Arg::Values(ids)),
        ];
        x[0].builder().op(Op::Concat, args)[0]
    });
    check(&[&[2, 3], &[2, 3]], |x| x[0].builder().stack(1, x).tanh());
    check(&[&[6, 2]], |x| {
        let args = vec![
            ("x", Arg::Value(x[0].id())),
            attr(x[0], "split_sizes", i(&[1, 2, 3])),
            attr(x[0], "axis", Literal::int(0)),
        ];
        let parts = x[0].builder().op(Op::Split, args);
        parts[1].tanh().reshape(&[4, 1]) * parts[2].narrow(0, 0, 2).reshape(&[1, 4])
    });
    check(&[&[1, 3, 2]], |x| x[0].tile(&[3, 2, 1]).tanh() * 1.5);
    check(&[&[2, 3]], |x| x[0].pad(&[(1, 0), (2, 1)]).tanh());
    check(&[&[3, 2]], |x| x[0].cast(DType::Fp16).cast(DType::Fp32) * x[0]);
}

#[test]
fn normalisation_and_scales() {
    let axes = [("axes", Literal::ints(&[1])), ("epsilon", Literal::float(DType::Fp32, 0.125))];
    check(&[&[2, 5]], |x| op(x, Op::LayerNorm, &["x"], &axes));
    check(&[&[2, 5], &[5], &[5]], |x| op(x, Op::LayerNorm, &["x", "gamma", "beta"], &axes));
    check(&[&[2, 5], &[5]], |x| op(x, Op::LayerNorm, &["x", "beta"], &axes));
    let ints = Literal::inline(
        TensorType::new(DType::Int8, [2, 3]),
        mil::Data::Int(vec![1, -2, 3, 4, -5, 6]),
    );
    check(&[&[2]], |x| {
        let q = x[0].builder().constant(ints.clone());
        op(&[q, x[0]], Op::Dequantize, &["input", "scale"], &[("axis", Literal::int(0))])
    });
    let zeros = Literal::inline(TensorType::new(DType::Int8, [2]), mil::Data::Int(vec![3, -4]));
    check(&[&[2]], |x| {
        let [q, zero] = [&ints, &zeros].map(|c| x[0].builder().constant(c.clone()));
        let keys = ["input", "scale", "zero_point"];
        op(&[q, x[0], zero], Op::Dequantize, &keys, &[("axis", Literal::int(0))])
    });
}

/// Each output has its own cotangent, and every finished cotangent the name of its value.
#[test]
fn outputs_are_differentiated_together() {
    let b = Builder::new("main");
    let [x, y] = ["x", "y"].map(|name| b.input(name, TensorType::fp32([3])));
    let p = (x * y).named("p");
    let f = b.finish(&[p, p.tanh().named("q")]).unwrap();
    let mut random = Random(5);
    check_at(&f, &[random.array(&[3], -1.0, 1.0), random.array(&[3], -1.0, 1.0)]);
    let joint = grad(&f).unwrap();
    let name = |id: ValueId| joint.function.value(id).name.as_str();
    assert_eq!(joint.seeds.iter().map(|&id| name(id)).collect::<Vec<_>>(), ["d_p", "d_q"]);
    assert_eq!(joint.find("nothing"), None);
    for (of, named) in [("q", "d_q"), ("y", "d_y")] {
        let value = joint.find(of).unwrap();
        assert_eq!((name(value), joint.cotangent(value).map(name)), (of, Some(named)));
    }
}

#[test]
fn each_step_of_random_programs() {
    for step in 0..STEPS {
        check(&[&[2, 3, 4], &[2, 3, 4]], |x| grow::grow(x[0], x[1], step));
    }
}

#[test]
fn windows() {
    let i = Literal::ints;
    let pool = |shape: &[usize], kernel: &[i64], strides: &[i64], pad: &[i64], ceil: bool| {
        let attrs = [
            ("kernel_sizes", i(kernel)),
            ("strides", i(strides)),
            ("pad_type", Literal::string("custom")),
            ("pad", i(pad)),
            ("ceil_mode", Literal::bool(ceil)),
        ];
        for which in [Op::MaxPool, Op::AvgPool] {
            check(&[shape], |x| op(x, which, &["x"], &attrs));
        }
        if shape.len() < 5 {
            check_in((0.3, 1.9), &[shape], |x| op(x, Op::L2Pool, &["x"], &attrs));
        }
        let exclude =
            [&attrs[..], &[("exclude_padding_from_average", Literal::bool(true))]].concat();
        check(&[shape], |x| op(x, Op::AvgPool, &["x"], &exclude));
    };
    pool(&[1, 2, 7], &[3], &[2], &[1, 1], false);
    pool(&[1, 2, 8], &[2], &[3], &[0, 0], true);
    pool(&[2, 2, 5, 4], &[2, 3], &[2, 1], &[1, 0, 0, 2], false);
    pool(&[1, 1, 4, 3, 5], &[2, 1, 2], &[2, 1, 2], &[0, 0, 0, 0, 1, 1], true);
}

#[test]
fn parameters_of_norms_and_activations() {
    let epsilon = [("epsilon", Literal::float(DType::Fp32, 0.125))];
    let all = ["x", "mean", "variance", "gamma", "beta"];
    check_in((0.3, 1.9), &[&[2, 3, 4], &[3], &[3], &[3], &[3]], |x| {
        op(x, Op::BatchNorm, &all, &epsilon)
    });
    check(&[&[2, 3, 2, 2], &[3], &[3]], |x| {
        op(x, Op::InstanceNorm, &["x", "gamma", "beta"], &epsilon)
    });
    check(&[&[2, 3, 2, 2], &[3]], |x| op(x, Op::InstanceNorm, &["x", "beta"], &epsilon));
    check(&[&[2, 2, 1, 3]], |x| op(x, Op::L2Norm, &["x"], &epsilon));
    check(&[&[1, 5, 1, 2]], |x| op(x, Op::LocalResponseNorm, &["x"], &[("size", Literal::int(3))]));
    check(&[&[2, 3, 4], &[3]], |x| op(x, Op::Prelu, &["x", "alpha"], &[]));
    check(&[&[2, 3, 4], &[3], &[3]], |x| {
        op(x, Op::SoftplusParametric, &["x", "alpha", "beta"], &[])
    });
}

#[test]
fn products_by_equation() {
    for (equation, x, y) in [
        ("nchw,nwhu->nchu", &[2usize, 3, 2, 4][..], &[1usize, 4, 2, 3][..]),
        ("chw,whr->chr", &[3, 1, 4], &[4, 2, 3]),
        ("ab,ac->cb", &[2, 3], &[2, 4]),
        ("ij,k->ki", &[2, 3], &[4]),
        ("i,i->", &[3], &[3]),
        ("abc,dba->cd", &[2, 3, 4], &[5, 3, 2]),
        ("ab,cd->dabc", &[2, 3], &[1, 2]),
    ] {
        check(&[x, y], |v| einsum(v[0], v[1], equation));
    }
}

#[test]
fn images_and_orders() {
    let int = Literal::int;
    let ints = Literal::ints;
    let pairs = |v: &[i64]| {
        Literal::inline(TensorType::new(DType::Int32, [2, 2]), mil::Data::Int(v.to_vec()))
    };
    for mode in ["DEFAULT", "STRICT_ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS"] {
        let attrs = [
            ("target_size_height", int(5)),
            ("target_size_width", int(2)),
            ("sampling_mode", Literal::string(mode)),
        ];
        check(&[&[2, 3, 4]], |x| op(x, Op::ResizeBilinear, &["x"], &attrs));
    }
    check(&[&[2, 8, 2, 3]], |x| op(x, Op::DepthToSpace, &["x"], &[("block_size", int(2))]));
    check(&[&[2, 2, 4, 6]], |x| op(x, Op::SpaceToDepth, &["x"], &[("block_size", int(2))]));
    let block = ("block_shape", ints(&[2, 3]));
    let padded = [block.clone(), ("paddings", pairs(&[0, 1, 2, 0]))];
    check(&[&[2, 2, 3, 4]], |x| op(x, Op::SpaceToBatch, &["x"], &padded));
    let cropped = [block, ("crops", pairs(&[1, 0, 0, 2]))];
    check(&[&[12, 2, 2, 2]], |x| op(x, Op::BatchToSpace, &["x"], &cropped));
    for (axis, ascending) in [(0, true), (1, false), (2, true)] {
        let attrs = [("k", int(2)), ("axis", int(axis)), ("ascending", Literal::bool(ascending))];
        check(&[&[3, 2, 4]], |x| op(x, Op::TopK, &["x"], &attrs) * 1.5);
    }
    let backwards = [("begin", ints(&[5, 0])), ("end", ints(&[0, 3])), ("stride", ints(&[-2, 1]))];
    check(&[&[7, 3]], |x| op(x, Op::SliceByIndex, &["x"], &backwards).tanh());
}

/// A compressed weight stays as it was written: its data among the arguments would be refused.
#[test]
fn compressed_weights_keep_their_form() {
    let text = "program(1.3) { func main<ios16>(tensor<fp32, [2, 2]> x) {
        tensor<fp32, [2, 2]> w = constexpr_affine_dequantize()[name = string(\"w\"), axis = int32(0),
            quantized_data = tensor<int8, [2, 2]>([[1, -2], [3, 4]]), scale = fp32(0.5), zero_point = int8(1)];
        tensor<fp32, [2, 2]> y = matmul(x = x, y = w)[name = string(\"y\")];
        } -> (y); }";
    let f = mil::check_text(text).unwrap().functions.remove(0);
    let joint = grad(&f).unwrap().function.to_string();
    assert!(
        joint.contains("constexpr_affine_dequantize()[name = string(\"w\"), axis = int32(0)"),
        "{joint}"
    );
    check_at(&f, &[Array::new([2, 2], vec![0.5, -1.0, 2.0, 0.25])]);
}

/// An operation without a gradient says so.
#[test]
fn operations_that_are_only_checked() {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp32([1, 2, 3, 4]));
    let same = Literal::floats(TensorType::fp32([1, 6]), &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let attrs = [
        ("transform_matrix", same),
        ("output_height", Literal::int(3)),
        ("output_width", Literal::int(4)),
        ("sampling_mode", Literal::string("bilinear")),
        ("padding_mode", Literal::string("constant")),
        ("padding_value", Literal::float(DType::Fp32, 0.0)),
        ("coordinates_mode", Literal::string("normalized_minus_one_to_one")),
        ("align_corners", Literal::bool(true)),
    ];
    let f = b.finish(&[op(&[x], Op::Affine, &["x"], &attrs)]).unwrap();
    assert!(grad(&f).unwrap_err().to_string().contains("checked, but not executed"));
    let x = Array::from_fn(&[1, 2, 3, 4], |_| 1.0);
    let said = evaluate(&f, &[x], &Weights::new()).unwrap_err().to_string();
    assert_eq!(said, "affine: is checked, but not executed here");
}

/// One random step of a program over [2, 3, 4] tensors.
fn grow<'b>(pool: &[Tensor<'b>], choice: u8, a: usize, b: usize) -> Tensor<'b> {
    let (x, y) = (pool[a % pool.len()], pool[b % pool.len()]);
    match choice % (14 + STEPS) {
        0 => x + y,
        1 => x - y * 0.5,
        2 => x * y,
        3 => x / (y * y + 1.0),
        4 => x.tanh(),
        5 => x.sigmoid() * y,
        6 => x.softmax(-1) + y,
        7 => x.matmul(y, false, true).matmul(y, false, false) * 0.25,
        8 => x.transpose(&[0, 2, 1]).reshape(&[2, 3, 4]),
        9 => x - x.reduce_mean(&[1]),
        10 => x * (y * y).reduce_sum(&[2]).rsqrt(0.5),
        11 => x.builder().concat(1, &[y.narrow(1, 1, 2), x.narrow(1, 0, 1)]),
        12 => x.narrow(2, 1, 3).pad(&[(0, 0), (0, 0), (0, 1)]),
        14.. => grow::grow(x, y, choice % (14 + STEPS) - 14),
        _ => x.unary(Op::Silu) + y.reduce_sum(&[0, 1, 2]).tanh(),
    }
}

/// Builds a program of random steps and checks it on random values.
fn check_steps(steps: &[(u8, usize, usize)], seed: u64) {
    let b = Builder::new("main");
    let mut pool: Vec<_> =
        (0..2).map(|i| b.input(&format!("x{i}"), TensorType::fp32([2, 3, 4]))).collect();
    for &(choice, i, j) in steps {
        let next = grow(&pool, choice, i, j);
        pool.push(next.tanh());
    }
    let f = b.finish(&[*pool.last().unwrap()]).unwrap();
    let mut random = Random(seed);
    let inputs: Vec<_> = (0..2).map(|_| random.array(&[2, 3, 4], -1.0, 1.0)).collect();
    check_at(&f, &inputs);
}

/// One value lies within 1e-5 of the kink of `prelu`.
#[test]
fn a_kink_close_to_the_point() {
    let plain = (0, 0, 0);
    let steps = [plain, (255, 63, 45), plain, plain, plain, plain, (69, 11, 0)];
    check_steps(&steps, 3071486215286244590);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_programs(steps in prop::collection::vec((any::<u8>(), 0usize..64, 0usize..64), 1..9), seed in 1u64..u64::MAX) {
        check_steps(&steps, seed);
    }
}
