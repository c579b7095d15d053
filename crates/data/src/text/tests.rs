use super::plain::{CHUNK, PIECE};
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
    // A byte order mark is counted.
    assert!(fails("a.jsonl", b"\xef\xbb\xbf{\"text\":\"\xff\"}").contains("byte 12 "));
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
    let piece = |text: &str, begins| Ok(Document { begins, ..Document::new(text) });
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
    assert_eq!(texts("a.jsonl", "\u{feff}{\"text\":\"marked\"}".as_bytes()), ["marked"]);
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

fn parquet(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name)
}

/// All documents, and from the place of each, and from where the reader stood before each.
fn check_places(source: &TextSource) {
    let all: Vec<Document> = source.documents().collect::<Result<_>>().unwrap();
    let mut documents = source.documents();
    for n in 0..=all.len() {
        let stands = documents.place();
        let rest: Vec<Document> = source.documents_from(stands).collect::<Result<_>>().unwrap();
        assert!(rest == all[n..], "document {n} from {stands:?}");
        if let Some(document) = all.get(n) {
            assert_eq!(source.documents_from(document.place).next().unwrap().unwrap(), *document);
        }
        documents.next();
    }
}

#[test]
fn documents_are_read_again_by_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let long = "a line of some words\n".repeat(3 * PIECE / 21);
    let plain = format!(
        "\u{feff} one \n{SEPARATOR}\n\n{SEPARATOR}two{SEPARATOR}\n{long}{SEPARATOR}three\n"
    );
    std::fs::write(dir.path().join("a.txt"), plain).unwrap();
    std::fs::write(dir.path().join("b.md"), " no separator\nbut two lines \n").unwrap();
    std::fs::write(
        dir.path().join("c.jsonl"),
        "{\"text\":\"x\"}\n\n{\"text\":\" \"}\n{\"text\":\"yé\"}",
    )
    .unwrap();
    for name in ["snappy_v1.parquet", "plain_v1.parquet"] {
        std::fs::copy(parquet(name), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("z.txt"), "last").unwrap();
    check_places(&TextSource::open(dir.path(), SEPARATOR).unwrap());
    let texts = ["one", "two", "three"].map(str::to_owned).to_vec();
    check_places(&TextSource::in_memory("memory", texts));
}

#[test]
fn the_last_of_several_parquet_files_validates() {
    let dir = tempfile::tempdir().unwrap();
    let copy =
        |name: &str| std::fs::copy(parquet("gzip_v2.parquet"), dir.path().join(name)).unwrap();
    copy("shard_00000.parquet");
    let open = || TextSource::open(dir.path(), SEPARATOR).unwrap();
    assert!(open().split_last().is_none(), "a single one is not split");
    copy("shard_00001.parquet");
    copy("shard_06542.parquet");
    let mut train = open();
    let last = train.split_last().unwrap();
    let names = |source: &TextSource| -> Vec<String> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        source.files().map(name).collect()
    };
    assert_eq!(names(&train), ["shard_00000.parquet", "shard_00001.parquet"]);
    assert_eq!(names(&last), ["shard_06542.parquet"]);
    assert_eq!(2 * last.documents().count(), train.documents().count());
    std::fs::write(dir.path().join("notes.txt"), "text").unwrap();
    assert!(open().split_last().is_none(), "other texts are not split");
}

#[test]
fn parquet_texts_are_tokenized_like_lines() {
    let tokens = |name: &str| {
        let source = TextSource::open(parquet(name), SEPARATOR).unwrap();
        tokenize_to_memory(source.documents(), &bytes_as_ids, Some(7), &mut |_| {}).unwrap()
    };
    assert_eq!(tokens("snappy_v1.parquet"), tokens("texts.jsonl"));
    let info = parquet_info(&parquet("zstd_v2.parquet"), "text").unwrap();
    assert_eq!((info.rows, info.row_groups, info.compressions), (60, 3, ["zstd"].into()));
}

#[test]
fn lines_without_a_text_are_explained() {
    let says = |line: &str, what: &str| {
        let error = fails("a.jsonl", line.as_bytes());
        assert!(error.contains("a.jsonl:1: ") && error.contains(what), "{line}: {error}");
    };
    says(
        "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
        "a conversation (it has \"messages\")",
    );
    says(
        "[{\"role\": \"user\", \"content\": \"hi\"}]",
        "a conversation (it is a list of messages)",
    );
    says("[\"hi\", \"hello\"]", "a conversation");
    says(
        "{\"content\": \"a\", \"n\": 1}",
        "no string field \"text\"; those it has are \"content\"",
    );
    says("{\"n\": 1}", "it has no string field \"text\"");
    says("{\"text\": 1}", "its field \"text\" is not a string");
    says("17", "not a JSON object with a field \"text\"");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    std::fs::write(&path, "{\"content\": \"a\"}\n").unwrap();
    let source = TextSource::open(&path, SEPARATOR).unwrap().field("content");
    assert_eq!(source.documents().next().unwrap().unwrap().text, "a");
}

#[test]
fn stored_tokens_are_made_once_and_again_when_anything_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (text, cache) = (dir.path().join("a.txt"), dir.path().join("cache"));
    let tokens = |tokenizer: &str| {
        let source = TextSource::open(&text, SEPARATOR).unwrap();
        let key = (tokenizer, 256);
        let stored = tokenize_stored(&source, key, &bytes_as_ids, Some(7), &cache, &mut |_| {});
        let (file, made) = stored.unwrap();
        let mut ids = vec![0; file.len()];
        file.read(0, &mut ids);
        (ids, made.is_some())
    };
    std::fs::write(&text, "ab").unwrap();
    assert_eq!(tokens("bytes"), (vec![7, 97, 98], true));
    assert_eq!(tokens("bytes"), (vec![7, 97, 98], false));
    assert!(tokens("others").1, "another tokenizer");
    std::fs::write(&text, "abc").unwrap();
    assert_eq!(tokens("bytes"), (vec![7, 97, 98, 99], true));
    for entry in std::fs::read_dir(&cache).unwrap() {
        std::fs::write(entry.unwrap().path(), "anetok\r\n").unwrap();
    }
    assert_eq!(tokens("bytes"), (vec![7, 97, 98, 99], true), "a damaged one is made again");
}

#[test]
fn fingerprints_tell_texts_apart_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let of = |place: &str, text: &str| {
        let path = dir.path().join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        TextSource::open(&path, SEPARATOR).unwrap().fingerprint().unwrap()
    };
    let long = "x".repeat(200_000);
    let first = of("one/a.txt", &long);
    assert_eq!(first, of("two/a.txt", &long));
    assert_ne!(first, of("one/b.txt", &long));
    assert_ne!(first, of("one/a.txt", &format!("{long}x")));
    for at in [0, 199_999] {
        let mut changed = long.clone();
        changed.replace_range(at..=at, "y");
        assert_ne!(first, of("one/a.txt", &changed), "{at}");
    }
}

#[test]
fn documents_are_fetched_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["gzip_v2.parquet", "plain_v1.parquet", "texts.jsonl"] {
        std::fs::copy(parquet(name), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("z.txt"), "one<|endoftext|>\n two <|endoftext|>three").unwrap();
    let source = TextSource::open(dir.path(), SEPARATOR).unwrap();
    let all: Vec<Document> = source.documents().collect::<Result<_>>().unwrap();
    let want: Vec<Document> = (0..400).map(|n| all[n * n * 31 % all.len()].clone()).collect();
    let places: Vec<Place> = want.iter().map(|document| document.place).collect();
    assert_eq!(source.fetch(&places).unwrap(), want);
    let absent = Place { file: 0, at: 0, detail: 1000 };
    assert!(source.fetch(&[absent]).unwrap_err().to_string().contains("read ahead"));
}
