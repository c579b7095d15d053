use super::*;
use proptest::prelude::*;

/// Examples of these lengths. Token `t` of example `i` is `1000·i + t`, and learned where `t` is odd, but for
/// examples in `silent`.
#[derive(Debug)]
struct Talks {
    lengths: Vec<usize>,
    silent: Vec<usize>,
}

impl Examples for Talks {
    fn len(&self) -> usize {
        self.lengths.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        let length = self.lengths[index];
        Ok(Example {
            tokens: (0..length).map(|t| (1000 * index + t) as u32).collect(),
            learned: (0..length).map(|t| t % 2 == 1 && !self.silent.contains(&index)).collect(),
        })
    }
}

const PAD: u32 = u32::MAX;

fn config(seq: usize) -> PackedConfig {
    PackedConfig { seq, waiting: 5, pad: PAD, shuffle: None }
}

fn packed(talks: Talks, config: PackedConfig) -> Packed {
    let talks: Arc<dyn Examples> = Arc::new(talks);
    let survey = Survey::of(&*talks, config.seq, &mut |_| {}).unwrap();
    Packed::new(talks, survey, config).unwrap()
}

fn talks(lengths: &[usize]) -> Talks {
    Talks { lengths: lengths.to_vec(), silent: vec![] }
}

/// The lengths of what is packed into the rows of a pass, by the definition: of at most `waiting` that wait, a scan
/// takes the longest that fits, the first of equal ones.
fn by_scan(lengths: &[usize], waiting: usize, capacity: usize) -> Vec<Vec<usize>> {
    let mut to_come = lengths.iter().map(|&length| length.min(capacity)).filter(|&n| n > 1);
    let (mut held, mut rows): (Vec<usize>, Vec<Vec<usize>>) = (vec![], vec![]);
    loop {
        let (mut row, mut room) = (vec![], capacity);
        loop {
            held.extend(to_come.by_ref().take(waiting - held.len()));
            let mut best: Option<usize> = None;
            for (at, &length) in held.iter().enumerate() {
                if length <= room && best.is_none_or(|best| length > held[best]) {
                    best = Some(at);
                }
            }
            let Some(best) = best else { break };
            room -= held[best];
            row.push(held.remove(best));
        }
        if row.is_empty() {
            return rows;
        }
        rows.push(row);
    }
}

/// The lengths of the examples in a row of a batch: tokens of one follow each other.
fn lengths_in(row: &Example) -> Vec<usize> {
    let mut lengths: Vec<usize> = vec![];
    for &token in row.tokens.iter().filter(|&&token| token != PAD) {
        match token % 1000 {
            0 => lengths.push(1),
            _ => *lengths.last_mut().unwrap() += 1,
        }
    }
    lengths
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn rows_are_those_of_a_scan(lengths in prop::collection::vec(1usize..30, 1..60), seq in 4usize..20) {
        prop_assume!(lengths.iter().any(|&length| length > 1));
        let expected = by_scan(&lengths, 5, seq + 1);
        let mut packed = packed(talks(&lengths), config(seq));
        prop_assert_eq!(packed.rows(1), expected.len() as u64);
        let again = expected.iter().chain(&expected);
        for expected in again {
            let row = packed.row().unwrap();
            prop_assert_eq!(row.tokens.len(), seq + 1);
            prop_assert_eq!(&lengths_in(&row), expected);
            for (t, (&token, &learned)) in row.tokens.iter().zip(&row.learned).enumerate() {
                prop_assert_eq!(learned, token != PAD && token % 1000 % 2 == 1, "{}", t);
            }
        }
    }

    /// Every example that has something to learn comes once in every pass, in whatever order.
    #[test]
    fn a_pass_gives_every_example_once(
        lengths in prop::collection::vec(2usize..40, 1..80),
        seq in 3usize..24,
        seed in prop::option::of(any::<u64>()),
    ) {
        let mut packed = packed(talks(&lengths), PackedConfig { shuffle: seed, ..config(seq) });
        for pass in 0..3 {
            let rows = packed.rows(pass + 1) - packed.rows(pass);
            let mut seen = vec![0; lengths.len()];
            for _ in 0..rows {
                let row = packed.row().unwrap();
                let begins = row.tokens.iter().filter(|&&t| t != PAD && t % 1000 == 0);
                begins.for_each(|&token| seen[token as usize / 1000] += 1);
            }
            prop_assert!(seen.iter().all(|&n| n == 1), "{:?}", seen);
        }
    }
}

/// nanochat #590 and #811: conversations that never fit stay in the buffer until it holds nothing else, rows become
/// padding, and the mean over no target is not a number. Nine of ten never fit here.
#[test]
fn examples_that_never_fit_do_not_clog_the_rows() {
    let lengths: Vec<usize> =
        (0..1000).map(|i| if i % 10 == 3 { 2 + i % 7 } else { 500 }).collect();
    let mut packed = packed(talks(&lengths), PackedConfig { waiting: WAITING, ..config(32) });
    assert_eq!((packed.survey().cut(), packed.survey().left_out()), (900, 0));
    let rows = packed.rows(1);
    assert!(rows >= 900);
    let (mut seen, mut learned) = (0, 0);
    for _ in 0..rows {
        let row = packed.next_batch(1).unwrap();
        let count = row.learned.iter().filter(|&&learned| learned).count();
        assert!(count > 0, "every row has something to learn");
        learned += count;
        seen += row.inputs.iter().filter(|&&t| t != PAD && t % 1000 == 0).count();
    }
    // None of them begins with the last token of a row.
    assert_eq!((seen, learned as u64), (1000, packed.survey().learned()));
}

#[test]
fn what_has_nothing_to_learn_is_left_out() {
    let some = Talks { lengths: vec![4, 1, 9, 50, 6], silent: vec![2] };
    let mut packed = packed(some, config(7));
    let survey = packed.survey();
    assert_eq!((survey.kept(), survey.left_out(), survey.cut()), (3, 2, 1));
    assert_eq!((survey.tokens(), survey.learned()), (4 + 8 + 6, 2 + 4 + 3));
    let rows: Vec<_> = (0..packed.rows(1)).map(|_| lengths_in(&packed.row().unwrap())).collect();
    assert_eq!(rows, [vec![8], vec![6], vec![4]]);

    let none: Arc<dyn Examples> = Arc::new(Talks { lengths: vec![5, 5], silent: vec![0, 1] });
    let survey = Survey::of(&*none, 8, &mut |_| {}).unwrap();
    let error = Packed::new(none, survey, config(8)).unwrap_err().to_string();
    assert!(
        error.contains("none of the 2 conversations") && error.contains("longer --seq"),
        "{error}"
    );
}

/// Inputs and targets are one token apart, and what is learned is that of the targets.
#[test]
fn a_batch_is_rows_of_inputs_and_targets() {
    let mut packed = packed(talks(&[3, 2]), config(6));
    let batch = packed.next_batch(2).unwrap();
    let row = [0, 1, 2, 1000, 1001, PAD, PAD];
    assert_eq!(batch.inputs, [&row[..6], &row[..6]].concat());
    assert_eq!(batch.targets, [&row[1..], &row[1..]].concat());
    let learned = [true, false, false, true, false, false];
    assert_eq!(batch.learned, [learned, learned].concat());
}

#[test]
fn the_beginning_is_the_same_whenever_it_is_asked_for() {
    let mut packed = packed(talks(&[7, 3, 7, 2]), config(6));
    let rows: Vec<Example> = (0..3).map(|_| packed.row().unwrap()).collect();
    for _ in 0..2 {
        let all = packed.beginning(2, 9).unwrap();
        assert_eq!(all[0], Masked::of(&rows[..2], 6));
        assert_eq!(all[1], Masked::of(&[rows[2].clone(), packed.padding()], 6));
        assert_eq!(packed.beginning(2, 1).unwrap(), all[..1]);
        packed.row().unwrap();
    }
}

#[test]
fn a_resumed_loader_goes_on_with_the_same_rows() {
    let lengths: Vec<usize> = (0..40).map(|i| 2 + i * 7 % 23).collect();
    let config = PackedConfig { shuffle: Some(3), ..config(16) };
    let mut whole = packed(talks(&lengths), config);
    let total = 3 * whole.rows(1) as usize;
    let places: Vec<Value> = vec![whole.place()];
    let (mut places, mut rows) = (places, vec![]);
    for _ in 0..total {
        rows.push(whole.row().unwrap());
        places.push(whole.place());
    }
    for (at, place) in places.iter().enumerate().take(total) {
        let mut resumed = packed(talks(&lengths), config);
        resumed.resume(place).unwrap();
        assert_eq!(&resumed.place(), place);
        for row in rows[at..].iter().take(9) {
            assert_eq!(&resumed.row().unwrap(), row, "{at}");
        }
    }
    // Passes have orders of their own.
    let first = whole.rows(1) as usize;
    assert_ne!(rows[..4], rows[first..first + 4]);

    let mut changed = lengths.clone();
    changed[39] += 1;
    let mut other = packed(talks(&changed), config);
    let error = other.resume(&places[1]).unwrap_err().to_string();
    assert!(error.contains("the checksum of the examples was"), "{error}");
    let mut longer = packed(talks(&lengths), PackedConfig { seq: 17, ..config });
    let error = longer.resume(&places[1]).unwrap_err().to_string();
    assert!(error.contains("the sequence length was 16, is 17"), "{error}");
    let error = longer.resume(&Value::from(3)).unwrap_err();
    assert!(matches!(error, Error::Place(_)), "{error}");
}

/// Two tokens that are learned three times and once, of four.
#[test]
fn a_unigram_model_knows_what_is_said() {
    #[derive(Debug)]
    struct Said(Vec<Vec<u32>>);
    impl Examples for Said {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn get(&self, index: usize) -> Result<Example> {
            let tokens = [&[3], &self.0[index][..]].concat();
            let learned = tokens.iter().map(|&token| token != 3).collect();
            Ok(Example { tokens, learned })
        }
    }
    let of = |said: &[&[u32]]| {
        let said = Said(said.iter().map(|said| said.to_vec()).collect());
        Survey::of(&said, 8, &mut |_| {}).unwrap()
    };
    let (train, validation) = (of(&[&[0, 0], &[1, 0]]), of(&[&[0, 1, 2]]));
    let expected = -((4.0f64 / 8.0).ln() + (2.0f64 / 8.0).ln() + (1.0f64 / 8.0).ln()) / 3.0;
    let found = unigram_entropy(&train, &validation, 4).unwrap();
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    let error = unigram_entropy(&train, &validation, 2).unwrap_err();
    assert!(matches!(error, Error::TokenId { id: 2, .. }), "{error}");
}
