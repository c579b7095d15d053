//! Vocabularies made here.

use proptest::prelude::*;
use tokenizer::{BOS_NAME, Error, LearnProgress, Tokenizer, TokenizerKind};

use crate::{open, real};

const TEXT: &str = "She sells sea shells by the sea shore; the shells she sells are sea shells.\n\
                    If she sells sea shells on the sea shore, she'll sell 22 shells a day.\n";

fn bpe(vocab_size: usize) -> Tokenizer {
    Tokenizer::train_bpe([TEXT, TEXT], vocab_size, &mut |_| {}).unwrap()
}

#[test]
fn bytes_merges_and_the_separator() {
    let tokenizer = bpe(280);
    assert_eq!(tokenizer.vocab_size(), 280);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(279), Some(279)));
    assert_eq!(tokenizer.token_bytes(279), Some(BOS_NAME.as_bytes()));
    assert_eq!(tokenizer.kind(), TokenizerKind::ByteLevelBpe);
    let ids = tokenizer.encode(TEXT).unwrap();
    assert!(ids.len() * 3 < TEXT.len() * 2, "{} ids", ids.len());
    assert_eq!(tokenizer.decode(&ids), TEXT);
    assert!(!tokenizer.encode(BOS_NAME).unwrap().contains(&279));
    assert_eq!(tokenizer.encode_with_special(BOS_NAME).unwrap(), [279]);
}

#[test]
fn learning_ends_when_nothing_occurs_twice() {
    let tokenizer = Tokenizer::train_bpe(["abcdef"], 4096, &mut |_| {}).unwrap();
    assert_eq!(tokenizer.vocab_size(), 257);
    assert!(matches!(Tokenizer::train_bpe(["a"], 256, &mut |_| {}), Err(Error::Learn(_))));
    assert!(matches!(Tokenizer::train_bpe([""], 300, &mut |_| {}), Err(Error::Learn(_))));
    assert!(matches!(Tokenizer::train_char([""]), Err(Error::Learn(_))));
}

#[test]
fn learning_is_deterministic_and_reports_progress() {
    let mut steps = vec![];
    let tokenizer = Tokenizer::train_bpe([TEXT], 270, &mut |p| steps.push(p)).unwrap();
    assert_eq!(steps[0], LearnProgress::Reading { bytes: TEXT.len() as u64 });
    assert_eq!(steps.last(), Some(&LearnProgress::Merging { tokens: 270, wanted: 270 }));
    let again = Tokenizer::train_bpe([TEXT], 270, &mut |_| {}).unwrap();
    assert_eq!(tokenizer.to_json().unwrap(), again.to_json().unwrap());
    // A larger vocabulary extends a smaller one.
    let larger = Tokenizer::train_bpe([TEXT], 273, &mut |_| {}).unwrap();
    for id in 0..269 {
        assert_eq!(tokenizer.token_bytes(id), larger.token_bytes(id));
    }
}

#[test]
fn characters_as_nanogpt_counts_them() {
    let tokenizer = Tokenizer::train_char(["hello", "é\n"]).unwrap();
    assert_eq!(tokenizer.describe(), "characters, 6 tokens, no bos, no eos");
    assert_eq!(tokenizer.encode("é\nhello").unwrap(), [5, 0, 2, 1, 3, 3, 4]);
    let again = open(tokenizer.to_json().unwrap().as_bytes());
    assert_eq!((again.kind(), again.decode(&[5, 0, 2])), (TokenizerKind::Char, "é\nh".into()));
    let error = tokenizer.encode("heLlo").unwrap_err();
    assert!(matches!(error, Error::UnknownCharacter { character: 'L', at: 2 }), "{error}");
    let Some(text) = real("shakespeare.txt") else { return };
    let text = String::from_utf8(text).unwrap();
    let tokenizer = Tokenizer::train_char([&text]).unwrap();
    assert_eq!(tokenizer.vocab_size(), 65);
    // nanoGPT's table for this file: newline 0, space 1, '!' 2, ..., 'z' 64.
    assert_eq!(tokenizer.encode("\n !z").unwrap(), [0, 1, 2, 64]);
    assert_eq!(tokenizer.encode(&text).unwrap().len(), 1_115_394);
}

#[test]
fn saving_to_nowhere_says_where() {
    let error = bpe(260).save("/nonexistent/tokenizer.json").unwrap_err();
    assert!(error.to_string().contains("/nonexistent/tokenizer.json"), "{error}");
}

proptest! {
    #![proptest_config(crate::no_files(256))]

    #[test]
    fn text_survives(text in ".{0,60}|[ \\n\\t'a-z0-9]{0,60}") {
        let tokenizer = bpe(285);
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert!(ids.iter().all(|&id| id < 284));
        prop_assert_eq!(tokenizer.decode(&ids), text.clone());
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.decode_bytes(id)).collect();
        prop_assert_eq!(bytes, text.as_bytes());
    }
}
