//! What `benches/stores.py` puts in front of an S3 server: latency, and a count of what passes.
//!
//! ```text
//! front LISTEN BEHIND LATENCY_MS        such as: front 127.0.0.1:0 127.0.0.1:9000 20
//! ```
//!
//! It prints where it listens, and serves until its standard input ends. The latency is that of a round trip: half of it before
//! a request goes on, half of it before the reply does. How many bytes pass in a second is not limited.

#[path = "../../tests/all/kit/front.rs"]
mod front;

use std::io::Read;
use std::time::Duration;

#[allow(clippy::print_stdout)] // where it listens
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, behind, latency_ms] = &words[..] else { return Err("usage: front LISTEN BEHIND LATENCY_MS".into()) };
    let one_way = Duration::from_micros(latency_ms.parse::<u64>()? * 500);
    println!("{}", front::start(listen, behind.parse()?, front::far_away(one_way)));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
