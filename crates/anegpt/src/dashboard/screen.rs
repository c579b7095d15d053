//! The terminal of the dashboard: reads keys and logs, and draws when there is something new.

use super::app::{Action, App, Shown};
use super::draw::draw;
use super::look::Look;
use super::source::Source;
use crate::{clock, stop};
use anyhow::{Context, Result, bail};
use ratatui_core::terminal::Terminal;
use ratatui_crossterm::CrosstermBackend;
use ratatui_crossterm::crossterm::cursor::Show;
use ratatui_crossterm::crossterm::event::{self, Event, KeyEventKind};
use ratatui_crossterm::crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use ratatui_crossterm::crossterm::{execute, queue};
use std::io::{Stdout, stdout};
use std::time::{Duration, Instant};

/// Time between two looks at the logs.
const TICK: Duration = Duration::from_millis(250);
/// Time of reading between two looks at the keyboard, while much is unread.
const READING: Duration = Duration::from_millis(40);
/// Time between two pictures that differ in nothing but times.
const IDLE: Duration = Duration::from_secs(1);
/// Least time between two pictures of events as they come; keys do not wait.
const BUSY: Duration = Duration::from_millis(500);

/// Shows runs until the user quits.
///
/// # Errors
/// When the terminal cannot be used, and with the errors of a command that was started here and failed.
pub(crate) fn show(runs: Vec<(String, Source)>, look: Look) -> Result<()> {
    let (names, mut sources): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    let mut app = App::new(names.into_iter().map(Shown::new).collect(), look);
    let mut screen = Screen::open().context("this terminal cannot be used")?;
    stop::on_request(|signal| {
        restore();
        stop::at_once(signal.exit_code());
    })?;
    let quit = run(&mut screen.0, &mut app, &mut sources);
    drop(screen);
    quit?;
    match app.runs.iter().find(|run| run.failed) {
        Some(run) => {
            bail!("{}: the command that was started here failed\n{}", run.name, run.errors.trim())
        }
        None => Ok(()),
    }
}

/// The whole terminal, which gets its lines back at the end.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    fn open() -> std::io::Result<Self> {
        enable_raw_mode()?;
        // From here on the terminal is restored, whatever fails.
        let entered = execute!(stdout(), EnterAlternateScreen);
        let opened = entered.and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        opened.map(Screen).inspect_err(|_| restore())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back as it was. Nobody is left to be told that this fails.
fn restore() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

fn run(
    terminal: &mut Terminal<CrosstermBackend<Stdout>>,
    app: &mut App,
    sources: &mut [Source],
) -> Result<()> {
    let mut drawn: Option<Instant> = None;
    let mut news = true;
    loop {
        app.now = clock::now();
        let mut unread = false;
        if !app.paused {
            for (index, (source, shown)) in sources.iter_mut().zip(&mut app.runs).enumerate() {
                let sampling = shown.sampling;
                news |= source.read(READING, shown);
                unread |= shown.unread.0 > 0;
                if sampling && !shown.sampling && index == app.selected {
                    // The text that was asked for is the newest.
                    app.text = 0;
                }
            }
        }
        let since = drawn.map_or(Duration::MAX, |drawn| drawn.elapsed());
        if since >= IDLE || news && since >= BUSY {
            // Terminals that can wait show a picture once it is complete.
            queue!(stdout(), BeginSynchronizedUpdate)?;
            terminal.draw(|frame| draw(frame, app))?;
            execute!(stdout(), EndSynchronizedUpdate)?;
            (drawn, news) = (Some(Instant::now()), false);
        }
        let wait = if unread { Duration::ZERO } else { TICK };
        let mut waits = event::poll(wait)?;
        while waits {
            news = true;
            // Everything that is drawn follows from the state: another size or a key is news.
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && let Some(action) = app.key(key)
                && done(action, app, sources)
            {
                return Ok(());
            }
            waits = event::poll(Duration::ZERO)?;
            if !waits {
                drawn = None;
            }
        }
    }
}

/// Does what a key asked for. True at the end.
fn done(action: Action, app: &mut App, sources: &mut [Source]) -> bool {
    let (index, result) = match action {
        Action::Quit => return true,
        Action::Sample(index) => {
            let record = &app.runs[index].record;
            let (prompt, talks) = (record.question().map(str::to_owned), record.talks());
            (
                index,
                sources[index].sample(prompt.as_deref(), talks).map(|()| {
                    app.runs[index].sampling = true;
                    "generating a text: it appears under Texts"
                }),
            )
        }
        Action::Stop(index) => (
            index,
            sources[index].stop().map(|()| {
                app.runs[index].stopping = true;
                "asked to stop after this step"
            }),
        ),
        Action::Resume(index, words) => (
            index,
            sources[index].resume(&words, app.runs[index].record.sessions).map(|()| {
                let shown = &mut app.runs[index];
                (shown.ours, shown.failed, shown.stopping) = (true, false, false);
                shown.errors.clear();
                "started"
            }),
        ),
    };
    let name = &app.runs[index].name;
    app.message = match result {
        Ok(said) => format!("{name}: {said}"),
        Err(error) => format!("{name}: {error:#}"),
    };
    false
}
