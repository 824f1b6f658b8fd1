//! The graphics processor of this process, if it was built for one.

use burn::tensor::Device;

use super::ComputeError;

/// The device and its name.
#[cfg(not(feature = "wgpu"))]
pub(super) fn open() -> Result<(Device, String), ComputeError> {
    Err(ComputeError::NotBuilt)
}

/// The device and its name. Everybody in this process gets the same one.
#[cfg(feature = "wgpu")]
pub(super) fn open() -> Result<(Device, String), ComputeError> {
    use std::sync::OnceLock;

    // burn registers a device once per process and refuses a second time.
    static OPENED: OnceLock<Result<(Device, String), String>> = OnceLock::new();
    let open = || {
        let (device, setup) = Device::wgpu_options().init_with_setup().map_err(|error| error.to_string())?;
        let adapter = setup.adapter.get_info();
        Ok((device, format!("{} by {}", adapter.name, adapter.backend)))
    };
    OPENED.get_or_init(open).clone().map_err(|reason| ComputeError::Graphics { reason })
}
