//! Python as a tool of a model: what the calculator does not compute is run as a program.

use infer::{Calculator, Tool};
use serde_json::json;
use tasks::{Ended, Python};

/// Runs a program and, as a Python prompt does, prints the value of an expression at its end.
const PROMPT: &str = include_str!("python_tool.py");
/// Most characters of a result.
const LONGEST: usize = 1000;

/// Answers calls: with the calculator where it can, else by a program in a process with limits
/// (see [`tasks::Python`]).
#[derive(Debug)]
pub(crate) struct PythonTool {
    pub(crate) calculator: Calculator,
    pub(crate) python: Python,
}

impl Tool for PythonTool {
    /// Returns what a program prints, then the last line of its error if it fails; `None` if both are empty.
    fn call(&self, input: &str) -> Option<String> {
        if let Some(result) = self.calculator.call(input) {
            return Some(result);
        }
        // A string of JSON is one of Python.
        let program = PROMPT.replace("SOURCE", &json!(input).to_string());
        let (ended, printed) = match self.python.output(&program) {
            Ok(found) => found,
            Err(error) => (Ended::Failed(error.to_string()), String::new()),
        };
        let error = match ended {
            Ended::Passed => String::new(),
            Ended::Failed(reason) => reason,
            Ended::TimedOut => format!("TimeoutError: stopped after {} seconds", Python::SECONDS),
        };
        let result = joined(&printed, &error);
        (!result.is_empty()).then_some(result)
    }
}

/// Joins what was printed and an error on a line of its own, of which the error is kept where both are too long.
fn joined(printed: &str, error: &str) -> String {
    let error: String = error.trim_end().chars().take(LONGEST).collect();
    let room = (LONGEST - error.chars().count()).saturating_sub(usize::from(!error.is_empty()));
    let printed: String = printed.trim_end().chars().take(room).collect();
    let parts = [printed.trim_end(), &error];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn calls_are_computed_or_run() {
        let python = Python::find().expect("the tests need python3");
        let tool = PythonTool { calculator: Calculator::default(), python };
        for (call, expected) in [
            // The calculator's formats stay.
            ("10/2", Some("5.0")),
            ("'banana'.count('a')", Some("3")),
            ("sum(i * i for i in range(10))", Some("285")),
            ("x = 3\nfor i in range(2):\n    x *= x\nx", Some("81")),
            ("print('a')\nprint('b \\\" ä')", Some("a\nb \" ä")),
            ("def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nf(20)", Some("6765")),
            ("x = 1", None),
            ("print(1)\n1 / 0", Some("1\nZeroDivisionError: division by zero")),
            ("print('a', end='')\n1 / 0", Some("a\nZeroDivisionError: division by zero")),
            ("no such thing", Some("SyntaxError: invalid syntax")),
        ] {
            assert_eq!(tool.call(call).as_deref(), expected, "{call}");
        }
        assert_eq!(tool.call("'ab' * 5000").unwrap().len(), LONGEST);
        let long = tool.call("print('ab' * 5000)\n1 / 0").unwrap();
        assert!(long.len() == LONGEST && long.ends_with("b\nZeroDivisionError: division by zero"));
        let network = tool.call("import socket\nsocket.create_connection(('127.0.0.1', 9), 1)");
        assert!(network.unwrap().contains("Error"));
    }

    #[test]
    fn a_program_that_loops_for_ever_is_stopped() {
        let python = Python::find().expect("the tests need python3");
        let tool = PythonTool { calculator: Calculator::default(), python };
        let start = Instant::now();
        let result = tool.call("print('begun', flush=True)\nwhile True: pass").unwrap();
        assert!(result.starts_with("begun\n"), "{result}");
        assert!(start.elapsed() < Duration::from_secs(15));
    }
}
