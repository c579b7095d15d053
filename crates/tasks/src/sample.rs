//! Texts for reading: what a base model makes of a few beginnings, and of none.

/// Beginnings that are continued greedily, each by [`PROMPTED_TOKENS`].
pub const PROMPTS: [&str; 7] = [
    "The capital of France is",
    "The chemical symbol of gold is",
    "If yesterday was Friday, then tomorrow will be",
    "The opposite of hot is",
    "The planets of the solar system are:",
    "My favorite color is",
    "If 5*x + 3 = 13, then x is",
];
/// Tokens of a continuation.
pub const PROMPTED_TOKENS: usize = 16;
/// Texts that are drawn from the beginning, at temperature 1.
pub const UNCONDITIONED: usize = 8;
/// Tokens of such a text.
pub const UNCONDITIONED_TOKENS: usize = 128;
