//! Answers: as conversations, and in texts.

use crate::conversation::Conversation;
use tokenizer::chat::{Message, Role};

/// What a choice among four is answered with.
pub(crate) const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

impl Conversation {
    /// Returns a question with its answer.
    pub fn pair(question: &str, answer: &str) -> Self {
        let messages = [(Role::User, question), (Role::Assistant, answer)];
        Conversation { messages: messages.map(|(role, text)| Message::new(role, text)).into() }
    }

    /// Returns the text of the last message.
    pub fn answer(&self) -> String {
        self.messages.last().map(Message::text).unwrap_or_default()
    }

    /// Returns the messages before the last one.
    pub fn question(&self) -> &[Message] {
        self.messages.split_last().map_or(&[], |(_, before)| before)
    }
}

/// Returns the number that a text gives as its answer: what `#### (\-?[0-9\.\,]+)` finds first, without
/// commas. A point that ends the sentence stays, as in nanochat: `#### 5.` is not `5`.
///
/// ```
/// use tasks::final_number;
///
/// assert_eq!(final_number("2+3=5\n#### 1,005 apples").as_deref(), Some("1005"));
/// assert_eq!(final_number("#### 5.").as_deref(), Some("5."));
/// assert_eq!(final_number("####  5"), None);
/// ```
pub fn final_number(text: &str) -> Option<String> {
    const MARK: &str = "#### ";
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let number = &rest[at + MARK.len()..];
        let digits = number.strip_prefix('-').unwrap_or(number);
        let length = digits.bytes().take_while(|b| b.is_ascii_digit() || b".,".contains(b)).count();
        if length > 0 {
            let sign = number.len() - digits.len();
            return Some(number[..sign + length].replace(',', ""));
        }
        // The marks of `######## 5` overlap.
        rest = &rest[at + 1..];
    }
    None
}

/// Returns a question with options, as nanochat asks it: each letter stands directly behind its option, so
/// that it is the token that the answer is.
pub(crate) fn multiple_choice(question: &str, options: &[(String, String)]) -> String {
    let line = |(letter, option): &(String, String)| format!("- {option}={letter}\n");
    let lines: String = options.iter().map(line).collect();
    format!(
        "Multiple Choice question: {question}\n{lines}\nRespond only with the letter of the correct answer."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `re.search(r"#### (\-?[0-9\.\,]+)", text)` in Python.
    #[test]
    fn the_first_number_behind_marks_is_the_answer() {
        for (text, number) in [
            ("#### 5", Some("5")),
            ("#### -5", Some("-5")),
            ("#### --5", None),
            ("#### - 5 #### 7", Some("7")),
            ("#### 1,234,567", Some("1234567")),
            ("##### 5", Some("5")),
            ("#### #### 8", Some("8")),
            ("####5", None),
            ("####  5", None),
            ("###\u{a0}# 5", None),
            ("#### $5", None),
            ("#### 5.0.", Some("5.0.")),
            ("#### ,", Some("")),
            ("#### 3\n#### 4", Some("3")),
            ("#### ٣", None),
            ("", None),
        ] {
            assert_eq!(final_number(text).as_deref(), number, "{text}");
        }
    }

    #[test]
    fn options_stand_before_their_letters() {
        let options = [("A", "red"), ("B", "blue")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let text = "Multiple Choice question: Which?\n- red=A\n- blue=B\n\n\
                    Respond only with the letter of the correct answer.";
        assert_eq!(multiple_choice("Which?", &options), text);
    }
}
