use super::*;
use crate::synth::{SEPARATOR, Stories};
use crate::tokens::{Format, TokenFile};
use proptest::prelude::*;
use std::convert::Infallible;

fn documents_of(name: &str, bytes: &[u8]) -> Result<Vec<Document>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    TextSource::open(&path, SEPARATOR)?.documents().collect()
}

fn texts(name: &str, bytes: &[u8]) -> Vec<String> {
    documents_of(name, bytes).unwrap().into_iter().map(|d| d.text).collect()
}

fn fails(name: &str, bytes: &[u8]) -> String {
    documents_of(name, bytes).unwrap_err().to_string()
}

/// Bytes as ids.
fn bytes_as_ids(text: &str) -> std::result::Result<Vec<u32>, Infallible> {
    Ok(text.bytes().map(u32::from).collect())
}

#[test]
fn a_file_without_separators_is_one_document_as_it_is() {
    assert_eq!(texts("a.txt", b" one\n\ntwo\n"), [" one\n\ntwo\n"]);
    assert_eq!(texts("a.txt", "\u{feff}mark".as_bytes()), ["mark"]);
    assert_eq!(texts("noextension", b"x"), ["x"]);
}

#[test]
fn separators_cut_documents_and_their_white_space() {
    let text =
        b"one \n<|endoftext|>\n two\nlines\n<|endoftext|>\n\n<|endoftext|><|endoftext|>three\n";
    assert_eq!(texts("a.txt", text), ["one", "two\nlines", "three"]);
    let documents = documents_of("a.txt", text).unwrap();
    assert!(documents.iter().all(|d| d.begins));
    assert_eq!(documents[0].bytes_done, 5 + 13);
    assert_eq!(documents[2].bytes_done, text.len() as u64);
    assert_eq!(texts("a.txt", b"one<|endoftext"), ["one<|endoftext"]);
}

#[test]
fn separators_across_reads_are_found() {
    for shift in 0..20 {
        let first = "x".repeat(CHUNK - shift);
        let text = format!("{first}{SEPARATOR}second");
        assert_eq!(texts("a.txt", text.as_bytes()), [first.as_str(), "second"]);
    }
}

#[test]
fn long_documents_come_in_pieces_that_join() {
    for unit in ["some words and a line\n", "words without lines ", "nothing", "日本語"] {
        let text = unit.repeat((2 * PIECE + 12_345) / unit.len());
        let documents = documents_of("a.txt", text.as_bytes()).unwrap();
        assert!(documents.len() >= 2, "{unit}");
        assert!(documents[0].begins && documents[1..].iter().all(|d| !d.begins));
        assert!(documents.iter().all(|d| d.text.len() <= PIECE + CHUNK));
        assert_eq!(documents.iter().map(|d| d.text.as_str()).collect::<String>(), text);
        let both = format!("{text}{SEPARATOR}\nnext");
        let documents = documents_of("a.txt", both.as_bytes()).unwrap();
        assert_eq!(documents.iter().filter(|d| d.begins).count(), 2);
        assert_eq!(documents.last().unwrap().text, "next");
    }
}

#[test]
fn bad_utf8_is_placed() {
    assert!(fails("a.txt", b"abc\xffdef").contains("a.txt: byte 3 is not valid UTF-8"));
    let mut late = "é".repeat(CHUNK).into_bytes();
    late.extend(b"<|endoftext|>ok\xc3");
    assert!(fails("a.txt", &late).contains(&format!("byte {} ", late.len() - 1)));
    let mut long = vec![b'x'; 2 * PIECE];
    long[PIECE + 77] = 0x80;
    assert!(fails("a.txt", &long).contains(&format!("byte {} ", PIECE + 77)));
    assert!(fails("a.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}").contains("byte 22 "));
}

/// U+FEFF and "Once upon a time" in either order of bytes, with and without the mark.
#[test]
fn text_of_wide_characters_is_named() {
    let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    let little = |text: &str| units(text).iter().flat_map(|u| u.to_le_bytes()).collect::<Vec<u8>>();
    let big = |text: &str| units(text).iter().flat_map(|u| u.to_be_bytes()).collect::<Vec<u8>>();
    for (bytes, encoding) in [
        (little("\u{feff}Once upon a time"), "utf-16"),
        (big("\u{feff}Once upon a time"), "utf-16"),
        (little("Once upon a time"), "utf-16le"),
        (big("Once upon a time"), "utf-16be"),
    ] {
        for name in ["a.txt", "a.jsonl"] {
            let error = fails(name, &bytes);
            let advice = format!("iconv -f {encoding} -t utf-8");
            assert!(error.contains(name) && error.contains(&advice), "{error}");
            assert!(!error.contains("latin1"), "{error}");
        }
    }
}

#[test]
fn binary_files_get_advice_of_their_own() {
    assert!(fails("a.txt", b"\x1f\x8b\x08\0\xff\xff").contains("gunzip"));
    assert!(fails("a.txt", b"PAR1\x15\0\xff\xff").contains("Parquet"));
    assert!(fails("a.txt", b"abc\0\xff").contains("binary"));
    assert!(fails("a.txt", b"caf\xe9").contains("iconv -f latin1"));
}

/// "ab" and "c" are two pieces of one document.
#[test]
fn a_document_in_pieces_is_marked_and_counted_once() {
    let piece = |text: &str, begins| Ok(Document { text: text.into(), begins, bytes_done: 0 });
    let pieces = [piece("ab", true), piece("c", false), piece("d", true)];
    let (tokens, report) = tokenize_to_memory(pieces, &bytes_as_ids, Some(7), &mut |_| {}).unwrap();
    assert_eq!(tokens, [7, 97, 98, 99, 7, 100]);
    assert_eq!(report, Tokenized { documents: 2, text_bytes: 4, tokens: 6 });
}

#[test]
fn odd_texts_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data00.json"), r#"[{"story": "Once"}]"#).unwrap();
    std::fs::write(dir.path().join("a.txt"), r#"{"error": "rate limit"}"#).unwrap();
    std::fs::write(dir.path().join("b.txt"), "Once upon a time").unwrap();
    std::fs::write(dir.path().join("c.jsonl"), r#"{"text": "Once"}"#).unwrap();
    let odd = |path: &Path| TextSource::open(path, SEPARATOR).unwrap().oddities();
    let [array] = &odd(&dir.path().join("data00.json"))[..] else { panic!("one notice") };
    assert!(array.contains("data00.json: it is a JSON array"), "{array}");
    let [error] = &odd(dir.path())[..] else { panic!("one notice") };
    assert!(error.contains("a.txt: it is JSON"), "{error}");
}

#[test]
fn jsonl_lines_are_documents() {
    let lines = b"{\"id\":1,\"text\":\"one\\nline\"}\n\n{\"text\":\"  \"}\r\n{\"text\":\"two\"}";
    assert_eq!(texts("a.jsonl", lines), ["one\nline", "two"]);
    assert!(fails("a.jsonl", b"{\"text\":\"a\"}\n{\"txt\":1}").contains("a.jsonl:2: "));
    assert!(fails("a.jsonl", b"{\"text\":3}").contains("text"));
    assert!(fails("a.jsonl", b"{\"text\":\"cut").contains(":1: "));
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    assert!(fails("a.jsonl", deep.as_bytes()).contains(":1: "));
}

#[test]
fn directories_are_read_in_order_and_only_their_texts() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("b.txt", "3");
    write("a/z.MD", "2");
    write("a/a.jsonl", "{\"text\":\"1\"}");
    write("c.rs", "no");
    write(".hidden.txt", "no");
    write(".git/x.txt", "no");
    write("empty.txt", "");
    #[cfg(unix)]
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    let source = TextSource::open(dir.path(), "").unwrap();
    let documents: Vec<Document> = source.documents().collect::<Result<_>>().unwrap();
    assert_eq!(documents.iter().map(|d| d.text.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(documents[2].bytes_done, source.total_bytes());
    assert_eq!(source.files().count(), 4);
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |path: &Path| TextSource::open(path, "").unwrap_err().to_string();
    assert!(fails(&dir.path().join("none.txt")).contains("none.txt: cannot read"));
    assert!(fails(dir.path()).contains("no text files"));
    std::fs::write(dir.path().join("a.txt"), "").unwrap();
    assert!(fails(dir.path()).contains("no text in it"));
    #[cfg(unix)]
    assert!(fails(Path::new("/dev/null")).contains("neither a file nor a directory"));
}

/// As root permissions do not bind; then the directory is readable and there is nothing to test.
#[cfg(unix)]
#[test]
fn unreadable_directories_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::read_dir(&locked).is_err() {
        let error = TextSource::open(dir.path(), "").unwrap_err().to_string();
        assert!(error.contains("locked: cannot list"), "{error}");
    }
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn the_sample_is_fair_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "é".repeat(50_000)).unwrap();
    std::fs::write(dir.path().join("b.txt"), "b".repeat(100_000)).unwrap();
    let source = TextSource::open(dir.path(), "").unwrap();
    let sample = source.sample(1_001).unwrap();
    assert!(sample.len() <= 1_001 + 2);
    let (a, b) = (sample.matches('é').count() * 2, sample.matches('b').count());
    assert!(a.abs_diff(500) <= 2 && b.abs_diff(500) <= 2, "{a} {b}");
    assert_eq!(source.sample(1 << 40).unwrap().len(), 200_000 + 2);
}

#[test]
fn stories_tokenize_the_same_from_memory_and_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("stories.txt");
    std::fs::write(&text, Stories::new(4).text(9 << 20)).unwrap();
    let source = TextSource::open(&text, SEPARATOR).unwrap();
    let out = dir.path().join("stories.bin");
    let mut last = Progress { bytes: 0, tokens: 0 };
    let mut rising = |p: Progress| {
        assert!(p.bytes > last.bytes && p.tokens > last.tokens);
        last = p;
    };
    let report =
        tokenize_file(&source, &bytes_as_ids, Some(256), &out, Format::FlatU16, &mut rising)
            .unwrap();
    assert_eq!((last.bytes, last.tokens), (source.total_bytes() - 1, report.tokens));
    let file = TokenFile::open(&out).unwrap();
    let mut from_file = vec![0; file.len()];
    file.read(0, &mut from_file);
    let documents = Stories::new(4).documents(9 << 20);
    let (tokens, again) =
        tokenize_to_memory(documents, &bytes_as_ids, Some(256), &mut |_| {}).unwrap();
    assert_eq!(report, again);
    assert_eq!(report.tokens, report.text_bytes + report.documents);
    assert!(from_file == tokens);
    let first: Vec<u32> = Stories::new(4).story(0).bytes().map(u32::from).collect();
    assert_eq!((tokens[0], &tokens[1..1 + first.len()]), (256, &first[..]));
    assert_eq!(tokens[1 + first.len()], 256);
}

#[test]
fn a_failing_tokenizer_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("a.txt");
    std::fs::write(&text, "one<|endoftext|>bad").unwrap();
    let source = TextSource::open(&text, SEPARATOR).unwrap();
    let encode = |text: &str| if text == "bad" { Err("no such piece") } else { Ok(vec![1]) };
    let out = dir.path().join("a.bin");
    let error = tokenize_file(&source, &encode, None, &out, Format::FlatU16, &mut |_| {});
    let error = error.unwrap_err().to_string();
    assert!(error.contains("byte 19") && error.contains("no such piece"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), jsonl: bool) {
        let name = if jsonl { "a.jsonl" } else { "a.txt" };
        if let Ok(documents) = documents_of(name, &bytes) {
            let total: usize = documents.iter().map(|d| d.text.len()).sum();
            prop_assert!(total <= bytes.len());
        }
    }

    /// Documents joined by separators come back.
    #[test]
    fn round_trip(documents in prop::collection::vec("[a-zé<|>]{1,30}", 1..20)) {
        prop_assume!(documents.iter().all(|d| !format!("{d}{SEPARATOR}").starts_with(SEPARATOR)));
        let joined = documents.join(&format!("\n{SEPARATOR}\n"));
        prop_assert_eq!(texts("a.txt", joined.as_bytes()), documents);
    }
}
