//! The interfaces that this host provides to a component, and what helps if one is missing.

use semver::Version;
use storage_host::guest;

/// The interfaces of WASI, by package, in every release of 0.2.
const WASI: [(&str, &[&str]); 6] = [
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"]),
    ("wasi:filesystem", &["types", "preopens"]),
    ("wasi:io", &["error", "poll", "streams"]),
    ("wasi:random", &["random", "insecure", "insecure-seed"]),
    (
        "wasi:sockets",
        &[
            "network",
            "instance-network",
            "ip-name-lookup",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
];

/// The series of releases of WASI, as messages name it.
const WASI_SERIES: &str = "0.2";
const FIRST_OF_WASI: Version = Version::new(0, 2, 0);

/// A provided interface.
struct Interface {
    /// The package and the interface: `wasi:cli/exit`.
    path: String,
    version: Version,
    /// With its version, as messages name it.
    name: String,
}

fn interfaces() -> impl Iterator<Item = Interface> {
    let storage = guest::interfaces().filter_map(|name| {
        let (path, version) = parse(&name);
        Some(Interface { path: path.to_owned(), version: version?, name })
    });
    let wasi = WASI.iter().flat_map(|(package, interfaces)| {
        interfaces.iter().map(move |interface| Interface {
            path: format!("{package}/{interface}"),
            version: FIRST_OF_WASI,
            name: format!("{package}/{interface}@{WASI_SERIES}"),
        })
    });
    storage.chain(wasi)
}

/// The path of an import and its version, if it has a valid one.
fn parse(import: &str) -> (&str, Option<Version>) {
    match import.split_once('@') {
        Some((path, version)) => (path, Version::parse(version).ok()),
        None => (import, None),
    }
}

/// Whether this host provides an interface, perhaps without all requested functions.
pub(super) fn provides(import: &str) -> bool {
    // One of them has no version.
    if guest::provides(import) {
        return true;
    }
    let (path, Some(version)) = parse(import) else { return false };
    interfaces().any(|known| known.path == path && is_compatible(&known.version, &version))
}

/// Whether the linker matches the two versions: a draft or a release candidate only with
/// itself, a release with all others that are compatible by the rules of semantic versions.
fn is_compatible(known: &Version, wanted: &Version) -> bool {
    if !known.pre.is_empty() || !wanted.pre.is_empty() {
        return known == wanted;
    }
    let series = |version: &Version| match (version.major, version.minor) {
        (0, 0) => (0, 0, version.patch),
        (0, minor) => (0, minor, 0),
        (major, _) => (major, 0, 0),
    };
    series(known) == series(wanted)
}

/// Whether an import is of `wasi:http` 0.2, whose functions end the component.
pub(super) fn is_http(import: &str) -> bool {
    let (path, version) = parse(import);
    path.starts_with("wasi:http/")
        && version.is_some_and(|version| is_compatible(&FIRST_OF_WASI, &version))
}

/// Whether an export is the one that `run` calls.
pub(super) fn is_run(export: &str) -> bool {
    let (path, version) = parse(export);
    path == "wasi:cli/run" && version.is_some_and(|found| is_compatible(&FIRST_OF_WASI, &found))
}

/// Whether an export is the one that `serve` calls.
pub(super) fn is_incoming_handler(export: &str) -> bool {
    is_http(export) && parse(export).0 == "wasi:http/incoming-handler"
}

/// The provided interface with the same name whose version is nearest.
pub(super) fn nearest(import: &str) -> Vec<String> {
    let (path, version) = parse(import);
    let same: Vec<Interface> = interfaces().filter(|known| known.path == path).collect();
    nearest_version(&same, version.as_ref()).into_iter().map(|one| one.name.clone()).collect()
}

/// The interfaces whose functions are `async`, with their version. `run` is a synchronous host.
const ASYNCHRONOUS: [(&str, Version); 6] = [
    ("spin:key-value/key-value", Version::new(3, 0, 0)),
    ("wasmcloud:keyvalue/types", Version::new(0, 2, 0)),
    ("wasmcloud:keyvalue/store", Version::new(0, 2, 0)),
    ("wasmcloud:keyvalue/atomics", Version::new(0, 2, 0)),
    ("wasmcloud:keyvalue/cas", Version::new(0, 2, 0)),
    ("wasmcloud:keyvalue/batch", Version::new(0, 2, 0)),
];

/// What a component needs that imports an interface with `async` functions.
pub(super) const ASYNC_HOST: &str = "an asynchronous host with the feature p3 of storage-host";

/// Whether a host with an asynchronous linker and the feature `p3` has an interface that `run`
/// does not have.
pub(super) fn needs_async(import: &str) -> bool {
    let (path, Some(version)) = parse(import) else { return false };
    ASYNCHRONOUS.iter().any(|(known, has)| *known == path && is_compatible(has, &version))
}

/// The latest version up to the wanted one, else the earliest above it.
fn nearest_version<'a>(
    interfaces: &'a [Interface],
    wanted: Option<&Version>,
) -> Option<&'a Interface> {
    let up_to =
        interfaces.iter().filter(|known| wanted.is_none_or(|wanted| known.version <= *wanted));
    up_to
        .max_by(|a, b| a.version.cmp(&b.version))
        .or_else(|| interfaces.iter().min_by(|a, b| a.version.cmp(&b.version)))
}

/// The names of all provided interfaces.
pub(super) fn names() -> Vec<String> {
    let wasi = WASI.iter().flat_map(|(package, interfaces)| {
        interfaces.iter().map(move |interface| format!("{package}/{interface}@{WASI_SERIES}"))
    });
    guest::interfaces().chain(wasi).collect()
}

/// All provided interfaces, those of a package of WASI in one line.
pub(super) fn lines() -> Vec<String> {
    let wasi = WASI
        .iter()
        .map(|(package, interfaces)| format!("{package}@{WASI_SERIES}: {}", interfaces.join(", ")));
    guest::interfaces().chain(wasi).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_a_series_are_provided_and_drafts_only_exactly() {
        for import in [
            "airssys:core/storage@1.0.0",
            "airssys:core/storage@1.2.3",
            "airssys:storage/extended@0.1.9",
            "wasi:keyvalue/store@0.2.0-draft",
            "wasi:keyvalue/batch@0.2.0-draft2",
            "wasi:cli/exit@0.2.12",
        ] {
            assert!(provides(import), "{import}");
        }
        for import in [
            "airssys:core/storage",
            "airssys:core/storage@2.0.0",
            "airssys:core/storage@1",
            "airssys:storage/extended@0.2.0",
            "wasi:keyvalue/store@0.2.0",
            "wasi:keyvalue/store@0.2.0-draft3",
            "wasi:cli/exit@0.2.0-rc-2023-12-05",
            "wasi:cli/exit@0.3.0",
            "wasi:cli/exi@0.2.0",
            "exit",
        ] {
            assert!(!provides(import), "{import}");
        }
    }

    #[test]
    fn every_interface_of_storage_is_provided() {
        let missing: Vec<_> = guest::interfaces().filter(|name| !provides(name)).collect();
        assert_eq!((guest::interfaces().count(), missing), (15, Vec::<String>::new()));
    }

    #[test]
    fn the_nearest_is_another_version_of_the_same_interface() {
        for (import, nearest_names) in [
            ("airssys:core/storage@2.0.0", &["airssys:core/storage@1.0.0"][..]),
            ("airssys:core/storage", &["airssys:core/storage@1.0.0"]),
            ("wasi:keyvalue/store@0.2.0-draft9", &["wasi:keyvalue/store@0.2.0-draft2"]),
            ("wasi:keyvalue/store@0.1.0", &["wasi:keyvalue/store@0.2.0-draft"]),
            ("wasi:keyvalue/store", &["wasi:keyvalue/store@0.2.0-draft2"]),
            ("wasi:cli/exit@0.2.0-rc-2023-12-05", &["wasi:cli/exit@0.2"]),
            ("wasi:cli/exit@0.3.0", &["wasi:cli/exit@0.2"]),
            // Others of the package do something else.
            ("wasi:keyvalue/watcher@0.2.0-draft2", &[]),
            ("wasi:clocks/timezone@0.2.0", &[]),
            ("wasi:clo/timezone@0.2.0", &[]),
            ("acme:gpu/compute@1.0.0", &[]),
            ("go", &[]),
        ] {
            assert_eq!(nearest(import), nearest_names, "{import}");
        }
    }

    #[test]
    fn interfaces_of_asynchronous_hosts_are_known() {
        for (path, version) in ASYNCHRONOUS {
            let import = format!("{path}@{version}");
            assert!(needs_async(&import) && !provides(&import), "{import}");
            #[cfg(feature = "p3")]
            assert!(guest::provides_async(&import), "{import}");
        }
        for import in [
            "spin:key-value/key-value@2.0.0",
            "wasmcloud:keyvalue/watcher@0.2.0",
            "wasmcloud:keyvalue/store@0.1.0",
            "wasmcloud:keyvalue/store",
        ] {
            assert!(!needs_async(import), "{import}");
        }
    }
}
