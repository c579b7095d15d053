//! The list of tasks: `core.yaml`, and what guessing gives: `eval_meta_data.csv`.

use super::example::{Question, read_questions};
use crate::csv::read_rows;
use crate::error::{Result, TaskError, read};
use crate::random::PythonRandom;
use crate::yaml::{self, Node, Value};
use std::path::{Path, PathBuf};

/// The list of tasks in a bundle.
const LIST: &str = "core.yaml";
/// The table of what guessing gives.
const TABLE: &str = "eval_meta_data.csv";
/// The directory of the examples.
const DATA: &str = "eval_data";
/// Seed of the order of examples.
const ORDER: u64 = 1337;

/// The type of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of several answers to a question.
    MultipleChoice,
    /// One of several contexts of one continuation.
    Schema,
    /// The only continuation of a context, token for token.
    LanguageModeling,
}

/// Types by their names in bundles.
const KINDS: [(&str, Kind); 3] = [
    ("multiple_choice", Kind::MultipleChoice),
    ("schema", Kind::Schema),
    ("language_modeling", Kind::LanguageModeling),
];

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct CoreTask {
    /// Its name.
    pub label: String,
    /// Its type.
    pub kind: Kind,
    /// The file of its examples.
    pub data: PathBuf,
    /// Examples with their answers before each question.
    pub shots: usize,
    /// What stands between a question and its answer.
    pub delimiter: String,
    /// The accuracy of guessing, in percent.
    pub baseline: f64,
}

impl CoreTask {
    /// Reads the examples, shuffles them and keeps the first `most`.
    ///
    /// # Errors
    /// If the file cannot be read, has no example, or has a line that is none of the type's.
    pub fn questions(&self, most: Option<usize>) -> Result<Vec<Question>> {
        let mut questions = read_questions(&self.data, self.kind)?;
        PythonRandom::new(ORDER).shuffle(&mut questions);
        questions.truncate(most.unwrap_or(usize::MAX));
        Ok(questions)
    }
}

/// The tasks of a bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    directory: PathBuf,
    tasks: Vec<CoreTask>,
}

impl Bundle {
    /// Reads the list of tasks in `directory`, and that of what guessing gives.
    ///
    /// # Errors
    /// If a file is missing or damaged, or the lists do not fit each other.
    pub fn open(directory: &Path) -> Result<Self> {
        let (list, table) = (directory.join(LIST), directory.join(TABLE));
        if let Some(missing) = [&list, &table].into_iter().find(|path| !path.exists()) {
            let reason = format!(
                "no {} here: a bundle is a directory with {LIST}, {TABLE} and {DATA}/",
                missing.file_name().unwrap_or_default().display()
            );
            return Err(TaskError::file(directory, reason));
        }
        let root = yaml::parse(&read(&list)?)
            .map_err(|(line, reason)| TaskError::line(&list, line, reason))?;
        let nodes = match root.get("icl_tasks").map(|node| &node.value) {
            Some(Value::Sequence(nodes)) if !nodes.is_empty() => nodes,
            _ => return Err(TaskError::file(&list, "`icl_tasks` must be a list of tasks")),
        };
        let baselines = read_baselines(&table)?;
        let mut tasks: Vec<CoreTask> = vec![];
        for node in nodes {
            let fault = |(line, reason): (usize, String)| TaskError::line(&list, line, reason);
            let task = task(node, &directory.join(DATA)).map_err(fault)?;
            if tasks.iter().any(|other| other.label == task.label) {
                let reason = format!("`label` {} stands here twice", task.label);
                return Err(TaskError::line(&list, node.line, reason));
            }
            let baseline = baselines.iter().find(|(label, _)| *label == task.label);
            let Some(&(_, baseline)) = baseline else {
                let reason = format!("no row has the `Eval Task` {} of {LIST}", task.label);
                return Err(TaskError::file(&table, reason));
            };
            tasks.push(CoreTask { baseline, ..task });
        }
        Ok(Bundle { directory: directory.to_owned(), tasks })
    }

    /// The tasks, in their order.
    pub fn tasks(&self) -> &[CoreTask] {
        &self.tasks
    }

    /// Keeps the tasks with these names, in the order of the list.
    ///
    /// # Errors
    /// If there is no task of some name.
    pub fn select(mut self, labels: &[String]) -> Result<Self> {
        if let Some(unknown) =
            labels.iter().find(|&name| self.tasks.iter().all(|t| t.label != *name))
        {
            let labels: Vec<&str> = self.tasks.iter().map(|task| task.label.as_str()).collect();
            return Err(TaskError::Unknown {
                path: self.directory.join(LIST),
                task: unknown.clone(),
                known: labels.join(", "),
            });
        }
        self.tasks.retain(|task| labels.contains(&task.label));
        Ok(self)
    }
}

/// A task without its baseline, from an entry of the list.
fn task(node: &Node, data: &Path) -> std::result::Result<CoreTask, yaml::Fault> {
    let scalar = |key: &str| -> std::result::Result<Option<&str>, yaml::Fault> {
        let Some(entry) = node.get(key) else { return Ok(None) };
        let text = entry.scalar().ok_or_else(|| (entry.line, format!("`{key}` must be a text")))?;
        Ok(Some(text))
    };
    let needed = |key: &str| {
        let missing = || (node.line, format!("a task without `{key}`"));
        scalar(key)?.filter(|text| !text.is_empty()).ok_or_else(missing)
    };
    let name = needed("icl_task_type")?;
    let kind = KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let unknown = || {
        let known = KINDS.map(|(name, _)| name).join(", ");
        (node.line, format!("`icl_task_type` {name} is not one of {known}"))
    };
    Ok(CoreTask {
        label: needed("label")?.to_owned(),
        kind: kind.ok_or_else(unknown)?,
        data: data.join(needed("dataset_uri")?),
        shots: shots(node)?,
        delimiter: scalar("continuation_delimiter")?.unwrap_or(" ").to_owned(),
        baseline: 0.0,
    })
}

/// `num_fewshot`: a number, or a list whose first number counts.
fn shots(node: &Node) -> std::result::Result<usize, yaml::Fault> {
    let missing = || (node.line, "a task without `num_fewshot`".to_owned());
    let entry = node.get("num_fewshot").ok_or_else(missing)?;
    let first = match &entry.value {
        Value::Sequence(numbers) => numbers.first().and_then(Node::scalar),
        _ => entry.scalar(),
    };
    let wrong = || (entry.line, "`num_fewshot` must be a list with a whole number".to_owned());
    first.and_then(|text| text.parse().ok()).ok_or_else(wrong)
}

/// Names of tasks with the accuracy of guessing, in percent.
fn read_baselines(path: &Path) -> Result<Vec<(String, f64)>> {
    let rows = read_rows(path)?;
    let Some((header, rows)) = rows.split_first() else {
        return Err(TaskError::file(path, "the table is empty"));
    };
    let column = |name: &str| {
        let found = header.fields.iter().position(|field| field.trim() == name);
        found.ok_or_else(|| TaskError::line(path, header.line, format!("no column `{name}`")))
    };
    let (label, baseline) = (column("Eval Task")?, column("Random baseline")?);
    let read = |row: &crate::csv::Row| {
        let fault = |reason: String| TaskError::line(path, row.line, reason);
        let field = |column: usize| row.fields.get(column).map(|field| field.trim());
        let label = field(label).unwrap_or_default();
        let percent = field(baseline).and_then(|text| text.parse::<f64>().ok());
        match percent.filter(|percent| (0.0..100.0).contains(percent)) {
            Some(percent) => Ok((label.to_owned(), percent)),
            None => {
                Err(fault(format!("`Random baseline` of {label} must be 0 to below 100 percent")))
            }
        }
    };
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: &str = "\
icl_tasks:
-
  label: words
  dataset_uri: some/words.jsonl
  num_fewshot: [2]
  icl_task_type: language_modeling
  continuation_delimiter: \"\\nAnswer: \"
- label: choice
  dataset_uri: choice.jsonl
  num_fewshot: [0]
  icl_task_type: multiple_choice
";
    const BASELINES: &str = "Eval Task,Category,Random baseline\nchoice,\"a, b\",25\nwords,c,0\n";

    fn open(tasks: &str, baselines: &str) -> Result<Bundle> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(LIST), tasks).unwrap();
        std::fs::write(directory.path().join(TABLE), baselines).unwrap();
        Bundle::open(directory.path())
    }

    #[test]
    fn reads_tasks_with_their_baselines() {
        let bundle = open(TASKS, BASELINES).unwrap();
        let [words, choice] = bundle.tasks() else { panic!("{bundle:?}") };
        assert!(words.data.ends_with("eval_data/some/words.jsonl"));
        assert_eq!((words.kind, words.shots, words.baseline), (Kind::LanguageModeling, 2, 0.0));
        assert_eq!((words.delimiter.as_str(), choice.delimiter.as_str()), ("\nAnswer: ", " "));
        assert_eq!((choice.kind, choice.shots, choice.baseline), (Kind::MultipleChoice, 0, 25.0));
        let one = bundle.clone().select(&["choice".to_owned()]).unwrap();
        assert_eq!(one.tasks(), &bundle.tasks()[1..]);
        let error = bundle.select(&["word".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("has no task `word`: it has words, choice"), "{error}");
    }

    #[test]
    fn faults_name_file_line_and_field() {
        let faulty = |from: &str, to: &str, part: &str| {
            let error = match TASKS.contains(from) {
                true => open(&TASKS.replace(from, to), BASELINES),
                false => open(TASKS, &BASELINES.replace(from, to)),
            };
            let error = error.unwrap_err().to_string();
            assert!(error.contains(part), "{from:?} → {to:?}: {error}");
        };
        faulty("icl_tasks", "tasks", "core.yaml: `icl_tasks`");
        faulty("  label: words\n", "", "core.yaml, line 3: a task without `label`");
        faulty("[2]", "[two]", "core.yaml, line 5: `num_fewshot` must be");
        faulty("[2]", "[]", "core.yaml, line 5: `num_fewshot` must be");
        faulty("  num_fewshot: [0]\n", "", "core.yaml, line 8: a task without `num_fewshot`");
        faulty(
            "multiple_choice",
            "choice",
            "core.yaml, line 8: `icl_task_type` choice is not one of",
        );
        faulty("words\n", "choice\n", "core.yaml, line 8: `label` choice stands here twice");
        faulty("dataset_uri: choice.jsonl", "dataset_uri: [a]", "core.yaml, line 9: `dataset_uri`");
        faulty(
            "Random baseline",
            "Baseline",
            "eval_meta_data.csv, line 1: no column `Random baseline`",
        );
        faulty("25", "many", "eval_meta_data.csv, line 2: `Random baseline` of choice must be");
        faulty("words,c,0", "words,c,100", "eval_meta_data.csv, line 3: `Random baseline`");
        faulty("words,c,0", "word,c,0", "eval_meta_data.csv: no row has the `Eval Task` words");
        let nothing = tempfile::tempdir().unwrap();
        let error = Bundle::open(nothing.path()).unwrap_err().to_string();
        assert!(error.contains("no core.yaml here"), "{error}");
    }
}
