//! The teller: remembers who and what is in the story and writes one beat after another.

use super::Facts;
use super::lexicon::{self, Home};

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub(super) struct Rng(u64);

impl Rng {
    /// A stream of its own for every pair of seed and index.
    pub(super) fn new(seed: u64, index: u64) -> Rng {
        Rng(crate::mix::mix(seed ^ crate::mix::mix(index.wrapping_add(0x5851_f42d_4c95_7f2d))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(crate::mix::GOLDEN);
        crate::mix::finish(self.0)
    }

    /// Uniform in `0..n`; the bias of the multiply-shift is below 2^-32 for the lists used here.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// A story being told: its variables and the text so far.
pub(super) struct Scene {
    rng: Rng,
    vars: Vec<(&'static str, String)>,
    text: String,
    /// True if the hero is an animal (and so is the friend then).
    animal: bool,
}

impl Scene {
    /// Casts the story: hero `h`, friend `f` (of the other gender, so that pronouns stay clear),
    /// grown-up `g`, home and place, toy and food.
    pub(super) fn new(mut rng: Rng) -> Scene {
        let animal = rng.below(4) == 0;
        let mut s = Scene { rng, vars: Vec::new(), text: String::new(), animal };
        let she = s.rng.below(2) == 0;
        s.cast_hero(she);
        s.cast_friend(!she);
        let (grown_up, female) = s.pick(lexicon::GROWN_UPS);
        s.set("g", grown_up);
        s.set_pronouns(["ghe", "ghim", "ghis", "ghimself"], female);
        let homes: &'static [Home] =
            if animal { lexicon::ANIMAL_HOMES } else { lexicon::CHILD_HOMES };
        let home = &homes[s.rng.below(homes.len())];
        let (at, place) = s.pick(home.places);
        s.set("home", home.phrase);
        s.set("at", at);
        s.set("place", place);
        let (color, toy) = (s.pick(lexicon::COLORS), s.pick(lexicon::TOYS));
        s.set("color", color);
        s.set("toy", toy);
        let (food, foods, taste) = s.pick(lexicon::FOODS);
        s.set("food", food);
        s.set("foods", foods);
        s.set("taste", taste);
        s
    }

    fn cast_hero(&mut self, she: bool) {
        let (names, kind) = match (self.animal, she) {
            (false, true) => (lexicon::GIRLS, "girl"),
            (false, false) => (lexicon::BOYS, "boy"),
            (true, true) => (lexicon::SHE_ANIMALS, self.pick(lexicon::ANIMALS)),
            (true, false) => (lexicon::HE_ANIMALS, self.pick(lexicon::ANIMALS)),
        };
        let name = self.pick(names);
        self.set("h", name);
        self.set("kind", kind);
        self.set_pronouns(["he", "him", "his", "himself"], she);
    }

    fn cast_friend(&mut self, she: bool) {
        if self.animal {
            let name = self.pick(if she { lexicon::SHE_ANIMALS } else { lexicon::HE_ANIMALS });
            let hero_kind = self.get("kind").to_owned();
            let others: Vec<&'static str> =
                lexicon::ANIMALS.iter().copied().filter(|&kind| kind != hero_kind).collect();
            let kind = self.pick(&others);
            self.set("f", name);
            self.set("fkind", kind);
            self.set("ffull", &format!("{name} the {kind}"));
        } else {
            let name = self.pick(if she { lexicon::GIRLS } else { lexicon::BOYS });
            let full = format!("{} friend {name}", if she { "his" } else { "her" });
            self.set("f", name);
            self.set("fkind", if she { "girl" } else { "boy" });
            self.set("ffull", &full);
        }
        self.set_pronouns(["fhe", "fhim", "fhis", "fhimself"], she);
    }

    fn set_pronouns(&mut self, keys: [&'static str; 4], she: bool) {
        let words =
            if she { ["she", "her", "her", "herself"] } else { ["he", "him", "his", "himself"] };
        for (key, word) in keys.into_iter().zip(words) {
            self.set(key, word);
        }
    }

    /// Uniform choice.
    pub(super) fn pick<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.rng.below(options.len())]
    }

    /// True once in `n`.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.rng.below(n) == 0
    }

    /// Sets a variable; its value may use variables that are already set.
    pub(super) fn set(&mut self, key: &'static str, value: &str) {
        let value = self.expand(value);
        match self.vars.iter_mut().find(|(k, _)| *k == key) {
            Some(var) => var.1 = value,
            None => self.vars.push((key, value)),
        }
    }

    /// The value of a variable.
    pub(super) fn get(&self, key: &str) -> &str {
        self.vars.iter().find(|(k, _)| *k == key).map_or("", |(_, value)| value)
    }

    /// Replaces `{key}`, `{a key}` (with its article) and `{^key}` (with a capital letter).
    /// An unknown key stays as it is, where the tests find it.
    fn expand(&self, template: &str) -> String {
        let mut out = String::with_capacity(template.len() + 16);
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let Some((code, tail)) = after.split_once('}') else {
                out.push('{');
                rest = after;
                continue;
            };
            self.expand_code(code, &mut out);
            rest = tail;
        }
        out.push_str(rest);
        out
    }

    fn expand_code(&self, code: &str, out: &mut String) {
        let (capital, key) = match code.strip_prefix('^') {
            Some(key) => (true, key),
            None => (false, code),
        };
        let (article, key) = match key.strip_prefix("a ") {
            Some(key) => (true, key),
            None => (false, key),
        };
        let Some((_, value)) = self.vars.iter().find(|(k, _)| *k == key) else {
            out.push('{');
            out.push_str(code);
            out.push('}');
            return;
        };
        let phrase = if article { format!("{} {value}", article_of(value)) } else { value.clone() };
        let mut chars = phrase.chars();
        match chars.next() {
            Some(first) if capital => {
                out.extend(first.to_uppercase());
                out.push_str(chars.as_str());
            }
            _ => out.push_str(&phrase),
        }
    }

    /// One beat: one of several phrasings.
    pub(super) fn say(&mut self, phrasings: &[&str]) {
        let template = self.pick(phrasings);
        let sentence = self.expand(template);
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(&sentence);
    }

    /// A beat that is told in half of the stories.
    pub(super) fn maybe(&mut self, phrasings: &[&str]) {
        if self.one_in(2) {
            self.say(phrasings);
        }
    }

    /// Introduces the hero with one of the traits that suit the plot.
    pub(super) fn open(&mut self, traits: &[&'static str]) {
        let quality = self.pick(traits);
        self.set("trait", quality);
        let animal = self.animal;
        if animal {
            let look = self.pick(lexicon::ANIMAL_LOOKS);
            self.set("look", look);
            self.say(&[
                "Once upon a time, there was {a look} {kind} named {h}. {^he} was very {trait}.",
                "{^a look} {kind} named {h} lived {home}. {^he} was {trait} and full of ideas.",
                "There once was {a trait} {kind} named {h} who lived {home}.",
                "{^home}, there lived {a trait} {kind}. {^his} name was {h}.",
            ]);
        } else {
            self.say(&[
                "Once upon a time, there was {a trait} {kind} named {h}. {^he} lived {home}.",
                "{h} was {a trait} {kind} who lived {home}.",
                "There once was {a trait} little {kind} named {h}.",
                "In a house {home}, there lived {a trait} {kind}. {^his} name was {h}.",
                "{h} was a little {kind}. Everybody said that {he} was very {trait}.",
            ]);
        }
        if self.one_in(3) {
            let pastime = self.pick(lexicon::PASTIMES);
            self.set("pastime", pastime);
            self.say(&["{^he} loved to {pastime}.", "Most of all, {he} liked to {pastime}."]);
        }
    }

    /// Chooses the weather from `kinds` and the time of day; sets `{day}` to a phrase such as
    /// "One windy morning" and `{weather}` to the adjective.
    pub(super) fn day(&mut self, kinds: &[&'static str]) {
        let weather = self.pick(kinds);
        let time = self.pick(&["morning", "morning", "afternoon", "day"]);
        self.set("weather", weather);
        self.set("time", time);
        self.set("day", "One {weather} {time}");
        self.set("day2", "one {weather} {time}");
    }

    /// A sentence about the weather, in half of the stories.
    pub(super) fn maybe_weather(&mut self) {
        let weather = self.get("weather").to_owned();
        if let Some((_, views)) = lexicon::WEATHER.iter().find(|(name, _)| *name == weather) {
            self.maybe(views);
        }
    }

    /// What the story is about.
    pub(super) fn facts(&self) -> Facts {
        let fact = |key| self.get(key).to_owned();
        Facts { hero: fact("h"), kind: fact("kind"), quality: fact("trait"), home: fact("home") }
    }

    /// The finished story and the rest of its stream of random numbers.
    pub(super) fn finish(self) -> (String, Rng) {
        (self.text, self.rng)
    }
}

/// "an" before a vowel sound. The lexicon has one silent h and no "use"-like u.
fn article_of(phrase: &str) -> &'static str {
    if phrase.starts_with("honest") {
        return "an";
    }
    match phrase.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'a' | b'e' | b'i' | b'o' | b'u') => "an",
        _ => "a",
    }
}
