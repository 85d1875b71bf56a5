//! A command that keeps a stock of items. Any number of instances may run at the same
//! time.
//!
//! Its functions take a trait, so the tests below call them without a host. The built
//! component is `examples/guests/stock.wasm` in the repository.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use storage_guest::{Atomic, Extended, Keyvalue, Store, Transactional};

const USAGE: &str = "\
usage: stock [--keyvalue] COMMAND

  receive ITEM COUNT      add COUNT pieces of an item
  sell ITEM               sell a piece, if there is one
  move FROM TO COUNT      turn pieces of an item into another
  list                    show the items
  count                   show the number of items, and of sold pieces

  --keyvalue              use wasi:keyvalue, which cannot move";

const SOLD: &str = "sold";

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Item {
    left: u64,
    sold: u64,
}

fn key(item: &str) -> String {
    format!("item/{item}")
}

/// Adds pieces and returns how many there are.
fn receive(store: &impl Atomic, item: &str, count: u32) -> Result<u64, Box<dyn Error>> {
    let item = store.update_json(&key(item), |item: Option<Item>| {
        let mut item = item.unwrap_or_default();
        item.left += u64::from(count);
        Some(item)
    })?;
    Ok(item.unwrap_or_default().left)
}

/// Sells a piece and returns how many are left.
fn sell(store: &impl Atomic, item: &str) -> Result<u64, Box<dyn Error>> {
    let sold = store.update_json(&key(item), |item: Option<Item>| {
        let mut item = item?;
        item.left = item.left.checked_sub(1)?;
        item.sold += 1;
        Some(item)
    })?;
    let Some(sold) = sold else { return Err(format!("{item} is sold out").into()) };
    store.increment(SOLD, 1)?;
    Ok(sold.left)
}

/// Moves pieces from one item to another. No instance sees them in both, or in none.
fn shift(
    store: &impl Transactional,
    from: &str,
    to: &str,
    count: u32,
) -> Result<(), Box<dyn Error>> {
    let (from_key, to_key) = (key(from), key(to));
    let moved = store.transaction(|keys| {
        let mut source: Item = keys.get_json(&from_key)?.unwrap_or_default();
        let Some(left) = source.left.checked_sub(count.into()) else { return Ok(false) };
        source.left = left;
        keys.set_json(&from_key, &source)?;
        // Read after the write, because both may be the same item.
        let mut target: Item = keys.get_json(&to_key)?.unwrap_or_default();
        target.left += u64::from(count);
        keys.set_json(&to_key, &target)?;
        Ok(true)
    })?;
    if moved { Ok(()) } else { Err(format!("there are not {count} {from}").into()) }
}

fn list(store: &impl Store, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    for found in store.keys("item/") {
        let found = found?;
        // Another instance may have deleted it since.
        if let Some(item) = store.get_json::<Item>(&found)? {
            let name = found.trim_start_matches("item/");
            writeln!(out, "{name}: {} left, {} sold", item.left, item.sold)?;
        }
    }
    Ok(())
}

/// Runs the commands that every interface has.
fn run(store: &impl Atomic, args: &[&str], out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    match args {
        ["receive", item, count] => {
            writeln!(out, "{item}: {} left", receive(store, item, count.parse()?)?)?;
        }
        ["sell", item] => writeln!(out, "{item}: {} left", sell(store, item)?)?,
        ["list"] => list(store, out)?,
        ["count"] => {
            let items = store.keys("item/").collect::<Result<Vec<_>, _>>()?.len();
            let sold = store.get_number(SOLD)?.unwrap_or_default();
            writeln!(out, "{items} items, {sold} sold")?;
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

/// Runs all commands.
fn run_all(
    store: &impl Transactional,
    args: &[&str],
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    if let ["move", from, to, count] = args {
        shift(store, from, to, count.parse()?)?;
        writeln!(out, "moved {count}")?;
        return Ok(());
    }
    run(store, args, out)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut out = io::stdout();
    let ended = match args.as_slice() {
        ["--keyvalue", args @ ..] => Keyvalue::open("default")
            .map_err(Into::into)
            .and_then(|store| run(&store, args, &mut out)),
        args => {
            Extended::open("").map_err(Into::into).and_then(|store| run_all(&store, args, &mut out))
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "stock: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use storage_guest::Fake;

    use super::*;

    /// The host's tests run the same commands with the component.
    #[test]
    fn the_commands_print_what_the_transcript_says() {
        let store = Fake::new();
        for step in include_str!("stock.txt").split("$ stock ").skip(1) {
            let (command, expected) = step.split_once('\n').unwrap();
            let args: Vec<&str> = command.split(' ').collect();
            let mut out = Vec::new();
            if let Err(error) = run_all(&store, &args, &mut out) {
                out.extend(format!("stock: {error}\n").as_bytes());
            }
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{command}");
        }
    }

    #[test]
    fn a_piece_that_another_instance_took_is_not_sold_again() {
        let store = Fake::new();
        receive(&store, "apples", 1).unwrap();
        store.interrupt(|other| {
            sell(other, "apples").unwrap();
        });
        assert_eq!(sell(&store, "apples").unwrap_err().to_string(), "apples is sold out");
        assert_eq!(store.get_number(SOLD), Ok(Some(1)));
    }

    #[test]
    fn pieces_that_were_sold_meanwhile_are_not_moved() {
        let store = Fake::new();
        receive(&store, "apples", 2).unwrap();
        store.interrupt(|other| {
            sell(other, "apples").unwrap();
        });
        let error = shift(&store, "apples", "juice", 2).unwrap_err();
        assert_eq!(error.to_string(), "there are not 2 apples");
        assert!(!store.exists(&key("juice")).unwrap());
    }
}
