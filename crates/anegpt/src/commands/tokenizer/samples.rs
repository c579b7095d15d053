//! Texts of several kinds, written for this table.

/// A kind of text and an example of it.
pub(super) const SAMPLES: [(&str, &str); 10] = [
    ("English, news", include_str!("samples/prose.txt")),
    ("English, dialogue", include_str!("samples/dialogue.txt")),
    ("English, science", include_str!("samples/science.txt")),
    ("mathematics (LaTeX)", include_str!("samples/mathematics.txt")),
    ("code (Python)", include_str!("samples/python.txt")),
    ("code (Rust)", include_str!("samples/rust.txt")),
    ("data (JSON, CSV)", include_str!("samples/data.txt")),
    ("German", include_str!("samples/german.txt")),
    ("Russian", include_str!("samples/russian.txt")),
    ("Chinese", include_str!("samples/chinese.txt")),
];
