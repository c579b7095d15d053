//! The words of macOS, row by row of docs/ane-facts.md B.3: each error is brought about by a
//! program or a request through the public interface, and the machine's line is compared to the
//! letter.
//!
//! Rows that no program and no request here can bring about have no test: the Espresso-IR route
//! (TMC), Core ML on macOS 14 (status 0x16), chaining and IOSurface mapping (no such call exists
//! here), directories of macOS 27, the kernel's own codes.

use ane::{
    AneError, BindingRules, Device, Emulator, Faults, Faulty, RawSurface, Request, SurfaceObject,
};
use chip::legal;
use cpu::Numerics;
use mil::{Program, Weights};

const COMPILER: &str = "Error Domain=com.apple.appleneuralengine.compiler Code=1 \
                        \"_ANECompiler : ANECCompile() FAILED\"";
const E5RT: &str = "MILCompilerForANE error: failed to compile ANE model using ANEF. \
                    Error=_ANECompiler : ANECCompile() FAILED (11)";
const REQUEST: &str = "Error Domain=com.apple.appleneuralengine Code=8 \
                       \"processRequest:model:qos:qIndex:modelStringID:options:error:: \
                       ANEProgramProcessRequestDirect() Failed with ";
const LOAD: &str = "Error Domain=com.apple.appleneuralengine Code=6 \
                    \"createProgramInstanceForModel:modelToken:qos:isPreCompiled:\
                    enablePowerSaving:statsMask:memoryPoolID:enableLateLatch:modelIdentityStr:\
                    error:: Program load failure ";

/// A program of the statements `body` over the parameters `params`, returning `y`.
fn program(params: &str, body: &str) -> Program {
    let text = format!("program(1.3)\n{{ func main<ios18>({params}) {{ {body} }} -> (y); }}");
    mil::parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

fn emulator(profile: &str) -> Emulator {
    Emulator::engine(profile.parse().unwrap(), Numerics::Fast)
}

fn compile(profile: &str, program: &Program) -> AneError {
    emulator(profile).compile(program, &Weights::new()).unwrap_err()
}

/// The machine's line of an error's text.
fn reported(error: &AneError) -> String {
    let text = error.to_string();
    let (_, line) = text.rsplit_once("\nmacOS reports: ").unwrap_or_else(|| panic!("{text}"));
    line.to_owned()
}

/// The validators' lines of an error's text.
fn logged(error: &AneError) -> Vec<String> {
    let text = error.to_string();
    text.lines().filter_map(|l| l.strip_prefix("the compiler's log: ")).map(str::to_owned).collect()
}

/// A convolution of [1, 64, 1, 64] with `weight`; `more` are further arguments.
fn conv(weight: &str, result: &str, more: &str) -> Program {
    program(
        "tensor<fp16, [1, 64, 1, 64]> x",
        &format!(
            "tensor<fp16, {weight}> w = const()[name = string(\"w\"), val = tensor<fp16, {weight}>(
                BLOBFILE(path = string(\"@model_path/weights/w.bin\"), offset = uint64(64)))];
             tensor<fp16, {result}> y = conv(x = x, weight = w{more})[name = string(\"y\")];"
        ),
    )
}

fn wide_kernel() -> Program {
    conv("[64, 64, 1, 17]", "[1, 64, 1, 48]", "")
}

#[test]
fn validity_failures_in_memory() {
    let bias = program(
        "tensor<fp16, [1, 64, 1, 64]> x, tensor<fp16, [64]> b",
        "tensor<fp16, [64, 64, 1, 1]> w = const()[name = string(\"w\"), val = tensor<fp16, [64, 64, 1, 1]>(
            BLOBFILE(path = string(\"@model_path/weights/w.bin\"), offset = uint64(64)))];
         tensor<fp16, [1, 64, 1, 64]> y = conv(x = x, weight = w, bias = b)[name = string(\"y\")];",
    );
    let wrong_type = program(
        "tensor<fp16, [1, 64, 1, 64]> x",
        "tensor<fp16, [1, 64, 1, 32]> y = add(x = x, y = x)[name = string(\"y\")];",
    );
    for program in [bias, wrong_type] {
        let error = compile("m4", &program);
        assert_eq!(reported(&error), format!("{COMPILER} err=( InvalidMILProgram )"));
    }
}

#[test]
fn codegen_failures_in_memory_and_by_e5rt() {
    let error = compile("m4", &wide_kernel());
    assert_eq!(reported(&error), format!("{COMPILER} err=( CompilationFailure )"));
    assert_eq!(reported(&compile("m4/e5rt", &wide_kernel())), E5RT);
}

#[test]
fn validators_write_to_the_log() {
    let says = |profile: &str, program: &Program, line: &str| {
        let error = compile(profile, program);
        assert_eq!(logged(&error), [line], "{error}");
    };
    says("m4", &wide_kernel(), "Invalid conv kernel width = 17, It should be in [1,15]");
    let kernel14 = conv("[64, 64, 1, 14]", "[1, 64, 1, 51]", "");
    says("m1", &kernel14, "Invalid conv kernel width = 14, It should be in [1,13]");
    says(
        "m4",
        &conv("[64, 12, 1, 1]", "[1, 64, 1, 64]", ", groups = int32(5)"),
        "input/output channels should be divisible by num group",
    );
    let wide = program(
        "tensor<fp16, [1, 1, 1, 17920]> x",
        "tensor<fp16, [1, 1, 1, 17920]> y = relu(x = x)[name = string(\"y\")];",
    );
    let error = compile("m3-ultra", &wide);
    assert!(logged(&error).iter().all(|l| l == "exceeds ANE family 2's max dimension 16384"));
    assert!(!logged(&error).is_empty(), "{error}");
    assert!(emulator("m4").compile(&wide, &Weights::new()).is_ok());
    says(
        "m4",
        &program(
            "tensor<fp16, [2, 4, 4, 4, 16]> x",
            "tensor<fp16, [2, 2, 4, 4, 4, 8]> r = reshape(x = x, shape = \
             tensor<int32, [6]>([2, 2, 4, 4, 4, 8]))[name = string(\"r\")];
             tensor<fp16, [2, 4, 4, 4, 16]> y = reshape(x = r, shape = \
             tensor<int32, [5]>([2, 4, 4, 4, 16]))[name = string(\"y\")];",
        ),
        "Cannot reshape a tensor of rank > 5",
    );
    says(
        "m4",
        &program(
            "tensor<fp16, [1, 2, 2, 16, 16]> x",
            "tensor<fp16, [1, 2, 2, 16, 16]> y = matmul(x = x, y = x, transpose_x = bool(false), \
             transpose_y = bool(false))[name = string(\"y\")];",
        ),
        "depth > 1 is not supported for MatMult",
    );
    says(
        "m4",
        &program(
            "tensor<fp16, [1, 1, 2, 16, 16]> x",
            "tensor<fp16, [16, 16]> w = const()[name = string(\"w\"), val = tensor<fp16, [16, 16]>(
                BLOBFILE(path = string(\"@model_path/weights/w.bin\"), offset = uint64(64)))];
             tensor<fp16, [1, 1, 2, 16, 16]> y = linear(x = x, weight = w)[name = string(\"y\")];",
        ),
        "ANE cannot support Linear with input rank >= 5",
    );
    says(
        "m4",
        &program(
            "tensor<fp16, [1, 2, 1, 16]> x, tensor<int32, []> axis",
            "tensor<fp16, [1, 4, 1, 16]> y = concat(values = (x, x), axis = axis, \
             interleave = bool(false))[name = string(\"y\")];",
        ),
        "ANE Concat supports only supports const positive axis",
    );
}

#[test]
fn a_validator_that_some_sources_contradict_is_a_warning() {
    let padded = program(
        "tensor<fp16, [1, 16, 4, 16]> x",
        "tensor<fp16, [1, 18, 4, 16]> y = pad(x = x, pad = tensor<int32, [8]>([0, 0, 1, 1, 0, 0, 0, \
         0]), mode = string(\"constant\"), constant_val = fp16(0.0))[name = string(\"y\")];",
    );
    let profile = "m4".parse().unwrap();
    let found = legal::violations(&padded, &profile);
    let said: Vec<_> =
        found.iter().filter_map(|v| legal::validator_message(&padded, &profile, v)).collect();
    assert_eq!(said, ["Channel padding is not supported on ANE"]);
}

/// y = x + x on [1, 1, 1, 16], in two procedures.
fn doubles() -> Program {
    let function = |name| {
        format!(
            "func {name}<ios18>(tensor<fp16, [1, 1, 1, 16]> x) {{
                tensor<fp16, [1, 1, 1, 16]> y = add(x = x, y = x)[name = string(\"y\")];
            }} -> (y);"
        )
    };
    mil::parse(&format!("program(1.3) {{ {} {} }}", function("main"), function("again"))).unwrap()
}

fn surface(allocation: usize) -> SurfaceObject {
    SurfaceObject::new(RawSurface::new(allocation))
}

#[test]
fn requests_with_wrong_surfaces_end_in_0x1d() {
    let status = format!("{REQUEST}status=0x1d : statusType=0x9: Program Inference error\"");
    let two = program(
        "tensor<fp16, [1, 1, 1, 16]> a, tensor<fp16, [1, 1, 1, 16]> b",
        "tensor<fp16, [1, 1, 1, 16]> y = add(x = a, y = b)[name = string(\"y\")];",
    );
    let emulator = emulator("m4");
    let mut model = emulator.load(&two, &Weights::new(), BindingRules::default()).unwrap();
    let (fits, large) = (surface(49_152), surface(65_536));
    let mut says = |inputs: &[&SurfaceObject]| {
        let inputs: Vec<SurfaceObject> = inputs.iter().map(|s| (*s).clone()).collect();
        reported(&model.evaluate(&Request::new(0, &inputs, &[surface(49_152)])).unwrap_err())
    };
    assert_eq!(says(&[&fits]), status, "count");
    assert_eq!(says(&[&fits, &large]), status, "sizes");
    assert_eq!(says(&[&fits, &surface(1024)]), status, "too small");
    // Typed surfaces end the same way.
    let mut exe = emulator.compile(&two, &Weights::new()).unwrap();
    let ty = exe.outputs()[0].ty.clone();
    let [small, fits, large] =
        [64, 49_152, 65_536].map(|bytes| emulator.surface(&ty, bytes).unwrap());
    for inputs in [&[&fits][..], &[&fits, &large], &[&small, &small]] {
        assert_eq!(reported(&exe.run(inputs, &[&fits.clone()]).unwrap_err()), status);
    }
}

#[test]
fn requests_with_a_wrong_procedure_or_symbol_end_in_0x2() {
    let status = format!("{REQUEST}status=0x2 : statusType=0x9: Program Inference error\"");
    let mut model =
        emulator("m4").load(&doubles(), &Weights::new(), BindingRules::default()).unwrap();
    let bound = [surface(49_152)];
    let wrong = Request::new(2, &bound, &[surface(49_152)]);
    assert_eq!(reported(&model.evaluate(&wrong).unwrap_err()), status);
    let wrong = Request::new(1, &bound, &[surface(49_152)]).with_symbols(&[0], &[0]);
    assert_eq!(reported(&model.evaluate(&wrong).unwrap_err()), status);
}

#[test]
fn a_request_that_never_ends_is_timed_out() {
    let faults = Faults::parse("hang-after:0,hang-limit:0.001", 1).unwrap();
    let device = Faulty::new(Box::new(Emulator::cpu(Numerics::Fast)), faults);
    let mut exe = device.compile(&doubles(), &Weights::new()).unwrap();
    let ty = exe.inputs()[0].ty.clone();
    let [x, y] = [0, 0].map(|n| device.surface(&ty, n).unwrap());
    assert_eq!(
        reported(&exe.run(&[&x], &[&y]).unwrap_err()),
        "Error Domain=com.apple.appleneuralengine Code=3 \
         \"processRequest:model:qos:qIndex:modelStringID:options:error:: \
         ANEProgramProcessRequestDirect() Failed with status=0xf : statusType=0x11: \
         Program Inference timeout: timed out\""
    );
}

#[test]
fn a_bank_of_constants_too_large_to_load() {
    // Two constants of 2 GiB in a file that is not even read.
    let shape = "[65536, 16384, 1, 1]";
    let blob = |name: &str| {
        format!(
            "tensor<fp16, {shape}> {name} = const()[name = string(\"{name}\"), \
             val = tensor<fp16, {shape}>(BLOBFILE(path = string(\"@model_path/weights/w.bin\"), \
             offset = uint64(64)))];"
        )
    };
    let conv = |y: &str, w: &str| {
        format!(
            "tensor<fp16, [1, 65536, 1, 16]> {y} = conv(x = x, weight = {w})[name = string(\"{y}\")];"
        )
    };
    let bank = program(
        "tensor<fp16, [1, 16384, 1, 16]> x",
        &format!(
            "{}{}{}{}tensor<fp16, [1, 65536, 1, 16]> y = add(x = p, y = q)[name = string(\"y\")];",
            blob("v"),
            blob("w"),
            conv("p", "v"),
            conv("q", "w")
        ),
    );
    assert_eq!(reported(&compile("m4", &bank)), format!("{LOAD}(0x20004)\""));
    let budget = ane::Budget::new(&chip::Profile::default());
    let refused = budget.load(3_750_000_000).unwrap_err();
    assert_eq!(reported(&refused), format!("{LOAD}(0x20004)\""));
}

#[test]
fn leaked_programs_end_in_0x50004() {
    let emulator = emulator("m4/e5rt");
    let load = || emulator.load(&doubles(), &Weights::new(), BindingRules::default());
    (0..128).for_each(|_| load().unwrap().leak());
    assert_eq!(reported(&load().unwrap_err()), format!("{LOAD}(0x50004)\""));
}

#[test]
fn the_129th_loaded_program() {
    let emulator = emulator("m4/e5rt");
    let compile = || emulator.compile(&doubles(), &Weights::new());
    let held: Vec<_> = (0..128).map(|_| compile().unwrap()).collect();
    assert_eq!(reported(&compile().unwrap_err()), "GetANEFModel: must re-compile (13)");
    drop(held);
    assert!(compile().is_ok(), "a free place is a place");
}

#[test]
fn the_120th_compile() {
    let emulator = emulator("m4");
    let compile = || emulator.compile(&doubles(), &Weights::new()).map(drop);
    (0..119).for_each(|_| compile().unwrap());
    let error = compile().unwrap_err();
    assert_eq!(reported(&error), format!("{COMPILER} err=( CompilationFailure )"));
    assert_eq!(error, AneError::CompileBudget { limit: 119 });
}
