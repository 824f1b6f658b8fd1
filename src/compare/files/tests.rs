use partway_core::config::Clock;

use super::*;
use crate::outputs::metrics::Progress;
use crate::outputs::settings::Settings;

fn outcome(name: &str, seed: u64, accuracy: f64) -> Outcome {
    let summary = partway_cloud::record::Summary {
        name: name.to_owned(),
        clock: Clock::Wall,
        seed,
        rounds: 10,
        aggregations: 2,
        final_accuracy: Some(accuracy),
        best_accuracy: Some(accuracy),
        target_reached: accuracy > 0.85,
        seconds_total: 5.0,
        seconds_training: 4.0,
        seconds_to_target: (accuracy > 0.85).then_some(3.5),
        seconds_clock: 4.0,
        samples_trained: 640,
        samples_per_second: 160.0,
        bytes_up: 1_500_000,
        bytes_down: 1_000,
        deadline_ms: Some(90.0),
        deadline_hit_rate: Some(0.975),
        prediction_median_error: None,
        repeatability_floor: None,
        weights_sha256: Some("0".to_owned()),
        edges: Vec::new(),
        cloud: partway_cloud::record::summary::CloudSummary::default(),
    };
    let progress = |round: u32| Progress {
        round,
        seconds: f64::from(round) * 0.4,
        accuracy: accuracy * f64::from(round) / 10.0,
        loss: 1.0,
        bytes_up: 150_000.0 * f64::from(round),
        bytes_down: 100.0 * f64::from(round),
    };
    Outcome {
        name: name.to_owned(),
        folder: format!("runs/{name}, {seed}"),
        settings: Settings {
            algorithm: Some("fedavg".to_owned()),
            target_accuracy: Some(0.85),
            ..Settings::default()
        },
        summary,
        progress: vec![progress(5), progress(10)],
    }
}

fn comparison() -> Comparison {
    Comparison::of(vec![outcome("a", 1, 0.8), outcome("b<i>", 1, 0.75), outcome("a", 2, 0.9)])
}

#[test]
fn the_table_has_a_row_per_run() {
    let text = csv(&comparison());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[0],
        "name,seed,folder,algorithm,target_reached,rounds,final_accuracy,best_accuracy,seconds_to_target,\
         seconds_training,bytes_up,bytes_down,deadline_hit_rate,prediction_median_error,clock"
    );
    assert_eq!(lines[2], "a,2,\"runs/a, 2\",fedavg,true,10,0.9,0.9,3.5,4,1500000,1000,0.975,,wall");
}

#[test]
fn the_object_has_means_and_deviations_over_seeds() {
    let object = json(&comparison());
    let experiments = object["experiments"].as_array().expect("a list");
    assert_eq!(experiments.len(), 2);
    let a = &experiments[0];
    assert_eq!((&a["name"], &a["algorithm"]), (&json!("a"), &json!("fedavg")));
    let number = |value: &Value| value.as_f64().expect("a number");
    assert!((number(&a["mean"]["final_accuracy"]) - 0.85).abs() < 1e-12);
    assert!((number(&a["standard_deviation"]["final_accuracy"]) - 0.005f64.sqrt()).abs() < 1e-12);
    assert_eq!(a["mean"]["prediction_median_error"], Value::Null);
    assert_eq!(a["mean"]["seconds_to_target"], 3.5, "of the run that reached it");
    let seeds: Vec<u64> =
        a["runs"].as_array().expect("a list").iter().filter_map(|run| run["seed"].as_u64()).collect();
    assert_eq!(seeds, [1, 2]);
}

#[test]
fn the_text_says_means_only_where_there_are_several_seeds() {
    let text = super::super::summary_table::text(&comparison());
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines[0].split_whitespace().take(4).collect::<Vec<_>>(),
        ["name", "algorithm", "runs", "rounds"]
    );
    assert!(lines[1].contains("0.8500 ± 0.0707") && lines[1].contains("1 of 2"), "{text}");
    assert!(lines[1].contains("1.50 ± 0.00 MB") && lines[1].contains("97.5 ± 0.0 %"), "{text}");
    assert!(
        lines[2].contains("0.7500") && lines[2].contains("not reached") && !lines[2].contains('±'),
        "{text}"
    );
    assert!(lines[2].contains("1.50 MB") && lines[2].contains("97.5 %"), "{text}");
    let single = super::super::summary_table::text(&Comparison::of(vec![outcome("a", 1, 0.9)]));
    assert!(!single.contains("runs") && !single.contains('±'), "{single}");
}

#[test]
fn seconds_of_two_clocks_are_told_apart() {
    let text = super::super::summary_table::text(&comparison());
    assert!(text.contains("over the seeds; seconds to the target of those runs that reached it\n"), "{text}");
    assert!(!text.contains("clock"), "{text}");
    let mut virtual_run = outcome("v", 1, 0.9);
    virtual_run.summary.clock = Clock::Virtual;
    let mixed = Comparison::of(vec![outcome("w", 1, 0.9), virtual_run]);
    let text = super::super::summary_table::text(&mixed);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let column = lines[1].iter().position(|name| *name == "clock").expect("there is such a column");
    assert_eq!((lines[2][column], lines[3][column]), ("wall", "virtual"));
    assert!(text.ends_with("\nseconds of different clocks do not compare\n"), "{text}");
    assert!(plots::picture(&mixed).contains("v (virtual clock)"));
    assert_eq!(json(&mixed)["experiments"][1]["runs"][0]["clock"], "virtual");
}

#[test]
fn the_page_has_a_line_per_run_and_a_name_per_experiment() {
    let page = plots::page(&comparison());
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let document = roxmltree::Document::parse_with_options(&page, options).expect("it is well-formed");
    let figures: Vec<_> = document.descendants().filter(|node| node.has_tag_name("figure")).collect();
    assert_eq!(
        figures.iter().filter_map(|node| node.attribute("id")).collect::<Vec<_>>(),
        ["over-time", "over-rounds", "over-bytes"]
    );
    for figure in figures {
        let plot = figure.descendants().find(|node| node.attribute("class") == Some("plot")).expect("a plot");
        let is_line = |node: &roxmltree::Node<'_, '_>| {
            node.attribute("class").is_some_and(|class| class.starts_with("line "))
        };
        assert_eq!(plot.descendants().filter(is_line).count(), 3, "three runs");
        let legend = figure.descendants().filter(|node| node.tag_name().name() == "li");
        let names: Vec<String> =
            legend.map(|entry| entry.children().filter_map(|child| child.text()).collect()).collect();
        assert_eq!(names, ["a", "b<i>"], "two experiments");
    }
}

#[test]
fn the_picture_stands_alone_with_a_legend_and_a_line_per_run() {
    let picture = plots::picture(&comparison());
    let document = roxmltree::Document::parse(&picture).expect("it is well-formed");
    let root = document.root_element();
    assert_eq!(
        (root.tag_name().name(), root.tag_name().namespace()),
        ("svg", Some("http://www.w3.org/2000/svg"))
    );
    let classes: Vec<&str> = root.descendants().filter_map(|node| node.attribute("class")).collect();
    let lines = classes.iter().filter(|class| class.starts_with("line ")).count();
    assert_eq!(lines, 3 + 2, "three runs, two entries of the legend");
    let texts: Vec<&str> =
        root.descendants().filter(|node| node.has_tag_name("text")).filter_map(|node| node.text()).collect();
    assert!(
        ["Accuracy over time", "a", "b<i>", "seconds of training"].iter().all(|text| texts.contains(text)),
        "{texts:?}"
    );
    assert!(
        !picture.contains("<i>") && !picture.contains("href"),
        "nothing becomes markup, nothing is fetched"
    );
}
