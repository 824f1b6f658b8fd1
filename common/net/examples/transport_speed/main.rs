//! What Partway's transport makes of QUIC: tensors there and back over the loopback interface, and what is used of a
//! slow, distant link; each beside quinn alone with the same settings, in turns:
//! `cargo run --release -p partway-net --example transport_speed -- [TURNS]`.

mod bare;
mod ends;
mod tensors;

use std::time::Duration;

use ends::Failure;
use partway_net::LinkProfile;

/// The programs' allocator: large messages would otherwise come as new pages each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// LeNet-5 and VGG-5 behind their first pools at batches of 64 and 100, and larger ones.
const MESSAGES: [usize; 5] = [64 << 10, 301_056, 1 << 20, 3_276_800, 8 << 20];
/// What goes each way in one measurement on the loopback interface, in bytes.
const MOVED: usize = 256 << 20;
/// Messages before those that are measured: the path's MTU is found, congestion windows grow.
const BEFORE: usize = 32;

const WAN_MBPS: f64 = 5.0;
const WAN_RTT: Duration = Duration::from_millis(100);
/// Activations of half precision and one byte a value, and larger ones.
const WAN_MESSAGES: [usize; 3] = [75_264, 150_528, 301_056];
/// Bytes each way in one measurement of the slow link.
const WAN_MOVED: usize = 6 << 20;

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn main() -> Result<(), Failure> {
    let turns: usize = std::env::args().nth(1).map_or(Ok(3), |text| text.parse())?;
    loopback(turns)?;
    wide_area()
}

fn loopback(turns: usize) -> Result<(), Failure> {
    println!("loopback: GB/s of payload, medians of {turns} turns; a step is a message there and one back");
    println!(
        "{:>9}  {:>9} {:>9} {:>6}  {:>9} {:>9} {:>6}  {:>12}",
        "bytes", "stream", "quinn", "ratio", "steps", "quinn", "ratio", "us per step"
    );
    for bytes in MESSAGES {
        let count = MOVED / bytes;
        let mut found: [Vec<f64>; 4] = Default::default();
        for _ in 0..turns.max(1) {
            found[0].push(tensors::stream(bytes, count, None)?);
            found[1].push(bare::stream(bytes, count, None)?);
            found[2].push(median(tensors::round_trips(bytes, BEFORE, count, None)?));
            found[3].push(median(bare::round_trips(bytes, BEFORE, count, None)?));
        }
        let [stream, bare_stream, step, bare_step] = found.map(median);
        let stream_rate = |seconds: f64| 1e-9 * (count * bytes) as f64 / seconds;
        let step_rate = |seconds: f64| 2e-9 * bytes as f64 / seconds;
        println!(
            "{bytes:>9}  {:>9.2} {:>9.2} {:>6.2}  {:>9.2} {:>9.2} {:>6.2}  {:>+12.0}",
            stream_rate(stream),
            stream_rate(bare_stream),
            bare_stream / stream,
            step_rate(step),
            step_rate(bare_step),
            bare_step / step,
            1e6 * (step - bare_step),
        );
    }
    Ok(())
}

/// How much of a link's rate is payload of tensors.
fn wide_area() -> Result<(), Failure> {
    let link = LinkProfile {
        up_mbps: Some(WAN_MBPS),
        down_mbps: Some(WAN_MBPS),
        rtt: WAN_RTT,
        ..LinkProfile::default()
    };
    println!("\n{WAN_MBPS} Mbit/s, {WAN_RTT:?} there and back: share of the rate that is payload");
    println!("{:>9}  {:>8} {:>8}  {:>8} {:>8} {:>8}", "bytes", "stream", "quinn", "steps", "quinn", "bound");
    for bytes in WAN_MESSAGES {
        let count = WAN_MOVED / bytes / 2;
        let capacity = WAN_MBPS * 1e6 / 8.0;
        let of_stream = |seconds: f64| (count * bytes) as f64 / seconds / capacity;
        let of_step = |seconds: f64| 2.0 * bytes as f64 / seconds / capacity;
        // A step's messages take turns on their two directions.
        let bound = 2.0 * bytes as f64 / capacity;
        let bound = bound / (bound + WAN_RTT.as_secs_f64());
        println!(
            "{bytes:>9}  {:>7.1}% {:>7.1}%  {:>7.1}% {:>7.1}% {:>7.1}%",
            100.0 * of_stream(tensors::stream(bytes, count, Some(&link))?),
            100.0 * of_stream(bare::stream(bytes, count, Some(&link))?),
            100.0 * of_step(median(tensors::round_trips(bytes, 2, count / 4, Some(&link))?)),
            100.0 * of_step(median(bare::round_trips(bytes, 2, count / 4, Some(&link))?)),
            100.0 * bound,
        );
    }
    Ok(())
}
