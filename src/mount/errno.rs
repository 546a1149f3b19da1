//! Each refusal and each failure has one errno. Total matches: a new one does not compile until it
//! has its number.

use crate::cluster::Failure;
use crate::tree::Refusal;
use fuser::Errno;

pub fn of_refusal(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::NotFound => Errno::ENOENT,
        Refusal::AlreadyExists => Errno::EEXIST,
        Refusal::NotADirectory => Errno::ENOTDIR,
        Refusal::IsADirectory => Errno::EISDIR,
        Refusal::NotEmpty => Errno::ENOTEMPTY,
        // The kernel looks the path up again when it gets this one, once.
        Refusal::Stale => Errno::ESTALE,
        Refusal::NameTooLong => Errno::ENAMETOOLONG,
        Refusal::Invalid => Errno::EINVAL,
        Refusal::FileTooBig => Errno::EFBIG,
        Refusal::NoSpace => Errno::ENOSPC,
        Refusal::TooManyLinks => Errno::EMLINK,
        Refusal::NotPermitted => Errno::EPERM,
        Refusal::Busy => Errno::EBUSY,
        Refusal::NoXattr => Errno::ENODATA,
        // ENOSPC, which ext4 gives, would send the reader to `df`.
        Refusal::XattrTooBig => Errno::E2BIG,
        Refusal::WouldBlock => Errno::EAGAIN,
        Refusal::Deadlock => Errno::EDEADLK,
        Refusal::NoLocks => Errno::ENOLCK,
        Refusal::SessionExpired => Errno::EIO,
        // Nobody waits for such an answer any more; should somebody, it may or may not have
        // happened.
        Refusal::GivenUp => Errno::ETIMEDOUT,
        Refusal::TooNew => Errno::EOPNOTSUPP,
    }
}

pub fn of_failure(failure: Failure) -> Errno {
    match failure {
        Failure::Refused(refusal) => of_refusal(refusal),
        Failure::NoQuorum => Errno::EROFS,
        Failure::Unknown => Errno::ETIMEDOUT,
        Failure::SessionLost | Failure::Stopping => Errno::EIO,
    }
}
