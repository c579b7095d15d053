//! The container of safetensors: a header of JSON, then the bytes of the tensors.
//!
//! Elements are read and written piece by piece: a model is never copied.

use crate::precision::Precision;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian and slices are written as they are in memory");

/// Longest header: that of the safetensors specification.
const LONGEST_HEADER: u64 = 100_000_000;
/// Elements that are converted at once.
const PIECE: usize = 1 << 16;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// The system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The fault in the file.
    #[error("{0}")]
    Malformed(String),
}

/// Types of elements, and what each is called in the header.
const TYPES: [(Precision, Dtype); 3] =
    [(Precision::F32, Dtype::F32), (Precision::F16, Dtype::F16), (Precision::Bf16, Dtype::BF16)];

/// The bytes before tensors of one type that follow each other in this order: length, JSON, spaces up to
/// a multiple of 8. Each has a name, extents and a number of elements.
///
/// # Errors
/// When two neighbours have one name, extents do not give the number of elements, or the format has no such
/// type.
pub fn header<'t>(
    precision: Precision,
    tensors: impl IntoIterator<Item = (&'t str, &'t [usize], usize)>,
) -> Result<Vec<u8>, String> {
    let dtype = TYPES.iter().find(|(known, _)| *known == precision);
    let &(_, dtype) = dtype.ok_or_else(|| format!("safetensors files have no {precision}"))?;
    let mut end = 0;
    let mut infos: Vec<(String, TensorInfo)> = vec![];
    for (name, shape, elements) in tensors {
        let start = end;
        end += elements * precision.block().1;
        let info = TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (start, end) };
        infos.push((name.to_owned(), info));
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

/// Returns the first element that is not finite.
pub fn not_finite(data: &[f32]) -> Option<usize> {
    // An exponent of all ones is an infinity or a NaN; the maximum over a chunk vectorises.
    let exponent = |x: &f32| x.to_bits() & 0x7f80_0000;
    let bad = |part: &[f32]| part.iter().map(exponent).fold(0, u32::max) == 0x7f80_0000;
    let chunk = data.chunks(4096).position(bad)?;
    data[chunk * 4096..].iter().position(|x| !x.is_finite()).map(|i| chunk * 4096 + i)
}

/// An open file whose header has been read and agrees with its size.
#[derive(Debug)]
pub struct TensorFile {
    file: File,
    metadata: Metadata,
    /// Where the data begin.
    data: u64,
}

impl TensorFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When it cannot be read, its header is malformed, or its size is not what the header says.
    pub fn open(path: &Path) -> Result<Self, TensorFileError> {
        let malformed = TensorFileError::Malformed;
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut word = [0; 8];
        file.read_exact(&mut word)
            .map_err(|_| malformed(format!("has {size} bytes: not even a header")))?;
        let length = u64::from_le_bytes(word);
        if length > LONGEST_HEADER.min(size.saturating_sub(8)) {
            return Err(malformed(format!(
                "claims a header of {length} bytes in a file of {size}"
            )));
        }
        let mut json = vec![0; length as usize];
        file.read_exact(&mut json)?;
        let metadata: Metadata = serde_json::from_slice(&json)
            .map_err(|e| malformed(format!("is not a safetensors file: {e}")))?;
        let end = metadata.tensors().values().map(|t| t.data_offsets.1).max().unwrap_or(0) as u64;
        let data = 8 + length;
        if end.checked_add(data) != Some(size) {
            let says = end.saturating_add(data);
            return Err(malformed(format!("has {size} bytes, but its header speaks of {says}")));
        }
        Ok(TensorFile { file, metadata, data })
    }

    /// Names of the tensors.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Type and extents of a tensor.
    pub fn info(&self, name: &str) -> Option<(Dtype, &[usize])> {
        self.metadata.info(name).map(|info| (info.dtype, &info.shape[..]))
    }

    /// Reads the elements of a tensor (F32, F16 or BF16).
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Panics
    /// When there is no such tensor, or it has another type or number of elements.
    pub fn read(&mut self, name: &str, to: &mut [f32]) -> io::Result<()> {
        let info = self.metadata.info(name).expect("the tensor is there");
        assert_eq!(info.shape.iter().product::<usize>(), to.len(), "all elements are read");
        let precision = TYPES.iter().find(|(_, dtype)| *dtype == info.dtype);
        let &(precision, _) = precision.unwrap_or_else(|| panic!("{:?} is not read", info.dtype));
        self.file.seek(SeekFrom::Start(self.data + info.data_offsets.0 as u64))?;
        if precision == Precision::F32 {
            return self.file.read_exact(bytemuck::cast_slice_mut(to));
        }
        let (_, width) = precision.block();
        let mut piece = vec![0; width * PIECE.min(to.len())];
        for to in to.chunks_mut(PIECE) {
            let piece = &mut piece[..width * to.len()];
            self.file.read_exact(piece)?;
            precision.decode(piece, to);
        }
        Ok(())
    }
}
