//! Events as lines of JSON: the log of a run, and what other programs read.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use train::Event;

/// An event as it is written.
#[derive(serde::Serialize)]
struct Timed<'e> {
    #[serde(flatten)]
    event: &'e Event,
    /// Seconds since 1970 (UTC), to the millisecond.
    time: f64,
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1e3
}

/// The line of an event, with the time.
pub(super) fn line(event: &Event) -> Result<String> {
    Ok(serde_json::to_string(&Timed { event, time: now() })?)
}

/// Opens the log of a run to append to. A line that was cut short, when the run was killed, ends here.
pub(super) fn open_log(out: &Path) -> Result<File> {
    let path = out.join("log.jsonl");
    let open = || {
        let mut log = File::options().create(true).read(true).append(true).open(&path)?;
        let mut last = [b'\n'];
        if log.seek(SeekFrom::End(0))? > 0 {
            log.seek(SeekFrom::End(-1))?;
            log.read_exact(&mut last)?;
        }
        if last != [b'\n'] {
            log.write_all(b"\n")?;
        }
        Ok::<_, std::io::Error>(log)
    };
    open().with_context(|| format!("cannot write {}", path.display()))
}

/// Calls `each` with every event of a log. What is no JSON was cut short when a run was killed, and is
/// left out.
///
/// # Errors
/// When the log cannot be read, or a line of JSON is no event.
pub(crate) fn read(log: impl BufRead, mut each: impl FnMut(&Event)) -> Result<()> {
    for (index, line) in log.lines().enumerate() {
        let line = line.context("cannot read the log")?;
        let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        let event = serde_json::from_value(value)
            .with_context(|| format!("line {} of the log is not an event", index + 1))?;
        each(&event);
    }
    Ok(())
}
