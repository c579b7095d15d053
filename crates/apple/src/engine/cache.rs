//! Programs that were compiled before, by what went into them.
//!
//! Each entry is a directory whose name is the SHA-256 of everything that a compiler saw (route, text,
//! weights, options, build of the system, chip). It has a record of what belongs to it, which is
//! checked, to the byte, whenever it is used. Entries are made beside their place and renamed into
//! it, so that nobody sees half of one; whoever uses one holds a lock on its record, so that nobody
//! removes it meanwhile; the entry that was not used for the longest time goes first.
//!
//! **Sources conflict.** ANEForge found that a compiled program belongs to the process that compiled
//! it, or to children of one signature (`D-signed-programs`); tmc/apple opened bundles in another
//! process, with the sources deleted in between (`D-bundles-reopened`). So whatever opens
//! here is used, and whatever does not is compiled as if there were no cache; a system that refuses
//! what was just compiled for it is not asked again until its build changes
//! ([`Store::is_trusted`]). A bundle outlives the system's service, but two of the day before did not
//! open any more (`D-bundles-age`), so that refusing what is old says nothing of other processes.

use super::dynamic::Libraries;
use super::files::Sources;
use super::system;
use crate::error::AppleError;
use crate::route::Route;
use ane::AneError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Where compiled programs are kept, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The directory, which is made when it is first needed.
    pub directory: PathBuf,
    /// Bytes that all entries may have together.
    pub most_bytes: u64,
}

/// Changes when entries of before mean something else.
const FORMAT: u32 = 1;
/// The file that says what an entry is, and whose lock protects it.
const RECORD: &str = "entry.json";
/// The largest record that is read: some ten thousand files.
const RECORD_BYTES: u64 = 4 << 20;
/// Where an entry keeps what Espresso's compiler made.
pub(super) const BUNDLES: &str = "bundles";
/// Start of the name of a file that says how often this system refused, or a process died of, what
/// another process had compiled by a route.
const REFUSALS: &str = "refusals-";
/// Occasions after which a system is not asked again.
const MOST_REFUSALS: u32 = 2;
/// Prefix of directories that are being made or removed.
const NEW: &str = "new-";
/// Prefix of programs whose compile hung or crashed.
const FAILED: &str = "failed-";
/// Prefix of a mark in an entry that is being opened.
const OPENING: &str = "opening-";
/// Age up to which an entry is one that a system would take if it took any: minutes were seen to be
/// little enough, a day to be too much (`D-bundles-age`).
const RECENT: Duration = Duration::from_secs(3600);
/// Age at which a directory that is being made is taken for one of a process that died.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// The name of an entry: a SHA-256 in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

/// The state of an entry.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    key: String,
    /// When it was made, in seconds since 1970.
    made: u64,
    /// The name that the system derived for the program (in memory).
    identifier: Option<String>,
    /// The bundle to open, below the entry (Espresso).
    bundle: Option<String>,
    files: Vec<Part>,
}

/// A file of an entry.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Part {
    path: String,
    bytes: u64,
    sha256: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Refusals {
    system: String,
    count: u32,
}

/// An entry that was found as it was made, locked against removal while this value lives.
#[derive(Debug)]
pub(super) struct Entry {
    store: Store,
    directory: PathBuf,
    record: Record,
    /// True if a request of the program succeeded.
    proven: bool,
    _lock: File,
}

impl Entry {
    /// The name that the system derived for the program.
    pub(super) fn identifier(&self) -> Option<&str> {
        self.record.identifier.as_deref()
    }

    /// The bundle to open.
    pub(super) fn bundle(&self) -> Option<PathBuf> {
        self.record.bundle.as_ref().map(|bundle| self.directory.join(bundle))
    }

    /// True if it was made a short time ago.
    pub(super) fn is_recent(&self) -> bool {
        seconds_since_1970().saturating_sub(self.record.made) < RECENT.as_secs()
    }

    /// Marks the entry as being opened. A mark that outlives its process says that the process died
    /// of it: see [`Store::find`].
    pub(super) fn opening(&self) -> Result<Opening, AneError> {
        let path = self.directory.join(format!("{OPENING}{}", unique()));
        fs::write(&path, []).map_err(|e| failed("mark", &path, e))?;
        Ok(Opening { path })
    }

    /// Judges the program by its first request: what the system opens and does not run may be a
    /// program that it took from another process in vain. It is then compiled anew by the next
    /// process, and the error says so.
    pub(super) fn judged<T>(&mut self, outcome: Result<T, AneError>) -> Result<T, AneError> {
        match outcome {
            Err(AneError::Reported { action, report, hint, transient: false }) if !self.proven => {
                if let Ok(mark) = self.opening() {
                    std::mem::forget(mark);
                }
                self.store.refused();
                let report = format!(
                    "{report}\n(the program came from the cache of compiled programs; if you start \
                     again, it is compiled anew)"
                );
                Err(AneError::Reported { action, report, hint, transient: false })
            }
            Ok(value) if !self.proven => {
                self.proven = true;
                self.store.accepted();
                Ok(value)
            }
            outcome => outcome,
        }
    }
}

/// A mark that goes when the opening ended, however it ended.
#[derive(Debug)]
pub(super) struct Opening {
    path: PathBuf,
}

impl Drop for Opening {
    fn drop(&mut self) {
        // Left behind it costs one compile.
        let _ = fs::remove_file(&self.path);
    }
}

/// A private directory in the cache, which is removed unless it becomes an entry.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
}

impl Staging {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Left behind it is removed after a day.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A cache on a machine whose chip and build are known.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
    most_bytes: u64,
    route: Route,
    system: String,
}

impl Store {
    /// The cache of a route, if its directory can be used and the machine says what it is: programs
    /// of another chip or build are none of ours.
    pub(super) fn open(cache: &Cache, libraries: &Libraries, route: Route) -> Option<Self> {
        let system = system::identity(libraries)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&cache.directory).ok()?;
        // Bundles are opened by a system that may have another working directory.
        let directory = cache.directory.canonicalize().ok()?;
        Some(Store { directory, most_bytes: cache.most_bytes, route, system })
    }

    pub(super) fn route(&self) -> Route {
        self.route
    }

    /// The name of what a compiler would make of `sources` here, given `options`.
    pub(super) fn key(&self, options: &str, sources: &Sources) -> Key {
        let mut hash = Sha256::new();
        // Each field after its length, so that no two lists of fields are one sequence of bytes.
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(&FORMAT.to_le_bytes());
        field(self.system.as_bytes());
        field(self.route.to_string().as_bytes());
        field(options.as_bytes());
        field(sources.text.as_bytes());
        for (name, bytes) in &sources.weights {
            field(name.as_bytes());
            field(bytes);
        }
        Key(hex(&hash.finalize()))
    }

    /// The entry of that name, if it is as it was made. One that is damaged, or of whose opening a
    /// process died, is removed.
    pub(super) fn find(&self, key: &Key) -> Option<Entry> {
        let directory = self.directory.join(&key.0);
        let lock = File::open(directory.join(RECORD)).ok()?;
        // Marks are made and removed under a shared lock: one that is there under an exclusive one is
        // of a process that did not come back.
        if is_marked(&directory) && lock.try_lock().is_ok() && is_marked(&directory) {
            self.refused();
            drop(lock);
            self.remove(&directory);
            return None;
        }
        // The lock may be held from the question above.
        let _ = lock.unlock();
        lock.try_lock_shared().ok()?;
        let found = fs::metadata(directory.join(RECORD)).ok()?;
        if found.ino() != lock.metadata().ok()?.ino() {
            // Removed between opening and locking.
            return None;
        }
        match verified(&directory, &lock, key) {
            Some(record) => {
                // The time of use decides who goes first; without it the entry goes earlier.
                let _ = lock.set_modified(SystemTime::now());
                let (store, proven) = (self.clone(), false);
                Some(Entry { store, directory, record, proven, _lock: lock })
            }
            None => {
                drop(lock);
                self.remove(&directory);
                None
            }
        }
    }

    /// Removes an entry that turned out not to work, unless others use it.
    pub(super) fn discard(&self, entry: Entry) {
        let directory = entry.directory.clone();
        drop(entry);
        self.remove(&directory);
    }

    /// A private directory on the same file system.
    pub(super) fn staging(&self) -> Result<Staging, AneError> {
        let path = self.directory.join(format!("{NEW}{}", unique()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| failed("make the directory", &path, e))?;
        Ok(Staging { path })
    }

    /// Makes `staging` the entry `key`: the name that the system derived, and the bundle below it,
    /// if there is one. Then removes what is too much.
    pub(super) fn keep(
        &self,
        staging: Staging,
        key: &Key,
        identifier: Option<String>,
    ) -> Result<(), AneError> {
        let path = staging.path();
        let cannot = |e| failed("keep the compiled program in", path, e);
        let files = files(path).map_err(cannot)?;
        let bundle = bundle_below(&path.join(BUNDLES))
            .and_then(|found| Some(found.strip_prefix(path).ok()?.to_str()?.to_owned()));
        if files.iter().map(|(_, bytes)| bytes).sum::<u64>() > self.most_bytes {
            return Err(cannot(io::Error::other("it is larger than the cache may be")));
        }
        let parts = files.iter().map(|(name, _)| read(&path.join(name), name));
        let files = parts.collect::<io::Result<Vec<Part>>>().map_err(cannot)?;
        if bundle.is_none() && identifier.is_none() {
            // As well might every other compile.
            self.refused();
            return Err(cannot(io::Error::other("the compiler left no bundle")));
        }
        let (key_text, made) = (key.0.clone(), seconds_since_1970());
        let record = Record { format: FORMAT, key: key_text, made, identifier, bundle, files };
        let text = serde_json::to_vec(&record).map_err(|e| cannot(e.into()))?;
        fs::write(path.join(RECORD), text).map_err(cannot)?;
        let place = self.directory.join(&key.0);
        // Another process may have been faster; what is no entry makes room.
        if fs::rename(path, &place).is_err() && self.find(key).is_none() {
            self.remove(&place);
            fs::rename(path, &place).map_err(cannot)?;
        }
        self.trim(&place);
        Ok(())
    }

    /// Keeps what is in `staging` of a program that could not be compiled; where it is.
    pub(super) fn keep_failed(&self, staging: Staging, key: &Key) -> PathBuf {
        let place = self.directory.join(format!("{FAILED}{}", key.0));
        let _ = fs::remove_dir_all(&place);
        let kept = match fs::rename(staging.path(), &place) {
            Ok(()) => place,
            Err(_) => staging.path().to_owned(),
        };
        std::mem::forget(staging);
        self.trim(&kept);
        kept
    }

    /// True if this system takes what another process compiled, as far as is known.
    pub(super) fn is_trusted(&self) -> bool {
        self.refusals() < MOST_REFUSALS
    }

    /// Notes an occasion on which it did not.
    pub(super) fn refused(&self) {
        self.set_refusals(self.refusals() + 1);
    }

    /// Notes that it refused what had just been compiled, and took the same from this process.
    pub(super) fn refused_for_certain(&self) {
        self.set_refusals(MOST_REFUSALS);
    }

    /// Notes that it did take one.
    fn accepted(&self) {
        if self.refusals() != 0 {
            self.set_refusals(0);
        }
    }

    fn noted(&self) -> PathBuf {
        self.directory.join(format!("{REFUSALS}{}.json", self.route))
    }

    fn refusals(&self) -> u32 {
        let text = fs::read_to_string(self.noted()).unwrap_or_default();
        let noted = serde_json::from_str::<Refusals>(&text).ok();
        noted.filter(|noted| noted.system == self.system).map_or(0, |noted| noted.count)
    }

    fn set_refusals(&self, count: u32) {
        let noted = Refusals { system: self.system.clone(), count };
        let new = self.directory.join(format!("{NEW}{}", unique()));
        // Forgotten it costs another try.
        if let Ok(text) = serde_json::to_vec(&noted)
            && fs::write(&new, text).is_ok()
        {
            let _ = fs::rename(new, self.noted());
        }
    }

    /// Removes an entry that nobody uses; whether its place is free now.
    fn remove(&self, directory: &Path) -> bool {
        // Held until nobody finds the entry any more.
        let record = File::open(directory.join(RECORD));
        if record.as_ref().is_ok_and(|record| record.try_lock().is_err()) {
            return false;
        }
        let gone = self.directory.join(format!("{NEW}{}", unique()));
        let free = fs::rename(directory, &gone).is_ok();
        drop(record);
        let _ = fs::remove_dir_all(&gone);
        free
    }

    /// Removes the entries not used for the longest time until the rest keep the bound, but not
    /// `newest`, and what processes left that died. Nothing but what is named as we name things: the
    /// directory is the user's.
    fn trim(&self, newest: &Path) {
        let mut entries = vec![];
        for item in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let (path, name) = (item.path(), item.file_name().to_string_lossy().into_owned());
            let record = path.join(RECORD);
            let used = fs::metadata(&record).or_else(|_| fs::metadata(&path));
            let Ok(used) = used.and_then(|data| data.modified()) else { continue };
            if is_unique(&name) {
                let age = used.elapsed().unwrap_or_default();
                if age > STALE && fs::remove_dir_all(&path).is_err() {
                    let _ = fs::remove_file(&path);
                }
            } else if is_entry(&name) && path.is_dir() {
                let bytes = files(&path).unwrap_or_default().iter().map(|(_, bytes)| bytes).sum();
                entries.push((used, path, bytes));
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, bytes) in &entries {
            if total <= self.most_bytes {
                break;
            }
            if path != newest && self.remove(path) {
                total -= bytes;
            }
        }
    }
}

fn failed(what: &'static str, path: &Path, error: io::Error) -> AneError {
    let (path, reason) = (path.display().to_string(), error.to_string());
    AppleError::File { what, path, reason }.into()
}

/// True if a name is one of an entry, or of what is kept of one that could not be compiled.
fn is_entry(name: &str) -> bool {
    let key = name.strip_prefix(FAILED).unwrap_or(name);
    key.len() == 64 && key.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// True if a name is [`NEW`] and a name that nobody else has.
fn is_unique(name: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    name.strip_prefix(NEW)
        .is_some_and(|rest| rest.split('-').count() == 3 && rest.split('-').all(is_number))
}

fn seconds_since_1970() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// A name that nobody else has, nor a process of before that had this one's number.
pub(super) fn unique() -> String {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("{}-{serial}-{}", std::process::id(), now.subsec_nanos())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True if somebody opened the entry and did not come back yet.
fn is_marked(directory: &Path) -> bool {
    let items = fs::read_dir(directory).into_iter().flatten().flatten();
    items.into_iter().any(|item| item.file_name().to_string_lossy().starts_with(OPENING))
}

/// The record of an entry all of whose files are what the record says.
fn verified(directory: &Path, file: &File, key: &Key) -> Option<Record> {
    let mut text = String::new();
    file.take(RECORD_BYTES).read_to_string(&mut text).ok()?;
    let record: Record = serde_json::from_str(&text).ok()?;
    let inside = |path: &str| {
        let mut parts = Path::new(path).components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    let named = record.format == FORMAT && record.key == key.0;
    if !named || !record.bundle.iter().all(|bundle| inside(bundle)) {
        return None;
    }
    let as_made = |part: &Part| {
        inside(&part.path)
            && read(&directory.join(&part.path), &part.path)
                .is_ok_and(|now| now.bytes == part.bytes && now.sha256 == part.sha256)
    };
    record.files.iter().all(as_made).then_some(record)
}

/// Size and checksum of a file.
fn read(path: &Path, name: &str) -> io::Result<Part> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("no plain file"));
    }
    let (mut file, mut hash, mut bytes) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(Part { path: name.to_owned(), bytes, sha256: hex(&hash.finalize()) });
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// All files below a directory by name, with their sizes. Anything but files and directories is an
/// error: a link may lead to what is not ours.
fn files(directory: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut files = vec![];
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for item in fs::read_dir(next)? {
            let item = item?;
            let (path, kind) = (item.path(), item.file_type()?);
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(directory).unwrap_or(&path);
                let name = name.to_str().ok_or_else(|| io::Error::other("a name is no UTF-8"))?;
                files.push((name.to_owned(), item.metadata()?.len()));
            } else {
                return Err(io::Error::other(format!("{} is no plain file", path.display())));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Copies what Espresso's compiler left: files, and directories, empty ones too.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), AneError> {
    let cannot = |e| failed("copy", from, e);
    let mut left = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = left.pop() {
        fs::create_dir(&to).map_err(cannot)?;
        for item in fs::read_dir(&from).map_err(cannot)? {
            let item = item.map_err(cannot)?;
            let (source, target) = (item.path(), to.join(item.file_name()));
            match item.file_type().map_err(cannot)?.is_dir() {
                true => left.push((source, target)),
                false => {
                    fs::copy(&source, &target).map_err(cannot)?;
                }
            }
        }
    }
    Ok(())
}

/// The bundle that can be opened: the one that holds others, for kinds of hardware (as ANEForge
/// tells them apart), or else the topmost.
fn bundle_below(directory: &Path) -> Option<PathBuf> {
    let is_bundle = |path: &Path| path.extension().is_some_and(|e| e == "bundle");
    let mut topmost = None;
    let mut level = vec![directory.to_owned()];
    while !level.is_empty() {
        let mut next = vec![];
        for parent in &level {
            for item in fs::read_dir(parent).into_iter().flatten().flatten() {
                if item.file_type().is_ok_and(|kind| kind.is_dir()) {
                    next.push(item.path());
                }
            }
        }
        next.sort();
        if let Some(composite) = level
            .iter()
            .find(|p| is_bundle(p) && next.iter().any(|n| n.starts_with(p) && is_bundle(n)))
        {
            return Some(composite.clone());
        }
        topmost = topmost.or_else(|| next.iter().find(|path| is_bundle(path)).cloned());
        level = next;
    }
    topmost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(route: Route, system: &str) -> Store {
        let (directory, system) = (PathBuf::from("nowhere"), system.to_owned());
        Store { directory, most_bytes: 1, route, system }
    }

    #[test]
    fn everything_that_a_compiler_sees_is_part_of_the_name() {
        let sources = |text: &str, weights: &[(&str, &[u8])]| Sources {
            text: text.to_owned(),
            weights: weights.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())).collect(),
        };
        let plain = sources("program", &[("a", &[1, 2])]);
        let of = |store: &Store, options: &str, sources: &Sources| store.key(options, sources).0;
        let here = store(Route::Espresso, "M4, 24F74");
        let mut keys = vec![
            of(&here, "graph", &plain),
            of(&store(Route::InMemory, "M4, 24F74"), "graph", &plain),
            of(&store(Route::Espresso, "M4, 24G90"), "graph", &plain),
            of(&store(Route::Espresso, "M5, 24F74"), "graph", &plain),
            of(&here, "other", &plain),
            of(&here, "graph", &sources("Program", &[("a", &[1, 2])])),
            of(&here, "graph", &sources("program", &[("a", &[1, 3])])),
            of(&here, "graph", &sources("program", &[("b", &[1, 2])])),
            of(&here, "graph", &sources("program", &[])),
            // Bytes that move from one field to the next.
            of(&here, "graphp", &sources("rogram", &[("a", &[1, 2])])),
            of(&here, "graph", &sources("program", &[("a", &[1]), ("b", &[2])])),
        ];
        assert_eq!(keys[0], of(&here, "graph", &plain));
        assert!(keys.iter().all(|key| key.len() == 64));
        let n = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), n);
    }

    #[test]
    fn what_is_not_ours_stays() {
        let at = std::env::temp_dir().join(format!("anegpt-cache-{}", unique()));
        let store = Store { directory: at.clone(), ..store(Route::Espresso, "M4, 24F74") };
        let long_ago = SystemTime::now() - 10 * STALE;
        let make = |name: &str| {
            fs::create_dir_all(at.join(name)).unwrap();
            fs::write(at.join(name).join("file"), [0; 1000]).unwrap();
            File::open(at.join(name)).unwrap().set_modified(long_ago).unwrap();
        };
        let key = "0123456789abcdef".repeat(4);
        let (others, ours) = (
            ["photos", "new-photos", "new-1-2", "failed-exams", &key[1..]],
            [key.clone(), format!("{FAILED}{key}"), format!("{NEW}{}", unique())],
        );
        others.iter().for_each(|name| make(name));
        ours.iter().for_each(|name| make(name));
        store.trim(Path::new("none"));
        let left = |name: &&str| at.join(name).join("file").exists();
        assert_eq!(others.iter().filter(|name| left(name)).count(), others.len());
        assert!(!ours.iter().any(|name| left(&name.as_str())));
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn the_bundle_that_holds_others_is_the_one_to_open() {
        let at = std::env::temp_dir().join(format!("anegpt-bundles-{}", unique()));
        let make = |path: &str| fs::create_dir_all(at.join(path)).unwrap();
        assert_eq!(bundle_below(&at), None);
        make("x/single.bundle/main");
        assert_eq!(bundle_below(&at), Some(at.join("x/single.bundle")));
        make("y/z/model.bundle/H16G.bundle/main/main_ane");
        assert_eq!(bundle_below(&at), Some(at.join("y/z/model.bundle")));
        fs::write(at.join("x/file"), [0; 3]).unwrap();
        assert_eq!(files(&at).unwrap(), [("x/file".to_owned(), 3)]);
        std::os::unix::fs::symlink("file", at.join("x/link")).unwrap();
        assert!(files(&at).is_err());
        fs::remove_dir_all(at).unwrap();
    }
}
