//! From text to a program, by recursive descent with one token of look-ahead.
//!
//! The only recursion is that of nested lists, which is limited by the rank of the type that comes
//! before them. A fault in a statement is noted and reading goes on after it.

use super::lexer::{Lexer, Token};
use super::{FunctionSpans, OperationSpans, Spans, TextError};
use crate::diagnostic::{Diagnostic, Span, nearest, shorten};
use crate::ir::{Arg, Function, Operation, Program, Value, ValueId};
use crate::op::{NOT_EXECUTED, Op, Param, ParamKind};
use crate::types::{DType, TensorType};
use std::collections::HashMap;

/// Faults after which reading stops.
const MAX_FAULTS: usize = 20;

/// Characters of the text that a message quotes.
pub(super) const QUOTE: usize = 40;

/// Values of a function up to which a misspelt name is compared with all of them.
const MAX_SUGGESTIONS: usize = 4096;

#[derive(Debug)]
pub(super) struct Fault {
    span: Span,
    message: String,
    hint: String,
}

pub(super) type Parse<T> = Result<T, Fault>;

pub(super) fn fault<T>(
    span: Span,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Parse<T> {
    Err(Fault { span, message: message.into(), hint: hint.into() })
}

pub(super) struct Parser<'t> {
    pub(super) text: &'t str,
    lexer: Lexer<'t>,
    pub(super) token: Token,
    pub(super) span: Span,
    /// End of the token before.
    pub(super) before: usize,
    faults: Vec<Fault>,
}

/// A function being read.
struct Scope<'t> {
    function: Function,
    spans: FunctionSpans,
    names: HashMap<&'t str, ValueId>,
    /// Faults about names that were not defined when they were used.
    undefined: Vec<(usize, &'t str)>,
    /// True if results were lost in a statement that could not be read.
    lost: bool,
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let mut lexer = Lexer::new(text);
        let (token, span) = lexer.next();
        Parser { text, lexer, token, span, before: 0, faults: vec![] }
    }

    pub(super) fn run(mut self) -> Result<(Program, Spans), TextError> {
        match self.program() {
            Ok(read) if self.faults.is_empty() => return Ok(read),
            Ok(_) => {}
            Err(fault) => self.faults.push(fault),
        }
        self.faults.truncate(MAX_FAULTS);
        let diagnose = |f: &Fault| Diagnostic::at(self.text, f.span, &f.message, &f.hint);
        Err(TextError { diagnostics: self.faults.iter().map(diagnose).collect() })
    }

    // ---- tokens ----

    pub(super) fn advance(&mut self) -> Span {
        let span = self.span;
        self.before = span.end;
        (self.token, self.span) = self.lexer.next();
        span
    }

    /// From `start` to the end of the token before the current one.
    fn since(&self, start: usize) -> Span {
        Span { start, end: self.before }
    }

    /// The token after the current one.
    pub(super) fn peek(&self) -> Token {
        self.lexer.clone().next().0
    }

    pub(super) fn source(&self, span: Span) -> &'t str {
        &self.text[span.start..span.end]
    }

    pub(super) fn at(&self, mark: u8) -> bool {
        self.token == Token::Mark(mark)
    }

    pub(super) fn at_name(&self, name: &str) -> bool {
        self.token == Token::Name && self.source(self.span) == name
    }

    /// Returns the current token, for a message.
    fn found(&self) -> String {
        match self.token {
            Token::End => "the text ends".to_owned(),
            Token::Unclosed => "found a text that is not closed on its line".to_owned(),
            _ => format!("found `{}`", shorten(self.source(self.span), QUOTE)),
        }
    }

    pub(super) fn expected<T>(&self, what: &str, hint: &str) -> Parse<T> {
        let hint = match self.token {
            Token::Unclosed => "close it with a quote; write a line feed as \\n",
            Token::Name if hint.is_empty() && self.text[..self.span.start].ends_with('"') => {
                "a quote seems to be missing on this line"
            }
            _ => hint,
        };
        fault(self.span, format!("expected {what}, {}", self.found()), hint)
    }

    pub(super) fn mark(&mut self, mark: u8, hint: &str) -> Parse<Span> {
        if self.at(mark) {
            return Ok(self.advance());
        }
        self.expected(&format!("`{}`", char::from(mark)), hint)
    }

    pub(super) fn take(&mut self, mark: u8) -> bool {
        let found = self.at(mark);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn name(&mut self, what: &str, hint: &str) -> Parse<(&'t str, Span)> {
        if self.token != Token::Name {
            return self.expected(what, hint);
        }
        let span = self.advance();
        Ok((self.source(span), span))
    }

    pub(super) fn keyword(&mut self, word: &str, hint: &str) -> Parse<Span> {
        if self.at_name(word) {
            return Ok(self.advance());
        }
        self.expected(&format!("`{word}`"), hint)
    }

    /// Items between `open` and `close`, separated by commas.
    pub(super) fn items<T>(
        &mut self,
        (open, close): (u8, u8),
        hint: &str,
        mut item: impl FnMut(&mut Self) -> Parse<T>,
    ) -> Parse<Vec<T>> {
        self.mark(open, hint)?;
        let mut items = vec![];
        while !self.at(close) {
            items.push(item(self)?);
            if !self.take(b',') && !self.at(close) {
                return self.expected(&format!("`,` or `{}`", char::from(close)), hint);
            }
        }
        self.mark(close, hint)?;
        Ok(items)
    }

    // ---- program ----

    fn program(&mut self) -> Parse<(Program, Spans)> {
        const HEAD: &str = "a program starts with program(1.3)";
        if !self.at_name("program") && is_printed_by_coremltools(self.text) {
            let hint = "this is coremltools' printout: give model.mil of the compiled .mlmodelc";
            return self.expected("`program`", &format!("{HEAD}; {hint}"));
        }
        let mut spans = Spans::default();
        let start = self.keyword("program", HEAD)?.start;
        self.mark(b'(', HEAD)?;
        let version = self.version()?;
        self.mark(b')', HEAD)?;
        spans.version = self.since(start);
        let mut build_info = vec![];
        if self.at(b'[') {
            let start = self.span.start;
            build_info = self.program_attributes()?;
            spans.build_info = Some(self.since(start));
        }
        spans.open = self.mark(b'{', "the functions stand between { and }")?;
        let mut program = Program { version, build_info, functions: vec![] };
        while !self.at(b'}') {
            match self.function() {
                Ok((function, places)) => {
                    program.functions.push(function);
                    spans.functions.push(places);
                }
                Err(fault) => {
                    self.note(fault);
                    while self.token != Token::End && !self.at_name("func") {
                        self.advance();
                    }
                }
            }
            if self.token == Token::End {
                if self.faults.is_empty() {
                    return self.expected("`}`", "the program is not closed");
                }
                // The end was reached while looking for the next function.
                return Ok((program, spans));
            }
        }
        spans.close = self.advance();
        if self.token != Token::End {
            return self.expected("the end of the text", "one text is one program");
        }
        Ok((program, spans))
    }

    /// Keeps a fault; at the limit, the rest of the text is given up.
    fn note(&mut self, fault: Fault) {
        self.faults.push(fault);
        if self.faults.len() >= MAX_FAULTS {
            let end = self.text.len();
            self.lexer = Lexer::new("");
            (self.token, self.span) = (Token::End, Span { start: end, end });
        }
    }

    fn version(&mut self) -> Parse<(u32, u32)> {
        let parts = self.source(self.span).split_once('.');
        let version = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match version {
            Some(version) if self.token == Token::Number => {
                self.advance();
                Ok(version)
            }
            _ => self.expected("a version", "write program(1.3)"),
        }
    }

    fn program_attributes(&mut self) -> Parse<Vec<(String, String)>> {
        const FORM: &str = "write [buildInfo = dict<string, string>({{\"key\", \"value\"}})]";
        self.mark(b'[', FORM)?;
        self.keyword("buildInfo", "the only attribute of a program is buildInfo")?;
        self.mark(b'=', FORM)?;
        self.keyword("dict", FORM)?;
        self.mark(b'<', FORM)?;
        for end in [b',', b'>'] {
            let at = self.span;
            if self.ty()? != TensorType::scalar(DType::String) {
                return fault(at, "buildInfo is a dictionary from text to text", FORM);
            }
            self.mark(end, FORM)?;
        }
        self.mark(b'(', FORM)?;
        let info = self.items((b'{', b'}'), FORM, |p| {
            p.mark(b'{', FORM)?;
            let key = p.quoted()?;
            p.mark(b',', FORM)?;
            let value = p.quoted()?;
            p.mark(b'}', FORM)?;
            Ok((key, value))
        })?;
        self.mark(b')', FORM)?;
        self.mark(b']', "buildInfo is the only attribute of a program that is understood")?;
        Ok(info)
    }

    // ---- functions ----

    fn function(&mut self) -> Parse<(Function, FunctionSpans)> {
        const HEAD: &str = "write func main<ios18>(tensor<fp16, [1, 64, 1, 16]> x) { … } -> (y);";
        let start = self.keyword("func", HEAD)?.start;
        let (name, span) = self.name("the function's name", HEAD)?;
        self.mark(b'<', "the operation set follows the name: func main<ios18>(…)")?;
        let (opset, _) = self.name("an operation set", "for instance ios18")?;
        self.mark(b'>', HEAD)?;
        let params = self.items((b'(', b')'), HEAD, Self::typed_name)?;
        if self.at(b'[') {
            return fault(
                self.span,
                "attributes of functions are not supported",
                "flexible shapes do not lower to the engine: give every parameter one shape",
            );
        }
        let mut scope = Scope {
            function: Function {
                name: name.to_owned(),
                opset: opset.to_owned(),
                values: vec![],
                params: params.len(),
                ops: vec![],
                outputs: vec![],
            },
            spans: FunctionSpans { name: span, ..FunctionSpans::default() },
            names: HashMap::new(),
            undefined: vec![],
            lost: false,
        };
        for (value, name, span) in params {
            self.define(&mut scope, value, name, span);
            scope.spans.params.push(span);
        }
        self.mark(b'{', HEAD)?;
        scope.spans.head = self.since(start);
        while !self.at(b'}') {
            if self.token == Token::End || self.at_name("func") {
                return self.expected("`}`", &format!("function `{name}` is not closed"));
            }
            if let Err(fault) = self.statement(&mut scope) {
                self.note(fault);
                scope.lost |= self.skip_statement();
            }
        }
        self.returns(&mut scope)?;
        self.explain_undefined(&scope);
        Ok((scope.function, scope.spans))
    }

    fn returns(&mut self, scope: &mut Scope<'t>) -> Parse<()> {
        const TAIL: &str = "a function ends with } -> (y);";
        let start = self.mark(b'}', TAIL)?.start;
        if self.token != Token::Arrow {
            return self.expected("`->`", TAIL);
        }
        self.advance();
        let outputs = self.items((b'(', b')'), TAIL, |p| {
            let (name, span) = p.name("the name of a value", TAIL)?;
            Ok((p.reference(scope, name, span), span))
        })?;
        for (id, span) in outputs {
            scope.function.outputs.push(id);
            scope.spans.outputs.push(span);
        }
        self.semicolon();
        scope.spans.tail = self.since(start);
        Ok(())
    }

    /// Enters a value; a second definition of its name is a fault.
    fn define(
        &mut self,
        scope: &mut Scope<'t>,
        value: Value,
        name: &'t str,
        span: Span,
    ) -> ValueId {
        let id = ValueId(scope.function.values.len() as u32);
        scope.function.values.push(value);
        if scope.names.insert(name, id).is_some() {
            self.note(Fault {
                span,
                message: format!("`{}` is defined twice", shorten(name, QUOTE)),
                hint: "names are unique in a function: rename one of them".to_owned(),
            });
        }
        id
    }

    /// The value called `name`. If there is none the fault is noted and any id stands for it: a
    /// program with a fault is never handed out.
    fn reference(&mut self, scope: &mut Scope<'t>, name: &'t str, span: Span) -> ValueId {
        if let Some(id) = scope.names.get(name) {
            return *id;
        }
        if !scope.lost {
            scope.undefined.push((self.faults.len(), name));
            let message = format!("`{}` is not defined", shorten(name, QUOTE));
            self.note(Fault { span, message, hint: String::new() });
        }
        ValueId(0)
    }

    /// Says of undefined names that they are defined later, or what they may have meant.
    fn explain_undefined(&mut self, scope: &Scope<'t>) {
        for &(index, name) in &scope.undefined {
            let Some(fault) = self.faults.get_mut(index) else { continue };
            let values = &scope.function.values[..scope.function.values.len().min(MAX_SUGGESTIONS)];
            if scope.names.contains_key(name) {
                fault.hint =
                    "it is defined further down: values are defined before they are used".into();
            } else if let Some(near) = nearest(name, values.iter().map(|v| v.name.as_str())) {
                fault.hint = format!("did you mean `{near}`?");
            }
        }
    }

    // ---- statements ----

    /// Goes to the next statement. Returns whether the end of this one is doubtful because a quote
    /// is missing.
    fn skip_statement(&mut self) -> bool {
        let mut doubtful = false;
        while !matches!(self.token, Token::End | Token::Mark(b'}' | b';')) {
            doubtful |= self.token == Token::Unclosed;
            self.advance();
        }
        self.take(b';');
        doubtful
    }

    /// A missing semicolon is noted where it should be; the next statement is still read.
    fn semicolon(&mut self) {
        if !self.take(b';') {
            let span = Span { start: self.before, end: self.before };
            let message = format!("expected `;`, {}", self.found());
            self.note(Fault { span, message, hint: String::new() });
            if !matches!(self.token, Token::Name | Token::Mark(b'}')) {
                self.skip_statement();
            }
        }
    }

    fn typed_name(&mut self) -> Parse<(Value, &'t str, Span)> {
        let start = self.span.start;
        let ty = self.ty()?;
        let (name, span) = self.name("a name after the type", "names start with a letter or _")?;
        Ok((Value { name: name.to_owned(), ty }, name, Span { start, end: span.end }))
    }

    fn statement(&mut self, scope: &mut Scope<'t>) -> Parse<()> {
        let start = self.span.start;
        let mut results = vec![];
        loop {
            match self.typed_name() {
                Ok(result) => results.push(result),
                Err(fault) => {
                    scope.lost = true;
                    return Err(fault);
                }
            }
            if !self.take(b',') {
                break;
            }
        }
        let first = results[0].1;
        let read = self.operation(scope, first);
        // Results count as defined even where the operation has a fault: one fault, one message.
        let mut ids = vec![];
        let mut places = vec![];
        for (value, name, span) in results {
            ids.push(self.define(scope, value, name, span));
            places.push(span);
        }
        let (op, spans) = read?;
        self.semicolon();
        let whole = self.since(start);
        scope.function.ops.push(Operation { results: ids, ..op });
        scope.spans.ops.push(OperationSpans { whole, results: places, ..spans });
        Ok(())
    }

    fn operation(
        &mut self,
        scope: &mut Scope<'t>,
        first: &str,
    ) -> Parse<(Operation, OperationSpans)> {
        self.mark(b'=', "a statement is TYPE NAME = OPERATION(…)[name = string(\"…\")];")?;
        let (word, span) = self.name("an operation", "")?;
        let op = operation_called(word, span)?;
        let mut spans = OperationSpans { op: span, ..OperationSpans::default() };
        let hint = format!("{op} takes {}", keys(op));
        let mut written = vec![];
        let args = self.items((b'(', b')'), &hint, |p| {
            let (param, span) = p.key(op)?;
            if written.contains(&param.key) {
                return fault(
                    span,
                    format!("`{}` is given twice", param.key),
                    "remove one of them",
                );
            }
            written.push(param.key);
            p.mark(b'=', "arguments are written KEY = VALUE")?;
            let start = p.span.start;
            let arg = p.argument(scope, param, span)?;
            spans.args.push(Span { start, end: p.before });
            Ok((param.key, arg))
        })?;
        let mut operation =
            Operation { op, args, value: None, results: vec![], name: first.to_owned() };
        if self.at(b'[') {
            self.attributes(&mut operation, &mut spans)?;
        }
        Ok((operation, spans))
    }

    fn key(&mut self, op: Op) -> Parse<(&'static Param, Span)> {
        let (key, span) =
            self.name("the key of an argument", "arguments are written KEY = VALUE")?;
        if let Some(param) = op.signature().param(key) {
            return Ok((param, span));
        }
        let message = format!("{op} has no argument `{}`", shorten(key, QUOTE));
        if op == Op::Const {
            return fault(span, message, "write const()[name = string(\"…\"), val = …]");
        }
        let near = meant(key, op.signature().params.iter().map(|p| p.key));
        fault(span, message, format!("{near}{op} takes {}", keys(op)))
    }

    fn attributes(&mut self, op: &mut Operation, spans: &mut OperationSpans) -> Parse<()> {
        const FORM: &str = "attributes are [name = string(\"…\")], for const() also val = …";
        let mut named = false;
        self.items((b'[', b']'), FORM, |p| {
            let (key, span) = p.name("an attribute", FORM)?;
            p.mark(b'=', FORM)?;
            let start = p.span.start;
            match key {
                "name" if !named => {
                    named = true;
                    op.name = p.text_literal("a name")?;
                }
                "val" if op.op == Op::Const && op.value.is_none() => {
                    op.value = Some(p.typed_literal("val")?);
                    spans.value = Span { start, end: p.before };
                }
                "name" | "val" if op.op == Op::Const || key == "name" => {
                    return fault(span, format!("`{key}` is given twice"), "remove one of them");
                }
                _ if op.op.is_constexpr() => {
                    let arg = p.constexpr_attribute(op, key, span)?;
                    op.args.push(arg);
                    spans.args.push(Span { start, end: p.before });
                }
                _ => {
                    let message = format!("{} has no attribute `{}`", op.op, shorten(key, QUOTE));
                    return fault(span, message, format!("{}{FORM}", meant(key, ["name", "val"])));
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// An argument of a `constexpr_…` operation written as an attribute.
    fn constexpr_attribute(
        &mut self,
        op: &Operation,
        key: &str,
        span: Span,
    ) -> Parse<(&'static str, Arg)> {
        let Some(param) = op.op.signature().param(key) else {
            let message = format!("{} has no attribute `{}`", op.op, shorten(key, QUOTE));
            return fault(span, message, format!("{} takes {}", op.op, keys(op.op)));
        };
        if op.arg(param.key).is_some() {
            return fault(span, format!("`{}` is given twice", param.key), "remove one of them");
        }
        Ok((param.key, Arg::Attribute(self.typed_literal(param.key)?)))
    }

    // ---- arguments ----

    fn argument(&mut self, scope: &mut Scope<'t>, param: &Param, key: Span) -> Parse<Arg> {
        match self.token {
            Token::Mark(b'(') => {
                let ids = self.items((b'(', b')'), "a tuple is (a, b)", |p| {
                    let hint = "the values of a tuple are named values";
                    let (name, span) = p.name("the name of a value", hint)?;
                    if p.at(b'(') || p.at(b'<') {
                        return fault(span, "a literal cannot stand in a tuple", hint);
                    }
                    Ok(p.reference(scope, name, span))
                })?;
                Ok(Arg::Values(ids))
            }
            Token::Name if matches!(self.peek(), Token::Mark(b'(' | b'<')) => {
                Ok(Arg::Literal(self.literal()?))
            }
            Token::Name => {
                let span = self.span;
                let name = self.source(span);
                let bare = matches!(name, "true" | "false" | "inf" | "nan");
                if bare && !scope.names.contains_key(name) {
                    return self.untyped(param);
                }
                self.advance();
                Ok(Arg::Value(self.reference(scope, name, span)))
            }
            Token::Number | Token::Text | Token::Mark(b'[') => self.untyped(param),
            _ => {
                let key = self.source(key);
                self.expected(&format!("a value for `{key}`"), "name a value or write a literal")
            }
        }
    }

    /// A literal without its type, which the compiler refuses.
    fn untyped<T>(&self, param: &Param) -> Parse<T> {
        let list = self.at(b'[');
        let word = if list { "[…]".to_owned() } else { shorten(self.source(self.span), QUOTE) };
        let written = if list { "…" } else { &word };
        let hint = match param.kind {
            ParamKind::Int => format!("write int32({written})"),
            ParamKind::Bool => format!("write bool({written})"),
            ParamKind::Text => format!("write string({written})"),
            ParamKind::Float => format!("write fp16({written}) or fp32({written})"),
            ParamKind::Ints => "write tensor<int32, [n]>([…])".to_owned(),
            ParamKind::Bools => "write tensor<bool, [n]>([…])".to_owned(),
            ParamKind::Tensor => format!("write fp16({written}), or name a value"),
            ParamKind::Tensors => "write a tuple of named values (a, b)".to_owned(),
        };
        fault(self.span, format!("literal `{word}` has no type"), hint)
    }
}

/// The start of a hint: the candidate that `word` was most likely meant to be.
fn meant<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(word, candidates).map_or(String::new(), |near| format!("did you mean `{near}`? "))
}

/// True if a text looks like what coremltools prints of a program, which is no MIL text:
/// `main[CoreML8](%x: (1, 64, 1, 64, fp16)(Tensor)) {` and `block0() {` within.
fn is_printed_by_coremltools(text: &str) -> bool {
    let head = text.split_once('{').map_or(text, |(head, _)| head);
    head.contains("(%") && text.contains("block0() {")
}

fn keys(op: Op) -> String {
    let keys: Vec<_> = op.signature().params.iter().map(|p| p.key).collect();
    if keys.is_empty() { "no arguments".to_owned() } else { keys.join(", ") }
}

fn operation_called(word: &str, span: Span) -> Parse<Op> {
    if let Some(op) = Op::from_name(word) {
        return Ok(op);
    }
    if NOT_EXECUTED.contains(&word) {
        let hint = "write it with the operations that are";
        return fault(
            span,
            format!("operation `{word}` exists in MIL but is not executed here"),
            hint,
        );
    }
    let known = Op::ALL.iter().map(|op| op.name()).chain(NOT_EXECUTED.iter().copied());
    let hint = nearest(word, known).map_or(String::new(), |near| format!("did you mean `{near}`?"));
    fault(span, format!("unknown operation `{}`", shorten(word, QUOTE)), hint)
}
