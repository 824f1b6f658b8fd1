//! Connections: whose they are, who is turned away, and that each that asks for nothing ends.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Coordinator;
use super::action::{Action, ConnectionId};
use crate::event::EventKind;
use crate::wire::CloudMessage;

/// How long a new connection may take to ask to take part.
const ASKING: Duration = Duration::from_secs(30);

/// Connections on which nobody has asked yet; more are put off.
const MOST_UNKNOWN: usize = 1024;

/// Whose a connection is.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Nobody has asked on it yet.
    Unknown { since: Duration },
    /// An edge has, by this name.
    Edge(String),
}

impl Caller {
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// Each connection, and whose it is.
#[derive(Debug, Default)]
pub(super) struct Connections {
    callers: BTreeMap<ConnectionId, Caller>,
    /// How many nobody has asked on yet.
    unknown: usize,
}

impl Connections {
    pub(super) fn get(&self, connection: ConnectionId) -> Option<&Caller> {
        self.callers.get(&connection)
    }

    pub(super) fn insert(&mut self, connection: ConnectionId, caller: Caller) {
        self.unknown += usize::from(caller.is_unknown());
        let before = self.callers.insert(connection, caller);
        self.unknown -= usize::from(before.is_some_and(|caller| caller.is_unknown()));
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Caller> {
        let caller = self.callers.remove(&connection)?;
        self.unknown -= usize::from(caller.is_unknown());
        Some(caller)
    }

    /// Those on which nobody has asked, and when each was made.
    fn unknown(&self) -> impl Iterator<Item = (ConnectionId, Duration)> {
        let all = self.callers.iter().take_while(|_| self.unknown > 0);
        all.filter_map(|(connection, caller)| match caller {
            Caller::Unknown { since } => Some((*connection, *since)),
            Caller::Edge(_) => None,
        })
    }
}

impl Coordinator {
    /// A connection was made; the edge speaks first.
    pub fn handle_connected(&mut self, now: Duration, from: ConnectionId) {
        if !self.has_ended() {
            let waiting = self.connections.unknown;
            self.connections.insert(from, Caller::Unknown { since: now });
            self.expires_at(now + ASKING);
            if waiting >= MOST_UNKNOWN {
                self.put_off_connection(now, from, "too many connections wait to ask; try again");
            }
            self.set_timer();
        }
    }

    /// A connection is gone.
    pub fn handle_disconnect(&mut self, now: Duration, from: ConnectionId) {
        if let Some(Caller::Edge(edge)) = self.connections.remove(from) {
            self.handle_lost(now, &edge, from);
        }
        self.set_timer();
    }

    /// When the first of the connections on which nobody has asked has had its time.
    pub(super) fn next_silent(&self) -> Option<Duration> {
        let asking = self.connections.unknown().map(|(_, since)| since + ASKING);
        asking.min().filter(|_| !self.has_ended())
    }

    /// Turns away the connections on which nobody has asked in time: each holds memory.
    pub(super) fn turn_away_the_silent(&mut self, now: Duration) {
        let silent: Vec<ConnectionId> = self
            .connections
            .unknown()
            .filter(|(_, since)| now >= *since + ASKING)
            .map(|(connection, _)| connection)
            .collect();
        for connection in silent {
            self.refuse_connection(now, connection, &format!("no training request came within {ASKING:?}"));
        }
    }

    /// Turns away a connection that no edge has been admitted on.
    pub(super) fn refuse_connection(&mut self, now: Duration, connection: ConnectionId, reason: &str) {
        self.end_connection(now, connection, reason, CloudMessage::Refused { reason: reason.to_owned() });
    }

    /// Turns away a connection for now.
    pub(super) fn put_off_connection(&mut self, now: Duration, connection: ConnectionId, reason: &str) {
        self.end_connection(now, connection, reason, CloudMessage::NotYet { reason: reason.to_owned() });
    }

    fn end_connection(
        &mut self,
        now: Duration,
        connection: ConnectionId,
        reason: &str,
        message: CloudMessage,
    ) {
        let reason = reason.to_owned();
        self.emit(now, EventKind::EdgeRefused { edge: String::new(), reason: reason.clone() });
        self.push(Action::Send { to: connection, message });
        self.push(Action::Close { connection, reason });
        self.connections.remove(connection);
    }

    /// Turns away an edge that does what cannot be. It may come back within the rejoin window.
    pub(super) fn refuse_edge(&mut self, now: Duration, edge: &str, reason: &str) {
        let reason = reason.to_owned();
        self.emit(now, EventKind::EdgeRefused { edge: edge.to_owned(), reason: reason.clone() });
        self.send(edge, CloudMessage::Refused { reason: reason.clone() });
        let Some(member) = self.fleet.get_mut(edge) else { return };
        if let Some(connection) = member.connection {
            member.refused = Some(reason.clone());
            self.push(Action::Close { connection, reason });
            self.connections.remove(connection);
            self.handle_lost(now, edge, connection);
        }
    }

    pub(super) fn say_goodbye(&mut self, message: &CloudMessage) {
        for to in std::mem::take(&mut self.connections).callers.into_keys() {
            self.push(Action::Send { to, message: message.clone() });
            self.push(Action::Close { connection: to, reason: "the run is over".into() });
        }
    }
}
