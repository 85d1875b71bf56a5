//! `mutants`: breaks one line at a time and checks that a test detects it.
//!
//! The working tree is copied to a scratch directory, so neither the checkout nor
//! its build changes.

mod mutant;
mod scratch;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::rocksdb;
use crate::servers::{ENGINES, Servers};
use crate::workspace::Workspace;
use mutant::{Mutant, Source};
use scratch::{Outcome, Scratch};

/// What became of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A test failed.
    Killed,
    /// The tests did not end.
    Hung,
    /// All tests passed.
    Survived,
    /// The sources do not contain its snippet exactly once.
    Stale,
    /// The changed code does not compile.
    Broken,
}

impl Fate {
    fn is_killed(self) -> bool {
        matches!(self, Self::Killed | Self::Hung)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Killed => "killed",
            Self::Hung => "killed (hung)",
            Self::Survived => "SURVIVED",
            Self::Stale => "STALE",
            Self::Broken => "BROKEN",
        })
    }
}

/// Prints the named mutants, or all.
pub(crate) fn list(root: &Path, names: &[String]) -> Result<()> {
    for mutant in mutant::load(root, names)? {
        println!("{}\n{}", mutant.name, describe(&mutant));
        mutant.commands().for_each(|tests| println!("  tests    cargo test {tests}"));
    }
    Ok(())
}

fn describe(mutant: &Mutant) -> String {
    format!("  breaks   {}\n  matters  {}", mutant.breaks, mutant.matters)
}

/// Tries the named mutants, or all. Tests that run longer than `limit` on a mutant
/// count as having detected it.
///
/// # Errors
/// If a mutant is not killed, or if the tests fail on the unchanged tree.
pub(crate) fn run(root: &Path, names: &[String], limit: Duration) -> Result<()> {
    let mut mutants = mutant::load(root, names)?;
    let all = mutants.len();
    mutants.retain(|mutant| match mutant.lacks() {
        Some(need) => {
            println!("SKIPPED {}: its tests need {need}", mutant.name);
            false
        }
        None => true,
    });
    let skipped = all - mutants.len();
    let commands: BTreeSet<&str> = mutants.iter().flat_map(Mutant::commands).collect();
    let mut variables = match commands.iter().any(|tests| tests.contains("rocksdb")) {
        true => {
            rocksdb::require_libclang()?;
            rocksdb::build(root)?
        }
        false => Vec::new(),
    };
    // Runs until the last mutant was tried.
    let needed = |feature: &str| mutants.iter().any(|mutant| mutant.needs(feature));
    let engines = ENGINES.iter().filter(|engine| needed(engine.feature));
    let servers = engines.map(|engine| engine.start(root)).collect::<Result<Vec<_>>>()?;
    variables.extend(servers.iter().flat_map(Servers::variables));
    let target = Workspace::load(root)?.target_directory;
    let scratch = Scratch::prepare(root, &target, variables)?;
    let sources = Source::read_all(scratch.tree(), &scratch::tracked_files(root)?)?;

    println!("the unchanged tree, in {}", scratch.tree().display());
    for tests in commands {
        let start = Instant::now();
        if !scratch.build(tests)? || scratch.test(tests, None)? != Outcome::Passed {
            bail!("cargo test {tests} fails without any mutant:\n{}", scratch.log_end()?);
        }
        row("passed", start, &format!("cargo test {tests}"))?;
    }

    println!("the mutants");
    let mut escaped = Vec::new();
    for mutant in &mutants {
        let start = Instant::now();
        let (fate, details) = attempt(&scratch, &sources, mutant, limit)?;
        row(&fate.to_string(), start, &mutant.name)?;
        if !fate.is_killed() {
            escaped.push(format!("{fate}: {}\n{details}", mutant.name));
        }
    }
    if !escaped.is_empty() {
        let (count, all) = (escaped.len(), mutants.len());
        bail!("{count} of {all} mutants were not killed\n{}", escaped.join("\n"));
    }
    println!("{} mutants killed, {skipped} SKIPPED", mutants.len());
    Ok(())
}

/// Prints one line of the table immediately.
fn row(result: &str, start: Instant, name: &str) -> Result<()> {
    println!("  {result:13} {:6.1} s  {name}", start.elapsed().as_secs_f64());
    Ok(std::io::stdout().flush()?)
}

/// Tries one mutant. Also returns what is needed to fix one that was not killed.
fn attempt(
    scratch: &Scratch,
    sources: &[Source],
    mutant: &Mutant,
    limit: Duration,
) -> Result<(Fate, String)> {
    let (source, text) = match mutant.apply(sources) {
        Ok(applied) => applied,
        Err(error) => return Ok((Fate::Stale, format!("  {error:#}"))),
    };
    let (fate, passed) = scratch.with(&source.path, &text, || trial(scratch, mutant, limit))?;
    let details = match fate {
        Fate::Broken => scratch.log_end()?,
        _ => format!(
            "{}\n  passed   cargo test {}",
            describe(mutant),
            passed.join("\n  passed   cargo test ")
        ),
    };
    Ok((fate, details))
}

/// Runs the tests of the mutant that the scratch tree contains now. Also returns the
/// commands that passed.
fn trial<'m>(
    scratch: &Scratch,
    mutant: &'m Mutant,
    limit: Duration,
) -> Result<(Fate, Vec<&'m str>)> {
    let mut fate = Fate::Survived;
    let mut passed = Vec::new();
    for tests in &mutant.tests {
        fate = test(scratch, tests, limit)?;
        if fate != Fate::Survived {
            break;
        }
        passed.push(tests.as_str());
    }
    for tests in &mutant.also {
        if !fate.is_killed() {
            break;
        }
        fate = test(scratch, tests, limit)?;
        if fate == Fate::Survived {
            passed.push(tests);
        }
    }
    Ok((fate, passed))
}

fn test(scratch: &Scratch, tests: &str, limit: Duration) -> Result<Fate> {
    if !scratch.build(tests)? {
        return Ok(Fate::Broken);
    }
    Ok(match scratch.test(tests, Some(limit))? {
        Outcome::Passed => Fate::Survived,
        Outcome::Failed => Fate::Killed,
        Outcome::Hung => Fate::Hung,
    })
}
