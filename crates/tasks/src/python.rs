//! Runs Python that a model wrote, so that it harms nothing by accident.
//!
//! Every program gets a fresh interpreter with limits on memory, time, files and processes, no standard input,
//! an environment of `PATH` alone, and a directory of its own; in the end all of its processes are killed.
//! Beyond that, the system decides:
//!
//! - Linux with user namespaces (`unshare`): no network, nothing can be written outside of its directory,
//!   which holds 16 MB, and no process outlives it. Root runs it as `nobody`.
//! - macOS (`sandbox-exec`): no network, no writing elsewhere, no further processes.
//! - Elsewhere the limits hold, and no further processes can be started, but network and files are those of
//!   the user.
//!
//! None of this stops a program that means harm: it can read what the user (or `nobody`) can read.

use crate::error::{Result, TaskError};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, kill_process_group, waitid};
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of memory that it may ask for.
const MEMORY: u64 = 256 << 20;
/// Bytes of a file that it writes.
const FILE: u64 = 1 << 20;
/// Files that it has open.
const FILES: u64 = 64;
/// Processes and threads, where all of them can be killed.
const PROCESSES: u64 = 16;
/// Bytes of its errors that are looked at: the last ones.
const ERRORS: usize = 64 << 10;
/// Bytes of its output that are kept: the first ones.
const OUTPUT: usize = 4 << 10;
/// User that stands for no one.
const NOBODY: u32 = 65534;

/// Sets the limits, then becomes the program.
const LIMIT: &str = include_str!("python/limit.py");
/// Makes all mounts read-only but the program's directory, which becomes one of its own.
const CONTAIN: &str = include_str!("python/contain.sh");

/// The programs of this process that run.
struct Running {
    /// No program may start.
    stopped: bool,
    /// Groups of processes. A group stands here until the program is waited for, so that nobody else has its number.
    groups: Vec<Pid>,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { stopped: false, groups: vec![] });

/// The programs that run; every change of them is whole, even where a thread failed.
fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a program is kept from the rest of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walls {
    /// Namespaces of Linux.
    Namespaces,
    /// The sandbox of macOS.
    Sandbox,
    /// Limits alone.
    Limits,
}

/// A Python to run programs with.
#[derive(Clone, Debug)]
pub struct Python {
    interpreter: PathBuf,
    walls: Walls,
    nobody: bool,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With exit status 0.
    Passed,
    /// Otherwise; the last line of its errors, or how it ended.
    Failed(String),
    /// It was killed after 5 seconds.
    TimedOut,
}

impl Python {
    /// Seconds that a program may take, of the clock and of a processor.
    pub const SECONDS: u64 = 5;

    /// Finds a `python3` on `PATH`, and the strongest walls that it runs behind.
    ///
    /// # Errors
    /// When there is none that runs.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let candidates = std::env::split_paths(&path).map(|directory| directory.join("python3"));
        let candidates: Vec<PathBuf> = candidates.filter(|file| file.is_file()).collect();
        let nobody: &[bool] = if geteuid().is_root() { &[true, false] } else { &[false] };
        for walls in [Walls::Namespaces, Walls::Sandbox, Walls::Limits] {
            for &nobody in nobody {
                for interpreter in candidates.clone() {
                    let python = Python { interpreter, walls, nobody };
                    if python.available() && matches!(python.run("1 + 1"), Ok(Ended::Passed)) {
                        return Ok(python);
                    }
                }
            }
        }
        let reason = match candidates.first() {
            None => "there is none on PATH: install Python 3".to_owned(),
            Some(file) => format!("{} does not run", file.display()),
        };
        Err(TaskError::Python { reason })
    }

    fn available(&self) -> bool {
        match self.walls {
            Walls::Namespaces => cfg!(target_os = "linux"),
            Walls::Sandbox => cfg!(target_os = "macos"),
            Walls::Limits => true,
        }
    }

    /// Returns what a program can do, in words.
    pub fn describe(&self) -> String {
        let walls = match self.walls {
            Walls::Namespaces | Walls::Sandbox => "no network, files read-only",
            Walls::Limits => "with your network and files",
        };
        let user = if self.nobody { ", as nobody" } else { "" };
        format!("{}, {walls}{user}", self.interpreter.display())
    }

    /// True if the system keeps a program from the network, and from writing outside of its own directory.
    pub fn is_walled(&self) -> bool {
        self.walls != Walls::Limits
    }

    /// Runs a program as `__main__` and kills what it leaves behind.
    ///
    /// # Errors
    /// When it cannot be started, or was stopped (see [`Python::stop_all`]).
    pub fn run(&self, program: &str) -> Result<Ended> {
        Ok(self.execute(program, Stdio::null())?.0)
    }

    /// Runs a program as [`Python::run`] does; also returns the first 4 KB of its output.
    ///
    /// # Errors
    /// When it cannot be started, or was stopped.
    pub fn output(&self, program: &str) -> Result<(Ended, String)> {
        let (ended, printed) = self.execute(program, Stdio::piped())?;
        Ok((ended, String::from_utf8_lossy(&printed).into_owned()))
    }

    /// Kills all programs that this process runs, and starts no more until [`Python::go_on`]: for handlers of
    /// signals, which the programs do not get. Those who wait for a program get [`TaskError::Stopped`].
    pub fn stop_all() {
        let mut running = running();
        running.stopped = true;
        for &group in &running.groups {
            // It may be ending by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Lets programs start again after [`Python::stop_all`].
    pub fn go_on() {
        running().stopped = false;
    }

    fn execute(&self, program: &str, output: Stdio) -> Result<(Ended, Vec<u8>)> {
        let failed = |error: std::io::Error| TaskError::Python { reason: error.to_string() };
        let directory = tempfile::tempdir().map_err(failed)?;
        let path = directory.path().canonicalize().map_err(failed)?;
        let (file, own) = self.lay_out(&path, program).map_err(failed)?;
        let mut command = self.command(&file, &own);
        command.current_dir(&own).env_clear().process_group(0);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        if self.nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
        let child = start(command)?.map_err(failed)?;
        match finish(child).map_err(failed)? {
            (Ended::Failed(_), _) if running().stopped => Err(TaskError::Stopped),
            ended => Ok(ended),
        }
    }

    /// Writes the program and a directory for it to run in.
    fn lay_out(&self, directory: &Path, program: &str) -> std::io::Result<(PathBuf, PathBuf)> {
        let (file, own) = (directory.join("program.py"), directory.join("own"));
        fs::write(&file, program)?;
        fs::create_dir(&own)?;
        if self.nobody {
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
            std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY))?;
        }
        Ok((file, own))
    }

    fn command(&self, file: &Path, own: &Path) -> Command {
        let processes = if self.walls == Walls::Namespaces { PROCESSES } else { 0 };
        let limits =
            [MEMORY, Python::SECONDS, FILE, FILES, processes].map(|limit| limit.to_string());
        let mut python = vec![self.interpreter.as_os_str(), "-I".as_ref(), "-c".as_ref()];
        python.extend([LIMIT.as_ref(), file.as_os_str()]);
        python.extend(limits.iter().map(std::ffi::OsStr::new));
        let mut command = match self.walls {
            Walls::Limits => {
                let mut command = Command::new(python[0]);
                command.args(&python[1..]);
                return command;
            }
            Walls::Sandbox => {
                let mut command = Command::new("sandbox-exec");
                command.args(["-p", &profile(own)]);
                command
            }
            Walls::Namespaces => {
                let mut command = Command::new("unshare");
                command.args(["--map-root-user", "--net", "--pid", "--ipc", "--mount", "--fork"]);
                command.args(["--kill-child", "--mount-proc", "sh", "-c", CONTAIN, "contain"]);
                command.arg(own);
                command
            }
        };
        command.args(python);
        command
    }
}

/// The rules of macOS' sandbox: no network, no processes, writing in one directory.
fn profile(own: &Path) -> String {
    format!(
        "(version 1)(allow default)(deny network*)(deny process-fork)(deny file-write*)\
         (allow file-write* (subpath {:?}) (literal \"/dev/null\"))",
        own.display().to_string()
    )
}

/// Starts a program in a group of its own, unless programs are stopped.
fn start(mut command: Command) -> Result<std::io::Result<Child>> {
    // Nobody may stop programs between the start of one and the note of it.
    let mut running = running();
    if running.stopped {
        return Err(TaskError::Stopped);
    }
    let child = command.spawn();
    running.groups.extend(child.as_ref().ok().map(Pid::from_child));
    Ok(child)
}

/// Waits for a program, and kills its group whether it ended or not. Returns what it printed, if that is read.
fn finish(mut child: Child) -> std::io::Result<(Ended, Vec<u8>)> {
    let id = Pid::from_child(&child);
    let errors = aside(child.stderr.take().expect("a pipe"), tail);
    let printed = child.stdout.take().map(|output| aside(output, head));
    let end = Instant::now() + Duration::from_secs(Python::SECONDS);
    // It is not waited for before its group is killed: until then nobody else gets its number.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let ended = loop {
        let ended = waitid(WaitId::Pid(id), options).map(|status| status.is_some());
        if !matches!(ended, Ok(false)) || Instant::now() >= end {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    // There may be none left.
    let _ = kill_process_group(id, Signal::KILL);
    running().groups.retain(|&group| group != id);
    let status = child.wait()?;
    // A process that left the group may hold the pipe open.
    let wait = |read: Receiver<Vec<u8>>| read.recv_timeout(Duration::from_secs(1));
    let errors = wait(errors).unwrap_or_default();
    let printed = printed.map(|read| wait(read).unwrap_or_default());
    let ended = match ended? {
        false => Ended::TimedOut,
        true if status.success() => Ended::Passed,
        true => Ended::Failed(reason(status, &errors)),
    };
    Ok((ended, printed.unwrap_or_default()))
}

/// Reads a pipe in a thread of its own.
fn aside<R: Read + Send + 'static>(mut from: R, read: fn(&mut R) -> Vec<u8>) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(read(&mut from)));
    receive
}

/// Reads to the end, so that nobody waits to write, and keeps the first bytes.
fn head(from: &mut impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (vec![], [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count.min(OUTPUT - kept.len())]);
    }
    kept
}

/// Reads to the end, and keeps the last bytes.
fn tail(from: &mut impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (vec![], [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * ERRORS {
            kept.drain(..kept.len() - ERRORS);
        }
    }
    kept
}

/// The last line of errors, or how a program ended without one.
fn reason(status: ExitStatus, errors: &[u8]) -> String {
    let errors = String::from_utf8_lossy(errors);
    let last = errors.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let ended = || match (status.signal(), status.code()) {
        (Some(signal), _) => format!("killed by signal {signal}"),
        (_, code) => format!("exit status {}", code.unwrap_or(-1)),
    };
    last.map_or_else(ended, |line| line.chars().take(200).collect())
}

#[cfg(test)]
mod tests;
