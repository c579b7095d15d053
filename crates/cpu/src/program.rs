//! A function compiled for the CPU.

use crate::arithmetic::Arithmetic;
use crate::blas::Sgemm;
use crate::error::CpuError;
use crate::gemm::Elements;
use crate::lower::lower;
use crate::matrix::Matrix;
use crate::run::{Machine, OutputMut, Packed};
use mil::{Function, ValueId, Weights};
use std::sync::Arc;

/// A function compiled for the CPU: no rules of an engine, borrowed memory, outputs that can
/// accumulate.
#[derive(Debug)]
pub struct HostProgram {
    machine: Machine,
    inputs: Vec<Argument>,
    outputs: Vec<Argument>,
}

/// The name of an input or output in errors, and its number of elements.
#[derive(Debug)]
struct Argument {
    name: String,
    count: usize,
    /// Rows and columns of a packed matrix that can take its place.
    matrix: Option<[usize; 2]>,
}

impl HostProgram {
    /// Compiles `function`, which names no weight files, in reference precision.
    ///
    /// # Errors
    /// When the function breaks a rule of the language or a tensor is too large to hold.
    pub fn new(function: &Function) -> Result<Self, CpuError> {
        Self::compile(function, &Weights::new(), Arithmetic::REFERENCE)
    }

    /// Compiles `function`, which reads its constants from `weights`, to be computed in `arithmetic`.
    ///
    /// # Errors
    /// As [`HostProgram::new`], and when a weight file is missing or malformed.
    pub fn compile(
        function: &Function,
        weights: &Weights,
        arithmetic: Arithmetic,
    ) -> Result<Self, CpuError> {
        let mut plan = lower(function, weights, arithmetic)?;
        let argument = |id: ValueId| Argument {
            name: function.value(id).name.clone(),
            count: function.ty(id).count(),
            matrix: None,
        };
        let mut inputs: Vec<Argument> = function.inputs().map(argument).collect();
        for (i, id) in function.inputs().enumerate() {
            if let [.., rows, columns] = function.ty(id).shape[..] {
                inputs[i].matrix = plan.takes_matrix(i).then_some([rows, columns]);
            }
        }
        let outputs = function.outputs.iter().map(|&id| argument(id)).collect();
        Ok(HostProgram { machine: Machine::new(plan), inputs, outputs })
    }

    /// Computes products with `library` from now on, where it can be asked for them; `None` for our
    /// own kernel. Results differ in their last bits (see [`blas`](crate::blas)).
    pub fn multiply_with(&mut self, library: Option<Arc<dyn Sgemm>>) {
        self.machine.library = library;
    }

    /// Runs on inputs and outputs in the function's own order.
    ///
    /// # Errors
    /// When their number or sizes are not those of the function.
    pub fn run(
        &mut self,
        inputs: &[Elements<'_>],
        outputs: &mut [OutputMut<'_>],
    ) -> Result<(), CpuError> {
        check("input", &self.inputs, inputs.iter().map(Elements::len))?;
        check("output", &self.outputs, outputs.iter().map(OutputMut::len))?;
        self.machine.run(inputs, Packed { matrices: &[], columns: 0 }, outputs);
        Ok(())
    }

    /// As [`HostProgram::run`], where packed matrices take the place of some inputs. A matrix can replace
    /// an input that is read by products alone, as the whole left operand. Of the right operands of such
    /// products the first `columns` columns are read; what follows counts as 0.
    ///
    /// # Errors
    /// As [`HostProgram::run`], and when a matrix has other extents than its input, or the input is read
    /// otherwise.
    pub fn run_packed(
        &mut self,
        inputs: &[Input<'_>],
        columns: usize,
        outputs: &mut [OutputMut<'_>],
    ) -> Result<(), CpuError> {
        check("input", &self.inputs, inputs.iter().map(Input::len))?;
        check("output", &self.outputs, outputs.iter().map(OutputMut::len))?;
        if inputs.len() > MOST_INPUTS {
            return Err(CpuError::Inputs { most: MOST_INPUTS, got: inputs.len() });
        }
        let mut elements = [Elements::F32(&[]); MOST_INPUTS];
        let mut matrices = [None; MOST_INPUTS];
        for (i, (input, argument)) in inputs.iter().zip(&self.inputs).enumerate() {
            match *input {
                Input::Elements(given) => elements[i] = given,
                Input::Matrix(matrix) => {
                    if argument.matrix != Some([matrix.rows(), matrix.columns()]) {
                        let (rows, columns) = (matrix.rows(), matrix.columns());
                        let name = argument.name.clone();
                        return Err(CpuError::Matrix { name, rows, columns });
                    }
                    matrices[i] = Some(matrix);
                }
            }
        }
        let packed = Packed { matrices: &matrices[..inputs.len()], columns };
        self.machine.run(&elements[..inputs.len()], packed, outputs);
        Ok(())
    }
}

/// The most inputs of a program that takes packed matrices.
const MOST_INPUTS: usize = 64;

/// An input of [`HostProgram::run_packed`].
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Elements in row-major order.
    Elements(Elements<'a>),
    /// A packed matrix.
    Matrix(&'a Matrix),
}

impl Input<'_> {
    fn len(&self) -> usize {
        match self {
            Input::Elements(elements) => elements.len(),
            Input::Matrix(matrix) => matrix.rows() * matrix.columns(),
        }
    }
}

/// Checks the numbers of elements that are given.
fn check(
    what: &'static str,
    arguments: &[Argument],
    given: impl ExactSizeIterator<Item = usize>,
) -> Result<(), CpuError> {
    let (expected, got) = (arguments.len(), given.len());
    if got != expected {
        return Err(CpuError::Count { what, expected, got });
    }
    for (Argument { name, count, .. }, got) in arguments.iter().zip(given) {
        if got != *count {
            let name = name.clone();
            return Err(CpuError::Length { what, name, expected: *count, got });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::WeightFormat;
    use mil::{Builder, TensorType};

    #[test]
    fn runs_only_on_what_fits_its_function() {
        let b = Builder::new("sum");
        let x = b.input("x", TensorType::fp32([3]));
        let f = b.finish(&[(x + x).named("y")]).unwrap();
        let mut program = HostProgram::new(&f).unwrap();
        let (three, four) = ([1.0, 2.0, 3.0], [0.0; 4]);
        let mut run = |inputs: &[&[f32]], data: &mut [f32]| {
            let inputs: Vec<Elements<'_>> = inputs.iter().map(|x| Elements::F32(x)).collect();
            let result = program.run(&inputs, &mut [OutputMut::F32 { data, accumulate: false }]);
            result.map_err(|error| error.to_string())
        };
        let mut y = [0.0; 3];
        assert_eq!((run(&[&three], &mut y), y), (Ok(()), [2.0, 4.0, 6.0]));
        let error = run(&[&three, &three], &mut y).unwrap_err();
        assert_eq!(error, "the program has 1 inputs, got 2: give one per input, in its order");
        let error = run(&[&four], &mut y).unwrap_err();
        assert_eq!(error, "input `x` has 3 elements, got 4");
        let error = run(&[&three], &mut y[..2]).unwrap_err();
        assert_eq!(error, "output `y` has 3 elements, got 2");
    }

    /// (W·x + w, W) for x [3, T] and T of 1 and 2: `v` is also read by a sum, `w` by a product alone.
    fn two(columns: usize) -> Function {
        let b = Builder::new("two");
        let [v, w] = ["v", "w"].map(|name| b.input(name, TensorType::fp32([2, 3])));
        let x = b.input("x", TensorType::fp32([3, columns]));
        let sums = (w.matmul(x, false, false) * 2.0).reduce_sum(&[0]).named("sums");
        b.finish(&[v.matmul(x, false, false) + v.reduce_sum(&[0, 1]), sums]).unwrap()
    }

    #[test]
    fn packed_matrices_replace_left_operands_alone() {
        let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let matrix = Matrix::new(WeightFormat::F32, 2, &weights);
        let f32s = |v| Input::Elements(Elements::F32(v));
        let mut program = HostProgram::new(&two(1)).unwrap();
        let (mut y, mut z) = ([0.0; 2], [0.0; 1]);
        let x = [1.0, 0.5, 2.0];
        let mut run = |v, w| {
            let outputs = &mut [&mut y[..], &mut z[..]]
                .map(|data| OutputMut::F32 { data, accumulate: false });
            let done = program.run_packed(&[v, w, f32s(&x)], 1, outputs);
            done.map_err(|error| error.to_string())
        };
        run(f32s(&weights), Input::Matrix(&matrix)).unwrap();
        let refused = run(Input::Matrix(&matrix), f32s(&weights)).unwrap_err();
        assert!(refused.starts_with("input `v` takes no packed matrix [2, 3]"), "{refused}");
        let other = Matrix::new(WeightFormat::F32, 3, &weights);
        let refused = run(f32s(&weights), Input::Matrix(&other)).unwrap_err();
        assert!(refused.starts_with("input `w` takes no packed matrix [3, 2]"), "{refused}");
        assert_eq!((y, z), ([8.0 + 21.0, 18.5 + 21.0], [2.0 * 26.5]));
    }

    /// W·x for x of two columns, laid out by rows and by columns.
    #[test]
    fn columns_that_are_not_read_count_as_0() {
        let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let matrix = Matrix::new(WeightFormat::F32, 2, &weights);
        let b = Builder::new("product");
        let [w, x] = [("w", [2, 3]), ("x", [3, 2])]
            .map(|(name, shape)| b.input(name, TensorType::fp32(shape)));
        let y = w.matmul(x, false, false);
        let f = b.finish(&[y, y.transpose(&[1, 0]) + 0.0]).unwrap();
        let mut program = HostProgram::new(&f).unwrap();
        let x = [1.0, 7.0, 0.5, f32::NAN, 2.0, 9.0];
        let inputs = [Input::Matrix(&matrix), Input::Elements(Elements::F32(&x))];
        let mut results = [[3.0; 4]; 2];
        let outputs =
            &mut results.each_mut().map(|data| OutputMut::F32 { data, accumulate: false });
        program.run_packed(&inputs, 1, outputs).unwrap();
        assert_eq!(results, [[8.0, 0.0, 18.5, 0.0], [8.0, 18.5, 0.0, 0.0]]);
    }

    /// A sum over 1000 channels of one column has the bits that it has beside others.
    #[test]
    fn ordered_sums_are_those_of_a_column_among_many() {
        for f in ["sum", "mean", "square"] {
            let reduced = |columns: usize| -> Vec<f32> {
                let b = Builder::new("sums");
                let x = b.input("x", TensorType::fp32([1, 1000, 1, columns]));
                let y = match f {
                    "sum" => x.reduce_sum(&[1]),
                    "mean" => x.reduce_mean(&[1]),
                    _ => (x * x).reduce_sum(&[1]),
                };
                let f = b.finish(&[y]).unwrap();
                let weights = Weights::new();
                let mut program =
                    HostProgram::compile(&f, &weights, Arithmetic::COLUMNWISE).unwrap();
                let value = |i: usize| ((i / columns) as f32 * 0.37).sin();
                let x: Vec<f32> = (0..1000 * columns).map(value).collect();
                let mut y = vec![0.0; columns];
                let output = OutputMut::F32 { data: &mut y, accumulate: false };
                program.run(&[Elements::F32(&x)], &mut [output]).unwrap();
                y
            };
            let alone = reduced(1);
            for columns in [2, 5, 16, 64] {
                assert_eq!(reduced(columns), vec![alone[0]; columns], "{f} of {columns}");
            }
        }
    }
}
