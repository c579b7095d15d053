//! Every safe rewrite: a program that breaks the rule, rewritten, keeps it and computes the same.

mod cases;

use cases::{Case, attention, cases, changed, conv_program, fp16, program, value};
use chip::legal::fix::{NotProven, has_fix, prove};
use chip::legal::{self, Severity, fix};
use chip::{Applied, Profile};
use mil::blob::BlobWriter;
use mil::interp::{Array, evaluate};
use mil::{
    Arg, Builder, DType, Data, Function, Literal, Op, Program, TensorType, ValueId, Weights,
    check_text,
};
use std::collections::BTreeSet;

fn profile(text: &str) -> Profile {
    text.parse().unwrap()
}

fn breaks(program: &Program, on: &str, id: &str) -> bool {
    legal::violations(program, &profile(on)).iter().any(|v| v.rule.id == id)
}

/// Fixes `bad` for a machine and shows that the rule is kept and the results are the same.
#[track_caller]
fn mended(bad: &Program, on: &str, id: &str) -> (Program, Vec<Applied>) {
    assert!(breaks(bad, on, id), "{id} on {on}: nothing to mend");
    let fixed = fix(bad, &profile(on), &[]);
    assert!(!fixed.applied.is_empty(), "{id} on {on}");
    assert!(!breaks(&fixed.program, on, id), "{id} on {on} is left in\n{}", fixed.program);
    let text = fixed.program.to_string();
    assert_eq!(check_text(&text).as_ref(), Ok(&fixed.program), "{id}: canonical text\n{text}");
    (fixed.program, fixed.applied)
}

/// As [`mended`], with the proof.
#[track_caller]
fn equal(bad: &Program, on: &str, id: &str) -> f64 {
    let (program, applied) = mended(bad, on, id);
    let proof = match prove(bad, &program, &applied, &Weights::new(), 7) {
        Ok(proof) => proof,
        Err(error) => panic!("{id} on {on}: {error}\n{bad}\n{program}"),
    };
    assert!(proof.alike + proof.parts > 0 && proof.largest <= proof.bound);
    assert!(proof.single_largest <= proof.single_bound());
    if proof.single_values == 0 && check_text(&bad.to_string()).is_ok() {
        let difference = from_end_to_end(bad, &program);
        assert!(difference <= proof.bound, "{id} on {on}: {difference:e}\n{bad}\n{program}");
    }
    proof.largest.max(proof.single_largest)
}

/// Largest difference of the results of two programs, relative to the largest one or 1: both run as a
/// whole by the interpreter. What the first one lacks of a wider port is noise.
fn from_end_to_end(before: &Program, after: &Program) -> f64 {
    let mut state = 0x2545_F491_u64;
    let mut random = |shape: &[usize], integer: bool| {
        Array::from_fn(shape, |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            let unit = (state >> 54) as f64 / 512.0 - 1.0;
            if integer { f64::from(unit > 0.0) } else { unit }
        })
    };
    let mut worst = 0.0f64;
    for (f, g) in before.functions.iter().zip(&after.functions) {
        let inputs: Vec<Array> =
            f.inputs().map(|id| random(&f.ty(id).shape, !f.ty(id).dtype.is_float())).collect();
        let wide: Vec<Array> = (g.inputs().zip(&inputs))
            .map(|(id, x)| {
                let shape = &g.ty(id).shape;
                let noise = random(shape, !g.ty(id).dtype.is_float());
                let narrow = x.shape.last().copied().unwrap_or(1);
                Array::from_fn(shape, |at| match at.last() {
                    Some(&column) if column >= narrow => flat(&noise, at),
                    _ => flat(x, at),
                })
            })
            .collect();
        let weights = Weights::new();
        let run = |f: &Function, inputs: &[Array]| evaluate(f, inputs, &weights).ok();
        let (Some(x), Some(y)) = (run(f, &inputs), run(g, &wide)) else { continue };
        for (x, y) in x.iter().zip(&y) {
            let scale = x.data.iter().filter(|v| v.is_finite()).fold(1.0f64, |s, v| s.max(v.abs()));
            let got = Array::from_fn(&x.shape, |at| flat(y, at));
            for (a, b) in x.data.iter().zip(&got.data) {
                let same = a == b || a.is_nan() && b.is_nan();
                worst = worst.max(if same { 0.0 } else { (a - b).abs() / scale });
            }
        }
    }
    worst
}

/// The element at an index.
fn flat(x: &Array, at: &[usize]) -> f64 {
    x.data[at.iter().zip(&x.shape).fold(0, |n, (i, extent)| n * extent + i)]
}

/// Rules whose breaches in the cases have no safe rewrite, and why not.
const LEFT: [(&str, &str); 17] = [
    ("ANE011", "an empty tensor has nothing to compute"),
    ("ANE012", "a tensor is cut by who binds it"),
    ("ANE013", "a tensor is cut by who binds it"),
    ("ANE014", "programs are cut by who loads them"),
    ("ANE020", "integers are converted by who binds them"),
    ("ANE023", "integers are converted by who binds them"),
    ("ANE025", "the engine has no integers of that width"),
    ("ANE045", "what the compiler makes of it is not known"),
    ("ANE050", "there is no other sine"),
    ("ANE052", "there is no other rounding"),
    ("ANE060", "slices of single columns meet the path of ANE062"),
    ("ANE059", "there is no other root"),
    ("ANE067", "there is no other way to repeat that is known to work"),
    ("ANE069", "sums in another order round differently"),
    ("ANE071", "packing changes what is bound"),
    ("ANE072", "programs are cut by who loads them"),
    ("ANE001", "the case leaves out an operand"),
];

#[test]
fn every_rule_is_mended_or_left_for_a_reason() {
    let mut mended = BTreeSet::new();
    for Case { id, profile: on, bad, .. } in cases() {
        let fixed = fix(&bad, &profile(on), &[]);
        let broken = breaks(&fixed.program, on, id);
        assert!(!broken || fixed.applied.iter().all(|a| a.rule.id != id), "{id} on {on}");
        if broken {
            continue;
        }
        // Nothing else that is refused came in.
        let before = legal::violations(&bad, &profile(on));
        for new in legal::violations(&fixed.program, &profile(on)) {
            let known = before.iter().any(|v| v.rule == new.rule);
            assert!(known || new.rule.severity == Severity::Warning, "{id} on {on}: {new}");
        }
        let text = fixed.program.to_string();
        assert_eq!(check_text(&text).as_ref(), Ok(&fixed.program), "{id}: canonical text\n{text}");
        match prove(&bad, &fixed.program, &fixed.applied, &Weights::new(), 7) {
            Ok(proof) => {
                assert!(proof.alike + proof.parts > 0 && proof.largest <= proof.bound, "{id}");
                assert!(proof.single_largest <= proof.single_bound(), "{id}");
            }
            Err(error) => panic!("{id} on {on}: {error}\n{bad}\n{text}"),
        }
        assert!(has_fix(legal::rule(id).unwrap()), "{id}");
        mended.insert(id);
    }
    for rule in legal::rules().filter(|rule| rule.is_static()) {
        let left = LEFT.iter().any(|(left, _)| *left == rule.id);
        // What is returned twice is mended, what nothing defines is not.
        let here = mended.contains(rule.id) || rule.id == "ANE003";
        assert_ne!(left, here, "{} {}", rule.id, rule.title);
    }
}

// ---- the text ----

const HEAD: &str = "program(1.3)
    [buildInfo = dict<string, string>({{\"coremlc-version\", \"3505.4.1\"}})]
    { func main<ios18>(tensor<fp16, [1, 4, 1, 32]> x) {";

/// A program of x, fp16 [1, 4, 1, 32], that may break rules of the language. Widths of 16 in the
/// statements stand for that of x.
fn parsed(statements: &str, outputs: &str) -> Program {
    let statements = statements.replace("1, 16]", "1, 32]").replace("[4, 16]", "[4, 32]");
    mil::parse(&format!("{HEAD}\n{statements}\n}} -> ({outputs}); }}")).unwrap()
}

#[test]
fn arguments_left_out_get_the_languages_values() {
    for (op, default) in [
        ("gelu", "mode = string(\"EXACT\")"),
        ("rsqrt", "epsilon = fp16(1e-12)"),
        ("log", "epsilon = fp16(1e-45)"),
        ("inverse", "epsilon = fp16(1e-4)"),
    ] {
        let with = |args: &str| {
            parsed(&format!("tensor<fp16, [1, 4, 1, 16]> y = {op}(x = x{args});"), "y")
        };
        let (program, _) = mended(&with(""), "m4/e5rt", "ANE001");
        let complete = with(&format!(", {default}"));
        assert_eq!(prove(&complete, &program, &[], &Weights::new(), 1).unwrap().largest, 0.0);
    }
    let concat =
        parsed("tensor<fp16, [1, 8, 1, 16]> y = concat(axis = int32(1), values = (x, x));", "y");
    let (program, applied) = mended(&concat, "m4/e5rt", "ANE001");
    assert!(applied[0].rewrite.contains("`interleave` of concat is bool(false)"), "{applied:?}");
    assert_eq!(program.functions[0].value(program.functions[0].outputs[0]).ty.shape[1], 8);
}

#[test]
fn types_are_declared_as_they_follow() {
    let wrong = "tensor<fp32, [4, 16]> a = relu(x = x); tensor<fp16, [1]> y = exp(x = a);";
    let bad = parsed(wrong, "y");
    assert_eq!(equal(&bad, "m4", "ANE001"), 0.0);
    // Nothing can be said of operands that do not fit together.
    let unfit = parsed("tensor<fp16, [1, 4, 1, 16]> y = matmul(x = x, y = x);", "y");
    let fixed = fix(&unfit, &profile("m4"), &[]);
    assert!(fixed.applied.is_empty() && breaks(&fixed.program, "m4", "ANE001"));
}

#[test]
fn names_given_twice_are_told_apart() {
    let mut bad = parsed(
        "tensor<fp16, [1, 4, 1, 16]> a = exp(x = x); tensor<fp16, [1, 4, 1, 16]> b = relu(x = a);
         tensor<fp16, [1, 4, 1, 16]> y = add(x = a, y = b);",
        "y",
    );
    // Inner values called like an input, like each other, and like an output.
    for (i, name) in [(1, "x"), (2, "y")] {
        bad.functions[0].values[i].name = name.to_owned();
    }
    let mut twin = bad.functions[0].clone();
    twin.name = "main".to_owned();
    bad.functions.push(twin);
    equal(&bad, "m4", "ANE002");
    let (program, _) = mended(&bad, "m4", "ANE002");
    let f = &program.functions[0];
    let names: Vec<_> = f.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["x", "x_1", "y_1", "y"], "ports keep their names");
    assert_eq!(program.functions[1].name, "main_1");
}

#[test]
fn outputs_that_cannot_be_ports_become_copies() {
    let twice = parsed("tensor<fp16, [1, 4, 1, 16]> y = exp(x = x);", "y, y");
    assert_eq!(equal(&twice, "m4", "ANE003"), 0.0);
    let input = parsed("tensor<fp16, [1, 4, 1, 16]> y = exp(x = x);", "x, y");
    assert_eq!(equal(&input, "m4", "ANE004"), 0.0);
    let dead = changed(|f| f.outputs[0] = ValueId(9));
    assert!(fix(&dead, &profile("m4"), &[]).applied.is_empty());
}

#[test]
fn literals_in_place_become_constants() {
    let bad = parsed(
        "tensor<fp16, [1, 4, 1, 16]> a = clip(x = x, alpha = fp16(-0.5), beta = fp16(0.5));
         tensor<fp16, [1, 4, 1, 16]> y = mul(x = a, y = fp16(3));",
        "y",
    );
    assert_eq!(equal(&bad, "m4", "ANE006"), 0.0);
    let (program, _) = mended(&bad, "m4", "ANE006");
    let literal = |arg: &Arg| matches!(arg, Arg::Literal(_));
    assert!(!program.functions[0].ops.iter().flat_map(|op| &op.args).any(|(_, arg)| literal(arg)));
}

// ---- convolutions ----

/// Geometry of a test: spatial attributes in the order height, width.
struct Geometry {
    strides: [i64; 2],
    pad: [i64; 4],
    dilations: [i64; 2],
    groups: i64,
}

const PLAIN: Geometry = Geometry { strides: [1, 1], pad: [0; 4], dilations: [1, 1], groups: 1 };

fn convolution(x: &[usize], weight: &[usize], g: &Geometry, constant: bool, bias: bool) -> Program {
    let types = [fp16(x), fp16(weight)];
    let types = if constant { &types[..1] } else { &types[..] };
    program(types, |b, p| {
        let numbers = |shape: &[usize]| {
            let ty = fp16(shape);
            let values: Vec<f64> =
                (0..ty.count()).map(|i| (i * 7 % 13) as f64 / 16.0 - 0.4).collect();
            b.constant(Literal::floats(ty, &values))
        };
        let weight = if constant { numbers(weight) } else { p[1] };
        let ints = |v: &[i64]| value(b.constant(Literal::ints(v)));
        let mut args = vec![
            ("x", value(p[0])),
            ("weight", value(weight)),
            ("strides", ints(&g.strides)),
            ("pad_type", value(b.constant(Literal::string("custom")))),
            ("pad", ints(&g.pad)),
            ("dilations", ints(&g.dilations)),
            ("groups", value(b.constant(Literal::int(g.groups)))),
        ];
        if bias {
            args.push(("bias", value(numbers(&weight.shape()[..1]))));
        }
        b.op(Op::Conv, args)[0]
    })
}

#[test]
fn wide_kernels_are_cut() {
    for width in [16, 17, 31, 46] {
        for constant in [true, false] {
            let bad = convolution(&[1, 3, 2, 96], &[4, 3, 2, width], &PLAIN, constant, false);
            equal(&bad, "m4", "ANE031");
            equal(&bad, "m1", "ANE031");
        }
    }
    let turned = Geometry { strides: [2, 3], pad: [1, 0, 5, 9], dilations: [1, 2], groups: 1 };
    let bad = convolution(&[1, 3, 4, 96], &[4, 3, 2, 18], &turned, true, true);
    equal(&bad, "m5", "ANE031");
    let several = convolution(&[2, 3, 2, 64], &[4, 3, 2, 18], &PLAIN, true, false);
    equal(&several, "m4", "ANE031");
}

#[test]
fn batches_and_groups_are_taken_apart() {
    let bad = convolution(&[3, 4, 2, 16], &[5, 4, 1, 1], &PLAIN, false, false);
    assert!(!mended(&bad, "m4", "ANE032").0.to_string().contains("concat"), "side by side");
    equal(&bad, "m4", "ANE032");
    let turned = Geometry { strides: [1, 2], pad: [1, 1, 1, 0], dilations: [1, 1], groups: 1 };
    equal(&convolution(&[3, 4, 4, 32], &[5, 4, 3, 3], &turned, false, true), "m4", "ANE032");
    let grouped = Geometry { groups: 4, ..PLAIN };
    equal(&convolution(&[1, 8, 2, 16], &[8, 2, 1, 3], &grouped, false, false), "m4", "ANE033");
    let both = convolution(&[2, 8, 2, 16], &[8, 2, 1, 3], &grouped, false, true);
    equal(&both, "m4", "ANE032");
    equal(&both, "m4", "ANE033");
    equal(&both, "m4", "ANE034");
}

#[test]
fn channels_beyond_the_limit_are_summed_in_parts() {
    let plain =
        |constant| convolution(&[1, 16_500, 1, 16], &[2, 16_500, 1, 1], &PLAIN, constant, false);
    assert!(equal(&plain(true), "m4", "ANE035") < 1e-5);
    equal(&plain(false), "m4", "ANE035");
}

#[test]
fn one_spatial_axis_becomes_two() {
    for constant in [true, false] {
        let types = [fp16(&[1, 3, 32]), fp16(&[4, 3, 5])];
        let types = if constant { &types[..1] } else { &types[..] };
        let bad = program(types, |b, p| {
            let weight = if constant {
                b.constant(Literal::floats(fp16(&[4, 3, 5]), &[0.25; 60]))
            } else {
                p[1]
            };
            let ints = |v: &[i64]| value(b.constant(Literal::ints(v)));
            let args = vec![
                ("x", value(p[0])),
                ("weight", value(weight)),
                ("strides", ints(&[2])),
                ("pad_type", value(b.constant(Literal::string("custom")))),
                ("pad", ints(&[1, 2])),
                ("dilations", ints(&[2])),
                ("groups", value(b.constant(Literal::int(1)))),
            ];
            b.op(Op::Conv, args)[0]
        });
        equal(&bad, "m4", "ANE030");
    }
}

// ---- products ----

#[test]
fn products_of_five_axes_lose_one() {
    let bad = |x: &[usize], y: &[usize]| {
        program(&[fp16(x), fp16(y)], |_, p| p[0].matmul(p[1], false, true))
    };
    for (x, y) in [
        (&[2, 3, 2, 4, 8][..], &[2, 3, 2, 16, 8][..]),
        (&[2, 3, 2, 4, 8], &[1, 1, 2, 16, 8]),
        (&[1, 1, 2, 4, 8], &[2, 3, 2, 16, 8]),
        (&[2, 3, 2, 4, 8], &[16, 8]),
        (&[2, 3, 2, 4, 8], &[1, 2, 16, 8]),
    ] {
        assert_eq!(equal(&bad(x, y), "m4", "ANE040"), 0.0, "{x:?} {y:?}");
    }
    // One axis of the batch broadcasts here and the other there: nothing to merge.
    let mixed = bad(&[2, 1, 2, 4, 8], &[1, 3, 2, 16, 8]);
    assert!(breaks(&fix(&mixed, &profile("m4"), &[]).program, "m4", "ANE040"));
}

#[test]
fn inner_extents_are_filled_up() {
    for (tx, ty) in [(false, false), (true, false), (false, true), (true, true)] {
        let x = if tx { [1, 2, 40, 16] } else { [1, 2, 16, 40] };
        let y = if ty { [1, 2, 16, 40] } else { [1, 2, 40, 16] };
        let bad = program(&[fp16(&x), fp16(&y)], |_, p| p[0].matmul(p[1], tx, ty));
        assert_eq!(equal(&bad, "m1", "ANE043"), 0.0);
    }
}

#[test]
fn softmax_is_filled_up_to_a_power_of_two() {
    for axis in [-1, 2] {
        let bad = program(&[fp16(&[1, 4, 48, 80])], |_, x| x[0].softmax(axis));
        assert_eq!(equal(&bad, "m3", "ANE044"), 0.0);
    }
}

#[test]
fn masks_are_added_outside_of_attention() {
    let masked = |width: usize, dtype: DType| {
        let x = fp16(&[1, 2, 16, width]);
        let types = [x.clone(), x.clone(), x, TensorType::new(dtype, [1, 1, 16, 16])];
        program(&types, |b, p| {
            let keys = ["query", "key", "value", "attn_mask"];
            let mask = if dtype == DType::Bool { p[3] } else { p[3] * 2.0 };
            let values = [p[0], p[1], p[2], mask];
            b.op(Op::Attention, keys.into_iter().zip(values.map(value)).collect())[0]
        })
    };
    let rounded = equal(&masked(32, DType::Fp16), "m4", "ANE041");
    assert!(rounded > 0.0 && rounded < 1e-3, "1/√32 is rounded to fp16: {rounded:e}");
    assert!(equal(&masked(64, DType::Fp16), "m4", "ANE041") < 1e-13, "1/√64 is not");
    equal(&attention(true), "m4", "ANE041");
}

// ---- elements ----

#[test]
fn elementwise_rewrites_are_exact() {
    let square = program(&[fp16(&[1, 4, 1, 80])], |_, x| x[0].unary(Op::Relu).unary(Op::Square));
    assert_eq!(equal(&square, "m4", "ANE051"), 0.0);
    for after in [true, false] {
        let scaled = program(&[fp16(&[1, 4, 1, 16])], |_, x| {
            if after { x[0].unary(Op::Floor) * 3.0 } else { (x[0] * 3.0).unary(Op::Round) }
        });
        assert_eq!(equal(&scaled, "m4", "ANE053"), 0.0);
    }
    let zeroed = program(&[fp16(&[1, 4, 1, 16])], |_, x| x[0].reduce_sum(&[1]) * 0.0);
    assert_eq!(equal(&zeroed, "m5", "ANE054"), 0.0);
    let three = program(&[fp16(&[1, 8, 16]), fp16(&[1, 8, 1])], |_, p| p[0] / p[1]);
    assert_eq!(equal(&three, "m1", "ANE057"), 0.0);
}

#[test]
fn stable_forms_hold_where_the_engine_collapses() {
    let softplus = program(&[fp16(&[1, 4, 1, 16])], |_, x| (x[0] * 30.0).unary(Op::Softplus));
    equal(&softplus, "m4", "ANE055");
    for keep in [true, false] {
        let sum = program(&[fp16(&[2, 4, 1, 16])], |b, x| {
            let axes = value(b.constant(Literal::ints(&[1, 3])));
            let keep = value(b.constant(Literal::bool(keep)));
            let x = value(x[0] * 30.0);
            b.op(Op::ReduceLogSumExp, vec![("x", x), ("axes", axes), ("keep_dims", keep)])[0]
        });
        equal(&sum, "m4", "ANE055");
    }
    for op in [Op::Rsqrt, Op::Sqrt] {
        let root = program(&[fp16(&[1, 4, 1, 16])], |_, x| {
            let mean = (x[0] * x[0]).reduce_mean(&[1]);
            if op == Op::Rsqrt { mean.rsqrt(0.25) } else { mean.unary(op) }
        });
        equal(&root, "m4", "ANE058");
    }
}

#[test]
fn gains_of_wide_norms_are_applied_apart() {
    for both in [true, false] {
        let norm = program(&[fp16(&[1, 2, 1024])], |b, x| {
            let numbers = |k: f64| {
                let values: Vec<f64> = (0..1024).map(|i| k + i as f64 / 1024.0).collect();
                value(b.constant(Literal::floats(fp16(&[1024]), &values)))
            };
            let mut args = vec![
                ("x", value(x[0])),
                ("axes", value(b.constant(Literal::ints(&[2])))),
                ("gamma", numbers(0.5)),
                ("epsilon", value(b.scalar(DType::Fp16, 0.125))),
            ];
            if both {
                args.insert(3, ("beta", numbers(-1.0)));
            }
            b.op(Op::LayerNorm, args)[0]
        });
        equal(&norm, "m2", "ANE056");
    }
}

// ---- layout ----

#[test]
fn cuts_of_the_width_go_by_the_channels() {
    let slice = program(&[fp16(&[1, 4, 2, 64])], |_, x| x[0].narrow(3, 16, 32));
    assert_eq!(equal(&slice, "m2", "ANE062"), 0.0);
    assert_eq!(equal(&slice, "m3-ultra", "ANE064"), 0.0);
    let flat = program(&[fp16(&[4, 64])], |_, x| x[0].narrow(1, 16, 32));
    assert_eq!(equal(&flat, "m1", "ANE062"), 0.0);
    let split = program(&[fp16(&[1, 4, 2, 64])], |_, x| {
        let parts = x[0].split(3, 4);
        parts[0] * 2.0 - parts[3] * parts[1]
    });
    assert_eq!(equal(&split, "m2", "ANE062"), 0.0);
    let stepped = program(&[fp16(&[1, 4, 2, 64])], |b, x| {
        let ints = |v: &[i64]| value(b.constant(Literal::ints(v)));
        let args = vec![
            ("x", value(x[0])),
            ("begin", ints(&[0, 1, 0, 3])),
            ("end", ints(&[1, 4, 2, 60])),
            ("stride", ints(&[1, 2, 1, 5])),
        ];
        b.op(Op::SliceByIndex, args)[0]
    });
    assert_eq!(equal(&stepped, "m2", "ANE062"), 0.0);
    let joined = program(&[fp16(&[1, 4, 2, 16]), fp16(&[1, 4, 2, 32])], |b, p| {
        b.concat(3, &[p[1], p[0], p[1]])
    });
    assert_eq!(equal(&joined, "m3-ultra", "ANE064"), 0.0);
}

#[test]
fn padding_of_channels_is_joined() {
    for pads in [[1, 2, 0, 0, 0, 0], [0, 3, 1, 0, 2, 2]] {
        let bad = program(&[fp16(&[1, 4, 2, 16])], |b, x| {
            let args = vec![
                ("x", value(x[0])),
                ("pad", value(b.constant(Literal::ints(&pads)))),
                ("mode", value(b.constant(Literal::string("constant")))),
                ("constant_val", value(b.scalar(DType::Fp16, 0.75))),
            ];
            b.op(Op::Pad, args)[0]
        });
        assert_eq!(equal(&bad, "m4", "ANE061"), 0.0);
    }
}

#[test]
fn six_axes_between_reshapes_are_skipped() {
    let bad = program(&[fp16(&[8, 16])], |_, x| {
        let six = x[0].exp().reshape(&[2, 2, 2, 4, 2, 2]);
        six.reshape(&[4, 32]).reshape(&[128]) + six.reshape(&[128])
    });
    assert_eq!(equal(&bad, "m4", "ANE010"), 0.0);
    let used = program(&[fp16(&[8, 32])], |_, x| {
        x[0].reshape(&[2, 2, 2, 4, 2, 4]).exp().reshape(&[8, 32])
    });
    assert!(fix(&used, &profile("m4"), &[]).applied.is_empty());
}

// ---- ports ----

fn single(width: usize) -> Program {
    program(&[TensorType::fp32([1, 4, 1, width])], |_, x| {
        (x[0].cast(DType::Fp16) * 2.0).cast(DType::Fp32)
    })
}

fn port_types(program: &Program) -> Vec<String> {
    let f = &program.functions[0];
    f.inputs()
        .chain(f.outputs.iter().copied())
        .map(|id| format!("{} {}", f.value(id).name, f.ty(id)))
        .collect()
}

#[test]
fn fp32_ports_become_fp16_where_nothing_converts() {
    for on in ["m1", "m4/e5rt"] {
        let rule = if on == "m1" { "ANE021" } else { "ANE022" };
        assert_eq!(equal(&single(32), on, rule), 0.0);
        let (program, _) = mended(&single(32), on, rule);
        let half = "tensor<fp16, [1, 4, 1, 32]>";
        assert_eq!(port_types(&program), [format!("a {half}"), format!("y {half}")]);
        assert!(!program.to_string().contains("cast("), "{program}");
    }
    // What only passes through is copied, so that the output has an operation.
    let through = program(&[TensorType::fp32([1, 4, 1, 16])], |_, x| {
        x[0].cast(DType::Fp16).cast(DType::Fp32)
    });
    assert_eq!(equal(&through, "m1", "ANE024"), 0.0);
}

#[test]
fn arithmetic_in_fp32_moves_to_fp16_if_its_constants_fit() {
    let formula = |constant: f64| {
        program(&[TensorType::fp32([1, 4, 1, 32])], |_, x| (x[0] * constant).exp() + x[0])
    };
    assert_eq!(equal(&formula(0.75), "m4", "ANE026"), 0.0);
    let (program, _) = mended(&formula(0.75), "m4", "ANE026");
    assert!(port_types(&program)[1].contains("fp32"), "ports stay");
    assert!(fix(&formula(0.1), &profile("m4"), &[]).applied.is_empty(), "fp16 has no 0.1");
    // On M1 the ports follow.
    let (program, _) = mended(&formula(0.75), "m1", "ANE026");
    assert!(!breaks(&program, "m1", "ANE021") && !breaks(&program, "m1", "ANE024"));
    assert!(prove(&formula(0.75), &program, &[], &Weights::new(), 3).is_ok());
}

#[test]
fn ports_are_widened_to_multiples_of_32() {
    let bad = program(&[fp16(&[1, 4, 1, 30]), fp16(&[1, 4, 1, 1])], |_, p| p[0] * p[1]);
    assert_eq!(equal(&bad, "m4", "ANE070"), 0.0);
    let (program, _) = mended(&bad, "m4", "ANE070");
    assert_eq!(
        port_types(&program),
        [
            "a tensor<fp16, [1, 4, 1, 32]>",
            "b tensor<fp16, [1, 4, 1, 32]>",
            "y tensor<fp16, [1, 4, 1, 32]>",
        ]
    );
    assert_eq!(equal(&single(30), "m4", "ANE070"), 0.0);
    // The value returned may serve for more.
    let bad = parsed(
        "tensor<int32, [4]> b = const()[val = tensor<int32, [4]>([0, 0, 0, 0])];
         tensor<int32, [4]> s = const()[val = tensor<int32, [4]>([1, 4, 1, 7])];
         tensor<fp16, [1, 4, 1, 7]> h = slice_by_size(x = x, begin = b, size = s);
         tensor<fp16, [1, 4, 1, 7]> y = exp(x = h);",
        "h, y",
    );
    assert_eq!(equal(&bad, "m4", "ANE070"), 0.0);
}

/// Programs of other projects, in the forms that they write.
#[test]
fn published_programs_become_legal_everywhere() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../mil/tests/text");
    for name in [
        "conv_fp32_io",
        "packed_matmul",
        "inline_literals",
        "int8_weights",
        "several_functions",
        "verbose_constants",
    ] {
        let text = std::fs::read_to_string(format!("{folder}/{name}.mil")).unwrap();
        let bad = check_text(&text).unwrap();
        for on in ["m1", "m2/macos26", "m3", "m3-ultra", "m4", "m4/e5rt", "m5/macos26"] {
            let fixed = fix(&bad, &profile(on), &[]);
            let verdict = legal::check(&fixed.program, &profile(on));
            assert!(verdict.is_ok(), "{name} on {on}: {:?}", verdict.err());
            let proof = fixed.prove(&bad, &Weights::new(), 3);
            assert!(proof.is_ok(), "{name} on {on}: {proof:?}");
        }
    }
}

// ---- all together ----

#[test]
fn rules_can_be_left_alone() {
    let bad = program(&[fp16(&[1, 4, 1, 30])], |_, x| x[0].unary(Op::Relu).unary(Op::Softplus));
    let fixed = fix(&bad, &profile("m4"), &["ane070"]);
    assert!(fixed.applied.iter().all(|a| a.rule.id == "ANE055"), "{:?}", fixed.applied);
    assert!(breaks(&fixed.program, "m4", "ANE070"));
    assert!(fix(&bad, &profile("m4"), &["ANE070", "ANE055"]).applied.is_empty());
}

#[test]
fn a_program_with_many_faults_becomes_legal() {
    let shape = [2, 8, 2, 30];
    let bad = program(&[fp16(&shape), fp16(&[8, 4, 1, 18]), fp16(&[8, 1, 1])], |b, p| {
        let groups = value(b.constant(Literal::int(2)));
        let args = vec![("x", value(p[0])), ("weight", value(p[1])), ("groups", groups)];
        let y = b.op(Op::Conv, args)[0].unary(Op::Softplus).unary(Op::Square) * p[2];
        let rows = y.reshape(&[1, 2, 8, 2, 13]).matmul(y.reshape(&[1, 2, 8, 2, 13]), false, true);
        rows.reshape(&[1, 16, 2, 2]).narrow(3, 1, 1)
    });
    for on in ["m1", "m2/macos26", "m3", "m3-ultra", "m4", "m5/e5rt"] {
        let fixed = fix(&bad, &profile(on), &[]);
        let verdict = legal::check(&fixed.program, &profile(on));
        assert!(verdict.is_ok(), "{on}: {:?}\n{}", verdict.err(), fixed.program);
        let proof = prove(&bad, &fixed.program, &fixed.applied, &Weights::new(), 11);
        assert!(proof.is_ok(), "{on}: {proof:?}\n{}", fixed.program);
    }
}

#[test]
fn legal_programs_are_left_as_they_are() {
    for Case { profile: on, good, .. } in cases() {
        let warned = legal::violations(&good, &profile(on));
        if warned.is_empty() {
            let fixed = fix(&good, &profile(on), &[]);
            assert!(fixed.applied.is_empty() && fixed.program == good);
        }
    }
}

#[test]
fn advice_names_the_programs_own_parts() {
    for Case { id, profile: on, bad, .. } in cases() {
        for violation in legal::violations(&bad, &profile(on)).iter().filter(|v| v.rule.id == id) {
            let language = ["ANE001", "ANE002", "ANE003", "ANE007", "ANE011"].contains(&id);
            let general = violation.rewrite == violation.rule.instead;
            let own = violation.rewrite.contains(|c: char| c == '`' || c.is_ascii_digit());
            assert!(language || own && !general, "{id}: {}", violation.rewrite);
        }
    }
}

#[test]
fn malformed_functions_are_left_without_a_panic() {
    type Change = fn(&mut Function);
    let broken: [Change; 11] = [
        |f| f.ops[1].args[0].1 = Arg::Value(ValueId(77)),
        |f| f.ops[1].args[0].1 = Arg::Value(ValueId(2)),
        |f| f.ops[1].results[0] = ValueId(77),
        |f| f.ops[1].results[0] = ValueId(0),
        |f| f.ops[1].results.clear(),
        |f| f.params = 9,
        |f| f.outputs.clear(),
        |f| f.outputs[0] = ValueId(9),
        |f| f.ops[0].value.as_mut().unwrap().ty.shape = vec![3],
        |f| f.ops[0].value = None,
        |f| f.values.clear(),
    ];
    for (i, change) in broken.into_iter().enumerate() {
        let mut bad = changed(change);
        for twice in [false, true] {
            if twice && !bad.functions[0].values.is_empty() {
                let twin = bad.functions[0].values[0].name.clone();
                bad.functions[0].values.iter_mut().for_each(|v| v.name.clone_from(&twin));
            }
            let fixed = fix(&bad, &profile("m1"), &[]);
            assert!(legal::check(&fixed.program, &profile("m1")).is_err(), "case {i}");
        }
    }
}

#[test]
fn many_breaches_are_mended_together() {
    let b = Builder::new("main");
    let mut x = b.input("x", fp16(&[1, 4, 1, 224]));
    for _ in 0..1500 {
        x = x.unary(Op::Relu).unary(Op::Square);
    }
    let bad = Program::new(b.finish(&[x.named("y")]).unwrap());
    let fixed = fix(&bad, &profile("m4"), &[]);
    assert_eq!(fixed.applied.len(), 1500);
    assert!(legal::check(&fixed.program, &profile("m4")).is_ok());
    assert_eq!(fixed.prove(&bad, &Weights::new(), 1).unwrap().largest, 0.0);
}

#[test]
fn proofs_fail_where_programs_differ() {
    let times = |k: f64, w: usize| program(&[fp16(&[1, 4, 1, w])], |_, x| x[0] * k);
    let proof = prove(&times(2.0, 16), &times(2.0, 16), &[], &Weights::new(), 1).unwrap();
    assert_eq!((proof.alike, proof.parts, proof.values), (1, 0, 0), "nothing to run");
    let twice = program(&[fp16(&[1, 4, 1, 16])], |_, x| x[0] + x[0]);
    let proof = prove(&times(2.0, 16), &twice, &[], &Weights::new(), 1).unwrap();
    assert_eq!((proof.alike, proof.parts, proof.values), (0, 1, 128));
    assert_eq!((proof.largest, proof.bound), (0.0, 0.0));
    let differs = prove(&times(2.0, 16), &times(2.5, 16), &[], &Weights::new(), 1);
    assert!(matches!(differs, Err(NotProven::Differs { .. })), "{differs:?}");
    // A wider port must not reach the results: a sum over all of it does.
    let sum = |w: usize| program(&[fp16(&[1, 4, 1, w])], |_, x| x[0].reduce_sum(&[3]));
    assert!(prove(&sum(16), &sum(32), &[], &Weights::new(), 1).is_err());
    let ports = prove(&times(2.0, 32), &times(2.0, 16), &[], &Weights::new(), 1);
    assert!(matches!(ports, Err(NotProven::Ports { .. })), "{ports:?}");
    let squares = |order: bool| {
        program(&[fp16(&[1, 1, 4096, 4096])], |_, x| match order {
            true => x[0].matmul(x[0], false, false),
            false => x[0].matmul(x[0].transpose(&[0, 1, 3, 2]), false, true),
        })
    };
    assert!(prove(&squares(true), &squares(true), &[], &Weights::new(), 1).is_ok());
    let work = prove(&squares(true), &squares(false), &[], &Weights::new(), 1);
    assert!(matches!(work, Err(NotProven::TooLarge { .. })), "{work:?}");
}

/// Values between the ends are compared where they have one name in both: an end that hides a
/// difference does not hide it from what is computed of other numbers.
#[test]
fn proofs_follow_a_difference_to_the_outputs() {
    let formula = |k: f64, used: bool| {
        program(&[fp16(&[1, 4, 1, 32])], |_, x| {
            let half = (x[0] * k).named("half");
            let y = half.unary(Op::Relu);
            if used { y } else { (y * 0.0) + x[0] }
        })
    };
    let differs = prove(&formula(0.5, true), &formula(0.25, true), &[], &Weights::new(), 1);
    assert!(matches!(differs, Err(NotProven::Differs { .. })), "{differs:?}");
    // The difference is multiplied by 0: it takes the whole program to see that.
    let hidden = prove(&formula(0.5, false), &formula(0.25, false), &[], &Weights::new(), 1);
    assert!(hidden.is_ok(), "{hidden:?}");
}

/// A known value may be computed from other known ones: then all of them are run.
#[test]
fn proofs_hold_where_a_value_is_computed_in_another_way() {
    let formula = |direct: bool| {
        let b = Builder::new("main");
        let x = b.input("x", fp16(&[1, 4, 1, 32]));
        let half = (x * 0.5).named("half");
        let y = if direct { x } else { half + half };
        Program::new(b.finish(&[half, (y * 3.0).named("y")]).unwrap())
    };
    for (before, after) in [(true, false), (false, true)] {
        let proof = prove(&formula(before), &formula(after), &[], &Weights::new(), 1).unwrap();
        assert_eq!(proof.largest, 0.0);
    }
}

/// Attention of 12 heads of 64 over 256 tokens and a feed-forward network of width 288, in texts as
/// trainers write them: literals in place, no buildInfo, a square beside a sigmoid, a bias.
#[test]
fn large_programs_are_proven_by_what_changed() {
    let attention = format!(
        "program(1.3) {{ func main<ios18>(tensor<fp16, [1, 768, 1, 256]> x,
            tensor<fp16, [1, 1, 768, 768]> wq, tensor<fp16, [1, 1, 768, 768]> wk,
            tensor<fp16, [1, 1, 768, 768]> wv, tensor<fp16, [1, 1, 256, 256]> mask) {{
            tensor<fp16, [1, 1, 768, 256]> h = reshape(x = x, shape = tensor<int32, [4]>([1, 1, 768, 256]));
            {} tensor<fp16, [1, 12, 256, 256]> s = matmul(x = q, y = k, transpose_x = bool(true), transpose_y = bool(false));
            tensor<fp16, [1, 12, 256, 256]> c = mul(x = s, y = fp16(0.125));
            tensor<fp16, [1, 12, 256, 256]> m = add(x = c, y = mask);
            tensor<fp16, [1, 12, 256, 256]> p = softmax(x = m, axis = int32(-1));
            tensor<fp16, [1, 12, 64, 256]> o = matmul(x = v, y = p, transpose_x = bool(false), transpose_y = bool(true));
            tensor<fp16, [1, 768, 1, 256]> y = reshape(x = o, shape = tensor<int32, [4]>([1, 768, 1, 256]));
        }} -> (y); }}",
        ["q", "k", "v"].map(|n| format!(
            "tensor<fp16, [1, 1, 768, 256]> {n}_flat = matmul(x = w{n}, y = h, transpose_x = bool(false), transpose_y = bool(false));
            tensor<fp16, [1, 12, 64, 256]> {n} = reshape(x = {n}_flat, shape = tensor<int32, [4]>([1, 12, 64, 256]));"
        )).join("\n")
    );
    let bad = check_text(&attention).unwrap_or_else(|faults| panic!("{}", faults[0]));
    let fixed = fix(&bad, &profile("m4"), &[]);
    assert!(fixed.applied.iter().any(|a| a.rule.id == "ANE007"));
    let proof = fixed.prove(&bad, &Weights::new(), 1).unwrap();
    // Nothing is computed in another way, so nothing is run: the products alone are 5e8 terms.
    assert_eq!((proof.alike, proof.parts, proof.work), (13, 0, 0));

    let b = Builder::new("main");
    let x = b.input("x", fp16(&[1, 288, 1, 208]));
    let weight = |name: &str, o: usize, i: usize| b.input(name, fp16(&[o, i, 1, 1]));
    let (up, down) = (weight("up", 768, 288), weight("down", 288, 768));
    let bias = b.input("bias", fp16(&[768]));
    let args = vec![("x", value(x)), ("weight", value(up)), ("bias", value(bias))];
    let h = b.op(Op::Conv, args)[0].unary(Op::Sigmoid).unary(Op::Square);
    let y = b.op(Op::Conv, vec![("x", value(h)), ("weight", value(down))])[0];
    let bad = Program::new(b.finish(&[y.named("y")]).unwrap());
    let fixed = fix(&bad, &profile("m4"), &[]);
    let rules: BTreeSet<_> = fixed.applied.iter().map(|a| a.rule.id).collect();
    assert_eq!(rules, BTreeSet::from(["ANE036", "ANE051", "ANE070"]), "{rules:?}");
    let proof = fixed.prove(&bad, &Weights::new(), 1).unwrap();
    // One product with its bias apart, in f32, the square, and the padded ends; the second product,
    // as large, is not run.
    let product = 768 * 288 * 208;
    assert!(proof.single_values >= 2 * 768 * 208, "{proof:?}");
    assert!(proof.single_largest <= 1e-4 && proof.work < 5 * product, "{proof:?}");
}

#[test]
fn proofs_use_the_weights_given() {
    let bad = conv_program(&[1, 2, 32], &[3, 2, 1], 1, true);
    let (after, applied) = mended(&bad, "m4", "ANE030");
    let path = "@model_path/weights/weight.bin".to_owned();
    let weights = |v: f32| {
        let mut writer = BlobWriter::new();
        writer.push(DType::Fp16, &Data::Fp16(vec![half::f16::from_f32(v); 6])).unwrap();
        Weights::from([(path.clone(), writer.finish())])
    };
    for given in [Weights::new(), weights(0.5), weights(f32::INFINITY)] {
        assert!(prove(&bad, &after, &applied, &given, 5).is_ok());
    }
    let x = Array::new([1, 2, 32], vec![1.0; 64]);
    let y = evaluate(&after.functions[0], &[x], &weights(0.5)).unwrap();
    assert_eq!(y[0].data, vec![1.0; 96], "a constant in a file may have another shape");
}
