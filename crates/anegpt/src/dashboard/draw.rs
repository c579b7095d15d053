//! Draws the dashboard: a header, one page, and the keys.

use super::app::{App, Page, Question, Shown, State};
use super::look::Look;
use super::pages;
use crate::record::ended_by;
use crate::record::facts::duration;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::{Constraint, Layout, Rect};
use ratatui_core::style::Style;
use ratatui_core::terminal::Frame;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Smallest terminal.
const LEAST: (u16, u16) = (60, 16);

const KEYS: [(&str, &str); 17] = [
    ("1 … 8, [ ]", "go to a page"),
    ("Tab, Shift-Tab", "next run, run before"),
    ("c", "draw all runs together, or one"),
    ("+ - 0", "show fewer steps, more, all"),
    ("← →", "move along the steps; on Texts: older, newer"),
    ("↑ ↓ PgUp PgDn", "scroll what does not fit"),
    ("Home End", "to the first line, the last"),
    ("p, Space", "pause: read no more events until pressed again"),
    ("m", "smooth losses more or less"),
    ("y", "logarithmic axis"),
    ("s", "sample from the newest checkpoint, on the CPU"),
    ("x", "stop the run gracefully: it saves a checkpoint"),
    ("r", "resume a run that has ended"),
    ("?", "these keys"),
    ("q, Ctrl-C", "quit; runs go on"),
    ("y, Enter", "answer yes to a question"),
    ("any other key", "answer no"),
];

/// Draws all of it.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let (area, look) = (frame.area(), app.look);
    let buffer = frame.buffer_mut();
    app.too_small = area.width < LEAST.0 || area.height < LEAST.1;
    if app.too_small {
        let size = format!(
            "{}x{} is too small: {}x{} at least",
            area.width, area.height, LEAST.0, LEAST.1
        );
        line(&size, 0, area, buffer, Style::new());
        return line("q quits", 1, area, buffer, Style::new());
    }
    let list = u16::from(app.runs.len() > 1);
    let rows = [1, 1, list].map(Constraint::Length);
    let rows = rows.into_iter().chain([Constraint::Fill(1), Constraint::Length(1)]);
    let [header, tabs, runs, body, footer] = Layout::vertical(rows).areas(area);
    draw_header(app, header, buffer);
    draw_tabs(app, tabs, buffer);
    if list > 0 {
        draw_runs(app, runs, buffer);
    }
    pages::draw(app, body, buffer);
    draw_footer(app, footer, buffer);
    if app.help {
        draw_help(look, body, buffer);
    }
}

/// A frame with a title; returns the room in it.
pub(super) fn panel(title: &str, area: Rect, buffer: &mut Buffer, look: Look) -> Rect {
    if area.width < 4 || area.height < 2 {
        return Rect::default();
    }
    let [across, down, a, b, c, d] = match look.unicode {
        true => ["─", "│", "┌", "┐", "└", "┘"],
        false => ["-", "|", "+", "+", "+", "+"],
    };
    let (style, inside) = (look.quiet(), usize::from(area.width) - 2);
    let (right, bottom) = (area.right() - 1, area.bottom() - 1);
    let floor = across.repeat(inside);
    buffer.set_string(area.x, area.y, format!("{a}{floor}{b}"), style);
    for y in area.y + 1..bottom {
        buffer.set_string(area.x, y, down, style);
        buffer.set_string(right, y, down, style);
    }
    buffer.set_string(area.x, bottom, format!("{c}{floor}{d}"), style);
    buffer.set_stringn(area.x + 1, area.y, format!(" {} ", clean(title)), inside, look.strong());
    Rect::new(area.x + 1, area.y + 1, area.width - 2, area.height - 2)
}

/// Draws a line of text at a row of an area, if it has that row.
pub(super) fn line(text: &str, row: usize, area: Rect, buffer: &mut Buffer, style: Style) {
    if row < usize::from(area.height) {
        buffer.set_stringn(area.x, area.y + row as u16, clean(text), area.width.into(), style);
    }
}

/// A text of characters that take one column or two on every terminal: control characters, which would move the
/// cursor, are shown as �, and those without a width of their own, about which terminals differ, are left out.
fn clean(text: &str) -> String {
    let shown = |c: char| match c.width() {
        _ if c.is_control() => Some(char::REPLACEMENT_CHARACTER),
        None | Some(0) => None,
        Some(_) => Some(c),
    };
    text.chars().filter_map(shown).collect()
}

/// How a run is doing, in words.
pub(super) fn described(run: &Shown, now: f64) -> String {
    if let Some(fault) = &run.fault {
        return fault.clone();
    }
    let state = run.state(now);
    match state {
        State::Reading(percent) => format!("reading the log: {percent} %"),
        State::Waiting if run.ours => "starting".to_owned(),
        State::Waiting => "no events yet".to_owned(),
        State::Running if run.stopping => "stopping".to_owned(),
        State::Running => "running".to_owned(),
        State::Silent(seconds) => format!("silent for {}", duration(seconds)),
        State::Ended(reason) => ended_by(reason).to_owned(),
        State::Failed => "failed: see Log".to_owned(),
    }
}

fn draw_header(app: &App, area: Rect, buffer: &mut Buffer) {
    let run = app.run();
    let mut words = vec![run.name.clone(), described(run, app.now)];
    let record = &run.record;
    if let Some(total) = record.total() {
        let percent = 100 * record.step / total.max(1);
        words.push(format!("step {} of {total} ({percent} %)", record.step));
    }
    if run.state(app.now) == State::Running
        && let Some(left) = record.seconds_left()
    {
        words.push(format!("{} left", duration(left)));
    }
    let right = match (app.paused, app.zoom) {
        (true, _) => "[paused]".to_owned(),
        (false, 0) => String::new(),
        (false, zoom) => format!("[1/{} of the steps]", 1u64 << zoom),
    };
    line(&words.join("   "), 0, area, buffer, app.look.strong());
    let width = right.width() as u16;
    buffer.set_string(area.right() - width, area.y, right, app.look.warning());
}

fn draw_tabs(app: &App, area: Rect, buffer: &mut Buffer) {
    let mut x = area.x;
    for (index, (page, name)) in Page::ALL.into_iter().enumerate() {
        let (text, style) = match page == app.page {
            true => (format!("[{} {name}]", index + 1), app.look.chosen()),
            false => (format!(" {} {name} ", index + 1), Style::new()),
        };
        let room = usize::from(area.right().saturating_sub(x));
        x = buffer.set_stringn(x, area.y, text, room, style).0;
    }
}

/// The letter of a run.
pub(super) fn letter(index: usize) -> char {
    char::from(b'A' + (index % 26) as u8)
}

fn draw_runs(app: &App, area: Rect, buffer: &mut Buffer) {
    // As many as fit, the selected one among them.
    let texts: Vec<String> = (app.runs.iter().enumerate())
        .map(|(index, run)| {
            let text =
                format!("{} {} ({})", letter(index), clean(&run.name), described(run, app.now));
            if index == app.selected { format!("[{text}]") } else { format!(" {text} ") }
        })
        .collect();
    let mut first = 0;
    while first < app.selected
        && texts[first..=app.selected].iter().map(|text| text.width()).sum::<usize>()
            > area.width.into()
    {
        first += 1;
    }
    let mut x = area.x;
    for (index, text) in texts.iter().enumerate().skip(first) {
        let style = app.look.run(index);
        let style = if index == app.selected { style.patch(app.look.chosen()) } else { style };
        let room = usize::from(area.right().saturating_sub(x));
        x = buffer.set_stringn(x, area.y, text, room, style).0;
    }
}

fn draw_footer(app: &App, area: Rect, buffer: &mut Buffer) {
    let text = match &app.question {
        Some(Question::Stop) => {
            format!("Stop after this step and save? y = yes, else no: {}", app.run().name)
        }
        Some(Question::Resume(words)) => {
            format!("Run this? y = yes, else no: anegpt {}", words.join(" "))
        }
        Some(Question::Quit) => {
            "Quit? The run that was started here goes on. y = yes, else no".to_owned()
        }
        None if !app.message.is_empty() => app.message.clone(),
        None => {
            let keys = "? keys  q quit  1-8 pages  + - zoom  p pause  s sample  x stop  r resume";
            return line(keys, 0, area, buffer, app.look.quiet());
        }
    };
    line(&text, 0, area, buffer, app.look.warning());
}

fn draw_help(look: Look, body: Rect, buffer: &mut Buffer) {
    let width = body.width.min(68);
    let height = body.height.min(KEYS.len() as u16 + 2);
    let area = Rect::new(
        body.x + (body.width - width) / 2,
        body.y + (body.height - height) / 2,
        width,
        height,
    );
    for position in area.positions() {
        buffer[position].reset();
    }
    let inside = panel("Keys", area, buffer, look);
    for (row, (keys, does)) in KEYS.into_iter().enumerate() {
        let keys = match look.unicode {
            true => keys.to_owned(),
            false => keys
                .replace('…', "to")
                .replace('←', "Left")
                .replace('→', "Right")
                .replace('↑', "Up")
                .replace('↓', "Down"),
        };
        let gap = " ".repeat(17usize.saturating_sub(keys.width()));
        line(&format!(" {keys}{gap}{does}"), row, inside, buffer, Style::new());
    }
}
