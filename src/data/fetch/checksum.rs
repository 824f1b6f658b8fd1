//! Checksums of files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use md5::Md5;
use partway_cloud::model_file::hex;
use sha2::{Digest, Sha256};

/// A published sum, in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Of the file. It tells damage, not malice; no stronger sum is published.
    Md5(&'static str),
    /// Of what the file unpacks to, however it was compressed.
    UnpackedSha256(&'static str),
}

impl Checksum {
    /// The published sum.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Md5(sum) | Self::UnpackedSha256(sum) => sum,
        }
    }

    /// The sum of `file`; `None` if its compression is broken, so that it has none.
    pub(crate) fn of(self, file: &Path) -> io::Result<Option<String>> {
        let mut bytes = BufReader::with_capacity(1 << 16, File::open(file)?);
        match self {
            Self::Md5(_) => sum::<Md5>(bytes).map(Some),
            Self::UnpackedSha256(_) => {
                // What the disk says is an error; what the decompression says is a wrong file.
                io::BufRead::fill_buf(&mut bytes)?;
                Ok(sum::<Sha256>(MultiGzDecoder::new(bytes)).ok())
            }
        }
    }

    /// Whether `file` has the published sum.
    pub(crate) fn fits(self, file: &Path) -> io::Result<bool> {
        Ok(self.of(file)?.as_deref() == Some(self.expected()))
    }
}

fn sum<D: Digest>(mut bytes: impl Read) -> io::Result<String> {
    let mut digest = D::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match bytes.read(&mut block) {
            Ok(0) => break,
            Ok(read) => digest.update(&block[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hex(&digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_mnist_has_the_published_sums() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/mnist");
        for file in super::super::catalog::Name::Mnist.published().files {
            assert!(file.checksum.fits(&folder.join(file.name)).expect("it is committed"), "{}", file.name);
        }
    }

    #[test]
    fn sums_are_the_standards() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").expect("written");
        // RFC 1321, appendix A.5.
        assert!(Checksum::Md5("900150983cd24fb0d6963f7d28e17f72").fits(&path).expect("it is there"));
        assert!(!Checksum::Md5("d41d8cd98f00b204e9800998ecf8427e").fits(&path).expect("it is there"));
        assert_eq!(Checksum::UnpackedSha256("").of(&path).expect("it is there"), None, "it is no gzip file");
        assert!(Checksum::Md5("").of(&folder.path().join("d")).is_err());
    }
}
