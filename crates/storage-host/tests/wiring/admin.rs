//! The admin socket and the page of an embedder's host.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use storage_host::admin::{self, AdminError, Client, ClientError, PageServer, Token};
use storage_host::{
    Budget, ComponentId, ComponentStorage, Mode, PageRequest, StorageError, StorageHost, StoreUrl,
};

fn id() -> ComponentId {
    "app/notes/home".parse().unwrap()
}

/// A host over a file store in a directory.
fn host_in(directory: &tempfile::TempDir) -> (StorageHost, StoreUrl) {
    let url = StoreUrl::from_path(directory.path().join("data"));
    let quota = Budget { max_bytes: 1 << 20, max_keys: 4_000 };
    let store = url.relaxed().open(Mode::ReadWrite).unwrap();
    (StorageHost::builder(store).quota(quota).build(), url)
}

#[test]
fn a_client_uses_the_store_of_a_host() {
    let directory = tempfile::tempdir().unwrap();
    let (host, url) = host_in(&directory);
    assert!(Client::connect(&url).unwrap().is_none(), "nothing is served");
    let server = admin::serve(&host, &url).unwrap();
    let mut client = Client::connect(&url).unwrap().unwrap();
    assert_eq!(client.store().pid, std::process::id());
    assert_eq!(client.store().url, url.to_string());

    let chain = host.component(&id());
    assert_eq!(chain.get("key").unwrap(), None);
    client.put(&id(), "key", "value".into()).unwrap();
    assert_eq!(chain.get("key").unwrap(), Some("value".into()));
    chain.set("key", "other".into()).unwrap();
    assert_eq!(client.get(&id(), "key").unwrap(), Some("other".into()));
    client.delete(&id(), "key").unwrap();
    assert_eq!((chain.get("key").unwrap(), client.get(&id(), "key").unwrap()), (None, None));

    // Pages and records across many chunks.
    let large = "x".repeat(200);
    for n in 0..2_500 {
        chain.set(&format!("{n:04}"), large.as_str().into()).unwrap();
    }
    let mut keys: Vec<String> = Vec::new();
    loop {
        let request =
            PageRequest { after: keys.last().map(String::as_str), ..PageRequest::new(9_999) };
        let page = client.list_page(&id(), request).unwrap();
        keys.extend(page.keys);
        if !page.more {
            break;
        }
    }
    assert_eq!(keys, chain.list_keys(None).unwrap());
    assert_eq!(client.list_components(None, 10).unwrap().keys, ["app/notes/home/"]);
    let usage = client.usage(&id()).unwrap();
    assert_eq!((usage.key_count, usage.quota_keys), (2_500, Some(4_000)));
    let mut records = 0;
    client
        .read_snapshot("", &mut |key, value| {
            assert_eq!(key, format!("app/notes/home/{records:04}"));
            assert_eq!(value.as_bytes(), large.as_bytes());
            records += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(records, 2_500);
    // A snapshot that is not read to its end.
    let ended = client.read_snapshot("", &mut |_, _| Err(StorageError::ReadOnly));
    assert!(matches!(ended, Err(ClientError::Storage(StorageError::ReadOnly))));
    assert_eq!(client.verify(&mut |problem| panic!("{problem}")).unwrap().usage.keys, 2_500);
    let top = client.top().unwrap();
    assert_eq!((top.components_in_use, &*top.components[0].id), (1, "app/notes/home"));

    let refused = client.put(&id(), "big", "x".repeat((1 << 20) + 1).as_str().into());
    let is_refused = matches!(
        refused,
        Err(ClientError::Storage(StorageError::LimitExceeded { limit: "bytes of a value", .. }))
            // The host may close the connection before it has read all of the value.
            | Err(ClientError::HostEnded)
    );
    assert!(is_refused, "{refused:?}");
    let mut client = Client::connect(&url).unwrap().unwrap();
    let refused = client.put(&id(), "big", "x".repeat(1 << 20).as_str().into());
    assert!(matches!(refused, Err(ClientError::Storage(StorageError::QuotaExceeded))));

    // A socket of a running process is not taken over.
    assert!(matches!(admin::serve(&host, &url), Err(AdminError::Socket { .. })));
    let path = server.path().to_owned();
    server.stop();
    assert!(!path.exists());
    assert!(Client::connect(&url).unwrap().is_none());
    drop(server);
    assert!(matches!(client.top(), Err(ClientError::HostEnded)));
    drop(admin::serve(&host, &url).unwrap());
    assert!(!path.exists());
}

#[test]
fn top_counts_as_the_metrics_do() {
    let directory = tempfile::tempdir().unwrap();
    let url = StoreUrl::from_path(directory.path().join("data"));
    let store = url.relaxed().open(Mode::ReadWrite).unwrap();
    let quota = Budget { max_bytes: 100, max_keys: 10 };
    let host = StorageHost::builder(store).quota(quota).metrics_components(1).build();
    let _server = admin::serve(&host, &url).unwrap();
    let mut client = Client::connect(&url).unwrap().unwrap();
    let chain = host.component(&id());
    chain.set("key", "value".into()).unwrap();
    for _ in 0..3 {
        chain.get("key").unwrap();
    }
    assert_eq!(chain.set("big", "x".repeat(200).as_str().into()), Err(StorageError::QuotaExceeded));
    // The first one has the only row.
    assert_eq!(client.top().unwrap().components[0].id, "app/notes/home");
    host.component(&"app/notes/work".parse().unwrap()).set("k", "v".into()).unwrap();

    client.put(&id(), "key2", "value".into()).unwrap();
    client.get(&id(), "key2").unwrap();
    let mut top = client.top().unwrap();
    for _ in 0..2 {
        let again = client.top().unwrap();
        assert_eq!((&again.components, &again.other), (&top.components, &top.other));
        top = again;
    }
    let [one] = &*top.components else { panic!("{top:?}") };
    assert_eq!((&*one.id, one.operations, one.refusals), ("app/notes/home", 5, 1));
    assert_eq!(one.bytes, 8 + 3 * 5);
    assert_eq!(one.memory_hits + one.memory_misses, 3);
    assert_eq!(one.timed_operations, 5 - one.memory_hits);
    let used = one.usage.unwrap();
    assert_eq!((used.used_bytes, used.quota_bytes, used.quota_keys), (17, Some(100), Some(10)));
    assert_eq!((&*top.other.id, top.other.operations, top.other.bytes), ("other", 1, 2));
}

#[test]
fn a_reload_is_the_embedders() {
    let directory = tempfile::tempdir().unwrap();
    let (host, url) = host_in(&directory);
    let reloaded = host.clone();
    let reload = move || {
        let mut settings = reloaded.settings();
        match settings.defaults.quota {
            None => Err("it has none".to_owned()),
            Some(_) => {
                settings.defaults.quota = None;
                Ok(reloaded.apply(settings))
            }
        }
    };
    let _server = admin::serve_with_reload(&host, &url, reload).unwrap();
    let mut client = Client::connect(&url).unwrap().unwrap();
    let applied = client.reload().unwrap();
    let changed: Vec<String> = applied.changed.iter().map(ToString::to_string).collect();
    assert_eq!(
        changed,
        [
            "all other components: quota.bytes: 1048576 -> none",
            "all other components: quota.keys: 4000 -> none"
        ]
    );
    let refused = client.reload();
    assert!(matches!(&refused, Err(ClientError::NotReloaded(why)) if why == "it has none"));
}

#[test]
fn a_host_that_shuts_down_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (host, url) = host_in(&directory);
    let _server = admin::serve(&host, &url).unwrap();
    let mut client = Client::connect(&url).unwrap().unwrap();
    host.shut_down(Duration::from_secs(600)).unwrap();
    let put = client.put(&id(), "key", "value".into());
    assert!(matches!(put, Err(ClientError::HostEnded)), "{put:?}");
}

#[test]
fn a_store_without_a_path_has_no_socket() {
    let url: StoreUrl = "memory:".parse().unwrap();
    let host = StorageHost::new(url.open(Mode::ReadWrite).unwrap());
    assert!(matches!(admin::serve(&host, &url), Err(AdminError::NoPath { scheme: "memory" })));
    assert!(Client::connect(&url).unwrap().is_none());
}

/// A page on a loopback address, with its token.
fn page_of(host: &StorageHost, url: &StoreUrl) -> (PageServer, Token) {
    let token = Token::random().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    (admin::serve_page(host, url, listener, token.clone()).unwrap(), token)
}

/// The answer to a request with these header lines.
fn ask(address: SocketAddr, line: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn only_those_with_the_token_see_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let (host, url) = host_in(&directory);
    host.component(&id()).set("key", "value".into()).unwrap();
    let (server, token) = page_of(&host, &url);
    let (at, port) = (server.address(), server.address().port());
    let local = format!("host: 127.0.0.1:{port}\r\n");
    let get = |target: &str, headers: &str| ask(at, &format!("GET {target}"), headers, "");

    for target in ["/", "/component?component=app/notes/home", "/activity", "/nothing"] {
        for headers in ["", "authorization: Bearer 0123456789abcdef\r\n"] {
            let refused = get(target, &format!("{local}{headers}"));
            assert!(refused.starts_with("HTTP/1.1 401 "), "{target}: {refused}");
            assert!(!refused.contains("app/notes"), "{refused}");
        }
    }
    let bearer = format!("authorization: Bearer {}\r\n", token.as_str());
    let shown = get("/", &format!("{local}{bearer}"));
    assert!(shown.starts_with("HTTP/1.1 200 ") && shown.contains("app/notes/home"), "{shown}");
    for header in [
        "content-security-policy: default-src 'none'; style-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'\r\n",
        "x-content-type-options: nosniff\r\n",
        "cache-control: no-store\r\n",
        "referrer-policy: no-referrer\r\n",
    ] {
        assert!(shown.contains(header), "{shown}");
    }
    // Under a name that others may have chosen.
    let rebound = get("/", &format!("host: evil.example:{port}\r\n{bearer}"));
    assert!(rebound.starts_with("HTTP/1.1 403 "), "{rebound}");
    assert!(!rebound.contains("app/notes"), "{rebound}");

    let log_in = |token: &str| ask(at, "POST /login", &local, &format!("token={token}"));
    let wrong = log_in("0123456789abcdef");
    assert!(wrong.starts_with("HTTP/1.1 401 ") && !wrong.contains("set-cookie"), "{wrong}");
    let right = log_in(token.as_str());
    assert!(right.starts_with("HTTP/1.1 303 ") && right.contains("location: /\r\n"), "{right}");
    let (_, cookie) = right.split_once("set-cookie: ").unwrap();
    let (cookie, attributes) = cookie.lines().next().unwrap().split_once(';').unwrap();
    assert_eq!(attributes.trim(), "Path=/; HttpOnly; SameSite=Strict");
    let shown = get("/", &format!("{local}cookie: {cookie}\r\n"));
    assert!(shown.starts_with("HTTP/1.1 200 "), "{shown}");
    // It changes nothing.
    for method in ["PUT", "DELETE", "POST"] {
        let refused = ask(at, &format!("{method} /"), &format!("{local}{bearer}"), "");
        assert!(refused.starts_with("HTTP/1.1 405 "), "{method}: {refused}");
    }
}

#[test]
fn stored_text_is_shown_and_is_no_markup() {
    let directory = tempfile::tempdir().unwrap();
    let (host, url) = host_in(&directory);
    let key = "\"><script>alert(1)</script>&key=x+y\u{202e}";
    let chain = host.component(&id());
    chain.set(key, "</pre><img src=x onerror=alert(2)>\u{202e}\u{1b}[2J\nline".into()).unwrap();
    chain.set("json", "{\"<b>\":[1,2]}".into()).unwrap();
    chain.set("bytes", (&[0xff_u8, 0x00, b'<'][..]).into()).unwrap();
    for n in 0..150 {
        chain.set(&format!("many/{n:03}"), "".into()).unwrap();
    }
    let (server, token) = page_of(&host, &url);
    let headers = format!("host: localhost\r\nauthorization: Bearer {}\r\n", token.as_str());
    let get = |target: &str| {
        let shown = ask(server.address(), &format!("GET {target}"), &headers, "");
        assert!(shown.starts_with("HTTP/1.1 200 "), "{target}: {shown}");
        for part in ["<script", "<img", "<b>", "\u{202e}", "\u{1b}", "\u{0}"] {
            assert!(!shown.contains(part), "{part:?}: {shown}");
        }
        shown
    };
    let href = |shown: &str, part: &str| {
        let links = shown.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let mut links = links.filter(|link| link.contains(part));
        links.next().map(|link| link.replace("&amp;", "&"))
    };
    // By the links of the pages alone.
    let components = get("/");
    let keys = get(&href(&components, "/component?").unwrap());
    assert!(keys.contains("153 of 4000 keys"), "{keys}");
    assert!(keys.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;key=x+y<i>\\u{202e}</i>"));
    let value = get(&href(&keys, "script").unwrap());
    assert!(value.contains("&lt;/pre&gt;&lt;img src=x onerror=alert(2)&gt;"), "{value}");
    assert!(value.contains("<i>\\u{202e}</i><i>\\u{1b}</i>[2J\nline"), "{value}");
    assert!(get(&href(&value, "as=hex").unwrap()).contains("3c 2f 70 72 65 3e"));
    let json = get(&href(&keys, "key=json").unwrap());
    assert!(json.contains("{\n  &quot;&lt;b&gt;&quot;: [\n    1,"), "{json}");
    let bytes = get(&href(&keys, "key=bytes").unwrap());
    assert!(bytes.contains("00000000  ff 00 3c "), "{bytes}");
    assert!(bytes.contains("..&lt;\n"), "{bytes}");
    // The rest of the keys, and those with a prefix.
    let more = get(&href(&keys, "after=").unwrap());
    assert!(more.contains("many/149") && href(&more, "after=").is_none(), "{more}");
    let some = get("/component?component=app/notes/home&prefix=many/14");
    assert!(some.contains("many/140") && !some.contains("many/139"), "{some}");
    // As a browser sends what is typed into the form.
    chain.set("a b+c", "".into()).unwrap();
    let typed = get("/component?component=app%2Fnotes%2Fhome&prefix=a+b%2B");
    assert!(typed.contains("<bdi>a b+c</bdi>") && typed.contains("value=\"a b+\""), "{typed}");
    assert!(get("/activity").contains("app/notes/home"));
    server.stop();
}
