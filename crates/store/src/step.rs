//! Places where a test lets the process die or the disk fail (F4, F9). Nothing in the program.

use std::io;

/// Goes on, unless a test has armed this step.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "the same form as under test")]
pub(crate) fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use armed::*;

#[cfg(test)]
mod armed {
    use super::io;
    use std::cell::Cell;

    /// What happens at the armed step.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// The process dies: nothing after it happens.
        Die,
        /// The disk fails once.
        Fail,
    }

    thread_local! {
        static ARMED: Cell<Option<(u32, Fault)>> = const { Cell::new(None) };
    }

    pub(crate) fn step() -> io::Result<()> {
        match ARMED.get() {
            Some((0, Fault::Die)) => {
                ARMED.set(None);
                std::panic::resume_unwind(Box::new("died"));
            }
            Some((0, Fault::Fail)) => {
                ARMED.set(None);
                Err(io::Error::other("injected"))
            }
            Some((left, fault)) => {
                ARMED.set(Some((left - 1, fault)));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Runs `work` with a fault at its n-th step; none if it died, and whether there was such a step.
    pub(crate) fn with_fault<T>(
        n: u32,
        fault: Fault,
        work: impl FnOnce() -> T,
    ) -> (Option<T>, bool) {
        ARMED.set(Some((n, fault)));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok();
        let met = ARMED.replace(None).is_none();
        (outcome, met)
    }
}
