//! What `fuzz_targets/` and `node/tests/decoders` have in common.

pub mod targets;

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = targets::TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    target.run(data);
}
