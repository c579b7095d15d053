//! Rewrites that make a program legal without changing what it computes.
//!
//! [`fix`] applies every rewrite whose result is provably the same: [`prove()`] compares both programs
//! operation by operation, and runs the parts that differ on random inputs. What has no such rewrite is
//! left as it is.

mod alike;
mod arithmetic;
mod form;
mod layout;
mod ports;
mod products;
mod prove;
mod text;

pub use form::{Applied, Fixed};
pub use prove::{NotProven, Proof, prove};

use super::context::{Scope, Site};
use super::place::Place;
use super::rule::Rule;
use super::violation::Violation;
use crate::machine::Profile;
use form::{At, GivenUp, OpFix, found, no_worse};
use mil::{Builder, Function, Program, Rewrite};
use std::collections::{BTreeMap, BTreeSet};

/// Rounds after which rewriting stops: a rewrite may break another rule, which the next round mends.
const ROUNDS: usize = 16;

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

fn op_fixes() -> impl Iterator<Item = &'static OpFix> {
    let tables: [&'static [OpFix]; 4] =
        [text::FIXES, arithmetic::FIXES, layout::FIXES, products::FIXES];
    tables.into_iter().flatten()
}

/// True if breaches of a rule have a safe rewrite, at least in some programs.
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
