//! MIL text: read by [`parse`], checked by [`check_text`], printed by `Display` in canonical form.
//!
//! Both dialects of constants are read (`string("x")` and `tensor<string, []>("x")`), typed literals
//! in place of arguments, tuples, hexadecimal floats, nested and flat lists, `BLOBFILE`, several
//! functions, and `//` comments; white space and the order of attributes mean nothing. Printing and
//! reading again gives an equal program. Programs hold no comments: [`format()`] keeps those of a text,
//! and [`Comments`] those of a program that is rewritten.
//!
//! A text may come from anywhere: reading it takes memory proportional to its length, whatever
//! extents it claims, and no fault of it panics.
//!
//! ```
//! let text = r#"
//!     program(1.3) {
//!         func main<ios18>(tensor<fp16, [1, 64, 1, 16]> x) {
//!             tensor<fp16, [1, 64, 1, 16]> y = mul(x = x, y = fp16(0.125))[name = string("y")];
//!         } -> (y);
//!     }"#;
//! let program = mil::check_text(text).unwrap();
//! assert!(program.to_string().contains("mul(x = x, y = fp16(0x1p-3))"));
//!
//! let faults = mil::check_text(&text.replace("fp16(0.125)", "0.125")).unwrap_err();
//! assert_eq!(faults[0].message, "literal `0.125` has no type");
//! ```

mod comments;
mod lexer;
mod literal;
mod number;
mod parser;
mod printer;

pub use comments::Comments;
pub(crate) use lexer::is_name;

use crate::diagnostic::{Diagnostic, Span};
use crate::ir::Program;
use crate::verify::{Site, faults};
use std::fmt;

/// Most axes that a type in a text may have. The engine takes five; some room is left for errors
/// about the engine to come from the engine.
pub const MAX_RANK: usize = 16;

/// A text that is not a program: one fault or more, in the order found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// The faults, at least one.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            f.write_str(if i > 0 { "\n\n" } else { "" })?;
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TextError {}

/// Where the parts of a program are in its text. Indices are those of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// `program(1.3)`.
    pub version: Span,
    /// `[buildInfo = …]`, if there is one.
    pub build_info: Option<Span>,
    /// The brace before the functions.
    pub open: Span,
    /// One entry per function.
    pub functions: Vec<FunctionSpans>,
    /// The brace behind them.
    pub close: Span,
}

/// Where the parts of a function are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionSpans {
    /// From `func` to the brace before its statements.
    pub head: Span,
    /// Its name.
    pub name: Span,
    /// Type and name of every parameter.
    pub params: Vec<Span>,
    /// One entry per operation.
    pub ops: Vec<OperationSpans>,
    /// Names returned.
    pub outputs: Vec<Span>,
    /// From the brace behind the statements to the semicolon.
    pub tail: Span,
}

/// Where the parts of an operation are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationSpans {
    /// The statement, semicolon included.
    pub whole: Span,
    /// The operation's name.
    pub op: Span,
    /// Type and name of every result.
    pub results: Vec<Span>,
    /// The text after `KEY =`, per argument.
    pub args: Vec<Span>,
    /// The literal of a `const`; empty for other operations.
    pub value: Span,
}

impl Spans {
    /// Where `site` is in the text; `None` if it is not of the program that was read.
    pub fn locate(&self, site: Site) -> Option<Span> {
        let function = |f: usize| self.functions.get(f);
        let operation = |f: usize, op: usize| function(f)?.ops.get(op);
        match site {
            Site::Program => Some(Span::default()),
            Site::Function(f) => Some(function(f)?.name),
            Site::Param(f, i) => function(f)?.params.get(i).copied(),
            Site::Output(f, i) => function(f)?.outputs.get(i).copied(),
            Site::Operation(f, op) => Some(operation(f, op)?.op),
            Site::Value(f, op) => Some(operation(f, op)?.value),
            Site::Arg(f, op, i) => operation(f, op)?.args.get(i).copied(),
            Site::Result(f, op, i) => operation(f, op)?.results.get(i).copied(),
        }
    }
}

/// Reads a program. Only what the text itself says is checked; see [`check_text`] for the rules of
/// the language.
///
/// # Errors
/// Every fault found, at most 20: the reader goes on after the statement at fault.
pub fn parse(text: &str) -> Result<Program, TextError> {
    parse_with_spans(text).map(|(program, _)| program)
}

/// As [`parse`], with the places of the program's parts.
///
/// # Errors
/// As [`parse`].
pub fn parse_with_spans(text: &str) -> Result<(Program, Spans), TextError> {
    parser::Parser::new(text).run()
}

/// Reads a program and checks it by [`crate::verify()`]; faults carry their places.
///
/// # Errors
/// The faults of the text, or if it has none, the faults of the program.
pub fn check_text(text: &str) -> Result<Program, Vec<Diagnostic>> {
    let (program, spans) = parse_with_spans(text).map_err(|error| error.diagnostics)?;
    let faults = faults(&program);
    if faults.is_empty() {
        return Ok(program);
    }
    let diagnose = |fault: &crate::verify::Fault| {
        let span = spans.locate(fault.site).unwrap_or_default();
        let context = fault.site.describe(&program);
        Diagnostic { context, ..Diagnostic::at(text, span, &fault.message, &fault.hint) }
    };
    Err(faults.iter().map(diagnose).collect())
}

/// The canonical text of a text, with its comments.
///
/// ```
/// let text = "program(1.3) { // one layer
///     func main<ios18>(tensor<fp16, [4]> x) {
///         tensor<fp16, [4]> y = relu(x = x)[name = string(\"y\")]; // no bias
///     } -> (y); }";
/// let formatted = mil::text::format(text).unwrap();
/// assert!(formatted.contains("{ // one layer\n    func main"));
/// assert!(formatted.contains("; // no bias\n"));
/// assert_eq!(mil::text::format(&formatted).unwrap(), formatted);
/// ```
///
/// # Errors
/// As [`parse`].
pub fn format(text: &str) -> Result<String, TextError> {
    let (program, spans) = parse_with_spans(text)?;
    Ok(Comments::of(text, &program, &spans).on(&program).to_string())
}

/// The canonical text of a program, as its `Display` gives.
pub fn print(program: &Program) -> String {
    program.to_string()
}
