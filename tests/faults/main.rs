//! Faults of whole processes: killed, out of space, without rights, on damaged files, two on one file, under a storm.
//!
//! Every fault has a seed; a failure prints the line that repeats it. `COLLODI_FAULTS=full` is the long form.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]
#![expect(clippy::print_stderr, reason = "seeds and measurements are for the person who runs this")]

mod clock;
mod damage;
mod descriptors;
mod disk_full;
mod full_turns;
mod http;
mod keys;
mod kill;
mod linear;
mod log;
mod protocol;
mod provider;
mod rights;
mod seed;
mod server;
mod shared;
mod storm;
mod tool_turns;
mod turns;
mod wire;
