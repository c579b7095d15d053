//! Answers of all kinds to questions of published tasks, judged a second time in Python: `scripts/test-tasks.sh` writes
//! them, the 164 solutions of HumanEval among them, into the directory that `ANEGPT_JUDGED` names. Without it these tests
//! do nothing.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tasks::{Conversation, Conversations, Mixture, Options, Python, Split, Task, open};
use tokenizer::chat::{Message, Part};

fn written() -> Option<(PathBuf, Value)> {
    let directory = PathBuf::from(std::env::var_os("ANEGPT_JUDGED")?);
    let text = std::fs::read_to_string(directory.join("judged.json")).unwrap();
    Some((directory, serde_json::from_str(&text).unwrap()))
}

fn parts(of: &Value) -> Vec<Part> {
    let part = |part: &Value| {
        let text = part[1].as_str().unwrap().to_owned();
        match part[0].as_str().unwrap() {
            "python" => Part::Python(text),
            "python_output" => Part::PythonOutput(text),
            _ => Part::Text(text),
        }
    };
    of.as_array().unwrap().iter().map(part).collect()
}

#[test]
fn answers_are_judged_as_by_an_independent_program() {
    let Some((directory, written)) = written() else { return };
    let python = Python::find().unwrap();
    let options = Options { data: &directory, python: Some(&python), ..Options::default() };
    let mut tasks: BTreeMap<&str, Box<dyn Task>> = BTreeMap::new();
    for (name, questions) in written["questions"].as_object().unwrap() {
        let task = open(name, Split::Test, &options).unwrap();
        let questions = questions.as_array().unwrap();
        assert_eq!(task.len(), questions.len(), "{name}");
        for (index, right) in questions.iter().enumerate() {
            let [asked, answer] = &task.get(index).unwrap().messages[..] else { panic!("two") };
            assert_eq!(asked.text(), right["question"].as_str().unwrap(), "{name} {index}");
            assert_eq!(answer.content, parts(&right["parts"]), "{name} {index}");
            assert_eq!(serde_json::json!(task.letters(index)), right["letters"], "{name} {index}");
        }
        tasks.insert(name, task);
    }
    let answers = written["answers"].as_array().unwrap();
    for answer in answers {
        let (name, index) = (answer["name"].as_str().unwrap(), answer["index"].as_u64().unwrap());
        let text = answer["answer"].as_str().unwrap();
        let reward = tasks[name].reward(index as usize, text).unwrap();
        assert_eq!(reward == 1.0, answer["right"] == true, "{name} {index}: {text}");
    }
    let right = answers.iter().filter(|answer| answer["right"] == true).count();
    assert!(right > 164 && answers.len() > 2 * right, "answers of both kinds");
}

/// Conversations that are pairs of numbers: the list and the place in it.
#[derive(Debug)]
struct Pairs(usize, usize);

impl Conversations for Pairs {
    fn len(&self) -> usize {
        self.1
    }

    fn get(&self, index: usize) -> tasks::Result<Conversation> {
        Ok(Conversation::pair(&format!("{} {index}", self.0), ""))
    }
}

#[test]
fn mixtures_are_in_the_order_of_python() {
    let Some((_, written)) = written() else { return };
    let lengths = written["mixture"]["lengths"].as_array().unwrap().iter().enumerate();
    let list = |(list, of): (usize, &Value)| -> Arc<dyn Conversations> {
        Arc::new(Pairs(list, of.as_u64().unwrap() as usize))
    };
    let mixture = Mixture::new(lengths.map(list).collect());
    let order = written["mixture"]["order"].as_array().unwrap();
    assert_eq!(mixture.len(), order.len());
    for (index, pair) in order.iter().enumerate() {
        let text = mixture.get(index).unwrap().messages.first().map(Message::text);
        assert_eq!(text, Some(format!("{} {}", pair[0], pair[1])), "{index}");
    }
}
