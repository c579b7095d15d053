//! `anegpt devices facts`.

use crate::progress::counted;
use crate::term;
use anyhow::{Result, bail};
use chip::facts::{Basis, Confidence, Fact, fact, facts};
use chip::{Chip, legal};
use std::io::{IsTerminal, Write};

/// List known facts about the engine, with sources and tests
///
/// The id of a fact, such as E2-saturation, shows all of it. In lists, ! marks facts
/// that are not in force because others contradict them, and * those that a test
/// holds.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anegpt devices facts --chip m2 softmax
  anegpt devices facts E2-saturation")]
pub(crate) struct Args {
    /// The id of a fact, or words that it must contain
    text: Vec<String>,
    /// Only facts about this chip (list: anegpt devices)
    #[arg(long)]
    chip: Option<Chip>,
    /// Only facts about this system: macos15 or macos26
    #[arg(long)]
    os: Option<chip::Os>,
    /// Only facts about this route: in-memory or e5rt
    #[arg(long)]
    path: Option<chip::CallPath>,
    /// Only this section of the catalogue, such as E or E.1
    #[arg(long)]
    section: Option<String>,
    /// Only facts of at least this confidence
    #[arg(long, value_enum)]
    confidence: Option<Sureness>,
    /// Only facts that others contradict
    #[arg(long)]
    conflicts: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Sureness {
    High,
    Medium,
    Low,
}

impl Args {
    fn wants(&self, fact: &Fact) -> bool {
        let section = |wanted: &String| {
            let plain = |s: &str| s.to_ascii_uppercase().replace('.', "");
            plain(fact.section).starts_with(&plain(wanted))
        };
        let sure = |least: Sureness| {
            let least = match least {
                Sureness::High => Confidence::High,
                Sureness::Medium => Confidence::Medium,
                Sureness::Low => Confidence::Low,
            };
            fact.confidence <= least
        };
        let words = format!("{} {} {}", fact.id, fact.statement, fact.evidence).to_lowercase();
        self.chip.is_none_or(|chip| fact.chips.covers(chip.measured()))
            && self.os.is_none_or(|os| fact.os.is_none_or(|o| o == os))
            && self.path.is_none_or(|path| fact.path.is_none_or(|p| p == path))
            && self.section.as_ref().is_none_or(section)
            && self.confidence.is_none_or(sure)
            && (!self.conflicts || !fact.alternatives.is_empty())
            && self.text.iter().all(|word| words.contains(&word.to_lowercase()))
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let named = match &args.text[..] {
        [id] => fact(id),
        _ => None,
    };
    let chosen: Vec<&Fact> = match named {
        Some(fact) => vec![fact],
        None => facts().filter(|fact| args.wants(fact)).collect(),
    };
    if chosen.is_empty() {
        bail!(
            "no fact matches: leave out an option or a word; `anegpt devices facts` lists them all"
        );
    }
    let text = match named {
        _ if args.json => {
            let list: Vec<_> = chosen.iter().map(|fact| json(fact)).collect();
            format!("{}\n", serde_json::Value::Array(list))
        }
        Some(fact) => whole(fact),
        None => {
            let width = std::io::stdout().is_terminal().then(term::text_width);
            head(args.chip) + &table(&chosen, width)
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Says whose facts a chip without facts of its own is given.
fn head(chip: Option<Chip>) -> String {
    let nearest = chip.and_then(|chip| Some((chip, chip.nearest()?)));
    nearest.map_or(String::new(), |(chip, like)| {
        format!(
            "{chip} is taken for {like}, which these facts are about: not measured on this chip\n\n"
        )
    })
}

/// One line per fact, cut to `width` if one is given.
fn table(chosen: &[&Fact], width: Option<usize>) -> String {
    let mut text = String::new();
    let ids = chosen.iter().map(|fact| fact.id.len()).max().unwrap_or(0);
    let mut section = "";
    for fact in chosen {
        if fact.section != section {
            section = fact.section;
            text.push_str(&format!("{section}\n"));
        }
        let force = if fact.default { ' ' } else { '!' };
        let held = if fact.tests.is_empty() { ' ' } else { '*' };
        let start = format!("{force}{held}{:ids$} {:6} ", fact.id, fact.confidence);
        let room = width.map_or(usize::MAX, |width| width - start.chars().count());
        text.push_str(&format!("{start}{}\n", cut(fact.statement, room)));
    }
    let held = chosen.iter().filter(|fact| !fact.tests.is_empty()).count();
    let out = chosen.iter().filter(|fact| !fact.default).count();
    let n = counted(chosen.len(), "fact");
    text + &format!("{n}, * {held} held by a named test, ! {out} not in force\n")
}

/// The first `room` characters of a text, the last one an ellipsis where more follows.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

fn whole(fact: &Fact) -> String {
    let title = |id: &str| legal::rule(id).map_or("", |rule| rule.title);
    let other = |id: &str| chip::facts::fact(id).map_or("", |other| other.statement);
    let single = [
        ("", fact.statement.to_owned()),
        ("holds", fact.scope()),
        ("basis", basis(fact.basis)),
        ("sure", fact.confidence.to_string()),
        ("evidence", fact.evidence.to_owned()),
    ];
    let against = fact.alternatives.iter().map(|id| ("against", format!("{id}: {}", other(id))));
    let rules = fact.rules.iter().map(|id| ("rule", format!("{id} {}", title(id))));
    let tests = fact.tests.iter().map(|&test| ("test", test.to_owned()));
    let rows = single.into_iter().chain(against).chain(rules).chain(tests);
    let force = if fact.default { "" } else { "  (not in force)" };
    rows.fold(format!("{}{force}\n", fact.id), |text, (label, row)| text + &wrapped(label, &row))
}

fn basis(basis: Basis) -> String {
    let meaning = match basis {
        Basis::Measured => "a source measured it on the hardware",
        Basis::Derived => "a source read it out of binaries or code",
        Basis::Asserted => "a source says so without data",
        Basis::Inferred => "it explains what sources saw; nobody tested it",
        Basis::Verified => "computed anew from published data",
    };
    format!("{basis}: {meaning}")
}

/// A label and a text wrapped beside it.
pub(super) fn wrapped(label: &str, text: &str) -> String {
    const INDENT: usize = 11;
    let width = term::text_width();
    let mut out = String::new();
    let mut line = format!("{label:INDENT$}");
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            out.push_str(&format!("{line}\n"));
            line = " ".repeat(INDENT);
            empty = true;
        }
        line.push_str(if empty { "" } else { " " });
        line.push_str(word);
        empty = false;
    }
    format!("{out}{}\n", line.trim_end())
}

fn json(fact: &Fact) -> serde_json::Value {
    let chips: Vec<String> = (chip::Chip::ALL.iter())
        .filter(|&&chip| fact.chips.covers(chip))
        .map(ToString::to_string)
        .collect();
    serde_json::json!({
        "id": fact.id,
        "section": fact.section,
        "statement": fact.statement,
        "chips": chips,
        "os": fact.os.map(|os| os.to_string()),
        "path": fact.path.map(|path| path.to_string()),
        "evidence": fact.evidence,
        "basis": fact.basis.to_string(),
        "confidence": fact.confidence.to_string(),
        "default": fact.default,
        "alternatives": fact.alternatives,
        "rules": fact.rules,
        "tests": fact.tests,
    })
}
