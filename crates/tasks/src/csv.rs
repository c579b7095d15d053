//! Tables of comma-separated values (RFC 4180).

use crate::error::{Result, TaskError, read};
use std::path::Path;

/// A row with the line that it begins on, from 1.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) line: usize,
    pub(crate) fields: Vec<String>,
}

/// Reads a file: its rows, the header first, without empty lines.
pub(crate) fn read_rows(path: &Path) -> Result<Vec<Row>> {
    rows(&read(path)?).map_err(|(line, reason)| TaskError::line(path, line, reason))
}

/// The rows of a text, or the line and the fault.
fn rows(text: &str) -> std::result::Result<Vec<Row>, (usize, &'static str)> {
    let (mut all, mut line) = (vec![], 1);
    let mut rest = text;
    while !rest.is_empty() {
        let mut row = Row { line, fields: vec![] };
        loop {
            let (field, after) = field(rest).map_err(|reason| (row.line, reason))?;
            line += rest[..rest.len() - after.len()].matches('\n').count();
            row.fields.push(field);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after;
                    break;
                }
            }
        }
        rest = rest.strip_prefix('\r').unwrap_or(rest);
        rest = rest.strip_prefix('\n').unwrap_or(rest);
        line += 1;
        if row.fields != [""] {
            all.push(row);
        }
    }
    Ok(all)
}

/// The first field of a text, and what follows: a comma, the end of the line, or nothing.
fn field(text: &str) -> std::result::Result<(String, &str), &'static str> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([',', '\n']).unwrap_or(text.len());
        let field = text[..end].strip_suffix('\r').unwrap_or(&text[..end]);
        return Ok((field.to_owned(), &text[field.len()..]));
    };
    let mut field = String::new();
    loop {
        let end = rest.find('"').ok_or("a quotation mark opens a field that nothing closes")?;
        field += &rest[..end];
        rest = &rest[end + 1..];
        // A doubled mark is one mark.
        let Some(after) = rest.strip_prefix('"') else { break };
        field.push('"');
        rest = after;
    }
    match rest.is_empty() || rest.starts_with([',', '\n']) || rest.starts_with("\r\n") {
        true => Ok((field, rest)),
        false => Err("text follows the quotation mark that closes a field: double marks inside it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<(usize, Vec<String>)> {
        rows(text).unwrap().into_iter().map(|row| (row.line, row.fields)).collect()
    }

    #[test]
    fn quoted_fields_hold_commas_marks_and_lines() {
        let text = "a,b\r\n\"x, \"\"y\"\"\nz\",\n\n,2\n\"\"";
        let row = |line, fields: [&str; 2]| (line, fields.map(str::to_owned).to_vec());
        let expected = [row(1, ["a", "b"]), row(2, ["x, \"y\"\nz", ""]), row(5, ["", "2"])];
        assert_eq!(fields(text), expected);
        assert_eq!(fields(""), []);
    }

    #[test]
    fn faults_name_their_line() {
        assert_eq!(rows("a\n\"b").unwrap_err().0, 2);
        assert_eq!(rows("a\nb\n\"b\"c,d").unwrap_err().0, 3);
    }
}
