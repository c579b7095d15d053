//! The Neural Engine of this machine: whether there is one, by which route, and how it is driven.

use crate::usage;
#[cfg(unix)]
use ane::Packed;
use ane::{AneError, Device};
use anyhow::{Context, Result, anyhow};
use apple::{Choice, Findings, Route};
use clap::ValueEnum;
use cpu::Sgemm;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

#[cfg(unix)]
use apple::{
    Accelerate, Cache, CompileElsewhere, Libraries, Lost, Options, Packing, PowerMeter,
    compile_job, probe,
};

/// Seconds that a compile may take unless told otherwise; so in `--help`.
const COMPILE_LIMIT: u64 = 120;
/// Seconds that a probe, or a check of the doctor, may take besides its compile; so in `--help`.
const BESIDES: u64 = 30;

/// Who sends the requests of in-memory models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Evaluate {
    /// The system's service (evaluateWithQoS), as in most published work
    Daemon,
    /// This process (doEvaluateDirectWithModel): 106 instead of 117 µs on an M5
    Direct,
}

/// Where programs are compiled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompileIn {
    /// A child process: a compiler that hangs is killed, one that crashes crashes alone
    Child,
    /// This process, on a thread that is abandoned if it hangs
    Process,
}

/// Bytes of compiled programs that are kept: hundreds of those of a model in training, whose weights
/// are inputs.
#[cfg(unix)]
const CACHE_BYTES: u64 = 2 << 30;

/// The topic of `anegpt help engine`.
pub(crate) const TOPIC: &str = include_str!("engine.txt");

/// How the engine is driven: flags of every command that opens a device.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Neural Engine (see: anegpt help engine)")]
pub(crate) struct EngineArgs {
    /// Library that stands in for the frameworks of macOS, for tests
    #[arg(long, hide = true, value_name = "FILE")]
    runtime: Option<PathBuf>,
    /// Send requests by the system's service or directly [default: daemon]
    #[arg(long, value_enum, value_name = "daemon|direct", hide_possible_values = true)]
    evaluate: Option<Evaluate>,
    /// Ask the hardware for its own time of each request
    #[arg(long)]
    hardware_time: bool,
    /// Pack inputs into one, and outputs too
    #[arg(long, conflicts_with = "no_packed")]
    packed: bool,
    /// Never pack, and do not test whether that is needed
    #[arg(long)]
    no_packed: bool,
    /// Where to keep compiled programs, or off
    #[arg(long, value_name = "DIR|off")]
    compile_cache: Option<PathBuf>,
    /// Compile in a child process or in this one [default: by route]
    #[arg(long, value_enum, value_name = "child|process", hide_possible_values = true)]
    compile_in: Option<CompileIn>,
    /// Time limit of one compile [default: 120]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    compile_limit: Option<u64>,
}

impl EngineArgs {
    /// The flags again, for a child process.
    fn flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = vec![];
        if let Some(runtime) = &self.runtime {
            flags.extend(["--runtime".into(), runtime.into()]);
        }
        if let Some(evaluate) = self.evaluate {
            let way = if evaluate == Evaluate::Direct { "direct" } else { "daemon" };
            flags.extend(["--evaluate".into(), way.into()]);
        }
        if self.hardware_time {
            flags.push("--hardware-time".into());
        }
        for (given, flag) in [(self.packed, "--packed"), (self.no_packed, "--no-packed")] {
            if given {
                flags.push(flag.into());
            }
        }
        if let Some(seconds) = self.compile_limit {
            flags.extend(["--compile-limit".into(), seconds.to_string().into()]);
        }
        flags
    }

    /// Where compiled programs are kept; `anew` says that nothing is unless that was asked for.
    fn cache(&self, anew: bool) -> Option<PathBuf> {
        match &self.compile_cache {
            Some(place) => (place != OsStr::new("off")).then(|| place.clone()),
            None if anew => None,
            None => caches().map(|caches| caches.join("anegpt").join("programs")),
        }
    }
}

/// The user's directory for what can be made again.
pub(crate) fn caches() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || absolute("HOME");
    match cfg!(target_os = "macos") {
        true => Some(home()?.join("Library").join("Caches")),
        false => absolute("XDG_CACHE_HOME").or_else(|| Some(home()?.join(".cache"))),
    }
}

/// Arguments, and whether programs are to be compiled anew.
static ARGS: OnceLock<(EngineArgs, bool)> = OnceLock::new();

/// Drives the engine so from now on; `anew` keeps compiled programs only where that is asked for.
///
/// # Errors
/// When flags contradict each other.
pub(crate) fn configure(args: EngineArgs, anew: bool) -> Result<()> {
    if args.compile_in == Some(CompileIn::Child) && args.cache(anew).is_none() {
        return Err(usage(
            "--compile-in child hands programs over through the cache, and there is none: give \
             --compile-cache DIR",
        ));
    }
    // Set once, from the arguments.
    let _ = ARGS.set((args, anew));
    Ok(())
}

fn args() -> &'static EngineArgs {
    &ARGS.get_or_init(Default::default).0
}

#[cfg(unix)]
fn anew() -> bool {
    ARGS.get_or_init(Default::default).1
}

/// Flags that were given, by what has a use for them.
pub(crate) struct Given {
    /// The first that any route to the engine uses.
    pub(crate) engine: Option<&'static str>,
    /// The first that only in-memory models use.
    pub(crate) in_memory: Option<&'static str>,
}

/// Returns the flags that were given.
pub(crate) fn given() -> Given {
    let args = args();
    let first = |flags: &[(bool, &'static str)]| {
        flags.iter().find(|(given, _)| *given).map(|&(_, flag)| flag)
    };
    Given {
        engine: first(&[
            (args.packed, "--packed"),
            (args.no_packed, "--no-packed"),
            (args.compile_cache.is_some(), "--compile-cache"),
            (args.compile_in.is_some(), "--compile-in"),
            (args.compile_limit.is_some(), "--compile-limit"),
        ]),
        in_memory: first(&[
            (args.evaluate.is_some(), "--evaluate"),
            (args.hardware_time, "--hardware-time"),
        ]),
    }
}

/// Set (to anything), this variable hides the engine of a Mac: tests give the same everywhere.
const HIDE: &str = "ANEGPT_NO_ENGINE";

/// Why the engine cannot even be tried here; `None` where it can.
pub(crate) fn absent() -> Option<String> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let hidden = std::env::var_os(HIDE).is_some();
    let there = args().runtime.is_some() || ((os, arch) == ("macos", "aarch64") && !hidden);
    let why = if hidden { format!(", and {HIDE} is set") } else { String::new() };
    (!there).then(|| format!("no Neural Engine on this machine ({os}, {arch}{why})"))
}

#[cfg(unix)]
fn libraries() -> Libraries {
    args().runtime.as_ref().map_or_else(Libraries::system, Libraries::stand_in)
}

/// Opens the device of a route, in this process; `packed` or the flag gives its programs one input.
#[cfg(unix)]
pub(crate) fn open(route: Route, packed: bool) -> Result<Box<dyn Device>> {
    let device = open_plain(route)?;
    Ok(if packed || args().packed { Box::new(Packed::new(device)) } else { device })
}

/// Opens the device of a route, in this process.
#[cfg(unix)]
fn open_plain(route: Route) -> Result<Box<dyn Device>> {
    if let Some(reason) = absent() {
        return Err(usage(format!(
            "{reason}; use --device emulator, which runs the same programs"
        )));
    }
    let options = options(route);
    if let (Some(cache), true) = (&options.cache, args().compile_cache.is_some()) {
        // Without one that nobody asked for, programs are compiled all the same.
        check_writable(&cache.directory)?;
    }
    Ok(probe::open(&libraries(), route, options)?)
}

/// Refuses a cache in which nothing can be kept.
#[cfg(unix)]
fn check_writable(directory: &Path) -> Result<()> {
    let tried = std::fs::create_dir_all(directory).and_then(|()| tempfile::tempfile_in(directory));
    tried.map(drop).map_err(|error| {
        usage(format!(
            "--compile-cache {}: {error}; give a directory that can be written, or off",
            directory.display()
        ))
    })
}

/// How a route is driven.
#[cfg(unix)]
fn options(route: Route) -> Options {
    let cache = args().cache(anew());
    // Espresso was seen to take what another process compiled; of in-memory models only what the
    // system says itself is known, so that a child might compile for nothing.
    let first = if route == Route::Espresso { CompileIn::Child } else { CompileIn::Process };
    let child = args().compile_in.unwrap_or(first) == CompileIn::Child;
    Options {
        direct: args().evaluate == Some(Evaluate::Direct),
        hardware_time: args().hardware_time,
        compile_limit: Duration::from_secs(args().compile_limit.unwrap_or(COMPILE_LIMIT)),
        elsewhere: child.then(|| Arc::new(Ourselves) as Arc<dyn CompileElsewhere>),
        cache: cache.map(|directory| Cache { directory, most_bytes: CACHE_BYTES }),
        ..Options::default()
    }
}

/// Compiles by running this program again.
#[cfg(unix)]
#[derive(Debug)]
struct Ourselves;

/// The standard error of a process that compiles.
#[cfg(unix)]
const WORDS: &str = "stderr.txt";

#[cfg(unix)]
impl CompileElsewhere for Ourselves {
    fn run(&self, route: Route, directory: &Path, limit: Duration) -> Result<(), Lost> {
        let unable = |error: std::io::Error| Lost::NotStarted(error.to_string());
        // A file, as the frameworks may write more than a pipe holds.
        let path = directory.join(WORDS);
        let words = File::create(&path).map_err(unable)?;
        let mut command = Command::new(std::env::current_exe().map_err(unable)?);
        command.args(["devices", "--compile", &route.to_string()]).arg(directory);
        command.args(args().flags());
        // The child ends when its standard input does, which is when this process ends.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(words);
        let mut child = command.spawn().map_err(unable)?;
        match wait(&mut child, limit) {
            Ok(Some(status)) if status.success() => std::fs::remove_file(&path).map_err(unable),
            Ok(Some(status)) => {
                let words = std::fs::read(&path).unwrap_or_default();
                let last = words[words.len().saturating_sub(500)..].trim_ascii();
                Err(Lost::Crashed(format!("{status}: {}", String::from_utf8_lossy(last))))
            }
            Ok(None) => Err(Lost::Hung),
            Err(error) => Err(Lost::Crashed(error.to_string())),
        }
    }
}

/// Ends this process when the one that started it does, whatever hangs here: that one holds the other
/// end of the standard input, and writes nothing there.
#[cfg(unix)]
pub(crate) fn end_with_standard_input() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        crate::stop::at_once(1);
    });
}

/// Nothing of what may hang is here.
#[cfg(not(unix))]
pub(crate) fn end_with_standard_input() {}

/// Compiles for the process that started this one, and ends when that does.
#[cfg(unix)]
pub(crate) fn compile_here(route: &str, directory: &Path) -> Result<()> {
    let route: Route = route.parse()?;
    end_with_standard_input();
    Ok(compile_job(&libraries(), route, options(route), directory)?)
}

/// Compiles for the process that started this one: never here.
#[cfg(not(unix))]
pub(crate) fn compile_here(_route: &str, _directory: &Path) -> Result<()> {
    Err(usage("no Neural Engine on this machine"))
}

/// Opens the device of a route: never here.
#[cfg(not(unix))]
pub(crate) fn open(_route: Route, _packed: bool) -> Result<Box<dyn Device>> {
    Err(usage("no Neural Engine on this machine; use --device emulator"))
}

/// Runs the known-answer program, which has two inputs, by a route and in this process; where
/// several inputs fail, packed.
#[cfg(unix)]
pub(crate) fn probe_here(route: &str) -> Result<Findings> {
    let packing = match (args().packed, may_pack()) {
        (true, _) => Packing::Always,
        (false, true) => Packing::IfNeeded,
        (false, false) => Packing::Never,
    };
    // Packed by the examination, where that is asked for.
    let device = open_plain(route.parse()?)?;
    Ok(probe::examine(device, packing)?.1)
}

/// Runs the known-answer program: never here.
#[cfg(not(unix))]
pub(crate) fn probe_here(_route: &str) -> Result<Findings> {
    Err(usage("no Neural Engine on this machine"))
}

/// True if neither `--packed` nor `--no-packed` was given.
fn may_pack() -> bool {
    !args().packed && !args().no_packed
}

/// Accelerate's products.
#[cfg(unix)]
pub(crate) fn accelerate() -> Result<Arc<dyn Sgemm>> {
    if absent().is_some() {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        return Err(anyhow!("no Accelerate on this machine ({os}, {arch})"));
    }
    Ok(Arc::new(Accelerate::open(&libraries())?))
}

/// Accelerate's products: never here.
#[cfg(not(unix))]
pub(crate) fn accelerate() -> Result<Arc<dyn Sgemm>> {
    Err(anyhow!("no Accelerate on this machine"))
}

/// The counters of energy, opened in this process.
#[cfg(unix)]
pub(crate) fn power_meter() -> Result<PowerMeter> {
    Ok(PowerMeter::open(&libraries())?)
}

/// Runs the known-answer program by a route, in a process of its own.
pub(crate) fn probe(route: Route) -> Result<Findings> {
    answer(&ask_ourselves(&["devices", "--probe", &route.to_string()])?)
}

/// The findings of a process of ours: its last line, as the frameworks may have written others
/// before.
pub(crate) fn answer<T: DeserializeOwned>(said: &str) -> Result<T> {
    let line = said.trim().lines().last().unwrap_or_default();
    serde_json::from_str(line).context("cannot read the probe's output")
}

/// Exit code of a process of ours in which the system hung.
const HUNG: i32 = 3;

/// Prints what was found, for the process that asked, which then tells a system that hung from one
/// that refused.
pub(crate) fn tell(found: Result<impl Serialize>) -> Result<()> {
    match found {
        Err(error)
            if matches!(
                error.downcast_ref::<AneError>(),
                Some(AneError::CompileTimeout { .. })
            ) =>
        {
            eprintln!("{error:#}");
            crate::stop::at_once(HUNG)
        }
        found => println!("{}", serde_json::to_string(&found?)?),
    }
    Ok(())
}

/// A process of ours that crashed or hung: what it did might happen here as well.
#[derive(Debug)]
struct Died(String);

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Died {}

/// Seconds that what compiles may take altogether: a compile that hangs is given up before.
pub(crate) fn limit() -> u64 {
    BESIDES + args().compile_limit.unwrap_or(COMPILE_LIMIT)
}

/// Returns the output of this program run with `args` in a process of its own: what the private
/// frameworks do where they are not as expected may be to hang, to raise, or to crash.
pub(crate) fn ask_ourselves(args: &[&str]) -> Result<String> {
    if let Some(reason) = absent() {
        return Err(anyhow!(reason));
    }
    let mut command =
        Command::new(std::env::current_exe().context("cannot find this program's own file")?);
    command.args(args).args(self::args().flags());
    // Files, as the frameworks may write more than a pipe holds.
    let (mut out, mut err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    // The child ends when its standard input does, which is when this process ends.
    command.stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(err.try_clone()?);
    let mut child = command.spawn().context("cannot start the probe")?;
    let limit = limit();
    let status = wait(&mut child, Duration::from_secs(limit))?;
    let late = || Died(format!("the probe did not end within {limit} s"));
    let status = status.ok_or_else(late)?;
    let said = |file: &mut File| -> std::io::Result<String> {
        let mut bytes = vec![];
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let words = said(&mut err)?.trim().trim_start_matches("error: ").to_owned();
    match (status.success(), status.code()) {
        (true, _) => Ok(said(&mut out)?),
        (false, Some(HUNG)) => Err(Died(words).into()),
        (false, Some(_)) => Err(anyhow!(words)),
        (false, None) => Err(Died(format!("the probe crashed ({status}): {words}")).into()),
    }
}

/// Waits for a process as long as it may take; one that takes longer is killed, and has no status.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let status = wait_for(child, limit)?;
    if status.is_none() {
        child.kill()?;
        // One that hangs in the kernel does not die before that lets it go.
        wait_for(child, Duration::from_secs(5))?;
    }
    Ok(status)
}

fn wait_for(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || start.elapsed() > limit {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The findings of a probe of every route.
pub(crate) type Found = [(Route, Result<Findings>); 2];

/// Probes every route.
pub(crate) fn probe_all() -> Found {
    Route::ALL.map(|route| (route, probe(route)))
}

/// Chooses a route among those that work ([`apple::choose`]).
///
/// # Errors
/// The failure of each route, when none works.
pub(crate) fn choose(found: &Found) -> Result<Choice> {
    if let Some(reason) = absent() {
        return Err(anyhow!(reason));
    }
    let working = found.iter().filter_map(|(route, r)| Some((*route, *r.as_ref().ok()?)));
    apple::choose(&working.collect::<Vec<_>>()).ok_or_else(|| {
        let failed = |(route, r): &(Route, Result<Findings>)| {
            r.as_ref().err().map(|error| format!("{route}: {error:#}"))
        };
        let each: Vec<String> = found.iter().filter_map(failed).collect();
        anyhow!("the Neural Engine does not work here ({})", each.join("; "))
    })
}

/// The in-memory route because it was asked for: packed if a request with several inputs fails. What
/// else fails there is for the command itself to say.
///
/// # Errors
/// When the known-answer program crashes its process or hangs, as it would this one.
pub(crate) fn in_memory() -> Result<Choice> {
    let asked =
        |packed, reason: &str| Ok(Choice { route: Route::InMemory, packed, reason: reason.into() });
    match may_pack().then(|| probe(Route::InMemory)) {
        Some(Ok(Findings { packed: true, .. })) => {
            asked(true, "asked for; packed: several inputs fail here")
        }
        Some(Err(error)) if error.is::<Died>() => Err(usage(format!(
            "the Neural Engine does not work here by in-memory models: {error}; use --device espresso \
             or emulator, or --no-packed, which tries nothing before and may crash or hang as well"
        ))),
        _ => asked(false, "asked for"),
    }
}

/// [`choose`] after [`probe_all`].
pub(crate) fn best() -> Result<Choice> {
    choose(&probe_all())
}
