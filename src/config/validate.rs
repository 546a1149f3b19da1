//! The bounds of the settings and the relations between them.

use super::{Config, Size, Span};
use crate::error::Error;
use crate::limits;
use crate::node::TOKEN_PREFIX;
use crate::tree::{check_address, check_name};

impl Config {
    /// Says a broken bound or relation back, with both values.
    pub fn validate(&self) -> Result<(), Error> {
        self.validate_times().and_then(|()| self.validate_sizes()).map_err(Error::Configuration)?;
        self.validate_cluster().map_err(Error::Configuration)
    }

    fn validate_times(&self) -> Result<(), String> {
        let hour = Span::secs(3600);
        within("heartbeat", self.heartbeat, Span::millis(10), Span::secs(10))?;
        within("election_timeout", self.election_timeout, Span::millis(100), Span::secs(60))?;
        within("session_timeout", self.session_timeout, Span::secs(1), hour)?;
        within("op_timeout", self.op_timeout, Span::secs(1), hour)?;
        within("visibility_timeout", self.visibility_timeout, Span::millis(10), Span::secs(10))?;
        let election = ("election_timeout", self.election_timeout);
        at_least(election, 4, ("heartbeat", self.heartbeat))?;
        at_least(("session_timeout", self.session_timeout), 4, election)?;
        at_least(("op_timeout", self.op_timeout), 2, election)?;
        at_least(
            ("op_timeout", self.op_timeout),
            1,
            ("visibility_timeout", self.visibility_timeout),
        )
    }

    fn validate_sizes(&self) -> Result<(), String> {
        within("max_file_size", self.max_file_size, Size(4096), Size(limits::FILE_BYTES_MAX))?;
        if self.max_tree_size < self.max_file_size {
            return Err(format!(
                "max_tree_size ({}) must be at least max_file_size ({})",
                self.max_tree_size, self.max_file_size
            ));
        }
        within("max_inodes", self.max_inodes, 1000, u64::MAX)
    }

    fn validate_cluster(&self) -> Result<(), String> {
        check_name(&self.name())?;
        let token = |join: &&String| join.starts_with(TOKEN_PREFIX);
        for address in self.listen.iter().chain(self.join.iter().filter(|join| !token(join))) {
            check_address(address)?;
        }
        if !self.bootstrap.is_empty() && !self.join.is_empty() {
            return Err("bootstrap founds a cluster and join enters one: give one of them".into());
        }
        if self.bootstrap.len() > limits::REPLICAS_MAX {
            return Err(format!("a cluster has at most {} replicas", limits::REPLICAS_MAX));
        }
        let members = self.founders()?;
        let Some((_, own)) = members.iter().find(|(name, _)| *name == self.name()) else {
            return match members.is_empty() {
                true => Ok(()),
                false => Err(format!(
                    "bootstrap must name this replica too: add {}=HOST:PORT to it",
                    self.name()
                )),
            };
        };
        match &self.listen {
            Some(listen) if listen != own => Err(format!(
                "listen ({listen}) must be what bootstrap gives for {} ({own})",
                self.name()
            )),
            _ => Ok(()),
        }
    }

    /// `bootstrap` as (name, address).
    pub(super) fn founders(&self) -> Result<Vec<(String, String)>, String> {
        let mut founders: Vec<(String, String)> = Vec::new();
        for member in &self.bootstrap {
            let (name, address) = member
                .split_once('=')
                .ok_or_else(|| format!("bootstrap: {member:?} is not NAME=HOST:PORT"))?;
            check_name(name)?;
            check_address(address)?;
            if founders.iter().any(|(n, a)| n == name || a == address) {
                return Err(format!("bootstrap: {member} repeats a name or an address"));
            }
            founders.push((name.to_owned(), address.to_owned()));
        }
        Ok(founders)
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    low: T,
    high: T,
) -> Result<(), String> {
    match value < low || value > high {
        true => Err(format!("{name} ({value}) must be between {low} and {high}")),
        false => Ok(()),
    }
}

fn at_least(
    (name, value): (&str, Span),
    times: u32,
    (other, base): (&str, Span),
) -> Result<(), String> {
    let bound = base.0 * times;
    let how = if times == 1 { String::new() } else { format!("{times} times ") };
    match value.0 < bound {
        true => Err(format!("{name} ({value}) must be at least {how}{other} ({base})")),
        false => Ok(()),
    }
}
