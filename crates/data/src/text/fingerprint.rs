//! Tells texts apart without reading all of them.

use super::{Input, Kind, TextSource};
use crate::error::{Error, Result};
use crate::tokens::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Bytes at either end of a file that are looked at. A Parquet file ends with what it says of its pages.
const END: u64 = 64 << 10;

impl TextSource {
    /// A checksum of names, sizes, and the beginnings and ends of all files, as 32 hexadecimal digits: other
    /// texts nearly always have another. It does not depend on the directory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for part in [&self.separator, &self.field] {
            add(&mut hash, part.as_bytes());
        }
        for input in &self.inputs {
            add(&mut hash, input.path.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(input.bytes.to_le_bytes());
            ends(&mut hash, input)?;
        }
        Ok(short(hash))
    }

    /// As [`TextSource::fingerprint`], of `key`, paths and times of change as well: what was made of the
    /// texts as they are now may be used again under this name.
    pub(super) fn name_with(&self, key: &str) -> Result<String> {
        let mut hash = Sha256::new();
        add(&mut hash, self.fingerprint()?.as_bytes());
        add(&mut hash, key.as_bytes());
        for input in self.inputs.iter().filter(|input| !matches!(input.kind, Kind::Memory(_))) {
            let path = std::path::absolute(&input.path).unwrap_or_else(|_| input.path.clone());
            add(&mut hash, path.as_os_str().as_encoded_bytes());
            hash.update(changed(&input.path)?.to_le_bytes());
        }
        Ok(short(hash))
    }
}

/// Nanoseconds from 1970 to the last change; 0 where that is not known.
fn changed(path: &Path) -> Result<u128> {
    let meta = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
    let time = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(time.map_or(0, |time| time.as_nanos()))
}

fn ends(hash: &mut Sha256, input: &Input) -> Result<()> {
    let Input { path, bytes, kind } = input;
    if let Kind::Memory(documents) = kind {
        documents.iter().for_each(|text| add(hash, text.as_bytes()));
        return Ok(());
    }
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    for at in [0, bytes.saturating_sub(END)] {
        let mut end = Vec::new();
        let read = file.seek(SeekFrom::Start(at));
        let read = read.and_then(|_| (&mut file).take(END).read_to_end(&mut end));
        read.map_err(Error::io(path, "read"))?;
        add(hash, &end);
    }
    Ok(())
}

fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn short(hash: Sha256) -> String {
    hex(&hash.finalize()[..16])
}
