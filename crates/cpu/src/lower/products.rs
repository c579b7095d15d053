//! Lowering of products and convolutions.

use super::Lowering;
use crate::gemm;
use crate::plan::*;
use mil::interp::each_index;
use mil::{Kind, ValueId};

impl Lowering<'_> {
    /// A view whose last two strides are not negative (matrix products need that).
    fn matrix(&mut self, id: ValueId) -> View {
        let view = self.view(id);
        if view.strides.iter().any(|&s| s < 0) { self.contiguous(id) } else { view }
    }

    pub(super) fn matmul(&mut self, x: ValueId, tx: bool, y: ValueId, ty: bool, result: ValueId) {
        let (a, b) = (self.matrix(x), self.matrix(y));
        let out = self.f.ty(result).shape.clone();
        let rank = out.len();
        let last = |v: &View, swap: bool| {
            let r = v.shape.len();
            let (rs, cs) = (v.strides[r - 2] as usize, v.strides[r - 1] as usize);
            if swap { (cs, rs) } else { (rs, cs) }
        };
        let k = if tx { a.shape[a.shape.len() - 2] } else { a.shape[a.shape.len() - 1] };
        let view = self.product_layout(result);
        let (rs_c, cs_c) = (view.strides[rank - 2] as usize, view.strides[rank - 1] as usize);
        let lead = |v: &View| {
            let head = View {
                shape: v.shape[..v.shape.len() - 2].to_vec(),
                strides: v.strides[..v.shape.len() - 2].to_vec(),
                ..v.clone()
            };
            head.broadcast(&out[..rank - 2])
        };
        let (la, lb, lc) = (lead(&a), lead(&b), view.strides[..rank - 2].to_vec());
        let mut batch = vec![];
        each_index(&out[..rank - 2], |index| {
            let at = |strides: &[isize], offset: usize| {
                offset + index.iter().zip(strides).map(|(&i, &s)| i * s as usize).sum::<usize>()
            };
            batch.push(gemm::Offsets { a: at(&la, a.offset), b: at(&lb, b.offset), c: at(&lc, 0) });
        });
        self.steps.push(Step::Product(Product {
            a: a.buffer,
            a_strides: last(&a, tx),
            b: b.buffer,
            b_strides: last(&b, ty),
            shape: gemm::Shape { m: out[rank - 2], n: out[rank - 1], k, rs_c, cs_c },
            batch,
            rounding: self.rounding(self.f.ty(result)),
            saturates: true,
            output: view.buffer,
        }));
        self.views.insert(result, view);
    }

    /// Layout of a product: when all that reads it is one transpose, the transposed value is the
    /// contiguous one, so that what follows needs no copy.
    fn product_layout(&mut self, result: ValueId) -> View {
        let shape = self.f.ty(result).shape.clone();
        if let [only] = self.uses[result.index()][..]
            && !self.f.outputs.contains(&result)
            && let Kind::Transpose { perm } = &self.resolved[only].kind
        {
            let natural = row_major(&self.resolved[only].results[0].shape);
            let mut strides = vec![0; shape.len()];
            perm.iter().enumerate().for_each(|(i, &axis)| strides[axis] = natural[i]);
            // A product writes its rows or its columns contiguously.
            if strides[shape.len() - 2..].contains(&1) {
                let buffer = self.destination(self.f.ops[only].results[0]);
                return View { buffer, offset: 0, shape, strides };
            }
        }
        let buffer = self.destination(result);
        View::contiguous(buffer, &shape)
    }

    pub(super) fn conv(
        &mut self,
        inputs: &[ValueId],
        result: ValueId,
        geometry: mil::resolve::ConvGeometry,
        transposed: bool,
    ) {
        let views: Vec<View> = inputs.iter().map(|&id| self.contiguous(id)).collect();
        let y_shape = self.f.ty(result).shape.clone();
        let rounding = self.rounding(self.f.ty(result));
        let (x, w) = (&views[0], &views[1]);
        let pointwise = !transposed
            && geometry.groups == 1
            && w.shape[2..].iter().all(|&n| n == 1)
            && geometry.strides.iter().all(|&n| n == 1)
            && geometry.pads.iter().all(|&p| p == (0, 0))
            && views.len() == 2;
        let output = self.define(result);
        if pointwise {
            let (m, k) = (w.shape[0], w.shape[1]);
            let n: usize = x.shape[2..].iter().product();
            let batch = (0..x.shape[0])
                .map(|i| gemm::Offsets { a: 0, b: i * k * n, c: i * m * n })
                .collect();
            self.steps.push(Step::Product(Product {
                a: w.buffer,
                a_strides: (k, 1),
                b: x.buffer,
                b_strides: (n, 1),
                shape: gemm::Shape { m, n, k, rs_c: n, cs_c: 1 },
                batch,
                rounding,
                saturates: k > 1,
                output,
            }));
            return;
        }
        self.steps.push(Step::Convolution(Convolution {
            x: x.buffer,
            weight: w.buffer,
            bias: views.get(2).map(|b| b.buffer),
            x_shape: x.shape.clone(),
            weight_shape: w.shape.clone(),
            y_shape,
            geometry,
            transposed,
            rounding,
            output,
        }));
    }
}
