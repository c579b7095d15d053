use super::*;
use crate::chip::Profile;
use crate::legal;
use expect_test::{Expect, expect};
use mil::{Arg, Builder, Literal, Op, Program, TensorType};

fn check(error: &AneError, expected: Expect) {
    expected.assert_eq(&error.to_string());
    if let Some(reported) = error.ns_error() {
        assert!(error.to_string().ends_with(&format!("\nmacOS reports: {reported}")));
    }
}

/// conv with a bias (InvalidMILProgram) over a kernel of `width` (CompilationFailure above 15).
fn convolution(width: usize, bias: bool) -> Program {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([1, 2, 1, 32]));
    let zeros = |shape: &[usize]| {
        let ty = TensorType::fp16(shape);
        b.constant(Literal::floats(ty.clone(), &vec![0.0; ty.count()]))
    };
    let mut args =
        vec![("x", Arg::Value(x.id())), ("weight", Arg::Value(zeros(&[2, 2, 1, width]).id()))];
    if bias {
        args.push(("bias", Arg::Value(zeros(&[2]).id())));
    }
    let y = b.op(Op::Conv, args)[0];
    Program::new(b.finish(&[y.named("y")]).unwrap())
}

fn refusal(program: &Program, profile: &str) -> AneError {
    let profile: Profile = profile.parse().unwrap();
    AneError::refused(profile.path, legal::check(program, &profile).unwrap_err())
}

#[test]
fn refusals_of_the_compiler() {
    check(
        &refusal(&convolution(3, true), "m4"),
        expect![[r#""#]],
    );
    check(
        &refusal(&convolution(17, false), "m4"),
        expect![[r#""#]],
    );
    check(
        &refusal(&convolution(17, true), "m4/e5rt"),
        expect![[r#""#]],
    );
    let both = refusal(&convolution(17, true), "m1");
    assert!(matches!(&both, AneError::Refused { refusal: Refusal::InvalidMilProgram, violations, .. }
        if violations.len() > 2));
}

#[test]
fn budgets_of_a_process() {
    check(&AneError::CompileBudget { limit: 119 }, expect![[r#""#]]);
    let full = |path| AneError::TooManyPrograms { limit: 128, path };
    check(&full(CallPath::InMemory), expect![[r#""#]]);
    check(&full(CallPath::E5rt), expect![[r#""#]]);
    let large = AneError::ProgramTooLarge { bytes: 4_000_000_000, limit: 3_400_000_000 };
    check(&large, expect![[r#""#]]);
    check(&AneError::ResourcesExhausted, expect![[r#""#]]);
    check(&AneError::InvalidBundle, expect![[r#""#]]);
}

#[test]
fn requests() {
    let what = "input";
    check(&AneError::SurfaceCount { what, expected: 3, got: 2 }, expect![[r#""#]]);
    check(&AneError::SurfaceSizes { what, sizes: vec![49_152, 98_304] }, expect![[r#""#]]);
    let small = AneError::SurfaceTooSmall { what, index: 1, minimum: 49_152, got: 2_048 };
    check(&small, expect![[r#""#]]);
    check(&AneError::Procedure { index: 2, count: 1 }, expect![[r#""#]]);
    check(&AneError::Timeout, expect![[r#""#]]);
    check(&AneError::Chaining, expect![[r#""#]]);
    check(&AneError::SurfaceMap { code: 0xe000_02c2 }, expect![[r#""#]]);
    let status = AneError::SurfaceCount { what, expected: 1, got: 0 }.ns_error().unwrap();
    assert_eq!((status.domain, status.code), ("com.apple.appleneuralengine", 8));
    assert_eq!(status.description, REQUEST_FAILED);
}

#[test]
fn our_own() {
    let ty = TensorType::fp16([1, 4, 1, 16]);
    let (port, got) = ("x".to_owned(), TensorType::fp32([1, 4, 1, 16]));
    check(&AneError::SurfaceType { port, expected: ty, got }, expect![[r#""#]]);
    let shared = AneError::SurfaceShared { a: "y".to_owned(), b: "x".to_owned() };
    check(&shared, expect![[r#""#]]);
    check(&AneError::SurfaceLength { count: 64, got: 63 }, expect![[r#""#]]);
    check(&AneError::Unsupported { op: "gather".to_owned() }, expect![[r#""#]]);
    let what = "port";
    let known = "x, y".to_owned();
    check(&AneError::UnknownName { what, got: "z".to_owned(), known }, expect![[r#""#]]);
    let blob = BlobError::Version(1);
    check(&AneError::from(blob), expect![[r#""#]]);
}
