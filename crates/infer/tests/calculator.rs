//! The calculator beside Python, on expressions from a grammar and on damaged ones.

use infer::Calculator;
use std::io::Write;
use std::process::{Command, Stdio};

/// nanochat's rules in Python: a line of JSON for each line of JSON, the result or null. What is not asked of
/// the calculator, such as lists, is "odd".
const RULES: &str = r#"
import json, sys, warnings
warnings.simplefilter("ignore")
ARITHMETIC, TEXTS = "0123456789*+-/.() ", "'\"()._ "
REFUSED = ["__", "import", "exec", "eval", "compile", "open", "file", "input", "raw_input", "globals",
           "locals", "vars", "dir", "getattr", "setattr", "delattr", "hasattr"]
def result(expression):
    expression = expression.replace(",", "")
    if all(c in ARITHMETIC for c in expression):
        if "**" in expression:
            return None
    else:
        lower = expression.lower()
        if not all(c in TEXTS or c.isascii() and c.isalnum() for c in expression):
            return None
        if ".count(" not in expression or any(word in lower for word in REFUSED):
            return None
    try:
        value = eval(expression, {"__builtins__": {}}, {})
    except Exception:
        return None
    return str(value) if isinstance(value, (int, float, str, type(...))) or value == () else "odd"
for line in sys.stdin:
    print(json.dumps(result(json.loads(line))))
"#;

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn one<'s>(&mut self, of: &[&'s str]) -> &'s str {
        of[self.below(of.len() as u64) as usize]
    }

    fn digits(&mut self, most: u64) -> String {
        let count = 1 + self.below(most);
        let digits: String = (0..count).map(|_| (b'0' + self.below(10) as u8) as char).collect();
        let trimmed = digits.trim_start_matches('0');
        if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
    }

    fn number(&mut self) -> String {
        match self.below(12) {
            0 => self.digits(40),
            1 => format!("{}.", self.digits(4)),
            2 => format!(".{}", self.digits(4)),
            3 => format!("{}.{}", self.digits(20), self.digits(20)),
            4 => format!("0.{}{}", "0".repeat(self.below(9) as usize), self.digits(6)),
            5 => self.digits(320),
            6 => format!("{},{:03}", self.digits(2), self.below(1000)),
            7 | 8 => format!("{}.{}", self.digits(3), self.digits(2)),
            _ => self.digits(4),
        }
    }

    fn arithmetic(&mut self, depth: u64) -> String {
        let space = self.one(&["", "", "", " "]);
        match self.below(8) {
            0 | 1 if depth > 0 => format!("({space}{})", self.arithmetic(depth - 1)),
            2 if depth > 0 => {
                format!("{}{space}{}", self.one(&["-", "+"]), self.arithmetic(depth - 1))
            }
            3..=6 if depth > 0 => {
                let operator = self.one(&["+", "-", "*", "/", "//", "*", "/"]);
                let (a, b) = (self.arithmetic(depth - 1), self.arithmetic(depth - 1));
                format!("{a}{space}{operator}{space}{b}")
            }
            _ => self.number(),
        }
    }

    fn literal(&mut self) -> String {
        let quote = self.one(&["'", "\"", "'''"]);
        let letters: String = (0..self.below(9))
            .map(|_| self.one(&["a", "b", "A", "r", " ", "7", ".", "("]))
            .collect();
        format!("{quote}{letters}{quote}")
    }

    fn texts(&mut self) -> String {
        let mut text = self.literal();
        for _ in 0..self.below(3) {
            let method = self.one(&["lower", "upper", "strip", "lstrip", "rstrip", "split"]);
            let argument = if self.below(4) == 0 { self.literal() } else { String::new() };
            text += &format!(".{method}({argument})");
        }
        if self.below(8) == 0 {
            text = format!("({text})");
        }
        let argument = self.literal();
        let more = if self.below(5) == 0 { ".lower()" } else { "" };
        format!("{text}.count({argument}{more})")
    }

    /// The same with a character left out, put twice, or another.
    fn damaged(&mut self, mut text: String) -> String {
        let at = self.below(text.len() as u64) as usize;
        match self.below(3) {
            0 => drop(text.remove(at)),
            1 => text.insert(at, text.as_bytes()[at] as char),
            _ => text.insert_str(at, self.one(&["(", ")", ".", "-", "/", "0", "*", " ", "'", "5"])),
        }
        text
    }
}

/// What Python says of each; `None` (and a message) without it.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn python(expressions: &[String]) -> Option<Vec<Option<String>>> {
    let python = std::env::var_os("ANEGPT_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command.args(["-c", RULES]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: there is no python3");
        return None;
    };
    let quoted = |text: &String| format!("\"{}\"\n", text.replace('"', "\\\""));
    let lines: String = expressions.iter().map(quoted).collect();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let read = |line: &str| match line {
        "null" => None,
        line => Some(line.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned()),
    };
    Some(text.lines().map(read).collect())
}

/// A result is Python's. Where there is none, Python has none either, but for oddities: damaged expressions
/// that are still some expression.
#[test]
fn agrees_with_python() {
    let mut random = Random(1);
    let mut expressions: Vec<String> = (0..6000)
        .map(|i| if i % 3 == 0 { random.texts() } else { random.arithmetic(3) })
        .filter(|text| text.len() <= 1000)
        .collect();
    let whole = expressions.len();
    for i in 0..whole {
        let text = random.damaged(expressions[i].clone());
        expressions.push(text);
    }
    let Some(expected) = python(&expressions) else { return };
    let (mut results, mut odd) = (0, 0);
    for (i, (expression, expected)) in expressions.iter().zip(&expected).enumerate() {
        let got = Calculator::default().compute(expression);
        match (&got, expected) {
            (Some(_), _) => assert_eq!(&got, expected, "{expression}"),
            (None, None) => {}
            (None, Some(odd)) if odd == "odd" => {}
            (None, Some(value)) => {
                assert!(i >= whole, "{expression} is {value} in Python");
                odd += 1;
            }
        }
        results += usize::from(got.is_some());
    }
    assert!(results > whole / 2, "{results} results of {whole}");
    assert!(odd < whole / 50, "{odd} oddities");
}
