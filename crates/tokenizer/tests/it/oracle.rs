//! Slow and plain versions of the algorithms, written from their definitions.

use proptest::prelude::*;
use tokenizer::Tokenizer;

use crate::{PIECES, llama2c_file, open};

/// llama2.c's `encode` without BOS and EOS: characters or their bytes, then the best-scored pair
/// first, the leftmost of equals.
fn llama2c_encode(pieces: &[&str], text: &str) -> Vec<u32> {
    let find = |s: &str| pieces.iter().position(|p| *p == s);
    let mut ids = vec![];
    for c in (if text.is_empty() { "" } else { " " }).chars().chain(text.chars()) {
        match find(&c.to_string()) {
            Some(i) => ids.push(259 + i),
            None => ids.extend(c.to_string().bytes().map(|b| 3 + usize::from(b))),
        }
    }
    loop {
        let name = |id: usize| id.checked_sub(259).map(|i| pieces[i]);
        let mut best: Option<(usize, usize)> = None;
        for i in 1..ids.len() {
            let (Some(a), Some(b)) = (name(ids[i - 1]), name(ids[i])) else { continue };
            // The score of piece i is -i, so the best is the first.
            if let Some(place) = find(&format!("{a}{b}"))
                && best.is_none_or(|(least, _)| place < least)
            {
                best = Some((place, i));
            }
        }
        let Some((place, i)) = best else { break };
        ids[i - 1] = 259 + place;
        ids.remove(i);
    }
    ids.into_iter().map(|id| id as u32).collect()
}

/// Byte pairs by recounting everything after every merge. Words are given.
fn learn_plainly(words: &[&str], merges: usize) -> Vec<Vec<u8>> {
    // Bytes rank as GPT-2 orders them; lower-case letters and the space do in this order.
    let rank = |b: u8| if b == b' ' { 1000 } else { u32::from(b) };
    let mut words: Vec<Vec<(u32, Vec<u8>)>> =
        words.iter().map(|w| w.bytes().map(|b| (rank(b), vec![b])).collect()).collect();
    let mut out = vec![];
    for next in (2000..).take(merges) {
        let mut counts: Vec<((u32, u32), usize)> = vec![];
        for pair in words.iter().flat_map(|w| w.windows(2)).map(|p| (p[0].0, p[1].0)) {
            match counts.iter_mut().find(|(p, _)| *p == pair) {
                Some((_, n)) => *n += 1,
                None => counts.push((pair, 1)),
            }
        }
        let best = counts.into_iter().max_by_key(|&(pair, n)| (n, std::cmp::Reverse(pair)));
        let Some((pair, _)) = best.filter(|&(_, n)| n >= 2) else { break };
        let mut joined = vec![];
        for word in &mut words {
            let mut i = 0;
            while i + 1 < word.len() {
                if (word[i].0, word[i + 1].0) == pair {
                    let right = word.remove(i + 1);
                    word[i].0 = next;
                    word[i].1.extend(right.1);
                    joined.clone_from(&word[i].1);
                }
                i += 1;
            }
        }
        out.push(joined);
    }
    out
}

proptest! {
    #![proptest_config(crate::no_files(256))]

    #[test]
    fn llama2c_semantics(text in "[ anbe=éx漢\\n]{0,150}") {
        let tokenizer = open(&llama2c_file(PIECES));
        prop_assert_eq!(tokenizer.encode(&text).unwrap(), llama2c_encode(PIECES, &text));
    }

    #[test]
    fn learning_follows_the_definition(words in prop::collection::vec("[a-d]{1,9}", 1..25)) {
        let text = words.join(" ");
        let split: Vec<String> =
            words.iter().enumerate().map(|(i, w)| format!("{}{w}", if i > 0 { " " } else { "" })).collect();
        let split: Vec<&str> = split.iter().map(String::as_str).collect();
        let want = learn_plainly(&split, 20);
        let tokenizer = Tokenizer::train_bpe([&text], 277, &mut |_| {}).unwrap();
        let got: Vec<Vec<u8>> = (256..tokenizer.vocab_size() as u32 - 1)
            .map(|id| tokenizer.token_bytes(id).unwrap().to_vec())
            .collect();
        prop_assert_eq!(got, want);
    }
}
