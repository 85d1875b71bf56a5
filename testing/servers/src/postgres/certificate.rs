//! The self-signed certificate of a server.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::user::User;

/// Its file in the data directory. A standby gets a copy.
pub(super) const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";

/// The settings of a server with a certificate. The names of the files are the defaults.
pub(super) const SETTINGS: &str = "ssl = on\n";

/// Writes a certificate and its key.
pub(super) fn create(data: &Path, user: User) -> Result<()> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let created = rcgen::generate_simple_self_signed(names)?;
    for (name, text) in
        [(CERTIFICATE, created.cert.pem()), (KEY, created.signing_key.serialize_pem())]
    {
        let path = data.join(name);
        fs::write(&path, text)?;
        // PostgreSQL refuses a key that others can read.
        user.own_alone(&path)?;
    }
    Ok(())
}
