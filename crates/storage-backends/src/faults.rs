//! Faults that tests inject into disk operations.

#[cfg(test)]
pub(crate) use in_tests::*;

/// Runs before every disk operation, which fails if this fails.
#[cfg(not(test))]
pub(crate) fn fault_point(_operation: &str) -> std::io::Result<()> {
    Ok(())
}

/// Makes a new thread inherit the faults of the thread that starts it.
#[cfg(all(not(test), feature = "redb"))]
pub(crate) fn inherit_faults() -> impl FnOnce() + Send {
    || {}
}

#[cfg(test)]
mod in_tests {
    use std::cell::RefCell;
    use std::io;
    use std::sync::{Arc, Mutex};

    pub(crate) const EIO: i32 = 5;
    pub(crate) const ENOSPC: i32 = 28;

    /// What happens to the disk operations of a thread.
    #[derive(Clone)]
    pub(crate) enum Plan {
        /// All succeed and are counted.
        Count,
        /// The operation with this number fails.
        Fail { at: usize, errno: i32 },
        /// Operations of this kind fail.
        FailKind { operation: &'static str, errno: i32 },
        /// Writes fail from the operation with this number on: the disk is full.
        #[cfg(feature = "redb")]
        FillUp { at: usize },
        /// All operations from this number on fail: the process has died.
        Die { at: usize },
        /// Something happens before operations of this kind.
        Before { operation: &'static str, run: Arc<dyn Fn() + Send + Sync> },
    }

    type SharedPlan = Arc<Mutex<(Plan, usize)>>;

    thread_local! {
        static PLAN: RefCell<SharedPlan> = RefCell::new(Arc::new(Mutex::new((Plan::Count, 0))));
    }

    pub(crate) fn fault_point(operation: &str) -> io::Result<()> {
        let plan = PLAN.with_borrow(Arc::clone);
        let (plan, this) = {
            let (plan, seen) = &mut *plan.lock().unwrap();
            *seen += 1;
            (plan.clone(), *seen - 1)
        };
        match plan {
            Plan::Fail { at, errno } if at == this => Err(io::Error::from_raw_os_error(errno)),
            Plan::FailKind { operation: kind, errno } if kind == operation => {
                Err(io::Error::from_raw_os_error(errno))
            }
            #[cfg(feature = "redb")]
            Plan::FillUp { at } if at <= this && operation == "write" => {
                Err(io::Error::from_raw_os_error(ENOSPC))
            }
            Plan::Die { at } if at <= this => Err(io::Error::from_raw_os_error(EIO)),
            Plan::Before { operation: kind, run } if kind == operation => {
                run();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[cfg(feature = "redb")]
    pub(crate) fn inherit_faults() -> impl FnOnce() + Send {
        let plan = PLAN.with_borrow(Arc::clone);
        || PLAN.set(plan)
    }

    /// Runs with a plan. Also returns the number of operations.
    pub(crate) fn with_plan<T>(plan: Plan, run: impl FnOnce() -> T) -> (T, usize) {
        let set = |plan| {
            let shared = PLAN.with_borrow(Arc::clone);
            std::mem::replace(&mut *shared.lock().unwrap(), (plan, 0)).1
        };
        set(plan);
        let result = run();
        (result, set(Plan::Count))
    }
}
