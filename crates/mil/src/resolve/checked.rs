//! Operations whose shapes are known and that are not executed here.

use super::{Kind, Reader, Resolved, Result1};
use crate::types::{DType, TensorType};

impl<'f> Reader<'f> {
    fn extent(&self, key: &str) -> Result1<usize> {
        match self.int(key)? {
            Some(n) if (1..=i32::MAX as i64).contains(&n) => Ok(n as usize),
            n => self.err(key, format!("expected a positive integer, got {n:?}"), ""),
        }
    }

    pub(super) fn affine(&self) -> Result1<Resolved<'f>> {
        let (x, ty) = self.float_input("x")?;
        let (matrix, tm) = self.float_input("transform_matrix")?;
        self.same_dtype("transform_matrix", ty, tm)?;
        if ty.rank() != 4
            || tm.rank() != 2
            || tm.shape[1] != 6
            || ![1, ty.shape[0]].contains(&tm.shape[0])
        {
            let hint = "x is [N, C, H, W], the matrix [N or 1, 6]";
            return self.err("transform_matrix", format!("{tm} does not fit x {ty}"), hint);
        }
        for (key, only) in [
            ("sampling_mode", "bilinear"),
            ("padding_mode", "constant"),
            ("coordinates_mode", "normalized_minus_one_to_one"),
        ] {
            let text = self.text(key)?.unwrap_or_default();
            if !text.eq_ignore_ascii_case(only) {
                return self.err(key, format!("unknown mode `{text}`"), &format!("use {only}"));
            }
        }
        if self.float("padding_value", 0.0)? != 0.0 {
            return self.err("padding_value", "only zeros are defined", "write 0");
        }
        self.bool("align_corners")?;
        let mut shape = ty.shape.clone();
        (shape[2], shape[3]) = (self.extent("output_height")?, self.extent("output_width")?);
        self.one(Kind::NotExecuted, vec![x, matrix], TensorType::new(ty.dtype, shape))
    }

    /// With `score_threshold` the form of iOS 15, boxes before coordinates; without it that of iOS 17.
    pub(super) fn non_maximum_suppression(&self) -> Result1<Resolved<'f>> {
        let (boxes, tb) = self.float_input("boxes")?;
        let (scores, ts) = self.float_input("scores")?;
        self.same_dtype("scores", tb, ts)?;
        let early = self.op.arg("score_threshold").is_some();
        let (boxes_last, four) = if early { (1, 2) } else { (2, 1) };
        let fits = tb.rank() == 3
            && ts.rank() == 3
            && tb.shape[0] == ts.shape[0]
            && tb.shape[four] == 4
            && tb.shape[boxes_last] == ts.shape[boxes_last];
        if !fits {
            let hint = "boxes [N, 4, B] and scores [N, K, B]; with score_threshold [N, B, 4] and [N, B, K]";
            return self.err("boxes", format!("boxes {tb} and scores {ts} do not fit"), hint);
        }
        self.float("iou_threshold", 0.0)?;
        self.float("score_threshold", 0.0)?;
        self.bool("per_class_suppression")?;
        let most = self.extent("max_boxes")?;
        let kept = |ty: &TensorType| {
            let mut shape = ty.shape.clone();
            shape[boxes_last] = most;
            TensorType::new(ty.dtype, shape)
        };
        let n = tb.shape[0];
        let mut results = vec![kept(tb), kept(ts), TensorType::new(DType::Int32, [n, most])];
        if early {
            results.push(TensorType::new(DType::Int32, [n]));
        }
        Ok(Resolved { kind: Kind::NotExecuted, inputs: vec![boxes, scores], results })
    }
}
