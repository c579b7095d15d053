//! Steps, copies and shared memory of the lowering: nothing of this changes a result, so
//! only the plan shows it.

use super::*;

/// The plan of a function with `parameters`, from statements (type, name, operation).
fn plan(
    parameters: &str,
    statements: &[(&str, &str, &str)],
    outputs: &str,
    arithmetic: Arithmetic,
) -> Plan {
    lowered(parameters, statements, outputs, arithmetic).unwrap()
}

fn lowered(
    parameters: &str,
    statements: &[(&str, &str, &str)],
    outputs: &str,
    arithmetic: Arithmetic,
) -> Result<Plan, CpuError> {
    let line = |(ty, name, operation): &(&str, &str, &str)| {
        format!("{ty} {name} = {operation}[name = string(\"{name}\")];\n")
    };
    let body: String = statements.iter().map(line).collect();
    let text =
        format!("program(1.3) {{ func main<ios18>({parameters}) {{\n{body}}} -> ({outputs}); }}");
    let program = mil::check_text(&text).unwrap_or_else(|faults| panic!("{}\n{text}", faults[0]));
    lower(&program.functions[0], &Weights::new(), arithmetic)
}

fn fast() -> Arithmetic {
    Arithmetic::engine(Numerics::Fast, Default::default())
}

fn steps(plan: &Plan) -> Vec<&'static str> {
    (plan.steps.iter())
        .map(|step| match step {
            Step::Elementwise(_) => "elementwise",
            Step::Reduction(_) => "reduction",
            Step::Softmax(_) => "softmax",
            Step::Product(_) => "product",
            _ => "other",
        })
        .collect()
}

const T: &str = "tensor<fp16, [4, 6]>";
const R: &str = "tensor<fp16, [4, 1]>";
const X: &str = "tensor<fp16, [4, 6]> x";
const XY: &str = "tensor<fp16, [4, 6]> x, tensor<fp16, [4, 6]> y";

const SUM: &str = "axes = tensor<int32, [1]>([1]), keep_dims = bool(true))";

#[test]
fn elementwise_operations_are_one_step() {
    let chain =
        [(T, "a", "tanh(x = x)"), (T, "b", "mul(x = a, y = x)"), (T, "c", "add(x = b, y = a)")];
    assert_eq!(steps(&plan(X, &chain, "c", fast())), ["elementwise"]);
    // Two of its values are wanted.
    assert_eq!(steps(&plan(X, &chain, "b, c", fast())), ["elementwise"]);
}

/// `b` needs the sum of `a`, so that `a` has to be there first.
#[test]
fn a_group_does_not_wait_for_itself() {
    let sum = format!("reduce_sum(x = a, {SUM}");
    let body = [(T, "a", "mul(x = x, y = x)"), (R, "s", &*sum), (T, "b", "real_div(x = a, y = s)")];
    let plan = plan(X, &body, "b", fast());
    assert_eq!(steps(&plan), ["elementwise", "reduction", "elementwise"]);
}

/// The other inputs of `b` do not need `a`.
#[test]
fn a_group_takes_what_does_not_wait_for_it() {
    let sum = format!("reduce_sum(x = y, {SUM}");
    let body = [(R, "s", &*sum), (T, "a", "tanh(x = x)"), (T, "b", "add(x = a, y = s)")];
    assert_eq!(steps(&plan(XY, &body, "b", fast())), ["reduction", "elementwise"]);
    let sum = format!("reduce_sum(x = e, {SUM}");
    let body = [
        (T, "e", "exp(x = y)"),
        (R, "s", &*sum),
        (T, "a", "tanh(x = x)"),
        (T, "b", "add(x = a, y = s)"),
    ];
    let plan = plan(XY, &body, "b", fast());
    assert_eq!(steps(&plan), ["elementwise", "reduction", "elementwise"]);
}

#[test]
fn values_become_wider_where_they_are_read() {
    let sum = format!("reduce_sum(x = w, {SUM}");
    let body = [
        ("tensor<fp32, [4, 6]>", "w", "cast(x = x, dtype = string(\"fp32\"))"),
        ("tensor<fp32, [4, 1]>", "s", &*sum),
    ];
    assert_eq!(steps(&plan(X, &body, "s", fast())), ["reduction"]);
    let narrowing = [(T, "n", "cast(x = x, dtype = string(\"fp16\"))")];
    let plan = plan("tensor<fp32, [4, 6]> x", &narrowing, "n", fast());
    assert_eq!(steps(&plan), ["elementwise"]);
}

#[test]
fn outputs_are_written_in_place() {
    let flat = "reshape(x = a, shape = tensor<int32, [1]>([24]))";
    let body = [(T, "a", "tanh(x = x)"), ("tensor<fp16, [24]>", "f", flat)];
    assert_eq!(steps(&plan(X, &body, "f", fast())), ["elementwise"]);
    let sum = format!("reduce_sum(x = a, {SUM}");
    let body = [(T, "a", "tanh(x = x)"), (R, "s", &*sum)];
    assert_eq!(steps(&plan(X, &body, "a, s", fast())), ["elementwise", "reduction"]);
    // An output that may be added to cannot be read again.
    let reference = plan(X, &body, "a, s", Arithmetic::REFERENCE);
    assert_eq!(steps(&reference), ["elementwise", "reduction", "elementwise"]);
    assert_eq!(steps(&plan(X, &body[..1], "a", Arithmetic::REFERENCE)), ["elementwise"]);
    // A value that is two outputs is computed once and copied.
    let twice = [(T, "a", "tanh(x = x)"), ("tensor<fp16, [24]>", "f", flat)];
    assert_eq!(steps(&plan(X, &twice, "a, f", fast())).len(), 3);
}

#[test]
fn a_softmax_takes_its_operand_along() {
    let soft = "softmax(x = a, axis = int32(1))";
    let body = [(T, "a", "tanh(x = x)"), (T, "p", soft)];
    assert_eq!(steps(&plan(X, &body, "p", fast())), ["softmax"]);
    // Unless someone else reads it.
    assert_eq!(steps(&plan(X, &body, "p, a", fast())), ["elementwise", "softmax"]);
    let sum = format!("reduce_sum(x = a, {SUM}");
    let read = [body[0], body[1], (R, "s", &*sum)];
    assert_eq!(steps(&plan(X, &read, "p, s", fast())), ["elementwise", "softmax", "reduction"]);
}

/// A product that only a transpose reads is written transposed.
#[test]
fn a_transposed_product_is_not_copied() {
    let body = [
        ("tensor<fp16, [4, 4]>", "p", "matmul(x = x, y = y, transpose_y = bool(true))"),
        ("tensor<fp16, [4, 4]>", "t", "transpose(x = p, perm = tensor<int32, [2]>([1, 0]))"),
    ];
    assert_eq!(steps(&plan(XY, &body, "t", fast())), ["product"]);
    assert_eq!(steps(&plan(XY, &body, "t, p", fast())), ["product", "elementwise"]);
    // Unless neither rows nor columns would lie one after the other.
    let inputs = "tensor<fp16, [2, 4, 6]> x, tensor<fp16, [2, 4, 6]> y";
    let body = [
        ("tensor<fp16, [2, 4, 4]>", "p", "matmul(x = x, y = y, transpose_y = bool(true))"),
        ("tensor<fp16, [4, 4, 2]>", "t", "transpose(x = p, perm = tensor<int32, [3]>([1, 2, 0]))"),
    ];
    assert_eq!(steps(&plan(inputs, &body, "t", fast())), ["product", "elementwise"]);
}

/// Of a chain of softmaxes, only the one that is read and the one that is written are alive.
#[test]
fn values_that_are_not_alive_together_share_memory() {
    let names = ["a", "b", "c", "d", "e"];
    let operations: Vec<String> = (["x", "a", "b", "c", "d"].iter())
        .map(|x| format!("softmax(x = {x}, axis = int32(1))"))
        .collect();
    let body: Vec<_> =
        names.iter().zip(&operations).map(|(&name, operation)| (T, name, &**operation)).collect();
    let chain = plan(X, &body, "e", fast());
    let room = |half: bool| Space { elements: 24, half };
    assert_eq!(chain.slots, [room(true), room(true)]);
    let wide = plan(X, &body, "e", Arithmetic::REFERENCE);
    assert_eq!(wide.slots, [room(false), room(false)]);
    // All of them are alive until the end.
    let joined = "concat(values = (a, b, c, d, e), axis = int32(0), interleave = bool(false))";
    let all = [&body[..], &[("tensor<fp16, [20, 6]>", "j", joined)]].concat();
    assert_eq!(plan(X, &all, "j", fast()).slots.len(), 5);
}

/// Each takes the smallest room that is free and large enough.
#[test]
fn memory_is_shared_by_size() {
    let soft = |x: &str, axis: usize| format!("softmax(x = {x}, axis = int32({axis}))");
    let join = |x: &str, y: &str| {
        format!("concat(values = ({x}, {y}), axis = int32(0), interleave = bool(false))")
    };
    let operations =
        [soft("x", 0), soft("y", 0), join("p", "q"), soft("y", 1), soft("x", 1), join("r", "t")];
    let [small, both] = ["tensor<fp16, [2, 6]>", "tensor<fp16, [6, 6]>"];
    let results = [(T, "p"), (small, "q"), (both, "j"), (small, "r"), (T, "t"), (both, "k")];
    let body: Vec<_> = (results.iter().zip(&operations))
        .map(|(&(ty, name), operation)| (ty, name, &**operation))
        .collect();
    let plan = plan(&format!("{X}, {small} y"), &body, "j, k", fast());
    let room = |elements: usize| Space { elements, half: true };
    assert_eq!(plan.slots, [room(24), room(12)]);
}

/// Where all operands lie in memory in one order without gaps, results lie so too.
#[test]
fn results_lie_as_their_operands_do() {
    let shape = [4, 1, 6];
    let view = |strides: [isize; 3]| View {
        buffer: Buffer::Input(0),
        offset: 0,
        shape: shape.to_vec(),
        strides: strides.to_vec(),
    };
    let order = |views: &[[isize; 3]]| {
        chains::common_order(&shape, &views.iter().map(|&v| view(v)).collect::<Vec<_>>())
    };
    // The place of an axis of extent 1 does not count.
    assert_eq!(order(&[[1, 99, 4]]), [2, 1, 0]);
    assert_eq!(order(&[[1, 99, 4], [1, 4, 4]]), [2, 1, 0]);
    assert_eq!(order(&[[1, 99, 4], [6, 6, 1]]), [0, 1, 2]);
    assert_eq!(order(&[[1, 99, 8]]), [0, 1, 2]);
}

/// A chain loads each operand once, and keeps it no longer than it is needed.
#[test]
fn registers_are_used_again() {
    let chain_of = |plan: Plan| match &plan.steps[..] {
        [Step::Elementwise(step)] => step.chain.clone(),
        other => panic!("{other:?}"),
    };
    let inputs = format!("{XY}, {T} z");
    let body =
        [(T, "a", "tanh(x = x)"), (T, "b", "mul(x = a, y = y)"), (T, "c", "mul(x = b, y = z)")];
    assert_eq!(chain_of(plan(&inputs, &body, "c", fast())).registers, 2);
    let body =
        [(T, "a", "tanh(x = x)"), (T, "b", "mul(x = a, y = x)"), (T, "c", "add(x = b, y = x)")];
    assert_eq!(chain_of(plan(X, &body, "c", fast())).nest.operands.len(), 1);
    let power = plan(X, &[(T, "a", "pow(x = x, y = fp16(2))")], "a", fast());
    let is_power = |i: &Instruction| matches!(i, Instruction::Power { y: 2.0, .. });
    assert!(chain_of(power).code.iter().any(is_power));
}

#[test]
fn neighbouring_axes_are_reduced_as_one() {
    let sum = "reduce_sum(x = x, axes = tensor<int32, [2]>([0, 1]), keep_dims = bool(true))";
    let plan = plan(X, &[("tensor<fp16, [1, 1]>", "s", sum)], "s", fast());
    let [Step::Reduction(step)] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
    assert_eq!(step.reduced, [(24, 1)]);
}

#[test]
fn what_is_repeated_is_not_copied() {
    let tile = "tile(x = r, reps = tensor<int32, [2]>([1, 6]))";
    let body = [(T, "t", tile), (T, "s", "add(x = x, y = t)")];
    assert_eq!(steps(&plan(&format!("{X}, {R} r"), &body, "s", fast())), ["elementwise"]);
    let product = "matmul(x = x, y = t, transpose_y = bool(true))";
    let body = [(T, "t", tile), ("tensor<fp16, [4, 4]>", "p", product)];
    assert_eq!(steps(&plan(&format!("{X}, {R} r"), &body, "p", fast())), ["product"]);
}

/// Windows inside the input are views of it; what padding makes of it has to fit.
#[test]
fn windows_are_views() {
    let pool = |kernel: usize, pad: usize| {
        format!(
            "max_pool(x = x, kernel_sizes = tensor<int32, [2]>([{kernel}, {kernel}]),
                strides = tensor<int32, [2]>([1, 1]), pad_type = string(\"custom\"),
                pad = tensor<int32, [4]>([{pad}, {pad}, {pad}, {pad}]), ceil_mode = bool(false))"
        )
    };
    let [x, y] = ["tensor<fp16, [1, 1, 2, 2]> x", "tensor<fp16, [1, 1, 1, 1]>"];
    let inside = plan(x, &[(y, "y", &pool(2, 0))], "y", fast());
    assert_eq!(steps(&inside), ["reduction"]);
    let x = "tensor<fp16, [1, 8388608, 2, 2]> x";
    let wide = [("tensor<fp16, [1, 8388608, 2, 2]>", "y", &*pool(3, 1))];
    assert!(matches!(lowered(x, &wide, "y", fast()), Err(CpuError::TooLarge { .. })));
}
