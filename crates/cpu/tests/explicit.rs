//! Programs on the CPU against values worked out by hand, in its two fast precisions.

#[path = "../../mil/tests/explicit/mod.rs"]
mod cases;
mod on_cpu;

use cases::cases;
use cpu::{Numerics, Quirks};
use mil::check_text;

/// In f32 sums of a few terms round to 2^-24; in `fast` inputs, constants and a handful of operations
/// round to 2^-11.
#[test]
fn the_cpu_gives_what_was_worked_out() {
    for case in cases() {
        for (float, numerics, bound) in
            [("fp32", Numerics::F32, 2e-6), ("fp16", Numerics::Fast, 8.0 * 2f64.powi(-11))]
        {
            let text = case.text(float);
            let program = check_text(&text).unwrap_or_else(|f| panic!("{}\n{text}", f[0]));
            let f = &program.functions[0];
            let inputs: Vec<Vec<f32>> = (case.inputs.iter())
                .map(|(_, data)| data.iter().map(|&v| v as f32).collect())
                .collect();
            let found = on_cpu::run(f, numerics, Quirks::default(), &inputs);
            assert_eq!(found.len(), case.results.len());
            for ((&id, got), (_, (_, data))) in f.outputs.iter().zip(&found).zip(&case.results) {
                let name = &f.value(id).name;
                assert_eq!(got.len(), data.len());
                for (i, (got, &want)) in got.iter().zip(data).enumerate() {
                    let got = f64::from(*got);
                    let near = got == want || (got - want).abs() <= bound * want.abs().max(1.0);
                    assert!(near, "{name}, element {i}: {got} instead of {want}\n{text}");
                }
            }
        }
    }
}
