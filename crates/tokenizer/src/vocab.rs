//! The table of tokens, and the two spellings of raw bytes that formats use.

/// The purpose of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A piece of text.
    Text,
    /// One raw byte, spelled `<0x0A>` in its file.
    Byte,
    /// A marker such as BOS: never text.
    Control,
    /// Stands for what the vocabulary cannot say.
    Unknown,
    /// Text that is matched whole, before anything else.
    UserDefined,
    /// An id that no token uses.
    Missing,
}

/// One entry of the vocabulary.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    /// The bytes that the token stands for; for a marker, its name.
    pub(crate) bytes: Box<[u8]>,
    pub(crate) kind: Kind,
}

impl Token {
    pub(crate) fn new(bytes: impl Into<Box<[u8]>>, kind: Kind) -> Self {
        Token { bytes: bytes.into(), kind }
    }
}

/// `<0x0A>` as SentencePiece spells a byte.
pub(crate) fn byte_name(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The byte that a SentencePiece name such as `<0x0A>` spells.
pub(crate) fn byte_of_name(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    let upper = digits.bytes().all(|d| d.is_ascii_digit() || (b'A'..=b'F').contains(&d));
    if digits.len() == 2 && upper { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The characters by which byte-level vocabularies write bytes (GPT-2, `bytes_to_unicode`):
/// printable Latin-1 stands for itself, the 68 others are U+0100 onwards in byte order.
pub(crate) struct ByteLetters {
    letters: [char; 256],
    bytes: [Option<u8>; 0x144],
}

impl ByteLetters {
    pub(crate) fn new() -> Self {
        let (mut letters, mut bytes) = (['\0'; 256], [None; 0x144]);
        let mut shifted = 0x100;
        for byte in 0..=255_u8 {
            let itself = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
            let code = if itself { u32::from(byte) } else { shifted };
            shifted += u32::from(!itself);
            letters[usize::from(byte)] = char::from_u32(code).expect("below the surrogates");
            bytes[code as usize] = Some(byte);
        }
        ByteLetters { letters, bytes }
    }

    pub(crate) fn letter(&self, byte: u8) -> char {
        self.letters[usize::from(byte)]
    }

    /// Bytes as letters.
    pub(crate) fn spell(&self, bytes: &[u8]) -> String {
        bytes.iter().map(|&b| self.letter(b)).collect()
    }

    /// Letters as bytes; `None` if some character is no letter of the alphabet.
    pub(crate) fn read(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.bytes.get(c as usize).copied().flatten()).collect()
    }

    /// All bytes in the order of their letters: the order of ids in GPT-2's vocabulary.
    pub(crate) fn bytes_in_order(&self) -> impl Iterator<Item = u8> + '_ {
        self.bytes.iter().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_letters_are_a_bijection() {
        let table = ByteLetters::new();
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(table.read(&table.spell(&all)), Some(all));
        assert_eq!((table.letter(b' '), table.letter(b'\n')), ('Ġ', 'Ċ'));
        assert_eq!(table.bytes_in_order().count(), 256);
        assert_eq!(table.bytes_in_order().next(), Some(b'!'));
        assert_eq!(table.read("漢"), None);
    }

    #[test]
    fn byte_names_read_back_and_nothing_else_does() {
        for byte in 0..=255 {
            assert_eq!(byte_of_name(&byte_name(byte)), Some(byte));
        }
        for name in ["<0x0a>", "<0x+A>", "<0xA>", "<0x>", "0x0A", "<0x0A>>", ""] {
            assert_eq!(byte_of_name(name), None, "{name}");
        }
    }
}
