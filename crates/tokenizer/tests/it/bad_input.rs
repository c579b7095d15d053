//! Files that are not what they claim: an error that says why, never a panic.

use proptest::prelude::*;
use tokenizer::{Error, Tokenizer};

use crate::{PIECES, golden, golden_names, llama2c_file};

fn check(bytes: &[u8], extension: &str, want: &str) {
    let error = Tokenizer::from_bytes(bytes, extension).expect_err(want).to_string();
    assert!(error.contains(want), "{error:?} should say {want:?}");
}

#[test]
fn each_fault_is_named() {
    check(b"", "", "not a tokenizer in a known format");
    check(b"", "bin", "truncated at byte 0 while reading the header");
    check(b"", "model", "no pieces");
    check(b"", "json", "EOF");
    check(&[0xFF; 64], "", "not a tokenizer");
    check(&[0xFF; 64], "bin", "up to -1 bytes");
    check(&20_240_328_i32.to_le_bytes(), "bin", "llm.c: a tokenizer file, which can only decode");
    check(&20_240_520_i32.to_le_bytes(), "bin", "llm.c: a file of token ids");
    check(b"{\"", "", "EOF");
    check(b"{\"model\": 3}", "", "invalid type");
    check(b"{\"model\": {\"vocab\": {}}}", "", "0 tokens");
    check(b"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}}}", "", "WordPiece");
    check(b"{\"model\": {\"vocab\": {\"a\": 4000000000}}}", "", "ids up to 4000000001");
    check(b"{\"model\": {\"vocab\": {\"a\": 0, \"b\": 0}}}", "", "both have the id 0");
    check(b"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}", "", "merge 0");
    check(b"{\"model\": {\"vocab\": {\"a\": 0}, \"dropout\": 0.5}}", "", "dropout");
    check(b"{\"model\": {\"vocab\": {\"a\": 0}, \"byte_fallback\": true}}", "", "256 tokens");
    check(
        b"{\"model\": {\"vocab\": {\"a\": 0}}, \"normalizer\": {\"type\": \"Precompiled\"}}",
        "",
        "Precompiled",
    );
    check(b"{\"model\": {\"vocab\": {\"a\": 0}}, \"pre_tokenizer\": {\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"Regex\": \"(\"}}}", "", "pattern \"(\"");
    check(
        &golden("unsupported_nmt_nfkc.model"),
        "",
        "the normaliser \"nmt_nfkc\" (only \"identity\" is)",
    );
}

#[test]
fn llama2c_faults_are_named() {
    let good = llama2c_file(PIECES);
    check(&good[..good.len() - 1], "", "truncated");
    check(&good[..4 + 8 + 3], "bin", "truncated");
    check(&llama2c_file(&["aa", "aa"]), "", "are both \"aa\"");
    let last = good.len() - PIECES[PIECES.len() - 1].len() - 8;
    let mut nan = good.clone();
    nan[last..last + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    check(&nan, "", "NaN");
    let mut long = good.clone();
    long[last + 4..last + 8].copy_from_slice(&i32::MAX.to_le_bytes());
    check(&long, "", "length 2147483647");
    let mut wide = good.clone();
    wide[..4].copy_from_slice(&i32::MAX.to_le_bytes());
    check(&wide, "bin", "up to 2147483647 bytes");
    let error = Tokenizer::from_llama2c(&good, Some(200)).unwrap_err().to_string();
    assert!(error.contains("at least 259"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Tokenizer::load("/nonexistent/tokenizer.model").unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
    assert!(error.to_string().starts_with("/nonexistent/tokenizer.model: "), "{error}");
    assert!(Tokenizer::load("/").is_err());
}

#[test]
fn every_truncation_is_refused_or_harmless() {
    let mut files: Vec<Vec<u8>> = vec![llama2c_file(PIECES)];
    files.extend(["bpe_bytes.model", "unigram.model"].map(golden));
    for file in files {
        for n in 0..file.len() {
            use_it(&file[..n]);
        }
    }
}

/// Whatever is accepted must work.
fn use_it(bytes: &[u8]) {
    for extension in ["", "bin", "model", "json"] {
        let Ok(tokenizer) = Tokenizer::from_bytes(bytes, extension) else { continue };
        let _ = tokenizer.describe();
        if let Ok(ids) = tokenizer.encode_with_special("A lamp <s> 漢 'll  12\n") {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            let _ = tokenizer.decode(&ids);
        }
        let _ = tokenizer.decode(&[0, 1, 2, 300, u32::MAX]);
        return;
    }
}

proptest! {
    #![proptest_config(crate::no_files(400))]

    #[test]
    fn mutated_files_never_panic(
        which in 0..64_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..8),
    ) {
        let names = golden_names();
        let mut bytes = match names.get(which % (names.len() + 1)) {
            Some(name) => golden(name),
            None => llama2c_file(PIECES),
        };
        for (at, value, how) in changes {
            let at = at.index(bytes.len().max(1));
            match how {
                _ if at >= bytes.len() => {}
                0 => bytes[at] = value,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, value),
                _ => drop(bytes.drain(at..bytes.len().min(at + usize::from(value)))),
            }
        }
        use_it(&bytes);
    }

    /// Digits of a JSON text replaced by others: ids, flags and scores out of place.
    #[test]
    fn json_with_other_numbers_never_panics(
        which in 0..64_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), b'0'..=b'9'), 1..20),
    ) {
        let names = golden_names();
        let tokenizer = crate::open(&golden(&names[which % names.len()]));
        let mut bytes = tokenizer.to_json().unwrap().into_bytes();
        let digits: Vec<usize> =
            (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
        changes.iter().for_each(|(at, digit)| bytes[*at.get(&digits)] = *digit);
        use_it(&bytes);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use_it(&bytes);
    }
}
