//! A few schedules of every model, which a mutant has to fail.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "test support")]

use std::process::Command;

fn models(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cache-models")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[test]
fn what_meets_in_a_key_is_coherent() {
    assert!(models(&["--pairs", "1000", "--triples", "1000"]).0);
}

/// Without this a failure could not be looked at.
#[test]
fn a_seed_decides_all_that_happens() {
    for seed in 1..=20 {
        let seed = seed.to_string();
        let replay = ["get", "commit", "panic", "--replay", &seed];
        let (fine, first) = models(&replay);
        assert!(fine && first.contains("it begins with"), "{first}");
        assert_eq!(models(&replay).1, first);
    }
}
