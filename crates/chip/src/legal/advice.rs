//! Advice on one breach in one program, with its names and numbers.

use super::context::{Scope, Site};
use super::place::Place;
use super::requests::{MAX_PORTS, WIDTH_STEP};
use super::rule::Rule;
use crate::machine::{MAX_CHANNELS, MAX_CONV_CHANNELS, MAX_DEPTH, MAX_PROGRAM_BYTES, MAX_RANK};
use mil::resolve::{Binary, Operand, PadMode, Unary};
use mil::{Arg, DType, Kind, Op, TensorType};

/// Returns a replacement for the code at `place`; empty where only the rule's own advice holds.
pub(super) fn advice(scope: &Scope<'_>, rule: &Rule, place: &Place) -> String {
    let text = match place {
        Place::Operation { index, .. } => (scope.sites.iter())
            .find(|site| site.index == *index)
            .and_then(|site| at_operation(&Words { scope, site }, rule.id))
            .or_else(|| at_value(scope, rule.id, place)),
        Place::Parameter(_) | Place::Output(_) => at_value(scope, rule.id, place),
        Place::Whole => whole(scope, rule.id),
    };
    text.unwrap_or_else(|| rule.instead.to_owned())
}

fn whole(scope: &Scope<'_>, rule: &str) -> Option<String> {
    let f = scope.function;
    Some(match rule {
        "ANE005" => format!(
            "write `program(1.0)` and `func {}<ios16>`, and scalars in the long form, \
             `tensor<int32, []>(1)`",
            f.name
        ),
        "ANE014" => {
            let bytes = super::shapes::constant_bytes(f);
            let parts = bytes / MAX_PROGRAM_BYTES + 1;
            format!("give the weights as inputs, or cut `{}` into {parts} programs", f.name)
        }
        "ANE071" => {
            let names: Vec<_> =
                f.inputs().skip(15).map(|id| format!("`{}`", f.value(id).name)).collect();
            format!(
                "pack {} behind each other along the channels of one input, and cut it with \
                 slice_by_size",
                names.join(", ")
            )
        }
        "ANE072" => {
            let parts = f.params.max(f.outputs.len()).div_ceil(MAX_PORTS);
            format!("cut `{}` into {parts} programs", f.name)
        }
        _ => return None,
    })
}

/// A port or the result of an operation.
fn at_value(scope: &Scope<'_>, rule: &str, place: &Place) -> Option<String> {
    let f = scope.function;
    let name = match place {
        Place::Parameter(name) | Place::Output(name) => name.clone(),
        Place::Operation { index, .. } => {
            f.value(*f.ops.get(*index)?.results.first()?).name.clone()
        }
        Place::Whole => return None,
    };
    let ty = f.ty(f.find(&name)?);
    let half = TensorType::new(DType::Fp16, ty.shape.clone());
    let cut = |axis: usize, limit: usize| {
        let parts = ty.shape[axis].div_ceil(limit);
        format!("cut `{name}` along axis {axis} into {parts} tensors of at most {limit}")
    };
    Some(match rule {
        "ANE010" => {
            let merged = ty.shape.len() - MAX_RANK;
            let first: usize = ty.shape[..=merged].iter().product();
            let shape = [&[first], &ty.shape[merged + 1..]].concat();
            format!("give `{name}` the shape {shape:?}, its first {} axes merged", merged + 1)
        }
        "ANE012" => {
            let limit = scope.generation().max_extent();
            let axis = (0..ty.rank()).rev().take(2).find(|&axis| ty.shape[axis] > limit)?;
            cut(axis, limit)
        }
        "ANE013" => {
            let limit = |axis| if ty.rank() == 5 && axis == 2 { MAX_DEPTH } else { MAX_CHANNELS };
            let axis = (0..ty.rank().saturating_sub(2)).find(|&a| ty.shape[a] > limit(a))?;
            cut(axis, limit(axis))
        }
        "ANE020" | "ANE021" | "ANE022" | "ANE023" => {
            format!("declare `{name}` {half} and convert it on the CPU")
        }
        "ANE070" => {
            let width = *ty.shape.last()?;
            let mut wide = ty.clone();
            *wide.shape.last_mut()? = width.next_multiple_of(WIDTH_STEP);
            match place {
                Place::Parameter(_) => format!(
                    "declare `{name}` {wide} and take the first {width} of its last axis with \
                     slice_by_size"
                ),
                _ => format!(
                    "pad `{name}` with {} zeros along its last axis to {wide}; the first {width} \
                     count",
                    width.next_multiple_of(WIDTH_STEP) - width
                ),
            }
        }
        _ => return None,
    })
}

/// An operation, and how its parts are called.
struct Words<'a, 'p> {
    scope: &'a Scope<'p>,
    site: &'a Site<'p>,
}

impl Words<'_, '_> {
    /// Name of the first result.
    fn result(&self) -> String {
        let id = self.site.op.results.first();
        id.map_or(String::new(), |&id| self.scope.function.value(id).name.clone())
    }

    /// Name of an input, or the literal that it is.
    fn name(&self, i: usize) -> String {
        match self.site.resolved.inputs.get(i) {
            Some(Operand::Value(id)) => self.scope.function.value(*id).name.clone(),
            Some(Operand::Literal(literal)) => literal.to_string(),
            None => String::new(),
        }
    }

    fn shape(&self, i: usize) -> Vec<usize> {
        let inputs = self.scope.inputs(self.site);
        inputs.get(i).map(|ty| ty.shape.clone()).unwrap_or_default()
    }

    fn result_shape(&self) -> &[usize] {
        &self.site.resolved.results[0].shape
    }
}

fn at_operation(w: &Words<'_, '_>, rule: &str) -> Option<String> {
    convolutions(w, rule).or_else(|| products(w, rule)).or_else(|| others(w, rule))
}

fn convolutions(w: &Words<'_, '_>, rule: &str) -> Option<String> {
    let (y, x, weight) = (w.result(), w.name(0), w.name(1));
    let (shape, kernel) = (w.shape(0), w.shape(1));
    Some(match rule {
        "ANE030" => {
            let four = |s: &[usize]| [&s[..2], &[1], &s[2..]].concat();
            format!(
                "reshape `{x}` to {:?} and `{weight}` to {:?}, and `{y}` back to {:?}",
                four(&shape),
                four(&kernel),
                w.result_shape()
            )
        }
        "ANE031" => {
            let limit = w.scope.generation().max_kernel_width();
            let width = *kernel.last()?;
            let parts: Vec<_> = (0..width)
                .step_by(limit)
                .map(|start| limit.min(width - start).to_string())
                .collect();
            format!(
                "cut `{weight}` along its width into {}, convolve `{x}` shifted by multiples of \
                 {limit} columns with each, and add the {} results to `{y}`",
                parts.join(" + "),
                parts.len()
            )
        }
        "ANE032" if kernel.get(2..) == Some(&[1, 1]) => format!(
            "lay the {} batches of `{x}` below each other, {:?}, and take `{y}` apart again",
            shape[0],
            [1, shape[1], shape[0] * shape[2], shape[3]]
        ),
        "ANE032" => format!(
            "write one conv with `{weight}` for each of the {} batches of `{x}`, and join them to \
             `{y}` with concat along axis 0",
            shape[0]
        ),
        "ANE033" => {
            let Kind::Conv(geometry) = w.site.kind() else { return None };
            format!(
                "write {} convs of {} channels of `{x}` each, and join them to `{y}` with concat \
                 along axis 1",
                geometry.groups,
                shape[1] / geometry.groups
            )
        }
        "ANE034" | "ANE036" => format!(
            "leave `bias` out and write `{y}` = add(x = the conv's result, y = `{}` as \
             tensor<fp16, [1, {}, 1, 1]>)",
            w.name(2),
            w.result_shape()[1]
        ),
        "ANE035" => format!(
            "write {} convs over at most {MAX_CONV_CHANNELS} of the {} channels of `{x}` each and \
             add them to `{y}`, or a matmul",
            shape[1].div_ceil(MAX_CONV_CHANNELS),
            shape[1]
        ),
        _ => return None,
    })
}

fn products(w: &Words<'_, '_>, rule: &str) -> Option<String> {
    let (y, x, other) = (w.result(), w.name(0), w.name(1));
    let (shape, second) = (w.shape(0), w.shape(1));
    let merged = |s: &[usize]| match s {
        [a, b, rest @ ..] if s.len() == 5 => [&[a * b], rest].concat(),
        _ => s.to_vec(),
    };
    Some(match rule {
        "ANE040" => format!(
            "reshape `{x}` to {:?} and `{other}` to {:?}, and `{y}` back to {:?}",
            merged(&shape),
            merged(&second),
            w.result_shape()
        ),
        "ANE041" => {
            let width = *shape.last()? as f64;
            format!(
                "write `{y}` = softmax(matmul(`{x}`, `{other}`, transpose_y) · {:.6} + `{}`) · \
                 `{}` with matmul, mul, add and softmax",
                1.0 / width.sqrt(),
                w.name(3),
                w.name(2)
            )
        }
        "ANE042" => {
            let (last, rows) = shape.split_last()?;
            let rows: usize = rows.iter().product();
            format!("reshape `{x}` to [{rows}, {last}], and `{y}` back to {:?}", w.result_shape())
        }
        "ANE043" => {
            let Kind::Matmul { transpose_x, .. } = w.site.kind() else { return None };
            let k = shape[shape.len() - if *transpose_x { 2 } else { 1 }];
            format!(
                "pad the inner axis of `{x}` and of `{other}` with {} zeros, from {k} to {}",
                k.next_multiple_of(32) - k,
                k.next_multiple_of(32)
            )
        }
        "ANE044" => {
            let Kind::Softmax { axis } = w.site.kind() else { return None };
            let n = shape[*axis];
            format!(
                "pad `{x}` along axis {axis} from {n} to {} with −65504 and take the first {n} of \
                 the result",
                n.next_power_of_two()
            )
        }
        _ => return None,
    })
}

fn others(w: &Words<'_, '_>, rule: &str) -> Option<String> {
    let (y, x) = (w.result(), w.name(0));
    let (op, shape) = (w.site.op.op, w.shape(0));
    Some(match rule {
        "ANE006" => {
            let (key, literal) = w.site.op.args.iter().find_map(|(key, arg)| match arg {
                Arg::Literal(literal) => Some((key, literal)),
                _ => None,
            })?;
            format!("define `{key}_0` = const()[val = {literal}] and write {key} = {key}_0")
        }
        "ANE024" => format!("leave the cast out and use `{x}` for `{y}`, both fp16"),
        "ANE025" => format!("return `{x}` and convert it on the CPU"),
        "ANE026" => format!(
            "cast the fp32 inputs of {op} to fp16 first, and `{y}` back to fp32 only where it is \
             returned"
        ),
        "ANE045" => {
            format!("write `{y}` with transpose, reshape and matmul, or as nchw,nwhu->nchu")
        }
        "ANE068" => format!("write `{y}` as the first of topk(x = `{x}`, k = 5)"),
        "ANE069" => format!(
            "convolve square(`{x}`) with ones over the channels, and divide `{x}` by a power of it for \
             `{y}`"
        ),
        "ANE066" => format!("use `{x}` for `{y}`, or write `{y}` = mul(x = {x}, y = 1.0)"),
        "ANE028" => {
            let keys: Vec<_> = w.site.op.args.iter().map(|(key, _)| format!("{key} = …")).collect();
            format!("write `{y}` = {op}()[name = …, {}]", keys.join(", "))
        }
        "ANE029" => {
            let keys: Vec<_> = w.site.op.args.iter().map(|(key, _)| format!("{key} = …")).collect();
            format!("write `{y}` = {op}({})[name = …] in a function for ios18", keys.join(", "))
        }
        "ANE050" => format!(
            "compute {op}(`{x}`) on the CPU and give `{y}` as an input {}",
            w.site.resolved.results[0]
        ),
        "ANE051" => format!("write `{y}` = mul(x = {x}, y = {x})"),
        "ANE052" => format!("keep |`{x}`| below 1024, or round on the CPU"),
        "ANE053" => {
            let mul = w.scope.before(w.site).chain(w.scope.after(w.site)).find(|s| {
                *s.kind() == Kind::Binary(Binary::Mul)
                    && s.resolved.inputs.iter().any(|&i| {
                        w.scope.constant(i).is_some_and(|literal| literal.ty.count() == 1)
                    })
            })?;
            format!(
                "give the factor of `{}` as a tensor that is not a scalar, for instance one value \
                 per channel",
                mul.op.name
            )
        }
        "ANE054" => {
            let reduced =
                w.scope.before(w.site).find(|s| matches!(s.kind(), Kind::Reduce { .. }))?;
            let r = &w.scope.function.value(*reduced.op.results.first()?).name;
            format!("write `{y}` = sub(x = {r}, y = {r})")
        }
        "ANE055" if op == Op::Softplus => {
            format!("write `{y}` = relu({x}) + log(exp(−abs({x})) + 1, epsilon = 0)")
        }
        "ANE055" => format!(
            "with m = reduce_max({x}) write `{y}` = log(reduce_sum(exp({x} − m)), epsilon = 0) + m"
        ),
        "ANE056" => {
            let Kind::LayerNorm { gamma, beta, .. } = w.site.kind() else { return None };
            let mut text = format!("write layer_norm({x}) alone");
            if *gamma {
                text.push_str(&format!(", times `{}`", w.name(1)));
            }
            if *beta {
                text.push_str(&format!(", plus `{}`", w.name(1 + usize::from(*gamma))));
            }
            format!("{text}, as mul and add that give `{y}`")
        }
        "ANE057" => {
            let four = |s: &[usize]| [&s[..2], &[1], &s[2..]].concat();
            format!(
                "reshape `{x}` to {:?} and `{}` to {:?}, and `{y}` back to {:?}",
                four(&shape),
                w.name(1),
                four(&w.shape(1)),
                w.result_shape()
            )
        }
        "ANE058" => match w.site.kind() {
            Kind::Unary(Unary::Rsqrt { epsilon }) => {
                format!("write `{y}` = pow(x = {x} + {epsilon}, y = −0.5)")
            }
            _ => format!("write `{y}` = pow(x = {x}, y = 0.5)"),
        },
        "ANE059" => {
            let root = usize::from(!matches!(
                w.scope.before(w.site).next().map(|s| s.op.op),
                Some(Op::Sqrt)
            ));
            let root = w.name(root.min(1));
            format!("return `{root}`, and compute `{y}` in a program that takes it as an input")
        }
        "ANE009" => format!("leave `{y}` out: no output depends on it"),
        "ANE060" => format!(
            "cut the edge of `{x}` {shape:?} into single rows or columns and join them in reverse \
             with concat to {:?}",
            w.result_shape()
        ),
        "ANE061" => {
            let Kind::Pad { pads, mode } = w.site.kind() else { return None };
            let axis = pads.iter().position(|&p| p != (0, 0))?;
            let (before, after) = pads[axis];
            match mode {
                PadMode::Constant(value) => format!(
                    "join `{x}` with {before} before and {after} behind of the constant {value} by \
                     concat along axis {axis}"
                ),
                _ => format!("join slices of `{x}` by concat along axis {axis}"),
            }
        }
        "ANE062" | "ANE064" => {
            let last = shape.len().checked_sub(1)?;
            let channels = if shape.len() >= 4 { 1 } else { 0 };
            format!(
                "swap axes {channels} and {last} of what {op} reads with transpose, write {op} \
                 along axis {channels}, and swap `{y}` back"
            )
        }
        "ANE067" => format!("repeat `{x}` {shape:?} on the CPU and give `{y}` as an input"),
        "ANE065" => {
            let Kind::Concat { axis, .. } = w.site.kind() else { return None };
            format!("write axis = int32({axis}) in `{y}`")
        }
        _ => return None,
    })
}
