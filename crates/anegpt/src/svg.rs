//! Pictures as SVG: plain elements with a style sheet that follows the reader's choice of light or dark;
//! a renderer that knows no media queries draws them light.

use std::fmt::Write;

const STYLE: &str = "\
svg { font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif; }
.paper { fill: #ffffff; }
text { fill: #1f2430; font-size: 13px; }
.title { font-size: 18px; font-weight: 600; }
.head { font-size: 15px; font-weight: 600; }
.soft { fill: #5c6675; font-size: 12px; }
.on { fill: #ffffff; font-size: 12px; }
.grid { stroke: #d9dee6; stroke-width: 1; }
.frame { fill: none; stroke: #8791a1; stroke-width: 1; }
.ceiling { fill: none; stroke: #1f2430; stroke-width: 2; }
.leader { stroke: #8791a1; stroke-width: 1; }
.point { stroke: #ffffff; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #14171d; }
  text { fill: #e8ebf0; }
  .soft { fill: #a3adbb; }
  .on { fill: #ffffff; }
  .grid { stroke: #2c333f; }
  .frame { stroke: #6b7686; }
  .ceiling { stroke: #e8ebf0; }
  .point { stroke: #14171d; }
}";

/// Colours that stand out on white and on near-black; a part has that of its row.
const COLOURS: [&str; 9] = [
    "#3f86d8", "#df7f20", "#2a9d6f", "#d4524f", "#8e6fd0", "#a9803f", "#cf5fa3", "#3aa3b5",
    "#808b99",
];

/// Text that may hold anything, as XML wants it.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no other control characters.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Elements of a picture.
#[derive(Default)]
pub(crate) struct Svg {
    body: String,
}

impl Svg {
    pub(crate) fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("a string takes everything");
    }

    pub(crate) fn text(&mut self, at: (f64, f64), class: &str, anchor: &str, text: &str) {
        self.add(format_args!(
            r#"<text x="{:.1}" y="{:.1}" class="{class}" text-anchor="{anchor}">{}</text>"#,
            at.0,
            at.1,
            escape(text)
        ));
    }

    /// A filled rectangle with what a pointer above it is told.
    pub(crate) fn bar(&mut self, at: (f64, f64), size: (f64, f64), fill: &str, title: &str) {
        self.add(format_args!(
            r#"<rect x="{:.2}" y="{:.1}" width="{:.2}" height="{:.1}" fill="{fill}"><title>{}</title></rect>"#,
            at.0,
            at.1,
            size.0,
            size.1,
            escape(title)
        ));
    }

    /// The whole picture, of so many pixels.
    pub(crate) fn page(&self, width: f64, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\">\n<style>\n{STYLE}\n</style>\n<rect class=\"paper\" width=\"{width}\" \
             height=\"{height}\"/>\n{}</svg>\n",
            self.body
        )
    }

    pub(crate) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.add(format_args!(
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }
}

/// Width that a text of this size takes, from above: most letters are narrower.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    0.6 * size * text.chars().count() as f64
}

/// As much of a text of 12 pixels as fits, with dots where it does not.
pub(crate) fn clipped(text: &str, width: f64) -> String {
    if text_width(text, 12.0) <= width {
        return text.to_owned();
    }
    let fits = (width / text_width("x", 12.0)) as usize;
    let kept: String = text.chars().take(fits.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

pub(crate) fn colour(row: usize) -> &'static str {
    COLOURS[row % COLOURS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_clipped() {
        assert_eq!(escape("a<b> & \"c\"\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot; ");
        assert_eq!(clipped("short", 100.0), "short");
        let long = clipped(&"word ".repeat(100), 100.0);
        assert!(long.ends_with('…') && text_width(&long, 12.0) <= 100.0);
    }
}
