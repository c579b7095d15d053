//! Endless small stories for children, in English: the data that `train` uses when given none.
//!
//! Story `i` of a seed is a pure function of `(seed, i)`: any story can be made without making
//! those before it, on any machine, with the same bytes. A story follows one of sixteen plots
//! (something lost, food shared, a fear overcome, a lie told and mended, an animal helped,
//! something built, a contest, a storm, a newcomer, impatience, a promise, a quarrel, a present,
//! losing one's way, laziness, a treasure divided). Each plot is a small grammar: a cast (a hero
//! with traits, a friend of the other gender so that every pronoun has one possible owner, a
//! grown-up), a setting (home, a place near it, weather and time of day), plan variables chosen
//! together where they depend on each other (the wind took the hat, *so* it hangs in a tree),
//! several phrasings of every beat, beats that may be left out, dialogue, and an ending with a
//! moral that follows from what happened.
//!
//! The lessons of the stories, from easy to hard: spelling; the order of words; quotation marks
//! that close; "a" and "an"; which pronoun goes with which name; that the toy which was lost is the
//! one that is found; which remedy fits which trouble; which moral fits which plot.
//!
//! An example (story 3 of seed 0):
//!
//! > Once upon a time, there was a tiny bear named Bella. She was very proud. She loved to
//! > paint bright pictures. One rainy afternoon, Bella had a plan. "I will build the best hen
//! > house ever!" she said. "Two can build better than one," said Sunny the mouse. But Bella
//! > did not listen. She worked very fast and used only old boxes. At first it looked good. But
//! > then the rain made the boxes soft, and the hens got wet. Bella kicked the ground. She was
//! > angry and sad. Sunny came over and sat next to her. "We can try again," he said. This time
//! > they took good wood and a roof of straw. Sunny held, and Bella tied. In the evening it was
//! > ready. The rain came again, but the hens stayed warm and dry. "We did it!" they shouted.
//! > Bella had learned something: when you fall down, look why, and then try again.
//!
//! Stories have 80 to 200 words; the vocabulary has about a thousand distinct words.

mod lexicon;
mod plots_deed;
mod plots_heart;
mod scene;

use crate::text::Document;
use scene::{Rng, Scene};

/// The separator of stories in one text, as in the TinyStories data set.
pub const SEPARATOR: &str = "<|endoftext|>";

/// Words (separated by spaces) that a story has at least and at most.
pub const STORY_WORDS: std::ops::RangeInclusive<usize> = 80..=200;

type Plot = fn(&mut Scene);

const PLOTS: &[Plot] = &[
    plots_deed::lost,
    plots_heart::sharing,
    plots_deed::fear,
    plots_heart::lie,
    plots_deed::helped_animal,
    plots_deed::building,
    plots_deed::contest,
    plots_deed::storm,
    plots_heart::new_friend,
    plots_deed::impatience,
    plots_heart::promise,
    plots_heart::quarrel,
    plots_heart::gift,
    plots_deed::lost_way,
    plots_deed::lazy,
    plots_heart::treasure,
];

/// A story, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The story.
    pub text: String,
    /// What it is about.
    pub facts: Facts,
}

/// Who a story is about. A story need not say all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Name of the hero: "Bella".
    pub hero: String,
    /// What the hero is: "bear", "girl" or "boy".
    pub kind: String,
    /// What the hero is like: "proud".
    pub quality: String,
    /// Where the hero lives: "under an old oak tree".
    pub home: String,
}

/// The endless sequence of stories of one seed. Iterating yields stories 0, 1, 2, …
///
/// ```
/// let mut stories = data::synth::Stories::new(7);
/// assert_eq!(stories.next(), Some(stories.story(0)));
/// ```
#[derive(Debug, Clone)]
pub struct Stories {
    seed: u64,
    next: u64,
}

impl Stories {
    /// The stories of `seed`.
    pub fn new(seed: u64) -> Stories {
        Stories { seed, next: 0 }
    }

    /// Story number `index`, a single paragraph without a line break.
    pub fn story(&self, index: u64) -> String {
        self.told(index).text
    }

    /// Story number `index` with what it is about.
    pub fn told(&self, index: u64) -> Told {
        let mut rng = Rng::new(self.seed, index);
        loop {
            // A draft outside the promised length is dropped; the generator simply goes on with
            // the same stream, so the story is still a function of (seed, index).
            let plot = PLOTS[rng.below(PLOTS.len())];
            let mut scene = Scene::new(rng);
            plot(&mut scene);
            let facts = scene.facts();
            let (text, stream) = scene.finish();
            if STORY_WORDS.contains(&text.split(' ').count()) {
                return Told { text, facts };
            }
            rng = stream;
        }
    }

    /// Whole stories from story 0 on, with a line of [`SEPARATOR`] after each, until there are at
    /// least `n_bytes` bytes (so it may be up to one story longer).
    pub fn text(&self, n_bytes: usize) -> String {
        let mut text = String::with_capacity(n_bytes.saturating_add(2048).min(1 << 30));
        let mut index = 0;
        while text.len() < n_bytes {
            text.push_str(&self.story(index));
            text.push('\n');
            text.push_str(SEPARATOR);
            text.push('\n');
            index += 1;
        }
        text
    }

    /// The same stories as [`Stories::text`], as documents to tokenize. Never fails.
    pub fn documents(
        &self,
        n_bytes: usize,
    ) -> impl Iterator<Item = crate::Result<Document>> + use<> {
        let stories = Stories::new(self.seed);
        let mut done = 0;
        stories.map_while(move |text| {
            let begins = (done as u64) < n_bytes as u64;
            done += text.len() + SEPARATOR.len() + 2;
            begins.then_some(Ok(Document {
                text,
                begins,
                bytes_done: done as u64,
                ..Document::new("")
            }))
        })
    }
}

impl Iterator for Stories {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let story = self.story(self.next);
        self.next = self.next.wrapping_add(1);
        Some(story)
    }
}

#[cfg(test)]
mod tests;
