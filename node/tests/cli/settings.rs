//! One table of settings: the contract, the programs' arguments and README agree.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Arg;
use shard_node::cli::commands;
use shard_node::config::args::SECRET_VARIABLE;
use shard_wire::contract::{CLUSTER_SECRET, Program, SETTINGS, Setting};

fn of(program: Program) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.programs.contains(&program))
}

fn flags(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| {
        !arg.is_hide_set() && arg.get_long().is_some_and(|long| !["help", "version"].contains(&long))
    })
}

#[test]
fn every_flag_is_in_the_table_and_every_entry_is_a_flag() {
    assert_eq!(commands().len(), Program::ALL.len());
    for (program, command) in commands() {
        let name = program.name();
        let with_flag = || of(program).filter(|setting| !setting.flag.is_empty());
        let table: BTreeSet<&str> = with_flag().map(|setting| setting.flag).collect();
        let given: BTreeSet<&str> = flags(&command).filter_map(Arg::get_long).collect();
        assert_eq!(given, table, "{name}");
        for setting in with_flag() {
            let arg = flags(&command).find(|arg| arg.get_long() == Some(setting.flag)).unwrap();
            let env = arg.get_env().and_then(|env| env.to_str());
            assert_eq!(env, Some(setting.env), "{name} --{}", setting.flag);
            let defaults: Vec<_> = arg.get_default_values().iter().filter_map(|v| v.to_str()).collect();
            // A switch is off by default, which clap calls "false".
            let default = defaults.join(",").replace("false", "");
            assert_eq!(default, setting.default, "{name} --{}", setting.flag);
        }
    }
}

#[test]
fn a_variable_means_one_thing_in_a_program() {
    for program in Program::ALL {
        let names: Vec<&str> = of(program).map(|setting| setting.env).collect();
        assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "{}", program.name());
    }
    assert!(SETTINGS.iter().all(|setting| setting.env.starts_with("LLAMA_")));
}

/// README's table, made from the contract and the arguments' own help.
fn table() -> String {
    let commands = commands();
    let mut rows = String::from("| flag | variable | default | of | what |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let (_, command) =
            commands.iter().find(|(program, _)| setting.programs.contains(program)).expect("somebody has it");
        let (flag, help) = if setting.flag.is_empty() {
            assert_eq!(setting.env, CLUSTER_SECRET.env, "every other setting has a flag");
            ("none".to_owned(), SECRET_VARIABLE.to_owned())
        } else {
            let arg = flags(command).find(|arg| arg.get_long() == Some(setting.flag)).unwrap();
            (format!("`--{}`", setting.flag), arg.get_help().unwrap().to_string().replace('|', "\\|"))
        };
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let programs: Vec<String> = setting.programs.iter().map(|p| format!("`{}`", p.name())).collect();
        rows += &format!("| {flag} | `{}` | {default} | {} | {help} |\n", setting.env, programs.join(" "));
    }
    rows
}

#[test]
fn readme_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- settings -->\n", "<!-- end of settings -->");
    let start = readme.find(begin).expect("README marks the table") + begin.len();
    let length = readme[start..].find(end).expect("README marks the table's end");
    let table = table();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, [&readme[..start], &table, &readme[start + length..]].concat()).unwrap();
        return;
    }
    assert!(
        readme[start..start + length] == table,
        "README's table of settings is not that of the programs; UPDATE_README=1 cargo test -p shard-node --test cli readme writes it:\n{table}"
    );
}
