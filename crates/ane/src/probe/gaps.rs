//! Questions that no published work answers (facts/ane.md K). An emulator can only repeat what it
//! assumes; traces of these probes from an engine decide them.

use super::{Outcome, Session, Verdict, ms, row};
use crate::bench::{constant, convolution, program, weight_file};
use crate::cost::estimate;
use crate::error::AneError;
use half::f16;
use mil::{Op, TensorType, Weights};

type Answer = Result<Outcome, AneError>;

/// v to fp16, halves away from zero; infinite from 2^15 on (facts/ane.md E.1, E.2).
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

/// A sum of products by the law of facts/ane.md E.1.
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
        ("20000 + 20000 - 20000", &[(2e4, 1.0), (2e4, 1.0), (-2e4, 1.0)], f32::NAN),
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
        let said = if said.is_nan() { "open".to_owned() } else { format!("{said}") };
        row([(*name).to_owned(), format!("{}", seen(i)), said])
    });
    let table = Outcome::new(&["terms", "result", "facts"], lines.collect());
    let as_said = (0..cases.len()).all(|i| cases[i].2.is_nan() || seen(i) == cases[i].2);
    let (fact, words) = match partial.is_infinite() {
        true => ("E2-partial-sums", "a partial sum beyond 2^15 is infinite for good"),
        false => ("E2-final-sum-only", "only the final sum is held against 2^15"),
    };
    let says = match as_said {
        true => format!("{words}, and small factors are gated as the facts say"),
        false => "small factors or large sums are treated otherwise than the facts say".to_owned(),
    };
    Ok(table.open(of, as_said, &["E1-product-gate", "E2-saturation", fact], says))
}

pub(super) fn reductions(of: &mut Session<'_>) -> Answer {
    let width = 1040;
    let repeated = |v: f32| -> Vec<f32> { [v, -v, 1.0].repeat(16) };
    let large: Vec<f32> = std::iter::once(4096.0).chain(std::iter::repeat_n(1.0, 1024)).collect();
    let cases = [
        ("2048 + 1", vec![2048.0, 1.0], "2050 (E3-half-away)"),
        ("4096 + 1024 times 1", large, "5116 on M1 (GUIDE:03)"),
        ("(4000, -4000, 1) 16 times", repeated(4000.0), "16 on M1 (GUIDE:03)"),
        ("(4096, -4096, 1) 16 times", repeated(4096.0), "4 on M1 (GUIDE:03)"),
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
            row([
                (*name).to_owned(),
                sums[i * 16].to_string(),
                exact.to_string(),
                (*said).to_owned(),
            ])
        })
        .collect();
    let softmax = ["a softmax of 1040, summed", &format!("{total:.5}"), "1", "not published"];
    rows.push(row(softmax.map(str::to_owned)));
    let table = Outcome::new(&["vector", "seen", "exact", "published"], rows);
    let away = sums[0] == 2050.0;
    let says =
        format!("2049 becomes {}, and 4096 with 1024 ones {} (exact: 5120)", sums[0], sums[16]);
    let half = if away { "E3-half-away" } else { "E3-half-even-m1" };
    let known = away && (1000.0..=5120.0).contains(&sums[16]) && (total - 1.0).abs() < 0.02;
    Ok(table.open(of, known, &[half, "E4-reduction"], says))
}

pub(super) fn activations(of: &mut Session<'_>) -> Answer {
    type Function = fn(f64) -> f64;
    let shape = [1, 64, 32, 32];
    let every: Vec<f32> = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).collect();
    let functions: [(Op, Function); 4] = [
        (Op::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Op::Tanh, f64::tanh),
        (Op::Silu, |x| x / (1.0 + (-x).exp())),
        (Op::Exp, f64::exp),
    ];
    let (mut rows, mut sigmoid) = (vec![], f64::INFINITY);
    for (op, truth) in functions {
        let formula = program(&[("x", &shape)], |_, x| x[0].unary(op))?;
        let got = of.bench(&formula, &Weights::new())?.answer(&[&every])?;
        let error = every.iter().zip(&got).filter(|(x, _)| x.abs() <= 8.0);
        let error = error
            .map(|(&x, &y)| {
                let right = truth(f64::from(x));
                (f64::from(y) - right).abs() / right.abs().max(1.0)
            })
            .fold(0.0, f64::max);
        let nan = got.iter().filter(|v| v.is_nan()).count();
        if op == Op::Sigmoid {
            sigmoid = error;
        }
        let cells = [got[0].to_string(), format!("{error:.5}"), nan.to_string()];
        let [zero, error, nan] = cells;
        rows.push(row([op.name().to_owned(), zero, error, nan]));
    }
    let columns = ["operation", "at 0", "largest error, |x| <= 8", "NaN"];
    let tabled = (0.002..0.005).contains(&sigmoid);
    let says = format!(
        "sigmoid is wrong by up to {sigmoid:.4} (published: 0.0034); the trace holds every table"
    );
    Ok(Outcome::new(&columns, rows).open(of, tabled, &["E4-activation-errors"], says))
}

pub(super) fn surfaces(of: &mut Session<'_>) -> Answer {
    let ty = TensorType::fp16([1, 64, 1, 64]);
    let formula = program(&[("a", &ty.shape), ("b", &ty.shape)], |_, x| x[0] + x[1])?;
    let (mut rows, mut as_known) = (vec![], true);
    for sizes in [[8192; 3], [16384; 3], [49152; 3], [49152, 65536, 49152], [65536, 49152, 49152]] {
        let mut bench = of.device.compile(&formula, &Weights::new())?;
        let surface = |bytes: usize| of.device.surface(&ty, bytes);
        let (a, b, y) = (surface(sizes[0])?, surface(sizes[1])?, surface(sizes[2])?);
        let ones = vec![1.0; ty.count()];
        a.write(&ones)?;
        b.write(&ones)?;
        let mut got = vec![0.0; ty.count()];
        let seen = match bench.run(&[&a, &b], &[&y]) {
            Err(error) => {
                let words = error.to_string();
                let last = words.lines().last().unwrap_or_default();
                // Of a refused request the status says all.
                last.find("status=").map_or(last, |at| &last[at..]).to_owned()
            }
            Ok(_) => {
                y.read(&mut got)?;
                let right = got.iter().all(|&v| v == 2.0);
                if right { "runs" } else { "runs, with wrong results" }.to_owned()
            }
        };
        let allowed = of.profile.check_allocations("input", &sizes[..2]).is_ok()
            && of.profile.check_allocations("output", &sizes[2..]).is_ok();
        as_known &= allowed == (seen == "runs");
        let said = if allowed { "runs" } else { "0x1d" }.to_owned();
        rows.push(row([format!("{} + {} -> {}", sizes[0], sizes[1], sizes[2]), seen, said]));
    }
    let table = Outcome::new(&["bytes", "seen", "facts in force"], rows);
    let says = match as_known {
        true => "requests run exactly where the facts in force let them",
        false => "other sizes run than the facts in force say",
    };
    let mut facts = of.facts("C1-minimum-size");
    facts.extend(of.facts("C1-uniform-sizes"));
    facts.extend(of.facts("C2-any-size"));
    Ok(table.open(of, as_known, &facts, says.to_owned()))
}

pub(super) fn spelling(of: &mut Session<'_>) -> Answer {
    let cases = [
        ("gelu(x = x, mode = string(\"EXACT\"))", true),
        ("gelu(x = x)", false),
        ("rsqrt(x = x, epsilon = fp16(0.001))", true),
        ("rsqrt(x = x)", false),
        ("matmul(x = x, y = x, transpose_x = bool(false), transpose_y = bool(true))", true),
        ("matmul(x = x, y = x, transpose_x = false, transpose_y = true)", false),
    ];
    let (mut rows, mut as_known, mut asked) = (vec![], true, true);
    for (call, compiles) in cases {
        let ty = "tensor<fp16, [1, 1, 64, 64]>";
        let text = format!(
            "program(1.3) {{ func main<ios18>({ty} x) {{ {ty} y = {call}[name = string(\"y\")]; }} -> (y); }}"
        );
        let (seen, compiled) = match mil::parse(&text) {
            // The engine was not asked: programs reach it through our reader.
            Err(_) => ("refused by our own reader", false),
            Ok(program) => match of.device.compile(&program, &Weights::new()) {
                Ok(_) => ("compiles", true),
                Err(AneError::Op(_) | AneError::Refused { .. }) if !of.emulated => {
                    asked = false;
                    ("refused by our own rules", false)
                }
                Err(_) => ("refused", false),
            },
        };
        as_known &= compiled == compiles;
        let said = if compiles { "compiles" } else { "refused" };
        rows.push(row([call, seen, said].map(str::to_owned)));
    }
    let table = Outcome::new(&["spelling", "seen", "facts in force"], rows);
    let says = match as_known {
        true => "what the facts in force let pass compiles, and nothing else",
        false => "other spellings compile than the facts in force say",
    };
    if !asked {
        let says = "our own rules refuse some spellings before the engine sees them";
        return Ok(Outcome { verdict: Verdict::Measured, says: says.to_owned(), ..table });
    }
    Ok(table.open(of, as_known, &["A2-required-arguments"], says.to_owned()))
}

pub(super) fn notch(of: &mut Session<'_>) -> Answer {
    let (mut rows, mut speeds) = (vec![], vec![]);
    // Output channels per core; with 4096 input channels 128 of them are 1 MiB.
    for per_core in [112, 120, 126, 127, 128, 129, 130, 136] {
        let (inputs, outputs) = (4096, 16 * per_core);
        let formula = program(&[("x", &[1, inputs, 1, 16])], |b, x| {
            convolution(b, x[0], constant(b, &[outputs, inputs, 1, 1]))
        })?;
        let forecast = estimate(&formula.functions[0], &of.profile);
        // An emulator's own time says nothing here, so that it need not compute.
        let seconds = match of.emulated {
            true => forecast.seconds,
            false => of.time(&formula, &weight_file(&vec![0.01; inputs * outputs]))?.measured,
        };
        let speed = (2 * inputs * outputs) as f64 / seconds / 1e9;
        let kib = (2 * inputs * per_core / 1024).to_string();
        rows.push(row([kib, ms(seconds), ms(forecast.seconds), format!("{speed:.1}")]));
        speeds.push(speed);
    }
    let slowed = speeds[4] < 0.75 * (speeds[0] + speeds[7]) / 2.0;
    let columns = ["KiB per core", "ms", "forecast ms", "GB/s"];
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
    let mut compiled = 0;
    let failed = loop {
        let formula = program(&[("x", &[1, 1, 16, 64])], |_, x| x[0] * (1.0 + compiled as f64))?;
        match of.device.compile(&formula, &Weights::new()) {
            Ok(executable) => drop(executable),
            Err(error) => break Some(error),
        }
        compiled += 1;
        if compiled == MANY {
            break None;
        }
    };
    let end = failed.as_ref().map_or("no error".to_owned(), |error| {
        error.to_string().lines().last().unwrap_or_default().to_owned()
    });
    let rows = vec![row([compiled.to_string(), end])];
    let table = Outcome::new(&["compiled and released", "then"], rows);
    if !of.emulated && matches!(failed, Some(AneError::CompileBudget { .. })) {
        let says = "our own count of compiles ended this before the engine could";
        return Ok(Outcome { verdict: Verdict::Measured, says: says.to_owned(), ..table });
    }
    let limited = of.profile.limits().compiles.is_some();
    let says = match failed {
        Some(_) => format!("the compiler failed after {compiled} more programs of this process"),
        None => format!("{compiled} programs compiled and released, and no end in sight"),
    };
    let fact = match (limited, of.facts("D-compiles-e5rt").is_empty()) {
        (false, false) => "D-compiles-e5rt",
        _ => "D-compiles",
    };
    Ok(table.open(of, limited == failed.is_some(), &[fact], says))
}
