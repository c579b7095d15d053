//! Steps over images and sequences: resampling, and the largest elements.

use super::{Sinks, World, element, spread, with_registers, with_sink, with_sinks};
use crate::gemm::Elements;
use crate::plan::{Resampling, TopK};
use std::cmp::Ordering;

/// Rows of the result one after the other: each mixes two rows of the input, and in them two columns.
pub(super) fn resampling(s: &Resampling, world: &mut World<'_, '_, '_>) {
    let (columns, rows) = (s.columns.len(), s.rows.len());
    let [height, width] = s.from;
    let count = s.images * rows * columns;
    with_sink(world, s.output, count, |sources, sink| {
        let mut sinks: Sinks<'_> = Default::default();
        sinks[0] = Some(sink);
        spread(count, columns, sinks, &|start, count, mut sinks| {
            let sink = sinks[0].as_mut().expect("one sink");
            let x = sources.get(s.x);
            with_registers(columns, |row| {
                for done in (0..count).step_by(columns) {
                    let line = (start + done) / columns;
                    let (image, (above, below, v)) = (line / rows, s.rows[line % rows]);
                    let at = |h: u32, w: u32| {
                        element(x, (image * height + h as usize) * width + w as usize)
                    };
                    for (r, &(left, right, u)) in row.iter_mut().zip(&s.columns) {
                        let along = |h: u32| mix(at(h, left), at(h, right), u);
                        *r = mix(along(above), along(below), v);
                    }
                    sink.store_rounded(done, row, s.rounding);
                }
            });
        });
    });
}

/// An element without a part in a mixture does not touch it, not even as an infinity.
fn mix(a: f32, b: f32, part: f32) -> f32 {
    if part == 0.0 { a } else { a * (1.0 - part) + b * part }
}

/// Of equal elements the earlier comes first.
pub(super) fn topk(s: &TopK, world: &mut World<'_, '_, '_>) {
    let count = s.outer * s.k * s.inner;
    with_sinks(world, &s.outputs, count, |sources, mut sinks| {
        let x: Elements<'_> = sources.get(s.x);
        let mut order: Vec<(f32, usize)> = Vec::with_capacity(s.n);
        for line in 0..s.outer * s.inner {
            let (outer, inner) = (line / s.inner, line % s.inner);
            order.clear();
            order.extend((0..s.n).map(|i| (element(x, (outer * s.n + i) * s.inner + inner), i)));
            order.sort_by(|a, b| {
                let order = a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal);
                if s.ascending { order } else { order.reverse() }
            });
            for (k, &(value, place)) in order.iter().take(s.k).enumerate() {
                let at = (outer * s.k + k) * s.inner + inner;
                let results = [value, place as f32];
                for (sink, result) in sinks.iter_mut().flatten().zip(results) {
                    sink.store(at, &[result]);
                }
            }
        }
    });
}
