//! Stores that do not answer, hosts that pause, and writes of which the outcome is unknown.

use rstest::rstest;
use storage_core::conformance::{Fault, Method};
use storage_host::{ComponentStorage, StorageError};

use crate::support::{Hosts, Kind, L};

fn unreachable() -> StorageError {
    StorageError::Unavailable { key: None, detail: "the connection is lost".to_owned() }
}

#[rstest]
fn an_unreachable_store_answers_from_the_cache_until_the_maximum_staleness(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    one.set("key", "old");
    one.connection().hold_notices();
    one.failing().inject(Fault::error(unreachable()));
    two.set("key", "new");
    for _ in 0..4 {
        assert_eq!(one.host.poll_changes(), Err(unreachable()));
        one.reads("key", "old");
        clock.advance(L / 4);
    }
    assert_eq!(one.cached("key"), None);
    assert_eq!(one.chain.get("key"), Err(unreachable()));
    assert_eq!(one.chain.get("key"), Err(unreachable()));
    let stats = one.host.coherence_stats().unwrap();
    assert_eq!((stats.failed_polls, stats.last_success), (4, Some(L)));
    assert_eq!(one.stats().lapses, 1);

    one.failing().heal();
    one.reads("key", "new");
    one.has_cached("key", "new");
    one.poll();
    // Notices that were held for so long change nothing.
    one.connection().release_notices();
    one.reads("key", "new");
}

/// The connection was lost for a while, and nothing changed or was read meanwhile.
#[test]
fn a_poll_after_an_outage_confirms_unchanged_entries() {
    let Hosts { one, clock, .. } = Hosts::new(Kind::Private);
    one.set("key", "value");
    one.failing().inject(Fault::error(unreachable()));
    clock.advance(2 * L);
    assert!(one.host.poll_changes().is_err());
    one.failing().heal();
    assert_eq!(one.cached("key"), None);
    one.poll();
    one.has_cached("key", "value");
}

#[rstest]
fn a_host_that_was_paused_reads_from_the_store(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
    #[values(false, true)] machine_sleeps: bool,
    #[values(false, true)] on_executor: bool,
) {
    let Hosts { one, two, clock, .. } = Hosts::new(kind);
    one.set("key", "old");
    one.connection().hold_notices();
    two.set("key", "new");
    match machine_sleeps {
        true => clock.sleep(10 * L),
        false => clock.advance(10 * L),
    }
    if on_executor {
        assert_eq!(one.cached("key"), None);
    }
    one.reads("key", "new");
    // It is cached again for the maximum staleness.
    two.set("key", "newer");
    clock.advance(L / 2);
    one.has_cached("key", "new");
    clock.sleep(L / 2);
    one.reads("key", "newer");
}

#[rstest]
fn a_poll_that_took_too_long_confirms_nothing(#[values(Kind::Private, Kind::Shared)] kind: Kind) {
    let Hosts { one, clock, .. } = Hosts::new(kind);
    one.set("key", "value");
    let held =
        one.store.hold(&[Method::ComponentRevisions], storage_core::conformance::Moment::After);
    let poll = one.start(|one| one.host.poll_changes());
    held.wait_for(1);
    clock.advance(L);
    held.release();
    poll.finish().unwrap();
    assert_eq!(one.cached("key"), None);
}

#[rstest]
fn a_write_of_unknown_outcome_is_read_from_the_store(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
) {
    let Hosts { one, clock, .. } = Hosts::new(kind);
    one.set("key", "old");
    one.failing().inject(Fault::error(unreachable()).on(&[Method::Set]).nth(1).after());
    assert_eq!(one.chain.set("key", "new".into()), Err(unreachable()));
    one.reads("key", "new");
    // The same without an effect.
    one.failing().inject(Fault::error(unreachable()).on(&[Method::Set]).nth(1));
    assert_eq!(one.chain.set("key", "newer".into()), Err(unreachable()));
    one.reads("key", "new");
    clock.advance(L);
    one.reads("key", "new");
}

/// The write takes effect on the server after its connection was lost: there is no report of it.
#[test]
fn a_write_that_takes_effect_later_is_found_by_polls() {
    let Hosts { one, two, shared, .. } = Hosts::new(Kind::Private);
    one.set("key", "old");
    one.failing().inject(Fault::error(unreachable()).on(&[Method::Set]).nth(1));
    assert!(one.chain.set("key", "late".into()).is_err());
    one.reads("key", "old");
    one.connection().hold_notices();
    shared.connect().set("app/notes/home/key", "late".into()).unwrap();
    assert!(one.connection().drop_notice(0));
    one.poll();
    one.poll();
    one.reads("key", "late");
    two.reads("key", "late");
}
