//! The kernel's side: FUSE requests become commands, changes become invalidations and answers.
pub mod control;
pub mod horizon;
pub mod interrupts;
pub mod process_watch;
pub mod processes;
pub mod releases;
pub mod waiters;
