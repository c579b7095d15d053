//! A chart of lines as SVG.

use crate::plot::{Range, tick, ticks};
use crate::svg::{Svg, colour};
use std::fmt::Write;

/// Size in pixels, and the room that axes take.
const SIZE: (f64, f64) = (560.0, 260.0);
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 34.0;
/// Most points of a line: more cannot be told apart.
const MOST: usize = 800;
/// Strokes by line, so that colours are not needed to tell them apart.
const DASHES: [&str; 5] = ["", "7 3", "2 3", "10 3 2 3", "1 2"];

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drawn {
    Line,
    /// A line behind the others.
    Faint,
    Dots,
}

/// A series of a chart.
#[derive(Debug)]
pub(super) struct Curve {
    pub(super) label: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) drawn: Drawn,
    /// Which of the runs it is of: chooses colour and stroke.
    pub(super) run: usize,
}

/// Draws a chart; `None` where there is nothing to draw.
pub(super) fn draw(title: &str, curves: &[Curve]) -> Option<String> {
    let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let all = || curves.iter().flat_map(|curve| curve.points.iter().filter(finite));
    all().next()?;
    let steps = Range::of(all().map(|p| p.0));
    let values = Range::of(all().map(|p| p.1));
    let mut svg = Svg::default();
    svg.text((LEFT, 18.0), "head", "start", title);
    axes(&mut svg, steps, values);
    let at = |&(x, y): &(f64, f64)| place(steps, values, x, y);
    for curve in curves {
        let points: Vec<(f64, f64)> = curve.points.iter().filter(finite).map(at).collect();
        draw_curve(&mut svg, curve, &thinned(&points));
    }
    legend(&mut svg, curves);
    Some(svg.page(SIZE.0, SIZE.1))
}

fn place(steps: Range, values: Range, x: f64, y: f64) -> (f64, f64) {
    let (width, height) = (SIZE.0 - LEFT - RIGHT, SIZE.1 - TOP - BOTTOM);
    let right = (x - steps.bottom) / (steps.top - steps.bottom);
    let down = (values.top - y) / (values.top - values.bottom);
    (LEFT + right * width, TOP + down * height)
}

fn axes(svg: &mut Svg, steps: Range, values: Range) {
    let apart = |ticks: &[f64]| if let [a, b, ..] = ticks { b - a } else { 1.0 };
    let marks = ticks(values.bottom, values.top, 5);
    for &value in &marks {
        let (_, y) = place(steps, values, steps.bottom, value);
        svg.line("grid", (LEFT, y), (SIZE.0 - RIGHT, y));
        svg.text((LEFT - 6.0, y + 4.0), "soft", "end", &tick(value, apart(&marks)));
    }
    let marks = ticks(steps.bottom, steps.top, 6);
    for &step in marks.iter().filter(|step| step.fract() == 0.0) {
        let (x, _) = place(steps, values, step, values.bottom);
        svg.line("grid", (x, TOP), (x, SIZE.1 - BOTTOM));
        svg.text(
            (x, SIZE.1 - BOTTOM + 16.0),
            "soft",
            "middle",
            &tick(step, apart(&marks).max(1.0)),
        );
    }
    svg.line("frame", (LEFT, TOP), (LEFT, SIZE.1 - BOTTOM));
    svg.line("frame", (LEFT, SIZE.1 - BOTTOM), (SIZE.0 - RIGHT, SIZE.1 - BOTTOM));
}

/// At most [`MOST`] of the points: means of neighbours.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(MOST).max(1);
    let mean = |part: &[(f64, f64)]| {
        let count = part.len() as f64;
        let sum = part.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(together).map(mean).collect()
}

fn draw_curve(svg: &mut Svg, curve: &Curve, points: &[(f64, f64)]) {
    let colour = colour(curve.run);
    if curve.drawn == Drawn::Dots {
        for (x, y) in points {
            svg.add(format_args!(
                r#"<circle class="point" cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"/>"#
            ));
        }
        return;
    }
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let verb = if index == 0 { 'M' } else { 'L' };
        write!(path, "{verb}{x:.1} {y:.1}").expect("a string takes everything");
    }
    let (width, opacity) = if curve.drawn == Drawn::Faint { (1.0, 0.35) } else { (2.0, 1.0) };
    let dashes = DASHES[curve.run % DASHES.len()];
    svg.add(format_args!(
        r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}" stroke-dasharray="{dashes}"/>"#
    ));
}

fn legend(svg: &mut Svg, curves: &[Curve]) {
    let mut x = LEFT;
    for curve in curves.iter().filter(|curve| !curve.label.is_empty()) {
        let sample = Curve { points: vec![], label: String::new(), ..*curve };
        let points = match curve.drawn {
            Drawn::Dots => vec![(x + 10.0, 32.0)],
            _ => vec![(x, 32.0), (x + 20.0, 32.0)],
        };
        draw_curve(svg, &sample, &points);
        svg.text((x + 26.0, 36.0), "soft", "start", &curve.label);
        x += 40.0 + crate::svg::text_width(&curve.label, 12.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: Vec<(f64, f64)>, drawn: Drawn, run: usize) -> Curve {
        Curve { label: "a<b".to_owned(), points, drawn, run }
    }

    #[test]
    fn a_chart_has_a_path_for_each_line_and_a_circle_for_each_dot() {
        let points: Vec<_> = (0..5000).map(|i| (f64::from(i), f64::from(5000 - i))).collect();
        let nan = vec![(1.0, f64::NAN), (2.0, 3.0), (4.0, 5.0)];
        let curves = [curve(points, Drawn::Line, 1), curve(nan, Drawn::Dots, 0)];
        let svg = draw("Loss & more", &curves).unwrap();
        // One and its sample in the legend.
        assert_eq!(svg.matches("<path").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 2 + 1);
        assert!(svg.contains("Loss &amp; more") && svg.contains("a&lt;b") && svg.contains("7 3"));
        assert!(!svg.contains("NaN") && svg.len() < 30_000, "{}", svg.len());
        assert!(draw("none", &[curve(vec![], Drawn::Line, 0)]).is_none());
        // One point, or a constant, has a place too.
        let one = draw("one", &[curve(vec![(3.0, 2.0)], Drawn::Faint, 0)]).unwrap();
        assert!(!one.contains("NaN") && !one.contains("inf"), "{one}");
    }
}
