//! NumPy's `.npy` files of numbers, versions 1 to 3 (numpy.lib.format). The crates that read them
//! bring a parser of Python literals that needs a C compiler; a header has three known entries.

use super::{Array, ArrayError};
use ane::bytes::{decode, encode};
use mil::{DType, TensorType};

const MAGIC: &[u8] = b"\x93NUMPY";

fn fail<T>(reason: impl Into<String>) -> Result<T, ArrayError> {
    Err(ArrayError::Npy(reason.into()))
}

/// The text after `'key':` in a header, up to the comma or bracket that ends the entry.
fn entry<'h>(header: &'h str, key: &str) -> Result<&'h str, ArrayError> {
    let find = || {
        let quoted = [format!("'{key}'"), format!("\"{key}\"")];
        let start = quoted.iter().find_map(|q| header.find(q.as_str()).map(|at| at + q.len()))?;
        let rest = header[start..].trim_start().strip_prefix(':')?.trim_start();
        let end = if rest.starts_with('(') { rest.find(')')? + 1 } else { rest.find([',', '}'])? };
        Some(rest[..end].trim())
    };
    find().ok_or_else(|| ArrayError::Npy(format!("its header has no `{key}`")))
}

/// The array in `bytes`. Elements of 64 bits become fp32 or int32 (the nearest type a program
/// has), all others keep their type.
///
/// # Errors
/// [`ArrayError::Npy`] when the bytes are no such file, are cut off, or hold something else.
pub fn parse(bytes: &[u8]) -> Result<Array, ArrayError> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else { return fail("it does not begin as one") };
    let (length, start) = match rest {
        [1, _, a, b, ..] => (u16::from_le_bytes([*a, *b]) as usize, 4),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 6),
        _ => return fail("its version is not 1, 2 or 3"),
    };
    let end = start + length;
    let Some(header) = rest.get(start..end) else { return fail("its header is cut off") };
    let Ok(header) = std::str::from_utf8(header) else { return fail("its header is not text") };
    if entry(header, "fortran_order")? != "False" {
        return fail("it is in column-major order: save it with numpy.ascontiguousarray");
    }
    let shape = (entry(header, "shape")?.trim_matches(['(', ')']).split(','))
        .map(str::trim)
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().or_else(|_| fail(format!("`{n}` is not an extent"))))
        .collect::<Result<Vec<usize>, _>>()?;
    let code = entry(header, "descr")?.trim_matches(['\'', '"']);
    let data = &rest[end..];
    let (dtype, width) = match code {
        "<f8" => (DType::Fp32, 8),
        "<i8" => (DType::Int32, 8),
        code => match CODES.iter().find(|c| c.1 == code) {
            Some(&(dtype, _)) => (dtype, dtype.bits() / 8),
            None if code.starts_with('>') => {
                let little = code.replace('>', "<");
                return fail(format!(
                    "elements of type `{code}` are big-endian: save a.astype('{little}')"
                ));
            }
            None => return fail(format!("elements of type `{code}` are not read; use float32")),
        },
    };
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let bytes = count.and_then(|n| n.checked_mul(width));
    if bytes != Some(data.len()) {
        return fail(format!(
            "its shape {shape:?} does not match its {} bytes of data",
            data.len()
        ));
    }
    let (wide, _) = data.as_chunks::<8>();
    let values = match code {
        "<f8" => wide.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        "<i8" => wide.iter().map(|b| i64::from_le_bytes(*b) as f32).collect(),
        _ => decode(dtype, data)?,
    };
    Ok(Array { ty: TensorType::new(dtype, shape), values })
}

/// Element types and NumPy's codes of them.
const CODES: [(DType, &str); 9] = [
    (DType::Fp16, "<f2"),
    (DType::Fp32, "<f4"),
    (DType::Int8, "|i1"),
    (DType::UInt8, "|u1"),
    (DType::Bool, "|b1"),
    (DType::Int16, "<i2"),
    (DType::UInt16, "<u2"),
    (DType::Int32, "<i4"),
    (DType::UInt32, "<u4"),
];

/// The file of an array, version 1.0; its data begin at a multiple of 64 bytes.
///
/// # Errors
/// [`ArrayError::DType`] for element types that NumPy does not have.
pub fn to_bytes(array: &Array) -> Result<Vec<u8>, ArrayError> {
    let dtype = array.ty.dtype;
    let code = CODES.iter().find(|c| c.0 == dtype).ok_or(ArrayError::DType(dtype))?.1;
    let extents: String = array.ty.shape.iter().map(|n| format!("{n}, ")).collect();
    let extents = extents.trim_end();
    let mut header =
        format!("{{'descr': '{code}', 'fortran_order': False, 'shape': ({extents}), }}");
    let padding = 63 - (MAGIC.len() + 4 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    encode(dtype, &array.values, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (dtype, _) in CODES {
            for shape in [vec![], vec![3], vec![2, 1, 4]] {
                let ty = TensorType::new(dtype, shape);
                let values = (0..ty.count()).map(|i| (i % 2) as f32).collect();
                let array = Array { ty, values };
                let bytes = to_bytes(&array).unwrap();
                assert_eq!(bytes.len() % 64, array.ty.bytes() % 64);
                assert_eq!(parse(&bytes).unwrap(), array);
            }
        }
        let text = Array { ty: TensorType::new(DType::String, []), values: vec![0.0] };
        assert_eq!(to_bytes(&text), Err(ArrayError::DType(DType::String)));
    }

    #[test]
    fn big_endian_elements_are_named() {
        let array = Array { ty: TensorType::new(DType::Fp32, [2]), values: vec![1.0; 2] };
        let mut bytes = to_bytes(&array).unwrap();
        let at = bytes.windows(3).position(|w| w == b"<f4").unwrap();
        bytes[at] = b'>';
        let error = parse(&bytes).unwrap_err().to_string();
        assert!(error.contains("`>f4` are big-endian: save a.astype('<f4')"), "{error}");
    }

    #[test]
    fn damaged_files_are_refused() {
        let array = Array { ty: TensorType::new(DType::Fp32, [2, 3]), values: vec![1.0; 6] };
        let whole = to_bytes(&array).unwrap();
        (0..whole.len()).for_each(|n| assert!(parse(&whole[..n]).is_err(), "{n} bytes"));
        for (from, to) in [
            ("<f4", "<c8"),
            ("False", "True "),
            ("(2, 3,)", "(2,-3,)"),
            ("(2, 3,)", "(9, 9,)"),
            ("'descr'", "'dtype'"),
        ] {
            let at = whole.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            let mut bytes = whole.clone();
            bytes[at..][..from.len()].copy_from_slice(to.as_bytes());
            assert!(parse(&bytes).is_err(), "{to}");
        }
    }
}
