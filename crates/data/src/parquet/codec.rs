//! Compression of pages.

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use std::io::Read;

/// Most bytes of a page, before and after compression.
pub(super) const PAGE: usize = 512 << 20;
/// Windows of zstd up to this size are accepted whatever the page (RFC 8878, 3.1.1.1.2: 8 MiB).
const WINDOW: u64 = 8 << 20;

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Snappy,
    Gzip,
    Zstd,
}

impl Codec {
    /// By its number in the format (`CompressionCodec`).
    pub(super) fn of(number: i64) -> Result<Codec, String> {
        let other = match number {
            0 => return Ok(Codec::None),
            1 => return Ok(Codec::Snappy),
            2 => return Ok(Codec::Gzip),
            6 => return Ok(Codec::Zstd),
            3 => "LZO",
            4 => "Brotli",
            5 | 7 => "LZ4",
            _ => return Err(format!("unknown compression {number}: the file is damaged or new")),
        };
        Err(format!(
            "it is compressed with {other}, which is not read: write it again with zstd, in Python \
             pyarrow.parquet.write_table(table, path, compression=\"zstd\")"
        ))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Codec::None => "uncompressed",
            Codec::Snappy => "snappy",
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        }
    }

    /// The `size` bytes that `bytes` were before compression. Memory grows with what comes out, not with
    /// what `size` claims.
    pub(super) fn decompress(self, bytes: &[u8], size: usize) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let most = size as u64 + 1;
        let read = match self {
            Codec::None => bytes.take(most).read_to_end(&mut out),
            Codec::Snappy => return snappy(bytes, size),
            Codec::Gzip => MultiGzDecoder::new(bytes).take(most).read_to_end(&mut out),
            Codec::Zstd => {
                let window = WINDOW.max(2 * (size as u64).next_power_of_two());
                let decoder = StreamingDecoder::new_with_max_window_size(bytes, window);
                let decoder = decoder.map_err(|e| format!("the page is not zstd: {e}"))?;
                decoder.take(most).read_to_end(&mut out)
            }
        };
        read.map_err(|e| format!("the {} page is damaged: {e}", self.name()))?;
        of_size(out, size)
    }
}

fn snappy(bytes: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let damaged = |e: snap::Error| format!("the snappy page is damaged: {e}");
    let states = snap::raw::decompress_len(bytes).map_err(damaged)?;
    // A copy of up to 64 bytes takes three: nothing is compressed further.
    if states != size || size / 22 > bytes.len() {
        return Err(format!("the snappy page states {states} bytes, not {size}: it is damaged"));
    }
    snap::raw::Decoder::new().decompress_vec(bytes).map_err(damaged)
}

fn of_size(out: Vec<u8>, size: usize) -> Result<Vec<u8>, String> {
    match out.len() {
        n if n == size => Ok(out),
        n => Err(format!(
            "a page has {} bytes, not {size}: it is damaged",
            if n > size { "more".to_owned() } else { n.to_string() }
        )),
    }
}
