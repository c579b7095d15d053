//! The part of YAML that a list of tasks uses: mappings and sequences by indentation, sequences in brackets,
//! and scalars, plain or in quotation marks. Anything else is refused by name.

/// A value with the line that it begins on, from 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Scalar(String),
    Sequence(Vec<Node>),
    /// Keys in their order.
    Mapping(Vec<(String, Node)>),
}

impl Node {
    /// The entry `key` of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let Value::Mapping(entries) = &self.value else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

/// The line and the fault.
pub(crate) type Fault = (usize, String);
type Result<T> = std::result::Result<T, Fault>;

/// Deepest nesting.
const DEEPEST: usize = 32;

/// A line without its indentation and comment.
#[derive(Clone, Copy, Debug)]
struct Line<'t> {
    number: usize,
    indent: usize,
    text: &'t str,
}

/// Reads a document.
pub(crate) fn parse(text: &str) -> Result<Node> {
    let mut lines = vec![];
    for (number, line) in (1..).zip(text.lines()) {
        let content = without_comment(line).trim_end();
        let text = content.trim_start_matches(' ');
        if text.starts_with('\t') {
            return Err((number, "a tab indents this line: use spaces".to_owned()));
        }
        let opens = lines.is_empty() && text == "---";
        if !text.is_empty() && !opens {
            lines.push(Line { number, indent: content.len() - text.len(), text });
        }
    }
    let Some(first) = lines.first() else { return Err((1, "the file is empty".to_owned())) };
    let mut rest = &lines[..];
    let node = block(&mut rest, first.indent, DEEPEST)?;
    match rest.first() {
        None => Ok(node),
        Some(line) => Err((line.number, "the indentation fits nothing above it".to_owned())),
    }
}

/// The line up to a `#` that begins a comment: at its start or after a space, outside of quotation marks.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut escaped, mut before) = (None, false, ' ');
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return &line[..at],
            // Inside of a plain scalar marks are marks.
            (None, '"' | '\'') if before.is_whitespace() || "[,{".contains(before) => {
                quote = Some(c)
            }
            (Some('"'), '\\') if !escaped => {
                (escaped, before) = (true, c);
                continue;
            }
            (Some(open), _) if open == c && !escaped => quote = None,
            _ => {}
        }
        (escaped, before) = (false, c);
    }
    line
}

/// True if the line is an element of a sequence.
fn is_element(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// The node whose lines are indented by `indent`.
fn block(lines: &mut &[Line<'_>], indent: usize, depth: usize) -> Result<Node> {
    let first = lines[0];
    let deeper = depth.checked_sub(1).ok_or((first.number, "nested too deeply".to_owned()))?;
    let value = if is_element(first.text) {
        Value::Sequence(sequence(lines, indent, deeper)?)
    } else if key(first)?.is_some() {
        Value::Mapping(mapping(lines, indent, deeper)?)
    } else {
        *lines = &lines[1..];
        return flow(first.number, first.text);
    };
    Ok(Node { line: first.number, value })
}

/// The next line, if it is indented by `indent`.
fn next<'t>(lines: &[Line<'t>], indent: usize) -> Result<Option<Line<'t>>> {
    match lines.first() {
        Some(line) if line.indent > indent => {
            Err((line.number, "the indentation is deeper than that of the line above".to_owned()))
        }
        line => Ok(line.copied().filter(|line| line.indent == indent)),
    }
}

fn sequence(lines: &mut &[Line<'_>], indent: usize, depth: usize) -> Result<Vec<Node>> {
    let mut elements = vec![];
    while let Some(line) = next(lines, indent)?.filter(|line| is_element(line.text)) {
        let text = line.text[1..].trim_start();
        if text.is_empty() {
            *lines = &lines[1..];
            elements.push(below(lines, line.number, indent + 1, depth)?);
            continue;
        }
        // What follows the dash is a block of its own, indented to where it stands.
        let inner = Line { indent: indent + line.text.len() - text.len(), text, ..line };
        let mut own = vec![inner];
        own.extend(lines[1..].iter().take_while(|line| line.indent > indent));
        let mut rest = &own[..];
        elements.push(block(&mut rest, inner.indent, depth)?);
        if let Some(line) = rest.first() {
            return Err((line.number, "the indentation fits nothing above it".to_owned()));
        }
        *lines = &lines[own.len()..];
    }
    Ok(elements)
}

fn mapping(lines: &mut &[Line<'_>], indent: usize, depth: usize) -> Result<Vec<(String, Node)>> {
    let mut entries: Vec<(String, Node)> = vec![];
    while let Some(line) = next(lines, indent)?.filter(|line| !is_element(line.text)) {
        let Some((name, text)) = key(line)? else {
            return Err((line.number, "a key and a colon are expected here".to_owned()));
        };
        if entries.iter().any(|(known, _)| *known == name) {
            return Err((line.number, format!("`{name}` stands here twice")));
        }
        *lines = &lines[1..];
        let node = match text {
            // A sequence may stand below its key without more indentation.
            "" if lines.first().is_some_and(|l| l.indent == indent && is_element(l.text)) => {
                block(lines, indent, depth)?
            }
            "" => below(lines, line.number, indent + 1, depth)?,
            text => flow(line.number, text)?,
        };
        entries.push((name, node));
    }
    Ok(entries)
}

/// The node of the lines that are indented by `least` or more; an empty scalar if there are none.
fn below(lines: &mut &[Line<'_>], number: usize, least: usize, depth: usize) -> Result<Node> {
    match lines.first() {
        Some(line) if line.indent >= least => {
            let indent = line.indent;
            block(lines, indent, depth)
        }
        _ => Ok(Node { line: number, value: Value::Scalar(String::new()) }),
    }
}

/// The key of a line, and what follows its colon.
fn key(line: Line<'_>) -> Result<Option<(String, &str)>> {
    if line.text.starts_with(['"', '\'']) {
        let (name, rest) = quoted(line.number, line.text)?;
        return Ok(rest.trim_start().strip_prefix(':').map(|rest| (name, rest.trim())));
    }
    let end =
        line.text.find(": ").or_else(|| line.text.ends_with(':').then(|| line.text.len() - 1));
    Ok(end.map(|end| (line.text[..end].trim_end().to_owned(), line.text[end + 1..].trim())))
}

/// A value that stands in one line: a scalar, or a sequence of scalars in brackets.
fn flow(number: usize, text: &str) -> Result<Node> {
    let Some(mut rest) = text.strip_prefix('[') else {
        let (scalar, rest) = scalar(number, text, false)?;
        return match rest.is_empty() {
            true => Ok(Node { line: number, value: Value::Scalar(scalar) }),
            false => Err((number, format!("`{rest}` follows the end of a value"))),
        };
    };
    let (mut elements, open) = (vec![], || (number, "`[` is not closed in its line".to_owned()));
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            return match after.trim().is_empty() {
                true => Ok(Node { line: number, value: Value::Sequence(elements) }),
                false => Err((number, format!("`{after}` follows the end of a value"))),
            };
        }
        let (element, after) = scalar(number, rest, true)?;
        elements.push(Node { line: number, value: Value::Scalar(element) });
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.starts_with(']') => after,
            None => return Err(open()),
        };
    }
}

/// A scalar at the beginning of a text (in brackets if `inside`), and what follows.
fn scalar(number: usize, text: &str, inside: bool) -> Result<(String, &str)> {
    match text.chars().next() {
        Some('"' | '\'') => return quoted(number, text),
        Some(sign @ ('&' | '*' | '!' | '|' | '>' | '{' | '[' | '%' | '@' | '`')) => {
            let reason = format!(
                "a value that begins with `{sign}` is not supported here: write it in quotation marks"
            );
            return Err((number, reason));
        }
        _ => {}
    }
    let end = text.find([',', ']']).filter(|_| inside).unwrap_or(text.len());
    Ok((text[..end].trim_end().to_owned(), &text[end..]))
}

/// A scalar in quotation marks, and what follows.
fn quoted(number: usize, text: &str) -> Result<(String, &str)> {
    let double = text.starts_with('"');
    let (mut out, mut chars) = (String::new(), text.char_indices().skip(1).peekable());
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if !double && chars.next_if(|&(_, c)| c == '\'').is_some() => out.push('\''),
            '\'' if !double => return Ok((out, text[at + 1..].trim_start())),
            '"' if double => return Ok((out, text[at + 1..].trim_start())),
            '\\' if double => {
                let (_, sign) = chars.next().unwrap_or((at, '\\'));
                out.push(escape(sign, &mut chars).ok_or_else(|| {
                    (number, format!("`\\{sign}` is not an escape that is supported here"))
                })?);
            }
            c => out.push(c),
        }
    }
    Err((number, "a quotation mark is not closed in its line".to_owned()))
}

/// The character of an escape.
fn escape(sign: char, chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let mut hexadecimal = |digits: usize| {
        let text: String = chars.take(digits).map(|(_, c)| c).collect();
        char::from_u32(u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits)?)
    };
    match sign {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        '0' => Some('\0'),
        '"' | '\\' | '/' | ' ' => Some(sign),
        'x' => hexadecimal(2),
        'u' => hexadecimal(4),
        'U' => hexadecimal(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(node: &Node) -> Vec<&str> {
        let Value::Sequence(elements) = &node.value else { panic!("{node:?}") };
        elements.iter().map(|node| node.scalar().unwrap()).collect()
    }

    const LIST: &str = r#"
# A list.
tasks:
-
  label: first   # the first
  shots: [0, 10]
  delimiter: "\nAnswer: "   # with "marks"
- label: second
  shots:
  - 3
  other: {}
  url: a#b: c
"#;

    #[test]
    fn reads_both_ways_to_write_a_list_of_mappings() {
        let text = LIST.replace("{}", "'it''s'");
        let root = parse(&text).unwrap();
        let Value::Sequence(tasks) = &root.get("tasks").unwrap().value else { panic!("{root:?}") };
        let text = |task: usize, key: &str| tasks[task].get(key).unwrap().scalar().unwrap();
        assert_eq!((text(0, "label"), text(0, "delimiter")), ("first", "\nAnswer: "));
        assert_eq!((text(1, "label"), text(1, "other")), ("second", "it's"));
        assert_eq!(text(1, "url"), "a#b: c");
        assert_eq!(scalars(tasks[0].get("shots").unwrap()), ["0", "10"]);
        assert_eq!(scalars(tasks[1].get("shots").unwrap()), ["3"]);
        assert_eq!((tasks[0].line, tasks[1].line), (5, 8));
    }

    #[test]
    fn faults_name_their_line() {
        for (text, line, part) in [
            ("", 1, "empty"),
            ("a: 1\n\tb: 2", 2, "tab"),
            ("a: 1\na: 2", 2, "twice"),
            ("a: 1\n  b: 2", 2, "deeper"),
            ("  a: 1\nb: 2", 2, "fits nothing"),
            ("a: 1\nb", 2, "a key and a colon"),
            ("a: [1, 2", 1, "not closed"),
            ("a: [1] 2", 1, "follows"),
            ("a: \"x", 1, "not closed"),
            ("a: \"x\" y", 1, "follows"),
            ("a: \"\\q\"", 1, "escape"),
            ("a: {b: 1}", 1, "`{`"),
            ("a: |\n  text", 1, "`|`"),
            ("a: *b", 1, "`*`"),
            ("- a: 1\n   b: 2", 2, "deeper"),
            ("- a: 1\n b: 2", 2, "fits nothing"),
        ] {
            let (at, reason) = parse(text).unwrap_err();
            assert!(at == line && reason.contains(part), "{text:?}: {at} {reason}");
        }
        let deep = (0..40).map(|i| " ".repeat(i) + "a:\n").collect::<String>();
        assert!(parse(&deep).unwrap_err().1.contains("deep"));
    }

    /// Damaged text is refused or read, and never makes it panic or hang.
    #[test]
    fn survives_damage() {
        for from in 0..LIST.len() {
            for insert in ["", "-", ":", "\"", "\\", "[", "\n", " ", "é"] {
                if LIST.is_char_boundary(from) {
                    let text = format!("{}{insert}{}", &LIST[..from], &LIST[from + 1..]);
                    drop(parse(&text));
                }
            }
        }
    }
}
