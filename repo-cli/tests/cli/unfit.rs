//! Buckets that are no place for a repository, in the command line's words.

use super::{Place, Ran, files_below};
use crate::kit::servers::S3rver;
use dedump_core::{Bytes, Store, StoreOptions};
use std::process::Command;

fn at(command: &mut Command, server: &S3rver, prefix: &str) -> Ran {
    let keys =
        [("AWS_ACCESS_KEY_ID", S3rver::KEY), ("AWS_SECRET_ACCESS_KEY", S3rver::KEY), ("AWS_REGION", "us-east-1")];
    command.envs(keys).env("AWS_ENDPOINT_URL", server.endpoint());
    command.env("DEDUMP_REPO", format!("s3://backups/{prefix}"));
    Ran::of(command.arg("--allow-http"))
}

#[test]
fn a_bucket_that_ignores_preconditions_is_refused() {
    let (place, server) = (Place::new(), S3rver::start("backups"));
    let why = "ignores create-if-absent, by which a backup commits";
    at(&mut place.command(["init"]), &server, "new").expect_line(1, why);

    // A repository that was copied there from a directory opens, until somebody asks.
    let mut options = StoreOptions::default();
    options.allow_http = true;
    let endpoint = server.endpoint();
    let credentials = [("access_key_id", S3rver::KEY), ("secret_access_key", S3rver::KEY)];
    let settings = [[("endpoint", &*endpoint), ("region", "us-east-1")], credentials].concat();
    options.settings.extend(settings.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
    let store = Store::at("s3://backups/moved", &options).expect("settings that can be");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    let root = place.path("repo");
    for file in files_below(&root) {
        let name = file.strip_prefix(&root).expect("it lies below").to_str().expect("UTF-8").to_owned();
        let bytes = Bytes::from(std::fs::read(&file).expect("it can be read"));
        runtime.block_on(store.overwrite(&name, bytes)).expect("it writes");
    }
    at(&mut place.command(["snapshots"]), &server, "moved").expect_exit(0);
    at(&mut place.command(["check", "--store"]), &server, "moved").expect_line(1, why);
}
