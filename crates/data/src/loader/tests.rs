use super::*;
use crate::tokens::{Format, TokenFile, TokenWriter};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Tokens that are their own position, so that a window shows where it came from.
fn positions(n: u32) -> TokenSource {
    TokenSource::from((0..n).collect::<Vec<u32>>())
}

fn loader(n: u32, seq: usize, seed: u64) -> Loader {
    Loader::new(positions(n), LoaderConfig::new(seq, seed)).unwrap()
}

/// First positions of the windows of one whole epoch.
fn epoch_starts(loader: &mut Loader) -> Vec<u32> {
    let epoch = loader.cursor().epoch;
    let mut starts = Vec::new();
    while loader.cursor().epoch == epoch && loader.cursor().index < loader.windows_per_epoch() {
        starts.push(loader.next_batch(1).inputs[0]);
    }
    starts
}

#[test]
fn batches_are_row_major_and_targets_are_shifted_by_one() {
    let batch = loader(1000, 10, 1).next_batch(3);
    assert_eq!((batch.batch, batch.seq, batch.inputs.len(), batch.targets.len()), (3, 10, 30, 30));
    for row in 0..3 {
        let first = batch.inputs[row * 10];
        for s in 0..10 {
            assert_eq!(batch.inputs[row * 10 + s], first + s as u32);
            assert_eq!(batch.targets[row * 10 + s], first + s as u32 + 1);
        }
    }
}

#[test]
fn an_epoch_sees_every_token_once_and_leaves_fewer_than_two_windows_out() {
    let mut loader = loader(10_007, 16, 3);
    let train = loader.tokens(Split::Train) as u32;
    let mut phases = BTreeSet::new();
    for _ in 0..20 {
        let starts = epoch_starts(&mut loader);
        let mut sorted = starts.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|w| w[1] - w[0] == 16), "each token is a target once");
        assert!(starts.len() as u32 * 16 + 32 > train);
        assert!(sorted.last().unwrap() + 17 <= train, "inside the training part");
        assert_ne!(starts, sorted, "in random order");
        phases.insert(sorted[0]);
        loader.next_batch(1); // enters the next epoch
        let cursor = Cursor { index: 0, ..loader.cursor().clone() };
        loader.resume(&cursor).unwrap();
    }
    assert!(phases.len() > 8, "the phase changes between epochs: {phases:?}");
}

/// An earlier trainer drew windows from `42 + step` after every restart, which repeated
/// samples. Here a run of many restarts gives the windows of a straight run, none twice.
#[test]
fn restarts_continue_exactly_and_repeat_nothing() {
    let mut straight = loader(50_000, 32, 42);
    let mut cursor = straight.cursor().clone();
    let mut seen = BTreeSet::new();
    for restart in 0..1000 {
        let mut resumed = loader(50_000, 32, 42);
        let json = serde_json::to_string(&cursor).unwrap();
        resumed.resume(&serde_json::from_str(&json).unwrap()).unwrap();
        for _ in 0..1 + restart % 5 {
            let (a, b) = (resumed.next_batch(1), straight.next_batch(1));
            assert_eq!(a, b, "restart {restart}");
            assert!(seen.insert((resumed.cursor().epoch, a.inputs[0])), "a sample came twice");
        }
        cursor = resumed.cursor().clone();
    }
    assert!(cursor.epoch >= 1, "the test crosses an epoch");
}

/// Computed apart from this code, with whole numbers of any size (SplitMix64 of the key and its rounds,
/// the phase, the checksum): checkpoints go on in every version with the same windows.
#[test]
fn order_and_checksums_do_not_change_between_versions() {
    let mut loader = loader(200, 16, 5);
    assert_eq!(epoch_starts(&mut loader), [64, 0, 48, 96, 32, 80, 112, 16]);
    let second: Vec<u32> = (0..8).map(|_| loader.next_batch(1).inputs[0]).collect();
    assert_eq!((second, loader.cursor().epoch), (vec![99, 67, 19, 51, 115, 3, 83, 35], 1));
    // Positions 0 to 16, and 17 to 33.
    let halves = self::loader(34, 16, 0).cursor().clone();
    assert_eq!(halves.train_checksum, Some(0x0ff5_e368_d78e_e9aa));
    assert_eq!(halves.validation_checksum, Some(0xc045_19d1_35c6_0116));
}

/// The last tokens of a part can be read, and none of what follows it.
#[test]
fn a_part_is_read_to_its_end_and_no_further() {
    let loader = loader(10_000, 16, 5);
    for (split, start, first) in [(Split::Train, 8_990, 8_990), (Split::Validation, 990, 9_990)] {
        let mut out = [0; 10];
        loader.read(split, start, &mut out);
        assert_eq!(out.to_vec(), (first..first + 10).collect::<Vec<u32>>());
        let past = || loader.read(split, start + 1, &mut [0; 10]);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(past)).is_err());
    }
}

/// Starts of consecutive samples are uncorrelated: within five standard deviations of zero.
#[test]
fn consecutive_samples_are_uncorrelated() {
    let mut loader = loader(400_000, 16, 42);
    let starts = epoch_starts(&mut loader);
    let n = starts.len() as f64;
    let train = loader.tokens(Split::Train) as f64;
    let x: Vec<f64> = starts.iter().map(|&s| f64::from(s) / train - 0.5).collect();
    let serial = x.windows(2).map(|w| w[0] * w[1]).sum::<f64>() * 12.0 / n;
    assert!(serial.abs() < 5.0 / n.sqrt(), "{serial}");
}

#[test]
fn seeds_and_epochs_have_orders_of_their_own() {
    let first = |seed| epoch_starts(&mut loader(20_000, 16, seed));
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
    let mut one = loader(20_000, 16, 1);
    let a = epoch_starts(&mut one);
    let b: Vec<u32> = (0..a.len()).map(|_| one.next_batch(1).inputs[0]).collect();
    let agree = a.iter().zip(&b).filter(|(x, y)| x.abs_diff(**y) < 16).count();
    assert!(agree < 12, "{agree} of {} windows at the same place", a.len());
}

#[test]
fn validation_is_fixed_spread_and_apart_from_training() {
    let mut loader = loader(10_000, 16, 5);
    let validation = loader.range(Split::Validation);
    assert_eq!(validation, 9_000..10_000);
    let batches = loader.validation_batches(4, 5);
    assert_eq!(batches.len(), 5);
    let starts: BTreeSet<u32> =
        batches.iter().flat_map(|b| b.inputs.chunks(16).map(|r| r[0])).collect();
    assert_eq!(starts.len(), 20, "no window twice");
    assert!(*starts.first().unwrap() >= 9_000 && *starts.last().unwrap() > 9_900);
    loader.next_batch(7);
    assert_eq!(loader.validation_batches(4, 5), batches);
    assert_eq!(loader.validation_batches(4, 1000).len(), 62 / 4);
    assert_eq!(loader.validation_batches(100, 3).len(), 1, "repeats rather than fail");
    assert!(loader.validation_batches(0, 3).is_empty());
}

#[test]
fn the_cut_falls_on_a_document() {
    let mut tokens = vec![5; 10_000];
    for i in (0..10_000).step_by(300) {
        tokens[i] = 1;
    }
    let config = LoaderConfig { document_start: Some(1), ..LoaderConfig::new(16, 0) };
    let loader = Loader::new(TokenSource::from(tokens), config).unwrap();
    assert_eq!(loader.range(Split::Validation), 9_000..10_000);
    let config = LoaderConfig { validation_fraction: 0.2, ..config };
    let mut tokens = vec![5; 10_000];
    tokens[7_777] = 1;
    let loader = Loader::new(TokenSource::from(tokens), config).unwrap();
    assert_eq!(loader.range(Split::Train), 0..7_777);
}

/// A tenth, but four sequences and a token where that is more, but half of the tokens where that is less.
#[test]
fn the_validation_part_has_its_size() {
    for (tokens, fraction, validation) in [
        (10_000, 0.1, 1_000),
        (10_000, 0.5, 5_000),
        (1_000, 0.01, 65), // 4 · 16 + 1
        (200, 0.1, 65),
        (130, 0.1, 65),
        (129, 0.1, 64),
        (100, 0.1, 50),
        (34, 0.1, 17), // a window of 17 in each part
    ] {
        let config = LoaderConfig { validation_fraction: fraction, ..LoaderConfig::new(16, 0) };
        let loader = Loader::new(positions(tokens), config).unwrap();
        assert_eq!(loader.tokens(Split::Validation), validation, "{tokens} {fraction}");
        assert_eq!(loader.tokens(Split::Train), u64::from(tokens) - validation);
    }
}

/// The cut moves back by a tenth of the training part (900 of 9,000) at most, and leaves it a window.
#[test]
fn the_cut_moves_only_so_far() {
    let cut = |tokens: usize, marks: &[usize]| {
        let mut ids = vec![5; tokens];
        marks.iter().for_each(|&at| ids[at] = 1);
        let config = LoaderConfig { document_start: Some(1), ..LoaderConfig::new(16, 0) };
        Loader::new(TokenSource::from(ids), config).unwrap().range(Split::Train).end
    };
    assert_eq!(cut(10_000, &[]), 9_000);
    assert_eq!(cut(10_000, &[8_100]), 8_100, "the farthest");
    assert_eq!(cut(10_000, &[8_099]), 9_000, "too far");
    assert_eq!(cut(10_000, &[8_200, 8_300]), 8_300, "the nearest");
    assert_eq!(cut(10_000, &[9_000, 9_001]), 9_000, "the cut itself");
    assert_eq!(cut(10_000, &[9_001]), 9_000, "never forward");
    assert_eq!(cut(36, &[16]), 18, "a training part of 16 tokens has no window");
    assert_eq!(cut(36, &[17]), 17);
    // A tenth of 101 is more than there is to spare: the training part has one window of 101 tokens.
    let mut ids = vec![5; 202];
    ids[100] = 1;
    let config = LoaderConfig { document_start: Some(1), ..LoaderConfig::new(100, 0) };
    let loader = Loader::new(TokenSource::from(ids), config).unwrap();
    assert_eq!(loader.range(Split::Train), 0..101);
}

/// Parts of more tokens than are read at once.
#[test]
fn every_token_of_a_part_is_counted() {
    let ids: Vec<u32> = (0..50_000).map(|i| u32::from(i >= 45_000)).collect();
    let loader = Loader::new(TokenSource::from(ids), LoaderConfig::new(16, 0)).unwrap();
    assert_eq!(loader.counts(Split::Train, 2).unwrap(), [45_000, 0]);
    assert_eq!(loader.counts(Split::Validation, 2).unwrap(), [0, 5_000]);
}

/// Of 62 windows (999 / 16) the first of every 62 / 20; of 3 windows each in turn.
#[test]
fn validation_windows_are_where_they_should_be() {
    let starts = |loader: &Loader, batch, count| -> Vec<u32> {
        let batches = loader.validation_batches(batch, count);
        batches.iter().flat_map(|b| b.inputs.chunks(16).map(|row| row[0])).collect()
    };
    let want = [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 31, 34, 37, 40, 43, 46, 49, 52, 55, 58];
    let want: Vec<u32> = want.iter().map(|window| 9_000 + 16 * window).collect();
    assert_eq!(starts(&loader(10_000, 16, 5), 4, 5), want);
    let few = Loader::with_validation(positions(100), positions(49), LoaderConfig::new(16, 0));
    let few = few.unwrap();
    assert_eq!(starts(&few, 3, 9), [0, 16, 32], "as many batches as there are windows for");
    assert_eq!(starts(&few, 5, 9), [0, 16, 32, 0, 16], "one batch in which they repeat");
    let short = Loader::with_validation(positions(100), positions(48), LoaderConfig::new(16, 0));
    assert_eq!(starts(&short.unwrap(), 2, 9), [0, 16], "47 targets are two windows");
}

#[test]
fn limits_are_where_they_are_said_to_be() {
    let two = |train, validation| {
        Loader::with_validation(positions(train), positions(validation), LoaderConfig::new(16, 0))
    };
    assert!(two(17, 17).is_ok());
    for short in [two(16, 17), two(17, 16)] {
        assert!(matches!(short, Err(Error::TooShort { tokens: 16, needed: 17, .. })));
    }
    assert!(Loader::new(positions(33), LoaderConfig::new(16, 0)).is_err());
    let seq = |seq| Loader::new(positions(100), LoaderConfig::new(seq, 0)).unwrap_err();
    assert!(matches!(seq(1 << 24), Error::TooShort { needed: 33_554_434, .. }));
    assert!(matches!(seq((1 << 24) + 1), Error::Setting { name: "seq", .. }));
    let mut loader = loader(10_000, 16, 1);
    let last = Cursor { index: loader.windows_per_epoch(), ..loader.cursor().clone() };
    loader.resume(&last).unwrap();
    loader.next_batch(1);
    assert_eq!((loader.cursor().epoch, loader.cursor().index), (1, 1));
    let mut again = self::loader(10_000, 16, 1);
    assert!(again.resume(&Cursor { index: last.index + 1, ..last }).is_err());
}

/// Every stretch of a stream of four files, one of them empty.
#[test]
fn stretches_across_files_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = vec![];
    for (i, (ids, vocab_size)) in
        [(&[1u32, 2, 3][..], 9), (&[], 30), (&[4], 20), (&[5, 6, 7, 8], 10)].into_iter().enumerate()
    {
        let path = dir.path().join(format!("{i}.bin"));
        let mut writer = TokenWriter::create(&path, Format::shard_for(vocab_size)).unwrap();
        writer.push(ids).unwrap();
        writer.finish().unwrap();
        files.push(TokenFile::open(path).unwrap());
    }
    let source = TokenSource::from(files);
    assert_eq!((source.len(), source.is_empty(), source.vocab_size()), (8, false, Some(30)));
    for start in 0..8 {
        for end in start..=8 {
            let mut got = vec![0; end - start];
            source.read(start, &mut got);
            let want: Vec<u32> = (start as u32 + 1..=end as u32).collect();
            assert_eq!(got, want);
        }
    }
    let error = source.check_ids(8).unwrap_err().to_string();
    assert!(error.contains("3.bin: token 3 is 8"), "{error}");
    let loader = Loader::new(source, LoaderConfig::new(1, 0)).unwrap();
    let error = loader.counts(Split::Train, 4).unwrap_err().to_string();
    assert!(error.contains("2.bin: token 0 is 4"), "{error}");
    assert_eq!(
        loader.counts(Split::Validation, 9).unwrap().iter().sum::<u64>(),
        loader.tokens(Split::Validation)
    );
}

#[test]
fn short_data_and_bad_settings_are_explained() {
    let error = |n, config| Loader::new(positions(n), config).unwrap_err().to_string();
    assert!(error(33, LoaderConfig::new(16, 0)).contains("33 tokens are too few"));
    assert!(error(0, LoaderConfig::new(1, 0)).contains("0 tokens"));
    assert!(error(100, LoaderConfig::new(0, 0)).contains("seq is 0"));
    assert!(error(100, LoaderConfig::new(usize::MAX, 0)).contains("seq is"));
    for fraction in [0.0, -1.0, 0.6, f64::NAN, f64::INFINITY] {
        let config = LoaderConfig { validation_fraction: fraction, ..LoaderConfig::new(8, 0) };
        assert!(error(1000, config).contains("validation_fraction"));
    }
    let mut smallest = loader(34, 16, 0);
    assert_eq!(smallest.next_batch(5).inputs.len(), 80);
    assert_eq!(smallest.validation_batches(2, 2).len(), 1);
    let two = Loader::with_validation(positions(100), positions(5), LoaderConfig::new(16, 0));
    assert!(two.unwrap_err().to_string().contains("5 tokens"));
}

#[test]
fn other_data_does_not_resume() {
    let cursor = loader(10_000, 16, 1).cursor().clone();
    let refuse = |mut loader: Loader, cursor: &Cursor, what: &str| {
        let error = loader.resume(cursor).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refuse(loader(10_001, 16, 1), &cursor, "number of training tokens");
    refuse(loader(10_000, 32, 1), &cursor, "sequence length");
    let other = TokenSource::from((0..10_000).rev().collect::<Vec<u32>>());
    refuse(
        Loader::new(other, LoaderConfig::new(16, 1)).unwrap(),
        &cursor,
        "checksum of the training",
    );
    let past = Cursor { index: 1 << 40, ..cursor };
    refuse(loader(10_000, 16, 1), &past, "window of the epoch");
}

/// One token of 10,000, wherever it stands; also two that change places.
#[test]
fn a_single_changed_token_is_noticed() {
    let ids: Vec<u32> = (0..10_000).map(|i| i * 31 % 977).collect();
    let of = |ids: &[u32]| {
        Loader::new(TokenSource::from(ids.to_vec()), LoaderConfig::new(16, 1)).unwrap()
    };
    let cursor = of(&ids).cursor().clone();
    for at in (0..10_000).step_by(997).chain([0, 1, 8_998, 8_999, 9_000, 9_999]) {
        let part = if at < 9_000 { "training" } else { "validation" };
        let mut changed = ids.clone();
        changed[at] += 1;
        let error = of(&changed).resume(&cursor).unwrap_err().to_string();
        assert!(error.contains(&format!("checksum of the {part} part")), "{at}: {error}");
        let mut swapped = ids.clone();
        swapped.swap(at, (at + 1) % 10_000);
        assert!(of(&swapped).resume(&cursor).is_err(), "{at}");
    }
    of(&ids).resume(&cursor).unwrap();
}

#[test]
fn only_another_validation_part_is_taken_where_it_is_meant() {
    let with = |first, judges| {
        let train = (first..first + 500).collect::<Vec<u32>>();
        let config = LoaderConfig::new(16, 0);
        Loader::with_validation(TokenSource::from(train), positions(judges), config).unwrap()
    };
    let cursor = with(0, 100).cursor().clone();
    let mut other = with(0, 101);
    assert!(other.resume(&cursor).is_err());
    other.judge_anew();
    other.resume(&cursor).unwrap();
    assert_eq!(other.cursor().validation_checksum, with(0, 101).cursor().validation_checksum);
    let mut changed = with(1, 101);
    changed.judge_anew();
    assert!(changed.resume(&cursor).is_err(), "the training part is another");
}

/// A cursor written before checksums were taken of every token.
#[test]
fn a_cursor_without_checksums_resumes() {
    let old = r#"{"seed":1,"seq":16,"epoch":0,"index":3,"train_tokens":9000,"fingerprint":77}"#;
    let mut resumed = loader(10_000, 16, 1);
    resumed.resume(&serde_json::from_str(old).unwrap()).unwrap();
    let mut straight = loader(10_000, 16, 1);
    straight.next_batch(3);
    assert_eq!(resumed.next_batch(2), straight.next_batch(2));
    assert_eq!(resumed.cursor(), straight.cursor(), "the next checkpoint has checksums");
}

#[test]
fn hidden_token_files_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    for (name, ids) in [("data00.bin", [1u8, 0, 2, 0]), ("._data00.bin", [9, 9, 9, 9])] {
        std::fs::write(dir.path().join(name), ids).unwrap();
    }
    assert_eq!(TokenSource::open(dir.path()).unwrap().len(), 2);
    std::fs::remove_file(dir.path().join("data00.bin")).unwrap();
    let error = TokenSource::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("no token files"), "{error}");
}

#[test]
fn files_and_memory_are_the_same_stream() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<u32> = (0..5_000).map(|i| i * 7 % 4_001).collect();
    for (i, (part, format)) in [
        (0..1, Format::FlatU16),
        (1..2_000, Format::Shard16 { vocab_size: 4_001 }),
        (2_000..5_000, Format::Shard32 { vocab_size: 4_001 }),
    ]
    .into_iter()
    .enumerate()
    {
        let mut writer =
            TokenWriter::create(dir.path().join(format!("data{i:02}.bin")), format).unwrap();
        writer.push(&ids[part]).unwrap();
        writer.finish().unwrap();
    }
    std::fs::write(dir.path().join("notes.txt"), "not tokens").unwrap();
    let files = TokenSource::open(dir.path()).unwrap();
    assert_eq!((files.len(), files.vocab_size()), (5_000, Some(4_001)));
    let config = LoaderConfig::new(64, 9);
    let mut a = Loader::new(files.clone(), config).unwrap();
    let mut b = Loader::new(TokenSource::from(ids), config).unwrap();
    for _ in 0..100 {
        assert_eq!(a.next_batch(4), b.next_batch(4));
    }
    files.check_ids(4_001).unwrap();
    match a.counts(Split::Train, 4_000) {
        Err(Error::TokenId { place, id: 4_000, position, .. }) => {
            assert!(place.ends_with("data01.bin") || place.ends_with("data02.bin"), "{place}");
            let file = TokenFile::open(&place).unwrap();
            let mut id = [0];
            file.read(position as usize, &mut id);
            assert_eq!(id, [4_000]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn ids_in_memory_are_checked() {
    let source = TokenSource::from(vec![0, 8, 9, 10]);
    source.check_ids(11).unwrap();
    let error = source.check_ids(10).unwrap_err();
    assert!(matches!(error, Error::TokenId { position: 3, id: 10, .. }), "{error}");
    assert!(!source.is_empty() && TokenSource::from(Vec::<u32>::new()).is_empty());
}

/// By hand: training 0 0 0 1 (smoothed 4/6, 2/6), validation 0 1.
#[test]
fn unigram_entropy_is_the_formula() {
    let config = LoaderConfig::new(1, 0);
    let (train, validation) = (TokenSource::from(vec![0, 0, 0, 1]), TokenSource::from(vec![0, 1]));
    let loader = Loader::with_validation(train, validation, config).unwrap();
    let expected = -((4.0f64 / 6.0).ln() + (2.0f64 / 6.0).ln()) / 2.0;
    assert!((loader.unigram_entropy(2).unwrap() - expected).abs() < 1e-12);
    assert!(matches!(loader.unigram_entropy(1), Err(Error::TokenId { position: 3, id: 1, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Any size that is accepted works: windows stay inside their part, for several epochs.
    #[test]
    fn windows_stay_inside(n in 2u32..600, seq in 1usize..80, seed: u64, fraction in 0.01f64..0.5) {
        let config = LoaderConfig { validation_fraction: fraction, ..LoaderConfig::new(seq, seed) };
        let Ok(mut loader) = Loader::new(positions(n), config) else {
            prop_assert!((n as usize) < 2 * (seq + 1));
            return Ok(());
        };
        let (train, validation) = (loader.range(Split::Train), loader.range(Split::Validation));
        prop_assert_eq!((train.start, train.end, validation.end), (0, validation.start, n as usize));
        for _ in 0..40 {
            let batch = loader.next_batch(2);
            prop_assert!(batch.targets.iter().all(|&t| (t as usize) < train.end));
        }
        for batch in loader.validation_batches(3, 4) {
            prop_assert_eq!(batch.inputs.len(), 3 * seq);
            prop_assert!(batch.inputs.iter().all(|&t| validation.contains(&(t as usize))));
        }
    }
}
