use super::*;
use proptest::prelude::*;

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9._:@+-]{1,12}",
        Just("con".to_owned()),
        Just("CON".to_owned()),
        Just("x".repeat(128)),
        Just("X".repeat(128)),
    ]
    .prop_filter("dots alone are no segment", |text| text != "." && text != "..")
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        r"[a-zA-Z/.%*~ \\:]{1,12}",
        "[^\\p{Cc}]{1,40}",
        (1usize..=1024).prop_map(|len| "k".repeat(len)),
        Just("..".to_owned()),
        Just("../../../etc/passwd".to_owned()),
        Just("nul.txt".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every pair of component and key has its own file inside the store.
    #[test]
    fn no_two_keys_share_a_file(
        entries in proptest::collection::btree_map(
            (segment(), segment(), segment(), key()), any::<u32>(), 1..12
        )
    ) {
        let dir = StoreDir::new();
        let options = FileOptions::default().with_durability(Durability::Os);
        let storage = FileStorage::open(dir.path(), options).unwrap();
        let view = |(namespace, name, instance, _): &(String, String, String, String)| {
            NamespacedStorage::new(
                ComponentId::new(namespace, name, instance).unwrap(), &storage)
        };
        for (id, value) in &entries {
            view(id).set(&id.3, value.to_string().as_str().into()).unwrap();
        }
        for (id, value) in &entries {
            let found = view(id).get(&id.3).unwrap();
            prop_assert_eq!(found, Some(value.to_string().as_str().into()));
            let keys: Vec<_> = entries.keys()
                .filter(|other| (&other.0, &other.1, &other.2) == (&id.0, &id.1, &id.2))
                .map(|other| other.3.clone())
                .collect();
            prop_assert_eq!(view(id).list_keys(None).unwrap(), keys);
        }
        let files = files_below(&dir.path().join("components"));
        prop_assert_eq!(files.len(), entries.len());
        for path in files_below(dir.0.path()).keys() {
            prop_assert!(path.starts_with(dir.path()), "{:?}", path);
        }
        // Also on file systems that ignore case.
        let folded: std::collections::BTreeSet<_> =
            files.keys().map(|path| path.to_string_lossy().to_lowercase()).collect();
        prop_assert_eq!(folded.len(), entries.len());
    }
}
