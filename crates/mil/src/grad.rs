//! Reverse-mode autodiff: one vector-Jacobian rule per operation.
//!
//! [`grad`] extends a function with its backward pass and returns both as one *joint* function.
//! A backward kernel is then a [`crate::passes::slice`] of the joint function: values of the
//! forward pass that the slice is given are *taps* (saved), the others are computed again.
//!
//! Rules are written in the language itself, on [`Tensor`] handles, for inputs of equal shape:
//! the driver undoes broadcasting, once, for all of them.

use crate::builder::{Builder, Tensor};
use crate::ir::{Function, ValueId};
use crate::op::Op;
use crate::passes::hoist_literals;
use crate::resolve::{Binary, GeluMode, Kind, OpError, PadMode, Reduce, Unary, resolve};
use crate::types::{Literal, TensorType};

mod movement;
mod products;

use movement::{unslice, untile};

/// Why a function could not be differentiated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GradError {
    /// An operation breaks a rule of the language.
    #[error(transparent)]
    Op(#[from] OpError),
    /// An operation on the path has no gradient here.
    #[error("`{name}` ({op}) has no gradient: {reason}")]
    NotDifferentiable {
        /// The value.
        name: String,
        /// Its operation.
        op: Op,
        /// Why.
        reason: &'static str,
    },
    /// A differentiated output is not a float.
    #[error("output `{0}` is not a float and has no gradient")]
    NotFloat(String),
}

/// A function with its backward pass.
#[derive(Clone, Debug)]
pub struct Joint {
    /// Forward operations, then backward ones. Its parameters are those of the forward function,
    /// then one cotangent `d_NAME` per differentiated output. Its outputs are the forward's.
    pub function: Function,
    /// The cotangent parameters, one per output.
    pub seeds: Vec<ValueId>,
    /// Cotangent of every value of the joint function, where one was computed.
    cotangents: Vec<Option<ValueId>>,
}

impl Joint {
    /// The cotangent of a value, if the outputs depend on it through a float path.
    pub fn cotangent(&self, value: ValueId) -> Option<ValueId> {
        self.cotangents.get(value.index()).copied().flatten()
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.function.find(name)
    }
}

/// Differentiates the outputs of `f` with respect to every float parameter.
///
/// # Errors
/// When an output is not a float, or an operation between a parameter and an output has no
/// gradient.
pub fn grad(f: &Function) -> Result<Joint, GradError> {
    let forward = hoist_literals(f);
    for &id in &forward.outputs {
        if !forward.ty(id).dtype.is_float() {
            return Err(GradError::NotFloat(forward.value(id).name.clone()));
        }
    }
    let builder = Builder::resume(forward.clone());
    for &id in &forward.outputs {
        let value = forward.value(id);
        builder.late_input(&format!("d_{}", value.name), value.ty.clone());
    }
    let added = forward.outputs.len() as u32;
    let moved = |id: ValueId| {
        if id.index() < forward.params { id } else { ValueId(id.0 + added) }
    };
    let seeds: Vec<ValueId> = (0..added).map(|i| ValueId(forward.params as u32 + i)).collect();

    let shifted = builder.finish(&[])?;
    let active = active_values(&shifted);
    let mut sweep =
        Sweep { b: &builder, f: &shifted, active, cotangents: vec![None; shifted.values.len()] };
    for (&id, &seed) in forward.outputs.iter().zip(&seeds) {
        sweep.add(moved(id), builder.tensor(seed));
    }
    for op in shifted.ops.iter().rev() {
        sweep.visit(op)?;
    }
    for id in shifted.inputs() {
        sweep.name(id);
    }
    let mut cotangents: Vec<_> = sweep.cotangents.iter().map(|c| c.map(Tensor::id)).collect();
    let outputs: Vec<_> = forward.outputs.iter().map(|&id| builder.tensor(moved(id))).collect();
    let function = builder.finish(&outputs)?;
    cotangents.resize(function.values.len(), None);
    Ok(Joint { function, seeds, cotangents })
}

/// Values that depend on a float parameter through floats.
fn active_values(f: &Function) -> Vec<bool> {
    let mut active: Vec<bool> = vec![false; f.values.len()];
    for id in f.inputs() {
        active[id.index()] = f.ty(id).dtype.is_float();
    }
    for op in &f.ops {
        let any = op.operands().any(|id| active[id.index()]);
        for &r in &op.results {
            active[r.index()] = any && f.ty(r).dtype.is_float();
        }
    }
    active
}

struct Sweep<'b> {
    b: &'b Builder,
    f: &'b Function,
    active: Vec<bool>,
    cotangents: Vec<Option<Tensor<'b>>>,
}

impl<'b> Sweep<'b> {
    fn add(&mut self, id: ValueId, g: Tensor<'b>) {
        let slot = &mut self.cotangents[id.index()];
        *slot = Some(match *slot {
            Some(sum) => sum + g,
            None => g,
        });
    }

    /// Gives the finished cotangent of a value a name that tells whose it is.
    fn name(&mut self, id: ValueId) {
        if let Some(g) = self.cotangents[id.index()] {
            let current = self.b.name(g.id());
            if !current.starts_with("d_") {
                g.named(&format!("d_{}", self.f.value(id).name));
            }
        }
    }

    fn visit(&mut self, op: &crate::ir::Operation) -> Result<(), GradError> {
        if op.results.iter().all(|r| self.cotangents[r.index()].is_none()) {
            return Ok(());
        }
        op.results.iter().for_each(|&r| self.name(r));
        if !op.results.iter().any(|r| self.active[r.index()]) {
            return Ok(());
        }
        let resolved = resolve(self.f, op)?;
        let ids = resolved.values();
        let rule = Rule {
            b: self.b,
            x: ids.iter().map(|&id| self.b.tensor(id)).collect(),
            y: op.results.iter().map(|&id| self.b.tensor(id)).collect(),
            dy: op.results.iter().map(|r| self.cotangents[r.index()]).collect(),
            wanted: ids.iter().map(|id| self.active[id.index()]).collect(),
        };
        let gradients = rule.apply(&resolved.kind).map_err(|reason| {
            let name = self.f.value(op.results[0]).name.clone();
            GradError::NotDifferentiable { name, op: op.op, reason }
        })?;
        for (i, (&id, g)) in ids.iter().zip(gradients).enumerate() {
            if let (true, Some(g)) = (rule.wanted[i], g) {
                let g = unbroadcast(g, &self.f.ty(id).shape);
                self.add(id, g);
            }
        }
        Ok(())
    }
}

/// Sums `g` over the axes along which `shape` was repeated.
fn unbroadcast<'b>(g: Tensor<'b>, shape: &[usize]) -> Tensor<'b> {
    let from = g.shape();
    if from == shape {
        return g;
    }
    let lead = from.len() - shape.len();
    let axes: Vec<usize> =
        (0..from.len()).filter(|&i| from[i] != 1 && (i < lead || shape[i - lead] == 1)).collect();
    let g = if axes.is_empty() { g } else { g.reduce_sum(&axes) };
    g.reshape(shape)
}

/// Repeats `g`, whose extents are those of `shape` or 1.
fn expand<'b>(g: Tensor<'b>, shape: &[usize]) -> Tensor<'b> {
    let from = g.shape();
    if from == shape {
        return g;
    }
    let reps: Vec<usize> =
        from.iter().zip(shape).map(|(&a, &b)| if a == b { 1 } else { b }).collect();
    g.tile(&reps)
}

type Gradients<'b> = Result<Vec<Option<Tensor<'b>>>, &'static str>;

/// The arguments of a rule: inputs, results, cotangents of the results, and which inputs count.
struct Rule<'b> {
    b: &'b Builder,
    x: Vec<Tensor<'b>>,
    y: Vec<Tensor<'b>>,
    dy: Vec<Option<Tensor<'b>>>,
    wanted: Vec<bool>,
}

impl<'b> Rule<'b> {
    fn apply(&self, kind: &Kind) -> Gradients<'b> {
        if let Kind::Split { axis, .. } = kind {
            let parts: Vec<_> = (self.y.iter().zip(&self.dy))
                .map(|(y, dy)| dy.unwrap_or_else(|| self.zeros(*y)))
                .collect();
            return Ok(vec![Some(self.b.concat(*axis, &parts))]);
        }
        let (y, dy) = (self.y[0], self.dy[0].expect("visited because it has a cotangent"));
        let x = self.x.first().copied();
        let x = || x.expect("every differentiable operation has an input");
        Ok(match kind {
            Kind::Const
            | Kind::Constexpr(_)
            | Kind::Compare(_)
            | Kind::Not
            | Kind::Fill { .. }
            | Kind::Range { .. } => vec![],
            Kind::Activation(_)
            | Kind::Pool(_)
            | Kind::Norm(_)
            | Kind::Rearrange(_)
            | Kind::Resample(_)
            | Kind::Einsum(_) => self.by_formula(kind, y, dy)?,
            Kind::TopK { axis, ascending } => vec![Some(self.topk(*axis, *ascending, dy))],
            Kind::NotExecuted => return Err("it is checked, but not executed here"),
            Kind::Cast => {
                let to = x().dtype();
                vec![to.is_float().then(|| dy.cast(to))]
            }
            Kind::Unary(unary) => vec![self.unary(*unary, x(), y, dy)],
            Kind::Binary(binary) => self.binary(*binary, y, dy),
            Kind::Select => {
                let zero = self.b.scalar(dy.dtype(), 0.0);
                let cond = self.x[0];
                let a = self.b.select(cond, dy, zero);
                vec![None, Some(a), Some(self.b.select(cond, zero, dy))]
            }
            Kind::Reduce { reduce, axes, .. } => vec![Some(self.reduce(*reduce, axes, y, dy))],
            Kind::Softmax { axis } => vec![Some((dy - (dy * y).reduce_sum(&[*axis])) * y)],
            Kind::Matmul { transpose_x, transpose_y } => {
                self.matmul(*transpose_x, *transpose_y, dy)
            }
            Kind::Linear => self.linear(dy),
            Kind::Conv(g) => self.conv(g, dy),
            Kind::ConvTranspose(g) => self.conv_transpose(g, dy),
            Kind::Reshape => vec![Some(dy.reshape(&x().shape()))],
            Kind::Transpose { perm } => {
                let mut inverse = vec![0; perm.len()];
                perm.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
                vec![Some(dy.transpose(&inverse))]
            }
            Kind::Slice { begin, stride, sizes } => {
                vec![Some(unslice(dy.reshape(sizes), begin, stride, &x().shape()))]
            }
            Kind::Concat { axis, interleave: false } => {
                let mut start = 0;
                let part = |x: &Tensor<'b>| {
                    let n = x.shape()[*axis];
                    start += n;
                    Some(dy.narrow(*axis, start - n, n))
                };
                self.x.iter().map(part).collect()
            }
            Kind::Concat { axis, .. } => (0..self.x.len())
                .map(|i| Some(self.every_nth(dy, *axis, i, self.x.len())))
                .collect(),
            Kind::Stack { axis } => (self.x.iter().enumerate())
                .map(|(i, x)| Some(dy.narrow(*axis, i, 1).reshape(&x.shape())))
                .collect(),
            Kind::Split { .. } => unreachable!("handled above"),
            Kind::Tile { reps } => vec![Some(untile(dy, &x().shape(), reps))],
            Kind::Pad { pads, mode: PadMode::Constant(_) } => {
                let begin: Vec<usize> = pads.iter().map(|p| p.0).collect();
                vec![Some(dy.slice(&begin, &x().shape()))]
            }
            Kind::Pad { .. } => return Err("only constant padding is differentiated"),
            Kind::LayerNorm { axes, epsilon, gamma, beta } => {
                self.layer_norm(axes, *epsilon, *gamma, *beta, dy)
            }
            Kind::Attention { bool_mask } => self.attention(*bool_mask, dy),
            Kind::Quantize { .. } => return Err("rounding to integers has no useful gradient"),
            Kind::Dequantize { axis } => {
                let zero = self.x.get(2).map(|z| self.on_axis(z.cast(dy.dtype()), *axis));
                let x = x().cast(dy.dtype());
                let centred = zero.map_or(x, |zero| x - zero);
                vec![None, Some(self.sum_to_axis(dy * centred, *axis)), None]
            }
        })
    }

    fn scalar(&self, like: Tensor<'b>, value: f64) -> Tensor<'b> {
        self.b.scalar(like.dtype(), value)
    }

    fn zeros(&self, like: Tensor<'b>) -> Tensor<'b> {
        let shape = like.shape();
        let ones = TensorType::new(like.dtype(), vec![1; shape.len()]);
        expand(self.b.constant(Literal::floats(ones, &[0.0])), &shape)
    }

    /// `dy` where `cond`, else 0.
    fn where_(&self, cond: Tensor<'b>, dy: Tensor<'b>) -> Tensor<'b> {
        self.b.select(cond, dy, self.scalar(dy, 0.0))
    }

    /// A vector laid along `axis` of a tensor of the rank of `dy`.
    fn on_axis(&self, v: Tensor<'b>, axis: Option<usize>) -> Tensor<'b> {
        let Some(axis) = axis else { return v };
        let mut shape = vec![1; self.y[0].shape().len()];
        shape[axis] = v.shape()[0];
        v.reshape(&shape)
    }

    /// Sums over every axis but `axis`, as a vector (a scalar without one).
    fn sum_to_axis(&self, g: Tensor<'b>, axis: Option<usize>) -> Tensor<'b> {
        let shape = g.shape();
        let others: Vec<usize> = (0..shape.len()).filter(|&i| Some(i) != axis).collect();
        let sum = if others.is_empty() { g } else { g.reduce_sum(&others) };
        sum.reshape(&axis.map_or(vec![], |axis| vec![shape[axis]]))
    }

    fn unary(
        &self,
        unary: Unary,
        x: Tensor<'b>,
        y: Tensor<'b>,
        dy: Tensor<'b>,
    ) -> Option<Tensor<'b>> {
        let above = |limit: f64| x.binary(Op::Greater, self.scalar(x, limit));
        let below = |limit: f64| x.binary(Op::Less, self.scalar(x, limit));
        let sigmoid_slope = |s: Tensor<'b>, k: f64| s * (1.0 + x * k * (1.0 - s));
        Some(match unary {
            Unary::Abs => dy * x.unary(Op::Sign),
            Unary::Atan => dy / (x * x + 1.0),
            Unary::Ceil | Unary::Floor | Unary::Round | Unary::Sign => return None,
            Unary::Clip { lo, hi } => self.where_(above(lo), self.where_(below(hi), dy)),
            Unary::Cos => -(dy * x.unary(Op::Sin)),
            Unary::Erf => dy * (-(x * x)).exp() * std::f64::consts::FRAC_2_SQRT_PI,
            Unary::Exp => dy * y,
            Unary::Exp2 => dy * y * std::f64::consts::LN_2,
            Unary::Inverse { .. } => -(dy * y * y),
            Unary::Log { epsilon } => dy / (x + epsilon),
            Unary::Rsqrt { .. } => dy * (y * y * y) * -0.5,
            Unary::Sin => dy * x.unary(Op::Cos),
            Unary::Sqrt => dy * 0.5 / y,
            Unary::Square => dy * x * 2.0,
            Unary::Tanh => dy * (1.0 - y * y),
            Unary::Threshold { alpha } => self.where_(above(alpha), dy),
            Unary::Relu => self.where_(above(0.0), dy),
            Unary::Relu6 => self.where_(above(0.0), self.where_(below(6.0), dy)),
            Unary::LeakyRelu { alpha } => self.b.select(above(0.0), dy, dy * alpha),
            Unary::Elu { alpha } => self.b.select(above(0.0), dy, dy * (y + alpha)),
            Unary::Gelu(GeluMode::Exact) => {
                let cdf = (x * std::f64::consts::FRAC_1_SQRT_2).unary(Op::Erf) * 0.5 + 0.5;
                let pdf = (x * x * -0.5).exp() * (0.5 / std::f64::consts::PI).sqrt();
                dy * (cdf + x * pdf)
            }
            Unary::Gelu(GeluMode::Tanh) => {
                let c = (2.0 / std::f64::consts::PI).sqrt();
                let t = ((x + x * x * x * 0.044715) * c).tanh();
                let slope = (x * x * (3.0 * 0.044715) + 1.0) * c;
                dy * ((t + 1.0) * 0.5 + x * (1.0 - t * t) * slope * 0.5)
            }
            Unary::Gelu(GeluMode::Sigmoid) => dy * sigmoid_slope((x * 1.702).sigmoid(), 1.702),
            Unary::Sigmoid => dy * y * (1.0 - y),
            Unary::SigmoidHard { alpha, .. } => {
                let inside = self.where_(y.binary(Op::Less, self.scalar(y, 1.0)), dy * alpha);
                self.where_(y.binary(Op::Greater, self.scalar(y, 0.0)), inside)
            }
            Unary::Silu => dy * sigmoid_slope(x.sigmoid(), 1.0),
            Unary::Softplus => dy * x.sigmoid(),
            Unary::Softsign => {
                let d = x.unary(Op::Abs) + 1.0;
                dy / (d * d)
            }
            Unary::Linear { alpha, .. } => dy * alpha,
        })
    }

    fn binary(&self, binary: Binary, out: Tensor<'b>, dy: Tensor<'b>) -> Vec<Option<Tensor<'b>>> {
        let (x, y) = (self.x[0], self.x[1]);
        let g = |i: usize, f: &dyn Fn() -> Tensor<'b>| self.wanted[i].then(f);
        match binary {
            Binary::Add => vec![Some(dy), Some(dy)],
            Binary::Sub => vec![Some(dy), g(1, &|| -dy)],
            Binary::Mul => vec![g(0, &|| dy * y), g(1, &|| dy * x)],
            Binary::Div => vec![g(0, &|| dy / y), g(1, &|| -(dy * out) / y)],
            Binary::FloorDiv => vec![None, None],
            Binary::Pow => {
                vec![g(0, &|| dy * y * x.binary(Op::Pow, y - 1.0)), g(1, &|| dy * out * x.log(0.0))]
            }
            Binary::Max | Binary::Min => {
                let first = if binary == Binary::Max { Op::GreaterEqual } else { Op::LessEqual };
                let zero = self.scalar(dy, 0.0);
                let cond = x.binary(first, y);
                vec![
                    g(0, &|| self.b.select(cond, dy, zero)),
                    g(1, &|| self.b.select(cond, zero, dy)),
                ]
            }
        }
    }

    fn reduce(&self, reduce: Reduce, axes: &[usize], y: Tensor<'b>, dy: Tensor<'b>) -> Tensor<'b> {
        let x = self.x[0];
        let shape = x.shape();
        let kept = crate::resolve::reduced(&shape, axes, true);
        let (y, dy) = (y.reshape(&kept), dy.reshape(&kept));
        let count: usize = axes.iter().map(|&axis| shape[axis]).product();
        match reduce {
            Reduce::Sum => expand(dy, &shape),
            Reduce::Mean => expand(dy * (1.0 / count as f64), &shape),
            Reduce::Max | Reduce::Min => {
                let hit = x.binary(Op::Equal, y).cast(dy.dtype());
                hit * (dy / hit.reduce_sum(axes))
            }
            Reduce::L1Norm => x.unary(Op::Sign) * dy,
            Reduce::L2Norm => x * (dy / y),
            Reduce::SumSquare => x * (dy * 2.0),
            Reduce::LogSum => expand(dy / x.reduce_sum(axes), &shape),
            Reduce::LogSumExp => (x - y).exp() * dy,
        }
    }

    fn layer_norm(
        &self,
        axes: &[usize],
        epsilon: f64,
        gamma: bool,
        beta: bool,
        dy: Tensor<'b>,
    ) -> Vec<Option<Tensor<'b>>> {
        let x = self.x[0];
        let shape = x.shape();
        let kept: Vec<usize> =
            (0..shape.len()).map(|i| if axes.contains(&i) { shape[i] } else { 1 }).collect();
        let centred = x - x.reduce_mean(axes);
        let r = (centred * centred).reduce_mean(axes).rsqrt(epsilon);
        let normal = centred * r;
        let g = if gamma { dy * self.x[1].reshape(&kept) } else { dy };
        let dx = (g - g.reduce_mean(axes) - normal * (g * normal).reduce_mean(axes)) * r;
        let affine = |g: Tensor<'b>, to: Tensor<'b>| {
            let others: Vec<usize> = (0..shape.len()).filter(|i| !axes.contains(i)).collect();
            let sum = if others.is_empty() { g } else { g.reduce_sum(&others) };
            Some(sum.reshape(&to.shape()))
        };
        let mut out = vec![Some(dx)];
        if gamma {
            out.push(affine(dy * normal, self.x[1]));
        }
        if beta {
            out.push(affine(dy, self.x[1 + usize::from(gamma)]));
        }
        out
    }
}
