//! All configuration: one struct, read from a file, the environment and flags, here and nowhere
//! else. Everyone below receives values.
//!
//! A flag beats `KEEPFS_NAME` in the environment, that beats the file, that beats the default. The
//! commented sample file ([`sample`], `keepfs config`) is made from the same declaration.

mod units;
mod validate;

pub use units::{Size, Span};

use crate::error::Error;
use crate::limits;
use crate::node::{NodeConfig, Program, Start, TOKEN_PREFIX};
use crate::tree::TreeLimits;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Declares [`Config`] and, from the same lines, its defaults and its sample file.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr
        $(, example $example:literal)?;)+) => {
        /// Every setting, with its default, its unit, its bounds and the reason for them.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config { $($(#[doc = $doc])+ pub $name: $type,)+ }

        impl Default for Config {
            fn default() -> Config { Config { $($name: $default,)+ } }
        }

        const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            doc: &[$($doc),+],
            example: settings!(@example $($example)?),
        },)+];
    };
    (@example $example:literal) => { Some($example) };
    (@example) => { None };
}

/// One setting as the sample shows it.
struct Setting {
    name: &'static str,
    doc: &'static [&'static str],
    /// For a setting without a default: a value in TOML, to show what one looks like.
    example: Option<&'static str>,
}

settings! {
    /// This replica's name in the cluster, and the host name of its session: 1 to 64 letters,
    /// digits, dots, dashes or underscores. Default: this host's name.
    name: Option<String> = None, example "\"web1\"";
    /// Where the log, the snapshots and the backups of this replica live. On a disk of its own the
    /// log is fastest: every change waits for an fdatasync here.
    data: Option<PathBuf> = None, example "\"/var/lib/keepfs\"";
    /// HOST:PORT to listen on, and where the other replicas reach this one.
    listen: Option<String> = None, example "\"10.0.0.1:7411\"";
    /// The file with the cluster's key, the same on every host, mode 0600. `keepfs key` makes one.
    /// Default: `key` in the data directory, if it is there.
    key: Option<PathBuf> = None, example "\"/etc/keepfs.key\"";
    /// Found a new cluster of these NAME=HOST:PORT; give every one of them the same list.
    /// Needed at the first start only.
    bootstrap: Vec<String> = Vec::new(),
        example "[\"web1=10.0.0.1:7411\", \"web2=10.0.0.2:7411\", \"web3=10.0.0.3:7411\"]";
    /// Join the running cluster that answers at any of these HOST:PORT, or by one token. Needed at
    /// the first start only.
    join: Vec<String> = Vec::new(), example "[\"10.0.0.1:7411\", \"10.0.0.2:7411\"]";
    /// Mount the tree here. Without it, this replica votes and stores but has no mount.
    mount: Option<PathBuf> = None, example "\"/keep\"";
    /// Show the mount to every user of this host, with the usual permission checks. Off, only the
    /// user that runs keepfs sees it. Not root: needs user_allow_other in /etc/fuse.conf.
    /// Default: on for root, off for others.
    allow_other: Option<bool> = None, example "true";
    /// Where the socket of commands (`keepfs member`, ...) is made, as NAME.sock; `control` in the
    /// data directory leads to it. Default: /run/keepfs for root, $XDG_RUNTIME_DIR/keepfs for
    /// others, or the data directory if there is neither.
    run: Option<PathBuf> = None, example "\"/run/keepfs\"";
    /// How long a change waits for a leader before it fails with EROFS. 1s to 1h, and at least
    /// twice election_timeout: an ordinary change of leader should be waited out, an outage should
    /// be told.
    op_timeout: Span = Span::secs(10);
    /// How long after its last sign of life a host's session ends, and with it the host's locks and
    /// ephemeral entries. 1s to 1h, and at least four times election_timeout, so that no change of
    /// leader costs a session. A crashed host's locks are taken over after this long.
    session_timeout: Span = Span::secs(10);
    /// A replica that hears from no leader for this long (randomised up to twice) calls an
    /// election. 100ms to 1m, and at least four times heartbeat, so that one late message is none.
    election_timeout: Span = Span::secs(1);
    /// How often a leader that has nothing to say says so. 10ms to 10s.
    heartbeat: Span = Span::millis(100);
    /// How long a reply waits until the other mounts show its change. One that takes longer is no
    /// longer waited for until it has caught up. 10ms to 10s, and less than op_timeout.
    visibility_timeout: Span = Span::millis(200);
    /// The largest file; over it, EFBIG. 4KiB to 16MiB: a file is replicated through the log,
    /// where one large entry delays all others. Read when the cluster is founded.
    max_file_size: Size = Size(limits::FILE_BYTES_DEFAULT);
    /// All data, names and xattrs of the tree together; over it, ENOSPC. At least max_file_size.
    /// Every replica holds the tree in memory. Read when the cluster is founded.
    max_tree_size: Size = Size(limits::TREE_BYTES_DEFAULT);
    /// Files, directories and links; over it, ENOSPC. At least 1000; each takes about 250 bytes of
    /// memory on every replica. Read when the cluster is founded.
    max_inodes: u64 = limits::INODES_DEFAULT;
    /// What is logged, to standard error: error, warn, info, debug or trace, for all or for parts
    /// ("info,keepfs::mount=debug"). Raft's own account of each election is in raft=info.
    log: String = "info,raft=warn,raft_engine=error,rustic_core=error".to_owned();
}

/// What the operator gave on the command line: the topmost layer.
#[derive(Default)]
pub struct Flags(Table);

impl Flags {
    /// Overrides setting `name` if the flag was given.
    pub fn set<T: Serialize>(mut self, name: &'static str, value: Option<T>) -> Flags {
        if let Some(value) = value.and_then(|value| Value::try_from(value).ok()) {
            self.0.insert(name.to_owned(), value);
        }
        self
    }
}

impl Config {
    /// [`Config::load`] with this process's environment; `KEEPFS_CONFIG` names the file where
    /// `file` does not.
    pub fn of_process(file: Option<&Path>, flags: Flags) -> Result<Config, Error> {
        let named = std::env::var_os("KEEPFS_CONFIG").map(PathBuf::from);
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Config::load(file.or(named.as_deref()), std::env::vars_os().filter_map(text), flags)
    }

    /// Lays flags over `environment` over `file` over the defaults, and validates the result.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: Flags,
    ) -> Result<Config, Error> {
        let mut layers = match file {
            Some(path) => read_file(path)?,
            None => Table::new(),
        };
        layers.extend(from_environment(environment)?);
        layers.extend(flags.0);
        let config: Config = layers
            .try_into()
            .map_err(|error: toml::de::Error| Error::Configuration(error.message().to_owned()))?;
        config.validate()?;
        Ok(config)
    }

    /// The name, or the host's.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(host_name)
    }

    /// Whether other users see the mount.
    pub fn allow_other(&self) -> bool {
        self.allow_other.unwrap_or_else(is_root)
    }

    /// What the node needs of it. `data` and `listen` must be set by now.
    pub fn node(&self) -> Result<NodeConfig, Error> {
        let missing = |what: &str| {
            Error::Configuration(format!("{what} is not set: give --{what} or set it in the file"))
        };
        let founders = self.founders().map_err(Error::Configuration)?;
        let start = match (founders.is_empty(), self.join.is_empty()) {
            (false, _) => Start::Bootstrap(founders),
            (true, false) => match &self.join[..] {
                [token] if token.starts_with(TOKEN_PREFIX) => Start::JoinByToken(token.parse()?),
                addresses => Start::Join(addresses.to_vec()),
            },
            (true, true) => Start::Existing,
        };
        Ok(NodeConfig {
            program: Program::this(),
            name: self.name(),
            data: self.data.clone().ok_or_else(|| missing("data"))?,
            listen: self.listen.clone().ok_or_else(|| missing("listen"))?,
            start,
            key: self.key.clone(),
            op_timeout: self.op_timeout.0,
            session_timeout: self.session_timeout.0,
            election_timeout: self.election_timeout.0,
            heartbeat: self.heartbeat.0,
            visibility_timeout: self.visibility_timeout.0,
            limits: TreeLimits {
                file_bytes: self.max_file_size.0,
                tree_bytes: self.max_tree_size.0,
                inodes: self.max_inodes,
            },
        })
    }
}

/// The commented sample file: every setting with its documentation and its default.
pub fn sample() -> String {
    let defaults = Table::try_from(Config::default()).expect("a Config is a TOML table");
    let mut text = String::from(
        "# keepfs.toml: the settings of one keepfs replica.\n\
         #\n\
         # Every setting is shown commented out: `#name = value` is its default, or an example\n\
         # where there is no default. A flag beats KEEPFS_SETTING in the environment (for example\n\
         # KEEPFS_OP_TIMEOUT=5s), the environment beats this file.\n",
    );
    for setting in SETTINGS {
        text.push('\n');
        for line in setting.doc {
            text.push_str(&format!("#{line}\n"));
        }
        let value = match (setting.example, defaults.get(setting.name)) {
            (Some(example), _) => example.to_owned(),
            (None, Some(default)) => default.to_string(),
            (None, None) => unreachable!("a setting has a default or an example"),
        };
        text.push_str(&format!("#{} = {value}\n", setting.name));
    }
    text
}

/// Reads a file as far as its own errors go, so that they name the line.
fn read_file(path: &Path) -> Result<Table, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let refuse = |error: toml::de::Error| {
        Error::Configuration(format!("{}: {}", path.display(), error.to_string().trim_end()))
    };
    toml::from_str::<Config>(&text).map_err(refuse)?;
    toml::from_str(&text).map_err(refuse)
}

/// `KEEPFS_OP_TIMEOUT=5s` as `op_timeout = "5s"`; a list is separated by commas. Variables that
/// name no setting are not ours to judge.
fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Result<Table, Error> {
    let known = Table::try_from(Config::default()).expect("a Config is a TOML table");
    let mut layer = Table::new();
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix("KEEPFS_").map(str::to_ascii_lowercase) else {
            continue;
        };
        if !SETTINGS.iter().any(|setting| setting.name == name) {
            continue;
        }
        let refuse =
            |expected: &str| Error::Configuration(format!("{variable}={text} is not {expected}"));
        let value = match (name.as_str(), known.get(&name)) {
            ("allow_other", _) => {
                Value::Boolean(text.parse().map_err(|_| refuse("true or false"))?)
            }
            (_, Some(Value::Integer(_))) => {
                Value::Integer(text.parse().map_err(|_| refuse("a whole number"))?)
            }
            (_, Some(Value::Array(_))) => Value::Array(text.split(',').map(Value::from).collect()),
            _ => Value::String(text),
        };
        layer.insert(name, value);
    }
    Ok(layer)
}

/// This host's name up to the first dot, or `keepfs` should it have none.
fn host_name() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match text.trim().split('.').next() {
        Some(name) if !name.is_empty() && name != "(none)" => name.to_owned(),
        _ => "keepfs".to_owned(),
    }
}

/// Where `keepfs up` keeps the data of `mount`: one directory for each, so that two never share it.
pub fn default_data(mount: &Path) -> Result<PathBuf, Error> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    let base = match is_root() {
        true => Some(PathBuf::from("/var/lib")),
        false => std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home),
    };
    let base = base.ok_or_else(|| {
        Error::Configuration("neither XDG_DATA_HOME nor HOME is set: give --data DIR".into())
    })?;
    let name = mount.to_string_lossy().trim_matches('/').replace('/', "-");
    Ok(base.join("keepfs").join(name))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
