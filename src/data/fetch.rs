//! `partway data fetch`: published data sets, downloaded once and checked.

mod catalog;
mod checksum;
mod download;
#[cfg(test)]
mod tests;
mod unpack;

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;
use ureq::Agent;

use self::catalog::{Name, Published, PublishedFile};
use self::download::{DownloadError, download};
use crate::failure::Failure;
use crate::output;

/// What to download, and where to.
#[derive(Clone, Debug, Args)]
pub(crate) struct FetchArgs {
    /// The data set
    name: Name,
    /// The folder of its files [default: datasets/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Download the files from this address, with their names added, instead of the known ones
    #[arg(long, value_name = "URL")]
    from: Option<String>,
}

/// Why a data set is not there.
#[derive(Debug, Error)]
enum FetchError {
    /// No address gave a file.
    #[error("{}", unreachable(file, tried, folder))]
    Unreachable {
        /// The file.
        file: &'static str,
        /// Each address and why not.
        tried: Vec<(String, String)>,
        /// Where the file belongs.
        folder: PathBuf,
    },
    /// A file of that name is there, and it is another one.
    #[error(
        "`{}` is there already, but its checksum is not {expected}, which the published file has: move it away to \
         download that",
        path.display()
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// The published checksum.
        expected: &'static str,
    },
    /// An archive that arrived whole cannot be unpacked.
    #[error("cannot unpack `{}` to its folder: {source}", archive.display())]
    Unpack {
        /// The archive.
        archive: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder cannot be used.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was tried, and the way that is left.
fn unreachable(file: &str, tried: &[(String, String)], folder: &Path) -> String {
    let mut text = format!("cannot download `{file}`:\n");
    for (url, reason) in tried {
        let _ = writeln!(text, "  {url}: {reason}");
    }
    let _ = write!(
        text,
        "run the same command again, which goes on where it broke off; or get the file by other means, put it into \
         `{}` and run the command again, which checks it; or name another server with --from",
        folder.display()
    );
    text
}

/// Downloads and checks the data set.
pub(crate) fn fetch(args: &FetchArgs) -> Result<(), Failure> {
    let name = args.name.as_str();
    let folder = args.out.clone().unwrap_or_else(|| Path::new("datasets").join(name));
    fetch_all(args.name.published(), &folder, args.from.as_deref()).map_err(Failure::failed)?;
    let path = if args.out.is_some() {
        format!(" and data.path = {:?}", folder.display().to_string())
    } else {
        String::new()
    };
    output::print(&format!(
        "{name} is whole in {}; use it with data.dataset = {name:?}{path}",
        folder.display()
    ));
    Ok(())
}

/// Brings all files of `published` into `folder`; from `from` if that is given.
fn fetch_all(published: &Published, folder: &Path, from: Option<&str>) -> Result<(), FetchError> {
    if unpack::is_unpacked(folder, published.unpacked) {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(io_error("make", folder))?;
    let mirrors: Vec<&str> = from.map_or_else(|| published.mirrors.to_vec(), |from| vec![from]);
    let agent = download::agent();
    for file in published.files {
        let path = folder.join(file.name);
        fetch_file(&agent, file, &path, &mirrors)?;
        if !published.unpacked.is_empty() {
            unpack::unpack(&path, folder, published.unpacked)
                .map_err(|source| FetchError::Unpack { archive: path.clone(), source })?;
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// Brings one file to `path`, unless it is there.
fn fetch_file(agent: &Agent, file: &PublishedFile, path: &Path, mirrors: &[&str]) -> Result<(), FetchError> {
    let fits = |path: &Path| file.checksum.fits(path).map_err(io_error("read", path));
    if path.exists() {
        if fits(path)? {
            return Ok(());
        }
        return Err(FetchError::Other { path: path.to_owned(), expected: file.checksum.expected() });
    }
    let part = path.with_file_name(format!(".{}.part", file.name));
    let mut tried = Vec::new();
    for mirror in mirrors {
        let url = format!("{}/{}", mirror.trim_end_matches('/'), file.name);
        output::note(&format!("downloading {url}"));
        // What is there from before may be of another file: then it all comes once more.
        let mut left = 1 + usize::from(part.exists());
        let reason = loop {
            match download(agent, &url, &part, &progress()) {
                Ok(()) => {}
                Err(DownloadError::Disk(source)) => return Err(io_error("write", &part)(source)),
                Err(error @ DownloadError::Server(_)) => break error.to_string(),
            }
            if fits(&part)? {
                return fs::rename(&part, path).map_err(io_error("write", path));
            }
            fs::remove_file(&part).map_err(io_error("remove", &part))?;
            left -= 1;
            if left == 0 {
                let expected = file.checksum.expected();
                break format!("what came has another checksum than the published one, {expected}");
            }
        };
        tried.push((url, reason));
    }
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    Err(FetchError::Unreachable { file: file.name, tried, folder })
}

/// A bar on a terminal, nothing elsewhere.
fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{bytes} of {total_bytes} {wide_bar} {bytes_per_sec}");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    move |source| FetchError::Io { action, path: path.to_owned(), source }
}
