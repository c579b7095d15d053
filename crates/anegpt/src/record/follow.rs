//! The lines of a log that may still grow, be cut, or give way to a new file of its name.

use memchr::memchr;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Result, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of a read.
const BLOCK: usize = 256 << 10;
/// Bytes of the longest line: what is longer is no event of ours, and is left out.
const LONGEST: usize = 16 << 20;

/// What a log has to tell.
#[derive(Debug, PartialEq)]
pub(crate) enum News<'l> {
    /// A line, without its end.
    Line(&'l [u8]),
    /// A line that is too long to be kept.
    TooLong,
    /// The log was cut short or written anew: what it told before no longer holds.
    Anew,
}

/// A log and how far it was read.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    file: Option<Opened>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    /// True in the middle of a line that is too long.
    skipping: bool,
    block: Vec<u8>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    read: u64,
}

impl Follower {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        let (path, block) = (path.into(), vec![0; BLOCK]);
        Follower { path, file: None, partial: vec![], skipping: false, block }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads on, for about `most`, and tells `each` what there is. Returns the bytes that wait. A log
    /// that does not exist yet has nothing to tell.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn read(&mut self, most: Duration, mut each: impl FnMut(News<'_>)) -> Result<u64> {
        let start = Instant::now();
        loop {
            if self.file.is_none() && !self.open()? {
                return Ok(0);
            }
            let Some(opened) = &mut self.file else { return Ok(0) };
            let length = opened.file.metadata()?.len();
            if length < opened.read {
                opened.file.seek(SeekFrom::Start(0))?;
                opened.read = 0;
                self.forget_line();
                each(News::Anew);
                continue;
            }
            let count = opened.file.read(&mut self.block)?;
            opened.read += count as u64;
            let waiting = length.saturating_sub(opened.read);
            if count == 0 {
                self.tell_unended(&mut each);
                if !self.is_replaced() {
                    return Ok(0);
                }
                // The old file is read to its end; the new one goes on.
                self.file = None;
                self.forget_line();
                continue;
            }
            let block = std::mem::take(&mut self.block);
            self.split(&block[..count], &mut each);
            self.block = block;
            if start.elapsed() >= most {
                return Ok(waiting);
            }
        }
    }

    fn open(&mut self) -> Result<bool> {
        match File::open(&self.path) {
            Ok(file) => {
                self.file = Some(Opened { file, read: 0 });
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True if another file has the name now.
    fn is_replaced(&self) -> bool {
        let ours = self.file.as_ref().and_then(|opened| opened.file.metadata().ok());
        let theirs = std::fs::metadata(&self.path).ok();
        ours.zip(theirs).is_some_and(|(ours, theirs)| !same(&ours, &theirs))
    }

    /// Tells a last line that is whole but for its end, as where an editor took that away.
    fn tell_unended(&mut self, each: &mut impl FnMut(News<'_>)) {
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>;
        if self.partial.ends_with(b"}") && whole(&self.partial).is_ok() {
            each(News::Line(&self.partial));
            self.partial.clear();
        }
    }

    /// True if the beginning of a line waits for the rest.
    pub(crate) fn in_a_line(&self) -> bool {
        !self.partial.is_empty() || self.skipping
    }

    fn forget_line(&mut self) {
        self.partial.clear();
        self.skipping = false;
    }

    fn split(&mut self, block: &[u8], each: &mut impl FnMut(News<'_>)) {
        let mut rest = block;
        loop {
            let end = memchr(b'\n', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            self.piece(piece, end.is_some(), each);
            let Some(end) = end else { return };
            rest = &rest[end + 1..];
        }
    }

    /// Takes a piece of a line, which `ends` it or does not.
    fn piece(&mut self, piece: &[u8], ends: bool, each: &mut impl FnMut(News<'_>)) {
        if self.skipping {
            self.skipping = !ends;
        } else if self.partial.len() + piece.len() > LONGEST {
            self.partial = vec![];
            self.skipping = !ends;
            each(News::TooLong);
        } else if !ends {
            self.partial.extend_from_slice(piece);
        } else if self.partial.is_empty() {
            each(News::Line(piece));
        } else {
            self.partial.extend_from_slice(piece);
            each(News::Line(&self.partial));
            self.partial.clear();
        }
    }
}

#[cfg(unix)]
fn same(ours: &Metadata, theirs: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
}

/// Elsewhere an open file keeps its name.
#[cfg(not(unix))]
fn same(_: &Metadata, _: &Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn news(follower: &mut Follower) -> Vec<String> {
        let mut told = vec![];
        let waiting = follower.read(Duration::from_secs(60), |news| {
            told.push(match news {
                News::Line(line) => String::from_utf8_lossy(line).into_owned(),
                News::TooLong => "(too long)".to_owned(),
                News::Anew => "(anew)".to_owned(),
            });
        });
        assert_eq!(waiting.unwrap(), 0);
        told
    }

    fn add(path: &Path, text: &str) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_log_that_grows_is_told_by_the_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        let mut follower = Follower::new(&path);
        assert_eq!(news(&mut follower), [""; 0]);
        add(&path, "one\ntw");
        assert_eq!(news(&mut follower), ["one"]);
        assert_eq!(news(&mut follower), [""; 0]);
        add(&path, "o\n\nthree");
        assert_eq!(news(&mut follower), ["two", ""]);
        add(&path, "\n");
        assert_eq!(news(&mut follower), ["three"]);
    }

    #[test]
    fn a_last_line_is_told_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        add(&path, r#"{"a": {}"#);
        let mut follower = Follower::new(&path);
        assert_eq!(news(&mut follower), [""; 0]);
        assert!(follower.in_a_line());
        add(&path, "}");
        assert_eq!(news(&mut follower), [r#"{"a": {}}"#]);
        assert!(!follower.in_a_line());
        add(&path, "\n{}\n");
        assert_eq!(news(&mut follower), ["", "{}"]);
    }

    #[test]
    fn a_log_that_is_cut_begins_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        add(&path, "one\ntwo\npart");
        let mut follower = Follower::new(&path);
        assert_eq!(news(&mut follower), ["one", "two"]);
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(news(&mut follower), ["(anew)", "new"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_log_that_is_rotated_is_read_to_its_end_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        add(&path, "one\n");
        let mut follower = Follower::new(&path);
        assert_eq!(news(&mut follower), ["one"]);
        let old = directory.path().join("log.jsonl.1");
        std::fs::rename(&path, &old).unwrap();
        add(&old, "two\npart");
        assert_eq!(news(&mut follower), ["two"]);
        add(&path, "three\n");
        assert_eq!(news(&mut follower), ["three"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        add(&path, &format!("one\n{}\ntwo\n", "x".repeat(LONGEST + BLOCK)));
        assert_eq!(news(&mut Follower::new(&path)), ["one", "(too long)", "two"]);
    }

    #[test]
    fn a_large_log_is_read_in_parts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        add(&path, &"a line of some length\n".repeat(100_000));
        let (mut follower, mut lines) = (Follower::new(&path), 0);
        let first = follower.read(Duration::ZERO, |_| lines += 1).unwrap();
        assert_eq!(first, 2_200_000 - BLOCK as u64);
        assert_eq!(lines, BLOCK / 22);
        while follower.read(Duration::ZERO, |_| lines += 1).unwrap() > 0 {}
        assert_eq!(lines, 100_000);
    }
}
