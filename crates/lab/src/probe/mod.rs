//! Questions to a machine: small experiments that the facts rest on, and those that nobody has made.
//!
//! Each [`Probe`] asks one thing, runs in seconds, and says which facts ([`chip::facts`]) its answer
//! supports or contradicts. On the emulator the same probes run: what it computes must be as the
//! facts say, its times are forecasts of the cost model, and a question that only an engine can
//! answer is answered with what the emulator assumes.

mod benchmarks;
mod gaps;
mod session;

pub use session::{Outcome, Verdict};

use ane::{AneError, Device};
use session::Session;

type Run = fn(&mut Session<'_>) -> Result<Outcome, AneError>;

/// An experiment.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its question.
    pub question: &'static str,
    /// True if it is one of the open questions: nobody has answered it yet.
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
