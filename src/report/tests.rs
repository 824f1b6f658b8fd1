//! Reports of made-up runs: well-formed, complete, and proof against any name and number.

use std::collections::BTreeSet;
use std::fs;

use partway_core::event::{Event, EventKind, PlannedEdge, Recovery, TermsMs};
use proptest::prelude::*;
use roxmltree::{Document, Node, ParsingOptions};

use super::*;

/// A folder with the outputs of a run.
struct Folder(tempfile::TempDir);

impl Folder {
    /// With these events and nothing else.
    fn with(events: &[Event]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        let line = |event| serde_json::to_string(event).expect("events are JSON") + "\n";
        folder.put("events.jsonl", &events.iter().map(line).collect::<String>());
        folder
    }

    fn put(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).expect("written");
    }

    fn report(&self) -> (String, Vec<String>) {
        let written = write(self.0.path()).expect("it can be reported on");
        (fs::read_to_string(&written.path).expect("it is there"), written.warnings)
    }

    fn refused(&self) -> String {
        write(self.0.path()).expect_err("nothing to report on").to_string()
    }
}

fn step(round: u32, edge: &str, latency_ms: f64) -> EventKind {
    EventKind::Step {
        round,
        attempt: 0,
        edge: edge.to_owned(),
        step: 1,
        cut: 1 + round % 3,
        latency_ms,
        predicted_ms: 80.0,
        deadline_ms: 90.0,
        terms_ms: TermsMs {
            edge_forward: latency_ms / 2.0,
            uplink: latency_ms / 8.0,
            cloud: latency_ms / 8.0,
            downlink: latency_ms / 8.0,
            edge_backward: latency_ms / 8.0,
        },
        loss: 2.0 / round as f32,
        correct: 1,
        bytes_up: 1000,
        bytes_down: 900,
    }
}

/// Some rounds of these edges, with everything that can happen to the last of them.
fn events(edges: &[String], rounds: u32, latency_ms: f64) -> Vec<Event> {
    let mut kinds = vec![EventKind::Listening { address: "127.0.0.1:1".to_owned(), data_address: None }];
    kinds.extend(edges.iter().map(|edge| EventKind::EdgeJoined {
        edge: edge.clone(),
        samples: 3000,
        held_out: 0,
        labels: vec![1000, 2000, 0],
    }));
    let planned = |edge: &String, round| PlannedEdge {
        edge: edge.clone(),
        cut: 1 + round % 3,
        feasible: true,
        reason: String::new(),
        terms_ms: TermsMs::default(),
        step_ms: 80.0,
        reserved_up_mbps: 1.0,
        reserved_down_mbps: 1.0,
        estimated_up_mbps: 1.0,
        estimated_down_mbps: 1.0,
    };
    let last = || edges.last().expect("there are edges").clone();
    for round in 1..=rounds {
        let edges_of_plan = edges.iter().map(|edge| planned(edge, round)).collect();
        kinds.push(EventKind::Planned {
            round,
            deadline_ms: 90.0,
            optimality_gap: 0.0,
            edges: edges_of_plan,
        });
        for (nth, edge) in edges.iter().enumerate() {
            kinds.push(step(round, edge, latency_ms + nth as f64));
        }
        kinds.push(EventKind::RoundDone { round, seconds: 1.0 });
        kinds.push(EventKind::Aggregated { round, aggregation: round, weights: Vec::new() });
    }
    let reason = || "<b>too slow</b>".to_owned();
    kinds.push(EventKind::EdgeLost { round: rounds, edge: last() });
    kinds.push(EventKind::EdgeResumed { round: rounds, edge: last(), how: Recovery::RolledBack });
    kinds.push(EventKind::EdgeDropped { round: rounds, edge: last(), reason: reason() });
    kinds.push(EventKind::EdgeDeferred { round: rounds, edge: last(), reason: reason() });
    kinds.push(EventKind::EdgeCaughtUp { round: rounds, edge: last(), steps: 3 });
    kinds.push(EventKind::EdgeRefused { edge: "stranger".to_owned(), reason: reason() });
    kinds.into_iter().enumerate().map(|(second, kind)| Event { at: second as f64, kind }).collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|nth| format!("edge-{nth:04}")).collect()
}

fn parse(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).expect("it is well-formed")
}

fn has_class(node: &Node<'_, '_>, class: &str) -> bool {
    node.attribute("class").is_some_and(|classes| classes.split(' ').any(|one| one == class))
}

fn figure<'a>(page: &'a Document<'_>, id: &str) -> Node<'a, 'a> {
    let found =
        page.descendants().find(|node| node.has_tag_name("figure") && node.attribute("id") == Some(id));
    found.unwrap_or_else(|| panic!("there is no figure `{id}`"))
}

/// The names in a figure's legend.
fn legend(figure: Node<'_, '_>) -> Vec<String> {
    let entries = figure.descendants().filter(|node| node.tag_name().name() == "li");
    entries.map(|entry| entry.children().filter_map(|child| child.text()).collect()).collect()
}

/// Everything that a reader, sighted or not, and a browser need of a page.
fn check(page: &str) {
    let document = parse(page);
    let ids: Vec<&str> = document.descendants().filter_map(|node| node.attribute("id")).collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "no id stands twice");
    for node in document.descendants().filter(Node::is_element) {
        let tag = node.tag_name().name();
        assert!(!["script", "link", "img", "iframe", "object", "a", "b"].contains(&tag), "<{tag}>");
        for attribute in node.attributes() {
            let value = attribute.value();
            assert!(!attribute.name().starts_with("on"), "no handlers");
            assert!(!value.contains("NaN") && !value.contains("inf"), "{}={value}", attribute.name());
        }
        if tag == "svg" && has_class(&node, "plot") {
            let labels = node.attribute("aria-labelledby").expect("a plot has a name").split(' ');
            assert_eq!(labels.filter(|label| unique.contains(label)).count(), 2, "title and description");
            check_inside(node);
        }
    }
}

/// No text of a plot may begin or end outside of it, if it is about as wide as it is taken to be.
fn check_inside(plot: Node<'_, '_>) {
    let number = |node: &Node<'_, '_>, key: &str| node.attribute(key)?.parse::<f64>().ok();
    let (width, height) = (number(&plot, "width").expect("px"), number(&plot, "height").expect("px"));
    for text in plot.descendants().filter(|node| node.tag_name().name() == "text") {
        let (Some(x), Some(y)) = (number(&text, "x"), number(&text, "y")) else { continue };
        let content = text.text().unwrap_or_default();
        let length = crate::plot::text_width(content);
        let start = match text.attribute("class").unwrap_or_default() {
            class if class.contains("end") => x - length,
            class if class.contains("middle") => x - length / 2.0,
            _ => x,
        };
        assert!(start >= -1.0 && start + length <= width + 14.0, "`{content}` from {start} is {length} wide");
        assert!(y >= 8.0 && y <= height, "`{content}` at {y} of {height}");
    }
}

const METRICS: &str = "round,aggregation,seconds,accuracy,loss,training_loss,bytes_up,bytes_down,\
                       deadline_hit_rate,samples_trained\n\
                       5,1,1.5,0.5,1.25,1.5,10,20,0.5,64\n10,2,3,0.75,0.5,0.75,20,40,0.5,128\n";

#[test]
fn every_plot_has_every_edge() {
    let edges = names(3);
    let folder = Folder::with(&events(&edges, 10, 80.0));
    folder.put("metrics.csv", METRICS);
    folder.put("config.toml", "name = \"tame\"\n[training]\ntarget_accuracy = 0.7\n");
    let (page, warnings) = folder.report();
    assert_eq!(warnings, [""; 0]);
    check(&page);
    let document = parse(&page);
    for id in ["accuracy-over-rounds", "accuracy-over-time", "loss-over-rounds", "loss-over-time", "terms"] {
        assert!(figure(&document, id).descendants().any(|node| has_class(&node, "plot")), "{id} has a plot");
    }
    for id in ["cuts", "step-times", "prediction", "prediction-error"] {
        let entries = legend(figure(&document, id));
        assert!(edges.iter().all(|edge| entries.contains(edge)), "{id}: {entries:?}");
    }
    let bars = |id: &str| figure(&document, id).descendants().filter(|node| has_class(node, "bar")).count();
    assert_eq!((bars("terms"), bars("bytes-per-edge")), (3 * 5, 3 * 2));
    let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
    for shown in ["tame", "target 0.7", "deadline 90.0 ms", "2,000", "Who was away when", "edge-0002"] {
        assert!(texts.iter().any(|text| text.trim() == shown), "{shown}");
    }
    assert!(texts.contains(&"dropped: <b>too slow</b>"), "a reason is text");
    for shown in ["deferred, the others go on: <b>too slow</b>", "dropped, deferred"] {
        assert!(texts.contains(&shown), "{shown}");
    }
}

#[test]
fn names_are_text_whatever_they_are() {
    let hostile = "</title></svg><script>alert('x')</script><img src=x onerror=\"alert(1)\">&amp;\u{0}";
    let folder = Folder::with(&events(&[hostile.to_owned(), "<!--".to_owned()], 4, 80.0));
    folder.put("config.toml", "name = \"<i>\"\n[data]\ndataset = \"</pre><script>\"\n");
    let (page, _) = folder.report();
    check(&page);
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    // Names of the same lengths leave the same room for everything else.
    let tame = Folder::with(&events(&["a".repeat(hostile.chars().count()), "abcd".to_owned()], 4, 80.0));
    tame.put("config.toml", "name = \"c\"\n[data]\ndataset = \"d\"\n");
    let (tame, _) = tame.report();
    let elements = |page: &str| parse(page).descendants().filter(Node::is_element).count();
    assert_eq!(elements(&page), elements(&tame), "they add nothing to the page");
}

#[test]
fn a_large_fleet_is_shown_by_its_spread() {
    let edges = names(60);
    let (page, _) = Folder::with(&events(&edges, 6, 80.0)).report();
    check(&page);
    let document = parse(&page);
    assert_eq!(
        legend(figure(&document, "cuts")),
        ["median of 60 edges", "all edges", "the middle half of the edges"]
    );
    let bars = figure(&document, "terms").descendants().filter(|node| has_class(node, "bar")).count();
    assert_eq!(bars, latency::MOST_BARS * 5);
    assert!(page.contains("The 24 slowest of 60 edges."));
}

#[test]
fn a_long_run_makes_no_long_page() {
    let short = Folder::with(&events(&names(2), 600, 80.0)).report().0.len();
    let long = Folder::with(&events(&names(2), 6000, 80.0)).report().0.len();
    assert!((long as f64) < 1.3 * short as f64, "{short} {long}");
}

#[test]
fn an_interrupted_runs_log_may_end_in_the_middle() {
    let folder = Folder::with(&events(&names(2), 3, 80.0));
    let path = folder.0.path().join("events.jsonl");
    let log = fs::read_to_string(&path).expect("there are events");
    fs::write(&path, &log[..log.len() - 10]).expect("written");
    let (page, warnings) = folder.report();
    assert_eq!(warnings, ["the last line of events.jsonl is cut off and left out"]);
    check(&page);
    assert!(page.contains("cut off and left out") && page.contains("Not finished"));
}

#[test]
fn what_another_version_wrote_is_left_out_with_a_warning() {
    let folder = Folder::with(&events(&names(2), 3, 80.0));
    let path = folder.0.path().join("events.jsonl");
    let log = fs::read_to_string(&path).expect("there are events");
    fs::write(&path, format!("{{\"at\":0,\"event\":\"teleported\"}}\n{log}")).expect("written");
    folder.put("summary.json", "{\"name\": \"from tomorrow\"}");
    folder.put("metrics.csv", "round\n1\n");
    let (page, warnings) = folder.report();
    check(&page);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("line 1") && warnings[0].contains("teleported"), "{}", warnings[0]);
}

#[test]
fn what_is_no_run_is_refused() {
    let folder = Folder(tempfile::tempdir().expect("a temporary folder"));
    assert!(folder.refused().contains("has no events.jsonl"), "{}", folder.refused());
    folder.put("events.jsonl", "{\"at\":0,\"event\":\"teleported\"}\n");
    let error = folder.refused();
    assert!(error.contains("line 1 ") && error.contains("another version"), "{error}");
    let error = write(&folder.0.path().join("none")).expect_err("no such folder").to_string();
    assert!(error.contains("is no folder"), "{error}");
}

#[test]
fn a_run_of_which_nothing_is_known_yet_has_a_report() {
    let folder = Folder::with(&[]);
    check(&folder.report().0);
    let listening =
        Event { at: 0.0, kind: EventKind::Listening { address: String::new(), data_address: None } };
    check(&Folder::with(&[listening]).report().0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_number_breaks_the_page(latency: f64, count in 1usize..12, rounds in 1u32..4, accuracy: f64) {
        let latency = if latency.is_finite() { latency } else { 1e308 };
        let folder = Folder::with(&events(&names(count), rounds, latency));
        folder.put("metrics.csv", &METRICS.replace("0.75,0.5", &format!("{accuracy},{latency}")));
        check(&folder.report().0);
    }
}
