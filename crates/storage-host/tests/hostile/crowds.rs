//! Many guests at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use storage_host::{
    Access, Budget, CacheConfig, ComponentSettings, ComponentStorage, Grant, Limits, Store,
};

use crate::arena::{Arena, EVIL, Setup, VICTIM, alone, alone_with, id};
use crate::component::Kind;
use crate::guest::Guest;

/// Runs something in many instances of the attacker at once, each on its own thread.
fn at_once(arena: &Arena, count: usize, run: impl Fn(usize, &mut Guest) + Sync) {
    let ready = Barrier::new(count);
    thread::scope(|scope| {
        for n in 0..count {
            let (ready, run) = (&ready, &run);
            let mut guest = arena.guest();
            // Small stacks, because the host's memory is measured.
            thread::Builder::new()
                .stack_size(1 << 20)
                .spawn_scoped(scope, move || {
                    ready.wait();
                    run(n, &mut guest);
                })
                .unwrap();
        }
    });
}

/// What an instance touches of its memory, and what its thread costs.
const INSTANCE_BYTES: u64 = 20 << 10;
const THREAD_BYTES: u64 = 64 << 10;

#[test]
fn writes_of_a_thousand_instances_are_intact() {
    alone(|arena| {
        drop(arena.guest());
        arena.begin(1_000 * (INSTANCE_BYTES + THREAD_BYTES));
        at_once(arena, 1_000, |n, guest| {
            let own = format!("own/{n:04}");
            guest.set(&own, &n.to_string()).unwrap();
            guest.set("shared", &format!("{n:04}").repeat(1_000)).unwrap();
            assert_eq!(guest.get(&own).unwrap(), Some(n.to_string().into_bytes()));
            let store = guest.open("draft2", "").unwrap();
            let [key, len] = guest.string("count");
            guest.call("draft2.increment", &[store, key, len, 1]).unwrap();
        });
        let chain = arena.host.component(&id(EVIL));
        assert_eq!(chain.list_keys(Some("own/")).unwrap().len(), 1_000);
        assert_eq!(chain.get("count").unwrap(), Some("1000".into()));
        let shared = chain.get("shared").unwrap().unwrap();
        let text = std::str::from_utf8(shared.as_bytes()).unwrap();
        assert_eq!(text, text[..4].repeat(1_000));
    });
}

const QUOTA: Budget = Budget { max_bytes: 10_000, max_keys: 50 };

/// The host with a quota for the attacker.
const WITH_QUOTA: Setup = Setup {
    host: |builder| {
        let settings = ComponentSettings { quota: Some(QUOTA), ..ComponentSettings::default() };
        builder.component(EVIL.parse().unwrap(), settings)
    },
    ..Setup::PLAIN
};

#[test]
fn a_quota_is_exact_under_contention() {
    alone_with(WITH_QUOTA, |arena| {
        let refused = AtomicUsize::new(0);
        arena.begin(0);
        at_once(arena, 16, |n, guest| {
            for round in 0..40 {
                let key = format!("{}/{}", n % 4, round % 9);
                let value = "v".repeat((n * 131 + round * 577) % 900);
                if let Err(text) = guest.set(&key, &value) {
                    assert_eq!(text, "quota-exceeded");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                let store = guest.open("draft2", "").unwrap();
                let pairs: Vec<[u64; 4]> = (0..3)
                    .map(|part| {
                        let [key, len] = guest.string(&format!("many/{n}/{part}"));
                        [key, len, key, len]
                    })
                    .collect();
                let [at, len] = guest.pairs(&pairs);
                if let Err(text) = guest.call("draft2.set-many", &[store, at, len]) {
                    assert!(text.starts_with("other: over the quota of 10000 bytes and 50 keys"));
                }
                if round % 5 == 4 {
                    let [key, len] = guest.string(&format!("{}/{}", n % 4, (round + 3) % 9));
                    guest.call("storage.delete", &[key, len]).unwrap();
                }
                guest.call("draft2.drop", &[store]).unwrap();
                let usage = arena.host.usage(&id(EVIL)).unwrap();
                assert!(usage.used_bytes <= QUOTA.max_bytes && usage.key_count <= QUOTA.max_keys);
            }
        });
        assert!(refused.load(Ordering::Relaxed) > 0, "no write was over the quota");
        let evil = id(EVIL);
        let prefix = evil.key_prefix();
        let (mut bytes, mut keys) = (0, 0);
        arena
            .host
            .store()
            .read_snapshot(prefix, None, &mut |key, found| {
                bytes += (key.len() - prefix.len() + found.len()) as u64;
                keys += 1;
                Ok(())
            })
            .unwrap();
        let usage = arena.host.usage(&id(EVIL)).unwrap();
        assert_eq!((usage.used_bytes, usage.key_count), (bytes, keys));
    });
}

#[test]
fn no_write_succeeds_after_a_revocation() {
    alone(|arena| {
        const OWNER: &str = "good/shared/1";
        let owner = id(OWNER);
        let grant = |access| Grant { owner: owner.clone(), prefix: "in/".to_owned(), access };
        arena.host.grant(&id(EVIL), grant(Access::ReadWrite));
        let chain = arena.host.component(&owner);
        chain.set("out/key", "theirs".into()).unwrap();
        let (writing, revoked) = (Barrier::new(9), AtomicBool::new(false));
        arena.begin(0);
        thread::scope(|scope| {
            let revoke = || {
                writing.wait();
                assert!(arena.host.revoke(&id(EVIL), &owner, "in/"));
                revoked.store(true, Ordering::SeqCst);
            };
            for n in 0..8 {
                let (mut guest, writing, revoked) = (arena.guest(), &writing, &revoked);
                scope.spawn(move || {
                    let store = guest.open("draft2", OWNER).unwrap();
                    let [key, len] = guest.string(&format!("in/{n}"));
                    guest.call("draft2.set", &[store, key, len, key, len]).unwrap();
                    writing.wait();
                    loop {
                        let was_revoked = revoked.load(Ordering::SeqCst);
                        let outcome = guest.call("draft2.set", &[store, key, len, key, len]);
                        match outcome {
                            Ok(_) => assert!(!was_revoked, "a write after the grant was gone"),
                            Err(text) => {
                                assert_eq!(text, "access-denied");
                                break;
                            }
                        }
                    }
                    for (name, arguments) in [
                        ("draft2.get", vec![store, key, len]),
                        ("draft2.exists", vec![store, key, len]),
                        ("draft2.delete", vec![store, key, len]),
                        ("draft2.list-keys", vec![store, 0, 0, 0]),
                        ("draft2.increment", vec![store, key, len, 1]),
                        ("draft2.cas", vec![store, key, len]),
                    ] {
                        assert_eq!(guest.call(name, &arguments).unwrap_err(), "access-denied");
                    }
                    assert_eq!(guest.open("draft2", OWNER).unwrap_err(), "access-denied");
                });
            }
            scope.spawn(revoke);
        });
        assert_eq!(chain.get("out/key").unwrap(), Some("theirs".into()));
        assert_eq!(chain.list_keys(Some("in/")).unwrap().len(), 8);
    });
}

/// Guests that pass long keys in UTF-16 at the same time.
#[test]
fn lowered_limits_bound_many_guests() {
    const SMALL_BATCHES: Setup = Setup {
        host: |builder| {
            let mut limits = Limits::default();
            limits.value_bytes = 64 << 10;
            limits.batch_bytes = 1 << 20;
            limits.batch_operations = 100;
            builder.limits(limits)
        },
        ..Setup::PLAIN
    };
    alone_with(SMALL_BATCHES, |arena| {
        const LARGE: u32 = 0x20_0000;
        // A mebibyte, a hundred operations, and a quarter more.
        const MAY_PASS: u64 = 1_326_720;
        let mut guests: Vec<Guest> = (0..16).map(|_| arena.guest_of(Kind::UTF16, EVIL)).collect();
        for guest in &mut guests {
            assert!(guest.grow(64));
            guest.fill(LARGE, 0x6b, 2 * MAY_PASS as u32);
        }
        let ready = Barrier::new(guests.len());
        arena.begin(0);
        thread::scope(|scope| {
            for guest in &mut guests {
                scope.spawn(|| {
                    ready.wait();
                    for _ in 0..3 {
                        let outcome = guest.call("storage.get", &[LARGE.into(), MAY_PASS / 2]);
                        assert!(outcome.unwrap_err().contains("a key has at most 1024 bytes"));
                    }
                    let reason = guest.trap("storage.get", &[LARGE.into(), MAY_PASS / 2 + 1]);
                    assert!(reason.contains("limit of 1326720 bytes"), "{reason}");
                });
            }
        });
    });
}

/// Many components make the most expensive calls until another one has completed a number
/// of calls.
#[test]
fn a_neighbour_of_many_attackers_makes_progress() {
    alone_with(SHARED_CACHE, |arena| {
        const LARGE: u32 = 0x20_0000;
        let ids = (0..8).map(|n| format!("evil/guest/{n}"));
        let mut guests: Vec<Guest> = ids.map(|id| arena.guest_of(Kind::PLAIN, &id)).collect();
        for guest in &mut guests {
            assert!(guest.grow(64));
            guest.fill(LARGE, b'v', (1 << 20) + 1);
        }
        arena.begin(0);
        let goal = arena.neighbours_calls() + 50;
        thread::scope(|scope| {
            for guest in &mut guests {
                let arena = &*arena;
                scope.spawn(move || {
                    let value = u64::from(LARGE);
                    for n in (0..8).cycle() {
                        if arena.neighbours_calls() >= goal {
                            break;
                        }
                        let [key, len] = guest.string(&format!("large/{n}"));
                        guest.call("storage.set", &[key, len, value, 1 << 20]).unwrap();
                        let outcome = guest.call("storage.set", &[key, len, value, (1 << 20) + 1]);
                        assert!(outcome.unwrap_err().contains("over the limit of 1048576"));
                        let outcome = guest.call("storage.get", &[value, 1 << 20]);
                        assert!(outcome.unwrap_err().contains("a key has at most 1024 bytes"));
                        assert_eq!(guest.open("draft2", VICTIM).unwrap_err(), "access-denied");
                    }
                });
            }
        });
    });
}

const SHARED_CACHE: Setup =
    Setup { host: |builder| builder.shared_cache(CacheConfig::default()), ..Setup::PLAIN };
