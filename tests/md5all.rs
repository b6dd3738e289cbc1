//! The `md5all` example against `md5sum`, on trees with everything in them that a file system can hold.

#![cfg(target_os = "linux")]

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The example's binary, which a plain `cargo test` builds before it runs the tests.
fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join("examples/md5all");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/md5all.rs");
    let built = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    assert!(
        built(&binary).is_some_and(|binary| built(Path::new(source)).is_none_or(|source| source <= binary)),
        "{} is missing or out of date: `cargo build --example md5all` builds it",
        binary.display(),
    );
    binary
}

fn md5all() -> Command {
    Command::new(binary())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `size` bytes that differ from one `seed` to the next.
fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size);
    for _ in 0..size {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.push(x as u8);
    }
    bytes
}

/// A tree in a temporary directory that anybody may enter.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        Tree(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Names, sizes and kinds of every sort, except for carriage returns, which old versions of `md5sum` do not escape.
    fn varied() -> Tree {
        let tree = Tree::new();
        tree.file("empty", "");
        tree.file("hello.txt", "hello, world\n");
        tree.file("a name with  spaces ", "spaces");
        tree.file("-rf", "looks like an option");
        tree.file("new\nline", "newline");
        tree.file("back\\slash", "backslash");
        tree.file("\\both\n\\n", "both");
        tree.file("tab\tbell\x07quote'\"", "control characters");
        tree.file("größe/naïve/ünïcödé", "utf-8");
        tree.file(OsStr::from_bytes(b"latin\xe9/\xff\xfe.bin"), "not utf-8");
        // Sorts between `order` and `order/x` by bytes, after both by components.
        tree.file("order/x", "slash");
        tree.file("order.x", "dot");
        tree.file("order-x", "dash");
        // Every way in which the last block of MD5 can be filled, and the edges of a reader's buffer.
        for size in 0..=260 {
            tree.file(format!("sizes/{size}"), content(size, size as u64));
        }
        for size in [4095, 4096, 4097, 65535, 65536, 65537, 131_072, 1_048_577, 5_000_000] {
            tree.file(format!("sizes/{size}"), content(size, size as u64));
        }
        let deep = (0..60).map(|i| format!("level{i}/")).collect::<String>();
        tree.file(format!("{deep}bottom"), "deep");
        for i in 0..500 {
            tree.file(format!("many/{}/{i}", i % 7), content(i * 3, i as u64));
        }
        fs::create_dir(tree.path().join("empty directory")).unwrap();
        // None of these is a regular file, and none is to be followed or opened.
        symlink("hello.txt", tree.path().join("link to a file")).unwrap();
        symlink("many", tree.path().join("link to a directory")).unwrap();
        symlink(".", tree.path().join("link to itself")).unwrap();
        symlink("nowhere", tree.path().join("dangling link")).unwrap();
        let fifo = CString::new(tree.path().join("fifo").into_os_string().into_vec()).unwrap();
        // SAFETY: `fifo` is a string with a terminating NUL.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("socket")).unwrap();
        tree
    }
}

/// What `find . -type f | sort | xargs md5sum` prints, for a `root` as it would be given on the command line.
fn md5sum_below(dir: &Path, root: &OsStr) -> Vec<u8> {
    let found = Command::new("find").arg(root).args(["-type", "f", "-print0"]).current_dir(dir).output().unwrap();
    assert!(found.status.success());
    let mut paths: Vec<&[u8]> = found.stdout.split(|b| *b == 0).filter(|path| !path.is_empty()).collect();
    paths.sort();
    let mut md5sum = Command::new("md5sum");
    md5sum.arg("--").args(paths.into_iter().map(OsStr::from_bytes)).current_dir(dir);
    let output = md5sum.output().expect("md5sum is installed");
    assert!(output.status.success());
    output.stdout
}

#[track_caller]
fn assert_same_lines(got: &[u8], expected: &[u8]) {
    let lines = |bytes: &[u8]| bytes.split(|b| *b == b'\n').map(|l| OsString::from_vec(l.to_vec())).collect::<Vec<_>>();
    for (i, (got, expected)) in lines(got).into_iter().zip(lines(expected)).enumerate() {
        assert_eq!(got, expected, "line {}", i + 1);
    }
    assert!(got == expected, "{} bytes instead of {}", got.len(), expected.len());
}

#[test]
fn prints_what_md5sum_prints() {
    let tree = Tree::varied();
    let expected = md5sum_below(Path::new("/"), tree.path().as_os_str());
    for procs in ["1", "2", "8"] {
        for digesters in ["1", "20", "100"] {
            let run = md5all().args(["-j", digesters]).arg(tree.path()).env("GOMAXPROCS", procs).output().unwrap();
            assert_eq!(stderr(&run), "");
            assert_eq!(run.status.code(), Some(0));
            assert_same_lines(&run.stdout, &expected);
        }
    }
}

#[test]
fn names_files_by_the_root_as_given() {
    let tree = Tree::new();
    tree.file("sub/file", "1");
    tree.file("sub/dir/file", "2");
    for root in [".", "./", "sub", "sub/", "sub//", "./sub/dir/.."] {
        let run = md5all().arg(root).current_dir(tree.path()).output().unwrap();
        assert_eq!(stderr(&run), "");
        let expected = md5sum_below(tree.path(), OsStr::new(root));
        assert_same_lines(&run.stdout, &expected);
    }
    tree.file("-h/file", "hello");
    let run = md5all().args(["--", "-h"]).current_dir(tree.path()).output().unwrap();
    assert_eq!(String::from_utf8(run.stdout).unwrap(), "5d41402abc4b2a76b9719d911017c592  -h/file\n");
}

#[test]
fn follows_a_link_given_as_the_root() {
    let tree = Tree::new();
    tree.file("real/file", "hello");
    symlink("real", tree.path().join("link")).unwrap();
    let run = md5all().arg("link").current_dir(tree.path()).output().unwrap();
    assert_eq!(String::from_utf8(run.stdout).unwrap(), "5d41402abc4b2a76b9719d911017c592  link/file\n");
    assert_eq!(run.status.code(), Some(0));
}

#[test]
fn escapes_carriage_returns() {
    let tree = Tree::new();
    tree.file("a\rb", "hello");
    let run = md5all().arg(".").current_dir(tree.path()).output().unwrap();
    assert_eq!(String::from_utf8(run.stdout).unwrap(), "\\5d41402abc4b2a76b9719d911017c592  ./a\\rb\n");
}

#[test]
fn prints_nothing_for_a_tree_without_files() {
    let tree = Tree::new();
    fs::create_dir_all(tree.path().join("a/b/c")).unwrap();
    let run = md5all().arg(tree.path()).output().unwrap();
    assert_eq!((run.status.code(), run.stdout.len(), run.stderr.len()), (Some(0), 0, 0));
}

/// `md5all` as somebody whom file permissions hold back, which they do not for root.
fn md5all_unprivileged(tree: &Tree) -> Command {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return md5all();
    }
    // The build directory may be root's alone.
    let copy = tree.path().join("md5all");
    // By another process: a child that somebody else here forks meanwhile would keep the copy open for writing until it
    // execs, and what is open for writing cannot be run.
    let copied = Command::new("cp").arg(binary()).arg(&copy).status().unwrap();
    assert!(copied.success());
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.uid(65534).gid(65534);
    command
}

/// A tree `t` with a file and a directory that nobody may read, and the lines for the other files.
fn partly_unreadable() -> (Tree, String) {
    let tree = Tree::new();
    let readable: Vec<PathBuf> = (0..50).map(|i| tree.file(format!("t/{i:02}"), "hello")).collect();
    let locked = tree.file("t/locked\nfile", "secret");
    fs::set_permissions(locked, Permissions::from_mode(0o000)).unwrap();
    tree.file("t/sealed/file", "secret");
    fs::set_permissions(tree.path().join("t/sealed"), Permissions::from_mode(0o000)).unwrap();
    let lines = readable.iter().map(|path| format!("5d41402abc4b2a76b9719d911017c592  {}\n", path.display())).collect();
    (tree, lines)
}

#[test]
fn names_what_it_cannot_read_and_goes_on() {
    let (tree, expected) = partly_unreadable();
    let root = tree.path().join("t");
    let run = md5all_unprivileged(&tree).arg(&root).output().unwrap();
    fs::set_permissions(root.join("sealed"), Permissions::from_mode(0o755)).unwrap(); // so that it can be removed

    assert_eq!(String::from_utf8(run.stdout.clone()).unwrap(), expected);
    let complaints = stderr(&run);
    let mut complaints: Vec<&str> = complaints.lines().collect();
    complaints.sort();
    let denied = "Permission denied (os error 13)";
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert_eq!(complaints[0], format!("md5all: \"{}/locked\\nfile\": {denied}", root.display()));
    assert!(complaints[1].starts_with(&format!("md5all: {}/sealed: ", root.display())), "{}", complaints[1]);
    assert!(complaints[1].ends_with(denied), "{}", complaints[1]);
    assert_eq!(run.status.code(), Some(1));
}

#[test]
fn fail_fast_stops_at_the_first_error() {
    let (tree, _) = partly_unreadable();
    let root = tree.path().join("t");
    let run = md5all_unprivileged(&tree).arg("--fail-fast").arg(&root).output().unwrap();
    fs::set_permissions(root.join("sealed"), Permissions::from_mode(0o755)).unwrap();

    assert_eq!(String::from_utf8_lossy(&run.stdout), "");
    assert_eq!(stderr(&run).lines().count(), 1, "{}", stderr(&run));
    assert_eq!(run.status.code(), Some(1));
}

#[test]
fn reports_a_root_that_cannot_be_walked() {
    let tree = Tree::new();
    tree.file("file", "");
    fs::create_dir(tree.path().join("sealed")).unwrap();
    fs::set_permissions(tree.path().join("sealed"), Permissions::from_mode(0o000)).unwrap();
    for (root, reason) in [
        ("missing", "No such file or directory (os error 2)"),
        ("file", "not a directory"),
        ("", "No such file or directory (os error 2)"),
        ("sealed", "Permission denied (os error 13)"),
    ] {
        let run = md5all_unprivileged(&tree).arg(root).current_dir(tree.path()).output().unwrap();
        assert!(run.stdout.is_empty());
        let message = stderr(&run);
        assert!(message.starts_with(&format!("md5all: {root}: ")), "{message}");
        assert!(message.ends_with(&format!("{reason}\n")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert_eq!(run.status.code(), Some(1));
    }
    fs::set_permissions(tree.path().join("sealed"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn rejects_a_wrong_command_line() {
    for (args, message) in [
        (&[] as &[&str], "no directory given"),
        (&["a", "b"], "unexpected argument \"b\""),
        (&["-j", "0", "."], "at least one digester is needed"),
        (&["-j", "many", "."], "cannot parse argument \"many\": invalid digit found in string"),
        (&["-j"], "missing argument for option '-j'"),
        (&["--frobnicate", "."], "invalid option '--frobnicate'"),
        (&["--no-progress=1", "."], "unexpected argument for option '--no-progress': \"1\""),
    ] {
        let run = md5all().args(args).output().unwrap();
        assert!(run.stdout.is_empty(), "{args:?}");
        assert_eq!(stderr(&run).lines().next(), Some(format!("md5all: {message}").as_str()), "{args:?}");
        assert!(stderr(&run).contains("Usage: md5all [OPTION]... DIR"), "{args:?}");
        assert_eq!(run.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn helps() {
    for option in ["-h", "--help"] {
        let run = md5all().arg(option).output().unwrap();
        let help = String::from_utf8(run.stdout).unwrap();
        assert!(help.starts_with("Usage: md5all"), "{help}");
        assert!(["--digesters", "--fail-fast", "--no-progress"].iter().all(|option| help.contains(option)), "{help}");
        assert_eq!(run.status.code(), Some(0));
    }
}

/// A tree whose sums do not fit into a pipe.
fn verbose_tree() -> Tree {
    let tree = Tree::new();
    for i in 0..1000 {
        tree.file(format!("{i}{}", "x".repeat(200)), "");
    }
    tree
}

#[test]
fn ends_quietly_when_its_reader_goes_away() {
    let tree = verbose_tree();
    let mut run = md5all().arg(tree.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(run.stdout.take());
    let run = run.wait_with_output().unwrap();
    assert_eq!(stderr(&run), "");
    assert_eq!(run.status.code(), Some(0));
}

#[test]
fn reports_an_output_that_cannot_be_written() {
    let tree = verbose_tree();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let run = md5all().arg(tree.path()).stdout(full).output().unwrap();
    assert_eq!(stderr(&run), "md5all: standard output: No space left on device (os error 28)\n");
    assert_eq!(run.status.code(), Some(1));
}

/// What a run writes to a terminal on standard error.
fn on_a_terminal(command: &mut Command) -> String {
    let (mut master, mut slave) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: the first two point to integers, the others may be null.
    assert_eq!(unsafe { libc::openpty(&mut master, &mut slave, null, null as _, null as _) }, 0);
    // SAFETY: openpty made both descriptors for us.
    let (mut master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    let mut child = command.stdout(Stdio::null()).stderr(slave).spawn().unwrap();
    command.stderr(Stdio::null()); // Closes our end of the slave.
    let mut written = Vec::new();
    let _ = master.read_to_end(&mut written); // Ends with EIO when the child has closed its end.
    assert!(child.wait().unwrap().success());
    String::from_utf8(written).unwrap()
}

#[test]
fn shows_progress_on_a_terminal() {
    let tree = Tree::new();
    // Takes longer than a tenth of a second at any speed that MD5 can be computed.
    File::create(tree.path().join("large")).unwrap().set_len(400 << 20).unwrap();

    let written = on_a_terminal(md5all().arg(tree.path()));
    assert!(written.starts_with("\r\x1b[Kmd5all: 0 files\r\x1b[K"), "{written:?}");
    assert!(written.ends_with("\r\x1b[K"), "{written:?}");

    assert_eq!(on_a_terminal(md5all().arg("--no-progress").arg(tree.path())), "");
}
