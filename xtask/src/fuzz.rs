//! `fuzz`: builds the fuzz targets with libFuzzer, whose measure of coverage
//! comes from LLVM passes that stable Rust has, and runs one after another.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::workspace::{Workspace, cargo, output, succeed};

/// What makes the compiler count the edges that an input takes, and tell libFuzzer
/// what is compared with what.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

const SECONDS: u64 = 600;
const SMOKE_SECONDS: u64 = 20;

/// For the whole process: what an input may take is counted by the targets, since
/// libFuzzer's own limit on allocations needs a sanitizer.
const MEMORY_MB: u64 = 1_024;

/// Longer than any key or file that a target has to read whole.
const INPUT_BYTES: u64 = 4_096;

/// An input takes milliseconds.
const SECONDS_AN_INPUT: u64 = 20;

/// More than this of a target is too much to keep in the repository.
const CORPUS_FILES: usize = 100;
const CORPUS_BYTES: u64 = 100 << 10;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The targets to run; all, if none.
    targets: Vec<String>,
    /// How long to run each, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = SECONDS, conflicts_with = "smoke")]
    seconds: u64,
    /// Run each for 20 seconds.
    #[arg(long)]
    smoke: bool,
    /// Instead of looking for more, rewrite the committed corpus with the fewest
    /// and smallest of all inputs found so far that reach as much.
    #[arg(long, conflicts_with_all = ["seconds", "smoke"])]
    minimize: bool,
}

impl Arguments {
    fn seconds(&self) -> u64 {
        if self.smoke { SMOKE_SECONDS } else { self.seconds }
    }
}

/// Where everything of one target lies.
struct Places {
    name: String,
    /// Inputs that are committed.
    corpus: PathBuf,
    /// Inputs that were found here, which a later run goes on with.
    found: PathBuf,
    /// Inputs at which something is wrong.
    findings: PathBuf,
    /// What libFuzzer wrote last.
    log: PathBuf,
    /// Where targets keep files for a moment.
    scratch: PathBuf,
}

impl Places {
    fn prepare(root: &Path, target: &Path, name: &str) -> Result<Self> {
        let own = target.join("fuzz").join(name);
        let places = Self {
            name: name.to_owned(),
            corpus: root.join("testing/fuzz/corpus").join(name),
            found: own.join("found"),
            findings: own.join("findings"),
            log: own.join("log"),
            // In memory where there is such a place: it is about bytes, not disks.
            scratch: match Path::new("/dev/shm").is_dir() {
                true => format!("/dev/shm/storage-fuzz-{}-{name}", std::process::id()).into(),
                false => own.join("scratch"),
            },
        };
        for folder in [&places.corpus, &places.found, &places.findings, &places.scratch] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(places)
    }

    /// libFuzzer on this target.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("FUZZ_TARGET", &self.name).env("TMPDIR", &self.scratch);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        // A target that was killed leaves its files.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Builds and runs what was asked for.
///
/// # Errors
/// If a target finds something, or cannot be run.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let targets = chosen(&known(root)?, &arguments.targets)?;
    let target = Workspace::load(root)?.target_directory;
    let program = build(root, &target)?;
    if arguments.minimize {
        for name in &targets {
            minimize(&program, &Places::prepare(root, &target, name)?)?;
        }
        return Ok(());
    }
    let seconds = arguments.seconds();
    println!("{}", header());
    let mut findings = Vec::new();
    for name in &targets {
        let places = Places::prepare(root, &target, name)?;
        let run = fuzz(&program, &places, seconds)?;
        println!("{}", run.row(name));
        std::io::stdout().flush()?;
        findings.extend(run.finding(&places));
    }
    if !findings.is_empty() {
        bail!("something was found\n{}", findings.join("\n"));
    }
    println!("nothing was found");
    Ok(())
}

/// Every target: the folders of the corpus.
fn known(root: &Path) -> Result<Vec<String>> {
    let corpus = root.join("testing/fuzz/corpus");
    let mut names = Vec::new();
    let cannot_read = || format!("cannot read {}", corpus.display());
    for entry in fs::read_dir(&corpus).with_context(cannot_read)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn chosen(known: &[String], asked: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = asked.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {unknown}; there are {}", known.join(", "));
    }
    Ok(if asked.is_empty() { known.to_vec() } else { asked.to_vec() })
}

/// Builds the program in a folder of its own: its flags are not those of any other
/// build.
fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let works = Command::new(&compiler).arg("--version").stdin(Stdio::null()).output();
    if !works.is_ok_and(|output| output.status.success()) {
        bail!("libFuzzer needs a C++ compiler, which is missing: install g++ or clang");
    }
    let host = host()?;
    println!("building the targets and libFuzzer");
    let folder = target.join("fuzz/build");
    let mut command = cargo(root);
    command
        .args(["build", "--quiet", "--locked", "--profile", "fuzz", "--package", "fuzz"])
        .args(["--bin", "libfuzzer", "--features", "libfuzzer"])
        // With a target the flags are not those of build scripts and macros.
        .args(["--target", &host])
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    succeed(&mut command, "building the targets")?;
    Ok(folder.join(host).join("fuzz/libfuzzer"))
}

/// The platform that the compiler runs on.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = output(Command::new(rustc).arg("-vV").stdin(Stdio::null()))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// How a run ended.
struct Run {
    log: Log,
    took: Duration,
    status: ExitStatus,
}

/// What is of interest in what libFuzzer writes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log {
    executions: u64,
    /// Edges, and features, which tell too how often an edge was taken: with the
    /// inputs that were there, and in the end.
    first: Option<(u64, u64)>,
    last: (u64, u64),
    /// The file that libFuzzer wrote the input at fault to.
    artifact: Option<PathBuf>,
}

impl Log {
    fn take(&mut self, line: &str) {
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.artifact = Some(PathBuf::from(path.trim()));
        }
        if let Some(executions) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = executions.trim().parse().unwrap_or(self.executions);
        }
        let Some((executions, rest)) =
            line.strip_prefix('#').and_then(|rest| rest.split_once('\t'))
        else {
            return;
        };
        let Ok(executions) = executions.trim().parse() else { return };
        self.executions = executions;
        let mut words = rest.split_whitespace();
        let event = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let number = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.parse::<u64>().ok()
        };
        if let (Some(edges), Some(features)) = (number("cov:"), number("ft:")) {
            self.last = (edges, features);
            if event == "INITED" {
                self.first = Some(self.last);
            }
        }
    }
}

fn header() -> String {
    format!(
        "{:12} {:>8} {:>12} {:>9} {:>7} {:>6} {:>9} {:>6}  found",
        "target", "seconds", "executions", "a second", "edges", "new", "features", "new"
    )
}

impl Run {
    fn row(&self, name: &str) -> String {
        let Log { executions, first, last: (edges, features), .. } = self.log;
        let (edges_before, features_before) = first.unwrap_or_default();
        let seconds = self.took.as_secs_f64();
        format!(
            "{name:12} {seconds:8.0} {executions:12} {:9.0} {edges:7} {:6} {features:9} {:6}  {}",
            executions as f64 / seconds.max(0.001),
            edges.saturating_sub(edges_before),
            features.saturating_sub(features_before),
            if self.status.success() { "nothing" } else { "SOMETHING" }
        )
    }

    /// What was found and how to see it again.
    fn finding(&self, places: &Places) -> Option<String> {
        if self.status.success() {
            return None;
        }
        let name = &places.name;
        let Some(input) = &self.log.artifact else {
            return Some(format!(
                "{name}: libFuzzer ended with {}: see {}",
                self.status,
                places.log.display()
            ));
        };
        Some(format!(
            "{name}: see it again with\n  cargo run --package fuzz -- {name} {}\nlibFuzzer's \
             report is in {}; once it is mended, keep the input in {}",
            input.display(),
            places.log.display(),
            places.corpus.display()
        ))
    }
}

fn fuzz(program: &Path, places: &Places, seconds: u64) -> Result<Run> {
    let mut artifacts = places.findings.clone().into_os_string();
    artifacts.push("/");
    let mut command = places.command(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_MB}"))
        .arg(format!("-timeout={SECONDS_AN_INPUT}"))
        .arg(format!("-max_len={INPUT_BYTES}"))
        .arg("-print_final_stats=1")
        .arg(with_value("-artifact_prefix=", &artifacts))
        // New inputs go to the first.
        .args([&places.found, &places.corpus])
        .stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {program:?}"))?;
    let mut log = Log::default();
    let mut file = File::create(&places.log)
        .with_context(|| format!("cannot create {}", places.log.display()))?;
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            file.write_all(&line)?;
            log.take(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    Ok(Run { log, status: child.wait()?, took: start.elapsed() })
}

/// Rewrites the committed corpus of a target.
fn minimize(program: &Path, places: &Places) -> Result<()> {
    let small = places.found.with_file_name("small");
    if small.exists() {
        fs::remove_dir_all(&small)?;
    }
    fs::create_dir_all(&small)?;
    // What a person has named stays, and what that reaches needs no other.
    let (hashed, named): (Vec<Input>, Vec<Input>) =
        inputs(&places.corpus)?.into_iter().partition(is_hashed);
    for (_, path) in &named {
        fs::copy(path, small.join(path.file_name().context("an input has a name")?))?;
    }
    let mut command = places.command(program);
    command
        // Where the code goes, not how often: else they are hundreds.
        .args(["-merge=1", "-set_cover_merge=1", "-use_counters=0"])
        .arg(format!("-rss_limit_mb={MEMORY_MB}"))
        .args([&small, &places.corpus, &places.found])
        .stderr(Stdio::null());
    succeed(&mut command, &format!("merging the corpus of {}", places.name))?;

    let mut merged = inputs(&small)?;
    merged.retain(is_hashed);
    let count = merged.len();
    // The smallest ones, if they are too many.
    let mut bytes: u64 = named.iter().map(|(len, _)| len).sum();
    merged.truncate(CORPUS_FILES.saturating_sub(named.len()));
    merged.retain(|(len, _)| {
        bytes += len;
        bytes <= CORPUS_BYTES
    });
    for (_, path) in hashed {
        fs::remove_file(path)?;
    }
    for (_, path) in &merged {
        fs::copy(path, places.corpus.join(path.file_name().context("an input has a name")?))?;
    }
    println!(
        "{:12} {} inputs with a name, {} of {count} others kept, {bytes} bytes",
        places.name,
        named.len(),
        merged.len(),
    );
    Ok(())
}

/// An input: its length, and the file.
type Input = (u64, PathBuf);

/// The inputs in a folder, the smallest first.
fn inputs(folder: &Path) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        inputs.push((path.metadata()?.len(), path));
    }
    inputs.sort();
    Ok(inputs)
}

/// Whether libFuzzer has named an input: by its SHA-1.
fn is_hashed((_, path): &Input) -> bool {
    path.file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn with_value(option: &str, value: &OsStr) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(option);
    argument.push(value);
    argument
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let words = std::iter::once("fuzz").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.arguments)
    }

    #[test]
    fn a_smoke_run_is_short_and_a_full_one_ten_minutes() {
        assert_eq!(parse("").unwrap().seconds(), 600);
        assert_eq!(parse("ids keys --seconds 5").unwrap().seconds(), 5);
        let smoke = parse("ids --smoke").unwrap();
        assert_eq!(
            (smoke.seconds(), smoke.targets.as_slice()),
            (20, ["ids".to_owned()].as_slice())
        );
        assert!(parse("--smoke --seconds 5").is_err());
        assert!(parse("--smoke --minimize").is_err());
        assert!(parse("--minimize ids").unwrap().minimize);
    }

    #[test]
    fn targets_are_those_of_the_corpus() {
        let root = crate::workspace::root().unwrap();
        let known = known(&root).unwrap();
        assert!(known.contains(&"records".to_owned()), "{known:?}");
        assert_eq!(chosen(&known, &[]).unwrap(), known);
        assert_eq!(chosen(&known, &["keys".to_owned()]).unwrap(), ["keys"]);
        let error = chosen(&known, &["key".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("there is no target key; there are calls, "), "{error}");
    }

    #[test]
    fn the_committed_corpus_is_small() {
        let root = crate::workspace::root().unwrap();
        for name in known(&root).unwrap() {
            let inputs = inputs(&root.join("testing/fuzz/corpus").join(&name)).unwrap();
            let bytes: u64 = inputs.iter().map(|(len, _)| len).sum();
            assert!(!inputs.is_empty() && inputs.len() <= CORPUS_FILES, "{name}");
            assert!(bytes <= CORPUS_BYTES, "{name} has {bytes} bytes");
        }
    }

    #[test]
    fn the_log_tells_what_was_reached_and_found() {
        let mut log = Log::default();
        for line in [
            "INFO: Seed: 1\n",
            "#7\tINITED cov: 60 ft: 61 corp: 5/9b exec/s: 0 rss: 40Mb\n",
            "#64\tNEW    cov: 75 ft: 90 corp: 6/11b lim: 4 exec/s: 0 rss: 40Mb L: 2/2\n",
            "#512\tpulse  cov: 75 ft: 91 corp: 6/11b lim: 4 exec/s: 9 rss: 40Mb\n",
            "#nonsense\n",
            "artifact_prefix='x/'; Test unit written to x/crash-1234\n",
            "stat::number_of_executed_units: 520\n",
        ] {
            log.take(line);
        }
        let expected = Log {
            executions: 520,
            first: Some((60, 61)),
            last: (75, 91),
            artifact: Some("x/crash-1234".into()),
        };
        assert_eq!(log, expected);
    }
}
