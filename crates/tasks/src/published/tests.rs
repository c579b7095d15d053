use super::*;
use serde_json::{Value, json};
use tokenizer::chat::Part;

fn question(task: &Published, row: &Value) -> Question {
    asked(task, row).unwrap()
}

fn asked(task: &Published, row: &Value) -> Result<Question> {
    (task.question)(&Row { value: row, path: Path::new("x.parquet"), number: 7 })
}

/// A part of one question.
fn part(task: &'static Published, row: &Value) -> Read {
    let questions = vec![question(task, row)];
    Read { task, split: Split::Test, questions, order: vec![0], hash: 0, python: None }
}

fn refused(task: &Published, row: &Value) -> String {
    asked(task, row).unwrap_err().to_string()
}

#[test]
fn arc_has_the_labels_of_its_rows() {
    let row = json!({
        "question": "Which is hot?", "answerKey": "2",
        "choices": {"text": ["ice", "fire", "rain"], "label": ["1", "2", "3"]},
    });
    let part = part(&arc::EASY, &row);
    let messages = part.get(0).unwrap().messages;
    assert_eq!(
        messages[0].text(),
        "Multiple Choice question: Which is hot?\n- ice=1\n- fire=2\n- rain=3\n\n\
         Respond only with the letter of the correct answer."
    );
    assert_eq!(
        (messages[1].text().as_str(), part.letters(0)),
        ("2", ["1", "2", "3"].map(str::to_owned).into())
    );
    let reward = |answer| part.reward(0, answer).unwrap();
    assert_eq!((reward("2"), reward(" 2\n"), reward("1"), reward("2 3")), (1.0, 1.0, 0.0, 0.0));
    let mut other = row.clone();
    other["answerKey"] = json!("B");
    let error = refused(&arc::CHALLENGE, &other);
    assert!(error.contains("x.parquet, row 7: `answerKey` is `B`, which is no label"), "{error}");
    other["choices"]["text"] = json!("ice");
    assert!(refused(&arc::EASY, &other).contains("`choices.text` is no list"));
}

#[test]
fn mmlu_numbers_its_answers() {
    let row =
        json!({"question": "2+2?", "choices": ["1", "2", "3", "4"], "answer": 3, "subject": "x"});
    let question = question(&mmlu::TASK, &row);
    assert_eq!(question.conversation.answer(), "D");
    assert!(question.conversation.messages[0].text().contains("- 1=A\n- 2=B\n- 3=C\n- 4=D\n\n"));
    for (answer, fault) in [(json!(4), "is not 0 to 3"), (json!("D"), "no whole number")] {
        let row = json!({"question": "", "choices": ["", "", "", ""], "answer": answer});
        assert!(refused(&mmlu::TASK, &row).contains(fault));
    }
}

/// Values of nanochat's conversion, `re.split(r"(<<[^>]+>>)", answer)`.
#[test]
fn calculations_are_cut_out() {
    let text = |text: &str| Part::Text(text.to_owned());
    let call =
        |code: &str, out: &str| [Part::Python(code.to_owned()), Part::PythonOutput(out.to_owned())];
    let [python, output] = call("12/60", "0.2");
    assert_eq!(
        gsm8k::parts("She earns 12/60 = $<<12/60=0.2>>0.2.\n#### 10"),
        [text("She earns 12/60 = $"), python, output, text("0.2.\n#### 10")]
    );
    let [a, b] = call("1=1", "1");
    let [c, d] = call("5", "");
    assert_eq!(gsm8k::parts("<<1=1=1>><<5>>"), [text(""), a, b, text(""), c, d, text("")]);
    for whole in ["<<>>", "<<1>", "<<a>b>>", "a < b >> c", "é << é", "<<"] {
        assert_eq!(gsm8k::parts(whole), [text(whole)], "{whole}");
    }
    let [a, b] = call("<5", "5");
    assert_eq!(gsm8k::parts("<<<5=5>>"), [text(""), a, b, text("")]);
    let [a, b] = call("b", "");
    assert_eq!(gsm8k::parts("<<a>><<b>>")[4..], [a, b, text("")]);
}

#[test]
fn gsm8k_compares_numbers_as_texts() {
    let row = json!({"question": "How many?", "answer": "2*500=<<2*500=1000>>1000\n#### 1,000"});
    let part = part(&gsm8k::TASK, &row);
    let reward = |answer| part.reward(0, answer).unwrap();
    assert_eq!((reward("#### 1000"), reward("so\n#### 1,000 apples")), (1.0, 1.0));
    assert_eq!((reward("#### 1000."), reward("1000"), reward("#### 1000.0")), (0.0, 0.0, 0.0));
    // Without a number on either side, nothing is right.
    let none = part_of("no number");
    assert_eq!(
        (none.reward(0, "no number").unwrap(), none.reward(0, "#### 1").unwrap()),
        (0.0, 0.0)
    );
}

fn part_of(answer: &str) -> Read {
    part(&gsm8k::TASK, &json!({"question": "", "answer": answer}))
}

/// Values of Python: the scan for imports, and ```` ```(?:python)?\s*\n(.*?)\n``` ```` with `re.DOTALL`.
#[test]
fn programs_are_found_as_in_python() {
    let prompt = "\n# maths\nfrom typing import List\n  import math\n\nimport os, sys\ndef f():\n    import re\n";
    assert_eq!(humaneval::imports(prompt), "from typing import List\nimport math\nimport os, sys");
    assert_eq!(humaneval::imports("def f():\n  pass\nimport os"), "");
    assert_eq!(humaneval::imports("importlib = 1\nimport os"), "");
    for (answer, program) in [
        ("def f(): pass\n", "def f(): pass"),
        ("Here:\n```python\ndef f(): pass\n```\nDone.", "def f(): pass"),
        ("```\na\n```\n```python\nb\n```", "a"),
        ("```python  \n\n  a\n\n```", "a"),
        ("```python a\n```", "```python a\n```"),
        ("```rust\na\n```", "```rust\na\n```"),
        ("```rust\na\n```\nb\n```\nc\n```", "b"),
        ("```python\na", "```python\na"),
        ("```python\na```", "```python\na```"),
        ("```python\n```", "```python\n```"),
        ("```python\n\n```", ""),
        ("```\n\n```\nfoo\n```", "```\nfoo"),
        ("````\na\n````", "a"),
        (" \u{1c}a\u{1f}", "a"),
    ] {
        assert_eq!(humaneval::program(answer), program, "{answer:?}");
    }
}

#[test]
fn humaneval_runs_what_it_is_allowed_to() {
    let row = json!({
        "prompt": "import math\n\ndef root(x):\n    \"\"\"The root.\"\"\"\n",
        "canonical_solution": "    return math.sqrt(x)\n",
        "entry_point": "root",
        "test": "def check(candidate):\n    assert candidate(4) == 2\n",
    });
    let mut part = part(&humaneval::TASK, &row);
    let error = part.reward(0, "x").unwrap_err().to_string();
    assert!(error.contains("--allow-code-exec"), "{error}");
    part.python = Some(Python::find().unwrap());
    let reward = |answer: &str| part.reward(0, answer).unwrap();
    let conversation = part.get(0).unwrap();
    assert_eq!(reward(&conversation.answer()), 1.0);
    assert_eq!(
        reward("```python\ndef root(x):\n    return math.sqrt(x)\n```"),
        1.0,
        "imports come first"
    );
    assert_eq!((reward("def root(x):\n    return 3"), reward("def toor(x): return 2")), (0.0, 0.0));
    let Judged::Program(check) = &part.questions[0].judged else { panic!("a program") };
    let test = "def check(candidate):\n    assert candidate(4) == 2\n";
    assert_eq!(check.program(" a "), format!("import math\n\na\n\n{test}\ncheck(root)"));
}

#[test]
fn smoltalk_has_its_messages() {
    let row = json!({"messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
    ]});
    let conversation = question(&smoltalk::TASK, &row).conversation;
    assert_eq!((conversation.messages.len(), conversation.answer().as_str()), (3, "Hi"));
    let error = refused(&smoltalk::TASK, &json!({"messages": [{"role": "robot", "content": "x"}]}));
    assert!(error.contains("row 7: `messages`"), "{error}");
}

/// Questions come in the order of `numpy.random.default_rng(42).permutation(5)`: 4, 2, 3, 1, 0.
#[test]
fn rows_are_permuted() {
    let row = |n: usize| json!({"question": n.to_string(), "answer": "#### 1"});
    let questions: Vec<Question> = (0..5).map(|n| question(&gsm8k::TASK, &row(n))).collect();
    let order = NumpyRandom::new(ORDER).permutation(5);
    let part = Read { questions, order, ..part_of("") };
    let asked: Vec<String> = (0..5).map(|i| part.get(i).unwrap().messages[0].text()).collect();
    assert_eq!(asked, ["4", "2", "3", "1", "0"]);
}
