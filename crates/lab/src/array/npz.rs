//! NumPy's `.npz`: a zip archive whose entries are `.npy` files, stored (`numpy.savez`) or deflated
//! (`numpy.savez_compressed`).

use super::{Array, ArrayError, npy, zip};

/// The arrays of an archive, by name without `.npy`, in the archive's order.
///
/// # Errors
/// When the bytes are no such archive; entries that are no array of numbers are named.
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, Array)>, ArrayError> {
    let archive = zip::Archive::parse(bytes)?;
    let read = |name: &str| {
        let array = npy::parse(&archive.read(name)?).map_err(|error| ArrayError::Entry {
            name: name.to_owned(),
            reason: error.to_string(),
        })?;
        Ok((name.strip_suffix(".npy").unwrap_or(name).to_owned(), array))
    };
    archive.names().map(read).collect()
}

/// An archive of arrays, deflated.
///
/// # Errors
/// When an array has no NumPy type, or the archive would be larger than zip holds (4 GiB).
pub fn to_bytes<'a>(
    arrays: impl IntoIterator<Item = (&'a str, &'a Array)>,
) -> Result<Vec<u8>, ArrayError> {
    let mut writer = zip::Writer::new();
    for (name, array) in arrays {
        writer.add(&format!("{name}.npy"), &npy::to_bytes(array)?)?;
    }
    Ok(writer.finish())
}
