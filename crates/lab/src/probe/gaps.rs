//! The open questions, which no published work answers. An emulator can only repeat what it assumes;
//! traces of these probes from an engine decide them.

use super::session::{Outcome, Session, failure, row};
use crate::bench::{Bench, constant, convolution, program, weight_file};
use ane::AneError;
use chip::legal;
use half::f16;
use mil::{Builder, Program, TensorType, Weights};

type Answer = Result<Outcome, AneError>;

/// v to fp16, halves away from zero; infinite from 2^15 on (E1-output-rounding, E2-saturation).
fn converted(v: f64) -> f32 {
    if v.abs() >= 32768.0 {
        return f32::INFINITY.copysign(v as f32);
    }
    let near = f16::from_f64(v.abs());
    let below = if near.to_f64() > v.abs() { f16::from_bits(near.to_bits() - 1) } else { near };
    let above = f16::from_bits(below.to_bits() + 1);
    let up = above.to_f64() - v.abs() <= v.abs() - below.to_f64();
    let rounded = if up && below.to_f64() != v.abs() { above } else { below };
    rounded.to_f32().copysign(v as f32)
}

/// A sum of products by their law (E1-product-grid, E1-product-gate, E1-exact-sum).
fn by_law(pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    let exponent = |v: f32| (v.to_bits() >> 23 & 0xff) as i32 - 127;
    let grid = |(a, b): (f32, f32)| match a == 0.0 || b == 0.0 || exponent(a) + exponent(b) < -16 {
        true => 0,
        false => (f64::from(a) * f64::from(b) * 65536.0).round() as i64,
    };
    converted(pairs.map(grid).sum::<i64>() as f64 / 65536.0)
}

/// A sum of products without error, converted once.
fn exact(pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    converted(pairs.map(|(a, b)| f64::from(a) * f64::from(b)).sum())
}

/// fp16 numbers of about `scale`, with all their bits in use.
fn wave(count: usize, step: f32, scale: f32) -> Vec<f32> {
    (0..count).map(|i| f16::from_f32(scale * (i as f32 * step).sin()).to_f32()).collect()
}

pub(super) fn law(of: &mut Session<'_>) -> Answer {
    let (m, k, n) = (64, 128, 64);
    // Terms of 1e-3 and less, where the grid of 2^-16 shows in every result.
    let (a, b) = (wave(m * k, 0.37, 0.04), wave(k * n, 0.11, 0.04));
    let pairs = |i: usize, j: usize| {
        let (a, b) = (&a, &b);
        (0..k).map(move |x| (a[i * k + x], b[x * n + j]))
    };
    let each = |sum: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
        (0..m * n).map(|at| sum(at / n, at % n)).collect()
    };
    let (law, wide) = (each(&|i, j| by_law(pairs(i, j))), each(&|i, j| exact(pairs(i, j))));
    let inputs = program(&[("a", &[1, 1, m, k]), ("b", &[1, 1, k, n])], |_, x| {
        x[0].matmul(x[1], false, false)
    })?;
    let pointwise =
        program(&[("x", &[1, k, 1, n])], |g, x| convolution(g, x[0], constant(g, &[m, k, 1, 1])))?;
    let of_inputs = of.bench(&inputs, &Weights::new())?.answer(&[&a, &b])?;
    let of_pointwise = of.bench(&pointwise, &weight_file(&a))?.answer(&[&b])?;
    let differ = |got: &[f32], from: &[f32]| got.iter().zip(from).filter(|(a, b)| a != b).count();
    let cells = |name: &str, got: &[f32]| {
        row([name.to_owned(), differ(got, &law).to_string(), differ(got, &wide).to_string()])
    };
    let rows = vec![
        cells("product of two inputs", &of_inputs),
        cells("1x1 convolution by a constant", &of_pointwise),
        cells("(the law itself)", &law),
    ];
    let columns = ["of 4096 results", "differ from the law", "differ from an exact sum"];
    let same = of_inputs == law && of_pointwise == law;
    let says = if same { "both follow the law, bit by bit" } else { "they do not follow the law" };
    let facts = ["E1-runtime-operands", "E1-pointwise-convolution"];
    Ok(Outcome::new(&columns, rows).open(of, same, &facts, says.to_owned()))
}

pub(super) fn product_corners(of: &mut Session<'_>) -> Answer {
    type Terms = &'static [(f32, f32)];
    const TINY: f32 = 1.0 / 1_048_576.0;
    // Name, terms, and what the facts in force say.
    let cases: [(&str, Terms, f32); 6] = [
        ("2^-20 * 1", &[(TINY, 1.0)], 0.0),
        ("2^-20 * 1024", &[(TINY, 1024.0)], (-10.0f32).exp2()),
        ("32752 * 1", &[(32752.0, 1.0)], 32752.0),
        ("32752 + 16", &[(32752.0, 1.0), (16.0, 1.0)], f32::INFINITY),
        ("20000 + 20000 - 20000", &[(2e4, 1.0), (2e4, 1.0), (-2e4, 1.0)], f32::INFINITY),
        ("-20000 + 20000 + 20000", &[(-2e4, 1.0), (2e4, 1.0), (2e4, 1.0)], 20000.0),
    ];
    let (rows, k, columns) = (16, 64, 64);
    let (mut a, mut b) = (vec![0.0; rows * k], vec![0.0; k * columns]);
    for (i, (_, terms, _)) in cases.iter().enumerate() {
        for (x, &(left, right)) in terms.iter().enumerate() {
            a[i * k + x] = left;
            b[x * columns + i] = right;
        }
    }
    let formula = program(&[("a", &[1, 1, rows, k]), ("b", &[1, 1, k, columns])], |_, x| {
        x[0].matmul(x[1], false, false)
    })?;
    let got = of.bench(&formula, &Weights::new())?.answer(&[&a, &b])?;
    let seen = |i: usize| got[i * columns + i];
    let partial = seen(4);
    let lines = cases.iter().enumerate().map(|(i, (name, _, said))| {
        row([(*name).to_owned(), seen(i).to_string(), said.to_string()])
    });
    let table = Outcome::new(&["terms", "result", "facts"], lines.collect());
    let as_said = |which: &[usize]| which.iter().all(|&i| seen(i) == cases[i].2);
    let (gated, saturated) = (as_said(&[0, 1]), as_said(&[2, 3, 5]));
    let words = match partial.is_infinite() {
        true => "a partial sum beyond 2^15 is infinite for good",
        false => "only the final sum is held against 2^15",
    };
    let says = match gated && saturated {
        true => format!("{words}, and small factors are gated as the facts say"),
        false => "small factors or large sums are treated otherwise than the facts say".to_owned(),
    };
    let facts = [
        ("E1-product-gate", gated),
        ("E2-saturation", saturated),
        ("E2-partial-sums", partial.is_infinite()),
    ];
    let mut outcome = table.weigh(of, &facts, says);
    if partial == 20000.0 && !of.emulated {
        outcome.supports.push("E2-final-sum-only");
    }
    Ok(outcome)
}

pub(super) fn reductions(of: &mut Session<'_>) -> Answer {
    let width = 1040;
    let repeated = |v: f32| -> Vec<f32> { [v, -v, 1.0].repeat(16) };
    let large: Vec<f32> = std::iter::once(4096.0).chain(std::iter::repeat_n(1.0, 1024)).collect();
    // Name, vector, and what is published: of all chips (E3-half-away), then of M1 (GUIDE:03).
    let cases = [
        ("2048 + 1", vec![2048.0, 1.0], 2050.0),
        ("4096 + 1024 times 1", large, 5116.0),
        ("(2046, -2046, 1) 16 times", repeated(2046.0), 16.0),
        ("(4000, -4000, 1) 16 times", repeated(4000.0), 16.0),
        ("(4096, -4096, 1) 16 times", repeated(4096.0), 4.0),
    ];
    let mut x = vec![0.0; 16 * width];
    for (i, (_, values, _)) in cases.iter().enumerate() {
        x[i * width..][..values.len()].copy_from_slice(values);
    }
    let shape: [(&str, &[usize]); 1] = [("x", &[1, 1, 16, width])];
    // Sums of width 1, made wide enough for a surface.
    let sum = program(&shape, |_, x| x[0].reduce_sum(&[3]).tile(&[1, 1, 1, 16]))?;
    let softmax = program(&shape, |_, x| x[0].softmax(-1))?;
    let sums = of.bench(&sum, &Weights::new())?.answer(&[&x])?;
    let ramp = wave(16 * width, 0.37, 4.0);
    let shares = of.bench(&softmax, &Weights::new())?.answer(&[&ramp])?;
    let total: f64 = shares[..width].iter().map(|&v| f64::from(v)).sum();
    let mut rows: Vec<_> = (cases.iter().enumerate())
        .map(|(i, (name, values, said))| {
            let exact: f64 = values.iter().map(|&v| f64::from(v)).sum();
            row([(*name).to_owned(), sums[i * 16].to_string(), exact.to_string(), said.to_string()])
        })
        .collect();
    let matched =
        cases.iter().enumerate().filter(|(i, (_, _, said))| sums[i * 16] == *said).count();
    let softmax = ["a softmax of 1040, summed", &format!("{total:.5}"), "1", "not published"];
    rows.push(row(softmax.map(str::to_owned)));
    let table = Outcome::new(&["vector", "seen", "exact", "published"], rows);
    let away = sums[0] == 2050.0;
    let says = format!(
        "{matched} of {} sums are as published; 2049 becomes {}, and 4096 with 1024 ones {}",
        cases.len(),
        sums[0],
        sums[16]
    );
    let level = (1000.0..=5120.0).contains(&sums[16]) && (total - 1.0).abs() < 0.02;
    let mut outcome = table.weigh(of, &[("E3-half-away", away), ("E4-reduction", level)], says);
    if sums[0] == 2048.0 && !of.emulated {
        outcome.supports.push("E3-half-even-m1");
    }
    Ok(outcome)
}

/// An activation: its call, what is published of its largest error and of its value at 0.
type Activation = (&'static str, Option<f64>, Option<f64>);

/// Those that take one number and give one.
const ACTIVATIONS: [Activation; 18] = [
    ("sigmoid(x = x)", Some(0.0034), None),
    ("tanh(x = x)", Some(0.0017), None),
    ("gelu(x = x, mode = string(\"EXACT\"))", Some(0.0059), Some(-0.000543)),
    ("silu(x = x)", None, Some(-0.001259)),
    ("softplus(x = x)", None, None),
    ("softsign(x = x)", None, None),
    ("elu(x = x, alpha = fp16(1.0))", None, None),
    ("sigmoid_hard(x = x, alpha = fp16(0.2), beta = fp16(0.5))", None, None),
    ("relu(x = x)", None, None),
    ("erf(x = x)", None, None),
    ("exp(x = x)", None, None),
    ("exp2(x = x)", None, None),
    ("log(x = x, epsilon = fp16(0.0))", None, Some(-45440.0)),
    ("sqrt(x = x)", None, None),
    ("rsqrt(x = x, epsilon = fp16(0.0))", None, None),
    ("inverse(x = x, epsilon = fp16(0.0))", None, None),
    ("sin(x = x)", None, None),
    ("atan(x = x)", None, None),
];

/// The largest |seen − true| over 2^-6 <= |x| <= 8, as a share of the true value where that is
/// beyond 1.
fn largest_error(x: &[f32], seen: &[f32], right: &[f64]) -> f64 {
    let within = |x: &f32| (1.0 / 64.0..=8.0).contains(&x.abs());
    let each =
        x.iter().zip(seen).zip(right).filter(|((x, _), right)| within(x) && right.is_finite());
    each.map(|((_, &y), &right)| (f64::from(y) - right).abs() / right.abs().max(1.0))
        .fold(0.0, f64::max)
}

pub(super) fn activations(of: &mut Session<'_>) -> Answer {
    let every: Vec<f32> = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).collect();
    let numbers = every.iter().map(|&x| f64::from(x)).collect();
    let truth = mil::interp::Array::new([1, 64, 32, 32], numbers);
    // Of those with a published error, whether it is met; those that did not run are missing.
    let (mut rows, mut met) = (vec![], vec![]);
    for (call, published, published_at_zero) in ACTIVATIONS {
        let like =
            mil::parse(&one_call("[1, 64, 32, 32]", "", call)).map_err(|_| AneError::NoFunction)?;
        let name = call.split('(').next().unwrap_or(call).to_owned();
        let none = |why: String| (why, "-".to_owned(), "-".to_owned());
        let got = of.compile_past_rules(&like, &Weights::new()).map(|executable| {
            Bench::new(of.device, executable).and_then(|mut bench| bench.answer(&[&every]))
        });
        let (error, at_zero, nan) = match got {
            Err(_) => none("refused".to_owned()),
            Ok(Err(error)) => none(failure(&error)),
            Ok(Ok(got)) => {
                let right = mil::interp::evaluate(
                    &like.functions[0],
                    std::slice::from_ref(&truth),
                    &Weights::new(),
                );
                let error =
                    right.map_or(f64::NAN, |right| largest_error(&every, &got, &right[0].data));
                met.extend(published.map(|p| (0.85 * p..1.15 * p).contains(&error)));
                let nan = got.iter().filter(|v| v.is_nan()).count();
                (format!("{error:.4}"), format!("{:.6}", got[0]), nan.to_string())
            }
        };
        let said = |v: Option<f64>| v.map_or("-".to_owned(), |v| v.to_string());
        rows.push(row([name, error, said(published), at_zero, said(published_at_zero), nan]));
    }
    let columns = ["operation", "largest error", "published", "at 0", "published", "NaN"];
    let all = ACTIVATIONS.iter().filter(|(_, published, _)| published.is_some()).count();
    let as_known = met.iter().all(|met| *met);
    let (says, judged) = match (as_known, met.len() == all) {
        (true, true) => ("sigmoid, tanh and gelu are as wrong as published", true),
        (true, false) => ("sigmoid, tanh or gelu did not run", false),
        (false, _) => ("sigmoid, tanh or gelu is not as wrong as published", true),
    };
    let facts: &[_] = if judged { &[("E4-activation-errors", as_known)] } else { &[] };
    let says = format!(
        "{says} (over 2^-6 <= |x| <= 8); a trace holds all 65536 results of each operation"
    );
    Ok(Outcome::new(&columns, rows).weigh(of, facts, says))
}

/// A program of one call on x, after other statements.
fn one_call(shape: &str, before: &str, call: &str) -> String {
    let ty = format!("tensor<fp16, {shape}>");
    format!(
        "program(1.3) {{ func main<ios18>({ty} x) {{ {before}{ty} y = {call}[name = string(\"y\")]; }} -> (y); }}"
    )
}

/// Two inputs, two outputs: channels and tokens of all of them, and the bytes of each surface.
const REQUESTS: [(usize, usize, [usize; 4]); 11] = [
    (16, 64, [2048; 4]),
    (64, 64, [8192; 4]),
    (64, 64, [16384; 4]),
    (64, 64, [49152; 4]),
    (64, 32, [49152; 4]),
    (64, 16, [49152; 4]),
    (64, 8, [49152; 4]),
    (64, 1, [49152; 4]),
    (64, 64, [49152, 65536, 49152, 49152]),
    (64, 64, [65536, 49152, 49152, 49152]),
    (64, 64, [49152, 49152, 65536, 49152]),
];

/// Runs y = a + b and z = a - b on surfaces of these sizes; how it went, in a word.
fn request(
    of: &Session<'_>,
    formula: &Program,
    ty: &TensorType,
    sizes: [usize; 4],
) -> Result<String, AneError> {
    let Ok(mut program) = of.compile_past_rules(formula, &Weights::new()) else {
        return Ok("does not compile".to_owned());
    };
    let surface = |bytes: usize| of.device.surface(ty, bytes);
    let [a, b, y, z] =
        [surface(sizes[0])?, surface(sizes[1])?, surface(sizes[2])?, surface(sizes[3])?];
    a.write(&vec![2.0; ty.count()])?;
    b.write(&vec![1.0; ty.count()])?;
    if let Err(error) = program.run(&[&a, &b], &[&y, &z]) {
        return Ok(failure(&error));
    }
    let (mut sum, mut difference) = (vec![0.0; ty.count()], vec![0.0; ty.count()]);
    y.read(&mut sum)?;
    z.read(&mut difference)?;
    let right = sum.iter().all(|&v| v == 3.0) && difference.iter().all(|&v| v == 1.0);
    Ok(if right { "runs" } else { "runs, with wrong results" }.to_owned())
}

pub(super) fn surfaces(of: &mut Session<'_>) -> Answer {
    // Whether requests of surfaces of one size, and of several, went as the facts in force say.
    let (mut rows, mut one_size, mut several, mut any) = (vec![], true, true, false);
    for (channels, tokens, sizes) in REQUESTS {
        let ty = TensorType::fp16([1, channels, 1, tokens]);
        let b = Builder::new("main");
        let (x, y) = (b.input("a", ty.clone()), b.input("b", ty.clone()));
        let outputs = [(x + y).named("y"), (x - y).named("z")];
        let formula = Program::new(b.finish(&outputs)?);
        let seen = request(of, &formula, &ty, sizes)?;
        let allowed = of.profile.check_allocations(&sizes[..2]).is_ok()
            && of.profile.check_allocations(&sizes[2..]).is_ok();
        let said = match legal::check(&formula, &of.profile) {
            Err(_) => "does not compile",
            Ok(_) if allowed => "runs",
            Ok(_) => "status=0x1d",
        };
        let alike = sizes.iter().all(|size| *size == sizes[0]);
        *(if alike { &mut one_size } else { &mut several }) &= seen == said;
        any |= seen.starts_with("runs");
        let [a, b, y, z] = sizes;
        rows.push(row([
            format!("{channels} × {tokens}"),
            format!("{a}, {b} -> {y}, {z}"),
            seen,
            said.to_owned(),
        ]));
    }
    let bound = order(of);
    let by_alphabet = bound.as_ref().ok().map(|bound| *bound == ("a, b, c".into(), "y, z".into()));
    let (inputs, outputs) = bound.unwrap_or_else(|e| (failure(&e), failure(&e)));
    for (what, seen, said) in [("c, a, b in", inputs, "a, b, c"), ("z, y out", outputs, "y, z")] {
        let [what, how] = [format!("named {what}"), "in binding order".to_owned()];
        rows.push(row([what, how, seen, said.to_owned()]));
    }
    let table = Outcome::new(&["request", "bytes of surfaces", "seen", "facts in force"], rows);
    let says = match (any, one_size && several, by_alphabet) {
        (false, ..) => "no request of two inputs runs, whatever its sizes",
        (true, true, Some(true)) => {
            "requests run exactly where the facts in force let them, bound by the alphabet"
        }
        (true, true, None) => {
            "requests run exactly where the facts in force let them; one of three inputs fails"
        }
        (true, ..) => "requests do not run, or are not bound, as the facts in force say",
    };
    // Where none runs, it is not for its sizes.
    let facts: Vec<_> = [
        ("C1-minimum-size", any.then_some(one_size)),
        ("C1-uniform-sizes", any.then_some(several)),
        ("C1-alphabetical", by_alphabet),
        ("C2-any-size", any.then_some(one_size && several)),
        ("C2-named-ports", by_alphabet),
    ]
    .into_iter()
    .filter_map(|(prefix, holds)| Some((prefix, holds?)))
    .flat_map(|(prefix, holds)| of.facts(prefix).into_iter().map(move |fact| (fact, holds)))
    .collect();
    Ok(table.weigh(of, &facts, says.to_owned()))
}

/// In which order three inputs and two outputs are bound that the text names otherwise.
fn order(of: &Session<'_>) -> Result<(String, String), AneError> {
    let ty = TensorType::fp16([1, 1, 64, 64]);
    let builder = Builder::new("main");
    let [c, a, b] = ["c", "a", "b"].map(|name| builder.input(name, ty.clone()));
    let digits = a + b * 10.0 + c * 100.0;
    let outputs = [(digits * 2.0).named("z"), (digits * 1.0).named("y")];
    let formula = Program::new(builder.finish(&outputs)?);
    let executable = of.compile_past_rules(&formula, &Weights::new())?;
    let mut bench = Bench::new(of.device, executable)?;
    let fill = |v: f32| vec![v; ty.count()];
    let got = bench.answer(&[&fill(1.0), &fill(2.0), &fill(3.0)])?;
    let (first, second) = (got[0], got[ty.count()]);
    let (y, outputs) = match first * 2.0 == second {
        true => (first, "y, z"),
        false => (second, "z, y"),
    };
    // The digit of a name says which surface it got.
    let digit = |of: f32| (y / of) as usize % 10;
    let mut names = [(digit(1.0), "a"), (digit(10.0), "b"), (digit(100.0), "c")];
    names.sort_unstable();
    Ok((names.map(|(_, name)| name).join(", "), outputs.to_owned()))
}

/// A statement before, the call, and whether the facts in force let it pass.
const SPELLINGS: [(&str, &str, bool); 8] = [
    ("", "gelu(x = x, mode = string(\"EXACT\"))", true),
    ("", "gelu(x = x)", false),
    ("", "rsqrt(x = x, epsilon = fp16(0.001))", true),
    ("", "rsqrt(x = x)", false),
    (
        "bool no = const()[name = string(\"no\"), val = bool(false)]; ",
        "matmul(x = x, y = x, transpose_x = no, transpose_y = no)",
        true,
    ),
    ("", "matmul(x = x, y = x, transpose_x = bool(false), transpose_y = bool(false))", true),
    ("", "matmul(x = x, y = x, transpose_x = false, transpose_y = false)", false),
    ("", "mul(x = x, y = fp16(2.0))", true),
];

pub(super) fn spelling(of: &mut Session<'_>) -> Answer {
    const SHAPE: &str = "[1, 1, 64, 64]";
    let like = mil::parse(&one_call(SHAPE, "", "relu(x = x)")).map_err(|_| AneError::NoFunction)?;
    let (mut rows, mut as_known) = (vec![], true);
    for (before, call, compiles) in SPELLINGS {
        let text = one_call(SHAPE, before, call);
        // Letter by letter: neither our reader nor our writer comes between.
        let seen = of.compile_unchecked(&text, &Weights::new(), &like).is_ok();
        as_known &= seen == compiles;
        let word = |compiles| if compiles { "compiles" } else { "refused" }.to_owned();
        let named = if before.is_empty() { "" } else { ", with `no` a constant" };
        rows.push(row([format!("{call}{named}"), word(seen), word(compiles)]));
    }
    let table = Outcome::new(&["spelling", "seen", "facts in force"], rows);
    let says = match as_known {
        true => "what the facts in force let pass compiles, and nothing else",
        false => "other spellings compile than the facts in force say",
    };
    let facts = ["A2-required-arguments", "A2-typed-literals", "A2-bare-literals"];
    Ok(table.open(of, as_known, &facts, says.to_owned()))
}

pub(super) fn notch(of: &mut Session<'_>) -> Answer {
    let (mut rows, mut speeds) = (vec![], vec![]);
    // Output channels per core; with 4096 input channels 128 of them are 1 MiB.
    for per_core in [112, 120, 126, 127, 128, 129, 130, 136] {
        let (inputs, outputs) = (4096, 16 * per_core);
        let formula = program(&[("x", &[1, inputs, 1, 16])], |b, x| {
            convolution(b, x[0], constant(b, &[outputs, inputs, 1, 1]))
        })?;
        let weights = || weight_file(&vec![0.01; inputs * outputs]);
        let timed = of.time_engine(&formula, weights)?;
        let speed = (2 * inputs * outputs) as f64 / timed.judged / 1e9;
        let kib = (2 * inputs * per_core / 1024).to_string();
        let published = of.published(match per_core {
            128 => "conv 2048x4096, notch",
            126 => "conv 2048x4096, 2016 outputs",
            _ => "",
        });
        let [measured, forecast] = timed.cells();
        rows.push(row([kib, measured, forecast, published, format!("{speed:.1}")]));
        speeds.push(speed);
    }
    let slowed = speeds[4] < 0.75 * (speeds[0] + speeds[7]) / 2.0;
    let columns = ["KiB per core", of.clock(), "forecast ms", "published ms", "GB/s"];
    let says = format!(
        "{:.0} GB/s at 1 MiB per core and {:.0} around it, {}",
        speeds[4],
        (speeds[0] + speeds[7]) / 2.0,
        of.source()
    );
    let as_known = slowed == of.profile.chip.dma_notch();
    Ok(Outcome::new(&columns, rows).open(of, as_known, &["F3-dma-notch"], says))
}

/// More programs than the limit, each released at once.
const MANY: usize = 130;

pub(super) fn compiles(of: &mut Session<'_>) -> Answer {
    let (mut compiled, mut tries) = (0, 0);
    let failed = loop {
        let factor = 1.0 + compiled as f64;
        let formula = program(&[("x", &[1, 1, 16, 64])], |_, x| x[0] * factor)?;
        match of.compile_past_rules(&formula, &Weights::new()) {
            Ok(executable) => {
                drop(executable);
                (compiled, tries) = (compiled + 1, 0);
            }
            // Once may be a mood of the compiler.
            Err(_) if tries == 0 => tries += 1,
            Err(error) => break Some(error),
        }
        if compiled == MANY {
            break None;
        }
    };
    let end = failed.as_ref().map_or("no error".to_owned(), |error| {
        error.to_string().lines().last().unwrap_or_default().to_owned()
    });
    let rows = vec![row([compiled.to_string(), end])];
    let table = Outcome::new(&["compiled and released", "then"], rows);
    let limited = of.profile.limits().compiles.is_some();
    let says = match failed {
        Some(_) => format!(
            "the compiler failed after {compiled} programs, besides those that this process had compiled before"
        ),
        None => format!("{compiled} programs compiled and released, and no end in sight"),
    };
    let fact = match of.facts("D-compiles-e5rt").is_empty() {
        true => "D-compiles",
        false => "D-compiles-e5rt",
    };
    Ok(table.open(of, limited == failed.is_some(), &[fact], says))
}
