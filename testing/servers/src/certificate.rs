//! The self-signed certificate of a server.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::user::User;

/// Its file.
pub(crate) const CERTIFICATE: &str = "server.crt";

/// The file of its key.
pub(crate) const KEY: &str = "server.key";

/// Writes a certificate for loopback, and its key, into a directory.
pub(crate) fn create(directory: &Path, user: User) -> Result<()> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let created = rcgen::generate_simple_self_signed(names)?;
    for (name, text) in
        [(CERTIFICATE, created.cert.pem()), (KEY, created.signing_key.serialize_pem())]
    {
        let path = directory.join(name);
        fs::write(&path, text)?;
        // PostgreSQL refuses a key that others can read.
        user.own_alone(&path)?;
    }
    Ok(())
}
