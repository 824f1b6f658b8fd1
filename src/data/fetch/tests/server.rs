//! A web server of a few files that answers as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// How requests for a file are answered.
#[derive(Clone)]
pub(super) enum Answer {
    /// All that is asked for.
    Whole(Vec<u8>),
    /// At most so many bytes, and then the connection breaks; what is asked for next goes on from there.
    Pieces(Vec<u8>, usize),
    /// The whole file, whatever part was asked for.
    NoRanges(Vec<u8>),
    /// That status, without a file.
    Status(&'static str),
}

/// A server; it lives as long as the tests.
pub(super) struct Server {
    pub(super) url: String,
    /// The range that each request asked for, if any, after the file's name.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn start(files: &[(&str, Answer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}/data", listener.local_addr().expect("it listens"));
        let files: BTreeMap<String, Answer> =
            files.iter().map(|(name, answer)| (format!("/data/{name}"), answer.clone())).collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                // A client that has gone away has what it wanted.
                let _ = answer(&connection, &files, &seen);
            }
        });
        Self { url, requests }
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("the server has not panicked").clone()
    }
}

fn answer(
    mut connection: &TcpStream,
    files: &BTreeMap<String, Answer>,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut start = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let range = start.map(|start| format!(" from {start}")).unwrap_or_default();
    seen.lock().expect("no test has panicked with it").push(format!("{path}{range}"));
    let (bytes, most, start) = match files.get(&path) {
        Some(Answer::Whole(bytes)) => (bytes, bytes.len(), start),
        Some(Answer::Pieces(bytes, most)) => (bytes, *most, start),
        Some(Answer::NoRanges(bytes)) => (bytes, bytes.len(), None),
        Some(Answer::Status(status)) => {
            return write!(connection, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        }
        None => return write!(connection, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
    };
    let Some(rest) = bytes.get(start.unwrap_or(0)..).filter(|rest| start.is_none() || !rest.is_empty())
    else {
        return write!(connection, "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n");
    };
    let status = match start {
        Some(start) => {
            format!("206 Partial Content\r\ncontent-range: bytes {start}-{}/{}", bytes.len() - 1, bytes.len())
        }
        None => "200 OK".to_owned(),
    };
    write!(connection, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", rest.len())?;
    connection.write_all(&rest[..rest.len().min(most)])
}
