//! `--watch`: a changed component is used without a restart.

use std::fs;
use std::io::{BufRead, BufReader};

use super::Server;
use super::client::Client;
use crate::support::{TestDir, guest};

#[test]
fn a_changed_component_is_used_and_a_bad_one_is_reported() {
    let dir = TestDir::new();
    let file = dir.path().join("served.wasm");
    fs::copy(guest("responder"), &file).unwrap();
    let store = "--store=redb:data.redb";
    let mut command = dir.command(&["serve", store, "--listen", "127.0.0.1:0", "--watch"]);
    command.args(["--id", "a/b/c", "served.wasm"]);
    let mut server = Server::of(command);
    let mut said = BufReader::new(server.child.stderr.take().unwrap()).lines();
    let mut say = move |needle: &str| {
        said.by_ref().map(Result::unwrap).find(|line| line.contains(needle)).unwrap()
    };
    // In progress in the old component.
    let mut client = Client::new(server.address);
    client.ask("GET", &format!("/stream?{}", 64 << 20), &[], b"");
    let mut begun = client.head().unwrap();

    fs::copy(guest("guestbook"), &file).unwrap();
    say("a/b/c now uses the changed served.wasm");
    assert!(server.get("/").text().contains("<h1>Guestbook</h1>"));

    // Neither a component without the export nor bytes of another kind.
    fs::copy(guest("notes"), &file).unwrap();
    let line = say("stays in use");
    assert!(line.contains("serve needs a component that exports wasi:http"), "{line}");
    fs::write(&file, "no component").unwrap();
    let line = say("stays in use");
    assert!(line.contains("is not a WebAssembly component"), "{line}");
    assert!(server.get("/").text().contains("<h1>Guestbook</h1>"));

    client.body(&mut begun);
    assert!(begun.is_complete);
    // Replaced in one step, and with the data of before.
    fs::copy(guest("responder"), dir.path().join("new.wasm")).unwrap();
    fs::rename(dir.path().join("new.wasm"), &file).unwrap();
    say("now uses the changed");
    assert_eq!(server.get("/add?5").text(), "5");
    server.stop();
}
