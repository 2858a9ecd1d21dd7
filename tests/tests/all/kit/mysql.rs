//! A MariaDB server of a test's own: made in a temporary folder, on a free port of the loopback and a socket, gone with the test.
//!
//! It takes half a second to make one, so each test has its own.

use super::postgres::output;
use super::servers::free_port;
use dedump_core::{BackupOptions, BackupReport, Repository, Result, Snapshot, backup};
use dedump_engines::mysql::{
    ClientOptions, MysqlEngine, MysqlOptions, MysqlRestore, MysqlRestoreOptions, MysqlRestored,
};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to answer first.
const START_SECS_MAX: u64 = 60;

/// A server that runs. Dropped, it is killed, and its data are gone.
pub struct Mysql {
    settings: Vec<String>,
    child: Option<Child>,
    pub port: u16,
    // Last: the server lives in it.
    folder: tempfile::TempDir,
}

impl Mysql {
    /// Makes a server of Debian's package with a binary log, and waits until it takes connections. Root has no password.
    ///
    /// Call it on the test's own thread: the server is killed when the thread that started it ends.
    pub fn start(settings: &[&str]) -> Mysql {
        for program in ["/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db", "/usr/bin/mariadb-dump"] {
            assert!(
                Path::new(program).exists(),
                "{program} is missing: install Debian's packages mariadb-server-core and mariadb-client, or let tests/run do it"
            );
        }
        let folder = tempfile::Builder::new().prefix("dedump-my-").tempdir().expect("a temporary folder");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        // As small as it may be: it is made for one test.
        install.args(["--skip-name-resolve", "--innodb-log-file-size=4M"]).args(as_root());
        // In a folder that all share, they mistake each other's files for their own.
        install.arg(format!("--tmpdir={}", folder.path().display()));
        output(install.arg(format!("--datadir={}", folder.path().join("data").display())));
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut mysql = Mysql { settings, child: None, port: free_port(), folder };
        mysql.run();
        // One that a server which looks up no names ignores, and says so wherever it is met.
        mysql.sql("DELETE FROM mysql.global_priv WHERE host = @@hostname; DELETE FROM mysql.proxies_priv WHERE host = @@hostname; FLUSH PRIVILEGES");
        mysql
    }

    fn run(&mut self) {
        let folder = self.folder.path();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "mariadbd", "--no-defaults"]).args(as_root());
        command.arg(format!("--datadir={}", folder.join("data").display()));
        command.arg(format!("--socket={}", self.socket().display())).arg(format!("--port={}", self.port));
        command.arg(format!("--pid-file={}", folder.join("pid").display()));
        command.arg(format!("--tmpdir={}", folder.display()));
        // Nothing of it must last, and it takes little memory.
        command.args(["--bind-address=127.0.0.1", "--log-bin=bin", "--server-id=1", "--innodb-log-file-size=4M"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--skip-name-resolve"]);
        command.args(&self.settings).stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"));
        command.stderr(log.expect("the folder takes a file"));
        self.child = Some(command.spawn().expect("setpriv of util-linux starts"));
        let begun = Instant::now();
        // The socket is there before the server has opened its tables.
        while UnixStream::connect(self.socket()).is_err()
            || !self.client().args(["-e", "DO 1"]).status().expect("runs").success()
        {
            let ended = self.child.as_mut().expect("it was started").try_wait().expect("it is ours");
            assert!(ended.is_none(), "the server has ended: {}", self.log());
            assert!(begun.elapsed().as_secs() < START_SECS_MAX, "the server does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server well and starts it again.
    pub fn restart(&mut self) {
        let mut child = self.child.take().expect("it runs");
        self.sql("SHUTDOWN");
        child.wait().expect("it ends");
        self.run();
    }

    /// Kills the server.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Returns the number of the server's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Returns a client as root, with a plain environment.
    pub fn client(&self) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-N", "-B", "--comments", "--default-character-set=utf8mb4", "-uroot"]);
        command.arg(format!("--socket={}", self.socket().display()));
        command.env_remove("MYSQL_PWD").stderr(Stdio::null());
        command
    }

    /// Runs a script, which must not fail, and returns the rows that it gives, with tabs between their fields.
    pub fn sql(&self, script: &str) -> String {
        let file = self.folder.path().join("script");
        std::fs::write(&file, script).expect("the folder takes a file");
        let script = std::fs::File::open(&file).expect("the file is there");
        output(self.client().stderr(Stdio::piped()).stdin(script))
    }

    /// Returns a number that a question has for an answer.
    pub fn number(&self, question: &str) -> u64 {
        self.sql(question).trim().parse().expect("a number")
    }

    /// Returns the URL of a database, as root.
    pub fn url(&self, database: &str) -> String {
        self.url_of("root", database)
    }

    /// Returns the URL of a database for a user, who may have a password behind a colon.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}/{database}", self.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Returns the names of the databases that are not the server's own.
    pub fn databases(&self) -> Vec<String> {
        let query = "SELECT schema_name FROM information_schema.schemata
            WHERE schema_name NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys') ORDER BY 1";
        self.sql(query).lines().map(str::to_owned).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Mysql {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("what the server said:\n{}", self.log());
        }
    }
}

/// The server refuses to run as root unless it is told to.
fn as_root() -> Option<&'static str> {
    let is_root = std::fs::metadata("/proc/self").expect("proc is mounted").uid() == 0;
    is_root.then_some("--user=root")
}

/// A database that is hard to put back.
pub const AWKWARD: &str = r#"
CREATE DATABASE app CHARACTER SET utf8mb4 COMMENT 'the ''app'' -- Dump completed';
CREATE USER clerk@'%' IDENTIFIED BY 'pw'; CREATE ROLE reader; GRANT SELECT ON app.* TO reader;
GRANT reader TO clerk@'%'; SET DEFAULT ROLE reader FOR clerk@'%'; GRANT SELECT (name), INSERT ON mysql.help_topic TO clerk@'%';
USE app;
SET time_zone = '+03:00';
CREATE TABLE types (
    id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, s text, l longtext CHARACTER SET latin1, v varchar(50) COLLATE utf8mb4_bin,
    b blob, vb varbinary(20), bt bit(9), j json, d double, n decimal(40, 20), da date, dt datetime(6), ts timestamp(3) NULL, t time(6), y year,
    e enum('a', 'b\n-- x', 'it''s'), st set('x', 'y'' z'), g point, u uuid, i inet6,
    gs varchar(60) AS (CONCAT(LEFT(s, 10), '\n-- y')) STORED, gv int AS (LENGTH(s)) VIRTUAL,
    UNIQUE KEY (v), KEY odd (s(10), dt DESC), FULLTEXT KEY (l), CHECK (n IS NULL OR n < 1e19 OR s <> '\n;\n-- z')
) COMMENT 'table\n-- Dumping data for table `types`\n' AUTO_INCREMENT = 1000;
INSERT INTO types (id, s, l, v, b, vb, bt, j, d, n, da, dt, ts, t, y, e, st, g, u, i) VALUES
    (1, 'two\nlines\r\n\t\\\0\Z''"`', 'größe', 'a', x'00FF0A0D5C27221A', x'', b'101010101', '{"a": "\\n\\"", "b": [1, null]}', 1.7976931348623157e308, 12345678901234567890.12345678901234567890, '1000-01-01', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.999', '-838:59:59.000000', 2155, 'b\n-- x', 'x,y'' z', POINT(1.5, -2), UUID(), '::1'),
    (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (3, '', '', '', '', '', b'0', '[]', -0.1, -0.00000000000000000001, '2024-02-29', '2024-02-29 00:00:00', '2024-03-31 02:30:00', '00:00:00', 1901, 'a', '', NULL, NULL, NULL),
    (4, '-- Dump completed\n', '); INSERT INTO `x` VALUES (1);', '💾ü', 'b', 'b', b'1', '"💾"', 0.1, 1, NULL, NULL, NULL, NULL, NULL, 'it''s', NULL, NULL, NULL, NULL),
    (5, '/*!50001 SELECT */ -- x', '`) VALUES (', 'A', 'b', 'b', b'1', '1', 1e-300, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
INSERT INTO types (id, s) VALUES (0, 'zero'), (18446744073709551614, 'last');
SET SESSION sql_mode = DEFAULT;
CREATE TABLE parents (id int PRIMARY KEY, child int); CREATE TABLE children (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE);
INSERT INTO parents VALUES (1, 1), (2, NULL); INSERT INTO children VALUES (1, 2), (2, 1);
ALTER TABLE parents ADD CONSTRAINT circle FOREIGN KEY (child) REFERENCES children (id);
CREATE TABLE `odd ``name/with.dots` (`a ``) VALUES (` int, `select` int AS (`a ``) VALUES (` + 1)); INSERT INTO `odd ``name/with.dots` (`a ``) VALUES (`) VALUES (3), (1), (2);
CREATE TABLE parts (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (YEAR(at)) (PARTITION old VALUES LESS THAN (2025) COMMENT 'x\n-- y', PARTITION rest VALUES LESS THAN MAXVALUE);
INSERT INTO parts SELECT seq, DATE_ADD('2024-06-01', INTERVAL seq DAY) FROM seq_1_to_1000;
CREATE TABLE nokey (a int, b varchar(10)); INSERT INTO nokey VALUES (2, 'b'), (1, 'a'), (2, 'b');
CREATE TABLE empty (a int);
CREATE TABLE versions (id int PRIMARY KEY, s text) WITH SYSTEM VERSIONING;
INSERT INTO versions VALUES (1, 'a'); UPDATE versions SET s = 'b'; DELETE FROM versions;
CREATE SEQUENCE numbers START WITH 5 INCREMENT BY 3 MAXVALUE 1000 CYCLE NOCACHE; SELECT NEXTVAL(numbers);
CREATE TABLE numbered (id int DEFAULT NEXTVAL(numbers) PRIMARY KEY, s text); INSERT INTO numbered (s) VALUES ('a'), ('b');
CREATE VIEW z_first AS SELECT 'x\n-- Final view structure for view `q`\n;' AS x, id FROM types;
CREATE SQL SECURITY INVOKER VIEW a_second AS SELECT z_first.id, doubled FROM z_first JOIN (SELECT id, id * 2 AS doubled FROM types) t USING (id);
DELIMITER //
CREATE FUNCTION twice(x int) RETURNS int DETERMINISTIC COMMENT 'it''s\n-- x' BEGIN
-- Table structure for table `types`
DECLARE text varchar(50) DEFAULT 'a;b
-- Dump completed
DELIMITER ;
';
RETURN x * 2; END//
CREATE DEFINER = gone@'%' PROCEDURE `odd ``proc`(OUT n int) READS SQL DATA BEGIN SELECT COUNT(*) INTO n FROM types; END//
CREATE TRIGGER first BEFORE INSERT ON nokey FOR EACH ROW BEGIN SET NEW.b = CONCAT(NEW.b, ';'); END//
CREATE DEFINER = clerk@'%' TRIGGER second BEFORE INSERT ON nokey FOR EACH ROW FOLLOWS first SET NEW.a = NEW.a + 1//
CREATE TRIGGER `odd ``trigger` AFTER DELETE ON children FOR EACH ROW INSERT INTO empty VALUES (OLD.id)//
CREATE EVENT daily ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' COMMENT 'e' DO BEGIN DELETE FROM empty; END//
CREATE EVENT off ON SCHEDULE AT '2035-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE DO DELETE FROM empty//
SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'//
CREATE PROCEDURE ansi() SELECT "id" || '\' FROM "types"//
SET SESSION sql_mode = DEFAULT//
ALTER DATABASE app CHARACTER SET latin1//
CREATE PROCEDURE latin() SELECT 'ü'//
ALTER DATABASE app CHARACTER SET utf8mb4//
DELIMITER ;
CREATE VIEW v_function AS SELECT twice(id) AS x FROM parents;
"#;

/// Says all that is in a database, and what it is like, with its own name replaced.
pub fn content(mysql: &Mysql, database: &str) -> String {
    let tables = mysql.sql(&format!(
        "SELECT CONCAT(IF(table_type = 'VIEW', 'VIEW', IF(table_type = 'SEQUENCE', 'SEQUENCE', 'TABLE')), ' ', '`', REPLACE(table_name, '`', '``'), '`')
            FROM information_schema.tables WHERE table_schema = '{database}' ORDER BY BINARY table_name"
    ));
    let quoted = format!("`{}`", database.replace('`', "``"));
    let mut script = format!("USE {quoted}; SHOW CREATE DATABASE {quoted};\n");
    for line in tables.lines() {
        let line = line.replace("\\\\", "\\");
        let (kind, name) = line.split_once(' ').expect("two words");
        script.push_str(&format!("SHOW CREATE {kind} {name};\n"));
        if kind == "TABLE" {
            script.push_str(&format!("CHECKSUM TABLE {name} EXTENDED; SELECT COUNT(*) FROM {name};\n"));
        }
        if kind == "VIEW" {
            script.push_str(&format!(
                "SELECT COUNT(*), MD5(GROUP_CONCAT(id ORDER BY 1)) FROM (SELECT 1 AS id FROM {name}) x;\n"
            ));
        }
    }
    let of = |table: &str, columns: &str, schema: &str| {
        format!(
            "SELECT '{table}', {columns} FROM information_schema.{table} WHERE {schema} = '{database}' ORDER BY 2, 3, 4;\n"
        )
    };
    script.push_str(&of(
        "routines",
        "routine_name, routine_type, dtd_identifier, routine_definition, is_deterministic, sql_data_access, security_type, sql_mode,
            routine_comment, definer, character_set_client, collation_connection, database_collation",
        "routine_schema",
    ));
    script.push_str(&of(
        "triggers",
        "event_object_table, action_timing, action_order, trigger_name, event_manipulation, action_statement, sql_mode, definer, database_collation",
        "trigger_schema",
    ));
    script.push_str(&of(
        "events",
        "event_name, event_definition, event_type, execute_at, interval_value, interval_field, sql_mode, starts, ends, status,
            on_completion, event_comment, definer, time_zone",
        "event_schema",
    ));
    script.push_str(
        "SELECT 'versions', id, s, row_start, row_end FROM versions FOR SYSTEM_TIME ALL ORDER BY row_start;\n",
    );
    if !tables.contains("versions") {
        script = script.replace(
            "FROM versions FOR SYSTEM_TIME ALL ORDER BY row_start",
            "FROM (SELECT 1 AS id, 1 AS s, 1 AS row_start, 1 AS row_end) x",
        );
    }
    let found = mysql.sql(&script).replace(&quoted, "`NAME`").replace(&format!("{database}."), "NAME.");
    let own = format!("{database}\t");
    found.lines().map(|line| format!("{}\n", line.strip_prefix(&own).unwrap_or(line))).collect()
}

/// Backs a database up; `*` stands for all.
pub async fn back_up(repository: &Repository, url: &str, options: MysqlOptions) -> Result<BackupReport> {
    let engine = MysqlEngine::new(url, options).expect("good options");
    backup(repository, &engine, &BackupOptions { shrunk_percent: 0, ..BackupOptions::new("app", "host") }, &()).await
}

/// Backs a database up, which must work out.
pub async fn good(repository: &Repository, mysql: &Mysql, database: &str) -> Snapshot {
    back_up(repository, &mysql.url(database), MysqlOptions::default()).await.expect("backs up").snapshot
}

pub fn usual() -> MysqlRestoreOptions {
    MysqlRestoreOptions { by: "tester@host".to_owned(), ..MysqlRestoreOptions::default() }
}

pub async fn put_back(
    repository: &Repository,
    snapshot: &Snapshot,
    url: &str,
    options: MysqlRestoreOptions,
) -> Result<MysqlRestored> {
    MysqlRestore::new(url, options).expect("good options").run(repository, snapshot, "", &()).await
}

#[track_caller]
pub fn assert_says(why: &str, words: &[&str]) {
    for words in words {
        assert!(why.contains(words), "{words:?} is not in: {why}");
    }
}

/// Puts a program of a test's own beside the others.
fn program(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the folder takes a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// Makes a folder of client tools, of which these are others.
pub fn tools(others: &[(&str, &str)]) -> (tempfile::TempDir, ClientOptions) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["mariadb", "mariadb-dump"] {
        program(folder.path(), name, &format!("exec /usr/bin/{name} \"$@\""));
    }
    others.iter().for_each(|(name, script)| program(folder.path(), name, script));
    let client = ClientOptions { programs: Some(folder.path().to_owned()), ..ClientOptions::default() };
    (folder, client)
}
