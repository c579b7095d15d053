//! Other shapes, parts, joins and padding.

use super::{Kind, MAX_ATTRIBUTE, Operand, PadMode, Reader, Resolved, Result1};
use crate::ir::Arg;
use crate::types::TensorType;

impl<'f> Reader<'f> {
    /// A reshape to the shape that is there.
    pub(super) fn identity(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        self.one(Kind::Reshape, vec![x], ty.clone())
    }

    pub(super) fn reshape(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let wanted = self.ints("shape")?.unwrap_or_default();
        let known = wanted
            .iter()
            .filter(|&&n| n != -1)
            .try_fold(1usize, |product, &n| product.checked_mul(usize::try_from(n).ok()?));
        let holes = wanted.iter().filter(|&&n| n == -1).count();
        let count = ty.count();
        let fits = match known {
            Some(known) if holes == 0 => known == count,
            Some(known) => holes == 1 && known > 0 && count % known == 0,
            None => false,
        };
        if !fits {
            return self.err(
                "shape",
                format!("{count} elements of {ty} do not fill {wanted:?}"),
                "the product of the extents must stay the same; one extent may be -1",
            );
        }
        let hole = known.filter(|&k| k > 0).map_or(0, |k| count / k);
        let shape: Vec<usize> =
            wanted.iter().map(|&n| if n == -1 { hole } else { n as usize }).collect();
        self.one(Kind::Reshape, vec![x], TensorType::new(ty.dtype, shape))
    }

    pub(super) fn transpose(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let written = self.ints("perm")?.unwrap_or_default();
        let perm: Vec<usize> = written
            .iter()
            .map(|&axis| self.axis_of("perm", axis, ty.rank()))
            .collect::<Result1<_>>()?;
        if perm.len() != ty.rank() || (0..ty.rank()).any(|axis| !perm.contains(&axis)) {
            return self.err(
                "perm",
                format!("{written:?} is not an order of {} axes", ty.rank()),
                "name every axis once",
            );
        }
        let shape: Vec<usize> = perm.iter().map(|&axis| ty.shape[axis]).collect();
        self.one(Kind::Transpose { perm }, vec![x], TensorType::new(ty.dtype, shape))
    }

    pub(super) fn expand_dims(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let written = self.ints("axes")?.unwrap_or_default();
        if written.len() > 8 {
            return self.err("axes", format!("{} new axes are too many", written.len()), "");
        }
        let axes = self.axes("axes", ty.rank() + written.len())?;
        let mut old = ty.shape.iter();
        let shape: Vec<usize> = (0..ty.rank() + axes.len())
            .map(|i| if axes.contains(&i) { 1 } else { *old.next().expect("ranks add up") })
            .collect();
        self.one(Kind::Reshape, vec![x], TensorType::new(ty.dtype, shape))
    }

    pub(super) fn squeeze(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let axes = match self.op.arg("axes") {
            Some(_) => self.axes("axes", ty.rank())?,
            None => (0..ty.rank()).filter(|&i| ty.shape[i] == 1).collect(),
        };
        if let Some(&axis) = axes.iter().find(|&&axis| ty.shape[axis] != 1) {
            return self.err("axes", format!("axis {axis} has extent {}", ty.shape[axis]), "");
        }
        let shape: Vec<usize> =
            (0..ty.rank()).filter(|i| !axes.contains(i)).map(|i| ty.shape[i]).collect();
        self.one(Kind::Reshape, vec![x], TensorType::new(ty.dtype, shape))
    }

    pub(super) fn slice_by_size(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let begin = self.ints("begin")?.unwrap_or_default();
        let size = self.ints("size")?.unwrap_or_default();
        if begin.len() != ty.rank() || size.len() != ty.rank() {
            return self.err("begin", format!("begin and size need {} entries", ty.rank()), "");
        }
        let mut starts = Vec::with_capacity(ty.rank());
        let mut sizes = Vec::with_capacity(ty.rank());
        for axis in 0..ty.rank() {
            let extent = ty.shape[axis] as i64;
            let start =
                if begin[axis] < 0 { begin[axis].saturating_add(extent) } else { begin[axis] };
            let n = if size[axis] == -1 { extent.saturating_sub(start) } else { size[axis] };
            if start < 0 || n < 1 || start.checked_add(n).is_none_or(|end| end > extent) {
                return self.err(
                    "size",
                    format!("axis {axis}: {n} from {start} is outside an extent of {extent}"),
                    "",
                );
            }
            starts.push(start as usize);
            sizes.push(n as usize);
        }
        let kind = Kind::Slice { begin: starts, stride: vec![1; ty.rank()], sizes: sizes.clone() };
        self.one(kind, vec![x], TensorType::new(ty.dtype, sizes))
    }

    pub(super) fn slice_by_index(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let rank = ty.rank();
        let begin = self.ints("begin")?.unwrap_or_default();
        let end = self.ints("end")?.unwrap_or_default();
        let stride = self.ints("stride")?.unwrap_or_else(|| vec![1; rank]);
        if begin.len() != rank || end.len() != rank || stride.len() != rank {
            return self.err("begin", format!("begin, end and stride need {rank} entries"), "");
        }
        let begin_mask = self.bools("begin_mask", rank)?;
        let end_mask = self.bools("end_mask", rank)?;
        let squeeze = self.bools("squeeze_mask", rank)?;
        let (mut starts, mut sizes, mut shape) = (vec![], vec![], vec![]);
        for axis in 0..rank {
            let extent = ty.shape[axis] as i64;
            let step = stride[axis];
            if step == 0 || step == i64::MIN {
                return self.err("stride", format!("axis {axis}: stride {step}"), "use 1");
            }
            let wrap = |i: i64| if i < 0 { i.saturating_add(extent) } else { i };
            // NumPy's clamping: forward slices live in [0, n], backward ones in [-1, n-1].
            let (lo, hi) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
            let from = match begin_mask[axis] {
                true => {
                    if step > 0 {
                        0
                    } else {
                        extent - 1
                    }
                }
                false => wrap(begin[axis]).clamp(lo, hi),
            };
            let (from, to) = if squeeze[axis] {
                (wrap(begin[axis]), wrap(begin[axis]).saturating_add(step.signum()))
            } else if end_mask[axis] {
                (from, if step > 0 { extent } else { -1 })
            } else {
                (from, wrap(end[axis]).clamp(lo, hi))
            };
            let span = if step > 0 { to - from } else { from - to };
            let n = if squeeze[axis] {
                1
            } else {
                span.saturating_add(step.abs() - 1).div_euclid(step.abs())
            };
            if n < 1 || from < 0 || from >= extent {
                return self.err(
                    "begin",
                    format!("axis {axis}: the slice {from}:{to}:{step} of {extent} is empty"),
                    "zero-sized tensors are not allowed",
                );
            }
            starts.push(from as usize);
            sizes.push(n as usize);
            if !squeeze[axis] {
                shape.push(n as usize);
            }
        }
        let kind = Kind::Slice { begin: starts, stride, sizes };
        self.one(kind, vec![x], TensorType::new(ty.dtype, shape))
    }

    /// Values of one element type and rank.
    fn values(&self) -> Result1<(Vec<Operand<'f>>, Vec<&'f TensorType>)> {
        let (inputs, types) = self.tuple()?;
        for ty in &types[1..] {
            self.same_dtype("values", types[0], ty)?;
            if ty.rank() != types[0].rank() {
                return self.err("values", format!("{ty} and {} differ in rank", types[0]), "");
            }
        }
        Ok((inputs, types))
    }

    pub(super) fn tuple(&self) -> Result1<(Vec<Operand<'f>>, Vec<&'f TensorType>)> {
        let Some(Arg::Values(ids)) = self.op.arg("values") else {
            return self.err("values", "expected a tuple of values (a, b)", "");
        };
        if ids.is_empty() {
            return self.err("values", "needs at least one value", "");
        }
        let types = ids.iter().map(|&id| self.f.ty(id)).collect();
        Ok((ids.iter().map(|&id| Operand::Value(id)).collect(), types))
    }

    pub(super) fn concat(&self) -> Result1<Resolved<'f>> {
        let (inputs, types) = self.values()?;
        let axis = self.axis("axis", types[0].rank())?;
        let interleave = self.bool("interleave")?;
        let mut shape = types[0].shape.clone();
        for ty in &types[1..] {
            let fits =
                (0..ty.rank()).all(|i| ty.shape[i] == shape[i] || (i == axis && !interleave));
            if !fits {
                return self.err(
                    "values",
                    format!("{ty} does not join with {} along axis {axis}", types[0]),
                    "all other extents must be equal (all of them when interleaving)",
                );
            }
        }
        shape[axis] = types.iter().fold(0usize, |n, ty| n.saturating_add(ty.shape[axis]));
        let ty = TensorType::new(types[0].dtype, shape);
        self.one(Kind::Concat { axis, interleave }, inputs, ty)
    }

    pub(super) fn split(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let axis = self.axis("axis", ty.rank())?;
        let extent = ty.shape[axis];
        let sizes: Vec<usize> = match (self.ints("split_sizes")?, self.int("num_splits")?) {
            (Some(sizes), _) => {
                if sizes.iter().any(|&n| n < 1) {
                    return self.err("split_sizes", format!("{sizes:?} must be positive"), "");
                }
                sizes.iter().map(|&n| n as usize).collect()
            }
            (None, Some(n)) if n > MAX_ATTRIBUTE as i64 => {
                return self.err("num_splits", format!("{n} pieces are too many"), "");
            }
            (None, Some(n)) if n >= 1 && extent % n as usize == 0 => {
                vec![extent / n as usize; n as usize]
            }
            (None, Some(n)) => {
                return self.err("num_splits", format!("{extent} is not divisible by {n}"), "");
            }
            (None, None) => return self.err("num_splits", "is missing", "or give split_sizes"),
        };
        let total = sizes.iter().fold(0usize, |a, &b| a.saturating_add(b));
        if total != extent || extent == 0 {
            return self.err("split_sizes", format!("{sizes:?} do not add up to {extent}"), "");
        }
        let results = sizes
            .iter()
            .map(|&n| {
                let mut shape = ty.shape.clone();
                shape[axis] = n;
                TensorType::new(ty.dtype, shape)
            })
            .collect();
        Ok(Resolved { kind: Kind::Split { axis, sizes }, inputs: vec![x], results })
    }

    pub(super) fn stack(&self) -> Result1<Resolved<'f>> {
        let (inputs, types) = self.values()?;
        if types.iter().any(|ty| ty.shape != types[0].shape) {
            return self.err("values", "all shapes must be equal", "use concat to join extents");
        }
        let axis = self.axis("axis", types[0].rank() + 1)?;
        let mut shape = types[0].shape.clone();
        shape.insert(axis, types.len());
        self.one(Kind::Stack { axis }, inputs, TensorType::new(types[0].dtype, shape))
    }

    pub(super) fn tile(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let reps = self.ints("reps")?.unwrap_or_default();
        if reps.len() != ty.rank() || reps.iter().any(|&n| !(1..=i32::MAX as i64).contains(&n)) {
            return self.err("reps", format!("expected {} positive integers", ty.rank()), "");
        }
        let reps: Vec<usize> = reps.iter().map(|&n| n as usize).collect();
        let shape: Vec<usize> =
            ty.shape.iter().zip(&reps).map(|(&a, &b)| a.saturating_mul(b)).collect();
        self.one(Kind::Tile { reps }, vec![x], TensorType::new(ty.dtype, shape))
    }

    pub(super) fn pad(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.tensor("x")?;
        let v = self.ints("pad")?.unwrap_or_default();
        let fits = v.len() % 2 == 0 && v.len() <= 2 * ty.rank();
        if !fits || v.iter().any(|&n| !(0..=i32::MAX as i64).contains(&n)) {
            return self.err(
                "pad",
                format!("{v:?} does not fit rank {}", ty.rank()),
                "two integers ≥ 0 per axis, for the last axes",
            );
        }
        let mut pads = vec![(0, 0); ty.rank() - v.len() / 2];
        pads.extend(v.chunks(2).map(|p| (p[0] as usize, p[1] as usize)));
        let mode = match self.text("mode")?.unwrap_or("constant") {
            "constant" => PadMode::Constant(self.float("constant_val", 0.0)?),
            "reflect" => PadMode::Reflect,
            "replicate" => PadMode::Replicate,
            other => {
                return self.err(
                    "mode",
                    format!("unknown mode `{other}`"),
                    "use constant, reflect or replicate",
                );
            }
        };
        for (axis, &(before, after)) in pads.iter().enumerate() {
            if mode == PadMode::Reflect && before.max(after) >= ty.shape[axis].max(1) {
                return self.err(
                    "pad",
                    format!(
                        "axis {axis}: cannot mirror {} of {}",
                        before.max(after),
                        ty.shape[axis]
                    ),
                    "",
                );
            }
        }
        let shape: Vec<usize> = (ty.shape.iter().zip(&pads))
            .map(|(&n, &(a, b))| n.saturating_add(a).saturating_add(b))
            .collect();
        self.one(Kind::Pad { pads, mode }, vec![x], TensorType::new(ty.dtype, shape))
    }
}
