//! Operations that move elements between batch, channels and space, cut them or turn them round.

use super::{Kind, Reader, Resolved, Result1};
use crate::op::Op;
use crate::types::TensorType;

/// Blocks of an image [N, C, H, W] that move. With i and j the place in a block of f × f (or a × b):
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rearrange {
    /// `r[n, c, h·f + i, w·f + j] = x[n, c·f² + i·f + j, h, w]`.
    PixelShuffle {
        /// f.
        factor: usize,
    },
    /// The inverse of [`Rearrange::PixelShuffle`].
    PixelUnshuffle {
        /// f.
        factor: usize,
    },
    /// `r[n, (i·f + j)·C + c, h, w] = x[n, c, h·f + i, w·f + j]`.
    SpaceToDepth {
        /// f.
        block: usize,
    },
    /// The inverse of [`Rearrange::SpaceToDepth`].
    DepthToSpace {
        /// f.
        block: usize,
    },
    /// `r[(i·b + j)·N + n, c, h, w] = p[n, c, h·a + i, w·b + j]` of x padded with zeros, p.
    SpaceToBatch {
        /// a and b.
        block: [usize; 2],
        /// Zeros before and after, of H and W.
        pads: [(usize, usize); 2],
    },
    /// `p[n, c, h·a + i, w·b + j] = x[(i·b + j)·N + n, c, h, w]`, cut to the result.
    BatchToSpace {
        /// a and b.
        block: [usize; 2],
        /// Elements cut off before and after, of H and W.
        crops: [(usize, usize); 2],
    },
}

impl<'f> Reader<'f> {
    /// A block or factor; at most what keeps products of extents in range.
    fn factor(&self, key: &str) -> Result1<usize> {
        match self.int(key)? {
            Some(n) if (1..=1 << 20).contains(&n) => Ok(n as usize),
            n => self.err(key, format!("expected a positive integer, got {n:?}"), ""),
        }
    }

    fn two_pairs(&self, key: &str) -> Result1<[(usize, usize); 2]> {
        let v = self.ints(key)?.unwrap_or_default();
        match v[..] {
            [a, b, c, d] if v.iter().all(|&n| (0..=i32::MAX as i64).contains(&n)) => {
                Ok([(a as usize, b as usize), (c as usize, d as usize)])
            }
            _ => self.err(key, format!("expected four integers ≥ 0, got {v:?}"), "of H, then of W"),
        }
    }

    /// n / d, which has to be whole.
    fn whole(&self, key: &str, n: usize, d: usize) -> Result1<usize> {
        if d > 0 && n.is_multiple_of(d) {
            return Ok(n / d);
        }
        self.err(key, format!("{n} is not divisible by {d}"), "")
    }

    pub(super) fn rearrange(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.float_input("x")?;
        let [n, c, h, w] = ty.shape[..] else {
            return self.err("x", format!("expected 4 axes, got {ty}"), "x is [N, C, H, W]");
        };
        let grown = |n: usize, f: usize| n.saturating_mul(f);
        let (rearrange, shape) = match self.op.op {
            Op::PixelShuffle | Op::DepthToSpace => {
                let shuffle = self.op.op == Op::PixelShuffle;
                let key = if shuffle { "upscale_factor" } else { "block_size" };
                let f = self.factor(key)?;
                let shape = [n, self.whole(key, c, f * f)?, grown(h, f), grown(w, f)];
                let block = Rearrange::DepthToSpace { block: f };
                (if shuffle { Rearrange::PixelShuffle { factor: f } } else { block }, shape)
            }
            Op::PixelUnshuffle | Op::SpaceToDepth => {
                let shuffle = self.op.op == Op::PixelUnshuffle;
                let key = if shuffle { "downscale_factor" } else { "block_size" };
                let f = self.factor(key)?;
                let (h, w) = (self.whole(key, h, f)?, self.whole(key, w, f)?);
                let block = Rearrange::SpaceToDepth { block: f };
                let kind = if shuffle { Rearrange::PixelUnshuffle { factor: f } } else { block };
                (kind, [n, grown(c, f * f), h, w])
            }
            Op::SpaceToBatch => {
                let [a, b] = self.block()?;
                let pads = self.two_pairs("paddings")?;
                let padded = |n: usize, (p, q): (usize, usize)| n.saturating_add(p + q);
                let h = self.whole("paddings", padded(h, pads[0]), a)?;
                let w = self.whole("paddings", padded(w, pads[1]), b)?;
                (Rearrange::SpaceToBatch { block: [a, b], pads }, [grown(n, a * b), c, h, w])
            }
            _ => {
                let [a, b] = self.block()?;
                let crops = self.two_pairs("crops")?;
                let cut = |n: usize, (p, q): (usize, usize)| match n.checked_sub(p + q) {
                    Some(left @ 1..) => Ok(left),
                    _ => self.err("crops", format!("{p} and {q} leave nothing of {n}"), ""),
                };
                let (h, w) = (cut(grown(h, a), crops[0])?, cut(grown(w, b), crops[1])?);
                let n = self.whole("block_shape", n, a * b)?;
                (Rearrange::BatchToSpace { block: [a, b], crops }, [n, c, h, w])
            }
        };
        self.one(Kind::Rearrange(rearrange), vec![x], TensorType::new(ty.dtype, shape))
    }

    fn block(&self) -> Result1<[usize; 2]> {
        let v = self.ints("block_shape")?.unwrap_or_default();
        match v[..] {
            [a, b] if v.iter().all(|&n| (1..=1 << 20).contains(&n)) => Ok([a as usize, b as usize]),
            _ => self.err("block_shape", format!("expected two positive integers, got {v:?}"), ""),
        }
    }

    /// A slice of the last two axes.
    pub(super) fn crop(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.float_input("x")?;
        if ty.rank() < 3 {
            return self.err("x", format!("expected at least 3 axes, got {ty}"), "");
        }
        let (mut begin, mut sizes) = (vec![0; ty.rank()], ty.shape.clone());
        for (key, axis) in [("crop_height", ty.rank() - 2), ("crop_width", ty.rank() - 1)] {
            let v = self.ints(key)?.unwrap_or_default();
            let extent = ty.shape[axis] as i64;
            match v[..] {
                [a, b] if a >= 0 && b >= 0 && a.saturating_add(b) < extent => {
                    (begin[axis], sizes[axis]) = (a as usize, (extent - a - b) as usize);
                }
                _ => return self.err(key, format!("{v:?} does not cut an extent of {extent}"), ""),
            }
        }
        let kind = Kind::Slice { begin, stride: vec![1; ty.rank()], sizes: sizes.clone() };
        self.one(kind, vec![x], TensorType::new(ty.dtype, sizes))
    }

    /// A slice that walks backwards.
    pub(super) fn reverse(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let axes = self.axes("axes", ty.rank())?;
        let (mut begin, mut stride) = (vec![0; ty.rank()], vec![1; ty.rank()]);
        for axis in axes {
            (begin[axis], stride[axis]) = (ty.shape[axis].saturating_sub(1), -1);
        }
        self.one(Kind::Slice { begin, stride, sizes: ty.shape.clone() }, vec![x], ty.clone())
    }

    /// A reshape to two axes: those before `axis`, and the others.
    pub(super) fn flatten2d(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let (axis, rank) = (self.int("axis")?.unwrap_or(1), ty.rank() as i64);
        let at = if axis < 0 { axis.saturating_add(rank) } else { axis };
        if !(0..=rank).contains(&at) {
            return self.err("axis", format!("axis {axis} is outside a tensor of rank {rank}"), "");
        }
        let count = |part: &[usize]| part.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        let (before, after) = ty.shape.split_at(at as usize);
        let shape = [count(before), count(after)];
        self.one(Kind::Reshape, vec![x], TensorType::new(ty.dtype, shape))
    }
}
