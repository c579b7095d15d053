//! Generation with a model whose next token is a table: blocks that add nothing, and a classifier
//! that reads the last token alone.

use ane::Emulator;
use cpu::Numerics;
use gpt::{Decoder, GptConfig, Layout, Parameters};
use infer::{Finish, Generator, InferError, Request, Sampling, SamplingError};
use std::sync::LazyLock;
use tokenizer::Tokenizer;

const VOCAB: usize = 264;

/// llama2.c's format: markers, bytes, then pieces, each with a score.
fn tokenizer() -> Tokenizer {
    let mut bytes = 8i32.to_le_bytes().to_vec();
    let markers = ["<unk>", "\n<s>\n", "\n</s>\n"].map(str::to_owned);
    let all = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = [" ", "a", "b", "c", "d"].map(str::to_owned);
    for piece in markers.into_iter().chain(all).chain(pieces) {
        bytes.extend(0f32.to_le_bytes());
        bytes.extend((piece.len() as i32).to_le_bytes());
        bytes.extend(piece.as_bytes());
    }
    Tokenizer::from_llama2c(&bytes, None).unwrap()
}

const BOS: u32 = 1;
const EOS: u32 = 2;
const A: u32 = 260;
const B: u32 = 261;
const C: u32 = 262;
const D: u32 = 263;

/// A model of `vocab` tokens in which `next[i].1` follows `next[i].0`.
fn model(vocab: usize, next: &[(u32, u32)], length: usize) -> Decoder<'static> {
    let config = GptConfig {
        n_layer: 1,
        n_head: 1,
        n_kv_head: 1,
        n_embd: vocab,
        head_dim: 2,
        hidden: 2,
        vocab_size: vocab,
        seq_len: length,
        rope_theta: Some(1e4),
        norm_eps: 1e-5,
        tied: false,
        ..GptConfig::default()
    };
    let layout = Layout::new(&config);
    let mut params = vec![0.0; layout.count()];
    for param in layout.params() {
        let part = &mut params[param.range()];
        match param.port {
            "embedding" => (0..vocab).for_each(|i| part[i * vocab + i] = 1.0),
            "classifier" => next
                .iter()
                .for_each(|&(from, to)| part[(to as usize) * vocab + from as usize] = 9.0),
            _ if !param.decays() => part.fill(1.0),
            _ => {}
        }
    }
    let parameters = Parameters::new(&config, params);
    Decoder::new(&parameters, 4, &*DEVICE, Numerics::F32).unwrap()
}

static DEVICE: LazyLock<Emulator> = LazyLock::new(|| Emulator::cpu(Numerics::F32));

const GREEDY: Sampling = Sampling::GREEDY;

fn request(max_tokens: usize, sampling: Sampling) -> Request<'static> {
    Request { max_tokens, sampling, seed: 1, slide: false, stop: &[], tools: None }
}

/// Tokens drawn after `prompt`, and the text.
fn generate(next: &[(u32, u32)], prompt: &str, most: usize) -> (Vec<u32>, String) {
    let tokenizer = tokenizer();
    let mut generator = Generator::new(model(VOCAB, next, 16), &tokenizer).unwrap();
    let mut text = String::new();
    let request = request(most, GREEDY);
    let first = generator.generate(prompt, request, |piece| text.push_str(piece)).unwrap();
    // The same again: nothing of the first text is left.
    let mut again = String::new();
    let second = generator.generate(prompt, request, |piece| again.push_str(piece)).unwrap();
    assert_eq!((&second.tokens, &again), (&first.tokens, &text));
    (first.tokens, text)
}

#[test]
fn a_token_that_begins_or_ends_a_text_ends_it() {
    for end in [BOS, EOS] {
        let next = [(A, B), (B, C), (C, end), (end, D), (D, D)];
        assert_eq!(generate(&next, "a", 10), (vec![B, C], "bc".to_owned()), "token {end}");
        assert_eq!(generate(&next, "c", 10), (vec![], String::new()), "token {end}");
    }
}

#[test]
fn a_text_ends_when_nobody_takes_it_any_more() {
    let tokenizer = tokenizer();
    let next = [(BOS, A), (A, B), (B, A)];
    let mut generator = Generator::new(model(VOCAB, &next, 16), &tokenizer).unwrap();
    let mut text = String::new();
    let taken = generator.generate_while("a", request(9, GREEDY), |piece| {
        text.push_str(piece);
        text.len() < 3
    });
    let drawn = taken.unwrap();
    assert_eq!(
        (drawn.tokens, text.as_str(), drawn.finish),
        (vec![B, A, B], "bab", Finish::Stopped)
    );
}

#[test]
fn no_more_tokens_than_wanted() {
    let next = [(BOS, A), (A, B), (B, A)];
    assert_eq!(generate(&next, "a", 0), (vec![], String::new()));
    assert_eq!(generate(&next, "a", 1), (vec![B], "b".to_owned()));
    assert_eq!(generate(&next, "ab", 5), (vec![A, B, A, B, A], "ababa".to_owned()));
    // Without a prompt, the text follows the token that begins it.
    assert_eq!(generate(&next, "", 3), (vec![A, B, A], "aba".to_owned()));
}

#[test]
fn a_tokenizer_may_have_fewer_tokens_than_the_model_but_not_more() {
    let tokenizer = tokenizer();
    assert!(Generator::new(model(VOCAB + 1, &[], 16), &tokenizer).is_ok());
    let error = Generator::new(model(VOCAB - 1, &[], 16), &tokenizer).unwrap_err();
    assert!(matches!(error, InferError::Vocabulary { tokenizer: 264, model: 263 }), "{error}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let tokenizer = tokenizer();
    let mut generator = Generator::new(model(VOCAB, &[], 16), &tokenizer).unwrap();
    let mut error = |sampling| generator.generate("a", request(1, sampling), |_| ()).unwrap_err();
    for temperature in [-0.5, f32::NAN, f32::INFINITY] {
        let got = error(Sampling { temperature, ..GREEDY });
        assert!(matches!(got, InferError::Sampling(SamplingError::Temperature(_))), "{got}");
    }
    for top_p in [0.0, -0.1, 1.5, f32::NAN] {
        let got = error(Sampling { top_p, ..GREEDY });
        assert!(matches!(got, InferError::Sampling(SamplingError::TopP(_))), "{got}");
    }
    for sampling in [Sampling { top_p: 1.0, ..GREEDY }, Sampling { temperature: 0.0, ..GREEDY }] {
        generator.generate("a", request(1, sampling), |_| ()).unwrap();
    }
}

/// Of three tokens (BOS, the space before a text, `a`) in a model of eight, five more are read. The sixth
/// is not; with `slide`, the newest four are kept, and every fifth token slides again.
#[test]
fn a_full_context_ends_the_text_or_slides() {
    let tokenizer = tokenizer();
    let mut generator = Generator::new(model(VOCAB, &[(A, B), (B, A)], 8), &tokenizer).unwrap();
    for (most, slide, drawn, finish, slides) in [
        (6, false, 6, Finish::MaxTokens, 0),
        (7, false, 6, Finish::ContextFull, 0),
        (6, true, 6, Finish::MaxTokens, 0),
        (7, true, 7, Finish::MaxTokens, 1),
        (11, true, 11, Finish::MaxTokens, 1),
        (12, true, 12, Finish::MaxTokens, 2),
        (17, true, 17, Finish::MaxTokens, 3),
    ] {
        let request = Request { slide, ..request(most, GREEDY) };
        let got = generator.generate("a", request, |_| ()).unwrap();
        let alternating: Vec<u32> = [B, A].into_iter().cycle().take(drawn).collect();
        assert_eq!((got.prompt, &got.tokens), (3, &alternating), "{most} {slide}");
        assert_eq!((got.finish, got.slides), (finish, slides), "{most} {slide}");
    }
}

#[test]
fn a_prompt_may_be_as_long_as_the_model_and_no_longer() {
    let tokenizer = tokenizer();
    let mut generator = Generator::new(model(VOCAB, &[(A, B)], 5), &tokenizer).unwrap();
    let got = generator.generate("caa", request(1, GREEDY), |_| ()).unwrap();
    assert_eq!((got.prompt, got.tokens), (5, vec![B]));
    for (prompt, length) in [("caaa", 6), ("caaaaa", 8)] {
        let error = generator.generate(prompt, request(1, GREEDY), |_| ()).unwrap_err();
        assert!(
            matches!(error, InferError::TooLong { tokens, limit: 5 } if tokens == length),
            "{error}"
        );
    }
}

#[test]
fn nothing_to_start_from_is_explained() {
    let file = r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}"#;
    let tokenizer = Tokenizer::from_bytes(file.as_bytes(), "json").unwrap();
    let mut generator = Generator::new(model(2, &[(0, 1), (1, 0)], 8), &tokenizer).unwrap();
    let error = generator.generate("", request(1, GREEDY), |_| ()).unwrap_err();
    assert!(matches!(error, InferError::Empty), "{error}");
    let got = generator.generate("a", request(3, GREEDY), |_| ()).unwrap();
    assert_eq!((got.prompt, got.tokens), (1, vec![1, 0, 1]));
}

#[test]
fn weights_that_give_no_numbers_are_explained() {
    let tokenizer = tokenizer();
    let decoder = model(VOCAB, &[], 16);
    decoder.parameters().update(|values| values.fill(f32::NAN));
    let mut generator = Generator::new(decoder, &tokenizer).unwrap();
    let error = generator.generate("a", request(1, GREEDY), |_| ()).unwrap_err();
    assert!(matches!(error, InferError::NotFinite { tokens: 3 }), "{error}");
}

#[test]
fn a_text_ends_at_the_tokens_that_the_caller_names() {
    let tokenizer = tokenizer();
    let next = [(A, B), (B, C), (C, D)];
    let generator = Generator::new(model(VOCAB, &next, 16), &tokenizer).unwrap();
    let got = generator.ending_at(&[D, C]).generate("a", request(5, GREEDY), |_| ()).unwrap();
    assert_eq!((got.tokens, got.finish), (vec![B], Finish::EndOfText));
}

/// A text that ends within a character (the first of the two bytes of é) shows that, and no piece is empty.
#[test]
fn what_is_left_of_a_character_comes_last() {
    let (first, second) = (3 + 0xC3, 3 + 0xA9);
    let tokenizer = tokenizer();
    let next = [(A, first), (first, second), (second, B)];
    let mut generator = Generator::new(model(VOCAB, &next, 16), &tokenizer).unwrap();
    for (most, want) in [(1, &["\u{fffd}"][..]), (2, &["\u{e9}"]), (3, &["\u{e9}", "b"]), (0, &[])]
    {
        let mut pieces: Vec<String> = vec![];
        generator.generate("a", request(most, GREEDY), |piece| pieces.push(piece.into())).unwrap();
        assert_eq!(pieces, want, "{most}");
    }
}

/// The time for the prompt and the time after it are parts of the whole.
#[test]
fn times_are_apart() {
    let tokenizer = tokenizer();
    let mut generator = Generator::new(model(VOCAB, &[], 128), &tokenizer).unwrap();
    let prompt = "a".repeat(120);
    let start = std::time::Instant::now();
    let got = generator.generate(&prompt, request(1, GREEDY), |_| ()).unwrap();
    let all = start.elapsed().as_secs_f64();
    assert!(got.prompt_seconds > 0.0 && got.seconds > 0.0, "{got:?}");
    assert!(got.prompt_seconds + got.seconds <= all, "{got:?} {all}");
}
