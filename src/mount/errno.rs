//! The errnos of refusals and failures, as fuser has them.

use crate::cluster::Failure;
use crate::tree::Refusal;
use fuser::Errno;

pub fn of_refusal(refusal: Refusal) -> Errno {
    Errno::from_i32(refusal.errno())
}

pub fn of_failure(failure: Failure) -> Errno {
    Errno::from_i32(failure.errno())
}
