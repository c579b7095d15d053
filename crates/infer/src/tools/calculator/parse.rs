//! Reads an expression by recursive descent, and computes it on the way.
//!
//! ```text
//! sum     = product (('+' | '-') product)*
//! product = signed (('*' | '/' | '//') signed)*
//! signed  = ('+' | '-') signed | value
//! value   = number | text+ | '...' | '(' [sum] ')', then ('.' name '(' [sum] ')')*
//! ```

use super::number::{Number, Operation};
use super::text::Text;

/// The most signs and parentheses around each other. Python takes at most 200 parentheses.
const DEEPEST: usize = 64;

/// What an expression can be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(Number),
    Text(Text),
    /// `()`
    Nothing,
    /// `...`
    Ellipsis,
}

impl Value {
    /// Returns what Python's `str` returns; `None` for lists.
    pub(super) fn print(&self, whole_as_int: bool) -> Option<String> {
        Some(match self {
            Value::Number(number) => number.print(whole_as_int),
            Value::Text(Text::Str(text)) => text.clone(),
            Value::Text(Text::Count(count)) => count.to_string(),
            Value::Text(Text::List(_)) => return None,
            Value::Nothing => "()".to_owned(),
            Value::Ellipsis => "Ellipsis".to_owned(),
        })
    }

    fn number(self) -> Option<Number> {
        match self {
            Value::Number(number) => Some(number),
            Value::Text(Text::Count(count)) => Some(Number::Int(count.into())),
            _ => None,
        }
    }
}

/// Returns the value of an expression in ASCII; `None` if it is none, or has none.
pub(super) fn value(expression: &str) -> Option<Value> {
    let mut parser = Parser { rest: expression, depth: 0 };
    let value = parser.sum()?;
    parser.rest.trim_start_matches(' ').is_empty().then_some(value)
}

struct Parser<'e> {
    rest: &'e str,
    depth: usize,
}

impl<'e> Parser<'e> {
    fn sum(&mut self) -> Option<Value> {
        let mut left = self.product()?;
        loop {
            let operation = match () {
                () if self.takes("+") => Operation::Add,
                () if self.takes("-") => Operation::Subtract,
                () => return Some(left),
            };
            left = combined(left, operation, self.product()?)?;
        }
    }

    fn product(&mut self) -> Option<Value> {
        let mut left = self.signed()?;
        loop {
            let operation = match () {
                () if self.takes("*") => Operation::Multiply,
                () if self.takes("//") => Operation::FloorDivide,
                () if self.takes("/") => Operation::Divide,
                () => return Some(left),
            };
            left = combined(left, operation, self.signed()?)?;
        }
    }

    fn signed(&mut self) -> Option<Value> {
        let negative = match () {
            () if self.takes("-") => true,
            () if self.takes("+") => false,
            () => return self.value(),
        };
        let number = self.deeper(Parser::signed)?.number()?;
        Some(Value::Number(if negative { number.negated() } else { number }))
    }

    fn value(&mut self) -> Option<Value> {
        let mut value = self.atom()?;
        while self.takes(".") {
            self.skip();
            let name = self.run(|c| c.is_ascii_alphanumeric() || c == b'_');
            let argument = match self.takes("(").then(|| self.inside())?? {
                None => None,
                Some(Value::Text(Text::Str(text))) => Some(text),
                Some(_) => return None,
            };
            let Value::Text(text) = value else { return None };
            value = Value::Text(text.method(name, argument.as_deref())?);
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<Value> {
        if self.takes("(") {
            return Some(self.inside()?.unwrap_or(Value::Nothing));
        }
        if self.takes("...") {
            return Some(Value::Ellipsis);
        }
        match self.rest.bytes().next()? {
            b'\'' | b'"' => self.texts(),
            b'0'..=b'9' | b'.' => self.literal(),
            _ => None,
        }
    }

    /// What stands between an opening parenthesis, which was just taken, and its closing one.
    fn inside(&mut self) -> Option<Option<Value>> {
        if self.takes(")") {
            return Some(None);
        }
        let value = self.deeper(Parser::sum)?;
        self.takes(")").then_some(Some(value))
    }

    /// Digits, at most one point among them.
    fn literal(&mut self) -> Option<Value> {
        let text = self.rest;
        self.run(|c| c.is_ascii_digit());
        if let Some(fraction) = self.rest.strip_prefix('.') {
            self.rest = fraction;
            self.run(|c| c.is_ascii_digit());
        }
        let length = text.len() - self.rest.len();
        Number::literal(&text[..length]).map(Value::Number)
    }

    /// Literals of texts that stand beside each other are one text.
    fn texts(&mut self) -> Option<Value> {
        let mut all = String::new();
        loop {
            self.skip();
            let Some(quote @ ("'" | "\"")) = self.rest.get(..1) else { break };
            let triple = quote.repeat(3);
            let quote = if self.rest.starts_with(&triple) { &triple } else { quote };
            let (text, rest) = self.rest[quote.len()..].split_once(quote)?;
            all += text;
            self.rest = rest;
        }
        Some(Value::Text(Text::Str(all)))
    }

    /// Takes a token, after spaces; false if something else follows.
    fn takes(&mut self, token: &str) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    /// Takes the characters of a kind that follow.
    fn run(&mut self, kind: impl Fn(u8) -> bool) -> &'e str {
        let end = self.rest.bytes().position(|c| !kind(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Option<Value>) -> Option<Value> {
        self.depth += 1;
        let value = (self.depth <= DEEPEST).then(|| read(self))?;
        self.depth -= 1;
        value
    }
}

fn combined(left: Value, operation: Operation, right: Value) -> Option<Value> {
    left.number()?.with(operation, right.number()?).map(Value::Number)
}
