//! Many guests at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use storage_host::{
    Access, Budget, CacheConfig, ComponentSettings, ComponentStorage, Grant, Limits, Store,
};

use crate::arena::{Arena, EVIL, Setup, alone, alone_with, id};
use crate::component::Kind;
use crate::guest::Guest;

/// Runs something in many instances of the attacker at once, each on its own thread.
fn at_once(arena: &Arena, count: usize, run: impl Fn(usize, &mut Guest) + Sync) {
    let ready = Barrier::new(count);
    thread::scope(|scope| {
        for n in 0..count {
            let (ready, run) = (&ready, &run);
            let mut guest = arena.guest();
            // Small stacks: it is the host's memory that is measured.
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

/// What an instance of the attacking component touches of its memory, rounded up,
/// and what the thread costs that a test gives it: its stack, and what the kernel
/// keeps for it.
const INSTANCE_BYTES: u64 = 20 << 10;
const THREAD_BYTES: u64 = 64 << 10;

#[test]
fn a_thousand_instances_that_write_at_once() {
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
        // One of the values, whole.
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
fn many_instances_at_the_edge_of_a_quota() {
    alone_with(WITH_QUOTA, |arena| {
        let refused = AtomicUsize::new(0);
        arena.begin(0);
        at_once(arena, 16, |n, guest| {
            for round in 0..40 {
                // Grows, shrinks, comes and goes.
                let key = format!("{}/{}", n % 4, round % 9);
                let value = "v".repeat((n * 131 + round * 577) % 900);
                match guest.set(&key, &value) {
                    Ok(()) => {}
                    Err(text) => {
                        assert_eq!(text, "quota-exceeded");
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
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
        assert!(refused.load(Ordering::Relaxed) > 0, "no write reached the quota");
        // What was counted is what is there.
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
fn writes_while_a_grant_is_taken_back() {
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
                        let told = guest.call("draft2.set", &[store, key, len, key, len]);
                        match told {
                            Ok(_) => assert!(!was_revoked, "a write after the grant was gone"),
                            Err(text) => {
                                assert_eq!(text, "access-denied");
                                break;
                            }
                        }
                    }
                    // Nor does any other call work, nor a new handle.
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

/// Long keys that have to be decoded, on many threads at once: a host that runs so
/// many lowers what one call may pass.
#[test]
fn many_long_keys_at_once() {
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
                        let told = guest.call("storage.get", &[LARGE.into(), MAY_PASS / 2]);
                        assert!(told.unwrap_err().contains("a key has at most 1024 bytes"));
                    }
                    let reason = guest.trap("storage.get", &[LARGE.into(), MAY_PASS / 2 + 1]);
                    assert!(reason.contains("limit of 1326720 bytes"), "{reason}");
                });
            }
        });
    });
}

/// Many instances make the most expensive calls until another component has completed a
/// number of calls.
#[test]
fn a_neighbour_among_many_who_attack() {
    alone_with(SHARED_CACHE, |arena| {
        const LARGE: u32 = 0x20_0000;
        let mut guests: Vec<Guest> = (0..8).map(|_| arena.guest()).collect();
        for guest in &mut guests {
            assert!(guest.grow(64));
            guest.fill(LARGE, b'v', (1 << 20) + 1);
        }
        arena.begin(0);
        let goal = arena.neighbours_calls() + 50;
        thread::scope(|scope| {
            for (n, guest) in guests.iter_mut().enumerate() {
                let arena = &*arena;
                scope.spawn(move || {
                    let [key, len] = guest.string(&format!("large/{n}"));
                    let value = u64::from(LARGE);
                    while arena.neighbours_calls() < goal {
                        guest.call("storage.set", &[key, len, value, 1 << 20]).unwrap();
                        let told = guest.call("storage.set", &[key, len, value, (1 << 20) + 1]);
                        assert!(told.unwrap_err().contains("over the limit of 1048576"));
                        let told = guest.call("storage.get", &[value, 1 << 20]);
                        assert!(told.unwrap_err().contains("a key has at most 1024 bytes"));
                        assert_eq!(
                            guest.open("draft2", "good/vault/1").unwrap_err(),
                            "access-denied"
                        );
                        guest.call("storage.delete", &[key, len]).unwrap();
                    }
                });
            }
        });
    });
}

/// A host for many components, whose caches take no more together than one.
const SHARED_CACHE: Setup =
    Setup { host: |builder| builder.shared_cache(CacheConfig::default()), ..Setup::PLAIN };

/// Each of many components is at what it may take, at the same time.
#[test]
fn many_components_with_large_values() {
    alone_with(SHARED_CACHE, |arena| {
        let ids: Vec<String> = (0..8).map(|n| format!("evil/guest/{n}")).collect();
        let mut guests: Vec<Guest> = ids.iter().map(|id| arena.guest_of(Kind::PLAIN, id)).collect();
        for guest in &mut guests {
            assert!(guest.grow(64));
            guest.fill(0x10_0000, b'v', 1 << 20);
        }
        arena.begin(0);
        thread::scope(|scope| {
            for guest in &mut guests {
                scope.spawn(|| {
                    for n in 0..8 {
                        let [key, len] = guest.string(&n.to_string());
                        guest.call("storage.set", &[key, len, 0x10_0000, 1 << 20]).unwrap();
                    }
                });
            }
        });
    });
}
