//! Is the device well? Canary programs whose answers are known, and what to do when they are wrong.
//!
//! [`examine`] asks every question once; [`Canary`] asks the most telling one again and again, cheaply
//! enough to stand between the steps of a training run. Every answer that the device gives is
//! compared to the bit: all numbers are small and whole, so that no rounding is involved on any
//! chip, by any path, in any arithmetic.

use crate::bench::{Bench, constant, convolution, product, program, small, weight_file};
use ane::AneError;
use ane::Backoff;
use ane::{Device, Executable};
use chip::cost::{CONSTANTS, estimate};
use half::f16;
use mil::{Builder, Program, TensorType, Weights};

/// Rows and columns of the canaries' matrices.
const SIDE: usize = 64;
const AREA: usize = SIDE * SIDE;
const SHAPE: &[usize] = &[1, 1, SIDE, SIDE];

/// Runs of the same request whose answers and times are compared.
const REPEATS: usize = 40;

/// How many times as long as at first the same request may take before it counts as slowed down:
/// published slow-downs are larger, the scatter of the least of many runs is smaller.
const SLOWED: f64 = 3.0;

/// A request that takes less than this share of the published dispatch floor did not go to the engine.
const BELOW_FLOOR: f64 = 0.25;

/// One that takes this many times the upper end of its forecast waits for something.
const ABOVE_FORECAST: f64 = 10.0;

/// The outcome of a check, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it must be.
    Good,
    /// Not asked, with the reason as the finding.
    Skipped,
    /// Not wrong, but not as it should be.
    Suspicious,
    /// Wrong: results of this device cannot be trusted.
    Bad,
}

impl Verdict {
    /// Name in reports and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Skipped => "skipped",
            Verdict::Suspicious => "suspicious",
            Verdict::Bad => "bad",
        }
    }
}

/// One question and what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Short name, for instance `inputs-live`.
    pub id: &'static str,
    /// The question.
    pub question: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// The observation.
    pub finding: String,
    /// The advice; empty where all is well.
    pub advice: String,
    /// Facts that the question rests on ([`chip::facts::fact`]).
    pub facts: &'static [&'static str],
}

/// Every check of one examination.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The device's description of itself.
    pub device: String,
    /// In the order asked.
    pub checks: Vec<Check>,
    /// Runs of programs, all of whose answers were compared.
    pub runs: usize,
}

impl Report {
    /// The worst verdict.
    pub fn verdict(&self) -> Verdict {
        self.checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Skipped)
    }

    /// The check called `id`.
    pub fn check(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }
}

/// How to examine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The device is a program of ours: its times are those of the CPU, and are compared with each
    /// other only.
    pub emulated: bool,
    /// Patience with a compiler that fails now and then.
    pub backoff: Backoff,
}

/// The result of a check, before it has a name.
struct Finding(Verdict, String, &'static str);

type Ask = fn(&mut Examiner<'_>) -> Result<Finding, AneError>;

/// Checks in order: name, question, facts, how it is asked.
const CHECKS: [(&str, &str, &[&str], Ask); 10] = [
    (
        "surfaces",
        "Do surfaces give back what was written to them?",
        &["C1-packed", "C1-fp16-ports-faster"],
        surfaces,
    ),
    ("addition", "Is x + y right?", &["E3-determinism"], addition),
    ("matmul", "Is a matrix product right?", &["E1-product-grid", "E1-exact-sum"], matmul),
    (
        "convolution",
        "Is a convolution with constant weights right?",
        &["E1-pointwise-convolution"],
        pointwise,
    ),
    (
        "inputs-live",
        "Does the output move when an input changes, and only where it must?",
        &["G2-weights-as-inputs", "C1-rebuild-request"],
        inputs_live,
    ),
    (
        "constants-live",
        "Do two programs that differ in a constant alone give different results?",
        &["G2-rewritten-files", "I-fixed-constants", "E5-stale-programs"],
        constants_live,
    ),
    (
        "binding-order",
        "Are surfaces bound in alphabetical order of the ports' names?",
        &["C1-alphabetical"],
        binding_order,
    ),
    ("drift", "Does the same request always give the same bits?", &["E3-determinism"], drift),
    ("speed", "Are the times those of an engine?", &["F1-floor-m4", "D-slow-down"], speed),
    ("compiler", "Did the compiler take every program at once?", &["A7-flaky-compile"], compiler),
];

/// Asks every question.
///
/// Runs in well under a second where all is well. A device that hangs is left alone after the first
/// time that it reports so; one that hangs without reporting hangs this too, so that the caller
/// needs a watch. `listen` hears of each check when it is done.
pub fn examine(device: &dyn Device, options: &Options, listen: &mut dyn FnMut(&Check)) -> Report {
    let mut examiner = Examiner { device, options, runs: 0, compiles: 0, failed: 0, timing: None };
    let mut checks: Vec<Check> = vec![];
    let mut hung = false;
    for (id, question, facts, ask) in CHECKS {
        let Finding(verdict, finding, advice) = match hung {
            true => Finding(Verdict::Skipped, "not asked of a device that hangs".to_owned(), ""),
            false => ask(&mut examiner).unwrap_or_else(|error| {
                hung = matches!(error, AneError::Timeout | AneError::CompileTimeout { .. });
                Finding(Verdict::Bad, error.to_string(), advice_for(&error))
            }),
        };
        let advice = advice.to_owned();
        let check = Check { id, question, verdict, finding, advice, facts };
        listen(&check);
        checks.push(check);
    }
    Report { device: device.describe(), checks, runs: examiner.runs }
}

/// Advice on an error of the device.
fn advice_for(error: &AneError) -> &'static str {
    match error {
        AneError::Timeout | AneError::CompileTimeout { .. } => {
            "end every program that uses the engine and try again; if it still hangs, restart the Mac"
        }
        AneError::FlakyCompile { .. } | AneError::Reported { transient: true, .. } => {
            "wait 15 s and try again; if it stays, restart the Mac, which restarts the compiler's service"
        }
        AneError::LoadRefused { .. }
        | AneError::ResourcesExhausted
        | AneError::TooManyPrograms { .. } => {
            "end other programs that use the engine; if none does, restart the Mac"
        }
        AneError::CompileBudget { .. } => "start a new process: this one has used up its compiles",
        _ => {
            "try the other route (--device in-memory or espresso) and attach this report to a bug report"
        }
    }
}

/// How an answer is wrong, in words; `None` if it is right to the bit.
fn wrong(got: &[f32], expected: &[f32]) -> Option<String> {
    let differs = |(a, b): &(&f32, &f32)| a != b;
    let first = got.iter().zip(expected).position(|(a, b)| a != b)?;
    let count = got.iter().zip(expected).filter(differs).count();
    let (n, nan) = (got.len(), got.iter().filter(|v| v.is_nan()).count());
    let infinite = got.iter().filter(|v| v.is_infinite()).count();
    Some(if got.iter().all(|&v| v == 0.0) {
        format!("all {n} elements are zero")
    } else if nan > 0 {
        format!("{nan} of {n} elements are NaN, which the engine never gives (E3-never-nan)")
    } else if infinite > 0 {
        format!("{infinite} of {n} elements are infinite, where none can be")
    } else {
        let (a, b) = (got[first], expected[first]);
        format!("{count} of {n} elements are wrong; element {first} is {a} in place of {b}")
    })
}

const DISTRUST: &str = "do not train on this device: restart the Mac and ask again; if it stays, try \
     the other route (--device in-memory or espresso) and attach this report to a bug report";

const GOOD: Verdict = Verdict::Good;
const BAD: Verdict = Verdict::Bad;

/// The device, what was asked of it, and what it took.
struct Examiner<'a> {
    device: &'a dyn Device,
    options: &'a Options,
    runs: usize,
    compiles: u32,
    /// Compiles that failed without a fault of the program.
    failed: u32,
    /// Seconds of the repeated runs, and of the first one of all.
    timing: Option<(Vec<f64>, Program)>,
}

impl Examiner<'_> {
    fn compile(&mut self, program: &Program, weights: &Weights) -> Result<Bench, AneError> {
        let mut tried = 1;
        let executable: Box<dyn Executable> = loop {
            self.compiles += 1;
            match self.device.compile(program, weights) {
                Err(error @ AneError::FlakyCompile { .. }) => {
                    self.failed += 1;
                    let Some(pause) = self.options.backoff.pause(tried) else { return Err(error) };
                    std::thread::sleep(pause);
                    tried += 1;
                }
                other => break other?,
            }
        };
        Bench::new(self.device, executable)
    }

    fn answer(&mut self, bench: &mut Bench, inputs: &[&[f32]]) -> Result<Vec<f32>, AneError> {
        self.runs += 1;
        bench.answer(inputs)
    }

    /// One program, one answer.
    fn known(
        &mut self,
        program: &Program,
        weights: &Weights,
        inputs: &[&[f32]],
        expected: &[f32],
    ) -> Result<Finding, AneError> {
        let mut bench = self.compile(program, weights)?;
        let got = self.answer(&mut bench, inputs)?;
        Ok(match wrong(&got, expected) {
            None => Finding(GOOD, format!("{} elements, all right", got.len()), ""),
            Some(how) => Finding(BAD, how, DISTRUST),
        })
    }
}

/// Every finite binary16 number written and read, while a neighbour keeps its own.
fn surfaces(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let finite = |bits: u16| Some(f16::from_bits(bits)).filter(|v| v.is_finite());
    let values: Vec<f32> = (0..=u16::MAX).filter_map(finite).map(f16::to_f32).collect();
    let ty = TensorType::fp16([1, 1, values.len() / 64, 64]);
    let allocation = ty.bytes().max(of.device.least_allocation());
    let surface = || of.device.surface(&ty, allocation);
    let (one, other) = (surface()?, surface()?);
    let backwards: Vec<f32> = values.iter().rev().copied().collect();
    one.write(&values)?;
    other.write(&backwards)?;
    let (mut a, mut b) = (vec![0.0; values.len()], vec![0.0; values.len()]);
    one.read(&mut a)?;
    other.read(&mut b)?;
    Ok(match wrong(&a, &values).or_else(|| wrong(&b, &backwards)) {
        None => Finding(GOOD, format!("{} fp16 numbers came back", values.len()), ""),
        Some(how) => Finding(
            BAD,
            format!("what was read is not what was written: {how}"),
            "attach this report to a bug report: the memory that this program shares with the engine is not as expected",
        ),
    })
}

fn addition(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let (a, b) = (small(AREA, 1), small(AREA, 3));
    let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    let program = program(&[("a", SHAPE), ("b", SHAPE)], |_, x| x[0] + x[1])?;
    of.known(&program, &Weights::new(), &[&a, &b], &expected)
}

fn matmul_program() -> Result<Program, AneError> {
    program(&[("a", SHAPE), ("b", SHAPE)], |_, x| x[0].matmul(x[1], false, false))
}

fn matmul(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let (a, b) = (small(AREA, 1), small(AREA, 3));
    of.known(&matmul_program()?, &Weights::new(), &[&a, &b], &product(&a, &b, SIDE, SIDE))
}

/// y = W * x, W [64, 64, 1, 1] a constant, x [1, 64, 1, 64].
fn convolution_program() -> Result<Program, AneError> {
    program(&[("x", &[1, SIDE, 1, SIDE])], |b, x| {
        convolution(b, x[0], constant(b, &[SIDE, SIDE, 1, 1]))
    })
}

fn pointwise(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let (w, x) = (small(AREA, 2), small(AREA, 4));
    let expected = product(&w, &x, SIDE, SIDE);
    of.known(&convolution_program()?, &weight_file(&w), &[&x], &expected)
}

/// Changes one element of either input: one row or one column moves, by a known amount.
fn inputs_live(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let mut bench = of.compile(&matmul_program()?, &Weights::new())?;
    let (mut a, mut b) = (small(AREA, 1), small(AREA, 3));
    let before = of.answer(&mut bench, &[&a, &b])?;
    for input in 0..2 {
        let changed = if input == 0 { &mut a } else { &mut b };
        changed[5 * SIDE + 9] += 1.0;
        let got = of.answer(&mut bench, &[&a, &b])?;
        let expected = product(&a, &b, SIDE, SIDE);
        if got == before {
            let finding = format!(
                "input {input} was changed and the output did not move: it is not read anew"
            );
            return Ok(Finding(BAD, finding, DISTRUST));
        }
        if let Some(how) = wrong(&got, &expected) {
            return Ok(Finding(BAD, format!("after a change of input {input}, {how}"), DISTRUST));
        }
    }
    let expected = product(&small(AREA, 1), &small(AREA, 3), SIDE, SIDE);
    Ok(match wrong(&before, &expected) {
        None => Finding(GOOD, "both inputs move the output as they must".to_owned(), ""),
        Some(how) => Finding(BAD, how, DISTRUST),
    })
}

/// The same text with two weight files.
fn constants_live(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let (program, x) = (convolution_program()?, small(AREA, 4));
    let mut answers = vec![];
    for seed in [2, 3] {
        let w = small(AREA, seed);
        let mut bench = of.compile(&program, &weight_file(&w))?;
        let got = of.answer(&mut bench, &[&x])?;
        answers.push((got, product(&w, &x, SIDE, SIDE)));
    }
    let [(first, right), (second, expected)] = &answers[..] else { unreachable!("two files") };
    if first == second {
        return Ok(Finding(
            BAD,
            "a program with other constants gives the results of the one before: its weights are stale".to_owned(),
            "give weights as inputs, as `anegpt train` does; where constants are needed give every \
             program a text of its own; attach this report to a bug report",
        ));
    }
    Ok(match wrong(first, right).or_else(|| wrong(second, expected)) {
        None => Finding(GOOD, "the results differ as the constants do".to_owned(), ""),
        Some(how) => Finding(BAD, how, DISTRUST),
    })
}

/// Ports declared against the alphabet, each with a factor of its own.
fn binding_order(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let b = Builder::new("main");
    let z = b.input("z", TensorType::fp16(SHAPE));
    let a = b.input("a", TensorType::fp16(SHAPE));
    let (y_of_a, x_of_z) = ((a * 2.0).named("y_of_a"), (z * 3.0).named("b_of_z"));
    let program = Program::new(b.finish(&[y_of_a, x_of_z])?);
    let mut bench = of.compile(&program, &Weights::new())?;
    let (a, z) = (small(AREA, 1), small(AREA, 3));
    let got = of.answer(&mut bench, &[&a, &z])?;
    // Outputs in binding order: b_of_z, y_of_a.
    let scaled = |v: &[f32], by: f32| -> Vec<f32> { v.iter().map(|v| v * by).collect() };
    let orders = [(&z, &a), (&a, &z)].map(|(three, two)| [scaled(three, 3.0), scaled(two, 2.0)]);
    let [right, inputs_swapped] = &orders;
    let ports = ["a", "z"].iter().eq(bench.executable.inputs().iter().map(|p| &p.name));
    Ok(match got {
        _ if !ports => {
            let names = bench.executable.inputs().iter().map(|p| p.name.as_str());
            let names: Vec<&str> = names.collect();
            Finding(
                BAD,
                format!("the inputs are bound in the order {}", names.join(", ")),
                DISTRUST,
            )
        }
        got if got == right.concat() => {
            Finding(GOOD, "inputs and outputs are where they must be".to_owned(), "")
        }
        got if got == inputs_swapped.concat() => {
            Finding(BAD, "the inputs are bound in the order of the text".to_owned(), DISTRUST)
        }
        got if got == [&right[1][..], &right[0][..]].concat() => {
            Finding(BAD, "the outputs are bound in the order of the text".to_owned(), DISTRUST)
        }
        got => Finding(BAD, wrong(&got, &right.concat()).unwrap_or_default(), DISTRUST),
    })
}

/// σ(a·b) of numbers with many bits, again and again.
fn drift(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let program =
        program(&[("a", SHAPE), ("b", SHAPE)], |_, x| x[0].matmul(x[1], false, false).sigmoid())?;
    let mut bench = of.compile(&program, &Weights::new())?;
    let wave = |step: f32| -> Vec<f32> { (0..AREA).map(|i| (i as f32 * step).sin()).collect() };
    bench.write(&[&wave(0.37), &wave(0.11)])?;
    let mut seconds = vec![];
    let mut answers: Vec<Vec<f32>> = vec![];
    for _ in 0..REPEATS {
        of.runs += 1;
        seconds.push(bench.run()?);
        answers.push(bench.read()?);
    }
    of.timing = Some((seconds, program));
    // Whatever most runs say counts as the answer: the first may be the one that is wrong.
    let bits = |v: &[f32]| -> Vec<u32> { v.iter().map(|v| v.to_bits()).collect() };
    let usual = if bits(&answers[0]) == bits(&answers[1]) { 0 } else { 2 };
    let odd: Vec<usize> =
        (0..REPEATS).filter(|&i| bits(&answers[i]) != bits(&answers[usual])).collect();
    let spoilt = answers[usual].iter().any(|v| !(0.0..=1.0).contains(v))
        || answers[usual].iter().all(|&v| v == answers[usual][0]);
    Ok(match odd.first() {
        None if spoilt => Finding(
            BAD,
            "a sigmoid leaves the range from 0 to 1, or is constant".to_owned(),
            DISTRUST,
        ),
        None => Finding(GOOD, format!("{REPEATS} runs, {AREA} elements, the same bits"), ""),
        Some(&at) => {
            let how = wrong(&answers[at], &answers[usual]).unwrap_or_default();
            let finding =
                format!("{} of {REPEATS} runs differ; in run {}, {how}", odd.len(), at + 1);
            Finding(BAD, finding, DISTRUST)
        }
    })
}

/// The times of the runs for [`drift`]: against each other, and of an engine against what is
/// published of its chip.
fn speed(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let Some((seconds, program)) = &of.timing else {
        let finding = "the runs that would have been timed failed".to_owned();
        return Ok(Finding(Verdict::Skipped, finding, ""));
    };
    let least = |part: &[f64]| part.iter().copied().fold(f64::INFINITY, f64::min);
    // The first three wake the engine up (D-idle-wake).
    let (early, late) = (least(&seconds[3..REPEATS / 3]), least(&seconds[REPEATS * 2 / 3..]));
    let (best, ms) = (early.min(late), |s: f64| 1e3 * s);
    if late > SLOWED * early {
        return Ok(Finding(
            Verdict::Suspicious,
            format!(
                "the same request took {:.3} ms at first and {:.3} ms at last",
                ms(early),
                ms(late)
            ),
            "let the machine cool down and end what else uses the engine; in long runs start the \
             process anew from a checkpoint (RUS#9 saw the engine slow down after 100,000 runs)",
        ));
    }
    let Some(profile) = of.device.profile().filter(|_| !of.options.emulated) else {
        let finding = format!(
            "steady at {:.3} ms, which is this CPU's time: whether an engine is as fast as one is \
             not asked of an emulator",
            ms(best)
        );
        return Ok(Finding(GOOD, finding, ""));
    };
    let floor = CONSTANTS.of(profile.chip).floor_ms / 1e3;
    let forecast = estimate(&program.functions[0], &profile);
    Ok(if best < BELOW_FLOOR * floor {
        Finding(
            Verdict::Suspicious,
            format!(
                "{:.4} ms per run, but an empty dispatch takes {:.3} ms on {}: not on the engine?",
                ms(best),
                ms(floor),
                profile.chip
            ),
            "do not believe times or speeds of this device; `anegpt probe dispatch --record DIR` \
             writes what it does, to be attached to a bug report",
        )
    } else if best > ABOVE_FORECAST * forecast.high {
        Finding(
            Verdict::Suspicious,
            format!(
                "{:.3} ms per run, where {:.3} ms at most are forecast for {}: throttled, shared, or \
                 run on the CPU",
                ms(best),
                ms(forecast.high),
                profile.chip
            ),
            "connect the power supply, end what else uses the engine, let the machine cool down",
        )
    } else {
        let finding = format!(
            "{:.3} ms per run; by what is published of {}, an empty one takes {:.3} ms and this one \
             {:.3} ms at most",
            ms(best),
            profile.chip,
            ms(floor),
            ms(forecast.high)
        );
        Finding(GOOD, finding, "")
    })
}

fn compiler(of: &mut Examiner<'_>) -> Result<Finding, AneError> {
    let (compiles, failed) = (of.compiles, of.failed);
    Ok(match failed {
        0 => Finding(GOOD, format!("{compiles} programs compiled at the first try"), ""),
        _ => Finding(
            Verdict::Suspicious,
            format!("{failed} of {compiles} tries failed without a fault of the program"),
            "this happens under load, and `anegpt train` tries again; if it is frequent, end other \
             programs that compile for the engine, or restart the Mac",
        ),
    })
}

/// Questions that wake the engine up (D-idle-wake): it may have rested while the CPU computed.
const WAKING: usize = 3;

/// Times in a row that must be long before a run is told that its engine slowed down.
const SLOW_IN_A_ROW: usize = 3;

/// A wrong answer to a question whose answer is known. [`Canary::ask`] carries it in an [`AneError`]
/// ([`AneError::as_own`]).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the device gave a wrong answer to a question whose answer is known: {how}; `anegpt doctor` says \
     more"
)]
pub struct Sick {
    /// In which way it is wrong.
    pub how: String,
}

/// The known-answer program, compiled once, to be asked between the steps of a training run.
#[derive(Debug)]
pub struct Canary {
    bench: Bench,
    /// Questions asked: every one with other numbers.
    asked: usize,
    /// Seconds of the fastest answer of an engine that is awake.
    fastest: f64,
    /// Slow ones in a row.
    slow: usize,
}

impl Canary {
    /// Compiles the canary.
    ///
    /// # Errors
    /// Those of the device.
    pub fn new(device: &dyn Device) -> Result<Self, AneError> {
        let bench = Bench::compile(device, &matmul_program()?, &Weights::new())?;
        Ok(Canary { bench, asked: 0, fastest: f64::INFINITY, slow: 0 })
    }

    /// Asks for products of two matrices that are others every time, so that a stale answer is a
    /// wrong one. The first three wake the engine up, the time of the fourth counts. Takes four
    /// dispatches and as many products of 64×64 matrices on the CPU. Gives what is not wrong but
    /// worth a warning: answers that take several times as long as they did.
    ///
    /// # Errors
    /// Those of the device; [`Sick`] when the answer is wrong.
    pub fn ask(&mut self) -> Result<Option<String>, AneError> {
        for _ in 0..WAKING {
            self.question()?;
        }
        let seconds = self.question()?;
        self.fastest = self.fastest.min(seconds);
        self.slow = if seconds > SLOWED * self.fastest { self.slow + 1 } else { 0 };
        Ok((self.slow == SLOW_IN_A_ROW).then(|| {
            format!(
                "the engine slowed down: a request that took {:.3} ms takes {:.3} ms (D-slow-down); \
                 going on from a checkpoint in a new process may help",
                1e3 * self.fastest,
                1e3 * seconds
            )
        }))
    }

    /// One question, and the seconds that its answer took.
    fn question(&mut self) -> Result<f64, AneError> {
        self.asked += 1;
        let (a, b) = (small(AREA, self.asked % 4 + 1), small(AREA, self.asked % 3 + 2));
        self.bench.write(&[&a, &b])?;
        let seconds = self.bench.run()?;
        let got = self.bench.read()?;
        match wrong(&got, &product(&a, &b, SIDE, SIDE)) {
            Some(how) => Err(AneError::own(Sick { how })),
            None => Ok(seconds),
        }
    }
}
