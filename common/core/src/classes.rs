//! Whether two parties number the classes alike.

use rand::Rng;

use crate::random::stream;

/// Stands for the classes' names in the order of their numbers; none if there are none, where labels are numbers.
///
/// ```
/// use partway_core::classes::fingerprint;
/// assert_eq!(fingerprint(&["cat", "dog"]), fingerprint(&["cat", "dog"]));
/// assert_ne!(fingerprint(&["cat", "dog"]), fingerprint(&["dog", "cat"]));
/// assert_eq!(fingerprint::<&str>(&[]), None);
/// ```
pub fn fingerprint<T: AsRef<str>>(names: &[T]) -> Option<u64> {
    let purpose: Vec<&str> = ["class names"].into_iter().chain(names.iter().map(AsRef::as_ref)).collect();
    (!names.is_empty()).then(|| stream(0, &purpose).next_u64())
}
