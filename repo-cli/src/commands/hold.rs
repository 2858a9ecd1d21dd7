//! `dedump hold` and `dedump release`: keep snapshots from being forgotten.

use crate::args::FilterArgs;
use crate::context::{Context, user_at_host};
use crate::exit::{Exit, Outcome};
use crate::{human, json, time};
use clap::Args;
use dedump_core::{HoldOptions, find, find_held, find_id, hold, list_holds};
use serde_json::{Value, json};

/// Hold a snapshot: nothing forgets it until the hold ends or is released
///
/// Holding it again replaces the hold. A prune that is later than a forget takes what nobody needs; a hold keeps the snapshot
/// from the forget, and so from both.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The first digits of a snapshot's id, or `latest`
    snapshot: String,
    /// Why, for those who will wonder
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When the hold ends: 2027-01-31, "2027-01-31 17:05" (UTC), or RFC 3339 [default: when it is released]
    #[arg(long, value_name = "TIME", value_parser = time::parse_ms)]
    until: Option<i64>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Release a snapshot that is held
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The first digits of the snapshot's id, or `latest`
    snapshot: String,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs `hold`.
pub fn run(context: &Context, args: &HoldArgs) -> Outcome {
    let options = HoldOptions { reason: args.reason.clone(), until_ms: args.until, by: user_at_host() };
    let stands = "the hold may be there; `dedump snapshots` tells";
    let (id, replaced, now) = context.with_repository(stands, async |repository| {
        let filter = args.filter.filter();
        // One that does not open can be held, too: until it is mended.
        let id = match args.snapshot.as_str() {
            "latest" => find(&repository, "latest", &filter).await?.id,
            name => match find(&repository, name, &filter).await {
                Err(error) if error.is_damage() => find_id(&repository, name).await?,
                found => found?.id,
            },
        };
        let replaced = hold(&repository, id, &options).await?;
        Ok((id, replaced, list_holds(&repository).await?.remove(&id)))
    })?;
    context.report(
        || {
            let [now, replaced] = [&now, &replaced].map(|hold| hold.as_ref().map_or(Value::Null, json::hold));
            json!({ "id": id.to_string(), "hold": now, "replaced": replaced })
        },
        || {
            let until = args.until.map_or_else(
                || "until it is released".to_owned(),
                |until_ms| format!("until {}", time::for_people(until_ms)),
            );
            let mut text = format!("holding {} {until}\n", id.short());
            if let Some(replaced) = &replaced {
                text.push_str(&format!("before, it was {}\n", human::safe(&replaced.to_string())));
            }
            text
        },
    )?;
    Ok(Exit::Done)
}

/// Runs `release`.
pub fn release(context: &Context, args: &ReleaseArgs) -> Outcome {
    let stands = "the hold may be gone; `dedump snapshots` tells";
    let (id, hold) = context.with_repository(stands, async |repository| {
        let id = match args.snapshot.as_str() {
            "latest" => find(&repository, "latest", &args.filter.filter()).await?.id,
            name => find_held(&repository, name).await?,
        };
        Ok((id, dedump_core::release(&repository, id).await?))
    })?;
    context.report(
        || json!({ "id": id.to_string(), "hold": json::hold(&hold) }),
        || format!("released {}; it was {}\n", id.short(), human::safe(&hold.to_string())),
    )?;
    Ok(Exit::Done)
}
