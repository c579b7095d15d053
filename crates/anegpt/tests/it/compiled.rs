//! Compiled programs from run to run, and processes that compile.

use crate::apple::{losses, runtime};
use crate::{Bench, with};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The outcome of a training run: losses and weights.
type Trained = (Vec<Value>, Vec<u8>);

/// A small run, and what it comes to on the emulator.
struct Setting {
    bench: Bench,
    base: Vec<String>,
    right: Trained,
}

impl Setting {
    fn new() -> Self {
        let bench = Bench::new();
        let base = bench.small_run();
        let more =
            ["--steps", "2", "--host-gemm", "ours", "--log-format", "json"].map(str::to_owned);
        let base = [base, more.to_vec()].concat();
        std::fs::create_dir(bench.path("system")).expect("a directory");
        let setting = Setting { bench, base, right: (vec![], vec![]) };
        let log = setting.bench.ok(&with(&setting.base, &["--device", "emulator", "--out", "e"]));
        let right = setting.trained(&log, "e");
        assert_eq!(right.0.len(), 2);
        Setting { right, ..setting }
    }

    fn trained(&self, log: &str, out: &str) -> Trained {
        let weights = self.bench.path(out).join("step-00000002/model.safetensors");
        (losses(log), std::fs::read(weights).expect("a checkpoint"))
    }

    /// Training over the stand-ins, whose system keeps what it compiled.
    fn command(&self, device: &str, out: &str, more: &[&str]) -> Command {
        let _ = std::fs::remove_dir_all(self.bench.path(out));
        let runtime = runtime();
        let args = ["--device", device, "--out", out, "--runtime", &runtime];
        let mut command = self.bench.command(&with(&self.base, &[&args, more].concat()));
        command.env("STANDINS_LOG", self.bench.path("log"));
        command.env("STANDINS_SYSTEM_CACHE", self.bench.path("system"));
        command
    }

    /// Demands a run with the emulator's bits; programs compiled and opened meanwhile.
    fn demand(&self, command: &mut Command, out: &str) -> (usize, usize) {
        let output = command.output().expect("it starts");
        self.check(&output, out);
        self.counts()
    }

    fn check(&self, output: &Output, out: &str) {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{out}: {}: {error}", output.status);
        let log = String::from_utf8_lossy(&output.stdout);
        assert!(self.trained(&log, out) == self.right, "{out}: not the emulator's bits");
    }

    /// Programs compiled and opened since this was asked last, by whatever process.
    fn counts(&self) -> (usize, usize) {
        let log = std::fs::read_to_string(self.bench.path("log")).unwrap_or_default();
        let _ = std::fs::remove_file(self.bench.path("log"));
        let count = |what| log.lines().filter(|&line| line == what).count();
        (count("compile"), count("open"))
    }

    /// `STANDINS_ONCE` for a fault: the first process that comes to it has it.
    fn once(&self, fault: &str, file: &str) -> String {
        format!("{fault}={}", self.bench.path(file).display())
    }
}

const DEVICES: [&str; 2] = ["in-memory", "espresso"];

#[test]
fn the_second_run_compiles_nothing() {
    let setting = Setting::new();
    for device in DEVICES {
        // The in-memory route is probed before, in a process that compiles anew.
        let probe = usize::from(device == "in-memory");
        let (compiled, _) = setting.demand(&mut setting.command(device, "first", &[]), "first");
        assert!(compiled > 2 + probe, "{device}: {compiled}");
        let again = setting.demand(&mut setting.command(device, "second", &[]), "second");
        assert_eq!(again, (probe, compiled - probe), "{device}");
        let off = ["--compile-cache", "off"];
        let without = setting.demand(&mut setting.command(device, "off", &off), "off");
        assert_eq!(without, (compiled, 0), "{device}");
        let elsewhere = ["--compile-cache", "here"];
        let fresh = setting.demand(&mut setting.command(device, "here", &elsewhere), "here");
        assert_eq!(fresh.0, compiled, "{device}: a cache of its own");
        std::fs::remove_dir_all(setting.bench.path("here")).expect("the cache");
    }
    assert!(setting.bench.path(".cache/anegpt/programs").is_dir());
    // The doctor judges what is compiled now.
    let runtime = runtime();
    for device in DEVICES {
        let doctor = ["doctor", "--device", device, "--runtime", &runtime];
        let compiles = || {
            let mut command = setting.bench.command(&doctor);
            command.env("STANDINS_LOG", setting.bench.path("log")).output().expect("it starts");
            setting.counts()
        };
        let (first, second) = (compiles(), compiles());
        assert!(first == second && first.0 > 3 && first.1 == 0, "{device}: {first:?}, {second:?}");
    }
}

#[test]
fn a_process_that_compiles_may_hang_or_crash() {
    let setting = Setting::new();
    for device in DEVICES {
        for fault in ["hang", "crash"] {
            let out = format!("{device}-{fault}");
            // In memory the probe would be the first to come to it.
            let args =
                ["--compile-in", "child", "--compile-limit", "2", "--no-packed", "--compile-cache"];
            let args = [&args[..], &[&out]].concat();
            let mut command = setting.command(device, &out, &args);
            command.env("STANDINS_ONCE", setting.once(fault, &format!("once-{out}")));
            setting.demand(&mut command, &out);
            assert!(
                setting.bench.path(&format!("once-{out}")).exists(),
                "{out}: it never happened"
            );
        }
    }
}

#[test]
fn a_program_that_hangs_or_crashes_every_compiler_ends_the_run_with_its_name() {
    let setting = Setting::new();
    let args = ["--compile-limit", "1", "--compile-cache", "kept"];
    for (fault, how) in
        [("crash:-1", "it crashed (signal: 6 (SIGABRT)"), ("hang:-1", "it did not end within 1 s")]
    {
        let start = Instant::now();
        let mut command = setting.command("espresso", "never", &args);
        let output = command.env("STANDINS_FAULTS", fault).output().expect("it starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "an error, no crash: {error}");
        assert!(error.contains(how) && error.contains("tried 3 times"), "{error}");
        let kept = error.split("is kept in ").nth(1).and_then(|rest| rest.split(" (please").next());
        let program = Path::new(kept.expect("a path")).join("model.mil");
        let text = std::fs::read_to_string(program).expect("the program");
        let name = error.split('`').nth(1).expect("a name");
        assert!(text.contains(&format!("func {name}<")), "{name}: {text}");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}

#[test]
fn a_system_that_takes_no_other_processs_programs_trains_all_the_same() {
    let setting = Setting::new();
    let run = |out| {
        let mut command = setting.command("espresso", out, &[]);
        setting.demand(command.env("STANDINS_FAULTS", "bundles refused:-1"), out)
    };
    let (first, second) = (run("first"), run("second"));
    // The first program of the first run was compiled twice, to find that out.
    assert_eq!((first.0, second.0), (second.0 + 1, first.0 - 1));
    assert_eq!((first.1, second.1), (1, 0));
}

#[test]
fn a_run_that_died_of_opening_a_program_is_the_only_one() {
    let setting = Setting::new();
    for device in DEVICES {
        let (compiled, _) = setting.demand(&mut setting.command(device, "first", &[]), "first");
        let mut command = setting.command(device, "dies", &[]);
        command.env("STANDINS_ONCE", setting.once("open crash", &format!("died-{device}")));
        let output = command.output().expect("it starts");
        assert_eq!(output.status.code(), None, "{device}: a crash");
        setting.counts();
        // That program is compiled again, the others are not.
        let probe = usize::from(device == "in-memory");
        let after = setting.demand(&mut setting.command(device, "after", &[]), "after");
        assert_eq!(after.0, 1 + probe, "{device}, of {compiled}");
    }
}

#[test]
fn runs_at_the_same_time_share_a_cache() {
    let setting = Setting::new();
    for device in DEVICES {
        let outs = ["one", "two", "three"].map(|out| format!("{device}-{out}"));
        let children: Vec<_> = (outs.iter())
            .map(|out| {
                let mut command = setting.command(device, out, &[]);
                command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                command.spawn().expect("it starts")
            })
            .collect();
        for (child, out) in children.into_iter().zip(&outs) {
            setting.check(&child.wait_with_output().expect("an end"), out);
        }
        setting.counts();
        let probe = usize::from(device == "in-memory");
        let after = setting.demand(&mut setting.command(device, "after", &[]), "after");
        assert_eq!(after.0, probe, "{device}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_refused() {
    let setting = Setting::new();
    setting.bench.write("file", "not a directory");
    let mut command = setting.command("espresso", "refused", &["--compile-cache", "file"]);
    let output = command.output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--compile-cache file: ") && error.contains("or off"), "{error}");
}

/// Processes of this test that were started with `flag`, by what the system lists of them.
#[cfg(target_os = "linux")]
fn started_with(flag: &str, setting: &Setting) -> usize {
    let ours = setting.bench.path("log").display().to_string();
    let listed = std::fs::read_dir("/proc").expect("a list of processes").flatten();
    let has = |directory: &Path, file: &str, part: &str| {
        let bytes = std::fs::read(directory.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(part)
    };
    let flag = format!("\0{flag}\0");
    listed
        .filter(|item| has(&item.path(), "cmdline", &flag) && has(&item.path(), "environ", &ours))
        .count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_hangs_for_another_ends_with_it() {
    let setting = Setting::new();
    for (device, flag) in [("espresso", "--compile"), ("in-memory", "--probe")] {
        let wait = |what: &str, count: usize| {
            let start = Instant::now();
            while started_with(flag, &setting) != count {
                assert!(start.elapsed() < Duration::from_secs(30), "{flag}: {what}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        let mut command = setting.command(device, "killed", &[]);
        command.env("STANDINS_FAULTS", "hang:-1").stdout(std::process::Stdio::null());
        let mut run = command.stderr(std::process::Stdio::null()).spawn().expect("it starts");
        wait("no such process", 1);
        run.kill().expect("it is killed");
        run.wait().expect("it ends");
        wait("it goes on", 0);
    }
}
