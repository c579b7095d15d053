//! Requests as the machine takes them: the index of a procedure, and surfaces of bytes by position.
//!
//! [`crate::Executable`] binds typed surfaces, so that most mistakes cannot be made. The machine
//! knows bytes only: whatever stands at a position is read from byte 0 in the shape of the port
//! there. This is that interface, for code that drives it by hand, with every published way to get
//! it wrong (docs/ane-facts.md C.1, D, A.6). In [`Strictness::Strict`] the ways that are silent on the
//! machine are errors that name the fact; in [`Strictness::Hardware`] the data are as wrong as
//! there.

use super::raw::{DataLayout, Holding, RawSurface, SurfaceObject, matches};
use super::{Compiled, Emulator};
use crate::budget::LoadedProgram;
use crate::bytes::{decode, encode};
use crate::device::{Executable, Port, RunReport};
use crate::error::AneError;
use crate::surface::Surface;
use chip::{AllocationFault, Profile};
use cpu::Numerics;
use mil::{Program, Weights};
use std::collections::VecDeque;
use std::ops::Range;

/// The treatment of requests that the machine carries out with wrong data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// They are refused, naming the fact.
    #[default]
    Strict,
    /// They give the wrong data that the machine gives.
    Hardware,
}

/// Which reading of the sources holds for the sizes of surfaces bound together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SizeRule {
    /// One size for all inputs, one for all outputs, else status 0x1d (ORI #2, #12).
    #[default]
    Uniform,
    /// Inputs may grow and outputs may shrink in binding order, else the outputs are zero without a
    /// word (IMP:ANE_TRAINING.md, M1).
    Monotone,
}

/// How the surfaces of requests are judged. The default is the strictest reading, except that any
/// width is taken: gains of shape [1, C, 1, 1] run on the machine (MAD#22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BindingRules {
    /// The treatment of silent mistakes.
    pub strictness: Strictness,
    /// Which sizes go together.
    pub sizes: SizeRule,
    /// True if widths must be multiples of 16 (RUS:README "silent corruption"; refused in
    /// [`Strictness::Strict`] only, since nobody published what the corruption looks like).
    pub widths_of_16: bool,
}

/// A surface of a request: its symbol in the loaded model, its place, and what was there.
#[derive(Clone, Debug)]
struct Bound {
    symbol: Option<usize>,
    object: SurfaceObject,
    surface: RawSurface,
}

/// Surfaces bound to a procedure by position: inputs, then outputs, each in alphabetical order of
/// the ports' names.
#[derive(Clone, Debug)]
pub struct Request {
    procedure: usize,
    inputs: Vec<Bound>,
    outputs: Vec<Bound>,
}

impl Request {
    /// Binds the surfaces that are in `inputs` and `outputs` now to procedure `procedure`.
    pub fn new(procedure: usize, inputs: &[SurfaceObject], outputs: &[SurfaceObject]) -> Self {
        let bind = |object: &SurfaceObject| Bound {
            symbol: None,
            object: object.clone(),
            surface: object.surface(),
        };
        Request {
            procedure,
            inputs: inputs.iter().map(bind).collect(),
            outputs: outputs.iter().map(bind).collect(),
        }
    }

    /// The same with explicit symbols, one per surface (`inputIndices` and `outputIndices`), instead
    /// of those of the procedure.
    pub fn with_symbols(mut self, inputs: &[usize], outputs: &[usize]) -> Self {
        let name = |bound: &mut [Bound], symbols: &[usize]| {
            bound.iter_mut().zip(symbols).for_each(|(b, &s)| b.symbol = Some(s));
        };
        name(&mut self.inputs, inputs);
        name(&mut self.outputs, outputs);
        self
    }
}

/// One function of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Procedure {
    /// Name of the function.
    pub name: String,
    /// Inputs in binding order.
    pub inputs: Vec<Port>,
    /// Outputs in binding order.
    pub outputs: Vec<Port>,
    /// Symbols of the inputs: they are numbered over all procedures (docs/ane-facts.md A.6).
    pub input_symbols: Range<usize>,
    /// Symbols of the outputs.
    pub output_symbols: Range<usize>,
}

/// A program whose functions are all compiled and loaded, driven by requests.
#[derive(Debug)]
pub struct LoadedModel {
    procedures: Vec<Procedure>,
    executables: Vec<Compiled>,
    profile: Option<Profile>,
    numerics: Numerics,
    rules: BindingRules,
    queue: VecDeque<Request>,
    place: Option<LoadedProgram>,
}

impl Emulator {
    /// Compiles and loads every function of `program`, as one program of the budget.
    ///
    /// # Errors
    /// As [`crate::Device::compile`].
    pub fn load(
        &self,
        program: &Program,
        weights: &Weights,
        rules: BindingRules,
    ) -> Result<LoadedModel, AneError> {
        let place = self.admit(program, weights)?;
        if program.functions.is_empty() {
            return Err(AneError::NoFunction);
        }
        let executables = (program.functions.iter())
            .map(|function| self.lower(function, weights))
            .collect::<Result<Vec<_>, _>>()?;
        let (mut input, mut output) = (0, 0);
        let take = |from: &mut usize, n: usize| {
            *from += n;
            *from - n..*from
        };
        let procedures = (program.functions.iter().zip(&executables))
            .map(|(function, exe)| Procedure {
                name: function.name.clone(),
                inputs: exe.inputs().to_vec(),
                outputs: exe.outputs().to_vec(),
                input_symbols: take(&mut input, exe.inputs().len()),
                output_symbols: take(&mut output, exe.outputs().len()),
            })
            .collect();
        let profile = self.engine.as_ref().map(|engine| engine.profile);
        let (numerics, queue) = (self.numerics, VecDeque::new());
        Ok(LoadedModel { procedures, executables, profile, numerics, rules, queue, place })
    }
}

impl LoadedModel {
    /// The program's functions, by the index that requests name.
    pub fn procedures(&self) -> &[Procedure] {
        &self.procedures
    }

    /// Carries out a request.
    ///
    /// # Errors
    /// The machine's own errors: a wrong procedure or symbol (status 0x2), a wrong number of
    /// surfaces, or sizes that break the rules (0x1d). In [`Strictness::Strict`] also
    /// [`AneError::SilentlyWrong`] for what the machine does not report.
    pub fn evaluate(&mut self, request: &Request) -> Result<RunReport, AneError> {
        let (index, count) = (request.procedure, self.procedures.len());
        let procedure =
            self.procedures.get(index).ok_or(AneError::Procedure { index, count })?.clone();
        let sides = [
            ("input", &request.inputs, &procedure.inputs, procedure.input_symbols.start),
            ("output", &request.outputs, &procedure.outputs, procedure.output_symbols.start),
        ];
        for (what, bound, ports, first) in sides {
            check_symbols(what, index, bound, ports.len(), first)?;
            self.check_sizes(what, bound, ports)?;
        }
        check_sharing(&procedure, request)?;
        let strict = self.rules.strictness == Strictness::Strict;
        for (what, bound, ports, _) in sides {
            if strict {
                self.check_silent(what, bound, ports)?;
            } else if !self.in_order(what, bound) {
                return Ok(zeros(&request.outputs));
            }
        }
        let (bytes, report) = run(&mut self.executables[index], self.numerics, &request.inputs)?;
        for ((bound, port), from) in request.outputs.iter().zip(&procedure.outputs).zip(bytes) {
            let mut contents = bound.surface.lock();
            contents.bytes[..from.len()].copy_from_slice(&from);
            contents.holding = strict.then(|| packed(port));
        }
        Ok(report)
    }

    fn check_sizes(
        &self,
        what: &'static str,
        bound: &[Bound],
        ports: &[Port],
    ) -> Result<(), AneError> {
        let sizes: Vec<usize> = bound.iter().map(|b| b.surface.allocation()).collect();
        for (index, (port, &got)) in ports.iter().zip(&sizes).enumerate() {
            let minimum = port.ty.bytes();
            if got < minimum {
                return Err(AneError::SurfaceTooSmall { what, index, minimum, got });
            }
        }
        match (&self.profile, self.rules.sizes) {
            (None, _) => Ok(()),
            (Some(profile), SizeRule::Uniform) => profile.check_allocations(&sizes),
            // One at a time, so that only the smallest size is asked for.
            (Some(profile), SizeRule::Monotone) => {
                let mut indexed = sizes.iter().enumerate();
                indexed.try_for_each(|(index, &n)| match profile.check_allocations(&[n]) {
                    Err(AllocationFault::TooSmall { minimum, got, .. }) => {
                        Err(AllocationFault::TooSmall { index, minimum, got })
                    }
                    other => other,
                })
            }
        }
        .map_err(|fault| AneError::allocation(what, fault))
    }

    /// True if sizes grow over inputs and shrink over outputs, where that is the rule.
    fn in_order(&self, what: &str, bound: &[Bound]) -> bool {
        let sizes: Vec<usize> = bound.iter().map(|b| b.surface.allocation()).collect();
        self.rules.sizes == SizeRule::Uniform
            || sizes.windows(2).all(|w| if what == "input" { w[0] <= w[1] } else { w[0] >= w[1] })
    }

    fn check_silent(&self, what: &str, bound: &[Bound], ports: &[Port]) -> Result<(), AneError> {
        let silent = |fact, message| Err(AneError::SilentlyWrong { fact, message });
        if !self.in_order(what, bound) {
            let message = format!(
                "sizes of {what} surfaces must not {} in binding order",
                if what == "input" { "shrink" } else { "grow" }
            );
            return silent("C1-monotone-sizes", message);
        }
        for (index, (bound, port)) in bound.iter().zip(ports).enumerate() {
            let place = format!("{what} surface {index}");
            if !bound.surface.same(&bound.object.surface()) {
                let message = format!(
                    "{place} (port `{}`) was replaced after the request was built: build the \
                     request again",
                    port.name
                );
                return silent("C1-rebuild-request", message);
            }
            let width = port.ty.shape.last().copied().unwrap_or(1);
            if self.rules.widths_of_16 && !width.is_multiple_of(16) {
                let message = format!(
                    "{place} (port `{}`) has a width of {width}: pad it to a multiple of 16",
                    port.name
                );
                return silent("C1-width-16", message);
            }
            if what == "input"
                && let Some(held) = bound.surface.holding()
            {
                matches(&place, &held, &packed(port))?;
            }
        }
        Ok(())
    }

    /// Puts a request into the program's queue, which [`LoadedModel::complete`] works off in order:
    /// the machine carries out one request at a time.
    ///
    /// # Errors
    /// [`AneError::InFlight`] when the queue is full.
    pub fn submit(&mut self, request: &Request) -> Result<(), AneError> {
        let limit = self.profile.map_or(usize::MAX, |profile| profile.limits().in_flight);
        if self.queue.len() >= limit {
            return Err(AneError::InFlight { limit });
        }
        self.queue.push_back(request.clone());
        Ok(())
    }

    /// Requests submitted and not completed.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    /// Carries out the oldest submitted request; `None` when there is none.
    pub fn complete(&mut self) -> Option<Result<RunReport, AneError>> {
        let request = self.queue.pop_front()?;
        Some(self.evaluate(&request))
    }

    /// Loses the program without unloading it, as a process does that drops its handle: the place
    /// stays taken, and when all are, loading ends in 0x50004.
    pub fn leak(mut self) {
        if let Some(place) = self.place.take() {
            place.leak();
        }
    }
}

fn packed(port: &Port) -> Holding {
    Holding { name: port.name.clone(), ty: port.ty.clone(), layout: DataLayout::Packed }
}

fn check_symbols(
    what: &'static str,
    procedure: usize,
    bound: &[Bound],
    expected: usize,
    first: usize,
) -> Result<(), AneError> {
    if bound.len() != expected {
        return Err(AneError::SurfaceCount { what, expected, got: bound.len() });
    }
    for (index, b) in bound.iter().enumerate() {
        let expected = first + index;
        if let Some(got) = b.symbol.filter(|&symbol| symbol != expected) {
            return Err(AneError::Symbol { what, index, procedure, expected, got });
        }
    }
    Ok(())
}

/// No output may be written into another surface of the request: nobody published what happens.
fn check_sharing(procedure: &Procedure, request: &Request) -> Result<(), AneError> {
    let inputs = request.inputs.iter().zip(&procedure.inputs);
    let outputs = request.outputs.iter().zip(&procedure.outputs);
    for (i, (out, port)) in outputs.clone().enumerate() {
        let mut others = inputs.clone().chain(outputs.clone().take(i));
        if let Some((_, other)) = others.find(|(bound, _)| bound.surface.same(&out.surface)) {
            let (a, b) = (port.name.clone(), other.name.clone());
            return Err(AneError::SurfaceShared { a, b });
        }
    }
    Ok(())
}

/// Runs on the bytes at the start of the input surfaces, and returns those of the outputs.
fn run(
    exe: &mut Compiled,
    numerics: Numerics,
    inputs: &[Bound],
) -> Result<(Vec<Vec<u8>>, RunReport), AneError> {
    let surfaces = |ports: &[Port]| -> Vec<Surface> {
        ports.iter().map(|port| Surface::new(&port.ty, 0, numerics.into())).collect()
    };
    let (read, written) = (surfaces(exe.inputs()), surfaces(exe.outputs()));
    for (surface, bound) in read.iter().zip(inputs) {
        let ty = surface.ty();
        surface.write(&decode(ty.dtype, &bound.surface.lock().bytes[..ty.bytes()])?)?;
    }
    let report = exe.run(&read.iter().collect::<Vec<_>>(), &written.iter().collect::<Vec<_>>())?;
    let bytes = |surface: &Surface| -> Result<Vec<u8>, AneError> {
        let mut values = vec![0.0; surface.ty().count()];
        surface.read(&mut values)?;
        let mut bytes = vec![];
        encode(surface.ty().dtype, &values, &mut bytes)?;
        Ok(bytes)
    };
    Ok((written.iter().map(bytes).collect::<Result<_, _>>()?, report))
}

/// The observation of IMP for a request whose sizes are out of order.
fn zeros(outputs: &[Bound]) -> RunReport {
    for bound in outputs {
        let mut contents = bound.surface.lock();
        contents.bytes.fill(0);
        contents.holding = None;
    }
    RunReport::default()
}
