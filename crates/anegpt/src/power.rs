//! The power that the machine draws, where it can be read: by IOReport without privilege, else by
//! `powermetrics` where that may be run without a password. On other systems, power is not
//! reported.

use crate::engine;
use ane::PowerSample;
use anyhow::{Context, Result, anyhow};
use apple::{POWERMETRICS, from_powermetrics};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};
use train::{Event, Hook, TrainError};

#[cfg(unix)]
use apple::PowerMeter;

const IO_REPORT: &str = "IOReport";
const TOOL: &str = "powermetrics";

/// How long `devices`, `doctor` and the probe of a run look.
const LOOK: Duration = Duration::from_millis(100);

/// Time between two readings of a run. One takes well below a millisecond, so that it costs
/// nothing that can be seen; `powermetrics` looks for one second of them.
const INTERVAL: Duration = Duration::from_secs(10);

/// Reads the counters over a moment, in this process.
#[cfg(unix)]
pub(crate) fn probe_here() -> Result<PowerSample> {
    let mut meter = engine::power_meter()?;
    std::thread::sleep(LOOK);
    let sample = meter.read()?;
    match sample.watts() {
        Some(_) => Ok(sample),
        None => Err(anyhow!("{IO_REPORT} has no counter that is known")),
    }
}

/// Reads the counters over a moment: never here.
#[cfg(not(unix))]
pub(crate) fn probe_here() -> Result<PowerSample> {
    Err(anyhow!("no {IO_REPORT} on this machine"))
}

/// Reads the counters in a process of its own, as they are private: whatever happens there does not
/// happen to a run.
fn probe() -> Result<PowerSample> {
    engine::answer(&engine::ask_ourselves(&["devices", "--probe", "power"])?)
}

/// One reading and where it comes from; `None` where there is nothing to be read.
pub(crate) fn once() -> Option<Result<(&'static str, PowerSample)>> {
    if engine::absent().is_some() {
        return None;
    }
    Some(match probe() {
        Ok(sample) => Ok((IO_REPORT, sample)),
        Err(error) => tool().map_err(|other| anyhow!("{error:#}; {other:#}")).and_then(|tool| {
            let sample = run(&tool).map_err(|other| anyhow!("{error:#}; {other:#}"))?;
            Ok((TOOL, sample))
        }),
    })
}

/// The command that prints one reading.
fn tool() -> Result<Vec<String>> {
    if !cfg!(target_os = "macos") {
        return Err(anyhow!("no {TOOL} on this machine"));
    }
    let user = Command::new("/usr/bin/id").arg("-u").output().context("who is this?")?;
    let is_root = user.stdout.trim_ascii() == b"0";
    // Where a password would be needed, `sudo -n` fails instead of asking for it.
    let sudo = ["/usr/bin/sudo", "-n"].into_iter().filter(|_| !is_root);
    let words = sudo.chain(["/usr/bin/powermetrics"]).chain(POWERMETRICS);
    Ok(words.map(str::to_owned).collect())
}

/// Runs the command and reads what it prints.
fn run(command: &[String]) -> Result<PowerSample> {
    let (program, args) = command.split_first().context("an empty command")?;
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow!("{TOOL}: {} ({})", words.trim(), output.status));
    }
    Ok(from_powermetrics(&String::from_utf8_lossy(&output.stdout))?)
}

/// Readings while something else happens.
#[derive(Debug)]
enum Meter {
    #[cfg(unix)]
    Counters(PowerMeter),
    Tool(Background),
}

impl Meter {
    /// The better one that works here.
    fn open() -> Option<Self> {
        if engine::absent().is_some() {
            return None;
        }
        #[cfg(unix)]
        if probe().is_ok()
            && let Ok(meter) = engine::power_meter()
        {
            return Some(Meter::Counters(meter));
        }
        tool().ok().map(|command| Meter::Tool(Background::new(command)))
    }

    fn name(&self) -> &'static str {
        match self {
            #[cfg(unix)]
            Meter::Counters(_) => IO_REPORT,
            Meter::Tool(_) => TOOL,
        }
    }

    /// A reading, if there is a new one. Never waits.
    fn read(&mut self) -> Option<PowerSample> {
        match self {
            #[cfg(unix)]
            Meter::Counters(meter) => meter.read().ok(),
            Meter::Tool(background) => background.read(),
        }
    }
}

/// A command that is run again and again on a thread of its own.
#[derive(Debug)]
struct Background {
    command: Vec<String>,
    /// `None` once it has failed: it is not tried again.
    running: Option<Receiver<Option<PowerSample>>>,
}

impl Background {
    fn new(command: Vec<String>) -> Self {
        let running = Some(Background::start(&command));
        Background { command, running }
    }

    fn start(command: &[String]) -> Receiver<Option<PowerSample>> {
        let (done, is_done) = channel();
        let command = command.to_vec();
        std::thread::spawn(move || {
            // Nobody may be waiting any more.
            let _ = done.send(run(&command).ok());
        });
        is_done
    }

    /// The result of the last run, if it has ended; starts the next.
    fn read(&mut self) -> Option<PowerSample> {
        match self.running.as_ref()?.try_recv() {
            Err(TryRecvError::Empty) => None,
            Ok(Some(sample)) => {
                self.running = Some(Background::start(&self.command));
                Some(sample)
            }
            Ok(None) | Err(TryRecvError::Disconnected) => {
                self.running = None;
                None
            }
        }
    }
}

/// Readings during a run: the system counts for the whole machine.
#[derive(Debug)]
pub(crate) struct RunPower {
    meter: Option<Meter>,
    /// When the last reading was, and how many tokens had been trained on.
    last: (Instant, u64),
    step: u64,
    tokens: u64,
    tokens_per_step: u64,
}

/// Joules and seconds by part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    parts: [(f64, f64); 4],
    seconds: f64,
}

impl Totals {
    /// Adds a reading.
    pub(crate) fn add(&mut self, sample: &PowerSample) {
        self.seconds += sample.seconds;
        for ((joules, seconds), watts) in self.parts.iter_mut().zip(sample.parts()) {
            if let Some(watts) = watts {
                *joules += watts * sample.seconds;
                *seconds += sample.seconds;
            }
        }
    }

    /// The mean of all readings, each weighed by its time.
    pub(crate) fn mean(&self) -> PowerSample {
        let watts = self.parts.map(|(joules, seconds)| (seconds > 0.0).then(|| joules / seconds));
        PowerSample::new(self.seconds, watts)
    }
}

impl RunPower {
    /// Begins to read, where that is possible.
    pub(crate) fn open(tokens_per_step: usize) -> Self {
        RunPower::with(Meter::open(), tokens_per_step)
    }

    fn with(meter: Option<Meter>, tokens_per_step: usize) -> Self {
        let (last, tokens_per_step) = ((Instant::now(), 0), tokens_per_step as u64);
        RunPower { meter, last, step: 0, tokens: 0, tokens_per_step }
    }

    /// A reading since the last one, if there is any.
    fn read(&mut self) -> Option<Event> {
        let meter = self.meter.as_mut()?;
        let sample = meter.read()?;
        let watts = sample.watts()?;
        let (now, (then, before)) = (Instant::now(), self.last);
        let tokens = self.tokens - before;
        self.last = (now, self.tokens);
        let joules = watts * (now - then).as_secs_f64();
        Some(Event::Power {
            step: self.step,
            source: meter.name().to_owned(),
            sample,
            joules_per_token: (tokens > 0).then(|| joules / tokens as f64),
        })
    }
}

impl Hook for RunPower {
    /// Reads if it is time.
    fn after_step(&mut self, step: u64, _may_save: bool) -> Result<Option<Event>, TrainError> {
        (self.step, self.tokens) = (step, self.tokens + self.tokens_per_step);
        let early = self.last.0.elapsed() < INTERVAL;
        Ok(if early { None } else { self.read() })
    }

    fn at_end(&mut self) -> Option<Event> {
        self.read()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A command that prints what the tool would, or fails.
    fn script(text: &str, status: u8) -> Vec<String> {
        let line = format!("printf '%s' '{text}'; echo refused >&2; exit {status}");
        ["/bin/sh", "-c", &line].map(str::to_owned).to_vec()
    }

    const LIST: &str = "<plist><dict><key>elapsed_ns</key><integer>1000000000</integer>\
        <key>processor</key><dict><key>ane_power</key><real>250</real></dict></dict></plist>";

    /// Reads until there is something, or for a minute.
    fn wait(background: &mut Background) -> Option<PowerSample> {
        let start = Instant::now();
        while background.running.is_some() && start.elapsed() < Duration::from_secs(60) {
            if let Some(sample) = background.read() {
                return Some(sample);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    #[test]
    fn the_tool_is_run_again_and_again() {
        let expected = PowerSample::new(1.0, [Some(0.25), None, None, None]);
        assert_eq!(run(&script(LIST, 0)).unwrap(), expected);
        let mut background = Background::new(script(LIST, 0));
        assert_eq!(wait(&mut background), Some(expected));
        assert_eq!(wait(&mut background), Some(expected));
    }

    #[test]
    fn a_tool_that_refuses_is_not_asked_again() {
        let error = run(&script(LIST, 1)).unwrap_err().to_string();
        assert!(error.contains("powermetrics: refused"), "{error}");
        assert!(run(&script("", 0)).unwrap_err().to_string().contains("no property list"));
        assert!(run(&["/nowhere/powermetrics".to_owned()]).is_err());
        let mut background = Background::new(script(LIST, 1));
        assert_eq!(wait(&mut background), None);
        assert!(background.running.is_none());
    }

    #[test]
    fn totals_weigh_readings_by_their_time() {
        let mut totals = Totals::default();
        totals.add(&PowerSample::new(1.0, [Some(2.0), None, Some(1.0), None]));
        totals.add(&PowerSample::new(3.0, [Some(6.0), None, None, None]));
        assert_eq!(totals.mean(), PowerSample::new(4.0, [Some(5.0), None, Some(1.0), None]));
    }

    #[test]
    fn without_a_meter_there_is_nothing_to_say() {
        let mut power = RunPower::with(None, 100);
        assert!(power.after_step(1, false).unwrap().is_none() && power.at_end().is_none());
        let tool = Meter::Tool(Background::new(script(LIST, 0)));
        let mut power = RunPower { meter: Some(tool), ..power };
        let start = Instant::now();
        let event = loop {
            match power.read() {
                Some(event) => break event,
                None if start.elapsed() > Duration::from_secs(60) => panic!("no reading"),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!((&json["event"], &json["source"]), (&"power".into(), &TOOL.into()));
        assert_eq!((&json["ane_watts"], json.get("cpu_watts")), (&0.25.into(), None));
    }
}
