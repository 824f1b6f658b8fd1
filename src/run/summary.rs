//! The end of a run, from its `summary.json`.

use std::path::Path;

use partway_cloud::record::Summary;
use partway_cloud::record::summary::EdgeSummary;

use crate::outputs::missed;
use crate::table::{Align, table};

/// A line per edge.
pub(crate) fn edges(summary: &Summary) -> String {
    let columns = [
        ("edge", Align::Left),
        ("cut", Align::Left),
        ("steps", Align::Right),
        ("median step", Align::Right),
        ("predicted", Align::Right),
        ("", Align::Left),
    ];
    let number = |cut: Option<u32>| cut.map_or("-".to_owned(), |cut| cut.to_string());
    let ms = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
    let row = |edge: &EdgeSummary| {
        vec![
            edge.name.clone(),
            format!("{} -> {}", number(edge.cut_first), number(edge.cut_last)),
            edge.steps.to_string(),
            ms(edge.step_ms_median),
            ms(edge.step_ms_predicted),
            missed(edge.dropped, edge.deferred),
        ]
    };
    table(&columns, &summary.edges.iter().map(row).collect::<Vec<_>>())
}

/// The run in a sentence.
pub(crate) fn sentence(summary: &Summary, target: Option<f64>, folder: &Path) -> String {
    let accuracy = summary.final_accuracy.map_or("unknown".to_owned(), |accuracy| format!("{accuracy:.4}"));
    let target = match target {
        Some(target) if summary.target_reached => format!(" (target {target} reached)"),
        Some(target) => format!(" (target {target} not reached)"),
        None => String::new(),
    };
    let seconds = summary.seconds_training;
    let rounds = if summary.rounds == 1 { "round" } else { "rounds" };
    format!(
        "accuracy {accuracy}{target} after {} {rounds} in {seconds:.1} s; outputs in {}",
        summary.rounds,
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the design has it.
    const SUMMARY: &str = r#"{"name": "quickstart", "clock": "wall", "seed": 42, "rounds": 40, "aggregations": 8,
        "final_accuracy": 0.975, "best_accuracy": 0.976, "target_reached": true,
        "seconds_total": 41.2, "seconds_training": 36.0, "seconds_to_target": 33.1, "seconds_clock": 36.0,
        "samples_trained": 102400, "samples_per_second": 2844.0,
        "bytes_up": 123, "bytes_down": 123, "deadline_ms": 90.0, "deadline_hit_rate": 0.97,
        "prediction_median_error": 0.06, "repeatability_floor": 0.04, "weights_sha256": "...",
        "edges": [{"name": "camera-0", "cut_first": 3, "cut_last": 6, "recuts": 2, "steps": 400, "samples": 3000,
                   "step_ms_median": 80.0, "step_ms_predicted": 76.0, "peak_rss_mib": 48.0, "dropped": false,
                   "deferred": 2},
                  {"name": "b", "cut_first": null, "cut_last": null, "recuts": 0, "steps": 0, "samples": 3000,
                   "step_ms_median": null, "step_ms_predicted": null, "peak_rss_mib": 48.0, "dropped": true}],
        "cloud": {"peak_rss_mib": 210.0}}"#;

    #[test]
    fn a_run_ends_with_a_table_and_a_sentence() {
        let summary: Summary = serde_json::from_str(SUMMARY).expect("the design's summary");
        assert_eq!(
            edges(&summary),
            "edge      cut     steps  median step  predicted\n\
             camera-0  3 -> 6    400      80.0 ms    76.0 ms  deferred 2 times\n\
             b         - -> -      0            -          -  dropped\n"
        );
        let folder = Path::new("runs/quickstart");
        assert_eq!(
            sentence(&summary, Some(0.97), folder),
            "accuracy 0.9750 (target 0.97 reached) after 40 rounds in 36.0 s; outputs in runs/quickstart"
        );
        let missed = Summary { target_reached: false, rounds: 1, ..summary };
        assert_eq!(
            sentence(&missed, Some(0.99), folder),
            "accuracy 0.9750 (target 0.99 not reached) after 1 round in 36.0 s; outputs in runs/quickstart"
        );
    }
}
