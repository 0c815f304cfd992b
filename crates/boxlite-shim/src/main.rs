//! The supervisor of one running box.
fn main() {}
