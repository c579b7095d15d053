//! MIL programs: typed IR, builder, text, verifier, reference semantics and reverse-mode autodiff.
