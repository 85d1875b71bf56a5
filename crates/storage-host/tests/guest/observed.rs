//! Rate limits, metrics and traces of guests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use storage_core::conformance::{ReferenceStorage, SharedReference};
use storage_host::{
    Budget, CALL_TARGET, ComponentSettings, Limits, ManualClock, RateLimit, StorageHost,
};
use tracing::Level;

use crate::log::Log;
use crate::raw::{DATA, IO_ERROR, OK, OK_SOME, RawGuest};

const ID: &str = "app/notes/home";

fn rate(operations: u64) -> RateLimit {
    RateLimit::new(Some(operations), None, Duration::from_secs(1)).unwrap()
}

#[test]
fn a_guest_over_its_rate_gets_the_error_of_a_limit_and_when_to_try_again() {
    let clock = ManualClock::new();
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new()))
        .rate(rate(4))
        .clock(clock.clock())
        .build();
    let mut guest = RawGuest::new(&host, ID);
    guest.fill(DATA, b'k', 4);
    let set = (DATA, 4_u32, DATA, 4_u32);
    for _ in 0..4 {
        assert_eq!(guest.call::<_, u32>("set", set), OK);
    }
    // Another instance of the component, and another component.
    for (id, code) in [(ID, IO_ERROR), ("app/notes/work", 0x000)] {
        let mut other = RawGuest::new(&host, id);
        other.fill(DATA, b'k', 4);
        assert_eq!(other.call::<_, u32>("get", (DATA, 4_u32)), code, "{id}");
    }
    assert_eq!(guest.call::<_, u32>("get", (DATA, 4_u32)), IO_ERROR);
    let text = "5 operations per second are over the limit of 4; try again in 250 ms";
    assert_eq!(guest.text(), text);
    clock.advance(Duration::from_millis(250));
    assert_eq!(guest.call::<_, u32>("get", (DATA, 4_u32)), OK_SOME);
}

#[test]
fn guests_see_settings_that_change_while_they_run() {
    let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
    let settings = |on: bool| {
        let mut settings = host.settings();
        settings.defaults = ComponentSettings::default();
        if on {
            settings.defaults.quota = Some(Budget { max_bytes: 2, max_keys: 1 });
            let mut limits = Limits::default();
            limits.value_bytes = 1;
            settings.defaults.limits = limits;
        }
        settings
    };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let guests: Vec<_> = (0..2)
            .map(|_| {
                let (host, ended) = (&host, &ended);
                scope.spawn(move || {
                    let mut guest = RawGuest::new(host, ID);
                    guest.fill(DATA, b'k', 4);
                    let mut seen = [false; 3];
                    while !ended.load(Ordering::Relaxed) || seen.contains(&false) {
                        // A value of 4 bytes is over the limit, and one of 1 over the quota.
                        for len in [4_u32, 1] {
                            let answer = guest.call::<_, u32>("set", (DATA, 4_u32, DATA, len));
                            let text = if answer == OK { String::new() } else { guest.text() };
                            match (answer, len) {
                                (OK, _) => seen[0] = true,
                                (IO_ERROR, 4) => {
                                    let over = "4 bytes of a value are over the limit of 1";
                                    assert_eq!(text, over);
                                    seen[1] = true;
                                }
                                (0x201, _) => seen[2] = true,
                                other => panic!("{other:?}: {text}"),
                            }
                        }
                        let delete: u32 = guest.call("delete", (DATA, 4_u32));
                        assert_eq!(delete, OK);
                    }
                })
            })
            .collect();
        for round in 0..400 {
            host.apply(settings(round % 2 == 0));
            thread::sleep(Duration::from_millis(1));
        }
        ended.store(true, Ordering::Relaxed);
        // Until each guest has seen all of it.
        let mut on = false;
        while guests.iter().any(|guest| !guest.is_finished()) {
            on = !on;
            host.apply(settings(on));
            thread::sleep(Duration::from_millis(5));
        }
    });
}

/// What a subscriber that wants everything gets, spans too.
fn traced(action: impl FnOnce()) -> String {
    use tracing_subscriber::fmt::format::FmtSpan;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || -> Box<dyn io::Write> { Box::new(writer.clone()) })
        .with_max_level(Level::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .finish();
    Log::alone(|| tracing::subscriber::with_default(subscriber, action));
    log.text()
}

#[test]
fn calls_are_spans_with_the_attributes_of_databases() {
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new()))
        .quota(Budget { max_bytes: 8, max_keys: 1 })
        .build();
    let mut guest = RawGuest::new(&host, ID);
    guest.fill(DATA, b'k', 5);
    let log = traced(|| {
        assert_eq!(guest.call::<_, u32>("set", (DATA, 4_u32, DATA, 4_u32)), OK);
        assert_eq!(guest.call::<_, u32>("set", (DATA, 4_u32, DATA, 5_u32)), 0x201);
        assert_eq!(guest.call::<_, u32>("get", (DATA, 4_u32)), OK_SOME); // from below
        assert_eq!(guest.call::<_, u32>("get", (DATA, 4_u32)), OK_SOME); // from memory
    });
    let of = |parts: &[&str]| {
        let lines = log.lines().filter(|line| line.contains(CALL_TARGET));
        lines.filter(|line| parts.iter().all(|part| line.contains(part))).count()
    };
    let attributes = ["db.system.name=\"reference\"", "db.namespace=\"app/notes/home\""];
    assert_eq!(of(&attributes), 4, "{log}");
    assert_eq!(of(&["DEBUG", "db.operation.name=\"set\""]), 2, "{log}");
    assert_eq!(of(&["DEBUG", "error.type=\"quota\""]), 1, "{log}");
    assert_eq!(of(&["TRACE", "db.operation.name=\"get\"", "answered from memory"]), 1, "{log}");
}

#[test]
fn no_key_value_or_password_is_traced_or_counted() {
    let clock = ManualClock::new();
    let store = SharedReference::new();
    let host =
        StorageHost::builder(Arc::new(store.connect())).rate(rate(32)).clock(clock.clock()).build();
    let log = traced(|| {
        let mut guest = RawGuest::new(&host, ID);
        // A key and a value that occur nowhere else.
        guest.fill(DATA, b'Q', 2_000);
        for key_len in [4_u32, 100, 1_025] {
            for _ in 0..4 {
                guest.call::<_, u32>("set", (DATA, key_len, DATA, 9_u32));
                guest.call::<_, u32>("get", (DATA, key_len));
                guest.call::<_, u32>("list", (DATA, key_len));
            }
            guest.call::<_, u32>("delete", (DATA, key_len));
        }
    });
    assert!(log.contains("error.type=\"rate\"") && log.contains("error.type=\"invalid\""), "{log}");
    #[cfg(feature = "metrics")]
    let log = format!("{log}\n{:?}\n{}", host.metrics(), host.metrics().to_prometheus());
    assert!(!log.contains("QQQQ"), "{log}");
}
