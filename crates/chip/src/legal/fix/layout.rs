//! Rewrites of operations that move elements.

use super::form::{At, OpFix, exact, input};
use crate::legal::context::{Scope, Site};
use mil::resolve::PadMode;
use mil::{Arg, Kind, Literal, Op, Rewrite, Tensor, TensorType};

pub(super) const FIXES: &[OpFix] = &[
    OpFix { rule: "ANE010", bound: exact, write: skip_reshape },
    OpFix { rule: "ANE061", bound: exact, write: join_padding },
    OpFix { rule: "ANE062", bound: exact, write: along_channels },
    OpFix { rule: "ANE064", bound: exact, write: along_channels },
    OpFix { rule: "ANE065", bound: exact, write: positive_axis },
    OpFix { rule: "ANE066", bound: exact, write: times_one },
    OpFix { rule: "ANE068", bound: exact, write: first_of_five },
];

/// Elements of padding that may be written into the text as a constant.
const MAX_PADDING: usize = 1 << 16;

/// The reshapes that read what a reshape gives.
pub(super) fn reshapes_after(scope: &Scope<'_>, site: &Site<'_>) -> Vec<usize> {
    let reshape = |s: &Site<'_>| matches!(s.kind(), Kind::Reshape);
    let users: Vec<_> = scope.after(site).collect();
    let all = reshape(site) && !users.is_empty() && users.iter().all(|s| reshape(s));
    if all { users.iter().map(|s| s.index).collect() } else { vec![] }
}

/// A product by 1 for an identity.
fn times_one<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let x = input(w, &at, 0)?;
    x.dtype().is_float().then(|| vec![x * 1.0])
}

/// The first of five, or of all there are if they are fewer and not three or four themselves.
fn first_of_five<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let Kind::TopK { axis, .. } = at.site.kind() else { return None };
    if at.scope.inputs(at.site)[0].shape[*axis] < 5 {
        return None;
    }
    let mut args = w.args(at.site.op);
    args.retain(|(key, _)| *key != "k");
    args.push(("k", Arg::Value(w.builder().constant(Literal::int(5)).id())));
    let more = w.builder().op(Op::TopK, args);
    let k = at.site.resolved.results[0].shape[*axis];
    Some(more.into_iter().map(|t| t.narrow(*axis, 0, k)).collect())
}

/// A reshape of what another reshape was given.
fn skip_reshape<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let before = at.scope.before(at.site).find(|s| matches!(s.kind(), Kind::Reshape))?;
    let x = input(w, &At { scope: at.scope, site: before }, 0)?;
    let shape = &at.site.resolved.results[0].shape;
    // Of the shape that is there already, a reshape all the same, so that there is an operation.
    let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    let shape = w.builder().constant(Literal::ints(&shape));
    let args = vec![("x", Arg::Value(x.id())), ("shape", Arg::Value(shape.id()))];
    Some(w.builder().op(Op::Reshape, args))
}

/// Padding before the last two axes as a concat with constants; the rest stays a pad.
fn join_padding<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let Kind::Pad { pads, mode: PadMode::Constant(value) } = at.site.kind() else { return None };
    let b = w.builder();
    let mut y = input(w, &at, 0)?;
    let outer = pads.len() - 2;
    for (axis, &(before, after)) in pads.iter().enumerate().take(outer) {
        let block = |n: usize| {
            let mut ty = TensorType::new(y.dtype(), y.shape());
            ty.shape[axis] = n;
            let fits = n > 0 && ty.dtype.is_float() && ty.count() <= MAX_PADDING;
            fits.then(|| b.constant(Literal::floats(ty.clone(), &vec![*value; ty.count()])))
        };
        let (first, last) = (block(before), block(after));
        if (before > 0 && first.is_none()) || (after > 0 && last.is_none()) {
            return None;
        }
        let parts: Vec<Tensor<'b>> = first.into_iter().chain([y]).chain(last).collect();
        if parts.len() > 1 {
            y = b.concat(axis, &parts);
        }
    }
    if pads[outer..].iter().any(|&p| p != (0, 0)) {
        let inner: Vec<i64> =
            pads[outer..].iter().flat_map(|&(a, b)| [a as i64, b as i64]).collect();
        y = padded(w, y, &inner, *value);
    }
    Some(vec![y])
}

/// Padding of the last axes with a constant.
pub(super) fn padded<'b>(
    w: &Rewrite<'b, '_>,
    x: Tensor<'b>,
    pads: &[i64],
    value: f64,
) -> Tensor<'b> {
    let b = w.builder();
    let argument = |key, literal| (key, Arg::Value(b.constant(literal).id()));
    let args = vec![
        ("x", Arg::Value(x.id())),
        argument("pad", Literal::ints(pads)),
        argument("mode", Literal::string("constant")),
        argument("constant_val", Literal::float(x.dtype(), value)),
    ];
    b.op(Op::Pad, args)[0]
}

/// A cut or join of the last axis, done along the channels between two transpositions.
fn along_channels<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let rank = at.scope.inputs(at.site).first()?.rank();
    let last = rank.checked_sub(1)?;
    let channels = if rank >= 4 { 1 } else { 0 };
    if rank < 2 || at.scope.inputs(at.site).iter().any(|ty| ty.rank() != rank) {
        return None;
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(channels, last);
    let b = w.builder();
    match at.site.kind() {
        Kind::Slice { begin, stride, sizes } => {
            // What is cut of the other axes is cut first.
            let mut x = input(w, &at, 0)?;
            let whole = x.shape();
            let one = |i: usize| {
                if i == last { (0, 1, whole[i]) } else { (begin[i], stride[i], sizes[i]) }
            };
            if (0..last).any(|i| sizes[i] != whole[i]) {
                x = stepped(w, x, &(0..rank).map(one).collect::<Vec<_>>())?;
            }
            let turned = x.transpose(&perm);
            let mut cut: Vec<_> = turned.shape().iter().map(|&n| (0, 1, n)).collect();
            cut[channels] = (begin[last], stride[last], sizes[last]);
            let y = stepped(w, turned, &cut)?.transpose(&perm);
            Some(vec![y.reshape(&at.site.resolved.results[0].shape)])
        }
        Kind::Split { sizes, .. } => {
            let x = input(w, &at, 0)?.transpose(&perm);
            let sizes: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
            let argument = |key, literal| (key, Arg::Value(b.constant(literal).id()));
            let args = vec![
                ("x", Arg::Value(x.id())),
                argument("split_sizes", Literal::ints(&sizes)),
                argument("axis", Literal::int(channels as i64)),
            ];
            Some(b.op(Op::Split, args).into_iter().map(|y| y.transpose(&perm)).collect())
        }
        Kind::Concat { interleave: false, .. } => {
            let parts: Option<Vec<Tensor<'b>>> = (0..at.site.resolved.inputs.len())
                .map(|i| Some(input(w, &at, i)?.transpose(&perm)))
                .collect();
            Some(vec![b.concat(channels, &parts?).transpose(&perm)])
        }
        _ => None,
    }
}

/// A slice by (begin, step, size) of every axis, all of them forwards.
fn stepped<'b>(
    w: &Rewrite<'b, '_>,
    x: Tensor<'b>,
    axes: &[(usize, i64, usize)],
) -> Option<Tensor<'b>> {
    if axes.iter().any(|&(_, step, _)| step < 1) {
        return None;
    }
    if axes.iter().all(|&(_, step, _)| step == 1) {
        let begin: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
        let size: Vec<usize> = axes.iter().map(|axis| axis.2).collect();
        return Some(x.slice(&begin, &size));
    }
    let b = w.builder();
    let ints = |key, of: &dyn Fn(&(usize, i64, usize)) -> i64| {
        let v: Vec<i64> = axes.iter().map(of).collect();
        (key, Arg::Value(b.constant(Literal::ints(&v)).id()))
    };
    let args = vec![
        ("x", Arg::Value(x.id())),
        ints("begin", &|axis| axis.0 as i64),
        ints("end", &|axis| axis.0 as i64 + (axis.2 as i64 - 1) * axis.1 + 1),
        ints("stride", &|axis| axis.1),
    ];
    Some(b.op(Op::SliceByIndex, args)[0])
}

fn positive_axis<'b>(w: &mut Rewrite<'b, '_>, at: At<'_, '_>) -> Option<Vec<Tensor<'b>>> {
    let Kind::Concat { axis, .. } = at.site.kind() else { return None };
    let b = w.builder();
    let axis = b.constant(Literal::int(*axis as i64));
    let mut args = w.args(at.site.op);
    let written = args.iter_mut().find(|(key, _)| *key == "axis")?;
    written.1 = Arg::Value(axis.id());
    Some(b.op(Op::Concat, args))
}
