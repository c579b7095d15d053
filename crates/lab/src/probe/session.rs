//! The machine that is asked, and the form of its answers.

use crate::bench::Bench;
use ane::{AneError, Device, Executable};
use chip::Profile;
use chip::cost::{estimate, published::rows};
use chip::legal::Refusal;
use mil::{Program, Weights};

/// The verdict of a probe on the facts.
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

/// The findings.
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
    pub(super) fn new(columns: &[&'static str], rows: Vec<Vec<String>>) -> Self {
        let (supports, contradicts) = (vec![], vec![]);
        let (verdict, says) = (Verdict::Measured, String::new());
        Outcome { columns: columns.to_vec(), rows, verdict, says, supports, contradicts }
    }

    /// Holds or does not hold what `facts` say.
    pub(super) fn judge(self, holds: bool, facts: &[&'static str], says: String) -> Self {
        let facts = facts.to_vec();
        match holds {
            true => Outcome { verdict: Verdict::AsFacts, supports: facts, says, ..self },
            false => Outcome { verdict: Verdict::Against, contradicts: facts, says, ..self },
        }
    }

    /// Judges each of `facts` by itself. A fact whose experiment failed is none of them.
    pub(super) fn judge_each(self, facts: &[(&'static str, bool)], says: String) -> Self {
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
    pub(super) fn weigh(
        self,
        of: &Session<'_>,
        facts: &[(&'static str, bool)],
        says: String,
    ) -> Self {
        self.judge_each(facts, says).known_by(of)
    }

    /// Nothing to ask.
    pub(super) fn not_applicable(reason: &str) -> Self {
        Outcome {
            verdict: Verdict::NotApplicable,
            says: reason.to_owned(),
            ..Self::new(&[], vec![])
        }
    }

    /// On an engine as [`Outcome::judge`]; an emulator that does what it assumes proves nothing.
    pub(super) fn open(
        self,
        of: &Session<'_>,
        holds: bool,
        facts: &[&'static str],
        says: String,
    ) -> Self {
        self.judge(holds, facts, says).known_by(of)
    }

    pub(super) fn known_by(self, of: &Session<'_>) -> Self {
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

/// The machine that is asked.
pub(super) struct Session<'a> {
    pub(super) device: &'a dyn Device,
    pub(super) emulated: bool,
    pub(super) profile: Profile,
}

/// Seconds of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    /// Nothing where an emulator would compute for seconds to no end.
    pub(super) measured: Option<f64>,
    /// The cost model's, with its ends.
    pub(super) forecast: (f64, f64, f64),
    /// The time that counts: measured on an engine, forecast for an emulated one.
    pub(super) judged: f64,
}

impl Timed {
    pub(super) fn cells(&self) -> [String; 2] {
        let (middle, low, high) = self.forecast;
        let measured = self.measured.map_or("-".to_owned(), ms);
        [measured, format!("{} ({} to {})", ms(middle), ms(low), ms(high))]
    }
}

pub(super) fn ms(seconds: f64) -> String {
    format!("{:.3}", 1e3 * seconds)
}

impl Session<'_> {
    pub(super) fn bench(&self, program: &Program, weights: &Weights) -> Result<Bench, AneError> {
        Bench::compile(self.device, program, weights)
    }

    /// Runs of which the median counts.
    pub(super) fn runs(&self) -> usize {
        if self.emulated { 3 } else { 51 }
    }

    /// Times a program with zeros as inputs.
    pub(super) fn time(&self, program: &Program, weights: &Weights) -> Result<Timed, AneError> {
        let measured = self.bench(program, weights)?.median(self.runs())?;
        Ok(self.timed(program, Some(measured)))
    }

    /// Times a large program on an engine; what an emulator takes for it says nothing, so that it
    /// need not compute.
    pub(super) fn time_engine(
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
    pub(super) fn timed(&self, program: &Program, measured: Option<f64>) -> Timed {
        let f = estimate(&program.functions[0], &self.profile);
        let judged = measured.filter(|_| !self.emulated).unwrap_or(f.seconds);
        Timed { measured, forecast: (f.seconds, f.low, f.high), judged }
    }

    /// Head of a column with times that were measured.
    pub(super) fn clock(&self) -> &'static str {
        if self.emulated { "ms on this CPU" } else { "ms" }
    }

    /// Milliseconds that are published of this chip for `what` ([`chip::cost::published`]).
    pub(super) fn published(&self, what: &str) -> String {
        let chip = self.profile.chip.facts().name;
        let row = rows().into_iter().find(|row| row.chip == chip && row.what == what);
        row.map_or("-".to_owned(), |row| match row.range {
            (low, high) if low < high => format!("{low:.3} to {high:.3}"),
            _ => format!("{:.3}", row.ms),
        })
    }

    /// Has the machine itself compile `text`, with the ports of `like`, past our own rules: a refusal
    /// must be the machine's word.
    pub(super) fn compile_unchecked(
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
    pub(super) fn compile_past_rules(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError> {
        self.compile_unchecked(&program.to_string(), weights, program)
    }

    /// The beginning of a sentence about times.
    pub(super) fn source(&self) -> &'static str {
        if self.emulated { "by the cost model" } else { "measured" }
    }

    /// Facts that begin with `prefix` and are about this machine.
    pub(super) fn facts(&self, prefix: &str) -> Vec<&'static str> {
        let of = |f: &&chip::Fact| f.id.starts_with(prefix) && f.holds(&self.profile) && f.default;
        chip::facts::facts().filter(of).map(|f| f.id).collect()
    }
}

/// A run that failed, in a word: the status of a refused request, which says all, or the last line.
pub(super) fn failure(error: &AneError) -> String {
    let words = error.to_string();
    let last = words.lines().last().unwrap_or_default();
    let status = last.find("status=").map(|at| &last[at..]);
    let status = status.and_then(|s| s.split([' ', ':']).next());
    status.unwrap_or(last).to_owned()
}

pub(super) fn row<const N: usize>(cells: [String; N]) -> Vec<String> {
    cells.to_vec()
}
