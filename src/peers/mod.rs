//! Transport between replicas.
pub mod bulk;
