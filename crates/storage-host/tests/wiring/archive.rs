//! Archives: what is exported is imported byte for byte, and what was changed is refused.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use storage_core::conformance::{CountingStorage, FailingStorage, Fault, Method, ReferenceStorage};
use storage_core::{Store, split_full_key};
use storage_host::{
    Budget, Commit, ComponentId, ComponentSettings, ComponentStorage, CopyOptions, ExportError,
    ImportError, Imported, Limits, Mode, StorageError, StorageHost, StoreUrl, check_archive,
    export_store, import_archive,
};

use crate::contents::{Contents, contents, fill, kinds};

const NEW: CopyOptions<'_> = CopyOptions::new();

fn filled(contents: &Contents) -> ReferenceStorage {
    let storage = ReferenceStorage::new();
    fill(&storage, contents);
    storage
}

fn id(id: &str) -> ComponentId {
    id.parse().unwrap()
}

fn export(store: &dyn Store, ids: &[ComponentId]) -> Vec<u8> {
    let mut archive = Vec::new();
    let chosen = Some(ids).filter(|ids| !ids.is_empty());
    export_store(store, chosen, &mut archive, &mut |_, _| {}).unwrap();
    archive
}

fn import(archive: &[u8], to: &dyn Store, options: &CopyOptions<'_>) -> Result<Imported, String> {
    let imported = import_archive(&mut &*archive, to, options, &mut |_, _| {});
    imported.map_err(|error| error.to_string())
}

/// Keys and values of every kind.
fn sample(many: usize) -> Contents {
    let mut sample = Contents::new();
    #[rustfmt::skip]
    let keys = [
        "loose", "a/b", "///", "//", "a/b/c/", "a/b/c/key", "a/b/c/../../x", "a/b/c/%2f*~ .",
        "A/B/C/key", "a/b/c/\u{e9}\u{1f600}e\u{301}\u{2028}\u{202e}", "a/b/c/\"\\{}", "a/b/c-/key",
        "a/b/c./key", "a/b/c0", "con/nul.txt/x/aux",
    ];
    for key in keys {
        sample.insert(key.to_owned(), key.as_bytes().to_vec());
    }
    sample.insert(format!("a/b/c/{}", "k".repeat(1024)), Vec::new());
    for (name, value) in [
        ("every byte", (0..=255).cycle().take(70_000).collect()),
        ("zeros", vec![0; 1_000]),
        ("text", "line\r\n\tline\u{2028}\u{7f}\"\\/\u{1f600}".into()),
        ("control", "\u{1b}[0m\u{8}".into()),
        ("half a character", vec![0xc3]),
    ] {
        sample.insert(format!("a/b/c/{name}"), value);
    }
    for number in 0..many {
        sample.insert(format!("many/keys/{}/{number:05}", number % 3), vec![1; number % 50]);
    }
    sample
}

#[test]
fn every_pair_of_stores_is_archived_byte_for_byte() {
    let mut sample = sample(1_200);
    // Larger than a block.
    sample.insert("a/b/c/large".to_owned(), vec![7; 5 << 20]);
    sample.insert("a/b/c/large text".to_owned(), "\"\n".repeat(1 << 17).into());
    let directory = tempfile::tempdir().unwrap();
    let open = |kind: &str, name: String| {
        let path = directory.path().join(name);
        let url: StoreUrl = kind.replace("PATH", path.to_str().unwrap()).parse().unwrap();
        url.open(Mode::ReadWrite).unwrap()
    };
    for (one, from) in kinds().into_iter().enumerate() {
        let source = open(from, format!("from-{one}"));
        fill(&source, &sample);
        let archive = export(&source, &[]);
        for (other, to) in kinds().into_iter().enumerate() {
            let target = open(to, format!("to-{one}-{other}"));
            let imported = import(&archive, &target, &NEW).unwrap();
            assert!(contents(&target) == sample, "{from} to {to}");
            assert_eq!(imported.written, source.usage(None).unwrap(), "{from} to {to}");
            assert_eq!(imported.archive_bytes, archive.len() as u64);
            let again = import(&archive, &target, &NEW).unwrap();
            assert_eq!((again.written.keys, again.unchanged), (0, imported.written));
        }
        // The archive does not depend on the kind of store, except for its header.
        let without_header = |archive: &[u8]| {
            let start = archive.iter().position(|byte| *byte == b'\n').unwrap();
            let text = String::from_utf8(archive[start..].to_vec()).unwrap();
            let lines = text.lines().filter(|line| line.starts_with("{\"component\":"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let reference = export(&filled(&sample), &[]);
        assert!(without_header(&archive) == without_header(&reference), "{from}");
    }
}

#[test]
fn random_contents_are_archived_byte_for_byte() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..60 {
        let mut sample = Contents::new();
        for _ in 0..random.usize(0..60) {
            let text = |random: &mut fastrand::Rng, max: usize| -> String {
                // Often the characters that a format could treat specially.
                let special = ['/', '\\', '"', '{', '}', ':', ',', 'a', '%'];
                let mut any = || match random.bool() {
                    true => random.choice(special).unwrap(),
                    false => random.char('\u{a0}'..),
                };
                (0..max).map(|_| any()).collect()
            };
            let random = &mut random;
            let value = match random.bool() {
                true => text(random, 15).into_bytes(),
                false => (0..random.usize(0..40)).map(|_| random.u8(..)).collect(),
            };
            let length = random.usize(1..20);
            sample.insert(text(random, length), value);
        }
        let archive = export(&filled(&sample), &[]);
        let target = ReferenceStorage::new();
        import(&archive, &target, &NEW).unwrap();
        assert!(contents(&target) == sample);
    }
}

#[test]
fn an_archive_is_lines_as_they_are_documented() {
    let store = ReferenceStorage::new();
    store.set("app/notes/home/1", "buy \"milk\"\n".into()).unwrap();
    store.set("app/notes/home/2", vec![0, 255].into()).unwrap();
    store.set("loose", "".into()).unwrap();
    let text = String::from_utf8(export(&store, &[])).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let time = header.split_once("\"time\":").unwrap().1.split_once(',').unwrap().0;
    assert!(time.parse::<u64>().unwrap() > 1_700_000_000, "{header}");
    insta::assert_snapshot!(header.replace(time, "[TIME]"), @r#"{"format":"storage-host archive","version":1,"store_id":null,"time":[TIME],"selection":null}"#);
    // The last line's hash covers the time.
    let (keys, end) = rest.split_at(rest.rfind("{\"end\"").unwrap());
    insta::assert_snapshot!(keys, @r#"
    {"component":"app/notes/home","key":"1","value_utf8":"buy \"milk\"\n","crc32":"4c7a1ab6"}
    {"component":"app/notes/home","key":"2","value_base64":"AP8=","crc32":"5cd8d78e"}
    {"component":null,"key":"loose","value_utf8":"","crc32":"f8ee20a0"}
    "#);
    let (end, hash) = end.split_once("\"sha256\":\"").unwrap();
    insta::assert_snapshot!(end, @r#"{"end":true,"keys":3,"components":1,"bytes":50,"#);
    assert_eq!(hash.len(), 64 + "\"}\n".len());
}

/// The first keys of a store of many blocks.
fn blocks() -> (Contents, Vec<u8>) {
    let mut contents = Contents::new();
    for number in 0..2_500 {
        contents.insert(format!("a/b/{}/{number:04}", number / 1_200), vec![b'x'; number % 7]);
    }
    let archive = export(&filled(&contents), &[]);
    (contents, archive)
}

/// The archive is refused at a line, and a store gets only whole blocks of it.
#[track_caller]
fn refused(archive: &[u8], original: &Contents) -> (u64, String) {
    let target = ReferenceStorage::new();
    let checked = check_archive(&mut &*archive, Some(&target), &NEW, &mut |_, _| {});
    assert!(contents(&target).is_empty());
    let imported = import_archive(&mut &*archive, &target, &NEW, &mut |_, _| {});
    let (Err(checked), Err(imported)) = (checked, imported) else { panic!("it is accepted") };
    assert_eq!(checked.to_string(), imported.to_string());
    let got = contents(&target);
    assert!(got.iter().all(|(key, value)| original.get(key) == Some(value)));
    match imported {
        ImportError::Refused { line, problem } => (line, problem),
        other => panic!("{other}"),
    }
}

fn line_of(archive: &[u8], at: usize) -> u64 {
    1 + archive[..at].iter().filter(|byte| **byte == b'\n').count() as u64
}

#[test]
fn an_archive_with_a_flipped_byte_is_refused_at_or_after_its_line() {
    let (original, archive) = blocks();
    let lines = line_of(&archive, archive.len()) - 1;
    let ends: BTreeSet<usize> = (0..120).chain(archive.len() - 160..archive.len()).collect();
    let spread = (0..archive.len()).step_by(1_997);
    for at in spread.chain(ends) {
        let mut changed = archive.clone();
        changed[at] ^= [1, 0x20, 0x80][at % 3];
        let (line, problem) = refused(&changed, &original);
        let changed_line = line_of(&archive, at);
        assert!(line >= changed_line && line <= lines, "byte {at}: line {line}: {problem}");
        // Every key has its own checksum.
        let feed = archive[..at].iter().rposition(|byte| *byte == b'\n');
        if archive[feed.map_or(0, |feed| feed + 1)..].starts_with(b"{\"component\"") {
            assert_eq!(line, changed_line, "byte {at}: {problem}");
        }
    }
}

#[test]
fn a_truncated_archive_is_refused_at_its_end() {
    let (original, archive) = blocks();
    let spread = (0..archive.len()).step_by(1_499).chain(archive.len() - 150..archive.len());
    for at in spread {
        let (line, problem) = refused(&archive[..at], &original);
        assert_eq!(line, line_of(&archive, at), "byte {at}: {problem}");
    }
}

#[test]
fn lines_that_are_moved_repeated_removed_or_added_are_refused() {
    let (original, archive) = blocks();
    let text = String::from_utf8(archive).unwrap();
    let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let checkpoint = lines.iter().position(|line| line.starts_with("{\"checkpoint")).unwrap();
    let last = lines.len() - 1;
    assert_eq!((checkpoint, last), (1_001, 2_503));
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        let (line, problem) = refused(lines.concat().as_bytes(), &original);
        format!("{line}: {problem}")
    };
    let swapped = |one: usize, other: usize| changed(&|lines| lines.swap(one, other));
    let removed = |at: usize| changed(&|lines| drop(lines.remove(at)));
    let added = |at: usize, line: &str| changed(&|lines| lines.insert(at, line.to_owned()));
    let repeated = |at: usize| added(at, &lines[at]);
    let other_key = r#"{"component":"a/b/0","key":"0000","value_utf8":"","crc32":"00000000"}"#;
    let seen = [
        swapped(10, 11),
        swapped(0, 1),
        swapped(1_001, 1_002),
        swapped(500, 1_500),
        removed(0),
        removed(10),
        removed(checkpoint),
        removed(last),
        repeated(0),
        repeated(10),
        repeated(checkpoint),
        repeated(last),
        added(2_504, "\n"),
        added(2_504, &lines[5]),
        added(10, "\n"),
        added(10, "{}\n"),
        added(10, "{\"component\":1}\n"),
        added(10, other_key),
    ];
    insta::assert_snapshot!(seen.join("\n"));
}

#[test]
fn what_is_no_archive_is_refused() {
    let original = Contents::new();
    let header = |version: u32, selection: &str| {
        format!(
            "{{\"format\":\"storage-host archive\",\"version\":{version},\"store_id\":null,\
             \"time\":1,\"selection\":{selection}}}\n"
        )
    };
    let key = |line: &str| header(1, "null") + line + "\n";
    let cases = [
        String::new(),
        "\n".to_owned(),
        "key,value\n".to_owned(),
        "{\"format\":\"other\",\"version\":1}\n".to_owned(),
        header(2, "null"),
        header(1, "1"),
        header(1, "null"),
        header(1, "[\"a/b/c\"]")
            + "{\"component\":\"a/b/d\",\"key\":\"1\",\"value_utf8\":\"\",\"crc32\":\"07334686\"}\n",
        key(r#"{"component":"a/b","key":"c/1","value_utf8":"","crc32":"1"}"#),
        key(r#"{"component":"a/b/c/d","key":"1","value_utf8":"","crc32":"1"}"#),
        key(r#"{"component":null,"key":"a/b/c/1","value_utf8":"","crc32":"1"}"#),
        key(r#"{"component":null,"key":"1","crc32":"1"}"#),
        key(r#"{"component":null,"key":"1","value_utf8":"","value_base64":"","crc32":"1"}"#),
        key(r#"{"component":null,"key":"1","value_base64":"A","crc32":"1"}"#),
        key(r#"{"component":null,"key":"1","value_utf8":"","crc32":"1"}"#),
        key(r#"{"component":null,"key":"1","value_utf8":"","crc32":"1","more":1}"#),
        key(r#"{"component":null,"key":"\u0000","value_utf8":"","crc32":"41d912ff"}"#),
        key(r#"{"component":null,"key":"\ud800","value_utf8":"","crc32":"1"}"#),
    ];
    let messages = cases.map(|archive| {
        let (line, problem) = refused(archive.as_bytes(), &original);
        format!("{line}: {problem}")
    });
    insta::assert_snapshot!(messages.join("\n"));
}

/// Bytes without a line feed and without an end.
struct Endless(&'static [u8]);

impl io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        Ok(length)
    }
}

impl BufRead for Endless {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.0)
    }

    fn consume(&mut self, _amount: usize) {}
}

#[test]
fn a_line_that_is_no_key_is_not_read_to_its_end() {
    let header = String::from_utf8(export(&ReferenceStorage::new(), &[])).unwrap();
    let header = header.lines().next().unwrap().to_owned() + "\n";
    let endless = io::Read::chain(header.as_bytes(), Endless(&[b'x'; 512]));
    let target = ReferenceStorage::new();
    let imported = import_archive(&mut BufReader::new(endless), &target, &NEW, &mut |_, _| {});
    let message = imported.unwrap_err().to_string();
    assert_eq!(message, "line 2 of the archive: it is not a line of an archive");
}

#[test]
fn an_import_that_fails_at_any_write_is_completed_by_the_next() {
    let sample = sample(6_000);
    let archive = export(&filled(&sample), &[]);
    for at in 1.. {
        for after in [false, true] {
            let target = FailingStorage::new(CountingStorage::new(ReferenceStorage::new()));
            let fault = Fault::error(StorageError::IoError("broken".into()));
            let fault = fault.on(&[Method::Commit]).nth(at);
            target.inject(if after { fault.after() } else { fault });
            if let Ok(imported) = import(&archive, &target, &NEW) {
                assert_eq!(imported.written.keys, sample.len() as u64);
                assert!(at > 10, "{at} writes");
                return;
            }
            let there = contents(&target);
            assert!(there.iter().all(|(key, value)| sample.get(key) == Some(value)));
            let imported = import(&archive, &target, &NEW).unwrap();
            assert!(contents(&target) == sample);
            assert_eq!(imported.unchanged.keys, there.len() as u64);
        }
    }
}

/// An archive whose reader is gone after some bytes.
struct Cut<'a>(&'a [u8]);

impl io::Read for Cut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::Error::other("gone")) } else { self.0.read(buffer) }
    }
}

#[test]
fn an_import_that_is_cut_off_has_written_verified_blocks_and_continues() {
    let (original, archive) = blocks();
    let target = ReferenceStorage::new();
    let mut there = 0;
    for at in (0..archive.len()).step_by(9_973) {
        let mut cut = BufReader::new(Cut(&archive[..at]));
        let cut = import_archive(&mut cut, &target, &NEW, &mut |_, _| {});
        assert!(matches!(cut, Err(ImportError::Read { .. })), "{cut:?}");
        let now = contents(&target);
        assert!(now.len() >= there && now.iter().all(|(key, value)| original[key] == *value));
        there = now.len();
    }
    // The batch of the first component was complete when the second began.
    assert_eq!(there, 1_200);
    let imported = import(&archive, &target, &NEW).unwrap();
    assert_eq!((imported.unchanged.keys, imported.written.keys), (1_200, 1_300));
    assert!(contents(&target) == original);
}

#[test]
fn other_data_in_imported_components_is_refused() {
    let source: Contents = ["a/b/c/1", "a/b/c/3", "a/b/d/1", "loose"]
        .map(|key| (key.to_owned(), b"mine".to_vec()))
        .into();
    let archive = export(&filled(&source), &[]);
    let chosen = export(&filled(&source), &[id("a/b/c"), id("a/b/empty")]);
    // Of each case the target's data, and the key that is refused in both archives.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Option<&'a str>);
    let cases: [Case<'_>; 9] = [
        (&[("a/b/c/0", "x")], Some("a/b/c/0"), Some("a/b/c/0")),
        (&[("a/b/c/2", "mine"), ("a/b/c/4", "x")], Some("a/b/c/2"), Some("a/b/c/2")),
        (&[("a/b/c/4", "x")], Some("a/b/c/4"), Some("a/b/c/4")),
        (&[("a/b/c/1", "mine"), ("a/b/c/3", "x")], Some("a/b/c/3"), Some("a/b/c/3")),
        (&[("loose", "x")], Some("loose"), None),
        (&[("a/b/d/1", "x")], Some("a/b/d/1"), None),
        (&[("a/b/empty/1", "x")], None, Some("a/b/empty/1")),
        // Other components and unscoped keys stay.
        (&[("a/b/other/1", "x"), ("other", "x"), ("a/b/c", "x"), ("z", "x")], None, None),
        (&[("a/b/c/1", "mine"), ("loose", "mine"), ("a/b/d/1", "mine")], None, None),
    ];
    for (held, in_whole, in_chosen) in cases {
        for (archive, refused) in [(&archive, in_whole), (&chosen, in_chosen)] {
            let target = ReferenceStorage::new();
            held.iter().for_each(|(key, value)| target.set(key, (*value).into()).unwrap());
            let before = contents(&target);
            let check = check_archive(&mut archive.as_slice(), Some(&target), &NEW, &mut |_, _| {});
            let imported = import(archive, &target, &NEW);
            match refused {
                Some(first) => {
                    let expected = format!(
                        "the target has other data: key {first:?}, which the archive lacks or has \
                         with another value"
                    );
                    assert_eq!(check.unwrap_err().to_string(), expected);
                    assert_eq!(imported.unwrap_err(), expected);
                    let kept = before.iter().all(|(key, value)| contents(&target)[key] == *value);
                    assert!(kept, "{held:?}");
                }
                None => {
                    assert_eq!(check.unwrap(), imported.clone().unwrap());
                    assert_eq!(imported.unwrap().total().keys, contents_of(archive) as u64);
                }
            }
            let target = filled(&before);
            import(archive, &target, &NEW.with_merge(true)).unwrap();
            let mut merged = before;
            let wanted = |key: &str| archive.len() > chosen.len() || key.starts_with("a/b/c/");
            merged.extend(source.clone().into_iter().filter(|(key, _)| wanted(key)));
            assert!(contents(&target) == merged, "{held:?}");
        }
    }
}

/// The number of keys of an archive.
fn contents_of(archive: &[u8]) -> usize {
    archive.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"component\"")).count()
}

#[test]
fn chosen_components_are_exported_alone() {
    let sample = sample(600);
    let store = filled(&sample);
    let ids = [id("many/keys/1"), id("a/b/c"), id("a/b/none")];
    let mut archive = Vec::new();
    let mut seen = Vec::new();
    let exported = export_store(&store, Some(&ids), &mut archive, &mut |key, exported| {
        seen.push(key.to_owned());
        assert_eq!(exported.usage.keys, seen.len() as u64);
    })
    .unwrap();
    let wanted = |key: &&String| ["a/b/c/", "many/keys/1/"].contains(&split_full_key(key).0);
    let expected: Vec<&String> = sample.keys().filter(wanted).collect();
    assert!(seen.iter().eq(expected.iter().copied()));
    assert_eq!((exported.components, exported.empty.as_slice()), (2, &ids[2..]));
    assert_eq!(exported.archive_bytes, archive.len() as u64);
    let target = ReferenceStorage::new();
    import(&archive, &target, &NEW).unwrap();
    assert!(contents(&target).keys().eq(expected));
    // Nothing chosen is not everything.
    let exported = export_store(&store, Some(&[]), &mut Vec::new(), &mut |_, _| {}).unwrap();
    assert_eq!(exported.usage.keys, 0);
}

#[test]
fn quotas_and_limits_are_kept_and_the_component_is_named() {
    let mut source = Contents::new();
    for number in 0..30 {
        source.insert(format!("a/b/c/{number:02}"), vec![b'x'; 8]);
        source.insert(format!("a/b/d/{number:02}"), vec![b'x'; 8]);
    }
    source.insert("loose".to_owned(), vec![b'x'; 1_000]);
    let archive = export(&filled(&source), &[]);
    let settings = |quota, limits: Limits| {
        move |component: &ComponentId| match component.as_str() {
            "a/b/d" => ComponentSettings { quota, limits, ..Default::default() },
            _ => ComponentSettings::default(),
        }
    };
    let budget = |max_bytes, max_keys| Some(Budget { max_bytes, max_keys });
    let mut small = Limits::default();
    small.value_bytes = 7;
    let mut short = Limits::default();
    short.key_bytes = 1;
    let quota = "component a/b/d does not fit in its quota of";
    let cases = [
        (budget(300, 30), Limits::default(), None),
        (budget(299, 30), Limits::default(), Some(format!("{quota} 299 bytes and 30 keys: it needs 300 bytes and 30 keys"))),
        (budget(u64::MAX, 29), Limits::default(), Some(format!("{quota} 29 keys: it needs 300 bytes and 30 keys"))),
        (None, small, Some("cannot write \"a/b/d/00\" to the target: 8 bytes of a value are over the limit of 7".to_owned())),
        (None, short, Some("cannot write \"a/b/d/00\" to the target: invalid key: a key has at most 1 bytes here; this one has 2".to_owned())),
    ];
    for (quota, limits, message) in cases {
        let settings = settings(quota, limits);
        let options = NEW.with_settings(&settings);
        let target = ReferenceStorage::new();
        let checked = check_archive(&mut archive.as_slice(), None, &options, &mut |_, _| {});
        let imported = import(&archive, &target, &options);
        match message {
            None => assert_eq!(checked.unwrap(), imported.unwrap()),
            Some(message) => {
                assert_eq!(checked.unwrap_err().to_string(), message);
                assert_eq!(imported.unwrap_err(), message);
                // Nothing of the component was written.
                assert!(contents(&target).keys().all(|key| !key.starts_with("a/b/d/")));
                import(&archive, &target, &NEW).unwrap();
                // Nothing has to be written, so a lower quota refuses nothing.
                assert_eq!(import(&archive, &target, &options).unwrap().written.keys, 0);
            }
        }
        assert!(contents(&target) == source);
    }
}

#[test]
fn a_component_larger_than_a_batch_is_imported_up_to_its_quota() {
    let source: Contents =
        (0..5_000).map(|number| (format!("a/b/c/{number:04}"), vec![b'x'; 8])).collect();
    let archive = export(&filled(&source), &[]);
    let quota = Some(Budget { max_bytes: u64::MAX, max_keys: 4_500 });
    let settings = move |_: &ComponentId| ComponentSettings { quota, ..Default::default() };
    let options = NEW.with_settings(&settings);
    // A file is checked as a whole, a stream block by block.
    let checked = check_archive(&mut archive.as_slice(), None, &options, &mut |_, _| {});
    assert!(matches!(checked, Err(ImportError::Quota(_))), "{checked:?}");
    let target = ReferenceStorage::new();
    let message = import(&archive, &target, &options).unwrap_err();
    assert!(message.starts_with("component a/b/c does not fit in its quota of 4500 keys"));
    assert!(contents(&target).len() <= 4_500);
    import(&archive, &target, &NEW).unwrap();
    assert!(contents(&target) == source);
}

#[test]
fn a_merge_counts_the_keys_that_stay() {
    let source = [("a/b/c/1".to_owned(), vec![1]), ("a/b/c/2".to_owned(), vec![1])];
    let archive = export(&filled(&source.into()), &[]);
    let settings = |max_keys| {
        let quota = Some(Budget { max_bytes: u64::MAX, max_keys });
        move |_: &ComponentId| ComponentSettings { quota, ..Default::default() }
    };
    let target = ReferenceStorage::new();
    target.set("a/b/c/0", "stays".into()).unwrap();
    let (two, three) = (settings(2), settings(3));
    let merge = NEW.with_merge(true);
    let message = import(&archive, &target, &merge.with_settings(&two)).unwrap_err();
    assert_eq!(message, "component a/b/c does not fit in its quota of 2 keys");
    assert_eq!(contents(&target).len(), 1);
    import(&archive, &target, &merge.with_settings(&three)).unwrap();
    assert_eq!(contents(&target).len(), 3);
}

#[test]
fn an_export_beside_a_writer_is_of_one_point_in_time() {
    let directory = tempfile::tempdir().unwrap();
    for (number, kind) in kinds().into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let url: StoreUrl = kind.replace("PATH", path.to_str().unwrap()).parse().unwrap();
        let store = url.open(Mode::ReadWrite).unwrap();
        let pair = |number: u64| {
            let value = number.to_string();
            // Far apart in the order of keys.
            Commit::new()
                .set("a/b/c/first", value.as_str().into())
                .set("z/z/z/last", value.as_str().into())
        };
        store.commit(pair(0)).unwrap();
        for number in 0..300 {
            store.set(&format!("m/m/m/{number:03}"), vec![1; 100].into()).unwrap();
        }
        let (done, begun) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1.. {
                    store.commit(pair(number)).unwrap();
                    begun.store(true, Ordering::Relaxed);
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            while !begun.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            let archives: Vec<Vec<u8>> = (0..10).map(|_| export(&store, &[])).collect();
            done.store(true, Ordering::Relaxed);
            for archive in archives {
                let target = ReferenceStorage::new();
                import(&archive, &target, &NEW).unwrap();
                let target = contents(&target);
                assert_eq!(target["a/b/c/first"], target["z/z/z/last"], "{kind}");
                assert_eq!(target.len(), 302);
            }
        });
    }
}

/// An output that fails after some bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => self.0 = left,
            None => return Err(io::ErrorKind::StorageFull.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_export_that_fails_names_the_side() {
    let store = FailingStorage::new(filled(&sample(5_000)));
    for room in [0, 100_000] {
        let failed = export_store(&store, None, &mut Full(room), &mut |_, _| {});
        assert!(matches!(failed, Err(ExportError::Archive(_))), "{failed:?}");
    }
    store.inject(
        Fault::error(StorageError::IoError("broken".into())).on(&[Method::ReadSnapshot]).nth(1),
    );
    let mut archive = Vec::new();
    let failed = export_store(&store, None, &mut archive, &mut |_, _| {}).unwrap_err();
    assert_eq!(failed.to_string(), "cannot read the store: storage failed: broken");
    assert!(import(&archive, &ReferenceStorage::new(), &NEW).is_err());
}

#[test]
fn a_wipe_removes_one_component_and_nothing_else() {
    let sample = sample(5_000);
    let mut limits = Limits::default();
    limits.batch_operations = 1;
    let directory = tempfile::tempdir().unwrap();
    for (number, kind) in kinds().into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let url: StoreUrl = kind.replace("PATH", path.to_str().unwrap()).parse().unwrap();
        let store = url.open(Mode::ReadWrite).unwrap();
        fill(&store, &sample);
        let host = StorageHost::builder(store).limits(limits).build();
        for wiped in ["a/b/c", "many/keys/1", "a/b/none"] {
            let chain = host.component(&id(wiped));
            chain.list_keys(None).unwrap().iter().for_each(|key| drop(chain.get(key)));
            let before = contents(host.store());
            let of_it = |key: &String| split_full_key(key).0 == format!("{wiped}/");
            let expected = before.keys().filter(|key| of_it(key)).count() as u64;
            let mut steps = Vec::new();
            let removed = host.wipe(&id(wiped), &mut |removed| steps.push(removed)).unwrap();
            assert_eq!(removed, expected, "{kind}");
            assert_eq!(steps.last().copied().unwrap_or(0), expected);
            assert!(steps.windows(2).all(|pair| pair[1] - pair[0] <= 1_000));
            let mut rest = before;
            rest.retain(|key, _| !of_it(key));
            assert!(contents(host.store()) == rest, "{kind}");
            // The cache forgets them too.
            assert_eq!(chain.get("key").unwrap(), None, "{kind}");
            assert_eq!(chain.component_usage().unwrap().key_count, 0, "{kind}");
        }
    }
}
