//! Reads, partitions and batches training data.
