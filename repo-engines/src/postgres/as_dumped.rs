//! Gives streams back as PostgreSQL's tools wrote them: what the engine took out is put back on the way to the target.

use super::created::{self, HEAD_BYTES};
use super::token;
use bytes::Bytes;
use dedump_core::{Error, Result, StreamRecord, Target, async_trait};
use std::io::Read;

/// A target behind which streams are as they were dumped. Streams of other engines pass as they are.
pub struct AsDumped<T> {
    target: T,
    change: Change,
}

/// What is changed in the stream that is under way.
enum Change {
    Nothing,
    /// The moment in an archive's head, which is gathered.
    Moment {
        moment: String,
        head: Vec<u8>,
    },
    /// The token in a short text, which is gathered.
    Token {
        text: Vec<u8>,
    },
}

impl<T: Target> AsDumped<T> {
    /// Creates a target in front of another.
    pub fn new(target: T) -> Self {
        AsDumped { target, change: Change::Nothing }
    }

    /// Hands on what was gathered, changed.
    async fn hand_on(&mut self) -> Result<()> {
        let bytes = match std::mem::replace(&mut self.change, Change::Nothing) {
            Change::Nothing => return Ok(()),
            Change::Moment { moment, mut head } => {
                created::put_back(&mut head, &moment);
                head
            }
            Change::Token { text } => match String::from_utf8(text) {
                Ok(text) => token::exchange(&text, &new_token()?).into_bytes(),
                Err(error) => error.into_bytes(),
            },
        };
        self.target.write(Bytes::from(bytes)).await
    }
}

#[async_trait]
impl<T: Target> Target for AsDumped<T> {
    async fn begin(&mut self, stream: &StreamRecord) -> Result<()> {
        self.change = match stream.facts.get(created::FACT) {
            Some(moment) => Change::Moment { moment: moment.clone(), head: Vec::new() },
            None if stream.facts.contains_key(token::FACT) => Change::Token { text: Vec::new() },
            None => Change::Nothing,
        };
        self.target.begin(stream).await
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match &mut self.change {
            Change::Nothing => return self.target.write(bytes).await,
            Change::Token { text } => text.extend_from_slice(&bytes),
            Change::Moment { head, .. } => {
                head.extend_from_slice(&bytes);
                if head.len() >= HEAD_BYTES {
                    return self.hand_on().await;
                }
            }
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        self.hand_on().await?;
        self.target.end().await
    }
}

/// Makes a token as pg_dump does: as long as the placeholder, letters and digits.
fn new_token() -> Result<String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = vec![0; token::PLACEHOLDER.len()];
    let filled = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    filled.map_err(|error| Error::System(format!("cannot read /dev/urandom: {error}")))?;
    Ok(random.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect())
}
