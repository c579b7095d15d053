//! Products, convolutions and attention.

use super::{ConvGeometry, Kind, Operand, Reader, Resolved, Result1, broadcast};
use crate::types::{DType, TensorType};

impl<'f> Reader<'f> {
    pub(super) fn matmul(&self) -> Result1<Resolved<'f>> {
        let (x, tx) = self.float_input("x")?;
        let (y, ty) = self.float_input("y")?;
        self.same_dtype("y", tx, ty)?;
        if tx.rank() < 2 || ty.rank() < 2 {
            return self.err("x", "both sides need at least two axes", "use expand_dims");
        }
        let (transpose_x, transpose_y) = (self.bool("transpose_x")?, self.bool("transpose_y")?);
        let (mut m, mut k) = (tx.shape[tx.rank() - 2], tx.shape[tx.rank() - 1]);
        let (mut ky, mut n) = (ty.shape[ty.rank() - 2], ty.shape[ty.rank() - 1]);
        if transpose_x {
            std::mem::swap(&mut m, &mut k);
        }
        if transpose_y {
            std::mem::swap(&mut ky, &mut n);
        }
        if k != ky {
            return self.err(
                "y",
                format!("inner extents differ: {m}×{k} by {ky}×{n}"),
                "check transpose_x and transpose_y",
            );
        }
        let (bx, by) = (&tx.shape[..tx.rank() - 2], &ty.shape[..ty.rank() - 2]);
        let Some(mut shape) = broadcast(bx, by) else {
            return self.err("y", format!("batch axes {by:?} do not broadcast with {bx:?}"), "");
        };
        shape.extend([m, n]);
        self.one(
            Kind::Matmul { transpose_x, transpose_y },
            vec![x, y],
            TensorType::new(tx.dtype, shape),
        )
    }

    /// The bias, checked to be a vector of `n` (a scalar when n is 1 is refused too).
    fn bias(&self, dtype: DType, n: usize) -> Result1<Option<Operand<'f>>> {
        let Some((bias, ty)) = self.optional("bias") else { return Ok(None) };
        if *ty != TensorType::new(dtype, [n]) {
            return self.err("bias", format!("expected tensor<{dtype}, [{n}]>, got {ty}"), "");
        }
        Ok(Some(bias))
    }

    pub(super) fn linear(&self) -> Result1<Resolved<'f>> {
        let (x, tx) = self.float_input("x")?;
        let (w, tw) = self.float_input("weight")?;
        self.same_dtype("weight", tx, tw)?;
        if tx.rank() == 0 || tw.rank() != 2 || tx.shape[tx.rank() - 1] != tw.shape[1] {
            return self.err(
                "weight",
                format!("weight {tw} does not fit x {tx}"),
                "the weight is [out, in] and x ends with `in`",
            );
        }
        let bias = self.bias(tx.dtype, tw.shape[0])?;
        let mut shape = tx.shape.clone();
        *shape.last_mut().expect("rank was checked") = tw.shape[0];
        let inputs = [x, w].into_iter().chain(bias).collect();
        self.one(Kind::Linear, inputs, TensorType::new(tx.dtype, shape))
    }

    /// x and weight of a convolution, with the number of spatial axes (1 or 2).
    #[allow(clippy::type_complexity, reason = "two operands with their types")]
    fn conv_inputs(
        &self,
    ) -> Result1<((Operand<'f>, &'f TensorType), (Operand<'f>, &'f TensorType), usize)> {
        let x = self.float_input("x")?;
        let w = self.float_input("weight")?;
        self.same_dtype("weight", x.1, w.1)?;
        if !(3..=4).contains(&x.1.rank()) || x.1.rank() != w.1.rank() {
            return self.err(
                "weight",
                format!("x {} and weight {} need the same rank, 3 or 4", x.1, w.1),
                "x is [N, C, (H,) W], the weight [O, C/groups, (kH,) kW]",
            );
        }
        Ok((x, w, x.1.rank() - 2))
    }

    pub(super) fn positive(&self, key: &str, spatial: usize) -> Result1<Vec<usize>> {
        let Some(v) = self.ints(key)? else { return Ok(vec![1; spatial]) };
        if v.len() != spatial || v.iter().any(|&n| !(1..=i32::MAX as i64).contains(&n)) {
            return self.err(key, format!("expected {spatial} positive integers, got {v:?}"), "");
        }
        Ok(v.iter().map(|&n| n as usize).collect())
    }

    fn groups(&self) -> Result1<usize> {
        match self.int("groups")?.unwrap_or(1) {
            n if n >= 1 => Ok(n as usize),
            n => self.err("groups", format!("expected a positive integer, got {n}"), ""),
        }
    }

    fn custom_pads(&self, spatial: usize) -> Result1<Vec<(usize, usize)>> {
        let v = self.ints("pad")?.unwrap_or_else(|| vec![0; 2 * spatial]);
        if v.len() != 2 * spatial || v.iter().any(|&n| !(0..=i32::MAX as i64).contains(&n)) {
            return self.err(
                "pad",
                format!("expected {} integers ≥ 0, got {v:?}", 2 * spatial),
                "before and after, per spatial axis",
            );
        }
        Ok(v.chunks(2).map(|p| (p[0] as usize, p[1] as usize)).collect())
    }

    /// Padding before and after the spatial axes, of `extents`, over which windows of `reaches` move.
    pub(super) fn pads(
        &self,
        extents: &[usize],
        reaches: &[usize],
        strides: &[usize],
    ) -> Result1<Vec<(usize, usize)>> {
        let same = |lower: bool| {
            let one = |i: usize| {
                let windows = extents[i].div_ceil(strides[i]).max(1);
                let reach = ((windows - 1) * strides[i]).saturating_add(reaches[i]);
                let total = reach.saturating_sub(extents[i]);
                let small = total / 2;
                if lower { (total - small, small) } else { (small, total - small) }
            };
            (0..extents.len()).map(one).collect()
        };
        match self.text("pad_type")?.unwrap_or("valid") {
            "valid" => Ok(vec![(0, 0); extents.len()]),
            "same" => Ok(same(false)),
            "same_lower" => Ok(same(true)),
            "custom" => self.custom_pads(extents.len()),
            other => self.err(
                "pad_type",
                format!("unknown padding `{other}`"),
                "use valid, same, same_lower or custom",
            ),
        }
    }

    pub(super) fn conv(&self) -> Result1<Resolved<'f>> {
        let ((x, tx), (w, tw), spatial) = self.conv_inputs()?;
        let groups = self.groups()?;
        let (channels, out) = (tx.shape[1], tw.shape[0]);
        if channels % groups != 0 || out % groups != 0 || tw.shape[1] != channels / groups {
            return self.err(
                "weight",
                format!(
                    "{channels} input channels, {groups} groups and weight {tw} do not fit: \
                     input/output channels should be divisible by num group"
                ),
                "the weight is [O, C/groups, (kH,) kW]",
            );
        }
        let strides = self.positive("strides", spatial)?;
        let dilations = self.positive("dilations", spatial)?;
        let kernel = &tw.shape[2..];
        let reach = |i: usize| (kernel[i] - 1).saturating_mul(dilations[i]).saturating_add(1);
        if kernel.contains(&0) {
            return self.err("weight", format!("empty kernel {kernel:?}"), "");
        }
        let reaches: Vec<usize> = (0..spatial).map(reach).collect();
        let pads = self.pads(&tx.shape[2..], &reaches, &strides)?;
        let mut shape = vec![tx.shape[0], out];
        for i in 0..spatial {
            let padded = tx.shape[i + 2].saturating_add(pads[i].0).saturating_add(pads[i].1);
            if padded < reach(i) {
                return self.err(
                    "weight",
                    format!("the kernel reaches over {} but the input has {padded}", reach(i)),
                    "pad the input or use a smaller kernel",
                );
            }
            shape.push((padded - reach(i)) / strides[i] + 1);
        }
        let bias = self.bias(tx.dtype, out)?;
        self.one(
            Kind::Conv(ConvGeometry { strides, pads, dilations, groups }),
            [x, w].into_iter().chain(bias).collect(),
            TensorType::new(tx.dtype, shape),
        )
    }

    pub(super) fn conv_transpose(&self) -> Result1<Resolved<'f>> {
        let ((x, tx), (w, tw), spatial) = self.conv_inputs()?;
        let groups = self.groups()?;
        if tw.shape[0] != tx.shape[1] || tx.shape[1] % groups != 0 || tw.shape[2..].contains(&0) {
            return self.err(
                "weight",
                format!("weight {tw} does not fit x {tx} in {groups} groups"),
                "the weight is [C, O/groups, (kH,) kW]",
            );
        }
        let strides = self.positive("strides", spatial)?;
        let dilations = self.positive("dilations", spatial)?;
        let pads = match self.text("pad_type")?.unwrap_or("valid") {
            "valid" => vec![(0, 0); spatial],
            "custom" => self.custom_pads(spatial)?,
            other => {
                return self.err(
                    "pad_type",
                    format!("`{other}` is not executed here"),
                    "use custom",
                );
            }
        };
        let out = tw.shape[1].saturating_mul(groups);
        let mut shape = vec![tx.shape[0], out];
        for i in 0..spatial {
            let full = (tx.shape[i + 2].max(1) - 1)
                .saturating_mul(strides[i])
                .saturating_add((tw.shape[i + 2] - 1).saturating_mul(dilations[i]))
                .saturating_add(1);
            let cut = pads[i].0.saturating_add(pads[i].1);
            if full <= cut {
                return self.err("pad", format!("{cut} is cut from an extent of {full}"), "");
            }
            shape.push(full - cut);
        }
        self.output_shape(&mut shape, &mut pads.clone(), spatial).and_then(|pads| {
            let bias = self.bias(tx.dtype, out)?;
            self.one(
                Kind::ConvTranspose(ConvGeometry { strides, pads, dilations, groups }),
                [x, w].into_iter().chain(bias).collect(),
                TensorType::new(tx.dtype, shape),
            )
        })
    }

    /// Applies `output_shape`: a larger or smaller extent than the natural one moves the end padding.
    fn output_shape(
        &self,
        shape: &mut [usize],
        pads: &mut [(usize, usize)],
        spatial: usize,
    ) -> Result1<Vec<(usize, usize)>> {
        let Some(wanted) = self.ints("output_shape")? else { return Ok(pads.to_vec()) };
        let wanted = &wanted[wanted.len().saturating_sub(spatial)..];
        for i in 0..wanted.len() {
            let (natural, end) = (shape[i + 2] as i128, pads[i].1 as i128);
            let cut = natural - i128::from(wanted[i]) + end;
            if wanted[i] < 1 || cut < 0 {
                return self.err(
                    "output_shape",
                    format!("extent {} cannot be reached from {natural}", wanted[i]),
                    "it may be at most the natural extent plus the end padding",
                );
            }
            (pads[i].1, shape[i + 2]) = (cut as usize, wanted[i] as usize);
        }
        Ok(pads.to_vec())
    }

    pub(super) fn attention(&self) -> Result1<Resolved<'f>> {
        let (q, tq) = self.float_input("query")?;
        let (k, tk) = self.float_input("key")?;
        let (v, tv) = self.float_input("value")?;
        self.same_dtype("key", tq, tk)?;
        self.same_dtype("value", tq, tv)?;
        let r = tq.rank();
        let fits = r >= 3
            && tk.rank() == r
            && tv.rank() == r
            && tq.shape[..r - 2] == tk.shape[..r - 2]
            && tq.shape[..r - 2] == tv.shape[..r - 2]
            && tq.shape[r - 1] == tk.shape[r - 1]
            && tk.shape[r - 2] == tv.shape[r - 2];
        if !fits {
            return self.err(
                "query",
                format!("query {tq}, key {tk}, value {tv} do not fit"),
                "query [B, …, L, E], key [B, …, S, E], value [B, …, S, EV]",
            );
        }
        let mut shape = tq.shape.clone();
        shape[r - 1] = tv.shape[r - 1];
        let mut inputs = vec![q, k, v];
        let mut bool_mask = false;
        if let Some((mask, tm)) = self.optional("attn_mask") {
            let mut scores = tq.shape.clone();
            scores[r - 1] = tk.shape[r - 2];
            bool_mask = tm.dtype == DType::Bool;
            if !bool_mask {
                self.same_dtype("attn_mask", tq, tm)?;
            }
            if broadcast(&scores, &tm.shape).as_ref() != Some(&scores) {
                return self.err("attn_mask", format!("{tm} does not broadcast to {scores:?}"), "");
            }
            inputs.push(mask);
        }
        self.one(Kind::Attention { bool_mask }, inputs, TensorType::new(tq.dtype, shape))
    }
}
