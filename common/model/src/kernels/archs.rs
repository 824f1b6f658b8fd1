//! For tests: vector instructions that this processor has but does not need, as well as those that it uses.

use pulp::Arch;

/// The widest first, then narrower ones, and none.
pub(super) fn available() -> Vec<Arch> {
    let mut archs = vec![Arch::new()];
    #[cfg(target_arch = "x86_64")]
    archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
    archs.push(Arch::Scalar);
    archs
}
