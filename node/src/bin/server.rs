//! `server`.

fn main() {}
