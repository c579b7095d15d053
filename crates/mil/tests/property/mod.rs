//! Properties of any input whatever. Shared by the tests and by the targets in `fuzz/`.

#![allow(dead_code, reason = "each user needs a part of it")]

use mil::interp::{Array, evaluate};
use mil::text::{check_text, parse};
use mil::{Function, Weights, blob, verify};

/// Reading any text gives a program or an error; a program prints to text that gives it back, and
/// checking it gives faults that can be printed.
pub(crate) fn text(text: &str) {
    match parse(text) {
        Ok(program) => {
            let printed = program.to_string();
            let back = parse(&printed).unwrap_or_else(|error| panic!("{error}\n\n{printed}"));
            assert_eq!(back, program, "{printed}");
            let found = verify(&program).len();
            match check_text(text) {
                Ok(_) => assert_eq!(found, 0),
                Err(faults) => {
                    assert_eq!(faults.len(), found);
                    faults.iter().for_each(|fault| assert!(!fault.to_string().is_empty()));
                }
            }
        }
        Err(error) => {
            assert!((1..=20).contains(&error.diagnostics.len()));
            let lines = text.split('\n').count();
            for diagnostic in &error.diagnostics {
                let place = diagnostic.place.as_ref().expect("faults of text have a place");
                assert!((1..=lines).contains(&place.line), "{diagnostic}");
                assert!(!diagnostic.to_string().contains("\n\n"), "{diagnostic}");
            }
        }
    }
}

/// Elements of all values together up to which a function is run.
const SMALL: usize = 1500;

/// A program without faults runs, if it is small, and gives outputs of the declared shapes.
/// Returns how many functions ran.
pub(crate) fn run(text: &str) -> usize {
    let Ok(program) = check_text(text) else { return 0 };
    let mut ran = 0;
    for f in program.functions.iter().filter(|f| is_small(f)) {
        let inputs: Vec<Array> = f
            .inputs()
            .map(|id| Array::from_fn(&f.ty(id).shape, |i| i.iter().sum::<usize>() as f64 * 0.25))
            .collect();
        // Weight files are not given, which is an error and not a fault of the program.
        if let Ok(outputs) = evaluate(f, &inputs, &Weights::new()) {
            for (output, &id) in outputs.iter().zip(&f.outputs) {
                assert_eq!(output.shape, f.ty(id).shape);
            }
            ran += 1;
        }
    }
    ran
}

fn is_small(f: &Function) -> bool {
    f.values.iter().fold(0usize, |n, v| n.saturating_add(v.ty.count())) <= SMALL
}

/// Reading any bytes as a weight file gives data of the type asked for, or an error.
pub(crate) fn weight_blob(file: &[u8]) {
    use mil::{DType, TensorType};
    let at = |i: usize| file.get(i).copied().unwrap_or(0);
    let dtypes = [DType::Fp16, DType::Fp32, DType::Int8, DType::UInt4, DType::UInt1, DType::String];
    let offsets = [64, 0, u64::from(at(3)), u64::MAX - u64::from(at(5))];
    let extents = [1, usize::from(at(7)), usize::MAX, 1 << 40];
    for dtype in dtypes {
        for offset in offsets {
            for extent in extents {
                let ty = TensorType::new(dtype, [extent, 2]);
                if let Ok(data) = blob::read(file, offset, &ty) {
                    assert_eq!(data.len(), ty.count());
                }
            }
        }
    }
}
