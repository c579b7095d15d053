//! Checkpoints: directories that other tools can read and that survive any interruption.
//!
//! ```text
//! OUT/step-00000120/model.safetensors      parameters, Hugging Face names
//!                   optimizer.safetensors  moments: NAME.m and NAME.v
//!                   config.json            shape of the model
//!                   tokenizer.json         its tokenizer
//!                   state.json             everything else, and the checksum of every file above
//! ```
//!
//! A checkpoint is written into a temporary directory beside its place, every file is synced, and
//! the directory is renamed: either all of it is there or nothing. Reading takes the newest that
//! verifies.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Version of the layout above.
const FORMAT: u32 = 1;
/// Prefix of directories that are being written.
const UNFINISHED: &str = ".writing-";
/// Prefix of finished ones.
const FINISHED: &str = "step-";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum CheckpointError {
    #[error("cannot write {path}: {source}; earlier checkpoints are untouched")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("another run is writing to {path}: wait for it to end, or choose another --out")]
    Locked { path: PathBuf },
}

/// Tensors of one file, by name: shape and elements.
pub type Tensors<'a> = Vec<(String, Vec<usize>, &'a [f32])>;

/// What a checkpoint holds.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Updates so far; names the directory.
    pub step: u64,
    /// Files of tensors.
    pub tensors: Vec<(&'static str, Tensors<'a>)>,
    /// Files of text.
    pub texts: Vec<(&'static str, String)>,
    /// What `state.json` carries for its owner.
    pub state: serde_json::Value,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    format: u32,
    step: u64,
    files: BTreeMap<String, Checksum>,
    state: serde_json::Value,
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

fn write_tensors(path: &Path, tensors: &Tensors<'_>) -> io::Result<()> {
    let views = tensors.iter().map(|(name, shape, data)| {
        let bytes = bytemuck::cast_slice(data);
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name, view.expect("the layout gives the shape and the elements"))
    });
    safetensors::serialize_to_file(views, None, path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => e,
        other => io::Error::other(other.to_string()),
    })?;
    File::open(path)?.sync_all()
}

fn write_text(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a checkpoint under `out` and returns its directory. Of the finished ones the newest
/// `keep` stay.
///
/// # Errors
/// When anything cannot be written. Nothing that was there before is lost, and what was written of
/// the new one is removed.
pub fn write(out: &Path, contents: &Contents<'_>, keep: usize) -> Result<PathBuf, CheckpointError> {
    let name = format!("{FINISHED}{:08}", contents.step);
    let temporary = out.join(format!("{UNFINISHED}{name}"));
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |source| CheckpointError::Write { path, source }
    };
    fs::create_dir_all(out).map_err(fault(out))?;
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(fault(&temporary))?;
    }
    fs::create_dir(&temporary).map_err(fault(&temporary))?;
    let written = write_files(&temporary, contents).and_then(|()| {
        let place = out.join(&name);
        // A checkpoint of the same step can only be there if it did not verify.
        if place.exists() {
            fs::remove_dir_all(&place).map_err(fault(&place))?;
        }
        fs::rename(&temporary, &place).map_err(fault(&place))?;
        sync_directory(out).map_err(fault(out))?;
        Ok(place)
    });
    match written {
        Ok(place) => {
            remove_old(out, keep);
            Ok(place)
        }
        Err(error) => {
            // The error is what matters; what could not be removed is removed by the next run.
            let _ = fs::remove_dir_all(&temporary);
            Err(error)
        }
    }
}

fn write_files(directory: &Path, contents: &Contents<'_>) -> Result<(), CheckpointError> {
    let mut files = BTreeMap::new();
    let mut finish = |name: &str, written: io::Result<()>| {
        let path = directory.join(name);
        let sum = written.and_then(|()| checksum(&path));
        let sum = sum.map_err(|source| CheckpointError::Write { path, source })?;
        files.insert(name.to_owned(), sum);
        Ok::<_, CheckpointError>(())
    };
    for (name, tensors) in &contents.tensors {
        finish(name, write_tensors(&directory.join(name), tensors))?;
    }
    for (name, text) in &contents.texts {
        finish(name, write_text(&directory.join(name), text))?;
    }
    let state = State { format: FORMAT, step: contents.step, files, state: contents.state.clone() };
    let text = serde_json::to_string_pretty(&state).expect("a state is plain data");
    let path = directory.join("state.json");
    write_text(&path, &text)
        .and_then(|()| sync_directory(directory))
        .map_err(|source| CheckpointError::Write { path, source })
}

/// Finished checkpoints under `out`, newest first.
fn finished(out: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(out).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let step = entry.file_name().to_str()?.strip_prefix(FINISHED)?.parse().ok()?;
            Some((step, entry.path()))
        })
        .collect();
    found.sort();
    found.reverse();
    found
}

/// Removes all but the newest `keep` (at least one) checkpoints.
fn remove_old(out: &Path, keep: usize) {
    for (_, path) in finished(out).into_iter().skip(keep.max(1)) {
        // An old checkpoint that cannot be removed costs space, not work.
        let _ = fs::remove_dir_all(path);
    }
}

/// Removes what interrupted runs left half written.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_unfinished(out: &Path) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(out).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_name().to_str().is_some_and(|n| n.starts_with(UNFINISHED)) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(|source| CheckpointError::Write { path, source })?;
        }
    }
    Ok(())
}

/// The newest checkpoint under `out` that verifies (or the one that `out` itself is), with the
/// faults of newer ones that do not.
///
/// # Errors
/// When there is none; the faults of all that were looked at are in the message.
pub fn newest(out: &Path) -> Result<(Checkpoint, Vec<CheckpointError>), CheckpointError> {
    let mut candidates: Vec<PathBuf> = finished(out).into_iter().map(|(_, path)| path).collect();
    if out.join("state.json").exists() {
        candidates.insert(0, out.to_owned());
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

/// Whether there is anything to resume under `out`.
pub fn exists(out: &Path) -> bool {
    !finished(out).is_empty()
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
        let state: State = serde_json::from_str(&text)
            .map_err(|e| damaged(place.clone(), format!("is not a state: {e}")))?;
        if state.format != FORMAT {
            let reason = format!("is of format {}, this program reads {FORMAT}", state.format);
            return Err(damaged(place, reason));
        }
        for (name, expected) in &state.files {
            let file = path.join(name);
            let found = checksum(&file)
                .map_err(|source| CheckpointError::Read { path: file.clone(), source })?;
            if found != *expected {
                return Err(damaged(
                    file,
                    format!(
                        "has {} bytes with SHA-256 {}…, but {} with {}… were written",
                        found.bytes,
                        &found.sha256[..12],
                        expected.bytes,
                        expected.sha256.get(..12).unwrap_or(&expected.sha256)
                    ),
                ));
            }
        }
        Ok(Checkpoint { path: path.to_owned(), step: state.step, state: state.state })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Updates so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What `state.json` carries for its owner.
    pub fn state(&self) -> &serde_json::Value {
        &self.state
    }

    /// Reads tensors of one file into the given slices.
    ///
    /// # Errors
    /// When the file is malformed, or a tensor is missing or has another shape.
    pub fn read_tensors<'a>(
        &self,
        file: &str,
        wanted: impl IntoIterator<Item = (String, Vec<usize>, &'a mut [f32])>,
    ) -> Result<(), CheckpointError> {
        let path = self.path.join(file);
        let bytes = fs::read(&path)
            .map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
        let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
        let tensors = safetensors::SafeTensors::deserialize(&bytes)
            .map_err(|e| damaged(format!("is not a safetensors file: {e}")))?;
        for (name, shape, to) in wanted {
            let view =
                tensors.tensor(&name).map_err(|_| damaged(format!("has no tensor `{name}`")))?;
            if view.shape() != shape || view.dtype() != safetensors::Dtype::F32 {
                let (found, dtype) = (view.shape(), view.dtype());
                return Err(damaged(format!(
                    "`{name}` is {dtype:?} {found:?}, expected F32 {shape:?}"
                )));
            }
            for (v, b) in to.iter_mut().zip(view.data().chunks_exact(4)) {
                *v = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        Ok(())
    }

    /// A text file of the checkpoint.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_text(&self, file: &str) -> Result<String, CheckpointError> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(|source| CheckpointError::Read { path, source })
    }
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
        fs::create_dir_all(out).map_err(fault)?;
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(fault)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(CheckpointError::Locked { path: out.to_owned() })
            }
            Err(fs::TryLockError::Error(source)) => Err(fault(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(step: u64, values: &[f32]) -> Contents<'_> {
        Contents {
            step,
            tensors: vec![("model.safetensors", vec![("w".into(), vec![values.len()], values)])],
            texts: vec![("config.json", "{}".into())],
            state: serde_json::json!({ "seed": 7 }),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let out = tempfile::tempdir().unwrap();
        let values = [1.5f32, -0.0, f32::MIN_POSITIVE / 2.0, 3e38];
        write(out.path(), &contents(12, &values), 3).unwrap();
        let (found, faults) = newest(out.path()).unwrap();
        assert!(faults.is_empty());
        assert_eq!((found.step(), &found.state()["seed"]), (12, &serde_json::json!(7)));
        let mut read = [0.0f32; 4];
        found.read_tensors("model.safetensors", [("w".into(), vec![4], &mut read[..])]).unwrap();
        assert_eq!(read.map(f32::to_bits), values.map(f32::to_bits));
        let error =
            found.read_tensors("model.safetensors", [("w".into(), vec![2, 2], &mut read[..])]);
        assert!(error.unwrap_err().to_string().contains("expected F32 [2, 2]"));
    }

    #[test]
    fn the_newest_that_verifies_is_taken_and_the_last_few_are_kept() {
        let out = tempfile::tempdir().unwrap();
        for step in 1..=5 {
            write(out.path(), &contents(step, &[step as f32]), 3).unwrap();
        }
        assert_eq!(finished(out.path()).iter().map(|f| f.0).collect::<Vec<_>>(), [5, 4, 3]);
        let newest_file = out.path().join("step-00000005/model.safetensors");
        let whole = fs::read(&newest_file).unwrap();
        for i in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[i] ^= 0x10;
            fs::write(&newest_file, damaged).unwrap();
            let (found, faults) = newest(out.path()).unwrap();
            assert_eq!((found.step(), faults.len()), (4, 1), "byte {i}");
        }
        fs::write(&newest_file, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(newest(out.path()).unwrap().0.step(), 4);
        fs::remove_file(&newest_file).unwrap();
        assert_eq!(newest(out.path()).unwrap().0.step(), 4);
    }

    #[test]
    fn half_written_directories_are_never_taken() {
        let out = tempfile::tempdir().unwrap();
        assert!(newest(out.path()).unwrap_err().to_string().contains("no checkpoint here"));
        write(out.path(), &contents(1, &[1.0]), 2).unwrap();
        let half = out.path().join(format!("{UNFINISHED}{FINISHED}00000002"));
        fs::create_dir(&half).unwrap();
        fs::write(half.join("model.safetensors"), b"half").unwrap();
        assert_eq!(newest(out.path()).unwrap().0.step(), 1);
        remove_unfinished(out.path()).unwrap();
        assert!(!half.exists());
    }

    #[test]
    fn a_failed_write_leaves_the_earlier_ones() {
        let out = tempfile::tempdir().unwrap();
        write(out.path(), &contents(1, &[1.0]), 2).unwrap();
        // A file name that is a directory's: writing it fails after other files were written.
        let mut bad = contents(2, &[2.0]);
        bad.texts.push(("no/such/place.json", String::new()));
        let error = write(out.path(), &bad, 2).unwrap_err().to_string();
        assert!(error.contains("place.json") && error.contains("untouched"), "{error}");
        assert_eq!(newest(out.path()).unwrap().0.step(), 1);
        assert!(fs::read_dir(out.path()).unwrap().count() == 1, "nothing is left over");
    }

    #[test]
    fn one_writer_at_a_time() {
        let out = tempfile::tempdir().unwrap();
        let first = Lock::acquire(out.path()).unwrap();
        assert!(Lock::acquire(out.path()).unwrap_err().to_string().contains("another run"));
        drop(first);
        Lock::acquire(out.path()).unwrap();
    }
}
