//! Every safe rewrite: a program that breaks the rule, rewritten, keeps it and computes the same.

mod cases;

use ane::legal::fix::{NotProven, has_fix, prove};
use ane::legal::{self, Severity, fix};
use ane::{Applied, Profile};
use cases::{Case, attention, cases, changed, conv, conv_program, fp16, program, value};
use mil::blob::BlobWriter;
use mil::interp::{Array, evaluate};
use mil::{Arg, DType, Data, Literal, Op, Program, TensorType, ValueId, Weights, check_text};
use std::collections::BTreeSet;

fn profile(text: &str) -> Profile {
    text.parse().unwrap()
}

fn breaks(program: &Program, on: &str, id: &str) -> bool {
    legal::violations(program, &profile(on)).iter().any(|v| v.rule.id == id)
}

/// Fixes `bad` for a machine and shows that the rule is kept and the results are the same.
#[track_caller]
fn mended(bad: &Program, on: &str, id: &str) -> (Program, Vec<Applied>) {
    assert!(breaks(bad, on, id), "{id} on {on}: nothing to mend");
    let fixed = fix(bad, &profile(on), &[]);
    assert!(fixed.applied.iter().any(|a| a.rule.id == id), "{id} on {on}: {:?}", fixed.applied);
    assert!(!breaks(&fixed.program, on, id), "{id} on {on} is left in\n{}", fixed.program);
    let text = fixed.program.to_string();
    assert_eq!(check_text(&text).as_ref(), Ok(&fixed.program), "{id}: canonical text\n{text}");
    (fixed.program, fixed.applied)
}

/// As [`mended`], with the proof.
#[track_caller]
fn equal(bad: &Program, on: &str, id: &str) -> f64 {
    let (program, applied) = mended(bad, on, id);
    match prove(bad, &program, &applied, &Weights::new(), 7) {
        Ok(proof) => {
            assert!(proof.values > 0 && proof.largest <= proof.bound);
            proof.largest
        }
        Err(error) => panic!("{id} on {on}: {error}\n{bad}\n{program}"),
    }
}

/// Rules whose breaches in the cases have no safe rewrite, and why not.
const LEFT: [(&str, &str); 14] = [
    ("ANE011", "an empty tensor has nothing to compute"),
    ("ANE012", "a tensor is cut by who binds it"),
    ("ANE013", "a tensor is cut by who binds it"),
    ("ANE014", "programs are cut by who loads them"),
    ("ANE020", "integers are converted by who binds them"),
    ("ANE023", "integers are converted by who binds them"),
    ("ANE025", "the engine has no integers of that width"),
    ("ANE027", "unpacking rounds"),
    ("ANE050", "there is no other sine"),
    ("ANE052", "there is no other rounding"),
    ("ANE060", "slices of single columns meet the path of ANE062"),
    ("ANE063", "there is no other way to join"),
    ("ANE071", "packing changes what is bound"),
    ("ANE001", "the case leaves out an operand"),
];

#[test]
fn every_rule_is_mended_or_left_for_a_reason() {
    let mut mended = BTreeSet::new();
    for Case { id, profile: on, bad, .. } in cases() {
        let fixed = fix(&bad, &profile(on), &[]);
        let broken = breaks(&fixed.program, on, id);
        assert_ne!(broken, fixed.applied.iter().any(|a| a.rule.id == id), "{id} on {on}");
        if broken {
            continue;
        }
        let refused = |p: &Program| {
            let found = legal::violations(p, &profile(on));
            found.iter().filter(|v| v.rule.severity != Severity::Warning).count()
        };
        assert!(refused(&fixed.program) <= refused(&bad), "{id} on {on}:\n{}", fixed.program);
        let text = fixed.program.to_string();
        assert_eq!(check_text(&text).as_ref(), Ok(&fixed.program), "{id}: canonical text\n{text}");
        match prove(&bad, &fixed.program, &fixed.applied, &Weights::new(), 7) {
            Ok(proof) => assert!(proof.values > 0 && proof.largest <= proof.bound, "{id}"),
            Err(NotProven::TooLarge { .. }) => assert!(["ANE035", "ANE056"].contains(&id), "{id}"),
            Err(error) => panic!("{id} on {on}: {error}\n{bad}\n{text}"),
        }
        assert!(has_fix(legal::rule(id).unwrap()), "{id}");
        mended.insert(id);
    }
    for rule in legal::rules().filter(|rule| rule.is_static()) {
        let left = LEFT.iter().any(|(left, _)| *left == rule.id);
        assert_ne!(left, mended.contains(rule.id), "{} {}", rule.id, rule.title);
    }
}
