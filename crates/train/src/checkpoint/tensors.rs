//! Tensors to and from safetensors files, one slice at a time: a model's arena is never copied.

use super::{CheckpointError, Checksum, Disk, Tensors, hex};
use formats::Precision;
use formats::tensor_file::{TensorFile, TensorFileError, header, not_finite};
use safetensors::Dtype;
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;

/// Bytes written, hashed or checked at once.
const PIECE: usize = 1 << 20;

/// Writes the parts one after the other and syncs the file, while another thread hashes them; what
/// the file should hold from now on.
pub(super) fn write_parts(
    disk: &mut impl Disk,
    path: &Path,
    parts: &[&[u8]],
) -> io::Result<Checksum> {
    std::thread::scope(|scope| {
        let hash = scope.spawn(|| {
            let mut hash = Sha256::new();
            parts.iter().for_each(|part| hash.update(part));
            hex(&hash.finalize())
        });
        let mut file = disk.create(path)?;
        for piece in parts.iter().flat_map(|part| part.chunks(PIECE)) {
            disk.write(&mut file, piece)?;
        }
        disk.sync(&file, path)?;
        let sha256 = hash.join().expect("hashing does not fail");
        Ok(Checksum { bytes: parts.iter().map(|part| part.len() as u64).sum(), sha256 })
    })
}

/// Writes tensors, in the order of their names, and syncs the file.
pub(super) fn write(
    disk: &mut impl Disk,
    path: &Path,
    tensors: &Tensors<'_>,
) -> Result<Checksum, CheckpointError> {
    let fault = |source| CheckpointError::Write { path: path.to_owned(), source };
    for (name, _, data) in tensors {
        if let Some(index) = not_finite(data) {
            let (tensor, value) = (name.clone(), data[index]);
            return Err(CheckpointError::NotFinite { path: path.to_owned(), tensor, index, value });
        }
    }
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by(|a, b| a.0.cmp(&b.0));
    let shapes = ordered.iter().map(|(name, shape, data)| (&name[..], &shape[..], data.len()));
    let header =
        header(Precision::F32, shapes).map_err(|reason| fault(io::Error::other(reason)))?;
    let mut parts = vec![&header[..]];
    parts.extend(ordered.iter().map(|(_, _, data)| bytemuck::cast_slice::<f32, u8>(&data[..])));
    write_parts(disk, path, &parts).map_err(fault)
}

/// Reads the wanted tensors into their slices.
pub(super) fn read<'a>(
    path: &Path,
    wanted: impl IntoIterator<Item = (String, Vec<usize>, &'a mut [f32])>,
) -> Result<(), CheckpointError> {
    let fault = |source| CheckpointError::Read { path: path.to_owned(), source };
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let mut file = TensorFile::open(path).map_err(|error| match error {
        TensorFileError::Io(source) => fault(source),
        TensorFileError::Malformed(reason) => damaged(reason),
    })?;
    for (name, shape, to) in wanted {
        let (dtype, found) =
            file.info(&name).ok_or_else(|| damaged(format!("has no tensor `{name}`")))?;
        if found != shape || dtype != Dtype::F32 {
            return Err(damaged(format!(
                "`{name}` is {dtype:?} {found:?}, expected F32 {shape:?}"
            )));
        }
        if shape.iter().product::<usize>() != to.len() {
            return Err(damaged(format!("`{name}` {shape:?} is to fill {} elements", to.len())));
        }
        file.read(&name, to).map_err(fault)?;
        if let Some(index) = not_finite(to) {
            return Err(damaged(format!("element {index} of `{name}` is {}", to[index])));
        }
    }
    Ok(())
}
