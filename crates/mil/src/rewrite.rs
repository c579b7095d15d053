//! Writing a function anew, operation by operation, some of them replaced.
//!
//! ```
//! use mil::{Builder, Op, Rewrite, TensorType};
//!
//! let b = Builder::new("main");
//! let x = b.input("x", TensorType::fp16([1, 4]));
//! let f = b.finish(&[x.unary(Op::Square).named("y")])?;
//!
//! let b = Builder::new("main");
//! let mut rewrite = Rewrite::new(&b, &f);
//! f.inputs().for_each(|id| rewrite.keep_input(id));
//! for op in &f.ops {
//!     match op.op {
//!         Op::Square => {
//!             let x = rewrite.value(op.operands().next().unwrap());
//!             rewrite.replace(op, &[x * x]);
//!         }
//!         _ => rewrite.copy(op),
//!     }
//! }
//! let g = rewrite.finish()?;
//! assert_eq!((g.ops[0].op, g.ops[0].name.as_str()), (Op::Mul, "y"));
//! # Ok::<(), mil::OpError>(())
//! ```

use crate::builder::{Builder, Tensor};
use crate::ir::{Arg, Function, Operation, ValueId};
use crate::passes::eliminate_dead;
use crate::resolve::OpError;
use crate::types::TensorType;
use std::collections::HashSet;

/// A function being written anew. Values keep their names; types are inferred again, so that a
/// change of type spreads to everything that follows.
#[derive(Debug)]
pub struct Rewrite<'b, 'f> {
    builder: &'b Builder,
    function: &'f Function,
    map: Vec<Option<Tensor<'b>>>,
    outputs: HashSet<ValueId>,
}

impl<'b, 'f> Rewrite<'b, 'f> {
    /// Starts with an empty builder: parameters come first, by [`Rewrite::keep_input`] or
    /// [`Rewrite::input`].
    pub fn new(builder: &'b Builder, function: &'f Function) -> Self {
        builder.reserve(function.values.iter().map(|v| v.name.clone()));
        let map = vec![None; function.values.len()];
        let outputs = function.outputs.iter().copied().collect();
        Rewrite { builder, function, map, outputs }
    }

    /// The builder of the new function.
    pub fn builder(&self) -> &'b Builder {
        self.builder
    }

    /// The function as it was.
    pub fn function(&self) -> &'f Function {
        self.function
    }

    /// Declares a parameter as it was.
    pub fn keep_input(&mut self, id: ValueId) {
        let ty = self.function.ty(id).clone();
        self.input(id, ty);
    }

    /// Declares a parameter with another type.
    pub fn input(&mut self, id: ValueId, ty: TensorType) {
        let tensor = self.builder.input("input", ty);
        let name = &self.function.value(id).name;
        self.builder.rename(tensor.id(), name, name);
        self.map[id.index()] = Some(tensor);
    }

    /// Returns the new counterpart of a value of the old function.
    ///
    /// # Panics
    /// If nothing was written for it yet.
    pub fn value(&self, id: ValueId) -> Tensor<'b> {
        self.map[id.index()].expect("defined before use")
    }

    /// From now on `id` is `tensor`; names stay.
    pub fn set(&mut self, id: ValueId, tensor: Tensor<'b>) {
        self.map[id.index()] = Some(tensor);
    }

    /// Arguments of an old operation in terms of new values.
    pub fn args(&self, op: &Operation) -> Vec<(&'static str, Arg)> {
        let arg = |arg: &Arg| match arg {
            Arg::Value(id) => Arg::Value(self.value(*id).id()),
            Arg::Values(ids) => Arg::Values(ids.iter().map(|id| self.value(*id).id()).collect()),
            Arg::Literal(_) | Arg::Attribute(_) => arg.clone(),
        };
        op.args.iter().map(|(key, value)| (*key, arg(value))).collect()
    }

    /// Writes an operation as it was.
    pub fn copy(&mut self, op: &Operation) {
        match &op.value {
            Some(literal) => {
                let tensor = self.builder.own_constant(literal.clone());
                self.take_names(op, &[tensor]);
            }
            None => self.copy_with(op, self.args(op)),
        }
    }

    /// Writes an operation with other arguments.
    pub fn copy_with(&mut self, op: &Operation, args: Vec<(&'static str, Arg)>) {
        let results = self.builder.op(op.op, args);
        self.take_names(op, &results);
    }

    /// `results`, just written, stand for those of an operation and take their names. A result that
    /// existed before keeps its own name unless the old one is that of an output.
    pub fn replace(&mut self, op: &Operation, results: &[Tensor<'b>]) {
        for (&old, &new) in op.results.iter().zip(results) {
            self.set(old, new);
            let name = &self.function.value(old).name;
            if self.can_take_name(new, old) {
                self.builder.rename(new.id(), name, name);
            }
        }
    }

    /// True if `tensor` may be called what `old` was called: not if it is a parameter or another
    /// output, nor, unless `old` is an output itself, if it stands for another value.
    pub fn can_take_name(&self, tensor: Tensor<'b>, old: ValueId) -> bool {
        let others = (0u32..)
            .zip(&self.map)
            .filter(|(i, t)| ValueId(*i) != old && t.is_some_and(|t| t.id() == tensor.id()));
        let port = |i: u32| (i as usize) < self.function.params || self.is_output(ValueId(i));
        !others.into_iter().any(|(i, _)| port(i) || !self.is_output(old))
    }

    /// Results of an operation that was copied: one for each, names of operations included.
    fn take_names(&mut self, op: &Operation, results: &[Tensor<'b>]) {
        for (&old, &new) in op.results.iter().zip(results) {
            self.set(old, new);
            self.builder.rename(new.id(), &self.function.value(old).name, &op.name);
        }
    }

    /// True if a value of the old function is returned.
    pub fn is_output(&self, id: ValueId) -> bool {
        self.outputs.contains(&id)
    }

    /// Gives the output `old` to a value written for it: `tensor` takes its name.
    pub fn output(&mut self, old: ValueId, tensor: Tensor<'b>) {
        let name = self.function.value(old).name.clone();
        let before = self.value(old);
        let spare = self.builder.unused(&name);
        self.builder.rename(before.id(), &spare, &spare);
        self.builder.rename(tensor.id(), &name, &name);
        self.set(old, tensor);
    }

    /// The new function, without what is no longer used.
    ///
    /// # Errors
    /// The first operation whose arguments did not fit, or an output that was not written.
    pub fn finish(&self) -> Result<Function, OpError> {
        let outputs: Vec<Tensor<'_>> =
            self.function.outputs.iter().map(|&id| self.value(id)).collect();
        let function = self.builder.finish(&outputs)?;
        let opset = self.function.opset.clone();
        Ok(eliminate_dead(&Function { opset, ..function }))
    }
}
