//! `exact` numerics against published measurements of the engine and against the law in integers.
//!
//! The law is written here a second time, over 128-bit integers and without floating point, from its
//! statement in docs/ane-facts.md E.1.

use cpu::{Numerics, Quirks};
use half::f16;
use mil::{Arg, Builder, DType, Op, TensorType};
use numpy::Generator;

mod numpy;
mod on_cpu;

/// v · 2^24 as an integer: every finite fp16 value is one.
fn fixed(v: f16) -> i128 {
    (v.to_f64() * 2f64.powi(24)) as i128
}

/// ⌊log₂|v|⌋.
fn exponent(v: f16) -> i32 {
    127 - fixed(v).unsigned_abs().leading_zeros() as i32 - 24
}

/// The law of E.1 for finite operands whose partial sums stay in range.
fn law(a: &[f16], b: &[f16]) -> f64 {
    let mut sum: i128 = 0;
    for (&a, &b) in a.iter().zip(b) {
        let product = fixed(a) * fixed(b);
        if product == 0 || exponent(a) + exponent(b) < -16 {
            continue;
        }
        // Products are multiples of 2^-48; units of 2^-16 are 2^32 of them.
        let units = (product.abs() + (1 << 31)) >> 32;
        sum += units * product.signum();
    }
    assert!(sum.abs() < 1 << 31, "the operands stay in range");
    let bits = 128 - sum.unsigned_abs().leading_zeros();
    let dropped = bits.saturating_sub(11);
    let kept = (sum.abs() + ((1 << dropped) >> 1)) >> dropped << dropped;
    let value = kept as f64 / 65_536.0 * sum.signum() as f64;
    if value.abs() >= 32_768.0 { f64::INFINITY * value } else { value }
}

/// Runs x [m, k] · yᵀ for y [n, k] on the emulated engine.
fn product(numerics: Numerics, x: &[f16], y: &[f16], [m, n, k]: [usize; 3]) -> Vec<f16> {
    let b = Builder::new("main");
    let x_in = b.input("x", TensorType::new(DType::Fp16, [1, 1, m, k]));
    let y_in = b.input("y", TensorType::new(DType::Fp16, [1, 1, n, k]));
    let f = b.finish(&[x_in.matmul(y_in, false, true).named("z")]).unwrap();
    run(numerics, f, &[x, y])
}

/// Runs a function of fp16 inputs with one output.
fn run(numerics: Numerics, f: mil::Function, inputs: &[&[f16]]) -> Vec<f16> {
    let wide = |x: &&[f16]| x.iter().map(|v| v.to_f32()).collect::<Vec<_>>();
    let inputs: Vec<Vec<f32>> = inputs.iter().map(wide).collect();
    let y = on_cpu::run(&f, numerics, Quirks::default(), &inputs).remove(0);
    y.into_iter().map(f16::from_f32).collect()
}

/// fp16 values of every exponent from 2^-24 to 2^`top`, both signs, zeros among them.
fn spread(random: &mut Generator, n: usize, top: i32) -> Vec<f16> {
    (0..n)
        .map(|_| {
            let e = (random.uniform() * f64::from(top + 26)) as i32 - 25;
            let v = f16::from_f64((1.0 + random.uniform()) * 2f64.powi(e));
            if random.uniform() < 0.5 { v } else { -v }
        })
        .collect()
}

#[test]
fn products_follow_the_law_bit_for_bit() {
    let mut random = Generator::new(7);
    // Odd shapes: rests of every tile, rows and columns of one, an inner dimension of one.
    for [m, n, k] in [[1, 1, 1], [5, 33, 7], [4, 32, 64], [37, 65, 129], [1, 70, 300], [3, 1, 2]] {
        for top in [-4, 0, 3] {
            let x = spread(&mut random, m * k, top);
            let y = spread(&mut random, n * k, top);
            let z = product(Numerics::Exact, &x, &y, [m, n, k]);
            for i in 0..m {
                for j in 0..n {
                    let want = law(&x[i * k..][..k], &y[j * k..][..k]);
                    let got = z[i * n + j].to_f64();
                    assert_eq!(got, want, "[{m}, {n}, {k}] up to 2^{top}, element ({i}, {j})");
                }
            }
        }
    }
}

/// AF:bench/device_saturation_sweep.py: relative error of x·Wᵀ, measured on M1, M1 Max, M2 Pro, M4,
/// M5 and M5 Pro with one result. Inputs are normal deviates of NumPy's generator, seed 0, x before W,
/// in f32 divided by √N; the error is in the L2 norm over the first 256 rows, against f64 on the
/// inputs before their rounding to fp16.
#[test]
fn published_errors_of_products_are_reproduced_to_twelve_digits() {
    for (n, published) in [(512, 0.002_578_003_970_237_92), (1024, 0.005_528_352_999_597_525)] {
        let mut random = Generator::new(0);
        let mut matrix = || -> Vec<f32> {
            let scale = (n as f64).sqrt() as f32;
            random.normals(n * n).into_iter().map(|v| v as f32 / scale).collect()
        };
        let (x, w) = (matrix(), matrix());
        let rows = 256;
        let half = |v: &[f32]| v.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>();
        let z = product(Numerics::Exact, &half(&x[..rows * n]), &half(&w), [rows, n, n]);
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (x, w) = (wide(&x), wide(&w));
        let (mut difference, mut size) = (0.0, 0.0);
        for i in 0..rows {
            for j in 0..n {
                let row = x[i * n..][..n].iter().zip(&w[j * n..][..n]);
                let want: f64 = row.map(|(a, b)| a * b).sum();
                difference += (z[i * n + j].to_f64() - want).powi(2);
                size += want * want;
            }
        }
        let error = (difference / size).sqrt();
        assert!((error / published - 1.0).abs() < 1e-12, "{n}: {error} for {published}");
    }
}

#[test]
fn the_array_saturates_at_two_to_the_fifteen() {
    // AF's bisection finds 32758.8 on every chip, whatever the inner dimension: 32752 is the last
    // finite result, and what rounds to 32768 is infinite.
    for k in [4, 16, 64, 128] {
        for (value, want) in [(32_752.0, 32_752.0), (32_759.0, 32_752.0), (32_761.0, f64::INFINITY)]
        {
            let mut x = vec![f16::ZERO; k];
            let mut y = vec![f16::ZERO; k];
            // 2^7 · 2^8 is the cliff; the rest of the value comes in smaller products.
            (x[0], y[0]) = (f16::from_f64(128.0), f16::from_f64(255.0));
            (x[1], y[1]) = (f16::from_f64(value - 128.0 * 255.0), f16::ONE);
            let z = |sign: f64| {
                let x: Vec<f16> = x.iter().map(|v| f16::from_f64(v.to_f64() * sign)).collect();
                product(Numerics::Exact, &x, &y, [1, 1, k])[0].to_f64()
            };
            assert_eq!((z(1.0), z(-1.0)), (want, -want), "{value} at {k}");
        }
    }
}

#[test]
fn partial_sums_beyond_the_range_are_not_taken_back() {
    let values = |v: &[f64]| v.iter().map(|&v| f16::from_f64(v)).collect::<Vec<_>>();
    let ones = values(&[1.0; 4]);
    let z =
        product(Numerics::Exact, &values(&[30_000.0, 10_000.0, -20_000.0, 0.0]), &ones, [1, 1, 4]);
    assert_eq!(z[0], f16::INFINITY);
    let z =
        product(Numerics::Exact, &values(&[30_000.0, -20_000.0, 10_000.0, 0.0]), &ones, [1, 1, 4]);
    assert_eq!(z[0].to_f64(), 20_000.0);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut random = Generator::new(3);
    let shape @ [m, n, k] = [130, 70, 200];
    let (x, y) = (spread(&mut random, m * k, 0), spread(&mut random, n * k, 0));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| product(Numerics::Exact, &x, &y, shape))
    };
    let bits = |z: Vec<f16>| z.into_iter().map(f16::to_bits).collect::<Vec<_>>();
    let one = bits(with(1));
    assert!([2, 3, 5].into_iter().all(|threads| bits(with(threads)) == one));
}

/// A function of one input [1, 1, 1, n].
fn unary(n: usize, op: impl FnOnce(mil::Tensor<'_>) -> mil::Tensor<'_>) -> mil::Function {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::new(DType::Fp16, [1, 1, 1, n]));
    b.finish(&[op(x).named("y")]).unwrap()
}

#[test]
fn nan_is_never_emitted() {
    let specials: Vec<f16> = [f64::NAN, f64::INFINITY, -f64::INFINITY, 0.0, -0.0, -1.0, 65_504.0]
        .into_iter()
        .map(f16::from_f64)
        .collect();
    // Every pair of special values.
    let pairs: Vec<(f16, f16)> =
        specials.iter().flat_map(|&a| specials.iter().map(move |&b| (a, b))).collect();
    let n = 64;
    let column = |f: fn(&(f16, f16)) -> f16| {
        let mut v: Vec<f16> = pairs.iter().map(f).collect();
        v.resize(n, f16::ZERO);
        v
    };
    let (x, y) = (column(|p| p.0), column(|p| p.1));
    for numerics in [Numerics::Fast, Numerics::Exact] {
        for op in [Op::Add, Op::Sub, Op::Mul, Op::RealDiv, Op::Maximum, Op::Minimum] {
            let b = Builder::new("main");
            let ty = TensorType::new(DType::Fp16, [1, 1, 1, n]);
            let (p, q) = (b.input("x", ty.clone()), b.input("y", ty));
            let f = b.finish(&[p.binary(op, q).named("z")]).unwrap();
            let z = run(numerics, f, &[&x, &y]);
            assert!(z.iter().all(|v| !v.is_nan()), "{op:?} {numerics:?}");
            let at = |a: f64, b: f64| {
                let same = |p: f16, v: f64| {
                    p.to_f64() == v && p.to_f64().is_sign_negative() == v.is_sign_negative()
                };
                let i = pairs.iter().position(|p| same(p.0, a) && same(p.1, b)).unwrap();
                z[i].to_f64()
            };
            let inf = f64::INFINITY;
            match op {
                Op::Sub => assert_eq!(at(inf, inf), 0.0),
                Op::Mul => assert_eq!(at(0.0, inf), 0.0),
                Op::Add => assert!(at(-0.0, 0.0).is_sign_positive()),
                Op::RealDiv if numerics == Numerics::Exact => assert_eq!(at(-1.0, -0.0), -inf),
                _ => {}
            }
        }
        for op in [Op::Sqrt, Op::Exp, Op::Sigmoid, Op::Tanh, Op::Softsign, Op::Softplus] {
            let z = run(numerics, unary(n, |x| x.unary(op)), &[&x]);
            assert!(z.iter().all(|v| !v.is_nan()), "{op:?} {numerics:?}");
        }
    }
}

#[test]
fn subnormals_survive_elementwise_and_vanish_in_the_array() {
    let tiny = f16::from_f64(3.0 * 2f64.powi(-24));
    let x = vec![tiny; 32];
    let y = run(Numerics::Exact, unary(32, |x| x + x), &[&x]);
    assert!(y.iter().all(|v| v.to_f64() == 6.0 * 2f64.powi(-24)));
    let z = product(Numerics::Exact, &x, &[f16::ONE; 32], [1, 1, 32]);
    assert_eq!(z[0], f16::ZERO);
}

#[test]
fn elementwise_results_round_halves_away() {
    let x = vec![f16::from_f64(2048.0); 32];
    let y = run(Numerics::Exact, unary(32, |x| x + 1.0), &[&x]);
    assert!(y.iter().all(|v| v.to_f64() == 2050.0), "2049 lies between 2048 and 2050");
    let y = run(Numerics::Fast, unary(32, |x| x + 1.0), &[&x]);
    assert!(y.iter().all(|v| v.to_f64() == 2048.0), "fast rounds to even");
}

#[test]
fn a_convolution_of_one_channel_does_not_saturate() {
    let conv = |channels: usize| {
        let b = Builder::new("main");
        let x = b.input("x", TensorType::new(DType::Fp16, [1, channels, 1, 64]));
        let w = b.input("w", TensorType::new(DType::Fp16, [1, channels, 1, 1]));
        let args = vec![("x", Arg::Value(x.id())), ("weight", Arg::Value(w.id()))];
        b.finish(&[b.op(Op::Conv, args)[0].named("y")]).unwrap()
    };
    for numerics in [Numerics::Fast, Numerics::Exact] {
        let y = run(numerics, conv(1), &[&[f16::from_f64(30_000.0); 64], &[f16::from_f64(2.0)]]);
        assert!(y.iter().all(|v| v.to_f64() == 60_000.0), "{numerics:?}");
        let y = run(numerics, conv(2), &[&[f16::from_f64(30_000.0); 128], &[f16::ONE; 2]]);
        assert!(y.iter().all(|v| *v == f16::INFINITY), "{numerics:?}");
    }
}
