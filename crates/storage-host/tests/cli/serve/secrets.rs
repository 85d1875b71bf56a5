//! What components store is not in the log, in metrics, or in what a host did.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use super::client::ask;
use super::{Server, component};
use crate::support::TestDir;

/// In every key, value, setting and token of the test, and nowhere else.
const SECRET: &str = "nEEdLe";

const ID: &str = "app/guestbook/1";

fn write_manifest(dir: &TestDir, config: &str) {
    let book = component(ID, "guestbook", "/one");
    let text = format!(
        "store = 'redb:data.redb'\n{book}quota = {{ bytes = 1_000 }}\nconfig = {{ token = \
         '{SECRET}{config}' }}\npresets = {{ '{SECRET}-preset' = '{SECRET}' }}\n"
    );
    dir.file("storage.toml", text.as_bytes());
}

#[test]
fn no_key_value_or_token_is_logged_or_counted() {
    let dir = TestDir::new();
    write_manifest(&dir, "1");
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut command = dir.command(&[&["--config", "storage.toml", "serve"], &listen[..]].concat());
    let token = format!("{SECRET}-0123456789abcdef");
    command.env("STORAGE_HOST_LOG", "trace").env("STORAGE_HOST_ADMIN_TOKEN", &token);
    let mut server = Server::of(command);
    let stderr = BufReader::new(server.child.stderr.take().unwrap());
    let (send, page) = mpsc::channel::<SocketAddr>();
    // Otherwise the server would wait for a reader.
    let log = thread::spawn(move || {
        let mut text = String::new();
        for line in stderr.lines().map(Result::unwrap) {
            if let Some(address) = line.strip_prefix("admin page: open http://") {
                send.send(address.split('/').next().unwrap().parse().unwrap()).unwrap();
            }
            text += &(line + "\n");
        }
        text
    });
    let page = page.recv().unwrap();

    let key = format!("{SECRET}-key");
    let run = |args: &[&str]| dir.run(&[&["--store", "redb:data.redb"], args].concat());
    assert_eq!(run(&["put", ID, &key, SECRET]).code, 0);
    assert_eq!(run(&["get", ID, &key]).stdout, SECRET);
    assert_eq!(run(&["get", ID, &format!("{key}-missing")]).code, 1);
    assert_eq!(run(&["put", ID, &format!("{key}\u{1}"), SECRET]).code, 2);
    assert_eq!(run(&["put", ID, &key, &SECRET.repeat(1_000)]).code, 1);
    assert_eq!(run(&["export", ID, "-o", "archive"]).code, 0);
    let entry = format!("{{\"name\":\"{SECRET}\",\"text\":\"{SECRET}\"}}");
    // Until the quota is used up.
    assert!((0..100).any(|_| server.post("/one/api/entries", entry.as_bytes()).status == 507));
    assert_eq!(server.get(&format!("/one/api/entries?after={SECRET}")).status, 400);
    // The second time from memory.
    for _ in 0..2 {
        assert_eq!(server.get("/one/api/entries").status, 200);
    }

    let mut said = String::new();
    let bearer = format!("Authorization: Bearer {token}");
    let show = |target: &str| ask(page, "GET", target, &[&bearer], b"");
    assert_eq!(show(&format!("/component?component={ID}&prefix={SECRET}")).status, 200);
    assert!(show(&format!("/value?component={ID}&key={key}")).text().contains(SECRET));
    assert_eq!(show(&format!("/login?token={SECRET}")).status, 401);
    for target in ["/", "/activity", "/metrics"] {
        said += &show(target).text();
    }
    for args in [&["--json", "top", "--interval", "1"][..], &["--json", "usage", ID], &["verify"]] {
        let done = run(args);
        assert_eq!(done.code, 0, "{}", done.stderr);
        said += &(done.stdout + &done.stderr);
    }
    write_manifest(&dir, "2");
    said += &run(&["reload"]).stdout;
    server.signal("TERM");
    server.ended(143);
    said += &log.join().unwrap();
    for part in [
        "storage_component_refused_total",
        "needs a restart: app/guestbook/1: config: ",
        "db.operation.name=\"get_many\"",
        "status=507",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(SECRET), "{said}");
}
