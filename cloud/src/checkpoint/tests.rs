use std::sync::Arc;

use partway_core::model::LayerState;
use partway_core::model::builtin::builtin;

use super::*;

fn lenet5() -> ModelSpec {
    builtin("lenet5", [1, 28, 28], 10).expect("it is built in")
}

fn after(rounds: u32, spec: &ModelSpec, moments: usize) -> Checkpoint {
    Checkpoint {
        rounds,
        aggregations: rounds / 5,
        optimizer_steps: 30 * u64::from(rounds),
        state: Arc::new(LayerState::initial(spec, 0..spec.len(), moments, u64::from(rounds))),
    }
}

/// A run's folder with checkpoints after these rounds.
fn run(rounds: &[u32], keep: usize) -> (tempfile::TempDir, ModelSpec) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let spec = lenet5();
    for rounds in rounds {
        write(dir.path(), &after(*rounds, &spec, 1), keep, &spec).expect("the folder can be written to");
    }
    (dir, spec)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join(FOLDER)).expect("the folder is there");
    let name = |entry: io::Result<fs::DirEntry>| entry.expect("it can be listed").file_name();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry).into_string().expect("our names are text")).collect();
    names.sort();
    names
}

fn path(dir: &Path, rounds: u32) -> PathBuf {
    dir.join(FOLDER).join(file_name(rounds))
}

fn latest(dir: &Path, spec: &ModelSpec) -> Latest {
    read_latest(dir, spec, 1).expect("the checkpoints are of this model")
}

#[test]
fn a_checkpoint_is_read_back_as_it_was() {
    for rounds in [5, 10] {
        let (dir, spec) = run(&[rounds], 3);
        let read = latest(dir.path(), &spec);
        assert_eq!(read.checkpoint, Some(after(rounds, &spec, 1)));
        assert_eq!(read.skipped, Vec::<String>::new());
    }
}

#[test]
fn without_checkpoints_there_is_none() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let spec = lenet5();
    assert!(latest(dir.path(), &spec).checkpoint.is_none());
    fs::create_dir(dir.path().join(FOLDER)).expect("it can be made");
    fs::write(dir.path().join(FOLDER).join("round-000005.ckpt.tmp"), b"half").expect("it can be written");
    fs::write(dir.path().join(FOLDER).join("notes.txt"), b"mine").expect("it can be written");
    assert!(latest(dir.path(), &spec).checkpoint.is_none());
}

#[test]
fn the_newest_are_kept_and_read() {
    let (dir, spec) = run(&[5, 10, 15, 20], 2);
    assert_eq!(names(dir.path()), ["round-000015.ckpt", "round-000020.ckpt"]);
    assert_eq!(latest(dir.path(), &spec).checkpoint.map(|checkpoint| checkpoint.rounds), Some(20));
}

#[test]
fn the_one_just_written_is_always_kept() {
    let (dir, _) = run(&[5, 10], 0);
    assert_eq!(names(dir.path()), ["round-000010.ckpt"]);
}

#[test]
fn later_rounds_that_were_given_up_are_removed() {
    let (dir, spec) = run(&[5, 10, 15], 3);
    write(dir.path(), &after(10, &spec, 1), 3, &spec).expect("the folder can be written to");
    assert_eq!(names(dir.path()), ["round-000005.ckpt", "round-000010.ckpt"]);
}

#[test]
fn clear_removes_checkpoints_only() {
    let (dir, _) = run(&[5, 10], 3);
    fs::write(dir.path().join(FOLDER).join("notes.txt"), b"mine").expect("it can be written");
    clear(dir.path()).expect("they can be removed");
    assert_eq!(names(dir.path()), ["notes.txt"]);
    clear(&dir.path().join("elsewhere")).expect("no folder has no checkpoints");
}

#[test]
fn a_truncated_checkpoint_is_skipped_for_the_one_before() {
    let (dir, spec) = run(&[5, 10], 3);
    let path = path(dir.path(), 10);
    let bytes = fs::read(&path).expect("it was written");
    for kept in [0, 1, PREFIX_BYTES, PREFIX_BYTES + DIGEST_BYTES, 400, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..kept]).expect("it can be cut");
        let read = latest(dir.path(), &spec);
        assert_eq!(read.checkpoint, Some(after(5, &spec, 1)), "{kept} bytes");
        assert_eq!(read.skipped.len(), 1);
        assert!(read.skipped[0].contains("round-000010.ckpt"), "{}", read.skipped[0]);
    }
}

#[test]
fn one_changed_bit_anywhere_is_noticed() {
    let (dir, spec) = run(&[5, 10], 3);
    let path = path(dir.path(), 10);
    let bytes = fs::read(&path).expect("it was written");
    // In the magic, the version, the header, the values, the digest.
    for at in [0, 8, 12, PREFIX_BYTES + 10, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        fs::write(&path, changed).expect("it can be changed");
        let read = latest(dir.path(), &spec);
        assert_eq!(read.checkpoint.map(|checkpoint| checkpoint.rounds), Some(5), "byte {at}");
        assert_eq!(read.skipped.len(), 1);
    }
}

#[test]
fn when_all_are_damaged_each_is_named() {
    let (dir, spec) = run(&[5, 10], 3);
    for rounds in [5, 10] {
        fs::write(path(dir.path(), rounds), b"nothing").expect("it can be changed");
    }
    let read = latest(dir.path(), &spec);
    assert!(read.checkpoint.is_none());
    assert_eq!(read.skipped.len(), 2);
}

#[test]
fn another_model_is_refused_by_both_names() {
    let (dir, _) = run(&[5], 3);
    let vgg5 = builtin("vgg5", [3, 32, 32], 10).expect("it is built in");
    let error = read_latest(dir.path(), &vgg5, 1).expect_err("it is of lenet5").to_string();
    assert!(error.contains("`lenet5`") && error.contains("`vgg5`"), "{error}");
    // The same name and as many values, but not the same layers.
    let mut other = lenet5();
    other.layers[1].name = "elu".into();
    let error = read_latest(dir.path(), &other, 1).expect_err("a layer differs");
    assert!(matches!(error, CheckpointError::OtherModel { .. }), "{error}");
}

#[test]
fn another_optimizer_is_refused() {
    let (dir, spec) = run(&[5], 3);
    let error = read_latest(dir.path(), &spec, 2).expect_err("Adam has two moments");
    assert!(matches!(error, CheckpointError::OtherOptimizer { found: 1, configured: 2, .. }), "{error}");
}

/// Writes the checkpoint after round 10 anew, changed, with the digest that fits.
fn forge(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = path(dir, 10);
    let mut bytes = fs::read(&path).expect("it was written");
    bytes.truncate(bytes.len() - DIGEST_BYTES);
    change(&mut bytes);
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    fs::write(path, bytes).expect("it can be changed");
}

#[test]
fn another_format_is_refused() {
    let (dir, spec) = run(&[5, 10], 3);
    forge(dir.path(), |bytes| bytes[8] = 2);
    let error = read_latest(dir.path(), &spec, 1).expect_err("its format is 2");
    assert!(matches!(error, CheckpointError::Version { found: 2, .. }), "{error}");
}

#[test]
fn a_header_that_promises_too_much_is_damage_not_memory() {
    // A header length beyond the limit, one beyond the file, and values that are not there.
    let changes: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes[12..16].fill(0xff),
        |bytes| {
            bytes.truncate(PREFIX_BYTES + 20);
            bytes[12..16].copy_from_slice(&60_u32.to_le_bytes());
        },
        |bytes| bytes.truncate(bytes.len() - 4),
    ];
    for change in changes {
        let (dir, spec) = run(&[5, 10], 3);
        forge(dir.path(), change);
        let read = latest(dir.path(), &spec);
        assert_eq!(read.checkpoint.map(|checkpoint| checkpoint.rounds), Some(5));
        assert_eq!(read.skipped.len(), 1);
    }
}
