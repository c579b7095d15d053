//! The results of an evaluation as text.

use super::results::{Sample, Sums};
use crate::term;
use serde_json::{Value, json};
use std::fmt::Write;
use train::evaluate::{ChatScore, ChatTaskScore, CoreScore, TaskScore};

/// Results of all tasks, each where it was asked for.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) bpb: Option<Sums>,
    /// With the tokens that the model reads.
    pub(super) core: Option<(CoreScore, usize)>,
    pub(super) sample: Option<Vec<Sample>>,
    pub(super) chat: Option<ChatScore>,
}

impl Outcome {
    /// For people: tasks in a fixed order.
    pub(super) fn table(&self) -> String {
        let bpb = self.bpb.as_ref().map(bpb_table);
        let core = self.core.as_ref().map(|(score, context)| core_table(score, *context));
        let sample = self.sample.as_deref().map(sample_table);
        let chat = self.chat.as_ref().map(chat_table);
        let parts: Vec<String> = [bpb, core, chat, sample].into_iter().flatten().collect();
        parts.join("\n")
    }

    /// One object, with one entry for each task.
    pub(super) fn json(&self, model: &std::path::Path) -> Value {
        let mut tasks = serde_json::Map::new();
        if let Some(sums) = &self.bpb {
            tasks.insert(
                "bpb".to_owned(),
                json!({
                    "bits_per_byte": sums.bits_per_byte(),
                    "nats_per_token": nats_per_token(sums),
                    "tokens": sums.tokens,
                    "text_tokens": sums.text_tokens,
                    "bytes": sums.bytes,
                }),
            );
        }
        if let Some((score, _)) = &self.core {
            tasks.insert("core".to_owned(), json!(score));
        }
        if let Some(samples) = &self.sample {
            tasks.insert("sample".to_owned(), json!(samples));
        }
        if let Some(score) = &self.chat {
            tasks.insert("chat".to_owned(), json!(score));
        }
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": model,
            "nats_per_token": self.bpb.as_ref().map(nats_per_token),
            "bits_per_byte": self.bpb.as_ref().and_then(Sums::bits_per_byte),
            "tasks": tasks,
        })
    }
}

fn nats_per_token(sums: &Sums) -> f64 {
    sums.nats / sums.tokens as f64
}

fn bpb_table(sums: &Sums) -> String {
    let bits = sums.bits_per_byte().unwrap_or(f64::NAN);
    format!(
        "bits per byte   {bits:.6}\nnats per token  {:.6}\ntokens          {} predicted, {} of them \
         text of {} bytes\n",
        nats_per_token(sums),
        sums.tokens,
        sums.text_tokens,
        sums.bytes
    )
}

fn core_table(score: &CoreScore, context: usize) -> String {
    let widest =
        score.tasks.iter().map(|task| task.label.chars().count()).max().unwrap_or(0).max(4);
    let mut out = format!("{:<widest$}  Accuracy  Centered  Questions\n", "Task");
    for TaskScore { label, accuracy, centered, questions, .. } in &score.tasks {
        let _ = writeln!(out, "{label:<widest$}  {accuracy:8.4}  {centered:8.4}  {questions:>9}");
    }
    let _ = writeln!(out, "{:<widest$}  {:8}  {:8.4}", "CORE", "", score.core);
    let sum = |of: fn(&TaskScore) -> usize| score.tasks.iter().map(of).sum::<usize>();
    let all = sum(|task| task.questions);
    for (count, words) in [
        (
            sum(|task| task.truncated),
            format!(
                "have prompts of more than the {context} tokens that the model reads: their end was read"
            ),
        ),
        (sum(|task| task.cut), "have answers that the model cannot read whole".to_owned()),
        (
            sum(|task| task.merged),
            "have prompts whose end the tokenizer joins with the answer".to_owned(),
        ),
    ] {
        if count > 0 {
            let _ = writeln!(out, "{count} of {all} questions {words}");
        }
    }
    out
}

fn chat_table(score: &ChatScore) -> String {
    let widest = score.tasks.iter().map(|task| task.name.len()).max().unwrap_or(0).max(8);
    let mut out = format!("{:<widest$}  Accuracy  Centered  Questions\n", "Task");
    for ChatTaskScore { name, accuracy, centered, questions, .. } in &score.tasks {
        let _ = writeln!(out, "{name:<widest$}  {accuracy:8.4}  {centered:8.4}  {questions:>9}");
    }
    let (name, mean) = chat_mean(score);
    let _ = writeln!(out, "{name:<widest$}  {:8}  {mean:8.4}", "");
    let sum = |of: fn(&ChatTaskScore) -> usize| score.tasks.iter().map(of).sum::<usize>();
    let (truncated, cut) = (sum(|task| task.truncated), sum(|task| task.cut));
    if truncated > 0 {
        let _ = writeln!(
            out,
            "{truncated} questions are longer than the model reads: their end was read"
        );
    }
    if cut > 0 {
        let _ =
            writeln!(out, "{cut} answers were cut off, by --max-new-tokens or the model's context");
    }
    out
}

/// What the mean of a score is called, and the mean.
fn chat_mean(score: &ChatScore) -> (&'static str, f64) {
    match score.chatcore {
        Some(mean) => ("ChatCORE", mean),
        None => ("Mean", score.mean),
    }
}

fn sample_table(samples: &[Sample]) -> String {
    let mut out = String::new();
    for Sample { prompt, text, fault } in samples {
        let prompt = prompt.as_deref().map_or(String::new(), |prompt| format!("{prompt} |"));
        let text = match (text, fault) {
            (Some(text), _) => text.clone(),
            (None, fault) => format!(" (none: {})", fault.as_deref().unwrap_or_default()),
        };
        let text = format!("{prompt}{}", text.trim_end());
        let _ = writeln!(out, "{}", term::wrap(&text, term::text_width(), "> ", "  "));
    }
    out
}

/// Accuracies in the columns of nanochat's report: those of CORE, then those of conversations.
pub(super) fn csv(outcome: &Outcome) -> String {
    let mut out = format!("{:<35}, {:<10}, {:<10}\n", "Task", "Accuracy", "Centered");
    let mut row = |label: &str, accuracy: Option<f64>, centered: f64| {
        let accuracy = accuracy.map_or(String::new(), |accuracy| format!("{accuracy:.6}"));
        let _ = writeln!(out, "{label:<35}, {accuracy:<10}, {centered:<10.6}");
    };
    if let Some((score, _)) = &outcome.core {
        for TaskScore { label, accuracy, centered, .. } in &score.tasks {
            row(label, Some(*accuracy), *centered);
        }
        row("CORE", None, score.core);
    }
    if let Some(score) = &outcome.chat {
        for ChatTaskScore { name, accuracy, centered, .. } in &score.tasks {
            row(name, Some(*accuracy), *centered);
        }
        let (name, mean) = chat_mean(score);
        row(name, None, mean);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_named_by_what_was_asked() {
        let task = |name: &str, accuracy, centered, cut| ChatTaskScore {
            name: name.to_owned(),
            questions: 4,
            accuracy,
            centered,
            truncated: 0,
            cut,
        };
        let tasks = vec![task("arc-easy", 0.625, 0.5, 0), task("spelling", 0.25, 0.25, 3)];
        let score = ChatScore { chatcore: None, mean: 0.375, tasks };
        let table = "\
Task      Accuracy  Centered  Questions
arc-easy    0.6250    0.5000          4
spelling    0.2500    0.2500          4
Mean                  0.3750
3 answers were cut off, by --max-new-tokens or the model's context
";
        assert_eq!(chat_table(&score), table);
        let whole = ChatScore { chatcore: Some(0.5), ..score };
        assert!(chat_table(&whole).contains("\nChatCORE              0.5000\n"));
        let outcome = Outcome { chat: Some(whole), ..Outcome::default() };
        let last = csv(&outcome).lines().last().unwrap().to_owned();
        assert_eq!(last, format!("ChatCORE{}, {}, 0.500000  ", " ".repeat(27), " ".repeat(10)));
    }

    fn score() -> CoreScore {
        let task = |label: &str, accuracy, centered, truncated| TaskScore {
            label: label.to_owned(),
            questions: 8,
            accuracy,
            centered,
            truncated,
            cut: 0,
            merged: 0,
        };
        let tasks = vec![task("words", 0.125, 0.125, 3), task("choice", 0.625, 0.25, 0)];
        CoreScore { core: 0.1875, tasks }
    }

    #[test]
    fn the_table_names_what_was_cut() {
        let table = "\
Task    Accuracy  Centered  Questions
words     0.1250    0.1250          8
choice    0.6250    0.2500          8
CORE                0.1875
3 of 16 questions have prompts of more than the 64 tokens that the model reads: their end was read
";
        assert_eq!(core_table(&score(), 64), table);
    }

    #[test]
    fn the_file_has_the_columns_of_nanochat() {
        let outcome = Outcome { core: Some((score(), 64)), ..Outcome::default() };
        let lines: Vec<String> = csv(&outcome).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], format!("Task{}, Accuracy  , Centered  ", " ".repeat(31)));
        assert_eq!(lines[1], format!("words{}, 0.125000  , 0.125000  ", " ".repeat(30)));
        assert_eq!(lines[3], format!("CORE{},           , 0.187500  ", " ".repeat(31)));
        assert_eq!(lines.len(), 4);
    }
}
