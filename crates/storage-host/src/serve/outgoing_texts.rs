//! Bounds the texts of a request that a component prepares.
//!
//! wasmtime-wasi-http bounds paths and headers, and takes a name of a host and a method of any
//! length, which the host keeps as long as the component keeps the request.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest as _, Method};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;

use super::handler::RequestState;

/// The interface under the name that wasmtime-wasi-http gives it.
const INTERFACE: &str = "wasi:http/types@0.2.12";

/// The longest name of a host with a port.
const AUTHORITY_BYTES: usize = 259;

/// Longer than any method that is registered.
const METHOD_BYTES: usize = 64;

/// Replaces the functions that take these texts. Longer ones are invalid.
pub(super) fn bound(linker: &mut Linker<RequestState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut interface = linker.instance(INTERFACE)?;
    interface.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store, (request, text): (Resource<HostOutgoingRequest>, Option<String>)| {
            if text.as_ref().is_some_and(|text| text.len() > AUTHORITY_BYTES) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_authority(request, text)?,))
        },
    )?;
    interface.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store, (request, method): (Resource<HostOutgoingRequest>, Method)| {
            if matches!(&method, Method::Other(text) if text.len() > METHOD_BYTES) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_method(request, method)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
