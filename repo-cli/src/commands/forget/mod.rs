//! `dedump forget`: takes snapshots away, by their ids or by a policy that says what stays.

mod ids;
mod keep;
mod report;

use crate::args::FilterArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;
use crate::progress::Work;
use clap::Args;
use dedump_core::retention::{GroupBy, Policy};
use dedump_core::{Error, ErrorKind, ForgetPlan, Forgotten, Hold, SnapshotId, forget_all, plan_forget};

/// Forget snapshots, by id or by a policy
///
/// By id, all are looked up before the first is forgotten. By a policy, a snapshot stays if any rule keeps it; each group is
/// judged alone. What a forgotten snapshot alone needed stays stored until `dedump prune`.
///
/// Whatever the policy, these stay: what is held; what was committed within --min-age; the last good snapshot of every source;
/// and what has a time in the future, which takes no other's place. Snapshots that are not good push out no good ones.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ForgetArgs {
    /// The first digits of the snapshots' ids, or `latest`
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Say what would be forgotten, and what stays by which rule, and forget nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    keep: keep::KeepArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Examples:
  dedump forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run
  dedump forget --keep-within 14d --keep-within-monthly 1y --time-zone Europe/Berlin
  dedump forget 1a2b3c4d 5e6f";

/// Runs it.
pub fn run(context: &Context, args: &ForgetArgs) -> Outcome {
    match (args.snapshots.is_empty(), args.keep.given()) {
        (false, Some(flag)) => Err(Failure::usage(format!(
            "snapshots are forgotten by id or by a policy, not both at once: leave out {flag}, or the ids"
        ))),
        (false, None) => ids::run(context, args),
        (true, _) => by_policy(context, args, &args.keep.policy()?),
    }
}

fn by_policy(context: &Context, args: &ForgetArgs, policy: &Policy) -> Outcome {
    let meter = context.meter(Work::Objects("snapshots forgotten"));
    let (plan, outcomes) = context.with_repository(STANDS, async |repository| {
        let plan = plan_forget(&repository, &args.filter.filter(), policy).await?;
        if !args.keep.unsafe_keep_nothing {
            refuse_to_keep_nothing(&plan)?;
        }
        if args.dry_run {
            return Ok((plan, Vec::new()));
        }
        meter.start();
        let outcomes = forget_all(&repository, &plan.removed(), &meter).await;
        Ok((plan, outcomes))
    })?;
    drop(meter);
    let failed = Failed::of(&outcomes);
    context.report(
        || report::to_json(&plan, policy, args.dry_run, &failed),
        || report::to_text(&plan, policy, args.dry_run, &failed, output::width()),
    )?;
    plan.unreadable
        .iter()
        .for_each(|problem| output::warning(&format!("{problem}; it stays; `dedump check` says more")));
    let damage = if plan.unreadable.is_empty() { Exit::Done } else { Exit::Damage };
    Ok(tell(&outcomes).unwrap_or(damage))
}

/// What an interruption leaves.
const STANDS: &str = "some of the snapshots may be forgotten; `dedump snapshots` tells";

fn refuse_to_keep_nothing(plan: &ForgetPlan) -> Result<(), Failure> {
    let Some(group) = plan.groups.iter().find(|group| group.keeps_nothing()) else { return Ok(()) };
    let snapshots = crate::human::counted(group.snapshots.len() as u64, "snapshot");
    Err(Failure::usage(format!(
        "the policy keeps none of {snapshots} of {}; change it, or say --unsafe-keep-nothing if that is meant",
        report::group_name(&group.key)
    )))
}

/// The snapshots that were to be forgotten and were not, each with the reason.
struct Failed<'a>(Vec<(SnapshotId, &'a Error)>);

impl<'a> Failed<'a> {
    fn of(outcomes: &'a [(SnapshotId, Result<Forgotten, Error>)]) -> Self {
        let failed = |(id, outcome): &'a (SnapshotId, Result<Forgotten, Error>)| Some((*id, outcome.as_ref().err()?));
        Failed(outcomes.iter().filter_map(failed).collect())
    }

    fn contains(&self, id: SnapshotId) -> bool {
        self.0.iter().any(|(failed, _)| *failed == id)
    }

    fn to_json(&self) -> Vec<serde_json::Value> {
        let one =
            |(id, error): &(SnapshotId, &Error)| serde_json::json!({ "id": id.to_string(), "why": error.to_string() });
        self.0.iter().map(one).collect()
    }
}

/// Warns of what did not go as planned; returns the exit code that says so, if anything did not.
fn tell(outcomes: &[(SnapshotId, Result<Forgotten, Error>)]) -> Option<Exit> {
    let mut exit = None;
    for (id, outcome) in outcomes {
        match outcome {
            Ok(forgotten) => {
                if let Some(Hold::Says(hold)) = &forgotten.ended {
                    output::warning(&format!("the hold on {} had ended: {}", id.short(), hold.reason));
                }
                if let Some(hold) = &forgotten.overtaken {
                    let late = "the hold came while it was being forgotten, too late";
                    output::warning(&format!("snapshot {} is forgotten, and is {hold}: {late}", id.short()));
                    exit = exit.or(Some(Exit::Conflict));
                }
            }
            // It does not become worse by failing twice; the store's own failure says most.
            Err(error) => {
                // The deletion comes last, when it is forgotten already.
                let is = match error {
                    Error::Store { action: "cannot delete", .. } => "forgotten, but not all of it is gone",
                    _ => "not forgotten",
                };
                output::warning(&format!("snapshot {} is {is}: {error}", id.short()));
                exit = match (exit, error.kind()) {
                    (Some(Exit::Failed), _) | (_, ErrorKind::Failed) => Some(Exit::Failed),
                    (_, ErrorKind::Damage) => Some(Exit::Damage),
                    (other, _) => other.or(Some(Exit::Conflict)),
                };
            }
        }
    }
    exit
}

/// Prints what snapshots are grouped by, as `--group-by` takes it.
fn group_by_name(group_by: &[GroupBy]) -> String {
    if group_by.is_empty() {
        return "none".to_owned();
    }
    group_by.iter().map(GroupBy::name).collect::<Vec<_>>().join(",")
}
