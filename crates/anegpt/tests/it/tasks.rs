//! `anegpt eval --tasks` with tasks of conversations.

use crate::Bench;
use crate::core::answers;
use crate::generate::small_model;
use serde_json::{Value, json};
use std::path::Path;

const EXPECTED: &str = include_str!("../tasks/expected.json");
const PUBLISHED: &str = "arc-easy,arc-challenge,mmlu,gsm8k,humaneval";
/// Roles and texts as lines, as in `scripts/tasks_oracle.py`.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
    {% if add_generation_prompt %}assistant: {% endif %}";

/// A model of 128 tokens that answers in conversations.
fn answering(bench: &Bench) -> String {
    let model = small_model(bench, "llama", &json!({}));
    let config = json!({"chat_template": TEMPLATE}).to_string();
    std::fs::write(Path::new(&model).join("tokenizer_config.json"), config).unwrap();
    model
}

fn data() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tasks");
    path.to_str().unwrap().to_owned()
}

/// nanochat's rules written again in Python, with the model in f64 (`scripts/tasks_oracle.py --write`): letters, texts
/// and verdicts, question by question, most of them cut on the left. No answer hangs on a margin below 1e-4.
#[test]
fn answers_are_those_of_an_independent_program() {
    let bench = Bench::new();
    let (model, data) = (answering(&bench), data());
    let args =
        ["eval", "-m", &model, "--tasks", PUBLISHED, "--task-data", &data, "--allow-code-exec"];
    let args = [&args[..], &["--max-new-tokens", "24", "--out", "r"]].concat();
    let found: Value = serde_json::from_str(&bench.ok(&[&args[..], &["--json"]].concat())).unwrap();
    let expected: Value = serde_json::from_str(EXPECTED).unwrap();
    let right = expected["answers"].as_array().unwrap();
    let answers = answers(&bench.path("r"), "chat");
    assert_eq!(answers.len(), right.len());
    for (answer, right) in answers.iter().zip(right) {
        for (field, value) in right.as_object().unwrap() {
            let absent = if field == "cut" { json!(0) } else { json!(false) };
            assert_eq!(answer.get(field).unwrap_or(&absent), value, "{field}: {answer} {right}");
        }
    }
    let score = &found["tasks"]["chat"];
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12;
    assert!(close(&score["chatcore"], &expected["chatcore"]), "{score}");
    let tasks =
        score["tasks"].as_array().unwrap().iter().zip(expected["tasks"].as_array().unwrap());
    for (task, right) in tasks {
        assert_eq!((&task["name"], &task["questions"]), (&right["name"], &right["questions"]));
        assert!(close(&task["accuracy"], &right["accuracy"]), "{task} {right}");
        assert!(close(&task["centered"], &right["centered"]), "{task} {right}");
    }
    let people = bench.ok(&args);
    let last = people.lines().find(|line| line.starts_with("ChatCORE")).unwrap();
    assert!(last.ends_with(&format!("{:.4}", expected["chatcore"].as_f64().unwrap())), "{people}");
    assert!(people.contains("questions are longer than the model reads"), "{people}");
}

/// Samples of a question differ, those of a seed do not, and where the results stop does not matter.
#[test]
fn an_evaluation_goes_on_where_it_was() {
    let bench = Bench::new();
    let model = answering(&bench);
    let args = |out| {
        let tasks = ["eval", "-m", &model, "--tasks", "stories-choice,arithmetic,spelling"];
        let how = ["--max-per-task", "5", "--samples", "3", "--temperature", "1"];
        [&tasks[..], &how, &["--max-new-tokens", "12", "--csv", "t.csv", "--out", out]].concat()
    };
    let table = bench.ok(&args("whole"));
    let results = |out: &str| bench.path(out).join("results.jsonl");
    let whole = std::fs::read_to_string(results("whole")).unwrap();
    let all = answers(&bench.path("whole"), "chat");
    assert_eq!(all.len(), 15);
    assert_eq!(all[0]["answers"].as_array().unwrap().len(), 1, "a choice is made once");
    let written = all[5]["answers"].as_array().unwrap();
    assert!(written.len() == 3 && written[0] != written[1], "{}", all[5]);
    std::fs::create_dir(bench.path("cut")).unwrap();
    for length in [whole.find('\n').unwrap() + 1, whole.len() / 3, whole.len() / 2, whole.len() - 1]
    {
        std::fs::write(results("cut"), &whole.as_bytes()[..length]).unwrap();
        assert_eq!(bench.ok(&args("cut")), table, "{length}");
        assert!(std::fs::read_to_string(results("cut")).unwrap() == whole, "{length}");
    }
    let csv = std::fs::read_to_string(bench.path("t.csv")).unwrap();
    let names: Vec<&str> = csv.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["Task", "stories-choice", "arithmetic", "spelling", "Mean"], "{csv}");
    let other = [&args("whole")[..], &["--top-k", "3"]].concat();
    let other = bench.error(&other, 2);
    for part in
        ["whole/results.jsonl holds results of another", "--top-k: 50 there, 3 here", "--restart"]
    {
        assert!(other.contains(part), "{other}");
    }
    let other: Vec<&str> =
        args("whole").iter().map(|&arg| if arg == "5" { "4" } else { arg }).collect();
    let other = bench.error(&other, 2);
    assert!(other.contains("They differ in --tasks or --max-per-task"), "{other}");
}

/// Without --out, evaluations of one model stand side by side, each with its own results.
#[test]
fn every_set_of_tasks_and_settings_has_its_own_results() {
    let bench = Bench::new();
    let model = answering(&bench);
    let eval = |more: &str| {
        let args = ["eval", "-m", &model, "--max-new-tokens", "4", "--max-per-task", "2"];
        bench.run(&args.into_iter().chain(more.split(' ')).collect::<Vec<_>>())
    };
    let all = ["--tasks spelling", "--tasks arithmetic", "--tasks spelling --temperature 1"];
    let tables = all.map(|more| {
        let output = eval(more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    });
    let results = || {
        let all = std::fs::read_dir(Path::new(&model).join("eval")).unwrap();
        let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".jsonl")).collect();
        names.sort();
        names
    };
    let names = results();
    let begin = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((names.len(), begin("spelling-"), begin("arithmetic-")), (3, 2, 1), "{names:?}");
    for (more, table) in all.iter().zip(tables) {
        let output = eval(more);
        assert!(output.stdout == table, "{more}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("going on with the results in"), "{said}");
    }
    assert_eq!(results(), names);
}

/// A model that names every token as an end answers nothing; one that names none goes on to the limit. Results know
/// the ends, of answers and of samples.
#[test]
fn a_models_own_ends_end_its_answers() {
    let bench = Bench::new();
    let model = answering(&bench);
    let end_at = |ends: Value| {
        let path = Path::new(&model).join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["eos_token_id"] = ends;
        std::fs::write(&path, config.to_string()).unwrap();
    };
    let args = |tasks, out| {
        let args = ["eval", "-m", &model, "--tasks", tasks, "--out", out];
        let limits = ["--max-per-task", "3", "--max-new-tokens", "9"];
        let limits = if tasks == "sample" { &[][..] } else { &limits[..] };
        [&args[..], limits].concat()
    };
    let lengths = |out: &str| -> Vec<usize> {
        let answers = answers(&bench.path(out), "chat");
        answers.iter().map(|answer| answer["answers"][0].as_str().unwrap().len()).collect()
    };
    end_at(Value::Null);
    bench.ok(&args("spelling", "none"));
    bench.ok(&args("sample", "sample"));
    let none = lengths("none");
    assert!(none.len() == 3 && none.iter().all(|&length| length >= 9), "{none:?}");
    end_at(json!((0..100).collect::<Vec<_>>()));
    bench.ok(&args("spelling", "all"));
    assert_eq!(lengths("all"), [0; 3]);
    let ends = bench.error(&args("spelling", "none"), 2);
    assert!(ends.contains("the tokens that end the model's texts"), "{ends}");
    let ends = bench.error(&args("sample", "sample"), 2);
    assert!(ends.contains("the tokens that end the model's texts"), "{ends}");
    end_at(Value::Null);
    bench.ok(&args("spelling", "none"));
    let config = json!({"chat_template": format!("{TEMPLATE} ")}).to_string();
    std::fs::write(Path::new(&model).join("tokenizer_config.json"), config).unwrap();
    let template = bench.error(&args("spelling", "none"), 2);
    assert!(template.contains("the model's chat template"), "{template}");
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let bench = Bench::new();
    let model = answering(&bench);
    let base = small_model(&bench, "llama", &json!({}));
    let refused = |model: &str, code: i32, more: &[&str], parts: &[&str]| {
        let args = [&["eval", "-m", model, "--out", "x", "--tasks"], more].concat();
        let error = bench.error(&args, code);
        assert!(parts.iter().all(|part| error.contains(part)), "{more:?}: {error}");
    };
    refused(&model, 2, &["humaneval"], &["programs that the model writes", "--allow-code-exec"]);
    refused(&model, 2, &["speling"], &["there are bpb, core, sample, spelling,", "humaneval"]);
    refused(&model, 2, &["sample", "--samples", "2"], &["--samples", "tasks of conversations"]);
    refused(&model, 2, &["spelling", "--temperature", "-1"], &["--temperature -1 must be"]);
    refused(&model, 1, &["gsm8k", "--task-data", "here"], &["`gsm8k`", "here"]);
    refused(&model, 2, &["smoltalk"], &["the answers to `smoltalk` are not judged"]);
    refused(&base, 1, &["spelling"], &["no format of conversations"]);
}
