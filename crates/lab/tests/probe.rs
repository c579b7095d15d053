//! Every probe runs on the emulator, repeats the facts, and claims no more than it can know.

use ane::{AneError, Device, Emulator, Executable, Port, Reloaded, RunReport, Surface};
use chip::Profile;
use cpu::Numerics;
use lab::probe::{Outcome, PROBES, Probe, Verdict};
use mil::{Program, TensorType, Weights};

fn emulator(profile: &str) -> Emulator {
    let profile: Profile = profile.parse().unwrap();
    Emulator::engine(profile, Numerics::Exact)
}

fn sound(probe: &Probe, outcome: &Outcome) {
    assert!(!outcome.says.is_empty() && probe.question.ends_with('?'));
    assert!(outcome.rows.iter().all(|row| row.len() == outcome.columns.len()), "{outcome:?}");
    for id in outcome.supports.iter().chain(&outcome.contradicts) {
        assert!(chip::facts::fact(id).is_some(), "{}: there is no fact {id}", probe.name);
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

#[test]
fn rewritten_files_change_nothing_and_where_there_are_none_that_is_said() {
    for (profile, seen) in [("m4", "the old ones"), ("m5/macos26/e5rt", "not offered")] {
        let probe = Probe::named("weight-reload").unwrap();
        let outcome = probe.run(&emulator(profile), true).unwrap();
        assert_eq!(outcome.rows[2][1], seen, "{outcome:#?}");
        assert_eq!(
            outcome.supports,
            ["I-fixed-constants"],
            "an emulator proves no fact it follows"
        );
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

fn outcome(name: &str, profile: &str) -> Outcome {
    Probe::named(name).unwrap().run(&emulator(profile), true).unwrap()
}

/// Cells of a column, by its head.
fn column<'a>(outcome: &'a Outcome, head: &str) -> Vec<&'a str> {
    let at = outcome.columns.iter().position(|c| *c == head).unwrap();
    outcome.rows.iter().map(|row| row[at].as_str()).collect()
}

#[test]
fn published_numbers_come_out() {
    let law = outcome("law", "m4");
    assert_eq!(column(&law, "differ from the law"), ["0"; 3]);
    assert!(column(&law, "differ from an exact sum").iter().all(|n| n.parse::<u32>().unwrap() > 0));
    let corners = outcome("product-corners", "m4");
    let results = ["0", "0.0009765625", "32752", "inf", "inf", "20000"];
    assert_eq!(column(&corners, "result"), results);
    // That of (4000, -4000, 1) is not met: what adds four lanes is known by three examples only.
    for profile in ["m1", "m4"] {
        let sums = outcome("reductions", profile);
        let seen = column(&sums, "seen");
        assert_eq!([seen[0], seen[1], seen[2], seen[4]], ["2050", "5116", "16", "4"], "{profile}");
        assert!(sums.says.contains("4 of 5 sums are as published"), "{}", sums.says);
    }
    let tables = outcome("activations", "m4");
    assert_eq!(tables.rows.len(), 18);
    let errors = column(&tables, "largest error");
    assert_eq!(&errors[..3], ["0.0034", "0.0019", "0.0056"], "0.0034, 0.0017, 0.0059 within 15 %");
    let zero = column(&tables, "at 0");
    assert_eq!([zero[2], zero[3], zero[12]], ["-0.000543", "-0.001260", "-45440.000000"]);
    assert!(column(&tables, "NaN").iter().all(|n| *n == "0"));
    assert_eq!(column(&outcome("activations", "m1"), "largest error")[16], "refused", "sin");
    for profile in ["m1", "m4", "m5/macos26", "m5/macos26/e5rt"] {
        for name in ["surfaces", "spelling"] {
            let table = outcome(name, profile);
            assert_eq!(column(&table, "seen"), column(&table, "facts in force"), "{name}");
        }
    }
    let seen = |profile: &str| outcome("classifier", profile).rows[..4].to_vec();
    let of = |profile: &str| seen(profile).iter().map(|row| row[1].clone()).collect::<Vec<_>>();
    assert_eq!(of("m4"), ["right", "refused", "right", "right"]);
    assert_eq!(of("m1"), ["right", "refused", "refused", "right"]);
    let notch = |profile: &str| -> Vec<f64> {
        let table = outcome("notch", profile);
        column(&table, "GB/s").iter().map(|v| v.parse().unwrap()).collect()
    };
    let (m4, m5) = (notch("m4"), notch("m5"));
    assert!(m4[3..6].iter().all(|v| (17.0..=25.0).contains(v)), "{m4:?}");
    assert!(m4[..3].iter().chain(&m4[6..]).all(|v| *v > 35.0), "{m4:?}");
    assert!(m5.iter().all(|v| *v > 40.0), "{m5:?}");
    assert_eq!(outcome("compiles", "m4").rows[0][0], "119");
    assert_eq!(outcome("compiles", "m5/macos26/e5rt").rows[0][0], "130", "no limit");
}

/// Milliseconds of a cell, a range by its middle; `None` of none.
fn milliseconds(cell: &str) -> Option<f64> {
    let ends: Vec<f64> = cell.split(" to ").map(|v| v.parse().ok()).collect::<Option<_>>()?;
    Some(ends.iter().sum::<f64>() / ends.len() as f64)
}

#[test]
fn forecasts_stand_beside_what_is_published() {
    let mut compared = 0;
    for profile in ["m4", "m5"] {
        for name in ["in-memory", "peak", "working-set", "dynamic-matmul", "classifier", "notch"] {
            let found = outcome(name, profile);
            let pairs =
                column(&found, "forecast ms").into_iter().zip(column(&found, "published ms"));
            for (forecast, published) in pairs {
                let Some(published) = milliseconds(published) else { continue };
                let forecast: f64 = forecast.split(' ').next().unwrap().parse().unwrap();
                let ratio = forecast / published;
                assert!((0.5..2.0).contains(&ratio), "{profile} {name}: {found:#?}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 16, "{compared}");
    // The published chains, by convolutions that read one constant.
    let peak = outcome("peak", "m4");
    let teras = column(&peak, "TFLOP/s");
    let near = |at: usize, published: f64| {
        let tera: f64 = teras[at].parse().unwrap();
        (0.75..1.25).contains(&(tera / published))
    };
    assert!(near(1, 6.73) && near(2, 9.63) && near(3, 11.74) && near(4, 18.6), "{teras:?}");
}

/// An engine that takes more than our rules do.
#[derive(Debug)]
struct Lenient(Emulator);

impl Device for Lenient {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn profile(&self) -> Option<Profile> {
        self.0.profile()
    }
    fn least_allocation(&self) -> usize {
        self.0.least_allocation()
    }
    fn surface(&self, ty: &TensorType, allocation: usize) -> Result<Surface, AneError> {
        self.0.surface(ty, allocation)
    }
    fn compile(&self, p: &Program, w: &Weights) -> Result<Box<dyn Executable>, AneError> {
        self.0.compile(p, w)
    }
    fn compile_unchecked(
        &self,
        text: &str,
        weights: &Weights,
        like: &Program,
    ) -> Option<Result<Box<dyn Executable>, AneError>> {
        let program = mil::parse(text).unwrap_or_else(|_| like.clone());
        Some(Emulator::cpu(Numerics::Exact).compile(&program, weights))
    }
}

/// An engine whose programs compile past our rules, and do not run; `fails` says which.
#[derive(Debug)]
struct Failing(Lenient, fn(&str) -> bool);

impl Device for Failing {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn profile(&self) -> Option<Profile> {
        self.0.profile()
    }
    fn least_allocation(&self) -> usize {
        self.0.least_allocation()
    }
    fn surface(&self, ty: &TensorType, allocation: usize) -> Result<Surface, AneError> {
        self.0.surface(ty, allocation)
    }
    fn compile(&self, p: &Program, w: &Weights) -> Result<Box<dyn Executable>, AneError> {
        let inside = self.0.compile(p, w)?;
        Ok(Box::new(Broken { inside, runs: true }))
    }
    fn compile_unchecked(
        &self,
        text: &str,
        weights: &Weights,
        like: &Program,
    ) -> Option<Result<Box<dyn Executable>, AneError>> {
        let inside = self.0.compile_unchecked(text, weights, like)?;
        let runs = !self.1(text);
        Some(inside.map(|inside| Box::new(Broken { inside, runs }) as Box<dyn Executable>))
    }
}

/// A program that does not run, or cannot be loaded again.
#[derive(Debug)]
struct Broken {
    inside: Box<dyn Executable>,
    runs: bool,
}

impl Executable for Broken {
    fn inputs(&self) -> &[Port] {
        self.inside.inputs()
    }
    fn outputs(&self) -> &[Port] {
        self.inside.outputs()
    }
    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        match self.runs {
            true => self.inside.run(inputs, outputs),
            false => Err(AneError::Timeout),
        }
    }
    fn reload(&mut self, _: &Weights) -> Result<Option<Reloaded>, AneError> {
        Err(AneError::InvalidBundle)
    }
}

#[test]
fn what_fails_to_run_is_neither_for_nor_against_a_fact() {
    let ask = |name: &str, fails: fn(&str) -> bool| {
        let device = Failing(Lenient(emulator("m4")), fails);
        Probe::named(name).unwrap().run(&device, false).unwrap()
    };
    let attention = ask("causal-attention", |_| true);
    assert_eq!(attention.rows[1][1], "status=0xf");
    assert_eq!(attention.supports, ["B2-decomposed-attention"]);
    assert!(attention.contradicts.is_empty() && attention.verdict == Verdict::AsFacts);
    // One that nothing is published of fails, then one of the three that count.
    for (fails, supports, verdict) in [
        ((|text| text.contains("= erf(")) as fn(&str) -> bool, 1, Verdict::AsFacts),
        (|text| text.contains("= tanh("), 0, Verdict::Measured),
    ] {
        let tables = ask("activations", fails);
        let failed: Vec<_> = tables.rows.iter().filter(|row| row[3] == "-").collect();
        assert_eq!((tables.rows.len(), failed.len()), (18, 1), "{tables:#?}");
        assert_eq!((tables.supports.len(), tables.verdict), (supports, verdict), "{tables:#?}");
        assert!(tables.contradicts.is_empty());
    }
    // Three inputs.
    let surfaces = ask("surfaces", |text| text.contains("> c,"));
    assert_eq!(surfaces.contradicts, ["C1-minimum-size", "C1-uniform-sizes"]);
    assert!(surfaces.supports.is_empty() && surfaces.rows.len() == 13, "{surfaces:#?}");
}

#[test]
fn a_program_that_is_not_loaded_again_leaves_what_was_seen_before() {
    let device = Failing(Lenient(emulator("m4")), |_| false);
    let outcome = Probe::named("weight-reload").unwrap().run(&device, false).unwrap();
    assert_eq!(column(&outcome, "seen"), ["yes", "yes", "refused"]);
    assert_eq!((outcome.verdict, outcome.rows[2][2].as_str()), (Verdict::AsFacts, "-"));
    assert_eq!(outcome.supports, ["I-fixed-constants"], "the files were not read again");
    assert!(outcome.contradicts.is_empty() && outcome.says.contains("macOS reports"));
}

/// Our own rules would give the answers that the facts expect, were they asked in its place.
#[test]
fn questions_that_rules_stand_before_reach_the_engine() {
    let ask =
        |name: &str| Probe::named(name).unwrap().run(&Lenient(emulator("m4")), false).unwrap();
    let surfaces = ask("surfaces");
    assert_eq!(column(&surfaces, "seen")[..11], ["runs"; 11]);
    assert_eq!(surfaces.contradicts, ["C1-minimum-size", "C1-uniform-sizes"]);
    assert_eq!(surfaces.supports, ["C1-alphabetical"]);
    assert_eq!(ask("spelling").contradicts[2], "A2-bare-literals");
    let compiles = ask("compiles");
    assert_eq!(
        (compiles.rows[0][0].as_str(), &compiles.contradicts[..]),
        ("130", &["D-compiles"][..])
    );
    let classifier = ask("classifier");
    assert_eq!(column(&classifier, "seen")[..4], ["right"; 4]);
    assert_eq!(classifier.contradicts, ["B2-input-channels"]);
}
