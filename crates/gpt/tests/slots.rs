//! Texts in slots: the same bits alone and in company, in windows, and after cutting and copying.

use ane::Emulator;
use cpu::Numerics;
use gpt::slots::{MOST_COLUMNS, WeightFormat};
use gpt::{
    Column, Decoder, GptConfig, ModelError, Parameters, SlotDecoder, SlotOptions, initialise,
};

/// Norms of queries and keys, grouped queries, a vocabulary and widths that fill no panel.
fn config() -> GptConfig {
    GptConfig {
        n_layer: 3,
        n_head: 6,
        n_kv_head: 2,
        n_embd: 40,
        head_dim: 10,
        hidden: 72,
        vocab_size: 101,
        seq_len: 700,
        qk_norm: true,
        ..GptConfig::default()
    }
}

fn windowed() -> GptConfig {
    GptConfig { windows: vec![24, 0, 5], ..config() }
}

fn parameters(c: &GptConfig) -> Parameters {
    let values = initialise(c, 3).into_iter().map(|v| v * 4.0).collect();
    Parameters::new(c, values)
}

fn decoder(c: &GptConfig, slots: usize, weights: WeightFormat) -> SlotDecoder {
    SlotDecoder::new(&parameters(c), SlotOptions { slots, context: 700, weights }).unwrap()
}

fn text(seed: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * i * 7 + i * seed + seed) % 101) as u32).collect()
}

fn columns(slot: usize, tokens: &[u32]) -> Vec<Column> {
    tokens.iter().map(|&token| Column { slot, token, logits: true }).collect()
}

/// Bits of the logits of a text, fed in chunks.
fn bits(decoder: &mut SlotDecoder, slot: usize, tokens: &[u32], chunk: usize) -> Vec<u32> {
    let chunks = tokens.chunks(chunk).flat_map(|tokens| {
        decoder
            .forward(&columns(slot, tokens))
            .unwrap()
            .iter()
            .map(|l| l.to_bits())
            .collect::<Vec<_>>()
    });
    chunks.collect()
}

/// Both in f32, with sums in other orders: 2^−24 · (some hundred terms) of logits below 10.
#[test]
fn logits_are_those_of_the_decoder() {
    for c in [config(), windowed()] {
        let device = Emulator::cpu(Numerics::F32);
        let mut other = Decoder::new(&parameters(&c), 8, &device, Numerics::F32).unwrap();
        let mut slots = decoder(&c, 1, WeightFormat::F32);
        for tokens in text(5, 300).chunks(8) {
            let want = other.feed(tokens).unwrap();
            let got = slots.forward(&columns(0, tokens)).unwrap();
            let last = &got[got.len() - c.vocab_size..];
            let gap = last.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(gap < 5e-5, "{gap:e}");
        }
        assert_eq!(slots.position(0), 300);
    }
}

/// One token at a time, in chunks, in the largest chunks, on more threads, which divide a chunk.
#[test]
fn chunks_do_not_matter() {
    for (c, format) in [(config(), WeightFormat::F16), (windowed(), WeightFormat::Int8)] {
        let tokens = text(3, 600);
        let want = bits(&mut decoder(&c, 1, format), 0, &tokens, 1);
        for chunk in [3, 16, 37, MOST_COLUMNS] {
            assert!(bits(&mut decoder(&c, 1, format), 0, &tokens, chunk) == want, "{chunk}");
        }
        for (threads, chunk) in [(1, 100), (5, 100), (5, MOST_COLUMNS), (2, MOST_COLUMNS)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let got = pool.install(|| bits(&mut decoder(&c, 1, format), 0, &tokens, chunk));
            assert!(got == want, "{threads} threads, {chunk}");
        }
    }
}

#[test]
fn neighbours_do_not_matter() {
    let c = windowed();
    let texts: Vec<Vec<u32>> = (0..8).map(|seed| text(seed, 90)).collect();
    let alone: Vec<Vec<u32>> = (texts.iter())
        .map(|text| bits(&mut decoder(&c, 1, WeightFormat::F32), 0, text, 90))
        .collect();
    let mut decoder = decoder(&c, 8, WeightFormat::F32);
    let mut got = vec![vec![]; 8];
    // Each text at its own pace, and logits of some columns only.
    let mut at = [0; 8];
    while at.iter().any(|&at| at < 90) {
        let mut pass = vec![];
        for slot in 0..8 {
            let count = (1 + slot * slot % 5).min(90 - at[slot]);
            pass.extend(columns(slot, &texts[slot][at[slot]..at[slot] + count]));
            at[slot] += count;
        }
        for (i, column) in pass.iter_mut().enumerate() {
            column.logits = i % 3 != 1;
        }
        let logits = decoder.forward(&pass).unwrap();
        let mut rows = logits.chunks(c.vocab_size);
        for column in &pass {
            match column.logits {
                true => got[column.slot].extend(rows.next().unwrap().iter().map(|l| l.to_bits())),
                false => got[column.slot].extend(vec![0; c.vocab_size]),
            }
        }
        assert!(rows.next().is_none());
    }
    for (got, want) in got.iter().zip(&alone) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(got, want)| got == want || *got == 0));
    }
}

#[test]
fn texts_are_cut_and_copied() {
    for c in [config(), windowed()] {
        let (first, second) = (text(1, 400), [text(1, 150), text(9, 60)].concat());
        let want = bits(&mut decoder(&c, 1, WeightFormat::F32), 0, &second, 64);
        let want = &want[150 * c.vocab_size..];
        let mut decoder = decoder(&c, 3, WeightFormat::F32);
        bits(&mut decoder, 0, &first[..200], 64);
        decoder.copy(0, 2, 150);
        assert_eq!((decoder.position(0), decoder.position(2)), (200, 150));
        assert!(bits(&mut decoder, 2, &second[150..], 7) == want);
        decoder.truncate(0, 150);
        assert!(bits(&mut decoder, 0, &second[150..], 7) == want);
        // A window of 24 keeps 24 + 255 tokens, in whole panels 288: from 112 on, seen by 135.
        decoder.truncate(0, 0);
        bits(&mut decoder, 0, &first, 64);
        let unlimited = c.windows.is_empty();
        let kept = [0, 100, 133, 134, 135, 300, 400, 401].map(|tokens| decoder.keeps(0, tokens));
        assert_eq!(kept[..4], [true, unlimited, unlimited, unlimited]);
        assert_eq!(kept[4..], [true, true, true, false]);
        // Neither cutting nor copying brings back what was displaced.
        decoder.copy(0, 1, 250);
        decoder.truncate(0, 300);
        for slot in [0, 1] {
            let kept = [0, 134, 135, 250].map(|tokens| decoder.keeps(slot, tokens));
            assert_eq!(kept, [true, unlimited, true, true]);
        }
    }
}

/// Guesses leave nothing behind: logits after them are those of a text without any, also where they filled a ring,
/// and of a copy. The guesses are those of a decoder with int8 weights until the first that the text does not take.
#[test]
fn drafts_leave_the_text_as_it_is() {
    for c in [config(), windowed()] {
        let tokens = text(3, 560);
        let want = bits(&mut decoder(&c, 1, WeightFormat::F32), 0, &tokens, 64);
        let mut drafting = decoder(&c, 2, WeightFormat::F32).with_draft(&parameters(&c));
        let mut int8 = decoder(&c, 1, WeightFormat::Int8);
        assert!(drafting.drafts() && !int8.drafts());
        assert_eq!(drafting.weight_bytes() - int8.weight_bytes(), {
            decoder(&c, 1, WeightFormat::F32).weight_bytes()
        });
        let mut got = vec![];
        for (at, part) in (0..).step_by(40).zip(tokens.chunks(40)) {
            got.extend(bits(&mut drafting, 0, part, 40));
            let mut guesses = vec![part[3]];
            drafting
                .draft(0, part[3], |logits| {
                    assert_eq!(logits.len(), c.vocab_size);
                    let largest = |a: &usize, b: &usize| logits[*a].total_cmp(&logits[*b]);
                    guesses.push((0..c.vocab_size).max_by(largest).unwrap() as u32);
                    (guesses.len() < 12).then(|| *guesses.last().unwrap())
                })
                .unwrap();
            assert_eq!((guesses.len(), drafting.position(0)), (12, at + 40));
            assert!(drafting.keeps(0, at + 40));
            // At the beginning, before the caches differ by the weights that filled them, guesses are int8's.
            if at == 0 {
                drafting.truncate(0, 0);
                let mut first = vec![];
                drafting
                    .draft(0, 7, |l| {
                        first.push(l.to_vec());
                        (first.len() < 4).then_some(9)
                    })
                    .unwrap();
                let want = int8.forward(&columns(0, &[7, 9, 9, 9])).unwrap();
                assert_eq!(first.concat(), want);
                bits(&mut drafting, 0, part, 40);
            }
        }
        assert!(got == want);
        // A copy takes over none of it.
        drafting.copy(0, 1, 400);
        assert!(bits(&mut drafting, 1, &tokens[400..], 1) == want[400 * c.vocab_size..]);
    }
}

#[test]
fn drafts_that_do_not_fit_are_refused() {
    let c = GptConfig { seq_len: 8, ..config() };
    let mut decoder = decoder(&c, 1, WeightFormat::F32).with_draft(&parameters(&c));
    let tokens = text(1, 6);
    let want = bits(&mut decoder, 0, &tokens, 6);
    // Two fit, the third does not.
    let mut read = 0;
    let full = decoder
        .draft(0, 1, |_| {
            read += 1;
            Some(1)
        })
        .unwrap_err();
    assert_eq!((read, full), (2, ModelError::ContextFull { slot: 0, context: 8 }));
    assert_eq!(decoder.position(0), 6);
    let unknown = decoder.draft(0, 1, |_| Some(101)).unwrap_err();
    assert!(matches!(unknown, ModelError::Token { token: 101, .. }), "{unknown}");
    assert_eq!(decoder.draft(1, 1, |_| None), Err(ModelError::Slot { slot: 1, slots: 1 }));
    decoder.truncate(0, 0);
    assert!(bits(&mut decoder, 0, &tokens, 2) == want);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let c = GptConfig { seq_len: 8, ..config() };
    let options = SlotOptions { slots: 2, context: 700, weights: WeightFormat::F32 };
    let mut decoder = SlotDecoder::new(&parameters(&c), options).unwrap();
    assert_eq!((decoder.slots(), decoder.context()), (2, 8));
    decoder.forward(&columns(0, &text(1, 7))).unwrap();
    let mut refused =
        |columns: &[Column]| decoder.forward(columns).map(<[f32]>::to_vec).unwrap_err();
    let two = [columns(1, &[1]), columns(0, &[1, 2])].concat();
    assert_eq!(refused(&two), ModelError::ContextFull { slot: 0, context: 8 });
    assert_eq!(refused(&columns(2, &[1])), ModelError::Slot { slot: 2, slots: 2 });
    assert!(matches!(refused(&columns(0, &[101])), ModelError::Token { token: 101, .. }));
    assert!(matches!(refused(&[]), ModelError::BatchSize { got: 0, .. }));
    assert!(matches!(refused(&columns(1, &[1; 257])), ModelError::BatchSize { got: 257, .. }));
    assert_eq!((decoder.position(0), decoder.position(1)), (7, 0));
    for options in [SlotOptions { slots: 0, ..options }, SlotOptions { context: 0, ..options }] {
        let error = SlotDecoder::new(&parameters(&c), options).unwrap_err();
        assert!(matches!(error, ModelError::NoRoom { .. }), "{error}");
    }
}

/// Bytes as they are known in advance: int8 takes 34 bytes for 32 weights, a token of the cache 2·K·4.
#[test]
fn memory_is_known_in_advance() {
    let c =
        GptConfig { n_embd: 64, head_dim: 16, n_head: 4, hidden: 96, vocab_size: 128, ..config() };
    let count: usize =
        parameters(&c).layout().params().iter().filter(|p| p.decays()).map(|p| p.count()).sum();
    let vectors = parameters(&c).layout().count() - count;
    for (format, bytes) in [
        (WeightFormat::F32, 4 * count),
        (WeightFormat::F16, 2 * count),
        (WeightFormat::Int8, count / 32 * 34),
    ] {
        let decoder = decoder(&c, 2, format);
        assert_eq!(decoder.weight_bytes(), bytes + 4 * vectors, "{format:?}");
        assert_eq!(decoder.slot_bytes(), 3 * 2 * 32 * 704 * 4);
    }
}
