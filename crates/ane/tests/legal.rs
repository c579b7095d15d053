//! Every rule with a program that keeps it and one that breaks it.

use ane::legal::{self, Severity, rules};
use ane::{Profile, Violation};
use expect_test::{Expect, expect};
use mil::{
    Arg, Builder, DType, Function, Literal, Op, Operation, Program, Tensor, TensorType, ValueId,
};

fn fp16(shape: &[usize]) -> TensorType {
    TensorType::fp16(shape)
}

/// A program of one formula over the parameters `a`, `b`, … of the given types.
fn program(
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
fn unary(op: Op, width: usize) -> Program {
    program(&[fp16(&[1, 32, 1, width])], |_, x| x[0].unary(op))
}

fn zeros<'b>(b: &'b Builder, shape: &[usize]) -> Tensor<'b> {
    let ty = fp16(shape);
    b.constant(Literal::floats(ty.clone(), &vec![0.0; ty.count()]))
}

/// A constant in a weight file, so that its size costs nothing here.
fn blob<'b>(b: &'b Builder, ty: TensorType) -> Tensor<'b> {
    b.constant(Literal::blob(ty, "@model_path/weights/weight.bin", 64))
}

fn value(t: Tensor<'_>) -> Arg {
    Arg::Value(t.id())
}

fn attribute(b: &Builder, literal: Literal) -> Arg {
    value(b.constant(literal))
}

fn conv<'b>(b: &'b Builder, x: Tensor<'b>, weight: Tensor<'b>, groups: i64) -> Tensor<'b> {
    let groups = attribute(b, Literal::int(groups));
    b.op(Op::Conv, vec![("x", value(x)), ("weight", value(weight)), ("groups", groups)])[0]
}

/// A convolution of x with a weight that is a constant or the second parameter.
fn conv_program(x: &[usize], weight: &[usize], groups: i64, constant: bool) -> Program {
    if constant {
        return program(&[fp16(x)], |b, p| conv(b, p[0], blob(b, fp16(weight)), groups));
    }
    program(&[fp16(x), fp16(weight)], |b, p| conv(b, p[0], p[1], groups))
}

/// x of type `from`, cast to `to`.
fn cast_program(from: DType, to: DType) -> Program {
    program(&[TensorType::new(from, [1, 32, 1, 16])], |_, x| x[0].cast(to))
}

fn port_program(dtype: DType) -> Program {
    let ty = TensorType::new(dtype, [1, 32, 1, 16]);
    program(&[ty], |_, x| x[0].reshape(&[1, 16, 1, 32]))
}

fn matmul_program(x: &[usize], y: &[usize]) -> Program {
    program(&[fp16(x), fp16(y)], |_, p| p[0].matmul(p[1], false, false))
}

fn attention(mask: bool) -> Program {
    let x = fp16(&[1, 4, 16, 32]);
    program(&[x.clone(), x.clone(), x, fp16(&[1, 1, 16, 16])], |b, p| {
        let mut args = vec![("query", value(p[0])), ("key", value(p[1])), ("value", value(p[2]))];
        if mask {
            args.push(("attn_mask", value(p[3])));
        }
        b.op(Op::Attention, args)[0]
    })
}

fn layer_norm(n: usize) -> Program {
    program(&[fp16(&[1, 16, n])], |b, x| {
        let (gamma, beta) = (blob(b, fp16(&[n])), blob(b, fp16(&[n])));
        let axes = attribute(b, Literal::ints(&[2]));
        let args = vec![("x", value(x[0])), ("axes", axes)];
        let affine = vec![("gamma", value(gamma)), ("beta", value(beta))];
        b.op(Op::LayerNorm, [args, affine].concat())[0]
    })
}

fn pad_program(mode: &str, pads: &[i64]) -> Program {
    program(&[fp16(&[1, 32, 4, 16])], |b, x| {
        let pad = attribute(b, Literal::ints(pads));
        let mode = attribute(b, Literal::string(mode));
        let constant = attribute(b, Literal::float(DType::Fp16, 0.0));
        let args =
            vec![("x", value(x[0])), ("pad", pad), ("mode", mode), ("constant_val", constant)];
        b.op(Op::Pad, args)[0]
    })
}

fn quantised(int8: bool) -> Program {
    program(&[fp16(&[1, 32, 1, 16])], |b, x| {
        if !int8 {
            return x[0] * 2.0;
        }
        let scale = b.scalar(DType::Fp16, 0.5);
        let dtype = attribute(b, Literal::string("int8"));
        let args = vec![("input", value(x[0])), ("scale", value(scale)), ("output_dtype", dtype)];
        let q = b.op(Op::Quantize, args)[0];
        b.op(Op::Dequantize, vec![("input", value(q)), ("scale", value(scale))])[0]
    })
}

fn narrow_program(axis: usize, start: usize) -> Program {
    program(&[fp16(&[1, 64, 1, 64])], |_, x| x[0].narrow(axis, start, 16))
}

/// y = 2·a with one change to the finished function.
fn changed(change: impl Fn(&mut Function)) -> Program {
    let mut program = program(&[fp16(&[1, 32, 1, 16])], |_, x| x[0] * 2.0);
    change(&mut program.functions[0]);
    program
}

fn untouched() -> Program {
    changed(|_| {})
}

fn many_inputs(n: usize) -> Program {
    let b = Builder::new("main");
    let x: Vec<_> = (0..n).map(|i| b.input(&format!("x{i}"), fp16(&[1, 32, 1, 16]))).collect();
    let y = x[1..].iter().fold(x[0] + 1.0, |sum, &x| sum + x);
    Program::new(b.finish(&[y.named("y")]).unwrap())
}

struct Case {
    id: &'static str,
    profile: &'static str,
    good: Program,
    bad: Program,
}

fn case(id: &'static str, profile: &'static str, good: Program, bad: Program) -> Case {
    Case { id, profile, good, bad }
}

fn language_cases() -> Vec<Case> {
    let in_place = |literal: bool| {
        program(&[fp16(&[1, 1, 32, 32])], |b, x| {
            let no = Literal::bool(false);
            let no = if literal { Arg::Literal(no) } else { attribute(b, no) };
            let args = vec![("x", value(x[0])), ("y", value(x[0])), ("transpose_x", no)];
            b.op(Op::Matmul, args)[0]
        })
    };
    let mut old = changed(|f| f.opset = "ios16".to_owned());
    old.version = (1, 0);
    vec![
        case("ANE001", "m4", untouched(), changed(|f| f.ops[1].args.truncate(1))),
        case("ANE002", "m4", untouched(), changed(|f| f.values[1].name = "a".to_owned())),
        case("ANE003", "m4", untouched(), changed(|f| f.outputs[0] = ValueId(9))),
        case("ANE004", "m4", untouched(), changed(|f| f.outputs[0] = ValueId(0))),
        case("ANE005", "m1", old, untouched()),
        case("ANE006", "m4", in_place(false), in_place(true)),
    ]
}

fn shape_cases() -> Vec<Case> {
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

fn type_cases() -> Vec<Case> {
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
        case("ANE027", "m3", quantised(false), quantised(true)),
    ]
}

fn convolution_cases() -> Vec<Case> {
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
    let tokens = [1, 32_000, 1, 16];
    vec![
        case("ANE030", "m4", wide(1), conv1(&[1, 32, 16], &[32, 32, 1])),
        case("ANE031", "m1", wide(13), wide(14)),
        case("ANE031", "m4", wide(15), wide(16)),
        case("ANE032", "m4", runtime(1, 1), runtime(2, 1)),
        case("ANE032", "m4", conv_program(&[2, 32, 1, 16], &[8, 32, 1, 1], 1, true), runtime(2, 1)),
        case("ANE033", "m4", runtime(1, 1), runtime(1, 4)),
        case("ANE034", "m4", bias(false), bias(true)),
        case(
            "ANE035",
            "m4",
            conv1(&[1, 768, 1, 16], &[32_000, 768, 1, 1]),
            conv1(&tokens, &[768, 32_000, 1, 1]),
        ),
    ]
}

fn product_cases() -> Vec<Case> {
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
    ]
}

fn arithmetic_cases() -> Vec<Case> {
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
        case("ANE058", "m4", norm(true), norm(false)),
    ]
}

fn layout_cases() -> Vec<Case> {
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
        case("ANE063", "m4", width(16), joined(1)),
        case("ANE064", "m3-ultra", joined(1), joined(3)),
        case("ANE064", "m3-ultra", narrow_program(1, 16), narrow_program(3, 0)),
        case("ANE065", "m4", joined(1), from_the_end()),
        case("ANE070", "m4", width(16), width(8)),
        case("ANE071", "m4", many_inputs(16), many_inputs(17)),
    ]
}

fn cases() -> Vec<Case> {
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

fn broken(program: &Program, profile: &str, id: &str) -> Vec<Violation> {
    let profile: Profile = profile.parse().unwrap();
    let found = legal::violations(program, &profile);
    found.into_iter().filter(|v| v.rule.id == id).collect()
}

#[test]
fn each_rule_finds_its_breach_and_nothing_else() {
    for Case { id, profile, good, bad } in cases() {
        assert_eq!(broken(&good, profile, id), [], "{id} on {profile}: the good program");
        let found = broken(&bad, profile, id);
        assert!(!found.is_empty(), "{id} on {profile}: the bad program passes");
        let profile: Profile = profile.parse().unwrap();
        let warning = legal::rule(id).unwrap().severity == Severity::Warning;
        assert!(warning || legal::check(&bad, &profile).is_err(), "{id}: accepted");
        let verdict = legal::check(&good, &profile);
        assert!(verdict.is_ok(), "{id}: the good program is refused: {verdict:?}");
    }
}

#[test]
fn every_rule_for_programs_has_a_case() {
    let cases = cases();
    for rule in rules().filter(|rule| rule.is_static()) {
        assert!(cases.iter().any(|case| case.id == rule.id), "{} has no case", rule.id);
    }
}

#[test]
fn rules_are_in_order_and_complete() {
    let all: Vec<_> = rules().collect();
    assert!(all.windows(2).all(|w| w[0].id < w[1].id));
    for rule in all {
        assert_eq!(legal::rule(rule.id), Some(rule));
        let texts = [rule.title, rule.applies, rule.does, rule.why, rule.instead, rule.evidence];
        assert!(texts.iter().all(|text| !text.is_empty()), "{}", rule.id);
        assert!(!rule.instead.ends_with('.') && rule.does.ends_with('.'), "{}", rule.id);
        let doubtful = rule.severity == Severity::Warning;
        assert!(!doubtful || rule.refusal.is_none(), "{} warns of a refusal", rule.id);
    }
}

fn messages(program: &Program, profile: &str, expected: Expect) {
    let profile: Profile = profile.parse().unwrap();
    let found = legal::violations(program, &profile);
    let text: String = found.iter().map(|v| format!("{v}\n")).collect();
    expected.assert_eq(&text);
}

#[test]
fn messages_say_where_what_and_how() {
    let packed = program(&[fp16(&[1, 768, 1, 17_920])], |_, x| x[0].narrow(3, 256, 16));
    messages(
        &packed,
        "m1",
        expect![[r#"
        main: ANE005 warning: m1 expects program(1.0) for ios16, got program(1.3) for ios18
          hint: print the program with version (1, 0), opset ios16 and long constants
        main, parameter `a`: ANE012 expected width (axis 3) <= 16384 on m1, got 17920 in tensor<fp16, [1, 768, 1, 17920]>
          hint: cut the tensor along the axis, or move the long axis to the channels
        main, operation 2 `y`: ANE062 warning: expected a slice that starts at 0 of the width, got 256
          hint: slice along the channels, or keep |x| <= 4094
    "#]],
    );
    messages(
        &attention(true),
        "m4",
        expect![[r#"
        main, operation 0 `y`: ANE041 silently wrong: expected no `attn_mask`, got one that is ignored
          hint: write softmax(q·kᵀ/√E + mask)·v with matmul, add and softmax
    "#]],
    );
    messages(
        &conv_program(&[2, 32, 32], &[32, 8, 17], 4, false),
        "m4",
        expect![[r#"
        main, operation 1 `y`: ANE030 expected x of rank 4, got tensor<fp16, [2, 32, 32]>
          hint: expand x and the weight to [N, C, 1, W] and [O, C, 1, kW]
        main, operation 1 `y`: ANE031 expected a kernel width in [1, 15] on m4, got 17 in tensor<fp16, [32, 8, 17]>
          hint: cut the kernel along the width and add the partial results, or turn the axes
        main, operation 1 `y`: ANE032 expected batch 1 with a weight given at run time, got 2
          hint: use matmul, or put the batches side by side along the width
        main, operation 1 `y`: ANE033 expected groups 1 with a weight given at run time, got 4
          hint: use one convolution per group, or a constant weight
        main, parameter `b`: ANE070 warning: expected a width that is a multiple of 16, got tensor<fp16, [32, 8, 17]>
          hint: pad the width to a multiple of 16 and use the first part
    "#]],
    );
    messages(
        &changed(|f| f.ops[1].args.truncate(1)),
        "m4",
        expect![[r#"
        main, operation 1 `y`: ANE001 mul, argument `y`: is missing
          hint: the compiler does not fill in this argument
    "#]],
    );
    messages(
        &changed(|f| f.values[2].ty.shape[3] = 8),
        "m4",
        expect![[r#"
            main, operation 1 `y`: ANE001 `y` is declared tensor<fp16, [1, 32, 1, 8]>, but mul gives tensor<fp16, [1, 32, 1, 16]>
              hint: declare it tensor<fp16, [1, 32, 1, 16]>
        "#]],
    );
    messages(
        &changed(|f| f.outputs = vec![ValueId(2), ValueId(2)]),
        "m4",
        expect![[r#"
            main, output `y`: ANE003 `y` is returned twice
              hint: return it once
        "#]],
    );
    messages(
        &changed(|f| f.outputs[0] = ValueId(0)),
        "m4/e5rt",
        expect![[r#"
            main, output `a`: ANE004 output `a` is an input
              hint: the engine's compiler crashes on it: return mul(x = a, y = fp16(1))
        "#]],
    );
}

#[test]
fn malformed_functions_are_refused_without_a_panic() {
    type Change = fn(&mut Function);
    let broken: [(&str, Change); 9] = [
        ("operand out of range", |f| f.ops[1].args[0].1 = Arg::Value(ValueId(77))),
        ("operand of later", |f| f.ops[1].args[0].1 = Arg::Value(ValueId(2))),
        ("result out of range", |f| f.ops[1].results[0] = ValueId(77)),
        ("results in reverse", |f| f.ops[1].results[0] = ValueId(0)),
        ("no result", |f| f.ops[1].results.clear()),
        ("too many parameters", |f| f.params = 9),
        ("no output", |f| f.outputs.clear()),
        ("literal of the wrong length", |f| f.ops[0].value.as_mut().unwrap().ty.shape = vec![3]),
        ("const without a value", |f| f.ops[0].value = None),
    ];
    for (name, change) in broken {
        let found = legal::check(&changed(change), &Profile::default()).unwrap_err();
        assert!(!found.is_empty(), "{name}");
    }
    let mut two = untouched();
    two.functions.insert(0, changed(|f| f.params = 9).functions.remove(0));
    let found = legal::check(&two, &Profile::default()).unwrap_err();
    assert!(found.iter().any(|v| v.rule.id == "ANE002"));
    two.functions.clear();
    assert!(legal::check(&two, &Profile::default()).is_err());
}

#[test]
fn named_rules_can_be_lifted_except_those_of_the_language() {
    let wide = conv_program(&[1, 32_000, 1, 16], &[16, 32_000, 1, 1], 1, true);
    let profile = Profile::default();
    let refused = legal::check(&wide, &profile).unwrap_err();
    assert_eq!(refused.iter().map(|v| v.rule.id).collect::<Vec<_>>(), ["ANE035"]);
    let verdict = legal::check_allowing(&wide, &profile, &["ane035"]).unwrap();
    assert_eq!(verdict.warnings, refused);
    assert_eq!(verdict.legal.profile(), &profile);
    assert_eq!(verdict.legal.program(), &wide);
    assert_eq!(verdict.legal.constant_bytes(), 16 * 32_000 * 2 + 4); // the weight and `groups`
    let broken = changed(|f| f.outputs.clear());
    assert!(legal::check_allowing(&broken, &profile, &["ANE003"]).is_err());
}

#[test]
fn the_engine_runs_a_transformer_block_of_the_strictest_profile() {
    // Norm, projection, rotary halves, attention with an additive mask: as published programs do.
    let (c, s) = (64, 32);
    let types = [fp16(&[1, c, 1, s]), fp16(&[1, 1, c, c]), fp16(&[1, 1, s, s])];
    let block = program(&types, |_, p| {
        let mean = (p[0] * p[0]).reduce_mean(&[1]);
        let x = (p[0] * (mean + 1e-5).pow(-0.5)).reshape(&[1, 1, c, s]);
        let q = p[1].matmul(x, false, false).reshape(&[1, 4, c / 4, s]);
        let scores = q.matmul(q, true, false) + p[2];
        scores.softmax(-1).matmul(q, false, true).reshape(&[1, c, 1, s])
    });
    for profile in ["m4", "m5-pro/macos26", "m3", "m1", "m2/e5rt"] {
        assert!(legal::check(&block, &profile.parse().unwrap()).is_ok(), "{profile}");
    }
}

#[test]
fn the_kernels_of_a_model_keep_the_rules() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../gpt/tests/golden");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "mil") {
            continue;
        }
        seen += 1;
        let program = mil::check_text(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for profile in ["m4", "m4/macos26/e5rt", "m1", "m2", "m3", "m3-ultra", "m5-pro/macos26"] {
            let verdict = legal::check(&program, &profile.parse().unwrap());
            assert!(verdict.is_ok(), "{} on {profile}: {verdict:?}", path.display());
        }
    }
    assert_eq!(seen, 6, "kernels in {folder}");
}

/// Forms of text that published programs have, with the rules that refuse them, by profile.
#[test]
fn published_forms_are_judged_as_reported() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../mil/tests/text");
    let refused_by = |name: &str, profile: &str| -> Vec<&str> {
        let text = std::fs::read_to_string(format!("{folder}/{name}.mil")).unwrap();
        let program = mil::check_text(&text).unwrap();
        let found = legal::check(&program, &profile.parse().unwrap()).err().unwrap_or_default();
        let errors = found.iter().filter(|v| v.rule.severity != Severity::Warning);
        let mut ids: Vec<_> = errors.map(|v| v.rule.id).collect();
        ids.dedup();
        ids
    };
    let none: [&str; 0] = [];
    for (name, m1, e5rt) in [
        ("conv_fp32_io", &["ANE021", "ANE024"][..], &["ANE022"][..]),
        ("packed_matmul", &["ANE021", "ANE024"], &["ANE022"]),
        ("inline_literals", &[], &[]),
        ("int8_weights", &[], &[]),
        ("several_functions", &[], &[]),
        ("verbose_constants", &[], &[]),
    ] {
        assert_eq!(refused_by(name, "m4"), none, "{name}");
        assert_eq!(refused_by(name, "m1"), m1, "{name}");
        assert_eq!(refused_by(name, "m5/macos26/e5rt"), e5rt, "{name}");
    }
    // A list of all operations, not a published program: cast to int32, conv with bias, masks.
    assert_eq!(refused_by("every_operation", "m4"), ["ANE025", "ANE034", "ANE041"]);
}

#[test]
fn operations_written_by_hand_are_checked_too() {
    let program = changed(|f| {
        let y = f.values[2].clone();
        f.values.push(mil::Value { name: "z".to_owned(), ..y });
        f.ops.push(Operation {
            op: Op::Gelu,
            args: vec![("x", Arg::Value(ValueId(2)))],
            value: None,
            results: vec![ValueId(3)],
            name: "z".to_owned(),
        });
    });
    let found = broken(&program, "m4", "ANE001");
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("`mode`"), "{}", found[0]);
}

#[test]
fn the_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ane-rules.md");
    let page = legal::markdown();
    if std::env::var_os("ANEGPT_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        stored == page,
        "run ANEGPT_BLESS=1 cargo test -p ane --test legal the_page_is_current"
    );
}
