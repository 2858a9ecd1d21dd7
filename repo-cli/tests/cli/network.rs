//! Hosts with a network of their own: each in a network namespace, all on one bridge. A host is a process that sleeps; when it is
//! gone, so are its namespace and what lies in it. None of them has a name, so nothing stays behind anywhere.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where the test itself is to be reached by the hosts: the bridge's address.
pub const HUB: &str = "10.77.0.1";

/// Says to the test that it is in a namespace already.
const INSIDE: &str = "DEDUMP_TEST_NAMESPACE";

/// How a test gets a network of its own.
pub enum Entered {
    /// It is in a namespace of its own, as root in it.
    Inside,
    /// Another process of this test was, and it passed.
    Passed,
    /// The kernel has no namespaces for whoever runs this.
    Forbidden,
}

/// Runs a test again in a network namespace of its own: as root, or as root of a user namespace of its own.
#[allow(clippy::print_stderr)] // what the network is
pub fn enter(test: &str) -> Entered {
    if std::env::var_os(INSIDE).is_some() {
        return Entered::Inside;
    }
    let ways: [(&str, &[&str]); 2] =
        [("root", &["--net"]), ("a user namespace", &["--net", "--user", "--map-root-user"])];
    let works = |flags: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(flags).args([
            "sh",
            "-c",
            "ip link add name hub type bridge && ip link add name end type veth peer name other",
        ]);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let Some((by, flags)) = ways.into_iter().find(|(_, flags)| works(flags)) else {
        return Entered::Forbidden;
    };
    eprintln!("network namespaces, as {by}");
    let mut command = Command::new("unshare");
    // Behind unshare: whoever enters a user namespace loses what was set before.
    command.args(flags).args(["setpriv", "--pdeathsig", "KILL"]).arg(std::env::current_exe().expect("there is one"));
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    assert!(command.status().expect("unshare of util-linux starts").success(), "the test failed in its namespace");
    Entered::Passed
}

/// A bridge, and the hosts on it.
pub struct Network {
    hosts: Vec<Child>,
}

impl Network {
    /// Makes a bridge in the test's own namespace, and so many hosts on it.
    pub fn create(hosts_n: usize) -> Network {
        ip(&["link", "set", "lo", "up"]);
        ip(&["link", "add", "name", "hub", "type", "bridge"]);
        ip(&["addr", "add", &format!("{HUB}/24"), "dev", "hub"]);
        ip(&["link", "set", "hub", "up"]);
        let mut network = Network { hosts: Vec::new() };
        (0..hosts_n).for_each(|number| network.add_host(number));
        network
    }

    fn add_host(&mut self, number: usize) {
        let mut command = Command::new("unshare");
        command.args(["--net", "setpriv", "--pdeathsig", "KILL", "sleep", "infinity"]);
        let host = command.stdin(Stdio::null()).spawn().expect("unshare of util-linux starts");
        let pid = host.id();
        self.hosts.push(host);
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let (ours, begun) = (namespace("self"), Instant::now());
        while namespace(&pid.to_string()).is_none_or(|theirs| Some(theirs) == ours) {
            assert!(begun.elapsed() < Duration::from_secs(10), "host {number} gets no namespace");
            std::thread::sleep(Duration::from_millis(2));
        }
        let (port, pid) = (port(number), pid.to_string());
        ip(&["link", "add", "name", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        ip(&["link", "set", &port, "master", "hub", "up"]);
        let address = format!("10.77.0.{}/24", number + 2);
        for words in [&["addr", "add", &address, "dev", "eth0"][..], &["link", "set", "eth0", "up"]] {
            let mut command = Command::new("nsenter");
            command.args(["--target", &pid, "--net", "ip"]).args(words);
            assert!(command.status().expect("nsenter of util-linux starts").success(), "{words:?}");
        }
    }

    /// Returns the command as one that a host runs. It ends with the test, at the latest.
    pub fn on(&self, host: usize, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there.args(["--target", &self.hosts[host].id().to_string(), "--net"]);
        there.args(["setpriv", "--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there
    }

    /// Pulls a host's cable, or plugs it in again.
    pub fn set_link(&self, host: usize, is_up: bool) {
        ip(&["link", "set", &port(host), if is_up { "up" } else { "down" }]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            // It may be gone already.
            let _ = host.kill();
            let _ = host.wait();
        }
    }
}

/// The bridge's end of a host's cable.
fn port(host: usize) -> String {
    format!("host{host}")
}

fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().expect("ip of iproute2 starts");
    assert!(status.success(), "ip {}", words.join(" "));
}
