//! `guests`: builds the components of `examples/guests`, and checks that the
//! committed files match their sources.
//!
//! The built files are committed so that the host, its demo and its tests need no
//! WebAssembly toolchain. `guests.lock` contains the hash of every source and built
//! file, so the check needs none either.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

const GUESTS: [&str; 18] = [
    "bench",
    "config-logging",
    "core-storage",
    "counter",
    "extended",
    "guestbook",
    "keyvalue-draft",
    "keyvalue-draft2",
    "keyvalue-main",
    "keyvalue-spin",
    "notes",
    "probe",
    "responder",
    "session",
    "spin2",
    "spin3",
    "stock",
    "wasmcloud",
];
const TARGET: &str = "wasm32-wasip2";
const DIRECTORY: &str = "examples/guests";
/// The guests of `storage-host demo` are part of the crate's package.
const DEMO: [&str; 2] = ["counter", "notes"];
const DEMO_DIRECTORY: &str = "crates/storage-host/guests";
/// The library for guests, whose example `stock` is a guest.
const LIBRARY: &str = "crates/storage-guest";
/// The library contains the interfaces, because a package has no files from outside.
const COPIED_WIT: [(&str, &str); 3] = [
    ("wit", "crates/storage-guest/wit/core"),
    ("wit/extended", "crates/storage-guest/wit/extended"),
    ("wit/keyvalue-draft2", "crates/storage-guest/wit/keyvalue-draft2"),
];
const LOCK: &str = "examples/guests/guests.lock";
const ADVICE: &str = "run `cargo xtask guests` and commit what it writes";

/// Prefixes of paths on a build machine. A component must not contain any.
#[rustfmt::skip]
const MACHINE_PATHS: [&str; 9] = [
    "/home/", "/root/", "/Users/", ":\\Users\\", "/rustc/", "/tmp/", "/nix/store/", ".cargo/",
    ".rustup/",
];

/// Builds every guest, puts the `.wasm` files into `examples/guests` and records
/// all hashes. `root` is the repository's root.
///
/// The same sources and the same compiler give the same bytes, wherever the
/// repository, cargo's home and the toolchain are.
pub(crate) fn build(root: &Path) -> Result<()> {
    let root = root.canonicalize().with_context(|| format!("cannot find {}", root.display()))?;
    let compiler = Compiler::find()?;
    for (file, copy) in copied_files(&root)? {
        fs::copy(root.join(&file), root.join(&copy))
            .with_context(|| format!("cannot copy {file} to {copy}"))?;
    }
    let manifest = root.join(DIRECTORY).join("Cargo.toml");
    // First, because the flags contain the directory of the downloaded sources.
    cargo("fetch", &manifest, &[OsStr::new("--target"), OsStr::new(TARGET)], OsStr::new(""))?;

    let own_paths = OwnPaths::find(&root, &compiler)?;
    let target_dir = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |dir| root.join(dir))
        .join("guests");
    let args =
        [OsStr::new("--release"), "--target".as_ref(), TARGET.as_ref(), "--target-dir".as_ref()];
    let args = [&args[..], &[target_dir.as_os_str()]].concat();
    cargo("build", &manifest, &args, &own_paths.compiler_flags())?;

    for guest in GUESTS {
        let built = target_dir.join(TARGET).join("release").join(format!("{guest}.wasm"));
        let mut wasm =
            fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        neutralise(&mut wasm, compiler.virtual_path().as_bytes());
        let path = root.join(DIRECTORY).join(format!("{guest}.wasm"));
        if let Some(found) = own_paths.find_in(&wasm).or_else(|| machine_path(&wasm)) {
            bail!("{guest}.wasm would contain a path of this machine, {found}: add it to OwnPaths");
        }
        fs::write(&path, &wasm).with_context(|| format!("cannot write {}", path.display()))?;
        if DEMO.contains(&guest) {
            fs::copy(&path, root.join(DEMO_DIRECTORY).join(format!("{guest}.wasm")))
                .with_context(|| format!("cannot copy {guest}.wasm to {DEMO_DIRECTORY}"))?;
        }
        println!("{DIRECTORY}/{guest}.wasm  {} bytes", wasm.len());
    }
    let lock = root.join(LOCK);
    fs::write(&lock, lock_text(&compiler.version, &hashes(&root)?))
        .with_context(|| format!("cannot write {}", lock.display()))?;
    println!("{LOCK}  written, {}", compiler.version);
    Ok(())
}

/// Checks that the built guests match their sources and contain no path of a machine.
///
/// # Errors
/// If they do not. The message names each file.
pub(crate) fn check(root: &Path) -> Result<()> {
    let lock = root.join(LOCK);
    let text = fs::read_to_string(&lock)
        .with_context(|| format!("cannot read {}: {ADVICE}", lock.display()))?;
    let recorded = parse_lock(&text).with_context(|| format!("{LOCK}: {ADVICE}"))?;
    let present = hashes(root)?;

    let mut problems = String::new();
    for (file, hash) in &recorded {
        match present.get(file) {
            None => writeln!(problems, "  {file} is missing")?,
            Some(now) if now != hash => writeln!(problems, "  {file} has changed")?,
            Some(_) => {}
        }
    }
    for file in present.keys().filter(|file| !recorded.contains_key(*file)) {
        writeln!(problems, "  {file} is new")?;
    }
    for (file, copy) in copied_files(root)? {
        if present.get(&copy) != present.get(&file) {
            writeln!(problems, "  {copy} is not a copy of {file}")?;
        }
    }
    ensure!(problems.is_empty(), "the guests do not match their sources:\n{problems}{ADVICE}");
    for guest in GUESTS {
        let path = root.join(DIRECTORY).join(format!("{guest}.wasm"));
        let wasm = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Some(found) = machine_path(&wasm) {
            bail!(
                "{DIRECTORY}/{guest}.wasm contains a path of the machine that built it, {found}: \
                 {ADVICE}"
            );
        }
    }
    Ok(())
}

/// The compiler that builds the guests.
struct Compiler {
    version: String,
    commit: String,
    sysroot: PathBuf,
}

impl Compiler {
    fn find() -> Result<Self> {
        let details = rustc(&["-vV"])?;
        let version = details.lines().next().unwrap_or_default().to_owned();
        let commit = details.lines().find_map(|line| line.strip_prefix("commit-hash: "));
        let commit = commit.context("`rustc -vV` prints no commit-hash")?.to_owned();
        let libraries = rustc(&["--print", "target-libdir", "--target", TARGET])?;
        if !Path::new(libraries.trim()).is_dir() {
            bail!("the target {TARGET} is not installed: run `rustup target add {TARGET}`");
        }
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
        Ok(Self { version, commit, sysroot })
    }

    /// The path of the standard library's sources in precompiled code.
    fn virtual_path(&self) -> String {
        format!("/rustc/{}/", self.commit)
    }
}

/// Directories of this machine that the compiler could write into a guest, and their
/// replacements.
struct OwnPaths(Vec<(PathBuf, String)>);

impl OwnPaths {
    fn find(root: &Path, compiler: &Compiler) -> Result<Self> {
        let sources = compiler.sysroot.join("lib/rustlib/src/rust");
        let mut paths = vec![
            (root.to_owned(), ".".to_owned()),
            (compiler.sysroot.clone(), "sysroot".to_owned()),
            // So that a guest does not depend on whether rust-src is installed.
            (sources, compiler.virtual_path().trim_end_matches('/').to_owned()),
        ];
        if let Some(home) = cargo_home() {
            // Each registry has a directory.
            let registries = home.join("registry/src");
            if registries.is_dir() {
                for entry in fs::read_dir(&registries)? {
                    paths.push((entry?.path(), "registry".to_owned()));
                }
            }
            paths.insert(0, (home, "cargo".to_owned()));
        }
        Ok(Self(paths))
    }

    /// In cargo's encoding. If two prefixes match, the compiler uses the later one.
    fn compiler_flags(&self) -> OsString {
        let mut flags = OsString::new();
        for (path, instead) in &self.0 {
            if !flags.is_empty() {
                flags.push("\u{1f}");
            }
            flags.push("--remap-path-prefix=");
            flags.push(path);
            flags.push("=");
            flags.push(instead);
        }
        flags
    }

    fn find_in(&self, wasm: &[u8]) -> Option<String> {
        let mut paths = self.0.iter().map(|(path, _)| path.to_string_lossy());
        paths.find(|path| find(wasm, path.as_bytes()).is_some()).map(|path| path.into_owned())
    }
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

fn rustc(args: &[&str]) -> Result<String> {
    let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&program)
        .args(args)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`rustc {}` failed: {}", args.join(" "), errors.trim());
    String::from_utf8(output.stdout).context("the output of rustc is not UTF-8")
}

fn cargo(command: &str, manifest: &Path, args: &[&OsStr], flags: &OsStr) -> Result<()> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(&program)
        .args([OsStr::new(command), "--locked".as_ref(), "--manifest-path".as_ref()])
        .arg(manifest)
        .args(args)
        // Takes precedence over RUSTFLAGS and over configured flags.
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(status.success(), "`cargo {command}` failed for {}", manifest.display());
    Ok(())
}

/// Overwrites every `path` with an equally long path to the current directory. The
/// standard library is precompiled, so no flag changes the paths in it.
fn neutralise(wasm: &mut [u8], path: &[u8]) {
    let instead = [b"." as &[u8], &vec![b'/'; path.len().saturating_sub(1)]].concat();
    let mut from = 0;
    while let Some(at) = wasm.get(from..).and_then(|rest| find(rest, path)) {
        let end = from + at + path.len();
        if let Some(found) = wasm.get_mut(from + at..end) {
            found.copy_from_slice(&instead);
        }
        from = end;
    }
}

/// The first text in `wasm` that looks like a path of a machine, and its offset.
fn machine_path(wasm: &[u8]) -> Option<String> {
    MACHINE_PATHS.iter().find_map(|path| {
        let at = find(wasm, path.as_bytes())?;
        let printable = |byte: &u8| (0x20..0x7f).contains(byte);
        let shown: String =
            wasm.iter().skip(at).take(60).copied().take_while(printable).map(char::from).collect();
        Some(format!("{shown:?} at byte {at}"))
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The files of [`COPIED_WIT`] and their copies, as paths from the root.
fn copied_files(root: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for (directory, copy) in COPIED_WIT {
        let entries = fs::read_dir(root.join(directory))
            .with_context(|| format!("cannot read {directory}"))?;
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".wit") {
                files.push((format!("{directory}/{name}"), format!("{copy}/{name}")));
            }
        }
    }
    Ok(files)
}

/// The hash of every source and of every built guest, by path from the root.
fn hashes(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    collect(root, DIRECTORY, &mut files)?;
    collect(root, DEMO_DIRECTORY, &mut files)?;
    collect(root, "wit", &mut files)?;
    for sources in ["src", "examples", "wit"] {
        collect(root, &format!("{LIBRARY}/{sources}"), &mut files)?;
    }
    Ok(files)
}

fn collect(root: &Path, directory: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let entries =
        fs::read_dir(root.join(directory)).with_context(|| format!("cannot read {directory}"))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().with_context(|| format!("{directory}: {name:?} is not UTF-8"))?;
        let path = format!("{directory}/{name}");
        if entry.file_type()?.is_dir() {
            if name != "target" {
                collect(root, &path, files)?;
            }
        } else if is_recorded(name) {
            let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {path}"))?;
            files.insert(path, hex(&Sha256::digest(bytes)));
        }
    }
    Ok(())
}

/// Whether a file is recorded: a source of a guest, or a built guest.
fn is_recorded(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    matches!(name, "Cargo.toml" | "Cargo.lock") || matches!(extension, Some("rs" | "wit" | "wasm"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The hashes in the format of `sha256sum --check`.
fn lock_text(compiler: &str, hashes: &BTreeMap<String, String>) -> String {
    let mut text = format!(
        "# SHA-256 of the guests' sources and of the files built from them with\n\
         # {compiler}.\n\
         # Written by `cargo xtask guests`, compared by `cargo xtask guests --check`.\n"
    );
    for (file, hash) in hashes {
        text.push_str(&format!("{hash}  {file}\n"));
    }
    text
}

fn parse_lock(text: &str) -> Result<BTreeMap<String, String>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (hash, file) = line
                .split_once("  ")
                .with_context(|| format!("expected a hash and a file, found {line:?}"))?;
            Ok((file.to_owned(), hash.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const WASM: &str = "examples/guests/notes.wasm";

    fn put(root: &TempDir, file: &str, content: &str) {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn record(root: &TempDir) {
        let text = lock_text("rustc 1.0.0", &hashes(root.path()).unwrap());
        fs::write(root.path().join(LOCK), text).unwrap();
    }

    fn recorded_tree() -> TempDir {
        let root = TempDir::new().unwrap();
        put(&root, "examples/guests/notes/src/main.rs", "fn main() {}");
        for directory in COPIED_WIT.iter().flat_map(|(from, to)| [from, to]) {
            put(&root, &format!("{directory}/storage.wit"), "interface storage {}");
        }
        put(&root, "crates/storage-guest/src/lib.rs", "");
        put(&root, "crates/storage-guest/examples/stock.rs", "");
        put(&root, &format!("{DEMO_DIRECTORY}/notes.wasm"), "");
        for guest in GUESTS {
            put(&root, &format!("{DIRECTORY}/{guest}.wasm"), "\0asm ./library/std/src/rt.rs");
        }
        record(&root);
        root
    }

    fn problems(root: &TempDir) -> String {
        format!("{:#}", check(root.path()).unwrap_err())
    }

    #[test]
    fn the_committed_guests_match_their_sources() {
        check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
    }

    #[test]
    fn changed_missing_and_new_files_are_reported() {
        let root = recorded_tree();
        put(&root, "examples/guests/README.md", "not a source");
        put(&root, "examples/guests/target/debug/build/out.rs", "generated");
        check(root.path()).unwrap();

        put(&root, "wit/storage.wit", "changed");
        put(&root, "wit/extended/storage.wit", "changed");
        put(&root, "wit/extra.wit", "interface extra {}");
        fs::remove_file(root.path().join(WASM)).unwrap();
        let problems = problems(&root);
        for expected in [
            "wit/storage.wit has changed",
            "wit/extra.wit is new",
            "notes.wasm is missing",
            "wit/extended/storage.wit is not a copy of wit/extended/storage.wit",
            "run `cargo xtask guests`",
        ] {
            assert!(problems.contains(expected), "{problems}");
        }
    }

    #[test]
    fn paths_of_a_machine_are_rejected() {
        for path in MACHINE_PATHS {
            let root = recorded_tree();
            put(&root, WASM, &format!("\0asm \0{path}file.rs\0"));
            record(&root);
            assert!(problems(&root).contains("at byte 6"), "{path}");
        }
    }

    #[test]
    fn neutral_paths_keep_the_length() {
        let mut wasm = b"a /rustc/0123/library b /rustc/0123/ /rustc/9/".to_vec();
        neutralise(&mut wasm, b"/rustc/0123/");
        assert_eq!(wasm, b"a .///////////library b ./////////// /rustc/9/");
    }
}
