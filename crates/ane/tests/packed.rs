//! The packed calling convention computes the same.

use ane::{Device, Emulator, Packed, Surface, pack};
use chip::Profile;
use cpu::Numerics;
use mil::interp::{Array, evaluate};
use mil::{Builder, Function, Program, Tensor, TensorType, Weights};
use proptest::prelude::*;

/// One random step of a program over [1, 8, 2, 16] tensors.
fn grow<'b>(pool: &[Tensor<'b>], choice: u8, a: usize, b: usize) -> Tensor<'b> {
    let (x, y) = (pool[a % pool.len()], pool[b % pool.len()]);
    match choice % 8 {
        0 => x + y,
        1 => x - y * 0.5,
        2 => x * y,
        3 => x.tanh(),
        4 => x.softmax(-1) + y,
        5 => x.matmul(y, false, true).matmul(y, false, false) * 0.25,
        6 => x.transpose(&[0, 2, 1, 3]).reshape(&[1, 8, 2, 16]),
        _ => x - y.reduce_mean(&[1]),
    }
}

/// Values of binary16 between -1 and 1 that differ from place to place.
fn values(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * 37 + seed * 101) % 255) as f64 / 128.0 - 1.0).collect()
}

/// Indices in alphabetical order of the names.
fn alphabetical(f: &Function, ids: &[mil::ValueId]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|&i| f.value(ids[i]).name.clone());
    order
}

/// The interpreter gives the same numbers for `f` and for `f` packed.
fn same(f: &Function, inputs: &[Array]) {
    let g = pack(f).unwrap().expect("there is something to pack");
    assert!(mil::verify(&Program::new(g.clone())).is_empty());
    assert_eq!((g.inputs().count(), g.outputs.len()), (1, 1));
    let ids: Vec<_> = f.inputs().collect();
    let order = alphabetical(f, &ids);
    let rows: Vec<f64> = order.iter().flat_map(|&i| inputs[i].data.clone()).collect();
    let shape = g.ty(g.inputs().next().unwrap()).shape.clone();
    let got = evaluate(&g, &[Array::new(shape, rows)], &Weights::new()).unwrap();
    let expected = evaluate(f, inputs, &Weights::new()).unwrap();
    let order = alphabetical(f, &f.outputs);
    let expected: Vec<f64> = order.iter().flat_map(|&i| expected[i].data.clone()).collect();
    assert_eq!(got[0].data, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_programs(steps in prop::collection::vec((any::<u8>(), 0usize..64, 0usize..64), 1..10), wanted in 1usize..4) {
        let b = Builder::new("main");
        // Declared in an order that is not alphabetical, of sizes that differ in the packed input.
        let mut pool: Vec<_> = ["z", "a", "m"].map(|n| b.input(n, TensorType::fp16([1, 8, 2, 16]))).into();
        let row = b.input("k", TensorType::fp16([1, 1, 1, 16]));
        pool.push(pool[0] * row);
        for &(choice, i, j) in &steps {
            let next = grow(&pool, choice, i, j).tanh();
            pool.push(next);
        }
        let outputs: Vec<_> = pool[4..].iter().rev().take(wanted).copied().collect();
        let f = b.finish(&outputs).unwrap();
        let inputs: Vec<_> = (f.inputs().enumerate())
            .map(|(i, id)| Array::new(f.ty(id).shape.clone(), values(f.ty(id).count(), i)))
            .collect();
        same(&f, &inputs);
    }
}

fn run(device: &dyn Device, program: &Program) -> Vec<Vec<f32>> {
    let mut executable = device.compile(program, &Weights::new()).unwrap();
    let surfaces = |ports: &[ane::Port]| -> Vec<Surface> {
        let allocation = 1 << 17;
        ports.iter().map(|p| device.surface(&p.ty, allocation).unwrap()).collect()
    };
    let (inputs, outputs) = (surfaces(executable.inputs()), surfaces(executable.outputs()));
    for (i, surface) in inputs.iter().enumerate() {
        let v: Vec<f32> = values(surface.ty().count(), i).iter().map(|&v| v as f32).collect();
        surface.write(&v).unwrap();
    }
    for _ in 0..2 {
        let (read, written): (Vec<_>, Vec<_>) = (inputs.iter().collect(), outputs.iter().collect());
        executable.run(&read, &written).unwrap();
    }
    let read = |surface: &Surface| {
        let mut values = vec![0.0; surface.ty().count()];
        surface.read(&mut values).unwrap();
        values
    };
    outputs.iter().map(read).collect()
}

fn product(name: &str, ty: fn([usize; 4]) -> TensorType, k: usize) -> Program {
    let b = Builder::new("main");
    let (x, w) = (b.input("x", ty([1, 1, 64, k])), b.input("a_weight", ty([1, 1, 64, k])));
    let first = x.matmul(w, false, true).named(name);
    Program::new(b.finish(&[first, (x + w).named("b_sum")]).unwrap())
}

#[test]
fn a_packed_device_has_the_same_ports_and_bits() {
    for numerics in [Numerics::Fast, Numerics::Exact] {
        let plain = Emulator::engine(Profile::default(), numerics);
        let packed = Packed::new(Box::new(Emulator::engine(Profile::default(), numerics)));
        let program = product("y", TensorType::fp16, 128);
        assert_eq!(run(&packed, &program), run(&plain, &program));
        let ports = |device: &dyn Device| {
            let executable = device.compile(&program, &Weights::new()).unwrap();
            (executable.inputs().to_vec(), executable.outputs().to_vec())
        };
        assert_eq!(ports(&packed), ports(&plain));
        assert!(packed.describe().ends_with(", inputs packed"));
    }
}

#[test]
fn what_cannot_be_packed_is_handed_on() {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([1, 1, 4, 64]));
    assert_eq!(pack(&b.finish(&[x * 2.0]).unwrap()).unwrap(), None, "one input, one output");
    let odd = product("y", TensorType::fp16, 3);
    let wide = product("y", TensorType::fp32, 128);
    assert_eq!(pack(&wide.functions[0]).unwrap(), None, "fp32");
    assert!(pack(&odd.functions[0]).unwrap().is_some(), "64 rows of 3 are 3 rows of 64");
    let b = Builder::new("main");
    let (x, y) =
        (b.input("x", TensorType::fp16([1, 1, 3, 5])), b.input("y", TensorType::fp16([5])));
    assert_eq!(pack(&b.finish(&[x * y]).unwrap()).unwrap(), None, "no width");
    let device = Packed::new(Box::new(Emulator::cpu(Numerics::Fast)));
    assert_eq!(run(&device, &wide), run(&Emulator::cpu(Numerics::Fast), &wide));
}
