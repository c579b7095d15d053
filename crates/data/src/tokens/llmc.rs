//! The headers of llm.c's files: 256 little-endian 32-bit words.

use super::{Format, Layout};

const HEADER: usize = 1024;
const TOKENS: u32 = 20_240_520;
/// Files of llm.c that hold no tokens to train on.
const OTHERS: [(u32, &str); 3] = [
    (20_240_326, "a model"),
    (20_240_327, "the state of a model for its tests"),
    (20_240_522, "an evaluation set"),
];

/// The layout of a token file of llm.c; `None` if the file is none of llm.c's.
pub(super) fn layout(bytes: &[u8]) -> Result<Option<Layout>, String> {
    let word = |at: usize| {
        bytes.get(4 * at..4 * at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    };
    let Some(magic) = word(0) else { return Ok(None) };
    if let Some((_, what)) = OTHERS.iter().find(|(other, _)| *other == magic) {
        return Err(format!("this is {what} of llm.c, not a token file"));
    }
    if magic != TOKENS {
        return Ok(None);
    }
    let (Some(version), Some(count), true) = (word(1), word(2), bytes.len() >= HEADER) else {
        return Err("the header of llm.c is cut short; fetch the file again".into());
    };
    let format = match version {
        1 => Format::Llmc16,
        7 => Format::Llmc32,
        _ => {
            return Err(format!(
                "version {version} of llm.c's token files; this program reads 1 (16-bit ids) and 7 (32-bit)"
            ));
        }
    };
    let (payload, width) = (bytes.len() - HEADER, format.width());
    let count = count as usize;
    if count.checked_mul(width) != Some(payload) {
        return Err(format!(
            "the header of llm.c states {count} ids of {width} bytes, but {payload} bytes follow; the \
             file is cut short or damaged"
        ));
    }
    Ok(Some(Layout { format, start: HEADER, count, checksum: None }))
}
