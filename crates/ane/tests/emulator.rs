//! The emulated engine: its rules, its chips, and requests on several threads.

use ane::{Device, Emulator, Surface};
use chip::Profile;
use cpu::Numerics;
use half::f16;
use mil::{Builder, Program, TensorType, Weights};
use std::time::Duration;

#[test]
fn engine_rules_in_fast() {
    // docs/ane-facts.md E.2: a product of at least 2^15 is ±∞; E.3: no NaN, a NaN read is +∞.
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([1, 1, 2, 2]));
    let f = b.finish(&[x.matmul(x, false, false).named("y"), (x - x).named("z")]).unwrap();
    let device = Emulator::engine(Profile::default(), Numerics::Fast);
    let program = Program::new(f);
    let mut exe = device.compile(&program, &Weights::new()).unwrap();
    let ty = TensorType::fp16([1, 1, 2, 2]);
    let (x, y, z) = (
        device.surface(&ty, 65_536).unwrap(),
        device.surface(&ty, 65_536).unwrap(),
        device.surface(&ty, 65_536).unwrap(),
    );
    x.write(&[200.0, f32::NAN, 0.0, 1.0]).unwrap();
    exe.run(&[&x], &[&y, &z]).unwrap();
    let mut out = [0.0f32; 4];
    y.read(&mut out).unwrap();
    assert_eq!(out[0], f32::INFINITY, "200·200 + ∞·0");
    z.read(&mut out).unwrap();
    assert_eq!(out, [0.0; 4], "∞ − ∞ is +0");
    let small = device.surface(&ty, 49_152).unwrap();
    let error = exe.run(&[&x], &[&y, &small]).unwrap_err().to_string();
    assert!(error.contains("status=0x1d : statusType=0x9"), "{error}");
    assert!(exe.run(&[&x, &x], &[&y, &z]).unwrap_err().to_string().contains("needs 1 input"));
    // Without the check, the request would wait for itself.
    for (input, outputs) in [(x.clone(), [y.clone(), y.clone()]), (y.clone(), [y, z])] {
        let mut exe = device.compile(&program, &Weights::new()).unwrap();
        let error = in_time(move || {
            exe.run(&[&input], &[&outputs[0], &outputs[1]]).unwrap_err().to_string()
        });
        assert!(error.contains("may not share memory"), "{error}");
    }
}

/// The result of `work`; a test that would hang fails after a minute.
fn in_time<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("an answer within a minute")
}

#[test]
fn requests_that_cross_each_other_make_progress() {
    let b = Builder::new("main");
    let ty = TensorType::fp16([1, 1, 1, 16]);
    let (x, y) = (b.input("x", ty.clone()), b.input("y", ty.clone()));
    let f = b.finish(&[(x + y).named("z")]).unwrap();
    let device = Emulator::cpu(Numerics::Fast);
    let [p, q] = [0, 1].map(|_| device.surface(&ty, 0).unwrap());
    in_time(move || {
        std::thread::scope(|scope| {
            for (from, to) in [(&p, &q), (&q, &p), (&p, &q), (&q, &p)] {
                let mut exe = device.compile(&Program::new(f.clone()), &Weights::new()).unwrap();
                // One surface is both inputs of one request and the output of another.
                scope.spawn(move || {
                    for _ in 0..2000 {
                        exe.run(&[from, from], &[to]).unwrap();
                    }
                });
            }
        });
    });
}

/// Runs a function of fp16 inputs, in alphabetical order, with one output.
fn run(numerics: Numerics, profile: Profile, f: mil::Function, inputs: &[&[f16]]) -> Vec<f16> {
    let device = Emulator::engine(profile, numerics);
    let mut exe = device.compile(&Program::new(f), &Weights::new()).unwrap();
    let ports = exe.inputs().iter().chain(exe.outputs());
    let bytes = ports.map(|p| p.ty.bytes()).max().unwrap().max(device.least_allocation());
    let surface = |p: &ane::Port| device.surface(&p.ty, bytes).unwrap();
    let ins: Vec<Surface> = exe.inputs().iter().map(surface).collect();
    let out = surface(&exe.outputs()[0]);
    for (surface, values) in ins.iter().zip(inputs) {
        surface.write(&values.iter().map(|v| v.to_f32()).collect::<Vec<_>>()).unwrap();
    }
    exe.run(&ins.iter().collect::<Vec<_>>(), &[&out]).unwrap();
    let mut values = vec![0.0f32; out.ty().count()];
    out.read(&mut values).unwrap();
    values.into_iter().map(f16::from_f32).collect()
}

/// A function of one input [1, 1, 1, n].
fn unary(n: usize, op: impl FnOnce(mil::Tensor<'_>) -> mil::Tensor<'_>) -> mil::Function {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([1, 1, 1, n]));
    b.finish(&[op(x).named("y")]).unwrap()
}

fn profile(text: &str) -> Profile {
    text.parse().unwrap()
}

#[test]
fn slices_inside_the_width_lose_large_values_on_m1_and_m2() {
    let values: Vec<f16> =
        (0..64).map(|i| f16::from_f64([4094.0, 4096.0, -5000.0, 1.0][i % 4])).collect();
    let inf = f64::INFINITY;
    for numerics in [Numerics::Fast, Numerics::Exact] {
        for (chip, want) in [
            ("m1", [4094.0, inf, -inf, 1.0]),
            ("m2-pro", [4094.0, inf, -inf, 1.0]),
            ("m3", [4094.0, 4096.0, -5000.0, 1.0]),
            ("m5", [4094.0, 4096.0, -5000.0, 1.0]),
        ] {
            let f = unary(64, |x| x.slice(&[0, 0, 0, 32], &[1, 1, 1, 32]));
            let y = run(numerics, profile(chip), f, &[&values]);
            assert!(y.iter().enumerate().all(|(i, v)| v.to_f64() == want[i % 4]), "{chip}");
            // A slice from the beginning takes the plain path.
            let f = unary(64, |x| x.slice(&[0, 0, 0, 0], &[1, 1, 1, 32]));
            let y = run(numerics, profile(chip), f, &[&values]);
            assert!(y.iter().zip(&values).all(|(a, b)| a == b), "{chip}");
        }
    }
}
