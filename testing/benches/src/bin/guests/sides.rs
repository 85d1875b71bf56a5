//! The hosts that are compared.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use benches::measure::{self, Side as Turn};
use benches::{Engine, Size};
use storage_core::Store as Storage;
use storage_host::guest::{self as host_guest, ComponentState};
use storage_host::{Mode, StorageHost, StoreUrl};
use wasmtime::Store;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi_keyvalue::{WasiKeyValue, WasiKeyValueCtx, WasiKeyValueCtxBuilder};

use crate::cases::Case;
use crate::guest::{Dialect, Guests, Kind, Operation, Run, failed, start};
use crate::table::Measured;
use crate::{floor, per_call, shared_map};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// Functions that return a constant.
    Floor,
    /// One map behind one lock, for the functions of single keys.
    SharedMap,
    /// wasmtime-wasi-keyvalue.
    Peer,
    /// redb, with a transaction for each call, of which none waits for the disk.
    PerCallRelaxed,
    /// redb, with a transaction for each call, which syncs.
    PerCallSync,
    /// Ours, over the memory store.
    Memory,
    /// Ours, over redb that syncs at intervals.
    RedbRelaxed,
    /// Ours, over redb that syncs each write.
    RedbSync,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "a constant",
            Self::SharedMap => "a shared map",
            Self::Peer => "wasmtime-wasi-keyvalue",
            Self::PerCallRelaxed => "redb per call, relaxed",
            Self::PerCallSync => "redb per call, sync",
            Self::Memory => "**ours**, memory",
            Self::RedbRelaxed => "**ours**, redb relaxed",
            Self::RedbSync => "**ours**, redb sync",
        })
    }
}

impl Host {
    /// Whether the calls wait for the disk. Then only writes are measured: reads do not.
    fn syncs(self) -> bool {
        matches!(self, Self::PerCallSync | Self::RedbSync)
    }

    fn has(self, operation: Operation) -> bool {
        let single = matches!(operation, Operation::Get | Operation::Exists | Operation::Set);
        self != Self::SharedMap || single
    }
}

const SIDES: &[(Host, Dialect)] = &[
    (Host::Floor, Dialect::Core),
    (Host::Floor, Dialect::Extended),
    (Host::Floor, Dialect::Draft),
    (Host::Floor, Dialect::Draft2),
    (Host::SharedMap, Dialect::Core),
    (Host::Peer, Dialect::Draft),
    (Host::Memory, Dialect::Core),
    (Host::Memory, Dialect::Extended),
    (Host::Memory, Dialect::Draft),
    (Host::Memory, Dialect::Draft2),
    (Host::PerCallRelaxed, Dialect::Draft),
    (Host::RedbRelaxed, Dialect::Core),
    (Host::RedbRelaxed, Dialect::Draft),
    (Host::PerCallSync, Dialect::Draft),
    (Host::RedbSync, Dialect::Core),
    (Host::RedbSync, Dialect::Draft),
];

/// About how long a turn takes.
const TURN: Duration = Duration::from_millis(2);

struct Side {
    host: Host,
    dialect: Dialect,
    run: Run,
}

/// All hosts, each with a guest.
pub(crate) struct Sides(Vec<Side>);

impl Sides {
    /// Starts a guest for each side. `directory` is for the stores' files.
    pub(crate) fn open(guests: &Guests, kind: Kind, directory: &Path) -> Result<Self> {
        fs::create_dir(directory)?;
        let mut sides = Vec::new();
        for (number, (host, dialect)) in SIDES.iter().enumerate() {
            let Some(component) = guests.component(kind, *dialect) else { continue };
            let file = directory.join(format!("{number}.redb"));
            let engine = &guests.engine;
            let run = match host {
                Host::Floor => {
                    let (linker, store) = floor::host(engine).map_err(failed)?;
                    start(linker, store, component, *dialect, floor::Constants::resize)
                }
                Host::SharedMap => {
                    let (linker, store) = shared_map::host(engine).map_err(failed)?;
                    start(linker, store, component, *dialect, |_, _| ())
                }
                Host::Peer => {
                    let (linker, store) = peer(engine).map_err(failed)?;
                    start(linker, store, component, *dialect, |_, _| ())
                }
                Host::PerCallRelaxed | Host::PerCallSync => {
                    let (linker, store) =
                        per_call::host(engine, &file, host.syncs()).map_err(failed)?;
                    start(linker, store, component, *dialect, |_, _| ())
                }
                Host::Memory => {
                    let url: StoreUrl = "memory:".parse()?;
                    let (linker, store) = ours(engine, url.open(Mode::ReadWrite)?)?;
                    start(linker, store, component, *dialect, |_, _| ())
                }
                Host::RedbRelaxed | Host::RedbSync => {
                    let (linker, store) = ours(engine, Engine::Redb.open(&file, host.syncs())?)?;
                    start(linker, store, component, *dialect, |_, _| ())
                }
            };
            let run = run.with_context(|| format!("{host}, {}", dialect.name()))?;
            sides.push(Side { host: *host, dialect: *dialect, run });
        }
        Ok(Self(sides))
    }

    /// Measures a case on every side that has the operation.
    pub(crate) fn measure(&mut self, case: &Case, size: Size) -> Result<Vec<Measured>> {
        let Case { operation, bytes } = *case;
        let writes = matches!(operation, Operation::Set | Operation::Increment);
        let mut measured: Vec<&mut Side> = self
            .0
            .iter_mut()
            .filter(|side| side.dialect.has(operation) && side.host.has(operation))
            .filter(|side| writes || !side.host.syncs())
            .collect();
        let mut counts = Vec::new();
        for side in &mut measured {
            (side.run)(Operation::Prepare, 1, bytes)?;
            counts.push(calls_per_turn(&mut side.run, case)?);
        }
        let mut turns: Vec<_> = measured
            .iter_mut()
            .map(|side| |numbers: Range<usize>| (side.run)(operation, numbers.len(), bytes))
            .collect();
        let mut turns: Vec<(usize, Turn<'_>)> =
            counts.into_iter().zip(turns.iter_mut().map(|turn| turn as Turn<'_>)).collect();
        let rounds = measure::in_turns(size.pick(101, 11), &mut turns)?;
        drop(turns);
        Ok(measured
            .into_iter()
            .zip(rounds)
            .map(|(side, rounds)| Measured { host: side.host, dialect: side.dialect, rounds })
            .collect())
    }
}

/// The number of calls that take about [`TURN`].
fn calls_per_turn(run: &mut Run, case: &Case) -> Result<usize> {
    let mut calls = 16;
    loop {
        let begun = Instant::now();
        run(case.operation, calls, case.bytes)?;
        let took = begun.elapsed();
        if took * 4 >= TURN {
            let calls = (calls as f64 * TURN.div_duration_f64(took)) as usize;
            return Ok(calls.max(4));
        }
        calls *= 4;
    }
}

struct Peer {
    keyvalue: WasiKeyValueCtx,
    table: ResourceTable,
}

/// wasmtime's own implementation: a hash map for each handle.
fn peer(engine: &wasmtime::Engine) -> wasmtime::Result<(Linker<Peer>, Store<Peer>)> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi_keyvalue::add_to_linker(&mut linker, |peer: &mut Peer| {
        WasiKeyValue::new(&peer.keyvalue, &mut peer.table)
    })?;
    let keyvalue = WasiKeyValueCtxBuilder::new().build();
    let peer = Peer { keyvalue, table: ResourceTable::new() };
    Ok((linker, Store::new(engine, peer)))
}

/// Ours, with the settings of a host that sets none.
fn ours(
    engine: &wasmtime::Engine,
    storage: Arc<dyn Storage>,
) -> Result<(Linker<ComponentState>, Store<ComponentState>)> {
    let host = StorageHost::new(storage);
    let mut linker = Linker::new(engine);
    host_guest::add_to_linker(&mut linker, |state| state).map_err(failed)?;
    let state = ComponentState::new(host.component(&"app/bench/main".parse()?));
    Ok((linker, host_guest::new_store(engine, state, |state| state)))
}
