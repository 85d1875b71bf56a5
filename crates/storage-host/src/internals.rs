//! Listings as guests see them, for the fuzz targets of this repository: no part
//! of the interface, and free to change.

use storage_core::{ComponentId, ComponentStorage};

use crate::cursors::{self, CannotList, Cursor, Cursors};

/// The keys of a page, and the cursor of the next one if more follow.
pub type Page<C> = (Vec<String>, Option<C>);

/// The listings of a component that are under way.
#[derive(Debug, Default)]
pub struct Listings(Cursors);

impl Listings {
    /// A page as the first draft of `wasi:keyvalue` has it; `owner` says whose
    /// keys they are, where they are another's.
    ///
    /// # Errors
    /// That the cursor is none, or what the storage says.
    pub fn page_by_number(
        &self,
        storage: &dyn ComponentStorage,
        owner: Option<&ComponentId>,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Page<u64>, String> {
        self.page(storage, owner, cursor, limit)
    }

    /// A page as the second draft has it.
    ///
    /// # Errors
    /// As [`page_by_number`](Self::page_by_number).
    pub fn page_by_text(
        &self,
        storage: &dyn ComponentStorage,
        owner: Option<&ComponentId>,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<Page<String>, String> {
        self.page(storage, owner, cursor, limit)
    }

    fn page<C: Cursor>(
        &self,
        storage: &dyn ComponentStorage,
        owner: Option<&ComponentId>,
        cursor: Option<C>,
        limit: usize,
    ) -> Result<Page<C>, String> {
        match cursors::list_keys(storage, &self.0, owner, cursor, limit) {
            Ok(page) => Ok((page.keys, page.cursor)),
            Err(CannotList::Cursor(why)) => Err(why),
            Err(CannotList::Storage(error)) => Err(error.to_string()),
        }
    }
}
