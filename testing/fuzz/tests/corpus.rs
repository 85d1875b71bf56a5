//! Runs every target on the committed inputs, without libFuzzer.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "test support")]

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Targets measure the memory of the whole process, so only one runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn replay(name: &str) {
    let _lock = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let target = fuzz::TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.corpus);
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        // A panic does not name its input.
        println!("{}", path.display());
        fuzz::run(name, &fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "the corpus of {name} is empty");
}

macro_rules! corpora {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_tested() {
            let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

corpora!(ids keys file_names records damage cursors manifest archives store_urls redis_replies calls calls_file calls_redb);
