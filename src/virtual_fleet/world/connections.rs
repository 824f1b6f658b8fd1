//! Connections: how they are made, what crosses them, how they end.

use std::time::Duration;

use partway_core::coordinator::ConnectionId;
use partway_core::wire::{CloudMessage, EdgeMessage};

use super::super::link::{Crossing, Lost};
use super::{Happening, Payload, World};

/// What a message takes at its two ends, beside the link: streams, framing, thread switches.
const ENDPOINTS: Duration = Duration::from_micros(500);
/// A handshake's bytes: the client's first packet, the server's certificate, the client's confirmation.
const HANDSHAKE: [u64; 3] = [1200, 3600, 300];
/// When a client that hears nothing sends its first packet again, and when it gives up, from the first on.
const ATTEMPTS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// One connection, from the attempt to make it to the end that both sides know.
pub(super) struct Connection {
    pub(super) edge: usize,
    pub(super) open_at_edge: bool,
    pub(super) open_at_cloud: bool,
}

impl World {
    /// Both sides of an edge's connection have heard nothing for too long.
    pub(super) fn break_connection(&mut self, edge: usize) -> Option<usize> {
        let connection = self.edges[edge].connection?;
        // One that is still being made is given up by itself.
        let at = self.connections.get(&connection).filter(|at| at.open_at_edge)?;
        let open_at_cloud = at.open_at_cloud;
        self.connections.remove(&connection);
        if open_at_cloud {
            self.cloud.coordinator.handle_disconnect(self.agenda.now(), ConnectionId(connection));
        }
        let reason = format!("the connection was silent for {:?}", self.idle_timeout);
        self.lose_at_edge(edge, connection, &reason);
        Some(edge)
    }

    pub(super) fn lose_at_edge(&mut self, edge: usize, connection: u64, reason: &str) {
        let at = &mut self.edges[edge];
        if at.connection == Some(connection) {
            at.connection = None;
            at.participant.handle_disconnect(self.agenda.now(), reason);
        }
    }

    pub(super) fn forget_closed(&mut self, connection: u64) {
        if self.connections.get(&connection).is_some_and(|at| !at.open_at_edge && !at.open_at_cloud) {
            self.connections.remove(&connection);
        }
    }

    /// Makes a connection: as a client of QUIC does, a round trip for the edge and another half for the
    /// cloud, which the edge's first message overtakes nothing of.
    pub(super) fn connect(&mut self, edge: usize) {
        self.numbered += 1;
        let (now, connection) = (self.agenda.now(), self.numbered);
        let at = &mut self.edges[edge];
        at.connection = Some(connection);
        self.connections.insert(connection, Connection { edge, open_at_edge: false, open_at_cloud: false });
        let tried = ATTEMPTS.map(|later| now + later);
        let reached =
            tried.into_iter().find(|attempt| at.link.outage_at(*attempt).is_none()).and_then(|attempt| {
                at.link.up.reset(attempt);
                at.link.down.reset(attempt);
                let [hello, certificate, confirmation] = HANDSHAKE;
                let hello = at.link.up.send(attempt, hello, None).ok()?.arrives;
                let certificate = at.link.down.send(hello, certificate, None).ok()?.arrives;
                let confirmation = at.link.up.send(certificate, confirmation, None).ok()?.arrives;
                (certificate <= now + HANDSHAKE_TIMEOUT).then_some((certificate, confirmation))
            });
        match reached {
            Some((at_edge, at_cloud)) => {
                self.agenda.plan(at_edge, Happening::EdgeConnected { connection });
                self.agenda.plan(at_cloud, Happening::CloudConnected { connection });
            }
            None => self.agenda.plan(now + HANDSHAKE_TIMEOUT, Happening::ConnectFailed { connection }),
        }
    }

    pub(super) fn send_up(
        &mut self,
        edge: usize,
        bytes: u64,
        pace: Option<f64>,
        payload: impl FnOnce(f64) -> Payload<EdgeMessage>,
    ) {
        let at = &mut self.edges[edge];
        let Some(connection) = at.connection else { return };
        let sent = at.link.up.send(self.agenda.now(), bytes, pace);
        self.plan_arrival(connection, sent, |seconds| Happening::ToCloud {
            connection,
            payload: payload(seconds),
        });
    }

    pub(super) fn send_down(
        &mut self,
        connection: u64,
        bytes: u64,
        pace: Option<f64>,
        payload: impl FnOnce(f64) -> Payload<CloudMessage>,
    ) {
        let Some(at) = self.connections.get(&connection).filter(|at| at.open_at_cloud) else { return };
        let edge = &mut self.edges[at.edge];
        if edge.connection != Some(connection) {
            return;
        }
        let sent = edge.link.down.send(self.agenda.now(), bytes, pace);
        self.plan_arrival(connection, sent, |seconds| Happening::ToEdge {
            connection,
            payload: payload(seconds),
        });
    }

    fn plan_arrival(
        &mut self,
        connection: u64,
        sent: Result<Crossing, Lost>,
        arrival: impl FnOnce(f64) -> Happening,
    ) {
        match sent {
            Ok(Crossing { arrives, seconds }) => self.agenda.plan(arrives + ENDPOINTS, arrival(seconds)),
            Err(Lost::Silent { at }) => self.agenda.plan(at, Happening::Unheard { connection }),
            // The outage ends the connection.
            Err(Lost::Stalled) => {}
        }
    }

    /// The coordinator closes a connection once what it sent on it has been read.
    pub(super) fn close_from_cloud(&mut self, connection: u64, reason: String) {
        let Some(at) = self.connections.get(&connection) else { return };
        let link = &self.edges[at.edge].link;
        let read = link.down.drained(self.agenda.now()) + ENDPOINTS;
        let noticed = read + link.up.delay();
        self.agenda.plan(read, Happening::EdgeNotices { connection, reason });
        self.agenda.plan(noticed, Happening::CloudNotices { connection });
    }

    /// An edge that has ended closes its connection.
    pub(super) fn close_from_edge(&mut self, edge: usize) {
        let Some(connection) = self.edges[edge].connection.take() else { return };
        if let Some(at) = self.connections.get_mut(&connection) {
            at.open_at_edge = false;
        }
        let noticed = self.edges[edge].link.up.drained(self.agenda.now()) + ENDPOINTS;
        self.agenda.plan(noticed, Happening::CloudNotices { connection });
    }
}
