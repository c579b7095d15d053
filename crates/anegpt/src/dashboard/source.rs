//! Where a run's events come from, and what is done to a run: its log is followed, it is asked to stop, commands
//! are started beside it.

use super::app::Shown;
use crate::clock;
use crate::record::{Follower, News, Record};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;
use tempfile::NamedTempFile;
use train::Lock;

/// Tokens of a text that is asked for.
const TOKENS: &str = "200";
/// Bytes of a command's errors that are shown: the last ones.
const ERRORS: usize = 4 << 10;

/// A run: the log that is followed and the command that was started here, if one was.
#[derive(Debug)]
pub(crate) struct Source {
    log: Follower,
    directory: Option<PathBuf>,
    started: Option<Started>,
    /// The text that is being generated: its checkpoint and the text.
    asked: Option<Receiver<(String, String)>>,
}

/// A command that was started here. Its errors go to a file and not to a pipe, so that it goes on without us.
#[derive(Debug)]
struct Started {
    child: Child,
    errors: NamedTempFile,
    /// Sessions in the log before it began its own.
    sessions: usize,
    /// How it ended, once it has.
    status: Option<ExitStatus>,
    /// True if its directory was created for it.
    reserved: bool,
}

impl Source {
    /// A run of which `path` is the directory or the log.
    pub(crate) fn of(path: &Path) -> Self {
        let (log, directory) = match path.is_dir() {
            true => (path.join("log.jsonl"), Some(path.to_owned())),
            false => (path.to_owned(), directory_of(path)),
        };
        Source { log: Follower::new(log), directory, started: None, asked: None }
    }

    /// Starts `anegpt` with these words, which have it write to `directory`, and follows its log. A directory that was
    /// `reserved` for it is removed again if it fails before it begins.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(words: &[String], directory: PathBuf, reserved: bool) -> Result<Self> {
        let log = Follower::new(directory.join("log.jsonl"));
        let sessions = sessions(&directory);
        let started = Some(Started { reserved, ..start(words, sessions)? });
        Ok(Source { log, directory: Some(directory), started, asked: None })
    }

    /// Reads on for about `most` and brings `shown` up to date. True if there was anything new.
    pub(super) fn read(&mut self, most: Duration, shown: &mut Shown) -> bool {
        // Before the log is read: what a command that has ended wrote is all there.
        self.wait_for_child();
        let mut news = false;
        let result = self.log.read(most, |told| {
            // A log that begins anew is that of a run anew: what was asked of the old one is over.
            if told == News::Anew {
                shown.stopping = false;
            }
            shown.record.take(told);
            news = true;
        });
        let size = std::fs::metadata(self.log.path()).map_or(0, |file| file.len());
        match result {
            Ok(unread) => (shown.unread, shown.fault) = ((unread, size), None),
            Err(error) => shown.fault = Some(format!("cannot read the log: {error}")),
        }
        shown.directory.clone_from(&self.directory);
        news |= self.look_at_child(shown);
        news | self.look_for_text(shown)
    }

    /// Asks whether the command that was started here has ended.
    fn wait_for_child(&mut self) {
        if let Some(started) = &mut self.started
            && started.status.is_none()
        {
            started.status = started.child.try_wait().ok().flatten();
        }
    }

    /// Takes note of the end of the command that was started here, once its log is read.
    fn look_at_child(&mut self, shown: &mut Shown) -> bool {
        let Some(started) = &self.started else { return false };
        shown.ours = started.status.is_none();
        let Some(status) = started.status.filter(|_| shown.unread.0 == 0) else { return false };
        // A session that says how it ended has not failed, whatever its exit code.
        let told = shown.record.sessions > started.sessions && shown.record.ended.is_some();
        if !told && !status.success() {
            shown.failed = true;
            shown.errors = tail(started.errors.path());
            if let Some(directory) = self.directory.as_ref().filter(|_| started.reserved) {
                remove_unused(directory);
            }
        }
        self.started = None;
        true
    }

    fn look_for_text(&mut self, shown: &mut Shown) -> bool {
        let Some(asked) = &self.asked else { return false };
        match asked.try_recv() {
            Ok((from, text)) => shown.answer(from, text),
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => {
                shown.answer("nowhere".to_owned(), "failed".to_owned())
            }
        }
        self.asked = None;
        true
    }

    /// Asks the run to stop, as `kill` does: it saves a checkpoint.
    ///
    /// # Errors
    /// When no run is going on there, or the system refuses.
    pub(super) fn stop(&mut self) -> Result<()> {
        let id = match (&self.started, &self.directory) {
            (Some(started), _) => started.child.id(),
            (None, Some(directory)) => Lock::holder(directory).with_context(|| {
                format!("no run of this machine goes on in {}", directory.display())
            })?,
            (None, None) => bail!("this log belongs to no directory of a run"),
        };
        ensure!(cfg!(unix), "runs are stopped with Ctrl-C in their own terminal on this system");
        let status = Command::new("kill").args(["-TERM", &id.to_string()]).status();
        let status = status.context("cannot start kill")?;
        ensure!(status.success(), "the process {id} cannot be asked to stop");
        Ok(())
    }

    /// Generates a text from the newest checkpoint, on the CPU and beside the run; it arrives later. A model that `talks`
    /// is asked `prompt`, which stands before its answer; others continue it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn sample(&mut self, prompt: Option<&str>, talks: bool) -> Result<()> {
        let directory =
            self.directory.as_ref().context("this log belongs to no directory of a run")?;
        let mut command = Command::new(ourselves()?);
        let prompt = prompt.unwrap_or_default();
        let (word, device) =
            if talks { ("chat", &[][..]) } else { ("generate", &["--device", "cpu"][..]) };
        command.arg(word).arg("--model").arg(directory).args(device);
        command.args(["--max-tokens", TOKENS, "--seed", &seed()]);
        command.arg(format!("--prompt={prompt}"));
        let before = if talks { format!("{prompt}\n→ ") } else { String::new() };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("cannot start anegpt")?;
        let (done, asked) = channel();
        let from = directory.display().to_string();
        std::thread::spawn(move || {
            let text = match child.wait_with_output() {
                Ok(output) if output.status.success() => {
                    before + &String::from_utf8_lossy(&output.stdout)
                }
                Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
                Err(error) => error.to_string(),
            };
            // Nobody may be waiting any more.
            let _ = done.send((from, text));
        });
        self.asked = Some(asked);
        Ok(())
    }

    /// Starts the command that goes on with the run. Its events follow in the same log, which has `sessions` already.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn resume(&mut self, words: &[String], sessions: usize) -> Result<()> {
        self.started = Some(start(words, sessions)?);
        Ok(())
    }
}

/// The directory of the run that a log belongs to: one with checkpoints in it.
fn directory_of(log: &Path) -> Option<PathBuf> {
    let parent = log.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    (log.file_name()? == "log.jsonl" && train::checkpoint::exists(parent))
        .then(|| parent.to_owned())
}

fn ourselves() -> Result<PathBuf> {
    std::env::current_exe().context("where is this program?")
}

/// A seed by the clock: each text that is asked for is another one.
fn seed() -> String {
    ((1e3 * clock::now()) as u64 % 1_000_000).to_string()
}

/// Removes a directory in which no run began.
fn remove_unused(directory: &Path) {
    if !directory.join("log.jsonl").exists() {
        // What cannot be removed does no harm.
        let _ = std::fs::remove_file(directory.join(".lock"));
        let _ = std::fs::remove_dir(directory);
    }
}

/// Sessions in the log of a directory.
fn sessions(directory: &Path) -> usize {
    Record::of(&directory.join("log.jsonl")).map_or(0, |record| record.sessions)
}

fn start(words: &[String], sessions: usize) -> Result<Started> {
    let errors = tempfile::Builder::new().prefix("anegpt-").tempfile();
    let errors = errors.context("cannot create a temporary file")?;
    let mut command = Command::new(ourselves()?);
    let to = errors.reopen().context("cannot open a temporary file")?;
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(to);
    // A group of its own: what is typed here, or the end of this terminal, does not reach it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.spawn().context("cannot start anegpt")?;
    Ok(Started { child, errors, sessions, status: None, reserved: false })
}

/// The end of a text file.
fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(ERRORS)..]).into_owned()
}
