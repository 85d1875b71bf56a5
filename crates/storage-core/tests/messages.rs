//! What users read when something goes wrong.

use storage_core::{
    ComponentId, MAX_FULL_KEY_BYTES, StorageError, validate_full_key, validate_key,
};

fn lines<T: ToString>(errors: impl IntoIterator<Item = T>) -> String {
    errors.into_iter().map(|error| error.to_string() + "\n").collect()
}

#[test]
fn every_error_says_what_failed_on_what() {
    let errors = [
        StorageError::NotFound("user:1".into()),
        StorageError::AlreadyExists("user:1".into()),
        StorageError::QuotaExceeded,
        StorageError::InvalidKey("a key has at least 1 byte; this one is empty".into()),
        StorageError::IoError("cannot write data/ab12: disk full".into()),
        StorageError::Conflict("user \"1\"".into()),
        StorageError::Unsupported("this storage keeps no revisions; another backend does".into()),
        StorageError::Corrupt { key: Some("user:1".into()), detail: "checksum differs".into() },
        StorageError::Corrupt { key: None, detail: "FORMAT is missing".into() },
        StorageError::Unavailable { key: Some("user:1".into()), detail: "fsync failed".into() },
        StorageError::Unavailable { key: None, detail: "the server does not answer".into() },
        StorageError::UnreadableComponent {
            prefix: "app/notes/home/".into(),
            detail: "cannot list data/ab12: Input/output error".into(),
        },
        StorageError::UnreadableComponent {
            prefix: "app/".into(),
            detail: "cannot list data/ab: Permission denied".into(),
        },
        StorageError::UnreadableComponent { prefix: String::new(), detail: "denied".into() },
        StorageError::Locked(
            "the store data is locked: process 4711 has it open for writing".into(),
        ),
        StorageError::ReadOnly,
        StorageError::AccessDenied("user:1".into()),
        StorageError::LimitExceeded { limit: "bytes of a value", max: 1024, actual: 4096 },
    ];
    insta::assert_snapshot!(lines(errors), @r#"
    key "user:1" does not exist
    key "user:1" already exists
    the component's quota is used up: delete keys, or have its quota raised
    invalid key: a key has at least 1 byte; this one is empty
    storage failed: cannot write data/ab12: disk full
    key "user \"1\"" was changed in the meantime: read it again and retry
    not supported: this storage keeps no revisions; another backend does
    key "user:1" is corrupt: checksum differs
    the store is corrupt: FORMAT is missing
    key "user:1" is unavailable: fsync failed
    the store is unavailable: the server does not answer
    component app/notes/home cannot be read: cannot list data/ab12: Input/output error
    components below app cannot be read: cannot list data/ab: Permission denied
    the component cannot be read: denied
    the store data is locked: process 4711 has it open for writing
    the store is open for reading only
    access to key "user:1" is not granted
    4096 bytes of a value are over the limit of 1024
    "#);
}

#[test]
fn every_rule_for_keys_is_named() {
    let keys = ["", "a\nb", "\u{85}", &"k".repeat(1025), &"\u{e9}".repeat(600)];
    insta::assert_snapshot!(lines(keys.map(|key| validate_key(key).unwrap_err())), @r#"
    invalid key: a key has at least 1 byte; this one is empty
    invalid key: a key has no control characters; "a\nb" has one at byte 1
    invalid key: a key has no control characters; "\u{85}" has one at byte 0
    invalid key: a key has at most 1024 bytes; "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk..." has 1025
    invalid key: a key has at most 1024 bytes; "éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé..." has 1200
    "#);
    let full = "k".repeat(MAX_FULL_KEY_BYTES + 1);
    insta::assert_snapshot!(validate_full_key(&full).unwrap_err(), @r#"invalid key: a key has at most 1411 bytes; "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk..." has 1412"#);
}

#[test]
fn every_rule_for_ids_is_named() {
    let long = "x".repeat(129);
    let ids = [
        ("", "notes", "home"),
        ("app", "", "home"),
        ("app", "notes", ""),
        ("app", ".", "home"),
        ("app", "notes", ".."),
        ("my app", "notes", "home"),
        ("app", "no/tes", "home"),
        ("app", "notes", "h\u{f6}me"),
        ("app", "notes", "home\n"),
        (&long, "notes", "home"),
    ];
    let errors = ids.map(|(namespace, name, instance)| {
        ComponentId::new(namespace, name, instance).unwrap_err()
    });
    insta::assert_snapshot!(lines(errors), @r#"
    the component's namespace is empty
    the component's name is empty
    the component's instance is empty
    the component's name may not be "."
    the component's instance may not be ".."
    the component's namespace "my app" contains ' '; allowed characters are A-Z a-z 0-9 . _ - : @ +
    the component's name "no/tes" contains '/'; allowed characters are A-Z a-z 0-9 . _ - : @ +
    the component's instance "höme" contains 'ö'; allowed characters are A-Z a-z 0-9 . _ - : @ +
    the component's instance "home\n" contains '\n'; allowed characters are A-Z a-z 0-9 . _ - : @ +
    the component's namespace "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..." has 129 bytes, more than 128
    "#);
    let texts = ["", "app", "app/notes", "app/notes/home/x", "app//home", "/app/notes/home"];
    let errors = texts.map(|text| text.parse::<ComponentId>().unwrap_err());
    insta::assert_snapshot!(lines(errors), @r#"
    component id "" must have three segments, NAMESPACE/NAME/INSTANCE
    component id "app" must have three segments, NAMESPACE/NAME/INSTANCE
    component id "app/notes" must have three segments, NAMESPACE/NAME/INSTANCE
    component id "app/notes/home/x" must have three segments, NAMESPACE/NAME/INSTANCE
    the component's name is empty
    component id "/app/notes/home" must have three segments, NAMESPACE/NAME/INSTANCE
    "#);
}
