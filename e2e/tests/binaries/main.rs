//! The script that gets the programs, with publishers and a Go of the test's own: nothing is downloaded or built.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod toolchain;
mod world;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use world::{World, found, said};

#[test]
fn what_is_in_the_assets_is_taken_from_there_and_the_rest_is_built_once() {
    let world = World::new();
    world.program("assets/etcd", "from assets");
    let run = || {
        world.command("built", &["etcd", "kubectl"]).env("KUBEBUILDER_ASSETS", world.at("assets")).output()
    };
    let first = run().unwrap();
    assert_eq!(found(&first, "etcd"), "from assets");
    assert_eq!(found(&first, "kubectl"), "built");
    assert!(said(&first).contains("not downloaded: curl: (6)"), "{}", said(&first));
    assert!(world.done().contains("gitVersion=v1.34"), "{}", world.done());
    let done = world.done();
    let second = run().unwrap();
    assert_eq!((found(&second, "kubectl").as_str(), said(&second)), ("built", String::new()));
    assert_eq!(world.done(), done);
}

#[test]
fn a_download_is_taken_only_with_the_sum_that_its_publisher_says() {
    // Of "downloaded\n".
    const SUM: &str = "30031a9831674dd684c3817399acebc88a116ce5a7a3fbc0cf34d92521a534e6";
    let world = World::new();
    fs::write(world.at("published/kubectl"), "downloaded\n").unwrap();
    fs::write(world.at("published/kubectl.sha256"), SUM.replace('0', "1")).unwrap();
    let refused = world.command("built", &["kubectl"]).output().unwrap();
    assert_eq!(found(&refused, "kubectl"), "built");
    assert!(
        said(&refused).contains(&format!("kubectl has SHA-256 {SUM}, its publisher says")),
        "{}",
        said(&refused)
    );

    fs::remove_dir_all(world.at("cache")).unwrap();
    fs::write(world.at("published/kubectl.sha256"), SUM).unwrap();
    let taken = world.command("", &["kubectl"]).output().unwrap();
    assert_eq!(found(&taken, "kubectl"), "downloaded");
}

#[test]
fn programs_come_out_of_their_publishers_archives() {
    let world = World::new();
    let help = String::from_utf8(world.command("", &["--help"]).output().unwrap().stdout).unwrap();
    let version = |of: &str| {
        let at = help.find(&format!("{of} v")).expect("its version") + of.len() + 1;
        help[at..].split([',', ' ', '\n']).next().unwrap().to_owned()
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "linux-amd64",
        "aarch64" => "linux-arm64",
        other => panic!("no archives for {other}"),
    };
    let etcd = format!("etcd-{}-{machine}", version("etcd"));
    let helm = format!("helm-{}-{machine}", version("Helm"));
    for (archive, folder, sums) in
        [(&etcd, &*etcd, "SHA256SUMS"), (&helm, machine, &format!("{helm}.tar.gz.sha256sum"))]
    {
        let name = &archive[..4];
        fs::create_dir(world.at(folder)).unwrap();
        world.program(&format!("{folder}/{name}"), name);
        let script = format!(
            "tar -czf published/{archive}.tar.gz {folder}/{name} && cd published && sha256sum {archive}.tar.gz >{sums}"
        );
        let made =
            Command::new("sh").args(["-c", &script]).current_dir(world.folder.path()).status().unwrap();
        assert!(made.success());
    }
    let got = world.command("", &["etcd", "helm"]).output().unwrap();
    assert_eq!((found(&got, "etcd"), found(&got, "helm")), ("etcd".to_owned(), "helm".to_owned()));
}

#[test]
fn where_nothing_works_it_says_what_to_do_and_leaves_nothing_that_looks_like_a_program() {
    let world = World::new();
    let failed = world.command("", &["kube-scheduler"]).output().unwrap();
    let text = said(&failed);
    assert!(!failed.status.success() && failed.stdout.is_empty(), "{text}");
    for part in ["go: no module", "Could not resolve host", "KUBEBUILDER_ASSETS", "E2E_OFFLINE=1"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let bin = fs::read_dir(world.at("cache")).unwrap().next().unwrap().unwrap().path();
    let left: Vec<_> = fs::read_dir(bin).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
    // A host that was not reached is not asked for the next one, too.
    let asked = world.done().lines().filter(|line| line.starts_with("https")).count();
    let failed = world.command("built", &["kubectl", "kube-scheduler"]).output().unwrap();
    assert!(failed.status.success());
    let again = world.done().lines().filter(|line| line.starts_with("https")).count();
    assert_eq!((asked, again), (1, 2));
}

#[test]
fn two_at_once_build_once() {
    let world = World::new();
    let run = || {
        let mut command = world.command("built", &["kube-apiserver"]);
        command.env("GATE", world.at("gate")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // What reads is given back: the script must not lose its standard error.
    let until_said = |run: &mut Child, part: &str| {
        let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(part)), "{part}");
        lines
    };
    let mut first = run();
    let _building = until_said(&mut first, "building kube-apiserver");
    let mut second = run();
    let _waiting = until_said(&mut second, "waiting for another run");
    fs::write(world.at("gate"), "").unwrap();
    for run in [first, second] {
        assert_eq!(found(&run.wait_with_output().unwrap(), "kube-apiserver"), "built");
    }
    assert_eq!(world.done().matches("cmd/kube-apiserver").count(), 1, "{}", world.done());
}

#[test]
fn a_tool_that_it_does_not_know_is_named() {
    let world = World::new();
    let failed = world.command("built", &["kubelet"]).output().unwrap();
    assert!(!failed.status.success() && said(&failed).contains("no tool 'kubelet'"), "{}", said(&failed));
    let help = world.command("built", &["--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for variable in ["KUBEBUILDER_ASSETS", "SHARDCLUSTER_CACHE", "E2E_NO_DOWNLOAD"] {
        assert!(help.contains(variable), "{help}");
    }
}
