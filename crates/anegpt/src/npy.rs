//! NumPy's `.npy` files of numbers, versions 1 to 3 (numpy.lib.format). The crates that read them bring
//! a parser of Python literals that needs a C compiler; a header has three known entries.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The text after `'key':` in a header, up to the comma or bracket that ends the entry.
fn entry<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let start = quoted.iter().find_map(|q| header.find(q.as_str()).map(|at| at + q.len()))?;
    let rest = header[start..].trim_start().strip_prefix(':')?.trim_start();
    let end = if rest.starts_with('(') { rest.find(')')? + 1 } else { rest.find([',', '}'])? };
    Some(rest[..end].trim())
}

/// Shape and elements of a file of numbers in row-major order, as f32.
pub(crate) fn read(path: &Path) -> Result<(Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&bytes).with_context(|| format!("{} is not a NumPy file of numbers", path.display()))
}

fn parse(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>)> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else { bail!("it does not begin as one") };
    let (length, start) = match rest {
        [1, _, a, b, ..] => (u16::from_le_bytes([*a, *b]) as usize, 4),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 6),
        _ => bail!("its version is not 1, 2 or 3"),
    };
    let header = rest.get(start..start + length).context("its header is cut off")?;
    let header = std::str::from_utf8(header).context("its header is not text")?;
    let dtype = entry(header, "descr").context("its header has no `descr`")?;
    let dtype = dtype.trim_matches(['\'', '"']);
    if entry(header, "fortran_order").context("its header has no `fortran_order`")? != "False" {
        bail!("it is in column-major order: save it with numpy.ascontiguousarray");
    }
    let shape = entry(header, "shape").context("its header has no `shape`")?;
    let shape: Vec<usize> = (shape.trim_matches(['(', ')']).split(','))
        .map(str::trim)
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().with_context(|| format!("`{n}` is not an extent")))
        .collect::<Result<_>>()?;
    let data = &rest[start + length..];
    let values = elements(dtype, data)?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if count != Some(values.len()) {
        bail!("its shape {shape:?} does not match its {} elements", values.len());
    }
    Ok((shape, values))
}

fn elements(dtype: &str, data: &[u8]) -> Result<Vec<f32>> {
    macro_rules! numbers {
        ($ty:ty, $convert:expr) => {{
            let (chunks, rest) = data.as_chunks::<{ std::mem::size_of::<$ty>() }>();
            if !rest.is_empty() {
                bail!("its last element is cut off");
            }
            let convert: fn($ty) -> f32 = $convert;
            chunks.iter().map(|b| convert(<$ty>::from_le_bytes(*b))).collect()
        }};
    }
    Ok(match dtype {
        "<f4" => numbers!(f32, |v| v),
        "<f8" => numbers!(f64, |v| v as f32),
        "<f2" => numbers!(half::f16, half::f16::to_f32),
        "|i1" => numbers!(i8, f32::from),
        "|u1" | "|b1" => numbers!(u8, f32::from),
        "<i2" => numbers!(i16, f32::from),
        "<u2" => numbers!(u16, f32::from),
        "<i4" => numbers!(i32, |v| v as f32),
        "<i8" => numbers!(i64, |v| v as f32),
        other => bail!("elements of type `{other}` are not read; use float32"),
    })
}

/// Writes a file of little-endian f32 in row-major order.
pub(crate) fn write(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    let extents: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", extents.trim_end());
    // The data begin at a multiple of 64 bytes.
    let padding = 63 - (MAGIC.len() + 4 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    std::fs::File::create(path)
        .and_then(|mut file| file.write_all(&bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.npy");
        for shape in [vec![], vec![3], vec![2, 1, 4]] {
            let values: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32 / 3.0).collect();
            write(&path, &shape, &values).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len() % 64, values.len() as u64 * 4 % 64);
            assert_eq!(read(&path).unwrap(), (shape, values));
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.npy");
        write(&path, &[2, 3], &[1.0; 6]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        (0..whole.len()).for_each(|n| assert!(parse(&whole[..n]).is_err(), "{n} bytes"));
        let text = String::from_utf8_lossy(&whole).into_owned();
        for (from, to) in
            [("<f4", "<c8"), ("False", "True "), ("(2, 3,)", "(2,-3,)"), ("(2, 3,)", "(9, 9,)")]
        {
            let at = text
                .find(from)
                .map(|_| whole.windows(from.len()).position(|w| w == from.as_bytes()).unwrap());
            let mut bytes = whole.clone();
            bytes[at.unwrap()..][..from.len()].copy_from_slice(to.as_bytes());
            assert!(parse(&bytes).is_err(), "{to}");
        }
    }
}
