//! Word problems: what is to be computed must be understood first.

use super::{Built, Problem, Rule, computed};
use crate::random::PythonRandom;

pub(super) const TASK: Built = Built {
    name: "word-problems",
    describe: "sums, differences and products of one or two steps in words, by the calculator: `Tom has 12 \
               apples. Lily has 5 apples. How many apples do they have?`, `12+5`, `#### 17`",
    rule: Rule::Number,
    draw,
};

const NAMES: [&str; 12] =
    ["Tom", "Ben", "Max", "Sam", "Leo", "Jack", "Lily", "Mia", "Anna", "Lucy", "Emma", "Rose"];
const THINGS: [&str; 8] =
    ["apples", "cookies", "pears", "plums", "books", "stones", "shells", "flowers"];

fn draw(random: &mut PythonRandom) -> Problem {
    let who = random.sample(NAMES.len(), 2);
    let (h, f) = (NAMES[who[0]], NAMES[who[1]]);
    let t = THINGS[random.below(THINGS.len())];
    let mut number = |from: usize, to: usize| (from + random.below(to - from)) as i64;
    let (kind, a, b, c) = (number(0, 6), number(30, 100), number(2, 20), number(2, 10));
    let (question, expression, value) = match kind {
        0 => (
            format!("{h} has {a} {t}. {f} has {b} {t}. How many {t} do they have?"),
            format!("{a}+{b}"),
            a + b,
        ),
        1 => (
            format!("{h} has {a} {t} and loses {b}. How many {t} does {h} have?"),
            format!("{a}-{b}"),
            a - b,
        ),
        2 => (
            format!("{h} has {a} boxes with {c} {t} in each. How many {t} does {h} have?"),
            format!("{a}*{c}"),
            a * c,
        ),
        3 => (
            format!("{h} had {a} {t} and found {b}. {f} found {c}. How many {t} do they have?"),
            format!("{a}+{b}+{c}"),
            a + b + c,
        ),
        4 => (
            format!("{h} had {a} {t}, gave {f} {b} and lost {c}. How many {t} does {h} have?"),
            format!("{a}-{b}-{c}"),
            a - b - c,
        ),
        _ => (
            format!(
                "{h} has {c} bags with {b} {t} in each. {f} adds {a}. How many {t} do they have?"
            ),
            format!("{c}*{b}+{a}"),
            c * b + a,
        ),
    };
    let about = format!("{kind} {expression}");
    Problem { about, question, answer: computed(expression, value) }
}
