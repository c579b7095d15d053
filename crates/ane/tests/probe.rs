//! Every probe runs on the emulator, repeats the facts, and claims no more than it can know.

use ane::probe::{Outcome, PROBES, Probe, Verdict};
use ane::{Emulator, Numerics, Profile};

fn emulator(profile: &str) -> Emulator {
    let profile: Profile = profile.parse().unwrap();
    Emulator::engine(profile, Numerics::Exact)
}

fn sound(probe: &Probe, outcome: &Outcome) {
    assert!(!outcome.says.is_empty() && probe.question.contains('?'));
    assert!(outcome.rows.iter().all(|row| row.len() == outcome.columns.len()), "{outcome:?}");
    for id in outcome.supports.iter().chain(&outcome.contradicts) {
        assert!(ane::facts::fact(id).is_some(), "{}: there is no fact {id}", probe.name);
    }
}

fn expected(probe: &Probe, profile: &str) -> Verdict {
    match probe.name {
        "qos" | "real-time" if profile.ends_with("e5rt") => Verdict::NotApplicable,
        "qos" | "perf-stats" | "real-time" => Verdict::Assumed,
        _ if probe.open => Verdict::Assumed,
        _ => Verdict::AsFacts,
    }
}

#[test]
fn every_probe_gives_the_expected_verdict_for_m1_and_m4() {
    for profile in ["m1", "m4", "m5/macos26/e5rt"] {
        let device = emulator(profile);
        for probe in &PROBES {
            let outcome =
                probe.run(&device, true).unwrap_or_else(|e| panic!("{}: {e}", probe.name));
            sound(probe, &outcome);
            assert_eq!(
                outcome.verdict,
                expected(probe, profile),
                "{profile} {}: {outcome:#?}",
                probe.name
            );
            let words = "only an engine can tell";
            let assumed = outcome.verdict == Verdict::Assumed;
            assert_eq!(outcome.says.contains(words), assumed, "{}: {}", probe.name, outcome.says);
            assert!(!assumed || outcome.supports.is_empty(), "an emulator proves nothing");
        }
    }
}

/// Were it an engine, arithmetic without the law would be found out.
#[test]
fn another_arithmetic_contradicts_the_facts() {
    let device = Emulator::engine(Profile::default(), Numerics::F32);
    for (name, fact) in [("law", "E1-runtime-operands"), ("activations", "E4-activation-errors")] {
        let outcome = Probe::named(name).unwrap().run(&device, false).unwrap();
        assert_eq!(outcome.verdict, Verdict::Against, "{outcome:#?}");
        assert!(outcome.contradicts.contains(&fact));
    }
    // The time of a CPU in single precision is not the engine's, but its answers are right.
    let outcome = Probe::named("dynamic-matmul").unwrap().run(&device, false).unwrap();
    assert_eq!(outcome.verdict, Verdict::AsFacts);
}

#[test]
fn an_engine_that_does_what_is_assumed_supports_it() {
    let outcome = Probe::named("law").unwrap().run(&emulator("m4"), false).unwrap();
    assert_eq!(outcome.verdict, Verdict::AsFacts);
    assert_eq!(outcome.supports, ["E1-runtime-operands", "E1-pointwise-convolution"]);
}

#[test]
fn names_are_unique_and_found() {
    assert_eq!(PROBES.iter().filter(|p| p.open).count(), 8, "the eight open questions");
    for probe in &PROBES {
        assert_eq!(Probe::named(probe.name).unwrap().question, probe.question);
    }
    let mut names: Vec<_> = PROBES.iter().map(|p| p.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PROBES.len());
    assert!(Probe::named("coffee").is_none());
}
