//! Explores every interleaving of commit, prune, reading, forgetting and adoption, step by step, over a small store.
//!
//! What runs are the core's own functions (`loader::load_to_add`, `loader::load`, `adoption::adopt`, `session::decide_on`,
//! `protocol::prune`), generic over the traits of `state/ground.rs`; [`ground`] implements those. Each step in the store is
//! one `.await` that stays pending until the explorer gives it a reply.
//!
//! A future can't be copied, but what it does next is a function of the replies that it was given: it has no clock and no
//! randomness. So a process is kept as its history of replies (interned, a number), and its next step is found by running
//! it from its start with those ([`engine`]). A state of the whole is the number of the store's content and one history a
//! process. What a process can do depends on the store's content and its own history alone, so that is computed once a
//! pair and looked up ever after; what is demanded of the store's content alone is computed once a content. The search is
//! breadth first, with all states kept and compared exactly, so the first violation comes with a shortest run.
//!
//! Where it saves states, and why nothing is lost by it:
//! - Processes that may stop for ever need no step for it: in a safety search every state stands for "and that was all".
//! - Steps without effect on others (a choice, the deletion of a mark whose session is decided, which `others` leaves out
//!   anyway) happen at once, with the step before them.
//! - Histories are joined where the process retains the same of both: see `Model::join`. `joins_are_sound` checks it.
//! - Fragments are read one after another, though production reads several at once: they are immutable, so a read says
//!   only whether the fragment was still there, and whatever parallel reads can see of two fragments' deletions, one of the
//!   two orders sees, or it leads to a second load like it.
//! - Marking what snapshots need opens no node: what a snapshot needs is immutable, and a node that is gone ends a prune.
//! - Stores listed by kinds are listed at once where no process moves objects between those kinds.

pub mod engine;
pub mod ground;
pub mod oracle;
pub mod process;
pub mod prune_ground;
pub mod scenario;
pub mod states;
pub mod store;
pub mod world;
