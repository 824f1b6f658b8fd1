//! The same messages as Partway sends them: from the values of a tensor to the values of a tensor, checked, with their
//! headers, through both ends' queues.

use partway_core::codec::Codec;
use partway_core::wire::{TensorHeader, TensorKind, TensorMessage};
use partway_net::peer::{BodyLimit, Peer, PeerEvent};
use partway_net::{Connection, LinkProfile};
use tokio::sync::mpsc::{Receiver, channel};

use super::ends::{Broken, Meter, Used, meet};

/// Events that may wait.
const QUEUE: usize = 64;

type Events = Receiver<((), PeerEvent<()>)>;

fn peer(connection: Connection, bytes: usize) -> (Peer, Events) {
    let (events, queue) = channel(QUEUE);
    (Peer::start((), connection, BodyLimit::new(bytes), events), queue)
}

fn send(peer: &Peer, kind: TensorKind, values: Vec<f32>) {
    peer.send_tensor(TensorMessage::encode(TensorHeader::new(kind, Codec::F32), values, &[]), None);
}

/// The values of the next tensor, if one comes.
async fn take(events: &mut Events) -> Result<Option<Vec<f32>>, Broken> {
    match events.recv().await {
        Some(((), PeerEvent::Tensor { tensor, .. })) => Ok(Some(tensor.decode()?.0)),
        Some(((), PeerEvent::Malformed(reason))) => Err(reason.into()),
        _ => Ok(None),
    }
}

/// As [`super::bare::round_trips`]: activations there, gradients back.
pub(super) fn round_trips(
    bytes: usize,
    before: usize,
    steps: usize,
    link: Option<&LinkProfile>,
) -> Result<Used, Broken> {
    let answer = async move |connection: Connection| {
        let (peer, mut events) = peer(connection, bytes);
        while let Some(values) = take(&mut events).await? {
            send(&peer, TensorKind::CutGradient, values);
        }
        Ok(())
    };
    meet(link, answer, async |connection| {
        let (peer, mut events) = peer(connection, bytes);
        let mut values = vec![1.0; bytes / 4];
        let mut meter = Meter::start()?;
        for step in 0..before + steps {
            if step == before {
                meter = Meter::start()?;
            }
            send(&peer, TensorKind::Activations, values);
            values = take(&mut events).await?.ok_or("the connection was lost")?;
        }
        meter.used()
    })
}

/// As [`super::bare::stream`].
pub(super) fn stream(bytes: usize, count: usize, link: Option<&LinkProfile>) -> Result<Used, Broken> {
    let acknowledge = async move |connection: Connection| {
        let (peer, mut events) = peer(connection, bytes);
        for _ in 0..2 {
            for _ in 0..count {
                take(&mut events).await?.ok_or("the connection was lost")?;
            }
            send(&peer, TensorKind::CutGradient, vec![1.0]);
        }
        take(&mut events).await.map(drop)
    };
    meet(link, acknowledge, async |connection| {
        let (peer, mut events) = peer(connection.clone(), bytes);
        let tensor = TensorMessage::encode(
            TensorHeader::new(TensorKind::Activations, Codec::F32),
            vec![1.0; bytes / 4],
            &[],
        );
        let mut used = Used::default();
        for _ in 0..2 {
            let meter = Meter::start()?;
            for _ in 0..count {
                peer.send_tensor(tensor.clone(), None);
            }
            take(&mut events).await?.ok_or("the connection was lost")?;
            used = meter.used()?;
        }
        Ok(used)
    })
}
