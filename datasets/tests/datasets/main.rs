//! The crate as its users see it: properties that hold for any input, and real files.

mod batches;
mod cifar;
mod csv;
mod edge_data;
mod held_out;
mod idx;
mod images;
mod mnist;
mod mutations;
mod npz;
mod partition;
mod shard;
mod synthetic;

use std::{
    fs,
    path::{Path, PathBuf},
};

use partway_core::config::Config;
use tempfile::TempDir;

/// A configuration with these lines in `[data]`, and perhaps a `[model]` behind them.
fn config(data: &str) -> Config {
    let model = if data.contains("[model]") { "" } else { "[model]\narch = \"mlp\"" };
    let text = format!("name = \"x\"\n[data]\n{data}\n{model}\n[[edge]]\nname = \"a\"\n");
    Config::parse(&text, "x.toml", &[]).expect("it is right")
}

/// A folder for a test's files.
fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Puts `bytes` into the file `name` of `folder`.
fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder is writable");
    fs::write(&path, bytes).expect("the folder is writable");
    path
}
