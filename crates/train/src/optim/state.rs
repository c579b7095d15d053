//! The state that an optimizer keeps from one update to the next.

use super::Optimizer;
use crate::checkpoint::{Named, Tensors, TensorsMut};
use gpt::Layout;
use std::ops::Range;

/// The state of an optimizer: arenas of f32 by name, each with one tensor for every parameter that has
/// one of this name, in the order of the parameters.
#[derive(Debug)]
pub struct State {
    arenas: Vec<Arena>,
}

#[derive(Debug)]
struct Arena {
    name: &'static str,
    tensors: Vec<Tensor>,
    values: Vec<f32>,
}

#[derive(Debug)]
struct Tensor {
    /// Index of its parameter.
    param: usize,
    /// Name in a checkpoint.
    name: String,
    shape: Vec<usize>,
    /// Elements in the arena.
    range: Range<usize>,
}

impl State {
    /// The state before the first update: zeros.
    pub fn new(optimizer: &dyn Optimizer, layout: &Layout) -> State {
        let mut arenas: Vec<Arena> = vec![];
        for (index, param) in layout.params().iter().enumerate() {
            for (name, shape) in optimizer.state_of(param) {
                let known = arenas.iter().position(|arena| arena.name == name);
                let place = known.unwrap_or_else(|| {
                    arenas.push(Arena { name, tensors: vec![], values: vec![] });
                    arenas.len() - 1
                });
                arenas[place].declare(index, format!("{}.{name}", param.name), shape);
            }
        }
        for arena in &mut arenas {
            arena.values = vec![0.0; arena.end()];
        }
        State { arenas }
    }

    /// The arena called `name`, if there is one.
    pub fn arena(&self, name: &str) -> Option<&[f32]> {
        self.arenas.iter().find(|arena| arena.name == name).map(|arena| &arena.values[..])
    }

    /// The tensors of parameter `index`, as [`Optimizer::state_of`] lists them.
    pub fn of(&mut self, index: usize) -> Vec<&mut [f32]> {
        self.arenas.iter_mut().filter_map(|arena| arena.of(index)).collect()
    }

    /// All tensors by the names that they have in a checkpoint.
    pub fn tensors(&self) -> Tensors<'_> {
        self.arenas.iter().flat_map(Arena::tensors).collect()
    }

    /// As [`State::tensors`], to be read from a checkpoint.
    pub fn tensors_mut(&mut self) -> TensorsMut<'_> {
        self.arenas.iter_mut().flat_map(Arena::tensors_mut).collect()
    }
}

impl Arena {
    /// Elements declared so far.
    fn end(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.range.end)
    }

    fn declare(&mut self, param: usize, name: String, shape: Vec<usize>) {
        let start = self.end();
        let range = start..start + shape.iter().product::<usize>();
        self.tensors.push(Tensor { param, name, shape, range });
    }

    fn of(&mut self, param: usize) -> Option<&mut [f32]> {
        let found = self.tensors.binary_search_by_key(&param, |tensor| tensor.param).ok()?;
        Some(&mut self.values[self.tensors[found].range.clone()])
    }

    fn tensors(&self) -> impl Iterator<Item = Named<'_>> {
        let values = &self.values;
        let named = |t: &Tensor| (t.name.clone(), t.shape.clone(), values[t.range.clone()].into());
        self.tensors.iter().map(named)
    }

    fn tensors_mut(&mut self) -> TensorsMut<'_> {
        let mut rest = &mut self.values[..];
        let mut named = vec![];
        for tensor in &self.tensors {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(tensor.range.len());
            named.push((tensor.name.clone(), tensor.shape.clone(), part));
            rest = tail;
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use super::super::Update;
    use super::*;
    use gpt::{GptConfig, Param};

    /// Keeps a mean for every parameter, and one number per row of a matrix.
    #[derive(Debug)]
    struct Rows;

    impl Optimizer for Rows {
        fn state_of(&self, param: &Param) -> Vec<(&'static str, Vec<usize>)> {
            let mean = ("mean", param.shape.clone());
            match param.shape[..] {
                [rows, _] => vec![mean, ("row", vec![rows, 1])],
                _ => vec![mean],
            }
        }

        fn step(&self, _: &Update, _: &Param, _: &mut [f32], _: &[f32], _: &mut [&mut [f32]]) {}
    }

    #[test]
    fn every_parameter_finds_its_own_tensors() {
        let layout = Layout::new(&GptConfig::preset("stories260k").unwrap());
        let mut state = State::new(&Rows, &layout);
        for (index, param) in layout.params().iter().enumerate() {
            let parts = state.of(index);
            let expected = Rows.state_of(param);
            assert_eq!(parts.len(), expected.len(), "{}", param.name);
            for (part, (_, shape)) in parts.into_iter().zip(&expected) {
                assert_eq!(part.len(), shape.iter().product::<usize>());
                assert!(part.iter().all(|&x| x == 0.0), "nobody else wrote there");
                part.fill(1.0 + index as f32);
            }
        }
        let all = state.tensors().into_iter().map(|(name, shape, values)| {
            assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
            let (param, _) = name.rsplit_once('.').unwrap();
            let index = layout.params().iter().position(|p| p.name == param).unwrap();
            assert!(values.iter().all(|&x| x == 1.0 + index as f32), "{name}");
            (name, shape)
        });
        let all: Vec<_> = all.collect();
        let again = state.tensors_mut().into_iter().map(|(name, shape, _)| (name, shape));
        assert_eq!(again.collect::<Vec<_>>(), all);
        assert_eq!(state.arena("mean").unwrap().len(), layout.count());
        assert!(state.arena("m").is_none());
    }
}
