//! Floats in text: read from decimal and hexadecimal notation, printed so that every bit returns.

use half::f16;

/// Reads a float: decimal (`0.125`, `1e-5`), hexadecimal as C prints it (`0x1.8p-3`), `inf`,
/// `infinity` or `nan` in any case, each with an optional sign. Hexadecimal values are rounded to
/// odd where they have more than 53 bits, so that rounding them again to `fp32` or `fp16` is exact
/// rounding of what was written.
pub(super) fn parse_f64(text: &str) -> Option<f64> {
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match body.as_bytes().first()? {
        b'0' if matches!(body.as_bytes().get(1), Some(b'x' | b'X')) => hexadecimal(&body[2..])?,
        b'0'..=b'9' | b'.' => body.parse().ok()?,
        _ if ["inf", "infinity"].iter().any(|s| body.eq_ignore_ascii_case(s)) => f64::INFINITY,
        _ if body.eq_ignore_ascii_case("nan") => f64::NAN,
        _ => return None,
    };
    Some(if negative { -value } else { value })
}

/// True if `text` says itself that it is infinite.
pub(super) fn is_infinity(text: &str) -> bool {
    let body = text.trim_start_matches(['-', '+']);
    body.as_bytes().first().is_some_and(|c| c.eq_ignore_ascii_case(&b'i'))
}

fn hexadecimal(body: &str) -> Option<f64> {
    let (digits, exponent) = match body.find(['p', 'P']) {
        Some(at) => (&body[..at], signed(&body[at + 1..])?),
        None => (body, 0),
    };
    let (mut mantissa, mut shift, mut fraction, mut seen) = (0u64, 0i64, false, false);
    for c in digits.bytes() {
        if c == b'.' && !fraction {
            fraction = true;
            continue;
        }
        let digit = u64::from((c as char).to_digit(16)?);
        seen = true;
        // 53 bits and a sticky bit are enough: later digits only say "not exact".
        if mantissa >> 53 == 0 {
            mantissa = mantissa << 4 | digit;
            shift -= if fraction { 4 } else { 0 };
        } else {
            mantissa |= u64::from(digit != 0);
            shift += if fraction { 0 } else { 4 };
        }
    }
    seen.then(|| scale(mantissa, shift.saturating_add(exponent)))
}

/// The exponent; absurdly large ones saturate, as the value does.
fn signed(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40);
    Some(if text.starts_with('-') { -size } else { size })
}

/// mantissa · 2^exponent, with the bits beyond 53 folded into the last one.
fn scale(mut mantissa: u64, exponent: i64) -> f64 {
    let mut exponent = exponent.clamp(-4000, 4000) as i32;
    if mantissa == 0 {
        return 0.0;
    }
    let extra = 11u32.saturating_sub(mantissa.leading_zeros());
    let lost = mantissa & ((1 << extra) - 1);
    mantissa = mantissa >> extra | u64::from(lost != 0);
    exponent += extra as i32;
    // Two exact steps: 2^exponent alone may be out of range where the product is not.
    let half = exponent / 2;
    mantissa as f64 * 2f64.powi(half) * 2f64.powi(exponent - half)
}

/// `value` as C's `%a` prints it.
pub(super) fn format_f64(value: f64) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_infinite() {
        return format!("{sign}inf");
    }
    if value == 0.0 {
        return format!("{sign}0x0p+0");
    }
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i64 - 1023;
    let fraction = format!("{:013x}", bits & ((1 << 52) - 1));
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}0x1{point}{fraction}p{exponent:+}")
}

/// A half-precision number; a NaN that is not the usual one shows its bits.
pub(super) fn format_f16(value: f16) -> String {
    match value.to_bits() {
        0x7e00 => "nan".to_owned(),
        bits if value.is_nan() => format!("nan({bits:#06x})"),
        _ => format_f64(value.to_f64()),
    }
}

/// A single-precision number; a NaN that is not the usual one shows its bits.
pub(super) fn format_f32(value: f32) -> String {
    match value.to_bits() {
        0x7fc0_0000 => "nan".to_owned(),
        bits if value.is_nan() => format!("nan({bits:#010x})"),
        _ => format_f64(f64::from(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_returns() {
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits);
            if !value.is_nan() {
                let back = f16::from_f64(parse_f64(&format_f16(value)).unwrap());
                assert_eq!(back.to_bits(), bits, "{value}");
            }
        }
    }

    #[test]
    fn known_values() {
        for (text, value) in [
            ("0x1p-3", 0.125),
            ("-0x1.8p+1", -3.0),
            ("0x.8p1", 1.0),
            ("0X10", 16.0),
            ("1e-5", 1e-5),
            ("-INF", f64::NEG_INFINITY),
            ("0x0.0000000000000000000000001p100", 1.0),
            ("0x1p99999999999999999999", f64::INFINITY),
            ("0x1p-99999999999999999999", 0.0),
        ] {
            assert_eq!(parse_f64(text), Some(value), "{text}");
        }
        for text in ["", "-", "0x", "0x1p", "0x1q", "1.2.3", "abc", "0x1.2.3p1", "é"] {
            assert_eq!(parse_f64(text), None, "{text}");
        }
        assert_eq!(format_f64(0.125), "0x1p-3");
        assert_eq!(format_f64(-3.0), "-0x1.8p+1");
    }

    #[test]
    fn long_hexadecimals_round_once() {
        // Just above the tie between 1 and the next fp32: rounding twice would give 1.
        let text = "0x1.00000100000000000000001p0";
        assert_eq!(parse_f64(text).unwrap() as f32, 1.0 + f32::EPSILON);
    }
}
