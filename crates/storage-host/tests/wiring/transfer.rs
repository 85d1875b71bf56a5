//! Copies between every pair of stores, and interrupted copies.

use std::sync::Arc;
use std::sync::Mutex;

use storage_core::conformance::{CountingStorage, FailingStorage, Fault, Method, ReferenceStorage};
use storage_core::{Store, split_full_key};
use storage_host::{
    Commit, ComponentStorage, Copied, CopyError, CopyOptions, Mode, Revision, SnapshotVisitor,
    StorageError, StorageValue, StoreProperties, StoreUrl, copy_store, forward_storage,
};

use crate::contents::{Contents, contents, fill, kinds};

const NEW: CopyOptions<'_> = CopyOptions::new();
const MERGE: CopyOptions<'_> = CopyOptions::new().with_merge(true);

fn copy(from: &dyn Store, to: &dyn Store, options: CopyOptions<'_>) -> Result<Copied, CopyError> {
    copy_store(from, to, options, &mut |_, _| {})
}

/// Keys and values of every kind.
fn sample(many: usize) -> Contents {
    let mut sample = Contents::new();
    #[rustfmt::skip]
    let keys = [
        "loose", "a/b", "///", "a/b/c/key", "a/b/c/../../x", "a/b/c/%2f*~ .", "A/B/C/key",
        "a/b/c/\u{e9}\u{1f600}e\u{301}", "a/b/c-/key", "a/b/c./key", "con/nul.txt/x/aux",
    ];
    for key in keys {
        sample.insert(key.to_owned(), key.as_bytes().to_vec());
    }
    sample.insert(format!("a/b/c/{}", "k".repeat(1024)), Vec::new());
    sample.insert("a/b/c/every byte".to_owned(), (0..=255).cycle().take(70_000).collect());
    // Larger than a batch of writes.
    sample.insert("a/b/c/large".to_owned(), vec![7; 9 << 20]);
    for number in 0..many {
        sample.insert(format!("many/keys/{}/{number:05}", number % 3), vec![1; number % 50]);
    }
    sample
}

#[test]
fn every_pair_of_stores_copies_byte_for_byte() {
    let sample = sample(1_000);
    let directory = tempfile::tempdir().unwrap();
    let store = |kind: &str, name: &str| -> StoreUrl {
        let path = directory.path().join(name);
        kind.replace("PATH", path.to_str().unwrap()).parse().unwrap()
    };
    for (one, from) in kinds().into_iter().enumerate() {
        let url = store(from, &format!("from-{one}"));
        let mut source = url.open(Mode::ReadWrite).unwrap();
        fill(&source, &sample);
        if from != "memory:" {
            drop(source);
            source = url.open(Mode::ReadOnly).unwrap();
        }
        for (other, to) in kinds().into_iter().enumerate() {
            let url = store(to, &format!("to-{one}-{other}"));
            let target = url.open(Mode::ReadWrite).unwrap();
            let copied = copy(&source, &target, NEW).unwrap();
            assert!(contents(&target) == sample, "{from} to {to}");
            assert_eq!(copied.written, source.usage(None).unwrap(), "{from} to {to}");
            assert_eq!(copied.unchanged.keys, 0);
            if to != "memory:" {
                drop(target);
                let target = url.open(Mode::ReadOnly).unwrap();
                assert!(contents(&target) == sample, "{from} to {to}, opened again");
            }
        }
    }
}

#[test]
fn a_copy_that_fails_at_any_write_is_completed_by_the_next() {
    let source = ReferenceStorage::new();
    let mut sample = sample(5_000);
    sample.remove("a/b/c/large");
    fill(&source, &sample);
    let mut failures = 0;
    for at in 1.. {
        for after in [false, true] {
            let target = FailingStorage::new(CountingStorage::new(ReferenceStorage::new()));
            let fault = Fault::error(StorageError::IoError("broken".into()));
            let fault = fault.on(&[Method::Commit]).nth(at);
            target.inject(if after { fault.after() } else { fault });
            match copy(&source, &target, NEW) {
                Ok(_) => {
                    assert!(failures > 10, "{failures} writes");
                    return;
                }
                Err(CopyError::Write { first, error, .. }) => {
                    assert!(sample.contains_key(&first));
                    assert_eq!(error, StorageError::IoError("broken".into()));
                }
                Err(other) => panic!("{other}"),
            }
            failures += 1;
            let there = contents(&target);
            assert!(there.iter().all(|(key, value)| sample.get(key) == Some(value)));
            let copied = copy(&source, &target, NEW).unwrap();
            assert!(contents(&target) == sample);
            assert_eq!(
                copied.unchanged.keys,
                there.len() as u64,
                "existing keys are not written again"
            );
            assert_eq!(copied.total(), source.usage(None).unwrap());
        }
    }
}

#[test]
fn other_data_is_refused() {
    let source = ReferenceStorage::new();
    let all = ["a/b/c/1", "a/b/c/3", "a/b/c/5", "loose"];
    all.iter().for_each(|key| source.set(key, "mine".into()).unwrap());
    // The data of the target, the number of keys that differ, and the first of them.
    type Cases<'a> = [(&'a [(&'a str, &'a str)], u64, &'a str); 8];
    let cases: Cases<'_> = [
        (&[("a/b/c/0", "x")], 1, "a/b/c/0"),
        (&[("a/b/c/2", "mine"), ("a/b/c/4", "mine")], 2, "a/b/c/2"),
        (&[("zzz", "x")], 1, "zzz"),
        (&[("a/b/c/1", "mine"), ("loose", "mine"), ("zzz", "x")], 1, "zzz"),
        (&[("a/b/c/1", "theirs")], 1, "a/b/c/1"),
        (&[("a/b/c/1", "mine"), ("a/b/c/3", "theirs"), ("a/b/c/5", "mine")], 1, "a/b/c/3"),
        (&[("loose", "theirs"), ("0", "x"), ("zz", "x"), ("a/b/c/2", "x")], 4, "0"),
        (&[("a/b/c/5", ""), ("loose", "mine")], 1, "a/b/c/5"),
    ];
    for (held, keys, first) in cases {
        let target = ReferenceStorage::new();
        held.iter().for_each(|(key, value)| target.set(key, (*value).into()).unwrap());
        let before = contents(&target);
        let first = first.to_owned();
        assert_eq!(copy(&source, &target, NEW), Err(CopyError::OtherData { keys, first }));
        assert_eq!(contents(&target), before, "{held:?}");

        let copied = copy(&source, &target, MERGE).unwrap();
        let mut merged = before.clone();
        merged.extend(contents(&source));
        assert_eq!(contents(&target), merged, "{held:?}");
        let same = before.iter().filter(|(key, value)| {
            source.get(key).unwrap() == Some(StorageValue::from(value.as_slice()))
        });
        assert_eq!(copied.unchanged.keys, same.count() as u64);
        assert_eq!(copied.total().keys, 4);
    }
    // A target with other data is refused even if the source is empty.
    let refused = copy(&ReferenceStorage::new(), &source, NEW);
    assert_eq!(refused, Err(CopyError::OtherData { keys: 4, first: "a/b/c/1".into() }));
    assert_eq!(copy(&ReferenceStorage::new(), &source, MERGE), Ok(Copied::default()));
}

#[test]
fn a_damaged_value_in_the_target_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let source = ReferenceStorage::new();
    for number in 0..10 {
        source.set(&format!("a/b/c/{number}"), number.to_string().as_str().into()).unwrap();
    }
    for (options, damaged) in [(NEW, "a/b/c/3"), (NEW, "a/b/c/9"), (MERGE, "a/b/c/0")] {
        let target = StoreUrl::from_path(directory.path()).open(Mode::ReadWrite).unwrap();
        copy(&source, &target, options).unwrap();
        std::fs::write(directory.path().join("components").join(damaged), "damaged").unwrap();
        let copied = copy(&source, &target, options).unwrap();
        assert_eq!((copied.written.keys, copied.unchanged.keys), (1, 9));
        assert_eq!(contents(&target), contents(&source));
    }
}

/// A target that records its commits and flushes.
#[derive(Default)]
struct Recorder {
    inner: ReferenceStorage,
    commits: Mutex<Vec<Commit>>,
    flushes: Mutex<usize>,
}

impl ComponentStorage for Recorder {
    forward_storage!(self => self.inner; get, set, delete, exists, list_keys);

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        self.commits.lock().unwrap().push(commit.clone());
        self.inner.commit(commit)
    }
}

impl Store for Recorder {
    fn properties(&self) -> StoreProperties {
        self.inner.properties()
    }

    fn flush(&self) -> Result<(), StorageError> {
        *self.flushes.lock().unwrap() += 1;
        Ok(())
    }
}

#[test]
fn writes_come_in_bounded_batches_of_one_component_and_are_flushed() {
    let source = ReferenceStorage::new();
    let sample = sample(5_000);
    fill(&source, &sample);
    for number in 0..30 {
        source.set(&format!("many/keys/0/big-{number}"), vec![0; 1 << 20].into()).unwrap();
    }
    let target = Recorder::default();
    let mut seen = Vec::new();
    copy_store(&source, &target, NEW, &mut |key, copied| {
        seen.push(key.to_owned());
        assert_eq!(copied.total().keys, seen.len() as u64);
    })
    .unwrap();
    assert!(seen.iter().eq(contents(&source).keys()), "progress reports every key in order");
    assert_eq!(*target.flushes.lock().unwrap(), 1);
    let commits = target.commits.lock().unwrap();
    for commit in commits.iter() {
        assert!(commit.checks.is_empty() && commit.budget.is_none());
        let (prefix, _) = split_full_key(&commit.writes[0].key);
        assert!(commit.keys().all(|key| split_full_key(key).0 == prefix));
        let bytes: usize =
            commit.writes.iter().filter_map(|write| Some(write.value.as_ref()?.len())).sum();
        assert!(commit.writes.len() == 1 || bytes <= 8 << 20, "{bytes}");
    }
    // 5,000 small keys do not take 5,000 writes.
    assert!(commits.len() < 40, "{} writes", commits.len());
}

#[test]
fn errors_name_the_side_and_the_key() {
    let source = FailingStorage::new(ReferenceStorage::new());
    let target = FailingStorage::new(ReferenceStorage::new());
    source.inner().set("a/b/c/1", "x".into()).unwrap();
    let broken = || Fault::error(StorageError::IoError("broken".into()));
    let message =
        |source: &dyn Store, target: &dyn Store| copy(source, target, NEW).unwrap_err().to_string();
    source.inject(broken().on(&[Method::ReadSnapshot]).nth(1));
    insta::assert_snapshot!(message(&source, &target), @"cannot read the source: storage failed: broken");
    target.inject(broken().on(&[Method::Commit]).nth(1));
    insta::assert_snapshot!(message(&source, &target), @r#"cannot write "a/b/c/1" to the target: storage failed: broken"#);
    target.inject(broken().on(&[Method::ListPage]).nth(1));
    insta::assert_snapshot!(message(&source, &target), @"cannot read the target: storage failed: broken");
    target.inject(broken().on(&[Method::Flush]).nth(1));
    insta::assert_snapshot!(message(&source, &target), @"cannot make the target durable: storage failed: broken");
    let toy: Arc<dyn Store> = Arc::new(Recorder::default());
    insta::assert_snapshot!(message(&toy, &target), @"cannot read the source: not supported: this store has no snapshots; use another backend");
}

/// A store whose snapshots are of one component.
struct Apart(ReferenceStorage);

impl ComponentStorage for Apart {
    forward_storage!(self => self.0);
}

#[expect(clippy::missing_trait_methods, reason = "the others are not called")]
impl Store for Apart {
    fn properties(&self) -> StoreProperties {
        self.0.properties()
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        match split_full_key(prefix).0 == prefix && !prefix.is_empty() {
            true => self.0.read_snapshot(prefix, after, visit),
            false => Err(StorageError::Unsupported("not of one component".into())),
        }
    }
}

#[test]
fn components_are_copied_one_by_one_if_so_chosen() {
    let sample = sample(3_500);
    let source = Apart(ReferenceStorage::new());
    fill(&source.0, &sample);
    let target = ReferenceStorage::new();
    assert!(matches!(copy(&source, &target, NEW), Err(CopyError::Source(_))));
    let by_component = NEW.with_by_component(true);
    let mut seen = Vec::new();
    copy_store(&source, &target, by_component, &mut |key, _| seen.push(key.to_owned())).unwrap();
    assert!(seen.iter().eq(sample.keys()), "each key once and in order");
    assert!(contents(&target) == sample);
    let again = copy(&source, &target, by_component).unwrap();
    assert_eq!((again.written.keys, again.unchanged.keys), (0, sample.len() as u64));
    target.set("app/other/home/1", "x".into()).unwrap();
    assert!(matches!(copy(&source, &target, by_component), Err(CopyError::OtherData { .. })));
}
