//! Connections on which nobody asks to take part.

use std::time::Duration;

use partway_core::coordinator::{Action, ConnectionId, Coordinator, Settings};
use partway_core::wire::CloudMessage;

use crate::fake_model::FakeModel;
use crate::scenario::Scenario;

/// What the coordinator does to connections, and when it next wants to be called.
#[derive(Default)]
struct Seen {
    closed: Vec<u64>,
    put_off: Vec<u64>,
    timer: Option<Duration>,
}

impl Seen {
    fn take(&mut self, coordinator: &mut Coordinator) {
        while let Some(action) = coordinator.poll_action() {
            match action {
                Action::Close { connection, .. } => self.closed.push(connection.0),
                Action::Send { to, message: CloudMessage::NotYet { .. } } => self.put_off.push(to.0),
                Action::SetTimer(at) => self.timer = at,
                _ => {}
            }
        }
    }
}

fn patient() -> Coordinator {
    let settings = Scenario::new(1).settings(&FakeModel::new(), 0);
    let gather_timeout = Duration::from_hours(1);
    Coordinator::new(Duration::ZERO, Settings { gather_timeout, ..settings }, None)
}

#[test]
fn a_connection_without_a_request_is_closed_in_time_and_no_other() {
    let mut coordinator = patient();
    let mut seen = Seen::default();
    let second = Duration::from_secs(1);
    coordinator.handle_connected(second, ConnectionId(1));
    coordinator.handle_connected(2 * second, ConnectionId(2));
    seen.take(&mut coordinator);
    let expires = seen.timer.expect("the first connection has only so long");
    assert!(expires > 2 * second);
    coordinator.handle_timeout(expires);
    seen.take(&mut coordinator);
    assert_eq!(seen.closed, [1]);
    assert_eq!(seen.timer, Some(expires + second));
    coordinator.handle_disconnect(expires, ConnectionId(2));
    coordinator.handle_timeout(expires + second);
    seen.take(&mut coordinator);
    assert_eq!(seen.closed, [1], "the second has gone by itself");
}

#[test]
fn a_flood_of_connections_is_put_off_beyond_a_bound() {
    let mut coordinator = patient();
    let mut seen = Seen::default();
    for number in 0..5000 {
        coordinator.handle_connected(Duration::ZERO, ConnectionId(number));
    }
    seen.take(&mut coordinator);
    let first = seen.put_off[0];
    assert!(first > 500, "honest fleets are larger than {first} edges");
    assert_eq!(seen.put_off, (first..5000).collect::<Vec<_>>());
    assert_eq!(seen.closed, seen.put_off);
}
