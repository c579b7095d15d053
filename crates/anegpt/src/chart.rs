//! Line charts as parts of an SVG picture.

use crate::svg::{Svg, colour, text_width};
use std::fmt::Write;

/// A line of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Name in the legend; lines of one name share their colour, and their entry.
    pub(crate) name: String,
    /// Points from left to right; where one is not finite the line is interrupted.
    pub(crate) points: Vec<(f64, f64)>,
    /// True if each point is marked.
    pub(crate) marked: bool,
    /// True for a thin line in the background.
    pub(crate) faint: bool,
}

/// A chart of lines over common axes.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What the horizontal and the vertical axis show.
    pub(crate) axes: [String; 2],
    /// True if the vertical axis is logarithmic: values that are not positive are left out.
    pub(crate) log: bool,
    pub(crate) lines: Vec<Line>,
}

/// Room for numbers of the vertical axis, and around.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 44.0;
/// Height of a row of the legend.
const LEGEND: f64 = 18.0;

impl Chart {
    /// Draws the chart with its upper left corner at `at`; it has this size, legend included.
    pub(crate) fn draw(&self, svg: &mut Svg, at: (f64, f64), size: (f64, f64)) {
        let (left, right) = (at.0 + LEFT, at.0 + size.0 - RIGHT);
        let names = self.names();
        let legend = legend(&names, right - left);
        let rows = legend.last().map_or(0, |entry| entry.1 + 1) as f64;
        let (top, bottom) = (at.1 + TOP, at.1 + size.1 - BOTTOM - rows * LEGEND);
        svg.text((at.0 + 8.0, at.1 + 20.0), "head", "start", &self.title);
        let value = |y: f64| if self.log { y.log10() } else { y };
        let points = || {
            let all = self.lines.iter().flat_map(|line| line.points.iter());
            all.map(|&(x, y)| (x, value(y))).filter(|(x, y)| x.is_finite() && y.is_finite())
        };
        let (Some(across), Some(up)) =
            (Span::of(points().map(|point| point.0)), Span::of(points().map(|point| point.1)))
        else {
            svg.text(
                ((left + right) / 2.0, (top + bottom) / 2.0),
                "soft",
                "middle",
                "nothing to show",
            );
            return;
        };
        let up = up.wider(0.04);
        let place = |x: f64, y: f64| {
            (left + across.share(x) * (right - left), bottom - up.share(y) * (bottom - top))
        };
        for tick in across.ticks(8) {
            let x = place(tick, up.low).0;
            svg.line("grid", (x, top), (x, bottom));
            svg.text((x, bottom + 16.0), "soft", "middle", &number(tick));
        }
        for tick in if self.log { up.decades() } else { up.ticks(6) } {
            let y = place(across.low, tick).1;
            svg.line("grid", (left, y), (right, y));
            let shown = if self.log { number(10f64.powf(tick)) } else { number(tick) };
            svg.text((left - 6.0, y + 4.0), "soft", "end", &shown);
        }
        svg.text(((left + right) / 2.0, bottom + 34.0), "soft", "middle", &self.axes[0]);
        svg.text((left, top - 6.0), "soft", "start", &self.axes[1]);
        for line in &self.lines {
            let index = names.iter().position(|name| *name == line.name).unwrap_or(0);
            line.draw(svg, colour(index), |&(x, y)| {
                let y = value(y);
                (x.is_finite() && y.is_finite()).then(|| place(x, y))
            });
        }
        for (index, (name, (x, row))) in names.iter().zip(legend).enumerate() {
            let (x, y) = (left + x, bottom + BOTTOM + 10.0 + row as f64 * LEGEND);
            svg.bar((x, y - 9.0), (12.0, 9.0), colour(index), name);
            svg.text((x + 18.0, y), "soft", "start", name);
        }
    }

    /// Names of the lines, in order of first appearance.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec![];
        for line in &self.lines {
            if !names.contains(&line.name.as_str()) {
                names.push(&line.name);
            }
        }
        names
    }
}

impl Line {
    fn draw(&self, svg: &mut Svg, colour: &str, place: impl Fn(&(f64, f64)) -> Option<(f64, f64)>) {
        let (width, opacity) = if self.faint { (1.0, 0.35) } else { (1.8, 1.0) };
        let mut path = String::new();
        let mut command = 'M';
        for point in &self.points {
            match place(point) {
                Some((x, y)) => {
                    let _ = write!(path, "{command}{x:.1} {y:.1}");
                    command = 'L';
                }
                None => command = 'M',
            }
        }
        svg.add(format_args!(
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}" stroke-linejoin="round"/>"#
        ));
        for (x, y) in self.points.iter().filter(|_| self.marked).filter_map(&place) {
            svg.add(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#));
        }
    }
}

/// Place and row of each entry of a legend that is so wide.
fn legend(names: &[&str], width: f64) -> Vec<(f64, usize)> {
    let (mut x, mut row) = (0.0, 0);
    let place = |name: &&str| {
        let wide = 36.0 + text_width(name, 12.0);
        if x > 0.0 && x + wide > width {
            (x, row) = (0.0, row + 1);
        }
        x += wide;
        (x - wide, row)
    };
    names.iter().map(place).collect()
}

/// Least and largest value of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    low: f64,
    high: f64,
}

impl Span {
    /// The span of the values, if there are any; that of a single value is around it.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        let around = if high > low { 0.0 } else { 0.5 * low.abs().max(1e-3) };
        (low <= high).then_some(Span { low: low - around, high: high + around })
    }

    fn wider(self, share: f64) -> Self {
        let more = share * (self.high - self.low);
        Span { low: self.low - more, high: self.high + more }
    }

    fn share(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Round values, about `count` of them: steps of 1, 2 or 5 times a power of ten.
    fn ticks(self, count: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / count as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter();
        let step =
            step.into_iter().find(|step| *step >= rough * (1.0 - 1e-9)).unwrap_or(10.0 * power);
        let [first, last] = [(self.low / step).ceil(), (self.high / step).floor()];
        (0..=(last - first).max(0.0) as usize).map(|n| (first + n as f64) * step).collect()
    }

    /// Whole powers of ten; with less than two of them, round exponents.
    fn decades(self) -> Vec<f64> {
        let whole: Vec<f64> =
            self.ticks(8).into_iter().filter(|tick| tick.fract() == 0.0).collect();
        if whole.len() > 1 { whole } else { self.ticks(4) }
    }
}

/// A number of an axis, in as few digits as tell it from its neighbours.
fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size < 1e-12 => "0".to_owned(),
        _ if !(1e-4..1e6).contains(&size) => format!("{value:.1e}").replace(".0e", "e"),
        _ => {
            let digits = (3.0 - size.log10().floor()).clamp(0.0, 7.0) as usize;
            let text = format!("{value:.digits$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let ticks = |low, high, count| Span { low, high }.ticks(count);
        assert_eq!(ticks(0.0, 800.0, 8), [0., 100., 200., 300., 400., 500., 600., 700., 800.]);
        assert_eq!(ticks(3.1, 9.8, 4), [4.0, 6.0, 8.0]);
        assert_eq!(ticks(-1.0, 1.0, 4), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(Span { low: -4.3, high: 0.2 }.decades(), [-4.0, -3.0, -2.0, -1.0, 0.0]);
    }

    #[test]
    fn a_legend_goes_on_in_the_next_row() {
        let wide = 36.0 + text_width("layer 1", 12.0);
        let places = legend(&["layer 1", "layer 2", "layer 3"], 2.0 * wide + 1.0);
        assert_eq!(places, [(0.0, 0), (wide, 0), (0.0, 1)]);
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.5, 1200.0, 0.0123, 1e-5, 2.5e7].map(number);
        assert_eq!(shown, ["0", "0.5", "1200", "0.0123", "1e-5", "2.5e7"]);
    }

    #[test]
    fn a_chart_shows_its_lines_and_interrupts_them_where_a_value_is_missing() {
        let line = |name: &str, points: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: points.to_vec(),
            marked: true,
            faint: false,
        };
        let chart = Chart {
            title: "Loss <1>".to_owned(),
            axes: ["step".to_owned(), "nats".to_owned()],
            log: false,
            lines: vec![
                line("a & b", &[(0.0, 3.0), (1.0, f64::NAN), (2.0, 1.0)]),
                line("c", &[(0.0, 2.0), (2.0, 2.0)]),
            ],
        };
        let mut svg = Svg::default();
        chart.draw(&mut svg, (0.0, 0.0), (400.0, 240.0));
        let page = svg.page(400.0, 240.0);
        assert_eq!(page.matches("<circle").count(), 4);
        assert_eq!(page.matches("<path").count(), 2);
        let first = page.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(first.matches('M').count(), 2, "{first}");
        assert!(page.contains("Loss &lt;1&gt;") && page.contains("a &amp; b"), "{page}");
        // Without a value there is no axis.
        let mut empty = Svg::default();
        Chart { lines: vec![], ..chart }.draw(&mut empty, (0.0, 0.0), (400.0, 240.0));
        assert!(empty.page(1.0, 1.0).contains("nothing to show"));
    }
}
