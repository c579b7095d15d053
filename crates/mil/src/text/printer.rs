//! Canonical text: four spaces per level, one statement per line, scalars in the short form,
//! floats in hexadecimal. The alternate form `{:#}` writes scalars in the long form.

use super::comments::{Commented, Line};
use super::number::{format_f16, format_f32};
use crate::ir::{Arg, Function, Operation, Program, ValueId};
use crate::types::{DType, Data, Literal, Payload, TensorType};
use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};

impl Display for Program {
    /// Prints the program as text that [`crate::text::parse`] reads back to an equal program.
    ///
    /// `{:#}` writes every scalar in the long form, `tensor<string, []>("x")`, which parsers of the
    /// time of M1 and M2 need (docs/ane-facts.md A.2).
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        WithComments { program: self, kept: HashMap::new() }.fmt(f)
    }
}

impl Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("    ")?;
        head(f, self)?;
        f.write_str("\n")?;
        for op in &self.ops {
            f.write_str("        ")?;
            operation(f, self, op)?;
            f.write_str(";\n")?;
        }
        f.write_str("    ")?;
        tail(f, self)?;
        f.write_str("\n")
    }
}

/// A program and the comments of its lines.
pub(super) struct WithComments<'p> {
    pub(super) program: &'p Program,
    pub(super) kept: HashMap<&'p Line, Commented>,
}

impl Display for WithComments<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let program = self.program;
        self.line(f, 0, Line::Version, |f| {
            write!(f, "program({}.{})", program.version.0, program.version.1)
        })?;
        if !program.build_info.is_empty() {
            self.line(f, 0, Line::BuildInfo, |f| build_info(f, &program.build_info))?;
        }
        self.line(f, 0, Line::Open, |f| f.write_str("{"))?;
        for (i, function) in program.functions.iter().enumerate() {
            self.function(f, i, function)?;
        }
        self.line(f, 0, Line::Close, |f| f.write_str("}"))?;
        self.above(f, 0, self.kept.get(&Line::End))
    }
}

impl WithComments<'_> {
    fn function(&self, f: &mut Formatter<'_>, i: usize, function: &Function) -> fmt::Result {
        if self.kept.is_empty() {
            return function.fmt(f);
        }
        self.line(f, 4, Line::Function(i), |f| head(f, function))?;
        for op in &function.ops {
            let value = op.results.first().and_then(|id| function.values.get(id.index()));
            let name = value.map(|value| value.name.clone()).unwrap_or_default();
            self.line(f, 8, Line::Statement(i, name), |f| {
                operation(f, function, op)?;
                f.write_str(";")
            })?;
        }
        self.line(f, 4, Line::Returns(i), |f| tail(f, function))
    }

    /// One line, what is commented above it, and what beside it.
    fn line(
        &self,
        f: &mut Formatter<'_>,
        indent: usize,
        line: Line,
        write: impl FnOnce(&mut Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let kept = self.kept.get(&line);
        // Above a closing brace stands the end of what it closes.
        let closes = matches!(line, Line::Returns(_) | Line::Close);
        self.above(f, indent + if closes { 4 } else { 0 }, kept)?;
        write!(f, "{:indent$}", "")?;
        write(f)?;
        if let Some(comment) = kept.and_then(|kept| kept.beside.as_ref()) {
            write!(f, " {comment}")?;
        }
        f.write_str("\n")
    }

    fn above(&self, f: &mut Formatter<'_>, indent: usize, kept: Option<&Commented>) -> fmt::Result {
        let mut comments = kept.into_iter().flat_map(|kept| &kept.above);
        comments.try_for_each(|comment| writeln!(f, "{:indent$}{comment}", ""))
    }
}

fn build_info(f: &mut Formatter<'_>, info: &[(String, String)]) -> fmt::Result {
    let text = TensorType::scalar(DType::String);
    f.write_str("[buildInfo = dict<")?;
    text.fmt(f)?;
    f.write_str(", ")?;
    text.fmt(f)?;
    f.write_str(">({")?;
    separated(f, info, |f, (key, value)| write!(f, "{{{}, {}}}", Quoted(key), Quoted(value)))?;
    f.write_str("})]")
}

fn head(f: &mut Formatter<'_>, function: &Function) -> fmt::Result {
    write!(f, "func {}<{}>(", function.name, function.opset)?;
    let params = &function.values[..function.params.min(function.values.len())];
    separated(f, params, |f, v| {
        v.ty.fmt(f)?;
        write!(f, " {}", v.name)
    })?;
    f.write_str(") {")
}

fn tail(f: &mut Formatter<'_>, function: &Function) -> fmt::Result {
    f.write_str("} -> (")?;
    separated(f, &function.outputs, |f, id| name(f, function, *id))?;
    f.write_str(");")
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.ty.fmt(f)?;
        f.write_str("(")?;
        match &self.payload {
            Payload::Inline(data) => elements(f, &self.ty.shape, data)?,
            Payload::Blob { path, offset } => {
                f.write_str("BLOBFILE(path = ")?;
                text(f, path)?;
                f.write_str(", offset = ")?;
                TensorType::scalar(DType::UInt64).fmt(f)?;
                write!(f, "({offset}))")?;
            }
        }
        f.write_str(")")
    }
}

fn separated<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    mut each: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        each(f, item)?;
    }
    Ok(())
}

/// The name of a value; a value that the function does not have is shown by its number.
fn name(f: &mut Formatter<'_>, function: &Function, id: ValueId) -> fmt::Result {
    match function.values.get(id.index()) {
        Some(value) => f.write_str(&value.name),
        None => write!(f, "%{id}"),
    }
}

fn operation(f: &mut Formatter<'_>, function: &Function, op: &Operation) -> fmt::Result {
    separated(f, &op.results, |f, &id| {
        if let Some(value) = function.values.get(id.index()) {
            value.ty.fmt(f)?;
            f.write_str(" ")?;
        }
        name(f, function, id)
    })?;
    write!(f, " = {}(", op.op)?;
    let (attributes, args): (Vec<_>, Vec<_>) =
        op.args.iter().partition(|(_, arg)| matches!(arg, Arg::Attribute(_)));
    separated(f, &args, |f, (key, arg)| {
        write!(f, "{key} = ")?;
        match arg {
            Arg::Value(id) => name(f, function, *id),
            Arg::Literal(literal) | Arg::Attribute(literal) => literal.fmt(f),
            Arg::Values(ids) => {
                f.write_str("(")?;
                separated(f, ids, |f, id| name(f, function, *id))?;
                f.write_str(")")
            }
        }
    })?;
    f.write_str(")[name = ")?;
    text(f, &op.name)?;
    if let Some(value) = &op.value {
        f.write_str(", val = ")?;
        value.fmt(f)?;
    }
    for (key, literal) in attributes.iter().filter_map(|(key, arg)| Some((key, arg.literal()?))) {
        write!(f, ", {key} = ")?;
        literal.fmt(f)?;
    }
    f.write_str("]")
}

/// A text with its type.
fn text(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    TensorType::scalar(DType::String).fmt(f)?;
    write!(f, "({})", Quoted(text))
}

/// Elements in nested lists as the shape says; flat when there is none, or their number is wrong.
fn elements(f: &mut Formatter<'_>, shape: &[usize], data: &Data) -> fmt::Result {
    let count = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
    if shape.is_empty() && data.len() == 1 {
        return element(f, data, 0);
    }
    if data.is_empty() || data.len() != count {
        f.write_str("[")?;
        for i in 0..data.len() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            element(f, data, i)?;
        }
        return f.write_str("]");
    }
    // Elements in one list of each depth, innermost first.
    let blocks: Vec<usize> = (shape.iter().rev())
        .scan(1usize, |block, &extent| {
            *block *= extent;
            Some(*block)
        })
        .collect();
    for i in 0..data.len() {
        f.write_str(if i > 0 { ", " } else { "" })?;
        blocks.iter().filter(|&&n| i % n == 0).try_for_each(|_| f.write_str("["))?;
        element(f, data, i)?;
        blocks.iter().filter(|&&n| (i + 1) % n == 0).try_for_each(|_| f.write_str("]"))?;
    }
    Ok(())
}

fn element(f: &mut Formatter<'_>, data: &Data, i: usize) -> fmt::Result {
    match data {
        Data::Fp16(v) => f.write_str(&format_f16(v[i])),
        Data::Fp32(v) => f.write_str(&format_f32(v[i])),
        Data::Int(v) => write!(f, "{}", v[i]),
        Data::Bool(v) => write!(f, "{}", v[i]),
        Data::String(v) => write!(f, "{}", Quoted(&v[i])),
    }
}

/// Text between quotes, with escapes.
struct Quoted<'s>(&'s str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_ascii_control() => write!(f, "\\x{:02x}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}
