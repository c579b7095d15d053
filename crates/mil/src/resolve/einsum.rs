//! Products written with one letter per axis.

use super::{Kind, Reader, Resolved, Result1};
use crate::types::TensorType;

/// Axes of both inputs and of the result by label, numbered in the order in which labels appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Einsum {
    /// Labels of the axes of the first input.
    pub x: Vec<usize>,
    /// Labels of the axes of the second input.
    pub y: Vec<usize>,
    /// Labels of the axes of the result; what is not among them is summed over.
    pub result: Vec<usize>,
}

impl Einsum {
    /// The extent of every label: the larger one where an axis of extent 1 is repeated.
    pub fn extents(&self, x: &[usize], y: &[usize]) -> Vec<usize> {
        let labels = self.x.iter().chain(&self.y).max().map_or(0, |&last| last + 1);
        let mut extents = vec![1; labels];
        for (&label, &n) in self.x.iter().zip(x).chain(self.y.iter().zip(y)) {
            extents[label] = extents[label].max(n);
        }
        extents
    }
}

impl<'f> Reader<'f> {
    pub(super) fn einsum(&self) -> Result1<Resolved<'f>> {
        let (inputs, types) = self.tuple()?;
        let [tx, ty] = types[..] else {
            return self.err("values", format!("expected two values, got {}", types.len()), "");
        };
        self.same_dtype("values", tx, ty)?;
        if !tx.dtype.is_float() {
            return self.err("values", format!("expected fp16 or fp32, got {}", tx.dtype), "");
        }
        let einsum = self.equation(tx, ty)?;
        let extents = einsum.extents(&tx.shape, &ty.shape);
        for (label, &extent) in extents.iter().enumerate() {
            let of = |labels: &[usize], t: &TensorType| {
                labels.iter().position(|&l| l == label).map_or(extent, |axis| t.shape[axis])
            };
            let (a, b) = (of(&einsum.x, tx), of(&einsum.y, ty));
            let repeats = einsum.result.contains(&label) && a.min(b) == 1;
            if a != b && !repeats {
                let message = format!("one letter stands for {a} of {tx} and for {b} of {ty}");
                return self.err("equation", message, "only extents of 1 are repeated");
            }
        }
        let shape: Vec<usize> = einsum.result.iter().map(|&label| extents[label]).collect();
        self.one(Kind::Einsum(einsum), inputs, TensorType::new(tx.dtype, shape))
    }

    fn equation(&self, x: &TensorType, y: &TensorType) -> Result1<Einsum> {
        const FORM: &str = "write two inputs and the result, such as nchw,nwhu->nchu";
        let text = self.text("equation")?.unwrap_or_default();
        let parts: Option<Vec<&str>> = text
            .split_once("->")
            .map(|(inputs, result)| inputs.split(',').chain([result]).map(str::trim).collect());
        let Some([first, second, result]) = parts.as_deref() else {
            return self.err("equation", format!("cannot read `{}`", text.escape_debug()), FORM);
        };
        let mut known: Vec<char> = vec![];
        for letter in first.chars().chain(second.chars()) {
            if !known.contains(&letter) {
                known.push(letter);
            }
        }
        let labels = |part: &str| -> Result1<Vec<usize>> {
            let mut labels = vec![];
            for letter in part.chars() {
                let label = known.iter().position(|&l| l == letter);
                match label.filter(|label| letter.is_ascii_alphabetic() && !labels.contains(label))
                {
                    Some(label) => labels.push(label),
                    None => {
                        let message = format!("`{}` in `{part}`", letter.escape_debug());
                        let hint = "letters stand for one axis each, and the result's for inputs'";
                        return self.err("equation", message, hint);
                    }
                }
            }
            Ok(labels)
        };
        if known.len() > 16 {
            return self.err("equation", "has more than 16 letters", FORM);
        }
        let einsum = Einsum { x: labels(first)?, y: labels(second)?, result: labels(result)? };
        for (labels, ty) in [(&einsum.x, x), (&einsum.y, y)] {
            if labels.len() != ty.rank() {
                let message = format!("{} letters for {ty}", labels.len());
                return self.err("equation", message, "one letter per axis");
            }
        }
        Ok(einsum)
    }
}
