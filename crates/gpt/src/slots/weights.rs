//! The parameters as the programs of slots take them: matrices packed, vectors as they are.

use crate::declare::Group;
use crate::params::{Layout, Param, Parameters};
use cpu::{Elements, Input, Matrix, WeightFormat};

/// A parameter.
#[derive(Debug)]
enum Weight {
    Matrix(Matrix),
    Vector(Vec<f32>),
}

/// All parameters, in the order of the layout.
#[derive(Debug)]
pub(super) struct Weights {
    layout: Layout,
    values: Vec<Weight>,
}

impl Weights {
    /// Packs the matrices in `format`, those of tokens without rows beyond the vocabulary. Learned positions
    /// stay as they are: a token reads one row.
    pub(super) fn new(parameters: &Parameters, format: WeightFormat) -> Self {
        let (layout, arena) = (parameters.layout().clone(), parameters.read());
        let vocab_size = parameters.config().vocab_size;
        let pack = |param: &Param| match param.shape[..] {
            [rows, width] if param.port != "positions" => {
                let of_tokens = param.group.is_table() || param.group == Group::Classifier;
                let rows = if of_tokens { vocab_size } else { rows };
                let values = &arena[param.range()][..rows * width];
                Weight::Matrix(Matrix::new(format, rows, values))
            }
            _ => Weight::Vector(arena[param.range()].to_vec()),
        };
        Weights { values: layout.params().iter().map(pack).collect(), layout }
    }

    pub(super) fn bytes(&self) -> usize {
        let bytes = |weight: &Weight| match weight {
            Weight::Matrix(matrix) => matrix.bytes(),
            Weight::Vector(values) => size_of_val(&values[..]),
        };
        self.values.iter().map(bytes).sum()
    }

    /// The index of the parameter of port `port` (of `layer`, where it belongs to one).
    pub(super) fn find(&self, port: &str, layer: Option<usize>) -> Option<usize> {
        self.layout.params().iter().position(|p| p.port == port && p.layer == layer)
    }

    /// The index of the classifier, which may be the embedding.
    pub(super) fn classifier(&self) -> usize {
        let found = self.find("classifier", None).or_else(|| self.find("embedding", None));
        found.expect("a model has an embedding")
    }

    /// A parameter as an input of a program.
    pub(super) fn input(&self, index: usize) -> Input<'_> {
        match &self.values[index] {
            Weight::Matrix(matrix) => Input::Matrix(matrix),
            Weight::Vector(values) => Input::Elements(Elements::F32(values)),
        }
    }

    /// Adds a row of the table `port` (of `layer`, where it belongs to one), where the model has it, to a
    /// column of [C, T].
    pub(super) fn add_row(
        &self,
        (port, layer): (&str, Option<usize>),
        row: usize,
        x: &mut [f32],
        column: usize,
        t: usize,
    ) {
        let Some(index) = self.find(port, layer) else { return };
        let to = x[column..].iter_mut().step_by(t);
        match &self.values[index] {
            Weight::Matrix(matrix) => {
                to.enumerate().for_each(|(d, to)| *to += matrix.get(row, d));
            }
            Weight::Vector(values) => {
                let width = values.len() / self.layout.params()[index].shape[0];
                to.zip(&values[row * width..]).for_each(|(to, value)| *to += value);
            }
        }
    }
}
