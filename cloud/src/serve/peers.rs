//! The first and the last of a connection: edges are accepted, and let read the last words.

use std::collections::BTreeMap;
use std::time::Duration;

use partway_net::Listener;
use partway_net::peer::Peer;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Input;

/// How long edges may take to read the last words.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);

/// Lets edges read the last words; a run that can be resumed has none, so that they wait for its return.
pub(super) async fn say_goodbye(peers: &BTreeMap<u64, Peer>, resumable: bool) {
    if resumable {
        for peer in peers.values() {
            peer.connection().close(0, "the coordinator has stopped, and may come back");
        }
        return;
    }
    let all_gone = async {
        for peer in peers.values() {
            peer.connection().closed().await;
        }
    };
    // Whoever has not read them by then learns it from the closed connection.
    let _ = timeout(FAREWELL, all_gone).await;
}

/// Accepts connections until the loop ends.
pub(super) async fn listen_for_edges(
    mut listener: Listener,
    inputs: mpsc::Sender<Input>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => None,
        };
        let input = match accepted {
            Some(Ok(connection)) => Input::Connected(connection),
            Some(Err(error)) => Input::Turned(error),
            None => break,
        };
        if inputs.send(input).await.is_err() {
            break;
        }
    }
    listener.shutdown(0, "the run is over").await;
}
