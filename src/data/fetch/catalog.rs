//! The published data sets: where they are, and how to know that they arrived whole.

use clap::ValueEnum;

use super::checksum::Checksum;

/// A data set by its name in `data.dataset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Handwritten digits
    Mnist,
    /// Articles of clothing
    FashionMnist,
    /// Photographs in 10 classes
    #[value(name = "cifar10")]
    Cifar10,
    /// Photographs in 100 classes
    #[value(name = "cifar100")]
    Cifar100,
}

/// A published data set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    /// Folders on the web that hold all the files, the nearest to the authors first.
    pub(crate) mirrors: &'static [&'static str],
    pub(crate) files: &'static [PublishedFile],
    /// The files in the archive that are kept, with their bytes; none if the files are no archives.
    pub(crate) unpacked: &'static [(&'static str, u64)],
}

/// One of its files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishedFile {
    pub(crate) name: &'static str,
    pub(crate) checksum: Checksum,
}

const fn file(name: &'static str, checksum: Checksum) -> PublishedFile {
    PublishedFile { name, checksum }
}

/// By `LeCun`, Cortes & Burges. The sums are of the files without compression, which is not the same everywhere.
const MNIST: Published = Published {
    mirrors: &[
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ],
    files: &[
        file(
            "train-images-idx3-ubyte.gz",
            Checksum::UnpackedSha256("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        ),
        file(
            "train-labels-idx1-ubyte.gz",
            Checksum::UnpackedSha256("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        ),
        file(
            "t10k-images-idx3-ubyte.gz",
            Checksum::UnpackedSha256("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        ),
        file(
            "t10k-labels-idx1-ubyte.gz",
            Checksum::UnpackedSha256("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ),
    ],
    unpacked: &[],
};

/// By Xiao, Rasul & Vollgraf. The sums are those in the authors' list.
const FASHION_MNIST: Published = Published {
    mirrors: &[
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ],
    files: &[
        file("train-images-idx3-ubyte.gz", Checksum::Md5("8d4fb7e6c68d591d4c3dfef9ec88bf0d")),
        file("train-labels-idx1-ubyte.gz", Checksum::Md5("25c81989df183df01b3e8a0aad5dffbe")),
        file("t10k-images-idx3-ubyte.gz", Checksum::Md5("bef4ecab320f06d8554ea6380940ec79")),
        file("t10k-labels-idx1-ubyte.gz", Checksum::Md5("bb300cfdad3c16e7a12a480ee83cd310")),
    ],
    unpacked: &[],
};

/// By Krizhevsky, as is the other; the sums are on his page.
const CIFAR10: Published = Published {
    mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    files: &[file("cifar-10-binary.tar.gz", Checksum::Md5("c32a1d4ab5d03f1284b67883e8d87530"))],
    unpacked: &[
        ("data_batch_1.bin", 30_730_000),
        ("data_batch_2.bin", 30_730_000),
        ("data_batch_3.bin", 30_730_000),
        ("data_batch_4.bin", 30_730_000),
        ("data_batch_5.bin", 30_730_000),
        ("test_batch.bin", 30_730_000),
    ],
};

const CIFAR100: Published = Published {
    mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    files: &[file("cifar-100-binary.tar.gz", Checksum::Md5("03b5dce01913d631647c71ecec9e9cb8"))],
    unpacked: &[("train.bin", 153_700_000), ("test.bin", 30_740_000)],
};

impl Name {
    /// As in `data.dataset`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    pub(crate) fn published(self) -> &'static Published {
        match self {
            Self::Mnist => &MNIST,
            Self::FashionMnist => &FASHION_MNIST,
            Self::Cifar10 => &CIFAR10,
            Self::Cifar100 => &CIFAR100,
        }
    }
}
