//! What a process finds out about its graphics processor.

use std::process::Command;
use std::time::Duration;

use partway_core::config::DeviceKind;
use partway_core::profile::fit;
use partway_model::{Compute, measure};

use crate::split::{SGD, gpu, lenet5};

#[test]
fn a_calibration_makes_a_profile() {
    let spec = lenet5();
    let measurements = measure(&spec, SGD, &[4, 8], Duration::from_secs(1), &gpu()).expect("it can be timed");
    assert!(measurements.len() >= spec.len());
    assert!(measurements.iter().all(|it| it.forward_s > 0.0 && it.backward_s >= 0.0), "{measurements:?}");
    fit(&measurements).expect("the times make a profile");
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_in_words() {
    const CHILD: &str = "PARTWAY_TEST_NO_ADAPTER";
    if std::env::var_os(CHILD).is_some() {
        for _ in 0..2 {
            let error = Compute::new(DeviceKind::Wgpu, 1).expect_err("no machine has so many").to_string();
            assert!(error.starts_with("no graphics processor can be used: "), "{error}");
        }
        return;
    }
    // The adapter is chosen once per process, so this takes another one.
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "adapter::an_adapter_that_is_not_there_is_an_error_in_words"])
        .env(CHILD, "1")
        .env("CUBECL_WGPU_DEFAULT_DEVICE", "DiscreteGpu(4000)")
        .output()
        .expect("this test runs once more");
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}
