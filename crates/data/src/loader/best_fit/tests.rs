use super::*;
use crate::text::TextSource;
use proptest::prelude::*;
use std::path::Path;

/// Bytes as ids; the mark is 256.
fn bytes() -> Arc<Tokenize> {
    Arc::new(|text: &str| Ok(text.bytes().map(u32::from).collect()))
}

const CONFIG: BestFitConfig = BestFitConfig { seq: 20, buffer: 30, document_start: Some(256) };

fn parts(source: &TextSource) -> (Part, Part) {
    (Part::whole(source.clone()), Part::whole(source.clone()))
}

fn loader(source: &TextSource, config: BestFitConfig) -> BestFit {
    let (train, validation) = parts(source);
    BestFit::new(train, validation, bytes(), config).unwrap()
}

/// Documents of 0 to 39 bytes; empty ones are blank and left out where they are read.
fn documents(lengths: &[usize]) -> Vec<String> {
    let text = |(n, length): (usize, &usize)| -> String {
        format!("{n:04}-{}", "abcdefghij".repeat(4)).chars().take(*length).collect()
    };
    lengths.iter().enumerate().map(text).collect()
}

fn memory(lengths: &[usize]) -> TextSource {
    TextSource::in_memory("memory", documents(lengths))
}

/// The definition, with lists: `batches` of tokenized documents are read without end.
fn naive(batches: &[Vec<Vec<u32>>], config: BestFitConfig, rows: usize) -> Vec<Vec<u32>> {
    let (mut waiting, mut next, mut out): (Vec<Vec<u32>>, _, _) = (vec![], 0, vec![]);
    for _ in 0..rows {
        let mut row: Vec<u32> = vec![];
        while row.len() < config.seq + 1 {
            while waiting.len() < config.buffer {
                waiting.extend(batches[next % batches.len()].iter().cloned());
                next += 1;
            }
            let room = config.seq + 1 - row.len();
            let (mut best, mut best_length) = (None, 0);
            for (n, document) in waiting.iter().enumerate() {
                if document.len() <= room && document.len() > best_length {
                    (best, best_length) = (Some(n), document.len());
                }
            }
            if let Some(best) = best {
                row.extend(waiting.remove(best));
            } else {
                let lengths = waiting.iter().map(Vec::len).enumerate();
                let (shortest, _) = lengths.min_by_key(|(_, length)| *length).unwrap();
                row.extend(&waiting.remove(shortest)[..room]);
            }
        }
        out.push(row);
    }
    out
}

fn tokens(text: &str) -> Vec<u32> {
    std::iter::once(256).chain(text.bytes().map(u32::from)).collect()
}

fn rows(loader: &mut BestFit, count: usize) -> Vec<Vec<u32>> {
    let batch = loader.next_batch(count).unwrap();
    let rows = batch.inputs.chunks(batch.seq).zip(batch.targets.chunks(batch.seq));
    rows.map(|(inputs, targets)| {
        assert_eq!(inputs[1..], targets[..batch.seq - 1]);
        [inputs, &targets[batch.seq - 1..]].concat()
    })
    .collect()
}

/// By hand: rows of 6 tokens of documents of 3, 5, 2, 5 and 9 tokens, of which two wait at least.
#[test]
fn a_small_case_by_hand() {
    let texts = ["ab", "cdef", "g", "hijk", "lmnopqrs"].map(str::to_owned).to_vec();
    let config = BestFitConfig { seq: 5, buffer: 2, document_start: Some(256) };
    let mut loader = loader(&TextSource::in_memory("memory", texts), config);
    let row = |text: &str| -> Vec<u32> {
        text.bytes().map(|b| if b == b'|' { 256 } else { u32::from(b) }).collect()
    };
    // The first of the two that have 5 tokens; nothing fits into the 1 that is left, so "g" is cut to its mark.
    // Then the other with the mark of "ab". "lmnopqrs" alone is fewer than two: five more come. It does not fit.
    let want = ["|cdef|", "|hijk|", "|cdef|", "|hijk|"];
    assert_eq!(rows(&mut loader, 4), want.map(row));
}

#[test]
fn rows_are_those_of_the_definition() {
    let lengths: Vec<usize> = (0..700).map(|i| (i * i * 7 + i) % 38 + 1).collect();
    let all: Vec<Vec<u32>> = documents(&lengths).iter().map(|text| tokens(text)).collect();
    // Refills have 128 documents, the last of a pass fewer.
    let batches: Vec<_> = all.chunks(128).map(<[_]>::to_vec).collect();
    for buffer in [1, 30, 1000] {
        let config = BestFitConfig { buffer, ..CONFIG };
        let got = rows(&mut loader(&memory(&lengths), config), 900);
        assert_eq!(got, naive(&batches, config, 900), "{buffer}");
    }
}

/// Row groups of 25, 25 and 10 rows; a refill ends with its row group.
#[test]
fn refills_of_parquet_files_end_with_row_groups() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet/zstd_v2.parquet");
    let source = TextSource::open(path, "").unwrap();
    let mut batches: Vec<Vec<Vec<u32>>> = vec![vec![]; 3];
    for document in source.documents() {
        let document = document.unwrap();
        batches[document.place.at as usize].push(tokens(&document.text));
    }
    let got = rows(&mut loader(&source, CONFIG), 300);
    assert_eq!(got, naive(&batches, CONFIG, 300));
}

#[test]
fn every_row_begins_with_a_document_and_none_is_padded() {
    let mut loader = loader(&memory(&[38, 17, 5, 30, 8, 22, 3]), CONFIG);
    for row in rows(&mut loader, 200) {
        assert_eq!((row[0], row.len()), (256, 21));
    }
}

#[test]
fn validation_rows_are_always_the_same() {
    let source = memory(&[38, 17, 5, 30, 8, 22, 3]);
    let mut loader = loader(&source, CONFIG);
    let few = loader.validation_batches(2, 2).unwrap();
    loader.next_batch(7).unwrap();
    let many = loader.validation_batches(2, 9).unwrap();
    assert_eq!((few.len(), many.len()), (2, 9));
    assert_eq!(few, many[..2]);
    assert_eq!(many[..2], loader.validation_batches(2, 2).unwrap());
    assert!(loader.validation_batches(0, 3).unwrap().is_empty());
}

/// Of 100 documents of 10 bytes, the last ten are kept apart.
#[test]
fn a_single_source_is_split_by_bytes() {
    let source = memory(&[10; 100]);
    let (train, validation) = Part::split(source);
    let config = BestFitConfig { seq: 10, buffer: 1, document_start: Some(256) };
    let mut loader = BestFit::new(train, validation, bytes(), config).unwrap();
    let number = |row: &Vec<u32>| -> u32 { row[1..5].iter().fold(0, |n, d| 10 * n + d - 48) };
    let mut seen: Vec<u32> = rows(&mut loader, 180).iter().map(number).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..90).collect::<Vec<_>>());
    assert_eq!(loader.beginning(5).unwrap(), tokens("0090"));
    assert_eq!((loader.tokens(Split::Train), loader.tokens(Split::Validation)), (990, 110));
}

/// Training 256 0 0, validation 256 1: counts 1 and 2 of 3, smoothed over 300 ids.
#[test]
fn unigram_entropy_is_the_formula() {
    let source = |text: &str| Part::whole(TextSource::in_memory("memory", vec![text.to_owned()]));
    let ids: Arc<Tokenize> =
        Arc::new(|text| Ok(text.bytes().map(|b| u32::from(b - b'0')).collect()));
    let loader = BestFit::new(source("00"), source("1"), ids, CONFIG).unwrap();
    let want = -((2.0f64 / 303.0).ln() + (1.0f64 / 303.0).ln()) / 2.0;
    assert!((loader.unigram_entropy(300).unwrap() - want).abs() < 1e-12);
    assert!(matches!(loader.unigram_entropy(256), Err(Error::TokenId { id: 256, .. })));
}

#[test]
fn what_cannot_be_read_is_told_and_ends_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let line = |text: &str| format!("{{\"text\": \"{text}\"}}\n");
    // The first documents are read at once, these lines later.
    let good = line("once upon a time").repeat(2000);
    std::fs::write(&path, format!("{good}{{\"text\": 3}}\n")).unwrap();
    let source = TextSource::open(&path, "").unwrap();
    let mut faulty = loader(&source, CONFIG);
    let error = (0..1000).find_map(|_| faulty.next_batch(10).err()).expect("an error");
    assert!(
        error.to_string().contains("a.jsonl:2001: its field \"text\" is not a string"),
        "{error}"
    );

    let (train, validation) = parts(&memory(&[0, 0]));
    let error = BestFit::new(train, validation, bytes(), CONFIG).unwrap_err();
    assert!(error.to_string().contains("no document to train on"), "{error}");
    std::fs::write(&path, line("one document")).unwrap();
    let (train, validation) = Part::split(TextSource::open(&path, "").unwrap());
    let error = BestFit::new(train, validation, bytes(), CONFIG).unwrap_err();
    assert!(error.to_string().contains("no document ends in its first nine tenths"), "{error}");
    let refuse: Arc<Tokenize> = Arc::new(|_| Err("it is unknown".to_owned()));
    let (train, validation) = parts(&memory(&[5]));
    let error = BestFit::new(train, validation, refuse, CONFIG).unwrap_err();
    assert!(error.to_string().contains("it is unknown"), "{error}");
    let (train, validation) = parts(&memory(&[5]));
    let config = BestFitConfig { seq: 0, ..CONFIG };
    assert!(BestFit::new(train, validation, bytes(), config).is_err());
}

#[test]
fn other_data_does_not_resume() {
    let mut first = loader(&memory(&[20; 200]), CONFIG);
    first.next_batch(3).unwrap();
    let place = first.place();
    let refuse = |mut loader: BestFit, what: &str| {
        let error = loader.resume(&place).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refuse(loader(&memory(&[20; 201]), CONFIG), "checksum of the training part");
    refuse(loader(&memory(&[20; 200]), BestFitConfig { seq: 21, ..CONFIG }), "sequence length");
    refuse(loader(&memory(&[20; 200]), BestFitConfig { buffer: 31, ..CONFIG }), "sequence length");
    let shorter: Arc<Tokenize> = Arc::new(|text| Ok(vec![text.len() as u32]));
    let (train, validation) = parts(&memory(&[20; 200]));
    refuse(
        BestFit::new(train, validation, shorter, CONFIG).unwrap(),
        "length of a document that was read ahead was 21 tokens",
    );
    let mut windows =
        crate::loader::Loader::new(vec![0; 1000].into(), crate::loader::LoaderConfig::new(20, 1))
            .unwrap();
    assert!(matches!(Batches::resume(&mut windows, &place), Err(Error::Place(_))));
    assert!(matches!(first.resume(&Batches::place(&windows)), Err(Error::Place(_))));
}

#[test]
fn another_validation_part_is_taken_where_it_is_meant() {
    let of = |judges: &[usize]| {
        let (train, validation) = (Part::whole(memory(&[20; 50])), Part::whole(memory(judges)));
        BestFit::new(train, validation, bytes(), CONFIG).unwrap()
    };
    let place = of(&[7, 8]).place();
    let mut other = of(&[9]);
    assert!(other.resume(&place).unwrap_err().to_string().contains("validation part"));
    other.judge_anew();
    other.resume(&place).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// Batches of an uninterrupted loader are those of one that is stopped anywhere and goes on.
    #[test]
    fn resuming_changes_nothing(
        lengths in prop::collection::vec(0usize..40, 1..300),
        buffer in 1usize..200,
        before in 0usize..60,
        after in 1usize..60,
    ) {
        prop_assume!(lengths.iter().any(|&length| length > 0));
        let source = memory(&lengths);
        let config = BestFitConfig { buffer, ..CONFIG };
        let mut straight = loader(&source, config);
        let all: Vec<Batch> = (0..before + after).map(|_| straight.next_batch(2).unwrap()).collect();
        let mut first = loader(&source, config);
        (0..before).for_each(|_| drop(first.next_batch(2).unwrap()));
        let text = first.place().to_string();
        drop(first);
        let mut resumed = loader(&source, config);
        resumed.next_batch(1).unwrap(); // what it has done before does not matter
        resumed.resume(&serde_json::from_str(&text).unwrap()).unwrap();
        for expected in &all[before..] {
            prop_assert_eq!(&resumed.next_batch(2).unwrap(), expected);
        }
        prop_assert_eq!(resumed.place(), straight.place());
    }

    /// The same on files of all kinds, over several passes.
    #[test]
    fn resuming_on_files_changes_nothing(before in 0usize..120, buffer in 1usize..150) {
        let dir = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet");
        for name in ["gzip_v2.parquet", "snappy_v1.parquet", "texts.jsonl", "zstd_v2.parquet"] {
            std::fs::copy(fixtures.join(name), dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("t.txt"), "one<|endoftext|>\n two <|endoftext|>three").unwrap();
        let source = TextSource::open(dir.path(), "<|endoftext|>").unwrap();
        let config = BestFitConfig { buffer, ..CONFIG };
        let mut straight = loader(&source, config);
        (0..before).for_each(|_| drop(straight.next_batch(2).unwrap()));
        let mut resumed = loader(&source, config);
        resumed.resume(&straight.place()).unwrap();
        for _ in 0..60 {
            prop_assert_eq!(resumed.next_batch(2).unwrap(), straight.next_batch(2).unwrap());
        }
        prop_assert_eq!(resumed.place(), straight.place());
    }
}
