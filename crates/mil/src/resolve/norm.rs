//! Normalisation, and activations with one parameter per channel.

use super::{Kind, Operand, Reader, Resolved, Result1};
use crate::op::Op;
use crate::types::TensorType;

/// The divisor of a norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// Inputs x, mean, variance, then gamma and beta where present, all per channel:
    /// (x − mean) / √(variance + ε) · gamma + beta.
    Batch {
        /// Added to the variance.
        epsilon: f64,
        /// True if gamma is an input.
        gamma: bool,
        /// True if beta is an input.
        beta: bool,
    },
    /// Inputs x, then gamma and beta where present: mean and variance are those of each channel of
    /// each batch.
    Instance {
        /// Added to the variance.
        epsilon: f64,
        /// True if gamma is an input.
        gamma: bool,
        /// True if beta is an input.
        beta: bool,
    },
    /// Input x: x / √(Σx² + ε) over the last three axes.
    L2 {
        /// Added to the sum.
        epsilon: f64,
    },
    /// Input x: x / (k + α/size · Σx²)^β over `size` neighbours along the third axis from the end.
    LocalResponse {
        /// Elements that are added, of which size / 2 come before.
        size: usize,
        /// Factor of the mean.
        alpha: f64,
        /// Exponent.
        beta: f64,
        /// Added to the mean.
        k: f64,
    },
}

/// Elementwise functions made of simpler ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Input x: α·tanh(βx).
    ScaledTanh {
        /// Scale of the result.
        alpha: f64,
        /// Scale of x.
        beta: f64,
    },
    /// Input x: min(x ≥ 0 ? x : αx, β).
    ClampedRelu {
        /// Slope below zero.
        alpha: f64,
        /// Upper limit.
        beta: f64,
    },
    /// Input x: x ≥ α ? x : 0.
    ThresholdedRelu {
        /// Smallest value that is kept.
        alpha: f64,
    },
    /// Inputs x and alpha, one per channel: x ≥ 0 ? x : αx.
    Prelu,
    /// Inputs x, alpha and beta, one per channel: α·ln(1 + e^(βx)).
    SoftplusParametric,
}

impl<'f> Reader<'f> {
    /// A vector with an element per channel of x, [N, C, …].
    fn per_channel(&self, key: &str, x: &TensorType) -> Result1<Option<Operand<'f>>> {
        let Some((operand, ty)) = self.optional(key) else { return Ok(None) };
        let wanted = TensorType::new(x.dtype, [x.shape[1]]);
        if *ty != wanted {
            return self.err(key, format!("expected {wanted}, got {ty}"), "one per channel");
        }
        Ok(Some(operand))
    }

    /// x with as many axes as `ranks`.
    fn ranked(
        &self,
        ranks: std::ops::RangeInclusive<usize>,
    ) -> Result1<(Operand<'f>, &'f TensorType)> {
        let (x, ty) = self.float_input("x")?;
        if ranks.contains(&ty.rank()) {
            return Ok((x, ty));
        }
        let (least, most) = (ranks.start(), ranks.end());
        self.err("x", format!("expected {least} to {most} axes, got {ty}"), "x is [N, C, …]")
    }

    pub(super) fn norm(&self) -> Result1<Resolved<'f>> {
        let most = if self.op.op == Op::BatchNorm { 5 } else { 4 };
        let (x, ty) = match self.op.op {
            Op::L2Norm => self.ranked(3..=8)?,
            _ => self.ranked(3..=most)?,
        };
        let small = if self.op.op == Op::L2Norm { 1e-6 } else { 1e-5 };
        let epsilon = || self.float("epsilon", small);
        let mut inputs = vec![x];
        let mut optional = |key: &str| -> Result1<bool> {
            let operand = self.per_channel(key, ty)?;
            inputs.extend(operand);
            Ok(operand.is_some())
        };
        let norm = match self.op.op {
            Op::BatchNorm => {
                optional("mean")?;
                optional("variance")?;
                let (gamma, beta) = (optional("gamma")?, optional("beta")?);
                Norm::Batch { epsilon: epsilon()?, gamma, beta }
            }
            Op::InstanceNorm => {
                let (gamma, beta) = (optional("gamma")?, optional("beta")?);
                Norm::Instance { epsilon: epsilon()?, gamma, beta }
            }
            Op::L2Norm => Norm::L2 { epsilon: epsilon()? },
            _ => {
                let size = match self.int("size")? {
                    Some(n @ 1..=4096) => n as usize,
                    n => return self.err("size", format!("expected 1 to 4096, got {n:?}"), ""),
                };
                Norm::LocalResponse {
                    size,
                    alpha: self.float("alpha", 1e-4)?,
                    beta: self.float("beta", 0.75)?,
                    k: self.float("k", 1.0)?,
                }
            }
        };
        self.one(Kind::Norm(norm), inputs, ty.clone())
    }

    pub(super) fn activation(&self) -> Result1<Resolved<'f>> {
        let f = |key| self.float(key, 0.0);
        let (x, ty) = match self.op.op {
            Op::Prelu | Op::SoftplusParametric => self.ranked(3..=5)?,
            _ => self.float_input("x")?,
        };
        let mut inputs = vec![x];
        let activation = match self.op.op {
            Op::ScaledTanh => Activation::ScaledTanh {
                alpha: self.float("alpha", 1.0)?,
                beta: self.float("beta", 1.0)?,
            },
            Op::ClampedRelu => Activation::ClampedRelu { alpha: f("alpha")?, beta: f("beta")? },
            Op::ThresholdedRelu => Activation::ThresholdedRelu { alpha: self.float("alpha", 1.0)? },
            Op::Prelu => {
                inputs.extend(self.per_channel("alpha", ty)?);
                Activation::Prelu
            }
            _ => {
                inputs.extend(self.per_channel("alpha", ty)?);
                inputs.extend(self.per_channel("beta", ty)?);
                Activation::SoftplusParametric
            }
        };
        self.one(Kind::Activation(activation), inputs, ty.clone())
    }

    pub(super) fn layer_norm(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.float_input("x")?;
        let axes = self.axes("axes", ty.rank())?;
        let epsilon = self.float("epsilon", 1e-5)?;
        let normal: Vec<usize> = axes.iter().map(|&axis| ty.shape[axis]).collect();
        let (gamma, beta) = (self.optional("gamma"), self.optional("beta"));
        for (key, operand) in [("gamma", gamma), ("beta", beta)] {
            if let Some((_, t)) = operand
                && *t != TensorType::new(ty.dtype, normal.clone())
            {
                return self.err(key, format!("expected shape {normal:?}, got {t}"), "");
            }
        }
        let kind = Kind::LayerNorm { axes, epsilon, gamma: gamma.is_some(), beta: beta.is_some() };
        let inputs = [Some(x), gamma.map(|g| g.0), beta.map(|b| b.0)];
        self.one(kind, inputs.into_iter().flatten().collect(), ty.clone())
    }
}
