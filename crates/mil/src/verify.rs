//! The rules of the language, checked on a whole program: every fault is reported, not the first.
//!
//! The rules of single operations are in [`mod@crate::resolve`]; here are the rules between them.

use crate::diagnostic::Diagnostic;
use crate::ir::{Arg, Function, Operation, Program, Value, ValueId};
use crate::op::Op;
use crate::resolve::resolve;
use crate::text::is_name;
use crate::types::{DType, Literal, Payload, TensorType};
use std::collections::HashSet;

/// A part of a program, by index: function, then operation, then argument or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// The whole program.
    Program,
    /// A function.
    Function(usize),
    /// A parameter of a function.
    Param(usize, usize),
    /// A returned value of a function.
    Output(usize, usize),
    /// An operation of a function.
    Operation(usize, usize),
    /// The literal of a `const`.
    Value(usize, usize),
    /// An argument of an operation.
    Arg(usize, usize, usize),
    /// A result of an operation.
    Result(usize, usize, usize),
}

impl Site {
    /// Names the part for a message: ``function `main`, operation `y` ``. Empty for the program.
    pub fn describe(self, program: &Program) -> String {
        let (f, op) = match self {
            Site::Program => return String::new(),
            Site::Function(f) | Site::Param(f, _) | Site::Output(f, _) => (f, None),
            Site::Operation(f, op)
            | Site::Value(f, op)
            | Site::Arg(f, op, _)
            | Site::Result(f, op, _) => (f, Some(op)),
        };
        let Some(function) = program.functions.get(f) else { return String::new() };
        match op.and_then(|op| function.ops.get(op)) {
            Some(op) => format!("function `{}`, operation `{}`", function.name, op.name),
            None => format!("function `{}`", function.name),
        }
    }
}

/// A fault and the part of the program that has it.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which part.
    pub site: Site,
    /// The expectation and the finding.
    pub message: String,
    /// How to mend it; may be empty.
    pub hint: String,
}

/// Faults after which checking stops.
pub const MAX_FAULTS: usize = 100;

/// Every fault of a program, at most 100, in the order of the program; empty if it is valid.
///
/// Checked are: function and value names are unique and can be written, values are defined before
/// they are used, every operation's arguments and attributes fit its rules, declared types are those
/// inferred, literals hold as many elements as their types say, no extent is zero (an empty
/// list of attribute integers excepted), and every function returns computed tensors.
pub fn verify(program: &Program) -> Vec<Diagnostic> {
    let diagnose = |f: &Fault| Diagnostic::of(f.site.describe(program), &f.message, &f.hint);
    faults(program).iter().map(diagnose).collect()
}

/// The faults that [`verify`] describes, with the parts of the program that have them.
pub fn faults(program: &Program) -> Vec<Fault> {
    let mut checker = Checker { faults: vec![] };
    if program.functions.is_empty() {
        let hint = "write func main<ios18>(…) { … } -> (…);";
        checker.fault(Site::Program, "the program has no function", hint);
    }
    let mut names = HashSet::new();
    for (i, function) in program.functions.iter().enumerate() {
        if !names.insert(function.name.as_str()) {
            let message = format!("function `{}` is defined twice", function.name);
            checker.fault(Site::Function(i), message, "function names are unique in a program");
        }
        checker.function(i, function);
    }
    checker.faults.truncate(MAX_FAULTS);
    checker.faults
}

struct Checker {
    faults: Vec<Fault>,
}

impl Checker {
    fn fault(&mut self, site: Site, message: impl Into<String>, hint: impl Into<String>) {
        self.faults.push(Fault { site, message: message.into(), hint: hint.into() });
    }

    fn function(&mut self, i: usize, f: &Function) {
        self.name(Site::Function(i), &f.name);
        self.name(Site::Function(i), &f.opset);
        if f.params > f.values.len() {
            let message = format!("{} parameters, but {} values", f.params, f.values.len());
            return self.fault(Site::Function(i), message, "");
        }
        let mut names = HashSet::new();
        for (k, value) in f.values[..f.params].iter().enumerate() {
            self.name_of(Site::Param(i, k), &value.name, &mut names);
            self.extents(Site::Param(i, k), value);
            if value.ty.dtype == DType::String {
                self.fault(Site::Param(i, k), "a parameter cannot be text", "use a const()");
            }
        }
        let mut defined = f.params;
        for (k, op) in f.ops.iter().enumerate() {
            if self.faults.len() >= MAX_FAULTS {
                return;
            }
            let ordered = self.results(i, k, f, op, &mut defined, &mut names);
            if !ordered {
                // Everything after would be judged by wrong types.
                return;
            }
            self.operation(i, k, f, op, defined - op.results.len());
        }
        if defined != f.values.len() {
            let message = format!("{} values, but {defined} are defined", f.values.len());
            self.fault(Site::Function(i), message, "");
        }
        self.outputs(i, f, defined);
    }

    fn name(&mut self, site: Site, name: &str) {
        if !is_name(name) {
            let message = format!("`{}` cannot be written as a name", name.escape_debug());
            self.fault(site, message, "use letters, digits and _, and start with a letter or _");
        }
    }

    fn name_of<'f>(&mut self, site: Site, name: &'f str, names: &mut HashSet<&'f str>) {
        self.name(site, name);
        if !names.insert(name) {
            let message = format!("`{name}` is defined twice");
            self.fault(site, message, "names are unique in a function: rename one of them");
        }
    }

    fn extents(&mut self, site: Site, value: &Value) {
        if value.ty.shape.contains(&0) {
            let message = format!("`{}` has an extent of zero: {}", value.name, value.ty);
            self.fault(site, message, "zero-sized tensors are not allowed");
        }
    }

    /// Checks the values an operation defines. Returns whether they are the next ones in order,
    /// which everything else rests on.
    fn results<'f>(
        &mut self,
        i: usize,
        k: usize,
        f: &'f Function,
        op: &Operation,
        defined: &mut usize,
        names: &mut HashSet<&'f str>,
    ) -> bool {
        if op.results.is_empty() {
            self.fault(Site::Operation(i, k), format!("{} defines no value", op.op), "");
            return false;
        }
        for (r, id) in op.results.iter().enumerate() {
            let site = Site::Result(i, k, r);
            let Some(value) = f.values.get(id.index()).filter(|_| id.index() == *defined) else {
                let message = format!("{id} is defined where v{defined} should be");
                self.fault(site, message, "values are numbered in the order of definition");
                return false;
            };
            *defined += 1;
            self.name_of(site, &value.name, names);
            // An attribute may be an empty list, as the shape of a scalar is.
            let empty_list = value.ty == TensorType::new(DType::Int32, [0]);
            if !(op.op == Op::Const && empty_list) {
                self.extents(site, value);
            }
        }
        true
    }

    /// Checks an operation whose operands must be among the first `before` values.
    fn operation(&mut self, i: usize, k: usize, f: &Function, op: &Operation, before: usize) {
        let mut readable = true;
        for (a, (_, arg)) in op.args.iter().enumerate() {
            let site = Site::Arg(i, k, a);
            match arg {
                Arg::Attribute(_) if !op.op.is_constexpr() => {
                    let message = format!("{} takes no attributes", op.op);
                    self.fault(site, message, "give it as an argument");
                }
                Arg::Literal(literal) | Arg::Attribute(literal) => {
                    readable &= self.literal(site, literal);
                }
                Arg::Value(id) => readable &= self.operand(site, f, *id, before),
                Arg::Values(ids) => {
                    for id in ids {
                        readable &= self.operand(site, f, *id, before);
                    }
                }
            }
        }
        match &op.value {
            Some(_) if op.op != Op::Const => {
                self.fault(Site::Operation(i, k), format!("{} has no `val`", op.op), "");
            }
            Some(literal) => readable &= self.literal(Site::Value(i, k), literal),
            None => {}
        }
        if readable {
            self.types(i, k, f, op);
        }
    }

    fn operand(&mut self, site: Site, f: &Function, id: ValueId, before: usize) -> bool {
        let defined = id.index() < before;
        if !defined {
            let name = f.values.get(id.index()).map_or(id.to_string(), |v| v.name.clone());
            let message = format!("`{name}` is used before it is defined");
            self.fault(site, message, "move its definition up");
        }
        defined
    }

    fn literal(&mut self, site: Site, literal: &Literal) -> bool {
        let Payload::Inline(data) = &literal.payload else { return true };
        use crate::types::Data::*;
        let fits = match data {
            Fp16(_) => literal.ty.dtype == DType::Fp16,
            Fp32(_) => literal.ty.dtype == DType::Fp32,
            Bool(_) => literal.ty.dtype == DType::Bool,
            String(_) => literal.ty.dtype == DType::String,
            Int(_) => literal.ty.dtype.int_range().is_some(),
        };
        let sized = data.len() == literal.ty.count();
        if !fits || !sized {
            let message = format!("{} elements do not make a {}", data.len(), literal.ty);
            self.fault(site, message, "");
        }
        fits && sized
    }

    /// Compares declared types with inferred ones.
    fn types(&mut self, i: usize, k: usize, f: &Function, op: &Operation) {
        let resolved = match resolve(f, op) {
            Ok(resolved) => resolved,
            Err(error) => {
                let key = error.key.as_deref().unwrap_or_default();
                let site = match op.args.iter().rposition(|(written, _)| *written == key) {
                    Some(a) => Site::Arg(i, k, a),
                    None => Site::Operation(i, k),
                };
                return self.fault(site, error.to_string(), error.hint);
            }
        };
        if resolved.results.len() != op.results.len() {
            let (expected, got) = (resolved.results.len(), op.results.len());
            let message = format!("{} has {expected} results, {got} are declared", op.op);
            return self.fault(Site::Operation(i, k), message, "");
        }
        for (r, (ty, id)) in resolved.results.iter().zip(&op.results).enumerate() {
            let value = f.value(*id);
            if value.ty != *ty {
                let message =
                    format!("`{}` is declared {}, but {} gives {ty}", value.name, value.ty, op.op);
                self.fault(Site::Result(i, k, r), message, format!("declare it {ty}"));
            }
        }
    }

    fn outputs(&mut self, i: usize, f: &Function, defined: usize) {
        if f.outputs.is_empty() {
            let hint = "name a value after ->, as in } -> (y);";
            self.fault(Site::Function(i), format!("function `{}` returns nothing", f.name), hint);
        }
        let mut seen = HashSet::new();
        for (o, id) in f.outputs.iter().enumerate() {
            if self.faults.len() >= MAX_FAULTS {
                return;
            }
            let site = Site::Output(i, o);
            let Some(value) = f.values[..defined].get(id.index()) else {
                self.fault(site, format!("returns {id}, which is not defined"), "");
                continue;
            };
            if !seen.insert(*id) {
                self.fault(site, format!("`{}` is returned twice", value.name), "return it once");
            } else if id.index() < f.params {
                let one = format!("{}(1)", value.ty.dtype);
                let message = format!("output `{}` is an input", value.name);
                let hint = format!(
                    "the engine's compiler crashes on it: return mul(x = {}, y = {one})",
                    value.name
                );
                self.fault(site, message, hint);
            } else if value.ty.dtype == DType::String {
                self.fault(site, format!("output `{}` is text", value.name), "return a tensor");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;

    fn program() -> Program {
        let b = Builder::new("main");
        let x = b.input("x", TensorType::fp16([2, 3]));
        Program::new(b.finish(&[(x + x).exp()]).unwrap())
    }

    /// The faults of a program after `change`; programs made by hand may be wrong in ways that
    /// no text can be.
    fn check(change: impl FnOnce(&mut Function), expected: &[&str]) {
        let mut program = program();
        change(&mut program.functions[0]);
        let found: Vec<String> = verify(&program).iter().map(|d| d.message.clone()).collect();
        assert_eq!(found, expected);
        assert!(!program.to_string().is_empty(), "printing does not mind");
    }

    #[test]
    fn programs_made_by_hand() {
        check(|_| {}, &[]);
        check(|f| f.ops.swap(0, 1), &["v2 is defined where v1 should be"]);
        check(|f| f.params = 9, &["9 parameters, but 3 values"]);
        check(
            |f| drop(f.ops.pop()),
            &["3 values, but 2 are defined", "returns v2, which is not defined"],
        );
        check(|f| f.outputs = vec![ValueId(7)], &["returns v7, which is not defined"]);
        check(
            |f| f.ops[0].args[1].1 = Arg::Value(ValueId(2)),
            &["`exp_0` is used before it is defined"],
        );
        check(
            |f| f.ops[0].args[1].1 = Arg::Value(ValueId(99)),
            &["`v99` is used before it is defined"],
        );
        check(|f| f.values[2].name = "a b".into(), &["`a b` cannot be written as a name"]);
        check(|f| f.values[2].name = "x".into(), &["`x` is defined twice"]);
        check(|f| f.ops[1].results.clear(), &["exp defines no value"]);
        check(|f| f.ops[0].value = Some(Literal::int(1)), &["add has no `val`"]);
        check(
            |f| {
                let ty = TensorType::fp16([2, 3]);
                let payload = Payload::Inline(crate::Data::Int(vec![1]));
                f.ops[0].args[1].1 = Arg::Literal(Literal { ty, payload });
            },
            &["1 elements do not make a tensor<fp16, [2, 3]>"],
        );
    }
}
