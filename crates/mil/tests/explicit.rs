//! The reference interpreter against values worked out by hand.

#[path = "explicit/mod.rs"]
mod cases;

use cases::cases;
use mil::interp::{Array, evaluate};
use mil::{Weights, check_text};

#[test]
fn the_interpreter_gives_what_was_worked_out() {
    for case in cases() {
        let text = case.text("fp32");
        let program = check_text(&text).unwrap_or_else(|faults| panic!("{}\n{text}", faults[0]));
        assert_eq!(mil::parse(&program.to_string()).as_ref(), Ok(&program), "{text}");
        let inputs: Vec<Array> = case
            .inputs
            .iter()
            .map(|(shape, data)| Array::new(shape.clone(), data.clone()))
            .collect();
        let outputs = evaluate(&program.functions[0], &inputs, &Weights::new()).unwrap();
        for (output, (_, (shape, data))) in outputs.iter().zip(&case.results) {
            assert_eq!(output.shape, *shape, "{text}");
            for (i, (got, want)) in output.data.iter().zip(data).enumerate() {
                let near = got == want || (got - want).abs() <= 1e-6 * want.abs().max(1.0);
                assert!(near, "element {i}: {got} instead of {want}\n{text}");
            }
        }
    }
}
