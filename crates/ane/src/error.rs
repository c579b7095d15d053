//! Errors between a program and the machine.
//!
//! Every message says first, in plain words, what is wrong and what to do; where the machine has
//! words of its own for it, they follow on a line that starts with `macOS reports:`, as published
//! logs show them (docs/ane-facts.md B.3), so that a search for either finds both.

use crate::bytes::NoBytes;
use chip::legal::{self, Refusal, Severity, Violation};
use chip::{AllocationFault, CallPath, Profile};
use cpu::CpuError;
use mil::{OpError, Program, TensorType};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// An error of a device.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum AneError {
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    Cpu(#[from] CpuError),
    #[error(transparent)]
    NoBytes(#[from] NoBytes),
    #[error("the program has no function; nothing could be compiled")]
    NoFunction,
    #[error(
        "the engine does not execute `{op}`; compute it on the CPU, or write it with operations \
         that it has (a gather is a product with a one-hot matrix)"
    )]
    Unsupported { op: String },

    /// The program breaks rules; made by [`AneError::refused`]. `log` is what the compiler's
    /// validators write about them.
    #[error("{}{}{}", list(.violations), logged(.log), NsError::compile(*.refusal, *.path))]
    Refused { refusal: Refusal, path: CallPath, violations: Vec<Violation>, log: Vec<String> },
    #[error(
        "this process has compiled {limit} programs, as many as the compiler survives (ANE083): \
         compile each program once and give weights as inputs, or save a checkpoint and start \
         the process anew{}",
        NsError::compile(Refusal::CompilationFailure, CallPath::InMemory)
    )]
    CompileBudget { limit: usize },

    #[error(
        "the compiler failed without finding fault with the program, as it does now and then \
         under load: try again after a pause{}",
        NsError::compile(Refusal::CompilationFailure, *.path)
    )]
    FlakyCompile { path: CallPath },
    #[error(
        "the engine refused to load the program: unload other programs, or cut this one into \
         smaller ones{}",
        NsError::load(*.code)
    )]
    LoadRefused { code: u32 },
    #[error(
        "{limit} programs are loaded, the most that a process may hold (ANE084): drop an \
         executable before loading the next{}", NsError::slots(*.path)
    )]
    TooManyPrograms { limit: usize, path: CallPath },
    #[error(
        "a program with {bytes} bytes of constants does not fit the engine's address window of \
         {limit} bytes (ANE014): cut it into several programs or give weights as inputs{}",
        NsError::load(0x20004)
    )]
    ProgramTooLarge { bytes: u64, limit: u64 },
    #[error(
        "the engine has no room for another program: programs were not released; drop \
         executables that are not in use, or start the process anew{}",
        NsError::load(0x50004)
    )]
    ResourcesExhausted,
    #[error(
        "macOS does not accept the compiled program's directory (seen on macOS 27): use the other \
         call path{}",
        NsError::bundle()
    )]
    InvalidBundle,

    #[error(
        "a request needs {expected} {what} surfaces, got {got} (ANE082): bind one per port, in \
         alphabetical order of the ports' names{}",
        NsError::request(0x1d, 0x9)
    )]
    SurfaceCount { what: &'static str, expected: usize, got: usize },
    #[error("port `{port}` is a {expected}, but the surface bound to it holds {got}")]
    SurfaceType { port: String, expected: TensorType, got: TensorType },
    #[error(
        "one surface is bound to {a} and to {b}: an output may not share memory with another port"
    )]
    SurfaceShared { a: String, b: String },
    #[error(
        "{what} surfaces of one request need one allocation size, got {sizes:?} bytes (ANE080, \
         C1-uniform-sizes): allocate all of them at the largest size; data stay packed from byte 0{}",
        NsError::request(0x1d, 0x9)
    )]
    SurfaceSizes { what: &'static str, sizes: Vec<usize> },
    #[error(
        "{what} surface {index} is allocated with {got} bytes, below the minimum of {minimum} \
         (ANE081, C1-minimum-size): allocate more; data stay packed from byte 0{}",
        NsError::request(0x1d, 0x9)
    )]
    SurfaceTooSmall { what: &'static str, index: usize, minimum: usize, got: usize },
    #[error("a surface for {count} elements was given {got}")]
    SurfaceLength { count: usize, got: usize },
    #[error(
        "macOS could not map the surfaces of the request into the engine: allocate them anew and \
         build the request again{}", NsError::map(*.code)
    )]
    SurfaceMap { code: u32 },
    #[error(
        "the request names procedure {index}, but the program has {count}: take indices from the \
         loaded model's own description{}",
        NsError::request(0x2, 0x9)
    )]
    Procedure { index: usize, count: usize },
    #[error(
        "{what} surface {index} is bound to symbol {got}, but procedure {procedure} has symbol \
         {expected} there: symbols are numbered over all procedures; take them from the loaded \
         model's own description{}",
        NsError::request(0x2, 0x9)
    )]
    Symbol { what: &'static str, index: usize, procedure: usize, expected: usize, got: usize },
    #[error(
        "{limit} requests of this program are in flight, all that its queue holds: the machine \
         makes the next one wait until one is done; complete one before submitting more"
    )]
    InFlight { limit: usize },
    #[error("{message} ({fact}): the machine gives wrong data here without a word")]
    SilentlyWrong { fact: &'static str, message: String },
    #[error(
        "the engine gave up on a request that took too long: cut the program into smaller ones{}",
        NsError::timeout()
    )]
    Timeout,
    #[error(
        "requests cannot be chained on the engine without an entitlement: run them one after the \
         other on shared surfaces{}",
        NsError::chaining()
    )]
    Chaining,

    #[error("surfaces hold fp16 or fp32 on a real engine, not {ty}: cast inside the program")]
    SurfaceDtype { ty: TensorType },
    #[error(
        "the surface bound to port `{port}` was not made by this device: make surfaces with the \
         `surface` method of the device that runs the program"
    )]
    SurfaceOfAnother { port: String },
    #[error("the Neural Engine cannot be reached: {reason}")]
    NoEngine { reason: String },
    #[error("cannot run requests: {reason}")]
    NoThread { reason: String },
    /// Something besides the engine: everything works without it.
    #[error("{what} cannot be used here: {reason}")]
    Unavailable { what: &'static str, reason: String },
    #[error(
        "compiling or loading did not end within {seconds} s: the system's service hangs; wait a \
         minute and start the process anew"
    )]
    CompileTimeout { seconds: u64 },
    /// An error that the machine itself reported, kept word for word.
    #[error("{action} failed: {hint}\nmacOS reports: {report}")]
    Reported { action: &'static str, hint: &'static str, report: String, transient: bool },
    /// An error that only one kind of device, or who asks it, has.
    #[error(transparent)]
    Own(OwnError),
}

/// An error of another crate, with its words. Two are equal if they say the same.
#[derive(Clone)]
pub struct OwnError(Arc<dyn Error + Send + Sync>);

impl fmt::Debug for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for OwnError {}

impl PartialEq for OwnError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl AneError {
    /// Carries an error of another crate.
    pub fn own(error: impl Error + Send + Sync + 'static) -> Self {
        AneError::Own(OwnError(Arc::new(error)))
    }

    /// Returns the error of another crate that this one carries, if it is of type `E`.
    pub fn as_own<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            AneError::Own(OwnError(error)) => error.downcast_ref(),
            _ => None,
        }
    }

    /// The refusal of a program that breaks `violations` on `path`: `InvalidMILProgram` if any of
    /// them is caught when the program is validated, else what the first one gives.
    pub fn refused(path: CallPath, violations: Vec<Violation>) -> Self {
        let refusals = || violations.iter().filter_map(|v| v.rule.refusal);
        let refusal = match refusals().any(|r| r == Refusal::InvalidMilProgram) {
            true => Refusal::InvalidMilProgram,
            false => refusals().next().unwrap_or(Refusal::Unreported),
        };
        AneError::Refused { refusal, path, violations, log: vec![] }
    }

    /// [`AneError::refused`] with what the compiler's validators write about `program`.
    pub fn refused_program(program: &Program, profile: &Profile, found: Vec<Violation>) -> Self {
        let severe = found.iter().filter(|v| v.rule.severity != Severity::Warning);
        let lines = severe.filter_map(|v| legal::validator_message(program, profile, v)).collect();
        match Self::refused(profile.path, found) {
            AneError::Refused { refusal, path, violations, .. } => {
                AneError::Refused { refusal, path, violations, log: lines }
            }
            other => other,
        }
    }

    /// The error for surfaces bound together as `what` ("input" or "output") whose allocations break a
    /// rule.
    pub fn allocation(what: &'static str, fault: AllocationFault) -> Self {
        match fault {
            AllocationFault::TooSmall { index, minimum, got } => {
                AneError::SurfaceTooSmall { what, index, minimum, got }
            }
            AllocationFault::Uneven { sizes } => AneError::SurfaceSizes { what, sizes },
        }
    }

    /// The error object that macOS gives in this case; `None` where it gives none, because the
    /// mistake is caught here or stays silent there.
    pub fn ns_error(&self) -> Option<NsError> {
        use AneError::*;
        match self {
            Refused { refusal, path, .. } => NsError::compile(*refusal, *path).0,
            CompileBudget { .. } => {
                NsError::compile(Refusal::CompilationFailure, CallPath::InMemory).0
            }
            FlakyCompile { path } => NsError::compile(Refusal::CompilationFailure, *path).0,
            LoadRefused { code } => NsError::load(*code).0,
            TooManyPrograms { path, .. } => NsError::slots(*path).0,
            ProgramTooLarge { .. } => NsError::load(0x20004).0,
            ResourcesExhausted => NsError::load(0x50004).0,
            InvalidBundle => NsError::bundle().0,
            SurfaceCount { .. } | SurfaceSizes { .. } | SurfaceTooSmall { .. } => {
                NsError::request(0x1d, 0x9).0
            }
            SurfaceMap { code } => NsError::map(*code).0,
            Procedure { .. } | Symbol { .. } => NsError::request(0x2, 0x9).0,
            Timeout => NsError::timeout().0,
            Chaining => NsError::chaining().0,
            NoFunction
            | Op(_)
            | Cpu(_)
            | Unsupported { .. }
            | SurfaceType { .. }
            | SurfaceShared { .. }
            | InFlight { .. }
            | SilentlyWrong { .. }
            | NoBytes(_)
            | SurfaceDtype { .. }
            | SurfaceOfAnother { .. }
            | NoEngine { .. }
            | NoThread { .. }
            | Unavailable { .. }
            | CompileTimeout { .. }
            | Reported { .. }
            | Own(_)
            | SurfaceLength { .. } => None,
        }
    }

    /// True if trying again later may help: the compiler fails now and then under load (facts A.7:
    /// up to five tries, ≥ 15 s apart), a program slot may become free.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            AneError::FlakyCompile { .. }
                | AneError::TooManyPrograms { .. }
                | AneError::ResourcesExhausted
                | AneError::Timeout
                | AneError::SurfaceMap { .. }
                | AneError::CompileTimeout { .. }
                | AneError::Reported { transient: true, .. }
        )
    }
}

/// Places that break the same rule, of which an error lists no more.
const SHOWN: usize = 3;

fn list(violations: &[Violation]) -> String {
    let rules = if violations.len() == 1 { "a rule" } else { "rules" };
    let mut text = format!("the program breaks {rules} of the machine");
    let mut seen: Vec<(&str, usize)> = vec![];
    for violation in violations {
        let id = violation.rule.id;
        let known = seen.iter().position(|(rule, _)| *rule == id);
        let at = known.unwrap_or_else(|| {
            seen.push((id, 0));
            seen.len() - 1
        });
        seen[at].1 += 1;
        if seen[at].1 <= SHOWN {
            text.push_str(&format!("\n{violation}"));
        }
    }
    for (id, count) in seen.into_iter().filter(|(_, count)| *count > SHOWN) {
        text.push_str(&format!("\nand {} more places that break {id}", count - SHOWN));
    }
    text
}

fn logged(log: &[String]) -> String {
    log.iter().map(|line| format!("\nthe compiler's log: {line}")).collect()
}

/// An error object of macOS, as far as logs show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NsError {
    /// Reverse domain name; empty for the message of a C++ exception (e5rt).
    pub domain: &'static str,
    /// Code in the domain.
    pub code: i32,
    /// Localised description.
    pub description: String,
    /// The compiler's own verdict below it, such as `InvalidMILProgram`.
    pub underlying: Option<&'static str>,
}

impl fmt::Display for NsError {
    /// Prints as NSLog does: `Error Domain=… Code=8 "…"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.domain {
            "" => write!(f, "{} ({})", self.description, self.code)?,
            domain => {
                write!(f, "Error Domain={domain} Code={} \"{}\"", self.code, self.description)?
            }
        }
        match self.underlying {
            Some(verdict) => write!(f, " err=( {verdict} )"),
            None => Ok(()),
        }
    }
}

/// The text after our own words: nothing, or the machine's on a line of its own.
struct Reported(Option<NsError>);

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => write!(f, "\nmacOS reports: {error}"),
            None => Ok(()),
        }
    }
}

const ENGINE: &str = "com.apple.appleneuralengine";

/// The start of what macOS reports for a request whose surfaces are wrong (docs/ane-facts.md B.3).
pub const REQUEST_FAILED: &str = "processRequest:model:qos:qIndex:modelStringID:options:error:: \
ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9: Program Inference error";

/// The method in load errors; its later parts differ between versions of the system (this form:
/// apple/ml-stable-diffusion#26).
const CREATE: &str = "createProgramInstanceForModel:modelToken:qos:isPreCompiled:\
enablePowerSaving:statsMask:memoryPoolID:enableLateLatch:modelIdentityStr:error:";

impl NsError {
    fn engine(code: i32, description: String) -> Reported {
        Reported(Some(NsError { domain: ENGINE, code, description, underlying: None }))
    }

    /// MAD#6, #42, ORI, ESP#18 in memory; AF#149, CMT#2247 by e5rt.
    fn compile(refusal: Refusal, path: CallPath) -> Reported {
        let underlying = match refusal {
            Refusal::InvalidMilProgram => "InvalidMILProgram",
            Refusal::CompilationFailure => "CompilationFailure",
            Refusal::LoadFailure => return NsError::load(0x20004),
            Refusal::Unreported => return Reported(None),
        };
        Reported(Some(match path {
            CallPath::InMemory => NsError {
                domain: "com.apple.appleneuralengine.compiler",
                code: 1,
                description: "_ANECompiler : ANECCompile() FAILED".to_owned(),
                underlying: Some(underlying),
            },
            CallPath::E5rt => NsError {
                domain: "",
                code: 11,
                description: "MILCompilerForANE error: failed to compile ANE model using ANEF. \
                              Error=_ANECompiler : ANECCompile() FAILED"
                    .to_owned(),
                underlying: None,
            },
        }))
    }

    /// ORI #2, #4, #12 (0x1d); INF §2 (0x2).
    fn request(status: u32, kind: u32) -> Reported {
        NsError::process(8, status, kind, "Program Inference error")
    }

    /// pytorch#110975.
    fn timeout() -> Reported {
        NsError::process(3, 0xf, 0x11, "Program Inference timeout: timed out")
    }

    fn process(code: i32, status: u32, kind: u32, what: &str) -> Reported {
        let description = format!(
            "processRequest:model:qos:qIndex:modelStringID:options:error:: \
             ANEProgramProcessRequestDirect() Failed with status={status:#x} : \
             statusType={kind:#x}: {what}"
        );
        NsError::engine(code, description)
    }

    /// OMLX#2781, #2874 (0x20004); ANEGPT (0x50004).
    fn load(code: u32) -> Reported {
        NsError::engine(6, format!("{CREATE}: Program load failure ({code:#x})"))
    }

    /// AF (e5rt); in memory the same exhaustion is reported as 0x50004 (ANEGPT).
    fn slots(path: CallPath) -> Reported {
        match path {
            CallPath::InMemory => NsError::load(0x50004),
            CallPath::E5rt => Reported(Some(NsError {
                domain: "",
                code: 13,
                description: "GetANEFModel: must re-compile".to_owned(),
                underlying: None,
            })),
        }
    }

    /// INF:HANDOVER, `mapIOSurfacesWithRequest`.
    fn map(code: u32) -> Reported {
        NsError::engine(13, format!("Program IOSurfaces map failure ({code:#x})"))
    }

    /// OMLX#3124.
    fn bundle() -> Reported {
        NsError::engine(10, "verifyBundleAtPath: invalid model".to_owned())
    }

    /// MAD#40, INF.
    fn chaining() -> Reported {
        let text = "ANEProgramChainingPrepare() Failed: Program chaining prepare error";
        NsError::engine(15, text.to_owned())
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
