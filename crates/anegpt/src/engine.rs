//! The Neural Engine of this machine: whether there is one, by which route, and how it is driven.

use crate::machine::DeviceChoice;
use crate::usage;
#[cfg(unix)]
use ane::Packed;
use ane::{Device, Sgemm};
use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

#[cfg(unix)]
use ane::apple::{
    Accelerate, Libraries, Options, PowerMeter,
    probe::{self, Route},
};

/// Time that a probe may take: as long as a compile may, and a little more.
const LIMIT: Duration = Duration::from_secs(150);

/// By whom requests of in-memory models are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Evaluate {
    /// By the system's service (evaluateWithQoS), as most published work does.
    Daemon,
    /// By the client itself (doEvaluateDirectWithModel): 106 instead of 117 µs on an M5.
    Direct,
}

/// How the engine is driven.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct EngineArgs {
    /// A library that stands in for the frameworks of macOS, for tests.
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    runtime: Option<PathBuf>,
    /// How requests are sent by --device in-memory, and by ane and auto where they take it [default:
    /// daemon].
    #[arg(long, global = true, value_enum, help_heading = "Neural Engine", value_name = "WAY")]
    evaluate: Option<Evaluate>,
    /// Ask the hardware for its own time of requests by in-memory models; macOS may keep it to
    /// itself. Shown by `mil run` and `probe perf-stats`.
    #[arg(long, global = true, help_heading = "Neural Engine")]
    hardware_time: bool,
    /// Give programs one input and one output, at the price of copies, for systems where requests
    /// with several inputs fail with 0x1d. ane and auto find that out by themselves.
    #[arg(long, global = true, help_heading = "Neural Engine")]
    packed: bool,
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
        if self.packed {
            flags.push("--packed".into());
        }
        flags
    }
}

static ARGS: OnceLock<EngineArgs> = OnceLock::new();

/// Drives the engine so from now on.
pub(crate) fn configure(args: EngineArgs) {
    // Set once, from the arguments.
    let _ = ARGS.set(args);
}

fn args() -> &'static EngineArgs {
    ARGS.get_or_init(EngineArgs::default)
}

/// Refuses what a device that is asked for by name has no use for.
pub(crate) fn check_flags(device: DeviceChoice) -> Result<()> {
    let other = match device {
        DeviceChoice::Auto | DeviceChoice::Ane | DeviceChoice::InMemory => return Ok(()),
        DeviceChoice::Espresso => "espresso has one way to send requests, and tells no times",
        DeviceChoice::Emulator | DeviceChoice::Cpu => "the CPU computes here",
    };
    if args().packed && device != DeviceChoice::Espresso {
        return Err(usage(format!("--packed is for the Neural Engine; {other}")));
    }
    for (given, flag) in
        [(args().evaluate.is_some(), "--evaluate"), (args().hardware_time, "--hardware-time")]
    {
        if given {
            return Err(usage(format!("{flag} is for --device in-memory; {other}")));
        }
    }
    Ok(())
}

/// Why the engine cannot even be tried here; `None` where it can.
pub(crate) fn absent() -> Option<String> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let there = args().runtime.is_some() || (os, arch) == ("macos", "aarch64");
    (!there).then(|| format!("no Neural Engine on this machine ({os}, {arch})"))
}

/// What a probe found, as its process writes it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Findings {
    pub(crate) compile_seconds: f64,
    pub(crate) run_seconds: f64,
    /// Whether it takes the packed calling convention.
    pub(crate) packed: bool,
}

#[cfg(unix)]
fn libraries() -> Libraries {
    args().runtime.as_ref().map_or_else(Libraries::system, Libraries::stand_in)
}

/// Opens the device of a route, in this process; `packed` or the flag gives its programs one input.
#[cfg(unix)]
pub(crate) fn open(route: &str, packed: bool) -> Result<Box<dyn Device>> {
    if let Some(reason) = absent() {
        return Err(usage(format!(
            "{reason}; use --device emulator, which runs the same programs"
        )));
    }
    let route: Route = route.parse()?;
    let options = Options {
        direct: args().evaluate == Some(Evaluate::Direct),
        hardware_time: args().hardware_time,
        ..Options::default()
    };
    let device = probe::open(&libraries(), route, options)?;
    Ok(if packed || args().packed { Box::new(Packed::new(device)) } else { device })
}

/// Opens the device of a route: never here.
#[cfg(not(unix))]
pub(crate) fn open(_route: &str, _packed: bool) -> Result<Box<dyn Device>> {
    Err(usage("no Neural Engine on this machine; use --device emulator"))
}

/// Routes to the engine, by name.
pub(crate) const ROUTES: [&str; 2] = ["in-memory", "espresso"];

/// Runs the known-answer program, which has two inputs, by a route and in this process; where
/// several inputs fail, packed.
pub(crate) fn probe_here(route: &str) -> Result<Findings> {
    match sing(route, args().packed) {
        // What the system says to a request whose inputs it does not take.
        Err(error) if !args().packed && error.to_string().contains("0x1d") => sing(route, true),
        result => result,
    }
}

fn sing(route: &str, packed: bool) -> Result<Findings> {
    let device = open(route, packed)?;
    #[cfg(unix)]
    {
        let found = probe::canary(device.as_ref())?;
        let (compile_seconds, run_seconds) = (found.compile_seconds, found.run_seconds);
        Ok(Findings { compile_seconds, run_seconds, packed })
    }
    #[cfg(not(unix))]
    unreachable!("{device:?}")
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
pub(crate) fn probe(route: &str) -> Result<Findings> {
    let said = ask_ourselves(&["devices", "--probe", route])?;
    serde_json::from_str(said.trim()).context("the probe said nothing sensible")
}

/// What this program prints when it is run with `args`, in a process of its own: what the private
/// frameworks do where they are not as expected may be to hang, to raise, or to crash.
pub(crate) fn ask_ourselves(args: &[&str]) -> Result<String> {
    if let Some(reason) = absent() {
        return Err(anyhow!(reason));
    }
    let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
    command.args(args).args(self::args().flags());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("the probe does not start")?;
    let status = wait(&mut child)?;
    let mut said = (String::new(), String::new());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    out.map(|mut pipe| pipe.read_to_string(&mut said.0)).transpose()?;
    err.map(|mut pipe| pipe.read_to_string(&mut said.1)).transpose()?;
    let words = said.1.trim().trim_start_matches("error: ").to_owned();
    match (status.success(), status.code()) {
        (true, _) => Ok(said.0),
        (false, Some(_)) => Err(anyhow!(words)),
        (false, None) => Err(anyhow!("the probe crashed ({status}): {words}")),
    }
}

/// Waits for the probe as long as it may take. It writes less than a pipe holds.
fn wait(child: &mut Child) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Err(anyhow!("the probe did not end within {} s", LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a probe of every route found.
pub(crate) type Found = [(&'static str, Result<Findings>); 2];

/// Probes every route.
pub(crate) fn probe_all() -> Found {
    ROUTES.map(|route| (route, probe(route)))
}

/// A route that works.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) route: &'static str,
    /// Whether its programs are packed.
    pub(crate) packed: bool,
    /// Why it is taken.
    pub(crate) reason: String,
}

/// The route whose requests take the least time.
///
/// # Errors
/// What each route failed with, when none works.
pub(crate) fn choose(found: &Found) -> Result<Choice> {
    if let Some(reason) = absent() {
        return Err(anyhow!(reason));
    }
    let working = found.iter().filter_map(|(route, r)| Some((*route, r.as_ref().ok()?)));
    match working.min_by(|a, b| a.1.run_seconds.total_cmp(&b.1.run_seconds)) {
        Some((route, &Findings { packed, run_seconds, .. })) => {
            let why = if packed { ", packed: several inputs fail here" } else { "" };
            let reason = format!("its known-answer request took {:.3} ms{why}", run_seconds * 1e3);
            Ok(Choice { route, packed, reason })
        }
        None => {
            let failed = |(route, r): &(&str, Result<Findings>)| {
                r.as_ref().err().map(|error| format!("{route}: {error:#}"))
            };
            let each: Vec<String> = found.iter().filter_map(failed).collect();
            Err(anyhow!("the Neural Engine does not work here ({})", each.join("; ")))
        }
    }
}

/// [`choose`] after [`probe_all`].
pub(crate) fn best() -> Result<Choice> {
    choose(&probe_all())
}
