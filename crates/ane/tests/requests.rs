//! Requests by position: what breaking each rule of surfaces does (docs/ane-facts.md C.1, D, A.6), in
//! strict mode and as on the machine.

use ane::{
    AneError, BindingRules, DataLayout, Emulator, Holding, LoadedModel, RawSurface, Request,
    SizeRule, Strictness, SurfaceObject,
};
use chip::Profile;
use cpu::Numerics;
use mil::{TensorType, Weights};
use std::slice::from_ref;

/// Smallest allocation in memory on macOS 15.
const LEAST: usize = 49_152;

/// Two procedures. The first, with its ports out of alphabetical order in the text: y = a − 2·b, z = a + b.
const TEXT: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 2, 1, 16]> b, tensor<fp16, [1, 2, 1, 16]> a) {
        tensor<fp16, [1, 2, 1, 16]> z = add(x = a, y = b)[name = string("z")];
        tensor<fp16, [1, 2, 1, 16]> c = add(x = b, y = b)[name = string("c")];
        tensor<fp16, [1, 2, 1, 16]> y = sub(x = a, y = c)[name = string("y")];
    } -> (z, y);
    func double<ios18>(tensor<fp16, [1, 2, 1, 16]> x) {
        tensor<fp16, [1, 2, 1, 16]> y = add(x = x, y = x)[name = string("y")];
    } -> (y);
}
"#;

const STRICT: BindingRules =
    BindingRules { strictness: Strictness::Strict, sizes: SizeRule::Uniform, widths_of_16: false };
const HARDWARE: BindingRules = BindingRules { strictness: Strictness::Hardware, ..STRICT };

fn emulator(profile: &str) -> Emulator {
    Emulator::engine(profile.parse().unwrap(), Numerics::Fast)
}

fn model(rules: BindingRules) -> LoadedModel {
    emulator("m4").load(&mil::parse(TEXT).unwrap(), &Weights::new(), rules).unwrap()
}

fn holding(name: &str) -> Holding {
    let ty = TensorType::fp16([1, 2, 1, 16]);
    Holding { name: name.to_owned(), ty, layout: DataLayout::Packed }
}

fn object(allocation: usize) -> SurfaceObject {
    SurfaceObject::new(RawSurface::new(allocation))
}

/// A surface that holds first, first + 1, …
fn input(name: &str, first: f32, allocation: usize) -> SurfaceObject {
    let object = object(allocation);
    object.surface().write(holding(name), &ramp(first)).unwrap();
    object
}

fn ramp(first: f32) -> Vec<f32> {
    (0..32).map(|i| first + i as f32).collect()
}

fn read(object: &SurfaceObject, name: &str) -> Vec<f32> {
    object.surface().read(&holding(name)).unwrap()
}

/// The results of the first procedure for inputs a and b.
fn expected(a: &[f32], b: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let pairs = || a.iter().zip(b);
    (pairs().map(|(a, b)| a - 2.0 * b).collect(), pairs().map(|(a, b)| a + b).collect())
}

fn fact(error: AneError) -> &'static str {
    match error {
        AneError::SilentlyWrong { fact, .. } => fact,
        other => panic!("{other}"),
    }
}

#[test]
fn bound_in_alphabetical_order_data_come_out_right() {
    for rules in [STRICT, HARDWARE] {
        let (a, b) = (input("a", 0.0, LEAST), input("b", 5.0, LEAST));
        let (y, z) = (object(LEAST), object(LEAST));
        let request = Request::new(0, &[a, b], &[y.clone(), z.clone()]);
        model(rules).evaluate(&request).unwrap();
        assert_eq!((read(&y, "y"), read(&z, "z")), expected(&ramp(0.0), &ramp(5.0)));
    }
}

#[test]
fn c1_alphabetical_inputs_in_the_order_of_the_text_are_permuted() {
    let (a, b) = (input("a", 0.0, LEAST), input("b", 5.0, LEAST));
    let (y, z) = (object(LEAST), object(LEAST));
    // The order of declaration.
    let request = Request::new(0, &[b, a], &[y.clone(), z.clone()]);
    let error = model(STRICT).evaluate(&request).unwrap_err();
    assert_eq!(
        error.to_string(),
        "input surface 0 holds `b` but is taken for `a`: inputs and outputs are bound in \
         alphabetical order of their names (C1-alphabetical): the machine gives wrong data here \
         without a word"
    );
    assert_eq!(error.ns_error(), None, "macOS does not report it");
    assert_eq!(fact(error), "C1-alphabetical");
    model(HARDWARE).evaluate(&request).unwrap();
    assert_eq!((read(&y, "y"), read(&z, "z")), expected(&ramp(5.0), &ramp(0.0)));
}

#[test]
fn c1_alphabetical_outputs_in_the_order_of_the_text_are_permuted() {
    let (a, b) = (input("a", 0.0, LEAST), input("b", 5.0, LEAST));
    let (first, second) = (object(LEAST), object(LEAST));
    let request = Request::new(0, &[a, b], &[first.clone(), second.clone()]);
    let (y, z) = expected(&ramp(0.0), &ramp(5.0));
    // The text returns (z, y).
    model(STRICT).evaluate(&request).unwrap();
    let error = first.surface().read(&holding("z")).unwrap_err();
    assert_eq!(fact(error), "C1-alphabetical");
    model(HARDWARE).evaluate(&request).unwrap();
    assert_eq!((read(&first, "z"), read(&second, "y")), (y, z));
}

#[test]
fn c1_packed_rows_at_a_distance_are_read_as_if_packed() {
    // Rows of 32 bytes at a distance of 64: the allocation is honoured, the padding is not.
    let padded = Holding { layout: DataLayout::Rows { stride: 64 }, ..holding("x") };
    let (x, y) = (object(LEAST), object(LEAST));
    x.surface().write(padded.clone(), &ramp(1.0)).unwrap();
    assert_eq!(x.surface().read(&padded).unwrap(), ramp(1.0), "it reads back as it was written");
    let request = Request::new(1, &[x], from_ref(&y));
    let error = model(STRICT).evaluate(&request).unwrap_err();
    assert!(error.to_string().contains("at a distance of 64"), "{error}");
    assert_eq!(fact(error), "C1-packed");
    model(HARDWARE).evaluate(&request).unwrap();
    // The first row, then the zeros after it, in place of the second row.
    let wrong: Vec<f32> =
        (0..32).map(|i| if i < 16 { 2.0 * (1.0 + i as f32) } else { 0.0 }).collect();
    assert_eq!(read(&y, "y"), wrong);
    // The output is packed too: reading rows at a distance is the same mistake.
    let (x, y) = (input("x", 1.0, LEAST), object(LEAST));
    let request = Request::new(1, &[x], from_ref(&y));
    let strided = Holding { name: "y".to_owned(), ..padded };
    model(STRICT).evaluate(&request).unwrap();
    assert_eq!(fact(y.surface().read(&strided).unwrap_err()), "C1-packed");
    model(HARDWARE).evaluate(&request).unwrap();
    let rows = y.surface().read(&strided).unwrap();
    assert_eq!((&rows[..16], &rows[16..]), (&wrong[..16], &[0.0; 16][..]));
}

#[test]
fn c1_packed_data_begin_at_byte_0_of_any_allocation() {
    for allocation in [LEAST, 4 * LEAST] {
        let (x, y) = (input("x", 1.0, allocation), object(2 * LEAST));
        let request = Request::new(1, &[x], from_ref(&y));
        model(STRICT).evaluate(&request).unwrap();
        let bytes = y.surface().bytes();
        assert_eq!(&bytes[..4], [0x00, 0x40, 0x00, 0x44], "2.0 and 4.0 in binary16");
        assert!(bytes[64..].iter().all(|&b| b == 0));
    }
}

#[test]
fn bytes_of_unknown_meaning_are_taken_as_they_are() {
    let (x, y) = (object(LEAST), object(LEAST));
    x.surface().write_bytes(&[0x00, 0x3c]).unwrap();
    let request = Request::new(1, from_ref(&x), from_ref(&y));
    model(STRICT).evaluate(&request).unwrap();
    assert_eq!(read(&y, "y")[..2], [2.0, 0.0]);
    assert_eq!((x.surface().holding(), y.surface().holding()), (None, Some(holding("y"))));
    assert_eq!(
        x.surface().write_bytes(&vec![0; LEAST + 1]),
        Err(AneError::SurfaceLength { count: LEAST, got: LEAST + 1 })
    );
}

#[test]
fn c1_uniform_sizes_are_asked_for_on_both_sides() {
    let sizes = |i: [usize; 2], o: [usize; 2]| {
        let inputs = [input("a", 0.0, i[0]), input("b", 5.0, i[1])];
        let outputs = [object(o[0]), object(o[1])];
        let request = Request::new(0, &inputs, &outputs);
        let [strict, hardware] = [STRICT, HARDWARE].map(|rules| model(rules).evaluate(&request));
        let errors = [strict.err(), hardware.err()];
        assert_eq!(errors[0], errors[1], "an error in both modes");
        errors[0].clone().map(|e| e.to_string())
    };
    assert_eq!(sizes([LEAST; 2], [2 * LEAST; 2]), None);
    for (i, o) in [([LEAST, 2 * LEAST], [LEAST; 2]), ([LEAST; 2], [2 * LEAST, LEAST])] {
        let text = sizes(i, o).unwrap();
        assert!(text.contains("C1-uniform-sizes") && text.contains("status=0x1d"), "{text}");
    }
}

#[test]
fn c1_monotone_sizes_the_other_reading_gives_zeros() {
    let run = |strictness, i: [usize; 2], o: [usize; 2]| {
        let rules = BindingRules { strictness, sizes: SizeRule::Monotone, ..STRICT };
        let inputs = [input("a", 0.0, i[0]), input("b", 5.0, i[1])];
        let outputs = [object(o[0]), object(o[1])];
        outputs[0].surface().write_bytes(&[0xff; 64]).unwrap();
        model(rules)
            .evaluate(&Request::new(0, &inputs, &outputs))
            .map(|_| (outputs[0].surface().bytes()[..64].to_vec(), read(&outputs[1], "z")))
    };
    let (small, large) = (LEAST, 2 * LEAST);
    for strictness in [Strictness::Strict, Strictness::Hardware] {
        let (_, z) = run(strictness, [small, large], [large, small]).unwrap();
        assert_eq!(z, expected(&ramp(0.0), &ramp(5.0)).1, "inputs grow, outputs shrink");
    }
    for (i, o) in [([large, small], [small; 2]), ([small; 2], [small, large])] {
        let error = run(Strictness::Strict, i, o).unwrap_err();
        assert_eq!(fact(error), "C1-monotone-sizes");
        let zeros = (vec![0; 64], vec![0.0; 32]);
        assert_eq!(run(Strictness::Hardware, i, o).unwrap(), zeros);
    }
    let small = run(Strictness::Strict, [LEAST, LEAST - 1], [LEAST; 2]).unwrap_err();
    assert!(matches!(small, AneError::SurfaceTooSmall { index: 1, .. }), "{small}");
}

#[test]
fn c1_minimum_size_depends_on_the_system_and_the_tensor() {
    let program = mil::parse(TEXT).unwrap();
    for (profile, least) in [("m4/macos15", 49_152), ("m4/macos26", 2_048), ("m4/macos15/e5rt", 64)]
    {
        for rules in [STRICT, HARDWARE] {
            let emulator = emulator(profile);
            let mut model = emulator.load(&program, &Weights::new(), rules).unwrap();
            let mut run = |bytes: usize| {
                let (x, y) = (object(bytes), object(bytes));
                model.evaluate(&Request::new(1, &[x], &[y])).map(drop)
            };
            assert_eq!(run(least), Ok(()), "{profile}");
            let got = least - 1;
            let minimum = least;
            let what = "input";
            let error = AneError::SurfaceTooSmall { what, index: 0, minimum, got };
            assert_eq!(run(got), Err(error.clone()), "{profile}");
            assert!(error.to_string().contains("C1-minimum-size"));
        }
    }
}

#[test]
fn c1_width_16_is_an_option() {
    let text = TEXT.replace("16]", "24]");
    let program = mil::parse(&text).unwrap();
    let run = |rules| {
        let mut model =
            Emulator::cpu(Numerics::Fast).load(&program, &Weights::new(), rules).unwrap();
        model.evaluate(&Request::new(1, &[object(LEAST)], &[object(LEAST)])).map(drop)
    };
    assert_eq!(run(STRICT), Ok(()));
    let error = run(BindingRules { widths_of_16: true, ..STRICT }).unwrap_err();
    assert_eq!(fact(error), "C1-width-16");
    assert_eq!(run(BindingRules { widths_of_16: true, ..HARDWARE }), Ok(()));
}

#[test]
fn c1_count_is_an_error_everywhere() {
    for rules in [STRICT, HARDWARE] {
        let one = object(LEAST);
        let request = Request::new(0, from_ref(&one), &[one.clone(), one.clone()]);
        let error = model(rules).evaluate(&request).unwrap_err();
        assert_eq!(error, AneError::SurfaceCount { what: "input", expected: 2, got: 1 });
        let request = Request::new(1, from_ref(&one), &[one.clone(), one.clone()]);
        let error = model(rules).evaluate(&request).unwrap_err();
        assert_eq!(error, AneError::SurfaceCount { what: "output", expected: 1, got: 2 });
    }
}

#[test]
fn outputs_share_no_surface_of_the_request() {
    for rules in [STRICT, HARDWARE] {
        let one = object(LEAST);
        let shared =
            |a: &str, b: &str| Err(AneError::SurfaceShared { a: a.to_owned(), b: b.to_owned() });
        let mut model = model(rules);
        let mut run = |request| model.evaluate(&request).map(drop);
        assert_eq!(run(Request::new(1, from_ref(&one), from_ref(&one))), shared("y", "x"));
        let inputs = [object(LEAST), object(LEAST)];
        assert_eq!(run(Request::new(0, &inputs, &[one.clone(), one])), shared("z", "y"));
    }
}

#[test]
fn c1_rebuild_request_after_a_surface_was_replaced() {
    let (x, y) = (input("x", 1.0, LEAST), object(LEAST));
    let old = Request::new(1, from_ref(&x), from_ref(&y));
    x.replace(input("x", 100.0, LEAST).surface());
    let error = model(STRICT).evaluate(&old).unwrap_err();
    assert_eq!(fact(error), "C1-rebuild-request");
    model(HARDWARE).evaluate(&old).unwrap();
    assert_eq!(read(&y, "y")[..2], [2.0, 4.0], "the old surface is still read");
    let new = Request::new(1, &[x], from_ref(&y));
    model(STRICT).evaluate(&new).unwrap();
    assert_eq!(read(&y, "y")[..2], [200.0, 202.0]);
}

#[test]
fn writing_into_a_bound_surface_needs_no_new_request() {
    let (x, y) = (input("x", 1.0, LEAST), object(LEAST));
    let request = Request::new(1, from_ref(&x), from_ref(&y));
    let mut model = model(STRICT);
    for first in [1.0, 7.0] {
        x.surface().write(holding("x"), &ramp(first)).unwrap();
        model.evaluate(&request).unwrap();
        assert_eq!(read(&y, "y")[0], 2.0 * first);
    }
}

#[test]
fn a6_procedures_are_driven_by_index() {
    let mut model = model(STRICT);
    let names: Vec<_> = model.procedures().iter().map(|p| p.name.clone()).collect();
    assert_eq!(names, ["main", "double"]);
    let (x, y) = (input("x", 1.0, LEAST), object(LEAST));
    let request = |index| Request::new(index, from_ref(&x), from_ref(&y));
    model.evaluate(&request(1)).unwrap();
    assert_eq!(read(&y, "y")[..3], [2.0, 4.0, 6.0]);
    let error = model.evaluate(&request(2)).unwrap_err();
    assert_eq!(error, AneError::Procedure { index: 2, count: 2 });
    assert!(error.to_string().contains("status=0x2 "), "{error}");
}

#[test]
fn a6_symbols_are_numbered_over_all_procedures() {
    let mut model = model(HARDWARE);
    let procedures = model.procedures();
    assert_eq!(
        (procedures[1].input_symbols.clone(), procedures[1].output_symbols.clone()),
        (2..3, 2..3)
    );
    let (x, y) = (input("x", 1.0, LEAST), object(LEAST));
    let request = Request::new(1, &[x], from_ref(&y));
    assert!(model.evaluate(&request.clone().with_symbols(&[2], &[2])).is_ok());
    let error = model.evaluate(&request.with_symbols(&[0], &[2])).unwrap_err();
    assert!(matches!(error, AneError::Symbol { what: "input", expected: 2, got: 0, .. }));
    assert!(error.to_string().contains("status=0x2 "), "{error}");
}

#[test]
fn d_the_128th_request_in_flight_waits() {
    let mut model = model(STRICT);
    let (x, y) = (input("x", 1.0, LEAST), object(LEAST));
    let request = Request::new(1, &[x], from_ref(&y));
    (0..127).for_each(|_| model.submit(&request).unwrap());
    assert_eq!(model.submit(&request), Err(AneError::InFlight { limit: 127 }));
    assert!(model.complete().unwrap().is_ok());
    model.submit(&request).unwrap();
    let done = std::iter::from_fn(|| model.complete()).filter(Result::is_ok).count();
    assert_eq!((done, model.in_flight()), (127, 0));
    assert_eq!(read(&y, "y")[0], 2.0);
}

#[test]
fn d_programs_take_places_whatever_the_number_of_their_procedures() {
    let emulator = emulator("m4/macos26/e5rt");
    let program = mil::parse(TEXT).unwrap();
    let load = || emulator.load(&program, &Weights::new(), STRICT);
    let mut held: Vec<_> = (0..128).map(|_| load().unwrap()).collect();
    let full = load().unwrap_err();
    assert!(matches!(full, AneError::TooManyPrograms { limit: 128, .. }), "{full}");
    held.pop();
    held.push(load().unwrap());
    // A lost program keeps its place: the machine then has no room at all (0x50004).
    held.pop().unwrap().leak();
    let leaked = load().unwrap_err();
    assert_eq!(leaked, AneError::ResourcesExhausted);
    assert!(leaked.to_string().contains("0x50004"), "{leaked}");
    drop(held);
    (0..127).for_each(|_| drop(load().unwrap()));
    let held: Vec<_> = (0..127).map(|_| load().unwrap()).collect();
    assert_eq!(load().unwrap_err(), AneError::ResourcesExhausted, "for the life of the process");
    drop(held);
}

#[test]
fn fp32_ports_are_four_bytes_in_raw_surfaces() {
    let text = r#"program(1.3)
    { func main<ios18>(tensor<fp32, [1, 1, 1, 16]> x) {
        tensor<fp32, [1, 1, 1, 16]> y = mul(x = x, y = x)[name = string("y")];
    } -> (y); }"#;
    let emulator = Emulator::cpu(Numerics::F32);
    let mut model = emulator.load(&mil::parse(text).unwrap(), &Weights::new(), STRICT).unwrap();
    let (x, y) = (object(64), object(64));
    x.surface().write_bytes(&1.5f32.to_le_bytes()).unwrap();
    model.evaluate(&Request::new(0, &[x], from_ref(&y))).unwrap();
    assert_eq!(y.surface().bytes()[..4], 2.25f32.to_le_bytes());
    assert_eq!(Profile::default().limits().in_flight, 127);
}
