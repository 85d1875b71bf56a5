//! Runs targets on inputs that are there: `replay TARGET FILE..`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use fuzz::{TARGETS, Target};

const HELP: &str = "\
Runs a fuzz target on inputs, without libFuzzer. It panics where the target finds
something.

Usage: replay TARGET [FILE OR FOLDER..]

Without files it runs all of fuzz/corpus/TARGET. Targets:";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let target = arguments.next().unwrap_or_default();
    let Some(target) = Target::named(&target) else {
        let asked = matches!(target.as_str(), "-h" | "--help");
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("{HELP} {}", names.join(", "));
        return ExitCode::from(if asked { 0 } else { 2 });
    };
    let mut places: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if places.is_empty() {
        places.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name));
    }
    match replay(target, &places) {
        Ok(count) => {
            println!("{}: {count} inputs, nothing found", target.name);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every file; answers how many there were.
fn replay(target: Target, places: &[PathBuf]) -> io::Result<usize> {
    let named = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
    };
    let mut files = Vec::new();
    for place in places {
        if !place.is_dir() {
            files.push(place.clone());
            continue;
        }
        for entry in fs::read_dir(place).map_err(|error| named(place, error))? {
            files.push(entry?.path());
        }
    }
    files.sort();
    for file in &files {
        let input = fs::read(file).map_err(|error| named(file, error))?;
        // A panic does not say which input it was.
        println!("{} {}", target.name, file.display());
        target.run(&input);
    }
    Ok(files.len())
}
