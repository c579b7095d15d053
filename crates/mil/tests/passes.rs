//! Passes against programs small enough to say by hand what they become.

use mil::interp::{Array, evaluate};
use mil::passes::{
    self, Link, decompose, eliminate_dead, hoist_constants, hoist_literals, slice, to_fp32,
};
use mil::{Arg, DType, Function, Op, Program, ValueId, Weights, check_text, verify};
use std::collections::BTreeMap;

/// The function with `inputs` whose body is `body`.
fn function(inputs: &str, body: &str, outputs: &str) -> Function {
    let text =
        format!("program(1.3) {{ func main<ios18>({inputs}) {{\n{body}}} -> ({outputs}); }}");
    let mut program = check_text(&text).unwrap_or_else(|faults| panic!("{}\n{text}", faults[0]));
    program.functions.remove(0)
}

fn valid(f: &Function) {
    let faults = verify(&Program::new(f.clone()));
    assert!(faults.is_empty(), "{}\n{}", faults[0], Program::new(f.clone()));
}

fn values(f: &Function, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    valid(f);
    let inputs: Vec<Array> = inputs.iter().map(|x| Array::new(vec![x.len()], x.to_vec())).collect();
    let outputs = evaluate(f, &inputs, &Weights::new()).unwrap();
    outputs.into_iter().map(|y| y.data).collect()
}

fn count(f: &Function, op: Op) -> usize {
    f.ops.iter().filter(|o| o.op == op).count()
}

fn names(f: &Function, ids: impl IntoIterator<Item = ValueId>) -> Vec<String> {
    ids.into_iter().map(|id| f.value(id).name.clone()).collect()
}

fn id(f: &Function, name: &str) -> ValueId {
    f.find(name).unwrap()
}

/// A literal that stands for a tensor becomes a constant, once; that of an axis stays.
#[test]
fn literals_become_constants() {
    let f = function(
        "tensor<fp32, [2]> x, tensor<fp32, [2]> c_0",
        "tensor<fp32, [2]> a = add(x = x, y = fp32(1.5))[name = string(\"a\")];
         tensor<fp32, [2]> b = mul(x = a, y = fp32(1.5))[name = string(\"b\")];
         tensor<fp32, [2]> d = mul(x = b, y = fp32(2))[name = string(\"d\")];
         tensor<fp32, [4]> e = concat(axis = int32(0), interleave = bool(false), values = (d, c_0))\
         [name = string(\"e\")];\n",
        "e",
    );
    for hoisted in [hoist_literals(&f), hoist_constants(&f)] {
        let constants: Vec<_> = hoisted.ops.iter().filter_map(|op| op.value.as_ref()).collect();
        let numbers: Vec<_> =
            constants.iter().map(|literal| literal.data().unwrap().to_f64().unwrap()).collect();
        assert_eq!(numbers, [[1.5], [2.0]]);
        let concat = hoisted.ops.iter().find(|op| op.op == Op::Concat).unwrap();
        assert!(matches!(concat.arg("axis"), Some(Arg::Literal(_))), "{concat:?}");
        for op in hoisted.ops.iter().filter(|op| op.op != Op::Const && op.op != Op::Concat) {
            assert!(matches!(op.arg("y"), Some(Arg::Value(_))), "{op:?}");
        }
        assert_eq!((names(&hoisted, hoisted.inputs()), hoisted.params), (names(&f, f.inputs()), 2));
        // (1 + 1.5) · 1.5 · 2 and (-3 + 1.5) · 1.5 · 2
        assert_eq!(values(&hoisted, &[&[1.0, -3.0], &[8.0, 9.0]]), [[7.5, -4.5, 8.0, 9.0]]);
    }
}

/// Attributes of `constexpr_…` are moved for those who execute, and for nobody else.
#[test]
fn attributes_become_constants_where_that_is_asked_for() {
    let f = function(
        "tensor<fp32, [2]> x",
        "tensor<fp32, [2]> c = constexpr_cast()[name = string(\"c\"), output_dtype = string(\"fp32\"), \
         source_val = tensor<fp16, [2]>([0.5, -3])];
         tensor<fp32, [2]> y = add(x = x, y = c)[name = string(\"y\")];\n",
        "y",
    );
    assert_eq!(hoist_literals(&f), f);
    let all = hoist_constants(&f);
    assert_eq!(all.ops[0].value.as_ref().unwrap().data().unwrap().to_f64().unwrap(), [0.5, -3.0]);
    assert!(all.ops[1].args.iter().any(|(key, arg)| {
        *key == "source_val" && matches!(arg, Arg::Value(of) if *of == all.ops[0].results[0])
    }));
}

/// `a = x + y`, `b = a · a`, `c = b + x`, and `d`, which nobody reads.
fn chain() -> Function {
    function(
        "tensor<fp32, [2]> x, tensor<fp32, [2]> y",
        "tensor<fp32, [2]> a = add(x = x, y = y)[name = string(\"a\")];
         tensor<fp32, [2]> b = mul(x = a, y = a)[name = string(\"b\")];
         tensor<fp32, [2]> d = sub(x = a, y = b)[name = string(\"d\")];
         tensor<fp32, [2]> c = add(x = b, y = x)[name = string(\"c\")];\n",
        "c",
    )
}

#[test]
fn a_kernel_computes_again_what_it_is_not_given() {
    let f = chain();
    let of = |names: &[&str]| -> Vec<ValueId> { names.iter().map(|name| id(&f, name)).collect() };
    let whole = slice(&f, "whole", &of(&["y", "x"]), &of(&["c"])).unwrap();
    assert_eq!((whole.name.as_str(), whole.ops.len()), ("whole", 3));
    assert_eq!(names(&whole, whole.inputs()), ["y", "x"]);
    // y = 3 and 4, x = 1 and 2: (1 + 3)² + 1 and (2 + 4)² + 2.
    assert_eq!(values(&whole, &[&[3.0, 4.0], &[1.0, 2.0]]), [[17.0, 38.0]]);
    let saved = slice(&f, "saved", &of(&["b", "x"]), &of(&["c"])).unwrap();
    assert_eq!((names(&saved, saved.inputs()), saved.ops.len()), (of_names(&["b", "x"]), 1));
    assert_eq!(values(&saved, &[&[5.0, 6.0], &[1.0, 2.0]]), [[6.0, 8.0]]);
    let two = slice(&f, "two", &of(&["a", "x"]), &of(&["c", "d"])).unwrap();
    // a = 3 and 1: 9 + 1 and 1 + 2; 3 - 9 and 1 - 1.
    assert_eq!(values(&two, &[&[3.0, 1.0], &[1.0, 2.0]]), [[10.0, 3.0], [-6.0, 0.0]]);
    let error = slice(&f, "less", &of(&["x"]), &of(&["c"])).unwrap_err();
    assert_eq!((error.kernel.as_str(), error.value.as_str()), ("less", "y"));
    // What is not needed may be missing.
    assert_eq!(slice(&f, "rest", &of(&["a"]), &of(&["d"])).unwrap().ops.len(), 2);
}

fn of_names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Of the two halves of `x` one is given, and not taken from `x`.
#[test]
fn a_given_result_of_a_kept_operation_stays_given() {
    let f = function(
        "tensor<fp32, [2]> x",
        "tensor<fp32, [1]> s, tensor<fp32, [1]> t = split(x = x, num_splits = int32(2), axis = int32(0))\
         [name = string(\"halves\")];
         tensor<fp32, [1]> u = add(x = s, y = t)[name = string(\"u\")];\n",
        "u",
    );
    let kernel = slice(&f, "k", &[id(&f, "x"), id(&f, "s")], &[id(&f, "u")]).unwrap();
    assert_eq!((names(&kernel, kernel.inputs()), kernel.ops.len()), (of_names(&["x", "s"]), 2));
    assert_eq!(values(&kernel, &[&[1.0, 2.0], &[10.0]]), [[12.0]]);
}

#[test]
fn dead_operations_go_and_parameters_stay() {
    let f = chain();
    let lean = eliminate_dead(&f);
    assert_eq!((lean.ops.len(), count(&lean, Op::Sub), count(&f, Op::Sub)), (3, 0, 1));
    assert_eq!((lean.name.as_str(), names(&lean, lean.inputs())), ("main", of_names(&["x", "y"])));
    assert_eq!(values(&lean, &[&[1.0, 2.0], &[3.0, 4.0]]), [[17.0, 38.0]]);
}

/// [1·3 + 2·4 + 10, 1·5 + 2·6 + 20]
#[test]
fn formulas_take_the_place_of_what_they_say() {
    let f = function(
        "tensor<fp32, [2]> x",
        "tensor<fp32, [2]> y = linear(x = x, weight = tensor<fp32, [2, 2]>([[3, 4], [5, 6]]), \
         bias = tensor<fp32, [2]>([10, 20]))[name = string(\"y\")];\n",
        "y",
    );
    let simple = decompose(&hoist_literals(&f)).unwrap();
    assert_eq!((count(&f, Op::Linear), count(&simple, Op::Linear)), (1, 0));
    assert_eq!((count(&simple, Op::Matmul), simple.name.as_str()), (1, "main"));
    assert_eq!(values(&simple, &[&[1.0, 2.0]]), [[21.0, 37.0]]);
}

/// Parameters keep their types, everything else that was half is single: the constants too, with the
/// values that they had (0.1 is 0.0999755859375 in half precision).
#[test]
fn single_precision_replaces_half() {
    let f = function(
        "tensor<fp16, [2]> x, tensor<int32, [2]> n, tensor<fp32, [2]> z",
        "tensor<fp16, [2]> c = const()[name = string(\"c\"), val = tensor<fp16, [2]>([0.1, 1.5])];
         tensor<fp16, [2]> m = cast(x = n, dtype = string(\"fp16\"))[name = string(\"m\")];
         tensor<fp16, [2]> p = mul(x = x, y = c)[name = string(\"p\")];
         tensor<fp16, [2]> q = add(x = p, y = m)[name = string(\"q\")];
         tensor<fp16, [2]> r = add(x = q, y = fp16(0.1))[name = string(\"r\")];
         tensor<int32, [2]> s = cast(x = r, dtype = string(\"int32\"))[name = string(\"s\")];
         tensor<fp32, [2]> t = mul(x = z, y = fp32(3))[name = string(\"t\")];\n",
        "r, s, t",
    );
    let single = to_fp32(&f);
    let types = |ids: &[ValueId]| ids.iter().map(|&id| single.ty(id).dtype).collect::<Vec<_>>();
    let inputs: Vec<ValueId> = single.inputs().collect();
    assert_eq!(names(&single, single.inputs()), ["x", "n", "z"]);
    assert_eq!(types(&inputs), [DType::Fp16, DType::Int32, DType::Fp32]);
    assert_eq!(types(&single.outputs), [DType::Fp32, DType::Int32, DType::Fp32]);
    let halves = single.values.iter().filter(|value| value.ty.dtype == DType::Fp16).count();
    assert_eq!(halves, 1, "the parameter alone\n{}", Program::new(single.clone()));
    // x, and the two that were there before.
    assert_eq!(count(&single, Op::Cast), 3);
    let tenth = 0.099_975_585_937_5;
    let outputs = values(&single, &[&[2.0, 4.0], &[7.0, -1.0], &[1.0, 0.5]]);
    assert_eq!(outputs[0], [2.0 * tenth + 7.0 + tenth, 6.0 - 1.0 + tenth]);
    assert_eq!(outputs[1..], [[7.0, 5.0], [3.0, 1.5]]);
}

/// y = 2x twice, its parameter and result by their own names or others.
fn doubled(names: &[(&str, &str)]) -> (Function, BTreeMap<String, String>) {
    let f = function(
        "tensor<fp32, [2]> x",
        "tensor<fp32, [2]> mul_0 = mul(x = x, y = fp32(2))[name = string(\"mul_0\")];
         tensor<fp32, [2]> y = mul(x = mul_0, y = fp32(2))[name = string(\"y\")];\n",
        "y",
    );
    let names = names.iter().map(|&(own, other)| (own.to_owned(), other.to_owned()));
    (f, names.collect())
}

/// What a link gives under a name, later ones take; what none gives, the whole takes, once.
#[test]
fn links_become_one_function() {
    let sum = function(
        "tensor<fp32, [2]> a, tensor<fp32, [2]> b",
        "tensor<fp32, [2]> c = add(x = a, y = b)[name = string(\"c\")];\n",
        "c",
    );
    let (first, one) = doubled(&[("y", "mul_0")]);
    let (second, two) = doubled(&[("x", "mul_0"), ("y", "z")]);
    let both = [("a", "x"), ("b", "z"), ("c", "sum")];
    let three = both.map(|(own, other)| (own.to_owned(), other.to_owned())).into_iter().collect();
    let links = [(&first, one), (&second, two), (&sum, three)]
        .map(|(function, names)| Link { function, names });
    let f = passes::chain("whole", &links, &["sum", "mul_0"]).unwrap();
    assert_eq!(f.name, "whole");
    assert_eq!(names(&f, f.inputs()), ["x"]);
    // A name that a link gives is that of its result, whatever values inside of links are called.
    assert_eq!(names(&f, f.outputs.iter().copied()), ["sum", "mul_0"]);
    assert_eq!(values(&f, &[&[1.0, -3.0]]), [[17.0, -51.0], [4.0, -12.0]]);
    assert_eq!(count(&f, Op::Mul), 4);
}

#[test]
#[should_panic(expected = "`y` is given once")]
fn links_give_a_name_once() {
    let (f, names) = doubled(&[]);
    let link = Link { function: &f, names };
    let _ = passes::chain("twice", &[link.clone(), link], &["y"]);
}
