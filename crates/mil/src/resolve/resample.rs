//! Images [.., H, W] in another size.

use super::{Kind, Reader, Resolved, Result1};
use crate::op::Op;
use crate::types::{DType, Data, TensorType};

/// Where the points lie, at which an axis is sampled (the names are coremltools').
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// i·n/m for element i of m, over n.
    Default,
    /// First and last on first and last; a single point on the first.
    StrictAlignCorners,
    /// First and last on first and last; a single point in the middle.
    AlignCorners,
    /// In the middle of m equal parts of [0, n − 1].
    OffsetCorners,
    /// In the middle of m equal parts of [−½, n − ½].
    UnalignCorners,
}

/// How both spatial axes are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resample {
    /// Where.
    pub sampling: Sampling,
    /// Takes the element before the point, in place of a mixture of its neighbours.
    pub nearest: bool,
}

impl Resample {
    /// Element `i` of `m` over an axis of `n`: the elements that are mixed, and how much of the second.
    pub fn neighbours(self, i: usize, m: usize, n: usize) -> (usize, usize, f64) {
        let (at, from, to, last) = (i as f64, n as f64, m as f64, (n.max(1) - 1) as f64);
        if self.nearest {
            let before = (i as u128 * n as u128 / m.max(1) as u128) as usize;
            return (before, before, 0.0);
        }
        let point = match self.sampling {
            Sampling::Default => at * from / to,
            Sampling::AlignCorners if m == 1 => last / 2.0,
            Sampling::AlignCorners | Sampling::StrictAlignCorners if m == 1 => 0.0,
            Sampling::AlignCorners | Sampling::StrictAlignCorners => at * last / (to - 1.0),
            Sampling::OffsetCorners => (at + 0.5) * last.max(1.0) / to,
            Sampling::UnalignCorners => (at + 0.5) * from / to - 0.5,
        };
        let point = point.clamp(0.0, last);
        let before = point.floor();
        let after = (before + 1.0).min(last);
        (before as usize, after as usize, point - before)
    }
}

impl<'f> Reader<'f> {
    fn sampling(&self) -> Result1<Sampling> {
        Ok(match self.text("sampling_mode")?.unwrap_or("DEFAULT") {
            "DEFAULT" => Sampling::Default,
            "STRICT_ALIGN_CORNERS" => Sampling::StrictAlignCorners,
            "ALIGN_CORNERS" => Sampling::AlignCorners,
            "OFFSET_CORNERS" => Sampling::OffsetCorners,
            "UNALIGN_CORNERS" => Sampling::UnalignCorners,
            other => {
                return self.err(
                    "sampling_mode",
                    format!("unknown mode `{other}`"),
                    "use DEFAULT, STRICT_ALIGN_CORNERS, ALIGN_CORNERS, OFFSET_CORNERS or \
                     UNALIGN_CORNERS",
                );
            }
        })
    }

    /// ⌊n · factor⌋, in the precision of the factor.
    fn scaled(&self, key: &str, n: usize) -> Result1<usize> {
        let scaled = match self.data(key)? {
            None => return Ok(n),
            Some(Data::Int(v)) if v.len() == 1 && v[0] >= 1 => {
                return Ok(n.saturating_mul(v[0] as usize));
            }
            Some(Data::Fp32(v)) if v.len() == 1 => (v[0] * n as f32).floor(),
            Some(Data::Fp16(v)) if v.len() == 1 => (v[0].to_f32() * n as f32).floor(),
            Some(_) => return self.err(key, "expected a positive number", "write int32(2)"),
        };
        if (1.0..=i32::MAX as f32).contains(&scaled) {
            return Ok(scaled as usize);
        }
        self.err(key, format!("gives an extent of {scaled} from {n}"), "")
    }

    fn target(&self, key: &str) -> Result1<usize> {
        match self.int(key)?.unwrap_or(1) {
            n if (1..=i32::MAX as i64).contains(&n) => Ok(n as usize),
            n => self.err(key, format!("expected a positive integer, got {n}"), ""),
        }
    }

    pub(super) fn resample(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.float_input("x")?;
        let rank = ty.rank();
        if rank < 3 {
            return self.err("x", format!("expected at least 3 axes, got {ty}"), "x is [.., H, W]");
        }
        let size = match self.op.op {
            Op::UpsampleNearestNeighbor | Op::UpsampleBilinear => [
                self.scaled("scale_factor_height", ty.shape[rank - 2])?,
                self.scaled("scale_factor_width", ty.shape[rank - 1])?,
            ],
            _ => [self.target("target_size_height")?, self.target("target_size_width")?],
        };
        let nearest = matches!(self.op.op, Op::UpsampleNearestNeighbor | Op::ResizeNearestNeighbor);
        let sampling = match self.op.op {
            Op::UpsampleBilinear if self.bool_or("align_corners", true)? => {
                Sampling::StrictAlignCorners
            }
            Op::UpsampleBilinear => Sampling::UnalignCorners,
            Op::ResizeBilinear => self.sampling()?,
            _ => Sampling::Default,
        };
        let shape = [&ty.shape[..rank - 2], &size].concat();
        let kind = Kind::Resample(Resample { sampling, nearest });
        self.one(kind, vec![x], TensorType::new(ty.dtype, shape))
    }

    /// The form of iOS 17, of which the last two axes are executed.
    pub(super) fn resize(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        if !ty.dtype.is_float() && ty.dtype != DType::Int32 {
            return self.err("x", format!("expected fp16, fp32 or int32, got {}", ty.dtype), "");
        }
        let wanted = self.ints("shape")?.unwrap_or_default();
        let dims = self.int("resized_dims")?.unwrap_or_default();
        if dims < 0 || dims as u64 > wanted.len() as u64 || wanted.len() > ty.rank() {
            let message = format!("{dims} of {wanted:?} for {ty}");
            return self.err("resized_dims", message, "at most the length of `shape`");
        }
        let mut shape = ty.shape.clone();
        let first = ty.rank() - dims as usize;
        for (extent, &n) in shape[first..].iter_mut().zip(&wanted[wanted.len() - dims as usize..]) {
            match n {
                0 => {}
                1.. => *extent = n as usize,
                _ => return self.err("shape", format!("{wanted:?} has a negative extent"), ""),
            }
        }
        let sampling = self.sampling()?;
        let nearest = match self.text("interpolation_mode")?.unwrap_or("LINEAR") {
            "LINEAR" => false,
            "NEAREST_NEIGHBOR" => true,
            other => {
                let message = format!("unknown mode `{other}`");
                let hint = "use LINEAR or NEAREST_NEIGHBOR";
                return self.err("interpolation_mode", message, hint);
            }
        };
        let spatial = ty.rank().saturating_sub(2);
        let known = ty.rank() >= 3
            && shape[..spatial] == ty.shape[..spatial]
            && ty.dtype.is_float()
            && (!nearest || sampling == Sampling::Default);
        let kind =
            if known { Kind::Resample(Resample { sampling, nearest }) } else { Kind::NotExecuted };
        self.one(kind, vec![x], TensorType::new(ty.dtype, shape))
    }
}
