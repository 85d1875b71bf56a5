//! `--config` beside every command that opens a store: the manifest's quotas and limits
//! apply, as they do for the components themselves.

use rstest::rstest;

use crate::support::TestDir;

#[rstest]
#[case("file")]
#[cfg_attr(feature = "redb", case("redb"))]
#[cfg_attr(feature = "rocksdb", case("rocksdb"))]
fn quotas_and_limits_apply_on_every_engine(#[case] engine: &str) {
    let dir = TestDir::new();
    let manifest = include_str!("data/policy.toml").replace("file:", &format!("{engine}:"));
    dir.file("storage.toml", manifest.as_bytes());
    let put = |key: &str, value: &str| {
        let args = ["--config", "storage.toml", "--json", "put", "app/notes/home", key, value];
        let done = dir.run(&args);
        (done.code, done.stderr)
    };
    assert_eq!(put("a", "12345678901234567890"), (0, String::new()));
    for (key, value, code, kind) in [
        ("b", "123456789", 1, "quota_exceeded"),
        ("b", "123456789012345678901", 1, "limit_exceeded"),
        ("long-1", "", 2, "invalid_key"),
    ] {
        let (found, stderr) = put(key, value);
        assert_eq!(found, code, "{stderr}");
        assert!(stderr.contains(&format!("\"kind\":\"{kind}\"")), "{stderr}");
    }
    assert_eq!(put("b", "12345678"), (0, String::new()), "to the last byte");
    assert_eq!(put("c", "").0, 1, "the number of keys");
}
