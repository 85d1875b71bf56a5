//! A self-signed certificate of servers on loopback.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::user::User;

/// The file of a certificate.
pub(crate) const CERTIFICATE: &str = "server.crt";

/// The file of its key.
pub(crate) const KEY: &str = "server.key";

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    certificate: String,
    key: String,
}

impl Certificate {
    /// A new certificate for `localhost` and `127.0.0.1`.
    pub(crate) fn create() -> Result<Self> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let created = rcgen::generate_simple_self_signed(names)?;
        Ok(Self { certificate: created.cert.pem(), key: created.signing_key.serialize_pem() })
    }

    /// Writes both files into a directory.
    pub(crate) fn write(&self, directory: &Path, user: User) -> Result<()> {
        for (name, text) in [(CERTIFICATE, &self.certificate), (KEY, &self.key)] {
            let path = directory.join(name);
            fs::write(&path, text)?;
            // PostgreSQL refuses a key that others can read.
            user.own_alone(&path)?;
        }
        Ok(())
    }
}
