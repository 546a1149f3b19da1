//! keepfs: see `keepfs --help`.
fn main() {}
