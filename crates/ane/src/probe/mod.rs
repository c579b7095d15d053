//! Questions to a machine: small experiments that the facts rest on, and those that nobody has made.
//!
//! Each [`Probe`] asks one thing, runs in seconds, and says which facts ([`chip::facts`]) its answer
//! supports or contradicts. On the emulator the same probes run: what it computes must be as the
//! facts say, its times are forecasts of the cost model, and a question that only an engine can
//! answer is answered with what the emulator assumes.

mod benchmarks;
mod gaps;

use crate::bench::Bench;
use crate::device::{Device, Executable};
use crate::error::AneError;
use chip::Profile;
use chip::cost::{estimate, published::rows};
use chip::legal::Refusal;
use mil::{Program, Weights};

/// What a probe says of the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The machine does what they say.
    AsFacts,
    /// It does something else.
    Against,
    /// An emulator did what it assumes; only an engine can tell.
    Assumed,
    /// Measured where nothing is known to compare with.
    Measured,
    /// The device has nothing that could be asked.
    NotApplicable,
}

impl Verdict {
    /// Name in reports and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::AsFacts => "as the facts say",
            Verdict::Against => "against the facts",
            Verdict::Assumed => "assumed",
            Verdict::Measured => "measured",
            Verdict::NotApplicable => "not applicable",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Heads of the columns.
    pub columns: Vec<&'static str>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<String>>,
    /// The verdict.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub says: String,
    /// Facts that the answer supports.
    pub supports: Vec<&'static str>,
    /// Facts that it contradicts.
    pub contradicts: Vec<&'static str>,
}

impl Outcome {
    fn new(columns: &[&'static str], rows: Vec<Vec<String>>) -> Self {
        let (supports, contradicts) = (vec![], vec![]);
        let (verdict, says) = (Verdict::Measured, String::new());
        Outcome { columns: columns.to_vec(), rows, verdict, says, supports, contradicts }
    }

    /// Holds or does not hold what `facts` say.
    fn judge(self, holds: bool, facts: &[&'static str], says: String) -> Self {
        let facts = facts.to_vec();
        match holds {
            true => Outcome { verdict: Verdict::AsFacts, supports: facts, says, ..self },
            false => Outcome { verdict: Verdict::Against, contradicts: facts, says, ..self },
        }
    }

    /// Judges each of `facts` by itself. A fact whose experiment failed is none of them.
    fn judge_each(self, facts: &[(&'static str, bool)], says: String) -> Self {
        let of_those = |holding: bool| -> Vec<&'static str> {
            facts.iter().filter(|(_, holds)| *holds == holding).map(|(fact, _)| *fact).collect()
        };
        let (held, broken) = (of_those(true), of_those(false));
        match (held.is_empty(), broken.is_empty()) {
            (true, true) => Outcome { says, ..self },
            (false, true) => self.judge(true, &held, says),
            (_, false) => Outcome { supports: held, ..self.judge(false, &broken, says) },
        }
    }

    /// As [`Outcome::open`], with a judgement of each fact.
    fn weigh(self, of: &Session<'_>, facts: &[(&'static str, bool)], says: String) -> Self {
        self.judge_each(facts, says).known_by(of)
    }

    /// Nothing to ask.
    fn not_applicable(reason: &str) -> Self {
        Outcome {
            verdict: Verdict::NotApplicable,
            says: reason.to_owned(),
            ..Self::new(&[], vec![])
        }
    }

    /// On an engine as [`Outcome::judge`]; an emulator that does what it assumes proves nothing.
    fn open(self, of: &Session<'_>, holds: bool, facts: &[&'static str], says: String) -> Self {
        self.judge(holds, facts, says).known_by(of)
    }

    fn known_by(self, of: &Session<'_>) -> Self {
        match self.verdict {
            _ if !of.emulated => self,
            Verdict::AsFacts => {
                let says = format!(
                    "the emulator assumes {}: {}; only an engine can tell",
                    self.supports.join(", "),
                    self.says
                );
                Outcome { verdict: Verdict::Assumed, supports: vec![], says, ..self }
            }
            _ => Outcome { supports: vec![], ..self },
        }
    }
}

type Run = fn(&mut Session<'_>) -> Result<Outcome, AneError>;

/// An experiment.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// Whether it is one of the open questions: nobody has answered it yet.
    pub open: bool,
    run: Run,
}

impl Probe {
    /// Runs it on `device`; `emulated` says whether that is a program of ours.
    ///
    /// # Errors
    /// Those of the device.
    pub fn run(&self, device: &dyn Device, emulated: bool) -> Result<Outcome, AneError> {
        let profile = device.profile().unwrap_or_default();
        (self.run)(&mut Session { device, emulated, profile })
    }

    /// The probe called `name`.
    pub fn named(name: &str) -> Option<&'static Probe> {
        PROBES.iter().find(|probe| probe.name == name)
    }
}

const fn known(name: &'static str, question: &'static str, run: Run) -> Probe {
    Probe { name, question, open: false, run }
}

const fn open(name: &'static str, question: &'static str, run: Run) -> Probe {
    Probe { name, question, open: true, run }
}

/// Every probe, in the order in which `all` runs them: the one that may use up what a process can
/// compile comes last.
pub static PROBES: [Probe; 21] = [
    known("in-memory", "Does a program from memory compile, load and run?", benchmarks::in_memory),
    known(
        "dispatch",
        "What does a request take that computes next to nothing?",
        benchmarks::dispatch,
    ),
    known("peak", "How much arithmetic can a chain of convolutions do?", benchmarks::peak),
    known("working-set", "Where do larger weights begin to cost time?", benchmarks::working_set),
    known("qos", "Does the quality of service change times?", benchmarks::quality_of_service),
    known(
        "perf-stats",
        "Does the hardware report its own times?",
        benchmarks::performance_statistics,
    ),
    known("weight-reload", "Do constants change after compiling?", benchmarks::weight_reload),
    known(
        "dynamic-matmul",
        "Do weights given as inputs need no compiling?",
        benchmarks::dynamic_matmul,
    ),
    known("fused", "What does one program in place of three save?", benchmarks::fused),
    known("causal-attention", "Does attention keep its mask?", benchmarks::causal_attention),
    known("classifier", "Does a product over a large vocabulary run?", benchmarks::classifier),
    known(
        "chaining",
        "Can one program read what another wrote, without a copy?",
        benchmarks::chaining,
    ),
    known("real-time", "Is the real-time call faster?", benchmarks::real_time),
    open(
        "law",
        "Do products of inputs and 1x1 convolutions follow the law of products, bit by bit?",
        gaps::law,
    ),
    open(
        "product-corners",
        "What of subnormal factors, and of partial sums beyond 2^15?",
        gaps::product_corners,
    ),
    open("reductions", "By which steps are sums over an axis rounded?", gaps::reductions),
    open("activations", "What are the tables of the activations?", gaps::activations),
    open("surfaces", "Which sizes of surfaces does a request take?", gaps::surfaces),
    open("spelling", "Which spellings of arguments compile?", gaps::spelling),
    open("notch", "Does reading weights slow down near 1 MiB per core?", gaps::notch),
    open("compiles", "How many programs can a process compile that releases each?", gaps::compiles),
];

/// The machine that is asked.
struct Session<'a> {
    device: &'a dyn Device,
    emulated: bool,
    profile: Profile,
}

/// Seconds of a program.
#[derive(Clone, Copy, Debug)]
struct Timed {
    /// Nothing where an emulator would compute for seconds to no end.
    measured: Option<f64>,
    /// The cost model's, with its ends.
    forecast: (f64, f64, f64),
    /// What counts: the time measured on an engine, the forecast of an emulated one.
    judged: f64,
}

impl Timed {
    fn cells(&self) -> [String; 2] {
        let (middle, low, high) = self.forecast;
        let measured = self.measured.map_or("-".to_owned(), ms);
        [measured, format!("{} ({} to {})", ms(middle), ms(low), ms(high))]
    }
}

fn ms(seconds: f64) -> String {
    format!("{:.3}", 1e3 * seconds)
}

impl Session<'_> {
    fn bench(&self, program: &Program, weights: &Weights) -> Result<Bench, AneError> {
        Bench::compile(self.device, program, weights)
    }

    /// Runs of which the median counts.
    fn runs(&self) -> usize {
        if self.emulated { 3 } else { 51 }
    }

    /// Times a program with zeros as inputs.
    fn time(&self, program: &Program, weights: &Weights) -> Result<Timed, AneError> {
        let measured = self.bench(program, weights)?.median(self.runs())?;
        Ok(self.timed(program, Some(measured)))
    }

    /// Times a large program on an engine; what an emulator takes for it says nothing, so that it
    /// need not compute.
    fn time_engine(
        &self,
        program: &Program,
        weights: impl Fn() -> Weights,
    ) -> Result<Timed, AneError> {
        match self.emulated {
            true => Ok(self.timed(program, None)),
            false => self.time(program, &weights()),
        }
    }

    /// The seconds of a program beside its forecast.
    fn timed(&self, program: &Program, measured: Option<f64>) -> Timed {
        let f = estimate(&program.functions[0], &self.profile);
        let judged = measured.filter(|_| !self.emulated).unwrap_or(f.seconds);
        Timed { measured, forecast: (f.seconds, f.low, f.high), judged }
    }

    /// Head of a column with times that were measured.
    fn clock(&self) -> &'static str {
        if self.emulated { "ms on this CPU" } else { "ms" }
    }

    /// Milliseconds that are published of this chip for `what` ([`chip::cost::published`]).
    fn published(&self, what: &str) -> String {
        let chip = self.profile.chip.facts().name;
        let row = rows().into_iter().find(|row| row.chip == chip && row.what == what);
        row.map_or("-".to_owned(), |row| match row.range {
            (low, high) if low < high => format!("{low:.3} to {high:.3}"),
            _ => format!("{:.3}", row.ms),
        })
    }

    /// Has the machine itself compile `text`, with the ports of `like`, past our own rules: a refusal
    /// must be the machine's word.
    fn compile_unchecked(
        &self,
        text: &str,
        weights: &Weights,
        like: &Program,
    ) -> Result<Box<dyn Executable>, AneError> {
        let unchecked = self.device.compile_unchecked(text, weights, like);
        unchecked.unwrap_or_else(|| {
            let program = mil::parse(text).map_err(|fault| AneError::Refused {
                refusal: Refusal::InvalidMilProgram,
                path: self.profile.path,
                violations: vec![],
                log: vec![fault.to_string()],
            })?;
            self.device.compile(&program, weights)
        })
    }

    /// As [`Session::compile_unchecked`], of a program that we can write.
    fn compile_past_rules(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        self.compile_unchecked(&program.to_string(), weights, program)
    }

    /// What a sentence about times begins with.
    fn source(&self) -> &'static str {
        if self.emulated { "by the cost model" } else { "measured" }
    }

    /// Facts that begin with `prefix` and are about this machine.
    fn facts(&self, prefix: &str) -> Vec<&'static str> {
        let of = |f: &&crate::Fact| f.id.starts_with(prefix) && f.holds(&self.profile) && f.default;
        chip::facts::facts().filter(of).map(|f| f.id).collect()
    }
}

/// A run that failed, in a word: the status of a refused request, which says all, or the last line.
fn failure(error: &AneError) -> String {
    let words = error.to_string();
    let last = words.lines().last().unwrap_or_default();
    let status = last.find("status=").map(|at| &last[at..]);
    let status = status.and_then(|s| s.split([' ', ':']).next());
    status.unwrap_or(last).to_owned()
}

fn row<const N: usize>(cells: [String; N]) -> Vec<String> {
    cells.to_vec()
}
