//! Gradients of products, convolutions and attention.

use super::Rule;
use crate::builder::Tensor;
use crate::ir::Arg;
use crate::op::Op;
use crate::resolve::ConvGeometry;
use crate::types::Literal;

impl<'b> Rule<'b> {
    /// C = op(X)·op(Y): dX = dC·op(Y)ᵀ and dY = op(X)ᵀ·dC, transposed once more where X or Y is.
    pub(super) fn matmul(&self, tx: bool, ty: bool, dc: Tensor<'b>) -> Vec<Option<Tensor<'b>>> {
        let (x, y) = (self.x[0], self.x[1]);
        let dx = || if tx { y.matmul(dc, ty, true) } else { dc.matmul(y, false, !ty) };
        let dy = || if ty { dc.matmul(x, true, tx) } else { x.matmul(dc, !tx, false) };
        vec![self.wanted[0].then(dx), self.wanted[1].then(dy)]
    }

    pub(super) fn linear(&self, dy: Tensor<'b>) -> Vec<Option<Tensor<'b>>> {
        let (x, w) = (self.x[0], self.x[1]);
        let (shape, out) = (x.shape(), w.shape()[0]);
        let rows = shape[..shape.len() - 1].iter().product();
        let flat = dy.reshape(&[rows, out]);
        let dw = flat.matmul(x.reshape(&[rows, w.shape()[1]]), true, false);
        let bias = self.x.get(2).map(|b| flat.reduce_sum(&[0]).reshape(&b.shape()));
        vec![Some(flat.matmul(w, false, false).reshape(&shape)), Some(dw), bias]
    }

    fn channel_sum(&self, dy: Tensor<'b>) -> Option<Tensor<'b>> {
        (self.x.len() > 2).then(|| self.sum_to_axis(dy, Some(1)))
    }

    pub(super) fn conv(&self, g: &ConvGeometry, dy: Tensor<'b>) -> Vec<Option<Tensor<'b>>> {
        let (x, w) = (self.x[0], self.x[1]);
        let dx = || {
            // The end padding is left on and the result cut or filled to the extent of x: with a
            // stride that does not divide the extent, the last elements of x were never read.
            let pads = g.pads.iter().map(|&(before, _)| (before, 0)).collect();
            let full = self.convolve(Op::ConvTranspose, dy, w, &ConvGeometry { pads, ..g.clone() });
            let (have, want) = (full.shape(), x.shape());
            let common: Vec<usize> = have.iter().zip(&want).map(|(&a, &b)| a.min(b)).collect();
            let fill: Vec<_> = common.iter().zip(&want).map(|(&a, &b)| (0, b - a)).collect();
            let cut = full.slice(&vec![0; have.len()], &common);
            if common == want { cut } else { cut.pad(&fill) }
        };
        let dw = || self.weight_gradient(x, dy, w, g);
        vec![self.wanted[0].then(dx), self.wanted[1].then(dw), self.channel_sum(dy)]
    }

    pub(super) fn conv_transpose(
        &self,
        g: &ConvGeometry,
        dy: Tensor<'b>,
    ) -> Vec<Option<Tensor<'b>>> {
        let (x, w) = (self.x[0], self.x[1]);
        let dx = || self.convolve(Op::Conv, dy, w, g).slice(&vec![0; x.shape().len()], &x.shape());
        let dw = || self.weight_gradient(dy, x, w, g);
        vec![self.wanted[0].then(dx), self.wanted[1].then(dw), self.channel_sum(dy)]
    }

    fn convolve(&self, op: Op, x: Tensor<'b>, w: Tensor<'b>, g: &ConvGeometry) -> Tensor<'b> {
        let ints = |v: Vec<usize>| Literal::ints(&v.iter().map(|&n| n as i64).collect::<Vec<_>>());
        let pads = g.pads.iter().flat_map(|&(a, b)| [a, b]).collect();
        let mut args = vec![("x", Arg::Value(x.id())), ("weight", Arg::Value(w.id()))];
        let mut attr = |key, literal| args.push((key, Arg::Value(self.b.constant(literal).id())));
        attr("pad", ints(pads));
        attr("pad_type", Literal::string("custom"));
        attr("strides", ints(g.strides.clone()));
        attr("dilations", ints(g.dilations.clone()));
        attr("groups", Literal::int(g.groups as i64));
        self.b.op(op, args)[0]
    }

    /// Gradient of a convolution's weight, [small channels, large channels / groups, kernel]:
    /// the large side convolved with the small side, batch and channels swapped, strides and
    /// dilations swapped.
    fn weight_gradient(
        &self,
        large: Tensor<'b>,
        small: Tensor<'b>,
        w: Tensor<'b>,
        g: &ConvGeometry,
    ) -> Tensor<'b> {
        let swapped = ConvGeometry {
            strides: g.dilations.clone(),
            dilations: g.strides.clone(),
            pads: g.pads.clone(),
            groups: 1,
        };
        let rank = w.shape().len();
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(0, 1);
        let (cl, cs) = (large.shape()[1] / g.groups, small.shape()[1] / g.groups);
        let parts: Vec<_> = (0..g.groups)
            .map(|i| {
                let l = large.narrow(1, i * cl, cl).transpose(&perm);
                let s = small.narrow(1, i * cs, cs).transpose(&perm);
                let full = self.convolve(Op::Conv, l, s, &swapped);
                let mut size = full.shape();
                size[2..].copy_from_slice(&w.shape()[2..]);
                full.slice(&vec![0; rank], &size).transpose(&perm)
            })
            .collect();
        if parts.len() == 1 { parts[0] } else { self.b.concat(0, &parts) }
    }

    pub(super) fn attention(&self, bool_mask: bool, dy: Tensor<'b>) -> Vec<Option<Tensor<'b>>> {
        let (q, k, v) = (self.x[0], self.x[1], self.x[2]);
        let e = *q.shape().last().expect("rank was checked") as f64;
        let scale = 1.0 / e.sqrt();
        let scores = q.matmul(k, false, true) * scale;
        let masked = match self.x.get(3) {
            Some(mask) if bool_mask => self.b.select(*mask, scores, self.scalar(q, -30000.0)),
            Some(mask) => scores + *mask,
            None => scores,
        };
        let probs = masked.softmax(-1);
        let dv = probs.matmul(dy, true, false);
        let dp = dy.matmul(v, false, true);
        let last = probs.shape().len() - 1;
        let dmasked = probs * (dp - (probs * dp).reduce_sum(&[last]));
        let ds = dmasked * scale;
        let mask = (self.x.len() > 3 && !bool_mask).then_some(dmasked);
        vec![Some(ds.matmul(k, false, false)), Some(ds.matmul(q, true, false)), Some(dv), mask]
    }
}
