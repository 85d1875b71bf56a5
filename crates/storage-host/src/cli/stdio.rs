//! Standard input and output. Closed streams are errors.
//!
//! The standard library replaces a closed standard stream with `/dev/null` before `main`,
//! and treats the error of a stream with the wrong access mode as the end of the input or
//! as success.

use std::io::{self, Read, Write};

use super::failure::Failure;

/// Standard input. Fails if it is closed, and then says what to do `instead`, or if it is
/// not open for reading.
pub(super) fn input(instead: &str) -> Result<impl Read + use<>, Failure> {
    if started::is_closed(started::INPUT) {
        return Err(not_read(&format_args!("it is closed; {instead}")));
    }
    if started::has_mode(started::INPUT, started::WRITE_ONLY) {
        return Err(not_read(&"it is open only for writing"));
    }
    #[cfg(unix)]
    return as_file(&io::stdin()).map_err(|error| not_read(&error));
    #[cfg(not(unix))]
    Ok(io::stdin())
}

/// Why standard input was not read.
pub(super) fn not_read(why: &dyn std::fmt::Display) -> Failure {
    Failure::new("io", format!("cannot read standard input: {why}"))
}

/// Standard output. If it cannot be written to, every write fails with the reason.
pub(super) fn output() -> Box<dyn Write> {
    #[cfg(unix)]
    let output = check_output().and_then(|()| as_file(&io::stdout()));
    #[cfg(not(unix))]
    let output = check_output().map(|()| io::stdout());
    match output {
        Ok(output) => Box::new(output),
        Err(error) => Box::new(Unwritable(error.to_string())),
    }
}

/// Fails if standard output is closed or not open for writing.
pub(super) fn check_output() -> io::Result<()> {
    if started::is_closed(started::OUTPUT) {
        return Err(io::Error::other("standard output is closed"));
    }
    if started::has_mode(started::OUTPUT, started::READ_ONLY) {
        return Err(io::Error::other("standard output is open only for reading"));
    }
    Ok(())
}

/// The same open file, without the standard library's handling of errors.
#[cfg(unix)]
fn as_file(stream: &impl std::os::fd::AsFd) -> io::Result<std::fs::File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// An unwritable standard output, with the reason.
struct Unwritable(String);

impl Write for Unwritable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() { Ok(0) } else { Err(io::Error::other(self.0.clone())) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The state of the streams when the process was started.
#[cfg(target_os = "linux")]
mod started {
    use std::os::fd::BorrowedFd;
    use std::sync::atomic::{AtomicU8, Ordering};

    use rustix::fs::OFlags;

    pub(super) const INPUT: u8 = 1;
    pub(super) const OUTPUT: u8 = 2;
    pub(super) const READ_ONLY: OFlags = OFlags::RDONLY;
    pub(super) const WRITE_ONLY: OFlags = OFlags::WRONLY;

    static CLOSED: AtomicU8 = AtomicU8::new(0);

    /// Runs before the standard library replaces closed streams, so it may use only system
    /// calls.
    #[ctor::ctor]
    fn look() {
        let closed = [INPUT, OUTPUT]
            .into_iter()
            .filter(|one| rustix::io::fcntl_getfd(stream(*one)).is_err());
        CLOSED.store(closed.sum(), Ordering::Relaxed);
    }

    fn stream(which: u8) -> BorrowedFd<'static> {
        if which == INPUT { rustix::stdio::stdin() } else { rustix::stdio::stdout() }
    }

    pub(super) fn is_closed(which: u8) -> bool {
        CLOSED.load(Ordering::Relaxed) & which != 0
    }

    pub(super) fn has_mode(which: u8, mode: OFlags) -> bool {
        rustix::fs::fcntl_getfl(stream(which)).is_ok_and(|flags| flags & OFlags::RWMODE == mode)
    }
}

/// Not known on other systems.
#[cfg(not(target_os = "linux"))]
mod started {
    pub(super) const INPUT: u8 = 1;
    pub(super) const OUTPUT: u8 = 2;
    pub(super) const READ_ONLY: u8 = 0;
    pub(super) const WRITE_ONLY: u8 = 1;

    pub(super) fn is_closed(_which: u8) -> bool {
        false
    }

    pub(super) fn has_mode(_which: u8, _mode: u8) -> bool {
        false
    }
}
