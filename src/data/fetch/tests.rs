//! Downloads from a server on this machine, of every temper.

mod server;

use std::fs;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use self::server::{Answer, Server};
use super::checksum::Checksum;
use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A thousand bytes that are not all alike.
fn bytes() -> Vec<u8> {
    (0..1000u32).map(|n| ((n * n) >> 3) as u8).collect()
}

/// A file of a catalogue, with the sum of `bytes`.
fn file(name: &'static str, bytes: &[u8]) -> PublishedFile {
    let folder = folder();
    let path = folder.path().join("sum");
    fs::write(&path, bytes).expect("written");
    let sum = Checksum::Md5("").of(&path).expect("it is there").expect("any file has one");
    PublishedFile { name, checksum: Checksum::Md5(sum.leak()) }
}

/// A data set of that one file.
fn published(file: PublishedFile, unpacked: &'static [(&'static str, u64)]) -> Published {
    Published { mirrors: &["http://127.0.0.1:1/"], files: vec![file].leak(), unpacked }
}

/// Fetches `a.bin` = [`bytes`] into `folder`.
fn fetched(folder: &Path, server: &Server) -> Result<(), String> {
    let published = published(file("a.bin", &bytes()), &[]);
    fetch_all(&published, folder, Some(&server.url)).map_err(|error| error.to_string())
}

fn is_whole(folder: &Path) -> bool {
    fs::read(folder.join("a.bin")).is_ok_and(|read| read == bytes())
        && fs::read_dir(folder).expect("a folder").count() == 1
}

#[test]
fn a_file_is_downloaded_once() {
    let (folder, server) = (folder(), Server::start(&[("a.bin", Answer::Whole(bytes()))]));
    for _ in 0..2 {
        assert_eq!(fetched(&folder.path().join("new"), &server), Ok(()));
        assert!(is_whole(&folder.path().join("new")));
    }
    assert_eq!(server.requests(), ["/data/a.bin"]);
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let (folder, server) = (folder(), Server::start(&[("a.bin", Answer::Whole(bytes()))]));
    fs::write(folder.path().join(".a.bin.part"), &bytes()[..400]).expect("written");
    assert_eq!(fetched(folder.path(), &server), Ok(()));
    assert!(is_whole(folder.path()));
    assert_eq!(server.requests(), ["/data/a.bin from 400"]);
}

#[test]
fn a_connection_that_drops_is_made_again() {
    let (folder, server) = (folder(), Server::start(&[("a.bin", Answer::Pieces(bytes(), 300))]));
    assert_eq!(fetched(folder.path(), &server), Ok(()));
    assert!(is_whole(folder.path()));
    assert_eq!(
        server.requests(),
        ["", " from 300", " from 600", " from 900"].map(|from| format!("/data/a.bin{from}"))
    );
}

#[test]
fn a_server_that_sends_nothing_is_given_up_with_what_came() {
    let (folder, server) = (folder(), Server::start(&[("a.bin", Answer::Pieces(bytes(), 0))]));
    fs::write(folder.path().join(".a.bin.part"), &bytes()[..400]).expect("written");
    let error = fetched(folder.path(), &server).expect_err("nothing comes");
    assert!(error.contains(&format!("{}/a.bin: ", server.url)), "{error}");
    assert_eq!(server.requests().len(), 3);
    let part = fs::read(folder.path().join(".a.bin.part")).expect("it is kept");
    assert_eq!(part.len(), 400);
}

#[test]
fn a_server_without_ranges_starts_again() {
    let (folder, server) = (folder(), Server::start(&[("a.bin", Answer::NoRanges(bytes()))]));
    fs::write(folder.path().join(".a.bin.part"), [7; 400]).expect("written");
    assert_eq!(fetched(folder.path(), &server), Ok(()));
    assert!(is_whole(folder.path()));
}

#[test]
fn what_is_left_of_another_file_is_replaced() {
    for (left, requests) in [(vec![7; 400], 2), (vec![7; 1000], 2), (vec![7; 2000], 2)] {
        let (folder, server) = (folder(), Server::start(&[("a.bin", Answer::Whole(bytes()))]));
        fs::write(folder.path().join(".a.bin.part"), left).expect("written");
        assert_eq!(fetched(folder.path(), &server), Ok(()));
        assert!(is_whole(folder.path()));
        assert_eq!(server.requests().len(), requests);
    }
}

#[test]
fn another_checksum_is_refused_and_nothing_is_left() {
    let (folder, server) = (folder(), Server::start(&[("a.bin", Answer::Whole(vec![7; 1000]))]));
    let error = fetched(folder.path(), &server).expect_err("another file");
    assert!(error.contains("a.bin: what came has another checksum than the published one"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);

    fs::write(folder.path().join("a.bin"), "mine").expect("written");
    let error = fetched(folder.path(), &server).expect_err("another file is there");
    assert!(error.contains("a.bin` is there already, but its checksum is not"), "{error}");
    assert_eq!(fs::read(folder.path().join("a.bin")).expect("it is kept"), b"mine");
}

#[test]
fn without_a_file_the_message_says_where_it_was_looked_for_and_what_is_left_to_do() {
    let (folder, server) = (folder(), Server::start(&[("a.bin", Answer::Status("403 Forbidden"))]));
    let published = published(file("a.bin", &bytes()), &[]);
    let error = |from: Option<String>| {
        fetch_all(&published, folder.path(), from.as_deref()).expect_err("no file").to_string()
    };
    assert!(error(Some(server.url.clone())).contains("/data/a.bin: HTTP status 403 Forbidden"));
    let elsewhere = error(Some(format!("{}/else", server.url)));
    assert!(elsewhere.contains("/data/else/a.bin: HTTP status 404 Not Found"), "{elsewhere}");
    assert_eq!(server.requests().len(), 2, "to ask again cannot help");
    let offline = error(None);
    assert!(offline.starts_with("cannot download `a.bin`:\n  http://127.0.0.1:1/a.bin: "), "{offline}");
    assert!(
        offline.contains(&format!("put it into `{}` and run the command again", folder.path().display()))
    );
    assert!(error(Some("no address".to_owned())).contains("no address/a.bin: "));
}

/// A .tar.gz of files with these names.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // Written as it is: a hostile archive's names need not be proper ones.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *bytes).expect("memory takes it");
    }
    archive.into_inner().and_then(GzEncoder::finish).expect("memory takes it")
}

/// What unpacking `archive` for `a.bin` and `b.bin`, of two bytes each, says.
fn unpacked(folder: &Path, archive: &[u8]) -> Result<(), String> {
    let server = Server::start(&[("a.tar.gz", Answer::Whole(archive.to_vec()))]);
    let published = published(file("a.tar.gz", archive), &[("a.bin", 2), ("b.bin", 2)]);
    fetch_all(&published, folder, Some(&server.url)).map_err(|error| error.to_string())?;
    // The second time there is nothing to do.
    fetch_all(&published, folder, None).map_err(|error| error.to_string())?;
    assert_eq!(server.requests().len(), 1);
    Ok(())
}

#[test]
fn the_files_of_an_archive_are_kept_and_nothing_else() {
    let folder = folder();
    let inner = folder.path().join("inner");
    let files: [(&str, &[u8]); 4] =
        [("x/a.bin", b"aa"), ("x/notes.html", b"no"), ("../../evil.bin", b"no"), ("../b.bin", b"bb")];
    assert_eq!(unpacked(&inner, &archive(&files)), Ok(()));
    let mut names: Vec<_> =
        fs::read_dir(&inner).expect("a folder").map(|entry| entry.expect("listed").file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.bin", "b.bin"]);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing beside the folder");
}

#[test]
fn an_archive_without_the_files_is_refused() {
    let missing = unpacked(folder().path(), &archive(&[("a.bin", b"aa")])).expect_err("no b.bin");
    assert!(missing.ends_with("it does not hold `b.bin`"), "{missing}");
    let short = unpacked(folder().path(), &archive(&[("a.bin", b"a"), ("b.bin", b"bb")])).expect_err("short");
    assert!(short.ends_with("`a.bin` in it has 1 bytes instead of 2"), "{short}");
    assert!(unpacked(folder().path(), b"no archive").expect_err("none").contains("cannot unpack"));
}
