//! The loss of a run, drawn with characters.

use crate::plot::{Braille, Range, covered, filled};

/// Rows of the picture: odd, so that the middle one is halfway.
const ROWS: usize = 9;
/// Most and fewest columns of the picture.
const COLUMNS: std::ops::RangeInclusive<usize> = 8..=72;

/// Losses by step.
pub(super) type Points = [(u64, f64)];

/// Draws both losses in at most `width` columns, with Braille dots or ASCII alone; `None` if there
/// is too little to draw.
pub(super) fn draw(
    training: &Points,
    validation: &Points,
    width: usize,
    unicode: bool,
) -> Option<String> {
    let finite = |points: &Points| -> Vec<(u64, f64)> {
        points.iter().filter(|point| point.1.is_finite()).copied().collect()
    };
    let (training, validation) = (finite(training), finite(validation));
    let steps = || training.iter().chain(&validation).map(|point| point.0);
    let span = Span { first: steps().min()?, last: steps().max()? };
    let highest = training.iter().chain(&validation).map(|point| point.1).fold(0.0, f64::max);
    let label = format!("{highest:.2}").len();
    let columns = width.saturating_sub(label + 2).min(*COLUMNS.end());
    if training.len() < 2 || columns < *COLUMNS.start() {
        return None;
    }
    let means = filled(&means(&training, span, columns * if unicode { 2 } else { 1 }));
    let losses = || means.iter().flatten().chain(validation.iter().map(|point| &point.1));
    let range = Range::of(losses().copied());
    let mut grid = if unicode { braille(&means, range) } else { stars(&means, range) };
    for &(step, loss) in &validation {
        grid[range.row(loss, ROWS)][span.column(step, columns)] = 'o';
    }
    Some(framed(&grid, label, columns, span, range, unicode))
}

/// First and last step.
#[derive(Clone, Copy)]
struct Span {
    first: u64,
    last: u64,
}

impl Span {
    /// The column of a step, of so many.
    fn column(self, step: u64, columns: usize) -> usize {
        let (from, steps) = (step - self.first, self.last - self.first + 1);
        (u128::from(from) * columns as u128 / u128::from(steps)) as usize
    }
}

/// Mean loss of each column's steps; `None` where it has none.
fn means(points: &Points, span: Span, columns: usize) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0.0); columns];
    for &(step, loss) in points {
        let (sum, count) = &mut sums[span.column(step, columns)];
        (*sum, *count) = (*sum + loss, *count + 1.0);
    }
    sums.into_iter().map(|(sum, count)| (count > 0.0).then(|| sum / count)).collect()
}

fn stars(means: &[Option<f64>], range: Range) -> Vec<Vec<char>> {
    let mut grid = vec![vec![' '; means.len()]; ROWS];
    covered(means, range, ROWS).into_iter().for_each(|(row, column)| grid[row][column] = '*');
    grid
}

fn braille(means: &[Option<f64>], range: Range) -> Vec<Vec<char>> {
    let mut dots = Braille::new(means.len() / 2, ROWS);
    covered(means, range, 4 * ROWS).into_iter().for_each(|(row, column)| dots.set(row, column));
    dots.rows().collect()
}

/// The picture with its axes.
fn framed(
    grid: &[Vec<char>],
    label: usize,
    columns: usize,
    span: Span,
    range: Range,
    unicode: bool,
) -> String {
    let (wall, corner, floor, line) = match unicode {
        true => ("│", "└", "─", "⠒⠒"),
        false => ("|", "+", "-", "**"),
    };
    let mut lines = vec![format!("loss: {line} training, o validation")];
    for (i, row) in grid.iter().enumerate() {
        let loss = range.top + (range.bottom - range.top) * i as f64 / (ROWS - 1) as f64;
        let number = if i % (ROWS / 2) == 0 { format!("{loss:.2}") } else { String::new() };
        let row: String = row.iter().collect();
        lines.push(format!("{number:>label$} {wall}{row}").trim_end().to_owned());
    }
    lines.push(format!("{:label$} {corner}{}", "", floor.repeat(columns)));
    let (first, last) = (span.first.to_string(), format!("step {}", span.last));
    let rest = columns.saturating_sub(first.len());
    lines.push(format!("{:label$}  {first}{last:>rest$}", ""));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses of steps 1, 2, 3 …
    fn points(losses: impl IntoIterator<Item = f64>) -> Vec<(u64, f64)> {
        (1..).zip(losses).collect()
    }

    const FALLING: &str = "\
loss: ** training, o validation
8.00 |*   o
     | *
     |  *
     |   *
4.00 |    *   o
     |     *
     |      *
     |       *
0.00 |        *
     +---------
      1  step 9";

    #[test]
    fn a_line_falls_from_corner_to_corner() {
        let validation = [(5, 8.0), (9, 4.0)];
        let falling = points((0..9).rev().map(f64::from));
        assert_eq!(draw(&falling, &validation, 15, false).unwrap(), FALLING);
        // Columns without a step lie on the line between their neighbours.
        let ends = [(1, 8.0), (9, 0.0)];
        assert_eq!(draw(&ends, &validation, 15, false).unwrap(), FALLING);
    }

    #[test]
    fn braille_has_two_columns_and_four_rows_a_character() {
        let falling = points((0..36).rev().map(f64::from));
        let expected = "\
loss: ⠒⠒ training, o validation
35.00 │⠑⢄
      │  ⠑⢄
      │    ⠑⢄
      │      ⠑⢄
17.50 │        ⠑⢄
      │          ⠑⢄
      │            ⠑⢄
      │              ⠑⢄
 0.00 │                ⠑⢄
      └──────────────────
       1          step 36";
        assert_eq!(draw(&falling, &[], 25, true).unwrap(), expected);
    }

    #[test]
    fn a_jump_is_a_vertical_line() {
        let losses = [8.0, 0.0, 0.0, 0.0, 8.0, 8.0, 8.0, 8.0, 8.0];
        let expected = "\
loss: ** training, o validation
8.00 |*   *****
     | *  *
     | *  *
     | *  *
4.00 | *  *
     | *  *
     | *  *
     | *  *
0.00 | ***
     +---------
      1  step 9";
        assert_eq!(draw(&points(losses), &[], 15, false).unwrap(), expected);
    }

    #[test]
    fn steps_of_one_column_are_averaged() {
        // 18 steps in 9 columns, two each: their means are 8, 7, … 0.
        let losses = (0..9).rev().flat_map(|mean| [f64::from(mean) + 0.5, f64::from(mean) - 0.5]);
        let picture = draw(&points(losses), &[(9, 8.0), (17, 4.0)], 15, false).unwrap();
        assert_eq!(picture, FALLING.replace("1  step 9", "1 step 18"));
    }

    #[test]
    fn a_constant_lies_in_the_middle() {
        let picture = draw(&points([2.0; 9]), &[], 15, false).unwrap();
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!((lines[1], lines[5], lines[9]), ("3.00 |", "2.00 |*********", "1.00 |"));
    }

    #[test]
    fn what_cannot_be_drawn_is_not() {
        assert_eq!(draw(&points([1.0]), &[], 80, false), None);
        assert_eq!(draw(&[], &[(0, 1.0)], 80, false), None);
        assert_eq!(draw(&points([1.0, f64::NAN]), &[], 80, false), None);
        assert_eq!(draw(&points([2.0, 1.0]), &[], 13, false), None);
        assert!(draw(&points([2.0, f64::INFINITY, 1.0]), &[(2, f64::NAN)], 80, true).is_some());
    }

    #[test]
    fn no_line_is_wider_than_asked() {
        let losses = points((0..1000).map(|i| 9.0 / f64::from(i + 1)));
        for width in [40, 60, 80, 100] {
            for unicode in [false, true] {
                let picture = draw(&losses, &[(0, 8.0), (1000, 0.1)], width, unicode).unwrap();
                assert_eq!(picture.lines().count(), 12);
                let widest = picture.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= width, "{widest} > {width}: {picture}");
            }
        }
    }
}
