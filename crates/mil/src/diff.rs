//! The differences between two programs, whatever they call their values.
//!
//! Both are brought to one form: operations in the order in which the outputs need them (so that
//! dead ones and the order of the text do not count), constants written into the arguments (so
//! that it does not matter whether they are named), names of inner values forgotten. Operations are
//! then aligned by their kind, constants and result types, and the wiring of aligned ones compared.

use crate::ir::{Arg, Function, Operation, Program, ValueId};
use crate::types::{Data, Literal, Payload, TensorType};
use std::collections::BTreeMap;
use std::fmt;

/// Constants of at most this many elements are shown; larger ones by their checksum.
const SHOWN: usize = 8;

/// Pairs of operations that an alignment may look at: beyond, the middle is reported as replaced.
const MOST_PAIRS: usize = 1 << 26;

/// A difference that changes what a program computes or how it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the first program has it.
    Removed(String),
    /// Only the second program has it.
    Added(String),
    /// Both have it, differently.
    Changed(String),
}

impl fmt::Display for Change {
    /// One line, beginning with `-`, `+` or `~`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Removed(what) => write!(f, "- {what}"),
            Change::Added(what) => write!(f, "+ {what}"),
            Change::Changed(what) => write!(f, "~ {what}"),
        }
    }
}

/// Differences between two programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Differences in version, operation set and build information, which do not change what is
    /// computed.
    pub notes: Vec<String>,
    /// All other differences: function by function, operations in order.
    pub changes: Vec<Change>,
}

/// Compares two programs. Functions are matched by name, or, if each has one only, anyway.
pub fn diff(a: &Program, b: &Program) -> Diff {
    let mut diff = Diff::default();
    if a.version != b.version {
        let ((a0, a1), (b0, b1)) = (a.version, b.version);
        diff.notes.push(format!("program({a0}.{a1}) and program({b0}.{b1})"));
    }
    if a.build_info != b.build_info {
        diff.notes.push("build information differs".to_owned());
    }
    if let ([f], [g]) = (&a.functions[..], &b.functions[..]) {
        if f.name != g.name {
            diff.changes.push(Change::Changed(format!("function {} is called {}", f.name, g.name)));
        }
        functions(f, g, &mut diff);
        return diff;
    }
    for f in &a.functions {
        match b.functions.iter().find(|g| g.name == f.name) {
            Some(g) => functions(f, g, &mut diff),
            None => diff.changes.push(Change::Removed(format!("function {}", f.name))),
        }
    }
    let new = b.functions.iter().filter(|g| a.functions.iter().all(|f| f.name != g.name));
    diff.changes.extend(new.map(|g| Change::Added(format!("function {}", g.name))));
    diff
}

/// An operation without the names of its values.
struct Step<'f> {
    op: &'f Operation,
    /// Operation, constants and result types: what alignment compares.
    shape: String,
    /// Where each value argument comes from, with a label for messages.
    wiring: Vec<(String, ValueId)>,
}

fn functions(f: &Function, g: &Function, diff: &mut Diff) {
    if f.opset != g.opset {
        diff.notes.push(format!("function {}: {} and {}", f.name, f.opset, g.opset));
    }
    let changes = &mut diff.changes;
    let at = |text: String| format!("{}: {text}", f.name);
    ports("parameter", &parameters(f), &parameters(g), &mut |change| changes.push(change), &at);
    let (left, right) = (steps(f), steps(g));
    let mut same = Counterparts::default();
    for id in f.inputs() {
        if let Some(other) = g.find(&f.value(id).name).filter(|o| o.index() < g.params) {
            same.add(id, other);
        }
    }
    for pair in align(&left, &right) {
        match pair {
            (Some(a), Some(b)) => {
                for ((label, from), (_, to)) in left[a].wiring.iter().zip(&right[b].wiring) {
                    if !same.agree(*from, *to) {
                        let (from, to) = (&f.value(*from).name, &g.value(*to).name);
                        changes.push(Change::Changed(at(format!(
                            "{} `{}`: {label} comes from `{to}` instead of `{from}`",
                            left[a].op.op, left[a].op.name
                        ))));
                    }
                }
                let results = left[a].op.results.iter().zip(&right[b].op.results);
                results.for_each(|(x, y)| same.add(*x, *y));
            }
            (Some(a), None) => {
                let text = format!("`{}`: {}", left[a].op.name, left[a].shape);
                changes.push(Change::Removed(at(text)));
            }
            (None, Some(b)) => {
                let text = format!("`{}`: {}", right[b].op.name, right[b].shape);
                changes.push(Change::Added(at(text)));
            }
            (None, None) => {}
        }
    }
    ports("output", &outputs(f), &outputs(g), &mut |change| changes.push(change), &at);
    for (&x, &y) in f.outputs.iter().flat_map(|x| {
        g.outputs.iter().filter(|y| g.value(**y).name == f.value(*x).name).map(move |y| (x, y))
    }) {
        if !same.agree(x, y) {
            changes.push(Change::Changed(at(format!(
                "output `{}` is another value",
                f.value(x).name
            ))));
        }
    }
}

/// Values of both functions that stand for the same thing.
#[derive(Default)]
struct Counterparts {
    of_left: BTreeMap<ValueId, ValueId>,
    of_right: BTreeMap<ValueId, ValueId>,
}

impl Counterparts {
    fn add(&mut self, left: ValueId, right: ValueId) {
        self.of_left.insert(left, right);
        self.of_right.insert(right, left);
    }

    /// True if one value takes the place of the other: they are counterparts, or neither has one,
    /// because an operation was replaced, which is reported already.
    fn agree(&self, left: ValueId, right: ValueId) -> bool {
        match (self.of_left.get(&left), self.of_right.get(&right)) {
            (None, None) => true,
            (counterpart, _) => counterpart == Some(&right),
        }
    }
}

type Ports<'f> = BTreeMap<&'f str, &'f TensorType>;

fn parameters(f: &Function) -> Ports<'_> {
    f.values[..f.params].iter().map(|v| (v.name.as_str(), &v.ty)).collect()
}

fn outputs(f: &Function) -> Ports<'_> {
    f.outputs.iter().map(|&id| (f.value(id).name.as_str(), f.ty(id))).collect()
}

fn ports(
    what: &str,
    a: &Ports<'_>,
    b: &Ports<'_>,
    found: &mut impl FnMut(Change),
    at: &impl Fn(String) -> String,
) {
    for (name, ty) in a {
        match b.get(name) {
            None => found(Change::Removed(at(format!("{what} `{name}`: {ty}")))),
            Some(other) if other != ty => {
                found(Change::Changed(at(format!("{what} `{name}`: {other} instead of {ty}"))));
            }
            Some(_) => {}
        }
    }
    let new = b.iter().filter(|(name, _)| !a.contains_key(*name));
    new.for_each(|(name, ty)| found(Change::Added(at(format!("{what} `{name}`: {ty}")))));
}

/// The operations that outputs need, each after those it needs, arguments in order of their keys.
fn steps(f: &Function) -> Vec<Step<'_>> {
    let definitions = f.definitions();
    let mut placed = vec![false; f.ops.len()];
    let mut order = vec![];
    // Depth first without recursion, since programs may be deep: an operation is taken up again
    // after those that it needs.
    let mut stack: Vec<(usize, bool)> = vec![];
    for output in &f.outputs {
        stack.extend(definitions[output.index()].map(|op| (op, false)));
        while let Some((at, ready)) = stack.pop() {
            if placed[at] {
                continue;
            }
            if ready {
                placed[at] = true;
                order.push(at);
                continue;
            }
            stack.push((at, true));
            let needed = step(f, &f.ops[at]).wiring;
            stack.extend(
                needed
                    .iter()
                    .rev()
                    .filter_map(|(_, id)| definitions[id.index()])
                    .map(|d| (d, false)),
            );
        }
    }
    order
        .into_iter()
        .map(|at| &f.ops[at])
        .filter(|op| op.value.is_none())
        .map(|op| step(f, op))
        .collect()
}

fn step<'f>(f: &'f Function, op: &'f Operation) -> Step<'f> {
    let mut args: Vec<&(&str, Arg)> = op.args.iter().collect();
    args.sort_by_key(|(key, _)| *key);
    let (mut wiring, mut constants) = (vec![], vec![]);
    for (key, arg) in args {
        let mut value = |label: String, id: ValueId| match f.constant(id) {
            Some(literal) => constants.push(format!("{label} = {}", brief(literal))),
            None => wiring.push((label, id)),
        };
        match arg {
            Arg::Value(id) => value((*key).to_owned(), *id),
            Arg::Values(ids) => {
                ids.iter().enumerate().for_each(|(i, id)| value(format!("{key}[{i}]"), *id));
            }
            Arg::Literal(literal) | Arg::Attribute(literal) => {
                constants.push(format!("{key} = {}", brief(literal)))
            }
        }
    }
    let results: Vec<String> = op.results.iter().map(|&id| f.ty(id).to_string()).collect();
    let inputs: Vec<&str> = wiring.iter().map(|(label, _)| label.as_str()).collect();
    let all: Vec<String> = inputs.iter().map(|&l| l.to_owned()).chain(constants).collect();
    let shape = format!("{}({}) -> {}", op.op, all.join(", "), results.join(", "));
    Step { op, shape, wiring }
}

/// A constant as text: elements if they are few, else their checksum.
fn brief(literal: &Literal) -> String {
    match &literal.payload {
        Payload::Inline(data) if data.len() > SHOWN => {
            format!("{} with checksum {:016x}", literal.ty, checksum(data))
        }
        _ => literal.to_string(),
    }
}

/// FNV-1a over the elements.
fn checksum(data: &Data) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    match data {
        Data::Fp16(v) => v.iter().for_each(|x| add(&x.to_bits().to_le_bytes())),
        Data::Fp32(v) => v.iter().for_each(|x| add(&x.to_bits().to_le_bytes())),
        Data::Int(v) => v.iter().for_each(|x| add(&x.to_le_bytes())),
        Data::Bool(v) => v.iter().for_each(|x| add(&[u8::from(*x)])),
        Data::String(v) => v.iter().for_each(|x| [x.as_bytes(), &[0]].iter().for_each(|b| add(b))),
    }
    hash
}

/// Indices of both lists in one order: a longest common subsequence by `shape`.
fn align(a: &[Step<'_>], b: &[Step<'_>]) -> Vec<(Option<usize>, Option<usize>)> {
    let equal = |i: usize, j: usize| a[i].shape == b[j].shape;
    let shorter = a.len().min(b.len());
    let start = (0..shorter).take_while(|&i| equal(i, i)).count();
    let end = (0..shorter - start).take_while(|&i| equal(a.len() - 1 - i, b.len() - 1 - i)).count();
    let (n, m) = (a.len() - start - end, b.len() - start - end);
    let mut pairs: Vec<_> = (0..start).map(|i| (Some(i), Some(i))).collect();
    if n.saturating_mul(m) > MOST_PAIRS {
        pairs.extend((0..n).map(|i| (Some(start + i), None)));
        pairs.extend((0..m).map(|j| (None, Some(start + j))));
    } else {
        middle(
            n,
            m,
            |i, j| equal(start + i, start + j),
            |i, j| {
                pairs.push((i.map(|i| start + i), j.map(|j| start + j)));
            },
        );
    }
    pairs.extend((0..end).rev().map(|i| (Some(a.len() - 1 - i), Some(b.len() - 1 - i))));
    pairs
}

/// The longest common subsequence of lists of `n` and `m` elements, by dynamic programming.
fn middle(
    n: usize,
    m: usize,
    equal: impl Fn(usize, usize) -> bool,
    mut pair: impl FnMut(Option<usize>, Option<usize>),
) {
    // longest[i][j]: of the elements from i and from j on.
    let mut longest = vec![0u32; (n + 1) * (m + 1)];
    let place = |i: usize, j: usize| i * (m + 1) + j;
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            longest[place(i, j)] = match equal(i, j) {
                true => longest[place(i + 1, j + 1)] + 1,
                false => longest[place(i + 1, j)].max(longest[place(i, j + 1)]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < n || j < m {
        if i < n && j < m && equal(i, j) {
            pair(Some(i), Some(j));
            (i, j) = (i + 1, j + 1);
        } else if i < n && (j == m || longest[place(i + 1, j)] >= longest[place(i, j + 1)]) {
            pair(Some(i), None);
            i += 1;
        } else {
            pair(None, Some(j));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(a: &str, b: &str) -> Vec<String> {
        let parse = |text: &str| crate::parse(text).unwrap_or_else(|e| panic!("{e}"));
        diff(&parse(a), &parse(b)).changes.iter().map(ToString::to_string).collect()
    }

    const A: &str = r#"program(1.3) { func main<ios18>(tensor<fp16, [1, 2]> x, tensor<fp16, [1, 2]> y) {
        tensor<fp16, [1, 2]> s = add(x = x, y = y)[name = string("s")];
        tensor<fp16, [1, 2]> e = exp(x = s)[name = string("e")];
        tensor<fp16, [1, 2]> z = softmax(x = e, axis = int32(-1))[name = string("z")];
    } -> (z); }"#;

    #[test]
    fn names_order_and_the_form_of_constants_do_not_count() {
        let same = r#"program(1.0)
        [buildInfo = dict<string, string>({{"coremlc-version", "1"}})]
        { func main<ios16>(tensor<fp16,[1,2]> x, tensor<fp16,[1,2]> y) {
            tensor<int32, []> last = const()[name = tensor<string, []>("last"), val = tensor<int32, []>(-1)];
            tensor<fp16,[1,2]> unused = sub(x = x, y = y)[name = string("unused")];
            tensor<fp16,[1,2]> sum = add(y = y, x = x)[name = string("sum")];
            tensor<fp16,[1,2]> power = exp(x = sum)[name = string("power")];
            tensor<fp16,[1,2]> z = softmax(axis = last, x = power)[name = string("z")];
        } -> (z); }"#;
        assert_eq!(lines(A, same), Vec::<String>::new());
        let found = diff(&crate::parse(A).unwrap(), &crate::parse(same).unwrap());
        assert_eq!(found.notes.len(), 3, "{:?}", found.notes);
    }

    #[test]
    fn operations_are_named() {
        let other = A.replace("exp(x = s)", "tanh(x = s)");
        assert_eq!(
            lines(A, &other),
            [
                "- main: `e`: exp(x) -> tensor<fp16, [1, 2]>",
                "+ main: `e`: tanh(x) -> tensor<fp16, [1, 2]>",
            ]
        );
        let swapped = A.replace("add(x = x, y = y)", "add(x = y, y = y)");
        assert_eq!(lines(A, &swapped), ["~ main: add `s`: x comes from `y` instead of `x`"]);
        let axis = A.replace("int32(-1)", "int32(0)");
        let found = lines(A, &axis);
        assert!(found[0].contains("axis = int32(-1)") && found[1].contains("axis = int32(0)"));
    }

    #[test]
    fn ports_and_functions_are_named() {
        let renamed = A.replace(" z = ", " w = ").replace("(z)", "(w)");
        let found = lines(A, &renamed);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("- main: output `z`"), "{found:?}");
        let wider = A.replace("[1, 2]", "[1, 4]");
        assert!(lines(A, &wider)[0].contains("parameter `x`: tensor<fp16, [1, 4]> instead of"));
        let two = A.replacen("func main", "func first<ios18>(tensor<fp16, [1]> x) { tensor<fp16, [1]> y = exp(x = x)[name = string(\"y\")]; } -> (y); func main", 1);
        assert_eq!(lines(A, &two), ["+ function first"]);
        assert_eq!(lines(&two, A), ["- function first"]);
    }

    #[test]
    fn an_inserted_operation_is_all_that_is_reported() {
        let longer = A.replace("exp(x = s)", "exp(x = t)").replace(
            "        tensor<fp16, [1, 2]> e",
            "tensor<fp16, [1, 2]> t = tanh(x = s)[name = string(\"t\")];\n tensor<fp16, [1, 2]> e",
        );
        assert_eq!(
            lines(A, &longer),
            [
                "+ main: `t`: tanh(x) -> tensor<fp16, [1, 2]>",
                "~ main: exp `e`: x comes from `t` instead of `s`"
            ]
        );
    }
}
