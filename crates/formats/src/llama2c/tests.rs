//! Round trips of whole models, and what is refused.

use super::*;

#[test]
fn faulty_checkpoints_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    let check = |words: &[i32], bytes: usize, expected: &str| {
        let mut file: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        file.resize(file.len() + bytes, 0);
        std::fs::write(&path, file).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&[], 0, "it has 0 bytes");
    check(&[8, 16, 1, 2, 2, 10, 4], 100, "truncated, or another version");
    check(&[8, 16, 1, 3, 3, 10, 4], 100, "3 heads do not divide");
    check(&[8, 16, -1, 2, 2, 10, 4], 100, "n_layers = -1");
    check(&[8, 16, 1, 2, 2, i32::MIN, 4], 100, "vocab_size = 0");
    check(&[1 << 30, 16, 1, 2, 2, 10, 4], 100, "larger than any model");
    assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("cannot read"));
}

fn small() -> GptConfig {
    GptConfig {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 2,
        n_embd: 24,
        head_dim: 6,
        hidden: 20,
        vocab_size: 11,
        seq_len: 8,
        rope_theta: Some(1e4),
        norm_eps: 1e-5,
        tied: true,
        ..GptConfig::default()
    }
}

/// Fewer key heads than heads; with and without a classifier of its own.
#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    for (tied, version) in
        [true, false].into_iter().flat_map(|t| [(t, Version::V0), (t, Version::V1)])
    {
        let config = GptConfig { tied, ..small() };
        let values = gpt::initialise(&config, 3);
        write(&path, &config, &values, version).unwrap();
        assert_eq!(read(&path).unwrap(), (config, values), "{version:?}");
    }
}

/// Norms come first, then all matrices; `wk` of layer 1 has its rows in neighbouring pairs.
#[test]
fn the_longer_header_is_followed_by_norms() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    let config = GptConfig { tied: false, ..small() };
    let values = gpt::initialise(&config, 3);
    write(&path, &config, &values, Version::V1).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(&bytes[..8], b"24ka\x01\0\0\0");
    assert_eq!((bytes[8], bytes[28], bytes[36]), (24, 11, 0));
    assert!(bytes[37..256].iter().all(|byte| *byte == 0));
    let float = |i: usize| f32::from_le_bytes(bytes[256 + 4 * i..][..4].try_into().unwrap());
    // Five norms of width 24, which begin as ones.
    assert!((0..5 * 24).all(|i| float(i) == 1.0));
    assert_eq!(float(120), values[0], "the embedding");
    let layout = Layout::new(&config);
    let key = &values[layout.find("wk", Some(1)).unwrap().range()];
    let begin = 120 + 11 * 24 + 2 * 24 * 24 + 12 * 24;
    assert_eq!(
        [float(begin), float(begin + 24)],
        [key[0], key[3 * 24]],
        "rows 0 and 3 of a head of 6"
    );
    assert_eq!(bytes.len(), 256 + 4 * layout.count());
}

/// Each value is at most half a step off; a step is the largest magnitude of its group / 127.
#[test]
fn groups_of_bytes_are_read_back_within_half_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    for tied in [true, false] {
        let config = GptConfig { tied, ..small() };
        let values = gpt::initialise(&config, 3);
        write(&path, &config, &values, Version::V2).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        // 24 and 20 are made of groups of four, whose size stands at byte 37.
        assert_eq!(
            (&bytes[..8], &bytes[36..41]),
            (&b"24ka\x02\0\0\0"[..], &[tied.into(), 4, 0, 0, 0][..])
        );
        let (found, read) = read(&path).unwrap();
        assert_eq!(found, config);
        for param in Layout::new(&config).params() {
            let groups = values[param.range()].chunks(4).zip(read[param.range()].chunks(4));
            for (values, read) in groups {
                let largest = values.iter().fold(0f32, |most, v| most.max(v.abs()));
                // An f32 more for the rounding of scale and product.
                let most =
                    if param.shape.len() == 1 { 0.0 } else { largest * (0.5 / 127.0 + 1e-6) };
                let near = values.iter().zip(read).all(|(v, r)| (v - r).abs() <= most);
                assert!(near, "{}: {values:?} {read:?}", param.name);
            }
        }
    }
}

#[test]
fn faulty_headers_of_later_versions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    let values = gpt::initialise(&small(), 3);
    let check = |version, at: usize, change: &[u8], says: &str| {
        write(&path, &small(), &values, version).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at..at + change.len()].copy_from_slice(change);
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    check(Version::V1, 4, &[3], "it is of version 3; 0, 1 and 2 are read");
    check(Version::V1, 36, &[2], "its header says 2 where it is 0 or 1");
    check(Version::V1, 28, &(-11i32).to_le_bytes(), "vocab_size = -11");
    check(Version::V1, 36, &[0], "truncated, or another version");
    check(Version::V2, 37, &[0; 4], "group_size = 0");
    check(Version::V2, 37, &[255; 4], "group_size = -1");
    check(Version::V2, 37, &[7], "group_size = 7, which does not divide `model.embed_tokens");
    check(Version::V2, 37, &[2], "truncated, or another version");
    std::fs::write(&path, &std::fs::read(&path).unwrap()[..255]).unwrap();
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("it has 255 bytes, the header alone takes 256"), "{error}");
}

/// The vocabulary of `run.c`'s small model, in kind: markers, bytes, and pieces with scores.
fn vocabulary() -> Vec<u8> {
    let bytes = (0..=255).map(|b| format!("<0x{b:02X}>"));
    let pieces = [" ", "e", "t", "ti", " ti", "é", "\n"];
    let names = ["<unk>", "\n<s>\n", "\n</s>\n"].map(str::to_owned).into_iter().chain(bytes);
    let mut file = 6i32.to_le_bytes().to_vec();
    for (i, name) in names.chain(pieces.map(str::to_owned)).enumerate() {
        file.extend((-(i as f32)).to_le_bytes());
        file.extend((name.len() as i32).to_le_bytes());
        file.extend(name.as_bytes());
    }
    file
}

#[test]
fn a_vocabulary_is_written_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.bin");
    let tokenizer = tokenizer::Tokenizer::from_llama2c(&vocabulary(), None).unwrap();
    write_tokenizer(&path, &tokenizer, 266).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), vocabulary());
    let refused = |tokenizer: &tokenizer::Tokenizer, vocab, says: &str| {
        let error = write_tokenizer(&path, tokenizer, vocab).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("tokenizer.bin cannot express"), "{error}");
    };
    refused(&tokenizer, 270, "the tokenizer has 266 tokens, the model 270");
    let learned = tokenizer::Tokenizer::train_bpe(["aa bb aa"], 258, &mut |_| {}).unwrap();
    refused(&learned, 258, "merges by rank");
}

#[test]
fn what_the_format_cannot_say_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bin");
    let check = |change: fn(&mut GptConfig), name: &str| {
        let mut config = small();
        change(&mut config);
        let values = gpt::initialise(&config, 3);
        let error = write(&path, &config, &values, Version::V0).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("llama2.c cannot express"), "{error}");
        assert!(!path.exists(), "nothing is begun");
    };
    check(|c| c.qk_norm = true, "`qk_norm` is true");
    check(|c| c.head_dim = 8, "`head_dim` is 8");
    check(|c| c.rope_theta = Some(1e6), "`rope_theta` is 1000000");
    check(|c| c.rope_theta = None, "`rope_theta` is absent");
    check(|c| c.norm_eps = 1e-6, "`norm_eps` is 0.000001");
    let mut values = gpt::initialise(&small(), 3);
    values[5] = f32::NAN;
    let error = write(&path, &small(), &values, Version::V0).unwrap_err().to_string();
    assert!(error.contains("element 5 is NaN"), "{error}");
}
