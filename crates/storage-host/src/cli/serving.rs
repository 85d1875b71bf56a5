//! The admin socket of `run` and `serve`, and what SIGHUP does there.

use std::path::Path;

use storage_host::{Manifest, StorageHost, StoreUrl};
#[cfg(unix)]
use {
    super::ending::{OnHangup, OnSignal},
    super::output::{note, printable},
    super::reload::Reloader,
    std::sync::Arc,
    storage_host::admin::{self, AdminServer},
};

/// What other processes can ask of this one. Dropping it removes the socket.
pub(super) struct Serving {
    #[cfg(unix)]
    server: Option<(Arc<AdminServer>, OnSignal)>,
    #[cfg(unix)]
    _on_hangup: Option<OnHangup>,
}

impl Serving {
    /// Reloads the manifest on SIGHUP. Opens the socket of a store that was opened for
    /// writing, if it has one. A failure is a note: the component can run without it.
    #[cfg(unix)]
    pub(super) fn start(
        host: &StorageHost,
        url: &StoreUrl,
        config: Option<(&Path, &Manifest)>,
        is_writable: bool,
    ) -> Self {
        let reloader = config.map(|(path, manifest)| {
            Arc::new(Reloader::new(path.to_owned(), manifest.clone(), host.clone()))
        });
        let on_hangup = reloader.clone().map(|one| OnHangup::call(move || one.reload_and_report()));
        let has_socket = is_writable && url.path().is_some() && url.is_persistent();
        let server = has_socket.then(|| open(host, url, reloader)).flatten();
        Self { server, _on_hangup: on_hangup }
    }

    #[cfg(not(unix))]
    pub(super) fn start(
        _host: &StorageHost,
        _url: &StoreUrl,
        _config: Option<(&Path, &Manifest)>,
        _is_writable: bool,
    ) -> Self {
        Self {}
    }

    /// Removes the socket, and does not wait for requests in progress.
    pub(super) fn stop(&self) {
        #[cfg(unix)]
        if let Some((server, _)) = &self.server {
            server.stop();
        }
    }
}

#[cfg(unix)]
fn open(
    host: &StorageHost,
    url: &StoreUrl,
    reloader: Option<Arc<Reloader>>,
) -> Option<(Arc<AdminServer>, OnSignal)> {
    let opened = match reloader {
        Some(reloader) => {
            let reload = move || reloader.reload().map_err(|failure| failure.to_string());
            admin::serve_with_reload(host, url, reload)
        }
        None => admin::serve(host, url),
    };
    match opened {
        Ok(server) => {
            let server = Arc::new(server);
            let on_signal = OnSignal::stop(&server);
            Some((server, on_signal))
        }
        Err(error) => {
            note(format_args!(
                "other commands cannot use the store meanwhile: {}",
                printable(&error.to_string())
            ));
            None
        }
    }
}
