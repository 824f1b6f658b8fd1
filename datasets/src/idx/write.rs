//! Writing.

use std::io::{self, Write};

use super::{Element, ValuesRef};

/// Writes `values`, as many as the product of `dims`, as an uncompressed IDX file. Refuses dimensions that
/// do not fit the values or the format with [`io::ErrorKind::InvalidInput`].
pub fn encode(out: &mut impl Write, dims: &[usize], values: ValuesRef<'_>) -> io::Result<()> {
    let (element, count) = match values {
        ValuesRef::U8(values) => (Element::U8, values.len()),
        ValuesRef::I32(values) => (Element::I32, values.len()),
        ValuesRef::F32(values) => (Element::F32, values.len()),
    };
    let product = dims.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
    let sides: Option<Vec<u32>> = dims.iter().map(|side| u32::try_from(*side).ok()).collect();
    let (Ok(rank), Some(sides), true) = (u8::try_from(dims.len()), sides, product == Some(count)) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("an IDX file of dimensions {dims:?} cannot hold {count} values"),
        ));
    };
    out.write_all(&[0, 0, element as u8, rank])?;
    for side in sides {
        out.write_all(&side.to_be_bytes())?;
    }
    match values {
        ValuesRef::U8(values) => out.write_all(values),
        ValuesRef::I32(values) => values.iter().try_for_each(|value| out.write_all(&value.to_be_bytes())),
        ValuesRef::F32(values) => values.iter().try_for_each(|value| out.write_all(&value.to_be_bytes())),
    }
}
