use super::*;
use crate::text::{Pattern, Split, TextRules};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// The vocabulary of one text by nanochat's rules.
fn learned(text: &str, merges: usize) -> Tokenizer {
    let mut learner = BpeLearner::new(LearnRules::Nanochat).unwrap();
    learner.read(&[text]).unwrap();
    learner.learn(LearnRules::Nanochat.least_vocab_size() + merges, &mut |_| {}).unwrap()
}

fn splitter(rules: LearnRules) -> TextRules {
    let pattern = Pattern::new(rules.pattern()).unwrap();
    TextRules { splits: vec![Split::Pattern(pattern)], ..TextRules::default() }
}

/// The merges by definition: every count is taken anew for each of them.
fn by_definition(rules: LearnRules, texts: &[&str], most: usize) -> Vec<Vec<u8>> {
    let mut tokens: Vec<Vec<u8>> = rules.bytes().into_iter().map(|byte| vec![byte]).collect();
    let id = |byte: u8| tokens.iter().position(|token| *token == [byte]).unwrap();
    let splitter = splitter(rules);
    let words = texts.iter().flat_map(|text| splitter.words(text).unwrap());
    let mut words: Vec<Vec<usize>> = words.map(|word| word.bytes().map(id).collect()).collect();
    while tokens.len() < 256 + most {
        let mut counts: BTreeMap<(usize, usize), i64> = BTreeMap::new();
        for pair in words.iter().flat_map(|word| word.windows(2)) {
            *counts.entry((pair[0], pair[1])).or_default() += 1;
        }
        // The last of the largest in descending order of pairs is the smallest pair.
        let best = counts.into_iter().rev().max_by_key(|&(_, count)| count);
        let Some(((left, right), count)) = best else { break };
        if count < rules.least_count() {
            break;
        }
        let joined = tokens.len();
        tokens.push([tokens[left].as_slice(), &tokens[right]].concat());
        for word in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if (word[at], word[at + 1]) == (left, right) {
                    word.splice(at..at + 2, [joined]);
                }
                at += 1;
            }
        }
    }
    tokens.split_off(256)
}

/// `karpathy/nanochat`, 92d63d4, by its own splitting pattern.
#[test]
fn nanochat_splits_as_the_original() {
    let text = "Hello  world!\n\n  I'M 12345 don't x=3.14;\t\ttab \r\n end   ";
    let expected = [
        "Hello", " ", " world", "!\n\n", " ", " I", "'M", " ", "12", "34", "5", " don", "'t", " x",
        "=", "3", ".", "14", ";", "\t", "\ttab", " \r\n", " end", "   ",
    ];
    assert_eq!(splitter(LearnRules::Nanochat).words(text).unwrap(), expected);
}

/// The vocabulary that `rustbpe` 0.1.0 learns from this text.
#[test]
fn ties_go_to_the_smallest_pair() {
    let text = "aaabdaaabac low lower lowest newest widest ".repeat(3);
    let expected = [
        "aa",
        " l",
        "es",
        "ow",
        " low",
        "est",
        "ab",
        "aaab",
        " n",
        " w",
        "ac",
        "dest",
        "daaab",
        "er",
        "ew",
        "idest",
        " lowest",
        " lower",
        "aaabdaaab",
        " new",
        " widest",
        "aaabdaaabac",
        " newest",
        " aaabdaaabac",
    ];
    // It runs out of pairs then.
    let tokenizer = learned(&text, 100);
    assert_eq!(tokenizer.vocab_size(), 256 + expected.len() + 9);
    for (name, id) in expected.iter().zip(256..) {
        assert_eq!(tokenizer.token_bytes(id), Some(name.as_bytes()), "{name}");
    }
}

#[test]
fn special_tokens_stand_behind_the_others() {
    let tokenizer = learned("low lower lowest", 4);
    let first = 256 + 4;
    assert_eq!(tokenizer.vocab_size(), first as usize + 9);
    for (name, id) in NANOCHAT_TOKENS.iter().zip(first..) {
        assert_eq!(tokenizer.special(name), Some(id), "{name}");
    }
    assert_eq!((tokenizer.bos(), tokenizer.prompt_bos()), (Some(first), Some(first)));
    for byte in 0..=255 {
        assert_eq!(tokenizer.token_bytes(byte.into()), Some(&[byte][..]));
    }
    // Special tokens in a text are text.
    assert!(tokenizer.encode("<|bos|>").unwrap().iter().all(|&id| id < first));
}

#[test]
fn what_is_too_little_is_refused() {
    let learner = || BpeLearner::new(LearnRules::Nanochat).unwrap();
    let error = learner().learn(300, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("the text is empty"), "{error}");
    let mut some = learner();
    some.read(&["text"]).unwrap();
    let error = some.learn(264, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("at least 265"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Few letters, so that pairs overlap and tie; texts in parts and on several threads.
    #[test]
    fn learning_follows_the_definition(
        texts in prop::collection::vec("[abé' 1\\n]{0,60}", 1..6),
        parts in 1..4_usize,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for rules in [LearnRules::Gpt2, LearnRules::Nanochat] {
            let mut learner = BpeLearner::new(rules).unwrap();
            for part in texts.chunks(parts) {
                learner.read(part).unwrap();
            }
            let size = rules.least_vocab_size() + 40;
            let Ok(tokenizer) = learner.learn(size, &mut |_| {}) else {
                prop_assert!(texts.iter().all(|text| text.is_empty()));
                continue;
            };
            let want = by_definition(rules, &texts, 40);
            prop_assert_eq!(tokenizer.vocab_size(), rules.least_vocab_size() + want.len());
            for (bytes, id) in want.iter().zip(256..) {
                prop_assert_eq!(tokenizer.token_bytes(id), Some(bytes.as_slice()));
            }
        }
    }
}
