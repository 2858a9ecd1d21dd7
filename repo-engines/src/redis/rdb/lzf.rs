//! Unpacks LZF, as RDB strings are packed, piece by piece: what is held is the 8 KiB that a reference may lead back.
//!
//! Own code, because the strings may be longer than memory should hold, and the crates that know LZF want them whole.

use super::Result;
use super::input::Input;
use std::io::Read;

/// How far back a reference leads, at most.
const REACH: usize = 8192;
/// Unpacked bytes that are handed on together.
const PIECE: usize = 56 * 1024;

/// Unpacks `packed_n` bytes into `bytes_n`, and hands them to `take`.
pub(super) fn unpack<R: Read>(
    input: &mut Input<R>,
    packed_n: u64,
    bytes_n: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let end = input.position().saturating_add(packed_n);
    // Room as it is needed: the lengths are only what the bytes say of themselves.
    let (mut window, mut handed, mut left) = (Vec::<u8>::new(), 0, bytes_n);
    while input.position() < end {
        let control = usize::from(input.byte()?);
        let run = if control < 32 { control + 1 } else { control >> 5 };
        let length = match run {
            _ if control < 32 => run,
            7 => 9 + usize::from(input.byte()?),
            _ => run + 2,
        };
        left = left.checked_sub(length as u64).ok_or_else(|| input.bad("a packed string is longer than it says"))?;
        if control < 32 {
            let mut wanted = length;
            while wanted > 0 {
                let piece = input.piece(wanted)?;
                window.extend_from_slice(piece);
                wanted -= piece.len();
            }
        } else {
            let back = ((control & 31) << 8) + usize::from(input.byte()?) + 1;
            let from =
                window.len().checked_sub(back).ok_or_else(|| input.bad("a packed string leads out of itself"))?;
            // Byte by byte: it may lead into what it makes.
            for at in from..from + length {
                window.push(window[at]);
            }
        }
        if window.len() >= REACH + PIECE {
            take(&window[handed..])?;
            window.drain(..window.len() - REACH);
            handed = REACH;
        }
    }
    if input.position() != end || left != 0 {
        return Err(input.bad("a packed string has another length than it says"));
    }
    take(&window[handed..])
}
