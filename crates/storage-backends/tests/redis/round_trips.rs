//! How often a call asks the server.

use super::*;

/// How many requests a server read from its sockets for a call, after a first one that may have
/// opened a connection.
fn requests(raw: &mut raw::Raw, call: &dyn Fn()) -> u64 {
    let mut count = || {
        let info = raw::text(&raw.run("INFO stats"));
        let line = info.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    call();
    let before = count();
    call();
    // Asking for the number is a request, too.
    count() - before - 1
}

#[test]
fn a_call_is_one_round_trip() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let store = RedisStorage::open(&server.options()).unwrap();
    let mut raw = server.raw();
    let home = "app/notes/home/";
    let key = |n: u32| format!("{home}{n}");
    (0..50).for_each(|n| store.set(&key(n), "value".into()).unwrap());
    let keys: Vec<String> = (0..50).map(key).collect();
    let many: Vec<&str> = keys.iter().map(String::as_str).collect();
    let page = PageRequest::new(20).with_prefix(home).after(&keys[3]);
    let commit = || {
        Commit::new()
            .require_present(key(1))
            .set(key(2), "new".into())
            .delete(key(99))
            .with_budget(Budget::UNLIMITED)
    };
    let shared = store.shared().unwrap();
    let calls: [(&str, &dyn Fn()); 11] = [
        ("get", &|| drop(store.get(&key(1)).unwrap())),
        ("get_versioned", &|| drop(store.get_versioned(&key(1)).unwrap())),
        ("exists", &|| assert!(store.exists(&key(1)).unwrap())),
        ("set", &|| store.set(&key(1), "new".into()).unwrap()),
        ("delete", &|| store.delete(&key(98)).unwrap()),
        ("commit", &|| assert!(store.commit(commit()).unwrap() > Revision::new(0))),
        ("list_page", &|| assert_eq!(store.list_page(page).unwrap().keys.len(), 20)),
        ("get_many", &|| assert_eq!(store.get_many(&many).unwrap().len(), 50)),
        ("usage", &|| assert_eq!(store.usage(Some(home)).unwrap().keys, 50)),
        ("list_components", &|| assert_eq!(store.list_components(None, 9).unwrap().keys, [home])),
        ("component_revisions", &|| drop(shared.component_revisions(&[home, ""]).unwrap())),
    ];
    for (name, call) in calls {
        assert_eq!(requests(&mut raw, call), 1, "{name}");
    }
    // A server that was told to forget the script is given it again.
    raw.run("SCRIPT FLUSH");
    store.set(&key(1), "newer".into()).unwrap();
    assert_eq!(store.get(&key(1)).unwrap(), Some("newer".into()));
}
