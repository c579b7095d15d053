//! Tokens of MIL text, found one at a time so that a text costs no memory before it is understood.

use crate::diagnostic::Span;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// `[A-Za-z_][A-Za-z0-9_@.]*`
    Name,
    /// Everything that starts like a number; its form is checked where its type is known.
    Number,
    /// `"…"`, quotes included, escapes as written.
    Text,
    /// One of `( ) [ ] { } < > , ; =`.
    Mark(u8),
    /// `->`
    Arrow,
    /// End of the text.
    End,
    /// A quote that is not closed on its line.
    Unclosed,
    /// A character that no token starts with.
    Stray,
}

/// A position in the text from which tokens are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

/// Where the comments of a text are, in order.
pub(super) fn comments(text: &str) -> Vec<Span> {
    let mut lexer = Lexer::new(text);
    let mut comments = vec![];
    loop {
        lexer.skip(|span| comments.push(span));
        if lexer.token() == Token::End {
            return comments;
        }
    }
}

/// True if `c` may start a name.
fn starts_name(c: u8) -> bool {
    c.is_ascii_alphabetic() || c == b'_'
}

/// True if `c` may continue a name.
fn continues_name(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'@' | b'.')
}

/// True if `name` can be written as a name in a text.
pub(crate) fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|&c| starts_name(c)) && bytes.iter().all(|&c| continues_name(c))
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        // Editors on some systems open a file with a byte order mark.
        Lexer { text, at: if text.starts_with('\u{feff}') { 3 } else { 0 } }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_while(&mut self, mut holds: impl FnMut(u8) -> bool) {
        while self.at < self.text.len() && holds(self.peek(0)) {
            self.at += 1;
        }
    }

    /// Goes to the next token; `comment` is told where each comment on the way is.
    fn skip(&mut self, mut comment: impl FnMut(Span)) {
        loop {
            self.skip_while(|c| c.is_ascii_whitespace());
            if self.peek(0) != b'/' || self.peek(1) != b'/' {
                break;
            }
            let start = self.at;
            self.skip_while(|c| c != b'\n');
            comment(Span { start, end: self.at });
        }
    }

    /// The next token and where it is.
    pub(super) fn next(&mut self) -> (Token, Span) {
        self.skip(|_| {});
        let start = self.at;
        let token = self.token();
        (token, Span { start, end: self.at })
    }

    fn token(&mut self) -> Token {
        if self.at == self.text.len() {
            return Token::End;
        }
        let c = self.peek(0);
        match c {
            _ if starts_name(c) => {
                self.skip_while(continues_name);
                Token::Name
            }
            b'-' if self.peek(1) == b'>' => {
                self.at += 2;
                Token::Arrow
            }
            b'0'..=b'9' | b'-' | b'+' | b'.' => self.number(),
            b'"' => self.quoted(),
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b',' | b';' | b'=' => {
                self.at += 1;
                Token::Mark(c)
            }
            _ => {
                let wide = self.text[self.at..].chars().next().map_or(1, char::len_utf8);
                self.at += wide;
                Token::Stray
            }
        }
    }

    fn number(&mut self) -> Token {
        self.at += 1;
        let signed = matches!(self.text.as_bytes()[self.at - 1], b'-' | b'+');
        let digits = self.at - usize::from(!signed);
        let hex =
            self.text.as_bytes()[digits..].get(..2).is_some_and(|p| matches!(p, b"0x" | b"0X"));
        let mut last = 0;
        self.skip_while(|c| {
            let exponent =
                if hex { matches!(last, b'p' | b'P') } else { matches!(last, b'e' | b'E') };
            last = c;
            c.is_ascii_alphanumeric()
                || matches!(c, b'.' | b'_')
                || exponent && matches!(c, b'-' | b'+')
        });
        Token::Number
    }

    fn quoted(&mut self) -> Token {
        self.at += 1;
        let mut escaped = false;
        self.skip_while(|c| {
            let goes_on = c != b'\n' && (escaped || c != b'"');
            escaped = c == b'\\' && !escaped;
            goes_on
        });
        if self.peek(0) != b'"' {
            return Token::Unclosed;
        }
        self.at += 1;
        Token::Text
    }
}
