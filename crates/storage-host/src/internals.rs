//! Listings as guests see them, for the fuzz targets of this repository. Not part of
//! the public interface.

use storage_core::{ComponentId, ComponentStorage};

use crate::cursors::{self, CannotList, Cursor, Cursors};

/// The keys of a page, and the cursor of the next one if more follow.
pub type Page<C> = (Vec<String>, Option<C>);

/// The cursors of a component.
#[derive(Debug, Default)]
pub struct Listings(Cursors);

impl Listings {
    /// Lists a page as the first draft of `wasi:keyvalue`. `owner` is the component
    /// that granted access to its keys, if any.
    ///
    /// # Errors
    /// The message for the guest.
    pub fn page_by_number(
        &self,
        storage: &dyn ComponentStorage,
        owner: Option<&ComponentId>,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Page<u64>, String> {
        self.page(storage, owner, cursor, limit)
    }

    /// Lists a page as the second draft.
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
        match cursors::list_keys(storage, &self.0, owner, "", cursor, limit) {
            Ok(page) => Ok((page.keys, page.cursor)),
            Err(CannotList::Cursor(why)) => Err(why),
            Err(CannotList::Storage(error)) => Err(error.to_string()),
        }
    }
}
