//! `keepfs up`: the embedded default for one host.

use super::{address, daemon, key, mounts};
use crate::config::{self, Config, Flags};
use crate::disk::private;
use crate::error::Error;
use crate::node::KEY_FILE;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Run one replica, mounted at DIR, in the foreground.
///
/// A cluster of one: what is written is durable in the data directory and there at the next start.
/// More replicas may join it later (`keepfs serve --join`). Ctrl-C unmounts and stops it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  keepfs up /keep
  keepfs up /keep --data /srv/keepfs --listen 10.0.0.1:7411     others may join at 10.0.0.1:7411")]
pub struct Args {
    /// Where to mount; made if it is missing.
    dir: PathBuf,
    /// Where the data lives [default: /var/lib/keepfs/DIR for root, else
    /// $XDG_DATA_HOME/keepfs/DIR; slashes of DIR become dashes].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen for replicas that join [default: a free port of 127.0.0.1, chosen at the
    /// first start].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// This replica's name [default: this host's].
    #[arg(long)]
    name: Option<String>,
    /// Read settings from this TOML file [default: $KEEPFS_CONFIG].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let flags = Flags::default()
        .set("name", args.name.as_ref())
        .set("data", args.data.as_ref())
        .set("listen", args.listen.as_ref())
        .set("mount", Some(&args.dir));
    let mut config = Config::of_process(args.config.as_deref(), flags)?;
    if let Some(data) = &config.data {
        mounts::keep_apart(&args.dir, data)?;
    }
    let mount = mounts::make(&args.dir)?;
    config.mount = Some(mount.clone());
    let data = match config.data.take() {
        Some(data) => data,
        None => config::default_data(&mount)?,
    };
    mounts::keep_apart(&mount, &data)?;
    private::create_directory(&data)?;
    let listen = match config.listen.take() {
        Some(listen) => listen,
        None => address::remembered(&data.join("port"))?,
    };
    let founded = data.join("identity").exists();
    if !founded && config.join.is_empty() && config.bootstrap.is_empty() {
        config.bootstrap = vec![format!("{}={listen}", config.name())];
    }
    if config.key.is_none() && config.join.is_empty() {
        key::make_once(&data.join(KEY_FILE))?;
    }
    config.data = Some(data.clone());
    config.listen = Some(listen.clone());
    config.validate()?;
    let key = config.key.clone().unwrap_or_else(|| data.join(KEY_FILE));
    daemon::run(&config, || announce(&mount, &data, &listen, &key))?;
    Ok(ExitCode::SUCCESS)
}

fn announce(mount: &Path, data: &Path, listen: &str, key: &Path) {
    let (mount, data, key) = (mount.display(), data.display(), key.display());
    super::say(format_args!("{mount} is mounted; its data is in {data}. Ctrl-C unmounts it."));
    super::say(format_args!(
        "Others join it by: keepfs serve --name NAME --data DIR --listen HOST:PORT --join {listen} \
         --key FILE, with a copy of {key}"
    ));
    super::say("ready");
}
