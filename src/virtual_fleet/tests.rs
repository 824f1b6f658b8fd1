//! Whole fleets in small.
