use super::*;
use expect_test::{Expect, expect};
use mil::blob::BlobError;
use mil::{Arg, Builder, Literal, Op};

fn check(error: &AneError, expected: Expect) {
    expected.assert_eq(&error.to_string());
    if let Some(reported) = error.ns_error() {
        assert!(error.to_string().ends_with(&format!("\nmacOS reports: {reported}")));
    }
}

/// conv with a bias given at run time (InvalidMILProgram) over a kernel of `width`
/// (CompilationFailure above 15).
fn convolution(width: usize, bias: bool) -> Program {
    let b = Builder::new("main");
    let x = b.input("x", TensorType::fp16([1, 2, 1, 32]));
    let given = bias.then(|| b.input("bias", TensorType::fp16([2])));
    let zeros = |shape: &[usize]| {
        let ty = TensorType::fp16(shape);
        b.constant(Literal::floats(ty.clone(), &vec![0.0; ty.count()]))
    };
    let mut args =
        vec![("x", Arg::Value(x.id())), ("weight", Arg::Value(zeros(&[2, 2, 1, width]).id()))];
    args.extend(given.map(|bias| ("bias", Arg::Value(bias.id()))));
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
        expect![[r#"
            the program breaks rules of the machine
            main, operation 1 `y`: ANE034 warning: expected no argument `bias`, got one
              hint: add a bias of shape [1, C, 1, 1] to the result
            main, operation 1 `y`: ANE036 expected a constant bias, got a tensor<fp16, [2]> of run time
              hint: add the bias, as [1, C, 1, 1], to the result
            main, parameter `bias`: ANE070 warning: expected a width that is a multiple of 32, got tensor<fp16, [2]>
              hint: pad the width to a multiple of 32 and use the first part
            main, output `y`: ANE070 warning: expected a width that is a multiple of 32, got tensor<fp16, [1, 2, 1, 30]>
              hint: pad the width to a multiple of 32 and use the first part
            macOS reports: Error Domain=com.apple.appleneuralengine.compiler Code=1 "_ANECompiler : ANECCompile() FAILED" err=( InvalidMILProgram )"#]],
    );
    check(
        &refusal(&convolution(17, false), "m4"),
        expect![[r#"
            the program breaks rules of the machine
            main, operation 1 `y`: ANE031 expected a kernel width in [1, 15] on m4, got 17 in tensor<fp16, [2, 2, 1, 17]>
              hint: cut the kernel along the width and add the partial results, or turn the axes
            main, output `y`: ANE070 warning: expected a width that is a multiple of 32, got tensor<fp16, [1, 2, 1, 16]>
              hint: pad the width to a multiple of 32 and use the first part
            macOS reports: Error Domain=com.apple.appleneuralengine.compiler Code=1 "_ANECompiler : ANECCompile() FAILED" err=( CompilationFailure )"#]],
    );
    check(
        &refusal(&convolution(17, true), "m4/e5rt"),
        expect![[r#"
            the program breaks rules of the machine
            main, operation 1 `y`: ANE031 expected a kernel width in [1, 15] on m4, got 17 in tensor<fp16, [2, 2, 1, 17]>
              hint: cut the kernel along the width and add the partial results, or turn the axes
            main, operation 1 `y`: ANE036 expected a constant bias, got a tensor<fp16, [2]> of run time
              hint: add the bias, as [1, C, 1, 1], to the result
            macOS reports: MILCompilerForANE error: failed to compile ANE model using ANEF. Error=_ANECompiler : ANECCompile() FAILED (11)"#]],
    );
    let both = refusal(&convolution(17, true), "m1");
    assert!(
        matches!(&both, AneError::Refused { refusal: Refusal::InvalidMilProgram, violations, .. }
        if violations.len() > 2)
    );
}

#[test]
fn budgets_of_a_process() {
    check(
        &AneError::CompileBudget { limit: 119 },
        expect![[r#"
        this process has compiled 119 programs, as many as the compiler survives (ANE083): compile each program once and give weights as inputs, or save a checkpoint and start the process anew
        macOS reports: Error Domain=com.apple.appleneuralengine.compiler Code=1 "_ANECompiler : ANECCompile() FAILED" err=( CompilationFailure )"#]],
    );
    let full = |path| AneError::TooManyPrograms { limit: 128, path };
    check(
        &full(CallPath::InMemory),
        expect![[r#"
        128 programs are loaded, the most that a process may hold (ANE084): drop an executable before loading the next
        macOS reports: Error Domain=com.apple.appleneuralengine Code=6 "createProgramInstanceForModel:modelToken:qos:isPreCompiled:enablePowerSaving:statsMask:memoryPoolID:enableLateLatch:modelIdentityStr:error:: Program load failure (0x50004)""#]],
    );
    check(
        &full(CallPath::E5rt),
        expect![[r#"
        128 programs are loaded, the most that a process may hold (ANE084): drop an executable before loading the next
        macOS reports: GetANEFModel: must re-compile (13)"#]],
    );
    let large = AneError::ProgramTooLarge { bytes: 4_000_000_000, limit: 3_400_000_000 };
    check(
        &large,
        expect![[r#"
        a program with 4000000000 bytes of constants does not fit the engine's address window of 3400000000 bytes (ANE014): cut it into several programs or give weights as inputs
        macOS reports: Error Domain=com.apple.appleneuralengine Code=6 "createProgramInstanceForModel:modelToken:qos:isPreCompiled:enablePowerSaving:statsMask:memoryPoolID:enableLateLatch:modelIdentityStr:error:: Program load failure (0x20004)""#]],
    );
    check(
        &AneError::ResourcesExhausted,
        expect![[r#"
        the engine has no room for another program: programs were not released; drop executables that are not in use, or start the process anew
        macOS reports: Error Domain=com.apple.appleneuralengine Code=6 "createProgramInstanceForModel:modelToken:qos:isPreCompiled:enablePowerSaving:statsMask:memoryPoolID:enableLateLatch:modelIdentityStr:error:: Program load failure (0x50004)""#]],
    );
    check(
        &AneError::InvalidBundle,
        expect![[r#"
        macOS does not accept the compiled program's directory (seen on macOS 27): use the other call path
        macOS reports: Error Domain=com.apple.appleneuralengine Code=10 "verifyBundleAtPath: invalid model""#]],
    );
}

#[test]
fn requests() {
    let what = "input";
    check(
        &AneError::SurfaceCount { what, expected: 3, got: 2 },
        expect![[r#"
        a request needs 3 input surfaces, got 2 (ANE082): bind one per port, in alphabetical order of the ports' names
        macOS reports: Error Domain=com.apple.appleneuralengine Code=8 "processRequest:model:qos:qIndex:modelStringID:options:error:: ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9: Program Inference error""#]],
    );
    check(
        &AneError::SurfaceSizes { what, sizes: vec![49_152, 98_304] },
        expect![[r#"
        input surfaces of one request need one allocation size, got [49152, 98304] bytes (ANE080, C1-uniform-sizes): allocate all of them at the largest size; data stay packed from byte 0
        macOS reports: Error Domain=com.apple.appleneuralengine Code=8 "processRequest:model:qos:qIndex:modelStringID:options:error:: ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9: Program Inference error""#]],
    );
    let small = AneError::SurfaceTooSmall { what, index: 1, minimum: 49_152, got: 2_048 };
    check(
        &small,
        expect![[r#"
        input surface 1 is allocated with 2048 bytes, below the minimum of 49152 (ANE081, C1-minimum-size): allocate more; data stay packed from byte 0
        macOS reports: Error Domain=com.apple.appleneuralengine Code=8 "processRequest:model:qos:qIndex:modelStringID:options:error:: ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9: Program Inference error""#]],
    );
    check(
        &AneError::Procedure { index: 2, count: 1 },
        expect![[r#"
        the request names procedure 2, but the program has 1: take indices from the loaded model's own description
        macOS reports: Error Domain=com.apple.appleneuralengine Code=8 "processRequest:model:qos:qIndex:modelStringID:options:error:: ANEProgramProcessRequestDirect() Failed with status=0x2 : statusType=0x9: Program Inference error""#]],
    );
    check(
        &AneError::Timeout,
        expect![[r#"
        the engine gave up on a request that took too long: cut the program into smaller ones
        macOS reports: Error Domain=com.apple.appleneuralengine Code=3 "processRequest:model:qos:qIndex:modelStringID:options:error:: ANEProgramProcessRequestDirect() Failed with status=0xf : statusType=0x11: Program Inference timeout: timed out""#]],
    );
    check(
        &AneError::Chaining,
        expect![[r#"
        requests cannot be chained on the engine without an entitlement: run them one after the other on shared surfaces
        macOS reports: Error Domain=com.apple.appleneuralengine Code=15 "ANEProgramChainingPrepare() Failed: Program chaining prepare error""#]],
    );
    check(
        &AneError::SurfaceMap { code: 0xe000_02c2 },
        expect![[r#"
        macOS could not map the surfaces of the request into the engine: allocate them anew and build the request again
        macOS reports: Error Domain=com.apple.appleneuralengine Code=13 "Program IOSurfaces map failure (0xe00002c2)""#]],
    );
    let status = AneError::SurfaceCount { what, expected: 1, got: 0 }.ns_error().unwrap();
    assert_eq!((status.domain, status.code), ("com.apple.appleneuralengine", 8));
    assert_eq!(status.description, REQUEST_FAILED);
}

#[test]
fn our_own() {
    let ty = TensorType::fp16([1, 4, 1, 16]);
    let (port, got) = ("x".to_owned(), TensorType::fp32([1, 4, 1, 16]));
    check(
        &AneError::SurfaceType { port, expected: ty, got },
        expect![
            "port `x` is a tensor<fp16, [1, 4, 1, 16]>, but the surface bound to it holds tensor<fp32, [1, 4, 1, 16]>"
        ],
    );
    let shared = AneError::SurfaceShared { a: "y".to_owned(), b: "x".to_owned() };
    check(
        &shared,
        expect![
            "one surface is bound to y and to x: an output may not share memory with another port"
        ],
    );
    check(
        &AneError::SurfaceLength { count: 64, got: 63 },
        expect!["a surface for 64 elements was given 63"],
    );
    check(
        &AneError::Unsupported { op: "gather".to_owned() },
        expect![
            "the engine does not execute `gather`; compute it on the CPU, or write it with operations that it has (a gather is a product with a one-hot matrix)"
        ],
    );
    let blob = BlobError::Version(1);
    check(
        &AneError::from(CpuError::from(blob)),
        expect!["Storage Reader expects file format version 2. (found 1)"],
    );
}

#[test]
fn many_places_that_break_a_rule_are_counted() {
    let b = Builder::new("main");
    let mut x = b.input("x", TensorType::fp16([1, 4, 1, 70_016]));
    for _ in 0..5 {
        x = b.op(Op::Relu, vec![("x", Arg::Value(x.id()))])[0];
    }
    let program = Program::new(b.finish(&[x.named("y")]).unwrap());
    let text = refusal(&program, "m4").to_string();
    // The input and five results.
    assert_eq!(text.matches("ANE012 expected width").count(), 3, "{text}");
    assert!(text.contains("\nand 3 more places that break ANE012"), "{text}");
}

#[test]
fn errors_of_other_crates_are_carried_with_their_words() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("the {0} is broken")]
    struct Broken(&'static str);
    let error = AneError::own(Broken("clock"));
    assert_eq!(error.to_string(), "the clock is broken");
    assert_eq!(error.as_own::<Broken>(), Some(&Broken("clock")));
    assert!(error.as_own::<fmt::Error>().is_none());
    assert!(AneError::Timeout.as_own::<Broken>().is_none());
    assert_eq!(error, AneError::own(Broken("clock")));
    assert_ne!(error, AneError::own(Broken("door")));
    assert!(error.ns_error().is_none() && !error.is_retryable());
}
