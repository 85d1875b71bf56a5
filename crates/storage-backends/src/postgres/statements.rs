//! The statements of a store, prepared once for each connection.
//!
//! All ranges of keys include their start and exclude their end. The byte 255 is in no key, so
//! it is an end after every key.

use futures_util::future::try_join_all;
use tokio_postgres::{Client, Error, Statement};

/// A key: value and revision.
const GET: &str = "select e.value, e.revision from component c \
    join entry e on e.component = c.id and e.key = $2 where c.name = $1";

const EXISTS: &str = "select 1 from component c \
    join entry e on e.component = c.id and e.key = $2 where c.name = $1";

/// Several keys: the position of each that exists, and its value.
const GET_MANY: &str = "select k.n, e.value \
    from unnest($1::bytea[], $2::bytea[]) with ordinality k(name, key, n) \
    join component c on c.name = k.name \
    join entry e on e.component = c.id and e.key = k.key";

const WRITE: &str = "select status, written, previous from write_v1($1, $2, $3, $4, $5)";

const WRITE_MANY: &str = "select written, previous from write_many_v1($1, $2, $3, $4, $5)";

const COMMIT: &str = "select status, failed_check, written, previous \
    from commit_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

/// Keys of one component.
const PAGE: &str = "select e.key from entry e \
    where e.component = (select id from component where name = $1) \
    and e.key >= $2 and e.key < $3 order by e.key limit $4";

/// The same with values, for a snapshot.
const READ: &str = "select e.key, e.value from entry e \
    where e.component = (select id from component where name = $1) \
    and e.key >= $2 and e.key < $3 order by e.key";

/// Ranges of keys that follow each other in byte order: each component, and the unscoped keys
/// before it.
///
/// $1 is the component or the text that components start from, $2 the key in that component
/// that they start from, $3 the unscoped key that they start from, and $4 the end of all. A
/// loop over components reads their keys in index order; a comparison of pairs of name and key
/// would sort.
macro_rules! ranges {
    ($columns:literal) => {
        concat!(
            "select r.prefix, ",
            $columns,
            " from (
                select s.id, s.prefix, s.lo, s.hi from (
                    select id, name, lag(name) over (order by name) as before
                    from component
                    where name >= $1 and name < $4 and keys > 0 and name <> ''
                    order by name
                ) c
                cross join lateral (
                    select (select id from component where name = '') as id, ''::bytea as prefix,
                        coalesce(c.before, $3) as lo, c.name as hi
                    union all
                    select c.id, c.name, case when c.name = $1 then $2 else ''::bytea end,
                        '\\xff'::bytea
                ) s
                union all
                select id, ''::bytea, coalesce((
                    select name from component
                    where name >= $1 and name < $4 and keys > 0 and name <> ''
                    order by name desc limit 1
                ), $3), $4
                from component where name = ''
            ) r
            cross join lateral (
                select key, value from entry
                where component = r.id and key >= r.lo and key < r.hi order by key
            ) e"
        )
    };
}

const PAGE_OF_ALL: &str = concat!(ranges!("e.key"), " limit $5");
const READ_ALL: &str = ranges!("e.key, e.value");

const COMPONENTS: &str = "select name from component \
    where name > $1 and keys > 0 order by name limit $2";

/// The counter of one component.
const COUNTER: &str = "select bytes, keys from component where name = $1";

/// Counts keys of one component.
const COUNT: &str = "select coalesce(sum(octet_length(key) + octet_length(value)), 0)::bigint, \
    count(*) from entry where component = (select id from component where name = $1) \
    and key >= $2 and key < $3";

/// Adds up the counters of components, with their prefixes, and counts unscoped keys.
const COUNT_ALL: &str = "select (c.bytes + u.bytes)::bigint, (c.keys + u.keys)::bigint from (
        select coalesce(sum(bytes + keys * octet_length(name)), 0) as bytes,
            coalesce(sum(keys), 0) as keys
        from component where name >= $1 and name < $2 and name <> ''
    ) c cross join (
        select coalesce(sum(octet_length(key) + octet_length(value)), 0) as bytes,
            count(*) as keys
        from entry where component = (select id from component where name = '')
            and key >= $1 and key < $2
    ) u";

const REVISIONS: &str = "select k.n, c.revision \
    from unnest($1::bytea[]) with ordinality k(name, n) join component c on c.name = k.name";

/// What [`Statements::prepare`] prepares, in the order of the fields.
const ALL: [&str; 15] = [
    GET,
    EXISTS,
    GET_MANY,
    WRITE,
    WRITE_MANY,
    COMMIT,
    PAGE,
    READ,
    PAGE_OF_ALL,
    READ_ALL,
    COMPONENTS,
    COUNTER,
    COUNT,
    COUNT_ALL,
    REVISIONS,
];

/// Prepared statements of one connection.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) get: Statement,
    pub(super) exists: Statement,
    pub(super) get_many: Statement,
    pub(super) write: Statement,
    pub(super) write_many: Statement,
    pub(super) commit: Statement,
    pub(super) page: Statement,
    pub(super) read: Statement,
    pub(super) page_of_all: Statement,
    pub(super) read_all: Statement,
    pub(super) components: Statement,
    pub(super) counter: Statement,
    pub(super) count: Statement,
    pub(super) count_all: Statement,
    pub(super) revisions: Statement,
}

impl Statements {
    /// Prepares all of them in one round trip.
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let prepared = try_join_all(ALL.map(|sql| client.prepare(sql))).await?;
        #[expect(clippy::expect_used, reason = "one statement is prepared for each text")]
        let prepared: [Statement; ALL.len()] = prepared.try_into().expect("the same number");
        let [
            get,
            exists,
            get_many,
            write,
            write_many,
            commit,
            page,
            read,
            page_of_all,
            read_all,
            components,
            counter,
            count,
            count_all,
            revisions,
        ] = prepared;
        Ok(Self {
            get,
            exists,
            get_many,
            write,
            write_many,
            commit,
            page,
            read,
            page_of_all,
            read_all,
            components,
            counter,
            count,
            count_all,
            revisions,
        })
    }
}
