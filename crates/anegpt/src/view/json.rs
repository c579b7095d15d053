//! Events as lines of JSON: the log of a run, and what other programs read.

use crate::clock;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::path::Path;
use train::Event;
use train::log::{Line, parse};

/// An event as it is written.
#[derive(serde::Serialize)]
struct Timed<'e> {
    #[serde(flatten)]
    event: &'e Event,
    /// Seconds since 1970 (UTC), to the millisecond.
    time: f64,
}

/// The line of an event, with the time.
pub(super) fn line(event: &Event) -> Result<String> {
    Ok(serde_json::to_string(&Timed { event, time: clock::now() })?)
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

/// Lines of a log that were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// Lines that were cut short, as when a run was killed.
    pub(crate) torn: u64,
    /// Lines that are no events.
    pub(crate) foreign: u64,
}

impl Skipped {
    /// Counts a line that is no event of a known kind.
    pub(crate) fn count(&mut self, line: &[u8]) {
        match parse(line) {
            Line::Torn => self.torn += 1,
            Line::Foreign => self.foreign += 1,
            Line::Empty | Line::Step(_) | Line::Event(..) | Line::Other(..) => {}
        }
    }

    /// What was left out, in words; `None` if nothing was.
    pub(crate) fn note(self) -> Option<String> {
        let lines = |n: u64, one: &str, many: &str| match n {
            0 => None,
            1 => Some(format!("1 line {one}")),
            n => Some(format!("{n} lines {many}")),
        };
        let torn = lines(self.torn, "that was cut short", "that were cut short");
        let foreign = lines(self.foreign, "that is no event", "that are no events");
        let all: Vec<String> = torn.into_iter().chain(foreign).collect();
        (!all.is_empty()).then(|| format!("left out of the log: {}", all.join(", ")))
    }
}

/// Calls `each` with every event of a log that this version knows. Other lines are left out, and counted.
///
/// # Errors
/// When the log cannot be read.
pub(crate) fn read(mut log: impl BufRead, mut each: impl FnMut(&Event)) -> Result<Skipped> {
    let (mut line, mut skipped) = (vec![], Skipped::default());
    loop {
        line.clear();
        if log.read_until(b'\n', &mut line).context("cannot read the log")? == 0 {
            return Ok(skipped);
        }
        match serde_json::from_slice(&line) {
            Ok(event) => each(&event),
            Err(_) => skipped.count(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut inside a character, a bad line in the middle, an event of a later version, no end of the last line.
    #[test]
    fn what_can_be_read_is_read() {
        let warning =
            |text: &str| format!(r#"{{"event":"warning","message":"{text}","time":1.0}}"#);
        let cut = warning("é");
        let at = cut.find('é').unwrap() + 1;
        let mut log = warning("one").into_bytes();
        log.push(b'\n');
        log.extend(&cut.as_bytes()[..at]);
        log.extend(b"\n\nnot json\n\xff\n{\"event\":\"later\"}\n");
        log.extend(warning("two").as_bytes());
        let mut messages = vec![];
        let skipped = read(&log[..], |event| match event {
            Event::Warning { message } => messages.push(message.clone()),
            other => panic!("{other:?}"),
        });
        let skipped = skipped.unwrap();
        assert_eq!(messages, ["one", "two"]);
        assert_eq!(skipped, Skipped { torn: 1, foreign: 2 });
        assert_eq!(
            skipped.note().unwrap(),
            "left out of the log: 1 line that was cut short, 2 lines that are no events"
        );
        assert_eq!(Skipped::default().note(), None);
    }
}
