//! Checkpoints: directories that other tools can read and that survive any interruption.
//!
//! ```text
//! OUT/step-00000120/model.safetensors      parameters, Hugging Face names
//!                   optimizer.safetensors  state of the optimizer: AdamW's NAME.m and NAME.v
//!                   config.json            shape of the model
//!                   tokenizer.json         its tokenizer
//!                   state.json             everything else, and the checksum of every file above
//! OUT/latest, OUT/best                     links to the newest, and to that with the lowest
//!                                          validation loss, which is never removed
//! ```
//!
//! A checkpoint is written into a temporary directory beside its place, every file is synced, and
//! the directory is renamed: either all of it is there or nothing. Reading takes the newest that
//! verifies. At every instant of writing, replacing and removing, what was the newest good
//! checkpoint before is still there, or the new one is.

mod disk;
mod links;
mod tensors;
#[cfg(test)]
mod tests;

use disk::{Disk, System};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

/// Version of the layout above. 2: `state.json` carries a seal.
const FORMAT: u64 = 2;
/// Prefix of directories that are being written.
const UNFINISHED: &str = ".writing-";
/// Prefix of directories that are being removed.
const DISCARDED: &str = ".removing-";
/// Prefix of finished ones.
const FINISHED: &str = "step-";
/// Suffix of a finished one while another of the same step takes its place.
const REPLACED: &str = ".replaced";
/// The placeholder of the seal while it is computed.
const NO_SEAL: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum CheckpointError {
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not written: element {index} of `{tensor}` is {value}, the run has diverged; use a \
         lower --lr, from an earlier checkpoint or from the start"
    )]
    NotFinite { path: PathBuf, tensor: String, index: usize, value: f32 },
    #[error("{0}; earlier checkpoints are untouched")]
    Later(#[source] Box<CheckpointError>),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("another run is writing to {path}: wait for it to end, or choose another --out")]
    Locked { path: PathBuf },
}

/// Tensors of one file, by name: shape and elements.
pub type Tensors<'a> = Vec<Named<'a>>;

/// A tensor: name, shape and elements.
pub type Named<'a> = (String, Vec<usize>, Cow<'a, [f32]>);

/// Tensors to be read from one file, by name: shape and place of the elements.
pub type TensorsMut<'a> = Vec<(String, Vec<usize>, &'a mut [f32])>;

/// The contents of a checkpoint. Names of files are plain: no directories.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Updates so far; names the directory.
    pub step: u64,
    /// Step of the checkpoint with the lowest validation loss, perhaps this one; it is linked and
    /// stays.
    pub best: Option<u64>,
    /// Files of tensors.
    pub tensors: Vec<(&'static str, Tensors<'a>)>,
    /// Files of text.
    pub texts: Vec<(&'static str, String)>,
    /// The owner's part of `state.json`.
    pub state: serde_json::Value,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    format: u64,
    step: u64,
    /// SHA-256 of this file's text with [`NO_SEAL`] in this place.
    seal: String,
    files: BTreeMap<String, Checksum>,
    state: serde_json::Value,
}

/// As much of `state.json` as every version has.
#[derive(Deserialize)]
struct Version {
    format: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checksum {
    bytes: u64,
    sha256: String,
}

/// A checkpoint that was found and verified.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    step: u64,
    files: BTreeMap<String, Checksum>,
    state: serde_json::Value,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Size and SHA-256 of a file.
fn checksum(path: &Path) -> io::Result<Checksum> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
    Ok(Checksum { bytes, sha256: hex(&hash.finalize()) })
}

/// `text` with its first `seal` replaced by [`NO_SEAL`], hashed.
fn seal_of(text: &str, seal: &str) -> String {
    hex(&Sha256::digest(text.replacen(seal, NO_SEAL, 1)))
}

/// A file of this directory and of no other.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if *part == *name)
}

/// Error of changing `path`, for `map_err`.
fn cannot_write(path: &Path) -> impl Fn(io::Error) -> CheckpointError + use<'_> {
    move |source| CheckpointError::Write { path: path.to_owned(), source }
}

/// Creates a directory and those above it, so that they are there after a power failure too.
fn create_directory(disk: &mut impl Disk, path: &Path) -> Result<(), CheckpointError> {
    fn create(disk: &mut impl Disk, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        create(disk, parent)?;
        match disk.create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match path.is_dir() {
                true => return Ok(()),
                false => {
                    let reason = format!("{} is not a directory", path.display());
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, reason));
                }
            },
            result => result?,
        }
        disk.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
    }
    create(disk, path).map_err(cannot_write(path))
}

/// Writes a checkpoint under `out` and returns its directory. Of those up to this step the newest
/// `keep` (at least this one) stay, and the best. Later ones, left by a run that this one has gone back behind,
/// are not touched until this run comes to their steps.
///
/// # Errors
/// When anything cannot be written, or an element is not finite. Nothing that was there before is
/// lost, and what was written of the new one is removed.
pub fn write(out: &Path, contents: &Contents<'_>, keep: usize) -> Result<PathBuf, CheckpointError> {
    write_on(&mut System, out, contents, keep)
}

/// Name of a finished checkpoint.
fn name_of(step: u64) -> String {
    format!("{FINISHED}{step:08}")
}

/// As [`write`]; an error says whether there were checkpoints before.
fn write_on(
    disk: &mut impl Disk,
    out: &Path,
    contents: &Contents<'_>,
    keep: usize,
) -> Result<PathBuf, CheckpointError> {
    let earlier = exists(out);
    write_beside(disk, out, contents, keep).map_err(|error| match earlier {
        true => CheckpointError::Later(Box::new(error)),
        false => error,
    })
}

fn write_beside(
    disk: &mut impl Disk,
    out: &Path,
    contents: &Contents<'_>,
    keep: usize,
) -> Result<PathBuf, CheckpointError> {
    let name = name_of(contents.step);
    let temporary = out.join(format!("{UNFINISHED}{name}"));
    create_directory(disk, out)?;
    if temporary.exists() {
        disk.remove(&temporary).map_err(cannot_write(&temporary))?;
    }
    disk.create_dir(&temporary).map_err(cannot_write(&temporary))?;
    let written = write_files(disk, &temporary, contents)
        .and_then(|()| put_in_place(disk, &temporary, &out.join(&name)));
    match written {
        Ok(place) => {
            links::update(disk, out, contents.best);
            remove_old(disk, out, contents, keep);
            Ok(place)
        }
        Err(error) => {
            // The error is what matters; what could not be removed is removed by the next run.
            let _ = disk.remove(&temporary);
            Err(error)
        }
    }
}

fn write_files(
    disk: &mut impl Disk,
    directory: &Path,
    contents: &Contents<'_>,
) -> Result<(), CheckpointError> {
    let mut files = BTreeMap::new();
    let mut names = contents.tensors.iter().map(|f| f.0).chain(contents.texts.iter().map(|f| f.0));
    if let Some(name) = names.find(|name| !is_plain(name)) {
        let reason = io::Error::other("not a plain file name");
        return Err(cannot_write(&directory.join(name))(reason));
    }
    for (name, tensors) in &contents.tensors {
        files.insert((*name).to_owned(), tensors::write(disk, &directory.join(name), tensors)?);
    }
    for (name, text) in &contents.texts {
        files.insert((*name).to_owned(), write_text(disk, &directory.join(name), text)?);
    }
    write_text(disk, &directory.join("state.json"), &state_text(contents, files))?;
    disk.sync_dir(directory).map_err(cannot_write(directory))
}

fn write_text(disk: &mut impl Disk, path: &Path, text: &str) -> Result<Checksum, CheckpointError> {
    tensors::write_parts(disk, path, &[text.as_bytes()]).map_err(cannot_write(path))
}

fn state_text(contents: &Contents<'_>, files: BTreeMap<String, Checksum>) -> String {
    let (step, state) = (contents.step, contents.state.clone());
    let state = State { format: FORMAT, step, seal: NO_SEAL.to_owned(), files, state };
    let text = serde_json::to_string_pretty(&state).expect("a state is plain data");
    // The seal comes before anything that could look like it.
    text.replacen(NO_SEAL, &seal_of(&text, NO_SEAL), 1)
}

/// Renames a complete directory to its place. One that is there already (a run went back behind it,
/// or it is damaged) stays until the new one is there for good.
fn put_in_place(
    disk: &mut impl Disk,
    temporary: &Path,
    place: &Path,
) -> Result<PathBuf, CheckpointError> {
    let out = place.parent().expect("a place is under the directory of the run");
    let mut aside = place.as_os_str().to_owned();
    aside.push(REPLACED);
    let aside = PathBuf::from(aside);
    let replaces = place.exists();
    if replaces {
        if aside.exists() {
            disk.remove(&aside).map_err(cannot_write(&aside))?;
        }
        disk.rename(place, &aside).map_err(cannot_write(place))?;
    }
    if let Err(error) = disk.rename(temporary, place) {
        if replaces {
            // If it cannot go back, it is still found where it is.
            let _ = disk.rename(&aside, place);
        }
        return Err(cannot_write(place)(error));
    }
    disk.sync_dir(out).map_err(cannot_write(out))?;
    if aside.exists() {
        // Found and removed by the next run if not by this one.
        let _ = disk.remove(&aside);
    }
    Ok(place.to_owned())
}

/// Finished checkpoints under `out`, newest first.
fn finished(out: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut found = vec![];
    for name in entries(out)? {
        let Some(rest) = name.strip_prefix(FINISHED) else { continue };
        let current = rest.strip_suffix(REPLACED).is_none();
        if let Ok(step) = rest.strip_suffix(REPLACED).unwrap_or(rest).parse::<u64>() {
            found.push((step, current, out.join(&name)));
        }
    }
    found.sort();
    found.reverse();
    Ok(found.into_iter().map(|(step, _, path)| (step, path)).collect())
}

/// The finished checkpoints under `out` with their steps, the oldest first; none is verified.
///
/// # Errors
/// When the directory cannot be read.
pub fn all(out: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut found = finished(out)?;
    // What a step replaced comes after what stands now.
    found.dedup_by_key(|checkpoint| checkpoint.0);
    found.reverse();
    Ok(found)
}

/// Names of what is in a directory; none if it does not exist.
fn entries(out: &Path) -> Result<Vec<String>, CheckpointError> {
    let fault = |source| CheckpointError::Read { path: out.to_owned(), source };
    let entries = match fs::read_dir(out) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(fault)?,
    };
    let names = entries.map(|entry| entry.map(|e| e.file_name().into_string().ok()));
    Ok(names.collect::<io::Result<Vec<_>>>().map_err(fault)?.into_iter().flatten().collect())
}

/// Removes all but the best and the newest `keep` (at least one) checkpoints up to the one just
/// written. Later ones do not count: they may be damaged, and then this is the only good one.
fn remove_old(disk: &mut impl Disk, out: &Path, written: &Contents<'_>, keep: usize) {
    let found = finished(out).unwrap_or_default();
    let old = found.into_iter().filter(|f| f.0 <= written.step).skip(keep.max(1));
    for (_, path) in old.filter(|f| Some(f.0) != written.best) {
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let discarded = out.join(format!("{DISCARDED}{name}"));
        // An old checkpoint that cannot be removed costs space, not work. It is renamed first so
        // that half of it never passes for a damaged one.
        if disk.rename(&path, &discarded).is_ok() {
            let _ = disk.remove(&discarded);
        }
    }
}

/// Removes what interrupted runs left half written or half removed.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_unfinished(out: &Path) -> Result<(), CheckpointError> {
    for name in entries(out)? {
        let replaced = name.strip_suffix(REPLACED).is_some_and(|place| out.join(place).exists());
        if name.starts_with(UNFINISHED) || name.starts_with(DISCARDED) || replaced {
            let path = out.join(name);
            System.remove(&path).map_err(cannot_write(&path))?;
        }
    }
    Ok(())
}

/// The newest checkpoint under `out` that verifies (or the one that `out` itself is or links to), with the
/// faults of newer ones that do not. Nothing is changed or removed.
///
/// # Errors
/// When there is none; the faults of all that were looked at are in the message.
pub fn newest(out: &Path) -> Result<(Checkpoint, Vec<CheckpointError>), CheckpointError> {
    let mut candidates: Vec<PathBuf> = finished(out)?.into_iter().map(|(_, path)| path).collect();
    if out.join("state.json").exists() {
        candidates.insert(0, links::target(out));
    }
    let mut faults = vec![];
    for path in candidates {
        match Checkpoint::open(&path) {
            Ok(checkpoint) => return Ok((checkpoint, faults)),
            Err(fault) => faults.push(fault),
        }
    }
    let reason = match faults.is_empty() {
        true => "there is no checkpoint here".to_owned(),
        false => {
            let list: Vec<_> = faults.iter().map(ToString::to_string).collect();
            format!("no checkpoint verifies: {}", list.join("; "))
        }
    };
    Err(CheckpointError::Damaged { path: out.to_owned(), reason })
}

/// True if there is anything to resume under `out`.
pub fn exists(out: &Path) -> bool {
    finished(out).is_ok_and(|found| !found.is_empty())
}

impl Checkpoint {
    /// Opens a checkpoint and verifies the size and checksum of every file.
    ///
    /// # Errors
    /// When a file is missing or is not what was written.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let damaged = |path: PathBuf, reason: String| CheckpointError::Damaged { path, reason };
        let place = path.join("state.json");
        let text = fs::read_to_string(&place)
            .map_err(|source| CheckpointError::Read { path: place.clone(), source })?;
        let version: Version = serde_json::from_str(&text)
            .map_err(|e| damaged(place.clone(), format!("is not a state: {e}")))?;
        if version.format != FORMAT {
            let reason = format!("is of format {}, this program reads {FORMAT}", version.format);
            return Err(damaged(place, reason));
        }
        let state: State = serde_json::from_str(&text)
            .map_err(|e| damaged(place.clone(), format!("is not a state: {e}")))?;
        if state.seal.len() != NO_SEAL.len() || seal_of(&text, &state.seal) != state.seal {
            return Err(damaged(place, "is not what was written: its seal is broken".to_owned()));
        }
        for (name, expected) in &state.files {
            if !is_plain(name) {
                return Err(damaged(place, format!("names a file elsewhere: `{name}`")));
            }
            verify(&path.join(name), expected)?;
        }
        let State { step, files, state, .. } = state;
        Ok(Checkpoint { path: path.to_owned(), step, files, state })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Updates so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The owner's part of `state.json`.
    pub fn state(&self) -> &serde_json::Value {
        &self.state
    }

    /// Reads tensors of one file into the given slices, straight from the file.
    ///
    /// # Errors
    /// When the file is not of this checkpoint or malformed, a tensor is missing or has another
    /// shape, or an element is not finite.
    pub fn read_tensors<'a>(
        &self,
        file: &str,
        wanted: impl IntoIterator<Item = (String, Vec<usize>, &'a mut [f32])>,
    ) -> Result<(), CheckpointError> {
        tensors::read(&self.verified(file)?, wanted)
    }

    /// A text file of the checkpoint.
    ///
    /// # Errors
    /// When it is not of this checkpoint or cannot be read.
    pub fn read_text(&self, file: &str) -> Result<String, CheckpointError> {
        let path = self.verified(file)?;
        fs::read_to_string(&path).map_err(|source| CheckpointError::Read { path, source })
    }

    /// Path of a file whose checksum was verified.
    fn verified(&self, file: &str) -> Result<PathBuf, CheckpointError> {
        let path = self.path.join(file);
        match self.files.contains_key(file) {
            true => Ok(path),
            false => {
                let reason = "is not one of the files of this checkpoint".to_owned();
                Err(CheckpointError::Damaged { path, reason })
            }
        }
    }
}

/// Compares a file with what was written.
fn verify(file: &Path, expected: &Checksum) -> Result<(), CheckpointError> {
    let path = file.to_owned();
    let damaged = |reason| Err(CheckpointError::Damaged { path: path.clone(), reason });
    let size = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(source) => return Err(CheckpointError::Read { path, source }),
    };
    if size != expected.bytes {
        return damaged(format!("has {size} bytes, but {} were written", expected.bytes));
    }
    let found = checksum(file)
        .map_err(|source| CheckpointError::Read { path: path.clone(), source })?
        .sha256;
    if found != expected.sha256 {
        let wrote = expected.sha256.get(..12).unwrap_or(&expected.sha256);
        let found = &found[..12];
        return damaged(format!("has SHA-256 {found}…, but {wrote}… was written"));
    }
    Ok(())
}

/// The right to write under a directory; the system takes it back when the process ends, however
/// it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Creates `out` if need be and locks it.
    ///
    /// # Errors
    /// When it cannot be created or another process holds it.
    pub fn acquire(out: &Path) -> Result<Lock, CheckpointError> {
        let path = out.join(".lock");
        let fault = |source| CheckpointError::Write { path: path.clone(), source };
        create_directory(&mut System, out)?;
        let mut file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(fault)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(fault)?;
                writeln!(file, "{}", std::process::id()).map_err(fault)?;
                Ok(Lock { _file: file })
            }
            Err(fs::TryLockError::WouldBlock) => {
                Err(CheckpointError::Locked { path: out.to_owned() })
            }
            Err(fs::TryLockError::Error(source)) => Err(fault(source)),
        }
    }

    /// Returns the id of the process that holds the lock of `out`, if one of this machine does and the
    /// system lets others read the file.
    pub fn holder(out: &Path) -> Option<u32> {
        let path = out.join(".lock");
        let file = File::open(&path).ok()?;
        match file.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => fs::read_to_string(path).ok()?.trim().parse().ok(),
            _ => None,
        }
    }

    /// Removes a directory that holds nothing but the lock. For who holds it.
    ///
    /// # Errors
    /// When there is more in it, or the system refuses.
    pub fn remove(out: &Path) -> std::io::Result<()> {
        fs::remove_file(out.join(".lock"))?;
        fs::remove_dir(out)
    }
}
