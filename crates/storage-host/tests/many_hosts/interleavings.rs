//! Calls and notices, each in an order that the test chooses.

use rstest::rstest;
use storage_core::conformance::{Method, Moment};
use storage_host::{Access, Commit, ComponentStorage, Grant};

use crate::support::{Hosts, Kind, L, id};

const READS: [Method; 4] = [Method::Get, Method::Exists, Method::GetMany, Method::GetVersioned];
const WRITES: [Method; 3] = Method::WRITES;

#[rstest]
fn a_notice_removes_the_key_at_once_and_no_other(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
) {
    let Hosts { one, two, .. } = Hosts::new(kind);
    one.set("key", "old");
    one.set("other", "value");
    two.set("key", "new");
    one.has_cached("other", "value");
    assert_eq!(one.cached("key"), None);
    one.reads("key", "new");
    one.has_cached("key", "new");
    two.chain.delete("key").unwrap();
    assert_eq!(one.chain.get("key"), Ok(None));
    assert_eq!((one.stats().invalidations, one.stats().drops), (2, 0));
}

#[rstest]
fn a_host_keeps_what_it_wrote_itself(#[values(Kind::Private, Kind::Shared)] kind: Kind) {
    let hosts = Hosts::new(kind);
    let Hosts { one, two, clock, .. } = &hosts;
    for round in 0..20 {
        let value = format!("{round}");
        one.set("own", &value);
        let commit = Commit::new().set("first", value.as_str().into()).delete("gone");
        one.chain.commit(commit).unwrap();
        // Writes of the other host to other keys come between.
        two.set("foreign", &value);
        one.has_cached("own", &value);
        one.has_cached("first", &value);
        assert_eq!(one.cached("gone"), Some(None));
        two.has_cached("foreign", &value);
        clock.advance(L / 4);
        one.poll();
        two.poll();
    }
    assert_eq!((one.stats().drops, one.stats().lapses), (0, 0));
    assert_eq!((two.stats().drops, two.stats().lapses), (0, 0));
}

/// The read has its value when another host replaces it.
#[rstest]
fn a_read_that_a_notice_overtook_adds_nothing(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
    #[values(false, true)] many: bool,
) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    two.set("key", "old");
    let held = one.store.hold(&READS, Moment::After);
    let read = one.start(move |one| {
        if many {
            one.chain.get_many(&["key", "x"]).map(|mut found| found.remove(0))
        } else {
            one.chain.get("key")
        }
    });
    held.wait_for(1);
    two.set("key", "new");
    clock.advance(L / 2);
    one.poll();
    held.release();
    assert_eq!(read.finish(), Ok(Some("new".into())));
    clock.advance(L / 2);
    one.reads("key", "new");
}

/// This host's write takes effect first and returns last.
#[rstest]
fn a_write_in_flight_does_not_cache_an_older_value_than_announced(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
    #[values(false, true)] commits: bool,
) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    let held = one.store.hold(&WRITES, Moment::After);
    let write = one.start(move |one| {
        if commits {
            one.chain.commit(Commit::new().set("key", "older".into())).map(drop)
        } else {
            one.chain.set("key", "older".into())
        }
    });
    held.wait_for(1);
    two.set("key", "newer");
    clock.advance(L / 2);
    one.poll();
    held.release();
    write.finish().unwrap();
    assert_eq!(one.cached("key"), None);
    one.reads("key", "newer");
    assert_eq!(one.stats().drops, 0);
}

/// The other host's write takes effect first, and its notice arrives during or after this
/// host's write.
#[rstest]
fn a_late_notice_does_not_hide_an_own_write(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
    #[values(false, true)] during: bool,
) {
    let Hosts { one, two, .. } = Hosts::new(kind);
    one.connection().hold_notices();
    two.set("key", "older");
    let held = one.store.hold(&WRITES, Moment::After);
    let write = one.start(|one| one.chain.set("key", "newer".into()));
    held.wait_for(1);
    if during {
        assert!(one.connection().deliver_notice(0));
    }
    held.release();
    write.finish().unwrap();
    one.reads("key", "newer");
    one.connection().release_notices();
    one.reads("key", "newer");
    one.poll();
    one.poll();
    one.reads("key", "newer");
    assert_eq!(one.stats().drops, 0, "the late notice closed the gap");
}

/// The write was reported, and its call has not returned: a poll must not confirm the value
/// that it replaced.
#[rstest]
fn a_poll_does_not_confirm_what_an_own_write_in_flight_replaced(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
) {
    let Hosts { one, clock, .. } = Hosts::new(kind);
    one.set("key", "old");
    let held = one.store.hold(&WRITES, Moment::After);
    let write = one.start(|one| one.chain.set("key", "new".into()));
    held.wait_for(1);
    for _ in 0..8 {
        clock.advance(L / 4);
        one.poll();
    }
    one.reads("key", "new");
    held.release();
    write.finish().unwrap();
    one.reads("key", "new");
    one.has_cached("key", "new");
}

/// The poll read the revision before this host's commit and is handled after it.
#[rstest]
fn a_poll_that_is_older_than_an_own_commit_drops_nothing(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
) {
    let Hosts { one, clock, .. } = Hosts::new(kind);
    one.set("other", "value");
    let held = one.store.hold(&[Method::ComponentRevisions], Moment::After);
    let poll = one.start(|one| one.host.poll_changes());
    held.wait_for(1);
    one.set("key", "value");
    held.release();
    poll.finish().unwrap();
    clock.advance(L / 2);
    one.has_cached("key", "value");
    one.has_cached("other", "value");
    assert_eq!(one.stats().drops, 0);
}

/// The poll begins before a commit of the other host and is answered after it.
#[rstest]
fn a_poll_confirms_entries_as_of_its_start(#[values(Kind::Private, Kind::Shared)] kind: Kind) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    one.set("key", "old");
    let held = one.store.hold(&[Method::ComponentRevisions], Moment::After);
    let poll = one.start(|one| one.host.poll_changes());
    held.wait_for(1);
    one.connection().hold_notices();
    two.set("key", "new");
    clock.advance(L / 2);
    held.release();
    poll.finish().unwrap();
    one.reads("key", "old");
    clock.advance(L / 2);
    one.reads("key", "new");
}

#[rstest]
fn reordered_and_repeated_notices_drop_nothing(#[values(Kind::Private, Kind::Shared)] kind: Kind) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    one.set("kept", "value");
    let keys = ["a", "b", "c", "d"];
    keys.iter().for_each(|key| one.set(key, "old"));
    one.connection().hold_notices();
    keys.iter().for_each(|key| two.set(key, "new"));
    // The poll finds the last revision before any notice has arrived.
    clock.advance(L / 4);
    one.poll();
    for position in [3, 1, 1, 0] {
        assert!(one.connection().repeat_notice(position));
        assert!(one.connection().deliver_notice(position));
    }
    keys.iter().for_each(|key| one.reads(key, "new"));
    for _ in 0..8 {
        one.poll();
        clock.advance(L / 4);
        one.has_cached("kept", "value");
    }
    assert_eq!((one.stats().drops, one.stats().lapses), (0, 0));
}

/// The poll that found the revision counts once its notice has arrived.
#[rstest]
fn a_notice_that_follows_its_poll_confirms_the_entries(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    one.set("kept", "value");
    one.connection().hold_notices();
    two.set("key", "new");
    clock.advance(L / 4 * 3);
    one.poll();
    one.connection().release_notices();
    clock.advance(L / 4 * 3);
    one.has_cached("kept", "value");
    clock.advance(L / 4);
    assert_eq!(one.cached("kept"), None);
}

#[rstest]
fn a_lost_notice_is_found_by_the_second_poll(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
    #[values(false, true)] then_own: bool,
) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    one.set("key", "old");
    one.connection().hold_notices();
    two.set("key", "new");
    assert!(one.connection().drop_notice(0));
    if then_own {
        // Its change follows one that this host does not know.
        one.set("other", "value");
    }
    one.reads("key", "old");
    clock.advance(L / 5);
    one.poll();
    clock.advance(L / 5);
    one.poll();
    assert_eq!(one.stats().drops, 1);
    one.reads("key", "new");
    // From then on its changes follow each other again.
    one.connection().release_notices();
    two.set("key", "newer");
    one.set("other", "value");
    clock.advance(L / 5);
    one.poll();
    one.poll();
    one.reads("key", "newer");
    one.has_cached("other", "value");
    assert_eq!(one.stats().drops, 1);
}

/// What is dropped must not be added again by calls that were in flight.
#[rstest]
fn calls_in_flight_add_nothing_after_a_drop(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
    #[values(false, true)] writes: bool,
    #[values(false, true)] lapses: bool,
) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    two.set("key", "old");
    let methods = if writes { &WRITES[..] } else { &READS };
    let held = one.store.hold(methods, Moment::After);
    let call = one.start(move |one| match writes {
        true => one.chain.set("key", "mine".into()).map(|()| None),
        false => one.chain.get("key"),
    });
    held.wait_for(1);
    one.connection().hold_notices();
    two.set("key", "new");
    if lapses {
        clock.advance(L);
        // Starts anew.
        if writes {
            one.chain.get("x").unwrap();
        } else {
            one.set("x", "y");
        }
    } else {
        one.poll();
        one.poll();
        assert_eq!(one.stats().drops, 1);
    }
    held.release();
    call.finish().unwrap();
    one.reads("key", "new");
}

#[rstest]
fn a_cleared_cache_reads_from_the_store(#[values(Kind::Private, Kind::Shared)] kind: Kind) {
    let Hosts { one, two, .. } = Hosts::new(kind);
    one.set("key", "old");
    one.connection().hold_notices();
    two.set("key", "new");
    one.reads("key", "old");
    one.chain.clear_cache();
    one.reads("key", "new");
    one.has_cached("key", "new");
}

#[rstest]
fn granted_reads_are_as_fresh_as_those_of_the_owner(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    let (owner, reader) = (id("app/notes/home"), id("app/report/1"));
    let prefix = "key".to_owned();
    one.host.grant(&reader, Grant { owner: owner.clone(), prefix, access: Access::ReadWrite });
    let granted = one.host.granted(&reader, &owner).unwrap();
    granted.set("key", "old".into()).unwrap();
    one.has_cached("key", "old");
    two.set("key", "new");
    assert_eq!(granted.get("key"), Ok(Some("new".into())));
    one.connection().hold_notices();
    two.set("key", "newer");
    assert_eq!(granted.get("key"), Ok(Some("new".into())));
    clock.advance(L);
    assert_eq!(granted.get("key"), Ok(Some("newer".into())));
}
