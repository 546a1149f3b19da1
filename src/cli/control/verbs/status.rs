//! `status`: what the replica says of itself and its cluster.

use super::{Asked, value};
use crate::cluster::Cluster;
use serde_json::Value;

pub fn status(asked: &Asked<'_>) -> Result<Value, String> {
    value(asked.node.status())
}
