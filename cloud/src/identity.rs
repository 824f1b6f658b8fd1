//! The certificate that edges know: made at the first start, and kept in the state folder, so that they know the
//! coordinator again when it is back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use partway_net::{Authority, ServerIdentity, TlsError};
use thiserror::Error;

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// It cannot be made, read or written.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its folder cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A coordinator's certificate and key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate and its key.
    pub server: ServerIdentity,
    /// What the operator is to know of it, if it is not what it was, or not what was asked for.
    pub notice: Option<String>,
}

/// The file that edges need, in the state folder `state`.
pub fn ca_file(state: &Path) -> PathBuf {
    state.join("tls").join("ca.pem")
}

/// The identity in the state folder `state`. It is made if there is none, for the host names and addresses `own` and
/// `asked`, and made anew if it was not made for all that are `asked` for; but the run that `resumes` keeps what its edges
/// trust.
///
/// # Errors
/// If a file cannot be read or written, or a name is none.
pub fn identity(
    state: &Path,
    own: &[String],
    asked: &[String],
    resumes: bool,
) -> Result<Identity, IdentityError> {
    let folder = state.join("tls");
    let [chain, key, list] =
        ["coordinator.pem", "coordinator.key", "names.txt"].map(|name| folder.join(name));
    let mut notice = None;
    if chain.exists() && key.exists() {
        // Without a list nothing is known of it.
        let known = fs::read_to_string(&list).unwrap_or_default();
        let is_missing = |name: &&String| !known.lines().any(|known| known == name.as_str());
        let missing: Vec<&str> = asked.iter().filter(is_missing).map(String::as_str).collect();
        if missing.is_empty() || resumes {
            let server = ServerIdentity::load(&chain, &key)?;
            if !missing.is_empty() {
                notice = Some(format!(
                    "the certificate may not be for {} (--listen, --name): a run that goes on keeps the one that its edges trust",
                    missing.join(", ")
                ));
            }
            return Ok(Identity { server, notice });
        }
        notice = Some(format!(
            "the certificate was not for {} (--listen, --name), and is made anew: every edge needs the new {}",
            missing.join(", "),
            ca_file(state).display()
        ));
    }
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| IdentityError::Io { action, path, source }
    };
    fs::create_dir_all(&folder).map_err(io("make", &folder))?;
    let mut names: Vec<String> = own.iter().chain(asked).cloned().collect();
    names.sort();
    names.dedup();
    let authority = Authority::generate()?;
    let server = authority.issue(&names)?;
    authority.save(&ca_file(state))?;
    server.save(&chain, &key)?;
    fs::write(&list, names.join("\n") + "\n").map_err(io("write", &list))?;
    Ok(Identity { server, notice })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What edges trust after a start with these names, and whether something is said of it.
    fn started(state: &Path, asked: &[&str], resumes: bool) -> (String, bool) {
        let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
        let identity = identity(state, &["localhost".to_owned()], &asked, resumes).expect("it has one");
        let chain = fs::read_to_string(state.join("tls/coordinator.pem")).expect("kept");
        assert!(format!("{:?}", identity.server).contains(&format!("{chain:?}")), "it is what is kept");
        (fs::read_to_string(ca_file(state)).expect("written"), identity.notice.is_some())
    }

    #[test]
    fn a_coordinator_that_is_started_again_is_trusted_by_its_edges() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, says) = started(folder.path(), &["example.org"], false);
        assert!(!says);
        for (asked, resumes) in
            [(&["example.org"][..], true), (&["example.org"], false), (&[], false), (&["localhost"], false)]
        {
            assert_eq!(started(folder.path(), asked, resumes), (first.clone(), false), "{asked:?}");
        }
    }

    #[test]
    fn another_name_makes_another_authority_and_is_told_but_not_within_a_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, _) = started(folder.path(), &[], false);
        let names = &["example.org"];
        assert_eq!(started(folder.path(), names, true), (first.clone(), true), "its edges wait for it");
        let (second, says) = started(folder.path(), names, false);
        assert!(second != first && says);
        assert_eq!(started(folder.path(), names, false), (second, false));
    }
}
