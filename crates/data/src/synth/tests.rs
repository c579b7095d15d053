use super::{PLOTS, Rng, STORY_WORDS, Scene, Stories};
use crate::tokens::sha256_hex;
use std::collections::{BTreeMap, BTreeSet};

/// Lower-case words without punctuation.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphabetic() && c != '\'')
        .map(|w| w.trim_matches('\'').to_ascii_lowercase())
        .filter(|w| !w.is_empty())
}

fn sample(n: u64) -> Vec<String> {
    let stories = Stories::new(1);
    (0..n).map(|i| stories.story(i)).collect()
}

/// The bytes are part of the contract: a run is reproducible only if its data is.
/// Whoever edits the prose updates this hash and says so in the change log.
#[test]
fn first_stories_are_pinned() {
    let text: String = Stories::new(0).take(100).collect();
    assert_eq!(
        sha256_hex(text.as_bytes()),
        "feaaa1730f73a4c21c4f55ff59127326147f1948b240fcf6538fa8b6e677de38"
    );
}

#[test]
fn any_story_is_reached_directly_and_depends_on_seed_and_index() {
    let stories = Stories::new(5);
    let in_order: Vec<String> = stories.clone().take(50).collect();
    for (i, story) in in_order.iter().enumerate().rev() {
        assert_eq!(&stories.story(i as u64), story);
    }
    assert_ne!(Stories::new(6).story(0), in_order[0]);
    assert_eq!(stories.story(u64::MAX), Stories::new(5).story(u64::MAX));
}

#[test]
fn ten_thousand_stories_hardly_repeat() {
    let stories = sample(10_000);
    let distinct: BTreeSet<&String> = stories.iter().collect();
    assert!(stories.len() - distinct.len() <= 2, "{} of 10000 distinct", distinct.len());
}

#[test]
fn prose_is_clean() {
    for (i, story) in sample(10_000).iter().enumerate() {
        let check = |ok: bool, what: &str| assert!(ok, "story {i}: {what}\n{story}");
        check(!story.contains(['{', '}', '\n', '_']), "template leftover");
        check(!story.contains("  ") && story.trim() == story, "spacing");
        for wrong in ["..", "!.", "?.", ",.", " ,", " .", "\"\"", ". and ", "his his ", "?\" \"\""]
        {
            check(!story.contains(wrong), wrong);
        }
        check(story.is_ascii(), "ascii");
        check(story.ends_with(['.', '"']), "end");
        check(STORY_WORDS.contains(&story.split(' ').count()), "length");
        check(quotes_balance(story), "quotes");
        check(articles_agree(story), "articles");
        check(sentences_are_capitalized(story), "capitals");
    }
}

/// Quotation marks open after a space (or at the start) and close before a space (or at the end).
fn quotes_balance(story: &str) -> bool {
    let bytes = story.as_bytes();
    let mut open = false;
    for (i, _) in story.match_indices('"') {
        let space_before = i == 0 || bytes[i - 1] == b' ';
        let space_after = i + 1 == bytes.len() || bytes[i + 1] == b' ';
        let fits = if open { space_after && !space_before } else { space_before && !space_after };
        if !fits {
            return false;
        }
        open = !open;
    }
    !open
}

fn articles_agree(story: &str) -> bool {
    let words: Vec<String> = words(story).collect();
    words.windows(2).all(|pair| {
        let vowel = pair[1].starts_with(['a', 'e', 'i', 'o', 'u'])
            || pair[1] == "honest"
            || pair[1] == "hour";
        match pair[0].as_str() {
            "a" => !vowel,
            "an" => vowel,
            _ => true,
        }
    })
}

fn sentences_are_capitalized(story: &str) -> bool {
    let start = story.trim_start_matches('"').starts_with(|c: char| c.is_ascii_uppercase());
    // After a quotation that ends in "!" or "?" the sentence may go on: "…?" asked Lily.
    start
        && story.match_indices(". ").all(|(i, _)| {
            story[i + 2..].trim_start_matches('"').starts_with(|c: char| c.is_ascii_uppercase())
        })
}

/// The hero is introduced in the first two sentences, spoken of by the right pronoun, and named
/// in the ending.
#[test]
fn the_hero_reaches_the_ending() {
    let mut rng_index = 0;
    for plot in PLOTS {
        let mut spoken_of = 0;
        for _ in 0..300 {
            rng_index += 1;
            let mut scene = Scene::new(Rng::new(9, rng_index));
            plot(&mut scene);
            let hero = scene.get("h").to_owned();
            let she = scene.get("he") == "she";
            let (story, _) = scene.finish();
            let sentences: Vec<&str> = story.split_inclusive(['.', '!', '?']).collect();
            let opening = sentences[0];
            let ending = sentences[sentences.len().saturating_sub(5)..].concat();
            assert!(
                words(opening).chain(words(sentences[1])).any(|w| w == hero.to_lowercase()),
                "{story}"
            );
            assert!(
                words(&ending).any(|w| w == hero.to_lowercase()),
                "no {hero} at the end: {story}"
            );
            let pronouns = if she { ["she", "her"] } else { ["he", "his"] };
            spoken_of += u32::from(words(&story).any(|w| pronouns.contains(&w.as_str())));
        }
        // A few drafts use the name throughout.
        assert!(spoken_of > 240, "{spoken_of} of 300 stories use the right pronoun");
    }
}

/// The thing lost is the thing found: the colored thing of the opening is named again at the
/// finding.
#[test]
fn the_lost_thing_is_the_found_thing() {
    for i in 0..500 {
        let mut scene = Scene::new(Rng::new(3, i));
        super::plots_deed::lost(&mut scene);
        let (color, thing) = (scene.get("color").to_owned(), scene.get("thing").to_owned());
        let spot = scene.get("spot").to_owned();
        let (story, _) = scene.finish();
        assert!(story.contains(&format!("{color} {thing}")), "{story}");
        assert!(story.matches(&thing).count() >= 3 && story.contains(&spot), "{story}");
        assert_eq!(story.contains(" blew "), spot.contains("tree"), "{story}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "the figures are wanted in the test's output")]
fn vocabulary_and_entropy() {
    let stories = sample(10_000);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for story in &stories {
        for word in words(story) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let total: u64 = counts.values().sum();
    let entropy: f64 = counts.values().map(|&c| c as f64 / total as f64).map(|p| -p * p.ln()).sum();
    eprintln!(
        "{} distinct words, {:.1} words per story, unigram entropy {entropy:.3} nats per word",
        counts.len(),
        total as f64 / stories.len() as f64
    );
    assert!((600..=1400).contains(&counts.len()), "{} distinct words", counts.len());
    assert!(entropy > 5.0, "{entropy}");
}

#[test]
fn text_is_whole_stories_with_separators() {
    let stories = Stories::new(2);
    let text = stories.text(5_000);
    assert!(text.len() >= 5_000 && text.len() < 5_000 + 1_500);
    let parts: Vec<&str> = text.split("\n<|endoftext|>\n").collect();
    assert_eq!(parts.last(), Some(&""));
    for (i, part) in parts[..parts.len() - 1].iter().enumerate() {
        assert_eq!(*part, stories.story(i as u64));
    }
    assert_eq!(stories.text(0), "");
}

/// The story quoted in the module's documentation is the real one.
#[test]
fn the_example_in_the_documentation_is_real() {
    let doc = include_str!("mod.rs");
    let quoted: Vec<&str> = doc.lines().filter_map(|line| line.strip_prefix("//! > ")).collect();
    assert_eq!(quoted.join(" "), Stories::new(0).story(3));
}

/// Nobody speaks or acts before being introduced: the first mention of the friend says who it is.
#[test]
fn the_friend_is_introduced() {
    let mut index = 0;
    for plot in PLOTS {
        for _ in 0..300 {
            index += 1;
            let mut scene = Scene::new(Rng::new(11, index));
            plot(&mut scene);
            let (friend, kind) = (scene.get("f").to_owned(), scene.get("fkind").to_owned());
            let (story, _) = scene.finish();
            let Some(at) = story.find(&friend) else { continue };
            let (before, after) = story.split_at(at);
            let introduced = before.ends_with("friend ")
                || after.starts_with(&format!("{friend} the {kind}"))
                || before.ends_with("was named ")
                || before.contains(&format!("a new {kind} "));
            assert!(introduced, "{friend}: {story}");
        }
    }
}
