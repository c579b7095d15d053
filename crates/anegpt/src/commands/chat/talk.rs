//! A conversation: messages, the tokens that a model reads of them, and its answers.

use super::output::Output;
use super::{Speaker, is_system};
use crate::generation::{Weights, accepted};
use crate::stop::{self, Signal};
use crate::{progress, term};
use infer::{Engine, Event, Finish, InferError, Job, Part, Sampling, Tools, Usage, prompt_tokens};
use std::sync::atomic::{AtomicBool, Ordering};
use tasks::Python;
use tokenizer::chat::{ChatTemplate, Message, Role};

/// Said of a model that knows no conversations.
pub(super) const BASE: &str = "this is a base model, without chat tokens or a chat template: it continues \
                               the text instead of answering";

/// Ctrl-C was pressed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Returns a handler of signals that stops the answer at Ctrl-C, and ends the program at others with the
/// terminal as it is now.
pub(super) fn interrupt() -> impl FnMut(Signal) + Send {
    let modes = stop::Modes::now();
    move |signal| match signal {
        Signal::Interrupt => {
            INTERRUPTED.store(true, Ordering::Relaxed);
            Python::stop_all();
        }
        other => {
            modes.restore();
            stop::at_once(other.exit_code());
        }
    }
}

/// Forgets that Ctrl-C was pressed: a new message came since.
pub(super) fn go_on() {
    INTERRUPTED.store(false, Ordering::Relaxed);
    Python::go_on();
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The model, or what it was asked.
    #[error(transparent)]
    Model(#[from] InferError),
    /// What was typed.
    #[error("{0}")]
    Request(String),
}

impl Trouble {
    /// True if no other message would do better.
    pub(super) fn is_fatal(&self) -> bool {
        use InferError::{Model, NotFinite};
        matches!(self, Trouble::Model(Model(_) | NotFinite { .. }))
    }
}

/// What can be set while one talks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) sampling: Sampling,
    pub(super) seed: u64,
    pub(super) max_tokens: usize,
}

/// A conversation with a model.
pub(super) struct Talk {
    engine: Engine,
    format: Option<ChatTemplate>,
    ends: Vec<u32>,
    tools: Option<Tools>,
    weights: Weights,
    pub(super) settings: Settings,
    /// All messages, that of the system first.
    messages: Vec<Message>,
    /// Messages, without that of the system, that are no longer in the context.
    forgotten: usize,
    /// No answer was given since the seed was set.
    seed_is_new: bool,
    last: Last,
}

/// What the last answer took.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    usage: Usage,
    prompt_seconds: f64,
    seconds: f64,
    /// Tokens guessed, and those of them that were drawn.
    drafted: (u64, u64),
}

impl Talk {
    pub(super) fn new(speaker: Speaker, settings: Settings) -> Self {
        let Speaker { engine, format, ends, tools, weights } = speaker;
        Talk {
            engine,
            format,
            ends,
            tools,
            weights,
            settings,
            messages: vec![],
            forgotten: 0,
            seed_is_new: true,
            last: Last::default(),
        }
    }

    /// True if the model is continued, not asked.
    pub(super) fn continues(&self) -> bool {
        self.format.is_none()
    }

    /// Sends a message and writes the answer. Both are forgotten if there is none.
    pub(super) fn ask(&mut self, text: &str, out: &mut Output) -> Result<(), Trouble> {
        self.messages.push(Message::new(Role::User, text));
        self.answer(out).inspect_err(|_| drop(self.messages.pop()))
    }

    /// Answers the last message again, with another seed unless one was set since.
    pub(super) fn retry(&mut self, out: &mut Output) -> Result<(), Trouble> {
        let spoken = self.messages.pop_if(|message| message.role == Role::Assistant);
        if self.messages.last().is_none_or(|message| message.role != Role::User) {
            self.messages.extend(spoken);
            return Err(Trouble::Request("there is no answer to try again".to_owned()));
        }
        if !self.seed_is_new {
            self.settings.seed = self.settings.seed.wrapping_add(1);
        }
        self.answer(out).inspect_err(|_| self.messages.extend(spoken))
    }

    /// Writes an answer to the last message, and takes it up.
    fn answer(&mut self, out: &mut Output) -> Result<(), Trouble> {
        let prompt = self.prompt(out)?;
        let Settings { sampling, seed, max_tokens } = self.settings;
        let ends = self.ends.clone();
        let before = self.engine.stats();
        let id = self.engine.submit(Job {
            prompt,
            max_tokens,
            sampling,
            seed,
            ends,
            tools: self.tools.clone(),
            ..Job::default()
        })?;
        let (mut tokens, mut text, mut usage) = (vec![], String::new(), None);
        let mut finish = Finish::Stopped;
        while self.engine.active() > 0 {
            let events = self.engine.step()?;
            // A step may have made a call, whose program was killed: what followed from that is not shown.
            if INTERRUPTED.swap(false, Ordering::Relaxed) {
                self.engine.cancel(id);
                break;
            }
            for (_, event) in events {
                let (part, piece) = match event {
                    Event::Token { id, text, part, .. } => {
                        tokens.push(id);
                        (part, text)
                    }
                    Event::Finished { text, finish: why, usage: took, .. } => {
                        (finish, usage) = (why, Some(took));
                        (Part::Text, text)
                    }
                    Event::Failed(error) => return Err(error.into()),
                    Event::Prompt { .. } => continue,
                };
                out.piece(part, &piece);
                text.push_str(&piece);
            }
        }
        out.end(self.remark(finish).as_deref());
        let after = self.engine.stats();
        self.last = Last {
            usage: usage.unwrap_or(Usage { completion: tokens.len(), ..Usage::default() }),
            prompt_seconds: after.prompt_seconds - before.prompt_seconds,
            seconds: after.decode_seconds - before.decode_seconds,
            drafted: (
                after.drafted_tokens - before.drafted_tokens,
                after.accepted_tokens - before.accepted_tokens,
            ),
        };
        self.seed_is_new = false;
        self.messages.push(match &self.format {
            Some(format) => format.answer(&tokens, self.engine.tokenizer()),
            None => Message::new(Role::Assistant, text),
        });
        Ok(())
    }

    /// Why an answer ended, unless the model ended it.
    fn remark(&self, finish: Finish) -> Option<String> {
        match finish {
            Finish::EndOfText | Finish::StopString => None,
            Finish::Stopped => Some("stopped".to_owned()),
            // What a base model continues has no end.
            Finish::MaxTokens if self.continues() => None,
            Finish::MaxTokens => {
                Some(format!("cut off after {} tokens: --max-tokens", self.settings.max_tokens))
            }
            Finish::ContextFull => {
                Some(format!("cut off: the context of {} tokens is full", self.engine.context()))
            }
        }
    }

    /// The tokens up to where the model is to speak. If they leave too little room for the answer, the
    /// oldest turns leave the context until half of it is free, so that this happens rarely.
    fn prompt(&mut self, out: &Output) -> Result<Vec<u32>, InferError> {
        let limit = self.engine.context();
        let room = self.settings.max_tokens.min(limit / 4).max(1);
        let (before, mut prompt) = (self.forgotten, self.rendered()?);
        let mut most = limit - room;
        while prompt.len() > most && self.forget_turn() {
            prompt = self.rendered()?;
            most = limit / 2;
        }
        if prompt.len() > limit {
            self.forgotten = before;
            return Err(InferError::TooLong { tokens: prompt.len(), limit });
        }
        let turns = self.questions(before..self.forgotten);
        if turns > 0 {
            let (what, verb) = if turns == 1 { ("turn", "is") } else { ("turns", "are") };
            out.note(&format!(
                "the context of {limit} tokens is full: the oldest {turns} {what} {verb} forgotten"
            ));
        }
        Ok(prompt)
    }

    fn rendered(&self) -> Result<Vec<u32>, InferError> {
        let (system, turns) = self.split();
        let turns = &turns[self.forgotten..];
        let tokenizer = self.engine.tokenizer();
        match &self.format {
            Some(format) => {
                let messages: Vec<Message> = system.iter().chain(turns).cloned().collect();
                Ok(format.render_for_completion(&messages, tokenizer)?)
            }
            None => prompt_tokens(tokenizer, &continued(system, turns)),
        }
    }

    /// The system's message, if there is one, and the others.
    fn split(&self) -> (&[Message], &[Message]) {
        self.messages.split_at(usize::from(self.messages.first().is_some_and(is_system)))
    }

    /// Leaves the oldest turn out, unless it is the only one.
    fn forget_turn(&mut self) -> bool {
        let (_, turns) = self.split();
        let mut later = turns.iter().enumerate().skip(self.forgotten + 1);
        let next = later.find(|(_, message)| message.role == Role::User).map(|(at, _)| at);
        self.forgotten = next.unwrap_or(self.forgotten);
        next.is_some()
    }

    /// The number of questions among these messages.
    fn questions(&self, of: std::ops::Range<usize>) -> usize {
        let (_, turns) = self.split();
        turns[of].iter().filter(|message| message.role == Role::User).count()
    }

    /// Instructions for what follows; `None` removes them.
    pub(super) fn set_system(&mut self, text: Option<&str>) {
        if self.messages.first().is_some_and(is_system) {
            self.messages.remove(0);
        }
        if let Some(text) = text {
            self.messages.insert(0, Message::new(Role::System, text));
        }
    }

    /// Begins anew, with the same instructions.
    pub(super) fn clear(&mut self) {
        self.messages.retain(is_system);
        self.forgotten = 0;
    }

    pub(super) fn set_seed(&mut self, seed: u64) {
        (self.settings.seed, self.seed_is_new) = (seed, true);
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Goes on with another conversation, if the model can read it.
    pub(super) fn replace(&mut self, messages: Vec<Message>) -> Result<(), Trouble> {
        if let Some(format) = &self.format {
            let checked = format.render_for_completion(&messages, self.engine.tokenizer());
            if !messages.is_empty() {
                checked.map_err(InferError::from)?;
            }
        }
        (self.messages, self.forgotten) = (messages, 0);
        Ok(())
    }

    /// What one talks with, and how.
    pub(super) fn describe(&self) -> String {
        let model = format!("{}, context {} tokens", self.engine.config(), self.engine.context());
        let keys = "/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.";
        let how = match &self.format {
            Some(format) => format!("It is asked through {}. {keys}", format.describe()),
            None => format!("Note: {BASE}. An empty line lets it go on. {keys}"),
        };
        let lines = format!("{model}\n{how}");
        term::wrap(&lines, term::text_width(), "", "")
    }

    /// Figures of the conversation and of the last answer.
    pub(super) fn stats(&self) -> String {
        let (system, turns) = self.split();
        let Last { usage, prompt_seconds, seconds, drafted } = self.last;
        let read = usage.prompt - usage.cached;
        let speed = |tokens: usize, seconds: f64| match seconds > 0.0 {
            true => format!("{:.1} tokens/s", tokens as f64 / seconds),
            false => "-".to_owned(),
        };
        let Settings { sampling, seed, max_tokens } = self.settings;
        let (all, gone) = (self.questions(0..turns.len()), self.questions(0..self.forgotten));
        let context = (usage.prompt + usage.completion, self.engine.context());
        let rows = [
            ("turns", format!("{all}, {gone} of them forgotten")),
            ("system", system.first().map_or("-".to_owned(), Message::text)),
            ("context", format!("{} of {} tokens", context.0, context.1)),
            ("read", format!("{read} tokens, {} more were in the cache", usage.cached)),
            ("answer", format!("{} tokens", usage.completion)),
            (
                "speed",
                format!(
                    "reading {}, answering {}",
                    speed(read, prompt_seconds),
                    // The first token comes with the end of the prompt.
                    speed(usage.completion.saturating_sub(1), seconds)
                ),
            ),
            (
                "drafts",
                match self.engine.drafts() {
                    true => accepted(drafted.0, drafted.1).unwrap_or_else(|| "none yet".to_owned()),
                    false => "off".to_owned(),
                },
            ),
            (
                "sampling",
                format!(
                    "temperature {}, top-k {}, top-p {}, min-p {}, repetition penalty {}, seed {seed}, \
                     at most {max_tokens} tokens",
                    sampling.temperature,
                    sampling.top_k,
                    sampling.top_p,
                    sampling.min_p,
                    sampling.repetition_penalty
                ),
            ),
            (
                "memory",
                format!(
                    "at most {}, weights in {}",
                    progress::size(self.engine.bytes() as u64),
                    format!("{:?}", self.weights).to_lowercase()
                ),
            ),
        ];
        let row =
            |(label, text): (&str, String)| term::hanging(label, &text, 11, term::text_width());
        rows.map(row).join("\n")
    }
}

/// The text that a base model continues: each message in a new line, answers as they came.
fn continued(system: &[Message], turns: &[Message]) -> String {
    let mut text = String::new();
    for message in system.iter().chain(turns) {
        let piece = message.text();
        let begins = message.role == Role::User && !piece.is_empty();
        if begins && !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&piece);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_model_gets_messages_in_lines_and_its_answers_as_they_came() {
        let say = |role, text: &str| Message::new(role, text);
        let system = [say(Role::System, "A tale.")];
        let turns = [
            say(Role::User, "Once"),
            say(Role::Assistant, " upon a"),
            say(Role::User, ""),
            say(Role::Assistant, " time.\n"),
            say(Role::User, "Then"),
        ];
        assert_eq!(continued(&system, &turns), "A tale.\nOnce upon a time.\nThen");
        assert_eq!(continued(&[], &turns[..1]), "Once");
    }
}
