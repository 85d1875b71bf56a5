//! Clients that write without pause, and a server that is killed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::client::Client;
use super::{Server, component};
use crate::support::TestDir;

const CLIENTS: usize = 8;

/// The ids of all entries, and how many the guestbook has counted.
fn entries(server: &Server) -> (HashSet<String>, u64) {
    let mut ids = HashSet::new();
    let mut query = String::new();
    loop {
        let page = server.get(&format!("/api/entries?limit=100{query}")).text();
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        let of_page = page["entries"].as_array().unwrap().iter();
        ids.extend(of_page.map(|entry| entry["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => query = format!("&after={next}"),
            None => return (ids, page["count"].as_u64().unwrap()),
        }
    }
}

#[test]
fn every_acknowledged_entry_survives_a_kill() {
    let dir = TestDir::new();
    let manifest = component("app/guestbook/1", "guestbook", "/");
    let mut acknowledged = HashSet::new();
    for round in 1..=3 {
        let server = Server::of_manifest(&dir, &manifest);
        let (found, count) = entries(&server);
        assert!(found.is_superset(&acknowledged), "round {round}");
        // Of each client one more may have been written, and the count is never off.
        assert!(found.len() <= acknowledged.len() + (round - 1) * CLIENTS);
        assert_eq!(count, found.len() as u64);
        let written = AtomicUsize::new(0);
        let write = |number: usize| {
            let mut client = Client::new(server.address);
            let mut ids = Vec::new();
            loop {
                let entry = format!(r#"{{"name":"client {number}","text":"{}"}}"#, ids.len());
                client.ask("POST", "/api/entries", &[], entry.as_bytes());
                match client.answer() {
                    Some(answer) if answer.is_complete => {
                        assert_eq!(answer.status, 201, "{}", answer.text());
                        let entry: serde_json::Value =
                            serde_json::from_str(&answer.text()).unwrap();
                        ids.push(entry["id"].as_str().unwrap().to_owned());
                        written.fetch_add(1, Ordering::SeqCst);
                    }
                    _ => return ids,
                }
            }
        };
        thread::scope(|scope| {
            let write = &write;
            let clients: Vec<_> =
                (0..CLIENTS).map(|number| scope.spawn(move || write(number))).collect();
            while written.load(Ordering::SeqCst) < 40 * round {
                thread::yield_now();
            }
            server.signal("KILL");
            acknowledged.extend(clients.into_iter().flat_map(|client| client.join().unwrap()));
        });
        server.ended(-1);
        dir.printed(&["--store=redb:data.redb", "verify"]);
    }
}
