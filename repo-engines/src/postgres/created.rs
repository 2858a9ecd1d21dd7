//! The moment that stands in the header of a `pg_dump -Fc` archive: taken out before the archive is stored, so that an unchanged
//! database adds nothing, and put back when it is restored.
//!
//! The header's layout stands in `gates::archive`. What is stored in its place is the first second of the year 2000.

use crate::intake::Intake;
use dedump_core::Result;

/// Bytes in front of the compression.
const FIXED_BYTES: usize = 11;
/// Seconds, minutes, hours, day, month from 0, years since 1900, summer time.
const INTS: usize = 7;
const STORED: [u32; INTS] = [0, 0, 0, 1, 0, 100, 0];
/// The longest header up to there, with ints of 8 bytes.
pub(super) const HEAD_BYTES: usize = FIXED_BYTES + 9 + INTS * 9;
/// Under this name the moment is among a stream's facts.
pub(super) const FACT: &str = "archive_created";

/// Takes the moment out of an archive that streams by.
pub(super) struct WithoutMoment<I> {
    inner: I,
    /// The head, until it is long enough; empty from then on.
    head: Vec<u8>,
    filled: usize,
    moment: Option<String>,
}

impl<I: Intake> WithoutMoment<I> {
    pub(super) fn new(inner: I) -> Self {
        WithoutMoment { inner, head: vec![0; 4096], filled: 0, moment: None }
    }

    /// Hands on what is left, and returns where the bytes went and the moment that was taken out.
    ///
    /// # Errors
    /// What the intake returned.
    pub(super) async fn finish(mut self) -> Result<(I, Option<String>)> {
        // Of what was shorter than a header.
        if !self.head.is_empty() {
            self.hand_on().await?;
        }
        Ok((self.inner, self.moment))
    }

    async fn hand_on(&mut self) -> Result<()> {
        let mut head = std::mem::take(&mut self.head);
        head.truncate(self.filled);
        self.moment = exchange(&mut head, &STORED).map(|moment| moment.map(|int| int.to_string()).join(" "));
        let mut rest = &head[..];
        while !rest.is_empty() {
            let spare = self.inner.spare();
            let (now, later) = rest.split_at(rest.len().min(spare.len()));
            spare[..now.len()].copy_from_slice(now);
            self.inner.advance(now.len()).await?;
            rest = later;
        }
        Ok(())
    }
}

impl<I: Intake> Intake for WithoutMoment<I> {
    fn spare(&mut self) -> &mut [u8] {
        if self.head.is_empty() { self.inner.spare() } else { &mut self.head[self.filled..] }
    }

    async fn advance(&mut self, bytes_n: usize) -> Result<()> {
        if self.head.is_empty() {
            return self.inner.advance(bytes_n).await;
        }
        self.filled += bytes_n;
        if self.filled < HEAD_BYTES {
            return Ok(());
        }
        self.hand_on().await
    }
}

/// Puts a moment back into the head of an archive, as the stream's fact has it. What can't be read stays as it is.
pub(super) fn put_back(head: &mut [u8], fact: &str) {
    let ints: Vec<u32> = fact.split(' ').map_while(|int| int.parse().ok()).collect();
    if let Ok(moment) = <[u32; INTS]>::try_from(ints) {
        // None: this is no archive, and has no moment.
        let _ = exchange(head, &moment);
    }
}

/// Writes a moment into an archive's head and returns the one that was there; `None` if it is no such head.
fn exchange(head: &mut [u8], moment: &[u32; INTS]) -> Option<[u32; INTS]> {
    let [b'P', b'G', b'D', b'M', b'P', 1, minor, _, int_bytes @ 4..=8, _, _] = *head.first_chunk::<FIXED_BYTES>()?
    else {
        return None;
    };
    let int_bytes = usize::from(int_bytes);
    let start = FIXED_BYTES + if minor >= 15 { 1 } else { 1 + int_bytes };
    let ints = head.get_mut(start..start + INTS * (1 + int_bytes))?;
    let mut before = [0; INTS];
    for ((int, before), after) in ints.chunks_exact_mut(1 + int_bytes).zip(&mut before).zip(moment) {
        // A sign, which no moment has, and the lowest byte first.
        if int[0] != 0 {
            return None;
        }
        let (low, _) = int[1..].split_first_chunk_mut::<4>()?;
        *before = u32::from_le_bytes(*low);
        *low = after.to_le_bytes();
    }
    Some(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Memory;

    const GOLDEN: &[u8] = include_bytes!("../../golden/pg_dump-15-plain.dump");

    #[tokio::test]
    async fn a_moment_is_taken_out_and_put_back_however_the_bytes_come() {
        for piece_bytes in [1, 7, HEAD_BYTES, 4096, GOLDEN.len()] {
            let mut intake = WithoutMoment::new(Memory::new());
            let mut rest = GOLDEN;
            while !rest.is_empty() {
                let spare = intake.spare();
                let bytes_n = rest.len().min(piece_bytes).min(spare.len());
                spare[..bytes_n].copy_from_slice(&rest[..bytes_n]);
                intake.advance(bytes_n).await.expect("memory takes it");
                rest = &rest[bytes_n..];
            }
            let (Memory { mut bytes, .. }, moment) = intake.finish().await.expect("memory takes it");
            assert_ne!(bytes, GOLDEN);
            let differ = bytes.iter().zip(GOLDEN).filter(|(a, b)| a != b).count();
            assert!(differ <= INTS * 4 && bytes.len() == GOLDEN.len());
            put_back(&mut bytes, &moment.expect("it is an archive"));
            assert_eq!(bytes, GOLDEN);
        }
    }

    #[tokio::test]
    async fn what_is_no_archive_passes_as_it_is() {
        for text in [
            &b""[..],
            b"PGDMP",
            b"-- PostgreSQL database dump, a long text that is longer than any header of an archive would be",
        ] {
            let mut intake = WithoutMoment::new(Memory::new());
            if !text.is_empty() {
                intake.spare()[..text.len()].copy_from_slice(text);
                intake.advance(text.len()).await.expect("memory takes it");
            }
            let (memory, moment) = intake.finish().await.expect("memory takes it");
            assert_eq!((memory.bytes.as_slice(), moment), (text, None));
        }
    }
}
