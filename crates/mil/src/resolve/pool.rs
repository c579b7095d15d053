//! Pooling: one number per window.

use super::{Kind, Reader, Resolved, Result1};
use crate::op::Op;
use crate::types::TensorType;

/// The reduction of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The largest element.
    Max,
    /// The mean; padding counts as zeros, or does not count.
    Average {
        /// True if only elements of the input count.
        exclude_padding: bool,
    },
    /// √Σx².
    L2,
}

/// Windows over the spatial axes (one to three, after batch and channels).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The reduction.
    pub window: Window,
    /// Extent of a window, per spatial axis.
    pub kernel: Vec<usize>,
    /// Step from window to window.
    pub strides: Vec<usize>,
    /// Padding before and after.
    pub pads: Vec<(usize, usize)>,
}

impl Pool {
    /// Elements of a window along `axis` (among the spatial ones, of extent `n`) that are inside of
    /// the input, and inside of the padded input: the last window may reach further.
    pub fn inside(&self, axis: usize, n: usize, window: usize) -> (usize, usize) {
        let (before, after) = self.pads[axis];
        let start = window * self.strides[axis];
        let end = start + self.kernel[axis];
        let real = end.min(before + n).saturating_sub(start.max(before));
        (real, end.min(before + n + after).saturating_sub(start))
    }
}

/// Extent of a window that is allowed over any input; larger ones may reach over its whole length on
/// both sides, so that what a window costs is bounded by the input.
const ANY: usize = 64;

impl<'f> Reader<'f> {
    pub(super) fn pool(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.float_input("x")?;
        let most = if self.op.op == Op::L2Pool { 4 } else { 5 };
        if !(3..=most).contains(&ty.rank()) {
            let message = format!("expected 3 to {most} axes, got {ty}");
            return self.err("x", message, "x is [N, C, spatial…]");
        }
        let spatial = ty.rank() - 2;
        let kernel = self.positive("kernel_sizes", spatial)?;
        let strides = self.positive("strides", spatial)?;
        let ceil = self.bool("ceil_mode")?;
        let extents = &ty.shape[2..];
        let pads = self.pads(extents, &kernel, &strides)?;
        let mut shape = ty.shape[..2].to_vec();
        for i in 0..spatial {
            shape.push(self.windows(extents[i], kernel[i], strides[i], pads[i], ceil)?);
        }
        let window = match self.op.op {
            Op::MaxPool => Window::Max,
            Op::L2Pool => Window::L2,
            _ => Window::Average { exclude_padding: self.bool("exclude_padding_from_average")? },
        };
        let kind = Kind::Pool(Pool { window, kernel, strides, pads });
        self.one(kind, vec![x], TensorType::new(ty.dtype, shape))
    }

    /// How many windows fit along an axis.
    fn windows(
        &self,
        n: usize,
        kernel: usize,
        stride: usize,
        (before, after): (usize, usize),
        ceil: bool,
    ) -> Result1<usize> {
        if kernel > n.saturating_mul(2).saturating_add(1).max(ANY) {
            let message = format!("a window of {kernel} over an extent of {n} is mostly padding");
            return self.err("kernel_sizes", message, "use a smaller window");
        }
        if before.max(after) >= kernel {
            let message = format!("padding {:?} holds a whole window of {kernel}", (before, after));
            return self.err("pad", message, "pad by less than the kernel");
        }
        if ceil && before != after {
            let message = format!("padding {:?} is not the same on both sides", (before, after));
            return self.err("pad", message, "with ceil_mode it has to be");
        }
        let padded = n.saturating_add(before).saturating_add(after);
        let Some(left) = padded.checked_sub(kernel) else {
            let message = format!("a window of {kernel} does not fit into {padded}");
            return self.err("kernel_sizes", message, "pad the input or use a smaller window");
        };
        if !ceil {
            return Ok(left / stride + 1);
        }
        let mut windows = left.div_ceil(stride) + 1;
        if before > 0 && (windows - 1).saturating_mul(stride) >= n + before {
            windows -= 1;
        }
        if (windows - 1).saturating_mul(stride) >= n + before {
            return self.err("ceil_mode", "the last window is outside of the input", "");
        }
        Ok(windows)
    }
}
