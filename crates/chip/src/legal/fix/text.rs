//! Rewrites of the program as a text: names, arguments left out, headers, literals in place.

use super::form::{Applied, At, Fixed, OpFix, exact, known};
use crate::legal::check::violations;
use crate::legal::defaults::default_of;
use crate::legal::place::Place;
use crate::machine::Profile;
use mil::{Arg, DType, Function, Literal, Op, Program, Rewrite, Tensor, ValueId, resolve};
use std::collections::HashSet;

pub(super) const FIXES: &[OpFix] = &[
    OpFix { rule: "ANE006", bound: exact, write: named },
    OpFix { rule: "ANE009", bound: exact, write: unused },
    OpFix { rule: "ANE028", bound: exact, write: as_attributes },
    OpFix { rule: "ANE029", bound: exact, write: as_arguments },
];

/// The operation as it is: a function that is written anew holds only what is used.
fn unused<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let args = w.args(at.site.op);
    Some(w.builder().op(at.site.op.op, args))
}

/// Constants given to a constexpr operation as its attributes.
fn as_attributes<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let attribute = |(key, arg): &(&'static str, Arg)| {
        let literal = match arg {
            Arg::Value(id) => at.scope.function.constant(*id)?,
            _ => arg.literal()?,
        };
        Some((*key, Arg::Attribute(literal.clone())))
    };
    let args = at.site.op.args.iter().map(attribute).collect::<Option<Vec<_>>>()?;
    Some(w.builder().op(at.site.op.op, args))
}

/// Attributes of a constexpr operation as literals in place.
fn as_arguments<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let mut args = w.args(at.site.op);
    for (_, arg) in &mut args {
        if let Arg::Attribute(literal) = arg {
            *arg = Arg::Literal(literal.clone());
        }
    }
    Some(w.builder().op(at.site.op.op, args))
}

/// Literals in place as constants.
fn named<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let mut args = w.args(at.site.op);
    for (_, arg) in &mut args {
        if let Arg::Literal(literal) = arg {
            *arg = Arg::Value(w.builder().constant(literal.clone()).id());
        }
    }
    Some(w.builder().op(at.site.op.op, args))
}

/// Mends what keeps functions from being read at all: names given twice, arguments left out, types
/// declared wrongly, outputs that are inputs or are returned twice.
pub(super) fn complete(fixed: &mut Fixed, profile: &Profile, allowed: &[&str]) {
    let breached: Vec<_> = violations(&fixed.program, profile);
    let broken = |id: &str| {
        breached.iter().any(|v| v.rule.id == id)
            && !allowed.iter().any(|a| a.eq_ignore_ascii_case(id))
    };
    if broken("ANE002") {
        function_names(fixed);
    }
    for i in 0..fixed.program.functions.len() {
        if !has_all_values(&fixed.program.functions[i]) {
            continue;
        }
        if broken("ANE002") {
            value_names(fixed, i);
        }
        if broken("ANE001") {
            arguments(fixed, i);
            types(fixed, i);
        }
        if broken("ANE003") || broken("ANE004") {
            outputs(fixed, i);
        }
    }
}

/// True if every id is that of a value, and parameters and results are numbered in order.
fn has_all_values(f: &Function) -> bool {
    let operands = f.ops.iter().flat_map(|op| op.operands()).chain(f.outputs.iter().copied());
    let known = operands.into_iter().all(|id| id.index() < f.values.len());
    let results = f.ops.iter().flat_map(|op| op.results.iter().map(|id| id.index()));
    known && (0..f.params).chain(results).eq(0..f.values.len())
}

fn record(fixed: &mut Fixed, rule: &'static str, i: usize, place: Place, rewrite: String) {
    let function = fixed.program.functions[i].name.clone();
    fixed.applied.push(Applied { rule: known(rule), function, place, rewrite, bound: 0.0 });
}

fn unused_name(names: &HashSet<String>, name: &str) -> String {
    (1..).map(|n| format!("{name}_{n}")).find(|n| !names.contains(n)).unwrap_or_default()
}

fn function_names(fixed: &mut Fixed) {
    let mut seen = HashSet::new();
    for i in 0..fixed.program.functions.len() {
        let name = fixed.program.functions[i].name.clone();
        if !seen.insert(name.clone()) {
            let other = unused_name(&seen, &name);
            seen.insert(other.clone());
            let rewrite = format!("the second function `{name}` is called `{other}`");
            record(fixed, "ANE002", i, Place::Whole, rewrite);
            fixed.program.functions[i].name = other;
        }
    }
}

/// Names are given anew, from the last value back, so that what is returned keeps its name.
fn value_names(fixed: &mut Fixed, i: usize) {
    let f = &fixed.program.functions[i];
    let mut names: HashSet<String> = f.values.iter().map(|v| v.name.clone()).collect();
    let mut kept: HashSet<String> = f.outputs.iter().map(|&id| f.value(id).name.clone()).collect();
    let ports: HashSet<ValueId> = f.outputs.iter().copied().chain(f.inputs()).collect();
    kept.extend(f.inputs().map(|id| f.value(id).name.clone()));
    let inner = (0..f.values.len() as u32).map(ValueId).filter(|id| !ports.contains(id));
    let mut renamed = vec![];
    for id in inner {
        let name = f.value(id).name.clone();
        if !kept.insert(name.clone()) {
            let other = unused_name(&names, &name);
            names.insert(other.clone());
            kept.insert(other.clone());
            renamed.push((id, name, other));
        }
    }
    for (id, name, other) in renamed {
        let f = &mut fixed.program.functions[i];
        f.values[id.index()].name.clone_from(&other);
        let place = match f.definition(id) {
            Some(index) => Place::Operation { index, name: f.ops[index].name.clone() },
            None => Place::Whole,
        };
        let rewrite = format!("one of the values called `{name}` is called `{other}`");
        record(fixed, "ANE002", i, place, rewrite);
    }
}

fn arguments(fixed: &mut Fixed, i: usize) {
    let mut added = vec![];
    let f = &mut fixed.program.functions[i];
    let types: Vec<DType> = f.values.iter().map(|v| v.ty.dtype).collect();
    for (index, op) in f.ops.iter_mut().enumerate() {
        let x = match op.arg("x") {
            Some(Arg::Value(id)) => types.get(id.index()).copied(),
            _ => None,
        };
        for param in op.op.signature().params.iter().filter(|p| p.required) {
            let absent = op.arg(param.key).is_none();
            let value = default_of(op.op, param.key, x.unwrap_or(DType::Fp16)).filter(|_| absent);
            if let Some(literal) = value {
                let rewrite = format!("`{}` of {} is {literal}", param.key, op.op);
                added.push((Place::Operation { index, name: op.name.clone() }, rewrite));
                op.args.push((param.key, Arg::Literal(literal)));
            }
        }
    }
    for (place, rewrite) in added {
        record(fixed, "ANE001", i, place, rewrite);
    }
}

/// Results are declared as they follow, as long as operations fit together.
fn types(fixed: &mut Fixed, i: usize) {
    let f = &mut fixed.program.functions[i];
    let mut declared = vec![];
    for index in 0..f.ops.len() {
        let Ok(results) = resolve(f, &f.ops[index]).map(|resolved| resolved.results) else { break };
        let op = &f.ops[index];
        for (&id, ty) in op.results.iter().zip(&results) {
            let Some(value) = f.values.get_mut(id.index()).filter(|value| value.ty != *ty) else {
                continue;
            };
            let rewrite = format!("`{}` is declared {ty}, not {}", value.name, value.ty);
            value.ty = ty.clone();
            declared.push((Place::Operation { index, name: op.name.clone() }, rewrite));
        }
    }
    for (place, rewrite) in declared {
        record(fixed, "ANE001", i, place, rewrite);
    }
}

/// Outputs that are inputs, and values returned twice, become copies: mul(x, 1).
fn outputs(fixed: &mut Fixed, i: usize) {
    let mut copies = vec![];
    let f = &mut fixed.program.functions[i];
    for at in 0..f.outputs.len() {
        let id = f.outputs[at];
        let (input, twice) = (id.index() < f.params, f.outputs[..at].contains(&id));
        if f.ty(id).dtype != DType::Fp16 || !(input || twice) {
            continue;
        }
        let name = f.value(id).name.clone();
        let copy = append_copy(f, id);
        f.outputs[at] = copy;
        let rewrite = format!(
            "the output `{name}` is `{}` = mul(x = {name}, y = fp16(0x1p+0))",
            f.value(copy).name
        );
        copies.push((if input { "ANE004" } else { "ANE003" }, Place::Output(name), rewrite));
    }
    for (rule, place, rewrite) in copies {
        record(fixed, rule, i, place, rewrite);
    }
}

fn append_copy(f: &mut Function, id: ValueId) -> ValueId {
    let names: HashSet<String> = f.values.iter().map(|v| v.name.clone()).collect();
    let value = mil::Value { name: unused_name(&names, &f.value(id).name), ty: f.ty(id).clone() };
    let name = value.name.clone();
    let result = ValueId(f.values.len() as u32);
    f.values.push(value);
    let one = Literal::float(DType::Fp16, 1.0);
    f.ops.push(mil::Operation {
        op: Op::Mul,
        args: vec![("x", Arg::Value(id)), ("y", Arg::Literal(one))],
        value: None,
        results: vec![result],
        name,
    });
    result
}

/// Operations that the set ios16 does not have.
const AFTER_IOS16: [Op; 3] = [Op::Attention, Op::Quantize, Op::Dequantize];

/// The header that the machine reads: the older one on M1 and M2 (ANE005), a buildInfo everywhere
/// (ANE007).
pub(super) fn header(fixed: &mut Fixed, profile: &Profile, allowed: &[&str]) -> bool {
    let found = violations(&fixed.program, profile);
    let broken = |id: &str| {
        let allowed = allowed.iter().any(|a| a.eq_ignore_ascii_case(id));
        found.iter().find(|v| v.rule.id == id && !allowed).map(|v| v.rewrite.clone())
    };
    let newer = |p: &Program| {
        p.functions.iter().flat_map(|f| &f.ops).any(|op| AFTER_IOS16.contains(&op.op))
    };
    let (old, bare) = (broken("ANE005").filter(|_| !newer(&fixed.program)), broken("ANE007"));
    let changed = old.is_some() || bare.is_some();
    if let Some(rewrite) = old {
        fixed.program.version = (1, 0);
        fixed.program.functions.iter_mut().for_each(|f| f.opset = "ios16".to_owned());
        record(fixed, "ANE005", 0, Place::Whole, rewrite);
    }
    if let Some(rewrite) = bare {
        let info = ("coremlc-version".to_owned(), "3505.4.1".to_owned());
        fixed.program.build_info = vec![info];
        record(fixed, "ANE007", 0, Place::Whole, rewrite);
    }
    changed
}
