//! The random orders of Python's and NumPy's generators, number for number: tasks are defined by them.

mod numpy;
mod python;

pub use numpy::NumpyRandom;
pub use python::PythonRandom;
