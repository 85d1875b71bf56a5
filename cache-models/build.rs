//! Puts the cache on shuttle's threads.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_SHUTTLE").is_some() {
        println!("cargo:rustc-cfg=shuttle");
    }
}
