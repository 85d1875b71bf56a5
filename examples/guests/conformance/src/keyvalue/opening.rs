//! `open`: which names it accepts.

use super::{Bucket, Error};
use crate::key;
use crate::table::{Outcome, Table};

/// A host chooses which names it has. It refuses the others with `no-such-store`
/// or `access-denied`.
pub(super) fn opening<B: Bucket>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let key = key("opening");
    B::open(store)?.set(&key, b"here")?;
    let mut opens = |what: &str, identifier: &str| {
        let came = match B::open(identifier) {
            Ok(bucket) => match bucket.get(&key) {
                Ok(Some(value)) if value == b"here" => {
                    Outcome::new("open: the store of these cases")
                }
                Ok(_) => Outcome::new("open: another store"),
                Err(error) => Outcome::new("open: a store that cannot be read").with_text(&error),
            },
            Err(Error::Other(text)) => Outcome::new("other").with_text(&Error::Other(text)),
            Err(error) => Outcome::refused(&error),
        };
        table.leaves_between("open", what, &["open", "refused"], came);
    };
    opens("\"\"", "");
    opens("\"default\"", "default");
    opens("\"Default\"", "Default");
    opens("\"no-store-has-this-name\"", "no-store-has-this-name");
    opens("\" \"", " ");
    opens("\"a/b\", too short for a component's id", "a/b");
    opens("\"a/b/c/d\", too long for one", "a/b/c/d");
    opens("\"a//c\", with an empty part", "a//c");
    opens("\"../../../etc\", with parts that would climb", "../../../etc");
    opens("\"a/b/*\", with a part that could match", "a/b/*");
    opens("a name with a control character", "a/b/c\n");
    opens("a name of 100,000 bytes", &"n".repeat(100_000));
    opens("\"conformance/neighbour/1\", another component's id", "conformance/neighbour/1");
    opens("\"conformance/unused/1\", an id without a component", "conformance/unused/1");
    Ok(())
}
