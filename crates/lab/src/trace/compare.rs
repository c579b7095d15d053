//! Comparing arrays by units in the last place.

use crate::array::Array;
use half::f16;
use mil::DType;
use serde::Serialize;

/// Upper ends of the bins of a [`Comparison`]'s histogram, in units in the last place; the last
/// bin holds everything above, NaN against a number included.
pub const HISTOGRAM: [u64; 7] = [0, 1, 2, 4, 16, 256, 4096];

/// The first element that differs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Index in row-major order.
    pub index: usize,
    /// The element of the first array.
    pub left: f32,
    /// The element of the second array.
    pub right: f32,
}

/// How far two arrays of one shape are apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Elements compared.
    pub elements: usize,
    /// Elements that differ.
    pub differing: usize,
    /// Largest distance in units in the last place; `u64::MAX` for NaN against a number.
    pub max_ulp: u64,
    /// Largest absolute difference of finite elements.
    pub max_abs: f64,
    /// Largest difference of finite elements relative to the larger one.
    pub max_rel: f64,
    /// Elements per bin of [`HISTOGRAM`].
    pub histogram: [usize; HISTOGRAM.len() + 1],
    /// The first that differs.
    pub first: Option<Difference>,
}

/// Distance of `a` and `b` in steps between neighbouring numbers of `dtype` (fp32 for all types
/// but fp16). Zeros of both signs are one number, infinity follows the largest number, NaN is
/// infinitely far from all but NaN.
pub fn ulps(dtype: DType, a: f32, b: f32) -> u64 {
    if a.is_nan() || b.is_nan() {
        return if a.is_nan() && b.is_nan() { 0 } else { u64::MAX };
    }
    // Numbers in order, as integers in order: sign and magnitude to two's complement.
    let place = |v: f32| -> i64 {
        let (bits, sign) = match dtype {
            DType::Fp16 => (u32::from(f16::from_f32(v).to_bits()), 1u32 << 15),
            _ => (v.to_bits(), 1u32 << 31),
        };
        let magnitude = i64::from(bits & (sign - 1));
        if bits & sign == 0 { magnitude } else { -magnitude }
    };
    place(a).abs_diff(place(b))
}

/// Compares two arrays; `None` if their shapes differ. Units are those of fp16
/// if both are fp16; elements that round to one fp16 do not differ then.
pub fn compare(left: &Array, right: &Array) -> Option<Comparison> {
    if left.ty.shape != right.ty.shape || left.values.len() != right.values.len() {
        return None;
    }
    let half = left.ty.dtype == DType::Fp16 && right.ty.dtype == DType::Fp16;
    let dtype = if half { DType::Fp16 } else { DType::Fp32 };
    let mut result = Comparison {
        elements: left.values.len(),
        differing: 0,
        max_ulp: 0,
        max_abs: 0.0,
        max_rel: 0.0,
        histogram: [0; HISTOGRAM.len() + 1],
        first: None,
    };
    for (index, (&a, &b)) in left.values.iter().zip(&right.values).enumerate() {
        let distance = ulps(dtype, a, b);
        let bin = HISTOGRAM.iter().position(|&end| distance <= end).unwrap_or(HISTOGRAM.len());
        result.histogram[bin] += 1;
        if distance > 0 {
            result.differing += 1;
            result.max_ulp = result.max_ulp.max(distance);
            result.first.get_or_insert(Difference { index, left: a, right: b });
        }
        if a.is_finite() && b.is_finite() && a != b {
            let difference = (f64::from(a) - f64::from(b)).abs();
            result.max_abs = result.max_abs.max(difference);
            let larger = f64::from(a).abs().max(f64::from(b).abs());
            result.max_rel = result.max_rel.max(difference / larger);
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mil::TensorType;

    #[test]
    fn distances_count_steps_of_the_type() {
        let half = |a, b| ulps(DType::Fp16, a, b);
        assert_eq!((half(0.0, -0.0), half(1.0, 1.0)), (0, 0));
        assert_eq!((half(1.0, 1.0 + 2f32.powi(-10)), half(2.0, 2.0 - 2f32.powi(-10))), (1, 1));
        assert_eq!(half(65504.0, f32::INFINITY), 1);
        assert_eq!(half(2f32.powi(-24), -(2f32.powi(-24))), 2);
        assert_eq!((half(f32::NAN, f32::NAN), half(f32::NAN, 1.0)), (0, u64::MAX));
        assert_eq!(ulps(DType::Fp32, 1.0, 1.0 + f32::EPSILON), 1);
    }

    #[test]
    fn a_comparison_finds_the_first_and_the_largest() {
        let array = |values: &[f32]| Array {
            ty: TensorType::fp16([values.len()]),
            values: values.to_vec(),
        };
        let same = compare(&array(&[1.0, f32::NAN]), &array(&[1.0, f32::NAN])).unwrap();
        assert_eq!((same.differing, same.max_ulp, same.first), (0, 0, None));
        let found = compare(&array(&[1.0, 2.0, 4.0]), &array(&[1.0, 2.5, 4.0625])).unwrap();
        assert_eq!((found.differing, found.max_ulp), (2, 256));
        assert_eq!((found.max_abs, found.max_rel), (0.5, 0.2));
        assert_eq!(found.first, Some(Difference { index: 1, left: 2.0, right: 2.5 }));
        assert_eq!(found.histogram, [1, 0, 0, 0, 1, 1, 0, 0]);
        assert_eq!(compare(&array(&[1.0]), &array(&[1.0, 2.0])), None);
    }
}
