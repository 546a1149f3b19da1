//! Bytes that nobody can guess.

use crate::error::Error;

/// From the kernel. Waits, early after the machine's start, until it can.
pub fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes)
        .map_err(|error| Error::Other(format!("the kernel gives no random bytes: {error}")))
}

/// So many.
pub fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}
