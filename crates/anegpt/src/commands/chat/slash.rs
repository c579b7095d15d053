//! Commands within a conversation: lines that begin with `/`.

use super::output::Output;
use super::talk::{Settings, Talk, Trouble};
use super::{Next, read_messages};
use infer::Sampling;
use serde_json::json;
use std::path::Path;
use std::str::FromStr;

/// What a command does.
type Action = fn(&mut Talk, &str, &mut Output) -> Result<(), Trouble>;

/// A command: its name, its argument, its help, and what it does.
struct Command(&'static str, &'static str, &'static str, Action);

const COMMANDS: [Command; 11] = [
    Command("help", "", "list these commands", |_, _, out| {
        out.say(&help());
        Ok(())
    }),
    Command("retry", "", "answer the last message again, with another seed", |talk, _, out| {
        talk.retry(out)
    }),
    Command("clear", "", "begin a new conversation", |talk, _, out| {
        talk.clear();
        out.say("A new conversation begins.");
        Ok(())
    }),
    Command("system", "TEXT", "set the instructions; without TEXT, remove them", system),
    Command("temp", "T", "set the temperature; 0 = greedy", |talk, given, out| {
        set(talk, given, out, "temperature", |sampling| &mut sampling.temperature)
    }),
    Command("topk", "K", "draw from the K most likely tokens; 0 = all", |talk, given, out| {
        set(talk, given, out, "top-k", |sampling| &mut sampling.top_k)
    }),
    Command("seed", "N", "set the random seed", seed),
    Command("save", "FILE", "write the conversation as JSON", |talk, given, out| {
        save(talk, Path::new(needed(given, "/save FILE")?), out)
    }),
    Command("load", "FILE", "go on with a saved conversation", |talk, given, out| {
        load(talk, Path::new(needed(given, "/load FILE")?), out)
    }),
    Command("stats", "", "show tokens, speed, context and settings", |talk, _, out| {
        out.say(&talk.stats());
        Ok(())
    }),
    Command("quit", "", "leave (also Ctrl-D)", |_, _, _| Ok(())),
];

/// Names of all commands.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.0)
}

/// Runs a command, given without its slash.
pub(super) fn run(line: &str, talk: &mut Talk, out: &mut Output) -> Result<Next, Trouble> {
    let (name, given) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if ["quit", "exit"].contains(&name) {
        return Ok(Next::Leave);
    }
    let Some(Command(.., action)) = COMMANDS.iter().find(|command| command.0 == name) else {
        return Err(Trouble::Request(format!(
            "there is no command /{name}: /help lists them; a message that begins with / is typed with //"
        )));
    };
    action(talk, given.trim(), out)?;
    Ok(Next::Go)
}

fn help() -> String {
    let line = |Command(name, given, does, _): &Command| {
        format!("{:<14} {does}", format!("/{name} {given}"))
    };
    let mut lines: Vec<String> = COMMANDS.iter().map(line).collect();
    lines.push(
        "A line that ends with \\ goes on in the next one; \"\"\" begins and ends a longer".into(),
    );
    lines.push("text. // sends a message that begins with /. Ctrl-C stops an answer.".into());
    lines.join("\n")
}

fn needed<'a>(given: &'a str, form: &str) -> Result<&'a str, Trouble> {
    match given {
        "" => Err(Trouble::Request(format!("a name is missing: {form}"))),
        given => Ok(given),
    }
}

fn number<T: FromStr>(given: &str, what: &str) -> Result<T, Trouble> {
    let wrong = || Trouble::Request(format!("`{given}` is no number for the {what}"));
    given.parse().map_err(|_| wrong())
}

/// Shows or sets one of the settings of sampling.
fn set<T: FromStr + std::fmt::Display>(
    talk: &mut Talk,
    given: &str,
    out: &Output,
    what: &str,
    field: fn(&mut Sampling) -> &mut T,
) -> Result<(), Trouble> {
    let Settings { mut sampling, .. } = talk.settings;
    if !given.is_empty() {
        *field(&mut sampling) = number(given, what)?;
        sampling.validate().map_err(infer::InferError::from)?;
        talk.settings.sampling = sampling;
    }
    out.say(&format!("{what} {}", field(&mut sampling)));
    Ok(())
}

fn seed(talk: &mut Talk, given: &str, out: &mut Output) -> Result<(), Trouble> {
    if !given.is_empty() {
        talk.set_seed(number(given, "seed")?);
    }
    out.say(&format!("seed {}", talk.settings.seed));
    Ok(())
}

fn system(talk: &mut Talk, given: &str, out: &mut Output) -> Result<(), Trouble> {
    let text = Some(given).filter(|text| !text.is_empty());
    talk.set_system(text);
    out.say(if text.is_some() { "Instructions are set." } else { "Instructions are removed." });
    Ok(())
}

/// Writes the conversation. A file is replaced only if it is one too.
fn save(talk: &Talk, path: &Path, out: &Output) -> Result<(), Trouble> {
    let name = path.display();
    let is_ours = |text: String| read_messages(&text).is_ok();
    if path.exists() && !std::fs::read_to_string(path).is_ok_and(is_ours) {
        return Err(Trouble::Request(format!(
            "{name} is there already and is no conversation: give another name"
        )));
    }
    let messages = talk.messages();
    let text = serde_json::to_string_pretty(&json!({ "messages": messages }));
    let written =
        text.map_err(std::io::Error::from).and_then(|text| std::fs::write(path, text + "\n"));
    written.map_err(|error| Trouble::Request(format!("cannot write {name}: {error}")))?;
    out.say(&format!("{name}: {} messages", messages.len()));
    Ok(())
}

fn load(talk: &mut Talk, path: &Path, out: &Output) -> Result<(), Trouble> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Trouble::Request(format!("cannot read {name}: {error}")))?;
    let messages = read_messages(&text)
        .map_err(|error| Trouble::Request(format!("{name} is no conversation: {error}")))?;
    let count = messages.len();
    talk.replace(messages)?;
    out.say(&format!("{name}: {count} messages"));
    Ok(())
}
