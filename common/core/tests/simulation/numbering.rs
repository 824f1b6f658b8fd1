//! Edges that number the classes otherwise than the others: what they learned would be wrong without a word.

use std::time::Duration;

use partway_core::classes::fingerprint;
use partway_core::coordinator::{Action, ConnectionId, Coordinator, Settings};
use partway_core::profile::DeviceProfile;
use partway_core::wire::{CloudMessage, EdgeMessage, PROTOCOL_VERSION, TrainingRequest};

use crate::fake_model::FakeModel;
use crate::scenario::Scenario;

const SORTED: [&str; 3] = ["birch", "oak", "pine"];

/// Who is turned away, and why, when these edges ask, each with names for the classes or with none.
fn refused(coordinators: &[&str], edges: &[(&str, &[&str])]) -> Vec<(String, String)> {
    let settings = Scenario::new(1).settings(&FakeModel::new(), 0);
    let settings = Settings { class_names: fingerprint(coordinators), min_edges: 100, ..settings };
    let mut coordinator = Coordinator::new(Duration::ZERO, settings, None);
    for (number, (name, names)) in edges.iter().enumerate() {
        let request = TrainingRequest {
            version: PROTOCOL_VERSION,
            name: (*name).into(),
            samples: 10,
            labels: vec![10],
            class_names: fingerprint(names),
            shape: [1, 2, 2],
            profile: DeviceProfile::default(),
            memory_limit: None,
            uplink_hint: None,
            resume: None,
        };
        let from = ConnectionId(number as u64);
        coordinator.handle_connected(Duration::ZERO, from);
        coordinator.handle_message(Duration::ZERO, from, EdgeMessage::TrainingRequest(request));
    }
    let mut refused = Vec::new();
    while let Some(action) = coordinator.poll_action() {
        if let Action::Send { to, message: CloudMessage::Refused { reason } } = action {
            refused.push((edges[to.0 as usize].0.to_owned(), reason));
        }
    }
    refused
}

#[test]
fn everybody_numbers_the_classes_as_the_coordinator_does() {
    let edges: [(&str, &[&str]); 4] = [
        ("same", &SORTED),
        ("numbers", &[]),
        ("other-order", &["pine", "oak", "birch"]),
        ("one-more", &["birch", "oak", "pine", "yew"]),
    ];
    let refused = refused(&SORTED, &edges);
    assert_eq!(
        refused.iter().map(|(edge, _)| edge.as_str()).collect::<Vec<_>>(),
        ["other-order", "one-more"]
    );
    let reason = &refused[0].1;
    assert!(
        reason.starts_with("edge `other-order` does not number the classes as the coordinator does"),
        "{reason}"
    );
    assert!(reason.contains("--class-names"), "{reason}");
}

#[test]
fn without_a_coordinators_list_the_first_edges_counts() {
    let edges: [(&str, &[&str]); 4] =
        [("numbers", &[]), ("first", &SORTED), ("second", &SORTED), ("third", &["oak", "birch", "pine"])];
    let refused = refused(&[], &edges);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].1.starts_with("edge `third` does not number the classes as edge `first` does"));
}
