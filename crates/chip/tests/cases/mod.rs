//! For every rule a program that keeps it and one that breaks it.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of this")]

use mil::{Arg, Builder, DType, Function, Literal, Op, Program, Tensor, TensorType, ValueId};

pub fn fp16(shape: &[usize]) -> TensorType {
    TensorType::fp16(shape)
}

/// A program of one formula over the parameters `a`, `b`, … of the given types.
pub fn program(
    inputs: &[TensorType],
    formula: impl for<'b> Fn(&'b Builder, &[Tensor<'b>]) -> Tensor<'b>,
) -> Program {
    let b = Builder::new("main");
    let names = ["a", "b", "c", "d"];
    let x: Vec<Tensor<'_>> =
        inputs.iter().zip(names).map(|(ty, name)| b.input(name, ty.clone())).collect();
    let y = formula(&b, &x);
    Program::new(b.finish(&[y.named("y")]).expect("the formula fits together"))
}

/// A program of one operation without attributes on one [1, 32, 1, `width`] input.
pub fn unary(op: Op, width: usize) -> Program {
    program(&[fp16(&[1, 32, 1, width])], |_, x| x[0].unary(op))
}

pub fn zeros<'b>(b: &'b Builder, shape: &[usize]) -> Tensor<'b> {
    let ty = fp16(shape);
    b.constant(Literal::floats(ty.clone(), &vec![0.0; ty.count()]))
}

/// A constant in a weight file, so that its size costs nothing here.
pub fn blob<'b>(b: &'b Builder, ty: TensorType) -> Tensor<'b> {
    b.constant(Literal::blob(ty, "@model_path/weights/weight.bin", 64))
}

pub fn value(t: Tensor<'_>) -> Arg {
    Arg::Value(t.id())
}

pub fn attribute(b: &Builder, literal: Literal) -> Arg {
    value(b.constant(literal))
}

pub fn conv<'b>(b: &'b Builder, x: Tensor<'b>, weight: Tensor<'b>, groups: i64) -> Tensor<'b> {
    let groups = attribute(b, Literal::int(groups));
    b.op(Op::Conv, vec![("x", value(x)), ("weight", value(weight)), ("groups", groups)])[0]
}

/// A convolution of x with a weight that is a constant or the second parameter.
pub fn conv_program(x: &[usize], weight: &[usize], groups: i64, constant: bool) -> Program {
    if constant {
        return program(&[fp16(x)], |b, p| conv(b, p[0], blob(b, fp16(weight)), groups));
    }
    program(&[fp16(x), fp16(weight)], |b, p| conv(b, p[0], p[1], groups))
}

/// x of type `from`, cast to `to`.
pub fn cast_program(from: DType, to: DType) -> Program {
    program(&[TensorType::new(from, [1, 32, 1, 16])], |_, x| x[0].cast(to))
}

pub fn port_program(dtype: DType) -> Program {
    let ty = TensorType::new(dtype, [1, 32, 1, 16]);
    program(&[ty], |_, x| x[0].reshape(&[1, 16, 1, 32]))
}

pub fn matmul_program(x: &[usize], y: &[usize]) -> Program {
    program(&[fp16(x), fp16(y)], |_, p| p[0].matmul(p[1], false, false))
}

pub fn attention(mask: bool) -> Program {
    let x = fp16(&[1, 4, 16, 32]);
    program(&[x.clone(), x.clone(), x, fp16(&[1, 1, 16, 16])], |b, p| {
        let mut args = vec![("query", value(p[0])), ("key", value(p[1])), ("value", value(p[2]))];
        if mask {
            args.push(("attn_mask", value(p[3])));
        }
        b.op(Op::Attention, args)[0]
    })
}

pub fn layer_norm(n: usize) -> Program {
    program(&[fp16(&[1, 16, n])], |b, x| {
        let (gamma, beta) = (blob(b, fp16(&[n])), blob(b, fp16(&[n])));
        let axes = attribute(b, Literal::ints(&[2]));
        let args = vec![("x", value(x[0])), ("axes", axes)];
        let affine = vec![("gamma", value(gamma)), ("beta", value(beta))];
        b.op(Op::LayerNorm, [args, affine].concat())[0]
    })
}

pub fn pad_program(mode: &str, pads: &[i64]) -> Program {
    program(&[fp16(&[1, 32, 4, 16])], |b, x| {
        let pad = attribute(b, Literal::ints(pads));
        let mode = attribute(b, Literal::string(mode));
        let constant = attribute(b, Literal::float(DType::Fp16, 0.0));
        let args =
            vec![("x", value(x[0])), ("pad", pad), ("mode", mode), ("constant_val", constant)];
        b.op(Op::Pad, args)[0]
    })
}

/// x plus a constant made of int8.
pub fn affine_program(attributes: bool) -> Program {
    program(&[fp16(&[1, 32, 1, 16])], |b, x| {
        let arg = |literal: Literal| {
            if attributes { Arg::Attribute(literal) } else { attribute(b, literal) }
        };
        let bytes = |ty: TensorType, n: i64| Literal::inline(ty, mil::Data::Int(vec![n; 32]));
        let int8 = TensorType::new(DType::Int8, [1, 32, 1, 1]);
        let one = TensorType::new(DType::Int8, [32]);
        let args = vec![
            ("axis", arg(Literal::int(1))),
            ("quantized_data", arg(bytes(int8, 5))),
            ("scale", arg(Literal::float(DType::Fp16, 0.5))),
            ("zero_point", arg(bytes(one, 1))),
        ];
        x[0] + b.op(Op::ConstexprAffineDequantize, args)[0]
    })
}

/// x plus a constant of two blocks.
pub fn blockwise_program(attributes: bool) -> Program {
    program(&[fp16(&[1, 32, 1, 16])], |b, x| {
        let arg = |literal| {
            if attributes { Arg::Attribute(literal) } else { Arg::Literal(literal) }
        };
        let ty = TensorType::new(DType::Int8, [1, 32, 1, 1]);
        let data = Literal::inline(ty, mil::Data::Int((0..32).collect()));
        let scale = Literal::floats(fp16(&[1, 2, 1, 1]), &[0.5, 2.0]);
        x[0] + b
            .op(Op::ConstexprBlockwiseShiftScale, vec![("data", arg(data)), ("scale", arg(scale))])
            [0]
    })
}

pub fn narrow_program(axis: usize, start: usize) -> Program {
    program(&[fp16(&[1, 64, 1, 64])], |_, x| x[0].narrow(axis, start, 16))
}

/// y = 2·a with one change to the finished function.
pub fn changed(change: impl Fn(&mut Function)) -> Program {
    let mut program = program(&[fp16(&[1, 32, 1, 16])], |_, x| x[0] * 2.0);
    change(&mut program.functions[0]);
    program
}

pub fn untouched() -> Program {
    changed(|_| {})
}

pub fn many_inputs(n: usize) -> Program {
    let b = Builder::new("main");
    let x: Vec<_> = (0..n).map(|i| b.input(&format!("x{i}"), fp16(&[1, 32, 1, 16]))).collect();
    let y = x[1..].iter().fold(x[0] + 1.0, |sum, &x| sum + x);
    Program::new(b.finish(&[y.named("y")]).unwrap())
}

pub fn many_outputs(n: usize) -> Program {
    let b = Builder::new("main");
    let x = b.input("x", fp16(&[1, 32, 1, 32]));
    let outputs: Vec<_> = (0..n).map(|i| (x + 1.0).named(&format!("y{i}"))).collect();
    Program::new(b.finish(&outputs).unwrap())
}

/// A rule, a machine, and programs that keep and break it there.
pub struct Case {
    pub id: &'static str,
    pub profile: &'static str,
    pub good: Program,
    pub bad: Program,
}

pub fn case(id: &'static str, profile: &'static str, good: Program, bad: Program) -> Case {
    Case { id, profile, good, bad }
}

pub fn language_cases() -> Vec<Case> {
    let in_place = |literal: bool| {
        program(&[fp16(&[1, 1, 32, 32])], |b, x| {
            let no = Literal::bool(false);
            let no = if literal { Arg::Literal(no) } else { attribute(b, no) };
            let args = vec![("x", value(x[0])), ("y", value(x[0])), ("transpose_x", no)];
            b.op(Op::Matmul, args)[0]
        })
    };
    // The sum over the width, used or not.
    let reduced = |used: bool| {
        let b = Builder::new("main");
        let x = b.input("a", fp16(&[1, 32, 1, 32]));
        let sum = x.reduce_sum(&[3]);
        let y = if used { x + sum } else { x * 2.0 };
        let mut f = b.finish(&[y.named("y"), sum.named("sum")]).expect("it fits together");
        f.outputs.truncate(1);
        Program::new(f)
    };
    let mut bare = untouched();
    bare.build_info.clear();
    let mut old = changed(|f| f.opset = "ios16".to_owned());
    old.version = (1, 0);
    vec![
        case("ANE001", "m4", untouched(), changed(|f| f.ops[1].args.truncate(1))),
        case("ANE002", "m4", untouched(), changed(|f| f.values[1].name = "a".to_owned())),
        case("ANE003", "m4", untouched(), changed(|f| f.outputs[0] = ValueId(9))),
        case("ANE004", "m4", untouched(), changed(|f| f.outputs[0] = ValueId(0))),
        case("ANE005", "m1", old, untouched()),
        case("ANE006", "m4", in_place(false), in_place(true)),
        case("ANE007", "m4", untouched(), bare),
        case("ANE009", "m5", reduced(true), reduced(false)),
        case("ANE009", "m4/macos26", reduced(true), reduced(false)),
    ]
}

pub fn shape_cases() -> Vec<Case> {
    let reshaped = |shape: &'static [usize]| {
        program(&[fp16(&[1, 32, 1, 16])], |_, x| x[0].reshape(shape).reshape(&[1, 32, 16]))
    };
    let wide = |shape: &[usize]| program(&[fp16(shape)], |_, x| x[0] * 2.0);
    let large = |n: usize| {
        program(&[fp16(&[1, 1, 16, 16])], |b, x| {
            let matrix = || blob(b, fp16(&[1, 1, 16_384, 16_384])); // 512 MiB
            let corner = |m: Tensor<'_>| m.slice(&[0; 4], &[1, 1, 16, 16]).id();
            (0..n).fold(x[0] * 2.0, |y, _| y + b.tensor(corner(matrix())))
        })
    };
    vec![
        case("ANE010", "m4", reshaped(&[1, 2, 16, 2, 8]), reshaped(&[1, 2, 2, 8, 2, 8])),
        case("ANE011", "m4", wide(&[1, 1, 1, 16]), wide(&[1, 0, 1, 16])),
        case("ANE012", "m3-ultra", wide(&[1, 1, 1, 16_384]), wide(&[1, 1, 1, 17_920])),
        case("ANE012", "m4", wide(&[1, 1, 1, 65_536]), wide(&[1, 1, 1, 65_552])),
        case("ANE012", "m2", wide(&[1, 1, 16_384, 16]), wide(&[1, 1, 16_400, 16])),
        case("ANE013", "m4", wide(&[1, 65_536, 1, 16]), wide(&[1, 65_537, 1, 16])),
        case("ANE013", "m4", wide(&[1, 1, 16_384, 1, 16]), wide(&[1, 1, 16_385, 1, 16])),
        case("ANE014", "m4", large(6), large(7)),
    ]
}

pub fn type_cases() -> Vec<Case> {
    use DType::*;
    let single = |inside: bool| {
        program(&[TensorType::fp32([1, 32, 1, 16])], |_, x| {
            if inside { x[0] * 2.0 } else { (x[0].cast(Fp16) * 2.0).cast(Fp32) }
        })
    };
    vec![
        case("ANE020", "m4", port_program(Fp16), port_program(Int8)),
        case("ANE021", "m2-pro", port_program(Fp16), port_program(Fp32)),
        case("ANE022", "m4/e5rt", port_program(UInt8), port_program(Fp32)),
        case("ANE022", "m4/e5rt", port_program(Fp16), port_program(Bool)),
        case("ANE023", "m4/e5rt", port_program(UInt8), port_program(UInt16)),
        case("ANE024", "m1", port_program(Fp16), cast_program(Fp16, Fp32)),
        case("ANE025", "m4", cast_program(Fp16, Fp32), cast_program(Fp16, Int32)),
        case("ANE026", "m4", single(false), single(true)),
        case("ANE028", "m4", affine_program(true), affine_program(false)),
        case("ANE029", "m4", blockwise_program(false), blockwise_program(true)),
    ]
}

pub fn convolution_cases() -> Vec<Case> {
    let conv1 = |shape: &[usize], weight: &[usize]| conv_program(shape, weight, 1, true);
    let wide = |n| conv1(&[1, 32, 1, 64], &[16, 32, 1, n]);
    let runtime =
        |n, groups| conv_program(&[n, 32, 1, 16], &[32, 32 / groups as usize, 1, 1], groups, false);
    let bias = |inside: bool| {
        program(&[fp16(&[1, 32, 1, 16])], |b, x| {
            let weight = blob(b, fp16(&[32, 32, 1, 1]));
            if !inside {
                return conv(b, x[0], weight, 1) + zeros(b, &[1, 32, 1, 1]);
            }
            let bias = value(blob(b, fp16(&[32])));
            b.op(Op::Conv, vec![("x", value(x[0])), ("weight", value(weight)), ("bias", bias)])[0]
        })
    };
    let given_bias = || {
        program(&[fp16(&[1, 32, 1, 16]), fp16(&[32])], |b, x| {
            let weight = value(blob(b, fp16(&[32, 32, 1, 1])));
            b.op(Op::Conv, vec![("x", value(x[0])), ("weight", weight), ("bias", value(x[1]))])[0]
        })
    };
    let tokens = [1, 32_000, 1, 16];
    vec![
        case("ANE030", "m4", wide(1), conv1(&[1, 32, 16], &[32, 32, 1])),
        case("ANE031", "m1", wide(13), wide(14)),
        case("ANE031", "m4", wide(15), wide(16)),
        case("ANE032", "m4", runtime(1, 1), runtime(2, 1)),
        case("ANE032", "m4", conv_program(&[2, 32, 1, 16], &[8, 32, 1, 1], 1, true), runtime(2, 1)),
        case("ANE033", "m4", runtime(1, 1), runtime(1, 4)),
        case("ANE034", "m4", bias(false), bias(true)),
        case("ANE036", "m4", bias(true), given_bias()),
        case("ANE036", "m5/e5rt", bias(true), given_bias()),
        case(
            "ANE035",
            "m4",
            conv1(&[1, 768, 1, 16], &[32_000, 768, 1, 1]),
            conv1(&tokens, &[768, 32_000, 1, 1]),
        ),
    ]
}

/// A product of [1, 32, 32, 32] tensors.
pub fn by_equation(equation: &str) -> Program {
    let ty = fp16(&[1, 32, 32, 32]);
    program(&[ty.clone(), ty], |b, x| {
        let values = Arg::Values(vec![x[0].id(), x[1].id()]);
        let equation = attribute(b, Literal::string(equation));
        b.op(Op::Einsum, vec![("values", values), ("equation", equation)])[0]
    })
}

pub fn product_cases() -> Vec<Case> {
    let linear = |shape: &[usize]| {
        program(&[fp16(shape)], |b, x| {
            let weight = blob(b, fp16(&[16, 32]));
            b.op(Op::Linear, vec![("x", value(x[0])), ("weight", value(weight))])[0]
        })
    };
    let inner = |k| matmul_program(&[1, 1, 16, k], &[1, 1, k, 16]);
    let softmax = |n| program(&[fp16(&[1, 16, 1, n])], |_, x| x[0].softmax(-1));
    vec![
        case(
            "ANE040",
            "m4",
            matmul_program(&[2, 3, 16, 32], &[2, 3, 32, 16]),
            matmul_program(&[2, 3, 1, 16, 32], &[2, 3, 1, 32, 16]),
        ),
        case("ANE041", "m4", attention(false), attention(true)),
        case("ANE042", "m4", linear(&[1, 2, 16, 32]), linear(&[1, 1, 2, 16, 32])),
        case("ANE043", "m1", inner(64), inner(48)),
        case("ANE044", "m3", softmax(256), softmax(240)),
        case("ANE045", "m4", by_equation("ahbc,acbe->ahbe"), by_equation("abhc,abce->abhe")),
    ]
}

pub fn arithmetic_cases() -> Vec<Case> {
    let squared =
        |width| program(&[fp16(&[1, 32, 1, width])], |_, x| x[0].unary(Op::Relu).unary(Op::Square));
    let scaled = |op, factor: &'static [usize]| {
        program(&[fp16(&[1, 32, 1, 16])], |b, x| x[0].unary(op) * zeros(b, factor))
    };
    let reduced = |factor| program(&[fp16(&[1, 32, 1, 16])], |_, x| x[0].reduce_sum(&[1]) * factor);
    let broadcast = |b: &[usize], a: &[usize]| program(&[fp16(a), fp16(b)], |_, p| p[0] * p[1]);
    let norm = |pow: bool| {
        program(&[fp16(&[1, 32, 1, 16])], |_, x| {
            let mean = x[0].reduce_mean(&[1]);
            if pow { (mean + 1e-5).pow(-0.5) } else { mean.rsqrt(1e-5) }
        })
    };
    let quotient = |op| {
        let x = fp16(&[1, 8, 1, 32]);
        program(&[x.clone(), x], |_, p| p[0].unary(op) / p[1])
    };
    let log_sum = |op| program(&[fp16(&[1, 32, 1, 16])], |_, x| x[0].reduce(op, &[1]));
    vec![
        case("ANE050", "m2", unary(Op::Tanh, 16), unary(Op::Sin, 16)),
        case("ANE050", "m1-max", unary(Op::Exp, 16), unary(Op::Cos, 16)),
        case("ANE051", "m4", squared(192), squared(80)),
        case("ANE051", "m4", unary(Op::Square, 80), squared(80)),
        case("ANE052", "m5", unary(Op::Floor, 16), unary(Op::Round, 16)),
        case("ANE053", "m4", scaled(Op::Floor, &[1, 32, 1, 1]), scaled(Op::Ceil, &[1])),
        case("ANE054", "m5", reduced(2.0), reduced(0.0)),
        case("ANE055", "m4", unary(Op::Sigmoid, 16), unary(Op::Softplus, 16)),
        case("ANE055", "m4", log_sum(Op::ReduceSum), log_sum(Op::ReduceLogSumExp)),
        case("ANE056", "m1", layer_norm(1008), layer_norm(1024)),
        case("ANE056", "m5", layer_norm(4096), layer_norm(10_240)),
        case(
            "ANE057",
            "m1",
            broadcast(&[1, 8, 1, 1], &[1, 8, 1, 16]),
            broadcast(&[1, 8, 1], &[1, 8, 16]),
        ),
        case(
            "ANE057",
            "m1",
            broadcast(&[1, 1, 16], &[1, 8, 16]),
            broadcast(&[1, 1, 1], &[1, 8, 16]),
        ),
        case("ANE058", "m4", norm(true), norm(false)),
        case("ANE059", "m1", quotient(Op::Exp), quotient(Op::Sqrt)),
    ]
}

pub fn largest(k: i64) -> Program {
    program(&[fp16(&[1, 32, 1, 16])], |b, x| {
        let (k, axis) = (attribute(b, Literal::int(k)), attribute(b, Literal::int(1)));
        b.op(Op::TopK, vec![("x", value(x[0])), ("k", k), ("axis", axis)])[0]
    })
}

pub fn response(size: i64) -> Program {
    program(&[fp16(&[1, 32, 1, 16])], |b, x| {
        let size = attribute(b, Literal::int(size));
        b.op(Op::LocalResponseNorm, vec![("x", value(x[0])), ("size", size)])[0]
    })
}

pub fn layout_cases() -> Vec<Case> {
    let joined = |axis| {
        let x = fp16(&[1, 32, 1, 16]);
        program(&[x.clone(), x], |b, p| b.concat(axis, &[p[0], p[1]]))
    };
    let from_the_end = || {
        let x = fp16(&[1, 32, 1, 16]);
        program(&[x.clone(), x], |b, p| {
            let axis = attribute(b, Literal::int(-3));
            let interleave = attribute(b, Literal::bool(false));
            let values = Arg::Values(vec![p[0].id(), p[1].id()]);
            let args = vec![("axis", axis), ("interleave", interleave), ("values", values)];
            b.op(Op::Concat, args)[0]
        })
    };
    let tiled = || program(&[fp16(&[1, 32, 1, 32])], |_, x| x[0].tile(&[1, 1, 1, 2]));
    let width = |w| program(&[fp16(&[1, 32, 1, w])], |_, x| x[0] * 2.0);
    vec![
        case("ANE060", "m1", pad_program("constant", &[1, 1]), pad_program("reflect", &[1, 1])),
        case(
            "ANE061",
            "m4",
            pad_program("constant", &[1, 1, 2, 2]),
            pad_program("constant", &[1, 1, 0, 0, 0, 0]),
        ),
        case("ANE062", "m1", narrow_program(3, 0), narrow_program(3, 16)),
        case("ANE062", "m2", narrow_program(1, 16), narrow_program(3, 16)),
        case("ANE064", "m3-ultra", joined(1), joined(3)),
        case("ANE064", "m3-ultra", narrow_program(1, 16), narrow_program(3, 0)),
        case("ANE065", "m4", joined(1), from_the_end()),
        case("ANE066", "m4/e5rt", width(16), unary(Op::Identity, 16)),
        case("ANE067", "m4", width(32), tiled()),
        case("ANE068", "m4", largest(2), largest(3)),
        case("ANE068", "m5/e5rt", largest(5), largest(4)),
        case("ANE069", "m4", response(15), response(17)),
        case("ANE070", "m4", width(32), width(8)),
        case("ANE070", "m5", width(64), width(48)),
        case("ANE071", "m4", many_inputs(16), many_inputs(17)),
        case("ANE072", "m4", many_inputs(255), many_inputs(256)),
        case("ANE072", "m4", many_outputs(255), many_outputs(256)),
    ]
}

pub fn cases() -> Vec<Case> {
    [
        language_cases(),
        shape_cases(),
        type_cases(),
        convolution_cases(),
        product_cases(),
        arithmetic_cases(),
        layout_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
