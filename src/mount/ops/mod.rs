//! The operations, by theme. Each is an `impl Mount`; none of them waits.

mod attributes;
mod control;
mod create;
mod list;
mod lookup;
mod open;
mod read;
mod remove;
mod space;
mod store;
mod stream;
mod sync;
mod truncate;
mod write;
mod xattr;

pub use attributes::AskedAttributes;
pub use read::Reading;
pub use write::Writing;
