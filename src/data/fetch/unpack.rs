//! The files of an archive that are kept.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use tar::Archive;

/// Whether all of these files, with their bytes, are in `folder`.
pub(super) fn is_unpacked(folder: &Path, wanted: &[(&str, u64)]) -> bool {
    let is_there = |(name, bytes): &(&str, u64)| {
        fs::metadata(folder.join(name)).is_ok_and(|file| file.is_file() && file.len() == *bytes)
    };
    !wanted.is_empty() && wanted.iter().all(is_there)
}

/// Unpacks the files of `archive`, a .tar.gz, with these names into `folder`, whatever folder they are in, and
/// nothing else. Each appears whole or not at all.
pub(super) fn unpack(archive: &Path, folder: &Path, wanted: &[(&str, u64)]) -> io::Result<()> {
    let file = BufReader::with_capacity(1 << 16, File::open(archive)?);
    for entry in Archive::new(MultiGzDecoder::new(file)).entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let named = wanted.iter().find(|(name, _)| path.file_name().is_some_and(|file| file == *name));
        let Some((name, bytes)) = named.filter(|_| entry.header().entry_type().is_file()) else { continue };
        let unfinished = folder.join(format!(".{name}.unfinished"));
        let mut out = File::create(&unfinished)?;
        let copied = io::copy(&mut entry.take(*bytes), &mut out)?;
        if copied != *bytes {
            return Err(io::Error::other(format!("`{name}` in it has {copied} bytes instead of {bytes}")));
        }
        out.sync_all()?;
        fs::rename(&unfinished, folder.join(name))?;
    }
    match wanted.iter().find(|file| !is_unpacked(folder, &[**file])) {
        Some((name, _)) => Err(io::Error::other(format!("it does not hold `{name}`"))),
        None => Ok(()),
    }
}
