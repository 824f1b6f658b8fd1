//! How much memory this process has needed.

/// Largest resident set of this process so far, in bytes; `None` where the system does not say.
pub fn peak_rss_bytes() -> Option<u64> {
    peak_in_status(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The peak in the text of Linux's `/proc/PID/status`, whose line is `VmHWM:  12345 kB`.
fn peak_in_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_its_line() {
        let status = "Name:\tpartway\nVmPeak:\t  999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t  1 kB\n";
        assert_eq!(peak_in_status(status), Some(2 << 20));
        assert_eq!(peak_in_status("Name:\tpartway\n"), None);
        assert_eq!(peak_in_status("VmHWM:\tmuch\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_covers_what_was_touched() {
        let touched = std::hint::black_box(vec![1u8; 8 << 20]);
        let peak = peak_rss_bytes().expect("Linux says so");
        assert!(peak >= touched.len() as u64, "{peak}");
    }
}
