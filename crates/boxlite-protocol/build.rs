//! Generates the Rust of `proto/` (no protoc: protox compiles the schema).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["guest.proto", "shim.proto"], ["proto"])?;
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
