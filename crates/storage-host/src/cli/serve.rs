//! `serve`: serves components over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use storage_host::guest;
use storage_host::serve::{FileWatch, Handler, HttpComponent, HttpServer, linker};
use storage_host::wasmtime::component::Component;
use storage_host::{ComponentId, ComponentStorage, HttpSettings, OutgoingHost, Route, StorageHost};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

#[cfg(unix)]
use super::admin_page::AdminArgs;
use super::args;
use super::compiled::Compiler;
use super::config::NO_FILE;
use super::ending::OnSignal;
use super::failure::Failure;
use super::imports::Purpose;
use super::link;
use super::output::{Output, json_path, note, printable};
use super::progress::counted;
use super::resources;
use super::target::Target;

/// How often `--watch` looks at the files. A change is used after one to two of these.
const LOOK: Duration = Duration::from_millis(500);

/// How much longer than its timeout the end of a server may take.
const GRACE: Duration = Duration::from_secs(2);

/// The arguments of `serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The id of the component to serve: NAMESPACE/NAME/INSTANCE
    #[arg(long, value_name = "ID", value_parser = args::id())]
    pub(super) id: Option<ComponentId>,

    /// The address and port to listen on; port 0 is any free one
    ///
    /// Without this option and a setting in the manifest it is 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = args::address())]
    listen: Option<SocketAddr>,

    /// Use a component's file when it has changed, without a restart
    ///
    /// Requests in progress finish in the old component. A file that cannot be served is
    /// reported, and the old component stays in use.
    #[arg(long)]
    watch: bool,

    #[cfg(unix)]
    #[command(flatten)]
    admin: AdminArgs,

    /// The component's file, with --id
    #[arg(value_name = "COMPONENT.wasm", requires = "id")]
    pub(super) component: Option<PathBuf>,
}

/// What is served, and how.
struct Plan {
    settings: HttpSettings,
    components: Vec<Planned>,
}

/// A component to serve.
struct Planned {
    id: ComponentId,
    wasm: PathBuf,
    routes: Vec<Route>,
    outgoing: Vec<OutgoingHost>,
    timeout: Option<Duration>,
    presets: BTreeMap<String, String>,
}

/// Serves until a signal ends the process.
pub(super) fn serve(target: &Target, args: &ServeArgs, output: &mut Output) -> Result<(), Failure> {
    let mut plan = Plan::new(target, args)?;
    #[cfg(unix)]
    let page = args.admin.prepare()?;
    let compiler = Compiler::for_server()?;
    let handlers = plan.load(&compiler)?;
    plan.limit_connections()?;
    let runtime = resources::server_runtime()?;
    guest::start_clock(&compiler.engine).map_err(|error| {
        Failure::new("internal", format!("cannot start the clock of the timeouts: {error}"))
    })?;
    // Before the store is opened: without an address it must not be created or changed.
    let listener = plan.listen(&runtime)?;
    let (host, _serving) = target.open_to_run()?;
    #[cfg(unix)]
    let _page = page.map(|page| page.start(&host, target.url())).transpose()?;
    let ready = Ready { compiler, handlers, runtime, listener, host: &host };
    let served = plan.run(target, args, output, ready);
    host.store().flush()?;
    served
}

/// What a server needs besides its plan.
struct Ready<'a> {
    compiler: Compiler,
    handlers: Handlers,
    runtime: Runtime,
    listener: TcpListener,
    host: &'a StorageHost,
}

/// The handler of each file.
type Handlers = BTreeMap<PathBuf, Handler>;

impl Plan {
    fn new(target: &Target, args: &ServeArgs) -> Result<Self, Failure> {
        let mut plan = match (target.config(), &args.id, &args.component) {
            (Some((_, manifest)), ..) => {
                let served =
                    manifest.components.iter().filter(|component| !component.routes.is_empty());
                let planned = |component: &storage_host::ManifestComponent| {
                    let wasm = component.wasm.clone().ok_or_else(|| {
                        Failure::new("manifest", format!("component {}: {NO_FILE}", component.id))
                    })?;
                    Ok(Planned {
                        id: component.id.clone(),
                        wasm,
                        routes: component.routes.clone(),
                        outgoing: component.outgoing.clone(),
                        timeout: component.timeout,
                        presets: component.presets.clone(),
                    })
                };
                let components = served.map(planned).collect::<Result<Vec<_>, Failure>>()?;
                Self { settings: manifest.http.clone(), components }
            }
            (None, Some(id), Some(wasm)) => {
                let one = Planned {
                    id: id.clone(),
                    wasm: wasm.clone(),
                    routes: vec![Route::all()],
                    outgoing: Vec::new(),
                    timeout: None,
                    presets: BTreeMap::new(),
                };
                Self { settings: HttpSettings::default(), components: vec![one] }
            }
            // The command line is checked before.
            (None, ..) => Self { settings: HttpSettings::default(), components: Vec::new() },
        };
        if plan.components.is_empty()
            && let Some((path, _)) = target.config()
        {
            return Err(Failure::new(
                "manifest",
                format!(
                    "{} has no component to serve: add routes = [{{ path = \"/\" }}] to one",
                    path.display()
                ),
            ));
        }
        if let Some(listen) = args.listen {
            plan.settings.listen = listen;
        }
        Ok(plan)
    }

    /// Compiles and links every file once. Reports all that cannot be served.
    fn load(&self, compiler: &Compiler) -> Result<Handlers, Failure> {
        let mut handlers = Handlers::new();
        let mut failures = Vec::new();
        for Planned { id, wasm, .. } in &self.components {
            if handlers.contains_key(wasm) {
                continue;
            }
            match load(compiler, wasm) {
                Ok(handler) => drop(handlers.insert(wasm.clone(), handler)),
                Err(failure) => failures.push(format!("component {id}: {failure}")),
            }
        }
        match failures.split_first() {
            None => Ok(handlers),
            Some((one, [])) => Err(Failure::new("component", one.clone())),
            Some(_) => {
                let count = counted(failures.len() as u64, "component");
                let message = format!("{count} cannot be served:\n  {}", failures.join("\n  "));
                Err(Failure::new("component", message))
            }
        }
    }

    fn limit_connections(&mut self) -> Result<(), Failure> {
        let wanted = self.settings.connections;
        let allowed = resources::connections_allowed(wanted)?;
        if allowed < wanted {
            note(format_args!(
                "serving at most {allowed} connections instead of {wanted}: the limit on open files \
                 allows no more (ulimit -n)"
            ));
            self.settings.connections = allowed;
        }
        Ok(())
    }

    fn run(
        &self,
        target: &Target,
        args: &ServeArgs,
        output: &mut Output,
        ready: Ready<'_>,
    ) -> Result<(), Failure> {
        let Ready { compiler, handlers, runtime, listener, host } = ready;
        let server = self.server(host, &handlers)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (drained, has_drained) = mpsc::channel::<()>();
        let drain = self.settings.drain_timeout.saturating_add(GRACE);
        let before = move || {
            // The server may have ended by itself.
            let _ = stop.send(());
            let _ = has_drained.recv_timeout(drain);
        };
        let _on_signal = OnSignal::shut_down_after(before, host);
        let failover_loss = host.store().properties().failover_loss();
        self.announce(target, &listener, failover_loss, output)?;
        if args.watch {
            self.watch(compiler, &server)?;
        }
        let until = async {
            // An error means that the signal's handler has ended.
            let _ = stopped.await;
        };
        let ended = runtime.block_on(server.serve(listener, until));
        // A thread of the runtime may still be in a call to the store.
        runtime.shutdown_background();
        drop(drained);
        let ended = ended.map_err(|error| {
            Failure::new("listen", format!("cannot accept connections: {error}"))
        })?;
        if ended.cut > 0 {
            let requests = counted(ended.cut as u64, "request");
            let seconds = self.settings.drain_timeout.as_secs_f32();
            note(format_args!("{requests} did not end within the drain timeout of {seconds} s"));
        }
        Ok(())
    }

    fn server(&self, host: &StorageHost, handlers: &Handlers) -> Result<HttpServer, Failure> {
        let mut builder = HttpServer::builder(host, self.settings.clone());
        for planned in &self.components {
            let Some(handler) = handlers.get(&planned.wasm) else { continue };
            let storage = host.component(&planned.id);
            for (key, value) in &planned.presets {
                storage
                    .set(key, value.as_str().into())
                    .map_err(|error| Failure::of_preset(key, error))?;
            }
            let component = HttpComponent {
                id: planned.id.clone(),
                handler: handler.clone(),
                routes: planned.routes.clone(),
                outgoing: planned.outgoing.clone(),
                timeout: planned.timeout,
            };
            builder = builder
                .component(component)
                .map_err(|error| Failure::new("manifest", error.to_string()))?;
        }
        Ok(builder.build())
    }

    fn listen(&self, runtime: &Runtime) -> Result<TcpListener, Failure> {
        let address = self.settings.listen;
        runtime.block_on(TcpListener::bind(address)).map_err(|error| {
            Failure::new(
                "listen",
                format!(
                    "cannot listen on {address}: {error}; choose another address with --listen"
                ),
            )
        })
    }

    /// Prints the address, the routes, where the data is, and what a failover can lose.
    fn announce(
        &self,
        target: &Target,
        listener: &TcpListener,
        failover_loss: Option<&'static str>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let listen = listener.local_addr().unwrap_or(self.settings.listen);
        let written = self.show(target, listen, failover_loss, output);
        let written = written.and_then(|()| output.finish());
        match written {
            // No one reads where it listens.
            Err(Failure::OutputClosed) => Ok(()),
            written => written,
        }
    }

    fn show(
        &self,
        target: &Target,
        listen: SocketAddr,
        failover_loss: Option<&'static str>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let path = target.url().path();
        let path = path.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let routes: Vec<ShownRoute<'_>> = self
            .components
            .iter()
            .flat_map(|planned| planned.routes.iter().map(|route| ShownRoute::new(planned, route)))
            .collect();
        if output.json() {
            let store = target.url().to_string();
            let path = path.as_deref().map(json_path);
            return output.document(&Serving { listen, routes, store, path, failover_loss });
        }
        output.line(format_args!("serving http://{listen}"))?;
        let width = routes.iter().map(|shown| shown.route.len()).max().unwrap_or_default();
        for ShownRoute { route, component, wasm, .. } in &routes {
            output.line(format_args!("  {route:<width$}  {component}  {}", printable(wasm)))?;
        }
        match path {
            Some(path) => {
                let path = printable(&path.display().to_string());
                output.line(format_args!("data in {path} ({})", target.url().scheme()))
            }
            None => output.line(format_args!("data in {}", target.url())),
        }?;
        match failover_loss {
            Some(loss) => output.line(loss),
            None => Ok(()),
        }
    }

    /// Starts the thread that replaces components whose files change.
    fn watch(&self, compiler: Compiler, server: &HttpServer) -> Result<(), Failure> {
        let mut users: BTreeMap<PathBuf, Vec<ComponentId>> = BTreeMap::new();
        for Planned { id, wasm, .. } in &self.components {
            users.entry(wasm.clone()).or_default().push(id.clone());
        }
        let server = server.clone();
        let mut files = FileWatch::new(users.keys().cloned());
        let watch = move || {
            loop {
                thread::sleep(LOOK);
                for path in files.changed() {
                    reload(&compiler, &path, users.get(&path).into_iter().flatten(), &server);
                }
            }
        };
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(watch)
            .map(drop)
            .map_err(|error| Failure::new("limit", format!("cannot start a thread: {error}")))
    }
}

/// Replaces the components of a file, unless it cannot be served.
fn reload<'a>(
    compiler: &Compiler,
    path: &Path,
    users: impl Iterator<Item = &'a ComponentId>,
    server: &HttpServer,
) {
    match load(compiler, path) {
        Ok(handler) => {
            for id in users {
                server.replace(id, &handler);
                note(format_args!(
                    "{id} now uses the changed {}",
                    printable(&path.to_string_lossy())
                ));
            }
        }
        Err(failure) => {
            // The server continues, so there is no exit code.
            let _ =
                failure.with("; the old component stays in use").report(super::stderr::is_json());
        }
    }
}

/// Compiles a component, or takes it from the cache, and links it.
fn load(compiler: &Compiler, path: &Path) -> Result<Handler, Failure> {
    handler(&compiler.load(path)?, path)
}

/// Checks that a component, which was read from `path`, can be served if it is compiled.
pub(super) fn check(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let compiler = Compiler::for_server()?;
    handler(&compiler.compiled(path, bytes)?, path).map(drop)
}

/// Links a component to this host.
fn handler(component: &Component, path: &Path) -> Result<Handler, Failure> {
    let mut linker = linker(component).map_err(|error| link::no_linker(&error))?;
    link::link_for(Purpose::Serve, component, path, &mut linker, Handler::of)
}

#[derive(Serialize)]
struct Serving<'a> {
    listen: SocketAddr,
    routes: Vec<ShownRoute<'a>>,
    store: String,
    /// Where the data is, if it is in a file or directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// What a failover of the store's servers can lose.
    #[serde(skip_serializing_if = "Option::is_none")]
    failover_loss: Option<&'static str>,
}

#[derive(Serialize)]
struct ShownRoute<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    path: &'a str,
    component: &'a str,
    wasm: String,
    #[serde(skip)]
    route: String,
}

impl<'a> ShownRoute<'a> {
    fn new(planned: &'a Planned, route: &'a Route) -> Self {
        Self {
            host: route.host(),
            path: route.path(),
            component: planned.id.as_str(),
            wasm: json_path(&planned.wasm),
            route: route.to_string(),
        }
    }
}
