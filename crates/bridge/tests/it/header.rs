//! The header that is committed is the one that the list of functions prints; with
//! `UPDATE_EXPECT=1` the test writes it.

use expect_test::expect_file;

#[test]
fn the_header_is_current() {
    expect_file!["../../include/ane_bridge.h"].assert_eq(&ane_bridge::header::text());
}

#[test]
fn every_function_of_the_seed_is_there() {
    let names: Vec<_> = ane_bridge::abi::DECLARATIONS.iter().map(|d| d.name).collect();
    for name in [
        "init",
        "compile",
        "compile_multi_weights",
        "eval",
        "write_input",
        "read_output",
        "free",
        "get_compile_count",
        "reset_compile_count",
        "build_weight_blob",
        "build_weight_blob_transposed",
        "build_weight_blob_int8",
        "build_weight_blob_quantized",
        "free_blob",
    ] {
        assert!(names.contains(&format!("ane_bridge_{name}").as_str()), "{name}");
    }
}

#[test]
fn types_are_written_as_c_has_them() {
    let text = ane_bridge::header::text();
    for line in [
        "int ane_bridge_init(void);",
        "bool ane_bridge_eval(ANEKernelHandle *kernel_handle);",
        "    const char *const *weight_names,",
        "    const uint8_t *const *weight_datas,",
        "const char *ane_bridge_last_error(void);",
    ] {
        assert!(text.contains(line), "{line}");
    }
    assert!(text.lines().all(|line| line.len() <= 100));
}
