//! The page for browsers of `serve --admin-listen`.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use storage_host::admin::{self, PageServer, Token};
use storage_host::{StorageHost, StoreUrl};

use super::args;
use super::failure::Failure;
use super::output::note;
use super::stderr;

/// The variable with the token.
const VARIABLE: &str = "STORAGE_HOST_ADMIN_TOKEN";

/// The maximum bytes of a file with a token.
const TOKEN_FILE: u64 = 4_096;

/// The arguments of the page.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// Show components, keys, values and metrics to browsers at this address
    ///
    /// The page needs a token and changes nothing. The token comes from --admin-token or
    /// the environment variable STORAGE_HOST_ADMIN_TOKEN; without either, one is generated,
    /// and standard error shows the address to open. Port 0 is any free one.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = args::address())]
    admin_listen: Option<SocketAddr>,

    /// Let --admin-listen be an address that other machines can reach
    ///
    /// The connection is not encrypted, so its token and all data can be read on the way.
    #[arg(long, requires = "admin_listen")]
    admin_anywhere: bool,

    /// Read the token of --admin-listen from FILE
    ///
    /// At least 16 letters, digits, - and _. A line break at the end is ignored.
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    admin_token: Option<PathBuf>,
}

/// A page that listens and does not answer yet.
pub(super) struct Prepared {
    listener: TcpListener,
    token: Token,
    is_generated: bool,
}

impl AdminArgs {
    /// Checks the address and the token, and listens. `None` without an address.
    pub(super) fn prepare(&self) -> Result<Option<Prepared>, Failure> {
        let Some(address) = self.admin_listen else { return Ok(None) };
        if !address.ip().is_loopback() && !self.admin_anywhere {
            return Err(Failure::new(
                "usage",
                format!(
                    "--admin-listen {address} can be reached from other machines, and the \
                     connection is not encrypted: use a loopback address (127.0.0.1:PORT), or add \
                     --admin-anywhere"
                ),
            ));
        }
        let given = self.token()?;
        let is_generated = given.is_none();
        let token = match given {
            Some(token) => token,
            None => Token::random().map_err(|error| {
                Failure::new("internal", format!("cannot generate a token: {error}"))
            })?,
        };
        let listener = TcpListener::bind(address).map_err(|error| {
            let message = format!(
                "cannot listen on {address}: {error}; choose another address with --admin-listen"
            );
            Failure::new("listen", message)
        })?;
        Ok(Some(Prepared { listener, token, is_generated }))
    }

    /// The token that the operator gave.
    fn token(&self) -> Result<Option<Token>, Failure> {
        let (text, source) = match &self.admin_token {
            Some(path) => (read(path)?, path.display().to_string()),
            None => match std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
                Some(text) => (text.to_string_lossy().into_owned(), VARIABLE.to_owned()),
                None => return Ok(None),
            },
        };
        match Token::new(text.trim_end_matches(['\r', '\n'])) {
            Some(token) => Ok(Some(token)),
            None => Err(Failure::new(
                "usage",
                format!(
                    "{source} has no valid token: use at least 16 letters, digits, - and _, such as \
                     the output of: openssl rand -hex 32"
                ),
            )),
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(TOKEN_FILE).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new("io", format!("cannot read {}: {error}", path.display()))),
    }
}

impl Prepared {
    /// Answers browsers until the result is dropped.
    pub(super) fn start(self, host: &StorageHost, url: &StoreUrl) -> Result<PageServer, Failure> {
        let server = admin::serve_page(host, url, self.listener, self.token.clone())
            .map_err(|error| Failure::new("limit", error.to_string()))?;
        let address = server.address();
        match self.is_generated {
            // Also with --quiet: it is shown nowhere else.
            true => stderr::notice(format_args!(
                "admin page: open http://{address}/login?token={}",
                self.token.as_str()
            )),
            false => note(format_args!("admin page: open http://{address}/ and enter the token")),
        }
        Ok(server)
    }
}
