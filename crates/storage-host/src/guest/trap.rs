//! Describes why a guest ended.

use wasmtime::{Error, Trap};

use super::state::{all_handles, hostcall_bytes};
use crate::limits::Limits;

/// Describes in one line why a guest's call failed, without a backtrace. Names the limit
/// that ended it, if one did.
///
/// For the operator of the host only: it can contain the error text of a host function.
pub fn describe_failure(error: &Error, limits: &Limits) -> String {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        if *trap == Trap::Interrupt {
            return "it ran past the deadline that the host had set".to_owned();
        }
        let text = trap.to_string();
        return text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned();
    }
    let cause = error.root_cause().to_string();
    // wasmtime has no public types for these errors.
    if cause.contains("fuel allocated for hostcalls") {
        return format!(
            "it passed more to the host in one call than the limit of {} bytes",
            hostcall_bytes(limits)
        );
    }
    if cause.contains("handle limit exceeded") {
        let most = all_handles(limits);
        return format!("it held more handles of all kinds than the limit of {most}");
    }
    cause
}
