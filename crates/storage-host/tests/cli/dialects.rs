//! Components that were built for other hosts.

use crate::support::{TestDir, guest};

/// A manifest with the configuration of one of two components.
fn configured() -> TestDir {
    let dir = TestDir::new();
    let guest = guest("config-logging");
    let manifest = format!(
        r#"
store = "memory:"

[[component]]
id = "app/report/1"
wasm = "{guest}"
config = {{ title = "Report", rows = "20" }}

[[component]]
id = "app/report/2"
wasm = "{guest}"
"#
    );
    dir.file("storage.toml", manifest.as_bytes());
    dir
}

#[test]
fn a_component_reads_the_configuration_of_its_manifest() {
    let dir = configured();
    let run = |id: &str| {
        let table = dir.run(&["run", "--config", "storage.toml", id]).stdout;
        let lines = table.lines().filter(|line| line.contains("entries") || line.contains("entry"));
        // The four names of the interface have the same.
        lines.take(3).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let report: Vec<String> = run("app/report/1");
    assert_eq!(
        report,
        [
            "get-all store@0.2.0-draft: how many entries - host's choice: 2",
            "get the entry \"rows\" \"20\" \"20\"",
            "get the entry \"title\" \"Report\" \"Report\"",
        ]
    );
    let other: Vec<String> = run("app/report/2");
    assert!(other.iter().all(|line| line.ends_with("host's choice: 0")), "{other:?}");
}

#[test]
fn lines_of_a_component_are_logged_by_level() {
    let dir = configured();
    let logged = |level: &str, options: &[&str]| {
        let args = [options, &["run", "--config", "storage.toml", "app/report/1"]].concat();
        let output = dir.command(&args).env("STORAGE_HOST_LOG", level).output().unwrap();
        assert!(output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let lines = stderr.lines().filter(|line| line.contains("guest log"));
        lines.map(|line| format!("{}\n", line.trim_start())).collect::<String>()
    };
    let text = format!(
        "error:\n{}\nwarn, as JSON:\n{}",
        logged("error", &[]),
        logged("warn", &["--json"])
    );
    dir.assert_snapshot("guest_log", &text);
    assert_eq!(logged("off", &[]), "");
    // A forged line is a field of the line that contains it.
    let info = logged("info", &[]);
    assert!(!info.lines().any(|line| line.starts_with("ERROR two")), "{info}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_component_survives_a_log_that_cannot_be_written() {
    let dir = configured();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = dir.command(&["run", "--config", "storage.toml", "app/report/1"]);
    let output = command.stderr(full).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().ends_with(" as the specification asks\n"));
}

#[test]
fn a_component_of_spin_runs() {
    let dir = TestDir::new();
    let store = ["--store", "memory:", "run", "--id", "a/b/c"];
    let table = dir.printed(&[&store[..], &[&guest("spin2")]].concat());
    assert!(table.ends_with(" as the specification asks\n"), "{table}");
}
