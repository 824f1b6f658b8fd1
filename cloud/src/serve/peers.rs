//! The first and the last of a connection: edges are accepted, and let read the last words.

use std::collections::BTreeMap;
use std::time::Duration;

use partway_net::peer::Peer;
use partway_net::{AcceptError, DataListener, Listener, Unpaired};
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
    mut data: Option<DataListener>,
    inputs: mpsc::Sender<Input>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    loop {
        let input = tokio::select! {
            accepted = listener.accept() => match accepted {
                Some(Ok(connection)) => Input::Connected(connection),
                Some(Err(error)) => Input::Turned(error),
                None => break,
            },
            accepted = next_of(&mut data) => match accepted {
                Some(Ok(unpaired)) => Input::Data(unpaired),
                Some(Err(error)) => Input::Turned(error),
                None => break,
            },
            _ = &mut stopped => break,
        };
        if inputs.send(input).await.is_err() {
            break;
        }
    }
    let over = "the run is over";
    listener.shutdown(0, over).await;
    if let Some(data) = data {
        data.shutdown(0, over).await;
    }
}

/// The next data connection, which never comes where there are none.
async fn next_of(data: &mut Option<DataListener>) -> Option<Result<Unpaired, AcceptError>> {
    match data {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
