//! Running a trace on the emulator.

use super::compare::{Comparison, compare};
use super::explain::{Evidence, Explanation, Traits, elements};
use super::form::{ProgramTrace, RunTrace, Trace, TraceError};
use crate::array::Array;
use ane::AneError;
use ane::Emulator;
use ane::Surface;
use ane::{Device, Executable, Port};
use chip::legal::{self, Severity};
use chip::{Generation, Profile};
use cpu::Numerics;
use mil::{Function, Program};
use serde::Serialize;

/// An output of a run against the emulator's: `left` is recorded, `right` replayed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputReplay {
    /// Index of the run in the program.
    pub run: usize,
    /// Name of the output.
    pub name: String,
    /// How far they are apart.
    pub comparison: Comparison,
    /// Facts that predict the differences.
    pub explanations: Vec<Explanation>,
    /// Differing elements that no fact predicts.
    pub unexplained: usize,
}

/// A program of the trace on the emulator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProgramReplay {
    /// Rules (or the reader) that refuse the program on the recording profile, although it ran: what a trace from
    /// a real engine refutes. Empty when the profile is unknown.
    pub refuted_rules: Vec<String>,
    /// Every output of every run.
    pub outputs: Vec<OutputReplay>,
}

/// The findings of a replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// Per program of the trace.
    pub programs: Vec<ProgramReplay>,
}

impl Replay {
    /// Every output.
    pub fn outputs(&self) -> impl Iterator<Item = &OutputReplay> {
        self.programs.iter().flat_map(|program| &program.outputs)
    }

    /// Differing elements that no fact predicts.
    pub fn unexplained(&self) -> usize {
        self.outputs().map(|output| output.unexplained).sum()
    }
}

/// Runs every program of the trace on the emulator with `numerics`, on the recorded inputs.
///
/// # Errors
/// When a program of the trace is not valid or does not have the ports that the trace says.
pub fn replay(trace: &Trace, numerics: Numerics) -> Result<Replay, TraceError> {
    let profile = profile(trace);
    let programs = (trace.programs.iter().enumerate())
        .map(|(index, program)| {
            replay_program(program, profile, numerics)
                .map_err(|message| TraceError::Program { index, message })
        })
        .collect::<Result<_, _>>()?;
    Ok(Replay { programs })
}

/// The profile a trace was recorded on, as far as it is known.
fn profile(trace: &Trace) -> Option<Profile> {
    let machine = &trace.machine;
    let defaults = Profile::default();
    Some(Profile {
        chip: machine.chip.as_deref()?.parse().ok()?,
        os: machine.os.as_deref().and_then(|os| os.parse().ok()).unwrap_or(defaults.os),
        path: machine.path.as_deref().and_then(|p| p.parse().ok()).unwrap_or(defaults.path),
    })
}

fn replay_program(
    traced: &ProgramTrace,
    profile: Option<Profile>,
    numerics: Numerics,
) -> Result<ProgramReplay, String> {
    let program = match mil::check_text(&traced.text) {
        Ok(program) => program,
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            // A machine may take what we do not read; with runs it would have to be computed.
            return match traced.runs.is_empty() {
                true => Ok(ProgramReplay { refuted_rules: faults, outputs: vec![] }),
                false => Err(faults.join("\n")),
            };
        }
    };
    let refuted_rules = profile.map_or(vec![], |profile| {
        let found = legal::violations(&program, &profile);
        let severe = found.iter().filter(|v| v.rule.severity == Severity::Error);
        severe.map(ToString::to_string).collect()
    });
    // Without a run nothing vouches for the sizes of the ports, and there is nothing to compare.
    if traced.runs.is_empty() {
        return Ok(ProgramReplay { refuted_rules, outputs: vec![] });
    }
    let mut emulated = Runner::new(traced, &program, profile, numerics)?;
    let mut reference = Runner::new(traced, &program, None, Numerics::F32)?;
    let mut others = (VARIATIONS.into_iter().filter(|v| v.0 != numerics))
        .map(|(numerics, fact, pattern)| {
            Ok((Runner::new(traced, &program, profile, numerics)?, fact, pattern))
        })
        .collect::<Result<Vec<_>, String>>()?;
    let mut outputs = vec![];
    for (index, run) in traced.runs.iter().enumerate() {
        let order: Vec<usize> = (0..run.inputs.len()).collect();
        let replayed = emulated.run(run, &order).map_err(|e| e.to_string())?;
        let exact = reference.run(run, &order).map_err(|e| e.to_string())?;
        let whole = whole_run(traced, run, &replayed, &mut emulated);
        let differ = run.outputs.iter().zip(&replayed).any(|(a, b)| !same(a, b));
        let variations = (others.iter_mut().filter(|_| differ))
            .map(|(runner, fact, pattern)| {
                Ok(Variation { fact, pattern, outputs: runner.run(run, &order)? })
            })
            .collect::<Result<_, AneError>>()
            .map_err(|e| e.to_string())?;
        let judge = Judge { traced, function: &program.functions[0], profile, whole, variations };
        outputs.extend(judge.outputs(index, run, &replayed, &exact));
    }
    Ok(ProgramReplay { refuted_rules, outputs })
}

/// A compiled program of the trace with its surfaces.
struct Runner {
    exe: Box<dyn Executable>,
    inputs: Vec<Surface>,
    outputs: Vec<Surface>,
}

impl Runner {
    /// On the engine where it accepts the program, so that what depends on the chip is emulated;
    /// else without rules.
    fn new(
        traced: &ProgramTrace,
        program: &Program,
        profile: Option<Profile>,
        numerics: Numerics,
    ) -> Result<Self, String> {
        let engine = profile.map(|profile| Emulator::engine(profile, numerics));
        let on = |device: &Emulator| -> Result<Option<Runner>, AneError> {
            let exe = device.compile(program, &traced.weights)?;
            if exe.inputs() != traced.inputs || exe.outputs() != traced.outputs {
                return Ok(None);
            }
            let ports = || exe.inputs().iter().chain(exe.outputs());
            let largest = ports().map(|port| port.ty.bytes()).max().unwrap_or(0);
            let allocation = largest.max(device.least_allocation());
            let surfaces = |ports: &[Port]| -> Result<Vec<Surface>, AneError> {
                ports.iter().map(|port| device.surface(&port.ty, allocation)).collect()
            };
            let (inputs, outputs) = (surfaces(exe.inputs())?, surfaces(exe.outputs())?);
            Ok(Some(Runner { exe, inputs, outputs }))
        };
        let runner = match engine.map(|device| on(&device)) {
            Some(Ok(runner)) => runner,
            _ => on(&Emulator::cpu(numerics)).map_err(|e| e.to_string())?,
        };
        runner.ok_or_else(|| "its ports are not those that the trace names".to_owned())
    }

    /// Outputs for the inputs of `run`, that of port i being recorded input `order[i]`.
    fn run(&mut self, run: &RunTrace, order: &[usize]) -> Result<Vec<Array>, AneError> {
        for (surface, &from) in self.inputs.iter().zip(order) {
            surface.write(&run.inputs[from].values)?;
        }
        let (i, o): (Vec<_>, Vec<_>) =
            (self.inputs.iter().collect(), self.outputs.iter().collect());
        self.exe.run(&i, &o)?;
        let read = |surface: &Surface| {
            let mut values = vec![0.0; surface.ty().count()];
            surface.read(&mut values)?;
            Ok(Array { ty: surface.ty().clone(), values })
        };
        self.outputs.iter().map(read).collect()
    }
}

fn same(a: &Array, b: &Array) -> bool {
    compare(a, b).is_some_and(|c| c.differing == 0)
}

/// A mistake of the request that explains all outputs at once: inputs or outputs bound in another
/// order.
fn whole_run(
    traced: &ProgramTrace,
    run: &RunTrace,
    replayed: &[Array],
    emulated: &mut Runner,
) -> Option<(&'static str, &'static str)> {
    let all_same = |a: &[Array], b: &[Array]| a.iter().zip(b).all(|(a, b)| same(a, b));
    if all_same(&run.outputs, replayed) {
        return None;
    }
    let types = |ports: &[Port]| ports.iter().map(|p| p.ty.clone()).collect::<Vec<_>>();
    for order in permutations(&types(&traced.outputs)) {
        let permuted: Vec<Array> = order.iter().map(|&i| replayed[i].clone()).collect();
        if all_same(&run.outputs, &permuted) {
            return Some(("C1-alphabetical", "the outputs are right, but in another order"));
        }
    }
    for order in permutations(&types(&traced.inputs)) {
        if emulated.run(run, &order).is_ok_and(|permuted| all_same(&run.outputs, &permuted)) {
            return Some(("C1-alphabetical", "right for the inputs in another order"));
        }
    }
    None
}

/// Orders of ports that exchange only those of one type, the identity left out; none where there
/// are more than 5! of them.
fn permutations<T: PartialEq>(types: &[T]) -> Vec<Vec<usize>> {
    const MOST: usize = 120;
    let mut all: Vec<Vec<usize>> = vec![vec![]];
    for (at, ty) in types.iter().enumerate() {
        let mut longer = vec![];
        for order in &all {
            let free = (0..types.len()).filter(|i| !order.contains(i) && types[*i] == *ty);
            longer.extend(free.map(|i| [&order[..], &[i]].concat()));
            if longer.len() > MOST {
                return vec![];
            }
        }
        all = longer;
        debug_assert!(all.iter().all(|order| order.len() == at + 1));
    }
    all.retain(|order| order.iter().enumerate().any(|(i, &from)| i != from));
    all
}

/// The context in which the outputs of a run are judged.
struct Judge<'a> {
    traced: &'a ProgramTrace,
    function: &'a Function,
    profile: Option<Profile>,
    whole: Option<(&'static str, &'static str)>,
    variations: Vec<Variation>,
}

/// The results of another arithmetic of the emulator, and the meaning of a recording that matches
/// them.
struct Variation {
    fact: &'static str,
    pattern: &'static str,
    outputs: Vec<Array>,
}

/// The message when only the documented arithmetic as a whole explains a difference.
const EXACT: &str = "exact-arithmetic";

/// The other arithmetics.
const VARIATIONS: [(Numerics, &str, &str); 3] = [
    (Numerics::F32, "reference-precision", "what f32 gives: not an engine's arithmetic"),
    (Numerics::Fast, "fast-arithmetic", "what the emulator's fast arithmetic gives"),
    (Numerics::Exact, EXACT, "what the engine's arithmetic gives as far as it is documented"),
];

impl Judge<'_> {
    fn outputs(
        &self,
        index: usize,
        run: &RunTrace,
        replayed: &[Array],
        exact: &[Array],
    ) -> Vec<OutputReplay> {
        let traits = Traits::of(self.function);
        let slice_gain =
            self.profile.is_none_or(|p: Profile| p.chip.generation() < Generation::A15);
        let mut found = vec![];
        for (i, port) in self.traced.outputs.iter().enumerate() {
            let (recorded, replayed, reference) = (&run.outputs[i], &replayed[i], &exact[i]);
            let Some(comparison) = compare(recorded, replayed) else { continue };
            let Some(output) = self.function.find(&port.name) else { continue };
            let function = self.function;
            let evidence =
                Evidence { function, output, traits, slice_gain, recorded, replayed, reference };
            let all = comparison.differing;
            let one = |fact, pattern| (vec![Explanation { fact, elements: all, pattern }], 0);
            let zeros = |array: &Array| array.values.iter().all(|&v| v == 0.0);
            let (explanations, unexplained) = match self.whole {
                _ if all == 0 => (vec![], 0),
                Some((fact, pattern)) => one(fact, pattern),
                None if zeros(recorded) && !zeros(replayed) => {
                    one("C1-monotone-sizes", "nothing but zeros, as from a faulty request")
                }
                None => match self.variations.iter().find(|v| same(recorded, &v.outputs[i])) {
                    // Single facts say more than the arithmetic as a whole, where they suffice.
                    Some(variation) if variation.fact == EXACT => match elements(&evidence) {
                        (found, 0) => (found, 0),
                        _ => one(variation.fact, variation.pattern),
                    },
                    Some(variation) => one(variation.fact, variation.pattern),
                    None => elements(&evidence),
                },
            };
            let name = port.name.clone();
            found.push(OutputReplay { run: index, name, comparison, explanations, unexplained });
        }
        found
    }
}
