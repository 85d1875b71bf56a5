//! `wasi:config` and `wasi:logging`.

use std::sync::{Arc, LazyLock};

use storage_core::conformance::ReferenceStorage;
use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::Store;
use storage_host::wasmtime::component::{Component, Linker, TypedFunc};
use storage_host::{ComponentConfig, ComponentSettings, StorageHost};
use tracing::Level;

use crate::log::Log;
use crate::raw::ENGINE;
use crate::runner::{Linkage, Runner, memory};

const ID: &str = "conformance/guest/1";

fn configured() -> StorageHost {
    let entries = [("greeting", "hello"), ("a name", "caf\u{e9}\n"), ("", "of no name"), ("z", "")];
    let config = ComponentConfig::new(entries).unwrap();
    let settings = ComponentSettings { config, ..ComponentSettings::default() };
    StorageHost::builder(Arc::new(ReferenceStorage::new()))
        .component(ID.parse().unwrap(), settings)
        .build()
}

#[test]
fn a_component_reads_its_configuration_and_logs() {
    reads_and_logs(Linkage::Sync);
    #[cfg(feature = "async")]
    reads_and_logs(Linkage::Async);
}

fn reads_and_logs(linkage: Linkage) {
    let runner = Runner::with(linkage, configured(), "config-logging");
    let mut table = String::new();
    let log = Log::at(Level::TRACE, || table = runner.printed(ID, &[]));
    let log = log.replace(&"m".repeat(4_096), "[4,096 m]").replace(&"c".repeat(256), "[256 c]");
    let lines = log.lines().filter(|line| line.contains("storage_host::guest_log"));
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("config_logging", table);
        insta::assert_snapshot!("config_logging_log", lines.collect::<Vec<_>>().join("\n"));
    });
}

#[test]
fn a_component_has_no_other_configuration() {
    let runner = Runner::new(configured(), "config-logging");
    for id in ["conformance/guest/2", "conformance/guest2/1"] {
        let mut table = String::new();
        // It logs, which is not read here.
        Log::at(Level::ERROR, || table = runner.printed(id, &[]));
        let counted = table.lines().filter(|line| line.contains("how many entries"));
        let counted: Vec<&str> = counted.collect();
        assert_eq!(counted.len(), 4, "{table}");
        assert!(counted.iter().all(|line| line.ends_with("host's choice: 0")), "{table}");
    }
}

/// Logs `line` under a level, as often as it is told.
const LOGGER: &str = r#"(component
  (import "wasi:logging/logging" (instance $logging
    (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
  (core module $memory (memory (export "memory") 1) (data (i32.const 16) "line"))
  (core instance $memory (instantiate $memory))
  (core func $log (canon lower (func $logging "log") (memory $memory "memory")))
  (core module $logger
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "log") (param $level i32) (param $times i32)
      (loop $next
        (call $log
          (local.get $level) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 4))
        (local.set $times (i32.sub (local.get $times) (i32.const 1)))
        (br_if $next (local.get $times)))))
  (core instance $logger (instantiate $logger
    (with "host" (instance (export "log" (func $log))))))
  (func (export "log") (param "level" u32) (param "times" u32)
    (canon lift (core func $logger "log"))))"#;

struct Logger {
    store: Store<ComponentState>,
    log: TypedFunc<(u32, u32), ()>,
}

impl Logger {
    fn new(host: &StorageHost, id: &str) -> Self {
        static COMPONENT: LazyLock<Component> =
            LazyLock::new(|| Component::new(&ENGINE, wat::parse_str(LOGGER).unwrap()).unwrap());
        let mut linker = Linker::new(&ENGINE);
        guest::add_to_linker(&mut linker, |state: &mut ComponentState| state).unwrap();
        let state = ComponentState::new(host.component(&id.parse().unwrap()));
        let mut store = guest::new_store(&ENGINE, state, |state| state);
        let instance = linker.instantiate(&mut store, &COMPONENT).unwrap();
        let log = instance.get_typed_func(&mut store, "log").unwrap();
        Self { store, log }
    }

    fn log(&mut self, level: u32, times: u32) {
        self.log.call(&mut self.store, (level, times)).unwrap();
    }
}

/// How many lines of a component were logged, and how many were reported as suppressed.
fn counted(log: &str, id: &str) -> (u64, u64) {
    let of_component = format!("component={id} ");
    let own = log.lines().filter(|line| format!("{line} ").contains(&of_component));
    own.fold((0, 0), |(lines, suppressed), line| match line.rsplit_once("suppressed=") {
        Some((_, number)) => (lines, suppressed + number.parse::<u64>().unwrap()),
        None => (lines + 1, suppressed),
    })
}

#[test]
fn every_line_of_a_flood_is_logged_or_counted() {
    const LINES: u32 = 20_000;
    let log = Log::at(Level::ERROR, || {
        let host = memory();
        // Two instances share what their component may log; the quiet one has its own.
        let (mut one, mut other) =
            (Logger::new(&host, "a/flood/1"), Logger::new(&host, "a/flood/1"));
        let mut quiet = Logger::new(&host, "a/quiet/1");
        one.log(4, LINES);
        quiet.log(4, 1);
        other.log(5, LINES);
    });
    let (lines, suppressed) = counted(&log, "a/flood/1");
    assert_eq!(lines + suppressed, 2 * u64::from(LINES));
    assert!(lines >= 100 && suppressed > 0, "{lines} lines, {suppressed} suppressed");
    assert_eq!(counted(&log, "a/quiet/1"), (1, 0));
}

#[test]
fn lines_that_no_one_reads_do_not_count() {
    let log = Log::at(Level::ERROR, || {
        let mut logger = Logger::new(&memory(), "a/chatty/1");
        for level in 0..=3 {
            logger.log(level, 1_000);
        }
        logger.log(4, 1);
    });
    assert_eq!(counted(&log, "a/chatty/1"), (1, 0), "{log}");
}
