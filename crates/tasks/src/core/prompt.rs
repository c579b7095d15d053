//! The texts of prompts: examples with their answers, then the question.

use super::{CoreTask, Example, Item, Question};
use crate::error::Result;
use crate::random::PythonRandom;

/// What stands between two examples.
const BETWEEN: &str = "\n\n";
/// The seed of question `i`'s draw of examples is this plus `i`.
const SHOTS: u64 = 1234;

/// The prompts of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Texts {
    /// One prompt for each choice.
    Choices {
        /// The prompts.
        prompts: Vec<String>,
        /// The index of the right one.
        gold: usize,
        /// True if the choices are contexts of one continuation.
        schema: bool,
    },
    /// A prompt without and with its continuation.
    Continuation {
        /// Without, and without outer whitespace.
        without: String,
        /// With.
        with: String,
    },
}

/// The examples of a task, in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Questions {
    shots: usize,
    delimiter: String,
    questions: Vec<Question>,
}

impl Questions {
    /// Reads the examples of a task, shuffles them and keeps the first `most`.
    ///
    /// # Errors
    /// As [`CoreTask::questions`].
    pub fn read(task: &CoreTask, most: Option<usize>) -> Result<Self> {
        Ok(Questions::new(task, task.questions(most)?))
    }

    fn new(task: &CoreTask, questions: Vec<Question>) -> Self {
        Questions { shots: task.shots, delimiter: task.delimiter.clone(), questions }
    }

    /// The number of questions.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// True if there is no question.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// The line of question `index` in the task's file, from 1.
    pub fn line(&self, index: usize) -> usize {
        self.questions[index].line
    }

    /// The examples that stand before question `index`, drawn from all the others; all of them if there
    /// are fewer than the task asks for.
    pub fn shots(&self, index: usize) -> Vec<usize> {
        let others = self.questions.len() - 1;
        let mut random = PythonRandom::new(SHOTS + index as u64);
        let drawn = random.sample(others, self.shots.min(others));
        drawn.into_iter().map(|i| if i < index { i } else { i + 1 }).collect()
    }

    /// The prompts of question `index`.
    pub fn texts(&self, index: usize) -> Texts {
        let delimiter = self.delimiter.as_str();
        let mut before = String::new();
        for shot in self.shots(index) {
            let (question, answer) = solved(&self.questions[shot].example);
            before += &[question, delimiter, answer, BETWEEN].concat();
        }
        let prompt = |parts: [&str; 2]| [&before, parts[0], delimiter, parts[1]].concat();
        match &self.questions[index].example {
            Example::MultipleChoice { query, choices, gold } => Texts::Choices {
                prompts: choices.iter().map(|choice| prompt([query, choice])).collect(),
                gold: *gold,
                schema: false,
            },
            Example::Schema { contexts, continuation, gold } => Texts::Choices {
                prompts: contexts.iter().map(|context| prompt([context, continuation])).collect(),
                gold: *gold,
                schema: true,
            },
            Example::LanguageModeling { context, continuation } => {
                let context = trim(context);
                let with = prompt([context, continuation]);
                Texts::Continuation { without: trim(&prompt([context, ""])).to_owned(), with }
            }
        }
    }

    /// The tokens of the prompts of question `index`, each after `bos`, and their spans. `encode` gives the
    /// tokens of a text, without those that begin or end it.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn item<E>(
        &self,
        index: usize,
        bos: Option<u32>,
        encode: impl Fn(&str) -> std::result::Result<Vec<u32>, E>,
    ) -> std::result::Result<Item, E> {
        let tokens = |text: &String| -> std::result::Result<Vec<u32>, E> {
            Ok(bos.into_iter().chain(encode(text)?).collect())
        };
        Ok(match &self.texts(index) {
            Texts::Choices { prompts, gold, schema } => {
                let prompts = prompts.iter().map(tokens).collect::<std::result::Result<_, E>>()?;
                Item::choices(prompts, *gold, *schema)
            }
            Texts::Continuation { without, with } => {
                Item::continuation(&tokens(without)?, tokens(with)?)
            }
        })
    }
}

/// An example as question and answer.
fn solved(example: &Example) -> (&str, &str) {
    match example {
        Example::MultipleChoice { query, choices, gold } => (query, &choices[*gold]),
        Example::Schema { contexts, continuation, gold } => (&contexts[*gold], continuation),
        Example::LanguageModeling { context, continuation } => (trim(context), continuation),
    }
}

/// Without outer whitespace, as Python's `strip` has it: it also counts the four separators U+001C to U+001F.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn questions(task: &CoreTask, examples: Vec<Example>) -> Questions {
        let number = |(line, example)| Question { line, example };
        Questions::new(task, (1..).zip(examples).map(number).collect())
    }

    fn task(kind: Kind, shots: usize, delimiter: &str) -> CoreTask {
        let (label, delimiter) = ("x".to_owned(), delimiter.to_owned());
        CoreTask { label, kind, data: "x".into(), shots, delimiter, baseline: 0.0 }
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn choices_follow_their_question() {
        let choice = |query: &str, gold| Example::MultipleChoice {
            query: query.to_owned(),
            choices: owned(&["a", "b "]),
            gold,
        };
        let task = task(Kind::MultipleChoice, 3, ": ");
        let texts = questions(&task, vec![choice("p", 1), choice(" q", 0)]).texts(1);
        let prompts = owned(&["p: b \n\n q: a", "p: b \n\n q: b "]);
        assert_eq!(texts, Texts::Choices { prompts, gold: 0, schema: false });
    }

    #[test]
    fn contexts_precede_their_continuation() {
        let schema = |gold| Example::Schema {
            contexts: owned(&["he", "she"]),
            continuation: "ran".to_owned(),
            gold,
        };
        let task = task(Kind::Schema, 1, " ");
        let texts = questions(&task, vec![schema(0), schema(1)]).texts(0);
        let prompts = owned(&["she ran\n\nhe ran", "she ran\n\nshe ran"]);
        assert_eq!(texts, Texts::Choices { prompts, gold: 0, schema: true });
    }

    /// Contexts are trimmed, continuations are not; of the two prompts only the one without is.
    #[test]
    fn contexts_are_trimmed() {
        let words = |context: &str| Example::LanguageModeling {
            context: context.to_owned(),
            continuation: " z ".to_owned(),
        };
        let task = task(Kind::LanguageModeling, 1, "\n");
        let texts = questions(&task, vec![words("\u{1f} a\t"), words(" b\u{a0}")]).texts(1);
        let with = "a\n z \n\nb\n z ".to_owned();
        assert_eq!(texts, Texts::Continuation { without: "a\n z \n\nb".to_owned(), with });
    }

    /// `random.Random(1234 + i).sample([all but i], n)` of CPython, for 12 questions and 3 examples.
    #[test]
    fn draws_the_examples_that_python_draws() {
        let words =
            Example::LanguageModeling { context: String::new(), continuation: String::new() };
        let task = task(Kind::LanguageModeling, 3, " ");
        let twelve = questions(&task, vec![words.clone(); 12]);
        assert_eq!(twelve.shots(0), [8, 2, 1]);
        assert_eq!(twelve.shots(5), [1, 4, 8]);
        assert_eq!(twelve.shots(11), [8, 10, 2]);
        assert_eq!(questions(&task, vec![words.clone(); 3]).shots(1).len(), 2, "all there are");
        assert_eq!(questions(&task, vec![words]).shots(0), [0; 0]);
    }
}
