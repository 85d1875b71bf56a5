use super::*;

#[test]
fn a_reader_changes_nothing() {
    let place = Place::new();
    fixture::copy_to(&place);
    let before = place.tree();
    let reader = read_only(&place.path());
    assert_eq!(fixture::contents(&reader), support::first_format());
    reader.usage(None).unwrap();
    reader.list_components(None, 10).unwrap();
    reader.flush().unwrap();
    let refused = [
        reader.set("a/b/c/d", "x".into()),
        reader.delete("app/notes/home/a"),
        storage_core::put(&reader, "a/b/c/d", "x".into()).map(drop),
        reader.commit(Commit::new()).map(drop),
    ];
    assert!(refused.iter().all(|result| *result == Err(StorageError::ReadOnly)));
    drop(reader);
    assert_eq!(place.tree(), before);
}

#[test]
fn a_reader_sees_the_writes_of_a_running_writer() {
    let place = Place::new();
    let writer = open(&place.path());
    let reader = read_only(&place.path());
    for number in 0..20 {
        let key = format!("app/notes/n{}/note-{number}", number % 3);
        writer.set(&key, "text".into()).unwrap();
        assert_eq!(reader.get(&key), Ok(Some("text".into())));
        assert_eq!(reader.list_keys(None), writer.list_keys(None));
        assert_eq!(reader.usage(None), writer.usage(None));
        assert_eq!(reader.list_components(None, 9), writer.list_components(None, 9));
    }
}
