//! Prints what `md5sum` prints, for every regular file below a directory, sorted by path.
//!
//! This is the bounded pipeline of the Go blog's "Go Concurrency Patterns: Pipelines and cancellation" (`bounded.go`),
//! made into a tool. Its stages carry the names they have there:
//!
//! ```text
//!     walk_files ──paths──▶ digester × N ──c──▶ md5_all
//!          └───────────────errc────────────────────┘
//! ```
//!
//! `done` is closed when `md5_all` returns, early or not, and it makes every stage return that still has values to send.
//! Unlike the article's program, this one does not stop at a file that cannot be read, unless told to
//! (`--fail-fast`): it names the file, goes on, and exits with status 1.
//!
//! Memory does not grow with the files: each digester reads through one buffer. What grows is the list of digests,
//! which is sorted and printed at the end.

use csp::{Receiver, Sender, WaitGroup, after, bounded, go, never, select};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use walkdir::WalkDir;

/// How much a digester reads at a time.
const CHUNK: usize = 64 << 10;

type Digest = [u8; 16];

/// The product of reading and summing one file: `result` in the article.
struct FileSum {
    path: PathBuf,
    sum: io::Result<Digest>,
}

/// Walks the tree in a goroutine of its own, sends the path of each regular file on the first channel and the outcome of
/// the walk on the second. What cannot be listed takes the same way as the paths. When `done` closes, it abandons
/// the walk.
fn walk_files(done: Receiver<()>, root: PathBuf) -> (Receiver<walkdir::Result<PathBuf>>, Receiver<io::Result<()>>) {
    let (paths_tx, paths) = bounded(0);
    let (errc_tx, errc) = bounded(1);
    go!(move || {
        // Both channels close when this goroutine returns and drops their senders.
        let walk = || {
            if !fs::metadata(&root)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            for entry in WalkDir::new(&root) {
                let path = match entry {
                    Ok(entry) if entry.file_type().is_file() => Ok(entry.into_path()),
                    Ok(_) => continue,
                    Err(e) if e.depth() == 0 => return Err(e.into()),
                    Err(e) => Err(e),
                };
                select! {
                    paths_tx <- path => {}
                    <-done => return Err(io::Error::other("walk canceled")),
                }
            }
            Ok(())
        };
        // No select needed for this send, since errc is buffered.
        let _ = errc_tx.send(walk());
    });
    (paths, errc)
}

/// Reads path names from `paths` and sends digests of the corresponding files on `c` until either `paths` or `done`
/// is closed.
fn digester(done: Receiver<()>, paths: Receiver<walkdir::Result<PathBuf>>, c: Sender<FileSum>) {
    let mut buf = vec![0; CHUNK];
    for path in paths {
        let result = match path {
            Ok(path) => FileSum { sum: md5_file(&path, &mut buf), path },
            Err(e) => FileSum { path: e.path().unwrap_or(Path::new("")).to_owned(), sum: Err(e.into()) },
        };
        select! {
            c <- result => {}
            <-done => return,
        }
    }
}

/// The MD5 sum of a file's contents, read piece by piece through `buf`.
fn md5_file(path: &Path, buf: &mut [u8]) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut md5 = fast_md5::Md5::new();
    loop {
        match file.read(buf) {
            Ok(0) => return Ok(md5.finalize()),
            Ok(n) => md5.update(&buf[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Reads all the files in the tree rooted at `options.root` and returns a map from path to the MD5 sum of its contents,
/// with the number of things below the root that could not be read.
///
/// The map is in the order of the paths' bytes, which is that of `LC_ALL=C sort`, and not the order of `Path`, which
/// compares component by component.
fn md5_all(options: &Options) -> io::Result<(BTreeMap<OsString, Digest>, usize)> {
    // `done` closes when this function returns, which it may do before it has received all the values from c and errc.
    let (_close_done_on_return, done) = bounded::<()>(0);

    let (paths, errc) = walk_files(done.clone(), options.root.clone());

    // Start a fixed number of goroutines to read and digest files.
    let (c_tx, c) = bounded(0);
    let wg = WaitGroup::new();
    for _ in 0..options.digesters {
        go!(wg = &wg, digester(done.clone(), paths.clone(), c_tx.clone()));
    }
    go!(move || {
        wg.wait();
        c_tx.close();
    });
    // End of pipeline.

    let mut m = BTreeMap::new();
    let mut failed = 0;
    let mut progress = Progress::new(options.progress);
    loop {
        select! {
            r = <-c => match r {
                Ok(FileSum { path, sum: Ok(sum) }) => {
                    m.insert(path.into_os_string(), sum);
                }
                Ok(FileSum { sum: Err(e), path }) => {
                    failed += 1;
                    progress.erase();
                    complain(&path, &e);
                    if options.fail_fast {
                        return Ok((m, failed));
                    }
                }
                Err(_) => break, // closed
            },
            <-progress.beat => progress.show(m.len(), failed),
        }
    }
    progress.erase();

    // Check whether the walk failed.
    errc.recv().unwrap_or_else(|_| Err(io::Error::other("the walk ended early")))?;
    Ok((m, failed))
}

/// One line on the terminal that tells how far the work is, redrawn ten times a second.
struct Progress {
    /// Yields when the line is to be drawn next; never, where there is no terminal to draw it on.
    beat: Receiver<Instant>,
    drawn: bool,
}

impl Progress {
    const INTERVAL: Duration = Duration::from_millis(100);

    fn new(wanted: bool) -> Progress {
        let beat = if wanted && io::stderr().is_terminal() { after(Progress::INTERVAL) } else { never() };
        Progress { beat, drawn: false }
    }

    fn show(&mut self, done: usize, failed: usize) {
        let failures = if failed == 0 { String::new() } else { format!(", {failed} failed") };
        let _ = write!(io::stderr(), "\r\x1b[Kmd5all: {done} files{failures}");
        self.drawn = true;
        self.beat = after(Progress::INTERVAL);
    }

    fn erase(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.drawn = false;
        }
    }
}

/// Names a path and what is wrong with it on standard error.
fn complain(path: &Path, error: &io::Error) {
    // A name that would garble the terminal is quoted and escaped.
    let _ = match path.to_str() {
        Some(name) if !name.contains(char::is_control) => writeln!(io::stderr(), "md5all: {name}: {error}"),
        _ => writeln!(io::stderr(), "md5all: {path:?}: {error}"),
    };
}

/// Writes one line as `md5sum` does: a name with a backslash, a newline or a carriage return in it is escaped, and a
/// backslash before the sum says so. Any other name is written byte by byte, whatever its encoding.
fn write_sum(out: &mut impl Write, path: &OsStr, sum: Digest) -> io::Result<()> {
    let name = path.as_bytes();
    let sum = u128::from_be_bytes(sum);
    if !name.iter().any(|b| matches!(b, b'\\' | b'\n' | b'\r')) {
        write!(out, "{sum:032x}  ")?;
        out.write_all(name)?;
    } else {
        write!(out, "\\{sum:032x}  ")?;
        for byte in name {
            match byte {
                b'\\' => out.write_all(b"\\\\")?,
                b'\n' => out.write_all(b"\\n")?,
                b'\r' => out.write_all(b"\\r")?,
                _ => out.write_all(&[*byte])?,
            }
        }
    }
    out.write_all(b"\n")
}

fn write_sums(sums: &BTreeMap<OsString, Digest>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    for (path, sum) in sums {
        write_sum(&mut out, path, *sum)?;
    }
    out.flush()
}

const HELP: &str = "\
Usage: md5all [OPTION]... DIR
Prints the MD5 sums of all regular files below DIR, sorted by path, as md5sum does. Does not follow symbolic links.

  -j, --digesters N  read and sum N files at a time (20)
  -x, --fail-fast    stop at the first file that cannot be read, print no sums
      --no-progress  show no progress line, even if standard error is a terminal
  -h, --help         print this help

Exits with 0 if every file was read, 1 if any was not, 2 if the command line is wrong.
";

struct Options {
    root: PathBuf,
    digesters: usize,
    fail_fast: bool,
    progress: bool,
}

impl Options {
    /// Reads the command line; `None` if it asks for help.
    fn parse() -> Result<Option<Options>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut root = None;
        let (mut digesters, mut fail_fast, mut progress) = (20, false, true);
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Short('j') | Long("digesters") => {
                    digesters = args.value()?.parse()?;
                    if digesters == 0 {
                        return Err("at least one digester is needed".into());
                    }
                }
                Short('x') | Long("fail-fast") => fail_fast = true,
                Long("no-progress") => progress = false,
                Short('h') | Long("help") => return Ok(None),
                Value(dir) if root.is_none() => root = Some(PathBuf::from(dir)),
                _ => return Err(arg.unexpected()),
            }
        }
        let root = root.ok_or("no directory given")?;
        Ok(Some(Options { root, digesters, fail_fast, progress }))
    }
}

#[csp::main]
fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("md5all: {e}\nUsage: md5all [OPTION]... DIR (md5all --help tells more)");
            return ExitCode::from(2);
        }
    };

    let (sums, failed) = match md5_all(&options) {
        Ok(result) => result,
        Err(e) => {
            complain(&options.root, &e);
            return ExitCode::FAILURE;
        }
    };
    if failed > 0 && options.fail_fast {
        return ExitCode::FAILURE;
    }

    match write_sums(&sums) {
        // Whoever reads our output has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
        Err(e) => {
            eprintln!("md5all: standard output: {e}");
            return ExitCode::FAILURE;
        }
        Ok(()) => {}
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
