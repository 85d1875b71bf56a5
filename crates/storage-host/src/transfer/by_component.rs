//! Reads a store without snapshots of the whole of it.

use storage_core::{PageRequest, SnapshotVisitor, StorageError, Store, split_full_key};

/// Keys of a page of the listing that finds the components.
const PAGE: usize = 1000;

/// Calls `visit` with every key and its value in ascending byte order: those of each component as
/// of one point in time, and each unscoped key by itself.
pub(super) fn read_by_component(
    from: &dyn Store,
    visit: &mut SnapshotVisitor<'_>,
) -> Result<(), StorageError> {
    let mut component = String::new();
    let mut after: Option<String> = None;
    loop {
        let request = PageRequest { prefix: "", after: after.as_deref(), limit: PAGE };
        let page = from.list_page(request)?;
        for key in &page.keys {
            let (prefix, _) = split_full_key(key);
            if prefix.is_empty() {
                if let Some(value) = from.get(key)? {
                    visit(key, value)?;
                }
            } else if prefix != component {
                // Its keys follow each other, and the snapshot has all of them.
                prefix.clone_into(&mut component);
                from.read_snapshot(&component, None, visit)?;
            }
        }
        match page.keys.last() {
            Some(last) if page.more => after = Some(last.clone()),
            _ => return Ok(()),
        }
    }
}
