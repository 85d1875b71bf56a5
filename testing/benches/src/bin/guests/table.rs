//! The tables of results.

use benches::measure::Rounds;
use benches::report::time;

use crate::cases::{Against, Case, target};
use crate::guest::{Dialect, Kind};
use crate::sides::Host;

/// What a side needed for a case.
pub(crate) struct Measured {
    pub(crate) host: Host,
    pub(crate) dialect: Dialect,
    pub(crate) rounds: Rounds,
}

/// The table of a case.
pub(crate) fn of(kind: Kind, case: &Case, measured: &[Measured]) -> String {
    let mut table = format!(
        "{case}:\n\n| host | interface | time | CPU time | by the floor | by a shared map | by wasmtime-wasi-keyvalue | by redb per call | target | |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    );
    for side in measured {
        let mut line = format!(
            "| {} | {} | {} | {} |",
            side.host,
            side.dialect.name(),
            time(side.rounds.wall()),
            time(side.rounds.cpu())
        );
        let mut targets = Vec::new();
        let mut met = true;
        for (against, name) in [
            (Against::Floor, "floor"),
            (Against::SharedMap, "shared map"),
            (Against::Peer, "wasmtime-wasi-keyvalue"),
            (Against::PerCall, "redb per call"),
        ] {
            let Some(other) = other_side(measured, side, against) else {
                line.push_str(" - |");
                continue;
            };
            // redb waits for other threads and for the disk, the others for nothing.
            let ratio = match against {
                Against::PerCall => side.rounds.by(&other.rounds),
                Against::Floor | Against::SharedMap | Against::Peer => {
                    side.rounds.cpu_by(&other.rounds)
                }
            };
            line.push_str(&format!(
                " {:.2} ({:.2} to {:.2}) |",
                ratio.median, ratio.low, ratio.high
            ));
            if let Some(most) = target(kind, case, side.host, side.dialect, against) {
                met &= ratio.median <= most;
                targets.push(format!("{most:.2} {name}"));
            }
        }
        let result = match (targets.is_empty(), met) {
            (true, _) => "",
            (false, true) => "met",
            (false, false) => "MISSED",
        };
        let targets = if targets.is_empty() { "-".to_owned() } else { targets.join(", ") };
        table.push_str(&format!("{line} {targets} | {result} |\n"));
    }
    table
}

/// The side that another one is compared with.
fn other_side<'a>(
    measured: &'a [Measured],
    side: &Measured,
    against: Against,
) -> Option<&'a Measured> {
    let find = |host: Host, dialect: Dialect| {
        measured.iter().find(|other| other.host == host && other.dialect == dialect)
    };
    match (against, side.host) {
        (Against::Floor, Host::Floor) | (Against::Peer, Host::Floor | Host::Peer) => None,
        (Against::Floor, _) => find(Host::Floor, side.dialect),
        (Against::SharedMap, Host::Memory) => find(Host::SharedMap, side.dialect),
        (Against::Peer, Host::Memory) => find(Host::Peer, Dialect::Draft),
        (Against::PerCall, Host::RedbRelaxed) => find(Host::PerCallRelaxed, Dialect::Draft),
        (Against::PerCall, Host::RedbSync) => find(Host::PerCallSync, Dialect::Draft),
        (Against::SharedMap | Against::Peer | Against::PerCall, _) => None,
    }
}
