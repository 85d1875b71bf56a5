//! Makes the storage call given as arguments. The host's tests use it to see
//! limits, errors, traps and exit codes from inside a component.
//!
//! Its output is stable. An error of the store is one line on standard error,
//! `error: VARIANT: TEXT` (`quota-exceeded` has no text), and exit code 1.

#![forbid(unsafe_code)]

use std::io::Write;

use command::{Failure, StorageError, storage, variant_name};

const USAGE: &str = "\
usage: probe COMMAND

  get KEY             print `value TEXT`, or `no value`
  set KEY VALUE       store VALUE
  set-size KEY BYTES  store a value of BYTES bytes, each an x
  delete KEY          delete KEY
  exists KEY          print true or false
  list [PREFIX]       print the keys, one a line
  usage               print used-bytes, quota-bytes and key-count
  fill COUNT          store COUNT keys fill/00000000, fill/00000001, ... with
                      the value x, and print how many were stored
  trap                store the key before-trap, then trap
  exit N              end with code N";

/// The key that `trap` writes before it traps.
const BEFORE_TRAP: &str = "before-trap";

fn main() {
    command::run("probe", |args, out| match args {
        ["get", key] => match on_error(storage::get(key)) {
            Some(value) => {
                out.write_all(b"value ")?;
                out.write_all(&value)?;
                Ok(writeln!(out)?)
            }
            None => Ok(writeln!(out, "no value")?),
        },
        ["set", key, value] => {
            on_error(storage::set(key, value.as_bytes()));
            Ok(writeln!(out, "set")?)
        }
        ["set-size", key, bytes] => {
            on_error(storage::set(key, &vec![b'x'; number(bytes)?]));
            Ok(writeln!(out, "set")?)
        }
        ["delete", key] => {
            on_error(storage::delete(key));
            Ok(writeln!(out, "deleted")?)
        }
        ["exists", key] => Ok(writeln!(out, "{}", on_error(storage::exists(key)))?),
        ["list"] => list(None, out),
        ["list", prefix] => list(Some(prefix), out),
        ["usage"] => {
            let usage = on_error(storage::usage());
            writeln!(out, "used-bytes {}", usage.used_bytes)?;
            writeln!(out, "quota-bytes {}", usage.quota_bytes)?;
            Ok(writeln!(out, "key-count {}", usage.key_count)?)
        }
        ["fill", count] => fill(number(count)?, out),
        ["trap"] => {
            on_error(storage::set(BEFORE_TRAP, b"written"));
            writeln!(out, "set {BEFORE_TRAP}")?;
            out.flush()?;
            // In WebAssembly an abort is a trap.
            std::process::abort()
        }
        ["exit", code] => command::exit(number(code)?),
        _ => Err(Failure::usage(format!("unknown command\n{USAGE}"))),
    })
}

fn list(prefix: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    for key in on_error(storage::list_keys(prefix)) {
        writeln!(out, "{key}")?;
    }
    Ok(())
}

fn fill(count: u32, out: &mut dyn Write) -> Result<(), Failure> {
    for index in 0..count {
        let result = storage::set(&format!("fill/{index:08}"), b"x");
        if result.is_err() {
            writeln!(out, "filled {index}")?;
            out.flush()?;
        }
        on_error(result);
    }
    Ok(writeln!(out, "filled {count}")?)
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, Failure> {
    text.parse().map_err(|_| Failure::usage(format!("{text:?} is not a number in range\n{USAGE}")))
}

/// Returns the value of a call, or reports the error and exits.
fn on_error<T>(result: Result<T, StorageError>) -> T {
    let error = match result {
        Ok(value) => return value,
        Err(error) => error,
    };
    let mut line = format!("error: {}", variant_name(&error));
    match error {
        StorageError::NotFound(text)
        | StorageError::AlreadyExists(text)
        | StorageError::InvalidKey(text)
        | StorageError::IoError(text) => {
            line.push_str(": ");
            line.push_str(&text);
        }
        StorageError::QuotaExceeded => {}
    }
    let _ = writeln!(std::io::stderr(), "{line}");
    command::exit(1)
}
