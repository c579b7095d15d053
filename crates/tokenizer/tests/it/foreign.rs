//! Formats of other projects, against what their own libraries give.

use proptest::prelude::*;
use tokenizer::{Tokenizer, TokenizerKind};

use crate::{PIECES, golden, golden_names, llama2c_file, open, real};

type Case = (String, bool, String, Vec<u32>, String);

fn cases() -> Vec<Case> {
    serde_json::from_slice(&golden("cases.json")).unwrap()
}

fn encode(tokenizer: &Tokenizer, special: bool, text: &str) -> Vec<u32> {
    match special {
        false => tokenizer.encode(text).unwrap(),
        true => tokenizer.encode_with_special(text).unwrap(),
    }
}

#[test]
fn ids_are_those_of_the_libraries() {
    let cases = cases();
    assert!(cases.len() > 200);
    for (name, special, text, want, _) in cases {
        let tokenizer = open(&golden(&name));
        let got = encode(&tokenizer, special, &text);
        assert_eq!(got, want, "{name} special={special} {text:?}");
    }
}

/// Where the vocabulary can say everything, and the file has a decoder. (What it cannot say is U+FFFD
/// here, and something else in each library.)
#[test]
fn texts_are_those_of_the_libraries() {
    let mut compared = 0;
    for (name, _, _, ids, want) in cases() {
        let by_hand = ["added_", "whole_words", "unknown_by_word", "bpe_spaces_defined"];
        if by_hand.iter().any(|prefix| name.starts_with(prefix)) || want.contains('⁇') {
            continue;
        }
        let tokenizer = open(&golden(&name));
        if tokenizer.kind() == TokenizerKind::HuggingFaceBpe && ids.contains(&0) {
            continue; // its unknown token
        }
        // SentencePiece drops all spaces before a text, of which two can only be marks.
        let got = tokenizer.decode(&ids);
        assert_eq!(got.trim_start_matches(' '), want.trim_start_matches(' '), "{name} {ids:?}");
        compared += 1;
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn saved_files_give_the_same_ids() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    for name in golden_names() {
        let tokenizer = open(&golden(&name));
        tokenizer.save(&path).unwrap();
        let again = Tokenizer::load(&path).unwrap();
        assert_eq!(again.describe(), tokenizer.describe(), "{name}");
        assert_eq!(again.to_json().unwrap(), tokenizer.to_json().unwrap(), "{name}");
        for (of, special, text, want, _) in cases().into_iter().filter(|c| c.0 == name) {
            assert_eq!(encode(&again, special, &text), want, "{of} {text:?}");
            let (a, b) = (again.decode(&want), tokenizer.decode(&want));
            assert_eq!(a, b, "{of} {text:?}");
        }
    }
}

/// Hugging Face's library ignores what we note for ourselves, and drops it when it saves.
#[test]
fn saved_files_give_the_same_ids_without_our_notes() {
    for name in golden_names().iter().filter(|name| name.ends_with(".model")) {
        let json = open(&golden(name)).to_json().unwrap();
        let mut file: serde_json::Value = serde_json::from_str(&json).unwrap();
        file["model"].as_object_mut().unwrap().remove("anegpt").unwrap();
        let again = open(file.to_string().as_bytes());
        for (_, special, text, want, _) in cases().into_iter().filter(|c| c.0 == *name) {
            // A unigram model there takes the name of a marker in a text for the marker.
            if name.starts_with("unigram") && text.contains("<s>") {
                continue;
            }
            assert_eq!(encode(&again, special, &text), want, "{name} {text:?}");
        }
    }
}

/// With these files `make.py` finds that Hugging Face's library gives SentencePiece's ids. Where what we
/// write changes, `BLESS=1` writes them again, and `make.py` checks them.
#[test]
fn saved_files_are_those_that_were_checked() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/saved");
    for name in ["bpe_user_defined", "bpe_spaces_defined", "bpe_unknown", "unigram_bytes"] {
        let json = open(&golden(&format!("{name}.model"))).to_json().unwrap();
        let path = dir.join(format!("{name}.json"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &json).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap() == json, "{}: differs", path.display());
    }
}

#[test]
fn llama2_vocabulary_in_both_forms() {
    let (Some(bin), Some(model)) = (real("tokenizer.bin"), real("tokenizer.model")) else { return };
    let (bin, model) = (open(&bin), open(&model));
    assert_eq!(bin.describe(), "llama2.c BPE, 32000 tokens, bos 1 <s>, eos 2 </s>");
    assert_eq!(model.describe(), "SentencePiece BPE, 32000 tokens, bos 1 <s>, eos 2 </s>");
    // SentencePiece 0.2.3 on these files: number of ids and their sum.
    for (name, count, sum) in [
        ("tinystories-sample.txt", 7761, TINYSTORIES_SUM),
        ("shakespeare.txt", 368_633, SHAKESPEARE_SUM),
    ] {
        let Some(text) = real(name) else { continue };
        let text = String::from_utf8(text).unwrap();
        let ids = model.encode(&text).unwrap();
        assert_eq!(ids.len(), count);
        assert_eq!(
            ids.iter().zip(1..).map(|(&id, i): (_, u64)| u64::from(id) * (i % 997)).sum::<u64>(),
            sum
        );
        assert!(ids == bin.encode(&text).unwrap(), "{name}: tokenizer.bin differs");
        assert!(model.decode(&ids) == text && bin.decode(&ids) == text, "{name}: decoding");
    }
    // Hugging Face documents these ids for Llama 2.
    assert_eq!(model.encode("Hello world").unwrap(), [15043, 3186]);
}

const TINYSTORIES_SUM: u64 = 27_372_484_985;
const SHAKESPEARE_SUM: u64 = 1_674_644_643_582;

#[test]
fn tok512_reads_as_llama2c_does() {
    let Some(bytes) = real("tok512.bin") else { return };
    let tokenizer = open(&bytes);
    assert_eq!((tokenizer.vocab_size(), tokenizer.kind()), (512, TokenizerKind::Llama2c));
    assert_eq!(tokenizer.token_bytes(259), Some(b" t".as_slice()));
    let again = open(tokenizer.to_json().unwrap().as_bytes());
    let text = "Once upon a time, Lily <s> 漢\u{2581}\n  x";
    assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap());
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()), text);
}

#[test]
fn a_prefix_of_a_llama2c_file_is_a_vocabulary() {
    let bytes = llama2c_file(PIECES);
    let short = Tokenizer::from_llama2c(&bytes, Some(262)).unwrap();
    assert_eq!(short.vocab_size(), 262);
    assert!(Tokenizer::from_llama2c(&bytes, Some(100)).is_err());
    assert!(Tokenizer::from_llama2c(&bytes, Some(1_000_000)).is_err());
}

#[test]
fn names_of_markers_are_text_unless_asked() {
    let tokenizer = open(&llama2c_file(PIECES));
    let ids = tokenizer.encode("a<s>").unwrap();
    assert!(!ids.contains(&1));
    assert_eq!(tokenizer.decode(&ids), "a<s>");
    assert!(tokenizer.encode_with_special("a<s>").unwrap().contains(&1));
    assert_eq!(tokenizer.special("</s>"), Some(2));
}

#[test]
fn a_config_beside_the_file_names_the_markers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    std::fs::write(&path, golden("llama2.json")).unwrap();
    let config = r#"{"bos_token": null, "eos_token": {"content": "<unk>"}}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let tokenizer = Tokenizer::load(&path).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(0)));
    let again = open(tokenizer.to_json().unwrap().as_bytes());
    assert_eq!((again.bos(), again.eos()), (Some(1), Some(0)));
}

#[test]
fn the_template_names_the_markers() {
    assert_eq!(open(&golden("llama3.json")).bos(), Some(0));
    let plain = open(&golden("gpt2.json"));
    assert_eq!((plain.bos(), plain.eos()), (None, None));
}

proptest! {
    #![proptest_config(crate::no_files(256))]

    #[test]
    fn byte_fallback_loses_nothing(text in "[ a-c=én漢\\n▁<>]{0,30}|.{0,20}") {
        let bin = open(&llama2c_file(PIECES));
        prop_assert_eq!(bin.decode(&bin.encode(&text).unwrap()), text.clone());
        let saved = open(bin.to_json().unwrap().as_bytes());
        prop_assert_eq!(bin.encode(&text).unwrap(), saved.encode(&text).unwrap());
        for name in ["gpt2.json", "llama3.json", "possessive.json"] {
            let tokenizer = open(&golden(name));
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()), text.clone());
        }
    }

    #[test]
    fn a_stream_says_what_decode_says(ids in prop::collection::vec(0..700_u32, 0..40)) {
        for name in ["bpe_bytes.model", "gpt2.json", "llama2.json"] {
            let tokenizer = open(&golden(name));
            let mut stream = tokenizer.stream();
            let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
            text += &stream.finish();
            prop_assert_eq!(text, tokenizer.decode(&ids));
        }
    }
}

#[test]
fn streams_wait_for_whole_characters() {
    let tokenizer = open(&llama2c_file(&["a"]));
    // U+1F642 is F0 9F 99 82; byte tokens start at 3.
    let mut stream = tokenizer.stream();
    assert_eq!(stream.push(3 + 0xF0), "");
    assert_eq!(stream.push(3 + 0x9F), "");
    assert_eq!(stream.push(3 + 0x99), "");
    assert_eq!(stream.push(3 + 0x82), "🙂");
    assert_eq!(stream.push(3 + 0xF0), "");
    assert_eq!(stream.push(259), "\u{FFFD}a");
    assert_eq!(stream.push(1), "");
    assert_eq!(stream.push(3 + 0xE6), "");
    assert_eq!(stream.finish(), "\u{FFFD}");
    assert_eq!(tokenizer.decode_bytes(9999), "\u{FFFD}".as_bytes());
    assert_eq!(tokenizer.token_bytes(9999), None);
}

#[test]
fn the_space_before_a_text_is_taken_off() {
    let tokenizer = open(&llama2c_file(PIECES));
    let ids = tokenizer.encode("a b").unwrap();
    assert_eq!(tokenizer.decode(&ids), "a b");
    let twice = [&[1], &ids[..], &[1], &ids[..]].concat();
    assert_eq!(tokenizer.decode(&twice), "a ba b");
    let mut stream = tokenizer.stream_after_text();
    assert_eq!(ids.iter().map(|&id| stream.push(id)).collect::<String>(), " a b");
}
