//! Arrays in files: `.npy`, `.npz`, and directories of `.npy`.

use anyhow::{Context, Result};
use lab::array::{Array, npy, npz};
use std::path::Path;

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// True if a path names an archive of arrays.
pub(crate) fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz"))
}

/// The array of a `.npy` file.
pub(crate) fn read(path: &Path) -> Result<Array> {
    npy::parse(&bytes(path)?).with_context(|| path.display().to_string())
}

/// The arrays of a `.npz` file, by name.
pub(crate) fn read_npz(path: &Path) -> Result<Vec<(String, Array)>> {
    npz::parse(&bytes(path)?).with_context(|| path.display().to_string())
}

/// All arrays of a `.npy` file (called by its own name), a `.npz` file or a directory, by name in
/// order.
pub(crate) fn read_all(path: &Path) -> Result<Vec<(String, Array)>> {
    let mut all = vec![];
    if path.is_dir() {
        let entries = std::fs::read_dir(path)
            .with_context(|| format!("cannot read the directory {}", path.display()))?;
        for entry in entries {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "npy") {
                let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                all.push((name, read(&file)?));
            }
        }
    } else if is_npz(path) {
        all = read_npz(path)?;
    } else {
        all.push(("array".to_owned(), read(path)?));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

/// Writes arrays as `NAME.npy` into a directory, or as one archive if `path` ends in `.npz`.
/// Returns where each array is.
pub(crate) fn write_all(path: &Path, arrays: &[(String, Array)]) -> Result<Vec<String>> {
    let save = |path: &Path, bytes: Vec<u8>| {
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    if is_npz(path) {
        save(path, npz::to_bytes(arrays.iter().map(|(name, array)| (name.as_str(), array)))?)?;
        return Ok(arrays.iter().map(|(name, _)| format!("{}[{name}]", path.display())).collect());
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    (arrays.iter())
        .map(|(name, array)| {
            let file = path.join(format!("{name}.npy"));
            save(&file, npy::to_bytes(array)?)?;
            Ok(file.display().to_string())
        })
        .collect()
}
