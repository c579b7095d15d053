//! Charts of curves over steps, as parts of an SVG picture.

use crate::plot::{Range, tick, ticks};
use crate::svg::{Svg, colour, text_width};
use std::fmt::Write;

/// Width and height of a plot that stands alone, axes included.
const SIZE: (f64, f64) = (560.0, 232.0);
/// Room around the plot: for numbers at the left and below, for the title above.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const TITLE: f64 = 28.0;
const BOTTOM: f64 = 28.0;
/// Room for the name of an axis.
const NAME: f64 = 16.0;
/// Height of a row of the legend, and room between it and the plot.
const LEGEND: f64 = 18.0;
const GAP: f64 = 8.0;
/// Most points of a curve: more cannot be told apart.
const MOST: usize = 400;
/// Strokes by group, so that colour is not needed to tell them apart.
const DASHES: [&str; 5] = ["", "7 3", "2 3", "10 3 2 3", "1 2"];

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Line,
    /// A line with a mark at each point.
    Marked,
    /// A thin line behind the others.
    Faint,
    /// Marks alone.
    Dots,
}

/// A curve of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    /// Name in the legend; curves of one name share their entry, and one without a name has none.
    pub(crate) name: String,
    /// Points from left to right; a line is interrupted where one cannot be drawn.
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) kind: Kind,
    /// What it belongs to, such as a run: chooses colour and stroke.
    pub(crate) group: usize,
    /// Chooses the marks: that of its group, unless curves of one group are told apart by theirs.
    pub(crate) mark: usize,
}

/// Curves over common axes.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What is shown, with its unit.
    pub(crate) title: String,
    /// What the axes show, below and at the left; nothing where the title says it.
    pub(crate) axes: [&'static str; 2],
    /// True if the vertical axis is logarithmic: values that are not positive are left out.
    pub(crate) log: bool,
    pub(crate) curves: Vec<Curve>,
}

impl Chart {
    /// The chart as a picture of its own; `None` where there is nothing to draw.
    pub(crate) fn page(&self) -> Option<String> {
        self.frame((0.0, 0.0), SIZE)?;
        let mut svg = Svg::default();
        let height = self.draw(&mut svg, (0.0, 0.0), SIZE);
        Some(svg.page(SIZE.0, height))
    }

    /// Draws the chart with its upper left corner at `at` and a plot of this size, axes included. Returns the height
    /// that it takes, with title and legend.
    pub(crate) fn draw(&self, svg: &mut Svg, at: (f64, f64), size: (f64, f64)) -> f64 {
        let legend = self.legend(size.0 - LEFT - RIGHT);
        let rows = legend.last().map_or(0, |entry| entry.2 + 1) as f64;
        let above = TITLE + rows * LEGEND + GAP;
        svg.text((at.0 + LEFT, at.1 + 18.0), "head", "start", &self.title);
        for (curve, x, row) in legend {
            let y = at.1 + TITLE + row as f64 * LEGEND + 8.0;
            entry(svg, curve, (at.0 + LEFT + x, y));
        }
        let corner = (at.0, at.1 + above);
        match self.frame(corner, size) {
            Some(frame) => {
                frame.axes(svg, self.log);
                frame.name(svg, self.axes);
                for curve in &self.curves {
                    let points = thinned(&self.scaled(curve));
                    let place = |&(x, y): &(f64, f64)| finite((x, y)).then(|| frame.place(x, y));
                    curve.draw(svg, &points.iter().map(place).collect::<Vec<_>>());
                }
            }
            None => {
                let middle = (corner.0 + size.0 / 2.0, corner.1 + size.1 / 2.0);
                svg.text(middle, "soft", "middle", "nothing to show");
            }
        }
        above + size.1
    }

    /// Room at the left of the plot, and below it.
    fn left(&self) -> f64 {
        if self.axes[1].is_empty() { LEFT } else { LEFT + NAME }
    }

    fn bottom(&self) -> f64 {
        if self.axes[0].is_empty() { BOTTOM } else { BOTTOM + NAME }
    }

    /// The points of a curve as they lie on the vertical axis.
    fn scaled(&self, curve: &Curve) -> Vec<(f64, f64)> {
        let scaled = |&(x, y): &(f64, f64)| (x, if self.log { y.log10() } else { y });
        curve.points.iter().map(scaled).collect()
    }

    /// The axes; `None` where no point can be drawn.
    fn frame(&self, at: (f64, f64), size: (f64, f64)) -> Option<Frame> {
        let scaled = self.curves.iter().flat_map(|curve| self.scaled(curve));
        let points: Vec<(f64, f64)> = scaled.filter(|&point| finite(point)).collect();
        points.first()?;
        Some(Frame {
            steps: Range::of(points.iter().map(|p| p.0)),
            values: Range::of(points.iter().map(|p| p.1)),
            from: (at.0 + self.left(), at.1),
            to: (at.0 + size.0 - RIGHT, at.1 + size.1 - self.bottom()),
        })
    }

    /// The first curve of each name, with the place and the row of its entry in a legend of this width.
    fn legend(&self, width: f64) -> Vec<(&Curve, f64, usize)> {
        let (mut entries, mut x, mut row): (Vec<(&Curve, f64, usize)>, _, _) = (vec![], 0.0, 0);
        for curve in self.curves.iter().filter(|curve| !curve.name.is_empty()) {
            if entries.iter().any(|entry| entry.0.name == curve.name) {
                continue;
            }
            let wide = 40.0 + text_width(&curve.name, 12.0);
            if x > 0.0 && x + wide > width {
                (x, row) = (0.0, row + 1);
            }
            entries.push((curve, x, row));
            x += wide;
        }
        entries
    }
}

fn finite((x, y): (f64, f64)) -> bool {
    x.is_finite() && y.is_finite()
}

/// At most [`MOST`] of the points: means of neighbours.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(MOST).max(1);
    let mean = |part: &[(f64, f64)]| {
        let known: Vec<_> = part.iter().copied().filter(|&point| finite(point)).collect();
        let sum = known.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        (sum.0 / known.len() as f64, sum.1 / known.len() as f64)
    };
    points.chunks(together).map(mean).collect()
}

/// Axes in a picture.
struct Frame {
    steps: Range,
    values: Range,
    /// Upper left and lower right corner.
    from: (f64, f64),
    to: (f64, f64),
}

impl Frame {
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let right = (x - self.steps.bottom) / (self.steps.top - self.steps.bottom);
        let down = (self.values.top - y) / (self.values.top - self.values.bottom);
        let (from, to) = (self.from, self.to);
        (from.0 + right * (to.0 - from.0), from.1 + down * (to.1 - from.1))
    }

    fn axes(&self, svg: &mut Svg, log: bool) {
        let apart = |ticks: &[f64]| if let [a, b, ..] = ticks { b - a } else { 1.0 };
        let (from, to) = (self.from, self.to);
        let marks = self.marks(log);
        for &value in &marks {
            let (_, y) = self.place(self.steps.bottom, value);
            let shown = match (log, 10f64.powf(value)) {
                // Powers of ten have one form on an axis.
                (true, _) if value.fract() == 0.0 && marks.iter().any(|&mark| mark <= -3.0) => {
                    format!("1e{value:.0}")
                }
                (true, number) if value.fract() == 0.0 => tick(number, number),
                (true, number) => tick(number, number / 10.0),
                (false, _) => tick(value, apart(&marks)),
            };
            svg.line("grid", (from.0, y), (to.0, y));
            svg.text((from.0 - 6.0, y + 4.0), "soft", "end", &shown);
        }
        let marks = ticks(self.steps.bottom, self.steps.top, 6);
        for &step in marks.iter().filter(|step| step.fract() == 0.0) {
            let (x, _) = self.place(step, self.values.bottom);
            svg.line("grid", (x, from.1), (x, to.1));
            let shown = tick(step, apart(&marks).max(1.0));
            svg.text((x, to.1 + 16.0), "soft", "middle", &shown);
        }
        svg.line("frame", from, (from.0, to.1));
        svg.line("frame", (from.0, to.1), to);
    }

    /// Writes what the axes show, if they have names.
    fn name(&self, svg: &mut Svg, [below, left]: [&str; 2]) {
        let middle = |a: f64, b: f64| (a + b) / 2.0;
        if !below.is_empty() {
            let place = (middle(self.from.0, self.to.0), self.to.1 + BOTTOM + 4.0);
            svg.text(place, "soft", "middle", below);
        }
        if !left.is_empty() {
            let (x, y) = (self.from.0 - LEFT + 8.0, middle(self.from.1, self.to.1));
            svg.add(format_args!(r#"<g transform="rotate(-90 {x:.1} {y:.1})">"#));
            svg.text((x, y), "soft", "middle", left);
            svg.add(format_args!("</g>"));
        }
    }

    /// Where the vertical axis has numbers. On a logarithmic one, whole powers of ten, if there are two.
    fn marks(&self, log: bool) -> Vec<f64> {
        let (low, high) = (self.values.bottom, self.values.top);
        let mut decades = ticks(low, high, 8);
        decades.retain(|tick| tick.fract() == 0.0);
        if log && decades.len() > 1 { decades } else { ticks(low, high, 5) }
    }
}

impl Curve {
    /// Draws it through points of the picture; `None` interrupts a line.
    fn draw(&self, svg: &mut Svg, points: &[Option<(f64, f64)>]) {
        if self.kind != Kind::Dots {
            self.stroke(svg, points);
        }
        if matches!(self.kind, Kind::Dots | Kind::Marked) {
            points.iter().flatten().for_each(|&point| mark(svg, (self.group, self.mark), point));
        }
    }

    fn stroke(&self, svg: &mut Svg, points: &[Option<(f64, f64)>]) {
        let (mut path, mut verb) = (String::new(), 'M');
        for point in points {
            match point {
                Some((x, y)) => {
                    write!(path, "{verb}{x:.1} {y:.1}").expect("a string takes everything");
                    verb = 'L';
                }
                None => verb = 'M',
            }
        }
        let (width, opacity) = if self.kind == Kind::Faint { (1.0, 0.35) } else { (2.0, 1.0) };
        let (colour, dashes) = (colour(self.group), DASHES[self.group % DASHES.len()]);
        svg.add(format_args!(
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}" stroke-dasharray="{dashes}" stroke-linejoin="round"/>"#
        ));
    }
}

/// Draws a mark in the colour of a group: a circle, a square, a triangle or a diamond.
fn mark(svg: &mut Svg, (group, shape): (usize, usize), (x, y): (f64, f64)) {
    let fill = colour(group);
    let shape = match shape % 4 {
        0 => {
            return svg.add(format_args!(
                r#"<circle class="point" cx="{x:.1}" cy="{y:.1}" r="4" fill="{fill}"/>"#
            ));
        }
        1 => "m-3.6 -3.6h7.2v7.2h-7.2z",
        2 => "m0 -4.6l4.4 8h-8.8z",
        _ => "m0 -5l5 5l-5 5l-5 -5z",
    };
    svg.add(format_args!(r#"<path class="point" d="M{x:.1} {y:.1}{shape}" fill="{fill}"/>"#));
}

/// Draws an entry of a legend.
fn entry(svg: &mut Svg, curve: &Curve, (x, y): (f64, f64)) {
    let sample = match curve.kind {
        Kind::Dots => vec![Some((x + 11.0, y))],
        _ => vec![Some((x, y)), Some((x + 22.0, y))],
    };
    curve.draw(svg, &sample);
    svg.text((x + 28.0, y + 4.0), "soft", "start", &curve.name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, points: Vec<(f64, f64)>, kind: Kind, group: usize) -> Curve {
        Curve { name: name.to_owned(), points, kind, group, mark: group }
    }

    fn chart(title: &str, curves: Vec<Curve>) -> Chart {
        Chart { title: title.to_owned(), axes: [""; 2], log: false, curves }
    }

    #[test]
    fn a_chart_has_a_path_for_each_line_and_a_mark_for_each_dot() {
        let points: Vec<_> = (0..5000).map(|i| (f64::from(i), f64::from(5000 - i))).collect();
        let nan = vec![(1.0, f64::NAN), (2.0, 3.0), (4.0, 5.0)];
        let curves = vec![curve("a<b", points, Kind::Line, 1), curve("dots", nan, Kind::Dots, 0)];
        let svg = chart("Loss & more", curves).page().unwrap();
        // One and its sample in the legend.
        assert_eq!(svg.matches("<path").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 2 + 1);
        assert!(svg.contains("Loss &amp; more") && svg.contains("a&lt;b") && svg.contains("7 3"));
        assert!(!svg.contains("NaN") && svg.len() < 20_000, "{}", svg.len());
        assert!(chart("none", vec![curve("", vec![], Kind::Line, 0)]).page().is_none());
        // One point, or a constant, has a place too.
        let one = chart("one", vec![curve("", vec![(3.0, 2.0)], Kind::Faint, 0)]).page().unwrap();
        assert!(!one.contains("NaN") && !one.contains("inf"), "{one}");
    }

    #[test]
    fn a_line_is_interrupted_where_a_value_is_missing() {
        let points = vec![(0.0, 3.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 2.0)];
        let page = chart("", vec![curve("", points, Kind::Marked, 0)]).page().unwrap();
        let path = page.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
        assert_eq!(page.matches("<circle").count(), 3);
    }

    #[test]
    fn long_curves_become_means() {
        let points: Vec<_> = (1..=2000).map(|step| (f64::from(step), f64::from(step))).collect();
        let means = thinned(&points);
        assert_eq!((means.len(), means[0]), (400, (3.0, 3.0)));
        assert_eq!(thinned(&points[..2]), points[..2]);
        // What is missing counts for nothing.
        let mut holes = points;
        holes[0].1 = f64::NAN;
        assert_eq!(thinned(&holes)[0], (3.5, 3.5));
    }

    #[test]
    fn a_legend_goes_on_in_the_next_row_and_names_each_once() {
        let names = ["layer 1", "layer 2", "layer 1", "layer 3", ""];
        let curves = names.map(|name| curve(name, vec![(0.0, 1.0)], Kind::Line, 0)).to_vec();
        let chart = chart("", curves);
        let wide = 40.0 + text_width("layer 1", 12.0);
        let entries = chart.legend(2.0 * wide + 1.0);
        let places: Vec<_> = entries.iter().map(|e| (e.0.name.as_str(), e.1, e.2)).collect();
        assert_eq!(places, [("layer 1", 0.0, 0), ("layer 2", wide, 0), ("layer 3", 0.0, 1)]);
        // The plot keeps its size.
        let mut svg = Svg::default();
        let [one, two] =
            [4.0, 2.0].map(|n| chart.draw(&mut svg, (0.0, 0.0), (n * wide + 100.0, 200.0)));
        assert_eq!(two - one, LEGEND);
    }

    #[test]
    fn a_logarithmic_axis_has_powers_of_ten() {
        let points = vec![(0.0, 1e-4), (1.0, 0.0), (2.0, 1.0)];
        let lines = vec![curve("", points, Kind::Line, 0)];
        let page = Chart { log: true, ..chart("", lines) }.page().unwrap();
        for shown in [">1e-4<", ">1e-3<", ">1e-2<", ">1e-1<", ">1e0<"] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        let path = page.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path.matches('M').count(), 2, "0 has no place: {path}");
        // Within a decade, numbers stand between powers.
        let near = vec![curve("", vec![(0.0, 2.0), (1.0, 5.0)], Kind::Line, 0)];
        let page = Chart { log: true, ..chart("", near) }.page().unwrap();
        assert!(page.matches("class=\"grid\" x1=\"66.0\"").count() > 1, "{page}");
    }

    #[test]
    fn axes_have_names_where_they_are_given() {
        let lines = vec![curve("", vec![(0.0, 2.0), (1.0, 5.0)], Kind::Line, 0)];
        let named = Chart { axes: ["step", "nats"], ..chart("t", lines.clone()) };
        let (named, plain) = (named.page().unwrap(), chart("t", lines).page().unwrap());
        assert!(
            named.contains(">step<") && named.contains(">nats<") && named.contains("rotate(-90")
        );
        assert!(!plain.contains("rotate") && !plain.contains(">step<"), "{plain}");
    }

    #[test]
    fn groups_differ_in_more_than_colour() {
        let points = vec![(0.0, 1.0), (1.0, 2.0)];
        let curves = (0..3).map(|group| curve("", points.clone(), Kind::Marked, group)).collect();
        let page = chart("", curves).page().unwrap();
        for stroke in DASHES.iter().take(3) {
            assert!(page.contains(&format!("stroke-dasharray=\"{stroke}\"")), "{page}");
        }
        assert_eq!(page.matches("<circle").count(), 2);
        assert!(page.contains("h7.2v7.2") && page.contains("l4.4 8"), "{page}");
    }
}
