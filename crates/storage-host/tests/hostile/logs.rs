//! What a guest writes to the log of the host.

use std::io;
use std::sync::{Arc, Mutex};

use crate::arena::{EVIL, alone};
use crate::component::{DATA, Kind};
use crate::guest::{Call, Guest};
use crate::sizes::{LARGE, MAY_PASS, large};

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn of(action: impl FnOnce()) -> String {
        let log = Self::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, action);
        let text = log.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }
}

const INFO: u64 = 2;

fn log(guest: &mut Guest, [context, context_len]: [u64; 2], [text, len]: [u64; 2]) {
    guest.call("logging.log", &[INFO, context, context_len, text, len]).unwrap();
}

#[test]
fn long_logged_texts_are_truncated() {
    alone(|arena| {
        let mut guest = large(arena, Kind::UTF16, MAY_PASS);
        guest.fill(LARGE, 0x6b, MAY_PASS as u32);
        let nothing = [DATA.into(), 0];
        arena.begin(0);
        let logged = Log::of(|| {
            let all = (MAY_PASS - 128) / 2;
            log(&mut guest, nothing, [LARGE.into(), all]);
            log(&mut guest, [LARGE.into(), all], nothing);
            log(&mut guest, [LARGE.into(), all / 2], [LARGE.into(), all / 2]);
        });
        assert_eq!(logged.lines().count(), 3, "{logged}");
        for line in logged.lines() {
            assert!(line.len() < 4_096 + 256 + 512, "{} bytes", line.len());
            assert!(line.contains("... (truncated from "), "{line}");
        }
    });
}

#[test]
fn a_flood_of_lines_is_suppressed() {
    alone(|arena| {
        const LINES: usize = 20_000;
        let mut guest = large(arena, Kind::PLAIN, 1 << 16);
        guest.fill(LARGE, 0x1b, 1 << 16);
        arena.begin(0);
        let logged = Log::of(|| {
            for _ in 0..LINES {
                log(&mut guest, [LARGE.into(), 1 << 16], [LARGE.into(), 1 << 16]);
            }
        });
        let lines = logged.lines().count();
        assert!(lines > 0 && lines < LINES, "{lines}");
        assert!(!logged.contains('\u{1b}'));
    });
}

#[test]
fn invalid_logged_texts_end_the_guest() {
    alone(|arena| {
        let mut calls = Vec::new();
        for (kind, bytes) in [(Kind::PLAIN, &b"k\xc3"[..]), (Kind::UTF16, b"\0\xdck\0")] {
            for is_context in [false, true] {
                let mut guest = arena.guest_of(kind, EVIL);
                let (at, valid) = (guest.put(bytes), guest.put(b"x\0"));
                let texts = match is_context {
                    true => [at, 2, valid, 1],
                    false => [valid, 1, at, 2],
                };
                let arguments = [&[INFO], &texts[..]].concat();
                calls.push(Call { guest, name: "logging.log", arguments });
            }
        }
        // An unknown level, and texts outside of memory.
        for arguments in
            [[6, 0, 0, 0, 0], [INFO, 0xffff_0000, 4, 0, 0], [INFO, 0, 0, 0xffff_ffff, 9]]
        {
            let arguments = arguments.to_vec();
            calls.push(Call { guest: arena.guest(), name: "logging.log", arguments });
        }
        arena.begin(0);
        Log::of(|| {
            Call::expect_traps(
                &mut calls,
                &["utf-8", "surrogate", "out of bounds", "discriminant", "variant"],
            );
        });
    });
}
