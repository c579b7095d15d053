//! Recognises a file by its first bytes, so that a wrong one is named and not read as text or
//! tokens.

/// Bytes that are looked at.
pub(crate) const HEAD: usize = 4096;

/// Beginnings of binary files, with what they are and what to do.
const BINARY: [(&[u8], &str); 10] = [
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first (gunzip)"),
    (b"PK\x03\x04", "it is a zip archive: unpack it first (unzip)"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it first (unzstd)"),
    (b"\xfd7zXZ", "it is compressed with xz: unpack it first (unxz)"),
    (b"BZh", "it is compressed with bzip2: unpack it first (bunzip2)"),
    (b"PAR1", "it is a Parquet file: give it a name that ends in .parquet"),
    (b"%PDF", "it is a PDF: take the text out of it first (pdftotext)"),
    (
        b"\x93NUMPY",
        "it is a NumPy array: write the ids as 16-bit numbers (a.astype('<u2').tofile(...))",
    ),
    (b"GGUF", "it is a GGUF model, not text"),
    (b"anetok\r\n", "it is a token file: give it a name that ends in .bin"),
];

/// Returns the kind of a binary file and advice, if the kind is known.
pub(crate) fn binary(head: &[u8]) -> Option<&'static str> {
    BINARY.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| *what)
}

/// The encoding of a text that is not UTF-8 but of two or four bytes a character, by the name that
/// `iconv` knows it by.
pub(crate) fn wide_encoding(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"\xff\xfe\0\0") || head.starts_with(b"\0\0\xfe\xff") {
        return Some("utf-32");
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Some("utf-16");
    }
    // Without a mark: the upper bytes of Latin letters are 0.
    let zeros = |first: usize| {
        let all = head.iter().skip(first).step_by(2);
        (all.clone().filter(|b| **b == 0).count(), all.count())
    };
    let ((even, of_even), (odd, of_odd)) = (zeros(0), zeros(1));
    if of_odd >= 4 && odd * 10 >= of_odd * 9 && even == 0 {
        return Some("utf-16le");
    }
    (of_even >= 4 && even * 10 >= of_even * 9 && odd == 0).then_some("utf-16be")
}

/// True if the bytes read as text: UTF-8, cut off anywhere, without control characters.
pub fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !valid.is_empty() && valid.chars().all(|c| !c.is_control() || "\t\n\r\u{c}".contains(c))
}

/// Returns the probable kind of a text that was not written to be learned from, and advice.
pub(crate) fn odd_text(head: &[u8]) -> Option<&'static str> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let start = head.iter().position(|b| !b.is_ascii_whitespace())?;
    let head = &head[start..];
    let starts = |with: &str| {
        head.get(..with.len()).is_some_and(|h| h.eq_ignore_ascii_case(with.as_bytes()))
    };
    let next = head.iter().skip(1).find(|b| !b.is_ascii_whitespace());
    match head[0] {
        b'{' if matches!(next, Some(b'"' | b'}')) => Some(
            "it is JSON, and is learned as it stands, with names and brackets; for its texts, write a \
             .jsonl file of lines like {\"text\": \"...\"}",
        ),
        b'[' if matches!(next, Some(b'{' | b'"' | b'[')) => Some(
            "it is a JSON array, and is learned as it stands, with names and brackets; for its texts, \
             write a .jsonl file of lines like {\"text\": \"...\"}",
        ),
        _ if starts("<!doctype html") || starts("<html") => {
            Some("it is a web page, perhaps the answer of a download that failed")
        }
        _ if starts("version https://git-lfs.github.com/") => {
            Some("it is a Git LFS pointer, not the file: fetch that with git lfs pull")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, big: bool) -> Vec<u8> {
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn wide_encodings_are_told_by_mark_and_by_zeros() {
        for (bytes, want) in [
            (&b"\xff\xfea\0"[..], Some("utf-16")),
            (b"\xfe\xff\0a", Some("utf-16")),
            (b"\xff\xfe\0\0a\0\0\0", Some("utf-32")),
            (b"\0\0\xfe\xff\0\0\0a", Some("utf-32")),
            (&utf16("Once upon a time, é", false), Some("utf-16le")),
            (&utf16("Once upon a time, é", true), Some("utf-16be")),
            (b"Once upon a time", None),
            (b"caf\xe9 cr\xe8me", None),
            (b"", None),
        ] {
            assert_eq!(wide_encoding(bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn text_is_told_from_ids() {
        assert!(is_text("{\"error\": \"not found\"}\n".as_bytes()));
        assert!(is_text(&"日本語".as_bytes()[..4]));
        assert!(!is_text(b"ab\0c") && !is_text(b"ab\xffc") && !is_text(b""));
    }

    #[test]
    fn odd_texts_are_named() {
        let named = |text: &str, what: &str| {
            assert!(odd_text(text.as_bytes()).is_some_and(|t| t.contains(what)), "{text}");
        };
        named("{\"error\": \"rate limit\"}", "JSON");
        named("\u{feff}\n [ {\"story\": \"Once\"} ]", "JSON array");
        named("<!DOCTYPE HTML><title>404</title>", "web page");
        named("version https://git-lfs.github.com/spec/v1\noid", "LFS");
        for text in ["Once upon a time", "{ x }", "[1] A note", "<b>bold</b>", "", "   "] {
            assert_eq!(odd_text(text.as_bytes()), None, "{text}");
        }
    }
}
