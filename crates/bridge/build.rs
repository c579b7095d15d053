//! Names the dynamic library by its file name, so that programs linked against it find it wherever
//! it is installed rather than where it was built.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    match target.as_str() {
        "macos" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libane_bridge.dylib")
        }
        "linux" => println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libane_bridge.so"),
        _ => {}
    }
}
