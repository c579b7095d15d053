//! Transformations from function to function.

use crate::builder::{Builder, Tensor};
use crate::formula::formula;
use crate::ir::{Arg, Function, Operation, Value, ValueId};
use crate::op::{Op, ParamKind};
use crate::resolve::{OpError, resolve};
use crate::types::{DType, Literal, TensorType};
use std::collections::{BTreeMap, HashSet};

/// Writes every literal that stands in place of a tensor argument as a constant of its own. Attributes
/// of `constexpr_…` operations stay: as arguments the compiler would refuse them.
pub fn hoist_literals(f: &Function) -> Function {
    hoist(f, |arg| matches!(arg, Arg::Literal(_)))
}

/// As [`hoist_literals`], attributes too: for those who execute, to whom their place means nothing.
pub fn hoist_constants(f: &Function) -> Function {
    hoist(f, |arg| arg.literal().is_some())
}

fn hoist(f: &Function, moves: impl Fn(&Arg) -> bool) -> Function {
    let mut out = Rewriter::new(f);
    for op in &f.ops {
        let mut op = op.clone();
        let signature = op.op.signature();
        for (key, arg) in &mut op.args {
            let tensor = signature.param(key).is_some_and(|p| p.kind == ParamKind::Tensor);
            if let (true, Some(literal)) = (tensor && moves(arg), arg.literal()) {
                *arg = Arg::Value(out.constant(literal.clone()));
            } else {
                out.map_arg(arg);
            }
        }
        out.push(f, op);
    }
    out.finish(f.outputs.clone())
}

/// The part of `f` that computes `outputs` from `inputs`: a kernel.
///
/// Values in `inputs` become the parameters, in the order given, whether they are parameters or
/// intermediate values of `f`: an intermediate value that is not among them is computed again.
/// So the caller chooses between saving a value and recomputing it by naming it or not.
///
/// # Errors
/// When an output depends on a parameter of `f` that is not in `inputs`: its name is returned.
pub fn slice(
    f: &Function,
    name: &str,
    inputs: &[ValueId],
    outputs: &[ValueId],
) -> Result<Function, UnboundInput> {
    let mut needed = vec![false; f.values.len()];
    let given: HashSet<ValueId> = inputs.iter().copied().collect();
    for &id in outputs {
        needed[id.index()] = true;
    }
    let mut keep = vec![false; f.ops.len()];
    for (i, op) in f.ops.iter().enumerate().rev() {
        keep[i] = op.results.iter().any(|r| needed[r.index()] && !given.contains(r));
        if keep[i] {
            op.operands().for_each(|id| needed[id.index()] = true);
        }
    }
    if let Some(id) = f.inputs().find(|id| needed[id.index()] && !given.contains(id)) {
        let value = f.value(id).name.clone();
        return Err(UnboundInput { kernel: name.to_owned(), value });
    }
    let mut out = Rewriter::with_params(name, &f.opset, f, inputs);
    for (op, _) in f.ops.iter().zip(&keep).filter(|(_, keep)| **keep) {
        let mut op = op.clone();
        op.args.iter_mut().for_each(|(_, arg)| out.map_arg(arg));
        out.push(f, op);
    }
    Ok(out.finish(outputs.to_vec()))
}

/// A kernel was cut out of a function without a parameter that it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel {kernel} depends on `{value}`, which is not among its inputs")]
pub struct UnboundInput {
    /// The kernel being cut.
    pub kernel: String,
    /// The parameter that is missing.
    pub value: String,
}

/// A function in a [`chain`]: what its parameters and outputs are called there.
#[derive(Clone, Debug)]
pub struct Link<'f> {
    /// The function.
    pub function: &'f Function,
    /// Names in the chain by the function's own; what is not listed keeps its own.
    pub names: BTreeMap<String, String>,
}

impl Link<'_> {
    fn name(&self, id: ValueId) -> &str {
        let own = &self.function.value(id).name;
        self.names.get(own).unwrap_or(own)
    }
}

/// One function called `name` that does what `links` do, one after the other. A parameter of a link is what an
/// earlier one gives under that name, or else a parameter of the whole, in the order in which they are first asked
/// for. `outputs` are names of what links give.
///
/// # Errors
/// When an operation breaks a rule of the language: functions that are valid and agree on the types of what they
/// exchange give none.
///
/// # Panics
/// If two links give something under one name, or none gives what `outputs` asks for.
pub fn chain(
    name: &str,
    links: &[Link<'_>],
    outputs: &[impl AsRef<str>],
) -> Result<Function, OpError> {
    let b = Builder::new(name);
    let mut known: BTreeMap<&str, Tensor<'_>> = BTreeMap::new();
    let mut given = HashSet::new();
    for link in links {
        let f = link.function;
        for id in f.inputs().filter(|&id| !given.contains(link.name(id))) {
            let name = link.name(id);
            known.entry(name).or_insert_with(|| b.input(name, f.ty(id).clone()));
        }
        for &id in &f.outputs {
            assert!(given.insert(link.name(id)), "`{}` is given once", link.name(id));
        }
    }
    b.reserve(given.iter().map(|&name| name.to_owned()));
    for link in links {
        let f = link.function;
        let mut map: Vec<Option<Tensor<'_>>> = vec![None; f.values.len()];
        f.inputs().for_each(|id| map[id.index()] = Some(known[link.name(id)]));
        for op in &f.ops {
            let at = |id: &ValueId| map[id.index()].expect("defined before use").id();
            let results = match &op.value {
                Some(value) => vec![b.constant(value.clone())],
                None => {
                    let args = op.args.iter().map(|(key, arg)| {
                        let arg = match arg {
                            Arg::Value(id) => Arg::Value(at(id)),
                            Arg::Values(ids) => Arg::Values(ids.iter().map(at).collect()),
                            Arg::Literal(_) | Arg::Attribute(_) => arg.clone(),
                        };
                        (*key, arg)
                    });
                    b.op(op.op, args.collect())
                }
            };
            op.results.iter().zip(results).for_each(|(&id, y)| map[id.index()] = Some(y));
        }
        for &id in &f.outputs {
            let (name, value) = (link.name(id), map[id.index()].expect("defined"));
            b.rename(value.id(), name, name);
            known.insert(name, value);
        }
    }
    let outputs = outputs.iter().map(|name| known[name.as_ref()]).collect::<Vec<_>>();
    b.finish(&outputs)
}

/// Removes operations whose results are never used.
pub fn eliminate_dead(f: &Function) -> Function {
    let inputs: Vec<ValueId> = f.inputs().collect();
    slice(f, &f.name, &inputs, &f.outputs).expect("all parameters are given")
}

/// Replaces operations that are formulas of simpler ones — `linear`, norms but `softmax`,
/// `scaled_dot_product_attention`, quantisation, rearrangements, `einsum`, composite activations — by
/// those formulas. Expects literals hoisted.
///
/// # Errors
/// When an operation breaks a rule of the language.
pub fn decompose(f: &Function) -> Result<Function, OpError> {
    let b = Builder::new(&f.name);
    let mut map: Vec<Option<Tensor<'_>>> = vec![None; f.values.len()];
    for id in f.inputs() {
        map[id.index()] = Some(b.input(&f.value(id).name, f.ty(id).clone()));
    }
    for op in &f.ops {
        let at = |id: ValueId| map[id.index()].expect("defined before use");
        let results = if let Some(value) = &op.value {
            vec![b.constant(value.clone())]
        } else {
            let resolved = resolve(f, op)?;
            let x: Vec<Tensor<'_>> = resolved.values().into_iter().map(at).collect();
            let ty = &resolved.results[0];
            match formula(&b, &resolved.kind, &x, ty) {
                Some(y) => vec![y],
                None => {
                    let args = op.args.iter().map(|(key, arg)| {
                        let arg = match arg {
                            Arg::Value(id) => Arg::Value(at(*id).id()),
                            Arg::Values(ids) => {
                                Arg::Values(ids.iter().map(|&i| at(i).id()).collect())
                            }
                            Arg::Literal(_) | Arg::Attribute(_) => arg.clone(),
                        };
                        (*key, arg)
                    });
                    b.op(op.op, args.collect())
                }
            }
        };
        for (&id, y) in op.results.iter().zip(results) {
            map[id.index()] = Some(y);
        }
    }
    let outputs: Vec<_> = f.outputs.iter().map(|id| map[id.index()].expect("defined")).collect();
    b.finish(&outputs)
}

/// The same function computed in single precision: parameters keep their types and are cast,
/// every other `fp16` value becomes `fp32`, the outputs included.
pub fn to_fp32(f: &Function) -> Function {
    let inputs: Vec<ValueId> = f.inputs().collect();
    let mut out = Rewriter::with_params(&f.name, &f.opset, f, &inputs);
    for &id in inputs.iter().filter(|&&id| f.ty(id).dtype == DType::Fp16) {
        out.cast(id, DType::Fp32);
    }
    for op in &f.ops {
        let mut op = op.clone();
        if let Some(literal) = &mut op.value {
            *literal = literal_to_fp32(literal);
        }
        for (key, arg) in &mut op.args {
            match arg {
                Arg::Literal(literal) | Arg::Attribute(literal) => {
                    *literal = literal_to_fp32(literal);
                }
                _ => out.map_arg(arg),
            }
            let names_type = matches!((op.op, *key), (Op::Cast, "dtype"));
            if names_type {
                let to = out.constant(Literal::string("fp32"));
                let half = matches!(f.ty(op.results[0]).dtype, DType::Fp16);
                if half {
                    *arg = Arg::Value(to);
                }
            }
        }
        out.push_with(f, op, |ty| {
            let dtype = if ty.dtype == DType::Fp16 { DType::Fp32 } else { ty.dtype };
            TensorType::new(dtype, ty.shape.clone())
        });
    }
    let all = out.finish(f.outputs.clone());
    eliminate_dead(&all)
}

fn literal_to_fp32(literal: &Literal) -> Literal {
    match (literal.ty.dtype, literal.data()) {
        (DType::Fp16, Some(data)) => {
            let values = data.to_f64().expect("floats convert");
            Literal::floats(TensorType::fp32(literal.ty.shape.clone()), &values)
        }
        _ => literal.clone(),
    }
}

/// Writes a new function while remembering where the values of the old one went.
struct Rewriter {
    out: Function,
    map: BTreeMap<ValueId, ValueId>,
    names: HashSet<String>,
}

impl Rewriter {
    fn new(f: &Function) -> Self {
        let inputs: Vec<ValueId> = f.inputs().collect();
        Self::with_params(&f.name, &f.opset, f, &inputs)
    }

    fn with_params(name: &str, opset: &str, f: &Function, inputs: &[ValueId]) -> Self {
        let values: Vec<Value> = inputs.iter().map(|&id| f.value(id).clone()).collect();
        let map = inputs.iter().enumerate().map(|(i, &id)| (id, ValueId(i as u32))).collect();
        let out = Function {
            name: name.to_owned(),
            opset: opset.to_owned(),
            params: values.len(),
            values,
            ops: vec![],
            outputs: vec![],
        };
        let names = f.values.iter().map(|v| v.name.clone()).collect();
        Rewriter { out, map, names }
    }

    fn map_arg(&self, arg: &mut Arg) {
        match arg {
            Arg::Value(id) => *id = self.map[id],
            Arg::Values(ids) => ids.iter_mut().for_each(|id| *id = self.map[id]),
            Arg::Literal(_) | Arg::Attribute(_) => {}
        }
    }

    fn define(&mut self, name: String, ty: TensorType) -> ValueId {
        self.out.values.push(Value { name, ty });
        ValueId(self.out.values.len() as u32 - 1)
    }

    fn fresh(&mut self, prefix: &str) -> String {
        (0..)
            .map(|n| format!("{prefix}_{n}"))
            .find(|name| self.names.insert(name.clone()))
            .expect("there are infinitely many names")
    }

    fn constant(&mut self, literal: Literal) -> ValueId {
        let found = self.out.ops.iter().find(|op| op.value.as_ref() == Some(&literal));
        if let Some(op) = found {
            return op.results[0];
        }
        let name = self.fresh("c");
        let id = self.define(name.clone(), literal.ty.clone());
        self.out.ops.push(Operation {
            op: Op::Const,
            args: vec![],
            value: Some(literal),
            results: vec![id],
            name,
        });
        id
    }

    /// Casts the mapped value of `id` and maps `id` to the result from now on.
    fn cast(&mut self, id: ValueId, dtype: DType) {
        let to = self.constant(Literal::string(dtype.name()));
        let x = self.map[&id];
        let name = self.fresh("cast");
        let ty = TensorType::new(dtype, self.out.ty(x).shape.clone());
        let y = self.define(name.clone(), ty);
        self.out.ops.push(Operation {
            op: Op::Cast,
            args: vec![("x", Arg::Value(x)), ("dtype", Arg::Value(to))],
            value: None,
            results: vec![y],
            name,
        });
        self.map.insert(id, y);
    }

    fn push(&mut self, f: &Function, op: Operation) {
        self.push_with(f, op, TensorType::clone);
    }

    fn push_with(
        &mut self,
        f: &Function,
        mut op: Operation,
        ty: impl Fn(&TensorType) -> TensorType,
    ) {
        for r in &mut op.results {
            let value = f.value(*r);
            // A value that is a given parameter stays one, even where its operation is kept for
            // the sake of another result.
            let given = self.map.contains_key(r);
            let name = if given { self.fresh(&value.name) } else { value.name.clone() };
            let id = self.define(name, ty(&value.ty));
            self.map.entry(*r).or_insert(id);
            *r = id;
        }
        self.out.ops.push(op);
    }

    fn finish(mut self, outputs: Vec<ValueId>) -> Function {
        self.out.outputs = outputs.iter().map(|id| self.map[id]).collect();
        self.out
    }
}
