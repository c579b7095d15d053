//! Rewrites that make a program legal without changing what it computes.
//!
//! [`fix`] applies every rewrite whose result is provably the same: [`prove()`] compares both programs
//! operation by operation, and runs the parts that differ on random inputs. What has no such rewrite is
//! left as it is.

mod alike;
mod arithmetic;
mod layout;
mod ports;
mod products;
mod prove;
pub(super) mod text;

pub use prove::{NotProven, Proof, prove};

use super::context::{Scope, Site};
use super::{Place, Rule, Severity, Violation, rule, violations};
use crate::chip::Profile;
use mil::resolve::{ConvGeometry, Operand};
use mil::{Arg, Builder, Function, Literal, Op, Program, Rewrite, Tensor, Weights};
use std::collections::{BTreeMap, BTreeSet};

/// Rounds after which rewriting stops: a rewrite may break another rule, which the next round mends.
const ROUNDS: usize = 16;

/// Unit roundoff of f64, in which programs are compared.
const UNIT: f64 = f64::EPSILON / 2.0;

/// A rewrite that was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The rule that was broken.
    pub rule: &'static Rule,
    /// Name of the function.
    pub function: String,
    /// Where it was broken.
    pub place: Place,
    /// What was written, in words.
    pub rewrite: String,
    /// How much results may differ, relative to the largest result or 1, for operands of at most 1
    /// in absolute value: 0 where no sum is taken in another order and no constant is rounded.
    pub bound: f64,
}

/// A program after [`fix`].
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The program.
    pub program: Program,
    /// The program as it was, with the arguments that the language has a value for: what is
    /// compared with where the original cannot be run.
    pub completed: Program,
    /// What was done, in order.
    pub applied: Vec<Applied>,
}

impl Fixed {
    /// Shows that the rewritten program computes what `original` does ([`prove()`]).
    ///
    /// # Errors
    /// As [`prove()`].
    pub fn prove(
        &self,
        original: &Program,
        weights: &Weights,
        seed: u64,
    ) -> Result<Proof, NotProven> {
        match prove(original, &self.program, &self.applied, weights, seed) {
            Err(NotProven::Interp { .. }) => {
                prove(&self.completed, &self.program, &self.applied, weights, seed)
            }
            proof => proof,
        }
    }
}

/// Rewrites `program` until no breach is left that has a safe rewrite; rules in `allowed` (by id)
/// are left alone.
pub fn fix(program: &Program, profile: &Profile, allowed: &[&str]) -> Fixed {
    let completed = program.clone();
    let mut fixed = Fixed { program: program.clone(), completed, applied: vec![] };
    text::complete(&mut fixed, profile, allowed);
    fixed.completed.clone_from(&fixed.program);
    let mut given_up = BTreeSet::new();
    for _ in 0..ROUNDS {
        let mut changed = text::header(&mut fixed, profile, allowed);
        for i in 0..fixed.program.functions.len() {
            changed |= operations(&mut fixed, i, profile, allowed, &mut given_up);
            changed |= ports::fix(&mut fixed, i, profile, allowed, &mut given_up);
        }
        if !changed {
            break;
        }
    }
    fixed
}

impl Applied {
    /// The rewrite that a breach asks for, which computes nothing in another way.
    pub fn exactly(violation: &Violation) -> Applied {
        Applied::of(violation, 0.0)
    }

    fn of(violation: &Violation, bound: f64) -> Applied {
        Applied {
            rule: violation.rule,
            function: violation.function.clone(),
            place: violation.place.clone(),
            rewrite: violation.rewrite.clone(),
            bound,
        }
    }
}

/// Whether a rewrite breaks no rule, beyond warnings, that was kept before.
fn no_worse(after: &[Violation], before: &[Violation]) -> bool {
    let known = |v: &&Violation| before.iter().any(|w| w.rule == v.rule);
    after.iter().filter(|v| v.rule.severity != Severity::Warning).all(|v| known(&v))
}

/// Breaches of a function that are not allowed.
fn found(program: &Program, i: usize, profile: &Profile, allowed: &[&str]) -> Vec<Violation> {
    let name = &program.functions[i].name;
    let mut found = violations(program, profile);
    found.retain(|v| {
        v.function == *name && !allowed.iter().any(|id| v.rule.id.eq_ignore_ascii_case(id))
    });
    // What is refused comes before what is only warned of.
    found.sort_by_key(|v| v.rule.severity == Severity::Warning);
    found
}

/// Breaches that could not be mended, so that they are not tried again.
type GivenUp = BTreeSet<(&'static str, String)>;

/// What a rewrite of one operation looks at.
struct At<'a, 'p> {
    scope: &'a Scope<'p>,
    site: &'a Site<'p>,
}

/// Writes something else for an operation: its results, or `None` where it cannot.
type Write = for<'b> fn(&mut Rewrite<'b, '_>, At<'_, '_>) -> Option<Vec<Tensor<'b>>>;

/// A rewrite of the operations that break a rule.
struct OpFix {
    rule: &'static str,
    /// How much results may differ ([`Applied::bound`]).
    bound: fn(At<'_, '_>) -> f64,
    write: Write,
}

/// Nothing is computed in another way.
fn exact(_: At<'_, '_>) -> f64 {
    0.0
}

/// A few roundings of f64.
fn rounding(_: At<'_, '_>) -> f64 {
    64.0 * UNIT
}

fn op_fixes() -> impl Iterator<Item = &'static OpFix> {
    let tables: [&'static [OpFix]; 4] =
        [text::FIXES, arithmetic::FIXES, layout::FIXES, products::FIXES];
    tables.into_iter().flatten()
}

/// Whether breaches of a rule have a safe rewrite, at least in some programs.
pub fn has_fix(rule: &Rule) -> bool {
    let whole = ["ANE002", "ANE003", "ANE004", "ANE005", "ANE021", "ANE022", "ANE024", "ANE026"];
    op_fixes().any(|fix| fix.rule == rule.id)
        || whole.contains(&rule.id)
        || ["ANE001", "ANE007", "ANE008", "ANE070"].contains(&rule.id)
}

/// Mends the operations of a function, one rewrite per operation.
fn operations(
    fixed: &mut Fixed,
    i: usize,
    profile: &Profile,
    allowed: &[&str],
    given_up: &mut GivenUp,
) -> bool {
    let mut left = found(&fixed.program, i, profile, allowed);
    let planned = plan(&fixed.program, i, profile, &left, given_up);
    let changed = !planned.is_empty();
    // All at once; if one of them does not fit, one after the other, so that it does not take the
    // others with it. Places move when something is rewritten, names stay.
    let all: Vec<&[Planned]> = vec![&planned];
    let each: Vec<&[Planned]> = planned.chunks(1).collect();
    let mut done = false;
    for group in all.into_iter().chain(each).filter(|group| !group.is_empty()) {
        if done {
            break;
        }
        let better = rewritten(&fixed.program, i, group, profile).and_then(|(new, bounds)| {
            let mut program = fixed.program.clone();
            program.functions[i] = new;
            let after = found(&program, i, profile, allowed);
            no_worse(&after, &left).then_some((program, after, bounds))
        });
        if let Some((program, after, bounds)) = better {
            (fixed.program, left) = (program, after);
            let applied = group.iter().zip(bounds);
            fixed.applied.extend(applied.map(|(plan, bound)| Applied::of(&plan.breach, bound)));
            done = group.len() == planned.len();
        } else if let [plan] = group {
            given_up.insert((plan.fix.rule, plan.name.clone()));
        }
    }
    changed // Either way the next round finds less to do.
}

/// A rewrite to try: of which operation (by the name of its first result), how, and why.
struct Planned {
    name: String,
    fix: &'static OpFix,
    breach: Violation,
}

/// Which operations to write anew, each at most once.
fn plan(
    program: &Program,
    i: usize,
    profile: &Profile,
    found: &[Violation],
    given_up: &GivenUp,
) -> Vec<Planned> {
    let fixable = |v: &'_ Violation| op_fixes().find(|fix| fix.rule == v.rule.id);
    if !found.iter().any(|v| fixable(v).is_some()) {
        return vec![]; // Among others of functions that are not well formed.
    }
    let function = &program.functions[i];
    let scope = Scope::new(program, function, profile);
    let mut planned: Vec<Planned> = vec![];
    let mut taken = BTreeSet::new();
    for breach in found {
        let Some(fix) = fixable(breach) else { continue };
        for index in targets(&scope, breach) {
            let Some(&result) = function.ops[index].results.first() else { continue };
            let name = function.value(result).name.clone();
            if !given_up.contains(&(fix.rule, name.clone())) && taken.insert(index) {
                planned.push(Planned { name, fix, breach: breach.clone() });
            }
        }
    }
    planned
}

/// Operations to write anew for a breach: the one at fault, or its neighbours.
fn targets(scope: &Scope<'_>, violation: &Violation) -> Vec<usize> {
    let Place::Operation { index, .. } = &violation.place else { return vec![] };
    let Some(site) = scope.sites.iter().find(|site| site.index == *index) else { return vec![] };
    match violation.rule.id {
        "ANE010" => layout::reshapes_after(scope, site),
        "ANE053" => arithmetic::scalar_factors(scope, site),
        _ => vec![*index],
    }
}

/// The function with operations written anew, and by how much each of them may differ. Nothing
/// where one of them is gone or cannot be rewritten.
fn rewritten(
    program: &Program,
    i: usize,
    group: &[Planned],
    profile: &Profile,
) -> Option<(Function, Vec<f64>)> {
    let function = &program.functions[i];
    let scope = Scope::new(program, function, profile);
    let mut plans = BTreeMap::new();
    for (at, plan) in group.iter().enumerate() {
        let index = function.find(&plan.name).and_then(|id| function.definition(id))?;
        plans.insert(index, (at, plan.fix));
    }
    let sites: BTreeMap<usize, &Site<'_>> = scope.sites.iter().map(|s| (s.index, s)).collect();
    let builder = Builder::new(&function.name);
    let mut rewrite = Rewrite::new(&builder, function);
    function.inputs().for_each(|id| rewrite.keep_input(id));
    let mut bounds = vec![0.0; group.len()];
    for (index, op) in function.ops.iter().enumerate() {
        let Some(&(at, fix)) = plans.get(&index) else {
            rewrite.copy(op);
            continue;
        };
        let site = *sites.get(&index)?;
        let results = (fix.write)(&mut rewrite, At { scope: &scope, site })?;
        bounds[at] = (fix.bound)(At { scope: &scope, site });
        rewrite.replace(op, &results);
    }
    let new = rewrite.finish().ok()?;
    let ports = |f: &Function| -> Vec<mil::Value> {
        f.outputs.iter().map(|&id| f.value(id).clone()).collect()
    };
    (ports(&new) == ports(function)).then_some((new, bounds))
}

// ---- what writers share ----

/// An input of an operation, as it is in the new function.
fn input<'b>(w: &Rewrite<'b, '_>, at: &At<'_, '_>, i: usize) -> Option<Tensor<'b>> {
    Some(match *at.site.resolved.inputs.get(i)? {
        Operand::Value(id) => w.value(id),
        Operand::Literal(literal) => w.builder().constant(literal.clone()),
    })
}

/// An input in another shape of as many elements; a constant stays one.
fn reshaped<'b>(
    w: &Rewrite<'b, '_>,
    at: &At<'_, '_>,
    i: usize,
    shape: &[usize],
) -> Option<Tensor<'b>> {
    let operand = *at.site.resolved.inputs.get(i)?;
    Some(match at.scope.constant(operand) {
        Some(literal) => {
            let ty = mil::TensorType::new(literal.ty.dtype, shape);
            w.builder().constant(Literal { ty, payload: literal.payload.clone() })
        }
        None => input(w, at, i)?.reshape(shape),
    })
}

/// `n` elements of an input from `start` along an axis; of a constant in the text, a constant.
fn part<'b>(
    w: &Rewrite<'b, '_>,
    at: &At<'_, '_>,
    i: usize,
    axis: usize,
    start: usize,
    n: usize,
) -> Option<Tensor<'b>> {
    let operand = *at.site.resolved.inputs.get(i)?;
    let literal = at.scope.constant(operand).filter(|literal| literal.ty.dtype.is_float());
    let Some((literal, data)) = literal.and_then(|l| Some((l, l.data()?.to_f64()?))) else {
        return Some(input(w, at, i)?.narrow(axis, start, n));
    };
    let mut ty = literal.ty.clone();
    let run: usize = ty.shape[axis + 1..].iter().product();
    let block = ty.shape[axis] * run;
    ty.shape[axis] = n;
    let rows = data.chunks_exact(block).flat_map(|b| &b[start * run..(start + n) * run]);
    let values: Vec<f64> = rows.copied().collect();
    Some(w.builder().constant(Literal::floats(ty, &values)))
}

/// A convolution with the geometry given, its weight and x of rank 4, without a bias.
fn convolution<'b>(
    b: &'b Builder,
    x: Tensor<'b>,
    weight: Tensor<'b>,
    geometry: &ConvGeometry,
) -> Tensor<'b> {
    let ints = |v: &[usize]| {
        let v: Vec<i64> = v.iter().map(|&n| n as i64).collect();
        Arg::Value(b.constant(Literal::ints(&v)).id())
    };
    let pads: Vec<usize> = geometry.pads.iter().flat_map(|&(a, b)| [a, b]).collect();
    let groups = b.constant(Literal::int(geometry.groups as i64));
    let kind = b.constant(Literal::string("custom"));
    b.op(
        Op::Conv,
        vec![
            ("x", Arg::Value(x.id())),
            ("weight", Arg::Value(weight.id())),
            ("strides", ints(&geometry.strides)),
            ("pad_type", Arg::Value(kind.id())),
            ("pad", ints(&pads)),
            ("dilations", ints(&geometry.dilations)),
            ("groups", Arg::Value(groups.id())),
        ],
    )[0]
}

/// How much a sum of `n` products of operands of at most 1 changes with the order of its terms.
fn reordered(n: usize) -> f64 {
    let n = n as f64;
    2.0 * n * n * UNIT
}

/// The rule called `id`, which exists.
fn known(id: &'static str) -> &'static Rule {
    rule(id).expect("rewrites are for rules that exist")
}
