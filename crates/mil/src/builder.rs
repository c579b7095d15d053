//! The only way to write a program: operations as methods and operators on [`Tensor`] handles.
//!
//! ```
//! use mil::{Builder, TensorType};
//!
//! let b = Builder::new("main");
//! let x = b.input("x", TensorType::fp16([1, 64, 1, 16]));
//! let gain = b.input("gain", TensorType::fp16([1, 64, 1, 1]));
//! let mean_square = (x * x).reduce_mean(&[1]);
//! let y = x * (mean_square + 1e-5).pow(-0.5) * gain;
//! let function = b.finish(&[y.named("y")])?;
//! assert_eq!(function.ty(function.outputs[0]).shape, [1, 64, 1, 16]);
//! # Ok::<(), mil::OpError>(())
//! ```
//!
//! Attributes become named constants, the form that every known front end accepts. A mistake in
//! shapes is remembered and returned by [`Builder::finish`], so that formulas stay formulas.

use crate::ir::{Arg, Function, Operation, Value, ValueId};
use crate::op::Op;
use crate::resolve::{OpError, resolve};
use crate::types::{DType, Data, Literal, TensorType};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Collects the operations of one function.
#[derive(Debug)]
pub struct Builder {
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    function: Function,
    names: Names,
    /// Attribute constants already written, so that each appears once.
    constants: Vec<(Literal, ValueId)>,
    error: Option<OpError>,
}

/// The names of a function's values.
#[derive(Debug, Default)]
struct Names {
    taken: HashSet<String>,
    /// Of each prefix, a number below which all are taken.
    least: HashMap<String, usize>,
}

impl Names {
    /// True if the name was free.
    fn take(&mut self, name: &str) -> bool {
        self.taken.insert(name.to_owned())
    }

    fn give_back(&mut self, name: &str) {
        self.taken.remove(name);
        if let Some((prefix, number)) = name.rsplit_once('_')
            && let (Some(least), Ok(number)) = (self.least.get_mut(prefix), number.parse::<usize>())
        {
            *least = number.min(*least);
        }
    }

    /// Takes the first free one of `prefix_0`, `prefix_1`, …
    fn numbered(&mut self, prefix: &str) -> String {
        if !self.least.contains_key(prefix) {
            self.least.insert(prefix.to_owned(), 0);
        }
        let least = self.least.get_mut(prefix).expect("just inserted");
        loop {
            let name = format!("{prefix}_{least}");
            *least += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// A value being built. Copyable; two handles can be combined only if they are of one builder.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'b> {
    builder: &'b Builder,
    id: ValueId,
}

impl Builder {
    /// Starts a function called `name` for the operation set `ios18`.
    pub fn new(name: &str) -> Self {
        Self::resume(Function {
            name: name.to_owned(),
            opset: "ios18".to_owned(),
            values: vec![],
            params: 0,
            ops: vec![],
            outputs: vec![],
        })
    }

    /// Continues an existing function: new operations go to its end, outputs are chosen anew.
    pub fn resume(function: Function) -> Self {
        let taken = function.values.iter().map(|v| v.name.clone()).collect();
        let names = Names { taken, ..Names::default() };
        let constants = (function.ops.iter())
            .filter_map(|op| Some((op.value.clone()?, op.results[0])))
            .filter(|(literal, _)| literal.ty.count() <= 16)
            .collect();
        Builder { state: RefCell::new(State { function, names, constants, error: None }) }
    }

    /// A parameter. Parameters come before every operation.
    ///
    /// # Panics
    /// If an operation was already written.
    pub fn input(&self, name: &str, ty: TensorType) -> Tensor<'_> {
        let ops = self.state.borrow().function.ops.len();
        assert_eq!(ops, 0, "parameter `{name}` comes after an operation");
        self.late_input(name, ty)
    }

    /// A parameter added after operations were written; ids of later values move up by one, so
    /// handles taken before are invalid: only for the start of a pass.
    pub(crate) fn late_input(&self, name: &str, ty: TensorType) -> Tensor<'_> {
        let mut state = self.state.borrow_mut();
        let name = state.unique(name);
        let at = state.function.params;
        state.function.insert_param(Value { name, ty });
        for (_, id) in &mut state.constants {
            id.0 += 1;
        }
        Tensor { builder: self, id: ValueId(at as u32) }
    }

    /// Keeps names from being given to new values.
    pub(crate) fn reserve(&self, names: impl IntoIterator<Item = String>) {
        self.state.borrow_mut().names.taken.extend(names);
    }

    /// A constant of its own, equal ones notwithstanding.
    pub(crate) fn own_constant(&self, literal: Literal) -> Tensor<'_> {
        let mut state = self.state.borrow_mut();
        let name = state.numbered("c");
        let id = state.define(&name, literal.ty.clone());
        let operation = Operation {
            op: Op::Const,
            args: vec![],
            value: Some(literal),
            results: vec![id],
            name,
        };
        state.function.ops.push(operation);
        Tensor { builder: self, id }
    }

    /// Gives a value a reserved name, and the operation that defines it its `name` attribute.
    pub(crate) fn rename(&self, id: ValueId, value: &str, operation: &str) {
        let mut state = self.state.borrow_mut();
        let old = std::mem::replace(&mut state.function.values[id.index()].name, value.to_owned());
        state.names.give_back(&old);
        state.names.take(value);
        if let Some(i) = state.function.definition(id) {
            state.function.ops[i].name = operation.to_owned();
        }
    }

    /// A name like `prefix` that no value has.
    pub(crate) fn unused(&self, prefix: &str) -> String {
        self.state.borrow_mut().numbered(prefix)
    }

    /// Name of a value.
    pub fn name(&self, id: ValueId) -> String {
        self.state.borrow().function.value(id).name.clone()
    }

    /// The handle of a value that is already in the function.
    pub fn tensor(&self, id: ValueId) -> Tensor<'_> {
        assert!(
            id.index() < self.state.borrow().function.values.len(),
            "{id} is of another function"
        );
        Tensor { builder: self, id }
    }

    /// A constant tensor; equal small constants are written once.
    pub fn constant(&self, literal: Literal) -> Tensor<'_> {
        self.named_constant("c", literal)
    }

    fn named_constant(&self, prefix: &str, literal: Literal) -> Tensor<'_> {
        let mut state = self.state.borrow_mut();
        let small = literal.ty.count() <= 16;
        if small && let Some((_, id)) = state.constants.iter().find(|(l, _)| *l == literal) {
            return Tensor { builder: self, id: *id };
        }
        // Truth values serve many attributes and are called by their value.
        let prefix = match literal.data() {
            Some(Data::Bool(v)) if v[..] == [true] => "true",
            Some(Data::Bool(v)) if v[..] == [false] => "false",
            _ => prefix,
        };
        let name = state.numbered(prefix);
        let id = state.define(&name, literal.ty.clone());
        if small {
            state.constants.push((literal.clone(), id));
        }
        state.function.ops.push(Operation {
            op: Op::Const,
            args: vec![],
            value: Some(literal),
            results: vec![id],
            name,
        });
        Tensor { builder: self, id }
    }

    /// A scalar constant of `dtype`.
    pub fn scalar(&self, dtype: DType, value: f64) -> Tensor<'_> {
        self.constant(Literal::float(dtype, value))
    }

    /// Writes any operation: `args` are its arguments by key. Returns one handle per result.
    pub fn op(&self, op: Op, args: Vec<(&'static str, Arg)>) -> Vec<Tensor<'_>> {
        let mut state = self.state.borrow_mut();
        let mut operation =
            Operation { op, args, value: None, results: vec![], name: String::new() };
        let types = match resolve(&state.function, &operation) {
            Ok(resolved) => resolved.results,
            Err(error) => {
                let fallback = operation.operands().next().map(|id| state.function.ty(id).clone());
                state.error.get_or_insert(error);
                vec![fallback.unwrap_or(TensorType::fp16([1]))]
            }
        };
        operation.name = state.numbered(op.name());
        let base = operation.name.clone();
        for (i, ty) in types.iter().enumerate() {
            let name =
                if types.len() == 1 { base.clone() } else { state.unique(&format!("{base}_{i}")) };
            operation.results.push(state.define(&name, ty.clone()));
        }
        let results = operation.results.clone();
        state.function.ops.push(operation);
        results.into_iter().map(|id| Tensor { builder: self, id }).collect()
    }

    fn op1(&self, op: Op, args: Vec<(&'static str, Arg)>) -> Tensor<'_> {
        self.op(op, args)[0]
    }

    fn attr(&self, key: &'static str, literal: Literal) -> (&'static str, Arg) {
        (key, Arg::Value(self.named_constant(key, literal).id))
    }

    /// `a` where `cond` holds, else `b`.
    pub fn select<'b>(&'b self, cond: Tensor<'b>, a: Tensor<'b>, b: Tensor<'b>) -> Tensor<'b> {
        self.op1(Op::Select, vec![cond.arg("cond"), a.arg("a"), b.arg("b")])
    }

    /// `values` joined along `axis`.
    pub fn concat<'b>(&'b self, axis: usize, values: &[Tensor<'b>]) -> Tensor<'b> {
        let ids = values.iter().map(|v| v.id).collect();
        let axis = self.attr("axis", Literal::int(axis as i64));
        let interleave = self.attr("interleave", Literal::bool(false));
        self.op1(Op::Concat, vec![axis, interleave, ("values", Arg::Values(ids))])
    }

    /// `values` joined along a new axis.
    pub fn stack<'b>(&'b self, axis: usize, values: &[Tensor<'b>]) -> Tensor<'b> {
        let ids = values.iter().map(|v| v.id).collect();
        let axis = self.attr("axis", Literal::int(axis as i64));
        self.op1(Op::Stack, vec![("values", Arg::Values(ids)), axis])
    }

    /// Writes the operations of `f` for the given inputs and returns its outputs.
    pub(crate) fn write<'b>(&'b self, f: &Function, inputs: &[Tensor<'b>]) -> Vec<Tensor<'b>> {
        let mut map: Vec<Tensor<'b>> = inputs.to_vec();
        for op in &f.ops {
            let at = |id: &ValueId| map[id.index()].id;
            let arg = |arg: &Arg| match arg {
                Arg::Value(id) => Arg::Value(at(id)),
                Arg::Values(ids) => Arg::Values(ids.iter().map(at).collect()),
                Arg::Literal(_) | Arg::Attribute(_) => arg.clone(),
            };
            let results = match &op.value {
                Some(literal) => vec![self.constant(literal.clone())],
                None => self.op(op.op, op.args.iter().map(|(key, a)| (*key, arg(a))).collect()),
            };
            map.extend(results);
        }
        f.outputs.iter().map(|id| map[id.index()]).collect()
    }

    /// The function that returns `outputs`.
    ///
    /// # Errors
    /// The first operation whose arguments did not fit.
    pub fn finish(&self, outputs: &[Tensor<'_>]) -> Result<Function, OpError> {
        let state = self.state.borrow();
        match &state.error {
            Some(error) => Err(error.clone()),
            None => Ok(Function {
                outputs: outputs.iter().map(|t| t.id).collect(),
                ..state.function.clone()
            }),
        }
    }
}

impl State {
    fn define(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.names.take(name);
        self.function.values.push(Value { name: name.to_owned(), ty });
        ValueId(self.function.values.len() as u32 - 1)
    }

    fn numbered(&mut self, prefix: &str) -> String {
        self.names.numbered(prefix)
    }

    fn unique(&mut self, name: &str) -> String {
        if self.names.take(name) { name.to_owned() } else { self.numbered(name) }
    }
}

impl<'b> Tensor<'b> {
    /// The value's id.
    pub fn id(self) -> ValueId {
        self.id
    }

    /// The builder this value belongs to.
    pub fn builder(self) -> &'b Builder {
        self.builder
    }

    /// Type of the value.
    pub fn ty(self) -> TensorType {
        self.builder.state.borrow().function.ty(self.id).clone()
    }

    /// Shape of the value.
    pub fn shape(self) -> Vec<usize> {
        self.ty().shape
    }

    /// Element type of the value.
    pub fn dtype(self) -> DType {
        self.builder.state.borrow().function.ty(self.id).dtype
    }

    /// Renames the value (a number is added when the name is taken).
    pub fn named(self, name: &str) -> Self {
        let mut state = self.builder.state.borrow_mut();
        if state.function.value(self.id).name == name {
            return self;
        }
        let name = state.unique(name);
        let old = std::mem::replace(&mut state.function.values[self.id.index()].name, name.clone());
        state.names.give_back(&old);
        if let Some(i) = state.function.definition(self.id)
            && state.function.ops[i].results.len() == 1
        {
            state.function.ops[i].name = name;
        }
        self
    }

    fn arg(self, key: &'static str) -> (&'static str, Arg) {
        (key, Arg::Value(self.id))
    }

    fn constant(self, value: f64) -> Tensor<'b> {
        self.builder.scalar(self.dtype(), value)
    }

    /// Writes a one-argument operation without attributes.
    pub fn unary(self, op: Op) -> Self {
        self.builder.op1(op, vec![self.arg("x")])
    }

    /// Writes a two-argument elementwise operation.
    pub fn binary(self, op: Op, y: Tensor<'b>) -> Self {
        self.builder.op1(op, vec![self.arg("x"), y.arg("y")])
    }

    fn with_epsilon(self, op: Op, epsilon: f64) -> Self {
        let epsilon = self.builder.attr("epsilon", Literal::float(self.dtype(), epsilon));
        self.builder.op1(op, vec![self.arg("x"), epsilon])
    }

    /// The same elements as `dtype`.
    pub fn cast(self, dtype: DType) -> Self {
        if self.dtype() == dtype {
            return self;
        }
        let to = self.builder.attr("dtype", Literal::string(dtype.name()));
        self.builder.op1(Op::Cast, vec![self.arg("x"), to])
    }

    /// x^y for a constant y.
    pub fn pow(self, y: f64) -> Self {
        self.binary(Op::Pow, self.constant(y))
    }

    /// The larger of the two.
    pub fn maximum(self, y: Tensor<'b>) -> Self {
        self.binary(Op::Maximum, y)
    }

    /// The smaller of the two.
    pub fn minimum(self, y: Tensor<'b>) -> Self {
        self.binary(Op::Minimum, y)
    }

    /// e^x.
    pub fn exp(self) -> Self {
        self.unary(Op::Exp)
    }

    /// ln(x + epsilon).
    pub fn log(self, epsilon: f64) -> Self {
        self.with_epsilon(Op::Log, epsilon)
    }

    /// 1/√(x + epsilon).
    pub fn rsqrt(self, epsilon: f64) -> Self {
        self.with_epsilon(Op::Rsqrt, epsilon)
    }

    /// 1/(x + epsilon).
    pub fn inverse(self, epsilon: f64) -> Self {
        self.with_epsilon(Op::Inverse, epsilon)
    }

    /// 1/(1 + e^−x).
    pub fn sigmoid(self) -> Self {
        self.unary(Op::Sigmoid)
    }

    /// tanh x.
    pub fn tanh(self) -> Self {
        self.unary(Op::Tanh)
    }

    /// Any reduction over `axes`, which stay with extent 1.
    pub fn reduce(self, op: Op, axes: &[usize]) -> Self {
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        let axes = self.builder.attr("axes", Literal::ints(&axes));
        let keep = self.builder.attr("keep_dims", Literal::bool(true));
        self.builder.op1(op, vec![self.arg("x"), axes, keep])
    }

    /// Sum over `axes`, which stay with extent 1.
    pub fn reduce_sum(self, axes: &[usize]) -> Self {
        self.reduce(Op::ReduceSum, axes)
    }

    /// Mean over `axes`, which stay with extent 1.
    pub fn reduce_mean(self, axes: &[usize]) -> Self {
        self.reduce(Op::ReduceMean, axes)
    }

    /// e^x / Σe^x along `axis` (negative counts from the end).
    pub fn softmax(self, axis: i64) -> Self {
        let axis = self.builder.attr("axis", Literal::int(axis));
        self.builder.op1(Op::Softmax, vec![self.arg("x"), axis])
    }

    /// Matrix product of the last two axes; `transpose_x` and `transpose_y` swap them first.
    pub fn matmul(self, y: Tensor<'b>, transpose_x: bool, transpose_y: bool) -> Self {
        let tx = self.builder.attr("transpose_x", Literal::bool(transpose_x));
        let ty = self.builder.attr("transpose_y", Literal::bool(transpose_y));
        self.builder.op1(Op::Matmul, vec![self.arg("x"), y.arg("y"), tx, ty])
    }

    /// The same elements in another shape.
    pub fn reshape(self, shape: &[usize]) -> Self {
        if self.shape() == shape {
            return self;
        }
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let shape = self.builder.attr("shape", Literal::ints(&shape));
        self.builder.op1(Op::Reshape, vec![self.arg("x"), shape])
    }

    /// Axes reordered: axis i of the result is axis `perm[i]`.
    pub fn transpose(self, perm: &[usize]) -> Self {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return self;
        }
        let perm: Vec<i64> = perm.iter().map(|&n| n as i64).collect();
        let perm = self.builder.attr("perm", Literal::ints(&perm));
        self.builder.op1(Op::Transpose, vec![self.arg("x"), perm])
    }

    /// The last two axes swapped.
    pub fn swap_last(self) -> Self {
        let rank = self.shape().len();
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
        self.transpose(&perm)
    }

    /// The box of `size` that starts at `begin`.
    pub fn slice(self, begin: &[usize], size: &[usize]) -> Self {
        let ints = |v: &[usize]| Literal::ints(&v.iter().map(|&n| n as i64).collect::<Vec<_>>());
        let begin = self.builder.attr("begin", ints(begin));
        let size = self.builder.attr("size", ints(size));
        self.builder.op1(Op::SliceBySize, vec![self.arg("x"), begin, size])
    }

    /// `n` elements from `start` along one axis.
    pub fn narrow(self, axis: usize, start: usize, n: usize) -> Self {
        let mut size = self.shape();
        let mut begin = vec![0; size.len()];
        (begin[axis], size[axis]) = (start, n);
        self.slice(&begin, &size)
    }

    /// x cut into `parts` equal pieces along `axis`. Where all pieces are used this is better than
    /// slices: its gradient is one `concat` instead of a sum of padded tensors.
    pub fn split(self, axis: usize, parts: usize) -> Vec<Self> {
        let parts = self.builder.attr("num_splits", Literal::int(parts as i64));
        let axis = self.builder.attr("axis", Literal::int(axis as i64));
        self.builder.op(Op::Split, vec![self.arg("x"), parts, axis])
    }

    /// x repeated `reps[i]` times along axis i.
    pub fn tile(self, reps: &[usize]) -> Self {
        let reps: Vec<i64> = reps.iter().map(|&n| n as i64).collect();
        let reps = self.builder.attr("reps", Literal::ints(&reps));
        self.builder.op1(Op::Tile, vec![self.arg("x"), reps])
    }

    /// Zeros before and after, per axis.
    pub fn pad(self, pads: &[(usize, usize)]) -> Self {
        let pads: Vec<i64> = pads.iter().flat_map(|&(a, b)| [a as i64, b as i64]).collect();
        let pad = self.builder.attr("pad", Literal::ints(&pads));
        let mode = self.builder.attr("mode", Literal::string("constant"));
        let zero = self.builder.attr("constant_val", Literal::float(self.dtype(), 0.0));
        self.builder.op1(Op::Pad, vec![self.arg("x"), pad, mode, zero])
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $op:expr) => {
        impl<'b> std::ops::$trait for Tensor<'b> {
            type Output = Tensor<'b>;
            fn $method(self, y: Tensor<'b>) -> Tensor<'b> {
                self.binary($op, y)
            }
        }
        impl<'b> std::ops::$trait<f64> for Tensor<'b> {
            type Output = Tensor<'b>;
            fn $method(self, y: f64) -> Tensor<'b> {
                self.binary($op, self.constant(y))
            }
        }
        impl<'b> std::ops::$trait<Tensor<'b>> for f64 {
            type Output = Tensor<'b>;
            fn $method(self, y: Tensor<'b>) -> Tensor<'b> {
                y.constant(self).binary($op, y)
            }
        }
    };
}

operator!(Add, add, Op::Add);
operator!(Sub, sub, Op::Sub);
operator!(Mul, mul, Op::Mul);
operator!(Div, div, Op::RealDiv);

impl<'b> std::ops::Neg for Tensor<'b> {
    type Output = Tensor<'b>;
    fn neg(self) -> Tensor<'b> {
        self * -1.0
    }
}
