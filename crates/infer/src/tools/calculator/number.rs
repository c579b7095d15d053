//! Numbers as Python has them: integers of any size and binary64, each operation as its manual says.

use num_bigint::{BigInt, BigUint, Sign};
use std::cmp::Ordering;

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    Int(BigInt),
    Float(f64),
}

use Number::{Float, Int};

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
}

impl Number {
    /// Returns the number that a literal stands for: digits with a point somewhere, or without one and then
    /// without leading zeros.
    pub(super) fn literal(text: &str) -> Option<Number> {
        if text.contains('.') {
            return text.parse().ok().map(Float);
        }
        let value: BigUint = text.parse().ok()?;
        let is_zero = value == BigUint::ZERO;
        (is_zero || !text.starts_with('0')).then(|| Int(value.into()))
    }

    pub(super) fn negated(self) -> Number {
        match self {
            Int(value) => Int(-value),
            Float(value) => Float(-value),
        }
    }

    /// Returns the result of an operation, `None` where Python raises an exception: division by zero, or
    /// an integer that no float can hold beside a float.
    pub(super) fn with(self, operation: Operation, other: Number) -> Option<Number> {
        match (self, other) {
            (Int(a), Int(b)) => of_integers(operation, &a, &b),
            (a, b) => of_floats(operation, a.float()?, b.float()?).map(Float),
        }
    }

    fn float(self) -> Option<f64> {
        match self {
            Int(value) => quotient(&value, &1.into()),
            Float(value) => Some(value),
        }
    }

    /// Returns what Python prints.
    pub(super) fn print(&self, whole_as_int: bool) -> String {
        match self {
            Int(value) => value.to_string(),
            Float(value) => print_float(*value, whole_as_int),
        }
    }
}

fn of_integers(operation: Operation, a: &BigInt, b: &BigInt) -> Option<Number> {
    Some(match operation {
        Operation::Add => Int(a + b),
        Operation::Subtract => Int(a - b),
        Operation::Multiply => Int(a * b),
        _ if b.sign() == Sign::NoSign => return None,
        Operation::Divide => Float(quotient(a, b)?),
        Operation::FloorDivide => {
            let (quotient, rest) = (a / b, a % b);
            let below = rest.sign() != Sign::NoSign && rest.sign() != b.sign();
            Int(quotient - i32::from(below))
        }
    })
}

fn of_floats(operation: Operation, a: f64, b: f64) -> Option<f64> {
    Some(match operation {
        Operation::Add => a + b,
        Operation::Subtract => a - b,
        Operation::Multiply => a * b,
        _ if b == 0.0 => return None,
        Operation::Divide => a / b,
        Operation::FloorDivide => floor_divide(a, b),
    })
}

/// Returns the floor of a/b as Python computes it: from the exact remainder, so that it is right where a/b
/// rounds up to a whole number.
fn floor_divide(a: f64, b: f64) -> f64 {
    let rest = a % b;
    let mut whole = (a - rest) / b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
        whole -= 1.0;
    }
    if whole == 0.0 {
        return 0.0f64.copysign(a / b);
    }
    let floor = whole.floor();
    if whole - floor > 0.5 { floor + 1.0 } else { floor }
}

/// Returns the float nearest to a/b, of two the even one; `None` if it is too large. `b` is not 0.
///
/// A quotient with two bits or more beyond those of the result is computed in integers; the last bit also
/// stands for everything that follows it.
fn quotient(a: &BigInt, b: &BigInt) -> Option<f64> {
    const PRECISION: i64 = f64::MANTISSA_DIGITS as i64;
    /// Exponent of the least float.
    const LEAST: i64 = -1074;
    let negative = (a.sign() == Sign::Minus) != (b.sign() == Sign::Minus);
    let (a, b) = (a.magnitude(), b.magnitude());
    let sign = if negative { -1.0 } else { 1.0 };
    if *a == BigUint::ZERO {
        return Some(sign * 0.0);
    }
    let exponent = (a.bits() as i64 - b.bits() as i64 - PRECISION - 2).max(LEAST - 2);
    let shift = exponent.unsigned_abs();
    let (a, b) = if exponent < 0 { (a << shift, b.clone()) } else { (a.clone(), b << shift) };
    let whole = &a / &b;
    let inexact = u64::from(&whole * &b != a);
    // 55 or 56 bits.
    let bits = u64::try_from(whole).expect("the shift leaves few bits") | inexact;
    let length = i64::from(u64::BITS - bits.leading_zeros());
    let extra = (length - PRECISION).max(LEAST - exponent);
    let (kept, rest, half) = (bits >> extra, bits & ((1 << extra) - 1), 1 << (extra - 1));
    let up = match rest.cmp(&half) {
        Ordering::Less => false,
        Ordering::Equal => kept % 2 == 1,
        Ordering::Greater => true,
    };
    let value = sign * (kept + u64::from(up)) as f64 * power_of_two(exponent + extra)?;
    value.is_finite().then_some(value)
}

/// Returns 2^exponent, for exponents from that of the least float; `None` if it is too large.
fn power_of_two(exponent: i64) -> Option<f64> {
    match exponent {
        1024.. => None,
        -1022.. => Some(f64::from_bits(((exponent + 1023) as u64) << 52)),
        _ => Some(f64::from_bits(1 << (exponent + 1074))),
    }
}

/// Returns the shortest digits that are read back as the same float, in Python's form: with an exponent of
/// two digits or more from 1e16 and below 1e-4.
fn print_float(value: f64, whole_as_int: bool) -> String {
    if !value.is_finite() {
        return format!("{value}").to_lowercase();
    }
    if whole_as_int && value == value.trunc() && value.abs() < 1e16 {
        // Without the sign of −0.
        return format!("{:.0}", value + 0.0);
    }
    let (digits, exponent) = shortest(value);
    let size = value.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        let decimals = (digits.len() as i32 - 1 - exponent).max(1) as usize;
        return format!("{value:.decimals$}");
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{first}{point}{rest}e{exponent:+03}")
}

/// Returns the fewest digits that are read back as the same float, and the exponent of the first one. Of two
/// such numbers that are equally near, it is the one whose last digit is even.
fn shortest(value: f64) -> (String, i32) {
    let count = parts(&format!("{value:e}")).0.len();
    parts(&format!("{value:.*e}", count - 1))
}

/// Returns the digits of a number in scientific notation, and its exponent.
fn parts(text: &str) -> (String, i32) {
    let (number, exponent) = text.split_once('e').expect("the notation has an exponent");
    let digits = number.chars().filter(char::is_ascii_digit).collect();
    (digits, exponent.parse().expect("an exponent is a small integer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(text: &str) -> BigInt {
        text.parse().unwrap()
    }

    /// Halves go to even, what is a little more goes up; the least floats keep fewer bits.
    #[test]
    fn quotients_are_rounded_once() {
        let power = |exponent: u32| BigInt::from(1) << exponent;
        let one = int("1");
        assert_eq!(quotient(&(power(53) + 1), &one), Some(9_007_199_254_740_992.0));
        assert_eq!(quotient(&(power(53) + 3), &one), Some(9_007_199_254_740_996.0));
        assert_eq!(
            quotient(&(power(200) * (power(53) + 1) + 1), &power(200)).unwrap(),
            9_007_199_254_740_994.0
        );
        assert_eq!(quotient(&one, &power(1074)), Some(f64::from_bits(1)));
        assert_eq!(quotient(&one, &power(1075)), Some(0.0));
        assert_eq!(quotient(&int("3"), &power(1075)), Some(f64::from_bits(2)));
        assert_eq!(quotient(&one, &int(&("1".to_owned() + &"0".repeat(900)))), Some(0.0));
        assert_eq!(quotient(&(power(1024) - 1), &one), None);
        assert_eq!(quotient(&(power(1024) - power(970) - 1), &one), Some(f64::MAX));
        assert_eq!(quotient(&int("-1"), &int("3")), Some(-1.0 / 3.0));
    }

    #[test]
    fn floats_are_printed_as_python_prints_them() {
        for (value, text) in [
            (1e16, "1e+16"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (9.9e-5, "9.9e-05"),
            (5e-324, "5e-324"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (-123.0, "-123.0"),
            (1e15, "1000000000000000.0"),
            // ….125: as near to the one that ends with 3.
            (166_145_269_875_339.12, "166145269875339.12"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(print_float(value, false), text);
        }
    }
}
