//! Where the Go comes from that builds what cannot be downloaded, on a machine that has none, or one that is too old.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::world::{World, found, said};

const OLD: &str = "#!/bin/sh\necho 'go.mod requires go >= 1.26' >&2; exit 1\n";
const FETCHED: &str = r#"#!/bin/sh
[ "$1" = list ] && exit 0
while [ "$1" != -o ]; do shift; done
echo "by a fetched Go${GOROOT:+, GOROOT is set}" >"$2"
"#;
/// Sums are of one machine's archives.
const UNAME: &str = "#!/bin/sh\n[ \"$1\" = -m ] && echo x86_64 || echo Linux\n";
/// Archives of tests are all of one kind.
const UNZIP: &str = "#!/bin/sh\nexec tar -xzf \"$2\" -C \"$4\"\n";
const MODULE: &str = "v0.0.1-go1.2.3.linux-amd64";
/// Of [`publish_module`]'s files, by `dirhash.HashDir` of `golang.org/x/mod`.
const MODULE_SUM: &str = "h1:AiLV0oUGcBSDaMyXjRynrrUsYFAmyKULuozoyLto184=";

/// Only a Go that is too old, and no publisher of any other.
fn world() -> World {
    let world = World::new();
    world.program("bin/go", OLD);
    world.program("bin/uname", UNAME);
    world.program("bin/unzip", UNZIP);
    world
}

fn command(world: &World, tool: &str) -> Command {
    let mut command = world.command("", &[tool]);
    command.env("GOROOT", world.at("none")).env("GOPROXY", "direct|https://proxy.test/go/,off");
    command
}

/// What our script wants.
fn version() -> String {
    let help = World::new().command("", &["--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, rest) = help.split_once("Go 1.").expect("its version");
    format!("1.{}", rest.split(' ').next().unwrap())
}

fn shell(world: &World, script: &str) -> Output {
    let output = Command::new("sh").args(["-c", script]).current_dir(world.folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output
}

/// As Go's site has it; what it says of the sum goes through `sum`.
fn publish_archive(world: &World, sum: impl Fn(&str) -> String) {
    fs::create_dir_all(world.at("go/bin")).unwrap();
    world.program("go/bin/go", FETCHED);
    let name = format!("go{}.linux-amd64.tar.gz", version());
    let output = shell(world, &format!("tar -czf published/{name} go && sha256sum published/{name}"));
    let right = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
    let list = format!(
        "[{{\n  \"filename\": \"other.tar.gz\",\n  \"sha256\": \"00\"\n}}, {{\n  \"filename\": \"{name}\",\n  \"sha256\": \"{}\"\n}}]\n",
        sum(&right)
    );
    fs::write(world.at("published/?mode=json&include=all"), list).unwrap();
}

/// As a module proxy has it: no modes, and no file `go.mod` within.
fn publish_module(world: &World) {
    let root = format!("golang.org/toolchain@{MODULE}");
    for (file, text) in
        [("bin/go", FETCHED), ("pkg/tool/compile", "compile\n"), ("src/_go.mod", "module std\n")]
    {
        let path = world.at(&format!("{root}/{file}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    shell(world, &format!("tar -czf published/{MODULE}.zip golang.org"));
}

/// A script that wants this Go, with this sum.
fn want(world: &mut World, sum: &str) {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(world.at("e2e/go/kubernetes")).unwrap();
    fs::copy(own.join("go/kubernetes/go.mod"), world.at("e2e/go/kubernetes/go.mod")).unwrap();
    let text = fs::read_to_string(own.join("binaries")).unwrap();
    let wanted = text.replace(&format!("\nGO={}\n", version()), "\nGO=1.2.3\n");
    fs::write(world.at("e2e/go/toolchain.sum"), format!("golang.org/toolchain {MODULE} {sum}\n")).unwrap();
    world.program("e2e/binaries", &wanted);
    world.script = world.at("e2e/binaries");
}

#[test]
fn go_comes_from_its_site_once_and_only_with_the_right_sum() {
    let world = world();
    publish_archive(&world, |sum| sum.replace(|digit| digit != 'f', "f"));
    let refused = command(&world, "kubectl").output().unwrap();
    let text = said(&refused);
    for part in ["requires go >= 1.26", "its publisher says 'ffff", "none from the module proxy"] {
        assert!(!refused.status.success() && text.contains(part), "{part} is not in {text}");
    }

    publish_archive(&world, str::to_owned);
    let run = command(&world, "kubectl").output().unwrap();
    assert_eq!(found(&run, "kubectl"), "by a fetched Go");
    let again = command(&world, "kube-scheduler").output().unwrap();
    assert_eq!(found(&again, "kube-scheduler"), "by a fetched Go");
    assert!(!said(&again).contains("getting Go"), "{}", said(&again));
}

#[test]
fn go_comes_from_the_module_proxy_where_its_site_is_not_reached() {
    let mut world = world();
    publish_module(&world);
    want(&mut world, "h1:other=");
    let refused = command(&world, "kubectl").output().unwrap();
    let text = said(&refused);
    let why = format!("golang.org/toolchain@{MODULE} has {MODULE_SUM}, go/toolchain.sum says h1:other=");
    assert!(!refused.status.success() && text.contains(&why), "{text}");

    want(&mut world, MODULE_SUM);
    let run = command(&world, "kubectl").output().unwrap();
    assert_eq!(found(&run, "kubectl"), "by a fetched Go");
    let url = format!("https://proxy.test/go/golang.org/toolchain/@v/{MODULE}.zip");
    assert!(world.done().lines().any(|line| line == url), "{}", world.done());
    let kept = world.at("cache/go-1.2.3");
    for file in ["bin/go", "pkg/tool/compile"] {
        let mode = fs::metadata(kept.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{file}");
    }
    assert!(kept.join("src/go.mod").exists());
}

#[test]
fn the_sums_are_of_the_go_that_the_script_wants() {
    let sums = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("go/toolchain.sum")).unwrap();
    let version = version();
    for machine in ["linux-amd64", "linux-arm64"] {
        let line = format!("golang.org/toolchain v0.0.1-go{version}.{machine} h1:");
        assert!(sums.lines().any(|one| one.starts_with(&line)), "{line} is not in {sums}");
    }
}

#[test]
fn a_user_who_wants_no_proxy_gets_no_go_from_one() {
    let mut world = world();
    publish_module(&world);
    want(&mut world, MODULE_SUM);
    let refused = command(&world, "kubectl").env("GOPROXY", "off").output().unwrap();
    let text = said(&refused);
    assert!(!refused.status.success() && text.contains("GOPROXY is off"), "{text}");
    assert!(!world.done().contains("golang.org/toolchain"), "{}", world.done());
}
