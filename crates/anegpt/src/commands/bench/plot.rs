//! The report as a picture: where the time of a step goes, and where its parts lie under the
//! ceilings of the machine (a roofline: Williams, Waterman and Patterson 2009).

use super::figures::{percent, short};
use super::report::{MeasuredStep, PartOfStep, Report};
use crate::svg::{Svg, clipped, colour, text_width};

const WIDTH: f64 = 960.0;
/// First row of bars.
const BARS_TOP: f64 = 116.0;
const ROW: f64 = 30.0;
/// Where bars begin, and how long the longest is.
const BARS_LEFT: f64 = 118.0;
const BARS_WIDTH: f64 = 400.0;
/// Where the words about a part begin.
const WORDS_LEFT: f64 = 668.0;
/// The roofline's frame.
const LEFT: f64 = 86.0;
const RIGHT: f64 = 930.0;
const HEIGHT: f64 = 380.0;

/// The picture of a report.
pub(super) fn svg(report: &Report) -> String {
    let mut svg = Svg::default();
    let settings = &report.settings;
    svg.text((24.0, 34.0), "title", "start", &format!("anegpt bench: {}", settings.model));
    let machine = format!(
        "{}, {} threads · {} × {} × {} tokens per step · {}",
        report.machine.cpu,
        report.machine.cores,
        settings.accum,
        settings.batch,
        settings.seq,
        settings.device
    );
    svg.text((24.0, 55.0), "soft", "start", &clipped(&machine, WIDTH - 48.0));
    let mut top = BARS_TOP;
    if let Some(step) = &report.step {
        bars(&mut svg, step);
        top += ROW * step.parts.len() as f64 + 46.0;
    }
    roofline(&mut svg, report, top);
    let height = top + HEIGHT + 62.0;
    svg.page(WIDTH, height)
}

/// One bar per part, longest first.
fn bars(svg: &mut Svg, step: &MeasuredStep) {
    let title = format!(
        "A training step: {} ms, {} GFLOP/s{}",
        short(step.ms.median),
        short(step.gflops),
        step.share_of_peak.map_or(String::new(), |s| format!(", {:.0} % of peak", 100.0 * s))
    );
    svg.text((24.0, BARS_TOP - 20.0), "head", "start", &title);
    let longest = step.parts.iter().map(|p| p.ms.median).fold(1e-9, f64::max);
    for (row, part) in step.parts.iter().enumerate() {
        let (y, width) = (BARS_TOP + ROW * row as f64, BARS_WIDTH * part.ms.median / longest);
        let base = y + 16.0;
        svg.text((BARS_LEFT - 10.0, base), "", "end", &part.name);
        svg.add(format_args!(
            r#"<rect x="{BARS_LEFT:.1}" y="{:.1}" width="{:.1}" height="20" rx="2" fill="{}"/>"#,
            y + 1.0,
            width.max(1.0),
            colour(row)
        ));
        let value = format!("{} ms · {}", short(part.ms.median), percent(part.share_of_step));
        svg.text((BARS_LEFT + width + 8.0, base), "", "start", &value);
        svg.text((WORDS_LEFT, base), "soft", "start", part.what);
    }
}

/// A logarithmic axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    /// Logarithms to base 10 of the ends.
    log: [f64; 2],
    pixels: [f64; 2],
}

impl Axis {
    fn at(self, value: f64) -> f64 {
        let [low, high] = self.log;
        let share = (value.max(1e-30).log10() - low) / (high - low);
        self.pixels[0] + share * (self.pixels[1] - self.pixels[0])
    }

    /// Powers of ten within the axis.
    fn decades(self) -> impl Iterator<Item = f64> {
        let [low, high] = self.log;
        ((low - 1e-9).ceil() as i32..=(high + 1e-9).floor() as i32).map(|e| 10f64.powi(e))
    }
}

/// Something under the ceilings.
#[derive(Clone, Debug)]
struct Point {
    name: String,
    colour: &'static str,
    intensity: f64,
    gflops: f64,
}

/// A part that has a place under the ceilings of this machine.
fn point((row, part): (usize, &PartOfStep)) -> Option<Point> {
    part.share_of_peak?;
    let (gflops, intensity) = (part.gflops?, part.flops_per_byte?);
    let drawn = gflops > 0.0 && gflops.is_finite();
    drawn.then(|| Point { name: part.name.clone(), colour: colour(row), intensity, gflops })
}

fn roofline(svg: &mut Svg, report: &Report, top: f64) {
    svg.text((24.0, top), "head", "start", "Under the ceilings of this machine");
    let (flops, memory) = (report.peak.gflops.best(), report.peak.memory());
    let parts = report.step.iter().flat_map(|step| step.parts.iter().enumerate());
    let points: Vec<Point> = parts.filter_map(point).collect();
    let (x, y) = axes(&points, flops, memory, top + 16.0);
    let frame = Rect { x: LEFT, y: top + 16.0, width: RIGHT - LEFT, height: HEIGHT };
    grid(svg, x, y, frame);
    let ridge = flops / memory;
    let low = 10f64.powf(x.log[0]);
    // The slope enters where it crosses the left or the lower edge.
    let from = low.max(10f64.powf(y.log[0]) / memory);
    svg.add(format_args!(
        r#"<polyline class="ceiling" points="{:.1},{:.1} {:.1},{:.1} {:.1},{:.1}"/>"#,
        x.at(from),
        y.at(from * memory),
        x.at(ridge),
        y.at(flops),
        RIGHT,
        y.at(flops)
    ));
    let at = |intensity: f64| (x.at(intensity), y.at(flops.min(intensity * memory)));
    let mut taken: Vec<Rect> = (0..=200)
        .map(|i| from * (10f64.powf(x.log[1]) / from).powf(f64::from(i) / 200.0))
        .map(|intensity| Rect::around(at(intensity), 3.0))
        .collect();
    taken.extend(points.iter().map(|p| Rect::around((x.at(p.intensity), y.at(p.gflops)), 7.0)));
    let peak = format!("multiply-adds in registers: {} GFLOP/s", short(flops));
    let slope = format!("memory: {} GB/s", short(memory));
    let middle = (from.log10() + ridge.log10()) / 2.0;
    let (corner, middle) = ((RIGHT - 8.0, y.at(flops)), at(10f64.powf(middle)));
    for (text, near, side) in [(peak, corner, Side::Above), (slope, middle, Side::LeftAbove)] {
        place(svg, (&text, "soft"), near, side, frame, &mut taken);
    }
    for p in &points {
        let near = (x.at(p.intensity), y.at(p.gflops));
        svg.add(format_args!(
            r#"<circle class="point" cx="{:.1}" cy="{:.1}" r="6" fill="{}"/>"#,
            near.0, near.1, p.colour
        ));
        let text =
            format!("{} {:.0} %", p.name, 100.0 * p.gflops / flops.min(p.intensity * memory));
        place(svg, (&text, ""), near, Side::Right, frame, &mut taken);
    }
    let below = top + 16.0 + HEIGHT;
    svg.text(
        ((LEFT + RIGHT) / 2.0, below + 38.0),
        "soft",
        "middle",
        "floating-point operations per byte that must move; percent: of the ceiling above the point",
    );
}

/// Axes that show the ridge, half a decade around everything, and whole decades.
fn axes(points: &[Point], flops: f64, memory: f64, top: f64) -> (Axis, Axis) {
    let ridge = flops / memory;
    let range = |values: &mut dyn Iterator<Item = f64>, with: [f64; 2]| {
        let (low, high) = values
            .chain(with)
            .map(f64::log10)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        [(low - 0.2).floor(), (high + 0.2).ceil()]
    };
    let x = range(&mut points.iter().map(|p| p.intensity), [ridge / 10.0, ridge * 10.0]);
    let y = range(&mut points.iter().map(|p| p.gflops), [flops / 50.0, flops]);
    (Axis { log: x, pixels: [LEFT, RIGHT] }, Axis { log: y, pixels: [top + HEIGHT, top] })
}

fn grid(svg: &mut Svg, x: Axis, y: Axis, frame: Rect) {
    let Rect { x: left, y: top, width, height } = frame;
    for value in x.decades() {
        let at = x.at(value);
        svg.line("grid", (at, top), (at, top + height));
        svg.text((at, top + height + 17.0), "soft", "middle", &value.to_string());
    }
    for value in y.decades() {
        let at = y.at(value);
        svg.line("grid", (left, at), (left + width, at));
        svg.text((left - 8.0, at + 4.0), "soft", "end", &value.to_string());
    }
    svg.add(format_args!(
        r#"<rect class="frame" x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"/>"#
    ));
    svg.add(format_args!(
        r#"<text class="soft" text-anchor="middle" transform="translate(26 {:.1}) rotate(-90)">GFLOP/s</text>"#,
        top + height / 2.0
    ));
}

#[derive(Clone, Copy, Debug)]
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Rect {
    fn around((x, y): (f64, f64), radius: f64) -> Self {
        Rect { x: x - radius, y: y - radius, width: 2.0 * radius, height: 2.0 * radius }
    }

    fn overlaps(&self, o: &Rect) -> bool {
        self.x < o.x + o.width
            && o.x < self.x + self.width
            && self.y < o.y + o.height
            && o.y < self.y + self.height
    }

    fn within(&self, o: &Rect) -> bool {
        self.x >= o.x
            && self.y >= o.y
            && self.x + self.width <= o.x + o.width
            && self.y + self.height <= o.y + o.height
    }
}

/// Height of a line of text.
const LINE: f64 = 16.0;

/// Where a text should rather be.
#[derive(Clone, Copy, Debug)]
enum Side {
    Right,
    LeftAbove,
    Above,
}

/// The nearest free place for a text of this width beside `near`: its rectangle.
fn free_place(
    width: f64,
    near: (f64, f64),
    side: Side,
    frame: Rect,
    taken: &[Rect],
) -> Option<Rect> {
    let (x, y) = near;
    let middle = y - LINE / 2.0;
    (0..24).map(|ring| 10.0 + 8.0 * f64::from(ring)).find_map(|d| {
        let (right, left, centre) = (x + d, x - d - width, x - width / 2.0);
        let (above, below) = (y - d - LINE, y + d);
        let mut places = [
            (right, middle),
            (left, middle),
            (centre, below),
            (centre, above),
            (right, below),
            (left, below),
            (right, above),
            (left, above),
        ];
        match side {
            Side::Right => {}
            Side::LeftAbove => places.swap(0, 7),
            Side::Above => places.rotate_right(1),
        }
        let rect = |(x, y)| Rect { x, y, width, height: LINE };
        let free = |r: &Rect| r.within(&frame) && !taken.iter().any(|other| r.overlaps(other));
        places.into_iter().map(rect).find(free)
    })
}

/// Writes a text beside `near` where nothing else is, with a line to it if that is not close. Leaves
/// it out where there is no room: the colour of a point tells what it is.
fn place(
    svg: &mut Svg,
    (text, class): (&str, &str),
    near: (f64, f64),
    side: Side,
    frame: Rect,
    taken: &mut Vec<Rect>,
) {
    let Some(rect) = free_place(text_width(text, 13.0), near, side, frame, taken) else { return };
    taken.push(rect);
    let nearest =
        (near.0.clamp(rect.x, rect.x + rect.width), near.1.clamp(rect.y, rect.y + rect.height));
    let distance = (nearest.0 - near.0).hypot(nearest.1 - near.1);
    if distance > 20.0 {
        svg.line("leader", near, nearest);
    }
    // No line of the grid runs through a text.
    svg.add(format_args!(
        r#"<rect class="paper" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}"/>"#,
        rect.x, rect.y, rect.width, rect.height
    ));
    let (anchor, x) = match nearest.0 {
        at if at <= rect.x => ("start", rect.x),
        at if at >= rect.x + rect.width => ("end", rect.x + rect.width),
        _ => ("middle", rect.x + rect.width / 2.0),
    };
    svg.text((x, rect.y + 12.0), class, anchor, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_a_crowd_do_not_overlap() {
        let frame = Rect { x: 0.0, y: 0.0, width: 800.0, height: 400.0 };
        let points: Vec<(f64, f64)> = (0..9)
            .map(|i| (400.0 + f64::from(i % 3) * 4.0, 200.0 + f64::from(i / 3) * 4.0))
            .collect();
        let mut taken: Vec<Rect> = points.iter().map(|&p| Rect::around(p, 7.0)).collect();
        for &point in &points {
            let place =
                free_place(120.0, point, Side::Right, frame, &taken).expect("there is room");
            assert!(place.within(&frame));
            assert!(!taken.iter().any(|other| place.overlaps(other)));
            taken.push(place);
        }
        let tiny = Rect { width: 50.0, height: 50.0, ..frame };
        assert!(free_place(120.0, (25.0, 25.0), Side::Above, tiny, &[]).is_none());
    }

    #[test]
    fn an_axis_is_logarithmic() {
        let axis = Axis { log: [-1.0, 2.0], pixels: [100.0, 400.0] };
        assert!((axis.at(1.0) - 200.0).abs() < 1e-9 && (axis.at(100.0) - 400.0).abs() < 1e-9);
        assert_eq!(axis.decades().collect::<Vec<_>>(), [0.1, 1.0, 10.0, 100.0]);
    }
}
