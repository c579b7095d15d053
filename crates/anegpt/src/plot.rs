//! Lines drawn with characters: a dot for each column, and those between it and its neighbour.

/// Highest and lowest value of a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

impl Range {
    pub(crate) fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let top = values.clone().fold(f64::NEG_INFINITY, f64::max);
        let bottom = values.fold(f64::INFINITY, f64::min);
        // A constant lies in the middle, also if its means are rounded.
        let constant = top - bottom <= 1e-9 * top.abs().max(bottom.abs());
        let around = match constant {
            true if top == 0.0 => 0.5,
            true => 0.5 * top.abs(),
            false => 0.0,
        };
        Range { top: top + around, bottom: bottom - around }
    }

    /// The row of a value, of so many; the highest is in row 0.
    pub(crate) fn row(self, value: f64, rows: usize) -> usize {
        let share = (self.top - value) / (self.top - self.bottom);
        // Means may be rounded to beyond the values that they are of.
        ((share * (rows - 1) as f64).round() as usize).min(rows - 1)
    }
}

/// Columns between two that have a value lie on the line between them.
pub(crate) fn filled(means: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut filled = means.to_vec();
    let known: Vec<(usize, f64)> =
        means.iter().enumerate().filter_map(|(i, mean)| Some((i, (*mean)?))).collect();
    for pair in known.windows(2) {
        let ((from, a), (to, b)) = (pair[0], pair[1]);
        for (i, mean) in filled.iter_mut().enumerate().take(to).skip(from + 1) {
            *mean = Some(a + (b - a) * (i - from) as f64 / (to - from) as f64);
        }
    }
    filled
}

/// The rows that a line through the columns covers, of so many: each column from its neighbour's
/// row to its own.
pub(crate) fn covered(means: &[Option<f64>], range: Range, rows: usize) -> Vec<(usize, usize)> {
    let mut before = None;
    let mut dots = vec![];
    for (column, mean) in means.iter().enumerate() {
        let Some(row) = mean.map(|mean| range.row(mean, rows)) else { continue };
        let (from, to) = match before {
            Some(other) if other < row => (other + 1, row),
            Some(other) if other > row => (row, other - 1),
            _ => (row, row),
        };
        dots.extend((from..=to).map(|row| (row, column)));
        before = Some(row);
    }
    dots
}

/// Dots in characters, two columns and four rows in each.
#[derive(Debug)]
pub(crate) struct Braille(Vec<Vec<u32>>);

impl Braille {
    /// Columns and rows of dots in a character.
    pub(crate) const DOTS: (usize, usize) = (2, 4);
    /// Bits of a character's dots, by row and column (Unicode, block Braille Patterns).
    const BITS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

    /// No dots, in so many characters.
    pub(crate) fn new(columns: usize, rows: usize) -> Self {
        Braille(vec![vec![0; columns]; rows])
    }

    pub(crate) fn set(&mut self, row: usize, column: usize) {
        self.0[row / 4][column / 2] |= Self::BITS[row % 4][column % 2];
    }

    /// The characters, row by row: a space where there is no dot.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Vec<char>> + '_ {
        let shown = |bits: &u32| match bits {
            0 => ' ',
            bits => char::from_u32(0x2800 + bits).expect("a Braille pattern"),
        };
        self.0.iter().map(move |row| row.iter().map(shown).collect())
    }
}

/// Round numbers (1, 2 or 5 times a power of ten apart) within a range, about `count` of them.
pub(crate) fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = high - low;
    if !(span.is_finite() && span > 0.0) || count == 0 {
        return vec![];
    }
    let rough = span / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let apart = power * factors.into_iter().find(|f| f * power >= rough).unwrap_or(10.0);
    let (first, last) = ((low / apart).ceil() as i64, (high / apart).floor() as i64);
    (first..=last).map(|i| i as f64 * apart).collect()
}

/// A number of an axis whose ticks are so far apart, with as many digits as tell them apart.
pub(crate) fn tick(value: f64, apart: f64) -> String {
    let large = value.abs();
    if large >= 1e4 {
        let (divided, unit) = match large {
            l if l >= 1e9 => (1e9, "G"),
            l if l >= 1e6 => (1e6, "M"),
            _ => (1e3, "k"),
        };
        let digits = (-(apart / divided).log10().floor()).clamp(0.0, 3.0) as usize;
        return format!("{:.digits$}{unit}", value / divided);
    }
    if large < 1e-3 && apart < 1e-3 && value != 0.0 {
        return format!("{value:.1e}");
    }
    let digits = (-apart.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(0.3, 4.1, 4), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(ticks(0.0, 1000.0, 4), [0.0, 500.0, 1000.0]);
        assert_eq!(ticks(1.0, 1.0, 4), [0.0; 0]);
        assert_eq!(ticks(f64::NAN, 1.0, 4), [0.0; 0]);
        for (low, high) in [(0.0, 7.0), (1e-5, 3e-5), (-3.0, 12345.0), (5.51, 5.52)] {
            let found = ticks(low, high, 5);
            assert!((2..=6).contains(&found.len()), "{low} {high} {found:?}");
            assert!(found.iter().all(|&tick| low <= tick && tick <= high), "{found:?}");
        }
    }

    #[test]
    fn a_constant_that_is_rounded_lies_in_the_middle_and_nothing_beyond_the_ends() {
        let rounded = [1590.062111801242, 1590.0621118012423, 1590.0621118012425];
        let range = Range::of(rounded.into_iter());
        assert!(rounded.iter().all(|&value| range.row(value, 9) == 4), "{range:?}");
        let range = Range { top: 2.0, bottom: 1.0 };
        assert_eq!((range.row(2.5, 9), range.row(0.5, 9), range.row(f64::NAN, 9)), (0, 8, 0));
    }

    #[test]
    fn numbers_of_an_axis_are_short() {
        for (value, apart, text) in [
            (2.5, 0.5, "2.5"),
            (3.0, 1.0, "3"),
            (0.0, 1.0, "0"),
            (12000.0, 2000.0, "12k"),
            (65536.0, 500.0, "65.5k"),
            (1_500_000.0, 500_000.0, "1.5M"),
            (0.0003, 0.0001, "3.0e-4"),
            (0.25, 0.05, "0.25"),
        ] {
            assert_eq!(tick(value, apart), text);
        }
    }
}
