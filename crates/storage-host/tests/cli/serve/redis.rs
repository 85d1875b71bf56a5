//! `serve` over Redis: what it says of a failover.

use std::io::{BufRead as _, BufReader, Read as _};

use super::Server;
use super::client::ask;
use crate::server::{Engine, empty};
use crate::support::{TestDir, guest};

/// What every place that reports durability says.
const LOSS: &str = "a failover can lose acknowledged writes";

#[test]
fn serve_its_page_and_its_metrics_say_what_a_failover_can_lose() {
    let Some(store) = Engine::Redis.url("serve") else { return };
    let dir = TestDir::new();
    let wasm = guest("guestbook");
    let mut server = Server::of(dir.command(&[
        "--store",
        &store,
        "-q",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--id",
        "app/guestbook/1",
        &wasm,
    ]));
    let mut lines = server.stdout.by_ref().lines().map(Result::unwrap);
    let data = lines.find(|line| line.starts_with("data in ")).unwrap();
    assert_eq!(data, format!("data in {store}"));
    let loss = lines.next().unwrap();
    assert!(loss.starts_with(LOSS), "{loss}");

    let mut notes = BufReader::new(server.child.stderr.take().unwrap()).lines();
    let note = notes.next().unwrap().unwrap();
    let (address, token) =
        note.strip_prefix("admin page: open http://").unwrap().split_once("/login?token=").unwrap();
    let address = address.parse().unwrap();
    let bearer = format!("Authorization: Bearer {token}");
    let text = |path: &str| ask(address, "GET", path, &[&bearer], b"").text();
    assert!(text("/").contains(LOSS), "{}", text("/"));
    let metrics = text("/metrics");
    assert!(metrics.contains("failover_can_lose_writes=\"true\""), "{metrics}");

    assert_eq!(server.post("/api/entries", br#"{"name":"a","text":"b"}"#).status, 201);
    server.signal("TERM");
    server.ended(143);
    let usage = dir.printed(&["--store", &store, "usage", "app/guestbook/1"]);
    assert!(!usage.starts_with("0 keys"), "{usage}");
    empty(&store);
}
