//! Tensors to and from safetensors files, one slice at a time: a model's arena is never copied.

use super::{CheckpointError, Checksum, Disk, Tensors, hex};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian and slices are written as they are in memory");

/// Bytes written, hashed or checked at once.
const PIECE: usize = 1 << 20;
/// Longest header: that of the safetensors specification.
const LONGEST_HEADER: u64 = 100_000_000;

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

/// The first element that is not finite.
fn not_finite(data: &[f32]) -> Option<usize> {
    // An exponent of all ones is an infinity or a NaN; the maximum over a chunk vectorises.
    let exponent = |x: &f32| x.to_bits() & 0x7f80_0000;
    let bad = |part: &[f32]| part.iter().map(exponent).fold(0, u32::max) == 0x7f80_0000;
    let chunk = data.chunks(4096).position(bad)?;
    data[chunk * 4096..].iter().position(|x| !x.is_finite()).map(|i| chunk * 4096 + i)
}

/// The header: length, JSON, spaces up to a multiple of 8.
fn header(tensors: &[&(String, Vec<usize>, &[f32])]) -> Result<Vec<u8>, String> {
    let mut end = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for (name, shape, data) in tensors {
        let start = end;
        end += size_of_val(*data);
        let info =
            TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets: (start, end) };
        infos.push((name.clone(), info));
    }
    if let Some(pair) = infos.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("two tensors are called `{}`", pair[0].0));
    }
    // Hugging Face's loaders ask which framework's names these are.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos).map_err(|e| e.to_string())?;
    let mut json = serde_json::to_vec(&metadata).expect("names and numbers");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
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
    let header = header(&ordered).map_err(|reason| fault(io::Error::other(reason)))?;
    let mut parts = vec![&header[..]];
    parts.extend(ordered.iter().map(|(_, _, data)| bytemuck::cast_slice::<f32, u8>(data)));
    write_parts(disk, path, &parts).map_err(fault)
}

/// Reads the header of a file of `size` bytes; where the data begin.
fn read_header(file: &mut File, size: u64) -> Result<(Metadata, u64), String> {
    let text = |e: io::Error| e.to_string();
    let mut word = [0; 8];
    file.read_exact(&mut word).map_err(|_| format!("has {size} bytes: not even a header"))?;
    let length = u64::from_le_bytes(word);
    if length > LONGEST_HEADER.min(size.saturating_sub(8)) {
        return Err(format!("claims a header of {length} bytes in a file of {size}"));
    }
    let mut json = vec![0; length as usize];
    file.read_exact(&mut json).map_err(text)?;
    let metadata: Metadata =
        serde_json::from_slice(&json).map_err(|e| format!("is not a safetensors file: {e}"))?;
    let end = metadata.tensors().values().map(|t| t.data_offsets.1).max().unwrap_or(0) as u64;
    if end.checked_add(8 + length) != Some(size) {
        return Err(format!(
            "has {size} bytes, but its header speaks of {}",
            end.saturating_add(8 + length)
        ));
    }
    Ok((metadata, 8 + length))
}

/// Reads the wanted tensors into their slices.
pub(super) fn read<'a>(
    path: &Path,
    wanted: impl IntoIterator<Item = (String, Vec<usize>, &'a mut [f32])>,
) -> Result<(), CheckpointError> {
    let fault = |source| CheckpointError::Read { path: path.to_owned(), source };
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(fault)?;
    let size = file.metadata().map_err(fault)?.len();
    let (metadata, data) = read_header(&mut file, size).map_err(damaged)?;
    for (name, shape, to) in wanted {
        let info =
            metadata.info(&name).ok_or_else(|| damaged(format!("has no tensor `{name}`")))?;
        if info.shape != shape || info.dtype != Dtype::F32 {
            let (found, dtype) = (&info.shape, info.dtype);
            return Err(damaged(format!(
                "`{name}` is {dtype:?} {found:?}, expected F32 {shape:?}"
            )));
        }
        if shape.iter().product::<usize>() != to.len() {
            return Err(damaged(format!("`{name}` {shape:?} is to fill {} elements", to.len())));
        }
        file.seek(SeekFrom::Start(data + info.data_offsets.0 as u64)).map_err(fault)?;
        file.read_exact(bytemuck::cast_slice_mut(to)).map_err(fault)?;
        if let Some(index) = not_finite(to) {
            return Err(damaged(format!("element {index} of `{name}` is {}", to[index])));
        }
    }
    Ok(())
}
