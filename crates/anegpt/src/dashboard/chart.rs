//! Charts: curves over steps, with axes.

use super::look::Look;
use crate::plot::{Braille, Range, covered, filled, tick, ticks};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;

/// Columns between the letters on a curve.
const LETTERS: usize = 14;

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A line from point to point, with a letter on it here and there.
    Line(Option<char>),
    /// The points alone.
    Points,
    /// A character at each point.
    Marks(char),
}

/// One curve.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) points: Vec<(f64, f64)>,
    pub(super) kind: Kind,
    pub(super) style: Style,
}

/// Curves in one picture; later ones lie above earlier ones.
#[derive(Debug, Default)]
pub(super) struct Chart {
    pub(super) curves: Vec<Curve>,
    /// Steps that are shown; all of them where it is `None`.
    pub(super) steps: Option<(f64, f64)>,
    /// True for a logarithmic axis; values that are not positive are left out.
    pub(super) logarithmic: bool,
}

impl Chart {
    /// Draws into `area`: the axes' numbers at the left and below.
    pub(super) fn draw(&self, area: Rect, buffer: &mut Buffer, look: &Look) {
        let scaled = self.scaled();
        let all = || scaled.iter().flat_map(|curve| curve.points.iter());
        let first = all().map(|p| p.0).fold(f64::INFINITY, f64::min);
        let last = all().map(|p| p.0).fold(f64::NEG_INFINITY, f64::max);
        let (first, last) = self.steps.unwrap_or((first, last));
        if all().next().is_none() || area.height < 3 || area.width < 12 {
            let text = if area.height > 0 { "nothing to draw yet" } else { "" };
            buffer.set_stringn(area.x, area.y, text, area.width.into(), look.quiet());
            return;
        }
        let range = Range::of(all().map(|p| p.1));
        let rows = usize::from(area.height - 2);
        let marks = self.marks(range, rows);
        let label = marks.iter().map(|mark| mark.1.len()).max().unwrap_or(1).max(3);
        let columns = usize::from(area.width).saturating_sub(label + 1);
        if columns < 4 {
            return;
        }
        let plot = Rect {
            x: area.x + label as u16 + 1,
            y: area.y,
            width: columns as u16,
            height: rows as u16,
        };
        self.axes(area, plot, (first, last), &marks, buffer, look);
        let axis = Axis { first, last: last.max(first + 1e-9) };
        for curve in &scaled {
            draw_curve(curve, axis, range, plot, buffer, look);
        }
    }

    /// The points that are shown, as they lie on the vertical axis.
    fn scaled(&self) -> Vec<Curve> {
        let shown = |&&(x, _): &&(f64, f64)| match self.steps {
            Some((first, last)) => first <= x && x <= last,
            None => true,
        };
        let place = |&(x, y): &(f64, f64)| match self.logarithmic {
            true => (y > 0.0).then(|| (x, y.log10())),
            false => Some((x, y)),
        };
        let scaled = |curve: &Curve| Curve {
            points: curve.points.iter().filter(shown).filter_map(place).collect(),
            ..curve.clone()
        };
        self.curves.iter().map(scaled).collect()
    }

    /// Rows of the vertical axis that have a number, and the numbers.
    fn marks(&self, range: Range, rows: usize) -> Vec<(usize, String)> {
        let values = ticks(range.bottom, range.top, rows.div_ceil(2).min(8));
        let apart = match values[..] {
            [a, b, ..] => b - a,
            _ => range.top - range.bottom,
        };
        let text = |value: f64| match self.logarithmic {
            true => tick(10f64.powf(value), 10f64.powf(value) / 10.0),
            false => tick(value, apart),
        };
        values.iter().map(|&value| (range.row(value, rows), text(value))).collect()
    }

    fn axes(
        &self,
        area: Rect,
        plot: Rect,
        (first, last): (f64, f64),
        marks: &[(usize, String)],
        buffer: &mut Buffer,
        look: &Look,
    ) {
        let (wall, knot, corner, floor, below) = match look.unicode {
            true => ("│", "┤", "└", "─", "┴"),
            false => ("|", "+", "+", "-", "+"),
        };
        let style = look.quiet();
        for row in 0..plot.height {
            let mark = marks.iter().find(|mark| mark.0 == usize::from(row));
            if let Some((_, text)) = mark {
                let x = plot.x - 1 - text.len() as u16;
                buffer.set_string(x, plot.y + row, text, style);
            }
            let cell = if mark.is_some() { knot } else { wall };
            buffer.set_string(plot.x - 1, plot.y + row, cell, style);
        }
        let bottom = plot.bottom();
        buffer.set_string(plot.x - 1, bottom, corner, style);
        buffer.set_string(plot.x, bottom, floor.repeat(plot.width.into()), style);
        let axis = Axis { first, last: last.max(first + 1e-9) };
        let steps = ticks(first, last, usize::from(plot.width) / 9 + 1);
        let apart = if let [a, b, ..] = steps[..] { b - a } else { last - first };
        let mut free = area.x;
        for step in steps {
            let (x, text) =
                (plot.x + axis.column(step, plot.width.into()) as u16, tick(step, apart.max(1.0)));
            let left = x.saturating_sub(text.len() as u16 / 2);
            if step.fract() == 0.0 && left >= free && left + text.len() as u16 <= area.right() {
                buffer.set_string(x, bottom, below, style);
                buffer.set_string(left, bottom + 1, &text, style);
                free = left + text.len() as u16 + 1;
            }
        }
    }
}

/// Steps from left to right.
#[derive(Clone, Copy)]
struct Axis {
    first: f64,
    last: f64,
}

impl Axis {
    /// The column of a step, of so many.
    fn column(self, step: f64, columns: usize) -> usize {
        let share = (step - self.first) / (self.last - self.first);
        ((share * (columns - 1) as f64).round() as usize).min(columns - 1)
    }

    /// Mean value of each column, of so many.
    fn means(self, points: &[(f64, f64)], columns: usize) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0u32); columns];
        for &(step, value) in points {
            let (sum, count) = &mut sums[self.column(step, columns)];
            (*sum, *count) = (*sum + value, *count + 1);
        }
        sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / f64::from(n))).collect()
    }
}

fn draw_curve(
    curve: &Curve,
    axis: Axis,
    range: Range,
    plot: Rect,
    buffer: &mut Buffer,
    look: &Look,
) {
    let (columns, rows) = (usize::from(plot.width), usize::from(plot.height));
    let mut put = |row: usize, column: usize, c: char| {
        if let Some(cell) = buffer.cell_mut((plot.x + column as u16, plot.y + row as u16)) {
            cell.set_char(c).set_style(curve.style);
        }
    };
    if let Kind::Marks(mark) = curve.kind {
        for &(step, value) in &curve.points {
            put(range.row(value, rows), axis.column(step, columns), mark);
        }
        return;
    }
    let (wide, high) = if look.unicode { Braille::DOTS } else { (1, 1) };
    let means = axis.means(&curve.points, columns * wide);
    let dots = match curve.kind {
        Kind::Points => {
            let row = |(column, mean): (usize, &Option<f64>)| {
                Some((range.row((*mean)?, rows * high), column))
            };
            means.iter().enumerate().filter_map(row).collect()
        }
        _ => covered(&filled(&means), range, rows * high),
    };
    if look.unicode {
        let mut braille = Braille::new(columns, rows);
        dots.iter().for_each(|&(row, column)| braille.set(row, column));
        for (row, line) in braille.rows().enumerate() {
            for (column, c) in line.into_iter().enumerate().filter(|(_, c)| *c != ' ') {
                put(row, column, c);
            }
        }
    } else {
        let c = if curve.kind == Kind::Points { '.' } else { '*' };
        dots.iter().for_each(|&(row, column)| put(row, column, c));
    }
    if let Kind::Line(Some(letter)) = curve.kind {
        // Letters of several curves stand at different columns.
        let shift = 3 * (letter as usize % 5);
        for &(row, column) in &dots {
            if (column / wide) % LETTERS == shift % LETTERS && column % wide == 0 {
                put(row / high, column / wide, letter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(chart: &Chart, width: u16, height: u16, unicode: bool) -> String {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        chart.draw(area, &mut buffer, &Look { unicode, colour: false });
        let row = |y| -> String { (0..width).map(|x| buffer[(x, y)].symbol()).collect() };
        (0..height).map(|y| format!("{}\n", row(y).trim_end())).collect()
    }

    fn line(points: Vec<(f64, f64)>, kind: Kind) -> Curve {
        Curve { points, kind, style: Style::new() }
    }

    #[test]
    fn a_line_falls_from_corner_to_corner() {
        let falling = (0..=8).map(|i| (f64::from(i), f64::from(8 - i))).collect();
        let marks = vec![(4.0, 8.0), (8.0, 4.0)];
        let curves = vec![line(falling, Kind::Line(None)), line(marks, Kind::Marks('o'))];
        let chart = Chart { curves, ..Chart::default() };
        let expected = "
  8+*   o
   | *
  6+  *
   |   *
  4+    *   o
   |     *
  2+      *
   |       *
  0+        *
   ++----+---
    0    5
";
        assert_eq!(drawn(&chart, 13, 11, false), expected[1..]);
    }

    #[test]
    fn a_part_of_the_steps_is_shown_and_scaled_for_itself() {
        let points: Vec<_> = (0..100).map(|i| (f64::from(i), 1000.0 / f64::from(i + 1))).collect();
        let chart = Chart {
            curves: vec![line(points, Kind::Line(Some('A')))],
            steps: Some((50.0, 99.0)),
            ..Chart::default()
        };
        let picture = drawn(&chart, 60, 14, true);
        assert!(
            picture.contains('A') && picture.contains("60") && !picture.contains("1000"),
            "{picture}"
        );
        let logarithmic = Chart { logarithmic: true, steps: None, ..chart };
        let picture = drawn(&logarithmic, 60, 14, true);
        assert!(picture.contains("1000") && picture.contains("10"), "{picture}");
    }

    #[test]
    fn no_size_is_too_small() {
        let points: Vec<_> = (0..100).map(|i| (f64::from(i), f64::from(i) * 1e7)).collect();
        for (width, height) in [(0, 0), (1, 1), (12, 3), (13, 3), (20, 4), (200, 1), (3, 50)] {
            for curves in [vec![], vec![line(points.clone(), Kind::Points)]] {
                drawn(&Chart { curves, ..Chart::default() }, width, height, true);
            }
        }
        let one =
            Chart { curves: vec![line(vec![(5.0, 2.0)], Kind::Line(None))], ..Chart::default() };
        assert!(drawn(&one, 20, 6, false).contains('*'));
    }
}
