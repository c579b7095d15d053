//! Tokenizers: byte-pair encoding, characters and foreign formats.
