//! Listings and counts: ranges of keys in the order of their bytes.

use futures_util::TryStreamExt;
use storage_core::{KeyPage, PageRequest, StorageError, Usage, split_full_key};

use super::connection::Session;
use super::error::{Failure, unexpected};
use super::parameters::Bytes;
use super::pool::Pool;

/// The largest page, so that each takes a short time and little memory.
const MAX_PAGE: usize = 10_000;

/// After every key, because no text has this byte.
const AFTER_ALL: &[u8] = &[0xff];

/// A range of full keys, without its end, as the statements take it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Range<'a> {
    /// Keys of one component: its prefix, the first user key and the end.
    Component { prefix: &'a str, from: Vec<u8>, to: Vec<u8> },
    /// Keys of several components, and unscoped keys: where components start, the first user
    /// key in that component, the first full key, and the end.
    All { prefix: Vec<u8>, user_key: Vec<u8>, from: Vec<u8>, to: Vec<u8> },
}

impl<'a> Range<'a> {
    /// The keys that begin with `prefix` and follow `after`.
    pub(super) fn new(prefix: &'a str, after: Option<&str>) -> Self {
        // The next text after a key is the key with a zero.
        let after = after.filter(|after| *after >= prefix);
        let from = match after {
            Some(after) => [after.as_bytes(), &[0]].concat(),
            None => prefix.as_bytes().to_vec(),
        };
        let to = end_of_prefix(prefix);
        let (component, _) = split_full_key(prefix);
        if !component.is_empty() {
            // `after` may be beyond the component; then the range is empty.
            let user_key =
                |key: Vec<u8>| key.strip_prefix(component.as_bytes()).map(<[u8]>::to_vec);
            return Self::Component {
                prefix: component,
                from: user_key(from).unwrap_or_else(|| AFTER_ALL.to_vec()),
                to: user_key(to).unwrap_or_else(|| AFTER_ALL.to_vec()),
            };
        }
        let (first, _) = after.map(split_full_key).unwrap_or_default();
        if first.is_empty() {
            return Self::All { prefix: from.clone(), user_key: Vec::new(), from, to };
        }
        let user_key = from.get(first.len()..).unwrap_or_default().to_vec();
        Self::All { prefix: first.as_bytes().to_vec(), user_key, from, to }
    }
}

/// The first text after all texts that begin with `prefix`.
pub(super) fn end_of_prefix(prefix: &str) -> Vec<u8> {
    match prefix.as_bytes() {
        [] => AFTER_ALL.to_vec(),
        // No byte of a text is 255.
        [start @ .., last] => [start, &[last.saturating_add(1)]].concat(),
    }
}

/// A key as the database stores it, after the prefix of its component.
pub(super) fn full_key(prefix: &[u8], user_key: &[u8]) -> Result<String, StorageError> {
    let key = [prefix, user_key].concat();
    String::from_utf8(key).map_err(|error| StorageError::Corrupt {
        key: None,
        detail: format!("a key is not UTF-8: \"{}\"", error.as_bytes().escape_ascii()),
    })
}

/// One page, possibly shorter than its limit.
pub(super) fn page(pool: &Pool, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
    let range = Range::new(request.prefix, request.after);
    let limit = request.limit.min(MAX_PAGE);
    let wanted = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let keys = pool.read(async |session| keys(session, &range, wanted).await)?;
    // The order of several components depends on the server's plan.
    if keys.windows(2).any(|pair| matches!(pair, [one, next] if one >= next)) {
        return Err(unexpected(pool.address(), "keys are not in order"));
    }
    Ok(KeyPage::cut(keys, limit))
}

async fn keys(session: &Session, range: &Range<'_>, wanted: i64) -> Result<Vec<String>, Failure> {
    let Session { client, statements, .. } = session;
    match range {
        Range::Component { prefix, from, to } => {
            let name = Bytes::from(*prefix);
            let rows = client
                .query(
                    &statements.page,
                    &[&name, &Bytes(from), &Bytes(to), &wanted, &session.token()],
                )
                .await?;
            rows.iter().map(|row| Ok(full_key(name.0, row.try_get(0)?)?)).collect()
        }
        Range::All { prefix, user_key, from, to } => {
            let rows = client
                .query(
                    &statements.page_of_all,
                    &[
                        &Bytes(prefix),
                        &Bytes(user_key),
                        &Bytes(from),
                        &Bytes(to),
                        &session.token(),
                        &wanted,
                    ],
                )
                .await?;
            rows.iter().map(|row| Ok(full_key(row.try_get(0)?, row.try_get(1)?)?)).collect()
        }
    }
}

/// All keys that begin with a prefix, page by page.
pub(super) fn all_keys(pool: &Pool, prefix: &str) -> Result<Vec<String>, StorageError> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let mut request = PageRequest::new(MAX_PAGE).with_prefix(prefix);
        request.after = keys.last().map(String::as_str);
        let next = page(pool, request)?;
        keys.extend(next.keys);
        if !next.more {
            return Ok(keys);
        }
    }
}

/// The component prefixes after `after`.
pub(super) fn components(
    pool: &Pool,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyPage, StorageError> {
    let limit = limit.min(MAX_PAGE);
    let wanted = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    // The unscoped keys have the empty name.
    let after = Bytes::from(after.unwrap_or_default());
    let names = pool.read(async |session| {
        let Session { client, statements, .. } = session;
        let rows =
            client.query(&statements.components, &[&after, &wanted, &session.token()]).await?;
        let name = |row: &tokio_postgres::Row| Ok(full_key(&[], row.try_get(0)?)?);
        rows.iter().map(name).collect::<Result<Vec<String>, Failure>>()
    })?;
    Ok(KeyPage::cut(names, limit))
}

/// The usage of the keys that begin with a prefix.
pub(super) fn usage(pool: &Pool, prefix: &str) -> Result<Usage, StorageError> {
    let (component, user_prefix) = split_full_key(prefix);
    let name = Bytes::from(component);
    let of_user_keys = |row: Option<tokio_postgres::Row>| -> Result<Usage, Failure> {
        let Some(row) = row else { return Ok(Usage::default()) };
        let number = |stored: i64| u64::try_from(stored).unwrap_or_default();
        let keys = number(row.try_get(1)?);
        let prefixes = keys.saturating_mul(component.len() as u64);
        Ok(Usage { bytes: number(row.try_get(0)?).saturating_add(prefixes), keys })
    };
    pool.read(async |session| {
        let Session { client, statements, .. } = session;
        let to = end_of_prefix(user_prefix);
        let row = if component.is_empty() {
            let (from, to) = (Bytes::from(prefix), Bytes(&to));
            client.query_opt(&statements.count_all, &[&from, &to, &session.token()]).await?
        } else if user_prefix.is_empty() {
            client.query_opt(&statements.counter, &[&name, &session.token()]).await?
        } else {
            let (from, to) = (Bytes::from(user_prefix), Bytes(&to));
            client.query_opt(&statements.count, &[&name, &from, &to, &session.token()]).await?
        };
        of_user_keys(row)
    })
}

/// Reads the values of a range of keys in order, with a stream that the caller consumes.
pub(super) async fn read_range(
    session: &Session,
    range: &Range<'_>,
) -> Result<tokio_postgres::RowStream, Failure> {
    let Session { client, statements, .. } = session;
    let rows = match range {
        Range::Component { prefix, from, to } => {
            let parameters = [Bytes::from(*prefix), Bytes(from), Bytes(to), session.token()];
            client.query_raw(&statements.read, parameters).await?
        }
        Range::All { prefix, user_key, from, to } => {
            let parameters =
                [Bytes(prefix), Bytes(user_key), Bytes(from), Bytes(to), session.token()];
            client.query_raw(&statements.read_all, parameters).await?
        }
    };
    Ok(rows)
}

/// The next row of a stream.
pub(super) async fn next_row(
    rows: &mut std::pin::Pin<Box<tokio_postgres::RowStream>>,
) -> Result<Option<tokio_postgres::Row>, Failure> {
    Ok(rows.try_next().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(from: &[u8], to: &[u8]) -> Range<'static> {
        Range::Component { prefix: "a/b/c/", from: from.to_vec(), to: to.to_vec() }
    }

    #[test]
    fn a_range_of_one_component_has_user_keys() {
        assert_eq!(Range::new("a/b/c/", None), component(b"", &[0xff]));
        assert_eq!(Range::new("a/b/c/k", None), component(b"k", b"l"));
        assert_eq!(Range::new("a/b/c/k", Some("a")), component(b"k", b"l"));
        assert_eq!(Range::new("a/b/c/k", Some("a/b/c/k1")), component(b"k1\0", b"l"));
        assert_eq!(Range::new("a/b/c/k", Some("b")), component(&[0xff], b"l"));
    }

    #[test]
    fn a_range_of_all_starts_in_a_component_or_before_one() {
        let all = |prefix: &[u8], user_key: &[u8], from: &[u8], to: &[u8]| Range::All {
            prefix: prefix.to_vec(),
            user_key: user_key.to_vec(),
            from: from.to_vec(),
            to: to.to_vec(),
        };
        assert_eq!(Range::new("", None), all(b"", b"", b"", &[0xff]));
        assert_eq!(Range::new("a/b", None), all(b"a/b", b"", b"a/b", b"a/c"));
        assert_eq!(Range::new("a/", Some("a/b")), all(b"a/b\0", b"", b"a/b\0", b"a0"));
        assert_eq!(Range::new("", Some("a/b/c/k")), all(b"a/b/c/", b"k\0", b"a/b/c/k\0", &[0xff]));
    }
}
