//! Inputs on which other tools, or this one, went wrong. Right ids are those of tokenizers 0.23.3 and
//! SentencePiece 0.2.3.

use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;

use crate::open;

/// A `tokenizer.json` whose vocabulary is characters, numbered in their order, without merges.
fn characters(chars: &str, normalizer: Value, added: &[Value]) -> Value {
    let vocab: Map<String, Value> =
        chars.chars().zip(0_u32..).map(|(c, id)| (c.to_string(), id.into())).collect();
    json!({
        "added_tokens": added, "normalizer": normalizer, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}

fn added(id: u32, content: &str, normalized: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": normalized, "special": false,
    })
}

fn read(file: &Value) -> Tokenizer {
    open(file.to_string().as_bytes())
}

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ <>";

#[test]
fn a_normalised_token_is_found_in_normalised_text() {
    let lowercase = json!({"type": "Lowercase"});
    let tokenizer = read(&characters(LETTERS, lowercase, &[added(55, "Hello", true)]));
    for text in ["HELLO you", "hello you", "Hello you"] {
        assert_eq!(tokenizer.encode(text).unwrap(), [55, 52, 24, 14, 20], "{text}");
    }
    assert_eq!(tokenizer.special("Hello"), Some(55));
    assert_eq!(tokenizer.decode(&[55]), "Hello");
}

#[test]
fn a_token_that_is_not_normalised_is_found_as_it_is() {
    let lowercase = json!({"type": "Lowercase"});
    let tokenizer = read(&characters(LETTERS, lowercase, &[added(55, "Hello", false)]));
    assert_eq!(tokenizer.encode("Hello").unwrap(), [55]);
    assert_eq!(tokenizer.encode("HELLO").unwrap(), [7, 4, 11, 11, 14]);
}

/// The prefix goes before the token's name too, so only "▁<tool>" is the token.
#[test]
fn a_prepended_mark_goes_before_a_normalised_token() {
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]});
    let chars = "▁abcdefghijklmnopqrstuvwxyz<>";
    let tokenizer = read(&characters(chars, normalizer, &[added(29, "<tool>", true)]));
    assert_eq!(tokenizer.encode("a <tool> b").unwrap(), [0, 1, 29, 0, 2]);
    assert_eq!(tokenizer.encode("a<tool>b").unwrap(), [0, 1, 27, 20, 15, 15, 12, 28, 2]);
    assert_eq!(tokenizer.encode("<tool>").unwrap(), [29]);
    assert_eq!(tokenizer.encode("a  <tool>").unwrap(), [0, 1, 0, 29]);
}

/// Every sigma is σ (17): lower case is taken character by character.
#[test]
fn a_final_sigma_is_a_sigma() {
    let chars = "αβγδεζηθικλμνξοπρσςτυφχψω ";
    let tokenizer = read(&characters(chars, json!({"type": "Lowercase"}), &[]));
    assert_eq!(tokenizer.encode("ΚΟΣΜΟΣ").unwrap(), [9, 14, 17, 11, 14, 17]);
    assert_eq!(tokenizer.encode("ΣΑΣ ΣΑΣ").unwrap(), [17, 0, 17, 25, 17, 0, 17]);
}

/// A Qwen vocabulary: a separator of documents, and no BOS before a prompt.
fn without_bos() -> Value {
    let mut file = characters("abc", Value::Null, &[]);
    let marker = |id: u32, name: &str| json!({"id": id, "content": name, "normalized": false, "special": true});
    file["added_tokens"] = json!([marker(3, "<|endoftext|>"), marker(4, "<|im_end|>")]);
    file
}

#[test]
fn a_prompt_begins_with_bos_only_where_the_tokenizer_asks_for_it() {
    let plain = read(&without_bos());
    assert_eq!((plain.bos(), plain.prompt_bos()), (Some(3), None));
    let mut asking = without_bos();
    asking["post_processor"] = json!({"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]});
    assert_eq!(read(&asking).prompt_bos(), Some(3));
    asking["post_processor"] =
        json!({"type": "RobertaProcessing", "sep": ["<|im_end|>", 4], "cls": ["<|endoftext|>", 3]});
    assert_eq!(read(&asking).prompt_bos(), Some(3));
    // A template that only ends texts asks for none.
    asking["post_processor"] = json!({"type": "TemplateProcessing", "single": [
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}},
    ]});
    assert_eq!(read(&asking).prompt_bos(), None);
    assert_eq!((plain.eos(), read(&asking).eos()), (Some(3), Some(4)), "the template's is EOS");
}

/// `add_bos_token` outweighs the template, as in transformers; a saved file says the same.
#[test]
fn add_bos_token_decides() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut asking = without_bos();
    asking["post_processor"] = json!({"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]});
    for (file, add, want) in [
        (without_bos(), json!(true), Some(3)),
        (without_bos(), json!(false), None),
        (without_bos(), Value::Null, None),
        (asking.clone(), json!(true), Some(3)),
        (asking.clone(), json!(false), None),
        (asking, Value::Null, Some(3)),
    ] {
        std::fs::write(&path, file.to_string()).unwrap();
        let config = json!({"add_bos_token": add, "eos_token": "<|im_end|>"});
        std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let tokenizer = Tokenizer::load(&path).unwrap();
        assert_eq!(tokenizer.prompt_bos(), want, "{file} {config}");
        let again = open(tokenizer.to_json().unwrap().as_bytes());
        assert_eq!(again.prompt_bos(), want, "saved: {file} {config}");
        assert_eq!((again.bos(), again.eos()), (Some(3), Some(4)));
    }
}

#[test]
fn vocabularies_learned_here_and_llama2s_ask_for_bos() {
    let learned = Tokenizer::train_bpe(["some text"], 260, &mut |_| {}).unwrap();
    assert_eq!(learned.prompt_bos(), learned.bos());
    assert_eq!(open(&crate::llama2c_file(crate::PIECES)).prompt_bos(), Some(1));
    let model = open(&crate::golden("bpe_bytes.model"));
    assert_eq!(model.prompt_bos(), Some(1));
    assert_eq!(open(model.to_json().unwrap().as_bytes()).prompt_bos(), Some(1));
    assert_eq!(Tokenizer::train_char(["ab"]).unwrap().prompt_bos(), None);
}

/// Without a template or a note, BOS and EOS are known by their names; a separator is both.
#[test]
fn markers_are_known_by_name() {
    for (names, bos, eos) in [
        (&["<s>", "</s>"][..], Some(2), Some(3)),
        (&["<bos>", "<eos>"], Some(2), Some(3)),
        (&["<|begin_of_text|>", "<|end_of_text|>"], Some(2), Some(3)),
        (&["<|endoftext|>"], Some(2), Some(2)),
        (&["<|bos|>"], Some(2), Some(2)),
        (&["<|eos|>", "<|bos|>"], Some(3), Some(2)),
        (&["<s>"], Some(2), None),
        (&["</s>"], None, Some(2)),
        (&["<|endoftext|>", "</s>"], Some(2), Some(3)),
        (&["<pad>"], None, None),
    ] {
        let mut file = characters("ab", Value::Null, &[]);
        let added = names.iter().zip(2..).map(
            |(name, id)| json!({"id": id, "content": name, "normalized": false, "special": true}),
        );
        file["added_tokens"] = added.collect();
        let tokenizer = read(&file);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (bos, eos), "{names:?}");
        assert_eq!(tokenizer.prompt_bos(), None);
        assert_eq!(tokenizer.decode(&[2, 0, 1]), "ab", "a marker says nothing");
    }
}

/// An unknown character costs 10 more than the worst piece (SentencePiece's kUnkPenalty): `? bc` at
/// -25 - 1 wins against `ab c` at -15 - 15, and loses against it at -15 - 9.
#[test]
fn an_unknown_character_costs_ten_more_than_the_worst_piece() {
    for (c, want) in [(-15.0, [0, 2]), (-9.0, [1, 3])] {
        let vocab = json!([["<unk>", 0.0], ["ab", -15.0], ["bc", -1.0], ["c", c]]);
        let unigram = read(&json!({"model": {"type": "Unigram", "unk_id": 0, "vocab": vocab}}));
        assert_eq!(unigram.encode("abc").unwrap(), want, "{c}");
    }
}

/// `é` has no token but is a part of one: merged it is a part, left over it is its bytes. Tokens 3 to
/// 258 are bytes, and the space before the text has no token either.
#[test]
fn a_character_that_only_longer_pieces_have_falls_back_to_bytes() {
    let tokenizer = open(&crate::llama2c_file(&["a", "éa"]));
    let byte = |byte: u32| 3 + byte;
    assert_eq!(tokenizer.encode("éa").unwrap(), [byte(0x20), 260]);
    assert_eq!(tokenizer.encode("é").unwrap(), [byte(0x20), byte(0xC3), byte(0xA9)]);
    assert_eq!(tokenizer.encode("éé").unwrap()[1..], [byte(0xC3), byte(0xA9)].repeat(2));
}

/// As the decoders of tokenizers 0.23.3: a space that was never put before a text is not taken off.
#[test]
fn a_decoder_takes_off_only_the_space_that_was_put_there() {
    for (scheme, want) in [("never", " a b"), ("always", "a b"), ("first", "a b")] {
        let mut file = characters("▁ab", Value::Null, &[]);
        file["decoder"] =
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme});
        assert_eq!(read(&file).decode(&[0, 1, 0, 2]), want, "{scheme}");
    }
}
