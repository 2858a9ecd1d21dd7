//! ClickHouse: whatever goes wrong is one line, nothing is stored, and no password is shown. What goes wrong in silence is found.

use crate::clickhouse::back_up;
use crate::kit::clickhouse::{ClickHouse, PASSWORD, USER};
use crate::kit::front::{self, Reply, Request};
use crate::kit::servers::free_port;
use crate::kit::{create, in_time, run, snapshots};
use dedump_core::Store;
use dedump_engines::clickhouse::{ClickHouseOptions, ClientOptions, internals};
use std::net::SocketAddr;
use std::sync::Arc;

/// Backs up what has to be refused; returns why.
async fn refused_with(url: &str, options: ClickHouseOptions) -> String {
    let repository = create(Store::memory()).await.expect("a repository");
    let error = in_time(back_up(&repository, url, options)).await.expect_err("it can't be");
    let message = error.to_string();
    assert!(!message.contains('\n') && !message.contains("s3cret"), "{message}");
    assert_eq!(snapshots(&repository).await.expect("a list").len(), 0);
    message
}

async fn refused(url: &str) -> String {
    refused_with(url, ClickHouseOptions::default()).await
}

fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is missing: {message}");
    }
}

fn fill(server: &ClickHouse) {
    server.run_all(&[
        "CREATE DATABASE d1",
        "CREATE TABLE d1.t (k UInt32, s String) ENGINE = MergeTree PARTITION BY k % 2 ORDER BY k",
        "INSERT INTO d1.t SELECT number, toString(number) FROM numbers(1000)",
        "CREATE TABLE d1.l (a UInt32) ENGINE = Log",
        "INSERT INTO d1.l SELECT number FROM numbers(100)",
    ]);
}

#[test]
fn whoever_may_not_come_in_is_told_so() {
    let (server, old) = (ClickHouse::start(), ClickHouse::start_debian());
    fill(&server);
    fill(&old);
    let dead = free_port();
    run(async {
        for server in [&server, &old] {
            let url = |user: &str| format!("clickhouse://{user}127.0.0.1:{}/d1", server.port);
            assert_says(
                &refused(&url(&format!("{USER}:s3cret-wrong@"))).await,
                &["does not take this user and password", "--db-password-file"],
            );
            assert_says(&refused(&url("nobody:s3cret@")).await, &["does not take this user and password"]);
            assert_says(&refused(&server.database("nothing")).await, &["no database \"nothing\"", "correct the URL"]);
            let options = ClickHouseOptions {
                client: ClientOptions { password: Some(PASSWORD.to_owned()), ..ClientOptions::default() },
                ..ClickHouseOptions::default()
            };
            let repository = create(Store::memory()).await.expect("a repository");
            back_up(&repository, &url(&format!("{USER}@")), options).await.expect("the password is right");
        }
        assert!(!server.requests().contains("s3cret"), "the password is in a URL");
        assert_says(
            &refused(&format!("clickhouse://127.0.0.1:{dead}")).await,
            &["it can't be reached", "is this its port"],
        );
        assert_says(
            &refused("clickhouse://no-such-host.invalid").await,
            &["ClickHouse at no-such-host.invalid", "it can't be reached"],
        );
        assert_says(
            &refused(&format!("clickhouses://127.0.0.1:{}", server.port)).await,
            &["it can't be reached", "HTTPS"],
        );
        let options = ClickHouseOptions { tables: vec!["d1.none".to_owned()], ..ClickHouseOptions::default() };
        assert_says(&refused_with(&server.url(), options).await, &["it has no table d1.none"]);
        let stranger = format!("clickhouse://stranger@127.0.0.1:{}/d1", old.port);
        assert_says(&refused(&stranger).await, &["nothing was stored"]);
    });
}

/// Writes a configuration in which the user has this and nothing else.
fn configured(server: &ClickHouse, of_user: &str) -> String {
    let users = format!(
        "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default><password/>\
         <networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>{of_user}</default></users></clickhouse>"
    );
    let path = |name: &str| server.folder().join(name);
    std::fs::write(path("users.xml"), users).expect("writes");
    let users = path("users.xml");
    let configuration = format!(
        "<clickhouse><user_directories><users_xml><path>{}</path></users_xml></user_directories></clickhouse>",
        users.display()
    );
    std::fs::write(path("config.xml"), configuration).expect("writes");
    format!("\"config\": \"{}\"", path("config.xml").display())
}

#[test]
fn what_a_user_may_not_see_is_never_missing_in_silence() {
    let mut server = ClickHouse::start();
    fill(&server);
    let grants = |lines: &[&str]| {
        let lines: String = lines.iter().map(|line| format!("<query>{line}</query>")).collect();
        format!("<grants>{lines}</grants>")
    };
    let some = grants(&["GRANT SELECT ON d1.l", "GRANT SELECT ON system.*"]);
    let setup = configured(&server, &some);
    server.start_again(&setup);
    run(async {
        assert_says(
            &refused(&server.database("d1")).await,
            &["this user may not see all of it", "GRANT SHOW, SELECT ON `d1`.* TO `default`"],
        );
        assert_says(&refused(&server.url()).await, &["GRANT SHOW, SELECT ON *.*"]);
    });
    let column = grants(&["GRANT SHOW, SELECT(k) ON d1.t", "GRANT SELECT ON system.*"]);
    let setup = configured(&server, &column);
    server.start_again(&setup);
    run(async {
        let options = ClickHouseOptions { tables: vec!["d1.t".to_owned()], ..ClickHouseOptions::default() };
        assert_says(
            &refused_with(&server.url(), options).await,
            &["does not let this user do that", "SELECT(k, s, _part) ON d1.t"],
        );
    });
    let policy = "<databases><d1><t><filter>k &lt; 900</filter></t></d1></databases>";
    let setup = configured(&server, policy);
    server.start_again(&setup);
    run(async {
        assert_says(
            &refused(&server.database("d1")).await,
            &["d1.t shows 450 of the 500 rows of its partition 0", "row policy"],
        );
    });
}

#[test]
fn a_server_that_dies_in_the_middle_leaves_nothing_stored() {
    let mut server = ClickHouse::start_with("\"pause\": 0.3");
    server.run_all(&[
        "CREATE DATABASE d1",
        "CREATE TABLE d1.t (k UInt32) ENGINE = MergeTree ORDER BY k",
        "INSERT INTO d1.t SELECT number FROM numbers(1000000)",
    ]);
    let url = server.database("d1");
    run(async {
        let (message, ()) = tokio::join!(refused(&url), async {
            // The answer with the rows takes several seconds.
            while !server.requests().contains("max_block_size") {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            server.kill();
        });
        assert_says(&message, &["its answer broke off after", "nothing was stored"]);
    });
}

/// Changes the answers with rows on their way.
fn between(server: &ClickHouse, change: impl Fn(&str, Reply) -> Reply + Send + Sync + 'static) -> String {
    let behind = SocketAddr::from(([127, 0, 0, 1], server.port));
    let handle = move |request: Request, behind| {
        let reply = request.ask(behind)?;
        let query = String::from_utf8_lossy(&request.body).into_owned();
        Ok(if query.contains("FORMAT Native") { change(&query, reply) } else { reply })
    };
    format!("clickhouse://{}/d1", front::start("127.0.0.1:0", behind, Arc::new(handle)))
}

#[test]
fn an_answer_of_200_that_is_not_whole_is_never_stored() {
    for server in [ClickHouse::start(), ClickHouse::start_debian()] {
        fill(&server);
        let changed = |change: fn(Vec<u8>) -> Vec<u8>| {
            between(&server, move |_, reply| Reply { body: change(reply.body), ..reply })
        };
        run(async {
            let appended = changed(|body| {
                [
                    &body,
                    "Code: 241, e.displayText() = DB::Exception: Memory limit exceeded, e.what() = DB::Exception\n"
                        .as_bytes(),
                ]
                .concat()
            });
            assert_says(
                &refused(&appended).await,
                &["are not whole", "the server broke off: Code: 241", "Memory limit exceeded"],
            );
            let inside = changed(|body| {
                [&body[..body.len() / 2], "Code: 241. DB::Exception: Memory limit exceeded".as_bytes()].concat()
            });
            assert_says(&refused(&inside).await, &["are not whole", "Memory limit exceeded"]);
            let cut = changed(|body| body[..body.len() - 1].to_vec());
            assert_says(&refused(&cut).await, &["are not whole: it ends in the middle of a block"]);
            // Whole blocks, and none of them.
            let none = changed(|_| Vec::new());
            assert_says(&refused(&none).await, &["never shows as many rows as it counts"]);
            let none =
                between(
                    &server,
                    |query, reply| {
                        if query.contains("_part") { Reply { body: Vec::new(), ..reply } } else { reply }
                    },
                );
            assert_says(&refused(&none).await, &["d1.t shows 0 of the 500 rows"]);
            let twice = between(&server, |query, reply| {
                let body = if query.contains("_part") { reply.body.repeat(2) } else { reply.body };
                Reply { body, ..reply }
            });
            assert_says(&refused(&twice).await, &["d1.t shows 1000 rows of its partition 0, whose parts have 500"]);
            let page = between(&server, |_, reply| Reply { body: b"<html>maintenance</html>".to_vec(), ..reply });
            assert_says(&refused(&page).await, &["are not whole"]);
        });
    }
}

#[test]
fn exceptions_as_the_servers_write_them_into_an_answer_are_found() {
    let query = "SELECT number, throwIf(number = 300000) AS x FROM numbers(400000) FORMAT Native";
    for server in [ClickHouse::start(), ClickHouse::start_debian()] {
        let body = server.begun(query);
        assert!(body.len() > 500_000, "the exception comes in the middle: {} bytes", body.len());
        for piece_bytes in [1000, 65_536, body.len()] {
            let error = internals::walk(&body, piece_bytes, false).expect_err("it broke off");
            assert_says(&error, &["the server broke off: Code: 395", "throwIf"]);
        }
    }
}

#[test]
fn what_is_no_clickhouse_or_an_ancient_one_is_refused() {
    let server = ClickHouse::start();
    let answering = |text: &'static str| {
        let behind = SocketAddr::from(([127, 0, 0, 1], server.port));
        let handle = move |_, _| Ok(Reply { status: "200 OK".to_owned(), headers: Vec::new(), body: text.into() });
        format!("clickhouse://{}", front::start("127.0.0.1:0", behind, Arc::new(handle)))
    };
    run(async {
        assert_says(
            &refused(&answering("1.1.54390\n")).await,
            &["it is version 1.1.54390", "the oldest one that works is 18.14", "upgrade it"],
        );
        assert_says(
            &refused(&answering("<html>hello</html>")).await,
            &["answers what no ClickHouse does", "is this its HTTP interface?"],
        );
    });
}

#[test]
fn https_leads_to_the_same_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let openssl = |arguments: &str| {
        let made = std::process::Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output();
        assert!(made.expect("openssl is there").status.success(), "openssl {arguments}");
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca");
    openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=clickhouse");
    std::fs::write(file("names"), "subjectAltName=IP:127.0.0.1\n").expect("writes");
    openssl("x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out own.pem -days 2 -extfile names");
    let of = |name: &str| file(name).display().to_string();
    let mut server = ClickHouse::start();
    fill(&server);
    server.start_again(&format!("\"tls\": [\"{}\", \"{}\", \"{}\"]", of("own.pem"), of("key.pem"), of("ca.pem")));
    let url = format!("clickhouses://127.0.0.1:{}/d1", server.port);
    run(async {
        let client = ClientOptions { ca_file: Some(file("ca.pem")), ..ClientOptions::default() };
        let options =
            |client: &ClientOptions| ClickHouseOptions { client: client.clone(), ..ClickHouseOptions::default() };
        assert_says(&refused_with(&url, options(&client)).await, &["the server wants a certificate of ours"]);
        assert_says(&refused(&url).await, &["can't be reached", "certificate"]);
        let own = (Some(file("own.pem")), Some(file("key.pem")));
        let client = ClientOptions { certificate_file: own.0, key_file: own.1, ..client };
        let repository = create(Store::memory()).await.expect("a repository");
        let report = back_up(&repository, &url, options(&client)).await.expect("backs up");
        assert_eq!(report.snapshot.record.facts["rows"], "1100");
    });
}
