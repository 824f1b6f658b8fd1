//! Whoever reads what the program says may go away: that is no reason to fail.

use std::process::{Command, Stdio};

#[test]
fn a_reader_that_has_gone_away_does_not_change_the_exit_code() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_partway-cloud"))
        .args(["serve", "--config", "absent.toml", "--listen", "127.0.0.1:0", "--state", "absent"])
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .expect("it starts");
    assert_eq!(status.code(), Some(2), "the configuration is absent");
}
