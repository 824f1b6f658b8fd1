//! What crosses the network.

use std::time::Duration;

use partway_core::coordinator::{ConnectionId, Received};
use partway_core::participant::Participant;
use partway_core::wire::{CloudMessage, EdgeMessage, TensorHeader, TensorMessage, message};

use super::{Happening, Payload, World};
use crate::network::{Connection, Link, Pipe};

impl World {
    pub(super) fn connect(&mut self, edge: usize, process: u32) {
        let link = self.links[edge];
        let round_trip = 2 * link.latency + self.dice.between(Duration::ZERO, link.jitter);
        let at = self.now + round_trip;
        if self.cloud.is_none() || self.unreachable_until[edge] > self.now {
            self.schedule(at, Happening::ConnectFailed { edge, process });
            return;
        }
        self.next_connection += 1;
        let connection = self.next_connection;
        let pipe = Pipe::new(at);
        let made = Connection { edge, process, run: self.run, link, up: pipe, down: pipe };
        self.connections.insert(connection, made);
        self.schedule(at, Happening::Connected { connection });
    }

    pub(super) fn connected(&mut self, connection: u64) {
        let Connection { edge, process, run, up, .. } = self.connections[&connection];
        if self.cloud.is_none() || run != self.run || up.dead_from <= self.now {
            self.handle(Happening::ConnectFailed { edge, process });
            return;
        }
        self.coordinator(run, |coordinator, now| {
            coordinator.handle_connected(now, ConnectionId(connection));
        });
        let Some(alive) = self.process(edge, process) else {
            let notices = self.now + self.dice.ms(1, 2000);
            self.schedule(notices, Happening::CloudNotices { connection });
            return;
        };
        alive.connection = Some(connection);
        self.participant(edge, process, Participant::handle_connected);
    }

    pub(super) fn send_up(&mut self, edge: usize, process: u32, message: &EdgeMessage) {
        let Some(connection) = self.process(edge, process).and_then(|alive| alive.connection) else { return };
        let bytes = message::encode(message).expect("it is short");
        let message: EdgeMessage = message::decode(&bytes).expect("it was encoded");
        if let EdgeMessage::TrainingRequest(request) = &message {
            let labels_leave = !request.labels.is_empty();
            assert_eq!(labels_leave, self.scenario.tail.is_none(), "how many samples it has of each label");
        }
        let Some(at) = self.connections.get_mut(&connection) else { return };
        let link = at.link;
        let arrives = at.up.message(self.now, &link, &mut self.dice);
        // An edge that asks twice is turned away: that is no copy's doing.
        let copied = !matches!(message, EdgeMessage::TrainingRequest(_));
        let copy = link.copy(&mut self.dice).filter(|_| copied);
        self.deliver(arrives, copy, Happening::ToCloud { connection, payload: Payload::Message(message) });
    }

    pub(super) fn send_down(&mut self, connection: u64, message: &CloudMessage) {
        let bytes = message::encode(message).expect("it is short");
        let message: CloudMessage = message::decode(&bytes).expect("it was encoded");
        let Some(at) = self.connections.get_mut(&connection) else { return };
        if let CloudMessage::Round(plan) = message {
            let before = self.plans.insert((at.run, at.edge, plan.round, plan.attempt), plan);
            assert!(before.is_none(), "edge {} was told {before:?} before {plan:?}", at.edge);
        }
        let link = at.link;
        let arrives = at.down.message(self.now, &link, &mut self.dice);
        let copy = link.copy(&mut self.dice);
        self.deliver(arrives, copy, Happening::ToEdge { connection, payload: Payload::Message(message) });
    }

    pub(super) fn send_tensor_up(&mut self, edge: usize, process: u32, tensor: TensorMessage) {
        let Some(connection) = self.process(edge, process).and_then(|alive| alive.connection) else { return };
        assert!(
            self.scenario.tail.is_none() || tensor.header.labels == 0,
            "labels leave: {:?}",
            tensor.header
        );
        let link = self.connections[&connection].link;
        let (payload, arrives, copy) = self.tensor(link, tensor);
        self.deliver(arrives, copy, Happening::ToCloud { connection, payload });
    }

    pub(super) fn send_tensor_down(&mut self, connection: u64, tensor: TensorMessage) {
        let Some(link) = self.connections.get(&connection).map(|at| at.link) else { return };
        let (payload, arrives, copy) = self.tensor(link, tensor);
        self.deliver(arrives, copy, Happening::ToEdge { connection, payload });
    }

    pub(super) fn tensor<M>(
        &mut self,
        link: Link,
        tensor: TensorMessage,
    ) -> (Payload<M>, Duration, Option<Duration>) {
        let header = TensorHeader::decode(&tensor.header.encode()).expect("it was encoded");
        let tensor = TensorMessage { header, ..tensor };
        let takes = link.tensor(tensor.wire_bytes(), &mut self.dice);
        let copy = link.copy(&mut self.dice);
        (Payload::Tensor(tensor, takes), self.now + takes, copy)
    }

    pub(super) fn deliver(&mut self, at: Duration, copy: Option<Duration>, happening: Happening) {
        if let Some(later) = copy {
            self.schedule(at + later, happening.clone());
        }
        self.schedule(at, happening);
    }

    pub(super) fn reach_cloud(&mut self, connection: u64, payload: Payload<EdgeMessage>) {
        let Connection { run, up, link, .. } = self.connections[&connection];
        if up.dead_from <= self.now {
            return;
        }
        let from = ConnectionId(connection);
        self.coordinator(run, |coordinator, now| match payload {
            Payload::Message(message) => coordinator.handle_message(now, from, message),
            Payload::Tensor(tensor, took) => {
                let received =
                    Received { seconds: took.as_secs_f64(), rtt_s: 2.0 * link.latency.as_secs_f64() };
                coordinator.handle_tensor(now, from, tensor, received);
            }
        });
    }

    pub(super) fn reach_edge(&mut self, connection: u64, payload: Payload<CloudMessage>) {
        let Connection { edge, process, down, .. } = self.connections[&connection];
        let Some(alive) = self.process(edge, process) else { return };
        if alive.connection != Some(connection) || down.dead_from <= self.now {
            return;
        }
        self.participant(edge, process, |participant, now| match payload {
            Payload::Message(message) => participant.handle_message(now, message),
            Payload::Tensor(tensor, took) => participant.handle_tensor(now, tensor, took.as_secs_f64()),
        });
    }
}
