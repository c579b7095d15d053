//! Arithmetic by the calculator.

use super::{Built, Problem, Rule, computed};
use crate::random::PythonRandom;

pub(super) const TASK: Built = Built {
    name: "arithmetic",
    describe: "compute with the calculator: `What is 37+58?`, `37+58`, `#### 95`; sums and differences of \
               numbers below 1000, products of numbers below 100",
    rule: Rule::Number,
    draw,
};

fn draw(random: &mut PythonRandom) -> Problem {
    let sign = ['+', '-', '*'][random.below(3)];
    let limit = if sign == '*' { 100 } else { 1000 };
    let (a, b) = (random.below(limit) as i64, random.below(limit) as i64);
    let value = match sign {
        '+' => a + b,
        '-' => a - b,
        _ => a * b,
    };
    let expression = format!("{a}{sign}{b}");
    // What the other order asks is the same, but for the sign of a difference.
    let about = format!("{}{sign}{}", a.min(b), a.max(b));
    let question = format!("What is {expression}?");
    Problem { about, question, answer: computed(expression, value) }
}
