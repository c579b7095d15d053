//! Rewrites of a function's ports: their element types and widths.
//!
//! These change what a caller has to bind, not what is computed: names and order of the ports stay.

use super::form::{Applied, Fixed, GivenUp, found, no_worse};
use super::layout::padded;
use crate::legal::place::Place;
use crate::legal::requests::WIDTH_STEP as STEP;
use crate::legal::violation::Violation;
use crate::machine::Profile;
use mil::resolve::{Kind, resolve};
use mil::{
    Arg, Builder, DType, Data, Function, Literal, Operation, Payload, Rewrite, Tensor, TensorType,
    ValueId,
};

/// One way to write a function anew, and the rules whose breaches it mends.
type Step = (&'static [&'static str], fn(&Function) -> Option<Function>);

/// In this order: inside in fp16, then ports in fp16, then their widths.
const STEPS: [Step; 3] = [
    (&["ANE026"], half_inside),
    (&["ANE021", "ANE022", "ANE024"], half_ports),
    (&["ANE070"], wide_ports),
];

/// Mends the ports of a function; one step per call.
pub(super) fn fix(
    fixed: &mut Fixed,
    i: usize,
    profile: &Profile,
    allowed: &[&str],
    given_up: &mut GivenUp,
) -> bool {
    let before = found(&fixed.program, i, profile, allowed);
    for (rules, step) in STEPS {
        let key = (rules[0], format!("ports of function {i}"));
        let breaches: Vec<_> = before.iter().filter(|v| rules.contains(&v.rule.id)).collect();
        if breaches.is_empty() || given_up.contains(&key) {
            continue;
        }
        given_up.insert(key); // Once is enough, whether it can be done or not.
        let Some(new) = step(&fixed.program.functions[i]) else { continue };
        // Where nothing converts, casts at the ports go with the ports' type.
        let whole = if rules == ["ANE026"] { half_ports(&new) } else { None };
        for function in [Some(new), whole].into_iter().flatten() {
            let mut program = fixed.program.clone();
            program.functions[i] = function;
            let after = found(&program, i, profile, allowed);
            let applied = mended(&before, &after, rules);
            if !applied.is_empty() && no_worse(&after, &before) {
                fixed.program = program;
                fixed.applied.extend(applied);
                return true;
            }
        }
    }
    false
}

/// Breaches of `rules` that are gone, and of others that went with them. Operations move, so that
/// breaches are told apart by what is said of them.
fn mended(before: &[Violation], after: &[Violation], rules: &[&str]) -> Vec<Applied> {
    let same = |v: &Violation, w: &Violation| {
        w.rule == v.rule && (w.message == v.message || v.place == Place::Whole)
    };
    let gone = before.iter().filter(|v| !after.iter().any(|w| same(v, w)));
    let all: Vec<Applied> = gone.map(|v| Applied::of(v, 0.0)).collect();
    if all.iter().any(|a| rules.contains(&a.rule.id)) { all } else { vec![] }
}

/// Element types before and after, if the operation is a cast.
fn cast(f: &Function, op: &Operation) -> Option<(ValueId, DType, DType)> {
    let resolved = resolve(f, op).ok()?;
    if resolved.kind != Kind::Cast {
        return None;
    }
    let Some(Arg::Value(x)) = op.arg("x") else { return None };
    Some((*x, f.ty(*x).dtype, resolved.results[0].dtype))
}

/// True if all that is done with a value is to cast it to fp16.
fn only_halved(f: &Function, id: ValueId) -> bool {
    let users = f.ops.iter().filter(|op| op.operands().any(|x| x == id));
    let mut all_casts = users.map(|op| cast(f, op).is_some_and(|(.., to)| to == DType::Fp16));
    all_casts.all(|halved| halved) && !f.outputs.contains(&id)
}

fn halved(ty: &TensorType) -> TensorType {
    match ty.dtype {
        DType::Fp32 => TensorType::fp16(ty.shape.clone()),
        _ => ty.clone(),
    }
}

/// A value stands for another one; if it cannot take that one's name, a copy of it does.
fn identity<'b>(w: &mut Rewrite<'b, '_>, op: &Operation, x: Tensor<'b>) {
    let old = op.results[0];
    let y = if w.is_output(old) && !w.can_take_name(x, old) { x * 1.0 } else { x };
    w.replace(op, &[y]);
}

/// The same in fp16, if fp16 holds every number exactly.
fn half_literal(literal: &Literal) -> Option<Literal> {
    if literal.ty.dtype != DType::Fp32 {
        return Some(literal.clone());
    }
    let Payload::Inline(Data::Fp32(values)) = &literal.payload else { return None };
    let exact = values.iter().all(|&v| half::f16::from_f32(v).to_f32().to_bits() == v.to_bits());
    let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    exact.then(|| Literal::floats(halved(&literal.ty), &values))
}

/// Arithmetic in fp16 between casts at the ports (ANE026).
fn half_inside(f: &Function) -> Option<Function> {
    let b = Builder::new(&f.name);
    let mut w = Rewrite::new(&b, f);
    f.inputs().for_each(|id| w.keep_input(id));
    for id in f.inputs().filter(|&id| f.ty(id).dtype == DType::Fp32) {
        let half = w.value(id).cast(DType::Fp16);
        w.set(id, half);
    }
    for op in &f.ops {
        if let Some(literal) = &op.value {
            w.copy(&Operation { value: Some(half_literal(literal)?), ..op.clone() });
        } else if let Some((x, _, to)) = cast(f, op).filter(|(.., to)| to.is_float()) {
            let x = w.value(x);
            match x.dtype() {
                DType::Fp16 => identity(&mut w, op, x),
                _ if to == DType::Fp16 => w.copy(op),
                _ => w.replace(op, &[x.cast(DType::Fp16)]),
            }
        } else {
            let mut args = w.args(op);
            for (_, arg) in &mut args {
                if let Arg::Literal(literal) | Arg::Attribute(literal) = arg {
                    *literal = half_literal(literal)?;
                }
            }
            w.copy_with(op, args);
        }
    }
    for &id in f.outputs.iter().filter(|&&id| f.ty(id).dtype == DType::Fp32) {
        let single = w.value(id).cast(DType::Fp32);
        w.output(id, single);
    }
    let new = w.finish().ok()?;
    (ports(&new) == ports(f)).then_some(new)
}

fn ports(f: &Function) -> Vec<mil::Value> {
    f.inputs().chain(f.outputs.iter().copied()).map(|id| f.value(id).clone()).collect()
}

/// fp16 ports, no casts between floats (ANE021, ANE022, ANE024).
fn half_ports(f: &Function) -> Option<Function> {
    let b = Builder::new(&f.name);
    let mut w = Rewrite::new(&b, f);
    for id in f.inputs() {
        let ty = f.ty(id);
        if ty.dtype == DType::Fp32 && !only_halved(f, id) {
            return None;
        }
        w.input(id, halved(ty));
    }
    for op in &f.ops {
        match cast(f, op).filter(|(.., to)| to.is_float()) {
            Some((x, ..)) if w.value(x).dtype() == DType::Fp16 => {
                let x = w.value(x);
                identity(&mut w, op, x);
            }
            _ => w.copy(op),
        }
    }
    let new = w.finish().ok()?;
    let names = |f: &Function| ports(f).into_iter().map(|v| v.name).collect::<Vec<_>>();
    let halves = ports(&new).iter().all(|v| v.ty.dtype != DType::Fp32);
    (halves && names(&new) == names(f)).then_some(new)
}

fn missing(ty: &TensorType) -> usize {
    ty.shape.last().map_or(0, |&n| n.next_multiple_of(STEP) - n)
}

fn widened(ty: &TensorType) -> TensorType {
    let mut ty = ty.clone();
    let more = missing(&ty);
    ty.shape.iter_mut().last().into_iter().for_each(|n| *n += more);
    ty
}

/// Ports whose widths are multiples of 32, of which the first part is used (ANE070).
fn wide_ports(f: &Function) -> Option<Function> {
    let b = Builder::new(&f.name);
    let mut w = Rewrite::new(&b, f);
    let narrow: Vec<ValueId> = f.inputs().filter(|&id| missing(f.ty(id)) > 0).collect();
    let fits = |id: ValueId| match f.ty(id).dtype {
        DType::Fp16 => true,
        DType::Fp32 => only_halved(f, id),
        _ => false,
    };
    if !narrow.iter().all(|&id| fits(id)) {
        return None;
    }
    f.inputs().for_each(|id| w.input(id, widened(f.ty(id))));
    for &id in &narrow {
        let ty = f.ty(id);
        let last = ty.rank() - 1;
        let used = w.value(id).cast(DType::Fp16).narrow(last, 0, ty.shape[last]);
        w.set(id, used);
    }
    for op in &f.ops {
        match cast(f, op).filter(|(.., to)| to.is_float()) {
            Some((x, _, to)) if w.value(x).dtype() == to => {
                let x = w.value(x);
                identity(&mut w, op, x);
            }
            Some((x, _, DType::Fp32)) if wide_output(f, op) => {
                let more = missing(f.ty(op.results[0])) as i64;
                let wide = padded(&w, w.value(x), &[0, more], 0.0);
                w.replace(op, &[wide.cast(DType::Fp32)]);
            }
            _ => w.copy(op),
        }
    }
    for &id in f.outputs.iter().filter(|&&id| missing(f.ty(id)) > 0) {
        let y = w.value(id);
        match y.dtype() {
            DType::Fp16 => {
                let wide = padded(&w, y, &[0, missing(f.ty(id)) as i64], 0.0);
                w.output(id, wide);
            }
            DType::Fp32 if y.shape().last().is_some_and(|n| n.is_multiple_of(STEP)) => {}
            _ => return None,
        }
    }
    let new = w.finish().ok()?;
    let wide = |f: &Function| {
        let ports = ports(f).into_iter();
        ports.map(|v| (v.name, widened(&v.ty))).collect::<Vec<_>>()
    };
    (wide(&new) == wide(f) && ports(&new).iter().all(|v| missing(&v.ty) == 0)).then_some(new)
}

/// True if a cast gives an output that is too narrow and serves for nothing else.
fn wide_output(f: &Function, op: &Operation) -> bool {
    let id = op.results[0];
    let used = f.ops.iter().any(|op| op.operands().any(|x| x == id));
    f.outputs.contains(&id) && missing(f.ty(id)) > 0 && !used
}
