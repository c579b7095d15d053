//! `parse(print(p)) == p` for random programs made with the builder, bit for bit, and for every
//! operation there is.

use half::f16;
use mil::text::parse;
use mil::{
    Arg, Builder, DType, Data, Literal, Op, Payload, Program, Tensor, TensorType, check_text,
    verify,
};
use proptest::prelude::*;

/// Reads `program` from its text and compares.
fn check(program: &Program) {
    let faults: Vec<String> = verify(program).iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{}\n{program}", faults.join("\n"));
    let text = program.to_string();
    let back = check_text(&text).unwrap_or_else(|faults| panic!("{}\n{text}", faults[0]));
    assert_eq!(&back, program, "{text}");
    assert_eq!(back.to_string(), text);
}

#[test]
fn every_operation_is_in_the_test_text() {
    let text = include_str!("text/every_operation.mil");
    let program = parse(text).unwrap();
    for op in Op::ALL {
        assert!(program.functions[0].ops.iter().any(|o| o.op == *op), "{op} is missing");
        for param in op.signature().params {
            let with_all = |o: &mil::Operation| o.op == *op && o.arg(param.key).is_some();
            // These are other ways to say what another argument says.
            let alternative = matches!(
                (op, param.key),
                (Op::Split, "num_splits")
                    | (Op::ConvTranspose, "bias" | "pad" | "output_shape" | "pad_type")
                    | (Op::ConvTranspose, "dilations" | "groups")
                    | (Op::Quantize, "zero_point")
            );
            let found = alternative || program.functions[0].ops.iter().any(with_all);
            assert!(found, "{op} is never written with `{}`", param.key);
        }
    }
    check(&program);
}

/// Any literal of up to `count` elements, with every bit pattern of floats.
fn literal() -> impl Strategy<Value = Literal> {
    let shape = prop::collection::vec(1usize..4, 0..4);
    (shape, 0usize..11, any::<u64>(), "\\PC{0,8}|[\\x00-\\x7f]{0,8}").prop_map(
        |(shape, dtype, seed, text)| {
            let dtypes = [
                DType::Fp16,
                DType::Fp32,
                DType::Bool,
                DType::String,
                DType::Int4,
                DType::Int8,
                DType::UInt1,
                DType::UInt16,
                DType::Int32,
                DType::Int64,
                DType::UInt64,
            ];
            let ty = TensorType::new(dtypes[dtype], shape);
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state ^ state >> 33
            };
            let n = ty.count();
            let data = match ty.dtype {
                DType::Fp16 => Data::Fp16((0..n).map(|_| f16::from_bits(next() as u16)).collect()),
                DType::Fp32 => Data::Fp32((0..n).map(|_| f32::from_bits(next() as u32)).collect()),
                DType::Bool => Data::Bool((0..n).map(|_| next() & 1 == 1).collect()),
                DType::String => Data::String(vec![text; n]),
                dtype => {
                    let (lo, hi) = dtype.int_range().unwrap();
                    let wide = i128::from(hi) - i128::from(lo) + 1;
                    let pick = |x: u64| (i128::from(lo) + i128::from(x) % wide) as i64;
                    Data::Int((0..n).map(|_| pick(next())).collect())
                }
            };
            Literal::inline(ty, data)
        },
    )
}

/// Floats that differ only in bits that printing could lose.
fn special() -> impl Strategy<Value = Literal> {
    let f16s = prop::sample::select(vec![0u16, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0xfe00, 0x7c01, 1]);
    let f32s = prop::sample::select(vec![0u32, 1 << 31, 0x7f80_0000, 0x7fc0_0000, 0xffc0_0001, 1]);
    prop_oneof![
        f16s.prop_map(|b| Literal::inline(
            TensorType::scalar(DType::Fp16),
            Data::Fp16(vec![f16::from_bits(b)])
        )),
        f32s.prop_map(|b| Literal::inline(
            TensorType::scalar(DType::Fp32),
            Data::Fp32(vec![f32::from_bits(b)])
        )),
        any::<(u64, u8)>().prop_map(|(offset, n)| Literal {
            ty: TensorType::fp16([usize::from(n) + 1, 3]),
            payload: Payload::Blob { path: "@model_path/weights/\"w\".bin".into(), offset },
        }),
    ]
}

/// One step of a random program over fp16 tensors of rank 3.
fn step<'b>(b: &'b Builder, pool: &[Tensor<'b>], (kind, i, k): (u8, usize, u16)) -> Tensor<'b> {
    let x = pool[i % pool.len()];
    let y = pool.iter().rev().find(|y| y.shape() == x.shape()).copied().unwrap_or(x);
    let shape = x.shape();
    let n: usize = shape.iter().product();
    let half = f16::from_bits(k);
    match kind % 16 {
        0 => x + y,
        1 => x * f64::from(half),
        2 => x.maximum(y).exp().named("renamed"),
        3 => x.softmax(-1),
        4 => x.reduce_mean(&[usize::from(k) % 3]),
        5 => x.matmul(y, false, true),
        6 => x.reshape(&[1, 1, n]),
        7 => x.transpose(&[2, 0, 1]),
        8 => x.narrow(2, 0, 1 + usize::from(k) % shape[2]),
        9 if n < 4096 => b.concat(usize::from(k) % 3, &[x, y, x]),
        10 if n < 4096 => x.tile(&[1, 2, 1]),
        11 if n < 4096 => x.pad(&[(0, 1), (usize::from(k) % 3, 0), (0, 0)]),
        12 => x.rsqrt(f64::from(half)),
        13 => x.cast(DType::Fp32).sigmoid().cast(DType::Fp16),
        14 => {
            let literal = Literal::float(DType::Fp16, f64::from(half));
            b.op(Op::Pow, vec![("x", Arg::Value(x.id())), ("y", Arg::Literal(literal))])[0]
        }
        15 => {
            let args = vec![
                ("x", Arg::Value(x.id())),
                ("axis", Arg::Literal(Literal::int(1))),
                ("num_splits", Arg::Literal(Literal::int(shape[1] as i64))),
            ];
            *b.op(Op::Split, args).last().unwrap()
        }
        _ => x.unary(Op::Relu),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_return(
        steps in prop::collection::vec(any::<(u8, usize, u16)>(), 1..30),
        literals in prop::collection::vec(prop_oneof![literal(), special()], 0..6),
        extents in prop::array::uniform3(1usize..5),
        info in prop::collection::vec((".{0,6}", ".{0,6}"), 0..3),
        version in (0u32..9, any::<u32>()),
    ) {
        let b = Builder::new("main");
        let mut pool = vec![b.input("x", TensorType::fp16(extents)), b.input("y", TensorType::fp16(extents))];
        for literal in literals {
            b.constant(literal);
        }
        for at in steps {
            let next = step(&b, &pool, at);
            pool.push(next);
        }
        let f = b.finish(&[*pool.last().unwrap() * 1.5]).unwrap();
        let mut second = f.clone();
        second.name = "second".into();
        second.opset = "ios17".into();
        let mut program = Program::new(f);
        program.functions.push(second);
        (program.build_info, program.version) = (info, version);
        check(&program);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}|[-+ ()\\[\\]{}<>,;=.\"\\\\/a-z0-9\n]{0,80}") {
        let _ = parse(&text);
    }
}
