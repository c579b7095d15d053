//! Types and literals in text: `tensor<fp16, [2]>([0x1p-3, -inf])`, `BLOBFILE`, quoted text.

use super::MAX_RANK;
use super::lexer::Token;
use super::number::{is_infinity, parse_f64};
use super::parser::{Parse, Parser, QUOTE, fault};
use crate::diagnostic::{Span, nearest, shorten};
use crate::types::{DType, Data, Literal, Payload, TensorType};
use half::f16;

impl Parser<'_> {
    /// A literal where a named value is not allowed.
    pub(super) fn typed_literal(&mut self, key: &str) -> Parse<Literal> {
        let literal = self.token == Token::Name && matches!(self.peek(), Token::Mark(b'(' | b'<'));
        if literal {
            return self.literal();
        }
        let hint = "for instance fp16(0.5), string(\"valid\") or tensor<int32, [2]>([1, 1])";
        self.expected(&format!("a literal with its type after `{key} =`"), hint)
    }

    pub(super) fn text_literal(&mut self, what: &str) -> Parse<String> {
        let start = self.span;
        match self.typed_literal("name")?.payload {
            Payload::Inline(Data::String(mut texts)) if texts.len() == 1 => {
                Ok(texts.swap_remove(0))
            }
            _ => fault(start, format!("{what} is one text"), "write string(\"…\")"),
        }
    }

    pub(super) fn ty(&mut self) -> Parse<TensorType> {
        const FORM: &str = "a type is tensor<fp16, [1, 64, 1, 16]> or, of a scalar, fp16";
        let (word, span) = self.name("a type", FORM)?;
        match word {
            "tensor" => {}
            "state" => {
                return fault(
                    span,
                    "state<…> types are not supported",
                    "state does not lower to the engine: pass it in and return it",
                );
            }
            "list" | "dict" | "tuple" => {
                return fault(span, format!("{word}<…> types are not supported here"), FORM);
            }
            _ => return Ok(TensorType::scalar(element_type(word, span, FORM)?)),
        }
        self.mark(b'<', FORM)?;
        let (word, span) = self.name("an element type", FORM)?;
        let dtype = element_type(word, span, FORM)?;
        self.mark(b',', FORM)?;
        let mut rank = 0;
        let shape = self.items((b'[', b']'), FORM, |p| {
            rank += 1;
            if rank > MAX_RANK {
                return fault(p.span, format!("a type has at most {MAX_RANK} axes"), "");
            }
            p.extent()
        })?;
        self.mark(b'>', FORM)?;
        Ok(TensorType { dtype, shape })
    }

    fn extent(&mut self) -> Parse<usize> {
        let word = self.source(self.span);
        match word.parse::<i64>().map(usize::try_from) {
            Ok(Ok(extent)) if self.token == Token::Number => {
                self.advance();
                Ok(extent)
            }
            _ if word == "?" || self.token == Token::Name || word.starts_with('-') => fault(
                self.span,
                format!("extent `{}` is not a fixed size", shorten(word, QUOTE)),
                "symbolic and flexible extents do not lower to the engine: write a number",
            ),
            _ if self.token == Token::Number && word.bytes().all(|c| c.is_ascii_digit()) => {
                let message = format!("extent {} is too large", shorten(word, QUOTE));
                fault(self.span, message, "")
            }
            _ => self.expected("an extent", "extents are whole numbers"),
        }
    }

    pub(super) fn literal(&mut self) -> Parse<Literal> {
        let ty = self.ty()?;
        self.mark(b'(', "the value of a literal follows its type: fp16(0.5)")?;
        let payload = if self.at_name("BLOBFILE") {
            self.advance();
            self.blob_file()?
        } else {
            Payload::Inline(self.data(&ty)?)
        };
        self.mark(b')', "")?;
        Ok(Literal { ty, payload })
    }

    fn blob_file(&mut self) -> Parse<Payload> {
        const FORM: &str = "write BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64))";
        let (mut path, mut offset) = (None, None);
        let span = self.span;
        self.items((b'(', b')'), FORM, |p| {
            let (key, span) = p.name("path or offset", FORM)?;
            p.mark(b'=', FORM)?;
            match key {
                "path" if path.is_none() => path = Some(p.text_literal("a path")?),
                "offset" if offset.is_none() => offset = Some(p.offset()?),
                _ => {
                    let key = shorten(key, QUOTE);
                    return fault(span, format!("`{key}` is unknown or given twice"), FORM);
                }
            }
            Ok(())
        })?;
        match (path, offset) {
            (Some(path), Some(offset)) => Ok(Payload::Blob { path, offset }),
            _ => fault(span, "BLOBFILE needs path and offset", FORM),
        }
    }

    /// `uint64(64)`, which alone of all literals may use the upper half of its range.
    fn offset(&mut self) -> Parse<u64> {
        let span = self.span;
        if self.ty()? != TensorType::scalar(DType::UInt64) {
            return fault(span, "an offset is a scalar of type uint64", "write uint64(64)");
        }
        self.mark(b'(', "write uint64(64)")?;
        let Ok(offset) = self.source(self.span).parse::<u64>() else {
            return self.expected("an offset in bytes", "write uint64(64)");
        };
        self.advance();
        self.mark(b')', "write uint64(64)")?;
        Ok(offset)
    }

    fn data(&mut self, ty: &TensorType) -> Parse<Data> {
        let mut data = match ty.dtype {
            DType::Fp16 => Data::Fp16(vec![]),
            DType::Fp32 => Data::Fp32(vec![]),
            DType::Bool => Data::Bool(vec![]),
            DType::String => Data::String(vec![]),
            _ => Data::Int(vec![]),
        };
        let span = self.span;
        if ty.rank() == 0 {
            self.element(ty.dtype, &mut data)?;
        } else if self.at(b'[') {
            self.list(ty, 0, &mut data)?;
        } else {
            return self.expected("`[`", &format!("the elements of {ty} stand in a list"));
        }
        if data.len() != ty.count() {
            let message = format!("{ty} has {} elements, the list has {}", ty.count(), data.len());
            return fault(Span { start: span.start, end: self.before }, message, "");
        }
        Ok(data)
    }

    /// A list of elements, or of lists down to the rank of `ty`. One flat list will do too.
    fn list(&mut self, ty: &TensorType, depth: usize, data: &mut Data) -> Parse<()> {
        let open = self.mark(b'[', "")?;
        let deeper = depth + 1 < ty.rank();
        let nested = deeper && self.at(b'[');
        let flat = depth == 0 && !nested;
        let limit = if flat { ty.count() } else { ty.shape[depth] };
        let mut n = 0usize;
        while !self.at(b']') {
            if n == limit {
                let message = format!("the list has more than {limit} elements");
                return fault(self.span, message, format!("its type is {ty}"));
            }
            n += 1;
            if nested {
                self.list(ty, depth + 1, data)?;
            } else if deeper && !flat {
                return self.expected("`[`", &format!("lists nest as the axes of {ty} do"));
            } else {
                self.element(ty.dtype, data)?;
            }
            if !self.take(b',') && !self.at(b']') {
                return self.expected("`,` or `]`", "");
            }
        }
        let close = self.advance();
        if n != limit && !flat {
            let message = format!("the list has {n} elements, axis {depth} of {ty} has {limit}");
            return fault(Span { start: open.start, end: close.end }, message, "");
        }
        Ok(())
    }

    fn element(&mut self, dtype: DType, data: &mut Data) -> Parse<()> {
        match data {
            Data::Fp16(v) => {
                let (value, bits) =
                    self.float(dtype, 0xffff, |v| f16::from_f64(v).is_infinite())?;
                v.push(bits.map_or(f16::from_f64(value), |bits| f16::from_bits(bits as u16)));
            }
            Data::Fp32(v) => {
                let limit = u64::from(u32::MAX);
                let (value, bits) = self.float(dtype, limit, |v| (v as f32).is_infinite())?;
                v.push(bits.map_or(value as f32, |bits| f32::from_bits(bits as u32)));
            }
            Data::Int(v) => v.push(self.integer(dtype)?),
            Data::Bool(v) => {
                let value = self.at_name("true");
                if !value && !self.at_name("false") {
                    return self.expected("true or false", "");
                }
                self.advance();
                v.push(value);
            }
            Data::String(v) => v.push(self.quoted()?),
        }
        Ok(())
    }

    /// A float of type `dtype`, or the bits of a NaN written `nan(0x…)`.
    fn float(
        &mut self,
        dtype: DType,
        limit: u64,
        overflows: impl Fn(f64) -> bool,
    ) -> Parse<(f64, Option<u64>)> {
        let span = self.span;
        let word = self.source(span);
        let number = matches!(self.token, Token::Number | Token::Name);
        let Some(value) = parse_f64(word).filter(|_| number) else {
            return self.expected(&format!("a number of type {dtype}"), "such as 0.125 or 0x1p-3");
        };
        if overflows(value) && !is_infinity(word) {
            let word = shorten(word, QUOTE);
            return fault(
                span,
                format!("{word} is beyond the range of {dtype}"),
                "write inf or -inf",
            );
        }
        // The sign of a NaN is of its payload, so that `-nan` is one bit pattern too.
        self.advance();
        if !value.is_nan() {
            return Ok((value, None));
        }
        if !self.take(b'(') {
            let quiet = if dtype == DType::Fp16 { 0x7e00 } else { 0x7fc0_0000 };
            let sign = if word.starts_with('-') { (limit >> 1) + 1 } else { 0 };
            return Ok((value, Some(quiet | sign)));
        }
        let digits = self.source(self.span).strip_prefix("0x").unwrap_or("");
        let bits = u64::from_str_radix(digits, 16).ok().filter(|&bits| bits <= limit);
        let is_nan = |bits: u64| match dtype {
            DType::Fp16 => f16::from_bits(bits as u16).is_nan(),
            _ => f32::from_bits(bits as u32).is_nan(),
        };
        let Some(bits) = bits.filter(|&bits| is_nan(bits)) else {
            return self
                .expected(&format!("the bits of a NaN of type {dtype}"), "nan alone will do");
        };
        self.advance();
        self.mark(b')', "")?;
        Ok((value, Some(bits)))
    }

    fn integer(&mut self, dtype: DType) -> Parse<i64> {
        let word = self.source(self.span);
        let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
        let whole = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
        if self.token != Token::Number || !whole {
            return self.expected(&format!("a whole number of type {dtype}"), "");
        }
        let (lo, hi) = dtype.int_range().unwrap_or((i64::MIN, i64::MAX));
        match word.parse::<i64>() {
            Ok(value) if (lo..=hi).contains(&value) => {
                self.advance();
                Ok(value)
            }
            _ => {
                let message = format!("{} is outside {dtype}", shorten(word, QUOTE));
                fault(self.span, message, format!("it holds {lo} to {hi}"))
            }
        }
    }

    pub(super) fn quoted(&mut self) -> Parse<String> {
        if self.token != Token::Text {
            return self.expected("a text between quotes", "");
        }
        let span = self.advance();
        let body = &self.text[span.start + 1..span.end - 1];
        unescape(body).or_else(|at| {
            let start = span.start + 1 + at;
            let hint = "known are \\\" \\\\ \\n \\r \\t and \\x00 to \\x7f";
            fault(Span { start, end: start + 1 }, "unknown escape in a text", hint)
        })
    }
}

/// Replaces escapes, or returns where an unknown one is.
fn unescape(body: &str) -> Result<String, usize> {
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let here = body.len() - rest.len() + at;
        let code = rest.as_bytes().get(at + 1).ok_or(here)?;
        let mut used = 2;
        out.push(match code {
            b'"' | b'\\' | b'\'' | b'/' => char::from(*code),
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'x' => {
                used = 4;
                let digits = rest.get(at + 2..at + 4).ok_or(here)?;
                let byte = u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii);
                char::from(byte.ok_or(here)?)
            }
            _ => return Err(here),
        });
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    Ok(out)
}

fn element_type(word: &str, span: Span, form: &str) -> Parse<DType> {
    const ALL: [&str; 18] = [
        "fp16", "fp32", "int4", "int8", "int16", "int32", "int64", "uint1", "uint2", "uint3",
        "uint4", "uint6", "uint8", "uint16", "uint32", "uint64", "bool", "string",
    ];
    if let Some(dtype) = DType::from_name(word) {
        return Ok(dtype);
    }
    let word = shorten(word, QUOTE);
    if matches!(word.as_str(), "bf16" | "fp64" | "fp8e4m3fn" | "fp8e5m2") {
        return fault(span, format!("element type {word} is not supported"), "use fp16 or fp32");
    }
    let hint =
        nearest(&word, ALL).map_or(form.to_owned(), |near| format!("did you mean `{near}`?"));
    fault(span, format!("unknown type `{word}`"), hint)
}
