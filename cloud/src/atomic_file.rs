//! Files that are either as they were or new and whole, whenever the process or the machine stops.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes the file anew: into a temporary file beside it, made durable, then renamed over it.
///
/// # Errors
/// If it cannot be written; what was there before is still there.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_path(path);
    let written = (|| {
        let mut file = BufWriter::new(File::create(&temporary)?);
        write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The error that matters is the first; a leftover is overwritten by the next attempt.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_folder(path)
}

/// The name a file has until it is whole.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".tmp");
    path.with_file_name(name)
}

/// Makes a rename in the file's folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("summary.json");
        replace(&path, |file| file.write_all(b"first")).expect("the folder can be written to");
        let failed = replace(&path, |file| {
            file.write_all(b"sec")?;
            Err(io::Error::other("the disk is full"))
        });
        assert_eq!(failed.expect_err("the closure failed").to_string(), "the disk is full");
        assert_eq!(fs::read(&path).expect("it is still there"), b"first");
        assert_eq!(fs::read_dir(folder.path()).expect("it is a folder").count(), 1);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("summary.json");
        replace(&path, |file| file.write_all(b"a long first version")).expect("it can be written");
        replace(&path, |file| file.write_all(b"second")).expect("it can be written");
        assert_eq!(fs::read(&path).expect("it is there"), b"second");
    }
}
