//! The facts about the machine, held against the rules and the emulator: tests named by rows of
//! `docs/ane-facts.md`.

use ane::{AneError, Budget, Device, Emulator, Executable, Surface};
use chip::legal::{self, Confidence, Refusal, Severity, check_allowing, rules};
use chip::{Chip, Profile};
use cpu::Numerics;
use half::f16;
use mil::blob::BlobWriter;
use mil::{Arg, Builder, DType, Data, Literal, Op, Program, Tensor, TensorType, Weights};

fn fp16(shape: &[usize]) -> TensorType {
    TensorType::fp16(shape)
}

fn profile(text: &str) -> Profile {
    text.parse().unwrap()
}

/// y = formula(a, b, …) for parameters of the given types.
fn program(
    inputs: &[TensorType],
    formula: impl for<'b> Fn(&'b Builder, &[Tensor<'b>]) -> Tensor<'b>,
) -> Program {
    let b = Builder::new("main");
    let names = ["a", "b", "c", "d"];
    let x: Vec<_> = inputs.iter().zip(names).map(|(ty, name)| b.input(name, ty.clone())).collect();
    let y = formula(&b, &x);
    Program::new(b.finish(&[y.named("y")]).expect("the formula fits together"))
}

/// Rules other than warnings that refuse a program on a machine.
fn refused_by(program: &Program, on: &str) -> Vec<&'static str> {
    let found = legal::check(program, &profile(on)).err().unwrap_or_default();
    let errors = found.iter().filter(|v| v.rule.severity != Severity::Warning);
    let mut ids: Vec<_> = errors.map(|v| v.rule.id).collect();
    ids.dedup();
    ids
}

#[track_caller]
fn accepted(program: &Program, on: &str) {
    assert_eq!(refused_by(program, on), [""; 0], "{on}");
}

#[track_caller]
fn refused(program: &Program, on: &str, by: &str) {
    assert_eq!(refused_by(program, on), [by], "{on}");
}

/// A constant in a weight file, so that its size costs nothing here.
fn blob<'b>(b: &'b Builder, shape: &[usize]) -> Tensor<'b> {
    b.constant(Literal::blob(fp16(shape), "@model_path/weights/weight.bin", 64))
}

fn value(t: Tensor<'_>) -> Arg {
    Arg::Value(t.id())
}

fn doubled(shape: &[usize]) -> Program {
    program(&[fp16(shape)], |_, x| x[0] * 2.0)
}

fn conv<'b>(b: &'b Builder, x: Tensor<'b>, weight: Tensor<'b>, groups: i64) -> Tensor<'b> {
    let groups = value(b.constant(Literal::int(groups)));
    b.op(Op::Conv, vec![("x", value(x)), ("weight", value(weight)), ("groups", groups)])[0]
}

/// A convolution with a constant weight.
fn fixed(x: &[usize], weight: &[usize]) -> Program {
    program(&[fp16(x)], |b, p| conv(b, p[0], blob(b, weight), 1))
}

/// A convolution with a weight given at run time.
fn runtime(x: &[usize], weight: &[usize], groups: i64) -> Program {
    program(&[fp16(x), fp16(weight)], |b, p| conv(b, p[0], p[1], groups))
}

fn matmul(x: &[usize], y: &[usize]) -> Program {
    program(&[fp16(x), fp16(y)], |_, p| p[0].matmul(p[1], false, false))
}

const EARLY: [&str; 6] = ["m1", "m1-max", "m2", "m2-pro", "m3", "m3-ultra"];
const LATE: [&str; 6] = ["m4", "m4-pro", "m4-max", "m5", "m5-pro", "m5-max"];

// ---- shapes ----

#[test]
fn a_width_of_16384_compiles_up_to_m3_and_17920_does_not() {
    for chip in EARLY {
        accepted(&doubled(&[1, 768, 1, 16_384]), chip);
        refused(&doubled(&[1, 768, 1, 17_920]), chip, "ANE012");
        refused(&doubled(&[1, 768, 1, 16_400]), chip, "ANE012");
    }
}

#[test]
fn a_width_of_65536_compiles_from_m4_on() {
    for chip in LATE {
        accepted(&doubled(&[1, 1, 1, 65_536]), chip);
        refused(&doubled(&[1, 1, 1, 65_552]), chip, "ANE012");
    }
}

#[test]
fn heights_have_the_limit_of_widths() {
    for (chips, limit) in [(EARLY, 16_384), (LATE, 65_536)] {
        for chip in chips {
            accepted(&doubled(&[1, 1, limit, 16]), chip);
            refused(&doubled(&[1, 1, limit + 1, 16]), chip, "ANE012");
        }
    }
}

#[test]
fn batches_and_channels_end_at_65536_and_depth_at_16384() {
    for chip in ["m1", "m5"] {
        accepted(&doubled(&[65_536, 1, 1, 16]), chip);
        refused(&doubled(&[65_537, 1, 1, 16]), chip, "ANE013");
        accepted(&doubled(&[1, 65_536, 1, 16]), chip);
        refused(&doubled(&[1, 65_537, 1, 16]), chip, "ANE013");
        accepted(&doubled(&[1, 1, 16_384, 1, 16]), chip);
        refused(&doubled(&[1, 1, 16_385, 1, 16]), chip, "ANE013");
    }
}

#[test]
fn tensors_have_at_most_five_axes() {
    for chip in Chip::ALL.map(|chip| chip.to_string()) {
        accepted(&doubled(&[1, 2, 2, 2, 16]), &chip);
        refused(&doubled(&[1, 1, 2, 2, 2, 16]), &chip, "ANE010");
        // Not at the ports, but on the way.
        let inside =
            program(&[fp16(&[8, 16])], |_, x| x[0].reshape(&[1, 2, 2, 2, 4, 4]).reshape(&[8, 16]));
        refused(&inside, &chip, "ANE010");
    }
}

#[test]
fn products_and_linear_have_at_most_four_axes() {
    accepted(&matmul(&[2, 3, 16, 32], &[2, 3, 32, 16]), "m4");
    refused(&matmul(&[1, 2, 3, 16, 32], &[1, 2, 3, 32, 16]), "m4", "ANE040");
    let linear = |shape: &[usize]| {
        program(&[fp16(shape)], |b, x| {
            let weight = value(blob(b, &[16, 32]));
            b.op(Op::Linear, vec![("x", value(x[0])), ("weight", weight)])[0]
        })
    };
    accepted(&linear(&[1, 2, 16, 32]), "m4");
    refused(&linear(&[1, 1, 2, 16, 32]), "m4", "ANE042");
}

// ---- convolutions and products ----

#[test]
fn kernels_are_13_wide_on_m1_and_15_elsewhere() {
    let wide = |n| fixed(&[1, 32, 16, 64], &[16, 32, 1, n]);
    let high = |n| fixed(&[1, 32, 64, 16], &[16, 32, n, 1]);
    for chip in Chip::ALL {
        let name = chip.to_string();
        let limit = chip.limits().kernel_width;
        assert_eq!(limit, if name.starts_with("m1") { 13 } else { 15 });
        accepted(&wide(limit), &name);
        refused(&wide(limit + 1), &name, "ANE031");
        accepted(&high(33), &name);
    }
}

#[test]
fn weights_given_at_run_time_need_batch_1_and_one_group() {
    for chip in ["m1", "m4", "m5/e5rt"] {
        accepted(&runtime(&[1, 32, 1, 16], &[32, 32, 1, 1], 1), chip);
        refused(&runtime(&[2, 32, 1, 16], &[32, 32, 1, 1], 1), chip, "ANE032");
        refused(&runtime(&[1, 32, 1, 16], &[32, 8, 1, 1], 4), chip, "ANE033");
        accepted(&fixed(&[2, 32, 1, 16], &[32, 32, 1, 1]), chip);
    }
}

#[test]
fn a_linear_layer_is_a_pointwise_convolution() {
    let program = runtime(&[1, 32, 1, 16], &[48, 32, 1, 1], 1);
    accepted(&program, "m1");
    let x: Vec<f32> = (0..32 * 16).map(|i| (i % 7) as f32 / 4.0 - 0.5).collect();
    let w: Vec<f32> = (0..48 * 32).map(|i| (i % 5) as f32 / 8.0 - 0.25).collect();
    let y = run(&program, &[&x, &w]).remove(0);
    for (o, s) in [(0, 0), (47, 15), (20, 3)] {
        let exact: f32 = (0..32).map(|c| w[o * 32 + c] * x[c * 16 + s]).sum();
        assert_eq!(y[o * 16 + s], exact, "multiples of 2^-5 are exact");
    }
}

#[test]
fn convolutions_take_32000_outputs_but_not_32000_inputs() {
    for chip in ["m1", "m3", "m4", "m5-max"] {
        accepted(&fixed(&[1, 768, 1, 16], &[32_000, 768, 1, 1]), chip);
        refused(&fixed(&[1, 32_000, 1, 16], &[768, 32_000, 1, 1]), chip, "ANE035");
        accepted(&fixed(&[1, 16_384, 1, 16], &[768, 16_384, 1, 1]), chip);
    }
}

#[test]
fn products_take_an_inner_extent_of_32000_from_m4_on() {
    let classifier = matmul(&[1, 768, 32_000], &[1, 32_000, 256]);
    LATE.iter().for_each(|chip| accepted(&classifier, chip));
    EARLY.iter().for_each(|chip| refused(&classifier, chip, "ANE012"));
    EARLY.iter().for_each(|chip| {
        accepted(&matmul(&[1, 768, 16_384], &[1, 16_384, 256]), chip);
    });
}

#[test]
fn products_may_have_a_constant_operand() {
    let fixed = program(&[fp16(&[1, 1, 16, 32])], |b, x| {
        x[0].matmul(blob(b, &[1, 1, 32, 64]), false, false)
    });
    ["m1", "m4", "m5/macos26", "m4/e5rt"].iter().for_each(|on| accepted(&fixed, on));
}

// ---- softmax, attention, arithmetic ----

#[test]
fn softmax_takes_32000_elements() {
    let softmax = program(&[fp16(&[1, 16, 1, 32_000])], |_, x| x[0].softmax(-1));
    accepted(&softmax, "m4");
    let channels = program(&[fp16(&[1, 32_000, 1, 16])], |_, x| x[0].softmax(1));
    ["m1", "m4"].iter().for_each(|on| accepted(&channels, on));
}

#[test]
fn a_mask_inside_attention_is_refused_and_one_outside_accepted() {
    let x = fp16(&[1, 4, 16, 32]);
    let types = [x.clone(), x.clone(), x, fp16(&[1, 1, 16, 16])];
    let inside = program(&types, |b, p| {
        let keys = ["query", "key", "value", "attn_mask"];
        b.op(Op::Attention, keys.into_iter().zip(p.iter().map(|&t| value(t))).collect())[0]
    });
    refused(&inside, "m4", "ANE041");
    let outside = program(&types, |_, p| {
        let scores = p[0].matmul(p[1], false, true) * 0.125 + p[3];
        scores.softmax(-1).matmul(p[2], false, false)
    });
    ["m1", "m3", "m4", "m5/e5rt"].iter().for_each(|on| accepted(&outside, on));
}

#[test]
fn square_fails_beside_a_nonlinearity_at_some_widths() {
    for width in [16, 64, 80, 112, 128, 144, 192, 208, 256] {
        let shape = [1, 32, 1, width];
        let after = program(&[fp16(&shape)], |_, x| x[0].unary(Op::Relu).unary(Op::Square));
        let before = program(&[fp16(&shape)], |_, x| x[0].unary(Op::Square).sigmoid());
        let product = program(&[fp16(&shape)], |_, x| {
            let y = x[0].unary(Op::Relu);
            y * y
        });
        for program in [after, before] {
            match width % 128 > 64 {
                true => refused(&program, "m4", "ANE051"),
                false => accepted(&program, "m4"),
            }
        }
        accepted(&product, "m4");
    }
}

#[test]
fn what_is_silently_wrong_is_refused() {
    let scaled = |op: Op| {
        program(&[fp16(&[1, 32, 1, 16])], |b, x| x[0].unary(op) * b.scalar(DType::Fp16, 3.0))
    };
    [Op::Floor, Op::Ceil, Op::Round]
        .into_iter()
        .for_each(|op| refused(&scaled(op), "m4/e5rt", "ANE053"));
    let single = program(&[TensorType::fp32([1, 32, 1, 16])], |_, x| x[0] * 2.0);
    refused(&single, "m4", "ANE026");
    for rule in rules().filter(|rule| rule.severity == Severity::Silent) {
        assert_eq!(rule.refusal, None, "{}: a silent fault has no words of the machine", rule.id);
    }
}

#[test]
fn trigonometry_starts_with_m3_and_mirrored_padding_with_m2() {
    let unary = |op| program(&[fp16(&[1, 32, 1, 16])], |_, x| x[0].unary(op));
    let mirrored = program(&[fp16(&[1, 32, 4, 16])], |b, x| {
        let pad = value(b.constant(Literal::ints(&[1, 1])));
        let mode = value(b.constant(Literal::string("reflect")));
        let zero = value(b.scalar(DType::Fp16, 0.0));
        let args = vec![("x", value(x[0])), ("pad", pad), ("mode", mode), ("constant_val", zero)];
        b.op(Op::Pad, args)[0]
    });
    for chip in Chip::ALL {
        let (name, limits) = (chip.to_string(), chip.limits());
        for op in [Op::Sin, Op::Cos] {
            match limits.trigonometry {
                true => accepted(&unary(op), &name),
                false => refused(&unary(op), &name, "ANE050"),
            }
        }
        match limits.reflect_padding {
            true => accepted(&mirrored, &name),
            false => refused(&mirrored, &name, "ANE060"),
        }
    }
}

// ---- element types ----

fn port(dtype: DType) -> Program {
    program(&[TensorType::new(dtype, [1, 32, 1, 16])], |_, x| x[0].reshape(&[1, 16, 1, 32]))
}

fn cast(from: DType, to: DType) -> Program {
    program(&[TensorType::new(from, [1, 32, 1, 16])], |_, x| x[0].cast(to))
}

#[test]
fn ports_in_memory_are_floats() {
    use DType::*;
    accepted(&port(Fp16), "m4");
    accepted(&cast(Fp32, Fp16), "m4");
    [Int8, UInt8, Int32, Bool].into_iter().for_each(|dtype| refused(&port(dtype), "m4", "ANE020"));
}

#[test]
fn ports_by_e5rt_are_fp16_or_uint8() {
    use DType::*;
    [Fp16, UInt8].into_iter().for_each(|dtype| accepted(&port(dtype), "m4/e5rt"));
    [Int32, Bool].into_iter().for_each(|dtype| refused(&port(dtype), "m4/e5rt", "ANE022"));
    [Int8, Int16, UInt16].into_iter().for_each(|dtype| refused(&port(dtype), "m4/e5rt", "ANE023"));
}

#[test]
fn m1_and_m2_do_not_convert_floats() {
    use DType::*;
    for chip in Chip::ALL {
        let name = chip.to_string();
        let early = name.starts_with("m1") || name.starts_with("m2");
        assert_eq!(chip.limits().float_cast, !early);
        for program in [cast(Fp32, Fp16), cast(Fp16, Fp32)] {
            let ids = refused_by(&program, &name);
            assert_eq!(
                ids.contains(&"ANE021") && ids.contains(&"ANE024"),
                early,
                "{name}: {ids:?}"
            );
        }
        accepted(&doubled(&[1, 32, 1, 16]), &name);
    }
}

#[test]
fn casts_to_wide_integers_are_refused() {
    use DType::*;
    [Int32, UInt32].into_iter().for_each(|to| {
        let inside = program(&[fp16(&[1, 32, 1, 16])], |_, x| x[0].cast(to).cast(Fp16));
        refused(&inside, "m4", "ANE025");
    });
}

#[test]
fn conflicting_readings_can_be_chosen_by_name() {
    let wide = fixed(&[1, 32_000, 1, 16], &[16, 32_000, 1, 1]);
    for (program, on, rule) in [(wide, "m4", "ANE035"), (port(DType::Int16), "m4/e5rt", "ANE023")] {
        assert!(legal::check(&program, &profile(on)).is_err());
        let verdict = check_allowing(&program, &profile(on), &[rule]).unwrap();
        assert!(verdict.warnings.iter().any(|v| v.rule.id == rule));
        assert_ne!(legal::rule(rule).unwrap().confidence, Confidence::High);
    }
}

#[test]
fn the_older_text_has_long_constants() {
    let mut old = doubled(&[1, 32, 1, 16]);
    let warned = |program: &Program, on: &str| {
        legal::violations(program, &profile(on)).iter().any(|v| v.rule.id == "ANE005")
    };
    assert!(warned(&old, "m1") && warned(&old, "m2") && !warned(&old, "m3"));
    (old.version, old.functions[0].opset) = ((1, 0), "ios16".to_owned());
    assert!(!warned(&old, "m1"));
    let text = format!("{old:#}");
    assert!(text.starts_with("program(1.0)") && text.contains("func main<ios16>"), "{text}");
    assert!(text.contains("tensor<fp16, []>(0x1p+1)"), "{text}");
    assert_eq!(mil::check_text(&text).as_ref(), Ok(&old));
}

#[test]
fn programs_of_several_functions_are_checked_as_a_whole() {
    let mut program = doubled(&[1, 32, 1, 16]);
    let mut second = fixed(&[1, 32, 1, 64], &[16, 32, 1, 17]).functions.remove(0);
    second.name = "second".to_owned();
    program.functions.push(second);
    let found = legal::check(&program, &profile("m4")).unwrap_err();
    let error = found.iter().find(|v| v.rule.id == "ANE031").unwrap();
    assert_eq!(error.function, "second");
}

#[test]
fn rules_quote_the_validator() {
    for (rule, words) in [
        ("ANE010", "Rank … must be between 0 and 5"),
        ("ANE010", "Cannot reshape a tensor of rank > 5"),
        ("ANE012", "exceeds ANE family 2's max dimension 16384"),
        ("ANE031", "Invalid conv kernel"),
        ("ANE040", "depth > 1 is not supported for MatMult"),
        ("ANE042", "ANE cannot support Linear with input rank >= 5"),
        ("ANE061", "Channel padding is not supported on ANE"),
        ("ANE065", "ANE Concat supports only supports const positive axis"),
    ] {
        let rule = legal::rule(rule).unwrap();
        let plain = rule.why.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain.contains(words), "{}: {plain}", rule.id);
        assert!(rule.refusal != Some(Refusal::Unreported), "{}", rule.id);
    }
}

// ---- processes and surfaces ----

#[test]
fn limits_of_a_process_are_those_published() {
    let of = |on: &str| profile(on).limits();
    for on in ["m1", "m4", "m5/macos26"] {
        assert_eq!((of(on).compiles, of(on).loaded, of(on).in_flight), (Some(119), 128, 127));
    }
    assert_eq!((of("m4/e5rt").compiles, of("m4/e5rt").loaded), (None, 128));
    let budget = Budget::new(&profile("m4"));
    assert!(budget.load(1_500_000_000).is_ok(), "1.5 GB load");
    let refused = budget.load(3_400_000_000).unwrap_err();
    assert!(matches!(refused, AneError::ProgramTooLarge { .. }), "3.4 GB do not");
    assert!(refused.to_string().contains("(0x20004)"));
}

#[test]
fn the_smallest_surface_depends_on_system_and_path() {
    let least = |on: &str| profile(on).limits().min_surface_bytes;
    assert_eq!(least("m4/macos15/in-memory"), 49_152);
    assert_eq!(least("m4/macos26/in-memory"), 2_048);
    assert_eq!([least("m4/macos15/e5rt"), least("m4/macos26/e5rt")], [0, 0]);
    for (on, bytes) in [("m4", 49_152), ("m4/macos26", 2_048)] {
        let profile = profile(on);
        assert!(profile.check_allocations(&[bytes]).is_ok());
        let fault = profile.check_allocations(&[bytes - 1]).unwrap_err();
        let error = AneError::allocation("input", fault).to_string();
        assert!(error.contains("ANE081") && error.contains("status=0x1d"), "{error}");
    }
    let mixed = [2usize, 70_000];
    assert!(profile("m4/e5rt").check_allocations(&mixed).is_ok());
}

#[test]
fn an_ultra_has_two_engines() {
    let two: Vec<_> = Chip::ALL.into_iter().filter(|chip| chip.facts().engines == 2).collect();
    use Chip::*;
    assert_eq!(two, [M1Ultra, M2Ultra, M3Ultra, M5Ultra, M6]);
    assert!(Chip::ALL.into_iter().all(|chip| [1, 2].contains(&chip.facts().engines)));
}

const ALLOCATION: usize = 65_536;

fn device() -> Emulator {
    Emulator::engine(Profile::default(), Numerics::Fast)
}

fn surface(ty: &TensorType, values: &[f32]) -> Surface {
    let surface = device().surface(ty, ALLOCATION).unwrap();
    surface.write(values).unwrap();
    surface
}

fn contents(surface: &Surface) -> Vec<f32> {
    let mut values = vec![0.0; surface.ty().count()];
    surface.read(&mut values).unwrap();
    values
}

/// Runs a program whose parameters are in alphabetical order.
fn run(program: &Program, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    let device = device();
    let mut exe = device.compile(program, &Weights::new()).unwrap();
    run_on(&mut *exe, inputs)
}

fn run_on(exe: &mut dyn Executable, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    let given: Vec<_> =
        exe.inputs().iter().zip(inputs).map(|(port, x)| surface(&port.ty, x)).collect();
    let empty = |port: &ane::Port| device().surface(&port.ty, ALLOCATION).unwrap();
    let taken: Vec<_> = exe.outputs().iter().map(empty).collect();
    exe.run(&given.iter().collect::<Vec<_>>(), &taken.iter().collect::<Vec<_>>()).unwrap();
    taken.iter().map(contents).collect()
}

/// One elementwise function of x, at the given points.
fn at(formula: impl for<'b> Fn(Tensor<'b>) -> Tensor<'b>, points: &[f32]) -> Vec<f32> {
    let n = points.len().next_multiple_of(16);
    let program = program(&[fp16(&[1, 1, 1, n])], |_, x| formula(x[0]));
    let mut x = points.to_vec();
    x.resize(n, 0.0);
    run(&program, &[&x]).remove(0)[..points.len()].to_vec()
}

#[test]
fn ports_are_bound_in_alphabetical_order() {
    let b = Builder::new("main");
    let ty = fp16(&[1, 1, 1, 16]);
    let names = ["w1", "X", "b", "W2"];
    let x = names.map(|name| b.input(name, ty.clone()));
    let outputs = [("z", 1.0), ("Y", 2.0), ("a", 4.0)]
        .map(|(name, k)| ((x[0] + x[1] * 10.0 + x[2] * 100.0 + x[3] * 1000.0) * k).named(name));
    let program = Program::new(b.finish(&outputs).unwrap());
    let device = device();
    let mut exe = device.compile(&program, &Weights::new()).unwrap();
    let names = |ports: &[ane::Port]| ports.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(exe.inputs()), ["W2", "X", "b", "w1"], "capitals sort first");
    assert_eq!(names(exe.outputs()), ["Y", "a", "z"]);
    let inputs = [1.0, 2.0, 3.0, 4.0].map(|v| vec![v; 16]);
    let y = run_on(&mut *exe, &inputs.each_ref().map(|v| &v[..]));
    // w1 = 4, X = 2, b = 3, W2 = 1.
    let sum = 4.0 + 20.0 + 300.0 + 1000.0;
    assert_eq!([y[0][0], y[1][0], y[2][0]], [2.0 * sum, 4.0 * sum, sum]);
}

#[test]
fn elements_are_packed_from_byte_0_whatever_the_allocation() {
    let program = program(&[fp16(&[1, 4, 1, 32])], |_, x| x[0].narrow(1, 2, 1));
    let device = device();
    let mut exe = device.compile(&program, &Weights::new()).unwrap();
    let x: Vec<f32> = (0..4 * 32).map(|i| i as f32).collect();
    for allocation in [ALLOCATION, 4 * ALLOCATION] {
        let input = device.surface(&exe.inputs()[0].ty, allocation).unwrap();
        assert_eq!(input.allocation(), allocation);
        input.write(&x).unwrap();
        let output = device.surface(&exe.outputs()[0].ty, allocation).unwrap();
        exe.run(&[&input], &[&output]).unwrap();
        assert_eq!(contents(&output), x[2 * 32..3 * 32], "element c·S + s");
    }
}

#[test]
fn an_output_surface_serves_as_the_next_input() {
    let ty = fp16(&[1, 4, 1, 16]);
    let device = device();
    let mut exe = device.compile(&doubled(&[1, 4, 1, 16]), &Weights::new()).unwrap();
    let (a, b) = (surface(&ty, &[1.5; 64]), surface(&ty, &[0.0; 64]));
    for _ in 0..3 {
        exe.run(&[&a], &[&b]).unwrap();
        exe.run(&[&b], &[&a]).unwrap();
    }
    assert_eq!(contents(&a), [1.5 * 64.0; 64]);
}

#[test]
fn constants_stay_as_they_were_compiled() {
    let ty = fp16(&[1, 1, 1, 16]);
    let path = "@model_path/weights/weight.bin";
    let file = |v: f32| {
        let mut writer = BlobWriter::new();
        writer.push(DType::Fp16, &Data::Fp16(vec![f16::from_f32(v); 16])).unwrap();
        writer.finish()
    };
    let program = program(&[ty], |b, x| x[0] + blob(b, &[1, 1, 1, 16]));
    let mut weights = Weights::from([(path.to_owned(), file(1.0))]);
    let device = device();
    let mut exe = device.compile(&program, &weights).unwrap();
    weights.insert(path.to_owned(), file(2.0));
    assert_eq!(run_on(&mut *exe, &[&[10.0; 16]])[0], [11.0; 16], "as it was compiled");
    let mut again = device.compile(&program, &weights).unwrap();
    assert_eq!(run_on(&mut *again, &[&[10.0; 16]])[0], [12.0; 16], "compiled anew");
}

// ---- numerics of the emulator ----

#[test]
fn results_repeat_bit_for_bit() {
    let shape = [1, 4, 32, 64];
    let build = || {
        program(&[fp16(&shape)], |_, x| {
            let scores = x[0].matmul(x[0], false, true) * 0.125;
            scores.softmax(-1).matmul(x[0], false, false)
        })
    };
    let x: Vec<f32> = (0..4 * 32 * 64).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let bits = |y: Vec<Vec<f32>>| y[0].iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let device = device();
    let mut exe = device.compile(&build(), &Weights::new()).unwrap();
    let first = bits(run_on(&mut *exe, &[&x]));
    assert_eq!(bits(run_on(&mut *exe, &[&x])), first, "from run to run");
    assert_eq!(bits(run(&build(), &[&x])), first, "compiled anew");
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (x, p) = (x.clone(), build());
            std::thread::spawn(move || run(&p, &[&x]))
        })
        .collect();
    for thread in threads {
        assert_eq!(bits(thread.join().unwrap()), first, "beside others");
    }
    // At every place of a batch.
    let mut swapped = x[32 * 64..2 * 32 * 64].to_vec();
    swapped.extend_from_slice(&x[..32 * 64]);
    swapped.extend_from_slice(&x[2 * 32 * 64..]);
    let y = bits(run(&build(), &[&swapped]));
    assert_eq!(y[..32 * 64], first[32 * 64..2 * 32 * 64]);
}

#[test]
fn elementwise_products_reach_65504() {
    assert_eq!(at(|x| x * 2.0, &[32_752.0, -32_752.0, 16_384.0]), [65_504.0, -65_504.0, 32_768.0]);
    assert_eq!(at(|x| x + x, &[32_752.0]), [65_504.0]);
    let sum = program(&[fp16(&[1, 1, 4, 16])], |_, x| x[0].reduce_sum(&[3]));
    assert_eq!(
        run(&sum, &[&[4_000.0; 64]]).remove(0),
        [64_000.0; 4],
        "sums do not saturate either"
    );
}

#[test]
fn powers_leave_the_range_where_published() {
    let square = at(|x| x * x, &[255.75, 256.0, -256.0, -255.75]);
    assert!(square[0].is_finite() && square[3].is_finite(), "{square:?}");
    assert_eq!(square[1..3], [f32::INFINITY; 2]);
    let exp = at(|x| x.exp(), &[11.0, 11.0859375, 11.1015625, 12.0]);
    assert!(exp[0].is_finite() && exp[1].is_finite(), "{exp:?}");
    assert_eq!(exp[2..], [f32::INFINITY; 2], "the published 11.094 lies between");
}

#[test]
fn round_takes_halves_away_from_zero() {
    let points = [0.5, 1.5, 2.5, -0.5, -2.5, 0.49, 1023.0];
    let round = at(|x| x.unary(Op::Round), &points);
    assert_eq!(round, [1.0, 2.0, 3.0, -1.0, -3.0, 0.0, 1023.0]);
}

#[test]
fn no_operation_gives_nan() {
    let inf = f32::INFINITY;
    let points = [f32::NAN, inf, -inf, 0.0, -0.0, -1.0, 65_504.0, -65_504.0, 6e-8, 20.0];
    type Formula = fn(Tensor<'_>) -> Tensor<'_>;
    let formulas: [Formula; 16] = [
        |x| x - x,
        |x| x * 0.0,
        |x| x / x,
        |x| x.unary(Op::Sqrt),
        |x| x.rsqrt(0.0),
        |x| x.log(0.0),
        |x| x.inverse(0.0),
        |x| x.exp() - x.exp(),
        |x| x.sigmoid(),
        |x| x.tanh(),
        |x| x.pow(-0.5),
        |x| x.pow(0.5),
        |x| x.softmax(-1),
        |x| x.reduce_sum(&[3]) + x,
        |x| x.unary(Op::Silu),
        |x| x.matmul(x, true, false).reduce_sum(&[2]),
    ];
    for (i, formula) in formulas.iter().enumerate() {
        let y = at(formula, &points);
        assert!(y.iter().all(|v| !v.is_nan()), "formula {i}: {y:?}");
    }
}

#[test]
fn indeterminate_forms_are_zero() {
    let inf = f32::INFINITY;
    let zero = |y: Vec<f32>| assert!(y.iter().all(|v| v.to_bits() == 0), "{y:?}");
    zero(at(|x| x - x, &[inf, -inf]));
    zero(at(|x| x * 0.0, &[inf, -inf]));
    zero(at(|x| x.unary(Op::Sqrt), &[-1.0, -4.0]));
    zero(at(|x| x.rsqrt(0.0), &[-1.0, -4.0]));
    zero(at(|x| x.log(0.0), &[-1.0, -4.0]));
}

#[test]
fn elementwise_operations_keep_subnormal_numbers() {
    let tiny = 2f32.powi(-24);
    let points = [tiny, -3.0 * tiny, 2f32.powi(-14) - tiny];
    assert_eq!(at(|x| x + 0.0, &points), points);
    assert_eq!(at(|x| x * 1.0, &points), points);
    assert_eq!(at(|x| x * 0.5, &[2.0 * tiny, 2f32.powi(-14)]), [tiny, 2f32.powi(-15)]);
}

#[test]
fn softmax_subtracts_the_maximum() {
    let y = at(|x| x.softmax(-1), &[60_000.0; 16]);
    assert_eq!(y, [0.0625; 16], "e^60000 is never formed");
}

#[test]
fn powers_of_two_scale_exactly() {
    let points: Vec<f32> = (0..4096).map(|i| f16::from_bits(0x2000 + i * 3).to_f32()).collect();
    for k in [-6, -3, 4, 8] {
        let scale = 2f64.powi(k);
        let y = at(|x| (x * scale) * (1.0 / scale), &points);
        assert!(y == points, "2^{k}");
    }
}

#[test]
fn the_mask_of_minus_65504_hides_what_it_covers() {
    let mut x = [3.0; 16];
    x[8..].fill(-65_504.0);
    let y = at(|x| x.softmax(-1), &x);
    assert_eq!((y[0], y[8..].to_vec()), (0.125, vec![0.0; 8]));
    let y = at(|x| (x + -65_504.0).softmax(-1), &[3.0, -3.0]);
    assert!(y.iter().all(|v| v.is_finite()), "all hidden: {y:?}");
}
