//! Fetching data sets over the network, so that an interrupted transfer is continued.
//!
//! Transfers are done by the system's `curl`, which comes with macOS and practically every Linux:
//! it brings the certificates, proxies and TLS stack that the machine trusts, so that none has to
//! be built into this program and kept safe. This module only reads curl's standard output, and
//! so decides itself what to keep: bytes are appended to `NAME.part`, a transfer that broke off is
//! continued with a range request, guarded by the entity tag of the first answer (`NAME.part.etag`)
//! so that parts of two versions are never joined, and the file gets its name only when it is
//! complete and its SHA-256 is right.
//!
//! The sum expected is, in this order: the one given; the one that Hugging Face announces for
//! large files (header `X-Linked-Etag`); the one that stands in `NAME.sha256` from an earlier
//! download. It is written to `NAME.sha256`, in the format of `sha256sum`.

mod archive;
mod curl;
mod dataset;
mod hub;
mod many;
mod tinystories;
mod token;

use crate::error::{Error, Result};
use crate::tokens::{hex, sibling};
pub use archive::unpack_tar_gz;
use curl::{Ask, Opened, Response, http_failure};
pub use dataset::{Dataset, Files, climbmix};
pub use hub::{HUB, Hub, Listing, RemoteFile, Repository};
pub use many::{Overall, fetch_all};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use tinystories::{TinyStories, TinyStoriesFiles};
pub use token::Token;

/// The activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes come in.
    Transfer,
    /// The checksum is computed.
    Verify,
    /// The archive is unpacked.
    Unpack,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The activity.
    pub stage: Stage,
    /// Bytes done, with those of earlier runs.
    pub done: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
}

/// One file to fetch.
#[derive(Debug, Clone)]
pub struct Download {
    /// `https://…` or `http://…`.
    pub url: String,
    /// Where it shall be; missing directories are made.
    pub to: PathBuf,
    /// Its size, when known.
    pub bytes: Option<u64>,
    /// SHA-256 in hexadecimal, when known.
    pub sha256: Option<String>,
    /// Attempts in a row that may fail without a new byte, after the first.
    pub retries: u32,
    /// Wait before the first retry; doubled each time, up to a minute.
    pub backoff: Duration,
    /// The program that transfers.
    pub curl: OsString,
    /// Shown to the server of `url`, and to no other that it refers to.
    pub token: Option<Token>,
    /// What to do where the server refuses access (401, 403), if more is known than in general.
    pub denied: Option<String>,
    /// True if it must be a whole Parquet file.
    pub is_parquet: bool,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// False when it had been there already.
    pub fetched: bool,
}

/// How an attempt ended, when trying again makes sense or none is needed.
enum Attempt {
    Complete,
    Failed { problem: String, advice: &'static str, retry: bool },
}

impl Download {
    /// Five retries beginning with one second, `curl` from the path.
    pub fn new(url: impl Into<String>, to: impl Into<PathBuf>) -> Download {
        Download {
            url: url.into(),
            to: to.into(),
            bytes: None,
            sha256: None,
            retries: 5,
            backoff: Duration::from_secs(1),
            curl: "curl".into(),
            token: None,
            denied: None,
            is_parquet: false,
        }
    }

    /// Accepts nothing but a whole Parquet file.
    #[must_use]
    pub fn parquet(self) -> Download {
        Download { is_parquet: true, ..self }
    }

    /// Fetches the file, or continues to; does nothing but check the sum when it is there.
    ///
    /// # Errors
    /// [`Error::CurlMissing`], [`Error::Transfer`] (no network, an HTTP error, too many
    /// interruptions: the partial file stays and is continued next time), [`Error::DiskFull`],
    /// [`Error::Checksum`] (the partial file is removed), [`Error::Busy`], [`Error::Io`].
    pub fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<Downloaded> {
        if self.to.exists() {
            return self.check_existing(progress);
        }
        if let Some(dir) = self.to.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        }
        let mut part = Part::open(&self.to)?;
        self.transfer(&mut part, progress)?;
        part.file.sync_all().map_err(Error::io(&part.path, "write"))?;
        let sum = sha256_of(&part.path, progress)?;
        self.settle(part, sum)
    }

    fn transfer(&self, part: &mut Part, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let mut failures = 0;
        let first = part.len;
        loop {
            let before = part.len;
            let (problem, advice, retry) = match self.attempt(part, progress)? {
                Attempt::Complete => return Ok(()),
                Attempt::Failed { problem, advice, retry } => (problem, advice, retry),
            };
            failures = if part.len > before { 0 } else { failures + 1 };
            // Having received something shows that the way is open: then any break is worth a
            // retry.
            let worthwhile = retry || part.len > first;
            if !worthwhile || failures > self.retries {
                return Err(self.gave_up(part, problem, advice));
            }
            let wait = self.backoff.saturating_mul(1 << failures.saturating_sub(1).min(16));
            std::thread::sleep(wait.min(Duration::from_secs(60)));
        }
    }

    fn gave_up(&self, part: &Part, problem: String, advice: &str) -> Error {
        let kept = if part.len > 0 {
            format!("; the {} bytes in {} are kept and continued", part.len, part.path.display())
        } else {
            String::new()
        };
        Error::Transfer { url: self.url.clone(), problem, advice: format!("{advice}{kept}") }
    }

    /// One run of curl, from where the partial file ends.
    fn attempt(&self, part: &mut Part, progress: &mut dyn FnMut(Progress)) -> Result<Attempt> {
        let etag = part.etag();
        let (from, etag, token) = (part.len, etag.as_deref(), self.token.as_ref());
        let Opened { mut curl, response } =
            match (Ask { url: &self.url, from, etag, token }).open(&self.curl)? {
                Ok(opened) => opened,
                Err(failure) => return Ok(failure),
            };
        if let (status @ (401 | 403), Some(advice)) = (response.status, &self.denied) {
            let (url, advice) = (self.url.clone(), advice.clone());
            return Err(Error::Denied { url, status, advice });
        }
        if let Some(sum) = &response.linked_sha256 {
            part.announced = Some(sum.clone());
        }
        let total = match begin(&response, part)? {
            Begin::Body(total) => total,
            Begin::AlreadyComplete => return Ok(Attempt::Complete),
            Begin::Failed(attempt) => return Ok(attempt),
        };
        let mut buffer = vec![0; 64 << 10];
        loop {
            progress(Progress { stage: Stage::Transfer, done: part.len, total });
            let n = match curl.body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break, // what curl says about its end is the better explanation
            };
            part.append(&buffer[..n])?;
        }
        let outcome = curl.end();
        match (outcome, total) {
            (None, Some(total)) if part.len != total => Ok(Attempt::Failed {
                problem: format!("the transfer ended at {} of {total} bytes", part.len),
                advice: "run the command again",
                retry: true,
            }),
            (None, _) => Ok(Attempt::Complete),
            (Some(failure), _) => Ok(failure),
        }
    }

    /// Checks the sum of the complete partial file, records it, and gives the file its name.
    fn settle(&self, part: Part, (bytes, sha256): (u64, String)) -> Result<Downloaded> {
        if let Some(error) = self.other_size(bytes, "the partial file was removed") {
            part.remove();
            return Err(error);
        }
        if let Some(error) =
            self.not_parquet(&part.path, "the partial file was removed, run the command again")
        {
            part.remove();
            return Err(error);
        }
        let stored = self.stored_sum()?;
        let expected = self.sha256.clone().or_else(|| part.announced.clone()).or(stored);
        if let Some(expected) = expected
            && !expected.eq_ignore_ascii_case(&sha256)
        {
            part.remove();
            return Err(Error::Checksum {
                path: self.to.clone(),
                expected,
                got: sha256,
                advice: "the download was damaged or the file has changed at its source; the \
                         partial file was removed, run the command again",
            });
        }
        self.store_sum(&sha256)?;
        std::fs::rename(&part.path, &self.to).map_err(Error::io(&self.to, "rename to"))?;
        part.remove();
        Ok(Downloaded { bytes, sha256, fetched: true })
    }

    fn check_existing(&self, progress: &mut dyn FnMut(Progress)) -> Result<Downloaded> {
        let (bytes, sha256) = sha256_of(&self.to, progress)?;
        if let Some(error) = self.other_size(bytes, "delete it to download it again") {
            return Err(error);
        }
        if let Some(error) = self.not_parquet(&self.to, "delete it to download it again") {
            return Err(error);
        }
        match self.sha256.clone().or(self.stored_sum()?) {
            Some(expected) if !expected.eq_ignore_ascii_case(&sha256) => Err(Error::Checksum {
                path: self.to.clone(),
                expected,
                got: sha256,
                advice: "delete the file to download it again",
            }),
            Some(_) => Ok(Downloaded { bytes, sha256, fetched: false }),
            None => {
                self.store_sum(&sha256)?;
                Ok(Downloaded { bytes, sha256, fetched: false })
            }
        }
    }

    /// The error of a file that has not the size that was announced.
    fn other_size(&self, bytes: u64, advice: &str) -> Option<Error> {
        let announced = self.bytes.filter(|announced| *announced != bytes)?;
        let problem = format!("{} has {bytes} bytes, not {announced}", self.to.display());
        Some(Error::Transfer { url: self.url.clone(), problem, advice: advice.to_owned() })
    }

    /// The error of a file that is to be of Parquet and is not.
    fn not_parquet(&self, path: &Path, advice: &str) -> Option<Error> {
        let problem = self.is_parquet.then(|| crate::parquet::fault(path)).flatten()?;
        let problem = format!("{}: {problem}", self.to.display());
        Some(Error::Transfer { url: self.url.clone(), problem, advice: advice.to_owned() })
    }

    fn sum_path(&self) -> PathBuf {
        sibling(&self.to, ".sha256")
    }

    fn stored_sum(&self) -> Result<Option<String>> {
        let path = self.sum_path();
        let text = match read_small(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&path, "read")(e)),
        };
        Ok(text.split_whitespace().next().filter(|sum| is_sha256(sum)).map(str::to_owned))
    }

    fn store_sum(&self, sha256: &str) -> Result<()> {
        let path = self.sum_path();
        let name = self.to.file_name().unwrap_or_default().to_string_lossy();
        let line = format!("{sha256}  {name}\n");
        std::fs::write(&path, &line).map_err(|e| Error::write(&path, 0, true, e))
    }
}

enum Begin {
    /// The body follows; the size of the whole file, where known.
    Body(Option<u64>),
    AlreadyComplete,
    Failed(Attempt),
}

/// Brings the partial file in line with the answer: appended to, begun anew, or complete.
fn begin(response: &Response, part: &mut Part) -> Result<Begin> {
    let retry = |problem: &str| {
        let (problem, advice) = (problem.to_owned(), "run the command again");
        Begin::Failed(Attempt::Failed { problem, advice, retry: true })
    };
    match (response.status, response.range) {
        (200, _) => {
            part.restart(response.etag.as_deref())?;
            Ok(Begin::Body(response.length))
        }
        (206, Some((Some(start), total))) if start == part.len => Ok(Begin::Body(total)),
        (416, Some((None, Some(total)))) if total == part.len && total > 0 => {
            Ok(Begin::AlreadyComplete)
        }
        (206 | 416, _) if part.len > 0 => {
            part.restart(None)?;
            Ok(retry("the server could not continue the partial file, which was removed"))
        }
        (status, _) => Ok(Begin::Failed(http_failure(status))),
    }
}

/// `NAME.part` and what is known of it.
struct Part {
    path: PathBuf,
    etag_path: PathBuf,
    file: File,
    len: u64,
    announced: Option<String>,
}

/// How often a lock is tried.
const LOCK_TRIES: u32 = 20;
/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

impl Part {
    /// Opens or creates, and locks it against other processes.
    fn open(target: &Path) -> Result<Part> {
        let path = sibling(target, ".part");
        let mut options = OpenOptions::new();
        let options = options.create(true).read(true).write(true).truncate(false);
        let mut file = options.open(&path).map_err(Error::io(&path, "create"))?;
        // A process being started elsewhere in this one holds what was open here until it runs its own
        // program, so a lock that was just given back may still be seen for a moment.
        for tries in 1.. {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    std::thread::sleep(LOCK_PAUSE)
                }
                Err(TryLockError::WouldBlock) => return Err(Error::Busy { path }),
                _ => break,
            }
        }
        let len = file.seek(SeekFrom::End(0)).map_err(Error::io(&path, "read"))?;
        Ok(Part { etag_path: sibling(target, ".part.etag"), path, file, len, announced: None })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(e) => Err(Error::write(&self.path, self.len, true, e)),
        }
    }

    /// Drops what is there, and remembers the version of what will come.
    fn restart(&mut self, etag: Option<&str>) -> Result<()> {
        if self.len > 0 {
            self.file.set_len(0).map_err(Error::io(&self.path, "empty"))?;
            self.file.seek(SeekFrom::Start(0)).map_err(Error::io(&self.path, "empty"))?;
            self.len = 0;
        }
        let path = &self.etag_path;
        match etag {
            Some(etag) => std::fs::write(path, etag).map_err(|e| Error::write(path, 0, true, e)),
            None => {
                let _ = std::fs::remove_file(path); // it may well not exist
                Ok(())
            }
        }
    }

    /// The entity tag that the bytes so far belong to.
    fn etag(&self) -> Option<String> {
        let etag = read_small(&self.etag_path).ok()?;
        (self.len > 0 && curl::is_strong_etag(&etag)).then_some(etag)
    }

    /// Removes what is left of it.
    fn remove(self) {
        for path in [&self.path, &self.etag_path] {
            let _ = std::fs::remove_file(path); // after a rename it is gone already
        }
    }
}

/// At most 4 KiB of a text file.
fn read_small(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(4096).read_to_string(&mut text)?;
    Ok(text)
}

/// 64 hexadecimal digits.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Size and SHA-256 of a file.
fn sha256_of(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let total = file.metadata().map_err(Error::io(path, "read"))?.len();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let n = file.read(&mut buffer).map_err(Error::io(path, "read"))?;
        if n == 0 {
            return Ok((done, hex(&hash.finalize())));
        }
        hash.update(&buffer[..n]);
        done += n as u64;
        progress(Progress { stage: Stage::Verify, done, total: Some(total) });
    }
}

#[cfg(test)]
mod tests;
