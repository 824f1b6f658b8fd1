//! One file over HTTP, which may come in several pieces.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use thiserror::Error;
use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

/// Requests in a row that may bring nothing new.
const MOST_FAILURES: usize = 3;

/// No published file is longer than this.
const MAX_BYTES: u64 = 1 << 30;

/// How long a server may take to answer, or to send the next piece.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a file did not arrive.
#[derive(Debug, Error)]
pub(super) enum DownloadError {
    /// The server refused, or cannot be reached.
    #[error("{0}")]
    Server(String),
    /// It cannot be written.
    #[error("cannot write it: {0}")]
    Disk(io::Error),
}

/// What asks for files; it takes a proxy from the environment.
pub(super) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("partway/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .build()
        .into()
}

/// Downloads `url` to `part`, going on after what is there. A connection that breaks off is made again as long as
/// each brings something.
pub(super) fn download(
    agent: &Agent,
    url: &str,
    part: &Path,
    progress: &ProgressBar,
) -> Result<(), DownloadError> {
    let mut failures = 0;
    loop {
        let before = length(part).map_err(DownloadError::Disk)?;
        let reason = match request(agent, url, part, before, progress) {
            Ok(()) => return Ok(()),
            Err(Broken::Disk(error)) => return Err(DownloadError::Disk(error)),
            Err(Broken::Refused(reason)) => return Err(DownloadError::Server(reason)),
            Err(Broken::Connection(reason)) => reason,
        };
        let more = length(part).map_err(DownloadError::Disk)? > before;
        failures = if more { 0 } else { failures + 1 };
        if failures == MOST_FAILURES {
            return Err(DownloadError::Server(reason));
        }
    }
}

/// Why one request did not bring all.
enum Broken {
    /// To ask again cannot help.
    Refused(String),
    /// To ask again may help.
    Connection(String),
    Disk(io::Error),
}

fn request(agent: &Agent, url: &str, part: &Path, before: u64, progress: &ProgressBar) -> Result<(), Broken> {
    let mut request = agent.get(url);
    if before > 0 {
        request = request.header(header::RANGE, format!("bytes={before}-"));
    }
    let response = request.call().map_err(|error| match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            Broken::Refused(error.to_string())
        }
        error => Broken::Connection(error.to_string()),
    })?;
    let mut file = OpenOptions::new();
    let (mut file, start) = match response.status() {
        StatusCode::PARTIAL_CONTENT if starts_at(&response) == Some(before) => {
            (file.append(true).open(part).map_err(Broken::Disk)?, before)
        }
        StatusCode::OK => (File::create(part).map_err(Broken::Disk)?, 0),
        // What is there is no beginning of the file: as long as all of it, or of another one.
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if before > 0 => {
            fs::remove_file(part).map_err(Broken::Disk)?;
            return Err(Broken::Connection("the server has no more of the file than is here".into()));
        }
        status if status.is_server_error() => {
            return Err(Broken::Connection(format!("HTTP status {status}")));
        }
        status => return Err(Broken::Refused(format!("HTTP status {status}"))),
    };
    let mut body = response.into_body();
    if let Some(length) = body.content_length() {
        progress.set_length(start + length);
    }
    progress.set_position(start);
    let mut body = body.as_reader();
    let mut block = vec![0; 1 << 16];
    let mut written = start;
    loop {
        let read = body.read(&mut block).map_err(|error| Broken::Connection(error.to_string()))?;
        if read == 0 {
            return file.sync_all().map_err(Broken::Disk);
        }
        written += read as u64;
        if written > MAX_BYTES {
            return Err(Broken::Refused(format!("the file is longer than {MAX_BYTES} bytes")));
        }
        file.write_all(&block[..read]).map_err(Broken::Disk)?;
        progress.set_position(written);
    }
}

/// Where a part of a file starts: `Content-Range: bytes 100-199/200`.
fn starts_at<B>(response: &Response<B>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// Bytes of a file; none if it is not there.
fn length(file: &Path) -> io::Result<u64> {
    match fs::metadata(file) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
