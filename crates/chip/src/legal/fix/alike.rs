//! Which values of two functions are the same because the same operations make them.

use mil::resolve::{Kind, resolve};
use mil::{Arg, Function, Literal, Op, Operation, ValueId};
use std::collections::HashMap;

/// Two functions, the second one rewritten from the first, and what is known to be the same in both.
pub(super) struct Pairs<'p> {
    /// As it was.
    pub(super) f: &'p Function,
    /// As it is now.
    pub(super) g: &'p Function,
    /// For each value of `f`, the one that it is a copy of: itself, or what an identity or a cast from
    /// float to float was given. Programs are compared without rounding.
    copies: Vec<ValueId>,
    /// For each value of `g`, the value of `f` that is the same, which is no copy.
    twins: Vec<Option<ValueId>>,
    /// For each value of `g`, the parameter that it is a copy of, if that is wider than before.
    wide: Vec<Option<ValueId>>,
    /// Values of `f` by name, where it is given once.
    names: HashMap<&'p str, Option<ValueId>>,
    /// Operations of `f` by what they are and by their first operand.
    readers: HashMap<(Op, ValueId), Vec<usize>>,
}

impl<'p> Pairs<'p> {
    /// Parameters of equal shapes are the same.
    pub(super) fn new(f: &'p Function, g: &'p Function) -> Self {
        let mut copies: Vec<ValueId> = (0..f.values.len() as u32).map(ValueId).collect();
        for op in &f.ops {
            if let Some(x) = copied(f, op) {
                copies[op.results[0].index()] = copies[x.index()];
            }
        }
        let mut names = HashMap::new();
        for (value, id) in f.values.iter().zip((0..).map(ValueId)) {
            names.entry(value.name.as_str()).and_modify(|once| *once = None).or_insert(Some(id));
        }
        let mut readers: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, op) in f.ops.iter().enumerate() {
            let first = op.operands().next().map(|id| (op.op, copies[id.index()]));
            first.into_iter().for_each(|key| readers.entry(key).or_default().push(index));
        }
        let mut pairs = Pairs {
            f,
            g,
            copies,
            twins: vec![None; g.values.len()],
            wide: vec![None; g.values.len()],
            names,
            readers,
        };
        for id in g.inputs() {
            if pairs.same_types(id, id) {
                pairs.join(id, id);
            } else {
                pairs.wide[id.index()] = Some(id);
            }
        }
        pairs
    }

    fn same_types(&self, x: ValueId, y: ValueId) -> bool {
        let (x, y) = (self.f.ty(x), self.g.ty(y));
        x.shape == y.shape && (x.dtype == y.dtype || x.dtype.is_float() && y.dtype.is_float())
    }

    /// From now on `y` of the second function is `x` of the first.
    pub(super) fn join(&mut self, x: ValueId, y: ValueId) {
        self.twins[y.index()] = Some(self.stands_for(x));
    }

    /// The value that one of the first function is a copy of.
    pub(super) fn stands_for(&self, x: ValueId) -> ValueId {
        self.copies[x.index()]
    }

    /// The value of the first function that one of the second is, if that is known.
    pub(super) fn twin(&self, y: ValueId) -> Option<ValueId> {
        self.twins[y.index()]
    }

    /// True if a value of the second function is known to be one of the first.
    pub(super) fn is_known(&self, y: ValueId) -> bool {
        self.twin(y).is_some()
    }

    /// True if two values are known to be the same, shapes included.
    pub(super) fn are_same(&self, x: ValueId, y: ValueId) -> bool {
        self.twin(y) == Some(self.stands_for(x)) && self.same_types(x, y)
    }

    /// The value of the first function that has the name and the type of one of the second.
    pub(super) fn namesake(&self, y: ValueId) -> Option<ValueId> {
        let x = (*self.names.get(self.g.value(y).name.as_str())?)?;
        self.same_types(x, y).then_some(x)
    }

    /// Looks at an operation of the second function. Returns whether its results are known from now
    /// on: it copies something known, takes the part of a wider port that was there before, or is an
    /// operation of the first function, of operands that are the same.
    pub(super) fn step(&mut self, op: &Operation) -> bool {
        let Some(&first) = op.results.first() else { return false };
        if let Some(x) = copied(self.g, op) {
            self.wide[first.index()] = self.wide[x.index()];
            self.twins[first.index()] = self.twins[x.index()];
            return self.is_known(first);
        }
        if let Some(port) = self.start_of_port(op) {
            self.join(port, first);
            return true;
        }
        let Some(before) = self.same_operation(op) else { return false };
        for (&x, &y) in before.results.iter().zip(&op.results) {
            self.join(x, y);
        }
        true
    }

    /// The parameter of the first function that an operation of the second cuts out of the wider one.
    fn start_of_port(&self, op: &Operation) -> Option<ValueId> {
        let resolved = resolve(self.g, op).ok()?;
        let Kind::Slice { begin, stride, .. } = &resolved.kind else { return None };
        let port = self.wide[op.operands().next()?.index()]?;
        let from_the_start =
            begin.iter().all(|&at| at == 0) && stride.iter().all(|&step| step == 1);
        (from_the_start && self.same_types(port, op.results[0])).then_some(port)
    }

    /// The operation of the first function that one of the second is: that of its name, or another one
    /// that reads the same.
    fn same_operation(&self, op: &Operation) -> Option<&'p Operation> {
        let called = op.results.first().and_then(|&y| self.f.definition(self.namesake(y)?));
        let first = op.operands().next().and_then(|id| self.twin(id));
        let readers = first.and_then(|x| self.readers.get(&(op.op, x))).into_iter().flatten();
        let mut candidates = called.into_iter().chain(readers.copied());
        let same = candidates.find(|&index| self.is_same_operation(&self.f.ops[index], op));
        same.map(|index| &self.f.ops[index])
    }

    fn is_same_operation(&self, before: &Operation, op: &Operation) -> bool {
        let results = before.results.len() == op.results.len()
            && before.results.iter().zip(&op.results).all(|(&x, &y)| self.same_types(x, y));
        let args = before.args.len() == op.args.len()
            && op.args.iter().all(|(key, y)| before.arg(key).is_some_and(|x| self.is_same(x, y)));
        let value = match (&before.value, &op.value) {
            (Some(x), Some(y)) => same_literals(x, y),
            (None, None) => true,
            _ => false,
        };
        before.op == op.op && results && args && value
    }

    fn is_same(&self, x: &Arg, y: &Arg) -> bool {
        if let (Some(x), Some(y)) = (literal(self.f, x), literal(self.g, y)) {
            return same_literals(x, y);
        }
        match (x, y) {
            (Arg::Value(x), Arg::Value(y)) => self.are_same(*x, *y),
            (Arg::Values(x), Arg::Values(y)) => {
                x.len() == y.len() && x.iter().zip(y).all(|(&x, &y)| self.are_same(x, y))
            }
            _ => false,
        }
    }
}

/// The literal that an argument is, in place or by name.
fn literal<'a>(f: &'a Function, arg: &'a Arg) -> Option<&'a Literal> {
    match arg {
        Arg::Value(id) => f.constant(*id),
        _ => arg.literal(),
    }
}

/// The value that an operation copies: the input of an identity, or of a cast between floats.
fn copied(f: &Function, op: &Operation) -> Option<ValueId> {
    let Some(Arg::Value(x)) = op.arg("x") else { return None };
    let floats = || f.ty(*x).dtype.is_float() && f.ty(op.results[0]).dtype.is_float();
    match op.op {
        Op::Identity => Some(*x),
        Op::Cast if floats() => Some(*x),
        _ => None,
    }
}

/// True if two literals hold the same numbers in the same shape. A NaN is not the same as itself.
fn same_literals(x: &Literal, y: &Literal) -> bool {
    let floats = x.ty.dtype.is_float() && y.ty.dtype.is_float();
    if x.ty.shape != y.ty.shape || !(floats || x.ty.dtype == y.ty.dtype) {
        return false;
    }
    let numbers = |literal: &Literal| literal.data().and_then(|data| data.to_f64());
    x.payload == y.payload
        || x.ty.dtype != y.ty.dtype && numbers(x).is_some() && numbers(x) == numbers(y)
}
