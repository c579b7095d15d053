use super::*;
use proptest::prelude::*;

fn write(dir: &Path, format: Format, ids: &[u32]) -> PathBuf {
    let path = dir.join("t.bin");
    let mut writer = TokenWriter::create(&path, format).unwrap();
    for part in ids.chunks(7) {
        writer.push(part).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), ids.len() as u64);
    path
}

fn read_all(file: &TokenFile) -> Vec<u32> {
    let mut ids = vec![0; file.len()];
    file.read(0, &mut ids);
    ids
}

fn message(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    std::fs::write(&path, bytes).unwrap();
    let text = TokenFile::open(&path).unwrap_err().to_string();
    assert!(text.contains("x.bin"), "{text}");
    text
}

#[test]
fn flat_file_is_the_bare_ids() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), Format::FlatU16, &[1, 2, 0x1234]);
    assert_eq!(std::fs::read(path).unwrap(), [1, 0, 2, 0, 0x34, 0x12]);
}

#[test]
fn shard_header_is_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), Format::shard_for(100_000), &[99_999]);
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[..8], *b"anetok\r\n");
    assert_eq!(
        bytes[8..32],
        [1, 0, 0, 0, 4, 0, 0, 0, 0xa0, 0x86, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(hex(&bytes[32..64]), sha256_hex(&bytes[64..]));
    assert_eq!(bytes[64..], 99_999u32.to_le_bytes());
}

/// A model is known by its size; any other beginning that reads as a header may be ids.
#[test]
fn models_of_llama2c_are_not_ids() {
    let model = |vocab: i32, floats: usize| {
        let header = [8, 12, 2, 4, 2, vocab, 16].map(i32::to_le_bytes).concat();
        [header, vec![0x3d; 4 * floats]].concat()
    };
    // Two layers of norms, queries and outputs, keys and values, feed-forward; the last norm; tables.
    let body = 2 * (2 * 8 + 2 * 8 * 8 + 2 * 4 * 8 + 3 * 8 * 12) + 8 + 16 * 2;
    for (vocab, embeddings) in [(10, 1), (-10, 2)] {
        let text = message(&model(vocab, embeddings * 10 * 8 + body));
        assert!(text.contains("a model of llama2.c (width 8, 2 layers, 4 heads)"), "{text}");
        assert!(text.contains("--model of anegpt generate"), "{text}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ids.bin");
    std::fs::write(&path, model(10, 10 * 8 + body + 1)).unwrap();
    assert_eq!(TokenFile::open(&path).unwrap().format(), Format::FlatU16);
}

#[test]
fn bad_files_are_explained() {
    assert!(message(b"").contains("empty"));
    assert!(message(b"abc").contains("3 bytes"));
    assert!(message(&MAGIC).contains("cut short"));
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(write(dir.path(), Format::shard_for(10), &[1, 2, 3])).unwrap();
    assert!(message(&good[..good.len() - 1]).contains("states 3 ids"));
    let mut huge = good.clone();
    huge[24..32].fill(0xff);
    assert!(message(&huge).contains("18446744073709551615 ids"));
    let mut version = good.clone();
    version[8] = 9;
    assert!(message(&version).contains("version 9"));
    let mut width = good;
    width[12] = 3;
    assert!(message(&width).contains("3 bytes per id"));
    assert!(matches!(TokenFile::open(dir.path()), Err(Error::TokenFile { .. } | Error::Io { .. })));
    assert!(TokenFile::open(dir.path().join("none")).unwrap_err().to_string().contains("none"));
}

#[test]
fn bad_ids_are_found_by_position() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = vec![7; 10_000];
    ids[9_001] = 512;
    let file = TokenFile::open(write(dir.path(), Format::FlatU16, &ids)).unwrap();
    file.check_ids(513).unwrap();
    match file.check_ids(512) {
        Err(Error::TokenId { position: 9_001, id: 512, vocab_size: 512, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn damage_is_found_by_the_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), Format::shard_for(100), &[1, 2, 3]);
    TokenFile::open(&path).unwrap().check_sum().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[66] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = TokenFile::open(&path).unwrap().check_sum().unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn writer_refuses_ids_it_cannot_hold_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.bin");
    std::fs::write(&path, [1, 0]).unwrap();
    for (format, id) in [(Format::FlatU16, 65_536), (Format::shard_for(10), 10)] {
        let mut writer = TokenWriter::create(&path, format).unwrap();
        writer.push(&[1]).unwrap();
        assert!(matches!(writer.push(&[2, id]), Err(Error::TokenId { position: 2, .. })));
    }
    assert_eq!(std::fs::read(&path).unwrap(), [1, 0], "the earlier file is untouched");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary is left");
    let missing = TokenWriter::create(dir.path().join("no/such/t.bin"), Format::FlatU16);
    assert!(missing.unwrap_err().to_string().contains("cannot create"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_explained_and_the_earlier_file_stays() {
    for ids in [10, 1_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.bin");
        std::fs::write(&path, [1, 0]).unwrap();
        // Every write to this device fails for lack of space.
        let temporary = sibling(&path, &format!(".{}.tmp", std::process::id()));
        std::os::unix::fs::symlink("/dev/full", &temporary).unwrap();
        let mut writer = TokenWriter::create(&path, Format::FlatU16).unwrap();
        let error = writer.push(&vec![1; ids]).and_then(|()| writer.finish()).unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), [1, 0]);
        assert!(!temporary.exists());
    }
}

/// 32-bit words, little-endian.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// llm.c's header with a version and a number of ids.
fn llmc_header(magic: u32, version: u32, count: u32) -> Vec<u8> {
    let mut header = vec![0; 256];
    header[..3].copy_from_slice(&[magic, version, count]);
    words(&header)
}

#[test]
fn files_of_llm_c_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny_shakespeare_train.bin");
    let mut short = llmc_header(20_240_520, 1, 3);
    short.extend([50256u16, 5962, 22307].iter().flat_map(|id| id.to_le_bytes()));
    std::fs::write(&path, &short).unwrap();
    let file = TokenFile::open(&path).unwrap();
    assert_eq!((file.format(), file.len()), (Format::Llmc16, 3));
    assert_eq!(read_all(&file), [50256, 5962, 22307]);
    let mut long = llmc_header(20_240_520, 7, 2);
    long.extend(words(&[128_000, 7]));
    std::fs::write(&path, &long).unwrap();
    let file = TokenFile::open(&path).unwrap();
    assert_eq!((file.format(), read_all(&file)), (Format::Llmc32, vec![128_000, 7]));

    assert!(message(&short[..short.len() - 2]).contains("states 3 ids of 2 bytes, but 4 bytes"));
    assert!(message(&short[..1000]).contains("cut short"));
    assert!(message(&llmc_header(20_240_520, 9, 0)).contains("version 9"));
    assert!(message(&llmc_header(20_240_326, 3, 0)).contains("a model of llm.c"));
    assert!(message(&llmc_header(20_240_522, 1, 0)).contains("evaluation set"));
    assert!(TokenWriter::create(&path, Format::Llmc16).is_err(), "they are not written");
}

#[test]
fn text_and_wide_ids_are_not_taken_for_ids() {
    let json = br#"{"error": "Access to this data set is restricted, sign in"}  "#;
    let text = message(json);
    assert!(text.contains("is text, not token ids") && text.contains("JSON"), "{text}");
    assert!(message("Once upon a time there was a pump. ".as_bytes()).contains("is text"));
    // However short, where it begins as JSON does or its name is not that of ids.
    assert!(message(br#"{"a": 1}"#).contains("JSON"));
    let dir = tempfile::tempdir().unwrap();
    for (name, what) in [("x.json", Some("ends in .txt")), ("x", Some("is text")), ("x.bin", None)]
    {
        std::fs::write(dir.path().join(name), "[1, 2]").unwrap();
        let fault = TokenFile::open(dir.path().join(name)).err().map(|error| error.to_string());
        assert_eq!(fault.is_some(), what.is_some(), "{name}");
        assert!(fault.is_none_or(|fault| fault.contains(what.unwrap())), "{name}");
    }
    assert!(message("日本語の文章は三バイトずつです。終わり。".as_bytes()).contains("is text"));
    let ids: Vec<u32> = (0..100).map(|i| 300 + i * 37).collect();
    assert!(message(&words(&ids)).contains("32-bit ids"));
    let large: Vec<u32> = (0..100).map(|i| 128_000 - i * 1_009).collect();
    assert!(message(&words(&large)).contains("32-bit ids"));
    let mut npy = b"\x93NUMPY\x01\0".to_vec();
    npy.resize(200, 32);
    assert!(message(&npy).contains("NumPy"));
}

/// Sixteen-bit ids of which many are 0 or are the codes of letters.
#[test]
fn plain_ids_stay_plain() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = vec![0; 500];
    let characters: Vec<u32> =
        b"To be, or not to be: that is the question".iter().map(|&b| u32::from(b)).collect();
    let sparse: Vec<u32> = (0..500).map(|i| if i % 3 == 0 { 0 } else { 40 + i }).collect();
    let two: Vec<u32> = (0..500).map(|i| i % 2).collect();
    for ids in [zeros, characters, sparse, two] {
        let file = TokenFile::open(write(dir.path(), Format::FlatU16, &ids)).unwrap();
        assert_eq!(read_all(&file), ids);
    }
}

/// Ids are checked in pieces of 4096.
#[test]
fn an_id_out_of_range_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for at in [0, 1, 4095, 4096, 4097, 8191, 8192, 9_999] {
        let mut ids = vec![5; 10_000];
        ids[at] = 100;
        let file = TokenFile::open(write(dir.path(), Format::FlatU16, &ids)).unwrap();
        let error = file.check_ids(100).unwrap_err();
        assert!(matches!(error, Error::TokenId { position, id: 100, .. } if position == at as u64));
        file.check_ids(101).unwrap();
    }
}

#[test]
fn layouts_are_named_for_people() {
    for (format, name) in [
        (Format::FlatU16, "16-bit ids without a header (llama2.c)"),
        (Format::shard_for(512), "16-bit ids below 512, with header and checksum (anegpt)"),
        (Format::shard_for(100_000), "32-bit ids below 100000, with header and checksum (anegpt)"),
        (Format::Llmc32, "32-bit ids with the header of llm.c"),
    ] {
        assert_eq!(format.to_string(), name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn round_trip(ids in prop::collection::vec(0u32..70_000, 0..200), wide: bool) {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<u32> = ids.into_iter().map(|id| if wide { id } else { id % 65_536 }).collect();
        let format = Format::shard_for(if wide { 70_000 } else { 65_536 });
        let file = TokenFile::open(write(dir.path(), format, &ids)).unwrap();
        prop_assert_eq!(file.format(), format);
        prop_assert_eq!(read_all(&file), ids);
        file.check_sum().unwrap();
    }

    #[test]
    fn random_and_cut_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), magic: bool, plausible: bool) {
        if magic {
            let n = bytes.len().min(8);
            bytes[..n].copy_from_slice(&MAGIC[..n]);
        }
        if plausible && bytes.len() >= 20 {
            bytes[8..16].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(file) = TokenFile::open(&path) {
            prop_assert!(read_all(&file).len() * 2 <= bytes.len());
            let _ = (file.check_ids(100), file.check_sum());
        }
    }
}
