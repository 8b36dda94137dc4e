//! Faults of whole processes.
