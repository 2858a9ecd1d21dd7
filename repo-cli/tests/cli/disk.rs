//! Disks that are full or read-only: real ones, in a mount namespace of the test's own.

use super::{Place, Ran};
use std::process::Command;

/// Runs a script with a small disk of its own mounted at `$DISK`, which is gone afterwards.
fn with_disk(place: &Place, megabytes: u32, script: &str) -> Ran {
    std::fs::create_dir(place.path("disk")).expect("creates");
    let mut command = Command::new("unshare");
    command.arg("--mount");
    // Root may mount; anybody else may in a user namespace of their own, where the kernel lets them.
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let mounted = format!("mount -t tmpfs -o size={megabytes}m tmpfs \"$DISK\" || exit 99\n{script}");
    command.args(["sh", "-c", &mounted]);
    command.env("DISK", place.path("disk")).env("DEDUMP", env!("CARGO_BIN_EXE_dedump"));
    command.env("DEDUMP_KEY_FILE", place.path("key"));
    let ran = Ran::of(&mut command);
    assert_ne!(
        ran.code,
        Some(99),
        "this test mounts a disk of its own, which needs root or user namespaces: {}",
        ran.err
    );
    ran
}

#[test]
fn a_full_disk_fails_one_backup_and_harms_nothing_before() {
    let place = Place::empty();
    let script = r#"
        set -e
        export DEDUMP_REPO="$DISK/repo"
        "$DEDUMP" --quiet init
        "$DEDUMP" --quiet backup --name first -- head -c 1000000 /dev/urandom
        "$DEDUMP" --quiet backup --name big -- head -c 30000000 /dev/urandom && exit 90
        [ $? -eq 1 ] || exit 91
        "$DEDUMP" --quiet check --read-data
        find "$DEDUMP_REPO/sessions" -type f | grep -q . && exit 92
        find "$DEDUMP_REPO" -name '*#*' | grep -q . && exit 93
        [ "$("$DEDUMP" snapshots --json | grep -c '"quality"')" = 1 ] || exit 94
        "$DEDUMP" --quiet restore latest --to "$DISK/back"
    "#;
    let ran = with_disk(&place, 6, script).expect_exit(0);
    let line = ran.err.lines().next().expect("the failure's line");
    assert!(line.starts_with("dedump: cannot write packs/"), "{line}");
    assert!(line.contains("the disk is full: free some space"), "{line}");
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn another_file_system_is_left_out_if_asked_for() {
    let place = Place::empty();
    std::fs::create_dir_all(place.path("tree/below")).expect("creates");
    std::fs::write(place.path("tree/here"), b"here").expect("writes");
    let script = r#"
        set -e
        export DEDUMP_REPO="$DISK/../repo"
        mount --bind "$DISK" "$DISK/../tree/below"
        echo there > "$DISK/../tree/below/there"
        mkdir "$DISK/../tree/below/deep"
        "$DEDUMP" --quiet init
        cd "$DISK/../tree"
        "$DEDUMP" --quiet backup all=files:. --name all
        "$DEDUMP" --quiet backup one=files:. --name one --one-file-system
        # What is named is meant, wherever it lies.
        "$DEDUMP" --quiet backup two=files:./below --name two --one-file-system
    "#;
    with_disk(&place, 6, script).expect_exit(0);
    let base = place.text("tree");
    let paths = |source: &str, base: &str| {
        let to = format!("files:{}", place.text(source));
        place.run(["restore", "latest", "--source", source, "--to", &to, "--base", base]).expect_exit(0);
        let find = format!("cd '{}' && find . | sort", place.text(source));
        Ran::of(Command::new("sh").args(["-c", &find])).out
    };
    assert_eq!(paths("all", &base), ".\n./below\n./below/deep\n./below/there\n./here\n");
    // The directory itself is there, as it must be for a mount.
    assert_eq!(paths("one", &base), ".\n./below\n./here\n");
    assert_eq!(paths("two", &format!("{base}/below")), ".\n./deep\n./there\n");
}

#[test]
fn a_prune_on_a_full_disk_deletes_what_it_can_and_names_the_rest() {
    let place = Place::empty();
    // 40 MB that only one snapshot needs, and 30 MB of packs of which every other is needed in part; then no room.
    let script = r#"
        set -e
        export DEDUMP_REPO="$DISK/repo"
        "$DEDUMP" --quiet init
        head -c 30000000 /dev/urandom > "$DISK/kept"
        "$DEDUMP" --quiet backup --name gone -- head -c 36000000 /dev/urandom
        "$DEDUMP" --quiet backup --name mixed -- sh -c 'cat "$DISK/kept"; head -c 20000000 /dev/urandom'
        "$DEDUMP" --quiet backup --name kept -- cat "$DISK/kept"
        "$DEDUMP" --quiet forget $("$DEDUMP" snapshots --source gone --json | grep -o '"id": "[0-9a-f]*"' | cut -d'"' -f4)
        "$DEDUMP" --quiet forget $("$DEDUMP" snapshots --source mixed --json | grep -o '"id": "[0-9a-f]*"' | cut -d'"' -f4)
        rm "$DISK/kept"
        head -c $(($(df --output=avail -k "$DISK" | tail -1) * 1024 - 20000000)) /dev/zero > "$DISK/filler"
        "$DEDUMP" prune --max-unused 0
        rm "$DISK/filler"
        "$DEDUMP" prune --max-unused 0
        "$DEDUMP" --quiet check --read-data
        "$DEDUMP" --quiet restore latest --to "$DISK/back"
    "#;
    let ran = with_disk(&place, 160, script).expect_exit(0);
    let (first, second) = ran.out.split_once("requests").expect("two reports");
    let (of_first, second) = second.split_once("deleted").expect("two reports");
    assert!(first.contains("deleted") && of_first.contains("no room for"), "{}", ran.out);
    assert!(second.contains("stored anew") && !second.contains("no room for"), "{}", ran.out);
}

#[test]
fn a_full_disk_fails_a_restore_and_leaves_no_half_file() {
    let place = Place::new();
    place.back_up("app.dump", &super::noise(1, 5_000_000));
    let script = format!(
        "\"$DEDUMP\" --repo '{}' --quiet restore latest --to \"$DISK/out\"; code=$?; ls -A \"$DISK/out\"; exit $code",
        place.text("repo")
    );
    let ran = with_disk(&place, 2, &script).expect_line(1, "No space left");
    assert_eq!(ran.out, "", "nothing is left behind");
}

#[test]
fn a_read_only_disk_can_be_read_and_says_what_to_do() {
    let place = Place::empty();
    let script = r#"
        set -e
        export DEDUMP_REPO="$DISK/repo"
        "$DEDUMP" --quiet init
        "$DEDUMP" --quiet backup --name first -- echo first
        mount -o remount,ro "$DISK"
        "$DEDUMP" --quiet backup --name second -- echo second && exit 90
        [ $? -eq 1 ] || exit 91
        "$DEDUMP" --repo "$DISK/other" --quiet init && exit 92
        "$DEDUMP" --quiet check --read-data
        "$DEDUMP" restore latest --to -
    "#;
    let ran = with_disk(&place, 6, script).expect_exit(0);
    assert_eq!(ran.out, "first\n");
    assert_eq!(ran.err.lines().count(), 2, "{}", ran.err);
    assert!(ran.err.lines().all(|line| line.contains("read-only: mount it for writing")), "{}", ran.err);
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").expect("Linux has it").uid() == 0
}
