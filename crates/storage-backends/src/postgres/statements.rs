//! The statements of a store, prepared once for each connection.
//!
//! All ranges of keys include their start and exclude their end. The byte 255 is in no key, so
//! it is an end after every key.
//!
//! Every name is qualified with the schema, which stands for `@`, so no statement depends on a
//! search path. A pooler that shares connections between transactions could still run a
//! statement of another client that has the same name. So the last parameter of each is the
//! token of the store that runs it, and the statement fails unless it was prepared with that
//! token: this check stands for `?N` with N as the number of the parameter.

use std::fmt::Write as _;

use futures_util::future::try_join_all;
use storage_core::Durability;
use tokio_postgres::{Client, Error, Statement};

use crate::identity;

/// A setting that does not exist. The error names it.
pub(super) const FOREIGN: &str = "storage.statement_of_another_client";

/// A key: value and revision.
const GET: &str = "select e.value, e.revision from @.component c \
    join @.entry e on e.component = c.id and e.key = $2 where c.name = $1 and ?3";

const EXISTS: &str = "select 1 from @.component c \
    join @.entry e on e.component = c.id and e.key = $2 where c.name = $1 and ?3";

/// Several keys: the position of each that exists, and its value.
const GET_MANY: &str = "select k.n, e.value \
    from unnest($1::bytea[], $2::bytea[]) with ordinality k(name, key, n) \
    join @.component c on c.name = k.name \
    join @.entry e on e.component = c.id and e.key = k.key where ?3";

const WRITE: &str = "select status, written, previous \
    from @.write_v1('#', $1, $2, $3, $4, $5) where ?6";

const WRITE_MANY: &str = "select written, previous \
    from @.write_many_v1('#', $1, $2, $3, $4, $5) where ?6";

const COMMIT: &str = "select status, failed_check, written, previous \
    from @.commit_v1('#', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
    where ?15";

/// Keys of one component.
const PAGE: &str = "select e.key from @.entry e \
    where e.component = (select id from @.component where name = $1) \
    and e.key >= $2 and e.key < $3 and ?5 order by e.key limit $4";

/// The same with values, for a snapshot.
const READ: &str = "select e.key, e.value from @.entry e \
    where e.component = (select id from @.component where name = $1) \
    and e.key >= $2 and e.key < $3 and ?4 order by e.key";

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
                    from @.component
                    where name >= $1 and name < $4 and keys > 0 and name <> ''
                    order by name
                ) c
                cross join lateral (
                    select (select id from @.component where name = '') as id, ''::bytea as prefix,
                        coalesce(c.before, $3) as lo, c.name as hi
                    union all
                    select c.id, c.name, case when c.name = $1 then $2 else ''::bytea end,
                        '\\xff'::bytea
                ) s
                union all
                select id, ''::bytea, coalesce((
                    select name from @.component
                    where name >= $1 and name < $4 and keys > 0 and name <> ''
                    order by name desc limit 1
                ), $3), $4
                from @.component where name = ''
            ) r
            cross join lateral (
                select key, value from @.entry
                where component = r.id and key >= r.lo and key < r.hi order by key
            ) e where ?5"
        )
    };
}

const PAGE_OF_ALL: &str = concat!(ranges!("e.key"), " limit $6");
const READ_ALL: &str = ranges!("e.key, e.value");

const COMPONENTS: &str = "select name from @.component \
    where name > $1 and keys > 0 and ?3 order by name limit $2";

/// The counter of one component.
const COUNTER: &str = "select bytes, keys from @.component where name = $1 and ?2";

/// Counts keys of one component.
const COUNT: &str = "select coalesce(sum(octet_length(key) + octet_length(value)), 0)::bigint, \
    count(*) from @.entry where component = (select id from @.component where name = $1) \
    and key >= $2 and key < $3 and ?4";

/// Adds up the counters of components, with their prefixes, and counts unscoped keys.
const COUNT_ALL: &str = "select (c.bytes + u.bytes)::bigint, (c.keys + u.keys)::bigint from (
        select coalesce(sum(bytes + keys * octet_length(name)), 0) as bytes,
            coalesce(sum(keys), 0) as keys
        from @.component where name >= $1 and name < $2 and name <> ''
    ) c cross join (
        select coalesce(sum(octet_length(key) + octet_length(value)), 0) as bytes,
            count(*) as keys
        from @.entry where component = (select id from @.component where name = '')
            and key >= $1 and key < $2
    ) u where ?3";

const REVISIONS: &str = "select k.n, c.revision \
    from unnest($1::bytea[]) with ordinality k(name, n) join @.component c on c.name = k.name \
    where ?2";

/// What the texts of statements contain: the schema of the store and its token.
#[derive(Debug)]
pub(super) struct Names {
    schema: String,
    /// Chosen at random when the store is opened. It begins with the durability. Sessions of
    /// the store have it as their setting `storage.session`.
    pub(super) token: String,
}

impl Names {
    pub(super) fn new(schema: &str, durability: Durability) -> Self {
        let durability = if durability == Durability::Os { "os" } else { "sync" };
        let token = format!("{durability}-{}", identity::new_store_id());
        // Quoted, because it may be a reserved word. It contains no quote.
        Self { schema: format!("\"{schema}\""), token }
    }

    /// The text of a statement, or of several.
    pub(super) fn apply(&self, sql: &str) -> String {
        let mut text = String::with_capacity(2 * sql.len());
        let mut characters = sql.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '@' => text.push_str(&self.schema),
                '#' => text.push_str(&self.token),
                '?' => {
                    let mut parameter = String::new();
                    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
                        parameter.push(digit);
                    }
                    // Evaluated once, and before anything else. Reading a setting that does
                    // not exist is an error.
                    let _ = write!(
                        text,
                        "case when ${parameter} = '{}'::bytea then true \
                         else current_setting('{FOREIGN}') is null end",
                        self.token
                    );
                }
                other => text.push(other),
            }
        }
        text
    }
}

/// Defines [`Statements`]: each field with the text that it is prepared from.
macro_rules! statements {
    ($($field:ident: $text:ident,)+) => {
        /// Prepared statements of one connection.
        #[derive(Debug)]
        pub(super) struct Statements {
            $(pub(super) $field: Statement,)+
        }

        impl Statements {
            /// Prepares all of them in one round trip.
            pub(super) async fn prepare(client: &Client, names: &Names) -> Result<Self, Error> {
                let texts = [$($text),+].map(|sql| names.apply(sql));
                let prepared = try_join_all(texts.iter().map(|sql| client.prepare(sql))).await?;
                let prepared = <[Statement; [$($text),+].len()]>::try_from(prepared);
                // One statement is prepared for each text.
                let [$($field),+] = prepared.expect("the same number");
                Ok(Self { $($field),+ })
            }
        }
    };
}

statements! {
    get: GET,
    exists: EXISTS,
    get_many: GET_MANY,
    write: WRITE,
    write_many: WRITE_MANY,
    commit: COMMIT,
    page: PAGE,
    read: READ,
    page_of_all: PAGE_OF_ALL,
    read_all: READ_ALL,
    components: COMPONENTS,
    counter: COUNTER,
    count: COUNT,
    count_all: COUNT_ALL,
    revisions: REVISIONS,
}
