//! The doctor finds every fault that can be found, and none where there is none.

use ane::{
    AneError, Backoff, Device, Emulator, Executable, Faults, Faulty, Port, Precision, RunReport,
    Surface,
};
use chip::Profile;
use cpu::Numerics;
use lab::doctor::{Canary, Options, Report, Sick, Verdict, examine};
use mil::{Program, TensorType, Weights};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PATIENT: Backoff =
    Backoff { tries: 5, first: Duration::from_millis(1), most: Duration::from_millis(1) };
const EMULATED: Options = Options { emulated: true, backoff: PATIENT };

fn emulator(profile: &str) -> Box<dyn Device> {
    Box::new(Emulator::engine(profile.parse().unwrap(), Numerics::Fast))
}

fn ask(device: &dyn Device, options: &Options) -> Report {
    let mut heard = vec![];
    let report = examine(device, options, &mut |check| heard.push(check.clone()));
    assert_eq!(heard, report.checks);
    for check in &report.checks {
        assert!(!check.finding.is_empty() && check.question.ends_with('?'), "{check:?}");
        let ill = matches!(check.verdict, Verdict::Bad | Verdict::Suspicious);
        assert_eq!(ill, !check.advice.is_empty(), "who is ill gets advice: {check:?}");
        let known = |id: &&str| chip::facts::fact(id).is_some();
        assert!(check.facts.iter().all(known), "{:?}", check.facts);
    }
    report
}

fn with_faults(spec: &str) -> Report {
    ask(&Faulty::new(emulator("m4"), Faults::parse(spec, 7).unwrap()), &EMULATED)
}

fn finding<'a>(report: &'a Report, id: &str) -> (Verdict, &'a str) {
    let check = report.check(id).unwrap();
    (check.verdict, &check.finding)
}

#[test]
fn a_healthy_device_is_well_on_every_profile_and_in_every_arithmetic() {
    for profile in ["m1", "m4", "m5/macos26/e5rt", "e5rt"] {
        let profile: Profile = profile.parse().unwrap();
        for numerics in [Numerics::F32, Numerics::Fast, Numerics::Exact] {
            let report = ask(&Emulator::engine(profile, numerics), &EMULATED);
            for check in report.checks.iter().filter(|c| c.id != "speed") {
                assert_eq!(check.verdict, Verdict::Good, "{profile} {numerics:?}: {check:?}");
            }
        }
    }
    assert_ne!(ask(&Emulator::cpu(Numerics::F32), &EMULATED).verdict(), Verdict::Bad);
}

/// Whichever run is spoilt, and however: somebody looks at its answer.
#[test]
fn a_single_spoilt_run_is_found_wherever_it_is() {
    let runs = with_faults("").runs;
    assert!(runs > 40, "{runs}");
    for run in 1..=runs {
        for (fault, words) in [
            ("zeros-at", "elements are zero"),
            ("nan-at", "are NaN"),
            ("inf-at", "are infinite"),
            ("wrong-at", "elements are wrong"),
        ] {
            let report = with_faults(&format!("{fault}:{run}"));
            assert_eq!(report.verdict(), Verdict::Bad, "{fault} in run {run}");
            let bad: Vec<_> = report.checks.iter().filter(|c| c.verdict == Verdict::Bad).collect();
            let stale = fault == "zeros-at"
                || bad[0].id == "binding-order"
                || bad[0].finding.contains(words);
            assert!(bad.len() == 1 && stale, "{fault} in run {run}: {bad:?}");
        }
    }
    let report = with_faults(&format!("nan-at:{}", runs + 1));
    assert_ne!(report.verdict(), Verdict::Bad, "there is no such run");
}

#[test]
fn stale_weights_are_found() {
    let (verdict, words) = {
        let report = with_faults("stale-weights");
        let bad: Vec<_> = report.checks.iter().filter(|c| c.verdict == Verdict::Bad).collect();
        assert_eq!(bad.len(), 1, "only constants are stale: {bad:?}");
        (bad[0].id, bad[0].finding.clone())
    };
    assert_eq!(verdict, "constants-live");
    assert!(words.contains("its weights are stale"), "{words}");
}

#[test]
fn a_flaky_compiler_is_suspicious_and_a_broken_one_bad() {
    let report = with_faults("flaky-compile:3");
    let (verdict, words) = finding(&report, "compiler");
    assert_eq!(verdict, Verdict::Suspicious);
    assert!(words.starts_with("3 of 11 tries failed"), "{words}");
    assert_eq!(report.verdict(), Verdict::Suspicious);
    for spec in ["flaky-compile:1.0", "refuse-load:0x20004", "refuse-load:0x50004"] {
        let report = with_faults(spec);
        let (verdict, words) = finding(&report, "matmul");
        assert_eq!(verdict, Verdict::Bad);
        assert!(words.contains("macOS reports"), "{spec}: {words}");
        assert_eq!(finding(&report, "speed").0, Verdict::Skipped);
    }
}

#[test]
fn a_hang_ends_the_questions() {
    for after in [0, 3, 20] {
        let report = with_faults(&format!("hang-after:{after},hang-limit:0.01"));
        let bad: Vec<_> = report.checks.iter().filter(|c| c.verdict == Verdict::Bad).collect();
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert!(bad[0].finding.contains("timed out") && bad[0].advice.contains("restart the Mac"));
        assert_eq!(report.checks.last().unwrap().verdict, Verdict::Skipped);
    }
}

/// The results that a device gives in place of those of the emulator behind it.
#[derive(Clone, Copy, Debug)]
enum Twist {
    /// Runs take this long.
    Seconds(f64),
    /// The first two inputs are taken for each other.
    SwappedInputs,
    /// The first two outputs are taken for each other.
    SwappedOutputs,
    /// Inputs are read at the first run only.
    StaleInputs,
}

#[derive(Debug)]
struct Twisted(Box<dyn Device>, Twist);

#[derive(Debug)]
struct TwistedProgram {
    inner: Box<dyn Executable>,
    twist: Twist,
    first: Option<Vec<Surface>>,
}

impl Device for Twisted {
    fn describe(&self) -> String {
        format!("{:?}", self.1)
    }
    fn profile(&self) -> Option<Profile> {
        self.0.profile()
    }
    fn surface(&self, ty: &TensorType, allocation: usize) -> Result<Surface, AneError> {
        self.0.surface(ty, allocation.max(self.0.least_allocation()))
    }
    fn compile(&self, p: &Program, w: &Weights) -> Result<Box<dyn Executable>, AneError> {
        let inner = self.0.compile(p, w)?;
        Ok(Box::new(TwistedProgram { inner, twist: self.1, first: None }))
    }
}

impl Executable for TwistedProgram {
    fn inputs(&self) -> &[Port] {
        self.inner.inputs()
    }
    fn outputs(&self) -> &[Port] {
        self.inner.outputs()
    }
    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError> {
        let (mut inputs, mut outputs) = (inputs.to_vec(), outputs.to_vec());
        match self.twist {
            Twist::SwappedInputs if inputs.len() > 1 => inputs.swap(0, 1),
            Twist::SwappedOutputs if outputs.len() > 1 => outputs.swap(0, 1),
            _ => {}
        }
        let copies = self.first.get_or_insert_with(|| {
            let copy = |s: &&Surface| {
                let copy = Surface::new(s.ty(), s.allocation(), Precision::Half);
                let mut values = vec![0.0; s.ty().count()];
                s.read(&mut values).unwrap();
                copy.write(&values).unwrap();
                copy
            };
            inputs.iter().map(copy).collect()
        });
        let stale: Vec<&Surface> = copies.iter().collect();
        let given = if matches!(self.twist, Twist::StaleInputs) { &stale } else { &inputs };
        let mut report = self.inner.run(given, &outputs)?;
        if let Twist::Seconds(seconds) = self.twist {
            report.seconds = seconds;
        }
        Ok(report)
    }
}

fn twisted(twist: Twist) -> Report {
    ask(&Twisted(emulator("m4"), twist), &Options { emulated: false, ..EMULATED })
}

#[test]
fn wrong_bindings_and_stale_inputs_are_told_apart() {
    for (twist, id, words) in [
        (Twist::SwappedInputs, "binding-order", "the inputs are bound in the order of the text"),
        (Twist::SwappedOutputs, "binding-order", "the outputs are bound in the order of the text"),
        (Twist::StaleInputs, "inputs-live", "it is not read anew"),
    ] {
        let report = twisted(twist);
        let (verdict, found) = finding(&report, id);
        assert_eq!(verdict, Verdict::Bad, "{twist:?}");
        assert!(found.contains(words), "{twist:?}: {found}");
    }
}

#[test]
fn times_that_no_engine_has_are_suspicious() {
    let speed = |seconds| {
        let report = twisted(Twist::Seconds(seconds));
        let (verdict, words) = finding(&report, "speed");
        (verdict, words.to_owned())
    };
    let (verdict, words) = speed(1e-6);
    assert!(verdict == Verdict::Suspicious && words.contains("not on the engine?"), "{words}");
    let (verdict, words) = speed(0.5);
    assert!(verdict == Verdict::Suspicious && words.contains("throttled"), "{words}");
    let (verdict, words) = speed(0.1e-3);
    assert!(verdict == Verdict::Good && words.contains("by what is published"), "{words}");
}

#[test]
fn slowing_down_is_suspicious_and_waking_up_is_not() {
    let constant = |spec: &str| {
        let inner = Box::new(Twisted(emulator("m4"), Twist::Seconds(0.1e-3)));
        let device = Faulty::new(inner, Faults::parse(spec, 1).unwrap());
        ask(&device, &Options { emulated: false, ..EMULATED })
    };
    let report = constant("slow-after:30,slow-factor:4.5");
    let (verdict, words) = finding(&report, "speed");
    assert_eq!(verdict, Verdict::Suspicious);
    assert!(words.contains("took 0.100 ms at first and 0.450 ms at last"), "{words}");
    assert_eq!(report.verdict(), Verdict::Suspicious, "slow is not wrong");
    assert_eq!(constant("idle-wake").verdict(), Verdict::Good);
}

#[test]
fn the_canary_of_a_run_sings_until_the_device_is_sick() {
    let device = |spec| Faulty::new(emulator("m4"), Faults::parse(spec, 1).unwrap());
    let mut canary = Canary::new(&device("")).unwrap();
    (0..20).for_each(|_| drop(canary.ask().unwrap()));
    for (fault, words) in
        [("zeros-at:9", "zero"), ("nan-at:10", "NaN"), ("wrong-at:12", "1 of 4096")]
    {
        // Four requests each time.
        let mut canary = Canary::new(&device(fault)).unwrap();
        assert!(canary.ask().is_ok() && canary.ask().is_ok());
        let error = canary.ask().unwrap_err();
        assert!(error.as_own::<Sick>().is_some() && error.to_string().contains(words), "{error}");
    }
    let mut stale = Canary::new(&Twisted(emulator("m4"), Twist::StaleInputs)).unwrap();
    assert!(stale.ask().is_err(), "every question is another one");
}

#[test]
fn a_run_is_told_once_that_its_engine_slowed_down() {
    let inner = Box::new(Twisted(emulator("m4"), Twist::Seconds(0.1e-3)));
    let faults = Faults::parse("slow-after:20,slow-factor:4.5", 1).unwrap();
    let mut canary = Canary::new(&Faulty::new(inner, faults)).unwrap();
    let told: Vec<Option<String>> = (0..12).map(|_| canary.ask().unwrap()).collect();
    assert_eq!(told.iter().flatten().count(), 1);
    let words = told[7].as_ref().expect("after the third slow answer");
    assert!(words.contains("took 0.100 ms takes 0.450 ms (D-slow-down)"), "{words}");
}

/// Between steps the engine rests while the CPU computes, and takes its time to wake up.
#[test]
fn a_run_whose_engine_rests_between_steps_is_told_nothing() {
    for rest in [200, 6_000] {
        let inner = Box::new(Twisted(emulator("m4"), Twist::Seconds(0.1e-3)));
        let now = Arc::new(AtomicU64::new(0));
        let milliseconds = Arc::clone(&now);
        let clock = move || milliseconds.load(Ordering::Relaxed) as f64 / 1e3;
        let device = Faulty::with_clock(inner, Faults::parse("idle-wake", 1).unwrap(), clock);
        let mut canary = Canary::new(&device).unwrap();
        // Here it is awake.
        (0..5).for_each(|_| assert_eq!(canary.ask().unwrap(), None));
        for _ in 0..6 {
            now.fetch_add(rest, Ordering::Relaxed);
            assert_eq!(canary.ask().unwrap(), None, "after {rest} ms");
        }
    }
}
