//! The emulator against values worked out by hand, in its two fast precisions.

#[path = "../../mil/tests/explicit/mod.rs"]
mod cases;

use ane::{Device, Emulator, Numerics};
use cases::cases;
use mil::{Weights, check_text};

/// In f32 sums of a few terms round to 2^-24; in `fast` inputs, constants and a handful of operations
/// round to 2^-11.
#[test]
fn the_emulator_gives_what_was_worked_out() {
    for case in cases() {
        for (float, numerics, bound) in
            [("fp32", Numerics::F32, 2e-6), ("fp16", Numerics::Fast, 8.0 * 2f64.powi(-11))]
        {
            let text = case.text(float);
            let program = check_text(&text).unwrap_or_else(|f| panic!("{}\n{text}", f[0]));
            let device = Emulator::cpu(numerics);
            let mut exe = device.compile(&program, &Weights::new()).unwrap();
            let surface = |port: &ane::Port| device.surface(&port.ty, 0).unwrap();
            let read: Vec<_> = exe.inputs().iter().map(surface).collect();
            let written: Vec<_> = exe.outputs().iter().map(surface).collect();
            for (surface, port) in read.iter().zip(exe.inputs()) {
                let own = program.functions[0].find(&port.name).unwrap();
                let data = &case.inputs[own.index()].1;
                surface.write(&data.iter().map(|&v| v as f32).collect::<Vec<_>>()).unwrap();
            }
            exe.run(&read.iter().collect::<Vec<_>>(), &written.iter().collect::<Vec<_>>()).unwrap();
            let f = &program.functions[0];
            for (&id, (_, (_, data))) in f.outputs.iter().zip(&case.results) {
                let name = &f.value(id).name;
                let at = exe.outputs().iter().position(|p| p.name == *name).unwrap();
                let mut got = vec![0.0f32; data.len()];
                written[at].read(&mut got).unwrap();
                for (i, (got, &want)) in got.iter().zip(data).enumerate() {
                    let got = f64::from(*got);
                    let near = got == want || (got - want).abs() <= bound * want.abs().max(1.0);
                    assert!(near, "{name}, element {i}: {got} instead of {want}\n{text}");
                }
            }
        }
    }
}
