//! The guestbook of the examples.

use super::client::ask;
use super::{Server, component};
use crate::support::TestDir;

fn two_books() -> String {
    component("app/guestbook/1", "guestbook", "/one")
        + "quota = { bytes = 20_000 }\n"
        + &component("app/guestbook/2", "guestbook", "/two")
}

#[test]
fn two_guestbooks_keep_their_entries_and_cannot_see_each_others() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &two_books());
    let signed = server.post("/one/api/entries", br#"{"name":"Ada","text":"first"}"#);
    assert_eq!(signed.status, 201);
    assert_eq!(signed.text(), r#"{"id":"fffffffffffffffe","name":"Ada","text":"first"}"#);
    server.post("/two/api/entries", br#"{"name":"Bob","text":"other"}"#);
    let form = b"name=Ada+L%C3%B6we&text=%3Cscript%3Ealert(1)%3C%2Fscript%3E%0D%0A%26amp;";
    let form = ask(server.address, "POST", "/one/entries", &[], form);
    assert_eq!((form.status, form.headers["location"].as_str()), (303, "/one/"));
    assert_eq!(server.stop(), "");

    let server = Server::of_manifest(&dir, &two_books());
    let list = server.get("/one/api/entries");
    assert_eq!(list.headers["content-type"], "application/json");
    let script = r#"<script>alert(1)</script>\n&amp;"#;
    assert_eq!(
        list.text(),
        format!(
            "{{\"entries\":[{{\"id\":\"fffffffffffffffd\",\"name\":\"Ada L\u{f6}we\",\"text\":\"{script}\"}},\
             {{\"id\":\"fffffffffffffffe\",\"name\":\"Ada\",\"text\":\"first\"}}],\"count\":2,\"next\":null}}"
        )
    );
    let other = server.get("/two/api/entries").text();
    assert!(other.contains("Bob") && !other.contains("Ada"), "{other}");
    let page = server.get("/one");
    let html = page.text();
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;\n&amp;amp;"), "{html}");
    assert!(!html.contains("<script"), "{html}");
    assert!(html.contains("action=\"/one/entries\"") && html.contains("2 entries"), "{html}");
    assert_eq!(server.stop(), "");
}

#[test]
fn entries_come_in_pages_that_new_entries_do_not_shift() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &two_books());
    let sign = |number: u32| {
        let entry = format!("{{\"name\":\"n\",\"text\":\"{number}\"}}");
        assert_eq!(server.post("/two/api/entries", entry.as_bytes()).status, 201);
    };
    (1..=5).for_each(sign);
    let page = |query: &str| -> (Vec<u32>, Option<String>) {
        let page = server.get(&format!("/two/api/entries?{query}")).text();
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        let texts = page["entries"].as_array().unwrap().iter();
        let texts = texts.map(|entry| entry["text"].as_str().unwrap().parse().unwrap()).collect();
        (texts, page["next"].as_str().map(str::to_owned))
    };
    let (first, next) = page("limit=2");
    assert_eq!(first, [5, 4]);
    sign(6);
    let (second, next) = page(&format!("limit=2&after={}", next.unwrap()));
    assert_eq!(second, [3, 2]);
    assert_eq!(page(&format!("limit=2&after={}", next.unwrap())), (vec![1], None));
    server.stop();
}

#[test]
fn bad_requests_and_a_full_book_are_refused() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &two_books());
    let api = "/one/api/entries";
    for body in
        ["", "{}", "[]", r#"{"name":"a","text":"b","more":1}"#, r#"{"name":" ","text":"b"}"#]
    {
        assert_eq!(server.post(api, body.as_bytes()).status, 400, "{body}");
    }
    for query in ["after=x", "after=../../../../../..", "limit=0", "limit=x", "limit=-1"] {
        assert_eq!(server.get(&format!("{api}?{query}")).status, 400, "{query}");
    }
    assert_eq!(ask(server.address, "DELETE", api, &[], b"").status, 405);
    assert_eq!(server.get("/one/entries").status, 405);
    assert_eq!(server.post(api, &[b' '; 40_000]).status, 413);
    let entry = format!("{{\"name\":\"a\",\"text\":\"{}\"}}", "x".repeat(1_900));
    let statuses: Vec<u16> = (0..12).map(|_| server.post(api, entry.as_bytes()).status).collect();
    let signed = statuses.iter().filter(|status| **status == 201).count();
    assert_eq!(&statuses[signed..], vec![507; 12 - signed]);
    // The count is exact also after the refusals.
    assert!(server.get(api).text().contains(&format!("\"count\":{signed},")));
    assert_eq!(server.stop(), "");
}

#[test]
fn entries_of_many_clients_are_all_counted() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &two_books());
    let address = server.address;
    let sign = move || {
        for _ in 0..10 {
            let body = br#"{"name":"a","text":"b"}"#;
            assert_eq!(ask(address, "POST", "/two/api/entries", &[], body).status, 201);
        }
    };
    let clients: Vec<_> = (0..8).map(|_| std::thread::spawn(sign)).collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let page = server.get("/two/api/entries?limit=100").text();
    assert!(page.contains("\"count\":80,") && page.matches("\"id\"").count() == 80, "{page}");
    assert_eq!(server.stop(), "");
}
