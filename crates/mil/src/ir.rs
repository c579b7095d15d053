//! The program: functions of operations over values in single-assignment form.

use crate::op::Op;
use crate::types::{Literal, TensorType};
use std::fmt;

/// A value of a function: an index into [`Function::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The index as `usize`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Name and type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Unique in its function.
    pub name: String,
    /// Declared type.
    pub ty: TensorType,
}

/// The value after `KEY =` in an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A named value.
    Value(ValueId),
    /// A tuple of named values, as `concat` and `stack` take.
    Values(Vec<ValueId>),
    /// A typed literal written in place.
    Literal(Literal),
    /// A typed literal written among the attributes, after the operation: `…()[KEY = LITERAL]`. Only
    /// `constexpr_…` operations take them ([`Op::is_constexpr`]).
    Attribute(Literal),
}

impl Arg {
    /// The literal that this is, in place or an attribute.
    pub fn literal(&self) -> Option<&Literal> {
        match self {
            Arg::Literal(literal) | Arg::Attribute(literal) => Some(literal),
            Arg::Value(_) | Arg::Values(_) => None,
        }
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which operation.
    pub op: Op,
    /// Arguments in the order written; keys are from the operation's [`crate::op::Signature`].
    pub args: Vec<(&'static str, Arg)>,
    /// The value of a `const`; `None` for every other operation.
    pub value: Option<Literal>,
    /// Values defined here; one except for `split`.
    pub results: Vec<ValueId>,
    /// The `name` attribute.
    pub name: String,
}

impl Operation {
    /// The argument called `key`, if written.
    pub fn arg(&self, key: &str) -> Option<&Arg> {
        self.args.iter().find(|(k, _)| *k == key).map(|(_, arg)| arg)
    }

    /// Every literal that this operation holds: the value of a `const`, arguments in place,
    /// attributes.
    pub fn literals(&self) -> impl Iterator<Item = &Literal> {
        self.value.iter().chain(self.args.iter().filter_map(|(_, arg)| arg.literal()))
    }

    /// As [`Operation::literals`], to be changed.
    pub fn literals_mut(&mut self) -> impl Iterator<Item = &mut Literal> {
        let in_args = self.args.iter_mut().filter_map(|(_, arg)| match arg {
            Arg::Literal(literal) | Arg::Attribute(literal) => Some(literal),
            Arg::Value(_) | Arg::Values(_) => None,
        });
        self.value.iter_mut().chain(in_args)
    }

    /// Every value read by this operation, in the order written.
    pub fn operands(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.args
            .iter()
            .flat_map(|(_, arg)| match arg {
                Arg::Value(id) => std::slice::from_ref(id),
                Arg::Values(ids) => ids.as_slice(),
                Arg::Literal(_) | Arg::Attribute(_) => &[],
            })
            .copied()
    }
}

/// A function. Values are numbered in order of definition: parameters first, then results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Name, `main` in single-function programs.
    pub name: String,
    /// Operation set, for instance `ios18`.
    pub opset: String,
    /// All values, in order of definition.
    pub values: Vec<Value>,
    /// How many of the values are parameters: they are the first ones.
    pub params: usize,
    /// Statements in order.
    pub ops: Vec<Operation>,
    /// Returned values, in the order written.
    pub outputs: Vec<ValueId>,
}

impl Function {
    /// The value behind `id`.
    ///
    /// # Panics
    /// If `id` belongs to another function.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// Type of a value.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.value(id).ty
    }

    /// Ids of the parameters.
    pub fn inputs(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.params as u32).map(ValueId)
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|v| v.name == name).map(|i| ValueId(i as u32))
    }

    /// Index of the operation that defines `id`; `None` for a parameter. Operations define values
    /// in ascending order, so this is a binary search.
    pub fn definition(&self, id: ValueId) -> Option<usize> {
        if id.index() < self.params {
            return None;
        }
        let after = self.ops.partition_point(|op| op.results.first().is_some_and(|&r| r <= id));
        after.checked_sub(1).filter(|&i| self.ops[i].results.contains(&id))
    }

    /// The literal behind `id`, if a `const` defines it.
    pub fn constant(&self, id: ValueId) -> Option<&Literal> {
        self.ops[self.definition(id)?].value.as_ref()
    }

    /// Adds a parameter after the existing ones; ids of all later values move up by one.
    pub(crate) fn insert_param(&mut self, value: Value) {
        let at = self.params as u32;
        let shift = |id: &mut ValueId| id.0 += u32::from(id.0 >= at);
        for op in &mut self.ops {
            op.results.iter_mut().for_each(shift);
            for (_, arg) in &mut op.args {
                match arg {
                    Arg::Value(id) => shift(id),
                    Arg::Values(ids) => ids.iter_mut().for_each(shift),
                    Arg::Literal(_) | Arg::Attribute(_) => {}
                }
            }
        }
        self.outputs.iter_mut().for_each(shift);
        self.values.insert(self.params, value);
        self.params += 1;
    }

    /// For every value, the index of the operation that defines it (`None` for parameters).
    pub fn definitions(&self) -> Vec<Option<usize>> {
        let mut defs = vec![None; self.values.len()];
        for (i, op) in self.ops.iter().enumerate() {
            for r in &op.results {
                defs[r.index()] = Some(i);
            }
        }
        defs
    }
}

/// A program: one or more functions and the build information of its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Language version, `(1, 3)` for `program(1.3)`.
    pub version: (u32, u32),
    /// Keys and values of `buildInfo`, in order.
    pub build_info: Vec<(String, String)>,
    /// Functions in order.
    pub functions: Vec<Function>,
}

impl Program {
    /// A program of one function with the header that the in-memory compiler is known to accept
    /// on macOS 15 and 26 (`program(1.3)`).
    pub fn new(function: Function) -> Self {
        let info = [
            ("coremlc-component-MIL", "3510.2.1"),
            ("coremlc-version", "3505.4.1"),
            ("coremltools-component-milinternal", ""),
            ("coremltools-version", "9.0"),
        ];
        Program {
            version: (1, 3),
            build_info: info.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
            functions: vec![function],
        }
    }
}
