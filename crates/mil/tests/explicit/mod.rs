//! Operations with inputs and outputs worked out by hand: what they mean, said apart from any of our
//! code. Read by the tests of the reference interpreter and of the emulator.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of this")]

mod arithmetic;
mod constexpr;
mod image;
mod movement;
mod pool;
mod rearrange;

/// An operation on inputs `x`, `y`, … with what it gives.
pub struct Case {
    /// The operation as text, with literals in place; `real` stands for fp16 and fp32.
    pub operation: &'static str,
    /// Shape and elements of every input.
    pub inputs: Vec<Tensor>,
    /// Element type, shape and elements of every result.
    pub results: Vec<(&'static str, Tensor)>,
}

/// Shape and elements.
pub type Tensor = (Vec<usize>, Vec<f64>);

const INPUTS: [&str; 3] = ["x", "y", "z"];
const RESULTS: [&str; 3] = ["r", "s", "t"];

/// A tensor of `shape` with the given elements.
pub fn tensor(shape: &[usize], data: &[f64]) -> Tensor {
    assert_eq!(shape.iter().product::<usize>(), data.len());
    (shape.to_vec(), data.to_vec())
}

/// The numbers 0, 1, 2, … in `shape`.
pub fn count(shape: &[usize]) -> Tensor {
    (shape.to_vec(), (0..shape.iter().product()).map(|i: usize| i as f64).collect())
}

/// An operation on `x` with one real result.
pub fn case(operation: &'static str, x: Tensor, result: Tensor) -> Case {
    Case { operation, inputs: vec![x], results: vec![("real", result)] }
}

impl Case {
    /// The program of this operation alone, with `float` for `real`.
    pub fn text(&self, float: &str) -> String {
        let ty = |dtype: &str, (shape, _): &Tensor| format!("tensor<{dtype}, {shape:?}>");
        let inputs =
            self.inputs.iter().zip(INPUTS).map(|(x, name)| format!("{} {name}", ty("real", x)));
        let results = (self.results.iter().zip(RESULTS))
            .map(|((dtype, r), name)| format!("{} {name}", ty(dtype, r)));
        let returned = RESULTS[..self.results.len()].join(", ");
        let [inputs, results] =
            [inputs.collect::<Vec<_>>(), results.collect()].map(|list| list.join(", "));
        let name = if self.operation.ends_with(']') { "" } else { "[name = string(\"r\")]" };
        format!(
            "program(1.3) {{ func main<ios18>({inputs}) {{\n{results} = {}{name};\n}} -> ({returned}); }}",
            self.operation
        )
        .replace("real", float)
    }
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let all = [
        arithmetic::cases(),
        constexpr::cases(),
        image::cases(),
        movement::cases(),
        pool::cases(),
        rearrange::cases(),
    ];
    all.into_iter().flatten().collect()
}
