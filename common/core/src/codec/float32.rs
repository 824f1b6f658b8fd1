//! Values as they are.

pub(super) fn encode(values: &[f32], out: &mut Vec<u8>) {
    if cfg!(target_endian = "little") {
        out.extend_from_slice(bytemuck::cast_slice(values));
    } else {
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
}

/// `bytes` holds exactly `n` values.
pub(super) fn decode(bytes: &[u8], n: usize, out: &mut Vec<f32>) {
    let start = out.len();
    out.resize(start + n, 0.0);
    let values = &mut out[start..];
    bytemuck::cast_slice_mut(values).copy_from_slice(bytes);
    if cfg!(target_endian = "big") {
        for value in values {
            *value = f32::from_bits(value.to_bits().swap_bytes());
        }
    }
}
