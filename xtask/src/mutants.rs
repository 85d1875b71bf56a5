//! `mutants`: patches that each break one line that matters, and the tests
//! that should notice.
//!
//! The working tree is copied to a scratch folder, so nothing here touches the
//! checkout or its build.

mod patch;
mod scratch;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use patch::Patch;
use scratch::{Outcome, Scratch};

/// What became of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// A test failed.
    Killed,
    /// The tests did not end.
    Hung,
    /// No test noticed.
    Survived,
    /// The patch no longer applies.
    Stale,
    /// The patch is none, or what it makes of the code does not compile.
    Broken,
}

impl fmt::Display for Verdict {
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

/// Prints every patch under `root` and what it says of itself.
pub(crate) fn list(root: &Path, names: &[String]) -> Result<()> {
    for patch in patch::load(root, names)? {
        println!("{}", patch.name);
        println!("  breaks   {}", patch.breaks);
        println!("  matters  {}", patch.matters);
        for tests in &patch.tests {
            println!("  tests    cargo test {}", tests.join(" "));
        }
        for tests in &patch.also {
            println!("  also     cargo test {}", tests.join(" "));
        }
    }
    Ok(())
}

/// Tries the named mutants, or all where none is named. Tests that run longer
/// than `limit` on a mutant count as having noticed it.
///
/// # Errors
/// If one is not killed, or if the tests fail without any mutant.
pub(crate) fn run(root: &Path, names: &[String], limit: Duration) -> Result<()> {
    let (patches, skipped): (Vec<Patch>, Vec<Patch>) =
        patch::load(root, names)?.into_iter().partition(|patch| patch.lacks().is_none());
    for patch in &skipped {
        let need = patch.lacks().unwrap_or_default();
        println!("SKIPPED {}: its tests need {need}, which this machine has not", patch.name);
    }
    let scratch = Scratch::prepare(root, &Workspace::load(root)?.target_directory)?;

    println!("the unmutated tree, in {}", scratch.tree().display());
    let commands: BTreeSet<&[String]> =
        patches.iter().flat_map(Patch::commands).map(Vec::as_slice).collect();
    for tests in commands {
        let start = Instant::now();
        let sound = scratch.build(tests)? && scratch.test(tests, None)? == Outcome::Passed;
        if !sound {
            bail!(
                "cargo test {} fails without any mutant:\n{}",
                tests.join(" "),
                scratch.log_end()?
            );
        }
        row("passed", start, &format!("cargo test {}", tests.join(" ")))?;
    }

    println!("the mutants");
    let mut escaped = Vec::new();
    for patch in &patches {
        let start = Instant::now();
        let (verdict, details) = attempt(&scratch, patch, limit)?;
        row(&verdict.to_string(), start, &patch.name)?;
        if !matches!(verdict, Verdict::Killed | Verdict::Hung) {
            escaped.push(format!("{verdict}: {}\n{details}", patch.name));
        }
    }
    if !escaped.is_empty() {
        bail!(
            "{} of {} mutants were not killed\n{}",
            escaped.len(),
            patches.len(),
            escaped.join("\n")
        );
    }
    match skipped.len() {
        0 => println!("all {} mutants were killed", patches.len()),
        skipped => println!("{} mutants were killed, {skipped} were SKIPPED", patches.len()),
    }
    Ok(())
}

/// One line of the table, shown at once.
fn row(verdict: &str, start: Instant, name: &str) -> Result<()> {
    println!("  {verdict:13} {:6.1} s  {name}", start.elapsed().as_secs_f64());
    Ok(std::io::stdout().flush()?)
}

/// Applies a patch, runs its tests and takes it back. Returns the verdict and,
/// for one that was not killed, what a person needs to act on it.
fn attempt(scratch: &Scratch, patch: &Patch, limit: Duration) -> Result<(Verdict, String)> {
    let applied = match scratch.apply(patch)? {
        Ok(applied) => applied,
        Err(reason) => return Ok((Verdict::Stale, indent(&reason))),
    };
    let verdict = trial(scratch, patch, limit);
    applied.revert()?;
    let (verdict, passed) = verdict?;
    let details = match verdict {
        Verdict::Broken => indent(&scratch.log_end()?),
        Verdict::Survived => {
            let passed: Vec<String> = passed.iter().map(|tests| tests.join(" ")).collect();
            format!(
                "  breaks   {}\n  matters  {}\n  passed   cargo test {}",
                patch.breaks,
                patch.matters,
                passed.join("\n  passed   cargo test ")
            )
        }
        _ => String::new(),
    };
    Ok((verdict, details))
}

/// Judges the mutant that stands in the scratch folder now. Returns the verdict
/// and which tests have not noticed.
fn trial<'p>(
    scratch: &Scratch,
    patch: &'p Patch,
    limit: Duration,
) -> Result<(Verdict, Vec<&'p Vec<String>>)> {
    let mut verdict = Verdict::Survived;
    let mut passed = Vec::new();
    for tests in &patch.tests {
        verdict = judge(scratch, tests, limit)?;
        if verdict != Verdict::Survived {
            break;
        }
        passed.push(tests);
    }
    for tests in &patch.also {
        if !matches!(verdict, Verdict::Killed | Verdict::Hung) {
            break;
        }
        verdict = judge(scratch, tests, limit)?;
        if verdict == Verdict::Survived {
            passed.push(tests);
        }
    }
    Ok((verdict, passed))
}

/// What one command makes of the mutant.
fn judge(scratch: &Scratch, tests: &[String], limit: Duration) -> Result<Verdict> {
    if !scratch.build(tests)? {
        return Ok(Verdict::Broken);
    }
    Ok(match scratch.test(tests, Some(limit))? {
        Outcome::Passed => Verdict::Survived,
        Outcome::Failed => Verdict::Killed,
        Outcome::Hung => Verdict::Hung,
    })
}

fn indent(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}
