//! Random writes of two hosts, with notices that are late, lost, repeated and out of order.

use std::time::Duration;

use rstest::rstest;
use storage_core::conformance::{Fault, Method};
use storage_host::{Commit, ComponentStorage, StorageError, StorageValue};

use crate::support::{Hosts, Kind, L, TestHost};

const WRITES: u64 = 10_000;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// What happens to notices.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Notices {
    Arrive,
    /// They are late, lost, repeated and reordered.
    Any,
    Never,
}

/// A value that a key had, from one time on.
struct Version {
    value: Option<StorageValue>,
    since: Duration,
}

/// The versions of a key, and what each host must know of them.
#[derive(Default)]
struct History {
    versions: Vec<Version>,
    /// The last version that a host wrote or read.
    known: [usize; 2],
}

impl History {
    /// The version that a read of a host at this time may return as this value.
    ///
    /// It was current within the last `L`, and is no older than what the host wrote or read
    /// before.
    fn explain(&self, host: usize, value: Option<&StorageValue>, now: Duration) -> Option<usize> {
        let was_current = |version: usize| {
            let end = self.versions.get(version + 1).map(|next| next.since);
            end.is_none_or(|end| end + L > now)
        };
        (self.known[host]..self.versions.len()).rev().find(|version| {
            self.versions[*version].value.as_ref() == value && was_current(*version)
        })
    }
}

struct Run {
    hosts: Hosts,
    random: fastrand::Rng,
    now: Duration,
    histories: [History; KEYS.len()],
    written: u64,
    /// The reads that returned an old value.
    stale: u64,
}

impl Run {
    fn host(&self, host: usize) -> &TestHost {
        [&self.hosts.one, &self.hosts.two][host]
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        if self.random.bool() {
            self.hosts.clock.advance(time);
        } else {
            self.now += Duration::from_nanos(2);
            self.hosts.clock.sleep(time);
        }
    }

    fn write(&mut self, host: usize) {
        self.written += 1;
        let key = self.random.usize(..KEYS.len());
        let value: Option<StorageValue> =
            (self.random.u8(..8) != 0).then(|| self.written.to_string().as_str().into());
        let fails = self.random.u8(..20) == 0;
        let takes_effect = !fails || self.random.bool();
        if fails {
            let fault = Fault::error(StorageError::IoError("on purpose".into()));
            let fault = fault.on(&Method::WRITES).nth(1);
            let fault = if takes_effect { fault.after() } else { fault };
            self.host(host).failing().inject(fault);
        }
        let commits = self.random.bool();
        let (chain, name) = (&self.host(host).chain, KEYS[key]);
        let result = match (&value, commits) {
            (Some(value), false) => chain.set(name, value.clone()),
            (Some(value), true) => chain.commit(Commit::new().set(name, value.clone())).map(drop),
            (None, false) => chain.delete(name),
            (None, true) => chain.commit(Commit::new().delete(name)).map(drop),
        };
        self.host(host).failing().heal();
        assert_eq!(result.is_err(), fails);
        let history = &mut self.histories[key];
        if takes_effect {
            history.versions.push(Version { value, since: self.now });
        }
        if !fails {
            history.known[host] = history.versions.len() - 1;
        }
    }

    fn read(&mut self, host: usize) {
        let key = self.random.usize(..KEYS.len());
        let way = self.random.u8(..4);
        let (chain, name) = (&self.host(host).chain, KEYS[key]);
        let found = match way {
            0 => chain.get(name).unwrap(),
            1 => chain.get_many(&[name]).unwrap().remove(0),
            2 => chain.get_versioned(name).unwrap().map(|found| found.value),
            _ => match chain.try_get("", name) {
                Some(found) => found,
                None => return,
            },
        };
        let history = &mut self.histories[key];
        let Some(version) = history.explain(host, found.as_ref(), self.now) else {
            panic!("after {} writes host {host} read {found:?} of {name}", self.written);
        };
        history.known[host] = version;
        self.stale += u64::from(version + 1 < history.versions.len());
    }

    fn handle_notice(&mut self, host: usize, notices: Notices) {
        let connection = [&self.hosts.one, &self.hosts.two][host].connection();
        let held = connection.held_notices();
        if held == 0 {
            return;
        }
        let position = self.random.usize(..held);
        match (notices, self.random.u8(..10)) {
            (Notices::Arrive, _) => {}
            (Notices::Never, _) | (Notices::Any, 0) => drop(connection.drop_notice(position)),
            (Notices::Any, 1) => drop(connection.repeat_notice(position)),
            (Notices::Any, 2) => drop(connection.deliver_notice(position)),
            (Notices::Any, _) => drop(connection.deliver_notice(0)),
        }
    }

    fn poll(&mut self, host: usize) {
        let fails = self.random.u8(..5) == 0;
        if fails {
            let fault = Fault::error(StorageError::IoError("on purpose".into()));
            self.host(host).failing().inject(fault.on(&[Method::ComponentRevisions]));
        }
        let _ = self.host(host).host.poll_changes();
        self.host(host).failing().heal();
    }
}

#[rstest]
fn no_read_is_older_than_the_maximum_staleness_or_an_own_write(
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
    #[values(Notices::Arrive, Notices::Any, Notices::Never)] notices: Notices,
) {
    let hosts = Hosts::new(kind);
    if notices != Notices::Arrive {
        hosts.one.connection().hold_notices();
        hosts.two.connection().hold_notices();
    }
    let histories = Default::default();
    let random = fastrand::Rng::with_seed(1);
    let mut run = Run { hosts, random, now: Duration::ZERO, histories, written: 0, stale: 0 };
    for history in &mut run.histories {
        history.versions.push(Version { value: None, since: Duration::ZERO });
    }
    while run.written < WRITES {
        let host = run.random.usize(..2);
        match run.random.u8(..100) {
            0..20 => run.write(host),
            20..60 => run.read(host),
            60..80 => run.handle_notice(host, notices),
            80..92 => run.poll(host),
            92..99 => {
                let part = run.random.u32(..20);
                run.advance(L * part / 50);
            }
            // Both hosts are paused now and then.
            _ if run.random.u8(..10) == 0 => run.advance(10 * L),
            _ => {}
        }
    }
    let stats = run.hosts.one.stats();
    println!("{kind:?}, {notices:?}: {} old values, {stats:?}", run.stale);
    // The run is worth something only if the caches answered.
    assert!(stats.hits > 1_000, "{stats:?}");
    assert_eq!(run.stale == 0, notices == Notices::Arrive);
}
