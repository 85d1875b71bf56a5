//! The steps, one after the other.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::Arguments;
use crate::archive;
use crate::command::{Ran, Running, StorageHost};
use crate::content::Content;
use crate::damage;
use crate::guestbook::{self, Clients};
use crate::report;

/// Clients that sign the guestbook at once.
const CLIENTS: usize = 4;

/// Components in the archive that is damaged: a few, so that thousands of copies can be read.
const DAMAGED_COMPONENTS: u64 = 5;

/// The most resident memory of a command in KiB, whatever the size of the store.
const MOST_MEMORY: u64 = 256 << 10;

struct Drill {
    content: Content,
    command: StorageHost,
    directory: PathBuf,
    source: String,
    /// The export of the source while it was written to, and without writers.
    archive: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let temporary = TempDir::with_prefix("drill-")?;
    let directory = match &arguments.directory {
        Some(directory) => {
            fs::create_dir_all(directory)?;
            fs::canonicalize(directory)?
        }
        None => temporary.path().to_owned(),
    };
    let drill = Drill {
        content: Content::new(arguments.keys, arguments.components)?,
        command: StorageHost { program: arguments.command.clone(), directory: directory.clone() },
        source: format!("redb:{}", directory.join("source.redb").display()),
        archive: directory.join("archive.ndjson"),
        directory,
    };
    report::start();
    drill.fill()?;
    // The manifest has paths relative to itself.
    drill.export_while_guests_write(&fs::canonicalize(&arguments.guestbook)?)?;
    let mut targets = Vec::new();
    for engine in &arguments.engines {
        let path = drill.directory.join(format!("target-{engine}"));
        targets.push((engine.clone(), format!("{engine}:{}", path.display())));
    }
    if let Some(url) = &arguments.postgres {
        targets.push(("postgres".to_owned(), url.clone()));
    }
    for (number, (engine, url)) in targets.iter().enumerate() {
        drill.import(engine, url, number == 0)?;
    }
    drill.refuse_damage(arguments.damages)?;
    let (engine, url) = targets.first().context("no engine")?;
    drill.wipe_and_copy_back(engine, url)
}

impl Drill {
    fn fill(&self) -> Result<()> {
        let start = Instant::now();
        self.content.fill(&format!("{}?durability=relaxed", self.source))?;
        report::row("fill the store", start.elapsed(), Some(self.content.keys), None);
        self.verify("the filled store", &self.source)
    }

    /// Serves the guestbook, and exports the store while clients sign it.
    fn export_while_guests_write(&self, guestbook: &Path) -> Result<()> {
        let manifest = self.directory.join("drill.toml");
        fs::write(
            &manifest,
            format!(
                "store = {:?}\n[http]\nlisten = \"127.0.0.1:0\"\n[[component]]\nid = {:?}\n\
                 wasm = {:?}\nroutes = [{{ path = \"/\" }}]\n",
                self.source,
                guestbook::ID,
                guestbook.display().to_string()
            ),
        )?;
        let start = Instant::now();
        let mut server = self.command.start(&["--config", &text(&manifest), "serve"])?;
        let printed = server.wait_until(|printed| address(printed).is_some())?;
        let clients = Clients::start(address(&printed).context("no address")?, CLIENTS);
        while clients.acknowledged() < 100 {
            ensure!(server.look()?.is_none(), "the server ended");
            thread::yield_now();
        }
        let before = clients.acknowledged();
        let exported = self.export("export while guests write", &self.source, &self.archive)?;
        let after = clients.acknowledged();
        let entries = archive::check(&self.archive, self.content)?;
        ensure!(
            (before..=after + CLIENTS as u64).contains(&entries),
            "the archive has {entries} entries; {before} were there before, {after} after"
        );
        ensure!(after > before, "no guest wrote during the export");
        let signed = clients.stop()?;
        let Ran { peak, .. } = end(server)?;
        report::row(
            &format!("serve: {signed} entries signed meanwhile"),
            start.elapsed(),
            None,
            Some(peak),
        );
        bounded("export", &exported)?;
        self.verify("the store after serve", &self.source)?;
        // Everything that was acknowledged is there.
        self.export("export without writers", &self.source, &self.archive)?;
        let entries = archive::check(&self.archive, self.content)?;
        ensure!(entries == signed, "{signed} entries were acknowledged and {entries} are there");
        Ok(())
    }

    /// Imports the archive into a new store, and compares what is there.
    fn import(&self, engine: &str, url: &str, with_kill: bool) -> Result<()> {
        let archive = text(&self.archive);
        let mut step = format!("import into {engine}");
        if with_kill {
            self.kill_import(url, &archive)?;
            step.push_str(", again after kill -9 in the middle");
        }
        let ran = self.command.succeed(&["--store", url, "import", &archive])?;
        report::row(&step, ran.took, Some(self.content.keys), Some(ran.peak));
        if with_kill {
            ensure!(ran.stdout.contains("unchanged"), "nothing was kept: {}", ran.stdout);
        }
        bounded("import", &ran)?;
        self.verify(engine, url)?;
        self.compare(engine, url)
    }

    /// Kills an import in the middle: once a part of the keys is there durably.
    fn kill_import(&self, url: &str, archive: &str) -> Result<()> {
        for wait in (0..).map(|attempt| Duration::from_millis(20 * attempt)) {
            let mut import = self.command.start(&["--store", url, "import", archive])?;
            let path = PathBuf::from(url.split_once(':').context("no URL")?.1);
            // The first pass checks the archive, and writes nothing.
            while !path.exists() {
                ensure!(import.look()?.is_none(), "the import ended before it was killed");
                thread::sleep(Duration::from_millis(2));
            }
            thread::sleep(wait);
            ensure!(import.look()?.is_none(), "the import ended before it was killed");
            import.kill()?;
            // Fails if the store was not created yet.
            let components = self.command.run(&["--store", url, "components"])?;
            if components.status.success() && !components.stdout.is_empty() {
                break;
            }
        }
        self.verify("the half imported store", url)
    }

    /// Exports a store, and compares it with the archive.
    fn compare(&self, engine: &str, url: &str) -> Result<()> {
        let copy = self.directory.join("copy.ndjson");
        self.export(&format!("export from {engine}"), url, &copy)?;
        archive::compare(&self.archive, &copy)?;
        Ok(())
    }

    fn export(&self, step: &str, url: &str, to: &Path) -> Result<Ran> {
        let ran = self.command.succeed(&["--store", url, "export", "-o", &text(to), "--force"])?;
        report::row(step, ran.took, Some(self.content.keys), Some(ran.peak));
        bounded(step, &ran)?;
        Ok(ran)
    }

    fn verify(&self, what: &str, url: &str) -> Result<()> {
        let ran = self.command.succeed(&["--store", url, "verify", "--strict"])?;
        report::row(&format!("verify {what}"), ran.took, Some(self.content.keys), Some(ran.peak));
        bounded("verify", &ran)
    }

    fn refuse_damage(&self, count: u64) -> Result<()> {
        let small = self.directory.join("small.ndjson");
        let some = DAMAGED_COMPONENTS.min(self.content.components);
        let ids: Vec<String> = (0..some).map(Content::id).collect();
        let (output, source) = (text(&small), self.source.as_str());
        let mut arguments = vec!["--store", source, "export", "-o", &output];
        arguments.extend(ids.iter().map(String::as_str));
        self.command.succeed(&arguments)?;
        let start = Instant::now();
        let peak = damage::try_all(&self.command, &small, count)?;
        let step = format!("refuse {count} wrong bytes and {count} truncated archives");
        report::row(&step, start.elapsed(), None, Some(peak));
        Ok(())
    }

    fn wipe_and_copy_back(&self, engine: &str, url: &str) -> Result<()> {
        let (id, source) = (Content::id(self.content.components / 2), self.source.as_str());
        let before = self.usage(&id)?;
        self.command.succeed(&["--store", source, "wipe", &id])?;
        ensure!(self.usage(&id)? == before, "wipe without --yes removed something");
        let ran = self.command.succeed(&["--store", source, "wipe", &id, "--yes"])?;
        report::row("wipe a component", ran.took, None, Some(ran.peak));
        ensure!(self.usage(&id)?.contains("\"key_count\":0"), "wipe left keys");
        self.verify("the store without it", source)?;
        let ran = self.command.succeed(&["copy", "--from", url, "--to", source, "--merge"])?;
        let step = format!("copy it back from {engine}");
        report::row(&step, ran.took, Some(self.content.keys), Some(ran.peak));
        bounded("copy", &ran)?;
        self.verify("the store with it", source)?;
        let ran = self.command.succeed(&["--store", source, "compact"])?;
        report::row("compact", ran.took, None, Some(ran.peak));
        self.verify("the compacted store", source)?;
        self.compare("the source", source)
    }

    fn usage(&self, id: &str) -> Result<String> {
        Ok(self.command.succeed(&["--store", &self.source, "--json", "usage", id])?.stdout)
    }
}

/// Ends the server as an operator does.
fn end(server: Running) -> Result<Ran> {
    server.terminate()?;
    let ran = server.wait()?;
    // 128 and the signal, or 0.
    ensure!(
        matches!(ran.status.code(), Some(0 | 143)),
        "serve ended with {}: {}",
        ran.status,
        ran.stderr
    );
    Ok(ran)
}

fn bounded(step: &str, ran: &Ran) -> Result<()> {
    ensure!(ran.peak <= MOST_MEMORY, "{step} used {} KiB of memory", ran.peak);
    Ok(())
}

/// The address in `http://127.0.0.1:8080`.
fn address(printed: &str) -> Option<SocketAddr> {
    let rest = printed.split("http://").nth(1)?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
    rest.get(..end)?.trim_end_matches(['.', ':']).parse().ok()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
