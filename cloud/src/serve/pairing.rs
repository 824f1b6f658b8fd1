//! Which data connection belongs to whose control connection.

use std::collections::BTreeMap;
use std::time::Duration;

use partway_core::event::Event;
use partway_core::wire::EdgeMessage;
use partway_net::peer::PeerEvent;
use partway_net::{AcceptError, Connection, PairingKey, Unpaired};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{Driver, Input};

/// How long a data connection may wait for the control connection whose key it has shown: an edge opens them in this
/// order, but they may be seen in the other.
const EARLY_TIME: Duration = Duration::from_secs(2);

/// Data connections that may wait for that.
const MOST_EARLY: usize = 64;

/// Control connections that may still get a data connection, and data connections that came before theirs.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    /// Of those that have not said anything yet: an edge asks to take part when it has both.
    keys: BTreeMap<u64, PairingKey>,
    early: Vec<Early>,
}

#[derive(Debug)]
struct Early {
    data: Unpaired,
    expiry: AbortHandle,
}

impl Pairing {
    /// A control connection came; gives the data connection that belongs to it, if that was there first.
    fn handle_control(&mut self, number: u64, control: &Connection) -> Option<Unpaired> {
        let key = PairingKey::of(control)?;
        if let Some(place) = self.early.iter().position(|early| *early.data.key() == key) {
            let Early { data, expiry } = self.early.swap_remove(place);
            expiry.abort();
            return Some(data);
        }
        self.keys.insert(number, key);
        None
    }

    /// A data connection came; gives it back with the number of the control connection that it belongs to. Without one
    /// it waits for a moment.
    fn handle_data(&mut self, data: Unpaired, inputs: &mpsc::Sender<Input>) -> Option<(u64, Unpaired)> {
        let owner = self.keys.iter().find(|(_, key)| *key == data.key()).map(|(number, _)| *number);
        if let Some(number) = owner {
            self.keys.remove(&number);
            return Some((number, data));
        }
        self.early.retain(|early| early.data.connection().close_reason().is_none());
        if self.early.len() == MOST_EARLY {
            data.refuse();
            return None;
        }
        let (connection, inputs) = (data.connection().clone(), inputs.clone());
        let expiry = tokio::spawn(async move {
            tokio::time::sleep(EARLY_TIME).await;
            // The loop is gone when the run has ended.
            let _ = inputs.send(Input::Expired(connection)).await;
        });
        self.early.push(Early { data, expiry: expiry.abort_handle() });
        None
    }

    /// Nobody came whose data connection this is; gives why it is turned away, unless somebody came just now.
    fn handle_expired(&mut self, data: &Connection) -> Option<AcceptError> {
        let is_it = |early: &Early| early.data.connection().quic().stable_id() == data.quic().stable_id();
        let place = self.early.iter().position(is_it)?;
        self.early.swap_remove(place).data.refuse();
        Some(AcceptError::Unpaired { peer: data.peer() })
    }

    /// A control connection has said something, or is gone: it gets no data connection any more.
    pub(super) fn forget(&mut self, number: u64) {
        self.keys.remove(&number);
    }
}

impl<E: FnMut(&Event)> Driver<E> {
    /// Sees to a control connection that has just got its peer.
    pub(super) fn expect_data(
        &mut self,
        number: u64,
        control: &Connection,
        events: &mpsc::Sender<(u64, PeerEvent<EdgeMessage>)>,
    ) {
        if let Some(data) = self.pairing.as_mut().and_then(|pairing| pairing.handle_control(number, control))
        {
            self.attach(number, data, events);
        }
    }

    /// Attaches a data connection to its control connection, or lets it wait for that.
    pub(super) fn handle_data_connection(
        &mut self,
        data: Unpaired,
        events: &mpsc::Sender<(u64, PeerEvent<EdgeMessage>)>,
    ) {
        let Some(pairing) = &mut self.pairing else { return };
        if let Some((number, data)) = pairing.handle_data(data, &self.inputs) {
            self.attach(number, data, events);
        }
    }

    /// A data connection has waited for too long; gives why it is turned away.
    pub(super) fn expire(&mut self, data: &Connection) -> Option<AcceptError> {
        self.pairing.as_mut()?.handle_expired(data)
    }

    fn attach(&mut self, number: u64, data: Unpaired, events: &mpsc::Sender<(u64, PeerEvent<EdgeMessage>)>) {
        // Both are there until the edge has spoken, or gone.
        if let (Some(peer), Some(limit)) = (self.peers.get_mut(&number), self.limits.get(&number)) {
            peer.move_tensors(number, data.pair(), limit.clone(), events.clone());
        }
    }
}
