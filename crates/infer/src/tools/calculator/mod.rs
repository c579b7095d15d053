//! The calculator: arithmetic and counting in texts, with the values and the formats of Python.
//!
//! It takes what nanochat's calculator takes. Commas are removed first. What is left is one of two kinds:
//!
//! - Arithmetic: digits, `+ - * / // . ( )` and spaces. Integers have any size; floats are f64.
//! - Texts: literals of letters and digits, and the methods `count`, `lower`, `upper`, `strip`, `lstrip`,
//!   `rstrip` and `split`; `.count(` must be among them.
//!
//! Everything else, and everything that Python refuses, has no result. Nothing is executed.

mod number;
mod parse;
mod text;

use super::Tool;

/// The longest expression, in bytes. Results are no longer than it, for there are no powers: so every
/// call takes microseconds.
const LONGEST: usize = 1000;

/// Words that an expression over texts may not have, as nanochat's filter lists them.
const REFUSED: [&str; 16] = [
    "__",
    "import",
    "exec",
    "eval",
    "compile",
    "open",
    "file",
    "input",
    "raw_input",
    "globals",
    "locals",
    "vars",
    "dir",
    "getattr",
    "setattr",
    "delattr",
];

/// Computes expressions as Python does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calculator {
    /// Write floats that are whole as integers: `10/2` is 5, as GSM8K's texts have it, and not 5.0.
    pub whole_as_int: bool,
}

impl Calculator {
    /// Returns the result of an expression as Python prints it; `None` if there is none.
    ///
    /// ```
    /// use infer::tools::Calculator;
    ///
    /// let calculator = Calculator::default();
    /// assert_eq!(calculator.compute("1,000*2").as_deref(), Some("2000"));
    /// assert_eq!(calculator.compute("'strawberry'.count('r')").as_deref(), Some("3"));
    /// assert_eq!(calculator.compute("1/0"), None);
    /// ```
    pub fn compute(&self, expression: &str) -> Option<String> {
        if expression.len() > LONGEST {
            return None;
        }
        let expression = expression.replace(',', "");
        let taken = is_arithmetic(&expression) || is_about_texts(&expression);
        let value = parse::value(taken.then_some(&expression)?)?;
        value.print(self.whole_as_int)
    }
}

impl Tool for Calculator {
    fn call(&self, input: &str) -> Option<String> {
        self.compute(input)
    }
}

fn is_arithmetic(expression: &str) -> bool {
    expression.bytes().all(|c| c.is_ascii_digit() || b"*+-/.() ".contains(&c))
        && !expression.contains("**")
}

fn is_about_texts(expression: &str) -> bool {
    let lower = expression.to_ascii_lowercase();
    expression.bytes().all(|c| c.is_ascii_alphanumeric() || b"'\"()._ ".contains(&c))
        && expression.contains(".count(")
        && !REFUSED.iter().any(|word| lower.contains(word))
        && !lower.contains("hasattr")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nanochat's calculator says, which evaluates in Python.
    const NANOCHAT: [(&str, Option<&str>); 43] = [
        ("12/60", Some("0.2")),
        ("0.2*50", Some("10.0")),
        ("10/2", Some("5.0")),
        ("7//2", Some("3")),
        ("-7//2", Some("-4")),
        ("2**3", None),
        ("1,000*2", Some("2000")),
        ("007", None),
        ("0.1+0.2", Some("0.30000000000000004")),
        ("5.", Some("5.0")),
        ("()", Some("()")),
        ("...", Some("Ellipsis")),
        ("1/0", None),
        ("20%5", None),
        ("-0.0", Some("-0.0")),
        ("99999999999*99999999999", Some("9999999999800000000001")),
        ("100*1.1", Some("110.00000000000001")),
        ("10000000000000000.0*10", Some("1e+17")),
        ("0.00001*1", Some("1e-05")),
        ("0.0001*1", Some("0.0001")),
        ("'strawberry'.count('r')", Some("3")),
        ("'abc'.count('')", Some("4")),
        ("'a,b'.count(',')", Some("3")),
        ("'direction'.count('i')", None),
        ("'Hello'.lower().count('l')", Some("2")),
        ("'x'.count('x',1)", None),
        (" 1 + 2 ", Some("3")),
        ("00", Some("0")),
        ("08.5", Some("8.5")),
        ("-7.5//2", Some("-4.0")),
        ("7//-2.0", Some("-4.0")),
        ("0/-5", Some("-0.0")),
        ("1//0.0", None),
        ("3 4", None),
        ("2(3)", None),
        ("1.2.3", None),
        ("", None),
        ("(1", None),
        ("'a' 'b'.count('b')", Some("1")),
        ("'aaa'.count('aa')", Some("1")),
        ("'''it is'''.count(\"i\")", Some("2")),
        ("'a b a'.split().count('a')", Some("2")),
        ("'a'.count(1)", None),
    ];

    #[test]
    fn agrees_with_nanochat() {
        for (expression, expected) in NANOCHAT {
            let got = Calculator::default().compute(expression);
            assert_eq!(got.as_deref(), expected, "{expression}");
        }
    }

    #[test]
    fn whole_floats_may_be_integers() {
        let calculator = Calculator { whole_as_int: true };
        for (expression, expected) in [
            ("10/2", "5"),
            ("-0.0", "0"),
            ("1/2", "0.5"),
            ("7*3", "21"),
            ("10000000000000000.0*10", "1e+17"),
        ] {
            assert_eq!(calculator.compute(expression).as_deref(), Some(expected));
        }
    }

    #[test]
    fn long_and_deep_expressions_end_soon() {
        let product = vec!["9".repeat(60); 16].join("*");
        assert_eq!(Calculator::default().compute(&product).unwrap().len(), 960);
        for expression in [
            "9".repeat(100_000),
            "(".repeat(900),
            "-".repeat(900) + "1",
            format!("{}.0*{}", "9".repeat(400), "9".repeat(400)),
        ] {
            assert_eq!(Calculator::default().compute(&expression), None);
        }
    }
}
