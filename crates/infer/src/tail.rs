//! The end of a text that is not certain yet.

use std::ops::Deref;
use tokenizer::{Stream, Tokenizer};

/// Turns tokens into text, and holds back what may be the beginning of a stop string.
#[derive(Debug)]
pub(crate) struct Tail<T> {
    stream: Stream<T>,
    stops: Vec<String>,
    held: String,
}

impl<T: Deref<Target = Tokenizer> + Clone> Tail<T> {
    /// The end of a text whose tokens `stream` decodes.
    pub(crate) fn new(stream: Stream<T>, stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Tail { stream, stops, held: String::new() }
    }

    /// Takes the next token. Returns the text that is certain, and true if it ends before a stop string.
    ///
    /// Of several stop strings, the one that is complete first counts, so that it does not matter which
    /// characters come as one token.
    pub(crate) fn push(&mut self, id: u32) -> (String, bool) {
        self.held += &self.stream.push(id);
        let found = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        if let Some((_, start)) = found.min() {
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let certain = self.held.len() - self.uncertain();
        let rest = self.held.split_off(certain);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Takes the next token where no stop string counts. Returns the text that it completes.
    pub(crate) fn pass(&mut self, id: u32) -> String {
        self.stream.push(id)
    }

    /// Ends a part of the text: what was held back. The next part begins anew, behind it.
    pub(crate) fn cut(&mut self) -> String {
        std::mem::take(&mut self.held) + &self.stream.cut()
    }

    /// Length of the longest end of the text with which a stop string begins.
    fn uncertain(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let starts = self.held.char_indices().map(|(at, _)| &self.held[at..]);
        let mut ends = starts.filter(|end| end.len() < longest);
        let begins = |end: &&str| self.stops.iter().any(|stop| stop.starts_with(end));
        ends.find(begins).map_or(0, str::len)
    }

    /// Ends the text: what was held back. Bytes that never became a character turn into U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held) + &self.stream.clone().finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Tokens are the letters of "abcd ", 0 to 4.
    fn tail(stops: &[&str]) -> Tail<Arc<Tokenizer>> {
        let tokenizer = Tokenizer::train_char(["abcd "]).unwrap();
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        Tail::new(Stream::new(Arc::new(tokenizer), true), &stops)
    }

    /// The pieces of a text, and the rest, "!" where it ends before a stop string.
    fn pieces(stops: &[&str], text: &str) -> Vec<String> {
        let tokenizer = Tokenizer::train_char(["abcd "]).unwrap();
        let (mut tail, mut all) = (tail(stops), vec![]);
        for token in tokenizer.encode(text).unwrap() {
            let (piece, stopped) = tail.push(token);
            all.push(piece);
            if stopped {
                all.push("!".to_owned());
                return all;
            }
        }
        all.push(tail.finish());
        all
    }

    #[test]
    fn what_may_become_a_stop_string_is_held_back() {
        assert_eq!(pieces(&[], "abc"), ["a", "b", "c", ""]);
        assert_eq!(pieces(&["bcd"], "abcab"), ["a", "", "", "bca", "", "b"]);
        assert_eq!(pieces(&["bcd"], "abcd"), ["a", "", "", "", "!"]);
        assert_eq!(pieces(&["bcd"], "bbcd"), ["", "b", "", "", "!"]);
        assert_eq!(pieces(&["aab"], "aaab"), ["", "", "a", "", "!"]);
        assert_eq!(pieces(&["a"], "bab"), ["b", "", "!"]);
        assert_eq!(pieces(&[""], "ab"), ["a", "b", ""]);
    }

    /// "bc" is complete before "abcd", "abc" and "bc" together: the longer one counts.
    #[test]
    fn the_stop_string_that_is_complete_first_counts() {
        assert_eq!(pieces(&["abcd", "bc"], "abcd"), ["", "", "a", "!"]);
        assert_eq!(pieces(&["bc", "abc"], "abc"), ["", "", "", "!"]);
    }
}
