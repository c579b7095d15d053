//! `anegpt mil`.

use crate::Bench;

/// A NumPy file, version 1.0, little-endian f32 in row-major order.
fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    bytes
}

#[test]
fn a_program_runs_on_arrays() {
    let bench = Bench::new();
    bench.write(
        "product.mil",
        "program(1.0) { func main<ios16>(tensor<fp16,[1,1,2,3]> a, tensor<fp16, [1,1,3,2]> b) {
            tensor<bool, []> no = const()[name=tensor<string, []>(\"no\"), val=tensor<bool, []>(false)];
            tensor<fp16,[1,1,2,2]> y = matmul(transpose_x=no, transpose_y=bool(false), x=a, y=b)[name=string(\"y\")];
        } -> (y); }",
    );
    bench.write("a.npy", npy("(1, 1, 2, 3)", &[1.0, 2.0, 3.0, 4.0, 5.0, 300.0]));
    bench.write("b.npy", npy("(1, 1, 3, 2)", &[1.0, 0.5, 0.25, 1.0, 2.0, 200.0]));
    let args = [
        "mil",
        "run",
        "product.mil",
        "--input",
        "a=a.npy",
        "--input",
        "b=b.npy",
        "--output",
        "out",
    ];
    let values = |more: &[&str]| -> Vec<f32> {
        bench.ok(&[&args[..], more].concat());
        let bytes = std::fs::read(bench.path("out/y.npy")).unwrap();
        assert!(bytes.starts_with(b"\x93NUMPY"));
        bytes[bytes.len() - 16..]
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    assert_eq!(values(&["--numerics", "f32"]), [7.5, 602.5, 605.25, 60_007.0]);
    // On the grid of binary16, 605.25 is a tie that goes to the even 605.0; 60007 is beyond 2^15.
    assert_eq!(values(&[]), [7.5, 602.5, 605.0, f32::INFINITY]);
    let listed = bench.ok(&["mil", "check", "product.mil", "--json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&listed).unwrap()["faults"],
        serde_json::json!([])
    );
    bench.ok(&["mil", "fmt", "product.mil", "--write"]);
    let text = std::fs::read_to_string(bench.path("product.mil")).unwrap();
    assert!(text.starts_with("program(1.0)\n"), "{text}");
    assert_eq!(values(&[])[0], 7.5);
}
