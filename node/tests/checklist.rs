//! CHECKLIST.md names files and what is in them; none of it may have moved on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::fs;
use std::path::Path;

/// `src/a.rs` `name` `other`, `src/b.rs` `name`: each name with its file; a file alone without one.
fn named(cell: &str) -> Vec<(&str, Option<&str>)> {
    let (mut file, mut all) = (None, Vec::new());
    for span in cell.split('`').skip(1).step_by(2) {
        match file {
            Some(file) if !span.contains('/') => all.push((file, Some(span))),
            _ => {
                file = Some(span);
                all.push((span, None));
            }
        }
    }
    all
}

#[test]
fn every_file_and_name_of_the_checklist_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("CHECKLIST.md")).unwrap();
    let (mut checked, mut gone) = (0, Vec::new());
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [_, file, test] = cells.as_slice() else { panic!("three cells: {line}") };
        for (path, name) in named(file).into_iter().chain(named(test)) {
            let there = match name {
                None => root.join(path).exists(),
                Some(name) => {
                    let source = fs::read_to_string(root.join(path)).unwrap_or_default();
                    source.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
                }
            };
            checked += 1;
            if !there {
                gone.push((path, name));
            }
        }
    }
    assert!(gone.is_empty(), "{gone:?}");
    assert!(checked > 150, "{checked}");
}
