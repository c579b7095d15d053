//! Programs on the CPU against the reference interpreter, on every operation and on random programs.
//!
//! In `f32` every operation rounds once to 2^-24; the programs below have fewer than 40 dependent
//! operations on values of order one and inner extents of at most 40, so errors stay below
//! 40·40·2^-24 ≈ 1e-4 relative to the largest value. In `fast` every boundary rounds to 2^-11:
//! the bound is depth · 2^-11 · amplification; random programs end in tanh of bounded values. `exact`
//! adds the errors of its tables and of the array's fixed point.

#[path = "../../mil/tests/explicit/grow.rs"]
mod grow;
mod on_cpu;

use cpu::{Arithmetic, Elements, HostProgram, Numerics, OutputMut, Quirks};
use grow::{STEPS, einsum};
use mil::interp::{Array, evaluate};
use mil::{Arg, Builder, DType, Function, Literal, Op, Tensor, TensorType, Weights};
use on_cpu::run;
use proptest::prelude::*;

/// Largest error of a tabulated activation: that of silu, a chord's at a spacing of a half. In
/// `exact` each of at most 40 products may moreover lose 2^-16.
const TABLES: f64 = 0.0156;

struct Random(u64);

impl Random {
    fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545F4914F6CDD1D) >> 11;
        lo + (hi - lo) * bits as f64 / (1u64 << 53) as f64
    }

    /// Values on the binary16 grid, so that both sides start from the same numbers.
    fn array(&mut self, shape: &[usize], lo: f64, hi: f64) -> Array {
        Array::from_fn(shape, |_| half::f16::from_f64(self.uniform(lo, hi)).to_f64())
    }
}

/// Runs `f` and compares with the reference within `tolerance` of the largest value.
fn compare(f: &Function, inputs: &[Array], numerics: Numerics, tolerance: f64) {
    let expected = evaluate(f, inputs, &Weights::new()).unwrap();
    let single = |x: &Array| x.data.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let inputs: Vec<Vec<f32>> = inputs.iter().map(single).collect();
    let found = run(f, numerics, Quirks::default(), &inputs);
    for (got, want) in found.iter().zip(&expected) {
        assert_eq!(got.len(), want.data.len());
        let scale = want.data.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (i, (g, w)) in got.iter().zip(&want.data).enumerate() {
            let near = (f64::from(*g) - w).abs() <= tolerance * scale;
            assert!(near, "element {i}: {g} instead of {w} ({numerics:?})\n{f:#?}");
        }
    }
}

fn check(shapes: &[&[usize]], build: impl for<'b> Fn(&[Tensor<'b>]) -> Vec<Tensor<'b>>) {
    for (dtype, numerics, tolerance) in [
        (DType::Fp32, Numerics::F32, 1e-4),
        (DType::Fp16, Numerics::F32, 1e-4),
        (DType::Fp16, Numerics::Fast, 16.0 * 2f64.powi(-11)),
        (DType::Fp16, Numerics::Exact, TABLES + 40.0 * 2f64.powi(-16) + 16.0 * 2f64.powi(-11)),
    ] {
        let b = Builder::new("main");
        let x: Vec<_> = (shapes.iter().enumerate())
            .map(|(i, s)| {
                b.input(&format!("x{}", shapes.len() - i), TensorType::new(dtype, s.to_vec()))
            })
            .collect();
        let y = build(&x);
        let f = b.finish(&y).unwrap();
        let mut random = Random(99);
        let inputs: Vec<Array> = shapes.iter().map(|s| random.array(s, 0.25, 1.75)).collect();
        compare(&f, &inputs, numerics, tolerance);
    }
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

const UNARY: [Op; 20] = [
    Op::Abs,
    Op::Atan,
    Op::Ceil,
    Op::Cos,
    Op::Erf,
    Op::Exp,
    Op::Exp2,
    Op::Floor,
    Op::Relu,
    Op::Relu6,
    Op::Round,
    Op::Sigmoid,
    Op::Sign,
    Op::Silu,
    Op::Sin,
    Op::Softplus,
    Op::Softsign,
    Op::Sqrt,
    Op::Square,
    Op::Tanh,
];
const BINARY: [Op; 8] =
    [Op::Add, Op::Sub, Op::Mul, Op::RealDiv, Op::FloorDiv, Op::Pow, Op::Maximum, Op::Minimum];
const COMPARISONS: [Op; 6] =
    [Op::Equal, Op::NotEqual, Op::Less, Op::LessEqual, Op::Greater, Op::GreaterEqual];

#[test]
fn elementwise() {
    for f in UNARY {
        check(&[&[3, 700]], |x| vec![x[0].unary(f)]);
    }
    for f in BINARY {
        check(&[&[2, 33], &[2, 33]], |x| vec![x[0].binary(f, x[1])]);
        check(&[&[1, 33], &[2, 1, 1]], |x| vec![x[0].binary(f, x[1])]);
        check(&[&[4, 5]], |x| vec![x[0].binary(f, x[0])]);
    }
    for c in COMPARISONS {
        check(&[&[5, 4], &[4]], |x| {
            let cond = x[0].binary(c, x[1]);
            vec![x[0].builder().select(cond, x[0], x[1] * 2.0)]
        });
    }
    for y in [-0.5, -1.0, 0.5, 2.0, 3.0] {
        check(&[&[77]], |x| vec![x[0].pow(y)]);
    }
    check(&[&[77]], |x| vec![x[0].log(0.5), x[0].rsqrt(0.5), x[0].inverse(0.5)]);
    check(&[&[77]], |x| vec![x[0].cast(DType::Fp32).cast(DType::Fp16).tanh()]);
    check(&[&[77]], |x| {
        let float = |v| Literal::float(x[0].dtype(), v);
        let attrs = [("alpha", float(1.5)), ("beta", float(0.25))];
        vec![op(x, Op::LinearActivation, &["x"], &attrs)]
    });
}

/// The engine's 1/√−0 is +∞.
#[test]
fn powers_are_those_of_the_engine() {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([2]));
    let f = b.finish(&[x.pow(-0.5)]).unwrap();
    let found = run(&f, Numerics::Exact, Quirks::default(), &[[-0.0f32, 4.0]]);
    assert_eq!(found, [[f32::INFINITY, 0.5]]);
}

/// Three times 0.1, which is 1638 · 2^-14 in fp16, lies between 1228 and 1229 · 2^-12.
#[test]
fn computed_constants_are_rounded() {
    let text = "program(1.3) { func main<ios17>(tensor<fp32, [4]> x) {
        tensor<fp16, [4]> r = range_1d(start = fp16(0), end = fp16(0.35), step = fp16(0.1));
        tensor<fp32, [4]> w = cast(x = r, dtype = string(\"fp32\"));
        tensor<fp32, [4]> y = add(x = x, y = w);
        } -> (y); }";
    let f = &mil::check_text(text).unwrap().functions[0];
    for (numerics, last) in [
        (Numerics::F32, 4914.0 / 16_384.0),
        (Numerics::Fast, 1228.0 / 4096.0),
        (Numerics::Exact, 1229.0 / 4096.0),
    ] {
        let found = run(f, numerics, Quirks::default(), &[[0.0f32; 4]]);
        assert_eq!(found, [[0.0, 1638.0 / 16_384.0, 3276.0 / 16_384.0, last]], "{numerics:?}");
    }
}

/// The result of `build` for values given as `dtype` and brought to fp16 on the device.
fn bits_from(dtype: DType, inputs: &[Vec<f32>; 2], build: &BuildPair<'_>) -> Vec<u32> {
    let b = Builder::new("main");
    let ty = TensorType::new(dtype, vec![inputs[0].len()]);
    let [x, y] = ["x", "y"].map(|name| b.input(name, ty.clone()));
    let [x, y] = [x, y].map(|input| input.cast(DType::Fp16));
    let f = b.finish(&[build(x, y)]).unwrap();
    let [got] = <[_; 1]>::try_from(run(&f, Numerics::Fast, Quirks::default(), inputs)).unwrap();
    got.into_iter().map(f32::to_bits).collect()
}

type BuildPair<'a> = dyn for<'b> Fn(Tensor<'b>, Tensor<'b>) -> Tensor<'b> + 'a;

/// Chains whose operands are all fp16 run in fp16 registers, those that read an fp32 one in fp32
/// registers: to the same bits, for every kind of number but NaN, which only fp16 inputs turn to +∞.
#[test]
fn chains_in_fp16_registers_have_the_bits_of_those_in_fp32() {
    let mut random = Random(5);
    let kinds =
        [0.0, -0.0, 6e-8, -6e-8, 5.9e-5, 65504.0, -65504.0, f32::INFINITY, f32::NEG_INFINITY];
    let mut values = |shift: usize| -> Vec<f32> {
        let pairs = (0..kinds.len() * kinds.len())
            .map(|i| kinds[if shift == 0 { i / kinds.len() } else { i % kinds.len() }]);
        let scales = [1.0, 300.0, 60_000.0, 1e-4];
        let rest = (0..2_500).map(|i| random.uniform(-1.0, 1.0) as f32 * scales[(i + shift) % 4]);
        pairs.chain(rest).map(|v| half::f16::from_f32(v).to_f32()).collect()
    };
    let inputs = [values(0), values(1)];
    let same = |name: &str, build: &BuildPair<'_>| {
        let [short, wide] = [DType::Fp16, DType::Fp32].map(|d| bits_from(d, &inputs, build));
        for (i, (s, w)) in short.iter().zip(&wide).enumerate() {
            let [x, y] = [inputs[0][i], inputs[1][i]];
            assert_eq!(
                s,
                w,
                "{name} of {x} and {y}: {} and {}",
                f32::from_bits(*s),
                f32::from_bits(*w)
            );
        }
    };
    for f in UNARY {
        same(&format!("{f:?}"), &|x, y| (x.unary(f) - y * 3.0).unary(f) + x);
    }
    for f in BINARY {
        same(&format!("{f:?}"), &|x, y| (x.binary(f, y) * 0.7 + y).binary(f, x));
    }
    for c in COMPARISONS {
        same(&format!("{c:?}"), &|x, y| x.builder().select(x.binary(c, y), y + x, x * y));
    }
    for p in [-0.5, -1.0, 0.5, 2.0, 3.0] {
        same(&format!("power {p}"), &|x, y| x.pow(p) + (x - y).pow(p));
    }
    same("logarithm", &|x, y| (x * x).log(0.5) + (y * y).rsqrt(0.5) * x.inverse(0.5));
}

#[test]
fn chains_with_many_results() {
    check(&[&[40, 50], &[50]], |x| {
        let mut all = vec![x[0] + x[1]];
        for i in 1..12 {
            let next = (all[i - 1] * 0.5 + x[0].sigmoid()).tanh();
            all.push(next);
        }
        all
    });
    // In one chain, since each needs the one before alone.
    check(&[&[40, 50]], |x| {
        (0..12).scan(x[0], |y, _| Some(std::mem::replace(y, *y * 0.75))).skip(1).collect()
    });
}

#[test]
fn large_work_on_both_cores() {
    check(&[&[300, 400]], |x| vec![x[0].sigmoid() * x[0], x[0].reduce_sum(&[0]), x[0].softmax(-1)]);
    check(&[&[300, 400]], |x| vec![(x[0] * 0.01).reduce_sum(&[1]), x[0].softmax(0)]);
    check(&[&[120, 200], &[200, 130]], |x| vec![(x[0] * 0.1).matmul(x[1] * 0.1, false, false)]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(7).build().unwrap();
    pool.install(|| check(&[&[300, 400]], |x| vec![x[0].sigmoid() * x[0], x[0].softmax(-1)]));
}

#[test]
fn reductions() {
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
    for f in all {
        for axes in [&[0][..], &[1], &[2], &[0, 2], &[1, 2], &[0, 1, 2]] {
            check(&[&[3, 5, 7]], |x| vec![x[0].reduce(f, axes)]);
            check(&[&[5, 3, 7]], |x| vec![x[0].transpose(&[1, 0, 2]).reduce(f, axes)]);
        }
    }
    // Rows with gaps between them, and a row longer than what is read at once.
    check(&[&[3, 5]], |x| vec![x[0].narrow(1, 0, 4).reduce(Op::ReduceSum, &[0, 1])]);
    check(&[&[3, 1500]], |x| vec![x[0].reduce(Op::ReduceMax, &[1])]);
    check(&[&[3, 5, 7]], |x| vec![x[0].softmax(0), x[0].softmax(1), x[0].softmax(2)]);
    // Of values on both sides of zero.
    for f in [Op::ReduceMax, Op::ReduceMin, Op::ReduceL1Norm, Op::ReduceL2Norm, Op::ReduceLogSumExp]
    {
        for axes in [&[0][..], &[1], &[0, 1]] {
            check(&[&[9, 7]], |x| vec![(x[0] - 1.0).reduce(f, axes)]);
        }
    }
}

/// Enough of every kind of step for several threads, and rows longer than what is read at once.
#[test]
fn large_work_of_every_kind() {
    check(&[&[600, 40], &[600, 30]], |x| {
        let wide = x[0].builder().concat(1, &[x[1], x[0]]);
        vec![wide, x[0].builder().concat(1, &[wide, x[1].transpose(&[1, 0]).reshape(&[600, 30])])]
    });
    check(&[&[40, 60], &[3, 60]], |x| vec![x[0].builder().concat(0, &[x[1], x[0]])]);
    check(&[&[300, 130]], |x| {
        vec![x[0].softmax(1), x[0].reduce(Op::ReduceSum, &[0]), x[0].reduce(Op::ReduceMax, &[1])]
    });
    check(&[&[130, 300]], |x| vec![x[0].softmax(0), x[0].reduce(Op::ReduceMean, &[0])]);
    let attrs = [("strides", Literal::ints(&[1, 1])), ("groups", Literal::int(2))];
    check(&[&[1, 2, 130, 140], &[2, 1, 2, 1]], |x| vec![op(x, Op::Conv, &["x", "weight"], &attrs)]);
    let every_second = [
        ("begin", Literal::ints(&[0, 1])),
        ("end", Literal::ints(&[3, 400])),
        ("stride", Literal::ints(&[1, 2])),
    ];
    check(&[&[3, 400]], |x| {
        let part = op(x, Op::SliceByIndex, &["x"], &every_second);
        vec![part.tanh(), part.reduce(Op::ReduceSum, &[1]), part.reduce(Op::ReduceMax, &[0])]
    });
}

/// Only an engine that has the path scales by 16, and only its own element type.
#[test]
fn slices_inside_the_width_keep_what_they_can() {
    let gain = Quirks { width_slice_gain: true, ..Quirks::default() };
    for (dtype, numerics, quirks, kept) in [
        (DType::Fp16, Numerics::Fast, gain, false),
        (DType::Fp16, Numerics::Exact, gain, false),
        (DType::Fp16, Numerics::Fast, Quirks::default(), true),
        (DType::Fp16, Numerics::F32, gain, true),
        (DType::Fp32, Numerics::Fast, gain, true),
    ] {
        let b = Builder::new("main");
        let x = b.input("x", TensorType::new(dtype, [2, 3]));
        let f = b.finish(&[x.narrow(1, 1, 2), x.narrow(0, 1, 1)]).unwrap();
        let found = run(&f, numerics, quirks, &[[1.0f32, 5000.0, -3.0, 5000.0, 4094.0, -5000.0]]);
        let of = |v: f32| if kept { v } else { f32::INFINITY.copysign(v) };
        assert_eq!(
            found,
            [vec![of(5000.0), -3.0, 4094.0, of(-5000.0)], vec![5000.0, 4094.0, -5000.0]]
        );
    }
}

#[test]
fn products_and_layouts() {
    for (tx, ty) in [(false, false), (false, true), (true, false), (true, true)] {
        let x: &[usize] = if tx { &[2, 1, 7, 5] } else { &[2, 1, 5, 7] };
        let y: &[usize] = if ty { &[3, 9, 7] } else { &[3, 7, 9] };
        check(&[x, y], |x| vec![x[0].matmul(x[1], tx, ty)]);
        check(&[x, y], |x| {
            vec![x[0].matmul(x[1], tx, ty).transpose(&[1, 3, 0, 2]).reshape(&[27, 10]) + 1.0]
        });
    }
    check(&[&[7, 5], &[7, 9]], |x| vec![x[0].matmul(x[1], true, false)]);
    check(&[&[2, 1, 2, 3, 4], &[3, 1, 4, 2]], |x| vec![x[0].matmul(x[1], false, false)]);
    check(&[&[2, 3, 4, 5], &[2, 3, 4, 5]], |x| {
        let swapped = x[0].transpose(&[0, 2, 1, 3]).reshape(&[2, 4, 15]);
        vec![swapped.matmul(x[1].reshape(&[2, 15, 4]), false, false), swapped]
    });
    check(&[&[2, 3, 4], &[5, 4], &[5]], |x| vec![op(x, Op::Linear, &["x", "weight", "bias"], &[])]);
    let attention = ["query", "key", "value", "attn_mask"];
    check(&[&[2, 3, 4], &[2, 5, 4], &[2, 5, 3], &[3, 5]], |x| {
        vec![op(x, Op::Attention, &attention, &[])]
    });
}

#[test]
fn convolutions() {
    let i = Literal::ints;
    for (x, w, strides, pad, dilations, groups) in [
        ([1, 4, 1, 9], [5, 4, 1, 1], [1, 1], [0, 0, 0, 0], [1, 1], 1),
        ([2, 4, 1, 9], [5, 4, 1, 1], [1, 1], [0, 0, 0, 0], [1, 1], 1),
        ([2, 4, 5, 6], [6, 2, 3, 2], [1, 2], [1, 1, 0, 2], [1, 1], 2),
        ([1, 2, 7, 7], [2, 2, 2, 3], [2, 1], [0, 1, 1, 1], [2, 1], 1),
    ] {
        let attrs = [
            ("pad_type", Literal::string("custom")),
            ("pad", i(&pad)),
            ("strides", i(&strides)),
            ("dilations", i(&dilations)),
            ("groups", Literal::int(groups)),
        ];
        check(&[&x, &w], |x| vec![op(x, Op::Conv, &["x", "weight"], &attrs)]);
        let back = [x[0], w[0], x[2], x[3]];
        check(&[&back, &w], |x| vec![op(x, Op::ConvTranspose, &["x", "weight"], &attrs)]);
    }
    let keys = ["x", "weight", "bias"];
    check(&[&[2, 2, 5, 4], &[3, 2, 2, 2], &[3]], |x| vec![op(x, Op::Conv, &keys, &[])]);
    check(&[&[2, 2, 9], &[3, 2, 2]], |x| vec![op(x, Op::Conv, &["x", "weight"], &[])]);
}

/// 200 · 100 + 200 · 100 leaves the array's range; a bias is added outside of it, where 2049 is
/// rounded to its even neighbour or away from zero, and where ∞ · 0 is 0.
#[test]
fn convolutions_are_rounded_as_the_engine_does() {
    let first = |numerics, x: &[f32], w: &[f32], bias: &[f32]| {
        let b = Builder::new("main");
        let row = |values: &[f32]| TensorType::fp16([1, 1, 1, values.len()]);
        let mut operands = vec![b.input("x", row(x)), b.input("w", row(w))];
        let mut inputs = vec![x, w];
        if !bias.is_empty() {
            operands.push(b.input("b", TensorType::fp16([1])));
            inputs.push(bias);
        }
        let y = op(&operands, Op::Conv, &["x", "weight", "bias"], &[]);
        let f = b.finish(&[y]).unwrap();
        run(&f, numerics, Quirks::default(), &inputs)[0][0]
    };
    for (numerics, rounded) in [(Numerics::Fast, 2048.0), (Numerics::Exact, 2050.0)] {
        assert_eq!(first(numerics, &[200.0; 2], &[100.0; 2], &[]), f32::INFINITY, "{numerics:?}");
        assert_eq!(first(numerics, &[2048.0], &[1.0], &[1.0]), rounded, "{numerics:?}");
        assert_eq!(first(numerics, &[f32::INFINITY], &[0.0], &[]), 0.0, "{numerics:?}");
    }
}

#[test]
fn movement() {
    let i = Literal::ints;
    check(&[&[2, 3, 4]], |x| vec![x[0].transpose(&[2, 0, 1]), x[0].reshape(&[6, 4]), x[0]]);
    check(&[&[4, 5]], |x| vec![x[0].slice(&[1, 2], &[2, 3]).reshape(&[6]) + 1.0]);
    let backwards = [("begin", i(&[6, 0])), ("end", i(&[0, 3])), ("stride", i(&[-2, 1]))];
    check(&[&[7, 3]], |x| {
        let y = op(x, Op::SliceByIndex, &["x"], &backwards);
        vec![y, y.matmul(y, false, true), y.softmax(0)]
    });
    let both = [("begin", i(&[6, 2])), ("end", i(&[0, 0])), ("stride", i(&[-1, -1]))];
    check(&[&[7, 3]], |x| {
        let y = op(x, Op::SliceByIndex, &["x"], &both);
        vec![y.matmul(y, false, true)]
    });
    check(&[&[2, 3], &[2, 5]], |x| {
        vec![x[0].builder().concat(1, &[x[1], x[0], x[1].narrow(1, 1, 2)])]
    });
    check(&[&[2, 3], &[2, 3]], |x| vec![x[0].builder().stack(1, x), x[0].builder().stack(0, x)]);
    check(&[&[2, 3], &[2, 3]], |x| {
        let ids = x.iter().map(|x| x.id()).collect();
        let args = vec![
            attr(x[0], "axis", Literal::int(1)),
            attr(x[0], "interleave", Literal::bool(true)),
            ("values", Arg::Values(ids)),
        ];
        x[0].builder().op(Op::Concat, args)
    });
    check(&[&[6, 2]], |x| {
        let args = vec![
            ("x", Arg::Value(x[0].id())),
            attr(x[0], "num_splits", Literal::int(3)),
            attr(x[0], "axis", Literal::int(0)),
        ];
        x[0].builder().op(Op::Split, args)
    });
    check(&[&[2, 3]], |x| {
        let same = x[0].unary(Op::Identity);
        let doubled = x[0] * 2.0;
        vec![same, same.transpose(&[1, 0]) + 1.0, doubled, doubled.unary(Op::Identity)]
    });
    check(&[&[1, 3, 1]], |x| vec![x[0].tile(&[2, 1, 4]), x[0].tile(&[1, 2, 1])]);
    check(&[&[2, 3]], |x| vec![x[0].pad(&[(1, 0), (2, 1)])]);
    for mode in ["reflect", "replicate"] {
        let attrs = [
            ("pad", i(&[1, 2])),
            ("mode", Literal::string(mode)),
            ("constant_val", Literal::float(x_dtype(), 0.0)),
        ];
        check(&[&[2, 4]], |x| vec![op(x, Op::Pad, &["x"], &attrs)]);
    }
    let axes = [("axes", i(&[1])), ("epsilon", Literal::float(DType::Fp32, 0.125))];
    check(&[&[2, 5], &[5], &[5]], |x| vec![op(x, Op::LayerNorm, &["x", "gamma", "beta"], &axes)]);
}

fn x_dtype() -> DType {
    DType::Fp32
}

#[test]
fn each_step_of_random_programs() {
    for step in 0..STEPS {
        check(&[&[2, 3, 4], &[2, 3, 4]], |x| vec![grow::grow(x[0], x[1], step)]);
        // Of views that do not lie one after the other.
        check(&[&[4, 2, 3], &[5, 3, 4]], |x| {
            let (x, y) = (x[0].transpose(&[1, 2, 0]), x[1].narrow(0, 2, 2));
            vec![grow::grow(x, y, step), grow::grow(y, x, step).transpose(&[2, 0, 1])]
        });
    }
}

#[test]
fn windows() {
    let i = Literal::ints;
    for (shape, kernel, strides, pad, ceil) in [
        (&[1, 2, 7][..], &[3][..], &[2][..], &[1, 1][..], false),
        (&[1, 2, 8], &[2], &[3], &[0, 0], true),
        (&[2, 3, 9, 40], &[2, 3], &[2, 1], &[1, 0, 0, 2], false),
        (&[1, 1, 4, 3, 5], &[2, 1, 2], &[2, 1, 2], &[0, 0, 0, 0, 1, 1], true),
        (&[1, 2, 6, 6], &[6, 6], &[1, 1], &[0, 0, 0, 0], false),
        (&[1, 2, 2], &[3], &[1], &[1, 1], false),
        (&[1, 2, 7, 4], &[5, 5], &[1, 1], &[2, 2, 2, 2], false),
    ] {
        let attrs = [
            ("kernel_sizes", i(kernel)),
            ("strides", i(strides)),
            ("pad_type", Literal::string("custom")),
            ("pad", i(pad)),
            ("ceil_mode", Literal::bool(ceil)),
        ];
        let exclude = [("exclude_padding_from_average", Literal::bool(true))];
        for which in [Op::MaxPool, Op::AvgPool, Op::L2Pool] {
            if which == Op::L2Pool && shape.len() == 5 {
                continue;
            }
            check(&[shape], |x| {
                vec![op(x, which, &["x"], &attrs), op(&[x[0] - 1.0], which, &["x"], &attrs)]
            });
        }
        check(&[shape], |x| vec![op(x, Op::AvgPool, &["x"], &[&attrs[..], &exclude].concat())]);
    }
}

#[test]
fn products_by_equation() {
    for (equation, x, y) in [
        ("nchw,nwhu->nchu", &[2, 3, 2, 4][..], &[1, 4, 2, 3][..]),
        ("chw,whr->chr", &[3, 1, 4], &[4, 2, 3]),
        ("ab,ac->cb", &[2, 3], &[2, 4]),
        ("ij,k->ki", &[2, 3], &[4]),
        ("i,i->", &[3], &[3]),
        ("abc,dba->cd", &[2, 3, 4], &[5, 3, 2]),
        ("ab,cd->dabc", &[2, 3], &[1, 2]),
    ] {
        check(&[x, y], |v| vec![einsum(v[0], v[1], equation)]);
    }
}

#[test]
fn images_of_any_rank_are_resampled() {
    let by = [("scale_factor_height", Literal::int(2)), ("scale_factor_width", Literal::int(3))];
    check(&[&[2, 1, 3, 2, 4]], |x| vec![op(x, Op::UpsampleNearestNeighbor, &["x"], &by)]);
}

#[test]
fn the_largest_are_found_along_every_axis() {
    let attrs = |axis: i64| [("k", Literal::int(2)), ("axis", Literal::int(axis))];
    for axis in 0..3 {
        check(&[&[3, 4, 5]], |x| {
            let mut args = vec![("x", Arg::Value(x[0].id()))];
            args.extend(attrs(axis).map(|(key, literal)| attr(x[0], key, literal)));
            x[0].builder().op(Op::TopK, args)
        });
    }
}

/// Resampling copies what it does not mix: nothing of an infinity, and no sum that overflows.
#[test]
fn resampling_keeps_large_values() {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([1, 1, 2]));
    let by = Literal::int(3);
    let y = op(&[x], Op::UpsampleBilinear, &["x"], &[("scale_factor_width", by)]);
    let f = b.finish(&[y.named("y")]).unwrap();
    for (pair, want) in [
        ([60_000.0, 60_000.0], [60_000.0; 6]),
        (
            [1.0, f32::INFINITY],
            [1.0, f32::INFINITY, f32::INFINITY, f32::INFINITY, f32::INFINITY, f32::INFINITY],
        ),
    ] {
        assert_eq!(run(&f, Numerics::Fast, Quirks::default(), &[pair]), [want]);
    }
}

/// alpha / size is no number of fp16: 1 / (1 + alpha · 3 / 3) of three ones, alpha being 0.3 in fp16.
#[test]
fn a_response_is_normalised_by_alpha_and_size() {
    let text = "program(1.3) { func main<ios17>(tensor<fp16, [1, 3, 1, 1]> x) {
        tensor<fp16, [1, 3, 1, 1]> n = local_response_norm(x = x, size = int32(3), alpha = fp16(0.3),
            beta = fp16(1), k = fp16(1));
        tensor<fp32, [1, 3, 1, 1]> y = cast(x = n, dtype = string(\"fp32\"));
        } -> (y); }";
    let f = &mil::check_text(text).unwrap().functions[0];
    let got = &run(f, Numerics::F32, Quirks::default(), &[[1.0; 3]])[0];
    let want = 1.0 / (1.0 + half::f16::from_f64(0.3).to_f64());
    assert!((f64::from(got[1]) - want).abs() < 1e-6, "{} instead of {want}", got[1]);
}

#[test]
fn operations_that_are_only_checked_are_refused_by_name() {
    let text = "program(1.3) { func main<ios17>(tensor<fp16, [1, 4, 9]> b, tensor<fp16, [1, 3, 9]> s) {
        tensor<fp16, [1, 4, 2]> x, tensor<fp16, [1, 3, 2]> y, tensor<int32, [1, 2]> z =
            non_maximum_suppression(boxes = b, scores = s, iou_threshold = fp16(0.5), max_boxes = int32(2));
        } -> (x, y); }";
    let program = mil::check_text(text).unwrap();
    let arithmetic = Arithmetic::engine(Numerics::Fast, Quirks::default());
    let error =
        HostProgram::compile(&program.functions[0], &Weights::new(), arithmetic).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("non_maximum_suppression: is checked, but not executed here"), "{said}");
}

#[test]
fn quantisation() {
    let zero = Literal::inline(TensorType::scalar(DType::Int8), mil::Data::Int(vec![3]));
    check(&[&[4, 9]], |x| {
        let scale = x[0].builder().scalar(x[0].dtype(), 0.25);
        let attrs = [("zero_point", zero.clone()), ("output_dtype", Literal::string("int8"))];
        let q = op(&[x[0], scale], Op::Quantize, &["input", "scale"], &attrs);
        vec![op(&[q, scale], Op::Dequantize, &["input", "scale"], &[("zero_point", zero.clone())])]
    });
}

/// In reference precision a NaN becomes 0, as in the interpreter; the engine reads it as +∞.
#[test]
fn nan_becomes_an_integer() {
    for (dtype, numerics, expected) in [
        (DType::Fp32, Numerics::F32, [0.0, 127.0, -128.0]),
        (DType::Fp16, Numerics::Fast, [127.0, 127.0, -128.0]),
    ] {
        let b = Builder::new("main");
        let x = b.input("x", TensorType::new(dtype, [3]));
        let f = b.finish(&[x.cast(DType::Int8).cast(dtype)]).unwrap();
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(run(&f, numerics, Quirks::default(), &[values]), [expected], "{numerics:?}");
        if numerics == Numerics::F32 {
            let values = values.map(f64::from).to_vec();
            let reference = evaluate(&f, &[Array::new(vec![3], values)], &Weights::new()).unwrap();
            assert_eq!(reference[0].data, expected.map(f64::from));
        }
    }
}

#[test]
fn host_programs_accumulate() {
    let b = Builder::new("dw");
    let (x, y) = (b.input("x", TensorType::fp32([3, 4])), b.input("y", TensorType::fp32([5, 4])));
    let f = b.finish(&[x.matmul(y, false, true), x.reduce_sum(&[1])]).unwrap();
    let mut program = HostProgram::new(&f).unwrap();
    let (x, y) = ([1.0f32; 12], [2.0f32; 20]);
    let (mut w, mut g) = ([1.0f32; 15], [1.0f32; 3]);
    for _ in 0..2 {
        let mut out = [
            OutputMut::F32 { data: &mut w, accumulate: true },
            OutputMut::F32 { data: &mut g, accumulate: true },
        ];
        program.run(&[Elements::F32(&x), Elements::F32(&y)], &mut out).unwrap();
    }
    assert_eq!((w, g), ([17.0; 15], [9.0; 3]));

    // What is kept in fp16 is widened on the way.
    let b = Builder::new("constant");
    let values = [0.5, 2.0, -1.0].map(half::f16::from_f32).to_vec();
    let kept = Literal::inline(TensorType::fp16([3]), mil::Data::Fp16(values));
    let f = b.finish(&[b.constant(kept).cast(DType::Fp32)]).unwrap();
    let mut program = HostProgram::new(&f).unwrap();
    let mut sum = [1.0f32; 3];
    for _ in 0..2 {
        program.run(&[], &mut [OutputMut::F32 { data: &mut sum, accumulate: true }]).unwrap();
    }
    assert_eq!(sum, [2.0, 5.0, -1.0]);
}

/// One random step of a program over [2, 3, 4] tensors.
fn grow<'b>(pool: &[Tensor<'b>], choice: u8, a: usize, b: usize) -> Tensor<'b> {
    let (x, y) = (pool[a % pool.len()], pool[b % pool.len()]);
    match choice % (15 + STEPS) {
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
        15.. => grow::grow(x, y, choice % (15 + STEPS) - 15),
        13 => x.transpose(&[2, 0, 1]).softmax(0).transpose(&[1, 2, 0]),
        _ => x.unary(Op::Silu) + y.reduce_sum(&[0, 1, 2]).tanh(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_programs(steps in prop::collection::vec((any::<u8>(), 0usize..64, 0usize..64), 1..14), seed in 1u64..u64::MAX) {
        for (dtype, numerics, tolerance) in [(DType::Fp32, Numerics::F32, 2e-5), (DType::Fp16, Numerics::Fast, 0.15)] {
            let b = Builder::new("main");
            let mut pool: Vec<_> = (0..2).map(|i| b.input(&format!("x{i}"), TensorType::new(dtype, [2, 3, 4]))).collect();
            for &(choice, i, j) in &steps {
                let next = grow(&pool, choice, i, j);
                pool.push(if numerics == Numerics::Fast { next.tanh() } else { next * 0.5 });
            }
            let outputs: Vec<_> = pool[2..].iter().rev().take(3).copied().collect();
            let f = b.finish(&outputs).unwrap();
            let mut random = Random(seed);
            let inputs: Vec<_> = (0..2).map(|_| random.array(&[2, 3, 4], -1.0, 1.0)).collect();
            compare(&f, &inputs, numerics, tolerance);
        }
    }
}
