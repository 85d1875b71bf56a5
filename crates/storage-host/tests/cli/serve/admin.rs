//! `serve` while it runs: its settings, its metrics and its page for browsers.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;

use super::client::{Answer, ask};
use super::{Server, component};
use crate::support::TestDir;

const STORE: [&str; 2] = ["--store", "redb:data.redb"];

fn book(settings: &str) -> String {
    component("app/guestbook/1", "guestbook", "/one") + settings
}

fn write_manifest(dir: &TestDir, manifest: &str) {
    dir.file("storage.toml", format!("store = 'redb:data.redb'\n{manifest}").as_bytes());
}

/// Serves a manifest, with notes.
fn serve(dir: &TestDir, manifest: &str) -> Server {
    write_manifest(dir, manifest);
    Server::of(dir.command(&["--config", "storage.toml", "serve", "--listen", "127.0.0.1:0"]))
}

fn sign(server: &Server) -> u16 {
    server.post("/one/api/entries", br#"{"name":"a","text":"b"}"#).status
}

#[test]
fn reload_applies_a_quota_and_says_what_needs_a_restart() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &book("quota = { bytes = 20_000 }\n"));
    assert_eq!(sign(&server), 201);
    let reload = [&STORE[..], &["reload"]].concat();
    assert_eq!(dir.printed(&reload), "nothing changed\n");

    write_manifest(&dir, &book("quota = { bytes = 10 }\n"));
    let changed = "changed: app/guestbook/1: quota.bytes: 20000 -> 10\n";
    assert_eq!(dir.printed(&reload), changed);
    assert_eq!(sign(&server), 507);
    // An invalid manifest, which changes nothing.
    write_manifest(&dir, &book("quota = { bytes = 'lots' }\n"));
    let refused = dir.run(&reload);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.starts_with("error: storage.toml: line 6"), "{}", refused.stderr);
    assert!(refused.stderr.ends_with("; nothing was changed\n"), "{}", refused.stderr);
    assert_eq!(sign(&server), 507);

    let other = book("outgoing = ['example.com']\ntimeout = 5\n").replace("/one", "/uno");
    write_manifest(&dir, &format!("http.requests = 64\n{other}"));
    assert_eq!(
        dir.printed(&reload),
        "changed: app/guestbook/1: quota.bytes: 10 -> none\n\
         needs a restart: host: http.requests: 128 -> 64\n\
         needs a restart: app/guestbook/1: timeout: none -> 5 s\n\
         needs a restart: app/guestbook/1: routes: /one -> /uno\n\
         needs a restart: app/guestbook/1: outgoing: none -> example.com\n"
    );
    // The routes are the old ones.
    assert_eq!(sign(&server), 201);
    let again: serde_json::Value =
        serde_json::from_str(&dir.printed(&[&["--json"], &reload[..]].concat())).unwrap();
    assert_eq!(again["changed"], serde_json::json!([]));
    assert_eq!(
        again["needs_restart"][0],
        serde_json::json!({"component": null, "field": "http.requests", "old": "128", "new": "64"})
    );
    assert_eq!(server.stop(), "");
}

#[test]
fn a_hangup_adds_a_rate_limit() {
    let dir = TestDir::new();
    let server = serve(&dir, &book(""));
    assert_eq!(sign(&server), 201);
    write_manifest(&dir, &book("rate = { operations_per_second = 1, burst_seconds = 1 }\n"));
    server.signal("HUP");
    // A request makes more than one operation, so it fails once the limit is there.
    assert!((0..500).any(|_| sign(&server) != 201));
    write_manifest(&dir, "wrong = true");
    let reload = dir.run(&[&STORE[..], &["reload"]].concat());
    assert!(reload.stderr.contains("unknown field `wrong`"), "{}", reload.stderr);
    assert_ne!(sign(&server), 201);
    let said = server.stop();
    let notes = "reloaded storage.toml: changed: app/guestbook/1: rate.operations_per_second: none \
                 -> 1\n";
    assert!(said.contains(notes), "{said}");
}

/// A server with a page, its address, and its token.
fn with_page(dir: &TestDir, args: &[&str]) -> (Server, SocketAddr, String) {
    let wasm = crate::support::guest("guestbook");
    let page = ["--admin-listen", "127.0.0.1:0", "--id", "app/guestbook/1", &wasm];
    let serve = [&STORE[..], &["-q", "serve", "--listen", "127.0.0.1:0"], args, &page].concat();
    let mut server = Server::of(dir.command(&serve));
    let mut lines = BufReader::new(server.child.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let url = line.strip_prefix("admin page: open http://").unwrap();
    let (address, token) = url.split_once("/login?token=").unwrap();
    let found = (address.parse().unwrap(), token.to_owned());
    (server, found.0, found.1)
}

#[test]
fn the_page_shows_stored_text_as_text() {
    let dir = TestDir::new();
    let (server, address, token) = with_page(&dir, &[]);
    assert_eq!(token.len(), 64);
    let key = "<script>alert(1)</script>\u{202e}&\"'";
    let value = "</pre><img src=x onerror=alert(2)>\u{202e}\u{1b}[2J\u{7}";
    dir.printed(&[&STORE[..], &["put", "app/notes/home", key, value]].concat());

    let bearer = format!("Authorization: Bearer {token}");
    let get = |target: &str, headers: &[&str]| ask(address, "GET", target, headers, b"");
    let shown = |target: &str| {
        let page = get(target, &[&bearer]);
        assert_eq!(page.status, 200, "{target}");
        assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
        let text = page.text();
        for part in ["<script", "<img", "\u{202e}", "\u{1b}", "\u{7}"] {
            assert!(!text.contains(part), "{target}: {part:?}: {text}");
        }
        text
    };
    assert!(shown("/").contains("app/notes/home"));
    let keys = shown("/component?component=app/notes/home");
    assert!(keys.contains("&lt;script&gt;alert(1)&lt;/script&gt;<i>\\u{202e}</i>"), "{keys}");
    let target =
        "/value?component=app/notes/home&key=%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE%26%22'";
    let value = shown(target);
    assert!(value.contains("&lt;img src=x onerror=alert(2)&gt;<i>\\u{202e}</i>"), "{value}");
    assert!(value.contains("<i>\\u{1b}</i>[2J<i>\\u{7}</i>"), "{value}");
    // JSON in the order of what is stored, with its numbers.
    let json = r#"{"z":[12345678901234567890123],"a":1.10}"#;
    dir.printed(&[&STORE[..], &["put", "app/notes/home", "json", json]].concat());
    let value = shown("/value?component=app/notes/home&key=json");
    assert!(value.contains("  12345678901234567890123\n  ],\n  &quot;a&quot;: 1.10\n}"), "{value}");
    assert!(value.contains("as <a href=") && value.contains("<strong>json</strong>"), "{value}");
    assert!(shown("/component?component=app/notes/home&prefix=other").contains("No such keys."));
    shown("/activity");
    assert!(shown("/metrics").contains("storage_host_info{"));

    // Without the token, with a wrong one, and by another name.
    let wrong = format!("Authorization: Bearer {}", "0".repeat(64));
    for target in ["/", "/component?component=app/notes/home", target, "/activity", "/metrics"] {
        for headers in [&[][..], &[wrong.as_str()]] {
            let refused: Answer = get(target, headers);
            assert_eq!(refused.status, 401, "{target}");
            assert!(!refused.text().contains("app/"), "{target}");
        }
        let rebound = get(target, &[&bearer, "Host: evil.example"]);
        assert_eq!(rebound.status, 403, "{target}");
    }
    // The address that was shown.
    assert_eq!(get(&format!("/login?token={}", "0".repeat(64)), &[]).status, 401);
    let logged_in = get(&format!("/login?token={token}"), &[]);
    assert_eq!((logged_in.status, &*logged_in.headers["location"]), (303, "/"));
    let (cookie, _) = logged_in.headers["set-cookie"].split_once(';').unwrap();
    assert_eq!(get("/", &[&format!("Cookie: {cookie}")]).status, 200);
    server.signal("TERM");
    server.ended(143);
}

#[test]
fn metrics_count_the_calls_of_components_alone() {
    let dir = TestDir::new();
    let (server, address, token) = with_page(&dir, &[]);
    assert_eq!(server.post("/api/entries", br#"{"name":"a","text":"b"}"#).status, 201);
    let bearer = format!("Authorization: Bearer {token}");
    let metrics = || {
        let answer = ask(address, "GET", "/metrics", &[&bearer], b"");
        let content_type = &answer.headers["content-type"];
        assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"));
        let text = answer.text();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let own = "storage_component_operations_total{db_namespace=\"app/guestbook/1\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(own));
        line.unwrap().parse::<u64>().unwrap()
    };
    let calls = metrics();
    assert!(calls > 0);
    // What the operator does is not counted.
    for target in ["/", "/component?component=app/guestbook/1", "/activity", "/metrics"] {
        assert_eq!(ask(address, "GET", target, &[&bearer], b"").status, 200);
    }
    for command in [&["usage", "app/guestbook/1"][..], &["keys", "app/guestbook/1"], &["top"]] {
        dir.run(&[&STORE[..], command].concat());
    }
    assert_eq!(metrics(), calls);
    let top = dir.printed(&[&STORE[..], &["--json", "top", "--interval", "1"]].concat());
    let top: serde_json::Value = serde_json::from_str(&top).unwrap();
    let row = &top["components"][0];
    assert_eq!(row["id"], "app/guestbook/1");
    for number in ["operations_per_second", "bytes_per_second", "refusals_per_second"] {
        assert_eq!(row[number], 0.0, "{top}");
    }
    assert_eq!(top["other"]["id"], "other");
    server.signal("TERM");
    server.ended(143);
}

#[test]
fn the_token_can_be_chosen() {
    let dir = TestDir::new();
    let wasm = crate::support::guest("guestbook");
    let token = "0123456789abcdef-_";
    let file = dir.file("token", format!("{token}\n").as_bytes());
    for by_file in [false, true] {
        let option: &[&str] = if by_file { &["--admin-token", &file] } else { &[] };
        let page = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let component = ["--id", "app/guestbook/1", &wasm];
        let mut command = dir.command(&[&STORE[..], &page, option, &component].concat());
        if !by_file {
            command.env("STORAGE_HOST_ADMIN_TOKEN", token);
        }
        let mut server = Server::of(command);
        let lines = BufReader::new(server.child.stderr.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap).filter(|line| line.starts_with("admin page"));
        let line = lines.next().unwrap();
        assert!(line.ends_with("/ and enter the token") && !line.contains(token), "{line}");
        let address = line.split(['/', ' ']).find_map(|part| part.parse().ok()).unwrap();
        let bearer = format!("Authorization: Bearer {token}");
        assert_eq!(ask(address, "GET", "/", &[&bearer], b"").status, 200);
        server.signal("TERM");
        server.ended(143);
    }
}
