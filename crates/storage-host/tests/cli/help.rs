//! The version; `transcripts.rs` has the help texts and invalid usage.

use crate::support::TestDir;

#[test]
fn the_version_is_that_of_the_crate() {
    let printed = TestDir::new().printed(&["--version"]);
    assert_eq!(printed, format!("storage-host {}\n", env!("CARGO_PKG_VERSION")));
}
