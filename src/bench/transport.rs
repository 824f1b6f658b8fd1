//! What Partway's transport makes of QUIC: tensors there and back over the loopback interface, beside quinn alone with
//! the same settings, in turns; and what is used of a slow, distant link.

mod bare;
mod ends;
mod tensors;

use std::thread::ScopedJoinHandle;
use std::time::Duration;

use partway_net::LinkProfile;

use self::ends::{Broken, Used};
use crate::failure::Failure;
use crate::output;
use crate::statistics::median;

/// LeNet-5 and VGG-5 behind their first pools at batches of 64 and 100, and a smaller and larger ones.
const MESSAGES: [usize; 5] = [65_536, 301_056, 1_048_576, 3_276_800, 8_388_608];
/// What goes each way in one measurement on the loopback interface, in bytes.
const MOVED: usize = 256 << 20;
/// Messages before those that are measured: the path's MTU is found, congestion windows grow.
const BEFORE: usize = 32;

const FAR_MBPS: f64 = 5.0;
const FAR_RTT: Duration = Duration::from_millis(100);
const FAR_LOSSES: [f64; 3] = [0.0, 0.001, 0.01];
/// LeNet-5 behind its first pool, as f32, f16 and int8.
const FAR_MESSAGES: [usize; 3] = [75_264, 150_528, 301_056];
/// What goes each way in one measurement of the far link, and before it, in bytes.
const FAR_MOVED: usize = 8 << 20;

/// Rates of Partway and of quinn alone, in GB/s.
struct Beside {
    partway: f64,
    quinn: f64,
    /// Of the two, and of their rates in CPU time: medians of the turns' own.
    ratio: f64,
    cpu_ratio: f64,
}

/// Measures one beside the other, `turns` times, so that what slows down the machine for a while meets both.
fn beside(
    turns: usize,
    bytes: usize,
    mut partway: impl FnMut() -> Result<Used, Broken>,
    mut quinn: impl FnMut() -> Result<Used, Broken>,
) -> Result<Beside, Failure> {
    let mut pairs = Vec::with_capacity(turns);
    for turn in 0..turns {
        let mut first = None;
        if turn % 2 == 1 {
            first = Some(quinn().map_err(Failure::failed)?);
        }
        let ours = partway().map_err(Failure::failed)?;
        let theirs = first.map_or_else(&mut quinn, Ok).map_err(Failure::failed)?;
        pairs.push((ours, theirs));
    }
    let middle = |value: fn(&(Used, Used)) -> f64| median(pairs.iter().map(value)).unwrap_or(f64::NAN);
    Ok(Beside {
        partway: 1e-9 * bytes as f64 / middle(|(ours, _)| ours.clock_s),
        quinn: 1e-9 * bytes as f64 / middle(|(_, theirs)| theirs.clock_s),
        ratio: middle(|(ours, theirs)| theirs.clock_s / ours.clock_s),
        cpu_ratio: middle(|(ours, theirs)| theirs.cpu_s / ours.cpu_s),
    })
}

/// Measures and prints, with the median of so many turns on the loopback interface.
pub(super) fn transport(turns: usize) -> Result<(), Failure> {
    output::print(&format!(
        "transport, loopback: GB/s of payload beside quinn alone, and of CPU time of both ends; medians of {turns}\n    \
         bytes | stream    quinn   ratio   CPU ratio | round trips   quinn   ratio   CPU ratio   us more per step"
    ));
    for bytes in MESSAGES {
        let count = MOVED / bytes;
        let stream = beside(
            turns,
            MOVED,
            || tensors::stream(bytes, count, None),
            || bare::stream(bytes, count, None),
        )?;
        let steps = beside(
            turns,
            2 * MOVED,
            || tensors::round_trips(bytes, BEFORE, count, None),
            || bare::round_trips(bytes, BEFORE, count, None),
        )?;
        let more = 2e-9 * bytes as f64 * (1.0 / steps.partway - 1.0 / steps.quinn);
        output::print(&format!(
            "{bytes:>9} | {:>6.2} {:>8.2} {:>7.2} {:>11.2} | {:>11.2} {:>7.2} {:>7.2} {:>11.2} {:>18.0}",
            stream.partway,
            stream.quinn,
            stream.ratio,
            stream.cpu_ratio,
            steps.partway,
            steps.quinn,
            steps.ratio,
            steps.cpu_ratio,
            1e6 * more,
        ));
    }
    far()
}

/// How much of a far link's rate is payload of tensors: all measurements at once, as each has a link of its own.
fn far() -> Result<(), Failure> {
    let capacity = FAR_MBPS * 1e6 / 8.0;
    let share = |bytes: usize, loss: f64, rounds: bool| {
        let link = LinkProfile {
            up_mbps: Some(FAR_MBPS),
            down_mbps: Some(FAR_MBPS),
            rtt: FAR_RTT,
            loss,
            ..LinkProfile::default()
        };
        let count = FAR_MOVED / bytes;
        let (moved, used) = if rounds {
            (2 * (count / 2) * bytes, tensors::round_trips(bytes, count / 2, count / 2, Some(&link)))
        } else {
            (count * bytes, tensors::stream(bytes, count, Some(&link)))
        };
        used.map(|used| 100.0 * moved as f64 / used.clock_s / capacity)
    };
    output::print(&format!(
        "\ntransport, {FAR_MBPS} Mbit/s, {} ms there and back: payload, % of the rate; a round trip waits for the way, so \
         that at most \"bound\" is possible\n    bytes   loss %   stream   round trips   bound",
        FAR_RTT.as_millis()
    ));
    let cases: Vec<(usize, f64)> =
        FAR_LOSSES.into_iter().flat_map(|loss| FAR_MESSAGES.map(|bytes| (bytes, loss))).collect();
    let shares: Vec<_> = std::thread::scope(|scope| {
        let start = |&(bytes, loss): &(usize, f64)| {
            [false, true].map(|rounds| scope.spawn(move || share(bytes, loss, rounds)))
        };
        let running: Vec<_> = cases.iter().map(start).collect();
        running.into_iter().map(|pair| pair.map(ScopedJoinHandle::join)).collect()
    });
    for ((bytes, loss), measured) in cases.into_iter().zip(shares) {
        let [stream, rounds] = measured.map(|share| {
            let share = share.map_err(|_| Failure::Failed("a measurement panicked".into()))?;
            share.map_err(Failure::failed)
        });
        let sending = 2.0 * bytes as f64 / capacity;
        output::print(&format!(
            "{bytes:>9} {:>8.1} {:>8.1} {:>13.1} {:>7.1}",
            100.0 * loss,
            stream?,
            rounds?,
            100.0 * sending / (sending + FAR_RTT.as_secs_f64())
        ));
    }
    Ok(())
}
