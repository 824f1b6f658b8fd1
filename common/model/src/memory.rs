//! How much memory this process needs.

/// Keeps the memory that this process touches from now on in pages of the usual size, where the system has others
/// (Linux).
///
/// The allocator asks for huge pages. A step of large layers is 2 to 5 % faster on them; but a small model's training
/// process is resident with twice the memory, and each page of 2 MB is cleared when it is first touched, which
/// makes single steps several times as long. A device with little memory and a deadline wants neither.
pub fn use_small_pages() {
    // Where the kernel has no such setting, it has no huge pages to avoid or keeps them.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

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
    fn small_pages_are_all_that_is_used() {
        use_small_pages();
        let is_disabled = rustix::thread::transparent_huge_pages_are_disabled();
        assert!(is_disabled.is_ok_and(|disabled| disabled), "{is_disabled:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_covers_what_was_touched() {
        let touched = std::hint::black_box(vec![1u8; 8 << 20]);
        let peak = peak_rss_bytes().expect("Linux says so");
        assert!(peak >= touched.len() as u64, "{peak}");
    }
}
