//! Finds the tables that the reference generated from its schema: the crate keeps them to itself,
//! so they are compiled a second time, from where cargo unpacked the crate.

use std::{env, process::Command};

fn main() {
    let output = Command::new(env::var("CARGO").expect("cargo sets CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "freenet-stdlib")
        .and_then(|package| package["manifest_path"].as_str())
        .expect("freenet-stdlib is a dependency");
    let source = manifest.strip_suffix("Cargo.toml").expect("a manifest is called Cargo.toml");
    println!("cargo:rustc-env=GENERATED={source}src/generated");
    println!("cargo:rerun-if-changed=Cargo.toml");
}
