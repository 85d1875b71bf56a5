//! Long lists, read and written a page at a time.

use serde_json::json;
use storage_host::{ComponentId, KeyPage, PageRequest};

use super::failure::Failure;
use super::output::Output;

/// Components or keys per page.
pub(super) const PAGE: usize = 1_000;

/// A list in the output: a line for each item, or an array in JSON.
pub(super) struct List<'a> {
    output: &'a mut Output,
    is_first: bool,
}

impl<'a> List<'a> {
    /// Begins a list. In JSON, `document` precedes the array.
    pub(super) fn begin(document: &str, output: &'a mut Output) -> Result<Self, Failure> {
        if output.json() {
            output.bytes(document.as_bytes())?;
            output.bytes(b"[")?;
        }
        Ok(Self { output, is_first: true })
    }

    pub(super) fn add(&mut self, item: &str) -> Result<(), Failure> {
        if !self.output.json() {
            return self.output.line(item);
        }
        if !std::mem::replace(&mut self.is_first, false) {
            self.output.bytes(b",")?;
        }
        self.output.part(&item)
    }

    /// Writes what was added so far. Fails if the output was closed.
    pub(super) fn show(&mut self) -> Result<(), Failure> {
        self.output.finish()
    }

    /// Ends the list. In JSON, `rest` follows the array.
    pub(super) fn end(self, rest: &str) -> Result<(), Failure> {
        if self.output.json() {
            self.output.bytes(b"]")?;
            self.output.line(rest)?;
        }
        self.output.finish()
    }
}

/// Which keys to list, and how many.
pub(super) struct Query<'a> {
    pub(super) id: &'a ComponentId,
    pub(super) prefix: &'a str,
    pub(super) after: Option<&'a str>,
    pub(super) limit: usize,
}

impl Query<'_> {
    /// Writes the keys, and returns the last one if more follow. Holds one page in memory.
    pub(super) fn write(
        &self,
        mut page_of: impl FnMut(PageRequest<'_>) -> Result<KeyPage, Failure>,
        output: &mut Output,
    ) -> Result<Option<String>, Failure> {
        let mut next_page = |after: Option<&str>, left: usize| {
            page_of(PageRequest { prefix: self.prefix, after, limit: PAGE.min(left) })
        };
        // Read before anything is written: an unreadable store must print only an error.
        let mut left = self.limit;
        let mut page = next_page(self.after, left)?;
        let mut list = List::begin(&format!("{{\"id\":\"{}\",\"keys\":", self.id), output)?;
        let next_after = loop {
            for key in &page.keys {
                list.add(key)?;
            }
            list.show()?;
            left = left.saturating_sub(page.keys.len());
            let Some(last) = page.keys.pop().filter(|_| page.more) else { break None };
            if left == 0 {
                break Some(last);
            }
            page = next_page(Some(&last), left)?;
        };
        list.end(&format!(
            ",\"more\":{},\"next_after\":{}}}",
            next_after.is_some(),
            json!(next_after)
        ))?;
        Ok(next_after)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{self, Write};
    use std::rc::Rc;

    use super::*;

    const KEYS: usize = 200_000;

    /// A page of the keys 000000 to 199999.
    fn numbers(request: PageRequest<'_>) -> KeyPage {
        let first = request.after.map_or(0, |after| after.parse::<usize>().unwrap() + 1);
        let end = KEYS.min(first + request.limit);
        KeyPage { keys: (first..end).map(|key| format!("{key:06}")).collect(), more: end < KEYS }
    }

    /// The pieces that were written.
    #[derive(Clone, Default)]
    struct Shown(Rc<RefCell<Vec<Vec<u8>>>>);

    impl Write for Shown {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().push(bytes.to_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output that was closed.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn list(
        limit: usize,
        pages: &mut usize,
        output: &mut Output,
    ) -> Result<Option<String>, Failure> {
        let id = "a/b/c".parse().unwrap();
        let query = Query { id: &id, prefix: "", after: None, limit };
        let page_of = |request: PageRequest<'_>| {
            assert!(request.limit <= PAGE, "{request:?}");
            *pages += 1;
            Ok(numbers(request))
        };
        query.write(page_of, output)
    }

    #[test]
    fn each_page_is_written_before_the_next_is_read() {
        for json in [false, true] {
            let shown = Shown::default();
            let mut output = Output::to(Box::new(shown.clone()), json);
            let id = "a/b/c".parse().unwrap();
            let query = Query { id: &id, prefix: "", after: None, limit: usize::MAX };
            let page_of = |request: PageRequest<'_>| {
                let written = shown.0.borrow().concat();
                if let Some(after) = request.after {
                    assert!(String::from_utf8(written).unwrap().contains(after), "{request:?}");
                }
                Ok(numbers(request))
            };
            assert_eq!(query.write(page_of, &mut output).unwrap(), None);
            let whole = String::from_utf8(shown.0.borrow().concat()).unwrap();
            if json {
                let document: serde_json::Value = serde_json::from_str(&whole).unwrap();
                assert_eq!(document["keys"].as_array().unwrap().len(), KEYS);
                assert_eq!(document["more"], false);
            } else {
                assert_eq!(whole.lines().count(), KEYS);
            }
            // Small pieces show that only a page was held.
            assert!(shown.0.borrow().iter().all(|piece| piece.len() < 20_000));
        }
    }

    #[test]
    fn a_closed_output_ends_the_listing() {
        for json in [false, true] {
            let (mut pages, mut output) = (0, Output::to(Box::new(Closed), json));
            let ended = list(usize::MAX, &mut pages, &mut output);
            assert!(matches!(ended, Err(Failure::OutputClosed)));
            assert_eq!(pages, 1);
        }
    }

    #[test]
    fn only_the_pages_within_the_limit_are_read() {
        let (mut pages, shown) = (0, Shown::default());
        let mut output = Output::to(Box::new(shown.clone()), true);
        let next_after = list(2_500, &mut pages, &mut output).unwrap();
        assert_eq!((next_after.as_deref(), pages), (Some("002499"), 3));
        let whole = String::from_utf8(shown.0.borrow().concat()).unwrap();
        assert!(whole.ends_with("\"002499\"],\"more\":true,\"next_after\":\"002499\"}\n"));
    }
}
