//! The pages of the dashboard.

use super::app::{App, Page, Shown, Smoothing};
use super::chart::{Chart, Curve, Kind};
use super::draw::{letter, line, panel};
use super::look::Look;
use crate::record::{Entry, Kind as Said, NOTHING, PASS, Record, Scored, Series, facts};
use crate::term;
use crate::view::limits;
use ane::PowerSample;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::{Constraint, Layout, Rect};
use ratatui_core::style::Style;
use std::collections::BTreeMap;
use train::Range;

/// From this size on, the overview shows more.
const LARGE: (u16, u16) = (140, 36);
/// Characters of a text of which the overview wraps the lines.
const EXCERPT: usize = 4000;

pub(super) fn draw(app: &mut App, area: Rect, buffer: &mut Buffer) {
    match app.page {
        Page::Overview => overview(app, area, buffer),
        Page::Loss => losses(app, area, buffer),
        Page::Charts => charts(app, area, buffer),
        Page::Time => time(app, area, buffer),
        Page::Ranges => ranges(app, area, buffer),
        Page::Texts => texts(app, area, buffer),
        Page::Results => results(app, area, buffer),
        Page::Log => log(app, area, buffer),
    }
}

fn overview(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let many = app.drawn().count() as u16;
    if area.width < LARGE.0 || area.height < LARGE.1 {
        let facts_width = (22 + 13 * many).max(31).min(area.width / 2);
        let [top, bottom] =
            Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(area);
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(facts_width)]).areas(top);
        losses(app, left, buffer);
        facts_panel(app, right, buffer);
        return log(app, bottom, buffer);
    }
    let [left, right] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(area);
    let rows = [Constraint::Fill(5), Constraint::Fill(3), Constraint::Fill(3)];
    let [loss, small, below] = Layout::vertical(rows).areas(left);
    losses(app, loss, buffer);
    let [rate, speed] = Layout::horizontal([Constraint::Fill(1); 2]).areas(small);
    small_chart(app, "Learning rate", |run| &run.lr, rate, buffer);
    small_chart(app, "Tokens per second", |run| &run.speed, speed, buffer);
    log(app, below, buffer);
    let rows =
        [Constraint::Length(21), Constraint::Fill(2), Constraint::Fill(2), Constraint::Fill(3)];
    let [facts, parts, machine, text] = Layout::vertical(rows).areas(right);
    facts_panel(app, facts, buffer);
    parts_panel(app, parts, buffer);
    let [processor, power] = Layout::horizontal([Constraint::Fill(1); 2]).areas(machine);
    small_chart(app, "CPU cores busy", |run| &run.cpu, processor, buffer);
    power_chart(app, power, buffer);
    newest_text(app, text, buffer);
}

/// The curves of a quantity, one for each run that is drawn.
fn curves(app: &App, pick: impl Fn(&Record) -> &Series) -> Vec<Curve> {
    let one = app.drawn().count() == 1;
    let curve = |(index, run): (usize, &Shown)| Curve {
        points: pick(&run.record).means(),
        kind: Kind::Line((!one).then(|| letter(index))),
        style: if one { app.look.loss() } else { app.look.run(index) },
    };
    app.drawn().map(curve).collect()
}

fn small_chart(
    app: &App,
    title: &str,
    pick: impl Fn(&Record) -> &Series,
    area: Rect,
    buffer: &mut Buffer,
) {
    let newest = match app.compare {
        true => None,
        false => pick(&app.run().record).newest(),
    };
    let newest = newest.map(|(_, value)| format!(": {}", facts::short(value)));
    let title = format!("{title}{}", newest.unwrap_or_default());
    let inside = panel(&title, area, buffer, app.look);
    let chart = Chart { curves: curves(app, pick), steps: app.steps(), logarithmic: false };
    chart.draw(inside, buffer, &app.look);
}

/// Steps over which losses are smoothed.
fn horizon(app: &App, record: &Record) -> f64 {
    match app.smoothing() {
        Smoothing::Off => 0.0,
        Smoothing::Steps(steps) => f64::from(steps),
        Smoothing::Auto => {
            let whole = record.loss.buckets();
            let whole =
                whole.first().zip(whole.last()).map_or(0.0, |(a, b)| (b.last - a.first) as f64);
            let shown = app.steps().map_or(whole, |(first, last)| last - first);
            shown / 50.0
        }
    }
}

fn losses(app: &App, area: Rect, buffer: &mut Buffer) {
    let (look, one) = (app.look, app.drawn().count() == 1);
    let mut curves = vec![];
    for (index, run) in app.drawn() {
        let record = &run.record;
        let over = horizon(app, record);
        let style = if one { look.loss() } else { look.run(index) };
        let kind = Kind::Line((!one).then(|| letter(index)));
        match over >= 1.0 {
            true => {
                let points = record.loss.means();
                if one {
                    curves.push(Curve { points, kind: Kind::Points, style: look.quiet() });
                }
                curves.push(Curve { points: record.loss.smoothed(over), kind, style });
            }
            false => curves.push(Curve { points: record.loss.means(), kind, style }),
        }
        let mark = if one { 'o' } else { letter(index).to_ascii_lowercase() };
        let style = if one { look.validation() } else { style };
        curves.push(Curve { points: record.validation.means(), kind: Kind::Marks(mark), style });
    }
    let drawn = match one {
        true => "o validation",
        false => "A B training, a b validation",
    };
    let smooth = match app.smoothing() {
        Smoothing::Auto => "smoothed (m)".to_owned(),
        Smoothing::Off => "not smoothed (m)".to_owned(),
        Smoothing::Steps(steps) => format!("smoothed over {steps} (m)"),
    };
    let scale = if app.logarithmic { ", log scale" } else { "" };
    let inside = panel(&format!("Loss: {drawn}, {smooth}{scale}"), area, buffer, look);
    let chart = Chart { curves, steps: app.steps(), logarithmic: app.logarithmic };
    chart.draw(inside, buffer, &look);
}

/// The facts of the run, or of all that are drawn side by side.
fn facts_panel(app: &App, area: Rect, buffer: &mut Buffer) {
    let many = app.drawn().count() > 1;
    let inside = panel(if many { "Side by side" } else { "Run" }, area, buffer, app.look);
    let width = usize::from(inside.width);
    let runs: Vec<(usize, &Shown)> = app.drawn().collect();
    let columns: Vec<facts::Facts> =
        runs.iter().map(|(_, run)| facts::of(&run.record, app.now)).collect();
    let mut row = 0;
    if many {
        let fits = (width.saturating_sub(facts::LABEL) / facts::COLUMN).max(1);
        // The selected run is always among those that fit.
        let place = runs.iter().position(|(index, _)| *index == app.selected).unwrap_or(0);
        let first = (place + 1).saturating_sub(fits);
        let heads = runs.iter().skip(first).take(fits);
        let mut x = inside.x + facts::LABEL as u16;
        for (index, _) in heads {
            let text = format!("{:>1$}", letter(*index), facts::COLUMN);
            let room = usize::from(inside.right().saturating_sub(x));
            x = buffer.set_stringn(x, inside.y, text, room, app.look.run(*index)).0;
        }
        for (fact, label) in facts::LABELS.iter().enumerate() {
            let values = columns.iter().skip(first).take(fits).map(|facts| facts[fact].as_deref());
            if columns.iter().any(|facts| facts[fact].is_some()) {
                row += 1;
                let cells: String =
                    values.map(|v| format!("{:>1$}", v.unwrap_or("-"), facts::COLUMN)).collect();
                line(
                    &format!("{label:<0$}{cells}", facts::LABEL),
                    row,
                    inside,
                    buffer,
                    Style::new(),
                );
            }
        }
        return;
    }
    for (fact, label) in facts::LABELS.iter().enumerate() {
        if let Some(value) = &columns[0][fact] {
            line(&format!("{label:<0$} {value}", facts::LABEL), row, inside, buffer, Style::new());
            row += 1;
        }
    }
}

fn charts(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let all = 4 + app.run().record.others.len();
    let (across, rows) =
        if area.width >= 120 { (3, area.height / 10) } else { (2, area.height / 9) };
    let rows = usize::from(rows.max(1)).min(all.div_ceil(across));
    let scroll = app.scroll();
    *scroll = (*scroll).min(all.div_ceil(across) - rows);
    let (first, app) = (*scroll * across, &*app);
    type Pick<'n> = (&'n str, Box<dyn Fn(&Record) -> &Series + 'n>);
    let mut all: Vec<Pick<'_>> = vec![
        ("Learning rate", Box::new(|run| &run.lr)),
        ("Tokens per second", Box::new(|run| &run.speed)),
        ("Gradient norm", Box::new(|run| &run.grad_norm)),
        ("Bits per byte", Box::new(|run| &run.bits_per_byte)),
    ];
    // What events tell that are not known here.
    for name in app.run().record.others.keys() {
        all.push((name, Box::new(|run| run.others.get(name).unwrap_or(&NOTHING))));
    }
    let places = Layout::vertical(vec![Constraint::Fill(1); rows]).split(area);
    for (row, picks) in places.iter().zip(all[first..].chunks(across)) {
        let places = Layout::horizontal(vec![Constraint::Fill(1); across]).split(*row);
        for ((title, pick), place) in picks.iter().zip(places.iter()) {
            small_chart(app, title, pick, *place, buffer);
        }
    }
}

fn time(app: &App, area: Rect, buffer: &mut Buffer) {
    // The step, its parts, what is left, the forecast, and a frame; charts need some rows too.
    let rows = (app.run().record.parts.len() as u16 + 5).min(area.height.saturating_sub(8));
    let [parts, machine] =
        Layout::vertical([Constraint::Length(rows), Constraint::Fill(1)]).areas(area);
    parts_panel(app, parts, buffer);
    let [processor, memory, power] = Layout::horizontal([Constraint::Fill(1); 3]).areas(machine);
    small_chart(app, "CPU cores busy", |run| &run.cpu, processor, buffer);
    small_chart(app, "Memory (MiB)", |run| &run.memory, memory, buffer);
    power_chart(app, power, buffer);
}

/// The time of a step by part, beside the forecast.
fn parts_panel(app: &App, area: Rect, buffer: &mut Buffer) {
    let record = &app.run().record;
    let inside = panel("Time of a step: now, share, forecast", area, buffer, app.look);
    let forecast = record.begun.as_ref().and_then(|begun| begun.settings.forecast.as_ref());
    let expected = |name: &str| forecast.and_then(|f| f.parts.get(name).copied());
    let mut parts: Vec<(&str, f64)> =
        record.parts.iter().map(|(name, part)| (name.as_str(), part.recent)).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let rest = record.recent_ms - parts.iter().map(|part| part.1).sum::<f64>();
    if record.steps > 0 {
        parts.push(("other", rest.max(0.0)));
    }
    let row = |name: &str, ms: f64, expected: Option<f64>| {
        let share = if record.recent_ms > 0.0 { ms / record.recent_ms } else { 0.0 };
        let room = usize::from(inside.width).saturating_sub(58).min(30);
        let bar = (share * room as f64).round().clamp(0.0, room as f64) as usize;
        let bar = if app.look.unicode { "█" } else { "#" }.repeat(bar);
        let expected = match expected {
            Some(e) if e > 0.0 => format!("{e:>9.2} ms  {:>6.2} x", ms / e),
            _ => String::new(),
        };
        format!("{name:<14} {ms:>9.2} ms {:>4.0} % {bar:<room$} {expected}", 100.0 * share)
    };
    line(
        &row("step", record.recent_ms, forecast.map(|f| f.ms)),
        0,
        inside,
        buffer,
        app.look.strong(),
    );
    for (at, (name, ms)) in parts.iter().enumerate() {
        line(&row(name, *ms, expected(name)), at + 1, inside, buffer, Style::new());
    }
    let note = match forecast {
        Some(f) => format!(
            "forecast: {}, {:.1} to {:.1} ms, not confirmed on hardware",
            f.chip, f.low_ms, f.high_ms
        ),
        None => "no forecast: it is for an engine, emulated or not".to_owned(),
    };
    line(&note, parts.len() + 1, inside, buffer, app.look.quiet());
}

fn power_chart(app: &App, area: Rect, buffer: &mut Buffer) {
    let record = &app.run().record;
    let parts = || PowerSample::PARTS.iter().zip(&record.power).enumerate();
    let known = || parts().filter(|(_, (_, series))| !series.is_empty());
    if known().next().is_none() {
        let inside = panel("Power", area, buffer, app.look);
        return line("not reported by this system", 0, inside, buffer, app.look.quiet());
    }
    let newest = known().filter_map(|(_, (name, series))| {
        let initial = name.chars().next()?;
        Some(format!("{initial} = {name} {:.1}", series.newest()?.1))
    });
    let title = format!("Watts: {}", newest.collect::<Vec<_>>().join(", "));
    let curve = |(index, (name, series)): (usize, (&&str, &Series))| Curve {
        points: series.means(),
        kind: Kind::Line(name.chars().next()),
        style: app.look.run(index),
    };
    let chart =
        Chart { curves: known().map(curve).collect(), steps: app.steps(), logarithmic: false };
    chart.draw(panel(&title, area, buffer, app.look), buffer, &app.look);
}

fn ranges(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let [charts, table] = Layout::vertical([Constraint::Fill(1); 2]).areas(area);
    let places = Layout::horizontal([Constraint::Fill(1); 3]).areas::<3>(charts);
    small_chart(app, "Loss scale", |run| &run.loss_scale, places[0], buffer);
    small_chart(app, "Powers of two to 2^15", |run| &run.headroom, places[1], buffer);
    small_chart(app, "Largest share lost", |run| &run.lost, places[2], buffer);
    let look = app.look;
    let (title, lines) = match &app.run().record.ranges {
        None => {
            let none = "Not measured: start the run with --telemetry-every N.".to_owned();
            ("Ranges of the engine's products".to_owned(), vec![none])
        }
        Some((step, products)) => {
            let head = format!(
                "{:<26} {:>10} {:>5} {:>9} {:>6} {:>5}",
                "product", "largest", "layer", "to 2^15", "lost", "layer"
            );
            let mut sorted: Vec<_> = products.iter().collect();
            let left = |range: &Range| range.headroom.unwrap_or(f64::INFINITY);
            sorted.sort_by(|a, b| left(a).total_cmp(&left(b)));
            let row = |range: &&Range| {
                let name: String = range.tensor.chars().take(26).collect();
                let headroom = range.headroom.map_or("-".to_owned(), |bits| format!("{bits:.1}"));
                format!(
                    "{name:<26} {:>10.3e} {:>5} {headroom:>9} {:>4.0} % {:>5}",
                    range.largest,
                    range.layer,
                    100.0 * range.lost,
                    range.lost_layer
                )
            };
            let title = format!("Step {step}: {}", limits(products));
            (title, [head].into_iter().chain(sorted.iter().map(row)).collect())
        }
    };
    let inside = panel(&title, table, buffer, look);
    let scroll = app.scroll();
    *scroll = (*scroll).min(lines.len().saturating_sub(inside.height.into()));
    for (row, text) in lines.iter().skip(*scroll).enumerate() {
        line(text, row, inside, buffer, Style::new());
    }
}

/// The texts asked for and those that the run sampled, the newest first, with where they are from.
fn all_texts(run: &Shown) -> Vec<(String, &str)> {
    let asked =
        run.asked.iter().map(|(from, text)| (format!("asked for, from {from}"), text.as_str()));
    let sampled = run.record.samples.iter().rev();
    asked.chain(sampled.map(|s| (format!("step {}", s.step), s.text.as_str()))).collect()
}

fn newest_text(app: &App, area: Rect, buffer: &mut Buffer) {
    let texts = all_texts(app.run());
    let (from, text) = match texts.first() {
        Some((from, text)) => (from.as_str(), *text),
        None => ("none yet", ""),
    };
    let inside = panel(&format!("Newest text: {from}"), area, buffer, app.look);
    let excerpt: String = text.trim().chars().take(EXCERPT).collect();
    let wrapped = term::wrap(&excerpt, inside.width.into(), "", "");
    for (row, text) in wrapped.lines().enumerate().take(inside.height.into()) {
        line(text, row, inside, buffer, Style::new());
    }
}

fn texts(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let count = all_texts(app.run()).len();
    app.text = app.text.min(count.saturating_sub(1));
    let (look, shown) = (app.look, app.text);
    let (title, wrapped) = {
        let run = app.run();
        let texts = all_texts(run);
        let room = usize::from(area.width.saturating_sub(4)).clamp(1, 100);
        let busy = if run.sampling { " (generating one)" } else { "" };
        match texts.get(shown) {
            Some((from, text)) => (
                format!("Text {} of {count}: {from}{busy}", shown + 1),
                term::wrap(text.trim(), room, "", ""),
            ),
            None => (
                format!("Texts{busy}"),
                "No text yet. s samples one from the newest checkpoint.".to_owned(),
            ),
        }
    };
    let inside = panel(&title, area, buffer, look);
    let lines: Vec<&str> = wrapped.lines().collect();
    let most = lines.len().saturating_sub(inside.height.into());
    let scroll = app.scroll();
    *scroll = (*scroll).min(most);
    for (row, text) in lines.iter().skip(*scroll).take(inside.height.into()).enumerate() {
        line(text, row, inside, buffer, Style::new());
    }
}

fn results(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let look = app.look;
    let [left, right] =
        Layout::horizontal([Constraint::Length(38), Constraint::Fill(1)]).areas(area);
    let name = app.run().record.scores.back().map_or("CORE", |scored| scored.name);
    let tall = panel(name, right, buffer, look);
    let record = &app.run().record;
    let bits: BTreeMap<u64, f64> =
        (record.bits_per_byte.buckets().iter()).filter_map(|b| Some((b.last, b.mean()?))).collect();
    let best = record.validation.least();
    let pass = record.others.get(PASS);
    let held_out = pass.map(Series::by_step).unwrap_or_default();
    let held_out = held_out.iter().rev().map(|(step, share)| format!("{step:>8} {share:>10.4}"));
    let losses = (record.validation.buckets().iter().rev()).map(|b| {
        let loss = b.mean().map_or("not finite".to_owned(), |loss| format!("{loss:.4}"));
        let bits = bits.get(&b.last).map_or(String::new(), |bits| format!("{bits:.4}"));
        let mark = if b.mean().is_some() && b.mean() == best { " best" } else { "" };
        format!("{:>8} {loss:>10} {bits:>10}{mark}", b.last)
    });
    let [title, head] = match pass.is_some() {
        true => ["Held-out questions: newest first", "    step     pass@1"],
        false => ["Validation: newest first", "    step       loss  bits/byte"],
    };
    let measured: Vec<String> = held_out.chain(losses).collect();
    let scored: Vec<String> = match record.scores.back() {
        None => vec!["CORE and tasks are not measured".to_owned()],
        Some(scored) => scored_in(scored, tall.width.into()),
    };
    let inside = panel(title, left, buffer, look);
    line(head, 0, inside, buffer, look.quiet());
    let room = usize::from(inside.height).saturating_sub(1);
    let most =
        (measured.len().saturating_sub(room)).max(scored.len().saturating_sub(tall.height.into()));
    let scroll = app.scroll();
    *scroll = (*scroll).min(most);
    for (row, text) in measured.iter().skip(*scroll).take(room).enumerate() {
        line(text, row + 1, inside, buffer, Style::new());
    }
    for (row, text) in scored.iter().skip(*scroll).take(tall.height.into()).enumerate() {
        line(text, row, tall, buffer, Style::new());
    }
}

/// Columns of the numbers beside the names of tasks.
const SCORES: usize = 24;
/// Columns that the longest name takes.
const TASK: usize = 28;

/// The scores of tasks in lines of `width` columns: names are cut, numbers are not.
fn scored_in(scored: &Scored, width: usize) -> Vec<String> {
    let room = width.saturating_sub(SCORES).min(TASK);
    let head = format!("{:<room$} {:>8} {:>7} {:>6}", "task", "accuracy", "centred", "asked");
    let tasks = scored.tasks.iter().map(|task| {
        let label: String = task.label.chars().take(room).collect();
        format!(
            "{label:<room$} {:>8.4} {:>7.4} {:>6}",
            task.accuracy, task.centered, task.questions
        )
    });
    let what = match scored.name {
        "CORE" => format!("CORE {:.4} after step {}", scored.mean, scored.step),
        _ => format!("after step {}; centred mean {:.4}", scored.step, scored.mean),
    };
    let rule = "centred: 0 = as good as guessing, 1 = all right";
    let said = [what.as_str(), rule].map(|text| term::wrap(text, width, "", ""));
    let said = said.iter().flat_map(|text| text.lines().map(str::to_owned)).collect::<Vec<_>>();
    said.into_iter().chain([head]).chain(tasks).collect()
}

fn log(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let look = app.look;
    let on_page = app.page == Page::Log;
    let most = app.run().record.log.len().saturating_sub(1);
    let scroll = match on_page {
        true => {
            let scroll = app.scroll();
            *scroll = (*scroll).min(most);
            *scroll
        }
        false => 0,
    };
    let run = app.run();
    let record = &run.record;
    let headless = record.begun.is_none() && record.steps > 0;
    let mut title = if headless { "Log without its beginning" } else { "Log" }.to_owned();
    for (count, what) in [
        (record.dropped, "older entries left out"),
        (record.skipped_lines.torn, "cut short"),
        (record.skipped_lines.foreign, "lines that are no events"),
    ] {
        if count > 0 {
            title.push_str(&format!(", {count} {what}"));
        }
    }
    let inside = panel(&title, area, buffer, look);
    let mut rows: Vec<(String, Style)> = vec![];
    let room = usize::from(inside.height);
    if !run.errors.is_empty() && scroll == 0 {
        let wrapped = term::wrap(run.errors.trim(), inside.width.into(), "", "  ");
        rows.extend(wrapped.lines().rev().map(|text| (text.to_owned(), look.fault())));
    }
    for entry in record.log.iter().rev().skip(scroll) {
        if rows.len() >= room {
            break;
        }
        let (text, style) = shown(entry, look);
        let wrapped = term::wrap(&text, inside.width.into(), "", "  ");
        rows.extend(wrapped.lines().rev().map(|text| (text.to_owned(), style)));
    }
    rows.truncate(room);
    for (row, (text, style)) in rows.iter().rev().enumerate() {
        line(text, row, inside, buffer, *style);
    }
}

/// An entry as text.
fn shown(entry: &Entry, look: Look) -> (String, Style) {
    match entry {
        Entry::Step { step, skipped: true, .. } => (
            format!("step {step:>6}  skipped: gradient overflow; loss scale halved"),
            look.warning(),
        ),
        Entry::Step { step, loss, ms, lr, .. } => (
            format!("step {step:>6}  loss {loss:.4}  lr {lr:.2e}  {ms:.0} ms"),
            if loss.is_finite() { Style::new() } else { look.fault() },
        ),
        Entry::Said { kind, text } => {
            let style = match kind {
                Said::Note => look.quiet(),
                Said::Result => look.validation(),
                Said::Warning => look.warning(),
            };
            (text.clone(), style)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::app::Shown;
    use crate::dashboard::look::Look;

    #[test]
    fn every_page_is_drawn_at_every_size() {
        let look = Look { unicode: true, colour: false };
        for runs in [1, 2, 9] {
            let shown = (0..runs).map(|i| Shown::new(format!("run-{i}"))).collect();
            let mut app = App::new(shown, look);
            for (page, _) in Page::ALL {
                app.page = page;
                for (width, height) in
                    (58..=82).chain([200]).flat_map(|w| [12, 20, 50].map(|h| (w, h)))
                {
                    let area = Rect::new(0, 0, width, height);
                    draw(&mut app, area, &mut Buffer::empty(area));
                }
            }
        }
    }
}
