//! A server of `wasi:http` components: each request gets an instance of its own, with the
//! storage of its component.
//!
//! The components export `wasi:http/incoming-handler@0.2`, and import what
//! [`guest::add_to_linker_async_for`](crate::guest::add_to_linker_async_for) provides, WASI 0.2
//! without files and sockets, and `wasi:http/outgoing-handler`.
//!
//! ```no_run
//! use std::time::Duration;
//! use storage_host::guest;
//! use storage_host::serve::{Handler, HttpComponent, HttpServer};
//! use storage_host::wasmtime::{Engine, component::Component};
//! use storage_host::{HttpSettings, Mode, Route, StorageHost, StoreUrl};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let host = StorageHost::new("redb:./data.redb".parse::<StoreUrl>()?.open(Mode::ReadWrite)?);
//! let engine = Engine::new(&guest::async_engine_config())?;
//! guest::start_clock(&engine)?;
//! let handler = Handler::new(&Component::from_file(&engine, "guestbook.wasm")?)?;
//! let server = HttpServer::builder(&host, HttpSettings::default())
//!     .component(HttpComponent {
//!         id: "app/guestbook/1".parse()?,
//!         handler,
//!         routes: vec![Route::all()],
//!         outgoing: Vec::new(),
//!         timeout: None,
//!     })?
//!     .build();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! // Until the future is ready; then it answers what it has accepted.
//! server.serve(listener, std::future::pending()).await?;
//! host.drain(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a client is told
//!
//! | status | reason |
//! |---|---|
//! | 400 | no `Host`, or an invalid one |
//! | 404 | no component has a route for the request |
//! | 413 | the body is larger than allowed |
//! | 431 | the headers are larger than allowed |
//! | 500 | the component trapped or gave no answer; the text has the number of the incident in the log |
//! | 501 | the method `CONNECT` |
//! | 503 | more requests than allowed are in progress, or the instances need more memory than allowed; with `Retry-After` |
//! | 504 | the component ran longer than allowed |
//!
//! A trap after the component has sent the status ends the connection.
//!
//! # The log
//!
//! Each request is a [`tracing`] event of level `INFO` with the target [`ACCESS_LOG`] and the
//! fields `component`, `route`, `method`, `status`, `microseconds`, `received_bytes` and
//! `sent_bytes`: never with the path, the query or a header, which may be secret. Without
//! `status`, the client has gone before the answer. A component that fails is an event of level
//! `ERROR` with the fields `incident`, `component`, `route` and `reason`. What a component
//! writes to its standard output and error is logged line by line as through `wasi:logging`
//! ([`guest`](crate::guest#the-log-of-a-component)), with the context `stdout` or `stderr`.

mod body;
mod connection;
mod exchange;
mod handler;
mod instance;
mod machine_memory;
mod memory;
mod outgoing;
mod outgoing_texts;
mod refusal;
mod routes;
mod sender;
mod server;
mod service;
mod standard_streams;
mod watch;

pub use exchange::ACCESS_LOG;
pub use handler::{Handler, RequestState, linker};
pub use routes::DuplicateRoute;
pub use server::{Drained, HttpComponent, HttpServer, HttpServerBuilder};
pub use watch::FileWatch;
