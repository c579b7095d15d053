//! The state of the dashboard: runs, and what of them is looked at. Keys change it; nothing here draws or waits.

use super::look::Look;
use crate::record::Record;
use ratatui_crossterm::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::VecDeque;
use std::path::PathBuf;
use train::{Lock, Reason};

/// Texts asked for that are kept.
const ASKED: usize = 20;
/// Steps over which losses are smoothed: by the part of the run that is shown, not at all, or a number.
const SMOOTHING: [Smoothing; 5] = [
    Smoothing::Auto,
    Smoothing::Off,
    Smoothing::Steps(10),
    Smoothing::Steps(100),
    Smoothing::Steps(1000),
];
/// Seconds without an event after which a run counts as silent, or so many steps.
const SILENCE: f64 = 60.0;
const SILENT_STEPS: f64 = 20.0;
/// Each is twice as close as the one before.
const CLOSEST: u32 = 16;
/// Lines of a page up or down.
const PAGE: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Smoothing {
    Auto,
    Off,
    Steps(u32),
}

/// The pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Loss,
    Charts,
    Time,
    Ranges,
    Texts,
    Results,
    Log,
}

impl Page {
    pub(super) const ALL: [(Page, &'static str); 8] = [
        (Page::Overview, "Overview"),
        (Page::Loss, "Loss"),
        (Page::Charts, "Charts"),
        (Page::Time, "Time"),
        (Page::Ranges, "Ranges"),
        (Page::Texts, "Texts"),
        (Page::Results, "Results"),
        (Page::Log, "Log"),
    ];
}

/// A question with yes or no for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Ask the run to stop?
    Stop,
    /// Start this command?
    Resume(Vec<String>),
    /// Quit, and leave a run that was started here to itself?
    Quit,
}

/// What a key asks for that is done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    /// Generate a text from the newest checkpoint of a run.
    Sample(usize),
    /// Ask a run to stop.
    Stop(usize),
    /// Start the command that goes on with a run.
    Resume(usize, Vec<String>),
}

/// How a run is doing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// So many hundredths of the log are read.
    Reading(u64),
    /// Nothing was told yet.
    Waiting,
    Running,
    /// No event for so many seconds.
    Silent(f64),
    Ended(Reason),
    /// The command that was started here failed.
    Failed,
}

/// A run as it is shown.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(super) name: String,
    pub(super) record: Record,
    /// Bytes of the log that were not read yet, and all of them.
    pub(super) unread: (u64, u64),
    /// Why the log cannot be read.
    pub(super) fault: Option<String>,
    /// The directory of the run, where there is one.
    pub(super) directory: Option<PathBuf>,
    /// Texts asked for, the newest first, with the checkpoint each is from.
    pub(super) asked: VecDeque<(String, String)>,
    /// True while a text is generated.
    pub(super) sampling: bool,
    /// True once the run was asked to stop.
    pub(super) stopping: bool,
    /// True while a command that was started here runs.
    pub(super) ours: bool,
    /// True if a command that was started here failed.
    pub(super) failed: bool,
    /// What that command wrote to its standard error.
    pub(super) errors: String,
}

impl Shown {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Shown { name: name.into(), ..Shown::default() }
    }

    pub(super) fn state(&self, now: f64) -> State {
        let (unread, all) = self.unread;
        if unread > 0 {
            return State::Reading(100 * all.saturating_sub(unread) / all.max(1));
        }
        if self.failed {
            return State::Failed;
        }
        if let Some(ended) = &self.record.ended {
            return State::Ended(ended.reason);
        }
        if self.record.is_empty() {
            return State::Waiting;
        }
        let silent = now - self.record.last_time.unwrap_or(now);
        let patience = SILENCE.max(SILENT_STEPS * self.record.recent_ms / 1e3);
        if silent > patience && !self.ours { State::Silent(silent) } else { State::Running }
    }

    pub(super) fn answer(&mut self, checkpoint: String, text: String) {
        self.sampling = false;
        self.asked.push_front((checkpoint, text));
        self.asked.truncate(ASKED);
    }

    /// True if a process of this machine works in the directory of the run.
    fn is_held(&self) -> bool {
        self.directory.as_ref().is_some_and(|directory| Lock::holder(directory).is_some())
    }

    /// The words of the command that goes on with the run.
    fn resume(&self, now: f64) -> Result<Vec<String>, &'static str> {
        let reason = match (self.state(now), &self.record.ended) {
            (State::Ended(reason), _) => reason,
            // The command that was to go on with it failed.
            (State::Failed, Some(ended)) => ended.reason,
            // Killed: it did not say that it ended, and nothing holds its directory.
            (State::Silent(_), None) if !self.is_held() => Reason::Interrupted,
            (State::Silent(_), None) => return Err("the run has not ended: its process is there"),
            _ => return Err("only a run that has ended or fell silent can be resumed here"),
        };
        let directory =
            self.directory.as_ref().ok_or("this log belongs to no directory of a run")?;
        let command = self.record.command.clone();
        let mut words = vec![command, "--resume".to_owned(), directory.display().to_string()];
        if let (Reason::Finished, Some(steps)) = (reason, self.record.total()) {
            words.extend(["--steps".to_owned(), (2 * steps).to_string()]);
        }
        Ok(words)
    }
}

/// The dashboard.
#[derive(Debug)]
pub(crate) struct App {
    pub(super) runs: Vec<Shown>,
    pub(super) selected: usize,
    pub(super) page: Page,
    /// True if charts show all runs.
    pub(super) compare: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// True if the terminal is too small to show anything: no key but those that quit does anything.
    pub(super) too_small: bool,
    /// The charts show 2^-zoom of the steps, which end so many of their widths before the newest.
    pub(super) zoom: u32,
    pub(super) back: f64,
    smoothing: usize,
    pub(super) logarithmic: bool,
    /// Lines scrolled, by page: from the top, on the log from the end.
    scrolls: [usize; Page::ALL.len()],
    /// The text that is shown: 0 is the newest.
    pub(super) text: usize,
    pub(super) question: Option<Question>,
    pub(super) message: String,
    /// Seconds since 1970.
    pub(super) now: f64,
    pub(super) look: Look,
}

impl App {
    pub(crate) fn new(runs: Vec<Shown>, look: Look) -> Self {
        App {
            compare: runs.len() > 1,
            runs,
            selected: 0,
            page: Page::Overview,
            paused: false,
            help: false,
            too_small: false,
            zoom: 0,
            back: 0.0,
            smoothing: 0,
            logarithmic: false,
            scrolls: [0; Page::ALL.len()],
            text: 0,
            question: None,
            message: String::new(),
            now: 0.0,
            look,
        }
    }

    /// The run that is looked at.
    pub(super) fn run(&self) -> &Shown {
        &self.runs[self.selected]
    }

    pub(super) fn smoothing(&self) -> Smoothing {
        SMOOTHING[self.smoothing]
    }

    /// Lines scrolled on this page.
    pub(super) fn scroll(&mut self) -> &mut usize {
        &mut self.scrolls[self.page as usize]
    }

    /// The runs whose curves are drawn, with their places in the list.
    pub(super) fn drawn(&self) -> impl Iterator<Item = (usize, &Shown)> {
        let (compare, selected) = (self.compare, self.selected);
        self.runs.iter().enumerate().filter(move |(index, _)| compare || *index == selected)
    }

    /// The steps that charts show; all of them where it is `None`.
    pub(super) fn steps(&self) -> Option<(f64, f64)> {
        if self.zoom == 0 {
            return None;
        }
        let ends = self.drawn().filter_map(|(_, run)| {
            let buckets = [&run.record.loss, &run.record.validation].map(|series| series.buckets());
            let all = || buckets.iter().copied().flatten();
            Some((all().map(|b| b.first).min()?, all().map(|b| b.last).max()?))
        });
        let (first, last) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let width = (last - first) as f64 / f64::from(1u32 << self.zoom);
        let end = (last as f64 - self.back * width).max(first as f64 + width);
        Some((end - width, end))
    }

    /// Takes a key.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Option<Action> {
        self.message.clear();
        if self.too_small {
            self.question = None;
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            let quits = key.code == KeyCode::Char(if control { 'c' } else { 'q' });
            return quits.then_some(Action::Quit);
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') if self.question == Some(Question::Quit) => Some(Action::Quit),
                KeyCode::Char('c') => self.quit(),
                _ => None,
            };
        }
        if let Some(question) = self.question.take() {
            return self.answer(question, key.code);
        }
        if self.help {
            self.help = false;
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return self.quit(),
            KeyCode::Char('s') => return self.sample(),
            KeyCode::Char('x') => self.ask_to_stop(),
            KeyCode::Char('r') => match self.run().resume(self.now) {
                Ok(words) => self.question = Some(Question::Resume(words)),
                Err(reason) => reason.clone_into(&mut self.message),
            },
            code => self.look_at(code),
        }
        None
    }

    /// Keys that change what is looked at.
    fn look_at(&mut self, code: KeyCode) {
        let runs = self.runs.len();
        match code {
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char(digit @ '1'..='8') => {
                self.page = Page::ALL[digit as usize - '1' as usize].0;
            }
            KeyCode::Char(']') => self.turn(1),
            KeyCode::Char('[') => self.turn(Page::ALL.len() - 1),
            KeyCode::Tab => self.select(self.selected + 1),
            KeyCode::BackTab => self.select(self.selected + runs - 1),
            KeyCode::Char('c') if runs > 1 => self.compare = !self.compare,
            KeyCode::Char('c') => {
                "there is one run: name several to compare them".clone_into(&mut self.message)
            }
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('m') => self.smoothing = (self.smoothing + 1) % SMOOTHING.len(),
            KeyCode::Char('y') => self.logarithmic = !self.logarithmic,
            KeyCode::Char('+' | '=') => self.zoom_to((self.zoom + 1).min(CLOSEST)),
            KeyCode::Char('-') => self.zoom_to(self.zoom.saturating_sub(1)),
            KeyCode::Char('0') => (self.zoom, self.back) = (0, 0.0),
            KeyCode::Left | KeyCode::Right => self.move_sideways(code == KeyCode::Left),
            KeyCode::Up => self.move_up(1),
            KeyCode::Down => self.move_down(1),
            KeyCode::PageUp => self.move_up(PAGE),
            KeyCode::PageDown => self.move_down(PAGE),
            KeyCode::Home => self.move_up(usize::MAX),
            KeyCode::End => self.move_down(usize::MAX),
            _ => {}
        }
    }

    fn turn(&mut self, pages: usize) {
        self.page = Page::ALL[(self.page as usize + pages) % Page::ALL.len()].0;
    }

    fn select(&mut self, run: usize) {
        self.selected = run % self.runs.len();
        (self.scrolls, self.text) = ([0; Page::ALL.len()], 0);
    }

    /// Shows 2^-zoom of the steps, which end where they did, if so many are there.
    fn zoom_to(&mut self, zoom: u32) {
        let widths = 2f64.powi(zoom as i32 - self.zoom as i32);
        self.zoom = zoom;
        self.back = self.within(self.back * widths);
    }

    /// Widths between the steps that are shown and the newest, as far as there are any.
    fn within(&self, back: f64) -> f64 {
        back.clamp(0.0, f64::from(1u32 << self.zoom) - 1.0)
    }

    /// Towards older steps or texts, or newer ones.
    fn move_sideways(&mut self, older: bool) {
        if self.page == Page::Texts {
            self.text = if older { self.text + 1 } else { self.text.saturating_sub(1) };
            *self.scroll() = 0;
        } else if self.zoom > 0 {
            self.back = self.within(self.back + if older { 0.5 } else { -0.5 });
        } else {
            "+ shows fewer steps; then the arrows move along them".clone_into(&mut self.message);
        }
    }

    fn move_up(&mut self, lines: usize) {
        let log = self.page == Page::Log;
        let scroll = self.scroll();
        *scroll = if log { scroll.saturating_add(lines) } else { scroll.saturating_sub(lines) };
    }

    fn move_down(&mut self, lines: usize) {
        let log = self.page == Page::Log;
        let scroll = self.scroll();
        *scroll = if log { scroll.saturating_sub(lines) } else { scroll.saturating_add(lines) };
    }

    fn quit(&mut self) -> Option<Action> {
        if !self.runs.iter().any(|run| run.ours) {
            return Some(Action::Quit);
        }
        self.question = Some(Question::Quit);
        None
    }

    fn sample(&mut self) -> Option<Action> {
        let run = self.run();
        let reason = match () {
            () if run.sampling => "a text is being generated already",
            () if run.directory.is_none() => "this log belongs to no directory of a run",
            () if run.record.talks() && run.record.question().is_none() => {
                "the log names no question to ask: anegpt chat asks yours"
            }
            () => return Some(Action::Sample(self.selected)),
        };
        reason.clone_into(&mut self.message);
        None
    }

    fn ask_to_stop(&mut self) {
        let run = self.run();
        let reason = match run.state(self.now) {
            _ if run.stopping => "the run was asked to stop already",
            State::Ended(_) | State::Failed => "the run has ended",
            _ => return self.question = Some(Question::Stop),
        };
        reason.clone_into(&mut self.message);
    }

    fn answer(&mut self, question: Question, code: KeyCode) -> Option<Action> {
        if !matches!(code, KeyCode::Char('y' | 'Y') | KeyCode::Enter) {
            return None;
        }
        Some(match question {
            Question::Stop => Action::Stop(self.selected),
            Question::Resume(words) => Action::Resume(self.selected, words),
            Question::Quit => Action::Quit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(app: &mut App, keys: &[KeyCode]) {
        for &code in keys {
            app.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
    }

    #[test]
    fn zooming_out_never_leaves_the_steps() {
        let look = Look { unicode: true, colour: false };
        let mut app = App::new(vec![Shown::new("run")], look);
        press(&mut app, &[KeyCode::Char('+'), KeyCode::Char('+')]);
        // To the oldest steps: three widths of a quarter.
        press(&mut app, &[KeyCode::Left; 9]);
        assert_eq!((app.zoom, app.back), (2, 3.0));
        press(&mut app, &[KeyCode::Char('-')]);
        assert_eq!((app.zoom, app.back), (1, 1.0));
        press(&mut app, &[KeyCode::Char('-')]);
        assert_eq!((app.zoom, app.back), (0, 0.0));
        // Closer, the end stays where it was.
        press(&mut app, &[KeyCode::Char('+'), KeyCode::Left, KeyCode::Char('+')]);
        assert_eq!((app.zoom, app.back), (2, 1.0));
    }

    #[test]
    fn unseen_keys_do_nothing() {
        let look = Look { unicode: true, colour: false };
        let mut app = App::new(vec![Shown::new("run")], look);
        press(&mut app, &[KeyCode::Char('x')]);
        assert_eq!(app.question, Some(Question::Stop));
        app.too_small = true;
        let action = |app: &mut App, code| app.key(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(action(&mut app, KeyCode::Char('y')), None);
        assert_eq!(app.question, None);
        for key in "sxr1?p".chars() {
            assert_eq!(action(&mut app, KeyCode::Char(key)), None);
        }
        assert_eq!((app.question.clone(), app.help, app.paused), (None, false, false));
        assert_eq!(action(&mut app, KeyCode::Char('q')), Some(Action::Quit));
    }

    /// One whose process was killed never says that it ended.
    #[test]
    fn a_run_that_was_killed_can_be_resumed_once_it_is_silent() {
        let directory = tempfile::tempdir().unwrap();
        let mut shown = Shown { directory: Some(directory.path().to_owned()), ..Shown::new("run") };
        let line = br#"{"event":"sample","step":1,"text":"a","time":1000.0}"#;
        shown.record.take(crate::record::News::Line(line));
        assert_eq!(shown.state(1010.0), State::Running);
        assert!(shown.resume(1010.0).is_err());
        let silent = 1000.0 + 2.0 * SILENCE;
        assert_eq!(shown.state(silent), State::Silent(2.0 * SILENCE));
        assert_eq!(shown.resume(silent).unwrap()[1], "--resume");
        let lock = Lock::acquire(directory.path()).unwrap();
        assert!(shown.resume(silent).unwrap_err().contains("its process is there"));
        drop(lock);
    }

    #[test]
    fn a_resume_that_failed_can_be_tried_again() {
        let mut shown = Shown { directory: Some("run".into()), failed: true, ..Shown::new("run") };
        assert!(shown.resume(0.0).is_err(), "it never began");
        shown.record.ended = Some(crate::record::Ended {
            reason: Reason::Interrupted,
            spent: train::Spent::default(),
            peak_memory_mib: None,
        });
        assert_eq!(shown.state(0.0), State::Failed);
        assert_eq!(shown.resume(0.0).unwrap()[1..], ["--resume", "run"]);
    }
}
