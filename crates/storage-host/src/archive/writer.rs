//! Writes the lines of an archive.

use std::io::{self, Write};

use serde::Serialize;
use sha2::{Digest, Sha256};
use storage_core::{Usage, split_full_key};

use super::lines::{self, Header, KeyLine, Totals};

/// Writes an archive. It is complete only after [`finish`](Self::finish).
pub(super) struct ArchiveWriter<'a> {
    out: Hashed<'a>,
    totals: Totals,
    /// What was written since the last checkpoint.
    block: Usage,
    component: String,
}

impl<'a> ArchiveWriter<'a> {
    /// Writes the header.
    pub(super) fn begin(out: &'a mut dyn Write, header: &Header) -> io::Result<Self> {
        let out = Hashed { out, buffer: Vec::new(), hash: Sha256::new(), bytes: 0 };
        let (totals, block) = (Totals::default(), Usage::default());
        let mut writer = Self { out, totals, block, component: String::new() };
        writer.line(header)?;
        Ok(writer)
    }

    /// Writes a key that follows the previous one in byte order.
    pub(super) fn key(&mut self, full_key: &str, value: &[u8]) -> io::Result<()> {
        let prefix = split_full_key(full_key).0;
        if !prefix.is_empty() && prefix != self.component {
            prefix.clone_into(&mut self.component);
            self.totals.components += 1;
        }
        self.line(&KeyLine::new(full_key, value))?;
        let usage = Usage::of(full_key, value.len());
        self.totals.usage = self.totals.usage + usage;
        self.block = self.block + usage;
        if lines::is_full(self.block) {
            self.block = Usage::default();
            let digest = self.out.digest()?;
            let line = lines::checkpoint(self.totals.usage.keys, &digest);
            self.out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// Writes the last line, and everything to the output.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let digest = self.out.digest()?;
        self.out.write_all(lines::end(&self.totals, &digest).as_bytes())?;
        self.out.flush()
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The bytes of the lines.
    pub(super) fn bytes(&self) -> u64 {
        self.out.bytes
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

/// How many bytes are hashed and written at a time.
const BUFFER: usize = 64 << 10;

/// An output whose bytes are hashed.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    hash: Sha256,
    /// With those in the buffer.
    bytes: u64,
}

impl Hashed<'_> {
    fn empty_buffer(&mut self) -> io::Result<()> {
        self.hash.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// The hash of all bytes so far.
    fn digest(&mut self) -> io::Result<[u8; 32]> {
        self.empty_buffer()?;
        Ok(self.hash.clone().finalize().into())
    }
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len().saturating_add(bytes.len()) > BUFFER {
            self.empty_buffer()?;
        }
        if bytes.len() > BUFFER {
            self.hash.update(bytes);
            self.out.write_all(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.empty_buffer()?;
        self.out.flush()
    }
}
